//! Cuts that are looked up by the position of a value.
//!
//! A multiplication and an addition give each value a position of 16 bits, which never decreases with the value, however
//! the sum was rounded. So a value passes all cuts of lower positions, and none of higher ones. The upper byte of the
//! position is the cell that a value is in. By it, permutations look up how many cuts come before the cell, and the lower
//! bytes of the few cuts in it: for 64 values at once.
//!
//! Few values have the very position of a cut: these are listed, and compared with the cuts of their cell themselves. That
//! waits until the next values have their codes, as what was just written is not read again at once.
#![allow(unsafe_code)] // loads and stores of whole vectors

use core::arch::x86_64::*;

use super::super::super::vector::Lanes;
use super::super::position_scale::{PositionScale, reached};
use super::{GROUP, LEVELS};

/// Values whose places fit a byte.
const STAGE: usize = 256;

/// Elements of a vector.
const LANES: usize = 16;

/// Cells, one for each upper byte.
const CELLS: usize = 256;

/// The most cuts in a cell.
const MOST: usize = 4;

/// The highest position.
const LAST: f32 = 65_535.0;

/// A byte for each cell, or for each level.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Row([u8; CELLS]);

/// The cuts of one map by their positions, and its codes.
#[derive(Debug, Clone)]
pub(super) struct Positions {
    scale: PositionScale,
    /// The number of cuts before each cell.
    before: Row,
    /// The lower bytes of the cuts in each cell. Where there are fewer, the highest: values that have it are looked at.
    lower: [Row; MOST],
    /// These cuts. Nothing reaches a NaN.
    cuts: [[f32; MOST]; CELLS],
    /// The most that any cell has.
    most: usize,
    codes: Row,
    /// Whether codes are the numbers of levels.
    ascending: bool,
}

impl Positions {
    /// For up to 255 ascending cuts and the codes between them; `None` where too many share a cell, or the arithmetic
    /// cannot tell them apart.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        let (cuts, codes) = reached(cuts, codes)?;
        if cuts.len() >= LEVELS {
            return None;
        }
        let mut made = Self {
            scale: PositionScale::new(cuts, LAST)?,
            before: Row([0; CELLS]),
            lower: [const { Row([u8::MAX; CELLS]) }; MOST],
            cuts: [[f32::NAN; MOST]; CELLS],
            most: 1,
            codes: Row([0; CELLS]),
            ascending: codes.iter().zip(0..).all(|(&code, level)| code == level),
        };
        let mut counts = [0; CELLS];
        for &cut in cuts {
            let position = made.scale.position(cut);
            let cell = position as usize >> 8;
            let count = counts.get_mut(cell)?;
            made.lower.get_mut(*count)?.0[cell] = position as u8;
            made.cuts[cell][*count] = cut;
            *count += 1;
            made.most = made.most.max(*count);
        }
        let mut before = 0;
        for (to, count) in made.before.0.iter_mut().zip(counts) {
            *to = before as u8;
            before += count;
        }
        for (to, &code) in made.codes.0.iter_mut().zip(codes) {
            *to = u8::try_from(code).ok()?;
        }
        Some(made)
    }

    /// The code of a value, compared with all cuts of its cell.
    #[inline(always)]
    fn code(&self, v: f32) -> u8 {
        let cell = self.scale.position(v) as usize >> 8;
        let level =
            self.cuts[cell].iter().fold(self.before.0[cell], |level, &cut| level + u8::from(v >= cut));
        self.codes.0[usize::from(level)]
    }

    /// The codes of scaled values. Whether one of these is NaN.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,f16c,fma,popcnt")]
    pub(super) fn find<A: Lanes>(&self, v: &[A], codes: &mut [u8]) -> bool {
        let (stages, rest) = v.as_chunks();
        let (whole, rest_of_codes) = codes.split_at_mut(codes.len().min(stages.len() * STAGE));
        let mut nan = self.stages(stages, whole.as_chunks_mut().0);
        if let Some(&first) = rest.first() {
            // A whole stage, with more of what is there, whether NaN or not.
            let (mut stage, mut found) = ([[first; STAGE]], [[0; STAGE]]);
            stage[0][..rest.len()].copy_from_slice(rest);
            nan |= self.stages(&stage, &mut found);
            rest_of_codes.iter_mut().zip(&found[0][..rest.len()]).for_each(|(code, &found)| *code = found);
        }
        nan
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,f16c,fma,popcnt")]
    fn stages<A: Lanes>(&self, v: &[[A; STAGE]], codes: &mut [[u8; STAGE]]) -> bool {
        match self.most {
            1 => find::<A, 1>(v, self, codes),
            2 => find::<A, 2>(v, self, codes),
            3 => find::<A, 3>(v, self, codes),
            _ => find::<A, MOST>(v, self, codes),
        }
    }
}

