//! Networks and training against what MXNet computed. To add a network: its files in `golden/params`, its structure here.

use isograd_core::{
    Backend, Result, Tensor, autograd,
    format::{HostArray, npy},
};
use isograd_nn::{
    Activation, AvgPool2D, BatchNorm, Block, Conv2D, Dense, Embedding, Flatten, GRU, GlobalAvgPool2D, LSTM,
    LoadOptions, MaxPool2D, Parameter, Parameters, SaveOptions, Sequential, Trainer,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    naming,
    optimizer::SGD,
};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn array(name: &str) -> HostArray {
    npy::load(path(&format!("{name}.npy"))).unwrap()
}

fn tensor<B: Backend>(ctx: &B, name: &str) -> Tensor<B> {
    Tensor::from_host(ctx, &array(name)).unwrap()
}

fn assert_close<B: Backend>(what: &str, got: &Tensor<B>, expected: &[f32], bound: f32) {
    let got = got.to_vec::<f32>().unwrap();
    assert_eq!(got.len(), expected.len(), "{what}");
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= bound, "{what}: differs by {worst}");
}

fn mlp<B: Backend>(hidden: usize, outputs: usize) -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(Dense::new(hidden).activation(Activation::Relu)).add(Dense::new(outputs));
    net
}

fn lenet<B: Backend>() -> Sequential<B> {
    let sigmoid = Activation::Sigmoid;
    let mut net = Sequential::new();
    net.add(Conv2D::new(6, 5).padding(2).activation(sigmoid))
        .add(AvgPool2D::new(2).strides(2))
        .add(Conv2D::new(16, 5).activation(sigmoid))
        .add(AvgPool2D::new(2).strides(2))
        .add(Dense::new(120).activation(sigmoid))
        .add(Dense::new(84).activation(sigmoid))
        .add(Dense::new(10));
    net
}

fn shared<B: Backend>() -> Sequential<B> {
    let relu = |layer: Dense<B>| layer.activation(Activation::Relu);
    let second = relu(Dense::new(8));
    let third = relu(Dense::new(8)).share(&second);
    let mut net = Sequential::new();
    net.add(relu(Dense::new(8))).add(second).add(third).add(Dense::new(10));
    net
}

fn lenet_maxpool<B: Backend>() -> Sequential<B> {
    let relu = Activation::Relu;
    let mut net = Sequential::new();
    net.add(Conv2D::new(4, 3).activation(relu))
        .add(MaxPool2D::new(2).strides(2))
        .add(Conv2D::new(6, 3).activation(relu))
        .add(MaxPool2D::new(2).strides(2))
        .add(Dense::new(12).activation(relu))
        .add(Dense::new(10));
    net
}

fn cnn_bn<B: Backend>() -> Sequential<B> {
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
    net
}

#[derive(Parameters)]
struct Residual<B: Backend> {
    scale: Parameter<B>,
    conv1: Conv2D<B>,
    bn: BatchNorm<B>,
    body: Sequential<B>,
    fc: Dense<B>,
}

impl<B: Backend> Residual<B> {
    fn new() -> Self {
        let mut body = Sequential::new();
        body.add(Conv2D::new(4, 3).padding(1).activation(Activation::Relu)).add(BatchNorm::new().scale(false));
        let scale = Parameter::new("residual0_scale", &[Some(1)]);
        Residual { scale, conv1: Conv2D::new(4, 3).padding(1), bn: BatchNorm::new(), body, fc: Dense::new(3) }
    }
}

impl<B: Backend> Block<B> for Residual<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let y = self.bn.forward(&self.conv1.forward(x)?)?.relu()?;
        self.fc.forward(&y.add(&self.body.forward(&y)?.mul(&self.scale.data()?)?)?.relu()?)
    }
}

fn lstm_seq<B: Backend>() -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(LSTM::new(7).num_layers(2).bidirectional(true)).add(Dense::new(5).flatten(false));
    net
}

fn gru_seq<B: Backend>() -> Sequential<B> {
    let mut net = Sequential::new();
    net.add(Embedding::new(12, 6)).add(GRU::new(7)).add(Dense::new(12).flatten(false));
    net
}

