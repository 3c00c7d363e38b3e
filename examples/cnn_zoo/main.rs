//! Trains each network of the model zoo for a few steps on one batch, and checks that the loss falls:
//!
//! ```text
//! cargo run --release --example cnn_zoo -- --only resnet
//! ```
//!
//! Pictures are as small as each network allows and of random numbers, since the question is whether gradients reach every
//! layer, not what is learned. Fails when the loss is not finite or does not fall, or when a
//! gradient is not finite.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{
    GradReq,
    nn::{
        initializers::{MSRAPrelu, Normal},
        loss::{Loss, SoftmaxCrossEntropyLoss},
        optimizer::SGD,
        zoo::{self, *},
    },
    prelude::*,
};
use std::time::Instant;

#[derive(Parser)]
#[command(about = "A few steps of each network of the model zoo")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Networks whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Steps per network.
    #[arg(long, default_value_t = 2)]
    steps: usize,
    /// Seed of weights, data and dropout.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const CLASSES: usize = 10;
const BATCH: usize = 4;

/// A network and what it reads.
struct Entry {
    name: &'static str,
    make: fn() -> Result<Box<dyn Block>>,
    input: Input,
}

enum Input {
    /// Pictures of so many channels and pixels a side.
    Pictures(usize, usize),
    /// Words, time first or batch first.
    Words,
}

fn boxed(net: impl Block + 'static) -> Result<Box<dyn Block>> {
    Ok(Box::new(net))
}

/// The networks, from the top of the page down.
fn networks() -> Vec<Entry> {
    use Input::{Pictures, Words};
    let entry = |name, input, make| Entry { name, make, input };
    vec![
        entry("lenet", Pictures(1, 28), || boxed(lenet(zoo::Options::new(CLASSES).in_channels(1)))),
        entry("alexnet", Pictures(3, 63), || boxed(alexnet(CLASSES))),
        entry("vgg11", Pictures(3, 32), || boxed(vgg11(CLASSES))),
        entry("vgg13", Pictures(3, 32), || boxed(vgg13(CLASSES))),
        entry("vgg16", Pictures(3, 32), || boxed(vgg16(CLASSES))),
        entry("vgg19_bn", Pictures(3, 32), || boxed(vgg19_bn(CLASSES))),
        entry("nin", Pictures(3, 67), || boxed(nin(CLASSES))),
        entry("googlenet", Pictures(3, 64), || boxed(googlenet(CLASSES, false))),
        entry("resnet18", Pictures(3, 32), || boxed(resnet18(CLASSES))),
        entry("resnet34", Pictures(3, 32), || boxed(resnet34(CLASSES))),
        entry("resnet50", Pictures(3, 32), || boxed(resnet50(CLASSES))),
        entry("resnet101", Pictures(3, 32), || boxed(resnet101(CLASSES))),
        entry("resnet152", Pictures(3, 32), || boxed(resnet152(CLASSES))),
        entry("resnet18_v2", Pictures(3, 32), || boxed(resnet18_v2(CLASSES))),
        // At 32 pixels its last normalizations see four numbers, and whether a step falls or rises is up to the last bits.
        entry("resnet50_v2", Pictures(3, 64), || boxed(resnet50_v2(CLASSES))),
        entry("densenet121", Pictures(3, 64), || boxed(densenet121(CLASSES))),
        entry("densenet161", Pictures(3, 64), || boxed(densenet161(CLASSES))),
        entry("densenet169", Pictures(3, 64), || boxed(densenet169(CLASSES))),
        entry("densenet201", Pictures(3, 64), || boxed(densenet201(CLASSES))),
        entry("mobilenet_v1", Pictures(3, 64), || boxed(mobilenet_v1(CLASSES, 1.0))),
        entry("mobilenet_v2", Pictures(3, 64), || boxed(mobilenet_v2(CLASSES, 1.0))),
        entry("lstm language model", Words, || {
            boxed(LstmLanguageModel::new(LstmLanguageModelConfig {
                embedding: 64,
                hidden: 64,
                tied: true,
                ..LstmLanguageModelConfig::medium(CLASSES)
            })?)
        }),
        entry("gpt", Words, || boxed(Gpt::new(GptConfig::small(CLASSES, 16))?)),
        entry("book lenet", Pictures(1, 28), || boxed(book::lenet(CLASSES))),
        entry("book alexnet", Pictures(1, 80), || boxed(book::alexnet(CLASSES))),
        entry("book vgg", Pictures(1, 32), || {
            boxed(book::vgg(&[(1, 16), (1, 32), (2, 64), (2, 128), (2, 128)], CLASSES))
        }),
        entry("book nin", Pictures(1, 80), || boxed(book::nin(CLASSES))),
        entry("book googlenet", Pictures(1, 32), || boxed(book::googlenet(CLASSES))),
        entry("book resnet18", Pictures(1, 32), || boxed(book::resnet18(CLASSES))),
        entry("book densenet", Pictures(1, 32), || boxed(book::densenet(CLASSES))),
    ]
}

