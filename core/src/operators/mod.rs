//! The operators of [`Tensor`](crate::Tensor), each defined once: forward here, backward by its expression's derivative or by a rule made
//! of other operators.
//!
//! Where things are: `formula` runs and differentiates elementwise expressions; `elementwise` is the table of those that
//! are built in; `fused` lets users write their own; then one file per family. To add an elementwise operator: a row in
//! `elementwise`. To add another: forward with a backend call, and `Recorder::finish` with a rule made of operators, so
//! that gradients of any order work. [`NAMES`] lists every operator for the conformance suite.

mod create;
mod elementwise;
mod formula;
mod fused;
mod index;
mod matmul;
mod normalize;
pub mod random;
mod reduce;
mod shape;
mod softmax;
mod sort;
mod window;

pub use fused::Fused;
pub use index::TakeMode;
pub use normalize::Normalized;
pub use reduce::Axes;
pub use shape::{Index, PadMode};
pub use window::{ConvOptions, PoolOptions};

pub(crate) use formula::{Formula, PerDTypeFormula, apply};

/// The name of every operator, as errors and the conformance suite use it.
pub const NAMES: &[&str] = &[
    // creation
    "zeros",
    "ones",
    "full",
    "arange",
    "linspace",
    "eye",
    "tri",
    "uniform",
    "normal",
    "bernoulli",
    "randint",
    "permutation",
    // unary
    "neg",
    "abs",
    "sign",
    "square",
    "sqrt",
    "rsqrt",
    "cbrt",
    "reciprocal",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfinv",
    "floor",
    "ceil",
    "trunc",
    "round",
    "relu",
    "sigmoid",
    "softplus",
    "softsign",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "selu",
    "leaky_relu",
    "hard_sigmoid",
    "hard_swish",
    "is_nan",
    "is_inf",
    "logical_not",
    // binary and ternary
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "rem",
    "maximum",
    "minimum",
    "hypot",
    "atan2",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "where",
    "clamp",
    "cast",
    // reductions
    "sum",
    "mean",
    "prod",
    "max",
    "min",
    "argmax",
    "argmin",
    "any",
    "all",
    "var",
    "std",
    "norm",
    "logsumexp",
    "cumsum",
    // products
    "matmul",
    "matmul_fused",
    "dot",
    "outer",
    // shapes
    "copy",
    "reshape",
    "flatten",
    "transpose",
    "swapaxes",
    "expand_dims",
    "squeeze",
    "broadcast_to",
    "slice",
    "concat",
    "stack",
    "split",
    "pad",
    "flip",
    "tile",
    "repeat",
    "roll",
    // indices
    "take",
    "gather",
    "scatter_add",
    "pick",
    "one_hot",
    "masked_fill",
    "topk",
    "sort",
    "argsort",
    "embedding",
    "sequence_mask",
    // networks
    "softmax",
    "log_softmax",
    "conv",
    "conv_transpose",
    "max_pool",
    "avg_pool",
    "global_max_pool",
    "global_avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "unfold",
    "fold",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "dropout",
];
