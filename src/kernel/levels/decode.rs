//! From codes to values.

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::super::nibbles::halves::{self, Blocks};
use super::super::{Code, convert, dispatch, runs, stream};
#[cfg(target_arch = "x86_64")]
use super::{planes, short, wide};
use crate::element::{Element, Real};

/// Decodes codes: each block multiplies its table, of `size` values in the order of codes, by its scale. Values go past
/// the caches if `stream`; [`finish`](super::super::stream::finish) has to follow then before other threads may see them.
pub(crate) fn decode<T: Real, C: Code, A: Element>(
    fields: &[C],
    tables: &LevelTables<'_, T>,
    width: usize,
    phase: usize,
    stream: bool,
    out: &mut [A],
) {
    if !stream && let Some(out) = convert::same_mut::<A, T>(out) {
        return decode_same(fields, tables, width, phase, out);
    }
    let (mut stage, width) = ([T::zero(); STAGE], width.max(1));
    for (piece, (fields, out)) in fields.chunks(STAGE).zip(out.chunks_mut(STAGE)).enumerate() {
        let at = phase + piece * STAGE;
        let tables = tables.from(at / width);
        let stage = &mut stage[..out.len().min(STAGE)];
        decode_same(fields, &tables, width, at % width, stage);
        match convert::same_mut::<A, T>(out) {
            Some(out) => stream::copy(stage, out),
            None => convert::convert(stage, out),
        }
    }
}

/// As [`decode`] of values that are what is wanted.
fn decode_same<T: Real, C: Code>(
    fields: &[C],
    tables: &LevelTables<'_, T>,
    width: usize,
    phase: usize,
    out: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if wide::serves_bytes(width)
        && let (Some(bytes), Some(values)) = (C::bytes(fields), convert::same(tables.values))
        && let (Some(scale), Some(out)) = (convert::same(tables.scale), convert::same_mut(out))
    {
        let tables = LevelTables { values, size: tables.size, shared: tables.shared, scale };
        return wide::decode_bytes(bytes, &tables, width, phase, out);
    }
    look_up_all(fields, tables, width, phase, out);
}

/// Values that are put together before they are converted, or go past the caches.
const STAGE: usize = 1024;

/// As [`decode`], from 4-bit codes that are still packed: `first` is the place of the first in `bytes`. `false` where
/// that has no kernel, and nothing is written. Values go past the caches if `stream`, where a loop can do that;
/// [`finish`](super::super::stream::finish) has to follow then before other threads may see them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn decode_nibbles<T: Real, A: Element>(
    bytes: &[u8],
    first: usize,
    tables: &LevelTables<'_, T>,
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [A],
) -> bool {
    if !super::has_avx2() || tables.size != short::LEVELS {
        return false;
    }
    let (Some(values), Some(scale)) = (convert::same::<T, f32>(tables.values), convert::same(tables.scale))
    else {
        return false;
    };
    let (values, _) = values.as_chunks::<{ short::LEVELS }>();
    let values = if tables.shared { values.get(..1).unwrap_or_default() } else { values };
    let Some(bytes) = bytes.get(first / 2..) else { return false };
    if let Some(out) = convert::same_mut::<A, f32>(out) {
        values_of(bytes, first % 2, values, scale, (width, phase), stream, out);
        return true;
    }
    let blocks = Blocks { bases: values, scale, zero: &[], held: false };
    let done = if let Some(out) = convert::same_mut::<A, f16>(out) {
        halves::decode(bytes, first % 2, &blocks, (width, phase), stream, out)
    } else if let Some(out) = convert::same_mut::<A, bf16>(out) {
        halves::decode(bytes, first % 2, &blocks, (width, phase), stream, out)
    } else {
        false
    };
    if done {
        return true;
    }
    let (mut stage, width) = ([0.0; convert::STAGE], width.max(1));
    for (piece, out) in out.chunks_mut(convert::STAGE).enumerate() {
        let at = piece * convert::STAGE;
        let entry = (phase + at) / width;
        let values = if tables.shared { values } else { values.get(entry..).unwrap_or_default() };
        let left = if scale.is_empty() { scale } else { scale.get(entry..).unwrap_or_default() };
        if (left.is_empty() && !scale.is_empty()) || values.is_empty() {
            break;
        }
        let stage = &mut stage[..out.len()];
        let bytes = bytes.get(at / 2..).unwrap_or_default();
        values_of(bytes, first % 2, values, left, (width, (phase + at) % width), false, stage);
        convert::convert(stage, out);
    }
    true
}

