//! The container and the layer of the examples, written with public API alone, against the library's own.
#![cfg(feature = "cpu")]

#[path = "../examples/custom_layer/my_dense.rs"]
mod my_dense;
#[path = "../examples/custom_block/my_sequential.rs"]
mod my_sequential;

use isograd::{Cpu, prelude::*};
use isograd_reference::Reference;
use my_dense::{CenteredLayer, MyDense};
use my_sequential::MySequential;

/// Output, gradients and weights after three steps.
fn trained<B: Backend>(net: &impl Block<B>, ctx: &B) -> Vec<Vec<f32>> {
    seed(5);
    let x = Tensor::normal(ctx, [6, 4], 0.0, 1.0, DType::F32).unwrap();
    net.initialize(Xavier::default(), ctx).unwrap();
    let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.01)).unwrap();
    let mut seen = vec![];
    for _ in 0..3 {
        let y = autograd::record(|| net.forward(&x)?.square()).unwrap();
        y.backward().unwrap();
        seen.push(y.to_vec().unwrap());
        seen.extend(net.collect_params().iter().map(|(_, p)| p.grad().unwrap().to_vec().unwrap()));
        trainer.step(6).unwrap();
    }
    seen.extend(net.state_dict().unwrap().iter().map(|(_, t)| t.to_vec().unwrap()));
    seen
}

fn equal_to_the_librarys<B: Backend>(ctx: &B) {
    let mine = MySequential::new(vec![Box::new(MyDense::new(5).relu()), Box::new(MyDense::new(2))]);
    let mut theirs = Sequential::new();
    theirs.add(Dense::new(5).activation(Activation::Relu)).add(Dense::new(2));
    assert_eq!(mine.collect_params().paths(), theirs.collect_params().paths());
    assert_eq!(trained(&mine, ctx), trained(&theirs, ctx));
    assert!(mine.collect_params().names()[0].starts_with("mydense"));
    let narrow = Tensor::ones(ctx, [1, 3], DType::F32).unwrap();
    for net in [&mine as &dyn Block<B>, &theirs] {
        let error = net.forward(&narrow).unwrap_err();
        assert!(matches!(&error, Error::Parameter { .. }) && error.to_string().contains("(at 0.weight)"), "{error}");
    }
}

#[test]
fn a_container_and_a_layer_equal_those_of_the_library() {
    equal_to_the_librarys(&Reference);
    equal_to_the_librarys(&Cpu::default());
    equal_to_the_librarys(&Dyn::new(Cpu::default()));
}

#[test]
fn a_layer_without_parameters_runs_anywhere() {
    let ctx = device("cpu").unwrap();
    let y = CenteredLayer.forward(&Tensor::from_slice(&ctx, &[1.0f32, 3.0], [2]).unwrap()).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [-1.0, 1.0]);
}
