//! How far it is: a bar on a terminal, a line for each part elsewhere.
//!
//! Included with `#[path = "../support/progress.rs"] mod progress;`, beside `../support/interrupt.rs`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

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
        let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} {eta} {msg}");
        let bar = ProgressBar::new(steps).with_prefix(what);
        Self(Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))))
    }

    /// What the next steps are about.
    pub(crate) fn tell(&self, about: String) {
        if let Self(Some(bar)) = self {
            bar.set_message(about);
        }
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
