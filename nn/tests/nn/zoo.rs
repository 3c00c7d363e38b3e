//! The model zoo: published parameter counts, torchvision's names and shapes, and that every network computes.
//!
//! To add a network: a row in `published` with the source of its count.

use isograd_core::{Backend, DType, Error, GradReq, Tensor, autograd, format, operators::random};
use isograd_nn::{
    Block, Parameters,
    initializers::{MSRAPrelu, Normal},
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::SGD,
    *,
};
use isograd_reference::Reference;
use std::collections::BTreeMap;
use zoo::*;

type Net = Box<dyn Parameters<Reference>>;

/// All elements, those of running statistics and of parameters that are not trained too: what Gluon publishes.
fn with_statistics(net: &Net) -> usize {
    net.collect_params().unique().iter().map(|(_, p)| p.shape().unwrap().iter().product::<usize>()).sum()
}

#[test]
fn parameter_counts_are_the_published_ones() {
    const TORCHVISION: &str = "torchvision 0.20 documentation, num_params of the weights";
    let published: Vec<(&str, Net, usize, &str)> = vec![
        ("AlexNet", Box::new(alexnet(1000)), 61_100_840, TORCHVISION),
        ("VGG-11", Box::new(vgg11(1000)), 132_863_336, TORCHVISION),
        ("VGG-11 bn", Box::new(vgg11_bn(1000)), 132_868_840, TORCHVISION),
        ("VGG-13", Box::new(vgg13(1000)), 133_047_848, TORCHVISION),
        ("VGG-13 bn", Box::new(vgg13_bn(1000)), 133_053_736, TORCHVISION),
        ("VGG-16", Box::new(vgg16(1000)), 138_357_544, TORCHVISION),
        ("VGG-16 bn", Box::new(vgg16_bn(1000)), 138_365_992, TORCHVISION),
        ("VGG-19", Box::new(vgg19(1000)), 143_667_240, TORCHVISION),
        ("VGG-19 bn", Box::new(vgg19_bn(1000)), 143_678_248, TORCHVISION),
        ("ResNet-18", Box::new(resnet18(1000)), 11_689_512, TORCHVISION),
        ("ResNet-34", Box::new(resnet34(1000)), 21_797_672, TORCHVISION),
        ("ResNet-50", Box::new(resnet50(1000)), 25_557_032, TORCHVISION),
        ("ResNet-101", Box::new(resnet101(1000)), 44_549_160, TORCHVISION),
        ("ResNet-152", Box::new(resnet152(1000)), 60_192_808, TORCHVISION),
        ("DenseNet-121", Box::new(densenet121(1000)), 7_978_856, TORCHVISION),
        ("DenseNet-161", Box::new(densenet161(1000)), 28_681_000, TORCHVISION),
        ("DenseNet-169", Box::new(densenet169(1000)), 14_149_480, TORCHVISION),
        ("DenseNet-201", Box::new(densenet201(1000)), 20_013_928, TORCHVISION),
        ("GoogLeNet", Box::new(googlenet(1000, false)), 6_624_904, TORCHVISION),
        (
            "GoogLeNet, auxiliaries",
            Box::new(googlenet(1000, true)),
            13_004_888,
            "torchvision 0.20, its definition counted",
        ),
        ("MobileNet v2", Box::new(mobilenet_v2(1000, 1.0)), 3_504_872, TORCHVISION),
        (
            "MobileNet v1",
            Box::new(mobilenet_v1(1000, 1.0)),
            4_231_976,
            "Gluon's 4,253,864 less 21,888 running statistics",
        ),
        ("NiN", Box::new(nin(1000)), 7_595_176, "Caffe's nin_imagenet, its definition counted; the file has 29 MiB"),
        ("GPT-2", Box::new(Gpt::new(GptConfig::gpt2()).unwrap()), 124_439_808, "GPT-2 small, as published, tied"),
    ];
    for (name, net, count, source) in &published {
        assert_eq!(parameter_count(&**net).unwrap(), *count, "{name}: {source}");
        assert!(net.collect_params().iter().all(|(_, p)| !p.is_initialized()), "{name}: counting allocates nothing");
    }
}

