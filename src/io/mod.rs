//! Quantized tensors in files.
//!
//! | format | module | feature |
//! |---|---|---|
//! | safetensors | [`safetensors`] | `safetensors` |
//!
//! Readers take bytes, mapped or read: the library maps no files. Writers write beside the target and rename at
//! the end, so that the final name never stands for half a file.

mod partial;
pub mod safetensors;
