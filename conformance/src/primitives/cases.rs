//! The launches that are tried.

use super::{Launch, Region, check};
use crate::{
    case::{Case, Checked, Environment, Failure, Level},
    numbers::{Domain, Numbers, shape, special},
    suite::total,
};
use isograd_core::{
    Backend, DType, Error, Expr, Layout, Operand, OperandMut, Pool, ReduceOp, Shape, Value, Window,
    expr::{Binary, Program, Unary},
};

const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
const NUMBERS: &[DType] =
    &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64, DType::U8, DType::I8];
const INTEGERS: &[DType] = &[DType::I32, DType::I64, DType::U8, DType::I8, DType::Bool];

type Check<B> = fn(&Environment<'_, B>, &mut Numbers) -> Checked;

pub(crate) fn cases<B: Backend>() -> Vec<Case<B>> {
    let rows: &[(&str, &[DType], Check<B>)] = &[
        ("map_layouts", &DType::ALL, map_layouts),
        ("map_old", NUMBERS, map_old),
        ("map_outputs", NUMBERS, map_outputs),
        ("map_index", NUMBERS, map_index),
        ("map_random", &[DType::I64], map_random),
        ("map_unary", &DType::ALL, map_unary),
        ("map_binary", &DType::ALL, map_binary),
        ("map_integers", INTEGERS, map_binary_integers),
        ("reduce_layouts", NUMBERS, reduce_layouts),
        ("reduce_bool", &[DType::Bool], reduce_bool),
        ("reduce_long", FLOATS, reduce_long),
        ("gather_layouts", &DType::ALL, gather_layouts),
        ("scatter_add_layouts", NUMBERS, scatter_layouts),
        ("scatter_add_duplicates", FLOATS, scatter_duplicates),
        ("indices_out_of_range", &[DType::F32, DType::I64], out_of_range),
        ("matmul_layouts", NUMBERS, matmul),
        ("conv_layouts", FLOATS, conv),
        ("pool_layouts", FLOATS, pool),
        ("softmax_layouts", FLOATS, softmax),
        ("normalize_layouts", FLOATS, normalize),
        ("scan_layouts", NUMBERS, scan),
        ("argsort_layouts", &DType::ALL, argsort),
    ];
    (rows.iter())
        .map(|&(name, dtypes, f)| Case {
            name: format!("primitive_{name}"),
            dtypes: dtypes.to_vec(),
            computes: true,
            repeatable: false,
            run: Box::new(move |environment| {
                let draws = match environment.level {
                    Level::Quick => 4,
                    Level::Default => 12,
                    Level::Full => 120,
                };
                total((0..draws).map(|draw| f(environment, &mut environment.numbers(&format!("{name} {draw}")))))
            }),
        })
        .collect()
}

/// Any layout of `shape` whose elements are distinct: permuted, stepped, reversed, with gaps and an offset.
fn distinct(numbers: &mut Numbers, shape: &[usize]) -> Layout {
    let mut strides = vec![0isize; shape.len()];
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if numbers.below(2) == 0 {
        (1..order.len()).rev().for_each(|i| order.swap(i, numbers.below(i + 1)));
    }
    let (mut stride, mut offset) = (numbers.pick(&[1, 1, 1, 2]), numbers.below(6));
    for &axis in order.iter().rev() {
        let reversed = numbers.below(4) == 0;
        strides[axis] = if reversed { -(stride as isize) } else { stride as isize };
        if reversed {
            offset += stride * (shape[axis] - 1);
        }
        stride = stride * shape[axis] + numbers.pick(&[0, 0, 1, 3]);
    }
    Layout::new(shape, &strides, offset)
}

/// Any layout at all: broadcast axes and windows that overlap, too.
fn any(numbers: &mut Numbers, shape: &[usize]) -> Layout {
    let base = distinct(numbers, shape);
    if numbers.below(2) == 0 || shape.is_empty() {
        return base;
    }
    let mut strides = base.strides().to_vec();
    let axis = numbers.below(shape.len());
    // 0 repeats one element; another's small stride makes windows that overlap.
    strides[axis] = numbers.pick(&[0, 0, 1, 2]);
    let low: usize = strides.iter().zip(shape).filter(|(s, _)| **s < 0).map(|(s, n)| s.unsigned_abs() * (n - 1)).sum();
    Layout::new(shape, &strides, low + numbers.below(5))
}

fn not_empty(numbers: &mut Numbers, size: usize) -> Shape {
    let mut s = shape(numbers, size);
    s.as_mut_slice().iter_mut().for_each(|n| *n = (*n).max(1));
    s
}

fn inputs(d: DType, n: u8) -> Vec<Expr> {
    (0..n).map(|k| Expr::input(k, d)).collect()
}

fn map(name: &str, roots: &[Expr], inputs: &[DType]) -> Result<Launch, Error> {
    Ok(Launch::Map(Program::new(name, roots, inputs, &[])?, vec![]))
}

fn map_layouts<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size * 4));
    let x = inputs(d, 2);
    let root = if d == DType::Bool { x[0].xor(&x[1]) } else { &x[0] - &x[1] };
    let regions: Vec<Region> = (0..2)
        .map(|_| {
            let layout = any(n, &s);
            Region::input(n, d, layout, Domain::Any)
        })
        .collect();
    check(e, &map("difference", &[root], &[d, d])?, &regions, &[Region::output(d, distinct(n, &s))])
}

