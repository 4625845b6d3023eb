//! Encoding and decoding on arbitrary levels: a value gets the level that its neighbours' boundary assigns.
//!
//! Every deterministic decision is a list of *cuts*: `cut[i]` is the smallest number that belongs to level `i + 1`
//! rather than to level `i`, so the level of `v` is the number of cuts that are not above it.

use super::{Code, dispatch, runs};
use crate::element::{Element, FloatType, Real};

/// Which of two neighbouring levels gets a value that is as near to one as to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ties {
    /// The lower one.
    Low,
    /// The upper one.
    High,
    /// The one farther from zero.
    Away,
}

/// Where the boundary between two neighbouring levels lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Boundary {
    /// Half way.
    Midpoint(Ties),
    /// At the upper level: every value goes down.
    Floor,
    /// Just above the lower level: every value goes up.
    Ceil,
    /// Every value goes to the level nearer to zero.
    TowardZero,
}

/// Levels, cuts and codes of one or more maps of `count` places each, ascending. Places that are not needed repeat the
/// last level behind cuts that nothing reaches.
#[derive(Debug, Clone, Default)]
pub(crate) struct LevelMaps<T> {
    pub(crate) count: usize,
    pub(crate) levels: Vec<T>,
    /// `count - 1` for each map.
    pub(crate) cuts: Vec<T>,
    pub(crate) codes: Vec<u16>,
    order: Vec<u16>,
    /// Where the search in each map begins, if that is prepared.
    starts: Vec<Starts<T>>,
}

/// Cells of equal width over the cuts of a map, that say where to begin to search.
#[derive(Debug, Clone)]
struct Starts<T> {
    low: T,
    /// Cells per unit.
    density: T,
    /// The number of cuts before each cell.
    before: Box<[u16; CELLS]>,
    /// The most cuts in a cell.
    most: usize,
}

/// Cells for a map: as many as a few pages of the first-level cache hold.
const CELLS: usize = 1024;

impl<T: Real> Starts<T> {
    /// `None` where the arithmetic cannot divide the cuts.
    fn new(cuts: &[T]) -> Option<Self> {
        let low = *cuts.first()?;
        let high = *cuts.iter().rfind(|cut| cut.is_finite())?;
        let density = <T as Element>::from_f64((CELLS - 1) as f64) / (high - low);
        if !(high > low && density.is_normal() && (high - low).is_normal()) {
            return None;
        }
        let mut starts = Self { low, density, before: Box::new([0; CELLS]), most: 0 };
        let mut counts = [0u16; CELLS];
        for &cut in cuts {
            counts[starts.cell(cut)] += 1;
        }
        let mut before = 0;
        for (cell, count) in counts.into_iter().enumerate() {
            starts.before[cell] = before;
            before += count;
            starts.most = starts.most.max(usize::from(count));
        }
        Some(starts)
    }

    /// The cell of a value. It never decreases with the value, whatever the rounding, so that cuts in cells before it
    /// are not above the value, and cuts in cells behind it are. A NaN is in the first.
    #[inline(always)]
    fn cell(&self, v: T) -> usize {
        // Beyond this number the floats are the integers, and their last bits count them.
        let unit = (1_u32 << 23) as f32;
        let last = (CELLS - 1) as f32;
        let place = Element::to_f32((v - self.low) * self.density);
        let place = if place > 0.0 { place } else { 0.0 };
        let place = if place < last { place } else { last };
        (place + unit).to_bits() as usize % CELLS
    }
}

impl<T: Real> LevelMaps<T> {
    /// Maps of at most `count` levels, none yet.
    pub(crate) fn reset(&mut self, count: usize) {
        self.count = count;
        self.levels.clear();
        self.cuts.clear();
        self.codes.clear();
        self.starts.clear();
    }

