//! `reduce`, in the order of `Reducer`: sixteen partial results, blocks of 256 terms. A kernel folds a part of the terms, which
//! is one block or a block of blocks; where there are several, the same kernels reduce their results.
//!
//! Three kernels: `rows`, a work item per result, over runs of the last reduced axis; `columns`, a work item per strip of
//! neighbouring results, where those lie side by side; `groups` (GPU), a work group per result.

use crate::{
    Buffer, OpenCl,
    launch::{Arg, Grid, together},
    memory,
    platform::Class,
    program::ENTRY,
    walk::{Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, ReduceOp, Result,
    backend::Reducer,
    expr::{
        Expr, Kernel, PerDType, Program,
        render::{Dialect, Names, Renderer, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Rows,
    Columns,
    Groups,
}

/// Results that one work item of `columns` computes.
const STRIP: usize = 64;

/// Partial results of a block of terms.
const LANES: usize = Reducer::PARTIALS;

/// Terms of a block.
const BLOCK: usize = Reducer::BLOCK;

/// Work items of a group of `groups`.
const GROUP: usize = 256;

/// Reduces partial results, of the dtype that is computed in, which nothing rounds before the last.
static FOLD: PerDType = PerDType::new("fold", |d| (vec![Expr::input(0, d)], vec![d], vec![]));

struct Variant {
    class: Class,
    style: Style,
    op: ReduceOp,
    /// Axes of the result and of what is reduced.
    kept: usize,
    reduced: usize,
    /// Whether partial results are written, of the dtype that is computed in.
    partial: bool,
    /// The dtype of the output, which need not be the program's.
    stored: DType,
    narrow: bool,
    /// Per input of `rows`: whether it lies dense along the last reduced axis; of `columns`: along the last kept one.
    unit: SmallVec<[bool; 8]>,
    direct: bool,
}

/// Words before the shape: results, terms, parts, terms of a part, tasks, tasks of a work item, and the strides of partial
/// results by result and part.
const SHAPE: usize = 8;

impl Variant {
    fn bits(&self) -> u64 {
        let unit = self.unit.iter().fold(1u64, |bits, u| bits << 1 | u64::from(*u));
        let flags = [self.partial, self.narrow, self.direct];
        let flags = flags.iter().fold(0u64, |bits, f| bits << 1 | u64::from(*f));
        unit << 24
            | (self.stored as u64) << 20
            | (self.kept as u64) << 13
            | (self.reduced as u64) << 7
            | flags << 4
            | (self.op as u64) << 2
            | self.style as u64
    }

    fn operand(&self, k: usize) -> usize {
        SHAPE + (self.kept + self.reduced) + k * (1 + self.kept + self.reduced)
    }
}

fn source(native: bool, program: &Program, v: &Variant) -> String {
    let inputs = program.inputs().len();
    let (result, stored_dtype) = (program.outputs()[0].0, v.stored);
    let dtype = program.instructions()[result as usize].dtype;
    let ty = type_name(dtype);
    let mut renderer = Renderer::new(Dialect::OpenCl).native(native);
    let unit = |k: usize| v.unit.get(k).copied().unwrap_or(false);
    let names = |counter: &str, index: &str| Names {
        inputs: (0..inputs)
            .map(|k| if unit(k) { format!("q{k}[{counter}]") } else { format!("q{k}[({counter}) * s{k}]") })
            .collect(),
        scalars: (0..program.scalars().len()).map(|k| format!("arg{k}")).collect(),
        index: index.into(),
        ..Names::default()
    };
    // The row-major number over kept and reduced axes.
    let (counter, index) = match v.style {
        Style::Rows => ("j", "o * terms + e + j"),
        Style::Columns => ("w", "(o + w) * terms + e"),
        Style::Groups => ("0", "o * terms + e"),
    };
    let body = renderer.body(program, &names(counter, index));
    let value = &body.computed[0];
    let mut fold = |a: &str, b: &str| format!("{a} = {}", renderer.binary(v.op.primitive(), dtype, a, b));
    let fold_acc = fold("acc", value);
    let fold_one = fold("lane[n]", value);
    let fold_lane = fold("some[l]", value);
    let fold_strip = fold("lane[n][w]", value);
    let (halves, halves_of_blocks) = (fold("lane[l]", "lane[l + h]"), fold("block[l]", "block[l + h]"));
    let halves_of_strips = fold("lane[l][w]", "lane[l + h][w]");
    let fold_block = fold("block[b % 16]", "lane[0]");
    let halves_in_group = fold("shared[lid]", "shared[lid + h]");
    let fold_sums = fold("acc", "sums[b]");
    let identity = renderer.constant(v.op.identity(dtype));
    let result_of = |renderer: &mut Renderer, acc: &str| {
        if v.partial { acc.to_string() } else { renderer.store(stored_dtype, acc) }
    };
    let stored = result_of(&mut renderer, "block[0]");
    let stored_strip = result_of(&mut renderer, "lane[0][w]");
    let stored_local = result_of(&mut renderer, "shared[0]");
    let out_type = type_name(if v.partial { dtype } else { stored_dtype });

    let mut text = renderer.preamble();
    text += &head(v.narrow, v.direct, v.operand(inputs + 1));
    let mut parameters = vec!["WORDS".to_string()];
    for (k, d) in program.inputs().iter().enumerate() {
        parameters.push(format!("__global const {} *restrict m{k}", type_name(*d)));
    }
    parameters.push(format!("__global {out_type} *restrict out"));
    for (k, d) in program.scalars().iter().enumerate() {
        parameters.push(format!("const {} arg{k}", type_name(*d)));
    }
    let group = if v.style == Style::Groups { together(GROUP) } else { String::new() };
    writeln!(text, "__kernel {group}void {ENTRY}({}) {{", parameters.join(", ")).unwrap();
    text += "const ig_p results = W(0), terms = W(1), parts = W(2), run = W(3), tasks = W(4), each = W(5);\n(void)results;\n";
    let last_reduced = v.kept + v.reduced - 1;
    let last_kept = v.kept - 1;
    let counted = if v.style == Style::Columns { last_kept } else { last_reduced };
    for k in 0..inputs {
        if !unit(k) && v.style != Style::Groups {
            writeln!(text, "const ig_p s{k} = W({});", v.operand(k) + 1 + counted).unwrap();
        } else if v.style == Style::Groups && !unit(k) {
            writeln!(text, "const ig_p s{k} = 0;").unwrap();
        }
    }
    let base: Vec<String> = (0..inputs).map(|k| format!("b{k}")).collect();
    let position: Vec<String> = (0..inputs).map(|k| format!("p{k}")).collect();
    let stepped = |variables: &'_ [String]| -> Vec<(String, usize)> {
        variables.iter().enumerate().map(|(k, n)| (n.clone(), v.operand(k) + 1)).collect()
    };
    let walk = |axes: std::ops::Range<usize>, variables: &[(String, usize)]| {
        let operands: Vec<Stepped<'_>> = variables.iter().map(|(n, s)| Stepped { name: n, strides: *s }).collect();
        take_axes(v.class, axes, SHAPE, &operands)
    };
    let with_out = |variables: &[String]| {
        let mut all = stepped(variables);
        if !v.partial {
            all.push(("po".to_string(), v.operand(inputs) + 1));
        }
        all
    };
    let mut start = String::new();
    for k in 0..inputs {
        writeln!(start, "ig_p b{k} = W({});", v.operand(k)).unwrap();
    }
    if !v.partial {
        writeln!(start, "ig_p po = W({});", v.operand(inputs)).unwrap();
    }
    let copies = |from: &[String], to: &[String]| -> String {
        from.iter().zip(to).map(|(f, t)| format!("ig_p {t} = {f};\n")).collect()
    };
    let mut pointers = String::new();
    for (k, d) in program.inputs().iter().enumerate() {
        writeln!(pointers, "__global const {} *restrict q{k} = m{k} + p{k};", type_name(*d)).unwrap();
    }
    let partial_place = "o * W(6) + part * W(7)";
    match v.style {
        Style::Rows => {
            text += "ig_p task = (ig_p)get_global_id(0) * each;\nconst ig_p last = min(task + each, tasks);\n";
            text += "for (; task < last; task++) {\n";
            // On a GPU neighbouring work items take neighbouring results.
            text += match v.class {
                Class::Cpu => "const ig_p o = task / parts, part = task % parts;\n",
                Class::Gpu => "const ig_p o = task % results, part = task / results;\n",
            };
            text += &start;
            text += "{ ig_p rest = o;\n";
            text += &walk(0..v.kept, &with_out(&base));
            writeln!(
                text,
                "}}
const ig_p inner = W({}), begin = part * run, end = min(begin + run, terms);
{ty} block[{LANES}];
for (int l = 0; l < {LANES}; l++) block[l] = {identity};
for (ig_p b = 0; begin + b * {BLOCK} < end; b++) {{
const ig_p from = begin + b * {BLOCK}, to = min(from + {BLOCK}, end);
{ty} lane[{LANES}];
for (int l = 0; l < {LANES}; l++) lane[l] = {identity};
for (ig_p e = from, count; e < to; e += count) {{
const ig_p first = e % inner;
count = min(to - e, inner - first);",
                SHAPE + last_reduced
            )
            .unwrap();
            text += &copies(&base, &position);
            for (k, p) in position.iter().enumerate() {
                match unit(k) {
                    true => writeln!(text, "{p} += first;").unwrap(),
                    false => writeln!(text, "{p} += first * s{k};").unwrap(),
                }
            }
            if v.reduced > 1 {
                text += "{ ig_p rest = e / inner;\n";
                text += &walk(v.kept..last_reduced, &stepped(&position));
                text += "}\n";
            }
            text += &pointers;
            // One by one up to a whole row of lanes, whole rows, and what is left. The same statements three times; what they
            // need stands in the preamble already.
            let single = format!("{{\nconst ig_p n = (e - from + j) % {LANES};\n{}{fold_one};\n}}", body.statements);
            let lanes = renderer.body(program, &names("j + l", "o * terms + e + j + l")).statements;
            writeln!(
                text,
                "ig_p j = 0;
for (; j < count && (e - from + j) % {LANES} != 0; j++) {single}
if (j + {LANES} <= count) {{
{ty} some[{LANES}];
for (int l = 0; l < {LANES}; l++) some[l] = lane[l];
for (; j + {LANES} <= count; j += {LANES})
for (int l = 0; l < {LANES}; l++) {{
{lanes}{fold_lane};
}}
for (int l = 0; l < {LANES}; l++) lane[l] = some[l];
}}
for (; j < count; j++) {single}
}}
for (int h = {LANES} / 2; h > 0; h /= 2)
for (int l = 0; l < h; l++) {halves};
{fold_block};
}}
for (int h = {LANES} / 2; h > 0; h /= 2)
for (int l = 0; l < h; l++) {halves_of_blocks};"
            )
            .unwrap();
            match v.partial {
                true => writeln!(text, "out[{partial_place}] = {stored};").unwrap(),
                false => writeln!(text, "out[po] = {stored};").unwrap(),
            }
            text += "}\n";
        }
        Style::Columns => {
            writeln!(text, "const ig_p width = W({}), strips = (width + {}) / {STRIP};", SHAPE + last_kept, STRIP - 1)
                .unwrap();
            text += "ig_p task = (ig_p)get_global_id(0) * each;\nconst ig_p last = min(task + each, tasks);\n";
            text += "for (; task < last; task++) {\n";
            writeln!(
                text,
                "const ig_p part = task % parts, strip = task / parts % strips, row = task / parts / strips;
const ig_p begin = strip * {STRIP}, count = min((ig_p){STRIP}, width - begin), o = row * width + begin;"
            )
            .unwrap();
            text += &start;
            for (k, b) in base.iter().enumerate() {
                match unit(k) {
                    true => writeln!(text, "{b} += begin;").unwrap(),
                    false => writeln!(text, "{b} += begin * s{k};").unwrap(),
                }
            }
            if !v.partial {
                writeln!(text, "const ig_p so = W({});\npo += begin * so;", v.operand(inputs) + 1 + last_kept).unwrap();
            }
            if v.kept > 1 {
                text += "{ ig_p rest = row;\n";
                text += &walk(0..last_kept, &with_out(&base));
                text += "}\n";
            }
            writeln!(
                text,
                "{ty} lane[{LANES}][{STRIP}];
for (int l = 0; l < {LANES}; l++) for (int w = 0; w < {STRIP}; w++) lane[l][w] = {identity};
const ig_p from = part * run, end = min(from + run, terms);
for (ig_p e = from; e < end; e++) {{
const ig_p n = (e - from) % {LANES};"
            )
            .unwrap();
            text += &copies(&base, &position);
            text += "{ ig_p rest = e;\n";
            text += &walk(v.kept..v.kept + v.reduced, &stepped(&position));
            text += "}\n";
            text += &pointers;
            let inner = format!("{{\n{}{fold_strip};\n}}", body.statements);
            let to = if v.partial { "(o + w) * W(6) + part * W(7)" } else { "po + w * so" };
            writeln!(
                text,
                "if (count == {STRIP}) for (int w = 0; w < {STRIP}; w++) {inner}
else for (int w = 0; w < count; w++) {inner}
}}
for (int h = {LANES} / 2; h > 0; h /= 2)
for (int l = 0; l < h && l + h < end - from; l++)
for (int w = 0; w < {STRIP}; w++) {halves_of_strips};
for (int w = 0; w < count; w++) out[{to}] = {stored_strip};
}}"
            )
            .unwrap();
        }
        Style::Groups => {
            writeln!(
                text,
                "__local {ty} shared[{GROUP}], sums[{BLOCK}];
const int lid = (int)get_local_id(0), lane = lid % {LANES};
(void)each;
for (ig_p task = (ig_p)get_group_id(0); task < tasks; task += (ig_p)get_num_groups(0)) {{
const ig_p o = task / parts, part = task % parts;"
            )
            .unwrap();
            text += &start;
            text += "{ ig_p rest = o;\n";
            text += &walk(0..v.kept, &with_out(&base));
            let halve = format!(
                "for (int h = {LANES} / 2; h > 0; h /= 2) {{
if (lane < h) {halves_in_group};
barrier(CLK_LOCAL_MEM_FENCE);
}}"
            );
            // Sixteen work items to a block of terms, as many blocks at a time as there are.
            writeln!(
                text,
                "}}
const ig_p begin = part * run, end = min(begin + run, terms), blocks = (end - begin + {BLOCK} - 1) / {BLOCK};
for (ig_p some = 0; some < blocks; some += {GROUP} / {LANES}) {{
const ig_p b = some + lid / {LANES}, to = min(begin + (b + 1) * {BLOCK}, end);
{ty} acc = {identity};
for (ig_p e = begin + b * {BLOCK} + lane; e < to; e += {LANES}) {{"
            )
            .unwrap();
            text += &copies(&base, &position);
            text += "{ ig_p rest = e;\n";
            text += &walk(v.kept..v.kept + v.reduced, &stepped(&position));
            text += "}\n";
            text += &pointers;
            let to = if v.partial { partial_place } else { "po" };
            writeln!(
                text,
                "{}{fold_acc};
}}
shared[lid] = acc;
barrier(CLK_LOCAL_MEM_FENCE);
{halve}
if (lane == 0 && b < blocks) sums[b] = shared[lid];
barrier(CLK_LOCAL_MEM_FENCE);
}}
{ty} acc = {identity};
if (lid < {LANES}) for (ig_p b = lid; b < blocks; b += {LANES}) {fold_sums};
shared[lid] = acc;
barrier(CLK_LOCAL_MEM_FENCE);
{halve}
if (lid == 0) out[{to}] = {stored_local};
barrier(CLK_LOCAL_MEM_FENCE);
}}",
                body.statements
            )
            .unwrap();
        }
    }
    text + "}\n"
}

