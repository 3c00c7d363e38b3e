//! What the kernels cost, as a ratio: elementwise work against a plain copy of the same bytes on the same threads, the
//! matrix product against the library beneath, called directly.
//!
//! `cargo bench -p isograd-cpu` prints a line per kernel.

use isograd_core::{
    Backend, DType, Layout, ReduceOp, Window,
    backend::launch::{self, Temporary},
    expr::{Expr, Kernel, Program},
};
use isograd_cpu::Cpu;
use std::{hint::black_box, time::Instant};

/// The shortest of some runs, in seconds.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let rounds = (0.3 / start.elapsed().as_secs_f64().max(1e-9)).clamp(3.0, 1e6) as usize;
    let batch = if rounds > 1000 { rounds / 100 } else { 1 };
    let mut best = f64::INFINITY;
    for _ in 0..rounds / batch {
        let start = Instant::now();
        (0..batch).for_each(|_| f());
        best = best.min(start.elapsed().as_secs_f64() / batch as f64);
    }
    best
}

fn array(cpu: &Cpu, shape: &[usize]) -> Temporary<Cpu> {
    let mut t = Temporary::new(cpu, DType::F32, shape).unwrap();
    let layout = t.layout().clone();
    let e = (Expr::index() % Expr::constant(1013i64)).cast(DType::F32) * 1e-3 + 0.1;
    let program = Program::new("fill", &[e], &[], &[]).unwrap();
    launch::map(cpu, &Kernel::new(&program, &[]), &[], &mut [t.through_mut(&layout)]).unwrap();
    t
}

fn elementwise(cpu: &Cpu) {
    const N: usize = 10_000_000;
    let x = [array(cpu, &[N]), array(cpu, &[N]), array(cpu, &[N])];
    let [a, b, c] = [0, 1, 2].map(|k| Expr::input(k, DType::F32));
    // A copy of the same bytes: n inputs and one output are 4 (n + 1) bytes per element, a copy of m bytes moves 2 m.
    let copy = |bytes: usize| {
        let from = vec![1u8; bytes / 2];
        let mut to = vec![0u8; bytes / 2];
        let half = bytes / 4;
        time(|| {
            let (left, right) = to.split_at_mut(half);
            rayon_core::join(|| left.copy_from_slice(&from[..half]), || right.copy_from_slice(&from[half..]));
            black_box(&mut to);
        })
    };
    let cases = [
        ("a*b+c", &a * &b + &c, 3),
        ("a+b", &a + &b, 2),
        ("exp", a.exp(), 1),
        ("log", a.log(), 1),
        ("tanh", a.tanh(), 1),
        ("sigmoid", a.sigmoid(), 1),
        ("sin", a.sin(), 1),
        ("erf", a.erf(), 1),
        ("log1p", a.log1p(), 1),
        ("pow", a.pow(&b), 2),
        ("sqrt", a.sqrt(), 1),
    ];
    for (name, root, inputs) in cases {
        let program = Program::new(name, &[root], &vec![DType::F32; inputs], &[]).unwrap();
        let operands: Vec<_> = x[..inputs].iter().map(Temporary::operand).collect();
        let seconds = time(|| {
            let mut y = Temporary::new(cpu, DType::F32, [N]).unwrap();
            launch::map(cpu, &Kernel::new(&program, &[]), &operands, &mut [y.operand_mut()]).unwrap();
        });
        let bytes = 4 * N * (inputs + 1);
        let plain = copy(bytes);
        println!(
            "{name:>12} 10M f32: {:7.2} ms, {:5.1} GB/s, {:3.0} % of a copy's bandwidth",
            seconds * 1e3,
            bytes as f64 / seconds / 1e9,
            100.0 * plain / seconds
        );
    }
    let program = Program::new("sum", &[a], &[DType::F32], &[]).unwrap();
    for (name, shape, axes) in
        [("sum all", vec![N], 0), ("sum rows", vec![10_000, 1000], 1), ("sum columns", vec![10_000, 1000], 1)]
    {
        let mut layout = Layout::contiguous(&shape[..]);
        if name == "sum columns" {
            layout = layout.permute(&[1, 0]);
        }
        let mut y = Temporary::new(cpu, DType::F32, &layout.shape()[..axes]).unwrap();
        let kernel = Kernel::new(&program, &[]);
        let seconds = time(|| {
            let x = [x[0].through(&layout)];
            launch::reduce(cpu, ReduceOp::Sum, &kernel, layout.shape(), &x, &mut y.operand_mut()).unwrap();
        });
        println!("{name:>12} 10M f32: {:7.2} ms, {:5.1} GB/s", seconds * 1e3, 4.0 * N as f64 / seconds / 1e9);
    }
}

