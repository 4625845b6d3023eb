//! One multiplication in place of a division, for numbers of few bits that become integers.
//!
//! What rounds to which integer changes at the halves. The numbers of `b` bits next to each other are at least `2⁻ᵇ` of
//! themselves apart, so with `h` a half and `s` the divisor, all of them but the one nearest to `h · s` have quotients that
//! are `2⁻ᵇ⁻¹` of `h` or more away from it, on the same side of it by any arithmetic that errs by less than that. The nearest
//! one is looked at: where it is further away than arithmetic errs, the reciprocal serves; where it is not, the reciprocal and
//! its neighbours are tried on it.
#![allow(unsafe_code)] // loads by pointers

use core::hint::select_unpredictable;

use half::f16;

use super::division::{DIVISORS, GROUP};
use super::vector::{Lanes, Vector, vectorized};
use crate::element::FloatType;

/// The longest significands of numbers that this is for, and the integers up to which halves are looked at.
const LONGEST: u32 = 11;
const MOST: u32 = 255;

/// More units in the last place of a multiple of a divisor than anything errs by: one by the division, two by reciprocal and
/// product, and half of one by the multiple.
const NEAR_HALF: i32 = 4;

/// Values from which on a factor is worth looking for.
pub(super) const RUN: usize = 1024;

/// Added to a number and taken off again, this leaves the nearest integer, ties to even.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// A number by which those of `A` are multiplied to get the nearest integers that a division by `divisor` gives them, up to
/// `most` in magnitude; beyond, both give larger ones. The product may be rounded or not before it is taken to an integer.
/// `None` where there is none, or it is not worth looking for.
#[inline(always)]
pub(super) fn factor<A: Lanes>(divisor: f32, most: u32) -> Option<f32> {
    let bits = A::SIGNIFICAND;
    if bits > LONGEST || most > MOST || !DIVISORS.contains(&divisor) {
        return None;
    }
    find(super::level(), divisor, most, bits)?
}

vectorized! {
    fn find<V>[](v, divisor: f32, most: u32, bits: u32) -> Option<f32> {
        // SAFETY: as many as the longest vector has lanes.
        let halves = unsafe { v.load(HALVES.as_ptr()) };
        let [a, b, c] = differences(v, halves, V::LANES, v.floats(divisor), most, bits);
        chosen(candidates(divisor), [any_bit(v, a), any_bit(v, b), any_bit(v, c)])
    }
}

/// The numbers that may do as a factor: all of them err by less than 2⁻²² of the quotient.
#[inline(always)]
fn candidates(divisor: f32) -> [f32; 3] {
    let reciprocal = 1.0 / divisor;
    [reciprocal, reciprocal.next_up(), reciprocal.next_down()]
}

/// The first candidate that makes no integer different. No branch guesses which one it is, often wrong, and what follows
/// begins at once.
#[inline(always)]
fn chosen([first, second, third]: [f32; 3], [a, b, c]: [bool; 3]) -> Option<f32> {
    let serves =
        |different: bool, candidate: f32, other: f32| select_unpredictable(different, other, candidate);
    let found = serves(a, first, serves(b, second, serves(c, third, f32::NAN)));
    (!found.is_nan()).then_some(found)
}

