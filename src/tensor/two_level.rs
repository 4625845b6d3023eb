//! Scales that are quantized themselves: double quantization, and scales under a tensor's or a super-block's scale.
//!
//! Dettmers et al. 2023, *QLoRA: Efficient Finetuning of Quantized LLMs* (double quantization); the scales of NVFP4
//! and of ggml's K-quants have the same form.

use core::fmt;
use std::collections::TryReserveError;

use ndarray::ArrayView1;

use crate::bits::BitWidth;
use crate::element::{Element, FloatType};
use crate::error::{ConfigError, ParseError, Result};
use crate::granularity::{AxisGroup, Tiling};
use crate::minifloat::Minifloat;
use crate::text::{self, Arguments};

use super::affine::{AffineGrid, AffineScheme};
use super::code_range::CodeRange;
use super::encoding::Encoding;
use super::grids::{Grid, Grids};
use super::levels::{LevelScheme, LevelTable};
use super::quantized::QuantizedTensor;
use super::scheme::{ClippingRange, Scheme};
use super::view::TensorView;

/// How two-level scales are stored: codes for the scales, in blocks that share an outer scale.
///
/// The scales of all regions, in order, are a tensor of one axis; it is cut into blocks, and each block is quantized
/// symmetrically on its largest scale. A scale may become zero: its region then decodes to zeros. It may also become
/// larger than it was, so that values next to the largest f32 may come back infinite. In a floating-point
/// format a scale that is not zero gets the smallest positive number at least.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::tensor::{ScaleStorage, TwoLevel};
///
/// // A 6-bit scale for 32 elements, and an f16 scale for 8 of these: 4 + 6/32 + 16/256 bits for each element.
/// let scales = TwoLevel::unsigned(BitWidth::new(6)?).block(8)?.outer(lowbit::FloatType::F16);
/// let recipe = Uniform::symmetric(BitWidth::new(4)?)
///     .scales(ScaleStorage::TwoLevel(scales))
///     .granularity(PerSubChannel::new(Axis(0), 32)?);
/// let weights = ndarray::Array2::from_shape_fn((16, 256), |(i, j)| ((i * 256 + j) as f32).sin());
/// assert_eq!(recipe.quantize(&weights)?.bits_per_element(), 4.25);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoLevel {
    codes: ScaleCodes,
    block: Option<usize>,
    outer: FloatType,
    centered: bool,
}

/// What the codes of two-level scales are.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ScaleCodes {
    /// Multiples 0 to 2^b − 1 of the outer scale.
    Unsigned(BitWidth),
    /// Multiples −(2^(b−1) − 1) to 2^(b−1) − 1 of the outer scale, for scales of both signs.
    Signed(BitWidth),
    /// Numbers of a floating-point format times the outer scale: E4M3 in NVFP4.
    Minifloat(Minifloat),
    /// The signed dynamic 8-bit map times the outer scale: the double quantization of QLoRA.
    Dynamic,
}

impl TwoLevel {
    const fn new(codes: ScaleCodes) -> Self {
        Self { codes, block: None, outer: FloatType::F32, centered: false }
    }

    /// Scales that are multiples 0 to 2^b − 1 of one f32 scale for the tensor.
    pub const fn unsigned(bits: BitWidth) -> Self {
        Self::new(ScaleCodes::Unsigned(bits))
    }

    /// Scales in a floating-point format under one f32 scale for the tensor: E4M3 for NVFP4.
    pub const fn minifloat(format: Minifloat) -> Self {
        Self::new(ScaleCodes::Minifloat(format))
    }

    /// The double quantization of QLoRA: scales less their mean by the dynamic 8-bit map, in blocks of 256 with an f32
    /// scale.
    pub const fn double_quantization() -> Self {
        Self { codes: ScaleCodes::Dynamic, block: Some(256), outer: FloatType::F32, centered: true }
    }

    /// Scales of both signs that are multiples of one f32 scale for the tensor.
    pub const fn signed(bits: BitWidth) -> Self {
        Self::new(ScaleCodes::Signed(bits))
    }

