//! Autograd: what is recorded, kept, freed and refused.

use super::device::Numbered;
use isograd_core::{Backend, Backward, DType, Error, GradReq, Result, Tensor, autograd};

fn variable<B: Backend>(ctx: &B, values: &[f64]) -> Tensor<B> {
    let x = Tensor::from_slice(ctx, values, [values.len()]).unwrap();
    x.attach_grad().unwrap();
    x
}

fn values<B: Backend>(x: &Tensor<B>) -> Vec<f64> {
    x.to_vec().unwrap()
}

fn gradient<B: Backend>(x: &Tensor<B>) -> Vec<f64> {
    values(&x.grad().unwrap())
}

fn keep<B: Backend>() -> Backward<B> {
    Backward { retain_graph: true, ..Backward::default() }
}

fn recorded<R>(f: impl FnOnce() -> Result<R>) -> R {
    autograd::record(f).unwrap()
}

pub fn leaves<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[1.0, 2.0]);
    assert_eq!(gradient(&x), [0.0, 0.0]);
    let y = x.square().unwrap();
    assert!(!y.requires_grad(), "nothing is recorded outside record");
    assert!(matches!(y.backward(), Err(Error::NotRecorded { .. })));
    let z = recorded(|| x.square());
    assert!(z.requires_grad() && !z.detach().requires_grad());
    z.backward().unwrap();
    assert_eq!(gradient(&x), [2.0, 4.0]);
    // A leaf is its own graph.
    x.backward().unwrap();
    assert_eq!(gradient(&x), [1.0, 1.0]);
    x.zero_grad().unwrap();
    assert_eq!(gradient(&x), [0.0, 0.0]);
    // attach_grad cuts off what was computed before.
    let cut = recorded(|| x.square());
    cut.attach_grad().unwrap();
    recorded(|| cut.square()).backward().unwrap();
    assert_eq!((gradient(&cut), gradient(&x)), (vec![2.0, 8.0], vec![0.0, 0.0]));
    // Handles of one tensor are one variable.
    let handle = x.clone();
    recorded(|| handle.mul(&x)).backward().unwrap();
    assert_eq!(gradient(&x), [2.0, 4.0]);
    assert_eq!(gradient(&handle), gradient(&x));
}

pub fn requests<B: Backend>(ctx: &B) {
    let run = |x: &Tensor<B>| recorded(|| x.square()).backward();
    let x = variable(ctx, &[3.0]);
    assert_eq!(x.grad_req(), GradReq::Write);
    run(&x).unwrap();
    run(&x).unwrap();
    assert_eq!(gradient(&x), [6.0]);
    x.attach_grad_with(GradReq::Add).unwrap();
    assert_eq!((x.grad_req(), gradient(&x)), (GradReq::Add, vec![0.0]));
    run(&x).unwrap();
    let before = x.grad().unwrap();
    run(&x).unwrap();
    assert_eq!((gradient(&x), values(&before)), (vec![12.0], vec![6.0]));
    x.zero_grad().unwrap();
    run(&x).unwrap();
    assert_eq!(gradient(&x), [6.0]);
    x.attach_grad_with(GradReq::Null).unwrap();
    assert!(!x.requires_grad());
    assert!(matches!(run(&x), Err(Error::NotRecorded { .. })));
    assert!(matches!(x.grad(), Err(Error::NoGradient { .. })));
    // Beside a variable, a Null one is a constant.
    let other = variable(ctx, &[5.0]);
    recorded(|| x.mul(&other)).backward().unwrap();
    assert_eq!(gradient(&other), [3.0]);
    // Used twice in one graph: the sum, whatever the request.
    let y = variable(ctx, &[2.0]);
    recorded(|| y.mul(&y)?.add(&y)).backward().unwrap();
    assert_eq!(gradient(&y), [5.0]);
}

