//! A program run on a chunk of elements: one loop per instruction, over registers that stay in cache.

use super::{Input, Lane, LaneMut, Lanes, Output};
use crate::{
    DType, Layout, Value, bf16,
    expr::{Instruction, Kernel, Operation, Program, Register},
    f16,
};
use smallvec::SmallVec;
use std::cell::RefCell;

/// Elements per chunk: eight registers of f32 fill half of a first-level cache.
pub const CHUNK: usize = 1024;

/// Where the elements of an input lie for one chunk: number `start..` of `layout`, in row-major order, from `base` on.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub bytes: &'a [u8],
    pub dtype: DType,
    pub layout: &'a Layout,
    pub base: isize,
}

impl<'a> Source<'a> {
    #[inline]
    pub fn whole(input: &Input<'a>) -> Source<'a> {
        Source { bytes: input.bytes, dtype: input.dtype, layout: input.layout, base: 0 }
    }
}

/// What a chunk is: its elements' numbers `start..start + len` in the iteration space, and the value that the index leaf has
/// for them, `index + i * step`.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub start: usize,
    pub len: usize,
    pub index: i64,
    pub step: i64,
}

/// Calls `f(position, stride, count)` for each innermost run of elements `start..start + len` of `layout`.
pub(super) fn runs(layout: &Layout, base: isize, start: usize, len: usize, mut f: impl FnMut(usize, isize, usize)) {
    let rank = layout.rank();
    if rank == 0 {
        return f((layout.offset() as isize + base) as usize, 0, len);
    }
    let (shape, strides) = (layout.shape(), layout.strides());
    let (inner, inner_stride) = (shape[rank - 1], strides[rank - 1]);
    if rank == 1 {
        return f((layout.offset() as isize + base + start as isize * inner_stride) as usize, inner_stride, len);
    }
    let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, rank);
    let mut rest = start;
    let mut at = layout.offset() as isize + base;
    for a in (0..rank).rev() {
        index[a] = rest % shape[a];
        rest /= shape[a];
        at += index[a] as isize * strides[a];
    }
    let mut left = len;
    loop {
        let count = left.min(inner - index[rank - 1]);
        f(at as usize, inner_stride, count);
        left -= count;
        if left == 0 {
            return;
        }
        at -= index[rank - 1] as isize * inner_stride;
        index[rank - 1] = 0;
        for a in (0..rank - 1).rev() {
            index[a] += 1;
            at += strides[a];
            if index[a] < shape[a] {
                break;
            }
            at -= strides[a] * shape[a] as isize;
            index[a] = 0;
        }
    }
}

fn load<T: Copy, U>(from: &[T], source: &Source<'_>, chunk: Chunk, out: &mut [U], convert: impl Fn(T) -> U) {
    let mut done = 0;
    runs(source.layout, source.base, chunk.start, chunk.len, |at, stride, count| {
        let target = &mut out[done..done + count];
        match stride {
            0 => {
                let v = from[at];
                target.iter_mut().for_each(|o| *o = convert(v));
            }
            1 => target.iter_mut().zip(&from[at..at + count]).for_each(|(o, &v)| *o = convert(v)),
            _ => {
                let mut position = at as isize;
                for o in target {
                    *o = convert(from[position as usize]);
                    position += stride;
                }
            }
        }
        done += count;
    });
}

fn store<T: Copy, U>(
    from: &[T],
    output: &mut Output<'_>,
    to: impl Fn(&mut [u8]) -> &mut [U],
    chunk: Chunk,
    convert: impl Fn(T) -> U,
) {
    let target = to(output.bytes);
    let mut done = 0;
    let base = -(output.origin as isize);
    runs(output.layout, base, chunk.start, chunk.len, |at, stride, count| {
        let values = &from[done..done + count];
        if stride == 1 {
            target[at..at + count].iter_mut().zip(values).for_each(|(o, &v)| *o = convert(v));
        } else {
            let mut position = at as isize;
            for &v in values {
                target[position as usize] = convert(v);
                position += stride;
            }
        }
        done += count;
    });
}

