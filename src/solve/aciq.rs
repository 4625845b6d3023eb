//! Clipping values of least expected squared error for Gaussian and Laplace densities.
//!
//! Banner, Nahshan and Soudry 2019, *Post training 4-bit quantization of convolutional networks for
//! rapid-deployment* (ACIQ), model a grid of `2^M` cells in `[-a, a]` as clipping beyond and uniform noise within:
//!
//! ```text
//! Laplace(b):   MSE(a) = 2 b^2 e^(-a/b) + a^2 / (3 4^M)            =>  a / b = W(3 4^M), Lambert's function
//! Gauss(sigma): MSE(a) = (a^2 + sigma^2) (1 - erf(a / (sigma sqrt 2))) + a^2 / (3 4^M)
//!                        - sqrt(2 / pi) a sigma e^(-a^2 / 2 sigma^2)
//! ```
//!
//! At 2 and 3 bits neither holds: the cells are too wide for uniform noise, and integer grids have a level at zero.
//! The exact condition for levels `S m` and nearest decisions at `T_j = S (m_j + 1/2)` is, by the derivative of
//! `E = sum over m of the integral of (x - S m)^2 p(x)` (the decisions, being best, do not contribute),
//!
//! ```text
//! sum over m of  m (integral of (x - S m) p(x) over the cell of m) = 0.
//! ```
//!
//! Both densities have their partial moments in closed form, so this is a root in one variable.

use core::f64::consts::{FRAC_1_SQRT_2, PI};

use super::special::{erfc, lambert_w0};

/// A symmetric density around zero, of unit parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitDensity {
    /// Standard deviation 1.
    Gaussian,
    /// Mean magnitude 1.
    Laplace,
}

/// Levels on one side of zero, in steps: the one that values next to zero take, and how many more follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Side {
    /// 0 where zero is a level, ½ where it is between two.
    pub base: f64,
    /// Levels beyond the first.
    pub more: u32,
}

impl UnitDensity {
    /// The integrals of `p(x)` and of `x p(x)` from `t ≥ 0` on.
    fn tail(self, t: f64) -> (f64, f64) {
        match self {
            Self::Gaussian => (0.5 * erfc(t * FRAC_1_SQRT_2), (-0.5 * t * t).exp() / (2.0 * PI).sqrt()),
            Self::Laplace => {
                let half = 0.5 * (-t).exp();
                (half, (1.0 + t) * half)
            }
        }
    }

    /// The clipping value of the published formula, for `cells` cells in `[-a, a]`, or in `[0, a]` where values are
    /// of one sign: the formula for twice as many.
    pub(crate) fn published(self, cells: f64, one_sided: bool) -> f64 {
        let cells = if one_sided { 2.0 * cells } else { cells };
        let c = 3.0 * cells * cells;
        match self {
            Self::Laplace => lambert_w0(c),
            Self::Gaussian => {
                // The derivative, halved. It falls from negative through zero at the minimum.
                let slope = |a: f64| {
                    let (mass, first) = self.tail(a);
                    2.0 * a * mass - 2.0 * first + a / c
                };
                root(slope, 0.1, 40.0)
            }
        }
    }

    /// The step S of least expected squared error for levels on the given sides of zero. `near` is a step somewhere
    /// near. `None` without levels to place.
    ///
    /// Time O(levels) for each of about fifteen steps of the search.
    pub(crate) fn best_step(self, sides: &[Side], near: f64) -> Option<f64> {
        if sides.iter().all(|side| side.more == 0 && side.base <= 0.0) {
            return None;
        }
        // Negative where S is too small.
        let slope = |step: f64| -> f64 {
            sides
                .iter()
                .map(|side| {
                    let (mass, first) = self.tail(0.0);
                    let mut sum = side.base * (step * side.base * mass - first);
                    for j in 0..side.more {
                        let decision = step * (side.base + f64::from(j) + 0.5);
                        let (mass, first) = self.tail(decision);
                        if mass == 0.0 {
                            break;
                        }
                        sum += 2.0 * decision * mass - first;
                    }
                    sum
                })
                .sum()
        };
        let mut high = near;
        for _ in 0..60 {
            if slope(high) > 0.0 {
                break;
            }
            high *= 1.25;
        }
        Some(root(slope, near / 8.0, high))
    }
}