pub fn heads<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[1.0, 2.0, 3.0]);
    let y = recorded(|| x.square());
    let head = Tensor::from_slice(ctx, &[1.0, 10.0, 100.0], [3]).unwrap();
    y.backward_with(Backward { head: Some(head.clone()), ..keep() }).unwrap();
    assert_eq!(gradient(&x), [2.0, 40.0, 600.0]);
    let wrong = |head: Tensor<B>| y.backward_with(Backward { head: Some(head), ..keep() }).unwrap_err();
    assert!(matches!(wrong(Tensor::ones(ctx, [1, 3], DType::F64).unwrap()), Error::HeadGradient { .. }));
    assert!(matches!(wrong(Tensor::ones(ctx, [3], DType::F32).unwrap()), Error::DTypeMismatch { .. }));
    // Several heads add up; the same one twice, too.
    let z = recorded(|| x.mul_scalar(7.0));
    autograd::backward(&[&y, &z, &z], &[], true, false).unwrap();
    assert_eq!(gradient(&x), [16.0, 18.0, 20.0]);
    assert!(matches!(autograd::backward(&[&y, &z], &[&head], true, false), Err(Error::InvalidArgument { .. })));
    // One head inside the graph of another.
    let (inner, outer) = recorded(|| {
        let inner = x.square()?;
        Ok((inner.clone(), inner.sum((), false)?))
    });
    autograd::backward(&[&inner, &outer], &[], false, false).unwrap();
    assert_eq!(gradient(&x), [4.0, 8.0, 12.0]);
}

pub fn kept_and_consumed<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[2.0]);
    let y = recorded(|| x.square()?.exp());
    y.backward_with(keep()).unwrap();
    y.backward().unwrap();
    assert!(matches!(y.backward(), Err(Error::GraphConsumed { op: "exp" })));
    // A part that another graph has consumed.
    let (shared, a, b) = recorded(|| {
        let shared = x.square()?;
        Ok((shared.clone(), shared.exp()?, shared.sin()?))
    });
    a.backward().unwrap();
    assert!(matches!(b.backward(), Err(Error::GraphConsumed { op: "square" })));
    assert!(matches!(shared.backward(), Err(Error::GraphConsumed { op: "square" })));
    // A graph ends at the variables that are asked for: what lies below is left alone.
    let (middle, top) = recorded(|| {
        let middle = x.square()?;
        Ok((middle.clone(), middle.exp()?))
    });
    let g = autograd::grad(&[&top], &[&middle], &[], false, false).unwrap();
    assert_eq!(values(&g[0]), [4f64.exp()]);
}

pub fn higher_orders<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[0.5, 2.0]);
    // Derivatives of x^5.
    let mut derivatives = Vec::new();
    autograd::record(|| {
        let mut y = x.pow_scalar(5).unwrap();
        for _ in 0..6 {
            y = autograd::grad(&[&y], &[&x], &[], true, true).unwrap().remove(0);
            derivatives.push(values(&y));
        }
    });
    for (order, d) in (1..).zip(derivatives) {
        let factor: f64 = (0..order).map(|k| f64::from(5 - k)).product();
        for (got, v) in d.iter().zip([0.5f64, 2.0]) {
            let expected = if order > 5 { 0.0 } else { factor * v.powi(5 - order) };
            assert!(
                (got - expected).abs() <= 1e-12 * expected.abs().max(1.0),
                "order {order}: {got}, expected {expected}"
            );
        }
    }
    // Through .grad: backward with create_graph, then backward of the gradient.
    let x = variable(ctx, &[3.0]);
    let first = recorded(|| {
        x.pow_scalar(3)?.backward_with(Backward { create_graph: true, ..Backward::default() })?;
        x.grad()
    });
    assert_eq!(values(&first), [27.0]);
    first.backward().unwrap();
    assert_eq!(gradient(&x), [18.0]);
    // Mixed derivatives of x^2 y^3.
    let (x, y) = (variable(ctx, &[3.0]), variable(ctx, &[2.0]));
    let g = recorded(|| {
        let z = x.square()?.mul(&y.pow_scalar(3)?)?;
        autograd::grad(&[&z], &[&x, &y], &[], true, true)
    });
    assert_eq!((values(&g[0]), values(&g[1])), (vec![48.0], vec![108.0]));
    let of_x = autograd::grad(&[&g[0]], &[&x, &y], &[], true, false).unwrap();
    let of_y = autograd::grad(&[&g[1]], &[&x, &y], &[], true, false).unwrap();
    assert_eq!([&of_x[0], &of_x[1], &of_y[0], &of_y[1]].map(|t| values(t)[0]), [16.0, 72.0, 72.0, 108.0]);
}

