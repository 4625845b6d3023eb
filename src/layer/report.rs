//! What a method tells about its work.

use core::fmt;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// The loss so far: of the chosen codes where there are some, of the nearest elsewhere. NaN for methods that learn it
    /// at the end; the mean squared error in the last update, of weights that are on their way, for those that descend.
    pub loss: f64,
    /// Whether there is nothing left to do.
    pub finished: bool,
}

/// Why a method stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum StopReason {
    /// Every output has had its turn.
    Finished,
    /// Nothing that the method tries makes the loss smaller.
    Converged,
    /// The steps that were allowed are used up.
    StepLimit,
    /// It was told to, or asked for its solution, before it was finished.
    Interrupted,
    /// The nearest codes are the best, or as good as any: an embedding, or inputs that are all zero.
    NearestIsBest,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Finished => "finished",
            Self::Converged => "converged",
            Self::StepLimit => "step limit reached",
            Self::Interrupted => "interrupted",
            Self::NearestIsBest => "nearest codes are best",
        })
    }
}

/// What a method gained and what it took. Losses are those of [`Problem::loss`](super::Problem::loss), or of
/// [`Problem::sample_loss`](super::Problem::sample_loss) for methods that learn from samples.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// The loss of the nearest codes.
    pub before: f64,
    /// The loss of the chosen codes: never larger.
    pub after: f64,
    /// The loss of the nearest and of the chosen codes on samples that were held out, if there were any
    /// ([`Problem::held_out`](super::Problem::held_out), and for methods that learn from samples with targets or an
    /// activation [`Problem::held_out_samples`](super::Problem::held_out_samples)).
    pub held_out: Option<(f64, f64)>,
    /// Steps of the method: outputs that had their turn, passes, or updates.
    pub iterations: usize,
    /// Why it stopped.
    pub stop: StopReason,
    /// What was added to the diagonal of `XᵀX`, as a share of its mean; the largest of all groups.
    pub damping: f64,
    /// How often the damping was raised until the factorization succeeded; the most of all groups.
    pub damping_raised: usize,
    /// Outputs that kept their nearest codes, because the method's were no better.
    pub rows_kept: usize,
    /// Inputs that were zero in all samples, summed over the groups. Their weights keep their nearest codes.
    pub dead_inputs: usize,
}

impl Report {
    /// The report of codes that are the nearest.
    pub(super) const fn of_nearest(before: f64, outputs: usize, stop: StopReason) -> Self {
        Self {
            before,
            after: before,
            held_out: None,
            iterations: 0,
            stop,
            damping: 0.0,
            damping_raised: 0,
            rows_kept: outputs,
            dead_inputs: 0,
        }
    }
}

/// `loss 0.00965 to 0.00324 (33.5 %), held out 0.00972 to 0.0042; 32 iterations, finished; damping 0.01; 0 rows kept`
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, .. } = *self;
        write!(f, "loss {before:.3e} to {after:.3e}")?;
        if before > 0.0 {
            write!(f, " ({:.1} %)", 100.0 * after / before)?;
        }
        if let Some((before, after)) = self.held_out {
            write!(f, ", held out {before:.3e} to {after:.3e}")?;
        }
        write!(f, "; {} iterations, {}; damping {}", self.iterations, self.stop, self.damping)?;
        if self.damping_raised > 0 {
            write!(f, ", raised {} times", self.damping_raised)?;
        }
        write!(f, "; {} rows kept", self.rows_kept)?;
        if self.dead_inputs > 0 {
            write!(f, "; {} dead inputs", self.dead_inputs)?;
        }
        Ok(())
    }
}
