//! An observer that memory is refused to says so, and stays as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator that refuses large requests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use lowbit::prelude::*;
use lowbit::{DataError, Error, NonFinite};
use ndarray::{Array1, arr1};

thread_local! {
    /// Requests of this thread for so many bytes or more are refused.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

struct Refusing;

// SAFETY: the system's allocator, or null, which an allocator may always return.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LIMIT.get() {
            return core::ptr::null_mut();
        }
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

fn limited<R>(bytes: usize, action: impl FnOnce() -> R) -> R {
    LIMIT.set(bytes);
    let result = action();
    LIMIT.set(usize::MAX);
    result
}

#[test]
fn refused_memory_is_an_error_that_changes_nothing() {
    let many = Array1::from_shape_fn(60_000, |i| (i as f32).sin());
    let few = arr1(&[0.25f32, -0.5, 0.125]);
    let new = || Observer::new(Arc::new(PerLayer), &[1], NonFinite::Error, 1 << 14).unwrap();
    let mut filled = new();
    filled.observe(&many).unwrap();
    for start in [new(), filled.clone()] {
        for batch in [&many, &few] {
            let mut expected = start.clone();
            expected.observe(batch).unwrap();
            let mut refusals = 0;
            for limit in [1 << 10, 1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 21] {
                // Large enough for what is not counts.
                let mut observer = start.clone();
                let result = limited(limit.max(5000), || observer.observe(batch));
                match result {
                    Err(Error::Data(DataError::Memory { bytes, .. })) => {
                        assert!(bytes >= limit, "{bytes} {limit}");
                        assert!(observer == start);
                        refusals += 1;
                    }
                    other => {
                        other.unwrap();
                        assert!(observer == expected);
                    }
                }
                // It goes on as if nothing had been.
                if observer == start {
                    observer.observe(batch).unwrap();
                }
                assert!(observer == expected);
            }
            let small = batch.len() == few.len() && start == new();
            assert!(small == (refusals == 0), "{} {refusals}", batch.len());
        }
    }
    let mut merged = filled.clone();
    let result = limited(10_000, || merged.merge(&filled));
    assert!(matches!(result, Err(Error::Data(DataError::Memory { .. }))));
    assert!(merged == filled);
    merged.merge(&filled).unwrap();
    assert_eq!(merged.summaries()[0].count(), 120_000);
}

#[test]
fn more_regions_than_memory_holds_are_an_error() {
    let each = || Arc::new(Blocks::new(vec![1]));
    let result = limited(1 << 20, || Observer::new(each(), &[1 << 20], NonFinite::Error, 64));
    assert!(result.is_err());
    let mut observer = Observer::new(each(), &[20_000], NonFinite::Error, 64).unwrap();
    let before = observer.clone();
    let batch = Array1::from_shape_fn(20_000, |i| i as f32);
    let result = limited(1 << 20, || observer.observe(&batch));
    assert!(matches!(result, Err(Error::Data(DataError::Memory { .. }))));
    assert!(observer == before);
    observer.observe(&batch).unwrap();
    assert_eq!(observer.summaries()[19_999].min_max(), Some((19_999.0, 19_999.0)));
}
