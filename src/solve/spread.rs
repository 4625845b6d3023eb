//! Integrals over a histogram whose values are taken to lie evenly within their bins.
//!
//! The squared error of a uniform grid is then known in closed form. In units of the scale, with `t = x / S + Z` and
//! `u = t - clamp(round(t))`, the integral of `u^2` from a to b within one cell is `(b^3 - a^3) / 3`, and over each
//! whole cell `1 / 12`: an exact sum, no sampling, O(1) for each bin.

/// Counts in bins of equal width, and the extremes of what was counted: the outer bins hold values up to these only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bins<'a> {
    pub low: f64,
    pub width: f64,
    pub counts: &'a [u64],
    pub min: f64,
    pub max: f64,
}

/// Values that lie evenly from `left` to `right`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    left: f64,
    right: f64,
    mass: f64,
}

impl Piece {
    fn middle(self) -> f64 {
        self.left * 0.5 + self.right * 0.5
    }

    /// The mean of x².
    fn mean_square(self) -> f64 {
        let Self { left, right, .. } = self;
        (left * left + left * right + right * right) / 3.0
    }

    /// The mean of |x − m|.
    fn mean_distance(self, m: f64) -> f64 {
        let (below, above) = (m - self.left, self.right - m);
        if below <= 0.0 || above <= 0.0 {
            return (self.middle() - m).abs();
        }
        (below * below + above * above) / (2.0 * (below + above))
    }

    /// The share below `x`.
    fn share_below(self, x: f64) -> f64 {
        if x >= self.right {
            1.0
        } else if x <= self.left {
            0.0
        } else {
            (x - self.left) / (self.right - self.left)
        }
    }
}

/// The levels `S·m` for `count` numbers m in steps of one from `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub scale: f64,
    pub first: f64,
    pub count: f64,
}

impl Levels {
    /// The number of the level of `t = x / S` counted from the first, and the distance to it, in steps.
    fn nearest(&self, t: f64) -> (f64, f64) {
        // Rounds to even without a call: the sum has no digits below one.
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        let level = ((t - self.first).clamp(0.0, self.count - 1.0) + MAGIC) - MAGIC;
        (level, t - self.first - level)
    }

    /// The mean squared error of a piece, in units of S².
    fn mean_error(&self, piece: Piece) -> f64 {
        let (left, right) = (piece.left / self.scale, piece.right / self.scale);
        let ((k, a), (l, b)) = (self.nearest(left), self.nearest(right));
        if k == l || right <= left {
            return (a * a + a * b + b * b) / 3.0;
        }
        let ends = (0.125 - a * a * a) / 3.0 + (0.125 + b * b * b) / 3.0;
        (ends + (l - k - 1.0) / 12.0) / (right - left)
    }

    /// The squared error of one value.
    pub(crate) fn error_of(&self, x: f64) -> f64 {
        let (_, distance) = self.nearest(x / self.scale);
        let error = self.scale * distance;
        error * error
    }
}

/// First and second moments.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    /// Of 1, x, |x| and x².
    pub count: f64,
    pub sum: f64,
    pub magnitude: f64,
    pub square: f64,
}

impl Bins<'_> {
    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let filled = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(bin, &count)| {
            let left = (self.low + bin as f64 * self.width).clamp(self.min, self.max);
            let right = (self.low + (bin + 1) as f64 * self.width).clamp(left, self.max);
            Piece { left, right, mass: count as f64 }
        })
    }

    /// The sum of the squared errors on `levels`, every value going to the nearest.
    pub(crate) fn squared_error(&self, levels: &Levels) -> f64 {
        let sum: f64 = self.pieces().map(|piece| piece.mass * levels.mean_error(piece)).sum();
        sum * levels.scale * levels.scale
    }

    /// How many values lie outside `[low, high]`.
    pub(crate) fn outside(&self, low: f64, high: f64) -> f64 {
        // A piece of no length at an end of the range is inside.
        let outside = |piece: Piece| {
            if piece.left == piece.right {
                return f64::from(u8::from(piece.left < low || piece.left > high));
            }
            piece.share_below(low) + (1.0 - piece.share_below(high))
        };
        self.pieces().map(|piece| piece.mass * outside(piece)).sum()
    }

    /// Moments about zero.
    pub(crate) fn sums(&self) -> Sums {
        self.pieces().fold(Sums::default(), |sums, piece| Sums {
            count: sums.count + piece.mass,
            sum: sums.sum + piece.mass * piece.middle(),
            magnitude: sums.magnitude + piece.mass * piece.mean_distance(0.0),
            square: sums.square + piece.mass * piece.mean_square(),
        })
    }

    /// The sums of |x − m| and (x − m)².
    pub(crate) fn deviations(&self, m: f64) -> (f64, f64) {
        self.pieces().fold((0.0, 0.0), |(first, second), piece| {
            let shifted = Piece { left: piece.left - m, right: piece.right - m, ..piece };
            (first + piece.mass * piece.mean_distance(m), second + piece.mass * shifted.mean_square())
        })
    }
}

/// Running sums of 1, x and x² over a histogram, to integrate between any two places in O(1).
#[derive(Debug, Clone)]
pub(crate) struct Running {
    low: f64,
    width: f64,
    pieces: Vec<Piece>,
    /// The sums over the bins before each, one more than there are bins.
    before: Vec<[f64; 3]>,
}

