use proptest::prelude::*;

use super::*;
use crate::solve::samples::{self, SplitMix64};

fn same(scale: f64) -> f64 {
    scale
}

fn family(q_min: i32, q_max: i32, zero: ZeroRule) -> GridFamily {
    GridFamily { q_min, q_max, zero }
}

fn symmetric(bits: u32) -> GridFamily {
    let max = (1 << (bits - 1)) - 1;
    family(-max, max, ZeroRule::Fixed(0.0))
}

fn unsigned(bits: u32, zero: ZeroRule) -> GridFamily {
    family(0, (1 << bits) - 1, zero)
}

/// lowbit reference values 06_07, `mse_clip`: bits and least mean squared error.
const A: [(u32, f64); 6] = [
    (2, 0.4025447009641744),
    (3, 0.2596566408791007),
    (4, 0.14275083457710544),
    (5, 0.052364991243489534),
    (6, 0.01666930522439772),
    (8, 0.0014358226895120878),
];
const B: [(u32, f64); 6] = [
    (2, 0.19526926469965422),
    (3, 0.05294032551909737),
    (4, 0.019069224138080265),
    (5, 0.009442527033395763),
    (6, 0.005206552840822224),
    (8, 0.0009091813873465391),
];
const C: [(u32, f64); 6] = [
    (2, 0.1026653698150672),
    (3, 0.045207623936020756),
    (4, 0.02000042696167728),
    (5, 0.008764153327108858),
    (6, 0.0035943409107152447),
    (8, 0.0003808025901783768),
];

#[test]
fn reference_errors() {
    for (data, rows, signed) in [(samples::a(), A, false), (samples::b(), B, true), (samples::c(), C, false)]
    {
        for (bits, mse) in rows {
            let families = if signed {
                vec![symmetric(bits)]
            } else {
                vec![unsigned(bits, ZeroRule::Fixed(0.0)), unsigned(bits, ZeroRule::Integer)]
            };
            for family in families {
                let best = best_grid(&data, &family, &same).unwrap();
                let found = best.squared_error / data.len() as f64;
                println!("{family:?}: {:e}", found / mse - 1.0);
                assert!((found / mse - 1.0).abs() < 1e-4, "{family:?}: {found} {mse}");
            }
        }
    }
}
