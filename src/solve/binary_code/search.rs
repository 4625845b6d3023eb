//! The least squared error of all coefficients, as well as many alternations find it.
//!
//! An alternation ends in the nearest of many minima: which one depends on the shape of the level set, that is on
//! the order of the sums, which an alternation seldom changes. So there are starts of all shapes, from
//! coefficients that halve (uniform levels) to nearly equal ones (dense levels in the middle, sparse in the tails),
//! of several widths; the best of them is then shaken, harder and softer in turns.

use rand::RngExt;

use super::super::magnitudes::Moments;
use super::pieces::Pieces;
use super::{Coefficients, MAX_BITS, alternate, alternating, greedy};
use crate::random::Philox;

/// Rounds after which a start is judged.
const SHORT: usize = 12;

/// Rounds that end practically every alternation.
const LONG: usize = 1000;

/// The quotient of neighbouring coefficients of a start.
const SHAPES: [f64; 5] = [2.0, 1.7, 1.45, 1.25, 1.1];

/// The sum of a start's coefficients, in root mean squares of the values.
const WIDTHS: [f64; 5] = [1.8, 2.4, 3.2, 4.4, 7.0];

/// The greedy coefficients, their alternation carried to its end, and the best of the search. The latter is best
/// by differences of sums; evaluated on the values another one may be, where the rest is rounding.
pub(super) fn candidates(moments: &impl Moments, bits: usize) -> [Coefficients; 3] {
    let (_, greedily) = greedy(moments, bits, false);
    let (_, first) = alternating(moments, bits, LONG);
    if bits <= 1 {
        // The mean magnitude is the optimum.
        return [greedily, first, first];
    }
    let mut search = Search { moments, bits, pieces: Pieces::whole(moments), best: (f64::INFINITY, first) };
    search.run(&first);
    [greedily, first, search.best.1]
}

struct Search<'a, M> {
    moments: &'a M,
    bits: usize,
    pieces: Pieces,
    /// The least error so far and its coefficients.
    best: (f64, Coefficients),
}

impl<M: Moments> Search<'_, M> {
    fn run(&mut self, first: &Coefficients) {
        let bits = self.bits.min(MAX_BITS);
        let total = self.moments.total();
        let size = (total.square / total.weight).sqrt();
        let mut found = vec![self.judge(first), self.judge(&greedy(self.moments, bits, true).1)];
        for shape in SHAPES {
            let mut start = Coefficients::default();
            start.iter_mut().take(bits).zip(0..).for_each(|(alpha, i)| *alpha = shape.powi(-i));
            let sum: f64 = start.iter().sum();
            for width in WIDTHS {
                let start = start.map(|alpha| alpha * width * size / sum);
                found.push(self.judge(&start));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, alpha) in found.iter().take(4) {
            self.finish(alpha);
        }
        self.shake(match bits {
            0..=2 => 12,
            3..=4 => 96,
            _ => 32,
        });
    }

    /// Alternates a few rounds; the error then.
    fn judge(&mut self, start: &Coefficients) -> (f64, Coefficients) {
        let alpha = alternate(self.moments, self.bits, SHORT, *start, &mut self.pieces);
        (self.pieces.nearest_error(self.moments, self.bits, &alpha), alpha)
    }

    /// Alternates to the end and keeps the best.
    fn finish(&mut self, alpha: &Coefficients) {
        let alpha = alternate(self.moments, self.bits, LONG, *alpha, &mut self.pieces);
        let error = self.pieces.nearest_error(self.moments, self.bits, &alpha);
        if error < self.best.0 {
            self.best = (error, alpha);
        }
    }

    /// Changes the coefficients of the best at random and alternates from there.
    fn shake(&mut self, times: usize) {
        let mut random = Philox::new(0);
        for time in 0..times {
            let spread = [0.15, 0.4, 0.8][time % 3];
            let start =
                self.best.1.map(|alpha| alpha * (spread * (2.0 * random.random::<f64>() - 1.0)).exp());
            let (error, alpha) = self.judge(&start);
            // What is still far from the best after a few rounds would hardly pass it.
            if error < 1.1 * self.best.0 {
                self.finish(&alpha);
            }
        }
    }
}
