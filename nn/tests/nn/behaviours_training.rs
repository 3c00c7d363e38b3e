//! The groups `trainer`, `save_load`, `initializers` and `signatures` of `golden/behaviours.json`: each entry is reproduced by the
//! code of its name here, or is in the list of those that cannot be, with the reason. An entry that is in neither place fails.

use isograd_core::{Backend, DType, Error, GradReq, Result, Tensor, autograd, format::HostArray, operators::random};
use isograd_nn::{initializers::*, layers::*, loss::*, optimizer::*, *};
use isograd_reference::Reference;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

type B = Reference;
const CTX: Reference = Reference;

fn group(name: &str) -> Map<String, Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/behaviours.json");
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    all[name].as_object().unwrap().clone()
}

/// Runs `check` on every entry, which gives back what happens here, or `None` for one that it does not know.
fn reproduce(name: &str, without: &[(&str, &str)], check: impl Fn(&str, &Value) -> Option<Value>) {
    for (entry, expected) in group(name) {
        match (check(&entry, &expected), without.iter().find(|(e, _)| *e == entry)) {
            (Some(got), None) => assert!(same(&got, &expected), "{name}/{entry}: {got} instead of {expected}"),
            (None, Some((_, why))) => assert!(!why.is_empty()),
            (Some(_), Some(_)) => panic!("{name}/{entry} is reproduced, and in the list of those that are not"),
            (None, None) => panic!("{name}/{entry} is neither reproduced nor in the list of those that are not"),
        }
    }
}

/// Equal, numbers to six digits.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-6 * b.abs().max(1e-3)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// What is said of an outcome: the entry itself when both failed, with words that the error here must have, or both did not.
fn outcome(result: Result<()>, expected: &Value, words: &[&str]) -> Value {
    match result {
        Ok(()) => json!({"raises": null, "returned": "None"}),
        Err(error) => {
            assert!(!expected["raises"].is_null(), "{error}");
            let text = error.to_string();
            words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
            expected.clone()
        }
    }
}

fn dense(units: usize, inputs: usize) -> Dense<B> {
    Dense::new(units).in_units(inputs)
}

fn floats(parameter: &Parameter<B>) -> Vec<f32> {
    parameter.data().unwrap().to_vec().unwrap()
}

#[test]
fn trainer() {
    let without = [
        ("params of wrong kind", "a type error in Rust: Trainer::new takes a ParameterDict"),
        ("unknown optimizer", "a type error in Rust: optimizers are types, not names"),
    ];
    reproduce("trainer", &without, |entry, expected| {
        Some(match entry {
            "Trainer on collect_params('.*weight')" => {
                let names = std::thread::spawn(|| {
                    let mut net = Sequential::<B>::new();
                    net.add(dense(2, 3)).add(dense(2, 2));
                    let weights = net.collect_params_matching(".*weight").unwrap();
                    let trainer = Trainer::new(weights, SGD::default()).unwrap();
                    trainer.parameters().map(|(_, p)| p.name()).collect::<Vec<_>>()
                });
                json!(names.join().unwrap())
            }
            "default sgd learning_rate, after set_learning_rate(.5)" => {
                let mut trainer = Trainer::new(dense(1, 1).collect_params(), SGD::default()).unwrap();
                let before = trainer.learning_rate();
                trainer.set_learning_rate(0.5);
                json!([before, trainer.learning_rate()])
            }
            "defaults" => defaults(expected),
            "step without backward" => {
                let net = dense(2, 3);
                net.initialize(One, &CTX).unwrap();
                let mut trainer = Trainer::new(net.collect_params(), SGD::default()).unwrap();
                json!({
                    "error": outcome(trainer.step(1), &expected["error"], &["dense", "backward", "since the last step"]),
                    "with ignore_stale_grad": outcome(trainer.step_ignoring_stale(1), &json!({"raises": null}), &[]),
                })
            }
            "w after one step, w=1, dL/dw=4, lr=1" => {
                let after = |batch| {
                    let w = Parameter::<B>::new("w", &[Some(1)]);
                    w.initialize(One, &CTX).unwrap();
                    autograd::record(|| w.data()?.mul_scalar(4)).unwrap().backward().unwrap();
                    Trainer::new(w.collect_params(), SGD::new(1.0)).unwrap().step(batch).unwrap();
                    floats(&w)[0]
                };
                json!({"batch_size 1": after(1), "batch_size 2": after(2), "batch_size 4": after(4)})
            }
            "wd reaches the bias too: [w, b] after one step with gradient 0, lr 1, wd .1" => {
                let net = dense(1, 1).bias_initializer(One);
                net.initialize(One, &CTX).unwrap();
                let mut trainer = Trainer::new(net.collect_params(), SGD::new(1.0).weight_decay(0.1)).unwrap();
                let x = Tensor::ones(&CTX, [1, 1], DType::F32).unwrap();
                autograd::record(|| net.forward(&x)?.mul_scalar(0)).unwrap().backward().unwrap();
                trainer.step(1).unwrap();
                json!([floats(net.weight())[0], floats(net.bias().unwrap())[0]])
            }
            _ => return None,
        })
    });
}

