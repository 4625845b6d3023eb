//! Laws that hold for every configuration and every tensor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{
    CALIBRATIONS, DIALECTS, ROUNDINGS, calibrated, cast, granularity, grid, kinds, normal_tensor, recipe,
};
use half::{bf16, f16};
use lowbit::prelude::*;
use lowbit::tensor::Scheme;
use lowbit::{Element, FloatType};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, arr1};
use proptest::prelude::*;

/// A shape of one to four axes.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..6, 1..5)
}

#[derive(Debug, Clone)]
struct Case {
    shape: Vec<usize>,
    granularity: String,
    quantizer: Uniform,
    seed: u64,
}

impl Case {
    fn recipe(&self) -> Recipe {
        recipe(self.quantizer.clone(), &self.granularity)
    }

    /// Normal numbers about 0 or, every third seed, about 20.
    fn tensor(&self) -> ArrayD<f32> {
        let about = if self.seed.is_multiple_of(3) { 20.0 } else { 0.0 };
        normal_tensor(&self.shape, self.seed) + about
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let storage = prop::sample::select(vec![FloatType::F32, FloatType::F64, FloatType::F16, FloatType::Bf16]);
    (
        shapes(),
        (0usize..5, 0usize..4, 1usize..7),
        (2u32..11, 0usize..10, 0..CALIBRATIONS.len()),
        storage,
        0..1000u64,
    )
        .prop_map(|(shape, (kind, axis, length), (bits, quantizer, calibration), storage, seed)| {
            // Searching the least error of hundreds of levels takes long without optimization.
            let bits = if CALIBRATIONS[calibration] == "mse" { bits.min(5) } else { bits };
            // A real zero point of data far from zero may not fit a half type: an error of its own.
            let half = matches!(storage, FloatType::F16 | FloatType::Bf16);
            let storage = if quantizer >= 8 && half { FloatType::F32 } else { storage };
            let quantizer =
                calibrated(kinds(bits)[quantizer].clone().scales(storage), CALIBRATIONS[calibration]);
            Case { granularity: granularity(&shape, kind, axis, length), shape, quantizer, seed }
        })
}

proptest! {
    #![proptest_config(common::cases(150))]

    #[test]
    fn codes_are_in_range_and_values_come_back_within_a_step(
        case in cases(),
        rounding in prop::sample::select(ROUNDINGS.to_vec()),
        dialect in prop::sample::select(DIALECTS.to_vec()),
    ) {
        let tensor = case.tensor();
        let q = case.recipe().rounding(rounding).dialect(dialect).quantize(&tensor).unwrap();
        let codes = q.scheme().codes();
        let restored = q.dequantize::<f32, IxDyn>().unwrap();
        let nearest = matches!(rounding, Rounding::NearestEven | Rounding::NearestAway);
        for (index, (&x, &back)) in tensor.iter().zip(&restored).enumerate() {
            prop_assert!(codes.contains(q.code(index).unwrap()));
            let region = q.tiling().region_of(index);
            let range = q.clipping_range(region).unwrap();
            let (x, back) = (f64::from(x), f64::from(back));
            if range.low() <= x && x <= range.high() {
                let (scale, zero) = grid(&q, region);
                let limit = if nearest { scale / 2.0 } else { scale };
                // Every operation on the way there and back rounds by 2^-24 of a number that is, in steps,
                // at most |x/S| + |Z| + 2^b; there are fewer than eight (OpenVINO's span has the most).
                let steps = x.abs() / scale + zero.abs() + f64::from(codes.count());
                let slack = 8.0 * 2f64.powi(-24) * steps * scale;
                prop_assert!((x - back).abs() <= limit + slack, "{} at {}: {} for {}", q, index, back, x);
            }
        }
    }

    #[test]
    fn quantizing_a_restored_tensor_on_its_grids_changes_nothing(
        case in cases(),
        rounding in prop::sample::select(vec![Rounding::NearestEven, Rounding::NearestAway]),
        dialect in prop::sample::select(DIALECTS.to_vec()),
    ) {
        let tensor = case.tensor();
        let frozen = case.recipe().rounding(rounding).dialect(dialect).freeze_from(&tensor).unwrap();
        let once = frozen.quantize(&tensor).unwrap();
        let restored = once.dequantize::<f32, IxDyn>().unwrap();
        let twice = frozen.quantize(&restored).unwrap();
        prop_assert_eq!(once.codes(), twice.codes(), "{:?}", once);
    }

    #[test]
    fn minimum_and_maximum_clip_nothing(case in cases(), about in -3.0..3.0f32) {
        let tensor = case.tensor() + about;
        let q = recipe(case.quantizer.clone().calibration(MinMax), &case.granularity).quantize(&tensor).unwrap();
        prop_assert_eq!(q.clipped_share(&tensor).unwrap(), 0.0, "{:?}", q);
    }

    #[test]
    fn a_frozen_recipe_gives_the_codes_of_a_dynamic_one(case in cases()) {
        let tensor = case.tensor();
        let frozen = case.recipe().freeze_from(&tensor).unwrap();
        prop_assert_eq!(frozen.quantize(&tensor).unwrap(), case.recipe().quantize(&tensor).unwrap());
    }

    #[test]
    fn memory_layout_does_not_matter(case in cases(), how in 0usize..5, seed in 0..1000u64) {
        let shape = &case.shape;
        let last = shape.len() - 1;
        // A tensor that, viewed in some way, has the shape of the case.
        let wide: Vec<usize> = shape.iter().map(|n| 2 * n + 1).collect();
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let (wide, reversed) = (normal_tensor(&wide, seed), normal_tensor(&reversed, seed));
        let plain = case.tensor();
        let mut without_first = shape.clone();
        without_first[0] = 1;
        let row = normal_tensor(&without_first, seed);
        let view: ArrayViewD<'_, f32> = match how {
            0 => reversed.t(),
            1 => wide.slice_each_axis(|axis| Slice::new(0, Some(2 * shape[axis.axis.0] as isize), 2)),
            2 => {
                let mut view = plain.view();
                view.invert_axis(Axis(last));
                view.invert_axis(Axis(0));
                view
            }
            3 => wide.slice_each_axis(|axis| Slice::new(1, Some(1 + shape[axis.axis.0] as isize), 1)),
            _ => row.broadcast(IxDyn(shape)).unwrap(),
        };
        let copy = view.as_standard_layout().into_owned();
        prop_assert_eq!(copy.shape(), &**shape);
        let recipe = case.recipe();
        let expected = recipe.quantize(&copy).unwrap();
        prop_assert_eq!(&recipe.quantize(&view).unwrap(), &expected);
        // The figures agree too, and a restored tensor can be written to any layout.
        prop_assert_eq!(expected.errors_against(&view).unwrap(), expected.errors_against(&copy).unwrap());
        let mut transposed = ArrayD::<f32>::from_elem(IxDyn(&shape.iter().rev().copied().collect::<Vec<_>>()), 7.0);
        expected.dequantize_into(&mut transposed.view_mut().reversed_axes()).unwrap();
        prop_assert_eq!(transposed.reversed_axes(), expected.dequantize::<f32, IxDyn>().unwrap());
        // In every element type.
        let f64_view = cast::<f64, _, _>(&copy);
        let f64_twice = ndarray::stack(Axis(0), &[f64_view.view(), f64_view.view()]).unwrap();
        let half = cast::<f16, _, _>(&view);
        let brain = cast::<bf16, _, _>(&view);
        for (a, b) in [
            (recipe.quantize(&f64_twice.index_axis(Axis(0), 1)), recipe.quantize(&f64_view)),
            (recipe.quantize(&half), recipe.quantize(&half.as_standard_layout().into_owned())),
            (recipe.quantize(&brain), recipe.quantize(&brain.as_standard_layout().into_owned())),
        ] {
            prop_assert_eq!(a.unwrap(), b.unwrap());
        }
    }

