//! Gluon's names: `dense0_weight` is the weight of the first Dense layer made on this thread.
//!
//! A structural path (`0.weight`) says where a parameter is in a network, and is what files hold; a name says which layer
//! made it, and is what errors and printing show.

use std::{cell::RefCell, collections::HashMap};

#[derive(Default)]
struct Names {
    scope: String,
    counts: HashMap<String, usize>,
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

/// The next prefix for a layer of the given kind: `dense0_`, `dense1_`, ... on each thread.
pub fn prefix(kind: &str) -> String {
    NAMES.with_borrow_mut(|names| {
        let stem = format!("{}{kind}", names.scope);
        let count = names.counts.entry(stem.clone()).or_default();
        *count += 1;
        format!("{stem}{}_", *count - 1)
    })
}

/// Runs `f`; the layers that it makes get `scope` in front of their names, and are counted on their own.
///
/// ```
/// use isograd_nn::{Dense, naming};
/// let layer: Dense = naming::scope("model_", || Dense::new(2));
/// assert_eq!(layer.weight().name(), "model_dense0_weight");
/// ```
pub fn scope<R>(scope: &str, f: impl FnOnce() -> R) -> R {
    /// Leaves the scope, also when the closure panics.
    struct Leave(usize);
    impl Drop for Leave {
        fn drop(&mut self) {
            NAMES.with_borrow_mut(|names| names.scope.truncate(self.0));
        }
    }
    let _leave = NAMES.with_borrow_mut(|names| {
        let before = names.scope.len();
        names.scope.push_str(scope);
        Leave(before)
    });
    f()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_count_by_kind_and_scope() {
        assert_eq!((prefix("x"), prefix("x"), prefix("y")), ("x0_".into(), "x1_".into(), "y0_".into()));
        scope("a_", || {
            assert_eq!(prefix("x"), "a_x0_");
            assert_eq!(scope("b_", || prefix("x")), "a_b_x0_");
        });
        assert_eq!(prefix("x"), "x2_");
    }
}
