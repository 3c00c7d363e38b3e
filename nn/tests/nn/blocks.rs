//! Containers, blocks of several inputs and outputs, constants, sharing, hooks, summaries, pictures.

use isograd_core::{Backend, DType, Error, GradReq, Result, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, BatchNorm, Block, Concurrent, Constant, Conv2D, Conv2DTranspose, Dense, Dropout, Embedding, Flatten,
    GRU, GRUCell, GroupNorm, Identity, InstanceNorm, LSTM, LSTMCell, Lambda, LayerNorm, MultiHeadAttention, PReLU,
    Parameter, ParameterDict, Parameters, PositionalEmbedding, RNN, RNNCell, Residual, Sequential, Trainer,
    TransformerEncoderBlock, hooks,
    initializers::{One, Uniform, Zero},
    optimizer::SGD,
    picture, summary, summary_of,
};
use std::{cell::RefCell, rc::Rc, sync::Arc};

fn values<B: Backend>(tensor: &Tensor<B>) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

fn ones<B: Backend>(ctx: &B, shape: &[usize]) -> Tensor<B> {
    Tensor::ones(ctx, shape, DType::F32).unwrap()
}

fn sequential_is_edited_and_indexed<B: Backend>(ctx: &B) {
    let mut net: Sequential<B> = Sequential::new();
    net.add(Dense::new(4)).add_named("last", Dense::new(1)).unwrap();
    net.insert(1, Activation::Relu).unwrap();
    assert_eq!(net.collect_params().paths(), ["0.weight", "0.bias", "last.weight", "last.bias"]);
    assert_eq!(net.named("last").unwrap().label().unwrap(), "Dense(None -> 1, linear)");
    for name in ["last", "", "a.b", "7"] {
        let error = net.add_named(name, Identity).map(drop).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    assert!(net.insert(4, Identity).is_err() && net.remove(3).is_err() && net.at(-4).is_err());
    assert_eq!(net.remove(1).unwrap().label().unwrap(), "Activation(relu)");
    net.extend([Activation::Tanh, Activation::Relu]);
    let labels: Vec<String> = (&net).into_iter().map(|block| block.label().unwrap()).collect();
    assert_eq!(labels[2..], ["Activation(tanh)", "Activation(relu)"]);
    assert!(net.named("none").is_none());

    let boxed: Vec<Box<dyn Block<B>>> = vec![Box::new(Dense::new(2)), Box::new(Activation::Relu)];
    let mut outer = Sequential::from(boxed);
    outer.add(net);
    outer.initialize(One, ctx).unwrap();
    assert_eq!(outer.forward(&ones(ctx, &[3, 2])).unwrap().shape(), &[3, 1]);
    assert_eq!(outer.get("2.last.weight").unwrap().shape().unwrap(), [1, 4]);
    let empty: Sequential<B> = Sequential::new();
    assert_eq!(values(&empty.forward(&ones(ctx, &[2])).unwrap()), [1.0, 1.0]);
}

fn containers_compute_what_they_say<B: Backend>(ctx: &B) {
    let x = Tensor::from_slice(ctx, &[1.0f32, -2.0], [1, 2]).unwrap();
    let mut both: Concurrent<B> = Concurrent::new(-1);
    assert!(matches!(both.forward(&x), Err(Error::InvalidArgument { .. })));
    both.add(Identity).add_named("act", Activation::Relu).unwrap();
    both.add(Dense::new(1).use_bias(false));
    both.initialize(One, ctx).unwrap();
    assert_eq!(values(&both.forward(&x).unwrap()), [1.0, -2.0, 1.0, 0.0, -1.0]);
    assert_eq!(both.collect_params().paths(), ["2.weight"]);
    assert!(both.to_string().contains("(act): Activation(relu)"), "{both}");

    let narrow = Residual::new(Dense::new(3));
    narrow.initialize(One, ctx).unwrap();
    assert!(matches!(narrow.forward(&x), Err(Error::ShapeMismatch { .. })));
    let fixed = Residual::new(Dense::new(3).use_bias(false)).shortcut(Dense::new(3).use_bias(false));
    fixed.initialize(One, ctx).unwrap();
    assert_eq!(values(&fixed.forward(&x).unwrap()), [-2.0; 3]);

    let double: Lambda<Tensor<B>, Tensor<B>> = Lambda::new(|x: &Tensor<B>| x * 2.0);
    let fails = Lambda::named("fails", |x: &Tensor<B>| x.reshape([7]));
    let mut net = Sequential::new();
    net.add(double).add(fails);
    assert!(matches!(net.forward(&x), Err(Error::InvalidShape { .. } | Error::ShapeMismatch { .. })));
    assert_eq!(values(&net.slice(..1).forward(&x).unwrap()), [2.0, -4.0]);
}

/// Two inputs, two outputs.
#[derive(Parameters)]
struct Cross<B: Backend> {
    left: Dense<B>,
    right: Dense<B>,
}

type Pair<B> = (Tensor<B>, Tensor<B>);

impl<B: Backend> Block<B, Pair<B>, Pair<B>> for Cross<B> {
    fn forward(&self, (a, b): &Pair<B>) -> Result<Pair<B>> {
        Ok((self.left.forward(b)?, self.right.forward(a)?))
    }
}

/// One input of two, one output, from blocks of tuples behind pointers.
#[derive(Parameters)]
struct Joined<B: Backend> {
    first: Box<dyn Block<B, Pair<B>, Pair<B>>>,
    second: Arc<Cross<B>>,
}

impl<B: Backend> Block<B, Pair<B>> for Joined<B> {
    fn forward(&self, x: &Pair<B>) -> Result<Tensor<B>> {
        let (a, b) = self.second.call(&self.first.call(x)?)?;
        a.add(&b)
    }
}

fn joined<B: Backend>() -> Joined<B> {
    let cross = || Cross { left: Dense::new(2).use_bias(false), right: Dense::new(2).use_bias(false) };
    Joined { first: Box::new(cross()), second: Arc::new(cross()) }
}

fn blocks_take_and_give_several_tensors<B: Backend>(ctx: &B) {
    let net = joined();
    net.initialize(One, ctx).unwrap();
    let paths = ["first.left.weight", "first.right.weight", "second.left.weight", "second.right.weight"];
    assert_eq!(net.collect_params().paths(), paths);
    let x = (ones(ctx, &[1, 3]), ones(ctx, &[1, 5]));
    let y = autograd::record(|| net.forward(&x)).unwrap();
    // 3 · 2 of the first, 5 · 2 of the second.
    assert_eq!(values(&y), [16.0, 16.0]);
    y.backward().unwrap();
    assert_eq!(values(&net.get("first.left.weight").unwrap().grad().unwrap()), [2.0; 10]);

    let table = summary_of(&net, &x).unwrap();
    let row = |path: &str| table.rows.iter().find(|r| r.path == path).unwrap().outputs.clone();
    assert_eq!(row("first"), [[1, 2], [1, 2]]);
    assert_eq!(row(""), [[1, 2]]);
    let seen = Rc::new(RefCell::new((0, 0)));
    let sink = seen.clone();
    let hook = hooks::after(&*net.second, move |call| {
        *sink.borrow_mut() = (call.inputs.len(), call.outputs.len());
        Ok(())
    });
    net.call(&x).unwrap();
    hook.remove();
    assert_eq!(*seen.borrow(), (2, 2));
    assert_eq!(values(&Identity.forward(&x).unwrap().1), [1.0; 5]);
}

#[derive(Parameters)]
struct Scaled<B: Backend> {
    by: Constant<B>,
    layer: Dense<B>,
}

impl<B: Backend> Block<B> for Scaled<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.layer.forward(x)?.mul(&self.by.data_on(x.ctx())?)
    }
}

