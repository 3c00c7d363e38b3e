//! Names, printing and errors as in MXNet 1.9.1: every entry of three groups of `golden/behaviours.json` is reproduced here
//! or listed with the reason why it does not apply.

use isograd_core::{DType, Dyn, Error, GradReq, Result, Tensor};
use isograd_nn::{
    Activation, AvgPool2D, BatchNorm, Block, Conv1D, Conv2D, Dense, Dropout, ELU, Embedding, Flatten, GELU, GRU,
    GlobalAvgPool2D, GlobalMaxPool2D, GroupNorm, InstanceNorm, LSTM, Lambda, LayerNorm, LeakyReLU, MaxPool2D, PReLU,
    Parameter, Parameters, RNN, SELU, Sequential, Swish, describe,
    initializers::{Constant, One, Uniform},
    naming::{self, NameScope},
};
use isograd_reference::Reference;
use serde_json::Value;
use std::collections::BTreeSet;

type Net = Sequential<Reference>;

/// Entries whose own entries are gone through one by one.
const COMPOSITE: [&str; 5] = ["other layers", "Parameter", "wrong shapes given to layers", "layers", "indexing"];

/// What has no counterpart, and why.
const NOT_HERE: [(&str, &str); 5] = [
    ("repr/layers/convT", "MXNet prints the two numbers of channels in the wrong order, and 0 for an unknown one"),
    ("repr/layers/l2", "losses are plain values here, printed with their fields by Debug"),
    ("repr/layers/loss", "losses are plain values here, printed with their fields by Debug"),
    ("deferred_init_and_parameters/Parameter/bad init name", "initializers are values; a wrong one does not compile"),
    ("deferred_init_and_parameters/Parameter/set grad_req bad", "GradReq is an enum; a wrong one does not compile"),
];

type Check = fn(&Value);
type Prefix = fn() -> String;