/// Where lanes of what each of the [`candidates`] of `divisor` makes of the numbers next to some halves have a bit, it makes
/// other integers than a division. The first of these halves and then every `step`-th, up to `most` and a half.
#[inline(always)]
fn differences<V: Vector>(
    v: V,
    mut half: V::Floats,
    step: usize,
    divisor: V::Floats,
    most: u32,
    bits: u32,
) -> [V::Integers; 3] {
    let below = v.integers((1 << (f32::MANTISSA_DIGITS - bits)) - 1);
    let reciprocal = v.div(v.floats(1.0), divisor);
    let next = |units: i32| v.of_bits(v.add_integers(v.to_bits(reciprocal), v.integers(units)));
    let candidates = [reciprocal, next(1), next(-1)];
    let mut different = [v.integers(0); 3];
    for _ in 0..(most as usize + 1).div_ceil(step) {
        let multiple = v.mul(half, divisor);
        half = v.add(half, v.floats(step as f32));
        if near_zero(v, v.and(v.to_bits(multiple), below), below, NEAR_HALF) {
            let x = nearest(v, multiple, bits);
            let integer = v.to_bits(v.add(v.div(x, divisor), v.floats(MAGIC)));
            for (&candidate, different) in candidates.iter().zip(&mut different) {
                let rounded = v.to_bits(v.add(v.mul(x, candidate), v.floats(MAGIC)));
                let fused = v.to_bits(v.mul_add(x, candidate, v.floats(MAGIC)));
                *different = v.max(*different, v.max(v.xor(integer, rounded), v.xor(integer, fused)));
            }
        }
    }
    different
}

/// Whether any bit is set in numbers that are not negative.
#[inline(always)]
fn any_bit<V: Vector>(v: V, x: V::Integers) -> bool {
    v.any(v.min(x, v.integers(1)), 1)
}

/// Whether any of some bits `below` the others of numbers, one word at most, are within `near` of zero or of as many bits
/// that are all set.
#[inline(always)]
fn near_zero<V: Vector>(v: V, bits: V::Integers, below: V::Integers, near: i32) -> bool {
    // These become twice that at most.
    let off = v.and(v.add_words(bits, v.integers(near)), below);
    v.any(v.max(off, v.integers(2 * near)), 2 * near)
}

/// The factors of some divisors, and the short steps of as many values.
pub(super) struct Factors {
    /// NaN where there is none.
    factors: [f32; GROUP],
    short_steps: [f32; GROUP],
}

impl Factors {
    /// Nothing found.
    pub(super) fn none() -> Self {
        Self { factors: [f32::NAN; GROUP], short_steps: [f32::NAN; GROUP] }
    }

    /// Finds those of the first [`GROUP`] of `divisors` and of `steps`, where they are: a copy would wait for what was just
    /// written in parts.
    pub(super) fn find<A: Lanes>(&mut self, divisors: &[f32], steps: &[f32], most: u32) {
        *self = Self::none();
        if A::SIGNIFICAND <= LONGEST && most <= MOST {
            // Without vectors nothing is found.
            find_all::<A>(super::level(), divisors, most, &mut self.factors);
            shorten_all::<A>(super::level(), steps, most, &mut self.short_steps);
        }
    }

    /// As [`factor`] of a divisor.
    pub(super) fn factor(&self, place: usize) -> Option<f32> {
        self.factors.get(place).copied().filter(|factor| !factor.is_nan())
    }

    /// A number of 22 bits whose multiples become the same numbers of `A` as those of a step, up to `most` times it. So is
    /// its multiple of [`MAGIC`] a number of f32, and `(MAGIC + q) · short − MAGIC · short` is `q · short`, rounded once.
    ///
    /// `None` where there is none, or it is not worth looking for.
    pub(super) fn short_step(&self, place: usize) -> Option<f32> {
        self.short_steps.get(place).copied().filter(|step| !step.is_nan())
    }
}

vectorized! {
    fn find_all<V>[A: Lanes](v, divisors: &[f32], most: u32, factors: &mut [f32; GROUP]) -> () {
        for (divisors, factors) in divisors.chunks(V::LANES).zip(factors.chunks_mut(V::LANES)) {
            let divisors = vector_of(divisors);
            let mut different = [[0u32; LONGEST_VECTOR]; 3];
            // SAFETY: as many as the longest vector has lanes.
            unsafe {
                let found = differences(v, v.floats(0.5), 1, v.load(divisors.as_ptr()), most, A::SIGNIFICAND);
                for (different, found) in different.iter_mut().zip(found) {
                    v.store(different.as_mut_ptr().cast(), found);
                }
            }
            let [a, b, c] = different;
            for ((((factor, divisor), a), b), c) in factors.iter_mut().zip(divisors).zip(a).zip(b).zip(c) {
                let found = chosen(candidates(divisor), [a != 0, b != 0, c != 0]).unwrap_or(f32::NAN);
                *factor = if DIVISORS.contains(&divisor) { found } else { f32::NAN };
            }
        }
    }
}

