//! Kernels over the last axis: softmax, normalization, running sums, sorting. On a CPU a work item takes whole rows; on a GPU
//! softmax and normalization stay composed, whose reductions spread a row over a work group.

use crate::{
    Buffer, OpenCl,
    launch::{Arg, Grid},
    memory,
    platform::Class,
    program::ENTRY,
    walk::{Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, ReduceOp, Result, Value,
    backend::{
        Reducer,
        composed::{self, SCANNED},
    },
    expr::{
        Binary, Unary,
        render::{Dialect, Renderer, type_name},
    },
};
use std::fmt::Write;

/// Words before the shape: rows, rows of a work item, length of a row, stride along it, offset of the input, offsets of the
/// outputs.
const SHAPE: usize = 8;

/// What every kernel over rows is given: the words, and the axes that it is compiled for.
struct Walk {
    words: Words,
    class: Class,
    rank: usize,
    rows: usize,
    length: usize,
    narrow: bool,
    grid: Grid,
}

fn walk(ctx: &OpenCl, input: &Layout, outputs: &[&Layout], cost: usize) -> Walk {
    let last = input.rank() - 1;
    let (outer, length) = (&input.shape()[..last], input.shape()[last]);
    let rows: usize = outer.iter().product();
    let class = ctx.shared.facts.class;
    let rank = padded_rank(class, last);
    let (each, grid) = ctx.tasks(rows, length * cost);
    let mut words = Words::new();
    words.extend([rows as u64, each as u64, length as u64, input.strides()[last] as i64 as u64, input.offset() as u64]);
    let offset = |k: usize| outputs.get(k).map_or(0, |l| l.offset() as u64);
    words.extend([offset(0), offset(1), offset(2)]);
    push_shape(&mut words, outer, rank);
    push_strides(&mut words, &input.strides()[..last], rank);
    let narrow = is_narrow(class, rows * length, outputs.iter().copied().chain([input]));
    Walk { words, class, rank, rows, length, narrow, grid }
}

impl Walk {
    fn bits(&self, dtype: DType, choice: u64) -> u64 {
        choice << 32 | (dtype as u64) << 16 | (self.rank as u64) << 1 | u64::from(self.narrow)
    }
}

/// The kernel up to the start of a row: `x` is its first element, `s` the stride, `n` the length, `row` its number.
fn opening(renderer: &Renderer, dtype: DType, w: &Walk, outputs: &str) -> String {
    let ty = type_name(dtype);
    let mut text = crate::preamble(renderer, dtype);
    text += &head(w.narrow, true, SHAPE + 2 * w.rank);
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {ty} *restrict source, {outputs}) {{
const ig_p n = W(2), s = W(3);
ig_p row = (ig_p)get_global_id(0) * W(1);
const ig_p last = min(row + W(1), W(0));
for (; row < last; row++) {{
ig_p p = W(4), rest = row;
{}__global const {ty} *restrict x = source + p;",
        take_axes(w.class, 0..w.rank, SHAPE, &[Stepped { name: "p", strides: SHAPE + w.rank }])
    )
    .unwrap();
    text
}

/// Rows that kernels here sum up: two levels of blocks.
const LONGEST: usize = Reducer::BLOCK * Reducer::BLOCK;

/// Declares `name`, the sum of `term`, made of the element `v`, over a row of at most [`LONGEST`] elements, in the order of
/// `Reducer`.
fn sum(ct: &str, name: &str, value: &str, term: &str) -> String {
    const LANES: usize = Reducer::PARTIALS;
    const BLOCK: usize = Reducer::BLOCK;
    format!(
        "{ct} {name};
{{
{ct} block[{LANES}];
for (int l = 0; l < {LANES}; l++) block[l] = 0;
for (ig_p from = 0; from < n; from += {BLOCK}) {{
const ig_p to = min(from + {BLOCK}, n);
{ct} lane[{LANES}];
for (int l = 0; l < {LANES}; l++) lane[l] = 0;
ig_p at = from;
for (; at + {LANES} <= to; at += {LANES})
for (int l = 0; l < {LANES}; l++) {{ const ig_p i = at + l; const {ct} v = {value}; lane[l] += {term}; }}
for (int l = 0; l < to - at; l++) {{ const ig_p i = at + l; const {ct} v = {value}; lane[l] += {term}; }}
for (int h = {LANES} / 2; h > 0; h /= 2) for (int l = 0; l < h; l++) lane[l] += lane[l + h];
block[from / {BLOCK} % {LANES}] += lane[0];
}}
for (int h = {LANES} / 2; h > 0; h /= 2) for (int l = 0; l < h; l++) block[l] += block[l + h];
{name} = block[0];
}}\n"
    )
}

/// Whether softmax and normalization of `input` are left to reductions.
fn stays_composed(ctx: &OpenCl, input: &Operand<'_, OpenCl>) -> bool {
    let fits = input.shape().last().is_some_and(|&length| length <= LONGEST);
    ctx.shared.facts.class == Class::Gpu || !input.dtype.is_float() || !fits
}

fn softmax_source(native: bool, logarithm: bool, dtype: DType, w: &Walk) -> String {
    let compute = dtype.compute();
    let (ty, ct) = (type_name(dtype), type_name(compute));
    let mut renderer = Renderer::new(Dialect::OpenCl).native(native);
    let value = renderer.load(dtype, "x[i * s]");
    let largest = renderer.binary(Binary::Max, compute, "largest", "v");
    let least = renderer.constant(ReduceOp::Max.identity(compute));
    let exp = renderer.unary(Unary::Exp, compute, "(v - largest)");
    let log = renderer.unary(Unary::Log, compute, "sum");
    let result = if logarithm { "v - largest - shift".to_string() } else { format!("{exp} / sum") };
    let stored = renderer.store(dtype, "y");
    let mut text = opening(&renderer, dtype, w, &format!("__global {ty} *restrict out"));
    let shift = if logarithm { format!("const {ct} shift = {log};\n") } else { String::new() };
    writeln!(
        text,
        "__global {ty} *restrict to = out + W(5) + row * n;
{ct} largest = {least};
for (ig_p i = 0; i < n; i++) {{ const {ct} v = {value}; largest = {largest}; }}
{}{shift}for (ig_p i = 0; i < n; i++) {{ const {ct} v = {value}; const {ct} y = {result}; to[i] = {stored}; }}
}}
}}",
        sum(ct, "sum", &value, &exp)
    )
    .unwrap();
    text
}

