//! From packed codes of 4 bits to f16 and bf16: the values of a block's 16 codes as such numbers are one or two registers,
//! in which permutations look 32 codes up at once.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::super::convert::upper_halves;
use super::super::lanes::{Lanes, sixteen_rounded};
use super::super::reach::{Reach, whole};
use super::super::{level, runs, stream};
use crate::simd::Level;

/// Codes.
const CODES: usize = 16;

/// Values that are looked up at once, and the bytes of their codes.
const LANES: usize = 32;
const BYTES: usize = LANES / 2;

/// What the codes of blocks stand for: `scale · (base − zero)`, computed in f32.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Blocks<'a> {
    /// By code; one for all blocks, or one for each.
    pub bases: &'a [[f32; CODES]],
    /// The scale of each block; empty if there are none.
    pub scale: &'a [f32],
    /// The zero point of each block; empty if there are none.
    pub zero: &'a [f32],
    /// Whether values beyond the range of f16 are held within it.
    pub held: bool,
}

impl Blocks<'_> {
    /// Whether values need less than others to be rounded, as [`Half::rounded`] says, or [`Half::both_rounded`] if not `wide`.
    fn fit<A: Half>(&self, wide: bool) -> bool {
        let Self { bases, scale, zero, held } = *self;
        if A::HELD && !held {
            return true;
        }
        // Tables of many blocks are not worth the question.
        let [base] = bases else { return false };
        let scale = if scale.is_empty() { Reach::of(&[1.0]) } else { Reach::of(scale) };
        let values = Reach::of(base).less(Reach::of(zero), whole(zero) && whole(base)).times(scale);
        if wide || A::HELD { A::fit(values.least, values.most) } else { values.most < f32::INFINITY }
    }
}

/// Numbers of 16 bits.
pub(in crate::kernel) trait Half: Lanes {
    /// Whether values that do not fit are beyond the range, and held within it.
    const HELD: bool;

    /// Rounds to the nearest, as [`convert`](super::super::convert::convert) does, but for what is held. If `FIT`, numbers do
    /// as [`Lanes::fit`] says, or none is to be held.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX-512 F, BW, VL and DQ.
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i;

    /// As [`rounded`](Self::rounded), of the first eight numbers and the others. If `FIT`, there is none to be held, and
    /// none that is NaN.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2 and F16C.
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i;
}

impl Half for f16 {
    const HELD: bool = true;

    #[inline(always)]
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: the caller's promise. The second operand where it is NaN.
        unsafe {
            let within = _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x));
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(if FIT { x } else { within })
        }
    }

    #[inline(always)]
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
            let (mut a, mut b) = (a, b);
            if !FIT {
                a = _mm256_min_ps(high, _mm256_max_ps(low, a));
                b = _mm256_min_ps(high, _mm256_max_ps(low, b));
            }
            let a = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm256_set_m128i(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(b), a)
        }
    }
}

impl Half for bf16 {
    const HELD: bool = false;

    #[inline(always)]
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i {
        // SAFETY: the caller's promise; numbers fit only where the machine has the instruction.
        unsafe {
            if FIT {
                return sixteen_rounded(x);
            }
            let bits = _mm512_castps_si512(x);
            let upper = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
            let most = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
            let nearest = _mm512_srli_epi32::<16>(_mm512_add_epi32(most, odd));
            // NaN stays NaN, and quiet.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let words = _mm512_mask_or_epi32(nearest, nan, upper, _mm512_set1_epi32(0x40));
            _mm512_cvtepi32_epi16(words)
        }
    }

    #[inline(always)]
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            // Packing works in halves.
            let words = if FIT {
                let (one, most) = (_mm256_set1_epi32(1), _mm256_set1_epi32(0x7FFF));
                let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
                let odd_a = _mm256_and_si256(_mm256_srli_epi32::<16>(a), one);
                let odd_b = _mm256_and_si256(_mm256_srli_epi32::<16>(b), one);
                let (a, b) = (_mm256_add_epi32(a, most), _mm256_add_epi32(b, most));
                let (a, b) = (_mm256_add_epi32(a, odd_a), _mm256_add_epi32(b, odd_b));
                _mm256_packus_epi32(_mm256_srli_epi32::<16>(a), _mm256_srli_epi32::<16>(b))
            } else {
                _mm256_packus_epi32(upper_halves(a), upper_halves(b))
            };
            _mm256_permute4x64_epi64::<0b11_01_10_00>(words)
        }
    }
}

