//! PyTorch's names of parameters.

use crate::LoadOptions;

/// PyTorch's name, in a `state_dict`, of the parameter at a structural path of one of this library's networks.
///
/// Γ and β of normalizing layers are its `weight` and `bias`, α of a PReLU is its `weight`, and the parameters of recurrent
/// layers and cells are turned around (`l0_i2h_weight` is `weight_ih_l0`, `r0_..` has `_reverse` at its end, `i2h_weight` of a
/// cell is `weight_ih`). The projections `q_proj`, `k_proj` and `v_proj` are parts of one array, `in_proj_weight` or
/// `in_proj_bias`, of a `MultiheadAttention` or `TransformerEncoderLayer`, which loading takes apart. Everything else has the
/// same name. Layouts are the same too: dense `[units, in]`, convolution `[out, in / groups, height, width]`, gates i f g o of
/// an LSTM and r z n of a GRU. PyTorch's `num_batches_tracked` has no counterpart.
///
/// ```
/// use isograd::nn::zoo::torch_name;
/// assert_eq!(torch_name("layer1.0.bn1.gamma"), "layer1.0.bn1.weight");
/// assert_eq!(torch_name("rnn.r1_h2h_bias"), "rnn.bias_hh_l1_reverse");
/// assert_eq!(torch_name("cell.h2h_weight"), "cell.weight_hh");
/// assert_eq!(torch_name("self_attn.k_proj.bias"), "self_attn.in_proj_bias");
/// assert_eq!(torch_name("fc.weight"), "fc.weight");
/// ```
pub fn torch_name(path: &str) -> String {
    let (mut before, last) = cut(path);
    let name = match (cut(before), last) {
        ((outer, "q_proj" | "k_proj" | "v_proj"), _) => {
            before = outer;
            format!("in_proj_{last}")
        }
        (_, "gamma" | "alpha") => "weight".into(),
        (_, "beta") => "bias".into(),
        _ => recurrent(last).unwrap_or_else(|| last.into()),
    };
    if before.is_empty() { name } else { format!("{before}.{name}") }
}

/// A path, and the last of its parts.
fn cut(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// For [`crate::Parameters::load_parameters_with`]: reads a `state_dict` of PyTorch, saved as safetensors, by [`torch_name`]. What
/// the network has no place for is ignored, `num_batches_tracked` above all; what it misses is an error.
///
/// ```
/// use isograd::{DType, Tensor, format};
/// use isograd::nn::{LayerNorm, Parameters, zoo};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("theirs.safetensors");
/// let (gain, shift) = (Tensor::ones(&ctx, [3], DType::F32)?, Tensor::zeros(&ctx, [3], DType::F32)?);
/// format::save_named(&path, &[("weight", &gain), ("bias", &shift)])?;
/// let net = LayerNorm::new();
/// net.load_parameters_with(&path, &ctx, zoo::torch_options())?;
/// assert_eq!(net.gamma().data()?.to_vec::<f32>()?, [1.0; 3]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn torch_options() -> LoadOptions {
    LoadOptions { ignore_extra: true, ..LoadOptions::default() }.names(|path| Some(torch_name(path)))
}

/// `weight_ih_l0` for `l0_i2h_weight`, and `weight_ih` for `i2h_weight`.
fn recurrent(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('_').collect();
    let (end, gates, kind) = match parts[..] {
        [gates, kind] => (String::new(), gates, kind),
        [place, gates, kind] => {
            let (layer, reverse) = match place.strip_prefix('l') {
                Some(layer) => (layer, ""),
                None => (place.strip_prefix('r')?, "_reverse"),
            };
            layer.parse::<usize>().ok()?;
            (format!("_l{layer}{reverse}"), gates, kind)
        }
        _ => return None,
    };
    let gates = match gates {
        "i2h" => "ih",
        "h2h" => "hh",
        _ => return None,
    };
    Some(format!("{kind}_{gates}{end}"))
}
