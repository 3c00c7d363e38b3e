//! The tests of this crate: one program, since each instantiates the operators for its backends anew.

#[macro_use]
mod common;

mod attention;
mod behaviours;
mod behaviours_training;
mod blocks;
mod checkpoint;
mod ctc;
mod data;
mod datasets;
mod derive;
mod files;
mod golden;
mod gradients;
mod interface;
mod labels;
mod layers;
mod loader;
mod losses;
mod metrics;
mod optimizers;
mod options;
mod parameters;
mod precision;
mod sharing;
mod text;
mod trainer;
mod vision;
mod windows;
mod zoo;
