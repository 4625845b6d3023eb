//! Codes on uniform grids.

use crate::element::{Element, Real};
use crate::granularity::Segment;
use crate::kernel::affine::{self, Arithmetic, EncodeMode, EncodeParams};
use crate::kernel::blocks::{self, BlockParams, BlockRule, DIVISORS, Places};
use crate::kernel::column_reciprocals::ColumnReciprocals;
use crate::kernel::fake::{self, Values};
use crate::kernel::rows::{self, Row};
use crate::kernel::stochastic::{self, Place};
use crate::kernel::{Code, convert, levels, reduce};
use crate::tensor::affine::{AffineGrids, AffineScheme, BlockGrids, ZeroPointRule, ZeroPoints};
use crate::tensor::arrays::{Parameters, repeat};
use crate::tensor::decode::fill_zeros;
use crate::tensor::encoding::{Dialect, Encoding, Rounding};
use crate::tensor::grids::GridArrays;

use super::blocks::BlockMethod;
use super::{Encoder, Pattern};

/// Encodes on the grids of an affine tensor.
pub(super) struct AffineEncoder<'a> {
    scheme: &'a AffineScheme,
    grids: &'a AffineGrids,
    encoding: Encoding,
    stream: bool,
}

impl<'a> AffineEncoder<'a> {
    /// `stream`: whether codes of 8 bits go past the caches.
    pub(super) fn new<T: Real>(
        scheme: &'a AffineScheme,
        grids: &'a AffineGrids,
        encoding: &Encoding,
        stream: bool,
    ) -> Self {
        let mut encoding = *encoding;
        if encoding.dialect == Dialect::OpenVino && !spans_are_finite::<T>(scheme, grids) {
            // The same number without the span.
            encoding.dialect = Dialect::Gptq;
        }
        Self { scheme, grids, encoding, stream }
    }
}

/// Whether `S(q_max − Z) − S(q_min − Z)` is finite in `T` for every grid.
fn spans_are_finite<T: Real>(scheme: &AffineScheme, grids: &AffineGrids) -> bool {
    let ends = [scheme.codes().min(), scheme.codes().max()].map(|end| T::from_f64(f64::from(end)));
    (0..grids.len()).filter_map(|region| grids.get(region)).all(|grid| {
        let (scale, zero) = (T::from_f64(grid.scale), T::from_f64(grid.zero_point));
        let [low, high] = ends.map(|end| scale * (end - zero));
        (high - low).is_finite() && scale != T::zero()
    })
}

