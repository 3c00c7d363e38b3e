//! Times on a CUDA device, the best of several runs each, one line of tab-separated fields: name, milliseconds, rate,
//! unit of the rate. `scripts/gpu-peer.py` prints the same by PyTorch, `scripts/gpu-check.sh` both side by side.
//!
//! The argument names the device, `cuda:fast` without one; `cuda` measures exact results. With `--check` before it, everything
//! runs once at small sizes, also on `cpu`, the device without an argument then. Rates mean nothing then.

use isograd_core::{
    Backend, DType, Dyn, Error, Expr, Layout, Operand, OperandMut, Result, Tensor, autograd,
    expr::{Kernel, Program},
    operators::{Fused, random},
};
use isograd_cpu::Cpu;
use isograd_cuda::Cuda;
use isograd_nn::{
    Activation, Block, Dense, Sequential, Trainer,
    initializers::Xavier,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::{MultiPrecision, SGD},
    zoo::{self, Options},
};
use std::time::Instant;

struct Bench {
    ctx: Dyn,
    cuda: Option<Cuda>,
    /// Small sizes, and one run of each.
    check: bool,
}

impl Bench {
    fn size(&self, full: usize, small: usize) -> usize {
        if self.check { small } else { full }
    }

    /// The least time of `runs`, each of `times` calls, of one call in seconds.
    fn best(&self, times: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
        let (warm, runs, times) = if self.check { (1, 1, 1) } else { (3, 10, times) };
        for _ in 0..warm {
            f()?;
        }
        let mut least = f64::INFINITY;
        for _ in 0..runs {
            self.ctx.synchronize()?;
            let start = Instant::now();
            for _ in 0..times {
                f()?;
            }
            self.ctx.synchronize()?;
            least = least.min(start.elapsed().as_secs_f64() / times as f64);
        }
        Ok(least)
    }

    /// Allows TF32, or forbids it; false where it is to be allowed and the device is exact.
    fn tf32(&self, allowed: bool) -> bool {
        self.cuda.iter().all(|cuda| cuda.set_tf32(allowed).is_ok())
    }

    fn normal(&self, shape: &[usize], dtype: DType) -> Result<Tensor> {
        Tensor::normal(&self.ctx, shape, 0.0, 1.0, DType::F32)?.cast(dtype)
    }

    fn products(&self) -> Result<()> {
        for (n, small) in [(4096, 32), (8192, 48)] {
            let size = self.size(n, small);
            for (name, dtype, tf32) in
                [("f32", DType::F32, false), ("tf32", DType::F32, true), ("bf16", DType::BF16, false)]
            {
                if !self.tf32(tf32) {
                    continue;
                }
                let (a, b) = (self.normal(&[size, size], dtype)?, self.normal(&[size, size], dtype)?);
                let seconds = self.best(1, || a.matmul(&b).map(drop))?;
                let work = 2.0 * (size as f64).powi(3) / 1e12;
                told(&format!("matmul {n} {name}"), seconds, work, "TFLOP/s");
                let end = Fused::new("linear", &[dtype; 2], 0, |x, _| (&x[0] + &x[1]).relu())?;
                let bias = self.normal(&[size], dtype)?;
                let seconds = self.best(1, || a.matmul_fused(&b.t()?, &end, &[&bias], &[]).map(drop))?;
                told(&format!("linear and relu {n} {name}"), seconds, work, "TFLOP/s");
            }
        }
        self.tf32(false);
        Ok(())
    }

    /// What memory bounds; a rate is also given as a share of the copy's.
    fn memory(&self) -> Result<()> {
        let (columns, count) = (4096, self.size(1 << 26, 1 << 14));
        let (ctx, bytes) = (&self.ctx, 4 * count);
        let (from, mut to) = (ctx.alloc(bytes)?, ctx.alloc(bytes)?);
        let copy = self.best(1, || ctx.copy_from(ctx, &from, &mut to, bytes))?;
        let copied = 2.0 * bytes as f64 / copy;
        let told = |name: &str, seconds: f64, bytes: f64| {
            told(name, seconds, bytes / 1e12, "TB/s");
            println!("{name}, of the copy's\t-\t{:.3}\tshare", bytes / seconds / copied);
        };
        told("copy", copy, 2.0 * bytes as f64);
        let inputs = [ctx.alloc(bytes)?, ctx.alloc(bytes)?, ctx.alloc(bytes)?];
        let [a, b, c] = [0, 1, 2].map(|k| Expr::input(k, DType::F32));
        let program = Program::new("a*b+c", &[&(&a * &b) + &c], &[DType::F32; 3], &[])?;
        let layout = Layout::contiguous([count]);
        let operands = inputs.each_ref().map(|input| Operand::new(input, DType::F32, &layout));
        let fused = self.best(1, || {
            let out = OperandMut::new(&mut to, DType::F32, &layout);
            ctx.map(&Kernel::new(&program, &[]), &operands, &mut [out])
        })?;
        told("a*b+c", fused, 4.0 * bytes as f64);
        let x = self.normal(&[count / columns, columns], DType::F32)?;
        told("softmax", self.best(1, || x.softmax(1).map(drop))?, 2.0 * bytes as f64);
        told("sum", self.best(1, || x.sum((), false).map(drop))?, bytes as f64);
        Ok(())
    }