/// The values of the codes of a block, in registers.
trait Table<A: Half>: Copy {
    /// What codes stand for before they are scaled.
    type Base: Copy;

    /// # Safety
    ///
    /// This and the next ones only for machines with the instructions of the table.
    unsafe fn base(values: &[f32; CODES]) -> Self::Base;

    /// # Safety
    ///
    /// As above.
    unsafe fn new<const FIT: bool>(base: Self::Base, factor: f32, zero: Option<f32>) -> Self;

    /// Writes the values of 32 codes.
    ///
    /// # Safety
    ///
    /// There are 16 bytes at `codes` and 32 places at `out`, a multiple of 16 bytes if `STORE` is [`PARTS`], of 64 if it is
    /// [`LINES`].
    unsafe fn write<const STORE: u8>(self, codes: *const u8, out: *mut A);
}

/// How vectors are stored: as usual, or past the caches by parts of 16 bytes or by lines.
const PLAIN: u8 = 0;
const PARTS: u8 = 1;
const LINES: u8 = 2;

/// All values twice, in vectors of 512 bits.
#[derive(Clone, Copy)]
struct Twice(__m512i);

impl<A: Half> Table<A> for Twice {
    type Base = __m512;

    #[inline(always)]
    unsafe fn base(values: &[f32; CODES]) -> __m512 {
        // SAFETY: the caller's promise, and sixteen floats.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn new<const FIT: bool>(base: __m512, factor: f32, zero: Option<f32>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let base = if let Some(zero) = zero { _mm512_sub_ps(base, _mm512_set1_ps(zero)) } else { base };
            let all = A::rounded::<FIT>(_mm512_mul_ps(base, _mm512_set1_ps(factor)));
            Self(_mm512_broadcast_i64x4(all))
        }
    }

    #[inline(always)]
    unsafe fn write<const STORE: u8>(self, codes: *const u8, out: *mut A) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.cast()));
            // The first code of a byte in the lower word, and the second in the upper one; higher bits than four do not
            // matter, as all values are there twice.
            let words = _mm512_or_si512(bytes, _mm512_slli_epi32::<12>(bytes));
            let values = _mm512_permutexvar_epi16(words, self.0);
            match STORE {
                LINES => _mm512_stream_si512(out.cast(), values),
                PARTS => stream::store_line::<true>(out.cast(), values),
                _ => stream::store_line::<false>(out.cast(), values),
            }
        }
    }
}

/// The lower bytes of all values, and the upper ones, each twice, in vectors of 256 bits.
#[derive(Clone, Copy)]
struct Planes {
    low: __m256i,
    high: __m256i,
}

impl<A: Half> Table<A> for Planes {
    type Base = [__m256; 2];

    #[inline(always)]
    unsafe fn base(values: &[f32; CODES]) -> [__m256; 2] {
        // SAFETY: the caller's promise, and sixteen floats.
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(CODES / 2))] }
    }

    #[inline(always)]
    unsafe fn new<const FIT: bool>([a, b]: [__m256; 2], factor: f32, zero: Option<f32>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut a, mut b) = (a, b);
            if let Some(zero) = zero {
                (a, b) = (_mm256_sub_ps(a, _mm256_set1_ps(zero)), _mm256_sub_ps(b, _mm256_set1_ps(zero)));
            }
            let factor = _mm256_set1_ps(factor);
            let words = A::both_rounded::<FIT>(_mm256_mul_ps(a, factor), _mm256_mul_ps(b, factor));
            let order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            let bytes = _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order));
            Self {
                low: _mm256_permute4x64_epi64::<0b10_00_10_00>(bytes),
                high: _mm256_permute4x64_epi64::<0b11_01_11_01>(bytes),
            }
        }
    }

    #[inline(always)]
    unsafe fn write<const STORE: u8>(self, codes: *const u8, out: *mut A) {
        // SAFETY: the caller's promise.
        unsafe {
            let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.cast()));
            let codes = _mm256_or_si256(words, _mm256_slli_epi16::<4>(words));
            let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
            let (low, high) = (_mm256_shuffle_epi8(self.low, codes), _mm256_shuffle_epi8(self.high, codes));
            // Unpacking works in halves.
            let (a, b) = (_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high));
            let front = _mm256_permute2x128_si256::<0x20>(a, b);
            let back = _mm256_permute2x128_si256::<0x31>(a, b);
            if STORE == LINES {
                _mm256_stream_si256(out.cast(), front);
                _mm256_stream_si256(out.add(LANES / 2).cast(), back);
            } else if STORE == PARTS {
                stream::store_half_line::<true>(out.cast(), front);
                stream::store_half_line::<true>(out.add(LANES / 2).cast(), back);
            } else {
                stream::store_half_line::<false>(out.cast(), front);
                stream::store_half_line::<false>(out.add(LANES / 2).cast(), back);
            }
        }
    }
}

