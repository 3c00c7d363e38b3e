//! How the library is used: what prints, what is found where, and what may be written in several ways.

use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor};
use isograd_nn::{
    Activation, AnyBlock, AvgPool1D, Block, Concurrent, Contexts, Conv2D, Conv3D, Dense, Dropout, Flatten, GELU,
    GlobalAvgPool2D, Identity, Initializer, LoadOptions, MaxPool2D, MaxPool3D, Optimizer, Parameter, Parameters,
    Sequential, Trainer,
    data::{CsvOptions, Table, cifar, idx, vision::Image},
    initializers::{Constant, One, Xavier, Zero},
    metric::{Accuracy, Metric},
};
use isograd_reference::Reference;

const CTX: Reference = Reference;

/// A layer whose author gives no thought to names.
#[derive(Parameters)]
struct MyDense<B: Backend = Dyn> {
    weight: Parameter<B>,
    bias: Parameter<B>,
}

impl<B: Backend> MyDense<B> {
    fn new(units: usize, inputs: usize) -> Self {
        MyDense {
            weight: Parameter::new("weight", &[Some(units), Some(inputs)]),
            bias: Parameter::new("bias", &[Some(units)]).with_initializer(Zero),
        }
    }
}

impl<B: Backend> Block<B> for MyDense<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        x.matmul(&self.weight.data_on(x.ctx())?.t()?)?.add(&self.bias.data_on(x.ctx())?)
    }
}

fn two() -> Sequential<Reference> {
    let mut net = Sequential::new();
    net.add(MyDense::new(3, 4)).add(MyDense::new(2, 3));
    net
}

#[test]
fn layers_of_ones_own_have_names_of_their_own() {
    std::thread::spawn(|| {
        let net = two();
        let x = Tensor::ones(&CTX, [1, 4], DType::F32).unwrap();
        // Before anyone asked for the names.
        let Err(Error::Uninitialized { name, path, .. }) = net.forward(&x) else { panic!("it has no values") };
        assert_eq!((&*name, path.as_deref()), ("mydense0_weight", Some("0.weight")));
        net[0].initialize(One, &CTX).unwrap();
        let Err(Error::Uninitialized { name, path, .. }) = net.forward(&x) else { panic!("it has no values") };
        assert_eq!((&*name, path.as_deref()), ("mydense1_weight", Some("1.weight")));
        let names = ["mydense0_weight", "mydense0_bias", "mydense1_weight", "mydense1_bias"];
        assert_eq!(net.collect_params().names(), names);
        assert_eq!(net[1].prefix(), "mydense1_");

        // By Gluon's names, which must differ, and by paths.
        net.initialize(Constant(0.5), &CTX).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let by_name = folder.path().join("names.params");
        net.collect_params().save(&by_name, "").unwrap();
        net.collect_params().load(&by_name, &CTX, LoadOptions::default(), "").unwrap();
        for file in ["paths.params", "paths.safetensors"] {
            let path = folder.path().join(file);
            net.save_parameters(&path).unwrap();
            let loaded = two();
            loaded.load_parameters(&path, &CTX).unwrap();
            assert_eq!(
                loaded.forward(&x).unwrap().to_vec::<f32>().unwrap(),
                net.forward(&x).unwrap().to_vec::<f32>().unwrap()
            );
        }
        // A name that someone gave stays.
        let given = MyDense::<Reference> {
            weight: Parameter::new("w", &[Some(1), Some(1)]),
            bias: Parameter::new("their_bias", &[Some(1)]),
        };
        assert_eq!(given.collect_params().names(), ["w", "their_bias"]);
    })
    .join()
    .unwrap();
}

#[test]
fn a_dictionary_prints_paths() {
    let table = Dense::<Reference>::new(2).in_units(2).use_bias(false);
    let mut net = Sequential::new();
    net.add(table.clone()).add(table);
    let all = net.collect_params();
    let name = all["0.weight"].name();
    let line = format!("  0.weight, 1.weight: Parameter {name} (shape=(2, 2), dtype=float32)\n");
    assert_eq!(all.to_string(), format!("{} (\n{line})", net.prefix()));
}

