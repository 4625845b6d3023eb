use proptest::prelude::*;

use super::super::magnitudes::densities::{Gaussian, Laplace, laplace_quantiles, normal_quantiles};
use super::super::samples::SplitMix64;
use super::*;

/// lowbit reference values 03, `population`: greedy, refined, alternating and the least known, of 1 to 4 bits.
const GAUSSIAN: [[f64; 4]; 4] = [
    [0.3633802276324186, 0.3633802276324186, 0.3633802276324186, 0.3633802276324186],
    [0.13045411047512998, 0.12508349173151145, 0.1174818478293293, 0.11748184782932902],
    [0.058393595499683024, 0.05051685597541529, 0.036942622474666315, 0.035267131068740465],
    [0.03289769122441606, 0.024590771756547343, 0.011442475954557144, 0.00988999017308],
];
const LAPLACE: [[f64; 4]; 4] = [
    [0.4999999999999999, 0.4999999999999999, 0.4999999999999999, 0.4999999999999999],
    [0.2293294335267746, 0.20901164656533688, 0.1761948810540425, 0.17619488105404255],
    [0.14255507650658164, 0.11661698039699311, 0.05598246680985013, 0.05598246680984991],
    [0.0951200704988556, 0.0611855111617989, 0.01914060588901001, 0.017434122210686097],
];

/// The same, coefficients of four bits: greedy, refined, and the least known of three bits.
const GAUSSIAN_GREEDY: [f64; 4] =
    [0.7978845608028654, 0.4826241986859844, 0.26844089661496623, 0.15967436950013913];
const GAUSSIAN_REFINED: [f64; 4] =
    [0.91911741555274, 0.535454810898282, 0.29990139738811233, 0.16417725275356101];
const GAUSSIAN_LEAST_3: [f64; 3] = [0.9882523590127366, 0.7481540750656149, 0.4510320743027657];

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() < tolerance, "{found} {expected}");
}

/// The error of each method's own codes: greedy, refined, alternating; and of the best.
fn errors(moments: &impl Moments, bits: usize) -> [f64; 4] {
    let own = |(pieces, alpha): (Pieces, Coefficients)| pieces.squared_error(bits, &alpha);
    let mut pieces = Pieces::whole(moments);
    let [.., best] = search::candidates(moments, bits);
    [
        own(greedy(moments, bits, false)),
        own(greedy(moments, bits, true)),
        own(alternating(moments, bits, 500)),
        pieces.nearest_error(moments, bits, &best),
    ]
}

#[test]
fn reference_densities() {
    fn check(moments: &impl Moments, rows: [[f64; 4]; 4]) {
        for (row, bits) in rows.into_iter().zip(1..) {
            let [greedy, refined, alternating, best] = errors(moments, bits);
            close(greedy, row[0], 1e-6);
            close(refined, row[1], 1e-6);
            close(alternating, row[2], 1e-6);
            close(best, row[3], 1e-9);
            let rounding = 1e-12;
            assert!(greedy >= refined - rounding && refined >= alternating - rounding);
            assert!(alternating >= best - rounding && alternating >= row[3] - rounding);
            if bits > 1 {
                assert!(greedy > refined && refined > alternating);
            }
        }
    }
    check(&Gaussian, GAUSSIAN);
    check(&Laplace, LAPLACE);
    for (alpha, expected) in [
        (greedy(&Gaussian, 4, false).1, &GAUSSIAN_GREEDY[..]),
        (greedy(&Gaussian, 4, true).1, &GAUSSIAN_REFINED),
        (descending(search::candidates(&Gaussian, 3)[2]), &GAUSSIAN_LEAST_3),
    ] {
        alpha.iter().zip(expected).for_each(|(&found, &expected)| close(found, expected, 1e-6));
    }
}

