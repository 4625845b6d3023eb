//! Vectors of one instruction set behind one set of names, so that a loop is written once for all of them.
//!
//! A value of a [`Vector`] type says that the machine has its instructions: [`vectorized!`] makes one where the level says
//! so, and its methods are the instructions. A loop over `V: Vector` is `#[inline(always)]`, and so are the functions that
//! it calls: all of it is compiled for the instructions of `V` in the function that [`vectorized!`] has call it.
#![allow(unsafe_code)] // intrinsics

use core::arch::x86_64::*;

pub(super) use super::lanes::Lanes;
use crate::simd::Level;

/// The vectors of one instruction set. Methods without a word of their own do what their name says to each lane.
pub(super) trait Vector: Copy {
    /// The level whose vectors these are.
    const LEVEL: Level;
    /// Numbers of f32.
    const LANES: usize;
    /// Codes of one byte.
    const BYTES: usize = 4 * Self::LANES;

    type Floats: Copy;
    type Integers: Copy;
    /// Lanes in which NaN was met.
    type Marks: Copy;

    /// The vectors of 256 bits that such a machine has too.
    fn narrow(self) -> Avx2 {
        Avx2(())
    }

    /// # Safety
    ///
    /// There are as many numbers at `from` as lanes.
    unsafe fn load<A: Lanes>(self, from: *const A) -> Self::Floats;
    /// Two vectors of numbers, one after the other or [in turns](Lanes::READ_IN_TURNS).
    ///
    /// # Safety
    ///
    /// There are as many numbers at `from`.
    unsafe fn load_two<A: Lanes>(self, from: *const A) -> [Self::Floats; 2];
    /// As [`load_two`](Self::load_two), [held between](Lanes::two_eights_within) two numbers of 16 bits.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn load_two_within<A: Lanes>(self, from: *const A, ends: [Self::Integers; 2])
    -> [Self::Floats; 2];
    fn floats(self, x: f32) -> Self::Floats;
    /// The lesser, or `b` where one is NaN.
    fn lesser(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The greater, or `b` where one is NaN.
    fn greater(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Eight lanes, each of which is the least of those that are joined in it.
    fn eight_least(self, a: Self::Floats) -> __m256;
    /// As [`eight_least`](Self::eight_least), of the greatest.
    fn eight_greatest(self, a: Self::Floats) -> __m256;
    /// No lane.
    fn unmarked(self) -> Self::Marks;
    /// Marks also the lanes in which one of two vectors has NaN.
    fn mark(self, marks: Self::Marks, a: Self::Floats, b: Self::Floats) -> Self::Marks;
    /// Whether a lane is marked.
    fn marked(self, marks: Self::Marks) -> bool;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded once.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The nearest integers of 32 bits, ties to even; the most negative one for what does not fit, NaN among it.
    fn nearest(self, x: Self::Floats) -> Self::Integers;
    /// Numbers that `fit` as [`Lanes::fit`] says, or any.
    ///
    /// # Safety
    ///
    /// There is room for as many numbers at `to` as lanes, and it is a multiple of their bytes if `STREAM`.
    unsafe fn put<A: Lanes, const STREAM: bool>(self, to: *mut A, a: Self::Floats, fit: bool);

    /// Two vectors as [`load_two`](Self::load_two) reads them.
    ///
    /// # Safety
    ///
    /// As [`put`](Self::put), for twice as many numbers.
    unsafe fn put_two<A: Lanes, const STREAM: bool>(self, to: *mut A, a: [Self::Floats; 2], fit: bool);

    fn integers(self, x: i32) -> Self::Integers;
    fn min(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn add_integers(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn max(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn to_floats(self, a: Self::Integers) -> Self::Floats;
    /// The bits of numbers, and the numbers of bits.
    fn to_bits(self, a: Self::Floats) -> Self::Integers;
    fn of_bits(self, a: Self::Integers) -> Self::Floats;
    /// Whether any integer of 32 bits is `x`.
    fn any(self, a: Self::Integers, x: i32) -> bool;

    fn bytes(self, x: i8) -> Self::Integers;
    fn words(self, x: i16) -> Self::Integers;
    /// Integers of 32 bits to 16, what does not fit to the ends, by parts of 128 bits of both in turns.
    fn to_words(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Integers of 16 bits to 8, in the same way.
    fn to_bytes(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// As [`to_bytes`](Self::to_bytes), without a sign.
    fn to_unsigned_bytes(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// What was narrowed twice, in its order.
    fn in_order(self, bytes: Self::Integers) -> Self::Integers;
    /// What was narrowed twice of two pairs of vectors that were read [in turns](Lanes::READ_IN_TURNS), in its order but for
    /// that of integers of 32 bits.
    fn untwined(self, bytes: Self::Integers) -> Self::Integers;
    /// As [`in_order`](Self::in_order), of what [`untwined`](Self::untwined) gives.
    fn in_order_untwined(self, bytes: Self::Integers) -> Self::Integers;
    /// Where the integers of 32 bits from `first` on stand in two vectors that were narrowed twice, and [untwined](Self::untwined)
    /// if `untwined`.
    fn places(self, first: i32, untwined: bool) -> Self::Integers;
    /// The integers of 32 bits that stand at `places` in two vectors, one after the other.
    fn joined(self, front: Self::Integers, places: Self::Integers, back: Self::Integers) -> Self::Integers;
    fn min_words(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// The least of the words, which have no sign.
    fn least_word(self, a: Self::Integers) -> u16;
    fn max_words(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn max_unsigned_words(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// All bits of the words that are negative.
    fn negative_words(self, a: Self::Integers) -> Self::Integers;
    /// What does not fit goes to the ends.
    fn add_words(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn min_bytes(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn max_bytes(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn and(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    fn xor(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Whether any integer of 16 bits is `x`.
    fn any_word(self, a: Self::Integers, x: i16) -> bool;
    /// Whether any word, without a sign, is above `x`.
    fn any_word_above(self, a: Self::Integers, x: u16) -> bool;
    /// # Safety
    ///
    /// There is a vector at `from`.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Integers;
    /// # Safety
    ///
    /// There is room for a vector at `to`.
    unsafe fn store(self, to: *mut u8, a: Self::Integers);
    /// Past the caches. A fence has to follow before other threads may see it.
    ///
    /// # Safety
    ///
    /// There is room for a vector at `to`, which is a multiple of its length.
    unsafe fn stream(self, to: *mut u8, a: Self::Integers);
    /// As [`stream`](Self::stream), to a multiple of 16, by parts of that length.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn stream_parts(self, to: *mut u8, a: Self::Integers);
}

/// Implements [`Vector`]: methods that are one intrinsic, and others.
macro_rules! vector {
    (
        $(#[$meta:meta])*
        $name:ident, $lanes:literal, $floats:ty, $integers:ty, $marks:ty, $load:ident, $load_two:ident,
        $load_two_within:ident,
        $put:ident, $put_two:ident, $store:ident, $stream:ident,
        [$($extract:ident::<$part:literal>),*];
        $($method:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $intrinsic:ident;)*
        ;
        $(fn $own:ident($($own_arg:ident: $own_ty:ty),*) -> $own_ret:ty $body:block)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl $name {
            /// # Safety
            ///
            /// The machine has all instructions of the level of this name.
            #[inline(always)]
            pub(super) unsafe fn new() -> Self {
                Self(())
            }
        }

        impl Vector for $name {
            const LEVEL: Level = Level::$name;
            const LANES: usize = $lanes;
            type Floats = $floats;
            type Integers = $integers;
            type Marks = $marks;

            #[inline(always)]
            unsafe fn load<A: Lanes>(self, from: *const A) -> $floats {
                // SAFETY: `self` says that the instructions are there, the rest is the caller's promise.
                unsafe { A::$load(from) }
            }

            #[inline(always)]
            unsafe fn load_two<A: Lanes>(self, from: *const A) -> [$floats; 2] {
                // SAFETY: as above.
                unsafe { A::$load_two(from) }
            }

            #[inline(always)]
            unsafe fn load_two_within<A: Lanes>(self, from: *const A, ends: [$integers; 2]) -> [$floats; 2] {
                // SAFETY: as above.
                unsafe { A::$load_two_within(from, ends) }
            }

            #[inline(always)]
            unsafe fn load_bytes(self, from: *const u8) -> $integers {
                // SAFETY: as above.
                unsafe { from.cast::<$integers>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u8, a: $integers) {
                // SAFETY: as above.
                unsafe { $store(to.cast(), a) }
            }

            #[inline(always)]
            unsafe fn stream(self, to: *mut u8, a: $integers) {
                // SAFETY: as above.
                unsafe { $stream(to.cast(), a) }
            }

            #[inline(always)]
            unsafe fn stream_parts(self, to: *mut u8, a: $integers) {
                let mut part = 0;
                $(
                    // SAFETY: as above.
                    unsafe { _mm_stream_si128(to.add(part).cast(), $extract::<$part>(a)) };
                    part += 16;
                )*
                debug_assert!(part == size_of::<$integers>());
            }

            #[inline(always)]
            unsafe fn put<A: Lanes, const STREAM: bool>(self, to: *mut A, a: $floats, fit: bool) {
                // SAFETY: as above.
                unsafe { A::$put::<STREAM>(to, a, fit) }
            }

            #[inline(always)]
            unsafe fn put_two<A: Lanes, const STREAM: bool>(self, to: *mut A, a: [$floats; 2], fit: bool) {
                // SAFETY: as above.
                unsafe { A::$put_two::<STREAM>(to, a, fit) }
            }
            $(
                #[inline(always)]
                fn $method(self, $($arg: $ty),*) -> $ret {
                    // SAFETY: `self` says that the instruction is there.
                    unsafe { $intrinsic($($arg),*) }
                }
            )*
            $(
                #[inline(always)]
                #[allow(unused_unsafe, reason = "some take no instruction")]
                fn $own(self, $($own_arg: $own_ty),*) -> $own_ret {
                    // SAFETY: `self` says that the instructions are there.
                    unsafe { $body }
                }
            )*
        }
    };
}

vector! {
    /// Vectors of 256 bits.
    Avx2, 8, __m256, __m256i, __m256, eight, two_eights, two_eights_within, put_eight, put_two_eights, _mm256_storeu_si256, _mm256_stream_si256,
    [_mm256_extracti128_si256::<0>, _mm256_extracti128_si256::<1>];
    floats(x: f32) -> __m256 = _mm256_set1_ps;
    lesser(a: __m256, b: __m256) -> __m256 = _mm256_min_ps;
    greater(a: __m256, b: __m256) -> __m256 = _mm256_max_ps;
    add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps;
    sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps;
    mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps;
    div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps;
    mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps;
    nearest(x: __m256) -> __m256i = _mm256_cvtps_epi32;
    integers(x: i32) -> __m256i = _mm256_set1_epi32;
    min(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epi32;
    max(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epi32;
    add_integers(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32;
    to_floats(a: __m256i) -> __m256 = _mm256_cvtepi32_ps;
    to_bits(a: __m256) -> __m256i = _mm256_castps_si256;
    of_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps;
    bytes(x: i8) -> __m256i = _mm256_set1_epi8;
    words(x: i16) -> __m256i = _mm256_set1_epi16;
    to_words(a: __m256i, b: __m256i) -> __m256i = _mm256_packs_epi32;
    to_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_packs_epi16;
    to_unsigned_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_packus_epi16;
    min_words(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epi16;
    max_words(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epi16;
    max_unsigned_words(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epu16;
    add_words(a: __m256i, b: __m256i) -> __m256i = _mm256_adds_epi16;
    min_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epi8;
    max_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epi8;
    and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256;
    xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256;
    ;
    fn negative_words(a: __m256i) -> __m256i { _mm256_srai_epi16::<15>(a) }
    fn least_word(a: __m256i) -> u16 {
        let eight = _mm_min_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
        _mm_cvtsi128_si32(_mm_minpos_epu16(eight)) as u16
    }
    fn eight_least(a: __m256) -> __m256 { a }
    fn eight_greatest(a: __m256) -> __m256 { a }
    fn unmarked() -> __m256 { _mm256_setzero_ps() }
    fn mark(marks: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_or_ps(marks, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b))
    }
    fn marked(marks: __m256) -> bool { _mm256_movemask_ps(marks) != 0 }
    fn in_order(bytes: __m256i) -> __m256i {
        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
    }
    fn places(first: i32, untwined: bool) -> __m256i {
        let counted = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
        let order = if untwined { _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7) } else { _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7) };
        let place = _mm256_permutevar8x32_epi32(order, counted);
        _mm256_or_si256(place, _mm256_and_si256(counted, _mm256_set1_epi32(8)))
    }
    fn joined(front: __m256i, places: __m256i, back: __m256i) -> __m256i {
        // Of places, three bits count.
        let (front, behind) = (_mm256_permutevar8x32_epi32(front, places), _mm256_set1_epi32(7));
        let back = _mm256_permutevar8x32_epi32(back, places);
        _mm256_blendv_epi8(front, back, _mm256_cmpgt_epi32(places, behind))
    }
    fn in_order_untwined(bytes: __m256i) -> __m256i { _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes) }
    fn untwined(bytes: __m256i) -> __m256i {
        let turns = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
        _mm256_shuffle_epi8(bytes, turns)
    }
    fn any(a: __m256i, x: i32) -> bool {
        _mm256_movemask_epi8(_mm256_cmpeq_epi32(a, _mm256_set1_epi32(x))) != 0
    }
    fn any_word(a: __m256i, x: i16) -> bool {
        _mm256_movemask_epi8(_mm256_cmpeq_epi16(a, _mm256_set1_epi16(x))) != 0
    }
    fn any_word_above(a: __m256i, x: u16) -> bool {
        let x = _mm256_set1_epi16(x as i16);
        _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_max_epu16(a, x), x)) != -1
    }
}

vector! {
    /// Vectors of 512 bits.
    Avx512, 16, __m512, __m512i, __mmask16, sixteen, two_sixteens, two_sixteens_within, put_sixteen, put_two_sixteens, _mm512_storeu_si512, _mm512_stream_si512,
    [_mm512_extracti32x4_epi32::<0>, _mm512_extracti32x4_epi32::<1>, _mm512_extracti32x4_epi32::<2>, _mm512_extracti32x4_epi32::<3>];
    floats(x: f32) -> __m512 = _mm512_set1_ps;
    lesser(a: __m512, b: __m512) -> __m512 = _mm512_min_ps;
    greater(a: __m512, b: __m512) -> __m512 = _mm512_max_ps;
    add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps;
    sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps;
    mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps;
    div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps;
    mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps;
    nearest(x: __m512) -> __m512i = _mm512_cvtps_epi32;
    integers(x: i32) -> __m512i = _mm512_set1_epi32;
    min(a: __m512i, b: __m512i) -> __m512i = _mm512_min_epi32;
    max(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epi32;
    add_integers(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32;
    to_floats(a: __m512i) -> __m512 = _mm512_cvtepi32_ps;
    to_bits(a: __m512) -> __m512i = _mm512_castps_si512;
    of_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps;
    bytes(x: i8) -> __m512i = _mm512_set1_epi8;
    words(x: i16) -> __m512i = _mm512_set1_epi16;
    to_words(a: __m512i, b: __m512i) -> __m512i = _mm512_packs_epi32;
    to_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_packs_epi16;
    to_unsigned_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_packus_epi16;
    min_words(a: __m512i, b: __m512i) -> __m512i = _mm512_min_epi16;
    max_words(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epi16;
    max_unsigned_words(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epu16;
    add_words(a: __m512i, b: __m512i) -> __m512i = _mm512_adds_epi16;
    min_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_min_epi8;
    max_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epi8;
    and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512;
    xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512;
    ;
    fn negative_words(a: __m512i) -> __m512i { _mm512_srai_epi16::<15>(a) }
    fn least_word(a: __m512i) -> u16 {
        let sixteen = _mm256_min_epu16(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a));
        let eight = _mm_min_epu16(_mm256_castsi256_si128(sixteen), _mm256_extracti128_si256::<1>(sixteen));
        _mm_cvtsi128_si32(_mm_minpos_epu16(eight)) as u16
    }
    fn eight_least(a: __m512) -> __m256 {
        _mm256_min_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a))
    }
    fn eight_greatest(a: __m512) -> __m256 {
        _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a))
    }
    fn unmarked() -> __mmask16 { 0 }
    fn mark(marks: __mmask16, a: __m512, b: __m512) -> __mmask16 {
        marks | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b)
    }
    fn marked(marks: __mmask16) -> bool { marks != 0 }
    fn in_order(bytes: __m512i) -> __m512i {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, bytes)
    }
    fn places(first: i32, untwined: bool) -> __m512i {
        let zero = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let counted = _mm512_add_epi32(zero, _mm512_set1_epi32(first));
        let order = if untwined {
            _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
        } else {
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
        };
        let place = _mm512_permutexvar_epi32(counted, order);
        _mm512_or_si512(place, _mm512_and_si512(counted, _mm512_set1_epi32(16)))
    }
    fn joined(front: __m512i, places: __m512i, back: __m512i) -> __m512i {
        _mm512_permutex2var_epi32(front, places, back)
    }
    fn in_order_untwined(bytes: __m512i) -> __m512i {
        _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes)
    }
    fn untwined(bytes: __m512i) -> __m512i {
        let turns = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
        _mm512_shuffle_epi8(bytes, turns)
    }
    fn any(a: __m512i, x: i32) -> bool { _mm512_cmpeq_epi32_mask(a, _mm512_set1_epi32(x)) != 0 }
    fn any_word(a: __m512i, x: i16) -> bool { _mm512_cmpeq_epi16_mask(a, _mm512_set1_epi16(x)) != 0 }
    fn any_word_above(a: __m512i, x: u16) -> bool {
        _mm512_cmpgt_epu16_mask(a, _mm512_set1_epi16(x as i16)) != 0
    }
}

/// Defines a function over a [`Vector`] whose body is compiled for each instruction set that has one; a level chooses at
/// run time, and `None` is the result of one without.
///
/// `fn name<V>[A: Lanes](v, x: &[A]) -> bool { .. }` becomes `fn name<A: Lanes>(level: Level, x: &[A]) -> Option<bool>`;
/// in the body, `v` is a `V`. What it calls is compiled for the same instructions only if it is inlined: mark it
/// `#[inline(always)]`.
macro_rules! vectorized {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$v:ident>[$($g:ident: $bound:path),*]($token:ident, $($arg:ident: $ty:ty),* $(,)?) -> $ret:ty
        $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name<$($g: $bound),*>(level: $crate::simd::Level, $($arg: $ty),*) -> Option<$ret> {
            use $crate::kernel::vector::{Avx2, Avx512, Vector};

            #[inline(always)]
            fn body<$v: Vector, $($g: $bound),*>($token: $v, $($arg: $ty),*) -> $ret $body

            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2<$($g: $bound),*>($($arg: $ty),*) -> $ret {
                // SAFETY: this function is called where these instructions are.
                body::<Avx2, $($g),*>(unsafe { Avx2::new() }, $($arg),*)
            }

            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512<$($g: $bound),*>($($arg: $ty),*) -> $ret {
                // SAFETY: as above.
                body::<Avx512, $($g),*>(unsafe { Avx512::new() }, $($arg),*)
            }

            match level {
                // SAFETY: only levels are in use that this machine was found to have.
                $crate::simd::Level::Avx2 => Some(unsafe { avx2::<$($g),*>($($arg),*) }),
                // SAFETY: as above.
                $crate::simd::Level::Avx512 => Some(unsafe { avx512::<$($g),*>($($arg),*) }),
                $crate::simd::Level::Baseline => None,
            }
        }
    };
}
pub(super) use vectorized;