fn constants_are_kept_but_never_trained<B: Backend>(ctx: &B) {
    let make = |by: f32| Scaled { by: Constant::new("by", &[by; 2], [2]).unwrap(), layer: Dense::new(2).in_units(1) };
    let net = make(3.0);
    let x = ones(ctx, &[1, 1]);
    let error = net.forward(&x).unwrap_err();
    assert!(matches!(&error, Error::Uninitialized { .. }), "{error}");
    net.initialize(One, ctx).unwrap();
    net.unfreeze().unwrap();
    net.collect_params().set_grad_req(GradReq::Add).unwrap();
    assert_eq!((net.by.grad_req(), net.layer.weight().grad_req()), (GradReq::Null, GradReq::Add));
    assert!(net.by.grad().unwrap_err().to_string().contains("not trained"));
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.5).weight_decay(0.1)).unwrap();
    autograd::record(|| net.forward(&x)).unwrap().backward().unwrap();
    trainer.step(1).unwrap();
    assert_eq!(values(&net.by.data().unwrap()), [3.0; 2]);
    assert!(values(&net.layer.weight().data().unwrap())[0] < 0.0);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    net.save_parameters(&file).unwrap();
    let other = make(7.0);
    other.load_parameters(&file, ctx).unwrap();
    assert_eq!(values(&other.by.data().unwrap()), [3.0; 2]);
    // Its own values come back when all begins anew.
    other.force_reinit(Zero, ctx).unwrap();
    assert_eq!(values(&other.by.data().unwrap()), [7.0; 2]);
    other.cast(DType::F64).unwrap();
    assert_eq!(other.by.data().unwrap().dtype(), DType::F64);
    let twice = other.collect_params().reset_ctx(&[ctx.clone(), ctx.clone()]);
    assert!(
        matches!(twice, Err(Error::Parameter { name, why }) if name.ends_with("_by") && why.contains("named twice"))
    );
    other.collect_params().reset_ctx(std::slice::from_ref(ctx)).unwrap();
    assert_eq!((other.by.contexts().len(), other.layer.weight().list_grad().unwrap().len()), (1, 1));
    assert!(Constant::<B>::new("c", &[1.0f32], [2]).is_err());
    assert_eq!(other.by.to_string(), format!("Constant {} (shape=(2,), dtype=float64)", other.by.name()));
}