vectorized! {
    fn shorten_all<V>[A: Lanes](v, steps: &[f32], most: u32, short_steps: &mut [f32; GROUP]) -> () {
        /// More units in the last place than multiples of both steps differ by: four by the step, and half of one each.
        const NEAR: i32 = 8;
        // Of numbers with all their bits, those change from one to the next in the middle between them.
        let bits = f32::MANTISSA_DIGITS - A::SIGNIFICAND;
        let (below, middle) = (v.integers((1 << bits) - 1), v.integers(1 << (bits - 1)));
        for (steps, short_steps) in steps.chunks(V::LANES).zip(short_steps.chunks_mut(V::LANES)) {
            let steps = vector_of(steps);
            let shorts = steps.map(|step| {
                let long = step * 5.0;
                long - (long - step)
            });
            let least = f16::MIN_POSITIVE.to_f32_const();
            let whole = A::TYPE != FloatType::F16 || steps.iter().fold(true, |all, &step| all & (step >= least));
            let mut different = [false; LONGEST_VECTOR];
            // SAFETY: as many as the longest vector has lanes; numbers are not said to fit.
            unsafe {
                let (step, short) = (v.load(steps.as_ptr()), v.load(shorts.as_ptr()));
                let mut q = v.floats(1.0);
                for _ in 0..most {
                    let multiple = v.mul(q, step);
                    let off = v.xor(v.and(v.to_bits(multiple), below), middle);
                    if !whole || near_zero(v, off, below, NEAR) {
                        let (mut numbers, mut others) = ([A::default(); LONGEST_VECTOR], [A::default(); LONGEST_VECTOR]);
                        v.put::<A, false>(numbers.as_mut_ptr(), multiple, false);
                        v.put::<A, false>(others.as_mut_ptr(), v.mul(q, short), false);
                        for ((different, number), other) in different.iter_mut().zip(numbers).zip(others) {
                            *different |= number != other;
                        }
                    }
                    q = v.add(q, v.floats(1.0));
                }
            }
            for (((found, step), short), different) in short_steps.iter_mut().zip(steps).zip(shorts).zip(different) {
                *found = if different || !DIVISORS.contains(&step) { f32::NAN } else { short };
            }
        }
    }
}

/// Lanes of the longest vector.
const LONGEST_VECTOR: usize = 16;

/// A vector of at least one number, with the first one where there are no more.
#[inline(always)]
fn vector_of(some: &[f32]) -> [f32; LONGEST_VECTOR] {
    let mut all = [some.first().copied().unwrap_or_default(); LONGEST_VECTOR];
    all[..some.len()].copy_from_slice(some);
    all
}

/// The first halves.
const HALVES: [f32; LONGEST_VECTOR] =
    [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5];

/// The nearest numbers of so many bits (T. J. Dekker 1971, *A floating-point technique for extending the available
/// precision*).
#[inline(always)]
fn nearest<V: Vector>(v: V, x: V::Floats, bits: u32) -> V::Floats {
    let long = v.mul(x, v.floats(((1 << (f32::MANTISSA_DIGITS - bits)) + 1) as f32));
    v.sub(long, v.sub(long, x))
}

#[cfg(test)]
mod tests {
    use super::super::forced;
    use super::*;
    use crate::simd::Level;
    use half::{bf16, f16};

