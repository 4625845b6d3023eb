//! Numeric dialects and roundings against scalar transcriptions of their published formulas.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DIALECTS, ROUNDINGS, SplitMix64, grid};
use lowbit::prelude::*;
use lowbit::{CodeRange, FloatType};
use ndarray::arr1;

/// A recipe's code of `x` on a given grid.
fn code(uniform: &Uniform, dialect: Dialect, scale: f64, zero: f64, x: f32) -> i32 {
    let recipe = uniform.clone().granularity(PerLayer).dialect(dialect);
    let frozen = Frozen::with_scales(&recipe, &[1], [scale], [zero]).unwrap();
    frozen.quantize(&arr1(&[x])).unwrap().code(0).unwrap()
}

fn eight() -> BitWidth {
    BitWidth::EIGHT
}

/// T1: the example in FBGEMM's own comments, where the reciprocal and the division part.
#[allow(clippy::excessive_precision, reason = "the digits of the publication")]
#[test]
fn reciprocal_or_division() {
    let (x, scale) = (0.273939937f32, f64::from(0.00214854861f32));
    // The premise, in f32: x · (1/s) is the tie 127.5, x / s is just below.
    assert_eq!(x * (1.0 / scale as f32), 127.5);
    assert_eq!(x / scale as f32, 127.499992);
    let uniform = Uniform::symmetric(eight()).range(SymmetricRange::Full).codes(Codes::Unsigned);
    for (dialect, expected) in [
        (Dialect::Onnx, 127),
        (Dialect::Aimet, 127),
        // 127.5 is rounded to the even 128 before the zero point is added, ...
        (Dialect::Torch, 127),
        // ... and with it 255.5 is a tie to the even 256.
        (Dialect::FbgemmLegacy, 127),
    ] {
        // With a zero point of 128, 128 + 128 saturates at 255.
        assert_eq!(code(&uniform, dialect, scale, 128.0, x) - 128, expected, "{dialect}");
    }
    // Without a zero point in the way the two differ by one code, as in FBGEMM's comment.
    let uniform = Uniform::asymmetric(eight());
    for (dialect, expected) in [
        (Dialect::Onnx, 127),
        (Dialect::Aimet, 127),
        (Dialect::Gptq, 127),
        (Dialect::Torch, 128),
        (Dialect::FbgemmLegacy, 128),
        (Dialect::Hqq, 128),
    ] {
        assert_eq!(code(&uniform, dialect, scale, 0.0, x), expected, "{dialect}");
    }
}

/// T2: a zero point added before rounding moves ties to another parity.
#[test]
fn zero_point_before_or_after_rounding() {
    let uniform = Uniform::asymmetric(eight());
    // x / S = 0.5, Z = 1: RNE(0.5) + 1 = 1, RNE(0.5 + 1) = 2.
    for (dialect, expected) in [
        (Dialect::Onnx, 1),
        (Dialect::Torch, 1),
        (Dialect::Aimet, 1),
        (Dialect::FbgemmLegacy, 2),
        (Dialect::Hqq, 2),
        (Dialect::Gptq, 2),
    ] {
        assert_eq!(code(&uniform, dialect, 1.0, 1.0, 0.5), expected, "{dialect}");
    }
    // In f32 the sum also loses digits: 0.5 + 2^-24 is above the tie, but 2 more make it 2.5.
    let x = 0.5f32 + 2f32.powi(-24);
    assert_eq!(code(&uniform, Dialect::Onnx, 1.0, 2.0, x), 3);
    assert_eq!(code(&uniform, Dialect::Gptq, 1.0, 2.0, x), 2);
}

/// T6: the four conventions for the scale of a symmetric 8-bit grid, and what becomes of ±max.
#[test]
fn scales_of_symmetric_grids() {
    let m = 3.0f32;
    let x = arr1(&[m, -m]);
    let q = Uniform::symmetric(eight()).quantize(&x).unwrap();
    assert_eq!(grid(&q, 0).0, f64::from((3.0f64 / 127.0) as f32));
    assert_eq!(q.codes().unpack(), [127, -127]);
    // M/127.5: +M at 127.5 is rounded to 128 and clamped, an error of 0.0039 M; −M at the even −128.
    let q =
        Uniform::symmetric(eight()).range(SymmetricRange::Full).scales(FloatType::F64).quantize(&x).unwrap();
    assert_eq!(grid(&q, 0).0, 3.0 / 127.5);
    assert_eq!(q.codes().unpack(), [127, -128]);
    let restored = q.dequantize::<f64, ndarray::Ix1>().unwrap();
    assert!(((3.0 - restored[0]) / 3.0 - 0.0039).abs() < 5e-5);
    // M/128: mid-rise, all 2^b steps; ±M in the middle of the outermost cells' outer half.
    let q = Uniform::symmetric(eight()).range(SymmetricRange::MidRise).quantize(&x).unwrap();
    assert_eq!(grid(&q, 0).0, 3.0 / 128.0);
    assert_eq!(q.codes().unpack(), [127, -128]);
    // A 4-bit full grid divides by 7.5, not by 8.
    let q = Uniform::symmetric(BitWidth::new(4).unwrap()).range(SymmetricRange::Full).quantize(&x).unwrap();
    assert_eq!(grid(&q, 0).0, f64::from((3.0f64 / 7.5) as f32));
    // Signed max / −8 (Q4_0): a negative scale is a grid that can be decoded.
    let scheme = Uniform::symmetric(BitWidth::new(4).unwrap()).range(SymmetricRange::Full).scheme().unwrap();
    let mut grids = lowbit::tensor::Grids::new(&scheme);
    grids.push(lowbit::tensor::AffineGrid { scale: -0.375, zero_point: 0.0 }.into()).unwrap();
    let codes = CodeRange::signed(BitWidth::new(4).unwrap());
    // −8 is 0b1000, in the low nibble; 1 in the high one.
    let packed =
        lowbit::tensor::PackedCodes::from_bytes(BitWidth::new(4).unwrap(), codes, 2, vec![0x18]).unwrap();
    let tiling = PerLayer.tiling(&[2]).unwrap();
    let q = QuantizedTensor::new(scheme, tiling, grids, packed, FloatType::F32, None).unwrap();
    assert_eq!(q.dequantize::<f32, ndarray::Ix1>().unwrap(), arr1(&[3.0, -0.375]));
}