/// Each runs on a thread of its own, so that counting begins at 0.
const REPRODUCED: &[(&str, Check)] = &[
    ("naming/Dense with activation", |expected| {
        let layer: Dense<Reference> = Dense::new(3).activation(Activation::Relu);
        // An activation is no block of its own here, so it takes no prefix.
        assert_eq!(layer.collect_params().names(), strings(&expected["names"]));
    }),
    ("naming/Sequential().add(Dense,Dense) without name_scope", |expected| {
        let net: Net = [2, 2].map(Dense::new).into_iter().collect();
        named(&net, expected);
    }),
    ("naming/class Residual(nn.Block) whose children are made without name_scope", |expected| {
        let net = Residual::new();
        assert_eq!(net.collect_params().paths(), strings(&expected["structural"]));
        named(&net, expected);
    }),
    ("naming/collect_params(select) on the named-scope net (re.match, anchored at the start only)", |expected| {
        let net = scoped();
        for (pattern, names) in expected.as_object().unwrap() {
            assert_eq!(net.collect_params_matching(pattern).unwrap().names(), strings(names), "{pattern}");
        }
    }),
    ("naming/explicit prefix model_ and out_ in name_scope", |expected| {
        let mut net = Net::with_prefix("model_");
        net.name_scope(|net| {
            net.add(Dense::new(2)).add(naming::named("out_", || Dense::new(2)));
        });
        named(&net, expected);
        assert_eq!(net.prefix().trim_end_matches('_'), expected["name"]);
    }),
    ("naming/nested Sequential with name_scope at each level", |expected| {
        let mut net = Net::new();
        net.name_scope(|net| {
            for _ in 0..2 {
                let mut inner = Sequential::new();
                inner.name_scope(|inner| {
                    inner.add(Dense::new(2)).add(Conv2D::new(2, 3)).add(BatchNorm::new());
                });
                net.add(inner);
            }
            net.add(Dense::new(2));
        });
        named(&net, expected);
        child_prefixes(&net, expected);
    }),
    ("naming/nested Sequential without name_scope", |expected| {
        let mut net = Net::new();
        for _ in 0..2 {
            net.add([2, 2].map(Dense::new).into_iter().collect::<Net>());
        }
        net.add(Dense::new(2));
        named(&net, expected);
        child_prefixes(&net, expected);
    }),
    ("naming/other layers/batchnorm", |expected| names(&BatchNorm::new(), expected)),
    ("naming/other layers/bn_nocenter", |expected| {
        let _first: BatchNorm<Reference> = BatchNorm::new();
        names(&BatchNorm::new().center(false), expected);
    }),
    ("naming/other layers/bn grad_req", |expected| gradients(2, BatchNorm::new, expected)),
    ("naming/other layers/bn(center=False,scale=False) grad_req", |expected| {
        gradients(3, || BatchNorm::new().center(false).scale(false), expected);
    }),
    ("naming/other layers/conv_nobias", |expected| names(&Conv2D::new(2, 3).use_bias(false), expected)),
    ("naming/other layers/embedding", |expected| names(&Embedding::new(3, 2), expected)),
    ("naming/other layers/instancenorm", |expected| names(&InstanceNorm::new(), expected)),
    ("naming/other layers/layernorm", |expected| names(&LayerNorm::new(), expected)),
    ("naming/other layers/prelu", |expected| names(&PReLU::new(), expected)),
    ("naming/prefixes of a fresh process, in this order of creation", |expected| {
        for prefix in strings(expected) {
            let kind = prefix.trim_end_matches('_').trim_end_matches(|c: char| c.is_ascii_digit());
            let blocks: [(&str, Prefix); 12] = [
                ("sequential", || Net::new().prefix()),
                ("dense", || own_prefix(&Dense::new(1))),
                ("conv", || own_prefix(&Conv2D::new(1, 1))),
                ("batchnorm", || own_prefix(&BatchNorm::new())),
                ("layernorm", || own_prefix(&LayerNorm::new())),
                ("embedding", || own_prefix(&Embedding::new(1, 1))),
                ("prelu", || own_prefix(&PReLU::new())),
                ("lstm", || own_prefix(&LSTM::new(1))),
                ("gru", || own_prefix(&GRU::new(1))),
                ("rnn", || own_prefix(&RNN::new(1))),
                ("instancenorm", || own_prefix(&InstanceNorm::new())),
                ("groupnorm", || own_prefix(&GroupNorm::new(1))),
            ];
            // What has no parameters has no names either; the count is the same for every kind.
            let made = blocks.iter().find(|(k, _)| *k == kind).map_or_else(|| naming::prefix(kind), |(_, make)| make());
            assert_eq!(made, prefix);
        }
    }),
    ("naming/recurrent layers", |expected| {
        names(&GRU::new(3), &expected["gru"]);
        names(&LSTM::new(3).num_layers(2).bidirectional(true), &expected["lstm"]);
        names(&RNN::new(3), &expected["rnn"]);
    }),
    ("naming/shared_net: third layer takes params of the second", |expected| {
        names(&shared(), expected);
    }),
    ("naming/with name_scope: Dense,Dense,Conv2D,BatchNorm", |expected| named(&scoped(), expected)),
    ("repr/cnn_bn (before first forward)", |expected| {
        let mut net = Net::new();
        net.add(Conv2D::new(8, 3).padding(1).use_bias(false))
            .add(BatchNorm::new())
            .add(Activation::Relu)
            .add(MaxPool2D::new(2))
            .add(Conv2D::new(12, 3).strides(2))
            .add(BatchNorm::new().scale(false))
            .add(Activation::Relu)
            .add(GlobalAvgPool2D::new())
            .add(Flatten)
            .add(Dense::new(16))
            .add(BatchNorm::new())
            .add(Dense::new(5));
        prints(&net, expected);
    }),
    ("repr/lenet_avg (before first forward)", |expected| {
        let sigmoid = Activation::Sigmoid;
        let mut net = Net::new();
        net.add(Conv2D::new(6, 5).padding(2).activation(sigmoid))
            .add(AvgPool2D::new(2))
            .add(Conv2D::new(16, 5).activation(sigmoid))
            .add(AvgPool2D::new(2))
            .add(Dense::new(120).activation(sigmoid))
            .add(Dense::new(84).activation(sigmoid))
            .add(Dense::new(10));
        prints(&net, expected);
    }),
    ("repr/mlp (before first forward)", |expected| {
        let mut net = Net::new();
        net.add(Dense::new(256).in_units(784).activation(Activation::Relu)).add(Dense::new(10).in_units(256));
        prints(&net, expected);
    }),
    ("repr/nested", |expected| {
        let mut inner = Net::new();
        inner.add(Dense::new(3).activation(Activation::Relu)).add(Dropout::new(0.5));
        let mut net = Net::new();
        net.add(inner).add(Dense::new(2));
        prints(&net, expected);
    }),
    ("repr/residual (before first forward)", |expected| {
        assert_eq!(describe(&Residual::new()), expected.as_str().unwrap());
    }),
    ("repr/shared (before first forward)", |expected| prints(&shared(), expected)),
    ("repr/indexing/len", |expected| assert_eq!(three().len() as u64, expected.as_u64().unwrap())),
    ("repr/indexing/net[-1]", |expected| shows(three().at(-1).unwrap(), expected)),
    ("repr/indexing/net[1:]", |expected| prints(&three().slice(1..), expected)),
    ("repr/indexing/net[9]", |expected| {
        let error = three().at(9).map(drop);
        raises(error, expected, |e| matches!(e, Error::InvalidArgument { .. }));
    }),
    ("repr/indexing/prefix of net[1:]", |expected| assert_eq!(three().slice(1..).prefix(), *expected)),
    ("repr/layers/act", |expected| shows(&Activation::Relu, expected)),
    ("repr/layers/avgpool", |expected| shows(&AvgPool2D::default(), expected)),
    ("repr/layers/bn", |expected| shows(&BatchNorm::new(), expected)),
    ("repr/layers/bn_in", |expected| shows(&BatchNorm::new().in_channels(3), expected)),
    ("repr/layers/conv", |expected| {
        let conv = Conv2D::new(4, [3, 5]).strides(2).padding([1, 2]).dilation(2).groups(2).in_channels(2);
        shows(&conv, expected);
    }),
    ("repr/layers/conv1d", |expected| shows(&Conv1D::new(4, 3), expected)),
    ("repr/layers/conv_nobias", |expected| shows(&Conv2D::new(4, 3).use_bias(false), expected)),
    ("repr/layers/dense", |expected| shows(&Dense::new(3), expected)),
    ("repr/layers/dense_in", |expected| shows(&Dense::new(3).in_units(4).activation(Activation::Tanh), expected)),
    ("repr/layers/dropout", |expected| shows(&Dropout::new(0.3), expected)),
    ("repr/layers/elu", |expected| shows(&ELU::new(1.0), expected)),
    ("repr/layers/emb", |expected| shows(&Embedding::new(10, 4), expected)),
    ("repr/layers/empty", |expected| prints(&Net::new(), expected)),
    ("repr/layers/flatten", |expected| shows(&Flatten, expected)),
    ("repr/layers/gap", |expected| shows(&GlobalAvgPool2D::new(), expected)),
    ("repr/layers/gelu", |expected| shows(&GELU, expected)),
    ("repr/layers/gmp", |expected| shows(&GlobalMaxPool2D::new(), expected)),
    ("repr/layers/gru", |expected| shows(&GRU::new(3).input_size(5), expected)),
    ("repr/layers/hlam", |expected| {
        // There is one kind of lambda here.
        let lambda = Lambda::new(|x: &Tensor<Reference>| x.tanh());
        assert_eq!(lambda.to_string(), expected.as_str().unwrap().trim_start_matches("Hybrid"));
    }),
    ("repr/layers/lam", |expected| shows(&Lambda::named("tanh", |x: &Tensor<Reference>| x.tanh()), expected)),
    ("repr/layers/leaky", |expected| shows(&LeakyReLU::new(0.1), expected)),
    ("repr/layers/ln", |expected| shows(&LayerNorm::new(), expected)),
    ("repr/layers/lstm", |expected| {
        shows(&LSTM::new(3).num_layers(2).dropout(0.2).bidirectional(true), expected);
    }),
    ("repr/layers/maxpool", |expected| {
        shows(&MaxPool2D::new([2, 3]).padding([1, 2]).ceil_mode(true), expected);
    }),
    ("repr/layers/prelu", |expected| shows(&PReLU::new(), expected)),
    ("repr/layers/rnn", |expected| shows(&RNN::new(3), expected)),
    ("repr/layers/selu", |expected| shows(&SELU, expected)),
    ("repr/layers/swish", |expected| shows(&Swish::new(1.0), expected)),
    ("deferred_init_and_parameters/Parameter/change known shape", |expected| {
        let p = ready("w", &[2, 3]);
        let error = p.bind(&Reference, &[5, 3]).map(drop);
        raises(error, expected, |e| matches!(e, Error::Parameter { .. }));
    }),
    ("deferred_init_and_parameters/Parameter/deferred not allowed", |expected| {
        // Any parameter may wait for its shape; asking for its values says which dimension is missing.
        let p: Parameter<Reference> = Parameter::new("w2", &[None, Some(3)]);
        p.initialize(One, &Reference).unwrap();
        raises(p.data().map(drop), expected, |e| e.to_string().contains("w2: dimension 0 of its shape (?, 3)"));
    }),
    ("deferred_init_and_parameters/Parameter/grad_req null grad()", |expected| {
        let p = ready("n", &[2]);
        p.set_grad_req(GradReq::Null).unwrap();
        raises(p.grad().map(drop), expected, |e| matches!(e, Error::Parameter { name, .. } if name == "n"));
    }),
    ("deferred_init_and_parameters/Parameter/list_data", |expected| {
        assert_eq!(ready("w", &[2, 3]).list_data().unwrap().len() as u64, expected.as_u64().unwrap());
    }),
    ("deferred_init_and_parameters/Parameter/repr", |expected| {
        let expected = expected.as_str().unwrap().replace("<class 'numpy.float32'>", "float32");
        assert_eq!(ready("w", &[2, 3]).to_string(), expected);
    }),
    ("deferred_init_and_parameters/Parameter/set_data other shape", |expected| {
        let error = ready("w", &[2, 3]).set_data(&ones(&[3, 2], DType::F32));
        raises(error, expected, |e| matches!(e, Error::Parameter { .. }));
    }),
    ("deferred_init_and_parameters/Parameter/wrong context", |expected| {
        let (here, there) = (Dyn::new(Reference), Dyn::new(isograd_cpu::Cpu::default()));
        let p: Parameter = Parameter::new("w", &[Some(2)]);
        p.initialize(One, &here).unwrap();
        let text = |e: &Error| e.to_string().contains("not on cpu, only on reference");
        raises(p.data_on(&there).map(drop), expected, |e| matches!(e, Error::Parameter { .. }) && text(e));
    }),
    ("deferred_init_and_parameters/data() before initialize", |expected| {
        let net = two();
        let weight = net.get("0.weight").unwrap();
        raises(weight.data().map(drop), expected, |e| uninitialized(e, "dense0_weight", "0.weight"));
    }),
    ("deferred_init_and_parameters/data() of a deferred parameter after initialize", |expected| {
        let weight = deferred().get("0.weight").unwrap();
        raises(weight.data().map(drop), expected, |e| {
            uninitialized(e, "dense0_weight", "0.weight") && e.to_string().contains("dimension 1 of its shape (4, ?)")
        });
    }),
    ("deferred_init_and_parameters/forward before initialize", |expected| {
        let error = two().forward(&ones(&[1, 3], DType::F32)).map(drop);
        raises(error, expected, |e| uninitialized(e, "dense0_weight", "0.weight"));
    }),
    ("deferred_init_and_parameters/grad() of a deferred parameter", |expected| {
        let weight = deferred().get("0.weight").unwrap();
        raises(weight.grad().map(drop), expected, |e| uninitialized(e, "dense0_weight", "0.weight"));
    }),
    ("deferred_init_and_parameters/initialize again", |expected| {
        let net = deferred();
        net.forward(&ones(&[1, 3], DType::F32)).unwrap();
        // Gluon warns about these and ignores them; here they keep their values in silence, as the documentation says.
        assert_eq!(warned(&expected["warnings"]), initialized(&net));
        let values = |net: &Net| -> Vec<Vec<f32>> {
            net.state_dict().unwrap().iter().map(|(_, t)| t.to_vec().unwrap()).collect()
        };
        let before = values(&net);
        net.initialize(Constant(9.0), &Reference).unwrap();
        assert_eq!(expected["weights kept"], values(&net) == before);
        net.force_reinit(One, &Reference).unwrap();
        let after = values(&net);
        assert_eq!(expected["after force_reinit weight all one"], after[0].iter().all(|&v| v == 1.0));
        assert_eq!(expected["after force_reinit bias"], serde_json::json!(after[1]));
        assert_eq!(expected["warnings with force_reinit"], serde_json::json!([]));
    }),
    ("deferred_init_and_parameters/initialize again while still deferred", |expected| {
        let net = deferred();
        assert_eq!(warned(expected), initialized(&net));
        // What still waits gets the later initializer.
        net.initialize(Constant(9.0), &Reference).unwrap();
        net.forward(&ones(&[1, 3], DType::F32)).unwrap();
        let values = |path: &str| net.get(path).unwrap().data().unwrap().to_vec::<f32>().unwrap();
        assert_eq!((values("0.weight"), values("0.bias")), (vec![9.0; 12], vec![0.0; 4]));
    }),
    ("deferred_init_and_parameters/shapes after the first forward", |expected| {
        let net = deferred();
        net.forward(&ones(&[1, 3], DType::F32)).unwrap();
        prints(&net, &expected["net"]);
        assert_eq!(net.get("0.weight").unwrap().to_string(), expected["repr"]);
        assert_eq!(without_paths(&net.collect_params().to_string()), expected["dict"]);
    }),
    ("deferred_init_and_parameters/shapes while deferred", |expected| {
        // An unknown dimension prints as ? instead of 0, which is a size that a tensor may have.
        let with_zeros = |text: String| text.replace('?', "0");
        let net = deferred();
        prints(&net, &expected["net"]);
        assert_eq!(with_zeros(net.get("0.weight").unwrap().to_string()), expected["repr"]);
        assert_eq!(with_zeros(net.get("0.bias").unwrap().to_string()), expected["bias"]);
        assert_eq!(with_zeros(without_paths(&net.collect_params().to_string())), expected["dict"]);
        let shape = net.get("0.weight").unwrap().partial_shape();
        assert_eq!((shape, expected["shape"].as_str()), (vec![Some(4), None], Some("(4, 0)")));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Conv2D given rank 2", |expected| {
        let error = run(Conv2D::new(2, 3), &[&[1, 3]]);
        raises(error, expected, |e| matches!(e, Error::InvalidShape { .. }));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Conv2D in_channels=3 given 4", |expected| {
        let error = run(Conv2D::new(2, 3).in_channels(3), &[&[1, 4, 9, 9]]);
        raises(error, expected, |e| matches!(e, Error::Parameter { .. }));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Conv2D kernel larger than input", |expected| {
        let error = run(Conv2D::new(2, 5), &[&[1, 3, 3, 3]]);
        raises(error, expected, |e| matches!(e, Error::InvalidShape { .. } | Error::ShapeMismatch { .. }));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Dense given another input width", |expected| {
        let error = run(Dense::new(4), &[&[2, 3], &[2, 5]]);
        raises(error, expected, |e| matches!(e, Error::Parameter { name, .. } if name == "dense0_weight"));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Dense in_units=3 given 5", |expected| {
        let error = run(Dense::new(2).in_units(3), &[&[2, 5]]);
        raises(error, expected, |e| matches!(e, Error::Parameter { name, .. } if name == "dense0_weight"));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/Dense on float64 input", |expected| {
        let layer = Dense::new(2);
        layer.initialize(One, &Reference).unwrap();
        let error = layer.forward(&ones(&[2, 3], DType::F64)).map(drop);
        raises(error, expected, |e| matches!(e, Error::DTypeMismatch { .. }));
    }),
    ("deferred_init_and_parameters/wrong shapes given to layers/unknown activation", |expected| {
        let error = "nosuch".parse::<Activation>().map(drop);
        raises(error, expected, |e| matches!(e, Error::InvalidArgument { .. }) && e.to_string().contains("softrelu"));
    }),
];

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_string()).collect()
}

