//! Several ways through the same work give the same bits: region by region and all at once, one thread and
//! many.

mod common;

use std::fmt;

use common::{CALIBRATIONS, ROUNDINGS, calibrated, cast, granularity, kinds, normal_tensor, recipe};
use lowbit::prelude::*;
use lowbit::quantizer::Fit;
use lowbit::tensor::Scheme;
use lowbit::{DataError, Error, FloatType, Region};
use ndarray::{ArrayD, Ix1};
use proptest::prelude::*;

/// A quantizer of which only the required methods are forwarded.
#[derive(Debug)]
struct RegionByRegion(Uniform);

impl Quantizer for RegionByRegion {
    fn scheme(&self) -> lowbit::Result<Scheme> {
        self.0.scheme()
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> lowbit::Result<Fit> {
        self.0.fit(region, scheme)
    }
}

impl fmt::Display for RegionByRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn non_finite(error: &DataError) -> bool {
    matches!(error, DataError::NotANumber { .. } | DataError::Infinite { .. })
}

/// The same result, or the same error. Of several non-finite values any may be the one that is named: one path goes
/// through the tensor, the other through its regions.
fn assert_same(a: lowbit::Result<QuantizedTensor>, b: lowbit::Result<QuantizedTensor>, what: &str) {
    match (a, b) {
        (Ok(a), Ok(b)) => assert!(a == b && a.notes() == b.notes(), "{what}:\n{a:?}\n{b:?}"),
        (Err(Error::Data(a)), Err(Error::Data(b))) if non_finite(&a) && non_finite(&b) => {}
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string(), "{what}"),
        (a, b) => panic!("{what}:\n{a:?}\n{b:?}"),
    }
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn fitting_regions_one_by_one_and_all_at_once_agree(
        shape in prop::collection::vec(1usize..6, 1..5),
        (kind, axis, length) in (0usize..5, 0usize..4, 1usize..7),
        (bits, quantizer, calibration) in (2u32..11, 0usize..10, 0..CALIBRATIONS.len()),
        (storage, element, widen) in (0usize..4, 0usize..2, any::<bool>()),
        (seed, special, policy) in (0..1000u64, 0usize..9, 0usize..3),
    ) {
        // Searching the least error of hundreds of levels takes long without optimization.
        let bits = if CALIBRATIONS[calibration] == "mse" { bits.min(5) } else { bits };
        let mut quantizer = kinds(bits)[quantizer].clone().scales(common::FLOATS[storage]);
        if widen {
            quantizer = quantizer.widen_scales();
        }
        let quantizer = calibrated(quantizer, CALIBRATIONS[calibration]);
        let mut tensor = normal_tensor(&shape, seed);
        let len = tensor.len();
        match special {
            0 => tensor.fill(0.0),
            1 => tensor.fill(-3.0),
            2 => tensor.iter_mut().take(len / 2).for_each(|x| *x = -0.0),
            3 => tensor.iter_mut().take(len - len / 3).for_each(|x| *x = f32::NAN),
            4 => tensor.iter_mut().skip(len / 2).for_each(|x| *x = f32::INFINITY),
            5 => tensor.mapv_inplace(|x| x * 1e-42),
            6 => tensor.mapv_inplace(|x| if x > 0.0 { f32::MAX } else { -f32::MAX }),
            _ => {}
        }
        let policy = [NonFinite::Error, NonFinite::NanToZero, NonFinite::NanToLowest][policy];
        let granularity = granularity(&shape, kind, axis, length);
        let all = recipe(quantizer.clone(), &granularity).non_finite(policy);
        let single = recipe(RegionByRegion(quantizer), &granularity).non_finite(policy);
        let what = format!("{all} of {tensor:?}");
        if element == 0 {
            assert_same(all.quantize(&tensor), single.quantize(&tensor), &what);
        } else {
            let tensor = cast::<f64, _, _>(&tensor);
            assert_same(all.quantize(&tensor), single.quantize(&tensor), &what);
        }
    }
}

