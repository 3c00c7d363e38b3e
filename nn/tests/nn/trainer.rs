//! The trainer: which gradients it takes, several contexts, what it saves.

use isograd_core::{Backend, DType, Dyn, Error, GradReq, Tensor, autograd, operators::random};
use isograd_cpu::Cpu;
use isograd_nn::{
    Activation, BatchNorm, Block, Constant, Conv2D, Dense, Flatten, LossScaler, Parameter, Parameters, Sequential,
    Trainer,
    initializers::{One, Uniform, Xavier},
    loss::{L2Loss, Loss, SoftmaxCrossEntropyLoss},
    optimizer::*,
    parallel::split_and_load,
};
use isograd_reference::Reference;

fn one<B: Backend>(ctx: &B) -> Parameter<B> {
    let w = Parameter::new("w", &[Some(1)]);
    w.initialize(One, ctx).unwrap();
    w
}

fn backward<B: Backend>(parameters: &[&Parameter<B>]) {
    for w in parameters {
        autograd::record(|| w.data()?.mul_scalar(4.0)).unwrap().backward().unwrap();
    }
}

fn value<B: Backend>(w: &Parameter<B>) -> f64 {
    w.data().unwrap().asscalar().unwrap()
}

fn pair<B: Backend>(ctx: &B) -> (Parameter<B>, Parameter<B>, Trainer<B>) {
    let (a, b) = (one(ctx), Parameter::new("b", &[Some(1)]));
    b.initialize(One, ctx).unwrap();
    let dict = [("a".to_string(), a.clone()), ("b".to_string(), b.clone())].into_iter().collect();
    let trainer = Trainer::new(dict, SGD::new(0.125)).unwrap();
    (a, b, trainer)
}

fn a_gradient_counts_once<B: Backend>(ctx: &B) {
    let (a, b, mut trainer) = pair(ctx);
    let stale = |result: Result<(), Error>, name: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Parameter { name: n, .. } if n.starts_with(name)), "{error}");
        assert!(error.to_string().contains("step_ignoring_stale"), "{error}");
    };
    stale(trainer.step(1), "w");
    trainer.step_ignoring_stale(1).unwrap();
    backward(&[&a]);
    // Nothing changes when one of them cannot be updated.
    stale(trainer.step(1), "b");
    stale(trainer.update(1), "b");
    assert_eq!((value(&a), value(&b)), (1.0, 1.0));
    trainer.step_ignoring_stale(1).unwrap();
    assert_eq!((value(&a), value(&b)), (0.5, 1.0));
    // Used once, it is stale; a gradient set to zero is not fresh either.
    trainer.step_ignoring_stale(1).unwrap();
    a.zero_grad().unwrap();
    trainer.step_ignoring_stale(1).unwrap();
    assert_eq!(value(&a), 0.5);
    backward(&[&a, &b]);
    trainer.step(1).unwrap();
    assert_eq!((value(&a), value(&b)), (0.0, 0.5));
    // What is not trained need not be reached.
    b.set_grad_req(GradReq::Null).unwrap();
    backward(&[&a]);
    trainer.step(1).unwrap();
    assert_eq!((value(&a), value(&b)), (-0.5, 0.5));
    assert!(matches!(trainer.step(0), Err(Error::InvalidArgument { .. })));
    assert!(matches!(Trainer::<B>::new(Default::default(), SGD::new(1.0)), Err(Error::InvalidArgument { .. })));
}

fn gradients_may_be_changed_between_the_halves_of_a_step<B: Backend>(ctx: &B) {
    let (a, b, mut trainer) = pair(ctx);
    backward(&[&a, &b]);
    trainer.allreduce_grads().unwrap();
    let dict = [("a".to_string(), a.clone()), ("b".to_string(), b.clone())].into_iter().collect();
    clip_global_norm(&dict, 32f64.sqrt() / 2.0).unwrap();
    trainer.update(1).unwrap();
    assert!((value(&a) - 0.75).abs() < 1e-6, "{}", value(&a));
    trainer.set_rescale_grad(2.0);
    backward(&[&a, &b]);
    trainer.step(4).unwrap();
    assert!((value(&a) - 0.5).abs() < 1e-6, "{}", value(&a));
}