/// The elements of one chunk when they lie one after another and need no conversion.
#[inline]
fn direct(layout: &Layout, base: isize, chunk: Chunk) -> Option<usize> {
    let rank = layout.rank();
    if rank == 0 {
        return (chunk.len == 1).then(|| (layout.offset() as isize + base) as usize);
    }
    let inner = layout.shape()[rank - 1];
    if layout.strides()[rank - 1] != 1 && inner != 1 {
        return None;
    }
    if rank == 1 {
        return Some((layout.offset() as isize + base + chunk.start as isize) as usize);
    }
    let within = chunk.start % inner;
    (within + chunk.len <= inner).then(|| (layout.position_of_linear(chunk.start) as isize + base) as usize)
}

/// Where the result of an instruction is.
#[derive(Clone, Copy)]
enum Place {
    /// In a register.
    Slot(usize),
    /// In the memory of input `k`, from this element on.
    Input(usize, usize),
    /// Written straight to its output; nothing reads it again.
    Output,
}

thread_local! {
    /// Registers of finished machines, to be used again.
    static SCRATCH: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// What a machine needs to know of a program: worked out once, and kept with the program.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For each instruction its register.
    slot_of: Vec<usize>,
    /// For each instruction the output that it may be written to directly.
    target: Vec<Option<usize>>,
    /// How many registers there are.
    slots: usize,
    /// The whole program, when it is one primitive.
    single: Option<Single>,
}

/// A program of one primitive on inputs as they are stored, to one output: what most small operators come to. It needs no
/// machine.
#[derive(Debug, Clone, Copy)]
struct Single {
    operation: Operation,
    dtype: DType,
    /// The inputs that are its arguments, in order.
    inputs: [u8; 3],
}

impl Single {
    fn new(program: &Program) -> Option<Single> {
        let (last, loads) = program.instructions().split_last()?;
        let [(_, stored)] = program.outputs() else { return None };
        let mut inputs = [0; 3];
        for (place, r) in inputs.iter_mut().zip(last.operation.arguments()) {
            match loads[r as usize] {
                Instruction { operation: Operation::Input(k), dtype } if program.inputs()[k as usize] == dtype => {
                    *place = k
                }
                _ => return None,
            }
        }
        let one = matches!(
            last.operation,
            Operation::Unary(..) | Operation::Binary(..) | Operation::MulAdd(..) | Operation::Select(..)
        );
        let only_loads = loads.iter().all(|i| matches!(i.operation, Operation::Input(_)));
        (one && only_loads && *stored == last.dtype).then_some(Single {
            operation: last.operation,
            dtype: last.dtype,
            inputs,
        })
    }
}

/// Runs `kernel` on one chunk without a machine, when it is one primitive and its operands lie ready in memory. Says
/// whether it did.
#[inline]
pub(super) fn run_single<L: Lanes>(
    lanes: L,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    output: &mut Output<'_>,
    chunk: Chunk,
) -> bool {
    let plan = kernel.program.plan.get_or_init(|| Plan::new(kernel.program));
    let Some(single) = &plan.single else { return false };
    let ready = |k: usize| {
        let x = &inputs[single.inputs[k] as usize];
        let size = x.dtype.size();
        let at = direct(x.layout, 0, chunk)? * size;
        Some(Lane::of(x.dtype, &x.bytes[at..at + chunk.len * size]))
    };
    let Some(at) = direct(output.layout, -(output.origin as isize), chunk) else { return false };
    let size = single.dtype.size();
    let out = LaneMut::of(single.dtype, &mut output.bytes[at * size..(at + chunk.len) * size]);
    match single.operation {
        Operation::Unary(op, _) => {
            let Some(x) = ready(0) else { return false };
            lanes.unary(op, x, out);
        }
        Operation::Binary(op, ..) => {
            let (Some(a), Some(b)) = (ready(0), ready(1)) else { return false };
            lanes.binary(op, a, b, out);
        }
        Operation::MulAdd(..) => {
            let (Some(a), Some(b), Some(c)) = (ready(0), ready(1), ready(2)) else { return false };
            lanes.mul_add(a, b, c, out);
        }
        Operation::Select(..) => {
            let (Some(Lane::Bool(c)), Some(a), Some(b)) = (ready(0), ready(1), ready(2)) else { return false };
            lanes.select(c, a, b, out);
        }
        _ => return false,
    }
    true
}

