//! Codes and values do not depend on where memory begins: loops that begin anew where a line of the caches does.

use half::{bf16, f16};

use super::super::forced::agreed;
use super::*;

/// Bytes from the beginning of a line of the caches on, so that places in it are what their index says.
fn aligned<T: Copy + Default>(len: usize) -> (Vec<T>, usize) {
    let values = vec![T::default(); len + 64];
    let first = values.as_ptr().align_offset(64);
    (values, first)
}

#[test]
fn codes_from_any_place_to_any_place() {
    let len = 2341;
    let numbers: Vec<f32> = (0..len).map(|i| ((i * 7919 % 4096) as f32 - 2048.0) / 13.0).collect();
    for bad in [None, Some(0), Some(700), Some(len - 1)] {
        for arithmetic in [Arithmetic::Multiply, Arithmetic::Divide] {
            let scale = [if arithmetic == Arithmetic::Multiply { 1.0f32 / 1.3 } else { 1.3 }];
            for (low, high, zero_after) in [(-127.0, 127.0, 0), (-28.0, 227.0, 28), (-7.0, 8.0, 3)] {
                let params = EncodeParams {
                    scale: &scale,
                    offset: &[],
                    zero_before: &[],
                    low: &[low],
                    high: &[high],
                    zero_after: &[zero_after],
                };
                let mode = EncodeMode {
                    arithmetic,
                    steps: 1.0,
                    rounding: Rounding::NearestEven,
                    mask: 255,
                    stream: false,
                };
                let mut expected = vec![0u8; len];
                let mut x = numbers.clone();
                if let Some(bad) = bad {
                    x[bad] = f32::NAN;
                }
                let nan = super::super::forced::with(crate::simd::Level::Baseline, || {
                    encode(&x, len, 0, &params, &mode, &mut expected)
                });
                assert_eq!(nan, bad.is_some());
                let ((mut from, x_at), (mut to, at)) = (aligned::<f32>(len + 16), aligned::<u8>(len + 64));
                for x_first in [0, 1, 4, 8, 15] {
                    for first in [0, 1, 4, 16, 20, 30, 32, 44, 60, 63] {
                        let (x_at, at) = (x_at + x_first, at + first);
                        from[x_at..x_at + len].copy_from_slice(&x);
                        agreed(|| {
                            to.fill(99);
                            let codes = &mut to[at..at + len];
                            assert_eq!(encode(&from[x_at..x_at + len], len, 0, &params, &mode, codes), nan);
                            assert_eq!(codes, expected, "{arithmetic:?} from {x_first} to {first}");
                            assert!(to[..at].iter().chain(&to[at + len..]).all(|&code| code == 99));
                        });
                    }
                }
            }
        }
    }
}

/// Asserts that blocks of codes become their values, wherever those go.
fn values_to_any_place<A: Element>(width: usize, len: usize, sign_bit: u16, zero: f32) {
    let codes: Vec<u8> = (0..len).map(|i| (i * 37 % 256) as u8).collect();
    let blocks = len.div_ceil(width);
    let scale: Vec<f32> = (0..blocks).map(|j| 0.37 + j as f32 * 0.11).collect();
    let zeros = vec![zero; blocks];
    let expected = codes.iter().enumerate().map(|(i, &code)| {
        let q = if sign_bit == 0 { i32::from(code) } else { i32::from(code as i8) };
        A::from_f32(scale[i / width] * (q as f32 - zero)).to_f32().to_bits()
    });
    let expected: Vec<u32> = expected.collect();
    let (mut to, at) = aligned::<A>(len + 64);
    for first in [0, 1, 4, 7, 8, 12, 16, 31, 32, 45, 63] {
        let at = at + first;
        agreed(|| {
            to.fill(A::from_f32(99.0));
            decode(&codes, sign_bit, width, 0, &scale, &zeros, false, &mut to[at..at + len]);
            let found: Vec<u32> = to[at..at + len].iter().map(|x| x.to_f32().to_bits()).collect();
            assert_eq!(found, expected, "{:?}, blocks of {width}, {len} to {first}", A::TYPE);
            assert!(to[..at].iter().chain(&to[at + len..]).all(|x| x.to_f32() == 99.0));
        });
    }
}

#[test]
fn values_of_blocks_to_any_place() {
    for width in [32, 128, 160, 256] {
        for more in [0, 1, 20, 31, 32, 44, 63, 100] {
            for (sign_bit, zero) in [(0, 0.0), (128, 0.0), (0, 128.0), (128, 3.5)] {
                values_to_any_place::<f32>(width, 4 * width + more, sign_bit, zero);
                values_to_any_place::<f16>(width, 4 * width + more, sign_bit, zero);
                values_to_any_place::<bf16>(width, 4 * width + more, sign_bit, zero);
            }
        }
    }
    for len in [1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 500, 2000] {
        values_to_any_place::<f32>(len, len, 128, 0.0);
    }
}
