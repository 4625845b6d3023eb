//! What is measured: operations of the library's public interface, into buffers that are reused.
//!
//! The bench `operations` times the same ones.

use std::sync::Arc;

use anyhow::{Context, Result};
use lowbit::calibration::Regions;
use lowbit::prelude::*;
use lowbit::{Element, FloatType, Granularity, NonFinite, TensorView};
use ndarray::{Array2, s};

/// Something that can be repeated.
pub(crate) type Run<'a> = Box<dyn FnMut() -> lowbit::Result<()> + Send + 'a>;

/// The bytes that an operation moves for each element, in units of a quarter of a bit: what it reads and what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) read: usize,
    pub(crate) written: usize,
}

impl Bytes {
    /// Of `elements` elements.
    pub(crate) fn of(self, elements: usize) -> f64 {
        (self.read + self.written) as f64 / 32.0 * elements as f64
    }
}

/// The tensor that operations read, and the one that they restore.
pub(crate) struct Tensors<A> {
    pub(crate) values: Array2<A>,
    pub(crate) restored: Array2<A>,
}

impl<A: Element> Tensors<A> {
    /// Bell-shaped values, the same on every run.
    pub(crate) fn new(shape: (usize, usize)) -> Self {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        let value = || A::from_f32(0.05 * (uniform() + uniform() + uniform() + uniform()));
        let values = Array2::from_shape_simple_fn(shape, value);
        Self { restored: values.clone(), values }
    }
}

/// What an operation moves, beside the floats themselves.
#[derive(Debug, Clone, Copy)]
enum Direction {
    /// Reads the tensor.
    Read,
    /// Reads the tensor, and writes so many quarters of a bit for each element.
    Encode(usize),
    /// Reads so many quarters of a bit for each element, and writes the tensor.
    Decode(usize),
    /// Reads one tensor and writes another.
    ReadAndWrite,
}
use Direction::{Decode, Encode, Read, ReadAndWrite};

/// A row of the table.
pub(crate) struct Operation<A> {
    pub(crate) name: &'static str,
    direction: Direction,
    prepare: fn(&mut Tensors<A>) -> Result<Run<'_>>,
}

impl<A: Element> Operation<A> {
    /// The bytes that it moves.
    pub(crate) fn bytes(&self) -> Bytes {
        let float = 32 * size_of::<A>();
        match self.direction {
            Read => Bytes { read: float, written: 0 },
            Encode(codes) => Bytes { read: float, written: codes },
            Decode(codes) => Bytes { read: codes, written: float },
            ReadAndWrite => Bytes { read: float, written: float },
        }
    }

    /// What is repeated.
    pub(crate) fn prepare<'t>(&self, tensors: &'t mut Tensors<A>) -> Result<Run<'t>> {
        (self.prepare)(tensors).with_context(|| self.name)
    }

    /// All of them.
    #[rustfmt::skip]
    pub(crate) fn all() -> Vec<Self> {
        let row = |name, direction, prepare| Self { name, direction, prepare };
        vec![
            row("quantize_i8_per_tensor_reciprocal", Encode(32), |t| encode(t, signed(PerLayer).dialect(Dialect::Torch))),
            row("quantize_u8_per_tensor_reciprocal", Encode(32), |t| encode(t, unsigned(PerLayer).dialect(Dialect::Torch))),
            row("quantize_i8_per_tensor", Encode(32), |t| encode(t, signed(PerLayer))),
            row("quantize_u8_per_tensor", Encode(32), |t| encode(t, unsigned(PerLayer))),
            row("quantize_i8_per_row", Encode(32), |t| encode(t, signed(rows()))),
            row("quantize_i8_per_column", Encode(32), |t| encode(t, signed(columns()))),
            row("dequantize_i8_per_tensor", Decode(32), |t| decode(t, signed(PerLayer))),
            row("dequantize_i8_per_row", Decode(32), |t| decode(t, signed(rows()))),
            row("fake_quantize_per_tensor", ReadAndWrite, |t| fake(t, signed(PerLayer))),
            row("fake_quantize_per_row", ReadAndWrite, |t| fake(t, signed(rows()))),
            row("min_max_per_tensor", Read, |t| range(t, PerLayer)),
            row("min_max_per_row", Read, |t| range(t, rows())),
            row("min_max_per_column", Read, |t| range(t, columns())),
            row("dynamic_quantize_i8_per_row", Encode(32), |t| fit_and_encode(t, signed(rows()))),
            row("quantize_block32_8bit", Encode(34), |t| fit_and_encode(t, block32(8)?)),
            row("dequantize_block32_8bit", Decode(34), |t| decode(t, block32(8)?)),
            row("quantize_block32_4bit", Encode(18), |t| fit_and_encode(t, block32(4)?)),
            row("dequantize_block32_4bit", Decode(18), |t| decode(t, block32(4)?)),
            row("quantize_nf4_block64", Encode(18), |t| fit_and_encode(t, nf4())),
            row("dequantize_nf4_block64", Decode(18), |t| decode(t, nf4())),
            row("quantize_mxfp4", Encode(17), |t| fit_and_encode(t, mxfp4())),
            row("dequantize_mxfp4", Decode(17), |t| decode(t, mxfp4())),
            row("encode_codebook256", Encode(32), codebook),
            row("stochastic_quantize_i8", Encode(32), |t| encode(t, signed(PerLayer).rounding(Rounding::Stochastic { seed: 7 }))),
            row("histogram_2048", Read, histogram),
        ]
    }
}

