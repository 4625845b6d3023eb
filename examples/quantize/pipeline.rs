//! One tensor after the other: read, quantize, measure, write.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use lowbit::io::safetensors::{Dtype, QuantizedInfo, float_type};
use lowbit::report::Report;
use lowbit::{Element, QuantizedTensor, Recipe};
use ndarray::{ArrayRef, ArrayView, IxDyn};

use crate::arguments::Arguments;
use crate::input::{Input, Tensor, Values};
use crate::output::Outputs;
use crate::report::{Done, Kept, Quantized};
use crate::{interrupt, method, mmap};

/// What becomes of a tensor.
pub(crate) enum Plan {
    Quantize { recipe: Recipe, info: Box<QuantizedInfo> },
    Keep { reason: String },
}

/// Quantizes what the arguments say, shows `look` every quantized tensor, and writes the files they ask for.
pub(crate) fn run(
    arguments: &Arguments,
    input: &Input<'_>,
    mut look: impl FnMut(&str, &QuantizedTensor) -> Result<()>,
) -> Result<Done> {
    let mut plans = Vec::with_capacity(input.tensors.len());
    for tensor in &input.tensors {
        plans.push((tensor, plan(arguments, tensor).with_context(|| format!("tensor {}", tensor.name))?));
    }
    let mut outputs = Outputs::create(arguments, input, &plans)?;
    let mut done = Done::default();
    let progress = Progress::new(&plans);
    // Buffers for the codes of all tensors, one after the other.
    let mut buffers = None;
    for (tensor, plan) in &plans {
        interrupt::check()?;
        match plan {
            Plan::Keep { reason } => {
                outputs.keep(tensor)?;
                let Tensor { name, dtype, shape, .. } = tensor;
                let (name, shape) = (name.clone(), shape.clone());
                done.kept.push(Kept {
                    name,
                    dtype: *dtype,
                    shape,
                    bytes: tensor.bytes(),
                    reason: reason.clone(),
                });
                progress.step(tensor, || format!("kept: {reason}"));
            }
            Plan::Quantize { recipe, info } => {
                let out = buffers.get_or_insert_with(|| QuantizedTensor::empty(info.scheme.clone()));
                let report =
                    quantize(recipe, tensor, out).with_context(|| format!("tensor {}", tensor.name))?;
                look(&tensor.name, out)?;
                outputs.write(tensor, out)?;
                let Tensor { name, dtype, shape, .. } = tensor;
                let (name, shape, method) = (name.clone(), shape.clone(), arguments.method.to_string());
                let label = format!("{method} {}-bit", info.scheme.bits());
                let recipe = recipe.to_string();
                progress.step(tensor, || {
                    format!("{:.2} bits/element, {:.2} dB", report.bits_per_element, report.errors.sqnr())
                });
                done.quantized.push(Quantized { name, dtype: *dtype, shape, method, label, recipe, report });
            }
        }
    }
    drop(progress);
    outputs.finish()?;
    if arguments.verify {
        done.verified = Some(crate::output::verify(arguments, &plans)?);
    }
    if let Some(path) = &arguments.report {
        crate::report::write_json(path, &done)?;
    }
    Ok(done)
}

fn plan(arguments: &Arguments, tensor: &Tensor<'_>) -> Result<Plan> {
    let keep = |reason: &str| Ok(Plan::Keep { reason: reason.to_owned() });
    let Some(source) = float_type(tensor.dtype) else {
        return keep("not floating-point");
    };
    let rank = tensor.shape.len();
    if rank < 2 {
        return Ok(Plan::Keep { reason: format!("rank {rank}") });
    }
    if arguments.include.as_ref().is_some_and(|regex| !regex.is_match(&tensor.name)) {
        return keep("not included");
    }
    if arguments.exclude.as_ref().is_some_and(|regex| regex.is_match(&tensor.name)) {
        return keep("excluded");
    }
    let recipe = method::recipe(arguments, rank)?;
    let info = Box::new(QuantizedInfo::planned(&recipe, &tensor.shape, source)?);
    Ok(Plan::Quantize { recipe, info })
}

/// Quantizes `tensor` into the buffers of `out`.
pub(crate) fn quantize(recipe: &Recipe, tensor: &Tensor<'_>, out: &mut QuantizedTensor) -> Result<Report> {
    match &tensor.values {
        Values::F32(array) => quantize_array(recipe, array, out),
        Values::F64(array) => quantize_array(recipe, array, out),
        Values::Raw(raw) => match raw.dtype() {
            Dtype::F64 => quantize_bytes::<f64>(recipe, raw.shape(), raw.data(), out),
            Dtype::F16 => quantize_bytes::<f16>(recipe, raw.shape(), raw.data(), out),
            Dtype::BF16 => quantize_bytes::<bf16>(recipe, raw.shape(), raw.data(), out),
            _ => quantize_bytes::<f32>(recipe, raw.shape(), raw.data(), out),
        },
    }
}

fn quantize_bytes<A: Element + mmap::Number>(
    recipe: &Recipe,
    shape: &[usize],
    bytes: &[u8],
    out: &mut QuantizedTensor,
) -> Result<Report> {
    let numbers = mmap::numbers::<A>(bytes);
    quantize_array(recipe, &*ArrayView::from_shape(IxDyn(shape), &numbers)?, out)
}

fn quantize_array<A: Element>(
    recipe: &Recipe,
    array: &ArrayRef<A, IxDyn>,
    out: &mut QuantizedTensor,
) -> Result<Report> {
    recipe.quantize_into(array, out)?;
    Ok(Report::of(array, out)?)
}

/// How far it is: a bar on a terminal, a line for each tensor elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines { count: usize, done: std::cell::Cell<usize> },
}

impl Progress {
    fn new(plans: &[(&Tensor<'_>, Plan)]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { count: plans.len(), done: std::cell::Cell::new(0) };
        }
        let bar = ProgressBar::new(plans.iter().map(|(tensor, _)| tensor.bytes()).sum());
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}");
        Self::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn step(&self, tensor: &Tensor<'_>, what: impl Fn() -> String) {
        match self {
            Self::Bar(bar) => {
                bar.inc(tensor.bytes());
                bar.set_message(tensor.name.clone());
            }
            Self::Lines { count, done } => {
                done.set(done.get() + 1);
                // Nobody may be listening.
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "[{}/{count}] {}: {}", done.get(), tensor.name, what());
            }
        }
    }
}

impl Drop for Progress {
    /// Makes room for what comes after, be it a table or an error.
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
