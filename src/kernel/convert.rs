//! Conversion between element types, and staging: a slice of elements seen in the type of the
//! arithmetic, without a copy where the types are the same.
#![allow(unsafe_code)] // reinterpreting a slice as what its type's run-time name says it is

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dispatch;
use crate::element::{Element, FloatType};

/// Elements converted at a time on the stack.
pub(crate) const STAGE: usize = 256;

/// `x` as a slice of `T`, if that is what it is.
#[inline(always)]
pub(crate) fn same<A: Element, T: Element>(x: &[A]) -> Option<&[T]> {
    // SAFETY: `Element` is sealed and its four types have different names, so equal names mean that
    // A and T are one type.
    (A::TYPE == T::TYPE).then(|| unsafe { core::slice::from_raw_parts(x.as_ptr().cast(), x.len()) })
}

/// `x` as a mutable slice of `T`, if that is what it is.
#[inline(always)]
pub(crate) fn same_mut<A: Element, T: Element>(x: &mut [A]) -> Option<&mut [T]> {
    // SAFETY: as in `same`; the exclusive borrow passes to the result.
    (A::TYPE == T::TYPE).then(|| unsafe { core::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) })
}

/// One element in another type, rounded once.
#[inline(always)]
pub(crate) fn convert_one<A: Element, T: Element>(value: A) -> T {
    if A::TYPE == FloatType::F64 || T::TYPE == FloatType::F64 {
        T::from_f64(value.to_f64())
    } else {
        T::from_f32(value.to_f32())
    }
}

/// Converts the common prefix of two slices; each element is rounded once.
pub(crate) fn convert<A: Element, T: Element>(from: &[A], to: &mut [T]) {
    let len = from.len().min(to.len());
    let (from, to) = (&from[..len], &mut to[..len]);
    if let Some(from) = same::<A, T>(from) {
        to.copy_from_slice(from);
    } else if let Some(from) = same::<A, f16>(from) {
        // The slice functions of `half` test for hardware conversion once, not per element.
        if let Some(to) = same_mut::<T, f32>(to) {
            halves(from, to);
        } else {
            let mut stage = [0.0f32; STAGE];
            for (from, to) in from.chunks(STAGE).zip(to.chunks_mut(STAGE)) {
                let stage = &mut stage[..from.len()];
                from.convert_to_f32_slice(stage);
                each(stage, to);
            }
        }
    } else if let (Some(from), Some(to)) = (same::<A, f32>(from), same_mut::<T, f16>(to)) {
        to_halves(from, to);
    } else {
        #[cfg(target_arch = "x86_64")]
        if super::level() >= crate::simd::Level::Avx2 {
            if let (Some(from), Some(to)) = (same::<A, f32>(from), same_mut::<T, bf16>(to)) {
                // SAFETY: the level says that the machine has AVX2.
                return unsafe { to_upper_halves(from, to) };
            }
            if let (Some(from), Some(to)) = (same::<A, bf16>(from), same_mut::<T, f32>(to)) {
                // SAFETY: as above.
                return unsafe { widen(from, to) };
            }
        }
        each(from, to);
    }
}

/// Narrows to equally many halves.
fn to_halves(from: &[f32], to: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the level says that the machine has F16C.
        return unsafe { to_halves_f16c(from, to) };
    }
    to.convert_from_f32_slice(from);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn to_halves_f16c(from: &[f32], to: &mut [f16]) {
    let (eights, rest) = from.as_chunks::<8>();
    let (to_eights, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in eights.iter().zip(to_eights) {
        // SAFETY: eight values, and eight places.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
        }
    }
    for (from, to) in rest.iter().zip(to_rest) {
        *to = f16::from_f32(*from);
    }
}

/// Rounds the lower half of each number away.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn to_upper_halves(from: &[f32], to: &mut [bf16]) {
    let (steps, rest) = from.as_chunks::<16>();
    let (to_steps, to_rest) = to.as_chunks_mut::<16>();
    for (from, to) in steps.iter().zip(to_steps) {
        // SAFETY: sixteen values, and sixteen places.
        unsafe {
            let low = upper_halves(_mm256_loadu_ps(from.as_ptr()));
            let high = upper_halves(_mm256_loadu_ps(from.as_ptr().add(8)));
            // Packing works in halves.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), words);
        }
    }
    for (from, to) in rest.iter().zip(to_rest) {
        *to = bf16::from_f32(*from);
    }
}

/// The nearest numbers (ties to even) whose lower half is zero, by their upper half. NaN stays NaN, and quiet.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn upper_halves(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let upper = _mm256_srli_epi32::<16>(bits);
    let odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    let most = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, most));
    let quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    _mm256_blendv_epi8(rounded, quiet, nan)
}

