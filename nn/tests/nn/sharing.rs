//! Layers that share parameters, whatever options follow, and layers that are given some.

use isograd_core::{Backend, DType, Error, GradReq, Tensor, autograd};
use isograd_nn::{
    BatchNorm, Block, Conv2D, Conv2DTranspose, Dense, Embedding, GRU, GRUCell, GroupNorm, InstanceNorm, LSTM, LSTMCell,
    LayerNorm, MultiHeadAttention, PReLU, Parameter, Parameters, PositionalEmbedding, RNN, RNNCell, Sequential,
    Trainer, TransformerEncoderBlock,
    initializers::{One, Uniform, Zero},
    optimizer::SGD,
};

fn one<B: Backend>(a: &dyn Parameters<B>, b: &dyn Parameters<B>) -> bool {
    let (a, b) = (a.collect_params(), b.collect_params());
    a.len() == b.len() && a.iter().zip(b.iter()).all(|((_, p), (_, q))| p.is(q))
}

/// Options that agree with what is shared, or say what was not known of it, keep it shared.
fn options_that_agree_keep_parameters_shared<B: Backend>(_: &B) {
    macro_rules! shared {
        ($($of:expr, $options:expr;)*) => { $( {
            let a = $of;
            let b = $options(&a);
            assert!(one::<B>(&a, &b), "{} and {}", a.label().unwrap(), b.label().unwrap());
            assert!(b.collect_params().iter().all(|(_, p)| !p.data().unwrap_err().to_string().contains("shared or")));
        } )* };
    }
    shared! {
        Dense::<B>::new(3), |a: &Dense<B>| Dense::new(3).share(a).in_units(2).use_bias(true).dtype(DType::F32);
        Dense::<B>::new(3).in_units(2), |a: &Dense<B>| Dense::new(3).share(a).in_units(2);
        Dense::<B>::new(3), |a: &Dense<B>| a.clone().in_units(2);
        Conv2D::<B>::new(3, 2), |a: &Conv2D<B>| Conv2D::new(3, 2).share(a).in_channels(2).groups(1).strides(2);
        Conv2DTranspose::<B>::new(3, 2), |a: &Conv2DTranspose<B>| Conv2DTranspose::new(3, 2).share(a).in_channels(2).groups(1);
        LSTM::<B>::new(3).num_layers(2), |a: &LSTM<B>| {
            LSTM::new(3).share(a).input_size(4).num_layers(2).bidirectional(false).batch_first(true)
        };
        GRU::<B>::new(3).bidirectional(true), |a: &GRU<B>| GRU::new(3).share(a).input_size(4).bidirectional(true).num_layers(1);
        RNN::<B>::new(3), |a: &RNN<B>| a.clone().input_size(4);
        MultiHeadAttention::<B>::new(4, 2), |a: &MultiHeadAttention<B>| {
            MultiHeadAttention::new(4, 2).share(a).in_units(4, 4, 4).use_bias(false)
        };
        MultiHeadAttention::<B>::new(4, 2).use_bias(true), |a: &MultiHeadAttention<B>| a.clone().torch_defaults();
        TransformerEncoderBlock::<B>::new(4, 2, 8), |a: &TransformerEncoderBlock<B>| {
            TransformerEncoderBlock::new(4, 2, 8).share(a).pre_norm(true).dropout(0.5)
        };
        BatchNorm::<B>::new(), |a: &BatchNorm<B>| BatchNorm::new().share(a).in_channels(2).scale(true).momentum(0.5);
        LayerNorm::<B>::new(), |a: &LayerNorm<B>| LayerNorm::new().share(a).in_channels(2).center(true);
        GroupNorm::<B>::new(2), |a: &GroupNorm<B>| GroupNorm::new(2).share(a).in_channels(2);
        InstanceNorm::<B>::new(), |a: &InstanceNorm<B>| InstanceNorm::new().share(a).in_channels(2);
        PReLU::<B>::new().in_channels(3), |a: &PReLU<B>| PReLU::new().share(a).in_channels(3);
        Embedding::<B>::new(5, 2), |a: &Embedding<B>| Embedding::new(5, 2).share(a).dtype(DType::F32);
    }
    let a: Dense<B> = Dense::new(3);
    let b = Dense::new(3).share(&a).in_units(2);
    assert_eq!((a.weight().partial_shape(), b.label()), (vec![Some(3), Some(2)], a.label()));
}

