//! [`Transform`]: what becomes of a sample, or of a part of it; and chains of them.

use super::Generator;
use isograd_core::Result;
use std::fmt;

/// A function of a value and of random numbers. Closures are transforms too.
///
/// ```
/// use isograd::Result;
/// use isograd::nn::data::{Generator, Transform, vision::{Image, RandomFlipLeftRight, ToTensor}};
/// use rand::SeedableRng;
///
/// let pipeline = RandomFlipLeftRight::new(1.0).then(ToTensor);
/// let image = Image::new(1, 2, 1, vec![0, 255])?;
/// let array = pipeline.apply(image, &mut Generator::seed_from_u64(1))?;
/// assert_eq!((&array.shape[..], array.to_vec::<f32>()?), (&[1, 1, 2][..], vec![1.0, 0.0]));
///
/// let double = |x: f32, _: &mut Generator| -> Result<f32> { Ok(2.0 * x) };
/// assert_eq!(double.then(double).apply(1.5, &mut Generator::seed_from_u64(1))?, 6.0);
/// # Ok::<(), isograd::Error>(())
/// ```
pub trait Transform<X>: Send + Sync + 'static {
    /// What it makes of an `X`.
    type Output: Send;

    /// What becomes of `x`. All randomness comes from `generator`.
    ///
    /// # Errors
    /// What does not fit, and why.
    fn apply(&self, x: X, generator: &mut Generator) -> Result<Self::Output>;

    /// This one, then `next`.
    fn then<T: Transform<Self::Output>>(self, next: T) -> Then<Self, T>
    where
        Self: Sized,
    {
        Then { first: self, next }
    }
}

impl<X, Y: Send, F: Fn(X, &mut Generator) -> Result<Y> + Send + Sync + 'static> Transform<X> for F {
    type Output = Y;

    fn apply(&self, x: X, generator: &mut Generator) -> Result<Y> {
        self(x, generator)
    }
}

/// One transform after another: what [`Transform::then`] gives.
#[derive(Clone, Debug)]
pub struct Then<A, B> {
    first: A,
    next: B,
}

impl<X, A: Transform<X>, B: Transform<A::Output>> Transform<X> for Then<A, B> {
    type Output = B::Output;

    fn apply(&self, x: X, generator: &mut Generator) -> Result<B::Output> {
        let between = self.first.apply(x, generator)?;
        self.next.apply(between, generator)
    }
}

/// Any number of transforms that keep the type, one after another; which ones is decided at run time.
///
/// ```
/// use isograd::nn::data::{Compose, Generator, Transform, vision::{Image, RandomFlipTopBottom, Resize}};
/// use rand::SeedableRng;
/// let larger = Compose::new().add(Resize::new(8, 6)).add(RandomFlipTopBottom::default());
/// let image = larger.apply(Image::filled(2, 2, &[9, 9, 9])?, &mut Generator::seed_from_u64(1))?;
/// assert_eq!((image.width(), image.height()), (8, 6));
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct Compose<X>(Vec<Box<dyn Transform<X, Output = X>>>);

impl<X> Compose<X> {
    /// None yet; the value stays as it is.
    pub fn new() -> Self {
        Compose(Vec::new())
    }

    /// Adds `transform` at the end.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, transform: impl Transform<X, Output = X>) -> Self {
        self.0.push(Box::new(transform));
        self
    }
}

impl<X> Default for Compose<X> {
    fn default() -> Self {
        Compose::new()
    }
}

impl<X: Send + 'static> Transform<X> for Compose<X> {
    type Output = X;

    fn apply(&self, x: X, generator: &mut Generator) -> Result<X> {
        self.0.iter().try_fold(x, |x, transform| transform.apply(x, generator))
    }
}

impl<X> fmt::Debug for Compose<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compose({} transforms)", self.0.len())
    }
}