fn trainers_of_disjoint_parts_do_not_meet<B: Backend>(ctx: &B) {
    let mut net = Sequential::<B>::new();
    net.add(Dense::new(3).in_units(2)).add(Dense::new(1).in_units(3));
    net.initialize(Xavier::default(), ctx).unwrap();
    let weights = net.collect_params_matching(".*weight").unwrap();
    let biases = net.collect_params_matching(".*bias").unwrap();
    let mut trainers = [Trainer::new(weights, SGD::new(0.0)).unwrap(), Trainer::new(biases, Adam::new(0.5)).unwrap()];
    let before = net.collect_params().get("0.weight").unwrap().data().unwrap().to_vec::<f32>().unwrap();
    autograd::record(|| net.forward(&Tensor::ones(ctx, [2, 2], DType::F32)?)).unwrap().backward().unwrap();
    trainers.iter_mut().for_each(|trainer| trainer.step(2).unwrap());
    let after = |path: &str| net.collect_params().get(path).unwrap().data().unwrap().to_vec::<f32>().unwrap();
    assert_eq!(after("0.weight"), before);
    // 1 - β₂ has four digits in f32, and its root is taken.
    assert!((after("1.bias")[0] + 0.5).abs() < 1e-4);
}

fn a_schedule_counts_the_updates_of_the_trainer<B: Backend>(ctx: &B) {
    let w = one(ctx);
    let optimizer = Scheduled::new(SGD::new(1.0), Schedule::factor(1, 0.5));
    let mut trainer = Trainer::new(w.collect_params(), optimizer).unwrap();
    let mut rates = vec![trainer.learning_rate()];
    for _ in 0..3 {
        backward(&[&w]);
        trainer.step(4).unwrap();
        rates.push(trainer.learning_rate());
    }
    assert_eq!((rates, trainer.updates()), (vec![1.0, 1.0, 0.5, 0.25], 3));
    // 1, less the three rates.
    assert_eq!(value(&w), -0.75);
    trainer.set_learning_rate(2.0);
    assert_eq!(trainer.learning_rate(), 0.5);
}

/// Convolution, normalization and dense layers, so that every kind of gradient is there.
fn network<B: Backend>(contexts: &[B]) -> Sequential<B> {
    random::seed(3);
    let mut net = Sequential::new();
    net.add(Conv2D::new(3, 3).in_channels(2).activation(Activation::Tanh))
        .add(Flatten)
        .add(Dense::new(6).in_units(12).activation(Activation::Tanh))
        .add(Dense::new(4).in_units(6));
    net.initialize(Xavier::default(), contexts).unwrap();
    net
}

fn batch<B: Backend>(ctx: &B) -> (Tensor<B>, Tensor<B>) {
    let x = Tensor::linspace(ctx, -1.0, 1.0, 8 * 2 * 16, DType::F32).unwrap().reshape([8, 2, 4, 4]).unwrap();
    let x = x.mul_scalar(7.0).unwrap().sin().unwrap();
    (x, Tensor::from_slice(ctx, &[0i64, 1, 2, 3, 3, 2, 1, 0], [8]).unwrap())
}

/// A step on parts of the batch, one per context; the mean loss.
fn parallel_step<B: Backend>(net: &Sequential<B>, trainer: &mut Trainer<B>, contexts: &[B]) -> f64 {
    let (x, y) = batch(&contexts[0]);
    let parts = split_and_load(&x, contexts, 0, false)
        .unwrap()
        .into_iter()
        .zip(split_and_load(&y, contexts, 0, false).unwrap());
    let mut total = 0.0;
    for (x, y) in parts {
        let loss = autograd::record(|| SoftmaxCrossEntropyLoss::default().loss(&net.forward(&x)?, &y)).unwrap();
        loss.backward().unwrap();
        total += loss.sum((), false).unwrap().asscalar::<f64>().unwrap();
    }
    trainer.step(8).unwrap();
    total / 8.0
}

