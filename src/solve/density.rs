//! What a scalar quantizer is fitted to: a density in closed form, or the distribution of given values.
//!
//! The distortion of a cell [a, b) of a quantizer and its best level need three numbers, the partial moments
//!
//! ```text
//! mu_j(a, b; c) = integral from a to b of (x - c)^j p(x) dx,   j = 0, 1, 2.
//! ```
//!
//! They are taken about a point c near the cell. Moments about zero would give the same by subtraction, but of
//! numbers x² while the result is of the order of (b − a)²: at 256 levels five digits are gone, at 65536 all.
//!
//! All densities have E[x²] = 1; those symmetric about zero therefore have variance 1. Whoever quantizes with a
//! scale σ multiplies levels and thresholds by σ and the distortion by σ².

use core::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::special::{normal_cdf, normal_density, normal_quantile};

/// The mass of an interval, and the first and second moment of its values about some point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Moments {
    /// ∫ p(x) dx.
    pub mass: f64,
    /// ∫ (x − c) p(x) dx.
    pub first: f64,
    /// ∫ (x − c)² p(x) dx.
    pub second: f64,
}

impl Moments {
    /// The moments of both of two disjoint intervals.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            mass: self.mass + other.mass,
            first: self.first + other.first,
            second: self.second + other.second,
        }
    }

    /// The moments of what is in the first but not in the second, which is part of it.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            mass: self.mass - other.mass,
            first: self.first - other.first,
            second: self.second - other.second,
        }
    }

    /// Those of the mirror image about zero, taken about the mirror image of the point.
    fn mirrored(self) -> Self {
        Self { first: -self.first, ..self }
    }

    /// The same mass `factor` times.
    fn times(self, factor: f64) -> Self {
        Self { mass: self.mass * factor, first: self.first * factor, second: self.second * factor }
    }
}

/// A distribution of total mass 1 on the line.
pub(crate) trait Source {
    /// The moments of [low, high) about `center`. Either end may be infinite.
    fn moments(&self, low: f64, high: f64, center: f64) -> Moments;

    /// The least x below which there is the mass `p`.
    fn quantile(&self, p: f64) -> f64;

    /// The ends of the line or of the interval outside which there is nothing.
    fn support(&self) -> (f64, f64);

    /// A point about which the moments of [low, high) do not cancel.
    fn center(&self, low: f64, high: f64) -> f64 {
        match (low.is_finite(), high.is_finite()) {
            (true, true) => low + 0.5 * (high - low),
            (true, false) => low,
            (false, true) => high,
            (false, false) => 0.0,
        }
    }

    /// What one unit of x is in units of the user.
    fn unit(&self) -> f64 {
        1.0
    }
}

/// A density of closed form with E[x²] = 1.
///
/// All of them are log-concave, so that a Lloyd-Max quantizer of theirs is the only one (Fleischer 1964).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Density {
    /// φ(x) = exp(−x²/2)/√(2π).
    Gaussian,
    /// exp(−√2·|x|)/√2.
    Laplace,
    /// 1/(2√3) from −√3 to √3.
    Uniform,
    /// 2φ(x) for x ≥ 0: the positive half of Gaussian values, or their magnitude.
    HalfNormal,
}

/// √3, half the width of the uniform density.
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// Nodes and weights of the Gauss-Legendre rule of 8 points on [−1, 1], one of each pair.
const GAUSS_LEGENDRE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

impl Density {
    /// p(x).
    pub(crate) fn density(self, x: f64) -> f64 {
        match self {
            Self::Gaussian => normal_density(x),
            Self::Laplace => FRAC_1_SQRT_2 * (-SQRT_2 * x.abs()).exp(),
            Self::Uniform if x.abs() <= SQRT_3 => 0.5 / SQRT_3,
            Self::HalfNormal if x >= 0.0 => 2.0 * normal_density(x),
            Self::Uniform | Self::HalfNormal => 0.0,
        }
    }

    /// The quantile `p` of the density that is proportional to the cube root of this one: where the levels of
    /// a quantizer with very many levels lie (P. F. Panter and W. Dite, *Quantization distortion in pulse-count
    /// modulation with nonuniform spacing of levels*, 1951).
    pub(crate) fn companding_quantile(self, p: f64) -> f64 {
        let stretch = match self {
            Self::Gaussian | Self::HalfNormal => SQRT_3,
            Self::Laplace => 3.0,
            Self::Uniform => 1.0,
        };
        stretch * self.quantile(p)
    }

