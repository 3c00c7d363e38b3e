//! Kernels of whole rows: softmax, normalization, running sums, sorting.

use crate::{
    Cuda,
    context::{Key, Words},
    operand::{address, contiguous, word},
    source::{Source, THREADS},
};
use isograd_core::{
    DType, Operand, OperandMut, ReduceOp, Result, Value,
    backend::{
        Reducer, composed,
        launch::{self, Temporary},
    },
    expr::render::type_name,
};

const TEXT: &str = include_str!("kernels/rows.cu");

/// Bytes of shared memory in which rows are kept: what every device gives a block without being asked, less what the
/// kernels declare.
const KEPT: usize = 45 << 10;

/// Terms of a block of a sum, and elements of a block of running results.
const BLOCK: usize = Reducer::BLOCK;

/// Elements of a row up to which a warp works on it.
const SHORT: usize = 1024;

/// Elements of a row up to which one block works on it: its sums have two levels then.
const LONG: usize = BLOCK * BLOCK;

/// Elements of a row up to which it is sorted by one block.
pub(crate) const SORTED: usize = 2048;

/// A kernel of rows, for `team` threads a row and accesses of `together` elements.
pub(crate) fn source(name: &'static str, dtype: DType, team: u32, together: usize, logarithm: bool) -> Source {
    let mut source = Source::new(name);
    source.element(dtype).mathematics(dtype).reduction(ReduceOp::Sum, dtype);
    source.define("IG_TEAM", team).define("IG_V", together).define("IG_BLOCK", BLOCK);
    source.define("IG_BLOCKS", if team == THREADS { LONG } else { SHORT } / BLOCK);
    source.define("IG_LOGARITHM", logarithm as u8);
    source.define(if name == "softmax" { "IG_SOFTMAX" } else { "IG_NORMALIZE" }, 1).text(TEXT);
    source
}

/// A kernel of running results; those within blocks are `whole` where there is one block.
pub(crate) fn scan_source(name: &'static str, op: ReduceOp, dtype: DType, whole: bool) -> Source {
    let mut source = Source::new(name);
    let kernel = match name {
        "scan" => "IG_SCAN",
        "scan_last" => "IG_SCAN_LAST",
        _ => "IG_SCAN_JOIN",
    };
    source.element(dtype).reduction(op, dtype).define(kernel, 1).define("IG_BLOCK", BLOCK);
    let (running, value) = if whole { (dtype, "ig_store(x)") } else { (dtype.compute(), "x") };
    source.define("Running", type_name(running)).define("ig_running(x)", value).text(TEXT);
    source
}

pub(crate) fn sort_source(name: &'static str, dtype: DType, descending: bool) -> Source {
    let mut source = Source::new(name);
    let kernel = match name {
        "sort" => "IG_SORT",
        "sort_start" => "IG_SORT_START",
        _ => "IG_SORT_STEP",
    };
    source.element(dtype).define("IG_DESCENDING", descending as u8).define("IG_SORTED", SORTED);
    source.define(kernel, 1).text(TEXT);
    source
}

/// How rows are worked on.
struct Plan {
    team: u32,
    together: usize,
    blocks: usize,
    shared: usize,
}

fn plan(dtype: DType, rows: usize, n: usize, addresses: &[u64]) -> Plan {
    let mut together = 16 / dtype.size();
    let aligned = |v: usize| n.is_multiple_of(v) && addresses.iter().all(|a| a % (v * dtype.size()) as u64 == 0);
    while together > 1 && !aligned(together) {
        together /= 2;
    }
    let team = if n <= SHORT { 32 } else { THREADS };
    let each = THREADS / team;
    let kept = n * dtype.compute().size() * each as usize;
    Plan { team, together, blocks: rows.div_ceil(each as usize), shared: if kept <= KEPT { kept } else { 0 } }
}

fn last(operand: &Operand<'_, Cuda>) -> usize {
    operand.shape()[operand.shape().rank() - 1]
}

