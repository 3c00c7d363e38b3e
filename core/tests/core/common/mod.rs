//! Test bodies, generic over the backend.
#![allow(dead_code)]

pub mod device;
pub mod golden;
pub mod gradients;
pub mod graphs;
pub mod mxnet;
pub mod properties;
pub mod semantics;
