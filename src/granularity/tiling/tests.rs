use super::*;
use proptest::prelude::*;

/// Straight from the definition: flattened index of each group, cut into blocks.
fn region_by_definition(tiling: &Tiling, flat: usize) -> usize {
    let mut rest = flat;
    let mut index = vec![0; tiling.parts.shape.len()];
    for (axis, &len) in tiling.parts.shape.iter().enumerate().rev() {
        index[axis] = rest % len;
        rest /= len;
    }
    let mut region = 0;
    for group in &tiling.parts.groups {
        let len: usize = group.axes.iter().map(|&axis| tiling.parts.shape[axis]).product();
        let at = group.axes.iter().fold(0, |at, &axis| at * tiling.parts.shape[axis] + index[axis]);
        let (block, blocks) = match group.block {
            Some(block) => (at / block, len.div_ceil(block)),
            None => (0, 1),
        };
        region = region * blocks + block;
    }
    region
}

fn tilings() -> impl Strategy<Value = Tiling> {
    (prop::collection::vec(1usize..6, 0..5), prop::collection::vec((0usize..3, 0usize..8), 3))
        .prop_flat_map(|(shape, blocks)| {
            let rank = shape.len();
            (Just(shape), Just(blocks), prop::collection::vec(0usize..3, rank))
        })
        .prop_map(|(shape, blocks, group_of)| {
            let groups = (0..3)
                .map(|group| AxisGroup {
                    axes: (0..shape.len()).filter(|&axis| group_of[axis] == group).collect(),
                    block: (blocks[group].1 > 0).then_some(blocks[group].1),
                })
                .collect();
            Tiling::new(&shape, groups).unwrap()
        })
}

proptest! {
    #[test]
    fn every_view_of_a_tiling_follows_the_definition(tiling in tilings(), a in 0.0..1.0, b in 0.0..1.0) {
        let expected: Vec<usize> = (0..tiling.len()).map(|i| region_by_definition(&tiling, i)).collect();
        for (i, &region) in expected.iter().enumerate() {
            prop_assert_eq!(tiling.region_of(i), region);
        }
        let cut = |x: f64| (x * tiling.len() as f64) as usize;
        let range = cut(a).min(cut(b))..cut(a).max(cut(b));
        let mut at = range.start;
        for segment in tiling.segments(range.clone()) {
            prop_assert_eq!(segment.start, at);
            let mut inner = at;
            for (region, run) in segment.runs() {
                prop_assert_eq!(run.start, inner);
                prop_assert!(!run.is_empty());
                for i in run.clone() {
                    prop_assert_eq!(expected[i], region);
                }
                inner = run.end;
            }
            prop_assert_eq!(inner, at + segment.len);
            at += segment.len;
        }
        prop_assert_eq!(at, range.end);
        for region in 0..tiling.regions() {
            let from_runs: Vec<usize> = tiling.region_runs(region).into_iter().flatten().collect();
            let from_map: Vec<usize> = (0..tiling.len()).filter(|&i| expected[i] == region).collect();
            prop_assert_eq!(tiling.region_len(region), from_map.len());
            prop_assert_eq!(from_runs, from_map);
        }
    }
}

#[test]
fn rows_of_whole_blocks_are_one_segment() {
    let group = |axes: &[usize], block| AxisGroup { axes: axes.to_vec(), block };
    let rows = Tiling::new(&[64, 3, 5], vec![group(&[0], Some(1)), group(&[1, 2], None)]).unwrap();
    assert_eq!(rows.segments(0..960).count(), 1);
    let blocks = Tiling::new(&[64, 96], vec![group(&[0], Some(1)), group(&[1], Some(32))]).unwrap();
    assert_eq!(blocks.segments(0..64 * 96).count(), 1);
    let ragged = Tiling::new(&[64, 90], vec![group(&[0], Some(1)), group(&[1], Some(32))]).unwrap();
    assert_eq!(ragged.segments(0..64 * 90).count(), 64);
}