/// Options that contradict it are errors of the layer that they were asked of, and only of that one.
fn options_that_contradict_are_errors<B: Backend>(ctx: &B) {
    macro_rules! refused {
        ($($of:expr, $options:expr, $word:literal;)*) => { $( {
            let a = $of;
            let b = $options(&a);
            let what = a.label().unwrap();
            assert!(one::<B>(&a, &b), "{what}");
            let mut net = Sequential::<B>::new();
            net.add(a.clone()).add(b);
            let error = net.initialize(Uniform::default(), ctx).unwrap_err();
            assert!(matches!(error, Error::Parameter { .. }) && error.to_string().contains($word), "{what}: {error}");
            a.initialize(Uniform::default(), ctx).unwrap();
            let error = net.collect_params().iter().filter_map(|(_, p)| p.clone().data().err()).last().unwrap();
            assert!(matches!(error, Error::Parameter { .. }) && error.to_string().contains($word), "{what}: {error}");
            a.collect_params().iter().for_each(|(_, p)| assert_eq!((p.data().unwrap().dtype(), p.dtype()), (DType::F32, DType::F32)));
        } )* };
    }
    let dense = || Dense::<B>::new(3).in_units(2);
    let conv = || Conv2D::<B>::new(4, 2).in_channels(4);
    let norm = || BatchNorm::<B>::new().in_channels(2);
    let lstm = || LSTM::<B>::new(3).input_size(2);
    refused! {
        dense(), |a: &Dense<B>| Dense::new(3).share(a).in_units(5), "(3, 2)";
        dense(), |a: &Dense<B>| Dense::new(3).share(a).dtype(DType::F16), "float16";
        dense(), |a: &Dense<B>| a.clone().weight_initializer(Zero), "initializer";
        dense(), |a: &Dense<B>| Dense::new(3).share(a).bias_initializer(One), "initializer";
        conv(), |a: &Conv2D<B>| Conv2D::new(4, 2).share(a).in_channels(6), "(4, 4, 2, 2)";
        conv(), |a: &Conv2D<B>| Conv2D::new(4, 2).share(a).groups(2), "(4, 2, 2, 2)";
        Conv2DTranspose::<B>::new(4, 2).in_channels(4), |a: &Conv2DTranspose<B>| a.clone().groups(2), "(4, 2, 2, 2)";
        norm(), |a: &BatchNorm<B>| BatchNorm::new().share(a).in_channels(3), "(2,)";
        norm(), |a: &BatchNorm<B>| BatchNorm::new().share(a).scale(false), "trained";
        norm(), |a: &BatchNorm<B>| BatchNorm::new().share(a).running_mean_initializer(One), "initializer";
        LayerNorm::<B>::new().in_channels(2), |a: &LayerNorm<B>| LayerNorm::new().share(a).center(false), "trained";
        lstm(), |a: &LSTM<B>| LSTM::new(3).share(a).num_layers(2), "layers";
        lstm(), |a: &LSTM<B>| a.clone().bidirectional(true), "directions";
        lstm(), |a: &LSTM<B>| LSTM::new(3).share(a).input_size(5), "(12, 2)";
        lstm(), |a: &LSTM<B>| LSTM::new(3).share(a).torch_defaults(), "initializer";
        PReLU::<B>::new(), |a: &PReLU<B>| PReLU::new().share(a).in_channels(3), "(1,)";
        Embedding::<B>::new(5, 2), |a: &Embedding<B>| Embedding::new(5, 2).share(a).weight_initializer(One), "initializer";
        PositionalEmbedding::<B>::new(5, 2), |a: &PositionalEmbedding<B>| a.clone().weight_initializer(One), "initializer";
    }
    macro_rules! cells {
        ($($name:ident)*) => { $(
            let cell: $name<B> = $name::new(3);
            let other = $name::new(3).share(&cell).i2h_weight_initializer(One);
            assert!(one::<B>(&cell, &other));
            assert!(other.initialize(Zero, ctx).unwrap_err().to_string().contains("initializer"));
            cell.initialize(Zero, ctx).unwrap();
        )* };
    }
    cells!(RNNCell LSTMCell GRUCell);
    // What is filled with ones at each pass is no parameter that another layer trains.
    let a = norm();
    let b = BatchNorm::<B>::new().scale(false).with_gamma(a.gamma());
    let error = b.initialize(Uniform::default(), ctx).unwrap_err();
    assert!(matches!(error, Error::Parameter { .. }) && error.to_string().contains("trained"), "{error}");
}