    #[test]
    fn half_types_give_the_codes_of_their_f32_copies(case in cases(), dialect in 0..DIALECTS.len()) {
        let recipe = case.recipe().dialect(DIALECTS[dialect]);
        let (half, brain) = (cast::<f16, _, _>(&case.tensor()), cast::<bf16, _, _>(&case.tensor()));
        for (found, copy) in [
            (recipe.quantize(&half), cast::<f32, _, _>(&half)),
            (recipe.quantize(&brain), cast::<f32, _, _>(&brain)),
        ] {
            let (found, expected) = (found.unwrap(), recipe.quantize(&copy).unwrap());
            prop_assert_eq!(found.codes(), expected.codes());
            prop_assert_eq!(found.grids(), expected.grids());
        }
    }

    #[test]
    fn the_four_granularities_are_block_tilings(
        shape in prop::collection::vec(1usize..7, 3),
        (axis, length, kind) in (0usize..3, 1usize..5, 0usize..4),
        seed in 0..1000u64,
    ) {
        let tensor = normal_tensor(&shape, seed);
        let mut blocks = [0; 3];
        let text = match kind {
            0 => "layer".to_owned(),
            1 => { blocks[axis] = length; format!("group({length}, axis={axis})") }
            2 => { blocks[axis] = 1; format!("channel(axis={axis})") }
            // Runs that do not cross rows of the rest: within the last axis that is not the channel's, where
            // the other one is cut to single elements and the length divides it.
            _ => {
                let run = if axis == 2 { 1 } else { 2 };
                let length = (1..=length).rev().find(|n| shape[run] % n == 0).unwrap();
                blocks = [1; 3];
                blocks[run] = length;
                format!("subchannel({length}, axis={axis})")
            }
        };
        let quantizer = Uniform::asymmetric(BitWidth::new(4).unwrap());
        let a = recipe(quantizer.clone(), &text).quantize(&tensor).unwrap();
        let b = quantizer.granularity(Blocks::new(blocks)).quantize(&tensor).unwrap();
        prop_assert_eq!(a.codes(), b.codes());
        prop_assert_eq!(a.tiling().regions(), b.tiling().regions());
        for index in 0..a.len() {
            // Regions may be numbered in another order.
            prop_assert_eq!(a.grid(a.tiling().region_of(index)), b.grid(b.tiling().region_of(index)));
        }
    }

