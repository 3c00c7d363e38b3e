//! What must hold beyond numbers: sharing, newness, writing in place, errors, threads, many allocations.

use crate::case::{Case, Checked, Environment, Failure, Measured};
use isograd_core::{
    Backend, DType, Dyn, Error, Result, Tensor, autograd,
    operators::{ConvOptions, PadMode, PoolOptions, random},
};
use isograd_reference::Reference;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

type Check = fn(&Environment<'_>) -> Result<(), Failure>;

pub(crate) fn cases() -> Vec<Case> {
    let rows: &[(&str, Check)] = &[
        ("sharing", sharing),
        ("in_place", in_place),
        ("transfers", transfers),
        ("errors", errors),
        ("sizes", sizes),
        ("bounds", bounds),
        ("ceil_mode", ceil_mode),
        ("threads", threads),
        ("tasks", tasks),
        ("many_allocations", many_allocations),
        ("out_of_memory", out_of_memory),
        ("equality", equality),
    ];
    (rows.iter())
        .map(|&(name, f)| Case {
            name: format!("semantics_{name}"),
            dtypes: vec![DType::F32],
            computes: true,
            repeatable: false,
            run: Box::new(move |e| -> Checked { f(e).map(|()| Measured::default()) }),
        })
        .collect()
}

fn must(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new("", format!("it does not hold that {what}"))) }
}

fn three(ctx: &Dyn) -> Result<Tensor> {
    Tensor::from_slice(ctx, &[1.0f32, 2.0, 3.0], [3])
}

fn sharing(e: &Environment<'_>) -> Result<(), Failure> {
    let x = three(e.ctx)?;
    must(x.as_in_context(e.ctx)?.shares_memory_with(&x), "as_in_context shares memory on the same context")?;
    let copy = x.copyto(e.ctx)?;
    must(!copy.shares_memory_with(&x), "copyto makes new memory")?;
    x.slice(0, Some(1), None, 1)?.fill(7)?;
    must(x.to_vec::<f32>()? == [1.0, 7.0, 7.0], "a slice shares memory")?;
    must(copy.to_vec::<f32>()? == [1.0, 2.0, 3.0], "a copy keeps its elements when the source is written")?;
    let there: Tensor = x.copyto(&Dyn::new(Reference))?;
    must(there.copyto(e.ctx)?.to_vec::<f32>()? == [1.0, 7.0, 7.0], "a copy to another backend and back is the same")
}

fn in_place(e: &Environment<'_>) -> Result<(), Failure> {
    let x = three(e.ctx)?;
    let handle = x.clone();
    x.assign(&Tensor::from_slice(e.ctx, &[4.0f32, 5.0, 6.0], [3])?)?;
    must(handle.to_vec::<f32>()? == [4.0, 5.0, 6.0], "every handle sees what was assigned")?;
    // The source overlaps the target.
    x.slice(0, Some(1), None, 1)?.assign(&x.slice(0, None, Some(2), 1)?)?;
    must(x.to_vec::<f32>()? == [4.0, 4.0, 5.0], "an overlapping source is read before it is written")?;
    x.assign(&x.flip(0)?)?;
    must(x.to_vec::<f32>()? == [5.0, 4.0, 4.0], "a reversed source is read before it is written")?;
    x.attach_grad()?;
    let y = autograd::record(|| x.square())?;
    must(matches!(y.fill(1.0), Err(Error::InPlaceOnRecorded { .. })), "writing what was recorded is an error")?;
    x.fill(2.0)?;
    must(matches!(y.backward(), Err(Error::SavedTensorModified { .. })), "a saved tensor that was written is an error")
}

fn transfers(e: &Environment<'_>) -> Result<(), Failure> {
    let bytes: Vec<u8> = (0..=255).collect();
    let mut buffer = e.ctx.alloc(256)?;
    e.ctx.upload(&bytes, &mut buffer, 0)?;
    e.ctx.upload(&[9, 8, 7], &mut buffer, 13)?;
    let mut part = [0u8; 7];
    e.ctx.download(&buffer, 11, &mut part)?;
    must(part == [11, 12, 9, 8, 7, 16, 17], "uploads and downloads start at any byte")?;
    let mut other = e.ctx.alloc(256)?;
    e.ctx.upload(&[1; 256], &mut other, 0)?;
    e.ctx.copy_from(e.ctx, &buffer, &mut other, 100)?;
    let mut all = [0u8; 256];
    e.ctx.download(&other, 0, &mut all)?;
    must(all[..13] == bytes[..13] && all[16..100] == bytes[16..100], "copy_from copies")?;
    must(all[100..] == [1; 156], "copy_from copies no more than it is told")?;
    let mut again = e.ctx.alloc(256)?;
    e.ctx.upload(&[3; 256], &mut again, 0)?;
    e.ctx.download(&buffer, 0, &mut all)?;
    must(all[..13] == bytes[..13], "buffers that live at once share no memory")
}

