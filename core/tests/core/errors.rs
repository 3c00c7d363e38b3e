//! Every variant of [`Error`], provoked through the public interface: its fields, and that its text names the operator, the
//! shapes, the dtypes and the device, and tells the way out.
//!
//! To add one: a row in `provoked`. A variant without a row fails `every_variant_is_provoked`.

use super::common::device::Numbered;
use isograd_core::{
    Backend, Backward, DType, Dyn, Error, Expr, Result, Tensor, autograd,
    format::npz,
    operators::{ConvOptions, Fused, Index, PadMode, PoolOptions, TakeMode},
};
use isograd_reference::Reference;

/// Variants that core defines for the crates above it, where they are provoked: device names belong to the façade,
/// parameters, samples and the threads that load them to nn.
const ELSEWHERE: &[&str] = &["UnknownDevice", "Uninitialized", "Parameter", "Sample", "Panicked"];

fn ones(shape: &[usize]) -> Tensor<Reference> {
    Tensor::ones(&Reference, shape, DType::F32).unwrap()
}

fn variable(values: &[f64]) -> Tensor<Reference> {
    let x = Tensor::from_slice(&Reference, values, [values.len()]).unwrap();
    x.attach_grad().unwrap();
    x
}

fn failed<T>(result: Result<T>) -> Error {
    result.err().expect("an error was expected")
}

macro_rules! names {
    ($($variant:ident)*) => {
        /// The name of a variant.
        fn name(e: &Error) -> &'static str {
            match e {
                $(Error::$variant { .. } => stringify!($variant),)*
                _ => "a variant without a row",
            }
        }
    };
}
names! {
    ShapeMismatch InvalidShape DTypeMismatch UnsupportedDType DeviceMismatch AxisOutOfRange DuplicateAxis IndexOutOfRange
    ScalarOutOfRange InvalidArgument InvalidExpr GraphConsumed NotRecorded HeadGradient NoGradient Unreachable
    InPlaceOnRecorded SavedTensorModified NotDifferentiable File Io OutOfMemory Backend
}

/// One error of each variant, and what its text must contain.
fn provoked() -> Vec<(&'static str, Error, Vec<&'static str>)> {
    let (x, y) = (ones(&[2, 3]), ones(&[4]));
    let there = Numbered::new(1);
    vec![
        ("ShapeMismatch", failed(x.add(&y)), vec!["add", "(2, 3)", "(4,)", "must be equal or 1", "reference"]),
        ("InvalidShape", failed(x.reshape([4, -1])), vec!["reshape", "(2, 3)", "6 elements", "[4, -1]", "reference"]),
        (
            "DTypeMismatch",
            failed(x.mul(&x.cast(DType::F64).unwrap())),
            vec!["mul", "float32", "float64", "reference", ".cast(DType::"],
        ),
        (
            "UnsupportedDType",
            failed(x.cast(DType::I32).unwrap().exp()),
            vec!["exp", "int32", "reference", "x.cast(DType::F32)"],
        ),
        (
            "DeviceMismatch",
            failed(x.copyto(&there).unwrap().add(&x.copyto(&Numbered::new(2)).unwrap())),
            vec!["add", "numbered:1", "numbered:2", ".as_in_context(&ctx)"],
        ),
        ("AxisOutOfRange", failed(x.sum(-3, false)), vec!["sum", "-3", "2 axes", "(2, 3)", "-2..2", "reference"]),
        ("DuplicateAxis", failed(x.sum([0, -2], false)), vec!["sum", "axis 0", "twice", "(2, 3)", "reference"]),
        ("IndexOutOfRange", failed(x.select(1, -4)), vec!["select", "-4", "axis 1", "size 3", "reference"]),
        (
            "ScalarOutOfRange",
            failed(x.cast(DType::U8).unwrap().add_scalar(256)),
            vec!["256", "uint8", "cast the tensor first"],
        ),
        ("InvalidArgument", failed(x.slice(0, None, None, 0)), vec!["slice", "step", "0"]),
        (
            "InvalidExpr",
            failed(Fused::new("odd", &[DType::F32, DType::F64], 0, |x, _| &x[0] + &x[1])),
            vec!["odd", "float32", "float64"],
        ),
        ("GraphConsumed", consumed(), vec!["square", "retain_graph: true"]),
        (
            "NotRecorded",
            failed(x.backward()),
            vec!["backward", "attach_grad()", "autograd::record", "(2, 3)", "reference"],
        ),
        ("HeadGradient", wrong_head(), vec!["backward", "(3,)", "(2,)", "reference"]),
        ("NoGradient", failed(x.grad()), vec!["grad", "(2, 3)", "reference", "attach_grad()"]),
        ("Unreachable", unreachable(), vec!["grad", "variable 1", "(1,)", "reference", "autograd::record"]),
        (
            "InPlaceOnRecorded",
            in_place_on_recorded(),
            vec!["fill", "(2,)", "reference", "autograd::pause", "x.detach()"],
        ),
        (
            "SavedTensorModified",
            saved_modified(),
            vec!["square", "(2,)", "reference", "version 0", "now 1", "write after backward", "copy"],
        ),
        (
            "NotDifferentiable",
            failed(autograd::record(|| variable(&[1.0, 2.0]).argmax((), false).unwrap()).backward()),
            vec!["backward", "int64", "()", "reference", "floating"],
        ),
        ("File", failed(npz::from_bytes(b"no archive")), vec!["npz", "at byte 0", "no npz file", "no archive"]),
        ("Io", failed(npz::load("no/such/file.npz")), vec!["open", "no/such/file.npz"]),
        (
            "OutOfMemory",
            failed(Tensor::zeros(&Reference, [1 << 40, 1 << 40], DType::F32)),
            vec!["out of memory", "reference", "(1099511627776, 1099511627776)", "float32"],
        ),
        ("Backend", broken(), vec!["numbered:3", "map", "the device is switched off"]),
    ]
}