fn ones(shape: &[usize], dtype: DType) -> Tensor<Reference> {
    Tensor::ones(&Reference, shape, dtype).unwrap()
}

fn names(block: &dyn Parameters<Reference>, expected: &Value) {
    assert_eq!(block.collect_params().names(), strings(expected));
}

/// Names and prefix.
fn named(block: &dyn Parameters<Reference>, expected: &Value) {
    names(block, &expected["names"]);
    assert_eq!(block.prefix(), expected["prefix"]);
}

fn own_prefix(block: &dyn Parameters<Reference>) -> String {
    block.prefix()
}

fn child_prefixes(net: &Net, expected: &Value) {
    let found: Vec<String> = net.iter().map(|child| child.prefix()).collect();
    assert_eq!(found, strings(&expected["child_prefixes"]));
}

/// The gradient requests of the layer of this number.
fn gradients(number: usize, make: impl Fn() -> BatchNorm<Reference>, expected: &Value) {
    (0..number).for_each(|_| drop(BatchNorm::<Reference>::new()));
    let found = make().collect_params();
    assert_eq!(found.len(), expected.as_object().unwrap().len());
    for (_, p) in found.iter() {
        let request = format!("{:?}", p.grad_req()).to_lowercase();
        assert_eq!(expected[p.name()], request, "{p}");
    }
}

