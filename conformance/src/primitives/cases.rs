//! The launches that are tried.

use super::{Launch, Region, check, order, programs, rows, sizes, windows};
use crate::{
    case::{Case, Checked, Environment, Failure, Level},
    numbers::{Domain, Numbers, shape, special},
    suite::total,
};
use isograd_core::{
    Backend, DType, Error, Expr, Layout, Operand, OperandMut, ReduceOp, Shape, Value,
    expr::{Binary, Program, Unary},
};

const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
const NUMBERS: &[DType] =
    &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64, DType::U8, DType::I8];
const INTEGERS: &[DType] = &[DType::I32, DType::I64, DType::U8, DType::I8, DType::Bool];

pub(super) type Check = fn(&Environment<'_>, &mut Numbers) -> Checked;

pub(crate) fn cases() -> Vec<Case> {
    let rows: &[(&str, &[DType], Check)] = &[
        ("map_layouts", &DType::ALL, map_layouts),
        ("map_old", NUMBERS, map_old),
        ("map_outputs", NUMBERS, map_outputs),
        ("map_rounding", FLOATS, map_rounding),
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
        ("matmul_fused", FLOATS, matmul_fused),
        ("conv_layouts", FLOATS, windows::conv),
        ("pool_layouts", FLOATS, windows::pool),
        ("softmax_layouts", FLOATS, rows::softmax),
        ("normalize_layouts", FLOATS, rows::normalize),
        ("scan_layouts", NUMBERS, rows::scan),
        ("argsort_layouts", &DType::ALL, rows::argsort),
        ("programs", NUMBERS, programs::random),
    ];
    // Run once: they are long, or take no draws.
    let once: &[(&str, &[DType], Check)] = &[
        ("long_rows", FLOATS, rows::long),
        ("long_windows", FLOATS, windows::long),
        ("large_products", FLOATS, large_matmul),
        ("large_fused_products", FLOATS, large_matmul_fused),
        ("large", &[DType::U8, DType::I32, DType::F32], sizes::large),
        ("many_rows", &[DType::F32], sizes::many_rows),
        ("far_offsets", &[DType::U8], sizes::far_offsets),
        ("order", &[DType::F32], order::order),
        ("errors_while_waiting", &[DType::F32], order::errors),
    ];
    (rows.iter().map(|row| (row, true)).chain(once.iter().map(|row| (row, false))))
        .map(|(&(name, dtypes, f), drawn)| Case {
            name: format!("primitive_{name}"),
            dtypes: dtypes.to_vec(),
            computes: true,
            repeatable: false,
            run: Box::new(move |environment| {
                let draws = match environment.level {
                    _ if !drawn => 1,
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
pub(super) fn distinct(numbers: &mut Numbers, shape: &[usize]) -> Layout {
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

/// Two outputs, each of which reads what the other held.
fn old_of_both(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size));
    let roots = [Expr::old(1, d) + Expr::input(0, d), Expr::old(0, d) - Expr::input(0, d)];
    let layout = any(n, &s);
    let x = Region::input(n, d, layout, Domain::Any);
    let outputs = [0; 2].map(|_| {
        let layout = distinct(n, &s);
        Region { bytes: Region::input(n, d, layout.clone(), Domain::Any).bytes, ..Region::output(d, layout) }
    });
    check(e, &map("old of both", &roots, &[d])?, &[x], &outputs)
}

/// Any layout at all: broadcast axes and windows that overlap, too.
pub(super) fn any(numbers: &mut Numbers, shape: &[usize]) -> Layout {
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

pub(super) fn not_empty(numbers: &mut Numbers, size: usize) -> Shape {
    let mut s = shape(numbers, size);
    s.as_mut_slice().iter_mut().for_each(|n| *n = (*n).max(1));
    s
}

fn inputs(d: DType, n: u8) -> Vec<Expr> {
    (0..n).map(|k| Expr::input(k, d)).collect()
}

pub(super) fn map(name: &str, roots: &[Expr], inputs: &[DType]) -> Result<Launch, Error> {
    Ok(Launch::Map(Program::new(name, roots, inputs, &[])?, vec![]))
}

fn map_layouts(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size * 4));
    let x = inputs(d, 2);
    let root = if d == DType::Bool { x[0].xor(&x[1]) } else { &x[0] - &x[1] };
    let regions: Vec<Region> = (0..2)
        .map(|_| {
            let (layout, domain) = (any(n, &s), n.pick(&[Domain::Any, Domain::Extreme]));
            Region::input(n, d, layout, domain)
        })
        .collect();
    check(e, &map("difference", &[root], &[d, d])?, &regions, &[Region::output(d, distinct(n, &s))])
}

fn map_old(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size));
    let root = Expr::old(0, d) * &Expr::input(0, d).like(2) + Expr::input(0, d);
    let layout = any(n, &s);
    let x = Region::input(n, d, layout, Domain::Any);
    let mut y = Region::output(d, distinct(n, &s));
    let old = Domain::Any.draw(n, d, s.size());
    y.layout.positions().zip(&old).for_each(|(at, v)| v.write(&mut y.bytes, at));
    total([check(e, &map("old", &[root], &[d])?, &[x], &[y]), old_of_both(e, n)])
}

fn map_outputs(e: &Environment<'_>, n: &mut Numbers) -> Checked {
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

/// Products and sums that round twice, and those that round once: compilers like to make the second of the first.
fn map_rounding(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size * 4));
    let x = inputs(d, 3);
    let roots = [&x[0] * &x[1] + &x[2], &x[2] - &x[0] * &x[1], x[0].mul_add(&x[1], &x[2]), &x[0] / &x[1]];
    let regions: Vec<Region> = (0..3)
        .map(|_| {
            let layout = any(n, &s);
            Region::input(n, d, layout, Domain::Any)
        })
        .collect();
    let outputs = [0; 4].map(|_| Region::output(d, distinct(n, &s)));
    check(e, &map("rounded once and twice", &roots, &[d; 3])?, &regions, &outputs)
}

fn map_index(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size * 4));
    let scaled = Expr::index() * &Expr::constant(3i64) + Expr::constant(1i64);
    let launch = Launch::Map(
        Program::new("index", &[(scaled + Expr::scalar(0, DType::I64)).cast(d)], &[], &[DType::I64])?,
        vec![Value::I64(5)],
    );
    check(e, &launch, &[], &[Region::output(d, distinct(n, &s))])
}