/// lowbit reference values 03, `sample`, of 2 to 4 bits: greedy, refined, alternating with 1, 2, 5, 20 and 100
/// rounds, and the same without the coefficients fitted in the end.
const SAMPLE: [[f64; 12]; 3] = [
    [
        0.1258922931867775,
        0.1209742878615445,
        0.11643176631895356,
        0.11479315185939071,
        0.11399193674414834,
        0.11396011870630832,
        0.11396011739235497,
        0.11815210603524133,
        0.11541600039738759,
        0.1140143982512972,
        0.11396011899479974,
        0.11396011739235497,
    ],
    [
        0.05471118791842338,
        0.0474933298472886,
        0.04517416464222949,
        0.041914003124298764,
        0.03721723542246558,
        0.035246428588764915,
        0.035235294232642954,
        0.04750475778785977,
        0.04339305070250069,
        0.037672321641428835,
        0.035249167799646174,
        0.035235294232642954,
    ],
    [
        0.029938229487833264,
        0.022445305927306054,
        0.021331624362554792,
        0.018604900230664616,
        0.014283937606332711,
        0.01090834084652802,
        0.010742978118537042,
        0.023160159533835503,
        0.019868305825872627,
        0.014757113862648547,
        0.01092406969332545,
        0.010742978118537042,
    ],
];
const NORMAL_GRID: [[f64; 12]; 3] = [
    [
        0.13044239353053633,
        0.12507015148592118,
        0.12011554410262014,
        0.11839359661841356,
        0.11751023591658252,
        0.11747055677416408,
        0.11747055677416408,
        0.12198458611973265,
        0.11904032073060983,
        0.11753771563519902,
        0.11747055677416408,
        0.11747055677416408,
    ],
    [
        0.058381666629419814,
        0.05050289284027703,
        0.047924264711855256,
        0.04436874565869357,
        0.039270116680267975,
        0.03693928816318887,
        0.036932128377049754,
        0.050475815577951805,
        0.04597650458766305,
        0.039774240805114595,
        0.03694079658747287,
        0.036932128377049754,
    ],
    [
        0.0328860341925826,
        0.024577692170092504,
        0.02358061011262856,
        0.020503519250882205,
        0.015564484512866749,
        0.011653331187359828,
        0.01143359440540408,
        0.025616919044136696,
        0.021930383108372052,
        0.016109675448403683,
        0.011673071190948351,
        0.01143359440540408,
    ],
];
const LAPLACE_GRID: [[f64; 12]; 3] = [
    [
        0.22924728309783285,
        0.20893082512610228,
        0.18893629504700113,
        0.1811250942838998,
        0.1764151540152179,
        0.17611267657111568,
        0.17611267657111568,
        0.19705903861074428,
        0.18423787956258755,
        0.17659677861090256,
        0.17611267657111568,
        0.17611267657111568,
    ],
    [
        0.14246613225126095,
        0.11652993580367035,
        0.09010315922298169,
        0.07599492483602442,
        0.061445040990238266,
        0.05592560469866823,
        0.055900854457365534,
        0.10674445971880486,
        0.08201753682993854,
        0.06271461765608537,
        0.05593039594652183,
        0.055900854457365534,
    ],
    [
        0.09502883936049444,
        0.0610959729525196,
        0.058525295718273744,
        0.04844722819805601,
        0.032967071956342624,
        0.02002161244093126,
        0.019070218062764245,
        0.06648201681958109,
        0.05308654974592012,
        0.03474251538322539,
        0.02009439085156009,
        0.019070218062764245,
    ],
];

fn sample() -> Vec<f64> {
    let mut random = SplitMix64(20_240_101);
    (0..65_536).map(|_| random.normal()).collect()
}

