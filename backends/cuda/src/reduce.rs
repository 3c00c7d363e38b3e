//! `reduce`, in the order of `Reducer`: a block of 256 terms is folded by sixteen threads, or by fewer that read several
//! neighbours at once, its sixteen partial results by shuffles. The results of up to 256 blocks are folded by the same team, by
//! way of shared memory; of more, or where that would leave a device idle, they are written, and reduced by another launch.

use crate::{
    Cuda,
    context::{Key, Words},
    elementwise::{scalar_members, scalars},
    operand::{Raw, fits_32_bits, sizes},
    source::{Source, THREADS},
};
use isograd_core::{
    DType, Operand, OperandMut, ReduceOp, Result,
    backend::{Reducer, launch::Temporary},
    expr::{
        Kernel, Program,
        render::{Body, Names, type_name},
    },
};
use smallvec::SmallVec;
use std::fmt::Write;

/// Terms of a block.
const BLOCK: usize = Reducer::BLOCK;
/// Thread blocks that keep a device busy.
const BUSY: usize = 512;

/// Who folds what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Team {
    /// Each thread an output.
    Thread,
    /// Each warp an output; neighbouring threads read neighbouring elements of it.
    Warp,
    /// Each block an output, likewise.
    Block,
    /// Each block 32 neighbouring outputs; neighbouring threads read elements of neighbouring outputs.
    Columns,
}

impl Team {
    #[cfg(test)]
    pub const ALL: [Team; 4] = [Team::Thread, Team::Warp, Team::Block, Team::Columns];

    /// Threads per output.
    fn size(self) -> usize {
        match self {
            Team::Thread => 1,
            Team::Warp => 32,
            Team::Block => THREADS as usize,
            Team::Columns => THREADS as usize / 32,
        }
    }

    /// Outputs per block.
    fn outputs(self) -> usize {
        THREADS as usize / self.size()
    }
}

/// What a reduction's source depends on, beside the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub op: ReduceOp,
    /// Axes that stay, and axes that are folded.
    pub kept: usize,
    pub folded: usize,
    pub team: Team,
    /// Neighbouring elements that a thread reads in one access, where they are neighbours in memory too: a bit per input
    /// says so; of the others one serves all.
    pub together: usize,
    pub dense: u64,
    pub wide: bool,
    /// Whether results are parts, to be folded again.
    pub parts: bool,
    /// Whether scalars are addresses of numbers on the device.
    pub live: bool,
}

/// Partial results of a block.
const PARTIALS: usize = Reducer::PARTIALS;

/// What is folded: a program's result, or parts of an earlier fold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Folded<'a> {
    Program(&'a Program),
    Parts(DType),
}

/// See [`isograd_core::Backend::reduce`].
pub(crate) fn reduce(
    cuda: &Cuda,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, Cuda>],
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    let kept = output.layout.rank();
    let mut all: SmallVec<[usize; 8]> = match inputs.first() {
        Some(input) => SmallVec::from_slice(input.shape()),
        None => SmallVec::from_slice(output.shape()),
    };
    let mut raw: SmallVec<[Raw; 4]> = inputs.iter().map(Raw::of).collect();
    // At least one axis of each kind.
    if kept == 0 {
        raw.iter_mut().for_each(|r| if all.is_empty() { r.strides[0] = 0 } else { r.strides.insert(0, 0) });
        all.insert(0, 1);
    }
    let kept = kept.max(1);
    if all.len() == kept {
        raw.iter_mut().filter(|r| r.strides.len() == kept).for_each(|r| r.strides.push(0));
        all.push(1);
    }
    let (scalars, live) = cuda.context.scalars(kernel.scalars)?;
    let output = output.as_operand();
    debug_assert_eq!(all[..kept], sizes(output.layout)[..]);
    fold(cuda, op, Folded::Program(kernel.program), &raw, &all, kept, &Raw::of(&output), (&scalars, live))
}

