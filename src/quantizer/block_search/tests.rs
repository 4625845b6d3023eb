use ndarray::{Array1, Array2, ArrayD, Axis, Ix2, IxDyn, s};

use super::*;
use crate::error::Error;
use crate::granularity::{Blocks as BlockLengths, PerSubChannel};
use crate::quantizer::BlockFormat;
use crate::recipe::{QuantizerExt, Recipe};
use crate::solve::samples::SplitMix64;
use crate::tensor::{ClippingRange, NonFinite};

fn width(bits: u32) -> BitWidth {
    BitWidth::new(bits).unwrap()
}

fn table(text: &str) -> LevelTable {
    text.parse().unwrap()
}

fn weights(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut random = SplitMix64(seed);
    Array2::from_shape_fn((rows, columns), |_| random.laplace() as f32)
}

fn squared_error(q: &QuantizedTensor, tensor: &ArrayD<f64>) -> f64 {
    let restored = q.dequantize::<f64, IxDyn>().unwrap();
    tensor.iter().zip(&restored).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The outer scale and the multiples.
fn scales(q: &QuantizedTensor) -> (f64, Vec<i32>) {
    let Grids::Levels(grids) = q.grids() else { panic!("no levels") };
    let ScaleArray::TwoLevel(scales) = grids.scales() else { panic!("no two-level scales") };
    let codes = scales.codes().unwrap();
    let Some(crate::tensor::Grid::Affine(outer)) = codes.grid(0) else { panic!("no outer scale") };
    (outer.scale, codes.codes().iter().collect())
}

/// The largest value of each block on the outermost level, in the same storage.
#[derive(Debug)]
struct Largest(BlockSearch);

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("largest")
    }
}

impl Quantizer for Largest {
    fn scheme(&self) -> Result<Scheme> {
        self.0.scheme()
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        let (low, high) = region.evidence().min_max().unwrap();
        Ok(scheme.grid(ClippingRange::new(low, high)?, region.index())?.into())
    }
}

#[test]
fn never_worse_than_the_largest_value_on_the_outermost_level() {
    let tensor = weights(8, 100, 1);
    let wide = tensor.mapv(f64::from).into_dyn();
    for (levels, scale_bits, block) in [
        ("nf2", 4, 8),
        ("levels(-2, -1, 0, 1)", 4, 8),
        ("nf4", 7, 32),
        ("e2m1", 5, 7),
        ("ternary", 2, 3),
        ("nf7", 6, 16),
    ] {
        let search = BlockSearch::new(table(levels), width(scale_bits)).unwrap();
        let blocks = PerSubChannel::new(Axis(0), block).unwrap();
        let found = search.clone().granularity(blocks).quantize(&tensor).unwrap();
        let largest = Largest(search.clone()).granularity(blocks).quantize(&tensor).unwrap();
        let (found_error, largest_error) = (squared_error(&found, &wide), squared_error(&largest, &wide));
        assert!(found_error < largest_error, "{levels}: {found_error} {largest_error}");
        assert_eq!(found.bits_per_element(), largest.bits_per_element());
        // More outer scales never hurt.
        let fewer = search.outer_scales(1).unwrap();
        let fewer = fewer.granularity(blocks).quantize(&tensor).unwrap();
        assert!(found_error <= squared_error(&fewer, &wide) * (1.0 + 1e-6), "{levels}");
    }
}

#[test]
fn codes_and_multiples_are_the_best_of_all() {
    let levels = [-1.0, -0.3, 0.0, 0.8];
    let search = BlockSearch::new(LevelTable::given(levels).unwrap(), width(4)).unwrap();
    for (seed, block) in [(1, 1), (2, 2), (3, 3), (4, 5), (5, 12)] {
        let tensor = weights(3, 11, seed).mapv(f64::from);
        let blocks = PerSubChannel::new(Axis(0), block).unwrap();
        let q = search.clone().granularity(blocks).quantize(&tensor).unwrap();
        let (outer, multiples) = scales(&q);
        let restored = q.dequantize::<f64, Ix2>().unwrap();
        let mut region = 0;
        for row in 0..3 {
            for start in (0..11).step_by(block) {
                let place = s![row, start..(start + block).min(11)];
                let (x, back) = (tensor.slice(place), restored.slice(place));
                let largest = x.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let error = |j: i32| -> f64 {
                    let scale = f64::from(outer as f32 * j as f32);
                    let nearest =
                        |x: f64| levels.map(|level| (x - scale * level).powi(2)).into_iter().reduce(f64::min);
                    x.iter().map(|&x| nearest(x).unwrap()).sum()
                };
                let all = outer > 2.0 * largest;
                let tried = (-7..=7).filter(|&j: &i32| all || outer * f64::from(j.abs()) <= 2.0 * largest);
                let least = tried.map(error).fold(f64::INFINITY, f64::min);
                let found: f64 = x.iter().zip(&back).map(|(x, back)| (x - back).powi(2)).sum();
                assert!((found - least).abs() <= 1e-12 * (1.0 + least), "{seed} {region}: {found} {least}");
                assert!((found - error(multiples[region])).abs() <= 1e-12 * (1.0 + least));
                region += 1;
            }
        }
        assert_eq!(multiples.len(), region);
    }
}

