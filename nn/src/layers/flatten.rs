//! [`Flatten`]: all axes but the first made one.

use crate::{Block, Parameters, Visitor, hooks};
use isograd_core::{Backend, Error, Result, Shape, Tensor};

/// `[batch, ..]` to `[batch, the product of the rest]`; memory is shared.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Flatten};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::ones(&ctx, [2, 3, 4], DType::F32)?;
/// assert_eq!(Flatten.forward(&x)?.shape(), &[2, 12]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl<B: Backend> Parameters<B> for Flatten {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("Flatten".into())
    }
}

impl<B: Backend> Block<B> for Flatten {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl Flatten {
    fn compute<B: Backend>(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let Some((&batch, rest)) = x.shape().split_first() else {
            return Err(Error::InvalidShape {
                op: "Flatten",
                shape: x.shape().clone(),
                why: "the input needs a batch axis: [batch, ..]".into(),
                device: x.ctx().name(),
            });
        };
        x.reshape(&Shape::from([batch, rest.iter().product()]))
    }
}
