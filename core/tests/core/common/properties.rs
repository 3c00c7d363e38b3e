//! Models of tensors on plain vectors, and what operators must do to them.

use isograd_core::{
    Backend, Tensor,
    operators::{ConvOptions, PoolOptions},
};
use proptest::{prelude::*, test_runner::TestCaseError};

type Checked = Result<(), TestCaseError>;
/// Start, stop and step of a slice.
pub type SliceSpec = (Option<isize>, Option<isize>, isize);

/// A row-major array of i64.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub shape: Vec<usize>,
    pub values: Vec<i64>,
}

impl Model {
    /// Distinct numbers of both signs.
    pub fn counting(shape: &[usize]) -> Model {
        Model::from_fn(shape, |i| i.iter().fold(7, |h, &k| h * 5 + k as i64) % 23 - 11)
    }

    /// The value at every index.
    pub fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> i64) -> Model {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|linear| f(&index_of(shape, linear))).collect();
        Model { shape: shape.to_vec(), values }
    }

    pub fn at(&self, index: &[usize]) -> i64 {
        self.values[index.iter().zip(&self.shape).fold(0, |p, (&i, &n)| p * n + i)]
    }

    fn tensor<B: Backend>(&self, ctx: &B) -> Tensor<B> {
        Tensor::from_slice(ctx, &self.values, &self.shape).unwrap()
    }
}

fn index_of(shape: &[usize], mut linear: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for a in (0..shape.len()).rev() {
        index[a] = linear % shape[a];
        linear /= shape[a];
    }
    index
}

fn equal<B: Backend>(x: &Tensor<B>, expected: &Model) -> Checked {
    prop_assert_eq!(&x.shape()[..], &expected.shape[..]);
    prop_assert_eq!(x.to_vec::<i64>().unwrap(), expected.values.clone());
    Ok(())
}

/// The positions that Python's `range(n)[start:stop:step]` has.
fn positions(n: usize, (start, stop, step): SliceSpec) -> Vec<usize> {
    let n = n as isize;
    // Counting from the end first, then walking, and keeping what lies inside.
    let fix = |v: isize| if v < 0 { (v + n).max(-1) } else { v };
    let (mut at, end) = if step > 0 {
        (start.map_or(0, |v| fix(v).max(0)), stop.map_or(n, |v| fix(v).min(n)))
    } else {
        (start.map_or(n - 1, |v| fix(v).min(n - 1)), stop.map_or(-1, fix))
    };
    let mut found = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        if (0..n).contains(&at) {
            found.push(at as usize);
        }
        at += step;
    }
    found
}

/// The tensor and the model, both sliced along every axis and then transposed, and for each index of the view the index
/// in the model it came from.
fn viewed<B: Backend>(ctx: &B, x: &Model, slices: &[SliceSpec], order: &[usize]) -> (Tensor<B>, Tensor<B>, Model) {
    let whole = x.tensor(ctx);
    let mut t = whole.clone();
    for (a, &(start, stop, step)) in slices.iter().enumerate() {
        t = t.slice(a as isize, start, stop, step).unwrap();
    }
    let order: Vec<isize> = order.iter().map(|&a| a as isize).collect();
    t = t.transpose(&order).unwrap();
    let kept: Vec<Vec<usize>> = x.shape.iter().zip(slices).map(|(&n, &s)| positions(n, s)).collect();
    let shape: Vec<usize> = order.iter().map(|&a| kept[a as usize].len()).collect();
    let model = Model::from_fn(&shape, |i| {
        let mut at = vec![0; i.len()];
        order.iter().zip(i).for_each(|(&a, &k)| at[a as usize] = kept[a as usize][k]);
        x.at(&at)
    });
    (whole, t, model)
}

pub fn views<B: Backend>(ctx: &B, x: &Model, slices: &[SliceSpec], order: &[usize]) -> Checked {
    let (whole, t, model) = viewed(ctx, x, slices, order);
    prop_assert!(t.shares_memory_with(&whole));
    equal(&t, &model)?;
    equal(&t.copy().unwrap(), &model)?;
    let flat = Model { shape: vec![model.values.len()], values: model.values.clone() };
    equal(&t.flatten().unwrap(), &flat)?;
    equal(&t.flatten().unwrap().reshape(t.shape()).unwrap(), &model)?;
    // Elementwise operators see the same.
    let doubled = Model { values: model.values.iter().map(|v| v * 2 + 1).collect(), ..model.clone() };
    equal(&(&t * 2 + 1), &doubled)?;
    equal(&(&t + &t.copy().unwrap() + 1), &doubled)
}

