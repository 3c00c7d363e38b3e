//! [`Parameter`]: a shared handle of a trained tensor, whose shape may wait for the first batch.

mod configuration;
mod contexts;

pub use contexts::Contexts;
pub(crate) use contexts::with_gradients;

use crate::{dry_run, initializers::Initializer};
use isograd_core::{Backend, DType, Dyn, Error, GradReq, Result, Shape, Tensor, autograd};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

/// A tensor that is trained, or otherwise belongs to a block: a handle, which all clones share.
///
/// What it is (`with_dtype` and the like) is settled while there is one handle of it and it is not initialized. After that only what
/// agrees with it can be asked of it: a handle of which something else was asked is refused, by [`Error::Parameter`], wherever it is
/// used. So an option of a layer that comes after it was given the parameters of another neither parts the two nor changes the other.
///
/// It begins with a name and a shape of which dimensions may be unknown; [`Parameter::initialize`] gives it values, at once
/// when the shape is known, else when [`Parameter::bind`] completes the shape in the first forward pass.
///
/// ```
/// use isograd::nn::{Parameter, initializers::One};
/// let ctx = isograd::device("cpu")?;
/// let weight = Parameter::new("weight", &[Some(4), None]);
/// weight.initialize(One, &ctx)?;
/// let error = weight.data().unwrap_err();
/// assert!(error.to_string().contains("dimension 1 of its shape (4, ?) is not known"), "{error}");
/// weight.bind(&ctx, &[4, 3])?;
/// assert_eq!(weight.data()?.shape(), &[4, 3]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct Parameter<B: Backend = Dyn> {
    state: Arc<Mutex<State<B>>>,
    /// What was asked of this handle and cannot hold: the error of whatever uses it.
    refused: Option<Arc<str>>,
}

struct State<B: Backend> {
    name: String,
    /// Where it was found in a network; for messages only.
    path: Option<String>,
    shape: Vec<Option<usize>>,
    dtype: DType,
    grad_req: GradReq,
    /// Whether it may ever want a gradient.
    differentiable: bool,
    /// Whether it has the precision of f32 at least, whatever the network is cast to.
    wide: bool,
    /// Whether it wants none for now, whatever `grad_req` says.
    frozen: bool,
    lr_mult: f64,
    wd_mult: f64,
    /// The initializer of this parameter alone, which wins over the network's.
    own: Option<Arc<dyn Initializer<B>>>,
    values: Values<B>,
}

enum Values<B: Backend> {
    None,
    /// Initialized before the shape was known.
    Deferred {
        initializer: Arc<dyn Initializer<B>>,
        contexts: Vec<B>,
    },
    /// One replica per context, all of the same values.
    Ready(Vec<Tensor<B>>),
}

impl<B: Backend> Clone for Parameter<B> {
    /// Another handle of the same parameter.
    fn clone(&self) -> Self {
        Parameter { state: self.state.clone(), refused: self.refused.clone() }
    }
}

impl<B: Backend> Parameter<B> {
    /// A parameter of dtype f32 that wants a gradient. Unknown dimensions are `None`.
    pub fn new(name: impl Into<String>, shape: &[Option<usize>]) -> Parameter<B> {
        Parameter {
            state: Arc::new(Mutex::new(State {
                name: name.into(),
                path: None,
                shape: shape.to_vec(),
                dtype: DType::F32,
                grad_req: GradReq::Write,
                differentiable: true,
                wide: false,
                frozen: false,
                lr_mult: 1.0,
                wd_mult: 1.0,
                own: None,
                values: Values::None,
            })),
            refused: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The state for a use of the values, which a refused handle does not have.
    fn open(&self) -> Result<MutexGuard<'_, State<B>>> {
        let state = self.lock();
        match &self.refused {
            Some(why) => Err(state.error(&**why)),
            None => Ok(state),
        }
    }

    /// Fails for a handle that was asked what cannot hold.
    pub(crate) fn check(&self) -> Result<()> {
        self.open().map(drop)
    }

    /// Gluon's name, such as `dense0_weight`.
    pub fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// Where it was last found in a network: `body.0.weight`. `None` before the first
    /// [`Parameters::collect_params`](crate::Parameters::collect_params), which all that works on whole networks calls.
    pub fn path(&self) -> Option<String> {
        self.lock().path.clone()
    }

    /// Remembers where it is. A path from further up the network is worth more.
    pub(crate) fn note_path(&self, path: &str) {
        let depth = |path: &str| path.split('.').count();
        let mut state = self.lock();
        if !path.is_empty() && state.path.as_ref().is_none_or(|old| depth(old) <= depth(path)) {
            state.path = Some(path.to_string());
        }
    }

    /// Gives it another name.
    pub(crate) fn rename(&self, name: String) {
        self.lock().name = name;
    }

    /// Whether `other` is a handle of the same parameter.
    pub fn is(&self, other: &Parameter<B>) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// The address that handles of one parameter have in common.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.state).cast::<()>() as usize
    }

