use isograd_nn::{Dense, Parameters};

#[derive(Parameters)]
enum Net {
    Small(Dense),
}

fn main() {}
