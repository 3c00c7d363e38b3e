//! Forward passes that change nothing: a parameter without values stands in for itself with zeros, and what shape it would
//! have got is written down.

use isograd_core::Shape;
use std::{cell::RefCell, collections::HashMap};

/// Shapes by the identity of the parameter.
pub(crate) type Shapes = HashMap<usize, Shape>;

thread_local! {
    static SHAPES: RefCell<Option<Shapes>> = const { RefCell::new(None) };
}

/// Runs `f` so; gives also the shapes of the parameters without values that it used.
pub(crate) fn run<R>(f: impl FnOnce() -> R) -> (R, Shapes) {
    /// Puts the old state back, also when the closure panics.
    struct Restore(Option<Shapes>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SHAPES.set(self.0.take());
        }
    }
    let _restore = Restore(SHAPES.replace(Some(Shapes::new())));
    let result = f();
    (result, SHAPES.take().unwrap_or_default())
}

pub(crate) fn is_active() -> bool {
    SHAPES.with_borrow(Option::is_some)
}

pub(crate) fn note(identity: usize, shape: &[usize]) {
    SHAPES.with_borrow_mut(|shapes| shapes.iter_mut().for_each(|s| drop(s.insert(identity, shape.into()))));
}