/// The defaults that are options here; what else MXNet lists is how it works inside.
fn defaults(expected: &Value) -> Value {
    let inside = ["aggregate_num", "allow_np_array", "begin_num_update", "lazy_update", "num_update", "m_schedule"];
    let elsewhere = json!({"multi_precision": false, "rescale_grad": 1.0});
    let rename = |key: &str| {
        match key {
            "lr" => "learning_rate",
            "wd" => "weight_decay",
            "float_stable_eps" => "epsilon",
            other => other,
        }
        .to_string()
    };
    let mut result = Map::new();
    for (name, options) in expected.as_object().unwrap() {
        let ours = match name.as_str() {
            "adadelta" => format!("{:?}", AdaDelta::default()),
            "adagrad" => format!("{:?}", AdaGrad::default()),
            "adam" => format!("{:?}", Adam::default()),
            "adamax" => format!("{:?}", AdaMax::default()),
            "ftrl" => format!("{:?}", Ftrl::default()),
            "lamb" => format!("{:?}", LAMB::default()),
            "nadam" => format!("{:?}", Nadam::default()),
            "nag" => format!("{:?}", NAG::default()),
            "rmsprop" => format!("{:?}", RMSProp::default()),
            "sgd" => format!("{:?}", SGD::default()),
            "signum" => format!("{:?}", Signum::default()),
            other => panic!("there is no optimizer {other} here"),
        };
        let mut got = Map::new();
        for (key, value) in options.as_object().unwrap() {
            let found = if inside.contains(&key.as_str()) {
                value.clone()
            } else if let Some(value) = elsewhere.get(key) {
                value.clone()
            } else {
                let (_, rest) =
                    ours.split_once(&format!("{}: ", rename(key))).unwrap_or_else(|| panic!("{name}: no {key}"));
                let end = rest.find([',', ' ']).unwrap();
                serde_json::from_str(&rest[..end]).unwrap()
            };
            got.insert(key.clone(), found);
        }
        result.insert(name.clone(), Value::Object(got));
    }
    Value::Object(result)
}

fn net(widths: &[usize]) -> Sequential<B> {
    let mut net = Sequential::new();
    for &n in widths {
        net.add(Dense::new(n));
    }
    net
}

