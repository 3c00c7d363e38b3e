//! Elementwise operators: an expression, run by `map`, differentiated symbolically.

use crate::{
    Backend, DType, Error, Expr, Operand, OperandMut, ReduceOp, Result, Shape, Tensor, Value,
    autograd::{Context, Recorder, Saved},
    backend::launch,
    expr::{Kernel, Kind, Program},
    tensor::{Memory, Reading},
};
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// An elementwise operator on given dtypes: its compiled expression, and its derivatives, each a formula again.
#[derive(Debug)]
pub(crate) struct Formula {
    pub name: &'static str,
    pub program: Arc<Program>,
    derivatives: Vec<OnceLock<Option<Derivative>>>,
}

/// The derivative in one input, times the head gradient.
#[derive(Debug)]
struct Derivative {
    formula: Arc<Formula>,
    /// What each input of `formula` is.
    reads: SmallVec<[Read; 4]>,
}

impl PartialEq for Derivative {
    /// The same expression of the same tensors.
    fn eq(&self, other: &Derivative) -> bool {
        self.formula.root() == other.formula.root() && self.reads == other.reads
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Read {
    Head,
    Input(usize),
    Output,
}

impl Formula {
    pub fn new(name: &'static str, root: &Expr, inputs: &[DType], scalars: &[DType]) -> Result<Arc<Formula>> {
        let program = Program::new(name, std::slice::from_ref(root), inputs, scalars)?;
        Ok(Arc::new(Formula { name, program, derivatives: inputs.iter().map(|_| OnceLock::new()).collect() }))
    }

    fn root(&self) -> &Expr {
        &self.program.roots()[0]
    }

    /// The derivative in input `k`; `None` when it is zero everywhere.
    fn derivative(&self, k: usize) -> Option<&Derivative> {
        self.derivatives[k].get_or_init(|| self.differentiate(k)).as_ref()
    }

    fn any_reads(&self, what: Read, wanted: impl Fn(usize) -> bool) -> bool {
        let mut wanted = (0..self.derivatives.len()).filter(|&k| wanted(k));
        wanted.any(|k| self.derivative(k).is_some_and(|d| d.reads.contains(&what)))
    }

    /// Whether the gradient in an input that is `wanted` is computed from input `k`.
    pub fn gradients_read(&self, k: usize, wanted: impl Fn(usize) -> bool) -> bool {
        self.any_reads(Read::Input(k), wanted)
    }

    fn differentiate(&self, k: usize) -> Option<Derivative> {
        let root = self.root();
        let n = self.program.inputs().len();
        let head = Expr::input(n as u8, root.dtype());
        let output = Expr::input(n as u8 + 1, root.dtype());
        let from_inputs = root.derivative(k as u8, &head)?;
        // The result is saved instead of the inputs where that reads no more tensors.
        let is_leaf = matches!(root.kind(), Kind::Input(_));
        let from_output = if is_leaf {
            from_inputs.clone()
        } else {
            from_inputs.substitute(&|e| (e == root).then(|| output.clone()))
        };
        let reads = |e: &Expr| -> SmallVec<[Read; 4]> {
            let mut used: SmallVec<[u8; 4]> = Expr::topological(std::slice::from_ref(e))
                .iter()
                .filter_map(|e| if let Kind::Input(i) = e.kind() { Some(*i) } else { None })
                .collect();
            used.sort_unstable();
            used.iter()
                .map(|&i| match i as usize {
                    i if i == n => Read::Head,
                    i if i == n + 1 => Read::Output,
                    i => Read::Input(i),
                })
                .collect()
        };
        let (a, b) = (reads(&from_inputs), reads(&from_output));
        let (expr, reads) = if b.len() <= a.len() { (from_output, b) } else { (from_inputs, a) };
        let position = |read: Read| reads.iter().position(|r| *r == read).expect("every leaf was listed") as u8;
        let dtype_of = |read: Read| match read {
            Read::Input(i) => self.program.inputs()[i],
            _ => root.dtype(),
        };
        let expr = expr.substitute(&|e| match e.kind() {
            Kind::Input(i) => {
                let read = match *i as usize {
                    i if i == n => Read::Head,
                    i if i == n + 1 => Read::Output,
                    i => Read::Input(i),
                };
                Some(Expr::input(position(read), e.dtype()))
            }
            _ => None,
        });
        let dtypes: SmallVec<[DType; 4]> = reads.iter().map(|&r| dtype_of(r)).collect();
        let formula = Formula::new(self.name, &expr, &dtypes, self.program.scalars())
            .expect("the derivative of a well-typed expression is well typed");
        Some(Derivative { formula, reads })
    }
}

/// The expression of an operator, the dtypes of its inputs, the dtypes of its launch arguments.
pub(crate) type Definition = (Expr, SmallVec<[DType; 3]>, SmallVec<[DType; 3]>);

/// A formula for every dtype, compiled when first used.
pub(crate) struct PerDTypeFormula {
    name: &'static str,
    build: fn(DType) -> Definition,
    compiled: [OnceLock<Arc<Formula>>; 9],
}

impl PerDTypeFormula {
    /// The operator `name`: for a dtype, the expression and the dtypes of inputs and launch arguments.
    pub const fn new(name: &'static str, build: fn(DType) -> Definition) -> Self {
        PerDTypeFormula { name, build, compiled: [const { OnceLock::new() }; 9] }
    }

    /// The formula on `dtype`.
    pub fn on(&self, dtype: DType) -> Result<&Arc<Formula>> {
        let cell = &self.compiled[dtype as usize];
        if let Some(f) = cell.get() {
            return Ok(f);
        }
        let (root, inputs, scalars) = (self.build)(dtype);
        let formula = Formula::new(self.name, &root, &inputs, &scalars)?;
        Ok(cell.get_or_init(|| formula))
    }
}

/// Allocates an output, runs `program` on `inputs` broadcast to `shape`, and wraps the result.
pub(crate) fn run_map<B: Backend>(
    ctx: &B,
    program: &Program,
    inputs: &[&Tensor<B>],
    scalars: &[Value],
    shape: &Shape,
) -> Result<Tensor<B>> {
    let dtype = program.outputs()[0].1;
    crate::tensor::check_storable(ctx, "result", shape, dtype)?;
    let mut buffer = Memory::alloc(ctx, shape, dtype)?;
    let layout = crate::Layout::contiguous(shape.clone());
    {
        let reading = Reading::of(inputs.iter().map(|t| t.memory()));
        let mut operands: SmallVec<[Operand<'_, B>; 4]> = SmallVec::new();
        inputs.iter().for_each(|t| operands.push(Operand::new(reading.buffer(t.memory()), t.dtype(), t.layout())));
        let mut outputs = [OperandMut::new(&mut buffer, dtype, &layout)];
        launch::map(ctx, &Kernel::new(program, scalars), &operands, &mut outputs)?;
    }
    Ok(Tensor::from_parts(ctx.clone(), Memory::new(buffer), layout, dtype))
}

/// As [`run_map`], and sums over the axes in which `target` is smaller than `shape`, without the intermediate result.
fn run_map_and_sum<B: Backend>(
    ctx: &B,
    program: &Program,
    inputs: &[&Tensor<B>],
    scalars: &[Value],
    shape: &Shape,
    target: &Shape,
) -> Result<Tensor<B>> {
    let extra = shape.rank() - target.rank();
    let is_summed = |axis: usize| axis < extra || target[axis - extra] != shape[axis];
    let (summed, kept): (Vec<usize>, Vec<usize>) = (0..shape.rank()).partition(|&a| is_summed(a));
    let order: SmallVec<[usize; 6]> = kept.iter().chain(&summed).copied().collect();
    // A reduction numbers its elements in the order in which it visits them.
    if program.reads_index() && !order.is_sorted() {
        return run_map(ctx, program, inputs, scalars, shape)?.sum_to(target);
    }
    let permuted: Shape = order.iter().map(|&a| shape[a]).collect();
    let dtype = program.outputs()[0].1;
    let mut buffer = Memory::alloc(ctx, target, dtype)?;
    let out = crate::Layout::contiguous(kept.iter().map(|&a| shape[a]).collect::<Shape>());
    {
        let reading = Reading::of(inputs.iter().map(|t| t.memory()));
        let layouts: SmallVec<[crate::Layout; 4]> = inputs
            .iter()
            .map(|t| t.layout().broadcast_to(shape).expect("inputs broadcast to the result").permute(&order))
            .collect();
        let operands: SmallVec<[Operand<'_, B>; 4]> = (inputs.iter().zip(&layouts))
            .map(|(t, l)| Operand::new(reading.buffer(t.memory()), t.dtype(), l))
            .collect();
        let mut output = OperandMut::new(&mut buffer, dtype, &out);
        launch::reduce(ctx, ReduceOp::Sum, &Kernel::new(program, scalars), &permuted, &operands, &mut output)?;
    }
    Ok(Tensor::from_buffer(ctx, buffer, target, dtype))
}

/// Runs `formula` on `inputs`, broadcast with each other, and records it.
///
/// The caller has checked that the inputs have the dtypes of the formula.
pub(crate) fn apply<B: Backend>(formula: &Arc<Formula>, inputs: &[&Tensor<B>], scalars: &[Value]) -> Result<Tensor<B>> {
    let op = formula.name;
    let Some(first) = inputs.first() else { return Err(Error::invalid(op, "it needs at least one input")) };
    let mut shape = first.shape().clone();
    for other in &inputs[1..] {
        first.same_device(op, other)?;
        if *other.shape() != shape {
            shape = shape.broadcast(other.shape()).ok_or_else(|| {
                first.shape_mismatch(op, other.shape(), "sizes must be equal or 1, counted from the last axis")
            })?;
        }
    }
    let computable = first.ctx().capabilities().computes;
    for &d in formula.program.inputs() {
        if !computable.contains(d) {
            first.need_computable(op, d)?;
        }
    }
    let output = run_map(first.ctx(), &formula.program, inputs, scalars, &shape)?;
    if let Some(recorder) = Recorder::new(inputs) {
        record(recorder, formula, inputs, scalars, &output);
    }
    Ok(output)
}

fn record<B: Backend>(
    recorder: Recorder,
    formula: &Arc<Formula>,
    inputs: &[&Tensor<B>],
    scalars: &[Value],
    output: &Tensor<B>,
) {
    if !output.dtype().is_float() {
        return;
    }
    let kept: SmallVec<[_; 3]> = inputs.iter().enumerate().map(Some).collect();
    let gradients = Gradients::new(&recorder, formula, &kept, |k| recorder.wants(k), scalars, output);
    recorder.finish(formula.name, output, move |head, context| gradients.flow(head, context, |k| context.wants(k)));
}

/// What a formula keeps for its gradients.
pub(crate) struct Gradients<B: Backend> {
    formula: Arc<Formula>,
    inputs: SmallVec<[Option<Saved<B>>; 3]>,
    output: Option<Saved<B>>,
    shapes: SmallVec<[Shape; 3]>,
    scalars: SmallVec<[Value; 2]>,
}

impl<B: Backend> Gradients<B> {
    /// `inputs` are those of the formula, each with its number on the tape; `None` stands for one that was never stored,
    /// shaped like the output, which no gradient that is `wanted` reads ([`Formula::gradients_read`]).
    pub fn new(
        recorder: &Recorder,
        formula: &Arc<Formula>,
        inputs: &[Option<(usize, &&Tensor<B>)>],
        wanted: impl Fn(usize) -> bool,
        scalars: &[Value],
        output: &Tensor<B>,
    ) -> Gradients<B> {
        let save = |k: usize| {
            let (number, tensor) = inputs[k]?;
            formula.gradients_read(k, &wanted).then(|| recorder.input(number, tensor))
        };
        Gradients {
            formula: formula.clone(),
            inputs: (0..inputs.len()).map(save).collect(),
            output: formula.any_reads(Read::Output, &wanted).then(|| recorder.output(output)),
            shapes: inputs.iter().map(|i| i.map_or(output, |(_, t)| t).shape().clone()).collect(),
            scalars: scalars.into(),
        }
    }

    /// The gradients in the inputs that are `wanted`.
    pub fn flow(
        &self,
        head: &Tensor<B>,
        context: &Context<'_, B>,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<SmallVec<[Option<Tensor<B>>; 3]>> {
        let got: SmallVec<[Option<Tensor<B>>; 3]> =
            self.inputs.iter().map(|s| s.as_ref().map(|s| s.get(context)).transpose()).collect::<Result<_>>()?;
        let output = self.output.as_ref().map(|s| s.get(context)).transpose()?;
        let mut flows: SmallVec<[Option<Tensor<B>>; 3]> = SmallVec::new();
        for (k, shape) in self.shapes.iter().enumerate() {
            if !wanted(k) {
                flows.push(None);
                continue;
            }
            let Some(d) = self.formula.derivative(k) else {
                let dtype = self.formula.program.inputs()[k];
                flows.push(Some(Tensor::zeros(head.ctx(), shape, dtype)?));
                continue;
            };
            // What was added to another input, as a bias is, has the same gradient, summed.
            let twin = (0..k).find(|&j| self.formula.derivative(j) == Some(d) && self.shapes[j] == *head.shape());
            if let Some(flow) = twin.and_then(|j| flows[j].as_ref()) {
                let flow = flow.sum_to(shape)?;
                flows.push(Some(flow));
                continue;
            }
            let operands: SmallVec<[&Tensor<B>; 4]> = (d.reads.iter())
                .map(|r| match r {
                    Read::Head => head,
                    Read::Input(i) => got[*i].as_ref().expect("saved because it is read"),
                    Read::Output => output.as_ref().expect("saved because it is read"),
                })
                .collect();
            flows.push(Some(gradient(&d.formula, &operands, &self.scalars, head.shape(), shape)?));
        }
        Ok(flows)
    }
}

/// A derivative, summed to the shape of the input that it belongs to.
fn gradient<B: Backend>(
    formula: &Arc<Formula>,
    inputs: &[&Tensor<B>],
    scalars: &[Value],
    shape: &Shape,
    target: &Shape,
) -> Result<Tensor<B>> {
    // The head itself: nothing to compute.
    if matches!(formula.root().kind(), Kind::Input(_)) && inputs.len() == 1 {
        return inputs[0].sum_to(target);
    }
    if crate::autograd::is_recording() {
        return apply(formula, inputs, scalars)?.sum_to(target);
    }
    if shape == target {
        return run_map(inputs[0].ctx(), &formula.program, inputs, scalars, shape);
    }
    run_map_and_sum(inputs[0].ctx(), &formula.program, inputs, scalars, shape, target)
}
