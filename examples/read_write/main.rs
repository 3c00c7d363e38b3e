//! Tensors, networks and training in files:
//!
//! ```text
//! cargo run --release --example read_write
//! ```
//!
//! Everything that is written is read back and compared, and a training that is stopped and resumed must end exactly where one
//! that was not stopped does; otherwise the program ends with an error.

use isograd::{
    format,
    nn::{
        Checkpoint, LoadOptions, SaveOptions,
        initializers::Xavier,
        loss::{L2Loss, Loss},
        optimizer::{Adam, Schedule, Scheduled},
    },
    prelude::*,
};
use std::path::Path;

fn check(what: &str, holds: bool) -> Result<()> {
    println!("{what}: {}", if holds { "yes" } else { "no" });
    if holds { Ok(()) } else { Err(Error::invalid("read_write", format!("this does not hold: {what}"))) }
}

fn tensors(ctx: &Dyn, folder: &Path) -> Result<()> {
    let x = Tensor::arange(ctx, 0, 4, 1, DType::F32)?;
    let y = Tensor::from_slice(ctx, &[1i64, 2], [2])?;

    // One tensor, as NumPy reads it.
    format::save_list(folder.join("x.npy"), &[&x])?;
    let one = format::load_list(folder.join("x.npy"), ctx)?;
    check("a tensor comes back from x.npy", one[0].to_vec::<f32>()? == x.to_vec::<f32>()?)?;

    // A list, as MXNet's nd.load reads it.
    format::save_list(folder.join("xy.nd"), &[&x, &y])?;
    let list = format::load_list(folder.join("xy.nd"), ctx)?;
    check("a list comes back from xy.nd", list.len() == 2 && list[1].to_vec::<i64>()? == [1, 2])?;

    // Tensors with names, in three formats.
    for name in ["xy.npz", "xy.safetensors", "xy_named.nd"] {
        format::save_named(folder.join(name), &[("x", &x), ("y", &y)])?;
        let named = format::load_named(folder.join(name), ctx)?;
        let same = named["x"].to_vec::<f32>()? == x.to_vec::<f32>()? && named["y"].to_vec::<i64>()? == [1, 2];
        check(&format!("names and tensors come back from {name}"), same)?;
    }

    // A damaged file is an error that says where, not half a tensor.
    let path = folder.join("xy.npz");
    let bytes = std::fs::read(&path)?;
    std::fs::write(&path, &bytes[..bytes.len() / 2])?;
    let error = format::load_named(&path, ctx).unwrap_err();
    println!("half a file: {error}");
    check("half a file is an error that names it", error.to_string().contains("xy.npz"))
}

fn mlp() -> Sequential {
    let mut net = Sequential::new();
    net.add(Dense::new(16).activation(Activation::Tanh)).add(Dense::new(1));
    net
}