pub(crate) fn softmax(
    ctx: &OpenCl,
    logarithm: bool,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = input.dtype;
    if stays_composed(ctx, input) || !output.layout.is_contiguous() {
        return composed::softmax(ctx, logarithm, input, output);
    }
    let w = walk(ctx, input.layout, &[output.layout], 64);
    let kernel = ctx.shared.kernel(("softmax", 0, w.bits(dtype, logarithm.into())), "softmax", || {
        softmax_source(ctx.shared.facts.native(), logarithm, dtype, &w)
    })?;
    let args = [Arg::Words(&w.words), Arg::Memory(input.buffer), Arg::Memory(&*output.buffer)];
    ctx.shared.launch(&kernel, &args, w.grid)
}

fn normalize_source(dtype: DType, w: &Walk) -> String {
    let compute = dtype.compute();
    let (ty, ct) = (type_name(dtype), type_name(compute));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let value = renderer.load(dtype, "x[i * s]");
    let stored = renderer.store(dtype, "y");
    let rstd = renderer.unary(Unary::Rsqrt, compute, "variance");
    let outputs = format!(
        "__global {ty} *restrict out, __global {ct} *restrict means, __global {ct} *restrict rstds, \
         const {ct} per_element, const {ct} epsilon"
    );
    let mut text = opening(&renderer, dtype, w, &outputs);
    writeln!(
        text,
        "{}const {ct} mean = total * per_element;
{}const {ct} variance = squares * per_element + epsilon;
const {ct} rstd = {rstd};
means[W(6) + row] = mean;
rstds[W(7) + row] = rstd;
__global {ty} *restrict to = out + W(5) + row * n;
for (ig_p i = 0; i < n; i++) {{ const {ct} v = {value}; const {ct} y = (v - mean) * rstd; to[i] = {stored}; }}
}}
}}",
        sum(ct, "total", &value, "v"),
        sum(ct, "squares", &value, "(v - mean) * (v - mean)"),
    )
    .unwrap();
    text
}