    /// Copies to the device, alone and while a kernel runs: the share of the copy that then costs no time.
    fn uploads(&self) -> Result<()> {
        let (bytes, size) = (self.size(24 << 20, 1 << 17), self.size(4096, 32));
        let (from, mut to) = (vec![1; bytes], self.ctx.alloc(bytes)?);
        let alone = self.best(1, || self.ctx.upload(&from, &mut to, 0))?;
        told("upload", alone, bytes as f64 / 1e9, "GB/s");
        let (a, b) = (self.normal(&[size, size], DType::F32)?, self.normal(&[size, size], DType::F32)?);
        let kernel = self.best(1, || a.matmul(&b).map(drop))?;
        let both = self.best(1, || {
            a.matmul(&b)?;
            self.ctx.upload(&from, &mut to, 0)
        })?;
        println!("upload, beside a kernel\t-\t{:.3}\tshare", (kernel + alone - both) / alone);
        Ok(())
    }

    /// Steps of training: forward, backward, update.
    fn training(&self) -> Result<()> {
        let mut mlp = Sequential::new();
        mlp.add(Dense::new(256).activation(Activation::Relu)).add(Dense::new(128).activation(Activation::Relu));
        mlp.add(Dense::new(10));
        self.steps("MLP", mlp, &[64, 784], 10, DType::F32, 100)?;
        self.steps("LeNet", zoo::lenet(Options::new(10).in_channels(1)), &[32, 1, 28, 28], 10, DType::F32, 100)?;
        let (batch, side) = (self.size(64, 1), self.size(224, 32));
        let images = [batch, 3, side, side];
        let name = if self.tf32(true) { "ResNet-50 tf32" } else { "ResNet-50 f32" };
        self.steps(name, zoo::resnet50(1000), &images, 1000, DType::F32, 1)?;
        self.tf32(false);
        self.steps("ResNet-50 bf16", zoo::resnet50(1000), &images, 1000, DType::BF16, 1)
    }

    fn steps(
        &self,
        name: &str,
        net: impl Block,
        shape: &[usize],
        classes: usize,
        dtype: DType,
        times: usize,
    ) -> Result<()> {
        net.initialize(Xavier::default(), &self.ctx)?;
        let images = self.normal(shape, dtype)?;
        let labels: Vec<i64> = (0..shape[0]).map(|i| ((i * 7) % classes) as i64).collect();
        let labels = Tensor::from_slice(&self.ctx, &labels, [shape[0]])?;
        net.cast(dtype)?;
        net.forward(&images)?;
        let sgd = SGD { momentum: 0.9, ..SGD::new(0.001) };
        let mut trainer = match dtype {
            DType::F32 => Trainer::new(net.collect_params(), sgd)?,
            _ => Trainer::new(net.collect_params(), MultiPrecision(sgd))?,
        };
        let loss = SoftmaxCrossEntropyLoss::default();
        let mut step = || {
            let loss = autograd::record(|| loss.loss(&net.forward(&images)?.cast(DType::F32)?, &labels))?;
            loss.backward()?;
            trainer.step(shape[0])
        };
        let eager = self.best(times, &mut step)?;
        told(&format!("{name} step"), eager, shape[0] as f64 / 1e3, "k samples/s");
        if let Some(cuda) = &self.cuda {
            let graph = cuda.capture(&mut step)?;
            let replayed = self.best(times, || graph.replay())?;
            told(&format!("{name} step, captured"), replayed, shape[0] as f64 / 1e3, "k samples/s");
        }
        Ok(())
    }
}

fn told(name: &str, seconds: f64, work: f64, unit: &str) {
    println!("{name}\t{:.4}\t{:.4}\t{unit}", seconds * 1e3, work / seconds);
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (check, device) = match words[..] {
        [] => (false, "cuda:fast"),
        ["--check"] => (true, "cpu"),
        ["--check", device] => (true, device),
        [device] => (false, device),
        _ => return Err(Error::invalid("gpu_bench", "the arguments are --check or not, and a device or none")),
    };
    let cuda = match device.split_once(':').unwrap_or((device, "")) {
        ("cuda", which) => Some(Cuda::find(which)?),
        ("cpu", "") if check => None,
        _ => return Err(Error::invalid("gpu_bench", format!("{device} is no CUDA device, nor cpu behind --check"))),
    };
    let ctx = cuda.clone().map_or_else(|| Dyn::new(Cpu::default()), Dyn::new);
    let bench = Bench { ctx, cuda, check };
    random::seed(1);
    bench.products()?;
    bench.memory()?;
    bench.uploads()?;
    bench.training()
}
