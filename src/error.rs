//! Errors, sorted by what can be done about them.
//!
//! * [`ConfigError`]: the configuration cannot work, whatever the data. Raised when the configuration is
//!   made, or, where a builder has no room for a result, when it is first used.
//! * [`ShapeError`]: configuration and tensor do not fit each other.
//! * [`DataError`]: a valid configuration meets data that it cannot serve.
//! * [`ParseError`]: a text is not the text form of anything known.
//! * [`FormatError`]: bytes from outside are not what they claim to be.
//!
//! Every variant carries the value, the place and the limit, so that a program can act on it.

use thiserror::Error;

use crate::element::FloatType;
use crate::simd::Level;
use crate::tensor::ScaleStorage;

/// The result of every operation of this crate that can fail.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Any error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work, whatever the data.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration does not fit the tensor.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The data cannot be served by a valid configuration.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A text is not the text form of anything known.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Bytes from outside are not what they claim to be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A quantizer, calibration or granularity from outside this crate failed in its own way.
    #[error("{0}")]
    Custom(#[source] Box<dyn core::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps the error of a strategy that was written outside this crate.
    pub fn custom(error: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> Self {
        Self::Custom(error.into())
    }

    /// Whether a wider type of parameters would help.
    pub(crate) const fn is_storage(&self) -> bool {
        matches!(self, Self::Data(DataError::ScaleStorage { .. } | DataError::ZeroPointStorage { .. }))
    }
}

/// A configuration that cannot work, whatever the data.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A bit width outside 1 to 16.
    #[error("bit width {bits} is not supported: it must be 1 to 16")]
    BitWidth {
        /// The width asked for.
        bits: u32,
    },
    /// A code range that is empty or does not fit 16 bits.
    #[error(
        "codes {q_min} to {q_max} are not a code range: q_min < q_max within -32768..=32767 or 0..=65535"
    )]
    CodeRange {
        /// The lowest code asked for.
        q_min: i64,
        /// The highest code asked for.
        q_max: i64,
    },
    /// A symmetric restricted range of one bit has the code 0 alone.
    #[error("a restricted symmetric range at 1 bit has no code but 0: use the full or the mid-rise range")]
    RestrictedOneBit,
    /// Two settings that exclude each other.
    #[error("{setting} does not apply to {to}")]
    Conflict {
        /// The setting that does not apply.
        setting: &'static str,
        /// What it was applied to.
        to: &'static str,
    },
    /// A percentile that keeps nothing or more than everything.
    #[error("percentile {percent} is not supported: it must be above {above} and at most 100")]
    Percentile {
        /// The percentile asked for.
        percent: f64,
        /// The bound below.
        above: f64,
    },
    /// A clipping range that is not two finite numbers in order.
    #[error("clipping range {index}: [{low}, {high}] must be finite with low <= high")]
    ClippingRange {
        /// Which of the given ranges.
        index: usize,
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// A scale given by the user that is not a positive finite number of its storage type.
    #[error("scale {index} is {scale}: it must be finite and {rule}")]
    Scale {
        /// Which of the given scales.
        index: usize,
        /// Its value.
        scale: f64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A share that is not within 0 and 1.
    #[error("rate {rate} is not supported: it must be 0 to 1")]
    Rate {
        /// The rate asked for.
        rate: f64,
    },
    /// A base of powers that is not a finite number above one.
    #[error("base {base} is not supported: it must be finite and at least 1.01")]
    Base {
        /// The base asked for.
        base: f64,
    },
    /// An instruction set that this machine does not have.
    #[error("the instruction set {level} is not available on this machine: its best is {best}")]
    Level {
        /// The level asked for.
        level: Level,
        /// The best level of this machine.
        best: Level,
    },
    /// Levels that cannot be those of codes.
    #[error("{count} levels{} are not supported: there must be 2 to 65536 finite ones in f32, not all the same", bad_level(.bad))]
    Levels {
        /// How many there are.
        count: usize,
        /// The first that cannot be used, if it is one.
        bad: Option<f64>,
    },
    /// A zero point outside the codes, or not a finite number.
    #[error("zero point {index} is {zero_point}: it must be within the codes {q_min} to {q_max}")]
    ZeroPoint {
        /// Which of the given zero points.
        index: usize,
        /// Its value.
        zero_point: f64,
        /// The lowest code.
        q_min: i32,
        /// The highest code.
        q_max: i32,
    },
    /// A number of elements, bins or bits that must not be that small.
    #[error("{what} is {value}: it must be at least {min}")]
    TooSmall {
        /// What was counted.
        what: &'static str,
        /// The value asked for.
        value: usize,
        /// The least that works.
        min: usize,
    },
    /// A number of bins that is out of proportion.
    #[error("{what} is {value}: it must be at most {max}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The value asked for.
        value: usize,
        /// The most that works.
        max: usize,
    },
    /// A floating-point format that has no values, or too many bits.
    #[error(
        "a format of {exponent_bits} exponent and {mantissa_bits} mantissa bits is not supported: {rule}"
    )]
    Minifloat {
        /// Bits of the exponent.
        exponent_bits: u32,
        /// Bits of the mantissa.
        mantissa_bits: u32,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A base whose powers are no scale.
    #[error("base {base} is not supported: it must be finite and above 1 by at least 2^-16")]
    LogBase {
        /// The base asked for.
        base: f64,
    },
    /// A number that a setting does not take.
    #[error("{what} is {value}: it must be {rule}")]
    Number {
        /// What was set.
        what: &'static str,
        /// The value asked for.
        value: f64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A budget that not even the smallest form of everything fits into.
    #[error("a budget of {budget} bits is too small: the least possible is {least}")]
    Budget {
        /// The budget in bits.
        budget: u64,
        /// The smallest size in bits.
        least: u64,
    },
    /// A name that the text form cannot hold, or that is taken.
    #[error("{name:?} cannot be registered: names are lower-case words joined by hyphens, each used once")]
    Name {
        /// The name asked for.
        name: String,
    },
}

fn bad_level(bad: &Option<f64>) -> String {
    bad.map(|level| format!(" with {level}")).unwrap_or_default()
}

/// A configuration and a tensor that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// An axis that the tensor does not have.
    #[error("axis {axis} is out of range for a tensor of rank {rank}")]
    Axis {
        /// The axis asked for.
        axis: usize,
        /// The rank of the tensor.
        rank: usize,
    },
    /// A tiling that does not use each axis of the shape exactly once.
    #[error("a tiling must use each of {rank} axes exactly once: axis {axis} is used {times} times")]
    Tiling {
        /// The axis that is missing or repeated.
        axis: usize,
        /// How often it is used.
        times: usize,
        /// The rank of the tensor.
        rank: usize,
    },
    /// One block length is needed for each axis.
    #[error("{given} block lengths for a tensor of rank {rank}")]
    BlockRank {
        /// How many block lengths were given.
        given: usize,
        /// The rank of the tensor.
        rank: usize,
    },
    /// Parameters for another number of regions than the tensor is cut into.
    #[error("parameters for {given} regions, but the tensor of shape {shape:?} is cut into {expected}")]
    RegionCount {
        /// How many regions there are parameters for.
        given: usize,
        /// How many regions the tensor is cut into.
        expected: usize,
        /// The shape of the tensor.
        shape: Vec<usize>,
    },
    /// Two shapes that must be equal.
    #[error("shape {found:?} where {expected:?} is needed")]
    Mismatch {
        /// The shape found.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// A tensor of another rank than the type asked for.
    #[error("a tensor of rank {found} cannot be read as rank {expected}")]
    Rank {
        /// The rank of the tensor.
        found: usize,
        /// The rank asked for.
        expected: usize,
    },
    /// A buffer of another length than needed.
    #[error("a buffer of {found} elements where {expected} are needed")]
    Length {
        /// The length found.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// An index beyond the end.
    #[error("{what} {index} is out of range: there are {count}")]
    Index {
        /// What was indexed.
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Regions that end within a vector.
    #[error("regions of {block} elements of the last axis do not hold whole vectors of {dimension}")]
    Vectors {
        /// Elements of a region along the last axis.
        block: usize,
        /// Numbers of a vector.
        dimension: usize,
    },
    /// The product of the dimensions does not fit the address space.
    #[error("the product of the dimensions {shape:?} overflows")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
}

/// Data that a valid configuration cannot serve.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A NaN where no policy for it was named.
    #[error("NaN at index {index:?}: clean the data, or name a policy for non-finite values")]
    NotANumber {
        /// Its index in each axis.
        index: Vec<usize>,
    },
    /// An infinity in data whose range is to be found.
    #[error(
        "{value} at index {index:?}: a range cannot be calibrated on it; clean the data, give the range, or \
         name a policy for non-finite values"
    )]
    Infinite {
        /// Its index in each axis.
        index: Vec<usize>,
        /// Its value.
        value: f64,
    },
    /// An importance that cannot be the weight of a squared error.
    #[error("importance {value} at index {index:?}: it must be finite and not negative")]
    Importance {
        /// Its index in each axis.
        index: Vec<usize>,
        /// Its value.
        value: f64,
    },
    /// There is nothing to calibrate on.
    #[error("region {region} has no data to calibrate on")]
    NoData {
        /// The first region without data.
        region: usize,
    },
    /// A scale that is too large or too small for its storage type.
    #[error(
        "region {region}: scale {scale:e} does not fit {storage} (it becomes {stored:e}): use a wider type"
    )]
    ScaleStorage {
        /// The region.
        region: usize,
        /// The scale before rounding.
        scale: f64,
        /// What became of it.
        stored: f64,
        /// How it is stored.
        storage: ScaleStorage,
    },
    /// A level or coefficient that its storage type cannot hold, or that is not in its place.
    #[error(
        "region {region}: level {code} is {level:e}: levels must ascend, be no more than the codes, and fit {storage}"
    )]
    Level {
        /// The region.
        region: usize,
        /// Its place among the levels.
        code: usize,
        /// Its value.
        level: f64,
        /// The storage type.
        storage: FloatType,
    },
    /// A zero point that the scheme does not allow.
    #[error("region {region}: the scheme does not allow the zero point {zero_point}")]
    ZeroPoint {
        /// The region.
        region: usize,
        /// The zero point.
        zero_point: f64,
    },
    /// A real zero point that is too large for its storage type.
    #[error("region {region}: zero point {zero_point:e} does not fit {storage}: use a wider type")]
    ZeroPointStorage {
        /// The region.
        region: usize,
        /// The zero point before rounding.
        zero_point: f64,
        /// The storage type.
        storage: FloatType,
    },
    /// Statistics that memory cannot hold.
    #[error("there is no memory for {bytes} bytes of {what}")]
    Memory {
        /// What was to be kept.
        what: &'static str,
        /// The size that was asked for.
        bytes: usize,
    },
    /// An integer accumulator that could overflow.
    #[error("output {output}: the accumulator can reach {bound}, beyond {limit}: use 64-bit accumulators")]
    Accumulator {
        /// The output channel.
        output: usize,
        /// The largest magnitude that the accumulator can reach.
        bound: i128,
        /// The largest magnitude that fits.
        limit: i128,
    },
}

