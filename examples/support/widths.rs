//! Bit widths on the command line.
//!
//! Included with `#[path = "../support/widths.rs"] mod widths;`.

use lowbit::BitWidth;

/// A width from `LEAST` to `MOST`.
pub(crate) fn bit_width<const LEAST: u32, const MOST: u32>(text: &str) -> Result<BitWidth, String> {
    let bits: Option<BitWidth> = text.trim().parse().ok();
    let bits = bits.filter(|bits| (LEAST..=MOST).contains(&bits.get()));
    bits.ok_or_else(|| format!("expected a number from {LEAST} to {MOST}"))
}

/// The widths in the order of their first place, each once.
pub(crate) fn each_once(given: &[BitWidth]) -> Vec<BitWidth> {
    let mut widths = Vec::new();
    for &bits in given {
        if !widths.contains(&bits) {
            widths.push(bits);
        }
    }
    widths
}
