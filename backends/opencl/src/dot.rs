//! Sums of products over two views, in the order of `DotProduct`: products of a few elements or by a vector, and convolutions
//! whose groups have hardly more than one channel. And the sums of chunks, where others have made those.
//!
//! Chains cannot be cut, so a work item lengthens those of several results side by side: in vector registers where one factor
//! is the same for all and the other lies dense, else one by one. Where results are few, chunks are work items of their own.

use crate::{
    Buffer, OpenCl,
    gemm::vector_of,
    launch::Arg,
    memory,
    platform::Class,
    program::ENTRY,
    walk::{Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, Result,
    backend::DotProduct,
    expr::render::{Dialect, Renderer, type_name},
    layout::merge_axes,
};
use std::fmt::Write;

pub(crate) const CHUNK: usize = DotProduct::CHUNK;

/// Sums of chunks that are held at once.
pub(crate) const SUMS_AT_ONCE: usize = 1 << 20;

/// Multiplications up to which chunks stay together.
const LITTLE: usize = 1 << 16;

/// Chains that a work item on a CPU lengthens one by one: few enough for rows whose distance is a power of 2 to share a cache.
const SINGLE: usize = 4;

/// Vectors of chains that it lengthens together.
const VECTORS: usize = 8;

/// Words before the shape: results, terms, terms of a part, parts, results of a row, those of a strip, tasks, tasks of a work
/// item, whether the results of a row lie a fixed distance apart, whether that is 0 in the first factor (2: and 1 in the
/// second), offset of the output.
const SHAPE: usize = 11;

/// The loops over the terms of the chunks `first..end`: `before` and `after` each chunk, and `term` with the positions `ja` and
/// `jb` of a term.
fn chunks(
    class: Class,
    kept: usize,
    rank: usize,
    strides: [usize; 2],
    before: &str,
    term: &str,
    after: &str,
) -> String {
    let last = rank - 1;
    let outer = [Stepped { name: "ja", strides: strides[0] }, Stepped { name: "jb", strides: strides[1] }];
    format!(
        "for (ig_p chunk = first; chunk < end; chunk += {CHUNK}) {{
{before}const ig_p stop = min(chunk + {CHUNK}, end);
for (ig_p e = chunk, n; e < stop; e += n) {{
const ig_p at_last = e % inner;
n = min(stop - e, inner - at_last);
ig_p ja = at_last * ta, jb = at_last * tb;
{{ ig_p rest = e / inner;
{}}}
for (ig_p j = 0; j < n; j++, ja += ta, jb += tb) {{
{term}}}
}}
{after}}}\n",
        take_axes(class, kept..last, SHAPE, &outer)
    )
}

