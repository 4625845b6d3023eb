//! The best division of n sorted points into exactly k runs, as a shortest path of k links from 0 to n.
//!
//! Aggarwal, Schieber and Tokuyama 1994, *Finding a Minimum-Weight k-Link Path in Graphs with the Concave Monge
//! Property and Applications*; for k-means, Grønlund et al. 2017, *Fast Exact k-Means, k-Medians and Bregman
//! Divergence Clustering in 1D*. The error e of a run satisfies the quadrangle inequality
//!
//! ```text
//! e(a, c) + e(b, d) <= e(a, d) + e(b, c)      for a <= b <= c <= d,
//! ```
//!
//! so that the least error E(k) is convex in k. A penalty λ on every link therefore selects k: for
//! `E(k) - E(k + 1) <= λ <= E(k - 1) - E(k)` the best path of *any* number of links,
//!
//! ```text
//! f(t) = min over s < t of  f(s) + e(s, t) + λ,
//! ```
//!
//! has k of them. It is found in one sweep: of two starts the later one is better from some end on, so a queue
//! holds the starts that are best somewhere, with the ends at which they begin to be. Where E has a straight
//! piece, the paths of its two ends are spliced into one of k links that is as good. Time is O(n log n) for each
//! of a handful of penalties whatever k is, memory O(n).

use super::moments::Moments;

/// Penalties to try at most. The usual number is five.
const TRIALS: usize = 200;

/// A start, and the first end for which it is the best of all.
#[derive(Debug, Clone, Copy)]
struct Start {
    start: u32,
    from: u32,
}

/// The buffers of a sweep.
#[derive(Debug, Default)]
struct Sweep {
    best: Vec<f64>,
    previous: Vec<u32>,
    queue: Vec<Start>,
}

impl Sweep {
    /// The cuts of the best path under `penalty`, from 0 to n.
    fn path(&mut self, moments: &impl Moments, penalty: f64) -> Vec<usize> {
        let n = moments.len();
        self.best.clear();
        self.best.resize(n + 1, 0.0);
        self.previous.clear();
        self.previous.resize(n + 1, 0);
        self.queue.clear();
        self.queue.push(Start { start: 0, from: 1 });
        let mut head = 0;
        for end in 1..=n {
            while self.queue.get(head + 1).is_some_and(|next| next.from as usize <= end) {
                head += 1;
            }
            let start = self.queue[head].start;
            self.best[end] = self.best[start as usize] + moments.error(start as usize, end) + penalty;
            self.previous[end] = start;
            if end < n {
                self.insert(moments, head, end, n);
            }
        }
        let mut cuts = vec![n];
        let mut at = n;
        while at > 0 {
            at = self.previous[at] as usize;
            cuts.push(at);
        }
        cuts.reverse();
        cuts
    }

    /// Adds `new` to the starts, all of which are before it.
    #[inline(always)]
    fn insert(&mut self, moments: &impl Moments, head: usize, new: usize, n: usize) {
        let best = &self.best;
        let wins = |old: u32, end: usize| {
            let old = old as usize;
            best[new] + moments.error(new, end) <= best[old] + moments.error(old, end)
        };
        while let Some(&Start { start, from }) = self.queue.get(head..).and_then(<[_]>::last) {
            if from as usize > new && wins(start, from as usize) {
                self.queue.pop();
                continue;
            }
            // `low` is an end at which the old start wins, or no end of the new one.
            let mut low = new.max(from as usize);
            let mut step = 1;
            let mut high = (low + step).min(n);
            while low < n && !wins(start, high) {
                low = high;
                step *= 2;
                high = (low + step).min(n);
            }
            if low >= n {
                return;
            }
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if wins(start, middle) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            self.queue.push(Start { start: new as u32, from: high as u32 });
            return;
        }
        self.queue.push(Start { start: new as u32, from: new as u32 + 1 });
    }
}

/// A path that is best under some penalty.
#[derive(Debug)]
struct Vertex {
    cuts: Vec<usize>,
    penalty: f64,
    error: f64,
}

impl Vertex {
    fn links(&self) -> usize {
        self.cuts.len().saturating_sub(1)
    }
}

/// The total error of the runs between `cuts`, which may be empty.
pub(super) fn total_error(moments: &impl Moments, cuts: &[usize]) -> f64 {
    cuts.windows(2).map(|ends| if ends[0] < ends[1] { moments.error(ends[0], ends[1]) } else { 0.0 }).sum()
}

