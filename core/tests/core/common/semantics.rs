//! Operators on known values: NumPy's answers, and what the design says where NumPy has none.

use isograd_core::{
    Backend, DType, Element, Error, Tensor, f16,
    operators::{ConvOptions, Index, PadMode, PoolOptions, TakeMode, random},
};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn new<B: Backend, T: Element>(ctx: &B, values: &[T], shape: &[usize]) -> Tensor<B> {
    Tensor::from_slice(ctx, values, shape).unwrap()
}

/// The elements as f64.
fn of<B: Backend>(x: isograd_core::Result<Tensor<B>>) -> Vec<f64> {
    x.unwrap().to_values().unwrap().into_iter().map(|v| v.to_f64()).collect()
}

/// Equal, NaN equal to NaN, and -0 different from 0.
#[track_caller]
fn same<B: Backend>(x: isograd_core::Result<Tensor<B>>, expected: &[f64]) {
    let got = of(x);
    let fits = got.len() == expected.len()
        && got.iter().zip(expected).all(|(g, e)| (g.is_nan() && e.is_nan()) || g.to_bits() == e.to_bits());
    assert!(fits, "{got:?}, expected {expected:?}");
}

#[track_caller]
fn shaped<B: Backend>(x: isograd_core::Result<Tensor<B>>, expected: &[usize]) {
    assert_eq!(x.unwrap().shape()[..], *expected);
}

pub fn empty_and_rank_0<B: Backend>(ctx: &B) {
    let none = new::<B, f32>(ctx, &[], &[0, 3]);
    let one = Tensor::scalar(ctx, 4.0f32).unwrap();
    for f in [Tensor::exp, Tensor::relu, Tensor::neg, Tensor::copy, Tensor::flatten] {
        assert_eq!(f(&none).unwrap().size(), 0);
        assert_eq!(f(&one).unwrap().size(), 1);
    }
    shaped(none.add(&one), &[0, 3]);
    shaped(none.add(&new(ctx, &[1.0f32], &[1, 1])), &[0, 3]);
    shaped(none.sum(0, false), &[3]);
    same(none.sum(0, false), &[0.0; 3]);
    same(none.sum((), false), &[0.0]);
    same(none.prod((), false), &[1.0]);
    same(none.mean((), false), &[NAN]);
    shaped(none.sum(1, false), &[0]);
    shaped(none.max(1, true), &[0, 1]);
    same(none.cast(DType::Bool).unwrap().all((), false), &[1.0]);
    same(none.cast(DType::Bool).unwrap().any((), false), &[0.0]);
    same(none.logsumexp(0, false), &[-INF; 3]);
    shaped(none.t(), &[3, 0]);
    shaped(none.reshape([5, 0]), &[5, 0]);
    shaped(none.broadcast_to([2, 0, 3]), &[2, 0, 3]);
    shaped(none.matmul(&Tensor::ones(ctx, [3, 2], DType::F32).unwrap()), &[0, 2]);
    same(none.t().unwrap().matmul(&none), &[0.0; 9]);
    shaped(none.softmax(1), &[0, 3]);
    shaped(none.softmax(0), &[0, 3]);
    shaped(none.cumsum(0), &[0, 3]);
    shaped(none.sort(0, false), &[0, 3]);
    shaped(none.argsort(1, true), &[0, 3]);
    shaped(none.flip(0), &[0, 3]);
    shaped(none.roll(2, 0), &[0, 3]);
    shaped(none.tile(&[2, 2]), &[0, 6]);
    shaped(none.repeat(2, 0), &[0, 3]);
    same(none.pad(&[(1, 1)], PadMode::Constant(2.0)), &[2.0; 6]);
    shaped(Tensor::concat(&[&none, &Tensor::ones(ctx, [2, 3], DType::F32).unwrap()], 0), &[2, 3]);
    shaped(none.take(&new::<B, i64>(ctx, &[], &[0]), 1, TakeMode::Raise), &[0, 0]);
    shaped(none.gather(1, &new::<B, i64>(ctx, &[], &[0, 2])), &[0, 2]);
    shaped(none.one_hot(2, 1, 0, DType::F32), &[0, 3, 2]);
    shaped(none.outer(&one), &[0, 1]);
    let images = Tensor::zeros(ctx, [0, 4, 5], DType::F32).unwrap();
    let weight = Tensor::ones(ctx, [2, 4, 3], DType::F32).unwrap();
    shaped(images.conv(&weight, None, &ConvOptions::default()), &[0, 2, 3]);
    shaped(images.max_pool(&PoolOptions::new(&[2])), &[0, 4, 2]);
    let p = Tensor::ones(ctx, [4], DType::F32).unwrap();
    shaped(images.group_norm(&p, &p, 2, 1e-5), &[0, 4, 5]);
    shaped(
        images.layer_norm(
            &Tensor::ones(ctx, [5], DType::F32).unwrap(),
            &Tensor::ones(ctx, [5], DType::F32).unwrap(),
            1e-5,
            -1,
        ),
        &[0, 4, 5],
    );

    assert_eq!((one.rank(), one.size()), (0, 1));
    same(one.sqrt(), &[2.0]);
    same(one.sum((), false), &[4.0]);
    same(one.sum([0isize; 0], true), &[4.0]);
    same(one.max((), true), &[4.0]);
    same(one.argmax((), false), &[0.0]);
    same(one.var((), false, 0), &[0.0]);
    shaped(one.reshape([1, 1]), &[1, 1]);
    shaped(one.expand_dims(-1), &[1]);
    shaped(one.broadcast_to([2]), &[2]);
    shaped(one.transpose(&[]), &[]);
    shaped(one.squeeze(()), &[]);
    shaped(one.tile(&[3]), &[3]);
    same(one.pad(&[], PadMode::Edge), &[4.0]);
    same(new(ctx, &[5.0f32, 6.0], &[2]).take(&Tensor::scalar(ctx, 1i64).unwrap(), 0, TakeMode::Raise), &[6.0]);
    shaped(new(ctx, &[5.0f32, 6.0], &[2]).select(0, 1), &[]);
    shaped(Tensor::stack(&[&one, &one], 0), &[2]);
    assert_eq!(one.asscalar::<f64>().unwrap(), 4.0);
}

pub fn nan_goes_through<B: Backend>(ctx: &B) {
    let x = new(ctx, &[1.0, NAN, -3.0], &[3]);
    same(x.max((), false), &[NAN]);
    same(x.min((), false), &[NAN]);
    same(x.sum((), false), &[NAN]);
    same(x.relu(), &[1.0, NAN, 0.0]);
    same(x.maximum_scalar(0.0), &[1.0, NAN, 0.0]);
    same(x.minimum_scalar(0.0), &[0.0, NAN, -3.0]);
    same(x.maximum(&new(ctx, &[NAN, 0.0, NAN], &[3])), &[NAN; 3]);
    same(x.clamp(-1.0, 0.5), &[0.5, NAN, -1.0]);
    same(x.sign(), &[1.0, NAN, -1.0]);
    same(x.argmax((), false), &[1.0]);
    same(x.argmin((), false), &[1.0]);
    same(x.nansum((), false), &[-2.0]);
    same(x.nanprod((), false), &[-3.0]);
    same(x.equal(&x), &[1.0, 0.0, 1.0]);
    same(x.not_equal(&x), &[0.0, 1.0, 0.0]);
    same(x.less_scalar(2.0), &[1.0, 0.0, 1.0]);
    same(x.is_nan(), &[0.0, 1.0, 0.0]);
    same(new(ctx, &[INF, -INF, 0.0, NAN], &[4]).is_inf(), &[1.0, 1.0, 0.0, 0.0]);
    // NaN is not 0, so it is true, as in NumPy.
    same(x.cast(DType::Bool), &[1.0, 1.0, 1.0]);
    same(x.cast(DType::I32), &[1.0, 0.0, -3.0]);
    same(x.reshape([1, 1, 3]).unwrap().max_pool(&PoolOptions::new(&[2])), &[NAN]);
    same(x.softmax(0), &[NAN; 3]);
    same(x.logsumexp((), false), &[NAN]);
    same(new(ctx, &[-INF, -INF], &[2]).logsumexp((), false), &[-INF]);
    same(new(ctx, &[INF, 1.0], &[2]).logsumexp((), false), &[INF]);
    same(x.any((), false), &[1.0]);
    same(new(ctx, &[0.0, -0.0], &[2]).any((), false), &[0.0]);
}

