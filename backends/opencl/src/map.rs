//! `map`: one kernel per expression and kind of layout.

use crate::{
    Buffer, OpenCl,
    launch::{Arg, Grid},
    memory,
    platform::Class,
    program::ENTRY,
    walk::{SIMPLE_LOOP, Stepped, Words, head, is_narrow, padded_rank, push_shape, push_strides, take_axes},
};
use isograd_core::{
    DType, Layout, Operand, OperandMut, Result, Shape,
    expr::{
        Kernel, Program,
        render::{Dialect, Names, Renderer, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

/// How one operand moves along the last axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// By any stride, which is an argument.
    Any,
    /// Not at all.
    Still,
    /// By one element.
    One,
}

/// What the text of a kernel depends on besides the program.
struct Variant {
    class: Class,
    narrow: bool,
    /// Axes; 0 (on a GPU): everything is dense, one long axis.
    rank: usize,
    /// Per operand, where some rest along the last axis while the others go by one element; else empty.
    steps: SmallVec<[Step; 8]>,
    /// Whether the words are passed by value.
    direct: bool,
}

/// Beyond so many operands kernels do not specialize on each one's step.
const SPECIALIZED: usize = 24;

impl Variant {
    fn bits(&self) -> u64 {
        let steps = self.steps.iter().fold(0u64, |bits, s| bits << 2 | (*s as u64 + 1));
        steps << 12 | (self.rank as u64) << 2 | u64::from(self.narrow) << 1 | u64::from(self.direct)
    }

    /// Words per operand: offset and strides.
    fn words_per_operand(&self) -> usize {
        1 + self.rank
    }

    /// The word of operand `k`'s offset; before it stand count, run and shape.
    fn operand(&self, k: usize) -> usize {
        2 + self.rank + k * self.words_per_operand()
    }
}

/// Dtypes of the operands: inputs, then outputs.
fn dtypes(program: &Program) -> impl Iterator<Item = DType> + '_ {
    program.inputs().iter().copied().chain(program.outputs().iter().map(|(_, d)| *d))
}

/// The statements for element `j` of a row, whose operands go by `steps`; missing ones are `Any`.
fn element_statements(renderer: &mut Renderer, program: &Program, steps: &[Step]) -> String {
    let inputs = program.inputs().len();
    let operands = inputs + program.outputs().len();
    let element = |k: usize| match steps.get(k).unwrap_or(&Step::Any) {
        Step::Any => format!("q{k}[j * s{k}]"),
        Step::Still => format!("q{k}[0]"),
        Step::One => format!("q{k}[j]"),
    };
    let names = Names {
        inputs: (0..inputs).map(element).collect(),
        old: (inputs..operands).map(element).collect(),
        scalars: (0..program.scalars().len()).map(|k| format!("arg{k}")).collect(),
        index: "i + j".into(),
        ..Names::default()
    };
    let body = renderer.body(program, &names);
    let mut statements = body.statements;
    for (k, stored) in body.stored.iter().enumerate() {
        writeln!(statements, "{} = {stored};", element(inputs + k)).unwrap();
    }
    statements
}

fn source(native: bool, program: &Program, variant: &Variant) -> String {
    let inputs = program.inputs().len();
    let operands = inputs + program.outputs().len();
    let class = variant.class;
    let ones: SmallVec<[Step; 8]> = SmallVec::from_elem(Step::One, operands);
    let mut renderer = Renderer::new(Dialect::OpenCl).native(native);
    let statements = element_statements(&mut renderer, program, if variant.rank == 0 { &ones } else { &variant.steps });
    let dense = element_statements(&mut renderer, program, &ones);
    let mut text = renderer.preamble();
    text += &head(variant.narrow, variant.direct, variant.operand(operands));
    let mut parameters = vec!["WORDS".to_string()];
    for (k, d) in dtypes(program).enumerate() {
        let constant = if k < inputs { "const " } else { "" };
        parameters.push(format!("__global {constant}{} *restrict m{k}", type_name(d)));
    }
    for (k, d) in program.scalars().iter().enumerate() {
        parameters.push(format!("const {} arg{k}", type_name(*d)));
    }
    writeln!(text, "__kernel void {ENTRY}({}) {{\nconst ig_p n = W(0);", parameters.join(", ")).unwrap();
    let mut pointers = String::new();
    let mut positions = String::new();
    for (k, d) in dtypes(program).enumerate() {
        let constant = if k < inputs { "const " } else { "" };
        writeln!(positions, "ig_p p{k} = W({});", variant.operand(k)).unwrap();
        writeln!(pointers, "__global {constant}{} *restrict q{k} = m{k} + p{k};", type_name(d)).unwrap();
        if variant.rank > 0 {
            writeln!(text, "const ig_p s{k} = W({});", variant.operand(k) + variant.rank).unwrap();
        }
    }
    let variables: Vec<String> = (0..operands).map(|k| format!("p{k}")).collect();
    let stepped: Vec<Stepped<'_>> =
        variables.iter().enumerate().map(|(k, v)| Stepped { name: v, strides: variant.operand(k) + 1 }).collect();
    match (class, variant.rank) {
        (Class::Gpu, 0) => {
            text += "const ig_p i = 0;\n";
            text += &positions;
            text += &pointers;
            writeln!(
                text,
                "for (ig_p j = (ig_p)get_global_id(0); j < n; j += (ig_p)get_global_size(0)) {{\n{statements}}}"
            )
            .unwrap();
        }
        (Class::Gpu, rank) => {
            text += "const ig_p j = 0;\n";
            text += "for (ig_p i = (ig_p)get_global_id(0); i < n; i += (ig_p)get_global_size(0)) {\nig_p rest = i;\n";
            text += &positions;
            text += &take_axes(class, 0..rank, 2, &stepped);
            text += &pointers;
            writeln!(text, "{statements}}}").unwrap();
        }
        (Class::Cpu, rank) => {
            writeln!(
                text,
                "ig_p i = (ig_p)get_global_id(0) * W(1);\nconst ig_p end = min(i + W(1), n), inner = W({});",
                1 + rank
            )
            .unwrap();
            text += "while (i < end) {\nconst ig_p start = i % inner, count = min(end - i, inner - start);\n";
            text += "ig_p rest = i / inner;\n";
            text += &positions;
            for (k, v) in variables.iter().enumerate() {
                writeln!(text, "{v} += start * s{k};").unwrap();
            }
            text += &take_axes(class, 0..rank - 1, 2, &stepped);
            text += &pointers;
            if variant.steps.is_empty() {
                // Side by side, which the compiler makes vectors of, or at any distance.
                let side_by_side: Vec<String> = (0..operands).map(|k| format!("s{k} == 1")).collect();
                let (all, each) = (side_by_side.join(" && "), "for (ig_p j = 0; j < count; j++)");
                writeln!(text, "if ({all}) {each} {{\n{dense}}} else {{\n{SIMPLE_LOOP}{each} {{\n{statements}}}\n}}")
                    .unwrap();
            } else {
                writeln!(text, "for (ig_p j = 0; j < count; j++) {{\n{statements}}}").unwrap();
            }
            text += "i += count;\n}\n";
        }
    }
    text + "}\n"
}

fn step_of(layout: &Layout) -> Step {
    match layout.strides().last() {
        Some(1) => Step::One,
        Some(0) => Step::Still,
        _ => Step::Any,
    }
}

pub(crate) fn map(
    ctx: &OpenCl,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, OpenCl>],
    outputs: &mut [OperandMut<'_, OpenCl>],
) -> Result<()> {
    let shared = &ctx.shared;
    let class = shared.facts.class;
    let program = kernel.program;
    let layouts: SmallVec<[&Layout; 8]> =
        inputs.iter().map(|o| o.layout).chain(outputs.iter().map(|o| o.layout)).collect();
    let shape = outputs[0].layout.shape();
    let n = shape.size();
    let dense = layouts.iter().all(|l| l.is_contiguous());
    let flat = Shape::from([n]);
    let shape = if dense { &flat } else { shape };
    let rank = if dense && class == Class::Gpu { 0 } else { padded_rank(class, shape.rank()) };
    let mut steps = SmallVec::new();
    if class == Class::Cpu && !dense && layouts.len() <= SPECIALIZED {
        let all: SmallVec<[Step; 8]> = layouts.iter().map(|l| step_of(l)).collect();
        // Where one operand strides, the loop is not vectorized anyway.
        if !all.contains(&Step::Any) && all.contains(&Step::Still) {
            steps = all;
        }
    }
    let mut variant =
        Variant { class, narrow: is_narrow(class, n, layouts.iter().copied()), rank, steps, direct: true };
    let pointers = (layouts.len() + 1 + program.scalars().len()) * 8;
    variant.direct = variant.operand(layouts.len()) * 8 + pointers <= shared.facts.max_parameters.min(4096);

    let (run, grid) = ctx.elements(n, 4 + program.instructions().len());
    let mut words = Words::from_slice(&[n as u64, run as u64]);
    if rank > 0 {
        push_shape(&mut words, shape, rank);
    }
    for l in &layouts {
        words.push(l.offset() as u64);
        if rank > 0 {
            push_strides(&mut words, if dense { &[1] } else { l.strides() }, rank);
        }
    }
    let compiled = shared.kernel(("map", program.id(), variant.bits()), program.name(), || {
        source(shared.facts.native(), program, &variant)
    })?;
    let uploaded;
    let mut args: SmallVec<[Arg<'_>; 12]> = SmallVec::new();
    if variant.direct {
        args.push(Arg::Words(&words));
    } else {
        uploaded = ctx.words(&words)?;
        args.push(Arg::Memory(&uploaded));
    }
    args.extend(inputs.iter().map(|o| Arg::Memory(o.buffer)));
    args.extend(outputs.iter().map(|o| Arg::Memory(&*o.buffer)));
    args.extend(kernel.scalars.iter().map(Arg::value));
    shared.launch(&compiled, &args, grid)
}

impl OpenCl {
    /// How `n` elements of work are divided, each of about `cost` instructions: the elements of a run, and the grid.
    pub(crate) fn elements(&self, n: usize, cost: usize) -> (usize, Grid) {
        let facts = &self.shared.facts;
        match facts.class {
            Class::Cpu => {
                // A run is worth a thread's start; runs end at cache lines.
                let least = (1 << 16) / cost.clamp(1, 64);
                let items = n.div_ceil(least).clamp(1, facts.units * 4);
                let run = n.div_ceil(items).next_multiple_of(64);
                (run, Grid::line(n.div_ceil(run), 1))
            }
            Class::Gpu => {
                let local = facts.max_group.min(256);
                (1, Grid::line(n.div_ceil(local).clamp(1, facts.units * 32), local))
            }
        }
    }

    /// Numbers in device memory, for kernels that take more than fit their arguments.
    pub(crate) fn words(&self, words: &[u64]) -> Result<Buffer> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut buffer = memory::alloc(&self.shared, bytes.len())?;
        self.shared.upload(&bytes, &mut buffer, 0)?;
        Ok(buffer)
    }
}