fn values<B: Backend>(net: &Sequential<B>) -> Vec<f32> {
    net.collect_params().iter().flat_map(|(_, p)| p.data().unwrap().to_vec::<f32>().unwrap()).collect()
}

fn check_parallel<B: Backend>(single: &B, contexts: &[B]) {
    let run = |contexts: &[B]| {
        let net = network(contexts);
        let optimizer = SGD::new(0.1).momentum(0.9).weight_decay(1e-3);
        let mut trainer = Trainer::new(net.collect_params(), optimizer).unwrap();
        let losses: Vec<f64> = (0..10).map(|_| parallel_step(&net, &mut trainer, contexts)).collect();
        (net, losses)
    };
    let (expected, expected_losses) = run(std::slice::from_ref(single));
    let (net, losses) = run(contexts);
    // Sums of the same terms in another order: rounding errors only.
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} against {b}");
    losses.iter().zip(expected_losses).for_each(|(a, b)| close(*a, b));
    values(&net).into_iter().zip(values(&expected)).for_each(|(a, b)| close(a.into(), b.into()));
    assert!(losses[9] < 0.9 * losses[0]);
    // The replicas are equal to the last bit, whatever the devices.
    for (path, parameter) in net.collect_params().iter() {
        assert_eq!(parameter.list_ctx().unwrap(), contexts);
        let all: Vec<Vec<u8>> = parameter.list_data().unwrap().iter().map(|t| t.to_bytes().unwrap()).collect();
        assert!(all.iter().all(|bytes| *bytes == all[0]), "{path}");
    }
}

#[test]
fn training_on_several_contexts_is_training_on_one() {
    let cpus = [Cpu::default(), Cpu::with_threads(1).unwrap(), Cpu::with_threads(2).unwrap()];
    check_parallel(&cpus[0], &cpus);
    let mixed = [Dyn::new(Reference), Dyn::new(Cpu::default())];
    check_parallel(&mixed[0], &mixed);
    check_parallel(&mixed[1], &[Dyn::new(cpus[1].clone()), mixed[0].clone(), mixed[1].clone()]);
}

#[test]
fn a_run_on_several_contexts_goes_on_to_the_bit() {
    let contexts = [Dyn::new(Cpu::default()), Dyn::new(Reference)];
    let folder = tempfile::tempdir().unwrap();
    let (weights, states) = (folder.path().join("w.params"), folder.path().join("s"));
    let make = || {
        let net = network(&contexts);
        let optimizer = Scheduled::new(Adam::new(0.02), Schedule::cosine(9).warm_up(2));
        let trainer = Trainer::new(net.collect_params(), optimizer).unwrap();
        (net, trainer)
    };
    let (unbroken, mut trainer) = make();
    for _ in 0..7 {
        parallel_step(&unbroken, &mut trainer, &contexts);
    }
    let (first, mut trainer) = make();
    for _ in 0..4 {
        parallel_step(&first, &mut trainer, &contexts);
    }
    first.save_parameters(&weights).unwrap();
    trainer.save_states(&states).unwrap();
    let (second, mut trainer) = make();
    second.load_parameters(&weights, &contexts[0]).unwrap();
    trainer.load_states(&states).unwrap();
    for _ in 0..3 {
        parallel_step(&second, &mut trainer, &contexts);
    }
    let bits = |net: &Sequential| -> Vec<Vec<u8>> {
        let replicas = |p: &Parameter| p.list_data().unwrap();
        net.collect_params().iter().flat_map(|(_, p)| replicas(p)).map(|t| t.to_bytes().unwrap()).collect()
    };
    assert_eq!(bits(&second), bits(&unbroken));
}

