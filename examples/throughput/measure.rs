//! Times that can be compared on a machine that does other things too: medians of paired repetitions.
//!
//! Each repetition of an operation stands beside one of its roofline, a moment before it. What slows the machine down
//! slows both, so the ratio of the two is steadier than either; the result is the median of the ratios. Each follows the
//! other, which moves other memory, so that neither finds more than the other in the caches.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::operations::Run;
use crate::rooflines::Roofline;
use crate::threads::Threads;

/// What a repetition should take at least: short operations are run many times in each.
const LONG_ENOUGH: Duration = Duration::from_millis(1);
/// What all repetitions together may take, once there are three.
const TOO_LONG: Duration = Duration::from_millis(1500);

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) roofline_ratio: f64,
}

/// Repeats `run` in turns with `roofline`.
pub(crate) fn paired(
    run: &mut Run<'_>,
    roofline: &mut Roofline<'_>,
    threads: &Threads,
    repetitions: usize,
) -> Result<Measured> {
    let ways = roofline.ways;
    // The seconds of each way and of the operation right after it.
    let mut pairs = vec![Vec::new(); ways.len()];
    threads.install(|| -> Result<()> {
        // The first time touches the pages of the output.
        run()?;
        let passes = passes(|| Ok(run()?))?;
        let mut limit_passes = Vec::new();
        for &way in ways {
            limit_passes.push(self::passes(|| {
                roofline.pass(way, threads);
                Ok(())
            })?);
        }
        let start = Instant::now();
        for repetition in 0..repetitions {
            if repetition >= 3 && start.elapsed() >= TOO_LONG {
                break;
            }
            // In turns, so that no way finds in the caches what another one left of the same memory.
            for ((&way, &limit_passes), pairs) in ways.iter().zip(&limit_passes).zip(&mut pairs) {
                let limit = timed(limit_passes, || {
                    roofline.pass(way, threads);
                    Ok(())
                })?;
                pairs.push((limit, timed(passes, || Ok(run()?))?));
            }
        }
        Ok(())
    })?;
    let median_of = |pairs: &[(f64, f64)], value: fn(&(f64, f64)) -> f64| {
        median(&pairs.iter().map(value).collect::<Vec<_>>())
    };
    let limit = |pairs: &[(f64, f64)]| median_of(pairs, |&(limit, _)| limit);
    // The better way counts.
    let best = pairs.iter().min_by(|a, b| limit(a).total_cmp(&limit(b))).map_or(&[][..], Vec::as_slice);
    Ok(Measured {
        seconds: median_of(best, |&(_, seconds)| seconds),
        roofline_ratio: median_of(best, |&(limit, seconds)| limit / seconds),
    })
}

/// How often `pass` fits into a repetition.
fn passes(mut pass: impl FnMut() -> Result<()>) -> Result<u32> {
    let mut passes = 1;
    loop {
        let seconds = timed(passes, &mut pass)? * f64::from(passes);
        if seconds >= LONG_ENOUGH.as_secs_f64() || passes >= 1 << 16 {
            return Ok(passes);
        }
        passes *= 2;
    }
}

/// Seconds of one of so many passes.
fn timed(passes: u32, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..passes {
        pass()?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(passes))
}

/// The middle value; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
