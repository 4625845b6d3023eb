//! Files of observers, the network with other activations, and small decisions.

use anyhow::anyhow;
use clap::Parser;
use lowbit::prelude::*;

use crate::console::causes;
use crate::observers::Observers;
use crate::options::{Options, short};
use crate::sample::{Glyphs, Network, embedded};
use crate::stream::Stream;

fn network() -> Network {
    Network::load(embedded()).unwrap()
}

/// The one line that the user reads.
fn message(result: anyhow::Result<impl Sized>) -> String {
    let message = causes(&result.err().unwrap());
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn mapped_inputs_reach_the_layers() {
    let network = network();
    let (images, _) = Glyphs::new(4).batch(0..3);
    let same = network.forward_mapped(&images, &mut |_, input| Ok(input)).unwrap();
    assert_eq!(same, network.forward(&images));
    // With nothing to see, all images are the same.
    let dark = network.forward_mapped(&images, &mut |name, input| {
        Ok(if name == "conv1.weight" { input * 0.0 } else { input })
    });
    let dark = dark.unwrap();
    assert!(dark.rows().into_iter().all(|row| row == dark.row(0)) && dark != same);
    let failed = network.forward_mapped(&images, &mut |name, _| Err(anyhow!("{name} failed")));
    assert_eq!(message(failed), "conv1.weight failed");
    let cut = network.forward_mapped(&images, &mut |_, input| Ok(input.remove_axis(Axis(0))));
    assert!(cut.is_err());
}

#[test]
fn a_file_of_observers_is_read_as_it_was_or_refused() {
    let network = network();
    let empty = Observers::new(&network).unwrap();
    let mut observers = empty.clone();
    observers.observe(&network, &Glyphs::new(4).batch(0..2).0).unwrap();
    let text = observers.to_json().unwrap();
    let read = |text: &str| Observers::from_json(text.as_bytes(), &empty);
    assert_eq!(read(&text).unwrap(), observers);
    assert_eq!(read(&empty.to_json().unwrap()).unwrap(), empty);
    for (from, to, expected) in [
        ("lowbit glyphs 1", "digits", "task"),
        ("\"images\":2", "\"images\":3", "activation conv1: not the 400 values of each of 3 images"),
        ("\"images\":2", "\"images\":18446744073709551615", "of each of 18446744073709551615 images"),
        ("\"images\":2", "\"images\":-2", "damaged"),
        ("\"images\":2", "\"pictures\":2", "pictures"),
        ("\"name\":\"conv4\"", "\"name\":\"conv9\"", "activation conv9, not conv4"),
        ("\"granularity\":\"layer\"", "\"granularity\":\"channel(axis=0)\"", "granularity"),
        ("\"granularity\":\"channel(axis=1)\"", "\"granularity\":\"magic\"", "magic"),
    ] {
        assert!(text.contains(from), "{from}");
        let message = message(read(&text.replacen(from, to, 1)));
        assert!(message.contains(expected), "{from} {to}: {message}");
    }
    for cut in [0, 1, text.len() / 2, text.len() - 1] {
        assert!(message(read(&text[..cut])).contains("damaged"));
    }
}

#[test]
fn the_halves_are_the_whole() {
    let network = network();
    let empty = Observers::new(&network).unwrap();
    let seen = Stream::new(&network, 7, 4).observe(&empty, &empty).unwrap();
    assert_eq!(seen.observers.images, 256);
    // Two of the four batches came after the reloading.
    assert_eq!(seen.halves.each_ref().map(|half| half.images), [64, 64]);
    let again = Stream::new(&network, 7, 2).observe(&empty, &empty).unwrap().observers;
    let resumed = Stream::new(&network, 7, 2).observe(&empty, &again).unwrap();
    assert_eq!(resumed.observers, seen.observers);
    assert!(resumed.told.starts_with("Resumed after 128 images"), "{}", resumed.told);
}

#[test]
fn names_are_short_and_options_complete() {
    assert_eq!(short("mse"), "mse");
    assert_eq!(short("aciq(density=gaussian, estimator=moments, optimum=automatic)"), "aciq gaussian");
    assert_eq!(short("nvidia-percentile(99.99, bins=2048)"), "nvidia-percentile 99.99");
    let options = Options::parse_from(["calibrate", "--bits", "4,8,4", "--calibration", "percentile(99)"]);
    assert_eq!(options.widths().iter().map(|bits| bits.get()).collect::<Vec<_>>(), [4, 8]);
    assert_eq!(options.fewest().get(), 4);
    assert_eq!(options.rules().unwrap()[0].short(), "percentile 99");
    assert_eq!(Options::parse_from(["calibrate"]).rules().unwrap().len(), 6);
    for bad in [
        "--bits=0",
        "--bits=",
        "--batches=1",
        "--images=0",
        "--calibration=magic",
        "--calibration=percentile(0)",
    ] {
        assert!(Options::try_parse_from(["calibrate", bad]).is_err(), "{bad}");
    }
}
