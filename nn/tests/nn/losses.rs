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
    gradients_at_kinks_are_those_of_the_smooth_function
    a_vector_of_zeros_has_the_gradient_of_pytorch
    half_precision_is_single_precision_rounded
}

fn leaf<B: Backend>(ctx: &B, values: &[f32], shape: &[usize]) -> Tensor<B> {
    let x = Tensor::from_slice(ctx, values, shape).unwrap();
    x.attach_grad().unwrap();
    x
}

/// A score of exactly 0 is what a network gives whose last layer begins with zeros.
fn gradients_at_kinks_are_those_of_the_smooth_function<B: Backend>(ctx: &B) {
    let scores = leaf(ctx, &[0.0, 0.0, 0.0, 2.0], &[4, 1]);
    let gradient = |loss: &dyn Fn() -> Tensor<B>| {
        autograd::record(loss).backward().unwrap();
        scores.grad().unwrap().to_vec::<f32>().unwrap()
    };
    let close = |what: &str, got: &[f32], expected: &[f32]| {
        let fits = got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(fits, "{what}: {got:?} instead of {expected:?}");
    };
    let label = Tensor::from_slice(ctx, &[1.0f32, 0.0, 0.25, 1.0], [4, 1]).unwrap();
    let sigmoid = 1.0 / (1.0 + (-2f32).exp());
    let expected = [-0.5, 0.5, 0.25, sigmoid - 1.0];
    close("BCE", &gradient(&|| SigmoidBCELoss::default().loss(&scores, &label).unwrap()), &expected);
    let ones = Tensor::ones(ctx, [1], DType::F32).unwrap();
    let weighted = || SigmoidBCELoss::default().loss_with_pos_weight(&scores, &label, &ones, None).unwrap();
    close("BCE, weighted", &gradient(&weighted), &expected);
    let binary = LogisticLoss { binary: true, ..LogisticLoss::default() };
    close("logistic", &gradient(&|| binary.loss(&scores, &label).unwrap()), &expected);
    // Far away it neither overflows nor loses what is left.
    let far = Tensor::from_slice(ctx, &[100.0f32, -100.0, 20.0, -20.0], [4, 1]).unwrap();
    let label = Tensor::from_slice(ctx, &[0.0f32, 1.0, 1.0, 0.0], [4, 1]).unwrap();
    let got = SigmoidBCELoss::default().loss(&far, &label).unwrap().to_vec::<f32>().unwrap();
    let tail = (-20f64).exp() as f32;
    let expected = [100.0, 100.0, tail, tail];
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b), "{got:?}");
}

fn a_vector_of_zeros_has_the_gradient_of_pytorch<B: Backend>(ctx: &B) {
    let a = leaf(ctx, &[0.0; 3], &[1, 3]);
    let b = leaf(ctx, &[1.0, 2.0, 4.0], &[1, 3]);
    let like = Tensor::ones(ctx, [1], DType::F32).unwrap();
    let loss = autograd::record(|| CosineEmbeddingLoss::default().loss(&a, &b, &like, None)).unwrap();
    loss.backward().unwrap();
    assert_eq!(loss.to_vec::<f32>().unwrap(), [1.0]);
    // -b / (1e-6 ‖b‖): torch.nn.functional.cosine_embedding_loss gives -218217.9, -436435.8, -872871.6.
    let got = a.grad().unwrap().to_vec::<f32>().unwrap();
    let expected = [-218_217.9f32, -436_435.8, -872_871.6];
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs()), "{got:?}");
    assert_eq!(b.grad().unwrap().to_vec::<f32>().unwrap(), [0.0; 3]);
    let both = leaf(ctx, &[0.0; 3], &[1, 3]);
    let unlike = Tensor::full(ctx, [1], -1.0, DType::F32).unwrap();
    autograd::record(|| CosineEmbeddingLoss::default().loss(&both, &both, &unlike, None)).unwrap().backward().unwrap();
    assert_eq!(both.grad().unwrap().to_vec::<f32>().unwrap(), [0.0; 3]);
}

/// Every loss, of numbers that both dtypes hold, at the ends of its domain.
fn half_precision_is_single_precision_rounded<B: Backend>(ctx: &B) {
    let probabilities: [f32; 4] = [0.0, 1.0, 0.5, 0.25];
    let labels: [f32; 4] = [0.0, 1.0, 1.0, 0.0];
    type Run<'a, B> = Box<dyn Fn(&Tensor<B>, &Tensor<B>) -> Tensor<B> + 'a>;
    type Fallible<B> = dyn Fn(&Tensor<B>, &Tensor<B>) -> isograd_core::Result<Tensor<B>>;
    let of = |loss: &'static Fallible<B>| -> Run<'_, B> { Box::new(move |x, y| loss(x, y).unwrap()) };
    let runs: Vec<(&str, Run<'_, B>)> = vec![
        ("L1", of(&|x, y| L1Loss::default().loss(x, y))),
        ("Huber", of(&|x, y| HuberLoss::default().loss(x, y))),
        ("hinge", of(&|x, y| HingeLoss::default().loss(x, y))),
        ("BCE", of(&|x, y| SigmoidBCELoss { from_sigmoid: true, ..SigmoidBCELoss::default() }.loss(x, y))),
        ("BCE of scores", of(&|x, y| SigmoidBCELoss::default().loss(x, y))),
        ("KL", of(&|x, y| KLDivLoss::default().loss(x, y))),
        ("Poisson", of(&|x, y| PoissonNLLLoss { from_logits: false, ..PoissonNLLLoss::default() }.loss(x, y))),
        ("softmax", of(&|x, y| SoftmaxCrossEntropyLoss { sparse_label: false, ..Default::default() }.loss(x, y))),
        ("triplet", of(&|x, y| TripletLoss::default().loss(x, y, &y.rsub_scalar(1)?, None))),
        (
            "cosine",
            of(&|x, y| {
                let like = Tensor::ones(x.ctx(), [x.shape()[0]], x.dtype())?;
                CosineEmbeddingLoss::default().loss(x, &y.mul_scalar(0.0)?, &like, None)
            }),
        ),
    ];
    for (name, run) in &runs {
        for dtype in [DType::F16, DType::BF16] {
            let [half, single] = [dtype, DType::F32].map(|dtype| {
                let make = |v: &[f32]| Tensor::from_slice(ctx, v, [2, 2]).unwrap().cast(dtype).unwrap();
                let (x, y) = (make(&probabilities), make(&labels));
                x.attach_grad().unwrap();
                let loss = autograd::record(|| run(&x, &y));
                loss.backward().unwrap();
                assert_eq!(loss.dtype(), dtype, "{name}");
                let numbers = |t: &Tensor<B>| t.cast(DType::F32).unwrap().to_vec::<f32>().unwrap();
                [numbers(&loss), numbers(&x.grad().unwrap())]
            });
            for (half, single) in half.iter().flatten().zip(single.iter().flatten()) {
                let bound = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
                let beyond = dtype == DType::F16 && single.abs() > 65504.0 && half.abs() == f32::INFINITY;
                assert!(
                    (half - single).abs() <= bound * single.abs() || beyond,
                    "{name}, {dtype}: {half} for {single}"
                );
            }
        }
    }
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
