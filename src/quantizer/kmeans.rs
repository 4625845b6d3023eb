//! K-means: the codebook of least squared error.
//!
//! Gong, Liu, Yang and Bourdev 2014, *Compressing Deep Convolutional Networks using Vector Quantization*, section 3.2.1,
//! and Wu et al. 2016, *Quantized Convolutional Neural Networks for Mobile Devices*; survey, III-F:
//!
//! ```text
//! min over c_1, …, c_k of  Σ_i h_i min_j (w_i − c_j)²,      k = 2^b
//! ```
//!
//! The papers have h = 1. Choi, El-Khamy and Lee 2017, *Towards the Limit of Network Quantization*, equation 6, weigh
//! each value by the diagonal of the Hessian; Kim et al. 2024, *SqueezeLLM: Dense-and-Sparse Quantization*, equation 4,
//! by squared gradients. Such weights come with the tensor, as its importance.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, Evidence, Histogram, MinMax, Region, Regions, Values};
use crate::element::{FloatType, Real};
use crate::error::{ConfigError, Result};
use crate::solve::kmeans::{Clusters, kmeans, kmeans_of_points, kmeans_weighted};
use crate::tensor::{
    ClippingRange, CodebookGrid, CodebookScheme, Grids, LevelGrids, LevelScheme, Notes, ScaleArray,
    ScaleStorage, Scheme,
};

use super::{Fit, Quantizer, fit_all_calibrated};

/// The codebook of least squared error for each region, by k-means on the line; or one that all regions share.
///
/// Unlike Lloyd's iteration, which ends in whatever local minimum its start leads to, the search finds the best codebook
/// of all: exactly for regions of up to 65536 values, otherwise usually within 3e-5 (relative, of the squared error) for
/// 16 levels and 3e-4 for 256, and never off by more than some 5e-4. It draws no random numbers. Centroids are rounded
/// to their storage type before codes are chosen. Where there are fewer distinct values than levels, the values
/// themselves are the levels and nothing is lost.
///
/// With [`Recipe::quantize_weighted`] each value's squared error is weighted. On what an observer has seen, the values
/// of a bin stand at its middle.
///
/// Defaults: a codebook for each region, levels in f32.
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::array![[0.0f32, 0.25, 1.0, 1.25], [-3.0, 5.0, -3.0, 5.0]];
/// let recipe = KMeans::new(BitWidth::new(1)?).granularity(PerChannel::new(Axis(0)));
/// let restored = recipe.quantize(&weights)?.dequantize::<f32, ndarray::Ix2>()?;
/// assert_eq!(restored, ndarray::array![[0.125f32, 0.125, 1.125, 1.125], [-3.0, 5.0, -3.0, 5.0]]);
///
/// // A codebook of two levels costs each row 64 bits. One for all 16 rows costs 64 bits, and each row 32 for its scale.
/// let weights = ndarray::Array2::from_shape_fn((16, 64), |(i, j)| ((64 * i + j) as f32).sin());
/// assert_eq!(recipe.quantize(&weights)?.bits_per_element(), 1.0 + 64.0 / 64.0);
/// let shared = KMeans::new(BitWidth::new(1)?).shared().granularity(PerChannel::new(Axis(0)));
/// assert_eq!(shared.quantize(&weights)?.bits_per_element(), 1.0 + 32.0 / 64.0 + 64.0 / 1024.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// # Cost
///
/// Regions of up to 65536 values are sorted: 0.1 to 1 µs for each value, whatever the number of levels. Of more
/// values, 1 ns for each and some milliseconds for the whole; 5 ns with importance. See [`KMeans::clusters`] for the
/// search alone. Regions are shared out to threads.
///
/// [`Recipe::quantize_weighted`]: crate::Recipe::quantize_weighted
#[derive(Debug, Clone)]
pub struct KMeans {
    bits: BitWidth,
    levels: FloatType,
    shared: bool,
    scales: Option<ScaleStorage>,
    calibration: Option<Arc<dyn Calibration>>,
}

impl KMeans {
    /// 2^b levels for each region.
    pub const fn new(bits: BitWidth) -> Self {
        Self { bits, levels: FloatType::F32, shared: false, scales: None, calibration: None }
    }

    /// The storage type of the levels. A level that it cannot hold is an error.
    pub const fn levels(mut self, storage: FloatType) -> Self {
        self.levels = storage;
        self
    }

