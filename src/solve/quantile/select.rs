//! One value of those sorted, without sorting.
//!
//! Floyd and Rivest 1975, *Expected time bounds for selection*: a sample says between which two values the one sought
//! must lie, but for bad luck. One pass counts what is below and keeps what is between, which is little; the rest is
//! selection among that. Memory is read once and not written.

use core::cmp::Ordering;

use super::Of;
use crate::element::Real;
use crate::kernel::between;

/// Fewer values are copied and selected from at once.
const MANY: usize = 1 << 15;

/// Values of the sample, at most; and of how many values there is one in it, at least.
const SAMPLE: usize = 1 << 14;
const RARELY: usize = 8;

/// Standard deviations of a rank in the sample that the bounds are apart from where it is expected.
const DEVIATIONS: f64 = 4.0;

/// Values that are looked at before it is asked whether too many were kept.
const PIECE: usize = 1 << 16;

/// The value at `index`, counted from 0, of those sorted, and the one after it if `next` says so and there is one.
/// `None` if there is none at `index`.
pub(super) fn at<T: Real>(
    values: &[T],
    of: Of,
    index: usize,
    next: bool,
    buffer: &mut Vec<T>,
) -> Option<(T, Option<T>)> {
    if index >= values.len() {
        return None;
    }
    if values.len() >= MANY
        && let Some(found) = near_sample(values, of, index, next, buffer)
    {
        return Some(found);
    }
    buffer.clear();
    match of {
        Of::Values => buffer.extend_from_slice(values),
        Of::Magnitudes => buffer.extend(values.iter().map(|value| value.abs())),
    }
    Some(select(buffer, index, next))
}

/// The values at two indices, counted from 0, of those sorted. `None` if there is none at one of them.
pub(super) fn two<T: Real>(values: &[T], indices: [usize; 2], buffer: &mut Vec<T>) -> Option<[T; 2]> {
    let [low, high] = [indices[0].min(indices[1]), indices[0].max(indices[1])];
    if high >= values.len() {
        return None;
    }
    let found = match near_sample_of_two(values, [low, high], buffer) {
        Some(found) => found,
        None => {
            buffer.clear();
            buffer.extend_from_slice(values);
            let (below, &mut upper, _) = buffer.select_nth_unstable_by(high, order);
            [if low < high { select(below, low, false).0 } else { upper }, upper]
        }
    };
    Some(if indices[0] <= indices[1] { found } else { [found[1], found[0]] })
}

/// A total order of finite values.
fn order<T: Real>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b).unwrap_or(Ordering::Equal)
}

/// As [`at`], among values to be reordered, of which there are more than `index`.
fn select<T: Real>(values: &mut [T], index: usize, next: bool) -> (T, Option<T>) {
    let (_, &mut found, above) = values.select_nth_unstable_by(index, order);
    let least = |a: T, b: T| if b < a { b } else { a };
    (found, if next { above.iter().copied().reduce(least) } else { None })
}

/// Fills `buffer` with a sorted sample.
fn sample<T: Real>(values: &[T], of: Of, buffer: &mut Vec<T>) {
    let count = values.len();
    // An odd distance meets all columns of a matrix whose rows are a power of two long.
    let distance = (count / SAMPLE.min(count / RARELY).max(1)) | 1;
    buffer.clear();
    buffer.extend(values.iter().step_by(distance).map(|value| match of {
        Of::Values => *value,
        Of::Magnitudes => value.abs(),
    }));
    buffer.sort_unstable_by(order);
}

/// Between which values the one at `index` of `count` lies, but for bad luck.
fn bounds<T: Real>(sample: &[T], index: usize, count: usize) -> Option<[T; 2]> {
    let share = (index as f64 + 0.5) / count as f64;
    let expected = share * sample.len() as f64;
    let reach = DEVIATIONS * (expected * (1.0 - share)).sqrt() + DEVIATIONS;
    let low = if expected < reach { T::neg_infinity() } else { *sample.get((expected - reach) as usize)? };
    let high = sample.get((expected + reach) as usize).copied().unwrap_or(T::infinity());
    Some([low, high])
}

