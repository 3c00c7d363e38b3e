//! `reduce`: where there are few results of many terms, terms are cut into parts of a fixed length, and their results are
//! reduced by a second kernel. So results depend on sizes, not on how much runs at once.
//!
//! Three kernels: `rows`, a work item per result, over runs of the last reduced axis, in several lanes; `columns`, a work
//! item per strip of neighbouring results, where those lie side by side; `groups` (GPU), a work group per result.

use crate::{
    Buffer, OpenCl,
    launch::{Arg, Grid},
    memory,
    platform::Class,
    program::ENTRY,
    walk::{Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, ReduceOp, Result,
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

/// Accumulators of `rows` on a CPU.
const LANES: usize = 16;

/// Terms after which the lanes are folded, so that errors of sums do not grow with their number.
const BLOCK: usize = 4096;

/// Work items of a group of `groups`.
const GROUP: usize = 256;

/// Reduces partial results, of the dtype that is computed in.
static FOLD: PerDType =
    PerDType::new("fold", |d| (vec![Expr::input(0, d.compute()).cast(d)], vec![d.compute()], vec![]));

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

fn source(program: &Program, v: &Variant) -> String {
    let inputs = program.inputs().len();
    let (result, stored_dtype) = (program.outputs()[0].0, v.stored);
    let dtype = program.instructions()[result as usize].dtype;
    let ty = type_name(dtype);
    let mut renderer = Renderer::new(Dialect::OpenCl);
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
        Style::Columns => ("w", "(o + w) * terms + e + j"),
        Style::Groups => ("0", "o * terms + e"),
    };
    let body = renderer.body(program, &names(counter, index));
    let value = &body.computed[0];
    let fold = |renderer: &mut Renderer, a: &str, b: &str| renderer.binary(v.op.primitive(), dtype, a, b);
    let identity = renderer.constant(v.op.identity(dtype));
    let fold_acc = fold(&mut renderer, "acc", value);
    let fold_lane = fold(&mut renderer, "lane[l]", value);
    let fold_lanes = fold(&mut renderer, "lane[l]", "lane[l + h]");
    let fold_total = fold(&mut renderer, "acc", "lane[0]");
    let fold_strip = fold(&mut renderer, "acc[w]", value);
    let fold_local = fold(&mut renderer, "shared[lid]", "shared[lid + h]");
    let result_of = |renderer: &mut Renderer, acc: &str| {
        if v.partial { acc.to_string() } else { renderer.store(stored_dtype, acc) }
    };
    let stored = result_of(&mut renderer, "acc");
    let stored_strip = result_of(&mut renderer, "acc[w]");
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
    writeln!(text, "__kernel void {ENTRY}({}) {{", parameters.join(", ")).unwrap();
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
            writeln!(text, "}}\n{ty} acc = {identity};").unwrap();
            text += "ig_p e = part * run;\nconst ig_p end = min(e + run, terms);\n";
            writeln!(text, "const ig_p inner = W({});", SHAPE + last_reduced).unwrap();
            writeln!(text, "while (e < end) {{\nconst ig_p first = e % inner, count = min(min(end - e, inner - first), (ig_p){BLOCK});").unwrap();
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
            text += "ig_p j = 0;\n";
            if v.class == Class::Cpu {
                // The same statements once more; what they need stands in the preamble already.
                let lanes = renderer.body(program, &names("j + l", "o * terms + e + j + l")).statements;
                writeln!(text, "if (count >= {LANES}) {{\n{ty} lane[{LANES}];").unwrap();
                writeln!(text, "for (int l = 0; l < {LANES}; l++) lane[l] = {identity};").unwrap();
                writeln!(
                    text,
                    "for (; j + {LANES} <= count; j += {LANES})\nfor (int l = 0; l < {LANES}; l++) {{\n{lanes}lane[l] = {fold_lane};\n}}"
                )
                .unwrap();
                writeln!(
                    text,
                    "for (int h = {LANES} / 2; h > 0; h /= 2)\nfor (int l = 0; l < h; l++) lane[l] = {fold_lanes};"
                )
                .unwrap();
                writeln!(text, "acc = {fold_total};\n}}").unwrap();
            }
            writeln!(text, "for (; j < count; j++) {{\n{}acc = {fold_acc};\n}}\ne += count;\n}}", body.statements)
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
            writeln!(text, "{ty} acc[{STRIP}];\nfor (int w = 0; w < {STRIP}; w++) acc[w] = {identity};").unwrap();
            text += "ig_p e = part * run;\nconst ig_p end = min(e + run, terms), j = 0;\n";
            text += "for (; e < end; e++) {\n";
            text += &copies(&base, &position);
            text += "{ ig_p rest = e;\n";
            text += &walk(v.kept..v.kept + v.reduced, &stepped(&position));
            text += "}\n";
            text += &pointers;
            let inner = format!("{{\n{}acc[w] = {fold_strip};\n}}", body.statements);
            writeln!(text, "if (count == {STRIP}) for (int w = 0; w < {STRIP}; w++) {inner}").unwrap();
            writeln!(text, "else for (int w = 0; w < count; w++) {inner}\n}}").unwrap();
            let to = if v.partial { "(o + w) * W(6) + part * W(7)" } else { "po + w * so" };
            writeln!(text, "for (int w = 0; w < count; w++) out[{to}] = {stored_strip};\n}}").unwrap();
        }
        Style::Groups => {
            writeln!(text, "__local {ty} shared[{GROUP}];\nconst int lid = (int)get_local_id(0);").unwrap();
            text += "(void)each;\nfor (ig_p task = (ig_p)get_group_id(0); task < tasks; task += (ig_p)get_num_groups(0)) {\n";
            text += "const ig_p o = task / parts, part = task % parts;\n";
            text += &start;
            text += "{ ig_p rest = o;\n";
            text += &walk(0..v.kept, &with_out(&base));
            writeln!(text, "}}\n{ty} acc = {identity};\nconst ig_p end = min((part + 1) * run, terms);").unwrap();
            writeln!(text, "for (ig_p e = part * run + lid; e < end; e += {GROUP}) {{").unwrap();
            text += &copies(&base, &position);
            text += "{ ig_p rest = e;\n";
            text += &walk(v.kept..v.kept + v.reduced, &stepped(&position));
            text += "}\n";
            text += &pointers;
            writeln!(
                text,
                "{}acc = {fold_acc};\n}}\nshared[lid] = acc;\nbarrier(CLK_LOCAL_MEM_FENCE);",
                body.statements
            )
            .unwrap();
            writeln!(
                text,
                "for (int h = {GROUP} / 2; h > 0; h /= 2) {{
if (lid < h) shared[lid] = {fold_local};
barrier(CLK_LOCAL_MEM_FENCE);
}}"
            )
            .unwrap();
            let to = if v.partial { partial_place } else { "po" };
            writeln!(text, "if (lid == 0) out[{to}] = {stored_local};\nbarrier(CLK_LOCAL_MEM_FENCE);\n}}").unwrap();
        }
    }
    text + "}\n"
}

