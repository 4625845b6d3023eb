//! The scale of a block of values as a multiple of an outer scale: the multiple of least squared error.
//!
//! ```text
//! E(j) = Σᵢ (xᵢ − s · l(xᵢ / s))²,   s = outer · j,   j = ±1, ±2, ..., ±M,   l the level nearest to its argument
//! ```
//!
//! E has a minimum in nearly every place where some value changes its level, so every multiple is tried. Multiples are
//! compared side by side, one in each lane, and values one after the other, so that the order of the sums is that of the
//! block. The decision on a level is that of [`levels::encode`](super::levels::encode): the quotient against the cuts.

use super::dispatch;
use super::levels::LevelMaps;
use crate::element::{Element, Real};

/// Multiples that are compared at once: as many positive as negative ones.
const LANES: usize = 16;
const HALF: usize = LANES / 2;
/// Values whose squared errors are added in the type of the values before they go into a sum in f64.
const STEP: usize = 32;
/// Up to so many cuts every one is compared; beyond, they are searched.
const LINEAR: usize = 80;
/// A multiple is passed over when what it clips alone costs more than this times the best error: rounding errors of the
/// sums are far below.
const SLACK: f64 = 1.001;

/// What all blocks of a tensor have in common.
#[derive(Debug, Clone)]
pub(crate) struct Multiples<'a, T> {
    /// The levels in ascending order and the cuts between them: the first map.
    pub maps: &'a LevelMaps<T>,
    /// The outer scale.
    pub outer: f32,
    /// The largest multiple M.
    pub largest: u32,
    /// Multiples beyond this share of those that just hold the largest value of a block are not tried.
    pub reach: f64,
    /// A power of two that brings values to where their squares are normal numbers.
    pub unit: T,
}

/// The multiple for a block, and its squared error, in squared units of [`Multiples::unit`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Found {
    pub multiple: i32,
    pub error: f64,
}

impl<T: Real> Multiples<'_, T> {
    #[inline(always)]
    fn ends(&self) -> (T, T) {
        let levels = &self.maps.levels;
        (levels.first().copied().unwrap_or_default(), levels.last().copied().unwrap_or_default())
    }

    /// The scale of a multiple, as a signed two-level scale decodes it.
    #[inline(always)]
    fn scale(&self, multiple: i32) -> T {
        T::from_f32(self.outer * multiple as f32)
    }

    /// The largest multiple to try for a block whose largest magnitude is `magnitude`.
    #[inline(always)]
    fn last(&self, magnitude: T) -> u32 {
        let (bottom, top) = self.ends();
        let outermost = f64::from(self.outer) * Element::to_f64(bottom.abs().max(top.abs()));
        // What is decoded must be finite.
        let finite =
            (Element::to_f64(T::max_value()) / outermost * (1.0 - 1e-6)).min(f64::from(self.largest));
        let wanted = self.reach * Element::to_f64(magnitude) / outermost;
        // Where not even the smallest scale is within reach, all are tried.
        let last = if wanted >= 1.0 { wanted.min(finite) } else { finite };
        last as u32
    }
}

/// The lesser, or the first where the second is NaN.
#[inline(always)]
fn lesser<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

#[inline(always)]
fn greater<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The level of each of `v`.
#[inline(always)]
fn nearest<T: Real>(v: &[T; LANES], levels: &[T], cuts: &[T]) -> [T; LANES] {
    let mut found = [levels.first().copied().unwrap_or_default(); LANES];
    if cuts.len() <= LINEAR {
        for (&cut, &level) in cuts.iter().zip(levels.get(1..).unwrap_or_default()) {
            for (found, &v) in found.iter_mut().zip(v) {
                *found = if v >= cut { level } else { *found };
            }
        }
        return found;
    }
    for (found, index) in found.iter_mut().zip(search_cuts(v, cuts)) {
        *found = levels.get(index as usize).copied().unwrap_or_default();
    }
    found
}

/// The number of cuts that are not above each of `v`, by halving.
#[inline(always)]
fn search_cuts<T: Real>(v: &[T; LANES], cuts: &[T]) -> [u32; LANES] {
    let mut index = [0u32; LANES];
    let mut size = cuts.len();
    while size > 0 {
        let half = size.div_ceil(2);
        for (index, &v) in index.iter_mut().zip(v) {
            let at = *index as usize + half - 1;
            let passed = cuts.get(at).is_some_and(|&cut| v >= cut);
            *index += u32::from(passed) * half as u32;
        }
        size -= half;
    }
    index
}

