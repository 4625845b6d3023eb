//! The squared error of any run of sorted points about its mean, in constant time from prefix sums.
//!
//! With `W = sum w`, `S = sum w x` and `Q = sum w x^2` over the run, the error is `Q - S^2 / W`. The difference
//! cancels: in plain f64 it is good to about `2^-52 Q`, where Q is of the order of the squared distance from the
//! origin of x. [`Plain`] sums, about the mean of all points, are therefore precise where clusters are not much
//! narrower than the whole (16 clusters of a bell curve), and [`Compensated`] sums, pairs of f64 worth 106 bits,
//! everywhere else (thousands of clusters, outliers at a million standard deviations), at three times the price.

/// Ascending points with positive weights. Where sums are taken, x is about 1 at most.
#[derive(Debug, Clone, Default)]
pub(super) struct Points {
    pub(super) x: Vec<f64>,
    pub(super) weight: Vec<f64>,
}

/// The points in the units of the sums: `(x - center) / unit` and `weight / weight_unit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) center: f64,
    pub(super) unit: f64,
    pub(super) weight_unit: f64,
}

/// The power of two not above `x`; 1 where x has none.
pub(crate) fn power_of_two(x: f64) -> f64 {
    let power = f64::from_bits(x.abs().to_bits() & 0x7ff0_0000_0000_0000);
    if power > 0.0 && power.is_finite() { power } else { 1.0 }
}

impl Points {
    pub(super) fn len(&self) -> usize {
        self.x.len()
    }

    /// The points moved to their mean and scaled by powers of two, so that no square leaves the range of
    /// floats, and the frame that takes them back.
    pub(super) fn normalized(&self) -> (Self, Frame) {
        let (first, last) = (self.x.first().copied().unwrap_or(0.0), self.x.last().copied().unwrap_or(0.0));
        // Halves, because the difference of two finite values may be infinite.
        let reach = power_of_two((last * 0.5 - first * 0.5).max(f64::MIN_POSITIVE));
        let weight_unit = power_of_two(self.weight.iter().copied().fold(0.0, f64::max));
        let (mut weights, mut moment) = (0.0, 0.0);
        for (x, w) in self.x.iter().zip(&self.weight) {
            let w = w / weight_unit;
            weights += w;
            moment += w * ((x * 0.5 - first * 0.5) / reach);
        }
        let mean = first + 2.0 * (moment / weights * reach);
        // Few digits, so that subtracting it from values of f32 is exact.
        let rounded = f64::from(mean as f32);
        let center = if rounded.is_finite() && (first..=last).contains(&rounded) { rounded } else { first };
        let frame = Frame { center, unit: reach, weight_unit };
        let x = self.x.iter().map(|&x| frame.inward(x)).collect();
        let weight = self.weight.iter().map(|w| w / weight_unit).collect();
        (Self { x, weight }, frame)
    }
}

impl Frame {
    /// x in the units of the sums.
    pub(super) fn inward(&self, x: f64) -> f64 {
        let difference = x - self.center;
        if difference.is_finite() {
            difference / self.unit
        } else {
            2.0 * ((x * 0.5 - self.center * 0.5) / self.unit)
        }
    }

    /// A squared error in the units of the caller.
    pub(super) fn squared_error(&self, error: f64) -> f64 {
        error * self.weight_unit * self.unit * self.unit
    }
}

/// Errors of runs of points.
pub(super) trait Moments {
    /// The number of points.
    fn len(&self) -> usize;
    /// The squared error of the points `from..to` about their mean, `from < to <= len`.
    fn error(&self, from: usize, to: usize) -> f64;
}

/// Prefix sums in f64.
pub(super) struct Plain(Vec<[f64; 3]>);

impl Plain {
    pub(super) fn new(points: &Points) -> Self {
        let mut sums = Vec::with_capacity(points.len() + 1);
        let mut sum = [0.0; 3];
        sums.push(sum);
        for (x, w) in points.x.iter().zip(&points.weight) {
            let wx = w * x;
            sum = [sum[0] + w, sum[1] + wx, sum[2] + wx * x];
            sums.push(sum);
        }
        Self(sums)
    }

