//! The matrix product beneath `matmul` and convolution: both factors are copied into panels, which takes care of every
//! layout, window and dtype, and a kernel multiplies panels.
//!
//! A panel holds so many rows of the left factor, or columns of the right one, term by term: `[terms][width]`, zeros beyond
//! the edge. On a CPU a work item multiplies two panels in vector registers; on a GPU a work group does by way of local
//! memory. Both follow the order of `DotProduct`: chains of 256 terms, whose sums are added up in order. Where results are few
//! and terms many, each chunk of terms is multiplied on its own.

use crate::{
    Buffer, OpenCl,
    dot::{CHUNK, SUMS_AT_ONCE, add_chunks},
    launch::{Arg, Grid, together},
    memory,
    platform::Class,
    program::{Compiled, ENTRY},
    walk::{Stepped, Words, head, is_narrow, take_axes},
};
use isograd_core::{
    DType, Operand, OperandMut, Result,
    backend::composed,
    expr::render::{Dialect, Renderer, type_name},
};
use smallvec::SmallVec;
use std::{fmt::Write, ops::Range, sync::Arc};

/// Axes that batch, terms and width may have each, after merging.
const AXES: usize = 4;

/// Terms that a work item packs.
const PACKED_TERMS: usize = 256;

/// Results below which the terms are cut, where there are so many chunks of them.
const FEW_RESULTS: usize = 1 << 15;
const MANY_CHUNKS: usize = 8;

/// Side of the tile that a work group computes on a GPU, and of the tile of a work item.
const TILE: usize = 64;
const ITEM: usize = 4;
/// Work items of a group, which compute a tile together.
const GROUP: usize = (TILE / ITEM) * (TILE / ITEM);
/// Terms that a work group holds in local memory at once.
const DEPTH: usize = 16;

/// One factor: its elements as `[batch.., terms.., width..]`, so many axes each.
pub(crate) struct Factor<'a> {
    pub operand: Operand<'a, OpenCl>,
    pub axes: [usize; 3],
}

/// A factor in panels.
pub(crate) struct Panels {
    buffer: Buffer,
    /// Batches that it holds; batch `i` of the product uses `i % batch`.
    batch: usize,
    terms: usize,
    width: usize,
}

/// Which factor, hence how wide its panels are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Left,
    Right,
}

/// How many numbers vector registers of a CPU hold of what `dtype` is computed in, and the type of such vectors.
pub(crate) fn vector_of(ctx: &OpenCl, dtype: DType) -> (usize, String) {
    let compute = dtype.compute();
    let lanes = (ctx.shared.facts.vector * 4 / compute.size()).clamp(2, 16);
    (lanes, format!("{}{lanes}", if compute == DType::F64 { "double" } else { "float" }))
}

fn panel_width(ctx: &OpenCl, dtype: DType, side: Side) -> usize {
    let (lanes, _) = vector_of(ctx, dtype);
    match (ctx.shared.facts.class, side) {
        (Class::Gpu, _) => TILE,
        // As many accumulators as there are registers, but for the factors': 32 with the widest, else 16.
        (Class::Cpu, Side::Left) => {
            if lanes * dtype.compute().size() >= 64 {
                12
            } else {
                6
            }
        }
        (Class::Cpu, Side::Right) => 2 * lanes,
    }
}

/// Neighbouring axes made one where strides allow, padded in front; `None` if more than [`AXES`] are left.
fn merged(shape: &[usize], strides: &[isize]) -> Option<[(usize, isize); AXES]> {
    let mut axes: SmallVec<[(usize, isize); 8]> = SmallVec::new();
    for (&size, &stride) in shape.iter().zip(strides) {
        match axes.last_mut() {
            _ if size == 1 => (),
            Some((n, s)) if *s == stride * size as isize => (*n, *s) = (*n * size, stride),
            _ => axes.push((size, stride)),
        }
    }
    let mut all = [(1, 0); AXES];
    let from = AXES.checked_sub(axes.len())?;
    all[from..].copy_from_slice(&axes);
    Some(all)
}

/// Words of packing: batches, terms, width, panels, tasks, tasks of a work item, offset, the first term, then the shapes and
/// strides.
const PACK_SHAPE: usize = 8;

