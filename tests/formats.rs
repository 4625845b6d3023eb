//! Number formats, bit for bit, through the public interface: codes of floating-point formats, blocks and their scales,
//! files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

#[macro_use]
mod common;

use common::SplitMix64;
use lowbit::minifloat::{Minifloat, ScaleMode};
use lowbit::prelude::*;
use lowbit::quantizer::MxElement;
use lowbit::tensor::{
    FloatArray, Grids, LevelGrids, LevelScheme, LevelTable, PackedCodes, ScaleArray, TwoLevel,
};
use lowbit::{ConfigError, DataError, Error, FloatType};
use ndarray::{Array1, Array2, Ix1, Ix2};

/// All named formats of at most 8 bits that have a zero.
fn formats() -> Vec<Minifloat> {
    ["e4m3fn", "e4m3fnuz", "e4m3ieee", "e5m2", "e5m2fnuz", "e3m4", "e3m2", "e2m3", "e2m1", "ue4m3fn", "ue5m3"]
        .map(|name| name.parse().unwrap())
        .to_vec()
}

/// A tensor of every code of `table`, at a scale of 1.
fn all_codes(table: LevelTable) -> QuantizedTensor {
    let scheme = LevelScheme::new(table);
    // Codes in order, from the lowest bit of each byte on.
    let (count, bits) = (scheme.codes().count() as usize, scheme.bits().get() as usize);
    let mut bytes = vec![0u8; (count * bits).div_ceil(8)];
    for place in (0..count * bits).filter(|place| (place / bits) >> (place % bits) & 1 == 1) {
        bytes[place / 8] |= 1 << (place % 8);
    }
    let packed = PackedCodes::from_bytes(scheme.bits(), scheme.codes(), count, bytes).unwrap();
    let mut scales = FloatArray::new(FloatType::F32);
    scales.push(1.0);
    let tiling = PerLayer.tiling(&[count]).unwrap();
    let grids: Grids = LevelGrids::from_arrays(scales, None).into();
    QuantizedTensor::new(scheme.into(), tiling, grids, packed, FloatType::F32, None).unwrap()
}

#[test]
fn every_code_decodes_and_comes_back() {
    for format in formats() {
        let q = all_codes(LevelTable::minifloat(format));
        let values = q.dequantize::<f32, Ix1>().unwrap();
        for (code, &value) in values.iter().enumerate() {
            let expected = format.decode(code as u16) as f32;
            assert!(value == expected || (value.is_nan() && expected.is_nan()), "{format} {code}");
        }
        let policy = if format.nan().is_some() { NonFinite::Propagate } else { NonFinite::Error };
        let cast = FloatingPoint::new(format).unscaled().non_finite(policy);
        let again = cast.quantize(&values).unwrap();
        for (code, &value) in values.iter().enumerate() {
            let expected = if value.is_nan() {
                format.nan().unwrap()
            } else if value.is_infinite() {
                // Infinities saturate.
                format.max_code() | (code as u16 & 0x80)
            } else if value == 0.0 {
                // Zeros of both signs get the code of zero.
                0
            } else {
                code as u16
            };
            assert_eq!(again.code(code), Some(i32::from(expected)), "{format} {code}");
        }
    }
    let e8m0 = all_codes(LevelTable::minifloat(Minifloat::E8M0)).dequantize::<f64, Ix1>().unwrap();
    assert!((0..255).all(|code| e8m0[code] == 2f64.powi(code as i32 - 127)) && e8m0[255].is_nan());
    let int8 = all_codes(LevelTable::mx_int8()).dequantize::<f32, Ix1>().unwrap();
    assert!((0..=255u8).all(|code| int8[usize::from(code)] == f32::from(code as i8) / 64.0));
    let q = FloatingPoint::e4m3().unscaled().quantize(&Array1::from_vec(vec![0.0f32])).unwrap();
    assert_eq!(q.code(0), Some(0));
}

