//! Exchange with the `ndarray` crate (feature `ndarray`).

use super::Tensor;
use crate::{Backend, Element, Error, Result};
use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};

impl<B: Backend> Tensor<B> {
    /// A tensor with the shape and elements of `array`, whatever its layout.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let a = ndarray::arr2(&[[1.0f32, 2.0], [3.0, 4.0]]);
    /// let x = Tensor::from_ndarray(&ctx, &a.t())?;
    /// assert_eq!(x.to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
    /// assert_eq!(x.to_ndarray::<f32>()?, a.t().into_dyn());
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_ndarray<T: Element, S: Data<Elem = T>, D: Dimension>(
        ctx: &B,
        array: &ArrayBase<S, D>,
    ) -> Result<Tensor<B>> {
        let elements: Vec<T> = array.iter().copied().collect();
        Tensor::from_slice(ctx, &elements, array.shape())
    }

    /// The elements as an array of the same shape, in row-major order.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn to_ndarray<T: Element>(&self) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(self.shape()), self.to_vec()?)
            .map_err(|e| Error::invalid("to_ndarray", e.to_string()))
    }
}