/// Writes the values of codes, of which the first `skip` are passed over (none or one), past the caches if `stream`: then
/// [`finish`](stream::finish) has to follow. False, and nothing is written, where this does not serve.
pub(in crate::kernel) fn decode<A: Half>(
    bytes: &[u8],
    skip: usize,
    blocks: &Blocks<'_>,
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [A],
) -> bool {
    if level() < Level::Avx2 || width < LANES || skip > 1 {
        return false;
    }
    let first = width.saturating_sub(phase % width);
    let whole = first >= out.len() || (first.is_multiple_of(LANES) && width.is_multiple_of(LANES));
    let aligned = stream && skip == 0 && whole && stream::is_aligned(out);
    let lines = aligned && out.as_ptr().addr().is_multiple_of(64);
    let codes = Codes { bytes, skip, width, phase };
    let wide = level() >= Level::Avx512;
    // SAFETY: the level says that the machine has the instructions, and places are aligned where values go past the caches.
    unsafe {
        match (blocks.fit::<A>(wide), aligned, lines) {
            (false, false, _) => by_blocks::<A, PLAIN, false>(codes, blocks, wide, out),
            (false, true, false) => by_blocks::<A, PARTS, false>(codes, blocks, wide, out),
            (false, true, true) => by_blocks::<A, LINES, false>(codes, blocks, wide, out),
            (true, false, _) => by_blocks::<A, PLAIN, true>(codes, blocks, wide, out),
            (true, true, false) => by_blocks::<A, PARTS, true>(codes, blocks, wide, out),
            (true, true, true) => by_blocks::<A, LINES, true>(codes, blocks, wide, out),
        }
    }
    true
}

/// Packed codes, of which the first `skip` are passed over, and their pattern.
#[derive(Clone, Copy)]
struct Codes<'a> {
    bytes: &'a [u8],
    skip: usize,
    width: usize,
    phase: usize,
}

