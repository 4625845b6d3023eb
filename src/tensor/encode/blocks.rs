//! Regions that follow each other in memory and whose range is that of their values: grids and codes in one pass.
//!
//! What is here does what fitting and then encoding do, a few regions at a time, so that values are still in the
//! first-level cache when their codes are written. Whatever is out of the ordinary it leaves to them.

use core::ops::Range;

use half::{bf16, f16};

use crate::bits::BitWidth;
use crate::element::{Element, FloatType};
use crate::granularity::Tiling;
use crate::kernel::blocks::Places;
use crate::kernel::{self, pack, rows, stream};
use crate::parallel;
use crate::tensor::affine::{AffineGrids, AffineScheme};
use crate::tensor::code_range::CodeRange;
use crate::tensor::codes::PackedCodes;
use crate::tensor::encoding::{Encoding, NonFinite};
use crate::tensor::levels::{LevelGrids, LevelScheme};
use crate::tensor::places::GridPlaces;
use crate::tensor::view::{CHUNK, TensorView};

use super::affine::AffineBlocks;
use super::levels::LevelBlocks;

/// Elements whose grids are found before they are encoded, where regions are not longer.
const STEP: usize = 1024;

/// Regions longer than that are served so many at a time, whose memory answers at once, if they stay in the second-level
/// cache.
const TOGETHER: usize = 4;

/// The longest regions: still in the second-level cache when they are read again.
const LONGEST: usize = 1 << 15;

/// Bytes of a tensor that may well be in a core's own caches.
const CACHED: usize = 1 << 19;

/// Elements of a thread's share, where a step is not longer.
const SHARE: usize = 1 << 16;

/// How blocks get grids and codes.
pub(super) trait BlockMethod: Sync {
    /// Buffers of one thread.
    type Buffers: Default + Send;

    /// Finds the grids of blocks of `width` values, of which the last may be shorter, and writes a code of one byte for
    /// each value. `false` where a block has no grid, or is none that this is for.
    fn encode(&self, x: &[f32], width: usize, buffers: &mut Self::Buffers, codes: &mut [u8]) -> bool;

    /// As [`encode`](Self::encode), of one long block, whose codes go past the caches if `stream`, and with values asked for
    /// that lie `ahead` bytes beyond; `None` where there is no loop for that.
    fn encode_row<A: Element>(
        &self,
        _x: &[A],
        _ahead: usize,
        _stream: bool,
        _buffers: &mut Self::Buffers,
        _codes: &mut [u8],
    ) -> Option<bool> {
        None
    }

    /// Finds the scales of all blocks and writes the packed codes of all values, in one pass. `Some(false)` where a block
    /// has no everyday scale, and nothing written counts; `None` where there is no loop for that.
    fn encode_at_once<A: Element>(&self, _x: &[A], _width: usize, _places: Places<'_>) -> Option<bool> {
        None
    }

    /// The scales and zero points that were found.
    fn found(buffers: &Self::Buffers) -> (&[f32], &[i32]);
}

/// Finds the scales of all blocks, from minimum to maximum, and writes the codes; `false` where values, scheme, tiling or
/// encoding are not as this needs them, or an error is to be reported. Nothing may be kept of codes and grids then.
pub(crate) fn encode_levels(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    (scheme, grids): (&LevelScheme, &mut LevelGrids),
    encoding: &Encoding,
    codes: &mut PackedCodes,
) -> bool {
    let Some(blocks) = Blocks::of(tensor, tiling, encoding, (scheme.bits(), scheme.codes())) else {
        return false;
    };
    match (LevelBlocks::new(scheme, encoding), grids.places(tiling.regions())) {
        (Some(method), Some(places)) => blocks.encode(&method, places, codes),
        _ => false,
    }
}

