//! Data sets of the reference values, made as their definitions say.

/// The numbers of `SplitMix64` (Steele, Lea and Flood 2014).
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    /// The next 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2.0_f64.powi(-53)
    }

    /// Twelve uniforms less six: nearly normal, without a library function.
    pub(crate) fn normal(&mut self) -> f64 {
        let mut sum = 0.0;
        for _ in 0..12 {
            sum += self.uniform();
        }
        sum - 6.0
    }

    /// Two-sided exponential.
    pub(crate) fn laplace(&mut self) -> f64 {
        let u = self.uniform();
        let magnitude = -(1.0 - self.uniform()).ln();
        if u < 0.5 { -magnitude } else { magnitude }
    }
}

/// Exponential quantiles with 25 outliers.
pub(crate) fn a() -> Vec<f64> {
    (0..50_000)
        .map(|i| {
            let u = (f64::from(i) + 0.5) / 50_000.0;
            let x = -(1.0 - u).ln();
            if u > 0.9995 { 3.0 * x } else { x }
        })
        .collect()
}

/// Normal numbers, every 1024th times four.
pub(crate) fn b() -> Vec<f64> {
    let mut random = SplitMix64(606);
    (0..32_768).map(|i| random.normal() * if i % 1024 == 1023 { 4.0 } else { 1.0 }).collect()
}

/// Log-logistic quantiles.
pub(crate) fn c() -> Vec<f64> {
    (0..50_000)
        .map(|i| {
            let u = (f64::from(i) + 0.5) / 50_000.0;
            (u / (1.0 - u)).sqrt().sqrt()
        })
        .collect()
}

/// Counts of `|x|` in equal bins over `[0, max |x|]`, the last of them closed, and the width of a bin.
pub(crate) fn histogram(values: &[f64], bins: usize) -> (Vec<u64>, f64) {
    let max = values.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    let width = max / bins as f64;
    let mut counts = vec![0; bins];
    for x in values {
        counts[((x.abs() / width) as usize).min(bins - 1)] += 1;
    }
    (counts, width)
}

#[test]
fn the_generator_gives_the_published_numbers() {
    let mut random = SplitMix64(0);
    assert_eq!([random.bits(), random.bits()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    assert_eq!(SplitMix64(1).normal(), 1.4243480905156511);
}
