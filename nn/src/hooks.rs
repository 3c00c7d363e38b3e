//! Functions that are called when a block runs: before it with the input, after it with input and output.
//!
//! The layers of this crate announce every forward pass, and containers announce that of their children; a block of one's own
//! is announced when it is run by a container or by [`Block::call`](crate::Block::call). Without hooks that costs one look at
//! a thread-local counter.
//!
//! ```
//! use isograd::{DType, Tensor};
//! use isograd::nn::{Activation, Block, Dense, Parameters, Sequential, hooks, initializers::One};
//! use std::{cell::RefCell, rc::Rc};
//! let ctx = isograd::device("cpu")?;
//! let mut net = Sequential::new();
//! net.add(Dense::new(3)).add(Activation::Relu);
//! net.initialize(One, &ctx)?;
//! let x = Tensor::ones(&ctx, [2, 4], DType::F32)?;
//!
//! let seen = Rc::new(RefCell::new(vec![]));
//! let list = seen.clone();
//! let hook = hooks::after_each(&net, move |call| {
//!     list.borrow_mut().push(format!("{}: {:?}", call.path, call.outputs[0].shape()));
//!     Ok(())
//! });
//! net.call(&x)?;
//! assert_eq!(*seen.borrow(), ["0: (2, 3)", "1: (2, 3)", ": (2, 3)"]);
//! drop(hook);                      // removes it
//! net.call(&x)?;
//! assert_eq!(seen.borrow().len(), 3);
//! # Ok::<(), isograd::Error>(())
//! ```
//!
//! A hook belongs to the thread that registered it, and borrows the block, since a block that is moved is no longer known.

use crate::{
    Parameters,
    block::{BlockId, each_block},
};
use isograd_core::{Backend, Result, Tensor};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    marker::PhantomData,
    rc::Rc,
};

/// What a block takes or gives, as far as hooks see it: the tensors in it. Tensors, tuples, lists and options are; one's own
/// type becomes so by implementing this.
pub trait Tensors<B: Backend> {
    /// Appends the tensors in order.
    fn tensors(&self, into: &mut Vec<Tensor<B>>);
}

impl<B: Backend> Tensors<B> for Tensor<B> {
    fn tensors(&self, into: &mut Vec<Tensor<B>>) {
        into.push(self.clone());
    }
}

impl<B: Backend> Tensors<B> for () {
    fn tensors(&self, _: &mut Vec<Tensor<B>>) {}
}

macro_rules! of_inner {
    ($([$($generics:tt)*] $type:ty;)*) => { $(
        impl<B: Backend, T: Tensors<B> + $($generics)*> Tensors<B> for $type {
            fn tensors(&self, into: &mut Vec<Tensor<B>>) {
                (**self).tensors(into);
            }
        }
    )* };
}
of_inner! {
    [?Sized] &T;
    [?Sized] Box<T>;
}

impl<B: Backend, T: Tensors<B>> Tensors<B> for [T] {
    fn tensors(&self, into: &mut Vec<Tensor<B>>) {
        self.iter().for_each(|t| t.tensors(into));
    }
}

impl<B: Backend, T: Tensors<B>> Tensors<B> for Vec<T> {
    fn tensors(&self, into: &mut Vec<Tensor<B>>) {
        self.as_slice().tensors(into);
    }
}

impl<B: Backend, T: Tensors<B>, const N: usize> Tensors<B> for [T; N] {
    fn tensors(&self, into: &mut Vec<Tensor<B>>) {
        self.as_slice().tensors(into);
    }
}

impl<B: Backend, T: Tensors<B>> Tensors<B> for Option<T> {
    fn tensors(&self, into: &mut Vec<Tensor<B>>) {
        self.iter().for_each(|t| t.tensors(into));
    }
}

macro_rules! tuples {
    ($($($name:ident $index:tt)*;)*) => { $(
        impl<B: Backend, $($name: Tensors<B>),*> Tensors<B> for ($($name,)*) {
            fn tensors(&self, into: &mut Vec<Tensor<B>>) {
                $(self.$index.tensors(into);)*
            }
        }
    )* };
}
tuples! {
    T0 0;
    T0 0 T1 1;
    T0 0 T1 1 T2 2;
    T0 0 T1 1 T2 2 T3 3;
    T0 0 T1 1 T2 2 T3 3 T4 4;
    T0 0 T1 1 T2 2 T3 3 T4 4 T5 5;
}

/// What a hook is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call<'a, B: Backend> {
    /// Where the block is within the one that the hook was registered for; empty for that one itself. The first of its
    /// places, if there are several.
    pub path: &'a str,
    /// Which block it is.
    pub block: BlockId,
    /// The input's tensors.
    pub inputs: &'a [Tensor<B>],
    /// The output's tensors; none before the block has run.
    pub outputs: &'a [Tensor<B>],
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
}

struct Registered {
    key: u64,
    when: When,
    /// The blocks by identity.
    paths: HashMap<BlockId, String>,
    /// An `Erased` of some backend.
    hook: Rc<dyn Any>,
}