    /// One codebook for the whole tensor, under a scale for each region: `r̃ = S · level[q]`.
    ///
    /// Every region is divided by its scale, the largest magnitude by default, and the values of all regions are
    /// clustered together, each with the weight S² that its error has in the tensor. The levels are stored once. (A
    /// codebook that is shared without scales is that of [`PerLayer`](crate::granularity::PerLayer).) If some region is
    /// all zero, the level next to zero is zero, so that such regions are restored exactly.
    ///
    /// Costs memory for a copy of the tensor, and another one for the weights. It needs the tensor: it cannot be fitted
    /// to one region, nor to an observer's histograms.
    pub const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// How the scales of a shared codebook are stored; f32 by default.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = Some(storage.into());
        self
    }

    /// How the range of a region is found whose larger end is its scale under a shared codebook; minimum and maximum by
    /// default.
    pub fn calibration(mut self, calibration: impl Calibration + 'static) -> Self {
        self.calibration = Some(Arc::new(calibration));
        self
    }

    /// The clusters of `values`, each with its weight in `importance` if there is any: the search alone, before levels
    /// are rounded to storage. `None` if there is no finite value.
    ///
    /// ```
    /// use lowbit::prelude::*;
    /// use lowbit::Values;
    ///
    /// let two = KMeans::new(BitWidth::new(1)?);
    /// let found = two.clusters(Values::F32(&[0.0, 1.0, 5.0, 6.0]), None);
    /// assert_eq!(found.map(|found| found.centroids), Some(vec![0.5, 5.5]));
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [above](Self#cost). Memory: about 100 bytes for each value that is sorted, otherwise 5 MB. One thread.
    pub fn clusters(&self, values: Values<'_>, importance: Option<Values<'_>>) -> Option<Clusters> {
        let k = self.bits.levels() as usize;
        match values {
            Values::F32(values) => clusters(values, importance, k),
            Values::F64(values) => clusters(values, importance, k),
        }
    }

    fn histogram_clusters(&self, histogram: &Histogram) -> Option<Clusters> {
        let counts = histogram.counts();
        let middle = |bin| histogram.center(bin).clamp(histogram.min(), histogram.max());
        let middles: Vec<f64> = (0..counts.len()).map(middle).collect();
        kmeans_of_points(&middles, counts, self.bits.levels() as usize)
    }

    /// Scales for all regions, then the levels for everything.
    fn fit_shared(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        notes: &mut Notes,
    ) -> Result<()> {
        match &self.calibration {
            Some(calibration) => fit_all_calibrated(calibration, regions, scheme, grids, notes)?,
            None => fit_all_calibrated(&MinMax, regions, scheme, grids, notes)?,
        }
        // What is divided by is the scale as stored.
        grids.finish()?;
        let Grids::Levels(found) = grids else {
            return Err(ConfigError::Conflict { setting: "a shared codebook", to: "this scheme" }.into());
        };
        let k = self.bits.levels() as usize;
        let levels = if scheme.arithmetic(regions.tensor().element_type()) == FloatType::F64 {
            shared_levels::<f64>(regions, found.scales(), k)
        } else {
            shared_levels::<f32>(regions, found.scales(), k)
        };
        Ok(LevelGrids::set_levels(found, &levels)?)
    }
}

fn clusters<T: Real>(values: &[T], importance: Option<Values<'_>>, k: usize) -> Option<Clusters> {
    match importance {
        None => kmeans(values, k),
        Some(Values::F32(weights)) => kmeans_weighted(values, weights, k),
        Some(Values::F64(weights)) => kmeans_weighted(values, weights, k),
    }
}

