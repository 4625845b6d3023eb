//! The observers of all activations of the network, and the file that keeps them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lowbit::prelude::*;
use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::mmap;
use crate::sample::{Glyphs, Info, Network};
use crate::write::write_whole;

/// Bins of a channel. There are hundreds of channels, and each has few values.
const CHANNEL_BINS: usize = 1024;

/// What is known of all activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Observers {
    /// The task of the network.
    task: String,
    /// The number of images that were seen.
    pub(crate) images: u64,
    /// In the order of the layers.
    pub(crate) activations: Vec<Activation>,
}

/// What is known of one activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Activation {
    /// The layer that it is the input of.
    pub(crate) name: String,
    /// Values of one image.
    values: u64,
    /// All values together.
    pub(crate) layer: Observer,
    /// Each channel (axis 1) by itself.
    pub(crate) channel: Observer,
}

impl Observers {
    /// Observers that have seen nothing yet.
    pub(crate) fn new(network: &Network) -> Result<Self> {
        let mut shapes = Vec::new();
        let (image, _) = Glyphs::new(0).batch(0..1);
        network.forward_with(&image, &mut |name, input| {
            shapes.push((name.trim_end_matches(".weight").to_owned(), input.shape().to_vec()));
        });
        let mut activations = Vec::new();
        for (name, shape) in shapes {
            let observer = |granularity: Arc<dyn Granularity>, bins| {
                Observer::new(granularity, &shape, NonFinite::Error, bins)
            };
            activations.push(Activation {
                name,
                values: shape.iter().product::<usize>() as u64,
                layer: observer(Arc::new(PerLayer), Observer::BINS)?,
                channel: observer(Arc::new(PerChannel::new(Axis(1))), CHANNEL_BINS)?,
            });
        }
        Ok(Self { task: Info::TASK.to_owned(), images: 0, activations })
    }

    /// The place of the activation called `name`.
    pub(crate) fn find(&self, name: &str) -> Result<usize> {
        let names: Vec<&str> = self.activations.iter().map(|activation| &*activation.name).collect();
        let found = names.iter().position(|&found| found == name);
        found.with_context(|| format!("no layer {name:?}; there are {}", names.join(", ")))
    }

    /// Runs `images` through the network and counts the values of every activation.
    pub(crate) fn observe(&mut self, network: &Network, images: &Array4<f32>) -> Result<()> {
        let mut activations = self.activations.iter_mut();
        let mut result = Ok(());
        network.forward_with(images, &mut |_, input| {
            if let Some(activation) = activations.next()
                && result.is_ok()
            {
                result = activation.layer.observe(&input).and_then(|()| activation.channel.observe(&input));
            }
        });
        self.images += images.len_of(Axis(0)) as u64;
        Ok(result?)
    }

    /// Adds what `other` has seen, as if these observers had seen it.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        ensure!(self.task == other.task, "observers of task {:?}, not {:?}", other.task, self.task);
        let count = |observers: &Self| observers.activations.len();
        ensure!(count(self) == count(other), "{} activations, not {}", count(other), count(self));
        for (activation, other) in self.activations.iter_mut().zip(&other.activations) {
            let name = &activation.name;
            ensure!(*name == other.name, "activation {}, not {name}", other.name);
            activation.layer.merge(&other.layer).with_context(|| format!("activation {name}"))?;
            activation
                .channel
                .merge(&other.channel)
                .with_context(|| format!("channels of activation {name}"))?;
        }
        self.images = self.images.checked_add(other.images).context("too many images")?;
        Ok(())
    }

    /// The text of the file.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads the text of the file. `empty` are observers of the same network.
    pub(crate) fn from_json(text: &[u8], empty: &Self) -> Result<Self> {
        let read: Self = serde_json::from_slice(text).context("not a file of observers, or damaged")?;
        // Merging into empty observers checks that these are of the same network.
        let mut checked = empty.clone();
        checked.merge(&read)?;
        for activation in &checked.activations {
            let Activation { name, values, layer, channel } = activation;
            let expected = checked.images.checked_mul(*values);
            for observer in [layer, channel] {
                let found = observer.summaries().iter().try_fold(0u64, |sum, summary| {
                    sum.checked_add(summary.count())?.checked_add(summary.skipped())
                });
                ensure!(
                    found.is_some() && found == expected,
                    "activation {name}: not the {values} values of each of {} images",
                    checked.images
                );
            }
        }
        Ok(checked)
    }

    /// Reads a file. `empty` are observers of the same network.
    pub(crate) fn load(path: &Path, empty: &Self) -> Result<Self> {
        let bytes = mmap::map(path)?;
        Self::from_json(&bytes, empty).with_context(|| path.display().to_string())
    }

    /// Writes a file, and says how large it is.
    pub(crate) fn save(&self, path: &Path) -> Result<String> {
        let text = self.to_json()?;
        write_whole(path, text.as_bytes())?;
        Ok(kibibytes(text.len()))
    }
}

/// A size.
pub(crate) fn kibibytes(bytes: usize) -> String {
    format!("{:.0} KiB", bytes as f64 / 1024.0)
}
