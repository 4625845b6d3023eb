//! K-means of many values: fine bins stand for the values in them.
//!
//! 1. The values are counted in equal bins over their range. A bin stands at the mean of its values.
//! 2. Neighbouring bins are joined to cells of about equal error, some dozens for each cluster, so that there are
//!    many where clusters will be narrow. A shortest path divides the cells.
//! 3. The cuts between the clusters move from ends of cells to the best ends of bins nearby.
//! 4. The spread within bins is what has been neglected. If it is more than a small part of the error, the bins
//!    that have most of it are divided in a further pass over the values, and so on. One outlier at a million
//!    standard deviations leaves all others in one bin; the second pass divides that one into thousands.

use super::Clusters;
use super::exact::finish;
use super::moments::{Compensated, Moments, Plain, Points, power_of_two};
use super::path::shortest_path;
use super::refine::refine;
use crate::element::{Element, Real};
use crate::kernel::bins::{Fineness, fine_bins};
use crate::kernel::reduce::min_max;

/// Passes over the values at most. Data that make sense need one to three.
const PASSES: usize = 12;

/// Cells for each cluster, and the least number of cells.
const CELLS_EACH: usize = 16;
const CELLS: usize = 1024;

/// Rounding may hide so much of the error of a division of bins.
const PRECISION: f64 = 1e-7;

/// The part of the error that may be due to the spread within bins. By it the centroids are off their best places,
/// at the price of half as much at most.
fn tolerance(k: usize) -> f64 {
    (2e-6 * k as f64).clamp(1e-5, 5e-4)
}

/// The bins of the first pass: so many that most data need no second one.
fn fineness(k: usize) -> Fineness {
    if k <= 32 { Fineness::Medium } else { Fineness::Fine }
}

/// Equal bins over an interval.
#[derive(Debug, Clone, Copy)]
struct Node {
    low: f64,
    /// Bins per unit.
    density: f64,
    count: usize,
    /// The place of its first bin among all.
    first: usize,
}

/// Bins of which some are divided into bins.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    /// For each bin the node that divides it; 0, the root, for none.
    children: Vec<u32>,
}

/// What is known of the values in a bin.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    /// Place of the bin.
    bin: usize,
    weight: f64,
    mean: f64,
    /// Ends of an interval that holds them.
    low: f64,
    high: f64,
}

impl Leaf {
    fn width(&self) -> f64 {
        self.high - self.low
    }

    /// The squared error about their mean, of values spread evenly.
    fn error(&self) -> f64 {
        self.weight * self.width() * self.width() / 12.0
    }
}

/// Sums over the values of a bin.
#[derive(Debug, Clone, Copy)]
struct Sum {
    weight: f64,
    /// About the first value, so that equal values have exactly their value as mean.
    moment: f64,
    first: f64,
    low: f64,
    high: f64,
}

impl Tree {
    fn new(low: f64, high: f64, bins: usize) -> Self {
        let mut tree = Self { nodes: Vec::new(), children: Vec::new() };
        tree.add(low, high, bins);
        tree
    }

    fn add(&mut self, low: f64, high: f64, count: usize) {
        let density = count as f64 / (high - low);
        self.nodes.push(Node { low, density, count, first: self.children.len() });
        self.children.resize(self.children.len() + count, 0);
    }

    /// The undivided bin of x.
    #[inline]
    fn bin(&self, x: f64) -> usize {
        let mut node = 0;
        loop {
            let Some(Node { low, density, count, first }) = self.nodes.get(node) else { return 0 };
            // The conversion saturates below, and makes a NaN 0.
            let bin = first + (((x - low) * density) as usize).min(count - 1);
            node = self.children.get(bin).map_or(0, |&child| child as usize);
            if node == 0 {
                return bin;
            }
        }
    }

    /// The bins with any weight, ascending.
    fn leaves<T: Real, H: Real>(&self, values: &[T], weights: Option<&[H]>, unit: f64) -> Vec<Leaf> {
        let empty = Sum { weight: 0.0, moment: 0.0, first: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY };
        let mut sums = vec![empty; self.children.len()];
        let mut add = |x: T, weight: f64| {
            let x = Element::to_f64(x) / unit;
            if let Some(sum) = sums.get_mut(self.bin(x)) {
                if sum.weight == 0.0 {
                    sum.first = x;
                }
                sum.weight += weight;
                sum.moment += weight * (x - sum.first);
                sum.low = if x < sum.low { x } else { sum.low };
                sum.high = if x > sum.high { x } else { sum.high };
            }
        };
        match weights {
            None => values.iter().for_each(|&x| add(x, 1.0)),
            Some(weights) => {
                for (&x, &weight) in values.iter().zip(weights) {
                    let weight = Element::to_f64(weight);
                    if weight > 0.0 && weight.is_finite() {
                        add(x, weight);
                    }
                }
            }
        }
        let mut leaves = Vec::new();
        self.visit(0, &mut |bin| {
            if let Some(sum) = sums.get(bin).filter(|sum| sum.weight > 0.0) {
                let mean = (sum.first + sum.moment / sum.weight).clamp(sum.low, sum.high);
                leaves.push(Leaf { bin, weight: sum.weight, mean, low: sum.low, high: sum.high });
            }
        });
        leaves
    }

