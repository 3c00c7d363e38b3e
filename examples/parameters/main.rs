//! Parameters: reaching them, giving them values, sharing them, and shapes that wait for the first batch.
//!
//! ```text
//! cargo run --release --example parameters -- --device cpu
//! ```
//!
//! It ends by checking what it claims, and fails when a claim does not hold.

#[path = "../shared/checks.rs"]
mod checks;

use checks::Checks;
use clap::Parser;
use isograd::{
    nn::{
        initializers::{Constant, Normal, Xavier},
        optimizer::SGD,
    },
    prelude::*,
};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

#[derive(Parser)]
#[command(about = "Access, initialization, sharing and deferred shapes of parameters")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Uniform in ±10, with what is smaller than 5 set to zero.
#[derive(Debug)]
struct MyInit;

impl<B: Backend> Initializer<B> for MyInit {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        println!("  MyInit gives {name} {shape:?}");
        let values = Tensor::uniform(ctx, shape, -10.0, 10.0, dtype)?;
        values.mul(&values.abs()?.greater_equal_scalar(5.0)?.cast(dtype)?)
    }
}

fn mlp() -> Sequential {
    let mut net = Sequential::new();
    net.add(Dense::new(256).activation(Activation::Relu)).add(Dense::new(10));
    net
}

fn values(parameter: &Parameter) -> Result<Vec<f32>> {
    parameter.data()?.to_vec()
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    let mut checks = Checks::default();
    seed(1);
    let x = Tensor::uniform(&ctx, [2, 20], 0.0, 1.0, DType::F32)?;
    access(&ctx, &x, &mut checks)?;
    initialization(&ctx, &x, &mut checks)?;
    sharing(&ctx, &x, &mut checks)?;
    deferred(&ctx, &x, &mut checks)?;
    Ok(checks.exit())
}

fn access(ctx: &Dyn, x: &Tensor, checks: &mut Checks) -> Result<()> {
    println!("Access");
    let net = mlp();
    net.initialize(Xavier::default(), ctx)?;
    net.forward(x)?;
    println!("{}", net.collect_params());
    let weight = net[0].collect_params()["weight"].clone();
    checks.claim("by index, by path and by name it is one parameter", {
        weight.is(&net.get("0.weight")?) && weight.is(&net.get(&weight.name())?)
    });
    checks.claim("its shape is that of the data", weight.shape()? == [256, 20]);
    checks.claim("its gradient is zero before the first backward", {
        weight.grad()?.to_vec::<f32>()?.iter().all(|g| *g == 0.0)
    });
    let biases = net.collect_params_matching(r".*bias")?;
    checks.claim("a regular expression finds the biases", biases.paths() == ["0.bias", "1.bias"]);
    checks.claim("a wrong one is an error", net.collect_params_matching("*").is_err());
    checks.claim("the network has 7,946 numbers", net.collect_params().numel()? == 256 * 20 + 256 + 10 * 256 + 10);

    let mut outer = Sequential::new();
    for name in ["left", "right"] {
        outer.add_named(name, mlp())?;
    }
    checks.claim("in nested networks the path leads on", outer.get("right.1.bias")?.partial_shape() == [Some(10)]);
    Ok(())
}

fn initialization(ctx: &Dyn, x: &Tensor, checks: &mut Checks) -> Result<()> {
    println!("\nInitialization");
    let net = mlp();
    net.initialize(Normal { sigma: 0.01 }, ctx)?;
    net.forward(x)?;
    let weight = net.get("0.weight")?;
    let spread = weight.data()?.square()?.mean((), false)?.asscalar::<f32>()?.sqrt();
    checks.claim("Normal has the deviation that was asked for", (0.009..0.011).contains(&spread));
    let before = values(&weight)?;
    net.initialize(Constant(1.0), ctx)?;
    checks.claim("initializing again leaves values as they are", values(&weight)? == before);
    net.force_reinit(Constant(1.0), ctx)?;
    checks.claim("unless it is forced", values(&weight)?.iter().all(|v| *v == 1.0));
    weight.force_reinit(Xavier::default(), ctx)?;
    checks.claim("one parameter alone gets others", {
        values(&weight)?.iter().any(|v| *v != 1.0) && values(&net.get("1.weight")?)?.iter().all(|v| *v == 1.0)
    });
    net.force_reinit(MyInit, ctx)?;
    checks.claim("an initializer of one's own", values(&weight)?.iter().all(|v| *v == 0.0 || v.abs() >= 5.0));
    weight.set_data(&weight.data()?.detach().add_scalar(1.0)?)?;
    checks.claim("values are set", values(&weight)?.iter().all(|v| *v == 1.0 || (v - 1.0).abs() >= 4.9));
    checks.claim("values of another shape are refused", weight.set_data(x).is_err());
    Ok(())
}

fn sharing(ctx: &Dyn, x: &Tensor, checks: &mut Checks) -> Result<()> {
    println!("\nSharing");
    let shared = Dense::new(8).activation(Activation::Relu);
    let mut net = Sequential::new();
    net.add(Dense::new(8).activation(Activation::Relu))
        .add(shared.clone())
        .add(Dense::new(8).activation(Activation::Relu).share(&shared))
        .add(Dense::new(10));
    net.initialize(Xavier::default(), ctx)?;
    autograd::record(|| net.forward(x))?.backward()?;
    let [second, third] = [net.get("1.weight")?, net.get("2.weight")?];
    checks.claim("two layers have one parameter", second.is(&third));
    checks.claim("it is counted once", net.collect_params().unique().len() == 6);
    let (before, gradient) = (values(&second)?, second.grad()?.to_vec::<f32>()?);
    Trainer::new(net.collect_params(), SGD::new(0.5))?.step(1)?;
    let stepped = before.iter().zip(&gradient).map(|(w, g)| w - 0.5 * g);
    checks.claim("and updated once per step", {
        values(&third)?.iter().zip(stepped).all(|(w, expected)| (w - expected).abs() <= 1e-6 * (1.0 + expected.abs()))
    });
    Ok(())
}

fn deferred(ctx: &Dyn, x: &Tensor, checks: &mut Checks) -> Result<()> {
    println!("\nDeferred shapes");
    let net = mlp();
    CALLS.store(0, Ordering::Relaxed);
    net.initialize(MyInit, ctx)?;
    let error = net.get("0.weight")?.data().map(drop).unwrap_err();
    println!("{error}");
    checks.claim("before the first batch the error names parameter, place and dimension", {
        let text = error.to_string();
        ["_weight", "(at 0.weight)", "dimension 1", "(256, ?)"].iter().all(|part| text.contains(part))
    });
    checks.claim("and no initializer of a weight ran", CALLS.load(Ordering::Relaxed) == 0);
    net.forward(x)?;
    checks.claim("the first batch runs them", CALLS.load(Ordering::Relaxed) == 2);
    net.forward(x)?;
    checks.claim("the second does not", CALLS.load(Ordering::Relaxed) == 2);
    let known: Dense = Dense::new(256).in_units(20);
    known.initialize(MyInit, ctx)?;
    checks.claim("a layer that knows its inputs does not wait", known.weight().is_initialized());
    Ok(())
}