fn errors(e: &Environment<'_>) -> Result<(), Failure> {
    let x = three(e.ctx)?;
    let other = Tensor::ones(e.ctx, [4], DType::F32)?;
    must(matches!(x.add(&other), Err(Error::ShapeMismatch { .. })), "shapes that do not fit are an error")?;
    if e.ctx.capabilities().computes.contains(DType::I64) {
        let i = x.cast(DType::I64)?;
        must(matches!(x.add(&i), Err(Error::DTypeMismatch { .. })), "dtypes that differ are an error")?;
        must(matches!(i.exp(), Err(Error::UnsupportedDType { .. })), "exp of integers is an error")?;
    }
    must(matches!(x.sum(1, false), Err(Error::AxisOutOfRange { .. })), "an axis outside the rank is an error")?;
    must(matches!(x.backward(), Err(Error::NotRecorded { .. })), "backward of what was not recorded is an error")?;
    must(matches!(x.grad(), Err(Error::NoGradient { .. })), "a missing gradient is an error")?;
    for dtype in DType::ALL {
        if !e.ctx.capabilities().stores.contains(dtype) {
            must(
                matches!(Tensor::zeros(e.ctx, [1], dtype), Err(Error::UnsupportedDType { .. })),
                "a dtype that the device does not store is an error",
            )?;
        }
    }
    must(x.exp()?.size() == 3, "the context works after errors")
}

/// Sizes far beyond any memory are errors, and the context works after them.
fn sizes(e: &Environment<'_>) -> Result<(), Failure> {
    let (x, image) = (three(e.ctx)?, Tensor::ones(e.ctx, [1, 1, 5], DType::F32)?);
    let weight = Tensor::ones(e.ctx, [1, 1, 2], DType::F32)?;
    let conv = |stride, padding, dilation| ConvOptions {
        stride: vec![stride],
        padding: vec![padding],
        dilation: vec![dilation],
        ..ConvOptions::default()
    };
    for n in [1 << 48, 1 << 62, 1 << 63, usize::MAX] {
        let pool = PoolOptions { padding: vec![n - 1], ceil_mode: true, ..PoolOptions::new(&[n]) };
        let results = [
            Tensor::zeros(e.ctx, [n, 3], DType::F32),
            Tensor::uniform(e.ctx, [3, n], 0.0, 1.0, DType::F32),
            x.pad(&[(n, 0)], PadMode::Constant(0.0)),
            x.pad(&[(1, n)], PadMode::Edge),
            x.tile(&[n, n]),
            x.repeat(n, 0),
            x.broadcast_to([n, n, 3]),
            x.broadcast_to([1 << 30, 1 << 28, 3])?.neg(),
            image.conv(&weight, None, &conv(1, n, 1)),
            image.conv(&weight, None, &conv(1, 0, n)),
            image.conv_transpose(&weight, None, &conv(n, 0, 1)),
            image.max_pool(&pool),
            image.avg_pool(&pool),
            image.adaptive_avg_pool(&[n]),
        ];
        for (k, result) in results.into_iter().enumerate() {
            let known = |e: Error| {
                matches!(e, Error::OutOfMemory { .. } | Error::InvalidShape { .. } | Error::InvalidArgument { .. })
            };
            must(result.is_err_and(known), &format!("result {k} of size {n} is an error"))?;
        }
        let one = image.conv(&weight, None, &conv(n, 0, 1))?;
        must(one.to_vec::<f32>()? == [2.0], "a stride beyond the input leaves one window")?;
        let one = image.max_pool(&PoolOptions { stride: vec![n], ceil_mode: true, ..PoolOptions::new(&[2]) })?;
        must(one.to_vec::<f32>()? == [1.0], "a stride beyond the input leaves one window")?;
    }
    must(x.exp()?.size() == 3, "the context works after errors")
}

