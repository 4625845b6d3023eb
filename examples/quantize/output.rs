//! The files that are written: quantized tensors, restored tensors, or both.

use anyhow::{Context, Result, ensure};
use half::{bf16, f16};
use lowbit::FloatType;
use lowbit::io::safetensors::{self, File, Layout, Writer};
use lowbit::{Element, QuantizedTensor};
use ndarray::IxDyn;

use crate::arguments::Arguments;
use crate::input::{Input, Tensor, Values};
use crate::mmap;
use crate::pipeline::{self, Plan};

/// Files that get their names when they are complete.
pub(crate) struct Outputs {
    quantized: Option<Writer>,
    restored: Option<Writer>,
}

impl Outputs {
    /// Begins the files that the arguments ask for.
    pub(crate) fn create(
        arguments: &Arguments,
        input: &Input<'_>,
        plans: &[(&Tensor<'_>, Plan)],
    ) -> Result<Self> {
        let quantized = arguments.output.as_ref().map(|path| -> Result<Writer> {
            let mut layout = Layout::new();
            for (tensor, plan) in plans {
                match plan {
                    Plan::Quantize { info, .. } => layout.quantized(&tensor.name, (**info).clone())?,
                    Plan::Keep { .. } => layout.raw(&tensor.name, tensor.dtype, &tensor.shape)?,
                }
            }
            create(path, layout, input)
        });
        let restored = arguments.dequantized.as_ref().map(|path| -> Result<Writer> {
            let mut layout = Layout::new();
            for (tensor, _) in plans {
                layout.raw(&tensor.name, tensor.dtype, &tensor.shape)?;
            }
            create(path, layout, input)
        });
        Ok(Self { quantized: quantized.transpose()?, restored: restored.transpose()? })
    }

    /// Writes a tensor as it is.
    pub(crate) fn keep(&mut self, tensor: &Tensor<'_>) -> Result<()> {
        for writer in self.quantized.iter_mut().chain(&mut self.restored) {
            match &tensor.values {
                Values::Raw(raw) => writer.write(&tensor.name, raw.clone())?,
                Values::F32(array) => writer.write(&tensor.name, &**array)?,
                Values::F64(array) => writer.write(&tensor.name, &**array)?,
            }
        }
        Ok(())
    }

    /// Writes a tensor that was quantized.
    pub(crate) fn write(&mut self, tensor: &Tensor<'_>, quantized: &QuantizedTensor) -> Result<()> {
        if let Some(writer) = &mut self.quantized {
            writer.write(&tensor.name, quantized)?;
        }
        if let Some(writer) = &mut self.restored {
            match quantized.source_type() {
                FloatType::F64 => restore::<f64>(writer, &tensor.name, quantized)?,
                FloatType::F32 => restore::<f32>(writer, &tensor.name, quantized)?,
                FloatType::F16 => restore::<f16>(writer, &tensor.name, quantized)?,
                FloatType::Bf16 => restore::<bf16>(writer, &tensor.name, quantized)?,
            }
        }
        Ok(())
    }

    /// Gives the files their names.
    pub(crate) fn finish(self) -> Result<()> {
        for writer in self.quantized.into_iter().chain(self.restored) {
            writer.finish()?;
        }
        Ok(())
    }
}

fn create(path: &std::path::Path, mut layout: Layout, input: &Input<'_>) -> Result<Writer> {
    for (key, value) in &input.metadata {
        layout.metadata(key, value)?;
    }
    Ok(Writer::create(path, layout)?)
}

fn restore<A: Element>(writer: &mut Writer, name: &str, quantized: &QuantizedTensor) -> Result<()> {
    let restored = quantized.dequantize::<A, IxDyn>()?;
    Ok(writer.write(name, safetensors::Tensor::from(&*restored))?)
}

/// Reads the output back and compares it with the input, quantized once more. Returns the number of tensors.
pub(crate) fn verify(arguments: &Arguments, plans: &[(&Tensor<'_>, Plan)]) -> Result<usize> {
    let Some(path) = &arguments.output else { return Ok(0) };
    let mapped = mmap::map(path)?;
    let compare = || -> Result<()> {
        let file = File::new(&mapped)?;
        ensure!(file.names().count() == plans.len(), "another number of tensors than the input");
        for (tensor, plan) in plans {
            let name = &tensor.name;
            let same = match plan {
                Plan::Keep { .. } => {
                    let kept = file.raw(name)?;
                    kept.dtype() == tensor.dtype
                        && kept.shape() == tensor.shape
                        && is_same(kept.data(), tensor)
                }
                Plan::Quantize { recipe, info } => {
                    let read = file.quantized(name)?;
                    let mut again = QuantizedTensor::empty(info.scheme.clone());
                    pipeline::quantize(recipe, tensor, &mut again)?;
                    read.codes() == again.codes()
                        && read.grids() == again.grids()
                        && file.info(name)? == **info
                }
            };
            ensure!(same, "tensor {name} is not what was written");
        }
        Ok(())
    };
    compare().with_context(|| format!("verifying {}", path.display()))?;
    Ok(plans.len())
}

/// Whether `bytes` are the elements of `tensor`, row by row.
fn is_same(bytes: &[u8], tensor: &Tensor<'_>) -> bool {
    match &tensor.values {
        Values::Raw(raw) => bytes == raw.data(),
        Values::F32(array) => array.iter().flat_map(|value| value.to_le_bytes()).eq(bytes.iter().copied()),
        Values::F64(array) => array.iter().flat_map(|value| value.to_le_bytes()).eq(bytes.iter().copied()),
    }
}
