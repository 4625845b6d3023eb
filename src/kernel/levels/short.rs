//! Tables of at most 16 levels, held in registers.
//!
//! Where the scalar loops compare a value with each cut, a search among 15 cuts takes four comparisons: the outcome of
//! those before picks the next cut. Where they look a level up in memory, two permutations of eight entries and a choice
//! between them do it for eight codes at once. Comparisons, products and quotients are the same, and so are the bits.
//!
//! Written for AVX2, as no portable form of such permutations becomes one instruction.
#![allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::{runs, stream};

/// The most levels.
pub(super) const LEVELS: usize = 16;

/// Elements of a vector.
pub(super) const LANES: usize = 8;

/// Vectors of a step.
const VECTORS: usize = 4;

/// Bytes between what is read and what is asked for: a little more than a step of a pipeline reads at once.
const AHEAD: usize = 4096;

/// The cuts of one map, in the order in which a search asks for them, and its codes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    half: f32,
    quarters: [f32; 2],
    /// Lane −k mod 8 holds the cut to compare with after k.
    eighths: [f32; LANES],
    sixteenths: [f32; LANES],
    codes: [u8; LEVELS],
}

impl Search {
    /// For up to 15 ascending cuts and the codes between them.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        if cuts.len() >= LEVELS || codes.len() > LEVELS {
            return None;
        }
        // Nothing reaches a NaN.
        let cut = |at: usize| cuts.get(at).copied().unwrap_or(f32::NAN);
        let mut search = Self {
            half: cut(7),
            quarters: [cut(3), cut(11)],
            eighths: [f32::NAN; LANES],
            sixteenths: [f32::NAN; LANES],
            codes: [0; LEVELS],
        };
        for passed in 0..LANES {
            let lane = (LANES - passed) % LANES;
            search.eighths[lane] = cut(4 * passed + 1);
            search.sixteenths[lane] = cut(2 * passed);
        }
        for (code, &from) in search.codes.iter_mut().zip(codes) {
            *code = u8::try_from(from).ok()?;
        }
        Some(search)
    }

    /// The code of one scaled value.
    fn code(&self, v: f32) -> u8 {
        let passed = usize::from(v >= self.half);
        let passed = 2 * passed + usize::from(v >= self.quarters[passed]);
        let passed = 2 * passed + usize::from(v >= self.eighths[(LANES - passed) % LANES]);
        let passed = 2 * passed + usize::from(v >= self.sixteenths[(LANES - passed) % LANES]);
        self.codes[passed]
    }
}

/// A [`Search`] in registers.
#[derive(Clone, Copy)]
struct Registers {
    half: __m256,
    quarters: [__m256; 2],
    eighths: __m256,
    sixteenths: __m256,
    codes: __m256i,
}

impl Registers {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(search: &Search) -> Self {
        // SAFETY: 16 bytes.
        let codes = unsafe { _mm_loadu_si128(search.codes.as_ptr().cast()) };
        Self {
            half: _mm256_set1_ps(search.half),
            quarters: [_mm256_set1_ps(search.quarters[0]), _mm256_set1_ps(search.quarters[1])],
            eighths: load(&search.eighths),
            sixteenths: load(&search.sixteenths),
            codes: _mm256_broadcastsi128_si256(codes),
        }
    }

