//! What the network's file says about itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ndarray::Array4;
use safetensors::SafeTensors;

use super::{Glyphs, LABELS};

/// The metadata of the sample network's file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Info {
    /// Seed of the training images and of the first weights.
    pub(crate) training_seed: u64,
    /// Number of passes over fresh images.
    pub(crate) epochs: u64,
    /// Training images drawn per epoch.
    pub(crate) epoch_images: u64,
    /// Seed of the held-out images.
    pub(crate) held_out_seed: u64,
    /// Number of held-out images.
    pub(crate) held_out_count: u64,
    /// Share of the held-out images the float network gets right.
    pub(crate) held_out_accuracy: f64,
    /// Names of the classes.
    pub(crate) labels: Vec<String>,
}

impl Info {
    /// Name of the task; changes whenever the images do.
    pub(crate) const TASK: &'static str = "lowbit glyphs 1";

    /// Reads the metadata of a safetensors file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).context("not a safetensors file")?;
        let entries = header.metadata().clone().unwrap_or_default();
        let entry = |name: &str| {
            let value = entries.get(name).map(String::as_str);
            value.with_context(|| format!("metadata entry {name} is missing"))
        };
        let number = |name: &str| -> Result<u64> {
            let value = entry(name)?.parse();
            value.with_context(|| format!("metadata entry {name}"))
        };
        let task = entry("task")?;
        ensure!(task == Self::TASK, "trained for task {task:?}, not {:?}", Self::TASK);
        let info = Self {
            training_seed: number("training_seed")?,
            epochs: number("epochs")?,
            epoch_images: number("epoch_images")?,
            held_out_seed: number("held_out_seed")?,
            held_out_count: number("held_out_count")?,
            held_out_accuracy: entry("held_out_accuracy")?
                .parse()
                .context("metadata entry held_out_accuracy")?,
            labels: entry("labels")?.split(' ').map(str::to_owned).collect(),
        };
        ensure!(info.labels == LABELS, "classes {:?} are not {LABELS:?}", info.labels);
        Ok(info)
    }

    /// The metadata as [`read`](Self::read) expects it.
    pub(crate) fn entries(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("task", Self::TASK.to_owned()),
            ("training_seed", self.training_seed.to_string()),
            ("epochs", self.epochs.to_string()),
            ("epoch_images", self.epoch_images.to_string()),
            ("held_out_seed", self.held_out_seed.to_string()),
            ("held_out_count", self.held_out_count.to_string()),
            ("held_out_accuracy", self.held_out_accuracy.to_string()),
            ("labels", self.labels.join(" ")),
        ])
    }

    /// Draws the held-out images (batch, 1, side, side) and their labels.
    pub(crate) fn held_out(&self) -> (Array4<f32>, Vec<usize>) {
        Glyphs::new(self.held_out_seed).batch(0..self.held_out_count)
    }
}
