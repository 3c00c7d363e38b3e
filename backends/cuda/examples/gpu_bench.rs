//! Times of kernels on a CUDA device, the best of ten runs each; memory-bound ones as a share of a copy's bandwidth.
//! `scripts/gpu-peer.py` prints the same by PyTorch.

use isograd_core::{
    Backend, DType, Expr, Layout, Operand, OperandMut, Result, Tensor,
    expr::{Kernel, Program},
};
use isograd_cuda::Cuda;
use std::time::Instant;

fn best(cuda: &Cuda, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..3 {
        f()?;
    }
    let mut least = f64::INFINITY;
    for _ in 0..10 {
        cuda.synchronize()?;
        let start = Instant::now();
        f()?;
        cuda.synchronize()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn told(name: &str, seconds: f64, work: f64, unit: &str) {
    println!("{name:<28} {:10.3} ms {:10.2} {unit}", seconds * 1e3, work / seconds / 1e12);
}

fn main() -> Result<()> {
    let cuda = Cuda::new(0)?;
    for n in [4096usize, 8192] {
        for (name, dtype, tf32) in
            [("f32", DType::F32, false), ("tf32", DType::F32, true), ("bf16", DType::BF16, false)]
        {
            cuda.set_tf32(tf32);
            let a = Tensor::<Cuda>::ones(&cuda, [n, n], dtype)?;
            let seconds = best(&cuda, || a.matmul(&a).map(drop))?;
            told(&format!("matmul {n} {name}"), seconds, 2.0 * (n as f64).powi(3), "TFLOP/s");
        }
    }
    cuda.set_tf32(false);
    let count = 1usize << 26;
    let bytes = 4 * count;
    let x = Tensor::<Cuda>::ones(&cuda, [count], DType::F32)?;
    let (from, mut to) = (cuda.alloc(bytes)?, cuda.alloc(bytes)?);
    let copy = best(&cuda, || cuda.copy_from(&cuda, &from, &mut to, bytes))?;
    told("copy", copy, 2.0 * bytes as f64, "TB/s");
    // One kernel, as a fused operator is: three reads and a write.
    let [a, b, c] = [0, 1, 2].map(|k| Expr::input(k, DType::F32));
    let program = Program::new("a*b+c", &[&(&a * &b) + &c], &[DType::F32; 3], &[])?;
    let layout = Layout::contiguous([count]);
    let operand = Operand::new(&from, DType::F32, &layout);
    let fused = best(&cuda, || {
        let out = OperandMut::new(&mut to, DType::F32, &layout);
        cuda.map(&Kernel::new(&program, &[]), &[operand, operand, operand], &mut [out])
    })?;
    // The three inputs are one array, which is read from memory once: two accesses per element, as the copy has.
    told("a*a+a", fused, 2.0 * bytes as f64, "TB/s");
    let rows = x.reshape([(count / 4096) as isize, 4096])?;
    let softmax = best(&cuda, || rows.softmax(1).map(drop))?;
    told("softmax", softmax, 2.0 * bytes as f64, "TB/s");
    let sum = best(&cuda, || x.sum((), false).map(drop))?;
    told("sum", sum, bytes as f64, "TB/s");
    println!(
        "of the copy's bandwidth: a*a+a {:.2}, softmax {:.2}, sum {:.2}",
        copy / fused,
        copy / softmax,
        copy / sum / 2.0
    );
    Ok(())
}
