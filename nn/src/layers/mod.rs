//! The layers, one a file, re-exported by the crate.
//!
//! To add a layer: a file here with the struct, its builder methods, `Parameters` (what it holds, what it prints) and
//! `Block`; a row in `print_blocks!` if it is generic over the backend. Parameters whose shape depends on the input are
//! made with `None` there and completed by `Parameter::bind` in `forward`.

mod activation;
mod adaptive;
mod affine;
mod attention;
mod batch_norm;
mod conv;
mod conv_transpose;
mod dense;
mod dropout;
mod embedding;
mod epilogue;
mod flatten;
mod group_norm;
mod instance_norm;
mod layer_norm;
mod leaky;
mod pool;
mod positional;
mod python;
mod recurrent;
mod transformer;
mod weight_and_bias;

use crate::describe::print_blocks;

pub(crate) use affine::size_of_axis;
pub(crate) use dropout::dropped;

pub use activation::Activation;
pub use adaptive::{
    AdaptiveAvgPool, AdaptiveAvgPool1D, AdaptiveAvgPool2D, AdaptiveAvgPool3D, AdaptiveMaxPool, AdaptiveMaxPool1D,
    AdaptiveMaxPool2D, AdaptiveMaxPool3D,
};
pub use attention::{AttentionMask, DotProductAttention, MultiHeadAttention, masked_softmax};
pub(crate) use attention::{attend, merge_heads, split_heads};
pub use batch_norm::BatchNorm;
pub use conv::{Conv, Conv1D, Conv2D, Conv3D};
pub use conv_transpose::{Conv1DTranspose, Conv2DTranspose, Conv3DTranspose, ConvTranspose};
pub use dense::Dense;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use flatten::Flatten;
pub use group_norm::GroupNorm;
pub use instance_norm::InstanceNorm;
pub use layer_norm::LayerNorm;
pub use leaky::{ELU, GELU, LeakyReLU, PReLU, SELU, Swish};
pub use pool::{
    AvgPool, AvgPool1D, AvgPool2D, AvgPool3D, GlobalAvgPool, GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D,
    GlobalMaxPool, GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D, MaxPool, MaxPool1D, MaxPool2D, MaxPool3D,
};
pub use positional::{PositionalEmbedding, PositionalEncoding};
pub use recurrent::{GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell};
pub use transformer::TransformerEncoderBlock;

/// One size per spatial axis, or one for all of them: `3`, `[3, 3]` and `(3, 3)` say the same of a 2-D layer.
pub trait Spatial<const N: usize> {
    /// The size along each axis.
    fn sizes(self) -> [usize; N];
}

impl<const N: usize> Spatial<N> for usize {
    fn sizes(self) -> [usize; N] {
        [self; N]
    }
}

impl<const N: usize> Spatial<N> for [usize; N] {
    fn sizes(self) -> [usize; N] {
        self
    }
}

impl Spatial<1> for (usize,) {
    fn sizes(self) -> [usize; 1] {
        self.into()
    }
}

impl Spatial<2> for (usize, usize) {
    fn sizes(self) -> [usize; 2] {
        self.into()
    }
}

impl Spatial<3> for (usize, usize, usize) {
    fn sizes(self) -> [usize; 3] {
        self.into()
    }
}

/// Sizes as Python prints a tuple.
fn tuple(sizes: &[usize]) -> String {
    format!("{:?}", isograd_core::Shape::from(sizes))
}

print_blocks! {
    display impl [] Dropout;
    display impl [] Flatten;
    display impl [] LeakyReLU;
    display impl [] ELU;
    display impl [] SELU;
    display impl [] GELU;
    display impl [] Swish;
    display impl [] DotProductAttention;
    display impl [] PositionalEncoding;
    display impl [const N: usize] MaxPool<N>;
    display impl [const N: usize] AvgPool<N>;
    display impl [const N: usize] GlobalMaxPool<N>;
    display impl [const N: usize] GlobalAvgPool<N>;
    display impl [const N: usize] AdaptiveMaxPool<N>;
    display impl [const N: usize] AdaptiveAvgPool<N>;
}
