//! Sums of what an affine grid leaves over, for searches of the best scale.
//!
//! Everything is in units of the scale: with `v = x / S + shift`, a value's level is `r = round(clamp(v, low, high))`
//! and its error `e = v − r`. Sums run over a fixed number of lanes in the type of the values, and from block to block in
//! f64.
#![allow(clippy::needless_range_loop, reason = "a loop over lanes is what becomes a vector")]

use super::affine::nearest_even;
use super::dispatch;
use crate::element::{Element, Real};

/// Independent sums.
const LANES: usize = 16;

/// Values of a lane whose sums are kept in their own type.
const BLOCK: usize = 64;

/// A grid as seen from the values: `r` runs from `low` to `high`, and the level of `r` is `S (r − shift)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruler {
    /// 1 / S.
    pub inverse: f64,
    /// The fraction of the zero point.
    pub shift: f64,
    /// The lowest code less the whole part of the zero point.
    pub low: f64,
    /// The highest code less the same.
    pub high: f64,
}

/// Sums over all values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Misfit {
    /// Of e².
    pub squares: f64,
    /// Of e times the level, in units of S: −1/2 of the derivative of the squared error by S, over S.
    pub products: f64,
}

impl Misfit {
    /// The sums of l x and of l² in units of the scale, l being a value's level, from the sum of x².
    pub(crate) fn products_of(self, squares: f64, scale: f64) -> (f64, f64) {
        // In these units x = l + e.
        let ll = squares / (scale * scale) - 2.0 * self.products - self.squares;
        (scale * (ll + self.products), ll)
    }
}

/// A ruler in the type of the values.
#[derive(Debug, Clone, Copy)]
struct Typed<T> {
    inverse: T,
    shift: T,
    low: T,
    high: T,
}

impl<T: Real> Typed<T> {
    fn new(ruler: Ruler) -> Self {
        let t = |x: f64| <T as Element>::from_f64(x);
        Self { inverse: t(ruler.inverse), shift: t(ruler.shift), low: t(ruler.low), high: t(ruler.high) }
    }

    /// The same in f32.
    #[cfg(target_arch = "x86_64")]
    fn narrow(&self) -> super::sift::Grid {
        let [inverse, shift, low, high] =
            [self.inverse, self.shift, self.low, self.high].map(|x| Element::to_f32(x));
        super::sift::Grid { inverse, shift, low, high }
    }

    /// `r` of a value.
    #[inline(always)]
    fn round(&self, v: T) -> T {
        let inside = if v < self.low { self.low } else { v };
        let inside = if inside > self.high { self.high } else { inside };
        nearest_even(inside).0
    }

    /// `v` of a value.
    #[inline(always)]
    fn place<S: Shift>(&self, x: T) -> T {
        S::add(x * self.inverse, self.shift)
    }

    /// The error and the level of a value.
    #[inline(always)]
    fn of<S: Shift>(&self, x: T) -> (T, T) {
        let v = self.place::<S>(x);
        let r = self.round(v);
        (v - r, S::add(r, -self.shift))
    }
}

/// Whether there is a shift.
trait Shift {
    fn add<T: Real>(x: T, shift: T) -> T;
}
struct Whole;
impl Shift for Whole {
    #[inline(always)]
    fn add<T: Real>(x: T, _: T) -> T {
        x
    }
}
struct Between;
impl Shift for Between {
    #[inline(always)]
    fn add<T: Real>(x: T, shift: T) -> T {
        x + shift
    }
}

/// Adds the lanes of a block to those of all blocks.
#[inline(always)]
fn gather<T: Real>(all: &mut [f64; LANES], lanes: &[T; LANES]) {
    for i in 0..LANES {
        all[i] += Element::to_f64(lanes[i]);
    }
}

/// The sum of lanes.
#[inline(always)]
fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// What the grid leaves over of `x`.
pub(crate) fn misfit<T: Real>(x: &[T], ruler: Ruler) -> Misfit {
    if ruler.shift == 0.0 { misfit_with::<T, Whole>(x, ruler) } else { misfit_with::<T, Between>(x, ruler) }
}

