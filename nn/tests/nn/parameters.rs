//! Initialization, deferred shapes, sharing, gradients: Gluon's behaviour.

use isograd_core::{Backend, DType, Error, GradReq, Result, Shape, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, Block, Conv2D, Dense, Dropout, Initializer, Parameter, Parameters, Sequential, Trainer, describe,
    initializers::{Constant, Factor, Normal, One, Random, Uniform, Xavier},
    loss::{L2Loss, Loss, SoftmaxCrossEntropyLoss},
    metric::{Accuracy, Metric},
    optimizer::SGD,
};

fn two_layers<B: Backend>() -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(Dense::new(4)).add(Dense::new(2));
    net
}

fn parameter<B: Backend>(net: &Sequential<B>, path: &str) -> Parameter<B> {
    net.collect_params().get(path).unwrap().clone()
}

fn values<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

fn parameters_without_values_are_errors_that_name_them<B: Backend>(ctx: &B) {
    let net = two_layers();
    let x = Tensor::ones(ctx, [1, 3], DType::F32).unwrap();
    let weight = parameter(&net, "0.weight");
    for error in [net.forward(&x).unwrap_err(), weight.data().unwrap_err(), weight.grad().unwrap_err()] {
        assert!(matches!(&error, Error::Uninitialized { name, .. } if *name == weight.name()), "{error}");
        assert!(error.to_string().contains("net.initialize"), "{error}");
    }
    // As in Gluon, what fails leaves the shape as open as it was.
    assert_eq!(weight.partial_shape(), [Some(4), None]);

    let net = two_layers();
    net.initialize(Uniform::default(), ctx).unwrap();
    let weight = parameter(&net, "1.weight");
    let folder = tempfile::tempdir().unwrap();
    let saved = net.save_parameters(folder.path().join("x.safetensors")).unwrap_err();
    assert!(matches!(&saved, Error::Uninitialized { name, .. } if name.contains("weight")), "{saved}");
    for error in [weight.data().unwrap_err(), weight.shape().unwrap_err(), weight.grad().unwrap_err()] {
        assert!(error.to_string().contains("dimension 1 of its shape (2, ?)"), "{error}");
    }
    // The bias does not wait.
    assert_eq!(values(&parameter(&net, "1.bias").data().unwrap()), [0.0, 0.0]);
    assert_eq!(describe(&net), "Sequential(\n  (0): Dense(None -> 4, linear)\n  (1): Dense(None -> 2, linear)\n)");
    net.forward(&x).unwrap();
    assert_eq!(describe(&net), "Sequential(\n  (0): Dense(3 -> 4, linear)\n  (1): Dense(4 -> 2, linear)\n)");
    assert_eq!(weight.shape().unwrap(), [2, 4]);
}

fn initializing_again_keeps_values_unless_forced<B: Backend>(ctx: &B) {
    let net = two_layers();
    net.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    let x = Tensor::ones(ctx, [1, 3], DType::F32).unwrap();
    net.forward(&x).unwrap();
    let weight = parameter(&net, "0.weight");
    let before = values(&weight.data().unwrap());
    net.initialize(One, ctx).unwrap();
    assert_eq!(values(&weight.data().unwrap()), before);
    net.force_reinit(One, ctx).unwrap();
    assert_eq!(values(&weight.data().unwrap()), [1.0; 12]);
    assert_eq!(values(&parameter(&net, "0.bias").data().unwrap()), [0.0; 4]);
}

fn a_layers_own_initializer_wins<B: Backend>(ctx: &B) {
    let layer = Dense::new(2).in_units(2).weight_initializer(Constant(3.0)).bias_initializer(One);
    layer.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    assert_eq!(values(&layer.weight().data().unwrap()), [3.0; 4]);
    assert_eq!(values(&layer.bias().unwrap().data().unwrap()), [1.0; 2]);
    layer.force_reinit(Constant(9.0), ctx).unwrap();
    assert_eq!(values(&layer.weight().data().unwrap()), [3.0; 4]);
    layer.weight().force_reinit(Constant(9.0), ctx).unwrap();
    assert_eq!(values(&layer.weight().data().unwrap()), [9.0; 4]);
}