    /// The same with an outer scale for each `scales` scales, in the order of the regions.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for blocks of no scales.
    pub const fn block(mut self, scales: usize) -> Result<Self, ConfigError> {
        if scales == 0 {
            return Err(ConfigError::TooSmall { what: "scales of a block", value: 0, min: 1 });
        }
        self.block = Some(scales);
        Ok(self)
    }

    /// The same with outer scales in another type.
    pub const fn outer(mut self, storage: FloatType) -> Self {
        self.outer = storage;
        self
    }

    /// The same for the scales less their mean, which is stored as one f32 number.
    pub const fn centered(mut self) -> Self {
        self.centered = true;
        self
    }

    /// The type of the outer scales.
    pub const fn outer_storage(self) -> FloatType {
        self.outer
    }

    /// Whether the mean of the scales is subtracted first.
    pub const fn is_centered(self) -> bool {
        self.centered
    }

    /// What the codes are.
    pub const fn codes(self) -> ScaleCodes {
        self.codes
    }

    /// Bits of the code of one scale.
    pub fn bits(self) -> BitWidth {
        match self.codes {
            ScaleCodes::Unsigned(bits) | ScaleCodes::Signed(bits) => bits,
            ScaleCodes::Minifloat(format) => LevelTable::minifloat(format).bits(),
            ScaleCodes::Dynamic => BitWidth::EIGHT,
        }
    }

    /// The scheme of the scales' codes.
    pub(crate) fn scheme(self) -> Result<Scheme, ConfigError> {
        let affine = |bits, codes| {
            let zero = super::affine::ZeroPointRule::Fixed(0.0);
            AffineScheme::new(bits, codes, zero)
                .map(|scheme| scheme.with_storage(self.outer, super::ScaleOverflow::Error).into())
        };
        let levels = |table| Ok(LevelScheme::new(table).with_scales(self.outer.into()).into());
        match self.codes {
            ScaleCodes::Minifloat(format) => levels(LevelTable::minifloat(format)),
            ScaleCodes::Dynamic => levels(LevelTable::dynamic(true)),
            ScaleCodes::Unsigned(bits) => affine(bits, CodeRange::unsigned(bits)),
            ScaleCodes::Signed(bits) => {
                let all = CodeRange::signed(bits);
                affine(bits, CodeRange::new(all.min() + 1, all.max())?)
            }
        }
    }

    /// The outer grid of a block of scales of at most `largest` in magnitude.
    fn outer_grid(self, scheme: &Scheme, largest: f64, block: usize) -> Result<Grid> {
        if let (ScaleCodes::Unsigned(_), Scheme::Affine(affine)) = (self.codes, scheme) {
            // All codes are on one side of zero.
            let scale = if largest == 0.0 { 1.0 } else { largest / f64::from(affine.codes().max()) };
            let scale = affine.scales().store(scale);
            return Ok(AffineGrid { scale, zero_point: 0.0 }.into());
        }
        Ok(scheme.grid(ClippingRange::new(-largest, largest)?, block)?)
    }

    /// The smallest scale that is not zero under an outer scale, of codes that can tell it from zero.
    fn least(self, outer: &Grid) -> Option<f32> {
        match (self.codes, outer) {
            (ScaleCodes::Minifloat(format), Grid::Levels(outer)) if !self.centered => {
                Some((outer.scale * format.min_positive()) as f32)
            }
            _ => None,
        }
    }

    /// How `count` scales are cut into blocks.
    pub(crate) fn tiling(self, count: usize) -> Result<Tiling> {
        Tiling::new(&[count], vec![AxisGroup { axes: vec![0], block: self.block }])
    }

