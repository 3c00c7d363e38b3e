//! cuBLAS, cuDNN and NCCL, by stand-ins (`host/libraries.c`) that compute on the host what the real ones compute on a
//! device: whether they are called as their interfaces want it, and what happens where they are missing or others.

use super::{
    host::{self, Host},
    results::{agrees, numbers},
};
use crate::{Cuda, Graph, Mode, driver::Architecture};
use isograd_core::{
    Backend, DType, Dyn, Error, Result, Tensor, autograd,
    operators::{ConvOptions, Fused, random},
};
use isograd_nn::{
    BatchNorm, Block, Conv2D, Dense, Dropout, Parameters, Sequential, Trainer,
    initializers::Normal,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::{Adam, SGD, Schedule, Scheduled},
};
use libloading::Library;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
};

const NAMES: [&str; 4] = ["libcublas.so.13", "libcudnn.so.9", "libnccl.so.2", "libcublasLt.so.13"];

/// A directory with what `source` compiles to, under the names of the libraries; `None` without a compiler.
fn directory(name: &str, source: &str) -> Option<PathBuf> {
    let directory = crate::temporary_directory(name);
    let code = directory.join("libraries.c");
    fs::write(&code, source).unwrap();
    let library = directory.join(NAMES[0]);
    let options = ["-shared", "-fPIC", "-O1", "-w", "-o"];
    let compiled = Command::new("cc").args(options).args([&library, &code]).output();
    let Ok(compiled) = compiled else {
        assert!(!host::required(), "there is no cc");
        eprintln!("skipped: there is no cc to make libraries");
        return None;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    for name in &NAMES[1..] {
        fs::copy(&library, directory.join(name)).unwrap();
    }
    Some(directory)
}

fn stand_ins(name: &str) -> Option<PathBuf> {
    directory(name, include_str!("host/libraries.c"))
}

fn device(number: i32, libraries: &Path, mode: Mode) -> Option<(Cuda, Arc<Host>)> {
    let host = Host::with_libraries(Architecture::new(9, 0), Some((number, libraries.into())))?;
    Some((Cuda::with_driver(host.clone(), host::directory().join("kernels"), mode).unwrap(), host))
}

/// How often the library of that name computed something, in the ordinary and in the fast way.
fn calls(directory: &Path, name: &str) -> [i32; 2] {
    // SAFETY: the file is open already, so that this is the same library; the functions have no arguments.
    unsafe {
        let library = Library::new(directory.join(name)).unwrap();
        ["ig_calls", "ig_fast_calls"].map(|f| library.get::<unsafe extern "C" fn() -> i32>(f.as_bytes()).unwrap()())
    }
}

fn products(ctx: &Dyn, dtype: DType) -> Result<Vec<Tensor>> {
    let (a, b) = (numbers(ctx, &[2, 5, 7], dtype, 1)?, numbers(ctx, &[2, 7, 4], dtype, 2)?);
    let (c, d) = (numbers(ctx, &[7, 5], dtype, 3)?, numbers(ctx, &[4, 7], dtype, 4)?);
    Ok(vec![a.matmul(&b)?, c.t()?.matmul(&d.t()?)?, a.matmul(&d.t()?)?, d.matmul(&c)?])
}

fn convolutions(ctx: &Dyn, dtype: DType) -> Result<Vec<Tensor>> {
    let mut all = Vec::new();
    for (image, weight, stride, padding, dilation, groups) in [
        (&[2usize, 3, 9][..], &[4usize, 3, 3][..], 2, 1, 1, 1),
        (&[2, 4, 7, 6], &[6, 2, 3, 2], 1, 2, 2, 2),
        (&[1, 2, 4, 5, 3], &[3, 2, 2, 3, 1], 1, 0, 1, 1),
    ] {
        let (stride, padding, dilation) = (vec![stride], vec![padding], vec![dilation]);
        let options = ConvOptions { stride, padding, dilation, groups, ..Default::default() };
        let (x, w) = (numbers(ctx, image, dtype, 1)?, numbers(ctx, weight, dtype, 2)?);
        x.attach_grad()?;
        w.attach_grad()?;
        let y = autograd::record(|| x.conv(&w, None, &options))?;
        y.backward()?;
        all.extend([y.detach(), x.grad()?, w.grad()?]);
    }
    Ok(all)
}

#[test]
fn products_go_to_cublas_and_what_it_refuses_to_own_kernels() {
    let Some(directory) = stand_ins("cublas") else { return };
    let Some((cuda, host)) = device(0, &directory, Mode::Fast) else { return };
    for (dtype, expected) in [(DType::F32, 4), (DType::F64, 8), (DType::F16, 8)] {
        agrees(&format!("products of {dtype}"), &cuda, &|ctx| products(ctx, dtype));
        assert_eq!(calls(&directory, NAMES[0])[0], expected);
    }
    host.check_guards();
    fs::remove_dir_all(directory).unwrap();
}

/// A bias is added by cuBLASLt where operands lie as it wants them; other endings are maps over what cuBLAS gives.
#[test]
fn biases_are_added_by_cublas_lt() {
    let Some(directory) = stand_ins("cublas-lt") else { return };
    let Some((cuda, host)) = device(0, &directory, Mode::Fast) else { return };
    let linear = |ctx: &Dyn, dtype: DType, activation: bool| -> Result<Vec<Tensor>> {
        let end = Fused::new("ending", &[dtype; 2], 0, |x, _| {
            let sum = &x[0] + &x[1];
            if activation { sum.relu() } else { sum }
        })?;
        let (x, w) = (numbers(ctx, &[2, 5, 7], dtype, 1)?, numbers(ctx, &[4, 7], dtype, 2)?);
        let (right, bias) = (numbers(ctx, &[7, 4], dtype, 3)?, numbers(ctx, &[4], dtype, 4)?);
        Ok(vec![
            x.matmul_fused(&w.t()?, &end, &[&bias], &[])?,
            right.t()?.matmul_fused(
                &w.t()?.slice(1, Some(1), None, 1)?,
                &end,
                &[&bias.slice(0, Some(1), None, 1)?],
                &[],
            )?,
            right.t()?.matmul_fused(&w.t()?, &end, &[&bias], &[])?,
        ])
    };
    let mut expected = [0, 0];
    for (dtype, activation, more) in [
        // The second's operands do not begin where it wants them.
        (DType::F32, false, [2, 1]),
        (DType::F32, true, [0, 3]),
        // It has no f64; this stand-in no f16, nor has its cuBLAS.
        (DType::F64, false, [0, 3]),
        (DType::F16, false, [0, 0]),
    ] {
        agrees(&format!("linear layers of {dtype}, {activation}"), &cuda, &|ctx| linear(ctx, dtype, activation));
        expected = [expected[0] + more[0], expected[1] + more[1]];
        assert_eq!([calls(&directory, NAMES[3])[0], calls(&directory, NAMES[0])[0]], expected, "{dtype} {activation}");
    }
    host.check_guards();
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn convolutions_go_to_cudnn_by_algorithms_that_repeat_their_results() {
    let Some(directory) = stand_ins("cudnn") else { return };
    let Some((cuda, host)) = device(0, &directory, Mode::Fast) else { return };
    for (dtype, expected) in [(DType::F32, 9), (DType::F64, 18), (DType::F16, 18)] {
        agrees(&format!("convolutions of {dtype}"), &cuda, &|ctx| convolutions(ctx, dtype));
        assert_eq!(calls(&directory, NAMES[1]), [expected, 0]);
    }
    // Plans are kept.
    convolutions(&Dyn::new(cuda.clone()), DType::F32).unwrap();
    assert_eq!(calls(&directory, NAMES[1]), [27, 0]);
    cuda.set_deterministic(false).unwrap();
    agrees("convolutions by fast algorithms", &cuda, &|ctx| convolutions(ctx, DType::F32));
    assert_eq!(calls(&directory, NAMES[1]), [27, 9]);
    host.check_guards();
    fs::remove_dir_all(directory).unwrap();
}

/// The parameters after four steps of training; all but the first captured once and replayed, or none.
pub(super) fn trained(cuda: &Cuda, captured: bool) -> Result<Vec<f32>> {
    let ctx = Dyn::new(cuda.clone());
    let mut net = Sequential::new();
    net.add(Conv2D::new(2, 3).in_channels(1)).add(BatchNorm::new().in_channels(2)).add(Dense::new(3).in_units(18));
    net.initialize(Normal { sigma: 0.1 }, &ctx)?;
    for (k, (_, parameter)) in net.collect_params().iter().enumerate() {
        let shape = parameter.data()?.shape().clone();
        parameter.set_data(&numbers(&ctx, &shape, DType::F32, k)?)?;
    }
    let batch = numbers(&ctx, &[4, 1, 5, 5], DType::F32, 9)?;
    let classes = Tensor::from_slice(&ctx, &[0i64, 2, 1, 2], [4])?;
    let sgd = SGD { momentum: 0.9, ..SGD::new(0.125) };
    let mut trainer = Trainer::new(net.collect_params(), sgd)?;
    let mut step = || {
        let loss = SoftmaxCrossEntropyLoss::default();
        autograd::record(|| loss.loss(&net.forward(&batch)?, &classes))?.backward()?;
        trainer.step(4)
    };
    step()?;
    match captured {
        false => (0..3).try_for_each(|_| step())?,
        true => {
            let graph = cuda.capture(&mut step)?;
            (0..3).try_for_each(|_| graph.replay())?;
        }
    }
    let values = net.collect_params().iter().map(|(_, p)| p.data()?.to_vec()).collect::<Result<Vec<_>>>()?;
    Ok(values.concat())
}

/// A training step that is captured once and replayed gives what it gives step by step.
#[test]
fn a_training_step_is_captured_and_replayed() {
    let Some(host) = Host::new(Architecture::new(9, 0)) else { return };
    let cuda = Cuda::with_driver(host.clone(), host::directory().join("kernels"), Mode::Exact).unwrap();
    let (step_by_step, replayed) = (trained(&cuda, false).unwrap(), trained(&cuda, true).unwrap());
    assert!(step_by_step.iter().all(|v| v.is_finite()));
    assert_eq!(step_by_step, replayed);
    host.check_guards();
}

/// What five steps leave, of a network with dropout that Adam trains, with other random numbers between them, and a learning
/// rate that is set meanwhile: parameters, the numbers, the trainer's updates, the state of the generator. Steps 2 to 4 are
/// replays if `captured`.
fn went_on(cuda: &Cuda, captured: bool) -> Result<(Vec<f32>, u64, (u64, u64))> {
    let ctx = Dyn::new(cuda.clone());
    let mut net = Sequential::new();
    net.add(Dense::new(40).in_units(4)).add(Dropout::new(0.5)).add(Dense::new(3).in_units(40));
    net.initialize(Normal { sigma: 0.1 }, &ctx)?;
    for (k, (_, parameter)) in net.collect_params().iter().enumerate() {
        let shape = parameter.data()?.shape().clone();
        parameter.set_data(&numbers(&ctx, &shape, DType::F32, k)?)?;
    }
    random::seed(5);
    let batch = numbers(&ctx, &[4, 4], DType::F32, 9)?;
    let mut trainer = Trainer::new(net.collect_params(), Scheduled::new(Adam::new(0.02), Schedule::factor(2, 0.5)))?;
    let step = |trainer: &mut Trainer| {
        let loss = autograd::record(|| net.forward(&batch)?.square()?.sum((), false))?;
        loss.backward()?;
        trainer.step(4)
    };
    step(&mut trainer)?;
    let graph = if captured { Some(cuda.capture(|| step(&mut trainer))?) } else { None };
    let mut left = Vec::new();
    for k in 0..3 {
        if k == 1 {
            trainer.set_learning_rate(0.1);
        }
        graph.as_ref().map_or_else(|| step(&mut trainer), Graph::replay)?;
        left.extend(Tensor::normal(&ctx, [2], 0.0, 1.0, DType::F32)?.to_vec::<f32>()?);
    }
    step(&mut trainer)?;
    for (_, parameter) in net.collect_params().iter() {
        left.extend(parameter.data()?.to_vec::<f32>()?);
    }
    Ok((left, trainer.updates(), random::state()))
}

/// Masks of dropout, the correction of Adam's moments, counts and learning rates are not those of the step that was captured.
#[test]
fn replays_are_steps_like_others() {
    let Some(host) = Host::new(Architecture::new(9, 0)) else { return };
    let cuda = Cuda::with_driver(host.clone(), host::directory().join("kernels"), Mode::Exact).unwrap();
    let (step_by_step, replayed) = (went_on(&cuda, false).unwrap(), went_on(&cuda, true).unwrap());
    assert_eq!(step_by_step.1, 5);
    assert_eq!(step_by_step, replayed);
    host.check_guards();
}

/// An index that is out of range only when a step is replayed is told by the wait after it.
#[test]
fn a_replay_tells_of_an_index_out_of_range() {
    let Some(host) = Host::new(Architecture::new(9, 0)) else { return };
    let cuda = Cuda::with_driver(host.clone(), host::directory().join("kernels"), Mode::Exact).unwrap();
    let ctx = Dyn::new(cuda.clone());
    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3]).unwrap();
    let index = Tensor::from_slice(&ctx, &[0i64, 1], [2]).unwrap();
    let out = Tensor::zeros(&ctx, [2], DType::F32).unwrap();
    let step = || out.assign(&x.gather(0, &index)?);
    step().unwrap();
    let graph = cuda.capture(step).unwrap();
    cuda.synchronize().unwrap();
    for _ in 0..2 {
        index.assign_slice(&[2i64, 9]).unwrap();
        graph.replay().unwrap();
        let error = cuda.synchronize().unwrap_err();
        assert!(matches!(error, Error::IndexOutOfRange { op: "gather", index: 9, size: 3, .. }), "{error}");
        index.assign_slice(&[2i64, 1]).unwrap();
        graph.replay().unwrap();
        assert_eq!(out.to_vec::<f32>().unwrap(), [3.0, 2.0]);
    }
}

