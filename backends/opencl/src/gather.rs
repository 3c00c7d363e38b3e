//! `gather` and `scatter_add`. Both check indices on the device; what is out of range is skipped, and told by the next wait.
//!
//! `scatter_add` is deterministic without atomics: a work item owns a part of the output (some lines across `axis`, some
//! range along it) and goes through the indices in order.

use crate::{
    OpenCl,
    context::CHECKED,
    launch::{Arg, Grid},
    platform::Class,
    program::ENTRY,
    walk::{Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, Result,
    backend::composed,
    expr::{
        Binary,
        render::{Dialect, Renderer, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

/// Notes the first index out of range.
const REPORT: &str = "void ig_report(__global int *report, int kernel_number, int axis, long index, long size) {
    if (atomic_cmpxchg((volatile __global int *)report, 0, kernel_number) == 0) {
        report[1] = axis;
        __global long *rest = (__global long *)(report + 2);
        rest[0] = index;
        rest[1] = size;
    }
}
";

/// The number by which `op` reports.
fn number(op: &str) -> usize {
    1 + CHECKED.iter().position(|o| *o == op).expect("a checked kernel")
}

/// The unsigned integer of `dtype`'s size: gather moves bits.
fn carrier(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "uchar",
        2 => "ushort",
        4 => "uint",
        _ => "ulong",
    }
}

/// Words of `gather`: count, run, axis, size of the axis, stride of the source along it, then shape and operands.
const GATHER_SHAPE: usize = 5;

fn gather_source(ty: &str, class: Class, narrow: bool, rank: usize) -> String {
    let operand = |k: usize| GATHER_SHAPE + rank + k * (1 + rank);
    let names = ["ps", "pi", "po"];
    let stepped: Vec<Stepped<'_>> =
        names.iter().enumerate().map(|(k, n)| Stepped { name: n, strides: operand(k) + 1 }).collect();
    let mut text = head(narrow, true, operand(3));
    text += REPORT;
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {ty} *restrict source, __global const long *restrict index, \
         __global {ty} *restrict out, __global int *restrict report) {{
const ig_p n = W(0), size = W(3), stride = W(4);"
    )
    .unwrap();
    let positions: String = names.iter().enumerate().map(|(k, n)| format!("ig_p {n} = W({});\n", operand(k))).collect();
    let number = number("gather");
    let one = |offset: &str| {
        let at = |k: usize| if offset.is_empty() { names[k].into() } else { format!("{} + {offset} * s{k}", names[k]) };
        format!(
            "const long at = index[{}];
if (at < 0 || at >= size) ig_report(report, {number}, (int)W(2), at, size);
else out[{}] = source[{} + (ig_p)at * stride];\n",
            at(1),
            at(2),
            at(0)
        )
    };
    match class {
        Class::Cpu => {
            let last = rank - 1;
            for k in 0..3 {
                writeln!(text, "const ig_p s{k} = W({});", operand(k) + 1 + last).unwrap();
            }
            writeln!(
                text,
                "const ig_p inner = W({});
ig_p i = (ig_p)get_global_id(0) * W(1);
const ig_p end = min(i + W(1), n);
while (i < end) {{
const ig_p start = i % inner, count = min(end - i, inner - start);
ig_p rest = i / inner;",
                GATHER_SHAPE + last
            )
            .unwrap();
            text += &positions;
            for (k, n) in names.iter().enumerate() {
                writeln!(text, "{n} += start * s{k};").unwrap();
            }
            text += &take_axes(class, 0..last, GATHER_SHAPE, &stepped);
            // One index for the whole run: rows are copied.
            writeln!(
                text,
                "if (s1 == 0) {{
const long at = index[pi];
if (at < 0 || at >= size) ig_report(report, {number}, (int)W(2), at, size);
else {{
const __global {ty} *restrict from = source + ps + (ig_p)at * stride;
__global {ty} *restrict to = out + po;
if (s0 == 1 && s2 == 1) for (ig_p j = 0; j < count; j++) to[j] = from[j];
else for (ig_p j = 0; j < count; j++) to[j * s2] = from[j * s0];
}}
}} else for (ig_p j = 0; j < count; j++) {{
{}}}
i += count;
}}",
                one("j")
            )
            .unwrap();
        }
        Class::Gpu => {
            text += "for (ig_p i = (ig_p)get_global_id(0); i < n; i += (ig_p)get_global_size(0)) {\nig_p rest = i;\n";
            text += &positions;
            text += &take_axes(class, 0..rank, GATHER_SHAPE, &stepped);
            text += &one("");
            text += "}\n";
        }
    }
    text + "}\n"
}

