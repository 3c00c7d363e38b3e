//! The two traits that networks are made of: [`Parameters`], which finds parameters, and [`Block`], which computes.

use crate::{Initializer, LoadOptions, Parameter, SaveOptions, serialize};
use isograd_core::{Backend, DType, Dyn, Result, Tensor};
use std::{collections::HashSet, fmt, marker::PhantomData, path::Path, sync::Arc};

/// Something that computes a tensor from a tensor: a layer, or a network of them.
///
/// ```
/// use isograd_core::{Backend, Result, Tensor};
/// use isograd_nn::{Block, Dense, Parameters, initializers::Xavier};
///
/// #[derive(Parameters)]
/// struct Residual<B: Backend> { body: Dense<B>, scale: f64 }
///
/// impl<B: Backend> Block<B> for Residual<B> {
///     fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
///         x.add(&self.body.forward(x)?.mul_scalar(self.scale)?)
///     }
/// }
/// # let ctx = isograd_reference::Reference;
/// let net = Residual { body: Dense::new(3), scale: 0.1 };
/// net.initialize(Xavier::default(), &ctx)?;
/// let x = Tensor::ones(&ctx, [2, 3], isograd_core::DType::F32)?;
/// assert_eq!(net.forward(&x)?.shape(), &[2, 3]);
/// assert_eq!(net.collect_params().paths(), ["body.weight", "body.bias"]);
/// # Ok::<(), isograd_core::Error>(())
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
}

/// Something that holds parameters, itself or in parts that do. `#[derive(Parameters)]` writes [`Parameters::visit`] and
/// [`Parameters::label`] for structs; the rest is provided.
///
/// Fields may be parameters, blocks, numbers and strings, and `Vec`, `Option`, arrays, `Box` and `Arc` of them; a field of
/// another type is marked `#[parameters(skip)]`. A struct without a `Backend` parameter holds parameters of [`Dyn`], or of
/// what `#[parameters(backend = ...)]` names.
///
/// A field of any other type does not compile, so that no parameter is forgotten:
///
/// ```compile_fail,E0277
/// #[derive(isograd_nn::Parameters)]
/// struct Net { layer: isograd_nn::Dense, since: std::time::Instant }
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

    /// All parameters with their structural paths (`0.weight`, `body.0.bias`), in the order of the structure. One that is
    /// shared is there once per place.
    fn collect_params(&self) -> ParameterDict<B> {
        let mut collector = Collector { path: String::new(), found: Vec::new() };
        self.visit(&mut collector);
        ParameterDict { entries: collector.found }
    }

    /// Gives all parameters values on `ctx`: by their own initializer where they have one, by `initializer` otherwise; those
    /// whose shape is not known, in the first forward pass. Parameters that were initialized before are left as they are.
    ///
    /// # Errors
    /// What the initializers and the device report.
    fn initialize(&self, initializer: impl Initializer<B> + 'static, ctx: &B) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().initialize(initializer, ctx, false)
    }

    /// [`Parameters::initialize`] on several contexts, with the same values on each.
    ///
    /// # Errors
    /// As [`Parameters::initialize`]; [`isograd_core::Error::InvalidArgument`] for no contexts, and for one that is named
    /// twice.
    fn initialize_on(&self, initializer: impl Initializer<B> + 'static, contexts: &[B]) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().initialize_on(initializer, contexts, false)
    }

    /// [`Parameters::initialize`], also of those that were initialized before.
    ///
    /// # Errors
    /// As [`Parameters::initialize`].
    fn force_reinit(&self, initializer: impl Initializer<B> + 'static, ctx: &B) -> Result<()>
    where
        Self: Sized,
    {
        self.collect_params().initialize(initializer, ctx, true)
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
    /// [`isograd_core::Error::Parameter`] naming a parameter that is missing, left over, or of another shape or dtype;
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

struct Collector<B: Backend> {
    path: String,
    found: Vec<(String, Parameter<B>)>,
}

impl<B: Backend> Visitor<B> for Collector<B> {
    fn parameter(&mut self, parameter: &Parameter<B>) {
        self.found.push((self.path.clone(), parameter.clone()));
    }

    fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        child.visit(self);
        self.path.truncate(before);
    }
}

/// Parameters by structural path, in the order of the network.
#[derive(Clone)]
pub struct ParameterDict<B: Backend = Dyn> {
    entries: Vec<(String, Parameter<B>)>,
}

impl<B: Backend> ParameterDict<B> {
    /// Paths and parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter<B>)> {
        self.entries.iter().map(|(path, p)| (path.as_str(), p))
    }

    /// The paths in order.
    pub fn paths(&self) -> Vec<&str> {
        self.iter().map(|(path, _)| path).collect()
    }

    /// The parameter at `path`.
    pub fn get(&self, path: &str) -> Option<&Parameter<B>> {
        self.iter().find(|(p, _)| *p == path).map(|(_, p)| p)
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each parameter once, under the first of its paths.
    #[must_use]
    pub fn unique(&self) -> ParameterDict<B> {
        let mut seen = HashSet::new();
        let entries = self.entries.iter().filter(|(_, p)| seen.insert(p.identity())).cloned().collect();
        ParameterDict { entries }
    }

    /// Gives all parameters values; see [`Parameters::initialize`].
    ///
    /// # Errors
    /// What the initializers and the device report.
    pub fn initialize(&self, default: impl Initializer<B> + 'static, ctx: &B, force_reinit: bool) -> Result<()> {
        let default: Arc<dyn Initializer<B>> = Arc::new(default);
        self.unique().iter().try_for_each(|(_, p)| p.initialize_default(&default, ctx, force_reinit))
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// As [`Parameter::zero_grad`].
    pub fn zero_grad(&self) -> Result<()> {
        self.iter().try_for_each(|(_, p)| p.zero_grad())
    }
}

impl<B: Backend> fmt::Debug for ParameterDict<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
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
}

macro_rules! pointers {
    ($($pointer:ident)*) => { $(
        impl<B: Backend, T: Parameters<B> + ?Sized> Parameters<B> for $pointer<T> {
            fn visit(&self, visitor: &mut dyn Visitor<B>) {
                (**self).visit(visitor);
            }

            fn label(&self) -> Option<String> {
                (**self).label()
            }
        }

        impl<B: Backend, X: ?Sized, Y, T: Block<B, X, Y> + ?Sized> Block<B, X, Y> for $pointer<T> {
            fn forward(&self, x: &X) -> Result<Y> {
                (**self).forward(x)
            }
        }
    )* };
}
pointers!(Box Arc);

macro_rules! without_parameters {
    ($($type:ty)*) => { $(
        impl<B: Backend> Parameters<B> for $type {
            fn visit(&self, _: &mut dyn Visitor<B>) {}
        }
    )* };
}
without_parameters!(bool usize isize u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 String &'static str DType);

impl<B: Backend, T> Parameters<B> for PhantomData<T> {
    fn visit(&self, _: &mut dyn Visitor<B>) {}
}