fn small(cpu: &Cpu) {
    let layout = Layout::contiguous([4]);
    let x = array(cpu, &[4]);
    let mut y = array(cpu, &[4]);
    let e = Expr::input(0, DType::F32);
    for (name, root) in [("x+x", &e + &e), ("x*2+1", &e * 2.0 + 1.0), ("exp", e.exp())] {
        let program = Program::new(name, &[root], &[DType::F32], &[]).unwrap();
        let kernel = Kernel::new(&program, &[]);
        let map = time(|| {
            let mut out = y.through_mut(&layout);
            cpu.map(&kernel, &[black_box(x.through(&layout))], std::slice::from_mut(&mut out)).unwrap();
        });
        println!("{name:>12} 4 f32: Cpu::map {:.0} ns", map * 1e9);
    }
    for n in [16, 4096, 100_000, 40_000_000] {
        let alloc = time(|| drop(black_box(cpu.alloc(black_box(n)).unwrap())));
        println!("{:>12} of {n} bytes and back: {:.0} ns", "alloc", alloc * 1e9);
    }
}

fn products(cpu: &Cpu) {
    for (m, k, n) in [(4, 4, 4), (16, 16, 16), (64, 64, 64), (256, 256, 256), (1024, 1024, 1024), (1, 4096, 4096)] {
        let (a, b) = (array(cpu, &[m, k]), array(cpu, &[k, n]));
        let mut c = Temporary::new(cpu, DType::F32, [m, n]).unwrap();
        let seconds = time(|| cpu.matmul(&a.operand(), &b.operand(), &mut c.operand_mut()).unwrap());
        let (x, y, mut z) = (vec![1.0f32; m * k], vec![1.0f32; k * n], vec![0.0f32; m * n]);
        let direct = |x: &[f32], y: &[f32], z: &mut [f32], m: usize| {
            let (k_, n_) = (k as isize, n as isize);
            // SAFETY: x is m by k, y k by n, z m by n, all row-major.
            unsafe {
                matrixmultiply::sgemm(m, k, n, 1.0, x.as_ptr(), k_, 1, y.as_ptr(), n_, 1, 0.0, z.as_mut_ptr(), n_, 1);
            }
        };
        let one = time(|| direct(&x, &y, &mut z, m));
        let half = m / 2;
        let two = time(|| {
            let (top, bottom) = z.split_at_mut(half * n);
            rayon_core::join(|| direct(&x[..half * k], &y, top, half), || direct(&x[half * k..], &y, bottom, m - half));
        });
        let rate = 2e-9 * (m * k * n) as f64;
        println!(
            "{:>12} {m}x{k}x{n}: {:9.2} us, {:6.1} GFLOP/s; the library on one thread {:6.1}, on two {:6.1}",
            "matmul",
            seconds * 1e6,
            rate / seconds,
            rate / one,
            rate / two
        );
    }
}

