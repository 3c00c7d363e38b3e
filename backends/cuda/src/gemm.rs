//! Matrix products: what `matmul` and `conv` share. On plain cores sums have the order of `DotProduct`, on tensor cores, which
//! are for contexts that need not be exact, one of their own.

use crate::{
    Cuda,
    context::{Key, Words},
    driver::Architecture,
    operand::{address, word},
    source::{Source, THREADS},
};
use isograd_core::{
    DType, OperandMut, Result,
    backend::{DotProduct, launch::Temporary},
    expr::{
        Kernel, Program,
        render::{Names, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

const PROBLEM: &str = include_str!("kernels/problem.cu");
const PLAIN: &str = include_str!("kernels/gemm.cu");
const TENSOR: &str = include_str!("kernels/tensor.cu");

/// Terms of a chunk.
const CHUNK: usize = DotProduct::CHUNK;

/// Thread blocks that keep a device busy; few in tests, whose products are small.
const BUSY: usize = if cfg!(test) { 4 } else { 128 };

/// Sums of parts that are held at once, likewise.
const SUMS_AT_ONCE: usize = if cfg!(test) { 1 << 13 } else { 1 << 24 };

/// What is multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Problem {
    /// Strided matrices, with so many axes of a batch.
    MatMul { rank: usize },
    /// A convolution.
    Conv,
    /// Its gradient in the input.
    ConvInputGradient,
    /// Its gradient in the weight.
    ConvWeightGradient,
}

/// What a kernel computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// One number per thread.
    Single,
    /// Tiles of 64 x 64 in the dtype that is computed in.
    Small,
    /// Tiles of 128 x 128, likewise.
    Large,
    /// Tiles on tensor cores; f32 is rounded to TF32.
    Tensor,
    /// The totals of the parts that another kernel left.
    Total,
}

impl Work {
    /// Rows and columns of a tile, and how much of the depth is in shared memory at once.
    fn tile(self, dtype: DType) -> (usize, usize, usize) {
        match self {
            Work::Single | Work::Total => (1, 1, 1),
            Work::Small => (64, 64, 8),
            Work::Large => (128, 128, 8),
            Work::Tensor if dtype == DType::F32 => (128, 128, 16),
            Work::Tensor => (128, 128, 32),
        }
    }

    /// Whether threads fetch tiles together.
    pub fn has_tiles(self) -> bool {
        self.tile(DType::F32).0 > 1
    }

    /// The kernel's name, and what chooses its text.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Work::Single => ("single", "IG_SINGLE"),
            Work::Small | Work::Large => ("gemm", "IG_GEMM"),
            Work::Tensor => ("tensor", "IG_TENSOR"),
            Work::Total => ("total", "IG_TOTAL"),
        }
    }

    /// Whether `architecture` has tensor cores for `dtype`.
    pub fn tensor(architecture: Architecture, dtype: DType) -> bool {
        match dtype {
            DType::F16 => architecture >= Architecture::new(7, 5),
            DType::BF16 | DType::F32 => architecture >= Architecture::new(8, 0),
            _ => false,
        }
    }
}

/// A kernel: the problem, its dtype, and how it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Variant {
    pub problem: Problem,
    pub dtype: DType,
    pub work: Work,
    /// Whether positions within a matrix, or within the arrays of a convolution, need 64 bits.
    pub wide: bool,
    /// Whether neighbours along the depth are neighbours in memory, of the left and of the right matrix; of no matter to
    /// kernels without tiles.
    pub along: [bool; 2],
}

/// What a matrix product ends in: an elementwise function of it and of other arrays.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub kernel: &'a Kernel<'a>,
    /// Of each other array: the strides along the axes of the batch, along rows and along columns.
    pub strides: SmallVec<[Words; 2]>,
    pub addresses: SmallVec<[u64; 2]>,
}

/// Other arrays that a kernel's end can read.
const MOST_OTHERS: usize = 8;

impl Ending<'_> {
    /// The words at the end of the arguments, as [`end`] has them.
    fn words(&self) -> Words {
        let of_inputs = self.strides.iter().zip(&self.addresses);
        let mut words: Words = of_inputs.flat_map(|(s, a)| s.iter().chain([a]).copied().collect::<Words>()).collect();
        words.extend(self.kernel.scalars.iter().map(|v| word(*v)));
        words
    }
}

