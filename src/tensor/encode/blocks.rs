//! Short blocks on shared levels whose range is that of their values: scales and codes in one pass over memory.
//!
//! What is here does what fitting and then encoding do, a few blocks at a time, so that values are still in the
//! first-level cache when their codes are written. Whatever is out of the ordinary it leaves to them.

use crate::element::FloatType;
use crate::granularity::Tiling;
use crate::kernel::levels::{self, LevelMaps, LevelParams};
use crate::kernel::pack;
use crate::parallel;
use crate::tensor::codes::PackedCodes;
use crate::tensor::encoding::{Dialect, Encoding, NonFinite};
use crate::tensor::levels::{BlockScales, LevelGrids, LevelScheme};
use crate::tensor::view::{CHUNK, TensorView};

/// Elements whose scales are found before they are encoded.
const STEP: usize = 1024;

/// Elements of a thread's share: whole steps.
const SHARE: usize = 64;

/// Finds the scales of all blocks, from minimum to maximum, and writes the codes; `false` where values, scheme, tiling or
/// encoding are not as this needs them, or an error is to be reported. Nothing may be kept of codes and grids then.
pub(crate) fn encode(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    (scheme, grids): (&LevelScheme, &mut LevelGrids),
    encoding: &Encoding,
    codes: &mut PackedCodes,
) -> bool {
    let bits = scheme.bits();
    let plain = tensor.element_type() != FloatType::F64
        && !tensor.is_empty()
        && tensor.chunk_len() == CHUNK
        && tensor.importance().is_none()
        && tiling.shape() == tensor.shape()
        && encoding.non_finite == NonFinite::Error
        && encoding.rounding.seed().is_none()
        && bits.get() <= 8;
    let (true, Some(width), Some(table), Some(rule)) =
        (plain, tiling.consecutive_blocks(), scheme.table(), BlockScales::new(scheme))
    else {
        return false;
    };
    // Steps of whole blocks are whole bytes.
    if !width.is_multiple_of(8) || width > STEP / 4 {
        return false;
    }
    let multiply = matches!(encoding.dialect, Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq);
    let mut maps = LevelMaps::<f32>::default();
    maps.reset(scheme.codes().count() as usize);
    table.push_map(encoding.rounding, &mut maps);
    maps.prepare(CHUNK);
    let Ok(bytes) = codes.reset(bits, scheme.codes().is_signed(), tensor.len()) else { return false };

    let step = STEP / width * width;
    let share = step * SHARE;
    let step_bytes = step / 8 * bits.get() as usize;
    let shares = parallel::map_chunks(
        bytes,
        step_bytes * SHARE,
        tensor.len(),
        Scratch::default,
        |Scratch { values, factors, narrow }, index, bytes| {
            let range = index * share..((index + 1) * share).min(tensor.len());
            let mut scales = vec![0.0; range.len().div_ceil(width)];
            let places = range.clone().step_by(step).zip(bytes.chunks_mut(step_bytes));
            for ((start, bytes), scales) in places.zip(scales.chunks_mut(step / width)) {
                let x = tensor.chunk::<f32>(start..(start + step).min(range.end), values);
                // Magnitudes first, then scales in their place.
                if !(levels::magnitudes(x, width, scales) && rule.find(scales)) {
                    return None;
                }
                let scale = if multiply {
                    factors.clear();
                    factors.extend(scales.iter().map(|scale| 1.0 / scale));
                    &*factors
                } else {
                    &*scales
                };
                let params = LevelParams { maps: &maps, shared: true, scale, multiply };
                if bits.get() == 8 {
                    levels::encode(x, width, 0, &params, bytes);
                } else {
                    narrow.resize(x.len(), 0);
                    levels::encode(x, width, 0, &params, narrow);
                    pack::pack(narrow, bits.get(), bytes);
                }
            }
            Some(scales)
        },
    );
    shares.into_iter().all(|scales| scales.is_some_and(|scales| grids.extend_exact(&scales)))
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    factors: Vec<f32>,
    narrow: Vec<u8>,
}
