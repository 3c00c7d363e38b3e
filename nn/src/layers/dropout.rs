//! [`Dropout`]: elements set to zero at random while training.

use super::tuple;
use crate::{Block, Parameters, Visitor, hooks, options};
use isograd_core::{Backend, Result, Tensor, autograd};

/// In train mode each element is zero with probability `rate`, else divided by 1 - `rate`; in predict mode nothing changes
/// (Srivastava et al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, JMLR 2014).
///
/// ```
/// use isograd::{DType, Tensor, autograd, operators::random};
/// use isograd::nn::{Block, Dropout};
/// let ctx = isograd::device("cpu")?;
/// random::seed(1);
/// let x = Tensor::ones(&ctx, [1000], DType::F32)?;
/// let layer = Dropout::new(0.25);
/// assert_eq!(layer.forward(&x)?.to_vec::<f32>()?, vec![1.0; 1000]);
/// let dropped = autograd::train_mode(|| layer.forward(&x))?.to_vec::<f32>()?;
/// let zeros = dropped.iter().filter(|&&v| v == 0.0).count();
/// assert!((200..300).contains(&zeros) && dropped.iter().all(|&v| v == 0.0 || v == 4.0 / 3.0));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    axes: Vec<usize>,
}

impl Dropout {
    /// Drops each element with probability `rate`, at least 0 and below 1; another is refused by the forward pass.
    pub fn new(rate: f64) -> Dropout {
        Dropout { rate, axes: Vec::new() }
    }

    /// Axes along which all elements share one fate.
    #[must_use]
    pub fn axes(mut self, axes: &[usize]) -> Self {
        self.axes = axes.to_vec();
        self
    }
}

impl<B: Backend> Parameters<B> for Dropout {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(format!("Dropout(p = {}, axes={})", self.rate, tuple(&self.axes)))
    }
}

impl<B: Backend> Block<B> for Dropout {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

/// `x`, in train mode with elements dropped at this rate: what layers with an option `dropout` do.
pub(crate) fn dropped<B: Backend>(op: &'static str, x: &Tensor<B>, rate: f64) -> Result<Tensor<B>> {
    options::share(op, "dropout", rate)?;
    if rate > 0.0 && autograd::is_training() { x.dropout(rate) } else { Ok(x.clone()) }
}

impl Dropout {
    fn compute<B: Backend>(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        options::share("Dropout", "rate", self.rate)?;
        if let Some(&axis) = self.axes.iter().find(|&&axis| axis >= x.rank()) {
            super::size_of_axis("Dropout", x, axis as isize)?;
        }
        if !autograd::is_training() || self.rate == 0.0 {
            return Ok(x.clone());
        }
        if self.axes.is_empty() {
            return x.dropout(self.rate);
        }
        let sizes: Vec<usize> =
            x.shape().iter().enumerate().map(|(i, &n)| if self.axes.contains(&i) { 1 } else { n }).collect();
        x.mul(&Tensor::ones(x.ctx(), &sizes, x.dtype())?.dropout(self.rate)?)
    }
}
