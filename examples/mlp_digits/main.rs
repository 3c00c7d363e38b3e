//! Trains a perceptron with one hidden layer on 5,000 handwritten digits to an accuracy of at least 0.93 on digits that it
//! has not seen:
//!
//! ```text
//! cargo run --release --example mlp_digits
//! ```
//!
//! The same seed gives the same losses to the last bit. Fails when the accuracy is below what it claims.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{nn::data::idx, prelude::*};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// What the network must reach.
const CLAIM: f64 = 0.93;

#[derive(Parser)]
#[command(about = "Trains a perceptron with one hidden layer on handwritten digits")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Passes over the training data.
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    /// Seed of the weights and of the order of the data.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Samples per step.
    #[arg(long, default_value_t = 50)]
    batch_size: usize,
    /// Learning rate.
    #[arg(long, default_value_t = 0.1)]
    learning_rate: f64,
    /// Folder with the four files of MNIST, gzip-compressed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist5k"))]
    data: PathBuf,
}

/// The digits of one half of MNIST: pictures `[n, 28, 28]` as bytes, and classes `[n]`.
fn digits(folder: &Path, half: &str) -> Result<ArrayDataset<2>> {
    let images = idx::load(folder.join(format!("{half}-images-idx3-ubyte.gz")))?;
    let labels = idx::load(folder.join(format!("{half}-labels-idx1-ubyte.gz")))?;
    ArrayDataset::new([images, labels])
}

/// Grey levels 0 to 255 as numbers from 0 to 1.
fn normalize(images: &Tensor) -> Result<Tensor> {
    images.cast(DType::F32)?.mul_scalar(1.0 / 255.0)
}

fn accuracy(net: &Sequential, data: &DataLoader<ArrayDataset<2>>, ctx: &Dyn) -> Result<f64> {
    let mut accuracy = Accuracy::default();
    for batch in data.epoch(ctx) {
        let [images, labels] = batch?;
        accuracy.update(&labels, &net.forward(&normalize(&images)?)?)?;
    }
    Ok(accuracy.value())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    seed(options.seed);

    let train = DataLoader::new(digits(&options.data, "train")?, options.batch_size)?.shuffle(options.seed);
    let test = DataLoader::new(digits(&options.data, "t10k")?, 250)?;

    let mut net = Sequential::new();
    net.add(Dense::new(256).activation(Activation::Relu)).add(Dropout::new(0.3)).add(Dense::new(10));
    net.initialize(Xavier::default(), &ctx)?;
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(options.learning_rate).momentum(0.9))?;
    let criterion = SoftmaxCrossEntropyLoss::default();

    let bar = ProgressBar::new((options.epochs * train.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}, {eta} left")?);
    let begin = Instant::now();
    for epoch in 1..=options.epochs {
        let (mut total, mut seen) = (0.0, 0);
        for batch in train.epoch(&ctx) {
            let [images, labels] = batch?;
            let images = normalize(&images)?;
            let loss = autograd::record(|| criterion.loss(&net.forward(&images)?, &labels))?;
            loss.backward()?;
            trainer.step(labels.size())?;
            let sum = loss.sum((), false)?.asscalar::<f64>()?;
            bar.set_message(format!("loss {:.4}", sum / labels.size() as f64));
            bar.inc(1);
            total += sum;
            seen += labels.size();
        }
        let test_accuracy = accuracy(&net, &test, &ctx)?;
        let line = format!("epoch {epoch:2}: loss {:.9}, test accuracy {test_accuracy:.4}", total / seen as f64);
        bar.suspend(|| println!("{line}"));
    }
    bar.finish_and_clear();
    println!("{net}\ntrained in {:.1} s", begin.elapsed().as_secs_f64());

    let reached = accuracy(&net, &test, &ctx)?;
    println!("test accuracy: {reached:.4}");
    if reached < CLAIM {
        return Err(Error::invalid("mlp_digits", format!("the accuracy is below {CLAIM}")).into());
    }
    Ok(())
}
