//! The counts of a summary, in as little memory as they need.

use crate::error::DataError;

/// Counts of consecutive bins.
///
/// The form is a function of the counts alone: bins and counts of those that are not empty where that is less, the
/// narrowest integers that hold every count otherwise. So equal counts are equal values, and memory depends on what was
/// counted, not on how it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Counts {
    /// Bin and count, in the order of the bins.
    Sparse(Vec<Entry>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

/// A bin that is not empty, and its count.
pub(super) type Entry = (u32, u32);

/// A type of counts.
pub(super) trait Width: Copy + Default + Into<u64> {
    /// `count`, which fits.
    fn from_u64(count: u64) -> Self;
    /// The next count, if it fits.
    fn next(self) -> Option<Self>;
}

macro_rules! width {
    ($($type:ty),*) => { $(
        impl Width for $type {
            #[inline(always)]
            fn from_u64(count: u64) -> Self {
                count as Self
            }
            #[inline(always)]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )* };
}
width!(u8, u16, u32, u64);

/// An empty list with room for `len`.
pub(super) fn reserved<T>(len: usize) -> Result<Vec<T>, DataError> {
    let mut list = Vec::new();
    reserve(&mut list, len)?;
    Ok(list)
}

/// Makes room for `len` elements in `list`.
pub(super) fn reserve<T>(list: &mut Vec<T>, len: usize) -> Result<(), DataError> {
    let bytes = len.saturating_mul(size_of::<T>());
    let more = len.saturating_sub(list.len());
    list.try_reserve_exact(more).map_err(|_| DataError::Memory { what: "counts of an observer", bytes })
}

/// Runs `$body` with `$dense` bound to the counts of every bin, or `$other` for a sparse list.
macro_rules! widths {
    ($counts:expr, $dense:ident => $body:expr, $entries:ident => $other:expr) => {
        match $counts {
            Counts::Sparse($entries) => $other,
            Counts::U8($dense) => $body,
            Counts::U16($dense) => $body,
            Counts::U32($dense) => $body,
            Counts::U64($dense) => $body,
        }
    };
}

/// Bytes of an entry.
const ENTRY: usize = size_of::<Entry>();

/// Bytes of the narrowest count that holds `max`.
const fn width_of(max: u64) -> usize {
    match max {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Whether `occupied` of `bins` bins, none with more than `max`, are better listed.
const fn is_sparse(occupied: usize, bins: usize, max: u64) -> bool {
    max <= u32::MAX as u64 && occupied.saturating_mul(ENTRY) < bins.saturating_mul(width_of(max))
}

impl Counts {
    /// No bins.
    pub(super) const fn none() -> Self {
        Self::U8(Vec::new())
    }

    /// The counts of all bins.
    pub(super) fn from_dense(counts: &[u64]) -> Result<Self, DataError> {
        let (mut occupied, mut max) = (0, 0);
        for &count in counts {
            occupied += usize::from(count > 0);
            max = max.max(count);
        }
        if is_sparse(occupied, counts.len(), max) {
            let mut entries = reserved(occupied)?;
            let filled = (0u32..).zip(counts).filter(|&(_, &count)| count > 0);
            entries.extend(filled.map(|(bin, &count)| (bin, count as u32)));
            return Ok(Self::Sparse(entries));
        }
        fn list<W: Width>(counts: &[u64]) -> Result<Vec<W>, DataError> {
            let mut list = reserved(counts.len())?;
            list.extend(counts.iter().map(|&count| W::from_u64(count)));
            Ok(list)
        }
        Ok(match width_of(max) {
            1 => Self::U8(list(counts)?),
            2 => Self::U16(list(counts)?),
            4 => Self::U32(list(counts)?),
            _ => Self::U64(list(counts)?),
        })
    }

    /// The counts of `bins` bins of which `entries` (in order) are those that are not empty.
    pub(super) fn from_entries(entries: &[Entry], bins: usize) -> Result<Self, DataError> {
        let max = entries.iter().map(|entry| entry.1).max().unwrap_or(0);
        if is_sparse(entries.len(), bins, max.into()) {
            let mut list = reserved(entries.len())?;
            list.extend_from_slice(entries);
            return Ok(Self::Sparse(list));
        }
        let mut counts = reserved::<u64>(bins)?;
        counts.resize(bins, 0);
        for &(bin, count) in entries {
            if let Some(into) = counts.get_mut(bin as usize) {
                *into = count.into();
            }
        }
        Self::from_dense(&counts)
    }

    /// A copy.
    pub(super) fn try_clone(&self) -> Result<Self, DataError> {
        fn list<T: Copy>(from: &[T]) -> Result<Vec<T>, DataError> {
            let mut list = reserved(from.len())?;
            list.extend_from_slice(from);
            Ok(list)
        }
        Ok(match self {
            Self::Sparse(entries) => Self::Sparse(list(entries)?),
            Self::U8(counts) => Self::U8(list(counts)?),
            Self::U16(counts) => Self::U16(list(counts)?),
            Self::U32(counts) => Self::U32(list(counts)?),
            Self::U64(counts) => Self::U64(list(counts)?),
        })
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        fn of<T>(list: &Vec<T>) -> usize {
            list.capacity() * size_of::<T>()
        }
        widths!(self, counts => of(counts), entries => of(entries))
    }

    /// The bins that are not empty, if they are listed.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match self {
            Self::Sparse(entries) => Some(entries),
            _ => None,
        }
    }

    /// Calls `each` with the place and the count of all bins that are not empty, in order.
    pub(super) fn for_each(&self, mut each: impl FnMut(usize, u64)) {
        fn dense<W: Width>(counts: &[W], mut each: impl FnMut(usize, u64)) {
            for (bin, &count) in counts.iter().enumerate() {
                if count.into() > 0 {
                    each(bin, count.into());
                }
            }
        }
        widths!(self, counts => dense(counts, each), entries => {
            entries.iter().for_each(|&(bin, count)| each(bin as usize, count.into()));
        });
    }

    /// Adds the counts to those of other bins: `shift` times coarser ones, where `number` is that of this first bin
    /// and `first` that of theirs. What has no bin there is passed over.
    pub(super) fn add_to(&self, into: &mut [u64], number: i64, shift: i32, first: i64) {
        fn straight<W: Width>(counts: &[W], into: &mut [u64]) {
            for (into, &count) in into.iter_mut().zip(counts) {
                *into = into.saturating_add(count.into());
            }
        }
        if shift == 0
            && let Some(into) = usize::try_from(number - first).ok().and_then(|at| into.get_mut(at..))
        {
            widths!(self, counts => return straight(counts, into), _entries => ());
        }
        self.for_each(|bin, count| {
            let bin = super::grid::shift_down(number + bin as i64, shift) - first;
            if let Some(into) = usize::try_from(bin).ok().and_then(|bin| into.get_mut(bin)) {
                *into = into.saturating_add(count);
            }
        });
    }

    /// Counts one value in each of `bins`; `false` if a count does not fit, or the bins are listed. The counts mean
    /// nothing then.
    pub(super) fn bump(&mut self, bins: &[u32]) -> bool {
        fn dense<W: Width>(counts: &mut [W], bins: &[u32]) -> bool {
            let mut fits = true;
            for &bin in bins {
                if let Some(count) = counts.get_mut(bin as usize) {
                    match count.next() {
                        Some(next) => *count = next,
                        None => fits = false,
                    }
                }
            }
            fits
        }
        widths!(self, counts => dense(counts, bins), _entries => false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(counts: &Counts, bins: usize) -> Vec<u64> {
        let mut all = vec![0; bins];
        counts.add_to(&mut all, 5, 0, 5);
        all
    }

    #[test]
    fn the_form_is_the_smallest() {
        let mut counts = vec![0u64; 100];
        let form = |counts: &[u64]| {
            let made = Counts::from_dense(counts).unwrap();
            assert_eq!(dense(&made, counts.len()), counts);
            assert_eq!(made, made.try_clone().unwrap());
            (made.bytes(), made.entries().is_some())
        };
        for i in 0..12 {
            counts[8 * i + 3] = 1;
            assert_eq!(form(&counts), (8 * (i + 1), true));
        }
        counts[4] = 255;
        assert_eq!(form(&counts), (100, false));
        counts[4] = 256;
        assert_eq!(form(&counts), (8 * 13, true));
        counts[5..30].fill(2);
        assert_eq!(form(&counts), (200, false));
        counts[6] = 1 << 16;
        assert_eq!(form(&counts), (8 * counts.iter().filter(|n| **n > 0).count(), true));
        counts[7] = 1 << 32;
        assert_eq!(form(&counts), (800, false));
        assert_eq!(form(&[3]), (1, false));
        assert_eq!(form(&[]), (0, false));
    }

    #[test]
    fn entries_become_what_dense_counts_become() {
        for n in [0, 1, 5, 12, 13, 20, 100] {
            for count in [1u32, 300, 70_000] {
                let entries: Vec<Entry> = (0..n).map(|bin| (bin, count)).collect();
                let mut all = vec![0u64; 100];
                entries.iter().for_each(|(bin, count)| all[*bin as usize] = u64::from(*count));
                assert_eq!(Counts::from_entries(&entries, 100).unwrap(), Counts::from_dense(&all).unwrap());
            }
        }
    }

    #[test]
    fn a_full_count_is_noticed() {
        let mut counts = Counts::from_dense(&[254, 1]).unwrap();
        assert!(counts.bump(&[0, 1]));
        assert_eq!(counts, Counts::from_dense(&[255, 2]).unwrap());
        assert!(!counts.bump(&[0]));
        let mut wide = Counts::from_dense(&[u64::MAX]).unwrap();
        assert!(!wide.bump(&[0]));
        assert!(!Counts::from_entries(&[(3, 1)], 100).unwrap().bump(&[3]));
    }

    #[test]
    fn memory_that_does_not_exist_is_an_error() {
        assert!(matches!(reserved::<u64>(usize::MAX), Err(DataError::Memory { bytes: usize::MAX, .. })));
        assert!(matches!(reserved::<u8>(usize::MAX / 2), Err(DataError::Memory { .. })));
    }
}
