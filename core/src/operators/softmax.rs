//! Softmax and its logarithm.

use crate::{Backend, Result, Tensor, autograd::Recorder};
use smallvec::smallvec;

impl<B: Backend> Tensor<B> {
    fn softmax_raw(&self, op: &'static str, logarithm: bool, axis: isize) -> Result<Tensor<B>> {
        self.need_float(op)?;
        let at = self.axis(op, axis)?;
        self.need_computable(op, self.dtype())?;
        let output = self.along_last(at, self.dtype(), |x, mut y| self.ctx().softmax(logarithm, &x, &mut y))?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let y = recorder.output(&output);
            let (d, axis) = (self.dtype(), at as isize);
            recorder.finish(op, &output, move |head, context| {
                // In the dtype that is computed in: the sum of the heads could overflow f16 where the gradient does not.
                let (head, y) = (head.cast(d.compute())?, y.get(context)?.cast(d.compute())?);
                let gradient = if logarithm {
                    head.sub(&y.exp()?.mul(&head.sum(axis, true)?)?)?
                } else {
                    y.mul(&head.sub(&head.mul(&y)?.sum(axis, true)?)?)?
                };
                Ok(smallvec![Some(gradient.cast(d)?)])
            });
        }
        Ok(output)
    }

    /// e^x / Σ e^x along `axis`, without overflow.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[1000.0f32, 1000.0], [2])?;
    /// assert_eq!(x.softmax(-1)?.to_vec::<f32>()?, [0.5, 0.5]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::AxisOutOfRange`]; [`crate::Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn softmax(&self, axis: isize) -> Result<Tensor<B>> {
        self.softmax_raw("softmax", false, axis)
    }

    /// x - ln Σ e^x along `axis`: the logarithm of [`Tensor::softmax`], accurate where that underflows.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    pub fn log_softmax(&self, axis: isize) -> Result<Tensor<B>> {
        self.softmax_raw("log_softmax", true, axis)
    }

    /// [`Tensor::softmax`] of x / temperature.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    pub fn softmax_with_temperature(&self, axis: isize, temperature: f64) -> Result<Tensor<B>> {
        self.div_scalar(temperature)?.softmax(axis)
    }

    /// [`Tensor::log_softmax`] of x / temperature.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    pub fn log_softmax_with_temperature(&self, axis: isize, temperature: f64) -> Result<Tensor<B>> {
        self.div_scalar(temperature)?.log_softmax(axis)
    }
}
