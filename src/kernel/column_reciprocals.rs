//! The reciprocals of the scales of columns.

use super::dispatch;
#[cfg(target_arch = "x86_64")]
use super::division::{reciprocal, same_integers};

/// Reciprocals in two terms, one for the scale of each column, found once for all lines.
#[derive(Debug, Default)]
pub(crate) struct ColumnReciprocals {
    /// The nearest number to each; NaN where two terms do not give the integers of a division.
    near: Vec<f32>,
    /// The nearest number to the rest.
    rest: Vec<f32>,
    /// Whether none of these is NaN.
    whole: bool,
}

impl ColumnReciprocals {
    /// Makes these the reciprocals of `scales`, for codes of integers of at most `most` in magnitude.
    pub(crate) fn find(&mut self, scales: &[f32], most: u32) {
        self.near.resize(scales.len(), 0.0);
        self.rest.resize(scales.len(), 0.0);
        self.whole = find(scales, most, &mut self.near, &mut self.rest);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.near.clear();
        self.rest.clear();
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// The terms of `columns` columns, if there are as many, and whether they serve for all of these.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn terms(&self, columns: usize) -> Option<(Terms<'_>, bool)> {
        let terms = Terms { near: &self.near, rest: &self.rest };
        (columns > 0 && self.near.len() == columns).then_some((terms, self.whole))
    }
}

/// The two terms of some columns each.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub near: &'a [f32],
    pub rest: &'a [f32],
}

#[cfg(target_arch = "x86_64")]
impl Terms<'_> {
    pub(super) fn part(&self, columns: core::ops::Range<usize>) -> Self {
        Self { near: &self.near[columns.clone()], rest: &self.rest[columns] }
    }
}

dispatch! {
    /// Whether two terms serve for all of them.
    fn find[](scales: &[f32], most: u32, near: &mut [f32], rest: &mut [f32]) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let mut whole = true;
            for ((&scale, near), rest) in scales.iter().zip(near).zip(rest) {
                let by = reciprocal(scale);
                let serves = by.exact | same_integers(scale, most);
                (*near, *rest) = (if serves { by.near } else { f32::NAN }, by.rest);
                whole &= serves;
            }
            whole
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (scales, most, near, rest);
            false
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::super::forced;
    use super::*;

    #[test]
    fn two_terms_give_the_integers_of_divisions() {
        const MOST: u32 = 127;
        let scales: Vec<f32> = (0..4000u32)
            .map(|i| f32::from_bits(0x3C00_0000 + i.wrapping_mul(0x9E37_79B9) % 0x0200_0000))
            .collect();
        for level in forced::available() {
            forced::with(level, || {
                let mut all = ColumnReciprocals::default();
                assert!(all.is_empty() && all.terms(0).is_none());
                all.find(&scales, MOST);
                assert!(all.terms(scales.len() - 1).is_none());
                let (Terms { near, rest }, whole) = all.terms(scales.len()).unwrap();
                assert_eq!(whole, near.iter().all(|near| !near.is_nan()));
                let mut served = 0;
                for ((&scale, &near), &rest) in scales.iter().zip(near).zip(rest) {
                    if near.is_nan() {
                        continue;
                    }
                    served += 1;
                    for half in (0..=MOST).step_by(9) {
                        let at = ((half as f32 + 0.5) * scale).to_bits();
                        for x in [at - 1, at, at + 1].map(f32::from_bits) {
                            let found = x.mul_add(near, x * rest).round_ties_even();
                            assert_eq!(found, (x / scale).round_ties_even(), "{x:e} by {scale:e}");
                        }
                    }
                }
                assert!(served > scales.len() * 9 / 10, "{served}");
                all.clear();
                assert!(all.is_empty());
            });
        }
    }
}