    /// Undivided bins in ascending order.
    fn visit(&self, node: usize, action: &mut impl FnMut(usize)) {
        let Some(&Node { count, first, .. }) = self.nodes.get(node) else { return };
        for bin in first..first + count {
            match self.children.get(bin) {
                Some(&child) if child > 0 => self.visit(child as usize, action),
                _ => action(bin),
            }
        }
    }

    /// Divides the bins with the largest errors into about `budget` bins, more finely where more is to be gained.
    /// Whether there were any.
    fn divide(&mut self, leaves: &[Leaf], budget: usize, allowed: f64) -> bool {
        let negligible = allowed / (4 * leaves.len().max(1)) as f64;
        let crowded = || leaves.iter().filter(|leaf| leaf.error() > negligible);
        // The best allotment, of least error in all, by Lagrange's rule.
        let total: f64 = crowded().map(|leaf| leaf.error().cbrt()).sum();
        let before = self.nodes.len();
        for leaf in crowded() {
            let share = (budget as f64 * leaf.error().cbrt() / total).ceil();
            let density = share / leaf.width();
            if share >= 2.0
                && density.is_finite()
                && let Some(child) = self.children.get_mut(leaf.bin)
            {
                *child = self.nodes.len() as u32;
                self.add(leaf.low, leaf.high, share as usize);
            }
        }
        self.nodes.len() > before
    }
}

/// The leaves of a first pass without weights.
fn first_leaves<T: Real>(values: &[T], low: T, high: T, unit: f64, fineness: Fineness) -> Option<Vec<Leaf>> {
    let bins = fine_bins(values, low, high, fineness)?;
    let (low, high) = (Element::to_f64(low) / unit, Element::to_f64(high) / unit);
    let width = (high - low) / fineness.bins() as f64;
    let some = bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
    let leaves = some.map(|(bin, found)| {
        let from = low + width * bin as f64;
        let weight = found.count as f64;
        Leaf { bin, weight, mean: from + width * (found.offset / weight), low: from, high: from + width }
    });
    Some(leaves.collect())
}

/// K-means of `values` by bins; `None` if it cannot be done that way: values that are not finite, or none with
/// a weight.
pub(super) fn solve<T: Real, H: Real>(values: &[T], weights: Option<&[H]>, k: usize) -> Option<Clusters> {
    let (mut low, mut high) = ([T::infinity()], [T::neg_infinity()]);
    let finite = min_max(values, usize::MAX, 0, &mut low, &mut high);
    let (&[low], &[high]) = (&low, &high);
    if !finite || low >= high {
        return None;
    }
    // A power of two that brings everything to about 1.
    let ends = (Element::to_f64(low), Element::to_f64(high));
    let unit = power_of_two(ends.0.abs().max(ends.1.abs()).max(f64::MIN_POSITIVE));
    let fineness = fineness(k);
    let mut tree = Tree::new(ends.0 / unit, ends.1 / unit, fineness.bins());
    let first = if weights.is_none() { first_leaves(values, low, high, unit, fineness) } else { None };
    let mut leaves = first.unwrap_or_else(|| tree.leaves(values, weights, unit));
    let budget = Fineness::Fine.bins().max(64_usize.saturating_mul(k)).min(values.len());
    for pass in 1..=PASSES {
        let points = Points {
            x: leaves.iter().map(|leaf| leaf.mean).collect(),
            weight: leaves.iter().map(|leaf| leaf.weight).collect(),
        };
        let (centroids, error) = divide_points(&points, k);
        let within: f64 = leaves.iter().map(Leaf::error).sum();
        let allowed = tolerance(k) * error;
        if within <= allowed || pass == PASSES || !tree.divide(&leaves, budget, allowed) {
            let centroids = centroids.iter().map(|c| c * unit).collect();
            let clusters = Clusters::new(centroids, (error + within) * unit * unit, k);
            return clusters.map(|found| Clusters { exact: false, ..found });
        }
        leaves = tree.leaves(values, weights, unit);
    }
    None
}