/// Widens equally many halves.
fn halves(from: &[f16], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the level says that the machine has AVX2 and F16C.
        return unsafe { widen(from, to) };
    }
    from.convert_to_f32_slice(to);
}

/// Numbers that are read as eight of f32.
#[cfg(target_arch = "x86_64")]
pub(super) trait Eight: Element {
    /// # Safety
    ///
    /// There are eight numbers at `from`. Only for machines with AVX2 and F16C.
    unsafe fn eight(from: *const Self) -> __m256;
}

#[cfg(target_arch = "x86_64")]
impl Eight for f32 {
    #[inline(always)]
    unsafe fn eight(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Eight for f16 {
    #[inline(always)]
    unsafe fn eight(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Eight for bf16 {
    #[inline(always)]
    unsafe fn eight(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise. They are the upper halves of the same numbers of f32.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
}

/// Widens equally many numbers, and asks for those that will be wanted next: what is widened by parts waits for no
/// memory while it is worked on.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn widen<A: Eight>(from: &[A], to: &mut [f32]) {
    /// Numbers of a cache line, and bytes ahead.
    const LINE: usize = 32;
    const AHEAD: usize = 4096;
    let (lines, rest) = from.as_chunks::<LINE>();
    let (places, to_rest) = to.as_chunks_mut::<LINE>();
    for (from, to) in lines.iter().zip(places) {
        super::prefetch(from, AHEAD);
        for at in [0, 8, 16, 24] {
            // SAFETY: eight numbers, and eight places.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().add(at), A::eight(from.as_ptr().add(at))) };
        }
    }
    for (from, to) in rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}

dispatch! {
    fn each[A: Element, T: Element](from: &[A], to: &mut [T]) {
        for (from, to) in from.iter().zip(to) {
            *to = convert_one(*from);
        }
    }
}

/// `x` in the type `T`: itself if it is that already, else its first [`STAGE`] elements converted
/// into `buffer`.
#[inline(always)]
pub(crate) fn stage<'a, A: Element, T: Element>(x: &'a [A], buffer: &'a mut [T; STAGE]) -> &'a [T] {
    if let Some(x) = same(x) {
        return x;
    }
    let len = x.len().min(STAGE);
    convert(&x[..len], &mut buffer[..len]);
    &buffer[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<A: Element, T: Element>() {
        let values: Vec<A> = (0..700)
            .map(|i| A::from_f64(f64::from(i - 350) * 1.37e-3 * f64::from(1 << (i % 20))))
            .chain([f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 6e-8, 70000.0].map(A::from_f64))
            .collect();
        for len in [0, 1, 7, 8, 255, 256, 257, values.len()] {
            let result = super::super::forced::agreed(|| {
                let mut out = vec![T::default(); len];
                convert(&values[..len], &mut out);
                out.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>()
            });
            let expected = values[..len].iter().map(|x| T::from_f64(x.to_f64()).to_f64().to_bits());
            assert_eq!(result, expected.collect::<Vec<_>>(), "{:?} to {:?}", A::TYPE, T::TYPE);
        }
        let mut nan = [T::default()];
        convert(&[A::from_f64(f64::NAN)], &mut nan);
        assert!(nan[0].to_f64().is_nan());
    }

    #[test]
    fn every_pair_of_types() {
        macro_rules! pairs {
            ($($a:ty),*) => { $(check::<$a, f32>(); check::<$a, f64>(); check::<$a, f16>(); check::<$a, bf16>();)* };
        }
        pairs!(f32, f64, f16, bf16);
    }

    #[test]
    fn f32_of_every_kind_become_halves() {
        // All upper halves, with lower halves at, below and above the ties of both types.
        let lower = [0u32, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        let x: Vec<f32> = (0..1u32 << 16)
            .flat_map(|upper| lower.map(|lower| f32::from_bits(upper << 16 | lower)))
            .collect();
        let found = super::super::forced::agreed(|| {
            let (mut halves, mut upper) = (vec![f16::ZERO; x.len()], vec![bf16::ZERO; x.len()]);
            convert(&x, &mut halves);
            convert(&x, &mut upper);
            let bits = |(half, upper): (&f16, &bf16)| (half.to_bits(), upper.to_bits());
            halves.iter().zip(&upper).map(bits).collect::<Vec<_>>()
        });
        for (x, found) in x.iter().zip(found) {
            let expected = (f16::from_f32(*x).to_bits(), bf16::from_f32(*x).to_bits());
            assert_eq!(found, expected, "{:#x}", x.to_bits());
        }
    }

    #[test]
    fn different_lengths_convert_the_common_prefix() {
        let mut out = [0.0f64; 3];
        convert(&[1.0f32, 2.0], &mut out);
        assert_eq!(out, [1.0, 2.0, 0.0]);
        convert(&[5.0f32; 9], &mut out);
        assert_eq!(out, [5.0; 3]);
    }
}