pub fn rounding<B: Backend>(ctx: &B) {
    let x = new(ctx, &[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994, 4503599627370495.5], &[8]);
    same(x.round(), &[-2.0, -2.0, -0.0, 0.0, 2.0, 2.0, 0.0, 4503599627370496.0]);
    same(x.trunc(), &[-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, 0.0, 4503599627370495.0]);
    same(x.floor(), &[-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 0.0, 4503599627370495.0]);
    same(x.ceil(), &[-2.0, -1.0, -0.0, 1.0, 2.0, 3.0, 1.0, 4503599627370496.0]);
    // The sum of f16 is kept in f32 and rounded once: in f16, 2048 + 1 is 2048.
    let ones = Tensor::ones(ctx, [4096], DType::F16).unwrap();
    same(ones.sum((), false), &[4096.0]);
    same(Tensor::full(ctx, [100], 60000.0, DType::F16).unwrap().mean((), false), &[60000.0]);
    same(Tensor::full(ctx, [4], 200.0, DType::F16).unwrap().norm((), false), &[400.0]);
}

pub fn integers<B: Backend>(ctx: &B) {
    let (a, b) = (new(ctx, &[7i32, -7, 7, -7, 5, i32::MIN], &[6]), new(ctx, &[2i32, 2, -2, -2, 0, -1], &[6]));
    same(a.div(&b), &[3.0, -3.0, -3.0, 3.0, 0.0, f64::from(i32::MIN)]);
    same(a.rem(&b), &[1.0, 1.0, -1.0, -1.0, 0.0, 0.0]);
    same(
        new(ctx, &[7.5, -7.5, 7.5, -7.5], &[4]).rem(&new(ctx, &[2.0, 2.0, -2.0, -2.0], &[4])),
        &[1.5, 0.5, -0.5, -1.5],
    );
    same(new(ctx, &[250u8, 5], &[2]).add_scalar(10), &[4.0, 15.0]);
    same(new(ctx, &[i64::MAX], &[1]).add_scalar(1), &[i64::MIN as f64]);
    same(new(ctx, &[200u8, 200], &[2]).sum((), false), &[144.0]);
    same(new(ctx, &[i32::MIN], &[1]).abs(), &[f64::from(i32::MIN)]);
    same(new(ctx, &[2i64, 3], &[2]).pow_scalar(3), &[8.0, 27.0]);
    same(new(ctx, &[2i64, -3], &[2]).pow(&new(ctx, &[10i64, 3], &[2])), &[1024.0, -27.0]);
    same(new(ctx, &[1i32, 2, 3, 4], &[2, 2]).matmul(&new(ctx, &[5i32, 6, 7, 8], &[2, 2])), &[19.0, 22.0, 43.0, 50.0]);
    let sum = new(ctx, &[true, true, false], &[3]).sum((), false).unwrap();
    assert_eq!((sum.dtype(), sum.asscalar::<i64>().unwrap()), (DType::I64, 2));
    same(new(ctx, &[3i64, -1, 2], &[3]).relu(), &[3.0, 0.0, 2.0]);
    same(new(ctx, &[3i64, -1, 2], &[3]).cumsum(0), &[3.0, 2.0, 4.0]);
    same(new(ctx, &[i64::MIN, i64::MAX], &[2]).max((), false), &[i64::MAX as f64]);
    // Beyond 2^53, where f64 cannot tell neighbours apart.
    let big = new(ctx, &[9007199254740993i64, 9007199254740992], &[2]);
    assert_eq!(big.max((), false).unwrap().asscalar::<i64>().unwrap(), 9007199254740993);
    assert_eq!(big.argmin((), false).unwrap().asscalar::<i64>().unwrap(), 1);
    assert_eq!(big.sort(0, false).unwrap().to_vec::<i64>().unwrap(), [9007199254740992, 9007199254740993]);
}

pub fn positions_of_extremes<B: Backend>(ctx: &B) {
    let x = new(ctx, &[1.0f32, 5.0, 5.0, 0.0, 0.0, 5.0], &[2, 3]);
    let first = x.argmax(1, false).unwrap();
    assert_eq!(first.dtype(), DType::I64);
    same(Ok(first), &[1.0, 2.0]);
    same(x.argmin(1, false), &[0.0, 0.0]);
    same(x.argmax((), false), &[1.0]);
    same(x.argmax(0, true), &[0.0, 0.0, 0.0]);
    same(x.argmax([0, 1], false), &[1.0]);
    same(x.t().unwrap().argmax((), false), &[2.0]);
    same(x.expand_dims(1).unwrap().argmax([0, 2], false), &[1.0]);
    same(new(ctx, &[1.0, NAN, 9.0, NAN], &[4]).argmin((), false), &[1.0]);
    same(new(ctx, &[false, true, true], &[3]).argmax((), false), &[1.0]);
}

