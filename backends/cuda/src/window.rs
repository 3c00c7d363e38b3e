//! Convolution and pooling, and their gradients. Convolutions are matrix products whose matrices are never made (`gemm`), or
//! calls of cuDNN where it is present and the context is fast.

use crate::{
    Cuda,
    context::{Key, Words},
    cudnn,
    gemm::{self, Problem, Product, Sizes, divisor, three},
    operand::{address, contiguous, fits_32_bits},
    source::Source,
};
use isograd_core::{
    DType, Operand, OperandMut, Pool, ReduceOp, Result, Window,
    backend::{composed, launch::Temporary},
};

const TEXT: &str = include_str!("kernels/window.cu");

/// Spatial axes that the kernels have.
const AXES: usize = 3;

/// Positions have 64 bits where they are `wide`.
pub(crate) fn pool_source(name: &'static str, kind: Pool, dtype: DType, wide: bool) -> Source {
    let mut source = Source::new(name);
    let kernel = match name {
        "pool" => "IG_POOL",
        "pool_first" => "IG_POOL_FIRST",
        _ => "IG_POOL_GRADIENT",
    };
    let op = if kind == Pool::Max { ReduceOp::Max } else { ReduceOp::Sum };
    source.element(dtype).reduction(op, dtype).define(kernel, 1);
    source.define("IG_POOL_MAX", (kind == Pool::Max) as u8);
    source.define("IG_COUNT_PADDING", (kind == Pool::AvgWithPadding) as u8);
    if wide {
        source.define("IG_WIDE", 1);
    }
    source.text(TEXT);
    source
}

/// Whether positions in arrays of these shapes, and in their padding, need 64 bits.
fn is_wide(window: &Window, shapes: [&[usize]; 2]) -> bool {
    let reaches = |axis: usize| {
        let reach = (window.kernel[axis] - 1).saturating_mul(window.dilation[axis]);
        shapes
            .iter()
            .map(|s| s[2 + axis])
            .max()
            .unwrap_or(0)
            .saturating_add(2 * window.padding[axis])
            .saturating_add(reach)
    };
    !shapes.iter().all(|s| fits_32_bits(product(s)))
        || !fits_32_bits(product(&window.kernel))
        || !(0..window.axes()).all(|axis| fits_32_bits(reaches(axis).saturating_add(window.stride[axis])))
}

/// The words of a window between arrays of these spatial sizes.
fn window_words(window: &Window, input: &[usize], output: &[usize]) -> Words {
    let lists = [(&window.kernel, 1), (&window.stride, 1), (&window.padding, 0), (&window.dilation, 1)];
    let own = lists.into_iter().flat_map(|(values, missing)| three(values, missing));
    own.chain(three(input, 1)).chain(three(output, 1)).collect()
}

/// The words of `Arguments` in kernels/problem.cu for a convolution with so many groups, and input and output channels
/// in each.
fn product_words(window: &Window, channels: [usize; 3], input: &[usize], output: &[usize], wide: bool) -> Words {
    let mut words: Words = channels.iter().map(|n| *n as u64).collect();
    words.extend(three(&window.padding, 0));
    words.extend(three(&window.dilation, 1));
    words.extend([product(&window.kernel), product(input), product(output)].into_iter().flat_map(|n| divisor(n, wide)));
    let lists = [&window.kernel[..], &window.stride, input, output];
    words.extend(lists.into_iter().flat_map(|l| three(l, 1)).flat_map(|n| divisor(n as usize, wide)));
    words
}

