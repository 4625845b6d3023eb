//! Names of choices: what `Display` writes and `FromStr` reads.

use crate::error::ParseError;

/// Gives an enum without data its names: `named!(Type, "what it is", [Variant => "name", ...])`.
macro_rules! named {
    ($type:ident, $what:literal, [$($variant:ident => $name:literal),* $(,)?]) => {
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $name,)*
                })
            }
        }

        impl core::str::FromStr for $type {
            type Err = $crate::error::ParseError;

            fn from_str(text: &str) -> Result<Self, $crate::error::ParseError> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err($crate::names::unknown($what, text, &[$($name),*])),
                }
            }
        }
    };
}

pub(crate) use named;

/// The error for a text that is none of the `known` names.
pub(crate) fn unknown(what: &'static str, text: &str, known: &[&str]) -> ParseError {
    ParseError::Name {
        what,
        text: text.to_owned(),
        known: known.iter().map(|&name| name.to_owned()).collect(),
    }
}
