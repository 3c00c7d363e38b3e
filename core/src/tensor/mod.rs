//! [`Tensor`]: shared device memory seen through a layout, perhaps with a gradient, perhaps a node of the tape.
//!
//! Where things are: this file has the handle, its context, gradient and in-place writes; `exchange` the traffic with host
//! memory and other contexts; `display` printing; `memory` the shared buffer. Operators are in `operators`.

mod display;
mod exchange;
mod memory;
#[cfg(feature = "ndarray")]
mod ndarray;

pub(crate) use exchange::check_storable;
pub(crate) use memory::{Memory, Reading};

use crate::{
    Backend, DType, Dyn, Error, Layout, Operand, OperandMut, Result, Shape, Value,
    autograd::{self, Backward, GradReq, Node, Variable},
    backend::launch,
};
use std::sync::{Arc, Mutex, MutexGuard, atomic::Ordering};

/// An n-dimensional array on a device: a cheap handle to shared memory.
///
/// Clones and views (reshape, transpose, slice, ...) share memory; [`Tensor::assign`] writes in place, seen by all of them.
/// Methods return [`Result`]; the operators `+ - * / %` and unary `-` on `&Tensor` are there for formulas and panic with
/// the same message.
///
/// ```
/// use isograd::Tensor;
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
/// let y = (&x + 1.0).matmul(&x.t()?)?;
/// assert_eq!(y.to_vec::<f32>()?, [8.0, 18.0, 14.0, 32.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor<B: Backend = Dyn> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: Backend> {
    ctx: B,
    memory: Arc<Memory<B>>,
    layout: Layout,
    dtype: DType,
    /// The variable or operator of the tape that this tensor is, if it is one.
    place: Mutex<Place<B>>,
}

/// A place on the tape, and of a variable what `backward` leaves with it.
struct Place<B: Backend> {
    node: Option<Arc<Node<B>>>,
    variable: Option<Arc<Variable<B>>>,
}

impl<B: Backend> Tensor<B> {
    pub(crate) fn from_parts(ctx: B, memory: Arc<Memory<B>>, layout: Layout, dtype: DType) -> Tensor<B> {
        let place = Mutex::new(Place { node: None, variable: None });
        Tensor { inner: Arc::new(Inner { ctx, memory, layout, dtype, place }) }
    }

    /// A tensor over a buffer that was just written.
    pub(crate) fn from_buffer(ctx: &B, buffer: B::Buffer, shape: impl Into<Shape>, dtype: DType) -> Tensor<B> {
        Tensor::from_parts(ctx.clone(), Memory::new(buffer), Layout::contiguous(shape), dtype)
    }

    /// The device that the tensor is on, and where operators on it run.
    pub fn ctx(&self) -> &B {
        &self.inner.ctx
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &Shape {
        self.inner.layout.shape()
    }

    /// Shape, strides and offset.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        self.shape().size()
    }

    /// Whether the elements lie one after another in memory, in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Whether `other` sees the same memory (perhaps another part of it).
    pub fn shares_memory_with(&self, other: &Tensor<B>) -> bool {
        Arc::ptr_eq(&self.inner.memory, &other.inner.memory)
    }

    /// How often the memory was written in place, by whatever handle.
    pub fn version(&self) -> u64 {
        self.inner.memory.version()
    }

    pub(crate) fn memory(&self) -> &Arc<Memory<B>> {
        &self.inner.memory
    }

