//! The numbers of the papers: expected distortion on densities, and what calibrations find on known data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::approx_constant, reason = "a reference value that happens to be the root of two")]

mod common;

use common::{data_a, data_b, data_c, grid};
use lowbit::calibration::{Histogram, Interpolation, KlVariant};
use lowbit::prelude::*;
use lowbit::{Evidence, FloatType, Region};
use ndarray::{Array1, arr1};

/// Nodes and weights of Gauss–Legendre quadrature on [−1, 1], by Newton's method on the polynomial.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 0.0;
            for _ in 0..20 {
                let (mut before, mut now) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (before, now) = (now, ((2.0 * k - 1.0) * x * now - (k - 1.0) * before) / k);
                }
                slope = n as f64 * (x * now - before) / (x * x - 1.0);
                x -= now / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

fn gaussian(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn laplace(x: f64) -> f64 {
    (-std::f64::consts::SQRT_2 * x.abs()).exp() / std::f64::consts::SQRT_2
}

/// E[(x − Q(x))²] over [from, ∞) (from = 0) or the whole line, `levels` ascending, each value going to the
/// nearest one.
///
/// Every cell is cut at zero, where the Laplace density has its kink, and into pieces of at most 1/4, on
/// which 16 nodes are exact to the last digits; beyond 40 both densities are below 1e-24. All terms are
/// positive, so nothing cancels.
fn distortion(levels: &[f64], density: Density, positive_only: bool) -> f64 {
    let rule = gauss_legendre(16);
    let mut sum = 0.0;
    for (k, &level) in levels.iter().enumerate() {
        let low = if k == 0 { -40.0 } else { (levels[k - 1] + level) / 2.0 };
        let high = if k + 1 == levels.len() { 40.0 } else { (level + levels[k + 1]) / 2.0 };
        let halves = [(low.min(0.0), high.min(0.0)), (low.max(0.0), high.max(0.0))];
        for (from, to) in halves.into_iter().skip(usize::from(positive_only)) {
            let pieces = ((to - from) / 0.25).ceil().max(1.0);
            for piece in 0..pieces as usize {
                let half = (to - from) / pieces / 2.0;
                let middle = from + (2.0 * piece as f64 + 1.0) * half;
                sum += rule
                    .iter()
                    .map(|(x, w)| {
                        let x = middle + half * x;
                        half * w * (x - level).powi(2) * density(x)
                    })
                    .sum::<f64>();
            }
        }
    }
    sum
}

#[test]
fn the_quadrature_knows_unit_variance() {
    // One level at zero leaves the variance; 1e-13: rounding of some thousand positive terms.
    assert!((distortion(&[0.0], gaussian, false) - 1.0).abs() < 1e-13);
    assert!((distortion(&[0.0], laplace, false) - 1.0).abs() < 1e-13);
    // Max 1960: two levels at ±√(2/π) leave 1 − 2/π.
    let level = (2.0 / std::f64::consts::PI).sqrt();
    assert!((distortion(&[-level, level], gaussian, false) - (1.0 - level * level)).abs() < 1e-13);
}

/// The levels of the grid that `uniform` makes of the range [low, high], after a look at its cells: values
/// just on either side of every threshold get the codes of their own sides.
fn levels_of(uniform: Uniform, low: f64, high: f64) -> Vec<f64> {
    let uniform = uniform.scales(FloatType::F64).calibration(Fixed::new(low, high).unwrap());
    let codes = uniform.scheme().unwrap().codes();
    let (scale, zero) = grid(&uniform.quantize(&arr1(&[0.0f64])).unwrap(), 0);
    let levels: Vec<f64> = (codes.min()..=codes.max()).map(|q| scale * (f64::from(q) - zero)).collect();
    // 1e-9 of a step is far above the rounding of x / S, at most 2^8 · 2^-53.
    let sides: Vec<f64> = levels
        .windows(2)
        .flat_map(|pair| [-1e-9, 1e-9].map(|d| (pair[0] + pair[1]) / 2.0 + d * scale))
        .collect();
    let restored =
        uniform.quantize(&Array1::from_vec(sides)).unwrap().dequantize::<f64, ndarray::Ix1>().unwrap();
    for (sides, pair) in restored.as_slice().unwrap().chunks(2).zip(levels.windows(2)) {
        assert_eq!(sides, pair);
    }
    levels
}

/// Holds the distortion of the grid of `uniform` on the range of `clip` (scaled by 1) to `mse`, and checks
/// that the step is the best one.
fn check_optimum(
    what: &str,
    uniform: &Uniform,
    [low, high]: [f64; 2],
    step: f64,
    mse: f64,
    density: Density,
    positive_only: bool,
) {
    let at = |factor: f64| {
        let levels = levels_of(uniform.clone(), factor * low, factor * high);
        ((levels[1] - levels[0]) / factor, distortion(&levels, density, positive_only))
    };
    let (found_step, found) = at(1.0);
    // The range is step times an integer or half an integer, rounded a few times.
    assert!((found_step / step - 1.0).abs() < 1e-14, "{what}: step {found_step} for {step}");
    // The tolerance of the reference values.
    assert!((found / mse - 1.0).abs() < 1e-9, "{what}: {found} for {mse}");
    assert!(at(0.99).1 > found && at(1.01).1 > found, "{what}: the step is not the best");
}

/// lowbit reference values 01: bits, then step and mean squared error, for Gauss and Laplace.
const UNIFORM_MIDRISE: [(u32, [f64; 2], [f64; 2]); 8] = [
    (1, [1.5957691216057308, 0.3633802276324187], [1.4142135623730951, 0.5]),
    (2, [0.9956866859435063, 0.11884605038407721], [1.0873926893381312, 0.19630226325371827]),
    (3, [0.5860194414434869, 0.03743965939152353], [0.730933182470324, 0.07174779628111509]),
    (4, [0.3352006121999727, 0.0115428844313509], [0.46099536431266, 0.025350974615316674]),
    (5, [0.18813879027991826, 0.0034952113615055683], [0.2799885474053004, 0.008713220681944496]),
    (6, [0.10406300944201462, 0.0010400454087919329], [0.16568072490966057, 0.0029134307085489836]),
    (7, [0.056867672382358535, 0.0003043327708240368], [0.09609892071900725, 0.000948597005940192]),
    (8, [0.03076238758232461, 8.768618578409376e-05], [0.05484433829894233, 0.00030142032703671964]),
];
const INT_RESTRICTED: [(u32, [f64; 2], [f64; 2]); 7] = [
    (2, [1.2240063619249615, 0.19017403924790147], [1.4142135623730951, 0.26424111765711533]),
    (3, [0.6507697039968385, 0.046859974388822716], [0.8217525596839891, 0.08308651876375477]),
    (4, [0.35341131557140737, 0.01288938591070194], [0.4868849631760547, 0.027395222190409196]),
    (5, [0.19324852439718487, 0.0036932197723481656], [0.2874642387166443, 0.009085129328965068]),
    (6, [0.10548758605828057, 0.0010692891213835401], [0.16784863986163687, 0.0029795149335969688]),
    (7, [0.05726128072097709, 0.0003086217856091938], [0.09672586464564135, 0.0009599429177999081]),
    (8, [0.03087008604034915, 8.830803071792013e-05], [0.05502433209940437, 0.0003033017057638251]),
];
const INT_FULL: [(u32, [f64; 2], [f64; 2]); 7] = [
    (2, [1.0483852624850134, 0.14943106509298806], [1.2141264696606964, 0.2069946567813759]),
    (3, [0.6018242266853021, 0.04063824659275039], [0.762452471215868, 0.07199456094670813]),
    (4, [0.3386079357151854, 0.011864037710425445], [0.4676469708354303, 0.025260275692604348]),
    (5, [0.18879222290208067, 0.003525958578991734], [0.28127628153286266, 0.008690674558378523]),
    (6, [0.10417944701392877, 0.001042853327395979], [0.16591525417659597, 0.0029098256312012133]),
    (7, [0.05688734457342735, 0.00030457854196596994], [0.09613965403779132, 0.0009481200590096676]),
    (8, [0.03076557854276877, 8.770692197190091e-05], [0.05485114666416684, 0.0003013641933217803]),
];
const UINT_RELU: [(u32, [f64; 2], [f64; 2]); 8] = [
    (1, [1.2240063619249615, 0.09508701962395073], [1.4142135623730951, 0.13212055882855767]),
    (2, [0.6507697039968385, 0.023429987194411358], [0.8217525596839891, 0.04154325938187738]),
    (3, [0.35341131557140737, 0.00644469295535097], [0.4868849631760547, 0.013697611095204598]),
    (4, [0.19324852439718487, 0.0018466098861740828], [0.2874642387166443, 0.004542564664482534]),
    (5, [0.10548758605828057, 0.0005346445606917701], [0.16784863986163687, 0.0014897574667984844]),
    (6, [0.05726128072097709, 0.0001543108928045969], [0.09672586464564135, 0.00047997145889995405]),
    (7, [0.03087008604034915, 4.4154015358960066e-05], [0.05502433209940437, 0.00015165085288191255]),
    (8, [0.016528152830823057, 1.2504028492319519e-05], [0.0309339622770265, 4.7016365319096803e-05]),
];

type Density = fn(f64) -> f64;

fn densities(row: ([f64; 2], [f64; 2])) -> [(f64, f64, Density); 2] {
    [(row.0[0], row.0[1], gaussian), (row.1[0], row.1[1], laplace)]
}

#[test]
fn expected_distortion_of_mid_rise_grids() {
    for (bits, gauss, laplace) in UNIFORM_MIDRISE {
        let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap()).range(SymmetricRange::MidRise);
        for (step, mse, density) in densities((gauss, laplace)) {
            // 2^b levels at odd multiples of S/2: the range ends half a step beyond the last.
            let clip = step * f64::from(1 << bits) / 2.0;
            check_optimum(&format!("mid-rise {bits}"), &uniform, [-clip, clip], step, mse, density, false);
            let unsigned = uniform.clone().codes(Codes::Unsigned);
            check_optimum(&format!("mid-rise u{bits}"), &unsigned, [-clip, clip], step, mse, density, false);
        }
    }
}