/// How the terms are cut: the length of a part, and how many there are.
fn parts(terms: usize, style: Style) -> (usize, usize) {
    let run = match style {
        Style::Columns => BLOCK,
        Style::Rows | Style::Groups => BLOCK * BLOCK,
    };
    (run, terms.div_ceil(run))
}

pub(crate) fn reduce(
    ctx: &OpenCl,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, OpenCl>],
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    reduce_by(ctx, ctx.shared.facts.max_group >= GROUP, op, kernel, inputs, output)
}

/// With `groups` of work items that work together where that is faster, or without.
fn reduce_by(
    ctx: &OpenCl,
    groups: bool,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, OpenCl>],
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let shared = &ctx.shared;
    let facts = &shared.facts;
    let program = kernel.program;
    let kept = output.layout.rank();
    // Without inputs nothing says how many terms there are, so core never reduces without.
    let shape = inputs[0].layout.shape();
    let (results, terms) = (shape[..kept].iter().product::<usize>(), shape[kept..].iter().product::<usize>());
    let dense = |axis: usize| inputs.iter().any(|i| i.layout.strides()[axis] == 1);
    let side_by_side = |axis: usize| inputs.iter().all(|i| matches!(i.layout.strides()[axis], 0 | 1));
    let last = shape.rank().saturating_sub(1);
    // An input that is not broadcast along either axis, and lies dense along the reduced one: as no matrix does whose product
    // with a row vector this is.
    let full_rows = |i: &Operand<'_, OpenCl>| i.layout.strides()[last] == 1 && i.layout.strides()[kept - 1] != 0;
    let columns = kept > 0
        && shape[kept - 1] >= 8
        && side_by_side(kept - 1)
        && dense(kept - 1)
        && (shape.rank() == kept || !dense(last) || shape[last] < LANES || !inputs.iter().any(full_rows));
    let style = match facts.class {
        Class::Cpu if columns => Style::Columns,
        Class::Cpu => Style::Rows,
        Class::Gpu if groups && terms >= 64 && !columns => Style::Groups,
        Class::Gpu => Style::Rows,
    };
    let (run, parts) = parts(terms, style);
    let counted = if style == Style::Columns { kept.saturating_sub(1) } else { last };
    let unit = match style {
        Style::Groups => SmallVec::new(),
        _ if inputs.len() > 24 => SmallVec::new(),
        _ => inputs.iter().map(|i| shape.rank() > counted && i.layout.strides()[counted] == 1).collect(),
    };
    let layouts = inputs.iter().map(|i| i.layout).chain([output.layout]);
    let mut v = Variant {
        class: facts.class,
        style,
        op,
        kept: padded_rank(facts.class, kept),
        reduced: padded_rank(facts.class, shape.rank() - kept),
        partial: parts > 1,
        stored: output.dtype,
        narrow: is_narrow(facts.class, results.saturating_mul(terms), layouts),
        unit,
        direct: true,
    };
    let pointers = (inputs.len() + 2 + program.scalars().len()) * 8;
    v.direct = v.operand(inputs.len() + 1) * 8 + pointers <= facts.max_parameters.min(4096);

    let tasks = match style {
        Style::Columns => results / shape[kept - 1] * shape[kept - 1].div_ceil(STRIP) * parts,
        _ => results * parts,
    };
    let (each, grid) = match style {
        Style::Groups => (1, Grid::teams(tasks.min(facts.units * 64), GROUP)),
        _ => {
            let work = run.min(terms) * if style == Style::Columns { STRIP } else { 1 };
            ctx.tasks(tasks, work * (4 + program.instructions().len()))
        }
    };
    // Partial results lie so that the second kernel finds what it reduces side by side, or in columns.
    let (by_result, by_part) = if style == Style::Columns { (1, results) } else { (parts, 1) };
    let mut words = Words::new();
    words.extend([results, terms, parts, run, tasks, each, by_result, by_part].map(|n| n as u64));
    push_shape(&mut words, &shape[..kept], v.kept);
    push_shape(&mut words, &shape[kept..], v.reduced);
    let mut push = |layout: &Layout| {
        words.push(layout.offset() as u64);
        push_strides(&mut words, &layout.strides()[..kept], v.kept);
        push_strides(&mut words, &layout.strides()[kept..], v.reduced);
    };
    inputs.iter().for_each(|i| push(i.layout));
    push(output.layout);

    let compiled = shared
        .kernel(("reduce", program.id(), v.bits()), program.name(), || source(shared.facts.native(), program, &v))?;
    if style == Style::Groups && compiled.most_items < GROUP {
        return reduce_by(ctx, false, op, kernel, inputs, output);
    }
    let partial = match v.partial {
        true => Some(memory::alloc(shared, results * parts * output.dtype.compute().size())?),
        false => None,
    };
    let uploaded;
    let mut args: SmallVec<[Arg<'_>; 12]> = SmallVec::new();
    if v.direct {
        args.push(Arg::Words(&words));
    } else {
        uploaded = ctx.words(&words)?;
        args.push(Arg::Memory(&uploaded));
    }
    args.extend(inputs.iter().map(|i| Arg::Memory(i.buffer)));
    args.push(Arg::Memory(partial.as_ref().unwrap_or(&*output.buffer)));
    args.extend(kernel.scalars.iter().map(Arg::value));
    shared.launch(&compiled, &args, grid)?;
    drop(args);
    let Some(partial) = partial else { return Ok(()) };
    fold(ctx, op, &partial, [by_result, by_part], parts, output)
}

