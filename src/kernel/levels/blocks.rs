//! The largest magnitudes of short blocks.

use super::super::dispatch;
#[cfg(target_arch = "x86_64")]
use super::short;

/// Writes the largest magnitude of each block of `width` elements; the last may be shorter. Whether all elements are
/// finite; where they are not, magnitudes are those of no number.
pub(crate) fn magnitudes(x: &[f32], width: usize, out: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if super::has_avx2() && width > 0 && width.is_multiple_of(short::LANES) {
        return short::magnitudes(x, width, out);
    }
    by_blocks(x, width, out)
}

dispatch! {
    /// As [`magnitudes`].
    pub(super) fn by_blocks[](x: &[f32], width: usize, out: &mut [f32]) -> bool {
        match width {
            // Loops of known length are unrolled.
            16 => of_width::<16>(x, out),
            32 => of_width::<32>(x, out),
            64 => of_width::<64>(x, out),
            128 => of_width::<128>(x, out),
            _ => of_blocks(x.chunks(width.max(1)), out),
        }
    }
}

#[inline(always)]
fn of_width<const WIDTH: usize>(x: &[f32], out: &mut [f32]) -> bool {
    let (blocks, rest) = x.as_chunks::<WIDTH>();
    let (whole, last) = out.split_at_mut(blocks.len().min(out.len()));
    of_blocks(blocks.iter().map(<[f32; WIDTH]>::as_slice), whole) & of_blocks(rest.chunks(WIDTH), last)
}

#[inline(always)]
fn of_blocks<'a>(blocks: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) -> bool {
    let mut largest = 0;
    for (block, out) in blocks.zip(out) {
        // Magnitudes are in the order of their bits, with NaN behind the infinities.
        let magnitude = block.iter().fold(0, |most, x| most.max((x.to_bits() & 0x7FFF_FFFF) as i32));
        largest = largest.max(magnitude);
        *out = f32::from_bits(magnitude as u32);
    }
    largest < f32::INFINITY.to_bits() as i32
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::agreed;
    use super::*;

    #[test]
    fn magnitudes_are_those_of_every_block() {
        let x: Vec<f32> = (0..700).map(|i| (i as f32 * 1.7).sin() * (i % 37) as f32 * 1e-3).collect();
        for width in [0, 1, 7, 16, 24, 32, 64, 100, 128, 1000] {
            for len in [0, 1, 15, 16, 17, 64, 127, 128, 129, 700] {
                let x = &x[..len];
                let expected: Vec<f32> = x
                    .chunks(width.max(1))
                    .map(|block| block.iter().fold(0.0, |m: f32, x| m.max(x.abs())))
                    .collect();
                let found = agreed(|| {
                    let mut out = vec![9.0; expected.len()];
                    assert!(magnitudes(x, width, &mut out));
                    out
                });
                assert_eq!(found, expected, "{width} {len}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_noticed_anywhere() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..100 {
                let mut x = [f32::MAX; 100];
                assert!(agreed(|| magnitudes(&x, 32, &mut [0.0; 4])));
                x[at] = bad;
                assert!(!agreed(|| magnitudes(&x, 32, &mut [0.0; 4])), "{bad} at {at}");
            }
        }
    }
}
