//! Bits for channels and layers.
