//! The matrix product beneath `matmul` and convolution: both factors are copied into panels, which takes care of every
//! layout, window and dtype, and a kernel multiplies panels.
//!
//! A panel holds so many rows of the left factor, or columns of the right one, term by term: `[terms][width]`, zeros beyond
//! the edge. On a CPU a work item multiplies two panels in vector registers; on a GPU a work group does by way of local
//! memory. Where results are few and terms many, terms are cut into parts of a fixed length, whose results are added up
//! in order.

use crate::{
    Buffer, OpenCl,
    launch::{Arg, Grid, together},
    memory,
    platform::Class,
    program::{Compiled, ENTRY},
    reduce,
    walk::{Stepped, Words, head, is_narrow, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, ReduceOp, Result,
    expr::render::{Dialect, Renderer, type_name},
};
use smallvec::SmallVec;
use std::{fmt::Write, sync::Arc};

/// Axes that batch, terms and width may have each, after merging.
const AXES: usize = 4;

/// Terms that a work item packs.
const PACKED_TERMS: usize = 256;

/// Results below which the terms are cut, and the length of a part.
const FEW_RESULTS: usize = 1 << 15;
const PART: usize = 1024;

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

/// Vector registers of a CPU hold so many numbers of `dtype`.
fn lanes(ctx: &OpenCl, dtype: DType) -> usize {
    (ctx.shared.facts.vector * 4 / dtype.compute().size()).clamp(2, 16)
}

fn panel_width(ctx: &OpenCl, dtype: DType, side: Side) -> usize {
    let lanes = lanes(ctx, dtype);
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

/// Words of packing: batches, terms, width, panels, tasks, tasks of a work item, offset, then the shapes and strides.
const PACK_SHAPE: usize = 7;

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
ig_p from = 0, rest = k;
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
{{ ig_p rest = k;\n{}}}
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

/// Copies `factor` into panels. A batch that is broadcast is copied once.
pub(crate) fn pack(ctx: &OpenCl, side: Side, factor: &Factor<'_>) -> Result<Panels> {
    let shared = &ctx.shared;
    let class = shared.facts.class;
    let (operand, dtype) = (factor.operand, factor.operand.dtype);
    let mut groups = groups(factor).expect("callers ask `fits`");
    if groups[0].iter().all(|(_, s)| *s == 0) {
        groups[0] = [(1, 0); AXES];
    }
    let [batch, terms, width] = groups.map(|g| g.iter().map(|(n, _)| n).product::<usize>());
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
    words.extend([batch, terms, width, panels, tasks, each, operand.layout.offset()].map(|n| n as u64));
    groups.iter().flatten().for_each(|(n, _)| words.push(*n as u64));
    groups.iter().flatten().for_each(|(_, s)| words.push(*s as i64 as u64));
    let narrow = is_narrow(class, size, [operand.layout]);
    let bits = (dtype as u64) << 16 | (panel as u64) << 1 | u64::from(narrow);
    let kernel = shared.kernel(("pack", 0, bits), "matmul", || pack_source(dtype, class, narrow, panel))?;
    shared.launch(&kernel, &[Arg::Words(&words), Arg::Memory(operand.buffer), Arg::Memory(&buffer)], grid)?;
    Ok(Panels { buffer, batch, terms, width })
}

/// Words of the product: rows, columns, terms, panels of rows and of columns, batches of left and right, terms of a part,
/// parts, tasks, tasks of a work item, offset of the output, results of all batches.
const WORDS: usize = 13;

/// `stored`: the dtype of the output; `partial`: results go to parts, in the dtype that is computed in.
fn product_source(ctx: &OpenCl, stored: DType, partial: bool, narrow: bool) -> String {
    let dtype = stored.compute();
    let ty = type_name(dtype);
    let (left, right) = (panel_width(ctx, stored, Side::Left), panel_width(ctx, stored, Side::Right));
    let mut renderer = Renderer::new(Dialect::OpenCl);
    let mut store = |x: &str| if partial { x.to_string() } else { renderer.store(stored, x) };
    let out_type = type_name(if partial { dtype } else { stored });
    let (scalar, element) = (store("tile[r][c]"), store("acc[r][c]"));
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
const ig_p first = part * run, last = min(first + run, terms);
__global const {ty} *restrict pa = a + ((batch % W(5)) * pm + i) * terms * {left} + first * {left};
__global const {ty} *restrict pb = b + ((batch % W(6)) * pn + j) * terms * {right} + first * {right};
__global {out_type} *restrict to = out + W(11) + part * W(12) + (batch * m + i * {left}) * n + j * {right};
const int rows = (int)min((ig_p){left}, m - i * {left}), columns = (int)min((ig_p){right}, n - j * {right});\n"
    );
    match ctx.shared.facts.class {
        Class::Cpu => {
            let lanes = right / 2;
            let base = if dtype == DType::F64 { "double" } else { "float" };
            let vector = format!("{base}{lanes}");
            text += "ig_p task = (ig_p)get_global_id(0) * each;\nconst ig_p end = min(task + each, tasks);\n";
            text += "for (; task < end; task++) {\n";
            text += &task;
            for r in 0..left {
                writeln!(text, "{vector} c{r}_0 = ({vector})(0), c{r}_1 = ({vector})(0);").unwrap();
            }
            text += "for (ig_p k = first; k < last; k++) {\n";
            writeln!(text, "const {vector} b0 = vload{lanes}(0, pb), b1 = vload{lanes}(1, pb);").unwrap();
            for r in 0..left {
                writeln!(
                    text,
                    "{{ const {vector} x = ({vector})(pa[{r}]); c{r}_0 = fma(x, b0, c{r}_0); c{r}_1 = fma(x, b1, c{r}_1); }}"
                )
                .unwrap();
            }
            writeln!(text, "pa += {left};\npb += {right};\n}}").unwrap();
            if partial || stored == dtype {
                writeln!(text, "if (columns == {right}) {{").unwrap();
                for r in 0..left {
                    writeln!(
                        text,
                        "if ({r} < rows) {{ vstore{lanes}(c{r}_0, 0, to + {r} * n); vstore{lanes}(c{r}_1, 1, to + {r} * n); }}"
                    )
                    .unwrap();
                }
                text += "continue;\n}\n";
            }
            writeln!(text, "{ty} tile[{left}][{right}];").unwrap();
            for r in 0..left {
                writeln!(text, "vstore{lanes}(c{r}_0, 0, tile[{r}]); vstore{lanes}(c{r}_1, 1, tile[{r}]);").unwrap();
            }
            writeln!(
                text,
                "for (int r = 0; r < rows; r++) for (int c = 0; c < columns; c++) to[r * n + c] = {scalar};\n}}"
            )
            .unwrap();
        }
        Class::Gpu => {
            let side = TILE / ITEM;
            writeln!(
                text,
                "(void)each;
__local {ty} la[{DEPTH}][{TILE}], lb[{DEPTH}][{TILE}];
const int lid = (int)get_local_id(0), x = lid % {side}, y = lid / {side};
for (ig_p task = (ig_p)get_group_id(0); task < tasks; task += (ig_p)get_num_groups(0)) {{
{task}{ty} acc[{ITEM}][{ITEM}];
for (int r = 0; r < {ITEM}; r++) for (int c = 0; c < {ITEM}; c++) acc[r][c] = 0;
for (ig_p k = first; k < last; k += {DEPTH}) {{
const int depth = (int)min((ig_p){DEPTH}, last - k);
for (int e = lid; e < depth * {TILE}; e += {group}) {{
la[e / {TILE}][e % {TILE}] = pa[(k - first) * {TILE} + e];
lb[e / {TILE}][e % {TILE}] = pb[(k - first) * {TILE} + e];
}}
barrier(CLK_LOCAL_MEM_FENCE);
for (int d = 0; d < depth; d++)
for (int r = 0; r < {ITEM}; r++)
for (int c = 0; c < {ITEM}; c++) acc[r][c] = fma(la[d][y + r * {side}], lb[d][x + c * {side}], acc[r][c]);
barrier(CLK_LOCAL_MEM_FENCE);
}}
for (int r = 0; r < {ITEM}; r++)
for (int c = 0; c < {ITEM}; c++)
if (y + r * {side} < rows && x + c * {side} < columns) to[(y + r * {side}) * n + x + c * {side}] = {element};
}}",
                group = GROUP
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
        Class::Gpu => kernel(ctx, dtype, false, true)?.most_items >= GROUP,
    })
}

/// The product's kernel.
fn kernel(ctx: &OpenCl, stored: DType, partial: bool, narrow: bool) -> Result<Arc<Compiled>> {
    let bits = (stored as u64) << 2 | u64::from(partial) << 1 | u64::from(narrow);
    ctx.shared.kernel(("product", 0, bits), "matmul", || product_source(ctx, stored, partial, narrow))
}

/// `output[i] = Σ_k left[i % ..][k] * right[i % ..][k]` for `batch` matrices, the output contiguous. More pairs of factors
/// of one size are added up.
pub(crate) fn product(
    ctx: &OpenCl,
    batch: usize,
    factors: &[(&Panels, &Panels)],
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let stored = output.dtype;
    let (first, second) = factors[0];
    let (m, n) = (first.width, second.width);
    let results = batch * m * n;
    let cut = |terms: usize| if results < FEW_RESULTS && terms >= 2 * PART { terms.div_ceil(PART) } else { 1 };
    let parts: usize = factors.iter().map(|(l, _)| cut(l.terms)).sum();
    let partial = match parts {
        1 => None,
        _ => Some(memory::alloc(shared, results * parts * stored.compute().size())?),
    };
    let mut done = 0;
    for &(left, right) in factors {
        let (left_width, right_width) = (panel_width(ctx, stored, Side::Left), panel_width(ctx, stored, Side::Right));
        let (pm, pn) = (m.div_ceil(left_width), n.div_ceil(right_width));
        let parts = cut(left.terms);
        let run = left.terms.div_ceil(parts).min(if parts == 1 { usize::MAX } else { PART });
        let tasks = pm * pn * parts * batch;
        let (each, grid) = match shared.facts.class {
            Class::Cpu => ctx.tasks(tasks, left_width * run * 4 + 400),
            Class::Gpu => (1, Grid::teams(tasks.min(shared.facts.units * 64), GROUP)),
        };
        let offset = if partial.is_some() { done * results } else { output.layout.offset() };
        let mut words = Words::new();
        words.extend(
            [m, n, left.terms, pm, pn, left.batch, right.batch, run, parts, tasks, each, offset, results]
                .map(|n| n as u64),
        );
        let size = (left.batch * pm * left_width).max(right.batch * pn * right_width) * left.terms;
        let narrow = is_narrow(shared.facts.class, size.max(results * parts), [output.layout]);
        let kernel = kernel(ctx, stored, partial.is_some(), narrow)?;
        let target = partial.as_ref().unwrap_or(&*output.buffer);
        let args = [Arg::Words(&words), Arg::Memory(&left.buffer), Arg::Memory(&right.buffer), Arg::Memory(target)];
        shared.launch(&kernel, &args, grid)?;
        done += parts;
    }
    let Some(partial) = partial else { return Ok(()) };
    let flat = Layout::new([results], &[1], output.layout.offset());
    reduce::fold(ctx, ReduceOp::Sum, &partial, [1, results], parts, &mut output.with_layout(&flat))
}
