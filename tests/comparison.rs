//! What a comparison predicts from a histogram, against what is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{data_a, data_b, data_c};
use lowbit::Registry;
use lowbit::prelude::*;
use ndarray::{Array1, ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};

#[test]
fn the_comparison_knows_what_each_rule_costs() {
    for (data, bits) in [(data_a(), 4), (data_b(), 4), (data_b(), 2), (data_c(), 8)] {
        let array = Array1::from_vec(data.clone());
        let mut observer = Observer::new(Arc::new(PerLayer), &[1], NonFinite::Error, 8192).unwrap();
        observer.observe(&array).unwrap();
        let summary = observer.summaries()[0].to_histogram().unwrap();
        let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap());
        let comparison = Comparison::of_all(&summary, &uniform.scheme().unwrap()).unwrap();
        println!("{comparison}\n");
        for row in comparison.rows() {
            let range = Fixed::new(row.range.low(), row.range.high()).unwrap();
            let q = uniform.clone().calibration(range).quantize(&array).unwrap();
            let measured = q.errors_against(&array).unwrap();
            assert!((row.predicted.mse / measured.mse() - 1.0).abs() < 0.01, "{row:?} {}", measured.mse());
            assert!((row.predicted.sqnr - measured.sqnr()).abs() < 0.05);
            let clipped = q.clipped_share(&array).unwrap();
            // At most the values of one bin on each side are on the other side of the end.
            assert!((row.predicted.clipped_share - clipped).abs() < 2e-3, "{row:?} {clipped}");
        }
        // The rule that minimizes this very error is the best, to the width of a bin.
        let best = comparison.best().unwrap();
        let mse = comparison.rows().iter().find(|row| row.calibration == "mse").unwrap();
        assert!(mse.predicted.mse <= 1.001 * best.predicted.mse, "{comparison}");
    }
}

#[test]
fn what_a_grid_with_a_code_at_zero_covers_is_not_clipped() {
    // As after a ReLU: half of the values are zero, which a percentile at both tails leaves out by the width of a bin.
    let data: Vec<f64> =
        data_a().into_iter().enumerate().map(|(i, x)| if i % 2 == 0 { 0.0 } else { x.abs() }).collect();
    let mut observer = Observer::new(Arc::new(PerLayer), &[1], NonFinite::Error, 8192).unwrap();
    observer.observe(&Array1::from_vec(data.clone())).unwrap();
    let summary = observer.summaries()[0].to_histogram().unwrap();
    for (uniform, from_zero) in [
        (Uniform::asymmetric(BitWidth::new(4).unwrap()), true),
        (Uniform::asymmetric_real(BitWidth::new(4).unwrap()), false),
    ] {
        let scheme = uniform.scheme().unwrap();
        let range = summary.calibrate(&Percentile::new(99.0).unwrap(), &scheme).unwrap().range;
        assert!(range.low() > 0.0, "{range}");
        let low = if from_zero { 0.0 } else { range.low() };
        let outside =
            data.iter().filter(|&&x| x < low || x > range.high()).count() as f64 / data.len() as f64;
        let predicted = summary.predict(range, &scheme).unwrap().clipped_share;
        assert_eq!(outside > 0.4, !from_zero);
        // Values are taken to lie evenly within their bins, of which the first holds half of all, at its lower end.
        assert!((predicted - outside).abs() < 2e-3, "{predicted} {outside}");
    }
}

/// The kernels of the networks beside the package; none, visibly, where they are absent.
fn kernels() -> Vec<(String, ArrayD<f32>)> {
    let folder = std::env::var_os("LOWBIT_WEIGHTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/weights"), PathBuf::from);
    let mut kernels = Vec::new();
    for network in ["resnet8_cifar10", "streaming_wakeword", "silero_vad_16k"] {
        let path = folder.join(network).join("model.safetensors");
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: no weights at {}", path.display());
            continue;
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in file.tensors() {
            if view.shape().len() < 2 || view.dtype() != Dtype::F32 {
                continue;
            }
            let values =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let values = ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap();
            kernels.push((format!("{network} {name}"), values));
        }
    }
    kernels.sort_by(|a, b| a.0.cmp(&b.0));
    kernels
}

/// Predicted and measured errors of real weights, per tensor.
#[test]
fn predictions_on_real_weights_are_what_is_measured() {
    let mut worst_by_bins = [0.0f64; 2];
    for (name, kernel) in kernels() {
        for (worst, bins) in worst_by_bins.iter_mut().zip([8192, 2048]) {
            let mut observer =
                Observer::new(Arc::new(PerLayer), kernel.shape(), NonFinite::Error, bins).unwrap();
            observer.observe(&kernel).unwrap();
            let summary = observer.summaries()[0].to_histogram().unwrap();
            for bits in [8, 4, 2] {
                for uniform in [
                    Uniform::symmetric(BitWidth::new(bits).unwrap()),
                    Uniform::asymmetric(BitWidth::new(bits).unwrap()),
                ] {
                    for text in ["minmax", "percentile(99.9)", "mse", "aciq"] {
                        let rule = Registry::default().parse_calibration(text).unwrap();
                        let range = summary.calibrate(&*rule, &uniform.scheme().unwrap()).unwrap().range;
                        let predicted = summary.predict(range, &uniform.scheme().unwrap()).unwrap().mse;
                        let fixed = Fixed::new(range.low(), range.high()).unwrap();
                        let q = uniform.clone().calibration(fixed).quantize(&kernel).unwrap();
                        let measured = q.errors_against(&kernel).unwrap().mse();
                        let off = (predicted / measured - 1.0).abs();
                        if off > *worst {
                            *worst = off;
                            println!(
                                "{bins} bins, {name} ({} values), {bits} bits, {text}: {:.3} %",
                                kernel.len(),
                                100.0 * off
                            );
                        }
                    }
                }
            }
        }
    }
    let [fine, coarse] = worst_by_bins;
    println!("worst: {:.3} % at 8192 bins, {:.3} % at 2048", 100.0 * fine, 100.0 * coarse);
    assert!(fine < 0.01, "{fine}");
    // One kernel has a weight many times larger than the rest, which then shares few bins: 5.2 %, else 1.9 %.
    assert!(coarse < 0.06, "{coarse}");
}