pub fn reductions<B: Backend>(
    ctx: &B,
    x: &Model,
    slices: &[SliceSpec],
    order: &[usize],
    axes: &[usize],
    keep: bool,
) -> Checked {
    let (_, t, model) = viewed(ctx, x, slices, order);
    let given: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
    let kept = |a: &usize| !axes.contains(a);
    let outer: Vec<usize> = (0..model.shape.len()).filter(kept).map(|a| model.shape[a]).collect();
    let inner: Vec<usize> = axes.iter().map(|&a| model.shape[a]).collect();
    let shape: Vec<usize> = if keep {
        (0..model.shape.len()).map(|a| if axes.contains(&a) { 1 } else { model.shape[a] }).collect()
    } else {
        outer.clone()
    };
    let fold = |f: &dyn Fn(&[i64]) -> i64| {
        let mut m = Model::from_fn(&outer, |o| {
            let count: usize = inner.iter().product();
            let terms: Vec<i64> = (0..count)
                .map(|linear| {
                    let (mut i, mut o) = (index_of(&inner, linear).into_iter(), o.iter());
                    let at: Vec<usize> = (0..model.shape.len())
                        .map(|a| if axes.contains(&a) { i.next().unwrap() } else { *o.next().unwrap() })
                        .collect();
                    model.at(&at)
                })
                .collect();
            f(&terms)
        });
        m.shape = shape.clone();
        m
    };
    equal(&t.sum(&given[..], keep).unwrap(), &fold(&|v| v.iter().sum()))?;
    equal(&t.prod(&given[..], keep).unwrap(), &fold(&|v| v.iter().fold(1i64, |p, &x| p.wrapping_mul(x))))?;
    let any = t.greater_scalar(5).unwrap().any(&given[..], keep).unwrap();
    equal(&any.cast(isograd_core::DType::I64).unwrap(), &fold(&|v| v.iter().any(|x| *x > 5).into()))?;
    let all = t.less_scalar(9).unwrap().all(&given[..], keep).unwrap();
    equal(&all.cast(isograd_core::DType::I64).unwrap(), &fold(&|v| v.iter().all(|x| *x < 9).into()))?;
    // Over no elements there is no largest, but where nothing is asked for, that is no fault.
    if inner.contains(&0) {
        prop_assert!(t.max(&given[..], keep).is_err() && t.argmin(&given[..], keep).is_err());
        return Ok(());
    }
    equal(&t.max(&given[..], keep).unwrap(), &fold(&|v| *v.iter().max().unwrap()))?;
    equal(&t.min(&given[..], keep).unwrap(), &fold(&|v| *v.iter().min().unwrap()))?;
    let first = |v: &[i64], best: i64| v.iter().position(|x| *x == best).unwrap() as i64;
    equal(&t.argmax(&given[..], keep).unwrap(), &fold(&|v| first(v, *v.iter().max().unwrap())))?;
    equal(&t.argmin(&given[..], keep).unwrap(), &fold(&|v| first(v, *v.iter().min().unwrap())))?;
    for axis in 0..model.shape.len() {
        let sums = Model::from_fn(&model.shape, |i| {
            let mut at = i.to_vec();
            (0..=i[axis])
                .map(|k| {
                    at[axis] = k;
                    model.at(&at)
                })
                .sum()
        });
        equal(&t.cumsum(axis as isize).unwrap(), &sums)?;
    }
    Ok(())
}