fn map_old<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size));
    let root = Expr::old(0, d) * &Expr::input(0, d).like(2) + Expr::input(0, d);
    let layout = any(n, &s);
    let x = Region::input(n, d, layout, Domain::Any);
    let mut y = Region::output(d, distinct(n, &s));
    let old = Domain::Any.draw(n, d, s.size());
    y.layout.positions().zip(&old).for_each(|(at, v)| v.write(&mut y.bytes, at));
    check(e, &map("old", &[root], &[d])?, &[x], &[y])
}

fn map_outputs<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size));
    let x = inputs(d, 2);
    let roots = [&x[0] + &x[1], x[0].less(&x[1]), &x[0] * &x[1]];
    let regions: Vec<Region> = (0..2)
        .map(|_| {
            let layout = any(n, &s);
            Region::input(n, d, layout, Domain::Any)
        })
        .collect();
    let outputs = [d, DType::Bool, d].map(|d| Region::output(d, distinct(n, &s)));
    check(e, &map("three", &roots, &[d, d])?, &regions, &outputs)
}

fn map_index<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size * 4));
    let scaled = Expr::index() * &Expr::constant(3i64) + Expr::constant(1i64);
    let launch = Launch::Map(
        Program::new("index", &[(scaled + Expr::scalar(0, DType::I64)).cast(d)], &[], &[DType::I64])?,
        vec![Value::I64(5)],
    );
    check(e, &launch, &[], &[Region::output(d, distinct(n, &s))])
}

fn map_random<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let s = not_empty(n, e.size);
    let seed = Expr::scalar(0, DType::I64);
    let far = Expr::index() + Expr::scalar(1, DType::I64);
    let roots: Vec<Expr> = (0..4).map(|w| Expr::random_bits(&seed, &far, w)).collect();
    let program = Program::new("random", &roots, &[], &[DType::I64; 2])?;
    // Both halves of the key and of the counter must matter.
    let scalars = vec![Value::I64(n.bits() as i64), Value::I64((1 << 32) - 20)];
    let outputs: Vec<Region> = (0..4).map(|_| Region::output(DType::I64, distinct(n, &s))).collect();
    check(e, &Launch::Map(program, scalars), &[], &outputs)
}

/// Every primitive of one argument, on special values and some others.
fn map_unary<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let d = e.dtype;
    let mut values = special(d);
    values.extend(Domain::Any.draw(n, d, 40));
    let layout = distinct(n, &[values.len()]);
    let x = Region::of(d, layout, &values);
    total(Unary::ALL.iter().filter(|op| op.accepts(d)).map(|&op| {
        let launch = map(op.name(), &[Expr::unary(op, &Expr::input(0, d))], &[d])?;
        check(e, &launch, std::slice::from_ref(&x), &[Region::output(d, Layout::contiguous([values.len()]))])
    }))
}

fn map_binary<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    pairs(e, n, |op| !matches!(op, Binary::Shl | Binary::Shr))
}