#[test]
fn zeros_constants_and_single_elements() {
    for format in BlockFormat::ALL {
        let recipe = format.recipe().unwrap();
        let quantize = |tensor: &Array2<f32>| {
            let q = recipe.quantize(tensor).unwrap();
            (scales(&q), q.dequantize::<f32, Ix2>().unwrap())
        };
        let zeros = Array2::zeros((3, 40));
        assert_eq!(quantize(&zeros).1, zeros, "{format}");
        // A block of zeros beside others: its zeros are exact in every format.
        let mut some = weights(3, 40, 9);
        some.slice_mut(s![1, ..format.block()]).fill(0.0);
        let ((_, multiples), restored) = quantize(&some);
        assert!(restored.slice(s![1, ..format.block()]).iter().all(|&x| x == 0.0), "{format}");
        assert_eq!(multiples.iter().filter(|&&j| j == 0).count(), 1, "{format}");
        for constant in [1.0f32, -0.37] {
            for shape in [(3, 40), (1, 1), (1, format.block() + 1)] {
                let constants = Array2::from_elem(shape, constant);
                let restored = quantize(&constants).1;
                // The outermost level holds it, up to the rounding of the outer scale and two products.
                assert!(restored.iter().all(|x| (x / constant - 1.0).abs() <= 3e-7), "{format}: {restored}");
            }
        }
        assert_eq!(recipe.quantize(&Array2::<f32>::zeros((0, 5))).unwrap().len(), 0);
        assert!(recipe.quantize(&ndarray::arr0(1.0f32)).is_err());
    }
}

#[test]
fn magnitudes_to_the_ends_of_the_type() {
    let search = BlockSearch::new(table("nf3"), width(5)).unwrap();
    let recipe = search.granularity(PerSubChannel::new(Axis(0), 8).unwrap());
    let tensor = weights(4, 32, 3).mapv(|x| x.clamp(-3.9, 3.9));
    let q = recipe.quantize(&tensor).unwrap();
    // Powers of two change nothing but the outer scale.
    for exponent in [-100, -40, 30, 125] {
        let scaled = tensor.mapv(|x| x * 2f32.powi(exponent));
        let scaled = recipe.quantize(&scaled).unwrap();
        assert_eq!(scaled.codes(), q.codes(), "{exponent}");
        assert_eq!(scales(&scaled).1, scales(&q).1);
        assert_eq!(scales(&scaled).0, scales(&q).0 * 2f64.powi(exponent));
    }
    for magnitude in [f32::MAX, f32::MIN_POSITIVE, 1e-40, f32::from_bits(1)] {
        let extreme =
            Array2::from_shape_fn((2, 8), |(i, j)| if i == j { magnitude } else { -magnitude / 3.0 });
        let restored = recipe.quantize(&extreme).unwrap().dequantize::<f32, Ix2>().unwrap();
        assert!(restored.iter().all(|x| x.is_finite()), "{magnitude:e}: {restored}");
        let near = restored.iter().zip(&extreme).all(|(a, b)| (a / magnitude - b / magnitude).abs() <= 0.34);
        assert!(near || magnitude < 1e-38, "{magnitude:e}: {restored}");
    }
    // Scales are f32.
    let error = recipe.quantize(&ndarray::array![[0.0, 1.0], [1e300, 0.0]]).unwrap_err();
    assert!(matches!(error, Error::Data(DataError::ScaleStorage { region: 1, .. })), "{error}");
    let tiny = recipe.quantize(&ndarray::array![[1e-300, 0.0]]).unwrap();
    assert_eq!(tiny.dequantize::<f64, Ix2>().unwrap(), ndarray::array![[0.0, 0.0]]);
    // Levels so small that the outer scale would not be finite.
    let small = BlockSearch::new(table("levels(-0.001, 0, 0.001)"), width(4)).unwrap();
    assert!(matches!(
        small.quantize(&ndarray::array![1e38f32]),
        Err(Error::Data(DataError::ScaleStorage { .. }))
    ));
}