/// The same of a layer that is initialized already.
fn options_after_initialization_hold_or_are_errors<B: Backend>(ctx: &B) {
    let initialized = || {
        let layer: Dense<B> = Dense::new(3).in_units(2);
        layer.initialize(One, ctx).unwrap();
        layer
    };
    let x = Tensor::ones(ctx, [1, 2], DType::F32).unwrap();
    let fails = |layer: Dense<B>| matches!(layer.forward(&x), Err(Error::Parameter { .. }));
    assert!(initialized().in_units(2).forward(&x).is_ok());
    assert!(fails(initialized().in_units(4)));
    assert!(fails(initialized().dtype(DType::F64)));
    assert!(fails(initialized().weight_initializer(Zero)));
    // Awaiting its shape, it gets its values as soon as that is known.
    let layer: Dense<B> = Dense::new(3);
    layer.initialize(One, ctx).unwrap();
    assert_eq!(layer.in_units(2).weight().data().unwrap().to_vec::<f32>().unwrap(), [1.0; 6]);
    let lstm: LSTM<B> = LSTM::new(2);
    lstm.initialize(One, ctx).unwrap();
    let lstm = lstm.num_layers(2);
    assert!(lstm.forward(&Tensor::ones(ctx, [1, 1, 2], DType::F32).unwrap()).is_err());

    let w = Parameter::<B>::new("w", &[Some(1)]);
    w.initialize(One, ctx).unwrap();
    let w = w.with_grad_req(GradReq::Add);
    for _ in 0..2 {
        autograd::record(|| w.data()?.mul_scalar(3)).unwrap().backward().unwrap();
    }
    assert_eq!((w.grad_req(), w.grad().unwrap().to_vec::<f32>().unwrap()), (GradReq::Add, vec![6.0]));
    let w = w.with_differentiable(false);
    assert!(w.grad().is_err() && !w.data().unwrap().requires_grad());
}

/// While nothing depends on it, an option may be said again; a bias taken away comes back.
fn options_of_a_new_layer_may_be_said_again<B: Backend>(ctx: &B) {
    let layer: Dense<B> =
        Dense::new(3).in_units(5).in_units(2).use_bias(false).use_bias(true).dtype(DType::F16).dtype(DType::F32);
    layer.initialize(One, ctx).unwrap();
    let names = layer.collect_params().names();
    assert!(names[0].ends_with("weight") && names[1] == names[0].replace("weight", "bias"), "{names:?}");
    assert_eq!(
        layer.forward(&Tensor::ones(ctx, [1, 2], DType::F32).unwrap()).unwrap().to_vec::<f32>().unwrap(),
        [2.0; 3]
    );
    let lstm: LSTM<B> = LSTM::new(2).num_layers(3).i2h_bias_initializer(One).num_layers(2).input_size(7).input_size(2);
    assert_eq!(lstm.collect_params().len(), 8);
    lstm.initialize(Zero, ctx).unwrap();
    assert_eq!(lstm.collect_params()["l1_i2h_bias"].data().unwrap().to_vec::<f32>().unwrap(), [1.0; 8]);
    let attention: MultiHeadAttention<B> = MultiHeadAttention::new(4, 2).in_units(3, 4, 5).use_bias(true);
    attention.initialize(One, ctx).unwrap();
    assert_eq!(attention.collect_params()["v_proj.weight"].shape().unwrap(), [4, 5]);
    assert_eq!(attention.collect_params().len(), 8);
}

