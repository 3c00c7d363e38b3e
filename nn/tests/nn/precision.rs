//! Half precision: masters and loss scaling.

use half::f16;
use isograd_core::{Backend, DType, GradReq, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, Block, Dense, LossScaler, Parameter, Parameters, Sequential, Trainer,
    initializers::{One, Xavier},
    loss::{L2Loss, Loss},
    optimizer::{Adam, MultiPrecision, SGD},
};

/// A network in `dtype` and data whose gradients are too small for f16: the loss is multiplied by 1e-8.
fn train<B: Backend>(ctx: &B, dtype: DType, scaler: Option<LossScaler>) -> (f64, f64) {
    random::seed(5);
    let mut net = Sequential::<B>::new();
    net.add(Dense::new(16).activation(Activation::Tanh)).add(Dense::new(1));
    net.cast(dtype).unwrap();
    net.initialize(Xavier::default(), ctx).unwrap();
    let x = Tensor::linspace(ctx, -1.0, 1.0, 64, DType::F32).unwrap().reshape([32, 2]).unwrap();
    let y = x.sum(1, true).unwrap();
    let x = x.cast(dtype).unwrap();
    let mut trainer = Trainer::new(net.collect_params(), MultiPrecision(SGD::new(1e8 * 0.5))).unwrap();
    let mut scaler = scaler.unwrap_or_else(|| LossScaler::new().init_scale(1.0).growth_factor(1.0));
    let mut losses = vec![];
    net.forward(&x).unwrap();
    while losses.len() < 60 {
        let loss = autograd::record(|| {
            let loss = L2Loss::default().loss(&net.forward(&x)?.cast(DType::F32)?, &y)?;
            losses.push(loss.mean((), false)?.asscalar::<f64>()?);
            scaler.scale(&loss.mul_scalar(1e-8)?)
        });
        loss.unwrap().backward().unwrap();
        scaler.step(&mut trainer, 32).unwrap();
    }
    (losses[0], losses[59])
}

fn scaling_keeps_small_gradients<B: Backend>(ctx: &B) {
    let (first, last) = train(ctx, DType::F32, None);
    assert!(last < 0.1 * first, "f32: {first} to {last}");
    let (first, last) = train(ctx, DType::F16, None);
    assert!(last > 0.9 * first, "f16 without scaling learned: {first} to {last}");
    let (first, last) = train(ctx, DType::F16, Some(LossScaler::new().init_scale(2f64.powi(24))));
    assert!(last < 0.1 * first, "f16: {first} to {last}");
    let (first, last) = train(ctx, DType::BF16, None);
    assert!(last < 0.1 * first, "bf16: {first} to {last}");
}

fn half_parameter<B: Backend>(ctx: &B) -> Parameter<B> {
    let w = Parameter::new("w", &[Some(1)]).with_dtype(DType::F16);
    w.initialize(One, ctx, false).unwrap();
    w
}

fn backward<B: Backend>(w: &Parameter<B>, scaler: &LossScaler, slope: f64) {
    autograd::record(|| scaler.scale(&w.data()?.cast(DType::F32)?.mul_scalar(slope)?)).unwrap().backward().unwrap();
}

