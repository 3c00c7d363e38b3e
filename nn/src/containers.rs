//! Containers beside [`Sequential`](crate::Sequential): [`Concurrent`], [`Residual`]; and blocks without parts: [`Lambda`],
//! [`Identity`].

use crate::{
    AnyBlock, Block, Parameters, Visitor,
    block::{child, located},
    describe::print_blocks,
    hooks::{self, Tensors},
    sequential::Children,
};
use isograd_core::{Backend, Dyn, Error, Result, Tensor};
use std::{fmt, ops::Index, sync::Arc};

/// All blocks get the same input; their outputs are joined along an axis. Gluon's `contrib.nn.Concurrent`, the paths of an
/// Inception block.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Concurrent, Dense, Identity, Parameters, initializers::One};
/// let ctx = isograd::device("cpu")?;
/// let mut net = Concurrent::new(1);
/// net.add(Dense::new(2)).add(Identity);
/// net.initialize(One, &ctx)?;
/// let x = Tensor::ones(&ctx, [1, 3], DType::F32)?;
/// assert_eq!(net.forward(&x)?.to_vec::<f32>()?, [3.0, 3.0, 1.0, 1.0, 1.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Concurrent<B: Backend = Dyn> {
    axis: isize,
    children: Children<B>,
}

impl<B: Backend> Concurrent<B> {
    /// No blocks yet; outputs are joined along `axis`, which may count from the end.
    pub fn new(axis: isize) -> Concurrent<B> {
        Concurrent { axis, children: Children::default() }
    }

    /// Adds a block.
    pub fn add(&mut self, block: impl Block<B> + 'static) -> &mut Self {
        self.children.add(block);
        self
    }

    /// Adds a block that has `name` in paths instead of its place.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that another block has, that has dots, or that is a number or empty.
    pub fn add_named(&mut self, name: &str, block: impl Block<B> + 'static) -> Result<&mut Self> {
        self.children.add_named("Concurrent::add_named", name, block)?;
        Ok(self)
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blocks in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyBlock<B>> + ExactSizeIterator {
        self.children.iter()
    }
}

impl<B: Backend> Index<usize> for Concurrent<B> {
    type Output = AnyBlock<B>;

    /// The block at `index`.
    ///
    /// # Panics
    /// Panics when there is none; [`Block::child`] does not.
    fn index(&self, index: usize) -> &AnyBlock<B> {
        child(self, index)
    }
}

impl<B: Backend> Parameters<B> for Concurrent<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.children.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        Some(if self.is_empty() { "Concurrent(\n\n)".into() } else { "Concurrent".into() })
    }
}

impl<B: Backend> Block<B> for Concurrent<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            if self.is_empty() {
                return Err(Error::invalid("Concurrent", "there are no blocks whose outputs could be joined"));
            }
            let outputs: Result<Vec<_>> = self.iter().map(|block| block.call(x)).collect();
            let outputs = outputs.map_err(|e| located(e, self))?;
            Tensor::concat(&outputs.iter().collect::<Vec<_>>(), self.axis)
        })
    }

    fn child(&self, index: usize) -> Option<&AnyBlock<B>> {
        self.children.get(index)
    }
}

/// What `body` makes of the input, added to the input, or to what `shortcut` makes of it (He et al., arXiv:1512.03385).
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Dense, Parameters, Residual, initializers::One};
/// let ctx = isograd::device("cpu")?;
/// let net = Residual::new(Dense::new(3));
/// net.initialize(One, &ctx)?;
/// let x = Tensor::ones(&ctx, [1, 3], DType::F32)?;
/// assert_eq!(net.forward(&x)?.to_vec::<f32>()?, [4.0; 3]);
/// let wider: Residual = Residual::new(Dense::new(8)).shortcut(Dense::new(8).use_bias(false));
/// assert_eq!(wider.collect_params().paths(), ["body.weight", "body.bias", "shortcut.weight"]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Residual<B: Backend = Dyn> {
    body: Arc<dyn Block<B>>,
    shortcut: Option<Arc<dyn Block<B>>>,
}

impl<B: Backend> Residual<B> {
    /// The input is added as it is.
    pub fn new(body: impl Block<B> + 'static) -> Residual<B> {
        Residual { body: Arc::new(body), shortcut: None }
    }

    /// What the input goes through before it is added, where its shape is not that of the body's output.
    #[must_use]
    pub fn shortcut(mut self, shortcut: impl Block<B> + 'static) -> Self {
        self.shortcut = Some(Arc::new(shortcut));
        self
    }
}

