//! What the kernels of the first OpenCL device cost, as ratios: elementwise work against a copy kernel on the same device,
//! the matrix product and a step of LeNet against the CPU backend, all in one run.
//!
//! `cargo bench -p isograd-opencl` prints a line per kernel.

use isograd_core::{
    Backend, DType, ReduceOp, Window,
    backend::launch::{self, Temporary},
    expr::{Expr, Kernel, Program},
};
use isograd_cpu::Cpu;
use isograd_opencl::OpenCl;
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
    let program = Program::new("bench", &[root.clone()], &vec![DType::F32; inputs], &[]).unwrap();
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
        launch::reduce(ctx, ReduceOp::Sum, &kernel, layout.shape(), &[x.through(&layout)], &mut y.operand_mut()).unwrap();
        ctx.synchronize().unwrap();
    })
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
    for size in [[1024; 3], [256; 3], [64; 3], [32, 120, 400], [512, 512, 64], [1, 4096, 4096]] {
        let (mine, theirs) = (matmul(&ctx, size), matmul(&cpu, size));
        let flops = 2.0 * size.iter().product::<usize>() as f64;
        println!(
            "matmul {size:?}: {:.3} ms, {:.1} GFLOP/s, {:.0} % of the CPU backend's speed",
            mine * 1e3,
            flops / mine / 1e9,
            100.0 * theirs / mine
        );
    }
    for (x, k, padding) in [([32, 1, 28, 28], [16, 1, 5, 5], 2), ([32, 16, 14, 14], [32, 16, 5, 5], 0)] {
        let (mine, theirs) = (conv(&ctx, x, k, padding), conv(&cpu, x, k, padding));
        for (name, i) in [("forward", 0), ("to input", 1), ("to weight", 2)] {
            println!("conv {x:?} {k:?} {name}: {:.2} ms, {:.2} times the CPU backend", mine[i] * 1e3, mine[i] / theirs[i]);
        }
    }
}