    /// Sums before each of the `cuts` only: their runs of points become points.
    pub(super) fn at(&self, cuts: &[usize]) -> Self {
        Self(cuts.iter().map(|&cut| self.0[cut]).collect())
    }

    /// `sum w x^2` over all points.
    pub(super) fn square(&self) -> f64 {
        self.0.last().map_or(0.0, |sum| sum[2])
    }
}

impl Moments for Plain {
    fn len(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    #[inline(always)]
    fn error(&self, from: usize, to: usize) -> f64 {
        let (a, b) = (&self.0[from], &self.0[to]);
        let (w, s, q) = (b[0] - a[0], b[1] - a[1], b[2] - a[2]);
        let error = q - s * s / w;
        // Also for a weight that is nothing beside the sum.
        if error > 0.0 { error } else { 0.0 }
    }
}

/// A sum of two f64, the second below half a unit in the last place of the first.
#[derive(Debug, Clone, Copy, Default)]
struct Double {
    high: f64,
    low: f64,
}

/// `a + b` exactly (Knuth 1969).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let part = high - a;
    Double { high, low: (a - (high - part)) + (b - part) }
}

/// `a * b` exactly (Dekker 1971), for factors far from the ends of the range.
#[inline(always)]
fn two_product(a: f64, b: f64) -> Double {
    let split = |x: f64| {
        let c = 134_217_729.0 * x;
        let high = c - (c - x);
        (high, x - high)
    };
    let (high, (ah, al), (bh, bl)) = (a * b, split(a), split(b));
    Double { high, low: ((ah * bh - high) + ah * bl + al * bh) + al * bl }
}

impl Double {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let sum = two_sum(self.high, other.high);
        let low = sum.low + (self.low + other.low);
        let high = sum.high + low;
        Self { high, low: low - (high - sum.high) }
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        let sum = two_sum(self.high, -other.high);
        Self { high: sum.high, low: sum.low + (self.low - other.low) }
    }
}

/// Prefix sums in pairs of f64.
pub(super) struct Compensated(Vec<[Double; 3]>);

impl Compensated {
    pub(super) fn new(points: &Points) -> Self {
        let mut sums = Vec::with_capacity(points.len() + 1);
        let mut sum = [Double::default(); 3];
        sums.push(sum);
        for (&x, &w) in points.x.iter().zip(&points.weight) {
            let wx = two_product(w, x);
            let square = two_product(wx.high, x);
            let wxx = Double { high: square.high, low: square.low + wx.low * x };
            sum = [sum[0].plus(Double { high: w, low: 0.0 }), sum[1].plus(wx), sum[2].plus(wxx)];
            sums.push(sum);
        }
        Self(sums)
    }

    /// As [`Plain::at`].
    pub(super) fn at(&self, cuts: &[usize]) -> Self {
        Self(cuts.iter().map(|&cut| self.0[cut]).collect())
    }
}

impl Moments for Compensated {
    fn len(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    #[inline(always)]
    fn error(&self, from: usize, to: usize) -> f64 {
        let (a, b) = (&self.0[from], &self.0[to]);
        let (w, s, q) = (b[0].minus(a[0]), b[1].minus(a[1]), b[2].minus(a[2]));
        // The quotient to 53 bits, and what is missing of it: s = mean * w + rest.
        let mean = s.high / w.high;
        let product = two_product(mean, w.high);
        let rest = ((s.high - product.high) - product.low) + (s.low - mean * w.low);
        // s^2 / w = mean * s + mean * rest + rest^2 / w, the last of them below all digits.
        let square = two_product(mean, s.high);
        let error = (q.high - square.high) + (q.low - square.low - mean * (s.low + rest));
        if error > 0.0 { error } else { 0.0 }
    }
}
