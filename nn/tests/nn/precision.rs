//! Half precision: masters and loss scaling.

use half::f16;
use isograd_core::{Backend, DType, GradReq, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, BatchNorm, Block, Dense, LossScaler, Parameter, Parameters, Sequential, Trainer,
    initializers::{One, Xavier},
    loss::{L2Loss, Loss},
    optimizer::{Adam, MultiPrecision, Optimizer, SGD, Schedule, Scheduled, clip_global_norm},
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
    w.initialize(One, ctx).unwrap();
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
        w.initialize(One, ctx).unwrap();
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

/// Variances beyond 65,504, and momenta whose steps are less than a rounding of bf16.
fn running_statistics_stay_in_single_precision<B: Backend>(ctx: &B) {
    for dtype in [DType::F16, DType::BF16] {
        for before in [true, false] {
            let layer = BatchNorm::new().momentum(0.99);
            let x = Tensor::from_slice(ctx, &[600.0f32, -600.0], [2, 1]).unwrap().cast(dtype).unwrap();
            // Cast before the first batch, or after it.
            if before {
                layer.cast(dtype).unwrap();
                layer.initialize(One, ctx).unwrap();
            } else {
                layer.initialize(One, ctx).unwrap();
                layer.forward(&x.cast(DType::F32).unwrap()).unwrap();
                layer.cast(dtype).unwrap();
            }
            for _ in 0..500 {
                autograd::train_mode(|| layer.forward(&x)).unwrap();
            }
            let var = layer.running_var().data().unwrap();
            assert_eq!((layer.gamma().dtype(), var.dtype()), (dtype, DType::F32));
            // 360,000 less what is left of the first 1.
            let expected = 360_000.0 - 359_999.0 * 0.99f64.powi(500);
            let var = var.asscalar::<f64>().unwrap();
            assert!((var - expected).abs() < 1e-3 * expected, "{dtype}: {var} instead of {expected}");
            let y = layer.forward(&x).unwrap();
            assert_eq!(y.dtype(), dtype);
            let y = y.cast(DType::F32).unwrap().to_vec::<f32>().unwrap();
            let root = (600.0 / expected.sqrt()) as f32;
            assert!((y[0] - root).abs() < 0.01 && (y[1] + root).abs() < 0.01, "{dtype}: {y:?}");
        }
    }
    // Gradients in predict mode.
    let layer = BatchNorm::new().in_channels(1);
    layer.initialize(One, ctx).unwrap();
    layer.cast(DType::F16).unwrap();
    layer.running_var().set_data(&Tensor::full(ctx, [1], 3.6e5, DType::F32).unwrap()).unwrap();
    let x = Tensor::full(ctx, [2, 1], 600.0, DType::F16).unwrap();
    x.attach_grad().unwrap();
    autograd::record_predict(|| layer.forward(&x)).unwrap().backward().unwrap();
    let gradient = x.grad().unwrap().cast(DType::F32).unwrap().to_vec::<f32>().unwrap();
    assert!(gradient.iter().all(|g| (g - 1.0 / 600.0).abs() < 1e-5), "{gradient:?}");
}

/// The steps after a cast are those of a parameter that was f32 throughout, but for the rounding of the parameter.
fn optimizer_states_follow_a_cast<B: Backend>(ctx: &B) {
    fn steps<B: Backend>(ctx: &B, optimizer: impl Optimizer<B> + 'static, dtypes: &[DType]) -> f64 {
        let w = Parameter::new("w", &[Some(1)]);
        w.initialize(One, ctx).unwrap();
        let mut trainer = Trainer::new(w.collect_params(), optimizer).unwrap();
        for &dtype in dtypes {
            w.cast(dtype).unwrap();
            for slope in [0.5, 0.25, 0.0] {
                autograd::record(|| w.data()?.cast(F32)?.mul_scalar(slope)).unwrap().backward().unwrap();
                trainer.step(1).unwrap();
            }
        }
        w.data().unwrap().asscalar::<f64>().unwrap()
    }
    use DType::{BF16, F16, F32};
    for dtypes in [&[F32, F16, F16][..], &[F16, F32, F32], &[F32, BF16, F32], &[F16, BF16, F16]] {
        let bound = if dtypes.contains(&BF16) { 8e-3 } else { 1e-3 };
        let check = |what: &str, got: f64, expected: f64| {
            assert!((got - expected).abs() < bound, "{what}, {dtypes:?}: {got} instead of {expected}");
        };
        let sgd = || SGD::new(0.05).momentum(0.9);
        let adam = || Adam::new(0.01);
        let expected = steps(ctx, sgd(), &[F32; 3]);
        check("SGD with masters", steps(ctx, MultiPrecision(sgd()), dtypes), expected);
        check("SGD", steps(ctx, sgd(), dtypes), expected);
        let expected = steps(ctx, adam(), &[F32; 3]);
        check("Adam with masters", steps(ctx, MultiPrecision(adam()), dtypes), expected);
        let scheduled = Scheduled::new(MultiPrecision(adam()), Schedule::factor(100, 1.0));
        check("scheduled Adam", steps(ctx, scheduled, dtypes), expected);
    }
}

fn the_scale_neither_sticks_nor_vanishes<B: Backend>(ctx: &B) {
    let w = half_parameter(ctx);
    let mut trainer = Trainer::new(w.collect_params(), MultiPrecision(SGD::new(1.0))).unwrap();
    let mut scaler = LossScaler::new();
    for _ in 0..1200 {
        backward(&w, &scaler, f64::from(f32::MAX));
        assert!(!scaler.step(&mut trainer, 1).unwrap());
    }
    assert_eq!(scaler.loss_scale(), 1.0);
    backward(&w, &scaler, 0.25);
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(w.data().unwrap().asscalar::<f32>().unwrap(), 0.75);

    // What was counted with a longer interval.
    let mut scaler = LossScaler::new().init_scale(8.0).growth_interval(10);
    scaler.set_state((8.0, 5000));
    backward(&w, &scaler, 0.0);
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(scaler.state(), (16.0, 0));
    // A scale that begins below the least stays.
    let mut scaler = LossScaler::new().init_scale(0.5);
    backward(&w, &scaler, f64::from(f32::MAX));
    assert!(!scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(scaler.loss_scale(), 0.5);
    let mut scaler = LossScaler::new().init_scale(0.5).min_scale(1e-3);
    backward(&w, &scaler, f64::from(f32::MAX));
    assert!(!scaler.step(&mut trainer, 1).unwrap());
    assert_eq!(scaler.loss_scale(), 0.25);
}

fn gradients_of_any_size_are_clipped<B: Backend>(ctx: &B) {
    for (dtype, size, limit) in [
        (DType::F32, 1e25, 1.0),
        (DType::F32, 3e38, 2.0),
        (DType::F32, 1e-25, 1e-10),
        (DType::BF16, 1e25, 1.0),
        (DType::F16, 6e4, 1.0),
        (DType::F64, 1e200, 1.0),
    ] {
        let (a, b) =
            (Parameter::new("a", &[Some(4)]).with_dtype(dtype), Parameter::new("b", &[Some(5)]).with_dtype(dtype));
        let all = vec![("a".to_string(), a.clone()), ("b".to_string(), b.clone())].into_iter().collect();
        for p in [&a, &b] {
            p.initialize(One, ctx).unwrap();
            autograd::record(|| p.data()?.mul_scalar(size)).unwrap().backward().unwrap();
        }
        let norm = clip_global_norm(&all, limit).unwrap();
        assert!((norm / (3.0 * size) - 1.0).abs() < 5e-3, "{dtype}, {size}: {norm}");
        let each = a.grad().unwrap().cast(DType::F64).unwrap().to_vec::<f64>().unwrap();
        // 1e-8 is added to the norm.
        let expected = size * limit / (norm + 1e-8);
        assert!(each.iter().all(|g| (g / expected - 1.0).abs() < 5e-3), "{dtype}, {size}: {each:?}");
    }
}

on_every_backend! {
    running_statistics_stay_in_single_precision
    optimizer_states_follow_a_cast
    the_scale_neither_sticks_nor_vanishes
    gradients_of_any_size_are_clipped
    scaling_keeps_small_gradients
    the_scale_follows_overflows
    unscaled_gradients_are_not_divided_again
    a_gradient_knows_whether_it_is_unscaled
    masters_are_saved_and_follow_what_is_loaded
}