fn consumed() -> Error {
    let x = variable(&[1.0, 2.0]);
    let y = autograd::record(|| x.square().unwrap());
    y.backward().unwrap();
    failed(y.backward())
}

fn wrong_head() -> Error {
    let x = variable(&[1.0, 2.0, 3.0]);
    let y = autograd::record(|| x.square().unwrap());
    let head = Tensor::ones(&Reference, [2], DType::F64).unwrap();
    failed(y.backward_with(Backward { head: Some(head), ..Backward::default() }))
}

fn unreachable() -> Error {
    let (x, other) = (variable(&[1.0, 2.0]), variable(&[1.0]));
    let y = autograd::record(|| x.square().unwrap());
    failed(autograd::grad(&[&y], &[&x, &other], &[], false, false))
}

fn in_place_on_recorded() -> Error {
    let x = variable(&[1.0, 2.0]);
    let y = autograd::record(|| x.square().unwrap());
    failed(y.fill(1.0))
}

fn saved_modified() -> Error {
    let x = variable(&[1.0, 2.0]);
    let y = autograd::record(|| x.square().unwrap());
    x.assign_slice(&[3.0, 4.0]).unwrap();
    failed(y.backward())
}

fn broken() -> Error {
    let device = Numbered::new(3);
    let x = Tensor::ones(&device, [2], DType::F32).unwrap();
    device.set_broken(true);
    failed(x.exp())
}

#[test]
fn every_text_says_what_and_where_and_the_way_out() {
    for (variant, error, parts) in provoked() {
        assert_eq!(name(&error), variant, "{error:?}");
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{variant}: {part:?} is not in: {text}");
        }
        // What `unwrap` and a `main` that returns an error show.
        assert_eq!([format!("{error:?}"), format!("{error:#?}")], [text.clone(), text]);
    }
}