#[test]
fn reference_samples() {
    for (values, first, one_bit, rows) in [
        (sample(), -0.4034267647498657, 0.3581056029847509, SAMPLE),
        (normal_quantiles(65_536), -4.324919040826045, 0.36337080635217583, NORMAL_GRID),
        (laplace_quantiles(65_536), -11.090354888959125, 0.4999440335446238, LAPLACE_GRID),
    ] {
        // Newton's method knows the tail to 1e-16 of the whole.
        close(values[0], first, 1e-11);
        let magnitudes = Magnitudes::new(&values).unwrap();
        let square = magnitudes.total().square;
        for rule in
            [BinaryRule::Greedy, BinaryRule::Refined, BinaryRule::Alternating { rounds: 2 }, BinaryRule::Best]
        {
            let code = fit(&magnitudes, 1, rule).unwrap();
            close(code.squared_error / values.iter().map(|x| x * x).sum::<f64>(), one_bit, 1e-9);
        }
        for (row, bits) in rows.iter().zip(2..) {
            for (&expected, refit) in row.iter().zip([false, true]) {
                let (pieces, alpha) = greedy(&magnitudes, bits, refit);
                close(pieces.squared_error(bits, &alpha) / square, expected, 1e-9);
            }
            for (i, rounds) in [1, 2, 5, 20, 100].into_iter().enumerate() {
                let (pieces, alpha) = alternating(&magnitudes, bits, rounds);
                close(pieces.squared_error(bits, &alpha) / square, row[2 + i], 1e-9);
                let (mut pieces, alpha) = alternating(&magnitudes, bits, rounds - 1);
                close(pieces.nearest_error(&magnitudes, bits, &alpha) / square, row[7 + i], 1e-9);
            }
        }
    }
}

/// Squared error by comparing every value with every sum.
fn by_definition(values: &[f64], alpha: &[f64]) -> f64 {
    let sums = sums(alpha);
    let error = |x: &f64| sums.iter().map(|sum| (x - sum.value).powi(2)).fold(f64::INFINITY, f64::min);
    values.iter().map(error).sum()
}

const RULES: [BinaryRule; 5] = [
    BinaryRule::Greedy,
    BinaryRule::Refined,
    BinaryRule::Alternating { rounds: 2 },
    BinaryRule::ErrorMinimizing { rounds: 30 },
    BinaryRule::Best,
];

#[test]
fn one_bit_is_the_scaled_sign() {
    // Rastegari et al. 2016, equation 6.
    let values: Vec<f32> = sample().iter().map(|&x| x as f32).take(999).collect();
    let mean = values.iter().map(|&x| f64::from(x.abs())).sum::<f64>() / 999.0;
    let magnitudes = Magnitudes::new(&values).unwrap();
    for rule in RULES {
        let code = fit(&magnitudes, 1, rule).unwrap();
        // LQ-Nets' least squares are held to where they start, by 1e-4 of one value.
        close(
            code.alpha[0],
            mean,
            if matches!(rule, BinaryRule::ErrorMinimizing { .. }) { 1e-7 } else { 1e-13 },
        );
    }
}

#[test]
fn two_bits_are_the_four_levels_of_lloyd_and_max() {
    // Max 1960, table I: four levels of a normal density.
    let code = fit(&Magnitudes::new(&normal_quantiles(20_000)).unwrap(), 2, BinaryRule::Best).unwrap();
    let sums = sums(&code.alpha);
    close(sums[3].value, 1.510, 1e-3);
    close(sums[2].value, 0.4528, 1e-3);
    assert_eq!([sums[0].code, sums[1].code, sums[2].code, sums[3].code], [0, 2, 1, 3]);
}

#[test]
fn better_rules_err_less() {
    for values in [sample(), laplace_quantiles(4096), crate::solve::samples::b()] {
        let magnitudes = Magnitudes::new(&values[..values.len().min(8192)]).unwrap();
        for bits in [2, 3, 4, 6, 8] {
            let error = |rule| fit(&magnitudes, bits, rule).unwrap().squared_error;
            let [greedy, refined, alternating, minimizing, best] = RULES.map(error);
            let end = error(BinaryRule::Alternating { rounds: 1000 });
            // Two rounds need not be better than fitting after each step: at 8 bits they are not.
            assert!(greedy > refined && greedy > alternating, "{greedy} {refined} {alternating}");
            assert!(refined > end && refined > minimizing, "{refined} {end} {minimizing}");
            assert!(alternating >= end && end >= best && minimizing >= best, "{end} {best} {minimizing}");
        }
    }
}

