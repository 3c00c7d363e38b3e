//! LeNet learns handwritten digits on this backend, from the pictures in the repository, as it does on the reference.

use abacus::Abacus;
use isograd_core::{Backend, DType, Result, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, AvgPool2D, Block, Conv2D, Dense, MaxPool2D, Parameters, Sequential, Trainer,
    data::{ArrayDataset, Dataset, idx},
    initializers::Xavier,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::SGD,
};
use isograd_reference::Reference;

/// LeCun's network of 1998, with rectified units.
fn lenet<B: Backend>() -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(Conv2D::new(6, 5).padding(2).activation(Activation::Relu))
        .add(MaxPool2D::new(2))
        .add(Conv2D::new(16, 5).activation(Activation::Relu))
        .add(AvgPool2D::new(2))
        .add(Dense::new(120).activation(Activation::Relu))
        .add(Dense::new(84).activation(Activation::Relu))
        .add(Dense::new(10));
    net
}

fn digits(half: &str) -> ArrayDataset<2> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/mnist5k");
    let mut images = idx::load(format!("{folder}/{half}-images-idx3-ubyte.gz")).unwrap();
    images.shape = images.shape.inserted(1, 1);
    ArrayDataset::new([images, idx::load(format!("{folder}/{half}-labels-idx1-ubyte.gz")).unwrap()]).unwrap()
}

fn batch<B: Backend>(data: &ArrayDataset<2>, start: usize, size: usize, ctx: &B) -> Result<(Tensor<B>, Tensor<B>)> {
    let [images, labels] = data.batch(&(start..start + size).collect::<Vec<_>>())?;
    let images = Tensor::from_host(ctx, &images)?.cast(DType::F32)?;
    Ok((images.mul_scalar(1.0 / 128.0)?.sub_scalar(1.0)?, Tensor::from_host(ctx, &labels)?))
}

/// The mean loss of each step, and the network.
fn train<B: Backend>(ctx: &B, data: &ArrayDataset<2>, steps: usize, size: usize) -> Result<(Vec<f64>, Sequential<B>)> {
    random::seed(42);
    let net = lenet();
    net.initialize(Xavier::default(), ctx)?;
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.05).momentum(0.9))?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    let mut losses = Vec::new();
    for step in 0..steps {
        let (images, labels) = batch(data, step * size % (data.len() - size), size, ctx)?;
        let loss = autograd::record(|| criterion.loss(&net.forward(&images)?, &labels))?;
        loss.backward()?;
        trainer.step(size)?;
        losses.push(loss.mean((), false)?.asscalar::<f64>()?);
    }
    Ok((losses, net))
}

#[test]
fn lenet_trains() {
    let (steps, size) = (120, 32);
    let (losses, net) = train(&Abacus, &digits("train"), steps, size).unwrap();
    let late = losses[steps - 10..].iter().sum::<f64>() / 10.0;
    assert!(late < losses[0] / 2.0, "the loss does not fall: {losses:?}");

    let (images, labels) = batch(&digits("t10k"), 0, 250, &Abacus).unwrap();
    let right = net.forward(&images).unwrap().argmax(1, false).unwrap().to_vec::<i64>().unwrap();
    let labels = labels.cast(DType::I64).unwrap().to_vec::<i64>().unwrap();
    let right = right.iter().zip(&labels).filter(|(a, b)| a == b).count();
    println!("losses {losses:.4?}, {right} of 250 right");
    assert!(right >= 200, "{right} of 250 right");
}

#[test]
fn the_first_losses_are_the_references() {
    let data = digits("train");
    let (here, _) = train(&Abacus, &data, 4, 8).unwrap();
    let (there, _) = train(&Reference, &data, 4, 8).unwrap();
    for (t, (a, b)) in here.iter().zip(&there).enumerate() {
        assert!((a - b).abs() <= isograd_conformance::networks::allowed(t) * b.max(1.0), "{here:?}, {there:?}");
    }
}