    /// Minus the number of cuts that are not above each value.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn search(&self, v: __m256) -> __m256i {
        // A comparison that holds is −1.
        let first = _mm256_cmp_ps::<_CMP_GE_OQ>(v, self.half);
        let quarter = _mm256_blendv_ps(self.quarters[0], self.quarters[1], first);
        let second = _mm256_cmp_ps::<_CMP_GE_OQ>(v, quarter);
        let passed = twice_and(_mm256_castps_si256(first), second);
        let third = _mm256_cmp_ps::<_CMP_GE_OQ>(v, _mm256_permutevar8x32_ps(self.eighths, passed));
        let passed = twice_and(passed, third);
        let fourth = _mm256_cmp_ps::<_CMP_GE_OQ>(v, _mm256_permutevar8x32_ps(self.sixteenths, passed));
        twice_and(passed, fourth)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn twice_and(passed: __m256i, next: __m256) -> __m256i {
    _mm256_add_epi32(_mm256_add_epi32(passed, passed), _mm256_castps_si256(next))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[f32; LANES]) -> __m256 {
    // SAFETY: eight floats.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const MULTIPLY: bool>(x: &[f32; LANES], scale: __m256) -> __m256 {
    if MULTIPLY { _mm256_mul_ps(load(x), scale) } else { _mm256_div_ps(load(x), scale) }
}

/// Writes the code of each value by the pattern of `width` and `phase`, all blocks sharing the only search or each
/// having its own. Whether any scaled value is NaN; its code is the lowest level's. Only for machines with AVX2.
pub(super) fn encode(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    multiply: bool,
    searches: &[Search],
    codes: &mut [u8],
) -> bool {
    debug_assert!(super::has_avx2());
    if multiply {
        // SAFETY: the caller has asked whether there is AVX2.
        unsafe { encode_by::<true>(x, width, phase, scale, searches, codes) }
    } else {
        // SAFETY: as above.
        unsafe { encode_by::<false>(x, width, phase, scale, searches, codes) }
    }
}

#[target_feature(enable = "avx2")]
fn encode_by<const MULTIPLY: bool>(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    searches: &[Search],
    codes: &mut [u8],
) -> bool {
    let Some(mut search) = searches.first() else { return false };
    let mut registers = Registers::new(search);
    let mut nan = _mm256_setzero_ps();
    let mut rest_nan = false;
    for (entry, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let scale = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(scale) = scale else { break };
        if searches.len() > 1 && entry > 0 {
            let Some(own) = searches.get(entry) else { break };
            (search, registers) = (own, Registers::new(own));
        }
        let scales = _mm256_set1_ps(scale);
        let (steps, x) = x[from..to].as_chunks::<{ VECTORS * LANES }>();
        let (code_steps, codes) = codes[from..to].as_chunks_mut::<{ VECTORS * LANES }>();
        for (x, codes) in steps.iter().zip(code_steps) {
            super::super::prefetch(x, AHEAD);
            let ([a, b, c, d], _) = x.as_chunks::<LANES>() else { continue };
            let a = scaled::<MULTIPLY>(a, scales);
            let b = scaled::<MULTIPLY>(b, scales);
            let c = scaled::<MULTIPLY>(c, scales);
            let d = scaled::<MULTIPLY>(d, scales);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b));
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(c, d));
            let front = _mm256_packs_epi32(registers.search(a), registers.search(b));
            let back = _mm256_packs_epi32(registers.search(c), registers.search(d));
            let passed = _mm256_abs_epi8(_mm256_packs_epi16(front, back));
            // Packing has left groups of four in the order of the halves of vectors.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let found = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(registers.codes, passed), order);
            // SAFETY: 32 bytes.
            unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), found) };
        }
        let (steps, x) = x.as_chunks::<LANES>();
        let (code_steps, codes) = codes.as_chunks_mut::<LANES>();
        for (x, codes) in steps.iter().zip(code_steps) {
            let v = scaled::<MULTIPLY>(x, scales);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let passed = registers.search(v);
            let (low, high) = (_mm256_castsi256_si128(passed), _mm256_extracti128_si256::<1>(passed));
            let words = _mm_packs_epi32(low, high);
            let passed = _mm_abs_epi8(_mm_packs_epi16(words, words));
            let found = _mm_shuffle_epi8(_mm256_castsi256_si128(registers.codes), passed);
            *codes = _mm_cvtsi128_si64(found).to_le_bytes();
        }
        for (&x, code) in x.iter().zip(codes) {
            let v = if MULTIPLY { x * scale } else { x / scale };
            rest_nan |= v.is_nan();
            *code = search.code(v);
        }
    }
    rest_nan | (_mm256_movemask_ps(nan) != 0)
}

