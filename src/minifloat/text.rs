//! The text form of a format: `e5m2`, `e4m3fn`, `ue4m3fn`.

use core::fmt;
use core::str::FromStr;

use super::{Minifloat, Specials};
use crate::error::ParseError;
use crate::names::unknown;

impl fmt::Display for Minifloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (x, y) = (self.exponent_bits(), self.mantissa_bits());
        if !self.zero {
            return f.pad("e8m0");
        }
        let usual = self.specials == Self::usual_specials(x, y);
        let suffix = match self.specials {
            Specials::Fn => "fn",
            Specials::Fnuz => "fnuz",
            Specials::Ieee | Specials::Finite if usual => "",
            Specials::Ieee => "ieee",
            Specials::Finite => "finite",
        };
        let prefix = if self.signed { "" } else { "u" };
        f.pad(&format!("{prefix}e{x}m{y}{suffix}"))
    }
}

impl FromStr for Minifloat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let unknown = || {
            let known = ["e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e3m2", "e2m3", "e2m1", "e8m0", "eXmY"];
            unknown("minifloat", text, &known)
        };
        let (unsigned, rest) = text.strip_prefix('u').map_or((false, text), |rest| (true, rest));
        let (exponent_bits, rest) = field(rest, 'e').ok_or_else(unknown)?;
        let (mantissa_bits, suffix) = field(rest, 'm').ok_or_else(unknown)?;
        let specials = match suffix {
            "" => None,
            "fn" => Some(Specials::Fn),
            "fnuz" => Some(Specials::Fnuz),
            "ieee" => Some(Specials::Ieee),
            "finite" => Some(Specials::Finite),
            _ => return Err(unknown()),
        };
        let format = Self::new(exponent_bits, mantissa_bits)?;
        let format = specials.map_or(Ok(format), |specials| format.with_specials(specials))?;
        Ok(if unsigned { format.unsigned()? } else { format })
    }
}

/// The number after the letter `name`, at most two digits, and what follows it.
fn field(text: &str, name: char) -> Option<(u32, &str)> {
    let rest = text.strip_prefix(name)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(end)?;
    if digits.len() > 2 || (digits.len() == 2 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(feature = "serde")]
impl serde::Serialize for Minifloat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Minifloat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::formats;
    use super::*;
    use crate::error::ConfigError;

    #[test]
    fn every_format_has_a_text() {
        let mut seen = std::collections::HashMap::new();
        for format in formats() {
            let text = format.to_string();
            assert_eq!(text.parse(), Ok(format), "{text}");
            assert_eq!(*seen.entry(text).or_insert(format), format);
        }
        for (format, text) in [
            (Minifloat::E4M3FN, "e4m3fn"),
            (Minifloat::E4M3FNUZ, "e4m3fnuz"),
            (Minifloat::E5M2, "e5m2"),
            (Minifloat::E5M2FNUZ, "e5m2fnuz"),
            (Minifloat::E3M2, "e3m2"),
            (Minifloat::E2M3, "e2m3"),
            (Minifloat::E2M1, "e2m1"),
            (Minifloat::E8M0, "e8m0"),
        ] {
            assert_eq!(format.to_string(), text);
        }
        assert_eq!("e4m3".parse(), Ok(Minifloat::E4M3FN));
        assert_eq!("ue4m3".parse(), Minifloat::E4M3FN.unsigned().map_err(ParseError::Config));
        assert_eq!("ue8m0".parse(), Ok(Minifloat::E8M0));
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "", "e", "e4", "m3", "e4m", "em3", "e4m3x", "e4m3FN", "E4M3", "e04m3", "e+4m3", "e4 m3", "uue4m3",
        ] {
            assert!(matches!(text.parse::<Minifloat>(), Err(ParseError::Name { .. })), "{text:?}");
        }
        assert!(matches!(
            "e99m1".parse::<Minifloat>(),
            Err(ParseError::Config(ConfigError::Minifloat { exponent_bits: 99, mantissa_bits: 1, .. }))
        ));
        assert!(matches!("ue4m3fnuz".parse::<Minifloat>(), Err(ParseError::Config(_))));
        assert!(matches!("e8m0ieee".parse::<Minifloat>(), Err(ParseError::Config(_))));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn it_is_stored_as_its_text() {
        let json = serde_json::to_string(&Minifloat::E4M3FN).unwrap();
        assert_eq!(json, "\"e4m3fn\"");
        assert_eq!(serde_json::from_str::<Minifloat>(&json).unwrap(), Minifloat::E4M3FN);
        assert!(serde_json::from_str::<Minifloat>("\"e0m0\"").is_err());
    }
}
