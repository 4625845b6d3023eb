//! Recipes and observers: static quantization calibrated on a stream.

use crate::calibration::{Evidence, Region};
use crate::error::{ConfigError, DataError, Result};
use crate::observer::Observer;
use crate::quantizer::Fit;
use crate::tensor::{ClippingRange, Grids, Note, Notes, Scheme};

use super::{Frozen, Recipe};

impl Recipe {
    /// An observer for tensors of `shape`, or of any shape that this recipe's granularity cuts into as many regions.
    /// At least [`Observer::BINS`] bins for each region; [`Observer::new`] takes another number.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) if the granularity does not fit the shape.
    pub fn observer(&self, shape: &[usize]) -> Result<Observer> {
        Observer::new(self.granularity.clone(), shape, self.encoding.non_finite, Observer::BINS)
    }

    /// The recipe with the grids that fit what `observer` has seen: static quantization.
    ///
    /// Calibrations see each region's histogram and exact extremes: minimum and maximum are exact, a percentile is
    /// the lower edge of its bin, KL and MSE take each value for the middle of its bin.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for an observer of another granularity or policy, [`DataError::NoData`] for a region
    /// without values, and what the method's fit gives.
    pub fn freeze(&self, observer: &Observer) -> Result<Frozen> {
        if observer.granularity().to_string() != self.granularity.to_string() {
            return Err(ConfigError::Conflict {
                setting: "an observer of another granularity",
                to: "this recipe",
            }
            .into());
        }
        if observer.non_finite() != self.encoding.non_finite {
            let setting = "an observer of another policy for non-finite values";
            return Err(ConfigError::Conflict { setting, to: "this recipe" }.into());
        }
        let mut scheme = self.scheme()?;
        loop {
            match (self.fit_summaries(observer, &scheme), scheme.widened()) {
                (Ok((grids, notes)), _) => return Ok(Frozen::new(self, scheme, grids)?.with_notes(notes)),
                (Err(error), Some(wider)) if error.is_storage() => scheme = wider,
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The recipe with the grids of given ranges, one for each region in the order of the tiling: static quantization
    /// by ranges from elsewhere, a [`MovingAverage`](crate::observer::MovingAverage) or a training framework. The
    /// method's own calibration is not asked.
    ///
    /// # Errors
    ///
    /// [`DataError::ScaleStorage`] where a scale does not fit its type.
    pub fn freeze_ranges(&self, ranges: &[ClippingRange]) -> Result<Frozen> {
        let mut scheme = self.scheme()?;
        loop {
            let mut grids = Grids::new(&scheme);
            let fitted = ranges
                .iter()
                .enumerate()
                .try_for_each(|(region, &range)| -> Result<()> { grids.push(scheme.grid(range, region)?) });
            match (fitted, scheme.widened()) {
                (Ok(()), _) => return Frozen::new(self, scheme, grids),
                (Err(error), Some(wider)) if error.is_storage() => scheme = wider,
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn fit_summaries(&self, observer: &Observer, scheme: &Scheme) -> Result<(Grids, Notes)> {
        let (mut grids, mut notes) = (Grids::new(scheme), Notes::new());
        for (index, summary) in observer.summaries().iter().enumerate() {
            let histogram = summary.to_histogram().ok_or(DataError::NoData { region: index })?;
            let region = Region::new(index, Evidence::Histogram(&histogram));
            let Fit { grid, note } = self.quantizer.fit(&region, scheme)?;
            grids.push(grid)?;
            notes.extend(note.map(|note| (index, note)));
            if summary.skipped() > 0 {
                notes.push((index, Note::SkippedNonFinite { count: summary.skipped() }));
            }
        }
        grids.finish()?;
        let (declared, used) = (self.scheme()?, scheme);
        if declared.storage() != used.storage() {
            notes.push((0, Note::WidenedScales { storage: used.storage() }));
        }
        Ok((grids, notes))
    }
}

/// The fields of an [`Observer`] on the way out and in.
#[cfg(feature = "serde")]
mod serialized {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::observer::{Observer, Summary};
    use crate::recipe::Registry;
    use crate::tensor::NonFinite;

    #[derive(Serialize, Deserialize)]
    struct Parts<S> {
        granularity: String,
        non_finite: NonFinite,
        bins: usize,
        summaries: S,
    }

    impl Serialize for Observer {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let (granularity, non_finite, bins) =
                (self.granularity().to_string(), self.non_finite(), self.bins());
            Parts { granularity, non_finite, bins, summaries: self.summaries() }.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Observer {
        /// Reads observers of built-in granularities.
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let parts = Parts::<Vec<Summary>>::deserialize(deserializer)?;
            let granularity = Registry::default()
                .parse_granularity(&parts.granularity)
                .map_err(serde::de::Error::custom)?;
            Self::from_parts(granularity, parts.non_finite, parts.bins, parts.summaries)
                .map_err(serde::de::Error::custom)
        }
    }
}