fn networks(ctx: &Dyn, folder: &Path) -> Result<()> {
    let net = mlp();
    net.initialize(Xavier::default(), ctx)?;
    let x = Tensor::normal(ctx, [2, 8], 0.0, 1.0, DType::F32)?;
    let expected = net.forward(&x)?.to_vec::<f32>()?;

    // By structural paths: safetensors, or MXNet's format where the name ends in .params.
    for name in ["mlp.safetensors", "mlp.params"] {
        net.save_parameters(folder.join(name))?;
        let fresh = mlp();
        fresh.load_parameters(folder.join(name), ctx)?;
        check(
            &format!("a fresh network with {name} computes the same"),
            fresh.forward(&x)?.to_vec::<f32>()? == expected,
        )?;
    }

    // A longer network takes what there is, when it may.
    let mut longer = mlp();
    longer.add(Dense::new(2));
    longer.initialize(Xavier::default(), ctx)?;
    let file = folder.join("mlp.safetensors");
    let error = longer.load_parameters(&file, ctx).unwrap_err();
    println!("strictly: {error}");
    check("what is missing is named", error.to_string().contains("2.weight"))?;
    longer.load_parameters_with(&file, ctx, LoadOptions { allow_missing: true, ..LoadOptions::default() })?;
    let first = longer[0].forward(&x)?.to_vec::<f32>()? == net[0].forward(&x)?.to_vec::<f32>()?;
    check("with allow_missing the rest is loaded", first)?;

    // Files of others have other names.
    let theirs = |ours: &str| ours.split_once('.').map(|(layer, rest)| format!("fc{layer}.{rest}"));
    let mut values = Vec::new();
    for (path, parameter) in net.collect_params().iter() {
        values.push((theirs(path).expect("a path has a dot"), parameter.data()?));
    }
    format::save_named(folder.join("theirs.safetensors"), &values)?;
    let fresh = mlp();
    fresh.load_parameters_with(folder.join("theirs.safetensors"), ctx, LoadOptions::default().names(theirs))?;
    check("a map of names loads a file of other names", fresh.forward(&x)?.to_vec::<f32>()? == expected)?;

    // Shared parameters are one after loading, too.
    let shared = || {
        let layer = Dense::new(8);
        let mut net: Sequential = Sequential::new();
        net.add(layer.clone()).add(layer);
        net
    };
    let tied = shared();
    tied.initialize(Xavier::default(), ctx)?;
    tied.forward(&x)?;
    tied.save_parameters_with(folder.join("tied.params"), SaveOptions { deduplicate: true })?;
    check("a shared layer is in the file once", format::load_list(folder.join("tied.params"), ctx)?.len() == 2)?;
    let loaded = shared();
    loaded.load_parameters(folder.join("tied.params"), ctx)?;
    check("and computes the same", loaded.forward(&x)?.to_vec::<f32>()? == tied.forward(&x)?.to_vec::<f32>()?)
}

fn trainer(net: &Sequential) -> Result<Trainer> {
    Trainer::new(net.collect_params(), Scheduled::new(Adam::new(0.01), Schedule::cosine(40).warm_up(5)))
}

fn train(net: &Sequential, trainer: &mut Trainer, ctx: &Dyn, steps: usize) -> Result<f64> {
    let x = Tensor::linspace(ctx, -1.0, 1.0, 64, DType::F32)?.reshape([64, 1])?;
    let y = x.mul_scalar(3.0)?.sin()?;
    let mut last = f64::NAN;
    for _ in 0..steps {
        let loss = autograd::record(|| L2Loss::default().loss(&net.forward(&x)?, &y))?;
        loss.backward()?;
        trainer.step(64)?;
        last = loss.mean((), false)?.asscalar()?;
    }
    Ok(last)
}

fn resume(ctx: &Dyn, folder: &Path) -> Result<()> {
    let begin = || -> Result<(Sequential, Trainer)> {
        seed(3);
        let net = mlp();
        net.initialize(Xavier::default(), ctx)?;
        let trainer = trainer(&net)?;
        Ok((net, trainer))
    };
    let (unbroken, mut steps) = begin()?;
    let loss = train(&unbroken, &mut steps, ctx, 40)?;

    let (stopped, mut steps) = begin()?;
    train(&stopped, &mut steps, ctx, 17)?;
    Checkpoint::new(&stopped).trainer(&mut steps).save(folder.join("training.safetensors"), 17)?;

    let resumed = mlp();
    let mut steps = trainer(&resumed)?;
    Checkpoint::new(&resumed).trainer(&mut steps).load(folder.join("training.safetensors"), ctx)?;
    let resumed_loss = train(&resumed, &mut steps, ctx, 23)?;
    println!("after 40 steps: loss {loss} unbroken, {resumed_loss} with a stop after 17");
    let bits = |net: &Sequential| -> Result<Vec<Vec<u8>>> {
        net.collect_params().iter().map(|(_, p)| p.data()?.to_bytes()).collect()
    };
    check("a resumed training ends where an unbroken one does, to the last bit", bits(&resumed)? == bits(&unbroken)?)
}

fn main() -> Result<()> {
    let ctx = isograd::default_device()?;
    seed(1);
    let folder = tempfile::tempdir()?;
    tensors(&ctx, folder.path())?;
    networks(&ctx, folder.path())?;
    resume(&ctx, folder.path())
}
