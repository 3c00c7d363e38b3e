//! The two traits that networks are made of: [`Parameters`], which finds parameters, and [`Block`], which computes.

use crate::{
    Contexts, Initializer, LoadOptions, Parameter, ParameterDict, SaveOptions,
    describe::print_blocks,
    hooks::{self, Tensors},
    naming, serialize,
};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor};
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    ops::{Deref, Index},
    path::Path,
    sync::Arc,
};

/// Something that computes a tensor from a tensor: a layer, or a network of them.
///
/// ```
/// use isograd::{Backend, Result, Tensor};
/// use isograd::nn::{Block, Dense, Parameters, initializers::Xavier};
///
/// #[derive(Parameters)]
/// struct Residual<B: Backend> { body: Dense<B>, scale: f64 }
///
/// impl<B: Backend> Block<B> for Residual<B> {
///     fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
///         x.add(&self.body.forward(x)?.mul_scalar(self.scale)?)
///     }
/// }
/// let ctx = isograd::device("cpu")?;
/// let net = Residual { body: Dense::new(3), scale: 0.1 };
/// net.initialize(Xavier::default(), &ctx)?;
/// let x = Tensor::ones(&ctx, [2, 3], isograd::DType::F32)?;
/// assert_eq!(net.forward(&x)?.shape(), &[2, 3]);
/// assert_eq!(net.collect_params().paths(), ["body.weight", "body.bias"]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// Blocks of several inputs or outputs take and give tuples (or any other type): `impl Block<B, (Tensor<B>, Tensor<B>)>` is one
/// of two inputs, `impl Block<B, Tensor<B>, (Tensor<B>, Tensor<B>)>` one of two outputs.
pub trait Block<B: Backend = Dyn, X: ?Sized = Tensor<B>, Y = Tensor<B>>: Parameters<B> + Send + Sync {
    /// The output for the input `x`.
    ///
    /// # Errors
    /// [`isograd_core::Error::Uninitialized`] for a parameter without values; what the operators report.
    fn forward(&self, x: &X) -> Result<Y>;

    /// [`Block::forward`], announced to [`hooks`]. Containers call their children so, and the layers of this crate
    /// announce themselves; within a block of one's own, `self.part.call(x)` shows a part that is such a block as well.
    ///
    /// # Errors
    /// As [`Block::forward`], an error about a parameter naming its place; those of the hooks.
    fn call(&self, x: &X) -> Result<Y>
    where
        X: Tensors<B>,
        Y: Tensors<B>,
    {
        hooks::observe(self.id(), x, || self.forward(x)).map_err(|e| located(e, self))
    }

    /// The block number `index` of a container, `None` beyond the last; any other block has none. `net[0][1]` asks for it.
    fn child(&self, _index: usize) -> Option<&AnyBlock<B>> {
        None
    }

    /// The parameter at `path` (`0.1.bias`), or of this name (`dense0_bias`).
    ///
    /// # Errors
    /// [`Error::Parameter`] with the paths that are nearest.
    fn get(&self, path: &str) -> Result<Parameter<B>> {
        self.collect_params().find(path).cloned()
    }
}

/// The methods of [`Parameters`] of what stands for another value.
macro_rules! stands_for {
    () => {
        fn visit(&self, visitor: &mut dyn Visitor<B>) {
            (**self).visit(visitor);
        }

        fn label(&self) -> Option<String> {
            (**self).label()
        }

        fn id(&self) -> $crate::BlockId {
            (**self).id()
        }

        fn prefix(&self) -> String {
            (**self).prefix()
        }
    };
}
pub(crate) use stands_for;