fn pack_source(dtype: DType, class: Class, narrow: bool, width: usize) -> String {
    let compute = type_name(dtype.compute());
    let shape = |group: usize| PACK_SHAPE + group * AXES;
    let strides = |group: usize| PACK_SHAPE + (3 + group) * AXES;
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let mut load = |at: &str| renderer.load(dtype, &format!("source[{at}]"));
    let (one, beside) = (load("from + at[w]"), load("from + at[0] + w"));
    let single = load("p");
    let mut text = crate::preamble(&renderer, dtype);
    text += &head(narrow, true, PACK_SHAPE + 6 * AXES);
    writeln!(
        text,
        "__kernel void {ENTRY}(WORDS, __global const {} *restrict source, __global {compute} *restrict out) {{
const ig_p terms = W(1), width = W(2), panels = W(3), tasks = W(4), each = W(5);",
        type_name(dtype)
    )
    .unwrap();
    let walk = |group: usize, name: &str| {
        take_axes(class, 0..AXES, shape(group), &[Stepped { name, strides: strides(group) }])
    };
    match class {
        Class::Cpu => {
            writeln!(
                text,
                "const ig_p chunks = (terms + {}) / {PACKED_TERMS};
ig_p task = (ig_p)get_global_id(0) * each;
const ig_p last = min(task + each, tasks);
for (; task < last; task++) {{
const ig_p chunk = task % chunks, panel = task / chunks % panels, batch = task / chunks / panels;
ig_p start = W(6);
{{ ig_p rest = batch;\n{}}}
ig_p at[{width}];
const int count = (int)min((ig_p){width}, width - panel * {width});
int together = count == {width};
for (int w = 0; w < count; w++) {{
ig_p p = start, rest = panel * {width} + w;
{}at[w] = p;
together &= p == at[0] + w;
}}
const ig_p end = min((chunk + 1) * {PACKED_TERMS}, terms);
__global {compute} *restrict to = out + ((batch * panels + panel) * terms + chunk * {PACKED_TERMS}) * {width};
for (ig_p k = chunk * {PACKED_TERMS}; k < end; k++, to += {width}) {{
ig_p from = 0, rest = k + W(7);
{}if (together) for (int w = 0; w < {width}; w++) to[w] = {beside};
else if (count == {width}) for (int w = 0; w < {width}; w++) to[w] = {one};
else {{
for (int w = 0; w < count; w++) to[w] = {one};
for (int w = count; w < {width}; w++) to[w] = 0;
}}
}}
}}",
                PACKED_TERMS - 1,
                walk(0, "start"),
                walk(2, "p"),
                walk(1, "from"),
            )
            .unwrap();
        }
        Class::Gpu => {
            writeln!(
                text,
                "(void)each;
for (ig_p task = (ig_p)get_global_id(0); task < tasks; task += (ig_p)get_global_size(0)) {{
const ig_p w = task % {width}, k = task / {width} % terms, panel = task / {width} / terms % panels;
const ig_p batch = task / {width} / terms / panels, column = panel * {width} + w;
if (column >= width) {{ out[task] = 0; continue; }}
ig_p p = W(6);
{{ ig_p rest = batch;\n{}}}
{{ ig_p rest = k + W(7);\n{}}}
{{ ig_p rest = column;\n{}}}
out[task] = {single};
}}",
                walk(0, "p"),
                walk(1, "p"),
                walk(2, "p"),
            )
            .unwrap();
        }
    }
    text + "}\n"
}

/// Whether panels can be made of `factor`.
pub(crate) fn fits(factor: &Factor<'_>) -> bool {
    groups(factor).is_some()
}

type Groups = [[(usize, isize); AXES]; 3];

fn groups(factor: &Factor<'_>) -> Option<Groups> {
    let layout = factor.operand.layout;
    let [batch, terms, _] = factor.axes;
    let group = |from: usize, to: usize| merged(&layout.shape()[from..to], &layout.strides()[from..to]);
    Some([group(0, batch)?, group(batch, batch + terms)?, group(batch + terms, layout.rank())?])
}

/// The terms of `factor`.
pub(crate) fn terms(factor: &Factor<'_>) -> usize {
    let [batch, terms, _] = factor.axes;
    factor.operand.shape()[batch..batch + terms].iter().product()
}

