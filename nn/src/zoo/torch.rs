//! PyTorch's names of parameters.

use crate::LoadOptions;

/// PyTorch's name, in a `state_dict`, of the parameter at a structural path of one of this library's networks.
///
/// Γ and β of normalizing layers are its `weight` and `bias`, and the parameters of recurrent layers are turned around
/// (`l0_i2h_weight` is `weight_ih_l0`, `r0_..` has `_reverse` at its end); everything else has the same name. Layouts are the
/// same too: dense `[units, in]`, convolution `[out, in / groups, height, width]`, gates i f g o of an LSTM and r z n of a GRU.
/// PyTorch's `num_batches_tracked` has no counterpart.
///
/// ```
/// use isograd_nn::zoo::torch_name;
/// assert_eq!(torch_name("layer1.0.bn1.gamma"), "layer1.0.bn1.weight");
/// assert_eq!(torch_name("rnn.r1_h2h_bias"), "rnn.bias_hh_l1_reverse");
/// assert_eq!(torch_name("fc.weight"), "fc.weight");
/// ```
pub fn torch_name(path: &str) -> String {
    let (before, last) = path.rsplit_once('.').map_or((None, path), |(before, last)| (Some(before), last));
    let name = match last {
        "gamma" => "weight".to_string(),
        "beta" => "bias".to_string(),
        _ => recurrent(last).unwrap_or_else(|| last.to_string()),
    };
    before.map_or(name.clone(), |before| format!("{before}.{name}"))
}

/// For [`crate::Parameters::load_parameters_with`]: reads a `state_dict` of PyTorch, saved as safetensors, by [`torch_name`]. What
/// the network has no place for is ignored, `num_batches_tracked` above all; what it misses is an error.
///
/// ```
/// use isograd_core::{DType, Tensor, format};
/// use isograd_nn::{LayerNorm, Parameters, zoo};
/// # let ctx = isograd_reference::Reference;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("theirs.safetensors");
/// let (gain, shift) = (Tensor::ones(&ctx, [3], DType::F32)?, Tensor::zeros(&ctx, [3], DType::F32)?);
/// format::save_named(&path, &[("weight", &gain), ("bias", &shift)])?;
/// let net = LayerNorm::new();
/// net.load_parameters_with(&path, &ctx, zoo::torch_options())?;
/// assert_eq!(net.gamma().data()?.to_vec::<f32>()?, [1.0; 3]);
/// # Ok::<(), isograd_core::Error>(())
/// ```
pub fn torch_options() -> LoadOptions {
    LoadOptions { ignore_extra: true, ..LoadOptions::default() }.names(|path| Some(torch_name(path)))
}

/// `weight_ih_l0` for `l0_i2h_weight`.
fn recurrent(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let (place, gates, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let (reverse, layer) = match (place.strip_prefix('l'), place.strip_prefix('r')) {
        (Some(layer), _) => ("", layer),
        (_, Some(layer)) => ("_reverse", layer),
        _ => return None,
    };
    layer.parse::<usize>().ok()?;
    let gates = match gates {
        "i2h" => "ih",
        "h2h" => "hh",
        _ => return None,
    };
    Some(format!("{kind}_{gates}_l{layer}{reverse}"))
}