dispatch! {
    fn misfit_with[T: Real, S: Shift](x: &[T], ruler: Ruler) -> Misfit {
        let ruler = Typed::<T>::new(ruler);
        let mut sums = [[0.0; LANES]; 2];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for block in chunks.chunks(BLOCK) {
            let (mut squares, mut products) = ([T::zero(); LANES], [T::zero(); LANES]);
            for chunk in block {
                for i in 0..LANES {
                    let (error, level) = ruler.of::<S>(chunk[i]);
                    squares[i] += error * error;
                    products[i] += error * level;
                }
            }
            gather(&mut sums[0], &squares);
            gather(&mut sums[1], &products);
        }
        for (i, x) in rest.iter().enumerate() {
            let (error, level) = ruler.of::<S>(*x);
            sums[0][i] += Element::to_f64(error * error);
            sums[1][i] += Element::to_f64(error * level);
        }
        let [squares, products] = sums.map(total);
        Misfit { squares, products }
    }
}

dispatch! {
    /// As [`misfit`], each value counting as often as its weight says.
    pub(crate) fn weighted_misfit[T: Real](x: &[T], weights: &[f64], ruler: Ruler) -> Misfit {
        const LANES: usize = 4;
        let ruler = Typed::<f64>::new(ruler);
        let (mut squares, mut products) = ([0.0; LANES], [0.0; LANES]);
        let (chunks, rest) = x.as_chunks::<LANES>();
        let (weight_chunks, weight_rest) = weights.as_chunks::<LANES>();
        for (chunk, weights) in chunks.iter().zip(weight_chunks) {
            for i in 0..LANES {
                let (error, level) = ruler.of::<Between>(Element::to_f64(chunk[i]));
                let weighted = weights[i] * error;
                squares[i] += weighted * error;
                products[i] += weighted * level;
            }
        }
        for (i, (x, weight)) in rest.iter().zip(weight_rest).enumerate() {
            let (error, level) = ruler.of::<Between>(Element::to_f64(*x));
            squares[i] += weight * error * error;
            products[i] += weight * error * level;
        }
        Misfit { squares: squares.iter().sum(), products: products.iter().sum() }
    }
}

/// A power of what is beyond a bound.
trait Power {
    fn of<T: Real>(beyond: T) -> T;
}
struct First;
impl Power for First {
    #[inline(always)]
    fn of<T: Real>(beyond: T) -> T {
        beyond
    }
}
struct Second;
impl Power for Second {
    #[inline(always)]
    fn of<T: Real>(beyond: T) -> T {
        beyond * beyond
    }
}

dispatch! {
    fn beyond[T: Real, P: Power](x: &[T], sign: T, bound: T) -> f64 {
        let (mut sum, zero) = ([0.0; LANES], T::zero());
        let (chunks, rest) = x.as_chunks::<LANES>();
        for block in chunks.chunks(BLOCK) {
            let mut lanes = [zero; LANES];
            for chunk in block {
                for i in 0..LANES {
                    let beyond = sign * chunk[i] - bound;
                    lanes[i] += P::of(if beyond > zero { beyond } else { zero });
                }
            }
            gather(&mut sum, &lanes);
        }
        for (sum, x) in sum.iter_mut().zip(rest) {
            let beyond = sign * *x - bound;
            *sum += Element::to_f64(P::of(if beyond > zero { beyond } else { zero }));
        }
        total(sum)
    }
}

/// The sum of `max(sign x − bound, 0)`.
pub(crate) fn excess<T: Real>(x: &[T], sign: f64, bound: f64) -> f64 {
    beyond::<T, First>(x, Element::from_f64(sign), Element::from_f64(bound))
}

/// The sum of the squares of `max(sign x − bound, 0)`.
pub(crate) fn excess_squares<T: Real>(x: &[T], sign: f64, bound: f64) -> f64 {
    beyond::<T, Second>(x, Element::from_f64(sign), Element::from_f64(bound))
}

dispatch! {
    /// The sum of magnitudes and the sum of squares.
    pub(crate) fn sizes[T: Real](x: &[T]) -> [f64; 2] {
        let mut sums = [[0.0; LANES]; 2];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for block in chunks.chunks(BLOCK) {
            gather(&mut sums[0], &sum_of(block, |x| x.abs()));
            gather(&mut sums[1], &sum_of(block, |x| x * x));
        }
        for (i, x) in rest.iter().enumerate() {
            sums[0][i] += Element::to_f64(x.abs());
            sums[1][i] += Element::to_f64(*x * *x);
        }
        sums.map(total)
    }
}