/// The macros of kernels/problem.cu for a product that ends in `program`: members of the arguments and of the problem,
/// what the constructor does along an axis of the batch, and the function itself.
fn end(source: &mut Source, program: &Program, rank: usize) {
    let inputs = program.inputs();
    let others = || (1..inputs.len()).map(|k| (k, type_name(inputs[k])));
    let (mut members, mut own, mut moved, mut loaded) = (String::new(), String::new(), String::new(), String::new());
    for (k, dtype) in others() {
        let _ = write!(members, " ig_i64 in{k}_batch[{rank}], in{k}_row, in{k}_column; IG_WORD const {dtype} *in{k};");
        let _ = write!(own, " ig_i64 in{k} = 0;");
        let _ = write!(moved, " in{k} += at * a.in{k}_batch[i];");
        let at = format!("p.in{k} + row * a.in{k}_row + column * a.in{k}_column");
        let _ = writeln!(loaded, "    const {dtype} in{k} = a.in{k}[{at}];");
    }
    for (k, d) in program.scalars().iter().enumerate() {
        let _ = write!(members, " IG_WORD {} arg{k};", type_name(*d));
    }
    let names = Names {
        inputs: (0..inputs.len()).map(|k| format!("in{k}")).collect(),
        scalars: (0..program.scalars().len()).map(|k| format!("a.arg{k}")).collect(),
        index: "at".into(),
        ..Names::default()
    };
    let body = source.renderer.body(program, &names);
    source.define("IG_END_ARGUMENTS", members).define("IG_END_MEMBERS", own).define("IG_END_BATCH", moved);
    let mut text = String::from(
        "IG_FN Stored ig_end(const Arguments &a, const Problem &p, ig_i64 row, ig_i64 column, ig_i64 at, Computed x) {\n",
    );
    // As it would be read back from memory.
    let _ = writeln!(text, "    const Stored in0 = ig_store(x);\n{loaded}");
    for line in body.statements.lines() {
        let _ = writeln!(text, "    {line}");
    }
    let _ = writeln!(text, "    return {};\n}}", body.stored[0]);
    source.text(PROBLEM).text(&text);
}

impl Variant {
    fn key(&self, ending: Option<&Program>) -> Key {
        let problem = match self.problem {
            Problem::MatMul { rank } => [0, rank as u64],
            Problem::Conv => [1, 0],
            Problem::ConvInputGradient => [2, 0],
            Problem::ConvWeightGradient => [3, 0],
        };
        let along = self.along.map(u64::from);
        let chosen = [self.dtype as u64, self.work as u64, self.wide as u64];
        Key::new(self.work.names().0, problem).and(chosen).and(along).and(ending.map(Program::id))
    }

    /// The kernel, for a product that ends in a program (matrix products alone do).
    pub fn source(&self, ending: Option<&Program>) -> Source {
        let tensor = self.work == Work::Tensor;
        let (name, chosen) = self.work.names();
        let mut source = Source::new(name);
        let (bm, bn, bk) = self.work.tile(self.dtype);
        if tensor && self.dtype == DType::F32 {
            // For the bits of an f32.
            source.renderer.store(DType::F16, "x");
        }
        source.element(self.dtype).define(chosen, 1).define("IG_CHUNK", CHUNK);
        source.define("IG_BM", bm).define("IG_BN", bn).define("IG_BK", bk);
        source.define("IG_TM", bm / 16).define("IG_TN", bn / 16);
        source.define("IG_A_ALONG_DEPTH", self.along[0]).define("IG_B_ALONG_DEPTH", self.along[1]);
        if self.wide {
            source.define("IG_WIDE", 1);
        }
        match self.problem {
            Problem::MatMul { rank } => source.define("IG_MATMUL", 1).define("IG_RANK", rank),
            Problem::Conv => source.define("IG_CONV", 1),
            Problem::ConvInputGradient => source.define("IG_CONV_INPUT_GRADIENT", 1),
            Problem::ConvWeightGradient => source.define("IG_CONV_WEIGHT_GRADIENT", 1),
        };
        if tensor {
            let kind = match self.dtype {
                DType::F16 => 0,
                DType::BF16 => 1,
                _ => 2,
            };
            source.define("IG_KIND", kind);
        }
        match (ending, self.problem) {
            (Some(program), Problem::MatMul { rank }) => end(&mut source, program, rank),
            _ => drop(source.text(PROBLEM)),
        }
        source.text(if tensor { TENSOR } else { PLAIN });
        source
    }
}

/// Sizes of a product: `batches` results of `rows` x `columns`, each a sum over `depth`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub batches: usize,
}

/// What is multiplied, and how it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub problem: Problem,
    pub sizes: Sizes,
    pub wide: bool,
    /// See [`Variant::along`].
    pub along: [bool; 2],
    /// Whether tiles would be mostly empty.
    pub narrow: bool,
    /// The words of the arguments between the sizes and the addresses.
    pub own: &'a [u64],
    /// The addresses of the left and of the right matrix.
    pub operands: [u64; 2],
}