fn check_output<B: Backend>(ctx: &B, name: &str, net: &impl Block<B>) {
    let output = net.forward(&tensor(ctx, &format!("params/{name}_input"))).unwrap();
    assert_close(name, &output, &array(&format!("params/{name}_output")).to_vec::<f32>().unwrap(), 1e-5);
}

fn check_bytes(name: &str, save: impl FnOnce(&std::path::Path) -> Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.params");
    save(&again).unwrap();
    let (again, given) =
        (std::fs::read(again).unwrap(), std::fs::read(path(&format!("params/{name}.params"))).unwrap());
    assert!(again == given, "{name}: the saved file differs");
}

/// Output within 1e-5 after loading, and the same file, to the byte, after saving.
fn check_file<B: Backend>(ctx: &B, name: &str, net: impl Block<B>, options: SaveOptions) {
    net.load_parameters(path(&format!("params/{name}.params")), ctx).unwrap();
    check_output(ctx, name, &net);
    check_bytes(name, |again| net.save_parameters_with(again, options));
}

fn networks_load_compute_and_save_as_in_mxnet<B: Backend>(ctx: &B) {
    let all = SaveOptions::default();
    check_file(ctx, "mlp", mlp(256, 10), all);
    check_file(ctx, "lenet_avgpool", lenet(), all);
    check_file(ctx, "lenet_maxpool", lenet_maxpool(), all);
    check_file(ctx, "cnn_bn", cnn_bn(), all);
    check_file(ctx, "shared", shared(), all);
    check_file(ctx, "shared_dedup", shared(), SaveOptions { deduplicate: true });
    check_file(ctx, "residual_block", Residual::new(), all);
    check_file(ctx, "lstm_seq", lstm_seq(), all);
    check_file(ctx, "gru_seq", gru_seq(), all);
}

/// The weights of `cnn_bn` by Gluon's names and by those of an exported network.
fn full_names_load_and_save_as_in_mxnet<B: Backend>(ctx: &B) {
    // On a thread of its own, where layers are counted from 0.
    let fresh = || {
        let ctx = ctx.clone();
        move || {
            let file = |name: &str| path(&format!("params/{name}.params"));
            let net = cnn_bn();
            net.load_parameters(file("cnn_bn_paramdict"), &ctx).unwrap();
            check_output(&ctx, "cnn_bn", &net);
            check_bytes("cnn_bn_paramdict", |again| net.collect_params().save(again, ""));

            // By names of other numbers, as the second network of a process has them.
            let second = cnn_bn();
            second.load_parameters(file("cnn_bn_export-0000"), &ctx).unwrap();
            check_output(&ctx, "cnn_bn", &second);
            check_bytes("cnn_bn_export-0000", |again| net.collect_params().export(again));

            // Without a prefix in the file that the names here have.
            let scoped = naming::scope("model_", cnn_bn);
            scoped.collect_params().load(file("cnn_bn_paramdict"), &ctx, LoadOptions::default(), "model_").unwrap();
            check_output(&ctx, "cnn_bn", &scoped);
            check_bytes("cnn_bn_paramdict", |again| scoped.collect_params().save(again, "model_"));
            assert!(scoped.collect_params().save("never", "other_").unwrap_err().to_string().contains("other_"));
        }
    };
    std::thread::spawn(fresh()).join().unwrap();
}

/// Trains on rows `[offset, offset + batch)` in turn and compares the mean loss before every step.
fn train<B: Backend>(ctx: &B, name: &str, net: &Sequential<B>, run: &str, batch: usize, optimizer: SGD) {
    let (x, y) = (tensor(ctx, &format!("traces/{name}_x")), tensor(ctx, &format!("traces/{name}_y")));
    let expected = array(&format!("traces/{run}_loss")).to_vec::<f32>().unwrap();
    let mut trainer = Trainer::new(net.collect_params(), optimizer).unwrap();
    for (step, expected) in expected.iter().enumerate() {
        let offset = batch * (step % (x.shape()[0] / batch));
        let (x, y) = (x.narrow(0, offset, batch).unwrap(), y.narrow(0, offset, batch).unwrap());
        let loss = autograd::record(|| SoftmaxCrossEntropyLoss::default().loss(&net.forward(&x)?, &y)).unwrap();
        assert_close(&format!("{run}, loss {step}"), &loss.mean((), false).unwrap(), &[*expected], 1e-4);
        loss.backward().unwrap();
        trainer.step(batch).unwrap();
        let first = path(&format!("traces/{run}_step1_w1.npy"));
        if step == 0 && first.exists() {
            let expected = npy::load(first).unwrap().to_vec::<f32>().unwrap();
            let weight = net.collect_params().get("1.weight").unwrap().data().unwrap();
            assert_close(&format!("{run}, first step"), &weight, &expected, 1e-6);
        }
    }
}

