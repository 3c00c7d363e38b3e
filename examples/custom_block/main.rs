//! Blocks of one's own: a container equal to `Sequential`, and a network with a loop, a constant and a layer used twice.
//!
//! ```text
//! cargo run --release --example custom_block -- --device cpu
//! ```
//!
//! It ends by checking what it claims, and fails when a claim does not hold.

#[path = "../shared/checks.rs"]
mod checks;
mod fixed_hidden_mlp;
mod my_sequential;

use checks::Checks;
use clap::Parser;
use fixed_hidden_mlp::{FixedHiddenMlp, norm};
use isograd::{
    nn::{initializers::Uniform, optimizer::SGD, picture, summary},
    prelude::*,
};
use my_sequential::MySequential;
use std::{path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(about = "Blocks of one's own")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Seed of the weights and of the input.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Draws the computational graph of FixedHiddenMlp into this file, SVG.
    #[arg(long)]
    graph: Option<PathBuf>,
}

/// A container in a block.
#[derive(Parameters)]
struct NestMlp {
    net: Sequential,
    dense: Dense,
}

impl NestMlp {
    fn new() -> NestMlp {
        let mut net = Sequential::new();
        net.add(Dense::new(64).activation(Activation::Relu)).add(Dense::new(32).activation(Activation::Relu));
        NestMlp { net, dense: Dense::new(16).activation(Activation::Relu) }
    }
}

impl Block for NestMlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.dense.forward(&self.net.forward(x)?)
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec()
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    let mut checks = Checks::default();
    seed(options.seed);
    let x = Tensor::uniform(&ctx, [2, 20], 0.0, 1.0, DType::F32)?;

    // The same blocks in a container of our own and in the library's.
    let layers = || -> [Box<dyn Block>; 2] {
        [Box::new(Dense::new(256).activation(Activation::Relu)), Box::new(Dense::new(10))]
    };
    let mine = MySequential::new(Vec::from(layers()));
    let theirs: Sequential = layers().into_iter().collect();
    let mut outputs = vec![];
    for net in [&mine as &dyn Block, &theirs] {
        seed(options.seed);
        net.collect_params().initialize(Uniform::default(), &ctx)?;
        outputs.push(values(&net.forward(&x)?)?);
    }
    checks.claim("MySequential computes what Sequential computes, to the last bit", outputs[0] == outputs[1]);
    let paths = |net: &dyn Block| net.collect_params().paths().join(" ");
    checks.claim("and has the same parameters at the same paths", paths(&mine) == paths(&theirs));

    let net = FixedHiddenMlp::new();
    net.initialize(Uniform::default(), &ctx)?;
    let hidden = net.hidden(&x)?;
    let size = norm(&hidden)?;
    println!("\nFixedHiddenMlp: norm {size:.4} after its loop, output {:.4}", net.forward(&x)?.asscalar::<f32>()?);
    checks.claim("the loop brought the norm below 1, or it was multiplied by 10 where it fell below 0.8", {
        (0.8..=1.0).contains(&size) || (0.0..8.0).contains(&size)
    });
    let all = net.collect_params();
    if let Some(file) = &options.graph {
        let drawn = picture(&autograd::record(|| net.forward(&x))?, &all)?;
        let failed = |source| Error::Io { action: "write", path: file.clone(), source };
        std::fs::write(file, drawn.svg()).map_err(failed)?;
    }
    checks.claim("the layer that is used twice has its parameters once", {
        all.paths() == ["rand_weight", "dense.weight", "dense.bias"]
    });

    // The gradient of the layer used twice is the sum of the gradients of two layers of the same weights.
    let (first, second) = (Dense::new(20).activation(Activation::Relu), Dense::new(20).activation(Activation::Relu));
    for layer in [&first, &second] {
        layer.load_state_dict(net.dense.state_dict()?)?;
    }
    let factor = net.forward(&x)?.asscalar::<f32>()? / unscaled(&net, &net.dense, &net.dense, &x)?.asscalar::<f32>()?;
    autograd::record(|| net.forward(&x))?.backward()?;
    autograd::record(|| unscaled(&net, &first, &second, &x)?.mul_scalar(f64::from(factor)))?.backward()?;
    let once = values(&net.dense.weight().grad()?)?;
    let (a, b) = (values(&first.weight().grad()?)?, values(&second.weight().grad()?)?);
    let error = once.iter().zip(a.iter().zip(&b)).map(|(g, (a, b))| (g - (a + b)).abs()).fold(0.0, f32::max);
    let largest = once.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    checks.claim("gradients of a layer used twice add up", largest > 0.0 && error <= 1e-4 * largest);

    let (constant, weight) = (values(&net.rand_weight.data()?)?, values(&net.dense.weight().data()?)?);
    Trainer::new(net.collect_params(), SGD::new(0.1))?.step(1)?;
    checks.claim("a step changes the layer", values(&net.dense.weight().data()?)? != weight);
    checks.claim("but not the constant, which has no gradient", {
        values(&net.rand_weight.data()?)? == constant && net.rand_weight.grad().is_err()
    });
    let file = std::env::temp_dir().join(format!("isograd-custom-block-{}.safetensors", std::process::id()));
    net.save_parameters(&file)?;
    let loaded = FixedHiddenMlp::new();
    let outcome = loaded.load_parameters(&file, &ctx);
    _ = std::fs::remove_file(&file);
    outcome?;
    checks.claim("the constant is saved and loaded", {
        values(&loaded.rand_weight.data()?)? == constant && values(&loaded.forward(&x)?)? == values(&net.forward(&x)?)?
    });

    let mut chimera = Sequential::new();
    chimera.add(NestMlp::new()).add(Dense::new(20)).add_named("fixed", FixedHiddenMlp::new())?;
    chimera.initialize(Uniform::default(), &ctx)?;
    println!("\n{chimera}\n");
    println!("{}\n", summary(&chimera, [2, 20], &ctx)?);
    checks.claim("blocks nest in blocks and containers", chimera.forward(&x)?.rank() == 0);
    let near = chimera.get("0.net.1.weigth").map(drop).unwrap_err().to_string();
    checks.claim("a wrong path is told with the right one", near.contains("0.net.1.weight"));
    Ok(checks.exit())
}

/// [`FixedHiddenMlp::forward`] with two layers, and without the loop.
fn unscaled(net: &FixedHiddenMlp, first: &Dense, second: &Dense, x: &Tensor) -> Result<Tensor> {
    let x = first.forward(x)?.matmul(&net.rand_weight.data_on(x.ctx())?)?.add_scalar(1.0)?.relu()?;
    second.forward(&x)?.sum((), false)
}
