//! The multiple-choice knapsack: one choice for each class, the least sum of errors within a sum of sizes.
//!
//! Exactly, in the manner of David Pisinger 1995, *A minimal algorithm for the multiple-choice knapsack problem*:
//!
//! 1. The best multiplier λ of Lagrange's bound is the slope at which the linear relaxation fills the budget; it is
//!    found by taking the increments along the lower convex hulls of all classes in order of slope.
//! 2. With reduced costs `c = e + λ s − min(e + λ s) ≥ 0`, every assignment has the error
//!    `bound + Σ c + λ · (budget − size)`. A choice whose c alone exceeds the distance from the bound to the best known
//!    assignment is in none that is better. Of most classes one choice is left.
//! 3. Dynamic programming over the classes that are left: states that another one undercuts in size and in error are
//!    dropped, and those that the bound excludes.
//!
//! A short run with few states comes first, whose assignment narrows the bound for the exact one.

/// Size and error of a choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) size: u64,
    pub(super) error: f64,
}

/// The best assignment found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The choice of each class.
    pub(super) choices: Vec<usize>,
    /// No assignment has less error than this.
    pub(super) bound: f64,
    /// Whether this is the best there is.
    pub(super) proven: bool,
    /// The most states of one step.
    pub(super) states: usize,
}

/// The sum of errors in the order of the classes, and of sizes.
pub(super) fn totals(classes: &[Vec<Item>], choices: &[usize]) -> (f64, u128) {
    let items = classes.iter().zip(choices).filter_map(|(class, &choice)| class.get(choice));
    items.fold((0.0, 0), |(error, size), item| (error + item.error, size + u128::from(item.size)))
}

/// The least size of all classes together.
pub(super) fn least_size(classes: &[Vec<Item>]) -> u128 {
    classes.iter().map(|class| class.iter().map(|item| u128::from(item.size)).min().unwrap_or(0)).sum()
}

/// The choices of a class that no other one undercuts, by ascending size and falling error.
fn frontier(class: &[Item]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..class.len()).collect();
    let key = |&at: &usize| class.get(at).map_or((u64::MAX, f64::NAN), |item| (item.size, item.error));
    order.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let mut least = f64::INFINITY;
    order.retain(|at| {
        let better = key(at).1 < least;
        least = least.min(key(at).1);
        better
    });
    order
}

/// A step along the lower convex hull of a class.
struct Increment {
    class: usize,
    to: usize,
    size: u64,
    slope: f64,
}

/// The increments of a class, of falling slope.
fn increments(class: usize, items: &[Item], frontier: &[usize], out: &mut Vec<Increment>) {
    let mut points = frontier.iter().filter_map(|&at| items.get(at).map(|item| (at, *item)));
    let Some(mut corner) = points.next() else { return };
    let rest: Vec<(usize, Item)> = points.collect();
    let mut rest = rest.as_slice();
    while !rest.is_empty() {
        let slope = |to: &Item| (corner.1.error - to.error) / (to.size - corner.1.size) as f64;
        // The steepest way down, and the furthest of equals.
        let steepest = rest.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (at, (_, item))| {
            if slope(item) >= best.1 { (at, slope(item)) } else { best }
        });
        let Some(&next) = rest.get(steepest.0) else { return };
        out.push(Increment { class, to: next.0, size: next.1.size - corner.1.size, slope: steepest.1 });
        corner = next;
        rest = rest.get(steepest.0 + 1..).unwrap_or_default();
    }
}

/// What is left of a class for the dynamic programming: size above the least of the class, reduced cost, choice.
type Reduced = Vec<(u64, f64, usize)>;

/// A partial assignment.
#[derive(Clone, Copy)]
struct State {
    size: u64,
    cost: f64,
    parent: u32,
    choice: u32,
}

/// The problem in reduced costs.
struct Lagrange {
    multiplier: f64,
    /// The budget above the least sizes.
    budget: u64,
    bound: f64,
    classes: Vec<Reduced>,
    /// By how much sums may be rounded.
    tolerance: f64,
}

