//! The tests of core that are written for any backend, on the CPU backend: MXNet's samples, and every gradient against
//! central differences.

#![cfg(feature = "cpu")]

#[allow(dead_code)]
#[path = "../core/tests/common/mod.rs"]
mod common;

use isograd::{Cpu, Dyn};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/core/tests/golden/mxnet/ops");

#[test]
fn samples_of_mxnet_agree() {
    common::golden::run(&Cpu::default(), SAMPLES);
}

#[test]
fn samples_of_mxnet_agree_through_a_device_chosen_at_run_time() {
    common::golden::run(&isograd::device("cpu").unwrap(), SAMPLES);
}

#[test]
fn gradients_agree_with_central_differences() {
    common::gradients::check_all(&Cpu::with_threads(2).unwrap());
}

#[test]
fn gradients_agree_through_a_device_chosen_at_run_time() {
    common::gradients::check_some(&Dyn::new(Cpu::default()), 5);
}