#[test]
fn save_load() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.params");
    let x = Tensor::ones(&CTX, [1, 3], DType::F32).unwrap();
    let saved = net(&[4, 2]);
    saved.initialize(Normal::default(), &CTX).unwrap();
    saved.forward(&x).unwrap();
    saved.save_parameters(&file).unwrap();
    let load = |widths: &[usize], dtype: DType, options: LoadOptions| {
        let other = net(widths);
        other.cast(dtype).unwrap();
        other.initialize(One, &CTX).unwrap();
        other.load_parameters_with(&file, &CTX, options)
    };
    let strict = LoadOptions::default;
    reproduce("save_load", &[], |entry, expected| {
        Some(match entry {
            "load float32 file into float64 net" => {
                outcome(load(&[4, 2], DType::F64, strict()), expected, &["float64", "float32", "cast_dtype"])
            }
            "the same with cast_dtype=True" => {
                outcome(load(&[4, 2], DType::F64, LoadOptions { cast_dtype: true, ..strict() }), expected, &[])
            }
            "load into longer net" => {
                let words = ["2.weight", "missing", "0.weight", "1.bias", "allow_missing"];
                outcome(load(&[4, 2, 2], DType::F32, strict()), expected, &words)
            }
            "load into longer net allow_missing" => {
                outcome(load(&[4, 2, 2], DType::F32, LoadOptions { allow_missing: true, ..strict() }), expected, &[])
            }
            "load into other width" => {
                outcome(load(&[5, 2], DType::F32, strict()), expected, &["0.weight", "(5, ?)", "(4, 3)"])
            }
            "load into shorter net" => {
                // MXNet names the first that is left over, this the first by name.
                outcome(load(&[4], DType::F32, strict()), expected, &["1.", "no such parameter", "ignore_extra"])
            }
            "load into shorter net ignore_extra" => {
                outcome(load(&[4], DType::F32, LoadOptions { ignore_extra: true, ..strict() }), expected, &[])
            }
            "load without initialize gives the same weights" => {
                let fresh = net(&[4, 2]);
                fresh.load_parameters(&file, &CTX).unwrap();
                let ours = fresh.forward(&x).unwrap().to_vec::<f32>().unwrap();
                json!(ours == saved.forward(&x).unwrap().to_vec::<f32>().unwrap())
            }
            "missing file" => {
                let missing: PathBuf = folder.path().join("m.params.no");
                let result = net(&[4]).load_parameters(&missing, &CTX);
                assert!(matches!(&result, Err(Error::Io { path, .. }) if *path == missing));
                outcome(result, expected, &["m.params.no"])
            }
            "save while deferred" => {
                let deferred = net(&[2]);
                deferred.initialize(One, &CTX).unwrap();
                let result = deferred.save_parameters(folder.path().join("never.params"));
                assert!(matches!(&result, Err(Error::Uninitialized { .. })));
                outcome(result, expected, &["weight", "pass one batch"])
            }
            _ => return None,
        })
    });
    assert!(!folder.path().join("never.params").exists());
}

#[test]
fn initializers() {
    let without = [(
        "Mixed/Constant on 'x_gamma'",
        "MXNet dispatches on the endings of names; here an initializer does what it is asked to",
    )];
    let options = |name: &str, debug: String| -> Value {
        let mut fields = Map::new();
        if let Some((_, rest)) = debug.split_once(" { ") {
            for field in rest.trim_end_matches(" }").split(", ") {
                let (key, value) = field.split_once(": ").unwrap();
                let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value.to_lowercase()));
                fields.insert(key.to_string(), value);
            }
        }
        json!([name, fields])
    };
    let with = |initializer: &dyn Initializer<B>, shape: &[usize]| {
        initializer.initialize(&CTX, "w_weight", &shape.into(), DType::F32)
    };
    reproduce("initializers", &without, |entry, expected| {
        Some(match entry {
            "Zero" | "One" | "Bilinear" => options(&entry.to_lowercase(), format!("{Zero:?}")),
            "Constant" => json!(["constant", {"value": Constant(0.5).0}]),
            "LSTMBias" => options("lstmbias", format!("{:?}", LSTMBias::default())),
            "MSRAPrelu" => options("msraprelu", format!("{:?}", MSRAPrelu::default())),
            "Normal" => options("normal", format!("{:?}", Normal::default())),
            "Uniform" => options("uniform", format!("{:?}", Uniform::default())),
            "Xavier" => options("xavier", format!("{:?}", Xavier::default())),
            "Orthogonal" => options("orthogonal", format!("{:?}", Orthogonal::default())),
            "Xavier on rank 1" => {
                outcome(with(&Xavier::default(), &[3]).map(drop), expected, &["w_weight", "at least two"])
            }
            "custom initializer touches weights only: [weight, bias]" => {
                #[derive(Debug)]
                struct Range;
                impl<B: Backend> Initializer<B> for Range {
                    fn initialize(
                        &self,
                        ctx: &B,
                        _: &str,
                        shape: &isograd_core::Shape,
                        dtype: DType,
                    ) -> Result<Tensor<B>> {
                        Tensor::arange(ctx, 0, shape.size() as i64, 1, dtype)?.reshape(shape)
                    }
                }
                let layer = dense(2, 3);
                layer.initialize(Range, &CTX).unwrap();
                let weight = floats(layer.weight());
                json!([[weight[..3], weight[3..]], floats(layer.bias().unwrap())])
            }
            "observed" => observed(expected),
            "precedence (a layer's own initializer wins over the one given to net.initialize)" => {
                let rows = |layer: &Dense<B>| json!(floats(layer.weight()).chunks(2).collect::<Vec<_>>());
                let bias = |layer: Dense<B>| {
                    layer.initialize(Normal { sigma: 1.0 }, &CTX).unwrap();
                    json!(floats(layer.bias().unwrap()))
                };
                let own = || dense(2, 2).weight_initializer(Constant(3.0));
                let (under_normal, forced, alone) = (own(), own(), dense(2, 2));
                under_normal.initialize(Normal { sigma: 1.0 }, &CTX).unwrap();
                forced.initialize(Zero, &CTX).unwrap();
                forced.force_reinit(Constant(9.0), &CTX).unwrap();
                alone.weight().initialize(Constant(9.0), &CTX).unwrap();
                json!({
                    "bias under a global Normal(1)": bias(dense(2, 2)),
                    "bias_initializer=ones under a global Normal(1)": bias(dense(2, 2).bias_initializer(One)),
                    "weight.initialize(Constant(9))": rows(&alone),
                    "weight_initializer Constant(3) under a global Normal(1)": rows(&under_normal),
                    "weight_initializer Constant(3) under net.initialize(Constant(9), force_reinit)": rows(&forced),
                })
            }
            _ => return None,
        })
    });
}

