//! Real spectrograms as a stream: which calibration, and how many recordings?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use lowbit::calibration::Convergence;
use lowbit::prelude::*;
use ndarray::{ArrayD, Axis, Dimension, IxDyn};

use crate::compare::{self, SEED, SETTLED};
use crate::interrupt;
use crate::judge::Sums;
use crate::numbers::range_text;
use crate::options::{Options, Rule};
use crate::progress::Progress;
use crate::tables;
use crate::tensors::{TensorFile, with_array};

/// The spectrograms, or what to say where there are none.
pub(crate) enum Recordings {
    At(Spectrograms),
    Absent(String),
}

/// Recordings, on the first axis.
pub(crate) struct Spectrograms {
    name: String,
    values: ArrayD<f32>,
}

impl Recordings {
    /// Reads the file asked for, or else the usual one if it is there.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self> {
        if let Some(path) = path {
            return Ok(Self::At(read(path)?));
        }
        let path = default_path();
        if path.exists() {
            return Ok(Self::At(read(&path)?));
        }
        Ok(Self::Absent(format!(
            "\nSpectrograms: skipped, there are none at {}; --spectrograms FILE.npy names others.\n",
            path.display()
        )))
    }
}

/// Beside the package, or in the folder of weights that the environment variable `LOWBIT_WEIGHTS` names.
fn default_path() -> PathBuf {
    let folder = std::env::var_os("LOWBIT_WEIGHTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/weights"), PathBuf::from);
    folder.join("streaming_wakeword").join("calibration_specs.npy")
}

fn read(path: &Path) -> Result<Spectrograms> {
    let mut file = TensorFile::open(path)?;
    let label = path.display();
    let entry = file.entries().first().with_context(|| format!("{label}: no spectrograms"))?.clone();
    ensure!(
        entry.shape.len() >= 2 && entry.len() > 0,
        "{label}: spectrograms of shape {:?}, not of recordings and at least one more axis",
        entry.shape
    );
    let values =
        with_array!(&file.read(&entry)?, array => array.mapv(|value| lowbit::Element::to_f64(value) as f32));
    if let Some((index, value)) = values.indexed_iter().find(|(_, value)| !value.is_finite()) {
        bail!("{label}: {value} at index {:?}", index.slice());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Spectrograms { name, values })
}

impl Spectrograms {
    fn len(&self) -> usize {
        self.values.len_of(Axis(0))
    }

    /// So many recordings from one on, each as a tensor of one row.
    fn some(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = ArrayD<f32>> {
        range.map(|at| self.values.slice_axis(Axis(0), (at..=at).into()).to_owned())
    }
}

/// 1, 2, 4, ... and all.
fn sizes(all: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1usize), |n| n.checked_mul(2)).take_while(|&n| n < all).collect();
    sizes.push(all);
    sizes
}

/// Which calibration, and how many recordings.
pub(crate) fn report(recordings: &Spectrograms, options: &Options) -> Result<String> {
    let bits = options.fewest();
    let scheme = Uniform::asymmetric(bits).scheme()?;
    let (all, rules) = (recordings.len(), options.rules()?);
    let names = || rules.iter().map(Rule::short);
    let mut ranges = tables::of_columns(0, std::iter::once("recordings".to_owned()).chain(names()));
    let mut figures = tables::of_columns(0, std::iter::once("recordings".to_owned()).chain(names()));
    let sizes = sizes(all);
    let progress = Progress::new("recordings", sizes.len() as u64 + 1);

    let mut observer = Observer::new(Arc::new(PerLayer), &[1], NonFinite::Error, Observer::BINS)?;
    let mut seen = 0;
    for &size in &sizes {
        for recording in recordings.some(seen..size) {
            observer.observe(&recording)?;
        }
        seen = size;
        let histogram = compare::histogram(&observer)?;
        let mut row = vec![size.to_string()];
        let mut figure = vec![format!("static, {size}")];
        for rule in &rules {
            interrupt::check()?;
            let found = Convergence::of(&histogram, &*rule.0, &scheme, SEED)?;
            let settled = if found.has_converged(SETTLED) { "" } else { " !" };
            let range = range_text(found.range.low(), found.range.high());
            row.push(format!("{range} ± {:.1} %{settled}", 100.0 * found.deviation));
            let frozen = rule.recipe(bits, PerLayer).freeze(&observer)?;
            let sums = sums(recordings.some(size..all), |recording| frozen.quantize(recording))?;
            figure.push(sums.map_or("-".to_owned(), |sums| format!("{:.2}", sums.sqnr())));
        }
        ranges.add_row(row);
        figures.add_row(figure);
        progress.step()?;
    }
    let mut figure = vec!["dynamic, each".to_owned()];
    for rule in &rules {
        let recipe = rule.recipe(bits, PerLayer);
        let sums = sums(recordings.some(0..all), |recording| recipe.quantize(recording))?;
        figure.push(sums.map_or_else(String::new, |sums| format!("{:.2}", sums.sqnr())));
    }
    figures.add_row(figure);
    drop(progress);

    let name = &recordings.name;
    let title = format!("{name}, {all} recordings");
    let comparisons = vec![(bits, Comparison::of_all(&compare::histogram(&observer)?, &scheme)?)];
    Ok(format!(
        "{}\n{title}: how many are needed? Ranges at {bits} bits after so many,\n\
         and how far another sample of as many values would move them (!: more than {} %).\n\
         Values of one recording resemble each other: look at what the next row does, too.\n{ranges}\n\n\
         {title}: SQNR in dB at {bits} bits of those that were not among them\n{figures}\n",
        compare::tables(&title, &comparisons),
        100.0 * SETTLED
    ))
}

/// The sums over all recordings; `None` without any.
fn sums(
    recordings: impl Iterator<Item = ArrayD<f32>>,
    quantize: impl Fn(&ArrayD<f32>) -> lowbit::Result<QuantizedTensor>,
) -> Result<Option<Sums>> {
    let mut sums = None;
    for recording in recordings {
        let restored = quantize(&recording)?.dequantize::<f32, IxDyn>()?;
        sums.get_or_insert_with(Sums::default).add(&recording, &restored);
    }
    Ok(sums)
}