fn convolutions(cpu: &Cpu) {
    for (batch, channels, size, outputs, kernel, groups) in [
        (32, 64, 56, 64, 3, 1),
        (32, 64, 56, 256, 1, 1),
        (32, 512, 7, 512, 3, 1),
        (32, 128, 28, 128, 3, 128),
        (1, 3, 224, 64, 7, 1),
        (64, 1, 28, 32, 3, 1),
    ] {
        let mut w = Window::new(&[kernel, kernel]);
        w.padding = [kernel / 2; 2][..].into();
        w.groups = groups;
        let x = array(cpu, &[batch, channels, size, size]);
        let k = array(cpu, &[outputs, channels / groups, kernel, kernel]);
        let mut y = array(cpu, &[batch, outputs, size, size]);
        let (mut dx, mut dk) = (array(cpu, x.layout().shape()), array(cpu, k.layout().shape()));
        let forward = time(|| cpu.conv(&w, &x.operand(), &k.operand(), &mut y.operand_mut()).unwrap());
        let input = time(|| cpu.conv_input_gradient(&w, &y.operand(), &k.operand(), &mut dx.operand_mut()).unwrap());
        let weight = time(|| cpu.conv_weight_gradient(&w, &x.operand(), &y.operand(), &mut dk.operand_mut()).unwrap());
        let rate = 2e-9 * (y.layout().size() * channels / groups * kernel * kernel) as f64;
        println!(
            "conv {batch}x{channels}x{size}x{size} by {outputs}x{kernel}x{kernel}, {groups} groups: GFLOP/s {:.1} forward, {:.1} input, {:.1} weight",
            rate / forward,
            rate / input,
            rate / weight
        );
    }
}

fn rows(cpu: &Cpu) {
    let x = array(cpu, &[10_000, 1000]);
    let mut y = array(cpu, &[10_000, 1000]);
    let [mut mean, mut rstd] = [0; 2].map(|_| array(cpu, &[10_000]));
    let softmax = time(|| cpu.softmax(false, &x.operand(), &mut y.operand_mut()).unwrap());
    let normalize = time(|| {
        cpu.normalize(1e-5, &x.operand(), &mut y.operand_mut(), &mut mean.operand_mut(), &mut rstd.operand_mut())
            .unwrap();
    });
    let scan = time(|| cpu.scan(ReduceOp::Sum, &x.operand(), &mut y.operand_mut()).unwrap());
    println!(
        "softmax 10000x1000: {:.2} ms, normalize {:.2} ms, scan {:.2} ms",
        softmax * 1e3,
        normalize * 1e3,
        scan * 1e3
    );
    let image = array(cpu, &[32, 64, 112, 112]);
    let mut w = Window::new(&[3, 3]);
    (w.stride, w.padding) = ([2, 2][..].into(), [1, 1][..].into());
    let mut out = array(cpu, &[32, 64, 56, 56]);
    let mut back = array(cpu, &[32, 64, 112, 112]);
    let pool = time(|| cpu.pool(isograd_core::Pool::Max, &w, &image.operand(), &mut out.operand_mut()).unwrap());
    let gradient = time(|| {
        cpu.pool_gradient(isograd_core::Pool::Max, &w, &image.operand(), &out.operand(), &mut back.operand_mut())
            .unwrap();
    });
    println!("max pool 32x64x112x112 by 3x3: {:.2} ms, its gradient {:.2} ms", pool * 1e3, gradient * 1e3);
    let mut order = Temporary::new(cpu, DType::I64, [1000, 1000]).unwrap();
    let part = x.layout().slice(0, 0, 1000, 1);
    let sort = time(|| cpu.argsort(false, &x.through(&part), &mut order.operand_mut()).unwrap());
    println!("argsort 1000x1000: {:.2} ms", sort * 1e3);
}

fn main() {
    let cpu = Cpu::default();
    let only = std::env::args().nth(1).filter(|a| !a.starts_with('-'));
    type Case = (&'static str, fn(&Cpu));
    let cases: [Case; 5] = [
        ("elementwise", elementwise),
        ("small", small),
        ("products", products),
        ("convolutions", convolutions),
        ("rows", rows),
    ];
    for (name, case) in cases {
        if only.as_deref().is_none_or(|o| o == name) {
            case(&cpu);
        }
    }
}