#[test]
fn gradients_on_several_contexts_are_added_up_in_two_halves_too() {
    let contexts = [Cpu::default(), Cpu::with_threads(1).unwrap()];
    let w = Parameter::new("w", &[Some(1)]);
    w.initialize(One, &contexts).unwrap();
    let mut trainer = Trainer::new(w.collect_params(), SGD::new(1.0)).unwrap();
    let backward = |times: &[f64]| {
        for (ctx, factor) in contexts.iter().zip(times) {
            autograd::record(|| w.data_on(ctx)?.mul_scalar(*factor)).unwrap().backward().unwrap();
        }
    };
    backward(&[1.0, 2.0]);
    assert!(trainer.update(1).unwrap_err().to_string().contains("allreduce_grads"));
    trainer.allreduce_grads().unwrap();
    assert!(w.list_grad().unwrap().iter().all(|g| g.asscalar::<f32>().unwrap() == 3.0));
    trainer.update(1).unwrap();
    assert!(w.list_data().unwrap().iter().all(|d| d.asscalar::<f32>().unwrap() == -2.0));
    // A context that had nothing to do is named; what the others have counts.
    backward(&[1.0]);
    let error = trainer.step(1).unwrap_err();
    assert!(error.to_string().contains("has not updated its gradient on cpu"), "{error}");
    trainer.step_ignoring_stale(1).unwrap();
    assert!(w.list_data().unwrap().iter().all(|d| d.asscalar::<f32>().unwrap() == -3.0));
    assert!(w.grad_on(&Cpu::with_threads(1).unwrap()).is_err());
    let twice = [Cpu::default(), Cpu::default()];
    assert!(matches!(w.force_reinit(One, &twice), Err(Error::Parameter { .. })));
    assert!(matches!(w.reset_ctx(&[]), Err(Error::Parameter { .. })));
}

/// A weight of one element on two contexts that begins at 1, and its trainer of rate 1.
fn on_two(request: GradReq) -> ([Cpu; 2], Parameter<Cpu>, Trainer<Cpu>) {
    let contexts = [Cpu::default(), Cpu::with_threads(1).unwrap()];
    let w = Parameter::new("w", &[Some(1)]).with_grad_req(request);
    w.initialize(One, &contexts).unwrap();
    let trainer = Trainer::new(w.collect_params(), SGD::new(1.0)).unwrap();
    (contexts, w, trainer)
}

/// Backward on each context by a loss of the given slope there.
fn backward_on(w: &Parameter<Cpu>, contexts: &[Cpu], slopes: &[f64]) {
    for (ctx, slope) in contexts.iter().zip(slopes) {
        autograd::record(|| w.data_on(ctx)?.mul_scalar(*slope)).unwrap().backward().unwrap();
    }
}

fn on_each(w: &Parameter<Cpu>) -> Vec<f64> {
    w.list_data().unwrap().iter().map(|d| d.asscalar().unwrap()).collect()
}

