//! Test bodies, generic over the backend, so that a backend's own tests can run them as well: each file of `core/tests`
//! calls some of them on the reference backend.
#![allow(dead_code)]

pub mod device;
pub mod golden;
pub mod gradients;
pub mod graphs;
pub mod mxnet;
pub mod properties;
pub mod semantics;
