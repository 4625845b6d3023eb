//! HQQ: the zero point that suits a heavy-tailed error best, without data.
//!
//! Hicham Badri and Appu Shaji 2023, *Half-quadratic quantization of large machine learning models*:
//!
//! ```text
//! min_z φ(W − Q⁻¹_z(Q_z(W))),   φ(e) = Σ |e|^p,  p < 1
//! ```
//!
//! split in two by W_e, which stands for the error (half-quadratic), and solved in turns with a β that grows by κ:
//!
//! ```text
//! W_e ← shrink(W − Q⁻¹(Q(W)), β) = sign(x) max(|x| − |x|^(p−1)/β, 0)
//! z   ← mean(Q(W) − (W − W_e)/S)
//! β   ← κ β
//! ```
//!
//! Q(W) are the codes `clamp(round(W/S + z))` and `Q⁻¹(q) = S (q − z)`. (The authors' code stores 1/S and calls it the
//! scale.) The scale stays that of minimum and maximum. As in the authors' code the turns end early when the mean
//! magnitude of the error no longer falls.

use core::fmt;

use ndarray::{ArrayRef, Dimension};

use crate::bits::BitWidth;
use crate::calibration::{Evidence, Region, Regions};
use crate::element::{Element, FloatType};
use crate::error::{ConfigError, ParseError, Result};
use crate::granularity::Granularity;
use crate::tensor::{
    AffineGrid, AffineScheme, ClippingRange, CodeRange, NonFinite, ScaleOverflow, Scheme, TensorView,
};
use crate::text::{Arguments, number};

use super::{Fit, Quantizer};

/// Half-quadratic quantization: a uniform grid with a real zero point.
///
/// Of all zero points on the way, the first one (of minimum and maximum) among them, the one of least `Σ|e|^p` is kept:
/// the result is never worse than [`Uniform::asymmetric_real`](super::Uniform::asymmetric_real) on this objective.
/// [`report`](Self::report) says how much better it is, and how many regions gained nothing.
///
/// The defaults are the authors': p = 0.7, β = 10, κ = 1.01, 20 turns, f32 scales. β is in units of the weights: errors
/// below `β^(−1/(2−p))`, which is 0.17 for the defaults, are shrunk to zero, so that for small weights z is found by the
/// mean of all errors.
///
/// Time: for each turn one power for each value; memory of a copy of one region for each thread.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::quantizer::Hqq;
///
/// let weights = ndarray::Array2::from_shape_fn((16, 128), |(i, j)| ((i * 128 + j * j) as f32).sin().powi(5));
/// let recipe = Hqq::new(BitWidth::new(3)?).granularity(PerSubChannel::new(Axis(0), 64)?);
/// let q = recipe.quantize(&weights)?;
/// // 3 bits of code, a scale and a zero point of 32 bits for every 64 weights.
/// assert_eq!(q.bits_per_element(), 4.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hqq {
    bits: BitWidth,
    scales: FloatType,
    norm: f64,
    beta: f64,
    kappa: f64,
    turns: usize,
}

impl Hqq {
    /// With the defaults.
    pub const fn new(bits: BitWidth) -> Self {
        Self { bits, scales: FloatType::F32, norm: 0.7, beta: 10.0, kappa: 1.01, turns: 20 }
    }

    /// The storage type of scales and zero points.
    pub const fn scales(mut self, storage: FloatType) -> Self {
        self.scales = storage;
        self
    }

    /// The exponent p of the objective.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless it is above 0 and at most 1.
    pub fn norm(mut self, p: f64) -> Result<Self, ConfigError> {
        if !(p > 0.0 && p <= 1.0) {
            let rule = "above 0 and at most 1";
            return Err(ConfigError::Number { what: "the exponent of the objective", value: p, rule });
        }
        self.norm = p;
        Ok(self)
    }

