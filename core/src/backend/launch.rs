//! Calls the primitives: skips empty work, merges axes, then asks the backend.

use super::{Backend, Operand, OperandMut, ReduceOp, replay};
use crate::{
    DType, Layout, Result, Shape, Value,
    expr::{Expr, Kernel, PerDType},
    layout::merge_axes,
    tensor::Memory,
};
use smallvec::SmallVec;

/// [`Backend::map`] with merged axes. Inputs are broadcast to the shape of the outputs.
///
/// # Errors
/// What the backend reports.
///
/// # Panics
/// Panics when an input does not broadcast to the outputs' shape.
pub fn map<B: Backend>(
    ctx: &B,
    kernel: &Kernel<'_>,
    inputs: &[Operand<'_, B>],
    outputs: &mut [OperandMut<'_, B>],
) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    if first.layout.is_empty() || replay::collected(kernel.scalars) {
        return Ok(());
    }
    let shape = first.shape();
    debug_assert!(outputs.iter().all(|o| o.shape() == shape), "outputs of a map have one shape");
    // The commonest case, at the least cost: everything dense and starting at one offset, so that one layout serves all.
    let offset = first.layout.offset();
    let dense = |l: &Layout| l.offset() == offset && l.shape() == shape && l.is_contiguous();
    if inputs.iter().all(|o| dense(o.layout)) && outputs.iter().all(|o| dense(o.layout)) {
        let flat = Layout::flat(shape.size(), offset);
        let mut operands: SmallVec<[Operand<'_, B>; 4]> = SmallVec::new();
        inputs.iter().for_each(|o| operands.push(o.with_layout(&flat)));
        let mut targets: SmallVec<[OperandMut<'_, B>; 2]> = SmallVec::new();
        outputs.iter_mut().for_each(|o| targets.push(OperandMut::new(o.buffer, o.dtype, &flat)));
        return ctx.map(kernel, &operands, &mut targets);
    }
    let mut layouts: SmallVec<[Layout; 4]> = SmallVec::new();
    inputs.iter().for_each(|o| layouts.push(broadcast(o.layout, shape)));
    outputs.iter().for_each(|o| layouts.push(o.layout.clone()));
    merge_axes(&mut layouts, shape.rank());
    let (input_layouts, output_layouts) = layouts.split_at(inputs.len());
    let operands: SmallVec<[Operand<'_, B>; 4]> =
        inputs.iter().zip(input_layouts).map(|(o, l)| o.with_layout(l)).collect();
    let mut targets: SmallVec<[OperandMut<'_, B>; 2]> =
        outputs.iter_mut().zip(output_layouts).map(|(o, l)| OperandMut::new(o.buffer, o.dtype, l)).collect();
    ctx.map(kernel, &operands, &mut targets)
}

/// [`Backend::reduce`] with merged axes. Inputs are broadcast to `shape`, the output's axes followed by the reduced ones;
/// an empty reduction writes the identity.
///
/// # Errors
/// What the backend reports.
///
/// # Panics
/// Panics when an input does not broadcast to `shape`.
pub fn reduce<B: Backend>(
    ctx: &B,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    shape: &Shape,
    inputs: &[Operand<'_, B>],
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if shape.contains(&0) {
        return fill(ctx, op.identity(output.dtype), output);
    }
    if replay::collected(kernel.scalars) {
        return Ok(());
    }
    let kept = output.layout.rank();
    // The output rides along with stride 0 over the reduced axes, so that kept axes merge only where it allows.
    let mut extended = output.layout.clone();
    for &size in &shape[kept..] {
        extended = extended.insert_axis(extended.rank(), size);
    }
    let mut layouts: SmallVec<[Layout; 4]> = inputs.iter().map(|o| broadcast(o.layout, shape)).collect();
    layouts.push(extended);
    let kept = merge_axes(&mut layouts, kept);
    let mut extended = layouts.pop().expect("the output's layout was pushed");
    while extended.rank() > kept {
        extended = extended.slice(kept, 0, 1, 1).remove_axis(kept);
    }
    let inputs: SmallVec<[Operand<'_, B>; 4]> = inputs.iter().zip(&layouts).map(|(o, l)| o.with_layout(l)).collect();
    ctx.reduce(op, kernel, &inputs, &mut OperandMut::new(output.buffer, output.dtype, &extended))
}

fn broadcast(layout: &Layout, shape: &Shape) -> Layout {
    layout.broadcast_to(shape).unwrap_or_else(|| panic!("{layout:?} does not broadcast to {shape:?}"))
}

static COPY: PerDType = PerDType::new("copy", |d| (vec![Expr::input(0, d)], vec![d], vec![]));
static FILL: PerDType = PerDType::new("fill", |d| (vec![Expr::scalar(0, d)], vec![], vec![d]));

/// Copies `from`, broadcast, to `to`, of the same dtype.
///
/// # Errors
/// What the backend reports.
pub fn copy<B: Backend>(ctx: &B, from: &Operand<'_, B>, to: &mut OperandMut<'_, B>) -> Result<()> {
    map(ctx, &COPY.kernel(from.dtype, &[]), &[*from], &mut [to.with_layout(to.layout)])
}

/// Writes `value` everywhere.
///
/// # Errors
/// What the backend reports.
pub fn fill<B: Backend>(ctx: &B, value: Value, to: &mut OperandMut<'_, B>) -> Result<()> {
    map(ctx, &FILL.kernel(value.dtype(), &[value]), &[], &mut [to.with_layout(to.layout)])
}

/// Device memory for intermediate results: a contiguous array of its own.
#[derive(Debug)]
pub struct Temporary<B: Backend> {
    buffer: B::Buffer,
    dtype: DType,
    layout: Layout,
}

impl<B: Backend> Temporary<B> {
    /// Memory for `shape` elements of `dtype`, content unspecified.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(ctx: &B, dtype: DType, shape: impl Into<Shape>) -> Result<Temporary<B>> {
        let layout = Layout::contiguous(shape);
        Ok(Temporary { buffer: Memory::alloc(ctx, layout.shape(), dtype)?, dtype, layout })
    }

    /// Its layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// As an input.
    pub fn operand(&self) -> Operand<'_, B> {
        Operand::new(&self.buffer, self.dtype, &self.layout)
    }

    /// As an input through another layout.
    pub fn through<'a>(&'a self, layout: &'a Layout) -> Operand<'a, B> {
        Operand::new(&self.buffer, self.dtype, layout)
    }

    /// As an output.
    pub fn operand_mut(&mut self) -> OperandMut<'_, B> {
        OperandMut::new(&mut self.buffer, self.dtype, &self.layout)
    }

    /// As an output through another layout.
    pub fn through_mut<'a>(&'a mut self, layout: &'a Layout) -> OperandMut<'a, B> {
        OperandMut::new(&mut self.buffer, self.dtype, layout)
    }
}
