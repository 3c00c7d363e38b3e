//! The core of isograd: what is the same on every backend.
//!
//! - [`Tensor`]: an n-dimensional array on a device, and its operators ([`operators`]);
//! - [`autograd`]: one tape above all backends;
//! - [`Expr`]: elementwise mathematics as data, with derivative, evaluation and source rendering ([`expr`]);
//! - [`Backend`]: what a device must do, nine methods, and the defaults composed of them ([`backend`]);
//! - [`host`]: the primitives on plain slices, for backends whose memory the host can read;
//! - [`format`](mod@format): `.npy`/`.npz`, safetensors and MXNet's files.
//!
//! Core names no backend. [`Dyn`] holds any of them, so `Tensor` without a type argument is chosen at run time.
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("isograd keeps tensors as little-endian bytes; big-endian hosts are not supported");

/// Whether this crate was built with optimization; without it, kernels that run on the host are 12 to 35 times slower.
pub const OPTIMIZED: bool = !cfg!(unoptimized);

pub mod autograd;
pub mod backend;
pub mod dtype;
pub mod error;
pub mod expr;
pub mod format;
pub mod host;
pub mod layout;
pub mod operators;
mod tensor;

pub use autograd::{Backward, GradReq};
pub use backend::{Backend, Capabilities, DTypes, Dyn, Operand, OperandMut, Pool, ReduceOp, Window};
pub use dtype::{DType, Element, Float, Number, Scalar, Value};
pub use error::{Error, Result};
pub use expr::Expr;
pub use half::{bf16, f16};
pub use layout::{Layout, Shape};
pub use tensor::Tensor;