/// As [`encode_levels`], for uniform grids.
pub(crate) fn encode_affine(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    (scheme, grids): (&AffineScheme, &mut AffineGrids),
    encoding: &Encoding,
    codes: &mut PackedCodes,
) -> bool {
    let Some(blocks) = Blocks::of(tensor, tiling, encoding, (scheme.bits(), scheme.codes())) else {
        return false;
    };
    match (AffineBlocks::new(scheme, encoding), grids.places(tiling.regions())) {
        (Some(method), Some(places)) => blocks.encode(&method, places, codes),
        _ => false,
    }
}

/// A tensor whose regions are blocks that follow each other.
struct Blocks<'a, 't> {
    tensor: &'a TensorView<'t>,
    /// Elements of a block.
    width: usize,
    /// Blocks that are served together: whole bytes of codes.
    per_step: usize,
    bits: BitWidth,
    signed: bool,
    /// Whether codes go past the caches.
    stream: bool,
}

/// What one thread fills: the elements `range`.
struct Share<'a> {
    range: Range<usize>,
    bytes: &'a mut [u8],
    places: GridPlaces<'a>,
}

impl<'a, 't> Blocks<'a, 't> {
    /// `None` where the tensor is cut in another way, or needs what these loops cannot do.
    fn of(
        tensor: &'a TensorView<'t>,
        tiling: &Tiling,
        encoding: &Encoding,
        (bits, codes): (BitWidth, CodeRange),
    ) -> Option<Self> {
        let plain = tensor.element_type() != FloatType::F64
            && !tensor.is_empty()
            && tensor.chunk_len() == CHUNK
            && tensor.importance().is_none()
            && tiling.shape() == tensor.shape()
            && encoding.non_finite == NonFinite::Error
            && encoding.rounding.seed().is_none()
            && bits.get() <= 8;
        let width = tiling.consecutive_blocks().filter(|&width| plain && width <= LONGEST)?;
        let together = if width > STEP && TOGETHER * width <= LONGEST { TOGETHER } else { 1 };
        let per_step = (STEP / width).max(together);
        // Eight of any width are whole bytes.
        let whole = (width * bits.get() as usize).is_multiple_of(8);
        let per_step = if whole { per_step } else { per_step.next_multiple_of(8) };
        let bytes = pack::packed_len(tensor.len(), bits.get())?;
        let stream = kernel::streams(tensor.bytes().saturating_add(bytes));
        Some(Self { tensor, width, per_step, bits, signed: codes.is_signed(), stream })
    }

    fn encode<M: BlockMethod>(&self, method: &M, places: GridPlaces<'_>, codes: &mut PackedCodes) -> bool {
        let len = self.tensor.len();
        let Ok(mut bytes) = codes.reset(self.bits, self.signed, len) else { return false };
        let step = self.per_step * self.width;
        let steps = (SHARE / step).max(1);
        let share_bytes = steps * step * self.bits.get() as usize / 8;
        let mut shares = Vec::with_capacity(len.div_ceil(steps * step));
        let mut places = places;
        for start in (0..len).step_by(steps * step) {
            let range = start..(start + steps * step).min(len);
            let (first, rest) = places.split_at(steps * self.per_step);
            let (here, after) = bytes.split_at_mut(share_bytes.min(bytes.len()));
            shares.push(Share { range, bytes: here, places: first });
            (places, bytes) = (rest, after);
        }
        let buffers = || (Scratch::default(), M::Buffers::default());
        let done = parallel::map_chunks(&mut shares, 1, len, buffers, |(scratch, buffers), _, shares| {
            shares.iter_mut().all(|share| self.share(method, share, scratch, buffers))
        });
        done.into_iter().all(|done| done)
    }