fn wrong_inputs_are_errors<B: Backend>(ctx: &B) {
    let ones = |shape: &[usize], dtype| Tensor::ones(ctx, shape, dtype).unwrap();
    let layer = Dense::new(4);
    layer.initialize(One, ctx).unwrap();
    layer.forward(&ones(&[2, 3], DType::F32)).unwrap();
    let width = layer.forward(&ones(&[2, 5], DType::F32)).unwrap_err();
    assert!(width.to_string().contains("(4, 3), but (4, 5)"), "{width}");
    assert!(matches!(layer.forward(&ones(&[2, 3], DType::F64)), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(layer.forward(&ones(&[], DType::F32)), Err(Error::InvalidShape { .. })));

    let conv = Conv2D::new(2, 3).in_channels(3);
    conv.initialize(Xavier::default(), ctx).unwrap();
    assert!(matches!(conv.forward(&ones(&[1, 4, 9, 9], DType::F32)), Err(Error::Parameter { .. })));
    assert!(matches!(conv.forward(&ones(&[1, 3], DType::F32)), Err(Error::InvalidShape { .. })));
    assert!(conv.forward(&ones(&[1, 3, 2, 2], DType::F32)).is_err());

    let p: Parameter<B> = Parameter::new("w", &[Some(3), Some(2)]);
    p.initialize(One, ctx).unwrap();
    assert!(matches!(p.set_data(&ones(&[2, 3], DType::F32)), Err(Error::Parameter { .. })));
    assert!(matches!(p.set_data(&ones(&[3, 2], DType::F64)), Err(Error::Parameter { .. })));
    let bias: Parameter<B> = Parameter::new("b", &[Some(3)]);
    assert!(bias.initialize(Xavier::default(), ctx).unwrap_err().to_string().contains("two axes"));

    #[derive(Debug)]
    struct Wrong;
    impl<B: Backend> Initializer<B> for Wrong {
        fn initialize(&self, ctx: &B, _: &str, _: &Shape, dtype: DType) -> Result<Tensor<B>> {
            Tensor::ones(ctx, [1], dtype)
        }
    }
    assert!(bias.force_reinit(Wrong, ctx).unwrap_err().to_string().contains("initializer gave"));
}

fn random_initializers_have_gluons_widths<B: Backend>(ctx: &B) {
    random::seed(3);
    let deviation = |initializer: &dyn Initializer<B>, shape: &[usize]| {
        let w = initializer.initialize(ctx, "w", &shape.into(), DType::F32).unwrap();
        w.square().unwrap().mean((), false).unwrap().asscalar::<f64>().unwrap().sqrt()
    };
    let gaussian = Xavier { rnd_type: Random::Gaussian, ..Xavier::default() };
    let inputs = Xavier { factor_type: Factor::In, magnitude: 2.34, ..Xavier::default() };
    // The deviations that MXNet's numbers have.
    let cases: [(&dyn Initializer<B>, f64, f64); 5] = [
        (&Uniform::default(), 0.0406, 0.0406),
        (&Normal::default(), 0.00999, 0.00994),
        (&Xavier::default(), 0.0632, 0.0501),
        (&gaussian, 0.1096, 0.0858),
        (&inputs, 0.0509, 0.0464),
    ];
    for (initializer, dense, conv) in cases {
        for (expected, shape) in [(dense, &[200, 300][..]), (conv, &[50, 40, 3, 3])] {
            let found = deviation(initializer, shape);
            assert!((found / expected - 1.0).abs() < 0.03, "{initializer:?}: {found} for {expected}");
        }
    }
}

fn a_shared_layer_adds_its_gradients_and_steps_once<B: Backend>(ctx: &B) {
    let first = Dense::new(1).in_units(1).use_bias(false);
    let second = first.clone();
    let mut net = Sequential::new();
    net.add(first.clone()).add(second);
    net.initialize(Constant(3.0), ctx).unwrap();
    assert_eq!((net.collect_params().len(), net.collect_params().unique().len()), (2, 1));
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1)).unwrap();
    let x = Tensor::ones(ctx, [1, 1], DType::F32).unwrap();
    // y = w² x, so dy/dw = 2 w x.
    autograd::record(|| net.forward(&x)).unwrap().backward().unwrap();
    assert_eq!(values(&first.weight().grad().unwrap()), [6.0]);
    trainer.step(1).unwrap();
    assert!((values(&first.weight().data().unwrap())[0] - 2.4).abs() < 1e-6);
    assert_eq!(
        parameter(&net, "0.weight").data().unwrap().version(),
        parameter(&net, "1.weight").data().unwrap().version()
    );
}

