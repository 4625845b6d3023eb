//! Bits for each channel of a tensor, by the range of the channel.
//!
//! Ron Banner, Yury Nahshan and Daniel Soudry 2019, *Post training 4-bit quantization of convolutional networks for
//! rapid-deployment*, section 4, equation 11: with α_i the clipping value of channel i and B_i its number of levels,
//!
//! ```text
//! min Σ α_i² / (3 B_i²)  subject to  Σ B_i = B     ⇒     B_i = B · α_i^(2/3) / Σ_j α_j^(2/3),   M_i = [log₂ B_i]
//! ```
//!
//! The quota B is one of levels: n channels of M bits on average have `B = n · 2^M`.

use core::ops::RangeInclusive;

use crate::bits::BitWidth;
use crate::error::{ConfigError, DataError, Result};

/// Bits of each channel by the rule of ACIQ.
///
/// Rounding to whole bits may use more or fewer bits than asked for: [`average`](Self::average) says how many. For an
/// exact budget of bits give the channels to [`MixedPrecision`](super::MixedPrecision) as its layers.
///
/// ```
/// use lowbit::allocation::ChannelBits;
/// use lowbit::prelude::*;
/// use ndarray::{Array2, Ix2};
///
/// // The second half of the channels is eight times as wide as the first.
/// let weights = Array2::from_shape_fn((8, 64), |(i, j)| {
///     ((3 * i + 7 * j) as f32).sin() * if i < 4 { 1.0 } else { 8.0 }
/// });
/// let ranges: Vec<f64> = weights.outer_iter().map(|row| row.fold(0.0, |m: f64, w| m.max(w.abs() as f64))).collect();
/// let bits = ChannelBits::new(&ranges, 4.0, BitWidth::new(2)?..=BitWidth::EIGHT)?;
///
/// // One tensor for each width.
/// for (width, channels) in bits.by_width() {
///     let some = weights.select(Axis(0), &channels);
///     let q = Uniform::symmetric(width).granularity(PerChannel::new(Axis(0))).quantize(&some)?;
///     println!("{width} bits: channels {channels:?}, {} bytes", q.bytes());
/// }
/// assert_eq!(bits.bits().iter().map(|bits| bits.get()).collect::<Vec<_>>(), [3, 3, 3, 3, 5, 5, 5, 5]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelBits {
    bits: Vec<BitWidth>,
    levels: Vec<f64>,
    errors: (f64, f64),
}

impl ChannelBits {
    /// Bits for channels whose clipping values are `ranges`, with a quota of levels as of `average` bits for each,
    /// every width within `widths`. Channels of range zero get the least width. Time O(channels).
    ///
    /// # Errors
    ///
    /// [`DataError`] for a range that is not finite; [`ConfigError::Number`] for a negative one and for an average
    /// outside 1 to 16; [`ConfigError::TooSmall`] for widths that end before they begin.
    pub fn new(ranges: &[f64], average: f64, widths: RangeInclusive<BitWidth>) -> Result<Self> {
        let (least, most) = (widths.start().get(), widths.end().get());
        if most < least {
            let what = "the largest bit width";
            return Err(ConfigError::TooSmall { what, value: most as usize, min: least as usize }.into());
        }
        if !(1.0..=16.0).contains(&average) {
            return Err(
                ConfigError::Number { what: "the average of bits", value: average, rule: "1 to 16" }.into()
            );
        }
        for (index, &range) in ranges.iter().enumerate() {
            if range.is_nan() {
                return Err(DataError::NotANumber { index: vec![index] }.into());
            }
            if range.is_infinite() {
                return Err(DataError::Infinite { index: vec![index], value: range }.into());
            }
            if range < 0.0 {
                return Err(ConfigError::Number { what: "a range", value: range, rule: "at least 0" }.into());
            }
        }
        let share = |range: f64| range.cbrt().powi(2);
        let total: f64 = ranges.iter().map(|&range| share(range)).sum();
        let quota = ranges.len() as f64 * average.exp2();
        let levels = |&range: &f64| if total > 0.0 { quota * share(range) / total } else { average.exp2() };
        let levels: Vec<f64> = ranges.iter().map(levels).collect();
        let width = |&levels: &f64| {
            let rounded = levels.log2().round().clamp(f64::from(least), f64::from(most));
            BitWidth::new(rounded as u32)
        };
        let bits = levels.iter().map(width).collect::<Result<Vec<_>, _>>()?;
        let noise = |bits: &dyn Fn(usize) -> f64| {
            let of = |(channel, range): (usize, &f64)| range * range / (3.0 * (2.0 * bits(channel)).exp2());
            ranges.iter().enumerate().map(of).sum::<f64>() / ranges.len() as f64
        };
        let after = noise(&|channel| bits.get(channel).map_or(average, |bits| f64::from(bits.get())));
        Ok(Self { errors: (noise(&|_| average), after), bits, levels })
    }

