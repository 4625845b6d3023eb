//! Numbers as tables and pictures show them.
//!
//! Included with `#[path = "../support/numbers.rs"] mod numbers;`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

/// `±0.5` or `[-0.5, 0.7]`.
pub(crate) fn range_text(low: f64, high: f64) -> String {
    if low == -high { format!("±{}", number(high)) } else { format!("[{}, {}]", number(low), number(high)) }
}

/// Four significant digits.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if (-4.0..6.0).contains(&magnitude) {
        format!("{value:.*}", (3.0 - magnitude).max(0.0) as usize)
    } else {
        format!("{value:.3e}")
    }
}
