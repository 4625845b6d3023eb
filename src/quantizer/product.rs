//! Product quantization: codebooks of short vectors.
//!
//! Gong, Liu, Yang and Bourdev 2014, *Compressing Deep Convolutional Networks using Vector Quantization*, section 3.3.1,
//! after Jégou, Douze and Schmid 2011, *Product Quantization for Nearest Neighbor Search*:
//!
//! ```text
//! W = [W¹, …, W^s],      min over c of  Σ_z ‖w_z^i − c^i_{q(z)}‖²      for each sub-space i, over its rows z
//! ```
//!
//! One code stands for `d` neighbouring numbers, so a width of b bits costs b/d bits for each element, and a codebook
//! can follow what the numbers of a row have to do with each other.

use core::fmt;

use crate::bits::BitWidth;
use crate::calibration::{Evidence, Region, Regions, Values};
use crate::element::{FloatType, Real};
use crate::error::{ConfigError, Result};
use crate::granularity::Tiling;
use crate::solve::vector_kmeans::{VectorProblem, vector_kmeans};
use crate::tensor::{ClippingRange, Grids, Notes, Scheme, TensorView, VectorGrid, VectorScheme};

use super::{Fit, Quantizer};

/// A codebook of 2^b vectors for each region, by k-means over vectors of `d` neighbouring elements of the last axis.
///
/// The vectors of a line (along the last axis) begin at its first element. Where `d` does not divide it, the last vector
/// of the line is shorter: it has its share in the first numbers of a vector and none in the others, and decodes to the
/// first numbers of its code's vector. Regions must begin at multiples of `d` along the last axis.
///
/// The seeds are drawn by k-means++ (Arthur and Vassilvitskii 2007) with a seed of one's own, and improved by Lloyd's
/// iteration; the result is a good codebook, not the best of all, which nobody can find. It is never worse than the
/// seeds. It does not depend on the number of threads. With [`Recipe::quantize_weighted`] each element's squared error
/// is weighted, also
/// in the choice of the nearest vector.
///
/// Defaults: vectors in f32, seed 0, 25 iterations at most.
///
/// ```
/// use lowbit::prelude::*;
///
/// // 1024 pairs in each of four sub-spaces, for which Gong et al. have a codebook each: a column of blocks.
/// let weights = ndarray::Array2::from_shape_fn((1024, 8), |(i, j)| ((i * i + 7 * j) as f32 * 0.1).sin());
/// let method = ProductQuantization::new(BitWidth::new(6)?, 2)?;
/// let spaces = method.clone().granularity(Blocks::new([0, 2])).quantize(&weights)?;
/// // 6 bits for two elements, and four codebooks of 64 pairs.
/// assert_eq!(spaces.bits_per_element(), 3.0 + (4.0 * 64.0 * 2.0 * 32.0) / 8192.0);
/// // One codebook for all of them.
/// let one = method.quantize(&weights)?;
/// assert_eq!(one.bits_per_element(), 3.0 + (64.0 * 2.0 * 32.0) / 8192.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// # Errors
///
/// [`ShapeError::Vectors`] for a granularity that ends regions within vectors. It needs values: an observer's
/// histograms are a [`ConfigError::Conflict`]. Codes are those of the nearest vector; other roundings and policies for
/// NaN than [`NonFinite::Error`] and [`NonFinite::NanToZero`] are a conflict too. A vector with a NaN or an infinity is
/// left out of the search.
///
/// # Cost
///
/// For each iteration, `2^b + d` multiplications for each element, in f32 unless the tensor has f64: some 25 ns for each
/// at 256 vectors of 4. Seeds cost about as much as ten iterations on at most 64 · 2^b vectors. Memory: a copy of a
/// region for each thread. Regions are shared out to threads.
///
/// [`Recipe::quantize_weighted`]: crate::Recipe::quantize_weighted
/// [`ShapeError::Vectors`]: crate::ShapeError::Vectors
/// [`NonFinite::Error`]: crate::NonFinite::Error
/// [`NonFinite::NanToZero`]: crate::NonFinite::NanToZero
#[derive(Debug, Clone)]
pub struct ProductQuantization {
    scheme: VectorScheme,
    seed: u64,
    iterations: usize,
}

