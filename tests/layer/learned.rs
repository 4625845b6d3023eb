//! Methods that learn by gradient descent, against the reference and against what is promised.

use lowbit::layer::{AdaQuant, AdaRound, LayerMethod};

use super::Layer;
use super::reference::CASES;

/// Of `10_layer.json`: `adaround_best`, and `best_known_up_or_down`, than which no rounding up or down is known to be
/// better; exact on tiny layers.
const ADAROUND: [(&str, u32, f64, f64); 8] = [
    ("layer64", 4, 0.0028979554605300713, 0.00259168325964),
    ("layer64", 3, 0.01107659597653785, 0.00996288659246),
    ("layer64", 2, 0.04641169299496054, 0.0438733505766),
    ("tiny16", 4, 0.0005625500914184524, 0.000517078916225858),
    ("tiny16", 3, 0.002342272419850546, 0.0020557838722117753),
    ("tiny16", 2, 0.010513618019719388, 0.0099993843625562),
    ("tiny8", 2, 0.00596594119886254, 0.0057662305255329),
    ("tiny6", 3, 0.0011227825658823986, 0.001075665987288634),
];

#[test]
fn adaround_comes_close_to_the_best_of_the_reference() {
    for (case, (name, bits, best, least)) in CASES.iter().zip(ADAROUND) {
        assert_eq!((case.name, case.bits), (name, bits));
        let layer = Layer::new(case);
        let report = AdaRound::new().solve(&layer.problem()).unwrap().report;
        println!(
            "{name} {bits}: {:.4} of the best, {:.4} of the least; {report}",
            report.after / best,
            report.after / least
        );
        assert!(report.after <= 1.02 * best, "{name} {bits}");
        assert!(report.after >= 0.995 * least, "{name} {bits}");
    }
}

/// Of `10_layer.json`: `adaquant(lrV=1e-3,lrS=1e-4,3000it,learns scale)`, and the same on fixed scales.
const ADAQUANT: [(f64, f64); 8] = [
    (0.0037437186010156635, 0.00465670997579809),
    (0.013285181932409209, 0.015212972984906543),
    (0.053205439087674646, 0.05386374529613734),
    (0.0005051667167880794, 0.0005622101499525822),
    (0.0018782211955391502, 0.0020767932089525197),
    (0.009047748106412469, 0.010118790232528894),
    (0.0036772507538507518, 0.0057662305255329),
    (0.0010061782961536076, 0.001075665987288634),
];

#[test]
fn adaquant_comes_close_to_the_reference() {
    for (case, (learned, fixed)) in CASES.iter().zip(ADAQUANT) {
        let layer = Layer::new(case);
        let problem = layer.problem();
        // As in the reference: from the scales that are given, and without bias.
        let method = AdaQuant::new().learn_scales(true).learn_bias(false);
        let report = method.solve(&problem).unwrap().report;
        let share = report.after / learned;
        let with_bias = method.learn_bias(true).solve(&problem).unwrap().report;
        let on_grids = AdaQuant::new().learn_bias(false).solve(&problem).unwrap().report;
        println!(
            "{} {}: {share:.4} ({:.4} with bias), on fixed scales {:.4}; {report}",
            case.name,
            case.bits,
            with_bias.after / learned,
            on_grids.after / fixed,
        );
        assert!(share <= 1.05 && with_bias.after <= 1.05 * learned && on_grids.after <= 1.05 * fixed);
        assert!(on_grids.after >= 0.995 * case.best_known);
    }
}
