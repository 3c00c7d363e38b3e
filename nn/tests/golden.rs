//! Networks and training against what MXNet computed. To add a network: its files in `golden/params`, its structure here.

mod common;

use isograd_core::{
    Backend, Tensor, autograd,
    format::{HostArray, npy},
};
use isograd_nn::{
    Activation, AvgPool2D, Block, Conv2D, Dense, Parameters, Sequential, Trainer,
    loss::{Loss, SoftmaxCrossEntropyLoss},
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

/// Output within 1e-5 after loading, and the same file, to the byte, after saving.
fn check_file<B: Backend>(ctx: &B, name: &str, net: Sequential<B>) {
    let file = path(&format!("params/{name}.params"));
    net.load_parameters(&file, ctx).unwrap();
    let output = net.forward(&tensor(ctx, &format!("params/{name}_input"))).unwrap();
    assert_close(name, &output, &array(&format!("params/{name}_output")).to_vec::<f32>().unwrap(), 1e-5);

    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.params");
    net.save_parameters(&again).unwrap();
    assert!(std::fs::read(again).unwrap() == std::fs::read(file).unwrap(), "{name}: the saved file differs");
}

fn an_mlp_loads_computes_and_saves_as_in_mxnet<B: Backend>(ctx: &B) {
    check_file(ctx, "mlp", mlp(256, 10));
}

fn a_lenet_loads_computes_and_saves_as_in_mxnet<B: Backend>(ctx: &B) {
    check_file(ctx, "lenet_avgpool", lenet());
}

fn shared_parameters_load_compute_and_save_as_in_mxnet<B: Backend>(ctx: &B) {
    check_file(ctx, "shared", shared());
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
    for (place, parameter) in net.collect_params().iter() {
        let expected = expected.collect_params().get(place).unwrap().data().unwrap().to_vec::<f32>().unwrap();
        assert_close(place, &parameter.data().unwrap(), &expected, 1e-3);
    }
    let output = net.forward(&tensor(ctx, "traces/lenet_avgpool_x")).unwrap();
    let expected = array("traces/lenet_avgpool_final_output").to_vec::<f32>().unwrap();
    assert_close("final output", &output, &expected, 1e-3);
}

on_every_backend! {
    an_mlp_loads_computes_and_saves_as_in_mxnet
    shared_parameters_load_compute_and_save_as_in_mxnet
    a_lenet_loads_computes_and_saves_as_in_mxnet
    sgd_trains_as_in_mxnet
    sgd_with_momentum_and_decay_trains_as_in_mxnet
    a_lenet_trains_as_in_mxnet
}