fn shows(block: &dyn Parameters<Reference>, expected: &Value) {
    assert_eq!(block.label().unwrap(), expected.as_str().unwrap());
}

fn prints(net: &Net, expected: &Value) {
    assert_eq!(net.to_string(), expected.as_str().unwrap());
}

fn raises(result: Result<()>, expected: &Value, kind: impl Fn(&Error) -> bool) {
    assert!(expected["raises"].is_string());
    let error = result.expect_err("MXNet refuses this");
    assert!(kind(&error), "{error:?}");
}

fn uninitialized(error: &Error, name: &str, path: &str) -> bool {
    matches!(error, Error::Uninitialized { name: n, path: Some(p), .. } if n == name && p == path)
}

/// The parameters that Gluon's warnings name.
fn warned(warnings: &Value) -> Vec<String> {
    let name = |w: &Value| w["text"].as_str().unwrap().split('\'').nth(1).unwrap().to_string();
    warnings.as_array().unwrap().iter().map(name).collect()
}

fn initialized(net: &Net) -> Vec<String> {
    net.collect_params().iter().filter(|(_, p)| p.is_initialized()).map(|(_, p)| p.name()).collect()
}

fn ready(name: &str, shape: &[usize]) -> Parameter<Reference> {
    let shape: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
    let parameter = Parameter::new(name, &shape);
    parameter.initialize(One, &Reference).unwrap();
    parameter
}

