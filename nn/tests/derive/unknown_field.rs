use isograd_nn::{Dense, Parameters};

#[derive(Parameters)]
struct Net {
    layer: Dense,
    wall: std::time::Instant,
}

fn main() {}
