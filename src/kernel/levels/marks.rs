//! Tables of 17 to 256 levels without close neighbours, for machines with AVX2.
//!
//! A multiplication and an addition give each value a position of 20 bits, which never decreases with the value, however
//! the sum was rounded. So a value passes all cuts of lower positions, and none of higher ones. The upper twelve bits are
//! the cell that a value is in, so narrow that no cell has more than one cut: of each a table has the code below this cut,
//! and the lower byte of its position, the mark. A value passes the cut if it lies behind the mark. Those that lie at it,
//! few in a thousand, are compared with the cut itself.
//!
//! Positions are found and compared in vectors. What is looked up in the table goes straight to vectors too, and not through
//! memory: a processor takes a load from there for one that waits for a store to any place of the same last twelve bits.
#![allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::position_scale::{PositionScale, reached};
use super::staged::{self, GROUP};

/// Cells.
const CELLS: usize = 4096;

/// The most levels.
const LEVELS: usize = 256;

/// The highest position.
const LAST: f32 = (CELLS * 256 - 1) as f32;

/// Values of a vector of places.
const WORDS: usize = 16;

/// Places of values that are read at once.
const READ: usize = 4;

/// The cuts of one map.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    scale: PositionScale,
    /// The code below the cut of each cell in the upper byte, and its mark in the lower one; without a cut that of all its
    /// values, and the last mark.
    cells: Box<[u16; CELLS]>,
    /// By the code below. Nothing reaches a NaN.
    cuts: [f32; LEVELS],
}

impl Marks {
    /// For up to 255 ascending cuts between levels with these codes; `None` where two of them share a cell, the arithmetic
    /// cannot tell them apart, or codes do not ascend by ones.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        let (cuts, codes) = reached(cuts, codes)?;
        let ascending = codes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        if !ascending || usize::from(*codes.last()?) >= LEVELS {
            return None;
        }
        let scale = PositionScale::new(cuts, LAST)?;
        let mut made = Self { scale, cells: Box::new([u16::MAX; CELLS]), cuts: [f32::NAN; LEVELS] };
        let mut next = 0;
        for (&cut, &code) in cuts.iter().zip(codes) {
            let position = made.scale.position(cut);
            let cell = position as usize >> 8;
            if cell < next {
                return None;
            }
            made.cells[next..cell].fill(code << 8 | 0xFF);
            made.cells[cell] = code << 8 | position as u16 & 0xFF;
            made.cuts[usize::from(code)] = cut;
            next = cell + 1;
        }
        made.cells[next..].fill(codes.last()? << 8 | 0xFF);
        Some(made)
    }

    /// The code of a value, compared with the cut of its cell, if there is one.
    #[inline(always)]
    fn code(&self, v: f32) -> u8 {
        let below = (self.cells[self.scale.position(v) as usize >> 8] >> 8) as u8;
        // Without a cut, the next one is ahead.
        below + u8::from(v >= self.cuts[usize::from(below)])
    }
}

impl staged::Search for Marks {
    fn find(&self, v: &[f32], _: bool, codes: &mut [u8]) -> bool {
        debug_assert!(super::has_avx2());
        // SAFETY: the caller has asked whether there are the instructions.
        unsafe { find(v.as_chunks().0, self, codes.as_chunks_mut().0) }
    }
}

/// What is known of groups, whose values are read in one step, looked up in the next, and compared in the one after.
#[repr(align(64))]
struct Steps {
    /// The lower bytes of positions, in the order of [`in_order`].
    lower: [[u16; GROUP]; 3],
    /// Cells.
    cells: [[u64; GROUP / READ]; 2],
    /// What stands in the table.
    found: [[u16; GROUP]; 2],
}

/// The codes of groups. Whether a value is NaN.
#[target_feature(enable = "avx2,fma")]
fn find(v: &[[f32; GROUP]], of: &Marks, codes: &mut [[u8; GROUP]]) -> bool {
    let mut steps = Steps { lower: [[0; GROUP]; 3], cells: [[0; GROUP / READ]; 2], found: [[0; GROUP]; 2] };
    let mut nan = _mm256_setzero_ps();
    let groups = v.len().min(codes.len());
    for i in 0..groups + 2 {
        if i < groups {
            nan = _mm256_or_ps(nan, place(&v[i], of, &mut steps.lower[i % 3], &mut steps.cells[i % 2]));
        }
        if 0 < i && i <= groups {
            // SAFETY: the cells were found above.
            unsafe { look_up(&steps.cells[(i - 1) % 2], of, &mut steps.found[(i - 1) % 2]) };
        }
        if i > 1 {
            let (v, codes) = (&v[i - 2], &mut codes[i - 2]);
            compare(&steps.found[i % 2], &steps.lower[(i - 2) % 3], v, of, codes);
        }
    }
    _mm256_movemask_ps(nan) != 0
}