#[test]
fn expected_distortion_of_restricted_grids() {
    for (bits, gauss, laplace) in INT_RESTRICTED {
        let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap()).range(SymmetricRange::Restricted);
        for (step, mse, density) in densities((gauss, laplace)) {
            let clip = step * f64::from((1 << (bits - 1)) - 1);
            check_optimum(&format!("restricted {bits}"), &uniform, [-clip, clip], step, mse, density, false);
        }
    }
}

#[test]
fn expected_distortion_of_full_grids() {
    for (bits, gauss, laplace) in INT_FULL {
        let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap()).range(SymmetricRange::Full);
        for (step, mse, density) in densities((gauss, laplace)) {
            // S = 2·max|r| / (2^b − 1) solved for max|r|.
            let clip = step * f64::from((1 << bits) - 1) / 2.0;
            check_optimum(&format!("full {bits}"), &uniform, [-clip, clip], step, mse, density, false);
        }
    }
}

#[test]
fn expected_distortion_of_unsigned_grids_after_relu() {
    for (bits, gauss, laplace) in UINT_RELU {
        let uniform = Uniform::asymmetric(BitWidth::new(bits).unwrap());
        for (step, mse, density) in densities((gauss, laplace)) {
            let clip = step * f64::from((1 << bits) - 1);
            check_optimum(&format!("relu {bits}"), &uniform, [0.0, clip], step, mse, density, true);
        }
    }
}

