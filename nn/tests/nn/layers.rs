//! Normalization, recurrent layers, activations and losses against MXNet's cases, which are those of core.

use isograd_core::{
    Backend, DType, Tensor, autograd,
    format::{HostArray, npz},
};
use isograd_nn::{loss::*, *};
use std::{collections::HashMap, path::Path};

struct Case<B: Backend> {
    name: String,
    ctx: B,
    arrays: HashMap<String, HostArray>,
}

impl<B: Backend> Case<B> {
    fn load(ctx: &B, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden/mxnet/ops");
        let arrays = npz::load(folder.join(format!("{name}.npz"))).unwrap().into_iter().collect();
        Case { name: name.into(), ctx: ctx.clone(), arrays }
    }

    fn tensor(&self, key: &str) -> Tensor<B> {
        Tensor::from_host(&self.ctx, &self.arrays[key]).unwrap()
    }

    fn assert_close(&self, key: &str, got: &Tensor<B>) {
        let expected = &self.arrays[key];
        assert_eq!(got.shape(), &expected.shape, "{}, {key}", self.name);
        let (got, expected) = (got.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        let size = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let fits = got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 2e-5 * size);
        assert!(fits, "{}, {key}: {got:?} instead of {expected:?}", self.name);
    }

    /// Parameters from the file, outputs and all gradients against it.
    fn check(
        &self,
        block: &impl Parameters<B>,
        inputs: &[&str],
        forward: impl Fn(&[Tensor<B>]) -> Result<Vec<Tensor<B>>, isograd_core::Error>,
    ) {
        let parameters = block.collect_params();
        for (path, parameter) in parameters.iter() {
            parameter.set_data(&self.tensor(&format!("p_{path}"))).unwrap();
        }
        let inputs: Vec<(&str, Tensor<B>)> = inputs.iter().map(|&key| (key, self.tensor(key))).collect();
        let tensors: Vec<Tensor<B>> = inputs.iter().map(|(_, t)| t.clone()).collect();
        tensors.iter().for_each(|t| t.attach_grad().unwrap());
        let train = !self.name.contains("infer");
        let run = || {
            let outputs = forward(&tensors)?;
            let mut total = Tensor::zeros(&self.ctx, [0usize; 0], DType::F32)?;
            for (k, output) in outputs.iter().enumerate() {
                self.assert_close(&format!("out{k}"), output);
                total = total.add(&output.mul(&self.tensor(&format!("ograd{k}")))?.sum((), false)?)?;
            }
            Ok::<_, isograd_core::Error>(total)
        };
        let total = if train { autograd::record(run) } else { autograd::record_predict(run) }.unwrap();
        total.backward().unwrap();
        let mut gradients = 0;
        for (key, tensor) in &inputs {
            if self.arrays.contains_key(&format!("g_{key}")) {
                self.assert_close(&format!("g_{key}"), &tensor.grad().unwrap());
                gradients += 1;
            }
        }
        for (path, parameter) in parameters.iter() {
            if self.arrays.contains_key(&format!("g_p_{path}")) {
                self.assert_close(&format!("g_p_{path}"), &parameter.grad().unwrap());
                gradients += 1;
            }
            if self.arrays.contains_key(&format!("after_p_{path}")) {
                self.assert_close(&format!("after_p_{path}"), &parameter.data().unwrap());
                gradients += 1;
            }
        }
        let all = self.arrays.keys().filter(|key| key.starts_with("g_") || key.starts_with("after_")).count();
        assert_eq!(gradients, all, "{}: not all arrays of the file were compared", self.name);
    }

    fn block(ctx: &B, name: &str, block: impl Block<B>) {
        Case::load(ctx, name).check(&block, &["x"], |x| Ok(vec![block.forward(&x[0])?]));
    }