    /// Makes long searches faster in the maps at hand. It pays where each serves some hundreds of values.
    pub(crate) fn prepare(&mut self) {
        self.starts.clear();
        let cuts = self.count.saturating_sub(1);
        if cuts > LINEAR {
            // All of them or none.
            let starts: Option<Vec<_>> = self.cuts.chunks_exact(cuts).map(Starts::new).collect();
            self.starts = starts.unwrap_or_default();
        }
    }

    /// Appends the map of `values`, which are in the order of their codes. Codes of values that are not finite are
    /// never chosen; of equal values the lowest code is, but zeros of both signs are two levels.
    pub(crate) fn push(&mut self, values: &[T], boundary: Boundary) {
        let count = self.count;
        let value = |code: u16| values.get(usize::from(code)).copied().unwrap_or_default();
        let order = &mut self.order;
        order.clear();
        order.extend(
            (0..values.len().min(count)).map(|code| code as u16).filter(|&code| value(code).is_finite()),
        );
        order.sort_by(|&a, &b| total_order(value(a), value(b)).then(a.cmp(&b)));
        order.dedup_by(|a, b| total_order(value(*a), value(*b)).is_eq());
        if order.is_empty() {
            order.push(0);
        }
        for pair in order.windows(2) {
            if let [low, high] = *pair {
                self.cuts.push(cut(value(low), value(high), boundary));
            }
        }
        let unused = count - order.len().min(count);
        self.cuts.extend(core::iter::repeat_n(T::infinity(), unused));
        self.levels.extend(order.iter().map(|&code| value(code)));
        self.codes.extend_from_slice(order);
        let last = order.last().copied().unwrap_or(0);
        self.levels.extend(core::iter::repeat_n(value(last), unused));
        self.codes.extend(core::iter::repeat_n(last, unused));
    }

    /// Appends a map whose levels ascend and whose cuts are known: `count` levels and codes, and a cut between each two.
    pub(crate) fn push_known(
        &mut self,
        levels: impl IntoIterator<Item = T>,
        cuts: impl IntoIterator<Item = T>,
        codes: &[u16],
    ) {
        let unused = self.count - codes.len().min(self.count);
        self.levels.extend(levels);
        self.cuts.extend(cuts);
        self.codes.extend_from_slice(codes);
        let last = (self.levels.last().copied().unwrap_or_default(), codes.last().copied().unwrap_or(0));
        self.levels.extend(core::iter::repeat_n(last.0, unused));
        self.cuts.extend(core::iter::repeat_n(T::infinity(), unused));
        self.codes.extend(core::iter::repeat_n(last.1, unused));
    }

    /// The levels of the only map, or of the one for entry `entry`.
    #[inline(always)]
    fn map(&self, entry: usize, shared: bool) -> (&[T], &[T], &[u16]) {
        let (at, count) = (if shared { 0 } else { entry }, self.count);
        let cuts = count.saturating_sub(1);
        (
            self.levels.get(at * count..(at + 1) * count).unwrap_or_default(),
            self.cuts.get(at * cuts..(at + 1) * cuts).unwrap_or_default(),
            self.codes.get(at * count..(at + 1) * count).unwrap_or_default(),
        )
    }
}

/// Ascending, −0 before +0.
fn total_order<T: Real>(a: T, b: T) -> core::cmp::Ordering {
    Element::to_f64(a).total_cmp(&Element::to_f64(b))
}

/// The smallest number that belongs to `high` rather than to `low`.
fn cut<T: Real>(low: T, high: T, boundary: Boundary) -> T {
    let zero = T::zero();
    let (a, b) = (Element::to_f64(low), Element::to_f64(high));
    match boundary {
        // Zeros of both signs: exact zeros are positive.
        _ if low == high => high,
        Boundary::Midpoint(ties) => {
            let middle = a * 0.5 + b * 0.5;
            let up = match ties {
                Ties::Low => false,
                Ties::High => true,
                Ties::Away => middle > 0.0,
            };
            at_least::<T>(middle, up)
        }
        Boundary::Floor => high,
        Boundary::TowardZero if low >= zero => high,
        Boundary::Ceil | Boundary::TowardZero => next_up(low),
    }
}

