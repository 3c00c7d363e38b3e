//! [`picture`]: the recorded graph of a network's result, its parameters by path.

use crate::ParameterDict;
use isograd_core::{Backend, Result, Tensor, autograd::Picture};

/// The recorded graph that `head` was computed by, with the variables that are `parameters` called by their paths; as DOT or
/// SVG.
///
/// ```
/// use isograd::{DType, Tensor, autograd};
/// use isograd::nn::{Activation, Block, Dense, Parameters, initializers::One, picture};
/// let ctx = isograd::device("cpu")?;
/// let net = Dense::new(2).activation(Activation::Tanh);
/// net.initialize(One, &ctx)?;
/// let y = autograd::record(|| net.forward(&Tensor::ones(&ctx, [1, 3], DType::F32)?))?;
/// let picture = picture(&y, &net.collect_params())?;
/// assert!(picture.dot().contains("weight") && picture.svg().contains("tanh"));
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`isograd_core::Error::NotRecorded`] for a tensor without a graph.
pub fn picture<B: Backend>(head: &Tensor<B>, parameters: &ParameterDict<B>) -> Result<Picture> {
    let mut picture = Picture::of(head)?;
    for (path, parameter) in parameters.unique().iter() {
        if let Ok(replicas) = parameter.list_data() {
            picture = replicas.iter().fold(picture, |picture, tensor| picture.name(tensor, path));
        }
    }
    Ok(picture)
}