/// The best assignment within `budget`, or a proven best of at most `limit` states at once. `known` are assignments to
/// start from. There is one within the budget, every class has a choice, and all errors are finite.
pub(super) fn best(classes: &[Vec<Item>], budget: u64, known: &[Vec<usize>], limit: usize) -> Found {
    let frontiers: Vec<Vec<usize>> = classes.iter().map(|class| frontier(class)).collect();
    let mut steps = Vec::new();
    for (class, (items, frontier)) in classes.iter().zip(&frontiers).enumerate() {
        increments(class, items, frontier, &mut steps);
    }
    steps.sort_by(|a, b| b.slope.total_cmp(&a.slope).then(a.class.cmp(&b.class)).then(a.size.cmp(&b.size)));
    let mut choices: Vec<usize> =
        frontiers.iter().map(|frontier| frontier.first().copied().unwrap_or(0)).collect();
    let above = u64::try_from(u128::from(budget).saturating_sub(least_size(classes))).unwrap_or(budget);
    let (mut left, mut critical) = (above, None);
    let mut stopped = vec![false; classes.len()];
    for step in &steps {
        let (Some(choice), Some(stopped)) = (choices.get_mut(step.class), stopped.get_mut(step.class)) else {
            continue;
        };
        if *stopped {
            continue;
        }
        if step.size <= left {
            (*choice, left) = (step.to, left - step.size);
        } else {
            critical.get_or_insert(step.slope);
            *stopped = true;
        }
    }
    let key = |choices: &[usize]| totals(classes, choices);
    for candidate in known {
        if better(key(candidate), key(&choices)) && key(candidate).1 <= u128::from(budget) {
            choices.clone_from(candidate);
        }
    }
    let Some(multiplier) = critical else {
        // Everything fits: each class has its least error.
        return Found { bound: key(&choices).0, choices, proven: true, states: 1 };
    };
    let problem = Lagrange::new(classes, &frontiers, above, multiplier);
    let mut found = Found { choices, bound: problem.bound, proven: false, states: 0 };
    for limit in [limit.min(256), limit] {
        let (candidate, bound, states) = problem.search(classes, &found.choices, limit);
        if let Some(candidate) = candidate
            && better(key(&candidate), key(&found.choices))
        {
            found.choices = candidate;
        }
        found.states = found.states.max(states);
        let error = key(&found.choices).0;
        found.bound = bound.map_or(error, |bound| bound.max(problem.bound).min(error));
        found.proven = bound.is_none();
        if found.proven {
            break;
        }
    }
    found
}

/// Less error, or as much in less size.
fn better(a: (f64, u128), b: (f64, u128)) -> bool {
    a.0 < b.0 || (a.0 == b.0 && a.1 < b.1)
}

impl Lagrange {
    fn new(classes: &[Vec<Item>], frontiers: &[Vec<usize>], budget: u64, multiplier: f64) -> Self {
        let mut bound = -multiplier * budget as f64;
        let mut scale = bound.abs();
        let reduce = |(class, frontier): (&Vec<Item>, &Vec<usize>)| {
            let items = || frontier.iter().filter_map(|&at| class.get(at).map(|item| (at, item)));
            let first = items().next().map_or(0, |(_, item)| item.size);
            let cost = |item: &Item| item.error + multiplier * (item.size - first) as f64;
            let least = items().map(|(_, item)| cost(item)).fold(f64::INFINITY, f64::min);
            bound += least;
            scale += items().map(|(_, item)| item.error.abs()).fold(least.abs(), f64::max);
            items().map(|(at, item)| (item.size - first, cost(item) - least, at)).collect()
        };
        let classes = classes.iter().zip(frontiers).map(reduce).collect();
        Self { multiplier, budget, bound, classes, tolerance: 1e-13 * scale }
    }

