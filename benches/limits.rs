//! What operators cost, against their own limit, measured in the same run.
//!
//! `cargo bench --bench limits` prints a table of ratios: memory-bound operators against a plain copy loop of the same
//! bytes on as many threads, the matrix product against the library beneath called directly, small operators against the
//! times that other frameworks publish. Each figure is the median of many interleaved runs, so that a slow moment of the
//! machine strikes both sides. To add a case: a line in `main`.

use isograd::{Backend, Cpu, DType, Dyn, Result, Tensor, autograd, operators::Fused};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const N: usize = 10_000_000;

/// Medians of the times of `ours` and `limit`, run in turn.
fn race(rounds: usize, mut ours: impl FnMut(), mut limit: impl FnMut()) -> (Duration, Duration) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours();
        limit();
    }
    for _ in 0..rounds {
        let start = Instant::now();
        ours();
        a.push(start.elapsed());
        let start = Instant::now();
        limit();
        b.push(start.elapsed());
    }
    a.sort();
    b.sort();
    (a[rounds / 2], b[rounds / 2])
}

/// Time of one call of `f`: the median over batches of many.
fn time(f: impl Fn()) -> Duration {
    let calls = 2_000u32;
    (0..calls).for_each(|_| f());
    let mut batches: Vec<Duration> = (0..31)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| f());
            start.elapsed() / calls
        })
        .collect();
    batches.sort();
    batches[15]
}

/// Copies on as many threads as the backend uses, one part each.
fn copy(threads: usize, from: &[f32], to: &mut [f32]) {
    let part = from.len().div_ceil(threads);
    std::thread::scope(|s| {
        for (x, y) in from.chunks(part).zip(to.chunks_mut(part)) {
            s.spawn(move || y.iter_mut().zip(x).for_each(|(y, x)| *y = *x));
        }
    });
}

fn memory_bound(ctx: &Cpu, name: &str, tensors: usize, goal: f64, f: impl Fn() -> Result<Tensor<Cpu>>) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // A copy moves two bytes for each byte copied; the operator moves `tensors` arrays of N.
    let elements = N * tensors / 2;
    let from = vec![1.0f32; elements];
    let mut to = vec![0.0f32; elements];
    f()?;
    let (ours, limit) = race(
        25,
        || {
            black_box(f().and_then(|t| ctx.synchronize().map(|()| t)).expect("the operator runs"));
        },
        || {
            copy(threads, &from, &mut to);
            black_box(&to);
        },
    );
    let gigabytes = |t: Duration| (N * tensors * 4) as f64 / t.as_secs_f64() / 1e9;
    let ratio = limit.as_secs_f64() / ours.as_secs_f64();
    println!(
        "{name:<34} {:>8.2} GB/s {:>8.2} GB/s copy   {:>5.0} %  (goal {:.0} %)",
        gigabytes(ours),
        gigabytes(limit),
        ratio * 100.0,
        goal * 100.0
    );
    Ok(())
}

fn small<B: Backend>(name: &str, ctx: &B) -> Result<()> {
    let a = Tensor::from_slice(ctx, &[1.0f32, 2.0, 3.0, 4.0], [4])?;
    let b = a.copy()?;
    let add = time(|| {
        black_box(a.add(&b).expect("shapes agree"));
    });
    println!(
        "{name:<34} {:>8} ns  add of 4 elements          (goal 250; candle 278, Burn 575, PyTorch 2570)",
        add.as_nanos()
    );
    let x = Tensor::normal(ctx, [1, 4], 0.0, 1.0, DType::F32)?;
    let parameters = [
        Tensor::normal(ctx, [8, 4], 0.0, 1.0, DType::F32)?,
        Tensor::zeros(ctx, [8], DType::F32)?,
        Tensor::normal(ctx, [2, 8], 0.0, 1.0, DType::F32)?,
        Tensor::zeros(ctx, [2], DType::F32)?,
    ];
    for p in &parameters {
        p.attach_grad()?;
    }
    let [w0, b0, w1, b1] = &parameters;
    let step = || -> Result<()> {
        let y = autograd::record(|| -> Result<_> {
            let h = x.matmul(&w0.t()?)?.add(b0)?.relu()?;
            h.matmul(&w1.t()?)?.add(b1)
        })?;
        y.backward()
    };
    let mlp = time(|| step().expect("shapes agree"));
    println!(
        "{name:<34} {:>8.2} µs  forward and backward 4-8-2 (goal 20; candle 22, Burn 29, PyTorch 268)",
        mlp.as_nanos() as f64 / 1e3
    );
    Ok(())
}

