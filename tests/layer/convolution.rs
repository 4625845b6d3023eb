//! Convolutions by their patches, against the convolution itself.

use lowbit::layer::{Activation, AdaQuant, AdaRound, LayerMethod, Patches, Problem, Samples, Statistics};
use lowbit::prelude::*;
use ndarray::{Array1, Array4, Ix4, s};

use super::{make_w, make_x};

/// A convolution with its settings.
struct Convolution {
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    /// [outputs, channels / groups, height, width]
    shape: [usize; 4],
}

impl Convolution {
    fn patches(&self) -> Patches {
        let Self { stride, padding, dilation, groups, shape } = *self;
        Patches::new([shape[2], shape[3]]).stride(stride).padding(padding).dilation(dilation).groups(groups)
    }

    fn channels(&self) -> usize {
        self.shape[1] * self.groups
    }

    /// The outputs [images, outputs, height, width] by the definition.
    fn outputs(&self, images: &Array4<f64>, weights: &Array4<f64>, bias: &Array1<f64>) -> Array4<f64> {
        let (count, _, height, width) = images.dim();
        let [outputs, channels, ..] = self.shape;
        let places = |axis: usize, len: usize| {
            let reach = self.dilation[axis] * (self.shape[2 + axis] - 1) + 1;
            (len + 2 * self.padding[axis] - reach) / self.stride[axis] + 1
        };
        let dim = (count, outputs, places(0, height), places(1, width));
        Array4::from_shape_fn(dim, |(n, o, p, q)| {
            let first = o / (outputs / self.groups) * channels;
            let mut sum = bias[o];
            for ((c, i, j), &weight) in weights.slice(s![o, .., .., ..]).indexed_iter() {
                let row = (p * self.stride[0] + i * self.dilation[0]).checked_sub(self.padding[0]);
                let column = (q * self.stride[1] + j * self.dilation[1]).checked_sub(self.padding[1]);
                if let (Some(row), Some(column)) = (row, column) {
                    sum += weight * images.get([n, first + c, row, column]).copied().unwrap_or(0.0);
                }
            }
            sum
        })
    }
}

fn convolutions() -> [Convolution; 4] {
    let plain =
        Convolution { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1, shape: [5, 3, 3, 3] };
    [
        Convolution { shape: plain.shape, ..plain },
        Convolution { stride: [2, 1], padding: [1, 2], dilation: [1, 3], groups: 2, shape: [6, 2, 3, 2] },
        // Depthwise, and with two outputs for each channel.
        Convolution { groups: 4, shape: [4, 1, 3, 3], ..plain },
        Convolution { groups: 3, shape: [6, 1, 3, 3], stride: [2, 2], ..plain },
    ]
}

fn images(count: usize, channels: usize, seed: u64) -> Array4<f64> {
    let numbers = make_x(count * channels, 9 * 8, seed).mapv(|x| f64::from(x as f32));
    numbers.into_shape_with_order((count, channels, 9, 8)).unwrap()
}

fn weights(shape: [usize; 4], seed: u64) -> Array4<f64> {
    let [outputs, channels, height, width] = shape;
    make_w(outputs, channels * height * width, seed).into_shape_with_order(shape).unwrap()
}

#[test]
fn products_of_the_samples_with_the_weights_are_the_convolution() {
    for convolution in convolutions() {
        let (images, weights) = (images(3, convolution.channels(), 1), weights(convolution.shape, 2));
        let bias = Array1::from_shape_fn(convolution.shape[0], |o| 0.25 * o as f64);
        let outputs = convolution.outputs(&images, &weights, &bias);
        let patches = convolution.patches();
        let samples = patches.samples(&images).unwrap();
        let mut statistics = patches.statistics(convolution.channels()).unwrap();
        patches.observe(&images, &mut statistics).unwrap();
        let per_group = convolution.shape[0] / convolution.groups;
        let matrix = weights.to_shape((convolution.shape[0], samples[0].inputs().ncols())).unwrap();
        for (group, (samples, statistics)) in samples.iter().zip(&statistics).enumerate() {
            let inputs = samples.inputs().mapv(f64::from);
            let rows = group * per_group..(group + 1) * per_group;
            let found = inputs.dot(&matrix.slice(s![rows.clone(), ..]).t()) + bias.slice(s![rows.clone()]);
            let expected = outputs.slice(s![.., rows, .., ..]).permuted_axes([0, 2, 3, 1]);
            let expected = expected.to_shape(found.raw_dim()).unwrap();
            assert!((&found - &expected).iter().all(|difference| difference.abs() < 1e-12));
            // The same patches as the statistics have.
            let mut same = Statistics::new(inputs.ncols()).unwrap();
            same.observe(&inputs).unwrap();
            assert_eq!((same.count(), samples.count() as u64), (statistics.count(), statistics.count()));
            let scale = statistics.gram().diag().sum();
            assert!((same.gram() - statistics.gram()).iter().all(|gap| gap.abs() < 1e-12 * scale));
        }
    }
}