/// A block of any type, which can be asked for: what containers hold, and what `net[0]` is. A clone is the same block.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Activation, Block, Dense, Parameters, Sequential, initializers::{One, Zero}};
/// let ctx = isograd::device("cpu")?;
/// let mut features = Sequential::new();
/// features.add(Dense::new(4)).add(Activation::Relu);
/// let mut net = Sequential::new();
/// net.add(features).add(Dense::new(2));
/// net.initialize(Zero, &ctx)?;
/// net[1].force_reinit(One, &ctx)?;
/// net.forward(&Tensor::ones(&ctx, [1, 3], DType::F32)?)?;
/// assert_eq!(net[0][0].downcast::<Dense<_>>()?.weight().shape()?, [4, 3]);
/// assert_eq!(net[0][1].to_string(), "Activation(relu)");
/// let error = net[0][1].downcast::<Dense<_>>().unwrap_err().to_string();
/// assert!(error.contains("Activation(relu)") && error.contains("Dense"), "{error}");
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyBlock<B: Backend = Dyn>(Arc<dyn Held<B>>);

/// A block that borrows nothing, so that its type can be asked for.
trait Held<B: Backend>: Block<B> + Any {}

impl<B: Backend, T: Block<B> + 'static> Held<B> for T {}

impl<B: Backend> AnyBlock<B> {
    /// Any block.
    pub fn new(block: impl Block<B> + 'static) -> AnyBlock<B> {
        AnyBlock(Arc::new(block))
    }

    /// This block as what it is, which has methods that blocks in general do not have: `weight()` of a layer.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is of another type.
    pub fn downcast<T: Block<B> + 'static>(&self) -> Result<&T> {
        let any: &dyn Any = &*self.0;
        // One that was taken from a container and put into another is within two of these.
        if let Some(inner) = any.downcast_ref::<AnyBlock<B>>() {
            return inner.downcast();
        }
        any.downcast_ref().ok_or_else(|| {
            let (wanted, label) = (short_name::<T>(), self.label().unwrap_or_default());
            Error::invalid("downcast", format!("the block is no {wanted}; it prints as {label}"))
        })
    }
}

impl<B: Backend> Deref for AnyBlock<B> {
    type Target = dyn Block<B>;

    fn deref(&self) -> &(dyn Block<B> + 'static) {
        &*self.0
    }
}

impl<B: Backend> Parameters<B> for AnyBlock<B> {
    stands_for!();
}

impl<B: Backend> Block<B> for AnyBlock<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.0.forward(x)
    }

    fn child(&self, index: usize) -> Option<&AnyBlock<B>> {
        self.0.child(index)
    }
}

impl<B: Backend> Index<usize> for AnyBlock<B> {
    type Output = AnyBlock<B>;

    /// The block number `index` of a container.
    ///
    /// # Panics
    /// Panics when there is none, or this is no container; [`Block::child`] does not.
    fn index(&self, index: usize) -> &AnyBlock<B> {
        child(self, index)
    }
}

/// [`Block::child`], which must be there.
pub(crate) fn child<B: Backend>(block: &(impl Block<B> + ?Sized), index: usize) -> &AnyBlock<B> {
    match block.child(index) {
        Some(child) => child,
        None => panic!("there is no block {index} in {}", block.label().unwrap_or_default()),
    }
}

/// The name of a type without its path.
fn short_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

print_blocks! {
    impl [B: Backend] AnyBlock<B>;
    impl [B: Backend] dyn Block<B> + '_;
}

/// Which block a call is of: where it lies in memory, and its type, as a block may lie where its first part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId {
    address: usize,
    kind: &'static str,
}