pub fn broadcasts<B: Backend>(
    ctx: &B,
    x: &Model,
    slices: &[SliceSpec],
    order: &[usize],
    ones: u8,
    front: &[usize],
) -> Checked {
    let (_, t, model) = viewed(ctx, x, slices, order);
    // Axes of size 1 grow to 3 where a bit says so.
    let grown = |a: usize| if model.shape[a] == 1 && ones >> a & 1 == 1 { 3 } else { model.shape[a] };
    let target: Vec<usize> = front.iter().copied().chain((0..model.shape.len()).map(grown)).collect();
    let expected = Model::from_fn(&target, |i| {
        let at: Vec<usize> =
            i[front.len()..].iter().zip(&model.shape).map(|(&k, &n)| if n == 1 { 0 } else { k }).collect();
        model.at(&at)
    });
    let wide = t.broadcast_to(&target).unwrap();
    prop_assert!(wide.shares_memory_with(&t));
    equal(&wide, &expected)?;
    let other = Model::counting(&target);
    let sum =
        Model { values: expected.values.iter().zip(&other.values).map(|(a, b)| a - b).collect(), ..other.clone() };
    equal(&(&t - &other.tensor(ctx)), &sum)?;
    // Where sizes do not fit, every operator says so.
    if let Some(n) = target.last().filter(|n| **n > 1) {
        let short = Tensor::zeros(ctx, [n + 1], isograd_core::DType::I64).unwrap();
        prop_assert!(wide.add(&short).is_err() && short.broadcast_to(&target).is_err());
    }
    Ok(())
}

pub fn writes<B: Backend>(ctx: &B, x: &Model, slices: &[SliceSpec], order: &[usize]) -> Checked {
    let (whole, t, model) = viewed(ctx, x, slices, order);
    let marks = Model { values: (0..model.values.len() as i64).map(|i| 1000 + i).collect(), ..model.clone() };
    t.assign(&marks.tensor(ctx)).unwrap();
    equal(&t, &marks)?;
    // What the view does not show is as it was.
    let kept: Vec<Vec<usize>> = x.shape.iter().zip(slices).map(|(&n, &s)| positions(n, s)).collect();
    let now = whole.to_vec::<i64>().unwrap();
    for (linear, (&now, &before)) in now.iter().zip(&x.values).enumerate() {
        let shown = index_of(&x.shape, linear).iter().zip(&kept).all(|(i, k)| k.contains(i));
        prop_assert_eq!(shown, now >= 1000);
        prop_assert!(shown || now == before);
    }
    // A write from the same memory reads what was there before it.
    let mirrored = Model { values: marks.values.iter().rev().copied().collect(), ..marks };
    let mut source = t.clone();
    for a in 0..t.rank() {
        source = source.flip(a as isize).unwrap();
    }
    t.assign(&source).unwrap();
    equal(&t, &mirrored)
}

pub fn products<B: Backend>(
    ctx: &B,
    (m, k, n): (usize, usize, usize),
    batch: &[(usize, u8)],
    transposed: (bool, bool),
    backwards: (bool, bool),
) -> Checked {
    // An axis of the batch is on both sides, or of size 1 on one.
    let side = |one: u8| -> Vec<usize> { batch.iter().map(|&(n, how)| if how == one { 1 } else { n }).collect() };
    let (left, right) =
        (Model::counting(&[side(1), vec![m, k]].concat()), Model::counting(&[side(2), vec![k, n]].concat()));
    // The same matrices, in memory as their transposes, or backwards.
    let laid = |x: &Model, transposed: bool, backwards: bool| {
        let mut t = x.tensor(ctx);
        if transposed {
            t = t.swapaxes(-1, -2).unwrap().copy().unwrap().swapaxes(-1, -2).unwrap();
        }
        if backwards {
            t = t.flip(-1).unwrap().copy().unwrap().flip(-1).unwrap();
        }
        t
    };
    let (a, b) = (laid(&left, transposed.0, backwards.0), laid(&right, transposed.1, backwards.1));
    let shape: Vec<usize> = batch.iter().map(|b| b.0).chain([m, n]).collect();
    let expected = Model::from_fn(&shape, |i| {
        let (outer, row, column) = (&i[..batch.len()], i[batch.len()], i[batch.len() + 1]);
        let at = |x: &Model, r: usize, c: usize| {
            let mut at: Vec<usize> = outer.iter().zip(&x.shape).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
            at.extend([r, c]);
            x.at(&at)
        };
        (0..k).map(|t| at(&left, row, t) * at(&right, t, column)).sum()
    });
    equal(&a.matmul(&b).unwrap(), &expected)?;
    // In f64 sums of these small integers are exact.
    let real = |t: &Tensor<B>| t.cast(isograd_core::DType::F64).unwrap();
    equal(&real(&a).matmul(&real(&b)).unwrap().cast(isograd_core::DType::I64).unwrap(), &expected)
}

