//! The tape: a graph of type-erased nodes, and the walk over it.
//!
//! A node knows the type of its own gradient, so a copy from one backend to another is a node like any other. Numbers grow
//! along the graph: taking the highest first is a topological order, without a list of all nodes and without a lock.

use super::{is_recording, with_recording};
use crate::{Backend, DType, Error, Result, Shape, Tensor};
use smallvec::SmallVec;
use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What `backward` does with the gradient of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum GradReq {
    /// Replaces the old gradient.
    #[default]
    Write,
    /// Adds to the old gradient.
    Add,
    /// No gradient is computed.
    Null,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A gradient: a `Tensor<B>` of the backend that the node belongs to.
type AnyTensor = Box<dyn Any + Send>;
type Parents = SmallVec<[Option<Arc<dyn AnyNode>>; 3]>;
type Flows<B> = SmallVec<[Option<Tensor<B>>; 3]>;

/// A node of the tape, whatever its backend.
pub(crate) trait AnyNode: Send + Sync {
    fn id(&self) -> u64;
    fn label(&self) -> GraphNode;
    fn parents(&self) -> Parents;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Sum of two gradients of this node.
    fn add(&self, a: AnyTensor, b: AnyTensor) -> Result<AnyTensor>;
    /// Hands the gradient on: to `.grad` for a leaf (when `write` is set), to the parents otherwise.
    fn flow(self: Arc<Self>, gradient: AnyTensor, retain: bool, write: bool, sink: &mut Sink<'_>) -> Result<()>;
    /// Moves the parents out, so that a long chain is dropped in a loop.
    fn dismantle(&mut self, stack: &mut Vec<Arc<dyn AnyNode>>);
}

type Sink<'a> = dyn FnMut(Arc<dyn AnyNode>, AnyTensor) -> Result<()> + 'a;

type Within<B> = dyn Fn(&Tensor<B>, &Context<'_, B>) -> Result<Flows<B>> + Send + Sync;
type Across<B> = dyn Fn(&Tensor<B>) -> Result<AnyTensor> + Send + Sync;

/// What a recorded operator does backward.
pub(crate) enum Rule<B: Backend> {
    /// From head gradient and saved tensors to one gradient per input.
    Within(Box<Within<B>>),
    /// To the single input, on another backend.
    Across(Box<Across<B>>),
}

struct Body<B: Backend> {
    parents: Parents,
    rule: Rule<B>,
}

enum Kind<B: Backend> {
    /// What `backward` leaves is the variable's: a gradient that was itself recorded leads back to this node, and the tape must
    /// hold no circle.
    Leaf {
        request: GradReq,
        variable: Weak<Variable<B>>,
    },
    Operator(Mutex<Option<Body<B>>>),
}

/// What `backward` has left with a variable, and what was done to it since.
pub(crate) struct Gradient<B: Backend> {
    pub value: Option<Tensor<B>>,
    /// The part of the value that is the sum over all replicas already: the value itself, until `backward` adds to it.
    pub reduced: Option<Tensor<B>>,
    /// Whether the scale of the loss has been divided out; `None`: of a part only.
    pub unscaled: Option<bool>,
}

impl<B: Backend> Default for Gradient<B> {
    fn default() -> Self {
        Gradient { value: None, reduced: None, unscaled: Some(false) }
    }
}

/// What `backward` leaves with a variable; the handles of the variable own it.
pub(crate) struct Variable<B: Backend> {
    gradient: Mutex<Gradient<B>>,
    /// `backward` has reached it since the flag was last taken down.
    fresh: AtomicBool,
}

impl<B: Backend> Variable<B> {
    /// The gradient slot.
    pub fn gradient(&self) -> MutexGuard<'_, Gradient<B>> {
        lock(&self.gradient)
    }

    /// Whether `backward` has reached it since the flag was taken down.
    pub fn fresh(&self) -> &AtomicBool {
        &self.fresh
    }
}

/// A node whose gradient is a `Tensor<B>`.
pub(crate) struct Node<B: Backend> {
    id: u64,
    name: &'static str,
    shape: Shape,
    dtype: DType,
    kind: Kind<B>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

fn typed<B: Backend>(gradient: AnyTensor) -> Tensor<B> {
    *gradient.downcast().expect("a gradient has the backend of its node")
}

impl<B: Backend> Node<B> {
    pub fn leaf(of: &Tensor<B>, request: GradReq) -> (Arc<Node<B>>, Arc<Variable<B>>) {
        let variable = Arc::new(Variable { gradient: Mutex::default(), fresh: AtomicBool::new(false) });
        let node = Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: "variable",
            shape: of.shape().clone(),
            dtype: of.dtype(),
            kind: Kind::Leaf { request, variable: Arc::downgrade(&variable) },
        });
        (node, variable)
    }

    pub fn is_leaf(&self) -> bool {
        matches!(self.kind, Kind::Leaf { .. })
    }

    /// Whether a gradient is wanted here.
    pub fn wants_gradient(&self) -> bool {
        !matches!(self.kind, Kind::Leaf { request: GradReq::Null, .. })
    }

    pub fn request(&self) -> GradReq {
        match self.kind {
            Kind::Leaf { request, .. } => request,
            Kind::Operator(_) => GradReq::Null,
        }
    }
}

impl<B: Backend> AnyNode for Node<B> {
    fn id(&self) -> u64 {
        self.id
    }

    fn label(&self) -> GraphNode {
        GraphNode {
            id: self.id,
            name: self.name,
            shape: self.shape.clone(),
            dtype: self.dtype,
            parents: self.parents().iter().flatten().map(|p| p.id()).collect(),
        }
    }

    fn parents(&self) -> Parents {
        match &self.kind {
            Kind::Leaf { .. } => Parents::new(),
            Kind::Operator(body) => lock(body).as_ref().map(|b| b.parents.clone()).unwrap_or_default(),
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn add(&self, a: AnyTensor, b: AnyTensor) -> Result<AnyTensor> {
        Ok(Box::new(typed::<B>(a).add(&typed::<B>(b))?))
    }

    fn flow(self: Arc<Self>, gradient: AnyTensor, retain: bool, write: bool, sink: &mut Sink<'_>) -> Result<()> {
        let head = typed::<B>(gradient);
        let body = match &self.kind {
            Kind::Leaf { request, variable } => {
                // Where no handle is left, nobody can ask for the gradient.
                let Some(variable) = variable.upgrade().filter(|_| write && *request != GradReq::Null) else {
                    return Ok(());
                };
                let mut slot = variable.gradient();
                let (added, keeps) = match &slot.value {
                    Some(old) if *request == GradReq::Add => (old.add(&head)?, true),
                    _ => (head.owned()?, false),
                };
                // What the old value was recorded by may go with it, and ask for this slot.
                let old = slot.value.replace(added);
                let mut reduced = None;
                if keeps {
                    slot.unscaled = slot.unscaled.filter(|unscaled| !unscaled);
                } else {
                    reduced = slot.reduced.take();
                    slot.unscaled = Some(false);
                }
                drop(slot);
                variable.fresh.store(true, Ordering::Release);
                drop((old, reduced));
                return Ok(());
            }
            Kind::Operator(body) => body,
        };
        let consumed = || Error::GraphConsumed { op: self.name };
        let mut taken = None;
        let guard;
        // A graph that is kept stays locked while its rule runs; one that is not is taken out and freed as the walk passes.
        let body = if retain {
            guard = lock(body);
            guard.as_ref().ok_or_else(consumed)?
        } else {
            &*taken.insert(lock(body).take().ok_or_else(consumed)?)
        };
        match &body.rule {
            Rule::Within(rule) => {
                let context = Context { node: &self, parents: &body.parents };
                for (parent, flow) in body.parents.iter().zip(rule(&head, &context)?) {
                    if let (Some(parent), Some(flow)) = (parent, flow) {
                        sink(parent.clone(), Box::new(flow))?;
                    }
                }
            }
            Rule::Across(rule) => {
                if let Some(Some(parent)) = body.parents.first() {
                    sink(parent.clone(), rule(&head)?)?;
                }
            }
        }
        if let Some(body) = taken {
            drop_slowly(body.parents.into_iter().flatten().collect());
        }
        Ok(())
    }

    fn dismantle(&mut self, stack: &mut Vec<Arc<dyn AnyNode>>) {
        if let Kind::Operator(body) = &mut self.kind
            && let Some(body) = body.get_mut().unwrap_or_else(|e| e.into_inner()).take()
        {
            stack.extend(body.parents.into_iter().flatten());
        }
    }
}

/// Drops nodes and whatever only they hold, in a loop: a chain of 100,000 operators would overflow the stack otherwise.
fn drop_slowly(mut stack: Vec<Arc<dyn AnyNode>>) {
    while let Some(mut node) = stack.pop() {
        if let Some(node) = Arc::get_mut(&mut node) {
            node.dismantle(&mut stack);
        }
    }
}

impl<B: Backend> Drop for Node<B> {
    fn drop(&mut self) {
        let mut stack = Vec::new();
        self.dismantle(&mut stack);
        drop_slowly(stack);
    }
}

/// What a rule is called with beside the head gradient: access to what was saved, and which inputs want a gradient.
pub(crate) struct Context<'a, B: Backend> {
    node: &'a Arc<Node<B>>,
    parents: &'a Parents,
}

impl<B: Backend> Context<'_, B> {
    /// Whether input `k` wants a gradient.
    pub fn wants(&self, k: usize) -> bool {
        self.parents[k].is_some()
    }
}

enum Origin {
    Detached,
    Input(usize),
    Output,
}

/// A tensor that a rule needs: its memory without its node, so that the tape holds no circle and nothing that it does not
/// read. The node comes back from the parents when the rule is itself recorded.
pub(crate) struct Saved<B: Backend> {
    tensor: Tensor<B>,
    version: u64,
    origin: Origin,
}

impl<B: Backend> Saved<B> {
    fn new(tensor: &Tensor<B>, origin: Origin) -> Saved<B> {
        Saved { tensor: tensor.detach(), version: tensor.memory().version(), origin }
    }

    /// The tensor, as it was.
    pub fn get(&self, context: &Context<'_, B>) -> Result<Tensor<B>> {
        let now = self.tensor.memory().version();
        if now != self.version {
            return Err(Error::SavedTensorModified {
                op: context.node.name,
                shape: self.tensor.shape().clone(),
                saved: self.version,
                now,
                device: self.tensor.ctx().name(),
            });
        }
        if !is_recording() {
            return Ok(self.tensor.clone());
        }
        let node: Option<Arc<Node<B>>> = match self.origin {
            Origin::Detached => None,
            Origin::Output => Some(context.node.clone()),
            Origin::Input(k) => context.parents[k].clone().and_then(|p| p.as_any().downcast().ok()),
        };
        Ok(self.tensor.with_node(node))
    }
}

/// Records one operator: made before its rule, so that the rule can save tensors.
pub(crate) struct Recorder {
    parents: Parents,
}

impl Recorder {
    /// A recorder when this thread records and an input needs a gradient; then `finish` must be called.
    pub fn new<B: Backend>(inputs: &[&Tensor<B>]) -> Option<Recorder> {
        if !is_recording() {
            return None;
        }
        let parents: Parents = inputs.iter().map(|t| t.node().map(|n| n as Arc<dyn AnyNode>)).collect();
        parents.iter().any(Option::is_some).then_some(Recorder { parents })
    }

    /// Whether input `k` needs a gradient.
    pub fn wants(&self, k: usize) -> bool {
        self.parents[k].is_some()
    }

    /// Saves input `k`.
    pub fn input<B: Backend>(&self, k: usize, tensor: &Tensor<B>) -> Saved<B> {
        Saved::new(tensor, if self.wants(k) { Origin::Input(k) } else { Origin::Detached })
    }

    /// Saves the output.
    pub fn output<B: Backend>(&self, tensor: &Tensor<B>) -> Saved<B> {
        Saved::new(tensor, Origin::Output)
    }

    /// Saves a tensor that needs no gradient.
    pub fn constant<B: Backend>(&self, tensor: &Tensor<B>) -> Saved<B> {
        Saved::new(tensor, Origin::Detached)
    }

    /// Attaches a node to `output`, which the operator `name` has just computed.
    pub fn finish<B: Backend>(
        self,
        name: &'static str,
        output: &Tensor<B>,
        rule: impl Fn(&Tensor<B>, &Context<'_, B>) -> Result<Flows<B>> + Send + Sync + 'static,
    ) {
        self.attach(name, output, Rule::Within(Box::new(rule)));
    }

    /// Attaches a node to `output`, a copy of the single input on another backend.
    pub fn finish_across<B: Backend, A: Backend>(
        self,
        name: &'static str,
        output: &Tensor<B>,
        rule: impl Fn(&Tensor<B>) -> Result<Tensor<A>> + Send + Sync + 'static,
    ) {
        self.attach(name, output, Rule::Across(Box::new(move |head| Ok(Box::new(rule(head)?)))));
    }

    fn attach<B: Backend>(self, name: &'static str, output: &Tensor<B>, rule: Rule<B>) {
        if !output.dtype().is_float() {
            return;
        }
        output.set_node(Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
            shape: output.shape().clone(),
            dtype: output.dtype(),
            kind: Kind::Operator(Mutex::new(Some(Body { parents: self.parents, rule }))),
        }));
    }
}

