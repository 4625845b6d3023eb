//! Codes on arbitrary levels: shared tables under scales, codebooks, binary codes.

use std::sync::OnceLock;

use crate::bits::BitWidth;
use crate::element::{Element, Real};
use crate::granularity::Segment;
use crate::kernel::Code;
use crate::kernel::blocks::Places;
use crate::kernel::levels::{self, BlockLevels, HalfCodes, LevelMaps, LevelParams, Ties, WORTH_A_TABLE};
use crate::tensor::arrays::Parameters;
use crate::tensor::codebook::{CodebookGrids, CodebookScheme};
use crate::tensor::encoding::{Dialect, Encoding, Rounding};
use crate::tensor::levels::{BlockScales, LevelGrids, LevelScheme, LevelTable, boundary};
use crate::tensor::scales::ScaleArray;
use crate::tensor::view::CHUNK;

use super::blocks::BlockMethod;
use super::{Encoder, Pattern};

/// Elements that levels of all regions serve at least, for what is worth preparing.
const SHARED: usize = 4096;

/// Encodes on the levels that `add` appends for a region.
pub(super) struct LevelEncoder<'a, A> {
    count: usize,
    add: A,
    /// The scales of levels that all regions share.
    scales: Option<&'a ScaleArray>,
    multiply: bool,
    sigmoid: bool,
    nan: Option<u16>,
}

impl<'a> LevelEncoder<'a, ()> {
    /// Levels that all regions share, under a scale for each.
    pub(super) fn shared<T: Real>(
        scheme: &'a LevelScheme,
        grids: &'a LevelGrids,
        encoding: &Encoding,
    ) -> LevelEncoder<'a, impl Fn(usize, &mut LevelMaps<T>) + Sync + use<'a, T>> {
        let rounding = encoding.rounding;
        // The dialects of affine codes say how a scale is applied.
        let multiply = matches!(encoding.dialect, Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq);
        LevelEncoder {
            count: scheme.codes().count() as usize,
            add: move |_, maps: &mut LevelMaps<T>| match scheme.table() {
                Some(table) => table.push_map(rounding, maps),
                None => {
                    let values: Vec<T> = grids.values(scheme).map(T::from_f64).collect();
                    maps.push(&values, boundary(rounding, Ties::Low));
                }
            },
            scales: Some(grids.scales()),
            multiply,
            sigmoid: matches!(rounding, Rounding::StochasticSigmoid { .. }),
            nan: scheme.table().and_then(LevelTable::nan),
        }
    }

    /// Codebooks with the thresholds between their levels.
    pub(super) fn by_thresholds<T: Real>(
        scheme: &CodebookScheme,
        grids: &'a CodebookGrids,
        thresholds: &'a [Vec<f64>],
    ) -> LevelEncoder<'a, impl Fn(usize, &mut LevelMaps<T>) + Sync + use<'a, T>> {
        LevelEncoder {
            count: scheme.bits().levels() as usize,
            add: move |region, maps: &mut LevelMaps<T>| {
                let cuts = thresholds.get(region).map_or(&[][..], Vec::as_slice);
                let levels = grids.values(region).take(cuts.len() + 1).map(T::from_f64);
                let codes: Vec<u16> = (0..=cuts.len()).map(|code| code as u16).collect();
                maps.push_known(levels, cuts.iter().map(|&cut| levels::at_least::<T>(cut, true)), &codes);
            },
            scales: None,
            multiply: false,
            sigmoid: false,
            nan: None,
        }
    }

    /// Levels of each region's own, which `values` gives in the order of codes.
    pub(super) fn own<T: Real, V: IntoIterator<Item = f64>>(
        bits: BitWidth,
        rounding: Rounding,
        ties: Ties,
        values: impl Fn(usize) -> V + Sync,
    ) -> LevelEncoder<'a, impl Fn(usize, &mut LevelMaps<T>) + Sync> {
        LevelEncoder {
            count: bits.levels() as usize,
            add: move |region, maps: &mut LevelMaps<T>| {
                let values: Vec<T> = values(region).into_iter().map(T::from_f64).collect();
                maps.push(&values, boundary(rounding, ties));
            },
            scales: None,
            multiply: false,
            sigmoid: matches!(rounding, Rounding::StochasticSigmoid { .. }),
            nan: None,
        }
    }
}

/// Maps and scales of the blocks of one segment.
pub(super) struct Params<T> {
    maps: LevelMaps<T>,
    scale: Parameters<T>,
    /// The regions that all this is of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
    /// The codes of all numbers of 16 bits, once they are asked for, by map; `None` where there are no such tables.
    halves: OnceLock<Option<Vec<HalfCodes>>>,
}

impl<T: Real> Default for Params<T> {
    fn default() -> Self {
        Self { maps: LevelMaps::default(), scale: Parameters::new(), regions: None, halves: OnceLock::new() }
    }
}

impl<A> LevelEncoder<'_, A> {
    fn view<'p, T>(&self, params: &'p Params<T>) -> LevelParams<'p, T> {
        let (shared, multiply) = (self.scales.is_some(), self.multiply);
        LevelParams { maps: &params.maps, shared, scale: &params.scale, multiply }
    }
}