impl Plan {
    fn new(program: &Program) -> Plan {
        let instructions = program.instructions();
        let mut plan = Plan { slot_of: Vec::new(), target: Vec::new(), slots: 0, single: Single::new(program) };
        let mut free = Vec::new();
        for (i, instruction) in instructions.iter().enumerate() {
            // Constants keep their register from chunk to chunk; every other is given back after its last use.
            let reused = if is_constant(&instruction.operation) { None } else { free.pop() };
            let slot = reused.unwrap_or_else(|| {
                plan.slots += 1;
                plan.slots - 1
            });
            plan.slot_of.push(slot);
            let arguments = instruction.operation.arguments();
            for (n, &r) in arguments.iter().enumerate() {
                let last = program.last_use()[r as usize] as usize == i;
                if last && !is_constant(&instructions[r as usize].operation) && !arguments[..n].contains(&r) {
                    free.push(plan.slot_of[r as usize]);
                }
            }
            let mut outputs = (0..).zip(program.outputs()).filter(|(_, (r, _))| *r as usize == i);
            let only = outputs.next().filter(|_| outputs.next().is_none());
            plan.target.push(
                only.filter(|(k, (_, dtype))| {
                    let later = &instructions[i + 1..];
                    *dtype == instruction.dtype
                        && !matches!(instruction.operation, Operation::Input(_) | Operation::Old(_))
                        && !later.iter().any(|n| {
                            n.operation == Operation::Old(*k as u8)
                                || n.operation.arguments().contains(&(i as Register))
                        })
                })
                .map(|(k, _)| k),
            );
        }
        plan
    }
}

/// Runs one kernel chunk by chunk.
pub(super) struct Machine<'k, L> {
    kernel: Kernel<'k>,
    plan: &'k Plan,
    lanes: L,
    /// Elements of the longest chunk.
    capacity: usize,
    /// Registers; empty until something is kept in them.
    slots: SmallVec<[Vec<u64>; 4]>,
    places: SmallVec<[Place; 8]>,
    /// Whether constants and launch arguments are in their registers.
    ready: bool,
}

impl<L> Drop for Machine<'_, L> {
    fn drop(&mut self) {
        if self.slots.iter().any(|s| s.capacity() > 0) {
            SCRATCH.with_borrow_mut(|pool| {
                pool.extend(self.slots.drain(..).filter(|s| s.capacity() > 0 && s.capacity() <= 2 * CHUNK))
            });
        }
    }
}

/// Takes a register out of its slot, or memory of an earlier machine, with room for `bytes`.
#[inline]
fn take(slot: &mut Vec<u64>, bytes: usize) -> Vec<u64> {
    let mut words = std::mem::take(slot);
    if words.capacity() == 0 {
        words = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    }
    grow(&mut words, bytes);
    words
}

#[inline]
fn grow(words: &mut Vec<u64>, bytes: usize) {
    let n = bytes.div_ceil(8);
    if words.len() < n {
        words.resize(n.next_power_of_two(), 0);
    }
}

#[inline]
fn is_constant(operation: &Operation) -> bool {
    matches!(operation, Operation::Const(_) | Operation::Scalar(_))
}

