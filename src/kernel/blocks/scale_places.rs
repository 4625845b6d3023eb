//! Places for the scales of many blocks, in the type that they are stored in.
#![allow(unsafe_code)] // stores by pointers

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use half::{bf16, f16};

use crate::kernel::convert;

/// Lanes of a vector of scales.
#[cfg(target_arch = "x86_64")]
const LANES: usize = 8;

/// Bits of the significand of an f32 that are stored.
const MANTISSA: u32 = 23;

/// Places for scales that are f32 numbers, exact in their storage.
#[derive(Debug)]
pub(crate) enum ScalePlaces<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
    Bf16(&'a mut [bf16]),
    /// Exponents of E8M0.
    Powers(&'a mut [u8]),
}

impl ScalePlaces<'_> {
    /// The same places, for a while.
    pub(crate) fn reborrow(&mut self) -> ScalePlaces<'_> {
        match self {
            Self::F32(places) => ScalePlaces::F32(places),
            Self::F16(places) => ScalePlaces::F16(places),
            Self::Bf16(places) => ScalePlaces::Bf16(places),
            Self::Powers(places) => ScalePlaces::Powers(places),
        }
    }

    /// The first `count` places, and those after them.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        match self {
            Self::F32(places) => split_places(places, count, Self::F32),
            Self::F16(places) => split_places(places, count, Self::F16),
            Self::Bf16(places) => split_places(places, count, Self::Bf16),
            Self::Powers(places) => split_places(places, count, Self::Powers),
        }
    }

    /// Writes `scales` from place `at` on, as far as there are places.
    pub(crate) fn write(&mut self, at: usize, scales: &[f32]) {
        match self {
            Self::F32(places) => convert::convert(scales, places.get_mut(at..).unwrap_or_default()),
            Self::F16(places) => convert::convert(scales, places.get_mut(at..).unwrap_or_default()),
            Self::Bf16(places) => convert::convert(scales, places.get_mut(at..).unwrap_or_default()),
            Self::Powers(places) => {
                // A code is the exponent field of an f32, down to the subnormal 2^−127.
                let places = places.get_mut(at..).unwrap_or_default().iter_mut();
                places.zip(scales).for_each(|(code, scale)| *code = (scale.to_bits() >> MANTISSA) as u8);
            }
        }
    }

    /// As [`write`](Self::write), of the first of each `every` lanes, which are 1, 2, 4 or 8. Places behind these are written
    /// too if they are within a vector: scales come in order.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(in crate::kernel) fn put(&mut self, at: usize, lanes: __m256, every: usize) {
        let scales = if every > 1 {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_permutevar8x32_ps(lanes, _mm256_mullo_epi32(lane, _mm256_set1_epi32(every as i32)))
        } else {
            lanes
        };
        let bits = _mm256_castps_si256(scales);
        // SAFETY: a vector of scales has as many places.
        unsafe {
            match self {
                Self::F32(places) => {
                    if let Some(places) = vector(places, at) {
                        return _mm256_storeu_ps(places.as_mut_ptr(), scales);
                    }
                }
                Self::F16(places) => {
                    if let Some(places) = vector(places, at) {
                        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(scales);
                        return _mm_storeu_si128(places.as_mut_ptr().cast(), halves);
                    }
                }
                Self::Bf16(places) => {
                    if let Some(places) = vector(places, at) {
                        let upper = words(_mm256_srli_epi32::<16>(bits));
                        return _mm_storeu_si128(places.as_mut_ptr().cast(), upper);
                    }
                }
                Self::Powers(places) => {
                    if let Some(places) = vector(places, at) {
                        let exponents = words(_mm256_srli_epi32::<{ MANTISSA as i32 }>(bits));
                        let bytes = _mm_packus_epi16(exponents, exponents);
                        return _mm_storel_epi64(places.as_mut_ptr().cast(), bytes);
                    }
                }
            }
            let mut last = [0.0; LANES];
            _mm256_storeu_ps(last.as_mut_ptr(), scales);
            self.write(at, &last[..LANES / every.clamp(1, LANES)]);
        }
    }
}

/// Places for a vector of scales from `at` on, if there are so many.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn vector<T>(places: &mut [T], at: usize) -> Option<&mut [T; LANES]> {
    places.get_mut(at..)?.first_chunk_mut()
}

/// The lower words of lanes whose upper ones are zero.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn words(lanes: __m256i) -> __m128i {
    _mm_packus_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes))
}

/// The first `count` places as parts of one kind, and those after them.
pub(crate) fn split_places<'a, T, P>(
    places: &'a mut [T],
    count: usize,
    part: impl Fn(&'a mut [T]) -> P,
) -> (P, P) {
    let (first, rest) = places.split_at_mut(count.min(places.len()));
    (part(first), part(rest))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// All of `scales` by vectors of which the first of each `every` lanes counts, and at once.
    fn check<T: Copy + Default + PartialEq + core::fmt::Debug>(
        scales: &[f32],
        every: usize,
        places: fn(&mut [T]) -> ScalePlaces<'_>,
    ) {
        let (mut found, mut expected) = (vec![T::default(); scales.len()], vec![T::default(); scales.len()]);
        places(&mut expected).write(0, scales);
        for (i, some) in scales.chunks(LANES / every).enumerate() {
            // Lanes that do not count are other numbers.
            let mut lanes = [7.0; LANES];
            some.iter().enumerate().for_each(|(j, &scale)| lanes[j * every] = scale);
            // SAFETY: AVX2 and F16C were detected, and a vector has as many lanes.
            unsafe {
                let lanes = _mm256_loadu_ps(lanes.as_ptr());
                places(&mut found).put(i * (LANES / every), lanes, every);
            }
        }
        assert_eq!(found, expected, "{} scales, one in {every} lanes", scales.len());
    }

    #[test]
    fn vectors_are_written_as_numbers_are() {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
            return;
        }
        for every in [1, 2, 4, 8] {
            for len in (0..40).chain([256]) {
                let scales: Vec<f32> = (0..len).map(|i| 2f32.powi(i % 29 - 14)).collect();
                check(&scales, every, |places| ScalePlaces::F32(places));
                check(&scales, every, |places| ScalePlaces::F16(places));
                check(&scales, every, |places| ScalePlaces::Bf16(places));
                check(&scales, every, |places| ScalePlaces::Powers(places));
            }
        }
    }
}
