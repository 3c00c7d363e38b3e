use isograd_nn::{Dense, Parameters};

#[derive(Parameters)]
struct Net {
    #[parameters(ignore)]
    layer: Dense,
}

fn main() {}
