//! Szymon Migacz, *8-bit Inference with TensorRT*, GTC 2017: the clipping threshold of a histogram of |x| at
//! which the clipped and quantized distribution tells least apart from the true one.
//!
//! For every m from `levels` to the number of bins,
//!
//! ```text
//! P = counts[0..m], all later mass added to P[m-1]
//! Q = counts[0..m], merged to `levels` levels, each level's mass spread evenly over its non-empty bins
//! KL(P || Q) = sum p ln(p / q),   p and q normalised,
//! ```
//!
//! and the m of the least divergence wins. The slides leave open how m bins are merged to fewer levels, and
//! every implementation does it in its own way; [`EntropyRule`] names them.
//!
//! Taken literally a candidate costs O(m). All bins of one level share one q, so a level needs only its mass,
//! its number of non-empty bins and its sum of c ln c, which are differences of running sums: O(levels).

mod signed;

pub(crate) use signed::signed_entropy_bins;

/// How bins are merged to levels, and what else an implementation does of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntropyRule {
    /// The slides; each level takes `m / levels` bins rounded down, the last also the remainder.
    /// The threshold is in the middle of bin m.
    SlidesFloor,
    /// The slides; bin j belongs to level `j * levels / m` rounded down.
    SlidesDigitize,
    /// The slides; level i covers the bins from `i * m / levels` to `(i + 1) * m / levels`, where mass and
    /// number of a bin that two levels share are split by overlap.
    SlidesFractional,
    /// NVIDIA pytorch-quantization: digitize, with the first bin's count replaced by the second's; the last
    /// of equal candidates wins, the threshold is the lower edge of bin m. Unsigned data have twice the levels.
    Nvidia,
    /// MXNet, ONNX Runtime: floor, but empty bins of p and of q get 1e-4 counts, taken in equal parts from
    /// the others. The threshold is the lower edge of bin m.
    MxnetSmoothed,
}

/// The threshold of least divergence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EntropyThreshold {
    /// How many bins are kept.
    pub bins: usize,
    /// The threshold in units of the width of a bin: `bins`, or half a bin more.
    pub edge: f64,
    /// KL(P || Q) in nats.
    pub divergence: f64,
}

/// What an empty bin gets when smoothed.
const EPSILON: f64 = 1e-4;

/// Divergences closer than this are equal: what rounding makes of a tie.
const TIE: f64 = 1e-12;

/// The threshold of least divergence of a histogram of magnitudes whose first bin starts at zero.
///
/// `levels` is the number of levels of a magnitude: 2^(b-1) of symmetric b-bit codes (128 of 8 bits), 2^b of
/// unsigned ones. `None` where no candidate is worth having, and the caller takes the full range: an empty
/// histogram, `levels` not below the number of bins, only infinite divergences, or a single level (one
/// level against one bin agrees always, so that the rule would keep the first bin alone).
///
/// Time O(bins * levels), memory O(bins).
pub(crate) fn entropy_threshold(
    counts: &[u64],
    levels: usize,
    rule: EntropyRule,
) -> Option<EntropyThreshold> {
    if levels < 2 || levels >= counts.len() {
        return None;
    }
    let sums = Sums::new(counts, rule);
    if sums.total() <= 0.0 {
        return None;
    }
    let mut least = f64::INFINITY;
    let mut divergences = vec![f64::INFINITY; counts.len() - levels + 1];
    // A few candidates from all over the range first: their least bounds most others early.
    const STRIDE: usize = 64;
    let strided = (levels..=counts.len()).step_by(STRIDE);
    let others = (levels..=counts.len()).filter(|m| !(m - levels).is_multiple_of(STRIDE));
    for m in strided.chain(others) {
        let divergence = match rule {
            EntropyRule::SlidesFloor => sums.merged(m, levels, least, |i| floor_start(i, m, levels)),
            EntropyRule::SlidesDigitize | EntropyRule::Nvidia => {
                sums.merged(m, levels, least, |i| (i * m).div_ceil(levels))
            }
            EntropyRule::SlidesFractional => sums.fractional(m, levels, least),
            EntropyRule::MxnetSmoothed => sums.smoothed(m, levels),
        };
        least = least.min(divergence);
        if let Some(slot) = divergences.get_mut(m - levels) {
            *slot = divergence;
        }
    }
    let wins = |&divergence: &f64| divergence <= least + TIE && divergence.is_finite();
    let index = match rule {
        EntropyRule::Nvidia => divergences.iter().rposition(wins)?,
        _ => divergences.iter().position(wins)?,
    };
    let bins = levels + index;
    let edge = match rule {
        EntropyRule::Nvidia | EntropyRule::MxnetSmoothed => bins as f64,
        _ => bins as f64 + 0.5,
    };
    Some(EntropyThreshold { bins, edge, divergence: divergences.get(index)?.max(0.0) })
}

