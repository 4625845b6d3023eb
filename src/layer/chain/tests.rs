use super::*;
use ndarray::{Array4, array};
use rand::{Rng, SeedableRng};

fn numbers<D: ndarray::ShapeBuilder>(shape: D, seed: u64) -> ndarray::Array<f32, D::Dim> {
    let mut random = crate::random::Philox::seed_from_u64(seed);
    ndarray::Array::from_shape_simple_fn(shape, || (random.next_u32() >> 8) as f32 / 8_388_608.0 - 0.9)
}

/// Images through a grouped convolution with everything there is, a pointwise one and a dense layer.
fn chain() -> (Chain, Vec<ArrayD<f32>>) {
    let patches = Patches::new([3, 2]).stride([2, 1]).padding([1, 2]).dilation([1, 2]).groups(2);
    let stages = [
        Stage::convolution(patches).bias(&array![0.3, -0.2, 0.1, 0.4]).unwrap().activation(Activation::Relu),
        Stage::convolution(Patches::new([1, 1])).activation(Activation::Relu6),
        Stage::dense().bias(&array![0.5, -0.5, 0.0]).unwrap(),
    ];
    let chain = Chain::new(&numbers((7, 4, 5, 4), 1), stages).unwrap();
    let weights: Vec<ArrayD<f32>> = vec![
        numbers((4, 2, 3, 2), 2).into_dyn(),
        numbers((5, 4, 1, 1), 3).into_dyn(),
        numbers((3, 5 * 3 * 6), 4).into_dyn() / 4.0,
    ];
    (chain, weights)
}

#[test]
fn outputs_are_those_of_the_definition() {
    let (chain, weights) = chain();
    let views: Vec<_> = weights.iter().map(|weights| weights.view()).collect();
    let found = chain.outputs(&views).unwrap();
    assert_eq!(found.shape(), [7, 3]);
    let x = numbers((7, 4, 5, 4), 1);
    for n in 0..7 {
        let at = |c: usize, i: isize, j: isize| {
            let inside = (0..5).contains(&i) && (0..4).contains(&j);
            if inside { f64::from(x[[n, c, i as usize, j as usize]]) } else { 0.0 }
        };
        // [channel, row, column]
        let first = ndarray::Array3::from_shape_fn((4, 3, 6), |(o, p, q)| {
            let taps = (0..2).flat_map(|c| (0..3).flat_map(move |i| (0..2).map(move |j| (c, i, j))));
            let sum: f64 = taps
                .map(|(c, i, j)| {
                    let value = at(o / 2 * 2 + c, (2 * p + i) as isize - 1, (q + 2 * j) as isize - 2);
                    f64::from(weights[0][[o, c, i, j]]) * value
                })
                .sum();
            (sum + [0.3, -0.2, 0.1, 0.4][o]).max(0.0)
        });
        let second = ndarray::Array3::from_shape_fn((5, 3, 6), |(o, p, q)| {
            let sum: f64 = (0..4).map(|c| f64::from(weights[1][[o, c, 0, 0]]) * first[[c, p, q]]).sum();
            sum.clamp(0.0, 6.0)
        });
        for o in 0..3 {
            let products = second.iter().enumerate().map(|(at, x)| f64::from(weights[2][[o, at]]) * x);
            let expected = products.sum::<f64>() + [0.5, -0.5, 0.0][o];
            assert!((f64::from(found[[n, o]]) - expected).abs() < 1e-5, "{} {expected}", found[[n, o]]);
        }
    }
    // A convolution at the end keeps its places.
    let first = Chain { stages: chain.stages[..1].to_vec(), ..chain.clone() };
    assert_eq!(first.outputs(&views[..1]).unwrap().shape(), [7, 4, 3, 6]);
    // No layers: what goes in.
    let none = Chain { stages: Vec::new(), ..chain };
    assert_eq!(none.outputs::<f32>(&[]).unwrap(), x.into_dyn());
}