    #[test]
    fn regions_and_rows_are_slices_of_the_whole(case in cases()) {
        let tensor = case.tensor();
        let q = case.recipe().quantize(&tensor).unwrap();
        let whole = q.dequantize::<f32, IxDyn>().unwrap();
        let whole = whole.as_slice().unwrap();
        let mut seen = 0;
        for region in 0..q.tiling().regions() {
            let expected: Vec<f32> =
                (0..q.len()).filter(|&i| q.tiling().region_of(i) == region).map(|i| whole[i]).collect();
            seen += expected.len();
            prop_assert_eq!(q.dequantize_region::<f32>(region).unwrap().to_vec(), expected);
        }
        prop_assert_eq!(seen, q.len());
        for (row, expected) in whole.chunks(q.len() / case.shape[0]).enumerate() {
            prop_assert_eq!(&q.dequantize_row::<f32>(row).unwrap().to_vec(), expected);
        }
        let halves: Vec<f16> = q.dequantize::<f16, IxDyn>().unwrap().iter().copied().collect();
        // Rounded once from the type of the arithmetic, which is f64 under f64 scales.
        let once: Vec<f16> = match q.scheme() {
            Scheme::Affine(scheme) if scheme.scales() == FloatType::F64 => {
                let exact = q.dequantize::<f64, IxDyn>().unwrap();
                exact.iter().map(|&x| <f16 as Element>::from_f64(x)).collect()
            }
            _ => whole.iter().map(|&x| f16::from_f32(x)).collect(),
        };
        prop_assert_eq!(halves, once);
    }