impl ProductQuantization {
    /// 2^b vectors of `dimension` numbers for each region. The width is that of the code of a whole vector.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] or [`ConfigError::TooLarge`] for vectors of no or more than 1024 numbers.
    pub fn new(bits: BitWidth, dimension: usize) -> Result<Self, ConfigError> {
        let scheme = VectorScheme::new(bits, dimension, FloatType::F32)?;
        Ok(Self { scheme, seed: 0, iterations: 25 })
    }

    /// The storage type of the vectors. A number that it cannot hold is an error.
    pub const fn vectors(mut self, storage: FloatType) -> Self {
        self.scheme = self.scheme.with_storage(storage);
        self
    }

    /// The seed of the generator that draws the first vectors.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Lloyd iterations at most; fewer where nothing changes any more.
    pub const fn iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }

    /// The codebook of lines of `line` values, each with its importance if there is any.
    fn codebook<T: Real>(&self, values: &[T], importance: Option<&[T]>, line: usize) -> Option<VectorGrid> {
        let dimension = self.scheme.dimension();
        let problem = |values, weights| VectorProblem {
            values,
            weights,
            dimension,
            k: self.scheme.bits().levels() as usize,
            seed: self.seed,
            iterations: self.iterations,
        };
        let line = line.max(1);
        let found = if line.is_multiple_of(dimension) {
            vector_kmeans(&problem(values, importance))
        } else {
            // Without any weight all are equal.
            let importance = importance.filter(|all| all.iter().any(|&weight| weight > T::zero()));
            let (mut whole, mut weights) = (Vec::new(), Vec::new());
            let missing = dimension - line % dimension;
            for (row, x) in values.chunks(line).enumerate() {
                whole.extend_from_slice(x);
                whole.extend(core::iter::repeat_n(T::zero(), missing));
                match importance.and_then(|all| all.get(row * line..row * line + x.len())) {
                    Some(importance) => weights.extend_from_slice(importance),
                    None => weights.extend(core::iter::repeat_n(T::one(), x.len())),
                }
                weights.extend(core::iter::repeat_n(T::zero(), missing));
            }
            vector_kmeans(&problem(&whole, Some(&weights)))
        };
        Some(VectorGrid { vectors: found?.centroids })
    }

    /// The grid of a region of lines of `line` values.
    fn fit_lines(&self, region: &Region<'_>, scheme: &Scheme, line: usize) -> Result<Fit> {
        let Evidence::Values(values) = region.evidence() else {
            return Err(ConfigError::Conflict { setting: "a histogram", to: "codebooks of vectors" }.into());
        };
        let found = match (values, region.importance()) {
            (Values::F32(x), Some(Values::F32(h))) => self.codebook(x, Some(h), line),
            (Values::F64(x), Some(Values::F64(h))) => self.codebook(x, Some(h), line),
            (Values::F32(x), _) => self.codebook(x, None, line),
            (Values::F64(x), _) => self.codebook(x, None, line),
        };
        Ok(match found {
            Some(grid) => grid.into(),
            // All values were skipped.
            None => scheme.grid(ClippingRange::ZERO, region.index())?.into(),
        })
    }
}

/// The length of the lines of region `region` along the last axis. Where they differ, whole vectors make up all of them.
fn line_length(tiling: &Tiling, region: usize) -> usize {
    let axis = tiling.shape().last().copied().unwrap_or(1).max(1);
    let first = tiling.region_runs(region).into_iter().next();
    first.map_or(axis, |run| run.len().min(axis - run.start % axis))
}

/// All values of a region with their importance, also those that are not finite: each is where its line has it.
fn all_values<T: Real>(regions: &Regions<'_, '_>, region: usize) -> (Vec<T>, Option<Vec<T>>) {
    let gather = |tensor: &TensorView<'_>| {
        let (mut values, mut chunk) = (Vec::new(), Vec::new());
        for run in regions.tiling().region_runs(region) {
            values.extend_from_slice(tensor.chunk::<T>(run, &mut chunk));
        }
        values
    };
    (gather(regions.tensor()), regions.tensor().importance().map(gather))
}