/// T7: unsigned symmetric 8-bit codes have Z = 128 on every grid, so zero is always the code 128.
#[test]
fn unsigned_symmetric_zero_is_128() {
    // A full scale of exactly 1, so that the ends are ties: −127.5 to −128, 127.5 to 128 and clamped.
    let x = arr1(&[-127.5f32, 0.0, 127.5]);
    let of = |range| {
        let q = Uniform::symmetric(eight()).range(range).codes(Codes::Unsigned).quantize(&x).unwrap();
        (grid(&q, 0).1, q.codes().unpack())
    };
    assert_eq!(of(SymmetricRange::Restricted), (128.0, vec![1, 128, 255]));
    assert_eq!(of(SymmetricRange::Full), (128.0, vec![0, 128, 255]));
    // ONNX Runtime's symmetric uint8 range [0, 254] has Z = 127; here it needs a zero point of its own.
    let uniform = Uniform::asymmetric(eight()).code_range(CodeRange::new(0, 254).unwrap());
    let q = uniform.quantize(&x).unwrap();
    assert_eq!((grid(&q, 0).1, q.codes().unpack()), (127.0, vec![0, 127, 254]));
    // The unsigned codes are the signed ones plus 128, bit for bit.
    let mut random = SplitMix64(3);
    let x = ndarray::Array1::from_shape_fn(5000, |_| random.normal() as f32);
    for range in [SymmetricRange::Restricted, SymmetricRange::Full, SymmetricRange::MidRise] {
        let signed = Uniform::symmetric(eight()).range(range).quantize(&x).unwrap().codes().unpack();
        let uniform = Uniform::symmetric(eight()).range(range).codes(Codes::Unsigned);
        let unsigned = uniform.quantize(&x).unwrap().codes().unpack();
        // Where Z = 127.5 is added before rounding the sum has fewer digits, so mid-rise may differ at ties.
        let differ = signed.iter().zip(&unsigned).filter(|(a, b)| *a + 128 != **b).count();
        assert!(differ == 0 || (range == SymmetricRange::MidRise && differ < 3), "{range}: {differ}");
    }
}

/// A float type of the transcriptions.
macro_rules! transcription {
    ($name:ident, $round:ident, $t:ty) => {
        /// The roundings by their definitions. The part of a number beyond its integer part is exact.
        fn $round(v: $t, rounding: Rounding) -> $t {
            if v.is_infinite() {
                return v;
            }
            let whole = v.trunc();
            let rest = (v - whole).abs();
            let (outward, tie) = (whole + v.signum(), rest == 0.5);
            let away = match rounding {
                Rounding::NearestEven => rest > 0.5 || (tie && whole % 2.0 != 0.0),
                Rounding::NearestAway => rest > 0.5 || tie,
                Rounding::Floor => rest > 0.0 && v < 0.0,
                Rounding::Ceil => rest > 0.0 && v > 0.0,
                _ => false,
            };
            if away { outward } else { whole }
        }

        /// The code by the dialect's formula; `zero` is added before rounding where it is not an integer.
        fn $name(d: Dialect, r: Rounding, s: $t, z: $t, codes: CodeRange, x: $t) -> i32 {
            let (low, high) = (codes.min() as $t, codes.max() as $t);
            let integer = z.fract() == 0.0;
            let q = match d {
                Dialect::Onnx | Dialect::Aimet if integer => $round(x / s, r) + z,
                Dialect::Torch if integer => $round(x * (1.0 / s), r) + z,
                Dialect::FbgemmLegacy | Dialect::Hqq | Dialect::Torch => $round(z + x * (1.0 / s), r),
                Dialect::Gptq | Dialect::Onnx | Dialect::Aimet => $round(x / s + z, r),
                Dialect::OpenVino => {
                    let (lo, hi) = (s * (low - z), s * (high - z));
                    let steps = high - low;
                    return codes.min() + $round((x - lo) / (hi - lo) * steps, r).clamp(0.0, steps) as i32;
                }
                _ => unreachable!(),
            };
            q.clamp(low, high) as i32
        }
    };
}

