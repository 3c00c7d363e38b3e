//! Optimizers against MXNet's, which are data: `golden/traces/index.json` names runs of training, `golden/updates.json` has
//! single updates with every option, `golden/schedules.json` learning rates. A run of an MLP, an update or a schedule that is
//! put there is replayed without a change here, unless it takes an argument not known yet.

use isograd_core::{
    Backend, Tensor, autograd,
    format::{HostArray, npy},
    operators::random,
};
use isograd_nn::{
    Activation, Block, Dense, Parameter, Parameters, Sequential, Trainer,
    initializers::{Constant, One, Xavier},
    loss::{L2Loss, Loss, SoftmaxCrossEntropyLoss},
    optimizer::*,
};
use serde_json::{Map, Value};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/traces")).join(name)
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(path("..").join(name)).unwrap()).unwrap()
}

fn array(name: &str) -> HostArray {
    npy::load(path(&format!("{name}.npy"))).unwrap()
}

fn assert_close<B: Backend>(what: &str, got: &Tensor<B>, expected: &HostArray, bound: f32) {
    let (got, expected) = (got.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
    assert_eq!(got.len(), expected.len(), "{what}");
    // A NaN must not pass.
    let fits = got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= bound);
    assert!(fits, "{what}: {got:?} instead of {expected:?}");
}

/// The learning rate and the schedule that `{"FactorScheduler": {"step": 5, ..}}` describes, perhaps of a given learning rate.
fn schedule(spec: &Value, base: Option<f64>) -> (f64, Schedule) {
    let (kind, options) = spec.as_object().unwrap().iter().next().unwrap();
    let mut options = options.as_object().unwrap().clone();
    let mut take = |name: &str| options.remove(name);
    let number = |value: Option<Value>| value.map(|v| v.as_f64().unwrap());
    let base = number(take("base_lr")).or(base).unwrap_or(0.01);
    let factor = number(take("factor"));
    let mut schedule = match kind.as_str() {
        "FactorScheduler" => {
            let least = number(take("stop_factor_lr")).unwrap_or(0.0);
            Schedule::factor(take("step").unwrap().as_u64().unwrap(), factor.unwrap_or(1.0)).end(least / base)
        }
        "MultiFactorScheduler" => {
            let steps: Vec<u64> = serde_json::from_value(take("step").unwrap()).unwrap();
            Schedule::multi_factor(&steps, factor.unwrap_or(1.0))
        }
        "PolyScheduler" => {
            let power = number(take("pwr")).unwrap_or(2.0);
            let end = number(take("final_lr")).unwrap_or(0.0) / base;
            Schedule::poly(take("max_update").unwrap().as_u64().unwrap(), power).end(end)
        }
        "CosineScheduler" => {
            let end = number(take("final_lr")).unwrap_or(0.0) / base;
            Schedule::cosine(take("max_update").unwrap().as_u64().unwrap()).end(end)
        }
        other => panic!("there is no schedule {other} here"),
    };
    if let Some(steps) = take("warmup_steps") {
        schedule = schedule.warm_up(steps.as_u64().unwrap());
    }
    if let Some(begin) = number(take("warmup_begin_lr")) {
        schedule = schedule.warm_up_from(begin / base);
    }
    if take("warmup_mode").is_some_and(|mode| mode == "constant") {
        schedule = schedule.warm_up_steady();
    }
    assert!(options.is_empty(), "{kind}: options {options:?} are not known here");
    (base, schedule)
}