#[test]
fn ties_go_to_the_even_mantissa_and_rounding_can_be_chosen() {
    for format in formats() {
        let cast = |rounding| FloatingPoint::new(format).unscaled().rounding(rounding);
        let positive: Vec<f64> = (0..=format.max_code()).map(|code| format.decode(code)).collect();
        // Exact in f64.
        let middles: Array1<f64> = positive.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        for (rounding, expected) in [
            (Rounding::NearestEven, (|low| low + low % 2) as fn(i32) -> i32),
            (Rounding::NearestAway, |low| low + 1),
            (Rounding::Floor, |low| low),
            (Rounding::TowardZero, |low| low),
            (Rounding::Ceil, |low| low + 1),
        ] {
            let codes = cast(rounding).quantize(&middles).unwrap();
            for code in 0..middles.len() {
                assert_eq!(codes.code(code), Some(expected(code as i32)), "{format} {rounding}");
            }
            // Next to the middle there is nothing to choose, for nearest.
            if matches!(rounding, Rounding::NearestEven | Rounding::NearestAway) {
                let below = cast(rounding).quantize(&middles.mapv(f64::next_down)).unwrap();
                let above = cast(rounding).quantize(&middles.mapv(f64::next_up)).unwrap();
                let all = 0..middles.len();
                assert!(
                    all.into_iter()
                        .all(|i| below.code(i) == Some(i as i32) && above.code(i) == Some(i as i32 + 1))
                );
            }
        }
        // Subnormals: the smallest positive number, and half of it, which is a tie with zero.
        let least = format.min_positive();
        let x = Array1::from_vec(vec![least, least * 0.5, least * 0.500001, least * 1.5, least * 2.5]);
        let codes = cast(Rounding::NearestEven).quantize(&x).unwrap();
        assert_eq!(codes.codes().unpack(), [1, 0, 1, 2, 2], "{format}");
    }
}

#[test]
fn overflow_saturates_and_nan_follows_the_policy() {
    for format in formats() {
        let max = i32::from(format.max_code());
        let low = if format.is_signed() { max | 1 << (format.bits() - 1) } else { 0 };
        let cast = FloatingPoint::new(format).unscaled();
        let x = Array1::from_vec(vec![1e30f32, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::MAX]);
        assert_eq!(cast.quantize(&x).unwrap().codes().unpack(), [max, low, max, low, max], "{format}");
        let nan = Array1::from_vec(vec![1.0f32, f32::NAN]);
        assert_error!(cast.quantize(&nan), Error::Data(DataError::NotANumber { index }) if index == [1]);
        let code = |policy| cast.clone().non_finite(policy).quantize(&nan).map(|q| q.code(1));
        assert_eq!(code(NonFinite::NanToZero).unwrap(), Some(0));
        assert_eq!(code(NonFinite::NanToLowest).unwrap(), Some(low));
        match format.nan() {
            Some(nan) => assert_eq!(code(NonFinite::Propagate).unwrap(), Some(i32::from(nan)), "{format}"),
            None => assert_error!(code(NonFinite::Propagate), Error::Config(ConfigError::Conflict { .. })),
        }
    }
}

#[test]
fn blocks_of_mx_share_a_power_of_two() {
    // Two blocks of 32: one whose largest magnitude is 1.75 octaves in, one of zeros.
    let mut x = Array2::<f32>::zeros((1, 64));
    x[[0, 0]] = 1.75;
    x[[0, 1]] = -0.3;
    for (mode, scale) in
        [(ScaleMode::Floor, 0.25), (ScaleMode::Ceil, 0.5), (ScaleMode::RoundUp, 0.5), (ScaleMode::Even, 0.5)]
    {
        let q = Mx::fp4().scale_mode(mode).granularity(Mx::blocks()).quantize(&x).unwrap();
        let Grids::Levels(grids) = q.grids() else { panic!("{q}") };
        assert_eq!(grids.scales().iter().collect::<Vec<_>>(), [scale, 2f64.powi(-127)], "{mode}");
        let back = q.dequantize::<f32, Ix2>().unwrap();
        // 7 saturates at 6 of the smaller scale, 3.5 is a tie of the larger one; −1.2 and −0.6 of the two.
        let expected = if scale == 0.25 { [1.5, -0.25] } else { [2.0, -0.25] };
        assert_eq!([back[[0, 0]], back[[0, 1]]], expected, "{mode}");
        assert_eq!(q.bits_per_element(), 4.25);
    }
}

