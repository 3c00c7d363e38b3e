//! The tests of core, one program: what operators and autograd are is compiled once for each kind of device, here by type on
//! the reference backend, and behind `Dyn` on that, on the CPU backend and on a device made for tests.

mod common;
mod errors;
mod golden;
mod gradients;
mod properties;
mod render;
mod semantics;