/// Widths as observed: the standard deviation within 3 %, the extremes of uniform numbers within 1 %.
fn observed(expected: &Value) -> Value {
    random::seed(1);
    let gaussian = Xavier { rnd_type: Random::Gaussian, factor_type: Factor::In, magnitude: 2.0 };
    let inward = Xavier { rnd_type: Random::Uniform, factor_type: Factor::In, magnitude: 2.34 };
    for (case, numbers) in expected.as_object().unwrap() {
        let (kind, layer) = case.split_once(" on ").unwrap();
        let number = |key: &str| numbers[key].as_f64().unwrap();
        // What the two were called with is not in the entry: the spread says it.
        let fan_in = if layer.starts_with("Dense") { 300.0 } else { 360.0 };
        let initializer: std::sync::Arc<dyn Initializer<B>> = match kind {
            "MSRAPrelu" => std::sync::Arc::new(MSRAPrelu::default()),
            "Normal" => std::sync::Arc::new(Normal::default()),
            "Uniform" | "default" => std::sync::Arc::new(Uniform::default()),
            "Xavier" => std::sync::Arc::new(Xavier::default()),
            "Xavier_gaussian" => {
                let magnitude =
                    (number("std").powi(2) * if layer.starts_with("Dense") { 250.0 } else { 405.0 }).round();
                std::sync::Arc::new(Xavier { magnitude, factor_type: Factor::Avg, ..gaussian })
            }
            "Xavier_in" => {
                let magnitude = (number("max").powi(2) * fan_in * 100.0).round() / 100.0;
                std::sync::Arc::new(Xavier { magnitude, ..inward })
            }
            other => panic!("there is no initializer {other} here"),
        };
        let parameters = if layer.starts_with("Dense") {
            let layer = dense(200, 300);
            layer.initialize(initializer, &CTX).unwrap();
            assert_eq!(numbers["bias_max_abs"], 0.0);
            assert!(floats(layer.bias().unwrap()).iter().all(|b| *b == 0.0));
            floats(layer.weight())
        } else {
            let layer = Conv2D::new(50, 3).in_channels(40);
            layer.initialize(initializer, &CTX).unwrap();
            floats(layer.collect_params().get("weight").unwrap())
        };
        let std = (parameters.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / parameters.len() as f64).sqrt();
        assert!((std / number("std") - 1.0).abs() < 0.03, "{case}: {std} instead of {}", number("std"));
        let largest = parameters.iter().fold(0f32, |m, v| m.max(v.abs()));
        if !["MSRAPrelu", "Normal", "Xavier_gaussian"].contains(&kind) {
            assert!((f64::from(largest) / number("max") - 1.0).abs() < 0.01, "{case}: {largest}");
        }
    }
    expected.clone()
}