#[test]
fn blocks_of_nf4_are_those_of_its_definition() {
    let mut random = SplitMix64(5);
    let x = Array2::from_shape_fn((3, 100), |_| random.normal() as f32);
    let recipe = NormalFloat::nf4().granularity(NormalFloat::blocks());
    let q = recipe.quantize(&x).unwrap();
    let values = LevelTable::normal_float(BitWidth::new(4).unwrap()).unwrap();
    for row in 0..3 {
        for (block, columns) in [0..64, 64..100].into_iter().enumerate() {
            let absmax = columns.clone().fold(0.0f32, |max, j| max.max(x[[row, j]].abs()));
            let Grids::Levels(grids) = q.grids() else { panic!("{q}") };
            assert_eq!(grids.scales().get(2 * row + block), Some(f64::from(absmax)));
            for j in columns {
                let distance = |level: f64| (f64::from(x[[row, j]]) / f64::from(absmax) - level).abs();
                let chosen = values.values()[q.code(100 * row + j).unwrap() as usize];
                let nearest =
                    values.values().iter().map(|&level| distance(level)).fold(f64::INFINITY, f64::min);
                assert!(distance(chosen) <= nearest + 1e-7);
            }
        }
    }
    // Frozen, a scale of the user's.
    let frozen = Frozen::with_scales(&NormalFloat::nf4().granularity(PerLayer), &[2], [2.0], []).unwrap();
    let q = frozen.quantize(&Array1::from_vec(vec![f32::INFINITY, -0.1])).unwrap();
    assert_eq!(q.codes().unpack(), [15, 6]);
}

#[test]
fn every_format_is_the_same_in_parts_and_in_f64() {
    let mut random = SplitMix64(8);
    let x = Array2::from_shape_fn((6, 96), |(i, _)| (random.normal() * 2f64.powi(i as i32)) as f32);
    let methods = MxElement::ALL.map(|element| Mx::new(element).granularity(Mx::blocks()));
    for recipe in methods.into_iter().chain([NvFp4::new().granularity(NvFp4::blocks())]) {
        let q = recipe.quantize(&x).unwrap();
        let mut out = QuantizedTensor::empty(q.scheme().clone());
        recipe.quantize_into(&x.t().as_standard_layout().t(), &mut out).unwrap();
        assert_eq!(out, q, "{recipe:?}: another layout");
        let wide = recipe.quantize(&x.mapv(f64::from)).unwrap();
        if !recipe.to_string().starts_with("nvfp4") {
            assert_eq!(wide.codes(), q.codes(), "{recipe:?}: powers of two divide exactly");
        }
        assert_eq!(wide.grids(), q.grids());
    }
}

