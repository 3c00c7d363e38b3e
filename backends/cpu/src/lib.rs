//! The CPU backend of isograd.
//!
//! Vector instructions (AVX2 with FMA, AVX-512, NEON) are chosen when the first kernel runs; transcendental functions are
//! polynomials that run in vector registers; large work is spread over threads; memory is aligned and pooled. By
//! default nothing but cargo is needed to build; a feature puts a BLAS library under `matmul`: `openblas`, `blis`, `mkl`,
//! `accelerate` or `netlib`.
//!
//! Results are those of every other exact backend to the last bit, however many threads there are, unless there is a BLAS library.
//!
//! ```
//! use isograd_core::{Backend, DType, Layout, Operand, OperandMut, expr::{Expr, Kernel, Program}};
//! use isograd_cpu::Cpu;
//! let cpu = Cpu::default();
//! let (layout, numbers) = (Layout::contiguous([3]), [1.0f32, 2.0, 3.0]);
//! let (mut x, mut y) = (cpu.alloc(12)?, cpu.alloc(12)?);
//! cpu.upload(bytemuck::cast_slice(&numbers), &mut x, 0)?;
//! let e = Expr::input(0, DType::F32);
//! let square = Program::new("square", &[&e * &e], &[DType::F32], &[])?;
//! let input = Operand::new(&x, DType::F32, &layout);
//! cpu.map(&Kernel::new(&square, &[]), &[input], &mut [OperandMut::new(&mut y, DType::F32, &layout)])?;
//! let mut squares = [0.0f32; 3];
//! cpu.download(&y, 0, bytemuck::cast_slice_mut(&mut squares))?;
//! assert_eq!(squares, [1.0, 4.0, 9.0]);
//! # Ok::<(), isograd_core::Error>(())
//! ```
//!
//! Where things are: `elementwise`, `reduce` and `gather` cut the primitives into pieces; `lanes` compiles their loops for
//! each instruction set, with the functions of `math`; each other kernel is a file of its own.

#[cfg(feature = "blas")]
mod blas;
mod conv;
mod depthwise;
mod elementwise;
mod gather;
mod gemm;
mod lanes;
mod math;
mod matmul;
mod memory;
mod pool;
mod reduce;
mod rows;
mod sliding;
mod sort;
mod threads;

pub use memory::Buffer;

use isograd_core::{
    Backend, Capabilities, Error, Operand, OperandMut, Pool, ReduceOp, Result, Window,
    expr::Kernel,
    host::{Input, Output},
};
use smallvec::SmallVec;
use std::{fmt, sync::Arc};
use threads::Threads;

/// The processor. [`Cpu::default`] is the context of the process, with a thread per core, or as many as the environment
/// variable `ISOGRAD_THREADS` says when the first large kernel runs; all values made that way are equal.
/// [`Cpu::with_threads`] makes a context with threads of its own.
///
/// A kernel runs on the thread that calls it, with the help of those threads, which do nothing else; so tensors may be used
/// from the tasks of any library, such as rayon. A process made by `fork` has none of the threads: kernels run on the one
/// that calls there, provided that no kernel was under way in another thread at the fork.
///
/// ```
/// use isograd_cpu::Cpu;
/// assert_eq!(Cpu::default(), Cpu::default());
/// assert_ne!(Cpu::with_threads(1)?, Cpu::default());
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Cpu {
    own: Option<Arc<Threads>>,
}

impl Cpu {
    /// A context that runs on `threads` threads, the one that calls and others of its own (0: one per core). Results are
    /// those of every other context.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than 4096; [`Error::Backend`] when the system gives no threads.
    pub fn with_threads(threads: usize) -> Result<Cpu> {
        Ok(Cpu { own: Some(Arc::new(Threads::new(threads)?)) })
    }

    /// Bytes of freed buffers that are kept for the next ones, by all contexts of the process.
    pub fn kept_memory(&self) -> usize {
        memory::POOL.kept()
    }

    /// Keeps at most `bytes` of freed buffers; 1 GiB unless told otherwise.
    pub fn set_memory_limit(&self, bytes: usize) {
        memory::POOL.set_limit(bytes);
    }

    /// Gives the memory of freed buffers back to the system.
    pub fn trim(&self) {
        memory::POOL.trim();
    }

    fn threads(&self) -> Option<&Threads> {
        self.own.as_deref()
    }
}

impl PartialEq for Cpu {
    /// The same threads.
    fn eq(&self, other: &Cpu) -> bool {
        match (&self.own, &other.own) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threads() {
            None => f.write_str("Cpu"),
            Some(threads) => write!(f, "Cpu({} threads)", threads.count()),
        }
    }
}

#[inline]
fn input<'a>(operand: &Operand<'a, Cpu>) -> Input<'a> {
    Input::new(operand, operand.buffer.bytes())
}

