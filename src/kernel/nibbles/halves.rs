//! From packed codes of 4 bits to f16 and bf16: the values of a block's 16 codes as such numbers are one or two registers,
//! in which permutations look 32 codes up at once.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::halves::{Half, WORDS, Words};
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

/// The values of the codes of a block, in registers.
trait Table<A: Half>: Copy {
    /// What codes stand for before they are scaled.
    type Base: Copy;

    /// Whether whole blocks of whole vectors are written [`by_lines`].
    const LINES: bool;

    /// # Safety
    ///
    /// This and the next ones only for machines with the instructions of the table.
    unsafe fn base(values: &[f32; CODES]) -> Self::Base;

    /// # Safety
    ///
    /// As above.
    unsafe fn new<const FIT: bool>(base: Self::Base, factor: f32, zero: Option<f32>) -> Self;

    /// Writes the values of 32 codes, past the caches if `STREAM`.
    ///
    /// # Safety
    ///
    /// There are 16 bytes at `codes` and 32 places at `out`, a multiple of 16 bytes if `STREAM`.
    unsafe fn write<const STREAM: bool>(self, codes: *const u8, out: *mut A);
}

/// All values twice, in vectors of 512 bits.
#[derive(Clone, Copy)]
struct Twice(__m512i);

impl<A: Half> Table<A> for Twice {
    type Base = __m512;

    const LINES: bool = true;

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
    unsafe fn write<const STREAM: bool>(self, codes: *const u8, out: *mut A) {
        // SAFETY: the caller's promise.
        unsafe { stream::store_line::<STREAM>(out.cast(), self.values(codes)) };
    }
}

