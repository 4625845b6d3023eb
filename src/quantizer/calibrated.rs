//! The body that methods share whose grid is a calibrated range on a scheme.

use std::sync::Arc;

use crate::calibration::{Calibrated, Calibration, Ranges, Region, Regions, range_or_zero};
use crate::error::Result;
use crate::granularity::Tiling;
use crate::tensor::{Encoding, Grids, Notes, QuantizedTensor, Scheme, TensorView};

use super::{Fit, Quantizer, fit_then_encode};

/// The grid of one region: the range that `calibration` finds, put on `scheme`. A region without values
/// (all of them skipped) gets the grid of a range of zero.
///
/// # Errors
///
/// As [`Calibration::range`], and [`DataError::ScaleStorage`](crate::DataError::ScaleStorage) where the
/// scale does not fit its type.
pub fn fit_calibrated(calibration: &dyn Calibration, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
    let Calibrated { range, note } =
        range_or_zero(calibration, region, |region| calibration.range(region, scheme))?;
    Ok(Fit { grid: scheme.grid(range, region.index())?, note })
}

/// The grids of all regions, through [`Calibration::ranges`]: the same bits as [`fit_calibrated`] for each.
///
/// # Errors
///
/// As [`fit_calibrated`].
pub fn fit_all_calibrated(
    calibration: &dyn Calibration,
    regions: &Regions<'_, '_>,
    scheme: &Scheme,
    grids: &mut Grids,
    notes: &mut Notes,
) -> Result<()> {
    let Ranges { ranges, notes: found } = calibration.ranges(regions, scheme)?;
    if !grids.fill(scheme, &ranges) {
        for (region, range) in ranges.into_iter().enumerate() {
            grids.push(scheme.grid(range, region)?)?;
        }
    }
    notes.extend(found);
    Ok(())
}

/// [`Quantizer::fit_and_encode`] of such a method: in one pass over the tensor where there is a kernel for that.
pub(super) fn fit_and_encode_calibrated<Q: Quantizer + ?Sized>(
    (quantizer, calibration): (&Q, &dyn Calibration),
    tensor: &TensorView<'_>,
    tiling: Tiling,
    encoding: &Encoding,
    recipe: Option<Arc<str>>,
    out: &mut QuantizedTensor,
) -> Result<()> {
    if calibration.is_min_max()
        && let Ok(scheme) = quantizer.scheme()
    {
        out.refill(&scheme, tiling.clone(), tensor.element_type(), recipe.clone());
        if out.encode_min_max(tensor, encoding) {
            return Ok(());
        }
    }
    fit_then_encode(quantizer, tensor, tiling, encoding, recipe, out)
}

/// [`Quantizer`](super::Quantizer) and the setter `calibration` of a method that is a calibrated range on a
/// [`LevelScheme`](crate::tensor::LevelScheme): what its `level_scheme` says, with a field `calibration`.
macro_rules! on_levels {
    ($method:ident) => {
        impl $method {
            /// How ranges are found. The default is [`MinMax`](crate::calibration::MinMax).
            pub fn calibration(
                mut self,
                calibration: impl $crate::calibration::Calibration + 'static,
            ) -> Self {
                self.calibration = std::sync::Arc::new(calibration);
                self
            }
        }

        impl $crate::quantizer::Quantizer for $method {
            fn scheme(&self) -> $crate::error::Result<$crate::tensor::Scheme> {
                Ok(self.level_scheme()?.into())
            }

            fn fit(
                &self,
                region: &$crate::calibration::Region<'_>,
                scheme: &$crate::tensor::Scheme,
            ) -> $crate::error::Result<$crate::quantizer::Fit> {
                $crate::quantizer::fit_calibrated(&self.calibration, region, scheme)
            }

            fn fit_all(
                &self,
                regions: &$crate::calibration::Regions<'_, '_>,
                scheme: &$crate::tensor::Scheme,
                grids: &mut $crate::tensor::Grids,
                notes: &mut $crate::tensor::Notes,
            ) -> $crate::error::Result<()> {
                $crate::quantizer::fit_all_calibrated(&self.calibration, regions, scheme, grids, notes)
            }

            fn fit_and_encode(
                &self,
                tensor: &$crate::tensor::TensorView<'_>,
                tiling: $crate::granularity::Tiling,
                encoding: &$crate::tensor::Encoding,
                recipe: Option<std::sync::Arc<str>>,
                out: &mut $crate::tensor::QuantizedTensor,
            ) -> $crate::error::Result<()> {
                $crate::quantizer::calibrated::fit_and_encode_calibrated(
                    (self, &self.calibration),
                    tensor,
                    tiling,
                    encoding,
                    recipe,
                    out,
                )
            }
        }
    };
}