    /// The elements of one share; `false` as soon as a block is none that this is for.
    fn share<M: BlockMethod>(
        &self,
        method: &M,
        share: &mut Share<'_>,
        scratch: &mut Scratch,
        buffers: &mut M::Buffers,
    ) -> bool {
        if let Some(done) = self.rows(method, share, buffers) {
            return done;
        }
        let (step, bits) = (self.per_step * self.width, self.bits.get());
        if self.at_once(method, share) {
            return true;
        }
        let Scratch { values, narrow, packed } = scratch;
        let bytes = share.bytes.chunks_mut((step * bits as usize / 8).max(1));
        // What needs no conversion is borrowed once.
        let mut none = Vec::new();
        let borrowed = match self.tensor.element_type() {
            FloatType::F32 => self.tensor.chunk::<f32>(share.range.clone(), &mut none),
            _ => &[],
        };
        for ((at, start), bytes) in share.range.clone().step_by(step).enumerate().zip(bytes) {
            let end = (start + step).min(share.range.end);
            let x = match borrowed.get(start - share.range.start..end - share.range.start) {
                Some(x) => x,
                None => self.tensor.chunk::<f32>(start..end, values),
            };
            let whole = bits == 8;
            if whole && !self.stream {
                if !method.encode(x, self.width, buffers, bytes) {
                    return false;
                }
            } else {
                narrow.resize(x.len(), 0);
                if !method.encode(x, self.width, buffers, narrow) {
                    return false;
                }
                if whole {
                    stream::copy(narrow, bytes);
                } else if self.stream {
                    packed.resize(bytes.len(), 0);
                    pack::pack(narrow, bits, packed);
                    stream::copy(packed, bytes);
                } else {
                    pack::pack(narrow, bits, bytes);
                }
            }
            let (scales, zeros) = M::found(buffers);
            share.places.write(at * self.per_step, scales, zeros);
        }
        if self.stream {
            stream::finish();
        }
        true
    }

    /// As [`share`](Self::share), row by row, where blocks are long ones whose codes are whole bytes.
    fn rows<M: BlockMethod>(
        &self,
        method: &M,
        share: &mut Share<'_>,
        buffers: &mut M::Buffers,
    ) -> Option<bool> {
        if self.width < rows::SHORTEST || self.bits.get() != 8 {
            return None;
        }
        match self.tensor.element_type() {
            FloatType::F32 => self.rows_of::<f32, M>(method, share, buffers),
            FloatType::F16 => self.rows_of::<f16, M>(method, share, buffers),
            FloatType::Bf16 => self.rows_of::<bf16, M>(method, share, buffers),
            FloatType::F64 => None,
        }
    }

    fn rows_of<A: Element, M: BlockMethod>(
        &self,
        method: &M,
        share: &mut Share<'_>,
        buffers: &mut M::Buffers,
    ) -> Option<bool> {
        let x = self.tensor.slice::<A>(share.range.clone())?;
        // What is in the caches anyway need not be asked for.
        let ahead = if self.tensor.bytes() > CACHED { self.width * size_of::<A>() } else { 0 };
        let codes = share.bytes.chunks_mut(self.width);
        for (row, (x, codes)) in x.chunks(self.width).zip(codes).enumerate() {
            if !method.encode_row(x, ahead, self.stream, buffers, codes)? {
                return Some(false);
            }
            let (scales, zeros) = M::found(buffers);
            share.places.write(row, scales, zeros);
        }
        if self.stream {
            stream::finish();
        }
        Some(true)
    }

    /// As [`share`](Self::share), by the loops that do it in one pass; `false` where there are none for these blocks.
    fn at_once<M: BlockMethod>(&self, method: &M, share: &mut Share<'_>) -> bool {
        match self.tensor.element_type() {
            FloatType::F32 => self.at_once_of::<f32, M>(method, share),
            FloatType::F16 => self.at_once_of::<f16, M>(method, share),
            FloatType::Bf16 => self.at_once_of::<bf16, M>(method, share),
            FloatType::F64 => false,
        }
    }

    fn at_once_of<A: Element, M: BlockMethod>(&self, method: &M, share: &mut Share<'_>) -> bool {
        let Some(x) = self.tensor.slice::<A>(share.range.clone()) else { return false };
        let scales = share.places.scales.reborrow();
        let places = Places { scales, codes: share.bytes, stream: self.stream };
        let done = method.encode_at_once(x, self.width, places) == Some(true);
        if done && self.stream {
            stream::finish();
        }
        done
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    values: Vec<f32>,
    narrow: Vec<u8>,
    packed: Vec<u8>,
}