#[expect(clippy::too_many_arguments, reason = "one call of one kernel")]
fn fold(
    cuda: &Cuda,
    op: ReduceOp,
    folded: Folded<'_>,
    inputs: &[Raw],
    sizes: &[usize],
    kept: usize,
    output: &Raw,
    (scalars, live): (&[u64], bool),
) -> Result<()> {
    let outputs: usize = sizes[..kept].iter().product();
    let each: usize = sizes[kept..].iter().product();
    let team = team(inputs, sizes, kept, outputs, each);
    let wide = !(fits_32_bits(outputs.saturating_mul(each)) && inputs.iter().all(|i| i.fits_32_bits(sizes)));
    let last = sizes.len() - 1;
    let together = match folded {
        Folded::Program(_) => together(team, inputs, sizes),
        Folded::Parts(_) => 1,
    };
    // From here, elements are counted so many at a time.
    let mut sizes: SmallVec<[usize; 8]> = SmallVec::from_slice(sizes);
    let mut inputs: SmallVec<[Raw; 4]> = SmallVec::from(inputs);
    let each = each / together;
    sizes[last] /= together;
    inputs.iter_mut().for_each(|i| i.strides[last] *= together as isize);
    let next = |k: usize| inputs.get(k).is_some_and(|i| i.strides[last] != 0);
    let dense = (0..64).filter(|k| next(*k)).fold(0, |bits, k| bits | 1 << k);
    let blocks = outputs.div_ceil(team.outputs());
    let terms = each * together;
    let at_once = match team {
        Team::Warp | Team::Block => terms <= BLOCK * BLOCK && (blocks >= BUSY / 4 || terms <= 16 * BLOCK),
        Team::Thread | Team::Columns => terms <= BLOCK,
    };
    // Otherwise what the team folds side by side.
    let part = match team {
        _ if at_once => each,
        Team::Warp | Team::Block => team.size() * PARTIALS,
        Team::Thread | Team::Columns => BLOCK,
    };
    let splits = each.div_ceil(part);
    let parts = splits > 1;
    let results = terms.div_ceil(BLOCK);
    let variant = Variant { op, kept, folded: sizes.len() - kept, team, together, dense, wide, parts, live };
    let function = cuda.context.kernel(variant.key(folded, output.dtype), || source(folded, output.dtype, &variant))?;
    let computed = output.dtype.compute();
    let parts = match splits {
        1 => None,
        _ => Some(Temporary::<Cuda>::new(cuda, computed, [results, outputs])?),
    };
    let mut words: Words = [outputs, each, splits, part].into_iter().map(|n| n as u64).collect();
    words.extend(sizes.iter().map(|s| *s as u64));
    for i in &inputs {
        words.push(i.address);
        words.extend(i.strides.iter().map(|s| *s as u64));
    }
    words.push(output.address);
    words.extend(output.strides.iter().map(|s| *s as u64));
    words.push(parts.as_ref().map_or(0, |p| crate::operand::address(&p.operand())));
    words.extend_from_slice(scalars);
    let name = match folded {
        Folded::Program(p) => p.name(),
        Folded::Parts(_) => "reduce",
    };
    // SAFETY: the words are the fields of `Arguments` in `source`; core has checked that layouts are within buffers.
    unsafe { cuda.context.launch(name, function, blocks * splits, 0, &words) }?;
    let Some(parts) = parts else { return Ok(()) };
    // Parts are [results, outputs]; the outputs stay.
    let mut input = Raw::of(&parts.operand());
    let mut all: SmallVec<[usize; 8]> = SmallVec::from_slice(&sizes[..kept]);
    let strides = isograd_core::Shape::from(&sizes[..kept]).strides();
    input.strides = strides.iter().copied().chain([outputs as isize]).collect();
    all.push(results);
    fold(cuda, op, Folded::Parts(computed), &[input], &all, kept, output, (&[], false))
}

/// How many neighbouring elements a thread can read at once.
fn together(team: Team, inputs: &[Raw], sizes: &[usize]) -> usize {
    let last = sizes.len() - 1;
    let widest = inputs.iter().map(|i| i.dtype.size()).max().unwrap_or(16);
    let fits = |v: usize| {
        sizes[last].is_multiple_of(v)
            && inputs.iter().all(|i| {
                let others = || i.strides[..last].iter().all(|s| s.unsigned_abs().is_multiple_of(v));
                match i.strides[last] {
                    0 => true,
                    1 => (i.address as usize).is_multiple_of(v * i.dtype.size()) && others(),
                    _ => false,
                }
            })
    };
    let readable = matches!(team, Team::Warp | Team::Block) && inputs.len() <= 64;
    let widths = [16, 8, 4, 2].into_iter().filter(|v| v * widest <= 16);
    if readable { widths.into_iter().find(|v| fits(*v)).unwrap_or(1) } else { 1 }
}

fn team(inputs: &[Raw], sizes: &[usize], kept: usize, outputs: usize, each: usize) -> Team {
    let last = sizes.len() - 1;
    let along = |axis: usize| inputs.iter().any(|i| sizes[axis] > 1 && i.strides[axis].abs() == 1);
    if outputs >= 32 && along(kept - 1) && !along(last) {
        return if each <= 8 { Team::Thread } else { Team::Columns };
    }
    match each {
        0..=8 => Team::Thread,
        9..=1024 => Team::Warp,
        _ => Team::Block,
    }
}