    /// Reads the arguments of the text form.
    pub(crate) fn read(mut arguments: Arguments<'_>) -> Result<Self, ParseError> {
        let codes = arguments.positional().ok_or_else(|| arguments.problem("codes", "missing"))?;
        let codes = match (codes, codes.strip_prefix('s'), codes.parse()) {
            ("dynamic", _, _) => ScaleCodes::Dynamic,
            (_, _, Ok(format)) => ScaleCodes::Minifloat(format),
            (_, Some(bits), _) => ScaleCodes::Signed(bits.parse()?),
            _ => ScaleCodes::Unsigned(codes.parse()?),
        };
        let mut rule = Self::new(codes);
        if let Some(block) = arguments.optional("block") {
            rule = rule.block(text::number("scales of a block", block)?)?;
        }
        if let Some(outer) = arguments.parse("outer")? {
            rule = rule.outer(outer);
        }
        if let Some(centered) = arguments.optional("centered")
            && text::number("centered", centered)?
        {
            rule = rule.centered();
        }
        arguments.finish()?;
        rule.scheme()?;
        Ok(rule)
    }
}

/// `two-level(6, block=8, outer=f16)`
impl fmt::Display for TwoLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.codes {
            ScaleCodes::Unsigned(bits) => write!(f, "two-level({bits}")?,
            ScaleCodes::Signed(bits) => write!(f, "two-level(s{bits}")?,
            ScaleCodes::Minifloat(format) => write!(f, "two-level({format}")?,
            ScaleCodes::Dynamic => f.write_str("two-level(dynamic")?,
        }
        if let Some(block) = self.block {
            write!(f, ", block={block}")?;
        }
        if self.outer != FloatType::F32 {
            write!(f, ", outer={}", self.outer)?;
        }
        if self.centered {
            f.write_str(", centered=true")?;
        }
        f.write_str(")")
    }
}

/// Two-level scales: their codes, and what these decode to.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Parts", into = "Parts"))]
pub struct TwoLevelScales {
    rule: TwoLevel,
    mean: f32,
    /// None until all scales are known.
    quantized: Option<Box<QuantizedTensor>>,
    /// The scales as wanted before, and as decoded after that. Not stored.
    values: Vec<f32>,
    /// The largest magnitude of a scale of each block before it was rounded, so that the outer scale is rounded once.
    /// Only until all scales are known.
    largest: Vec<f64>,
}

impl TwoLevelScales {
    pub(super) const fn new(rule: TwoLevel) -> Self {
        Self { rule, mean: 0.0, quantized: None, values: Vec::new(), largest: Vec::new() }
    }

    /// Scales from their codes: a tensor of one axis in the scheme and the blocks of `rule`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for codes of another scheme or tiling; [`ConfigError::Scale`] for a scale that is not
    /// finite.
    pub fn from_codes(rule: TwoLevel, mean: f32, quantized: QuantizedTensor) -> Result<Self> {
        let conflict = |setting| Err(ConfigError::Conflict { setting, to: "these two-level scales" }.into());
        if *quantized.scheme() != rule.scheme()? {
            return conflict("another scheme of scale codes");
        }
        if *quantized.tiling() != rule.tiling(quantized.len())? {
            return conflict("another tiling of scales");
        }
        if !mean.is_finite() || (mean != 0.0 && !rule.centered) {
            return Err(
                ConfigError::Scale { index: 0, scale: mean.into(), rule: "the mean of the scales" }.into()
            );
        }
        let quantized = Some(Box::new(quantized));
        let mut scales = Self { rule, mean, quantized, values: Vec::new(), largest: Vec::new() };
        scales.decode();
        scales.check()?;
        Ok(scales)
    }

    /// How they are stored.
    pub const fn rule(&self) -> TwoLevel {
        self.rule
    }

    /// The codes of the scales with their outer scales; `None` for an array that is not finished.
    pub fn codes(&self) -> Option<&QuantizedTensor> {
        self.quantized.as_deref()
    }

    /// What is added to every decoded scale: zero unless the scales are centred.
    pub const fn mean(&self) -> f32 {
        self.mean
    }

    /// The scales.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Bits of codes, outer scales and mean.
    pub(super) fn bits(&self) -> u64 {
        let mean = if self.rule.centered { 32 } else { 0 };
        mean + self
            .codes()
            .map_or(0, |codes| codes.codes().as_bytes().len() as u64 * 8 + codes.grids().bits())
    }