/// The squared error of `x` for the scale of each lane.
#[inline(always)]
fn errors<T: Real>(x: &[T], scale: &[T; LANES], unit: T, levels: &[T], cuts: &[T]) -> [f64; LANES] {
    let mut total = [0.0; LANES];
    let scaled: [T; LANES] = core::array::from_fn(|lane| scale[lane] * unit);
    for x in x.chunks(STEP) {
        let mut sum = [T::zero(); LANES];
        for &x in x {
            let v: [T; LANES] = core::array::from_fn(|lane| x / scale[lane]);
            let level = nearest(&v, levels, cuts);
            let x = x * unit;
            for lane in 0..LANES {
                let error = x - scaled[lane] * level[lane];
                sum[lane] += error * error;
            }
        }
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += Element::to_f64(sum);
        }
    }
    total
}

dispatch! {
    /// The multiple of least squared error for each block of `x`; block i ends before `ends[i]` and begins where the one
    /// before ends, the first at 0. Returns the sum of the errors.
    ///
    /// Equal errors go to the positive multiple, then to the smaller one. Zero is taken if it is better than all others,
    /// and for a block of zeros.
    pub(crate) fn search[T: Real](x: &[T], ends: &[usize], common: &Multiples<'_, T>, found: &mut [Found]) -> f64 {
        let (mut start, mut total) = (0, 0.0);
        for (&end, found) in ends.iter().zip(found) {
            *found = search_block(x.get(start..end).unwrap_or_default(), common);
            total += found.error;
            start = end;
        }
        total
    }
}

#[inline(always)]
fn search_block<T: Real>(x: &[T], common: &Multiples<'_, T>) -> Found {
    let (levels, cuts) = (&*common.maps.levels, &*common.maps.cuts);
    let unit = common.unit;
    let (mut low, mut high, mut square) = (T::zero(), T::zero(), 0.0);
    for x in x.chunks(STEP) {
        let mut sum = T::zero();
        for &x in x {
            (low, high) = (lesser(low, x), greater(high, x));
            sum += (x * unit) * (x * unit);
        }
        square += Element::to_f64(sum);
    }
    let magnitude = greater(-low, high);
    if magnitude == T::zero() {
        return Found::default();
    }
    let (bottom, top) = common.ends();
    // How far levels reach on either side of zero, in scaled units and multiples of the outer scale.
    let step = f64::from(common.outer) * Element::to_f64(unit);
    let (below, above) = (Element::to_f64(-bottom).max(0.0) * step, Element::to_f64(top).max(0.0) * step);
    let (low, high) = (Element::to_f64(-low * unit), Element::to_f64(high * unit));
    // The least that the two outermost values cost at multiples up to `j` of either sign.
    let clipped = |j: u32| {
        let cost = |below: f64, above: f64| {
            let (low, high) = (low - below * f64::from(j), high - above * f64::from(j));
            low.max(0.0) * low.max(0.0) + high.max(0.0) * high.max(0.0)
        };
        cost(below, above).min(cost(above, below))
    };
    let mut least = [f64::INFINITY; LANES];
    let mut place = [0u32; LANES];
    let mut best = square;
    let mut from = common.last(magnitude);
    while from > 0 && clipped(from) <= best * SLACK {
        let mut scale = [T::one(); LANES];
        for lane in 0..HALF {
            let multiple = from.saturating_sub(lane as u32).max(1);
            scale[lane] = common.scale(multiple as i32);
            scale[HALF + lane] = -scale[lane];
        }
        let errors = errors(x, &scale, unit, levels, cuts);
        for lane in 0..LANES {
            let multiple = from.saturating_sub((lane % HALF) as u32).max(1);
            let better = errors[lane] <= least[lane];
            least[lane] = if better { errors[lane] } else { least[lane] };
            place[lane] = if better { multiple } else { place[lane] };
            best = if least[lane] < best { least[lane] } else { best };
        }
        from = from.saturating_sub(HALF as u32);
    }
    let mut found = Found { multiple: 0, error: square };
    for lane in 0..LANES {
        let multiple = if lane < HALF { place[lane] as i32 } else { -(place[lane] as i32) };
        let same = least[lane] == found.error
            && found.multiple != 0
            && (multiple > 0) == (found.multiple > 0)
            && multiple.abs() < found.multiple.abs();
        let first = least[lane] == found.error && found.multiple == 0 && multiple != 0;
        if least[lane] < found.error || same || first {
            found = Found { multiple, error: least[lane] };
        }
    }
    found
}

