//! Special functions of the densities: Φ and its inverse, and the principal branch of Lambert's W.
//!
//! The error function is that of `libm` (FreeBSD msun, below one unit in the last place), W that of `lambert_w`
//! (Toshio Fukushima, *Precise and fast computation of Lambert W function by piecewise minimax rational function
//! approximation with variable transformation*, 2020). The inverse of Φ is Michael J. Wichura's algorithm
//! AS 241 (*The Percentage Points of the Normal Distribution*, Applied Statistics 37, 1988), in its version for
//! 16 digits: with q = p − 1/2,
//!
//! ```text
//! |q| <= 0.425:     x = q A(0.180625 - q^2) / B(0.180625 - q^2)
//! otherwise:        r = sqrt(-ln min(p, 1 - p)),   x = ± C(r - 1.6) / D(r - 1.6)   up to r = 5,
//!                                                  x = ± E(r - 5) / F(r - 5)       beyond.
//! ```

use core::f64::consts::FRAC_1_SQRT_2;

/// 1/√(2π).
const INVERSE_ROOT_TAU: f64 = 0.398_942_280_401_432_7;

/// The error function, 2/√π ∫₀ˣ exp(−t²) dt.
#[cfg(test)]
pub(crate) fn erf(x: f64) -> f64 {
    libm::erf(x)
}

/// The complementary error function 1 − erf(x), without cancellation for large x.
pub(crate) fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

/// φ(x), the density of the standard normal distribution.
pub(crate) fn normal_density(x: f64) -> f64 {
    INVERSE_ROOT_TAU * (-0.5 * x * x).exp()
}

/// Φ(x), the standard normal distribution function. Its upper tail is Φ(−x).
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// Numerators and denominators of AS 241, from the constant term on.
const CENTRAL: [[f64; 8]; 2] = [
    [
        3.3871328727963665,
        133.14166789178438,
        1971.5909503065513,
        13731.69376550946,
        45921.95393154987,
        67265.7709270087,
        33430.57558358813,
        2509.0809287301227,
    ],
    [
        1.0,
        42.31333070160091,
        687.1870074920579,
        5394.196021424751,
        21213.794301586597,
        39307.89580009271,
        28729.085735721943,
        5226.495278852854,
    ],
];
const MIDDLE: [[f64; 8]; 2] = [
    [
        1.4234371107496835,
        4.630337846156546,
        5.769497221460691,
        3.6478483247632045,
        1.2704582524523684,
        0.2417807251774506,
        0.022723844989269184,
        0.0007745450142783414,
    ],
    [
        1.0,
        2.053191626637759,
        1.6763848301838038,
        0.6897673349851,
        0.14810397642748008,
        0.015198666563616457,
        0.0005475938084995345,
        1.0507500716444169e-9,
    ],
];
const TAIL: [[f64; 8]; 2] = [
    [
        6.657904643501103,
        5.463784911164114,
        1.7848265399172913,
        0.29656057182850487,
        0.026532189526576124,
        0.0012426609473880784,
        2.7115555687434876e-5,
        2.0103343992922881e-7,
    ],
    [
        1.0,
        0.599832206555888,
        0.1369298809227358,
        0.014875361290850615,
        0.0007868691311456133,
        1.8463183175100548e-5,
        1.421511758316446e-7,
        2.0442631033899397e-15,
    ],
];

/// The quotient of two polynomials.
fn quotient([numerator, denominator]: &[[f64; 8]; 2], x: f64) -> f64 {
    let value = |polynomial: &[f64; 8]| polynomial.iter().rev().fold(0.0, |sum, &c| sum * x + c);
    value(numerator) / value(denominator)
}

/// Φ⁻¹(p): the x below which the standard normal distribution has the mass p. −∞ at 0, ∞ at 1, NaN outside.
///
/// Within two units in the last place of x. Near p = 1 a number p holds few digits of 1 − p: for an upper tail
/// of mass p take −Φ⁻¹(p).
pub(crate) fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * quotient(&CENTRAL, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail == 0.0 {
        return f64::INFINITY.copysign(q);
    }
    let r = (-tail.ln()).sqrt();
    let x = if r <= 5.0 { quotient(&MIDDLE, r - 1.6) } else { quotient(&TAIL, r - 5.0) };
    x.copysign(q)
}

/// W₀(x): the w ≥ −1 with w·exp(w) = x. NaN below −1/e.
pub(crate) fn lambert_w0(x: f64) -> f64 {
    lambert_w::lambert_w0(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance in parts of the expected value.
    fn relative(value: f64, expected: f64) -> f64 {
        if expected == 0.0 { value.abs() } else { ((value - expected) / expected).abs() }
    }

    /// Values by mpmath 1.3 at 40 digits.
    #[test]
    fn phi() {
        for (x, expected) in [
            (-20.0, 2.7536241186062337e-89),
            (-8.5, 9.479534822203318e-18),
            (-3.0, 0.0013498980316300946),
            (-1.0, 0.15865525393145705),
            (-0.25, 0.4012936743170763),
            (0.0, 0.5),
            (0.5, 0.6914624612740131),
            (1.5, 0.9331927987311419),
            (4.0, 0.9999683287581669),
            (8.0, 0.9999999999999993),
        ] {
            // The argument of erfc is rounded once, which far out costs x² units in the last place.
            let tolerance = 2e-16 * (2.0 + x * x);
            assert!(relative(normal_cdf(x), expected) <= tolerance, "{x}: {:e}", normal_cdf(x));
            assert!(erf(x * FRAC_1_SQRT_2) + erfc(x * FRAC_1_SQRT_2) - 1.0 < 3e-16);
        }
    }

    /// Values by mpmath 1.3 at 40 digits, for the f64 nearest to each p.
    #[test]
    fn inverse_of_phi() {
        for (p, expected) in [
            (1e-300, -37.0470962993612),
            (1e-100, -21.273453560965326),
            (1e-20, -9.262340089798407),
            (1e-9, -5.9978070150076865),
            (1e-3, -3.0902323061678136),
            (0.02425, -1.972961051311885),
            (0.075, -1.439531470938456),
            (0.25, -0.6744897501960817),
            (0.425, -0.18911842627279252),
            (0.5, 0.0),
            (0.575, 0.18911842627279238),
            (0.9, 1.2815515655446006),
            (0.975, 1.9599639845400538),
            (0.999, 3.090232306167813),
        ] {
            assert!(relative(normal_quantile(p), expected) <= 4.5e-16, "{p}: {}", normal_quantile(p));
        }
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!([-0.1, 1.1, f64::NAN].into_iter().all(|p| normal_quantile(p).is_nan()));
    }

    /// Values by mpmath 1.3 at 40 digits.
    #[test]
    fn lambert() {
        for (x, expected) in [
            (-0.36, -0.8060843159708176),
            (-0.3, -0.4894022271802149),
            (-0.05, -0.05270598355154635),
            (1e-10, 9.999999999e-11),
            (0.5, 0.35173371124919584),
            (1.0, 0.5671432904097838),
            (core::f64::consts::E, 1.0),
            (10.0, 1.7455280027406994),
            (36.0, 2.620249424878908),
            (192.0, 3.8972294649451027),
            (1000.0, 5.249602852401596),
            (1e10, 20.028685413304952),
            (1e300, 684.2472086297608),
        ] {
            // Toward the branch point at -1/e the function is as steep as 1 / (1 + w).
            let tolerance = 1e-15 / (1.0 + expected);
            assert!(relative(lambert_w0(x), expected) <= tolerance.max(1e-15), "{x}: {}", lambert_w0(x));
        }
        assert!(lambert_w0(-0.4).is_nan());
    }
}
