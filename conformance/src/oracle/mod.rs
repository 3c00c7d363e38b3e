//! The oracle: a backend that computes in f64, by the definitions of `core::expr::scalar`, and bounds for every element
//! how far a conforming backend may be from it.
//!
//! Each primitive adds its own error (the table in [`crate::bounds`]) to what its arguments bring, so bounds of operators,
//! of fused expressions, of convolutions and of gradients all follow from one table, element by element. Everything that
//! is not a primitive is core's composed default, so an override is measured against the default.
//!
//! Where rounding decides a comparison, a cast to an integer or an overflow, the element is *open*: nothing is claimed.

mod cell;
mod functions;

pub use cell::Cell;

use cell::{Sum, binary, convert, product, select, unary};
use isograd_core::{
    Backend, Capabilities, DType, Dyn, Error, Layout, Operand, OperandMut, Pool, ReduceOp, Result, Tensor, Value,
    Window,
    backend::{DynBuffer, composed, launch::Temporary},
    expr::{Binary, Kernel, Operation, scalar},
};
use std::cell::RefCell;

/// The device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oracle;

/// Bytes until a kernel writes; cells of one dtype from then on.
#[derive(Debug)]
pub struct Memory {
    bytes: Vec<u8>,
    cells: Option<(DType, Vec<Cell>)>,
}

thread_local! {
    /// The cells that the last download read.
    static DOWNLOADED: RefCell<Vec<Cell>> = const { RefCell::new(Vec::new()) };
}

/// The elements of a tensor on the oracle, by type or behind [`Dyn`], in row-major order, with their bounds.
///
/// ```
/// use isograd_conformance::oracle::{Oracle, cells};
/// use isograd_core::Tensor;
/// let x = Tensor::from_slice(&Oracle, &[0.0f32], [1])?;
/// let exp = cells(&x.exp()?)?[0];
/// assert_eq!(exp.value.to_f64(), 1.0);
/// assert_eq!(exp.error, 3.0 * f32::EPSILON as f64);         // OpenCL's table allows 3 units
/// assert_eq!(cells(&x.add_scalar(1)?)?[0].error, 0.0);      // the sum is exact
/// # Ok::<(), isograd_core::Error>(())
/// ```
///
/// # Errors
/// None in practice; what the oracle reports.
pub fn cells<B: Backend>(x: &Tensor<B>) -> Result<Vec<Cell>> {
    if x.size() == 0 {
        return Ok(vec![]);
    }
    let cells = tapped(|| x.to_bytes().map(|_| ()))?;
    // What no kernel has written is as it was uploaded.
    if cells.is_empty() { Ok(x.to_values()?.into_iter().map(Cell::exact).collect()) } else { Ok(cells) }
}

/// The cells that the last download within `read` read.
pub(crate) fn tapped(read: impl FnOnce() -> Result<()>) -> Result<Vec<Cell>> {
    DOWNLOADED.take();
    read()?;
    Ok(DOWNLOADED.take())
}

pub(crate) fn downloaded(ctx: &Dyn, memory: &DynBuffer, dtype: DType, count: usize) -> Result<Vec<Cell>> {
    let mut bytes = vec![0; count * dtype.size()];
    let cells = tapped(|| ctx.download(memory, 0, &mut bytes))?;
    let decoded = || (0..count).map(|i| Cell::exact(Value::read(dtype, &bytes, i))).collect();
    Ok(if cells.is_empty() { decoded() } else { cells })
}

impl Memory {
    fn get(&self, dtype: DType, at: usize) -> Cell {
        match &self.cells {
            Some((_, cells)) => cells[at],
            None => Cell::exact(Value::read(dtype, &self.bytes, at)),
        }
    }

    fn set(&mut self, dtype: DType, at: usize, cell: Cell) {
        let bytes = &self.bytes;
        let decode = || {
            let n = bytes.len() / dtype.size();
            (dtype, (0..n).map(|i| Cell::exact(Value::read(dtype, bytes, i))).collect())
        };
        self.cells.get_or_insert_with(decode).1[at] = cell;
    }
}

