//! Methods that learn by gradient descent, against the reference and against what is promised.

use lowbit::layer::{AdaRound, LayerMethod};

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