/// The libraries of a future version, whose functions have other names, and files that are none.
#[test]
fn other_libraries_of_those_names_are_passed_over() {
    let Some(other) = directory("other-libraries", "int of_another_version(void) { return 0; }") else { return };
    let broken = crate::temporary_directory("broken-libraries");
    NAMES.iter().for_each(|name| fs::write(broken.join(name), "not a library").unwrap());
    for directory in [other, broken] {
        let devices = [0, 1].map(|number| device(number, &directory, Mode::Fast));
        let [Some((cuda, _)), Some((second, _))] = devices else { return };
        agrees("products", &cuda, &|ctx| products(ctx, DType::F32));
        agrees("convolutions", &cuda, &|ctx| convolutions(ctx, DType::F32));
        let parts = [&cuda, &second].map(|c| numbers(&Dyn::new(c.clone()), &[3], DType::F32, 1).unwrap());
        assert!(!Tensor::all_reduce(&parts).unwrap());
        fs::remove_dir_all(directory).unwrap();
    }
}

/// The parameters after two steps of training, on each of the devices.
pub(super) fn trained_on(contexts: &[Dyn]) -> Result<Vec<Vec<f32>>> {
    let mut net = Sequential::new();
    net.add(Dense::new(3).in_units(4)).add(Dense::new(2).in_units(3));
    net.initialize(Normal { sigma: 0.0 }, contexts)?;
    for (k, (_, parameter)) in net.collect_params().iter().enumerate() {
        let shape = parameter.data()?.shape().clone();
        parameter.set_data(&numbers(&contexts[0], &shape, DType::F32, k)?)?;
    }
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.25))?;
    let batch = numbers(&contexts[0], &[4, 4], DType::F32, 9)?;
    for _ in 0..2 {
        let parts = isograd_nn::parallel::split_and_load(&batch, contexts, 0, true)?;
        let losses =
            autograd::record(|| parts.iter().map(|x| net.forward(x)?.sum((), false)).collect::<Result<Vec<Tensor>>>())?;
        losses.iter().try_for_each(Tensor::backward)?;
        trainer.step(4)?;
    }
    let parameters = net.collect_params();
    let of = |device: usize| {
        let values = parameters.iter().map(|(_, p)| p.list_data()?[device].to_vec::<f32>());
        Ok(values.collect::<Result<Vec<_>>>()?.concat())
    };
    (0..contexts.len()).map(of).collect()
}