#[test]
fn error_minimization_never_rises() {
    // The penalty is zero where nothing changes, so that a round cannot raise the error.
    let magnitudes = Magnitudes::new(&sample()).unwrap();
    for bits in 1..=6 {
        let mut last = f64::INFINITY;
        for rounds in 0..12 {
            let alpha = error_minimizing(&magnitudes, bits, rounds, 1e-4);
            let error = Pieces::whole(&magnitudes).nearest_error(&magnitudes, bits, &alpha);
            assert!(error <= last * (1.0 + 1e-12), "{bits} bits, {rounds} rounds: {error} {last}");
            last = error;
        }
    }
    // Zhang et al.: the basis before the first round is 0.6745 s / 2^(k-1) times powers of two.
    let start = error_minimizing(&Gaussian, 3, 0, 1e-4);
    assert_eq!(start[..3], [0.6745 / 4.0, 0.6745 / 2.0, 0.6745]);
}

#[test]
fn counts_of_a_histogram_are_repeated_values() {
    let mut random = SplitMix64(3);
    let bins: Vec<(f64, u32)> =
        (0..200).map(|i| (f64::from(i) / 37.0 - 2.0, (random.uniform() * 9.0) as u32)).collect();
    let repeated: Vec<f64> = bins.iter().flat_map(|&(x, count)| (0..count).map(move |_| x)).collect();
    let repeated = Magnitudes::new(&repeated).unwrap();
    let weighted = Magnitudes::weighted(bins.iter().map(|&(x, count)| (x, f64::from(count)))).unwrap();
    for rule in RULES {
        // LQ-Nets' least squares are held by 1e-4 of one point, here of a bin.
        let tolerance = if matches!(rule, BinaryRule::ErrorMinimizing { .. }) { 1e-5 } else { 1e-9 };
        for bits in 1..=4 {
            let [a, b] = [&weighted, &repeated].map(|magnitudes| fit(magnitudes, bits, rule).unwrap());
            close(a.squared_error, b.squared_error, tolerance);
        }
    }
}

#[test]
fn sums_are_sorted_with_their_codes() {
    let sums = sums(&[1.0, 0.5, 0.5]);
    let found: Vec<_> = sums.iter().map(|sum| (sum.value, sum.code)).collect();
    let expected = [
        (-2.0, 0b000),
        (-1.0, 0b010),
        (-1.0, 0b100),
        (0.0, 0b001),
        (0.0, 0b110),
        (1.0, 0b011),
        (1.0, 0b101),
        (2.0, 0b111),
    ];
    assert_eq!(found, expected);
    assert_eq!(super::sums(&[1.0; 12]).len(), 256);
    assert_eq!(super::sums(&[]), [SignedSum { value: 0.0, code: 0 }]);
}

