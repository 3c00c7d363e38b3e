//! Linear regression twice, from scratch and with what the library has, on data made of known weights:
//!
//! ```text
//! cargo run --release --example linear_regression
//! ```
//!
//! Both must find the weights that the data were made of, or the program ends with an error.

use isograd::{format::HostArray, prelude::*};

const TRUE_WEIGHT: [f32; 2] = [2.0, -3.4];
const TRUE_BIAS: f32 = 4.2;
const SAMPLES: usize = 1000;
const BATCH: usize = 10;
const EPOCHS: usize = 3;

/// Inputs `[1000, 2]` of normal numbers, and X w + b with noise of standard deviation 0.01, `[1000, 1]`.
fn data(ctx: &Dyn) -> Result<(Tensor, Tensor)> {
    let x = Tensor::normal(ctx, [SAMPLES, 2], 0.0, 1.0, DType::F32)?;
    let weight = Tensor::from_slice(ctx, &TRUE_WEIGHT, [2, 1])?;
    let noise = Tensor::normal(ctx, [SAMPLES, 1], 0.0, 0.01, DType::F32)?;
    let y = x.matmul(&weight)?.add_scalar(TRUE_BIAS)?.add(&noise)?;
    Ok((x, y))
}

fn loader(x: &Tensor, y: &Tensor) -> Result<DataLoader<ArrayDataset<2>>> {
    let arrays: [HostArray; 2] = [x.to_host()?, y.to_host()?];
    Ok(DataLoader::new(ArrayDataset::new(arrays)?, BATCH)?.shuffle(7))
}

/// The model, the loss and the steps written out.
fn from_scratch(x: &Tensor, y: &Tensor) -> Result<(Vec<f32>, f32)> {
    let ctx = x.ctx();
    let weight = Tensor::normal(ctx, [2, 1], 0.0, 0.01, DType::F32)?;
    let bias = Tensor::zeros(ctx, [1], DType::F32)?;
    weight.attach_grad()?;
    bias.attach_grad()?;
    let model = |x: &Tensor| x.matmul(&weight)?.add(&bias);
    let squared_loss = |predicted: &Tensor, y: &Tensor| predicted.sub(y)?.square()?.mul_scalar(0.5);
    let loader = loader(x, y)?;
    for epoch in 1..=EPOCHS {
        for batch in loader.epoch(ctx) {
            let [x, y] = batch?;
            autograd::record(|| squared_loss(&model(&x)?, &y))?.backward()?;
            for parameter in [&weight, &bias] {
                let step = parameter.grad()?.mul_scalar(0.03 / BATCH as f64)?;
                parameter.assign(&parameter.detach().sub(&step)?)?;
            }
        }
        let loss = squared_loss(&model(x)?, y)?.mean((), false)?.asscalar::<f64>()?;
        println!("from scratch, epoch {epoch}: loss {loss:.6}");
    }
    Ok((weight.to_vec()?, bias.asscalar()?))
}

/// A layer, a loss and a trainer.
fn concise(x: &Tensor, y: &Tensor) -> Result<(Vec<f32>, f32)> {
    let ctx = x.ctx();
    let net = Dense::new(1);
    net.initialize(Normal { sigma: 0.01 }, ctx)?;
    let criterion = L2Loss::default();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.03))?;
    let loader = loader(x, y)?;
    for epoch in 1..=EPOCHS {
        for batch in loader.epoch(ctx) {
            let [x, y] = batch?;
            autograd::record(|| criterion.loss(&net.forward(&x)?, &y))?.backward()?;
            trainer.step(BATCH)?;
        }
        let loss = criterion.loss(&net.forward(x)?, y)?.mean((), false)?.asscalar::<f64>()?;
        println!("concise, epoch {epoch}: loss {loss:.6}");
    }
    let bias = net.bias().expect("a Dense layer has a bias unless told otherwise");
    Ok((net.weight().data()?.to_vec()?, bias.data()?.asscalar()?))
}

fn main() -> Result<()> {
    let ctx = isograd::default_device()?;
    seed(1);
    let (x, y) = data(&ctx)?;
    for (name, (weight, bias)) in [("from scratch", from_scratch(&x, &y)?), ("concise", concise(&x, &y)?)] {
        println!("{name}: w = {weight:?} of {TRUE_WEIGHT:?}, b = {bias} of {TRUE_BIAS}");
        let off = weight.iter().zip(TRUE_WEIGHT).map(|(a, b)| (a - b).abs()).fold((bias - TRUE_BIAS).abs(), f32::max);
        if off.is_nan() || off > 0.01 {
            return Err(Error::invalid("linear_regression", format!("{name}: off by {off}, more than 0.01")));
        }
    }
    Ok(())
}