impl Running {
    pub(crate) fn new(bins: &Bins<'_>) -> Self {
        let mut pieces = Vec::with_capacity(bins.counts.len());
        let mut before = Vec::with_capacity(bins.counts.len() + 1);
        let mut sums = [0.0; 3];
        before.push(sums);
        for (bin, &count) in bins.counts.iter().enumerate() {
            let left = (bins.low + bin as f64 * bins.width).clamp(bins.min, bins.max);
            let right = (bins.low + (bin + 1) as f64 * bins.width).clamp(left, bins.max);
            let piece = Piece { left, right, mass: count as f64 };
            let [zeroth, first, second] = sums;
            sums = [
                zeroth + piece.mass,
                first + piece.mass * piece.middle(),
                second + piece.mass * piece.mean_square(),
            ];
            before.push(sums);
            pieces.push(piece);
        }
        Self { low: bins.low, width: bins.width, pieces, before }
    }

    /// The sums of 1, x and x² over all values below `x`.
    pub(crate) fn below(&self, x: f64) -> [f64; 3] {
        let bin = ((x - self.low) / self.width).max(0.0) as usize;
        let (Some(piece), Some(&[zeroth, first, second])) = (self.pieces.get(bin), self.before.get(bin))
        else {
            return self.before.last().copied().unwrap_or_default();
        };
        let part = Piece { right: x.clamp(piece.left, piece.right), ..*piece };
        let mass = piece.mass * piece.share_below(x);
        [zeroth + mass, first + mass * part.middle(), second + mass * part.mean_square()]
    }

    /// The sum of the squared errors on ascending `levels`, in O(levels) and with the rounding of differences of sums.
    pub(crate) fn squared_error_on(&self, levels: &[f64]) -> f64 {
        let mut low = [0.0; 3];
        let mut sum = 0.0;
        for (k, &level) in levels.iter().enumerate() {
            let end = levels.get(k + 1).map_or(f64::INFINITY, |&next| level * 0.5 + next * 0.5);
            let high = self.below(end);
            let [zeroth, first, second] = [high[0] - low[0], high[1] - low[1], high[2] - low[2]];
            sum += second - 2.0 * level * first + level * level * zeroth;
            low = high;
        }
        sum.max(0.0)
    }

    /// The sum of the squared errors on `levels`, in O(levels) and with the rounding of differences of sums.
    pub(crate) fn squared_error(&self, levels: &Levels) -> f64 {
        let mut low = [0.0; 3];
        let mut sum = 0.0;
        let count = levels.count as usize;
        for k in 0..count {
            let level = levels.scale * (levels.first + k as f64);
            let end = if k + 1 == count { f64::INFINITY } else { level + 0.5 * levels.scale };
            let high = self.below(end);
            let [zeroth, first, second] = [high[0] - low[0], high[1] - low[1], high[2] - low[2]];
            sum += second - 2.0 * level * first + level * level * zeroth;
            low = high;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many values spread evenly within each bin.
    fn sampled(bins: &Bins<'_>, per_count: usize) -> Vec<f64> {
        let spread = |piece: Piece| {
            let n = piece.mass as usize * per_count;
            (0..n).map(move |i| piece.left + (piece.right - piece.left) * (i as f64 + 0.5) / n as f64)
        };
        bins.pieces().flat_map(spread).collect()
    }

    #[test]
    fn integrals_are_those_of_many_samples() {
        let counts = [3, 0, 5, 1, 9, 4, 2];
        let bins = Bins { low: -1.3, width: 0.4, counts: &counts, min: -1.2, max: 1.43 };
        let values = sampled(&bins, 2000);
        let per = 1.0 / 2000.0;
        for (scale, first, count) in
            [(0.07, -8.0, 16.0), (0.3, -3.0, 7.0), (0.5, -1.5, 4.0), (1.0, 0.0, 2.0), (5.0, -1.0, 3.0)]
        {
            let levels = Levels { scale, first, count };
            let sampled: f64 = values.iter().map(|&x| per * levels.error_of(x)).sum();
            let (exact, running) = (bins.squared_error(&levels), Running::new(&bins).squared_error(&levels));
            // The midpoint rule on 2000 points for each value.
            assert!((exact / sampled - 1.0).abs() < 1e-5, "{levels:?}: {exact} {sampled}");
            assert!((running / exact - 1.0).abs() < 1e-9, "{levels:?}: {running} {exact}");
        }
        let sums = bins.sums();
        let mean = sums.sum / sums.count;
        let (first, second) = bins.deviations(mean);
        let of = |f: &dyn Fn(f64) -> f64| values.iter().map(|&x| per * f(x)).sum::<f64>();
        for (exact, sampled) in [
            (sums.sum, of(&|x| x)),
            (sums.magnitude, of(&f64::abs)),
            (sums.square, of(&|x| x * x)),
            (first, of(&|x| (x - mean).abs())),
            (second, of(&|x| (x - mean).powi(2))),
            (bins.outside(-1.0, 0.7), of(&|x| f64::from(u8::from(!(-1.0..=0.7).contains(&x))))),
        ] {
            assert!((exact - sampled).abs() < 2e-3, "{exact} {sampled}");
        }
        assert_eq!(bins.outside(-1.2, 1.43), 0.0);
    }

    #[test]
    fn a_single_value_has_its_own_error() {
        let bins = Bins { low: 0.25, width: 1.0, counts: &[4], min: 0.7, max: 0.7 };
        let levels = Levels { scale: 1.0, first: 0.0, count: 2.0 };
        assert!((bins.squared_error(&levels) - 4.0 * 0.09).abs() < 1e-15);
        assert_eq!((bins.outside(0.0, 0.7), bins.outside(0.0, 0.6)), (0.0, 4.0));
    }
}
