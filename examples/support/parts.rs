//! What shares parameters, on the command line.
//!
//! Included with `#[path = "../support/parts.rs"] mod parts;`.

use std::str::FromStr;

use anyhow::{Result, bail};

/// What shares parameters, in the library's text form.
#[derive(Debug, Clone)]
pub(crate) struct Granularity(String);

impl FromStr for Granularity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = match text.split_once('=') {
            None if text == "layer" => "layer".to_owned(),
            None if text == "channel" => "channel(axis=0)".to_owned(),
            Some(("subchannel", elements)) => format!("subchannel({elements}, axis=0)"),
            _ => bail!("expected layer, channel or subchannel=N"),
        };
        lowbit::Registry::default().parse_granularity(&form)?;
        Ok(Self(form))
    }
}

impl std::fmt::Display for Granularity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