    /// The best assignment that is better than `known`, if there is one; what bounds the error of all others unless the
    /// search was complete; and the most states of one step.
    fn search(
        &self,
        items: &[Vec<Item>],
        known: &[usize],
        limit: usize,
    ) -> (Option<Vec<usize>>, Option<f64>, usize) {
        let gap = totals(items, known).0 - self.bound + self.tolerance;
        let mut order: Vec<(usize, Reduced)> = Vec::new();
        for (class, all) in self.classes.iter().enumerate() {
            order.push((class, all.iter().copied().filter(|(_, cost, _)| *cost <= gap).collect()));
        }
        // Classes of one choice first, then those that can differ the most in size.
        let span = |class: &Reduced| match (class.first(), class.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0,
        };
        order.sort_by_key(|(class, choices)| (choices.len() > 1, core::cmp::Reverse(span(choices)), *class));
        let ends = |end: fn(&Reduced) -> Option<&(u64, f64, usize)>| -> Vec<u64> {
            let mut rest = vec![0_u64; order.len() + 1];
            for at in (0..order.len()).rev() {
                let here = order.get(at).and_then(|(_, class)| end(class)).map_or(0, |choice| choice.0);
                let after = rest.get(at + 1).copied().unwrap_or(0);
                if let Some(rest) = rest.get_mut(at) {
                    *rest = after.saturating_add(here);
                }
            }
            rest
        };
        // Choices are in order of size: the least and the most that the classes after a step add.
        let (least, most) = (ends(|class| class.first()), ends(|class| class.last()));
        let mut layers: Vec<Vec<State>> = vec![vec![State { size: 0, cost: 0.0, parent: 0, choice: 0 }]];
        let (mut dropped, mut widest) = (None::<f64>, 1);
        for (at, (_, choices)) in order.iter().enumerate() {
            let last = layers.last().map(Vec::as_slice).unwrap_or_default();
            let rest = (least.get(at + 1).copied().unwrap_or(0), most.get(at + 1).copied().unwrap_or(0));
            let mut states = self.extend(last, choices, rest, gap);
            if states.len() > limit {
                let bound = |state: &State| self.bound_of(state, rest.1);
                states.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
                let first = states.get(limit).map_or(0.0, bound);
                dropped = Some(dropped.map_or(first, |dropped| dropped.min(first)));
                states.truncate(limit);
                states.sort_by_key(|state| state.size);
            }
            widest = widest.max(states.len());
            layers.push(states);
        }
        let error = |state: &State| state.cost - self.multiplier * state.size as f64;
        let last = layers.last().map(Vec::as_slice).unwrap_or_default();
        let least = (0..last.len()).min_by(|&a, &b| {
            let at = |at: usize| last.get(at).map_or(f64::INFINITY, error);
            at(a).total_cmp(&at(b))
        });
        let bound = dropped.map(|dropped| self.bound + dropped - self.tolerance);
        let Some(mut place) = least else { return (None, bound, widest) };
        let mut assignment = known.to_vec();
        for ((class, choices), states) in order.iter().zip(layers.get(1..).unwrap_or_default()).rev() {
            let Some(state) = states.get(place) else { return (None, bound, widest) };
            if let (Some(slot), Some(choice)) =
                (assignment.get_mut(*class), choices.get(state.choice as usize))
            {
                *slot = choice.2;
            }
            place = state.parent as usize;
        }
        (Some(assignment), bound, widest)
    }

    /// What a state adds to the bound at least, if the classes after it add `most` to its size.
    fn bound_of(&self, state: &State, most: u64) -> f64 {
        let slack = self.budget.saturating_sub(state.size.saturating_add(most));
        state.cost + self.multiplier * slack as f64
    }

    /// All states with one of `choices` more, but for those that cannot be part of the best.
    fn extend(&self, states: &[State], choices: &Reduced, (least, most): (u64, u64), gap: f64) -> Vec<State> {
        let mut next = Vec::with_capacity(states.len() * choices.len());
        for (choice, &(size, cost, _)) in choices.iter().enumerate() {
            for (parent, state) in states.iter().enumerate() {
                let size = state.size.saturating_add(size);
                if size.saturating_add(least) > self.budget {
                    break;
                }
                let state =
                    State { size, cost: state.cost + cost, parent: parent as u32, choice: choice as u32 };
                if self.bound_of(&state, most) <= gap {
                    next.push(state);
                }
            }
        }
        let error = |state: &State| state.cost - self.multiplier * state.size as f64;
        if choices.len() > 1 {
            next.sort_by(|a, b| a.size.cmp(&b.size).then(error(a).total_cmp(&error(b))));
            let mut best = f64::INFINITY;
            next.retain(|state| {
                let keep = error(state) < best;
                best = best.min(error(state));
                keep
            });
        }
        next
    }
}
