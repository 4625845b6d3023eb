//! How small and how large numbers are, from which follows what their products need to be rounded.

use super::dispatch;

/// Magnitudes of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reach {
    /// The least one but for zeros; infinite where there is none.
    pub least: f32,
    /// The largest one; NaN if there is any.
    pub most: f32,
}

impl Reach {
    pub(super) fn of(x: &[f32]) -> Self {
        let (before, most) = ends(x);
        let least = before.checked_add(1).map_or(f32::INFINITY, f32::from_bits);
        Self { least, most: f32::from_bits(most) }
    }

    /// Of the differences between two of these, where `whole` says that they are integers.
    pub(super) fn less(self, other: Self, whole: bool) -> Self {
        let least = if other.most == 0.0 {
            self.least
        } else if whole {
            1.0
        } else {
            0.0
        };
        Self { least, most: self.most + other.most }
    }

    /// Of their products with others.
    pub(super) fn times(self, other: Self) -> Self {
        Self { least: self.least * other.least, most: self.most * other.most }
    }
}

dispatch! {
    /// Whether all are integers, of at most 31 bits.
    pub(super) fn whole[](x: &[f32]) -> bool {
        x.iter().fold(true, |whole, &x| whole & (x as i32 as f32 == x))
    }
}

dispatch! {
    /// The bits of the least magnitude that is not zero, less one, and those of the largest: bits of magnitudes are in the
    /// order of what they stand for, NaN last.
    fn ends[](x: &[f32]) -> (u32, u32) {
        let (mut before, mut most) = (u32::MAX, 0);
        for x in x {
            let bits = x.to_bits() & 0x7FFF_FFFF;
            before = before.min(bits.wrapping_sub(1));
            most = most.max(bits);
        }
        (before, most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    fn of(x: &[f32]) -> (u32, u32) {
        agreed(|| {
            let Reach { least, most } = Reach::of(x);
            (least.to_bits(), most.to_bits())
        })
    }

    #[test]
    fn the_least_is_no_zero_and_the_largest_notices_what_is_no_number() {
        let tiny = f32::from_bits(1);
        for (x, least, most) in [
            (vec![], f32::INFINITY, 0.0),
            (vec![0.0, -0.0, 0.0], f32::INFINITY, 0.0),
            (vec![0.0, -3.0, 2.0], 2.0, 3.0),
            (vec![-0.0, tiny, -1e30], tiny, 1e30),
            (vec![f32::NEG_INFINITY, 1.0], 1.0, f32::INFINITY),
            (vec![f32::INFINITY, f32::NAN, 1.0], 1.0, f32::NAN),
        ] {
            for len in [0, 7, 33, 100] {
                let mut long = x.clone();
                long.extend(core::iter::repeat_n(0.0, len));
                assert_eq!(of(&long), (least.to_bits(), most.to_bits()), "{x:?} {len}");
            }
        }
    }

    #[test]
    fn differences_and_products_lie_between_the_ends() {
        let (base, none) = (Reach::of(&[0.0, 1.0, -8.0]), Reach::of(&[0.0]));
        assert_eq!(base.less(none, true), base);
        assert_eq!(base.less(Reach::of(&[3.0]), true), Reach { least: 1.0, most: 11.0 });
        assert_eq!(base.less(Reach::of(&[0.5]), false), Reach { least: 0.0, most: 8.5 });
        assert_eq!(base.times(Reach::of(&[0.5, -0.25])), Reach { least: 0.25, most: 4.0 });
        assert!(base.times(Reach::of(&[f32::NAN])).most.is_nan());
    }

    #[test]
    fn integers_are_whole() {
        assert!(whole(&[]) && whole(&[1.0, -128.0, 0.0, 65_535.0]));
        assert!(!whole(&[1.0, 0.5]) && !whole(&[f32::NAN]) && !whole(&[1e20]));
    }
}