/// Runs a layer on inputs of these shapes, up to the first error.
fn run(layer: impl Block<Reference>, shapes: &[&[usize]]) -> Result<()> {
    layer.initialize(Uniform::default(), &Reference)?;
    shapes.iter().try_for_each(|shape| layer.forward(&ones(shape, DType::F32)).map(drop))
}

fn two() -> Net {
    [4, 2].map(Dense::new).into_iter().collect()
}

fn deferred() -> Net {
    let net = two();
    net.initialize(Uniform::default(), &Reference).unwrap();
    net
}

fn three() -> Net {
    [1, 2, 3].map(Dense::new).into_iter().collect()
}

fn scoped() -> Net {
    let mut net = Net::new();
    net.name_scope(|net| {
        net.add(Dense::new(2)).add(Dense::new(2)).add(Conv2D::new(2, 3)).add(BatchNorm::new());
    });
    net
}

fn shared() -> Net {
    let relu = |layer: Dense<Reference>| layer.activation(Activation::Relu);
    let second = relu(Dense::new(8));
    let mut net = Net::new();
    net.add(relu(Dense::new(8))).add(second.clone()).add(relu(Dense::new(8)).share(&second)).add(Dense::new(10));
    net
}

#[derive(Parameters)]
#[parameters(backend = Reference)]
struct Residual {
    scale: Parameter<Reference>,
    conv1: Conv2D<Reference>,
    bn: BatchNorm<Reference>,
    body: Net,
    fc: Dense<Reference>,
}

