//! The fitted values: one grid per region, as struct of arrays.

use std::collections::TryReserveError;

use crate::error::{ConfigError, DataError, Result};

use super::affine::{AffineGrid, AffineGrids};
use super::arrays::clone_in_place;
use super::binary_code::{BinaryCodeGrid, BinaryCodeGrids};
use super::codebook::{CodebookGrid, CodebookGrids};
use super::levels::{LevelGrid, LevelGrids};
use super::piecewise::{PiecewiseGrid, PiecewiseGrids};
use super::scheme::{ClippingRange, Scheme};
use super::vector_codebook::{VectorGrid, VectorGrids};

/// What the grids of every representation can do. A region's grid is pushed in the order of the tiling; once all are
/// there, the arrays are finished.
pub(crate) trait GridArrays: Sized {
    /// What declares the representation.
    type Scheme;
    /// The grid of one region.
    type Grid;

    /// No grids yet, in the storage that `scheme` declares.
    fn new(scheme: &Self::Scheme) -> Self;

    /// The number of regions.
    fn len(&self) -> usize;

    /// The grid of region `index`, if there is one.
    fn get(&self, index: usize) -> Option<Self::Grid>;

    /// Appends the grid of the next region, rounded to storage. Nothing is appended after an error.
    fn push(&mut self, grid: Self::Grid) -> Result<(), DataError>;

    /// Chooses what depends on all regions.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// Bits of all parameters.
    fn bits(&self) -> u64;

    /// Makes this empty and of the storage that `scheme` declares, keeping allocations where possible.
    fn reset(&mut self, scheme: &Self::Scheme, regions: usize) -> Result<(), TryReserveError>;

    /// Checks every parameter against `scheme`; if `positive`, scales must be positive with a finite reciprocal.
    fn check(&self, scheme: &Self::Scheme, positive: bool) -> Result<(), ConfigError>;

    /// The range of region `index`, if there is one.
    fn range(&self, scheme: &Self::Scheme, index: usize) -> Option<ClippingRange>;
}

macro_rules! representations {
    ($($(#[$doc:meta])* $name:ident($grid:ident, $grids:ident)),* $(,)?) => {
        /// The grid of one region, in the representation of its scheme.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Grid {
            $($(#[$doc])* $name($grid),)*
        }

        $(impl From<$grid> for Grid {
            fn from(grid: $grid) -> Self {
                Self::$name(grid)
            }
        })*

        /// The grids of all regions, in the representation of their scheme and the order of the tiling.
        #[derive(Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
        #[non_exhaustive]
        pub enum Grids {
            $($(#[$doc])* $name($grids),)*
        }

        clone_in_place!(Grids { $($name),* });

        $(impl From<$grids> for Grids {
            fn from(grids: $grids) -> Self {
                Self::$name(grids)
            }
        })*

        impl Grids {
            /// No grids yet, in the storage that `scheme` declares.
            pub fn new(scheme: &Scheme) -> Self {
                match scheme {
                    $(Scheme::$name(scheme) => Self::$name($grids::new(scheme)),)*
                }
            }

            /// The number of regions.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$name(grids) => GridArrays::len(grids),)*
                }
            }

            /// The grid of region `index`, if there is one.
            pub fn get(&self, index: usize) -> Option<Grid> {
                match self {
                    $(Self::$name(grids) => GridArrays::get(grids, index).map(Grid::$name),)*
                }
            }

            /// Appends the grid of the next region, rounded to storage.
            ///
            /// # Errors
            ///
            /// [`DataError`] where a parameter does not fit its storage, [`ConfigError::Conflict`] for a grid of
            /// another representation. Nothing is appended then.
            pub fn push(&mut self, grid: Grid) -> Result<()> {
                match (self, grid) {
                    $((Self::$name(grids), Grid::$name(grid)) => Ok(GridArrays::push(grids, grid)?),)*
                    _ => Err(ConfigError::Conflict { setting: "a grid of another kind", to: "the declared scheme" }.into()),
                }
            }

            /// Chooses what depends on all regions, such as the codes of two-level scales.
            pub(crate) fn finish(&mut self) -> Result<()> {
                match self {
                    $(Self::$name(grids) => GridArrays::finish(grids),)*
                }
            }

            /// Bits of all parameters.
            pub fn bits(&self) -> u64 {
                match self {
                    $(Self::$name(grids) => GridArrays::bits(grids),)*
                }
            }

            /// Makes this empty and of the storage that `scheme` declares, keeping allocations where possible.
            pub(crate) fn reset(&mut self, scheme: &Scheme, regions: usize) -> Result<(), TryReserveError> {
                match (&mut *self, scheme) {
                    $((Self::$name(grids), Scheme::$name(scheme)) => GridArrays::reset(grids, scheme, regions),)*
                    _ => {
                        *self = Self::new(scheme);
                        self.reset(scheme, regions)
                    }
                }
            }

            pub(crate) fn check(&self, scheme: &Scheme, positive: bool) -> Result<(), ConfigError> {
                match (self, scheme) {
                    $((Self::$name(grids), Scheme::$name(scheme)) => GridArrays::check(grids, scheme, positive),)*
                    _ => Err(ConfigError::Conflict { setting: "grids of another kind", to: "the declared scheme" }),
                }
            }

            /// The range of region `index` under `scheme`, if there is one.
            pub(crate) fn range(&self, scheme: &Scheme, index: usize) -> Option<ClippingRange> {
                match (self, scheme) {
                    $((Self::$name(grids), Scheme::$name(scheme)) => GridArrays::range(grids, scheme, index),)*
                    _ => None,
                }
            }
        }
    };
}

representations! {
    /// Scales and zero points.
    Affine(AffineGrid, AffineGrids),
    /// Scales of shared levels.
    Levels(LevelGrid, LevelGrids),
    /// Codebooks.
    Codebook(CodebookGrid, CodebookGrids),
    /// Coefficients of binary codes.
    BinaryCode(BinaryCodeGrid, BinaryCodeGrids),
    /// Break points and ends of two pieces.
    PiecewiseAffine(PiecewiseGrid, PiecewiseGrids),
    /// Codebooks of vectors.
    VectorCodebook(VectorGrid, VectorGrids),
}

impl Grids {
    /// Makes these the grids of `ranges` where there is a kernel for them; elsewhere, and on errors, `false`, and nothing
    /// has changed.
    pub(crate) fn fill(&mut self, scheme: &Scheme, ranges: &[ClippingRange]) -> bool {
        match (self, scheme) {
            (Self::Affine(grids), Scheme::Affine(scheme)) => grids.fill(scheme, ranges),
            _ => false,
        }
    }

    /// Whether there is no region.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