    /// The moments of an interval of the non-negative half line.
    fn half_line(self, low: f64, high: f64, center: f64) -> Moments {
        // How fast the density changes: its logarithm has a slope of at most this over a unit of x.
        let slope = match self {
            Self::Gaussian | Self::HalfNormal => high.max(1.0),
            Self::Laplace | Self::Uniform => SQRT_2,
        };
        if (high - low) * slope <= 1.0 {
            self.quadrature(low, high, center)
        } else {
            self.beyond(low, center).less(self.beyond(high, center))
        }
    }

    /// By the Gauss-Legendre rule: no subtraction, hence no cancellation. The error of 8 points is
    /// `w^17 (8!)^4 / (17 (16!)^3)` times the sixteenth derivative: below 1e-16 of the integral if the density
    /// changes by a factor of e at most.
    fn quadrature(self, low: f64, high: f64, center: f64) -> Moments {
        let half = 0.5 * (high - low);
        let middle = low + half;
        let mut sum = Moments::default();
        for (node, weight) in GAUSS_LEGENDRE {
            for x in [middle - half * node, middle + half * node] {
                let (mass, x) = (weight * half * self.density(x), x - center);
                sum = sum.plus(Moments { mass, first: mass * x, second: mass * x * x });
            }
        }
        sum
    }

    /// The moments of [x, ∞) for x ≥ 0.
    fn beyond(self, x: f64, center: f64) -> Moments {
        if x == f64::INFINITY {
            return Moments::default();
        }
        match self {
            Self::Gaussian => {
                let (tail, density) = (normal_cdf(-x), normal_density(x));
                Moments {
                    mass: tail,
                    first: density - center * tail,
                    second: (x - 2.0 * center) * density + (1.0 + center * center) * tail,
                }
            }
            Self::HalfNormal => Self::Gaussian.beyond(x, center).times(2.0),
            Self::Laplace => {
                // The tail of an exponential density is another one that starts at x.
                let (tail, distance) = (0.5 * (-SQRT_2 * x).exp(), x - center);
                Moments {
                    mass: tail,
                    first: tail * (distance + FRAC_1_SQRT_2),
                    second: tail * (distance * distance + SQRT_2 * distance + 1.0),
                }
            }
            Self::Uniform => Self::rectangle(x.min(SQRT_3), SQRT_3, center),
        }
    }

    /// The moments of a part of the uniform density.
    fn rectangle(low: f64, high: f64, center: f64) -> Moments {
        let half = 0.5 * (high - low);
        let (mass, distance) = (half / SQRT_3, low + half - center);
        Moments { mass, first: mass * distance, second: mass * (distance * distance + half * half / 3.0) }
    }
}

impl Source for Density {
    fn moments(&self, low: f64, high: f64, center: f64) -> Moments {
        let (start, end) = self.support();
        let (low, high) = (low.max(start), high.min(end));
        if low >= high {
            return Moments::default();
        }
        if *self == Self::Uniform {
            return Self::rectangle(low, high, center);
        }
        let negative = if low < 0.0 {
            self.half_line(-high.min(0.0), -low, -center).mirrored()
        } else {
            Moments::default()
        };
        if high > 0.0 { negative.plus(self.half_line(low.max(0.0), high, center)) } else { negative }
    }

    fn quantile(&self, p: f64) -> f64 {
        match self {
            Self::Gaussian => normal_quantile(p),
            Self::Laplace if p < 0.5 => FRAC_1_SQRT_2 * (2.0 * p).ln(),
            Self::Laplace => -FRAC_1_SQRT_2 * (2.0 * (1.0 - p)).ln(),
            Self::Uniform => SQRT_3 * (2.0 * p - 1.0),
            Self::HalfNormal => -normal_quantile(0.5 * (1.0 - p)),
        }
    }