fn matmul(ctx: &Cpu, n: usize) -> Result<()> {
    let a = Tensor::normal(ctx, [n, n], 0.0, 1.0, DType::F32)?;
    let b = Tensor::normal(ctx, [n, n], 0.0, 1.0, DType::F32)?;
    let (x, y) = (a.to_vec::<f32>()?, b.to_vec::<f32>()?);
    let mut z = vec![0.0f32; n * n];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = n.div_ceil(threads);
    let (ours, library) = race(
        15,
        || {
            black_box(a.matmul(&b).expect("shapes agree"));
        },
        || {
            // The library on as many threads, each with its share of the rows.
            std::thread::scope(|s| {
                for (x, z) in x.chunks(rows * n).zip(z.chunks_mut(rows * n)) {
                    let y = &y;
                    s.spawn(move || direct(x.len() / n, n, x, y, z));
                }
            });
            black_box(&z);
        },
    );
    let flops = |t: Duration| 2.0 * (n as f64).powi(3) / t.as_secs_f64() / 1e9;
    println!(
        "{:<34} {:>8.1} GFLOP/s {:>6.1} library   {:>5.0} %  (goal 90 %)",
        format!("matmul {n}³ f32"),
        flops(ours),
        flops(library),
        library.as_secs_f64() / ours.as_secs_f64() * 100.0
    );
    Ok(())
}

fn direct(m: usize, n: usize, x: &[f32], y: &[f32], z: &mut [f32]) {
    let (rs, cs) = (n as isize, 1);
    assert!(x.len() >= m * n && y.len() >= n * n && z.len() >= m * n);
    // SAFETY: the slices hold m x n, n x n and m x n row-major elements, as asserted.
    unsafe { matrixmultiply::sgemm(m, n, n, 1.0, x.as_ptr(), rs, cs, y.as_ptr(), rs, cs, 0.0, z.as_mut_ptr(), rs, cs) }
}

fn main() -> Result<()> {
    let ctx = Cpu::default();
    let uniform = || Tensor::uniform(&ctx, [N], -1.0, 1.0, DType::F32);
    let (a, b, c) = (uniform()?, uniform()?, uniform()?);
    let multiply_add = Fused::new("multiply_add", &[DType::F32; 3], 0, |x, _| &x[0] * &x[1] + &x[2])?;
    println!("operators on 10 M f32, against a copy loop of the same bytes");
    memory_bound(&ctx, "a * b + c, fused", 4, 0.7, || multiply_add.call(&[&a, &b, &c], &[]))?;
    memory_bound(&ctx, "exp", 2, 0.5, || a.exp())?;
    memory_bound(&ctx, "tanh", 2, 0.5, || a.tanh())?;
    memory_bound(&ctx, "add", 3, 0.7, || a.add(&b))?;
    memory_bound(&ctx, "sum (reads one array)", 1, 0.7, || a.sum((), false))?;
    println!("\nsmall operators");
    small("Tensor<Cpu>", &ctx)?;
    small("Tensor<Dyn>", &Dyn::new(ctx.clone()))?;
    println!("\nmatrix products, against the library beneath on as many threads");
    matmul(&ctx, 256)?;
    matmul(&ctx, 1024)?;
    Ok(())
}