/// Where a byte of the positions of 64 values is: those of two vectors, one after the other or `in_turns`, were narrowed
/// together, by parts of 128 bits of both in turns.
const fn order(upper: bool, in_turns: bool) -> [u8; GROUP] {
    let mut order = [0; GROUP];
    let mut value = 0;
    while value < GROUP {
        let (pair, within) = (value / (2 * LANES), value % (2 * LANES));
        let (vector, lane) =
            if in_turns { (within % 2, within / 2) } else { (within / LANES, within % LANES) };
        let word = pair * (GROUP / 2) + lane / 4 * 8 + vector * 4 + lane % 4;
        order[value] = 2 * word as u8 + upper as u8;
        value += 1;
    }
    order
}
static LOWER: [[u8; GROUP]; 2] = [order(false, false), order(false, true)];
static UPPER: [[u8; GROUP]; 2] = [order(true, false), order(true, true)];

/// The places of 64 values.
static PLACES: [u8; GROUP] = {
    let mut places = [0; GROUP];
    let mut place = 0;
    while place < GROUP {
        places[place] = place as u8;
        place += 1;
    }
    places
};

/// Stages whose codes are found, with at most `K` cuts in a cell. Whether a value is NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,f16c,fma,popcnt")]
fn find<A: Lanes, const K: usize>(v: &[[A; STAGE]], of: &Positions, codes: &mut [[u8; STAGE]]) -> bool {
    let (density, offset) = (_mm512_set1_ps(of.scale.density), _mm512_set1_ps(of.scale.offset));
    let (last, one) = (_mm512_set1_ps(of.scale.last), _mm512_set1_epi8(1));
    let turns = usize::from(A::READ_IN_TURNS);
    let (lower, upper, places) = (load(&LOWER[turns]), load(&UPPER[turns]), load(&PLACES));
    let (before, codes_of) = (Table::new(&of.before), Table::new(&of.codes));
    let cuts: [Table; K] = core::array::from_fn(|k| Table::new(&of.lower[k]));
    let mut nan = 0;
    // The places of values that have to be compared, of a stage and of the one before it.
    let (mut listed, mut waiting) = ([[0; STAGE]; 2], 0);
    let (mut stage_before, mut last_list) = (None, 0);
    for (i, (v, codes)) in v.iter().zip(codes).enumerate() {
        let [even, odd] = &mut listed;
        let (list, list_before) = if i % 2 == 0 { (even, odd) } else { (odd, even) };
        let mut count = 0;
        let groups = v.as_chunks::<GROUP>().0.iter().zip(codes.as_chunks_mut::<GROUP>().0);
        for ((v, codes), first) in groups.zip((0..).step_by(GROUP)) {
            // SAFETY: there are twice 32 values.
            let [[a, b], [c, d]] =
                unsafe { [A::two_sixteens(v.as_ptr()), A::two_sixteens(v.as_ptr().add(2 * LANES))] };
            nan |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(c, d);
            // The second operand of the minimum is what NaN is left to, which becomes the most negative integer.
            let [a, b, c, d] = [a, b, c, d]
                .map(|v| _mm512_cvtps_epi32(_mm512_min_ps(last, _mm512_fmadd_ps(v, density, offset))));
            let (front, back) = (_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
            let cells = _mm512_permutex2var_epi8(front, upper, back);
            let positions = _mm512_permutex2var_epi8(front, lower, back);
            let high = _mm512_movepi8_mask(cells);
            let mut levels = before.look_up(cells, high);
            let mut sure = u64::MAX;
            for cuts in &cuts {
                let cuts = cuts.look_up(cells, high);
                levels = _mm512_mask_add_epi8(levels, _mm512_cmpge_epu8_mask(positions, cuts), levels, one);
                sure = _mm512_mask_cmpneq_epi8_mask(sure, positions, cuts);
            }
            let found =
                if of.ascending { levels } else { codes_of.look_up(levels, _mm512_movepi8_mask(levels)) };
            // SAFETY: there is room for 64 codes.
            unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), found) };
            let here = _mm512_add_epi8(places, _mm512_set1_epi8(first as u8 as i8));
            if let Some(list) = list.get_mut(count..).and_then(<[u8]>::first_chunk_mut::<GROUP>) {
                // SAFETY: there is room for 64 places.
                unsafe {
                    _mm512_storeu_si512(list.as_mut_ptr().cast(), _mm512_maskz_compress_epi8(!sure, here))
                };
            }
            count += sure.count_zeros() as usize;
        }
        if let Some((v, codes)) = stage_before.replace((v, codes)) {
            compare(of, &list_before[..waiting], v, codes);
        }
        (waiting, last_list) = (count, i % 2);
    }
    if let Some((v, codes)) = stage_before {
        compare(of, &listed[last_list][..waiting], v, codes);
    }
    nan != 0
}