/// `layout` with stride 0 along `axis` and the size that `like` has there.
fn without_axis(layout: &Layout, axis: usize, like: &Layout) -> Layout {
    let mut strides: SmallVec<[isize; 6]> = SmallVec::from_slice(layout.strides());
    strides[axis] = 0;
    Layout::new(like.shape().clone(), &strides, layout.offset())
}

pub(crate) fn gather(
    ctx: &OpenCl,
    axis: usize,
    source: &Operand<'_, OpenCl>,
    index: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let class = shared.facts.class;
    let shape = output.layout.shape();
    let n = shape.size();
    let rank = padded_rank(class, shape.rank());
    let narrow = is_narrow(class, n, [source.layout, index.layout, output.layout]);
    let lines = without_axis(source.layout, axis, output.layout);
    let (run, grid) = ctx.elements(n, 8);
    let mut words = Words::new();
    let (size, stride) = (source.layout.shape()[axis] as u64, source.layout.strides()[axis] as i64 as u64);
    words.extend([n as u64, run as u64, axis as u64, size, stride]);
    push_shape(&mut words, shape, rank);
    for layout in [&lines, index.layout, output.layout] {
        words.push(layout.offset() as u64);
        push_strides(&mut words, layout.strides(), rank);
    }
    let ty = carrier(output.dtype);
    let bits = (output.dtype.size() as u64) << 8 | (rank as u64) << 1 | u64::from(narrow);
    let kernel = shared.kernel(("gather", 0, bits), "gather", || gather_source(ty, class, narrow, rank))?;
    shared.with_report(|report| {
        let args = [
            Arg::Words(&words),
            Arg::Memory(source.buffer),
            Arg::Memory(index.buffer),
            Arg::Memory(&*output.buffer),
            Arg::Raw(report),
        ];
        shared.launch(&kernel, &args, grid)
    })
}

/// Lines that a work item of `scatter_add` on a CPU takes together.
const STRIP: usize = 64;

/// Words of `scatter_add`: lines, size of the output's axis, size of the source's, strides of source, index and output along
/// it, the axis, owners of a line, size of an owner's range, then shape (without the axis) and operands.
const SCATTER_SHAPE: usize = 9;

/// `source` is the dtype of the source; the output has the dtype that it is computed in.
fn scatter_source(dtype: DType, class: Class, narrow: bool, rank: usize) -> String {
    let operand = |k: usize| SCATTER_SHAPE + rank + k * (1 + rank);
    let names = ["ps", "pi", "po"];
    let stepped: Vec<Stepped<'_>> =
        names.iter().enumerate().map(|(k, n)| Stepped { name: n, strides: operand(k) + 1 }).collect();
    let compute = dtype.compute();
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let loaded = renderer.load(dtype, "source[from]");
    let add = if dtype == DType::Bool { Binary::Max } else { Binary::Add };
    let sum = renderer.binary(add, compute, "old", "term");
    let mut text = crate::preamble(&renderer, compute);
    text += &head(narrow, true, operand(3));
    text += REPORT;
    let (from, to) = (type_name(dtype), type_name(compute));
    let number = number("scatter_add");
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {from} *restrict source, __global const long *restrict index, \
         __global {to} *restrict out, __global int *restrict report) {{
const ig_p lines = W(0), size = W(1), count = W(2), ts = W(3), ti = W(4), to_stride = W(5), owners = W(7), range = W(8);"
    )
    .unwrap();
    let positions: String = names.iter().enumerate().map(|(k, n)| format!("ig_p {n} = W({});\n", operand(k))).collect();
    let add = format!("const {to} old = out[to], term = {loaded};\nout[to] = {sum};\n");
    match class {
        Class::Cpu => {
            let last = rank - 1;
            writeln!(
                text,
                "const ig_p s0 = W({}), s1 = W({}), s2 = W({}), inner = W({});
const ig_p strips = (inner + {}) / {STRIP}, task = (ig_p)get_global_id(0);
const ig_p owner = task % owners, strip = task / owners % strips;
ig_p rest = task / owners / strips;
const ig_p begin = strip * {STRIP}, width = min((ig_p){STRIP}, inner - begin);
const ig_p low = owner * range, high = min(low + range, size);",
                operand(0) + 1 + last,
                operand(1) + 1 + last,
                operand(2) + 1 + last,
                SCATTER_SHAPE + last,
                STRIP - 1
            )
            .unwrap();
            text += "(void)lines;\n";
            text += &positions;
            text += "ps += begin * s0; pi += begin * s1; po += begin * s2;\n";
            text += &take_axes(class, 0..last, SCATTER_SHAPE, &stepped);
            writeln!(
                text,
                "for (ig_p i = 0; i < count; i++) {{
if (s1 == 0) {{
const long at = index[pi + i * ti];
if (at < 0 || at >= size) ig_report(report, {number}, (int)W(6), at, size);
else if (at >= low && at < high)
for (ig_p w = 0; w < width; w++) {{
const ig_p from = ps + i * ts + w * s0, to = po + (ig_p)at * to_stride + w * s2;
{add}}}
}} else for (ig_p w = 0; w < width; w++) {{
const long at = index[pi + i * ti + w * s1];
if (at < 0 || at >= size) ig_report(report, {number}, (int)W(6), at, size);
else if (at >= low && at < high) {{
const ig_p from = ps + i * ts + w * s0, to = po + (ig_p)at * to_stride + w * s2;
{add}}}
}}
}}"
            )
            .unwrap();
        }
        Class::Gpu => {
            text +=
                "for (ig_p task = (ig_p)get_global_id(0); task < lines * owners; task += (ig_p)get_global_size(0)) {
const ig_p owner = task / lines, low = owner * range, high = min(low + range, size);
ig_p rest = task % lines;\n";
            text += &positions;
            text += &take_axes(class, 0..rank, SCATTER_SHAPE, &stepped);
            writeln!(
                text,
                "for (ig_p i = 0; i < count; i++) {{
const long at = index[pi + i * ti];
if (at < 0 || at >= size) ig_report(report, {number}, (int)W(6), at, size);
else if (at >= low && at < high) {{
const ig_p from = ps + i * ts, to = po + (ig_p)at * to_stride;
{add}}}
}}
}}"
            )
            .unwrap();
        }
    }
    text + "}\n"
}

