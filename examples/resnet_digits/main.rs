//! Trains a small residual network on 5,000 handwritten digits to an accuracy of at least 0.98 on digits that it has not
//! seen:
//!
//! ```text
//! cargo run --release --example resnet_digits
//! ```
//!
//! The pictures are turned and moved a little each time; the learning rate falls along half a cosine. The same seed gives the
//! same losses to the last bit. Fails when the accuracy is below what it claims.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{
    format::HostArray,
    nn::{
        data::{
            DataLoader, Dataset, SimpleDataset, Transform, idx,
            vision::{Image, Normalize, RandomCrop, RandomRotation, ToTensor},
        },
        initializers::MSRAPrelu,
        loss::{Loss, SoftmaxCrossEntropyLoss},
        metric::{Accuracy, Metric},
        optimizer::SGD,
        zoo::{self, ResNet, ResNetConfig},
    },
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
    #[arg(long, default_value_t = 24)]
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
    /// Threads that augment pictures; the batches are the same with any number.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Folder with the four files of MNIST, gzip-compressed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist5k"))]
    data: PathBuf,
}

/// The digits of one half of MNIST: pictures of 28 by 28, and classes.
fn digits(folder: &Path, half: &str) -> Result<SimpleDataset<(Image, i64)>> {
    let images = idx::load(folder.join(format!("{half}-images-idx3-ubyte.gz")))?;
    let labels = idx::load(folder.join(format!("{half}-labels-idx1-ubyte.gz")))?.to_vec::<u8>()?;
    let (height, width) = (images.shape[1], images.shape[2]);
    let pixels = images.to_vec::<u8>()?;
    let samples = pixels.chunks(height * width).zip(labels);
    let samples = samples.map(|(p, label)| Ok((Image::new(height, width, 1, p.to_vec())?, i64::from(label))));
    Ok(SimpleDataset::new(samples.collect::<Result<_>>()?))
}

fn accuracy<D: Dataset<Item = (HostArray, i64)>>(net: &ResNet, data: &DataLoader<D>, ctx: &Dyn) -> Result<f64> {
    let mut accuracy = Accuracy::default();
    for batch in data.epoch(ctx) {
        let (images, labels) = batch?;
        accuracy.update(&labels, &net.forward(&images)?)?;
    }
    Ok(accuracy.value())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    seed(options.seed);

    let array = ToTensor.then(Normalize::new(&[0.5], &[0.5])?);
    let augment = RandomRotation::new(-10.0, 10.0).then(RandomCrop::new(28, 28).padding(2, 0));
    let train = digits(&options.data, "train")?.transform_first(augment.then(array.clone()));
    let train = DataLoader::new(train, options.batch_size)?.shuffle(options.seed).workers(options.workers);
    let test = DataLoader::new(digits(&options.data, "t10k")?.transform_first(array), 250)?;

    let config =
        ResNetConfig { blocks: vec![1, 1, 1], width: options.width, small_images: true, ..ResNetConfig::default() };
    let net = ResNet::new(&config, zoo::Options::new(10).in_channels(1));
    net.initialize(MSRAPrelu::he(), &ctx)?;
    println!("{net}\n{} parameters, on {}", zoo::parameter_count(&net)?, options.device);

    let optimizer = SGD::new(options.learning_rate).momentum(0.9).weight_decay(5e-4);
    let steps = options.epochs * train.len();
    let optimizer = Scheduled::new(optimizer, Schedule::cosine(steps.max(1) as u64));
    let mut trainer = Trainer::new(net.collect_params(), optimizer)?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}, {eta} left")?);
    let begin = Instant::now();
    for epoch in 1..=options.epochs {
        let (mut total, mut seen) = (0.0, 0);
        for batch in train.epoch(&ctx) {
            let (images, labels) = batch?;
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
        return Err(Error::invalid("resnet_digits", format!("the accuracy is below {CLAIM}")).into());
    }
    Ok(())
}
