//! Block formats on real weights, against the figures of the strongest block formats in use.
//!
//! The weights are looked for in the folder that the environment variable `LOWBIT_WEIGHTS` names, else in
//! `../shared/weights` beside the package; without them this test says that it is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use lowbit::prelude::*;
use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;

/// The two matrices of the recurrent cell of silero_vad_16k; `None`, visibly, where the file is absent.
fn matrices() -> Option<Vec<ArrayD<f32>>> {
    let folder = std::env::var_os("LOWBIT_WEIGHTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/weights"), PathBuf::from);
    let path = folder.join("silero_vad_16k").join("model.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: no weights at {}", path.display());
        return None;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |name: &str| {
        let view = file.tensor(name).unwrap();
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
    };
    Some(["lstm_cell.weight_ih", "lstm_cell.weight_hh"].map(matrix).into())
}

/// SQNR in dB of all tensors together, and the most bits per element of one of them.
fn measure(tensors: &[ArrayD<f32>], recipe: &Recipe) -> (f64, f64) {
    let (mut signal, mut noise, mut bits) = (0.0, 0.0, 0.0f64);
    for tensor in tensors {
        let q = recipe.quantize(tensor).unwrap();
        let errors = q.errors_against(tensor).unwrap();
        noise += errors.mse() * errors.count() as f64;
        signal += tensor.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        bits = bits.max(q.bits_per_element());
    }
    (10.0 * (signal / noise).log10(), bits)
}

/// What llama.cpp's formats reach on the same weights in rows of 256 consecutive elements, without calibration data:
/// name, bits per element, dB.
const IN_USE: [(&str, f64, f64, BlockFormat); 7] = [
    ("q2_K", 2.625, 10.12, BlockFormat::B2),
    ("q3_K", 3.4375, 15.69, BlockFormat::B3),
    ("iq4_xs", 4.25, 21.63, BlockFormat::B4Small),
    ("q4_K", 4.5, 22.33, BlockFormat::B4),
    ("q5_K", 5.5, 28.22, BlockFormat::B5),
    ("q6_K", 6.5625, 34.10, BlockFormat::B6),
    ("q8_0", 8.5, 44.34, BlockFormat::B8),
];

#[test]
fn every_format_gains_at_least_a_third_of_a_decibel_at_no_more_bits() {
    let Some(tensors) = matrices() else { return };
    for (name, budget, reached, format) in IN_USE {
        let start = std::time::Instant::now();
        let (sqnr, bits) = measure(&tensors, &format.recipe().unwrap());
        let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / 131_072.0;
        println!(
            "{format:14} {bits:.5} bits {sqnr:.3} dB; {name:6} {budget:.4} bits {reached:.2} dB; {nanoseconds:.0} ns"
        );
        assert!(bits <= budget, "{format}: {bits} bits per element, {name} {budget}");
        assert!(sqnr >= reached + 0.3, "{format}: {sqnr} dB, {name} {reached}");
    }
}