#[inline]
fn lane<'a>(slots: &'a [Vec<u64>], inputs: &[Source<'a>], place: Place, dtype: DType, len: usize) -> Lane<'a> {
    let size = dtype.size();
    match place {
        Place::Slot(s) => Lane::of(dtype, &bytemuck::cast_slice(&slots[s])[..len * size]),
        Place::Input(k, at) => Lane::of(dtype, &inputs[k].bytes[at * size..(at + len) * size]),
        Place::Output => unreachable!("a result that is read again is kept in a register"),
    }
}

impl<'k, L: Lanes> Machine<'k, L> {
    /// A machine for chunks of up to `capacity` elements.
    #[inline]
    pub fn new(kernel: Kernel<'k>, lanes: L, capacity: usize) -> Machine<'k, L> {
        let plan = kernel.program.plan.get_or_init(|| Plan::new(kernel.program));
        let slots = (0..plan.slots).map(|_| Vec::new()).collect();
        Machine { kernel, plan, lanes, capacity, slots, places: SmallVec::new(), ready: false }
    }

    /// Computes every instruction for `chunk`, and writes the outputs, if any are given. Without outputs the result is
    /// read by [`Machine::result`].
    pub fn run(&mut self, chunk: Chunk, inputs: &[Source<'_>], outputs: &mut [Output<'_>]) {
        let Kernel { program, scalars } = self.kernel;
        let len = chunk.len;
        self.places.clear();
        for (i, instruction) in program.instructions().iter().enumerate() {
            let (dtype, operation, slot) = (instruction.dtype, instruction.operation, self.plan.slot_of[i]);
            // An input that lies ready in memory is read where it is.
            if let Operation::Input(k) = operation {
                let source = &inputs[k as usize];
                if source.dtype == dtype
                    && let Some(at) = direct(source.layout, source.base, chunk)
                {
                    self.places.push(Place::Input(k as usize, at));
                    continue;
                }
            }
            if let Operation::Old(k) = operation {
                let o = &outputs[k as usize];
                let source = Source { bytes: o.bytes, dtype: o.dtype, layout: o.layout, base: -(o.origin as isize) };
                let mut own = take(&mut self.slots[slot], len * dtype.size());
                let bytes = &mut bytemuck::cast_slice_mut(&mut own)[..len * dtype.size()];
                gather(&source, chunk, LaneMut::of(dtype, bytes));
                self.slots[slot] = own;
                self.places.push(Place::Slot(slot));
                continue;
            }
            let straight = match self.plan.target[i] {
                Some(k) if !outputs.is_empty() => {
                    direct(outputs[k].layout, -(outputs[k].origin as isize), chunk).map(|at| (k, at))
                }
                _ => None,
            };
            if is_constant(&operation) && self.ready && straight.is_none() {
                self.places.push(Place::Slot(slot));
                continue;
            }
            let mut own = Vec::new();
            let size = dtype.size();
            let bytes: &mut [u8] = match straight {
                Some((k, at)) => &mut outputs[k].bytes[at * size..(at + len) * size],
                None => {
                    let n = if is_constant(&operation) { self.capacity } else { len };
                    own = take(&mut self.slots[slot], n * size);
                    &mut bytemuck::cast_slice_mut(&mut own)[..n * size]
                }
            };
            let at = |r: Register| {
                let dtype = program.instructions()[r as usize].dtype;
                lane(&self.slots, inputs, self.places[r as usize], dtype, len)
            };
            match operation {
                Operation::Input(k) => gather(&inputs[k as usize], chunk, LaneMut::of(dtype, bytes)),
                Operation::Old(_) => unreachable!("read above"),
                Operation::Scalar(k) => splat(scalars[k as usize].cast(dtype), LaneMut::of(dtype, bytes)),
                Operation::Const(v) => splat(v, LaneMut::of(dtype, bytes)),
                Operation::Index => {
                    let out: &mut [i64] = bytemuck::cast_slice_mut(bytes);
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = chunk.index + i as i64 * chunk.step;
                    }
                }
                Operation::Random { word, seed, index } => {
                    let (Lane::I64(seed), Lane::I64(index)) = (at(seed), at(index)) else {
                        unreachable!("seeds and counters are i64")
                    };
                    self.lanes.random(word, seed, index, bytemuck::cast_slice_mut(bytes));
                }
                Operation::Unary(op, x) => self.lanes.unary(op, at(x), LaneMut::of(dtype, bytes)),
                Operation::Binary(op, a, b) => self.lanes.binary(op, at(a), at(b), LaneMut::of(dtype, bytes)),
                Operation::MulAdd(a, b, c) => self.lanes.mul_add(at(a), at(b), at(c), LaneMut::of(dtype, bytes)),
                Operation::Select(c, a, b) => {
                    let Lane::Bool(condition) = at(c) else { unreachable!("conditions are bool") };
                    self.lanes.select(condition, at(a), at(b), LaneMut::of(dtype, bytes));
                }
                Operation::Convert(x) => self.lanes.convert(at(x), LaneMut::of(dtype, bytes)),
                Operation::Round(to, x) => {
                    let (Lane::F32(x), LaneMut::F32(out)) = (at(x), LaneMut::of(dtype, bytes)) else {
                        unreachable!("f16 and bf16 are computed in f32")
                    };
                    let half = to == DType::F16;
                    out.iter_mut().zip(x).for_each(|(o, &v)| {
                        *o = if half { f16::from_f32(v).to_f32() } else { bf16::from_f32(v).to_f32() };
                    });
                }
                Operation::Bitcast(x) => {
                    let from: &[u8] = match at(x) {
                        Lane::F32(x) => bytemuck::cast_slice(x),
                        Lane::F64(x) => bytemuck::cast_slice(x),
                        Lane::I32(x) => bytemuck::cast_slice(x),
                        Lane::I64(x) => bytemuck::cast_slice(x),
                        _ => unreachable!("bits are exchanged between dtypes of 4 or 8 bytes"),
                    };
                    bytes.copy_from_slice(from);
                }
            }
            if straight.is_some() {
                self.places.push(Place::Output);
            } else {
                self.slots[slot] = own;
                self.places.push(Place::Slot(slot));
            }
        }
        self.ready = true;
        if outputs.is_empty() {
            return;
        }
        for (output, &(r, _)) in outputs.iter_mut().zip(program.outputs()) {
            let place = self.places[r as usize];
            if !matches!(place, Place::Output) {
                let dtype = program.instructions()[r as usize].dtype;
                scatter(lane(&self.slots, inputs, place, dtype, len), output, chunk);
            }
        }
    }

    /// The first output of the last chunk, which was run without outputs, in the dtype that it is computed in.
    pub fn result<'a>(&'a self, inputs: &[Source<'a>], len: usize) -> Lane<'a> {
        let (r, _) = self.kernel.program.outputs()[0];
        lane(&self.slots, inputs, self.places[r as usize], self.kernel.program.instructions()[r as usize].dtype, len)
    }
}

#[inline]
fn splat(value: Value, out: LaneMut<'_>) {
    match (value, out) {
        (Value::F32(v), LaneMut::F32(o)) => o.fill(v),
        (Value::F64(v), LaneMut::F64(o)) => o.fill(v),
        (Value::I32(v), LaneMut::I32(o)) => o.fill(v),
        (Value::I64(v), LaneMut::I64(o)) => o.fill(v),
        (Value::U8(v), LaneMut::U8(o)) => o.fill(v),
        (Value::I8(v), LaneMut::I8(o)) => o.fill(v),
        (Value::Bool(v), LaneMut::Bool(o)) => o.fill(v as u8),
        _ => unreachable!("constants have the dtype of their instruction"),
    }
}

/// Reads a chunk of strided or half-precision elements.
fn gather(source: &Source<'_>, chunk: Chunk, out: LaneMut<'_>) {
    let bytes = source.bytes;
    macro_rules! same {
        ($out:expr) => {
            load(bytemuck::cast_slice(bytes), source, chunk, $out, |v| v)
        };
    }
    match (source.dtype, out) {
        (DType::F16, LaneMut::F32(o)) => load(bytemuck::cast_slice(bytes), source, chunk, o, f16::to_f32),
        (DType::BF16, LaneMut::F32(o)) => load(bytemuck::cast_slice(bytes), source, chunk, o, bf16::to_f32),
        (_, LaneMut::F32(o)) => same!(o),
        (_, LaneMut::F64(o)) => same!(o),
        (_, LaneMut::I32(o)) => same!(o),
        (_, LaneMut::I64(o)) => same!(o),
        (_, LaneMut::U8(o)) | (_, LaneMut::Bool(o)) => same!(o),
        (_, LaneMut::I8(o)) => same!(o),
    }
}

/// Writes a chunk to where an output's elements lie, rounding to its dtype.
pub(super) fn scatter(from: Lane<'_>, output: &mut Output<'_>, chunk: Chunk) {
    let dtype = output.dtype;
    match from {
        Lane::F32(x) if dtype == DType::F16 => store(x, output, bytemuck::cast_slice_mut, chunk, f16::from_f32),
        Lane::F32(x) if dtype == DType::BF16 => store(x, output, bytemuck::cast_slice_mut, chunk, bf16::from_f32),
        Lane::F32(x) => store(x, output, bytemuck::cast_slice_mut, chunk, |v: f32| v),
        Lane::F64(x) => store(x, output, bytemuck::cast_slice_mut, chunk, |v: f64| v),
        Lane::I32(x) => store(x, output, bytemuck::cast_slice_mut, chunk, |v: i32| v),
        Lane::I64(x) => store(x, output, bytemuck::cast_slice_mut, chunk, |v: i64| v),
        Lane::I8(x) => store(x, output, bytemuck::cast_slice_mut, chunk, |v: i8| v),
        Lane::U8(x) | Lane::Bool(x) => store(x, output, |b| b, chunk, |v: u8| v),
    }
}