    #[test]
    fn used_buffers_change_nothing(first in cases(), second in cases()) {
        let (a, b) = (first.tensor(), second.tensor());
        let mut out = first.recipe().quantize(&a).unwrap();
        second.recipe().quantize_into(&b, &mut out).unwrap();
        let fresh = second.recipe().quantize(&b).unwrap();
        prop_assert_eq!(&out, &fresh);
        let frozen = first.recipe().freeze_from(&a).unwrap();
        frozen.quantize_into(&a, &mut out).unwrap();
        prop_assert_eq!(&out, &frozen.quantize(&a).unwrap());
        // After an error it is empty, and can be used again.
        let bad = arr1(&[1.0f32, f32::NAN]);
        let layer = second.quantizer.clone().granularity(PerLayer);
        prop_assert!(layer.quantize_into(&bad, &mut out).is_err());
        prop_assert!(out.is_empty() && out.codes().is_empty() && out.grids().is_empty());
        second.recipe().quantize_into(&cast::<f64, _, _>(&b), &mut out).unwrap();
        prop_assert_eq!(&out, &second.recipe().quantize(&cast::<f64, _, _>(&b)).unwrap());
        let mut restored = ArrayD::from_elem(b.raw_dim(), f32::NAN);
        fresh.dequantize_into(&mut restored).unwrap();
        prop_assert_eq!(restored, fresh.dequantize::<f32, IxDyn>().unwrap());
    }
}

proptest! {
    #![proptest_config(common::cases(25))]

    #[test]
    fn a_finer_tiling_never_has_more_error_under_mse(
        channels in 1usize..9,
        rest in 1usize..70,
        (bits, kind) in (2u32..9, 0usize..8),
        seed in 0..1000u64,
        about in prop::sample::select(vec![0.0, 3.0]),
    ) {
        let tensor = cast::<f64, _, _>(&(normal_tensor(&[channels, rest], seed) + about as f32));
        // The last two kinds have real zero points, for which the search promises less.
        let quantizer = kinds(bits)[kind].clone().calibration(Mse);
        let mut coarser = f64::INFINITY;
        for text in ["layer", "group(4)", "group(2)", "channel", "subchannel(32)", "subchannel(8)", "subchannel(2)"] {
            let q = recipe(quantizer.clone(), text).quantize(&tensor).unwrap();
            let errors = q.errors_against(&tensor).unwrap();
            let total = errors.mse() * errors.count() as f64;
            // 1e-4 is the gap of the search, 1e-12 the error of values that are grid points up to rounding
            // of the scale to f32.
            let floor = 1e-12 * tensor.iter().map(|x| x * x).sum::<f64>();
            prop_assert!(total <= coarser * (1.0 + 1e-4) + floor, "{quantizer} {text}: {total} after {coarser}");
            coarser = coarser.min(total);
        }
    }
}

#[test]
fn f64_tensors_choose_their_codes_in_f64() {
    // 1/2 + 2^-40 is above the tie, and in f32 exactly on it, which rounds to even.
    let x = 0.5 + 2f64.powi(-40);
    let quantizer = Uniform::symmetric(BitWidth::EIGHT).calibration(Fixed::new(-127.0, 127.0).unwrap());
    assert_eq!(quantizer.quantize(&arr1(&[x, -x])).unwrap().codes().unpack(), [1, -1]);
    assert_eq!(quantizer.quantize(&arr1(&[x as f32, -x as f32])).unwrap().codes().unpack(), [0, 0]);
    // With f64 scales f32 tensors are encoded in f64 too: 1/3 in f32 is above f64's third by 2^-26.6.
    let scale = 2.0 / 3.0;
    let recipe = quantizer.scales(FloatType::F64).granularity(PerLayer);
    let frozen = Frozen::with_scales(&recipe, &[1], [scale], []).unwrap();
    assert!(f64::from(1.0f32 / 3.0) > scale / 2.0);
    assert_eq!(frozen.quantize(&arr1(&[1.0f32 / 3.0])).unwrap().code(0), Some(1));
}