/// The sums of what `term` makes of each lane.
#[inline(always)]
fn sum_of<T: Real>(block: &[[T; LANES]], term: impl Fn(T) -> T) -> [T; LANES] {
    let mut lanes = [T::zero(); LANES];
    for chunk in block {
        for i in 0..LANES {
            lanes[i] += term(chunk[i]);
        }
    }
    lanes
}

/// The sum in f64 of the squared errors of the grid of a scale.
pub(crate) fn squares<T: Real>(x: &[T], scale: f64, ruler: Ruler) -> f64 {
    if ruler.shift == 0.0 {
        squares_with::<T, Whole>(x, scale, ruler)
    } else {
        squares_with::<T, Between>(x, scale, ruler)
    }
}

dispatch! {
    fn squares_with[T: Real, S: Shift](x: &[T], scale: f64, ruler: Ruler) -> f64 {
        let ruler = Typed::<f64>::new(ruler);
        let mut sums = [0.0; LANES];
        let square = |x: T| {
            let x = Element::to_f64(x);
            let error = x - scale * ruler.of::<S>(x).1;
            error * error
        };
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                sums[i] += square(chunk[i]);
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += square(*x);
        }
        total(sums)
    }
}

/// Appends the values that `keep` says to `kept`, in order.
#[inline(always)]
fn filter<T: Real>(x: &[T], kept: &mut Vec<T>, keep: impl Fn(T) -> bool) {
    /// Values that are looked at together; most such blocks have none to keep.
    const BLOCK: usize = 16;
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    for block in blocks {
        let mut any = 0u32;
        for x in block {
            any |= u32::from(keep(*x));
        }
        if any == 0 {
            continue;
        }
        // Each goes to the next free place, which only those that are kept take.
        let mut places = [T::zero(); BLOCK];
        let mut free = 0;
        for x in block {
            places[free % BLOCK] = *x;
            free += usize::from(keep(*x));
        }
        kept.extend_from_slice(&places[..free.min(BLOCK)]);
    }
    kept.extend(rest.iter().copied().filter(|x| keep(*x)));
}

/// Appends the values of `x` whose `r` is not the same by both rulers to `kept`, in order.
pub(crate) fn changing<T: Real>(x: &[T], rulers: [Ruler; 2], kept: &mut Vec<T>) {
    let rulers = rulers.map(Typed::<T>::new);
    #[cfg(target_arch = "x86_64")]
    if let Some(narrow) = super::convert::same::<T, f32>(x) {
        let grids = rulers.map(|ruler| ruler.narrow());
        let looked_at = super::sift::changing(narrow, grids, |some| append(some, kept));
        return changing_with(&x[looked_at..], rulers, kept);
    }
    changing_with(x, rulers, kept);
}

dispatch! {
    fn changing_with[T: Real](x: &[T], rulers: [Typed<T>; 2], kept: &mut Vec<T>) {
        let [first, second] = rulers;
        filter(x, kept, |x| {
            let (a, b) = (first.place::<Between>(x), second.place::<Between>(x));
            first.round(a) != second.round(b)
        });
    }
}

/// Appends the values of `x` from `low` to `high` to `kept`, in order.
pub(crate) fn between<T: Real>(x: &[T], low: T, high: T, kept: &mut Vec<T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(narrow) = super::convert::same::<T, f32>(x) {
        let (from, to) = (Element::to_f32(low), Element::to_f32(high));
        let looked_at = super::sift::between(narrow, from, to, |some| append(some, kept));
        return between_with(&x[looked_at..], low, high, kept);
    }
    between_with(x, low, high, kept);
}

dispatch! {
    fn between_with[T: Real](x: &[T], low: T, high: T, kept: &mut Vec<T>) {
        filter(x, kept, |x| (x >= low) & (x <= high));
    }
}