fn gradients_accumulate_when_asked_to<B: Backend>(ctx: &B) {
    let layer = Dense::new(1).in_units(2).use_bias(false);
    layer.initialize(One, ctx).unwrap();
    layer.weight().set_grad_req(GradReq::Add).unwrap();
    let x = Tensor::from_slice(ctx, &[1.0f32, 2.0], [1, 2]).unwrap();
    for times in 1..=3 {
        autograd::record(|| layer.forward(&x)).unwrap().backward().unwrap();
        assert_eq!(values(&layer.weight().grad().unwrap()), [times as f32, 2.0 * times as f32]);
    }
    layer.weight().zero_grad().unwrap();
    assert_eq!(values(&layer.weight().grad().unwrap()), [0.0, 0.0]);

    layer.weight().set_grad_req(GradReq::Null).unwrap();
    assert!(layer.weight().grad().unwrap_err().to_string().contains("grad_req is Null"));
    let mut trainer = Trainer::new(layer.collect_params(), SGD::new(1.0).weight_decay(0.5)).unwrap();
    trainer.step(1).unwrap();
    assert_eq!(values(&layer.weight().data().unwrap()), [1.0, 1.0]);
}

fn steps_divide_by_the_batch_and_obey_multipliers<B: Backend>(ctx: &B) {
    // Gradient 4, weight 1.
    let step = |optimizer: SGD, batch: usize, change: fn(&Parameter<B>)| {
        let w = Parameter::new("w", &[Some(1)]);
        w.initialize(One, ctx).unwrap();
        change(&w);
        let mut trainer = Trainer::new(w.collect_params(), optimizer).unwrap();
        autograd::record(|| w.data()?.mul_scalar(4.0)).unwrap().backward().unwrap();
        trainer.step(batch).unwrap();
        values(&w.data().unwrap())[0]
    };
    let sgd = SGD::new(1.0);
    assert_eq!([1, 2, 4].map(|n| step(sgd, n, |_| {})), [-3.0, -1.0, 0.0]);
    assert_eq!(step(sgd.clip_gradient(0.5), 1, |_| {}), 0.5);
    assert_eq!(step(sgd.clip_gradient(1.5), 4, |_| {}), 0.0);
    assert_eq!(step(sgd, 1, |w| w.set_lr_mult(0.25)), 0.0);
    assert_eq!(step(sgd.weight_decay(0.5), 4, |_| {}), -0.5);
    assert_eq!(step(sgd.weight_decay(0.5), 4, |w| w.set_wd_mult(0.0)), 0.0);

    let w: Parameter<B> = Parameter::new("w", &[Some(1)]);
    let mut trainer = Trainer::new(w.collect_params(), SGD::default()).unwrap();
    assert_eq!(trainer.learning_rate(), 0.01);
    trainer.set_learning_rate(0.5);
    assert_eq!(trainer.learning_rate(), 0.5);
    assert!(matches!(trainer.step(1), Err(Error::Uninitialized { .. })));
    assert!(matches!(trainer.step(0), Err(Error::InvalidArgument { .. })));
    assert!(Trainer::new(Vec::<Parameter<B>>::new().collect_params(), SGD::default()).is_err());
}