#[test]
fn values_that_are_not_finite() {
    let recipe = BlockFormat::B4.recipe().unwrap();
    let mut tensor = weights(2, 32, 5);
    tensor[[1, 3]] = f32::INFINITY;
    let error = recipe.quantize(&tensor).unwrap_err();
    assert!(matches!(&error, Error::Data(DataError::Infinite { index, .. }) if index == &[1, 3]), "{error}");
    tensor[[0, 17]] = f32::NAN;
    let error = recipe.quantize(&tensor).unwrap_err();
    assert!(matches!(&error, Error::Data(DataError::NotANumber { index }) if index == &[0, 17]), "{error}");
    let q = recipe.clone().non_finite(NonFinite::NanToZero).quantize(&tensor).unwrap();
    let restored = q.dequantize::<f32, Ix2>().unwrap();
    assert_eq!(restored[[0, 17]], 0.0);
    assert!(restored[[1, 3]] > 0.0 && restored.iter().all(|x| x.is_finite()));
    // The others are fitted as if those were not there.
    assert_eq!(q.notes().len(), 2);
    let rows = |q: &QuantizedTensor| q.dequantize_row::<f32>(0).unwrap().slice(s![..16]).to_owned();
    tensor[[1, 3]] = 0.0;
    tensor[[0, 17]] = 0.0;
    assert_eq!(rows(&q), rows(&recipe.quantize(&tensor).unwrap()));
    let all = Array2::from_elem((1, 16), f32::NAN);
    let q = recipe.non_finite(NonFinite::NanToZero).quantize(&all).unwrap();
    assert_eq!(q.dequantize::<f32, Ix2>().unwrap(), Array2::<f32>::zeros((1, 16)));
}

#[test]
fn layouts_types_and_threads() {
    for format in [BlockFormat::B2, BlockFormat::B4] {
        let search = format.quantizer().unwrap().learned(2).unwrap();
        let tensor = weights(33, 50, 7);
        for recipe in [
            format.recipe().unwrap(),
            search.clone().granularity(PerSubChannel::new(Axis(1), 16).unwrap()),
            search.granularity(BlockLengths::new([3, 5])),
        ] {
            let q = recipe.quantize(&tensor).unwrap();
            assert_eq!(q, recipe.quantize(&tensor).unwrap());
            let transposed = tensor.t().as_standard_layout().into_owned();
            assert_eq!(recipe.quantize(&transposed.t()).unwrap(), q);
            let half = tensor.mapv(half::f16::from_f32);
            let single = recipe.quantize(&half.mapv(f32::from)).unwrap();
            let half = recipe.quantize(&half).unwrap();
            assert_eq!((half.codes(), half.grids()), (single.codes(), single.grids()));
        }
    }
    #[cfg(feature = "rayon")]
    {
        // Large enough for several threads.
        let search = BlockSearch::new(table("nf2"), width(3)).unwrap().outer_scales(2).unwrap();
        let recipe = search.learned(1).unwrap().granularity(PerSubChannel::new(Axis(0), 16).unwrap());
        let tensor = weights(300, 256, 8);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| recipe.quantize(&tensor).unwrap())
        };
        assert_eq!(on(1), on(3));
    }
}

