//! What the tests share.

/// Runs each generic test body on every backend that needs no device: one by its type, one behind `Dyn`.
macro_rules! on_every_backend {
    ($($name:ident)*) => {
        mod reference {
            $(#[test] fn $name() { super::$name(&isograd_reference::Reference) })*
        }
        mod cpu {
            $(#[test] fn $name() { super::$name(&isograd_core::Dyn::new(isograd_cpu::Cpu::default())) })*
        }
    };
}