    fn loss(ctx: &B, name: &str, loss: impl Loss<B>, log: bool) {
        let case = Case::load(ctx, name);
        let label = case.tensor("label");
        case.check(&Flatten, &["pred"], |x| {
            let x = if log { x[0].log_softmax(-1)? } else { x[0].clone() };
            Ok(vec![loss.loss(&x, &label)?])
        });
    }
}

fn normalization<B: Backend>(ctx: &B) {
    Case::block(ctx, "batchnorm_infer", BatchNorm::new());
    Case::block(ctx, "batchnorm_train_axis3", BatchNorm::new().axis(3));
    Case::block(ctx, "batchnorm_train_mom5_eps1e3", BatchNorm::new().momentum(0.5).epsilon(1e-3));
    Case::block(ctx, "batchnorm_train_rank2", BatchNorm::new());
    Case::block(ctx, "layernorm_axis1", LayerNorm::new().axis(1));
    Case::block(ctx, "groupnorm", GroupNorm::new(2).per_group(true));
    Case::block(ctx, "instancenorm", InstanceNorm::new());
}

/// Every sample of a recurrent layer, a cell or a loss, built by its attributes; core's tests leave these to this crate.
fn recurrent_layers_and_losses<B: Backend>(ctx: &B) {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden/mxnet/ops/index.json");
    let index: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(index).unwrap()).unwrap();
    let mut count = 0;
    for (name, entry) in &index {
        let op = entry["op"].as_str().unwrap();
        if !matches!(op, "RNN" | "LSTM" | "GRU") && !op.ends_with("Cell") && !op.ends_with("Loss") {
            continue;
        }
        count += 1;
        let attributes = &entry["attrs"];
        let int = |key: &str, default: i64| attributes[key].as_i64().unwrap_or(default);
        let flag = |key: &str, default: bool| attributes[key].as_bool().unwrap_or(default);
        let (hidden, layers) = (int("hidden_size", 0) as usize, int("num_layers", 1) as usize);
        let (both, batch_first) = (flag("bidirectional", false), attributes["layout"] == "NTC");
        let activation = attributes["activation"].as_str().map(|a| a.parse::<Activation>().unwrap());
        macro_rules! layer {
            ($layer:expr) => {
                Case::block(ctx, name, $layer.num_layers(layers).bidirectional(both).batch_first(batch_first))
            };
        }
        macro_rules! cell {
            ($cell:expr, $states:expr) => {{
                let cell = $cell;
                Case::load(ctx, name).check(&cell, &$states, |x| {
                    let states = cell.step(&x[0], &x[1..])?;
                    // The output is the first state; of two head gradients of one tensor MXNet keeps the last only.
                    Ok([states[0].detach()].into_iter().chain(states).collect())
                });
            }};
        }
        let from_logits = |default| flag("from_logits", default);
        match op {
            "RNN" => layer!(RNN::new(hidden).activation(activation.unwrap_or(Activation::Relu))),
            "LSTM" => layer!(LSTM::new(hidden)),
            "GRU" => layer!(GRU::new(hidden)),
            "LSTMCell" => cell!(LSTMCell::new(hidden), ["x", "h", "c"]),
            "GRUCell" => cell!(GRUCell::new(hidden), ["x", "h"]),
            "RNNCell" => cell!(RNNCell::new(hidden), ["x", "h"]),
            "L1Loss" => Case::loss(ctx, name, L1Loss::default(), false),
            "HingeLoss" => Case::loss(ctx, name, HingeLoss::default(), false),
            "KLDivLoss" => {
                let loss = KLDivLoss { from_logits: from_logits(true), ..KLDivLoss::default() };
                Case::loss(ctx, name, loss, loss.from_logits);
            }
            "SoftmaxCrossEntropyLoss" => {
                let loss = SoftmaxCrossEntropyLoss {
                    axis: int("axis", -1) as isize,
                    sparse_label: flag("sparse_label", true),
                    from_logits: from_logits(false),
                    ..SoftmaxCrossEntropyLoss::default()
                };
                Case::loss(ctx, name, loss, loss.from_logits);
            }
            other => panic!("{name}: there is no {other} here"),
        }
    }
    assert!(count >= 13, "only {count} samples");
}