/// Copies `terms` of `factor` into panels. A batch that is broadcast is copied once.
pub(crate) fn pack(ctx: &OpenCl, side: Side, factor: &Factor<'_>, terms: Range<usize>) -> Result<Panels> {
    let shared = &ctx.shared;
    let class = shared.facts.class;
    let (operand, dtype) = (factor.operand, factor.operand.dtype);
    let mut groups = groups(factor).expect("callers ask `fits`");
    if groups[0].iter().all(|(_, s)| *s == 0) {
        groups[0] = [(1, 0); AXES];
    }
    let [batch, _, width] = groups.map(|g| g.iter().map(|(n, _)| n).product::<usize>());
    let (first, terms) = (terms.start, terms.len());
    let panel = panel_width(ctx, dtype, side);
    let panels = width.div_ceil(panel);
    let size = batch * panels * terms * panel;
    let buffer = memory::alloc(shared, size * dtype.compute().size())?;
    let (tasks, (each, grid)) = match class {
        Class::Cpu => {
            let tasks = batch * panels * terms.div_ceil(PACKED_TERMS);
            (tasks, ctx.tasks(tasks, terms.min(PACKED_TERMS) * panel * 2))
        }
        Class::Gpu => (size, ctx.elements(size, 1)),
    };
    let mut words = Words::new();
    words.extend([batch, terms, width, panels, tasks, each, operand.layout.offset(), first].map(|n| n as u64));
    groups.iter().flatten().for_each(|(n, _)| words.push(*n as u64));
    groups.iter().flatten().for_each(|(_, s)| words.push(*s as i64 as u64));
    let narrow = is_narrow(class, size.max(first + terms), [operand.layout]);
    let bits = (dtype as u64) << 16 | (panel as u64) << 1 | u64::from(narrow);
    let kernel = shared.kernel(("pack", 0, bits), "matmul", || pack_source(dtype, class, narrow, panel))?;
    shared.launch(&kernel, &[Arg::Words(&words), Arg::Memory(operand.buffer), Arg::Memory(&buffer)], grid)?;
    Ok(Panels { buffer, batch, terms, width })
}

/// Words of the product: rows, columns, terms, panels of rows and of columns, batches of left and right, terms of a part,
/// parts, tasks, tasks of a work item, offset of the output, results of all batches, the first term, whether the sums go on
/// from what the output holds.
const WORDS: usize = 15;