#[test]
fn undetermined_coefficients_are_zero() {
    // Constant values, fewer distinct ones than levels, extreme ones.
    for values in [
        &[3.0_f64; 9][..],
        &[-2.0],
        &[1.0, -1.0, 3.0],
        &[0.0, 0.0, 5e-300],
        &[1e300, -1e300],
        &[0.0, 1.0, 1.0, 0.0],
    ] {
        let magnitudes = Magnitudes::new(values).unwrap();
        let largest = values.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
        for bits in 1..=MAX_BITS {
            for rule in RULES {
                let code = fit(&magnitudes, bits, rule).unwrap();
                assert!(
                    code.alpha.iter().all(|alpha| alpha.is_finite()),
                    "{values:?} {bits} {rule:?} {code:?}"
                );
                let relative: f64 = values
                    .iter()
                    .map(|x| x / largest)
                    .map(|x| {
                        let near = |sum: &SignedSum| (x - sum.value / largest).powi(2);
                        sums(&code.alpha).iter().map(near).fold(f64::INFINITY, f64::min)
                    })
                    .sum();
                if bits >= 2 && matches!(rule, BinaryRule::Best | BinaryRule::Refined) {
                    assert!(relative < 1e-25, "{values:?} {bits} {rule:?} {code:?}");
                }
            }
        }
    }
    let constant =
        fit(&Magnitudes::new(&[-7.0_f32; 5]).unwrap(), 3, BinaryRule::Alternating { rounds: 2 }).unwrap();
    assert_eq!(constant, BinaryCode { alpha: vec![7.0, 0.0, 0.0], squared_error: 0.0 });
    for bits in [0, 9, usize::MAX] {
        assert_eq!(fit(&Magnitudes::new(&[1.0]).unwrap(), bits, BinaryRule::Best), None);
    }
}

#[test]
fn rounding_never_puts_the_best_above_the_greedy() {
    // Two magnitudes of which five bits leave next to nothing.
    let magnitudes = Magnitudes::new(&[0.0, 259_215.701_420_276_37, 0.0, -745_157.944_327_037]).unwrap();
    let [greedy, best] =
        [BinaryRule::Greedy, BinaryRule::Best].map(|rule| fit(&magnitudes, 5, rule).unwrap().squared_error);
    assert!(best <= greedy, "{best} {greedy}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_values(
        values in prop::collection::vec(prop_oneof![-1.0_f64..1.0, Just(0.0), Just(0.25), -1e6_f64..1e6], 1..40),
        weights in prop::collection::vec(prop_oneof![0.0_f64..2.0, Just(0.0), Just(1e-12), Just(3.0)], 40),
        bits in 1_usize..=5,
    ) {
        let Some(magnitudes) = Magnitudes::new(&values) else { return Ok(()) };
        let square: f64 = values.iter().map(|x| x * x).sum();
        let found = RULES.map(|rule| fit(&magnitudes, bits, rule).unwrap());
        for code in &found {
            // The reported error is that of the nearest sums.
            prop_assert!((by_definition(&values, &code.alpha) - code.squared_error).abs() <= 1e-12 * square);
            prop_assert!(code.squared_error <= square * (1.0 + 1e-12));
        }
        let [greedy, _, alternating, _, best] = found;
        let rounding = 1e-12 * square;
        prop_assert!(best.squared_error <= greedy.squared_error);
        prop_assert!(best.squared_error <= alternating.squared_error + rounding);
        prop_assert!(alternating.squared_error <= greedy.squared_error + rounding);

        // Repeating a value and weighting it are the same.
        let repeats = |i: usize| (weights[i] as usize).min(2) + 1;
        let repeated: Vec<f64> =
            values.iter().enumerate().flat_map(|(i, &x)| (0..repeats(i)).map(move |_| x)).collect();
        let weighted = Magnitudes::weighted(values.iter().enumerate().map(|(i, &x)| (x, repeats(i) as f64))).unwrap();
        let repeated = Magnitudes::new(&repeated).unwrap();
        // With other rules the sign of a residual of zero, which is up to rounding, decides on what follows.
        let greedy = |magnitudes| fit(magnitudes, bits, BinaryRule::Greedy).unwrap().squared_error;
        prop_assert!((greedy(&weighted) - greedy(&repeated)).abs() <= 1e-12 * square);

        if let Some(weighted) = Magnitudes::weighted(values.iter().copied().zip(weights.iter().copied())) {
            for rule in RULES {
                let code = fit(&weighted, bits, rule).unwrap();
                prop_assert!(code.squared_error.is_finite() && code.alpha.iter().all(|alpha| alpha.is_finite()));
            }
        }
    }
}
