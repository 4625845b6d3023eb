//! What several test files share: random numbers, the reference data sets, configurations to try.
#![allow(dead_code, unused_macros, unreachable_pub, reason = "no test file uses all of it")]

pub mod methods;

use lowbit::prelude::*;
use lowbit::{Element, FloatType};
use ndarray::{Array, ArrayD, ArrayRef, Dimension, IxDyn};

/// Asserts that a result is an error of a pattern.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("{:?} where {} is due", other.map(|_| "no error"), stringify!($pattern)),
        }
    };
}

/// The plainest quantizer.
pub fn eight() -> Uniform {
    Uniform::symmetric(BitWidth::EIGHT)
}

/// A number of cases for a property test. Failing cases are printed, not written to files beside the package.
pub fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

/// The numbers of SplitMix64 (Steele, Lea and Flood 2014).
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2.0_f64.powi(-53)
    }

    /// Uniform in [low, high).
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// One of `0..count`.
    pub fn below(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }

    /// Twelve uniforms less six, summed left to right: nearly normal, without a library function.
    pub fn normal(&mut self) -> f64 {
        (0..12).fold(0.0, |sum, _| sum + self.uniform()) - 6.0
    }
}

/// Data set A of lowbit reference values 06_07: exponential quantiles with 25 outliers.
pub fn data_a() -> Vec<f64> {
    quantiles(|u| {
        let x = -(1.0 - u).ln();
        if u > 0.9995 { 3.0 * x } else { x }
    })
}

/// Data set B of lowbit reference values 06_07: normal numbers, every 1024th times four.
pub fn data_b() -> Vec<f64> {
    let mut random = SplitMix64(606);
    (0..32_768).map(|i| random.normal() * if i % 1024 == 1023 { 4.0 } else { 1.0 }).collect()
}

/// Data set C of lowbit reference values 06_07: log-logistic quantiles.
pub fn data_c() -> Vec<f64> {
    quantiles(|u| (u / (1.0 - u)).sqrt().sqrt())
}

fn quantiles(inverse: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..50_000).map(|i| inverse((f64::from(i) + 0.5) / 50_000.0)).collect()
}

/// A tensor of `shape` of nearly normal numbers whose spread differs along the first axis, so that
/// granularities differ.
pub fn normal_tensor(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut random = SplitMix64(seed);
    ArrayD::from_shape_fn(IxDyn(shape), |index| {
        let spread = if index.ndim() == 0 { 1.0 } else { 1.0 + index[0] as f64 };
        (random.normal() * spread) as f32
    })
}

/// The same elements in the type `A`.
pub fn cast<A: Element, B: Element, D: Dimension>(tensor: &ArrayRef<B, D>) -> Array<A, D> {
    tensor.map(|&x| A::from_f64(x.to_f64()))
}

/// All roundings.
pub const ROUNDINGS: [Rounding; 5] =
    [Rounding::NearestEven, Rounding::NearestAway, Rounding::Floor, Rounding::Ceil, Rounding::TowardZero];

/// All dialects.
pub const DIALECTS: [Dialect; 7] = [
    Dialect::Onnx,
    Dialect::Torch,
    Dialect::FbgemmLegacy,
    Dialect::OpenVino,
    Dialect::Aimet,
    Dialect::Hqq,
    Dialect::Gptq,
];

/// All element and storage types.
pub const FLOATS: [FloatType; 4] = [FloatType::F64, FloatType::F32, FloatType::F16, FloatType::Bf16];

/// One uniform quantizer for each kind of grid, all valid for 2 to 16 bits.
pub fn kinds(bits: u32) -> Vec<Uniform> {
    let bits = BitWidth::new(bits).unwrap();
    let symmetric = |range| Uniform::symmetric(bits).range(range);
    vec![
        symmetric(SymmetricRange::Restricted),
        symmetric(SymmetricRange::Full),
        symmetric(SymmetricRange::MidRise),
        symmetric(SymmetricRange::Restricted).codes(Codes::Unsigned),
        symmetric(SymmetricRange::Full).codes(Codes::Unsigned),
        symmetric(SymmetricRange::MidRise).codes(Codes::Unsigned),
        Uniform::asymmetric(bits),
        Uniform::asymmetric(bits).codes(Codes::Signed),
        Uniform::asymmetric_real(bits),
        Uniform::asymmetric_real(bits).codes(Codes::Signed),
    ]
}

/// The texts of calibrations that read data.
pub const CALIBRATIONS: [&str; 17] = [
    "minmax",
    "percentile(99.9)",
    "percentile(99, tails=upper)",
    "percentile(99, tails=lower, interpolation=linear)",
    "kl",
    "kl(variant=nvidia, bins=300)",
    "kl(variant=mxnet, bins=512)",
    "mse",
    "aciq",
    "aciq(density=gaussian, estimator=range, optimum=exact)",
    "standard-deviations(2.5)",
    "weighted-entropy",
    "nvidia-mse(bins=300)",
    "nvidia-percentile(99.9, bins=300)",
    "onnxruntime-entropy(bins=300, levels=64)",
    "onnxruntime-percentile(99.9)",
    "torch-histogram(bins=300)",
];

/// `quantizer` with the calibration of a text.
pub fn calibrated(quantizer: Uniform, text: &str) -> Uniform {
    quantizer.calibration(lowbit::Registry::default().parse_calibration(text).unwrap())
}

/// Scale and zero point of a region.
pub fn grid(q: &QuantizedTensor, region: usize) -> (f64, f64) {
    match q.grid(region) {
        Some(lowbit::tensor::Grid::Affine(grid)) => (grid.scale, grid.zero_point),
        _ => panic!("no affine grid {region}"),
    }
}

/// A granularity that fits `shape` (rank 1 or more), by numbers drawn at random.
pub fn granularity(shape: &[usize], kind: usize, axis: usize, length: usize) -> String {
    let axis = axis % shape.len();
    match kind % 5 {
        0 => "layer".to_owned(),
        1 => format!("group({}, axis={axis})", length.max(1)),
        2 => format!("channel(axis={axis})"),
        3 => format!("subchannel({}, axis={axis})", length.max(1)),
        _ => {
            let lengths: Vec<String> =
                (0..shape.len()).map(|i| ((length + 3 * i * axis) % 5).to_string()).collect();
            format!("blocks({})", lengths.join(", "))
        }
    }
}

/// A recipe of a quantizer and the text of a granularity.
pub fn recipe(quantizer: impl Quantizer + 'static, granularity: &str) -> Recipe {
    quantizer.granularity(lowbit::Registry::default().parse_granularity(granularity).unwrap())
}
