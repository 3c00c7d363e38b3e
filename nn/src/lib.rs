//! Neural networks in Gluon's model, on every backend.
//!
//! - [`Block`]: what has a `forward`; [`Sequential`] chains blocks; `#[derive(Parameters)]` finds the parts of one's own;
//! - [`Parameter`]: a shared handle, whose shape may wait for the first batch;
//! - [`layers`], re-exported here: [`Dense`], [`Conv2D`], pooling, [`Activation`], [`Dropout`], ...;
//! - [`initializers`], [`loss`], [`optimizer`], [`Trainer`], [`metric`], [`data`];
//! - [`parallel`] for several contexts, [`precision`] for f16 and bf16.
//!
//! ```
//! use isograd::{DType, Tensor, autograd};
//! use isograd::nn::{Activation, Block, Dense, Parameters, Sequential, Trainer};
//! use isograd::nn::{initializers::Xavier, loss::{L2Loss, Loss}, optimizer::SGD};
//! let ctx = isograd::device("cpu")?;
//!
//! isograd::operators::random::seed(7);
//! let mut net = Sequential::new();
//! net.add(Dense::new(8).activation(Activation::Tanh)).add(Dense::new(1));
//! net.initialize(Xavier::default(), &ctx)?;
//! let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1))?;
//!
//! let x = Tensor::from_slice(&ctx, &[0.0f32, 1.0, 2.0, 3.0], [4, 1])?;
//! let y = (&x * 0.5) - 1.0;
//! let mut losses = vec![];
//! for _ in 0..20 {
//!     let loss = autograd::record(|| L2Loss::default().loss(&net.forward(&x)?, &y))?;
//!     loss.backward()?;
//!     trainer.step(4)?;
//!     losses.push(loss.mean((), false)?.asscalar::<f32>()?);
//! }
//! assert!(losses[19] < losses[0] / 10.0);
//! # Ok::<(), isograd::Error>(())
//! ```
//!
//! Where things are: one layer, initializer, loss or optimizer a file; `block` has the two traits that networks are made
//! of, `parameter` the handle, `serialize` saving and loading, `describe` printing, `naming` Gluon's names.
#![forbid(unsafe_code)]

// The derive macro names this crate from outside, also in this crate's own code.
extern crate self as isograd_nn;

mod block;
mod checkpoint;
mod constant;
mod containers;
pub mod data;
mod describe;
mod dry_run;
pub mod hooks;
pub mod initializers;
mod labels;
pub mod layers;
pub mod loss;
pub mod metric;
pub mod naming;
pub mod optimizer;
mod options;
pub mod parallel;
mod parameter;
mod parameter_dict;
mod picture;
pub mod precision;
mod sequential;
mod serialize;
mod summary;
mod trainer;
pub mod zoo;

pub use block::{AnyBlock, Block, BlockId, Parameters, Visitor};
pub use checkpoint::Checkpoint;
pub use constant::Constant;
pub use containers::{Concurrent, Identity, IntoResult, Lambda, Residual};
pub use describe::{describe, describe_parameters};
pub use initializers::Initializer;
pub use isograd_core::Dyn;
pub use isograd_nn_derive::Parameters;
pub use layers::{
    Activation, AvgPool, AvgPool1D, AvgPool2D, AvgPool3D, BatchNorm, Conv, Conv1D, Conv2D, Conv3D, Dense, Dropout, ELU,
    Embedding, Flatten, GELU, GRU, GRUCell, GlobalAvgPool, GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D,
    GlobalMaxPool, GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D, GroupNorm, InstanceNorm, LSTM, LSTMCell,
    LayerNorm, LeakyReLU, MaxPool, MaxPool1D, MaxPool2D, MaxPool3D, PReLU, RNN, RNNCell, SELU, Swish,
};
pub use layers::{
    AdaptiveAvgPool, AdaptiveAvgPool1D, AdaptiveAvgPool2D, AdaptiveAvgPool3D, AdaptiveMaxPool, AdaptiveMaxPool1D,
    AdaptiveMaxPool2D, AdaptiveMaxPool3D, AttentionMask, Conv1DTranspose, Conv2DTranspose, Conv3DTranspose,
    ConvTranspose, DotProductAttention, MultiHeadAttention, PositionalEmbedding, PositionalEncoding,
    TransformerEncoderBlock, masked_softmax,
};
pub use optimizer::Optimizer;
pub use parameter::{Contexts, Parameter};
pub use parameter_dict::ParameterDict;
pub use picture::picture;
pub use precision::LossScaler;
pub use sequential::Sequential;
pub use serialize::{LoadOptions, NameMap, SaveOptions};
pub use summary::{Row, Summary, summary, summary_of};
pub use trainer::Trainer;