#[test]
fn blocks_in_blocks_are_reached_by_index() {
    let mut inner = Sequential::new();
    inner.add(Dense::new(3).in_units(2)).add(Activation::Tanh);
    let mut paths = Concurrent::new(1);
    paths.add(Identity).add(inner);
    let mut net: Sequential<Reference> = Sequential::new();
    net.add(paths).add(Dense::new(1));
    assert_eq!(net[0][1][1].to_string(), "Activation(tanh)");
    assert_eq!(format!("{:?}", &net[0][1][0]), net[0][1][0].to_string());
    net[0][1][0].initialize(One, &CTX).unwrap();
    net[0][1].initialize(Zero, &CTX).unwrap();
    let dense: &Dense<Reference> = net[0][1][0].downcast().unwrap();
    assert_eq!(dense.weight().data().unwrap().to_vec::<f32>().unwrap(), [1.0; 6]);
    net[0][1].force_reinit(Zero, &CTX).unwrap();
    assert_eq!(dense.weight().data().unwrap().to_vec::<f32>().unwrap(), [0.0; 6]);
    assert!(!net.collect_params()["1.weight"].is_initialized());
    assert!(net.at(-1).unwrap().downcast::<Dense<Reference>>().is_ok());
    assert!(net[0].downcast::<Dense<Reference>>().unwrap_err().to_string().contains("no Dense"));
    assert!(net[1].child(0).is_none() && net[0].child(2).is_none());
    let mut count = 0;
    net[0].apply(|_, _| count += 1);
    assert_eq!(count, 5);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| net[1][0].label())).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("no block 0 in Dense"));

    // One that was taken out and put back is what it was.
    let mut other: Sequential<Reference> = Sequential::new();
    other.add(net.remove(1).unwrap());
    let moved: AnyBlock<Reference> = other[0].clone();
    other.add(moved);
    assert!(other[1].downcast::<Dense<Reference>>().is_ok());
    let layers: Vec<Box<dyn Block<Reference>>> = vec![Box::new(Dense::new(1)), Box::new(Activation::Relu)];
    let boxed = Sequential::from(layers);
    assert!(boxed[0].downcast::<Box<dyn Block<Reference>>>().is_ok());
    assert_eq!(boxed.iter().map(|block| block.to_string()).collect::<Vec<_>>()[1], "Activation(relu)");
}

#[test]
fn blocks_on_their_own_save_and_load() {
    let net = two();
    net.initialize(Constant(2.0), &CTX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.safetensors");
    net[0].save_parameters(&path).unwrap();
    let other = two();
    other[0].load_parameters(&path, &CTX).unwrap();
    assert_eq!(other.collect_params()["0.weight"].data().unwrap().to_vec::<f32>().unwrap(), [2.0; 12]);
}

#[derive(Parameters)]
enum Either<B: Backend> {
    Layer(Dense<B>),
    Nothing,
}

#[derive(Parameters)]
struct Generic<B: Backend, T> {
    layer: Dense<B>,
    inner: T,
}

#[derive(Parameters)]
#[parameters(display = false)]
struct Own(Dense);

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("my own text")
    }
}

#[test]
fn every_block_prints() {
    let texts = [
        Dropout::new(0.5).to_string(),
        Flatten.to_string(),
        GELU.to_string(),
        Identity.to_string(),
        GlobalAvgPool2D::new().to_string(),
    ];
    assert_eq!(texts[0], "Dropout(p = 0.5, axes=())");
    assert!(texts[1..].iter().zip(["Flatten", "GELU", "Identity", "GlobalAvgPool2D"]).all(|(t, n)| t.starts_with(n)));
    let block = Generic { layer: Dense::<Reference>::new(2), inner: Either::Layer(Dense::new(1)) };
    assert_eq!(
        block.to_string(),
        "Generic(\n  (layer): Dense(None -> 2, linear)\n  (inner): Either::Layer(\n    (0): Dense(None -> 1, linear)\n  )\n)"
    );
    assert!(format!("{block:#}").contains("(weight): Parameter (2, ?), float32"));
    assert_eq!(Either::<Reference>::Nothing.to_string(), "Either::Nothing");
    let own = Own(Dense::new(1));
    assert_eq!((own.to_string(), own.0.to_string()), ("my own text".into(), "Dense(None -> 1, linear)".into()));
}

#[test]
fn windows_are_tuples_too() {
    let with_tuples = MaxPool2D::new((2, 3)).padding((1, 2)).strides((2, 3));
    assert_eq!(with_tuples.to_string(), MaxPool2D::new([2, 3]).padding([1, 2]).strides([2, 3]).to_string());
    assert!(with_tuples.to_string().contains("size=(2, 3), stride=(2, 3), padding=(1, 2)"));
    assert_eq!(AvgPool1D::new((3,)).to_string(), AvgPool1D::new(3).to_string());
    assert_eq!(MaxPool3D::new((1, 2, 3)).to_string(), MaxPool3D::new([1, 2, 3]).to_string());
    let conv = Conv2D::<Reference>::new(4, (1, 3)).padding((0, 1)).dilation((1, 1)).strides((1, 2)).in_channels(2);
    assert_eq!(conv.weight().shape().unwrap(), [4, 2, 1, 3]);
    assert_eq!(Conv3D::<Reference>::new(1, (1, 2, 3)).in_channels(1).weight().shape().unwrap(), [1, 1, 1, 2, 3]);
}