/// Something that holds parameters, itself or in parts that do. `#[derive(Parameters)]` writes [`Parameters::visit`] and
/// [`Parameters::label`] for structs and enums; the rest is provided.
///
/// Fields may be parameters, blocks, numbers and strings, and `Vec`, `Option`, arrays, tuples, `BTreeMap`, `HashMap` (in the
/// order of its keys), `Box`, `Arc` and references of them; a field of another type is marked `#[parameters(skip)]`. Of an
/// enum the fields of the variant at hand count. A struct without a `Backend` parameter holds parameters of [`Dyn`], or of
/// what `#[parameters(backend = ...)]` names.
///
/// The derived type also has `Display`, which prints its structure as [`crate::describe`] does; for one of one's own,
/// `#[parameters(display = false)]` leaves it out.
///
/// A parameter that is called like its field, `Parameter::new("weight", ..)` in the field `weight`, is renamed when its block is
/// first looked through, as Gluon would call it: `mydense0_weight` in a `MyDense`. So two of them have different names.
///
/// A field of any other type does not compile, so that no parameter is forgotten:
///
/// ```compile_fail,E0277
/// #[derive(isograd::nn::Parameters)]
/// struct Net { layer: isograd::nn::Dense, since: std::time::Instant }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to hold parameters of backend `{B}`",
    note = "derive or implement `Parameters` for it, or mark the field with `#[parameters(skip)]`",
    note = "a struct that is not generic over a `Backend` is taken for `Dyn`; name another with `#[parameters(backend = ...)]`"
)]
pub trait Parameters<B: Backend = Dyn> {
    /// Shows every part of this value to `visitor`, in order.
    fn visit(&self, visitor: &mut dyn Visitor<B>);

    /// What printing shows for a block; `None` for what is no block (a parameter, a list).
    fn label(&self) -> Option<String> {
        None
    }

    /// What tells this block from others while neither is moved.
    fn id(&self) -> BlockId {
        BlockId { address: std::ptr::from_ref(self).cast::<()>().addr(), kind: std::any::type_name::<Self>() }
    }

