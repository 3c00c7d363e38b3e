//! What is missing, broken or exhausted gives an error that says so, and leaves the device usable.

use super::host::Host;
use crate::{
    Cuda, Mode,
    driver::{Architecture, symbols},
};
use isograd_core::{Backend, DType, Dyn, Error, Tensor};
use std::{fs, sync::atomic::Ordering};

#[test]
fn without_a_driver_every_function_says_so_and_nothing_panics() {
    if symbols::driver().is_ok() {
        eprintln!("skipped: there is a driver");
        return;
    }
    assert_eq!(Cuda::count(), 0);
    let error = Cuda::new(0).unwrap_err();
    assert!(matches!(error, Error::Backend { .. }));
    for word in ["cuda", "libcuda.so.1", "install NVIDIA's driver"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // What `cust` calls is defined, and answers.
    assert_eq!(cust::init(cust::CudaFlags::empty()), Err(cust::error::CudaError::NoDevice));
    assert_eq!(cust::device::Device::num_devices(), Err(cust::error::CudaError::NoDevice));
    assert!(symbols::defined() > 100);
}

fn device(name: &str) -> Option<(Cuda, std::sync::Arc<Host>, std::path::PathBuf)> {
    let host = Host::new(Architecture::new(8, 0))?;
    let directory = crate::temporary_directory(name);
    Some((Cuda::with_driver(host.clone(), &directory, Mode::Exact).unwrap(), host, directory))
}

fn doubled(cuda: &Cuda) -> isograd_core::Result<Vec<f32>> {
    let x = Tensor::from_slice(&Dyn::new(cuda.clone()), &[1.0f32, 2.0, 3.0], [3])?;
    x.add(&x)?.to_vec()
}

#[test]
fn kernels_are_kept_and_damaged_ones_made_anew() {
    let Some((cuda, host, directory)) = device("kept") else { return };
    assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(host.compiled.load(Ordering::Relaxed), 1);
    // Another process finds it.
    let again = Host::new(Architecture::new(8, 0)).unwrap();
    assert_eq!(doubled(&Cuda::with_driver(again.clone(), &directory, Mode::Exact).unwrap()).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(again.compiled.load(Ordering::Relaxed), 0);
    // Another architecture does not.
    let other = Host::new(Architecture::new(9, 0)).unwrap();
    doubled(&Cuda::with_driver(other.clone(), &directory, Mode::Exact).unwrap()).unwrap();
    assert_eq!(other.compiled.load(Ordering::Relaxed), 1);
    for entry in fs::read_dir(&directory).unwrap().flatten() {
        let mut bytes = fs::read(entry.path()).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(entry.path(), bytes).unwrap();
    }
    let after = Host::new(Architecture::new(8, 0)).unwrap();
    assert_eq!(doubled(&Cuda::with_driver(after.clone(), &directory, Mode::Exact).unwrap()).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(after.compiled.load(Ordering::Relaxed), 1);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn exhausted_memory_is_told_and_the_device_stays_usable() {
    let Some((cuda, host, directory)) = device("exhausted") else { return };
    let mebibyte = 1 << 20;
    let first = cuda.alloc(mebibyte).unwrap();
    host.left.store(0, Ordering::Relaxed);
    let error = cuda.alloc(2 * mebibyte).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { bytes: 2_097_152, .. }), "{error}");
    // What is dropped is used again, and given back where that makes room.
    drop(first);
    assert_eq!(cuda.kept_memory(), mebibyte);
    let second = cuda.alloc(mebibyte).unwrap();
    assert_eq!(cuda.kept_memory(), 0);
    host.left.store(usize::MAX, Ordering::Relaxed);
    cuda.set_memory_limit(cuda.used_memory() + mebibyte);
    let error = cuda.alloc(2 * mebibyte).unwrap_err();
    assert!(error.to_string().contains("allowed"), "{error}");
    drop(cuda.alloc(mebibyte).unwrap());
    assert_eq!(cuda.kept_memory(), mebibyte);
    cuda.trim();
    assert_eq!(cuda.kept_memory(), 0);
    drop(second);
    assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    assert!(matches!(cuda.alloc(usize::MAX).unwrap_err(), Error::OutOfMemory { .. }));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_graph_computes_again_and_keeps_its_memory() {
    let Some((cuda, _, directory)) = device("graph") else { return };
    let ctx = Dyn::new(cuda.clone());
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3]).unwrap();
    let step = || {
        let y = x.mul(&x)?.add(&x)?;
        x.assign(&y)
    };
    step().unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [2.0, 6.0, 12.0]);
    let graph = cuda.capture(step).unwrap();
    // Captured, not computed.
    assert_eq!(x.to_vec::<f32>().unwrap(), [2.0, 6.0, 12.0]);
    let others: Vec<_> = (0..4).map(|_| Tensor::ones(&ctx, [3], DType::F32).unwrap()).collect();
    graph.replay().unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [6.0, 42.0, 156.0]);
    graph.replay().unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [42.0, 1806.0, 24492.0]);
    for other in &others {
        assert_eq!(other.to_vec::<f32>().unwrap(), [1.0; 3]);
    }
    let error = cuda.capture(|| x.to_vec::<f32>().map(drop)).unwrap_err();
    assert!(error.to_string().contains("captured"), "{error}");
    assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    let used = cuda.used_memory();
    drop(graph);
    assert!(cuda.used_memory() < used);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_a_graph_reads_stays_when_it_is_dropped() {
    let Some((cuda, _, directory)) = device("graph-reads") else { return };
    let ctx = Dyn::new(cuda.clone());
    let [first, second] = [1.0f32, 5.0].map(|v| Tensor::from_slice(&ctx, &[v; 3], [3]).unwrap());
    let out = Tensor::zeros(&ctx, [3], DType::F32).unwrap();
    let step = || out.assign(&first.add(&second)?);
    step().unwrap();
    let graphs = [cuda.capture(step).unwrap(), cuda.capture(step).unwrap()];
    drop((first, second));
    let mut others: Vec<_> = Vec::new();
    for graph in graphs {
        others.extend((0..4).map(|_| Tensor::ones(&ctx, [3], DType::F32).unwrap()));
        out.assign(&others[0]).unwrap();
        graph.replay().unwrap();
        assert_eq!(out.to_vec::<f32>().unwrap(), [6.0; 3]);
    }
    for other in &others {
        assert_eq!(other.to_vec::<f32>().unwrap(), [1.0; 3]);
    }
    // Without graphs, it is used again.
    let used = cuda.used_memory();
    drop((0..2).map(|_| Tensor::ones(&ctx, [3], DType::F32).unwrap()).collect::<Vec<_>>());
    assert_eq!(cuda.used_memory(), used);
    assert!(cuda.kept_memory() >= 2 * 512);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn an_index_out_of_range_is_told_at_the_next_wait_and_once() {
    let Some((cuda, _, directory)) = device("index") else { return };
    let ctx = Dyn::new(cuda.clone());
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3]).unwrap();
    let index = Tensor::from_slice(&ctx, &[0i64, 7], [2]).unwrap();
    let error =
        x.take(&index, 0, isograd_core::operators::TakeMode::Raise).and_then(|y| y.to_vec::<f32>()).unwrap_err();
    assert!(matches!(error, Error::IndexOutOfRange { index: 7, size: 3, .. }), "{error}");
    assert_eq!(doubled(&cuda).unwrap(), [2.0, 4.0, 6.0]);
    fs::remove_dir_all(directory).unwrap();
}
