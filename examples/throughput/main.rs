//! How fast the basic operations of quantization are, beside what the memory of the machine allows in the same run.
//!
//! ```text
//! cargo run --release --example throughput
//! cargo run --release --example throughput -- --json throughput.json
//! cargo run --release --example throughput -- --operations dequantize --shape 256 --threads 1 --level avx2
//! cargo run --release --example throughput -- --element f16,bf16 --operations quantize
//! cargo run --release --example throughput -- --threads 1 --peers other.jsonl
//! ```
//!
//! | file | |
//! |---|---|
//! | `operations.rs` | what is measured: the library's public interface |
//! | `rooflines.rs`, `traffic.rs` | the limits: loops that move the same bytes and do nothing else |
//! | `measure.rs` | medians of paired repetitions |
//! | `threads.rs` | pools of threads |
//! | `table.rs` | tables and JSON |
//! | `peers.rs` | other programs' figures beside ours |

#[path = "../support/console.rs"]
mod console;
#[path = "../support/interrupt.rs"]
mod interrupt;
mod measure;
mod operations;
mod options;
mod peers;
#[path = "../support/progress.rs"]
mod progress;
mod rooflines;
mod table;
#[cfg(test)]
mod tests;
mod threads;
mod traffic;
#[path = "../support/write.rs"]
mod write;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use half::{bf16, f16};
use lowbit::{Element, simd};

use console::print;
use operations::{Operation, Tensors};
use options::{ElementType, Options, Shape};
use progress::Progress;
use rooflines::{Memory, Roofline};
use table::Row;
use threads::Threads;

fn main() -> ExitCode {
    console::main_with(run)
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    simd::set_level(options.level).context("--level")?;
    interrupt::listen()?;
    let mut peers = Vec::new();
    for path in &options.peers {
        peers.extend(peers::read(path)?);
    }
    let mut rows = Vec::new();
    for &shape in &options.shapes {
        let mut memory = Memory::new(shape.elements());
        for element in &options.elements {
            rows.extend(match element {
                ElementType::F32 => measure_all::<f32>(options, shape, &mut memory),
                ElementType::F16 => measure_all::<f16>(options, shape, &mut memory),
                ElementType::Bf16 => measure_all::<bf16>(options, shape, &mut memory),
            }?);
        }
    }
    print(&peers::text(&rows, &peers))?;
    let Some(path) = &options.json else { return Ok(()) };
    write::write_whole(path, &serde_json::to_vec_pretty(&table::json(&rows))?)?;
    print(&format!("figures: {}\n", path.display()))
}

/// The chosen operations on a tensor of this shape and type, with each number of threads.
fn measure_all<A: Element>(options: &Options, shape: Shape, memory: &mut Memory) -> Result<Vec<Row>> {
    let mut operations = Operation::<A>::all();
    let names: Vec<&str> = operations.iter().map(|operation| operation.name).collect();
    let (level, wanted) = (simd::level(), &options.operations);
    operations.retain(|operation| operation.name.contains(wanted));
    ensure!(!operations.is_empty(), "no operation contains {wanted:?}; there are {}", names.join(", "));
    let pools: Vec<(usize, Threads)> = options
        .threads
        .iter()
        .map(|&count| Ok((usize::from(count), Threads::new(count.into())?)))
        .collect::<Result<_>>()?;
    let mut tensors = Tensors::<A>::new((shape.rows, shape.columns));
    let mut measured: Vec<Vec<Row>> = pools.iter().map(|_| Vec::new()).collect();
    let progress = Progress::new("operations", operations.len() as u64);
    for operation in &operations {
        let mut run = operation.prepare(&mut tensors)?;
        for ((count, threads), rows) in pools.iter().zip(&mut measured) {
            let bytes = operation.bytes();
            let mut roofline = Roofline::new(memory, bytes, shape.elements(), *count)?;
            rows.push(Row {
                operation: operation.name,
                shape,
                threads: *count,
                level,
                input: A::TYPE,
                bytes: bytes.of(shape.elements()),
                measured: measure::paired(&mut run, &mut roofline, threads, options.repetitions.into())?,
            });
        }
        progress.step()?;
    }
    drop(progress);
    for rows in &measured {
        print(&table::text(rows))?;
    }
    Ok(measured.into_iter().flatten().collect())
}
