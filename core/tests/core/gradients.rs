//! Every differentiable operator against central differences, in f64, to the third order. The table is in
//! `common/gradients.rs`.

use super::common::gradients;
use isograd_core::{DType, Dyn, Tensor, autograd, operators};
use isograd_cpu::Cpu;
use isograd_reference::Reference;

#[test]
fn every_gradient_agrees_with_differences() {
    gradients::check_all(&Reference);
}

#[test]
fn every_gradient_agrees_on_devices_chosen_at_run_time() {
    gradients::check_some(&Dyn::new(Reference), 7);
    gradients::check_all(&Dyn::new(Cpu::with_threads(2).unwrap()));
}

#[test]
fn the_table_has_every_differentiable_operator() {
    let table = gradients::table::<Reference>();
    for name in operators::NAMES {
        let covered = table.iter().any(|c| c.operator == *name) || gradients::ELSEWHERE.contains(name);
        let constant = gradients::WITHOUT_GRADIENT.contains(name);
        assert!(covered != constant, "{name}: in the table {covered}, without a gradient {constant}");
    }
    for name in gradients::ELSEWHERE.iter().chain(gradients::WITHOUT_GRADIENT) {
        assert!(operators::NAMES.contains(name), "{name} is no operator");
    }
}

/// A gradient that is wrong must be found.
#[test]
fn a_wrong_gradient_is_found() {
    let half = gradients::Case::<Reference> {
        operator: "mul",
        variant: "with half of the gradient".into(),
        inputs: vec![(vec![3], gradients::Domain::Range(0.5, 2.0, &[]))],
        body: Box::new(|x| x[0].mul(&x[0].detach())),
    };
    assert!(gradients::check(&Reference, &half, 1)[0].contains("by differences"));
}

/// Operators whose result no gradient goes through give tensors that are not recorded, never a quiet zero.
#[test]
fn results_without_a_gradient_are_not_recorded() {
    let x = Tensor::from_slice(&Reference, &[0.5f64, -1.0, 2.0], [3]).unwrap();
    x.attach_grad().unwrap();
    autograd::record(|| {
        for y in [
            x.argmax((), false),
            x.argmin(0, true),
            x.argsort(0, false),
            x.equal(&x),
            x.less_scalar(0),
            x.is_nan(),
            x.is_inf(),
            x.any((), false),
            x.all((), false),
            x.one_hot(3, 1, 0, DType::F64),
            x.cast(DType::I32),
            x.zeros_like(),
        ] {
            assert!(!y.unwrap().requires_grad());
        }
    });
}

#[test]
fn casts_between_floating_dtypes_pass_gradients_on() {
    let floats = [DType::F16, DType::BF16, DType::F32, DType::F64];
    for from in floats {
        for to in floats {
            let x = Tensor::from_slice(&Reference, &[1.0f64, -0.5, 3.0], [3]).unwrap().cast(from).unwrap();
            x.attach_grad().unwrap();
            // Numbers that every one of the dtypes can hold.
            let weight = Tensor::from_slice(&Reference, &[2.0f64, 0.25, -1.5], [3]).unwrap().cast(to).unwrap();
            let y = autograd::record(|| x.cast(to).unwrap().mul(&weight).unwrap().sum((), false).unwrap());
            y.backward().unwrap();
            let gradient = x.grad().unwrap();
            assert_eq!(gradient.dtype(), from);
            assert_eq!(gradient.cast(DType::F64).unwrap().to_vec::<f64>().unwrap(), [2.0, 0.25, -1.5], "{from} {to}");
        }
    }
}

/// Ceil mode drops a last window that would see padding only, and the others pass their gradients on.
#[test]
fn a_window_of_padding_is_dropped() {
    let x = Tensor::from_slice(&Reference, &[3.0f64, 1.0, 2.0], [1, 1, 3]).unwrap();
    x.attach_grad().unwrap();
    let options = operators::PoolOptions {
        stride: vec![4],
        padding: vec![1],
        ceil_mode: true,
        ..operators::PoolOptions::new(&[2])
    };
    let (y, plain, recorded) = autograd::record(|| {
        let y = x.max_pool(&options).unwrap();
        let gradient = |create| autograd::grad(&[&y], &[&x], &[], true, create).unwrap().remove(0);
        (y.clone(), gradient(false), gradient(true))
    });
    assert_eq!(y.to_vec::<f64>().unwrap(), [3.0]);
    for g in [plain, recorded] {
        assert_eq!(g.to_vec::<f64>().unwrap(), [1.0, 0.0, 0.0]);
    }
}

