//! Dense packing of codes: a bitstream, least significant bit first, in which code `i` of `b` bits
//! occupies bits `i·b` to `(i + 1)·b`. Eight codes fill `b` bytes, so groups of eight begin at bytes.
#![allow(unsafe_code)] // bytes seen as signed bytes, intrinsics

use super::{Code, dispatch};

/// The widest code.
const MAX_BITS: u32 = 16;

/// Bytes of `count` codes of `bits` bits; `None` where `usize` is too small or `bits` is not 1 to 16.
pub(crate) fn packed_len(count: usize, bits: u32) -> Option<usize> {
    if bits == 0 || bits > MAX_BITS {
        return None;
    }
    let bits = bits as usize;
    (count / 8).checked_mul(bits)?.checked_add((count % 8 * bits).div_ceil(8))
}

/// Code `index` of a packed slice; `None` beyond its end.
pub(crate) fn get(bytes: &[u8], bits: u32, index: usize) -> Option<u16> {
    if bits == 0 || bits > MAX_BITS {
        return None;
    }
    let bit = index % 8 * bits as usize;
    let first = (index / 8).checked_mul(bits as usize)?.checked_add(bit / 8)?;
    let used = (bit % 8 + bits as usize).div_ceil(8);
    let window = bytes.get(first..first.checked_add(used)?)?;
    let word = window.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    Some((word >> (bit % 8)) as u16 & mask(bits))
}

/// Bytes as signed bytes.
pub(crate) fn as_i8(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size, alignment and valid values.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

#[inline(always)]
fn mask(bits: u32) -> u16 {
    (u32::from(u16::MAX) >> (MAX_BITS - bits)) as u16
}

/// Eight codes (or fewer, followed by zeros) in one word.
#[inline(always)]
fn join<C: Code, const BITS: usize>(codes: &[C]) -> u128 {
    let mask = mask(BITS as u32);
    if BITS <= 8 {
        let code = |i: usize, c: &C| u64::from(c.to_u16() & mask) << (i * BITS);
        codes.iter().enumerate().fold(0, |word, (i, c)| word | code(i, c)).into()
    } else {
        let code = |i: usize, c: &C| u128::from(c.to_u16() & mask) << (i * BITS);
        codes.iter().enumerate().fold(0, |word, (i, c)| word | code(i, c))
    }
}

#[inline(always)]
fn pack_groups<C: Code, const BITS: usize>(codes: &[C], out: &mut [u8]) {
    let (groups, _) = codes.as_chunks::<8>();
    let (out_groups, _) = out.as_chunks_mut::<BITS>();
    for (codes, out) in groups.iter().zip(out_groups) {
        let word = join::<C, BITS>(codes).to_le_bytes();
        out.copy_from_slice(&word[..BITS]);
    }
    // The codes after the last whole group, or those of a group that `out` holds only in part.
    let done = groups.len().min(out.len() / BITS);
    let rest = &codes[done * 8..];
    let rest = &rest[..rest.len().min(8)];
    let word = join::<C, BITS>(rest).to_le_bytes();
    for (out, byte) in out[done * BITS..].iter_mut().zip(&word[..(rest.len() * BITS).div_ceil(8)]) {
        *out = *byte;
    }
}

#[inline(always)]
fn unpack_groups<C: Code, const BITS: usize>(bytes: &[u8], out: &mut [C]) {
    let mask = mask(BITS as u32);
    let (groups, _) = bytes.as_chunks::<BITS>();
    let (out_groups, _) = out.as_chunks_mut::<8>();
    for (bytes, out) in groups.iter().zip(out_groups) {
        if BITS <= 8 {
            let mut word = [0; 8];
            word[..BITS.min(8)].copy_from_slice(&bytes[..BITS.min(8)]);
            let word = u64::from_le_bytes(word);
            for (i, code) in out.iter_mut().enumerate() {
                *code = C::from_u16((word >> (i * BITS)) as u16 & mask);
            }
        } else {
            let mut word = [0; 16];
            word[..BITS].copy_from_slice(bytes);
            let word = u128::from_le_bytes(word);
            for (i, code) in out.iter_mut().enumerate() {
                *code = C::from_u16((word >> (i * BITS)) as u16 & mask);
            }
        }
    }
}

macro_rules! by_width {
    ($bits:expr, $call:ident, $c:ty, ($($arg:expr),*)) => {
        match $bits {
            1 => $call::<$c, 1>($($arg),*),
            2 => $call::<$c, 2>($($arg),*),
            3 => $call::<$c, 3>($($arg),*),
            4 => $call::<$c, 4>($($arg),*),
            5 => $call::<$c, 5>($($arg),*),
            6 => $call::<$c, 6>($($arg),*),
            7 => $call::<$c, 7>($($arg),*),
            8 => $call::<$c, 8>($($arg),*),
            9 => $call::<$c, 9>($($arg),*),
            10 => $call::<$c, 10>($($arg),*),
            11 => $call::<$c, 11>($($arg),*),
            12 => $call::<$c, 12>($($arg),*),
            13 => $call::<$c, 13>($($arg),*),
            14 => $call::<$c, 14>($($arg),*),
            15 => $call::<$c, 15>($($arg),*),
            16 => $call::<$c, 16>($($arg),*),
            _ => {}
        }
    };
}

/// Packs `codes` into the first [`packed_len`] bytes of `out`; the bits after the last code in its
/// byte are zero. Bits of a code beyond its width are dropped.
pub(crate) fn pack<C: Code>(codes: &[C], bits: u32, out: &mut [u8]) {
    debug_assert!(packed_len(codes.len(), bits).is_some_and(|len| len <= out.len()));
    if bits == 4
        && let Some(codes) = C::bytes(codes)
    {
        return pack_nibbles(codes, out);
    }
    by_width!(bits, pack_groups, C, (codes, out));
}

/// Packs whole vectors of codes of 4 bits; how many it has packed.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pack_vectors(codes: &[u8], out: &mut [u8]) -> usize {
    use core::arch::x86_64::*;
    let (steps, _) = codes.as_chunks::<64>();
    let (places, _) = out.as_chunks_mut::<32>();
    let steps = steps.iter().zip(places);
    let done = 64 * steps.len();
    // The first of two neighbours once, and the second sixteen times.
    let (low, weights) = (_mm256_set1_epi8(0x0F), _mm256_set1_epi16(0x1001));
    for (codes, place) in steps {
        let pairs = |at: usize| {
            // SAFETY: 64 codes.
            let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().add(at).cast()) };
            _mm256_maddubs_epi16(_mm256_and_si256(codes, low), weights)
        };
        // Packing works in halves.
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(pairs(0), pairs(32)));
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), bytes) };
    }
    done
}

