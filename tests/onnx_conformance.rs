//! Codes that ONNX Runtime 1.32 (CPU, opset 21) gives for QuantizeLinear, and that the default dialect must give.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use lowbit::prelude::*;
use lowbit::{Dialect, Result};
use ndarray::{Array1, Array2, Axis, arr1};

/// Bits of x and of the scale, the int8 code at zero point 0, and the uint8 code at zero point 131. In each of these
/// dividing and multiplying by the reciprocal give different codes.
const TIES: [(u32, u32, i32, i32); 24] = [
    (0xc0e39ecb, 0x3d7a16d8, -116, 15),
    (0x3eca9dc5, 0x3b8db87f, 91, 222),
    (0xbaf9469e, 0x3b79469d, -1, 130),
    (0x40eb3e78, 0x3d9454ca, 102, 233),
    (0xbfe0cc4a, 0x3d6bda88, -30, 101),
    (0x3fc9141b, 0x3d22e62a, 39, 170),
    (0x40fb4a3c, 0x3da1a23e, 100, 231),
    (0xbfd258eb, 0x3c8211e2, -104, 27),
    (0x3ed7b256, 0x3bc986da, 68, 199),
    (0xc0c913f8, 0x3d6f6c51, -108, 23),
    (0xbf3c982d, 0x3caa0029, -36, 95),
    (0xbe8e2dd0, 0x3d4ece46, -6, 125),
    (0x40ef1764, 0x3dbe15c6, 81, 212),
    (0xc1213c98, 0x3db1271b, -117, 14),
    (0xbfd9ee1f, 0x3dc7401d, -18, 113),
    (0xbefa208f, 0x3ba42fa1, -98, 33),
    (0xc02d495f, 0x3d93df0a, -37, 94),
    (0xbd9f042b, 0x3d54058f, -2, 129),
    (0x3ee5c3bb, 0x3bf72449, 59, 190),
    (0xbf5d8aa6, 0x3cda221d, -32, 99),
    (0xc0a38b17, 0x3d64c82c, -91, 40),
    (0xc0eae1e5, 0x3dc480bf, -76, 55),
    (0xbf38c684, 0x3d28f004, -18, 113),
    (0xc00d3ae0, 0x3ce6492b, -79, 52),
];

/// ONNX integer types as recipes with one integer zero point per region.
fn recipe(bits: u32, codes: Codes) -> Recipe {
    Recipe::new(Uniform::asymmetric(BitWidth::new(bits).unwrap()).codes(codes))
}

fn codes(recipe: &Recipe, x: &Array1<f32>, scale: f32, zero_point: i32) -> Result<Vec<i32>> {
    let frozen = Frozen::with_scales(recipe, x.shape(), [f64::from(scale)], [f64::from(zero_point)])?;
    Ok(frozen.quantize(x)?.codes().unpack())
}

#[test]
fn near_ties() -> Result<()> {
    for (x, scale, signed, unsigned) in TIES {
        let (x, scale) = (arr1(&[f32::from_bits(x)]), f32::from_bits(scale));
        assert_eq!(codes(&recipe(8, Codes::Signed), &x, scale, 0)?, [signed], "{x} / {scale}");
        assert_eq!(codes(&recipe(8, Codes::Unsigned), &x, scale, 131)?, [unsigned], "{x} / {scale}");
        let reciprocal = recipe(8, Codes::Signed).dialect(Dialect::Torch);
        assert_ne!(codes(&reciprocal, &x, scale, 0)?, [signed], "{x} / {scale}");
    }
    Ok(())
}

#[test]
fn saturation_ties_and_signed_zeros() -> Result<()> {
    let (inf, half) = (f32::INFINITY, 0.5);
    let x =
        arr1(&[-inf, -1e30, -64.5, -0.75, -0.25, -0.0, 0.0, 0.25, 0.75, 1.25, 63.25, 63.75, 64.0, 1e30, inf]);
    let of = |bits, sign, zero| codes(&recipe(bits, sign), &x, half, zero);
    let int8 = [-128, -128, -126, 1, 3, 3, 3, 3, 5, 5, 127, 127, 127, 127, 127];
    assert_eq!(of(8, Codes::Signed, 3)?, int8);
    let uint8 = [0, 0, 0, 1, 3, 3, 3, 3, 5, 5, 129, 131, 131, 255, 255];
    assert_eq!(of(8, Codes::Unsigned, 3)?, uint8);
    let int16 = [-32768, -32768, -136, -9, -7, -7, -7, -7, -5, -5, 119, 121, 121, 32767, 32767];
    assert_eq!(of(16, Codes::Signed, -7)?, int16);
    let uint16 =
        [0, 0, 65401, 65528, 65530, 65530, 65530, 65530, 65532, 65532, 65535, 65535, 65535, 65535, 65535];
    assert_eq!(of(16, Codes::Unsigned, 65530)?, uint16);
    Ok(())
}

#[test]
fn per_axis() -> Result<()> {
    let x = Array2::from_shape_fn((3, 4), |(i, j)| (4 * i + j) as f32 - 5.3);
    let recipe = recipe(8, Codes::Signed).granularity(PerChannel::new(Axis(0)));
    let scales = [0.5f32, 0.3, 0.11].map(f64::from);
    let frozen = Frozen::with_scales(&recipe, x.shape(), scales, [1.0, -2.0, 3.0])?;
    let expected = [-10, -8, -6, -4, -6, -3, 0, 4, 28, 37, 46, 55];
    assert_eq!(frozen.quantize(&x)?.codes().unpack(), expected);
    Ok(())
}
