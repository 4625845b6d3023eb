//! The shared module and the shipped file, as far as a debug build can check
//! them in a second or two.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis, IxDyn, s};

use crate::file;
use crate::sample::{Glyphs, Info, LABELS, Network, SIDE, embedded};

#[test]
fn an_image_depends_on_seed_and_index_alone() {
    let (all, labels) = Glyphs::new(5).batch(0..6);
    let (some, last) = Glyphs::new(5).batch(4..6);
    assert_eq!(all.slice(s![4.., .., .., ..]), some);
    assert_eq!(labels[4..], last);
    assert_ne!(all, Glyphs::new(6).batch(0..6).0);
    assert!(all.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
}

#[test]
fn every_class_is_drawn() {
    let (images, labels) = Glyphs::new(5).batch(0..400);
    assert_eq!(images.dim(), (400, 1, SIDE, SIDE));
    for class in 0..LABELS.len() {
        assert!(labels.contains(&class), "{}", LABELS[class]);
    }
}

/// Fails if the drawing of the images changes, which would make the accuracy
/// in the file wrong.
#[test]
fn images_keep_their_bits() {
    let (images, labels) = Glyphs::new(2).batch(0..64);
    let hash = images.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, pixel| {
        (hash ^ u64::from(pixel.to_bits())).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(hash, 0x0933_fe4c_b518_7aaf);
    assert_eq!(labels[..4], [15, 0, 4, 10]);
}

#[test]
fn shipped_file_is_what_the_trainer_writes() {
    let (info, network) = shipped();
    assert!(file::encode(&info, &network) == embedded());
    assert!(embedded().len() < 1_000_000);
    assert_ne!(info.training_seed, info.held_out_seed);
}

#[test]
fn shipped_network_reads_held_out_images() {
    let (info, network) = shipped();
    let (images, labels) = Glyphs::new(info.held_out_seed).batch(0..200);
    let accuracy = network.accuracy(&images, &labels);
    assert!((accuracy - info.held_out_accuracy).abs() < 0.05, "{accuracy}");
}

#[test]
fn hook_sees_the_input_of_every_weight() {
    let (_, network) = shipped();
    let (images, _) = Glyphs::new(9).batch(0..3);
    let mut seen = Vec::new();
    let logits = network.forward_with(&images, &mut |name, input| {
        seen.push((name.to_owned(), input.shape().to_vec()));
        assert!(input.is_standard_layout());
        if name == "conv1.weight" {
            assert_eq!(input, images.view().into_dyn());
        }
    });
    let weights = network.tensors().iter().filter(|(_, t)| t.ndim() > 1);
    let names: Vec<_> = weights.map(|(name, _)| name.clone()).collect();
    let shown: Vec<_> = seen.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(shown, names);
    assert_eq!(seen[3].1, [3, 32, 10, 10]);
    assert_eq!(seen[6].1, [3, 96]);
    // Neither the hook nor the size of the batch changes a bit.
    assert_eq!(logits, network.forward(&images));
    let alone = images.slice(s![1..2, .., .., ..]).to_owned();
    assert_eq!(logits.slice(s![1..2, ..]), network.forward(&alone));
    assert_eq!(logits.len_of(Axis(1)), LABELS.len());
}

#[test]
fn wrong_tensors_are_refused() {
    let (_, network) = shipped();
    let all: BTreeMap<_, _> = network.tensors().iter().cloned().collect();
    let refusal = |change: &dyn Fn(&mut BTreeMap<String, ArrayD<f32>>)| {
        let mut tensors = all.clone();
        change(&mut tensors);
        Network::from_tensors(tensors).unwrap_err().to_string()
    };
    let zeros = |shape: &[usize]| ArrayD::zeros(IxDyn(shape));
    assert_eq!(refusal(&|t| drop(t.remove("bn2.bias"))), "tensor bn2.bias is missing");
    assert_eq!(
        refusal(&|t| drop(t.insert("dense7.bias".into(), zeros(&[3])))),
        "tensor dense7.bias has shape [3] instead of [20]"
    );
    assert_eq!(
        refusal(&|t| drop(t.insert("extra".into(), zeros(&[3])))),
        "tensor extra does not belong to the network"
    );
    assert!(Network::load(&embedded()[..100]).is_err());
    assert!(Info::read(b"").is_err());
}

fn shipped() -> (Info, Network) {
    let info = Info::read(embedded()).expect("metadata of the shipped file");
    let network = Network::load(embedded()).expect("tensors of the shipped file");
    (info, network)
}
