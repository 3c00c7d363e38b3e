//! Losses and their gradients against MXNet's, which are data: `golden/losses.json`.

use isograd_core::{Backend, DType, Tensor, autograd};
use isograd_nn::loss::*;
use serde_json::{Map, Value};

fn tensor<B: Backend>(ctx: &B, value: &Value) -> Tensor<B> {
    let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).unwrap();
    let data: Vec<f32> = serde_json::from_value(value["data"].clone()).unwrap();
    Tensor::from_slice(ctx, &data, shape).unwrap()
}

/// The loss that a case describes, of its inputs. Every argument must be read.
#[allow(clippy::needless_update, reason = "some losses have no more options than the macro sets")]
fn compute<B: Backend>(case: &Map<String, Value>, inputs: &[Tensor<B>], weight: Option<&Tensor<B>>) -> Tensor<B> {
    let mut arguments = case["args"].as_object().unwrap().clone();
    let mut take = |name: &str, default: f64| match arguments.remove(name) {
        Some(Value::Bool(b)) => f64::from(u8::from(b)),
        Some(v) => v.as_f64().unwrap(),
        None => default,
    };
    macro_rules! build {
        ($name:ident { $($number:ident),* ; $($flag:ident),* }) => {{
            let d = $name::default();
            $name { $($number: take(stringify!($number), d.$number),)* $($flag: take(stringify!($flag), f64::from(u8::from(d.$flag))) != 0.0,)* ..d }
        }};
    }
    let of_two = |loss: &dyn Loss<B>| loss.loss_weighted(&inputs[0], &inputs[1], weight).unwrap();
    let factor = take("weight", 1.0);
    let result = match case["loss"].as_str().unwrap() {
        "L1Loss" => of_two(&L1Loss { weight: Some(factor), ..L1Loss::default() }),
        "L2Loss" => of_two(&L2Loss { weight: factor, ..L2Loss::default() }),
        "HuberLoss" => of_two(&build!(HuberLoss { rho; })),
        "HingeLoss" => of_two(&build!(HingeLoss { margin; })),
        "SquaredHingeLoss" => of_two(&build!(SquaredHingeLoss { margin; })),
        "LogisticLoss" => {
            let binary = case["args"].get("label_format").is_some_and(|f| f == "binary");
            of_two(&LogisticLoss { binary, ..LogisticLoss::default() })
        }
        "SigmoidBinaryCrossEntropyLoss" => {
            let loss = build!(SigmoidBinaryCrossEntropyLoss { ; from_sigmoid });
            match case["args"].get("pos_weight") {
                Some(pos) => {
                    let pos: Vec<f32> = serde_json::from_value(pos.clone()).unwrap();
                    let pos = Tensor::from_slice(inputs[0].ctx(), &pos, [1, pos.len()]).unwrap();
                    loss.loss_with_pos_weight(&inputs[0], &inputs[1], &pos, weight).unwrap()
                }
                None => of_two(&loss),
            }
        }
        "SoftmaxCrossEntropyLoss" => {
            let axis = take("axis", -1.0) as isize;
            let mut loss = build!(SoftmaxCrossEntropyLoss { ; sparse_label, from_logits });
            loss.axis = axis;
            let labels = if loss.sparse_label { inputs[1].cast(DType::I64).unwrap() } else { inputs[1].clone() };
            loss.loss_weighted(&inputs[0], &labels, weight).unwrap()
        }
        "KLDivLoss" => of_two(&build!(KLDivLoss { ; from_logits })),
        // MXNet gives one mean over everything.
        "PoissonNLLLoss" => {
            let each = of_two(&build!(PoissonNLLLoss { ; from_logits, compute_full }));
            each.mean((), false).unwrap()
        }
        "TripletLoss" => build!(TripletLoss { margin; }).loss(&inputs[0], &inputs[1], &inputs[2], weight).unwrap(),
        "CosineEmbeddingLoss" => {
            let loss = build!(CosineEmbeddingLoss { margin; });
            loss.loss(&inputs[0], &inputs[1], &inputs[2], weight).unwrap()
        }
        other => panic!("there is no loss {other} here"),
    };
    let read = ["label_format", "pos_weight"];
    assert!(arguments.keys().all(|k| read.contains(&k.as_str())), "{arguments:?} are not known here");
    result
}

fn losses_and_their_gradients_are_as_in_mxnet<B: Backend>(ctx: &B) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json");
    let cases: Vec<Map<String, Value>> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(cases.len() >= 40);
    for case in cases {
        let what = format!("{} {:?}", case["loss"], case["args"]);
        let inputs: Vec<Tensor<B>> = case["inputs"].as_array().unwrap().iter().map(|i| tensor(ctx, i)).collect();
        let weight = Some(&case["sample_weight"]).filter(|w| !w.is_null()).map(|w| tensor(ctx, w));
        inputs[0].attach_grad().unwrap();
        let loss = autograd::record(|| compute(&case, &inputs, weight.as_ref()));
        let close = |what: &str, got: &Tensor<B>, expected: &Value| {
            let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
            let got = got.to_vec::<f32>().unwrap();
            let fits = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-5 * (1.0 + b.abs());
            let same = got.len() == expected.len() && got.iter().zip(&expected).all(fits);
            assert!(same, "{what}: {got:?} instead of {expected:?}");
        };
        close(&what, &loss, &case["value"]["data"]);
        loss.backward().unwrap();
        if !case["gradient"].is_null() {
            close(&format!("gradient of {what}"), &inputs[0].grad().unwrap(), &case["gradient"]);
        }
    }
}