pub fn without_touching_grad<B: Backend>(ctx: &B) {
    let (x, y) = (variable(ctx, &[3.0]), variable(ctx, &[4.0]));
    let (z, middle) = recorded(|| {
        let middle = x.mul(&y)?;
        Ok((middle.square()?, middle))
    });
    let g = autograd::grad(&[&z], &[&y, &x, &y, &middle], &[], true, false).unwrap();
    assert_eq!(g.iter().map(|t| values(t)[0]).collect::<Vec<_>>(), [72.0, 96.0, 72.0, 24.0]);
    assert_eq!((gradient(&x), gradient(&y)), (vec![0.0], vec![0.0]));
    assert!(g.iter().all(|t| !t.requires_grad()));
    let head = Tensor::from_slice(ctx, &[0.5], [1]).unwrap();
    assert_eq!(values(&autograd::grad(&[&z], &[&x], &[&head], true, false).unwrap()[0]), [48.0]);
    assert_eq!(values(&autograd::grad(&[&x], &[&x], &[], true, false).unwrap()[0]), [1.0]);
    let stranger = Tensor::from_slice(ctx, &[0.5], [1]).unwrap();
    assert!(matches!(autograd::grad(&[&z], &[&stranger], &[], true, false), Err(Error::NotRecorded { .. })));
    let late = variable(ctx, &[1.0]);
    assert!(matches!(autograd::grad(&[&z], &[&x, &late], &[], true, false), Err(Error::Unreachable { index: 1, .. })));
    // Changing what grad gave changes no other result.
    let g = recorded(|| x.add(&y));
    let both = autograd::grad(&[&g], &[&x, &y], &[&head], true, false).unwrap();
    both[0].fill(7.0).unwrap();
    assert_eq!((values(&both[1]), values(&head)), (vec![0.5], vec![0.5]));
}

pub fn modes<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[3.0]);
    let y = recorded(|| {
        let constant = autograd::pause(|| x.square())?;
        assert!(!constant.requires_grad());
        constant.mul(&x)
    });
    y.backward().unwrap();
    assert_eq!(gradient(&x), [9.0]);
    autograd::record_predict(|| {
        assert!(autograd::is_recording() && !autograd::is_training());
        assert!(x.square().unwrap().requires_grad());
    });
    autograd::train_mode(|| assert!(autograd::is_training() && !x.square().unwrap().requires_grad()));
    // backward itself is not recorded, unless it is asked to be.
    recorded(|| {
        x.square()?.backward()?;
        assert!(!x.grad()?.requires_grad() && autograd::is_recording());
        Ok(())
    });
}

pub fn versions<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[2.0]);
    // exp saves its result, square its argument, add nothing.
    let y = recorded(|| x.square());
    x.fill(5.0).unwrap();
    assert!(matches!(y.backward(), Err(Error::SavedTensorModified { op: "square", saved: 0, now: 1, .. })));
    let y = recorded(|| x.add_scalar(1.0));
    x.fill(6.0).unwrap();
    y.backward().unwrap();
    assert_eq!(gradient(&x), [1.0]);
    let y = recorded(|| x.exp());
    x.fill(0.0).unwrap();
    y.backward().unwrap();
    assert_eq!(gradient(&x), [6f64.exp()]);
    // A constant operand counts as well, through any view of it.
    let constant = Tensor::from_slice(ctx, &[1.0, 2.0], [2]).unwrap();
    let y = recorded(|| x.mul(&constant));
    constant.slice(0, Some(1), None, 1).unwrap().fill(9.0).unwrap();
    assert!(matches!(y.backward(), Err(Error::SavedTensorModified { op: "mul", .. })));
}

pub fn in_place_on_recorded<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[2.0, 3.0]);
    let y = recorded(|| x.square());
    let refused = |r: Result<()>| assert!(matches!(r, Err(Error::InPlaceOnRecorded { .. })));
    refused(y.fill(1.0));
    refused(y.assign(&x));
    refused(y.assign_slice(&[1.0, 2.0]));
    autograd::record(|| {
        refused(x.fill(1.0));
        refused(x.assign_slice(&[1.0, 2.0]));
        let plain = Tensor::zeros(ctx, [2], DType::F64).unwrap();
        refused(plain.assign(&x));
        plain.assign(&x.detach()).unwrap();
        plain.fill(1.0).unwrap();
        autograd::pause(|| x.fill(4.0)).unwrap();
    });
    assert_eq!(values(&x), [4.0, 4.0]);
    x.fill(5.0).unwrap();
}