fn map_binary_integers<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    pairs(e, n, |op| matches!(op, Binary::Shl | Binary::Shr | Binary::Rem | Binary::Div | Binary::Pow | Binary::Xor))
}

/// Every primitive of two arguments, each special value with each.
fn pairs<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers, of: fn(Binary) -> bool) -> Checked {
    let d = e.dtype;
    let mut values = special(d);
    values.extend(Domain::Any.draw(n, d, 8));
    let count = values.len();
    let (a, b) = (Layout::new([count, count], &[1, 0], 0), Layout::new([count, count], &[0, 1], 0));
    let x = [a, b].map(|l| {
        let mut bytes = vec![0; count * d.size()];
        values.iter().enumerate().for_each(|(i, v)| v.write(&mut bytes, i));
        Region { dtype: d, layout: l, bytes }
    });
    total(Binary::ALL.iter().filter(|op| op.accepts(d) && of(**op)).map(|&op| {
        let root = Expr::binary(op, &Expr::input(0, d), &Expr::input(1, d));
        let out = root.dtype();
        check(e, &map(op.name(), &[root], &[d, d])?, &x, &[Region::output(out, Layout::contiguous([count, count]))])
    }))
}

fn reduce<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers, kept: Shape, reduced: Shape, out: DType) -> Checked {
    let d = e.dtype;
    let whole: Shape = kept.iter().chain(reduced.iter()).copied().collect();
    total(ReduceOp::ALL.iter().filter(|op| op.primitive().accepts(d)).map(|&op| {
        let domain = if op == ReduceOp::Prod && d.is_float() { Domain::Range(0.8, 1.2, &[]) } else { Domain::Any };
        let layout = any(n, &whole);
        let x = Region::input(n, d, layout, domain);
        let root =
            if op == ReduceOp::Sum { &Expr::input(0, d) * &Expr::input(0, d).like(3) } else { Expr::input(0, d) };
        let launch = Launch::Reduce(op, Program::new("terms", &[root], &[d], &[])?, vec![], whole.clone());
        check(e, &launch, &[x], &[Region::output(out, distinct(n, &kept))])
    }))
}

fn reduce_layouts<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let kept = not_empty(n, 30);
    let reduced = not_empty(n, e.size / 8);
    let reduced = if reduced.rank() == 0 { Shape::from([13]) } else { reduced };
    reduce(e, n, kept, reduced, e.dtype)
}

fn reduce_bool<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let kept = not_empty(n, 60);
    let reduced = Shape::from([1 + n.below(4)]);
    reduce(e, n, kept, reduced, DType::Bool)
}

/// Many terms: their errors must stay those of the dtype that is computed in.
fn reduce_long<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let terms = 1 + n.below(e.size * 20);
    reduce(e, n, Shape::from([3]), Shape::from([terms]), e.dtype)
}

fn positions(n: &mut Numbers, below: usize, count: usize) -> Vec<Value> {
    (0..count).map(|_| Value::I64(n.below(below) as i64)).collect()
}

fn along(n: &mut Numbers, size: usize) -> (Shape, usize, Shape) {
    let mut s = not_empty(n, size);
    if s.rank() == 0 {
        s.push(5);
    }
    let axis = n.below(s.rank());
    let other = s.with(axis, 1 + n.below(9));
    (s, axis, other)
}

fn gather_layouts<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (s, axis, picked) = along(n, e.size);
    // All sizes equal, so that a wrong axis is within bounds.
    let cube = Shape::from([4, 4, 4]);
    total([gather(e, n, s, axis, picked), gather(e, n, cube.clone(), axis % 3, cube)])
}

fn gather<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers, s: Shape, axis: usize, picked: Shape) -> Checked {
    let layout = any(n, &s);
    let source = Region::input(n, e.dtype, layout, Domain::Any);
    let at = positions(n, s[axis], picked.size());
    let layout = distinct(n, &picked);
    let index = Region::of(DType::I64, layout, &at);
    check(e, &Launch::Gather(axis), &[source, index], &[Region::output(e.dtype, distinct(n, &picked))])
}

