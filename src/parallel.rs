//! One place that knows about threads. The work is cut in the same way with and without them, so results
//! do not depend on their number.

use smallvec::SmallVec;

/// Below this many elements a call stays on its thread: starting others costs more than they save.
#[cfg(feature = "rayon")]
const MIN_ELEMENTS: usize = 1 << 16;

/// How many threads there are to share work out to. For how much is done before others are asked: no result may depend on
/// it.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads().max(1);
    #[cfg(not(feature = "rayon"))]
    1
}

/// Elements that a thread works on before it looks for more, where nothing of them is kept: memory answers long ways faster.
pub(crate) const LONGEST: usize = 1 << 20;

/// Elements of a part of `len`, a multiple of `least` and at most `longest`: as many as can be while enough parts are left to
/// share out evenly.
pub(crate) fn part_len(len: usize, least: usize, longest: usize) -> usize {
    const PARTS: usize = 16;
    let least = least.max(1);
    (len / PARTS).clamp(least, longest.max(least)) / least * least
}

/// Calls `work(state, index, chunk)` for each chunk of `chunk_len` items of `items`, on several threads if
/// `elements` (what the items stand for) are many. Returns the results in order of the chunks; that of one needs no
/// allocation.
pub(crate) fn map_chunks<T, S, R>(
    items: &mut [T],
    chunk_len: usize,
    elements: usize,
    state: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, usize, &mut [T]) -> R + Sync + Send,
) -> SmallVec<[R; 1]>
where
    T: Send,
    R: Send,
{
    let chunk_len = chunk_len.max(1);
    #[cfg(feature = "rayon")]
    if elements >= MIN_ELEMENTS && items.len() > chunk_len && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        return items
            .par_chunks_mut(chunk_len)
            .enumerate()
            .map_init(state, |state, (index, chunk)| work(state, index, chunk))
            .collect::<Vec<R>>()
            .into();
    }
    let _ = elements;
    let mut state = state();
    if !items.is_empty() && items.len() <= chunk_len {
        // A single result is made where it stays, which is what calls on small tensors are about.
        return SmallVec::from_buf([work(&mut state, 0, items)]);
    }
    let mut results = SmallVec::new();
    for (index, chunk) in items.chunks_mut(chunk_len).enumerate() {
        results.push(work(&mut state, index, chunk));
    }
    results
}

/// Calls `work(state, index)` for each index below `count`, on several threads if `elements` are many.
/// Returns the results in order.
pub(crate) fn map_indices<S, R: Send>(
    count: usize,
    elements: usize,
    state: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, usize) -> R + Sync + Send,
) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if count > 1 && elements >= MIN_ELEMENTS && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        return (0..count).into_par_iter().map_init(state, work).collect();
    }
    let _ = elements;
    let mut state = state();
    (0..count).map(|index| work(&mut state, index)).collect()
}