    fn support(&self) -> (f64, f64) {
        match self {
            Self::Gaussian | Self::Laplace => (f64::NEG_INFINITY, f64::INFINITY),
            Self::Uniform => (-SQRT_3, SQRT_3),
            Self::HalfNormal => (0.0, f64::INFINITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Density; 4] = [Density::Gaussian, Density::Laplace, Density::Uniform, Density::HalfNormal];

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * b.abs().max(f64::MIN_POSITIVE)
    }

    /// Integrals by mpmath 1.3 at 40 digits.
    #[test]
    fn partial_moments() {
        let gaussian = [
            ((-1.0, 2.0, 0.5), [0.8185946141203637, -0.22131754905422657, 0.48531085209897995]),
            ((3.0, 3.125, 3.0625), [0.00046087273252166244, -1.8323666083402273e-06, 6.027023136567088e-07]),
            ((6.0, 12.0, 6.0), [9.86587645037698e-10, 1.5635697959709664e-10, 4.8445767455118286e-11]),
            ((-0.5, -0.25, 0.0), [0.09275613559108938, -0.03460279003854973, 0.013390501409651942]),
        ];
        let laplace = [
            ((-1.0, 2.0, 0.5), [0.8488887595019148, -0.29693405042715193, 0.4383331197721011]),
            ((3.0, 3.125, 3.0625), [0.0011641752037545897, -2.1426243536797856e-06, 1.5174309696215262e-06]),
            ((6.0, 12.0, 6.0), [0.00010322132781331575, 7.286059233268303e-05, 0.00010227298667626477]),
            ((-0.5, -0.25, 0.0), [0.10455990496565991, -0.038441407658449084, 0.014674164309341672]),
        ];
        for (density, cases) in [(Density::Gaussian, gaussian), (Density::Laplace, laplace)] {
            for ((low, high, center), [mass, first, second]) in cases {
                let found = density.moments(low, high, center);
                let mirror = density.moments(-high, -low, -center);
                // Beyond 6 the Gaussian tail itself is good to 36 units in the last place, and 6^4 of it cancel.
                let tolerance = if density == Density::Gaussian && low == 6.0 { 1e-11 } else { 4e-15 };
                for (value, expected) in [(found.mass, mass), (found.second, second), (mirror.second, second)]
                {
                    assert!(
                        close(value, expected, tolerance),
                        "{density:?} {low} {high}: {value} {expected}"
                    );
                }
                let scale = mass * (high - low);
                assert!((found.first - first).abs() <= tolerance * scale, "{density:?} {low}: {found:?}");
                assert!((mirror.first + first).abs() <= tolerance * scale, "{density:?} {low}: {mirror:?}");
            }
        }
    }

    #[test]
    fn whole_line() {
        for density in ALL {
            let all = density.moments(f64::NEG_INFINITY, f64::INFINITY, 0.0);
            assert!(close(all.mass, 1.0, 1e-15) && close(all.second, 1.0, 1e-15), "{density:?}: {all:?}");
            let mean =
                if density == Density::HalfNormal { (2.0 / core::f64::consts::PI).sqrt() } else { 0.0 };
            assert!((all.first - mean).abs() < 1e-15, "{density:?}: {all:?}");
        }
    }

    /// The two ways to a moment agree where one gives way to the other.
    #[test]
    fn closed_form_and_quadrature_agree() {
        for density in [Density::Gaussian, Density::Laplace, Density::HalfNormal] {
            for low in [0.0, 0.4, 1.0, 2.5, 5.0] {
                let high = low + 0.7 / f64::max(1.0, low + 0.2);
                let middle = 0.5 * (low + high);
                let a = density.quadrature(low, high, middle);
                let b = density.beyond(low, middle).less(density.beyond(high, middle));
                let scale = a.mass * (1.0 + middle * middle);
                assert!(close(a.mass, b.mass, 8e-15), "{density:?} {low}: {a:?} {b:?}");
                assert!((a.first - b.first).abs() <= 8e-15 * scale, "{density:?} {low}: {a:?} {b:?}");
                assert!((a.second - b.second).abs() <= 8e-15 * scale, "{density:?} {low}: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn quantiles_invert_the_mass() {
        for density in ALL {
            for p in [1e-12, 1e-3, 0.2, 0.5, 0.7, 0.999] {
                let x = density.quantile(p);
                let mass = density.moments(f64::NEG_INFINITY, x, x).mass;
                // Tails are exact in proportion, ends of a support only in place.
                let tails = matches!(density, Density::Gaussian | Density::Laplace);
                let tolerance = if tails { 1e-13 * p } else { 4e-16 };
                assert!((mass - p).abs() <= tolerance, "{density:?} {p}: {mass}");
            }
            assert_eq!((density.quantile(0.0), density.quantile(1.0)), density.support(), "{density:?}");
        }
    }

    #[test]
    fn empty_intervals() {
        for density in ALL {
            for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (60.0, 61.0), (1.0, f64::NAN)] {
                // NaN as an end is no end.
                let expected_empty = !low.is_nan() && !high.is_nan();
                let found = density.moments(low, high, 0.0);
                assert!(found.mass.is_finite(), "{density:?}");
                assert!(!expected_empty || found.mass < 1e-30, "{density:?} {low} {high}: {found:?}");
            }
        }
    }
}
