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