/// The largest magnitude of each block of `width` elements, a multiple of [`LANES`]; the last may be shorter. Whether all
/// are finite. Only for machines with AVX2.
pub(super) fn magnitudes(x: &[f32], width: usize, out: &mut [f32]) -> bool {
    debug_assert!(super::has_avx2() && width.is_multiple_of(LANES));
    // SAFETY: the caller has asked whether there is AVX2.
    unsafe {
        // Usual widths have loops of known lengths.
        match width {
            32 => magnitudes_of_eight::<32>(x, width, out),
            64 => magnitudes_of_eight::<64>(x, width, out),
            _ => magnitudes_of_eight::<0>(x, width, out),
        }
    }
}

#[target_feature(enable = "avx2")]
fn magnitudes_of_eight<const WIDTH: usize>(x: &[f32], width: usize, out: &mut [f32]) -> bool {
    let width = if WIDTH > 0 { WIDTH } else { width };
    let mut largest = _mm256_setzero_si256();
    let groups = x.chunks_exact(width * LANES);
    let (steps, _) = out.as_chunks_mut::<LANES>();
    let whole = steps.len().min(groups.len());
    for (group, out) in groups.zip(steps) {
        // Of each block the maxima of its lanes, then the blocks folded onto each other until each has a lane.
        let mut blocks = group.chunks_exact(width);
        let mut next = || blocks.next().map_or_else(|| _mm256_setzero_si256(), |block| lane_maxima(block));
        let eight = [next(), next(), next(), next(), next(), next(), next(), next()];
        let [a, b, c, d, e, f, g, h] = eight;
        let [ab, cd, ef, gh] = [folded(a, b), folded(c, d), folded(e, f), folded(g, h)];
        let (front, back) = (folded_pairs(ab, cd), folded_pairs(ef, gh));
        let maxima = _mm256_max_epi32(
            _mm256_permute2x128_si256::<0x20>(front, back),
            _mm256_permute2x128_si256::<0x31>(front, back),
        );
        largest = _mm256_max_epi32(largest, maxima);
        // SAFETY: eight floats.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), maxima) };
    }
    let infinity = _mm256_set1_epi32(f32::INFINITY.to_bits() as i32);
    let finite = _mm256_movemask_epi8(_mm256_cmpgt_epi32(infinity, largest)) == -1;
    let (x, out) = (x.get(whole * width * LANES..), out.get_mut(whole * LANES..));
    finite & super::blocks::by_blocks(x.unwrap_or_default(), width, out.unwrap_or_default())
}

/// The largest magnitude of each lane, as bits: they are in the order of magnitudes, with NaN behind the infinities.
#[inline]
#[target_feature(enable = "avx2")]
fn lane_maxima(block: &[f32]) -> __m256i {
    let (vectors, _) = block.as_chunks::<LANES>();
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut maxima = _mm256_setzero_si256();
    for x in vectors {
        maxima = _mm256_max_epi32(maxima, _mm256_and_si256(_mm256_castps_si256(load(x)), magnitude));
    }
    maxima
}

#[inline]
#[target_feature(enable = "avx2")]
fn folded(a: __m256i, b: __m256i) -> __m256i {
    _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn folded_pairs(a: __m256i, b: __m256i) -> __m256i {
    _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// The values of 16 codes in registers.
#[derive(Clone, Copy)]
struct Values {
    low: __m256,
    high: __m256,
}

impl Values {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &[f32; LEVELS]) -> Self {
        // SAFETY: sixteen floats.
        let (low, high) =
            unsafe { (_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(LANES))) };
        Self { low, high }
    }

    /// The values of the codes in the lowest four bits of each lane, whatever the other bits are.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, codes: __m256i) -> __m256 {
        let low = _mm256_permutevar8x32_ps(self.low, codes);
        let high = _mm256_permutevar8x32_ps(self.high, codes);
        // The sign of a lane chooses.
        _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)))
    }
}

/// The values of 16 codes by their bytes: byte `k` of each in vector `k`, twice.
#[derive(Clone, Copy)]
struct Planes([__m256i; 4]);

/// Codes that [`Planes`] look up at once.
const PACKED: usize = 32;