/// The centroids of at most k clusters of `points`, and the error.
fn divide_points(points: &Points, k: usize) -> (Vec<f64>, f64) {
    if points.len() <= k {
        return (points.x.clone(), 0.0);
    }
    let (normal, frame) = points.normalized();
    let plain = Plain::new(&normal);
    let cuts = cuts(&plain, |cuts| plain.at(cuts), &normal, k);
    let mut best = finish(points, &frame, &cuts);
    if f64::EPSILON * plain.square() > PRECISION * best.1 {
        let compensated = Compensated::new(&normal);
        let again =
            finish(points, &frame, &self::cuts(&compensated, |cuts| compensated.at(cuts), &normal, k));
        if again.1 < best.1 {
            best = again;
        }
    }
    (best.0, frame.squared_error(best.1))
}

/// The cuts between the clusters: of cells, then of points. `at` takes the sums at given cuts.
fn cuts<M: Moments>(moments: &M, at: impl Fn(&[usize]) -> M, points: &Points, k: usize) -> Vec<usize> {
    let target = CELLS.max(CELLS_EACH.saturating_mul(k));
    if points.len() <= target {
        return shortest_path(moments, k, points.penalty(k)).0;
    }
    let cells = cells(moments, target);
    let (path, _) = shortest_path(&at(&cells), k, points.penalty(k));
    let mut cuts = Vec::with_capacity(path.len());
    let mut steps = Vec::with_capacity(path.len());
    for &cell in &path {
        let cut = cells.get(cell).copied().unwrap_or(points.len());
        let before = cell.checked_sub(1).and_then(|cell| cells.get(cell)).copied().unwrap_or(cut);
        let after = cells.get(cell + 1).copied().unwrap_or(cut);
        cuts.push(cut);
        steps.push((cut - before).max(after - cut).max(1));
    }
    refine(moments, &mut cuts, &mut steps);
    cuts
}

/// The ends of about `target` cells, from 0 to the number of points: halved until the error of each is below one
/// limit.
fn cells(moments: &impl Moments, target: usize) -> Vec<usize> {
    let n = moments.len();
    let mut limit = moments.error(0, n) / (target as f64).powi(3);
    let mut cells = Vec::with_capacity(2 * target);
    let mut stack = Vec::new();
    for _ in 0..20 {
        cells.clear();
        cells.push(0);
        stack.clear();
        stack.push((0, n));
        while let Some((from, to)) = stack.pop() {
            if to - from > 1 && moments.error(from, to) > limit {
                let middle = from + (to - from) / 2;
                stack.push((middle, to));
                stack.push((from, middle));
            } else {
                cells.push(to);
                if cells.len() > 4 * target {
                    break;
                }
            }
        }
        let share = cells.len() as f64 / target as f64;
        if (0.7..=1.3).contains(&share) && stack.is_empty() {
            break;
        }
        limit *= share.powi(3);
        if limit.is_nan() || limit <= 0.0 {
            break;
        }
    }
    // Where the search ended early, the last cell takes the rest.
    if cells.last() != Some(&n) {
        cells.push(n);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::samples::SplitMix64;

    #[test]
    fn cells_cover_the_points() {
        let mut random = SplitMix64(1);
        let mut x: Vec<f64> = (0..20_000).map(|_| random.laplace()).collect();
        x.sort_by(f64::total_cmp);
        let plain = Plain::new(&Points { x, weight: vec![1.0; 20_000] });
        let cells = cells(&plain, 1024);
        assert_eq!((cells.first(), cells.last()), (Some(&0), Some(&20_000)));
        assert!(cells.is_sorted() && (700..1400).contains(&cells.len()), "{}", cells.len());
    }

    #[test]
    fn divided_bins_stay_in_order() {
        let mut tree = Tree::new(0.0, 1.0, 65536);
        let values: Vec<f64> = (0..5000).map(|i| (f64::from(i) / 5000.0).powi(8)).collect();
        let mut leaves = tree.leaves::<f64, f64>(&values, None, 1.0);
        for _ in 0..3 {
            assert!(leaves.is_sorted_by(|a, b| a.high <= b.low));
            assert_eq!(leaves.iter().map(|leaf| leaf.weight).sum::<f64>(), 5000.0);
            let error: f64 = leaves.iter().map(Leaf::error).sum();
            if !tree.divide(&leaves, 100_000, 0.0) {
                return;
            }
            leaves = tree.leaves::<f64, f64>(&values, None, 1.0);
            assert!(leaves.iter().map(Leaf::error).sum::<f64>() < error);
        }
    }
}
