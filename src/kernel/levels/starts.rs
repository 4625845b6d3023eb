//! Where to begin to search in long lists of cuts.

use super::super::convert;
use crate::element::{Element, Real};

/// Cells of equal width over the cuts of a map, that say where to begin to search.
#[derive(Debug, Clone)]
pub(super) struct Starts<T> {
    scale: CellScale<T>,
    /// The number of cuts before each cell.
    before: Box<[u16; CELLS]>,
    /// The most cuts in a cell.
    most: usize,
}

/// Cells for a map: as many as a few pages of the first-level cache hold.
pub(super) const CELLS: usize = 1024;

/// Which cell a value is in.
#[derive(Debug, Clone, Copy)]
struct CellScale<T> {
    low: T,
    /// Cells per unit.
    density: T,
    last: f32,
}

impl<T: Real> CellScale<T> {
    /// `None` where the arithmetic cannot divide the cuts.
    fn new(cuts: &[T], cells: usize) -> Option<Self> {
        let low = *cuts.first()?;
        let high = *cuts.iter().rfind(|cut| cut.is_finite())?;
        let last = (cells - 1) as f32;
        let density = <T as Element>::from_f32(last) / (high - low);
        let usable = high > low && density.is_normal() && (high - low).is_normal();
        usable.then_some(Self { low, density, last })
    }

    /// The cell of a value. It never decreases with the value, whatever the rounding, so that cuts in cells before it
    /// are not above the value, and cuts in cells behind it are. A NaN is in the first.
    #[inline(always)]
    fn cell(&self, v: T) -> u32 {
        // Beyond this number the floats are the integers, and their last bits count them.
        let unit = (1_u32 << 23) as f32;
        let place = Element::to_f32((v - self.low) * self.density);
        let place = if place > 0.0 { place } else { 0.0 };
        let place = if place < self.last { place } else { self.last };
        (place + unit).to_bits() - unit.to_bits()
    }
}

impl<T: Real> Starts<T> {
    /// `None` where the arithmetic cannot divide the cuts.
    pub(super) fn new(cuts: &[T]) -> Option<Self> {
        let scale = CellScale::new(cuts, CELLS)?;
        let mut starts = Self { scale, before: Box::new([0; CELLS]), most: 0 };
        let mut counts = [0u16; CELLS];
        for &cut in cuts {
            counts[scale.cell(cut) as usize % CELLS] += 1;
        }
        let mut before = 0;
        for (cell, count) in counts.into_iter().enumerate() {
            starts.before[cell] = before;
            before += count;
            starts.most = starts.most.max(usize::from(count));
        }
        Some(starts)
    }

    /// The number of cuts in the cells before that of each value, and the most cuts that may follow.
    #[inline(always)]
    pub(super) fn find<const STEP: usize>(&self, v: &[T; STEP], before: &mut [u32; STEP]) -> usize {
        let mut cells = [0; STEP];
        for (cell, &v) in cells.iter_mut().zip(v) {
            *cell = self.scale.cell(v);
        }
        for (before, cell) in before.iter_mut().zip(cells) {
            *before = u32::from(self.before[cell as usize % CELLS]);
        }
        self.most
    }
}

/// Cells so fine that none has more than one cut: a value needs one comparison.
#[derive(Debug, Clone)]
pub(super) struct Cells<T> {
    places: Places<T>,
    cells: Box<[Cell<T>; FINE]>,
}

/// How values find their cells.
#[derive(Debug, Clone, Copy)]
enum Places<T> {
    /// Cells of equal width.
    Even(CellScale<T>),
    /// Cells as wide as their distance from zero asks for.
    Logarithmic(Logarithmic),
}

impl<T: Real> Places<T> {
    #[inline(always)]
    fn cell(&self, v: T) -> u32 {
        match self {
            Self::Even(scale) => scale.cell(v),
            Self::Logarithmic(scale) => scale.cell(Element::to_f32(v)),
        }
    }
}

/// Cells by the first bits of an f32: sign, exponent, and the mantissa down to bit `shift`.
#[derive(Debug, Clone, Copy)]
struct Logarithmic {
    shift: u32,
    /// The bits with which the first cell begins, shifted.
    first: i32,
}