#[test]
fn what_gluon_has_by_name_is_parsed() {
    let x = Tensor::ones(&CTX, [1, 2], DType::F32).unwrap();
    let layer = Dense::new(2).activation("relu".parse().unwrap());
    let xavier: Box<dyn Initializer<Reference>> = "Xavier".parse().unwrap();
    layer.initialize(xavier, &CTX).unwrap();
    layer.forward(&x).unwrap();
    for name in
        ["sgd", "nag", "signum", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta", "rmsprop", "ftrl", "lamb"]
    {
        let optimizer: Box<dyn Optimizer<Reference>> = name.parse().unwrap();
        assert_eq!(optimizer.name().to_lowercase(), name);
        Trainer::new(layer.collect_params(), optimizer).unwrap();
    }
    let mut metric: Box<dyn Metric<Reference>> = "acc".parse().unwrap();
    metric.update(&Tensor::zeros(&CTX, [1], DType::I64).unwrap(), &x).unwrap();
    assert_eq!(metric.value(), 1.0);
    for (error, name) in [
        ("x".parse::<Box<dyn Initializer>>().unwrap_err(), "msraprelu"),
        ("x".parse::<Box<dyn Optimizer>>().unwrap_err(), "adadelta"),
        ("x".parse::<Box<dyn Metric>>().err().unwrap(), "perplexity"),
    ] {
        let text = error.to_string();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && text.contains("\"x\"") && text.contains(name),
            "{text}"
        );
    }
    let mut accuracy = Accuracy::default();
    assert!(accuracy.value().is_nan());
    accuracy.reset();
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "a borrowed context may be borrowed again")]
fn contexts_are_one_or_several() {
    fn count<C: Contexts<Reference>>(contexts: C) -> usize {
        contexts.list().len()
    }
    let several = vec![CTX, CTX];
    assert_eq!((count(&CTX), count(&&CTX), count(&several), count(&several[..]), count(&[CTX])), (1, 1, 2, 2, 1));
    let layer = Dense::<Reference>::new(1).in_units(1);
    assert!(matches!(layer.initialize(Xavier::default(), &several), Err(Error::Parameter { .. })));
    assert!(matches!(layer.initialize(Xavier::default(), &[]), Err(Error::Parameter { .. })));
    layer.weight().initialize(One, &CTX).unwrap();
    layer.collect_params().initialize(Zero, &CTX).unwrap();
    assert_eq!(layer.weight().data().unwrap().asscalar::<f32>().unwrap(), 1.0);
    layer.collect_params().force_reinit(Zero, &CTX).unwrap();
    assert_eq!(layer.weight().data().unwrap().asscalar::<f32>().unwrap(), 0.0);
    layer.weight().force_reinit(One, &CTX).unwrap();
    layer.weight().reset_ctx(&CTX).unwrap();
    assert_eq!(layer.weight().data().unwrap().asscalar::<f32>().unwrap(), 1.0);
}

#[test]
fn files_of_another_kind_are_named_by_every_reader() {
    let folder = tempfile::tempdir().unwrap();
    let net = Dense::<Reference>::new(1).in_units(1);
    type Reader<'a> = Box<dyn Fn(&std::path::Path) -> Result<()> + 'a>;
    let readers: Vec<(&str, Reader)> = vec![
        ("safetensors", Box::new(|path| net.load_parameters(path.with_extension("safetensors"), &CTX))),
        ("MXNet", Box::new(|path| net.load_parameters(path.with_extension("params"), &CTX))),
        ("IDX", Box::new(|path| idx::load(path).map(drop))),
        ("CIFAR", Box::new(|path| cifar::load_cifar10(&[path]).map(drop))),
        ("CSV", Box::new(|path| Table::load(path, &CsvOptions::default()).map(drop))),
        ("picture", Box::new(|path| Image::load(path, 3).map(drop))),
    ];
    for (bytes, what) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 12345\n"[..], "git lfs pull"),
        (b"<!doctype html>\n<title>404, not found</title>\n", "web page"),
        (b"%PDF-1.7\n1 0 obj\n", "PDF"),
    ] {
        let path = folder.path().join("file");
        for extension in ["", "safetensors", "params"] {
            std::fs::write(path.with_extension(extension), bytes).unwrap();
        }
        for (format, read) in &readers {
            let error = read(&path).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::File { path: Some(_), .. }), "{text}");
            assert!(text.contains(&format!("no {format} file")) && text.contains(what), "{text}");
        }
    }
}
