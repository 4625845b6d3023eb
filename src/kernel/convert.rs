//! Conversion between element types, and staging: a slice of elements seen in the type of the
//! arithmetic, without a copy where the types are the same.
#![allow(unsafe_code)] // reinterpreting a slice as what its type's run-time name says it is

use half::f16;
use half::slice::HalfFloatSliceExt;

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
        to.convert_from_f32_slice(from);
    } else {
        each(from, to);
    }
}

/// Widens equally many halves.
fn halves(from: &[f16], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the level says that the machine has F16C.
        return unsafe { halves_f16c(from, to) };
    }
    from.convert_to_f32_slice(to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn halves_f16c(from: &[f16], to: &mut [f32]) {
    use core::arch::x86_64::*;
    let (eights, rest) = from.as_chunks::<8>();
    let (to_eights, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in eights.iter().zip(to_eights) {
        // SAFETY: eight halves, and eight places.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
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
    use half::bf16;

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
    fn different_lengths_convert_the_common_prefix() {
        let mut out = [0.0f64; 3];
        convert(&[1.0f32, 2.0], &mut out);
        assert_eq!(out, [1.0, 2.0, 0.0]);
        convert(&[5.0f32; 9], &mut out);
        assert_eq!(out, [5.0; 3]);
    }
}
