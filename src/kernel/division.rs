//! Division of many numbers by one, for less than a division each and with the same bits.
//!
//! All of it needs remainders that are not rounded, so the divisor has to be neither tiny nor huge; quotients may then be
//! wrong where they are so small that they round to zero in any case.
//!
//! **Two terms.** With `y + z` the reciprocal of `s` in two numbers, `y` the nearest to `1 / s` and `z` the nearest to
//! the rest, `fma(x, y, x·z)` rounds `x / s · (1 − r)` once, but for the rounding of `x·z`, where `r = 1 − s·(y + z)`
//! (N. Brisebarre, J.-M. Muller, S. K. Raina 2004, *Accelerating correctly rounded floating-point division when the
//! divisor is known in advance*). Let the significand `σ` of `s` lie in `[1, 2)`. A quotient in `[1, 2)` is at least
//! `2⁻⁴⁷ / σ` away from the middle between two numbers, and is below `2 / σ`; one in `[½, 1)` is at least `2⁻⁴⁸ / σ`
//! away. Where what is lost is less than that, the result is the quotient to the nearest: for 74 significands of a hundred.
//!
//! **Corrections.** `q₀ = x · y`, then `q ← q + (x − q · s) · y` by fused operations. `q₁` is within one unit in the last
//! place of the quotient, and for such a `q`, and `y` correctly rounded, the next step gives the correctly rounded
//! quotient (P. Markstein 1990, *Computation of elementary functions on the IBM RISC System/6000 processor*, theorem 4;
//! Muller et al., *Handbook of Floating-Point Arithmetic*, section 4.7).

/// Divisors by which quotients from a quarter on have remainders that are normal numbers, and so is the reciprocal.
pub(super) const DIVISORS: core::ops::RangeInclusive<f32> = 1e-25..=1e25;

/// `2^exponent`, of a normal number.
const fn power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// Divisors whose reciprocals are found together.
pub(super) const GROUP: usize = 32;

/// The reciprocals of some divisors, in two terms. Loops keep them on the stack, which their alignment makes fit for the
/// vectors beside them: what lies across two lines of the caches is slow to be read again.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Reciprocals {
    /// The nearest number to each.
    pub near: [f32; GROUP],
    /// The nearest number to the rest.
    pub rest: [f32; GROUP],
    /// Whether both together give all quotients, by one multiplication and one fused operation.
    pub exact: [bool; GROUP],
}

impl Reciprocals {
    /// Of the first [`GROUP`] of `divisors`. Where there is none, nothing is exact.
    #[inline(always)]
    pub(super) fn of(divisors: &[f32]) -> Self {
        let none = [false; GROUP];
        let mut all = Self { near: [0.0; GROUP], rest: [0.0; GROUP], exact: none };
        let places = all.near.iter_mut().zip(&mut all.rest).zip(&mut all.exact);
        for (&divisor, ((near, rest), exact)) in divisors.iter().zip(places) {
            let found = reciprocal(divisor);
            (*near, *rest, *exact) = (found.near, found.rest, found.exact);
        }
        all
    }
}

/// What [`Reciprocals`] have of each divisor.
#[derive(Clone, Copy)]
pub(super) struct Reciprocal {
    pub near: f32,
    pub rest: f32,
    pub exact: bool,
}

/// For functions that are compiled with fused operations.
#[inline(always)]
pub(super) fn reciprocal(divisor: f32) -> Reciprocal {
    let near = 1.0 / divisor;
    // Exact: a multiple of a unit of a product of 48 bits, of at most 24 bits.
    let first = (-divisor).mul_add(near, 1.0);
    // first · near · (1 + first) is first / divisor, up to what is measured next.
    let product = first * near;
    let rest = product.mul_add(first, product);
    let second = (-divisor).mul_add(rest, first).abs();
    // What is rounded here is less than the margin.
    const MARGIN: f32 = 1.0 + 1e-6;
    let significand = MARGIN * f32::from_bits(divisor.to_bits() & 0x007F_FFFF | 0x3F80_0000);
    // Half a unit in the last place of what is below the magnitude of `first`: at most 2⁻²⁴.
    let first = first.abs();
    let rounding = if first > power(-25) { power(-49) } else { power(-50) };
    let below_one = (second + rounding) * significand < power(-48);
    let from_one = (2.0 * second + power(-48)) * MARGIN < power(-47);
    let within = (*DIVISORS.start() <= divisor) & (divisor <= *DIVISORS.end());
    let exact = within & below_one & from_one & (first <= power(-24));
    Reciprocal { near, rest, exact }
}