fn rows() -> PerChannel {
    PerChannel::new(Axis(0))
}

fn columns() -> PerChannel {
    PerChannel::new(Axis(1))
}

fn signed(granularity: impl Granularity + 'static) -> Recipe {
    Uniform::symmetric(BitWidth::EIGHT).granularity(granularity)
}

fn unsigned(granularity: impl Granularity + 'static) -> Recipe {
    Uniform::asymmetric(BitWidth::EIGHT).granularity(granularity)
}

/// Blocks of 32 with an f16 scale, by whose reciprocal values are multiplied, as in the systems that have this format.
fn block32(bits: u32) -> Result<Recipe> {
    let method = Uniform::symmetric(BitWidth::new(bits)?).scales(FloatType::F16);
    Ok(method.granularity(PerSubChannel::new(Axis(0), 32)?).dialect(Dialect::Torch))
}

fn nf4() -> Recipe {
    NormalFloat::nf4().granularity(NormalFloat::blocks()).dialect(Dialect::Torch)
}

fn mxfp4() -> Recipe {
    Mx::fp4().granularity(Mx::blocks())
}

/// Static quantization: the grids are there.
fn encode<A: Element>(tensors: &mut Tensors<A>, recipe: Recipe) -> Result<Run<'_>> {
    let Tensors { values, .. } = tensors;
    let frozen = recipe.freeze_from(values)?;
    let mut quantized = frozen.quantize(values)?;
    Ok(Box::new(move || frozen.quantize_into(values, &mut quantized)))
}

/// Dynamic quantization: the grids are found too.
fn fit_and_encode<A: Element>(tensors: &mut Tensors<A>, recipe: Recipe) -> Result<Run<'_>> {
    let Tensors { values, .. } = tensors;
    let mut quantized = recipe.quantize(values)?;
    Ok(Box::new(move || recipe.quantize_into(values, &mut quantized)))
}

fn decode<A: Element>(tensors: &mut Tensors<A>, recipe: Recipe) -> Result<Run<'_>> {
    let Tensors { values, restored } = tensors;
    let quantized = recipe.quantize(values)?;
    Ok(Box::new(move || quantized.dequantize_into(restored)))
}

/// Static quantization and back, in one pass.
fn fake<A: Element>(tensors: &mut Tensors<A>, recipe: Recipe) -> Result<Run<'_>> {
    let Tensors { values, restored } = tensors;
    let frozen = recipe.freeze_from(values)?;
    Ok(Box::new(move || frozen.fake_quantize_into(values, restored)))
}

/// The range of each region, of which grids are made.
fn range<A: Element>(tensors: &mut Tensors<A>, granularity: impl Granularity) -> Result<Run<'_>> {
    let Tensors { values, .. } = tensors;
    let (tiling, scheme) = (granularity.tiling(values.shape())?, signed(PerLayer).scheme()?);
    Ok(Box::new(move || {
        let tensor = TensorView::new(values);
        MinMax.ranges(&Regions::new(&tensor, &tiling, NonFinite::Error), &scheme).map(drop)
    }))
}

/// 256 levels found by k-means in a part of the tensor, which is not measured; then the nearest for each value.
fn codebook<A: Element>(tensors: &mut Tensors<A>) -> Result<Run<'_>> {
    let Tensors { values, .. } = tensors;
    let part = values.slice(s![..values.nrows().min(64), ..]);
    let frozen = KMeans::new(BitWidth::EIGHT).granularity(PerLayer).freeze_from(&part)?;
    let mut quantized = frozen.quantize(values)?;
    Ok(Box::new(move || frozen.quantize_into(values, &mut quantized)))
}

/// An observer of at least 2048 bins, as a stream goes on: it counts the tensor and adds the counts to what it has.
fn histogram<A: Element>(tensors: &mut Tensors<A>) -> Result<Run<'_>> {
    let Tensors { values, .. } = tensors;
    let mut observer = Observer::new(Arc::new(PerLayer), values.shape(), NonFinite::Error, 2048)?;
    Ok(Box::new(move || observer.observe(values)))
}