/// `stored`: the dtype of the output.
fn product_source(ctx: &OpenCl, stored: DType, narrow: bool) -> String {
    let dtype = stored.compute();
    let (ty, out_type) = (type_name(dtype), type_name(stored));
    let (left, right) = (panel_width(ctx, stored, Side::Left), panel_width(ctx, stored, Side::Right));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let (held, element) = (renderer.load(stored, "to[r * n + c]"), renderer.store(stored, "tile[r][c]"));
    let mut text = crate::preamble(&renderer, dtype);
    text += &head(narrow, true, WORDS);
    let group = if ctx.shared.facts.class == Class::Gpu { together(GROUP) } else { String::new() };
    writeln!(
        text,
        "__kernel {group}void {ENTRY}(WORDS, __global const {ty} *restrict a, __global const {ty} *restrict b, \
         __global {out_type} *restrict out) {{
const ig_p m = W(0), n = W(1), terms = W(2), pm = W(3), pn = W(4), run = W(7), parts = W(8), tasks = W(9), each = W(10);"
    )
    .unwrap();
    // Neighbouring tasks share the panel of columns.
    let task = format!(
        "const ig_p i = task % pm, j = task / pm % pn, part = task / pm / pn % parts, batch = task / pm / pn / parts;
const ig_p first = W(13) + part * run, last = min(first + run, terms);
__global const {ty} *restrict pa = a + ((batch % W(5)) * pm + i) * terms * {left} + first * {left};
__global const {ty} *restrict pb = b + ((batch % W(6)) * pn + j) * terms * {right} + first * {right};
__global {out_type} *restrict to = out + W(11) + part * W(12) + (batch * m + i * {left}) * n + j * {right};
const int rows = (int)min((ig_p){left}, m - i * {left}), columns = (int)min((ig_p){right}, n - j * {right});\n"
    );
    match ctx.shared.facts.class {
        Class::Cpu => {
            let (lanes, vector) = vector_of(ctx, dtype);
            let each = |f: &dyn Fn(usize) -> String| -> String { (0..left).map(f).collect() };
            let tile = format!(
                "for (int r = 0; r < {left}; r++) for (int c = 0; c < {right}; c++) \
                 tile[r][c] = r < rows && c < columns ? {held} : 0;\n{}",
                each(&|r| format!("t{r}_0 = vload{lanes}(0, tile[{r}]); t{r}_1 = vload{lanes}(1, tile[{r}]);\n"))
            );
            let whole = match stored == dtype {
                true => format!(
                    "if (columns == {right}) {{\n{}continue;\n}}\n",
                    each(&|r| format!(
                        "if ({r} < rows) {{ vstore{lanes}(t{r}_0, 0, to + {r} * n); vstore{lanes}(t{r}_1, 1, to + {r} * n); }}\n"
                    ))
                ),
                false => String::new(),
            };
            writeln!(
                text,
                "ig_p task = (ig_p)get_global_id(0) * each;
const ig_p end = min(task + each, tasks);
for (; task < end; task++) {{
{task}{ty} tile[{left}][{right}];
{}if (W(14)) {{
{tile}}}
for (ig_p k = first; k < last;) {{
const ig_p stop = min(k + {CHUNK}, last);
{}for (; k < stop; k++) {{
const {vector} b0 = vload{lanes}(0, pb), b1 = vload{lanes}(1, pb);
{}pa += {left};
pb += {right};
}}
{}}}
{whole}{}for (int r = 0; r < rows; r++) for (int c = 0; c < columns; c++) to[r * n + c] = {element};
}}",
                each(&|r| format!("{vector} t{r}_0 = ({vector})(0), t{r}_1 = ({vector})(0);\n")),
                each(&|r| format!("{vector} c{r}_0 = ({vector})(0), c{r}_1 = ({vector})(0);\n")),
                each(&|r| format!(
                    "{{ const {vector} x = ({vector})(pa[{r}]); c{r}_0 = fma(x, b0, c{r}_0); c{r}_1 = fma(x, b1, c{r}_1); }}\n"
                )),
                each(&|r| format!("t{r}_0 += c{r}_0; t{r}_1 += c{r}_1;\n")),
                each(&|r| format!("vstore{lanes}(t{r}_0, 0, tile[{r}]); vstore{lanes}(t{r}_1, 1, tile[{r}]);\n")),
            )
            .unwrap();
        }
        Class::Gpu => {
            let side = TILE / ITEM;
            let (held, element) = (
                renderer.load(stored, &format!("to[(y + r * {side}) * n + x + c * {side}]")),
                renderer.store(stored, "total[r][c]"),
            );
            writeln!(
                text,
                "(void)each;
__local {ty} la[{DEPTH}][{TILE}], lb[{DEPTH}][{TILE}];
const int lid = (int)get_local_id(0), x = lid % {side}, y = lid / {side};
for (ig_p task = (ig_p)get_group_id(0); task < tasks; task += (ig_p)get_num_groups(0)) {{
{task}{ty} total[{ITEM}][{ITEM}];
for (int r = 0; r < {ITEM}; r++)
for (int c = 0; c < {ITEM}; c++) {{
total[r][c] = 0;
if (W(14) && y + r * {side} < rows && x + c * {side} < columns) total[r][c] = {held};
}}
for (ig_p chunk = first; chunk < last; chunk += {CHUNK}) {{
const ig_p stop = min(chunk + {CHUNK}, last);
{ty} acc[{ITEM}][{ITEM}];
for (int r = 0; r < {ITEM}; r++) for (int c = 0; c < {ITEM}; c++) acc[r][c] = 0;
for (ig_p k = chunk; k < stop; k += {DEPTH}) {{
const int depth = (int)min((ig_p){DEPTH}, stop - k);
for (int e = lid; e < depth * {TILE}; e += {GROUP}) {{
la[e / {TILE}][e % {TILE}] = pa[(k - first) * {TILE} + e];
lb[e / {TILE}][e % {TILE}] = pb[(k - first) * {TILE} + e];
}}
barrier(CLK_LOCAL_MEM_FENCE);
for (int d = 0; d < depth; d++)
for (int r = 0; r < {ITEM}; r++)
for (int c = 0; c < {ITEM}; c++) acc[r][c] = fma(la[d][y + r * {side}], lb[d][x + c * {side}], acc[r][c]);
barrier(CLK_LOCAL_MEM_FENCE);
}}
for (int r = 0; r < {ITEM}; r++) for (int c = 0; c < {ITEM}; c++) total[r][c] += acc[r][c];
}}
for (int r = 0; r < {ITEM}; r++)
for (int c = 0; c < {ITEM}; c++)
if (y + r * {side} < rows && x + c * {side} < columns) to[(y + r * {side}) * n + x + c * {side}] = {element};
}}"
            )
            .unwrap();
        }
    }
    text + "}\n"
}