impl Logarithmic {
    /// As many mantissa bits as there are cells for; `None` where they are none.
    fn new(cuts: &[f32]) -> Option<Self> {
        let (low, high) = (ascending(*cuts.first()?), ascending(*cuts.last()?));
        let scale = |shift: u32| Self { shift, first: low >> shift };
        // The fewest cells in which the cuts are apart: those in use then share few cache lines.
        (0..=23).rev().map(scale).find(|scale| {
            let apart = cuts.is_sorted_by(|&a, &b| ascending(a) >> scale.shift < ascending(b) >> scale.shift);
            apart && i64::from(high >> scale.shift) - i64::from(scale.first) < FINE as i64
        })
    }

    /// The cell of a value. It never decreases with the value, and of zeros it is the same. A NaN is in the first.
    #[inline(always)]
    fn cell(self, v: f32) -> u32 {
        let place = (ascending(v) >> self.shift).max(self.first).wrapping_sub(self.first) as u32;
        let place = place.min(FINE as u32 - 1);
        if v.is_nan() { 0 } else { place }
    }
}

/// An integer that ascends with the number.
#[inline(always)]
fn ascending(v: f32) -> i32 {
    // No zero is negative.
    let bits = (v + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// Finer cells: in f32 they fill a common first-level cache, of which the values of a tensor use the middle.
const FINE: usize = 4096;

/// The cuts that something finite reaches: behind them the last level repeats.
fn reached<T: Real>(cuts: &[T]) -> &[T] {
    let used = cuts.iter().take_while(|cut| cut.is_finite()).count();
    cuts.get(..used).unwrap_or_default()
}

/// The only cut in a cell, or one behind it, and the codes below and above.
#[derive(Debug, Clone, Copy)]
struct Cell<T> {
    cut: T,
    codes: [u16; 2],
}

impl<T: Real> Cells<T> {
    /// Of equal width; `None` where a cell would have more than one of the ascending cuts, or the arithmetic cannot divide
    /// them.
    pub(super) fn even(cuts: &[T], codes: &[u16]) -> Option<Self> {
        let cuts = reached(cuts);
        Self::new(Places::Even(CellScale::new(cuts, FINE)?), cuts, codes)
    }

    /// Finer towards zero; `None` where a cell would have more than one of the ascending cuts, and for other types than
    /// f32.
    pub(super) fn logarithmic(cuts: &[T], codes: &[u16]) -> Option<Self> {
        let cuts = reached(cuts);
        Self::new(Places::Logarithmic(Logarithmic::new(convert::same(cuts)?)?), cuts, codes)
    }

    fn new(places: Places<T>, cuts: &[T], codes: &[u16]) -> Option<Self> {
        let used = cuts.len();
        let code = |index: usize| codes.get(index).copied().unwrap_or_default();
        let mut cells = Box::new([Cell { cut: T::nan(), codes: [code(used); 2] }; FINE]);
        let mut next = 0;
        for (index, &cut) in cuts.iter().enumerate() {
            let cell = places.cell(cut) as usize % FINE;
            if cell < next {
                return None;
            }
            // The cells since the cut before have this one ahead, so that a comparison with it does not hold.
            for place in &mut cells[next..=cell] {
                *place = Cell { cut, codes: [code(index), code(index + 1)] };
            }
            next = cell + 1;
        }
        Some(Self { places, cells })
    }

    /// The cell of each value.
    #[inline(always)]
    pub(super) fn find<const STEP: usize>(&self, v: &[T; STEP], cells: &mut [u32; STEP]) {
        // A loop for each kind, so that each becomes one over vectors.
        match self.places {
            Places::Even(scale) => cells.iter_mut().zip(v).for_each(|(cell, &v)| *cell = scale.cell(v)),
            Places::Logarithmic(scale) => {
                cells.iter_mut().zip(v).for_each(|(cell, &v)| *cell = scale.cell(Element::to_f32(v)));
            }
        }
    }

    /// The code of a value in `cell`.
    #[inline(always)]
    pub(super) fn code(&self, cell: u32, v: T) -> u16 {
        let Cell { cut, codes } = self.cells[cell as usize % FINE];
        codes[usize::from(v >= cut)]
    }
}
