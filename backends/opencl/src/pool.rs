//! Pooling and its gradient. Forward, a work item takes a line of windows; backward, a plane: it goes through the windows in
//! order, so that sums do not depend on how much runs at once.

use crate::{
    OpenCl,
    launch::Arg,
    platform::Class,
    program::ENTRY,
    walk::{Words, head, is_narrow},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, Pool, ReduceOp, Result, Window,
    backend::composed,
    expr::{
        Binary,
        render::{Dialect, Renderer, type_name},
    },
};
use std::fmt::Write;

/// Words: tasks, tasks of a work item, channels, then in threes: input, output, kernel, stride, padding, dilation; then
/// offset and strides of the input, of the head, and the offset of the output.
const THREES: usize = 3;
const INPUT: usize = THREES + 18;
const HEAD: usize = INPUT + 6;
const OUTPUT: usize = HEAD + 6;
const WORDS: usize = OUTPUT + 1;

/// Missing axes come first and have size 1.
fn three(v: &[usize], fill: usize) -> [usize; 3] {
    let mut all = [fill; 3];
    all[3 - v.len()..].copy_from_slice(v);
    all
}

fn push_layout(words: &mut Words, layout: &Layout) {
    words.push(layout.offset() as u64);
    let strides = layout.strides();
    words.extend(strides[..2].iter().map(|&s| s as i64 as u64));
    words.extend(std::iter::repeat_n(0, 5 - strides.len()));
    words.extend(strides[2..].iter().map(|&s| s as i64 as u64));
}

fn words(
    tasks: [usize; 2],
    window: &Window,
    input: &Layout,
    head: Option<&Layout>,
    output: &Layout,
    out: &[usize],
) -> Words {
    let mut words = Words::new();
    words.extend([tasks[0], tasks[1], output.shape()[1]].map(|n| n as u64));
    for group in [
        three(&input.shape()[2..], 1),
        three(out, 1),
        three(&window.kernel, 1),
        three(&window.stride, 1),
        three(&window.padding, 0),
        three(&window.dilation, 1),
    ] {
        words.extend(group.map(|n| n as u64));
    }
    push_layout(&mut words, input);
    push_layout(&mut words, head.unwrap_or(input));
    words.push(output.offset() as u64);
    words
}

/// Names for the words.
fn constants() -> String {
    let mut text = String::from("const ig_p tasks = W(0), each = W(1), channels = W(2);\n");
    for (k, name) in ["in", "on", "kn", "sn", "pn", "dn"].iter().enumerate() {
        let at = THREES + 3 * k;
        writeln!(text, "const ig_p {name}0 = W({at}), {name}1 = W({}), {name}2 = W({});", at + 1, at + 2).unwrap();
    }
    for (name, at) in [("i", INPUT), ("h", HEAD)] {
        writeln!(text, "const ig_p {name}s0 = W({}), {name}s1 = W({}), {name}s2 = W({});", at + 3, at + 4, at + 5)
            .unwrap();
    }
    text + "(void)hs0; (void)hs1; (void)hs2;\n"
}

/// The loop over the taps of window `(o0, o1, o2)` along axis `a` that lie inside, at `x0`, `x1`, `x2`.
fn along(a: usize) -> String {
    format!(
        "for (ig_p t{a} = 0; t{a} < kn{a}; t{a}++) {{
const ig_p x{a} = o{a} * sn{a} + t{a} * dn{a} - pn{a};
if (x{a} < 0 || x{a} >= in{a}) continue;\n"
    )
}

/// The loops over all taps, row-major.
fn taps(inside: &str) -> String {
    [0, 1, 2].map(along).concat() + inside + "}}}\n"
}

/// What a mean divides by: along each axis the taps inside, or before the end of the padding.
fn count(kind: Pool) -> String {
    let (low, high) = if kind == Pool::AvgWithPadding { ("-pn", " + pn") } else { ("0 * pn", " + 0 * pn") };
    let mut text = String::from("ig_p count = 1;\n");
    for a in 0..3 {
        writeln!(
            text,
            "{{ ig_p c = 0; for (ig_p t = 0; t < kn{a}; t++) {{ const ig_p x = o{a} * sn{a} + t * dn{a} - pn{a};
c += x >= {low}{a} && x < in{a}{high}{a}; }} count *= c; }}"
        )
        .unwrap();
    }
    text
}

fn forward_source(kind: Pool, dtype: DType, narrow: bool) -> String {
    let compute = dtype.compute();
    let ty = type_name(compute);
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let loaded = renderer.load(dtype, "source[base + x0 * is0 + x1 * is1 + x2 * is2]");
    let op = if kind == Pool::Max { ReduceOp::Max } else { ReduceOp::Sum };
    let identity = renderer.constant(op.identity(compute));
    let fold = renderer.binary(op.primitive(), compute, "column", "x");
    let fold_column = renderer.binary(op.primitive(), compute, "acc", "column");
    let mean = renderer.binary(Binary::Div, compute, "acc", &format!("({ty})count"));
    let result = if kind == Pool::Max { "acc".to_string() } else { mean };
    let stored = renderer.store(dtype, &result);
    let mut text = crate::preamble(&renderer, compute);
    text += &head(narrow, true, WORDS);
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {0} *restrict source, __global {0} *restrict out) {{",
        type_name(dtype)
    )
    .unwrap();
    text += &constants();
    let count = if kind == Pool::Max { String::new() } else { count(kind) };
    writeln!(
        text,
        "ig_p task = (ig_p)get_global_id(0) * each;
const ig_p last = min(task + each, tasks);
for (; task < last; task++) {{
const ig_p o1 = task % on1, o0 = task / on1 % on0, plane = task / on1 / on0;
const ig_p base = W({INPUT}) + plane / channels * W({}) + plane % channels * W({});
__global {} *restrict to = out + W({OUTPUT}) + task * on2;
for (ig_p o2 = 0; o2 < on2; o2++) {{
{ty} acc = {identity};
{}{ty} column = {identity};
{}{}const {ty} x = {loaded};
column = {fold};
}}}}
acc = {fold_column};
}}
{count}to[o2] = {stored};
}}
}}
}}",
        INPUT + 1,
        INPUT + 2,
        type_name(dtype),
        along(2),
        along(0),
        along(1),
    )
    .unwrap();
    text
}

