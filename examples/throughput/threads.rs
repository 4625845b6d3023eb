//! A number of threads, for the library and for the rooflines.

use anyhow::Result;

/// A pool of threads.
pub(crate) struct Threads {
    #[cfg(feature = "rayon")]
    pool: rayon::ThreadPool,
}

impl Threads {
    /// So many threads.
    #[cfg(feature = "rayon")]
    pub(crate) fn new(count: usize) -> Result<Self> {
        Ok(Self { pool: rayon::ThreadPoolBuilder::new().num_threads(count).build()? })
    }

    /// The one thread that there is without the feature `rayon`.
    #[cfg(not(feature = "rayon"))]
    pub(crate) fn new(count: usize) -> Result<Self> {
        anyhow::ensure!(count == 1, "--threads: more than one needs the feature rayon");
        Ok(Self {})
    }

    /// The result of `action`, whose parallel parts run on these threads.
    pub(crate) fn install<R: Send>(&self, action: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "rayon")]
        return self.pool.install(action);
        #[cfg(not(feature = "rayon"))]
        action()
    }

    /// Does `work` on each of `parts`, one to a thread. To be called on one of these threads.
    pub(crate) fn each<T: Send>(&self, parts: &mut [T], work: impl Fn(&mut T) + Send + Sync) {
        #[cfg(feature = "rayon")]
        if let [_, _, ..] = parts {
            use rayon::prelude::*;
            parts.par_iter_mut().with_max_len(1).for_each(work);
            return;
        }
        parts.iter_mut().for_each(work);
    }
}
