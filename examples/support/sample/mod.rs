//! The sample network: a small convolutional network trained by the example
//! `train_sample` to read procedurally drawn glyphs, and the held-out images
//! it is judged by. Independent of the library, so every example can take it
//! as the "someone else's network" it quantizes.
//!
//! Included with `#[path = "../support/sample/mod.rs"] mod sample;`.

#![allow(dead_code, unused_imports, reason = "shared by several examples, each of which uses a part")]
#![allow(clippy::expect_used, reason = "shapes are checked when the network is loaded")]

use anyhow::Result;
use ndarray::Array4;

mod glyphs;
mod info;
mod network;
pub(crate) mod ops;

pub(crate) use glyphs::{Glyphs, LABELS, SIDE, key, unit};
pub(crate) use info::Info;
pub(crate) use network::{
    EPSILON, Hook, LAYERS, Layer, Map, Network, fully_connected, parameter_shapes, right, to_planes,
};

/// The shipped network, as the bytes of a safetensors file.
pub(crate) fn embedded() -> &'static [u8] {
    include_bytes!("../../data/sample.safetensors")
}

/// Draws the images the shipped network was judged by, and their labels.
pub(crate) fn held_out() -> Result<(Array4<f32>, Vec<usize>)> {
    Ok(Info::read(embedded())?.held_out())
}