fn backward_source(kind: Pool, dtype: DType, narrow: bool) -> String {
    let ty = type_name(dtype);
    let renderer = Renderer::new(Dialect::OpenCl);
    let mut text = crate::preamble(&renderer, dtype);
    text += &head(narrow, true, WORDS);
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {ty} *restrict source, __global const {ty} *restrict head, \
         __global {ty} *restrict out) {{"
    )
    .unwrap();
    text += &constants();
    let window = match kind {
        Pool::Max => {
            let inside = format!(
                "const {ty} x = source[base + x0 * is0 + x1 * is1 + x2 * is2];
if (place < 0 || x > best || (x != x && best == best)) {{ best = x; place = (x0 * in1 + x1) * in2 + x2; }}\n"
            );
            format!("ig_p place = -1;\n{ty} best = 0;\n{}if (place >= 0) to[place] += h;\n", taps(&inside))
        }
        _ => {
            let add = "to[(x0 * in1 + x1) * in2 + x2] += share;\n";
            format!("{}const {ty} share = h / ({ty})count;\n{}", count(kind), taps(add))
        }
    };
    writeln!(
        text,
        "ig_p task = (ig_p)get_global_id(0) * each;
const ig_p last = min(task + each, tasks);
for (; task < last; task++) {{
const ig_p base = W({INPUT}) + task / channels * W({}) + task % channels * W({});
const ig_p from = W({HEAD}) + task / channels * W({}) + task % channels * W({});
__global {ty} *restrict to = out + W({OUTPUT}) + task * in0 * in1 * in2;
for (ig_p i = 0; i < in0 * in1 * in2; i++) to[i] = 0;
for (ig_p o0 = 0; o0 < on0; o0++)
for (ig_p o1 = 0; o1 < on1; o1++)
for (ig_p o2 = 0; o2 < on2; o2++) {{
const {ty} h = head[from + o0 * hs0 + o1 * hs1 + o2 * hs2];
{window}}}
(void)base; (void)source;
}}
}}",
        INPUT + 1,
        INPUT + 2,
        HEAD + 1,
        HEAD + 2,
    )
    .unwrap();
    text
}

/// Choices by number.
fn bits(kind: Pool, dtype: DType, narrow: bool) -> u64 {
    (kind as u64) << 8 | (dtype as u64) << 1 | u64::from(narrow)
}

pub(crate) fn pool(
    ctx: &OpenCl,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = input.dtype;
    if window.axes() > 3 || !dtype.is_float() || !output.layout.is_contiguous() {
        return composed::pool(ctx, kind, window, input, output);
    }
    let shared = &ctx.shared;
    let out = &output.layout.shape()[2..];
    let tasks = output.layout.size() / out[out.len() - 1];
    let (each, grid) = ctx.tasks(tasks, out[out.len() - 1] * window.kernel.iter().product::<usize>() * 16);
    let words = words([tasks, each], window, input.layout, None, output.layout, out);
    let narrow = is_narrow(shared.facts.class, output.layout.size(), [input.layout, output.layout]);
    let kernel =
        shared.kernel(("pool", 0, bits(kind, dtype, narrow)), "pool", || forward_source(kind, dtype, narrow))?;
    shared.launch(&kernel, &[Arg::Words(&words), Arg::Memory(input.buffer), Arg::Memory(&*output.buffer)], grid)
}

pub(crate) fn pool_gradient(
    ctx: &OpenCl,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, OpenCl>,
    head: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let dtype = head.dtype;
    let shared = &ctx.shared;
    let planes = output.layout.shape()[0] * output.layout.shape()[1];
    // With few planes a GPU is faster with the composed form's many launches.
    let few = shared.facts.class == Class::Gpu && planes < 64 && output.layout.size() > 1 << 16;
    if window.axes() > 3 || !dtype.is_float() || few || !output.layout.is_contiguous() {
        return composed::pool_gradient(ctx, kind, window, input, head, output);
    }
    if dtype.compute() != dtype {
        let (input, head) = (composed::widened(ctx, input)?, composed::widened(ctx, head)?);
        return composed::rounded(ctx, output, |wide| {
            pool_gradient(ctx, kind, window, &input.operand(), &head.operand(), wide)
        });
    }
    let out = &head.layout.shape()[2..];
    let windows: usize = out.iter().product();
    let (each, grid) = ctx.tasks(planes, windows * window.kernel.iter().product::<usize>() * 16);
    let words = words([planes, each], window, input.layout, Some(head.layout), output.layout, out);
    let layouts = [input.layout, head.layout, output.layout];
    let narrow = is_narrow(shared.facts.class, output.layout.size(), layouts);
    let kernel = shared.kernel(("pool gradient", 0, bits(kind, dtype, narrow)), "pool gradient", || {
        backward_source(kind, dtype, narrow)
    })?;
    let args = [Arg::Words(&words), Arg::Memory(input.buffer), Arg::Memory(head.buffer), Arg::Memory(&*output.buffer)];
    shared.launch(&kernel, &args, grid)
}