/// Finds cells, and the lower bytes of positions. Lanes in which a value is NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn place(v: &[f32; GROUP], of: &Marks, lower: &mut [u16; GROUP], cells: &mut [u64; GROUP / READ]) -> __m256 {
    let (density, offset) = (_mm256_set1_ps(of.scale.density), _mm256_set1_ps(of.scale.offset));
    let (zero, last) = (_mm256_setzero_ps(), _mm256_set1_ps(of.scale.last));
    let mut nan = zero;
    for at in (0..GROUP).step_by(WORDS) {
        // SAFETY: there are 16 values.
        let pair =
            unsafe { [_mm256_loadu_ps(v.as_ptr().add(at)), _mm256_loadu_ps(v.as_ptr().add(at + WORDS / 2))] };
        nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(pair[0], pair[1]));
        let [front, back] = pair.map(|v| {
            // The second operand of the maximum is what NaN is left to.
            let place = _mm256_max_ps(_mm256_fmadd_ps(v, density, offset), zero);
            _mm256_cvtps_epi32(_mm256_min_ps(place, last))
        });
        // Both in turns.
        let words =
            _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<8>(front), _mm256_slli_epi32::<8>(back));
        let bytes = _mm256_blend_epi16::<0b1010_1010>(front, _mm256_slli_epi32::<16>(back));
        let bytes = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
        // SAFETY: there is room for 16 words.
        unsafe {
            _mm256_storeu_si256(cells.as_mut_ptr().add(at / READ).cast(), words);
            _mm256_storeu_si256(lower.as_mut_ptr().add(at).cast(), bytes);
        }
    }
    nan
}

/// Looks cells up.
///
/// # Safety
///
/// Each word is a cell.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn look_up(cells: &[u64; GROUP / READ], of: &Marks, found: &mut [u16; GROUP]) {
    // SAFETY: the caller's promise.
    let at = |word: u64| i32::from(unsafe { *of.cells.get_unchecked(usize::from(word as u16)) });
    for (eight, found) in cells.as_chunks::<2>().0.iter().zip(found.as_chunks_mut::<8>().0) {
        let [a, b] = *eight;
        let mut words = _mm_cvtsi32_si128(at(a));
        words = _mm_insert_epi16::<1>(words, at(a >> 16));
        words = _mm_insert_epi16::<2>(words, at(a >> 32));
        words = _mm_insert_epi16::<3>(words, at(a >> 48));
        words = _mm_insert_epi16::<4>(words, at(b));
        words = _mm_insert_epi16::<5>(words, at(b >> 16));
        words = _mm_insert_epi16::<6>(words, at(b >> 32));
        words = _mm_insert_epi16::<7>(words, at(b >> 48));
        // SAFETY: there is room for eight words.
        unsafe { _mm_storeu_si128(found.as_mut_ptr().cast(), words) };
    }
}

/// The codes of values, from what was looked up and the lower bytes of their positions.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn compare(
    found: &[u16; GROUP],
    lower: &[u16; GROUP],
    v: &[f32; GROUP],
    of: &Marks,
    codes: &mut [u8; GROUP],
) {
    for half in (0..GROUP).step_by(2 * WORDS) {
        let [(front, first), (back, second)] = [half, half + WORDS].map(|at| {
            // SAFETY: there are 16 words in both.
            let (found, lower) = unsafe {
                (
                    _mm256_loadu_si256(found.as_ptr().add(at).cast()),
                    _mm256_loadu_si256(lower.as_ptr().add(at).cast()),
                )
            };
            let mark = _mm256_and_si256(found, _mm256_set1_epi16(0xFF));
            let passed = _mm256_cmpgt_epi16(lower, mark);
            (_mm256_sub_epi16(_mm256_srli_epi16::<8>(found), passed), _mm256_cmpeq_epi16(lower, mark))
        });
        // SAFETY: there is room for 32 codes.
        unsafe {
            let all = in_order(_mm256_packus_epi16(front, back));
            _mm256_storeu_si256(codes.as_mut_ptr().add(half).cast(), all);
        }
        let mut at_marks = _mm256_movemask_epi8(in_order(_mm256_packs_epi16(first, second))) as u32;
        while at_marks != 0 {
            let place = half + at_marks.trailing_zeros() as usize;
            codes[place] = of.code(v[place]);
            at_marks &= at_marks - 1;
        }
    }
}

