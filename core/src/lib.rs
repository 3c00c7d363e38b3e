//! The core of isograd.
#![forbid(unsafe_code)]

pub mod backend;
pub mod dtype;
pub mod error;
pub mod expr;
pub mod format;
pub mod host;
pub mod layout;

pub use backend::{Backend, Capabilities, DTypes, Dyn, Operand, OperandMut, Pool, ReduceOp, Window};
pub use dtype::{DType, Element, Float, Number, Scalar, Value};
pub use error::{Error, Result};
pub use expr::Expr;
pub use half::{bf16, f16};
pub use layout::{Layout, Shape};