impl Quantizer for ProductQuantization {
    fn scheme(&self) -> Result<Scheme> {
        Ok(self.scheme.into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    /// The values of the region are taken for one line.
    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        self.fit_lines(region, scheme, usize::try_from(region.evidence().count()).unwrap_or(usize::MAX))
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        _notes: &mut Notes,
    ) -> Result<()> {
        let tiling = regions.tiling();
        // Regions that end within vectors have no lines of vectors.
        self.scheme.places(tiling)?;
        let fits = regions.map(|region| {
            let (index, evidence) = (region.index(), region.evidence());
            let line = line_length(tiling, index);
            let whole = evidence.count() == tiling.region_len(index) as u64;
            match evidence {
                Evidence::Values(Values::F32(_)) if !whole => {
                    let (values, importance) = all_values::<f32>(regions, index);
                    let all = Region::new(index, Values::F32(&values).into());
                    let weigh = |weights| all.with_importance(Values::F32(weights));
                    self.fit_lines(&importance.as_deref().map_or(all, weigh), scheme, line)
                }
                Evidence::Values(Values::F64(_)) if !whole => {
                    let (values, importance) = all_values::<f64>(regions, index);
                    let all = Region::new(index, Values::F64(&values).into());
                    let weigh = |weights| all.with_importance(Values::F64(weights));
                    self.fit_lines(&importance.as_deref().map_or(all, weigh), scheme, line)
                }
                _ => self.fit_lines(region, scheme, line),
            }
        })?;
        for fit in fits {
            grids.push(fit.grid)?;
        }
        Ok(())
    }
}

/// `product-quantization(bits=8, dimension=4, vectors=f32, seed=0, iterations=25)`
impl fmt::Display for ProductQuantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, seed, iterations } = self;
        let (bits, dimension, storage) = (scheme.bits(), scheme.dimension(), scheme.storage());
        write!(f, "product-quantization(bits={bits}, dimension={dimension}, vectors={storage}, ")?;
        write!(f, "seed={seed}, iterations={iterations})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DataError, Error, ShapeError};
    use crate::granularity::{Blocks, PerChannel, PerSubChannel};
    use crate::quantizer::KMeans;
    use crate::recipe::{QuantizerExt, Recipe};
    use crate::solve::samples::SplitMix64;
    use crate::tensor::{NonFinite, QuantizedTensor};
    use ndarray::{Array2, Array3, Axis, Ix1, Ix2, Ix3, array};

    fn method(bits: u32, dimension: usize) -> ProductQuantization {
        ProductQuantization::new(BitWidth::new(bits).unwrap(), dimension).unwrap()
    }

    fn bell(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = SplitMix64(seed);
        Array2::from_shape_simple_fn((rows, columns), || random.normal() as f32)
    }

    fn error(q: &QuantizedTensor, x: &Array2<f32>) -> f64 {
        let restored = q.dequantize::<f32, Ix2>().unwrap();
        x.iter().zip(&restored).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    }

    #[test]
    fn every_vector_has_the_code_of_the_nearest() {
        for (columns, dimension) in [(12, 4), (13, 4), (7, 3), (2, 5), (9, 1)] {
            let x = bell(60, columns, 1);
            let q = method(3, dimension).quantize(&x).unwrap();
            let Grids::VectorCodebook(grids) = q.grids() else { panic!("{:?}", q.grids()) };
            let vectors: Vec<f64> = grids.vectors().iter().collect();
            let mut total = 0.0;
            let mut codes = q.codes().unpack().into_iter();
            for row in x.rows() {
                for x in row.to_vec().chunks(dimension) {
                    let distance = |c: &[f64]| -> f64 {
                        x.iter().zip(c).map(|(&x, c)| (f64::from(x) - c).powi(2)).sum()
                    };
                    let distances: Vec<f64> = vectors.chunks(dimension).map(distance).collect();
                    let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
                    let code = codes.next().unwrap() as usize;
                    // Distances in f32.
                    assert!(distances[code] <= least + 1e-5, "{columns} {dimension}");
                    total += distances[code];
                }
            }
            assert_eq!(codes.next(), None);
            assert!((error(&q, &x) - total).abs() <= 1e-5 * total);
            // Nor do the codebooks know more than the lines: each short vector counts in its numbers alone.
            let lines = line_length(q.tiling(), 0);
            assert_eq!(lines, columns);
        }
    }

    #[test]
    fn few_vectors_come_back_exactly_also_short_ones() {
        // Lines of 2 + 1 numbers, four different vectors in all.
        let x = array![[1.0f32, 2.0, 5.0], [3.0, 4.0, 7.0], [1.0, 2.0, 7.0], [3.0, 4.0, 5.0]];
        let q = method(2, 2).quantize(&x).unwrap();
        assert_eq!(q.dequantize::<f32, Ix2>().unwrap(), x);
        assert_eq!(q.codes().len(), 8);
        for x in [array![[0.0f32, 0.0]], array![[2.5, 2.5]], array![[1.0, -1.0]]] {
            let q = method(4, 2).quantize(&x).unwrap();
            assert_eq!(q.dequantize::<f32, Ix2>().unwrap(), x);
        }
        let empty = method(4, 2).quantize(&Array2::<f64>::zeros((3, 0))).unwrap();
        assert!(empty.is_empty());
        let scalar = method(4, 2).quantize(&ndarray::arr0(3.0f64)).unwrap();
        assert_eq!(scalar.dequantize::<f64, ndarray::Ix0>().unwrap(), ndarray::arr0(3.0));
    }

    /// The least error of any division of the vectors into two groups.
    fn best_pair(vectors: &[[f64; 2]]) -> f64 {
        let spread = |group: &[[f64; 2]]| -> f64 {
            let n = group.len().max(1) as f64;
            let mean = [0, 1].map(|t| group.iter().map(|v| v[t]).sum::<f64>() / n);
            group.iter().map(|v| (v[0] - mean[0]).powi(2) + (v[1] - mean[1]).powi(2)).sum()
        };
        (0..1u32 << vectors.len())
            .map(|mask| {
                let group = |bit: u32| -> Vec<[f64; 2]> {
                    vectors
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| mask >> i & 1 == bit)
                        .map(|(_, v)| *v)
                        .collect()
                };
                spread(&group(0)) + spread(&group(1))
            })
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn tiny_problems_come_near_the_best_and_more_iterations_never_cost() {
        for problem in 0..20 {
            let x = bell(9, 2, problem);
            let vectors: Vec<[f64; 2]> =
                x.rows().into_iter().map(|row| [row[0].into(), row[1].into()]).collect();
            let best = best_pair(&vectors);
            let found = |seed| {
                let found = error(&method(1, 2).seed(seed).quantize(&x).unwrap(), &x);
                let seeds = error(&method(1, 2).seed(seed).iterations(0).quantize(&x).unwrap(), &x);
                assert!(found >= best * (1.0 - 1e-6) && found <= seeds * (1.0 + 1e-6), "{best} {found}");
                found
            };
            // One seed may end in a local minimum, but not every one of ten.
            let least = (0..10).map(found).fold(f64::INFINITY, f64::min);
            assert!(least <= best * (1.0 + 1e-6), "{problem}: {least} {best}");
        }
    }

    #[test]
    fn vectors_beat_scalars_at_the_same_size() {
        // Neighbours that go together, as those of convolutions do.
        let mut random = SplitMix64(4);
        let mut last = 0.0;
        let x = Array2::from_shape_simple_fn((256, 128), || {
            last = 0.8 * last + 0.6 * random.normal();
            last as f32
        });
        for x in [x, bell(256, 128, 5)] {
            let scalar = KMeans::new(BitWidth::new(2).unwrap()).quantize(&x).unwrap();
            let q = method(4, 2).quantize(&x).unwrap();
            // The codebook of 32 numbers is 28 more than that of scalars: 0.03 bits, worth 0.2 dB.
            assert!(q.bits_per_element() < scalar.bits_per_element() + 0.03);
            assert!(error(&q, &x) < 0.955 * error(&scalar, &x), "{} {}", error(&q, &x), error(&scalar, &x));
        }
    }

    #[test]
    fn sub_spaces_have_codebooks_of_their_own() {
        // Columns 0 to 3 and 4 to 6 have nothing in common.
        let mut x = bell(100, 7, 6);
        x.slice_mut(ndarray::s![.., 4..]).mapv_inplace(|x| 100.0 + 1e-2 * x);
        let recipe = method(4, 2).granularity(Blocks::new([0, 4]));
        let q = recipe.quantize(&x).unwrap();
        assert_eq!(q.grids().len(), 2);
        assert!(error(&q, &x) < error(&method(4, 2).quantize(&x).unwrap(), &x));
        // Every layout gives the same.
        let transposed = x.t().as_standard_layout().into_owned();
        assert_eq!(recipe.quantize(&transposed.t()).unwrap(), q);
        let cube = Array3::from_shape_fn((4, 25, 7), |(i, j, k)| x[[25 * i + j, k]]);
        let again = method(4, 2).granularity(Blocks::new([0, 0, 4])).quantize(&cube).unwrap();
        assert_eq!(
            again.dequantize::<f32, Ix3>().unwrap().into_raw_vec_and_offset(),
            q.dequantize::<f32, Ix2>().unwrap().into_raw_vec_and_offset()
        );
        let cut = method(4, 2).granularity(Blocks::new([0, 3])).quantize(&x).unwrap_err();
        assert!(matches!(cut, Error::Shape(ShapeError::Vectors { block: 3, dimension: 2 })));
        let flat = method(4, 2).granularity(PerSubChannel::new(Axis(0), 9).unwrap());
        assert!(matches!(flat.quantize(&cube).unwrap_err(), Error::Shape(ShapeError::Vectors { .. })));
    }

    #[test]
    fn the_default_fit_of_one_line_is_that_of_all() {
        let x = bell(5, 64, 7);
        let recipe = method(3, 4).granularity(PerChannel::new(Axis(0)));
        let q = recipe.quantize(&x).unwrap();
        let scheme = recipe.scheme().unwrap();
        for (i, row) in x.rows().into_iter().enumerate() {
            let region = Region::new(i, Values::F32(row.as_slice().unwrap()).into());
            let mut grids = Grids::new(&scheme);
            grids.push(method(3, 4).fit(&region, &scheme).unwrap().grid).unwrap();
            assert_eq!(grids.get(0), q.grids().get(i));
        }
    }

    #[test]
    fn importance_and_bad_values() {
        let x = bell(80, 5, 8);
        let mut random = SplitMix64(9);
        let h = Array2::from_shape_simple_fn(x.raw_dim(), || random.uniform().powi(8));
        let recipe = Recipe::new(method(3, 2));
        let error = |q: &QuantizedTensor| -> f64 {
            let restored = q.dequantize::<f32, Ix2>().unwrap();
            let all = x.iter().zip(&restored).zip(&h);
            all.map(|((x, y), h)| h * f64::from(x - y).powi(2)).sum()
        };
        assert!(error(&recipe.quantize_weighted(&x, &h).unwrap()) < error(&recipe.quantize(&x).unwrap()));
        assert_eq!(
            recipe.quantize_weighted(&x, &h.mapv(|_| 0.0)).unwrap().grids(),
            recipe.quantize(&x).unwrap().grids()
        );
        // A NaN in the second line takes its own vector out, and moves no other.
        let mut bad =
            array![[1.0f32, 2.0, 5.0], [f32::NAN, 4.0, 7.0], [1.0, 2.0, 7.0], [f32::INFINITY, 4.0, 5.0]];
        let error = recipe.quantize(&bad).unwrap_err();
        assert!(matches!(error, Error::Data(DataError::NotANumber { index }) if index == [1, 0]));
        let q = recipe.clone().non_finite(NonFinite::NanToZero).quantize(&bad).unwrap();
        let restored = q.dequantize::<f32, Ix2>().unwrap();
        for at in [[0, 0], [0, 1], [0, 2], [1, 2], [2, 0], [2, 2], [3, 2]] {
            // Centroids are found about the mean, in f32.
            assert!((restored[at] - bad[at]).abs() <= 4.0 * f32::EPSILON, "{restored}");
        }
        bad.fill(f32::NAN);
        let q = recipe.clone().non_finite(NonFinite::NanToZero).quantize(&bad).unwrap();
        assert_eq!(q.dequantize::<f32, Ix2>().unwrap(), Array2::<f32>::zeros((4, 3)));
        assert!(recipe.clone().non_finite(NonFinite::NanToLowest).quantize(&x).is_err());
        let mut observer = recipe.observer(&[80, 5]).unwrap();
        observer.observe(&x).unwrap();
        assert!(matches!(recipe.freeze(&observer), Err(Error::Config(ConfigError::Conflict { .. }))));
        let error = method(1, 1).vectors(FloatType::F16).quantize(&array![1.0f32, 1e6]).unwrap_err();
        assert!(matches!(error, Error::Data(DataError::Level { region: 0, .. })), "{error}");
    }

    #[test]
    fn the_text_form_and_the_seed() {
        let text = "product-quantization(bits=6, dimension=3, vectors=f16, seed=9, iterations=4)";
        let recipe: Recipe = text.parse().unwrap();
        assert!(recipe.to_string().starts_with(text));
        assert!("product-quantization(bits=6)".parse::<Recipe>().is_err());
        assert!("product-quantization(dimension=0)".parse::<Recipe>().is_err());
        let x = bell(200, 6, 10).into_shape_with_order(1200).unwrap();
        let codes = |seed| method(4, 3).seed(seed).quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
        assert_eq!(codes(1), codes(1));
        assert_ne!(codes(1), codes(2));
    }
}