/// The defaults of a signature, by name.
fn signature(text: &str) -> Map<String, Value> {
    let mut defaults = Map::new();
    let mut depth = 0;
    let inner = text.trim_start_matches('(').strip_suffix(')').unwrap();
    let commas = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    for argument in inner.split(commas) {
        if let Some((name, default)) = argument.trim().split_once('=') {
            let value = match default {
                "True" => json!(true),
                "False" => json!(false),
                "None" => Value::Null,
                other => serde_json::from_str(other).unwrap_or_else(|_| json!(other.trim_matches('\''))),
            };
            defaults.insert(name.to_string(), value);
        }
    }
    defaults
}

#[test]
fn signatures() {
    let without = [
        (
            "gluon.trainer.Trainer",
            "optimizers are values with arguments of their own, and there is no key-value store to choose",
        ),
        (
            "gluon.utils.clip_global_norm",
            "`check_isfinite` asks for a warning; here the norm is returned, to be looked at",
        ),
    ];
    let x = || Tensor::from_slice(&CTX, &[-1.0f32, 2.0], [1, 2]).unwrap();
    let applied = |layer: &dyn Block<B>| layer.forward(&x()).unwrap().to_vec::<f32>().unwrap();
    let near = |got: Vec<f32>, expected: [f32; 2]| {
        assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-6), "{got:?} instead of {expected:?}");
    };
    // A variable, and its square, whose gradient is 2 x.
    let squared = || {
        let v = x();
        v.attach_grad().unwrap();
        (autograd::record(|| v.square()).unwrap(), v)
    };
    let print = |layer: &dyn Parameters<B>| layer.label().unwrap();
    reproduce("signatures", &without, |entry, expected| {
        let defaults = signature(expected.as_str().unwrap());
        let is = |name: &str, value: Value| assert!(same(&value, &defaults[name]), "{entry}: {name} is {value}");
        let label = |layer: &dyn Parameters<B>, words: &[&str]| {
            let text = print(layer);
            words.iter().for_each(|word| assert!(text.contains(word), "{entry}: {word:?} is not in {text}"));
        };
        match entry {
            "autograd.backward" => {
                is("head_grads", Value::Null);
                is("retain_graph", json!(false));
                let (y, v) = squared();
                y.backward().unwrap();
                near(v.grad().unwrap().to_vec().unwrap(), [-2.0, 4.0]);
                assert!(matches!(y.backward(), Err(Error::GraphConsumed { .. })));
            }
            "autograd.grad" => {
                is("create_graph", json!(false));
                let (y, v) = squared();
                let gradients = autograd::grad(&[&y], &[&v], &[], false, false).unwrap();
                near(gradients[0].to_vec().unwrap(), [-2.0, 4.0]);
                assert!(!gradients[0].requires_grad());
            }
            "autograd.record" => {
                is("train_mode", json!(autograd::record(autograd::is_training)));
                assert!(autograd::record(autograd::is_recording) && !autograd::record_predict(autograd::is_training));
            }
            "gluon.block.Block.collect_params" => {
                is("select", Value::Null);
                assert_eq!(dense(1, 1).collect_params().len(), 2);
            }
            "gluon.block.Block.initialize" | "gluon.parameter.Parameter.initialize" => {
                is("force_reinit", json!(false));
                is(if entry.contains("Block") { "init" } else { "default_init" }, json!("Uniform()"));
                let layer = dense(3, 2);
                layer.initialize(Uniform::default(), &CTX).unwrap();
                let before = floats(layer.weight());
                assert!(before.iter().all(|w| w.abs() <= 0.07) && before.iter().any(|w| *w != 0.0));
                layer.initialize(One, &CTX).unwrap();
                assert_eq!(floats(layer.weight()), before);
                layer.weight().force_reinit(One, &CTX).unwrap();
                assert_eq!(floats(layer.weight()), [1.0; 6]);
            }
            "gluon.data.dataloader.DataLoader" => {
                is("shuffle", json!(false));
                is("num_workers", json!(0));
                let items = HostArray::from_slice(&[0.0f32, 1.0, 2.0, 3.0, 4.0], [5]).unwrap();
                let items = data::ArrayDataset::new([items]).unwrap();
                let loader = data::DataLoader::new(items, 2).unwrap();
                let batches: Vec<Vec<f32>> =
                    loader.epoch(&CTX).map(|batch| batch.unwrap()[0].to_vec().unwrap()).collect();
                // `last_batch=None` keeps the rest.
                assert_eq!(batches, [vec![0.0, 1.0], vec![2.0, 3.0], vec![4.0]]);
            }
            "gluon.nn.activations.PReLU" => {
                is("in_channels", json!(1));
                let layer = PReLU::new();
                layer.initialize(One, &CTX).unwrap();
                assert_eq!(layer.alpha().shape().unwrap(), [1]);
                near(applied(&layer), [-0.25, 2.0]);
            }
            "gluon.nn.activations.ELU" => {
                is("alpha", json!(1.0));
                near(applied(&ELU::new(1.0)), [(-1f32).exp_m1(), 2.0]);
            }
            "gluon.nn.activations.LeakyReLU" => near(applied(&LeakyReLU::new(0.5)), [-0.5, 2.0]),
            "gluon.nn.activations.Swish" => {
                is("beta", json!(1.0));
                near(applied(&Swish::new(1.0)), [-1.0 / (1.0 + 1f32.exp()), 2.0 / (1.0 + (-2f32).exp())]);
            }
            "gluon.nn.basic_layers.Dropout" => {
                is("axes", json!("()"));
                label(&Dropout::new(0.5), &["p = 0.5, axes=()"]);
            }
            "gluon.nn.basic_layers.Flatten" => label(&Flatten, &["Flatten"]),
            "gluon.nn.conv_layers.Conv2DTranspose" => {
                is("bias_initializer", json!("zeros"));
                let layer = Conv2DTranspose::new(4, 3).in_channels(2);
                label(&layer, &["2 -> 4, kernel_size=(3, 3), stride=(1, 1)"]);
                layer.initialize(One, &CTX).unwrap();
                assert_eq!(floats(layer.collect_params().get("bias").unwrap()), [0.0; 4]);
            }
            "gluon.parameter.Parameter" => {
                let parameter = Parameter::<B>::new("p", &[Some(1)]);
                is("grad_req", json!("write"));
                assert_eq!((parameter.grad_req(), parameter.dtype()), (GradReq::Write, DType::F32));
                is("lr_mult", json!(parameter.lr_mult()));
                is("wd_mult", json!(parameter.wd_mult()));
            }
            "gluon.trainer.Trainer.step" => {
                is("ignore_stale_grad", json!(false));
                let layer = dense(1, 1);
                layer.initialize(One, &CTX).unwrap();
                let mut trainer = Trainer::new(layer.collect_params(), SGD::new(0.1)).unwrap();
                assert!(trainer.step(1).is_err());
                trainer.step_ignoring_stale(1).unwrap();
            }
            "gluon.utils.split_and_load" => {
                is("batch_axis", json!(0));
                is("even_split", json!(true));
                let parts = parallel::split_and_load(&x().t().unwrap(), &[CTX, CTX], 0, true).unwrap();
                assert_eq!(parts.iter().map(|p| p.to_vec::<f32>().unwrap()).collect::<Vec<_>>(), [[-1.0], [2.0]]);
                assert!(parallel::split_and_load(&x().t().unwrap(), &[CTX, CTX, CTX], 0, true).is_err());
            }
            "gluon.block.Block.load_parameters" => {
                let options = LoadOptions::default();
                is("allow_missing", json!(options.allow_missing));
                is("ignore_extra", json!(options.ignore_extra));
                is("cast_dtype", json!(options.cast_dtype));
            }
            "gluon.block.Block.save_parameters" => is("deduplicate", json!(SaveOptions::default().deduplicate)),
            "gluon.loss.HingeLoss" => {
                let loss = HingeLoss::default();
                is("margin", json!(loss.margin));
                is("weight", json!(loss.weight));
                is("batch_axis", json!(loss.batch_axis));
            }
            "gluon.loss.HuberLoss" => is("rho", json!(HuberLoss::default().rho)),
            "gluon.loss.KLDivLoss" => {
                is("from_logits", json!(KLDivLoss::default().from_logits));
                is("axis", json!(KLDivLoss::default().axis));
            }
            "gluon.loss.L1Loss" => is("weight", json!(L1Loss::default().weight)),
            "gluon.loss.L2Loss" => is("weight", json!(L2Loss::default().weight)),
            "gluon.loss.SigmoidBinaryCrossEntropyLoss" => {
                is("from_sigmoid", json!(SigmoidBinaryCrossEntropyLoss::default().from_sigmoid));
            }
            "gluon.loss.SoftmaxCrossEntropyLoss" => {
                let loss = SoftmaxCrossEntropyLoss::default();
                is("axis", json!(loss.axis));
                is("sparse_label", json!(loss.sparse_label));
                is("from_logits", json!(loss.from_logits));
            }
            "gluon.nn.basic_layers.BatchNorm" => {
                is("axis", json!(1));
                is("momentum", json!(0.9));
                is("epsilon", json!(1e-5));
                label(
                    &BatchNorm::new(),
                    &["axis=1", "eps=1e-05", "momentum=0.9", "fix_gamma=False", "use_global_stats=False"],
                );
            }
            "gluon.nn.basic_layers.Dense" => {
                is("use_bias", json!(true));
                is("activation", Value::Null);
                assert!(dense(1, 1).bias().is_some());
                label(&dense(4, 3), &["Dense(3 -> 4, linear)"]);
            }
            "gluon.nn.basic_layers.Embedding" => label(&Embedding::new(4, 2), &["4 -> 2, float32"]),
            "gluon.nn.basic_layers.GroupNorm" => {
                is("num_groups", json!(1));
                is("epsilon", json!(1e-5));
                label(&GroupNorm::new(1), &["eps=1e-05"]);
            }
            "gluon.nn.basic_layers.InstanceNorm" => {
                is("scale", json!(false));
                is("axis", json!(1));
                label(&InstanceNorm::new(), &["axis=1", "eps=1e-05"]);
            }
            "gluon.nn.basic_layers.LayerNorm" => {
                is("axis", json!(-1));
                label(&LayerNorm::new(), &["axis=-1", "eps=1e-05"]);
            }
            "gluon.nn.conv_layers.AvgPool2D" => {
                is("pool_size", json!("(2, 2)"));
                label(&AvgPool2D::new(2), &["size=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=False"]);
            }
            "gluon.nn.conv_layers.MaxPool2D" => {
                is("strides", Value::Null);
                label(&MaxPool2D::new(2), &["size=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=False"]);
            }
            "gluon.nn.conv_layers.GlobalAvgPool2D" => label(&GlobalAvgPool2D::new(), &["global_pool=True"]),
            "gluon.nn.conv_layers.Conv2D" => {
                is("strides", json!("(1, 1)"));
                is("groups", json!(1));
                label(&Conv2D::new(4, 3), &["None -> 4, kernel_size=(3, 3), stride=(1, 1)"]);
            }
            "gluon.rnn.rnn_layer.GRU" => label(&GRU::new(3), &["GRU(None -> 3, TNC)"]),
            "gluon.rnn.rnn_layer.LSTM" => label(&LSTM::new(3), &["LSTM(None -> 3, TNC)"]),
            "gluon.rnn.rnn_layer.RNN" => {
                is("activation", json!("relu"));
                label(&RNN::new(3), &["RNN(None -> 3, TNC"]);
            }
            "initializer.MSRAPrelu" => is("slope", json!(MSRAPrelu::default().slope)),
            "initializer.Normal" => is("sigma", json!(Normal::default().sigma)),
            "initializer.Uniform" => is("scale", json!(Uniform::default().scale)),
            "initializer.Xavier" => is("magnitude", json!(Xavier::default().magnitude)),
            _ => return None,
        }
        Some(expected.clone())
    });
}