#[test]
fn learned_levels_are_stored_and_never_worse() {
    let tensor = weights(16, 64, 11);
    let wide = tensor.mapv(f64::from).into_dyn();
    for (levels, scale_bits, block) in [("nf2", 4, 8), ("nf4", 6, 16), ("levels(-200, -100, 0, 100)", 4, 8)] {
        let search = BlockSearch::new(table(levels), width(scale_bits)).unwrap();
        let quantize = |rounds| {
            let search = search.clone().learned(rounds).unwrap();
            search.granularity(PerSubChannel::new(Axis(0), block).unwrap()).quantize(&tensor).unwrap()
        };
        let errors = [0, 1, 5, 20].map(|rounds| squared_error(&quantize(rounds), &wide));
        assert!(errors.is_sorted_by(|a, b| a >= b) && errors[3] < errors[0], "{levels}: {errors:?}");
        let named = search
            .clone()
            .granularity(PerSubChannel::new(Axis(0), block).unwrap())
            .quantize(&tensor)
            .unwrap();
        let learned = quantize(5);
        let extra = 16.0 * f64::from(learned.scheme().bits().levels()) / 1024.0;
        assert_eq!(learned.bits_per_element(), named.bits_per_element() + extra);
    }
    // Levels that all are found exactly stay.
    let exact = Array1::from_iter((0..64).map(|i| [-1.0f32, -0.25, 0.5, 1.0][i % 4]))
        .into_shape_with_order((8, 8))
        .unwrap();
    let search = BlockSearch::new(table("levels(-1, -0.25, 0.5, 1)"), width(4)).unwrap().learned(9).unwrap();
    let q = search.granularity(PerSubChannel::new(Axis(0), 8).unwrap()).quantize(&exact).unwrap();
    assert!(squared_error(&q, &exact.mapv(f64::from).into_dyn()) < 1e-12);
}

#[test]
fn one_region_alone_is_a_tensor_of_one_region() {
    let search = BlockFormat::B4.quantizer().unwrap();
    let values = weights(1, 16, 13);
    let region = Region::new(0, values.as_slice().unwrap().into());
    let scheme = search.scheme().unwrap();
    let q = search.quantize(&values).unwrap();
    assert_eq!(Some(search.fit(&region, &scheme).unwrap().grid), q.grid(0));
    let learned = search.clone().learned(1).unwrap();
    assert!(matches!(learned.fit(&region, &scheme), Err(Error::Config(ConfigError::Conflict { .. }))));
    // A recipe frozen on the values has the grids of the tensor; an observer has no blocks of values.
    let recipe = BlockFormat::B4.recipe().unwrap();
    let tensor = weights(4, 64, 14);
    let frozen = recipe.freeze_from(&tensor).unwrap();
    assert_eq!(frozen.quantize(&tensor).unwrap(), recipe.quantize(&tensor).unwrap());
    let mut observer = recipe.observer(&[4, 64]).unwrap();
    observer.observe(&tensor).unwrap();
    assert!(matches!(recipe.freeze(&observer), Err(Error::Config(ConfigError::Conflict { .. }))));
}

#[test]
fn texts_and_settings() {
    for text in [
        "block-search(bits=4, scale-bits=7, table=nf4, outer-scales=1)",
        "block-search(bits=2, scale-bits=4, table=levels(-2, -1, 0, 1), outer-scales=7, learned=10)",
    ] {
        let recipe: Recipe = text.parse().unwrap();
        assert_eq!(recipe.quantizer().to_string(), text);
    }
    for (short, long) in [
        (
            "block-search(bits=3, scale-bits=6)",
            "block-search(bits=3, scale-bits=6, table=nf3, outer-scales=7)",
        ),
        (
            "block-search(table=e2m1, scale-bits=6)",
            "block-search(bits=4, scale-bits=6, table=e2m1, outer-scales=1)",
        ),
    ] {
        assert_eq!(short.parse::<Recipe>().unwrap().quantizer().to_string(), long);
    }
    for bad in [
        "block-search",
        "block-search(bits=4)",
        "block-search(bits=4, scale-bits=1)",
        "block-search(bits=4, scale-bits=7, table=nf3)",
        "block-search(bits=4, scale-bits=7, outer-scales=0)",
        "block-search(bits=4, scale-bits=7, outer-scales=10)",
        "block-search(bits=4, scale-bits=7, learned=1001)",
        "block-search(table=ternary, scale-bits=7, learned=1)",
        "block-search(bits=1, scale-bits=7)",
    ] {
        assert!(bad.parse::<Recipe>().is_err(), "{bad}");
    }
    for format in BlockFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
        let recipe = format.recipe().unwrap();
        let text = recipe.to_string();
        assert_eq!(text.parse::<Recipe>().unwrap().to_string(), text);
        assert_eq!(recipe.scheme().unwrap().bits().get(), format.bits());
        // Everything is counted.
        let q = recipe.quantize(&weights(32, 64, 15)).unwrap();
        assert_eq!(q.bits_per_element(), format.bits_per_element() + 32.0 / 2048.0);
    }
}