fn map_random(e: &Environment<'_>, n: &mut Numbers) -> Checked {
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
fn map_unary(e: &Environment<'_>, n: &mut Numbers) -> Checked {
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

fn map_binary(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    pairs(e, n, |op| !matches!(op, Binary::Shl | Binary::Shr))
}

fn map_binary_integers(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    pairs(e, n, |op| matches!(op, Binary::Shl | Binary::Shr | Binary::Rem | Binary::Div | Binary::Pow | Binary::Xor))
}

/// Every primitive of two arguments, each special value with each.
fn pairs(e: &Environment<'_>, n: &mut Numbers, of: fn(Binary) -> bool) -> Checked {
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

fn reduce(e: &Environment<'_>, n: &mut Numbers, kept: Shape, reduced: Shape, out: DType) -> Checked {
    reduce_of(e, n, kept, reduced, out, any)
}

/// The terms lie as `layout` says.
fn reduce_of(
    e: &Environment<'_>,
    n: &mut Numbers,
    kept: Shape,
    reduced: Shape,
    out: DType,
    layout: fn(&mut Numbers, &[usize]) -> Layout,
) -> Checked {
    let d = e.dtype;
    let whole: Shape = kept.iter().chain(reduced.iter()).copied().collect();
    total(ReduceOp::ALL.iter().filter(|op| op.primitive().accepts(d)).map(|&op| {
        let domain = match n.below(3) {
            0 => Domain::Extreme,
            _ if op == ReduceOp::Prod && d.is_float() => Domain::Range(0.8, 1.2, &[]),
            _ => Domain::Any,
        };
        let layout = layout(n, &whole);
        let x = Region::input(n, d, layout, domain);
        let root = if op == ReduceOp::Sum { Expr::input(0, d) * Expr::scalar(0, d) } else { Expr::input(0, d) };
        let program = Program::new("terms", &[root], &[d], &[d])?;
        let launch = Launch::Reduce(op, program, vec![Value::I64(3).cast(d)], whole.clone());
        check(e, &launch, &[x], &[Region::output(out, distinct(n, &kept))])
    }))
}

/// Where the largest elements are: a reduction that knows the index, reads two inputs and has another dtype than they.
fn reduce_index(e: &Environment<'_>, n: &mut Numbers, kept: &Shape, terms: usize) -> Checked {
    let d = e.dtype;
    let mut whole = kept.clone();
    whole.push(terms);
    let [layout, other] = [0; 2].map(|_| any(n, &whole));
    let x = [Region::input(n, d, layout, Domain::Ties), Region::input(n, d, other, Domain::Ties)];
    let root = Expr::input(0, d).less(&Expr::input(1, d)).select(&Expr::index(), &Expr::scalar(0, DType::I64));
    total([ReduceOp::Max, ReduceOp::Min].map(|op| {
        let program = Program::new("positions", std::slice::from_ref(&root), &[d, d], &[DType::I64])?;
        let launch = Launch::Reduce(op, program, vec![Value::I64(77)], whole.clone());
        check(e, &launch, &x, &[Region::output(DType::I64, distinct(n, kept))])
    }))
}

fn reduce_layouts(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let kept = not_empty(n, 30);
    let reduced = not_empty(n, e.size / 8);
    let reduced = if reduced.rank() == 0 { Shape::from([13]) } else { reduced };
    total([reduce_index(e, n, &kept, reduced.size()), reduce(e, n, kept, reduced, e.dtype)])
}

fn reduce_bool(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let kept = not_empty(n, 60);
    let reduced = Shape::from([1 + n.below(4)]);
    reduce(e, n, kept, reduced, DType::Bool)
}

/// Many terms: their errors must stay those of the dtype that is computed in.
fn reduce_long(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let terms = 1 + n.below(e.size * 20);
    let columns = Shape::from([1 + n.below(40)]);
    // Sums of columns, side by side in memory.
    let across: fn(&mut Numbers, &[usize]) -> Layout = |_, s| Layout::contiguous([s[1], s[0]]).permute(&[1, 0]);
    total([
        reduce(e, n, Shape::from([3]), Shape::from([terms]), e.dtype),
        reduce_of(e, n, columns, Shape::from([1 + terms / 8]), e.dtype, across),
    ])
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

fn gather_layouts(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (s, axis, picked) = along(n, e.size);
    // All sizes equal, so that a wrong axis is within bounds.
    let cube = Shape::from([4, 4, 4]);
    total([gather(e, n, s, axis, picked), gather(e, n, cube.clone(), axis % 3, cube)])
}

fn gather(e: &Environment<'_>, n: &mut Numbers, s: Shape, axis: usize, picked: Shape) -> Checked {
    let layout = any(n, &s);
    let source = Region::input(n, e.dtype, layout, Domain::Extreme);
    let layout = any(n, &picked);
    let index = Region::input(n, DType::I64, layout, Domain::Below(s[axis]));
    check(e, &Launch::Gather(axis), &[source, index], &[Region::output(e.dtype, distinct(n, &picked))])
}

fn scatter(e: &Environment<'_>, n: &mut Numbers, s: Shape, axis: usize, picked: Shape) -> Checked {
    let (layout, domain) = (any(n, &picked), if e.dtype.is_int() { Domain::Extreme } else { Domain::Any });
    let source = Region::input(n, e.dtype, layout, domain);
    let layout = any(n, &picked);
    let index = Region::input(n, DType::I64, layout, Domain::Below(s[axis]));
    let start = Region::input(n, e.dtype, Layout::contiguous(s.clone()), Domain::Any);
    let output = Region::output(e.dtype, distinct(n, &s));
    check(e, &Launch::ScatterAdd(axis), &[source, index, start], &[output])
}

fn scatter_layouts(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (s, axis, picked) = along(n, e.size);
    scatter(e, n, s, axis, picked)
}

/// Hundreds of terms for each place.
fn scatter_duplicates(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let many = 2 + e.size * 3;
    scatter(e, n, [2, 3].into(), 0, [many, 3].into())
}

/// Nothing outside is read or written, and the error says where; the context stays usable.
fn out_of_range(e: &Environment<'_>, n: &mut Numbers) -> Checked {
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

pub(super) fn region_of(e: &Environment<'_>, n: &mut Numbers, shape: &[usize]) -> Region {
    let layout = any(n, shape);
    Region::input(n, e.dtype, layout, Domain::Any)
}

/// An output of a method that core provides: contiguous, as core promises, at any offset.
pub(super) fn output<const N: usize>(e: &Environment<'_>, n: &mut Numbers, shape: [usize; N]) -> Region {
    Region::output(e.dtype, shifted(n, &shape))
}

pub(super) fn shifted(n: &mut Numbers, shape: &[usize]) -> Layout {
    let contiguous = Layout::contiguous(shape);
    Layout::new(shape, contiguous.strides(), n.pick(&[0, 0, 1, 4]))
}

fn matmul(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    // Vectors are special to most implementations.
    let mut side = || if n.below(4) == 0 { 1 } else { 1 + n.below(20) };
    let (m, c) = (side(), side());
    let (batch, k) = (1 + n.below(3), 1 + n.below(e.size / 8 + 1));
    let domain = if e.dtype.is_int() { Domain::Extreme } else { n.pick(&[Domain::Any, Domain::Infinite]) };
    product(e, n, [batch, m, k, c], domain)
}

/// What products end in: a bias of columns, or one of rows; a bias and an activation; numbers, another array, and one of
/// another dtype; nothing of the product.
fn matmul_fused(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let mut side = || if n.below(4) == 0 { 1 } else { 1 + n.below(20) };
    let (m, c) = (side(), side());
    let (batch, k) = (1 + n.below(3), 1 + n.below(e.size / 8 + 1));
    let domain = n.pick(&[Domain::Any, Domain::Infinite]);
    total((0..5).map(|ending| fused_product(e, n, [batch, m, k, c], domain, ending)))
}

fn large_matmul_fused(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let cut = |size: usize| (size * e.size / 400).max(1);
    let shapes = [([1, 131, 67, 37], 1), ([1, 33, 67, 139], 2), ([1, 35, 523, 34], 1), ([3, 67, 5, 131], 3)];
    total(shapes.map(|(shape, ending)| fused_product(e, n, shape.map(cut), Domain::Any, ending)))
}

fn fused_product(
    e: &Environment<'_>,
    n: &mut Numbers,
    [batch, m, k, c]: [usize; 4],
    domain: Domain,
    ending: usize,
) -> Checked {
    let d = e.dtype;
    let (product, first, second) = (Expr::input(0, d), Expr::input(1, d), Expr::input(2, DType::Bool));
    let (root, dtypes): (Expr, &[DType]) = match ending {
        0 => (&product + &first, &[d, d]),
        1 => ((&product + &first).relu(), &[d, d]),
        2 => ((&product * Expr::scalar(0, d) + &first).tanh() + Expr::scalar(1, d), &[d, d]),
        3 => (
            second.select(&product, &(&first - Expr::index().and(&Expr::constant(7i64)).cast(d))),
            &[d, d, DType::Bool],
        ),
        _ => (&first + 1.0, &[d, d]),
    };
    let [a, b] = [[batch, m, k], [batch, k, c]].map(|shape| {
        let layout = any(n, &shape);
        Region::input(n, d, layout, domain)
    });
    let shape = [batch, m, c];
    let vector = |length: usize, strides: [isize; 3]| Layout::new(shape, &strides, (length + 2) % 3);
    let bias = match n.below(3) {
        0 => vector(c, [0, 0, 1]),
        1 => vector(m, [0, 1, 0]),
        _ => any(n, &shape),
    };
    let mut inputs = vec![a, b, Region::input(n, d, bias, domain)];
    if dtypes.len() > 2 {
        let layout = any(n, &shape);
        inputs.push(Region::input(n, DType::Bool, layout, Domain::Any));
    }
    let program = Program::new("ending", &[root], dtypes, &[d, d])?;
    let scalars = [0.375, -2.0].map(|v| Value::F64(v).cast(d));
    check(e, &Launch::MatmulFused(program, scalars.to_vec()), &inputs, &[output(e, n, shape)])
}

/// Larger than the blocks that implementations cut matrices into, and no multiple of them.
fn large_matmul(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let cut = |size: usize| (size * e.size / 400).max(1);
    total(
        [[1, 131, 67, 37], [1, 33, 67, 139], [1, 35, 523, 34], [67, 3, 5, 2]]
            .map(|s| product(e, n, s.map(cut), Domain::Any)),
    )
}

fn product(e: &Environment<'_>, n: &mut Numbers, [batch, m, k, c]: [usize; 4], domain: Domain) -> Checked {
    let [a, b] = [[batch, m, k], [batch, k, c]].map(|shape| {
        let layout = any(n, &shape);
        Region::input(n, e.dtype, layout, domain)
    });
    check(e, &Launch::Matmul, &[a, b], &[output(e, n, [batch, m, c])])
}
