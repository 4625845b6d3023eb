//! Codes of all magnitudes as pieces of the half line, and least squares over them.

use super::super::magnitudes::{Mass, Moments};
use super::{Coefficients, MAX_BITS};

/// Magnitudes from the end of the piece before up to `end`, all of one code.
#[derive(Debug, Clone, Copy)]
struct Piece {
    end: f64,
    code: u8,
    /// The sums over the magnitudes in it.
    mass: Mass,
}

/// A sum of coefficients that is not negative.
#[derive(Debug, Clone, Copy)]
struct Level {
    value: f64,
    code: u8,
}

/// The codes of all magnitudes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    total: Mass,
    /// Reused for every round.
    levels: Vec<Level>,
}

/// The sign of coefficient `bit` in a code.
fn sign(code: u8, bit: usize) -> f64 {
    if code >> bit & 1 == 1 { 1.0 } else { -1.0 }
}

impl Pieces {
    /// All magnitudes in one piece, no bit decided.
    pub(super) fn whole(moments: &impl Moments) -> Self {
        let total = moments.total();
        let piece = Piece { end: f64::INFINITY, code: 0, mass: total };
        Self { pieces: vec![piece], total, levels: Vec::new() }
    }

    /// Decides the next `bit` by the sign of what the bits before it leave, and returns the mean magnitude of
    /// that.
    pub(super) fn split(&mut self, moments: &impl Moments, alpha: &Coefficients, bit: usize) -> f64 {
        let mut parts = Vec::with_capacity(2 * self.pieces.len());
        let mut deviation = 0.0;
        let (mut start, mut from) = (0.0, Mass::default());
        for piece in &self.pieces {
            let level: f64 =
                alpha.iter().take(bit).enumerate().map(|(i, alpha)| sign(piece.code, i) * alpha).sum();
            let to = if piece.end == f64::INFINITY { self.total } else { moments.below(piece.end) };
            let mut part = |end: f64, code: u8, mass: Mass| {
                deviation += sign(code, bit) * (mass.moment - level * mass.weight);
                parts.push(Piece { end, code, mass });
            };
            let up = piece.code | 1 << bit;
            if level <= start {
                part(piece.end, up, to - from);
            } else if level >= piece.end {
                part(piece.end, piece.code, to - from);
            } else {
                let middle = moments.below(level);
                part(level, piece.code, middle - from);
                part(piece.end, up, to - middle);
            }
            (start, from) = (piece.end, to);
        }
        self.pieces = parts;
        (deviation / self.total.weight).max(0.0)
    }

    /// Gives every magnitude the code of the nearest sum.
    pub(super) fn nearest(&mut self, moments: &impl Moments, bits: usize, alpha: &Coefficients) {
        self.sums(bits, alpha);
        self.pieces.clear();
        let mut from = Mass::default();
        for (i, level) in self.levels.iter().enumerate() {
            let (end, to) = match self.levels.get(i + 1) {
                Some(next) => {
                    let end = 0.5 * (level.value + next.value);
                    (end, moments.below(end))
                }
                None => (f64::INFINITY, self.total),
            };
            self.pieces.push(Piece { end, code: level.code, mass: to - from });
            from = to;
        }
    }

    /// The squared error of given coefficients with nearest codes; a difference of sums.
    pub(super) fn nearest_error(&mut self, moments: &impl Moments, bits: usize, alpha: &Coefficients) -> f64 {
        self.sums(bits, alpha);
        moments.squared_error(self.levels.iter().map(|level| level.value))
    }

    /// One of each sum and its negative, the one that is not negative, in ascending order.
    fn sums(&mut self, bits: usize, alpha: &Coefficients) {
        let levels = &mut self.levels;
        levels.clear();
        levels.push(Level { value: alpha.first().copied().unwrap_or(0.0), code: 1 });
        for (i, &alpha) in alpha.iter().enumerate().take(bits).skip(1) {
            for k in 0..levels.len() {
                if let Some(level) = levels.get_mut(k) {
                    let Level { value, code } = *level;
                    level.value = value - alpha;
                    levels.push(Level { value: value + alpha, code: code | 1 << i });
                }
            }
        }
        let all = u8::MAX >> (MAX_BITS - bits.clamp(1, MAX_BITS));
        for level in levels.iter_mut().filter(|level| level.value < 0.0) {
            (level.value, level.code) = (-level.value, !level.code & all);
        }
        levels.sort_unstable_by(|a, b| a.value.total_cmp(&b.value).then(a.code.cmp(&b.code)));
    }