/// A tensor of more elements than one thread takes, in few long or many short regions.
#[cfg(feature = "rayon")]
#[test]
fn one_thread_and_many_give_the_same_bits() {
    let tensor = normal_tensor(&[7, 96, 128], 5);
    let transposed = tensor.view().permuted_axes(vec![2, 0, 1]);
    let wide = cast::<f64, _, _>(&tensor);
    let pools: Vec<rayon::ThreadPool> =
        [1, 2, 8].iter().map(|&n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect();
    let mut cases = Vec::new();
    for granularity in
        ["layer", "channel(axis=0)", "channel(axis=2)", "subchannel(32, axis=1)", "blocks(2, 5, 7)"]
    {
        for calibration in ["minmax", "percentile(99.9)", "kl", "mse"] {
            cases.push((granularity, calibration));
        }
    }
    for (i, (granularity, calibration)) in cases.into_iter().enumerate() {
        // The slow searches on few regions only, to keep this short.
        if matches!(calibration, "kl" | "mse") && !matches!(granularity, "layer" | "channel(axis=0)") {
            continue;
        }
        let bits = [3, 8, 11, 4][i % 4];
        let kind = kinds(bits)[i % 10].clone().scales([FloatType::F32, FloatType::F64][i % 2]);
        let recipe = recipe(calibrated(kind, calibration), granularity).rounding(ROUNDINGS[i % 5]);
        let mut first: Option<(QuantizedTensor, QuantizedTensor, QuantizedTensor, ArrayD<f32>, String)> =
            None;
        for pool in &pools {
            let found = pool.install(|| {
                let q = recipe.quantize(&tensor).unwrap();
                let figures = format!(
                    "{:?} {:?} {:?}",
                    q.errors_against(&tensor).unwrap(),
                    q.clipped_share(&tensor).unwrap(),
                    lowbit::metrics::Errors::between(
                        &tensor,
                        &q.dequantize::<f32, ndarray::IxDyn>().unwrap()
                    ),
                );
                let restored = q.dequantize().unwrap();
                (recipe.quantize(&transposed).unwrap(), recipe.quantize(&wide).unwrap(), q, restored, figures)
            });
            match &first {
                None => first = Some(found),
                Some(first) => assert!(*first == found, "{recipe}"),
            }
        }
    }
}

/// The error that is named does not depend on the threads either.
#[cfg(feature = "rayon")]
#[test]
fn one_thread_and_many_name_the_same_error() {
    let mut tensor = cast::<f32, _, _>(&normal_tensor(&[3, 200_000], 9));
    for at in [150_000, 199_999] {
        tensor[[1, at]] = f32::NAN;
    }
    tensor[[0, 199_000]] = f32::INFINITY;
    for calibration in ["minmax", "percentile(99)"] {
        for granularity in ["layer", "channel", "subchannel(64)"] {
            let recipe = recipe(calibrated(Uniform::symmetric(BitWidth::EIGHT), calibration), granularity);
            let errors: Vec<String> = [1, 2, 8]
                .iter()
                .map(|&n| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
                    pool.install(|| recipe.quantize(&tensor).unwrap_err().to_string())
                })
                .collect();
            assert!(errors.iter().all(|error| *error == errors[0]), "{recipe}: {errors:?}");
        }
    }
}

#[test]
fn a_boxed_and_a_shared_quantizer_are_the_quantizer() {
    let tensor = normal_tensor(&[4, 50], 3);
    let uniform = Uniform::asymmetric(BitWidth::EIGHT).calibration(Mse);
    let expected = uniform.quantize(&tensor).unwrap();
    let boxed: Box<dyn Quantizer> = Box::new(uniform.clone());
    let shared: std::sync::Arc<dyn Quantizer> = std::sync::Arc::new(uniform.clone());
    assert_eq!(boxed.quantize(&tensor).unwrap(), expected);
    assert_eq!(shared.quantize(&tensor).unwrap(), expected);
    assert_eq!(Recipe::new(shared).quantize(&tensor).unwrap(), expected);
    assert_eq!(expected.dequantize_region::<f32>(0).unwrap().len(), 200);
    let _ = expected.dequantize::<f32, Ix1>().unwrap_err();
}