#[test]
fn gradients_are_differences_of_the_loss() {
    let (chain, mut weights) = chain();
    let chain = chain.targets(&numbers((7, 3), 5)).unwrap();
    let weighted = chain.clone().importance(&(numbers((7, 3), 6) + 1.0)).unwrap();
    let samples = [4, 0, 6, 2];
    for chain in [chain, weighted] {
        let mut gradients: Vec<ArrayD<f32>> =
            weights.iter().map(|weights| ArrayD::zeros(weights.raw_dim())).collect();
        let loss = chain.descend(&weights, &samples, &mut gradients).unwrap();
        assert_eq!(loss, chain.loss(&weights, &samples).unwrap());
        let step = 2e-3;
        for layer in 0..3 {
            for index in (0..weights[layer].len()).step_by(3) {
                let at = |weights: &mut Vec<ArrayD<f32>>, by: f32| {
                    let own = weights[layer].as_slice().unwrap()[index];
                    weights[layer].as_slice_mut().unwrap()[index] = own + by;
                    let loss = chain.loss(weights, &samples).unwrap();
                    weights[layer].as_slice_mut().unwrap()[index] = own;
                    loss
                };
                let slope = (at(&mut weights, step) - at(&mut weights, -step)) / (2.0 * f64::from(step));
                let found = f64::from(gradients[layer].as_slice().unwrap()[index]);
                // What is curved within a step, and f32.
                assert!(
                    (slope - found).abs() < 2e-2 * slope.abs().max(0.1),
                    "{layer} {index}: {slope} {found}"
                );
            }
        }
    }
}

#[test]
fn losses_are_means_over_samples_and_outputs() {
    let (chain, weights) = chain();
    let views: Vec<_> = weights.iter().map(|weights| weights.view()).collect();
    let outputs = chain.outputs(&views).unwrap();
    let (targets, importance) = (numbers((7, 3), 5), numbers((7, 3), 6) + 1.0);
    let chain = chain.targets(&targets).unwrap().importance(&importance).unwrap();
    let samples = [5, 1];
    let mut expected = 0.0;
    for (sample, output) in samples.iter().flat_map(|&sample| (0..3).map(move |output| (sample, output))) {
        let error = f64::from(outputs[[sample, output]] - targets[[sample, output]]);
        expected += f64::from(importance[[sample, output]]) * error * error / 6.0;
    }
    let found = chain.loss(&weights, &samples).unwrap();
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (chain, weights) = chain();
    assert!(Chain::new(&Array4::<f32>::zeros((0, 4, 5, 4)), []).is_err());
    assert!(Chain::new(&array![1.0f32, 2.0], []).is_err());
    assert!(Chain::new(&array![[1.0, f64::NAN]], []).is_err());
    assert!(Stage::dense().bias(&array![f32::INFINITY]).is_err());
    assert!(chain.clone().targets(&Array2::<f32>::zeros((6, 3))).is_err());
    assert!(chain.clone().importance(&Array2::from_elem((7, 3), -1.0)).is_err());
    let fewer = chain.clone().targets(&Array2::<f32>::zeros((7, 3))).unwrap();
    assert!(fewer.inputs(&Array4::<f32>::zeros((6, 4, 5, 4))).is_err());
    // Of other sizes than the outputs, which are known when weights are.
    let wide = chain.clone().targets(&Array2::<f32>::zeros((7, 4))).unwrap();
    assert!(wide.loss(&weights, &[0]).is_err() && chain.loss(&weights, &[0]).is_ok());
    assert!(chain.loss(&weights[..2], &[0]).is_err());
    let mut other = weights.clone();
    other[1] = ArrayD::zeros(vec![5, 3, 1, 1]);
    assert!(chain.loss(&other, &[0]).is_err());
    other[1] = ArrayD::zeros(vec![]);
    assert!(chain.loss(&other, &[0]).is_err());
    assert!(chain.loss(&weights, &[7]).is_err());
    // Padding that no memory holds.
    for padding in [1 << 20, 1 << 40, usize::MAX / 8] {
        let patches = Patches::new([3, 2]).padding([padding, padding]).groups(2);
        let huge = Chain { stages: vec![Stage::convolution(patches)], ..chain.clone() };
        assert!(huge.loss(&weights[..1], &[0]).is_err());
    }
    assert_eq!(chain.loss(&weights, &[]).unwrap(), 0.0);
}