impl Residual {
    fn new() -> Residual {
        let names = NameScope::of("residual");
        let (conv1, bn) = (Conv2D::new(4, 3).padding(1), BatchNorm::new());
        let mut body = Sequential::new();
        body.add(Conv2D::new(4, 1)).add(BatchNorm::new());
        Residual { scale: Parameter::new(names.name("scale"), &[Some(1)]), conv1, bn, body, fc: Dense::new(3) }
    }
}

/// A dictionary as Gluon prints it, which has names where there are paths and names here.
fn without_paths(text: &str) -> String {
    let line = |line: &str| line.find("Parameter ").map_or(line.to_string(), |at| format!("  {}", &line[at..]));
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_entry_is_reproduced_or_listed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/behaviours.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut entries = BTreeSet::new();
    for group in ["naming", "repr", "deferred_init_and_parameters"] {
        for (name, value) in all[group].as_object().unwrap() {
            match value.as_object().filter(|_| COMPOSITE.contains(&&**name)) {
                Some(parts) => entries.extend(parts.keys().map(|part| format!("{group}/{name}/{part}"))),
                None => drop(entries.insert(format!("{group}/{name}"))),
            }
        }
    }
    let covered: BTreeSet<String> =
        REPRODUCED.iter().map(|(e, _)| e.to_string()).chain(NOT_HERE.iter().map(|(e, _)| e.to_string())).collect();
    assert_eq!(covered.len(), REPRODUCED.len() + NOT_HERE.len(), "an entry is there twice");
    let missing: Vec<_> = entries.difference(&covered).collect();
    let unknown: Vec<_> = covered.difference(&entries).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}, not in the file: {unknown:#?}");

    let mut failed = Vec::new();
    for &(entry, check) in REPRODUCED {
        let expected = entry.split('/').fold(&all, |value, part| &value[part]).clone();
        if std::thread::spawn(move || check(&expected)).join().is_err() {
            failed.push(entry);
        }
    }
    assert!(failed.is_empty(), "not as in MXNet: {failed:#?}");
}