/// How to run [`Tensor::backward_with`].
///
/// ```
/// use isograd::{Tensor, autograd::{self, Backward}};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[3.0f64], [1])?;
/// x.attach_grad()?;
/// let y = autograd::record(|| x.square())?;
/// y.backward_with(Backward { retain_graph: true, ..Backward::default() })?;
/// y.backward()?;                          // the graph was kept
/// assert!(y.backward().is_err());         // and now it is gone
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Backward<B: Backend> {
    /// The gradient of whatever comes after, shaped like the tensor; ones when absent.
    pub head: Option<Tensor<B>>,
    /// Keeps the graph for another `backward`.
    pub retain_graph: bool,
    /// Records the walk itself, for gradients of gradients; keeps the graph as well.
    pub create_graph: bool,
}

impl<B: Backend> Default for Backward<B> {
    fn default() -> Self {
        Backward { head: None, retain_graph: false, create_graph: false }
    }
}

fn start<B: Backend>(
    op: &'static str,
    head: &Tensor<B>,
    gradient: Option<&Tensor<B>>,
) -> Result<(Arc<dyn AnyNode>, AnyTensor)> {
    if !head.dtype().is_float() {
        return Err(Error::NotDifferentiable {
            op,
            why: format!(
                "the tensor of shape {:?} on {} has dtype {}, and gradients are of floating dtypes; start from what it was computed from",
                head.shape(),
                head.ctx().name(),
                head.dtype()
            ),
        });
    }
    let node = head.node().ok_or_else(|| Error::NotRecorded {
        op,
        what: "the tensor".into(),
        shape: head.shape().clone(),
        device: head.ctx().name(),
    })?;
    let gradient = match gradient {
        Some(g) if g.shape() != head.shape() => {
            return Err(Error::HeadGradient {
                expected: head.shape().clone(),
                got: g.shape().clone(),
                device: head.ctx().name(),
            });
        }
        Some(g) if g.dtype() != head.dtype() => {
            return Err(Error::DTypeMismatch { op, left: head.dtype(), right: g.dtype(), device: head.ctx().name() });
        }
        Some(g) if g.ctx() != head.ctx() => {
            return Err(Error::DeviceMismatch { op, left: head.ctx().name(), right: g.ctx().name() });
        }
        Some(g) => g.clone(),
        None => Tensor::ones(head.ctx(), head.shape(), head.dtype())?,
    };
    Ok((node, Box::new(gradient)))
}