    /// The dimensions, as far as they are known.
    pub fn partial_shape(&self) -> Vec<Option<usize>> {
        self.lock().shape.clone()
    }

    /// The shape.
    ///
    /// # Errors
    /// [`Error::Uninitialized`] while a dimension is unknown.
    pub fn shape(&self) -> Result<Shape> {
        self.open()?.complete_shape()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.lock().dtype
    }

    /// `(8, ?), float32`.
    pub(crate) fn shape_and_dtype(&self) -> String {
        let state = self.lock();
        format!("{}, {}", show(&state.shape), state.dtype)
    }

    /// What `backward` does with its gradient: what was asked for, or [`GradReq::Null`] while it is frozen and for one that is
    /// not differentiable.
    pub fn grad_req(&self) -> GradReq {
        self.lock().request()
    }

    /// Changes what `backward` does with its gradient; the old gradient is lost. One that is not differentiable, such as a
    /// running mean, stays without.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] when a gradient is asked of a dtype that has none.
    pub fn set_grad_req(&self, request: GradReq) -> Result<()> {
        self.lock().require(request)
    }

    /// Takes it out of training until [`Parameter::unfreeze`]; the old gradient is lost.
    ///
    /// # Errors
    /// What the device reports.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Trains it again, as before [`Parameter::freeze`].
    ///
    /// # Errors
    /// What the device reports.
    pub fn unfreeze(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let mut state = self.lock();
        if state.frozen == frozen {
            return Ok(());
        }
        state.frozen = frozen;
        state.attach()
    }

    /// Converts the values, which stay where they are; the old gradient is lost. Values of integers are left as they are, and
    /// one that is [wide](Parameter::with_wide) becomes f32 where f16 or bf16 is asked for.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`].
    pub fn cast(&self, dtype: DType) -> Result<()> {
        let mut state = self.lock();
        let dtype = if state.wide { dtype.compute() } else { dtype };
        if state.dtype == dtype || !state.dtype.is_float() {
            return Ok(());
        }
        if let Values::Ready(replicas) = &state.values {
            let converted = autograd::pause(|| replicas.iter().map(|t| t.detach().cast(dtype)).collect::<Result<_>>())?;
            state.values = Values::Ready(converted);
        }
        state.dtype = dtype;
        state.attach()
    }

    /// The factor on the trainer's learning rate.
    pub fn lr_mult(&self) -> f64 {
        self.lock().lr_mult
    }

    /// Sets the factor on the trainer's learning rate.
    pub fn set_lr_mult(&self, factor: f64) {
        self.lock().lr_mult = factor;
    }

    /// The factor on the optimizer's weight decay.
    pub fn wd_mult(&self) -> f64 {
        self.lock().wd_mult
    }

    /// Sets the factor on the optimizer's weight decay.
    pub fn set_wd_mult(&self, factor: f64) {
        self.lock().wd_mult = factor;
    }

    /// Whether it has values.
    pub fn is_initialized(&self) -> bool {
        matches!(self.lock().values, Values::Ready(_))
    }