/// The optimizer that an entry of the index describes. Every argument must be read.
#[allow(clippy::needless_update, reason = "some optimizers have more options than the macro sets, others none")]
fn optimizer<B: Backend>(kind: &str, mut arguments: Map<String, Value>) -> Box<dyn Optimizer<B>> {
    let schedule = arguments.remove("lr_scheduler").map(|spec| {
        let base = arguments.get("learning_rate").and_then(Value::as_f64);
        schedule(&spec, base).1
    });
    let mut take = |name: &str, default: f64| match arguments.remove(name) {
        Some(Value::Bool(b)) => f64::from(u8::from(b)),
        Some(v) => v.as_f64().unwrap_or_else(|| panic!("{name} = {v}")),
        None => default,
    };
    let wd = take("wd", 0.0);
    let clip = Some(take("clip_gradient", f64::INFINITY));
    macro_rules! build {
        ($name:ident { $($option:ident),* }) => {{
            let d = $name::default();
            Box::new($name {
                learning_rate: take("learning_rate", d.learning_rate),
                weight_decay: wd,
                clip_gradient: clip,
                $($option: take(stringify!($option), d.$option),)*
                ..d
            })
        }};
    }
    let built: Box<dyn Optimizer<B>> = match kind {
        "sgd" => {
            let sgd = *build!(SGD { momentum });
            match schedule {
                Some(schedule) => Box::new(Scheduled::new(sgd, schedule)),
                None => Box::new(sgd),
            }
        }
        "nag" => build!(NAG { momentum }),
        "adam" => build!(Adam { beta1, beta2, epsilon }),
        "adamw" => build!(AdamW { beta1, beta2, epsilon }),
        "adamax" => build!(AdaMax { beta1, beta2 }),
        "nadam" => build!(Nadam { beta1, beta2, epsilon, schedule_decay }),
        "adagrad" => {
            let mut adagrad = build!(AdaGrad { epsilon });
            adagrad.epsilon = take("eps", adagrad.epsilon);
            adagrad
        }
        "adadelta" => build!(AdaDelta { rho, epsilon }),
        "rmsprop" => {
            let centered = take("centered", 0.0) != 0.0;
            let mut rmsprop = build!(RMSProp { gamma1, gamma2, epsilon });
            rmsprop.centered = centered;
            rmsprop
        }
        "ftrl" => build!(Ftrl { lamda1, beta }),
        "signum" => build!(Signum { momentum, wd_lh }),
        "lamb" => {
            let bounds =
                [take("lower_bound", f64::NAN), take("upper_bound", f64::NAN)].map(|b| Some(b).filter(|b| !b.is_nan()));
            let bias_correction = take("bias_correction", 1.0) != 0.0;
            let mut lamb = build!(LAMB { beta1, beta2, epsilon });
            [lamb.lower_bound, lamb.upper_bound] = bounds;
            lamb.bias_correction = bias_correction;
            lamb
        }
        other => panic!("there is no optimizer {other} here"),
    };
    assert!(arguments.is_empty(), "{kind}: arguments {arguments:?} are not known here");
    built
}

const PLACES: [(&str, &str); 4] = [("0.weight", "w0"), ("0.bias", "b0"), ("1.weight", "w1"), ("1.bias", "b1")];

fn mlp<B: Backend>(ctx: &B) -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(Dense::new(32).activation(Activation::Relu)).add(Dense::new(5));
    for (place, file) in PLACES {
        let values = Tensor::from_host(ctx, &array(&format!("mlp_init_{file}"))).unwrap();
        net.collect_params().get(place).unwrap().set_data(&values).unwrap();
    }
    net
}

fn replay<B: Backend>(ctx: &B, run: &str, optimizer: Box<dyn Optimizer<B>>) {
    let net = mlp(ctx);
    let [x, y] = ["mlp_x", "mlp_y"].map(|name| Tensor::from_host(ctx, &array(name)).unwrap());
    let losses = array(&format!("{run}_loss")).to_vec::<f32>().unwrap();
    let mut trainer = Trainer::new(net.collect_params(), optimizer).unwrap();
    for (step, expected) in losses.iter().enumerate() {
        let offset = 16 * (step % 4);
        let (x, y) = (x.narrow(0, offset, 16).unwrap(), y.narrow(0, offset, 16).unwrap());
        let loss = autograd::record(|| SoftmaxCrossEntropyLoss::default().loss(&net.forward(&x)?, &y)).unwrap();
        let mean = loss.mean((), false).unwrap().asscalar::<f32>().unwrap();
        assert!((mean - expected).abs() <= 1e-4, "{run}: loss {mean} instead of {expected} before step {step}");
        loss.backward().unwrap();
        trainer.step(16).unwrap();
        if step == 0 {
            let weight = net.collect_params().get("1.weight").unwrap().data().unwrap();
            assert_close(&format!("{run}, first step"), &weight, &array(&format!("{run}_step1_w1")), 1e-3);
        }
    }
    for (place, file) in PLACES {
        let got = net.collect_params().get(place).unwrap().data().unwrap();
        assert_close(&format!("{run}, {place}"), &got, &array(&format!("{run}_final_{file}")), 1e-3);
    }
}

