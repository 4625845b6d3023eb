//! What methods that learn by gradient descent can be told, whatever it is that they learn.

/// The setters of how many steps there are and how large, for a method with the fields `steps`, `batch` and `rate`. What
/// the learning rate is one of, the method says.
macro_rules! descent_setters {
    ($(#[$of_rate:meta])*) => {
        /// With another number of steps.
        ///
        /// # Errors
        ///
        /// [`ConfigError::TooSmall`] for none.
        pub const fn steps(self, steps: usize) -> Result<Self, ConfigError> {
            match steps {
                0 => Err(ConfigError::TooSmall { what: "the number of steps", value: 0, min: 1 }),
                steps => Ok(Self { steps, ..self }),
            }
        }

        /// With batches of another size. All samples are taken in each step if there are no more.
        ///
        /// # Errors
        ///
        /// [`ConfigError::TooSmall`] for none.
        pub const fn batch(self, batch: usize) -> Result<Self, ConfigError> {
            match batch {
                0 => Err(ConfigError::TooSmall { what: "the size of a batch", value: 0, min: 1 }),
                batch => Ok(Self { batch, ..self }),
            }
        }

        $(#[$of_rate])*
        ///
        /// # Errors
        ///
        /// [`ConfigError::Number`] unless it is positive and finite.
        pub fn learning_rate(self, rate: f64) -> Result<Self, ConfigError> {
            Ok(Self { rate: positive("learning rate", rate)?, ..self })
        }
    };
}
pub(super) use descent_setters;