    /// Gives it values by `initializer`, at once or when the shape is known, the same on every context. One that has values keeps
    /// them; one that still awaits them will be initialized by the last initializer that it was given.
    ///
    /// # Errors
    /// What the initializer and the device report; [`Error::Parameter`] for no contexts, and for one that is named twice.
    pub fn initialize(&self, initializer: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()> {
        self.open()?.initialize(Arc::new(initializer), contexts.list(), false)
    }

    /// [`Parameter::initialize`], also of one that has values.
    ///
    /// # Errors
    /// As [`Parameter::initialize`].
    pub fn force_reinit(&self, initializer: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()> {
        self.open()?.initialize(Arc::new(initializer), contexts.list(), true)
    }

    /// [`Parameter::initialize`] by its own initializer, if it has one.
    pub(crate) fn initialize_default(
        &self,
        default: &Arc<dyn Initializer<B>>,
        contexts: &[B],
        force: bool,
    ) -> Result<()> {
        let mut state = self.open()?;
        let initializer = state.own.as_ref().unwrap_or(default).clone();
        state.initialize(initializer, contexts.to_vec(), force)
    }

    /// Moves the values to other contexts; one that awaits its shape will get them there. Gradients are lost.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Parameter`] for no contexts; what the devices report.
    pub fn reset_ctx(&self, contexts: impl Contexts<B>) -> Result<()> {
        let contexts = contexts.list();
        let mut state = self.open()?;
        state.check_contexts(&contexts)?;
        match &mut state.values {
            Values::None => state.replica(None).map(drop),
            Values::Deferred { contexts: old, .. } => {
                *old = contexts;
                Ok(())
            }
            Values::Ready(_) => {
                let first = state.merged()?.as_in_context(&contexts[0])?;
                state.set_ready(first, &contexts)
            }
        }
    }

    /// The values on the context of `ctx`, completing a shape that was deferred: what `forward` of a layer calls with the
    /// shape that its input asks for.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Parameter`] when the known dimensions are others, or it has no values on `ctx`.
    pub fn bind(&self, ctx: &B, shape: &[usize]) -> Result<Tensor<B>> {
        let mut state = self.open()?;
        if !matches!(state.values, Values::Ready(_)) && dry_run::is_active() {
            state.check(shape)?;
            dry_run::note(self.identity(), shape);
            return Tensor::zeros(ctx, shape, state.dtype);
        }
        // Without values a forward pass fails, and leaves the shape as open as it was.
        if !matches!(state.values, Values::None) {
            state.refine(shape)?;
        }
        state.finish()?;
        state.replica(Some(ctx))
    }

    /// The values, on the first of its contexts. The tensor is a variable of the tape; its memory is the parameter's.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    pub fn data(&self) -> Result<Tensor<B>> {
        self.open()?.replica(None)
    }

    /// The values on `ctx`.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Parameter`] when it has no values there.
    pub fn data_on(&self, ctx: &B) -> Result<Tensor<B>> {
        let state = self.open()?;
        if !matches!(state.values, Values::Ready(_)) && dry_run::is_active() {
            let shape = state.complete_shape()?;
            dry_run::note(self.identity(), &shape);
            return Tensor::zeros(ctx, &shape, state.dtype);
        }
        state.replica(Some(ctx))
    }

    /// The values on each of its contexts.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    pub fn list_data(&self) -> Result<Vec<Tensor<B>>> {
        let state = self.open()?;
        state.replica(None)?;
        Ok(match &state.values {
            Values::Ready(replicas) => replicas.clone(),
            _ => vec![],
        })
    }

    /// The gradient on each of its contexts.
    ///
    /// # Errors
    /// As [`Parameter::grad`].
    pub fn list_grad(&self) -> Result<Vec<Tensor<B>>> {
        self.grad()?;
        self.list_data()?.iter().map(Tensor::grad).collect()
    }

    /// The gradient that the last `backward` left, on the first of its contexts; zeros before.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Parameter`] with [`GradReq::Null`].
    pub fn grad(&self) -> Result<Tensor<B>> {
        let state = self.open()?;
        let data = state.replica(None)?;
        if state.request() == GradReq::Null {
            let why = match (state.differentiable, state.frozen) {
                (false, _) => "it has no gradient, since it is not trained",
                (_, true) => "it has no gradient, since it is frozen; see unfreeze",
                _ => "it has no gradient, since its grad_req is Null",
            };
            return Err(state.error(why));
        }
        data.grad()
    }