    pub(super) fn push(&mut self, scale: f64) {
        let block = self.rule.block.map_or(0, |block| self.values.len() / block);
        match self.largest.get_mut(block) {
            Some(largest) => *largest = largest.max(scale.abs()),
            None => self.largest.push(scale.abs()),
        }
        self.values.push(scale as f32);
        self.quantized = None;
    }

    pub(super) fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        self.values.try_reserve(additional)
    }

    /// Chooses the codes, and replaces the scales by what they decode to.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.quantized.is_some() {
            return Ok(());
        }
        if self.rule.centered && !self.values.is_empty() {
            let sum: f64 = self.values.iter().map(|&scale| f64::from(scale)).sum();
            self.mean = (sum / self.values.len() as f64) as f32;
            self.values.iter_mut().for_each(|scale| *scale -= self.mean);
        }
        let (scheme, tiling) = (self.rule.scheme()?, self.rule.tiling(self.values.len())?);
        let mut grids = Grids::new(&scheme);
        for block in 0..tiling.regions() {
            let runs = tiling.region_runs(block);
            let largest = match self.largest.get(block) {
                Some(&largest) if !self.rule.centered => largest,
                _ => {
                    let scales = runs.iter().flat_map(|run| self.values.get(run.clone()).unwrap_or_default());
                    scales.fold(0.0f32, |largest, scale| largest.max(scale.abs())).into()
                }
            };
            let outer = self.rule.outer_grid(&scheme, largest, block)?;
            if let Some(least) = self.rule.least(&outer) {
                for run in runs {
                    let scales = self.values.get_mut(run).unwrap_or_default().iter_mut();
                    scales.filter(|scale| **scale > 0.0).for_each(|scale| *scale = scale.max(least));
                }
            }
            grids.push(outer)?;
        }
        self.largest = Vec::new();
        let mut quantized = QuantizedTensor::empty(scheme.clone());
        quantized.refill(&scheme, tiling, FloatType::F32, None);
        *quantized.parts().grids = grids;
        let view = ArrayView1::from(&*self.values);
        quantized.encode(&TensorView::new(&view), &Encoding::default())?;
        self.quantized = Some(Box::new(quantized));
        self.decode();
        Ok(())
    }

    fn decode(&mut self) {
        let Some(quantized) = &self.quantized else { return };
        self.values.resize(quantized.len(), 0.0);
        quantized.decode_piece(0..quantized.len(), false, &mut self.values);
        if self.rule.centered {
            self.values.iter_mut().for_each(|scale| *scale += self.mean);
        }
        // A code beside the largest scale may lead beyond what f32 holds.
        self.values.iter_mut().for_each(|scale| *scale = scale.clamp(-f32::MAX, f32::MAX));
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.values.iter().position(|scale| !scale.is_finite()) {
            Some(index) => {
                let scale = self.values.get(index).map_or(f64::NAN, |scale| Element::to_f64(*scale));
                Err(ConfigError::Scale { index, scale, rule: "finite" })
            }
            None => Ok(()),
        }
    }
}

/// The fields of [`TwoLevelScales`] that are stored.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    rule: String,
    mean: f32,
    scales: QuantizedTensor,
}

#[cfg(feature = "serde")]
impl From<TwoLevelScales> for Parts {
    fn from(scales: TwoLevelScales) -> Self {
        let TwoLevelScales { rule, mean, quantized, .. } = scales;
        let empty = || {
            let scheme =
                rule.scheme().unwrap_or_else(|_| AffineScheme::mid_rise(BitWidth::EIGHT, false).into());
            QuantizedTensor::empty(scheme)
        };
        Self { rule: rule.to_string(), mean, scales: quantized.map_or_else(empty, |scales| *scales) }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Parts> for TwoLevelScales {
    type Error = crate::Error;

    fn try_from(parts: Parts) -> Result<Self> {
        let arguments = text::call(&parts.rule)?;
        Self::from_codes(TwoLevel::read(arguments)?, parts.mean, parts.scales)
    }
}
