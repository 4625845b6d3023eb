//! Instruction sets: which one the hot loops use.
//!
//! Each hot loop is compiled for several instruction sets, and the best one that the machine has is chosen at run time,
//! so an ordinary release build is a fast one. Nobody needs to choose. Whoever measures or tests can: every level gives
//! the same bits, so a choice changes nothing but the time.
//!
//! ```
//! use lowbit::prelude::*;
//! use lowbit::simd;
//!
//! let weights = ndarray::Array1::from_shape_fn(1000, |i| (i as f32).sin());
//! let recipe = Uniform::symmetric(BitWidth::EIGHT).granularity(PerLayer);
//! let best = recipe.quantize(&weights)?;
//! for &level in simd::available() {
//!     let same = simd::with_level(level, || recipe.quantize(&weights))??;
//!     assert_eq!(same, best, "{level}");
//! }
//! # Ok::<(), lowbit::Error>(())
//! ```

use core::sync::atomic::{AtomicU8, Ordering};

use crate::error::ConfigError;
use crate::names::named;

/// An instruction set that the hot loops are compiled for, in ascending order of what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// What the crate is compiled for: SSE2 on x86-64, NEON on AArch64, simd128 on WebAssembly where the compiler is told
    /// that it is there.
    Baseline,
    /// AVX2 with FMA and F16C on x86-64: vectors of 256 bits.
    Avx2,
    /// AVX-512 F, BW, VL and DQ on x86-64: vectors of 512 bits.
    Avx512,
}

named!(Level, "instruction set", [Baseline => "baseline", Avx2 => "avx2", Avx512 => "avx512"]);

impl Level {
    /// All levels, whether this machine has them or not.
    const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// The number that stands for this level; 0 stands for none.
    const fn number(self) -> u8 {
        self as u8 + 1
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.number() == number)
    }

    /// The best level of this machine.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
        {
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
            {
                return Self::Avx512;
            }
            return Self::Avx2;
        }
        Self::Baseline
    }
}

/// The level in use: 0 until it is first asked for.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level that the hot loops use now: the best of this machine, unless another one was set.
#[inline]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => first_level(),
    }
}

#[cold]
fn first_level() -> Level {
    let best = Level::best();
    // What another thread has set in between stays.
    match LEVEL.compare_exchange(0, best.number(), Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => best,
        Err(set) => Level::from_number(set).unwrap_or(best),
    }
}

/// The levels that this machine has, in ascending order.
pub fn available() -> &'static [Level] {
    match Level::best() {
        Level::Baseline => &[Level::Baseline],
        Level::Avx2 => &[Level::Baseline, Level::Avx2],
        Level::Avx512 => &[Level::Baseline, Level::Avx2, Level::Avx512],
    }
}

/// Makes all hot loops of this process, on all its threads, use `level` from now on; `None` stands for the best one.
///
/// # Errors
///
/// [`ConfigError::Level`] for a level that this machine does not have. Nothing changes then.
pub fn set_level(level: Option<Level>) -> Result<(), ConfigError> {
    let best = Level::best();
    let level = level.unwrap_or(best);
    if level > best {
        return Err(ConfigError::Level { level, best });
    }
    LEVEL.store(level.number(), Ordering::Relaxed);
    Ok(())
}

/// The result of `action`, during which all hot loops of this process, on all its threads, use `level`.
///
/// The level before is put back afterwards, also after a panic. Calls on several threads at once may see each other's
/// levels, which is of no consequence but for the time.
///
/// # Errors
///
/// [`ConfigError::Level`] for a level that this machine does not have; `action` is not run then.
pub fn with_level<R>(level: Level, action: impl FnOnce() -> R) -> Result<R, ConfigError> {
    struct Restore(Level);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEVEL.store(self.0.number(), Ordering::Relaxed);
        }
    }
    let restore = Restore(self::level());
    set_level(Some(level))?;
    let result = action();
    drop(restore);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_set_and_put_back() {
        assert!(available().contains(&level()));
        let best = Level::best();
        for &wanted in Level::ALL.iter() {
            let before = level();
            let found = with_level(wanted, level);
            if available().contains(&wanted) {
                assert_eq!(found, Ok(wanted));
            } else {
                assert_eq!(found, Err(ConfigError::Level { level: wanted, best }));
                assert_eq!(set_level(Some(wanted)), Err(ConfigError::Level { level: wanted, best }));
            }
            assert_eq!(level(), before);
            assert_eq!(wanted.to_string().parse(), Ok(wanted));
            assert_eq!(Level::from_number(wanted.number()), Some(wanted));
        }
        let panicked = std::panic::catch_unwind(|| with_level(Level::Baseline, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(level(), best);
        set_level(Some(Level::Baseline)).unwrap();
        assert_eq!(level(), Level::Baseline);
        set_level(None).unwrap();
        assert_eq!(level(), best);
    }

    #[test]
    #[cfg(feature = "rayon")]
    fn all_threads_use_the_level() {
        use rayon::prelude::*;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        // Another test of this process may set one too, so any level of this machine may be seen, never none.
        let seen: Vec<Level> = pool.install(|| (0..64).into_par_iter().map(|_| level()).collect());
        assert!(seen.iter().all(|level| available().contains(level)));
    }
}