transcription!(scalar_f32, round_f32, f32);
transcription!(scalar_f64, round_f64, f64);

/// Values that are hard on a grid: on and around every threshold and level, by single floats; far outside;
/// random.
fn adversarial(scale: f64, zero: f64, codes: CodeRange, random: &mut SplitMix64) -> Vec<f32> {
    let mut values = vec![0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45];
    for _ in 0..150 {
        let q = f64::from(codes.min() - 1) + random.below(codes.count() as usize + 2) as f64;
        for half in [0.0, 0.5] {
            let x = ((q + half - zero) * scale) as f32;
            values.extend([x, x.next_up(), x.next_down(), x.next_up().next_up()]);
        }
        values.push(random.within(-1.3, 1.3) as f32 * (scale * f64::from(codes.count())) as f32);
    }
    values
}

#[test]
fn every_dialect_and_rounding_is_its_formula() {
    let mut random = SplitMix64(17);
    for bits in [1, 2, 4, 5, 8, 11, 16] {
        for kind in 0..6 {
            let bits = BitWidth::new(bits).unwrap();
            let uniform = match kind {
                0 => Uniform::symmetric(bits).range(SymmetricRange::Full),
                1 => Uniform::symmetric(bits).range(SymmetricRange::MidRise),
                2 => Uniform::symmetric(bits).range(SymmetricRange::MidRise).codes(Codes::Unsigned),
                3 => Uniform::asymmetric(bits),
                4 => Uniform::asymmetric(bits).codes(Codes::Signed),
                _ => Uniform::asymmetric_real(bits),
            };
            let scheme = uniform.scheme().unwrap();
            let codes = scheme.codes();
            let half = f64::from(bits.levels()) / 2.0;
            // Scales with full mantissas, a power of two, and tiny and huge ones.
            let scale = match random.below(4) {
                0 => 0.25,
                1 => f64::from((random.within(1.0, 2.0) * 1e-30) as f32),
                2 => f64::from((random.within(1.0, 2.0) * 1e28) as f32),
                _ => f64::from(random.within(0.001, 0.1) as f32),
            };
            let zero = match kind {
                0 => 0.0,
                1 => -0.5,
                2 => half - 0.5,
                3 | 4 => f64::from(codes.min()) + random.below(codes.count() as usize) as f64,
                _ => f64::from(random.within(-half, half) as f32),
            };
            let values = arr1(&adversarial(scale, zero, codes, &mut random));
            let wide = values.map(|&x| f64::from(x));
            for dialect in DIALECTS {
                for rounding in ROUNDINGS {
                    let recipe = uniform.clone().granularity(PerLayer).dialect(dialect).rounding(rounding);
                    let frozen = Frozen::with_scales(&recipe, &[1], [scale], [zero]).unwrap();
                    let narrow = frozen.quantize(&values).unwrap().codes().unpack();
                    let in_f64 = frozen.quantize(&wide).unwrap().codes().unpack();
                    for (i, &x) in values.iter().enumerate() {
                        let of = |code: i32| {
                            format!("{code} of {x:e} on {scale:e} (q - {zero}), {codes}, {recipe}")
                        };
                        let expected = scalar_f32(dialect, rounding, scale as f32, zero as f32, codes, x);
                        assert_eq!(narrow[i], expected, "{}", of(narrow[i]));
                        let expected = scalar_f64(dialect, rounding, scale, zero, codes, x.into());
                        assert_eq!(in_f64[i], expected, "f64: {}", of(in_f64[i]));
                    }
                }
            }
        }
    }
}

/// What each rounding makes of ties on either side of zero.
#[test]
fn ties_of_both_signs() {
    let x = arr1(&[-2.5f32, -1.5, -0.5, 0.5, 1.5, 2.5, -0.25, 0.75]);
    for (rounding, expected) in [
        (Rounding::NearestEven, [-2, -2, 0, 0, 2, 2, 0, 1]),
        (Rounding::NearestAway, [-3, -2, -1, 1, 2, 3, 0, 1]),
        (Rounding::Floor, [-3, -2, -1, 0, 1, 2, -1, 0]),
        (Rounding::Ceil, [-2, -1, 0, 1, 2, 3, 0, 1]),
        (Rounding::TowardZero, [-2, -1, 0, 0, 1, 2, 0, 0]),
    ] {
        let recipe = Uniform::symmetric(eight()).granularity(PerLayer).rounding(rounding);
        let frozen = Frozen::with_scales(&recipe, &[8], [1.0], []).unwrap();
        assert_eq!(frozen.quantize(&x).unwrap().codes().unpack(), expected, "{rounding}");
        assert_eq!(
            frozen.quantize(&x.map(|&x| f64::from(x))).unwrap().codes().unpack(),
            expected,
            "{rounding}"
        );
    }
}