/// The cuts `0 = c[0] < c[1] < .. < c[k] = n` of the k runs with the least total error, and the last penalty
/// tried. `guess` is a penalty to begin with, if it is positive. For k of n or more every point is a run of its
/// own.
pub(super) fn shortest_path(moments: &impl Moments, k: usize, guess: f64) -> (Vec<usize>, f64) {
    let n = moments.len();
    if k >= n {
        return ((0..=n).collect(), guess);
    }
    if k <= 1 {
        return (vec![0, n], guess);
    }
    let whole = moments.error(0, n);
    let mut few = Vertex { cuts: vec![0, n], penalty: f64::INFINITY, error: whole };
    let mut many = Vertex { cuts: (0..=n).collect(), penalty: 0.0, error: 0.0 };
    let power = |links: usize| links as f64 / k as f64;
    // An even density has E(k) = E(1) / k^2.
    let mut penalty = if guess > 0.0 && guess.is_finite() { guess } else { 2.0 * whole / (k as f64).powi(3) };
    let mut sweep = Sweep::default();
    // How often in a row the same side was replaced, and whether the last penalty was that of a chord.
    let (mut streak, mut chord) = (0_i32, false);
    for _ in 0..TRIALS {
        let cuts = sweep.path(moments, penalty);
        let found = Vertex { error: total_error(moments, &cuts), cuts, penalty };
        let links = found.links();
        if links == k {
            return (found.cuts, penalty);
        }
        let stuck = links == few.links() || links == many.links();
        if chord && (stuck || links < few.links() || links > many.links()) {
            // Both ends are best under the penalty of their chord: E is straight between them.
            break;
        }
        let moved = if links < k {
            let moved = found.penalty < few.penalty;
            few = found;
            streak = streak.min(0) - 1;
            moved
        } else {
            let moved = found.penalty > many.penalty;
            many = found;
            streak = streak.max(0) + 1;
            moved
        };
        let (more, less) = (many.links(), few.links());
        // The chord of the two ends touches E strictly between them, unless E is straight there.
        chord = stuck || !moved || (more - less <= 4 && few.penalty.is_finite() && many.penalty > 0.0);
        let between = if chord {
            (few.error - many.error) / (more - less) as f64
        } else if few.penalty.is_infinite() {
            many.penalty * power(more).powi(3) * f64::from(1 << (streak.clamp(1, 20) - 1))
        } else if many.penalty <= 0.0 {
            few.penalty * power(less).powi(3) / f64::from(1 << ((-streak).clamp(1, 20) - 1))
        } else if streak.abs() > 2 {
            (few.penalty * many.penalty).sqrt()
        } else {
            // A power law through both ends.
            let share = power(less).ln() / (power(less) / power(more)).ln();
            few.penalty * (many.penalty / few.penalty).powf(share)
        };
        if !(between > 0.0 && between.is_finite()) {
            break;
        }
        penalty = between;
    }
    (splice(&few.cuts, &many.cuts, k), penalty)
}

/// A path of k links out of one of fewer and one of more: the longer one up to a link that lies within a link of
/// the shorter one, and the shorter one from there on. By the quadrangle inequality it and the path of the other
/// two halves are together no worse than the two.
fn splice(few: &[usize], many: &[usize], k: usize) -> Vec<usize> {
    let ahead = (k + 1).saturating_sub(few.len());
    for (i, end) in few.iter().enumerate().skip(1) {
        if many.get(i + ahead).is_some_and(|cut| cut <= end) {
            return many.iter().take(i + ahead).chain(few.iter().skip(i)).copied().collect();
        }
    }
    few.to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::moments::{Compensated, Plain, Points};
    use super::*;
    use proptest::prelude::*;

    /// The textbook dynamic program over all ends and starts.
    fn quadratic(moments: &impl Moments, k: usize) -> f64 {
        let n = moments.len();
        let mut row: Vec<f64> = (0..=n).map(|t| if t == 0 { 0.0 } else { moments.error(0, t) }).collect();
        for _ in 1..k {
            let best = |t: usize| (0..t).fold(row[t], |best, s| best.min(row[s] + moments.error(s, t)));
            row = (0..=n).map(best).collect();
        }
        row[n]
    }

    proptest! {
        #[test]
        fn no_division_is_better(
            steps in proptest::collection::vec(1_u32..20, 2..40),
            weights in proptest::collection::vec(1_u32..5, 40),
            k in 1_usize..20,
        ) {
            let x = steps.iter().scan(0, |x, step| { *x += step; Some(f64::from(*x) / 400.0) }).collect();
            let weight = weights.iter().take(steps.len()).map(|w| f64::from(*w)).collect();
            let points = Points { x, weight };
            let plain = Plain::new(&points);
            let (cuts, _) = shortest_path(&plain, k, 0.0);
            prop_assert_eq!(cuts.len(), k.min(steps.len()) + 1);
            prop_assert!(cuts.windows(2).all(|ends| ends[0] < ends[1]));
            let best = quadratic(&plain, k);
            prop_assert!(total_error(&plain, &cuts) <= best + 1e-12, "{best}");
            let (cuts, _) = shortest_path(&Compensated::new(&points), k, 1e-3);
            prop_assert!(total_error(&plain, &cuts) <= best + 1e-12, "{best}");
        }
    }

    #[test]
    fn a_straight_piece_is_spliced() {
        // Twenty pairs at equal distances: to split one pair always gains the same.
        let x = (0..40).map(|i| f64::from(i / 2) + f64::from(i % 2) / 64.0).collect();
        let plain = Plain::new(&Points { x, weight: vec![1.0; 40] });
        for k in 1..=40 {
            let (cuts, _) = shortest_path(&plain, k, 0.0);
            assert_eq!(cuts.len(), k + 1);
            assert!(total_error(&plain, &cuts) <= quadratic(&plain, k) * (1.0 + 1e-12) + 1e-13, "{k}");
        }
    }
}