fn the_same_seed_gives_the_same_weights_everywhere<B: Backend>(ctx: &B) {
    fn weights<B: Backend>(ctx: &B) -> Vec<u8> {
        random::seed(11);
        let net = two_layers();
        net.initialize(Xavier { rnd_type: Random::Gaussian, ..Xavier::default() }, ctx).unwrap();
        net.forward(&Tensor::ones(ctx, [1, 3], DType::F32).unwrap()).unwrap();
        net.collect_params().iter().flat_map(|(_, p)| p.data().unwrap().to_bytes().unwrap()).collect()
    }
    assert_eq!(weights(ctx), weights(&isograd_reference::Reference));
}

fn losses_weigh_and_average_as_in_gluon<B: Backend>(ctx: &B) {
    let tensor = |data: &[f32], shape: &[usize]| Tensor::from_slice(ctx, data, shape).unwrap();
    let scores = tensor(&[0.5, -1.0, 2.0, 0.0, 3.0, 1.0], &[2, 3]);
    let sparse = tensor(&[2.0, 0.0], &[2]);
    let dense = tensor(&[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], &[2, 3]);
    let loss = SoftmaxCrossEntropyLoss::default();
    let plain = values(&loss.loss(&scores, &sparse).unwrap());
    let by_hand = |row: [f64; 3], class: usize| (row.map(f64::exp).iter().sum::<f64>().ln() - row[class]) as f32;
    for (found, expected) in plain.iter().zip([by_hand([0.5, -1.0, 2.0], 2), by_hand([0.0, 3.0, 1.0], 0)]) {
        assert!((found - expected).abs() < 1e-6);
    }
    let close = |a: Tensor<B>, b: &[f32]| values(&a).iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
    let of_probabilities = SoftmaxCrossEntropyLoss { sparse_label: false, ..loss };
    close(of_probabilities.loss(&scores, &dense).unwrap(), &plain);
    let from_logits = SoftmaxCrossEntropyLoss { from_logits: true, ..loss };
    close(from_logits.loss(&scores.log_softmax(-1).unwrap(), &sparse).unwrap(), &plain);
    let along_first = SoftmaxCrossEntropyLoss { axis: 0, batch_axis: 1, ..loss };
    close(along_first.loss(&scores.t().unwrap(), &sparse).unwrap(), &plain);
    let doubled = SoftmaxCrossEntropyLoss { weight: Some(2.0), ..loss };
    let samples = tensor(&[1.0, 0.5], &[2, 1]);
    close(doubled.loss_weighted(&scores, &sparse, Some(&samples)).unwrap(), &[2.0 * plain[0], plain[1]]);
    // One more axis is averaged over.
    let maps = scores.reshape([2, 3, 1]).unwrap().broadcast_to([2, 3, 4]).unwrap();
    let labels = sparse.reshape([2, 1]).unwrap().broadcast_to([2, 4]).unwrap();
    close(SoftmaxCrossEntropyLoss { axis: 1, ..loss }.loss(&maps, &labels).unwrap(), &plain);

    let label = tensor(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], &[2, 3]);
    close(L2Loss::default().loss(&scores, &label).unwrap(), &[5.25 / 6.0, 5.0 / 6.0]);
    assert!(loss.loss(&scores, &tensor(&[0.0; 3], &[3])).is_err());
}

fn accuracy_counts_right_classes<B: Backend>(ctx: &B) {
    let scores = Tensor::from_slice(ctx, &[1.0f32, 2.0, 5.0, 4.0, 0.0, 9.0], [3, 2]).unwrap();
    let mut accuracy = Accuracy::default();
    assert!(accuracy.value().is_nan());
    accuracy.update(&Tensor::from_slice(ctx, &[1u8, 1, 1], [3]).unwrap(), &scores).unwrap();
    accuracy
        .update(&Tensor::from_slice(ctx, &[1.0f32], [1]).unwrap(), &Tensor::from_slice(ctx, &[1i64], [1]).unwrap())
        .unwrap();
    assert_eq!(accuracy.counts(), (3, 4));
    accuracy.reset();
    assert_eq!(accuracy.counts(), (0, 0));
}

