//! The stream: observed in two places, merged, saved, reloaded, and continued.

use std::fmt::Write;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, ensure};

use crate::observers::{Observers, kibibytes};
use crate::progress::Progress;
use crate::sample::{Glyphs, Network};

/// Images that run through the network together.
pub(crate) const BATCH: u64 = 64;
/// Another batch size, to see that it changes nothing.
const OTHER_BATCH: u64 = 100;

/// The images that the network was trained with, in batches.
pub(crate) struct Stream<'n> {
    network: &'n Network,
    glyphs: Glyphs,
    batches: u64,
}

/// What was seen.
pub(crate) struct Seen {
    /// All of it.
    pub(crate) observers: Observers,
    /// What each of the two places saw by itself.
    pub(crate) halves: [Observers; 2],
    /// What happened, in words.
    pub(crate) told: String,
}

impl<'n> Stream<'n> {
    /// So many batches of the images of `seed`.
    pub(crate) fn new(network: &'n Network, seed: u64, batches: u64) -> Self {
        Self { network, glyphs: Glyphs::new(seed), batches }
    }

    /// Observes the batches that come after those that `start` has seen.
    pub(crate) fn observe(&self, empty: &Observers, start: &Observers) -> Result<Seen> {
        let first = start.images;
        let end = self.batches.checked_mul(BATCH).and_then(|images| first.checked_add(images));
        let end = end.context("no images are left after so many")?;
        // About a quarter is kept for after the reloading.
        let each = (self.batches - self.batches / 4) / 2;
        let (middle, reload) = (first + each * BATCH, first + 2 * each * BATCH);
        let progress = Progress::new("observing", 2 * self.batches);

        // Two threads stand for two machines.
        let (here, there) = std::thread::scope(|scope| {
            let there = scope.spawn(|| self.observe_range(empty, middle..reload, BATCH, &progress));
            let here = self.observe_range(empty, first..middle, BATCH, &progress);
            (here, there.join())
        });
        let halves = [here?, there.map_err(|_| anyhow!("an observing thread ended too early"))??];
        let mut merged = start.clone();
        for half in &halves {
            merged.merge(half)?;
        }
        let text = merged.to_json()?;
        let reloaded = Observers::from_json(text.as_bytes(), empty)?;
        ensure!(reloaded == merged, "the observers were not read back as they were");
        let observers = self.observe_range(&reloaded, reload..end, BATCH, &progress)?;

        // The same images in one go, in batches of another size.
        let whole = self.observe_range(start, first..end, OTHER_BATCH, &progress)?;
        ensure!(whole == observers, "the result depends on how the stream was split");
        drop(progress);

        let mut told = String::new();
        if first > 0 {
            writeln!(told, "Resumed after {first} images.")?;
        }
        let batches = |range: Range<u64>| (range.end - range.start) / BATCH;
        writeln!(
            told,
            "Observed {} images in batches of {BATCH}: {} in one place, {} in another; merged, written as JSON ({}), \
             read back; {} more.",
            end - first,
            batches(first..middle),
            batches(middle..reload),
            kibibytes(text.len()),
            batches(reload..end)
        )?;
        writeln!(
            told,
            "One observer of all of them in batches of {OTHER_BATCH}: the same counts and extremes, bit for bit."
        )?;
        Ok(Seen { observers, halves, told })
    }

    /// `start` after the images of `range`.
    fn observe_range(
        &self,
        start: &Observers,
        range: Range<u64>,
        batch: u64,
        progress: &Progress,
    ) -> Result<Observers> {
        let mut observers = start.clone();
        for first in range.clone().step_by(usize::try_from(batch)?) {
            let (images, _) = self.glyphs.batch(first..(first + batch).min(range.end));
            observers.observe(self.network, &images)?;
            progress.step()?;
        }
        Ok(observers)
    }
}