    /// The coefficients of least squared error for these codes; zero where a code adds nothing to those before.
    pub(super) fn least_squares(&self, bits: usize) -> Coefficients {
        let (gram, product) = self.normal_equations(bits);
        solve(gram, product, bits)
    }

    /// Least squares with a penalty of `held` times the squared distance from the coefficients before.
    pub(super) fn held_least_squares(&self, bits: usize, before: &Coefficients, held: f64) -> Coefficients {
        let (mut gram, mut product) = self.normal_equations(bits);
        for (i, ((row, product), before)) in gram.iter_mut().zip(&mut product).zip(before).enumerate() {
            if let Some(diagonal) = row.get_mut(i) {
                *diagonal += held;
                *product += held * before;
            }
        }
        solve(gram, product, bits)
    }

    /// `B'B` and `B'r`.
    fn normal_equations(&self, bits: usize) -> ([Coefficients; MAX_BITS], Coefficients) {
        let mut gram = [Coefficients::default(); MAX_BITS];
        let mut product = Coefficients::default();
        for piece in self.pieces.iter().filter(|piece| piece.mass.weight > 0.0) {
            let mut signs = [0.0; MAX_BITS];
            signs.iter_mut().take(bits).enumerate().for_each(|(i, slot)| *slot = sign(piece.code, i));
            for (i, (row, product)) in gram.iter_mut().zip(&mut product).enumerate().take(bits) {
                let own = sign(piece.code, i);
                *product += own * piece.mass.moment;
                let weight = own * piece.mass.weight;
                row.iter_mut().zip(&signs).for_each(|(slot, other)| *slot += weight * other);
            }
        }
        (gram, product)
    }

    /// The squared error of these codes with given coefficients; a difference of sums.
    #[cfg(test)]
    pub(super) fn squared_error(&self, bits: usize, alpha: &Coefficients) -> f64 {
        let level =
            |code: u8| alpha.iter().enumerate().take(bits).map(|(i, alpha)| sign(code, i) * alpha).sum();
        self.pieces.iter().map(|piece| piece.mass.squared_error(level(piece.code))).sum()
    }
}

/// Solves `gram x = product` for a positive semidefinite matrix by `L D L'`, one row after the other. A column that
/// depends on those before it, down to the rounding of sums, gets zero.
fn solve(gram: [Coefficients; MAX_BITS], product: Coefficients, bits: usize) -> Coefficients {
    // Rows of L below the diagonal, D, and L^-1 product.
    let mut factor = [Coefficients::default(); MAX_BITS];
    let (mut pivots, mut x) = (Coefficients::default(), product);
    for i in 0..bits.min(MAX_BITS) {
        let Some(row) = gram.get(i) else { break };
        let mut own = Coefficients::default();
        for j in 0..i {
            let (Some(&entry), Some(other), Some(&pivot)) = (row.get(j), factor.get(j), pivots.get(j)) else {
                break;
            };
            let known: f64 = own.iter().zip(other).zip(&pivots).take(j).map(|((a, b), d)| a * b * d).sum();
            if let Some(slot) = own.get_mut(j) {
                *slot = if pivot > 0.0 { (entry - known) / pivot } else { 0.0 };
            }
        }
        let diagonal = row.get(i).copied().unwrap_or(0.0);
        let pivot = diagonal - own.iter().zip(&pivots).take(i).map(|(a, d)| a * a * d).sum::<f64>();
        let known: f64 = own.iter().zip(&x).take(i).map(|(a, x)| a * x).sum();
        let dependent = pivot.is_nan() || pivot <= 1e-12 * diagonal;
        if let (Some(slot), Some(value)) = (pivots.get_mut(i), x.get_mut(i)) {
            *slot = if dependent { 0.0 } else { pivot };
            *value = if dependent { 0.0 } else { *value - known };
        }
        if let Some(slot) = factor.get_mut(i) {
            *slot = own;
        }
    }
    // D L' x = the above, from the last row up.
    let mut result = Coefficients::default();
    for i in (0..bits.min(MAX_BITS)).rev() {
        let (Some(&pivot), Some(&value)) = (pivots.get(i), x.get(i)) else { continue };
        if pivot > 0.0 {
            let known: f64 = factor
                .iter()
                .zip(&result)
                .skip(i + 1)
                .map(|(row, x)| row.get(i).copied().unwrap_or(0.0) * x)
                .sum();
            if let Some(slot) = result.get_mut(i) {
                *slot = value / pivot - known;
            }
        }
    }
    result
}
