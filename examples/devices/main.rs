//! Devices: which there are, moving tensors, and one network trained on several at once:
//!
//! ```text
//! cargo run --release --example devices
//! ```
//!
//! Every claim is checked, and the program ends with an error when one does not hold.

use isograd::{
    Cpu,
    nn::{
        initializers::Xavier,
        loss::{Loss, SoftmaxCrossEntropyLoss},
        optimizer::SGD,
        parallel::split_and_load,
    },
    prelude::*,
};
use isograd_reference::Reference;

fn check(what: &str, holds: bool) -> Result<()> {
    println!("{what}: {}", if holds { "yes" } else { "no" });
    if holds { Ok(()) } else { Err(Error::invalid("devices", format!("this does not hold: {what}"))) }
}

fn moving(a: &Dyn, b: &Dyn) -> Result<()> {
    let x = Tensor::from_slice(a, &[1.0f32, 2.0, 3.0], [3])?;
    check("a tensor is on the device that it was made on", x.ctx() == a)?;
    check("as_in_context of the same device shares memory", x.as_in_context(a)?.shares_memory_with(&x))?;
    check("copyto makes new memory even there", !x.copyto(a)?.shares_memory_with(&x))?;
    let y = x.as_in_context(b)?;
    check("on another device the values are the same", y.ctx() == b && y.to_vec::<f32>()? == x.to_vec::<f32>()?)?;
    let error = x.add(&y).unwrap_err();
    println!("x + y: {error}");
    check("nothing moves by itself", matches!(error, Error::DeviceMismatch { .. }))?;

    // Gradients flow back over the border.
    x.attach_grad()?;
    autograd::record(|| x.square()?.as_in_context(b)?.mul_scalar(3))?.backward()?;
    check("gradients come back from the other device", x.grad()?.to_vec::<f32>()? == [6.0, 12.0, 18.0])
}

fn network(contexts: &[Dyn]) -> Result<Sequential> {
    seed(5);
    let mut net = Sequential::new();
    net.add(Dense::new(32).in_units(16).activation(Activation::Relu)).add(Dense::new(4).in_units(32));
    net.initialize(Xavier::default(), contexts)?;
    Ok(net)
}

/// 30 steps, each with a part of the batch on every context; the loss before each step.
fn train(contexts: &[Dyn], x: &Tensor, y: &Tensor) -> Result<(Sequential, Vec<f64>)> {
    let net = network(contexts)?;
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1).momentum(0.9))?;
    let mut losses = Vec::new();
    for _ in 0..30 {
        let parts = split_and_load(x, contexts, 0, true)?.into_iter().zip(split_and_load(y, contexts, 0, true)?);
        let mut total = 0.0;
        for (x, y) in parts {
            let loss = autograd::record(|| SoftmaxCrossEntropyLoss::default().loss(&net.forward(&x)?, &y))?;
            loss.backward()?;
            total += loss.sum((), false)?.asscalar::<f64>()?;
        }
        trainer.step(x.shape()[0])?;
        losses.push(total / x.shape()[0] as f64);
    }
    Ok((net, losses))
}

fn parallel(contexts: &[Dyn]) -> Result<()> {
    seed(2);
    let x = Tensor::normal(&contexts[0], [48, 16], 0.0, 1.0, DType::F32)?;
    let y = x.narrow(1, 0, 4)?.argmax(1, false)?;
    let (single, expected) = train(&contexts[..1], &x, &y)?;
    let (several, losses) = train(contexts, &x, &y)?;
    println!("loss from {:.4} to {:.4} on {} contexts", losses[0], losses[29], contexts.len());
    check("it learns", losses[29] < 0.3 * losses[0])?;
    let off = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("losses differ from those on one context by at most {off:.1e}");
    check("training on several contexts is training on one, but for rounding", off < 1e-5)?;
    for ((path, parameter), (_, one)) in several.collect_params().iter().zip(single.collect_params().iter()) {
        let replicas = parameter.list_data()?;
        let first = replicas[0].to_bytes()?;
        for replica in &replicas {
            check(
                &format!("{path} on {} is the first one's, to the last bit", replica.ctx().name()),
                replica.to_bytes()? == first,
            )?;
        }
        let off = replicas[0].detach().sub(&one.data()?.detach())?.abs()?.max((), false)?.asscalar::<f64>()?;
        check(&format!("{path} is that of one context, within 1e-5"), off < 1e-5)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    println!("devices of this build: {}", isograd::devices().join(", "));
    let ctx = isograd::default_device()?;
    println!("the default device is {}, and it computes with {:?}", ctx.name(), ctx.capabilities().computes);
    let error = device("abacus").unwrap_err();
    println!("{error}");
    check("a device that is not there is an error that names those that are", error.to_string().contains("cpu"))?;
    check("the same name gives the same device", device("cpu")? == device("cpu:0")?)?;

    // A context is a value: others of the same machine are other contexts.
    let (reference, one_thread) = (Dyn::new(Reference), Dyn::new(Cpu::with_threads(1)?));
    moving(&ctx, &reference)?;
    moving(&reference, &one_thread)?;
    parallel(&[ctx.clone(), one_thread, reference])?;
    Ok(())
}
