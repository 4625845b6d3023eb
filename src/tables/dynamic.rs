//! Dynamic 8-bit maps: the number of leading zeros is a decimal exponent, the rest a linear fraction.
//!
//! Dettmers 2016, *8-Bit Approximations for Parallelism in Deep Learning*; Dettmers, Lewis, Shleifer and Zettlemoyer
//! 2022, *8-bit Optimizers via Block-wise Quantization*. In the decade 10^(i−6), i = 0 to 6, there are 2^i positive
//! values (2^(i+1) without sign), the midpoints of equal parts of [0.1, 1]:
//!
//! ```text
//! 10^(i−6) · (b_j + b_(j+1)) / 2,     b = 2^i + 1 points from 0.1 to 1
//! ```
//!
//! with either sign, and besides them 0 and 1.

use super::{Levels, Threshold, linspace};

/// Decades of the map.
const DECADES: i32 = 7;

/// The 256 values in ascending order, the largest 1: the f32 of bitsandbytes, whose arithmetic this is. There is no
/// −1 in the signed map; the map without sign has twice as many values above zero.
///
/// The decision is that of the library's GPU kernels: midpoints rounded to f32, and a tie goes to the even code, on
/// which their binary search ends. (On the CPU the library gives a tie to the lower code.)
pub(crate) fn dynamic(signed: bool) -> Levels {
    let mut values: Vec<f32> = vec![0.0, 1.0];
    for decade in 0..DECADES {
        let parts = 1 << (decade + i32::from(!signed));
        let power = 10f64.powi(decade - (DECADES - 1)) as f32;
        for pair in linspace(0.1, 1.0, parts + 1).windows(2) {
            let value = power * (pair.iter().sum::<f32>() / 2.0);
            values.push(value);
            if signed {
                values.push(-value);
            }
        }
    }
    values.sort_unstable_by(f32::total_cmp);
    let thresholds = values
        .windows(2)
        .enumerate()
        .map(|(code, pair)| {
            let middle = f64::from(pair.iter().sum::<f32>() * 0.5);
            if code % 2 == 0 { Threshold::Above(middle) } else { Threshold::From(middle) }
        })
        .collect();
    Levels { values: values.into_iter().map(f64::from).collect(), order: (0..256).collect(), thresholds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minifloat::tests::fnv;

    #[test]
    fn values_are_those_of_bitsandbytes() {
        // bitsandbytes 0.50.2 on torch 2.15.0, create_dynamic_map(signed): the hash of the little-endian f32.
        for (signed, expected) in [(true, 0xd677f22a96665bc4), (false, 0x43811b16730a873e)] {
            let levels = dynamic(signed);
            levels.assert_consistent();
            assert_eq!(levels.values.len(), 256);
            let bytes = levels.values.iter().flat_map(|&value| (value as f32).to_le_bytes());
            assert_eq!(fnv(bytes), expected);
        }
        // Some of them, to be read.
        let levels = dynamic(true);
        assert_eq!(levels.values[..3], [-0.992968738079071, -0.9789062738418579, -0.96484375]);
        assert_eq!(
            levels.values[126..130],
            [-5.500000384017767e-07, 0.0, 5.500000384017767e-07, 3.250000190746505e-06]
        );
        assert_eq!(
            dynamic(false).values[..4],
            [0.0, 3.2500003044333425e-07, 7.749999895168003e-07, 2.1249998098937795e-06]
        );
    }

    #[test]
    fn decisions_are_those_of_the_kernel() {
        // The kernel's search, by its description: seven halvings from code 127, then a comparison of f32.
        fn kernel(values: &[f32], x: f32) -> u16 {
            let (mut pivot, mut above, mut below, mut step) = (127, 255, 0, 64);
            while step > 0 {
                if x > values[pivot] {
                    below = pivot;
                    pivot += step;
                } else {
                    above = pivot;
                    pivot -= step;
                }
                step /= 2;
            }
            let middle = |other: usize| (values[other] + values[pivot]) * 0.5;
            let code = if x > values[pivot] {
                if x > middle(above) { above } else { pivot }
            } else if x < middle(below) {
                below
            } else {
                pivot
            };
            code as u16
        }
        for signed in [true, false] {
            let levels = dynamic(signed);
            let values: Vec<f32> = levels.values.iter().map(|&value| value as f32).collect();
            let middles = values.windows(2).map(|pair| (pair[0] + pair[1]) * 0.5);
            for at in middles.chain(values.iter().copied()) {
                for x in [at.next_down(), at, at.next_up()] {
                    assert_eq!(levels.code_f32(x), kernel(&values, x), "{x:e}");
                    assert_eq!(levels.code(f64::from(x)), kernel(&values, x), "{x:e}");
                }
            }
        }
    }
}