/// Packs codes of 4 bits.
fn pack_nibbles(codes: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = if super::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the level says that the machine has AVX2.
        unsafe { pack_vectors(codes, out) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    pack_pairs(&codes[done..], &mut out[done / 2..]);
}

dispatch! {
    fn pack_pairs[](codes: &[u8], out: &mut [u8]) {
        let (pairs, rest) = codes.as_chunks::<2>();
        for (pair, out) in pairs.iter().zip(&mut *out) {
            let pair = u16::from_le_bytes(*pair) & 0x0F0F;
            *out = (pair | pair >> 4) as u8;
        }
        if let (Some(last), Some(out)) = (rest.first(), out.get_mut(pairs.len())) {
            *out = last & 0x0F;
        }
    }
}

dispatch! {
    /// As many codes as there are bytes and places for.
    fn unpack_nibbles[](bytes: &[u8], out: &mut [u8]) {
        let (pairs, _) = out.as_chunks_mut::<2>();
        for (byte, pair) in bytes.iter().zip(pairs) {
            let byte = u16::from(*byte);
            *pair = ((byte | byte << 4) & 0x0F0F).to_le_bytes();
        }
    }
}

dispatch! {
    fn unpack_aligned[C: Code](bytes: &[u8], bits: u32, out: &mut [C]) {
        by_width!(bits, unpack_groups, C, (bytes, out));
    }
}

/// Unpacks codes `first`, `first + 1`, … until `out` is full or the bytes end; what is beyond their
/// end is left as it is.
pub(crate) fn unpack<C: Code>(bytes: &[u8], bits: u32, first: usize, out: &mut [C]) {
    debug_assert!((1..=MAX_BITS).contains(&bits));
    let head = (first.wrapping_neg() % 8).min(out.len());
    let groups = (out.len() - head) / 8;
    let (out_head, out) = out.split_at_mut(head);
    let (out_groups, out_tail) = out.split_at_mut(groups * 8);
    let singles = |first: usize, out: &mut [C]| {
        for (i, out) in out.iter_mut().enumerate() {
            let Some(code) = first.checked_add(i).and_then(|index| get(bytes, bits, index)) else { break };
            *out = C::from_u16(code);
        }
    };
    singles(first, out_head);
    let Some(aligned) = first.checked_add(head) else { return };
    if groups > 0 {
        let start = (aligned / 8).checked_mul(bits as usize);
        let whole = start.and_then(|start| bytes.get(start..)).unwrap_or_default();
        match C::bytes_mut(out_groups) {
            Some(out) if bits == 4 => {
                let bytes = whole.len().min(out.len() / 2) / 4 * 4;
                unpack_nibbles(&whole[..bytes], out);
            }
            _ => unpack_aligned(whole, bits, out_groups),
        }
        // A last group that the bytes hold only in part.
        let done = if bits == 0 { 0 } else { (whole.len() / bits as usize).min(groups) };
        singles(aligned.saturating_add(done * 8), out_groups.get_mut(done * 8..).unwrap_or_default());
    }
    singles(aligned.saturating_add(groups * 8), out_tail);
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit.
    fn oracle(codes: &[u16], bits: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; (codes.len() * bits).div_ceil(8)];
        for bit in 0..codes.len() * bits {
            bytes[bit / 8] |= ((codes[bit / bits] >> (bit % bits) & 1) as u8) << (bit % 8);
        }
        bytes
    }

    fn check(codes: &[u16], bits: u32, first: usize) {
        let expected = oracle(codes, bits as usize);
        assert_eq!(packed_len(codes.len(), bits), Some(expected.len()));
        // One byte more, which must stay as it is.
        let mut packed = vec![0xAA; expected.len() + 1];
        pack(codes, bits, &mut packed);
        assert_eq!(packed.pop(), Some(0xAA));
        assert_eq!(packed, expected, "{bits} bits");
        let masked: Vec<u16> = codes.iter().map(|c| c & mask(bits)).collect();
        let wide = agreed(|| {
            let mut out = vec![0u16; codes.len() - first];
            unpack(&packed, bits, first, &mut out);
            out
        });
        assert_eq!(wide, masked[first..], "{bits} bits from {first}");
        if bits <= 8 {
            let narrow: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
            let mut repacked = vec![0x55; packed.len()];
            pack(&narrow, bits, &mut repacked);
            assert_eq!(repacked, packed);
            let unpacked = agreed(|| {
                let mut out = vec![0u8; codes.len() - first];
                unpack(&packed, bits, first, &mut out);
                out
            });
            assert!(unpacked.iter().zip(&masked[first..]).all(|(a, b)| u16::from(*a) == *b));
        }
        for (i, code) in masked.iter().enumerate() {
            assert_eq!(get(&packed, bits, i), Some(*code));
        }
        assert_eq!(get(&packed, bits, packed.len() * 8 / bits as usize), None);
    }

    proptest! {
        #[test]
        fn round_trip(codes in proptest::collection::vec(any::<u16>(), 0..300), bits in 1u32..=16, at in any::<prop::sample::Index>()) {
            check(&codes, bits, at.index(codes.len() + 1));
        }
    }

    #[test]
    fn every_width_and_short_length() {
        for bits in 1..=16 {
            for len in 0..=33usize {
                let codes: Vec<u16> = (0..len).map(|i| (i as u16).wrapping_mul(40_503) ^ 0xFFFF).collect();
                (0..=len).for_each(|first| check(&codes, bits, first));
            }
        }
    }

    #[test]
    fn lengths_that_overflow_have_no_length() {
        assert_eq!(packed_len(usize::MAX, 1), Some(usize::MAX / 8 + 1));
        assert_eq!(packed_len(usize::MAX, 8), Some(usize::MAX));
        assert_eq!(packed_len(usize::MAX, 9), None);
        assert_eq!((packed_len(1, 0), packed_len(1, 17)), (None, None));
        assert_eq!(
            (get(&[0; 4], 0, 0), get(&[0; 4], 17, 0), get(&[0; 4], 16, usize::MAX)),
            (None, None, None)
        );
    }

    #[test]
    fn bytes_that_end_early_leave_the_rest() {
        for bits in 1..=16u32 {
            let codes: Vec<u16> = (0..40).map(|i| i * 1_657).collect();
            let packed = oracle(&codes, bits as usize);
            for len in 0..packed.len() {
                for first in [0, 3, 8, 39, 500, usize::MAX] {
                    let mut out = [0xBEEFu16; 40];
                    unpack(&packed[..len], bits, first, &mut out);
                    let whole = (len * 8 / bits as usize).saturating_sub(first).min(40);
                    for (i, out) in out.iter().enumerate() {
                        let expected = if i < whole { codes[first + i] & mask(bits) } else { 0xBEEF };
                        assert_eq!(*out, expected, "{bits} bits, {len} bytes, from {first}, code {i}");
                    }
                }
            }
        }
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn short_outputs_and_impossible_widths_do_nothing_bad() {
        for bits in 1..=16u32 {
            let whole = oracle(&[0xFFFF; 21], bits as usize);
            for len in 0..whole.len() {
                let mut out = vec![0; len];
                pack(&[0xFFFFu16; 21], bits, &mut out);
                assert_eq!(out, whole[..len]);
            }
        }
        for bits in [0, 17, u32::MAX] {
            pack(&[1u8; 9], bits, &mut [0; 9]);
            unpack(&[1u8; 9], bits, 1, &mut [0u8; 20]);
        }
    }

    #[test]
    fn signed_bytes_are_the_same_bytes() {
        assert_eq!(as_i8(&[0, 127, 128, 255]), [0, 127, -128, -1]);
    }
}
