use isograd_core::Backend;
use isograd_nn::{Dense, Parameters};

#[derive(Parameters)]
struct Net<A: Backend, C: Backend> {
    a: Dense<A>,
    c: Dense<C>,
}

fn main() {}