/// Walks from the heads down to the nodes numbered `lowest`; `visit` sees every node with its whole gradient.
fn walk(
    heads: Vec<(Arc<dyn AnyNode>, AnyTensor)>,
    retain: bool,
    create_graph: bool,
    write: bool,
    lowest: u64,
    visit: &mut dyn FnMut(u64, AnyTensor) -> AnyTensor,
) -> Result<()> {
    let mut pending: BTreeMap<u64, (Arc<dyn AnyNode>, AnyTensor)> = BTreeMap::new();
    let push = |pending: &mut BTreeMap<u64, (Arc<dyn AnyNode>, AnyTensor)>, node: Arc<dyn AnyNode>, g: AnyTensor| {
        if node.id() < lowest {
            return Ok(());
        }
        let g = match pending.remove(&node.id()) {
            Some((_, earlier)) => node.add(earlier, g)?,
            None => g,
        };
        pending.insert(node.id(), (node, g));
        Ok(())
    };
    with_recording(create_graph, || {
        for (node, gradient) in heads {
            push(&mut pending, node, gradient)?;
        }
        while let Some((id, (node, gradient))) = pending.pop_last() {
            let gradient = visit(id, gradient);
            node.flow(gradient, retain || create_graph, write, &mut |parent, g| push(&mut pending, parent, g))?;
        }
        Ok(())
    })
}