pub fn leaves_share_no_memory<B: Backend>(ctx: &B) {
    let (x, y) = (variable(ctx, &[1.0, 2.0]), variable(ctx, &[3.0, 4.0]));
    let matrix = Tensor::zeros(ctx, [1, 2], DType::F64).unwrap();
    matrix.attach_grad().unwrap();
    let head = Tensor::ones(ctx, [2], DType::F64).unwrap();
    let sum = recorded(|| x.add(&y)?.add(&matrix.reshape([2])?));
    sum.backward_with(Backward { head: Some(head.clone()), ..Backward::default() }).unwrap();
    let gradients = [x.grad().unwrap(), y.grad().unwrap(), matrix.grad().unwrap(), head];
    for (i, a) in gradients.iter().enumerate() {
        for b in &gradients[i + 1..] {
            assert!(!a.shares_memory_with(b));
        }
    }
    gradients[0].fill(9.0).unwrap();
    assert_eq!(gradient(&x), [9.0, 9.0]);
    assert_eq!(gradient(&y), [1.0, 1.0]);
    // Nor does a gradient share with the tensors of the graph.
    let z = recorded(|| x.mul(&y));
    z.backward().unwrap();
    assert!(!x.grad().unwrap().shares_memory_with(&y));
    // A broadcast gradient is written out.
    recorded(|| x.sum((), false)).backward().unwrap();
    assert!(x.grad().unwrap().is_contiguous());
    x.grad().unwrap().fill(0.0).unwrap();
}

pub fn threads<B: Backend>(ctx: &B) {
    let shared = variable(ctx, &[2.0]);
    shared.attach_grad_with(GradReq::Add).unwrap();
    std::thread::scope(|s| {
        for k in 1..=8 {
            let (ctx, shared) = (ctx.clone(), shared.clone());
            s.spawn(move || {
                assert!(!autograd::is_recording());
                for _ in 0..20 {
                    let own = variable(&ctx, &[f64::from(k)]);
                    recorded(|| own.mul(&shared)?.square()).backward().unwrap();
                    assert_eq!(gradient(&own), [8.0 * f64::from(k)]);
                }
            });
        }
    });
    // 2 k^2 shared, twenty times for k up to 8.
    assert_eq!(gradient(&shared), [20.0 * 4.0 * 204.0]);
    // Recorded on one thread, walked on another.
    let y = recorded(|| shared.square());
    std::thread::scope(|s| s.spawn(|| y.backward().unwrap()).join().unwrap());
    assert_eq!(gradient(&shared), [20.0 * 4.0 * 204.0 + 4.0]);
}

const DEEP: usize = 100_000;

/// On a stack of the default size of test threads, 2 MiB, recursion over the chain would overflow.
pub fn deep_chains<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[1.0]);
    let chain = || {
        recorded(|| {
            let mut y = x.clone();
            for _ in 0..DEEP {
                y = y.add_scalar(1.0)?;
            }
            Ok(y)
        })
    };
    let y = chain();
    assert_eq!(values(&y), [1.0 + DEEP as f64]);
    y.backward_with(keep()).unwrap();
    assert_eq!(gradient(&x), [1.0]);
    drop(y);
    drop(chain());
    let y = chain();
    y.backward().unwrap();
    assert_eq!(autograd::graph(&chain()).len(), DEEP + 1);
}

/// Through the device of `common/device.rs`, which counts.
pub fn memory_is_freed_during_backward(device: &Numbered) {
    const N: usize = 1000;
    let tensor = (N * 8) as isize;
    let x = Tensor::ones(device, [N], DType::F64).unwrap();
    x.attach_grad().unwrap();
    let before = device.live();
    let y = recorded(|| {
        let mut y = x.clone();
        for _ in 0..50 {
            y = y.sin()?;
        }
        Ok(y)
    });
    // sin saves its argument, so every result but the last is held by the tape.
    assert_eq!(device.live() - before, 50 * tensor);
    y.backward().unwrap();
    // The tape is gone, though y lives on; the gradient has come.
    assert_eq!(device.live() - before, 2 * tensor);
    drop(y);
    assert_eq!(device.live() - before, tensor);
    // And a graph that is dropped without backward.
    drop(recorded(|| x.sin()?.sin()?.sin()));
    assert_eq!(device.live() - before, tensor);
}

