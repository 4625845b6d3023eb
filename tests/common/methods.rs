//! Every built-in method by its text form.

use lowbit::prelude::*;

/// Text forms with `B` for the width, and the widths that they allow up to 8.
const BY_WIDTH: [(&str, core::ops::RangeInclusive<u32>); 44] = [
    ("uniform(bits=B)", 2..=8),
    ("uniform(bits=B, range=full)", 1..=8),
    ("uniform(bits=B, range=mid-rise)", 1..=8),
    ("uniform(bits=B, range=full, codes=unsigned)", 1..=8),
    ("uniform(bits=B, symmetry=asymmetric)", 1..=8),
    ("uniform(bits=B, symmetry=asymmetric, codes=signed)", 1..=8),
    ("uniform(bits=B, symmetry=asymmetric-real)", 1..=8),
    ("log(bits=B)", 2..=8),
    ("log(bits=B, base=sqrt2)", 2..=8),
    ("log(bits=B, base=1.1)", 2..=8),
    ("log(bits=B, signed=false)", 1..=6),
    ("log(bits=B, signed=false, scales=f32)", 1..=6),
    ("log(bits=B, rounding=level)", 2..=8),
    ("inq(bits=B)", 2..=8),
    ("apot(bits=B)", 2..=8),
    ("apot(bits=B, signed=false)", 1..=8),
    ("apot(bits=B, term-bits=1)", 2..=8),
    ("kmeans(bits=B)", 1..=8),
    ("kmeans(bits=B, levels=bf16)", 1..=8),
    ("kmeans(bits=B, shared=true)", 1..=8),
    ("kmeans(bits=B, shared=true, levels=f16, scales=f16)", 1..=8),
    ("product-quantization(bits=B, dimension=2)", 1..=8),
    ("product-quantization(bits=B, dimension=8, vectors=f16, seed=5, iterations=3)", 1..=4),
    ("lloyd-max(bits=B)", 1..=8),
    ("lloyd-max(bits=B, levels=f16, iterations=3)", 1..=8),
    ("lloyd-max(bits=B, density=gaussian)", 1..=8),
    ("lloyd-max(bits=B, density=laplace)", 1..=8),
    ("lloyd-max(bits=B, density=uniform)", 1..=8),
    ("lloyd-max(bits=B, density=half-normal)", 1..=8),
    ("lloyd-max(bits=B, density=rectified)", 1..=8),
    ("lloyd-max(bits=B, density=laplace, calibration=minmax)", 1..=8),
    ("ecsq(bits=B, entropy=1.5)", 2..=8),
    ("ecsq(bits=B, lambda=0.02)", 1..=8),
    ("binary-code(bits=B, rule=greedy)", 1..=8),
    ("binary-code(bits=B, rule=refined)", 1..=8),
    ("binary-code(bits=B, rule=alternating)", 1..=8),
    ("binary-code(bits=B, rule=error-minimizing)", 1..=8),
    ("binary-code(bits=B, coefficients=bf16)", 1..=4),
    ("piecewise-linear(bits=B)", 2..=8),
    ("piecewise-linear(bits=B, break-point=gaussian)", 2..=8),
    ("piecewise-linear(bits=B, break-point=laplace, parameters=f16)", 2..=8),
    ("hqq(bits=B)", 2..=8),
    ("normal-float(bits=B)", 2..=8),
    ("block-search(bits=B, scale-bits=6)", 2..=5),
];

/// Methods of one width.
const OF_ONE_WIDTH: [&str; 25] = [
    "ternary",
    "ternary(scale=twn)",
    "ternary(scale=unit)",
    "sign",
    "bitsandbytes-fp4",
    "dynamic",
    "dynamic(signed=false)",
    "float(e2m1)",
    "float(e3m2)",
    "float(e2m3)",
    "float(e4m3fn)",
    "float(e4m3fnuz)",
    "float(e5m2)",
    "float(e3m4)",
    "float(ue2m3finite)",
    "float(e2m1, unscaled=true)",
    "float(e4m3fn, unscaled=true)",
    "float(e4m3fnuz, unscaled=true)",
    "float(e5m2, unscaled=true)",
    "nvfp4",
    "nvfp4(calibration=mse)",
    "mx(e2m1, calibration=mse)",
    "block-search(table=e2m1, scale-bits=8)",
    "block-search(bits=3, scale-bits=5, learned=3)",
    "block-search(bits=2, scale-bits=2, outer-scales=3)",
];

/// All ways to store a scale.
pub const STORAGES: [&str; 13] = [
    "f64",
    "f32",
    "f16",
    "bf16",
    "e8m0",
    "e4m3fn",
    "power(2)",
    "power(sqrt2)",
    "two-level(6, block=2, outer=f16)",
    "two-level(s5)",
    "two-level(e4m3fn)",
    "two-level(dynamic, block=256)",
    "two-level(dynamic, block=3, centered=true)",
];

/// A method with scales in any storage: `S` stands for it.
const BY_STORAGE: [&str; 6] = [
    "uniform(bits=4, scales=S)",
    "log(bits=4, scales=S)",
    "apot(bits=4, scales=S)",
    "normal-float(bits=4, scales=S)",
    "ternary(scales=S)",
    "lloyd-max(bits=3, density=laplace, scales=S)",
];

/// The text forms of all built-in methods, at all widths up to 8 bits that they allow.
pub fn all() -> Vec<String> {
    of_widths(1..=8)
}

/// Those of some widths only, with all methods of one width.
pub fn of_widths(widths: core::ops::RangeInclusive<u32>) -> Vec<String> {
    let mut all = Vec::new();
    for (text, allowed) in BY_WIDTH {
        let bits = widths.clone().filter(|bits| allowed.contains(bits));
        all.extend(bits.map(|bits| text.replace('B', &bits.to_string())));
    }
    all.extend(OF_ONE_WIDTH.map(str::to_owned));
    for element in ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8"] {
        for mode in ["floor", "ceil", "round-up", "even"] {
            all.push(format!("mx({element}, scale-mode={mode})"));
        }
    }
    for text in BY_STORAGE {
        all.extend(STORAGES.map(|storage| text.replace('S', storage)));
    }
    all
}

/// One width of each, 3 bits where there is a choice.
pub fn some() -> Vec<String> {
    of_widths(3..=3)
}

/// A recipe of the method `text` on a granularity.
pub fn recipe(text: &str, granularity: &str) -> Recipe {
    format!("{text}; granularity={granularity}").parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether the grid of a region depends on that region alone.
pub fn is_local(text: &str) -> bool {
    !text.contains("shared=true")
        && !text.contains("two-level")
        && !text.starts_with("block-search")
        && !text.starts_with("nvfp4")
}

/// Whether a single region can be fitted: not where regions share levels that are found in them.
pub fn fits_alone(text: &str) -> bool {
    !text.contains("shared=true") && !text.starts_with("block-search")
}

/// Whether no range is sought in the data.
pub fn reads_nothing(text: &str) -> bool {
    text.contains("unscaled") || text == "sign" || text.contains("scale=unit")
}

/// Whether codes are those of vectors.
pub fn of_vectors(text: &str) -> bool {
    text.starts_with("product-quantization")
}

/// Whether codes can be NaN.
pub fn has_nan(text: &str) -> bool {
    let formats = ["e4m3", "e5m2", "e3m4"];
    let of =
        |name: &str| text.strip_prefix(name).is_some_and(|rest| formats.iter().any(|f| rest.starts_with(f)));
    of("float(") || of("mx(")
}