fn dropout_drops_whole_rows_along_axes<B: Backend>(ctx: &B) {
    random::seed(5);
    let x = Tensor::ones(ctx, [50, 4], DType::F32).unwrap();
    let y = autograd::train_mode(|| Dropout::new(0.5).axes(&[1]).forward(&x)).unwrap();
    let y = values(&y);
    assert!(y.chunks(4).all(|row| row == [0.0; 4] || row == [2.0; 4]));
    assert!(y.contains(&0.0) && y.contains(&2.0));
    assert_eq!(values(&autograd::record_predict(|| Dropout::new(0.5).forward(&x)).unwrap()), [1.0; 200]);
}

fn activations_are_gluons<B: Backend>(ctx: &B) {
    let x = Tensor::from_slice(ctx, &[-2.0f32, 0.5], [2]).unwrap();
    type Formula = fn(f64) -> f64;
    let formulas: [(Activation, Formula); 5] = [
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Activation::Tanh, f64::tanh),
        (Activation::Softrelu, |x| x.exp().ln_1p()),
        (Activation::Softsign, |x| x / (1.0 + x.abs())),
    ];
    for (activation, formula) in formulas {
        for (found, at) in values(&activation.forward(&x).unwrap()).iter().zip([-2.0, 0.5]) {
            assert!((f64::from(*found) - formula(at)).abs() < 1e-6, "{activation}");
        }
    }
}

on_every_backend! {
    parameters_without_values_are_errors_that_name_them
    initializing_again_keeps_values_unless_forced
    a_layers_own_initializer_wins
    wrong_inputs_are_errors
    random_initializers_have_gluons_widths
    a_shared_layer_adds_its_gradients_and_steps_once
    gradients_accumulate_when_asked_to
    steps_divide_by_the_batch_and_obey_multipliers
    the_same_seed_gives_the_same_weights_everywhere
    losses_weigh_and_average_as_in_gluon
    accuracy_counts_right_classes
    dropout_drops_whole_rows_along_axes
    activations_are_gluons
}

#[test]
fn layers_print_as_in_gluon() {
    use isograd_core::Dyn;
    use isograd_nn::{AvgPool2D, Flatten, GlobalAvgPool2D, MaxPool2D};
    let conv: Conv2D = Conv2D::new(4, [3, 5]).strides(2).padding([1, 2]).dilation(2).groups(2).in_channels(2);
    let pool = "ceil_mode=False, global_pool=False, pool_type=avg, layout=NCHW)";
    let texts: [(Option<String>, String); 8] = [
        (conv.label(), "Conv2D(2 -> 4, kernel_size=(3, 5), stride=(2, 2), padding=(1, 2), dilation=(2, 2), groups=2)".into()),
        (Conv2D::<Dyn>::new(4, 3).use_bias(false).label(), "Conv2D(None -> 4, kernel_size=(3, 3), stride=(1, 1), bias=False)".into()),
        (Parameters::<Dyn>::label(&AvgPool2D::default()), format!("AvgPool2D(size=(2, 2), stride=(2, 2), padding=(0, 0), {pool}")),
        (
            Parameters::<Dyn>::label(&MaxPool2D::new([2, 3]).padding([1, 2]).ceil_mode(true)),
            "MaxPool2D(size=(2, 3), stride=(2, 3), padding=(1, 2), ceil_mode=True, global_pool=False, pool_type=max, layout=NCHW)".into(),
        ),
        (
            Parameters::<Dyn>::label(&GlobalAvgPool2D::new()),
            "GlobalAvgPool2D(size=(1, 1), stride=(1, 1), padding=(0, 0), ceil_mode=True, global_pool=True, pool_type=avg, layout=NCHW)".into(),
        ),
        (Parameters::<Dyn>::label(&Flatten), "Flatten".into()),
        (Parameters::<Dyn>::label(&Dropout::new(0.3)), "Dropout(p = 0.3, axes=())".into()),
        (Dense::<Dyn>::new(3).in_units(4).activation(Activation::Tanh).label(), "Dense(4 -> 3, Activation(tanh))".into()),
    ];
    for (found, expected) in texts {
        assert_eq!(found.unwrap(), expected);
    }
}