impl<T: Real> Encoder<T> for AffineEncoder<'_> {
    type Params = Params<T>;

    fn fill(&self, segment: &Segment, params: &mut Params<T>) {
        params.fill(self.scheme, self.grids, &self.encoding, segment);
    }

    fn fill_line(&self, line: &Segment, params: &mut Params<T>) {
        params.fill(self.scheme, self.grids, &self.encoding, line);
        if mode::<T>(self.scheme, &self.encoding).arithmetic == Arithmetic::Divide {
            params.find_reciprocals();
        }
    }

    fn encode<C: Code>(
        &self,
        x: &[T],
        Pattern { width, phase }: Pattern,
        params: &Params<T>,
        uniforms: Option<&[T]>,
        codes: &mut [C],
    ) -> bool {
        let mode = EncodeMode { stream: self.stream, ..mode::<T>(self.scheme, &self.encoding) };
        match uniforms {
            Some(uniforms) => {
                affine::encode_stochastic(x, width, phase, &params.view(), &mode, uniforms, codes)
            }
            None => affine::encode(x, width, phase, &params.view(), &mode, codes),
        }
    }

    fn encode_lines<A: Element, C: Code>(
        &self,
        x: &[A],
        phase: usize,
        params: &Params<T>,
        codes: &mut [C],
    ) -> Option<bool> {
        let mode = EncodeMode { stream: self.stream, ..mode::<T>(self.scheme, &self.encoding) };
        if params.common {
            affine::encode_lines(x, phase, &params.view(), &params.reciprocals, &mode, codes)
        } else {
            None
        }
    }

    fn reads_halves(&self, width: usize) -> bool {
        affine::reads_halves(width, &mode::<T>(self.scheme, &self.encoding))
    }

    fn reads_lines_of_halves(&self, line: usize) -> bool {
        matches!(self.grids.zero_points(), ZeroPoints::Fixed(_)) && Encoder::<T>::reads_halves(self, line)
    }

    fn encode_halves<A: Element, C: Code>(
        &self,
        x: &[A],
        Pattern { width, phase }: Pattern,
        params: &Params<T>,
        codes: &mut [C],
    ) -> Option<bool> {
        let mode = EncodeMode { stream: self.stream, ..mode::<T>(self.scheme, &self.encoding) };
        affine::encode_halves(x, width, phase, &params.view(), &mode, codes)
    }

    fn serves_seeded(&self, width: usize) -> bool {
        stochastic::serves(width, &mode::<T>(self.scheme, &self.encoding))
    }

    fn encode_seeded<A: Element, C: Code>(
        &self,
        x: &[A],
        Pattern { width, phase }: Pattern,
        params: &Params<T>,
        place: Place,
        codes: &mut [C],
    ) -> Option<bool> {
        let mode = EncodeMode { stream: self.stream, ..mode::<T>(self.scheme, &self.encoding) };
        stochastic::encode(x, width, phase, &params.view(), &mode, place, codes)
    }

    fn fakes(&self) -> bool {
        // Levels between which a number of each value's own chooses have no such loop.
        self.encoding.rounding.seed().is_none() && fake::serves(&mode::<T>(self.scheme, &self.encoding))
    }

    fn fakes_halves(&self, width: usize, stream: bool) -> bool {
        let mode = EncodeMode { stream, ..mode::<T>(self.scheme, &self.encoding) };
        self.encoding.rounding.seed().is_none() && fake::serves_halves(width, &mode)
    }

    fn fake<B: Element, A: Element>(
        &self,
        x: &[B],
        Pattern { width, phase }: Pattern,
        params: &Params<T>,
        values: Values<'_>,
        stream: bool,
        out: &mut [A],
    ) -> Option<bool> {
        let mode = EncodeMode { stream, ..mode::<T>(self.scheme, &self.encoding) };
        fake::fake(x, width, phase, &params.view(), &mode, values, out)
    }

    fn zero<C: Code>(&self, block: usize, params: &Params<T>) -> C {
        let (mode, mut code) = (mode::<T>(self.scheme, &self.encoding), [C::default()]);
        affine::encode(&[T::zero()], 1, 0, &params.entry(block), &mode, &mut code);
        code[0]
    }

    fn nan(&self) -> Option<u16> {
        None
    }
}

/// What the kernel does in the same way for all regions.
fn mode<T: Real>(scheme: &AffineScheme, encoding: &Encoding) -> EncodeMode<T> {
    let arithmetic = match encoding.dialect {
        Dialect::Onnx | Dialect::Aimet | Dialect::Gptq => Arithmetic::Divide,
        Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq => Arithmetic::Multiply,
        Dialect::OpenVino => Arithmetic::Span,
    };
    let rounding = match encoding.rounding {
        Rounding::NearestEven => affine::Rounding::NearestEven,
        Rounding::NearestAway => affine::Rounding::NearestAway,
        Rounding::Floor => affine::Rounding::Floor,
        Rounding::Ceil => affine::Rounding::Ceil,
        Rounding::TowardZero => affine::Rounding::TowardZero,
        // Of a single value without a number of its own.
        Rounding::Stochastic { .. } | Rounding::StochasticSigmoid { .. } => affine::Rounding::NearestEven,
    };
    let steps = T::from_f64(f64::from(scheme.codes().max() - scheme.codes().min()));
    EncodeMode {
        arithmetic,
        steps,
        rounding,
        mask: ((1u32 << scheme.bits().get()) - 1) as u16,
        stream: false,
    }
}

/// Kernel parameters of the blocks of one segment.
pub(super) struct Params<T> {
    scale: Parameters<T>,
    offset: Parameters<T>,
    zero: Parameters<T>,
    zero_before: Parameters<T>,
    low: Parameters<T>,
    high: Parameters<T>,
    zero_after: Parameters<i32>,
    /// The reciprocals of the scales, where lines are encoded.
    reciprocals: ColumnReciprocals,
    /// Whether bounds and zero points are the same for all blocks.
    common: bool,
    /// The regions that all this is of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
}

