//! Kernels in a process made by `fork`, which has none of the threads. On its own, since `fork` copies one thread only.
#![cfg(unix)]

use isograd_core::{DType, Tensor};
use isograd_cpu::Cpu;
use std::{
    panic,
    time::{Duration, Instant},
};

#[test]
fn kernels_run_after_fork() {
    let contexts = [Cpu::default(), Cpu::with_threads(3).unwrap()];
    let sums = |contexts: &[Cpu]| -> Vec<f32> {
        let of = |cpu: &Cpu| Tensor::ones(cpu, [1 << 20], DType::F32)?.exp()?.log()?.sum((), false)?.asscalar();
        contexts.iter().map(|cpu| of(cpu).unwrap()).collect()
    };
    let expected = sums(&contexts);
    // SAFETY: the child runs kernels, whose locks nobody holds now, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let same = panic::catch_unwind(|| {
            let same = sums(&contexts) == expected;
            drop(contexts);
            same
        });
        // SAFETY: ends the process.
        unsafe { libc::_exit(if same.unwrap_or(false) { 0 } else { 1 }) }
    }
    assert!(child > 0, "fork failed");
    let (began, mut status) = (Instant::now(), 0);
    // SAFETY: `child` is a process of ours, and `status` is valid for writing.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if began.elapsed() > Duration::from_secs(60) {
            // SAFETY: as above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child ended with {status}");
    assert_eq!(sums(&contexts), expected);
}