#[test]
fn gradients_know_whether_they_are_added_up() {
    // What came after is added up as well.
    let (contexts, w, mut trainer) = on_two(GradReq::Write);
    backward_on(&w, &contexts, &[1.0, 1.0]);
    trainer.allreduce_grads().unwrap();
    backward_on(&w, &contexts, &[2.0, 10.0]);
    assert!(trainer.update(1).unwrap_err().to_string().contains("allreduce_grads"));
    trainer.step(1).unwrap();
    assert_eq!(on_each(&w), [-11.0; 2]);

    // And when it is added to a sum, no part counts twice.
    let (contexts, w, mut trainer) = on_two(GradReq::Add);
    backward_on(&w, &contexts, &[1.0, 2.0]);
    trainer.allreduce_grads().unwrap();
    backward_on(&w, &contexts, &[3.0, 4.0]);
    trainer.allreduce_grads().unwrap();
    trainer.allreduce_grads().unwrap();
    assert!(w.list_grad().unwrap().iter().all(|g| g.asscalar::<f64>().unwrap() == 10.0));
    backward_on(&w, &contexts, &[5.0]);
    trainer.step(1).unwrap();
    assert_eq!(on_each(&w), [-14.0; 2]);
    w.zero_grad().unwrap();
    backward_on(&w, &contexts, &[1.0, 1.0]);
    trainer.step(1).unwrap();
    assert_eq!(on_each(&w), [-16.0; 2]);

    // An update or a step that fails changes nothing of it.
    let (contexts, w, mut trainer) = on_two(GradReq::Write);
    backward_on(&w, &contexts, &[1.0, 2.0]);
    trainer.allreduce_grads().unwrap();
    assert!(trainer.update(0).is_err());
    trainer.step(1).unwrap();
    assert_eq!(on_each(&w), [-2.0; 2]);
    backward_on(&w, &contexts, &[1.0]);
    trainer.allreduce_grads().unwrap();
    assert!(trainer.update(1).is_err());
    assert!(trainer.step(1).is_err());
    trainer.update_ignoring_stale(1).unwrap();
    assert_eq!(on_each(&w), [-3.0; 2]);

    // A later pass on one context only replaces a part of a sum that cannot be taken out.
    backward_on(&w, &contexts, &[1.0, 2.0]);
    trainer.allreduce_grads().unwrap();
    backward_on(&w, &contexts, &[4.0]);
    let error = trainer.step(1).unwrap_err();
    assert!(matches!(&error, Error::Parameter { name, .. } if name == "w"), "{error}");
    assert!(error.to_string().contains("later backward pass"), "{error}");
    assert_eq!(on_each(&w), [-3.0; 2]);
    backward_on(&w, &contexts, &[4.0, 1.0]);
    trainer.step(1).unwrap();
    assert_eq!(on_each(&w), [-8.0; 2]);
}

#[test]
fn the_norm_is_that_of_the_sum_over_contexts() {
    for reduce_before in [false, true] {
        let (contexts, w, mut trainer) = on_two(GradReq::Write);
        backward_on(&w, &contexts, &[3.0, 3.0]);
        if reduce_before {
            trainer.allreduce_grads().unwrap();
        }
        assert_eq!(clip_global_norm(&w.collect_params(), 2.0).unwrap(), 6.0);
        trainer.step(1).unwrap();
        assert!((value(&w) + 1.0).abs() < 1e-6, "{}", value(&w));
    }
}

#[test]
fn scaled_gradients_are_clipped_on_several_contexts() {
    let (contexts, w, mut trainer) = on_two(GradReq::Write);
    let mut scaler = LossScaler::new().init_scale(8.0);
    backward_on(&w, &contexts, &[24.0, 24.0]);
    assert!(scaler.unscale(&w.collect_params()).unwrap());
    clip_global_norm(&w.collect_params(), 2.0).unwrap();
    // A step that fails leaves all as it is.
    assert!(scaler.step(&mut trainer, 0).is_err());
    assert!(scaler.step(&mut trainer, 1).unwrap());
    assert!((value(&w) + 1.0).abs() < 1e-6, "{}", value(&w));
}

#[test]
fn a_frozen_layer_is_saved_as_it_is() {
    let contexts = [Cpu::default(), Cpu::with_threads(1).unwrap(), Cpu::with_threads(2).unwrap()];
    let w = Parameter::new("w", &[Some(3)]);
    w.initialize(Uniform::default(), &contexts).unwrap();
    let values = [0.1f32, 16_777_217.0, f32::MAX];
    w.set_data(&Tensor::from_slice(&contexts[0], &values, [3]).unwrap()).unwrap();
    w.freeze().unwrap();
    assert_eq!(w.merged().unwrap().to_vec::<f32>().unwrap(), values);
    let constant = Constant::new("c", &values, [3]).unwrap();
    constant.initialize(One, &contexts).unwrap();
    assert_eq!(constant.merged().unwrap().to_vec::<f32>().unwrap(), values);
}

