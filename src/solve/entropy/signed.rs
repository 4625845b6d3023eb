//! ONNX Runtime's form of the search: on a signed histogram around zero, in which each candidate keeps as many bins
//! on either side of the middle one (`onnxruntime/quantization/calibrate.py`, `get_entropy_threshold`).
//!
//! For i from half the levels to the middle bin z, the bins `z - i ..= z + i` are kept,
//!
//! ```text
//! P = counts kept, what lies beyond added to the first and the last
//! Q = counts kept (without what lies beyond), merged to levels of size / levels bins rounded down. A level's mass is
//!     spread over all its bins, as mass / (number of bins not empty in P), cut to an integer. The last level has the
//!     mass of the bins that are left over as well, but those have zero themselves.
//! ```
//!
//! Both are smoothed: a zero becomes 1e-4 counts, taken in equal parts from the others. The first least divergence
//! wins. By running sums a candidate costs O(levels).

use super::{EPSILON, EntropyRule, Running, Sums, x_ln_x};

/// The bins kept: from the first up to and without the second. `None` where there is no candidate, because the
/// middle bin is not beyond half the levels, or the histogram is empty.
pub(crate) fn signed_entropy_bins(counts: &[u64], levels: usize) -> Option<(usize, usize)> {
    let sums = Sums::new(counts, EntropyRule::MxnetSmoothed);
    let middle = counts.len() / 2;
    let half = levels / 2;
    if levels == 0 || half > middle || sums.total() <= 0.0 {
        return None;
    }
    let kept = |i: usize| (middle - i, (middle + i + 1).min(counts.len()));
    let mut best = (f64::INFINITY, kept(half));
    for i in half..=middle {
        let (start, end) = kept(i);
        let divergence = sums.signed(start, end, levels);
        if divergence < best.0 {
            best = (divergence, (start, end));
        }
    }
    Some(best.1)
}

impl Sums {
    /// The divergence where the bins from `start` to `end` are kept; infinite where smoothing has nothing to take from.
    fn signed(&self, start: usize, end: usize, levels: usize) -> f64 {
        let size = end - start;
        let merged = size / levels;
        let (first, last) = (self.count(start), self.count(end - 1));
        let (below, above) = (self.before(start).mass, self.total() - self.before(end).mass);
        let (grown_first, grown_last) = match size {
            1 => (first + below + above, 0.0),
            _ => (first + below, last + above),
        };
        // Bins of P that are filled by what lies beyond alone.
        let new_first = f64::from(u8::from(first == 0.0 && grown_first > 0.0));
        let new_last = f64::from(u8::from(size > 1 && last == 0.0 && grown_last > 0.0));
        let filled = self.before(end).filled - self.before(start).filled + new_first + new_last;
        let empty = size as f64 - filled;
        if filled <= 0.0 {
            return f64::INFINITY;
        }
        let taken = EPSILON * empty / filled;

        // Each level: what Q has in a bin, and the mass and the filled bins of P.
        let level = |index: usize| -> (f64, f64, f64) {
            let (from, to) = (start + index * merged, start + (index + 1) * merged);
            let (low, high) = (self.before(from), self.before(to));
            let mut mass = high.mass - low.mass;
            let mut spread = mass;
            let mut filled = high.filled - low.filled;
            if index + 1 == levels {
                spread += self.before(end).mass - high.mass;
            }
            if from == start && merged > 0 {
                mass += grown_first - first;
                filled += new_first;
            }
            if to == end && merged > 0 && size > 1 {
                mass += grown_last - last;
                filled += new_last;
            }
            let q = if filled > 0.0 { (spread / filled) as u64 as f64 } else { 0.0 };
            (q, mass, filled)
        };
        let width = merged as f64;
        let left_over = (size - levels * merged) as f64;
        let (mut q_total, mut q_empty) = (0.0, left_over);
        for index in 0..levels {
            let (q, ..) = level(index);
            q_total += q * width;
            q_empty += if q == 0.0 { width } else { 0.0 };
        }
        let q_filled = size as f64 - q_empty;
        if q_filled <= 0.0 || q_total <= 0.0 {
            return f64::INFINITY;
        }
        let q_taken = EPSILON * q_empty / q_filled;
        if taken >= 1.0 || q_taken >= 1.0 {
            return f64::INFINITY;
        }

        // sum p ln p: the bins between the ends, and the ends.
        let ends = [grown_first, grown_last].map(|p| if p > 0.0 { x_ln_x(p - taken) } else { 0.0 });
        let inner = (start + 1).min(end)..(end - 1).max(start + 1);
        let own = empty * x_ln_x(EPSILON)
            + self.smoothed_between(inner.start, inner.end, taken)
            + ends.iter().sum::<f64>();
        // sum p ln q
        let (mut cross, mut mass_seen, mut filled_seen) = (0.0, 0.0, 0.0);
        for index in 0..levels {
            let (q, mass, filled) = level(index);
            let p = mass - taken * filled + EPSILON * (width - filled);
            cross += p * if q > 0.0 { q - q_taken } else { EPSILON }.ln();
            mass_seen += mass;
            filled_seen += filled;
        }
        let rest_filled = filled - filled_seen;
        let rest = self.total() - mass_seen - taken * rest_filled + EPSILON * (left_over - rest_filled);
        cross += rest * EPSILON.ln();
        (own - cross) / self.total() + (q_total / self.total()).ln()
    }

