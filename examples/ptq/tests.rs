//! The folded network, what undoes scaling, and the command line.

use clap::Parser;
use lowbit::BitWidth;
use ndarray::Array2;

use crate::equalization::Scaled;
use crate::methods::{METHODS, Plan};
use crate::mixed;
use crate::network::{Folded, Parameters, batches};
use crate::options::Options;
use crate::pipeline::{Calibration, Quantized};
use crate::sample::{Glyphs, Network, embedded};

fn folded() -> Folded {
    Folded::new(&Network::load(embedded()).unwrap()).unwrap()
}

fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
    Options::try_parse_from([&["ptq"], arguments].concat())
}

fn calibration(images: u64) -> Calibration {
    let options = options(&["--steps", "50"]).unwrap();
    let (grid, images) = (options.grid().unwrap(), Glyphs::new(5).batch(0..images).0);
    Calibration::new(folded(), grid, options.learning(), &images).unwrap()
}

/// The largest difference, as a share of the largest logit.
fn difference(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    let largest = |x: &Array2<f32>| x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    largest(&(a - b)) / largest(a)
}

#[test]
fn folding_changes_nothing_but_rounding() {
    let (images, _) = Glyphs::new(4).batch(0..70);
    let folded = folded();
    let logits = folded.logits(0, &folded.parameters, &batches(&images)).unwrap();
    let expected = Network::load(embedded()).unwrap().forward(&images);
    assert!(logits.dim() == (70, 20) && difference(&expected, &logits) < 1e-5);
    // The inputs of every layer but the first and the one behind the max pooling are known without data.
    let known: Vec<bool> = folded.layers.iter().map(|layer| layer.normals.is_some()).collect();
    assert_eq!(known, [false, false, true, true, true, true, true]);
}

#[test]
fn layer_by_layer_is_the_whole() {
    let calibration = calibration(70);
    let network = &calibration.network;
    for (first, inputs) in calibration.inputs.iter().enumerate() {
        assert_eq!(network.logits(first, &network.parameters, inputs).unwrap(), calibration.logits);
    }
    // Patches: each layer has its inputs, as often as it has outputs.
    let inputs: Vec<usize> = calibration.statistics.iter().map(|groups| groups[0].inputs()).collect();
    assert_eq!(inputs, [9, 9, 16, 288, 9, 48, 96]);
    let counts: Vec<u64> = calibration.statistics.iter().map(|groups| groups[0].count() / 70).collect();
    assert_eq!(counts, [400, 100, 100, 25, 25, 25, 1]);
}

#[test]
fn scaled_weights_are_brought_back() {
    let network = folded();
    let all = Scaled::all(&network).unwrap();
    assert_eq!(all.len(), network.layers.len());
    for ((scaled, layer), Parameters { weights, .. }) in
        all.iter().zip(&network.layers).zip(&network.parameters)
    {
        assert_ne!(scaled.weights, *weights);
        let mut back = scaled.weights.clone();
        scaled.undo(layer, &mut back);
        for (back, weight) in back.iter().zip(weights) {
            assert!((back - weight).abs() <= 1e-6 * weight.abs(), "{}: {back} {weight}", layer.name);
        }
    }
}

/// At 8 bits nothing goes far wrong, and all weights are counted. On a layer of each kind, as some methods take long.
#[test]
fn every_method_quantizes_every_kind_of_layer() {
    let calibration = calibration(16);
    let network = &calibration.network;
    for (method, index) in METHODS.iter().flat_map(|method| [1, 2, 6].map(|index| (method, index))) {
        let name = format!("{} of {}", method.name, network.layers[index].name);
        let task = calibration.task(index, BitWidth::EIGHT).unwrap();
        let done = method.quantize(&[task]).unwrap().remove(0);
        let bits = done.size as f64 / network.parameters[index].weights.len() as f64;
        assert!((8.0..17.0).contains(&bits), "{name}: {bits}");
        let mut parameters = network.parameters.clone();
        parameters[index] = done.parameters;
        let logits = network.logits(index, &parameters, &calibration.inputs[index]).unwrap();
        let error = difference(&calibration.logits, &logits);
        assert!(error > 0.0 && error < 0.03, "{name}: {error}");
    }
}

/// The layers behind a quantized one see what it makes of the images.
#[test]
fn layers_are_quantized_in_order() {
    let calibration = calibration(16);
    let find = |name| METHODS.iter().find(|method| method.name == name).unwrap();
    let mut steps = 0;
    let quantize = |name, steps: &mut usize| {
        let widths = [BitWidth::new(3).unwrap(); 7];
        let step = &mut || {
            *steps += 1;
            Ok(())
        };
        calibration.quantize(find(name), &widths, step).unwrap()
    };
    let (nearest, corrected) = (quantize("nearest", &mut steps), quantize("bias-empirical", &mut steps));
    assert_eq!(steps, 14);
    let task = calibration.task(2, BitWidth::new(3).unwrap()).unwrap();
    let alone = find("bias-empirical").quantize(&[task]).unwrap().remove(0);
    let bias = |quantized: &Quantized, layer: usize| quantized.layers[layer].parameters.bias.clone();
    assert_eq!(bias(&nearest, 2), calibration.network.parameters[2].bias);
    assert!(bias(&corrected, 2) != bias(&nearest, 2) && bias(&corrected, 2) != alone.parameters.bias);
    let weights = |quantized: &Quantized| quantized.layers[2].parameters.weights.clone();
    assert_eq!(weights(&corrected), weights(&nearest));
}

#[test]
fn mixed_widths_fit_the_uniform_size() {
    let calibration = calibration(16);
    let nearest = &METHODS[0];
    let mut steps = 0;
    let costs = mixed::measure(&calibration, nearest, &mut || {
        steps += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(steps, mixed::steps(&calibration));
    let bits = |bits| BitWidth::new(bits).unwrap();
    let size = |widths: &[BitWidth]| calibration.quantize(nearest, widths, &mut || Ok(())).unwrap().size();
    let widths = mixed::widths(&costs, bits(4)).unwrap().unwrap();
    assert!(size(&widths) <= size(&[bits(4); 7]) && widths.iter().any(|width| *width != bits(4)));
    // Nothing is smaller than the least width, and nothing better than the largest.
    assert!(mixed::widths(&costs, bits(2)).unwrap().is_none());
    assert!(mixed::widths(&costs, bits(8)).unwrap().is_none());
    assert!(mixed::widths(&costs, bits(7)).unwrap().is_none());
}

#[test]
fn arguments_are_read_once_each_or_refused() {
    let given = options(&["--methods", "gptq,mixed-gptq,gptq", "--bits", "3,8,3"]).unwrap();
    let names: Vec<String> = given.plans().iter().map(Plan::name).collect();
    assert_eq!(names, ["gptq", "mixed-gptq"]);
    assert_eq!(given.widths().iter().map(|bits| bits.get()).collect::<Vec<_>>(), [3, 8]);
    assert_eq!(options(&[]).unwrap().plans().len(), METHODS.len() + 2);
    for bad in [
        "--bits=1",
        "--bits=9",
        "--bits=",
        "--steps=0",
        "--samples=0",
        "--images=0",
        "--seed=-1",
        "--methods=magic",
        "--methods=mixed-",
        "--granularity=row",
        "--granularity=subchannel=0",
        "--calibration=magic",
    ] {
        assert!(options(&[bad]).is_err(), "{bad}");
    }
}