/// Ranges and random numbers at the ends of what was asked for.
fn bounds(e: &Environment<'_>) -> Result<(), Failure> {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        if !e.ctx.capabilities().computes.contains(dtype) {
            continue;
        }
        random::seed(e.seed);
        let x = Tensor::uniform(e.ctx, [1 << 14], 1.0, 2.0, dtype)?.to_values()?;
        must(x.iter().all(|v| (1.0..2.0).contains(&v.to_f64())), &format!("uniform {dtype} stays below its bound"))?;
    }
    // Between these f32 has no number.
    let edge = f64::from(1 << 23);
    let x = Tensor::uniform(e.ctx, [64], edge, edge + 1.0, DType::F32)?.to_vec::<f32>()?;
    must(x.iter().all(|&v| f64::from(v) == edge), "uniform rounds to no bound")?;
    let step = Tensor::linspace(e.ctx, f64::from(f32::MIN), f64::from(f32::MAX), 5, DType::F32)?.to_vec::<f32>()?;
    must(step == [f32::MIN, f32::MIN / 2.0, 0.0, f32::MAX / 2.0, f32::MAX], "linspace reaches both ends of f32")?;
    if e.ctx.capabilities().computes.contains(DType::I64) {
        for (low, high) in [(0, i64::MAX), (i64::MIN, i64::MAX), (-3, 1 << 40)] {
            let x = Tensor::randint(e.ctx, [512], low, high, DType::I64)?.to_vec::<i64>()?;
            must(x.iter().all(|v| (low..high).contains(v)), "randint stays within its range")?;
            let middle = (i128::from(low) + i128::from(high)) / 2;
            let above = x.iter().filter(|&&v| i128::from(v) >= middle).count();
            must((190..322).contains(&above), "randint reaches both halves of its range")?;
        }
        let down = Tensor::arange(e.ctx, 5, -1, -2, DType::U8)?.to_vec::<u8>()?;
        must(down == [5, 3, 1], "arange goes down in u8")?;
    }
    must(
        matches!(Tensor::arange(e.ctx, 200, 260, 1, DType::U8), Err(Error::ScalarOutOfRange { .. })),
        "a range beyond its dtype is an error",
    )
}

/// Known values of pooling that rounds the number of windows up.
fn ceil_mode(e: &Environment<'_>) -> Result<(), Failure> {
    let x = Tensor::from_slice(e.ctx, &(0..25).map(|i| i as f32 - 30.0).collect::<Vec<_>>(), [1, 1, 5, 5])?;
    let o = PoolOptions { stride: vec![2], padding: vec![1], ceil_mode: true, ..PoolOptions::new(&[2]) };
    let shaped = |y: &Tensor| y.shape()[..] == [1, 1, 3, 3];
    let max = x.max_pool(&o)?;
    let largest = [0.0, 2.0, 4.0, 10.0, 12.0, 14.0, 20.0, 22.0, 24.0].map(|v| v - 30.0f32);
    must(shaped(&max) && max.to_vec::<f32>()? == largest, "a window behind the input is dropped from max_pool")?;
    let mean = x.avg_pool(&PoolOptions { count_include_pad: false, ..o })?;
    let means = [0.0, 1.5, 3.5, 7.5, 9.0, 11.0, 17.5, 19.0, 21.0].map(|v| v - 30.0f32);
    must(shaped(&mean) && mean.to_vec::<f32>()? == means, "a window behind the input is dropped from avg_pool")
}

fn threads(e: &Environment<'_>) -> Result<(), Failure> {
    let shared = Tensor::from_slice(e.ctx, &(0..2000).map(|i| i as f32).collect::<Vec<_>>(), [2000])?;
    let results: Vec<Result<bool>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|t| {
                let shared = shared.clone();
                scope.spawn(move || -> Result<bool> {
                    let mut right = true;
                    for i in 0..20 {
                        let y = shared.add_scalar(t * 100 + i)?.mul_scalar(2)?;
                        let expected = |k: usize| (k as i32 + t * 100 + i) as f32 * 2.0;
                        right &= y.to_vec::<f32>()?.iter().enumerate().all(|(k, &v)| v == expected(k));
                        // Positions and sums in other kernels, at the same time.
                        right &= shared.max((), false)?.asscalar::<f32>()? == 1999.0;
                    }
                    Ok(right)
                })
            })
            .collect();
        let lost = || Err(Error::invalid("thread", "it panicked"));
        workers.into_iter().map(|w| w.join().unwrap_or_else(|_| lost())).collect()
    });
    for right in results {
        must(right?, "threads that share a context do not disturb each other")?;
    }
    Ok(())
}

