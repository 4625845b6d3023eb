//! Sums without rounding, so that they do not depend on the order of their terms.
//!
//! Jonathan Richard Shewchuk 1997, *Adaptive precision floating-point arithmetic and fast robust geometric
//! predicates*, section 2.4: a sum is kept as an expansion of numbers that do not overlap, each of which is the
//! rounding error of the next. The total is rounded once, when it is asked for.

/// A sum of f64 without rounding. Exact as long as nothing overflows or underflows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactSum {
    /// In order of magnitude, none zero.
    parts: Vec<f64>,
}

/// a + b as a rounded sum and what the rounding lost.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_virtual = sum - a;
    (sum, (a - (sum - b_virtual)) + (b - b_virtual))
}

/// a · b as a rounded product and what the rounding lost.
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

impl ExactSum {
    /// Adds `x`. A few additions for each number of the expansion, of which sums of like numbers have two or three.
    pub(crate) fn add(&mut self, x: f64) {
        let (mut rest, mut kept) = (x, 0);
        for at in 0..self.parts.len() {
            let Some(&part) = self.parts.get(at) else { break };
            let (sum, error) = two_sum(rest, part);
            if error != 0.0 {
                if let Some(place) = self.parts.get_mut(kept) {
                    *place = error;
                }
                kept += 1;
            }
            rest = sum;
        }
        self.parts.truncate(kept);
        if rest != 0.0 {
            self.parts.push(rest);
        }
    }

    /// Adds a · b.
    pub(crate) fn add_product(&mut self, a: f64, b: f64) {
        let (product, error) = two_product(a, b);
        self.add(error);
        self.add(product);
    }

    /// Adds all that `other` holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.parts.iter().for_each(|&part| self.add(part));
    }

    /// This sum times that of `other`.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut product = Self::default();
        for &a in &self.parts {
            other.parts.iter().for_each(|&b| product.add_product(a, b));
        }
        product
    }

    /// This sum less that of `other`.
    pub(crate) fn minus(mut self, other: &Self) -> Self {
        other.parts.iter().for_each(|&part| self.add(-part));
        self
    }

    /// The total, rounded once to nearest-even.
    pub(crate) fn total(&self) -> f64 {
        let mut parts = self.parts.iter().rev().copied();
        let mut total = parts.next().unwrap_or(0.0);
        while let Some(part) = parts.next() {
            let (sum, error) = two_sum(total, part);
            total = sum;
            if error != 0.0 {
                // Half a unit in the last place exactly: what follows decides to which side it is rounded.
                let next = parts.next().unwrap_or(0.0);
                let twice = 2.0 * error;
                let moved = total + twice;
                if error * next > 0.0 && moved - total == twice {
                    total = moved;
                }
                break;
            }
        }
        total
    }
}

impl From<f64> for ExactSum {
    fn from(x: f64) -> Self {
        let mut sum = Self::default();
        sum.add(x);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::samples::SplitMix64;

    #[test]
    fn nothing_is_lost() {
        let total = |terms: &[f64]| {
            let mut sum = ExactSum::default();
            terms.iter().for_each(|&x| sum.add(x));
            sum.total()
        };
        assert_eq!(total(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(total(&[0.1; 10]), 1.0);
        assert_eq!(total(&[1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
        assert_eq!(total(&[1e16, 1.0, -1e-16]), 1e16);
        assert_eq!(total(&[]), 0.0);
    }

    #[test]
    fn any_order_and_any_split_gives_the_same_bits() {
        let mut random = SplitMix64(3);
        let terms: Vec<f64> = (0..2000).map(|_| random.normal() * (40.0 * random.normal()).exp2()).collect();
        let mut forward = ExactSum::default();
        terms.iter().for_each(|&x| forward.add_product(x, x));
        let mut parts = [ExactSum::default(), ExactSum::default()];
        for (i, &x) in terms.iter().enumerate().rev() {
            parts[i % 2].add_product(x, x);
        }
        let [mut merged, other] = parts;
        merged.merge(&other);
        assert_eq!(merged.total(), forward.total());
        assert_eq!(merged.minus(&forward).total(), 0.0);
    }

    #[test]
    fn products_of_sums_are_exact() {
        let mut a = ExactSum::from(2f64.powi(60));
        a.add(1.0);
        // (2^60 + 1)² = 2^120 + 2^61 + 1
        let rest = a.times(&a).minus(&ExactSum::from(2f64.powi(120))).minus(&ExactSum::from(2f64.powi(61)));
        assert_eq!(rest.total(), 1.0);
    }
}