    /// The weight β of the quadratic term at first, and the factor κ by which it grows at each turn.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless both are positive and finite.
    pub fn penalty(mut self, beta: f64, kappa: f64) -> Result<Self, ConfigError> {
        for (what, value) in [("beta", beta), ("kappa", kappa)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ConfigError::Number { what, value, rule: "positive and finite" });
            }
        }
        (self.beta, self.kappa) = (beta, kappa);
        Ok(self)
    }

    /// The most turns.
    pub const fn turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    /// Reads the arguments of the text form.
    pub(crate) fn read(mut arguments: Arguments<'_>) -> Result<Self, ParseError> {
        let mut hqq = Self::new(arguments.parse("bits")?.unwrap_or(BitWidth::EIGHT));
        if let Some(storage) = arguments.parse("scales")? {
            hqq = hqq.scales(storage);
        }
        if let Some(norm) = arguments.optional("norm") {
            hqq = hqq.norm(number("exponent", norm)?)?;
        }
        let mut real = |name, default| match arguments.optional(name) {
            Some(text) => number(name, text),
            None => Ok(default),
        };
        let (beta, kappa) = (real("beta", hqq.beta)?, real("kappa", hqq.kappa)?);
        hqq = hqq.penalty(beta, kappa)?;
        if let Some(turns) = arguments.optional("turns") {
            hqq = hqq.turns(number("number of turns", turns)?);
        }
        arguments.finish()?;
        Ok(hqq)
    }

    /// What the search gains over the zero points of minimum and maximum, on a tensor cut into regions by `granularity`.
    ///
    /// Time that of quantizing the tensor once more; nothing is encoded.
    ///
    /// ```
    /// use lowbit::prelude::*;
    /// use lowbit::quantizer::Hqq;
    ///
    /// let weights = ndarray::Array2::from_shape_fn((16, 128), |(i, j)| ((i * 128 + j * j) as f32).sin().powi(5));
    /// let report = Hqq::new(BitWidth::new(3)?).report(&weights, &PerChannel::new(Axis(0)))?;
    /// assert!(report.after < report.before && report.regions == 16);
    /// println!("{report}");
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of quantizing the tensor: [`DataError`](crate::DataError) for values that are not finite, or whose scale the
    /// storage type cannot hold, and [`ShapeError`](crate::ShapeError) where the granularity does not fit the shape.
    pub fn report<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        granularity: &(impl Granularity + ?Sized),
    ) -> Result<HqqReport> {
        let scheme = self.affine()?;
        let tiling = granularity.tiling(tensor.shape())?;
        let tensor = TensorView::new(tensor);
        let searches =
            Regions::new(&tensor, &tiling, NonFinite::Error).map(|region| self.search(region, &scheme))?;
        let mut report = HqqReport { before: 0.0, after: 0.0, regions: searches.len(), regions_kept: 0 };
        for Search { start, before, grid, after } in searches {
            report.before += before;
            report.after += after;
            report.regions_kept += usize::from(grid == start);
        }
        Ok(report)
    }

    fn affine(&self) -> Result<AffineScheme> {
        let scheme = AffineScheme::asymmetric_real(self.bits, CodeRange::unsigned(self.bits))?;
        Ok(scheme.with_storage(self.scales, ScaleOverflow::Error))
    }

    /// The search in one region.
    fn search(&self, region: &Region<'_>, affine: &AffineScheme) -> Result<Search> {
        let Some((low, high)) = region.evidence().min_max() else {
            let start = affine.grid(ClippingRange::ZERO, region.index())?;
            return Ok(Search { start, before: 0.0, grid: start, after: 0.0 });
        };
        let start = affine.grid(ClippingRange::new(low, high)?, region.index())?;
        let samples = Samples::of(region.evidence());
        let mut best = Search { start, before: f64::INFINITY, grid: start, after: f64::INFINITY };
        let (mut grid, mut beta, mut last) = (start, self.beta, f64::INFINITY);
        // A constant is a level already. The last pass is for the objective of the last zero point alone.
        let turns = if low == high { 0 } else { self.turns };
        for turn in 0..=turns {
            let (objective, magnitude, zero) = self.pass(&samples, grid, affine.codes(), beta);
            if turn == 0 {
                best.before = objective;
            }
            if objective < best.after {
                (best.grid, best.after) = (grid, objective);
            }
            let zero_point = affine.zero_point_storage().round(zero);
            // Levels beyond the largest number would be no values.
            let reach = [affine.codes().min(), affine.codes().max()]
                .map(|q| grid.scale * (f64::from(q) - zero_point));
            let limit = affine.scales().arithmetic().max_value();
            // Written so that NaN stops.
            if !(magnitude < last && reach.iter().all(|level| level.abs() <= limit)) {
                break;
            }
            last = magnitude;
            grid.zero_point = zero_point;
            beta *= self.kappa;
        }
        Ok(best)
    }

    /// One pass over values, each as many times as its weight says: `Σ|e|^p` of the grid, the mean magnitude of its
    /// errors, and the next zero point.
    fn pass(&self, samples: &Samples, grid: AffineGrid, codes: CodeRange, beta: f64) -> (f64, f64, f64) {
        let (q_min, q_max) = (f64::from(codes.min()), f64::from(codes.max()));
        // Below this the shrunk error is zero.
        let threshold = beta.powf(-1.0 / (2.0 - self.norm));
        let (mut objective, mut magnitude, mut zero, mut count) = (0.0, 0.0, 0.0, 0.0);
        samples.each(|value, weight| {
            let q = (value / grid.scale + grid.zero_point).round_ties_even().clamp(q_min, q_max);
            let error = value - grid.scale * (q - grid.zero_point);
            let size = error.abs();
            let power = size.powf(self.norm);
            let shrunk =
                if size <= threshold { 0.0 } else { (size - power / size / beta).max(0.0).copysign(error) };
            objective += weight * power;
            magnitude += weight * size;
            zero += weight * (q - (value - shrunk) / grid.scale);
            count += weight;
        });
        (objective, magnitude / count, zero / count)
    }
}

