//! The smallest complete backend: plain slices, one element at a time, no threads, and of the kernels that have a default only the
//! matrix product, whose loops can be read beside the book's chapter *Arithmetic*.
//!
//! It is the oracle of the conformance suite, so everything is written the most obvious way, and the one to copy when
//! writing a backend of your own. It shares no loop with the CPU backend.
//!
//! ```
//! use isograd_core::Tensor;
//! use isograd_reference::Reference;
//! let x = Tensor::from_slice(&Reference, &[1.0f32, 2.0, 3.0], [3])?;
//! assert_eq!((&x * &x).to_vec::<f32>()?, [1.0, 4.0, 9.0]);
//! # Ok::<(), isograd_core::Error>(())
//! ```
#![forbid(unsafe_code)]

use isograd_core::{
    Backend, Capabilities, DType, Error, Operand, OperandMut, ReduceOp, Result, Value,
    backend::{DotProduct, Reducer},
    expr::{Evaluator, Kernel},
};

/// The device. There is one; all values of this type are it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference;

/// Device memory: words, so that every dtype is aligned.
#[derive(Debug)]
pub struct Buffer(Vec<u64>);

impl Buffer {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
    fn get(&self, dtype: DType, at: usize) -> Value {
        Value::read(dtype, self.bytes(), at)
    }
    fn set(&mut self, at: usize, value: Value) {
        value.write(self.bytes_mut(), at);
    }
}

impl Backend for Reference {
    type Buffer = Buffer;

    fn name(&self) -> String {
        "reference".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        let mut words = Vec::new();
        words.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| Error::OutOfMemory {
            device: self.name(),
            bytes,
            hint: "the host has no such amount; use a smaller batch or a smaller dtype".into(),
        })?;
        words.resize(bytes.div_ceil(8), 0);
        Ok(Buffer(words))
    }

    fn upload(&self, bytes: &[u8], to: &mut Buffer, offset: usize) -> Result<()> {
        to.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&from.bytes()[offset..offset + bytes.len()]);
        Ok(())
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        let (mut evaluator, mut values) = (kernel.evaluator(), Vec::new());
        for i in 0..outputs[0].layout.size() {
            let old: Vec<Value> =
                outputs.iter().map(|o| o.buffer.get(o.dtype, o.layout.position_of_linear(i))).collect();
            run(&mut evaluator, &mut values, inputs, &old, i);
            for (k, output) in outputs.iter_mut().enumerate() {
                output.buffer.set(output.layout.position_of_linear(i), evaluator.output(k));
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
        let (mut evaluator, mut values) = (kernel.evaluator(), Vec::new());
        // Without inputs nothing says how many terms there are, so core never reduces without.
        let terms: usize = inputs[0].shape()[output.shape().rank()..].iter().product();
        for o in 0..output.layout.size() {
            let mut reducer = Reducer::new(op, evaluator.dtype(0));
            for i in o * terms..(o + 1) * terms {
                run(&mut evaluator, &mut values, inputs, &[], i);
                reducer.push(evaluator.computed(0));
            }
            output.buffer.set(output.layout.position_of_linear(o), reducer.finish().cast(output.dtype));
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
            output.buffer.set(to, source.buffer.get(source.dtype, from));
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
        let compute = output.dtype.compute();
        let add = if output.dtype == DType::Bool { ReduceOp::Max } else { ReduceOp::Sum };
        // Sums are kept in the dtype that is computed in, and rounded once.
        let mut sums: Vec<Value> =
            (0..output.layout.span().1).map(|at| output.buffer.get(output.dtype, at).cast(compute)).collect();
        for (from, to) in source.layout.positions().zip(places?) {
            sums[to] = add.fold(sums[to], source.buffer.get(source.dtype, from).cast(compute));
        }
        output.layout.positions().for_each(|at| output.buffer.set(at, sums[at].cast(output.dtype)));
        Ok(())
    }

    fn matmul(&self, a: &Operand<'_, Self>, b: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        let rank = output.layout.rank();
        let (m, n, k) = (output.shape()[rank - 2], output.shape()[rank - 1], a.shape()[rank - 1]);
        let compute = output.dtype.compute();
        let element = |x: &Operand<'_, Self>, i| x.buffer.get(x.dtype, x.layout.position_of_linear(i)).cast(compute);
        for (o, to) in output.layout.positions().enumerate() {
            let (row, column, matrix) = (o / n, o % n, o / (m * n));
            let mut dot = DotProduct::new(compute);
            for q in 0..k {
                dot.push(element(a, row * k + q), element(b, (matrix * k + q) * n + column));
            }
            output.buffer.set(to, dot.finish().cast(output.dtype));
        }
        Ok(())
    }
}

/// Evaluates element `i`; `values` is scratch for the elements of the inputs.
fn run(
    evaluator: &mut Evaluator<'_>,
    values: &mut Vec<Value>,
    inputs: &[Operand<'_, Reference>],
    old: &[Value],
    i: usize,
) {
    values.clear();
    values.extend(inputs.iter().map(|x| x.buffer.get(x.dtype, x.layout.position_of_linear(i))));
    evaluator.run(i, values, old);
}

/// The position in `layout` of element `i` of `index`, moved along `axis` to where the index says.
fn place(
    layout: &isograd_core::Layout,
    axis: usize,
    index: &Operand<'_, Reference>,
    i: usize,
    op: &'static str,
) -> Result<usize> {
    let at = index.buffer.get(DType::I64, index.layout.position_of_linear(i)).to_i64();
    let size = layout.shape()[axis];
    if at < 0 || at as usize >= size {
        return Err(Error::IndexOutOfRange { op, index: at, axis, size, device: "reference".into() });
    }
    let along = layout.select(axis, at as usize).insert_axis(axis, index.shape()[axis]);
    Ok(along.position_of_linear(i))
}
