//! `map`: one thread per group of neighbouring elements, 16 bytes where layouts allow.

use crate::{
    Cuda,
    context::{Key, Words},
    operand::{Raw, fits_32_bits},
    source::Source,
};
use isograd_core::{
    DType, Operand, OperandMut, Result,
    expr::{
        Kernel, Program,
        render::{Names, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

/// How an operand moves along the innermost axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// One element serves all.
    Same,
    /// Neighbours in memory.
    Next,
    /// Any distance.
    Any,
}

/// What a map's source depends on, beside the program: sizes and strides are arguments.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub rank: usize,
    /// Elements that a thread computes.
    pub together: usize,
    /// Whether positions need 64 bits.
    pub wide: bool,
    /// Whether scalars are addresses of numbers on the device.
    pub live: bool,
    /// Of the inputs, then of the outputs.
    pub steps: SmallVec<[Step; 6]>,
}

impl Variant {
    fn of(inputs: &[Raw], outputs: &[Raw], sizes: &[usize]) -> Variant {
        let rank = sizes.len();
        let inner = sizes[rank - 1];
        let all = || inputs.iter().chain(outputs);
        let steps: SmallVec<[Step; 6]> = all()
            .map(|o| match o.strides[rank - 1] {
                _ if inner == 1 => Step::Any,
                0 => Step::Same,
                1 => Step::Next,
                _ => Step::Any,
            })
            .collect();
        let widest = all().map(|o| o.dtype.size()).max().unwrap_or(1);
        let mut together = 16 / widest;
        let allowed = |v: usize| {
            all().zip(&steps).filter(|(_, s)| **s == Step::Next).all(|(o, _)| {
                let access = v * o.dtype.size();
                (o.address as usize).is_multiple_of(access)
                    && (rank == 1 || o.strides[..rank - 1].iter().all(|s| s.unsigned_abs().is_multiple_of(v)))
            }) && (rank == 1 || inner.is_multiple_of(v))
        };
        // Only where all outputs are dense is anything gained.
        let dense = steps[inputs.len()..].iter().all(|s| *s == Step::Next);
        while together > 1 && !(dense && inner >= together && allowed(together)) {
            together /= 2;
        }
        let count: usize = sizes.iter().product();
        let wide = !(fits_32_bits(count) && all().all(|o| o.fits_32_bits(sizes)));
        Variant { rank, together, wide, live: false, steps }
    }

    fn key(&self, program: &Program) -> Key {
        // 32 operands to a word.
        let steps = self.steps.chunks(32).map(|chunk| chunk.iter().fold(0, |bits, s| bits << 2 | *s as u64));
        let numbers = [self.rank as u64, self.together as u64, self.wide as u64, self.live as u64];
        Key::new("map", [program.id()]).and(numbers).and(steps)
    }
}

/// See [`isograd_core::Backend::map`].
pub(crate) fn map(
    cuda: &Cuda,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, Cuda>],
    outputs: &mut [OperandMut<'_, Cuda>],
) -> Result<()> {
    let inputs: SmallVec<[Raw; 4]> = inputs.iter().map(Raw::of).collect();
    let sizes: SmallVec<[usize; 6]> = crate::operand::sizes(outputs[0].layout);
    let outputs: SmallVec<[Raw; 2]> = outputs.iter().map(|o| Raw::of(&o.as_operand())).collect();
    let (scalars, live) = cuda.context.scalars(kernel.scalars)?;
    let variant = Variant { live, ..Variant::of(&inputs, &outputs, &sizes) };
    let program = kernel.program;
    let function = cuda.context.kernel(variant.key(program), || source(program, &variant))?;
    let inner = sizes[variant.rank - 1];
    let chunks = sizes[..variant.rank - 1].iter().product::<usize>() * inner.div_ceil(variant.together);
    let mut words: Words = [chunks as u64].into_iter().collect();
    words.extend(sizes.iter().map(|s| *s as u64));
    for o in inputs.iter().chain(&outputs) {
        words.push(o.address);
        words.extend(o.strides.iter().map(|s| *s as u64));
    }
    words.extend(scalars);
    // SAFETY: the words are the fields of `Arguments` in `source`; core has checked that layouts are within buffers.
    unsafe { cuda.context.launch_each(program.name(), function, chunks, &words) }
}

/// How a kernel names its scalars; those that are `live` lie in the device's memory.
pub(crate) fn scalars(dtypes: &[DType], live: bool) -> Vec<String> {
    (0..dtypes.len()).map(|k| if live { format!("(*a.arg{k})") } else { format!("a.arg{k}") }).collect()
}

/// The members of its arguments for them.
pub(crate) fn scalar_members(dtypes: &[DType], live: bool) -> String {
    let star = if live { "const *" } else { "" };
    dtypes.iter().enumerate().map(|(k, d)| format!("    IG_WORD {} {star}arg{k};\n", type_name(*d))).collect()
}

/// The kernel of a program and a variant.
pub(crate) fn source(program: &Program, variant: &Variant) -> Source {
    let mut source = Source::new("map");
    let Variant { rank, together, wide, live, ref steps } = *variant;
    let (inputs, outputs) = (program.inputs(), program.outputs());
    let names = Names {
        inputs: (0..inputs.len()).map(|k| format!("in{k}.v[{}]", index(steps[k]))).collect(),
        old: (0..outputs.len()).map(|k| format!("out{k}.v[k]")).collect(),
        scalars: scalars(program.scalars(), live),
        index: "(first + k)".into(),
        ..Names::default()
    };
    let body = source.renderer.body(program, &names);
    let mut t = String::new();
    let _ = writeln!(t, "typedef {} Position;", if wide { "ig_i64" } else { "ig_i32" });
    let _ = writeln!(t, "struct Arguments {{\n    ig_i64 chunks, size[{rank}];");
    for (k, d) in inputs.iter().enumerate() {
        let _ = writeln!(t, "    IG_WORD const {} *in{k};\n    ig_i64 in{k}_stride[{rank}];", type_name(*d));
    }
    for (k, (_, d)) in outputs.iter().enumerate() {
        let _ = writeln!(t, "    IG_WORD {} *out{k};\n    ig_i64 out{k}_stride[{rank}];", type_name(*d));
    }
    t += &scalar_members(program.scalars(), live);
    let last = rank - 1;
    let _ = write!(
        t,
        "}};
IG_KERNEL(map, Arguments) {{
    const ig_i64 number = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= a.chunks) return;
    const Position inner = (Position)a.size[{last}], chunks = (inner + {together} - 1) / {together};
    Position rest = (Position)number / chunks;
    const Position column = ((Position)number - rest * chunks) * {together};
    const ig_i64 first = (ig_i64)rest * inner + column;
    const int live = inner - column < {together} ? (int)(inner - column) : {together};
"
    );
    let operands = || (0..inputs.len()).map(|k| format!("in{k}")).chain((0..outputs.len()).map(|k| format!("out{k}")));
    for (name, step) in operands().zip(steps) {
        let start = match step {
            Step::Same => "0".to_string(),
            Step::Next => "column".to_string(),
            Step::Any => format!("column * (Position)a.{name}_stride[{last}]"),
        };
        let _ = writeln!(t, "    Position {name}_at = {start};");
    }
    for axis in (0..last).rev() {
        let _ = writeln!(
            t,
            "    {{\n        const Position size = (Position)a.size[{axis}], at = rest % size;\n        rest /= size;"
        );
        for name in operands() {
            let _ = writeln!(t, "        {name}_at += at * (Position)a.{name}_stride[{axis}];");
        }
        t += "    }\n";
    }
    let load = |name: &str, dtype: &str, step: Step| match step {
        Step::Same => format!("    Pack<{dtype}, 1> {name};\n    {name}.v[0] = a.{name}[{name}_at];\n"),
        _ => {
            let distance =
                if step == Step::Next { "k".into() } else { format!("k * (Position)a.{name}_stride[{last}]") };
            let each = format!(
                "#pragma unroll\n    for (int k = 0; k < {together}; k++) {{\n        \
                 if (k < live) {name}.v[k] = a.{name}[{name}_at + {distance}];\n    }}\n"
            );
            if step == Step::Next && together > 1 {
                format!(
                    "    Pack<{dtype}, {together}> {name};\n    if (live == {together}) {{\n        \
                     {name} = *(const Pack<{dtype}, {together}> *)(a.{name} + {name}_at);\n    \
                     }} else {{\n{each}    }}\n"
                )
            } else {
                format!("    Pack<{dtype}, {together}> {name};\n{each}")
            }
        }
    };
    for (k, d) in inputs.iter().enumerate() {
        t += &load(&format!("in{k}"), type_name(*d), steps[k]);
    }
    for (k, (_, d)) in outputs.iter().enumerate() {
        let name = format!("out{k}");
        if program.reads_old()[k] {
            t += &load(&name, type_name(*d), steps[inputs.len() + k]);
        } else {
            let _ = writeln!(t, "    Pack<{}, {together}> {name};", type_name(*d));
        }
    }
    let _ = writeln!(t, "#pragma unroll\n    for (int k = 0; k < {together}; k++) {{\n        if (k >= live) break;");
    for line in body.statements.lines() {
        let _ = writeln!(t, "        {line}");
    }
    for (k, value) in body.stored.iter().enumerate() {
        let _ = writeln!(t, "        out{k}.v[k] = {value};");
    }
    t += "    }\n";
    for (k, (_, d)) in outputs.iter().enumerate() {
        let (name, step, dtype) = (format!("out{k}"), steps[inputs.len() + k], type_name(*d));
        let distance = if step == Step::Next { "k".into() } else { format!("k * (Position)a.{name}_stride[{last}]") };
        let each = format!(
            "#pragma unroll\n    for (int k = 0; k < {together}; k++) {{\n        \
                 if (k < live) a.{name}[{name}_at + {distance}] = {name}.v[k];\n    }}\n"
        );
        if step == Step::Next && together > 1 {
            let _ = write!(
                t,
                "    if (live == {together}) {{\n        \
                 *(Pack<{dtype}, {together}> *)(a.{name} + {name}_at) = {name};\n    }} else {{\n{each}    }}\n"
            );
        } else {
            t += &each;
        }
    }
    t += "}\n";
    source.text(&t);
    source
}

fn index(step: Step) -> &'static str {
    if step == Step::Same { "0" } else { "k" }
}