pub(crate) fn normalize(
    ctx: &OpenCl,
    epsilon: f64,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
    mean: &mut OperandMut<'_, OpenCl>,
    rstd: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = input.dtype;
    if stays_composed(ctx, input) || [&*output, &*mean, &*rstd].iter().any(|o| !o.layout.is_contiguous()) {
        return composed::normalize(ctx, epsilon, input, output, mean, rstd);
    }
    let w = walk(ctx, input.layout, &[output.layout, mean.layout, rstd.layout], 24);
    let kernel = ctx.shared.kernel(("normalize", 0, w.bits(dtype, 0)), "normalize", || normalize_source(dtype, &w))?;
    let args = [
        Arg::Words(&w.words),
        Arg::Memory(input.buffer),
        Arg::Memory(&*output.buffer),
        Arg::Memory(&*mean.buffer),
        Arg::Memory(&*rstd.buffer),
        Arg::value(&Value::F64(1.0 / w.length as f64).cast(dtype.compute())),
        Arg::value(&Value::F64(epsilon).cast(dtype.compute())),
    ];
    ctx.shared.launch(&kernel, &args, w.grid)
}

/// Rows below which a GPU takes their blocks side by side.
const FEW_ROWS: usize = 64;

/// Rows of `dtype` into rows of `stored`, which lie a fixed distance apart: word 6.
fn scan_source(op: ReduceOp, dtype: DType, stored: DType, w: &Walk) -> String {
    let compute = dtype.compute();
    let (out_type, ct) = (type_name(stored), type_name(compute));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let value = renderer.load(dtype, "x[i * s]");
    let folded = renderer.binary(op.primitive(), compute, "acc", "v");
    let joined = renderer.binary(op.primitive(), compute, "before", "acc");
    let put = renderer.store(stored, "y");
    let mut text = opening(&renderer, dtype, w, &format!("__global {out_type} *restrict out"));
    writeln!(
        text,
        "__global {out_type} *restrict to = out + W(5) + row * W(6);
{ct} before = 0;
for (ig_p from = 0; from < n; from += {SCANNED}) {{
const ig_p end = min(from + {SCANNED}, n);
{ct} acc = 0, y = 0;
for (ig_p i = from; i < end; i++) {{
const {ct} v = {value};
acc = i == from ? v : {folded};
y = from == 0 ? acc : {joined};
to[i] = {put};
}}
before = y;
}}
}}
}}"
    )
    .unwrap();
    text
}

/// Scans the rows of `input` into `buffer`, from `offset` on, `distance` apart.
fn scan_rows(
    ctx: &OpenCl,
    op: ReduceOp,
    input: &Operand<'_, OpenCl>,
    stored: DType,
    buffer: &Buffer,
    [offset, distance]: [usize; 2],
) -> Result<()> {
    let rows = input.layout.size() / input.layout.shape()[input.layout.rank() - 1];
    let mut w = walk(ctx, input.layout, &[&Layout::new([rows], &[distance as isize], offset)], 8);
    w.words[6] = distance as u64;
    let bits = w.bits(input.dtype, (stored as u64) << 4 | op as u64);
    let kernel = ctx.shared.kernel(("scan", 0, bits), "scan", || scan_source(op, input.dtype, stored, &w))?;
    ctx.shared.launch(&kernel, &[Arg::Words(&w.words), Arg::Memory(input.buffer), Arg::Memory(buffer)], w.grid)
}

pub(crate) fn scan(
    ctx: &OpenCl,
    op: ReduceOp,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let length = input.layout.shape().last().copied().unwrap_or(0);
    if length == 0 || !output.layout.is_contiguous() {
        return composed::scan(ctx, op, input, output);
    }
    // One work item goes through a row: not where a GPU would have few of them.
    let few = ctx.shared.facts.class == Class::Gpu && input.layout.size() / length < FEW_ROWS;
    if few && length > SCANNED {
        return scan_blocks(ctx, op, input, output);
    }
    scan_rows(ctx, op, input, output.dtype, &*output.buffer, [output.layout.offset(), length])
}

/// Words of the second half of a scan: rows, tasks, tasks of a work item, blocks of a row, whole ones, length of a row, offset.
const BLOCKS_WORDS: usize = 7;