fn scatter<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers, s: Shape, axis: usize, picked: Shape) -> Checked {
    let layout = any(n, &picked);
    let source = Region::input(n, e.dtype, layout, Domain::Any);
    let at = positions(n, s[axis], picked.size());
    let layout = distinct(n, &picked);
    let index = Region::of(DType::I64, layout, &at);
    let start = Region::input(n, e.dtype, Layout::contiguous(s.clone()), Domain::Any);
    let output = Region::output(e.dtype, distinct(n, &s));
    check(e, &Launch::ScatterAdd(axis), &[source, index, start], &[output])
}

fn scatter_layouts<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (s, axis, picked) = along(n, e.size);
    scatter(e, n, s, axis, picked)
}

/// Hundreds of terms for each place.
fn scatter_duplicates<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let many = 2 + e.size * 3;
    scatter(e, n, [2, 3].into(), 0, [many, 3].into())
}

/// Nothing outside is read or written, and the error says where; the context stays usable.
fn out_of_range<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let d = e.dtype;
    for bad in [5i64, -1, i64::MAX, i64::MIN, 1 << 32] {
        for scatters in [false, true] {
            let (five, three) = (Layout::contiguous([5]), Layout::contiguous([3]));
            let (from, to) = if scatters { (&three, &five) } else { (&five, &three) };
            let source = Region::input(n, d, from.clone(), Domain::Any);
            let index = Region::of(DType::I64, three.clone(), &[Value::I64(1), Value::I64(bad), Value::I64(0)]);
            let (x, at) = (source.upload(e.ctx)?, index.upload(e.ctx)?);
            let target = Region::output(d, to.clone());
            let mut y = target.upload(e.ctx)?;
            let (x, at) = (Operand::new(&x, d, from), Operand::new(&at, DType::I64, &three));
            let mut out = OperandMut::new(&mut y, d, to);
            let done =
                if scatters { e.ctx.scatter_add(0, &x, &at, &mut out) } else { e.ctx.gather(0, &x, &at, &mut out) };
            match done.and_then(|()| e.ctx.synchronize()) {
                Err(Error::IndexOutOfRange { index, size: 5, .. }) if index == bad => (),
                other => return Err(Failure::new("", format!("index {bad} of 5 gave {other:?}"))),
            }
            let mut after = vec![0; target.bytes.len()];
            e.ctx.download(&y, 0, &mut after)?;
            let end = to.size() * d.size();
            if after[end..] != target.bytes[end..] {
                return Err(Failure::new("", format!("index {bad}: written outside the output")));
            }
        }
    }
    gather_layouts(e, n)
}

fn region<const N: usize>(e: &Environment<'_, impl Backend>, n: &mut Numbers, shape: [usize; N]) -> Region {
    let layout = any(n, &shape);
    Region::input(n, e.dtype, layout, Domain::Any)
}

fn output<const N: usize>(e: &Environment<'_, impl Backend>, n: &mut Numbers, shape: [usize; N]) -> Region {
    Region::output(e.dtype, if n.below(2) == 0 { Layout::contiguous(shape) } else { distinct(n, &shape) })
}

fn matmul<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let (batch, m, k, c) = (1 + n.below(3), 1 + n.below(20), 1 + n.below(e.size / 8 + 1), 1 + n.below(20));
    let (a, b) = (region(e, n, [batch, m, k]), region(e, n, [batch, k, c]));
    check(e, &Launch::Matmul, &[a, b], &[output(e, n, [batch, m, c])])
}

fn window(n: &mut Numbers, axes: usize) -> Window {
    let mut w = Window::new(&vec![1; axes]);
    for a in 0..axes {
        (w.kernel[a], w.stride[a]) = (1 + n.below(3), 1 + n.below(3));
        (w.padding[a], w.dilation[a]) = (n.below(w.kernel[a]), 1 + n.below(2));
    }
    w
}

/// Convolution and pooling are asked for dense outputs only, the ones that core gives them.
fn dense<const N: usize>(e: &Environment<'_, impl Backend>, shape: [usize; N]) -> Region {
    Region::output(e.dtype, Layout::contiguous(shape))
}