/// See [`isograd_core::Backend::softmax`].
pub(crate) fn softmax(
    cuda: &Cuda,
    logarithm: bool,
    input: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() || !input.dtype.is_float() || last(input) > LONG {
        return composed::softmax(cuda, logarithm, input, output);
    }
    let copy = contiguous(cuda, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let out = address(&output.as_operand());
    row_kernel(cuda, "softmax", logarithm, 0.0, &input, [out, 0, 0])
}

/// See [`isograd_core::Backend::normalize`].
pub(crate) fn normalize(
    cuda: &Cuda,
    epsilon: f64,
    input: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
    mean: &mut OperandMut<'_, Cuda>,
    rstd: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    let all = output.layout.is_contiguous() && mean.layout.is_contiguous() && rstd.layout.is_contiguous();
    if !all || !input.dtype.is_float() || last(input) > LONG {
        return composed::normalize(cuda, epsilon, input, output, mean, rstd);
    }
    let copy = contiguous(cuda, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let outputs = [&*output, &*mean, &*rstd].map(|o| address(&o.as_operand()));
    row_kernel(cuda, "normalize", false, epsilon, &input, outputs)
}

fn row_kernel(
    cuda: &Cuda,
    name: &'static str,
    logarithm: bool,
    epsilon: f64,
    input: &Operand<'_, Cuda>,
    outputs: [u64; 3],
) -> Result<()> {
    let (d, n) = (input.dtype, last(input));
    let rows = input.layout.size() / n;
    let plan = plan(d, rows, n, &[address(input), outputs[0]]);
    let key = Key::new(name, [logarithm as u64, d as u64, plan.team as u64, plan.together as u64]);
    let function = cuda.context.kernel(key, || source(name, d, plan.team, plan.together, logarithm))?;
    let number = |v: f64| word(Value::F64(v).cast(d.compute()));
    let mut words: Words = [rows as u64, n as u64, (plan.shared > 0) as u64, address(input)].into_iter().collect();
    words.extend(outputs);
    words.extend([number(1.0 / n as f64), number(epsilon)]);
    // SAFETY: the words are the fields of `Arguments`; arrays are contiguous, with `rows` rows of `n`.
    unsafe { cuda.context.launch(name, function, plan.blocks, plan.shared, &words) }
}

/// See [`isograd_core::Backend::scan`].
pub(crate) fn scan(
    cuda: &Cuda,
    op: ReduceOp,
    input: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() || input.dtype == DType::Bool {
        return composed::scan(cuda, op, input, output);
    }
    let copy = contiguous(cuda, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let (d, n, size) = (input.dtype, last(&input), input.layout.size());
    let (rows, blocks) = (size / n, n.div_ceil(BLOCK));
    let whole = blocks == 1;
    let kernel = |name: &'static str| {
        let key = Key::new(name, [op as u64, d as u64, whole as u64]);
        cuda.context.kernel(key, || scan_source(name, op, d, whole))
    };
    let out = address(&output.as_operand());
    // Running results within blocks, in the dtype that is computed in.
    let wide = match whole || d == d.compute() {
        true => None,
        false => Some(Temporary::<Cuda>::new(cuda, d.compute(), input.shape().clone())?),
    };
    let running = wide.as_ref().map_or(out, |t| address(&t.operand()));
    let sizes = [rows as u64, n as u64, blocks as u64];
    let words: Words = sizes.into_iter().chain([address(&input), running]).collect();
    // SAFETY: the words are the fields of `Arguments`; arrays are contiguous, with rows of `n`.
    unsafe { cuda.context.launch_each("scan", kernel("scan")?, rows * blocks, &words) }?;
    if whole {
        return Ok(());
    }
    let lasts = Temporary::<Cuda>::new(cuda, d.compute(), [rows, blocks])?;
    let to = address(&lasts.operand());
    // SAFETY: as above, and `lasts` has `rows` rows of `blocks`.
    unsafe {
        cuda.context.launch("scan", kernel("scan_last")?, rows, 0, &[n as u64, blocks as u64, running, to])?;
        let words: Words = sizes.into_iter().chain([running, to, out]).collect();
        cuda.context.launch_each("scan", kernel("scan_join")?, size, &words)
    }
}

/// See [`isograd_core::Backend::argsort`].
pub(crate) fn argsort(
    cuda: &Cuda,
    descending: bool,
    input: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() {
        return composed::argsort(cuda, descending, input, output);
    }
    let copy = contiguous(cuda, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let (d, n) = (input.dtype, last(&input));
    let rows = input.layout.size() / n;
    let room = n.next_power_of_two().max(2);
    let kernel = |name: &'static str| {
        cuda.context.kernel(Key::new(name, [d as u64, descending as u64]), || sort_source(name, d, descending))
    };
    let words = |width: usize, distance: usize, out: u64| {
        [rows as u64, n as u64, room as u64, width as u64, distance as u64, address(&input), out]
    };
    if room <= SORTED {
        let words = words(0, 0, address(&output.as_operand()));
        // SAFETY: the words are the fields of `Arguments`; both arrays are contiguous, with rows of `n`.
        return unsafe { cuda.context.launch("argsort", kernel("sort")?, rows, 0, &words) };
    }
    let mut places = Temporary::new(cuda, DType::I64, [rows, room])?;
    let to = address(&places.operand_mut().as_operand());
    let start = kernel("sort_start")?;
    // SAFETY: as above, and `places` has `rows` rows of `room`.
    unsafe { cuda.context.launch_each("argsort", start, rows * room, &words(0, 0, to)) }?;
    let step = kernel("sort_step")?;
    let mut width = 2;
    while width <= room {
        let mut distance = width / 2;
        while distance > 0 {
            // SAFETY: as above.
            unsafe { cuda.context.launch_each("argsort", step, rows * room / 2, &words(width, distance, to)) }?;
            distance /= 2;
        }
        width *= 2;
    }
    let sorted = places.layout().slice(1, 0, n, 1);
    let target = output.layout.reshape(&[rows, n].into()).expect("contiguous arrays take any shape");
    launch::copy(cuda, &places.through(&sorted), &mut output.with_layout(&target))
}
