//! The one error type. Each variant carries fields; its text names operator, shapes, dtypes and device, and the way out.
//! `Debug` is that text as well, since it is what `unwrap` and a `main` that returns an error show.

use crate::{DType, Scalar, layout::Shape};
use std::{fmt, io, path::PathBuf};

/// What core, the backends and nn return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. Its `Debug` is its `Display`, and errors of [`std::io`] convert:
///
/// ```
/// use isograd::{Error, Result};
/// fn lines(path: &str) -> Result<usize> {
///     Ok(std::fs::read_to_string(path)?.lines().count())
/// }
/// let error = lines("no such file").unwrap_err();
/// assert!(matches!(error, Error::Io { .. }));
/// assert_eq!(format!("{error:?}"), error.to_string());
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes do not fit the operator.
    #[error("{op}: shapes {left:?} and {right:?} do not fit: {why} (on {device})")]
    ShapeMismatch {
        /// The operator.
        op: &'static str,
        /// Shape of the first operand.
        left: Shape,
        /// Shape of the second operand, or the shape that was expected.
        right: Shape,
        /// What the operator needs.
        why: String,
        /// Name of the device.
        device: String,
    },
    /// One shape does not fit the operator.
    #[error("{op}: shape {shape:?} does not fit: {why} (on {device})")]
    InvalidShape {
        /// The operator.
        op: &'static str,
        /// The shape.
        shape: Shape,
        /// What the operator needs.
        why: String,
        /// Name of the device.
        device: String,
    },
    /// Two dtypes differ where they must agree; there is no silent promotion.
    #[error("{op}: dtypes {left} and {right} differ (on {device}); convert one with .cast(DType::...)")]
    DTypeMismatch {
        /// The operator.
        op: &'static str,
        /// Dtype of the first operand.
        left: DType,
        /// Dtype of the second operand.
        right: DType,
        /// Name of the device.
        device: String,
    },
    /// The operator is not defined for this dtype, or the device cannot compute it.
    #[error("{op}: dtype {dtype} is not supported on {device}: {why}")]
    UnsupportedDType {
        /// The operator.
        op: &'static str,
        /// The dtype.
        dtype: DType,
        /// The device.
        device: String,
        /// What would be supported.
        why: String,
    },
    /// Operands live on different contexts.
    #[error("{op}: operands are on different devices, {left} and {right}; move one with .as_in_context(&ctx)")]
    DeviceMismatch {
        /// The operator.
        op: &'static str,
        /// Device of the first operand.
        left: String,
        /// Device of the second operand.
        right: String,
    },
    /// An axis outside the tensor's rank.
    #[error(
        "{op}: axis {axis} is outside a tensor of {rank} axes, shape {shape:?}; it must be in -{rank}..{rank} (on {device})"
    )]
    AxisOutOfRange {
        /// The operator.
        op: &'static str,
        /// The axis as given.
        axis: isize,
        /// The tensor's rank.
        rank: usize,
        /// The tensor's shape.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// An axis named twice.
    #[error("{op}: axis {axis} is named twice (shape {shape:?}, on {device})")]
    DuplicateAxis {
        /// The operator.
        op: &'static str,
        /// The axis, counted from the front.
        axis: usize,
        /// The tensor's shape.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// An index outside its axis.
    #[error("{op}: index {index} is outside axis {axis} of size {size} (on {device})")]
    IndexOutOfRange {
        /// The operator.
        op: &'static str,
        /// The index as given.
        index: i64,
        /// The axis.
        axis: usize,
        /// The size of that axis.
        size: usize,
        /// Name of the device.
        device: String,
    },
    /// A host number that the dtype cannot hold.
    #[error("the scalar {scalar} does not fit dtype {dtype}; cast the tensor first, or give a number that fits")]
    ScalarOutOfRange {
        /// The number.
        scalar: Scalar,
        /// The dtype.
        dtype: DType,
    },
    /// Another argument out of its domain.
    #[error("{op}: {why}")]
    InvalidArgument {
        /// The operator or function.
        op: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// An expression written by a user is ill-typed.
    #[error("expression of operator {op}: {why}")]
    InvalidExpr {
        /// The operator.
        op: String,
        /// What is wrong.
        why: String,
    },
    /// `backward` through a graph that an earlier `backward` freed.
    #[error(
        "backward: the graph at operator {op} was freed by an earlier backward; keep it with Backward {{ retain_graph: true, .. }}"
    )]
    GraphConsumed {
        /// The operator whose rule is gone.
        op: &'static str,
    },
    /// `backward` of something that was not recorded.
    #[error(
        "{op}: {what} is not part of a recorded graph; call attach_grad() on the inputs and compute it inside autograd::record (shape {shape:?}, on {device})"
    )]
    NotRecorded {
        /// The function called.
        op: &'static str,
        /// Which tensor.
        what: String,
        /// Its shape.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// The head gradient has the wrong shape.
    #[error("backward: the head gradient has shape {got:?}, but the tensor has {expected:?} (on {device})")]
    HeadGradient {
        /// Shape of the tensor.
        expected: Shape,
        /// Shape of the head gradient.
        got: Shape,
        /// Name of the device.
        device: String,
    },
    /// A gradient was asked for where there is none.
    #[error("grad: the tensor of shape {shape:?} on {device} has no gradient; call attach_grad() first")]
    NoGradient {
        /// Shape of the tensor.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// An input of `autograd::grad` on which the heads do not depend.
    #[error(
        "grad: the heads do not depend on variable {index} of shape {shape:?} (on {device}); was it used inside autograd::record, after attach_grad()?"
    )]
    Unreachable {
        /// The position among the variables.
        index: usize,
        /// Its shape.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// An in-place write to a tensor that the tape holds, or of a recorded value.
    #[error(
        "{op}: the tensor of shape {shape:?} on {device} is part of a recorded graph and cannot be written in place; write it inside autograd::pause, before recording, or use x.detach()"
    )]
    InPlaceOnRecorded {
        /// The operator.
        op: &'static str,
        /// Its shape.
        shape: Shape,
        /// Name of the device.
        device: String,
    },
    /// A tensor that a backward rule needs was written in place after it was saved.
    #[error(
        "backward: operator {op} saved a tensor of shape {shape:?} on {device} that was written in place since (version {saved}, now {now}); write after backward, or write to a copy"
    )]
    SavedTensorModified {
        /// The operator.
        op: &'static str,
        /// Its shape.
        shape: Shape,
        /// Version at the time of saving.
        saved: u64,
        /// Version now.
        now: u64,
        /// Name of the device.
        device: String,
    },
    /// The operator has no derivative.
    #[error("{op}: there is no derivative: {why}")]
    NotDifferentiable {
        /// The operator.
        op: &'static str,
        /// Why, and what to use.
        why: String,
    },
    /// A file that is damaged, truncated, or not what it says it is.
    #[error("{format} file{}: at byte {at}: {why}", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    File {
        /// The format.
        format: &'static str,
        /// Where the file is, when it was read from a path.
        path: Option<PathBuf>,
        /// Byte offset of the fault.
        at: u64,
        /// What was found and what was expected.
        why: String,
    },
    /// A sample of a dataset could not be made.
    #[error("sample {index}: {source}")]
    Sample {
        /// The number of the sample.
        index: usize,
        /// What was wrong with it.
        source: Box<Error>,
    },
    /// Code of the user's panicked on another thread.
    #[error("{op}: a worker thread panicked: {message}")]
    Panicked {
        /// What the thread worked for.
        op: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The operating system refused.
    #[error("{action}{}{}: {source}", if path.as_os_str().is_empty() { "" } else { " " }, path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path; empty for an error that `?` converted, since [`std::io`] does not say.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The device has no memory left.
    #[error("out of memory on {device}: asked for {bytes} bytes; {hint}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// How much was asked for.
        bytes: usize,
        /// The way out.
        hint: String,
    },
    /// A device or the library behind it failed.
    #[error("{device}: {op}: {why}")]
    Backend {
        /// The device.
        device: String,
        /// What was being done.
        op: String,
        /// What the device said.
        why: String,
    },
    /// A device name that is not known, or not built in.
    #[error("there is no device {name:?}; this build has: {available}{hint}")]
    UnknownDevice {
        /// The name as given.
        name: String,
        /// The devices of this build.
        available: String,
        /// For a device that a cargo feature would add.
        hint: String,
    },
    /// A parameter that is not initialized.
    #[error("parameter {name}{}: {why}", path.as_ref().map(|p| format!(" (at {p})")).unwrap_or_default())]
    Uninitialized {
        /// The parameter.
        name: String,
        /// Where it is in the network, as far as that is known: `body.0.weight`.
        path: Option<String>,
        /// What is missing and how to give it.
        why: String,
    },
    /// A parameter, a parameter file or a block that does not fit.
    #[error("parameter {name}: {why}")]
    Parameter {
        /// The parameter or block.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Error {
        Error::Io { action: "input or output", path: PathBuf::new(), source }
    }
}

impl Error {
    /// An [`Error::InvalidArgument`].
    pub fn invalid(op: &'static str, why: impl Into<String>) -> Error {
        Error::InvalidArgument { op, why: why.into() }
    }

    /// An [`Error::Backend`].
    pub fn backend(device: impl Into<String>, op: impl Into<String>, why: impl ToString) -> Error {
        Error::Backend { device: device.into(), op: op.into(), why: why.to_string() }
    }

    /// An [`Error::File`] without a path.
    pub fn file(format: &'static str, at: u64, why: impl Into<String>) -> Error {
        Error::File { format, path: None, at, why: why.into() }
    }

    /// Adds the path to an [`Error::File`]; leaves every other error as it is.
    pub fn with_path(self, file: impl Into<PathBuf>) -> Error {
        match self {
            Error::File { format, at, why, .. } => Error::File { format, path: Some(file.into()), at, why },
            other => other,
        }
    }
}