/// The smallest number of `T` that is at least `bound`, or above it unless `included`.
pub(crate) fn at_least<T: Real>(bound: f64, included: bool) -> T {
    let nearest = <T as Element>::from_f64(bound);
    let back = Element::to_f64(nearest);
    if back < bound || (back == bound && !included) { next_up(nearest) } else { nearest }
}

fn next_up<T: Real>(value: T) -> T {
    if T::TYPE == FloatType::F64 {
        T::from_f64(Element::to_f64(value).next_up())
    } else {
        T::from_f32(Element::to_f32(value).next_up())
    }
}

/// How a value is brought to the scale of the levels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelParams<'a, T> {
    /// The levels.
    pub maps: &'a LevelMaps<T>,
    /// Whether all blocks share the first map; otherwise block `j` has map `j`.
    pub shared: bool,
    /// The divisor of each block, or its factor if `multiply`. Empty for levels that have their scale already.
    pub scale: &'a [T],
    /// Whether `scale` holds reciprocals.
    pub multiply: bool,
}

impl<T: Real> LevelParams<'_, T> {
    #[inline(always)]
    fn scale_of(&self, entry: usize) -> Option<T> {
        if self.scale.is_empty() { Some(T::one()) } else { self.scale.get(entry).copied() }
    }
}

/// The code of zero in block `entry`.
pub(crate) fn code_of_zero<T: Real>(params: &LevelParams<'_, T>, entry: usize) -> u16 {
    let (_, cuts, codes) = params.maps.map(entry, params.shared);
    let index = cuts.iter().filter(|&&cut| T::zero() >= cut).count();
    codes.get(index).copied().unwrap_or_default()
}

/// Elements that are compared with all cuts at once.
const STEP: usize = 64;
/// Up to so many cuts every one is compared; beyond, they are searched.
const LINEAR: usize = 32;

dispatch! {
    /// Writes the code of each value. Returns whether any value is NaN; its code is the lowest level's.
    pub(crate) fn encode[T: Real, C: Code](
        x: &[T],
        width: usize,
        phase: usize,
        params: &LevelParams<'_, T>,
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len());
        let mut nan = false;
        for (entry, from, to) in runs(len, width, phase) {
            let (_, cuts, order) = params.maps.map(entry, params.shared);
            let starts = params.maps.starts.get(if params.shared { 0 } else { entry });
            let Some(scale) = params.scale_of(entry) else { continue };
            for (x, codes) in x[from..to].chunks(STEP).zip(codes[from..to].chunks_mut(STEP)) {
                let mut index = [0u32; STEP];
                nan |= locate(x, scale, params.multiply, cuts, starts, &mut index);
                for (code, &at) in codes.iter_mut().zip(&index) {
                    *code = C::from_u16(order.get(at as usize).copied().unwrap_or_default());
                }
            }
        }
        nan
    }
}

dispatch! {
    /// Writes codes between the two neighbours of each value at random: the upper one if the value's number of
    /// `uniforms` lies below its distance from the lower one, as a share of their distance; with `sigmoid`, on two
    /// levels, below the logistic function of its distance from their middle, in halves of their distance. The cuts are
    /// those of [`Boundary::Floor`].
    pub(crate) fn encode_stochastic[T: Real, C: Code](
        x: &[T],
        width: usize,
        phase: usize,
        params: &LevelParams<'_, T>,
        sigmoid: bool,
        uniforms: &[T],
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len()).min(uniforms.len());
        let mut nan = false;
        for (entry, from, to) in runs(len, width, phase) {
            let (levels, cuts, order) = params.maps.map(entry, params.shared);
            let starts = params.maps.starts.get(if params.shared { 0 } else { entry });
            let Some(scale) = params.scale_of(entry) else { continue };
            let pieces = x[from..to].chunks(STEP).zip(uniforms[from..to].chunks(STEP));
            for ((x, uniforms), codes) in pieces.zip(codes[from..to].chunks_mut(STEP)) {
                let mut index = [0u32; STEP];
                nan |= locate(x, scale, params.multiply, cuts, starts, &mut index);
                for (((code, &at), &x), &uniform) in codes.iter_mut().zip(&index).zip(x).zip(uniforms) {
                    let at = if sigmoid { 0 } else { at as usize };
                    let v = if params.multiply { x * scale } else { x / scale };
                    let up = match (levels.get(at), levels.get(at + 1)) {
                        (Some(&low), Some(&high)) if high > low && sigmoid => {
                            uniform < logistic((v - low) / (high - low))
                        }
                        (Some(&low), Some(&high)) if high > low && v > low => uniform < (v - low) / (high - low),
                        _ => false,
                    };
                    *code = C::from_u16(order.get(at + usize::from(up)).copied().unwrap_or_default());
                }
            }
        }
        nan
    }
}