/// The opening of a kernel over the blocks of rows, and its position of block `b` of row `row` among the blocks.
fn blocks_opening(renderer: &Renderer, compute: DType, narrow: bool, parameters: &str) -> String {
    crate::preamble(renderer, compute)
        + &head(narrow, true, BLOCKS_WORDS)
        + &format!(
            "#define BLOCK(row, b) (((b) < whole ? (row) * whole + (b) : rows * whole + (row)) * {SCANNED})
__kernel void {ENTRY}(WORDS, {parameters}) {{
const ig_p rows = W(0), blocks = W(3), whole = W(4);
ig_p task = (ig_p)get_global_id(0) * W(2);
const ig_p last = min(task + W(2), W(1));
for (; task < last; task++) {{\n"
        )
}

/// For each row the final results before its blocks.
fn before_source(op: ReduceOp, compute: DType, narrow: bool) -> String {
    let ct = type_name(compute);
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let joined = renderer.binary(op.primitive(), compute, "before", "end");
    let parameters = format!("__global const {ct} *restrict running, __global {ct} *restrict befores");
    blocks_opening(&renderer, compute, narrow, &parameters)
        + &format!(
            "{ct} before = 0;
for (ig_p b = 0; b < blocks - 1; b++) {{
const {ct} end = running[BLOCK(task, b) + {SCANNED} - 1];
before = b == 0 ? end : {joined};
befores[task * blocks + b + 1] = before;
}}
}}
}}\n"
        )
}

/// Joins them to the running results within blocks.
fn join_source(op: ReduceOp, stored: DType, narrow: bool) -> String {
    let compute = stored.compute();
    let (ty, ct) = (type_name(stored), type_name(compute));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let joined = renderer.binary(op.primitive(), compute, "before", "acc");
    let put = renderer.store(stored, "y");
    let parameters = format!(
        "__global const {ct} *restrict running, __global const {ct} *restrict befores, __global {ty} *restrict out"
    );
    blocks_opening(&renderer, compute, narrow, &parameters)
        + &format!(
            "const ig_p row = task / W(5), i = task % W(5), b = i / {SCANNED};
const {ct} acc = running[BLOCK(row, b) + i % {SCANNED}], before = b == 0 ? acc : befores[row * blocks + b];
const {ct} y = b == 0 ? acc : {joined};
out[W(6) + task] = {put};
}}
}}\n"
        )
}

/// A scan whose blocks are work items of their own: running results within blocks, the results before blocks, both joined.
fn scan_blocks(
    ctx: &OpenCl,
    op: ReduceOp,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let (stored, compute) = (output.dtype, output.dtype.compute());
    let axis = input.layout.rank() - 1;
    let length = input.layout.shape()[axis];
    let rows = input.layout.size() / length;
    let (whole, blocks) = (length / SCANNED, length.div_ceil(SCANNED));
    // The whole blocks of all rows, then the last ones.
    let running = memory::alloc(shared, rows * blocks * SCANNED * compute.size())?;
    let view = input.layout.slice(axis, 0, whole * SCANNED, 1).split_axis(axis, whole, SCANNED);
    scan_rows(ctx, op, &input.with_layout(&view), compute, &running, [0, SCANNED])?;
    if blocks > whole {
        let view = input.layout.slice(axis, whole * SCANNED, length - whole * SCANNED, 1);
        scan_rows(ctx, op, &input.with_layout(&view), compute, &running, [rows * whole * SCANNED, SCANNED])?;
    }
    let befores = memory::alloc(shared, rows * blocks * compute.size())?;
    let narrow = is_narrow(shared.facts.class, rows * blocks * SCANNED, [output.layout]);
    let words = |tasks: usize, each: usize| {
        let words = [rows, tasks, each, blocks, whole, length, output.layout.offset()];
        words.map(|n| n as u64)
    };
    let bits = (stored as u64) << 8 | (op as u64) << 1 | u64::from(narrow);
    let kernel = shared.kernel(("scan befores", 0, bits), "scan", || before_source(op, compute, narrow))?;
    let (each, grid) = ctx.tasks(rows, blocks * 8);
    let args = [Arg::Words(&words(rows, each)), Arg::Memory(&running), Arg::Memory(&befores)];
    shared.launch(&kernel, &args, grid)?;
    let kernel = shared.kernel(("scan join", 0, bits), "scan", || join_source(op, stored, narrow))?;
    let (each, grid) = ctx.tasks(rows * length, 8);
    let args = [
        Arg::Words(&words(rows * length, each)),
        Arg::Memory(&running),
        Arg::Memory(&befores),
        Arg::Memory(&*output.buffer),
    ];
    shared.launch(&kernel, &args, grid)
}