impl Backend for Oracle {
    type Buffer = Memory;

    fn name(&self) -> String {
        "oracle".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        Ok(Memory { bytes: vec![0; bytes], cells: None })
    }

    fn upload(&self, bytes: &[u8], to: &mut Memory, offset: usize) -> Result<()> {
        to.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        if let Some((dtype, cells)) = &mut to.cells {
            for i in 0..bytes.len() / dtype.size() {
                cells[offset / dtype.size() + i] = Cell::exact(Value::read(*dtype, bytes, i));
            }
        }
        Ok(())
    }

    fn download(&self, from: &Memory, offset: usize, bytes: &mut [u8]) -> Result<()> {
        match &from.cells {
            None => {
                bytes.copy_from_slice(&from.bytes[offset..offset + bytes.len()]);
            }
            Some((dtype, cells)) => {
                let first = offset / dtype.size();
                let part = &cells[first..first + bytes.len() / dtype.size()];
                part.iter().enumerate().for_each(|(i, c)| c.value.cast(*dtype).write(bytes, i));
                DOWNLOADED.set(part.to_vec());
            }
        }
        Ok(())
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        let mut machine = Machine::new(*kernel);
        for i in 0..outputs[0].layout.size() {
            let at = |l: &Layout| l.position_of_linear(i);
            let old: Vec<Cell> = outputs.iter().map(|o| o.buffer.get(o.dtype, at(o.layout))).collect();
            machine.run(i, &|k| (inputs[k].dtype, inputs[k].buffer.get(inputs[k].dtype, at(inputs[k].layout))), &old);
            for (k, output) in outputs.iter_mut().enumerate() {
                output.buffer.set(output.dtype, at(output.layout), machine.stored(k, output.dtype));
            }
        }
        Ok(())
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let mut machine = Machine::new(*kernel);
        let n: usize = inputs[0].shape()[output.shape().rank()..].iter().product();
        for o in 0..output.layout.size() {
            let mut terms = Vec::with_capacity(n);
            for i in o * n..(o + 1) * n {
                let at = |l: &Layout| l.position_of_linear(i);
                machine.run(
                    i,
                    &|k| (inputs[k].dtype, inputs[k].buffer.get(inputs[k].dtype, at(inputs[k].layout))),
                    &[],
                );
                terms.push(machine.computed(0));
            }
            let dtype = machine.dtype(0);
            let folded = fold(op, dtype, &terms);
            let closed = matches!(op, ReduceOp::Max | ReduceOp::Min) && machine.grid(0) == Some(output.dtype);
            let stored = if closed { folded } else { stored(folded, dtype, output.dtype) };
            output.buffer.set(output.dtype, output.layout.position_of_linear(o), stored);
        }
        Ok(())
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        for (i, to) in output.layout.positions().enumerate() {
            let from = place(source.layout, axis, index, i, "gather")?;
            output.buffer.set(output.dtype, to, source.buffer.get(source.dtype, from));
        }
        Ok(())
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let places: Result<Vec<usize>> =
            (0..source.layout.size()).map(|i| place(output.layout, axis, index, i, "scatter_add")).collect();
        let dtype = output.dtype.compute();
        let mut terms: std::collections::BTreeMap<usize, Vec<Cell>> = Default::default();
        for (from, to) in source.layout.positions().zip(places?) {
            let first = || vec![output.buffer.get(output.dtype, to)];
            terms.entry(to).or_insert_with(first).push(source.buffer.get(source.dtype, from));
        }
        let op = if dtype == DType::Bool { ReduceOp::Max } else { ReduceOp::Sum };
        for (at, terms) in terms {
            output.buffer.set(output.dtype, at, stored(fold(op, dtype, &terms), dtype, output.dtype));
        }
        Ok(())
    }