    /// Sets the gradient to zero.
    ///
    /// # Errors
    /// As [`Parameter::grad`].
    pub fn zero_grad(&self) -> Result<()> {
        let state = self.open()?;
        state.replica(None)?;
        match &state.values {
            Values::Ready(replicas) if state.request() != GradReq::Null => {
                replicas.iter().try_for_each(Tensor::zero_grad)
            }
            _ => Ok(()),
        }
    }

    /// Overwrites the values, in place where there are some; one that has none gets a copy on the context of `data`, or on
    /// those that it was to be initialized on.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another shape or dtype; what the device reports.
    pub fn set_data(&self, data: &Tensor<B>) -> Result<()> {
        self.prepare(&data.detach().copy()?)?.write()
    }

    /// What [`Parameter::set_data`] is to write, checked and on every context; `data` shares its memory with nothing.
    pub(crate) fn prepare(&self, data: &Tensor<B>) -> Result<NewData<B>> {
        let state = self.open()?;
        if data.dtype() != state.dtype {
            let why = format!("its dtype is {}, that of the new values {}", state.dtype, data.dtype());
            return Err(state.error(why));
        }
        state.check(data.shape())?;
        let contexts = match &state.values {
            Values::None => vec![data.ctx().clone()],
            Values::Deferred { contexts, .. } => contexts.clone(),
            Values::Ready(replicas) => replicas.iter().map(|t| t.ctx().clone()).collect(),
        };
        let copies = contexts.iter().map(|ctx| data.as_in_context(ctx)).collect::<Result<_>>()?;
        Ok(NewData { parameter: self.clone(), copies })
    }

    /// The context of each replica; those that it will be initialized on while deferred.
    pub fn contexts(&self) -> Vec<B> {
        match &self.lock().values {
            Values::None => vec![],
            Values::Deferred { contexts, .. } => contexts.clone(),
            Values::Ready(replicas) => replicas.iter().map(|t| t.ctx().clone()).collect(),
        }
    }
}

/// Values that fit a parameter, a copy for each of its contexts.
pub(crate) struct NewData<B: Backend> {
    parameter: Parameter<B>,
    copies: Vec<Tensor<B>>,
}

impl<B: Backend> NewData<B> {
    /// The new values on the first context.
    pub fn first(&self) -> &Tensor<B> {
        &self.copies[0]
    }

    /// Whether it is for this parameter.
    pub fn is_of(&self, parameter: &Parameter<B>) -> bool {
        self.parameter.is(parameter)
    }

    /// Overwrites the values, in place where there are some.
    pub fn write(self) -> Result<()> {
        let mut state = self.parameter.lock();
        state.refine(self.copies[0].shape())?;
        if let Values::Ready(replicas) = &state.values {
            return replicas.iter().zip(&self.copies).try_for_each(|(replica, copy)| replica.assign(copy));
        }
        state.values = Values::Ready(self.copies);
        state.attach()
    }
}

fn attach<B: Backend>(tensor: &Tensor<B>, request: GradReq) -> Result<()> {
    // An integer parameter that wants no gradient needs no variable.
    if request == GradReq::Null && !tensor.dtype().is_float() { Ok(()) } else { tensor.attach_grad_with(request) }
}

fn show(shape: &[Option<usize>]) -> String {
    let sizes: Vec<String> = shape.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
    match &sizes[..] {
        [one] => format!("({one},)"),
        all => format!("({})", all.join(", ")),
    }
}

impl<B: Backend> State<B> {
    fn error(&self, why: impl Into<String>) -> Error {
        let mut why = why.into();
        if let Some(path) = &self.path {
            why = format!("{why} (at {path})");
        }
        Error::Parameter { name: self.name.clone(), why }
    }

    fn uninitialized(&self, why: impl Into<String>) -> Error {
        Error::Uninitialized { name: self.name.clone(), path: self.path.clone(), why: why.into() }
    }

    /// What `backward` is to do.
    fn request(&self) -> GradReq {
        if self.frozen || !self.differentiable { GradReq::Null } else { self.grad_req }
    }

    fn require(&mut self, request: GradReq) -> Result<()> {
        let before = std::mem::replace(&mut self.grad_req, request);
        self.attach().inspect_err(|_| self.grad_req = before)
    }

