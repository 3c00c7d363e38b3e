//! What the kernels of the first OpenCL device cost, as ratios: elementwise work against a copy kernel on the same device,
//! the matrix product and a step of LeNet against the CPU backend, all in one run.
//!
//! `cargo bench -p isograd-opencl` prints a line per kernel.

use isograd_core::{
    Backend, DType, ReduceOp, Result, Tensor, Window, autograd,
    backend::launch::{self, Temporary},
    expr::{Expr, Kernel, Program},
};
use isograd_cpu::Cpu;
use isograd_nn::{
    Activation, Block, Conv2D, Dense, Dropout, MaxPool2D, Parameters, Sequential, Trainer,
    initializers::Xavier,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::SGD,
};
use isograd_opencl::{OpenCl, Options};
use std::time::Instant;

/// The shortest of some runs, in seconds.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let rounds = (0.4 / start.elapsed().as_secs_f64().max(1e-9)).clamp(3.0, 1000.0) as usize;
    let run = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| run(&mut f)).fold(f64::INFINITY, f64::min)
}

fn array<B: Backend>(ctx: &B, shape: &[usize]) -> Temporary<B> {
    let mut t = Temporary::new(ctx, DType::F32, shape).unwrap();
    let e = (Expr::index() % Expr::constant(1013i64)).cast(DType::F32) * 1e-3 + 0.1;
    let program = Program::new("fill", &[e], &[], &[]).unwrap();
    launch::map(ctx, &Kernel::new(&program, &[]), &[], &mut [t.operand_mut()]).unwrap();
    t
}

/// Seconds of one run of `root` on `inputs` arrays of n numbers.
fn map<B: Backend>(ctx: &B, root: &Expr, inputs: usize, n: usize) -> f64 {
    let x: Vec<_> = (0..inputs).map(|_| array(ctx, &[n])).collect();
    let program = Program::new("bench", std::slice::from_ref(root), &vec![DType::F32; inputs], &[]).unwrap();
    let operands: Vec<_> = x.iter().map(Temporary::operand).collect();
    let mut y = Temporary::new(ctx, DType::F32, [n]).unwrap();
    time(|| {
        launch::map(ctx, &Kernel::new(&program, &[]), &operands, &mut [y.operand_mut()]).unwrap();
        ctx.synchronize().unwrap();
    })
}

fn matmul<B: Backend>(ctx: &B, [m, n, k]: [usize; 3]) -> f64 {
    let (a, b) = (array(ctx, &[m, k]), array(ctx, &[k, n]));
    let mut c = Temporary::new(ctx, DType::F32, [m, n]).unwrap();
    time(|| {
        ctx.matmul(&a.operand(), &b.operand(), &mut c.operand_mut()).unwrap();
        ctx.synchronize().unwrap();
    })
}

fn conv<B: Backend>(ctx: &B, x: [usize; 4], k: [usize; 4], padding: usize) -> [f64; 3] {
    let mut w = Window::new(&k[2..]);
    w.groups = x[1] / k[1];
    w.padding = [padding; 2][..].into();
    let y = [x[0], k[0], x[2] + 2 * padding - k[2] + 1, x[3] + 2 * padding - k[3] + 1];
    let (mut input, mut weight, mut head) = (array(ctx, &x), array(ctx, &k), array(ctx, &y));
    let forward = time(|| {
        ctx.conv(&w, &input.operand(), &weight.operand(), &mut head.operand_mut()).unwrap();
        ctx.synchronize().unwrap();
    });
    let to_input = time(|| {
        ctx.conv_input_gradient(&w, &head.operand(), &weight.operand(), &mut input.operand_mut()).unwrap();
        ctx.synchronize().unwrap();
    });
    let to_weight = time(|| {
        ctx.conv_weight_gradient(&w, &input.operand(), &head.operand(), &mut weight.operand_mut()).unwrap();
        ctx.synchronize().unwrap();
    });
    [forward, to_input, to_weight]
}

fn sum<B: Backend>(ctx: &B, shape: [usize; 2], transposed: bool, kept: usize) -> f64 {
    let x = array(ctx, &shape);
    let layout = if transposed { x.layout().permute(&[1, 0]) } else { x.layout().clone() };
    let program = Program::new("sum", &[Expr::input(0, DType::F32)], &[DType::F32], &[]).unwrap();
    let mut y = Temporary::new(ctx, DType::F32, &layout.shape()[..kept]).unwrap();
    time(|| {
        let kernel = Kernel::new(&program, &[]);
        launch::reduce(ctx, ReduceOp::Sum, &kernel, layout.shape(), &[x.through(&layout)], &mut y.operand_mut())
            .unwrap();
        ctx.synchronize().unwrap();
    })
}