on_every_backend! {
    losses_and_their_gradients_are_as_in_mxnet
}

/// The gradient of the sum of `f`, at scores `x`.
fn slope(x: &[f64], f: impl Fn(&Tensor) -> isograd_core::Result<Tensor>) -> Vec<f64> {
    let x = Tensor::from_slice(&isograd_core::Dyn::new(isograd_reference::Reference), x, [x.len(), 1]).unwrap();
    x.attach_grad().unwrap();
    autograd::record(|| f(&x)).unwrap().backward().unwrap();
    x.grad().unwrap().to_vec().unwrap()
}

/// Logistic regression begins at scores of 0, where a loss that is spelled with kinks has no right gradient.
#[test]
fn losses_of_scores_are_smooth_at_zero() {
    let like = |x: &Tensor, values: &[f64]| Tensor::from_slice(x.ctx(), values, [values.len(), 1]).unwrap();
    let bce = SigmoidBinaryCrossEntropyLoss::default();
    assert_eq!(slope(&[0.0, 0.0], |x| bce.loss(x, &like(x, &[0.0, 1.0]))), [0.5, -0.5]);
    let weighted = |x: &Tensor| bce.loss_with_pos_weight(x, &like(x, &[0.0, 1.0]), &like(x, &[3.0]), None);
    assert_eq!(slope(&[0.0, 0.0], weighted), [0.5, -1.5]);
    assert_eq!(slope(&[0.0, 0.0], |x| LogisticLoss::default().loss(x, &like(x, &[-1.0, 1.0]))), [0.5, -0.5]);
    let binary = LogisticLoss { binary: true, ..LogisticLoss::default() };
    assert_eq!(slope(&[0.0, 0.0], |x| binary.loss(x, &like(x, &[0.0, 1.0]))), [0.5, -0.5]);
}

/// Far from 0 neither the loss nor its gradient is lost in a difference of large numbers.
#[test]
fn losses_of_scores_are_accurate_far_from_zero() {
    let ctx = isograd_core::Dyn::new(isograd_reference::Reference);
    let tensor = |values: &[f32]| Tensor::from_slice(&ctx, values, [values.len(), 1]).unwrap();
    let (x, label) = (tensor(&[20.0, -20.0, 200.0, -200.0]), tensor(&[1.0, 0.0, 0.0, 1.0]));
    let loss = SigmoidBinaryCrossEntropyLoss::default().loss(&x, &label).unwrap().to_vec::<f32>().unwrap();
    let small = (-20.0f32).exp();
    for (got, right) in loss.into_iter().zip([small, small, 200.0, 200.0]) {
        assert!((got / right - 1.0).abs() < 1e-5, "{got} instead of {right}");
    }
}

/// PyTorch's numbers: lengths are the root of the sum of squares and 1e-12.
#[test]
fn the_cosine_of_a_zero_vector_has_the_gradient_of_pytorch() {
    let ctx = isograd_core::Dyn::new(isograd_reference::Reference);
    let a = Tensor::from_slice(&ctx, &[0.0f64, 0.0, 3e200, 4e200], [2, 2]).unwrap();
    let b = Tensor::from_slice(&ctx, &[3.0f64, 4.0, 3e200, 4e200], [2, 2]).unwrap();
    let like = Tensor::ones(&ctx, [2], DType::F64).unwrap();
    a.attach_grad().unwrap();
    let loss = autograd::record(|| CosineEmbeddingLoss::default().loss(&a, &b, &like, None)).unwrap();
    let [zero, same] = loss.to_vec::<f64>().unwrap()[..] else { panic!("two pairs have two losses") };
    assert!(zero == 1.0 && same.abs() < 1e-12, "{zero} {same}");
    loss.backward().unwrap();
    let g = a.grad().unwrap().to_vec::<f64>().unwrap();
    assert!((g[0] / -6e5 - 1.0).abs() < 1e-9 && (g[1] / -8e5 - 1.0).abs() < 1e-9, "{g:?}");
    let half = |x: &Tensor| x.detach().clamp(0, 60_000).unwrap().cast(DType::F16).unwrap();
    let loss = CosineEmbeddingLoss::default().loss(&half(&a), &half(&b), &like, None).unwrap();
    let loss = loss.cast(DType::F64).unwrap().to_vec::<f64>().unwrap();
    assert!(loss[0] == 1.0 && loss[1].abs() < 2e-3, "{loss:?}");
    assert!(CosineEmbeddingLoss::default().loss(&half(&a), &b, &like, None).is_err());
}

#[test]
fn prelu_has_its_slope_at_zero() {
    use isograd_nn::{Block, PReLU, Parameters, initializers::Zero};
    let ctx = isograd_core::Dyn::new(isograd_reference::Reference);
    let layer = PReLU::new();
    layer.initialize(Zero, &ctx).unwrap();
    let x = Tensor::from_slice(&ctx, &[0.0f32, -1.0, f32::INFINITY], [3]).unwrap();
    x.attach_grad().unwrap();
    autograd::record(|| layer.forward(&x)).unwrap().backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f32>().unwrap(), [0.25, 0.25, 1.0]);
    assert_eq!(layer.alpha().grad().unwrap().to_vec::<f32>().unwrap(), [-1.0]);
}