pub(super) use on_levels;

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, ArrayView1, Ix1, Ix2};

    use crate::calibration::{Region, Regions};
    use crate::error::{DataError, Error, Result};
    use crate::quantizer::{Fit, Quantizer};
    use crate::recipe::{QuantizerExt, Recipe};
    use crate::solve::samples::SplitMix64;
    use crate::tensor::{Grids, Notes, Scheme};

    /// One text of each kind of method on levels, with its calibration open.
    const METHODS: [&str; 20] = [
        "log(bits=4, base=2, signed=true, rounding=exponent, scales=power(2), calibration=",
        "log(bits=5, base=sqrt2, signed=true, rounding=level, scales=power(sqrt2), calibration=",
        "log(bits=3, base=1.5, signed=false, rounding=exponent, scales=f16, calibration=",
        "inq(bits=4, scales=power(2), calibration=",
        "apot(bits=5, term-bits=2, signed=true, scales=f32, calibration=",
        "apot(bits=3, term-bits=3, signed=false, scales=bf16, calibration=",
        "normal-float(bits=4, scales=f32, calibration=",
        "normal-float(bits=3, scales=e4m3fn, calibration=",
        "normal-float(bits=4, scales=two-level(dynamic, block=256, centered=true), calibration=",
        "bitsandbytes-fp4(scales=f32, calibration=",
        "dynamic(signed=true, scales=f32, calibration=",
        "dynamic(signed=false, scales=f32, calibration=",
        "float(e4m3fn, scales=f32, calibration=",
        "float(e5m2fnuz, scales=power(2), calibration=",
        "float(e2m1, scales=two-level(6, block=8, outer=f16), calibration=",
        "mx(e4m3, scale-mode=floor, calibration=",
        "mx(e2m1, scale-mode=ceil, calibration=",
        "mx(e3m2, scale-mode=round-up, calibration=",
        "mx(int8, scale-mode=even, calibration=",
        "nvfp4(calibration=",
    ];

    fn recipe(method: &str, calibration: &str) -> Recipe {
        format!("{method}{calibration}); granularity=subchannel(32, axis=0)").parse().unwrap()
    }

    fn laplace(rows: usize, columns: usize) -> Array2<f32> {
        let mut random = SplitMix64(77);
        Array2::from_shape_fn((rows, columns), |(i, _)| (random.laplace() * 2f64.powi(i as i32 % 5)) as f32)
    }

    #[test]
    fn text_forms_come_back() {
        for method in METHODS {
            for calibration in ["minmax", "mse", "percentile(99.9)", "kl(variant=nvidia, bins=300)"] {
                let text = recipe(method, calibration).quantizer().to_string();
                assert!(text.starts_with(method), "{text}");
                let again: Recipe = text.parse().unwrap();
                assert_eq!(again.quantizer().to_string(), text);
            }
        }
        let shortest: Recipe = "float(e5m2, unscaled=true)".parse().unwrap();
        assert_eq!(shortest.quantizer().to_string(), "float(e5m2, unscaled=true)");
        assert_eq!(
            "mx(e2m1)".parse::<Recipe>().unwrap().quantizer().to_string(),
            format!("{}minmax)", "mx(e2m1, scale-mode=floor, calibration=")
        );
        for text in [
            "mx",
            "mx(e4m3fn)",
            "mx(e2m1, scales=f32)",
            "nvfp4(scales=f32)",
            "float",
            "float(e9)",
            "log(bits=1)",
            "log(base=1)",
            "inq(bits=1)",
            "apot(term-bits=9)",
            "normal-float(bits=1)",
            "dynamic(signed=perhaps)",
        ] {
            assert!(text.parse::<Recipe>().is_err(), "{text}");
        }
    }

    /// The method without its way through all regions.
    #[derive(Debug)]
    struct OneByOne(Recipe);

    impl core::fmt::Display for OneByOne {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            self.0.quantizer().fmt(f)
        }
    }

    impl Quantizer for OneByOne {
        fn scheme(&self) -> Result<Scheme> {
            self.0.quantizer().scheme()
        }

        fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
            self.0.quantizer().fit(region, scheme)
        }

        fn fit_all(
            &self,
            regions: &Regions<'_, '_>,
            scheme: &Scheme,
            grids: &mut Grids,
            notes: &mut Notes,
        ) -> Result<()> {
            let fits = regions.map(|region| self.fit(region, scheme))?;
            for (region, fit) in fits.into_iter().enumerate() {
                grids.push(fit.grid)?;
                notes.extend(fit.note.map(|note| (region, note)));
            }
            Ok(())
        }
    }

    #[test]
    fn all_regions_at_once_are_each_of_them() {
        let x = laplace(6, 100);
        for method in METHODS {
            for calibration in ["minmax", "mse", "percentile(98)"] {
                let all = recipe(method, calibration);
                let one = OneByOne(all.clone())
                    .granularity(crate::granularity::PerSubChannel::runs(ndarray::Axis(0), 32));
                assert_eq!(all.quantize(&x).unwrap(), one.quantize(&x).unwrap(), "{method}{calibration})");
            }
        }
    }

    #[test]
    fn one_pass_gives_the_bits_of_two() {
        use crate::granularity::{Granularity, PerSubChannel};
        use crate::tensor::{Dialect, QuantizedTensor, Rounding, TensorView};

        let mut x = laplace(9, 1280);
        // Blocks of zeros, of the smallest and the largest numbers, and of one value that outshines the rest.
        x.row_mut(2).fill(0.0);
        x.row_mut(3).mapv_inplace(|value| value * 1e-43);
        x.row_mut(4).mapv_inplace(|value| (value * 1e37).clamp(-f32::MAX, f32::MAX));
        x.row_mut(5).iter_mut().step_by(61).for_each(|value| *value *= 1e30);
        x[[6, 100]] = -0.0;
        let half = laplace(4, 320).mapv(half::f16::from_f32);
        let mut taken = 0;
        for method in METHODS {
            for width in [16, 32, 64, 24, 256, 20] {
                let granularity = PerSubChannel::runs(ndarray::Axis(0), width);
                for (dialect, rounding) in [
                    (Dialect::Onnx, Rounding::NearestEven),
                    (Dialect::Torch, Rounding::NearestEven),
                    (Dialect::Onnx, Rounding::Floor),
                ] {
                    let all = recipe(method, "minmax").granularity(granularity);
                    let all = all.dialect(dialect).rounding(rounding);
                    let one = OneByOne(all.clone()).granularity(granularity);
                    let one = one.dialect(dialect).rounding(rounding);
                    let name = format!("{method} {width} {dialect} {rounding}");
                    let (fast, slow) = (all.quantize(&x), one.quantize(&x));
                    match (fast, slow) {
                        (Ok(fast), Ok(slow)) => assert_eq!(fast, slow, "{name}"),
                        (fast, slow) => assert_eq!(fast.err().map(text), slow.err().map(text), "{name}"),
                    }
                    assert_eq!(all.quantize(&half).unwrap(), one.quantize(&half).unwrap(), "{name}");
                    for bad in [f32::NAN, f32::INFINITY] {
                        // Among values that every storage of scales holds, so that this is the only error.
                        let mut x = laplace(2, 1280);
                        x[[1, 1279]] = bad;
                        assert_eq!(text(all.quantize(&x).unwrap_err()), text(one.quantize(&x).unwrap_err()));
                    }
                    let view = TensorView::new(&half);
                    let mut out = QuantizedTensor::empty(all.scheme().unwrap());
                    let tiling = granularity.tiling(half.shape()).unwrap();
                    out.refill(&all.scheme().unwrap(), tiling, view.element_type(), None);
                    taken += usize::from(out.encode_min_max(&view, all.encoding()));
                }
            }
        }
        // Widths 16, 32 and 64 of all methods on levels of both signs whose scales are single numbers up to f32.
        assert!(taken >= 3 * 3 * 9, "{taken}");
        let transposed = x.t();
        let all = recipe(METHODS[6], "minmax");
        let one = OneByOne(all.clone()).granularity(PerSubChannel::runs(ndarray::Axis(0), 32));
        assert_eq!(all.quantize(&transposed).unwrap(), one.quantize(&transposed).unwrap());
        let none = all.quantize(&Array1::<f32>::zeros(0)).unwrap();
        assert!(none.is_empty());

        fn text(error: Error) -> String {
            error.to_string()
        }
    }

    /// Uniform grids of every kind.
    const UNIFORM: [&str; 11] = [
        "uniform(bits=8, symmetry=symmetric, range=restricted, codes=signed, scales=f32, calibration=",
        "uniform(bits=8, symmetry=symmetric, range=full, codes=unsigned, scales=bf16, calibration=",
        "uniform(bits=4, symmetry=symmetric, range=restricted, codes=signed, scales=f16, calibration=",
        "uniform(bits=3, symmetry=symmetric, range=mid-rise, codes=signed, scales=f32, calibration=",
        "uniform(bits=1, symmetry=symmetric, range=full, codes=unsigned, scales=f16, calibration=",
        "uniform(bits=8, symmetry=asymmetric, codes=unsigned, scales=f32, calibration=",
        "uniform(bits=8, symmetry=asymmetric, codes=signed, scales=f16, calibration=",
        "uniform(bits=5, symmetry=asymmetric, code-range=-9..12, scales=bf16, calibration=",
        "uniform(bits=4, symmetry=asymmetric, codes=unsigned, scales=f16, widen-scales=true, calibration=",
        "uniform(bits=4, symmetry=asymmetric-real, codes=unsigned, scales=f16, calibration=",
        "uniform(bits=12, symmetry=symmetric, range=restricted, codes=signed, scales=f64, calibration=",
    ];

    #[test]
    fn one_pass_of_uniform_grids_gives_the_bits_of_two() {
        use crate::granularity::{Granularity, PerChannel, PerLayer, PerSubChannel};
        use crate::kernel::forced;
        use crate::tensor::{Dialect, Rounding};
        use ndarray::Axis;

        let mut x = laplace(9, 768);
        // Blocks of zeros, of the smallest and the largest numbers, of one sign, and of one value that outshines the rest.
        x.row_mut(2).fill(0.0);
        x.row_mut(3).mapv_inplace(|value| value * 1e-43);
        x.row_mut(4).mapv_inplace(|value| (value * 1e37).clamp(-f32::MAX, f32::MAX));
        x.row_mut(5).iter_mut().step_by(61).for_each(|value| *value *= 1e30);
        x.row_mut(7).mapv_inplace(f32::abs);
        x[[6, 100]] = -0.0;
        let ordinary = laplace(5, 768);
        let half = ordinary.mapv(half::f16::from_f32);
        let dialects = [
            (Dialect::Onnx, Rounding::NearestEven),
            (Dialect::Torch, Rounding::NearestEven),
            (Dialect::Gptq, Rounding::NearestEven),
            (Dialect::OpenVino, Rounding::NearestEven),
            (Dialect::Onnx, Rounding::Floor),
        ];
        let mut taken = 0;
        for method in UNIFORM {
            for width in [16, 32, 64, 24, 256, 7, 0, 1] {
                let granularity: std::sync::Arc<dyn Granularity> = match width {
                    0 => std::sync::Arc::new(PerLayer),
                    1 => std::sync::Arc::new(PerChannel::new(Axis(0))),
                    _ => std::sync::Arc::new(PerSubChannel::runs(Axis(0), width)),
                };
                for (dialect, rounding) in dialects {
                    let recipe: Recipe = format!("{method}minmax)").parse().unwrap();
                    let all = recipe.granularity(granularity.clone()).dialect(dialect).rounding(rounding);
                    let one = OneByOne(all.clone()).granularity(granularity.clone());
                    let one = one.dialect(dialect).rounding(rounding);
                    let name = format!("{method} {width} {dialect} {rounding}");
                    for x in [&x, &ordinary] {
                        let slow = one.quantize(x).map_err(|error| error.to_string());
                        for level in forced::available() {
                            let fast = forced::with(level, || all.quantize(x));
                            assert_eq!(fast.map_err(|error| error.to_string()), slow, "{name} {level:?}");
                        }
                    }
                    assert_eq!(all.quantize(&half).unwrap(), one.quantize(&half).unwrap(), "{name}");
                    for bad in [f32::NAN, f32::NEG_INFINITY] {
                        let mut x = ordinary.clone();
                        x[[1, 767]] = bad;
                        let errors = [all.quantize(&x), one.quantize(&x)];
                        let [fast, slow] = errors.map(|made| made.unwrap_err().to_string());
                        assert_eq!(fast, slow, "{name}");
                    }
                    taken += usize::from(in_one_pass(&all, &half));
                }
            }
        }
        // Nine methods of four dialects or roundings, in blocks of any width that divides a row.
        assert_eq!(taken, 9 * 4 * 7);
    }

    /// Whether there is a way through `x` in one pass.
    fn in_one_pass(recipe: &Recipe, x: &Array2<half::f16>) -> bool {
        use crate::tensor::{QuantizedTensor, TensorView};

        let view = TensorView::new(x);
        let scheme = recipe.scheme().unwrap();
        let mut out = QuantizedTensor::empty(scheme.clone());
        out.refill(&scheme, recipe.tiling(x.shape()).unwrap(), view.element_type(), None);
        out.encode_min_max(&view, recipe.encoding())
    }

    #[test]
    fn least_squared_error_is_never_worse_than_the_ends() {
        let x = laplace(40, 32);
        let errors = |recipe: Recipe| -> Vec<f64> {
            let back = recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
            let error = |(x, y): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| {
                x.iter().zip(y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>()
            };
            x.rows().into_iter().zip(back.rows()).map(error).collect()
        };
        // Two-level scales are rounded after the search.
        for method in
            METHODS.into_iter().filter(|method| !method.contains("two-level") && !method.starts_with("nvfp4"))
        {
            let (plain, searched) = (errors(recipe(method, "minmax")), errors(recipe(method, "mse")));
            for (plain, searched) in plain.iter().zip(&searched) {
                assert!(*searched <= plain * (1.0 + 1e-5), "{method}: {searched} {plain}");
            }
            // Of 8-bit integers a smaller power of two clips, and a larger one halves the resolution.
            let better = searched.iter().sum::<f64>() < plain.iter().sum();
            assert!(better || method.starts_with("mx(int8"), "{method}");
        }
    }

    #[test]
    fn bad_input_is_refused_or_survived() {
        for method in METHODS {
            for calibration in ["minmax", "mse"] {
                let recipe: Recipe = format!("{method}{calibration})").parse().unwrap();
                let back = |x: &Array1<f32>| recipe.quantize(x).map(|q| q.dequantize::<f32, Ix1>().unwrap());
                let zeros = back(&Array1::zeros(40)).unwrap();
                assert!(zeros.iter().all(|&value| value == 0.0), "{method}");
                let mut x = Array1::<f32>::ones(40);
                x[7] = f32::NAN;
                assert!(
                    matches!(back(&x), Err(Error::Data(DataError::NotANumber { index })) if index == [7]),
                    "{method}"
                );
                x[7] = f32::NEG_INFINITY;
                assert!(matches!(back(&x), Err(Error::Data(DataError::Infinite { .. }))), "{method}");
                for magnitude in [f32::MAX, 1e30, f32::MIN_POSITIVE, 1e-45] {
                    let x = Array1::from_shape_fn(40, |i| magnitude * [1.0, -0.5, 0.0][i % 3]);
                    // Scales in narrow types hold neither.
                    match back(&x) {
                        Ok(back) => assert!(
                            back.iter().all(|value| value.is_finite()),
                            "{method}{calibration}), {magnitude:e}: {back}"
                        ),
                        Err(error) => assert!(
                            matches!(error, Error::Data(DataError::ScaleStorage { region: 0, .. }))
                                && ["f16", "e4m3fn, cal"].iter().any(|narrow| method.contains(narrow)),
                            "{method}{calibration}), {magnitude:e}: {error}"
                        ),
                    }
                }
            }
        }
    }
}
