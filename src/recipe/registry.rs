//! Names of strategies and how to read them, the built-in ones and yours.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::calibration::Calibration;
use crate::error::{ConfigError, ParseError};
use crate::granularity::Granularity;
use crate::quantizer::Quantizer;
use crate::tensor::Encoding;

use super::{Recipe, builtin};
use crate::text::{self, Arguments};

type Reader<T> = Arc<dyn Fn(Arguments<'_>, &Registry) -> Result<Arc<T>, ParseError> + Send + Sync>;

/// The strategies that text forms can name. The default knows all built-in ones; register yours by name.
///
/// See [Adding a quantizer](crate::quantizer) for an example.
#[derive(Clone)]
pub struct Registry {
    quantizers: BTreeMap<String, Reader<dyn Quantizer>>,
    calibrations: BTreeMap<String, Reader<dyn Calibration>>,
    granularities: BTreeMap<String, Reader<dyn Granularity>>,
}

impl Default for Registry {
    fn default() -> Self {
        let mut registry = Self::empty();
        builtin::register(&mut registry);
        registry
    }
}

macro_rules! strategy {
    ($register:ident, $parse:ident, $add:ident, $map:ident, $trait:ident, $what:literal) => {
        #[doc = concat!("Lets text forms name a ", $what, ". `read` takes the arguments of the call; the ")]
        #[doc = "registry is for reading strategies among them."]
        ///
        /// # Errors
        ///
        /// [`ConfigError::Name`] for a name that is taken or not of lower-case words joined by hyphens.
        pub fn $register(
            &mut self,
            name: &str,
            read: impl Fn(Arguments<'_>, &Registry) -> Result<Arc<dyn $trait>, ParseError> + Send + Sync + 'static,
        ) -> Result<(), ConfigError> {
            if !text::is_name(name) || self.$map.contains_key(name) {
                return Err(ConfigError::Name { name: name.to_owned() });
            }
            self.$map.insert(name.to_owned(), Arc::new(read));
            Ok(())
        }

        #[doc = concat!("The ", $what, " that `text` describes.")]
        ///
        /// # Errors
        ///
        /// [`ParseError`] for unknown names, arguments that do not fit, and configurations that cannot work.
        pub fn $parse(&self, text: &str) -> Result<Arc<dyn $trait>, ParseError> {
            let arguments = text::call(text)?;
            let Some(read) = self.$map.get(arguments.name()) else {
                let known = self.$map.keys().cloned().collect();
                return Err(ParseError::Name { what: $what, text: arguments.name().to_owned(), known });
            };
            read(arguments, self)
        }

        /// Adds a built-in strategy, whose name is known to be free and well-formed.
        pub(super) fn $add(
            &mut self,
            name: &str,
            read: impl Fn(Arguments<'_>, &Registry) -> Result<Arc<dyn $trait>, ParseError> + Send + Sync + 'static,
        ) {
            let added = self.$register(name, read);
            debug_assert!(added.is_ok(), "{name}");
        }
    };
}

impl Registry {
    /// A registry that knows no name at all.
    pub fn empty() -> Self {
        Self { quantizers: BTreeMap::new(), calibrations: BTreeMap::new(), granularities: BTreeMap::new() }
    }

    strategy!(quantizer, parse_quantizer, add_quantizer, quantizers, Quantizer, "quantizer");
    strategy!(calibration, parse_calibration, add_calibration, calibrations, Calibration, "calibration");
    strategy!(granularity, parse_granularity, add_granularity, granularities, Granularity, "granularity");

    /// The recipe that `text` describes: a quantizer, then `key=value` settings, separated by semicolons.
    ///
    /// # Errors
    ///
    /// [`ParseError`] for unknown names and keys, arguments that do not fit, and configurations that cannot
    /// work.
    pub fn parse(&self, text: &str) -> Result<Recipe, ParseError> {
        let parts = text::split(text, ';').map_err(|at| text::syntax(text, at, "balanced parentheses"))?;
        let (first, rest) = parts.split_first().ok_or_else(|| text::syntax(text, 0, "a quantizer"))?;
        let quantizer = self.parse_quantizer(first)?;
        let mut granularity: Option<Arc<dyn Granularity>> = None;
        let (mut rounding, mut dialect, mut non_finite) = (None, None, None);
        for part in rest {
            let problem = |problem| ParseError::Argument {
                name: "recipe".to_owned(),
                argument: (*part).to_owned(),
                problem,
            };
            let (key, value) = text::key_and_value(part).ok_or_else(|| problem("not a setting key=value"))?;
            let twice = match key {
                "granularity" => granularity.replace(self.parse_granularity(value)?).is_some(),
                "rounding" => rounding.replace(value.parse()?).is_some(),
                "dialect" => dialect.replace(value.parse()?).is_some(),
                "non-finite" => non_finite.replace(value.parse()?).is_some(),
                _ => return Err(problem("unknown")),
            };
            if twice {
                return Err(problem("given twice"));
            }
        }
        let encoding = Encoding {
            rounding: rounding.unwrap_or_default(),
            dialect: dialect.unwrap_or_default(),
            non_finite: non_finite.unwrap_or_default(),
        };
        // A configuration that cannot work is an error here, not at its first use.
        quantizer.scheme().map_err(ParseError::from)?;
        let granularity = granularity.unwrap_or_else(|| Arc::new(crate::granularity::PerLayer));
        Ok(Recipe::from_parts(quantizer, granularity, encoding))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("quantizers", &self.quantizers.keys())
            .field("calibrations", &self.calibrations.keys())
            .field("granularities", &self.granularities.keys())
            .finish()
    }
}