/// # Safety
///
/// Whole vectors of each block begin at a multiple of 16 bytes in `out` if `STORE` is [`PARTS`], of 64 if it is [`LINES`].
/// The machine has AVX2, FMA and F16C, and AVX-512 F, BW, VL and DQ if `wide`.
unsafe fn by_blocks<A: Half, const STORE: u8, const FIT: bool>(
    codes: Codes<'_>,
    blocks: &Blocks<'_>,
    wide: bool,
    out: &mut [A],
) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn avx512<A: Half, const STORE: u8, const FIT: bool>(
        codes: Codes<'_>,
        blocks: &Blocks<'_>,
        out: &mut [A],
    ) {
        // SAFETY: the caller's promise.
        unsafe { by_tables::<A, Twice, STORE, FIT>(codes, blocks, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<A: Half, const STORE: u8, const FIT: bool>(
        codes: Codes<'_>,
        blocks: &Blocks<'_>,
        out: &mut [A],
    ) {
        // SAFETY: the caller's promise.
        unsafe { by_tables::<A, Planes, STORE, FIT>(codes, blocks, out) }
    }

    // SAFETY: the caller's promise.
    unsafe {
        if wide {
            avx512::<A, STORE, FIT>(codes, blocks, out);
        } else {
            avx2::<A, STORE, FIT>(codes, blocks, out);
        }
    }
}

/// # Safety
///
/// As above, with the instructions of the table.
#[inline(always)]
unsafe fn by_tables<A: Half, T: Table<A>, const STORE: u8, const FIT: bool>(
    Codes { bytes, skip, width, phase }: Codes<'_>,
    blocks: &Blocks<'_>,
    out: &mut [A],
) {
    let Blocks { bases, scale, zero, .. } = *blocks;
    let Some(first) = bases.first() else { return };
    // SAFETY: the caller's promise.
    let mut base = unsafe { T::base(first) };
    let (mut bytes, mut scale, mut zero, mut out) = (bytes, scale, zero, out);
    if skip == 0 && phase.is_multiple_of(width) && width.is_multiple_of(LANES) && bases.len() == 1 {
        // Whole blocks of whole vectors, which is what formats of blocks have.
        // SAFETY: the caller's promise.
        let done = unsafe {
            match width {
                // Loops of known length are unrolled.
                32 => whole_blocks::<A, T, STORE, FIT, 32>(bytes, base, (scale, zero), width, out),
                64 => whole_blocks::<A, T, STORE, FIT, 64>(bytes, base, (scale, zero), width, out),
                _ => whole_blocks::<A, T, STORE, FIT, 0>(bytes, base, (scale, zero), width, out),
            }
        };
        if done > 0 && done == scale.len() {
            return;
        }
        (bytes, out) = (&bytes[done * width / 2..], &mut out[done * width..]);
        (scale, zero) = (&scale[done..], zero.get(done..).unwrap_or_default());
    }
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    for (entry, from, to) in runs(len, width, phase) {
        // Times one is the same number.
        let factor = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(factor) = factor else { break };
        if bases.len() > 1 {
            let Some(own) = bases.get(entry) else { break };
            // SAFETY: as above.
            base = unsafe { T::base(own) };
        }
        // SAFETY: as above.
        let table = unsafe { T::new::<FIT>(base, factor, zero.get(entry).copied()) };
        let (mut from, begin) = (from, skip + from);
        if begin % 2 == 1 {
            // Up to a whole byte.
            let code = bytes.get(begin / 2).map_or(0, |byte| byte >> 4);
            // SAFETY: as above.
            unsafe { some(&[code], table, &mut out[from..=from]) };
            from += 1;
        }
        let (groups, rest) = bytes[(skip + from) / 2..].as_chunks::<BYTES>();
        let (vectors, last) = out[from..to].as_chunks_mut::<LANES>();
        let done = vectors.len();
        for (codes, out) in groups.iter().zip(vectors) {
            // SAFETY: the place of a vector, aligned as the caller promises.
            unsafe { table.write::<STORE>(codes.as_ptr(), out.as_mut_ptr()) };
        }
        if !last.is_empty() {
            let codes = groups.get(done).map_or(rest, |group| group.as_slice());
            // SAFETY: as above.
            unsafe { some(codes, table, last) };
        }
    }
}

/// Writes blocks of whole vectors, as many as there are codes, scales and places for. How many.
///
/// # Safety
///
/// As above.
#[inline(always)]
unsafe fn whole_blocks<A: Half, T: Table<A>, const STORE: u8, const FIT: bool, const WIDTH: usize>(
    bytes: &[u8],
    base: T::Base,
    (scale, zero): (&[f32], &[f32]),
    width: usize,
    out: &mut [A],
) -> usize {
    let width = if WIDTH > 0 { WIDTH } else { width };
    let blocks = bytes.chunks_exact(width / 2).zip(out.chunks_exact_mut(width)).zip(scale);
    let count = blocks.len();
    for (entry, ((bytes, out), &factor)) in blocks.enumerate() {
        // SAFETY: the caller's promise; sixteen bytes, and the place of a vector.
        unsafe {
            let table = T::new::<FIT>(base, factor, zero.get(entry).copied());
            let groups = bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LANES>().0);
            for (codes, out) in groups {
                table.write::<STORE>(codes.as_ptr(), out.as_mut_ptr());
            }
        }
    }
    count
}

/// Writes at most 32 values, of the first codes.
///
/// # Safety
///
/// Only for machines with the instructions of the table.
#[inline(always)]
unsafe fn some<A: Half, T: Table<A>>(codes: &[u8], table: T, out: &mut [A]) {
    let (mut bytes, mut values) = ([0; BYTES], [A::default(); LANES]);
    bytes.iter_mut().zip(codes).for_each(|(to, &from)| *to = from);
    // SAFETY: the caller's promise, and as many bytes and values.
    unsafe { table.write::<PLAIN>(bytes.as_ptr(), values.as_mut_ptr()) };
    out.iter_mut().zip(values).for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests;