/// How the terms are cut: the length of a part, and how many there are.
fn parts(results: usize, terms: usize, style: Style, class: Class) -> (usize, usize) {
    let run = match (class, style) {
        // A strip adds term after term.
        (_, Style::Columns) => 1024,
        (Class::Cpu, _) if results < 64 && terms >= 4 * BLOCK => 2 * BLOCK,
        (Class::Cpu, _) => terms,
        (Class::Gpu, Style::Groups) => 1 << 16,
        (Class::Gpu, _) => 1024,
    };
    // A few terms more are no reason for a second kernel.
    if terms <= run + run / 2 { (terms, 1) } else { (run, terms.div_ceil(run)) }
}

pub(crate) fn reduce(
    ctx: &OpenCl,
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
        Class::Gpu if facts.max_group >= GROUP && terms >= 64 && !columns => Style::Groups,
        Class::Gpu => Style::Rows,
    };
    let (run, parts) = parts(results, terms, style, facts.class);
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
        Style::Groups => (1, Grid::line(tasks.min(facts.units * 64), GROUP)),
        _ => {
            let work = run * if style == Style::Columns { STRIP } else { 1 };
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

    let compiled = shared.kernel(("reduce", program.id(), v.bits()), program.name(), || source(program, &v))?;
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
pub(crate) fn fold(
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
    reduce(ctx, op, &FOLD.kernel(output.dtype, &[]), &[input], output)
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