fn errors_say_where_a_parameter_is<B: Backend>(ctx: &B) {
    let mut inner: Sequential<B> = Sequential::new();
    inner.add(Activation::Relu).add(Dense::new(2));
    let mut net = Sequential::new();
    net.add(Dense::new(3)).add_named("body", inner).unwrap();
    let x = ones(ctx, &[1, 4]);
    net[0].collect_params().initialize(One, ctx).unwrap();
    // Not from a call of its own, but of the whole network.
    let error = net.forward(&x).unwrap_err();
    assert!(matches!(&error, Error::Uninitialized { path: Some(p), .. } if p == "body.1.weight"), "{error}");
    assert!(error.to_string().contains("(at body.1.weight)"), "{error}");
    net.initialize(One, ctx).unwrap();
    net.forward(&x).unwrap();
    let error = net.forward(&ones(ctx, &[1, 5])).unwrap_err();
    assert!(error.to_string().contains("(at 0.weight)"), "{error}");

    /// A layer that forward does not use.
    #[derive(Parameters)]
    struct Forgetful<B: Backend> {
        used: Dense<B>,
        forgotten: Dense<B>,
    }
    impl<B: Backend> Block<B> for Forgetful<B> {
        fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
            self.used.forward(x)
        }
    }
    let net = Forgetful { used: Dense::new(1), forgotten: Dense::new(2) };
    net.initialize(One, ctx).unwrap();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1)).unwrap();
    autograd::record(|| net.forward(&x)).unwrap().backward().unwrap();
    let error = trainer.step(1).unwrap_err();
    assert!(matches!(&error, Error::Uninitialized { path: Some(p), .. } if p == "forgotten.weight"), "{error}");
    assert!(error.to_string().contains("dimension 1 of its shape (2, ?)"), "{error}");
    assert!(error.to_string().contains("does not reach"), "{error}");
    assert_eq!(summary(&net, [1, 4], ctx).unwrap().unknown, ["forgotten.weight"]);
}