/// lowbit reference values 06_07. KL: variant, levels, bins kept, divergence, threshold. Percentiles of |x|: p,
/// nearest rank, linear, lower edge of its bin of 2048. MSE: bits, least error, error of min/max.
const KL_A: [(KlVariant, usize, usize, f64, f64); 6] = [
    (KlVariant::SlidesFloor, 128, 450, 0.0013561267369848417, 7.59751892866866),
    (KlVariant::SlidesDigitize, 128, 450, 0.0014331567785413615, 7.59751892866866),
    (KlVariant::SlidesFractional, 128, 450, 0.001359220642468035, 7.59751892866866),
    (KlVariant::Nvidia, 128, 450, 0.0014283610469102467, 7.589086610212868),
    (KlVariant::Mxnet, 128, 451, 0.001301637342106037, 7.605951247124452),
    (KlVariant::Nvidia, 256, 1702, 0.0006595602330650089, 28.703612023516225),
];
const PERCENTILE_A: [(f64, f64, f64, f64); 5] = [
    (90.0, 2.302485097993712, 2.3025050979937784, 2.2935906199754443),
    (99.0, 4.604170685655012, 4.604190685661682, 4.6040458768624735),
    (99.9, 6.897804948129013, 6.8978249487957966, 6.897636496837918),
    (99.99, 27.34509057651409, 27.345150777721205, 27.33757643367791),
    (99.999, 34.53877639492434, 32.89089092027246, 34.521911758012756),
];
const MSE_A: [(u32, f64, f64); 6] = [
    (2, 0.4025447009641744, 1.9259250950349842),
    (3, 0.2596566408791007, 1.1562781053719802),
    (4, 0.14275083457710544, 0.3817972958341152),
    (5, 0.052364991243489534, 0.09982443819403641),
    (6, 0.01666930522439772, 0.024827415574915614),
    (8, 0.0014358226895120878, 0.001527870757800564),
];
const KL_B: [(KlVariant, usize, usize, f64, f64); 5] = [
    (KlVariant::SlidesFloor, 128, 601, 0.00560574927492126, 4.2211387434813155),
    (KlVariant::SlidesDigitize, 128, 601, 0.005751526143148956, 4.2211387434813155),
    (KlVariant::SlidesFractional, 128, 601, 0.005730803154541757, 4.2211387434813155),
    (KlVariant::Nvidia, 128, 601, 0.005760386887254332, 4.217629899970524),
    (KlVariant::Mxnet, 128, 602, 0.005565075865589911, 4.224647586992106),
];
const PERCENTILE_B: [(f64, f64, f64, f64); 5] = [
    (90.0, 1.649200393949135, 1.6489109508800763, 1.6491564500716693),
    (99.0, 2.535647549130252, 2.535349768176921, 2.533385014790947),
    (99.9, 3.2932564601848, 3.252259481767256, 3.291295213121757),
    (99.99, 6.305181946838083, 6.0694139830266085, 6.301882945380251),
    (99.999, 14.372223020199058, 12.143403923028636, 14.365205333177476),
];
const MSE_B: [(u32, f64, f64); 6] = [
    (2, 0.19526926469965422, 1.0039754818016586),
    (3, 0.05294032551909737, 0.9538052831775841),
    (4, 0.019069224138080265, 0.34507319474851456),
    (5, 0.009442527033395763, 0.07633734015961863),
    (6, 0.005206552840822224, 0.01795692706621339),
    (8, 0.0009091813873465391, 0.0010642909287452893),
];
const KL_C: [(KlVariant, usize, usize, f64, f64); 6] = [
    (KlVariant::SlidesFloor, 128, 1009, 0.001528826867163505, 8.765471564877169),
    (KlVariant::SlidesDigitize, 128, 899, 0.0017574858112130885, 7.810343410210018),
    (KlVariant::SlidesFractional, 128, 916, 0.0014673890195570187, 7.957954125022215),
    (KlVariant::Nvidia, 128, 899, 0.0017574858112130885, 7.806001918597895),
    (KlVariant::Mxnet, 128, 884, 0.0014987849957200502, 7.675757170234193),
    (KlVariant::Nvidia, 256, 1079, 0.0007077548465238665, 9.368938898962323),
];
const PERCENTILE_C: [(f64, f64, f64, f64); 5] = [
    (90.0, 1.7320026978527985, 1.7320123203573268, 1.727913661625118),
    (99.0, 3.153546088939636, 3.153562019967994, 3.151922910401597),
    (99.9, 5.6080250100620095, 5.608053149552834, 5.600524179639201),
    (99.99, 9.764272360809873, 9.764322600567295, 9.75967314405343),
    (99.999, 17.782749643257496, 15.647367633567251, 17.77406666003325),
];
const MSE_C: [(u32, f64, f64); 6] = [
    (2, 0.1026653698150672, 1.41190148130045),
    (3, 0.045207623936020756, 0.8116365818334704),
    (4, 0.02000042696167728, 0.11946369893484324),
    (5, 0.008764153327108858, 0.027525184905409474),
    (6, 0.0035943409107152447, 0.006638166250713921),
    (8, 0.0003808025901783768, 0.0004053194480792143),
];