fn every_run_of_an_mlp_is_as_in_mxnet<B: Backend>(ctx: &B) {
    let index: Map<String, Value> = serde_json::from_slice(&std::fs::read(path("index.json")).unwrap()).unwrap();
    let mut replayed = 0;
    for (run, entry) in index.iter().filter(|(run, _)| run.starts_with("mlp_")) {
        let arguments = entry["args"].as_object().unwrap().clone();
        replay(ctx, run, optimizer(entry["optimizer"].as_str().unwrap(), arguments));
        replayed += 1;
    }
    assert!(replayed >= 6, "only {replayed} runs were found");
}

/// The updates of one weight, fed with given gradients, each within 2e-6.
fn every_option_of_every_optimizer_is_as_in_mxnet<B: Backend>(ctx: &B) {
    let cases: Vec<Map<String, Value>> = json("updates.json");
    assert!(cases.len() >= 27);
    for case in cases {
        let numbers = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
        let tensor = |value: &Value| Tensor::from_slice(ctx, &numbers(value), [6]).unwrap();
        let (kind, arguments) = (case["optimizer"].as_str().unwrap(), case["args"].as_object().unwrap().clone());
        let what = format!("{kind} {arguments:?}");
        let optimizer: Box<dyn Optimizer<B>> = optimizer(kind, arguments);
        let weight = tensor(&case["weight"]);
        let state = optimizer.new_state(&weight).unwrap();
        let steps = case["gradients"].as_array().unwrap().iter().zip(case["weights"].as_array().unwrap());
        for (count, (gradient, expected)) in (1..).zip(steps) {
            let step = Step {
                learning_rate: optimizer.learning_rate(),
                weight_decay: optimizer.weight_decay(),
                rescale_grad: case["rescale_grad"].as_f64().unwrap(),
                count,
            };
            optimizer.update(&step, &weight, &tensor(gradient), &state).unwrap();
            let got = weight.to_vec::<f32>().unwrap();
            let fits = got.iter().zip(numbers(expected)).all(|(a, b)| (a - b).abs() <= 2e-6);
            assert!(fits, "{what}, update {count}: {got:?} instead of {expected}");
        }
    }
}

#[test]
fn every_schedule_is_as_in_mxnet() {
    let cases: Vec<Map<String, Value>> = json("schedules.json");
    assert!(cases.len() >= 10);
    for case in cases {
        let (base, schedule) = schedule(&case["scheduler"], None);
        for (update, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
            let (got, expected) = (base * schedule.at(update as u64), expected.as_f64().unwrap());
            assert!((got - expected).abs() < 1e-8, "{} at {update}: {got} instead of {expected}", case["scheduler"]);
        }
    }
}

/// Every optimizer, with all options that lead another way through its rule.
fn all<B: Backend>() -> Vec<(&'static str, Box<dyn Optimizer<B>>)> {
    vec![
        ("sgd", Box::new(SGD::new(0.05).momentum(0.9).weight_decay(0.01).clip_gradient(1.0))),
        ("scheduled", Box::new(Scheduled::new(SGD::new(0.1), Schedule::cosine(20).warm_up(3)))),
        ("nag", Box::new(NAG::new(0.05).momentum(0.9).weight_decay(0.01))),
        ("adam", Box::new(Adam::new(0.05).weight_decay(0.01))),
        ("adamw", Box::new(AdamW::new(0.05).weight_decay(0.01))),
        ("adamax", Box::new(AdaMax::new(0.05))),
        ("nadam", Box::new(Nadam::new(0.05))),
        ("adagrad", Box::new(AdaGrad::new(0.2))),
        ("adadelta", Box::new(AdaDelta::default().epsilon(1e-3))),
        ("rmsprop", Box::new(RMSProp::new(0.02))),
        ("rmsprop centered", Box::new(RMSProp::new(0.005).centered(true))),
        ("ftrl", Box::new(Ftrl::new(0.5).lamda1(1e-4))),
        ("signum", Box::new(Signum::new(0.02))),
        ("signsgd", Box::new(Signum::new(0.02).momentum(0.0))),
        ("lamb", Box::new(LAMB::new(0.05).weight_decay(0.01))),
    ]
}