    /// The product may be rounded before its end or not, so where rounding makes it infinite, nothing is known.
    fn matmul_fused(
        &self,
        kernel: &Kernel<'_>,
        a: &Operand<'_, Self>,
        b: &Operand<'_, Self>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let (dtype, wide) = (a.dtype, a.dtype.compute());
        let mut sums = Temporary::new(self, wide, output.shape().clone())?;
        composed::matmul(self, a, b, &mut sums.operand_mut())?;
        let sums = sums.operand();
        let mut product = self.alloc(output.layout.size() * dtype.size())?;
        for at in sums.layout.positions() {
            let sum = sums.buffer.get(wide, at);
            let rounded = stored(sum, wide, dtype);
            let overflows = rounded.number().is_infinite() && sum.number().is_finite();
            product.set(dtype, at, if overflows { Cell::float(rounded.number(), f64::INFINITY) } else { rounded });
        }
        let product = Operand::new(&product, dtype, sums.layout);
        let all: Vec<Operand<'_, Self>> = [product].into_iter().chain(inputs.iter().copied()).collect();
        self.map(kernel, &all, &mut [OperandMut::new(output.buffer, output.dtype, output.layout)])
    }

    /// Sums and products of the elements before, in any order: the composed default's bound is for its own order only.
    fn scan(&self, op: ReduceOp, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        let n = input.shape()[input.layout.rank() - 1];
        let dtype = input.dtype.compute();
        let mut running = Running::new(op, dtype);
        for i in 0..input.layout.size() {
            if i % n == 0 {
                running = Running::new(op, dtype);
            }
            running.push(input.buffer.get(input.dtype, input.layout.position_of_linear(i)));
            let at = output.layout.position_of_linear(i);
            output.buffer.set(output.dtype, at, stored(running.folded(), dtype, output.dtype));
        }
        Ok(())
    }

    /// The composed default adds taps in an order of its own; here any order is right.
    fn pool_gradient(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Self>,
        head: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::pool_gradient(self, kind, window, input, head, output)?;
        let magnitudes = magnitudes(head);
        let mut sums = OperandMut { buffer: &mut self.alloc(output.layout.span().1 * output.dtype.size())?, ..*output };
        composed::pool_gradient(
            self,
            kind,
            window,
            input,
            &Operand::new(&magnitudes, head.dtype, head.layout),
            &mut sums,
        )?;
        any_order(window, sums.buffer, output);
        Ok(())
    }

    /// As `pool_gradient`.
    fn conv_input_gradient(
        &self,
        window: &Window,
        head: &Operand<'_, Self>,
        weight: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        composed::conv_input_gradient(self, window, head, weight, output)?;
        let (heads, weights) = (magnitudes(head), magnitudes(weight));
        let head = Operand::new(&heads, head.dtype, head.layout);
        let weight = Operand::new(&weights, weight.dtype, weight.layout);
        let mut sums = OperandMut { buffer: &mut self.alloc(output.layout.span().1 * output.dtype.size())?, ..*output };
        composed::conv_input_gradient(self, window, &head, &weight, &mut sums)?;
        any_order(window, sums.buffer, output);
        Ok(())
    }

    /// Sorts, where rounding decides no comparison: the composed default compares each element with each.
    fn argsort(&self, descending: bool, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        let cells: Vec<Cell> = input.layout.positions().map(|at| input.buffer.get(input.dtype, at)).collect();
        if cells.iter().any(|c| c.error > 0.0) {
            return composed::argsort(self, descending, input, output);
        }
        let n = input.shape()[input.layout.rank() - 1];
        for (row, cells) in cells.chunks(n).enumerate() {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| {
                let (x, y) = (cells[a].value, cells[b].value);
                let nan = |v: Value| v.to_f64().is_nan();
                let ascending = match (nan(x), nan(y)) {
                    (false, false) if input.dtype.is_float() => x.to_f64().partial_cmp(&y.to_f64()),
                    (false, false) => Some(x.to_i64().cmp(&y.to_i64())),
                    (p, q) => return p.cmp(&q),
                };
                let ascending = ascending.unwrap_or(std::cmp::Ordering::Equal);
                if descending { ascending.reverse() } else { ascending }
            });
            for (i, at) in order.into_iter().enumerate() {
                let to = output.layout.position_of_linear(row * n + i);
                output.buffer.set(DType::I64, to, Cell::exact(Value::I64(at as i64)));
            }
        }
        Ok(())
    }
}

