//! Searches for the first bad value.

use super::convert::{STAGE, stage};
use super::dispatch;
use crate::element::{Element, Real};

/// Elements of one step of a search.
const SEARCH: usize = 128;

dispatch! {
    fn first_step_not[T: Real, P: Predicate](x: &[T]) -> Option<usize> {
        x.chunks(SEARCH).position(|x| x.iter().fold(false, |found, x| found | P::holds(*x)))
    }
}

/// What is searched for.
trait Predicate {
    fn holds<T: Real>(x: T) -> bool;
}
struct NonFinite;
impl Predicate for NonFinite {
    #[inline(always)]
    fn holds<T: Real>(x: T) -> bool {
        !x.is_finite()
    }
}
struct Nan;
impl Predicate for Nan {
    #[inline(always)]
    fn holds<T: Real>(x: T) -> bool {
        x.is_nan()
    }
}

fn first<A: Element, P: Predicate>(x: &[A]) -> Option<usize> {
    let mut buffer = [A::Real::default(); STAGE];
    let mut at = 0;
    while at < x.len() {
        let part = stage::<A, A::Real>(&x[at..], &mut buffer);
        if let Some(step) = first_step_not::<A::Real, P>(part) {
            let from = step * SEARCH;
            return part[from..].iter().position(|x| P::holds(*x)).map(|i| at + from + i);
        }
        at += part.len();
    }
    None
}

/// The first element that is NaN or infinite.
pub(crate) fn first_non_finite<A: Element>(x: &[A]) -> Option<usize> {
    first::<A, NonFinite>(x)
}

/// The first element that is NaN.
pub(crate) fn first_nan<A: Element>(x: &[A]) -> Option<usize> {
    first::<A, Nan>(x)
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::super::reduce::tests::numbers;
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    fn check_search<A: Element>(x: &[A]) {
        let expected = x.iter().position(|x| !x.to_f64().is_finite());
        assert_eq!(agreed(|| first_non_finite(x)), expected);
        assert_eq!(agreed(|| first_nan(x)), x.iter().position(|x| x.to_f64().is_nan()));
    }

    proptest! {
        #[test]
        fn the_first_is_found(
            len in 0usize..900,
            seed in any::<u64>(),
            bad in prop_oneof![Just(0.0), Just(0.002), Just(0.2)],
        ) {
            check_search::<f32>(&numbers(len, seed, bad));
            check_search::<f64>(&numbers(len, seed, bad));
            check_search::<f16>(&numbers(len, seed, bad));
            check_search::<bf16>(&numbers(len, seed, bad));
        }
    }
}