pub(crate) fn scatter_add(
    ctx: &OpenCl,
    axis: usize,
    source: &Operand<'_, OpenCl>,
    index: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = output.dtype;
    if dtype.compute() != dtype {
        // Sums are kept in f32 and rounded once.
        let mut wide = composed::widened(ctx, &output.as_operand())?;
        scatter_into(ctx, axis, source, index, &mut wide.operand_mut())?;
        return composed::narrow(ctx, &wide.operand(), output);
    }
    scatter_into(ctx, axis, source, index, output)
}

fn scatter_into(
    ctx: &OpenCl,
    axis: usize,
    source: &Operand<'_, OpenCl>,
    index: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let facts = &shared.facts;
    let all = source.layout.shape();
    let (count, size) = (all[axis], output.layout.shape()[axis]);
    let across = |layout: &Layout| layout.slice(axis, 0, 1, 1).remove_axis(axis);
    let layouts = [across(source.layout), across(index.layout), across(output.layout)];
    let shape = layouts[0].shape().clone();
    let lines = shape.size();
    let class = facts.class;
    let rank = padded_rank(class, shape.rank());
    let inner = shape.last().copied().unwrap_or(1);
    let strips = lines / inner * inner.div_ceil(STRIP);
    // Every owner of a line reads all of its indices, so there are no more owners than keep the device busy.
    let (parallel, busy) = match facts.class {
        Class::Cpu => (strips, facts.units),
        Class::Gpu => (lines, facts.units * 256),
    };
    let owners = (busy / parallel.max(1)).clamp(1, size).min(if count < 256 { 1 } else { usize::MAX });
    let range = size.div_ceil(owners);
    let owners = size.div_ceil(range);
    let narrow = is_narrow(facts.class, all.size(), [source.layout, index.layout, output.layout]);
    let mut words = Words::new();
    words.extend([lines, size, count].map(|n| n as u64));
    words.extend([source.layout, index.layout, output.layout].map(|l| l.strides()[axis] as i64 as u64));
    words.extend([axis, owners, range].map(|n| n as u64));
    push_shape(&mut words, &shape, rank);
    for layout in &layouts {
        words.push(layout.offset() as u64);
        push_strides(&mut words, layout.strides(), rank);
    }
    let dtype = source.dtype;
    let bits = (dtype as u64) << 8 | (rank as u64) << 1 | u64::from(narrow);
    let kernel =
        shared.kernel(("scatter_add", 0, bits), "scatter_add", || scatter_source(dtype, class, narrow, rank))?;
    let grid = match class {
        Class::Cpu => Grid::line(strips * owners, 1),
        Class::Gpu => {
            let local = facts.max_group.min(64);
            Grid::line((lines * owners).div_ceil(local).min(facts.units * 256), local)
        }
    };
    shared.with_report(|report| {
        let args = [
            Arg::Words(&words),
            Arg::Memory(source.buffer),
            Arg::Memory(index.buffer),
            Arg::Memory(&*output.buffer),
            Arg::Raw(report),
        ];
        shared.launch(&kernel, &args, grid)
    })
}