    /// Gluon's prefix of the names, `dense0_`: what the names of its own parameters have in common; empty without any.
    fn prefix(&self) -> String {
        struct First(String, Option<String>);
        impl<B: Backend> Visitor<B> for First {
            fn parameter(&mut self, parameter: &Parameter<B>) {
                self.1 = self.1.take().or_else(|| parameter.name().strip_suffix(&*self.0).map(str::to_string));
            }

            fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
                if child.label().is_none() && self.1.is_none() {
                    let before = push(&mut self.0, name);
                    child.visit(self);
                    self.0.truncate(before);
                }
            }
        }
        let mut first = First(String::new(), None);
        self.visit(&mut first);
        first.1.unwrap_or_default()
    }

    /// All parameters with their structural paths (`0.weight`, `body.0.bias`), in the order of the structure. One that is
    /// shared is there once per place.
    fn collect_params(&self) -> ParameterDict<B> {
        let found = Collector::of(self).found;
        ParameterDict::new(self.prefix(), found)
    }

    /// The parameters whose structural path or whose name matches `pattern`, a regular expression that is anchored at the
    /// start, as in Gluon: `.*weight` where `weight` alone would find only names that begin so.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no regular expression.
    fn collect_params_matching(&self, pattern: &str) -> Result<ParameterDict<B>> {
        self.collect_params().matching(pattern)
    }

    /// Each parameter once with its path; one that is shared under the first of them.
    fn named_parameters(&self) -> Vec<(String, Parameter<B>)> {
        self.collect_params().unique().into_iter().collect()
    }

    /// The values by path, in order: handles of the memory that is trained, outside the tape.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    fn state_dict(&self) -> Result<Vec<(String, Tensor<B>)>> {
        self.collect_params().into_iter().map(|(path, p)| Ok((path, p.data()?.detach()))).collect()
    }

    /// Overwrites the values by those of [`Parameters::state_dict`] of a network of the same structure.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming a path that is missing or left over, values that do not fit, or other values for a shared
    /// parameter than in another of its places; then nothing changes.
    fn load_state_dict(&self, state: impl IntoIterator<Item = (String, Tensor<B>)>) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().load_state_dict(state)
    }

    /// Calls `f` with path and block for every block in here, those inside a block before it, and last for this one with an
    /// empty path.
    ///
    /// ```
    /// use isograd::nn::{Activation, Dense, Parameters, Sequential};
    /// let mut net: Sequential = Sequential::new();
    /// net.add(Dense::new(2)).add(Activation::Relu);
    /// let mut seen = vec![];
    /// net.apply(|path, block| seen.push(format!("{path}: {}", block.label().unwrap_or_default())));
    /// assert_eq!(seen, ["0: Dense(None -> 2, linear)", "1: Activation(relu)", ": Sequential"]);
    /// ```
    fn apply(&self, mut f: impl FnMut(&str, &dyn Parameters<B>))
    where
        Self: Sized,
    {
        each_block(self, true, &mut f);
    }

    /// Converts all parameters of floating-point dtypes; gradients are lost. Running statistics stay f32 where f16 or bf16 is
    /// asked for, as in MXNet.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`].
    fn cast(&self, dtype: DType) -> Result<()> {
        self.collect_params().cast(dtype)
    }

    /// Takes all parameters out of training until [`Parameters::unfreeze`].
    ///
    /// # Errors
    /// What the device reports.
    fn freeze(&self) -> Result<()> {
        self.collect_params().freeze()
    }

    /// Trains all parameters again that [`Parameters::freeze`] took out.
    ///
    /// # Errors
    /// What the device reports.
    fn unfreeze(&self) -> Result<()> {
        self.collect_params().unfreeze()
    }

    /// Gives all parameters values, the same on every context: by their own initializer where they have one, by `initializer`
    /// otherwise; those whose shape is not known, in the first forward pass. Parameters that have values keep them, so that what
    /// was added to a network can be initialized after the rest was trained or loaded; [`Parameters::force_reinit`] replaces
    /// them too.
    ///
    /// # Errors
    /// What the initializers and the device report; [`Error::Parameter`] for no contexts, and for one that is named twice.
    fn initialize(&self, initializer: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().initialize(initializer, contexts)
    }

    /// [`Parameters::initialize`], also of those that have values.
    ///
    /// # Errors
    /// As [`Parameters::initialize`].
    fn force_reinit(&self, initializer: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().force_reinit(initializer, contexts)
    }

    /// Writes all parameters under their structural paths: as safetensors, or for a path that ends in `.params` in MXNet's
    /// format. An old file is replaced whole or left as it was.
    ///
    /// # Errors
    /// [`isograd_core::Error::Uninitialized`]; [`isograd_core::Error::Io`].
    fn save_parameters(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.save_parameters_with(path, SaveOptions::default())
    }

    /// [`Parameters::save_parameters`] with a choice of what becomes of shared parameters.
    ///
    /// # Errors
    /// As [`Parameters::save_parameters`].
    fn save_parameters_with(&self, path: impl AsRef<Path>, options: SaveOptions) -> Result<()>
    where
        Self: Sized,
    {
        serialize::save(&self.collect_params(), path.as_ref(), options)
    }

    /// Reads parameters that [`Parameters::save_parameters`], or Gluon, wrote. Those that have no values get them on `ctx`;
    /// others keep their contexts. Nothing changes unless everything fits.
    ///
    /// # Errors
    /// [`isograd_core::Error::Parameter`] naming a parameter that is missing, left over, of another shape or dtype, or shared
    /// where the file has different arrays;
    /// [`isograd_core::Error::File`]; [`isograd_core::Error::Io`].
    fn load_parameters(&self, path: impl AsRef<Path>, ctx: &B) -> Result<()>
    where
        Self: Sized,
    {
        self.load_parameters_with(path, ctx, LoadOptions::default())
    }

    /// [`Parameters::load_parameters`] of a file that may lack parameters, have others, or other dtypes.
    ///
    /// # Errors
    /// As [`Parameters::load_parameters`], less what `options` allow.
    fn load_parameters_with(&self, path: impl AsRef<Path>, ctx: &B, options: LoadOptions) -> Result<()>
    where
        Self: Sized,
    {
        serialize::load(&self.collect_params(), path.as_ref(), ctx, &options, "")
    }
}