/// As [`planes::decode`].
#[cfg(target_arch = "x86_64")]
fn values_of(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; short::LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [f32],
) {
    match tables {
        [table] if wide::serves(width, skip, stream, out) => {
            wide::decode(bytes, skip, table, scale, (width, phase), stream, out);
        }
        _ => planes::decode(bytes, skip, tables, scale, (width, phase), stream, out),
    }
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn decode_nibbles<T: Real, A: Element>(
    _: &[u8],
    _: usize,
    _: &LevelTables<'_, T>,
    _: (usize, usize),
    _: bool,
    _: &mut [A],
) -> bool {
    false
}

/// Tables and scales of blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelTables<'a, T> {
    /// `size` values for each block, or for all.
    pub values: &'a [T],
    /// Values of one table.
    pub size: usize,
    /// Whether all blocks share the first table.
    pub shared: bool,
    /// The scale of each block; empty for values that need none.
    pub scale: &'a [T],
}

impl<T: Real> LevelTables<'_, T> {
    /// The same for the blocks from `entry` on.
    fn from(&self, entry: usize) -> Self {
        let skip = if self.shared { 0 } else { entry * self.size };
        let values = self.values.get(skip..).unwrap_or_default();
        // An empty array of scales means none, so a missing scale must not look like that.
        let scale =
            if self.scale.is_empty() { self.scale } else { &self.scale[entry.min(self.scale.len() - 1)..] };
        Self { values, scale, ..*self }
    }
}

dispatch! {
    fn look_up_all[T: Real, C: Code](
        fields: &[C],
        tables: &LevelTables<'_, T>,
        width: usize,
        phase: usize,
        out: &mut [T],
    ) {
        let len = fields.len().min(out.len());
        for (entry, from, to) in runs(len, width, phase) {
            let at = if tables.shared { 0 } else { entry * tables.size };
            let table = tables.values.get(at..at + tables.size).unwrap_or_default();
            let scale = if tables.scale.is_empty() { None } else { tables.scale.get(entry).copied() };
            let (fields, out) = (&fields[from..to], &mut out[from..to]);
            // A byte needs no comparison with the length of a whole table.
            match (<&[T; 256]>::try_from(table), scale) {
                (Ok(table), None) => look_up(fields, table, out, |level| level),
                (Ok(table), Some(scale)) => look_up(fields, table, out, |level| level * scale),
                (Err(_), None) => look_up(fields, table, out, |level| level),
                (Err(_), Some(scale)) => look_up(fields, table, out, |level| level * scale),
            }
        }
    }
}

#[inline(always)]
fn look_up<T: Real, C: Code>(
    fields: &[C],
    table: &(impl Table<T> + ?Sized),
    out: &mut [T],
    value: impl Fn(T) -> T,
) {
    for (field, out) in fields.iter().zip(out) {
        *out = value(table.level(usize::from(field.to_u16())));
    }
}

/// Levels by code; zero for codes without one.
trait Table<T> {
    fn level(&self, code: usize) -> T;
}

impl<T: Real> Table<T> for [T] {
    #[inline(always)]
    fn level(&self, code: usize) -> T {
        self.get(code).copied().unwrap_or_default()
    }
}

impl<T: Real, const N: usize> Table<T> for [T; N] {
    #[inline(always)]
    fn level(&self, code: usize) -> T {
        self.get(code).copied().unwrap_or_default()
    }
}