/// Runs backward from several heads at once, adding to the `.grad` of all leaves they depend on. `head_gradients` is empty
/// for ones everywhere.
///
/// # Errors
/// [`Error::NotRecorded`], [`Error::NotDifferentiable`] for a head of integers or bool, [`Error::HeadGradient`], [`Error::GraphConsumed`], [`Error::SavedTensorModified`], and what the
/// operators of the rules report.
pub fn backward<B: Backend>(
    heads: &[&Tensor<B>],
    head_gradients: &[&Tensor<B>],
    retain_graph: bool,
    create_graph: bool,
) -> Result<()> {
    let starts = starts("backward", heads, head_gradients)?;
    walk(starts, retain_graph, create_graph, true, 0, &mut |_, g| g)
}

fn starts<B: Backend>(
    op: &'static str,
    heads: &[&Tensor<B>],
    head_gradients: &[&Tensor<B>],
) -> Result<Vec<(Arc<dyn AnyNode>, AnyTensor)>> {
    if !head_gradients.is_empty() && head_gradients.len() != heads.len() {
        return Err(Error::invalid(op, format!("{} heads, but {} head gradients", heads.len(), head_gradients.len())));
    }
    heads.iter().enumerate().map(|(i, h)| start(op, h, head_gradients.get(i).copied())).collect()
}