/// Is shown the parts of a block by [`Parameters::visit`].
pub trait Visitor<B: Backend> {
    /// The value visited is a parameter.
    fn parameter(&mut self, parameter: &Parameter<B>);
    /// The value visited has a part of this name. To go on into it, the visitor calls its `visit`.
    fn child(&mut self, name: &str, child: &dyn Parameters<B>);
}

/// Collects parameters by path, and names those that nobody has named.
struct Collector<B: Backend> {
    path: String,
    /// The block that the parameters are of, and where its path ends.
    owner: Owner,
    found: Vec<(String, Parameter<B>)>,
    /// For each parameter found the name that it had.
    old_names: Vec<String>,
}

#[derive(Default)]
struct Owner {
    /// What it prints, of which the name is the beginning.
    label: String,
    /// What the names of its parameters begin with, as soon as it is known.
    prefix: String,
    path: usize,
}

impl Owner {
    fn of<B: Backend>(block: &(impl Parameters<B> + ?Sized), path: &str) -> Option<Owner> {
        Some(Owner { label: block.label()?, prefix: block.prefix(), path: path.len() })
    }
}

impl<B: Backend> Collector<B> {
    fn of(root: &(impl Parameters<B> + ?Sized)) -> Self {
        let owner = Owner::of(root, "").unwrap_or_default();
        let mut collector = Collector { path: String::new(), owner, found: vec![], old_names: vec![] };
        root.visit(&mut collector);
        collector
    }
}

impl<B: Backend> Visitor<B> for Collector<B> {
    fn parameter(&mut self, parameter: &Parameter<B>) {
        parameter.note_path(&self.path);
        let name = parameter.name();
        // One that is called like its field, in every block of this type, gets a name as Gluon would give it.
        if !name.is_empty() && self.path[self.owner.path..].trim_start_matches('.') == name {
            if self.owner.prefix.is_empty() {
                let kind = self.owner.label.split('(').next().unwrap_or_default();
                let kind: String = kind.chars().filter(|c| c.is_alphanumeric()).collect();
                self.owner.prefix = naming::prefix(&kind.to_lowercase());
            }
            parameter.rename(format!("{}{name}", self.owner.prefix));
        }
        self.found.push((self.path.clone(), parameter.clone()));
        self.old_names.push(name);
    }

    fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
        let before = push(&mut self.path, name);
        match Owner::of(child, &self.path) {
            Some(owner) => {
                let outer = std::mem::replace(&mut self.owner, owner);
                child.visit(self);
                self.owner = outer;
            }
            None => child.visit(self),
        }
        self.path.truncate(before);
    }
}

/// Goes on to `name` within `path`; gives the length to come back to.
pub(crate) fn push(path: &mut String, name: &str) -> usize {
    let before = path.len();
    if before > 0 {
        path.push('.');
    }
    path.push_str(name);
    before
}

/// Calls `f` with path and block for every block within `root`, the inner ones before those that hold them if `inner_first`,
/// and last or first with the root, whose path is empty.
pub(crate) fn each_block<B: Backend>(
    root: &dyn Parameters<B>,
    inner_first: bool,
    f: &mut dyn FnMut(&str, &dyn Parameters<B>),
) {
    struct Walk<'a, B: Backend>(String, bool, &'a mut dyn FnMut(&str, &dyn Parameters<B>));
    impl<B: Backend> Walk<'_, B> {
        fn go(&mut self, block: &dyn Parameters<B>, is_block: bool) {
            if is_block && !self.1 {
                (self.2)(&self.0, block);
            }
            block.visit(self);
            if is_block && self.1 {
                (self.2)(&self.0, block);
            }
        }
    }
    impl<B: Backend> Visitor<B> for Walk<'_, B> {
        fn parameter(&mut self, _: &Parameter<B>) {}

        fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
            let before = push(&mut self.0, name);
            self.go(child, child.label().is_some());
            self.0.truncate(before);
        }
    }
    Walk(String::new(), inner_first, f).go(root, true);
}