    /// Divisors: any, those whose halves are numbers of few bits, and those next to them.
    fn divisors(count: u32) -> impl Iterator<Item = f32> {
        (0..count).map(|i| {
            let exponent = [44, 90, 110, 119, 120, 127, 130, 150, 200][i as usize % 9];
            let significand = match i % 4 {
                0 | 1 => i.wrapping_mul(0x9E37_79B9) >> 9,
                2 => (i.wrapping_mul(0x9E37_79B9) >> 20) << 11,
                _ => ((i.wrapping_mul(0x9E37_79B9) >> 20) << 11).wrapping_add(i / 4 % 9).wrapping_sub(4),
            };
            f32::from_bits(exponent << 23 | significand & 0x7F_FFFF)
        })
    }

    fn found<A: Lanes>(divisors: &[f32], steps: &[f32], most: u32) -> Factors {
        let mut factors = Factors::none();
        factors.find::<A>(divisors, steps, most);
        factors
    }

    fn short_step<A: Lanes>(step: f32, most: u32) -> Option<f32> {
        found::<A>(&[], &[step], most).short_step(0)
    }

    /// Asserts that all numbers of 16 bits get the integers of a division, and returns whether there is a factor.
    fn check<A: Lanes>(divisor: f32, most: u32, numbers: &[f32]) -> bool {
        let (one, all) = (factor::<A>(divisor, most), found::<A>(&[divisor], &[], most).factor(0));
        if let Some(factor) = all.filter(|_| all != one) {
            gives_integers(factor, divisor, most, numbers);
        }
        one.is_some_and(|factor| gives_integers(factor, divisor, most, numbers))
    }

    fn gives_integers(factor: f32, divisor: f32, most: u32, numbers: &[f32]) -> bool {
        let bound = most as f32;
        let integer = |x: f32| x.clamp(-bound, bound);
        for &x in numbers {
            let expected = integer((x / divisor).round_ties_even());
            let rounded = integer((x * factor).round_ties_even());
            // Beyond what a number added leaves of it, it is beyond all codes.
            let fused = integer(x.mul_add(factor, MAGIC) - MAGIC);
            assert!(
                expected == rounded && expected == fused,
                "{x:e} by {divisor:e}: {expected} {rounded} {fused}"
            );
        }
        true
    }

    #[test]
    fn all_numbers_of_16_bits_get_the_integers_of_a_division() {
        let all =
            || (0..=u16::MAX).map(|bits| (f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()));
        let (halves, brains): (Vec<f32>, Vec<f32>) = all().unzip();
        let finite = |x: Vec<f32>| x.into_iter().filter(|x| x.is_finite()).collect::<Vec<_>>();
        let (halves, brains) = (finite(halves), finite(brains));
        let (mut found, mut all) = (0, 0);
        for (i, divisor) in divisors(600).enumerate() {
            let most = [127, 128, 255, 7, 1, 0][i % 6];
            all += 2;
            found += u32::from(check::<f16>(divisor, most, &halves));
            found += u32::from(check::<bf16>(divisor, most, &brains));
        }
        // But for machines without vectors.
        let vectors = super::super::level() > Level::Baseline;
        assert!(!vectors || found > all * 4 / 5, "{found} of {all}");
    }

    #[test]
    fn what_lies_next_to_the_halves_decides() {
        let (mut found, mut all) = (0, 0);
        for divisor in divisors(20_000) {
            // Numbers on both sides of each half.
            let at = (0..128).map(|k| ((k as f32 + 0.5) * divisor).to_bits());
            let numbers: Vec<f32> =
                at.flat_map(|at| [0, 1].map(|up| f32::from_bits(((at >> 13) + up) << 13))).collect();
            all += 1;
            found += u32::from(check::<f16>(divisor, 127, &numbers));
        }
        assert!(super::super::level() == Level::Baseline || found > all * 4 / 5, "{found} of {all}");
    }

