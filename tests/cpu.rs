//! The tests of core that are written for any backend, on the CPU backend: MXNet's samples, and every gradient against
//! central differences.

#![cfg(feature = "cpu")]

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

/// Declares a test of each body.
macro_rules! bodies {
    ($($module:ident: $($body:ident)*;)*) => { $($(
        #[test]
        fn $body() {
            common::$module::$body(&Cpu::default());
        }
    )*)* };
}

bodies! {
    semantics: empty_and_rank_0 nan_goes_through rounding integers positions_of_extremes broadcasting slices reshapes in_place
        windows_and_pooling sorting norms_of_nothing creation casts matrices random_moments random_is_repeatable
        random_bits_are_pinned permutations dropping;
    graphs: leaves requests heads kept_and_consumed higher_orders without_touching_grad modes versions in_place_on_recorded
        leaves_share_no_memory threads deep_chains what_is_saved views_of_variables;
}