/// The logistic function of a place between two levels at 0 and 1, in halves of their distance from the middle.
#[inline(always)]
fn logistic<T: Real>(place: T) -> T {
    let one = T::one();
    let v = place + place - one;
    one / (one + (-v).exp())
}

/// The number of cuts that are not above each scaled value, at most [`STEP`] of them. Whether one of these is NaN.
#[inline(always)]
fn locate<T: Real>(
    x: &[T],
    scale: T,
    multiply: bool,
    cuts: &[T],
    starts: Option<&Starts<T>>,
    index: &mut [u32; STEP],
) -> bool {
    let mut v = [T::zero(); STEP];
    let mut nan = false;
    for (v, &x) in v.iter_mut().zip(x) {
        *v = if multiply { x * scale } else { x / scale };
        nan |= v.is_nan();
    }
    if cuts.len() <= LINEAR {
        for &cut in cuts {
            for (index, &v) in index.iter_mut().zip(&v) {
                *index += u32::from(v >= cut);
            }
        }
        return nan;
    }
    let mut size = cuts.len();
    if let Some(starts) = starts {
        let mut cells = [0; STEP];
        for (cell, &v) in cells.iter_mut().zip(&v) {
            *cell = starts.cell(v) as u32;
        }
        for (index, cell) in index.iter_mut().zip(cells) {
            *index = u32::from(starts.before[cell as usize % CELLS]);
        }
        size = starts.most;
    }
    // A search that halves a range of `size` candidates without branches. Candidates beyond the last cut count as that
    // one: it is passed only where all are.
    let last = cuts.len() - 1;
    while size > 0 {
        let half = size.div_ceil(2);
        for (index, &v) in index.iter_mut().zip(&v) {
            let passed = v >= cuts[(*index as usize + half - 1).min(last)];
            *index += u32::from(passed) * half as u32;
        }
        size -= half;
    }
    index.iter_mut().for_each(|index| *index = (*index).min(cuts.len() as u32));
    nan
}