/// The levels that serve all regions under their scales best.
fn shared_levels<T: Real>(regions: &Regions<'_, '_>, scales: &ScaleArray, k: usize) -> Vec<f64> {
    // Whether a region has a value, and one that is not zero.
    let mut holds = vec![(false, false); regions.len()];
    each_run::<T>(regions, |region, values, _| {
        if let Some((any, some)) = holds.get_mut(region) {
            *any |= values.iter().any(|x| x.is_finite());
            *some |= values.iter().any(|x| x.is_finite() && !x.is_zero());
        }
    });
    // The scale of a region of zeros says nothing, and must not drown the others.
    let used = || scales.iter().zip(&holds).filter(|(_, (_, some))| *some).map(|(scale, _)| scale);
    let largest = used().fold(0.0f64, |largest, scale| largest.max(scale.abs()));
    if largest == 0.0 {
        return vec![0.0; k];
    }
    let even = regions.tensor().importance().is_none() && used().all(|scale| scale == largest);
    let (mut normal, mut weights) = (Vec::with_capacity(regions.tensor().len()), Vec::new());
    each_run::<T>(regions, |region, values, importance| {
        let scale = scales.get(region).unwrap_or(0.0);
        if scale == 0.0 || !holds.get(region).is_some_and(|(_, some)| *some) {
            return;
        }
        let (divisor, share) = (T::from_element(scale), T::from_element((scale / largest).powi(2)));
        for (i, &x) in values.iter().enumerate() {
            let x = x / divisor;
            if x.is_finite() {
                normal.push(x);
                if !even {
                    let importance = importance.and_then(|importance| importance.get(i)).copied();
                    weights.push(importance.map_or(share, |importance| importance * share));
                }
            }
        }
    });
    let found = if even { kmeans(&normal, k) } else { kmeans_weighted(&normal, &weights, k) };
    let mut levels = found.map_or_else(|| vec![0.0; k], |found| found.centroids);
    if holds.contains(&(true, false))
        && let Some(nearest) = levels.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs()))
    {
        *nearest = 0.0;
    }
    levels
}

/// Calls `action` for each stretch of neighbouring elements of a region, with their importance if there is any.
fn each_run<T: Real>(regions: &Regions<'_, '_>, mut action: impl FnMut(usize, &[T], Option<&[T]>)) {
    let (tensor, tiling) = (regions.tensor(), regions.tiling());
    let (mut values, mut weights) = (Vec::new(), Vec::new());
    for start in (0..tensor.len()).step_by(tensor.chunk_len()) {
        let range = start..(start + tensor.chunk_len()).min(tensor.len());
        let x = tensor.chunk::<T>(range.clone(), &mut values);
        let importance =
            tensor.importance().map(|weights_of| weights_of.chunk::<T>(range.clone(), &mut weights));
        for (region, run) in tiling.segments(range).flat_map(|segment| segment.runs()) {
            let place = run.start - start..run.end - start;
            let importance = importance.map(|importance| importance.get(place.clone()).unwrap_or_default());
            action(region, x.get(place).unwrap_or_default(), importance);
        }
    }
}