#[test]
fn every_variant_is_provoked() {
    // Variants are the lines of the enum that are indented once and open with an upper-case letter.
    let source = include_str!("../../src/error.rs");
    let body = source.split("pub enum Error {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let variants: Vec<&str> = (body.lines())
        .filter_map(|l| l.strip_prefix("    "))
        .filter(|l| l.starts_with(char::is_uppercase))
        .map(|l| l.split(|c: char| !c.is_alphanumeric()).next().unwrap())
        .collect();
    assert!(variants.len() > 20, "{variants:?}");
    let mut covered: Vec<&str> = provoked().iter().map(|p| p.0).chain(ELSEWHERE.iter().copied()).collect();
    let mut variants = variants;
    covered.sort_unstable();
    variants.sort_unstable();
    assert_eq!(covered, variants);
}

#[test]
fn fields_are_what_went_wrong() {
    let (x, y) = (ones(&[2, 3]), ones(&[4]));
    assert!(matches!(failed(x.add(&y)), Error::ShapeMismatch { op: "add", left, right, device, .. }
        if left[..] == [2, 3] && right[..] == [4] && device == "reference"));
    assert!(matches!(failed(x.sum(5, false)), Error::AxisOutOfRange { op: "sum", axis: 5, rank: 2, .. }));
    assert!(matches!(failed(x.mean([1, 0, -1], true)), Error::DuplicateAxis { op: "mean", axis: 1, .. }));
    assert!(matches!(failed(x.select(1, 3)), Error::IndexOutOfRange { op: "select", index: 3, axis: 1, size: 3, .. }));
    assert!(matches!(
        failed(x.matmul(&x.cast(DType::F64).unwrap())),
        Error::DTypeMismatch { op: "matmul", left: DType::F32, right: DType::F64, .. }
    ));
    assert!(matches!(
        failed(Tensor::full(&Reference, [1], 1.5, DType::I32)),
        Error::ScalarOutOfRange { dtype: DType::I32, .. }
    ));
    assert!(matches!(unreachable(), Error::Unreachable { index: 1, .. }));
    assert!(matches!(saved_modified(), Error::SavedTensorModified { op: "square", saved: 0, now: 1, .. }));
    assert!(matches!(consumed(), Error::GraphConsumed { op: "square" }));
    assert!(matches!(
        failed(Tensor::zeros(&Reference, [usize::MAX, 2], DType::F64)),
        Error::OutOfMemory { bytes: usize::MAX, .. }
    ));
    // Sizes with a zero have no elements, however large the others are.
    assert_eq!(Tensor::zeros(&Reference, [usize::MAX, 0], DType::F64).unwrap().size(), 0);
}

/// Every way to misuse an operator gives an error with the operator's own name, on every device alike.
#[test]
fn misuse_names_the_operator() {
    fn check<B: Backend>(ctx: &B) {
        let x = Tensor::ones(ctx, [2, 3], DType::F32).unwrap();
        let image = Tensor::ones(ctx, [1, 2, 4, 4], DType::F32).unwrap();
        let i = x.cast(DType::I64).unwrap();
        let b = x.cast(DType::Bool).unwrap();
        let far = Tensor::from_slice(ctx, &[7i64, 0, 0], [3]).unwrap();
        let sum = Fused::new("sum", &[DType::F32; 2], 0, |x, _| &x[0] + &x[1]).unwrap();
        let pool =
            |kernel: &[usize], padding: usize| PoolOptions { padding: vec![padding], ..PoolOptions::new(kernel) };
        let conv =
            |groups: usize, stride: usize| ConvOptions { groups, stride: vec![stride], ..ConvOptions::default() };
        let cases: Vec<(&str, &str, Error)> = vec![
            ("matmul", "ShapeMismatch", failed(x.matmul(&x))),
            ("matmul", "InvalidShape", failed(x.matmul(&Tensor::scalar(ctx, 1.0f32).unwrap()))),
            ("matmul", "UnsupportedDType", failed(b.matmul(&b))),
            ("matmul_fused", "ShapeMismatch", failed(x.matmul_fused(&x, &sum, &[&x], &[]))),
            ("matmul_fused", "ShapeMismatch", failed(x.matmul_fused(&x.t().unwrap(), &sum, &[&x], &[]))),
            (
                "matmul_fused",
                "ShapeMismatch",
                failed(x.index(&[0.into()]).unwrap().matmul_fused(&x.t().unwrap(), &sum, &[&x], &[])),
            ),
            ("matmul_fused", "UnsupportedDType", failed(b.matmul_fused(&b, &sum, &[&x], &[]))),
            ("sum", "InvalidArgument", failed(x.matmul_fused(&x.t().unwrap(), &sum, &[], &[]))),
            ("sum", "DTypeMismatch", failed(x.matmul_fused(&x.t().unwrap(), &sum, &[&i], &[]))),
            ("dot", "ShapeMismatch", failed(x.dot(&x))),
            ("exp", "UnsupportedDType", failed(i.exp())),
            ("neg", "UnsupportedDType", failed(b.neg())),
            ("logical_and", "UnsupportedDType", failed(x.logical_and(&x))),
            ("where", "UnsupportedDType", failed(x.where_(&x, &x))),
            ("where", "DTypeMismatch", failed(b.where_(&x, &i))),
            ("mean", "UnsupportedDType", failed(i.mean((), false))),
            ("prod", "UnsupportedDType", failed(b.prod((), false))),
            ("max", "InvalidShape", failed(x.narrow(0, 0, 0).unwrap().max(0, false))),
            ("argmin", "InvalidShape", failed(x.narrow(0, 0, 0).unwrap().argmin((), false))),
            ("softmax", "AxisOutOfRange", failed(x.softmax(2))),
            ("softmax", "UnsupportedDType", failed(i.softmax(0))),
            ("cumsum", "AxisOutOfRange", failed(x.cumsum(-3))),
            ("cumsum", "UnsupportedDType", failed(b.cumsum(0))),
            ("transpose", "DuplicateAxis", failed(x.transpose(&[0, 0]))),
            ("transpose", "InvalidShape", failed(x.transpose(&[1]))),
            ("swapaxes", "AxisOutOfRange", failed(x.swapaxes(0, 2))),
            ("expand_dims", "AxisOutOfRange", failed(x.expand_dims(4))),
            ("squeeze", "InvalidShape", failed(x.squeeze(1))),
            ("broadcast_to", "ShapeMismatch", failed(x.broadcast_to([3, 2]))),
            ("reshape", "InvalidShape", failed(x.reshape([-1, -1]))),
            ("reshape", "InvalidShape", failed(x.reshape([isize::MAX, isize::MAX]))),
            ("reshape", "InvalidShape", failed(x.reshape_codes(&[0, 0, 0]))),
            ("slice", "AxisOutOfRange", failed(x.slice(2, None, None, 1))),
            ("narrow", "IndexOutOfRange", failed(x.narrow(1, 2, 2))),
            ("narrow", "IndexOutOfRange", failed(x.narrow(1, usize::MAX, 2))),
            ("index", "InvalidArgument", failed(x.index(&[Index::Ellipsis, Index::Ellipsis]))),
            ("concat", "ShapeMismatch", failed(Tensor::concat(&[&x, &x.t().unwrap()], 0))),
            ("concat", "InvalidArgument", failed(Tensor::<B>::concat(&[], 0))),
            ("concat", "DTypeMismatch", failed(Tensor::concat(&[&x, &i], 0))),
            ("stack", "ShapeMismatch", failed(Tensor::stack(&[&x, &x.t().unwrap()], 0))),
            ("split", "InvalidShape", failed(x.split(2, 1))),
            ("split", "InvalidShape", failed(x.split(0, 1))),
            ("pad", "InvalidShape", failed(x.pad(&[(0, 0), (0, 3)], PadMode::Reflect))),
            ("pad", "InvalidShape", failed(x.pad(&[(0, 0); 3], PadMode::Edge))),
            ("repeat", "AxisOutOfRange", failed(x.repeat(2, 2))),
            ("take", "IndexOutOfRange", failed(x.take(&far, 0, TakeMode::Raise))),
            ("take", "IndexOutOfRange", failed(x.narrow(0, 0, 0).unwrap().take(&far, 0, TakeMode::Clip))),
            ("embedding", "IndexOutOfRange", failed(x.embedding(&far))),
            ("gather", "ShapeMismatch", failed(x.gather(0, &far))),
            ("gather", "IndexOutOfRange", failed(x.gather(0, &far.reshape([1, 3]).unwrap()))),
            (
                "scatter_add",
                "IndexOutOfRange",
                failed(x.scatter_add(0, &far.reshape([1, 3]).unwrap(), &x.narrow(0, 0, 1).unwrap())),
            ),
            ("scatter_add", "ShapeMismatch", failed(x.scatter_add(0, &i, &x.narrow(0, 0, 1).unwrap()))),
            ("pick", "ShapeMismatch", failed(x.pick(&far, 1, false))),
            ("pick", "IndexOutOfRange", failed(x.pick(&far, 0, false))),
            ("topk", "InvalidArgument", failed(x.topk(4, 1, true))),
            ("sequence_mask", "ShapeMismatch", failed(x.sequence_mask(&far.narrow(0, 0, 2).unwrap(), 0, 0))),
            (
                "masked_fill",
                "ShapeMismatch",
                failed(x.masked_fill(&b.expand_dims(0).unwrap().broadcast_to([2, 2, 3]).unwrap(), 0)),
            ),
            ("conv", "ShapeMismatch", failed(image.conv(&x, None, &ConvOptions::default()))),
            (
                "conv",
                "ShapeMismatch",
                failed(image.conv(&Tensor::ones(ctx, [3, 1, 2, 2], DType::F32).unwrap(), None, &conv(2, 1))),
            ),
            (
                "conv",
                "InvalidShape",
                failed(image.conv(&Tensor::ones(ctx, [3, 2, 5, 5], DType::F32).unwrap(), None, &conv(1, 1))),
            ),
            (
                "conv",
                "InvalidArgument",
                failed(image.conv(&Tensor::ones(ctx, [3, 2, 2, 2], DType::F32).unwrap(), None, &conv(1, 0))),
            ),
            (
                "conv_transpose",
                "InvalidArgument",
                failed(image.conv_transpose(
                    &Tensor::ones(ctx, [2, 1, 2, 2], DType::F32).unwrap(),
                    None,
                    &ConvOptions { output_padding: vec![1], ..ConvOptions::default() },
                )),
            ),
            ("max_pool", "InvalidShape", failed(image.max_pool(&pool(&[5], 0)))),
            ("max_pool", "InvalidShape", failed(x.max_pool(&pool(&[2], 0)))),
            ("max_pool", "InvalidShape", failed(image.narrow(3, 0, 0).unwrap().max_pool(&pool(&[2], 1)))),
            ("avg_pool", "InvalidArgument", failed(image.avg_pool(&pool(&[2], 2)))),
            ("avg_pool", "InvalidArgument", failed(image.avg_pool(&pool(&[2, 2, 2], 0)))),
            ("adaptive_avg_pool", "InvalidArgument", failed(image.adaptive_avg_pool(&[0]))),
            ("group_norm", "InvalidShape", failed(image.group_norm(&far, &far, 3, 1e-5))),
            ("dropout", "InvalidArgument", failed(x.dropout(1.0))),
            ("bernoulli", "InvalidArgument", failed(Tensor::bernoulli(ctx, [2], 1.5, DType::F32))),
            ("randint", "InvalidArgument", failed(Tensor::randint(ctx, [2], 3, 3, DType::I32))),
            ("uniform", "InvalidArgument", failed(Tensor::uniform(ctx, [2], 1.0, 0.0, DType::F32))),
            ("normal", "UnsupportedDType", failed(Tensor::normal(ctx, [2], 0.0, 1.0, DType::I32))),
            ("arange", "InvalidArgument", failed(Tensor::arange(ctx, 0, 3, 0, DType::I32))),
            ("linspace", "UnsupportedDType", failed(Tensor::linspace(ctx, 0.0, 1.0, 3, DType::I32))),
            ("attach_grad", "UnsupportedDType", failed(i.attach_grad())),
            ("assign", "ShapeMismatch", failed(x.assign(&far.cast(DType::F32).unwrap().narrow(0, 0, 2).unwrap()))),
            ("assign", "DTypeMismatch", failed(x.assign(&i))),
            ("assign", "InvalidShape", failed(x.narrow(0, 0, 1).unwrap().broadcast_to([2, 3]).unwrap().assign(&x))),
            ("asscalar", "InvalidShape", failed(x.asscalar::<f32>())),
            ("to_vec", "DTypeMismatch", failed(x.to_vec::<f64>())),
            ("from_slice", "InvalidShape", failed(Tensor::from_slice(ctx, &[1.0f32], [2]))),
        ];
        for (op, variant, error) in cases {
            assert_eq!(name(&error), variant, "{op}: {error}");
            assert!(error.to_string().contains(op), "{op} is not in: {error}");
        }
    }
    check(&Reference);
    check(&Dyn::new(Reference));
    check(&Numbered::new(4));
}

#[test]
fn what_a_device_cannot_store_or_compute_is_refused() {
    let device = Numbered::new(5);
    let stored = Tensor::from_slice(&device, &[isograd_core::bf16::ONE], [1]).unwrap();
    let text = failed(stored.exp()).to_string();
    assert!(text.contains("exp") && text.contains("bfloat16") && text.contains("numbered:5"), "{text}");
    assert_eq!(name(&failed(stored.add(&stored))), "UnsupportedDType");
    assert_eq!(name(&failed(stored.sum((), false))), "UnsupportedDType");
    assert_eq!(name(&failed(stored.matmul(&stored))), "UnsupportedDType");
    // Moving it about is no arithmetic.
    assert_eq!(stored.to_vec::<isograd_core::bf16>().unwrap(), [isograd_core::bf16::ONE]);
    for refused in [
        Tensor::zeros(&device, [1], DType::I8),
        Tensor::from_slice(&device, &[1i8], [1]),
        Tensor::from_slice(&Reference, &[1i8], [1]).unwrap().copyto(&device),
    ] {
        let text = failed(refused).to_string();
        assert!(text.contains("int8") && text.contains("numbered:5"), "{text}");
    }
}

#[test]
fn formulas_panic_with_the_same_text() {
    let (x, y) = (ones(&[2, 3]), ones(&[4]));
    let expected = failed(x.add(&y)).to_string();
    let caught = std::panic::catch_unwind(|| &x + &y).err().unwrap();
    assert_eq!(*caught.downcast::<String>().unwrap(), expected);
}

#[test]
fn expressions_are_checked_when_they_are_built() {
    assert_eq!(name(&failed(Fused::new("none", &[], 0, |_, _| Expr::constant(1.0f32)))), "InvalidArgument");
    let f = Fused::new("twice", &[DType::F32], 0, |x, _| &x[0] * 2.0).unwrap();
    assert_eq!(name(&failed(f.call::<Reference>(&[], &[]))), "InvalidArgument");
    let x = ones(&[2]).cast(DType::F64).unwrap();
    assert!(matches!(failed(f.call(&[&x], &[])), Error::DTypeMismatch { op: "twice", .. }));
}

#[test]
fn bounds_that_nothing_lies_between_are_refused() {
    let x = ones(&[2]);
    for (low, high, told) in [(3.0, 1.0, "3"), (f64::NAN, 1.0, "NaN"), (0.0, f64::NAN, "NaN")] {
        let e = failed(x.clamp(low, high));
        assert!(matches!(e, Error::InvalidArgument { op: "clamp", .. }) && e.to_string().contains(told), "{e}");
    }
    let e = failed(x.cast(DType::I64).unwrap().clamp(i64::MAX, i64::MAX - 1));
    assert!(matches!(e, Error::InvalidArgument { op: "clamp", .. }), "{e}");
    for (low, high) in [(1.0, 1.0), (f64::NEG_INFINITY, 1.0), (0.0, f64::INFINITY)] {
        assert_eq!(x.clamp(low, high).unwrap().to_vec::<f32>().unwrap(), [1.0; 2]);
    }
}

#[test]
fn errors_of_std_io_convert() {
    fn read(path: &str) -> Result<String> {
        Ok(std::fs::read_to_string(path)?)
    }
    let error = read("there is no such file").unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.as_os_str().is_empty()), "{error}");
    assert!(error.to_string().starts_with("input or output: "), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}
