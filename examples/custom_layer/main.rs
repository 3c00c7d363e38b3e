//! Layers of one's own: one without parameters, and one equal to `Dense`.
//!
//! ```text
//! cargo run --release --example custom_layer -- --device cpu
//! ```
//!
//! It ends by checking what it claims, and fails when a claim does not hold.

#[path = "../shared/checks.rs"]
mod checks;
mod my_dense;

use checks::Checks;
use clap::Parser;
use isograd::{
    nn::{
        initializers::Xavier,
        loss::{L2Loss, Loss},
        optimizer::SGD,
    },
    operators::random,
    prelude::*,
};
use my_dense::{CenteredLayer, MyDense};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Layers of one's own")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Seed of the weights and of the data.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// Trains for a while; gives the losses and the final weights.
fn train(net: &Sequential, ctx: &Dyn, seed: u64) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    random::seed(seed);
    let x = Tensor::normal(ctx, [64, 4], 0.0, 1.0, DType::F32)?;
    let target = x.sum(&[1][..], false)?.sin()?;
    net.initialize(Xavier::default(), ctx)?;
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1).momentum(0.9))?;
    let mut losses = vec![];
    for _ in 0..50 {
        let loss = autograd::record(|| L2Loss::default().loss(&net.forward(&x)?, &target))?;
        loss.backward()?;
        trainer.step(64)?;
        losses.push(loss.mean((), false)?.asscalar::<f32>()?);
    }
    let weights = net.state_dict()?.iter().map(|(_, t)| t.to_vec()).collect::<Result<_>>()?;
    Ok((losses, weights))
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    let mut checks = Checks::default();

    let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0, 4.0, 5.0], [5])?;
    let centered = CenteredLayer.forward(&x)?.to_vec::<f32>()?;
    checks.claim("CenteredLayer takes the mean away", centered == [-2.0, -1.0, 0.0, 1.0, 2.0]);
    let mut net = Sequential::new();
    net.add(Dense::new(128)).add(CenteredLayer);
    net.initialize(Xavier::default(), &ctx)?;
    let y = net.forward(&Tensor::uniform(&ctx, [4, 8], 0.0, 1.0, DType::F32)?)?;
    checks.claim("also at the end of a network", y.mean((), false)?.asscalar::<f32>()?.abs() < 1e-5);

    let (mut mine, mut theirs) = (Sequential::new(), Sequential::new());
    mine.add(MyDense::new(16).relu()).add(MyDense::new(1));
    theirs.add(Dense::new(16).activation(Activation::Relu)).add(Dense::new(1));
    println!("{mine}\n{}", mine.collect_params());
    let ((my_losses, my_weights), (losses, weights)) =
        (train(&mine, &ctx, options.seed)?, train(&theirs, &ctx, options.seed)?);
    println!("loss {:.6} falls to {:.6}", my_losses[0], my_losses[49]);
    checks.claim("MyDense trains", my_losses[49] < 0.5 * my_losses[0]);
    checks.claim("its losses are those of Dense, to the last bit", my_losses == losses);
    checks.claim("so are the weights", my_weights == weights);
    checks.claim("and the paths", mine.collect_params().paths() == theirs.collect_params().paths());
    checks.claim("an input of another width is an error that names the parameter", {
        let error = mine.forward(&Tensor::ones(&ctx, [1, 9], DType::F32)?).map(drop).unwrap_err();
        matches!(&error, Error::Parameter { name, .. } if name == "mydense0_weight")
    });
    Ok(checks.exit())
}