impl<T> Default for Params<T> {
    fn default() -> Self {
        Self {
            scale: Parameters::new(),
            offset: Parameters::new(),
            zero: Parameters::new(),
            zero_before: Parameters::new(),
            low: Parameters::new(),
            high: Parameters::new(),
            zero_after: Parameters::new(),
            reciprocals: ColumnReciprocals::default(),
            common: false,
            regions: None,
        }
    }
}

impl<T: Real> Params<T> {
    fn fill(&mut self, scheme: &AffineScheme, grids: &AffineGrids, encoding: &Encoding, segment: &Segment) {
        let count = segment.blocks();
        // Lines of the same regions follow each other where those lie along the last axis.
        let regions = Some((segment.region, segment.stride, count));
        if self.regions == regions {
            return;
        }
        self.regions = regions;
        self.reciprocals.clear();
        grids.scales().copy_into(segment.region, segment.stride, count, &mut self.scale);
        // Two-level scales may be zero: everything is then beyond reach of nothing, and decodes to zero.
        self.scale.iter_mut().filter(|scale| scale.is_zero()).for_each(|scale| *scale = T::infinity());
        fill_zeros(grids, segment, &mut self.zero);
        let integer = match grids.zero_points() {
            ZeroPoints::Fixed(zero) => zero.fract() == 0.0,
            ZeroPoints::Integer(_) => true,
            ZeroPoints::Real(_) => false,
        };
        self.common = matches!(grids.zero_points(), ZeroPoints::Fixed(_));
        self.complete(scheme, encoding, integer);
    }

    /// What follows from scales and zero points, which are `integer`s or not.
    fn complete(&mut self, scheme: &AffineScheme, encoding: &Encoding, integer: bool) {
        let count = self.scale.len();
        let Self { scale, offset, zero, zero_before, low, high, zero_after, common, .. } = self;
        let (q_min, q_max) = (scheme.codes().min(), scheme.codes().max());
        let (real_min, real_max) = (T::from_f64(f64::from(q_min)), T::from_f64(f64::from(q_max)));
        for array in [&mut *offset, zero_before, low, high] {
            array.clear();
        }
        zero_after.clear();
        match encoding.dialect {
            Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq => {
                scale.iter_mut().for_each(|scale| *scale = T::one() / *scale);
            }
            Dialect::OpenVino => {
                for (scale, &zero) in scale.iter_mut().zip(&*zero) {
                    let ends = (*scale * (real_min - zero), *scale * (real_max - zero));
                    offset.push(ends.0);
                    *scale = ends.1 - ends.0;
                }
                low.resize(count, T::zero());
                high.resize(count, real_max - real_min);
                zero_after.resize(count, q_min);
                return;
            }
            Dialect::Onnx | Dialect::Aimet | Dialect::Gptq => {}
        }
        if !integer || !matches!(encoding.dialect, Dialect::Onnx | Dialect::Torch | Dialect::Aimet) {
            zero_before.extend_from_slice(zero);
            repeat(real_min, count, low);
            repeat(real_max, count, high);
            return;
        }
        // Clamping before the zero point is added needs bounds moved by it.
        match zero.first() {
            Some(&zero) if *common || count == 1 => {
                repeat(real_min - zero, count, low);
                repeat(real_max - zero, count, high);
                repeat(Element::to_f64(zero) as i32, count, zero_after);
            }
            _ => {
                low.extend(zero.iter().map(|&zero| real_min - zero));
                high.extend(zero.iter().map(|&zero| real_max - zero));
                zero_after.extend(zero.iter().map(|&zero| Element::to_f64(zero) as i32));
            }
        }
    }

    /// Finds the reciprocals of all scales, if they are not there, and bounds are the same for all.
    fn find_reciprocals(&mut self) {
        if !self.common || !self.reciprocals.is_empty() {
            return;
        }
        let bounds =
            [&self.low, &self.high].map(|all| all.first().map_or(0.0, |&bound| Element::to_f64(bound)));
        if let Some(scales) = convert::same::<T, f32>(&self.scale) {
            self.reciprocals.find(scales, bounds[0].abs().max(bounds[1].abs()) as u32);
        }
    }