impl Quantizer for KMeans {
    fn scheme(&self) -> Result<Scheme> {
        if self.shared {
            let scheme = LevelScheme::learned(self.bits, self.levels);
            return Ok(scheme.with_scales(self.scales.unwrap_or(FloatType::F32.into())).into());
        }
        if self.scales.is_some() || self.calibration.is_some() {
            let setting = "a scale or calibration";
            return Err(ConfigError::Conflict { setting, to: "codebooks that are not shared" }.into());
        }
        Ok(CodebookScheme::new(self.bits, self.levels).into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        if self.shared {
            let setting = "a codebook shared by all regions";
            return Err(ConfigError::Conflict { setting, to: "a region alone" }.into());
        }
        let found = match region.evidence() {
            Evidence::Values(values) => self.clusters(values, region.importance()),
            Evidence::Histogram(histogram) => self.histogram_clusters(histogram),
        };
        Ok(match found {
            Some(found) => CodebookGrid { levels: found.centroids }.into(),
            // All values were skipped.
            None => scheme.grid(ClippingRange::ZERO, region.index())?.into(),
        })
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        notes: &mut Notes,
    ) -> Result<()> {
        if self.shared {
            return self.fit_shared(regions, scheme, grids, notes);
        }
        for fit in regions.map(|region| self.fit(region, scheme))? {
            grids.push(fit.grid)?;
        }
        Ok(())
    }
}

/// `kmeans(bits=4, levels=f32)`, or `kmeans(bits=4, levels=f32, shared=true, scales=f32, calibration=minmax)`
impl fmt::Display for KMeans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kmeans(bits={}, levels={}", self.bits, self.levels)?;
        if self.shared {
            f.write_str(", shared=true")?;
        }
        // What was set is written even where it does not apply, so that the text tells of it.
        if let Some(scales) = self.scales.or(self.shared.then_some(FloatType::F32.into())) {
            write!(f, ", scales={scales}")?;
        }
        match &self.calibration {
            Some(calibration) => write!(f, ", calibration={calibration})"),
            None if self.shared => write!(f, ", calibration={MinMax})"),
            None => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DataError, Error};
    use crate::granularity::{PerChannel, PerLayer, PerSubChannel};
    use crate::recipe::{QuantizerExt, Recipe};
    use crate::solve::samples::SplitMix64;
    use crate::tensor::{NonFinite, QuantizedTensor, TwoLevel};
    use ndarray::{Array2, ArrayD, Axis, Ix1, Ix2, array};

    fn bits(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    /// The values and weights of `reference/05_kmeans.json` with n values.
    fn numerators(n: i64) -> (ndarray::Array1<f64>, ndarray::Array1<f64>) {
        let x = (0..n).map(|i| ((7919 * i * i + 104_729 * i + 17) % 10_007) as f64 / 10_007.0).collect();
        (x, (0..n).map(|i| (1 + (37 * i) % 11) as f64).collect())
    }

    fn squared_error(q: &QuantizedTensor, x: &ndarray::Array1<f64>, h: Option<&ndarray::Array1<f64>>) -> f64 {
        let restored = q.dequantize::<f64, Ix1>().unwrap();
        (0..x.len()).map(|i| h.map_or(1.0, |h| h[i]) * (x[i] - restored[i]).powi(2)).sum()
    }

    #[test]
    fn codes_cost_what_the_reference_says() {
        // `05_kmeans.json`, K = 2, 4, 8, 16, plain and with weights.
        let best = [
            (64, [1.3151888566483487, 0.298117233288016, 0.06873635827474266, 0.012165781084138363]),
            (200, [3.8677973267037427, 0.9804694259625717, 0.24562455556030702, 0.05372472339001945]),
        ];
        let weighted = [
            (64, [7.516119948384357, 1.835975835259495, 0.3960382545034625, 0.059860509929448365]),
            (200, [22.496724966829216, 5.596186340880395, 1.3717930147217612, 0.2945797069650069]),
        ];
        for ((n, costs), (_, weighted_costs)) in best.into_iter().zip(weighted) {
            let (x, h) = numerators(n);
            for (b, (cost, weighted_cost)) in (1..).zip(costs.into_iter().zip(weighted_costs)) {
                let recipe = Recipe::new(KMeans::new(bits(b)).levels(FloatType::F64));
                let found = squared_error(&recipe.quantize(&x).unwrap(), &x, None);
                assert!((found - cost).abs() <= 1e-12 * cost, "{n} {b}: {found} {cost}");
                let q = recipe.quantize_weighted(&x, &h).unwrap();
                let found = squared_error(&q, &x, Some(&h));
                assert!((found - weighted_cost).abs() <= 1e-12 * weighted_cost, "{n} {b}: {found}");
                // In f32 a level is off by 2^-25 at most, by which the error grows in the square.
                let q = KMeans::new(bits(b)).quantize(&x).unwrap();
                let narrow = squared_error(&q, &x, None);
                assert!(
                    (narrow - cost).abs() <= 1e-12 * cost + n as f64 * 2f64.powi(-50),
                    "{n} {b}: {narrow}"
                );
            }
        }
    }

    #[test]
    fn the_search_alone_gives_the_levels_and_the_error_of_the_codes() {
        let mut random = SplitMix64(3);
        let x = ndarray::Array1::from_shape_simple_fn(3000, || random.normal());
        let method = KMeans::new(bits(3)).levels(FloatType::F64);
        let found = method.clusters(Values::F64(x.as_slice().unwrap()), None).unwrap();
        let q = method.quantize(&x).unwrap();
        let Grids::Codebook(grids) = q.grids() else { panic!("{:?}", q.grids()) };
        assert_eq!(grids.levels().iter().collect::<Vec<_>>(), found.centroids);
        assert!((squared_error(&q, &x, None) / found.squared_error - 1.0).abs() < 1e-12);
        // A value half way has the lower code.
        let recipe = Recipe::new(KMeans::new(bits(1)));
        let frozen = recipe.freeze_from(&array![0.0f32, 2.0]).unwrap();
        assert_eq!(frozen.quantize(&array![1.0f32, 0.9, 1.1]).unwrap().codes().unpack(), [0, 0, 1]);
    }

    #[test]
    fn a_histogram_is_clustered_by_its_bins() {
        let recipe = Recipe::new(KMeans::new(bits(2)));
        let mut random = SplitMix64(8);
        let x = ndarray::Array1::from_shape_simple_fn(20_000, || random.normal() as f32);
        let mut observer = recipe.observer(&[20_000]).unwrap();
        observer.observe(&x).unwrap();
        let restored = recipe.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
        let exact = crate::metrics::sqnr(&x, &restored).unwrap();
        let q = recipe.freeze(&observer).unwrap().quantize(&x).unwrap();
        let binned = crate::metrics::sqnr(&x, &q.dequantize::<f32, Ix1>().unwrap()).unwrap();
        // Some 2048 bins over ±4: cuts and levels are off by a thousandth of a standard deviation.
        assert!(binned <= exact && binned > exact - 0.01);
        // Constant data.
        let mut observer = recipe.observer(&[3]).unwrap();
        observer.observe(&array![2.5f32, 2.5, 2.5]).unwrap();
        let q = recipe.freeze(&observer).unwrap().quantize(&array![2.5f32]).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![2.5]);
    }

    #[test]
    fn few_distinct_values_come_back_exactly() {
        for x in
            [array![0.0f32, 0.0, 0.0], array![1.5, 1.5, 1.5], array![-3.0, 7.0, 0.1], array![2.0, -0.0, 2.0]]
        {
            for method in [KMeans::new(bits(2)), KMeans::new(bits(8)), KMeans::new(bits(16))] {
                assert_eq!(method.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap(), x);
                if x.iter().all(|&value| value == x[0]) {
                    let shared = method.shared().quantize(&x).unwrap();
                    assert_eq!(shared.dequantize::<f32, Ix1>().unwrap(), x);
                }
            }
        }
    }

    #[test]
    fn bad_values() {
        let x = array![[1.0f32, f32::NAN, 3.0], [f32::INFINITY, f32::NAN, f32::NAN]];
        for method in [KMeans::new(bits(1)), KMeans::new(bits(1)).shared()] {
            let recipe = method.granularity(PerChannel::new(Axis(0)));
            let error = recipe.quantize(&x).unwrap_err();
            assert!(matches!(error, Error::Data(DataError::NotANumber { index }) if index == [0, 1]));
            let recipe = recipe.non_finite(NonFinite::NanToZero);
            let q = recipe.quantize(&x).unwrap();
            let restored = q.dequantize::<f32, Ix2>().unwrap();
            assert!(restored.iter().all(|x| x.is_finite()));
            assert_eq!((restored[[0, 0]], restored[[0, 2]]), (1.0, 3.0), "{recipe}");
            assert_eq!(q.notes().len(), 2);
        }
        let error = KMeans::new(bits(1)).levels(FloatType::F16).quantize(&array![1.0f32, 1e6]).unwrap_err();
        assert!(matches!(error, Error::Data(DataError::Level { region: 0, code: 1, .. })), "{error}");
        let empty = KMeans::new(bits(4)).quantize(&ArrayD::<f32>::zeros(vec![0, 3])).unwrap();
        assert!(empty.is_empty());
        let scalar = KMeans::new(bits(4)).shared().quantize(&ndarray::arr0(-4.0f64)).unwrap();
        assert_eq!(scalar.dequantize::<f64, ndarray::Ix0>().unwrap(), ndarray::arr0(-4.0));
    }

    #[test]
    fn settings_that_do_not_apply() {
        let scheme = |text: &str| text.parse::<Recipe>().map(|recipe| recipe.to_string());
        assert!(scheme("kmeans(bits=4, scales=f16)").is_err());
        assert!(scheme("kmeans(bits=4, calibration=mse)").is_err());
        let text = scheme("kmeans(bits=4, shared=true, scales=f16)").unwrap();
        assert!(text.starts_with("kmeans(bits=4, levels=f32, shared=true, scales=f16, calibration=minmax);"));
        assert_eq!(scheme(&text).unwrap(), text);
        assert!(scheme("kmeans(bits=3, levels=bf16)").unwrap().starts_with("kmeans(bits=3, levels=bf16);"));
        let shared = Recipe::new(KMeans::new(bits(4)).shared());
        let region = Region::new(0, Evidence::Values(Values::F32(&[1.0])));
        let error = shared.quantizer().fit(&region, &shared.scheme().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Config(ConfigError::Conflict { .. })));
        let mut observer = shared.observer(&[2]).unwrap();
        observer.observe(&array![1.0f32, 2.0]).unwrap();
        assert!(matches!(shared.freeze(&observer), Err(Error::Config(ConfigError::Conflict { .. }))));
    }