fn small<B: Backend>(ctx: &B) -> (Sequential<B>, Tensor<B>, Tensor<B>) {
    random::seed(11);
    let mut net = Sequential::new();
    net.add(Dense::new(6).activation(Activation::Tanh)).add(Dense::new(1));
    net.initialize(Xavier::default(), ctx).unwrap();
    let x = Tensor::linspace(ctx, -1.0, 1.0, 16, isograd_core::DType::F32).unwrap().reshape([8, 2]).unwrap();
    let y = x.sum(1, false).unwrap();
    net.forward(&x).unwrap();
    (net, x, y)
}

fn one_step<B: Backend>(net: &Sequential<B>, trainer: &mut Trainer<B>, x: &Tensor<B>, y: &Tensor<B>) -> f32 {
    let loss = autograd::record(|| L2Loss::default().loss(&net.forward(x)?, y)).unwrap();
    loss.backward().unwrap();
    trainer.step(x.shape()[0]).unwrap();
    loss.mean((), false).unwrap().asscalar().unwrap()
}

fn every_optimizer_learns<B: Backend>(ctx: &B) {
    for (name, optimizer) in all() {
        let (net, x, y) = small(ctx);
        let mut trainer = Trainer::new(net.collect_params(), optimizer).unwrap();
        let first = one_step(&net, &mut trainer, &x, &y);
        let last = (0..40).map(|_| one_step(&net, &mut trainer, &x, &y)).last().unwrap();
        assert!(last < 0.5 * first, "{name}: {first} to {last}");
    }
}

fn a_resumed_run_is_an_unbroken_one_to_the_bit<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let (weights, states) = (folder.path().join("net.safetensors"), folder.path().join("trainer.safetensors"));
    for ((name, unbroken), ((_, before), (_, after))) in all().into_iter().zip(all().into_iter().zip(all())) {
        let (net, x, y) = small(ctx);
        let mut trainer = Trainer::new(net.collect_params(), unbroken).unwrap();
        for _ in 0..7 {
            one_step(&net, &mut trainer, &x, &y);
        }
        let bits = |net: &Sequential<B>| -> Vec<Vec<u8>> {
            net.collect_params().iter().map(|(_, p)| p.data().unwrap().to_bytes().unwrap()).collect()
        };
        let expected = bits(&net);

        let (net, x, y) = small(ctx);
        let mut trainer = Trainer::new(net.collect_params(), before).unwrap();
        for _ in 0..4 {
            one_step(&net, &mut trainer, &x, &y);
        }
        net.save_parameters(&weights).unwrap();
        trainer.save_states(&states).unwrap();

        let (net, x, y) = small(ctx);
        net.load_parameters(&weights, ctx).unwrap();
        let mut trainer = Trainer::new(net.collect_params(), after).unwrap();
        trainer.load_states(&states).unwrap();
        for _ in 0..3 {
            one_step(&net, &mut trainer, &x, &y);
        }
        assert!(bits(&net) == expected, "{name}: the resumed run differs");
    }
}

/// One weight, 1, with gradient 4, after one step.
fn stepped<B: Backend>(ctx: &B, optimizer: impl Optimizer<B> + 'static) -> f64 {
    let w = Parameter::new("w", &[Some(1)]);
    w.initialize(One, ctx).unwrap();
    let mut trainer = Trainer::new(w.collect_params(), optimizer).unwrap();
    autograd::record(|| w.data()?.mul_scalar(4.0)).unwrap().backward().unwrap();
    trainer.step(1).unwrap();
    w.data().unwrap().asscalar().unwrap()
}

