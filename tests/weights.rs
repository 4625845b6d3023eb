//! Real weights: what 8 and 4 bits cost on trained networks.
//!
//! The files are looked for in the folder that the environment variable `LOWBIT_WEIGHTS` names, else in
//! `../shared/weights` beside the package; without them these tests say that they are skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use lowbit::metrics::Errors;
use lowbit::prelude::*;
use lowbit::{Granularity, Registry};
use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// A kernel with its axis of output channels.
struct Kernel {
    name: String,
    values: ArrayD<f32>,
    axis: usize,
}

/// The kernels (rank 2 and more) of a network; `None`, visibly, where its file is absent.
fn kernels(network: &str) -> Option<Vec<Kernel>> {
    let folder = std::env::var_os("LOWBIT_WEIGHTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/weights"), PathBuf::from);
    let path = folder.join(network).join("model.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: no weights at {}", path.display());
        return None;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut kernels = Vec::new();
    for (name, view) in file.tensors() {
        if view.shape().len() < 2 || view.dtype() != Dtype::F32 {
            continue;
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // Keras has output channels last, and those of a depthwise kernel on axis 2; PyTorch has them first.
        let axis = match name.as_str() {
            name if name.ends_with("depthwise_kernel") => 2,
            name if name.ends_with("kernel") => view.shape().len() - 1,
            _ => 0,
        };
        kernels.push(Kernel {
            values: ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap(),
            name,
            axis,
        });
    }
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!kernels.is_empty(), "{network} has kernels");
    Some(kernels)
}

fn errors(uniform: &Uniform, granularity: impl Granularity + 'static, kernel: &Kernel) -> Errors {
    let q = uniform.clone().granularity(granularity).quantize(&kernel.values).unwrap();
    q.errors_against(&kernel.values).unwrap()
}

#[test]
fn eight_bits_per_channel_keep_every_kernel_above_42_db() {
    let uniform = Uniform::symmetric(BitWidth::EIGHT);
    for network in ["resnet8_cifar10", "streaming_wakeword"] {
        for kernel in kernels(network).into_iter().flatten() {
            let found = errors(&uniform, PerChannel::new(Axis(kernel.axis)), &kernel).sqnr();
            println!("{network} {} {:?}: {found:.2} dB", kernel.name, kernel.values.shape());
            assert!(found > 42.0, "{network} {}: {found} dB", kernel.name);
        }
    }
}

#[test]
fn one_outlier_costs_a_channel_more_than_a_block() {
    let uniform = Uniform::symmetric(BitWidth::EIGHT);
    for kernel in kernels("silero_vad_16k").into_iter().flatten() {
        let axis = Axis(kernel.axis);
        let channel = errors(&uniform, PerChannel::new(axis), &kernel).sqnr();
        let block = errors(&uniform, PerSubChannel::new(axis, 32).unwrap(), &kernel).sqnr();
        println!(
            "silero_vad_16k {} {:?}: {channel:.2} dB, blocks of 32 {block:.2} dB",
            kernel.name,
            kernel.values.shape()
        );
        if kernel.name == "conv4.weight" {
            // About 31 and 39 dB: one weight is many times larger than the rest of its channel.
            assert!((channel - 31.0).abs() < 1.0 && (block - 39.0).abs() < 1.0, "{channel} {block}");
        }
    }
}

/// The total error of all kernels of a network under one recipe.
fn network_sqnr(kernels: &[Kernel], uniform: &Uniform, granularity: &str) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for kernel in kernels {
        let text = granularity.replace("C", &kernel.axis.to_string());
        let found = errors(uniform, Registry::default().parse_granularity(&text).unwrap(), kernel);
        noise += found.mse() * found.count() as f64;
        signal += kernel.values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    }
    10.0 * (signal / noise).log10()
}

/// The table of all calibrations and granularities (`--nocapture` shows it; blocks of 32 with `--release` only,
/// as they take long otherwise).
#[test]
fn least_error_calibration_is_the_best_at_every_granularity() {
    const CALIBRATIONS: [&str; 5] = ["minmax", "percentile(99.9)", "percentile(99.99)", "kl", "mse"];
    let mut granularities = vec!["layer", "group(4, axis=C)", "channel(axis=C)"];
    if !cfg!(debug_assertions) {
        granularities.push("subchannel(32, axis=C)");
    }
    for network in ["resnet8_cifar10", "streaming_wakeword", "silero_vad_16k"] {
        let Some(kernels) = kernels(network) else { continue };
        for bits in [8, 4] {
            println!("{network}, {bits} bits, SQNR of all kernels in dB");
            println!("{:24}{}", "", CALIBRATIONS.map(|text| format!("{text:>18}")).concat());
            for granularity in &granularities {
                let found = CALIBRATIONS.map(|text| {
                    let calibration = Registry::default().parse_calibration(text).unwrap();
                    let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap()).calibration(calibration);
                    network_sqnr(&kernels, &uniform, granularity)
                });
                println!("{granularity:24}{}", found.map(|db| format!("{db:18.2}")).concat());
                let [others @ .., mse] = found;
                // 4.4e-4 dB is the gap of the search, 1e-4 of the error.
                let best = others.into_iter().fold(f64::NEG_INFINITY, f64::max);
                assert!(mse >= best - 4.4e-4, "{network} {bits} {granularity}: {mse} against {best}");
            }
        }
    }
}
