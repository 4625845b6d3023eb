//! What a call allocates that writes into buffers at hand: nothing of the size of the tensor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit::FloatType;
use lowbit::prelude::*;
use ndarray::Array2;

/// Counts the bytes that are asked for.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time: the count is of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// The bytes that `action` asks for on one thread, once everything has its size.
fn bytes(mut action: impl FnMut() + Send) -> usize {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| {
        action();
        let before = BYTES.load(Ordering::Relaxed);
        action();
        BYTES.load(Ordering::Relaxed) - before
    })
}

fn tensor(rows: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, 512), |(i, j)| ((i * 512 + j) as f32 * 0.37).sin())
}

/// Recipes of the everyday, which are those of the benchmark.
fn recipes() -> Vec<Recipe> {
    let int8 = || Uniform::symmetric(BitWidth::EIGHT);
    let block = |bits| {
        let method = Uniform::symmetric(BitWidth::new(bits).unwrap()).scales(FloatType::F16);
        method.granularity(PerSubChannel::new(Axis(0), 32).unwrap()).dialect(Dialect::Torch)
    };
    vec![
        int8().granularity(PerLayer),
        Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer),
        int8().granularity(PerChannel::new(Axis(0))),
        Uniform::asymmetric(BitWidth::new(4).unwrap()).granularity(PerChannel::new(Axis(0))),
        block(8),
        block(4),
    ]
}

/// Asserts that four times the elements cost no more than a few words for each of their shares of 64 thousand.
fn check(name: &str, run: impl Fn(&Recipe, &Array2<f32>) -> usize) {
    let _alone = ALONE.lock().unwrap();
    let (small, large) = (tensor(512), tensor(2048));
    for recipe in recipes() {
        let (few, many) = (run(&recipe, &small), run(&recipe, &large));
        let more = large.len() - small.len();
        // A bit for every element would be eight times as much.
        assert!(many <= few + more / 64, "{name} of {recipe}: {few} and {many} bytes");
    }
}

#[test]
fn static_quantization_needs_no_more_than_its_result() {
    check("quantize_into of frozen", |recipe, x| {
        let frozen = recipe.freeze_from(x).unwrap();
        let mut out = frozen.quantize(x).unwrap();
        bytes(|| frozen.quantize_into(x, &mut out).unwrap())
    });
}

#[test]
fn dynamic_quantization_needs_no_more_than_its_result() {
    check("quantize_into", |recipe, x| {
        let mut out = recipe.quantize(x).unwrap();
        bytes(|| recipe.quantize_into(x, &mut out).unwrap())
    });
}

#[test]
fn restoring_needs_no_more_than_its_result() {
    check("dequantize_into", |recipe, x| {
        let q = recipe.quantize(x).unwrap();
        let mut out = x.clone();
        bytes(|| q.dequantize_into(&mut out).unwrap())
    });
}

#[test]
fn fake_quantization_needs_no_more_than_its_result() {
    check("fake_quantize_into", |recipe, x| {
        let frozen = recipe.freeze_from(x).unwrap();
        let mut out = x.clone();
        bytes(|| frozen.fake_quantize_into(x, &mut out).unwrap())
    });
}
