//! Errors. A [`ConfigError`] is a configuration that cannot work, whatever the data; a
//! [`DataError`] is data that a valid configuration cannot serve.
use thiserror::Error;

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
    /// The text is well-formed but describes a configuration that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The value that `text` names in `table`.
pub(crate) fn parse_name<T: Copy>(
    what: &'static str,
    table: &[(T, &'static str)],
    text: &str,
) -> Result<T, ParseError> {
    table.iter().find(|(_, name)| *name == text).map(|(value, _)| *value).ok_or_else(|| ParseError::Name {
        what,
        text: text.to_owned(),
        known: table.iter().map(|(_, name)| (*name).to_owned()).collect(),
    })
}
