//! What a device must do: the [`Backend`] trait, its operands, and the defaults composed from its primitives.
//!
//! Where things are: this file has the trait; `operand` what a kernel is given; [`launch`] merges axes and calls the
//! primitives; [`Reducer`] and [`DotProduct`] are the orders of sums; [`composed`] has a default for everything that is not a
//! primitive; [`window`] the arithmetic of convolution and pooling; [`replay`] what changes from one run of a captured step to the
//! next; `dynamic` the backend that holds any other.
//!
//! To add an operator that backends may want to make faster: its composed form in `composed`, and a provided method here
//! that calls it. To write a backend: implement the nine methods without a body; see the book and `backends/reference`.

pub mod composed;
mod dynamic;
pub mod launch;
mod operand;
mod reducer;
pub mod replay;
pub mod window;

pub use dynamic::{Dyn, DynBuffer};
pub use operand::{Operand, OperandMut};
pub(crate) use reducer::{Blocks, Fold};
pub use reducer::{DotProduct, Reducer};
pub use window::Window;

use crate::{DType, Result, Value, expr::Kernel};
use std::fmt::Debug;

/// A set of dtypes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DTypes(u16);

impl DTypes {
    /// Every dtype.
    pub const ALL: DTypes = DTypes(0x1ff);

    /// The set of `dtypes`.
    pub const fn of(dtypes: &[DType]) -> DTypes {
        let mut bits = 0;
        let mut i = 0;
        while i < dtypes.len() {
            bits |= 1 << dtypes[i] as u16;
            i += 1;
        }
        DTypes(bits)
    }

    /// This set without `dtype`.
    #[must_use]
    pub const fn without(self, dtype: DType) -> DTypes {
        DTypes(self.0 & !(1 << dtype as u16))
    }

    /// Whether `dtype` is in the set.
    pub const fn contains(self, dtype: DType) -> bool {
        self.0 >> dtype as u16 & 1 == 1
    }
}

/// What a device can do. Tests are selected by it, and core refuses what is not in it before the device is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Dtypes that can be stored, uploaded, downloaded and copied.
    pub stores: DTypes,
    /// Dtypes that can be computed with. f16 and bf16 are computed in f32.
    pub computes: DTypes,
    /// Whether the same call on the same data gives the same bits every time.
    pub deterministic: bool,
    /// Whether results have the bits that the chapter *Arithmetic* of the book defines, the same as on every other exact device.
    /// The conformance suite compares them bit for bit with the reference backend; others are held to error bounds.
    pub exact: bool,
    /// The largest buffer, in bytes.
    pub max_buffer: usize,
}

impl Default for Capabilities {
    /// Everything, repeatably and exactly.
    fn default() -> Capabilities {
        Capabilities {
            stores: DTypes::ALL,
            computes: DTypes::ALL,
            deterministic: true,
            exact: true,
            max_buffer: isize::MAX as usize,
        }
    }
}

/// How a reduction folds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Sum; wraps on integers. Accumulates in the dtype that is computed in (f32 for f16 and bf16).
    Sum,
    /// Product, likewise.
    Prod,
    /// The largest; NaN if any is NaN. On bool: any.
    Max,
    /// The smallest; NaN if any is NaN. On bool: all.
    Min,
}

impl ReduceOp {
    /// Every reduction.
    pub const ALL: [ReduceOp; 4] = [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min];

    /// The field's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
        }
    }

    /// The primitive that folds two elements.
    pub const fn primitive(self) -> crate::expr::Binary {
        match self {
            ReduceOp::Sum => crate::expr::Binary::Add,
            ReduceOp::Prod => crate::expr::Binary::Mul,
            ReduceOp::Max => crate::expr::Binary::Max,
            ReduceOp::Min => crate::expr::Binary::Min,
        }
    }

    /// What folding nothing gives: 0, 1, the least, the greatest of `dtype`.
    pub fn identity(self, dtype: DType) -> Value {
        let extreme = |sign: f64| match dtype {
            DType::I64 => Value::I64(if sign < 0.0 { i64::MIN } else { i64::MAX }),
            DType::Bool => Value::Bool(sign > 0.0),
            d => Value::F64(f64::INFINITY * sign).cast(d),
        };
        match self {
            ReduceOp::Sum => Value::zero(dtype),
            ReduceOp::Prod => Value::one(dtype),
            ReduceOp::Max => extreme(-1.0),
            ReduceOp::Min => extreme(1.0),
        }
    }

    /// Folds two elements of a dtype that is computed in.
    pub fn fold(self, a: Value, b: Value) -> Value {
        crate::expr::scalar::binary(self.primitive(), a, b)
    }
}

