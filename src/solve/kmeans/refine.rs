//! Cuts chosen among few places are moved to the best places nearby, all at once.
//!
//! Each cut may move by a few steps either way; the best combination is a shortest path over the candidates of
//! neighbouring cuts (Viterbi 1967). Where the best is an outermost candidate the next round goes on from there,
//! else the step is halved, down to single points. Moving one cut at a time, which is what Lloyd's iteration
//! does, needs many more rounds, because what one cut gains depends on its neighbours.

use super::moments::Moments;

/// Steps to each side.
const REACH: usize = 3;
const CANDIDATES: usize = 2 * REACH + 1;

/// Rounds at most: the largest step is halved once for each bit of it, and each may be repeated.
const ROUNDS: usize = 200;

/// Moves the inner `cuts` of `moments`, cut i at first by multiples of `steps[i]`. The total error never grows.
pub(super) fn refine(moments: &impl Moments, cuts: &mut [usize], steps: &mut [usize]) {
    let inner = cuts.len().saturating_sub(2);
    let mut places = vec![[0_usize; CANDIDATES]; inner];
    let mut origins = vec![[0_u8; CANDIDATES]; inner];
    for _ in 0..ROUNDS {
        if !round(moments, cuts, steps, &mut places, &mut origins) {
            break;
        }
    }
}

/// One round; whether another one may gain anything.
fn round(
    moments: &impl Moments,
    cuts: &mut [usize],
    steps: &mut [usize],
    places: &mut [[usize; CANDIDATES]],
    origins: &mut [[u8; CANDIDATES]],
) -> bool {
    let n = moments.len();
    let error = |from: usize, to: usize| if from < to { moments.error(from, to) } else { 0.0 };
    let mut best = [f64::INFINITY; CANDIDATES];
    let mut before = [0; CANDIDATES];
    best[REACH] = 0.0;
    for (i, (places, origins)) in places.iter_mut().zip(origins.iter_mut()).enumerate() {
        for (c, place) in places.iter_mut().enumerate() {
            *place = (cuts[i + 1] + c * steps[i + 1]).saturating_sub(REACH * steps[i + 1]).min(n);
        }
        let mut next = [f64::INFINITY; CANDIDATES];
        // The centre first, so that nothing moves without a gain.
        for c in ORDER {
            for from in ORDER {
                if before[from] > places[c] || best[from] == f64::INFINITY {
                    continue;
                }
                let total = best[from] + error(before[from], places[c]);
                if total < next[c] {
                    next[c] = total;
                    origins[c] = from as u8;
                }
            }
        }
        (best, before) = (next, *places);
    }
    let mut chosen = REACH;
    let mut least = f64::INFINITY;
    for c in ORDER {
        if best[c] < f64::INFINITY {
            let total = best[c] + error(before[c], n);
            if total < least {
                (least, chosen) = (total, c);
            }
        }
    }
    let mut more = false;
    for i in (0..places.len()).rev() {
        let step = &mut steps[i + 1];
        cuts[i + 1] = places[i][chosen];
        let outermost = chosen == 0 || chosen == CANDIDATES - 1;
        more |= outermost || *step > 1;
        if !outermost {
            *step = (*step / 2).max(1);
        }
        chosen = usize::from(origins[i][chosen]);
    }
    more
}

/// Candidates from the centre outward.
const ORDER: [usize; CANDIDATES] = {
    let mut order = [REACH; CANDIDATES];
    let mut i = 1;
    while i < CANDIDATES {
        order[i] = if i % 2 == 1 { REACH - i.div_ceil(2) } else { REACH + i / 2 };
        i += 1;
    }
    order
};

#[cfg(test)]
mod tests {
    use super::super::moments::{Plain, Points};
    use super::super::path::{shortest_path, total_error};
    use super::*;
    use crate::solve::samples::SplitMix64;

    #[test]
    fn any_start_on_a_bell_curve_ends_at_the_best_cuts() {
        let mut random = SplitMix64(3);
        let mut x: Vec<f64> = (0..3000).map(|_| random.normal()).collect();
        x.sort_by(f64::total_cmp);
        let plain = Plain::new(&Points { x, weight: vec![1.0; 3000] });
        for k in [2, 5, 16] {
            let best = total_error(&plain, &shortest_path(&plain, k, 0.0).0);
            let mut cuts: Vec<usize> = (0..=k).map(|i| i * 3000 / k).collect();
            let before = total_error(&plain, &cuts);
            let mut steps = vec![64; k + 1];
            refine(&plain, &mut cuts, &mut steps);
            let after = total_error(&plain, &cuts);
            assert!(cuts.is_sorted() && after <= before);
            assert!(after <= best * 1.002, "{k}: {after} {best}");
        }
    }

    #[test]
    fn what_cannot_move_stays() {
        let plain = Plain::new(&Points { x: vec![0.0, 1.0, 5.0], weight: vec![1.0; 3] });
        for mut cuts in [vec![], vec![0], vec![0, 3], vec![0, 2, 3], vec![0, 0, 2, 2, 3, 3]] {
            let before = cuts.clone();
            let mut steps = vec![1; cuts.len()];
            let error = total_error(&plain, &cuts);
            refine(&plain, &mut cuts, &mut steps);
            assert!(total_error(&plain, &cuts) <= error);
            assert_eq!((cuts.first(), cuts.last()), (before.first(), before.last()));
        }
    }
}