fn the_scale_follows_overflows<B: Backend>(ctx: &B) {
    let w = half_parameter(ctx);
    let mut trainer = Trainer::new(w.collect_params(), MultiPrecision(SGD::new(1.0).momentum(0.9))).unwrap();
    let mut scaler = LossScaler::new().init_scale(4096.0).growth_interval(2);
    let value = || w.data().unwrap().asscalar::<f64>().unwrap();
    // Infinite in f16: nothing happens to the weight, nor to the momentum.
    backward(&w, &scaler, 1e4);
    assert!(!scaler.step(&mut trainer, 1).unwrap());
    assert_eq!((scaler.loss_scale(), value(), trainer.updates()), (2048.0, 1.0, 0));
    // The skipped gradient is used up.
    assert!(trainer.step(1).is_err());
    for (slope, expected) in [(0.25, 0.75), (0.0, 0.525), (0.0, 0.3225)] {
        backward(&w, &scaler, slope);
        assert!(scaler.step(&mut trainer, 1).unwrap());
        assert!((value() - expected).abs() < 1e-3, "{} instead of {expected}", value());
    }
    assert_eq!(scaler.state(), (4096.0, 1));
    let mut again = LossScaler::new();
    again.set_state(scaler.state());
    assert_eq!(again.loss_scale(), 4096.0);
    backward(&w, &scaler, f64::from(f32::MAX));
    assert!(!scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(scaler.state(), (2048.0, 0));
}

fn unscaled_gradients_are_not_divided_again<B: Backend>(ctx: &B) {
    let w = half_parameter(ctx);
    let mut trainer = Trainer::new(w.collect_params(), SGD::new(1.0)).unwrap();
    let mut scaler = LossScaler::new().init_scale(256.0);
    backward(&w, &scaler, 0.5);
    assert_eq!(w.grad().unwrap().asscalar::<f32>().unwrap(), 128.0);
    assert!(scaler.unscale(&w.collect_params()).unwrap());
    assert_eq!(w.grad().unwrap().asscalar::<f32>().unwrap(), 0.5);
    assert!(scaler.unscale(&w.collect_params()).is_err());
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(w.data().unwrap().asscalar::<f32>().unwrap(), 0.5);
}

/// Whether a gradient is unscaled is said by the gradient, whatever was called in between.
fn a_gradient_knows_whether_it_is_unscaled<B: Backend>(ctx: &B) {
    let make = |name: &str| {
        let w = Parameter::new(name, &[Some(1)]);
        w.initialize(One, ctx, false).unwrap();
        w
    };
    let value = |w: &Parameter<B>| w.data().unwrap().asscalar::<f64>().unwrap();
    let (w, other) = (make("w"), make("other"));
    let both = [("w".to_string(), w.clone()), ("other".to_string(), other.clone())].into_iter().collect();
    let mut trainer = Trainer::new(both, SGD::new(1.0)).unwrap();
    let mut scaler = LossScaler::new().init_scale(256.0);
    let backward = |w: &Parameter<B>, scaler: &LossScaler, slope: f64| {
        autograd::record(|| scaler.scale(&w.data()?.mul_scalar(slope)?)).unwrap().backward().unwrap();
    };
    // A step that fails, since one parameter was not reached, then new gradients.
    backward(&w, &scaler, 1.0);
    assert!(scaler.unscale(&w.collect_params()).unwrap());
    assert!(scaler.step(&mut trainer, 1).is_err());
    backward(&w, &scaler, 0.5);
    backward(&other, &scaler, 0.25);
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert_eq!((value(&w), value(&other)), (0.5, 0.75));
    // One unscaled, the other not.
    backward(&w, &scaler, 0.5);
    backward(&other, &scaler, 0.25);
    assert!(scaler.unscale(&w.collect_params()).unwrap());
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert_eq!((value(&w), value(&other)), (0.0, 0.5));
    // Two parts of one gradient, of which one is unscaled, cannot be told apart.
    w.set_grad_req(GradReq::Add).unwrap();
    backward(&w, &scaler, 1.0);
    scaler.unscale(&w.collect_params()).unwrap();
    backward(&w, &scaler, 1.0);
    backward(&other, &scaler, 0.25);
    let error = scaler.step(&mut trainer, 1).unwrap_err();
    assert!(error.to_string().contains("zero_grad"), "{error}");
    assert_eq!((value(&w), value(&other), scaler.state()), (0.0, 0.5, (256.0, 2)));
}

fn masters_are_saved_and_follow_what_is_loaded<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let (weights, states) = (folder.path().join("w.safetensors"), folder.path().join("s"));
    let make = || {
        let w = half_parameter(ctx);
        let trainer = Trainer::new(w.collect_params(), MultiPrecision(Adam::new(1e-4))).unwrap();
        (w, trainer)
    };
    let step = |w: &Parameter<B>, trainer: &mut Trainer<B>| {
        autograd::record(|| w.data()?.square()).unwrap().backward().unwrap();
        trainer.step(1).unwrap();
    };
    let (unbroken, mut trainer) = make();
    (0..50).for_each(|_| step(&unbroken, &mut trainer));
    let (first, mut trainer) = make();
    (0..23).for_each(|_| step(&first, &mut trainer));
    first.save_parameters(&weights).unwrap();
    trainer.save_states(&states).unwrap();
    let (second, mut trainer) = make();
    second.load_parameters(&weights, ctx).unwrap();
    trainer.load_states(&states).unwrap();
    (0..27).for_each(|_| step(&second, &mut trainer));
    let bits = |w: &Parameter<B>| w.data().unwrap().to_vec::<f16>().unwrap()[0].to_bits();
    assert_eq!(bits(&second), bits(&unbroken));
    assert_ne!(bits(&second), f16::ONE.to_bits());

    // A weight that is overwritten is not brought back by its master.
    second.set_data(&Tensor::from_slice(ctx, &[f16::from_f32(5.0)], [1]).unwrap()).unwrap();
    step(&second, &mut trainer);
    assert!((second.data().unwrap().asscalar::<f32>().unwrap() - 5.0).abs() < 0.01);
}

on_every_backend! {
    scaling_keeps_small_gradients
    the_scale_follows_overflows
    unscaled_gradients_are_not_divided_again
    a_gradient_knows_whether_it_is_unscaled
    masters_are_saved_and_follow_what_is_loaded
}