impl Twice {
    /// The values of 32 codes.
    ///
    /// # Safety
    ///
    /// There are 16 bytes at `codes`. Only for machines with AVX-512 BW.
    #[inline(always)]
    unsafe fn values(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.cast()));
            // The first code of a byte in the lower word, and the second in the upper one; higher bits than four do not
            // matter, as all values are there twice.
            let words = _mm512_or_si512(bytes, _mm512_slli_epi32::<12>(bytes));
            _mm512_permutexvar_epi16(words, self.0)
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

    const LINES: bool = false;

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
    unsafe fn write<const STREAM: bool>(self, codes: *const u8, out: *mut A) {
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
            stream::store_half_line::<STREAM>(out.cast(), front);
            stream::store_half_line::<STREAM>(out.add(LANES / 2).cast(), back);
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
    let phase = phase % width;
    let single = width - phase >= out.len();
    let whole = skip == 0 && (single || (phase.is_multiple_of(LANES) && width.is_multiple_of(LANES)));
    let codes = Codes { bytes, skip, width, phase };
    let wide = level() >= Level::Avx512;
    let aligned = stream && whole && stream::is_aligned(out);
    // SAFETY: the level says that the machine has the instructions, and places are aligned where values go past the caches.
    unsafe {
        match (blocks.fit::<A>(wide), wide && whole, aligned) {
            (false, true, _) => by_lines::<A, false>(codes, blocks, stream, out),
            (false, false, false) => by_blocks::<A, false, false>(codes, blocks, wide, out),
            (false, false, true) => by_blocks::<A, true, false>(codes, blocks, wide, out),
            (true, true, _) => by_lines::<A, true>(codes, blocks, stream, out),
            (true, false, false) => by_blocks::<A, false, true>(codes, blocks, wide, out),
            (true, false, true) => by_blocks::<A, true, true>(codes, blocks, wide, out),
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

/// Blocks of whole vectors, and a rest, by whole cache lines wherever these begin.
///
/// # Safety
///
/// The first block has whole vectors left, as others have them, or is all there is; none of the codes is passed over. Only
/// for machines with F16C and AVX-512 F, BW, VL and DQ.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn by_lines<A: Half, const FIT: bool>(
    Codes { bytes, width, phase, .. }: Codes<'_>,
    blocks: &Blocks<'_>,
    stream: bool,
    out: &mut [A],
) {
    let Blocks { bases, scale, zero, .. } = *blocks;
    let [first, ..] = bases else { return };
    let covered = |entries: usize| entries.saturating_mul(width).saturating_sub(phase);
    let mut len = out.len().min(bytes.len().saturating_mul(2));
    if !scale.is_empty() {
        len = len.min(covered(scale.len()));
    }
    if bases.len() > 1 {
        len = len.min(covered(bases.len()));
    }
    // SAFETY: the machine has the instructions, as of all that follows.
    let shared = unsafe { <Twice as Table<A>>::base(first) };
    let table = |entry: usize| {
        let own = if bases.len() > 1 { bases.get(entry) } else { None };
        // Times one is the same number.
        let factor = scale.get(entry).copied().unwrap_or(1.0);
        // SAFETY: as above.
        unsafe {
            let base = own.map_or(shared, |own| <Twice as Table<A>>::base(own));
            <Twice as Table<A>>::new::<FIT>(base, factor, zero.get(entry).copied())
        }
    };
    let (vectors, last) = out[..len].as_chunks_mut::<LANES>();
    let (groups, rest) = bytes[..len.div_ceil(2)].split_at(vectors.len() * BYTES);
    let (groups, _) = groups.as_chunks::<BYTES>();
    if let [first, ..] = groups {
        // SAFETY: sixteen bytes each, and as many places for vectors as there are.
        unsafe {
            let mut words = Words::begin(vectors.as_mut_ptr().cast(), table(0).values(first.as_ptr()));
            if width == WORDS {
                // Without a thought about where blocks end.
                for (entry, codes) in groups.iter().enumerate().skip(1) {
                    words.put(table(entry).values(codes.as_ptr()), stream);
                }
            } else {
                for (entry, from, to) in runs(groups.len() * LANES, width, phase) {
                    let table = table(entry);
                    for codes in &groups[(from / LANES).max(1)..to / LANES] {
                        words.put(table.values(codes.as_ptr()), stream);
                    }
                }
            }
            words.finish();
        }
    }
    if !last.is_empty() {
        let entry = (phase + groups.len() * LANES) / width;
        // SAFETY: as above.
        unsafe { some(rest, table(entry), last) };
    }
}

/// # Safety
///
/// Whole vectors of each block begin at a multiple of 16 bytes in `out` if `STREAM`. The machine has AVX2, FMA and F16C,
/// and AVX-512 F, BW, VL and DQ if `wide`.
unsafe fn by_blocks<A: Half, const STREAM: bool, const FIT: bool>(
    codes: Codes<'_>,
    blocks: &Blocks<'_>,
    wide: bool,
    out: &mut [A],
) {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn avx512<A: Half, const FIT: bool>(codes: Codes<'_>, blocks: &Blocks<'_>, out: &mut [A]) {
        // SAFETY: the caller's promise.
        unsafe { by_tables::<A, Twice, false, FIT>(codes, blocks, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<A: Half, const STREAM: bool, const FIT: bool>(
        codes: Codes<'_>,
        blocks: &Blocks<'_>,
        out: &mut [A],
    ) {
        // SAFETY: the caller's promise.
        unsafe { by_tables::<A, Planes, STREAM, FIT>(codes, blocks, out) }
    }

    // SAFETY: the caller's promise.
    unsafe {
        if wide {
            avx512::<A, FIT>(codes, blocks, out);
        } else {
            avx2::<A, STREAM, FIT>(codes, blocks, out);
        }
    }
}

/// # Safety
///
/// As above, with the instructions of the table.
#[inline(always)]
unsafe fn by_tables<A: Half, T: Table<A>, const STREAM: bool, const FIT: bool>(
    Codes { bytes, skip, width, phase }: Codes<'_>,
    blocks: &Blocks<'_>,
    out: &mut [A],
) {
    let Blocks { bases, scale, zero, .. } = *blocks;
    let Some(first) = bases.first() else { return };
    // SAFETY: the caller's promise.
    let mut base = unsafe { T::base(first) };
    let (mut bytes, mut scale, mut zero, mut out) = (bytes, scale, zero, out);
    if !T::LINES && skip == 0 && phase == 0 && width.is_multiple_of(LANES) && bases.len() == 1 {
        // Whole blocks of whole vectors, which is what formats of blocks have.
        // SAFETY: the caller's promise.
        let done = unsafe {
            match width {
                // Loops of known length are unrolled.
                32 => whole_blocks::<A, T, STREAM, FIT, 32>(bytes, base, (scale, zero), width, out),
                64 => whole_blocks::<A, T, STREAM, FIT, 64>(bytes, base, (scale, zero), width, out),
                _ => whole_blocks::<A, T, STREAM, FIT, 0>(bytes, base, (scale, zero), width, out),
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
            unsafe { table.write::<STREAM>(codes.as_ptr(), out.as_mut_ptr()) };
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
unsafe fn whole_blocks<A: Half, T: Table<A>, const STREAM: bool, const FIT: bool, const WIDTH: usize>(
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
                table.write::<STREAM>(codes.as_ptr(), out.as_mut_ptr());
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
    unsafe { table.write::<false>(bytes.as_ptr(), values.as_mut_ptr()) };
    out.iter_mut().zip(values).for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests;