pub fn sorting<B: Backend>(ctx: &B, values: &[i64], rows: usize, descending: bool) -> Checked {
    let columns = values.len() / rows;
    let x = Model { shape: vec![rows, columns], values: values[..rows * columns].to_vec() };
    let t = x.tensor(ctx);
    let mut order = x.clone();
    let mut sorted = x.clone();
    for r in 0..rows {
        let row = &x.values[r * columns..(r + 1) * columns];
        let mut places: Vec<usize> = (0..columns).collect();
        places.sort_by(|&i, &j| if descending { row[j].cmp(&row[i]) } else { row[i].cmp(&row[j]) });
        for (c, p) in places.into_iter().enumerate() {
            order.values[r * columns + c] = p as i64;
            sorted.values[r * columns + c] = row[p];
        }
    }
    equal(&t.argsort(1, descending).unwrap(), &order)?;
    equal(&t.sort(-1, descending).unwrap(), &sorted)?;
    equal(&t.t().unwrap().sort(0, descending).unwrap().t().unwrap(), &sorted)?;
    equal(&t.cast(isograd_core::DType::F32).unwrap().argsort(1, descending).unwrap(), &order)
}

pub fn gathers<B: Backend>(ctx: &B, x: &Model, axis: usize, length: usize, seeds: &[usize]) -> Checked {
    let mut shape = x.shape.clone();
    shape[axis] = length;
    let n = x.shape[axis];
    let mut next = seeds.iter().cycle();
    let index = Model::from_fn(&shape, |_| (next.next().unwrap() % (2 * n)) as i64 - n as i64);
    let place = |i: &[usize]| {
        let mut at = i.to_vec();
        at[axis] = index.at(i).rem_euclid(n as i64) as usize;
        at
    };
    let expected = Model::from_fn(&shape, |i| x.at(&place(i)));
    let (t, positions) = (x.tensor(ctx), index.tensor(ctx));
    equal(&t.gather(axis as isize, &positions).unwrap(), &expected)?;
    let source = Model::counting(&shape);
    let mut sums = x.clone();
    for linear in 0..source.values.len() {
        let at = place(&index_of(&shape, linear));
        let flat = at.iter().zip(&x.shape).fold(0, |p, (&i, &n)| p * n + i);
        sums.values[flat] += source.values[linear];
    }
    equal(&t.scatter_add(axis as isize, &positions, &source.tensor(ctx)).unwrap(), &sums)?;
    equal(&t, x)
}

/// One spatial axis of a convolution: size, kernel, stride, padding, dilation.
type ConvAxis = (usize, usize, usize, usize, usize);

pub fn convolutions<B: Backend>(
    ctx: &B,
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    axes: &[ConvAxis],
) -> Checked {
    let x = Model::counting(&[vec![batch, channels], axes.iter().map(|a| a.0).collect()].concat());
    let kernel: Vec<usize> = axes.iter().map(|a| a.1).collect();
    let w = Model::counting(&[vec![outputs, channels / groups], kernel.clone()].concat());
    let options = ConvOptions {
        stride: axes.iter().map(|a| a.2).collect(),
        padding: axes.iter().map(|a| a.3).collect(),
        dilation: axes.iter().map(|a| a.4).collect(),
        groups,
        ..ConvOptions::default()
    };
    let f64s = |m: &Model| m.tensor(ctx).cast(isograd_core::DType::F64).unwrap();
    let y = f64s(&x).conv(&f64s(&w), None, &options);
    let extent = |a: &ConvAxis| (a.1 - 1) * a.4 + 1;
    if axes.iter().any(|a| a.0 + 2 * a.3 < extent(a)) {
        prop_assert!(y.is_err());
        return Ok(());
    }
    let spatial: Vec<usize> = axes.iter().map(|a| (a.0 + 2 * a.3 - extent(a)) / a.2 + 1).collect();
    let shape = [vec![batch, outputs], spatial].concat();
    // The element of the input that output position `o` sees at offset `t` of the kernel.
    let seen = |o: &[usize], t: &[usize]| -> Option<Vec<usize>> {
        (0..axes.len())
            .map(|a| (o[a] * axes[a].2 + t[a] * axes[a].4).checked_sub(axes[a].3).filter(|i| *i < axes[a].0))
            .collect()
    };
    let taps: usize = kernel.iter().product();
    let (per_in, per_out) = (channels / groups, outputs / groups);
    let expected = Model::from_fn(&shape, |i| {
        let mut sum = 0;
        for c in 0..per_in {
            for tap in 0..taps {
                let t = index_of(&kernel, tap);
                if let Some(at) = seen(&i[2..], &t) {
                    let input = [vec![i[0], i[1] / per_out * per_in + c], at].concat();
                    sum += x.at(&input) * w.at(&[vec![i[1], c], t].concat());
                }
            }
        }
        sum
    });
    let y = y.unwrap();
    equal(&y.cast(isograd_core::DType::I64).unwrap(), &expected)?;
    // The transposed convolution is the adjoint: <conv(x), y> = <x, conv_transpose(y)>, when sizes match.
    let fits = axes.iter().all(|a| (a.0 + 2 * a.3 - extent(a)).is_multiple_of(a.2));
    if fits {
        let head = Model::counting(&shape);
        let back = f64s(&head).conv_transpose(&f64s(&w), None, &options).unwrap();
        prop_assert_eq!(&back.shape()[..], &x.shape[..]);
        let left: i64 = expected.values.iter().zip(&head.values).map(|(a, b)| a * b).sum();
        let right = (&back * &f64s(&x)).sum((), false).unwrap().asscalar::<f64>().unwrap();
        prop_assert_eq!(left as f64, right);
    }
    Ok(())
}