/// Codes of the values at these places, by comparing them.
#[inline]
#[target_feature(enable = "avx512f,f16c,fma")]
fn compare<A: Lanes>(of: &Positions, places: &[u8], v: &[A; STAGE], codes: &mut [u8; STAGE]) {
    for &place in places {
        let place = usize::from(place);
        codes[place] = of.code(v[place].to_f32());
    }
}

/// A [`Row`] in registers.
struct Table([__m512i; CELLS / GROUP]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(row: &Row) -> Self {
        let (groups, _) = row.0.as_chunks::<GROUP>();
        Self([load(&groups[0]), load(&groups[1]), load(&groups[2]), load(&groups[3])])
    }

    /// What stands at the `places`, of which some are `high`: at least 128.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn look_up(&self, places: __m512i, high: __mmask64) -> __m512i {
        let [a, b, c, d] = self.0;
        let (front, back) = (_mm512_permutex2var_epi8(a, places, b), _mm512_permutex2var_epi8(c, places, d));
        _mm512_mask_blend_epi8(high, front, back)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; GROUP]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::forced::{available, with};
    use half::{bf16, f16};

    use super::super::comparisons::Comparisons;
    use super::super::serves;
    use super::*;

    /// Codes that are those of comparing all cuts, in groups whose values differ and in such of equal ones. How many cuts a
    /// cell has; `None` where there are no positions.
    fn check(cuts: &[f32], codes: &[u16]) -> Option<usize> {
        let positions = Positions::new(cuts, codes);
        let comparisons = Comparisons::new(cuts, codes).unwrap();
        let around = cuts.iter().flat_map(|&cut| [cut, cut.next_down(), cut.next_up(), cut * 1.01]);
        let special =
            [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-40];
        let mut x: Vec<f32> = around.chain(special).collect();
        let equal: Vec<f32> = x.iter().step_by(7).flat_map(|&x| [x; 300]).collect();
        x.extend(equal);
        let nan = x.iter().any(|x| x.is_nan());
        x.resize(x.len().next_multiple_of(GROUP), 1.0);
        let expected: Vec<u8> =
            x.iter().map(|x| codes[cuts.iter().filter(|&cut| x >= cut).count()] as u8).collect();
        for level in available() {
            with(level, || {
                if !serves() {
                    return;
                }
                let mut found = vec![99; x.len()];
                // SAFETY: there are the instructions.
                assert_eq!(unsafe { comparisons.find(&x, true, &mut found) }, nan);
                assert_eq!(found, expected, "{cuts:?}");
                for len in [x.len(), 0, 1, 255, 256, 257, 700] {
                    let Some(positions) = &positions else { continue };
                    let mut found = vec![99; x.len()];
                    // SAFETY: as above.
                    let nan = unsafe { positions.find(&x[..len], &mut found[..len]) };
                    assert_eq!(nan, x[..len].iter().any(|x| x.is_nan()));
                    assert_eq!(found[..len], expected[..len], "{cuts:?}");
                }
            });
        }
        if let Some(positions) = &positions {
            check_halves::<f16>(positions, &x, cuts, codes);
            check_halves::<bf16>(positions, &x, cuts, codes);
        }
        positions.map(|positions| positions.most)
    }

    /// As above, for the nearest numbers of 16 bits.
    fn check_halves<A: Lanes>(positions: &Positions, x: &[f32], cuts: &[f32], codes: &[u16]) {
        let x: Vec<A> = x.iter().map(|&x| A::from_f32(x)).collect();
        let code = |x: &A| codes[cuts.iter().filter(|&&cut| x.to_f32() >= cut).count()] as u8;
        let expected: Vec<u8> = x.iter().map(code).collect();
        for level in available() {
            with(level, || {
                if serves() {
                    let mut found = vec![99; x.len()];
                    // SAFETY: there are the instructions.
                    let nan = unsafe { positions.find(&x, &mut found) };
                    assert_eq!(nan, x.iter().any(|x| x.to_f32().is_nan()));
                    assert_eq!(found, expected, "{cuts:?}");
                }
            });
        }
    }

    #[test]
    fn values_about_cuts_have_their_codes() {
        let ascending: Vec<u16> = (0..256).collect();
        let mixed: Vec<u16> = (0..256).map(|i| i * 77 % 256).collect();
        // Some cuts at the beginning of a cell, others at its end, and others beside each other.
        let parts = [0, 255, 64, 65, 66];
        for crowd in 1..=parts.len() {
            for cells in [2, 3, 17, 254 / crowd] {
                for low in [0.0, -0.7] {
                    let mut positions: Vec<u32> = (0..cells)
                        .flat_map(|i| {
                            parts[..crowd].iter().map(move |part| (i * 255 / cells * 256 + part) as u32)
                        })
                        .collect();
                    positions.sort_unstable();
                    // The last one alone in its cell.
                    positions.push(65_535);
                    let cuts: Vec<f32> = positions.iter().map(|&p| p as f32 / LAST + low).collect();
                    for codes in [&ascending, &mixed] {
                        let most = check(&cuts, &codes[..=cuts.len()]);
                        // What is rounded may lie in the cell beside.
                        let possible = if low == 0.0 { crowd..=crowd } else { crowd - crowd / 2..=crowd + 1 };
                        match most {
                            Some(most) => assert!(most <= MOST && possible.contains(&most), "{crowd} {most}"),
                            None => assert!(*possible.end() > MOST, "{crowd} {cells} {low}"),
                        }
                    }
                }
            }
        }
        assert_eq!(check(&[0.5], &[0, 1]), None);
    }

    #[test]
    fn cuts_that_nothing_reaches_and_cuts_far_from_zero() {
        let codes: Vec<u16> = (0..40).map(|i| i.min(30)).collect();
        let reached = (0..30).map(|i| i as f32);
        let cuts: Vec<f32> = reached.chain([f32::INFINITY; 9]).collect();
        assert_eq!(check(&cuts, &codes), Some(1));
        // Sums of large numbers would not tell positions apart.
        let far: Vec<f32> = (0..30).map(|i| 1e6 + i as f32).collect();
        assert_eq!(check(&far, &codes[..31]), None);
        let near: Vec<f32> = (0..30).map(|i| 1e3 + i as f32).collect();
        assert_eq!(check(&near, &codes[..31]), Some(1));
        // Too far from each other, and too near.
        assert_eq!(check(&[-3e38, 0.0, 3e38], &[0, 1, 2, 3]), None);
        assert_eq!(check(&[0.0, 1e-44, 2e-44], &[0, 1, 2, 3]), None);
        assert_eq!(check(&[0.0, 1e-30, 1.0], &[0, 1, 2, 3]), Some(2));
        // Codes of more than a byte, and more levels than these.
        assert!(Positions::new(&[0.0, 1.0], &[0, 256, 1]).is_none());
        assert!(Positions::new(&[], &[0]).is_none());
        let many: Vec<f32> = (0..256).map(|i| i as f32).collect();
        assert!(Positions::new(&many, &[0; 257]).is_none());
    }
}