    /// The parameters of one block.
    fn entry(&self, block: usize) -> EncodeParams<'_, T> {
        let all = self.view();
        EncodeParams {
            scale: one(all.scale, block),
            offset: one(all.offset, block),
            zero_before: one(all.zero_before, block),
            low: one(all.low, block),
            high: one(all.high, block),
            zero_after: one(all.zero_after, block),
        }
    }

    fn view(&self) -> EncodeParams<'_, T> {
        EncodeParams {
            scale: &self.scale,
            offset: &self.offset,
            zero_before: &self.zero_before,
            low: &self.low,
            high: &self.high,
            zero_after: &self.zero_after,
        }
    }
}

/// Element `index` as a slice; empty where there is none.
fn one<T>(all: &[T], index: usize) -> &[T] {
    all.get(index..=index).unwrap_or_default()
}

/// Blocks on uniform grids from minimum to maximum.
pub(super) struct AffineBlocks<'a> {
    scheme: &'a AffineScheme,
    rule: BlockGrids<'a>,
    encoding: Encoding,
    /// The zero point that all blocks share.
    zero: Option<f64>,
}

/// Values of a block up to which a kernel finds ranges of several blocks at once.
const SHORT: usize = 256;

impl<'a> AffineBlocks<'a> {
    /// `None` where grids are no everyday ones, or the arithmetic is one that looks at all of them.
    pub(super) fn new(scheme: &'a AffineScheme, encoding: &Encoding) -> Option<Self> {
        let zero = match scheme.zero_point() {
            ZeroPointRule::Fixed(zero) => Some(zero),
            ZeroPointRule::Integer => None,
            ZeroPointRule::Real => return None,
        };
        if encoding.dialect == Dialect::OpenVino {
            return None;
        }
        Some(Self { scheme, rule: BlockGrids::new(scheme)?, encoding: *encoding, zero })
    }

    /// Finds the grid of one block, with values asked for that lie `ahead` bytes beyond.
    fn find_row<A: Element>(&self, x: &[A], ahead: usize, buffers: &mut AffineBuffers) -> bool {
        let AffineBuffers { low, high, scales, zeros, .. } = buffers;
        let (least, most, finite) = rows::range(x, ahead).unwrap_or_else(|| {
            let (mut least, mut most) = ([f32::INFINITY], [f32::NEG_INFINITY]);
            let finite = reduce::min_max(x, x.len(), 0, &mut least, &mut most);
            (least[0], most[0], finite)
        });
        for (array, end) in [(&mut *low, least), (&mut *high, most)] {
            array.clear();
            array.push(end);
        }
        scales.resize(1, 0.0);
        zeros.resize(usize::from(self.rule.has_zeros()), 0);
        finite && self.rule.find(low, high, scales, zeros)
    }

    /// Finds the grids of all blocks.
    fn find(&self, x: &[f32], width: usize, buffers: &mut AffineBuffers) -> bool {
        let AffineBuffers { low, high, scales, zeros, .. } = buffers;
        let count = x.len().div_ceil(width);
        scales.resize(count, 0.0);
        zeros.resize(if self.rule.has_zeros() { count } else { 0 }, 0);
        if !self.rule.has_zeros() && width <= SHORT {
            // The magnitude alone counts.
            high.resize(count, 0.0);
            return levels::magnitudes(x, width, high) && self.rule.find(high, high, scales, zeros);
        }
        low.clear();
        high.clear();
        low.resize(count, f32::INFINITY);
        high.resize(count, f32::NEG_INFINITY);
        reduce::min_max(x, width, 0, low, high) && self.rule.find(low, high, scales, zeros)
    }

    /// Whether the loops for blocks divide by scales, rather than multiply by their reciprocals; `None` where dialect or
    /// rounding are none that they have.
    fn divides(&self) -> Option<bool> {
        match self.encoding.dialect {
            _ if self.encoding.rounding != Rounding::NearestEven => None,
            Dialect::Onnx | Dialect::Aimet => Some(true),
            Dialect::Torch => Some(false),
            _ => None,
        }
    }