#[test]
fn gluons_counts_include_running_statistics() {
    // The table of Gluon's model zoo, MXNet 1.9 documentation.
    let published: Vec<(&str, Net, usize)> = vec![
        ("ResNet-18 v2", Box::new(resnet18_v2(1000)), 11_695_796),
        ("ResNet-34 v2", Box::new(resnet34_v2(1000)), 21_811_380),
        ("ResNet-50 v2", Box::new(resnet50_v2(1000)), 25_595_060),
        ("ResNet-101 v2", Box::new(resnet101_v2(1000)), 44_639_412),
        ("ResNet-152 v2", Box::new(resnet152_v2(1000)), 60_329_140),
        ("MobileNet 1.0", Box::new(mobilenet_v1(1000, 1.0)), 4_253_864),
        ("MobileNet 0.75", Box::new(mobilenet_v1(1000, 0.75)), 2_601_976),
        ("MobileNet 0.5", Box::new(mobilenet_v1(1000, 0.5)), 1_342_536),
        ("MobileNet 0.25", Box::new(mobilenet_v1(1000, 0.25)), 475_544),
    ];
    for (name, net, count) in &published {
        assert_eq!(with_statistics(net), *count, "{name}");
    }
}

#[test]
fn counts_that_papers_round() {
    // Zaremba et al., arXiv:1409.2329, and those who repeated it: 19.8 and 66.0 million.
    let millions = |net: &dyn Parameters<Reference>| (parameter_count(net).unwrap() as f64 / 1e5).round() / 10.0;
    let medium = LstmLanguageModel::new(LstmLanguageModelConfig::medium(10_000)).unwrap();
    let large = LstmLanguageModel::new(LstmLanguageModelConfig::large(10_000)).unwrap();
    assert_eq!((millions(&medium), millions(&large)), (19.8, 66.0));
    // Sandler et al., arXiv:1801.04381, width 1.4: 6.9 million with ImageNet's 1001 classes and 1792 features.
    assert_eq!(millions(&mobilenet_v2(1000, 1.4)), 6.1);
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let nets: [(&str, &str, Net); 8] = [
        ("alexnet", include_str!("../torchvision/alexnet.txt"), Box::new(alexnet(1000))),
        ("vgg11", include_str!("../torchvision/vgg11.txt"), Box::new(vgg11(1000))),
        ("vgg16_bn", include_str!("../torchvision/vgg16_bn.txt"), Box::new(vgg16_bn(1000))),
        ("resnet18", include_str!("../torchvision/resnet18.txt"), Box::new(resnet18(1000))),
        ("resnet50", include_str!("../torchvision/resnet50.txt"), Box::new(resnet50(1000))),
        ("densenet121", include_str!("../torchvision/densenet121.txt"), Box::new(densenet121(1000))),
        ("mobilenet_v2", include_str!("../torchvision/mobilenet_v2.txt"), Box::new(mobilenet_v2(1000, 1.0))),
        ("googlenet", include_str!("../torchvision/googlenet.txt"), Box::new(googlenet(1000, true))),
    ];
    for (name, theirs, net) in &nets {
        let theirs: BTreeMap<String, String> = theirs
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .map(|(name, shape)| (name.to_string(), shape.to_string()))
            .collect();
        let shape =
            |p: &Parameter<Reference>| p.shape().unwrap().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let ours: BTreeMap<String, String> =
            net.collect_params().iter().map(|(path, p)| (torch_name(path), shape(p))).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn tied_vectors_are_one_parameter() {
    let config = LstmLanguageModelConfig { tied: true, ..LstmLanguageModelConfig::medium(100) };
    let net: LstmLanguageModel<Reference> = LstmLanguageModel::new(config).unwrap();
    let parameters = net.collect_params();
    assert!(parameters.get("encoder.weight").unwrap().is(parameters.get("decoder.weight").unwrap()));
    let names: Vec<String> = parameters.paths().into_iter().map(torch_name).collect();
    let expected = ["encoder.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"];
    assert_eq!(names[..5], expected);

    let wrong = LstmLanguageModelConfig { embedding: 7, ..config };
    assert!(matches!(LstmLanguageModel::<Reference>::new(wrong), Err(Error::InvalidArgument { .. })));
    let wrong = GptConfig { heads: 5, ..GptConfig::small(10, 10) };
    assert!(matches!(Gpt::<Reference>::new(wrong), Err(Error::InvalidArgument { .. })));
}

/// Every block of every network runs in sight: none is copied before it runs, or run without being announced.
#[test]
fn every_block_is_announced() {
    let ctx = Reference;
    let pictures = |size: usize| Tensor::zeros(&ctx, [1, 3, size, size], DType::F32).unwrap();
    let words = |shape: [usize; 2]| Tensor::zeros(&ctx, shape, DType::I64).unwrap();
    let config =
        |version, bottleneck| ResNetConfig { version, bottleneck, blocks: vec![1, 2], width: 4, small_images: false };
    let dense = DenseNetConfig { growth: 2, blocks: vec![1, 2], width: 4 };
    let gpt = GptConfig { units: 8, heads: 2, layers: 2, ..GptConfig::small(4, 8) };
    let lstm = LstmLanguageModelConfig { embedding: 4, hidden: 4, ..LstmLanguageModelConfig::medium(6) };
    type Row = (&'static str, Box<dyn Block<Reference>>, Tensor<Reference>);
    let networks: Vec<Row> = vec![
        ("ResNet", Box::new(ResNet::new(&config(ResNetVersion::V1, false), 3)), pictures(16)),
        ("ResNet v2", Box::new(ResNet::new(&config(ResNetVersion::V2, true), 3)), pictures(16)),
        ("DenseNet", Box::new(DenseNet::new(&dense, 3)), pictures(16)),
        ("GoogLeNet", Box::new(googlenet(3, false)), pictures(31)),
        ("MobileNet v1", Box::new(mobilenet_v1(3, 0.1)), pictures(32)),
        ("MobileNet v2", Box::new(mobilenet_v2(3, 0.1)), pictures(32)),
        ("book's ResNet", Box::new(book::resnet18(3)), pictures(32)),
        ("book's GoogLeNet", Box::new(book::googlenet(3)), pictures(32)),
        ("book's DenseNet", Box::new(book::densenet(3)), pictures(32)),
        ("GPT", Box::new(Gpt::new(gpt).unwrap()), words([1, 4])),
        ("LSTM", Box::new(LstmLanguageModel::new(lstm).unwrap()), words([4, 1])),
        (
            "Transformer",
            Box::new(TransformerEncoderBlock::new(4, 2, 8)),
            Tensor::zeros(&ctx, [1, 3, 4], DType::F32).unwrap(),
        ),
    ];
    for (name, net, x) in &networks {
        let table = summary_of(&**net, x).unwrap();
        let missed: Vec<&str> = table.rows.iter().filter(|row| row.calls == 0).map(|row| row.path.as_str()).collect();
        assert!(missed.is_empty(), "{name}: {missed:?} ran out of sight");
        assert!(table.unknown.is_empty(), "{name}");
        // The network itself is announced by `forward` as well.
        net.collect_params().initialize(initializers::Zero, &ctx).unwrap();
        let calls = std::rc::Rc::new(std::cell::Cell::new(0));
        let counter = calls.clone();
        let hook = hooks::after(&**net, move |_| {
            counter.set(counter.get() + 1);
            Ok(())
        });
        net.forward(x).unwrap();
        drop(hook);
        assert_eq!(calls.get(), 1, "{name}");
    }
    // With the classifiers on the way, those too; without being asked for, they do not run.
    let net = googlenet::<Reference>(3, true);
    let idle: Vec<String> =
        summary_of(&net, &pictures(31)).unwrap().rows.into_iter().filter(|r| r.calls == 0).map(|r| r.path).collect();
    assert!(!idle.is_empty() && idle.iter().all(|path| path.starts_with("aux")), "{idle:?}");
}

/// Recurrent layers, cells and attention announce themselves also where states or masks are given.
#[test]
fn calls_with_states_and_masks_are_announced() {
    let ctx = Reference;
    let x = Tensor::ones(&ctx, [2, 3, 4], DType::F32).unwrap();
    let count = |block: &dyn Parameters<Reference>, run: &dyn Fn()| {
        block.collect_params().initialize(initializers::One, &ctx).unwrap();
        let calls = std::rc::Rc::new(std::cell::RefCell::new(vec![]));
        let list = calls.clone();
        let _hook = hooks::after(block, move |call| {
            list.borrow_mut().push((call.inputs.len(), call.outputs.len()));
            Ok(())
        });
        run();
        calls.take()
    };
    let lstm = LSTM::new(2);
    let states = lstm.begin_state(&ctx, 3).unwrap();
    assert_eq!(count(&lstm, &|| drop(lstm.forward_with(&x, &states).unwrap())), [(2 + 1, 1 + 2)]);
    let cell = GRUCell::new(2);
    let (one, state) = (x.select(0, 0).unwrap(), cell.begin_state(&ctx, 3).unwrap());
    assert_eq!(count(&cell, &|| drop(cell.step(&one, &state).unwrap())), [(2, 1)]);
    let attention = MultiHeadAttention::new(4, 2);
    let mask = AttentionMask::new().causal();
    assert_eq!(count(&attention, &|| drop(attention.attend(&x, &x, &x, &mask).unwrap())), [(3, 2)]);
    let plain = DotProductAttention::default();
    assert_eq!(count(&plain, &|| drop(plain.attend(&x, &x, &x, &mask).unwrap())), [(3, 2)]);
    let block = TransformerEncoderBlock::new(4, 2, 8);
    assert_eq!(count(&block, &|| drop(block.forward_masked(&x, &mask).unwrap())), [(1, 1)]);
}

#[test]
fn names_are_those_of_pytorchs_modules() {
    let names = |block: &dyn Parameters<Reference>| -> Vec<String> {
        block.collect_params().paths().into_iter().map(torch_name).collect()
    };
    assert_eq!(names(&PReLU::new()), ["weight"]);
    let cell = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
    assert_eq!(names(&LSTMCell::new(2)), cell);
    assert_eq!(names(&GRUCell::new(2)), cell);
    assert_eq!(names(&RNNCell::new(2)), cell);
    let lstm = names(&LSTM::new(2).bidirectional(true));
    assert_eq!(lstm[3..5], ["bias_hh_l0", "weight_ih_l0_reverse"]);
    let attention = names(&MultiHeadAttention::new(4, 2).torch_defaults());
    let (weight, bias) = ("in_proj_weight", "in_proj_bias");
    assert_eq!(attention, [weight, bias, weight, bias, weight, bias, "out_proj.weight", "out_proj.bias"]);
    // torch.nn.TransformerEncoderLayer(4, 2, 8).state_dict()
    let mut layer = names(&TransformerEncoderBlock::new(4, 2, 8));
    layer.dedup();
    layer.sort();
    layer.dedup();
    let mut expected: Vec<String> = ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2", "norm1", "norm2"]
        .iter()
        .flat_map(|name| {
            ["weight", "bias"]
                .map(|kind| if name.ends_with("in_proj") { format!("{name}_{kind}") } else { format!("{name}.{kind}") })
        })
        .collect();
    expected.sort();
    assert_eq!(layer, expected);
    assert_eq!(torch_name("encoder.layers.0.self_attn.q_proj.weight"), "encoder.layers.0.self_attn.in_proj_weight");
}

on_every_backend! { packed_projections_of_pytorch_load weights_of_pytorch_load residual_networks_train language_models_learn_what_comes_next attention_does_not_see_the_future }

/// A file with PyTorch's names, as its `state_dict` has them, gives the same outputs.
fn weights_of_pytorch_load<B: Backend>(ctx: &B) {
    random::seed(11);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exported.safetensors");
    let make = || mobilenet_v2::<B>(4, 0.35);
    let (theirs, ours) = (make(), make());
    theirs.initialize(MSRAPrelu::he(), ctx).unwrap();
    let x = Tensor::normal(ctx, [2, 3, 32, 32], 0.0, 1.0, DType::F32).unwrap();
    // Running statistics other than those of the beginning.
    autograd::train_mode(|| theirs.forward(&x)).unwrap();

    let mut exported: Vec<(String, Tensor<B>)> = vec![];
    for (path, parameter) in theirs.collect_params().iter() {
        let name = torch_name(path);
        if let Some(layer) = name.strip_suffix("running_var") {
            let steps = Tensor::from_slice(ctx, &[1i64], []).unwrap();
            exported.push((format!("{layer}num_batches_tracked"), steps));
        }
        exported.push((name, parameter.data().unwrap().detach()));
    }
    let named: Vec<(&str, &Tensor<B>)> = exported.iter().map(|(name, t)| (name.as_str(), t)).collect();
    format::save_named(&path, &named).unwrap();

    ours.load_parameters_with(&path, ctx, torch_options()).unwrap();
    let output = |net: &MobileNetV2<B>| net.forward(&x).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(output(&ours), output(&theirs));

    let first = named.iter().position(|(name, _)| *name == "features.0.1.running_mean").unwrap();
    format::save_named(&path, &[&named[..first], &named[first + 1..]].concat()).unwrap();
    let error = make().load_parameters_with(&path, ctx, torch_options()).unwrap_err().to_string();
    assert!(error.contains("features.0.1.running_mean"), "{error}");
}

/// PyTorch keeps the three projections in one array, rows of queries first.
fn packed_projections_of_pytorch_load<B: Backend>(ctx: &B) {
    random::seed(12);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exported.safetensors");
    let theirs = TransformerEncoderBlock::new(4, 2, 8);
    theirs.initialize(Normal { sigma: 0.5 }, ctx).unwrap();
    let all = theirs.collect_params();
    let of = |path: &str| all.get(path).unwrap().data().unwrap().detach();
    let mut exported: Vec<(String, Tensor<B>)> = vec![];
    for kind in ["weight", "bias"] {
        let parts = ["q", "k", "v"].map(|p| of(&format!("self_attn.{p}_proj.{kind}")));
        exported.push((format!("self_attn.in_proj_{kind}"), Tensor::concat(&parts.each_ref(), 0).unwrap()));
    }
    for (path, parameter) in all.iter().filter(|(path, _)| !["q_", "k_", "v_"].iter().any(|p| path.contains(p))) {
        exported.push((torch_name(path), parameter.data().unwrap().detach()));
    }
    let save = |arrays: &[(String, Tensor<B>)]| {
        let named: Vec<(&str, &Tensor<B>)> = arrays.iter().map(|(name, t)| (name.as_str(), t)).collect();
        format::save_named(&path, &named).unwrap();
    };
    save(&exported);
    let x = Tensor::normal(ctx, [2, 3, 4], 0.0, 1.0, DType::F32).unwrap();
    let ours = TransformerEncoderBlock::new(4, 2, 8);
    ours.load_parameters_with(&path, ctx, torch_options()).unwrap();
    let output = |net: &TransformerEncoderBlock<B>| net.forward(&x).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(output(&ours), output(&theirs));
    // Sizes that wait for the first batch.
    let attention = MultiHeadAttention::new(4, 2).use_bias(true);
    let nested = LoadOptions { ignore_extra: true, ..LoadOptions::default() };
    attention.load_parameters_with(&path, ctx, nested.names(|p| Some(format!("self_attn.{}", torch_name(p))))).unwrap();
    let mask = AttentionMask::new();
    let expected = theirs_attention(&theirs, ctx).attend(&x, &x, &x, &mask).unwrap().0.to_vec::<f32>().unwrap();
    assert_eq!(attention.attend(&x, &x, &x, &mask).unwrap().0.to_vec::<f32>().unwrap(), expected);

    // An array of another length fits none of them.
    exported[0].1 = exported[0].1.narrow(0, 0, 8).unwrap();
    save(&exported);
    let error = TransformerEncoderBlock::new(4, 2, 8).load_parameters_with(&path, ctx, torch_options()).unwrap_err();
    assert!(error.to_string().contains("q_proj.weight"), "{error}");
}

/// The attention in a block, with the same values.
fn theirs_attention<B: Backend>(block: &TransformerEncoderBlock<B>, ctx: &B) -> MultiHeadAttention<B> {
    let attention = MultiHeadAttention::new(4, 2).use_bias(true).in_units(4, 4, 4);
    attention.initialize(initializers::Zero, ctx).unwrap();
    for (path, parameter) in attention.collect_params().iter() {
        parameter.set_data(&block.collect_params().get(&format!("self_attn.{path}")).unwrap().data().unwrap()).unwrap();
    }
    attention
}

/// A few steps on one batch: the loss must fall.
fn falls<B: Backend>(net: &impl Block<B>, x: &Tensor<B>, y: &Tensor<B>, rate: f64, steps: usize) -> (f64, f64) {
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(rate).momentum(0.9)).unwrap();
    let mut losses = vec![];
    for _ in 0..steps {
        let run = || SoftmaxCrossEntropyLoss::default().loss(&net.forward(x)?, y)?.mean((), false);
        let loss = autograd::record(run).unwrap();
        loss.backward().unwrap();
        trainer.step(1).unwrap();
        losses.push(loss.asscalar::<f64>().unwrap());
    }
    (losses[0], losses[steps - 1])
}

fn residual_networks_train<B: Backend>(ctx: &B) {
    random::seed(3);
    let x = Tensor::normal(ctx, [4, 1, 8, 8], 0.0, 1.0, DType::F32).unwrap();
    let y = Tensor::from_slice(ctx, &[0i64, 1, 2, 0], [4]).unwrap();
    for version in [ResNetVersion::V1, ResNetVersion::V2] {
        for bottleneck in [false, true] {
            let config = ResNetConfig { version, bottleneck, blocks: vec![1, 1], width: 4, small_images: true };
            let net = ResNet::new(&config, Options::new(3).in_channels(1));
            net.initialize(MSRAPrelu::he(), ctx).unwrap();
            let (first, last) = falls(&net, &x, &y, 0.05, 12);
            assert!(first.is_finite() && last < 0.7 * first, "{config:?}: {first} to {last}");
            let trained = net.collect_params().iter().filter(|(_, p)| p.grad_req() != GradReq::Null).count();
            assert!(trained > 0);
        }
    }
}

fn language_models_learn_what_comes_next<B: Backend>(ctx: &B) {
    random::seed(5);
    let words = Tensor::from_slice(ctx, &[0i64, 1, 2, 3, 0, 1, 2, 3], [1, 8]).unwrap();
    let next = Tensor::from_slice(ctx, &[1i64, 2, 3, 0, 1, 2, 3, 0], [1, 8]).unwrap();
    let net = Gpt::new(GptConfig { units: 8, heads: 2, layers: 1, tied: false, ..GptConfig::small(4, 8) }).unwrap();
    net.initialize(Normal { sigma: 0.2 }, ctx).unwrap();
    let (first, last) = falls(&net, &words, &next, 0.1, 25);
    assert!(last < 0.5 * first, "GPT: {first} to {last}");

    let config =
        LstmLanguageModelConfig { vocabulary: 4, embedding: 8, hidden: 8, layers: 1, dropout: 0.0, tied: true };
    let net = LstmLanguageModel::new(config).unwrap();
    net.initialize(Normal { sigma: 0.5 }, ctx).unwrap();
    let turn = |t: &Tensor<B>| t.reshape([8, 1]).unwrap();
    let (first, last) = falls(&net, &turn(&words), &turn(&next), 0.3, 25);
    assert!(last < 0.5 * first, "LSTM: {first} to {last}");
}

fn attention_does_not_see_the_future<B: Backend>(ctx: &B) {
    random::seed(8);
    let net = Gpt::new(GptConfig { units: 8, heads: 2, layers: 2, ..GptConfig::small(10, 6) }).unwrap();
    net.initialize(Normal { sigma: 0.3 }, ctx).unwrap();
    let scores = |words: &[i64]| {
        let words = Tensor::from_slice(ctx, words, [1, words.len()]).unwrap();
        net.forward(&words).unwrap().to_vec::<f32>().unwrap()
    };
    let (a, b) = (scores(&[1, 2, 3, 4, 5]), scores(&[1, 2, 3, 9, 0]));
    assert_eq!(a[..30], b[..30], "the first three positions see nothing of what differs");
    assert_ne!(a[30..40], b[30..40]);
    let too_long = Tensor::from_slice(ctx, &[0i64; 7], [1, 7]).unwrap();
    assert!(net.forward(&too_long).unwrap_err().to_string().contains("6 positions"));
}