/// How a pooling window folds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pool {
    /// The largest element; padding never wins; of equal ones the first gets the gradient.
    Max,
    /// The mean over the whole window, padding counted as zeros (but not what lies beyond the padding, in ceil mode).
    AvgWithPadding,
    /// The mean over the elements that are not padding.
    AvgWithoutPadding,
}

/// A device. A *value* of a type that implements this is the device: it is cheap to clone and to compare, and it owns
/// its queues, pools and compiled kernels.
///
/// Nine methods are required; every other kernel has a default [`composed`] of them. Core checks arguments before it
/// calls: buffers are large enough, shapes fit, sizes are not zero, elements of outputs are distinct and share no memory
/// with inputs, dtypes are among the [`Capabilities`]. Axes of size 1 are dropped and even ones merged for the four
/// primitives; outputs of all other kernels are contiguous, at any offset.
///
/// Kernels of one context run in the order of their calls and may be asynchronous; `download` and `synchronize` wait,
/// and report what failed.
pub trait Backend: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// Device memory: bytes with a length. May be pooled. Dropping it releases it, after the kernels that use it.
    type Buffer: Send + Sync + 'static;

    /// The device's name, such as `cpu` or `cuda:0`.
    fn name(&self) -> String;

    /// What the device can do.
    fn capabilities(&self) -> Capabilities;

    /// Memory for `bytes` bytes (at least one), aligned to 8, content unspecified.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; the context stays usable.
    fn alloc(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Copies host memory into `to`, starting at byte `offset`.
    ///
    /// # Errors
    /// What the device reports.
    fn upload(&self, bytes: &[u8], to: &mut Self::Buffer, offset: usize) -> Result<()>;

    /// Copies device memory from byte `offset` on into `bytes`, after all kernels before it.
    ///
    /// # Errors
    /// What the device reports, also of kernels before it.
    fn download(&self, from: &Self::Buffer, offset: usize, bytes: &mut [u8]) -> Result<()>;

    /// `outputs[k][i] = kernel_k(inputs[..][i])` for every index `i`. All operands have one shape; inputs may be strided,
    /// broadcast (stride 0) or reversed; outputs may be strided.
    ///
    /// # Errors
    /// What the device reports.
    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()>;

    /// Folds `kernel(inputs)` over the trailing axes: inputs have the axes of the output, then those to be reduced.
    ///
    /// # Errors
    /// What the device reports.
    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()>;

    /// `output[.., i, ..] = source[.., index[.., i, ..], ..]` along `axis`. Output and index (i64) have one shape; the
    /// source differs from it along `axis` only.
    ///
    /// # Errors
    /// [`crate::Error::IndexOutOfRange`] for an index outside the source's axis, here or at the next wait; nothing is read
    /// outside the source.
    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()>;

    /// `output[.., index[.., i, ..], ..] += source[.., i, ..]` along `axis`, in the order of `i`: the adjoint of `gather`.
    /// Source and index have one shape; the output differs from it along `axis` only. f16 and bf16 are accumulated in f32
    /// and rounded once.
    ///
    /// # Errors
    /// As `gather`; nothing is written outside the output.
    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()>;

    /// Waits for all kernels of this context.
    ///
    /// # Errors
    /// What the kernels before it reported.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// Copies `bytes` bytes from the start of `from`, on another context of the same kind, to the start of `to`.
    ///
    /// # Errors
    /// What either device reports.
    fn copy_from(&self, source: &Self, from: &Self::Buffer, to: &mut Self::Buffer, bytes: usize) -> Result<()> {
        let mut host = vec![0; bytes];
        source.download(from, 0, &mut host)?;
        self.upload(&host, to, 0)
    }

    /// Adds up `parts`, contiguous arrays of one size and dtype, the first on this context and each next one on the next of
    /// `others`, and writes the sum to all of them. False, and nothing done, where the devices have no way of their own: core
    /// then copies and adds.
    ///
    /// # Errors
    /// What a device reports.
    fn all_reduce(&self, others: &[&Self], parts: &mut [OperandMut<'_, Self>]) -> Result<bool> {
        let _ = (others, parts);
        Ok(false)
    }

    /// `output[.., m, n] = Σ_k a[.., m, k] * b[.., k, n]`, each element in the order of [`DotProduct`]. Batch axes of all three
    /// agree (inputs may have stride 0 there).
    ///
    /// # Errors
    /// What the device reports.
    fn matmul(&self, a: &Operand<'_, Self>, b: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        composed::matmul(self, a, b, output)
    }

    /// `output[.., m, n] = kernel(Σ_k a[.., m, k] * b[.., k, n], inputs[..][.., m, n])`: a product that ends in an elementwise
    /// function of it, the kernel's first input, and of others, such as a bias. The inputs have the output's shape, and may be
    /// strided, broadcast or reversed; the output's dtype is the kernel's. The sum enters the kernel rounded to the
    /// dtype of `a`.
    ///
    /// # Errors
    /// What the device reports.
    fn matmul_fused(
        &self,
        kernel: &Kernel<'_>,
        a: &Operand<'_, Self>,
        b: &Operand<'_, Self>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::matmul_fused(self, kernel, a, b, inputs, output)
    }

    /// Convolution (cross-correlation): input `[batch, channels, spatial..]`, weight
    /// `[out channels, channels / groups, kernel..]`, output `[batch, out channels, spatial..]`. The terms of a result are those
    /// of channels and taps, row-major, in the order of [`DotProduct`]; what lies in the padding is 0.
    ///
    /// # Errors
    /// What the device reports.
    fn conv(
        &self,
        window: &Window,
        input: &Operand<'_, Self>,
        weight: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::conv(self, window, input, weight, output)
    }

    /// The gradient of `conv` in its input, also the transposed convolution: `head` is shaped like the output of `conv`,
    /// `output` like its input. The terms of a result are those of output channels and taps, the last tap first, in the order of
    /// [`DotProduct`]; taps that meet no window meet a 0.
    ///
    /// # Errors
    /// What the device reports.
    fn conv_input_gradient(
        &self,
        window: &Window,
        head: &Operand<'_, Self>,
        weight: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::conv_input_gradient(self, window, head, weight, output)
    }

    /// The gradient of `conv` in its weight. The terms of a result are those of images and positions, in the order of
    /// [`DotProduct`]; what lies in the padding is 0.
    ///
    /// # Errors
    /// What the device reports.
    fn conv_weight_gradient(
        &self,
        window: &Window,
        input: &Operand<'_, Self>,
        head: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::conv_weight_gradient(self, window, input, head, output)
    }

    /// Pooling of `[batch, channels, spatial..]`; the window has no groups. The elements of a window are folded
    /// over all axes but the last, one after another from the identity, and these results along the last axis in the same way.
    ///
    /// # Errors
    /// What the device reports.
    fn pool(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::pool(self, kind, window, input, output)
    }

    /// The gradient of `pool` in its input, given that input and the head gradient. What windows give to one element is added
    /// to 0 in the order of the windows.
    ///
    /// # Errors
    /// What the device reports.
    fn pool_gradient(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Self>,
        head: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::pool_gradient(self, kind, window, input, head, output)
    }

    /// Softmax (or its logarithm) over the last axis.
    ///
    /// # Errors
    /// What the device reports.
    fn softmax(&self, logarithm: bool, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        composed::softmax(self, logarithm, input, output)
    }

    /// Over the last axis: `output = (input - mean) * rstd`, with `rstd = 1 / sqrt(variance + epsilon)` and the variance
    /// divided by n. `mean` and `rstd` have the leading axes and the dtype that is computed in.
    ///
    /// # Errors
    /// What the device reports.
    fn normalize(
        &self,
        epsilon: f64,
        input: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
        mean: &mut OperandMut<'_, Self>,
        rstd: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::normalize(self, epsilon, input, output, mean, rstd)
    }

    /// Running `Sum` or `Prod` over the last axis, the element itself included: in blocks of 256, one element after another;
    /// then the last result before a block is joined to each of it, from the left.
    ///
    /// # Errors
    /// What the device reports.
    fn scan(&self, op: ReduceOp, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        composed::scan(self, op, input, output)
    }

    /// The positions (i64) that sort the last axis: stable, NaN last in either direction.
    ///
    /// # Errors
    /// What the device reports.
    fn argsort(&self, descending: bool, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        composed::argsort(self, descending, input, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_do_not_change_what_they_meet() {
        for op in ReduceOp::ALL {
            for d in DType::ALL {
                if (d == DType::Bool && matches!(op, ReduceOp::Sum | ReduceOp::Prod)) || d.compute() != d {
                    continue;
                }
                for v in [Value::zero(d), Value::one(d)] {
                    assert_eq!(op.fold(op.identity(d), v), v, "{op:?} {d}");
                }
            }
        }
    }
}