/// A step of the network in `examples/lenet` on 32 pictures, ready to be repeated.
fn lenet<B: Backend>(ctx: &B) -> Result<impl FnMut() -> Result<f64>> {
    let mut net = Sequential::<B>::new();
    net.add(Conv2D::new(16, 5).padding(2).activation(Activation::Relu))
        .add(MaxPool2D::new(2))
        .add(Conv2D::new(32, 5).activation(Activation::Relu))
        .add(MaxPool2D::new(2))
        .add(Dropout::new(0.3))
        .add(Dense::new(120).activation(Activation::Relu))
        .add(Dense::new(84).activation(Activation::Relu))
        .add(Dense::new(10));
    net.initialize(Xavier::default(), ctx)?;
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.01).momentum(0.9).weight_decay(5e-4))?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    let images: Vec<f32> = (0..32 * 784).map(|i| (i % 255) as f32 / 128.0 - 1.0).collect();
    let images = Tensor::from_slice(ctx, &images, [32, 1, 28, 28])?;
    let labels = Tensor::from_slice(ctx, &(0..32).map(|i| i % 10).collect::<Vec<i64>>(), [32])?;
    Ok(move || {
        let loss = autograd::record(|| criterion.loss(&net.forward(&images)?, &labels))?;
        loss.backward()?;
        trainer.step(32)?;
        loss.sum((), false)?.asscalar::<f64>()
    })
}

/// The first step with an empty and with a filled cache, in contexts of their own.
fn first_steps() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for cache in ["empty", "filled"] {
        let ctx = OpenCl::separate(0, &Options { cache: Some(folder.path()), ..Options::default() })?;
        let mut step = lenet(&ctx)?;
        let start = Instant::now();
        step()?;
        println!("first LeNet step, {cache} cache: {:.2} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn main() {
    let ctx = match OpenCl::new(0) {
        Ok(ctx) => ctx,
        Err(e) => return println!("skipped: {e}"),
    };
    let cpu = Cpu::default();
    println!("{ctx:?}");
    const N: usize = 1 << 24;
    let [a, b, c] = [0, 1, 2].map(|k| Expr::input(k, DType::F32));
    let copied = map(&ctx, &a, 1, N);
    let bandwidth = 8.0 * N as f64 / copied;
    println!("copy kernel, 16 M f32: {:.2} ms, {:.1} GB/s", copied * 1e3, bandwidth / 1e9);
    let cases = [
        ("a+b", &a + &b, 2),
        ("a*b+c", &a * &b + &c, 3),
        ("relu", a.relu(), 1),
        ("sqrt", a.sqrt(), 1),
        ("exp", a.exp(), 1),
        ("tanh", a.tanh(), 1),
        ("log", a.log(), 1),
    ];
    for (name, root, inputs) in cases {
        let (mine, theirs) = (map(&ctx, &root, inputs, N), map(&cpu, &root, inputs, N));
        let got = 4.0 * (inputs + 1) as f64 * N as f64 / mine;
        println!(
            "map {name:>8}: {:6.2} ms, {:3.0} % of the copy's bandwidth, {:.2} times the CPU backend",
            mine * 1e3,
            100.0 * got / bandwidth,
            mine / theirs
        );
    }
    for (name, shape, transposed, kept) in
        [("all", [1, N], false, 0), ("rows", [4096, 4096], false, 1), ("columns", [4096, 4096], true, 1)]
    {
        let (mine, theirs) = (sum(&ctx, shape, transposed, kept), sum(&cpu, shape, transposed, kept));
        println!("sum {name:>8}: {:6.2} ms, {:.2} times the CPU backend", mine * 1e3, mine / theirs);
    }
    for size in [[1024; 3], [256; 3], [64; 3], [32, 120, 400], [512, 512, 64], [1, 4096, 4096], [4096, 1, 4096]] {
        let (mine, theirs) = (matmul(&ctx, size), matmul(&cpu, size));
        let flops = 2.0 * size.iter().product::<usize>() as f64;
        println!(
            "matmul {size:?}: {:.3} ms, {:.1} GFLOP/s, {:.0} % of the CPU backend's speed",
            mine * 1e3,
            flops / mine / 1e9,
            100.0 * theirs / mine
        );
    }
    // The last one is depthwise.
    let convolutions = [
        ([32, 1, 28, 28], [16, 1, 5, 5], 2),
        ([32, 16, 14, 14], [32, 16, 5, 5], 0),
        ([8, 64, 28, 28], [64, 1, 3, 3], 1),
    ];
    for (x, k, padding) in convolutions {
        let (mine, theirs) = (conv(&ctx, x, k, padding), conv(&cpu, x, k, padding));
        for (name, i) in [("forward", 0), ("to input", 1), ("to weight", 2)] {
            println!(
                "conv {x:?} {k:?} {name}: {:.2} ms, {:.2} times the CPU backend",
                mine[i] * 1e3,
                mine[i] / theirs[i]
            );
        }
    }
    let (mut mine, mut theirs) = (lenet(&ctx).unwrap(), lenet(&cpu).unwrap());
    let seconds = |step: &mut dyn FnMut() -> Result<f64>| {
        time(|| {
            step().unwrap();
        })
    };
    let (mine, theirs) = (seconds(&mut mine), seconds(&mut theirs));
    println!("LeNet step: {:.2} ms, {:.2} times the CPU backend", mine * 1e3, mine / theirs);
    first_steps().unwrap();
}