impl Planes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &[f32; LEVELS]) -> Self {
        // The bytes of four values by their places, then those of all sixteen.
        let order = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3,
            7, 11, 15,
        );
        let Values { low, high } = Values::new(values);
        let low = _mm256_shuffle_epi8(_mm256_castps_si256(low), order);
        let high = _mm256_shuffle_epi8(_mm256_castps_si256(high), order);
        let (a, b) = (_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
        let (c, d) = (_mm256_castsi256_si128(high), _mm256_extracti128_si256::<1>(high));
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        Self([
            _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(ab, cd)),
            _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(ab, cd)),
            _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(ab_high, cd_high)),
            _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(ab_high, cd_high)),
        ])
    }

    /// Writes the values of 32 codes times a scale, past the caches if `STREAM`.
    ///
    /// # Safety
    ///
    /// `out` begins at a multiple of 16 if `STREAM`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn write<const STREAM: bool>(
        &self,
        bytes: &[u8; PACKED / 2],
        scales: __m256,
        out: &mut [f32; PACKED],
    ) {
        for (i, v) in self.of(bytes).into_iter().enumerate() {
            let v = _mm256_mul_ps(v, scales);
            // SAFETY: there is room for four vectors, aligned as the caller promises.
            unsafe { stream::store::<STREAM>(out.as_mut_ptr().add(LANES * i), v) };
        }
    }

    /// The values of 32 codes in 16 bytes, in order.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, bytes: &[u8; PACKED / 2]) -> [__m256; 4] {
        // Every other pair of bytes, each in a word of its own, in the lower half, and those between in the upper one:
        // the order in which the unpacking below, which goes on in each half alone, ends with whole vectors.
        const N: i8 = -1;
        let order = _mm256_setr_epi8(
            0, N, 1, N, 4, N, 5, N, 8, N, 9, N, 12, N, 13, N, 2, N, 3, N, 6, N, 7, N, 10, N, 11, N, 14, N,
            15, N,
        );
        // SAFETY: sixteen bytes.
        let bytes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        let words = _mm256_shuffle_epi8(bytes, order);
        let codes = _mm256_or_si256(words, _mm256_slli_epi16::<4>(words));
        let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
        let [a, b, c, d] = self.0;
        let (a, b) = (_mm256_shuffle_epi8(a, codes), _mm256_shuffle_epi8(b, codes));
        let (c, d) = (_mm256_shuffle_epi8(c, codes), _mm256_shuffle_epi8(d, codes));
        let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (front, back) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        [
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(low, high)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(low, high)),
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(front, back)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(front, back)),
        ]
    }
}

/// Values that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Writes the values of 4-bit codes, two in each byte, of which the first are passed over (none or one): the values of
/// `tables`, one for all blocks or one for each, times the scales, if there are any. Past the caches if `stream`. Only
/// for machines with AVX2.
pub(super) fn decode(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [f32],
) {
    debug_assert!(super::has_avx2() && skip < 2);
    // SAFETY: the caller has asked whether there is AVX2.
    unsafe {
        let whole = skip == 0 && phase == 0 && width.is_multiple_of(PACKED);
        if stream && whole && stream::is_aligned(out) {
            decode_nibbles::<true>(bytes, skip, tables, scale, (width, phase), out);
            _mm_sfence();
        } else if stream {
            decode_staged(bytes, skip, tables, scale, (width, phase), out);
        } else {
            decode_nibbles::<false>(bytes, skip, tables, scale, (width, phase), out);
        }
    }
}

/// Blocks need not end where cache lines do, so values are put together first.
#[target_feature(enable = "avx2")]
fn decode_staged(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    out: &mut [f32],
) {
    let mut stage = [0.0; STAGE];
    let width = width.max(1);
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    let mut at = 0;
    while at < len {
        // Whole blocks, where a stage has room for any.
        let begun = (phase % width + at) % width;
        let room = if width <= STAGE { STAGE / width * width - begun } else { STAGE };
        let to = (at + room).min(len);
        let entry = (phase % width + at) / width;
        let tables = if tables.len() > 1 { tables.get(entry..).unwrap_or_default() } else { tables };
        let left = scale.get(entry..).unwrap_or_default();
        if tables.is_empty() || (left.is_empty() && !scale.is_empty()) {
            break;
        }
        let place = skip + at;
        let (bytes, stage) = (bytes.get(place / 2..).unwrap_or_default(), &mut stage[..to - at]);
        // SAFETY: not past the caches.
        unsafe {
            decode_nibbles::<false>(bytes, place % 2, tables, left, (width, (phase + at) % width), stage)
        };
        stream::past_caches(stage, &mut out[at..to]);
        at = to;
    }
    _mm_sfence();
}

