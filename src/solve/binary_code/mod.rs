//! Sums of binary codes, `r ≈ sum over i of alpha_i b_i` with `b_i in {-1, +1}`, by several rules:
//!
//! * **Greedy.** Mohammad Rastegari, Vicente Ordonez, Joseph Redmon and Ali Farhadi 2016, *XNOR-Net* (one bit);
//!   Yiwen Guo, Anbang Yao, Hao Zhao and Yurong Chen 2017, *Network Sketching*:
//!   `b_i = sign(r_i)`, `alpha_i = mean |r_i|`, `r_(i+1) = r_i - alpha_i b_i`.
//! * **Refined.** Guo et al. 2017: after each greedy step all coefficients are fitted anew to the codes so far,
//!   `alpha = (B'B)^-1 B'r`.
//! * **Alternating.** Chen Xu, Jianqiang Yao, Zhouchen Lin, Wenwu Ou, Yuanbin Cao, Zhirong Wang and Hongbin Zha
//!   2018, *Alternating Multi-bit Quantization for Recurrent Neural Networks*: from the greedy codes, T times the
//!   coefficients by least squares, then the codes nearest among the 2^k sums; the coefficients once more.
//! * **Error-minimizing.** Dongqing Zhang, Jiaolong Yang, Dongqiangzi Ye and Gang Hua 2018, *LQ-Nets*: the same
//!   alternation, from uniform levels, with least squares that are held to the coefficients before:
//!   `v = (B'B + d I)^-1 (B'r + d v)`, `d = 1e-4`.
//! * **Best.** The least error of many alternations from starts spread over all shapes of level sets
//!   ([`search`]).
//!
//! With every sum its negative is a sum too, so all of them depend on the magnitudes of the values alone
//! ([`magnitudes`](super::magnitudes)): a value and its negative have opposite codes. Values of the same code are
//! neighbours in sorted order, and `B'B` and `B'r` are sums over 2^(k-1) intervals of magnitudes, so a round of an
//! alternation takes O(2^k (log n + k^2)) instead of O(n k). Where two sums are equally far from a value, the one
//! of larger magnitude is taken, also by the sign of zero, which is +1 for a positive value's residual; the error
//! does not depend on it.

mod pieces;
mod search;
#[cfg(test)]
mod tests;

use super::magnitudes::{Magnitudes, Moments};
use pieces::Pieces;

/// The most coefficients.
pub(crate) const MAX_BITS: usize = 8;

/// Coefficients in a fixed array, of which the first k are used.
type Coefficients = [f64; MAX_BITS];

/// How coefficients are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryRule {
    /// One coefficient after the other, each the mean magnitude of what is left. In the order they are found.
    Greedy,
    /// Greedy, with all coefficients fitted anew after each step. In the order they are found.
    Refined,
    /// So many rounds of least squares and nearest codes from the greedy codes; 2 in the paper. Descending.
    Alternating {
        /// T; the loop ends earlier where codes no longer change.
        rounds: usize,
    },
    /// So many rounds of LQ-Nets' fit. In the paper there is one with each step of the training that moves the
    /// values, damped by a moving average; here the values stand still. Descending.
    ErrorMinimizing {
        /// The loop ends earlier where coefficients no longer change.
        rounds: usize,
    },
    /// The best of many alternations, never worse than [`Alternating`](Self::Alternating) carried to its end.
    /// Descending.
    Best,
}

/// Fitted coefficients.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BinaryCode {
    /// alpha_1 to alpha_k. Not negative, except by least squares in [`BinaryRule::Refined`].
    pub alpha: Vec<f64>,
    /// The (weighted) sum of squared errors where each value takes the nearest of the [`sums`].
    pub squared_error: f64,
}

/// One of the 2^k sums of k coefficients with signs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SignedSum {
    /// The sum, added in the order of the coefficients.
    pub value: f64,
    /// Bit i is set where coefficient i + 1 is added, clear where it is subtracted.
    pub code: u8,
}

/// All sums of up to [`MAX_BITS`] coefficients with signs in ascending order; equal ones by their codes.
pub(crate) fn sums(alpha: &[f64]) -> Vec<SignedSum> {
    let mut sums = vec![SignedSum { value: 0.0, code: 0 }];
    for (i, &alpha) in alpha.iter().take(MAX_BITS).enumerate() {
        for k in 0..sums.len() {
            if let Some(sum) = sums.get_mut(k) {
                let SignedSum { value, code } = *sum;
                sum.value = value - alpha;
                sums.push(SignedSum { value: value + alpha, code: code | 1 << i });
            }
        }
    }
    sums.sort_unstable_by(|a, b| a.value.total_cmp(&b.value).then(a.code.cmp(&b.code)));
    sums
}