/// A sum of two has one order; that of more is NCCL's own, which is for fast contexts.
#[test]
fn more_than_two_exact_devices_are_not_added_by_nccl() {
    let Some(directory) = stand_ins("nccl-order") else { return };
    for (count, mode, expected) in
        [(2, Mode::Exact, true), (3, Mode::Exact, false), (2, Mode::Fast, true), (3, Mode::Fast, true)]
    {
        let devices: Option<Vec<_>> = (0..count).map(|number| device(number, &directory, mode)).collect();
        let Some(devices) = devices else { return };
        let of = |(cuda, _): &(Cuda, Arc<Host>)| numbers(&Dyn::new(cuda.clone()), &[3], DType::F32, 1).unwrap();
        let parts: Vec<Tensor> = devices.iter().map(of).collect();
        let before = parts[0].to_vec::<f32>().unwrap();
        assert_eq!(Tensor::all_reduce(&parts).unwrap(), expected, "{count} {mode:?}");
        let times = if expected { count as f32 } else { 1.0 };
        let after: Vec<f32> = before.iter().map(|v| v * times).collect();
        parts.iter().for_each(|part| assert_eq!(part.to_vec::<f32>().unwrap(), after));
    }
    fs::remove_dir_all(directory).unwrap();
}

/// Two devices train as one does on the whole batch; their gradients are added up by NCCL, and the new values copied
/// from the first device to the second.
#[test]
fn several_devices_train_by_nccl_and_copies_between_them() {
    let Some(directory) = stand_ins("nccl") else { return };
    let devices = [0, 1].map(|number| device(number, &directory, Mode::Fast));
    let [Some((first, _)), Some((second, host))] = devices else { return };
    let contexts = [Dyn::new(first), Dyn::new(second)];
    let alone = trained_on(&contexts[..1]).unwrap().remove(0);
    assert_eq!(calls(&directory, NAMES[2])[0], 0);
    let together = trained_on(&contexts).unwrap();
    // Four parameters, two steps.
    assert_eq!(calls(&directory, NAMES[2])[0], 8);
    assert!(host.copies.load(Ordering::Relaxed) > 8);
    assert_eq!(together, [alone.clone(), alone]);
    host.check_guards();
    fs::remove_dir_all(directory).unwrap();
}
