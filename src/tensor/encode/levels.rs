//! Codes on arbitrary levels: shared tables under scales, codebooks, binary codes.

use crate::bits::BitWidth;
use crate::element::Real;
use crate::granularity::Segment;
use crate::kernel::Code;
use crate::kernel::levels::{self, Boundary, LevelMaps, LevelParams, Ties};
use crate::tensor::encoding::{Dialect, Encoding, Rounding};
use crate::tensor::levels::{LevelGrids, LevelScheme, boundary};
use crate::tensor::scales::ScaleArray;

use super::{Encoder, Pattern};

/// Encodes on levels that `values` lists for a region, in the order of codes.
pub(super) struct LevelEncoder<'a, V> {
    count: usize,
    boundary: Boundary,
    values: V,
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
    ) -> LevelEncoder<'a, impl Fn(usize, &mut Vec<T>) + Sync + use<'a, T>> {
        let table = scheme.table();
        let rounding = encoding.rounding;
        // The dialects of affine codes say how a scale is applied.
        let multiply = matches!(encoding.dialect, Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq);
        LevelEncoder {
            count: scheme.codes().count() as usize,
            boundary: table.map_or_else(|| boundary(rounding, Ties::Low), |table| table.boundary(rounding)),
            values: move |_, out: &mut Vec<T>| out.extend(grids.values(scheme).map(T::from_f64)),
            scales: Some(grids.scales()),
            multiply,
            sigmoid: matches!(rounding, Rounding::StochasticSigmoid { .. }),
            nan: table.and_then(|table| table.nan()),
        }
    }

    /// Levels of each region's own.
    pub(super) fn own<V>(bits: BitWidth, rounding: Rounding, ties: Ties, values: V) -> LevelEncoder<'a, V> {
        LevelEncoder {
            count: bits.levels() as usize,
            boundary: boundary(rounding, ties),
            values,
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
    scale: Vec<T>,
    values: Vec<T>,
    /// The regions that all this is of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
}

impl<T: Real> Default for Params<T> {
    fn default() -> Self {
        Self { maps: LevelMaps::default(), scale: Vec::new(), values: Vec::new(), regions: None }
    }
}

impl<V> LevelEncoder<'_, V> {
    fn view<'p, T>(&self, params: &'p Params<T>) -> LevelParams<'p, T> {
        let (shared, multiply) = (self.scales.is_some(), self.multiply);
        LevelParams { maps: &params.maps, shared, scale: &params.scale, multiply }
    }
}

impl<T: Real, V: Fn(usize, &mut Vec<T>) + Sync> Encoder<T> for LevelEncoder<'_, V> {
    type Params = Params<T>;

    fn fill(&self, segment: &Segment, params: &mut Params<T>) {
        let (first, stride, count) = (segment.region, segment.stride, segment.blocks());
        let regions = Some((first, stride, count));
        if params.regions == regions {
            return;
        }
        let fresh = params.regions.is_none();
        params.regions = regions;
        let Params { maps, scale, values, .. } = params;
        let mut add = |maps: &mut LevelMaps<T>, region: usize| {
            values.clear();
            (self.values)(region, values);
            maps.push(values, self.boundary);
        };
        match self.scales {
            Some(scales) => {
                scale.clear();
                scales.extend_into(first, stride, count, scale);
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
                    add(maps, 0);
                }
            }
            None => {
                maps.reset(self.count);
                (first..).step_by(stride.max(1)).take(count).for_each(|region| add(maps, region));
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

    fn zero<C: Code>(&self, block: usize, params: &Params<T>) -> C {
        C::from_u16(levels::code_of_zero(&self.view(params), block))
    }

    fn nan(&self) -> Option<u16> {
        self.nan
    }
}
