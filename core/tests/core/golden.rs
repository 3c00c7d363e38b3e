//! Operators and layers against what MXNet 1.9.1 computed, outputs and gradients. The cases are data, in
//! `golden/mxnet/ops`; how each is written in operators of core is in `common/mxnet.rs`.

use super::common::golden;
use isograd_core::Dyn;
use isograd_cpu::Cpu;
use isograd_reference::Reference;

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mxnet/ops")
}

#[test]
fn every_sample_agrees() {
    golden::run(&Reference, folder());
}

#[test]
fn every_sample_agrees_on_devices_chosen_at_run_time() {
    golden::run(&Dyn::new(Reference), folder());
    golden::run(&Dyn::new(Cpu::default()), folder());
}

#[test]
fn an_unknown_operator_is_a_failure() {
    let report = std::panic::catch_unwind(|| {
        golden::run(&Reference, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unknown"))
    });
    let message = *report.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("no_such_operator"), "{message}");
}

#[test]
fn a_wrong_number_is_a_failure() {
    let scale = 10.0;
    for (got, expected, bound, fits) in [
        (1.0, 1.0 + 0.9e-5, golden::F32, true),
        (1.0, 1.0 + 2.5e-5, golden::F32, false),
        (0.0, 0.9e-5, golden::F32, true),
        (0.0, 1.1e-5, golden::F32, false),
        (f64::NAN, f64::NAN, golden::F32, true),
        (f64::NAN, 1.0, golden::F32, false),
        (1.0, f64::NAN, golden::F32, false),
        (f64::INFINITY, f64::INFINITY, golden::F32, true),
        (f64::INFINITY, f64::NEG_INFINITY, golden::F32, false),
        (1e30, f64::INFINITY, golden::F32, false),
    ] {
        assert_eq!(golden::agrees(got, expected, scale, bound), fits, "{got} {expected}");
    }
}