/// Runs `product` by the kernels that suit it. False, and nothing done, where an ending does not fit them.
pub(crate) fn run(
    cuda: &Cuda,
    product: &Product<'_>,
    ending: Option<&Ending<'_>>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<bool> {
    if ending.is_some_and(|e| e.addresses.len() > MOST_OTHERS) {
        return Ok(false);
    }
    let dtype = output.dtype;
    let Sizes { rows, columns, depth, batches } = product.sizes;
    let results = rows * columns * batches;
    let on_tensor_cores = cuda.is_fast() && (dtype != DType::F32 || cuda.tf32());
    let work = if product.narrow {
        Work::Single
    } else if on_tensor_cores && Work::tensor(cuda.context.driver.architecture(), dtype) {
        Work::Tensor
    } else if rows > 64 && columns > 64 && dtype.compute().size() == 4 {
        Work::Large
    } else {
        Work::Small
    };
    let (bm, bn, bk) = work.tile(dtype);
    let tiles = rows.div_ceil(bm) * columns.div_ceil(bn) * batches;
    let blocks = |parts: usize| match work {
        Work::Single => (tiles * parts).div_ceil(THREADS as usize),
        _ => tiles * parts,
    };
    // Few tiles of a long sum: several blocks share one, and the sums of their parts are added up in order.
    let part = match work {
        _ if blocks(1) >= BUSY || depth <= CHUNK => depth,
        Work::Tensor => depth.div_ceil((2 * BUSY / tiles).min(depth / CHUNK)).next_multiple_of(bk),
        _ => CHUNK,
    };
    let parts = depth.div_ceil(part);
    let at_once = (SUMS_AT_ONCE / results).clamp(1, parts);
    let sums = match parts {
        1 => None,
        _ => Some(Temporary::<Cuda>::new(cuda, dtype.compute(), [1 + at_once, results])?),
    };
    let kernel = |work: Work, ending: Option<&Ending<'_>>| {
        let Product { problem, wide, along, .. } = *product;
        let along = along.map(|along| along && work.has_tiles());
        let variant = Variant { problem, dtype, work, wide, along };
        let program = ending.map(|e| e.kernel.program);
        cuda.context.kernel(variant.key(program), || variant.source(program))
    };
    let partial = sums.as_ref().map_or(0, |s| address(&s.operand()));
    for first in (0..parts).step_by(at_once) {
        let some = at_once.min(parts - first);
        let sizes = [rows, columns, depth, batches, first * part, part, some].map(|n| n as u64);
        let addresses = [product.operands[0], product.operands[1], address(&output.as_operand()), partial];
        let words = |ending: Option<&Ending<'_>>| -> Words {
            let arguments = sizes.iter().chain(product.own).chain(&addresses).copied();
            arguments.chain(ending.map(Ending::words).unwrap_or_default()).collect()
        };
        // What ends in a function is the whole sum.
        let ended = ending.filter(|_| parts == 1);
        // SAFETY: the words are the fields of `Arguments` in kernels/problem.cu, and the arrays have the sizes that they say.
        unsafe { cuda.context.launch("matmul", kernel(work, ended)?, blocks(some), 0, &words(ended)) }?;
        if parts > 1 {
            // SAFETY: as above.
            unsafe { cuda.context.launch_each("matmul", kernel(Work::Total, ending)?, results, &words(ending)) }?;
        }
    }
    Ok(true)
}

/// The words of a `Divisor` in kernels/problem.cu: `by`, and where it is not `wide`, and below 2^31, what dividing by it takes.
pub(crate) fn divisor(by: usize, wide: bool) -> [u64; 2] {
    let by = by as u64;
    if wide {
        return [by, 0];
    }
    let shift = by.next_power_of_two().trailing_zeros() as u64;
    [by | (shift << 32), (((1 << shift) - by) << 32) / by + 1]
}

/// The words of up to three sizes, with leading ones.
pub(crate) fn three(values: &[usize], missing: usize) -> SmallVec<[u64; 3]> {
    let mut all: SmallVec<[u64; 3]> = SmallVec::from_elem(missing as u64, 3 - values.len());
    all.extend(values.iter().map(|v| *v as u64));
    all
}

#[cfg(test)]
mod tests {
    use super::divisor;

    /// As `ig_divided` does.
    fn divided(n: u32, [word, multiplier]: [u64; 2]) -> u32 {
        let shift = word >> 32;
        ((((multiplier * n as u64) >> 32) + n as u64) >> shift) as u32
    }

    #[test]
    fn division_by_a_divisor_is_exact() {
        let most = i32::MAX as u32;
        for by in [1, 2, 3, 5, 7, 9, 25, 49, 64, 113, 224, 12_544, 50_176, 65_537, (1 << 30) + 1, most] {
            let words = divisor(by as usize, false);
            assert!(words[1] <= u32::MAX as u64 && words[0] as u32 == by);
            let near = (0..=5).flat_map(|k| [(most / by / 5 * k) * by, (most / by / 5 * k) * by + by - 1]);
            for n in near.chain([0, 1, most - 1, most]).filter(|n| *n <= most) {
                assert_eq!(divided(n, words), n / by, "{n} / {by}");
            }
        }
    }
}