    /// Rows of bell curves of very different spread.
    fn rows(seed: u64) -> Array2<f32> {
        let mut random = SplitMix64(seed);
        Array2::from_shape_fn((24, 200), |(i, _)| (random.normal() * 4f64.powi(i as i32 % 7 - 3)) as f32)
    }

    fn total_error(q: &QuantizedTensor, x: &Array2<f32>) -> f64 {
        let restored = q.dequantize::<f32, Ix2>().unwrap();
        x.iter().zip(&restored).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    }

    #[test]
    fn a_shared_codebook_beats_every_table_under_the_same_scales() {
        let x = rows(5);
        let granularity = || PerSubChannel::new(Axis(0), 50).unwrap();
        let recipe = KMeans::new(bits(4)).shared().granularity(granularity());
        let q = recipe.quantize(&x).unwrap();
        // 16 levels of 32 bits, once; a scale for each 50 elements.
        assert!((q.bits_per_element() - (4.0 + 32.0 / 50.0 + 512.0 / 4800.0)).abs() < 1e-9);
        let shared = total_error(&q, &x);
        // 15 evenly spaced levels under the same scales.
        let uniform = crate::quantizer::Uniform::symmetric(bits(4)).granularity(granularity());
        assert!(shared < total_error(&uniform.quantize(&x).unwrap(), &x));
        // Levels found without the weights S² are worse.
        let Grids::Levels(grids) = q.grids() else { panic!("{:?}", q.grids()) };
        let scales: Vec<f64> = grids.scales().iter().collect();
        let normal: Vec<f32> = x.iter().enumerate().map(|(i, &x)| x / scales[i / 50] as f32).collect();
        let plain = kmeans(&normal, 16).unwrap().centroids;
        let error: f64 = x
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                let errors = plain.iter().map(|level| (f64::from(x) - scales[i / 50] * level).powi(2));
                errors.fold(f64::INFINITY, f64::min)
            })
            .sum();
        assert!(shared < error, "{shared} {error}");
        // A codebook of its own for each row has no scale and is better still.
        let own = KMeans::new(bits(4)).granularity(granularity()).quantize(&x).unwrap();
        assert!(total_error(&own, &x) < shared);
    }

    #[test]
    fn zeros_and_other_scales_under_a_shared_codebook() {
        let mut x = rows(6) * 1e-20;
        x.row_mut(3).fill(0.0);
        for storage in
            [ScaleStorage::from(FloatType::F32), ScaleStorage::TwoLevel(TwoLevel::unsigned(bits(8)))]
        {
            let recipe = KMeans::new(bits(3)).shared().scales(storage).granularity(PerChannel::new(Axis(0)));
            let q = recipe.quantize(&x).unwrap();
            let restored = q.dequantize::<f32, Ix2>().unwrap();
            assert!(restored.row(3).iter().all(|&x| x == 0.0));
            assert_eq!(recipe.quantize(&x.t().to_owned().t()).unwrap(), q);
        }
        // Per layer with one scale it is the codebook itself, up to the rounding of values and levels.
        let x = rows(7);
        let shared = KMeans::new(bits(5)).shared().granularity(PerLayer).quantize(&x).unwrap();
        let own = KMeans::new(bits(5)).quantize(&x).unwrap();
        assert!((total_error(&shared, &x) / total_error(&own, &x) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn importance_weighs_a_shared_codebook() {
        let x = rows(9);
        let mut random = SplitMix64(10);
        let h = Array2::from_shape_simple_fn(x.raw_dim(), || random.uniform().powi(8));
        let recipe = KMeans::new(bits(3)).shared().granularity(PerChannel::new(Axis(0)));
        let error = |q: &QuantizedTensor| -> f64 {
            let restored = q.dequantize::<f32, Ix2>().unwrap();
            (0..24)
                .flat_map(|i| (0..200).map(move |j| [i, j]))
                .map(|at| h[at] * f64::from(x[at] - restored[at]).powi(2))
                .sum()
        };
        let weighted = error(&recipe.quantize_weighted(&x, &h).unwrap());
        assert!(weighted < 0.97 * error(&recipe.quantize(&x).unwrap()));
    }
}
