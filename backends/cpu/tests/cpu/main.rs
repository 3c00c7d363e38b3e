//! The CPU backend's kernels against core's defaults and against the reference backend.

mod common;
mod kernels;
mod matmul;
mod primitives;
mod threads;
