//! Cuts that are held in registers and compared one after the other.
//!
//! A search among 255 cuts takes eight comparisons: the outcome of those before picks the next cut. With vectors of 512
//! bits, one permutation picks among 16 cuts and another among 32, so that even the last of them, among 128, takes four
//! permutations and three choices for sixteen values. Nothing is looked up in memory, whatever the levels are.
#![allow(unsafe_code)] // loads and stores of whole vectors

use core::arch::x86_64::*;

use super::super::super::prefetch;
use super::{GROUP, LEVELS};

/// Elements of a vector.
const LANES: usize = 16;

/// Values that are searched at once: first all of them among the first cuts, then among the others, so that the cuts of
/// each of these loops stay in registers and searches need not wait for each other.
const STAGE: usize = 1024;
const VECTORS: usize = STAGE / LANES;

/// Vectors of cuts: one for each of the first five comparisons, then two, four and eight.
const ROWS: usize = 19;

/// Bytes between what is read and what is asked for.
const DISTANCE: usize = 4096;

/// The cuts of one map, in the order in which a search asks for them, and its codes.
///
/// The outcome of comparison `k` is bit `k` of a value's place, which the next comparison looks its cut up by.
#[derive(Debug, Clone)]
pub(super) struct Comparisons {
    cuts: [[f32; LANES]; ROWS],
    codes: [u8; LEVELS],
    steps: usize,
}

impl Comparisons {
    /// For up to 255 ascending cuts and the codes between them.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        if cuts.len() >= LEVELS || codes.len() > LEVELS {
            return None;
        }
        let steps = ((cuts.len() + 1).next_power_of_two().ilog2() as usize).max(5);
        let mut search = Self { cuts: [[f32::NAN; LANES]; ROWS], codes: [0; LEVELS], steps };
        for step in 0..steps {
            let rows = search.cuts.get_mut(first_row(step)..)?.as_flattened_mut();
            for passed in 0..1 << step {
                // Nothing reaches a NaN.
                let cut = cuts.get(((2 * passed + 1) << (steps - 1 - step)) - 1);
                *rows.get_mut(place(passed, step))? = cut.copied().unwrap_or(f32::NAN);
            }
        }
        for (passed, &code) in codes.iter().enumerate() {
            search.codes[place(passed, steps) % LEVELS] = u8::try_from(code).ok()?;
        }
        Some(search)
    }

    /// The codes of whole groups of scaled values, of which later ones are asked for if `ahead`. Whether one of these is
    /// NaN.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    pub(super) fn find(&self, v: &[f32], ahead: bool, codes: &mut [u8]) -> bool {
        let mut nan = false;
        for (v, codes) in v.chunks(STAGE).zip(codes.chunks_mut(STAGE)) {
            nan |= match (self.steps, ahead) {
                (5, false) => find::<5, false>(v, self, codes),
                (5, true) => find::<5, true>(v, self, codes),
                (6, false) => find::<6, false>(v, self, codes),
                (6, true) => find::<6, true>(v, self, codes),
                (7, false) => find::<7, false>(v, self, codes),
                (7, true) => find::<7, true>(v, self, codes),
                (_, false) => find::<8, false>(v, self, codes),
                (_, true) => find::<8, true>(v, self, codes),
            };
        }
        nan
    }
}

/// Where the cuts of a comparison begin.
const fn first_row(step: usize) -> usize {
    if step < 4 { step } else { 3 + (1 << (step - 4)) }
}

/// The lowest `bits` bits in reverse: the first comparison is the lowest bit of a place, and the highest of the cuts that
/// were passed.
const fn place(passed: usize, bits: usize) -> usize {
    if bits == 0 { 0 } else { passed.reverse_bits() >> (usize::BITS as usize - bits) }
}

/// As [`Comparisons::find`], of at most a stage.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn find<const STEPS: usize, const AHEAD: bool>(v: &[f32], search: &Comparisons, codes: &mut [u8]) -> bool {
    let mut places = [_mm512_setzero_si512(); VECTORS];
    let (v, _) = v.as_chunks::<LANES>();
    let nan = first_comparisons::<AHEAD>(v, search, &mut places);
    if STEPS > 5 {
        other_comparisons::<STEPS>(v, search, &mut places);
    }
    let (codes_by_place, _) = search.codes.as_chunks::<GROUP>();
    let mut tables = [_mm512_setzero_si512(); LEVELS / GROUP];
    for (table, codes) in tables.iter_mut().zip(codes_by_place) {
        // SAFETY: 64 bytes.
        *table = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
    }
    let (places, _) = places[..v.len()].as_chunks::<{ GROUP / LANES }>();
    for (&[a, b, c, d], codes) in places.iter().zip(codes.as_chunks_mut::<GROUP>().0) {
        let places = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
        // Packing works in quarters.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let places = _mm512_permutexvar_epi32(order, places);
        let mut found = _mm512_permutex2var_epi8(tables[0], places, tables[1]);
        if STEPS == 8 {
            let upper = _mm512_permutex2var_epi8(tables[2], places, tables[3]);
            found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(places), found, upper);
        }
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), found) };
    }
    nan
}

/// The place of each value after five comparisons. Whether one is NaN. `AHEAD` as above.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn first_comparisons<const AHEAD: bool>(
    v: &[[f32; LANES]],
    search: &Comparisons,
    places: &mut [__m512i; VECTORS],
) -> bool {
    let middle = _mm512_set1_ps(search.cuts[0][0]);
    let cuts = [load(&search.cuts[1]), load(&search.cuts[2]), load(&search.cuts[3]), load(&search.cuts[4])];
    let mut nan = 0;
    for (v, found) in v.iter().zip(places) {
        if AHEAD {
            prefetch(v, DISTANCE);
        }
        let v = load(v);
        nan |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let (mut place, _) = passed(v, middle, _mm512_setzero_si512(), 0);
        for (cuts, step) in cuts.into_iter().zip(1..) {
            (place, _) = passed(v, _mm512_permutexvar_ps(place, cuts), place, step);
        }
        *found = place;
    }
    nan != 0
}

/// The place of each value after all comparisons.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn other_comparisons<const STEPS: usize>(
    v: &[[f32; LANES]],
    search: &Comparisons,
    places: &mut [__m512i; VECTORS],
) {
    let cuts = search.cuts.map(|row| load(&row));
    for (v, found) in v.iter().zip(places) {
        let (v, place) = (load(v), *found);
        let among = |row: usize, place| _mm512_permutex2var_ps(cuts[row], place, cuts[row + 1]);
        let (mut place, fifth) = passed(v, among(first_row(5), place), place, 5);
        if STEPS > 6 {
            let either =
                |row: usize, place| _mm512_mask_blend_ps(fifth, among(row, place), among(row + 2, place));
            let sixth;
            (place, sixth) = passed(v, either(first_row(6), place), place, 6);
            if STEPS > 7 {
                let (low, high) = (either(first_row(7), place), either(first_row(7) + 4, place));
                (place, _) = passed(v, _mm512_mask_blend_ps(sixth, low, high), place, 7);
            }
        }
        *found = place;
    }
}

/// Sets the bit of `step` in the places of values that are not below their cuts. Which these are.
#[inline]
#[target_feature(enable = "avx512f")]
fn passed(v: __m512, cuts: __m512, places: __m512i, step: u32) -> (__m512i, __mmask16) {
    let passed = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, cuts);
    (_mm512_mask_or_epi32(places, passed, places, _mm512_set1_epi32(1 << step)), passed)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}