/// A gradient that was recorded leads back to its variable, and yet both go with their handles.
pub fn recorded_gradients_are_freed(device: &Numbered) {
    const N: usize = 1000;
    let recorded_backward = |x: &Tensor<Numbered>, y: &Tensor<Numbered>| {
        let z = recorded(|| x.mul(y)?.square()?.mul(x));
        z.backward_with(Backward { create_graph: true, ..Backward::default() }).unwrap();
        assert!(x.grad().unwrap().requires_grad());
    };
    let before = device.live();
    for request in [GradReq::Write, GradReq::Add] {
        let x = Tensor::ones(device, [N], DType::F64).unwrap();
        let y = Tensor::ones(device, [N], DType::F64).unwrap();
        x.attach_grad_with(request).unwrap();
        y.attach_grad().unwrap();
        recorded_backward(&x, &y);
        recorded_backward(&y, &x);
        // The second gradient, through the first.
        x.grad().unwrap().backward().unwrap();
        drop((x, y));
        assert_eq!(device.live(), before, "{request:?}");
    }
    // A variable that becomes another one, and one whose gradient is all that is left.
    let x = Tensor::ones(device, [N], DType::F64).unwrap();
    x.attach_grad().unwrap();
    recorded_backward(&x, &x.detach());
    let gradient = x.grad().unwrap();
    x.attach_grad().unwrap();
    recorded_backward(&x, &x.detach());
    drop(x);
    assert_eq!(gradient.to_vec::<f64>().unwrap(), [3.0; N]);
    drop(gradient);
    assert_eq!(device.live(), before);
}

/// A sum saves nothing, tanh its result only: what a rule does not read, the tape does not hold.
pub fn what_is_saved(device: &Numbered) {
    const N: usize = 1000;
    let tensor = (N * 8) as isize;
    let x = Tensor::ones(device, [N], DType::F64).unwrap();
    x.attach_grad().unwrap();
    let held = |f: &dyn Fn(&Tensor<Numbered>) -> Result<Tensor<Numbered>>| {
        let before = device.live();
        let y = recorded(|| f(&x));
        let held = device.live() - before;
        y.backward().unwrap();
        held
    };
    x.grad().unwrap();
    assert_eq!(held(&|x| x.add_scalar(1.0)?.add_scalar(2.0)), tensor);
    assert_eq!(held(&|x| x.tanh()?.tanh()), 2 * tensor);
    assert_eq!(held(&|x| x.sin()?.add_scalar(1.0)?.neg()), tensor);
    assert_eq!(held(&|x| x.add_scalar(1.0)?.reshape([10, 100])?.sum((), false)), 8);
}

pub fn drawing<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[1.0, 2.0]);
    let y = recorded(|| x.square()?.add(&x)?.sum((), false));
    let graph = autograd::graph(&y);
    let names: Vec<&str> = graph.iter().map(|n| n.name).collect();
    assert_eq!(names[names.len() - 1], "variable");
    assert!(names.contains(&"sum") && names.contains(&"square") && names.contains(&"add"));
    assert!(graph.windows(2).all(|w| w[0].id > w[1].id));
    assert!(graph.iter().all(|n| n.parents.iter().all(|p| *p < n.id)));
    assert!(autograd::graph(&x.detach()).is_empty());
}

pub fn views_of_variables<B: Backend>(ctx: &B) {
    let x = variable(ctx, &[1.0, 2.0, 3.0, 4.0]);
    // The same element through several views.
    recorded(|| {
        let a = x.reshape([2, 2])?.t()?.select(0, 0)?;
        let b = x.slice(0, None, None, -2)?;
        a.mul(&b)
    })
    .backward()
    .unwrap();
    // a = [x0, x2], b = [x3, x1]
    assert_eq!(gradient(&x), [4.0, 3.0, 2.0, 1.0]);
    // A view made outside record is a constant, even of a variable.
    let outside = x.reshape([2, 2]).unwrap();
    assert!(!outside.requires_grad());
    recorded(|| x.broadcast_to([3, 4])).backward().unwrap();
    assert_eq!(gradient(&x), [3.0; 4]);
}