/// The magnitudes of an operand, in memory of the same layout.
fn magnitudes(of: &Operand<'_, Oracle>) -> Memory {
    let mut memory = Memory { bytes: vec![0; of.layout.span().1 * of.dtype.size()], cells: None };
    for at in of.layout.positions() {
        let cell = of.buffer.get(of.dtype, at);
        memory.set(of.dtype, at, Cell::float(cell.number().abs(), cell.error));
    }
    memory
}

/// Allows each element of `output` the error of adding up its taps in any order, given the sums of their magnitudes.
fn any_order(window: &Window, sums: &Memory, output: &mut OperandMut<'_, Oracle>) {
    let unit = crate::bounds::power_of_two(-crate::bounds::format(output.dtype.compute()).0);
    let taps = (window.kernel.iter().product::<usize>() - 1) as f64;
    for at in output.layout.positions() {
        let (cell, sum) = (output.buffer.get(output.dtype, at), sums.get(output.dtype, at));
        let more = taps * unit * (sum.number() + sum.error);
        let allowed = if cell.number().is_finite() { Cell::float(cell.number(), cell.error + more) } else { cell };
        output.buffer.set(output.dtype, at, allowed.free(true));
    }
}

/// A fold that can be asked after every term.
enum Running {
    Sum(DType, Option<Sum>),
    Other(ReduceOp, DType, Vec<Cell>),
}

impl Running {
    fn new(op: ReduceOp, dtype: DType) -> Running {
        match op {
            ReduceOp::Sum if dtype.is_float() => Running::Sum(dtype, None),
            _ => Running::Other(op, dtype, vec![]),
        }
    }

    fn push(&mut self, term: Cell) {
        match self {
            Running::Sum(_, Some(sum)) => sum.add(term),
            Running::Sum(dtype, none) => *none = Some(Sum::new(*dtype, term)),
            // Integers are exact, so what is folded may stand for its terms.
            Running::Other(op, dtype, terms) if !dtype.is_float() && !terms.is_empty() => {
                *terms = vec![fold(*op, *dtype, &[terms[0], term])];
            }
            Running::Other(_, _, terms) => terms.push(term),
        }
    }

    fn folded(&self) -> Cell {
        match self {
            Running::Sum(_, sum) => sum.map_or(Cell::float(0.0, 0.0), |s| s.cell()).free(true),
            Running::Other(op, dtype, terms) => fold(*op, *dtype, terms),
        }
    }
}

fn stored(cell: Cell, computed: DType, to: DType) -> Cell {
    if computed == to { cell } else { convert(cell, computed, to) }
}

/// The sign of a zero depends on the order and on what folding starts from.
fn fold(op: ReduceOp, dtype: DType, terms: &[Cell]) -> Cell {
    let folded = match op {
        ReduceOp::Sum if dtype.is_float() => {
            let mut sum = Sum::new(dtype, terms[0]);
            terms[1..].iter().for_each(|t| sum.add(*t));
            sum.cell()
        }
        ReduceOp::Prod if dtype.is_float() => product(dtype, terms),
        _ => terms[1..].iter().fold(terms[0], |a, b| binary(op.primitive(), dtype, a, *b)),
    };
    folded.free(true)
}

fn place(layout: &Layout, axis: usize, index: &Operand<'_, Oracle>, i: usize, op: &'static str) -> Result<usize> {
    let at = index.buffer.get(DType::I64, index.layout.position_of_linear(i)).value.to_i64();
    let size = layout.shape()[axis];
    if at < 0 || at as usize >= size {
        return Err(Error::IndexOutOfRange { op, index: at, axis, size, device: "oracle".into() });
    }
    let along = layout.select(axis, at as usize).insert_axis(axis, index.shape()[axis]);
    Ok(along.position_of_linear(i))
}