    /// Runs `f` with this tensor as an operand.
    pub(crate) fn with_operand<R>(&self, f: impl FnOnce(Operand<'_, B>) -> R) -> R {
        let guard = self.inner.memory.read();
        f(Operand::new(&*guard, self.dtype(), self.layout()))
    }

    /// The same memory through another layout, without a node.
    pub(crate) fn view(&self, layout: Layout) -> Tensor<B> {
        Tensor::from_parts(self.ctx().clone(), self.inner.memory.clone(), layout, self.dtype())
    }

    /// The same data outside any recorded graph; memory is shared.
    #[must_use]
    pub fn detach(&self) -> Tensor<B> {
        self.view(self.layout().clone())
    }

    pub(crate) fn with_node(&self, node: Option<Arc<Node<B>>>) -> Tensor<B> {
        let t = self.detach();
        t.place().node = node;
        t
    }

    pub(crate) fn set_node(&self, node: Arc<Node<B>>) {
        self.put(Place { node: Some(node), variable: None });
    }

    fn put(&self, place: Place<B>) {
        // The old one goes when the lock is gone: a gradient may own a graph.
        let old = std::mem::replace(&mut *self.place(), place);
        drop(old);
    }

    fn place(&self) -> MutexGuard<'_, Place<B>> {
        self.inner.place.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn any_node(&self) -> Option<Arc<Node<B>>> {
        self.place().node.clone()
    }

    /// What `backward` leaves here, if this is a variable that wants a gradient.
    pub(crate) fn variable(&self) -> Result<Arc<Variable<B>>> {
        let place = self.place();
        let wanted = place.node.as_ref().is_some_and(|n| n.wants_gradient());
        let missing = || Error::NoGradient { shape: self.shape().clone(), device: self.ctx().name() };
        place.variable.clone().filter(|_| wanted).ok_or_else(missing)
    }

    /// The node, if a gradient is wanted here.
    pub(crate) fn node(&self) -> Option<Arc<Node<B>>> {
        self.any_node().filter(|n| n.wants_gradient())
    }

    /// A contiguous tensor whose memory nothing else sees: this one, when it is.
    pub(crate) fn owned(self) -> Result<Tensor<B>> {
        let whole = self.is_contiguous() && self.layout().offset() == 0;
        // One handle of the memory, and one handle of that handle.
        if whole && Arc::strong_count(&self.inner.memory) == 1 && Arc::strong_count(&self.inner) == 1 {
            return Ok(self);
        }
        self.copy()
    }

    /// Makes this tensor a variable: `backward` will leave its gradient in [`Tensor::grad`], replacing the one before. A
    /// tensor that was computed is cut off from its graph, as in Gluon.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn attach_grad(&self) -> Result<()> {
        self.attach_grad_with(GradReq::Write)
    }

