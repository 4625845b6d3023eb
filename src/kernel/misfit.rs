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

/// The same in f64.
const WIDE_LANES: usize = 8;

/// Values whose sums are kept in their own type.
const BLOCK: usize = 1024;

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

/// The sum of lanes, in f64.
#[inline(always)]
fn total<T: Real>(lanes: &[T; LANES]) -> f64 {
    let mut lanes = lanes.map(Element::to_f64);
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
        let mut sums = Misfit::default();
        for block in x.chunks(BLOCK) {
            let (mut squares, mut products) = ([T::zero(); LANES], [T::zero(); LANES]);
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    let (error, level) = ruler.of::<S>(chunk[i]);
                    squares[i] += error * error;
                    products[i] += error * level;
                }
            }
            for (i, x) in rest.iter().enumerate() {
                let (error, level) = ruler.of::<S>(*x);
                squares[i] += error * error;
                products[i] += error * level;
            }
            sums.squares += total(&squares);
            sums.products += total(&products);
        }
        sums
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
        let (mut sum, zero) = (0.0, T::zero());
        for block in x.chunks(BLOCK) {
            let mut lanes = [zero; LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    let beyond = sign * chunk[i] - bound;
                    lanes[i] += P::of(if beyond > zero { beyond } else { zero });
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                let beyond = sign * *x - bound;
                *lane += P::of(if beyond > zero { beyond } else { zero });
            }
            sum += total(&lanes);
        }
        sum
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
        let mut sums = [0.0; 2];
        for block in x.chunks(BLOCK) {
            let (mut first, mut second) = ([T::zero(); LANES], [T::zero(); LANES]);
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for i in 0..LANES {
                    first[i] += chunk[i].abs();
                }
                for i in 0..LANES {
                    second[i] += chunk[i] * chunk[i];
                }
            }
            for (i, x) in rest.iter().enumerate() {
                first[i] += x.abs();
                second[i] += *x * *x;
            }
            sums[0] += total(&first);
            sums[1] += total(&second);
        }
        sums
    }
}

/// Exact sums over all values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Products {
    /// Of the squared errors.
    pub squares: f64,
    /// Of the value times its level in units of S.
    pub lx: f64,
    /// Of the squared level.
    pub ll: f64,
}

/// The sums in f64 of the grid of a scale.
pub(crate) fn products<T: Real>(x: &[T], scale: f64, ruler: Ruler) -> Products {
    if ruler.shift == 0.0 {
        products_with::<T, Whole>(x, scale, ruler)
    } else {
        products_with::<T, Between>(x, scale, ruler)
    }
}

dispatch! {
    fn products_with[T: Real, S: Shift](x: &[T], scale: f64, ruler: Ruler) -> Products {
        /// Values whose levels are found before they are summed, so that every loop is a simple one.
        const STAGE: usize = 128;
        let ruler = Typed::<f64>::new(ruler);
        let mut sums = [[0.0; WIDE_LANES]; 3];
        let (mut wide, mut levels) = ([0.0; STAGE], [0.0; STAGE]);
        for x in x.chunks(STAGE) {
            if x.len() < STAGE {
                // Zeros that stand for no value, at level zero whether there is one or not.
                (wide, levels) = ([0.0; STAGE], [0.0; STAGE]);
            }
            for ((wide, level), x) in wide.iter_mut().zip(&mut levels).zip(x) {
                *wide = Element::to_f64(*x);
                *level = ruler.of::<S>(*wide).1;
            }
            add(&mut sums[0], &wide, &levels, |x, level| {
                let error = x - scale * level;
                error * error
            });
            add(&mut sums[1], &wide, &levels, |x, level| x * level);
            add(&mut sums[2], &wide, &levels, |_, level| level * level);
        }
        let [squares, lx, ll] = sums.map(|lanes| lanes.iter().sum());
        Products { squares, lx, ll }
    }
}

/// Adds what `term` makes of each pair to one of the lanes.
#[inline(always)]
fn add<const N: usize>(lanes: &mut [f64; N], a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) {
    let (a, b) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0);
    for (a, b) in a.iter().zip(b) {
        for i in 0..N {
            lanes[i] += term(a[i], b[i]);
        }
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

dispatch! {
    /// Appends the values of `x` whose `r` is not the same by both rulers to `kept`, in order.
    pub(crate) fn changing[T: Real](x: &[T], rulers: [Ruler; 2], kept: &mut Vec<T>) {
        let [first, second] = rulers.map(Typed::<T>::new);
        filter(x, kept, |x| {
            let (a, b) = (first.place::<Between>(x), second.place::<Between>(x));
            first.round(a) != second.round(b)
        });
    }
}

dispatch! {
    /// Appends the values of `x` of a magnitude of at least `bound` to `kept`, in order.
    pub(crate) fn outside[T: Real](x: &[T], bound: T, kept: &mut Vec<T>) {
        filter(x, kept, |x| x.abs() >= bound);
    }
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
            let found = agreed(|| products(&x, inverse.recip(), ruler));
            let scale = inverse.recip();
            prop_assert!((found.squares - exact.squares * scale * scale).abs() <= 1e-12 * found.squares);
            let level = |x: f64| (x * inverse + shift).clamp(ruler.low, ruler.high).round_ties_even() - shift;
            let sum = |f: &dyn Fn(f64) -> f64| wide.iter().map(|x| f(*x)).sum::<f64>();
            let (lx, ll) = (sum(&|x| level(x) * x), sum(&|x| level(x) * level(x)));
            prop_assert!((found.lx - lx).abs() <= 1e-12 * lx.abs().max(ll));
            prop_assert!((found.ll - ll).abs() <= 1e-12 * ll);
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
            let kept = agreed(|| {
                let mut kept = Vec::new();
                outside(&x, 0.75, &mut kept);
                kept
            });
            prop_assert_eq!(kept, x.iter().copied().filter(|x| x.abs() >= 0.75).collect::<Vec<_>>());
            let [magnitudes, squares] = agreed(|| sizes(&x));
            let sum = |power: i32| wide.iter().map(|x| x.abs().powi(power)).sum::<f64>();
            prop_assert!((magnitudes - sum(1)).abs() <= 1e-5 * sum(1) && (squares - sum(2)).abs() <= 1e-5 * sum(2));
        }
    }
}