/// Runs a program on one element at a time.
struct Machine<'k> {
    kernel: Kernel<'k>,
    cells: Vec<Cell>,
    /// The dtype whose numbers a result is one of, where that is narrower than what is computed in: rounding it there
    /// again changes nothing.
    grids: Vec<Option<DType>>,
}

impl<'k> Machine<'k> {
    fn new(kernel: Kernel<'k>) -> Machine<'k> {
        Machine { kernel, cells: Vec::new(), grids: Vec::new() }
    }

    fn run(&mut self, index: usize, input: &dyn Fn(usize) -> (DType, Cell), old: &[Cell]) {
        let Kernel { program, scalars } = self.kernel;
        self.cells.clear();
        self.grids.clear();
        for instruction in program.instructions() {
            let at = |r: u32| self.cells[r as usize];
            let of = |r: u32| program.instructions()[r as usize].dtype;
            let grid = |r: u32| self.grids[r as usize];
            let dtype = instruction.dtype;
            let mut narrow = None;
            let cell = match instruction.operation {
                Operation::Input(k) => {
                    let (stored, cell) = input(k as usize);
                    narrow = Some(stored);
                    cell
                }
                Operation::Old(k) => {
                    narrow = Some(program.outputs()[k as usize].1);
                    old[k as usize]
                }
                Operation::Scalar(k) => Cell::exact(scalars[k as usize]),
                Operation::Const(v) => Cell::exact(v),
                Operation::Index => Cell::exact(Value::I64(index as i64)),
                Operation::Random { word, seed, index } => {
                    let words = scalar::philox(at(seed).value.to_i64() as u64, at(index).value.to_i64() as u64);
                    Cell::exact(Value::I64(words[word as usize] as i64))
                }
                Operation::Unary(op, x) => {
                    if crate::bounds::unary(op, dtype) == 0.0 {
                        narrow = grid(x);
                    }
                    unary(op, dtype, at(x))
                }
                Operation::Binary(op, a, b) => {
                    if crate::bounds::binary(op, of(a)) == 0.0 && grid(a) == grid(b) {
                        narrow = grid(a);
                    }
                    binary(op, of(a), at(a), at(b))
                }
                // The product's rounding, which the sum does not have, only widens the bound.
                Operation::MulAdd(a, b, c) => {
                    let product = binary(Binary::Mul, dtype, at(a), at(b));
                    binary(Binary::Add, dtype, product, at(c))
                }
                Operation::Select(c, a, b) => {
                    if grid(a) == grid(b) {
                        narrow = grid(a);
                    }
                    select(at(c), at(a), at(b))
                }
                Operation::Convert(x) => convert(at(x), of(x), dtype),
                Operation::Round(to, x) => {
                    narrow = Some(to);
                    if grid(x) == Some(to) { at(x) } else { convert(at(x), of(x), to) }
                }
                Operation::Bitcast(x) => {
                    let real = at(x).value.cast(of(x));
                    let known = at(x).error == 0.0 && (!of(x).is_float() || real.to_f64() == at(x).number());
                    let mut cell = Cell::exact(scalar::bitcast(real, dtype));
                    if !known {
                        cell.error = f64::INFINITY;
                    }
                    cell
                }
            };
            self.cells.push(cell);
            self.grids.push(narrow);
        }
    }

    fn register(&self, k: usize) -> usize {
        self.kernel.program.outputs()[k].0 as usize
    }
    fn computed(&self, k: usize) -> Cell {
        self.cells[self.register(k)]
    }
    fn dtype(&self, k: usize) -> DType {
        self.kernel.program.instructions()[self.register(k)].dtype
    }
    fn grid(&self, k: usize) -> Option<DType> {
        self.grids[self.register(k)]
    }
    fn stored(&self, k: usize, to: DType) -> Cell {
        if self.grid(k) == Some(to) { self.computed(k) } else { stored(self.computed(k), self.dtype(k), to) }
    }
}