/// The first bin of level `i` where every level takes as many bins and the last one the remainder.
fn floor_start(i: usize, m: usize, levels: usize) -> usize {
    if i >= levels { m } else { i * (m / levels) }
}

/// x ln x, continued to zero.
fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// What the bins before one hold together.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    /// Their counts.
    mass: f64,
    /// How many of them are not empty.
    filled: f64,
    /// Their c ln c.
    entropy: f64,
    /// Of the non-empty: ln c, 1/c, 1/c^2, which smoothing needs.
    logs: f64,
    inverses: f64,
    inverse_squares: f64,
}

/// The bins of one level where levels share bins.
struct Stretch {
    /// The end of the bins that are the level's alone.
    high: usize,
    /// Its part of the bin before its own ones, and the count of that.
    carried: f64,
    shared: f64,
    /// Its part of the bin after them.
    rest: f64,
    /// Mass and number of its own bins that are not empty.
    inside: (f64, f64),
    /// What it has in a bin.
    q: f64,
}

/// The histogram and its running sums, one more than there are bins.
struct Sums {
    counts: Vec<f64>,
    running: Vec<Running>,
}

impl Sums {
    fn new(counts: &[u64], rule: EntropyRule) -> Self {
        let mut counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        if let (EntropyRule::Nvidia, [first, second, ..]) = (rule, counts.as_mut_slice()) {
            *first = *second;
        }
        let mut running = Vec::with_capacity(counts.len() + 1);
        let mut sum = Running::default();
        running.push(sum);
        for &count in &counts {
            if count > 0.0 {
                let log = count.ln();
                sum.mass += count;
                sum.filled += 1.0;
                sum.entropy += count * log;
                sum.logs += log;
                sum.inverses += 1.0 / count;
                sum.inverse_squares += 1.0 / (count * count);
            }
            running.push(sum);
        }
        Self { counts, running }
    }

    /// The sums over the bins before `bin`.
    fn before(&self, bin: usize) -> Running {
        self.running.get(bin).or(self.running.last()).copied().unwrap_or_default()
    }

    /// The count of a bin.
    fn count(&self, bin: usize) -> f64 {
        self.counts.get(bin).copied().unwrap_or(0.0)
    }

    /// The mass of the whole histogram.
    fn total(&self) -> f64 {
        self.before(self.counts.len()).mass
    }

    /// The part of the divergence, times the total, that is owed to the clipped mass, where `log_q` is the
    /// logarithm of q (in counts) in the last bin kept: its growth from c to c + clipped, and normalisation.
    fn clipped(&self, m: usize, log_q: f64) -> f64 {
        let (kept, last) = (self.before(m).mass, self.count(m - 1));
        let clipped = self.total() - kept;
        if clipped <= 0.0 {
            return 0.0;
        }
        if last <= 0.0 {
            // p has mass where q has none.
            return f64::INFINITY;
        }
        x_ln_x(last + clipped) - x_ln_x(last) - clipped * log_q + self.total() * (kept / self.total()).ln()
    }

    /// The divergence where level i starts at the bin `start(i)`; infinite as soon as it is known to be
    /// above `least`.
    fn merged(&self, m: usize, levels: usize, least: f64, start: impl Fn(usize) -> usize) -> f64 {
        let first = self.before(start(levels - 1));
        let end = self.before(m);
        let log_q = ((end.mass - first.mass) / (end.filled - first.filled)).ln();
        let mut sum = self.clipped(m, log_q);
        let total = self.total();
        let bound = (least + 2.0 * TIE) * total;
        // By the log-sum inequality no level's part is negative, so the sum only grows.
        let mut low = Running::default();
        for i in 0..levels {
            if sum > bound {
                return f64::INFINITY;
            }
            let high = self.before(start(i + 1));
            let (mass, filled) = (high.mass - low.mass, high.filled - low.filled);
            if filled > 1.0 {
                sum += (high.entropy - low.entropy) - mass * (mass / filled).ln();
            }
            low = high;
        }
        sum / total
    }