/// Whether both terms give the nearest integers to all quotients that a division gives, where these are at most `most` and
/// a half in magnitude; larger ones become larger integers by both.
///
/// What rounds to which integer changes at a half, and both ways of dividing are monotone, so they differ only where one
/// gives such a number `h` and the other its neighbour: the quotient is then as good as the middle `M` between these, as
/// integers `|2ⁿ·X − S·M| ≤ 6`, with `X`, `S < 2²⁴` and `M < 2²⁵` odd, because `fma(x, y, x·z)` rounds what is within
/// `3·2⁻⁴⁸` of the quotient. The difference is not zero, as `n ≥ 24` and `S·M` has no factor `2²⁴`. And `M` is one more or
/// less than `h`, a multiple of `2ᵏ` if twice `h` has `25 − k` bits or fewer: so `S` is within 6 of a multiple of `2ᵏ`, and
/// no multiple of it.
#[inline(always)]
pub(super) fn same_integers(divisor: f32, most: u32) -> bool {
    /// More than 6.
    const NEAR: u32 = 8;
    /// Less is left of the significand below more integers than these.
    const MOST: u32 = 1 << 17;
    let bits = u32::BITS - most.min(MOST).leading_zeros() + 1;
    // Bits of the significand below 2ᵏ; what lies above them moves out.
    let above = u32::BITS - (25 - bits);
    let low = divisor.to_bits() << above;
    let near = low.wrapping_add(NEAR << above) <= (2 * NEAR) << above;
    let within = (*DIVISORS.start() <= divisor) & (divisor <= *DIVISORS.end());
    within & (most <= MOST) & (!near | (low == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, looked at: quotients change from one integer to the next within half a unit in the last place of the half
    /// between them, `at` is its multiple of the divisor up to as much, and a number has at least half as many units as its
    /// neighbours: all of that is within three units of `at`.
    fn beside_the_halves(divisor: f32, (near, rest): (f32, f32), most: u32) -> bool {
        /// Added to a number and taken off again, this leaves the nearest integer.
        const MAGIC: f32 = 12_582_912.0;
        if !DIVISORS.contains(&divisor) {
            return false;
        }
        let mut same = true;
        for below in 0..=most.min(1 << 15) {
            let at = ((below as f32 + 0.5) * divisor).to_bits();
            for off in 0..7 {
                let x = f32::from_bits(at + off - 3);
                let (quotient, other) = (x / divisor, x.mul_add(near, x * rest));
                same &= quotient + MAGIC == other + MAGIC;
            }
        }
        same
    }

    /// What the loops do.
    fn quotient(x: f32, by: Reciprocal) -> f32 {
        x.mul_add(by.near, x * by.rest)
    }

    fn corrected_twice(x: f32, divisor: f32, by: Reciprocal) -> f32 {
        let correct = |quotient: f32| (-quotient).mul_add(divisor, x).mul_add(by.near, quotient);
        correct(correct(x * by.near))
    }

    /// The significand of `x` whose quotient by the odd `s` is nearest to the middle of two numbers, above or below it:
    /// `2^shift · x ≡ ± 1 (mod s)`.
    fn hardest(s: u64, shift: u32) -> [u64; 2] {
        // The inverse of 2^shift, one halving modulo `s` after the other.
        let inverse = (0..shift).fold(1, |n: u64, _| if n.is_multiple_of(2) { n / 2 } else { (n + s) / 2 });
        [inverse, s - inverse]
    }

    #[test]
    fn two_terms_give_the_bits_of_a_division() {
        let (mut state, mut exact) = (11u64, 0);
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 41) as u32
        };
        const DIVISORS: usize = 4000;
        for round in 0..DIVISORS {
            let exponent = [44, 60, 100, 126, 127, 128, 150, 200, 209][round % 9];
            let significand =
                [0, 1, 2, 0x7F_FFFF, 0x7F_FFFE][..].get(round).copied().unwrap_or_else(&mut next);
            let scale = f32::from_bits(exponent << 23 | significand);
            let by = reciprocal(scale);
            assert_eq!(by.near, 1.0 / scale);
            if !by.exact {
                continue;
            }
            exact += 1;
            let s = u64::from(significand | 1 << 23);
            // An even divisor has the quotients of an odd one.
            let odd = s >> s.trailing_zeros();
            let hard = [24u32, 25].into_iter().flat_map(|shift| hardest(odd, shift));
            let hard =
                hard.flat_map(|x| (0..24).map(move |by| x << by)).filter(|x| (1 << 23..1 << 24).contains(x));
            let hard: Vec<u32> = hard.map(|x| x as u32 & 0x7F_FFFF).collect();
            for x in hard.into_iter().chain((0..40).map(|_| next())) {
                for off in [-1i32, 0, 1] {
                    let bits = (exponent + 1) << 23 | x;
                    let x = f32::from_bits(bits.wrapping_add_signed(off));
                    assert_eq!(quotient(x, by), x / scale, "{x:e} by {scale:e}");
                    assert_eq!(quotient(-x, by), -x / scale, "{x:e} by {scale:e}");
                }
            }
        }
        assert!(exact > DIVISORS * 3 / 4, "{exact} of {DIVISORS}");
    }

    #[test]
    fn two_corrections_give_the_bits_of_a_division() {
        const DIVISORS: u32 = 4000;
        for round in 0..DIVISORS {
            let significand = round.wrapping_mul(0x9E37_79B9) >> 9;
            let scale = f32::from_bits(([44, 100, 127, 128, 200][round as usize % 5]) << 23 | significand);
            let by = reciprocal(scale);
            let s = u64::from(significand | 1 << 23);
            let odd = s >> s.trailing_zeros();
            let hard = [24u32, 25].into_iter().flat_map(|shift| hardest(odd, shift));
            let hard = hard.flat_map(|x| (0..24).map(move |by| x << by));
            for x in hard.filter(|x| (1 << 23..1 << 24).contains(x)) {
                for off in [-1i32, 0, 1] {
                    let exponent = (scale.to_bits() >> 23) + 1;
                    let x = f32::from_bits((exponent << 23 | x as u32 & 0x7F_FFFF).wrapping_add_signed(off));
                    for x in [x, -x] {
                        assert_eq!(corrected_twice(x, scale, by), x / scale, "{x:e} by {scale:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn integers_are_those_of_a_division_where_they_are_beside_the_halves() {
        let mut served = 0;
        for (round, significand) in (0..1u32 << 23).step_by(80_021).enumerate() {
            let exponent = [44, 100, 127, 128, 200][round % 5];
            let divisor = f32::from_bits(exponent << 23 | significand);
            let by = reciprocal(divisor);
            if by.exact || !beside_the_halves(divisor, (by.near, by.rest), 127) {
                // A worse reciprocal is found out.
                assert!(!beside_the_halves(divisor, (by.near.next_up(), 0.0), 127), "{divisor:e}");
                continue;
            }
            served += 1;
            for i in 0..20_000u32 {
                let x = f32::from_bits((exponent + 5) << 23 | i.wrapping_mul(0x9E37_79B9) >> 9);
                for x in [x, -x, x * 0.1, x * 2.0] {
                    let (found, expected) = (quotient(x, by), x / divisor);
                    assert_eq!(found.round_ties_even(), expected.round_ties_even(), "{x:e} by {divisor:e}");
                }
            }
        }
        assert!(served > 10, "{served}");
        assert!(!beside_the_halves(0.0, (f32::INFINITY, 0.0), 127));
    }

    #[test]
    fn divisors_that_give_the_same_integers_are_known_by_their_low_bits() {
        let (mut served, mut all) = (0, 0);
        for most in [0, 1, 7, 127, 128, 255, 4000, 1 << 15] {
            let count: u32 = if most > 255 { 40 } else { 1500 };
            for round in 0..count {
                let exponent = [44, 60, 100, 126, 127, 128, 150, 200, 209][round as usize % 9];
                // Some beside what is left out, others anywhere.
                let step = if round % 2 == 0 { 0x9E37_79B9u32 } else { 0x9E37_0000 };
                let off = if round % 2 == 0 { 0 } else { round % 41 };
                let significand =
                    (round.wrapping_mul(step) >> 9).wrapping_add(off).wrapping_sub(20) & 0x7F_FFFF;
                let divisor = f32::from_bits(exponent << 23 | significand);
                let by = reciprocal(divisor);
                all += 1;
                if same_integers(divisor, most) {
                    served += 1;
                    assert!(beside_the_halves(divisor, (by.near, by.rest), most), "{divisor:e} {most}");
                }
            }
        }
        assert!(served > all * 2 / 3, "{served} of {all}");
        for divisor in [0.0, -1.0, 1e-26, 1e26, f32::INFINITY, f32::NAN] {
            assert!(!same_integers(divisor, 127), "{divisor}");
        }
        // Whole bits, and what is near them.
        for (off, same) in [(0, true), (1, false), (8, false), (9, true)] {
            assert_eq!(same_integers(f32::from_bits(0x3F82_0000 + off), 127), same);
            assert_eq!(same_integers(f32::from_bits(0x3F82_0000 - off), 127), same);
        }
    }

    #[test]
    fn divisors_of_all_significands_near_each_other() {
        // All divisors of some stretches, and all numerators whose quotients lie next to the middles of small codes.
        for from in [0x3F80_0000u32, 0x3FC0_0000, 0x3FFF_FF00] {
            for bits in from..from + 256 {
                let scale = f32::from_bits(bits);
                let by = reciprocal(scale);
                if !by.exact {
                    continue;
                }
                for code in 0..300 {
                    let at = (code as f32 + 0.5) * scale;
                    for off in -3..=3 {
                        let x = f32::from_bits(at.to_bits().wrapping_add_signed(off));
                        assert_eq!(quotient(x, by), x / scale, "{x:e} by {scale:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn divisors_that_are_tiny_or_huge_are_left_alone() {
        for scale in [0.0, -1.0, 1e-26, 1e26, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE] {
            assert!(!reciprocal(scale).exact, "{scale}");
        }
        assert!(reciprocal(1.0).exact);
        let some = Reciprocals::of(&[1.0, 0.0, 2.0]);
        assert_eq!(some.exact.iter().filter(|&&exact| exact).count(), 2);
        assert_eq!((some.near[2], some.rest[2]), (0.5, 0.0));
    }
}