/// Where differences say nothing: the values that the documentation promises.
#[test]
fn gradients_at_kinks() {
    let gradient = |values: &[f64], f: &dyn Fn(&Tensor<Reference>) -> isograd_core::Result<Tensor<Reference>>| {
        let x = Tensor::from_slice(&Reference, values, [values.len()]).unwrap();
        x.attach_grad().unwrap();
        autograd::record(|| f(&x)).unwrap().backward().unwrap();
        x.grad().unwrap().to_vec::<f64>().unwrap()
    };
    assert_eq!(gradient(&[0.0, 1.0, -1.0], &|x| x.relu()), [0.0, 1.0, 0.0]);
    assert_eq!(gradient(&[0.0, -0.0], &|x| x.abs()), [0.0, 0.0]);
    assert_eq!(gradient(&[0.0, 0.0, 0.0], &|x| x.norm((), false)), [0.0, 0.0, 0.0]);
    assert_eq!(gradient(&[0.0, 5.0], &|x| x.norm((), false)), [0.0, 1.0]);
    assert_eq!(gradient(&[2.0, 5.0, 5.0, 1.0], &|x| x.max((), false)), [0.0, 0.5, 0.5, 0.0]);
    assert_eq!(gradient(&[2.0, 5.0, 2.0, 2.0, 2.0], &|x| x.min((), false)), [0.25, 0.0, 0.25, 0.25, 0.25]);
    assert_eq!(gradient(&[1.0, 2.0, 3.0], &|x| x.clamp(1.0, 2.5)), [1.0, 1.0, 0.0]);
    assert_eq!(gradient(&[0.0, 2.0], &|x| x.maximum_scalar(0.0)), [0.5, 1.0]);
    assert_eq!(gradient(&[0.0, 0.0], &|x| x.hypot(&x.mul_scalar(1.0)?)), [0.0, 0.0]);
    assert_eq!(gradient(&[0.0], &|x| x.pow_scalar(0.0)), [0.0]);
    assert_eq!(gradient(&[0.0], &|x| x.pow_scalar(1.0)), [1.0]);
    assert_eq!(gradient(&[0.0, -2.0], &|x| x.pow_scalar(2.0)), [0.0, -4.0]);
    assert_eq!(gradient(&[0.0, -2.0], &|x| x.pow_scalar(3.0)), [0.0, 12.0]);
    assert_eq!(gradient(&[0.0, -2.0], &|x| x.pow_scalar(4.0)), [0.0, -32.0]);
    assert_eq!(gradient(&[f64::NAN, 2.0], &|x| x.nansum((), false)), [0.0, 1.0]);
    assert_eq!(gradient(&[f64::NAN, 2.0, 3.0], &|x| x.nanprod((), false)), [0.0, 3.0, 2.0]);
    assert_eq!(gradient(&[1.0, f64::NAN, 3.0], &|x| x.max((), false)), [0.0, 1.0, 0.0]);
    // Of equal elements in a window the first gets the gradient.
    let pool = |x: &Tensor<Reference>| x.reshape([1, 1, -1])?.max_pool(&operators::PoolOptions::new(&[2]));
    assert_eq!(gradient(&[5.0, 5.0, 1.0, 2.0], &pool), [1.0, 0.0, 0.0, 1.0]);
    let global = |x: &Tensor<Reference>| x.reshape([1, 1, -1])?.global_max_pool();
    assert_eq!(gradient(&[5.0, 7.0, 7.0, 7.0], &global), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(gradient(&[5.0, f64::NAN, 7.0, f64::NAN], &global), [0.0, 1.0, 0.0, 0.0]);
    // Every sign of the exponent at 0.
    assert_eq!(gradient(&[-1.0, 0.0, 1.0], &|x| x.leaky_relu(0.1)), [0.1, 0.1, 1.0]);
    assert_eq!(gradient(&[0.0, 800.0], &|x| x.elu(1.0)), [1.0, 1.0]);
    assert_eq!(gradient(&[-3.0, 0.0, 3.0], &|x| x.hard_swish()), [0.0, 0.5, 1.0]);
    assert_eq!(gradient(&[-3.0, 3.0], &|x| x.hard_sigmoid_with(1.0 / 6.0, 0.5)), [0.0, 0.0]);
    assert_eq!(gradient(&[-2.5, 2.5], &|x| x.hard_sigmoid()), [0.0, 0.0]);
    assert_eq!(gradient(&[2.0, 2.0], &|x| x.std((), false, 0)), [0.0, 0.0]);
    // The mean of these is not quite 0.1.
    for g in gradient(&[0.1; 7], &|x| x.std((), false, 1)) {
        assert!(g.abs() < 1e-12, "{g}");
    }
}

/// The gradients of gradients of half precision are computed in f32 throughout, as the gradients are.
#[test]
fn half_precision_does_not_overflow_on_the_way() {
    let mut values = [0.0f64; 100];
    values[0] = 1000.0;
    let twice = |dtype: DType, f: &dyn Fn(&Tensor<Reference>) -> isograd_core::Result<Tensor<Reference>>| {
        let x = Tensor::from_slice(&Reference, &values, [100]).unwrap().cast(dtype).unwrap();
        let weight = Tensor::linspace(&Reference, -1.0, 1.0, 100, dtype).unwrap();
        x.attach_grad().unwrap();
        let slope = autograd::record(|| {
            let y = f(&x).unwrap().mul(&weight).unwrap();
            let g = autograd::grad(&[&y], &[&x], &[], true, true).unwrap().remove(0);
            (g.clone(), g.mul(&weight).unwrap())
        });
        let second = autograd::grad(&[&slope.1], &[&x], &[], true, false).unwrap().remove(0);
        [slope.0, second].map(|g| g.cast(DType::F64).unwrap().to_vec::<f64>().unwrap())
    };
    type Body = dyn Fn(&Tensor<Reference>) -> isograd_core::Result<Tensor<Reference>>;
    let bodies: [(&str, &Body); 4] = [
        ("standardize", &|x| Ok(x.standardize((), 1e-3)?.output)),
        ("std", &|x| x.std((), true, 0)?.mul(x)),
        ("var", &|x| x.var((), true, 0)?.mul_scalar(1e-3)?.mul(x)),
        ("norm", &|x| x.norm((), true)?.mul(x)),
    ];
    for (what, f) in bodies {
        for (got, right) in twice(DType::F16, f).iter().zip(&twice(DType::F64, f)) {
            let largest = right.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (g, r) in got.iter().zip(right) {
                assert!((g - r).abs() <= 0.02 * largest, "{what}: {g} instead of {r}");
            }
        }
    }
    // The heads' sum is 100,000, what flows back about 0.
    let zeros = Tensor::zeros(&Reference, [1000], DType::F16).unwrap();
    zeros.attach_grad().unwrap();
    autograd::record(|| zeros.log_softmax(0).unwrap().mul_scalar(100).unwrap()).backward().unwrap();
    for g in zeros.grad().unwrap().cast(DType::F64).unwrap().to_vec::<f64>().unwrap() {
        assert!(g.abs() < 0.2, "{g}");
    }
}

/// Recording changes no result.
#[test]
fn what_is_recorded_has_the_same_bits() {
    let x = Tensor::uniform(&Reference, [70, 3], -1.0, 1.0, DType::F32).unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let x = x.cast(dtype).unwrap();
        x.attach_grad().unwrap();
        let all = || -> isograd_core::Result<Vec<Vec<u8>>> {
            let every = [
                x.sum(0, false)?,
                x.mean(0, false)?,
                x.prod(0, false)?,
                x.max(0, false)?,
                x.var(0, false, 1)?,
                x.std(0, false, 1)?,
                x.norm(0, false)?,
                x.logsumexp(0, false)?,
                x.cumsum(0)?,
                x.softmax(0)?,
                x.log_softmax(0)?,
                x.standardize(1, 1e-5)?.output,
                x.pow_scalar(3)?,
            ];
            every.iter().map(Tensor::to_bytes).collect()
        };
        assert_eq!(all().unwrap(), autograd::record(all).unwrap(), "{dtype}");
    }
}