    /// The divergence where a bin may belong to two levels in parts; infinite as soon as it is known to be above
    /// `least`. No bin belongs to three levels, as none is narrower than a bin.
    fn fractional(&self, m: usize, levels: usize, least: f64) -> f64 {
        let width = levels as f64;
        // Bins that start in a level's stretch of [i m / levels, (i + 1) m / levels), and its part of the bin that
        // the level before ended in, and of the one that it ends in itself.
        let level = |i: usize| {
            let (low, high) = ((i * m).div_ceil(levels), (i + 1) * m / levels);
            let carried = (low * levels - i * m) as f64 / width;
            let rest = ((i + 1) * m % levels) as f64 / width;
            let (a, b) = (self.before(low), self.before(high));
            let shared = if carried > 0.0 { self.count(low - 1) } else { 0.0 };
            let next = if rest > 0.0 { self.count(high) } else { 0.0 };
            let part = |weight: f64, count: f64| if count > 0.0 { weight } else { 0.0 };
            let inside = (b.mass - a.mass, b.filled - a.filled);
            let mass = inside.0 + carried * shared + rest * next;
            let filled = inside.1 + part(carried, shared) + part(rest, next);
            let q = if filled > 0.0 { mass / filled } else { 0.0 };
            Stretch { high, carried, shared, rest, inside, q }
        };
        let total = self.total();
        let clipped = self.clipped(m, level(levels - 1).q.ln());
        let bound = (least + 2.0 * TIE) * total;
        // The sum of p ln q, and the mass of q, over the bins before `high`; q is then split.
        let (mut cross, mut spread, mut carried_q) = (0.0, 0.0, 0.0);
        for i in 0..levels {
            let Stretch { high, carried, shared, rest, inside, q } = level(i);
            if carried > 0.0 && shared > 0.0 {
                let q = carried_q + carried * q;
                cross += shared * q.ln();
                spread += q;
            }
            if inside.0 > 0.0 {
                cross += inside.0 * q.ln();
                spread += inside.1 * q;
            }
            carried_q = rest * q;
            // What is left of p and q has masses P and Q, and by the log-sum inequality at least
            // P ln (P / Q) >= P - Q of divergence, where both have equal masses in all.
            let seen = self.before(high);
            if clipped + seen.entropy - cross + (spread - seen.mass) > bound {
                return f64::INFINITY;
            }
        }
        (self.before(m).entropy - cross + clipped) / total
    }

    /// The divergence of floor-merged, smoothed counts. Bins of p that are not empty take part, so the last
    /// one kept does when mass was clipped, be its own count zero.
    fn smoothed(&self, m: usize, levels: usize) -> f64 {
        let (total, end, last) = (self.total(), self.before(m), self.count(m - 1));
        let clipped = total - end.mass;
        let newly_filled = if last <= 0.0 && clipped > 0.0 { 1.0 } else { 0.0 };
        // A level has mass zero, while its bins in p are not empty, only if it is the last: then q is zero there.
        let first = self.before(floor_start(levels - 1, m, levels));
        let q_hole = if end.mass > first.mass { 0.0 } else { newly_filled };
        let bins = m as f64;
        let filled = [end.filled + newly_filled, end.filled + newly_filled - q_hole];
        if filled[1] <= 0.0 {
            return f64::INFINITY;
        }
        let [taken_p, taken_q] = filled.map(|filled| EPSILON * (bins - filled) / filled);
        if taken_p >= 1.0 || taken_q >= 1.0 {
            return f64::INFINITY;
        }
        // sum p ln p: empty bins, the bins below the last, the last.
        let below = self.before(m - 1);
        let grown = last + clipped;
        let own = (bins - filled[0]) * x_ln_x(EPSILON)
            + self.smoothed_entropy(m - 1, below, taken_p)
            + if grown > 0.0 { x_ln_x(grown - taken_p) } else { 0.0 };
        // sum p ln q
        let mut cross = (bins - filled[0]) * EPSILON * EPSILON.ln();
        let mut low = Running::default();
        for i in 0..levels {
            let high = self.before(floor_start(i + 1, m, levels));
            let is_last = i + 1 == levels;
            let (more, more_filled) = if is_last { (clipped, newly_filled) } else { (0.0, 0.0) };
            let (mass, filled) = (high.mass - low.mass, high.filled - low.filled + more_filled);
            if filled > 0.0 {
                let q = mass / filled;
                let q = if q > 0.0 { q - taken_q } else { EPSILON };
                if q <= 0.0 {
                    return f64::INFINITY;
                }
                cross += (mass + more - filled * taken_p) * q.ln();
            }
            low = high;
        }
        (own - cross) / total + (end.mass / total).ln()
    }