impl<B: Backend> Parameters<B> for Residual<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("body", &self.body);
        if let Some(shortcut) = &self.shortcut {
            visitor.child("shortcut", shortcut);
        }
    }

    fn label(&self) -> Option<String> {
        Some("Residual".into())
    }
}

impl<B: Backend> Block<B> for Residual<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            let body = self.body.call(x);
            let shortcut = self.shortcut.as_ref().map_or(Ok(x.clone()), |s| s.call(x));
            let (body, shortcut) = body.and_then(|body| Ok((body, shortcut?))).map_err(|e| located(e, self))?;
            if body.shape() != shortcut.shape() {
                return Err(Error::ShapeMismatch {
                    op: "Residual",
                    left: body.shape().clone(),
                    right: shortcut.shape().clone(),
                    why: "the body's output and what is added must have one shape; give a shortcut that changes it"
                        .into(),
                    device: x.ctx().name(),
                });
            }
            body.add(&shortcut)
        })
    }
}

/// A function as a block, from any input to any output. It prints its name.
///
/// ```
/// use isograd::{Backend, Result, Tensor};
/// use isograd::nn::{Block, Dense, Lambda, Sequential};
/// let ctx = isograd::device("cpu")?;
/// let mut net = Sequential::new();
/// net.add(Lambda::new(|x: &Tensor<_>| x.mul_scalar(2.0))).add(Lambda::named("plus one", |x: &Tensor<_>| x + 1.0));
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2])?;
/// assert_eq!(net.forward(&x)?.to_vec::<f32>()?, [3.0, 5.0]);
/// assert_eq!(net.to_string(), "Sequential(\n  (0): Lambda(<lambda>)\n  (1): Lambda(plus one)\n)");
///
/// let sum = Lambda::new(|(a, b): &(Tensor<_>, Tensor<_>)| a.add(b));
/// assert_eq!(sum.forward(&(x.clone(), x))?.to_vec::<f32>()?, [2.0, 4.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct Lambda<X, Y> {
    name: String,
    function: Arc<Function<X, Y>>,
}

type Function<X, Y> = dyn Fn(&X) -> Result<Y> + Send + Sync;

/// What a function of [`Lambda`] gives: the output, or a `Result` of it.
pub trait IntoResult<Y> {
    /// As a `Result`.
    ///
    /// # Errors
    /// The error that it is.
    fn into_result(self) -> Result<Y>;
}

impl<Y> IntoResult<Y> for Result<Y> {
    fn into_result(self) -> Result<Y> {
        self
    }
}

impl<B: Backend> IntoResult<Tensor<B>> for Tensor<B> {
    fn into_result(self) -> Result<Tensor<B>> {
        Ok(self)
    }
}

impl<X, Y> Lambda<X, Y> {
    /// A function without a name, which prints `<lambda>`.
    pub fn new<R: IntoResult<Y>>(function: impl Fn(&X) -> R + Send + Sync + 'static) -> Lambda<X, Y> {
        Lambda::named("<lambda>", function)
    }

    /// A function with a name.
    pub fn named<R: IntoResult<Y>>(
        name: impl Into<String>,
        function: impl Fn(&X) -> R + Send + Sync + 'static,
    ) -> Lambda<X, Y> {
        Lambda { name: name.into(), function: Arc::new(move |x| function(x).into_result()) }
    }
}

impl<X, Y> Clone for Lambda<X, Y> {
    fn clone(&self) -> Self {
        Lambda { name: self.name.clone(), function: self.function.clone() }
    }
}

impl<X, Y> fmt::Display for Lambda<X, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lambda({})", self.name)
    }
}

impl<X, Y> fmt::Debug for Lambda<X, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<B: Backend, X, Y> Parameters<B> for Lambda<X, Y> {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<B: Backend, X: Tensors<B>, Y: Tensors<B>> Block<B, X, Y> for Lambda<X, Y> {
    fn forward(&self, x: &X) -> Result<Y> {
        hooks::observe(Parameters::<B>::id(self), x, || (self.function)(x))
    }
}

/// The output is the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity;

impl<B: Backend> Parameters<B> for Identity {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("Identity".into())
    }
}

impl<B: Backend, X: Clone + Tensors<B>> Block<B, X, X> for Identity {
    fn forward(&self, x: &X) -> Result<X> {
        hooks::observe(Parameters::<B>::id(self), x, || Ok(x.clone()))
    }
}

print_blocks! {
    impl [B: Backend] Concurrent<B>;
    impl [B: Backend] Residual<B>;
}

print_blocks! {
    display impl [] Identity;
}
