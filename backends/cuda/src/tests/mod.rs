//! What can be shown without a device: kernels run on the host (`host`), where the conformance suite and comparisons
//! with the reference check their indices (`results`) and the order of their sums (`exact`); all of them are compiled by NVRTC for several devices
//! (`sources`); what is missing, broken or exhausted is told (`faults`); CUDA's libraries are called as they are meant to
//! be (`libraries`); and the code that talks to the driver does so to a strict one made of the host (`driver`).

mod driver;
mod exact;
mod faults;
mod host;
mod libraries;
mod results;
mod sources;
mod stand_in;
