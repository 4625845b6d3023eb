//! From codes to values.

use super::super::{Code, convert, dispatch, runs};
#[cfg(target_arch = "x86_64")]
use super::short;
use crate::element::{Element, Real};

/// Decodes codes: each block multiplies its table, of `size` values in the order of codes, by its scale.
pub(crate) fn decode<T: Real, C: Code, A: Element>(
    fields: &[C],
    tables: &LevelTables<'_, T>,
    width: usize,
    phase: usize,
    out: &mut [A],
) {
    if A::TYPE == T::TYPE
        && let Some(out) = convert::same_mut::<A, T>(out)
    {
        return decode_same(fields, tables, width, phase, out);
    }
    let mut stage = [T::zero(); convert::STAGE];
    for (piece, (fields, out)) in
        fields.chunks(convert::STAGE).zip(out.chunks_mut(convert::STAGE)).enumerate()
    {
        let width = width.max(1);
        let at = phase + piece * convert::STAGE;
        let tables = tables.from(at / width);
        let stage = &mut stage[..out.len().min(convert::STAGE)];
        decode_same(fields, &tables, width, at % width, stage);
        convert::convert(stage, out);
    }
}

/// As [`decode`], from 4-bit codes that are still packed: `first` is the place of the first in `bytes`. `false` where
/// that has no kernel, and nothing is written. Values go past the caches if `stream`, where a loop can do that.
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
        short::decode(bytes, first % 2, values, scale, (width, phase), stream, out);
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
        short::decode(bytes, first % 2, values, left, (width, (phase + at) % width), false, stage);
        convert::convert(stage, out);
    }
    true
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
    fn decode_same[T: Real, C: Code](
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