type Listener<B> = dyn Fn(&Call<'_, B>) -> Result<()>;

struct Erased<B: Backend>(Box<Listener<B>>);

thread_local! {
    static ACTIVE: Cell<usize> = const { Cell::new(0) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static REGISTERED: RefCell<Vec<Rc<Registered>>> = const { RefCell::new(Vec::new()) };
    /// The calls that are running, innermost last.
    static RUNNING: RefCell<Vec<BlockId>> = const { RefCell::new(Vec::new()) };
}

/// A hook that is registered; dropping it, or [`Hook::remove`], takes it away.
#[must_use = "a hook is removed when this is dropped"]
pub struct Hook<'a> {
    key: u64,
    /// It borrows the blocks, and belongs to this thread.
    _blocks: PhantomData<(&'a (), *const ())>,
}

impl Hook<'_> {
    /// Removes the hook.
    pub fn remove(self) {}
}

impl Drop for Hook<'_> {
    fn drop(&mut self) {
        let removed = REGISTERED.with_borrow_mut(|all| {
            let at = all.iter().position(|r| r.key == self.key);
            at.map(|at| all.remove(at))
        });
        ACTIVE.set(ACTIVE.get() - 1);
        // What the hook holds may itself drop hooks.
        drop(removed);
    }
}

impl fmt::Debug for Hook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.key)
    }
}

fn register<'a, B: Backend>(
    when: When,
    paths: HashMap<BlockId, String>,
    hook: impl Fn(&Call<'_, B>) -> Result<()> + 'static,
) -> Hook<'a> {
    let key = NEXT.replace(NEXT.get() + 1);
    let hook: Rc<dyn Any> = Rc::new(Erased::<B>(Box::new(hook)));
    REGISTERED.with_borrow_mut(|all| all.push(Rc::new(Registered { key, when, paths, hook })));
    ACTIVE.set(ACTIVE.get() + 1);
    Hook { key, _blocks: PhantomData }
}

fn only<B: Backend>(block: &dyn Parameters<B>) -> HashMap<BlockId, String> {
    HashMap::from([(block.id(), String::new())])
}

fn all<B: Backend>(block: &dyn Parameters<B>) -> HashMap<BlockId, String> {
    let mut paths = HashMap::new();
    each_block(block, true, &mut |path, block| {
        paths.entry(block.id()).or_insert_with(|| path.to_string());
    });
    paths
}

/// Calls `hook` before `block` runs. An error that it gives ends the forward pass. Gluon's `register_forward_pre_hook`.
pub fn before<'a, B: Backend>(
    block: &'a dyn Parameters<B>,
    hook: impl Fn(&Call<'_, B>) -> Result<()> + 'static,
) -> Hook<'a> {
    register(When::Before, only(block), hook)
}

/// Calls `hook` after `block` has run. An error that it gives ends the forward pass. Gluon's `register_forward_hook`.
pub fn after<'a, B: Backend>(
    block: &'a dyn Parameters<B>,
    hook: impl Fn(&Call<'_, B>) -> Result<()> + 'static,
) -> Hook<'a> {
    register(When::After, only(block), hook)
}

/// [`before`] for `block` and every block in it.
pub fn before_each<'a, B: Backend>(
    block: &'a dyn Parameters<B>,
    hook: impl Fn(&Call<'_, B>) -> Result<()> + 'static,
) -> Hook<'a> {
    register(When::Before, all(block), hook)
}

/// [`after`] for `block` and every block in it.
pub fn after_each<'a, B: Backend>(
    block: &'a dyn Parameters<B>,
    hook: impl Fn(&Call<'_, B>) -> Result<()> + 'static,
) -> Hook<'a> {
    register(When::After, all(block), hook)
}

fn notify<B: Backend>(when: When, id: BlockId, inputs: &[Tensor<B>], outputs: &[Tensor<B>]) -> Result<()> {
    // Hooks may register and remove hooks.
    let now: Vec<Rc<Registered>> = REGISTERED.with_borrow(Clone::clone);
    for entry in now.iter().filter(|r| r.when == when) {
        if let (Some(path), Some(hook)) = (entry.paths.get(&id), entry.hook.downcast_ref::<Erased<B>>()) {
            hook.0(&Call { path, block: id, inputs, outputs })?;
        }
    }
    Ok(())
}

/// Runs `f`, the forward pass of the block `id` on `x`, and tells the hooks. A call that is announced by the container and
/// then by the layer itself counts once.
pub(crate) fn observe<B: Backend, X: Tensors<B> + ?Sized, Y: Tensors<B>>(
    id: BlockId,
    x: &X,
    f: impl FnOnce() -> Result<Y>,
) -> Result<Y> {
    /// Leaves the call, also when the block panics.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            RUNNING.with_borrow_mut(|running| _ = running.pop());
        }
    }
    if ACTIVE.get() == 0 || RUNNING.with_borrow(|running| running.last() == Some(&id)) {
        return f();
    }
    RUNNING.with_borrow_mut(|running| running.push(id));
    let _leave = Leave;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    x.tensors(&mut inputs);
    notify(When::Before, id, &inputs, &[])?;
    let y = f()?;
    y.tensors(&mut outputs);
    notify(When::After, id, &inputs, &outputs)?;
    Ok(y)
}

/// [`observe`] as the layers of this crate use it.
pub(crate) fn layer<B: Backend, T: Parameters<B>>(
    layer: &T,
    x: &Tensor<B>,
    f: impl FnOnce() -> Result<Tensor<B>>,
) -> Result<Tensor<B>> {
    observe(layer.id(), x, f)
}
