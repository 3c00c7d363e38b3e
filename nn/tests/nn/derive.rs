//! `#[derive(Parameters)]` on every kind of struct.

use isograd_core::{Backend, DType, Dyn, Result, Tensor};
use isograd_nn::{
    Activation, Block, Constant, Conv2D, Dense, Parameter, Parameters, Sequential, describe, initializers::One,
};
use isograd_reference::Reference;
use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    sync::Arc,
};

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

/// A layer that is one of several.
#[derive(Parameters)]
enum Choice<B: Backend> {
    Linear(Dense<B>),
    Image { conv: Conv2D<B>, width: usize },
    Skip(#[parameters(skip)] std::time::Duration, Option<Dense<B>>),
    Nothing,
}

impl<B: Backend> Block<B> for Choice<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        match self {
            Choice::Linear(layer) => layer.forward(x),
            Choice::Image { conv, .. } => conv.forward(x),
            Choice::Skip(since, Some(layer)) if since.is_zero() => layer.forward(x),
            Choice::Skip(..) | Choice::Nothing => Ok(x.clone()),
        }
    }
}

#[derive(Parameters)]
enum Never {}

#[derive(Parameters)]
struct Collections<'a, B: Backend, K: Ord + ToString> {
    pair: (Dense<B>, (usize, Dense<B>)),
    ordered: BTreeMap<K, Dense<B>>,
    hashed: HashMap<String, Arc<dyn Block<B>>>,
    borrowed: &'a Dense<B>,
    constant: Constant<B>,
    text: &'static str,
    #[parameters(skip)]
    _key: PhantomData<K>,
}

#[test]
fn enums_show_the_variant_at_hand() {
    let choices: [Choice<Reference>; 5] = [
        Choice::Linear(dense()),
        Choice::Image { conv: Conv2D::new(1, 1), width: 3 },
        Choice::Skip(std::time::Duration::ZERO, Some(dense())),
        Choice::Skip(std::time::Duration::ZERO, None),
        Choice::Nothing,
    ];
    assert!(matches!(choices[1], Choice::Image { width: 3, .. }));
    let paths: Vec<String> = choices.iter().map(|c| c.collect_params().paths().join(" ")).collect();
    assert_eq!(paths, ["0.weight", "conv.weight conv.bias", "1.weight", "", ""]);
    assert_eq!(choices[1].label().unwrap(), "Choice::Image");
    let net: Sequential<Reference> = choices.into_iter().filter(|c| !matches!(c, Choice::Image { .. })).collect();
    net.initialize(One, &Reference).unwrap();
    let y = net.forward(&Tensor::ones(&Reference, [1, 2], DType::F32).unwrap()).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [4.0, 4.0]);
    assert!(net.to_string().contains("(0): Choice::Linear(\n    (0): Dense(2 -> 2, linear)"), "{net}");
    let never: Option<Never> = None;
    assert!(never.collect_params().is_empty());
}

#[test]
fn collections_are_visited_in_order() {
    let lent = dense();
    let hashed = ["b", "c", "a"].map(|key| (key.to_string(), Arc::new(dense()) as Arc<dyn Block<Reference>>));
    let net = Collections {
        pair: (dense(), (1, dense())),
        ordered: BTreeMap::from([(10, dense()), (2, dense())]),
        hashed: HashMap::from(hashed),
        borrowed: &lent,
        constant: Constant::new("c", &[1.0f32], [1]).unwrap(),
        text: "x",
        _key: PhantomData,
    };
    assert_eq!((net.pair.1.0, net.text), (1, "x"));
    let paths = [
        "pair.0.weight",
        "pair.1.1.weight",
        "ordered.2.weight",
        "ordered.10.weight",
        "hashed.a.weight",
        "hashed.b.weight",
        "hashed.c.weight",
        "borrowed.weight",
        "constant",
    ];
    assert_eq!(net.collect_params().paths(), paths);
    assert!(net.get_constant().is(&net.constant));
}

impl<K: Ord + ToString> Collections<'_, Reference, K> {
    fn get_constant(&self) -> Parameter<Reference> {
        self.collect_params()["constant"].clone()
    }
}