    /// Writes codes by the loops for blocks; `false` where these cannot serve.
    fn encode_short(&self, x: &[f32], width: usize, buffers: &mut AffineBuffers, codes: &mut [u8]) -> bool {
        let Some(divide) = self.divides() else { return false };
        let AffineBuffers { scales, zeros, inverses, .. } = buffers;
        let integer = self.zero.is_none_or(|zero| zero.fract() == 0.0);
        let divisors = !divide || scales.iter().fold(true, |all, scale| all & DIVISORS.contains(scale));
        if !(integer && divisors) {
            return false;
        }
        inverses.resize(scales.len(), 0.0);
        blocks::reciprocals(scales, inverses);
        let range = self.scheme.codes();
        let shared = [self.zero.unwrap_or_default() as i32];
        let params = BlockParams {
            scale: scales,
            inverse: inverses,
            zero: if self.zero.is_some() { &shared } else { zeros },
            codes: (range.min() as i16, range.max() as i16),
            divide,
            mask: ((1u32 << self.scheme.bits().get()) - 1) as u8,
        };
        blocks::encode(x, width, &params, codes);
        true
    }
}

/// Ranges and grids of some blocks.
#[derive(Default)]
pub(super) struct AffineBuffers {
    low: Vec<f32>,
    high: Vec<f32>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    inverses: Vec<f32>,
    params: Params<f32>,
}

impl BlockMethod for AffineBlocks<'_> {
    type Buffers = AffineBuffers;

    fn encode(&self, x: &[f32], width: usize, buffers: &mut AffineBuffers, codes: &mut [u8]) -> bool {
        if !self.find(x, width, buffers) {
            return false;
        }
        if self.encode_short(x, width, buffers, codes) {
            return true;
        }
        let AffineBuffers { scales, zeros, params, .. } = buffers;
        params.scale.clear();
        params.scale.extend_from_slice(scales);
        params.zero.clear();
        match self.zero {
            Some(zero) => params.zero.resize(scales.len(), zero as f32),
            None => params.zero.extend(zeros.iter().map(|&zero| zero as f32)),
        }
        params.complete(self.scheme, &self.encoding, self.zero.is_none_or(|zero| zero.fract() == 0.0));
        let mode = mode::<f32>(self.scheme, &self.encoding);
        // All values are finite and no scale is zero: nothing is NaN.
        affine::encode(x, width, 0, &params.view(), &mode, codes);
        true
    }

    fn encode_row<A: Element>(
        &self,
        x: &[A],
        ahead: usize,
        stream: bool,
        buffers: &mut AffineBuffers,
        codes: &mut [u8],
    ) -> Option<bool> {
        let divide = self.divides()?;
        if self.zero.is_some_and(|zero| zero.fract() != 0.0) {
            return None;
        }
        if !self.find_row(x, ahead, buffers) {
            return Some(false);
        }
        let &scale = buffers.scales.first()?;
        let zero = self.zero.map_or_else(|| buffers.zeros.first().copied(), |zero| Some(zero as i32))?;
        let range = self.scheme.codes();
        let codes_of = (range.min() as i16, range.max() as i16);
        let row = Row { scale, zero: zero as i16, codes: codes_of, divide, ahead, stream };
        ((!divide || DIVISORS.contains(&scale)) && rows::encode(x, &row, codes)).then_some(true)
    }

    fn encode_at_once<A: Element>(&self, x: &[A], width: usize, places: Places<'_>) -> Option<bool> {
        let zero = self.zero.filter(|zero| zero.fract() == 0.0)?;
        let divide = self.divides()?;
        let codes = self.scheme.codes();
        let rule = BlockRule {
            range: self.rule.rule(),
            zero: zero as i16,
            codes: (codes.min() as i16, codes.max() as i16),
            bits: self.scheme.bits().get(),
            divide,
        };
        blocks::encode_at_once(x, width, &rule, places)
    }

    fn found(buffers: &AffineBuffers) -> (&[f32], &[i32]) {
        (&buffers.scales, &buffers.zeros)
    }
}
