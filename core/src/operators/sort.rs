//! Sorting, and the largest few.

use crate::{Backend, DType, Error, Result, Tensor};

impl<B: Backend> Tensor<B> {
    /// The positions (i64) that sort `axis`: stable, NaN last in either direction.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; what the device reports.
    pub fn argsort(&self, axis: isize, descending: bool) -> Result<Tensor<B>> {
        let at = self.axis("argsort", axis)?;
        self.need_computable("argsort", self.dtype())?;
        self.detach().along_last(at, DType::I64, |x, mut y| self.ctx().argsort(descending, &x, &mut y))
    }

    /// `axis` sorted: stable, NaN last in either direction.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[3.0f32, 1.0, 2.0], [3])?;
    /// assert_eq!(x.sort(0, true)?.to_vec::<f32>()?, [3.0, 2.0, 1.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::argsort`].
    pub fn sort(&self, axis: isize, descending: bool) -> Result<Tensor<B>> {
        self.gather(axis, &self.argsort(axis, descending)?)
    }

    /// The `k` largest (or smallest) elements along `axis`, in order, and their positions (i64).
    ///
    /// # Errors
    /// As [`Tensor::argsort`]; [`Error::InvalidArgument`] when there are fewer than `k`.
    pub fn topk(&self, k: usize, axis: isize, largest: bool) -> Result<(Tensor<B>, Tensor<B>)> {
        let at = self.axis("topk", axis)?;
        if k > self.shape()[at] {
            return Err(Error::invalid(
                "topk",
                format!("axis {at} of shape {:?} has fewer than {k} elements", self.shape()),
            ));
        }
        let positions = self.argsort(axis, largest)?.narrow(axis, 0, k)?;
        Ok((self.gather(axis, &positions)?, positions))
    }
}