    /// The sum of (c - t) ln (c - t) over the bins from `from` to `to` that are not empty.
    fn smoothed_between(&self, from: usize, to: usize, t: f64) -> f64 {
        if t >= 0.01 {
            let counts = self.counts.get(from..to).unwrap_or_default();
            return counts.iter().filter(|&&count| count > 0.0).map(|&count| x_ln_x(count - t)).sum();
        }
        let of = |sums: Running| self.smoothed_entropy(0, sums, t);
        of(self.before(to)) - of(self.before(from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, bin by bin, of one candidate.
    fn literal(counts: &[u64], start: usize, end: usize, levels: usize) -> f64 {
        let kept = &counts[start..end];
        let mut p = kept.to_vec();
        p[0] += counts[..start].iter().sum::<u64>();
        let last = p.len() - 1;
        p[last] += counts[end..].iter().sum::<u64>();
        let merged = kept.len() / levels;
        let mut q = vec![0u64; kept.len()];
        for level in 0..levels {
            let bins = level * merged..(level + 1) * merged;
            let mut mass: u64 = kept[bins.clone()].iter().sum();
            if level + 1 == levels {
                mass += kept[levels * merged..].iter().sum::<u64>();
            }
            let filled = p[bins.clone()].iter().filter(|&&p| p != 0).count() as u64;
            q[bins].fill(mass.checked_div(filled).unwrap_or(0));
        }
        let smooth = |x: &[u64]| -> Option<Vec<f64>> {
            let zeros = x.iter().filter(|&&x| x == 0).count() as f64;
            let taken = EPSILON * zeros / (x.len() as f64 - zeros);
            (taken < 1.0)
                .then(|| x.iter().map(|&x| if x == 0 { EPSILON } else { x as f64 - taken }).collect())
        };
        let (Some(p), Some(q)) = (smooth(&p), smooth(&q)) else { return f64::INFINITY };
        let (p_sum, q_sum) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
        p.iter().zip(&q).map(|(p, q)| p / p_sum * (p / p_sum / (q / q_sum)).ln()).sum()
    }

    proptest! {
        #[test]
        fn every_candidate_agrees_with_its_definition(
            counts in proptest::collection::vec(
                prop_oneof![2 => Just(0_u64), 3 => 1_u64..4, 3 => 1_u64..1000], 1..60),
            levels in 1_usize..14,
        ) {
            let sums = Sums::new(&counts, EntropyRule::MxnetSmoothed);
            let middle = counts.len() / 2;
            for i in levels / 2..=middle {
                let (start, end) = (middle - i, (middle + i + 1).min(counts.len()));
                let expected = literal(&counts, start, end, levels);
                let found = sums.signed(start, end, levels);
                prop_assert!(
                    found == expected || (found - expected).abs() < 1e-6 * (1.0 + expected.abs()),
                    "{start}..{end} {levels}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn without_candidates_there_is_no_threshold() {
        assert_eq!(signed_entropy_bins(&[1; 64], 128), None);
        assert_eq!(signed_entropy_bins(&[0; 128], 128), None);
        assert_eq!(signed_entropy_bins(&[], 128), None);
        assert_eq!(signed_entropy_bins(&[1; 4], 0), None);
        // As many levels as bins: one candidate, nearly the whole range.
        assert_eq!(signed_entropy_bins(&[1; 128], 128), Some((0, 128)));
    }
}