/// As [`two`], for many values and indices in order; `None` if there are not as many or the sample misled.
fn near_sample_of_two<T: Real>(values: &[T], indices: [usize; 2], buffer: &mut Vec<T>) -> Option<[T; 2]> {
    let count = values.len();
    if count < MANY {
        return None;
    }
    sample(values, Of::Values, buffer);
    let ranges = [bounds(buffer, indices[0], count)?, bounds(buffer, indices[1], count)?];
    let mut kept = [Vec::new(), Vec::new()];
    let mut below = [0; 2];
    for piece in values.chunks(PIECE) {
        let [first, second] = between::two(piece, ranges, &mut kept);
        below = [below[0] + first, below[1] + second];
        // Many equal values at a bound are as well copied at once.
        if kept.iter().any(|kept| kept.len() > count / RARELY) {
            return None;
        }
    }
    let [first, second] = &mut kept;
    let value = |kept: &mut Vec<T>, index: usize, below: usize| {
        let place = index.checked_sub(below).filter(|place| *place < kept.len())?;
        Some(select(kept, place, false).0)
    };
    Some([value(first, indices[0], below[0])?, value(second, indices[1], below[1])?])
}

/// As [`at`], for many values; `None` if the sample misled.
fn near_sample<T: Real>(
    values: &[T],
    of: Of,
    index: usize,
    next: bool,
    buffer: &mut Vec<T>,
) -> Option<(T, Option<T>)> {
    let count = values.len();
    sample(values, of, buffer);
    let [low, high] = bounds(buffer, index, count)?;

    buffer.clear();
    let mut below = 0;
    for piece in values.chunks(PIECE) {
        below += match of {
            Of::Values => between::values(piece, low, high, buffer),
            Of::Magnitudes => between::magnitudes(piece, low, high, buffer),
        };
        // Many equal values at a bound are as well copied at once.
        if buffer.len() > count / RARELY {
            return None;
        }
    }
    let place = index.checked_sub(below).filter(|place| *place < buffer.len())?;
    let is_last = place + 1 == buffer.len();
    if next && is_last && below + buffer.len() < count {
        return None;
    }
    Some(select(buffer, place, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::samples::SplitMix64;

    fn check(values: &[f32]) {
        let mut buffer = Vec::new();
        for of in [Of::Values, Of::Magnitudes] {
            let mut sorted: Vec<f32> = match of {
                Of::Values => values.to_vec(),
                Of::Magnitudes => values.iter().map(|x| x.abs()).collect(),
            };
            sorted.sort_by(f32::total_cmp);
            let n = values.len();
            for index in [0, 1, n / 1000, n / 2, n - n / 10_000 - 1, n - 2, n - 1] {
                let found = at(values, of, index, true, &mut buffer);
                assert_eq!(found, Some((sorted[index], sorted.get(index + 1).copied())), "{index} of {n}");
                assert_eq!(at(values, of, index, false, &mut buffer), Some((sorted[index], None)));
            }
            assert_eq!(at(values, of, n, false, &mut buffer), None);
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let n = values.len();
        for indices in [[n / 1000, n - n / 1000 - 1], [0, n - 1], [n - 1, n / 2], [n / 3, n / 3]] {
            let found = two(values, indices, &mut buffer);
            assert_eq!(found, Some(indices.map(|index| sorted[index])), "{indices:?} of {n}");
        }
        assert_eq!(two(values, [0, n], &mut buffer), None);
    }

    #[test]
    fn sorted_values_agree() {
        let mut random = SplitMix64(5);
        let normal: Vec<f32> = (0..1 << 17).map(|_| random.normal() as f32).collect();
        check(&normal);
        check(&normal[..MANY + 77]);
        check(&normal[..MANY - 1]);
        // Nearly all the same, a few values only, and what any sample at even distances misses.
        check(&normal.iter().map(|x| if *x > 3.0 { *x } else { 0.0 }).collect::<Vec<_>>());
        check(&normal.iter().map(|x| x.round()).collect::<Vec<_>>());
        let distance = ((1 << 17) / SAMPLE) | 1;
        let unseen = |(i, x): (usize, &f32)| if i % distance == 0 { 0.0 } else { *x };
        check(&normal.iter().enumerate().map(unseen).collect::<Vec<_>>());
    }

    #[test]
    fn few_values_are_kept() {
        let mut random = SplitMix64(6);
        let values: Vec<f32> = (0..1 << 18).map(|_| random.normal() as f32).collect();
        let mut buffer = Vec::new();
        let index = values.len() - values.len() / 10_000;
        assert!(near_sample(&values, Of::Magnitudes, index, false, &mut buffer).is_some());
        assert!(buffer.len() < values.len() / 500, "{}", buffer.len());
    }
}