    /// [`Tensor::attach_grad`] with a choice of what `backward` does to an old gradient.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn attach_grad_with(&self, request: GradReq) -> Result<()> {
        if !self.dtype().is_float() {
            return Err(Error::UnsupportedDType {
                op: "attach_grad",
                dtype: self.dtype(),
                device: self.ctx().name(),
                why: "only floating dtypes have gradients; cast first".into(),
            });
        }
        let (node, variable) = Node::leaf(self, request);
        self.put(Place { node: Some(node), variable: Some(variable) });
        Ok(())
    }

    /// What `backward` does with the gradient of this tensor; [`GradReq::Null`] when it is not a variable.
    pub fn grad_req(&self) -> GradReq {
        self.any_node().map_or(GradReq::Null, |n| n.request())
    }

    /// Whether operators on this tensor would be recorded.
    pub fn requires_grad(&self) -> bool {
        self.node().is_some()
    }

    /// The gradient that the last `backward` left; zeros before the first.
    ///
    /// # Errors
    /// [`Error::NoGradient`] when the tensor is not a variable.
    pub fn grad(&self) -> Result<Tensor<B>> {
        let variable = self.variable()?;
        let mut slot = variable.gradient();
        match &slot.value {
            Some(value) => Ok(value.clone()),
            None => Ok(slot.value.insert(Tensor::zeros(self.ctx(), self.shape(), self.dtype())?).clone()),
        }
    }

    /// Sets the gradient to zero.
    ///
    /// # Errors
    /// [`Error::NoGradient`] when the tensor is not a variable.
    pub fn zero_grad(&self) -> Result<()> {
        let old = std::mem::take(&mut *self.variable()?.gradient());
        drop(old);
        Ok(())
    }

    /// Whether `backward` has reached this variable since it became one, or since [`Tensor::mark_grad_stale`]. What updates
    /// variables asks this, so that a gradient is not used twice.
    ///
    /// ```
    /// use isograd::{DType, Tensor, autograd};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::ones(&ctx, [2], DType::F32)?;
    /// x.attach_grad()?;
    /// assert!(!x.has_fresh_grad());
    /// autograd::record(|| x.square())?.backward()?;
    /// assert!(x.has_fresh_grad());
    /// x.mark_grad_stale();
    /// assert!(!x.has_fresh_grad());
    /// # Ok::<(), isograd::Error>(())
    /// ```
    pub fn has_fresh_grad(&self) -> bool {
        self.place().variable.as_ref().is_some_and(|v| v.fresh().load(Ordering::Acquire))
    }

    /// Says that the gradient has been used; see [`Tensor::has_fresh_grad`].
    pub fn mark_grad_stale(&self) {
        if let Some(variable) = &self.place().variable {
            variable.fresh().store(false, Ordering::Release);
        }
    }

    /// Computes the gradients of all variables that this tensor depends on; of its sum when it is not a scalar. Frees the
    /// graph.
    ///
    /// # Errors
    /// See [`autograd::backward`].
    pub fn backward(&self) -> Result<()> {
        self.backward_with(Backward::default())
    }

    /// [`Tensor::backward`] with a head gradient, and a choice of what happens to the graph.
    ///
    /// # Errors
    /// See [`autograd::backward`].
    pub fn backward_with(&self, options: Backward<B>) -> Result<()> {
        let heads: Vec<&Tensor<B>> = options.head.iter().collect();
        autograd::backward(&[self], &heads, options.retain_graph, options.create_graph)
    }

    /// Writes `source`, broadcast, over the elements of this tensor, in place: every handle of the memory sees it.
    ///
    /// # Errors
    /// [`Error::InPlaceOnRecorded`] when this tensor was computed in a recorded graph, or this thread records and either
    /// tensor needs a gradient; [`Error::ShapeMismatch`], [`Error::DTypeMismatch`], [`Error::DeviceMismatch`];
    /// [`Error::InvalidShape`] when elements of this view share memory (a broadcast).
    pub fn assign(&self, source: &Tensor<B>) -> Result<()> {
        const OP: &str = "assign";
        self.same_device(OP, source)?;
        self.same_dtype(OP, source)?;
        if source.layout().broadcast_to(self.shape()).is_none() {
            return Err(self.shape_mismatch(OP, source.shape(), "the source must broadcast to the target"));
        }
        let recorded_source = autograd::is_recording() && source.requires_grad();
        self.check_writable(OP, recorded_source)?;
        // A source in the same memory is copied first, since a kernel never reads what it writes.
        let source = if self.shares_memory_with(source) { source.detach().copy()? } else { source.clone() };
        let (first, second) = (self.memory(), source.memory());
        // Locked in the order of addresses, as everywhere.
        let (mut target, from);
        if Arc::as_ptr(first) < Arc::as_ptr(second) {
            target = first.write();
            from = second.read();
        } else {
            from = second.read();
            target = first.write();
        }
        let operand = Operand::new(&*from, source.dtype(), source.layout());
        launch::copy(self.ctx(), &operand, &mut OperandMut::new(&mut *target, self.dtype(), self.layout()))
    }

    /// Writes one value everywhere, in place.
    ///
    /// # Errors
    /// As [`Tensor::assign`]; [`Error::ScalarOutOfRange`] when the dtype cannot hold it.
    pub fn fill(&self, value: impl Into<crate::Scalar>) -> Result<()> {
        let value = value.into().to_value(self.dtype())?;
        self.check_writable("fill", false)?;
        self.fill_value(value)
    }

    fn fill_value(&self, value: Value) -> Result<()> {
        let mut target = self.memory().write();
        launch::fill(self.ctx(), value, &mut OperandMut::new(&mut *target, self.dtype(), self.layout()))
    }

    /// Writes host data over this tensor, in place.
    ///
    /// # Errors
    /// As [`Tensor::assign`]; [`Error::DTypeMismatch`] and [`Error::InvalidShape`] when the data does not fit.
    pub fn assign_slice<T: crate::Element>(&self, data: &[T]) -> Result<()> {
        self.assign(&Tensor::from_slice(self.ctx(), data, self.shape())?)
    }

    /// Adds up tensors of one shape and dtype, each on another device, and writes the sum to each, where the devices have a
    /// way of their own (such as NCCL). False, and nothing done, where they have none.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::ones(&ctx, [2, 3], DType::F32)?;
    /// assert!(!Tensor::all_reduce(&[x.clone(), x])?);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DTypeMismatch`], [`Error::InPlaceOnRecorded`]; what the devices report.
    pub fn all_reduce(tensors: &[Tensor<B>]) -> Result<bool> {
        const OP: &str = "all_reduce";
        let Some((first, others)) = tensors.split_first() else { return Ok(false) };
        for other in others {
            first.same_dtype(OP, other)?;
            if first.shape() != other.shape() {
                return Err(first.shape_mismatch(OP, other.shape(), "what is added up has one shape"));
            }
        }
        tensors.iter().try_for_each(|t| t.check_writable(OP, false))?;
        let distinct = (1..tensors.len()).all(|i| tensors[..i].iter().all(|t| t.ctx() != tensors[i].ctx()));
        if others.is_empty() || !distinct || first.shape().contains(&0) || !tensors.iter().all(Tensor::is_contiguous) {
            return Ok(false);
        }
        // Locked in the order of addresses, as everywhere.
        let mut order: Vec<&Tensor<B>> = tensors.iter().collect();
        order.sort_by_key(|t| Arc::as_ptr(t.memory()));
        let mut locked: Vec<_> = order.into_iter().map(|t| (t, t.memory().write())).collect();
        locked.sort_by_key(|(t, _)| tensors.iter().position(|other| other.ctx() == t.ctx()));
        let mut parts: Vec<_> =
            locked.iter_mut().map(|(t, buffer)| OperandMut::new(&mut **buffer, t.dtype(), t.layout())).collect();
        let others: Vec<&B> = others.iter().map(Tensor::ctx).collect();
        first.ctx().all_reduce(&others, &mut parts)
    }

    /// Runs a kernel that writes this tensor in place, reading its old values by [`crate::expr::Expr::old`]: how optimizers
    /// update a parameter in one pass over memory. `program` has one output per target.
    ///
    /// # Errors
    /// As [`Tensor::assign`].
    pub fn update(
        program: &crate::expr::Program,
        scalars: &[Value],
        inputs: &[&Tensor<B>],
        targets: &[&Tensor<B>],
    ) -> Result<()> {
        const OP: &str = "update";
        let Some(first) = targets.first() else { return Ok(()) };
        let typed = |tensors: &[&Tensor<B>], dtypes: &[DType]| -> Result<()> {
            if tensors.len() != dtypes.len() {
                return Err(Error::invalid(
                    OP,
                    format!("{} operands for {} in the program", tensors.len(), dtypes.len()),
                ));
            }
            for (t, &d) in tensors.iter().zip(dtypes) {
                first.same_device(OP, t)?;
                if t.dtype() != d {
                    return Err(Error::DTypeMismatch { op: OP, left: d, right: t.dtype(), device: t.ctx().name() });
                }
            }
            Ok(())
        };
        typed(inputs, program.inputs())?;
        typed(targets, &program.outputs().iter().map(|o| o.1).collect::<Vec<_>>())?;
        if !scalars.iter().map(|v| v.dtype()).eq(program.scalars().iter().copied()) {
            return Err(Error::invalid(
                OP,
                format!("the program takes arguments {:?}, got {scalars:?}", program.scalars()),
            ));
        }
        for (i, t) in targets.iter().enumerate() {
            t.check_writable(OP, false)?;
            if t.shape() != first.shape() {
                return Err(first.shape_mismatch(OP, t.shape(), "targets of an update have one shape"));
            }
            if targets[..i].iter().any(|other| other.shares_memory_with(t)) {
                return Err(Error::invalid(OP, "two targets share memory"));
            }
        }
        let mut sources: Vec<Tensor<B>> = Vec::with_capacity(inputs.len());
        for x in inputs {
            if x.layout().broadcast_to(first.shape()).is_none() {
                return Err(first.shape_mismatch(OP, x.shape(), "inputs must broadcast to the targets"));
            }
            let shared = targets.iter().any(|t| t.shares_memory_with(x));
            sources.push(if shared { x.detach().copy()? } else { (*x).clone() });
        }
        // Every memory once, in the order of addresses, to read or to write.
        let mut order: Vec<(&Arc<Memory<B>>, Option<usize>)> =
            targets.iter().enumerate().map(|(k, t)| (t.memory(), Some(k))).collect();
        for s in &sources {
            if !order.iter().any(|(m, _)| Arc::ptr_eq(m, s.memory())) {
                order.push((s.memory(), None));
            }
        }
        order.sort_by_key(|(m, _)| Arc::as_ptr(m));
        let mut reads = Vec::new();
        let mut writes: Vec<_> = targets.iter().map(|_| None).collect();
        for (memory, target) in order {
            match target {
                Some(k) => writes[k] = Some(memory.write()),
                None => reads.push((Arc::as_ptr(memory), memory.read())),
            }
        }
        let operands: Vec<Operand<'_, B>> = sources
            .iter()
            .map(|s| {
                let guard = reads.iter().find(|(p, _)| *p == Arc::as_ptr(s.memory())).expect("every source was locked");
                Operand::new(&*guard.1, s.dtype(), s.layout())
            })
            .collect();
        let mut outputs: Vec<OperandMut<'_, B>> = (writes.iter_mut().zip(targets))
            .map(|(w, t)| OperandMut::new(&mut **w.as_mut().expect("every target was locked"), t.dtype(), t.layout()))
            .collect();
        launch::map(first.ctx(), &crate::expr::Kernel::new(program, scalars), &operands, &mut outputs)
    }

    fn check_writable(&self, op: &'static str, recorded_source: bool) -> Result<()> {
        let node = self.any_node();
        let computed = node.as_ref().is_some_and(|n| !n.is_leaf());
        let variable = autograd::is_recording() && node.is_some_and(|n| n.wants_gradient());
        if computed || variable || recorded_source {
            return Err(Error::InPlaceOnRecorded { op, shape: self.shape().clone(), device: self.ctx().name() });
        }
        if self.layout().may_overlap() {
            return Err(Error::InvalidShape {
                op,
                shape: self.shape().clone(),
                why: "elements of this view share memory (it is broadcast or made of overlapping windows); write to a .copy()".into(),
                device: self.ctx().name(),
            });
        }
        Ok(())
    }

    pub(crate) fn same_device(&self, op: &'static str, other: &Tensor<B>) -> Result<()> {
        if self.ctx() == other.ctx() {
            return Ok(());
        }
        Err(Error::DeviceMismatch { op, left: self.ctx().name(), right: other.ctx().name() })
    }

    pub(crate) fn same_dtype(&self, op: &'static str, other: &Tensor<B>) -> Result<()> {
        if self.dtype() == other.dtype() {
            return Ok(());
        }
        Err(Error::DTypeMismatch { op, left: self.dtype(), right: other.dtype(), device: self.ctx().name() })
    }

    pub(crate) fn shape_mismatch(&self, op: &'static str, other: &Shape, why: impl Into<String>) -> Error {
        Error::ShapeMismatch {
            op,
            left: self.shape().clone(),
            right: other.clone(),
            why: why.into(),
            device: self.ctx().name(),
        }
    }

    pub(crate) fn invalid_shape(&self, op: &'static str, why: impl Into<String>) -> Error {
        Error::InvalidShape { op, shape: self.shape().clone(), why: why.into(), device: self.ctx().name() }
    }

    /// `axis` counted from the front.
    pub(crate) fn axis(&self, op: &'static str, axis: isize) -> Result<usize> {
        let rank = self.rank();
        let at = if axis < 0 { axis + rank as isize } else { axis };
        if (0..rank as isize).contains(&at) {
            return Ok(at as usize);
        }
        Err(Error::AxisOutOfRange { op, axis, rank, shape: self.shape().clone(), device: self.ctx().name() })
    }

    /// Refuses dtypes other than the floating ones.
    pub(crate) fn need_float(&self, op: &'static str) -> Result<()> {
        if self.dtype().is_float() {
            return Ok(());
        }
        Err(Error::UnsupportedDType {
            op,
            dtype: self.dtype(),
            device: self.ctx().name(),
            why: "it is defined on floating dtypes; cast first, as in x.cast(DType::F32)".into(),
        })
    }

    /// Refuses dtypes that the device does not compute with.
    pub(crate) fn need_computable(&self, op: &'static str, dtype: DType) -> Result<()> {
        if self.ctx().capabilities().computes.contains(dtype) {
            return Ok(());
        }
        Err(Error::UnsupportedDType {
            op,
            dtype,
            device: self.ctx().name(),
            why: "this device does not compute with it; cast to another dtype, or move to another device".into(),
        })
    }
}