/// One spatial axis of a pooling: size, kernel, stride, padding.
type PoolAxis = (usize, usize, usize, usize);

pub fn pools<B: Backend>(ctx: &B, axes: &[PoolAxis], ceil: bool, include: bool) -> Checked {
    let axes: Vec<PoolAxis> = axes.iter().map(|&(n, k, s, p)| (n, k, s, p.min(k - 1))).collect();
    let x = Model::counting(&[vec![2, 1], axes.iter().map(|a| a.0).collect()].concat());
    let options = PoolOptions {
        kernel: axes.iter().map(|a| a.1).collect(),
        stride: axes.iter().map(|a| a.2).collect(),
        padding: axes.iter().map(|a| a.3).collect(),
        ceil_mode: ceil,
        count_include_pad: include,
    };
    let t = x.tensor(ctx).cast(isograd_core::DType::F64).unwrap();
    let (max, mean) = (t.max_pool(&options), t.avg_pool(&options));
    if axes.iter().any(|a| a.0 + 2 * a.3 < a.1) {
        prop_assert!(max.is_err() && mean.is_err());
        return Ok(());
    }
    let count = |a: &PoolAxis| {
        let room = a.0 + 2 * a.3 - a.1;
        // With ceil, one more window when it starts within the input or the padding before it.
        let starts = |i: usize| i * a.2 < a.0 + a.3;
        let n = room / a.2 + 1;
        if ceil && !room.is_multiple_of(a.2) && starts(n) { n + 1 } else { n }
    };
    let shape: Vec<usize> = [2, 1].into_iter().chain(axes.iter().map(count)).collect();
    let (max, mean) = (max.unwrap(), mean.unwrap());
    prop_assert_eq!(&max.shape()[..], &shape[..]);
    prop_assert_eq!(&mean.shape()[..], &shape[..]);
    let (max, mean) = (max.to_vec::<f64>().unwrap(), mean.to_vec::<f64>().unwrap());
    let kernel: Vec<usize> = axes.iter().map(|a| a.1).collect();
    for linear in 0..max.len() {
        let i = index_of(&shape, linear);
        let (mut inside, mut padded) = (Vec::new(), 0);
        for tap in 0..kernel.iter().product() {
            let k = index_of(&kernel, tap);
            let at: Vec<usize> = (0..axes.len()).map(|a| i[2 + a] * axes[a].2 + k[a]).collect();
            padded += usize::from((0..axes.len()).all(|a| at[a] < axes[a].0 + 2 * axes[a].3));
            let real: Option<Vec<usize>> =
                (0..axes.len()).map(|a| at[a].checked_sub(axes[a].3).filter(|p| *p < axes[a].0)).collect();
            inside.extend(real.map(|at| x.at(&[vec![i[0], i[1]], at].concat()) as f64));
        }
        let largest = inside.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert_eq!(max[linear], largest);
        let expected = inside.iter().sum::<f64>() / if include { padded } else { inside.len() } as f64;
        prop_assert!((mean[linear] - expected).abs() < 1e-12 || (mean[linear].is_nan() && expected.is_nan()));
    }
    Ok(())
}