#[inline]
fn output<'a>(operand: &'a mut OperandMut<'_, Cpu>) -> Output<'a> {
    Output::new(operand, Buffer::bytes_mut)
}

#[inline]
fn inputs<'a>(operands: &[Operand<'a, Cpu>]) -> SmallVec<[Input<'a>; 4]> {
    let mut inputs = SmallVec::new();
    operands.iter().for_each(|o| inputs.push(Input::new(o, o.buffer.bytes())));
    inputs
}

/// The part of a buffer that a transfer is about.
fn within(op: &'static str, len: usize, offset: usize, bytes: usize) -> Result<std::ops::Range<usize>> {
    match offset.checked_add(bytes) {
        Some(end) if end <= len => Ok(offset..end),
        _ => Err(Error::invalid(op, format!("{bytes} bytes from offset {offset} on are outside a buffer of {len}"))),
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;

    fn name(&self) -> String {
        "cpu".into()
    }

    fn capabilities(&self) -> Capabilities {
        // A BLAS library sums in an order of its own.
        Capabilities { exact: !cfg!(feature = "blas"), ..Capabilities::default() }
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        memory::POOL.alloc(bytes)
    }

    fn upload(&self, bytes: &[u8], to: &mut Buffer, offset: usize) -> Result<()> {
        let range = within("upload", to.bytes().len(), offset, bytes.len())?;
        to.bytes_mut()[range].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let range = within("download", from.bytes().len(), offset, bytes.len())?;
        bytes.copy_from_slice(&from.bytes()[range]);
        Ok(())
    }

    fn copy_from(&self, _: &Cpu, from: &Buffer, to: &mut Buffer, bytes: usize) -> Result<()> {
        let range = within("copy", from.bytes().len().min(to.bytes().len()), 0, bytes)?;
        to.bytes_mut()[range.clone()].copy_from_slice(&from.bytes()[range]);
        Ok(())
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        operands: &[Operand<'_, Cpu>],
        outputs: &mut [OperandMut<'_, Cpu>],
    ) -> Result<()> {
        let mut written: SmallVec<[Output<'_>; 2]> = SmallVec::new();
        outputs.iter_mut().for_each(|o| written.push(output(o)));
        elementwise::map(self.threads(), kernel, &inputs(operands), &mut written)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        operands: &[Operand<'_, Cpu>],
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        reduce::reduce(self.threads(), op, kernel, &inputs(operands), &mut output(out))
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Cpu>,
        index: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        gather::gather(self.threads(), axis, &input(source), &input(index), &mut output(out))
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Cpu>,
        index: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        gather::scatter_add(axis, &input(source), &input(index), &mut output(out))
    }

    fn matmul(&self, a: &Operand<'_, Cpu>, b: &Operand<'_, Cpu>, out: &mut OperandMut<'_, Cpu>) -> Result<()> {
        matmul::matmul(self, a, b, out)
    }

    fn softmax(&self, logarithm: bool, input: &Operand<'_, Cpu>, out: &mut OperandMut<'_, Cpu>) -> Result<()> {
        rows::softmax(self, logarithm, input, out)
    }

    fn normalize(
        &self,
        epsilon: f64,
        input: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
        mean: &mut OperandMut<'_, Cpu>,
        rstd: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        rows::normalize(self, epsilon, input, out, mean, rstd)
    }

    fn scan(&self, op: ReduceOp, input: &Operand<'_, Cpu>, out: &mut OperandMut<'_, Cpu>) -> Result<()> {
        rows::scan(self, op, input, out)
    }

    fn argsort(&self, descending: bool, input: &Operand<'_, Cpu>, out: &mut OperandMut<'_, Cpu>) -> Result<()> {
        sort::argsort(self, descending, input, out)
    }

    fn conv(
        &self,
        window: &Window,
        input: &Operand<'_, Cpu>,
        weight: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        conv::conv(self, window, input, weight, out)
    }

    fn conv_input_gradient(
        &self,
        window: &Window,
        head: &Operand<'_, Cpu>,
        weight: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        conv::conv_input_gradient(self, window, head, weight, out)
    }

    fn conv_weight_gradient(
        &self,
        window: &Window,
        input: &Operand<'_, Cpu>,
        head: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        conv::conv_weight_gradient(self, window, input, head, out)
    }

    fn pool(&self, kind: Pool, window: &Window, input: &Operand<'_, Cpu>, out: &mut OperandMut<'_, Cpu>) -> Result<()> {
        pool::pool(self, kind, window, input, out)
    }

    fn pool_gradient(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Cpu>,
        head: &Operand<'_, Cpu>,
        out: &mut OperandMut<'_, Cpu>,
    ) -> Result<()> {
        pool::pool_gradient(self, kind, window, input, head, out)
    }
}