/// One pass of a merge sort: runs of `width` positions, sorted, become runs of twice that. Each element finds its place by
/// searching the other run, so that all are moved at once.
fn sort_source(descending: bool, dtype: DType, w: &Walk) -> String {
    let compute = dtype.compute();
    let ct = type_name(compute);
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let (left, right) = (renderer.load(dtype, "x[a * s]"), renderer.load(dtype, "x[b * s]"));
    let before = match (compute.is_float(), descending) {
        (true, false) => "l < r || (r != r && l == l)",
        (true, true) => "l > r || (r != r && l == l)",
        (false, false) => "l < r",
        (false, true) => "l > r",
    };
    let mut text = crate::preamble(&renderer, dtype);
    text += &head(w.narrow, true, SHAPE + 2 * w.rank);
    let ty = type_name(dtype);
    writeln!(
        text,
        "/* Whether position a of a row comes before position b by its element. */
int ig_before(__global const {ty} *restrict x, ig_p s, ig_p a, ig_p b) {{
const {ct} l = {left}, r = {right};
return {before};
}}
__kernel void {ENTRY}(WORDS, __global const {ty} *restrict source, __global const long *restrict from, \
__global long *restrict to, const long run, const long base, const long target) {{
const ig_p n = W(2), s = W(3), rows = W(0), width = (ig_p)run, total = rows * n;
ig_p e = (ig_p)get_global_id(0) * W(1);
const ig_p end = min(e + W(1), total);
for (; e < end; e++) {{
const ig_p row = e / n, i = e % n;
if (width == 0) {{ to[(ig_p)target + e] = i; continue; }}
ig_p p = W(4), rest = row;
{}__global const {ty} *restrict x = source + p;
__global const long *restrict order = from + (ig_p)base + row * n;
const ig_p start = i / (2 * width) * (2 * width), middle = min(start + width, n);
const int first = i < middle;
ig_p low = first ? middle : start, high = first ? min(start + 2 * width, n) : middle;
const ig_p other = low, mine = (ig_p)order[i];
while (low < high) {{
const ig_p half_way = low + (high - low) / 2, it = (ig_p)order[half_way];
/* Of equal ones those of the first run come first. */
const int before = first ? ig_before(x, s, it, mine) : !ig_before(x, s, mine, it);
if (before) low = half_way + 1; else high = half_way;
}}
to[(ig_p)target + row * n + start + (i - (first ? start : middle)) + (low - other)] = mine;
}}
}}",
        take_axes(w.class, 0..w.rank, SHAPE, &[Stepped { name: "p", strides: SHAPE + w.rank }])
    )
    .unwrap();
    text
}

pub(crate) fn argsort(
    ctx: &OpenCl,
    descending: bool,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = input.dtype;
    if input.layout.rank() == 0 || !output.layout.is_contiguous() {
        return composed::argsort(ctx, descending, input, output);
    }
    let mut w = walk(ctx, input.layout, &[output.layout], 1);
    let total = w.rows * w.length;
    let (run, grid) = ctx.elements(total, 64);
    // Here work is counted in elements.
    let run = if ctx.shared.facts.class == Class::Gpu { total.div_ceil(grid.items()) } else { run };
    w.words[1] = run as u64;
    let kernel = ctx
        .shared
        .kernel(("argsort", 0, w.bits(dtype, descending.into())), "argsort", || sort_source(descending, dtype, &w))?;
    let passes = w.length.next_power_of_two().trailing_zeros() as usize;
    let offset = output.layout.offset();
    let scratch = memory::alloc(&ctx.shared, total * DType::I64.size())?;
    // The positions in order, then one pass per doubling, to and fro so that the last one ends in the output.
    let out = &*output.buffer;
    for pass in 0..=passes {
        let to_output = (passes - pass).is_multiple_of(2);
        let (from, base, to, target) = if to_output { (&scratch, 0, out, offset) } else { (out, offset, &scratch, 0) };
        let width = if pass == 0 { 0 } else { 1usize << (pass - 1) };
        let args = [
            Arg::Words(&w.words),
            Arg::Memory(input.buffer),
            Arg::Memory(from),
            Arg::Memory(to),
            Arg::long(width),
            Arg::long(base),
            Arg::long(target),
        ];
        ctx.shared.launch(&kernel, &args, grid)?;
    }
    Ok(())
}
