//! Trains a small residual network on 5,000 handwritten digits to an accuracy of at least 0.98 on digits that it has not
//! seen:
//!
//! ```text
//! cargo run --release --example resnet_digits
//! ```
//!
//! The pictures are moved by up to two pixels each time; the learning rate falls along half a cosine. The same seed gives the
//! same losses to the last bit. Fails when the accuracy is below what it claims.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{
    nn::{
        data::{ArrayDataset, DataLoader, idx},
        initializers::MSRAPrelu,
        loss::{Loss, SoftmaxCrossEntropyLoss},
        metric::{Accuracy, Metric},
        optimizer::SGD,
        zoo::{self, ResNet, ResNetConfig},
    },
    operators::{PadMode, random},
    prelude::*,
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// What the network must reach.
const CLAIM: f64 = 0.98;

#[derive(Parser)]
#[command(about = "Trains a small residual network on handwritten digits")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Passes over the training data.
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    /// Seed of the weights and of the order of the data.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Samples per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Learning rate at the start; it falls to zero along half a cosine.
    #[arg(long, default_value_t = 0.1)]
    learning_rate: f64,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 12)]
    width: usize,
    /// Folder with the four files of MNIST, gzip-compressed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist5k"))]
    data: PathBuf,
}

/// The digits of one half of MNIST: pictures `[n, 1, 28, 28]` as bytes, and classes `[n]`.
fn digits(folder: &Path, half: &str) -> Result<ArrayDataset<2>> {
    let mut images = idx::load(folder.join(format!("{half}-images-idx3-ubyte.gz")))?;
    let labels = idx::load(folder.join(format!("{half}-labels-idx1-ubyte.gz")))?;
    images.shape = images.shape.inserted(1, 1);
    ArrayDataset::new([images, labels])
}

/// Grey levels 0 to 255 as numbers around zero.
fn normalize(images: &Tensor) -> Result<Tensor> {
    images.cast(DType::F32)?.mul_scalar(1.0 / 128.0)?.sub_scalar(1.0)
}

/// The pictures, each moved by up to two pixels along each axis.
fn shifted(images: &Tensor) -> Result<Tensor> {
    let (count, height, width) = (images.shape()[0], images.shape()[2], images.shape()[3]);
    let padded = images.pad(&[(0, 0), (0, 0), (2, 2), (2, 2)], PadMode::Constant(0.0))?;
    let mut moved = Vec::with_capacity(count);
    for i in 0..count {
        let key = random::next_key() as usize;
        moved.push(padded.narrow(0, i, 1)?.narrow(2, key % 5, height)?.narrow(3, key / 5 % 5, width)?);
    }
    Tensor::concat(&moved.iter().collect::<Vec<_>>(), 0)
}

fn accuracy(net: &ResNet, data: &DataLoader<ArrayDataset<2>>, ctx: &Dyn) -> Result<f64> {
    let mut accuracy = Accuracy::default();
    for batch in data.epoch(ctx) {
        let [images, labels] = batch?;
        accuracy.update(&labels, &net.forward(&normalize(&images)?)?)?;
    }
    Ok(Metric::<Dyn>::value(&accuracy))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    random::seed(options.seed);

    let train = DataLoader::new(digits(&options.data, "train")?, options.batch_size)?.shuffle(options.seed);
    let test = DataLoader::new(digits(&options.data, "t10k")?, 250)?;

    let config =
        ResNetConfig { blocks: vec![1, 1, 1], width: options.width, small_images: true, ..ResNetConfig::default() };
    let net = ResNet::new(&config, zoo::Options::new(10).in_channels(1));
    net.initialize(MSRAPrelu::he(), &ctx)?;
    println!("{net}\n{} parameters, on {}", zoo::parameter_count(&net)?, options.device);

    let optimizer = SGD::new(options.learning_rate).momentum(0.9).weight_decay(5e-4);
    let mut trainer = Trainer::new(net.collect_params(), optimizer)?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    let steps = options.epochs * train.len();
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}, {eta} left")?);
    let begin = Instant::now();
    for epoch in 1..=options.epochs {
        let (mut total, mut seen) = (0.0, 0);
        for batch in train.epoch(&ctx) {
            let [images, labels] = batch?;
            let images = normalize(&shifted(&images)?)?;
            let done = bar.position() as f64 / steps as f64;
            trainer.set_learning_rate(options.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()));
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
    println!("trained in {:.1} s", begin.elapsed().as_secs_f64());

    let reached = accuracy(&net, &test, &ctx)?;
    println!("test accuracy: {reached:.4}");
    if reached < CLAIM {
        return Err(format!("the accuracy is below {CLAIM}").into());
    }
    Ok(())
}