/// Sums over the values of each level: `j·x` and `j²`, j the multiple of the value's block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LevelSums {
    pub product: Vec<f64>,
    pub square: Vec<f64>,
}

impl LevelSums {
    /// No values yet.
    pub(crate) fn new(levels: usize) -> Self {
        Self { product: vec![0.0; levels], square: vec![0.0; levels] }
    }

    /// The sums of both together.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.product.iter_mut().zip(&other.product).for_each(|(sum, other)| *sum += other);
        self.square.iter_mut().zip(&other.square).for_each(|(sum, other)| *sum += other);
    }
}

dispatch! {
    /// Adds the values of each block, as in [`search`], to the sums of their levels.
    pub(crate) fn add_to_levels[T: Real](
        x: &[T],
        ends: &[usize],
        common: &Multiples<'_, T>,
        found: &[Found],
        sums: &mut LevelSums,
    ) {
        let mut start = 0;
        for (&end, found) in ends.iter().zip(found) {
            let block = x.get(start..end).unwrap_or_default();
            start = end;
            if found.multiple == 0 {
                continue;
            }
            let scale = common.scale(found.multiple);
            let j = f64::from(found.multiple);
            for x in block.chunks(LANES) {
                let mut v = [T::zero(); LANES];
                v.iter_mut().zip(x).for_each(|(v, &x)| *v = x / scale);
                let index = search_cuts(&v, &common.maps.cuts);
                for (&x, index) in x.iter().zip(index) {
                    let index = index as usize;
                    if let (Some(product), Some(square)) = (sums.product.get_mut(index), sums.square.get_mut(index)) {
                        *product += j * Element::to_f64(x);
                        *square += j * j;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::super::levels::{Boundary, LevelParams, Ties, encode};
    use super::*;
    use crate::random::Philox;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let philox = Philox::new(seed);
        let uniform = |i: usize| f64::from(philox.block((i / 4) as u64)[i % 4]) / 2f64.powi(32);
        // Sums of four uniform numbers: a bell.
        (0..count).map(|i| (0..4).map(|k| uniform(4 * i + k)).sum::<f64>() as f32 - 2.0).collect()
    }

    fn maps<T: Real>(levels: &[f64]) -> LevelMaps<T> {
        let mut maps = LevelMaps::default();
        maps.reset(levels.len());
        let levels: Vec<T> = levels.iter().map(|&level| T::from_f64(level)).collect();
        maps.push(&levels, Boundary::Midpoint(Ties::Low));
        maps
    }

    /// The error of a block with the codes of the encoder.
    fn error<T: Real>(x: &[T], maps: &LevelMaps<T>, scale: T) -> f64 {
        let params = LevelParams { maps, shared: true, scale: &[scale], multiply: false };
        let mut codes = vec![0u16; x.len()];
        encode(x, usize::MAX, 0, &params, &mut codes);
        let level = |code: u16| maps.levels[maps.codes.iter().position(|&other| other == code).unwrap()];
        x.iter().zip(&codes).map(|(&x, &code)| Element::to_f64(x - scale * level(code)).powi(2)).sum()
    }

    #[test]
    fn no_multiple_within_reach_is_better() {
        let wide: Vec<f64> = (0..256).map(|i| (f64::from(i) / 90.0 - 1.4).powi(3) / 3.0).collect();
        for levels in
            [&[-2.0, -1.0, 0.0, 1.0][..], &[-1.0, 0.0, 0.4, 1.0], &[-0.5, 1.0], &[0.0, 1.0, 3.0], &wide]
        {
            let maps = maps::<f32>(levels);
            let magnitude = levels.iter().fold(0.0f64, |most, level| most.max(level.abs()));
            for (largest, len, seed) in [(7, 8, 1), (31, 5, 2), (63, 33, 3), (1, 16, 4), (12, 70, 5)] {
                let x = numbers(len * 20 - 1, seed);
                let ends: Vec<usize> = (1..=20).map(|i| (i * len).min(x.len())).collect();
                let outer = (2.0 / magnitude / f64::from(largest)) as f32;
                let common = Multiples { maps: &maps, outer, largest, reach: 2.0, unit: 0.5 };
                let found = agreed(|| {
                    let mut found = vec![Found::default(); 20];
                    let total = search(&x, &ends, &common, &mut found);
                    assert!(
                        (total - found.iter().map(|found| found.error).sum::<f64>()).abs() <= 1e-12 * total
                    );
                    found
                });
                for (block, found) in found.iter().enumerate() {
                    let x = &x[block * len..ends[block]];
                    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    let within = |j: i32| {
                        let reach = f64::from(outer) * f64::from(j.abs()) * magnitude / f64::from(most);
                        j == 0 || reach <= 2.0 || f64::from(outer) * magnitude > 2.0 * f64::from(most)
                    };
                    let of = |j: i32| {
                        let zero: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
                        if j == 0 { zero } else { error(x, &maps, outer * j as f32) }
                    };
                    let all = (-(largest as i32)..=largest as i32).filter(|&j| within(j)).map(of);
                    let least = all.fold(f64::INFINITY, f64::min);
                    // The sums of the search are of f32, in units of 2.
                    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b + 1e-12;
                    assert!(close(of(found.multiple), least), "{largest} {block}: {found:?} {least}");
                    assert!(close(found.error * 4.0, least), "{largest} {block}: {found:?} {least}");
                }
            }
        }
    }

    #[test]
    fn ties_and_zeros() {
        let maps = maps::<f64>(&[-1.0, 0.0, 1.0]);
        let common = Multiples { maps: &maps, outer: 0.25, largest: 10, reach: 2.0, unit: 1.0 };
        let one = |x: &[f64]| {
            let mut found = [Found { multiple: 9, error: 9.0 }];
            search(x, &[x.len()], &common, &mut found);
            found[0]
        };
        // Both signs fit; several multiples clip to the same error only where they are equal.
        assert_eq!(one(&[0.5, -0.5]), Found { multiple: 2, error: 0.0 });
        assert_eq!(one(&[0.0; 3]), Found::default());
        assert_eq!(one(&[]), Found::default());
        // Below half the smallest scale nothing is left but zero: +1 decodes to the same.
        assert_eq!(one(&[0.05]).error, 0.05 * 0.05);
        // Out of reach of all: the largest.
        assert_eq!(one(&[-100.0]).multiple, 10);
    }

    #[test]
    fn sums_give_the_best_outer_scale() {
        for count in [4, 200] {
            let levels: Vec<f64> = (0..count).map(|i| f64::from(i) / f64::from(count) * 2.0 - 1.0).collect();
            let maps = maps::<f64>(&levels);
            let x: Vec<f64> = numbers(100, 7).into_iter().map(f64::from).collect();
            let ends: Vec<usize> = (1..=10).map(|i| i * 10).collect();
            let common = Multiples { maps: &maps, outer: 0.3, largest: 7, reach: 2.0, unit: 1.0 };
            let mut found = vec![Found::default(); 10];
            let total = search(&x, &ends, &common, &mut found);
            let sums = agreed(|| {
                let mut sums = LevelSums::new(levels.len());
                add_to_levels(&x, &ends, &common, &found, &mut sums);
                sums
            });
            // Σ (x − o·j·l)² = Σ x² − 2 o Σ j x l + o² Σ j² l².
            let outer = f64::from(0.3f32);
            let pairs = || levels.iter().zip(sums.product.iter().zip(&sums.square));
            let cross: f64 = pairs().map(|(level, (product, _))| level * product).sum();
            let square: f64 = pairs().map(|(level, (_, square))| level * level * square).sum();
            let energy: f64 = x.iter().map(|x| x * x).sum();
            assert!((energy - 2.0 * outer * cross + outer * outer * square - total).abs() < 1e-6 * energy);
        }
    }
}
