//! Rooflines move what they say, and the command line.

use clap::Parser;

use lowbit::simd;

use crate::measure::median;
use crate::operations::{Bytes, Operation};
use crate::options::Options;
use crate::rooflines::{Memory, Roofline};
use crate::traffic::{Line, Way, pass, read};

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
fn reading_reads_all_once() {
    // Without vectors, lines that fill no step are read too, and none beside lines.
    let vectors = simd::available().last() > Some(&simd::Level::Baseline);
    for lines in 0..40_u64 {
        let from: Vec<Line> = (0..lines)
            .map(|i| Line(std::array::from_fn(|word| (8 * i + word as u64) * 0x9E37_79B9)))
            .collect();
        let words: Vec<u64> = from.iter().flat_map(|line| line.0).collect();
        for (way, parts) in
            [(Way::Plain, 1), (Way::TwoStreams, 2), (Way::FourStreams, 4), (Way::FourStreamsBesideLines, 4)]
        {
            let beside = vectors && way == Way::FourStreamsBesideLines;
            let part = from.len() / 4 * 4 / parts;
            let mut expected = 0;
            for i in 0..parts {
                let start = i * part;
                let here = if i + 1 == parts { from.len() - start } else { part };
                let here = if beside { here.saturating_sub(2) } else { here };
                let here = if vectors { here / 2 * 2 } else { here };
                let first = 8 * start + if beside { 2 } else { 0 };
                expected = words.iter().skip(first).take(8 * here).fold(expected, |all, word| all ^ word);
            }
            assert_eq!(read(way, &from), expected, "{lines} lines, {way:?}");
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
            // Some memories take lines of zeros faster than others.
            assert!(!memory.to.contains(&Line([0; 8])), "{}", operation.name);
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