    /// The sum of (c - t) ln (c - t) over the non-empty bins before `bin`.
    fn smoothed_entropy(&self, bin: usize, sums: Running, t: f64) -> f64 {
        if t < 0.01 {
            // Taylor in t / c; as c >= 1 the next term is below 1e-9 of a count per bin.
            sums.entropy - t * (sums.logs + sums.filled)
                + t * t / 2.0 * sums.inverses
                + t * t * t / 6.0 * sums.inverse_squares
        } else {
            self.counts.iter().take(bin).filter(|&&count| count > 0.0).map(|&count| x_ln_x(count - t)).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::solve::samples;

    const RULES: [EntropyRule; 5] = [
        EntropyRule::SlidesFloor,
        EntropyRule::SlidesDigitize,
        EntropyRule::SlidesFractional,
        EntropyRule::Nvidia,
        EntropyRule::MxnetSmoothed,
    ];

    /// The definition, bin by bin, of one candidate.
    fn literal(counts: &[u64], m: usize, levels: usize, rule: EntropyRule) -> f64 {
        let mut counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        if rule == EntropyRule::Nvidia {
            counts[0] = counts[1];
        }
        let mut p = counts[..m].to_vec();
        p[m - 1] += counts[m..].iter().sum::<f64>();
        let mask = if rule == EntropyRule::MxnetSmoothed { &p } else { &counts };
        let overlap = |i: usize, j: usize| match rule {
            EntropyRule::SlidesFloor | EntropyRule::MxnetSmoothed => {
                f64::from(u8::from((j / (m / levels)).min(levels - 1) == i))
            }
            EntropyRule::SlidesDigitize | EntropyRule::Nvidia => f64::from(u8::from(j * levels / m == i)),
            EntropyRule::SlidesFractional => {
                let (low, high) = ((i * m).max(j * levels), ((i + 1) * m).min((j + 1) * levels));
                high.saturating_sub(low) as f64 / levels as f64
            }
        };
        let mut q = vec![0.0; m];
        for i in 0..levels {
            let filled = |j: usize| if mask[j] > 0.0 { overlap(i, j) } else { 0.0 };
            let mass: f64 = (0..m).map(|j| overlap(i, j) * counts[j]).sum();
            let number: f64 = (0..m).map(filled).sum();
            for (j, q) in q.iter_mut().enumerate() {
                if filled(j) > 0.0 {
                    *q += filled(j) * mass / number;
                }
            }
        }
        if rule == EntropyRule::MxnetSmoothed {
            for x in [&mut p, &mut q] {
                let zeros = x.iter().filter(|&&x| x == 0.0).count() as f64;
                let taken = EPSILON * zeros / (m as f64 - zeros);
                if taken.is_nan() || taken >= 1.0 {
                    return f64::INFINITY;
                }
                x.iter_mut().for_each(|x| *x = if *x == 0.0 { EPSILON } else { *x - taken });
            }
            if q.iter().any(|&q| q <= 0.0) {
                return f64::INFINITY;
            }
        }
        let (p_sum, q_sum) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
        let part = |(p, q): (&f64, &f64)| match (*p > 0.0, *q > 0.0) {
            (false, _) => 0.0,
            (true, false) => f64::INFINITY,
            (true, true) => p / p_sum * (p / p_sum / (q / q_sum)).ln(),
        };
        p.iter().zip(&q).map(part).sum()
    }

    /// lowbit reference values 06_07, `entropy`: rule, levels, m, divergence.
    #[test]
    fn thresholds_of_the_reference_data() {
        use EntropyRule::*;
        type Row = (EntropyRule, usize, usize, f64);
        let expected: [(Vec<f64>, &[Row]); 3] = [
            (
                samples::a(),
                &[
                    (SlidesFloor, 128, 450, 0.0013561267369848417),
                    (SlidesDigitize, 128, 450, 0.0014331567785413615),
                    (SlidesFractional, 128, 450, 0.001359220642468035),
                    (Nvidia, 128, 450, 0.0014283610469102467),
                    (Nvidia, 256, 1702, 0.0006595602330650089),
                    (MxnetSmoothed, 128, 451, 0.001301637342106037),
                ],
            ),
            (
                samples::b(),
                &[
                    (SlidesFloor, 128, 601, 0.00560574927492126),
                    (SlidesDigitize, 128, 601, 0.005751526143148956),
                    (SlidesFractional, 128, 601, 0.005730803154541757),
                    (Nvidia, 128, 601, 0.005760386887254332),
                    (MxnetSmoothed, 128, 602, 0.005565075865589911),
                ],
            ),
            (
                samples::c(),
                &[
                    (SlidesFloor, 128, 1009, 0.001528826867163505),
                    (SlidesDigitize, 128, 899, 0.0017574858112130885),
                    (SlidesFractional, 128, 916, 0.0014673890195570187),
                    (Nvidia, 128, 899, 0.0017574858112130885),
                    (Nvidia, 256, 1079, 0.0007077548465238665),
                    (MxnetSmoothed, 128, 884, 0.0014987849957200502),
                ],
            ),
        ];
        for (data, rows) in expected {
            let (counts, _) = samples::histogram(&data, 2048);
            for &(rule, levels, m, divergence) in rows {
                let found = entropy_threshold(&counts, levels, rule).unwrap();
                // The smoothed minimum is flat: its neighbours differ by less than its rounding.
                let tolerance = if rule == MxnetSmoothed { 1e-4 } else { 1e-9 };
                assert!(
                    (found.divergence / divergence - 1.0).abs() < tolerance,
                    "{rule:?} {levels}: {found:?}, {divergence}"
                );
                if rule != MxnetSmoothed {
                    assert_eq!(found.bins, m, "{rule:?} {levels}");
                    let half = if rule == Nvidia { 0.0 } else { 0.5 };
                    assert_eq!(found.edge, m as f64 + half);
                }
            }
        }
    }

    #[test]
    fn nothing_to_choose_from_is_none() {
        for rule in RULES {
            assert_eq!(entropy_threshold(&[], 2, rule), None);
            assert_eq!(entropy_threshold(&[0; 8], 4, rule), None);
            assert_eq!(entropy_threshold(&[1; 8], 8, rule), None);
            assert_eq!(entropy_threshold(&[1; 8], 1, rule), None);
            assert_eq!(entropy_threshold(&[1; 8], 0, rule), None);
        }
    }

    fn histograms() -> impl Strategy<Value = Vec<u64>> {
        let bin = prop_oneof![2 => Just(0_u64), 3 => 1_u64..4, 3 => 1_u64..1000];
        (proptest::collection::vec(bin, 2..70), 0_usize..30, 0_u64..50).prop_map(
            |(mut counts, gap, outlier)| {
                counts.extend(vec![0; gap]);
                counts.push(outlier);
                counts
            },
        )
    }

    proptest! {
        #[test]
        fn every_rule_agrees_with_its_definition(counts in histograms(), levels in 2_usize..20) {
            for rule in RULES {
                let tolerance = if rule == EntropyRule::MxnetSmoothed { 1e-7 } else { 1e-11 };
                let candidates: Vec<f64> =
                    (levels..=counts.len()).map(|m| literal(&counts, m, levels, rule)).collect();
                let least = candidates.iter().copied().fold(f64::INFINITY, f64::min);
                match entropy_threshold(&counts, levels, rule) {
                    None => {
                        let first_is_zero = rule == EntropyRule::Nvidia && counts[1..].iter().all(|&c| c == 0);
                        let empty = counts.iter().all(|&c| c == 0) || first_is_zero;
                        prop_assert!(empty || levels >= counts.len() || least == f64::INFINITY);
                    }
                    Some(found) => {
                        prop_assert!((found.divergence - least).abs() < tolerance, "{rule:?} {found:?} {least}");
                        prop_assert!((candidates[found.bins - levels] - least).abs() < tolerance);
                    }
                }
            }
        }
    }
}