/// As MXNet's operator, which writes a γ that is not trained.
fn a_scale_that_is_not_trained_is_one<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.params");
    let layer = BatchNorm::new().in_channels(2).gamma_initializer(initializers::Constant(3.0));
    layer.initialize(initializers::One, ctx).unwrap();
    layer.save_parameters(&path).unwrap();
    let layer = BatchNorm::new().scale(false);
    layer.load_parameters(&path, ctx).unwrap();
    let x = Tensor::from_slice(ctx, &[1.0f32, 2.0, 3.0, 4.0], [2, 2]).unwrap();
    // Passes that are recorded do not disturb each other.
    x.attach_grad().unwrap();
    let both = autograd::record(|| layer.forward(&x)?.add(&layer.forward(&x)?)).unwrap();
    both.backward().unwrap();
    layer.save_parameters(&path).unwrap();
    let plain = BatchNorm::new();
    plain.load_parameters(&path, ctx).unwrap();
    assert_eq!(plain.gamma().data().unwrap().to_vec::<f32>().unwrap(), [1.0; 2]);
    let [a, b] = [&layer, &plain].map(|l| l.forward(&x).unwrap().to_vec::<f32>().unwrap());
    assert_eq!(a, b);
}

fn defaults_of_pytorch_have_its_activation<B: Backend>(ctx: &B) {
    let run = |layer: RNN<B>| {
        layer.initialize(initializers::One, ctx).unwrap();
        layer.collect_params().iter().for_each(|(_, p)| p.data().unwrap().detach().fill(0.5).unwrap());
        layer.forward(&Tensor::ones(ctx, [1, 1, 1], DType::F32).unwrap()).unwrap().asscalar::<f64>().unwrap()
    };
    let sum = 1.5f64;
    assert!((run(RNN::new(1).input_size(1).torch_defaults()) - sum.tanh()).abs() < 1e-6);
    assert!((run(RNN::new(1).input_size(1).torch_defaults().activation(Activation::Relu)) - sum).abs() < 1e-6);
    assert!((run(RNN::new(1).input_size(1)) - sum).abs() < 1e-6);
}

fn a_table_of_positions_is_made_once<B: Backend>(ctx: &B) {
    let layer = PositionalEncoding::default();
    let run = |layer: &PositionalEncoding, positions: usize, units: usize, dtype: DType| {
        let y = layer.forward(&Tensor::zeros(ctx, [1, positions, units], dtype).unwrap()).unwrap();
        assert_eq!(y.dtype(), dtype);
        y.cast(DType::F32).unwrap().to_vec::<f32>().unwrap()
    };
    // Whatever came before, the sum is as of a new layer.
    for (positions, units) in [(6, 4), (3, 4), (8, 4), (8, 2), (3, 4)] {
        for dtype in [DType::F32, DType::F16, DType::F64] {
            let fresh = PositionalEncoding::default();
            assert_eq!(run(&layer.clone(), positions, units, dtype), run(&fresh, positions, units, dtype));
        }
    }
    let long = Tensor::zeros(ctx, [1, 20_000, 64], DType::F32).unwrap();
    let table = PositionalEncoding::table(ctx, 20_000, 64, DType::F32).unwrap();
    layer.forward(&long).unwrap();
    // Afterwards it takes what the sum takes, of which making the table takes several times as much.
    let least = |f: &dyn Fn() -> Tensor<B>| {
        let time = || {
            let start = std::time::Instant::now();
            f();
            start.elapsed()
        };
        (0..5).map(|_| time()).min().unwrap()
    };
    let (later, sum) = (least(&|| layer.forward(&long).unwrap()), least(&|| long.add(&table).unwrap()));
    assert!(later < 2 * sum + std::time::Duration::from_millis(5), "{later:?}, but {sum:?} for the sum");
}