pub fn broadcasting<B: Backend>(ctx: &B) {
    let row = new(ctx, &[1.0f32, 2.0, 3.0], &[3]);
    let column = new(ctx, &[10.0f32, 20.0], &[2, 1]);
    same(row.add(&column), &[11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
    shaped(
        Tensor::ones(ctx, [4, 1, 3], DType::F32).unwrap().mul(&Tensor::ones(ctx, [5, 1], DType::F32).unwrap()),
        &[4, 5, 3],
    );
    let wide = row.broadcast_to([2, 3]).unwrap();
    assert!(wide.shares_memory_with(&row) && wide.layout().strides() == [0, 1]);
    same(wide.copy(), &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    same(new(ctx, &[true, false], &[2, 1]).where_(&row, &column), &[1.0, 2.0, 3.0, 20.0, 20.0, 20.0]);
    same(Ok(&column - &row), &[9.0, 8.0, 7.0, 19.0, 18.0, 17.0]);
    same(Ok(2.0 / &row), &[2.0, 1.0, f64::from(2.0f32 / 3.0)]);
}

/// Python's rule for `x[start:stop:step]` on n elements, written by the book.
fn python_slice(n: isize, start: Option<isize>, stop: Option<isize>, step: isize) -> Vec<f64> {
    let (mut at, end) = if step > 0 {
        let fix = |v: isize| if v < 0 { (v + n).max(0) } else { v.min(n) };
        (start.map_or(0, fix), stop.map_or(n, fix))
    } else {
        let fix = |v: isize| if v < 0 { (v + n).max(-1) } else { v.min(n - 1) };
        (start.map_or(n - 1, fix), stop.map_or(-1, fix))
    };
    let mut found = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        found.push(at as f64);
        at = at.saturating_add(step);
    }
    found
}

pub fn slices<B: Backend>(ctx: &B) {
    let bounds: Vec<Option<isize>> = [-7, -5, -4, -1, 0, 1, 3, 4, 5, 9].into_iter().map(Some).chain([None]).collect();
    for n in [0isize, 1, 4, 5] {
        let x = Tensor::arange(ctx, 0, n as i64, 1, DType::F64).unwrap();
        for &start in &bounds {
            for &stop in &bounds {
                for step in [-7, -3, -2, -1, 1, 2, 3, 7, isize::MAX, isize::MIN, -isize::MAX] {
                    same(x.slice(0, start, stop, step), &python_slice(n, start, stop, step));
                }
            }
        }
    }
    let x = Tensor::arange(ctx, 0, 24, 1, DType::F64).unwrap().reshape([2, 3, 4]).unwrap();
    assert!(x.slice(1, None, None, -2).unwrap().shares_memory_with(&x));
    same(x.index(&[Index::At(-1), (-2..-1).into(), (1..=2).into()]), &[17.0, 18.0]);
    same(x.index(&[Index::At(0), Index::At(1), (..).into()]), &[4.0, 5.0, 6.0, 7.0]);
    same(x.index(&[Index::Ellipsis, Index::At(0)]), &[0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
    same(
        x.index(&[(..1).into(), Index::Ellipsis, std::ops::RangeInclusive::new(2, -1).into()]),
        &[2.0, 3.0, 6.0, 7.0, 10.0, 11.0],
    );
    shaped(x.index(&[Index::NewAxis, Index::At(0), Index::NewAxis, Index::Ellipsis, Index::NewAxis]), &[1, 1, 3, 4, 1]);
    shaped(x.index(&[]), &[2, 3, 4]);
    same(x.select(2, -4).unwrap().flip(0), &[12.0, 16.0, 20.0, 0.0, 4.0, 8.0]);
}

pub fn reshapes<B: Backend>(ctx: &B) {
    let x = Tensor::arange(ctx, 0, 24, 1, DType::F32).unwrap().reshape([2, 3, 4]).unwrap();
    assert!(x.reshape([6, -1]).unwrap().shares_memory_with(&x));
    assert!(x.slice(0, Some(1), None, 1).unwrap().reshape([12]).unwrap().shares_memory_with(&x));
    assert!(x.slice(2, None, None, 2).unwrap().reshape([6, 2]).unwrap().shares_memory_with(&x));
    let moved = x.transpose(&[2, 0, 1]).unwrap();
    assert!(moved.shares_memory_with(&x) && !moved.is_contiguous());
    let flat = moved.flatten().unwrap();
    assert!(!flat.shares_memory_with(&x));
    let expected: Vec<f64> = (0..4).flat_map(|k| (0..6).map(move |ij| (ij * 4 + k) as f64)).collect();
    same(Ok(flat), &expected);
    assert!(moved.reshape([4, 6]).unwrap().shares_memory_with(&x));
    for (codes, shape) in [
        (&[0isize, -1][..], &[2usize, 12][..]),
        (&[-2], &[2, 3, 4]),
        (&[-3, 4], &[6, 4]),
        (&[-3, -2], &[6, 4]),
        (&[0, 0, -4, 2, -1], &[2, 3, 2, 2]),
        (&[-4, 1, 2, -2], &[1, 2, 3, 4]),
        (&[24], &[24]),
    ] {
        shaped(x.reshape_codes(codes), shape);
    }
    same(x.swapaxes(0, -1).unwrap().select(0, 1).unwrap().select(0, 2), &[9.0, 21.0]);
    shaped(x.expand_dims(-2), &[2, 3, 1, 4]);
    shaped(x.expand_dims(1).unwrap().expand_dims(0).unwrap().squeeze([0, 2]), &[2, 3, 4]);
    same(new(ctx, &[1.0, 2.0, 3.0], &[3]).roll(-1, 0), &[2.0, 3.0, 1.0]);
    same(new(ctx, &[1.0, 2.0, 3.0], &[3]).roll(7, 0), &[3.0, 1.0, 2.0]);
    same(new(ctx, &[1.0, 2.0], &[2]).repeat(2, 0), &[1.0, 1.0, 2.0, 2.0]);
    same(new(ctx, &[1.0, 2.0], &[2]).tile(&[2]), &[1.0, 2.0, 1.0, 2.0]);
    shaped(x.tile(&[2, 1, 1, 2]), &[2, 2, 3, 8]);
    same(new(ctx, &[1.0, 2.0, 3.0], &[3]).pad(&[(2, 2)], PadMode::Reflect), &[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
    let square = Tensor::arange(ctx, 1, 10, 1, DType::F64).unwrap().reshape([3, 3]).unwrap();
    same(square.tril(-1), &[0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0]);
    same(square.triu(1), &[0.0, 2.0, 3.0, 0.0, 0.0, 6.0, 0.0, 0.0, 0.0]);
    same(
        Tensor::concat(&[&square.narrow(1, 2, 1).unwrap(), &square.narrow(1, 0, 1).unwrap()], 1),
        &[3.0, 1.0, 6.0, 4.0, 9.0, 7.0],
    );
}

pub fn in_place<B: Backend>(ctx: &B) {
    let x = Tensor::arange(ctx, 0, 6, 1, DType::F64).unwrap();
    let view = x.reshape([2, 3]).unwrap();
    assert_eq!((x.version(), view.version()), (0, 0));
    view.select(0, 1).unwrap().assign(&new(ctx, &[9.0], &[1])).unwrap();
    same(x.copy(), &[0.0, 1.0, 2.0, 9.0, 9.0, 9.0]);
    assert_eq!((x.version(), view.version()), (1, 1));
    x.slice(0, None, None, 2).unwrap().fill(-1).unwrap();
    same(x.copy(), &[-1.0, 1.0, -1.0, 9.0, -1.0, 9.0]);
    // Source and target overlap: the source is read as it was before.
    let y = Tensor::arange(ctx, 0, 6, 1, DType::F64).unwrap();
    y.narrow(0, 1, 5).unwrap().assign(&y.narrow(0, 0, 5).unwrap()).unwrap();
    same(y.copy(), &[0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    y.assign(&y.flip(0).unwrap()).unwrap();
    same(y.copy(), &[4.0, 3.0, 2.0, 1.0, 0.0, 0.0]);
    y.assign(&y).unwrap();
    same(y.copy(), &[4.0, 3.0, 2.0, 1.0, 0.0, 0.0]);
    let square = Tensor::arange(ctx, 0, 9, 1, DType::F64).unwrap().reshape([3, 3]).unwrap();
    square.assign(&square.t().unwrap()).unwrap();
    same(square.copy(), &[0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
    square.assign(&square.select(0, 1).unwrap()).unwrap();
    same(square.copy(), &[1.0, 4.0, 7.0, 1.0, 4.0, 7.0, 1.0, 4.0, 7.0]);
    square.assign_slice(&[0.5; 9]).unwrap();
    same(square.sum((), false), &[4.5]);
    // Nothing to write is no write that could fail.
    let none = Tensor::zeros(ctx, [0, 3], DType::F64).unwrap();
    none.fill(1.0).unwrap();
    none.assign(&Tensor::scalar(ctx, 1.0).unwrap()).unwrap();
    // Copies and detached tensors: a copy is separate, a detached tensor is not.
    let z = new(ctx, &[1.0], &[1]);
    let (copy, detached) = (z.copy().unwrap(), z.detach());
    z.fill(2.0).unwrap();
    same(Ok(copy), &[1.0]);
    same(Ok(detached), &[2.0]);
    // One position of a rank-0 tensor.
    let scalar = Tensor::scalar(ctx, 1.0).unwrap();
    scalar.assign(&Tensor::scalar(ctx, 3.0).unwrap()).unwrap();
    assert_eq!(scalar.asscalar::<f64>().unwrap(), 3.0);
}

pub fn windows_and_pooling<B: Backend>(ctx: &B) {
    let x = new(ctx, &[3.0, 1.0, 2.0, 5.0, 4.0], &[1, 1, 5]);
    let pool = |kernel, stride, padding, ceil_mode, count_include_pad| PoolOptions {
        kernel: vec![kernel],
        stride: vec![stride],
        padding: vec![padding],
        ceil_mode,
        count_include_pad,
    };
    same(x.max_pool(&pool(2, 2, 0, false, true)), &[3.0, 5.0]);
    same(x.max_pool(&pool(2, 2, 0, true, true)), &[3.0, 5.0, 4.0]);
    same(x.avg_pool(&pool(2, 2, 1, false, true)), &[1.5, 1.5, 4.5]);
    same(x.avg_pool(&pool(2, 2, 1, false, false)), &[3.0, 1.5, 4.5]);
    // What lies beyond the padding never counts.
    same(x.avg_pool(&pool(2, 2, 0, true, true)), &[2.0, 3.5, 4.0]);
    // Padding never wins, not even over negative numbers.
    same(x.neg().unwrap().max_pool(&pool(3, 2, 1, false, true)), &[-1.0, -1.0, -4.0]);
    // A window that would start beyond the padding is none.
    same(x.max_pool(&pool(1, 3, 0, true, true)), &[3.0, 5.0]);
    same(x.avg_pool(&pool(1, 3, 0, true, false)), &[3.0, 5.0]);
    same(new(ctx, &[4i32, -1, 7], &[1, 1, 3]).max_pool(&PoolOptions::new(&[3])), &[7.0]);
    let w = new(ctx, &[1.0, 10.0], &[1, 1, 2]);
    // Cross-correlation, not mirrored.
    same(x.conv(&w, None, &ConvOptions::default()), &[13.0, 21.0, 52.0, 45.0]);
    let bias = new(ctx, &[0.5], &[1]);
    same(
        x.conv(&w, Some(&bias), &ConvOptions { stride: vec![2], padding: vec![1], ..Default::default() }),
        &[30.5, 21.5, 45.5],
    );
    same(x.conv(&w, None, &ConvOptions { dilation: vec![3], ..Default::default() }), &[53.0, 41.0]);
    let y = new(ctx, &[1.0, 2.0], &[1, 1, 2]);
    same(y.conv_transpose(&w, None, &ConvOptions::default()), &[1.0, 12.0, 20.0]);
    let wide = ConvOptions { stride: vec![3], output_padding: vec![1], ..Default::default() };
    same(y.conv_transpose(&w, None, &wide), &[1.0, 10.0, 0.0, 2.0, 20.0, 0.0]);
    same(x.unfold(&[2], &ConvOptions { stride: vec![3], ..Default::default() }), &[3.0, 5.0, 1.0, 4.0]);
    same(x.adaptive_avg_pool(&[2]), &[2.0, 11.0 / 3.0]);
    same(x.adaptive_max_pool(&[3]), &[3.0, 5.0, 5.0]);
    same(x.global_max_pool(), &[5.0]);
    same(x.global_avg_pool(), &[3.0]);
}

pub fn sorting<B: Backend>(ctx: &B) {
    let x = new(ctx, &[2.0, NAN, -1.0, 2.0, INF], &[5]);
    same(x.sort(0, false), &[-1.0, 2.0, 2.0, INF, NAN]);
    same(x.sort(0, true), &[INF, 2.0, 2.0, -1.0, NAN]);
    same(x.argsort(0, false), &[2.0, 0.0, 3.0, 4.0, 1.0]);
    same(x.argsort(0, true), &[4.0, 0.0, 3.0, 2.0, 1.0]);
    let m = new(ctx, &[3i32, 1, 2, 9, 7, 8], &[2, 3]);
    same(m.sort(-1, false), &[1.0, 2.0, 3.0, 7.0, 8.0, 9.0]);
    same(m.sort(0, true), &[9.0, 7.0, 8.0, 3.0, 1.0, 2.0]);
    let (values, places) = m.topk(2, 1, true).unwrap();
    assert_eq!(places.dtype(), DType::I64);
    same(Ok(values), &[3.0, 2.0, 9.0, 8.0]);
    same(Ok(places), &[0.0, 2.0, 0.0, 2.0]);
    shaped(m.topk(0, 1, true).map(|t| t.0), &[2, 0]);
    same(new(ctx, &[true, false, true], &[3]).sort(0, false), &[0.0, 1.0, 1.0]);
    // Positions: clipped, wrapped, raised; given in any dtype.
    let v = new(ctx, &[10.0, 20.0, 30.0], &[3]);
    let i = new(ctx, &[-4.0f32, -1.0, 3.0], &[3]);
    same(v.take(&i, 0, TakeMode::Clip), &[10.0, 10.0, 30.0]);
    same(v.take(&i, 0, TakeMode::Wrap), &[30.0, 30.0, 10.0]);
    same(v.take(&new(ctx, &[-1i32, -3], &[2]), 0, TakeMode::Raise), &[30.0, 10.0]);
    same(new(ctx, &[1i64, -1, 3], &[3]).one_hot(3, 5, 0, DType::F32), &[0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let target = Tensor::zeros(ctx, [3], DType::F64).unwrap();
    same(
        target.scatter_add(0, &new(ctx, &[0i64, 2, 0, -1], &[4]), &new(ctx, &[1.0, 2.0, 3.0, 4.0], &[4])),
        &[4.0, 0.0, 6.0],
    );
    same(Ok(target), &[0.0; 3]);
}

pub fn norms_of_nothing<B: Backend>(ctx: &B) {
    let x = new(ctx, &[1.0, 3.0], &[2]);
    same(x.var((), false, 0), &[1.0]);
    same(x.var((), false, 1), &[2.0]);
    same(new(ctx, &[5.0], &[1]).var((), false, 1), &[NAN]);
    same(x.var((), false, 5), &[INF]);
    same(Tensor::zeros(ctx, [0], DType::F64).unwrap().var((), false, 0), &[NAN]);
    same(Tensor::zeros(ctx, [2], DType::F64).unwrap().norm((), false), &[0.0]);
    same(new(ctx, &[1e200, 1.0], &[2]).hypot(&new(ctx, &[1e200, 0.0], &[2])).unwrap().is_inf(), &[0.0, 0.0]);
    // Far from 0 the one-pass formula would cancel.
    same(new(ctx, &[1e8, 1e8 + 1.0, 1e8 + 2.0, 1e8 + 3.0], &[4]).var((), false, 0), &[1.25]);
    same(new(ctx, &[1000.0, 1000.0], &[2]).softmax(0), &[0.5, 0.5]);
    same(new(ctx, &[0.0, -INF], &[2]).softmax(0), &[1.0, 0.0]);
    same(new(ctx, &[0.0, -INF], &[2]).log_softmax(0), &[0.0, -INF]);
    same(new(ctx, &[-1000.0, 0.0], &[2]).softplus(), &[0.0, 2f64.ln()]);
    same(new(ctx, &[1000.0, -1000.0], &[2]).sigmoid(), &[1.0, 0.0]);
    same(new(ctx, &[0.0, 0.0, 2.0, -8.0], &[4]).pow(&new(ctx, &[0.0, 2.0, -1.0, 3.0], &[4])), &[1.0, 0.0, 0.5, -512.0]);
    same(new(ctx, &[-8.0, 27.0], &[2]).cbrt(), &[-2.0, 3.0]);
    same(new(ctx, &[0.0, -0.0, 1.0], &[3]).reciprocal(), &[INF, -INF, 1.0]);
}

pub fn creation<B: Backend>(ctx: &B) {
    same(Tensor::arange(ctx, 5, 0, -2, DType::I64), &[5.0, 3.0, 1.0]);
    same(Tensor::arange(ctx, 0.0, 1.0, 0.25, DType::F64), &[0.0, 0.25, 0.5, 0.75]);
    same(Tensor::arange(ctx, 3, 3, 1, DType::I32), &[]);
    same(Tensor::arange(ctx, 3, 0, 1, DType::I32), &[]);
    same(Tensor::arange(ctx, i64::MAX - 2, i64::MAX, 1, DType::I64), &[(i64::MAX - 2) as f64, (i64::MAX - 1) as f64]);
    // Computed in f32 and rounded once; beyond 2048, f16 has only every other integer.
    same(Tensor::arange(ctx, 2046, 2051, 1, DType::F16), &[2046.0, 2047.0, 2048.0, 2048.0, 2050.0]);
    // Steps that the dtype does not have, up and down to its ends.
    same(Tensor::arange(ctx, 5, -1, -2, DType::U8), &[5.0, 3.0, 1.0]);
    same(Tensor::arange(ctx, 254, 700, 500, DType::U8), &[254.0]);
    same(Tensor::arange(ctx, 250, 256, 1, DType::U8), &[250.0, 251.0, 252.0, 253.0, 254.0, 255.0]);
    if ctx.capabilities().stores.contains(DType::I8) {
        same(Tensor::arange(ctx, 127, -129, -85, DType::I8), &[127.0, 42.0, -43.0, -128.0]);
    }
    same(
        Tensor::arange(ctx, i64::MIN, i64::MAX, i64::MAX, DType::I64),
        &[i64::MIN as f64, -1.0, (i64::MAX - 1) as f64],
    );
    same(Tensor::arange(ctx, 2.0, 0.0, -0.75, DType::F32), &[2.0, 1.25, 0.5]);
    same(Tensor::arange(ctx, 300, 200, 1, DType::U8), &[]);
    for (start, stop, step) in
        [(NAN, 5.0, 1.0), (0.0, NAN, 1.0), (0.0, 5.0, NAN), (0.0, INF, 1.0), (0.0, 5.0, INF), (-INF, 0.0, 1.0)]
    {
        for dtype in [DType::F64, DType::F16, DType::I32] {
            let refused = Tensor::arange(ctx, start, stop, step, dtype).unwrap_err();
            assert!(matches!(refused, Error::InvalidArgument { op: "arange", .. }), "{refused}");
        }
    }
    for (start, stop, step, dtype) in [
        (200i64, 260i64, 1i64, DType::U8),
        (2, -2, -1, DType::U8),
        (-130, 0, 1, DType::I8),
        (0, 1 << 33, 1 << 31, DType::I32),
        (60_000, 70_001, 5_000, DType::F16),
    ] {
        let refused = Tensor::arange(ctx, start, stop, step, dtype).unwrap_err();
        assert!(matches!(refused, Error::ScalarOutOfRange { dtype: d, .. } if d == dtype), "{refused}");
    }
    assert!(matches!(Tensor::arange(ctx, 0, i64::MAX, 1, DType::U8), Err(Error::ScalarOutOfRange { .. })));
    assert!(matches!(Tensor::arange(ctx, 0.0, 1e300, 1.0, DType::F64), Err(Error::OutOfMemory { .. })));
    same(Tensor::linspace(ctx, 0.0, 1.0, 5, DType::F32), &[0.0, 0.25, 0.5, 0.75, 1.0]);
    // A distance beyond the largest number.
    let most = f64::from(f32::MAX);
    same(Tensor::linspace(ctx, -most, most, 5, DType::F32), &[-most, -most / 2.0, 0.0, most / 2.0, most]);
    same(Tensor::linspace(ctx, f64::MIN, f64::MAX, 2, DType::F64), &[f64::MIN, f64::MAX]);
    same(Tensor::linspace(ctx, f64::MIN, f64::MAX, 3, DType::F64), &[f64::MIN, 0.0, f64::MAX]);
    same(Tensor::linspace(ctx, 60_000.0, -60_000.0, 4, DType::F16), &[60_000.0, 20_000.0, -20_000.0, -60_000.0]);
    for (start, stop) in [(NAN, 1.0), (0.0, INF)] {
        let refused = Tensor::linspace(ctx, start, stop, 3, DType::F32).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument { op: "linspace", .. }), "{refused}");
    }
    assert!(matches!(Tensor::linspace(ctx, 0.0, 1e5, 3, DType::F16), Err(Error::ScalarOutOfRange { .. })));
    same(Tensor::linspace(ctx, 2.0, 9.0, 1, DType::F32), &[2.0]);
    same(Tensor::linspace(ctx, 2.0, 9.0, 0, DType::F32), &[]);
    same(Tensor::linspace(ctx, 0.0, 0.1, 4, DType::F64).unwrap().select(0, 3), &[0.1]);
    same(Tensor::eye(ctx, 2, 3, 1, DType::F32), &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    same(Tensor::eye(ctx, 2, 2, -1, DType::Bool), &[0.0, 0.0, 1.0, 0.0]);
    same(Tensor::tri(ctx, 2, 3, 0, DType::I32), &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
    same(Tensor::full(ctx, [2], true, DType::Bool), &[1.0, 1.0]);
    same(Tensor::full(ctx, [], 7, DType::U8), &[7.0]);
    let too_large = 2f64.powi(63);
    assert!(matches!(Tensor::full(ctx, [1], too_large, DType::I64), Err(Error::ScalarOutOfRange { .. })));
    same(Tensor::full(ctx, [1], -too_large, DType::I64), &[-too_large]);
    let class = new(ctx, &[1i64], &[1]);
    assert!(matches!(class.one_hot(3, 300, 0, DType::U8), Err(Error::ScalarOutOfRange { .. })));
    assert!(matches!(class.one_hot(3, 1, NAN, DType::I32), Err(Error::ScalarOutOfRange { .. })));
    shaped(Tensor::eye(ctx, 0, 3, 0, DType::F32), &[0, 3]);
    assert!(Tensor::full(ctx, [1], 256, DType::U8).is_err() && Tensor::full(ctx, [1], -1, DType::U8).is_err());
    assert!(Tensor::full(ctx, [1], NAN, DType::I32).is_err());
    assert!(new(ctx, &[1i32], &[1]).mul_scalar(0.5).is_err());
}

pub fn casts<B: Backend>(ctx: &B) {
    let x = new(ctx, &[1.9, -1.9, 300.0, -300.0, 1e20, NAN, -0.0], &[7]);
    same(x.cast(DType::I32), &[1.0, -1.0, 300.0, -300.0, f64::from(i32::MAX), 0.0, 0.0]);
    same(x.cast(DType::U8), &[1.0, 0.0, 255.0, 0.0, 255.0, 0.0, 0.0]);
    same(x.cast(DType::I64), &[1.0, -1.0, 300.0, -300.0, i64::MAX as f64, 0.0, 0.0]);
    same(x.cast(DType::Bool), &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    same(new(ctx, &[65504.0, 65520.0, 1e-8, 2049.0], &[4]).cast(DType::F16), &[65504.0, INF, 0.0, 2048.0]);
    assert_eq!(new(ctx, &[0.1f32], &[1]).cast(DType::F16).unwrap().to_vec::<f16>().unwrap(), [f16::from_f32(0.1)]);
    same(new(ctx, &[true, false], &[2]).cast(DType::F32), &[1.0, 0.0]);
    // Integers wrap into narrower ones.
    same(new(ctx, &[256i32, 257, -1], &[3]).cast(DType::U8), &[0.0, 1.0, 255.0]);
    assert!(x.cast(DType::F64).unwrap().shares_memory_with(&x));
}

pub fn matrices<B: Backend>(ctx: &B) {
    let a = Tensor::arange(ctx, 0, 6, 1, DType::F64).unwrap().reshape([2, 3]).unwrap();
    let b = a.t().unwrap();
    same(a.matmul(&b), &[5.0, 14.0, 14.0, 50.0]);
    same(b.matmul(&a), &[9.0, 12.0, 15.0, 12.0, 17.0, 22.0, 15.0, 22.0, 29.0]);
    same(a.matmul(&new(ctx, &[1.0, 2.0, 3.0], &[3])), &[8.0, 26.0]);
    same(new(ctx, &[1.0, 2.0], &[2]).matmul(&a), &[6.0, 9.0, 12.0]);
    let dot = new(ctx, &[1.0, 2.0], &[2]).matmul(&new(ctx, &[3.0, 4.0], &[2]));
    let dot = dot.unwrap();
    shaped(Ok(dot.clone()), &[]);
    same(Ok(dot), &[11.0]);
    let stack = Tensor::stack(&[&a, &a.mul_scalar(2.0).unwrap()], 0).unwrap();
    same(stack.matmul(&b), &[5.0, 14.0, 14.0, 50.0, 10.0, 28.0, 28.0, 100.0]);
    same(a.matmul(&stack.swapaxes(1, 2).unwrap()), &[5.0, 14.0, 14.0, 50.0, 10.0, 28.0, 28.0, 100.0]);
    same(
        a.slice(1, None, None, -2).unwrap().matmul(&a.slice(1, None, None, 2).unwrap().t().unwrap()),
        &[0.0, 6.0, 6.0, 30.0],
    );
    same(
        Tensor::zeros(ctx, [2, 0], DType::F64).unwrap().matmul(&Tensor::zeros(ctx, [0, 2], DType::F64).unwrap()),
        &[0.0; 4],
    );
    // NaN and infinity are not lost to a zero.
    same(new(ctx, &[0.0, 1.0], &[1, 2]).matmul(&new(ctx, &[NAN, 1.0], &[2, 1])), &[NAN]);
    shaped(stack.dot(&b), &[2, 2, 2]);
    same(new(ctx, &[1.0, 2.0], &[2]).outer(&new(ctx, &[3.0, 4.0], &[2])), &[3.0, 4.0, 6.0, 8.0]);
}

const MANY: usize = 20_000;

/// The mean of n numbers of deviation s lies within 5 s / sqrt(n) but for one seed in two million; the seed is fixed.
pub fn random_moments<B: Backend>(ctx: &B) {
    let root = (MANY as f64).sqrt();
    for dtype in [DType::F32, DType::F64] {
        random::seed(11);
        let x = of(Tensor::normal(ctx, [MANY], 2.0, 3.0, dtype));
        let mean = x.iter().sum::<f64>() / MANY as f64;
        let moment = |k: i32| x.iter().map(|v| ((v - 2.0) / 3.0).powi(k)).sum::<f64>() / MANY as f64;
        assert!((mean - 2.0).abs() < 15.0 / root, "{mean}");
        // The deviations of z^2, z^3 and z^4 are sqrt(2), sqrt(15) and sqrt(96).
        assert!((moment(2) - 1.0).abs() < 5.0 * 2f64.sqrt() / root);
        assert!(moment(3).abs() < 5.0 * 15f64.sqrt() / root);
        assert!((moment(4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root);
        let within = x.iter().filter(|v| (*v - 2.0).abs() < 3.0).count() as f64 / MANY as f64;
        assert!((within - 0.682_689).abs() < 5.0 * 0.466 / root, "{within}");
        let u = of(Tensor::uniform(ctx, [MANY], -1.0, 3.0, dtype));
        assert!(u.iter().all(|v| (-1.0..3.0).contains(v)));
        assert!((u.iter().sum::<f64>() / MANY as f64 - 1.0).abs() < 5.0 * 4.0 / 12f64.sqrt() / root);
        let mut sorted = u.clone();
        sorted.sort_by(f64::total_cmp);
        // Kolmogorov and Smirnov: above 2.2 / sqrt(n) once in 8,000 seeds.
        let furthest = sorted.iter().enumerate().map(|(i, v)| ((v + 1.0) / 4.0 - i as f64 / MANY as f64).abs());
        assert!(furthest.fold(0.0, f64::max) < 2.2 / root);
        // Neighbours are not correlated.
        let along: f64 = x.windows(2).map(|w| (w[0] - 2.0) * (w[1] - 2.0) / 9.0).sum::<f64>() / MANY as f64;
        assert!(along.abs() < 5.0 / root, "{along}");
    }
    let b = of(Tensor::bernoulli(ctx, [MANY], 0.3, DType::I32));
    assert!(b.iter().all(|v| *v == 0.0 || *v == 1.0));
    assert!((b.iter().sum::<f64>() / MANY as f64 - 0.3).abs() < 5.0 * 0.46 / root);
    same(Tensor::bernoulli(ctx, [3], 0.0, DType::F32), &[0.0; 3]);
    same(Tensor::bernoulli(ctx, [3], 1.0, DType::F32), &[1.0; 3]);
    let r = of(Tensor::randint(ctx, [MANY], -2, 3, DType::I64));
    for value in -2..3 {
        let share = r.iter().filter(|v| **v == f64::from(value)).count() as f64 / MANY as f64;
        assert!((share - 0.2).abs() < 5.0 * 0.4 / root, "{value}: {share}");
    }
    assert!(r.iter().all(|v| (-2.0..3.0).contains(v)));
    same(Tensor::uniform(ctx, [2], 1.5, 1.5, DType::F32), &[1.5, 1.5]);
    for bad in [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (0.0, INF)] {
        assert!(matches!(Tensor::normal(ctx, [2], bad.0, bad.1, DType::F32), Err(Error::InvalidArgument { .. })));
    }
}

/// The upper bound is excluded though low + u * width rounds to it: among numbers whose spacing is that of few bits it shows soon.
pub fn uniform_stays_below_its_bound<B: Backend>(ctx: &B) {
    const N: usize = 1 << 15;
    random::seed(7);
    for (low, high) in [(1.0, 2.0), (-2.0, -1.0), (0.0, 1.0), (-1.0, 0.0), (3.0, 3.3), (255.0, 256.0), (1e-3, 60_000.0)]
    {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let x = of(Tensor::uniform(ctx, [N], low, high, dtype));
            assert!(x.iter().all(|v| (low..high).contains(v)), "{dtype} {low}..{high}");
            let (mean, middle, width) = (x.iter().sum::<f64>() / N as f64, (low + high) / 2.0, high - low);
            // Five deviations, and what the last number below the bound has more than its share, in eight bits.
            let spacing = high.abs().max(low.abs()) / 128.0;
            let slack = 5.0 * width / (12.0 * N as f64).sqrt() + spacing * spacing / width + spacing / 100.0;
            assert!((mean - middle).abs() < slack, "{dtype} {low}..{high}: {mean}");
        }
    }
    // f32 has whole numbers only from 2^23 on: half of the draws would round up.
    let edge = f64::from(1 << 23);
    let x = of(Tensor::uniform(ctx, [N], edge, edge + 1.0, DType::F32));
    assert!(x.iter().all(|v| *v == edge));
    // No number of the dtype in the range: the nearest.
    same(Tensor::uniform(ctx, [1], 1.0 + 1e-9, 1.0 + 2e-9, DType::F32), &[1.0]);
    // Of the 128 numbers of bf16 in 1..2 each comes as often as its neighbours, but for the ends.
    let x = of(Tensor::uniform(ctx, [N], 1.0, 2.0, DType::BF16));
    let mut counts = [0; 128];
    x.iter().for_each(|v| counts[((v - 1.0) * 128.0) as usize] += 1);
    // 256 each; 5 deviations of 16.
    assert!(counts[1..127].iter().all(|c| (176..336).contains(c)), "{counts:?}");
}

pub fn randint_reaches_all_of_its_range<B: Backend>(ctx: &B) {
    const N: usize = 4000;
    random::seed(8);
    let draw = |low, high| Tensor::randint(ctx, [N], low, high, DType::I64).unwrap().to_vec::<i64>().unwrap();
    for (low, high) in [
        (0i64, i64::MAX),
        (i64::MIN, i64::MAX),
        (i64::MIN, 0),
        (-5, (1i64 << 32) - 4),
        (0, 3 << 61),
        (-(1 << 62), 1 << 62),
        (7, (1 << 33) + 12_345),
        (0, (1 << 32) + 1),
    ] {
        let x = draw(low, high);
        assert!(x.iter().all(|v| (low..high).contains(v)), "{low}..{high}");
        // In each of ten parts a tenth, by five deviations.
        let width = i128::from(high) - i128::from(low);
        let mut counts = [0; 10];
        x.iter().for_each(|&v| counts[((i128::from(v) - i128::from(low)) * 10 / width) as usize] += 1);
        assert!(counts.iter().all(|c| (305..495).contains(c)), "{low}..{high}: {counts:?}");
        // And the lowest bit as often set as not.
        let odd = x.iter().filter(|v| **v & 1 == 1).count();
        assert!((1842..2158).contains(&odd), "{low}..{high}: {odd}");
    }
    let refused = |low, high, dtype| {
        let error = Tensor::randint(ctx, [1], low, high, dtype).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { op: "randint", .. }), "{error}");
    };
    refused(3, 3, DType::I64);
    refused(i64::MAX, i64::MIN, DType::I64);
    // 2^24 - 1 is a number of f32, 2^24 + 1 is not.
    refused(0, (1 << 24) + 2, DType::F32);
    refused(-2050, 0, DType::F16);
    refused(0, 1 << 10, DType::BF16);
    assert!(Tensor::randint(ctx, [1], -(1 << 24), (1 << 24) + 1, DType::F32).is_ok());
    assert!(matches!(Tensor::randint(ctx, [1], 0, 257, DType::U8), Err(Error::ScalarOutOfRange { .. })));
}

/// Numbers far beyond any size: errors, and nothing wraps.
pub fn sizes_beyond_all_memory<B: Backend>(ctx: &B) {
    const BITS: [usize; 6] = [1 << 40, 1 << 61, 1 << 62, 1 << 63, usize::MAX - 1, usize::MAX];
    let named = |what: &str, result: isograd_core::Result<Vec<usize>>| match result {
        Err(Error::OutOfMemory { .. } | Error::InvalidShape { .. } | Error::InvalidArgument { .. }) => (),
        other => panic!("{what}: {other:?}"),
    };
    let shape_of = |x: isograd_core::Result<Tensor<B>>| x.map(|x| x.shape().to_vec());
    let x = new(ctx, &[1.0f32, 2.0, 3.0], &[3]);
    let image = Tensor::ones(ctx, [1, 1, 5], DType::F32).unwrap();
    let weight = Tensor::ones(ctx, [1, 1, 2], DType::F32).unwrap();
    let conv = |stride, padding, dilation| ConvOptions {
        stride: vec![stride],
        padding: vec![padding],
        dilation: vec![dilation],
        ..ConvOptions::default()
    };
    for n in BITS {
        named("zeros", shape_of(Tensor::zeros(ctx, [n, 3], DType::F32)));
        named("normal", shape_of(Tensor::normal(ctx, [3, n], 0.0, 1.0, DType::F64)));
        named("eye", shape_of(Tensor::eye(ctx, n, n, 0, DType::F32)));
        named("linspace", shape_of(Tensor::linspace(ctx, 0.0, 1.0, n, DType::F64)));
        named("permutation", shape_of(Tensor::permutation(ctx, n)));
        for mode in [PadMode::Constant(0.0), PadMode::Edge] {
            named("pad", shape_of(x.pad(&[(n, 0)], mode)));
            named("pad", shape_of(x.pad(&[(0, n)], mode)));
            named("pad", shape_of(x.pad(&[(n, n)], mode)));
        }
        named("pad", shape_of(x.pad(&[(n, 1)], PadMode::Reflect)));
        named("tile", shape_of(x.tile(&[n])));
        named("tile", shape_of(x.tile(&[n, n])));
        named("repeat", shape_of(x.repeat(n, 0)));
        named("one_hot", shape_of(new(ctx, &[1i64], &[1]).one_hot(n, 1, 0, DType::F32)));
        named("adaptive_avg_pool", shape_of(image.adaptive_avg_pool(&[n])));
        named("adaptive_max_pool", shape_of(image.adaptive_max_pool(&[n])));
        named("split", x.narrow(0, 0, 0).unwrap().split(n, 0).map(|parts| vec![parts.len()]));
        named("conv, padding", shape_of(image.conv(&weight, None, &conv(1, n, 1))));
        named("conv, dilation", shape_of(image.conv(&weight, None, &conv(1, 0, n))));
        named("conv_transpose, padding", shape_of(image.conv_transpose(&weight, None, &conv(1, n, 1))));
        named("conv_transpose, stride", shape_of(image.conv_transpose(&weight, None, &conv(n, 0, 1))));
        named("conv_transpose, dilation", shape_of(image.conv_transpose(&weight, None, &conv(1, 0, n))));
        named("unfold, kernel", shape_of(image.unfold(&[n], &ConvOptions::default())));
        named("unfold, padding", shape_of(image.unfold(&[2], &conv(1, n, 1))));
        named("fold, size", shape_of(weight.fold_windows(&[n], &[1], &ConvOptions::default())));
        for (kernel, padding) in [(n, 0), (n, n - 1), (2, n)] {
            let options = PoolOptions { padding: vec![padding], ceil_mode: true, ..PoolOptions::new(&[kernel]) };
            named("max_pool", shape_of(image.max_pool(&options)));
            named("avg_pool", shape_of(image.avg_pool(&options)));
        }
        // One window, however far the next would be.
        let one = conv(n, 0, 1);
        same(image.conv(&weight, None, &one), &[2.0]);
        same(image.unfold(&[2], &one), &[1.0, 1.0]);
        same(weight.narrow(2, 0, 1).unwrap().conv_transpose(&weight, None, &one), &[1.0, 1.0]);
        same(image.max_pool(&PoolOptions { stride: vec![n], ceil_mode: true, ..PoolOptions::new(&[2]) }), &[1.0]);
        same(image.narrow(2, 0, 2).unwrap().conv(&weight.narrow(2, 0, 1).unwrap(), None, &conv(1, 0, n)), &[1.0, 1.0]);
        assert!(image.conv(&weight, None, &ConvOptions { groups: n, ..ConvOptions::default() }).is_err());
    }
    for n in [1usize << 61, 1 << 63, usize::MAX] {
        named("broadcast_to", shape_of(Tensor::scalar(ctx, 1.0f32).unwrap().broadcast_to([n, 4])));
    }
    named("broadcast_to", shape_of(Tensor::scalar(ctx, 1.0f32).unwrap().broadcast_to([1 << 40, 1 << 40])));
    named("broadcast_to", shape_of(Tensor::scalar(ctx, 1.0f32).unwrap().broadcast_to([1 << 40, 0, 1 << 40])));
    // A view may have more elements than memory, but nothing that copies it.
    let wide = Tensor::scalar(ctx, 1.0f32).unwrap().broadcast_to([1 << 30, 1 << 31]).unwrap();
    assert_eq!(wide.size(), 1 << 61);
    for result in [wide.copy(), wide.neg(), wide.add(&wide), wide.cumsum(0), wide.argsort(1, false)] {
        named("copy", shape_of(result));
    }
    named("to_vec", wide.to_vec::<f32>().map(|v| vec![v.len()]));
    named("to_bytes", wide.to_bytes().map(|v| vec![v.len()]));
    named("to_host", wide.to_host().map(|a| a.shape.to_vec()));
    named("concat", shape_of(Tensor::concat(&[&wide, &wide], 0)));
    let row = wide.narrow(0, 0, 1).unwrap();
    named("matmul", shape_of(row.t().unwrap().matmul(&row)));
    named("outer", shape_of(row.flatten().and_then(|r| r.outer(&r))));
    // Diagonals beyond the matrix.
    let square = new(ctx, &[1.0f32, 2.0, 3.0, 4.0], &[2, 2]);
    for k in [isize::MAX, isize::MIN, isize::MIN + 1] {
        let (all, none) = ([1.0, 2.0, 3.0, 4.0], [0.0; 4]);
        same(square.tril(k), if k > 0 { &all } else { &none });
        same(square.triu(k), if k > 0 { &none } else { &all });
        same(Tensor::tri(ctx, 2, 2, k, DType::F32), if k > 0 { &[1.0; 4] } else { &none });
        same(Tensor::eye(ctx, 2, 2, k, DType::F32), &none);
    }
    same(x.index(&[(0..=isize::MAX).into()]), &[1.0, 2.0, 3.0]);
    same(x.roll(isize::MIN, 0), &of(x.roll(-2, 0)));
    assert!(x.reshape_codes(&[-4, isize::MAX, isize::MAX]).is_err());
    assert!(x.split_sizes(&[usize::MAX, 4], 0).is_err());
    assert!(x.narrow(0, usize::MAX, usize::MAX).is_err());
}

/// A window of ceil mode that would begin behind the input and its left padding is dropped, as in PyTorch.
pub fn ceil_pooling<B: Backend>(ctx: &B) {
    let x = Tensor::arange(ctx, 0, 25, 1, DType::F32).unwrap().reshape([1, 1, 5, 5]).unwrap();
    let pool = |kernel, stride, padding| PoolOptions {
        stride: vec![stride],
        padding: vec![padding],
        ceil_mode: true,
        ..PoolOptions::new(&[kernel])
    };
    let largest = [0.0, 2.0, 4.0, 10.0, 12.0, 14.0, 20.0, 22.0, 24.0];
    let max = x.max_pool(&pool(2, 2, 1));
    shaped(max, &[1, 1, 3, 3]);
    same(x.max_pool(&pool(2, 2, 1)), &largest);
    same(x.avg_pool(&pool(2, 2, 1)), &[0.0, 0.75, 1.75, 3.75, 9.0, 11.0, 8.75, 19.0, 21.0]);
    let without = PoolOptions { count_include_pad: false, ..pool(2, 2, 1) };
    same(x.avg_pool(&without), &[0.0, 1.5, 3.5, 7.5, 9.0, 11.0, 17.5, 19.0, 21.0]);
    // Kept: a window that begins at the last element.
    shaped(x.max_pool(&pool(2, 4, 0)), &[1, 1, 2, 2]);
    same(x.max_pool(&pool(2, 4, 0)), &[6.0, 9.0, 21.0, 24.0]);
    let v = Tensor::ones(ctx, [1, 1, 5, 5], DType::F32).unwrap();
    v.attach_grad().unwrap();
    isograd_core::autograd::record(|| v.avg_pool(&without)?.sum((), false)).unwrap().backward().unwrap();
    assert!(of(v.grad()).iter().all(|g| g.is_finite()));
    same(Tensor::normal(ctx, [2], 1.5, 0.0, DType::F32), &[1.5, 1.5]);
}

pub fn random_is_repeatable<B: Backend>(ctx: &B) {
    let draw = || of(Tensor::normal(ctx, [5], 0.0, 1.0, DType::F32));
    random::seed(3);
    let (first, second) = (draw(), draw());
    assert_ne!(first, second);
    random::seed(3);
    assert_eq!(draw(), first);
    let state = random::state();
    assert_eq!(draw(), second);
    random::set_state(state);
    assert_eq!(draw(), second);
    random::seed(4);
    assert_ne!(draw(), first);
    // A longer tensor begins with the same numbers: each element has its own counter.
    random::seed(3);
    assert_eq!(of(Tensor::normal(ctx, [2, 5], 0.0, 1.0, DType::F32))[..5], first);
    // Each thread has a generator of its own.
    random::seed(3);
    std::thread::scope(|s| s.spawn(|| random::seed(9)).join().unwrap());
    assert_eq!(draw(), first);
}

/// The same seed gives these bits on every backend, in every release.
pub fn random_bits_are_pinned<B: Backend>(ctx: &B) {
    random::seed(42);
    let uniform = Tensor::uniform(ctx, [3], 0.0, 1.0, DType::F32).unwrap().to_vec::<f32>().unwrap();
    let normal = Tensor::normal(ctx, [3], 0.0, 1.0, DType::F32).unwrap().to_vec::<f32>().unwrap();
    let wide = Tensor::normal(ctx, [2], 0.0, 1.0, DType::F64).unwrap().to_vec::<f64>().unwrap();
    let integers = Tensor::randint(ctx, [4], 0, 1000, DType::I64).unwrap().to_vec::<i64>().unwrap();
    let order = Tensor::permutation(ctx, 6).unwrap().to_vec::<i64>().unwrap();
    let got = format!("{uniform:?} {normal:?} {wide:?} {integers:?} {order:?}");
    assert_eq!(got, PINNED);
}
const PINNED: &str = "[0.12087339, 0.53409195, 0.14954609] [0.8264515, -1.0506787, 0.40650904] [1.327635470058465, 0.381196530719844] [699, 56, 54, 685] [1, 0, 4, 2, 5, 3]";

pub fn permutations<B: Backend>(ctx: &B) {
    for n in [0, 1, 2, 17, 100] {
        let mut p = Tensor::permutation(ctx, n).unwrap().to_vec::<i64>().unwrap();
        p.sort_unstable();
        assert_eq!(p, (0..n as i64).collect::<Vec<_>>());
    }
    // All six orders of three come about equally often.
    random::seed(5);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..1200 {
        *counts.entry(Tensor::permutation(ctx, 3).unwrap().to_vec::<i64>().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    // 200 each, with a deviation of 13.
    assert!(counts.values().all(|c| (135..265).contains(c)), "{counts:?}");
}

pub fn dropping<B: Backend>(ctx: &B) {
    let x = Tensor::full(ctx, [MANY], 3.0, DType::F64).unwrap();
    random::seed(8);
    let y = of(x.dropout(0.25));
    assert!(y.iter().all(|v| *v == 0.0 || *v == 4.0));
    let dropped = y.iter().filter(|v| **v == 0.0).count() as f64 / MANY as f64;
    assert!((dropped - 0.25).abs() < 5.0 * 0.433 / (MANY as f64).sqrt());
    same(new(ctx, &[1.0, NAN], &[2]).dropout(0.0), &[1.0, NAN]);
    // The gradient has the same mask as the output.
    let x = Tensor::ones(ctx, [50], DType::F64).unwrap();
    x.attach_grad().unwrap();
    let y = isograd_core::autograd::record(|| x.dropout(0.5).unwrap());
    y.backward().unwrap();
    assert_eq!(x.grad().unwrap().to_vec::<f64>().unwrap(), y.to_vec::<f64>().unwrap());
}

/// What NumPy 2.4.6 prints.
pub fn printing<B: Backend>(ctx: &B) {
    let cases: &[(DType, &[usize], &[f64], &str)] = &[
        (DType::F64, &[3], &[1.0, 2.5, -3.125], "[ 1.     2.5   -3.125]"),
        (DType::F64, &[3], &[1.25, f64::NAN, f64::NEG_INFINITY], "[1.25  nan -inf]"),
        (DType::F64, &[2], &[f64::NAN, f64::INFINITY], "[nan inf]"),
        (DType::F64, &[2], &[f64::NAN, f64::NEG_INFINITY], "[ nan -inf]"),
        (DType::F64, &[2], &[10000000000.0, 1.0], "[1.e+10 1.e+00]"),
        (DType::F64, &[2], &[1000.5, 0.5], "[1.0005e+03 5.0000e-01]"),
        (DType::F64, &[2], &[1e-05, 1.5e-05], "[1.0e-05 1.5e-05]"),
        (DType::F64, &[2], &[0.0, 1e-10], "[0.e+00 1.e-10]"),
        (DType::F64, &[1], &[123456789.123], "[1.23456789e+08]"),
        (DType::F32, &[2], &[16777216.0, 1.0], "[1.6777216e+07 1.0000000e+00]"),
        (DType::F64, &[1], &[0.3333333333333333], "[0.33333333]"),
        (DType::F32, &[1], &[0.3333333333333333], "[0.33333334]"),
        (DType::F64, &[2], &[0.0, -0.0], "[ 0. -0.]"),
        (DType::F64, &[3], &[1e+100, -1e-100, f64::NAN], "[ 1.e+100 -1.e-100      nan]"),
        (DType::F64, &[2], &[100000.0, 123456789.012], "[1.00000000e+05 1.23456789e+08]"),
        (DType::F64, &[2, 2], &[1.0, f64::NAN, -2.5, f64::INFINITY], "[[ 1.   nan]\n [-2.5  inf]]"),
        (DType::F64, &[], &[1.0], "1.0"),
        (DType::F64, &[], &[1e+16], "1e+16"),
        (DType::F64, &[], &[0.1], "0.1"),
        (DType::F64, &[], &[1.5e-05], "1.5e-05"),
        (DType::F64, &[], &[f64::NAN], "nan"),
        (DType::F32, &[], &[0.1], "0.1"),
        (DType::F64, &[4], &[0.1, 0.12, 0.123, 0.1234], "[0.1    0.12   0.123  0.1234]"),
        (DType::F64, &[2], &[999.0, 0.999], "[999.      0.999]"),
        (DType::F64, &[2], &[1.00000000001, 2.0], "[1. 2.]"),
        (DType::F64, &[2], &[-1.5, 1000000000.0], "[-1.5e+00  1.0e+09]"),
        (DType::F16, &[2], &[0.1, 0.5], "[0.1 0.5]"),
        (DType::F16, &[2], &[65504.0, 1.0], "[6.55e+04 1.00e+00]"),
        (DType::F32, &[3], &[0.001, 0.002, f64::NEG_INFINITY], "[0.001 0.002  -inf]"),
    ];
    let body = |x: &Tensor<B>| {
        let text = x.to_string();
        let (numbers, suffix) = text.rsplit_once('\n').unwrap();
        assert_eq!(format!("{x:?}"), text);
        let sizes: Vec<String> = x.shape().iter().map(|n| n.to_string()).collect();
        let shape = if sizes.is_empty() { "scalar".into() } else { sizes.join("x") };
        assert_eq!(suffix, format!("<Tensor {shape} {} @{}>", x.dtype(), ctx.name()));
        numbers.to_string()
    };
    for &(dtype, shape, values, expected) in cases {
        assert_eq!(body(&new(ctx, values, shape).cast(dtype).unwrap()), expected);
    }
    let range = |n: i64, shape: &[isize]| Tensor::arange(ctx, 0, n, 1, DType::I64).unwrap().reshape(shape).unwrap();
    assert_eq!(body(&range(6, &[2, 3])), "[[0 1 2]\n [3 4 5]]");
    assert_eq!(body(&range(8, &[2, 2, 2])), "[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]]");
    assert_eq!(body(&new(ctx, &[-1i32, 10, 100], &[3])), "[ -1  10 100]");
    assert_eq!(
        body(&range(40, &[40])),
        "[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23\n 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39]"
    );
    assert_eq!(
        body(&range(40, &[1, 40])),
        "[[ 0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23\n  24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39]]"
    );
    assert_eq!(body(&range(2000, &[2000])), "[   0    1    2 ... 1997 1998 1999]");
    assert_eq!(
        body(&range(10000, &[100, 100])),
        "[[   0    1    2 ...   97   98   99]\n [ 100  101  102 ...  197  198  199]\n [ 200  201  202 ...  297  298  299]\n ...\n [9700 9701 9702 ... 9797 9798 9799]\n [9800 9801 9802 ... 9897 9898 9899]\n [9900 9901 9902 ... 9997 9998 9999]]"
    );
    assert_eq!(
        body(&range(1200, &[2, 2, 300])),
        "[[[   0    1    2 ...  297  298  299]\n  [ 300  301  302 ...  597  598  599]]\n\n [[ 600  601  602 ...  897  898  899]\n  [ 900  901  902 ... 1197 1198 1199]]]"
    );
    assert_eq!(
        body(&range(30, &[30]).cast(DType::F64).unwrap().div_scalar(4).unwrap()),
        "[0.   0.25 0.5  0.75 1.   1.25 1.5  1.75 2.   2.25 2.5  2.75 3.   3.25\n 3.5  3.75 4.   4.25 4.5  4.75 5.   5.25 5.5  5.75 6.   6.25 6.5  6.75\n 7.   7.25]"
    );
    assert_eq!(body(&new(ctx, &[true, true], &[2])), "[ True  True]");
    assert_eq!(body(&new(ctx, &[true, false], &[2, 1])), "[[ True]\n [False]]");
    assert_eq!(body(&Tensor::scalar(ctx, true).unwrap()), "True");
    assert_eq!(body(&Tensor::scalar(ctx, -3i64).unwrap()), "-3");
    assert_eq!(body(&new::<B, f32>(ctx, &[], &[0, 3])), "[]");
    assert_eq!(body(&range(6, &[2, 3]).t().unwrap()), "[[0 3]\n [1 4]\n [2 5]]");
}