impl Input {
    /// A batch and its labels.
    fn batch(&self, ctx: &Dyn) -> Result<(Tensor, Tensor)> {
        match *self {
            Input::Pictures(channels, side) => Ok((
                Tensor::normal(ctx, [BATCH, channels, side, side], 0.0, 1.0, DType::F32)?,
                Tensor::randint(ctx, [BATCH], 0, CLASSES as i64, DType::I64)?,
            )),
            Input::Words => Ok((
                Tensor::randint(ctx, [16, 16], 0, CLASSES as i64, DType::I64)?,
                Tensor::randint(ctx, [16, 16], 0, CLASSES as i64, DType::I64)?,
            )),
        }
    }
}

/// The losses before and after the steps, and how many numbers are trained.
fn train(entry: &Entry, ctx: &Dyn, options: &Options) -> Result<(Vec<f64>, usize)> {
    seed(options.seed);
    let net = (entry.make)()?;
    let parameters = net.collect_params();
    match entry.input {
        Input::Pictures(..) => parameters.initialize(MSRAPrelu::he(), ctx)?,
        Input::Words => parameters.initialize(Normal { sigma: 0.1 }, ctx)?,
    }
    let (x, y) = entry.input.batch(ctx)?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    // The same elements are dropped each time, so that the steps descend one function.
    let loss = || {
        seed(options.seed + 1);
        autograd::record(|| criterion.loss(&net.forward(&x)?, &y)?.mean((), false))
    };
    // Small, since normalization over a batch of four bends the loss strongly.
    let rate = if matches!(entry.input, Input::Words) { 0.02 } else { 1e-4 };
    let mut trainer = Trainer::new(parameters.clone(), SGD::new(rate))?;
    let mut losses = Vec::with_capacity(options.steps + 1);
    for _ in 0..options.steps {
        let value = loss()?;
        value.backward()?;
        trainer.step(1)?;
        losses.push(value.asscalar::<f64>()?);
    }
    losses.push(loss()?.asscalar::<f64>()?);
    for (path, parameter) in parameters.unique().iter().filter(|(_, p)| p.grad_req() != GradReq::Null) {
        if !parameter.grad()?.abs()?.max((), false)?.asscalar::<f64>()?.is_finite() {
            return Err(Error::invalid("cnn_zoo", format!("the gradient of {path} is not finite")));
        }
    }
    Ok((losses, parameter_count(&*net)?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    let chosen: Vec<Entry> = networks().into_iter().filter(|e| e.name.contains(&options.only)).collect();
    if chosen.is_empty() {
        let why = format!("no network's name contains {:?}", options.only);
        return Err(Error::invalid("cnn_zoo", why).into());
    }

    let bar = ProgressBar::new(chosen.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} networks, {msg}, {eta} left")?);
    let begin = Instant::now();
    let mut failed = Vec::new();
    for entry in &chosen {
        bar.set_message(entry.name);
        let start = Instant::now();
        let (losses, count) = train(entry, &ctx, &options)?;
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        let seconds = start.elapsed().as_secs_f64();
        bar.suspend(|| {
            println!("{:20} {count:>11} parameters, loss {first:.5} -> {last:.5}, {seconds:.1} s", entry.name)
        });
        if !(last.is_finite() && last < first) {
            failed.push(format!("{}: losses {losses:?}", entry.name));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{} networks in {:.1} s", chosen.len(), begin.elapsed().as_secs_f64());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid("cnn_zoo", format!("the loss did not fall of {}", failed.join("; "))).into())
    }
}