/// Bytes of two pairs of vectors, in turns within a pair, that were narrowed by parts of 128 bits of both in turns: in the
/// order of their values.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(bytes: __m256i) -> __m256i {
    let apart = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    let apart = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(apart));
    _mm256_permutevar8x32_epi32(apart, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::{available, with};
    use super::staged::Search as _;
    use super::*;

    /// Codes that are those of comparing all cuts; whether there are marks for these.
    fn check(cuts: &[f32], codes: &[u16]) -> bool {
        let Some(marks) = Marks::new(cuts, codes) else { return false };
        let step = 1.0 / marks.scale.density;
        let around = cuts.iter().flat_map(|&cut| {
            [
                cut,
                cut.next_down(),
                cut.next_up(),
                cut - step,
                cut + step,
                cut - 256.0 * step,
                cut + 256.0 * step,
            ]
        });
        let special =
            [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-40];
        let mut x: Vec<f32> = around.chain(special).collect();
        let equal: Vec<f32> = x.iter().step_by(7).flat_map(|&x| [x; 100]).collect();
        x.extend(equal);
        x.resize(x.len().next_multiple_of(GROUP), 1.0);
        let expected: Vec<u8> =
            x.iter().map(|x| codes[cuts.iter().filter(|&cut| x >= cut).count()] as u8).collect();
        for level in available() {
            with(level, || {
                if !super::super::has_avx2() {
                    return;
                }
                for groups in [0, 1, 2, 3, 4, x.len() / GROUP] {
                    let len = groups * GROUP;
                    let mut found = vec![99; len];
                    let nan = marks.find(&x[..len], false, &mut found);
                    assert_eq!(nan, x[..len].iter().any(|x| x.is_nan()));
                    assert_eq!(found, expected[..len], "{cuts:?}");
                }
            });
        }
        true
    }

    #[test]
    fn values_about_cuts_have_their_codes() {
        let codes: Vec<u16> = (0..256).collect();
        for count in [2, 3, 16, 100, 254, 255] {
            let even: Vec<f32> = (0..count).map(|i| (i as f32 - count as f32 / 3.0) * 0.031).collect();
            assert!(check(&even, &codes[..=count]));
            assert!(check(&even, &codes[255 - count..]));
            let uneven: Vec<f32> =
                even.iter().zip(0u32..).map(|(cut, i)| cut + (i * i % 11) as f32 * 0.002).collect();
            assert!(check(&uneven, &codes[..=count]));
        }
        // Cuts in cells beside each other, at their beginnings and ends.
        let cell = |cell: f32, part: f32| (cell * 256.0 + part) / LAST;
        let near =
            [0.0, cell(1.0, 0.0), cell(2.0, 255.0), cell(3.0, 0.0), cell(7.0, 128.0), cell(8.0, 255.0), 1.0];
        assert!(check(&near, &codes[..8]));
    }

    #[test]
    fn what_has_no_marks() {
        let codes: Vec<u16> = (0..40).map(|i| i.min(30)).collect();
        let cuts: Vec<f32> = (0..30).map(|i| i as f32).chain([f32::INFINITY; 9]).collect();
        assert!(check(&cuts, &codes));
        let far: Vec<f32> = (0..30).map(|i| 1e6 + i as f32).collect();
        assert!(!check(&far, &codes[..31]));
        // Two cuts in a cell; cuts too far from each other, and too near; one or none.
        assert!(!check(&[0.0, 0.0001, 1.0], &[0, 1, 2, 3]));
        assert!(!check(&[-3e38, 0.0, 3e38], &[0, 1, 2, 3]));
        assert!(!check(&[0.0, 1e-44, 2e-44], &[0, 1, 2, 3]));
        assert!(!check(&[0.0], &[0, 1]) && !check(&[], &[0]) && !check(&[], &[]));
        // Codes in another order, and of more than a byte.
        assert!(!check(&[0.0, 1.0], &[0, 2, 1]));
        assert!(check(&[0.0, 1.0], &[253, 254, 255]));
        assert!(!check(&[0.0, 1.0], &[254, 255, 256]));
    }
}
