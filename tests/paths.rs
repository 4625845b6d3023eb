//! Two ways through the same work give the same bits: region by region and all at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fmt;

use common::{CALIBRATIONS, calibrated, cast, granularity, kinds, normal_tensor, recipe};
use lowbit::prelude::*;
use lowbit::quantizer::Fit;
use lowbit::tensor::Scheme;
use lowbit::{DataError, Error, Region};
use ndarray::Ix1;
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
