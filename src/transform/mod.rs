//! Changes to weights that keep the function of a network and make it easier to quantize, and corrections of what
//! quantization did to it.
//!
//! | what | how |
//! |---|---|
//! | [`BatchNorm`], [`ChannelStatistics`] | batch normalization folded into weights; its statistics estimated again |
//! | [`Equalization`], [`absorb_high_biases`] | channels between layers scaled to like ranges; large biases moved on |
//! | [`SmoothQuant`], [`Awq`] | input channels scaled by what is known of the activations |
//! | [`OutlierChannels`] | channels with outliers split into two |
//! | [`DenseAndSparse`], [`split_outliers`] | a share of outliers kept exactly |
//! | [`TwoTerms`] | the sum of two low-bit tensors |
//! | [`BiasCorrection`] | the mean output error taken out of the bias, from data or from batch normalization |
//! | [`WeightCorrection`] | mean and spread of each channel restored, in its scale and zero point |
//!
//! Layers are given as their weights with the places of their channels, [`LayerChannels`]: dense layers and
//! convolutions of any layout, grouped, depthwise and transposed. Everything is computed in f64 and rounded once.

mod awq;
mod batch_norm;
mod bias_absorption;
mod bias_correction;
mod channels;
mod dense_and_sparse;
mod equalization;
mod errors;
mod outlier_channels;
mod smooth_quant;
mod two_terms;
mod weight_correction;

pub use awq::{Awq, AwqScaling, InputStatistics, mean_magnitudes};
pub use batch_norm::{BatchNorm, ChannelNormals, ChannelStatistics};
pub use bias_absorption::absorb_high_biases;
pub use bias_correction::{Activation, BiasCorrection};
pub use channels::{Channels, LayerChannels, LayerMut};
pub use dense_and_sparse::{DenseAndSparse, Outliers, split_outliers};
pub use equalization::{ChannelBalance, Equalization, Equalized};
pub use outlier_channels::{OutlierChannels, SplitActivations, SplitWeights};
pub use smooth_quant::{SmoothQuant, Smoothing, divide_channels};
pub use two_terms::TwoTerms;
pub use weight_correction::WeightCorrection;