fn dictionaries_find_change_and_merge<B: Backend>(ctx: &B) {
    let net: Sequential<B> = [4, 2].map(Dense::new).into_iter().collect();
    let mut all = net.collect_params();
    assert!(matches!(net.collect_params_matching("(").unwrap_err(), Error::InvalidArgument { .. }));
    assert_eq!(net.collect_params_matching(r"\d+\.bias").unwrap().paths(), ["0.bias", "1.bias"]);
    assert_eq!(net.collect_params_matching(r"1\.").unwrap().paths(), ["1.weight", "1.bias"]);
    let named = net.get("1.bias").unwrap().name();
    assert!(net.get(&named).unwrap().is(&all["1.bias"]));
    let error = net.get("1.bais").unwrap_err().to_string();
    assert!(error.contains("the nearest are 1.bias"), "{error}");
    assert!(ParameterDict::<B>::default().find("x").unwrap_err().to_string().contains("no parameters"));
    assert!(matches!(all.numel(), Err(Error::Uninitialized { .. })));
    assert!(net.state_dict().is_err() && all.reset_ctx(std::slice::from_ref(ctx)).is_err());

    assert!(matches!(net.initialize(One, &[ctx.clone(), ctx.clone()]), Err(Error::Parameter { .. })));
    assert!(matches!(net.initialize(One, &[]), Err(Error::Parameter { .. })));
    net.initialize(One, std::slice::from_ref(ctx)).unwrap();
    net.forward(&ones(ctx, &[1, 3])).unwrap();
    assert_eq!(all.numel().unwrap(), 3 * 4 + 4 + 4 * 2 + 2);
    assert_eq!(all["0.weight"].list_data().unwrap().len(), 1);
    assert_eq!(net.named_parameters().len(), 4);
    all.set_lr_mult(0.5);
    all.set_wd_mult(0.25);
    assert!(all.iter().all(|(_, p)| (p.lr_mult(), p.wd_mult()) == (0.5, 0.25)));

    let other: Sequential<B> = [4, 2].map(Dense::new).into_iter().collect();
    other.load_state_dict(net.state_dict().unwrap()).unwrap();
    assert_eq!(values(&other.get("1.weight").unwrap().data().unwrap()), [1.0; 8]);
    let mut state = net.state_dict().unwrap();
    state.pop();
    assert!(other.load_state_dict(state.clone()).unwrap_err().to_string().contains("1.bias: it is missing"));
    state.push(("2.bias".into(), ones(ctx, &[2])));
    assert!(other.load_state_dict(state).unwrap_err().to_string().contains("2.bias: it is in the state"));

    assert!(matches!(all.merge(other.collect_params()), Err(Error::Parameter { name, .. }) if name == "0.weight"));
    all.merge(net.collect_params()).unwrap();
    all.merge(other.collect_params().under("other")).unwrap();
    assert_eq!((all.len(), all.paths()[4]), (8, "other.0.weight"));
    let again: ParameterDict<B> = all.clone().into_iter().filter(|(path, _)| path.ends_with("bias")).collect();
    assert_eq!(again.len(), 4);
    assert!(all.to_string().starts_with("sequential"), "{all}");
}

fn freezing_takes_parameters_out_of_training<B: Backend>(ctx: &B) {
    let mut net: Sequential<B> = Sequential::new();
    net.add(Dense::new(2).in_units(1)).add(BatchNorm::new().in_channels(2)).add(Dense::new(1).in_units(2));
    net.initialize(Uniform::default(), ctx).unwrap();
    let requests =
        |net: &Sequential<B>| -> Vec<GradReq> { net.collect_params().iter().map(|(_, p)| p.grad_req()).collect() };
    let before = requests(&net);
    let held = values(&net.get("0.weight").unwrap().data().unwrap());
    net[0].freeze().unwrap();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(1.0).weight_decay(0.5)).unwrap();
    let x = Tensor::from_slice(ctx, &[1.0f32, 2.0, 5.0], [3, 1]).unwrap();
    autograd::record(|| net.forward(&x)).unwrap().backward().unwrap();
    trainer.step(3).unwrap();
    assert_eq!(values(&net.get("0.weight").unwrap().data().unwrap()), held);
    let error = net.get("0.weight").unwrap().grad().unwrap_err().to_string();
    assert!(error.contains("frozen"), "{error}");
    net.freeze().unwrap();
    assert!(requests(&net).iter().all(|r| *r == GradReq::Null));
    net.unfreeze().unwrap();
    // Running statistics are still not trained.
    assert_eq!(requests(&net), before);
    autograd::record(|| net.forward(&x)).unwrap().backward().unwrap();
    trainer.step(3).unwrap();
    assert_ne!(values(&net.get("0.weight").unwrap().data().unwrap()), held);
}