fn source(ctx: &OpenCl, dtype: DType, stored: DType, narrow: bool, kept: usize, reduced: usize) -> String {
    let class = ctx.shared.facts.class;
    let compute = dtype.compute();
    let (ty, ct, out_type) = (type_name(dtype), type_name(compute), type_name(stored));
    let rank = kept + reduced;
    let operand = |k: usize| SHAPE + rank + k * (1 + rank);
    let strides = [operand(0) + 1, operand(1) + 1];
    let single = if class == Class::Cpu { SINGLE } else { 1 };
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let (x, y) = (renderer.load(dtype, "a[pa[w] + ja]"), renderer.load(dtype, "b[pb[w] + jb]"));
    let (still, dense) = (renderer.load(dtype, "a[pa + ja]"), renderer.load(dtype, "b[pb + jb + w]"));
    let (one, side) = (renderer.store(stored, "total[w]"), renderer.store(stored, "tile[w]"));
    let mut text = crate::preamble(&renderer, compute);
    text += &head(narrow, true, operand(2));
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {ty} *restrict a, __global const {ty} *restrict b, \
         __global {out_type} *restrict out) {{
const ig_p results = W(0), terms = W(1), run = W(2), parts = W(3), width = W(4), strip = W(5), tasks = W(6);
const ig_p sa = W({}), sb = W({}), ta = W({}), tb = W({}), inner = W({});
ig_p task = (ig_p)get_global_id(0) * W(7);
const ig_p last = min(task + W(7), tasks), strips = (width + strip - 1) / strip;
for (; task < last; task++) {{
const ig_p from = task % strips * strip, part = task / strips % parts, begin = task / strips / parts * width + from;
const ig_p count = min(strip, width - from), first = part * run, end = min(first + run, terms);
__global {out_type} *restrict to = out + W(10) + part * results + begin;
ig_p g = 0;",
        strides[0] + kept - 1,
        strides[1] + kept - 1,
        strides[0] + rank - 1,
        strides[1] + rank - 1,
        SHAPE + rank - 1,
    )
    .unwrap();
    let positions = |a: &str, b: &str| {
        let stepped = [Stepped { name: a, strides: strides[0] }, Stepped { name: b, strides: strides[1] }];
        take_axes(class, 0..kept, SHAPE, &stepped)
    };
    let starts = [operand(0), operand(1)];
    if class == Class::Cpu {
        let (lanes, vector) = vector_of(ctx, dtype);
        // Conversions of 16-bit numbers go one by one: few of them stand here.
        let groups: &[usize] = if dtype == compute { &[VECTORS, 1] } else { &[1] };
        for &vectors in groups {
            let width = vectors * lanes;
            let each = |f: &dyn Fn(usize) -> String| -> String { (0..vectors).map(f).collect() };
            let load = match dtype == compute {
                true => format!("const __global {ty} *restrict q = b + pb + jb;\n"),
                false => format!("{ct} q[{width}];\nfor (int w = 0; w < {width}; w++) q[w] = {dense};\n"),
            };
            let term = format!(
                "const {vector} x = ({vector})({still});\n{load}{}",
                each(&|v| format!("c{v} = fma(x, vload{lanes}({v}, q), c{v});\n"))
            );
            let before = each(&|v| format!("{vector} c{v} = ({vector})(0);\n"));
            let after = each(&|v| format!("t{v} += c{v};\n"));
            let put = match dtype == compute && stored == compute {
                true => each(&|v| format!("vstore{lanes}(t{v}, {v}, to + g);\n")),
                false => format!(
                    "{ct} tile[{width}];\n{}for (int w = 0; w < {width}; w++) to[g + w] = {side};\n",
                    each(&|v| format!("vstore{lanes}(t{v}, {v}, tile);\n"))
                ),
            };
            writeln!(
                text,
                "for (; W(9) == 2 && g + {width} <= count; g += {width}) {{
ig_p pa = W({}), pb = W({}), rest = begin + g;
{}{}{}{put}}}",
                starts[0],
                starts[1],
                positions("pa", "pb"),
                each(&|v| format!("{vector} t{v} = ({vector})(0);\n")),
                chunks(class, kept, rank, strides, &before, &term, &after)
            )
            .unwrap();
        }
    }
    // What lies beyond the end is another time the last.
    let many = |text: &str| format!("for (int w = 0; w < {single}; w++) {text}");
    let one_factor = format!("const {ct} x = {};\n", renderer.load(dtype, "a[pa[0] + ja]"));
    let same = ("W(9)", one_factor + &many(&format!("acc[w] = fma(x, {y}, acc[w]);\n")));
    let any = ("1", many(&format!("acc[w] = fma({x}, {y}, acc[w]);\n")));
    for (condition, term) in if class == Class::Cpu { vec![same, any] } else { vec![any] } {
        writeln!(
            text,
            "for (; {condition} && g < count; g += {single}) {{
ig_p pa[{single}], pb[{single}];
{ct} total[{single}];
for (int w = 0; w < {single}; w++) {{
const ig_p o = min(g + w, count - 1);
total[w] = 0;
if (w > 0 && W(8)) {{ pa[w] = pa[0] + (o - g) * sa; pb[w] = pb[0] + (o - g) * sb; continue; }}
ig_p p = W({}), q = W({}), rest = begin + o;
{}pa[w] = p;
pb[w] = q;
}}
{}{}
}}",
            starts[0],
            starts[1],
            positions("p", "q"),
            chunks(
                class,
                kept,
                rank,
                strides,
                &format!("{ct} acc[{single}];\n{}", many("acc[w] = 0;\n")),
                &term,
                &many("total[w] += acc[w];\n"),
            ),
            many(&format!("if (g + w < count) to[g + w] = {one};")),
        )
        .unwrap();
    }
    text + "}\n}\n"
}