impl<T: Real, A: Fn(usize, &mut LevelMaps<T>) + Sync> Encoder<T> for LevelEncoder<'_, A> {
    type Params = Params<T>;

    fn fill(&self, segment: &Segment, params: &mut Params<T>) {
        let (first, stride, count) = (segment.region, segment.stride, segment.blocks());
        let regions = Some((first, stride, count));
        if params.regions == regions {
            return;
        }
        let fresh = params.regions.is_none();
        params.regions = regions;
        let Params { maps, scale, halves, .. } = params;
        *halves = OnceLock::new();
        match self.scales {
            Some(scales) => {
                scales.copy_into(first, stride, count, scale);
                for scale in scale {
                    // Two-level scales may be zero: whatever the code, the value is zero.
                    *scale = match (scale.is_zero(), self.multiply) {
                        (true, true) => T::zero(),
                        (true, false) => T::infinity(),
                        (false, true) => T::one() / *scale,
                        (false, false) => *scale,
                    };
                }
                if fresh {
                    maps.reset(self.count);
                    (self.add)(0, maps);
                    maps.prepare(SHARED);
                }
            }
            None => {
                maps.reset(self.count);
                (first..).step_by(stride.max(1)).take(count).for_each(|region| (self.add)(region, maps));
                maps.prepare(segment.width);
            }
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
        let params = self.view(params);
        match uniforms {
            Some(uniforms) => {
                levels::encode_stochastic(x, width, phase, &params, self.sigmoid, uniforms, codes)
            }
            None => levels::encode(x, width, phase, &params, codes),
        }
    }

    fn reads_halves(&self, width: usize) -> bool {
        self.scales.is_none() && width >= WORTH_A_TABLE
    }

    fn encode_halves<H: Element, C: Code>(
        &self,
        x: &[H],
        Pattern { width, phase }: Pattern,
        params: &Params<T>,
        codes: &mut [C],
    ) -> Option<bool> {
        let codes = C::bytes_mut(codes).filter(|_| self.reads_halves(width))?;
        if let Some(nan) = levels::encode_halves(x, width, phase, &params.maps, codes) {
            return Some(nan);
        }
        let tables = params.halves.get_or_init(|| HalfCodes::of_maps::<H, T>(&params.maps)).as_ref()?;
        let (mut x, mut codes, mut nan) = (x, codes, false);
        let mut block = width - phase.min(width);
        for table in tables {
            let len = block.min(x.len()).min(codes.len());
            let (now, later) = (x.split_at(len), codes.split_at_mut(len));
            nan |= table.look_up(now.0, later.0)?;
            (x, codes, block) = (now.1, later.1, width);
        }
        x.is_empty().then_some(nan)
    }

    fn zero<C: Code>(&self, block: usize, params: &Params<T>) -> C {
        C::from_u16(levels::code_of_zero(&self.view(params), block))
    }

    fn nan(&self) -> Option<u16> {
        self.nan
    }
}

/// Blocks on levels that all regions share, under scales from minimum to maximum.
pub(super) struct LevelBlocks<'a> {
    rule: BlockScales<'a>,
    maps: LevelMaps<f32>,
    multiply: bool,
    /// The loops that find scales and codes in one pass, if there are any.
    at_once: Option<BlockLevels>,
}

impl<'a> LevelBlocks<'a> {
    /// `None` for levels that are stored with a tensor, and for scales that are no function of a magnitude alone.
    pub(super) fn new(scheme: &'a LevelScheme, encoding: &Encoding) -> Option<Self> {
        let (table, rule) = (scheme.table()?, BlockScales::new(scheme)?);
        let multiply = matches!(encoding.dialect, Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq);
        let mut maps = LevelMaps::<f32>::default();
        maps.reset(scheme.codes().count() as usize);
        table.push_map(encoding.rounding, &mut maps);
        maps.prepare(CHUNK);
        let nibbles = scheme.bits().get() == 4;
        let at_once = rule
            .formula()
            .filter(|_| nibbles)
            .and_then(|(scale, of_zeros)| BlockLevels::new(&maps, scale, of_zeros, multiply));
        Some(Self { rule, maps, multiply, at_once })
    }
}

/// Scales of blocks, and what values are multiplied by.
#[derive(Default)]
pub(super) struct LevelBuffers {
    scales: Vec<f32>,
    factors: Vec<f32>,
}

impl BlockMethod for LevelBlocks<'_> {
    type Buffers = LevelBuffers;

    fn encode(&self, x: &[f32], width: usize, buffers: &mut LevelBuffers, codes: &mut [u8]) -> bool {
        let LevelBuffers { scales, factors } = buffers;
        scales.resize(x.len().div_ceil(width), 0.0);
        // Magnitudes first, then scales in their place.
        if !(levels::magnitudes(x, width, scales) && self.rule.find(scales)) {
            return false;
        }
        let scale = if self.multiply {
            factors.clear();
            factors.extend(scales.iter().map(|scale| 1.0 / scale));
            &*factors
        } else {
            &*scales
        };
        let params = LevelParams { maps: &self.maps, shared: true, scale, multiply: self.multiply };
        levels::encode(x, width, 0, &params, codes);
        true
    }

    fn encode_at_once<A: Element>(&self, x: &[A], width: usize, places: Places<'_>) -> Option<bool> {
        self.at_once.as_ref()?.encode(x, width, places)
    }

    fn found(buffers: &LevelBuffers) -> (&[f32], &[i32]) {
        (&buffers.scales, &[])
    }
}
