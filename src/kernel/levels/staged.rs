//! Codes of values by searches that look at many of them at once.

use super::super::{dispatch, prefetch, runs};

/// Values of a group.
pub(super) const GROUP: usize = 64;

/// Values that are scaled at once.
const STAGE: usize = 1024;

/// Bytes between what is read and what is asked for.
const DISTANCE: usize = 4096;

/// How the cuts of one map are searched.
pub(super) trait Search {
    /// The codes of whole groups of scaled values, which are read for the first time if `ahead`. Whether one of these is
    /// NaN. Only for machines that have the instructions.
    fn find(&self, v: &[f32], ahead: bool, codes: &mut [u8]) -> bool;
}

/// As [`short::encode`](super::short::encode), by the search of each block or one for all.
pub(super) fn encode<S: Search>(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    multiply: bool,
    searches: &[S],
    codes: &mut [u8],
) -> bool {
    let (mut nan, mut entry, mut at) = (false, 0, 0);
    let len = x.len().min(codes.len());
    let width = width.max(1);
    let mut phase = phase % width;
    // Blocks that share a search at once.
    while at < len {
        let Some(search) = searches.get(if searches.len() > 1 { entry } else { 0 }) else { break };
        // None at all is not the same as none left.
        if !scale.is_empty() && entry >= scale.len() {
            break;
        }
        let scale = scale.get(entry..).unwrap_or_default();
        let to = if searches.len() > 1 { at + (width - phase).min(len - at) } else { len };
        let (x, codes) = (&x[at..to], &mut codes[at..to]);
        nan |= blocks(x, width, phase, scale, multiply, search, codes);
        (at, entry, phase) = (to, entry + 1, 0);
    }
    nan
}

dispatch! {
    /// Blocks that share a search.
    fn blocks[S: Search](
        x: &[f32],
        width: usize,
        phase: usize,
        scale: &[f32],
        multiply: bool,
        search: &S,
        codes: &mut [u8],
    ) -> bool {
        let multiply = multiply || scale.is_empty();
        let mut nan = false;
        let (mut stage, mut filled, mut done) = ([0.0; STAGE], 0, 0);
        let mut x = x;
        if scale.is_empty() {
            // Values are in the scale of their levels, whatever blocks they are of.
            done = x.len() / GROUP * GROUP;
            let (groups, rest) = x.split_at(done);
            nan |= search.find(groups, true, codes);
            x = rest;
        }
        // Scaled values until they fill a stage, again whatever blocks they are of.
        for (entry, from, to) in runs(x.len(), width, phase) {
            // Times one is the same number.
            let scale = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
            let Some(scale) = scale else { break };
            let mut x = &x[from..to];
            while !x.is_empty() {
                let (now, later) = x.split_at(x.len().min(STAGE - filled));
                scaled(now, scale, multiply, &mut stage[filled..]);
                (x, filled) = (later, filled + now.len());
                if filled == STAGE {
                    nan |= search.find(&stage, false, &mut codes[done..]);
                    (done, filled) = (done + STAGE, 0);
                }
            }
        }
        // Whole groups, with more of what is there, whether NaN or not.
        let [first, ..] = stage;
        let whole = filled.next_multiple_of(GROUP);
        stage[filled..whole].fill(first);
        let mut last = [0; STAGE];
        nan |= search.find(&stage[..whole], false, &mut last);
        codes[done..].iter_mut().zip(&last[..filled]).for_each(|(code, &found)| *code = found);
        nan
    }
}

#[inline(always)]
fn scaled(x: &[f32], scale: f32, multiply: bool, out: &mut [f32]) {
    let mut places = out.chunks_mut(GROUP);
    for x in x.chunks(GROUP) {
        prefetch(x, DISTANCE);
        let places = x.iter().zip(places.next().unwrap_or_default());
        if multiply {
            places.for_each(|(x, out)| *out = x * scale);
        } else {
            places.for_each(|(x, out)| *out = x / scale);
        }
    }
}
