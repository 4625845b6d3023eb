//! Low-bit quantization of `ndarray` tensors.
