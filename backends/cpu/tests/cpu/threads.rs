//! Kernels called from the tasks of another library: none of those may run on a thread that is inside a kernel.

use isograd_core::{DType, Result, Tensor, autograd, operators::ConvOptions};
use isograd_cpu::Cpu;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

/// Enough for `exp` to be cut into pieces.
const SIZE: usize = 200_000;

const TASKS: usize = 600;

/// Runs `f`, which must end.
fn ends(f: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let running = thread::spawn(move || {
        f();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(120)) {
        Ok(()) => running.join().unwrap(),
        Err(_) if running.is_finished() => running.join().unwrap(),
        Err(_) => panic!("tasks wait for one another"),
    }
}

/// Gives `task` to the four threads of a pool, with each number below [`TASKS`].
fn tasks(task: impl Fn(usize) -> Result<()> + Sync) {
    let pool = rayon_core::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    pool.scope(|scope| {
        for i in 0..TASKS {
            let task = &task;
            scope.spawn(move |_| task(i).unwrap());
        }
    });
}

fn contexts() -> [Cpu; 2] {
    [Cpu::default(), Cpu::with_threads(3).unwrap()]
}

#[test]
fn tasks_that_write_and_read_one_tensor_end() {
    for cpu in contexts() {
        ends(move || {
            let w = Tensor::zeros(&cpu, [SIZE], DType::F32).unwrap();
            tasks(|_| {
                w.fill(1)?;
                w.exp().map(drop)
            });
            assert_eq!(w.to_vec::<f32>().unwrap(), vec![1.0; SIZE]);
        });
    }
}

#[test]
fn every_kernel_keeps_other_tasks_away() {
    let cpu = Cpu::default();
    ends(move || {
        let square = Tensor::ones(&cpu, [600, 600], DType::F32).unwrap();
        let images = Tensor::ones(&cpu, [16, 8, 32, 32], DType::F32).unwrap();
        let weight = Tensor::ones(&cpu, [8, 8, 3, 3], DType::F32).unwrap();
        tasks(|i| {
            square.fill(1)?;
            images.fill(1)?;
            match i % 5 {
                0 => square.matmul(&square).map(drop),
                1 => square.softmax(-1).map(drop),
                2 => square.argsort(-1, true).map(drop),
                3 => square.sum((), false).map(drop),
                _ => images.conv(&weight, None, &ConvOptions::default()).map(drop),
            }
        });
    });
}

#[test]
fn the_mode_of_a_task_is_its_own() {
    for cpu in contexts() {
        ends(move || {
            let recorded = Arc::new(AtomicUsize::new(0));
            let w = Tensor::ones(&cpu, [SIZE], DType::F32).unwrap();
            tasks(|i| {
                if i % 2 == 0 {
                    return autograd::record(|| w.exp().map(drop));
                }
                recorded.fetch_add(autograd::is_recording() as usize, Ordering::Relaxed);
                w.exp().map(drop)
            });
            assert_eq!(recorded.load(Ordering::Relaxed), 0, "tasks saw another's mode");
        });
    }
}
