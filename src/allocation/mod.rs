//! How many bits for which part: for the channels of a tensor, and for the layers of a network.
//!
//! | who chooses | what |
//! |---|---|
//! | [`ChannelBits`] | bits of each channel of one tensor, by the closed formula of ACIQ |
//! | [`MixedPrecision`] | one of several quantized forms of each layer, exactly the best under a budget |

mod channels;
mod layers;
mod search;
#[cfg(test)]
mod tests;

pub use channels::ChannelBits;
pub use layers::{Allocation, Choice, LayerChoices, MixedPrecision, UniformAllocation};
