//! `#[derive(Parameters)]` on every kind of struct.

use isograd_core::{Backend, DType, Dyn, Result, Tensor};
use isograd_nn::{Activation, Block, Conv2D, Dense, Parameter, Parameters, Sequential, describe, initializers::One};
use isograd_reference::Reference;
use std::{marker::PhantomData, sync::Arc};

#[derive(Parameters)]
struct Named<B: Backend> {
    scale: Parameter<B>,
    conv: Conv2D<B>,
    body: Sequential<B>,
    many: Vec<Dense<B>>,
    some: Option<Dense<B>>,
    none: Option<Dense<B>>,
    array: [Dense<B>; 2],
    boxed: Box<dyn Block<B>>,
    counted: Arc<Dense<B>>,
    width: usize,
    r#type: &'static str,
    #[parameters(skip)]
    skipped: std::time::Duration,
}

#[derive(Parameters)]
struct Tuple<Device: Backend>(Dense<Device>, f32, Vec<Box<dyn Block<Device>>>);

/// The backend in a where clause, another generic block, a constant and a lifetime.
#[derive(Parameters)]
struct Generic<'a, T, D, const N: usize>
where
    D: Backend,
    T: Block<D>,
{
    inner: T,
    layers: [Dense<D>; N],
    #[parameters(skip)]
    _name: &'a str,
    marker: PhantomData<D>,
}

/// A generic field without any bound.
#[derive(Parameters)]
struct Wrapper<B: Backend, T>(T, PhantomData<B>);

#[derive(Parameters)]
struct OfDyn {
    layer: Dense,
}

#[derive(Parameters)]
#[parameters(backend = Reference)]
struct OfReference {
    layer: Dense<Reference>,
}

#[derive(Parameters)]
#[parameters(backend = A)]
struct OfTwo<A: Backend, C: Backend> {
    layer: Dense<A>,
    #[parameters(skip)]
    _other: Dense<C>,
}

#[derive(Parameters)]
struct Unit;

fn dense<B: Backend>() -> Dense<B> {
    Dense::new(2).use_bias(false)
}

#[test]
fn every_field_is_visited_under_its_path() {
    let mut body = Sequential::new();
    body.add(dense()).add(Activation::Relu).add(Dense::new(1));
    let net: Named<Reference> = Named {
        scale: Parameter::new("scale", &[Some(1)]),
        conv: Conv2D::new(1, 3),
        body,
        many: vec![dense(), dense()],
        some: Some(dense()),
        none: None,
        array: [dense(), dense()],
        boxed: Box::new(dense()),
        counted: Arc::new(dense()),
        width: 3,
        r#type: "x",
        skipped: std::time::Duration::ZERO,
    };
    assert_eq!((net.width, net.r#type, net.skipped.as_secs()), (3, "x", 0));
    let paths = [
        "scale",
        "conv.weight",
        "conv.bias",
        "body.0.weight",
        "body.2.weight",
        "body.2.bias",
        "many.0.weight",
        "many.1.weight",
        "some.weight",
        "array.0.weight",
        "array.1.weight",
        "boxed.weight",
        "counted.weight",
    ];
    assert_eq!(net.collect_params().paths(), paths);
    assert!(net.none.is_none());
    let text = describe(&net);
    assert!(text.starts_with("Named(\n  (conv): Conv2D(None -> 1"), "{text}");
    assert!(text.contains("  (body): Sequential(\n    (0): Dense(None -> 2, linear)\n"), "{text}");
    assert!(text.contains("  (many.1): Dense"), "{text}");
}

#[test]
fn tuple_structs_and_other_names_of_the_backend() {
    let net: Tuple<Reference> = Tuple(dense(), 0.5, vec![Box::new(dense()), Box::new(Activation::Tanh)]);
    assert_eq!(net.1, 0.5);
    assert_eq!(net.collect_params().paths(), ["0.weight", "2.0.weight"]);
}

#[test]
fn generics_of_all_kinds() {
    let inner: Sequential<Reference> = Sequential::new();
    let net = Generic { inner, layers: [dense()], _name: "x", marker: PhantomData::<Reference> };
    assert_eq!(net.collect_params().paths(), ["layers.0.weight"]);
    let wrapped: Wrapper<Reference, Option<Dense<Reference>>> = Wrapper(Some(dense()), PhantomData);
    assert_eq!(wrapped.collect_params().paths(), ["0.weight"]);
}

#[test]
fn structs_of_one_backend() {
    let paths = |p: isograd_nn::ParameterDict<Reference>| p.paths().join(" ");
    assert_eq!(OfDyn { layer: dense() }.collect_params().paths(), ["layer.weight"]);
    let _: isograd_nn::ParameterDict<Dyn> = OfDyn { layer: dense() }.collect_params();
    assert_eq!(paths(OfReference { layer: dense() }.collect_params()), "layer.weight");
    assert_eq!(paths(OfTwo { layer: dense(), _other: dense::<Dyn>() }.collect_params()), "layer.weight");
    assert!(Unit.collect_params().is_empty());
}

#[test]
fn a_derived_block_runs_with_control_flow_of_its_own() {
    #[derive(Parameters)]
    struct Loop<B: Backend> {
        layer: Dense<B>,
        times: usize,
    }
    impl<B: Backend> Block<B> for Loop<B> {
        fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
            (0..self.times).try_fold(x.clone(), |x, _| self.layer.forward(&x))
        }
    }
    let net = Loop { layer: Dense::new(2), times: 3 };
    net.initialize(One, &Reference).unwrap();
    let y = net.forward(&Tensor::ones(&Reference, [1, 2], DType::F32).unwrap()).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [8.0, 8.0]);
    let nested: Box<dyn Block<Reference>> = Box::new(net);
    assert_eq!(nested.label().unwrap(), "Loop");
}

#[test]
fn what_cannot_be_derived_says_why() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/derive/*.rs");
}