/// The error of a forward pass with the place of the parameter within `block`, the outermost block that knows of it.
pub(crate) fn located<B: Backend>(error: Error, block: &(impl Parameters<B> + ?Sized)) -> Error {
    match error {
        Error::Uninitialized { name, path, why } => {
            let all = Collector::of(block);
            match all.old_names.iter().position(|old| *old == name) {
                Some(at) => {
                    let (here, parameter) = &all.found[at];
                    Error::Uninitialized { name: parameter.name(), path: Some(here.clone()), why }
                }
                None => Error::Uninitialized { name, path, why },
            }
        }
        other => other,
    }
}

impl<B: Backend> Parameters<B> for Parameter<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.parameter(self);
    }
}

fn visit_list<'a, B: Backend, T: Parameters<B> + 'a>(
    items: impl IntoIterator<Item = &'a T>,
    visitor: &mut dyn Visitor<B>,
) {
    items.into_iter().enumerate().for_each(|(i, item)| visitor.child(&i.to_string(), item));
}

impl<B: Backend, T: Parameters<B>> Parameters<B> for Vec<T> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visit_list(self, visitor);
    }
}

impl<B: Backend, T: Parameters<B>, const N: usize> Parameters<B> for [T; N] {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visit_list(self, visitor);
    }
}

impl<B: Backend, T: Parameters<B>> Parameters<B> for Option<T> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        if let Some(inner) = self {
            inner.visit(visitor);
        }
    }

    fn label(&self) -> Option<String> {
        self.as_ref().and_then(T::label)
    }

    fn id(&self) -> BlockId {
        self.as_ref().map_or(BlockId { address: 0, kind: "None" }, T::id)
    }
}

macro_rules! pointers {
    ($([$($lifetime:tt)*] $pointer:ty;)*) => { $(
        impl<$($lifetime)* B: Backend, T: Parameters<B> + ?Sized> Parameters<B> for $pointer {
            stands_for!();
        }

        impl<$($lifetime)* B: Backend, X: ?Sized, Y, T: Block<B, X, Y> + ?Sized> Block<B, X, Y> for $pointer {
            fn forward(&self, x: &X) -> Result<Y> {
                (**self).forward(x)
            }

            fn child(&self, index: usize) -> Option<&AnyBlock<B>> {
                (**self).child(index)
            }
        }
    )* };
}
pointers! {
    [] Box<T>;
    [] Arc<T>;
    ['a,] &'a T;
}

impl<B: Backend, K: ToString + Ord, T: Parameters<B>> Parameters<B> for BTreeMap<K, T> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.iter().for_each(|(key, item)| visitor.child(&key.to_string(), item));
    }
}

/// In the order of the keys, so that it does not change from run to run.
impl<B: Backend, K: ToString + Ord, T: Parameters<B>, S> Parameters<B> for HashMap<K, T, S> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        let ordered: BTreeMap<&K, &T> = self.iter().collect();
        ordered.iter().for_each(|(key, item)| visitor.child(&key.to_string(), *item));
    }
}

macro_rules! tuples {
    ($($($name:ident $index:tt)*;)*) => { $(
        impl<B: Backend, $($name: Parameters<B>),*> Parameters<B> for ($($name,)*) {
            fn visit(&self, visitor: &mut dyn Visitor<B>) {
                $(visitor.child(stringify!($index), &self.$index);)*
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

macro_rules! without_parameters {
    ($($type:ty)*) => { $(
        impl<B: Backend> Parameters<B> for $type {
            fn visit(&self, _: &mut dyn Visitor<B>) {}
        }
    )* };
}
without_parameters!(() bool char usize isize u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 str String DType);

impl<B: Backend, T> Parameters<B> for PhantomData<T> {
    fn visit(&self, _: &mut dyn Visitor<B>) {}
}