fn product(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// See [`isograd_core::Backend::pool`].
pub(crate) fn pool(
    cuda: &Cuda,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if window.axes() > AXES || !output.layout.is_contiguous() || input.dtype == DType::Bool {
        return composed::pool(cuda, kind, window, input, output);
    }
    let copy = contiguous(cuda, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let out = address(&output.as_operand());
    let words = pool_words(window, input.shape(), output.shape(), [address(&input), 0, 0, out]);
    let wide = is_wide(window, [input.shape(), output.shape()]);
    run_pool(cuda, "pool", kind, input.dtype, wide, output.layout.size(), &words)
}

fn pool_words(window: &Window, input: &[usize], output: &[usize], addresses: [u64; 4]) -> Words {
    let sizes = [product(&input[..2]), product(&input[2..]), product(&output[2..])];
    let mut words: Words = sizes.iter().map(|n| *n as u64).collect();
    words.extend(window_words(window, &input[2..], &output[2..]));
    words.extend(addresses);
    words
}

fn run_pool(
    cuda: &Cuda,
    name: &'static str,
    kind: Pool,
    dtype: DType,
    wide: bool,
    count: usize,
    words: &[u64],
) -> Result<()> {
    let key = Key::new(name, [kind as u64, dtype as u64, wide as u64]);
    let function = cuda.context.kernel(key, || pool_source(name, kind, dtype, wide))?;
    // SAFETY: the words are the fields of `Arguments`; arrays are contiguous, of the sizes that the words say.
    unsafe { cuda.context.launch_each(name, function, count, words) }
}

/// See [`isograd_core::Backend::pool_gradient`].
pub(crate) fn pool_gradient(
    cuda: &Cuda,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, Cuda>,
    head: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if window.axes() > AXES || !output.layout.is_contiguous() || head.dtype == DType::Bool {
        return composed::pool_gradient(cuda, kind, window, input, head, output);
    }
    let copy = contiguous(cuda, head)?;
    let head = copy.as_ref().map_or(*head, Temporary::operand);
    let to = address(&output.as_operand());
    let words = |from: u64, first: u64, out: u64| {
        pool_words(window, output.shape(), head.shape(), [from, address(&head), first, out])
    };
    let wide = is_wide(window, [output.shape(), head.shape()]);
    let mut first = None;
    if kind == Pool::Max {
        let copy = contiguous(cuda, input)?;
        let input = copy.as_ref().map_or(*input, Temporary::operand);
        let chosen = Temporary::<Cuda>::new(cuda, if wide { DType::I64 } else { DType::I32 }, head.shape().clone())?;
        let words = words(address(&input), address(&chosen.operand()), 0);
        run_pool(cuda, "pool_first", kind, input.dtype, wide, head.layout.size(), &words)?;
        first = Some(chosen);
    }
    let first = first.as_ref().map_or(0, |f| address(&f.operand()));
    run_pool(cuda, "pool_gradient", kind, head.dtype, wide, output.layout.size(), &words(0, first, to))
}

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    Forward,
    InputGradient,
    WeightGradient,
}

/// Whether neighbours along the depth are neighbours in memory, of both matrices of a convolution.
pub(crate) fn along(problem: Problem) -> [bool; 2] {
    [true, problem == Problem::ConvWeightGradient]
}

/// The kernel `which` of a convolution with `left` and `right`: weight and input, weight and head, or head and input.
/// False where it must be composed.
pub(crate) fn conv(
    cuda: &Cuda,
    which: Which,
    window: &Window,
    left: &Operand<'_, Cuda>,
    right: &Operand<'_, Cuda>,
    out: &mut OperandMut<'_, Cuda>,
) -> Result<bool> {
    if window.axes() > AXES || !out.layout.is_contiguous() || out.dtype == DType::Bool {
        return Ok(false);
    }
    let (left_copy, right_copy) = (contiguous(cuda, left)?, contiguous(cuda, right)?);
    let left = left_copy.as_ref().map_or(*left, Temporary::operand);
    let right = right_copy.as_ref().map_or(*right, Temporary::operand);
    let (input, output) = match which {
        Which::Forward => (right.shape(), out.shape()),
        Which::InputGradient => (out.shape(), right.shape()),
        Which::WeightGradient => (right.shape(), left.shape()),
    };
    let (input, output) = (input.clone(), output.clone());
    if cuda.is_fast() && cudnn::conv(cuda, which, window, &left, &right, out)? {
        return Ok(true);
    }
    let groups = window.groups;
    let (inputs, outputs, taps) = (input[1] / groups, output[1] / groups, product(&window.kernel));
    let (in_size, out_size) = (product(&input[2..]), product(&output[2..]));
    let batch = input[0];
    let sizes = match which {
        Which::Forward => Sizes { rows: outputs, columns: batch * out_size, depth: inputs * taps, batches: groups },
        Which::InputGradient => {
            Sizes { rows: inputs, columns: batch * in_size, depth: outputs * taps, batches: groups }
        }
        Which::WeightGradient => {
            Sizes { rows: outputs, columns: inputs * taps, depth: batch * out_size, batches: groups }
        }
    };
    let wide = is_wide(window, [&input, &output])
        || ![left.layout, right.layout, out.layout].into_iter().all(|l| fits_32_bits(l.size()));
    let problem = match which {
        Which::Forward => Problem::Conv,
        Which::InputGradient => Problem::ConvInputGradient,
        Which::WeightGradient => Problem::ConvWeightGradient,
    };
    let product = Product {
        problem,
        sizes,
        wide,
        along: along(problem),
        narrow: wide || !out.dtype.is_float() || sizes.rows < 8 || sizes.columns < 16 || sizes.depth < 8,
        own: &product_words(window, [groups, inputs, outputs], &input[2..], &output[2..], wide),
        operands: [address(&left), address(&right)],
    };
    gemm::run(cuda, &product, None, out)
}