/// Reduces `parts` partial results for each element of `output`.
fn fold(
    ctx: &OpenCl,
    op: ReduceOp,
    partial: &Buffer,
    strides: [usize; 2],
    parts: usize,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let kept = Layout::contiguous(output.layout.shape().clone());
    let mut shape = kept.shape().clone();
    shape.push(parts);
    let mut steps: SmallVec<[isize; 6]> = kept.strides().iter().map(|s| s * strides[0] as isize).collect();
    steps.push(strides[1] as isize);
    let layout = Layout::new(shape, &steps, 0);
    let input = Operand::new(partial, output.dtype.compute(), &layout);
    reduce(ctx, op, &FOLD.kernel(input.dtype, &[]), &[input], output)
}

impl OpenCl {
    /// How `n` tasks of `cost` instructions are divided: tasks of a work item, and the grid.
    pub(crate) fn tasks(&self, n: usize, cost: usize) -> (usize, Grid) {
        let facts = &self.shared.facts;
        match facts.class {
            Class::Cpu => {
                let least = ((1 << 16) / cost.max(1)).max(1);
                let each = n.div_ceil(facts.units * 8).max(least);
                (each, Grid::line(n.div_ceil(each), 1))
            }
            Class::Gpu => {
                let local = facts.max_group.min(64);
                let groups = n.div_ceil(local).clamp(1, facts.units * 64);
                (n.div_ceil(groups * local), Grid::line(groups, local))
            }
        }
    }
}
