//! Rooflines move what they say, and the command line.

use clap::Parser;

use crate::measure::median;
use crate::operations::{Bytes, Operation};
use crate::options::Options;
use crate::rooflines::{Memory, Roofline};
use crate::traffic::{Line, Way, pass};

#[test]
fn patterns_read_all_and_write_all() {
    for (read, written) in [(1, 1), (4, 1), (1, 4), (9, 64), (128, 17)] {
        let from: Vec<Line> = (0..3 * read as u64).map(|i| Line([i * i + 1; 8])).collect();
        for way in [Way::Plain, Way::Streaming] {
            let mut to = vec![Line([0; 8]); 3 * written];
            assert!(pass((read, written), way, &from, &mut to));
            for (from, to) in from.chunks(read).zip(to.chunks(written)) {
                let folded = from.iter().fold(0, |sum, line| sum ^ line.0[0]);
                assert!(to.iter().all(|line| *line == Line([folded; 8])), "{read} {written} {way:?}");
            }
        }
    }
    assert!(!pass((7, 5), Way::Plain, &[], &mut []));
}

#[test]
fn reading_ends_where_memory_does() {
    for lines in 0..40 {
        let from = vec![Line([7; 8]); lines].into_boxed_slice();
        for way in [Way::Plain, Way::TwoStreams, Way::FourStreams, Way::FourStreamsBesideLines] {
            assert!(pass((1, 0), way, &from, &mut []), "{lines} {way:?}");
        }
    }
}

#[test]
fn every_operation_has_a_roofline() {
    fn check<A: lowbit::Element>() {
        let mut memory = Memory::new(1 << 16);
        for operation in Operation::<A>::all() {
            let bytes = operation.bytes();
            assert!(Roofline::new(&mut memory, bytes, 1 << 16, 2).is_ok(), "{}", operation.name);
            assert!(bytes.read > 0);
        }
    }
    check::<f32>();
    check::<half::f16>();
    assert!(Roofline::new(&mut Memory::new(4096), Bytes { read: 7, written: 5 }, 4096, 1).is_err());
}

#[test]
fn bytes_and_medians() {
    // 4 bytes and 8.5 bits.
    assert_eq!(Bytes { read: 128, written: 34 }.of(32), 128.0 + 34.0);
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert!(median(&[]).is_nan());
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    for arguments in [
        ["--shape", "0"],
        ["--shape", "100x100"],
        ["--shape", "65536x65536"],
        ["--threads", "0"],
        ["--element", "f64"],
        ["--level", "sse"],
        ["--repetitions", "0"],
    ] {
        assert!(
            Options::try_parse_from([&["throughput"][..], &arguments].concat()).is_err(),
            "{arguments:?}"
        );
    }
}