/// `output[kept..] = Σ a[kept.., terms..] * b[kept.., terms..]` of floats: both have one shape, whose first `kept` axes are the
/// output's, which is contiguous.
pub(crate) fn dot(
    ctx: &OpenCl,
    a: &Operand<'_, OpenCl>,
    b: &Operand<'_, OpenCl>,
    kept: usize,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let facts = &shared.facts;
    let class = facts.class;
    let mut layouts = [a.layout.clone(), b.layout.clone()];
    let kept = merge_axes(&mut layouts, kept);
    let along = |k: usize, layouts: &[Layout; 2]| layouts[k].strides()[kept - 1];
    // The factor that rests along the last axis comes first.
    let mut factors = [a.buffer, b.buffer];
    if along(1, &layouts) == 0 && along(0, &layouts) != 0 {
        layouts.swap(0, 1);
        factors.swap(0, 1);
    }
    let shape = layouts[0].shape();
    let (results, terms) = (shape[..kept].iter().product::<usize>(), shape[kept..].iter().product::<usize>());
    let (lanes, _) = vector_of(ctx, a.dtype);
    let same = class == Class::Cpu && along(0, &layouts) == 0;
    let dense = same && shape[kept - 1] >= lanes && along(1, &layouts) == 1;
    // Short rows are taken together.
    let in_row = class == Class::Cpu && (dense || shape[kept - 1] >= SINGLE);
    let width = if in_row { shape[kept - 1] } else { results };
    let strip = match class {
        Class::Cpu if dense => VECTORS * lanes,
        Class::Cpu => SINGLE,
        Class::Gpu => 1,
    };
    let tasks = results / width * width.div_ceil(strip);
    let chunks = terms.div_ceil(CHUNK);
    let busy = if class == Class::Cpu { facts.units } else { facts.units * 256 };
    let cut = tasks < busy && chunks > 1 && results * terms > LITTLE && results * chunks <= SUMS_AT_ONCE;
    let (run, parts) = if cut { (CHUNK, chunks) } else { (terms, 1) };
    let stored = if cut { output.dtype.compute() } else { output.dtype };
    let tasks = tasks * parts;
    let (each, grid) = ctx.tasks(tasks, strip * run.min(terms) * 2 + 200);
    let sums = match cut {
        true => Some(memory::alloc(shared, results * parts * stored.size())?),
        false => None,
    };
    let (padded, reduced) = (padded_rank(class, kept), padded_rank(class, shape.rank() - kept));
    let mut words = Words::new();
    words.extend([results, terms, run, parts, width, strip, tasks, each].map(|n| n as u64));
    words.extend([
        u64::from(in_row),
        u64::from(in_row && same) + u64::from(dense),
        if cut { 0 } else { output.layout.offset() as u64 },
    ]);
    push_shape(&mut words, &shape[..kept], padded);
    push_shape(&mut words, &shape[kept..], reduced);
    for layout in &layouts {
        words.push(layout.offset() as u64);
        push_strides(&mut words, &layout.strides()[..kept], padded);
        push_strides(&mut words, &layout.strides()[kept..], reduced);
    }
    let narrow = is_narrow(class, results.saturating_mul(parts).max(terms), layouts.iter().chain([output.layout]));
    let bits = (padded as u64) << 32
        | (reduced as u64) << 16
        | (a.dtype as u64) << 8
        | (stored as u64) << 1
        | u64::from(narrow);
    let kernel = shared.kernel(("dot", 0, bits), "matmul", || source(ctx, a.dtype, stored, narrow, padded, reduced))?;
    let target = sums.as_ref().unwrap_or(&*output.buffer);
    let args = [Arg::Words(&words), Arg::Memory(factors[0]), Arg::Memory(factors[1]), Arg::Memory(target)];
    shared.launch(&kernel, &args, grid)?;
    match sums {
        Some(sums) => add_chunks(ctx, &sums, [parts, results], false, output),
        None => Ok(()),
    }
}

fn add_source(stored: DType, narrow: bool) -> String {
    let compute = stored.compute();
    let (ty, ct) = (type_name(stored), type_name(compute));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let (before, put) = (renderer.load(stored, "*to"), renderer.store(stored, "total"));
    let mut text = crate::preamble(&renderer, compute);
    text += &head(narrow, true, 5);
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {ct} *restrict sums, __global {ty} *restrict out) {{
const ig_p chunks = W(0), results = W(1);
ig_p o = (ig_p)get_global_id(0) * W(2);
const ig_p last = min(o + W(2), results);
for (; o < last; o++) {{
__global {ty} *restrict to = out + W(3) + o;
{ct} total = 0;
if (W(4)) total = {before};
for (ig_p c = 0; c < chunks; c++) total += sums[c * results + o];
*to = {put};
}}
}}"
    )
    .unwrap();
    text
}

/// Adds up the `sums` of chunks, `[chunks, results]`, in order; with `more`, after what `output` holds, which then has the dtype
/// that it is computed in.
pub(crate) fn add_chunks(
    ctx: &OpenCl,
    sums: &Buffer,
    [chunks, results]: [usize; 2],
    more: bool,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let stored = output.dtype;
    let (each, grid) = ctx.tasks(results, chunks * 4);
    let mut words = Words::new();
    words.extend([chunks, results, each, output.layout.offset(), usize::from(more)].map(|n| n as u64));
    let narrow = is_narrow(shared.facts.class, chunks * results, [output.layout]);
    let bits = (stored as u64) << 1 | u64::from(narrow);
    let kernel = shared.kernel(("chunks", 0, bits), "matmul", || add_source(stored, narrow))?;
    shared.launch(&kernel, &[Arg::Words(&words), Arg::Memory(sums), Arg::Memory(&*output.buffer)], grid)
}