fn a_layer_can_be_given_parameters<B: Backend>(ctx: &B) {
    let table: Embedding<B> = Embedding::new(5, 2);
    let mut net = Sequential::new();
    net.add(table.clone()).add(Dense::new(5).flatten(false).with_weight(table.weight()));
    net.initialize(One, ctx).unwrap();
    assert_eq!((net.collect_params().len(), net.collect_params().unique().len()), (3, 2));
    let words = Tensor::from_slice(ctx, &[1i64, 3], [2]).unwrap();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.5)).unwrap();
    let y = autograd::record(|| net.forward(&words)).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [2.0; 10]);
    y.backward().unwrap();
    trainer.step(1).unwrap();
    // Of the scores, 1 per word of the batch; of the two words, also the sum over all scores.
    let expected = [0.0f32, 0.0, -2.5, -2.5, 0.0, 0.0, -2.5, -2.5, 0.0, 0.0];
    assert_eq!(table.weight().data().unwrap().to_vec::<f32>().unwrap(), expected);

    // The other way round: the table learns its width from the decoder.
    let decoder: Dense<B> = Dense::new(5);
    let table = Embedding::new(5, 2).with_weight(decoder.weight());
    assert_eq!(decoder.weight().shape().unwrap(), [5, 2]);
    assert!(table.weight().is(decoder.weight()));
    let wrong = Embedding::new(6, 2).with_weight(decoder.weight());
    assert!(wrong.initialize(One, ctx).unwrap_err().to_string().contains("(6, 2)"));

    let one: LSTM<B> = LSTM::new(3).input_size(2);
    let weight = one.collect_params()["l0_h2h_weight"].clone();
    let other = LSTM::new(3).num_layers(2).with_parameter("l1_h2h_weight", &weight);
    assert!(other.collect_params()["l1_h2h_weight"].is(&weight));
    let cell = LSTMCell::new(3).with_parameter("h2h_weight", &weight);
    assert!(cell.collect_params()["h2h_weight"].is(&weight));
    let wrong = GRUCell::new(3).with_parameter("h2h_wieght", &weight);
    assert!(wrong.initialize(One, ctx).unwrap_err().to_string().contains("h2h_wieght"));
    let wrong = GRU::new(3).with_parameter("l0_h2h_weight", &weight);
    assert!(wrong.initialize(One, ctx).unwrap_err().to_string().contains("(12, 3)"));

    let norm: LayerNorm<B> = LayerNorm::new().in_channels(3);
    let given = BatchNorm::new().with_gamma(norm.gamma()).with_beta(norm.beta());
    assert!(given.gamma().is(norm.gamma()) && given.beta().is(norm.beta()));
    let half: Dense<B> = Dense::new(3).in_units(2).dtype(DType::F16);
    let given = Dense::new(3).with_weight(half.weight());
    given.initialize(One, ctx).unwrap();
    assert!(given.forward(&Tensor::ones(ctx, [1, 2], DType::F16).unwrap()).is_ok());
}

on_every_backend! {
    options_that_agree_keep_parameters_shared
    options_that_contradict_are_errors
    options_after_initialization_hold_or_are_errors
    options_of_a_new_layer_may_be_said_again
    a_layer_can_be_given_parameters
}
