//! Runs the conformance suite on a CUDA device: `cargo run --release -p isograd-cuda --example conformance --
//! [--quick] [filter]`.
//!
//! `--quick` makes one draw of each case, for tools that slow everything down.

use isograd_conformance::{Level, Options, Suite};
use isograd_cuda::Cuda;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let level = if arguments.iter().any(|a| a == "--quick") { Level::Quick } else { Level::Default };
    let filter = arguments.into_iter().find(|a| !a.starts_with("--"));
    let cuda = match Cuda::new(0) {
        Ok(cuda) => cuda,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    let report = Suite::new(cuda).run(&Options { filter, level, ..Options::default() });
    println!("{report}");
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
