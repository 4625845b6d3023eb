//! How far it is: a bar on a terminal, a line for each part elsewhere.
//!
//! Included with `#[path = "../support/progress.rs"] mod progress;`, beside `interrupt`.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;

/// The progress of one part of the work. Several threads may step it.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A part of so many steps.
    pub(crate) fn new(what: &'static str, steps: u64) -> Self {
        let mut errors = std::io::stderr();
        if !errors.is_terminal() {
            // Nobody may be listening.
            let _ = writeln!(errors, "{what}: {steps} steps");
            return Self(None);
        }
        let style = ProgressStyle::with_template("{msg:12} {bar:30} {pos}/{len} {eta}");
        let bar = ProgressBar::new(steps).with_message(what);
        Self(Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))))
    }

    /// One step is done; an error after an interruption.
    pub(crate) fn step(&self) -> Result<()> {
        if let Self(Some(bar)) = self {
            bar.inc(1);
        }
        interrupt::check()
    }
}

impl Drop for Progress {
    /// Makes room for what comes after, be it a table or an error.
    fn drop(&mut self) {
        if let Self(Some(bar)) = self {
            bar.finish_and_clear();
        }
    }
}
