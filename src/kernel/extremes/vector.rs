//! Vectors of f32 whose lanes each hold a minimum or a maximum.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

/// A vector of 256 or of 512 bits.
///
/// # Safety
///
/// All that is unsafe here asks for a machine that has the vector's instructions: AVX2, or AVX-512 F and DQ.
pub(super) trait Vector: Copy {
    /// Values of a vector.
    const LANES: usize;
    /// The lanes in which NaN was met.
    type Marks: Copy;

    /// No lane.
    unsafe fn unmarked() -> Self::Marks;
    /// Marks also the lanes in which one of two vectors has NaN.
    unsafe fn mark(marks: Self::Marks, a: Self, b: Self) -> Self::Marks;
    /// Whether a lane is marked.
    unsafe fn marked(marks: Self::Marks) -> bool;

    /// A value in all lanes.
    unsafe fn all(value: f32) -> Self;
    /// The values at `from`, where as many are.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes to `to`, where as many places are.
    unsafe fn store(self, to: *mut f32);
    /// The lesser, or that of `than` where one is NaN.
    unsafe fn lesser(self, than: Self) -> Self;
    /// The greater, or that of `than` where one is NaN.
    unsafe fn greater(self, than: Self) -> Self;
    /// Eight lanes, each of which is the least of those that are joined in it.
    unsafe fn eight_least(self) -> __m256;
    /// As [`eight_least`](Self::eight_least), of the greatest.
    unsafe fn eight_greatest(self) -> __m256;

    /// The least lane.
    #[inline(always)]
    unsafe fn least(self) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { halves(self.eight_least(), |a, b| _mm_min_ps(a, b)) }
    }

    /// The greatest lane.
    #[inline(always)]
    unsafe fn greatest(self) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { halves(self.eight_greatest(), |a, b| _mm_max_ps(a, b)) }
    }
}

/// The lanes of a vector joined. Only for machines with AVX.
#[inline(always)]
unsafe fn halves(v: __m256, join: impl Fn(__m128, __m128) -> __m128) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let v = join(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = join(v, _mm_movehl_ps(v, v));
        let v = join(v, _mm_shuffle_ps::<1>(v, v));
        _mm_cvtss_f32(v)
    }
}

impl Vector for __m256 {
    const LANES: usize = 8;
    type Marks = __m256;

    #[inline(always)]
    unsafe fn unmarked() -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn mark(marks: __m256, a: Self, b: Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_or_ps(marks, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b)) }
    }
    #[inline(always)]
    unsafe fn marked(marks: __m256) -> bool {
        // SAFETY: the caller's promise.
        unsafe { _mm256_movemask_ps(marks) != 0 }
    }
    #[inline(always)]
    unsafe fn all(value: f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn lesser(self, than: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_min_ps(self, than) }
    }
    #[inline(always)]
    unsafe fn greater(self, than: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_max_ps(self, than) }
    }
    #[inline(always)]
    unsafe fn eight_least(self) -> __m256 {
        self
    }
    #[inline(always)]
    unsafe fn eight_greatest(self) -> __m256 {
        self
    }
}

impl Vector for __m512 {
    const LANES: usize = 16;
    type Marks = __mmask16;

    #[inline(always)]
    unsafe fn unmarked() -> __mmask16 {
        0
    }
    #[inline(always)]
    unsafe fn mark(marks: __mmask16, a: Self, b: Self) -> __mmask16 {
        // SAFETY: the caller's promise.
        unsafe { marks | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b) }
    }
    #[inline(always)]
    unsafe fn marked(marks: __mmask16) -> bool {
        marks != 0
    }
    #[inline(always)]
    unsafe fn all(value: f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn lesser(self, than: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_min_ps(self, than) }
    }
    #[inline(always)]
    unsafe fn greater(self, than: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_max_ps(self, than) }
    }
    #[inline(always)]
    unsafe fn eight_least(self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_min_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self)) }
    }
    #[inline(always)]
    unsafe fn eight_greatest(self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_max_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self)) }
    }
}
