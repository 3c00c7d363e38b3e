//! Batches over several contexts: [`split_data`] and [`split_and_load`].
//!
//! Data-parallel training is: parameters on several contexts (`net.initialize(initializer, &contexts)`), each batch split over them, a forward and
//! a backward pass on each, and [`crate::Trainer::step`], which adds up the gradients.

use isograd_core::{Backend, Error, Result, Tensor, host};

/// Cuts `data` along `batch_axis` into `parts`. With `even_split` they must be of one size; otherwise the first ones have one
/// more where it does not come out even, as in Gluon, and with fewer rows than parts the last ones are empty.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::parallel::split_data;
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::zeros(&ctx, [5, 2], DType::F32)?;
/// let sizes: Vec<usize> = split_data(&x, 2, 0, false)?.iter().map(|part| part.shape()[0]).collect();
/// assert_eq!(sizes, [3, 2]);
/// assert!(split_data(&x, 2, 0, true).unwrap_err().to_string().contains("even_split"));
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] for no parts; [`Error::InvalidShape`] when parts must be even and cannot be;
/// [`Error::AxisOutOfRange`].
pub fn split_data<B: Backend>(
    data: &Tensor<B>,
    parts: usize,
    batch_axis: usize,
    even_split: bool,
) -> Result<Vec<Tensor<B>>> {
    const OP: &str = "split_data";
    if parts == 0 {
        return Err(Error::invalid(OP, "the batch cannot be cut into 0 parts; name at least one context"));
    }
    let (shape, device) = (data.shape().clone(), data.ctx().name());
    if batch_axis >= data.rank() {
        let rank = data.rank();
        return Err(Error::AxisOutOfRange { op: OP, axis: batch_axis as isize, rank, shape, device });
    }
    let (each, extra) = (shape[batch_axis] / parts, shape[batch_axis] % parts);
    if even_split && extra != 0 {
        let why = format!(
            "axis {batch_axis} cannot be cut into {parts} even parts; use a batch size that is a multiple of {parts}, or \
             set even_split to false"
        );
        return Err(Error::InvalidShape { op: OP, shape, why, device });
    }
    // Most of what a part takes is not in the list: its handle and its layout.
    drop(host::reserve::<[u8; 256]>(OP, parts)?);
    let (mut pieces, mut start) = (host::reserve(OP, parts)?, 0);
    for part in 0..parts {
        let length = each + usize::from(part < extra);
        pieces.push(data.narrow(batch_axis as isize, start, length)?);
        start += length;
    }
    Ok(pieces)
}

/// [`split_data`] into one part per context, each moved there.
///
/// ```
/// use isograd::{Backend, Dyn, Tensor};
/// use isograd::nn::parallel::split_and_load;
/// use isograd_reference::Reference;
/// let other = Dyn::new(Reference);
/// let ctx = Dyn::new(isograd::Cpu::default());
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0, 4.0], [4])?;
/// let parts = split_and_load(&x, &[ctx.clone(), other.clone()], 0, true)?;
/// assert_eq!(parts[1].ctx(), &other);
/// assert_eq!(parts[1].to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// As [`split_data`]; what the devices report.
pub fn split_and_load<B: Backend, C: Backend>(
    data: &Tensor<B>,
    contexts: &[C],
    batch_axis: usize,
    even_split: bool,
) -> Result<Vec<Tensor<C>>> {
    let parts = split_data(data, contexts.len(), batch_axis, even_split)?;
    parts.iter().zip(contexts).map(|(part, ctx)| part.as_in_context(ctx)).collect()
}
