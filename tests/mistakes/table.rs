// The table of `mistakes.rs`: to add one, a row.
const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "context_by_value",
        wrong: "net.add(Dense::new(2)); net.initialize(Xavier::default(), ctx)?;",
        says: &["is no context of backend", "consider borrowing here", "&ctx"],
        right: "net.add(Dense::new(2)); net.initialize(Xavier::default(), &ctx)?;",
    },
    Mistake {
        name: "layer_of_no_backend",
        wrong: r#"let layer = Dense::new(2); println!("{layer}");"#,
        says: &["type annotations needed", "Dense<"],
        right: r#"let layer: Dense = Dense::new(2); println!("{layer}");"#,
    },
    Mistake {
        name: "moved_operand",
        wrong: "let y = x * 2.0; let z = x + 1.0;",
        says: &["use of moved value: `x`"],
        right: "let y = &x * 2.0; let z = &x + 1.0;",
    },
    Mistake {
        name: "forgotten_question_mark",
        wrong: "net.add(Dense::new(2)); net.forward(&x).backward()?;",
        says: &["no method named `backward`", "`?`"],
        right: "net.add(Dense::new(2)); net.forward(&x)?.backward()?;",
    },
    Mistake {
        name: "factor_of_f32",
        wrong: "let rate = 0.1f32; let y = &x * rate;",
        says: &["cannot multiply `&isograd::Tensor", "by `f32`", "f64"],
        right: "let rate = 0.1; let y = &x * rate;",
    },
    Mistake {
        name: "divided_by_usize",
        wrong: "let count: usize = 3; let y = &x / count;",
        says: &["cannot divide", "by `usize`"],
        right: "let count: usize = 3; let y = &x / count as f64;",
    },
    Mistake {
        name: "block_without_parameters",
        wrong: r#"struct Net { layer: Dense }
impl Block for Net { fn forward(&self, x: &Tensor) -> Result<Tensor> { self.layer.forward(x) } }"#,
        says: &["`Net` is not known to hold parameters", "derive or implement `Parameters`"],
        right: r#"#[derive(Parameters)]
struct Net { layer: Dense }
impl Block for Net { fn forward(&self, x: &Tensor) -> Result<Tensor> { self.layer.forward(x) } }"#,
    },
    Mistake {
        name: "field_of_another_kind",
        wrong: r#"#[derive(Parameters)]
struct Net { layer: Dense, since: std::time::Instant }"#,
        says: &["`Instant` is not known to hold parameters", "#[parameters(skip)]"],
        right: r#"#[derive(Parameters)]
struct Net { layer: Dense, #[parameters(skip)] since: std::time::Instant }"#,
    },
    Mistake {
        name: "generic_net_of_layers_without_b",
        wrong: r#"#[derive(Parameters)]
struct Net<B: Backend> { layer: Dense, scale: Parameter<B> }"#,
        says: &["is not known to hold parameters of backend `B`"],
        right: r#"#[derive(Parameters)]
struct Net<B: Backend> { layer: Dense<B>, scale: Parameter<B> }"#,
    },
    Mistake {
        name: "immutable_container",
        wrong: "let net = Sequential::new(); net.add(Dense::new(2)); net.initialize(Xavier::default(), &ctx)?;",
        says: &["cannot borrow `net` as mutable", "mut "],
        right: "let mut net = Sequential::new(); net.add(Dense::new(2)); net.initialize(Xavier::default(), &ctx)?;",
    },
    Mistake {
        name: "weight_of_any_block",
        wrong: "net.add(Dense::new(2)); let weight = net[0].weight();",
        says: &["no method named `weight`"],
        right: "net.add(Dense::new(2)); let weight = net[0].downcast::<Dense>()?.weight();",
    },
    Mistake {
        name: "called_like_a_function",
        wrong: "let y = net(&x);",
        says: &["expected function, found `isograd::nn::Sequential`"],
        right: "let y = net.call(&x)?;",
    },
    Mistake {
        name: "step_without_batch_size",
        wrong: "net.add(Dense::new(2)); Trainer::new(net.collect_params(), SGD::new(0.1))?.step()?;",
        says: &["takes 1 argument", "`usize`"],
        right: "net.add(Dense::new(2)); Trainer::new(net.collect_params(), SGD::new(0.1))?.step(32)?;",
    },
    Mistake {
        name: "two_results_of_record",
        wrong: "let (y, z) = autograd::record(|| { let y = net.forward(&x)?; Ok((y.square()?, y)) })?;",
        says: &["type annotations needed"],
        right: "let (y, z) = autograd::try_record(|| { let y = net.forward(&x)?; Ok((y.square()?, y)) })?;",
    },
    Mistake {
        name: "main_without_result",
        wrong: r#"fn train() { let ctx = device("cpu")?; }"#,
        says: &["the `?` operator can only be used in a function that returns `Result`"],
        right: r#"fn train() -> Result<()> { let ctx = device("cpu")?; Ok(()) }"#,
    },
    Mistake {
        name: "trait_that_is_not_in_the_prelude",
        wrong: "use isograd::nn::data::vision::{Cast, ToTensor}; let both = ToTensor.then(Cast(DType::F16));",
        says: &["no method named `then`", "use isograd::nn::data::Transform;"],
        right: "use isograd::nn::data::{Transform, vision::{Cast, ToTensor}}; let both = ToTensor.then(Cast(DType::F16));",
    },
    Mistake {
        name: "name_of_an_activation",
        wrong: "net.add(Dense::new(2).activation(Activation::ReLU));",
        says: &["no variant", "`ReLU`", "Relu"],
        right: "net.add(Dense::new(2).activation(Activation::Relu));",
    },
    Mistake {
        name: "activation_as_text",
        wrong: r#"net.add(Dense::new(2).activation("relu"));"#,
        says: &["expected `Activation`, found `&str`"],
        right: r#"net.add(Dense::new(2).activation("relu".parse()?));"#,
    },
    Mistake {
        name: "options_as_arguments",
        wrong: "net.add(Dense::new(2, Activation::Relu));",
        says: &["takes 1 argument but 2"],
        right: "net.add(Dense::new(2).activation(Activation::Relu));",
    },
    Mistake {
        name: "input_by_value",
        wrong: "let y = net.forward(x)?;",
        says: &["expected `&Tensor`", "consider borrowing here"],
        right: "let y = net.forward(&x)?;",
    },
    Mistake {
        name: "metric_by_its_trait",
        wrong: "let accuracy = Accuracy::default(); let value = Metric::value(&accuracy);",
        says: &["type annotations needed"],
        right: "let accuracy = Accuracy::default(); let value = accuracy.value();",
    },
    Mistake {
        name: "window_of_another_rank",
        wrong: "net.add(MaxPool2D::new((2, 2, 2)));",
        says: &["Spatial<2>", "is not satisfied"],
        right: "net.add(MaxPool2D::new((2, 2)));",
    },
];