/// The coefficients of a `bits`-bit code by `rule`. `None` unless `bits` is 1 to [`MAX_BITS`].
///
/// Fewer distinct magnitudes than levels, or codes of which one is the same as another on all values, leave
/// coefficients undetermined; these become zero.
///
/// Time: O(2^k log n) for each round (some dozen starts with some dozen rounds each for [`BinaryRule::Best`]), and
/// O(n) in the end for the error.
pub(crate) fn fit(magnitudes: &Magnitudes, bits: usize, rule: BinaryRule) -> Option<BinaryCode> {
    let alpha = match rule {
        _ if !(1..=MAX_BITS).contains(&bits) => return None,
        BinaryRule::Greedy => greedy(magnitudes, bits, false).1,
        BinaryRule::Refined => greedy(magnitudes, bits, true).1,
        BinaryRule::Alternating { rounds } => descending(alternating(magnitudes, bits, rounds).1),
        BinaryRule::ErrorMinimizing { rounds } => {
            // d is meant for values of weight one.
            let mean_weight = magnitudes.total().weight / magnitudes.len() as f64;
            descending(error_minimizing(magnitudes, bits, rounds, 1e-4 * mean_weight))
        }
        BinaryRule::Best => {
            let mut least = (f64::INFINITY, Coefficients::default());
            // In another order, rounding alone may put the greedy ones above what they are.
            let greedy = greedy(magnitudes, bits, false).1;
            for alpha in search::candidates(magnitudes, bits).map(descending).into_iter().chain([greedy]) {
                let error = exact_error(magnitudes, alpha.get(..bits).unwrap_or_default());
                if error < least.0 {
                    least = (error, alpha);
                }
            }
            least.1
        }
    };
    let alpha = alpha.get(..bits).unwrap_or_default();
    let unit = magnitudes.unit();
    Some(BinaryCode {
        alpha: alpha.iter().map(|alpha| alpha * unit).collect(),
        squared_error: magnitudes.to_original(exact_error(magnitudes, alpha)),
    })
}

/// The squared error with nearest codes, summed over the values.
fn exact_error(magnitudes: &Magnitudes, alpha: &[f64]) -> f64 {
    magnitudes.exact_squared_error(sums(alpha).into_iter().map(|sum| sum.value).filter(|&value| value >= 0.0))
}

/// Greedy codes and coefficients, which are `refit` after each step or not.
fn greedy(moments: &impl Moments, bits: usize, refit: bool) -> (Pieces, Coefficients) {
    let mut pieces = Pieces::whole(moments);
    let mut alpha = Coefficients::default();
    for bit in 0..bits {
        let mean = pieces.split(moments, &alpha, bit);
        if let Some(slot) = alpha.get_mut(bit) {
            *slot = mean;
        }
        if refit {
            alpha = pieces.least_squares(bit + 1);
        }
    }
    (pieces, alpha)
}

/// Xu et al.: codes and coefficients after so many rounds.
fn alternating(moments: &impl Moments, bits: usize, rounds: usize) -> (Pieces, Coefficients) {
    let mut pieces = greedy(moments, bits, false).0;
    let alpha = pieces.least_squares(bits);
    let alpha = alternate(moments, bits, rounds, alpha, &mut pieces);
    (pieces, alpha)
}

/// So many rounds of nearest codes and least squares, or until the codes stand still.
fn alternate(
    moments: &impl Moments,
    bits: usize,
    rounds: usize,
    mut alpha: Coefficients,
    pieces: &mut Pieces,
) -> Coefficients {
    for _ in 0..rounds {
        pieces.nearest(moments, bits, &alpha);
        let next = pieces.least_squares(bits);
        if next == alpha {
            break;
        }
        alpha = next;
    }
    alpha
}

/// Zhang et al.: coefficients after so many rounds. The paper starts from levels whose largest is about
/// `2 * 0.6745 s`, s being the standard deviation that its weights are drawn with; here it is the root mean square
/// of the values.
fn error_minimizing(moments: &impl Moments, bits: usize, rounds: usize, held: f64) -> Coefficients {
    let total = moments.total();
    let base = 0.6745 * (total.square / total.weight).sqrt() / f64::from(1_u32 << (bits - 1).min(MAX_BITS));
    let mut basis = Coefficients::default();
    basis.iter_mut().take(bits).zip(0..).for_each(|(v, i)| *v = base * f64::from(1_u32 << i));
    let mut pieces = Pieces::whole(moments);
    for _ in 0..rounds {
        pieces.nearest(moments, bits, &basis);
        let next = pieces.held_least_squares(bits, &basis, held);
        if next == basis {
            break;
        }
        basis = next;
    }
    basis
}

/// The same sums by coefficients that are not negative and descend.
fn descending(mut alpha: Coefficients) -> Coefficients {
    alpha.iter_mut().for_each(|alpha| *alpha = alpha.abs());
    alpha.sort_unstable_by(|a, b| b.total_cmp(a));
    alpha
}
