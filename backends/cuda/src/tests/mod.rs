//! What can be shown without a device: kernels run on the host (`host`), where the conformance suite and comparisons
//! with the reference check their indices (`results`); all of them are compiled by NVRTC for several devices
//! (`sources`); what is missing, broken or exhausted is told (`faults`); CUDA's libraries are called as they are meant to
//! be (`libraries`).

mod faults;
mod host;
mod libraries;
mod results;
mod sources;