/// What [`Hqq`] gains over its start, the zero points of minimum and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HqqReport {
    /// `Σ|e|^p` over all regions with the zero points of minimum and maximum.
    pub before: f64,
    /// The same with those that were chosen: never larger, in no region.
    pub after: f64,
    /// Regions of the tensor.
    pub regions: usize,
    /// Regions that kept the zero point of minimum and maximum, because no other was better.
    pub regions_kept: usize,
}

/// `objective 12.46 to 10.71 (86.0 %); 3 of 16 regions kept`
impl fmt::Display for HqqReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, regions, regions_kept } = *self;
        write!(f, "objective {before:.4} to {after:.4}")?;
        if before > 0.0 {
            write!(f, " ({:.1} %)", 100.0 * after / before)?;
        }
        write!(f, "; {regions_kept} of {regions} regions kept")
    }
}

/// The grid of minimum and maximum and the best one, each with its `Σ|e|^p`.
struct Search {
    start: AffineGrid,
    before: f64,
    grid: AffineGrid,
    after: f64,
}

/// The values of a region, or the bins of its histogram.
enum Samples {
    Values(Vec<f64>),
    Bins(Vec<(f64, f64)>),
}

impl Samples {
    fn of(evidence: Evidence<'_>) -> Self {
        match evidence {
            Evidence::Values(values) => Self::Values(values.iter().collect()),
            Evidence::Histogram(histogram) => {
                let bins = histogram.counts().iter().enumerate().filter(|&(_, &count)| count > 0);
                Self::Bins(bins.map(|(bin, &count)| (histogram.center(bin), count as f64)).collect())
            }
        }
    }

    fn each(&self, mut visit: impl FnMut(f64, f64)) {
        match self {
            Self::Values(values) => values.iter().for_each(|&value| visit(value, 1.0)),
            Self::Bins(bins) => bins.iter().for_each(|&(value, count)| visit(value, count)),
        }
    }
}

impl Quantizer for Hqq {
    fn scheme(&self) -> Result<Scheme> {
        Ok(self.affine()?.into())
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        let Scheme::Affine(affine) = scheme else {
            return Err(ConfigError::Conflict { setting: "hqq", to: "a scheme that is not uniform" }.into());
        };
        Ok(self.search(region, affine)?.grid.into())
    }
}