/// # Safety
///
/// If `STREAM`, `out` begins at a multiple of 16, and so do whole vectors of codes: blocks are of whole ones, the first from
/// its beginning on.
#[target_feature(enable = "avx2")]
unsafe fn decode_nibbles<const STREAM: bool>(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    out: &mut [f32],
) {
    let Some(mut table) = tables.first() else { return };
    let (mut values, mut planes) = (Values::new(table), Planes::new(table));
    let (mut bytes, mut scale, mut out) = (bytes, scale, out);
    if tables.len() == 1 && skip == 0 && phase == 0 && width.is_multiple_of(PACKED) && width <= out.len() {
        // Whole blocks of whole vectors, which is what formats of blocks have.
        let mut blocks = 0;
        let places = bytes.chunks_exact(width / 2).zip(out.chunks_exact_mut(width));
        for ((bytes, out), &scale) in places.zip(scale) {
            let (scales, (vectors, _)) = (_mm256_set1_ps(scale), bytes.as_chunks::<{ PACKED / 2 }>());
            let (steps, _) = out.as_chunks_mut::<PACKED>();
            for (bytes, out) in vectors.iter().zip(steps) {
                // SAFETY: the caller's promise, a multiple of 128 bytes further on.
                unsafe { planes.write::<STREAM>(bytes, scales, out) };
            }
            blocks += 1;
        }
        if blocks > 0 && blocks == scale.len() {
            return;
        }
        (bytes, scale, out) = (&bytes[blocks * width / 2..], &scale[blocks..], &mut out[blocks * width..]);
    }
    let shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    for (entry, from, to) in runs(len, width, phase) {
        // Times one is the same number.
        let scale = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(scale) = scale else { break };
        let long = to - from >= PACKED;
        if tables.len() > 1 && entry > 0 {
            let Some(own) = tables.get(entry) else { break };
            (table, values) = (own, Values::new(own));
            if long {
                planes = Planes::new(own);
            }
        }
        let one = |at: usize| {
            let byte = bytes.get(at / 2).copied().unwrap_or_default();
            table[usize::from(byte >> (at % 2 * 4)) % LEVELS] * scale
        };
        // Up to a whole byte, then sixteen and four bytes at a time.
        let begin = skip + from;
        let odd = (begin % 2).min(to - from);
        let (head, body) = out[from..to].split_at_mut(odd);
        head.iter_mut().for_each(|out| *out = one(begin));
        let scales = _mm256_set1_ps(scale);
        let mut begin = begin + odd;
        let mut body = body;
        if long {
            let (vectors, _) = bytes[begin / 2..].as_chunks::<{ PACKED / 2 }>();
            let (steps, rest) = body.as_chunks_mut::<PACKED>();
            begin += steps.len() * PACKED;
            for (bytes, out) in vectors.iter().zip(steps) {
                // SAFETY: the caller's promise, a multiple of 128 bytes further on.
                unsafe { planes.write::<STREAM>(bytes, scales, out) };
            }
            body = rest;
        }
        let (words, _) = bytes[begin / 2..].as_chunks::<{ LANES / 2 }>();
        let (steps, rest) = body.as_chunks_mut::<LANES>();
        let end = begin + steps.len() * LANES;
        for (word, out) in words.iter().zip(steps) {
            let codes = _mm256_srlv_epi32(_mm256_set1_epi32(i32::from_le_bytes(*word)), shifts);
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(values.of(codes), scales)) };
        }
        rest.iter_mut().enumerate().for_each(|(i, out)| *out = one(end + i));
    }
}
