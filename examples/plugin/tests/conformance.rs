//! The suite, in one line.

isograd_conformance::suite!(abacus::Abacus);