fn train_mlp<B: Backend>(ctx: &B, run: &str, optimizer: SGD) {
    let places = [("0.weight", "w0"), ("0.bias", "b0"), ("1.weight", "w1"), ("1.bias", "b1")];
    let net = mlp(32, 5);
    let parameters = net.collect_params();
    for (place, file) in places {
        parameters.get(place).unwrap().set_data(&tensor(ctx, &format!("traces/mlp_init_{file}"))).unwrap();
    }
    train(ctx, "mlp", &net, run, 16, optimizer);
    for (place, file) in places {
        let expected = array(&format!("traces/{run}_final_{file}")).to_vec::<f32>().unwrap();
        assert_close(place, &parameters.get(place).unwrap().data().unwrap(), &expected, 1e-3);
    }
}

fn sgd_trains_as_in_mxnet<B: Backend>(ctx: &B) {
    train_mlp(ctx, "mlp_sgd", SGD::new(0.1));
}

fn sgd_with_momentum_and_decay_trains_as_in_mxnet<B: Backend>(ctx: &B) {
    train_mlp(ctx, "mlp_sgd_mom_wd", SGD::new(0.1).momentum(0.9).weight_decay(1e-4));
}

fn a_lenet_trains_as_in_mxnet<B: Backend>(ctx: &B) {
    let (net, expected) = (lenet(), lenet());
    net.load_parameters(path("traces/lenet_avgpool_init.params"), ctx).unwrap();
    expected.load_parameters(path("traces/lenet_avgpool_final.params"), ctx).unwrap();
    train(ctx, "lenet_avgpool", &net, "lenet_avgpool", 8, SGD::new(0.9));
    check_final(ctx, "lenet_avgpool", &net, &expected);
}

/// Parameters, running statistics among them, and the output at the end.
fn check_final<B: Backend>(ctx: &B, name: &str, net: &Sequential<B>, expected: &Sequential<B>) {
    for (place, parameter) in net.collect_params().iter() {
        let expected = expected.collect_params().get(place).unwrap().data().unwrap().to_vec::<f32>().unwrap();
        assert_close(&format!("{name}, {place}"), &parameter.data().unwrap(), &expected, 1e-3);
    }
    let output = net.forward(&tensor(ctx, &format!("traces/{name}_x"))).unwrap();
    let expected = array(&format!("traces/{name}_final_output")).to_vec::<f32>().unwrap();
    assert_close("final output", &output, &expected, 1e-3);
}

fn a_network_with_batch_normalization_trains_as_in_mxnet<B: Backend>(ctx: &B) {
    let (net, expected) = (cnn_bn(), cnn_bn());
    net.load_parameters(path("traces/cnn_bn_init.params"), ctx).unwrap();
    expected.load_parameters(path("traces/cnn_bn_final.params"), ctx).unwrap();
    train(ctx, "cnn_bn", &net, "cnn_bn", 8, SGD::new(0.05).momentum(0.9).weight_decay(1e-4));
    check_final(ctx, "cnn_bn", &net, &expected);
}

on_every_backend! {
    networks_load_compute_and_save_as_in_mxnet
    full_names_load_and_save_as_in_mxnet
    sgd_trains_as_in_mxnet
    sgd_with_momentum_and_decay_trains_as_in_mxnet
    a_lenet_trains_as_in_mxnet
    a_network_with_batch_normalization_trains_as_in_mxnet
}