#[test]
fn running_statistics_are_averaged_over_contexts() {
    let contexts = [Cpu::default(), Cpu::with_threads(1).unwrap()];
    let layer = BatchNorm::new().momentum(0.0).in_channels(1);
    layer.initialize(One, &contexts).unwrap();
    for (ctx, mean) in contexts.iter().zip([1.0f32, 4.0]) {
        let x = Tensor::from_slice(ctx, &[mean - 1.0, mean + 1.0], [2, 1]).unwrap();
        autograd::train_mode(|| layer.forward(&x)).unwrap();
    }
    assert_eq!(layer.running_mean().merged().unwrap().to_vec::<f32>().unwrap(), [2.5]);
    layer.collect_params().reset_ctx(&contexts[1..]).unwrap();
    assert_eq!(layer.running_mean().data().unwrap().to_vec::<f32>().unwrap(), [2.5]);
    assert_eq!(layer.collect_params().list_ctx().unwrap(), contexts[1..]);
}

fn states_of_another_optimizer_are_refused<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("states");
    let w = one(ctx);
    let mut trainer = Trainer::new(w.collect_params(), Adam::new(0.1)).unwrap();
    backward(&[&w]);
    trainer.step(1).unwrap();
    trainer.set_learning_rate(0.3);
    trainer.save_states(&file).unwrap();
    let mut other = Trainer::new(w.collect_params(), AdaMax::new(0.1)).unwrap();
    let error = other.load_states(&file).unwrap_err();
    assert!(error.to_string().contains("Adam") && error.to_string().contains("AdaMax"), "{error}");
    // With a schedule around it, it is the same optimizer.
    let scheduled = Scheduled::new(Adam::new(0.1), Schedule::factor(1, 0.5));
    let mut same = Trainer::new(w.collect_params(), scheduled).unwrap();
    same.load_states(&file).unwrap();
    assert_eq!((same.updates(), same.learning_rate()), (1, 0.3));
    let unlike = Parameter::new("w", &[Some(2)]);
    unlike.initialize(One, ctx).unwrap();
    let error = Trainer::new(unlike.collect_params(), Adam::new(0.1)).unwrap().load_states(&file).unwrap_err();
    assert!(matches!(&error, Error::Parameter { .. }), "{error}");
}

fn a_parameter_that_no_forward_pass_reached_is_named<B: Backend>(ctx: &B) {
    let mut net = Sequential::<B>::new();
    net.add(Dense::new(2)).add(Dense::new(1));
    net.initialize(Xavier::default(), ctx).unwrap();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1)).unwrap();
    let error = trainer.step(1).unwrap_err();
    assert!(matches!(&error, Error::Uninitialized { name, .. } if name.contains("weight")), "{error}");
    let x = Tensor::ones(ctx, [1, 3], DType::F32).unwrap();
    autograd::record(|| L2Loss::default().loss(&net[0].forward(&x)?, &Tensor::ones(ctx, [1, 2], DType::F32)?))
        .unwrap()
        .backward()
        .unwrap();
    let error = trainer.step(1).unwrap_err();
    assert!(matches!(&error, Error::Uninitialized { .. }), "{error}");
    trainer.step_ignoring_stale(1).unwrap();
}

on_every_backend! {
    a_gradient_counts_once
    gradients_may_be_changed_between_the_halves_of_a_step
    trainers_of_disjoint_parts_do_not_meet
    a_schedule_counts_the_updates_of_the_trainer
    states_of_another_optimizer_are_refused
    a_parameter_that_no_forward_pass_reached_is_named
}