/// Appends f32 to values that are such.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn append<T: Real>(some: &[f32], kept: &mut Vec<T>) {
    kept.extend_from_slice(super::convert::same::<f32, T>(some).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    /// From the definition, in f64.
    fn oracle(x: &[f64], weights: &[f64], ruler: Ruler) -> Misfit {
        let mut sums = Misfit::default();
        for (x, weight) in x.iter().zip(weights) {
            let v = x * ruler.inverse + ruler.shift;
            let r = v.clamp(ruler.low, ruler.high).round_ties_even();
            sums.squares += weight * (v - r) * (v - r);
            sums.products += weight * (v - r) * (r - ruler.shift);
        }
        sums
    }

    fn close(found: Misfit, expected: Misfit, part: f64) {
        assert!(
            (found.squares - expected.squares).abs() <= part * expected.squares,
            "{found:?} {expected:?}"
        );
        // Signs cancel: by the inequality of Cauchy and Schwarz no product is larger than this.
        let most = (expected.squares * 1e5).sqrt();
        assert!((found.products - expected.products).abs() <= part * most, "{found:?} {expected:?}");
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(
            x in proptest::collection::vec(prop_oneof![-3.0f32..3.0, Just(0.0), Just(-0.0), Just(0.75)], 1..3000),
            inverse in 0.1f64..2.0,
            shift in prop_oneof![Just(0.0), Just(0.5), Just(-0.5)],
            low in -4i32..=0,
            steps in 0i32..8,
        ) {
            // A power of two, so that f32 and f64 round the same numbers.
            let inverse = inverse.log2().round().exp2();
            let ruler = Ruler { inverse, shift, low: low.into(), high: (low + steps).into() };
            let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let ones = vec![1.0; x.len()];
            let weights: Vec<f64> = (0..x.len()).map(|i| (i % 7) as f64).collect();
            let exact = oracle(&wide, &ones, ruler);
            close(agreed(|| misfit(&x, ruler)), exact, 1e-5);
            close(agreed(|| misfit(&wide, ruler)), exact, 1e-12);
            close(agreed(|| weighted_misfit(&wide, &weights, ruler)), oracle(&wide, &weights, ruler), 1e-12);
            let scale = inverse.recip();
            for found in [agreed(|| squares(&x, scale, ruler)), agreed(|| squares(&wide, scale, ruler))] {
                prop_assert!((found - exact.squares * scale * scale).abs() <= 1e-12 * found);
            }
            let wider = Ruler { inverse: inverse * 0.75, ..ruler };
            let kept = agreed(|| {
                let mut kept = Vec::new();
                changing(&wide, [ruler, wider], &mut kept);
                kept
            });
            let code = |x: f64, ruler: Ruler| (x * ruler.inverse + shift).clamp(ruler.low, ruler.high).round_ties_even();
            let changed = wide.iter().copied().filter(|x| code(*x, ruler) != code(*x, wider));
            prop_assert_eq!(kept, changed.collect::<Vec<_>>());
            for sign in [1.0, -1.0] {
                let beyond = |power: i32| wide.iter().map(|x| (sign * x - 0.5).max(0.0).powi(power)).sum::<f64>();
                let first = agreed(|| excess(&x, sign, 0.5));
                let second = agreed(|| excess_squares(&x, sign, 0.5));
                prop_assert!((first - beyond(1)).abs() <= 1e-5 * beyond(1));
                prop_assert!((second - beyond(2)).abs() <= 1e-5 * beyond(2));
            }
            let narrower = agreed(|| {
                let mut kept = Vec::new();
                changing(&x, [ruler, wider], &mut kept);
                kept
            });
            // The same in f32, which may round a value to the other side of a tie.
            let code = |x: f32, ruler: Ruler| {
                let v = x * ruler.inverse as f32 + shift as f32;
                v.clamp(ruler.low as f32, ruler.high as f32).round_ties_even()
            };
            let changed = x.iter().copied().filter(|x| code(*x, ruler) != code(*x, wider));
            prop_assert_eq!(narrower, changed.collect::<Vec<_>>());
            for [low, high] in [[0.75, 9.0], [-9.0, -0.75], [-0.5, 2.0]] {
                let kept = agreed(|| {
                    let mut kept = Vec::new();
                    between(&x, low, high, &mut kept);
                    kept
                });
                prop_assert_eq!(kept, x.iter().copied().filter(|x| (low..=high).contains(x)).collect::<Vec<_>>());
            }
            let [magnitudes, squares] = agreed(|| sizes(&x));
            let sum = |power: i32| wide.iter().map(|x| x.abs().powi(power)).sum::<f64>();
            prop_assert!((magnitudes - sum(1)).abs() <= 1e-5 * sum(1) && (squares - sum(2)).abs() <= 1e-5 * sum(2));
        }
    }
}
