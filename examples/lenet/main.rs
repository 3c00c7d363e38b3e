//! Trains LeNet on handwritten digits, on whatever device is asked for:
//!
//! ```text
//! cargo run --release --example lenet -- --epochs 16 --device cpu
//! ```
//!
//! It shows a progress bar, prints loss and accuracy per epoch, draws the training curve as SVG, saves the parameters and
//! loads them into a fresh network. The same seed gives the same losses to the last bit. The data are 5,000 digits of MNIST
//! in `data/mnist5k`; `--data` takes any folder with the four files of MNIST, so the full set works as well.

mod plot;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{
    nn::data::idx,
    operators::{PadMode, random},
    prelude::*,
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

#[derive(Parser)]
#[command(about = "Trains LeNet on handwritten digits")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Passes over the training data.
    #[arg(long, default_value_t = 16)]
    epochs: usize,
    /// Seed of the weights and of the order of the data.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Samples per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Learning rate at the start; it falls to zero along half a cosine.
    #[arg(long, default_value_t = 0.05)]
    learning_rate: f64,
    /// Use the first so many samples only.
    #[arg(long)]
    limit: Option<usize>,
    /// Folder with the four files of MNIST, gzip-compressed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist5k"))]
    data: PathBuf,
    /// Folder for the parameters and the training curve.
    #[arg(long, default_value = "lenet-output")]
    out: PathBuf,
}

/// The digits of one half of MNIST: pictures `[n, 1, 28, 28]` as bytes, and classes `[n]`.
fn digits(folder: &Path, half: &str, limit: Option<usize>) -> Result<ArrayDataset<2>> {
    let mut images = idx::load(folder.join(format!("{half}-images-idx3-ubyte.gz")))?;
    let mut labels = idx::load(folder.join(format!("{half}-labels-idx1-ubyte.gz")))?;
    if let (Some(limit), &[n, height, width]) = (limit.filter(|l| *l < labels.shape[0]), &images.shape[..]) {
        images.bytes.truncate(limit * images.bytes.len() / n);
        labels.bytes.truncate(limit);
        (images.shape, labels.shape) = ([limit, height, width].into(), [limit].into());
    }
    images.shape = images.shape.inserted(1, 1);
    ArrayDataset::new([images, labels])
}

/// LeCun's network with rectified units and max pooling.
fn lenet() -> Sequential {
    let mut net = Sequential::new();
    net.add(Conv2D::new(16, 5).padding(2).activation(Activation::Relu))
        .add(MaxPool2D::new(2))
        .add(Conv2D::new(32, 5).activation(Activation::Relu))
        .add(MaxPool2D::new(2))
        .add(Dropout::new(0.3))
        .add(Dense::new(120).activation(Activation::Relu))
        .add(Dense::new(84).activation(Activation::Relu))
        .add(Dense::new(10));
    net
}

/// Grey levels 0 to 255 as numbers around zero.
fn normalize(images: &Tensor) -> Result<Tensor> {
    images.cast(DType::F32)?.mul_scalar(1.0 / 128.0)?.sub_scalar(1.0)
}

/// The pictures, each moved by up to two pixels along each axis, so that the network sees more of them than there are.
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

    let train = DataLoader::new(digits(&options.data, "train", options.limit)?, options.batch_size)?;
    let train = train.shuffle(options.seed);
    let test = DataLoader::new(digits(&options.data, "t10k", options.limit)?, 250)?;

    let net = lenet();
    net.initialize(Xavier::default(), &ctx)?;
    let steps = options.epochs * train.len();
    let optimizer = SGD::new(options.learning_rate).momentum(0.9).weight_decay(5e-4);
    let optimizer = Scheduled::new(optimizer, Schedule::cosine(steps.max(1) as u64));
    let mut trainer = Trainer::new(net.collect_params(), optimizer)?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    println!("{net}\non {}", options.device);

    let begin = Instant::now();
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}, {eta} left")?);
    let mut curve = Vec::new();
    for epoch in 1..=options.epochs {
        let (mut total, mut hits) = (0.0, Accuracy::default());
        for batch in train.epoch(&ctx) {
            let [images, labels] = batch?;
            let images = normalize(&shifted(&images)?)?;
            let (loss, scores) = autograd::try_record(|| {
                let scores = net.forward(&images)?;
                Ok((criterion.loss(&scores, &labels)?, scores))
            })?;
            loss.backward()?;
            trainer.step(labels.size())?;
            let sum = loss.sum((), false)?.asscalar::<f64>()?;
            bar.set_message(format!("loss {:.4}", sum / labels.size() as f64));
            bar.inc(1);
            total += sum;
            hits.update(&labels, &scores)?;
        }
        let (correct, seen) = hits.counts();
        let (loss, train_accuracy) = (total / seen as f64, correct as f64 / seen as f64);
        let test_accuracy = accuracy(&net, &test, &ctx)?;
        let line =
            format!("epoch {epoch:2}: loss {loss:.9}, train accuracy {train_accuracy:.4}, test {test_accuracy:.4}");
        bar.suspend(|| println!("{line}"));
        curve.push(plot::Point { loss, train_accuracy, test_accuracy });
    }
    bar.finish_and_clear();
    println!("trained in {:.1} s", begin.elapsed().as_secs_f64());

    std::fs::create_dir_all(&options.out)?;
    plot::training_curve(&options.out.join("training.svg"), &curve)?;
    let file = options.out.join("lenet.safetensors");
    net.save_parameters(&file)?;

    // A fresh network with the saved parameters must do exactly as well.
    let fresh = lenet();
    fresh.load_parameters(&file, &ctx)?;
    let (trained, loaded) = (accuracy(&net, &test, &ctx)?, accuracy(&fresh, &test, &ctx)?);
    if trained != loaded {
        let why = format!("the loaded network has accuracy {loaded}, the trained one {trained}");
        return Err(Error::invalid("lenet", why).into());
    }
    println!("parameters and training curve are in {}", options.out.display());
    println!("test accuracy: {loaded:.4}");
    Ok(())
}