#[test]
fn a_convolution_is_reconstructed_through_its_activation() {
    for convolution in convolutions() {
        // What the float layers before this one give, and what the quantized ones make of it.
        let float = images(6, convolution.channels(), 3);
        let seen = float.mapv(|x| (16.0 * x).round() / 16.0);
        let weights = weights(convolution.shape, 4);
        let bias = Array1::from_shape_fn(convolution.shape[0], |o| 0.1 * o as f64 - 0.2);
        let targets = convolution.outputs(&float, &weights, &bias);

        let patches = convolution.patches();
        let mut statistics = patches.statistics(convolution.channels()).unwrap();
        patches.observe(&seen, &mut statistics).unwrap();
        // In two batches.
        let of_batch = |from: usize, to: usize| {
            let samples = patches.samples(&seen.slice(s![from..to, .., .., ..])).unwrap();
            let samples = patches.targets(samples, &targets.slice(s![from..to, .., .., ..])).unwrap();
            let samples = patches.bias(samples, &bias).unwrap();
            samples.into_iter().map(|group| group.activation(Activation::Relu)).collect::<Vec<Samples>>()
        };
        let mut samples = of_batch(0, 4);
        for (samples, further) in samples.iter_mut().zip(of_batch(4, 6)) {
            samples.append(&further).unwrap();
        }
        assert_eq!(samples, of_batch(0, 6));

        let recipe = Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)));
        let problem = Problem::grouped(&weights, &statistics, &recipe).unwrap().samples(&samples).unwrap();
        let error = |tensor: &QuantizedTensor, correction: Option<&Array1<f64>>| {
            let restored = tensor.dequantize::<f64, Ix4>().unwrap();
            let bias = correction.map_or_else(|| bias.clone(), |correction| &bias + correction);
            let outputs = convolution.outputs(&seen, &restored, &bias);
            let pairs = outputs.iter().zip(&targets);
            pairs.map(|(&z, &t)| (z.max(0.0) - t.max(0.0)).powi(2)).sum::<f64>() / targets.len() as f64
        };
        // Few inputs leave little to choose up or down.
        let methods: [(&dyn LayerMethod, f64); 2] =
            [(&AdaRound::new().steps(400).unwrap(), 0.97), (&AdaQuant::new().steps(400).unwrap(), 0.9)];
        for (method, most) in methods {
            let solution = method.solve(&problem).unwrap();
            let report = solution.report;
            println!("{:?}, {method}: {report}", convolution.shape);
            super::assert_close(report.before, error(problem.nearest(), None), 1e-5);
            super::assert_close(
                report.after,
                error(&solution.tensor, solution.bias_correction.as_ref()),
                1e-5,
            );
            assert!(report.after < most * report.before, "{method}: {report}");
        }
    }
}

#[test]
fn samples_and_targets_of_another_form_are_errors() {
    let patches = Patches::new([3, 3]).groups(2);
    let images = images(2, 4, 5);
    let samples = patches.samples(&images).unwrap();
    assert_eq!((samples.len(), samples[0].count(), samples[0].inputs().ncols()), (2, 2 * 7 * 6, 18));
    // Three channels in two groups; images without a patch; a number that is none, with its place.
    assert!(patches.samples(&images.slice(s![.., ..3, .., ..])).is_err());
    assert!(Patches::new([20, 3]).samples(&images).is_err());
    assert!(patches.samples(&images.slice(s![..0, .., .., ..])).is_err());
    assert!(Patches::new([1, 1]).padding([usize::MAX / 4, usize::MAX / 4]).samples(&images).is_err());
    let mut bad = images.clone();
    bad[[1, 2, 3, 4]] = f64::NAN;
    let error = patches.samples(&bad).unwrap_err();
    assert!(error.to_string().contains("[1, 2, 3, 4]"), "{error}");
    // Outputs: not of two groups, not of all places, for samples of one group.
    let outputs = |shape: [usize; 4]| Array4::<f32>::zeros(shape);
    assert!(patches.targets(samples.clone(), &outputs([2, 6, 7, 6])).is_ok());
    assert!(patches.targets(samples.clone(), &outputs([2, 5, 7, 6])).is_err());
    assert!(patches.targets(samples.clone(), &outputs([2, 6, 7, 7])).is_err());
    assert!(patches.targets(samples[..1].to_vec(), &outputs([2, 6, 7, 6])).is_err());
    assert!(patches.bias(samples.clone(), &Array1::<f32>::zeros(6)).is_ok());
    assert!(patches.bias(samples.clone(), &Array1::<f32>::zeros(5)).is_err());
    assert!(patches.bias(samples, &Array1::from_elem(6, f32::NAN)).is_err());
}