/// Whether the device can run the kernel of products of `dtype`: enough work items of it fit a group.
///
/// # Errors
/// When the kernel does not compile.
pub(crate) fn can(ctx: &OpenCl, dtype: DType) -> Result<bool> {
    Ok(match ctx.shared.facts.class {
        Class::Cpu => true,
        Class::Gpu if ctx.shared.facts.max_group < GROUP => false,
        Class::Gpu => kernel(ctx, dtype, true)?.most_items >= GROUP,
    })
}

/// The product's kernel.
fn kernel(ctx: &OpenCl, stored: DType, narrow: bool) -> Result<Arc<Compiled>> {
    let bits = (stored as u64) << 1 | u64::from(narrow);
    ctx.shared.kernel(("product", 0, bits), "matmul", || product_source(ctx, stored, narrow))
}

/// `output[i] = Σ_k left[i % ..][k] * right[i % ..][k]` for `batch` matrices, the output contiguous. With `more`, the sums go on
/// from those that the output holds, of a dtype that is computed in: those of the chunks before.
pub(crate) fn product(
    ctx: &OpenCl,
    batch: usize,
    [left, right]: [&Panels; 2],
    more: bool,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let results = batch * left.width * right.width;
    let chunks = left.terms.div_ceil(CHUNK);
    if results >= FEW_RESULTS || chunks < MANY_CHUNKS {
        let target = Target { dtype: output.dtype, buffer: &*output.buffer, offset: output.layout.offset() };
        return multiply(ctx, batch, [left, right], 0..left.terms, left.terms, more, &target);
    }
    let at_once = (SUMS_AT_ONCE / results).min(chunks);
    if at_once < chunks && output.dtype != output.dtype.compute() {
        return composed::rounded(ctx, output, |wide| product(ctx, batch, [left, right], more, wide));
    }
    let dtype = output.dtype.compute();
    let sums = memory::alloc(&ctx.shared, results * at_once * dtype.size())?;
    for first in (0..chunks).step_by(at_once) {
        let count = at_once.min(chunks - first);
        let terms = first * CHUNK..((first + count) * CHUNK).min(left.terms);
        multiply(ctx, batch, [left, right], terms, CHUNK, false, &Target { dtype, buffer: &sums, offset: 0 })?;
        add_chunks(ctx, &sums, [count, results], more || first > 0, output)?;
    }
    Ok(())
}

/// Where products go: to one array for each part of the terms, one behind the other.
struct Target<'a> {
    dtype: DType,
    buffer: &'a Buffer,
    offset: usize,
}

/// The product over `terms`, in parts of `run` terms, a multiple of 256 where there are several.
fn multiply(
    ctx: &OpenCl,
    batch: usize,
    [left, right]: [&Panels; 2],
    terms: Range<usize>,
    run: usize,
    more: bool,
    target: &Target<'_>,
) -> Result<()> {
    let shared = &ctx.shared;
    let (m, n) = (left.width, right.width);
    let sides = [Side::Left, Side::Right].map(|side| panel_width(ctx, target.dtype, side));
    let (pm, pn) = (m.div_ceil(sides[0]), n.div_ceil(sides[1]));
    let (parts, results) = (terms.len().div_ceil(run), batch * m * n);
    let tasks = pm * pn * parts * batch;
    let (each, grid) = match shared.facts.class {
        Class::Cpu => ctx.tasks(tasks, sides[0] * run * 4 + 400),
        Class::Gpu => (1, Grid::teams(tasks.min(shared.facts.units * 64), GROUP)),
    };
    let mut words = Words::new();
    words.extend([m, n, left.terms, pm, pn, left.batch, right.batch, run, parts, tasks, each].map(|n| n as u64));
    words.extend([target.offset, results, terms.start, usize::from(more)].map(|n| n as u64));
    let size = (left.batch * pm * sides[0]).max(right.batch * pn * sides[1]) * left.terms;
    let end = target.offset + results * parts;
    let narrow = is_narrow(shared.facts.class, size.max(end), []);
    let kernel = kernel(ctx, target.dtype, narrow)?;
    let args = [Arg::Words(&words), Arg::Memory(&left.buffer), Arg::Memory(&right.buffer), Arg::Memory(target.buffer)];
    shared.launch(&kernel, &args, grid)
}