    /// The bits M_i of each channel.
    pub fn bits(&self) -> &[BitWidth] {
        &self.bits
    }

    /// The levels B_i of each channel before they are rounded to powers of two.
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// The mean of the bits; NaN for no channels.
    pub fn average(&self) -> f64 {
        self.bits.iter().map(|bits| f64::from(bits.get())).sum::<f64>() / self.bits.len() as f64
    }

    /// The mean over channels of the expected squared error `α²/(3·4^M)`: with the average number of bits everywhere,
    /// and with these.
    pub const fn errors(&self) -> (f64, f64) {
        self.errors
    }

    /// The channels of each width that occurs, ascending.
    pub fn by_width(&self) -> Vec<(BitWidth, Vec<usize>)> {
        let mut groups = std::collections::BTreeMap::<BitWidth, Vec<usize>>::new();
        for (channel, &bits) in self.bits.iter().enumerate() {
            groups.entry(bits).or_default().push(channel);
        }
        groups.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn widths(least: u32, most: u32) -> RangeInclusive<BitWidth> {
        BitWidth::new(least).unwrap()..=BitWidth::new(most).unwrap()
    }

    #[test]
    fn levels_by_hand() {
        // α^(2/3) = 1, 4, 9 of 14, and a quota of 3 · 16 levels.
        let bits = ChannelBits::new(&[1.0, 8.0, 27.0], 4.0, widths(2, 8)).unwrap();
        for (levels, expected) in bits.levels().iter().zip([48.0 / 14.0, 192.0 / 14.0, 432.0 / 14.0]) {
            assert!((levels / expected - 1.0).abs() < 1e-14);
        }
        assert_eq!(bits.bits(), [2, 4, 5].map(|bits| BitWidth::new(bits).unwrap()));
        assert!(bits.errors().1 < bits.errors().0);
        assert_eq!(bits.average(), 11.0 / 3.0);
        let narrow = ChannelBits::new(&[1.0, 8.0, 27.0], 4.0, widths(3, 4)).unwrap();
        assert_eq!(narrow.bits(), [3, 4, 4].map(|bits| BitWidth::new(bits).unwrap()));
    }

    #[test]
    fn ends_and_bad_input() {
        let zeros = ChannelBits::new(&[0.0, 0.0], 4.0, widths(1, 16)).unwrap();
        assert_eq!(zeros.average(), 4.0);
        let some = ChannelBits::new(&[0.0, 1.0], 4.0, widths(2, 16)).unwrap();
        assert_eq!(some.by_width().first().map(|group| group.1.as_slice()), Some(&[0][..]));
        assert!(ChannelBits::new(&[], 4.0, widths(1, 16)).unwrap().average().is_nan());
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(ChannelBits::new(&[1.0, bad], 4.0, widths(1, 16)).is_err());
            assert!(ChannelBits::new(&[1.0], bad, widths(1, 16)).is_err());
        }
        assert!(ChannelBits::new(&[1.0], 4.0, widths(5, 3)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

        /// The objective of the paper is at its least: moving levels from one channel to another raises it.
        #[test]
        fn no_other_share_of_the_quota_is_better(
            ranges in prop::collection::vec(0.01..100.0f64, 2..20), from: usize, to: usize, share in 0.01..0.5f64,
        ) {
            let levels = ChannelBits::new(&ranges, 4.0, widths(1, 16)).unwrap().levels().to_vec();
            let noise = |levels: &[f64]| ranges.iter().zip(levels).map(|(a, b)| (a / b).powi(2) / 3.0).sum::<f64>();
            prop_assert!((levels.iter().sum::<f64>() / (16.0 * ranges.len() as f64) - 1.0).abs() < 1e-12);
            let (from, to) = (from % ranges.len(), to % ranges.len());
            let mut other = levels.clone();
            let moved = share * other[from];
            other[from] -= moved;
            other[to] += moved;
            prop_assert!(noise(&levels) <= noise(&other) * (1.0 + 1e-12));
        }
    }
}