/// Kernels in the tasks of a pool whose threads take up other tasks where they wait.
fn tasks(e: &Environment<'_>) -> Result<(), Failure> {
    // Enough that a device cuts its kernels.
    let (x, seen) = (Tensor::zeros(e.ctx, [1 << 18], DType::F32)?, Arc::new(AtomicUsize::new(0)));
    let (done, wait) = channel();
    // A circle of tasks that wait for one another must not hold up the suite: their threads are left behind.
    let (shared, other) = (x.clone(), seen.clone());
    std::thread::spawn(move || {
        let pool = rayon_core::ThreadPoolBuilder::new().num_threads(4).build().expect("four threads");
        let failure = Mutex::new(Ok(()));
        pool.scope(|scope| {
            for i in 0..160 {
                let (x, seen, failure) = (&shared, &other, &failure);
                let task = move || {
                    x.fill(1)?;
                    if i % 2 == 0 {
                        return autograd::record(|| x.exp().map(drop));
                    }
                    seen.fetch_add(autograd::is_recording() as usize, Ordering::Relaxed);
                    x.exp().map(drop)
                };
                scope.spawn(move |_| {
                    if let Err(e) = task() {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Err(e);
                    }
                });
            }
        });
        let _ = done.send(failure.into_inner().unwrap_or_else(PoisonError::into_inner));
    });
    match wait.recv_timeout(Duration::from_secs(300)) {
        Ok(result) => result?,
        Err(_) => return must(false, "tasks that use one tensor end"),
    }
    must(seen.load(Ordering::Relaxed) == 0, "a task does not record because another does")?;
    must(x.sum((), false)?.asscalar::<f32>()? == x.size() as f32, "what tasks wrote is there")
}

fn many_allocations(e: &Environment<'_>) -> Result<(), Failure> {
    let mut x = three(e.ctx)?;
    for i in 0..300 {
        let big = Tensor::full(e.ctx, [600], i % 100, DType::F32)?;
        let last = big.slice(0, Some(-1), None, 1)?.asscalar::<f32>()?;
        must(last == (i % 100) as f32, "memory that is used again holds the new elements")?;
        x = x.mul_scalar(1)?;
    }
    must(x.to_vec::<f32>()? == [1.0, 2.0, 3.0], "what lives is not overwritten")?;
    let (steps, page, before) = (10_000, [7; 4096], resident());
    for _ in 0..steps {
        let mut buffer = e.ctx.alloc(page.len())?;
        e.ctx.upload(&page, &mut buffer, 0)?;
    }
    // All of it kept would be 40 MiB.
    must(resident().saturating_sub(before) < steps * page.len() / 2, "memory is released")?;
    // Steps as in training, the first of which compile kernels; one number each that is kept shows.
    let w = Tensor::full(e.ctx, [16, 16], 0.01, DType::F32)?;
    w.attach_grad()?;
    let x = Tensor::ones(e.ctx, [4, 16], DType::F32)?;
    let train = |steps: usize| -> Result<()> {
        for _ in 0..steps {
            let loss = autograd::record(|| x.matmul(&w)?.tanh()?.sum((), false))?;
            loss.backward()?;
        }
        e.ctx.synchronize()
    };
    train(100)?;
    let (steps, before) = (if cfg!(debug_assertions) { 1_000 } else { 10_000 }, resident());
    train(steps)?;
    must(resident().saturating_sub(before) < steps * 2048, "steps of training do not grow")
}

/// Resident memory of the process in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).map_or(0, |pages| pages * 4096)
}

fn out_of_memory(e: &Environment<'_>) -> Result<(), Failure> {
    for bytes in [isize::MAX as usize - 64, 1 << 60] {
        let refused = matches!(e.ctx.alloc(bytes), Err(Error::OutOfMemory { .. }));
        must(refused, "more memory than there is gives OutOfMemory")?;
    }
    must(three(e.ctx)?.exp()?.size() == 3, "the context works after memory ran out")
}

fn equality(e: &Environment<'_>) -> Result<(), Failure> {
    must(e.ctx.clone() == *e.ctx, "a clone of a context is that context")?;
    must(!e.ctx.name().is_empty(), "a context has a name")?;
    e.ctx.synchronize()?;
    let dynamic = Dyn::new(e.ctx.clone());
    let x = three(e.ctx)?.copyto(&dynamic)?;
    must(x.matmul(&x)?.asscalar::<f32>()? == 14.0, "it works behind Dyn")
}