/// Counts of |x| in 2048 equal bins over [0, max |x|].
fn histogram(values: &[f64]) -> Histogram {
    let max = values.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    let width = max / 2048.0;
    let mut counts = vec![0; 2048];
    for x in values {
        counts[((x.abs() / width) as usize).min(2047)] += 1;
    }
    Histogram::new(0.0, max, counts).unwrap()
}

fn high_end(calibration: &dyn Calibration, evidence: Evidence<'_>, uniform: &Uniform) -> f64 {
    let scheme = uniform.scheme().unwrap();
    calibration.range(&Region::new(0, evidence), &scheme).unwrap().range.high()
}

#[test]
fn percentiles_are_the_reference_values() {
    let uniform = Uniform::symmetric(BitWidth::EIGHT);
    for (data, rows) in [(data_a(), PERCENTILE_A), (data_b(), PERCENTILE_B), (data_c(), PERCENTILE_C)] {
        let histogram = histogram(&data);
        for (p, nearest, linear, edge) in rows {
            let percentile = Percentile::new(p).unwrap();
            let interpolated = percentile.interpolation(Interpolation::Linear);
            let values = Evidence::from(&*data);
            // 1e-12 is the tolerance of the reference values.
            for (found, expected) in [
                (high_end(&percentile, values, &uniform), nearest),
                (high_end(&interpolated, values, &uniform), linear),
                (high_end(&percentile, Evidence::Histogram(&histogram), &uniform), edge),
            ] {
                assert!((found / expected - 1.0).abs() < 1e-12, "{p}: {found} for {expected}");
            }
            // Through the quantizer: the scale is that range over 127.
            let q = uniform.clone().scales(FloatType::F64).calibration(percentile);
            let (scale, _) = grid(&q.quantize(&arr1(&data)).unwrap(), 0);
            assert!((scale * 127.0 / nearest - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn mse_reaches_the_reference_values() {
    for (data, rows, unsigned) in [(data_a(), MSE_A, true), (data_b(), MSE_B, false), (data_c(), MSE_C, true)]
    {
        let data = Array1::from_vec(data);
        for (bits, least, at_min_max) in rows {
            let bits = BitWidth::new(bits).unwrap();
            let uniform = if unsigned { Uniform::asymmetric(bits) } else { Uniform::symmetric(bits) };
            let error = |uniform: Uniform| {
                uniform.scales(FloatType::F64).quantize(&data).unwrap().errors_against(&data).unwrap().mse()
            };
            let found = error(uniform.clone().calibration(Mse));
            // Within 1e-4 of the least; A and C hold no zero, so no zero point but q_min helps them.
            assert!((found / least - 1.0).abs() < 1e-4, "{bits}: {found} for {least}");
            // Sums of 50000 terms in different order.
            let found = error(uniform);
            assert!((found / at_min_max - 1.0).abs() < 1e-9, "{bits}: {found} for {at_min_max}");
        }
    }
}

#[test]
fn every_kl_variant_finds_the_reference_threshold() {
    for (data, rows) in [(data_a(), &KL_A[..]), (data_b(), &KL_B), (data_c(), &KL_C)] {
        let histogram = histogram(&data);
        for &(variant, levels, bins, divergence, threshold) in rows {
            let kl = Kl::default().variant(variant);
            let found = kl.threshold(&histogram, levels).unwrap();
            assert_eq!(found.bins, bins, "{variant}");
            // The tolerances of the reference values; the smoothed form is stated to 1e-4 only.
            let tolerance = if variant == KlVariant::Mxnet { 1e-4 } else { 1e-9 };
            assert!(
                (found.divergence - divergence).abs() < tolerance * divergence.max(1e-3),
                "{variant}: {found:?}"
            );
            assert!((found.threshold / threshold - 1.0).abs() < 1e-12, "{variant}: {found:?}");
            // On the values themselves, and on the histogram as evidence: 128 levels of a symmetric grid's
            // magnitudes, 256 of an unsigned grid on values of one sign.
            let uniform = if levels == 128 {
                Uniform::symmetric(BitWidth::EIGHT)
            } else {
                Uniform::asymmetric(BitWidth::EIGHT)
            };
            for evidence in [Evidence::from(&*data), Evidence::Histogram(&histogram)] {
                let high = high_end(&kl, evidence, &uniform);
                assert!((high / threshold - 1.0).abs() < 1e-12, "{variant}: {high} for {threshold}");
            }
        }
    }
}