fn conv<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let mut w = window(n, 2);
    w.groups = n.pick(&[1, 1, 2, 3]);
    let (batch, per, outs) = (1 + n.below(2), n.pick(&[1, 2]), n.pick(&[1, 2, 4]) * w.groups);
    let size = [w.extent(0) + n.below(6), w.extent(1) + n.below(6)];
    let windows = [w.count(0, size[0], false), w.count(1, size[1], false)].map(|c| c.expect("the window fits"));
    let x = [batch, per * w.groups, size[0], size[1]];
    let k = [outs, per, w.kernel[0], w.kernel[1]];
    let y = [batch, outs, windows[0], windows[1]];
    let (input, weight, head) = (region(e, n, x), region(e, n, k), region(e, n, y));
    let (to_y, to_x, to_k) = (dense(e, y), dense(e, x), dense(e, k));
    total([
        check(e, &Launch::Conv(w.clone()), &[input.clone(), weight.clone()], &[to_y]),
        check(e, &Launch::ConvInputGradient(w.clone()), &[head.clone(), weight], &[to_x]),
        check(e, &Launch::ConvWeightGradient(w), &[input, head], &[to_k]),
    ])
}

fn pool<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let mut w = window(n, 2);
    w.dilation.iter_mut().for_each(|d| *d = 1);
    let size = [w.kernel[0] + n.below(7), w.kernel[1] + n.below(7)];
    let windows = [w.count(0, size[0], false), w.count(1, size[1], false)].map(|c| c.expect("the window fits"));
    let (x, y) = ([2, 2, size[0], size[1]], [2, 2, windows[0], windows[1]]);
    let kinds = [Pool::Max, Pool::AvgWithPadding, Pool::AvgWithoutPadding];
    total(kinds.iter().flat_map(|&kind| {
        let (input, head) = (region(e, n, x), region(e, n, y));
        let (to_y, to_x) = (dense(e, y), dense(e, x));
        [
            check(e, &Launch::Pool(kind, w.clone()), std::slice::from_ref(&input), &[to_y]),
            check(e, &Launch::PoolGradient(kind, w.clone()), &[input, head], &[to_x]),
        ]
    }))
}

fn softmax<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(3), 1 + n.below(e.size / 4 + 1)];
    let (logarithm, mut x) = (n.below(2) == 0, region(e, n, s));
    if n.below(2) == 0 {
        // Large arguments overflow where the largest is not taken off.
        let layout = any(n, &s);
        x = Region::input(n, e.dtype, layout, Domain::Range(-60.0, 200.0, &[]));
    }
    check(e, &Launch::Softmax(logarithm), &[x], &[output(e, n, s)])
}

fn normalize<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 2 + n.below(3), 3 + n.below(e.size / 4 + 1)];
    let layout = distinct(n, &s);
    let x = Region::input(n, e.dtype, layout, Domain::Range(-1.0, 3.0, &[]));
    let row = |n: &mut Numbers| Region::output(e.dtype.compute(), distinct(n, &s[..2]));
    let outputs = [output(e, n, s), row(n), row(n)];
    check(e, &Launch::Normalize(1e-3), &[x], &outputs)
}

fn scan<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(e.size / 4 + 1)];
    let layout = any(n, &s);
    let sum = check(
        e,
        &Launch::Scan(ReduceOp::Sum),
        &[Region::input(n, e.dtype, layout.clone(), Domain::Any)],
        &[output(e, n, s)],
    );
    let factors = if e.dtype.is_float() { Domain::Range(0.9, 1.1, &[]) } else { Domain::Any };
    let x = Region::input(n, e.dtype, layout, factors);
    total([sum, check(e, &Launch::Scan(ReduceOp::Prod), &[x], &[output(e, n, s)])])
}

fn argsort<B: Backend>(e: &Environment<'_, B>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(e.size / 6 + 1)];
    let descending = n.below(2) == 0;
    // Few different numbers, NaN and both zeros among them: ties must keep their order.
    let few = special(e.dtype);
    let values: Vec<Value> = (0..s.iter().product()).map(|_| n.pick(&few)).collect();
    let layout = distinct(n, &s);
    let x = Region::of(e.dtype, layout, &values);
    check(e, &Launch::Argsort(descending), &[x], &[Region::output(DType::I64, distinct(n, &s))])
}