/// Decodes codes: each block multiplies its table, of `size` values in the order of codes, by its scale.
pub(crate) fn decode<T: Real, C: Code, A: Element>(
    fields: &[C],
    tables: &LevelTables<'_, T>,
    width: usize,
    phase: usize,
    out: &mut [A],
) {
    if A::TYPE == T::TYPE
        && let Some(out) = super::convert::same_mut::<A, T>(out)
    {
        return decode_same(fields, tables, width, phase, out);
    }
    let mut stage = [T::zero(); super::convert::STAGE];
    for (piece, (fields, out)) in
        fields.chunks(super::convert::STAGE).zip(out.chunks_mut(super::convert::STAGE)).enumerate()
    {
        let width = width.max(1);
        let at = phase + piece * super::convert::STAGE;
        let tables = tables.from(at / width);
        let stage = &mut stage[..out.len().min(super::convert::STAGE)];
        decode_same(fields, &tables, width, at % width, stage);
        super::convert::convert(stage, out);
    }
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
            for (field, out) in fields[from..to].iter().zip(&mut out[from..to]) {
                let level = table.get(usize::from(field.to_u16())).copied().unwrap_or_default();
                *out = match scale {
                    Some(scale) => level * scale,
                    None => level,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    fn maps(values: &[f32], boundary: Boundary) -> LevelMaps<f32> {
        let mut maps = LevelMaps::default();
        maps.reset(values.len());
        maps.push(values, boundary);
        maps
    }

    fn codes_of(x: &[f32], values: &[f32], boundary: Boundary) -> Vec<u8> {
        let maps = maps(values, boundary);
        let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
        agreed(|| {
            let mut codes = vec![0u8; x.len()];
            encode(x, usize::MAX, 0, &params, &mut codes);
            codes
        })
    }

    /// Codes to the nearest, the search being prepared.
    fn prepared<T: Real>(x: &[T], values: &[T]) -> Vec<u8> {
        let mut maps = LevelMaps::default();
        maps.reset(values.len());
        maps.push(values, Boundary::Midpoint(Ties::Low));
        maps.prepare();
        let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
        agreed(|| {
            let mut codes = vec![0u8; x.len()];
            encode(x, usize::MAX, 0, &params, &mut codes);
            codes
        })
    }

    #[test]
    fn a_prepared_search_gives_the_same() {
        // Evenly spaced, crowded at zero, in two crowds far apart, of few distinct values, too large to be divided.
        let tables: [fn(f64) -> f64; 6] = [
            |u| u,
            |u| u.powi(9),
            |u| if u < 0.0 { u - 1e6 } else { u },
            |u| (4.0 * u).round(),
            |u| u * 3e38,
            |u| u * 1e-44,
        ];
        for (table, count) in tables.iter().flat_map(|table| [(table, 34), (table, 100), (table, 256)]) {
            let level = |i: usize| table(i as f64 / (count - 1) as f64 * 2.0 - 1.0);
            let wide: Vec<f64> = (0..count).map(level).collect();
            let narrow: Vec<f32> = wide.iter().map(|&level| level as f32).collect();
            // Values near and at all levels and middles, and far from them.
            let near = wide.windows(2).flat_map(|pair| [pair[0], 0.5 * pair[0] + 0.5 * pair[1], pair[1]]);
            let mut x: Vec<f64> = near.flat_map(|x| [x, x.next_down(), x.next_up(), 1.5 * x]).collect();
            x.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0]);
            let narrow_x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            assert_eq!(
                prepared(&narrow_x, &narrow),
                codes_of(&narrow_x, &narrow, Boundary::Midpoint(Ties::Low))
            );
            let mut maps = LevelMaps::default();
            maps.reset(count);
            maps.push(&wide, Boundary::Midpoint(Ties::Low));
            let cuts: Vec<f64> = maps.cuts.clone();
            let codes = maps.codes.clone();
            let expected: Vec<u8> =
                x.iter().map(|&x| codes[cuts.iter().filter(|&&cut| x >= cut).count()] as u8).collect();
            assert_eq!(prepared(&x, &wide), expected);
        }
    }

    #[test]
    fn every_boundary_is_where_its_rule_says() {
        let levels = [-2.0f32, -1.0, 0.0, 1.0, 2.0];
        let x = [-9.0, -1.5, -1.2, -0.5, -0.0, 0.3, 0.5, 1.5, 1.6, 7.0, f32::INFINITY];
        for (boundary, expected) in [
            (Boundary::Midpoint(Ties::Low), [0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 4]),
            (Boundary::Midpoint(Ties::High), [0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4]),
            (Boundary::Midpoint(Ties::Away), [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4]),
            (Boundary::Floor, [0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 4]),
            (Boundary::Ceil, [0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]),
            (Boundary::TowardZero, [0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]),
        ] {
            assert_eq!(codes_of(&x, &levels, boundary), expected, "{boundary:?}");
        }
    }

    #[test]
    fn special_values_and_equal_levels() {
        // Codes of no finite value are not chosen, and zeros of both signs are two levels.
        let values = [0.0, 1.0, f32::NAN, f32::INFINITY, -0.0, -1.0, 1.0, 0.0];
        let x = [0.0, -0.0, -1e-30, 1e-30, 0.9, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(codes_of(&x, &values, Boundary::Midpoint(Ties::Low)), [0, 0, 4, 0, 1, 1, 5]);
    }

    #[test]
    fn long_tables_are_searched_and_short_ones_compared_with_the_same_result() {
        let values: Vec<f32> = (0..256).map(|i| ((i * 37) % 256) as f32 * 0.37 - 40.0).collect();
        let x: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 60.0).collect();
        for count in [2, 3, 31, 32, 33, 34, 100, 255, 256] {
            let values = &values[..count];
            let nearest = |x: f32| {
                let by = |&a: &usize, &b: &usize| (values[a] - x).abs().total_cmp(&(values[b] - x).abs());
                (0..count).min_by(by).unwrap() as u8
            };
            let expected: Vec<u8> = x.iter().map(|&x| nearest(x)).collect();
            assert_eq!(codes_of(&x, values, Boundary::Midpoint(Ties::Low)), expected, "{count}");
            assert_eq!(prepared(&x, values), expected, "{count}");
        }
    }

    #[test]
    fn blocks_have_their_own_maps_and_scales() {
        let mut maps = LevelMaps::default();
        maps.reset(3);
        for scale in [1.0f32, 10.0, 100.0] {
            maps.push(&[-scale, 0.0, scale], Boundary::Midpoint(Ties::Low));
        }
        let x = [0.4f32, 0.6, -7.0, 7.0, 4.0, 70.0];
        let params = LevelParams { maps: &maps, shared: false, scale: &[], multiply: false };
        let mut codes = [0u8; 6];
        assert!(!encode(&x, 2, 0, &params, &mut codes));
        assert_eq!(codes, [1, 2, 0, 2, 1, 2]);
        let params = LevelParams { shared: true, scale: &[1.0, 10.0, 100.0], ..params };
        let mut again = [0u8; 6];
        encode(&x, 2, 0, &params, &mut again);
        assert_eq!(again, codes);
        let values: Vec<f32> = [1.0f32, 10.0, 100.0].iter().flat_map(|s| [-s, 0.0, *s, 0.0]).collect();
        let tables = LevelTables { values: &values, size: 4, shared: false, scale: &[] };
        let decoded = agreed(|| {
            let mut out = [0.0f64; 6];
            decode(&codes, &tables, 2, 0, &mut out);
            out
        });
        assert_eq!(decoded, [0.0, 1.0, -10.0, 10.0, 0.0, 100.0]);
    }

    #[test]
    fn the_sigmoid_chooses_between_two_levels() {
        let maps = maps(&[-2.0, 2.0], Boundary::Floor);
        let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
        // σ(x/2) = 0.5, 0.7310586, 0.0066929, 1, 0
        let x = [0.0f32, 0.0, 2.0, 2.0, -10.0, -10.0, f32::INFINITY, f32::NEG_INFINITY];
        let uniforms = [0.49, 0.51, 0.731, 0.7311, 0.0066, 0.0067, 0.99999, 0.00001];
        let mut codes = [9u8; 8];
        encode_stochastic(&x, usize::MAX, 0, &params, true, &uniforms, &mut codes);
        assert_eq!(codes, [1, 0, 1, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn stochastic_codes_are_the_neighbours() {
        let maps = maps(&[0.0, 1.0, 4.0], Boundary::Floor);
        let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
        let x = [-1.0f32, 0.25, 0.25, 1.0, 2.5, 2.5, 4.0, 9.0];
        let uniforms = [0.0, 0.24, 0.26, 0.0, 0.49, 0.51, 0.0, 0.0];
        let mut codes = [9u8; 8];
        encode_stochastic(&x, usize::MAX, 0, &params, false, &uniforms, &mut codes);
        assert_eq!(codes, [0, 1, 0, 1, 2, 1, 2, 2]);
    }
}