fn every_layer_shares_its_parameters<B: Backend>(ctx: &B) {
    fn check<B: Backend, T: Block<B> + 'static>(ctx: &B, x: &Tensor<B>, own: T, shared: T) {
        let label = own.label().unwrap();
        let count = own.collect_params().len();
        let mut net = Sequential::new();
        let places: [Arc<dyn Block<B>>; 2] = [Arc::new(own), Arc::new(shared)];
        net.extend(places.clone());
        net.initialize(Uniform { scale: 0.5 }, ctx).unwrap();
        places.iter().for_each(|p| drop(p.forward(x).unwrap()));
        let all = net.collect_params();
        assert_eq!((all.len(), all.unique().len()), (2 * count, count), "{label}");
        assert_eq!(values(&places[0].forward(x).unwrap()), values(&places[1].forward(x).unwrap()), "{label}");
        let trained: Vec<Parameter<B>> =
            all.unique().iter().filter(|(_, p)| p.grad_req() != GradReq::Null).map(|(_, p)| p.clone()).collect();
        let gradients = |f: &dyn Fn() -> Result<Tensor<B>>| -> Vec<Vec<f32>> {
            autograd::record(f).unwrap().backward().unwrap();
            trained.iter().map(|p| values(&p.grad().unwrap())).collect()
        };
        let once = gradients(&|| places[0].forward(x)?.square());
        let twice = gradients(&|| places[0].forward(x)?.square()?.add(&places[1].forward(x)?.square()?));
        for (a, b) in once.iter().flatten().zip(twice.iter().flatten()) {
            assert!((2.0 * a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{label}: {a} and {b}");
        }
    }
    random::seed(3);
    let image = Tensor::normal(ctx, [2, 4, 3, 3], 0.0, 1.0, DType::F32).unwrap();
    let series = Tensor::normal(ctx, [3, 2, 4], 0.0, 1.0, DType::F32).unwrap();
    let dense = Dense::new(3);
    check(ctx, &image, dense.clone(), Dense::new(3).share(&dense));
    let conv = Conv2D::new(2, 2);
    check(ctx, &image, conv.clone(), Conv2D::new(5, 3).share(&conv));
    let conv = Conv2DTranspose::new(2, 2);
    check(ctx, &image, conv.clone(), Conv2DTranspose::new(5, 3).share(&conv));
    let norm = BatchNorm::new();
    check(ctx, &image, norm.clone(), BatchNorm::new().share(&norm));
    let norm = LayerNorm::new();
    check(ctx, &image, norm.clone(), LayerNorm::new().share(&norm));
    let norm = GroupNorm::new(2);
    check(ctx, &image, norm.clone(), GroupNorm::new(1).share(&norm));
    let norm = InstanceNorm::new();
    check(ctx, &image, norm.clone(), InstanceNorm::new().share(&norm));
    let prelu = PReLU::new();
    check(ctx, &image, prelu.clone(), PReLU::new().share(&prelu));
    let table = Embedding::new(5, 2);
    let words = Tensor::from_slice(ctx, &[1i64, 4, 1], [3]).unwrap();
    check(ctx, &words, table.clone(), Embedding::new(9, 9).share(&table));
    let layer = LSTM::new(3).num_layers(2).bidirectional(true);
    check(ctx, &series, layer.clone(), LSTM::new(1).share(&layer));
    let layer = MultiHeadAttention::new(4, 2);
    check(ctx, &series, layer.clone(), MultiHeadAttention::new(2, 1).share(&layer));
    let layer = TransformerEncoderBlock::new(4, 2, 6);
    check(ctx, &series, layer.clone(), TransformerEncoderBlock::new(4, 2, 6).share(&layer));
    let layer = PositionalEmbedding::new(9, 4);
    check(ctx, &series, layer.clone(), PositionalEmbedding::new(2, 3).share(&layer));
    let layer = GRU::new(3);
    check(ctx, &series, layer.clone(), GRU::new(3).share(&layer));
    let layer = RNN::new(3);
    check(ctx, &series, layer.clone(), RNN::new(3).share(&layer));
    macro_rules! cells {
        ($($name:ident)*) => { $(
            let cell: $name<B> = $name::new(3);
            let other = $name::new(7).share(&cell);
            let (a, b) = (cell.collect_params(), other.collect_params());
            assert!(a.iter().zip(b.iter()).all(|((_, p), (_, q))| p.is(q)));
        )* };
    }
    cells!(RNNCell LSTMCell GRUCell);
}

fn sharing_outlives_a_file<B: Backend>(ctx: &B) {
    let make = || {
        let first = Dense::new(2).in_units(2);
        let mut net: Sequential<B> = Sequential::new();
        net.add(first.clone()).add(Dense::new(2).share(&first));
        net
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    let net = make();
    net.initialize(Uniform::default(), ctx).unwrap();
    net.save_parameters(&file).unwrap();
    let loaded = make();
    loaded.load_parameters(&file, ctx).unwrap();
    assert!(loaded.get("0.weight").unwrap().is(&loaded.get("1.weight").unwrap()));
    let mut trainer = Trainer::new(loaded.collect_params(), SGD::new(0.1)).unwrap();
    autograd::record(|| loaded.forward(&ones(ctx, &[1, 2]))).unwrap().backward().unwrap();
    trainer.step(1).unwrap();
    let [a, b] = ["0.weight", "1.weight"].map(|path| values(&loaded.get(path).unwrap().data().unwrap()));
    assert_eq!(a, b);
    assert_ne!(a, values(&net.get("0.weight").unwrap().data().unwrap()));
}

fn hooks_see_every_block_once<B: Backend>(ctx: &B) {
    /// A block of one's own: its parts are seen without its doing.
    #[derive(Parameters)]
    struct Own<B: Backend> {
        dense: Dense<B>,
        act: Activation,
    }
    impl<B: Backend> Block<B> for Own<B> {
        fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
            self.act.forward(&self.dense.forward(x)?)
        }
    }
    let mut net: Sequential<B> = Sequential::new();
    net.add(Own { dense: Dense::new(2), act: Activation::Relu }).add(Dropout::new(0.5)).add(Flatten);
    net.initialize(One, ctx).unwrap();
    let x = ones(ctx, &[1, 3]);
    let log: Rc<RefCell<Vec<String>>> = Rc::default();
    let (before, after) = (log.clone(), log.clone());
    {
        let _before = hooks::before_each(&net, move |call| {
            assert!(call.outputs.is_empty() && call.inputs.len() == 1);
            before.borrow_mut().push(format!(">{}", call.path));
            Ok(())
        });
        let _after = hooks::after_each(&net, move |call| {
            after.borrow_mut().push(format!("<{}", call.path));
            Ok(())
        });
        net.forward(&x).unwrap();
        // Another thread has hooks of its own.
        std::thread::scope(|s| s.spawn(|| net.forward(&x).unwrap()).join()).unwrap();
    }
    net.forward(&x).unwrap();
    let expected = [">", ">0", ">0.dense", "<0.dense", ">0.act", "<0.act", "<0", ">1", "<1", ">2", "<2", "<"];
    assert_eq!(*log.borrow(), expected);

    let stop = hooks::before(&net[1], |_| Err(Error::invalid("hook", "stop here")));
    assert!(net.forward(&x).unwrap_err().to_string().contains("stop here"));
    stop.remove();
    assert!(net.forward(&x).is_ok());
}

fn summaries_change_nothing<B: Backend>(ctx: &B) {
    let mut net: Sequential<B> = Sequential::new();
    net.add(Conv2D::new(2, 3).use_bias(false))
        .add(BatchNorm::new())
        .add(Dropout::new(0.5))
        .add(Flatten)
        .add(Dense::new(6))
        .add(Dense::new(6).in_units(6));
    random::seed(9);
    let table = summary(&net, [2, 1, 4, 4], ctx).unwrap();
    assert_eq!(random::state(), (9, 0));
    assert!(net.collect_params().iter().all(|(_, p)| !p.is_initialized()));
    assert_eq!(net.get("4.weight").unwrap().partial_shape(), [Some(6), None]);
    assert_eq!((table.trainable, table.fixed), (18 + 4 + (8 * 6 + 6) + 42, 4));
    let text = table.to_string();
    for line in ["0     Conv2D      (2, 2, 2, 2)  18", "4     Dense       (2, 6)        54", "trained 118, fixed 4"] {
        assert!(text.contains(line), "{text}");
    }
    net.initialize(One, ctx).unwrap();
    assert_eq!(summary(&net, [2, 1, 4, 4], ctx).unwrap(), table);
    assert_eq!(net.get("4.weight").unwrap().partial_shape(), [Some(6), None]);
    net.forward(&ones(ctx, &[2, 1, 4, 4])).unwrap();
    let before: Vec<Vec<f32>> = net.state_dict().unwrap().iter().map(|(_, t)| values(t)).collect();
    assert_eq!(summary(&net, [2, 1, 4, 4], ctx).unwrap(), table);
    let after: Vec<Vec<f32>> = net.state_dict().unwrap().iter().map(|(_, t)| values(t)).collect();
    assert_eq!(before, after);
    assert!(summary(&net, [2, 3, 4, 4], ctx).is_err());

    // A layer at two places, and one that shares.
    let first = Dense::new(3).in_units(3);
    let twice: Arc<dyn Block<B>> = Arc::new(first.clone());
    let mut net: Sequential<B> = Sequential::new();
    net.add(twice.clone()).add(twice).add(Dense::new(3).share(&first));
    let table = summary(&net, [1, 3], ctx).unwrap();
    assert_eq!((table.trainable, table.rows[1].calls, table.rows[3].shared), (12, 2, 12));
    assert!(table.to_string().contains("12 (shared)") && table.to_string().contains("×2"), "{table}");
}

fn recorded_graphs_are_drawn<B: Backend>(ctx: &B) {
    let mut net: Sequential<B> = Sequential::new();
    net.add(Dense::new(2)).add(Activation::Tanh).add(Residual::new(Dense::new(2)));
    net.initialize(One, ctx).unwrap();
    let y = autograd::record(|| net.forward(&ones(ctx, &[1, 3]))).unwrap();
    let drawn = picture(&y, &net.collect_params()).unwrap();
    let (dot, svg) = (drawn.dot(), drawn.svg());
    for name in ["0.weight", "2.body.bias", "tanh"] {
        assert!(dot.contains(name) && svg.contains(name), "{name}");
    }
    assert_eq!(dot.matches(" -> ").count(), drawn.nodes().iter().map(|n| n.parents.len()).sum::<usize>());
    assert!(matches!(picture(&y.detach(), &net.collect_params()), Err(Error::NotRecorded { .. })));
}

fn modes_and_apply_reach_every_block<B: Backend>(ctx: &B) {
    let mut net: Sequential<B> = Sequential::new();
    net.add(Residual::new(Dense::new(2))).add(Dropout::new(0.5));
    net.initialize(One, ctx).unwrap();
    let mut labels = vec![];
    net.apply(|path, block| {
        if block.label().is_some_and(|l| l.starts_with("Dense")) {
            block.collect_params().set_lr_mult(0.1);
        }
        labels.push(path.to_string());
    });
    assert_eq!(labels, ["0.body", "0", "1", ""]);
    assert_eq!(net.get("0.body.weight").unwrap().lr_mult(), 0.1);
    let x = ones(ctx, &[50, 2]);
    assert_eq!(values(&net.forward(&x).unwrap()), [3.0; 100]);
    assert!(values(&autograd::train_mode(|| net.forward(&x)).unwrap()).contains(&0.0));
    assert_eq!(values(&autograd::record_predict(|| net.forward(&x)).unwrap()), [3.0; 100]);
    net.cast(DType::F64).unwrap();
    assert_eq!(net.forward(&x.cast(DType::F64).unwrap()).unwrap().dtype(), DType::F64);
    assert!(format!("{net:#}").contains("(weight): Parameter (2, 2), float64"), "{net:#}");
}

on_every_backend! {
    sequential_is_edited_and_indexed
    containers_compute_what_they_say
    blocks_take_and_give_several_tensors
    constants_are_kept_but_never_trained
    errors_say_where_a_parameter_is
    dictionaries_find_change_and_merge
    freezing_takes_parameters_out_of_training
    every_layer_shares_its_parameters
    sharing_outlives_a_file
    hooks_see_every_block_once
    summaries_change_nothing
    recorded_graphs_are_drawn
    modes_and_apply_reach_every_block
}