fn rules_without_a_run_are_as_in_their_papers<B: Backend>(ctx: &B) {
    let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-5, "{got} instead of {expected}");
    // Bias correction makes the first step of Adam lr long, whatever the gradient; the decay of AdamW comes on top.
    close(stepped(ctx, AdamW::new(0.1).weight_decay(0.5)), 1.0 - 0.1 * (1.0 + 0.5));
    // ‖w‖ = 1 and ‖s‖ = 1 + wd · w.
    close(stepped(ctx, LAMB::new(0.1).weight_decay(0.5)), 1.0 - 0.1);
    close(stepped(ctx, LAMB::new(0.1).upper_bound(Some(0.5))), 1.0 - 0.05);
    close(stepped(ctx, Signum::new(0.1).wd_lh(0.5)), (1.0 - 0.1 * 0.5) - 0.1);
    close(stepped(ctx, SGD::new(0.1).clip_gradient(2.0)), 1.0 - 0.2);
    // Adam limits the gradient after its decay, SGD before.
    close(stepped(ctx, SGD::new(0.1).clip_gradient(2.0).weight_decay(1.0)), 1.0 - 0.3);
    close(stepped(ctx, RMSProp::new(0.1).gamma1(0.0).clip_gradient(2.0).weight_decay(1.0)), 1.0 - 0.1);
    let (mu1, mu2) = (0.9 * (1.0 - 0.5 * 0.96f64.powf(0.004)), 0.9 * (1.0 - 0.5 * 0.96f64.powf(0.008)));
    let expected = (1.0 - mu1) * 4.0 / (1.0 - mu1) + mu2 * 0.4 / (1.0 - mu1 * mu2);
    close(stepped(ctx, Nadam::new(0.1)), 1.0 - 0.1 * expected / 4.0);
}

fn multipliers_reach_every_rule<B: Backend>(ctx: &B) {
    for (name, optimizer) in all().into_iter().filter(|(name, _)| *name != "adadelta") {
        let w = Parameter::new("w", &[Some(1)]);
        w.initialize(Constant(0.5), ctx).unwrap();
        // Ftrl divides by the learning rate, so that it may not be 0.
        w.set_lr_mult(1e-20);
        let mut trainer = Trainer::new(w.collect_params(), optimizer).unwrap();
        autograd::record(|| w.data()?.square()).unwrap().backward().unwrap();
        trainer.step(1).unwrap();
        let weight: f32 = w.data().unwrap().asscalar().unwrap();
        assert!(weight == if name == "ftrl" { weight } else { 0.5 }, "{name}: {weight}");
    }
}

#[test]
fn schedules_count_updates_from_one() {
    let shares = |schedule: Schedule| (1..=7).map(|u| schedule.at(u)).collect::<Vec<_>>();
    assert_eq!(shares(Schedule::factor(2, 0.5)), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]);
    assert_eq!(shares(Schedule::factor(2, 0.5).end(0.2)), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2]);
    assert_eq!(shares(Schedule::multi_factor(&[1, 5], 0.1))[..6], [1.0, 0.1, 0.1, 0.1, 0.1, 0.1f64.powi(2)]);
    assert_eq!(shares(Schedule::poly(4, 2.0)), [0.5625, 0.25, 0.0625, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(shares(Schedule::poly(6, 1.0).warm_up(2)), [0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    assert_eq!(shares(Schedule::factor(9, 0.5).warm_up(4).warm_up_from(0.25))[..2], [0.4375, 0.625]);
}

on_every_backend! {
    every_run_of_an_mlp_is_as_in_mxnet
    every_option_of_every_optimizer_is_as_in_mxnet
    every_optimizer_learns
    a_resumed_run_is_an_unbroken_one_to_the_bit
    rules_without_a_run_are_as_in_their_papers
    multipliers_reach_every_rule
}