#[test]
fn consecutive_blocks_are_one_segment() {
    let group = |axes: &[usize], block| AxisGroup { axes: axes.to_vec(), block };
    let mut found = 0;
    let lengths = [1usize, 2, 3, 4, 6, 8];
    for a in lengths {
        for b in lengths {
            for c in lengths {
                for (first, second, third) in
                    [(1, 1, 2), (1, 2, 4), (2, 1, 4), (1, 1, 8), (1, 3, 3), (8, 8, 2)]
                {
                    for groups in [
                        vec![group(&[0], Some(first)), group(&[1], Some(second)), group(&[2], Some(third))],
                        vec![group(&[0], Some(first)), group(&[1, 2], Some(third))],
                        vec![group(&[0, 1], Some(first)), group(&[2], Some(third))],
                        vec![group(&[2], Some(third)), group(&[0, 1], Some(first))],
                        vec![group(&[0, 2], Some(third)), group(&[1], Some(second))],
                        vec![group(&[0, 1, 2], Some(third))],
                        vec![group(&[0, 1, 2], None)],
                    ] {
                        let tiling = Tiling::new(&[a, b, c], groups).unwrap();
                        let Some(width) = tiling.consecutive_blocks() else { continue };
                        found += 1;
                        let only =
                            Segment { start: 0, len: a * b * c, region: 0, stride: 1, width, phase: 0 };
                        // Of a single block the stride says nothing.
                        let all: Vec<_> = tiling.segments(0..tiling.len()).collect();
                        assert!(
                            all.len() == 1 && all[0].runs().eq(only.runs()),
                            "{tiling:?} {all:?} {width}"
                        );
                        assert_eq!(only.blocks(), tiling.regions(), "{tiling:?}");
                    }
                }
            }
        }
    }
    assert!(found > 2000, "{found}");
    let rows = Tiling::new(&[4096, 4096], vec![group(&[0], Some(1)), group(&[1], Some(64))]).unwrap();
    assert_eq!(rows.consecutive_blocks(), Some(64));
}

#[test]
fn zero_lengths_and_rank_zero() {
    let whole = |axes: &[usize]| AxisGroup { axes: axes.to_vec(), block: None };
    let ones = |axes: &[usize]| AxisGroup { axes: axes.to_vec(), block: Some(1) };
    assert_eq!(Tiling::new(&[], vec![whole(&[])]).unwrap().regions(), 1);
    assert_eq!(Tiling::new(&[], vec![whole(&[])]).unwrap().len(), 1);
    assert_eq!(Tiling::new(&[0], vec![whole(&[0])]).unwrap().regions(), 1);
    let no_rest = Tiling::new(&[3, 0], vec![ones(&[0]), whole(&[1])]).unwrap();
    assert_eq!((no_rest.regions(), no_rest.region_len(2)), (3, 0));
    let no_channels = Tiling::new(&[0, 4], vec![ones(&[0]), whole(&[1])]).unwrap();
    assert_eq!((no_channels.regions(), no_channels.len()), (0, 0));
}

#[test]
fn groups_that_do_not_fit_are_named() {
    let group = |axes: &[usize]| AxisGroup { axes: axes.to_vec(), block: None };
    let error = |shape: &[usize], groups| Tiling::new(shape, groups).unwrap_err().to_string();
    assert!(error(&[2, 3], vec![group(&[0, 2])]).contains("axis 2 is out of range"));
    assert!(error(&[2, 3], vec![group(&[0])]).contains("axis 1 is used 0 times"));
    assert!(error(&[2, 3], vec![group(&[0, 1]), group(&[1])]).contains("axis 1 is used 2 times"));
    assert!(error(&[usize::MAX, 2], vec![group(&[0, 1])]).contains("overflows"));
    assert!(error(&[usize::MAX, 0, 2], vec![group(&[0, 1, 2])]).contains("overflows"));
    let zero = vec![AxisGroup { axes: vec![0], block: Some(0) }];
    assert!(Tiling::new(&[2], zero).unwrap_err().to_string().contains("block length is 0"));
}