#[cfg(feature = "safetensors")]
#[test]
fn every_storage_of_scales_comes_back_from_a_file() {
    use lowbit::io::safetensors::{File, save};

    let mut random = SplitMix64(3);
    let x = Array2::from_shape_fn((8, 200), |_| random.normal() as f32);
    let methods = [
        "log(bits=4)",
        "log(bits=5, base=sqrt2, rounding=level)",
        "log(bits=4, scales=bf16)",
        "inq(bits=5)",
        "apot(bits=4)",
        "normal-float(bits=4)",
        "normal-float(bits=3, scales=f64)",
        "normal-float(bits=4, scales=two-level(dynamic, block=256, centered=true))",
        "normal-float(bits=4, scales=two-level(6, block=8, outer=f16))",
        "bitsandbytes-fp4(scales=f16)",
        "dynamic(signed=true)",
        "dynamic(signed=false, scales=power(2))",
        "float(e4m3fn)",
        "float(e5m2, unscaled=true)",
        "float(e3m4, scales=e4m3fn)",
        "float(e2m1, scales=e8m0)",
        "mx(e4m3)",
        "mx(e5m2, scale-mode=ceil)",
        "mx(e3m2, scale-mode=even)",
        "mx(e2m3, scale-mode=round-up)",
        "mx(e2m1, calibration=mse)",
        "mx(int8)",
        "nvfp4",
    ];
    let quantized: Vec<(&str, QuantizedTensor)> = methods
        .into_iter()
        .map(|method| {
            let recipe: Recipe = format!("{method}; granularity=subchannel(32, axis=0)").parse().unwrap();
            (method, recipe.quantize(&x).unwrap_or_else(|error| panic!("{method}: {error}")))
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("formats.safetensors");
    save(&path, quantized.iter().map(|(name, q)| (*name, q.into()))).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = File::new(&bytes).unwrap();
    for (name, q) in &quantized {
        let again = file.quantized(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again, *q, "{name}");
        assert_eq!(again.scheme(), q.scheme(), "{name}");
        let (a, b) = (again.dequantize::<f32, Ix2>().unwrap(), q.dequantize::<f32, Ix2>().unwrap());
        assert_eq!(a, b, "{name}");
        let json = serde_json::to_string(q).unwrap();
        assert_eq!(serde_json::from_str::<QuantizedTensor>(&json).unwrap(), *q, "{name}");
    }
}

#[test]
fn block_scales_that_do_not_fit_are_named() {
    let mut x = Array2::<f32>::ones((2, 64));
    x[[1, 40]] = 1e30;
    for scales in ["f16", "e4m3fn", "e5m2"] {
        let recipe: Recipe =
            format!("normal-float(bits=4, scales={scales}); granularity=subchannel(32, axis=0)")
                .parse()
                .unwrap();
        assert_error!(recipe.quantize(&x), Error::Data(DataError::ScaleStorage { region: 3, .. }));
    }
    // E8M0 and two-level scales hold it.
    for method in ["mx(e2m1)", "nvfp4", "float(e4m3fn, scales=e8m0)"] {
        let recipe: Recipe = format!("{method}; granularity=subchannel(32, axis=0)").parse().unwrap();
        let back = recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
        assert!((back[[1, 40]] / 1e30 - 1.0).abs() < 0.35, "{method}: {}", back[[1, 40]]);
    }
    let recipe: Recipe = "mx(e4m3); granularity=subchannel(32, axis=0)".parse().unwrap();
    let mut wide = x.mapv(f64::from);
    wide[[1, 40]] = 1e300;
    assert_error!(recipe.quantize(&wide), Error::Data(DataError::ScaleStorage { region: 3, .. }));
}

#[test]
fn two_level_scales_keep_what_is_not_zero() {
    let codes = |scales: TwoLevel, x: &Array2<f32>| {
        let recipe = FloatingPoint::e2m1().scales(scales).granularity(PerChannel::new(Axis(0)));
        let q = recipe.quantize(x).unwrap();
        let Grids::Levels(grids) = q.grids() else { panic!("{q}") };
        let ScaleArray::TwoLevel(scales) = grids.scales() else { panic!("{q}") };
        scales.codes().unwrap().codes().unpack()
    };
    let x = ndarray::array![[1.0f32, -6.0], [1e-12, 0.0], [0.0, 0.0]];
    let minifloat = TwoLevel::minifloat(Minifloat::E4M3FN);
    assert_eq!(codes(minifloat, &x), [0x7E, 1, 0]);
    // Integers that round to zero stay there.
    assert_eq!(codes(TwoLevel::unsigned(BitWidth::new(6).unwrap()), &x), [63, 0, 0]);
    // Each block has its own outer scale.
    assert_eq!(codes(minifloat.block(1).unwrap(), &x), [0x7E, 0x7E, 0]);
}