/// `hqq(bits=4, scales=f32, norm=0.7, beta=10, kappa=1.01, turns=20)`
impl fmt::Display for Hqq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, scales, norm, beta, kappa, turns } = self;
        write!(f, "hqq(bits={bits}, scales={scales}, norm={norm}, beta={beta}, kappa={kappa}, turns={turns})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use crate::tensor::Grid;
    use ndarray::{Array2, Ix2, array};
    use proptest::prelude::*;

    /// Σ|e|^p by row.
    fn objectives(w: &Array2<f64>, recipe: &Recipe, p: f64) -> Vec<f64> {
        let restored = recipe.quantize(w).unwrap().dequantize::<f64, Ix2>().unwrap();
        (w - &restored).outer_iter().map(|row| row.mapv(|e| e.abs().powf(p)).sum()).collect()
    }

    fn both(bits: u32, p: f64) -> [Recipe; 2] {
        let bits = BitWidth::new(bits).unwrap();
        let rows = || PerChannel::new(Axis(0));
        let f64s = crate::FloatType::F64;
        [
            Hqq::new(bits).norm(p).unwrap().scales(f64s).granularity(rows()),
            Uniform::asymmetric_real(bits).scales(f64s).granularity(rows()),
        ]
    }

    fn weights(seed: u64, scale: f64) -> Array2<f64> {
        let mut random = SplitMix64(seed);
        Array2::from_shape_simple_fn((8, 64), || scale * random.laplace())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

        #[test]
        fn never_worse_than_its_start(seed: u64, bits in 1u32..6, p in 0.3..1.0f64, scale in -8..8i32) {
            let w = weights(seed, f64::from(scale).exp2());
            let [hqq, start] = both(bits, p);
            for (hqq, start) in objectives(&w, &hqq, p).into_iter().zip(objectives(&w, &start, p)) {
                prop_assert!(hqq <= start * (1.0 + 1e-12), "{hqq} {start}");
            }
        }
    }

    /// The zero points of the authors' algorithm, in their variables (1/S, ascending β, f64), by a transcription in
    /// another language: at first and after 1, 2 and 20 turns, with Σ|e|^0.7.
    #[test]
    fn zero_points_of_the_published_algorithm() {
        let mut random = SplitMix64(63);
        let w = Array2::from_shape_simple_fn((1, 32), || random.normal().powi(3));
        let scale = w.fold(f64::NEG_INFINITY, |m, &x| m.max(x)) - w.fold(f64::INFINITY, |m, &x| m.min(x));
        for (turns, zero_point, objective) in [
            (0, 4.827938164750214, 12.462909608484992),
            (1, 4.860642134993869, 12.15119351706714),
            (2, 4.890464821902544, 11.73877943408461),
            (20, 4.965648731451717, 10.713106756101437),
        ] {
            let hqq = Hqq::new(BitWidth::new(3).unwrap()).scales(crate::FloatType::F64).turns(turns);
            let Some(Grid::Affine(grid)) = hqq.quantize(&w).unwrap().grid(0) else {
                panic!("a uniform grid")
            };
            assert!((grid.scale / (scale / 7.0) - 1.0).abs() < 1e-15);
            assert!((grid.zero_point - zero_point).abs() < 1e-12, "{turns}: {}", grid.zero_point);
            let found = objectives(&w, &hqq.granularity(PerLayer), 0.7)[0];
            // An error of 1e-15, where a value is on a level but for rounding, counts 3e-11.
            assert!((found / objective - 1.0).abs() < 1e-11, "{turns}: {found}");
        }
    }

    /// The report against objectives of the restored tensors; rows on their levels already have nothing to gain.
    #[test]
    fn the_report_counts_what_gained_nothing() {
        let (rows, p) = (PerChannel::new(Axis(0)), 0.7);
        let mut w = weights(64, 1.0);
        w.row_mut(2).fill(0.0);
        w.row_mut(5).fill(-3.25);
        w.row_mut(6).indexed_iter_mut().for_each(|(j, w)| *w = (j % 8) as f64);
        let [hqq, start] = both(3, p);
        let (after, before) = (objectives(&w, &hqq, p), objectives(&w, &start, p));
        let report = Hqq::new(BitWidth::new(3).unwrap())
            .norm(p)
            .unwrap()
            .scales(crate::FloatType::F64)
            .report(&w, &rows);
        let report = report.unwrap();
        let total = |objectives: &[f64]| objectives.iter().sum::<f64>();
        assert!((report.before / total(&before) - 1.0).abs() < 1e-9, "{report} {before:?}");
        assert!((report.after / total(&after) - 1.0).abs() < 1e-9, "{report} {after:?}");
        let kept = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        assert_eq!((report.regions, report.regions_kept), (8, kept));
        assert!((3..8).contains(&kept), "{report}");
        assert!(report.to_string().ends_with(&format!("; {kept} of 8 regions kept")));
        // Without turns everything is kept.
        let none = Hqq::new(BitWidth::new(3).unwrap()).turns(0).report(&w, &rows).unwrap();
        assert_eq!((none.regions_kept, none.before), (8, none.after));
        let empty = Hqq::new(BitWidth::new(3).unwrap()).report(&Array2::<f32>::zeros((0, 3)), &rows).unwrap();
        assert_eq!((empty.before, empty.after, empty.regions_kept), (0.0, 0.0, empty.regions));
        assert!(Hqq::new(BitWidth::new(3).unwrap()).report(&array![[1.0, f32::NAN]], &rows).is_err());
    }

    #[test]
    fn most_rows_gain() {
        let w = weights(61, 1.0);
        for (bits, gain) in [(2, 0.95), (3, 0.98), (4, 0.94)] {
            let [hqq, start] = both(bits, 0.7).map(|recipe| objectives(&w, &recipe, 0.7).iter().sum::<f64>());
            assert!(hqq < gain * start, "{bits} bits: {hqq} of {start}");
        }
    }

    #[test]
    fn constants_zeros_and_summaries() {
        let hqq = Hqq::new(BitWidth::new(2).unwrap());
        for w in [array![[0.0, 0.0]], array![[3.0, 3.0]], array![[-7.5, -7.5]]] {
            assert_eq!(hqq.quantize(&w).unwrap().dequantize::<f64, Ix2>().unwrap(), w);
        }
        assert!(hqq.quantize(&array![[f32::NAN]]).is_err());
        assert_eq!(hqq.quantize(&Array2::<f32>::zeros((0, 3))).unwrap().len(), 0);
        // From a histogram: near what the values give.
        let w = weights(62, 1.0);
        let recipe = hqq.scales(crate::FloatType::F64).granularity(PerLayer);
        let mut observer = recipe.observer(&[8, 64]).unwrap();
        observer.observe(&w).unwrap();
        let frozen = recipe.freeze(&observer).unwrap();
        let grid = |grid| match grid {
            Some(Grid::Affine(grid)) => grid,
            other => panic!("{other:?}"),
        };
        let (by_values, by_bins) =
            (grid(recipe.quantize(&w).unwrap().grid(0)), grid(frozen.quantize(&w).unwrap().grid(0)));
        assert_eq!(by_values.scale, by_bins.scale);
        assert!((by_values.zero_point - by_bins.zero_point).abs() < 0.02, "{by_values:?} {by_bins:?}");
    }

    #[test]
    fn text_form_and_bad_settings() {
        let hqq = Hqq::new(BitWidth::new(3).unwrap()).norm(0.5).unwrap().penalty(1e4, 1.05).unwrap().turns(7);
        let recipe = Recipe::new(hqq.scales(crate::FloatType::F16));
        let text = recipe.to_string();
        assert!(text.starts_with("hqq(bits=3, scales=f16, norm=0.5, beta=10000, kappa=1.05, turns=7);"));
        assert_eq!(text.parse::<Recipe>().unwrap().to_string(), text);
        assert!(
            "hqq(bits=4)".parse::<Recipe>().unwrap().to_string().contains("norm=0.7, beta=10, kappa=1.01")
        );
        for bad in
            ["hqq(norm=0)", "hqq(norm=1.5)", "hqq(beta=-1)", "hqq(kappa=NaN)", "hqq(turns=x)", "hqq(q=1)"]
        {
            assert!(bad.parse::<Recipe>().is_err(), "{bad}");
        }
    }
}