fn a_layer_is_its_cell_step_by_step<B: Backend>(ctx: &B) {
    let (layer, cell) = (GRU::new(3).input_size(2), GRUCell::new(3));
    layer.initialize(initializers::Uniform { scale: 0.7 }, ctx).unwrap();
    for (path, parameter) in cell.collect_params().iter() {
        let from = layer.collect_params().get(&format!("l0_{path}")).unwrap().data().unwrap();
        parameter.set_data(&from).unwrap();
    }
    let x = Tensor::linspace(ctx, -1.0, 1.0, 24, DType::F32).unwrap().reshape([4, 3, 2]).unwrap();
    let (y, last) = layer.forward_with(&x, &layer.begin_state(ctx, 3).unwrap()).unwrap();
    let mut states = cell.begin_state(ctx, 3).unwrap();
    for time in 0..4 {
        states = cell.step(&x.select(0, time).unwrap(), &states).unwrap();
    }
    let expected = states[0].to_vec::<f32>().unwrap();
    for got in [y.select(0, 3).unwrap(), last[0].select(0, 0).unwrap()] {
        assert!(got.to_vec::<f32>().unwrap().iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    assert!(layer.forward_with(&x, &states).is_err());
    assert!(layer.forward(&states[0]).is_err());
}

fn cnn_bn_loads_computes_and_saves_as_in_mxnet<B: Backend>(ctx: &B) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/params");
    let array = |name: &str| isograd_core::format::npy::load(folder.join(name)).unwrap();
    let mut net = Sequential::new();
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
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    net.load_parameters(folder.join("cnn_bn.params"), ctx).unwrap();
    assert_eq!(net.to_string(), index["cnn_bn"]["repr"].as_str().unwrap());
    let y = net.forward(&Tensor::from_host(ctx, &array("cnn_bn_input.npy")).unwrap()).unwrap();
    let expected = array("cnn_bn_output.npy").to_vec::<f32>().unwrap();
    assert!(y.to_vec::<f32>().unwrap().iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    let again = tempfile::tempdir().unwrap();
    let path = again.path().join("again.params");
    net.save_parameters(&path).unwrap();
    assert!(std::fs::read(path).unwrap() == std::fs::read(folder.join("cnn_bn.params")).unwrap());
}

#[test]
fn layers_print_as_in_gluon() {
    type D = Dyn;
    let texts: [(&dyn Parameters<D>, &str); 9] = [
        (
            &LSTM::new(3).num_layers(2).dropout(0.2).bidirectional(true),
            "LSTM(None -> 3, TNC, num_layers=2, dropout=0.2, bidirectional)",
        ),
        (&GRU::new(3).input_size(5), "GRU(5 -> 3, TNC)"),
        (&RNN::new(3), "RNN(None -> 3, TNC)"),
        (&Embedding::new(10, 4), "Embedding(10 -> 4, float32)"),
        (&LayerNorm::new(), "LayerNorm(eps=1e-05, axis=-1, center=True, scale=True, in_channels=0)"),
        (&LeakyReLU::new(0.1), "LeakyReLU(0.1)"),
        (&PReLU::new(), "PReLU(\n\n)"),
        (&SELU, "SELU(\n\n)"),
        (
            &BatchNorm::new().in_channels(3),
            "BatchNorm(axis=1, eps=1e-05, momentum=0.9, fix_gamma=False, use_global_stats=False, in_channels=3)",
        ),
    ];
    for (block, expected) in texts {
        assert_eq!(block.label().unwrap(), expected);
    }
}

on_every_backend! {
    normalization
    recurrent_layers_and_losses
    a_scale_that_is_not_trained_is_one
    defaults_of_pytorch_have_its_activation
    a_table_of_positions_is_made_once
    a_layer_is_its_cell_step_by_step
    cnn_bn_loads_computes_and_saves_as_in_mxnet
}