impl Variant {
    fn key(&self, folded: Folded<'_>, output: DType) -> Key {
        let of = match folded {
            Folded::Program(p) => [0, p.id()],
            Folded::Parts(d) => [1, d as u64],
        };
        let variant = [
            self.op as u64,
            self.kept as u64,
            self.folded as u64,
            self.team as u64,
            self.wide as u64 * 4 + self.parts as u64 * 2 + self.live as u64,
            self.together as u64,
            if self.together > 1 { self.dense } else { 0 },
            output as u64,
        ];
        Key::new("reduce", of).and(variant)
    }
}

/// The kernel of what is folded and a variant.
pub(crate) fn source(folded: Folded<'_>, output: DType, variant: &Variant) -> Source {
    let mut source = Source::new("reduce");
    let Variant { op, kept, folded: axes, team, together, dense, wide, parts, live } = *variant;
    source.element(output).reduction(op, output);
    let (body, inputs, arguments): (Body, Vec<DType>, Vec<DType>) = match folded {
        Folded::Program(program) => {
            let element = |k: usize| match (together, dense >> k & 1) {
                (1, _) => format!("a.in{k}[in{k}_at]"),
                (_, 1) => format!("in{k}.v[k]"),
                _ => format!("in{k}.v[0]"),
            };
            let names = Names {
                inputs: (0..program.inputs().len()).map(element).collect(),
                scalars: scalars(program.scalars(), live),
                index: format!("((out * a.each + i) * {together} + k)"),
                ..Names::default()
            };
            let body = source.renderer.body(program, &names);
            (body, program.inputs().to_vec(), program.scalars().to_vec())
        }
        Folded::Parts(computed) => {
            let body = Body { statements: String::new(), computed: vec!["a.in0[in0_at]".into()], stored: vec![] };
            (body, vec![computed], vec![])
        }
    };
    let rank = kept + axes;
    let unrolled = if together > 1 { 2 } else { 4 };
    let mut t = String::new();
    let _ = writeln!(t, "typedef {} Position;", if wide { "ig_i64" } else { "ig_i32" });
    let _ = writeln!(t, "struct Arguments {{\n    ig_i64 outputs, each, splits, part, size[{rank}];");
    for (k, d) in inputs.iter().enumerate() {
        let _ = writeln!(t, "    IG_WORD const {} *in{k};\n    ig_i64 in{k}_stride[{rank}];", type_name(*d));
    }
    let _ = writeln!(t, "    IG_WORD Stored *out;\n    ig_i64 out_stride[{kept}];\n    IG_WORD Computed *parts;");
    t += &scalar_members(&arguments, live);
    let (size, outputs) = (team.size(), team.outputs());
    let (lane, slot) = match team {
        Team::Columns => (format!("threadIdx.x / {outputs}"), format!("threadIdx.x % {outputs}")),
        _ => (format!("threadIdx.x % {size}"), format!("threadIdx.x / {size}")),
    };
    let _ = write!(
        t,
        "}};
IG_KERNEL(reduce, Arguments) {{
    const int lane = {lane}, slot = {slot};
    const ig_i64 split = blockIdx.x % a.splits, out = blockIdx.x / a.splits * {outputs} + slot;
    const bool live = out < a.outputs;
    ig_i64 out_at = 0;
"
    );
    for k in 0..inputs.len() {
        let _ = writeln!(t, "    Position in{k}_from = 0;");
    }
    t += "    if (live) {\n        Position rest = (Position)out;\n";
    let decode = |t: &mut String, axes: std::ops::Range<usize>, pad: &str, from: &str, out: bool| {
        for axis in axes.clone().rev() {
            let _ = writeln!(t, "{pad}{{");
            if axis == axes.start {
                let _ = writeln!(t, "{pad}    const Position at = rest;");
            } else {
                let _ = writeln!(
                    t,
                    "{pad}    const Position size = (Position)a.size[{axis}], at = rest % size;\n{pad}    rest /= size;"
                );
            }
            for k in 0..inputs.len() {
                let _ = writeln!(t, "{pad}    in{k}_{from} += at * (Position)a.in{k}_stride[{axis}];");
            }
            if out {
                let _ = writeln!(t, "{pad}    out_at += at * a.out_stride[{axis}];");
            }
            let _ = writeln!(t, "{pad}}}");
        }
    };
    decode(&mut t, 0..kept, "        ", "from", true);
    t += "    }\n";
    // The statements that fold term number `i` of `out`, or `together` terms from there on, into `into`.
    let mut term = String::new();
    term += "            Position rest = (Position)i;\n";
    for k in 0..inputs.len() {
        let _ = writeln!(term, "            Position in{k}_at = in{k}_from;");
    }
    decode(&mut term, kept..rank, "            ", "at", false);
    if together > 1 {
        for (k, d) in inputs.iter().enumerate() {
            let pack = format!("Pack<{}, {}>", type_name(*d), if dense >> k & 1 == 1 { together } else { 1 });
            let _ = writeln!(term, "            const {pack} in{k} = *(const {pack} *)(a.in{k} + in{k}_at);");
        }
    }
    let _ = writeln!(term, "#pragma unroll\n            for (int k = 0; k < {together}; k++) {{");
    for line in body.statements.lines() {
        let _ = writeln!(term, "                {line}");
    }
    let folded = |into: &str| {
        format!("{term}                {into} = ig_combine({into}, {});\n            }}\n", body.computed[0])
    };
    let block = BLOCK / together;
    t += "    const ig_i64 begin = split * a.part, end = begin + a.part < a.each ? begin + a.part : a.each;\n";
    match team {
        // No more terms than partial results.
        Team::Thread => {
            let _ = write!(
                t,
                "    Computed x[{PARTIALS}];
#pragma unroll
    for (int j = 0; j < {PARTIALS}; j++) {{
        const ig_i64 i = begin + j;
        x[j] = ig_identity();
        if (live && i < end) {{
{}        }}
    }}
    ig_block_fold<{PARTIALS}>(x);
    const Computed result = x[0];
",
                folded("x[j]")
            );
        }
        Team::Warp | Team::Block => {
            let threads = PARTIALS / together;
            let _ = write!(
                t,
                "    const ig_i64 blocks = (end - begin + {block} - 1) / {block};
{}    for (ig_i64 some = 0; some < blocks; some += {size} / {threads}) {{
        const ig_i64 b = some + lane / {threads};
        Computed x[{together}];
#pragma unroll
        for (int k = 0; k < {together}; k++) x[k] = ig_identity();
        const ig_i64 from = begin + b * {block}, to = from + {block} < end ? from + {block} : end;
        if (live) {{
#pragma unroll {unrolled}
            for (ig_i64 i = from + lane % {threads}; i < to; i += {threads}) {{
{}            }}
        }}
        ig_block_fold<{together}>(x);
        if (lane % {threads} == 0 && b < blocks) {{
            {};
        }}
    }}
",
                if parts { String::new() } else { format!("    __shared__ Computed sums[{outputs}][{BLOCK}];\n") },
                folded("x[k]"),
                match parts {
                    true => format!("if (live) a.parts[(split * (a.part / {block}) + b) * a.outputs + out] = x[0]"),
                    false => "sums[slot][b] = x[0]".to_string(),
                }
            );
            if !parts {
                let wait = if team == Team::Warp { "__syncwarp" } else { "__syncthreads" };
                let _ = write!(
                    t,
                    "    {wait}();
    Computed y[1] = {{ig_identity()}};
    if (lane < {PARTIALS}) {{
        for (ig_i64 b = lane; b < blocks; b += {PARTIALS}) y[0] = ig_combine(y[0], sums[slot][b]);
    }}
    ig_block_fold<1>(y);
    const Computed result = y[0];
"
                );
            }
        }
        // Each thread has partial results number `lane` and `lane + 8`.
        Team::Columns => {
            let half = PARTIALS / 2;
            let _ = write!(
                t,
                "    __shared__ Computed rows[{size}][{outputs}];
    Computed low = ig_identity(), high = ig_identity();
    if (live) {{
        for (ig_i64 i = begin + lane; i < end; i += {PARTIALS}) {{
{}        }}
        for (ig_i64 i = begin + lane + {half}; i < end; i += {PARTIALS}) {{
{}        }}
    }}
    Computed result = ig_combine(low, high);
    for (int width = {half} / 2; width > 0; width /= 2) {{
        rows[lane][slot] = result;
        __syncthreads();
        if (lane < width) result = ig_combine(result, rows[lane + width][slot]);
        __syncthreads();
    }}
",
                folded("low"),
                folded("high")
            );
        }
    }
    match (parts, team) {
        (true, Team::Warp | Team::Block) => {}
        (true, _) => t += "    if (live && lane == 0) a.parts[split * a.outputs + out] = result;\n",
        (false, _) => t += "    if (live && lane == 0) a.out[out_at] = ig_store(result);\n",
    }
    t += "}\n";
    source.text(&t);
    source
}