    /// Asserts that a short step gives the values of the step, and returns whether there is one.
    fn check_step<A: Lanes>(step: f32, most: u32) -> bool {
        let Some(short) = short_step::<A>(step, most) else { return false };
        assert_eq!(f64::from(short * MAGIC), f64::from(short) * f64::from(MAGIC));
        for q in 0..=most {
            for q in [q as f32, -(q as f32)] {
                let value = (q + MAGIC).mul_add(short, -MAGIC * short);
                let (value, expected) = (A::from_f32(value).to_f32(), A::from_f32(q * step).to_f32());
                assert!(value == expected, "{q} times {step:e}: {value:e} {expected:e}");
            }
        }
        true
    }

    #[test]
    fn values_of_short_steps_are_those_of_steps() {
        let (mut found, mut all) = (0, 0);
        // Next to where numbers of f16 lose bits and end, too.
        let small =
            (0..2000u32).map(|i| f32::from_bits(0x3700_0000 + i.wrapping_mul(0x9E37_79B9) % 0x0200_0000));
        for step in divisors(4000).chain(small) {
            all += 2;
            found += u32::from(check_step::<f16>(step, 127)) + u32::from(check_step::<bf16>(step, 255));
        }
        assert!(super::super::level() == Level::Baseline || found > all * 4 / 5, "{found} of {all}");
        for level in forced::available() {
            forced::with(level, || {
                for step in divisors(60) {
                    check_step::<f16>(step, 255);
                    check_step::<bf16>(step, 127);
                }
                let expected = (level > Level::Baseline).then_some(0.25);
                assert_eq!(short_step::<f16>(0.25, 127), expected);
            });
        }
        assert_eq!((short_step::<f32>(0.1, 127), short_step::<f16>(f32::NAN, 127)), (None, None));
        assert_eq!((short_step::<f16>(-0.1, 127), short_step::<bf16>(0.1, 256)), (None, None));
    }

    #[test]
    fn many_at_once_are_as_one_by_one() {
        fn check<A: Lanes>(numbers: &[f32], most: u32) {
            for numbers in numbers.chunks(GROUP + 3) {
                // Of rows whose largest number has the highest code, among others.
                let all = found::<A>(numbers, numbers, most);
                for (place, &number) in numbers.iter().enumerate() {
                    let there = place < GROUP;
                    let expected = factor::<A>(number, most).filter(|_| there);
                    assert_eq!(all.factor(place), expected, "{number:e} up to {most}");
                    let expected = short_step::<A>(number, most).filter(|_| there);
                    assert_eq!(all.short_step(place), expected, "{number:e} up to {most}");
                }
            }
        }
        let rows = (1..200).map(|i| bf16::from_f32(i as f32 * 0.37).to_f32() / 127.0);
        let odd = [0.0, -1.0, 1e-26, 1e26, f32::INFINITY, f32::NAN, 1e-5, 0.25];
        let numbers: Vec<f32> = divisors(300)
            .zip(rows)
            .flat_map(|(a, b)| [a, b])
            .chain(odd.iter().flat_map(|&x| [x; 5]))
            .collect();
        for level in forced::available() {
            forced::with(level, || {
                for most in [127, 255] {
                    check::<f16>(&numbers, most);
                    check::<bf16>(&numbers, most);
                }
            });
        }
        let none = found::<f32>(&[0.25], &[0.25], 127);
        assert_eq!((none.factor(0), none.short_step(0)), (None, None));
    }

    #[test]
    fn some_have_no_factor() {
        for divisor in [0.0, -1.0, 1e-26, 1e26, f32::INFINITY, f32::NAN] {
            assert_eq!(factor::<f16>(divisor, 127), None, "{divisor}");
        }
        assert_eq!(factor::<f16>(1.0, 256), None);
        assert_eq!(factor::<f32>(0.1, 127), None);
        for level in forced::available() {
            let expected = (level > Level::Baseline).then_some(4.0);
            assert_eq!(forced::with(level, || factor::<f16>(0.25, 127)), expected);
        }
    }
}
