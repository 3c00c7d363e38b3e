//! Automatic differentiation: recording, modes, [`backward`] and [`grad`].
//!
//! One tape stands above all backends. Inside [`record`], operators on tensors that need gradients leave a node; `backward`
//! walks the nodes from the highest number down. Backward rules are made of operators, so with `create_graph` they are
//! recorded as well and gradients of any order work.
//!
//! ```
//! use isograd::{Tensor, autograd};
//! let ctx = isograd::device("cpu")?;
//! let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3])?;
//! x.attach_grad()?;
//! let z = autograd::record(|| { let y = &x * 2.0; &y * &x });
//! z.backward()?;
//! assert_eq!(x.grad()?.to_vec::<f32>()?, [4.0, 8.0, 12.0]);
//! # Ok::<(), isograd::Error>(())
//! ```

mod picture;
mod replicas;
mod tape;

pub use picture::Picture;
pub use tape::{Backward, GradReq, GraphNode, backward, grad, graph};
pub(crate) use tape::{Context, Node, Recorder, Saved, Variable};

use crate::Result;
use std::cell::Cell;

#[derive(Clone, Copy)]
struct Mode {
    recording: bool,
    training: bool,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode { recording: false, training: false }) };
}

/// Puts the old mode back, also when a closure panics.
struct Restore(Mode);

impl Drop for Restore {
    fn drop(&mut self) {
        MODE.set(self.0);
    }
}

fn with_mode<R>(change: impl FnOnce(Mode) -> Mode, f: impl FnOnce() -> R) -> R {
    let before = MODE.get();
    let _restore = Restore(before);
    MODE.set(change(before));
    f()
}

/// Runs `f` with recording on and in train mode, on this thread.
pub fn record<R>(f: impl FnOnce() -> R) -> R {
    with_mode(|_| Mode { recording: true, training: true }, f)
}

/// [`record`] of a closure that fails by [`Error`](crate::Error): it need not say so where it gives several values.
///
/// ```
/// use isograd::{Tensor, autograd};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2])?;
/// x.attach_grad()?;
/// let (sum, square) = autograd::try_record(|| {
///     let square = x.square()?;
///     Ok((square.add(&x)?, square))
/// })?;
/// sum.backward()?;
/// assert_eq!(square.to_vec::<f32>()?, [1.0, 4.0]);
/// assert_eq!(x.grad()?.to_vec::<f32>()?, [3.0, 5.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// Those of `f`.
pub fn try_record<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    record(f)
}

/// Runs `f` with recording on, in predict mode: gradients of a network as it predicts.
pub fn record_predict<R>(f: impl FnOnce() -> R) -> R {
    with_mode(|_| Mode { recording: true, training: false }, f)
}

/// Runs `f` with recording off; the train mode is off as well, as in Gluon.
pub fn pause<R>(f: impl FnOnce() -> R) -> R {
    with_mode(|_| Mode { recording: false, training: false }, f)
}

/// Runs `f` in train mode (dropout drops, batch normalization uses the batch), recording or not as before.
pub fn train_mode<R>(f: impl FnOnce() -> R) -> R {
    with_mode(|m| Mode { training: true, ..m }, f)
}

/// Runs `f` in predict mode, recording or not as before.
pub fn predict_mode<R>(f: impl FnOnce() -> R) -> R {
    with_mode(|m| Mode { training: false, ..m }, f)
}

/// Runs `f` with recording as given, train mode as before.
pub(crate) fn with_recording<R>(recording: bool, f: impl FnOnce() -> R) -> R {
    with_mode(|m| Mode { recording, ..m }, f)
}

/// Whether this thread records.
pub fn is_recording() -> bool {
    MODE.get().recording
}

/// Whether this thread is in train mode.
pub fn is_training() -> bool {
    MODE.get().training
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_nest_and_come_back() {
        assert!(!is_recording() && !is_training());
        record(|| {
            assert!(is_recording() && is_training());
            predict_mode(|| assert!(is_recording() && !is_training()));
            pause(|| {
                assert!(!is_recording() && !is_training());
                train_mode(|| assert!(!is_recording() && is_training()));
            });
            let caught = std::panic::catch_unwind(|| pause(|| panic!("inside")));
            assert!(caught.is_err() && is_recording());
        });
        assert!(!is_recording());
    }
}
