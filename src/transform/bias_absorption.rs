//! High-bias absorption: what a ReLU passes unchanged anyway moves from one bias to the next.
//!
//! Markus Nagel, Mart van Baalen, Tijmen Blankevoort and Max Welling 2019, *Data-free quantization through weight
//! equalization and bias correction*, section 4.1.3. Equalization can leave a layer with large biases, and its
//! outputs with a large range. For a ReLU r, `r(z) = r(z − c) + c` wherever z ≥ c ≥ 0, so that
//!
//! ```text
//! y = W₂ r(W₁ x + b₁) + b₂ ≈ W₂ r(W₁ x + b₁ − c) + (b₂ + W₂ c),   cᵢ = max(0, βᵢ − 3 γᵢ)
//! ```
//!
//! where a channel before the ReLU has mean β and standard deviation γ by its batch normalization: of a normal one
//! only the share Φ(−3) = 0.135 % lies below c.

use crate::element::Element;
use crate::error::{ConfigError, DataError, Result};

use super::batch_norm::ChannelNormals;
use super::channels::{LayerMut, check_finite, check_length};

/// Moves large biases of `first` into the bias of `second` behind the ReLU, and returns how much of each channel.
/// `normals` are the channels between them before the ReLU; their means fall by as much.
///
/// In a convolution padded with zeros the next bias is too large at the border, where the padding does not hold c.
/// Time O(n) of the second layer, in f64.
///
/// ```
/// use lowbit::transform::{ChannelNormals, LayerChannels, LayerMut, absorb_high_biases};
/// use ndarray::array;
///
/// let (mut w1, mut b1) = (array![[1.0f32], [1.0]], array![10.0f32, 0.5]);
/// let (mut w2, mut b2) = (array![[2.0f32, 1.0]], array![0.0f32]);
/// let mut normals = ChannelNormals::new(vec![10.0, 0.5], vec![1.0, 1.0])?;
/// let absorbed = absorb_high_biases(
///     LayerMut::new(&mut w1, LayerChannels::DEFAULT)?.with_bias(&mut b1)?,
///     LayerMut::new(&mut w2, LayerChannels::DEFAULT)?.with_bias(&mut b2)?,
///     &mut normals,
/// )?;
/// assert_eq!(absorbed, [7.0, 0.0]);
/// assert_eq!((b1, b2), (array![3.0, 0.5], array![14.0]));
/// assert_eq!(normals.mean(), [3.0, 0.5]);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// # Errors
///
/// [`ConfigError::Conflict`] for a layer without bias; [`ShapeError::Length`](crate::ShapeError::Length) unless
/// outputs, inputs and statistics are as many; [`DataError`] for weights that are not finite. Nothing is changed then.
pub fn absorb_high_biases<A: Element>(
    first: LayerMut<'_, A>,
    second: LayerMut<'_, A>,
    normals: &mut ChannelNormals,
) -> Result<Vec<f64>> {
    check_length(second.inputs, first.outputs)?;
    check_length(normals.mean.len(), first.outputs)?;
    let weights = second.weights.view();
    check_finite(&weights)?;
    let (Some(mut from), Some(mut to)) = (first.bias, second.bias) else {
        let setting = "absorption of biases";
        return Err(ConfigError::Conflict { setting, to: "layers without bias" }.into());
    };
    let pairs = normals.mean.iter().zip(&normals.deviation);
    let absorbed: Vec<f64> = pairs.map(|(mean, deviation)| (mean - 3.0 * deviation).max(0.0)).collect();
    let mut sums = vec![0.0; second.outputs];
    for (index, w) in weights.indexed_iter() {
        let index = ndarray::Dimension::slice(&index);
        let channel = second.channels.inputs.of(weights.shape(), index);
        if let (Some(sum), Some(c)) =
            (sums.get_mut(second.channels.outputs.of(weights.shape(), index)), absorbed.get(channel))
        {
            *sum += w.to_f64() * c;
        }
    }
    let next: Vec<A> = to.iter().zip(&sums).map(|(bias, sum)| A::from_f64(bias.to_f64() + sum)).collect();
    if let Some((index, bias)) = next.iter().enumerate().find(|(_, bias)| !bias.to_f64().is_finite()) {
        return Err(DataError::Infinite { index: vec![index], value: bias.to_f64() }.into());
    }
    to.iter_mut().zip(next).for_each(|(bias, next)| *bias = next);
    for ((bias, mean), c) in from.iter_mut().zip(&mut normals.mean).zip(&absorbed) {
        *bias = A::from_f64(bias.to_f64() - c);
        *mean -= c;
    }
    Ok(absorbed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::samples::SplitMix64;
    use crate::transform::LayerChannels;
    use ndarray::{Array1, Array2};

    #[test]
    fn the_function_is_the_same_where_no_channel_falls_below() {
        let mut random = SplitMix64(12);
        let (hidden, inputs, outputs) = (7, 5, 3);
        let mut w1 = Array2::<f64>::from_shape_simple_fn((hidden, inputs), || random.normal());
        let mut w2 = Array2::<f64>::from_shape_simple_fn((outputs, hidden), || random.normal());
        let x = Array2::<f64>::from_shape_simple_fn((4000, inputs), || random.normal());
        let mut b1 = Array1::from_shape_fn(hidden, |i| 4.0 * i as f64 - 8.0);
        let mut b2 = Array1::<f64>::zeros(outputs);
        let deviations: Vec<f64> = w1.outer_iter().map(|row| row.mapv(|w| w * w).sum().sqrt()).collect();
        let mut normals = ChannelNormals::new(b1.to_vec(), deviations.clone()).unwrap();
        let hidden_values = |w1: &Array2<f64>, b1: &Array1<f64>| x.dot(&w1.t()) + b1;
        let (z, y) = {
            let z = hidden_values(&w1, &b1);
            let y = z.mapv(|z| z.max(0.0)).dot(&w2.t()) + &b2;
            (z, y)
        };
        let absorbed = absorb_high_biases(
            LayerMut::new(&mut w1, LayerChannels::DEFAULT).unwrap().with_bias(&mut b1).unwrap(),
            LayerMut::new(&mut w2, LayerChannels::DEFAULT).unwrap().with_bias(&mut b2).unwrap(),
            &mut normals,
        )
        .unwrap();
        assert!(absorbed[6] > 0.0 && absorbed[0] == 0.0);
        let after = hidden_values(&w1, &b1).mapv(|z| z.max(0.0)).dot(&w2.t()) + &b2;
        let mut exact = 0;
        for sample in 0..x.nrows() {
            if z.row(sample).iter().zip(&absorbed).all(|(z, &c)| c == 0.0 || *z >= c) {
                exact += 1;
                for output in 0..outputs {
                    assert!((after[[sample, output]] - y[[sample, output]]).abs() < 1e-11);
                }
            }
        }
        // At most 0.135 % of each of the seven channels, and a few by chance.
        assert!(exact >= 3920, "{exact}");
        for ((mean, bias), deviation) in normals.mean().iter().zip(&b1).zip(deviations) {
            assert!((mean - bias).abs() < 1e-12 && *mean <= 3.0 * deviation + 1e-12);
        }
    }

    #[test]
    fn layers_without_bias_are_an_error() {
        let (mut w1, mut w2) = (Array2::<f32>::ones((2, 1)), Array2::<f32>::ones((1, 2)));
        let mut normals = ChannelNormals::new(vec![9.0; 2], vec![1.0; 2]).unwrap();
        let result = absorb_high_biases(
            LayerMut::new(&mut w1, LayerChannels::DEFAULT).unwrap(),
            LayerMut::new(&mut w2, LayerChannels::DEFAULT).unwrap(),
            &mut normals,
        );
        assert!(matches!(result, Err(crate::Error::Config(ConfigError::Conflict { .. }))));
        assert_eq!(normals.mean(), [9.0, 9.0]);
    }
}