/// The gradients of `heads` (of their sums, or weighted by `head_gradients` unless that is empty) with respect to
/// `variables`, without touching any `.grad`. With `create_graph` the results are recorded, for gradients of gradients.
///
/// ```
/// use isograd::{Tensor, autograd};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[2.0f64], [1])?;
/// x.attach_grad()?;
/// let first = autograd::record(|| {
///     let y = (&x * &x) * &x;
///     autograd::grad(&[&y], &[&x], &[], true, true)
/// })?;
/// let second = autograd::grad(&[&first[0]], &[&x], &[], false, false)?;
/// assert_eq!(first[0].to_vec::<f64>()?, [12.0]);
/// assert_eq!(second[0].to_vec::<f64>()?, [12.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotRecorded`] for a head or variable outside the graph, [`Error::Unreachable`] for a variable that the heads
/// do not depend on, and those of [`backward`].
pub fn grad<B: Backend>(
    heads: &[&Tensor<B>],
    variables: &[&Tensor<B>],
    head_gradients: &[&Tensor<B>],
    retain_graph: bool,
    create_graph: bool,
) -> Result<Vec<Tensor<B>>> {
    let starts = starts("grad", heads, head_gradients)?;
    let mut ids = Vec::with_capacity(variables.len());
    for (i, v) in variables.iter().enumerate() {
        ids.push(v.node().map(|n| n.id()).ok_or_else(|| Error::NotRecorded {
            op: "grad",
            what: format!("variable {i}"),
            shape: v.shape().clone(),
            device: v.ctx().name(),
        })?);
    }
    let mut found: BTreeMap<u64, Tensor<B>> = BTreeMap::new();
    let lowest = ids.iter().copied().min().unwrap_or(u64::MAX);
    walk(starts, retain_graph, create_graph, false, lowest, &mut |id, gradient| {
        if !ids.contains(&id) {
            return gradient;
        }
        let typed = typed::<B>(gradient);
        found.insert(id, typed.clone());
        Box::new(typed)
    })?;
    let unreachable = |i: usize| Error::Unreachable {
        index: i,
        shape: variables[i].shape().clone(),
        device: variables[i].ctx().name(),
    };
    // A rule may pass its head on as it is, so results could share memory with each other or with a head gradient. What
    // is recorded cannot be written in place; the others become the caller's own.
    let result = |(i, id): (usize, &u64)| {
        let last = !ids[i + 1..].contains(id);
        let gradient = if last { found.remove(id) } else { found.get(id).cloned() };
        let gradient = gradient.ok_or_else(|| unreachable(i))?;
        if gradient.requires_grad() { Ok(gradient) } else { gradient.owned() }
    };
    with_recording(false, || ids.iter().enumerate().map(result).collect())
}

/// One operator or variable of a recorded graph, for drawing it.
#[derive(Clone, Debug)]
pub struct GraphNode {
    /// Its number; parents have lower ones.
    pub id: u64,
    /// The operator, or `variable`.
    pub name: &'static str,
    /// Shape of the result.
    pub shape: Shape,
    /// Dtype of the result.
    pub dtype: DType,
    /// The nodes that it was computed from.
    pub parents: Vec<u64>,
}

/// The recorded graph that `head` was computed by, highest number first; empty when it was not recorded.
pub fn graph<B: Backend>(head: &Tensor<B>) -> Vec<GraphNode> {
    let mut pending: BTreeMap<u64, Arc<dyn AnyNode>> = BTreeMap::new();
    if let Some(node) = head.node() {
        pending.insert(AnyNode::id(&*node), node);
    }
    let mut nodes = Vec::new();
    while let Some((_, node)) = pending.pop_last() {
        pending.extend(node.parents().into_iter().flatten().map(|p| (p.id(), p)));
        nodes.push(node.label());
    }
    nodes
}

impl<B: Backend> fmt::Debug for Node<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} {:?}", self.name, self.id, self.shape)
    }
}