/// A text that is not the text form of what was asked for.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A number was expected.
    #[error("{what}: {text:?} is not a number of the expected kind")]
    Number {
        /// What was being read.
        what: &'static str,
        /// The text found.
        text: String,
    },
    /// None of the known names.
    #[error("unknown {what} {text:?}: expected one of {}", .known.join(", "))]
    Name {
        /// What was being read.
        what: &'static str,
        /// The text found.
        text: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// Something else was expected at a place in the text.
    #[error("at character {position} of {text:?}: expected {expected}")]
    Syntax {
        /// The whole text.
        text: String,
        /// Where reading stopped, in characters from 0.
        position: usize,
        /// What would have been right there.
        expected: &'static str,
    },
    /// An argument that is missing, unknown or given twice.
    #[error("{name}: argument {argument:?} is {problem}")]
    Argument {
        /// The strategy whose arguments these are.
        name: String,
        /// The argument.
        argument: String,
        /// `missing`, `unknown` or `given twice`.
        problem: &'static str,
    },
    /// A strategy whose data is not part of the text.
    #[error("{name} holds data that is not part of the text form: build it in code")]
    DataNotInText {
        /// The strategy.
        name: String,
    },
    /// The text is well-formed but describes a configuration that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Bytes from outside that are not what they claim to be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system reports an error.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The container itself is damaged.
    #[error("not a valid {format} file: {reason}")]
    Container {
        /// The file format.
        format: &'static str,
        /// What its reader found.
        reason: String,
    },
    /// An entry that should be there is not.
    #[error("{name}: there is no entry {missing:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// The entry that it needs.
        missing: String,
    },
    /// An entry of another type, shape or length than declared.
    #[error("{name}: found {found} where {expected} is needed")]
    Entry {
        /// The entry.
        name: String,
        /// What was found.
        found: String,
        /// What was needed.
        expected: String,
    },
    /// A name that another tensor of the file, or one of its entries, has already, or that the format keeps for
    /// itself.
    #[error("the name {name:?} is taken")]
    Taken {
        /// The name.
        name: String,
    },
    /// A value that cannot be part of a quantized tensor.
    #[error("{name}: {source}")]
    Invalid {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Codes outside the declared code range.
    #[error("code {code} at position {index} is outside {q_min} to {q_max}")]
    Code {
        /// The position of the code.
        index: usize,
        /// Its value.
        code: i32,
        /// The lowest valid code.
        q_min: i32,
        /// The highest valid code.
        q_max: i32,
    },
}

impl From<Error> for ParseError {
    /// Constructors that a text form calls report configurations; anything else keeps its words.
    fn from(error: Error) -> Self {
        match error {
            Error::Config(error) => Self::Config(error),
            Error::Parse(error) => error,
            other => Self::Name { what: "argument", text: other.to_string(), known: Vec::new() },
        }
    }
}