/// The root of a function that is negative below it, in `[low, high]`: the Illinois form of regula falsi.
fn root(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let (mut at_low, mut at_high) = (f(low), f(high));
    let mut last = 0;
    for _ in 0..200 {
        if high - low <= 4.0 * f64::EPSILON * high || at_low == at_high {
            break;
        }
        let falsi = (low * at_high - high * at_low) / (at_high - at_low);
        let x = if falsi > low && falsi < high { falsi } else { 0.5 * (low + high) };
        let y = f(x);
        if y == 0.0 {
            return x;
        }
        if y < 0.0 {
            (low, at_low) = (x, y);
            at_high *= if last == -1 { 0.5 } else { 1.0 };
            last = -1;
        } else {
            (high, at_high) = (x, y);
            at_low *= if last == 1 { 0.5 } else { 1.0 };
            last = 1;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    use UnitDensity::{Gaussian, Laplace};

    /// lowbit reference values 02: a/σ and a/b for 1 to 8 bits, then the one-sided value of 8 bits.
    const GAUSS: [f64; 9] = [
        1.2399052709844558,
        1.7106351681140437,
        2.1515927447403467,
        2.5591364619753367,
        2.9362006121084447,
        3.286914215213757,
        3.615114215262781,
        3.924035489880782,
        4.216329825704023,
    ];
    const LAPLACE: [f64; 9] = [
        1.862816864432358,
        2.8306829893702337,
        3.8972294649451027,
        5.028640136236213,
        6.204766334013321,
        7.4131262138435705,
        8.645619984034424,
        9.896759770017528,
        11.162685017743998,
    ];

    #[test]
    fn published_formula() {
        for (density, table) in [(Gaussian, GAUSS), (Laplace, LAPLACE)] {
            for (bits, pair) in (1..).zip(table.windows(2)) {
                let cells = f64::from(1 << bits);
                // The tolerance of the reference values is 1e-6; the roots are there to more digits.
                assert!((density.published(cells, false) / pair[0] - 1.0).abs() < 1e-12, "{bits}");
                assert!((density.published(cells, true) / pair[1] - 1.0).abs() < 1e-12, "{bits}");
            }
        }
    }

    /// lowbit reference values 02, `exact_optimum_item1`: clipping values for mid-rise, restricted and one-sided
    /// grids of 2 to 8 bits.
    const EXACT_GAUSS: [[f64; 3]; 7] = [
        [1.9913733718870126, 1.2240063619249615, 1.9523091119905156],
        [2.3440777657739478, 1.9523091119905156, 2.473879208999852],
        [2.6816048975997817, 2.473879208999852, 2.898727865957773],
        [3.010220644478692, 2.898727865957773, 3.2701151678066975],
        [3.3300163021444678, 3.2701151678066975, 3.607460685421557],
        [3.6395310324709462, 3.607460685421557, 3.920500927124342],
        [3.93758561053755, 3.920500927124342, 4.21467897185988],
    ];
    const EXACT_LAPLACE: [[f64; 3]; 7] = [
        [3.075610977774678, 2.0000000000000004, 3.486400844459711],
        [4.134782479352242, 3.486400844459711, 4.819915227673711],
        [5.215567171216718, 4.819915227673711, 6.09803737635503],
        [6.335417616795489, 6.09803737635503, 7.35858851046433],
        [7.497853702113532, 7.35858851046433, 8.617834865690208],
        [8.69788140865516, 8.617834865690208, 9.88265190286836],
        [9.927885701343028, 9.88265190286836, 11.155543392477691],
    ];

    #[test]
    fn exact_optimum_of_the_grids() {
        for (density, table) in [(Gaussian, EXACT_GAUSS), (Laplace, EXACT_LAPLACE)] {
            for (bits, row) in (2u32..).zip(table) {
                let half = 1u32 << (bits - 1);
                let mid_rise = [Side { base: 0.5, more: half - 1 }; 2];
                let restricted = [Side { base: 0.0, more: half - 1 }; 2];
                let one_sided = [Side { base: 0.0, more: 2 * half - 1 }];
                let near = density.published(f64::from(2 * half), false) / f64::from(half);
                let found = [
                    density.best_step(&mid_rise, near).unwrap() * f64::from(half),
                    density.best_step(&restricted, near).unwrap() * f64::from(half - 1),
                    density.best_step(&one_sided, near).unwrap() * f64::from(2 * half - 1),
                ];
                for (found, expected) in found.into_iter().zip(row) {
                    assert!((found / expected - 1.0).abs() < 1e-9, "{density:?} {bits}: {found} {expected}");
                }
            }
        }
    }

    /// The full grid, [−2^(b−1), 2^(b−1) − 1]: half its steps, from the table of steps of lowbit reference values 01.
    #[test]
    fn exact_optimum_of_full_grids() {
        for (bits, gauss, laplace) in [
            (2, 1.0483852624850134, 1.2141264696606964),
            (3, 0.6018242266853021, 0.762452471215868),
            (8, 0.03076557854276877, 0.05485114666416684),
        ] {
            let half = 1u32 << (bits - 1);
            let sides = [Side { base: 0.0, more: half - 1 }, Side { base: 0.0, more: half }];
            // Reference 01 has Laplace of unit variance: b = 1/√2.
            for (density, step) in [(Gaussian, gauss), (Laplace, laplace * 2f64.sqrt())] {
                let found = density.best_step(&sides, 2.0 / f64::from(half)).unwrap();
                assert!((found / step - 1.0).abs() < 1e-9, "{density:?} {bits}: {found} {step}");
            }
        }
    }

    #[test]
    fn nothing_to_place_is_none() {
        assert_eq!(Gaussian.best_step(&[Side { base: 0.0, more: 0 }], 1.0), None);
        assert_eq!(Gaussian.best_step(&[], 1.0), None);
    }
}
