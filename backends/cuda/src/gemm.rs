//! Matrix products by tiles, on plain cores or tensor cores: what `matmul` and `conv` share.

use crate::{
    Cuda,
    context::{Key, Words},
    driver::Architecture,
    operand::{address, word},
    reduce,
    source::Source,
};
use isograd_core::{
    DType, OperandMut, Result,
    backend::launch::Temporary,
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

/// What is multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Problem {
    /// Strided matrices, with so many axes of a batch; positions within a matrix need 64 bits where they are wide.
    MatMul { rank: usize, wide: bool },
    /// A convolution.
    Conv,
    /// Its gradient in the input.
    ConvInputGradient,
    /// Its gradient in the weight.
    ConvWeightGradient,
}

/// What computes a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cores {
    /// Tiles of 64 x 64 in the dtype that is computed in.
    Small,
    /// Tiles of 128 x 128, likewise.
    Large,
    /// Tensor cores; f32 is rounded to TF32.
    Tensor,
}

impl Cores {
    /// Rows and columns of a tile, and how much of the depth is in shared memory at once.
    fn tile(self, dtype: DType) -> (usize, usize, usize) {
        match self {
            Cores::Small => (64, 64, 8),
            Cores::Large => (128, 128, 8),
            Cores::Tensor if dtype == DType::F32 => (128, 128, 16),
            Cores::Tensor => (128, 128, 32),
        }
    }

    /// Whether `architecture` has them for `dtype`.
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
    pub cores: Cores,
    /// Whether neighbours along the depth are neighbours in memory, of the left and of the right matrix.
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
    /// The kernel's name.
    fn name(&self) -> &'static str {
        if self.cores == Cores::Tensor { "tensor" } else { "gemm" }
    }

    fn key(&self, ending: Option<&Program>) -> Key {
        let problem = match self.problem {
            Problem::MatMul { rank, wide } => [0, rank as u64, wide as u64],
            Problem::Conv => [1, 0, 0],
            Problem::ConvInputGradient => [2, 0, 0],
            Problem::ConvWeightGradient => [3, 0, 0],
        };
        let along = self.along.map(u64::from);
        let chosen = [self.dtype as u64, self.cores as u64];
        Key::new(self.name(), problem).and(chosen).and(along).and(ending.map(Program::id))
    }

    /// The kernel, for a product that ends in a program (matrix products alone do).
    pub fn source(&self, ending: Option<&Program>) -> Source {
        let tensor = self.cores == Cores::Tensor;
        let mut source = Source::new(self.name());
        let (bm, bn, bk) = self.cores.tile(self.dtype);
        if tensor && self.dtype == DType::F32 {
            // For the bits of an f32.
            source.renderer.store(DType::F16, "x");
        }
        source.element(self.dtype).define("IG_BM", bm).define("IG_BN", bn).define("IG_BK", bk);
        source.define("IG_TM", bm / 16).define("IG_TN", bn / 16);
        source.define("IG_A_ALONG_DEPTH", self.along[0]).define("IG_B_ALONG_DEPTH", self.along[1]);
        match self.problem {
            Problem::MatMul { rank, wide } => {
                if wide {
                    source.define("IG_WIDE", 1);
                }
                source.define("IG_MATMUL", 1).define("IG_RANK", rank)
            }
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
            (Some(program), Problem::MatMul { rank, .. }) => end(&mut source, program, rank),
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

/// Runs `problem` on the cores that suit it. `own` are the words of its arguments between the sizes and the addresses
/// of the left matrix, the right one and the result. False, and nothing done, where an ending does not fit the kernel.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run(
    cuda: &Cuda,
    problem: Problem,
    sizes: Sizes,
    along: [bool; 2],
    own: &[u64],
    operands: [u64; 2],
    ending: Option<&Ending<'_>>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<bool> {
    let dtype = output.dtype;
    let Sizes { rows, columns, depth, batches } = sizes;
    let wanted = dtype != DType::F32 || cuda.tf32();
    let cores = if wanted && Cores::tensor(cuda.context.driver.architecture(), dtype) {
        Cores::Tensor
    } else if rows > 64 && columns > 64 && dtype.compute().size() == 4 {
        Cores::Large
    } else {
        Cores::Small
    };
    let (bm, bn, bk) = cores.tile(dtype);
    let tiles = rows.div_ceil(bm) * columns.div_ceil(bn) * batches;
    // Few tiles of a long sum: several blocks share one, and their parts are added up in order.
    let splits = if tiles < 128 { (256 / tiles).min(depth / 256).max(1) } else { 1 };
    let part = depth.div_ceil(splits).next_multiple_of(bk);
    let splits = depth.div_ceil(part);
    // The parts of a sum do not end in what the sum does.
    if ending.is_some_and(|e| splits > 1 || e.addresses.len() > MOST_OTHERS) {
        return Ok(false);
    }
    let variant = Variant { problem, dtype, cores, along };
    let program = ending.map(|e| e.kernel.program);
    let function = cuda.context.kernel(variant.key(program), || variant.source(program))?;
    let parts = match splits {
        1 => None,
        _ => Some(Temporary::<Cuda>::new(cuda, dtype.compute(), [splits, batches * rows * columns])?),
    };
    let mut words: Words = [rows, columns, depth, batches, splits, part].iter().map(|n| *n as u64).collect();
    words.extend_from_slice(own);
    let partial = parts.as_ref().map_or(0, |p| address(&p.operand()));
    words.extend([operands[0], operands[1], address(&output.as_operand()), partial]);
    words.extend(ending.map(Ending::words).unwrap_or_default());
    // SAFETY: the words are the fields of `Arguments` in kernels/problem.cu, and the arrays have the sizes that they
    // say.
    unsafe { cuda.context.launch("matmul", function, tiles * splits, 0, &words) }?;
    let Some(parts) = parts else { return Ok(true) };
    reduce::add_parts(cuda, &parts, output).map(|()| true)
}

/// The words of a `Divisor` in kernels/problem.cu: `by`, below 2^31, and what dividing by it takes.
pub(crate) fn divisor(by: usize) -> [u64; 2] {
    let by = by as u64;
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
            let words = divisor(by as usize);
            assert!(words[1] <= u32::MAX as u64 && words[0] as u32 == by);
            let near = (0..=5).flat_map(|k| [(most / by / 5 * k) * by, (most / by / 5 * k) * by + by - 1]);
            for n in near.chain([0, 1, most - 1, most]).filter(|n| *n <= most) {
                assert_eq!(divided(n, words), n / by, "{n} / {by}");
            }
        }
    }
}