    fn attach(&self) -> Result<()> {
        match &self.values {
            Values::Ready(replicas) => replicas.iter().try_for_each(|t| attach(t, self.request())),
            _ => Ok(()),
        }
    }

    fn complete_shape(&self) -> Result<Shape> {
        match self.shape.iter().position(Option::is_none) {
            None => Ok(self.shape.iter().flatten().copied().collect()),
            Some(at) => Err(self.uninitialized(format!(
                "dimension {at} of its shape {} is not known yet; pass one batch through the network, or give the layer its input size \
                 (a layer that forward does not reach never gets its shape)",
                show(&self.shape)
            ))),
        }
    }

    /// Whether what is known of the shape is as in `shape`.
    fn check(&self, shape: &[usize]) -> Result<()> {
        let fits =
            self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(|(a, &b)| a.is_none_or(|a| a == b));
        if !fits {
            let why = format!(
                "its shape is {}, but {:?} is needed (for a layer: the input has another size than before or than given)",
                show(&self.shape),
                Shape::from(shape)
            );
            return Err(self.error(why));
        }
        Ok(())
    }

    /// Fills in what is unknown of the shape.
    fn refine(&mut self, shape: &[usize]) -> Result<()> {
        self.check(shape)?;
        for (known, &size) in self.shape.iter_mut().zip(shape) {
            *known = Some(size);
        }
        Ok(())
    }

    fn initialize(&mut self, initializer: Arc<dyn Initializer<B>>, contexts: Vec<B>, force: bool) -> Result<()> {
        self.check_contexts(&contexts)?;
        if !force && matches!(self.values, Values::Ready(_)) {
            return Ok(());
        }
        self.values = Values::Deferred { initializer, contexts };
        if self.shape.iter().all(Option::is_some) { self.finish() } else { Ok(()) }
    }

    /// Makes the values of a deferred parameter whose shape is known.
    fn finish(&mut self) -> Result<()> {
        let Values::Deferred { initializer, contexts } = &self.values else { return Ok(()) };
        let shape = self.complete_shape()?;
        let (initializer, contexts) = (initializer.clone(), contexts.clone());
        let values = autograd::pause(|| initializer.initialize(&contexts[0], &self.name, &shape, self.dtype))?.detach();
        if *values.shape() != shape || values.dtype() != self.dtype {
            return Err(self.error(format!(
                "the initializer gave {} of shape {:?} where {} of {shape:?} is needed",
                values.dtype(),
                values.shape(),
                self.dtype
            )));
        }
        self.set_ready(values, &contexts)
    }

    fn set_ready(&mut self, first: Tensor<B>, contexts: &[B]) -> Result<()> {
        let mut replicas = vec![first];
        for ctx in &contexts[1..] {
            replicas.push(replicas[0].copyto(ctx)?);
        }
        self.values = Values::Ready(replicas);
        self.attach()
    }

    /// The replica on `ctx`, or the first.
    fn replica(&self, ctx: Option<&B>) -> Result<Tensor<B>> {
        let replicas = match &self.values {
            Values::None => {
                return Err(self.uninitialized(format!(
                    "it has not been initialized (shape {}); call net.initialize(initializer, &ctx), or load its values",
                    show(&self.shape)
                )));
            }
            Values::Deferred { .. } => {
                self.complete_shape()?;
                return Err(self.uninitialized("its initialization failed; see the error before"));
            }
            Values::Ready(replicas) => replicas,
        };
        let Some(ctx) = ctx else { return Ok(replicas[0].clone()) };
        replicas.iter().find(|t| t.ctx() == ctx).cloned().ok_or_else(|| {
            let there: Vec<String> = replicas.iter().map(|t| t.ctx().name()).collect();
            self.error(format!(
                "it is not on {}, only on {}; move the input there, or initialize there",
                ctx.name(),
                there.join(", ")
            ))
        })
    }
}

impl<B: Backend> fmt::Display for Parameter<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "Parameter {} (shape={}, dtype={})", state.name, show(&state.shape), state.dtype)
    }
}

impl<B: Backend> fmt::Debug for Parameter<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
