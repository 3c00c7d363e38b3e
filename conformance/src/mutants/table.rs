//! The faults.

use super::Haste;
use isograd_core::{
    DType, Expr, Layout, ReduceOp, Shape, Value, Window,
    expr::{Binary, Kind, Unary},
};

/// A method of `Backend`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Method {
    Map,
    Reduce,
    Gather,
    ScatterAdd,
    Matmul,
    MatmulFused,
    Conv,
    ConvInputGradient,
    ConvWeightGradient,
    Pool,
    PoolGradient,
    Softmax,
    Normalize,
    Scan,
    Argsort,
}

type Spoiled = Vec<(usize, Value)>;

/// Where a fault sits.
#[derive(Debug)]
pub enum Plant {
    /// Nodes of expressions that are replaced.
    Expr(Method, fn(&Expr) -> Option<Expr>),
    /// Inputs that are read through another layout, given the input's number.
    Input(Method, fn(usize, &Layout) -> Option<Layout>),
    /// Elements of the output that are wrong, given those before and after, and the shape.
    Output(Method, fn(&[Value], &[Value], &Shape) -> Spoiled),
    /// Another window.
    Window(Method, fn(&Window) -> Window),
    /// Elements of the output that are wrong for some windows.
    When(Method, fn(&Window) -> bool, fn(&[Value], &[Value], &Shape) -> Spoiled),
    /// A queue that gets something wrong.
    Queue(Haste),
    /// Another reduction.
    Reduction(fn(ReduceOp) -> ReduceOp),
    /// Fewer terms along the last reduced axis.
    Terms(fn(usize) -> usize),
    /// Other launch arguments.
    Scalars(fn(&mut [Value])),
    /// The neighbouring axis.
    Axis(Method),
    /// The kernel does not run.
    Skip(Method),
    /// The flag of a method is ignored.
    Flip(Method),
    #[doc = "The last term of each reduction is lost."]
    Backward,
    #[doc = "Sums of f16 and bf16 are accumulated in f16 and bf16."]
    NarrowSums,
    #[doc = "The same in scatter_add only."]
    NarrowScatter,
    #[doc = "A race on duplicate positions."]
    Duplicates,
    #[doc = "Only the first of several outputs is written."]
    FirstOutputOnly,
    #[doc = "Largest and smallest leave NaN out."]
    NanIgnored,
    #[doc = "Negative positions give no error."]
    NoNegativeCheck,
    #[doc = "Positions are cut to 32 bits before they are checked."]
    NarrowPositions,
    #[doc = "Downloads move so many bytes at most."]
    DownloadLimit(usize),
    #[doc = "Positions outside give no error."]
    NoRangeCheck,
    #[doc = "The same in scatter_add."]
    NoRangeCheckScatter,
    #[doc = "Padding counts where it should not."]
    PaddingCounted,
    #[doc = "Padding does not count where it should."]
    PaddingNotCounted,
    #[doc = "Normalization without its epsilon."]
    NoEpsilon,
    #[doc = "Every other launch differs in a bit."]
    Unrepeatable,
    #[doc = "Something is written after the output."]
    InputWritten,
    #[doc = "Memory is not released."]
    Leak,
    #[doc = "Out of memory is another error."]
    WrongMemoryError,
    #[doc = "Out of memory is a panic."]
    PanicsOutOfMemory,
    #[doc = "Uploads start at 0."]
    UploadOffset,
    #[doc = "Uploads move whole words only."]
    UploadWords,
    #[doc = "Uploads move so many bytes at most."]
    UploadLimit(usize),
    #[doc = "Downloads start at 0."]
    DownloadOffset,
    #[doc = "Downloads start at a multiple of 8."]
    DownloadAligned,
    #[doc = "Copies from another context are short."]
    CopyShort,
    #[doc = "Copies from another context are long."]
    CopyLong,
    #[doc = "Waiting fails."]
    SynchronizeFails,
    #[doc = "No context equals another."]
    NeverEqual,
}

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong.
    pub name: &'static str,
    /// Where.
    pub plant: Plant,
}

fn dense(_: usize, l: &Layout) -> Option<Layout> {
    let c = Layout::contiguous(l.shape().clone());
    Some(Layout::new(l.shape().clone(), c.strides(), l.offset()))
}
fn no_offset(_: usize, l: &Layout) -> Option<Layout> {
    l.strides().iter().all(|s| *s >= 0).then(|| Layout::new(l.shape().clone(), l.strides(), 0))
}
fn offset_less_one(_: usize, l: &Layout) -> Option<Layout> {
    let low = l.span().0;
    (low > 0).then(|| Layout::new(l.shape().clone(), l.strides(), l.offset() - 1))
}
fn forward_only(_: usize, l: &Layout) -> Option<Layout> {
    let strides: Vec<isize> = l.strides().iter().map(|s| s.abs()).collect();
    Some(Layout::new(l.shape().clone(), &strides, l.span().0))
}
fn broadcast_backward(_: usize, l: &Layout) -> Option<Layout> {
    let axis = l.strides().iter().position(|s| *s != 0)?;
    let n = l.shape()[axis];
    l.strides().contains(&0).then(|| l.slice(axis, n - 1, n, -1))
}
fn first_reversed(_: usize, l: &Layout) -> Option<Layout> {
    (l.rank() > 0).then(|| l.slice(0, l.shape()[0] - 1, l.shape()[0], -1))
}
fn swapped(_: usize, l: &Layout) -> Option<Layout> {
    let r = l.rank();
    (r > 1 && l.shape()[r - 1] == l.shape()[r - 2]).then(|| {
        let mut order: Vec<usize> = (0..r).collect();
        order.swap(r - 1, r - 2);
        l.permute(&order)
    })
}
fn second(k: usize, l: &Layout) -> Option<Layout> {
    if k == 1 { first_reversed(k, l) } else { None }
}
fn wide(_: usize, l: &Layout) -> Option<Layout> {
    let strides: Vec<isize> = l.strides().iter().map(|s| if s.abs() > 64 { s.signum() * 64 } else { *s }).collect();
    l.strides().iter().all(|s| *s >= 0).then(|| Layout::new(l.shape().clone(), &strides, l.offset()))
}

fn last_lost(old: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let i = new.len() - 1;
    vec![(i, old[i])]
}
fn tail_of_four(old: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    (new.len() / 4 * 4..new.len()).map(|i| (i, old[i])).collect()
}
fn beyond_block(old: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    (256..new.len()).map(|i| (i, old[i])).collect()
}
fn first_lost(old: &[Value], _: &[Value], _: &Shape) -> Spoiled {
    vec![(0, old[0])]
}
fn accumulated(old: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let add = |(i, (a, b)): (usize, (&Value, &Value))| (i, Value::F64(a.to_f64() + b.to_f64()).cast(b.dtype()));
    old.iter().zip(new).enumerate().map(add).collect()
}
/// Keeps what was there from element `f(size)` on.
fn cut(old: &[Value], new: &[Value], from: usize) -> Spoiled {
    (from..new.len()).map(|i| (i, old[i])).collect()
}
/// Keeps what was there beyond position `limit` of the last axis.
fn short_rows(old: &[Value], new: &[Value], shape: &Shape, limit: usize) -> Spoiled {
    let n = shape.last().copied().unwrap_or(1);
    (0..new.len()).filter(|i| i % n >= limit).map(|i| (i, old[i])).collect()
}
fn no_negative_zero(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let zero =
        |(i, v): (usize, &Value)| (v.dtype().is_float() && v.to_f64() == 0.0).then(|| (i, Value::zero(v.dtype())));
    new.iter().enumerate().filter_map(zero).collect()
}
fn through(from: DType, by: DType, new: &[Value]) -> Spoiled {
    let narrow = |(i, v): (usize, &Value)| (i, v.cast(by).cast(from));
    if new[0].dtype() == from { new.iter().enumerate().map(narrow).collect() } else { vec![] }
}
fn i64_through_i32(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    through(DType::I64, DType::I32, new)
}
fn flushed_below(dtype: DType, least: f64, new: &[Value]) -> Spoiled {
    let small = |v: &Value| v.dtype() == dtype && v.to_f64() != 0.0 && v.to_f64().abs() < least;
    new.iter().enumerate().filter(|(_, v)| small(v)).map(|(i, v)| (i, Value::zero(v.dtype()))).collect()
}
fn positive(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    new.iter().enumerate().filter(|(_, v)| v.to_f64() < 0.0).map(|(i, v)| (i, Value::zero(v.dtype()))).collect()
}
fn wrapped(_: usize, l: &Layout) -> Option<Layout> {
    const LIMIT: usize = 1 << 31;
    let strides: Vec<isize> = l.strides().iter().map(|s| s % LIMIT as isize).collect();
    (l.span().1 > LIMIT).then(|| Layout::new(l.shape().clone(), &strides, l.offset() % LIMIT))
}
fn four_axes(_: usize, l: &Layout) -> Option<Layout> {
    let strides: Vec<isize> = l.strides().iter().enumerate().map(|(a, s)| if a < 4 { *s } else { 0 }).collect();
    (l.rank() > 4 && l.strides().iter().all(|s| *s >= 0)).then(|| Layout::new(l.shape().clone(), &strides, l.offset()))
}
fn past_the_end(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    vec![(new.len(), new[0])]
}
fn one_bit(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let v = new[0].to_f64();
    if new[0].dtype() == DType::F64 || !v.is_finite() || v == 0.0 || !new[0].dtype().is_float() {
        return vec![];
    }
    vec![(0, Value::F64(v * 1.02).cast(new[0].dtype()))]
}
fn scaled(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let double = |(i, v): (usize, &Value)| (i, Value::F64(v.to_f64() * 2.0).cast(v.dtype()));
    new.iter().enumerate().map(double).collect()
}
fn zeroed(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    new.iter().enumerate().map(|(i, v)| (i, Value::zero(v.dtype()))).collect()
}
fn f64_through_f32(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let narrow = |(i, v): (usize, &Value)| (i, v.cast(DType::F32).cast(DType::F64));
    if new[0].dtype() == DType::F64 { new.iter().enumerate().map(narrow).collect() } else { vec![] }
}
fn i64_through_f64(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let narrow = |(i, v): (usize, &Value)| (i, v.cast(DType::F64).cast(DType::I64));
    if new[0].dtype() == DType::I64 { new.iter().enumerate().map(narrow).collect() } else { vec![] }
}
fn bf16_truncated(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    // One unit toward zero, on every third element, as truncation of a rounded-up number gives.
    let cut = |(i, v): (usize, &Value)| match v {
        Value::BF16(b) if b.is_finite() && b.to_bits() & 0x7fff > 0 => {
            Some((i, Value::BF16(isograd_core::bf16::from_bits(b.to_bits() - 1))))
        }
        _ => None,
    };
    new.iter().enumerate().step_by(3).filter_map(cut).collect()
}
fn flushed(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    let flush = |(i, v): (usize, &Value)| match v {
        Value::F32(x) if x.is_subnormal() => Some((i, Value::F32(0.0))),
        _ => None,
    };
    new.iter().enumerate().filter_map(flush).collect()
}

macro_rules! unary_becomes {
    ($op:ident, $x:ident => $body:expr) => {
        |e| match e.kind() {
            Kind::Unary(Unary::$op, $x) if $x.dtype() != DType::Bool => Some($body),
            _ => None,
        }
    };
}
macro_rules! binary_becomes {
    ($op:ident, $a:ident, $b:ident => $body:expr) => {
        |e| match e.kind() {
            Kind::Binary(Binary::$op, $a, $b) if $a.dtype() != DType::Bool => Some($body),
            _ => None,
        }
    };
}

/// The number after it, away from zero, where it is f32 or f64.
fn next(e: &Expr) -> Expr {
    match e.dtype() {
        DType::F32 => (e.bitcast(DType::I32) + Expr::constant(1i32)).bitcast(DType::F32),
        DType::F64 => (e.bitcast(DType::I64) + Expr::constant(1i64)).bitcast(DType::F64),
        _ => e.clone(),
    }
}

fn integers_only(e: &Expr, op: Binary, of: fn(&Expr, &Expr) -> Expr) -> Option<Expr> {
    match e.kind() {
        Kind::Binary(o, a, b) if *o == op && a.dtype().is_int() => Some(of(a, b)),
        _ => None,
    }
}

macro_rules! table {
    ($($name:literal $plant:expr;)*) => {
        static FAULTS: &[Fault] = &[$(Fault { name: $name, plant: $plant }),*];
    };
}

use Method::*;
use Plant::{Expr as Formula, Input, Output, Terms};

table! {
    "map ignores strides" Input(Map, dense);
    "map ignores offsets" Input(Map, no_offset);
    "map starts one element early" Input(Map, offset_less_one);
    "map reads reversed inputs forward" Input(Map, forward_only);
    "map reads broadcast inputs backward" Input(Map, broadcast_backward);
    "map reads the first axis backward" Input(Map, first_reversed);
    "map swaps the last two axes of squares" Input(Map, swapped);
    "map wraps large strides" Input(Map, wide);
    "map loses the last element" Output(Map, last_lost);
    "map loses the tail of a vector" Output(Map, tail_of_four);
    "map stops after a block" Output(Map, beyond_block);
    "map loses the first element" Output(Map, first_lost);
    "map adds to the output instead of writing" Output(Map, accumulated);
    "map writes past the end" Output(Map, past_the_end);
    "map is 2 % off in one element" Output(Map, one_bit);
    "map computes f64 in f32" Output(Map, f64_through_f32);
    "map computes i64 in f64" Output(Map, i64_through_f64);
    "map truncates bf16" Output(Map, bf16_truncated);
    "map flushes subnormals to zero" Output(Map, flushed);
    "map does not run on large outputs" Plant::Skip(Map);
    "max of NaN is the other" Formula(Map, binary_becomes!(Max, a, b => a.greater(b).select(a, b)));
    "min of NaN is the other" Formula(Map, binary_becomes!(Min, a, b => a.less(b).select(a, b)));
    "relu of NaN is 0" Formula(Map, unary_becomes!(Relu, x => x.greater(&x.like(0)).select(x, &x.like(0))));
    "sign of NaN is 0" Formula(Map, unary_becomes!(Sign, x =>
        x.greater(&x.like(0)).select(&x.like(1), &x.less(&x.like(0)).select(&-x, &x.like(0)))));
    "abs leaves negative numbers" Formula(Map, unary_becomes!(Abs, x => x.clone()));
    "exp is short of accuracy" Formula(Map, unary_becomes!(Exp, x => x.exp() * 1.000001));
    "log of 1 + x cancels" Formula(Map, unary_becomes!(Log1p, x => (x + 1.0).log()));
    "exp of x less 1 cancels" Formula(Map, unary_becomes!(Expm1, x => x.exp() - 1.0));
    "sigmoid is half of tanh" Formula(Map, unary_becomes!(Sigmoid, x => (x * 0.5).tanh() * 0.5 + 0.5));
    "softplus overflows" Formula(Map, unary_becomes!(Softplus, x => x.exp().log1p()));
    "tanh overflows" Formula(Map, unary_becomes!(Tanh, x => (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())));
    "sinh cancels" Formula(Map, unary_becomes!(Sinh, x => (x.exp() - (-x).exp()) * 0.5));
    "cosh is without its half" Formula(Map, unary_becomes!(Cosh, x => x.exp() + (-x).exp()));
    "exp is one place off" Formula(Map, unary_becomes!(Exp, x => next(&x.exp())));
    "log2 is log over log 2" Formula(Map, unary_becomes!(Log2, x => x.log() * (1.0 / std::f64::consts::LN_2)));
    "tanh of f32 goes by f64" Formula(Map, unary_becomes!(Tanh, x => x.cast(DType::F64).tanh().cast(x.dtype())));
    "division rounds twice" Formula(Map, binary_becomes!(Div, a, b =>
        if a.dtype().is_float() { a * b.reciprocal() } else { a / b }));
    "map contracts a product into the sum" Formula(Map, |e| match e.kind() {
        Kind::Binary(Binary::Add, a, b) if a.dtype().is_float() => match (a.kind(), b.kind()) {
            (Kind::Binary(Binary::Mul, x, y), _) => Some(x.mul_add(y, b)),
            (_, Kind::Binary(Binary::Mul, x, y)) => Some(x.mul_add(y, a)),
            _ => None,
        },
        _ => None,
    });
    "map rounds a fused product before its sum" Formula(Map, |e| match e.kind() {
        Kind::MulAdd(a, b, c) => Some(a * b + c),
        _ => None,
    });
    "map gives a product with zero no sign" Formula(Map, binary_becomes!(Mul, a, b =>
        if a.dtype().is_float() { a * b + 0.0 } else { a * b }));
    "sin in degrees" Formula(Map, unary_becomes!(Sin, x => (x * 0.017453).sin()));
    "cos is sin" Formula(Map, unary_becomes!(Cos, x => x.sin()));
    "tan is a series" Formula(Map, unary_becomes!(Tan, x => x + x * x * x / 3.0));
    "erf is an approximation by tanh" Formula(Map, unary_becomes!(Erf, x => (x * std::f64::consts::FRAC_2_SQRT_PI + x * x * x * 0.1009).tanh()));
    "cbrt of negative numbers is NaN" Formula(Map, unary_becomes!(Cbrt, x => x.pow(&x.like(1.0 / 3.0))));
    "round takes halves away from zero" Formula(Map, unary_becomes!(Round, x => (x + 0.5).floor()));
    "floor is trunc" Formula(Map, unary_becomes!(Floor, x => x.trunc()));
    "ceil is floor + 1" Formula(Map, unary_becomes!(Ceil, x => x.floor() + 1.0));
    "rsqrt is fast and inexact" Formula(Map, unary_becomes!(Rsqrt, x => x.rsqrt() * 1.0000008));
    "log2 is log" Formula(Map, unary_becomes!(Log2, x => x.log()));
    "acosh is asinh" Formula(Map, unary_becomes!(Acosh, x => x.asinh()));
    "quotient by an inexact reciprocal" Formula(Map, binary_becomes!(Div, a, b =>
        if a.dtype().is_float() { a * &(b.reciprocal() * 1.000001) } else { a / b }));
    "integer division by zero is the dividend" Formula(Map, |e| integers_only(e, Binary::Div, |a, b|
        b.equal(&b.like(0)).select(a, &(a / b))));
    "remainder has the dividend's sign" Formula(Map, |e| integers_only(e, Binary::Rem, |a, b| a - &(&(a / b) * b)));
    "floating remainder has the dividend's sign" Formula(Map, binary_becomes!(Rem, a, b =>
        if a.dtype().is_float() { a - &((a / b).trunc() * b) } else { a % b }));
    "pow by exp and log" Formula(Map, binary_becomes!(Pow, a, b =>
        if a.dtype().is_float() { (a.log() * b).exp() } else { a.pow(b) }));
    "hypot overflows" Formula(Map, binary_becomes!(Hypot, a, b => (a * a + b * b).sqrt()));
    "atan2 takes its arguments the other way" Formula(Map, binary_becomes!(Atan2, a, b => b.atan2(a)));
    "less is less or equal" Formula(Map, binary_becomes!(Lt, a, b => a.less_equal(b)));
    "not equal of NaN is false" Formula(Map, binary_becomes!(Ne, a, b => a.less(b).or(&b.less(a))));
    "greater or equal is not less" Formula(Map, binary_becomes!(Ge, a, b => !&a.less(b)));
    "sub is the other way round" Formula(Map, binary_becomes!(Sub, a, b => b - a));
    "products of integers saturate" Formula(Map, |e| integers_only(e, Binary::Mul, |a, b|
        (a * b).greater(&a.like(100)).select(&a.like(100), &(a * b))));
    "shifts are not by the distance modulo the bits" Formula(Map, |e| integers_only(e, Binary::Shl, |a, b|
        b.greater(&b.like(7)).select(&a.like(0), &a.shl(b))));
    "shifts to the right lose the sign" Formula(Map, |e| integers_only(e, Binary::Shr, |a, b| a.shr(b).abs()));
    "select takes the other" Formula(Map, |e| match e.kind() {
        Kind::Select(c, a, b) => Some(c.select(b, a)),
        _ => None,
    });
    "old values read as 0" Formula(Map, |e| match e.kind() {
        Kind::Old(_) if e.dtype() != DType::Bool => Some(Expr::input(0, e.dtype()).like(0)),
        _ => None,
    });
    "the index starts at 1" Formula(Map, |e| match e.kind() {
        Kind::Index => Some(Expr::index().maximum(&Expr::constant(1i64))),
        _ => None,
    });
    "the index wraps at 256" Formula(Map, |e| match e.kind() {
        Kind::Index => Some(Expr::index().and(&Expr::constant(255i64))),
        _ => None,
    });
    "the seed is ignored" Formula(Map, |e| match e.kind() {
        Kind::Random { word, index, .. } => Some(Expr::random_bits(&Expr::constant(1i64), index, *word)),
        _ => None,
    });
    "the upper half of the seed is ignored" Formula(Map, |e| match e.kind() {
        Kind::Random { word, index, seed } => {
            Some(Expr::random_bits(&seed.and(&Expr::constant(0xffff_ffffi64)), index, *word))
        }
        _ => None,
    });
    "the upper half of the counter is ignored" Formula(Map, |e| match e.kind() {
        Kind::Random { word, index, seed } => {
            Some(Expr::random_bits(seed, &index.and(&Expr::constant(0xffff_ffffi64)), *word))
        }
        _ => None,
    });
    "all random words are the first" Formula(Map, |e| match e.kind() {
        Kind::Random { index, seed, .. } => Some(Expr::random_bits(seed, index, 0)),
        _ => None,
    });
    "launch arguments are those of the first launch" Plant::Scalars(|s| {
        s.iter_mut().for_each(|v| *v = Value::one(v.dtype()));
    });
    "a launch differs from the one before" Plant::Unrepeatable;
    "something is written after the output" Plant::InputWritten;
    "reduce ignores strides" Input(Reduce, dense);
    "reduce ignores offsets" Input(Reduce, no_offset);
    "reduce reads broadcast inputs backward" Input(Reduce, broadcast_backward);
    "reduce reads reversed inputs forward" Input(Reduce, |_, l| {
        // Of one row only: a sum would not tell.
        (l.rank() > 1).then(|| l.slice(0, l.shape()[0] - 1, l.shape()[0], -1))
    });
    "reduce loses the last term" Plant::Backward;
    "reduce takes whole vectors only" Terms(|n| n / 8 * 8);
    "reduce takes 64 terms at most" Terms(|n| n.min(64));
    "reduce loses the last output" Output(Reduce, last_lost);
    "reduce adds to the output" Output(Reduce, accumulated);
    "reduce writes past the end" Output(Reduce, past_the_end);
    "reduce computes f64 in f32" Output(Reduce, f64_through_f32);
    "prod is sum" Plant::Reduction(|op| if op == ReduceOp::Prod { ReduceOp::Sum } else { op });
    "min is max" Plant::Reduction(|op| if op == ReduceOp::Min { ReduceOp::Max } else { op });
    "sums of f16 are accumulated in f16" Plant::NarrowSums;
    "gather ignores strides" Input(Gather, dense);
    "gather reads the index backward" Input(Gather, second);
    "gather loses the last element" Output(Gather, last_lost);
    "gather takes the axis after" Plant::Axis(Gather);
    "gather does not check positions" Plant::NoRangeCheck;
    "scatter_add ignores strides" Input(ScatterAdd, dense);
    "scatter_add reads the index backward" Input(ScatterAdd, second);
    "scatter_add writes instead of adding" Output(ScatterAdd, |old, new, _| {
        let less = |(i, (a, b)): (usize, (&Value, &Value))| (i, Value::F64(b.to_f64() - a.to_f64()).cast(b.dtype()));
        old.iter().zip(new).enumerate().map(less).collect()
    });
    "scatter_add loses a term in a race" Plant::Duplicates;
    "scatter_add rounds f16 after every term" Plant::NarrowScatter;
    "scatter_add does not check positions" Plant::NoRangeCheckScatter;
    "matmul ignores strides" Input(Matmul, dense);
    "matmul reads its second matrix backward" Input(Matmul, second);
    "matmul adds to the output" Output(Matmul, accumulated);
    "matmul loses the last element" Output(Matmul, last_lost);
    "matmul_fused ignores strides" Input(MatmulFused, |k, l| if k < 2 { dense(k, l) } else { None });
    "matmul_fused ignores the strides of what is added" Input(MatmulFused, |k, l| if k >= 2 { dense(k, l) } else { None });
    "matmul_fused adds along the wrong axis" Input(MatmulFused, |k, l| if k >= 2 { swapped(k, l) } else { None });
    "matmul_fused adds the bias of the first column" Input(MatmulFused, |k, l| if k >= 2 && l.strides()[1] == 0 {
        Some(Layout::new(l.shape().clone(), &[0, 0, 0], l.offset()))
    } else { None });
    "matmul_fused does not end" Formula(MatmulFused, |e| match e.kind() {
        Kind::Unary(Unary::Relu | Unary::Tanh, x) => Some(x.clone()),
        _ => None,
    });
    "matmul_fused ends in nothing but a sum" Formula(MatmulFused, |e| match e.kind() {
        Kind::Select(_, a, _) => Some(a.clone()),
        _ => None,
    });
    "matmul_fused ends in a relu that hides NaN" Formula(MatmulFused, unary_becomes!(Relu, x => x.greater(&x.like(0)).select(x, &x.like(0))));
    "matmul_fused loses the last element" Output(MatmulFused, last_lost);
    "matmul_fused loses columns beyond 128" Output(MatmulFused, |o, n, s| short_rows(o, n, s, 128));
    "matmul_fused adds to the output" Output(MatmulFused, accumulated);
    "conv ignores groups" Output(Conv, scaled);
    "conv ignores dilation" Plant::Window(ConvWeightGradient, |w| Window { dilation: w.dilation.iter().map(|_| 1).collect(), ..w.clone() });
    "conv's gradient in its input is dropped" Output(ConvInputGradient, zeroed);
    "conv's gradient in its weight is dropped" Output(ConvWeightGradient, zeroed);
    "conv flips its weight" Input(Conv, |k, l| if k == 1 { Some(l.slice(3, l.shape()[3] - 1, l.shape()[3], -1)) } else { None });
    "pool loses the last window" Output(Pool, last_lost);
    "padding counts in the mean" Plant::PaddingCounted;
    "padding does not count in the mean" Plant::PaddingNotCounted;
    "pool's gradient is twice as large" Output(PoolGradient, scaled);
    "softmax ignores strides" Input(Softmax, dense);
    "softmax and its logarithm are swapped" Plant::Flip(Softmax);
    "normalize forgets epsilon" Plant::NoEpsilon;
    "normalize ignores strides" Input(Normalize, dense);
    "cumprod is cumsum" Plant::Flip(Scan);
    "scan loses the last element" Output(Scan, last_lost);
    "argsort ignores the order asked for" Plant::Flip(Argsort);
    "argsort is not stable" Input(Argsort, |_, l| Some(l.slice(l.rank() - 1, l.shape()[l.rank() - 1] - 1, l.shape()[l.rank() - 1], -1)));
    "memory is not released" Plant::Leak;
    "out of memory is another error" Plant::WrongMemoryError;
    "out of memory is a panic" Plant::PanicsOutOfMemory;
    "uploads ignore their offset" Plant::UploadOffset;
    "uploads move whole words" Plant::UploadWords;
    "uploads move 4 KiB at most" Plant::UploadLimit(1 << 12);
    "downloads ignore their offset" Plant::DownloadOffset;
    "downloads start at a multiple of 8" Plant::DownloadAligned;
    "copies between contexts are short" Plant::CopyShort;
    "copies between contexts are long" Plant::CopyLong;
    "a wait fails" Plant::SynchronizeFails;
    "no context equals another" Plant::NeverEqual;
    "an upload does not wait for kernels" Plant::Queue(Haste::Upload);
    "a download does not wait for kernels" Plant::Queue(Haste::Download);
    "a copy between contexts does not wait for kernels" Plant::Queue(Haste::Copy);
    "synchronize does not wait" Plant::Queue(Haste::Synchronize);
    "synchronize loses the error of a kernel" Plant::Queue(Haste::SynchronizeLosesErrors);
    "a download loses the error of a kernel" Plant::Queue(Haste::DownloadLosesErrors);
    "a kernel hides the error of the one before" Plant::Queue(Haste::LastStatusOnly);
    "an error is told for ever" Plant::Queue(Haste::ErrorsStay);
    "nothing runs after an error" Plant::Queue(Haste::ErrorsStop);
    "kernels run out of order" Plant::Queue(Haste::OutOfOrder);
    "memory is used again before its kernels ran" Plant::Queue(Haste::Recycles);
    "memory that lives is given out again" Plant::Queue(Haste::Shares);
    "positions of map wrap at 2^31" Input(Map, wrapped);
    "positions of reduce wrap at 2^31" Input(Reduce, wrapped);
    "map stops after 65,535 elements" Output(Map, |o, n, _| cut(o, n, 65_535));
    "map stops after 65,535 groups of 256" Output(Map, |o, n, _| cut(o, n, 65_535 * 256));
    "map loses rows beyond 65,535" Output(Map, |o, n, s| if s.rank() > 1 && s[0] > 65_535 { cut(o, n, n.len() - 1) } else { vec![] });
    "reduce loses rows beyond 65,535" Output(Reduce, |o, n, _| cut(o, n, 65_535));
    "gather stops after 65,535 elements" Output(Gather, |o, n, _| cut(o, n, 65_535));
    "scatter_add stops after 65,535 places" Output(ScatterAdd, |o, n, _| cut(o, n, 65_535));
    "matmul loses batches beyond 65,535" Output(Matmul, |o, n, s| if s[0] > 65_535 { cut(o, n, n.len() - 1) } else { vec![] });
    "map loses the tail of 8 elements" Output(Map, |o, n, _| cut(o, n, n.len() / 8 * 8));
    "map loses the tail of 64 elements where there are more" Output(Map, |o, n, _| if n.len() > 64 { cut(o, n, n.len() / 64 * 64) } else { vec![] });
    "map loses the tail of 1,024 elements where there are more" Output(Map, |o, n, _| if n.len() > 1024 { cut(o, n, n.len() / 1024 * 1024) } else { vec![] });
    "map reads four axes at most" Input(Map, four_axes);
    "the index is a float" Formula(Map, |e| match e.kind() {
        Kind::Index => Some(Expr::index().cast(DType::F32).cast(DType::I64)),
        _ => None,
    });
    "the index wraps at 65,536" Formula(Map, |e| match e.kind() {
        Kind::Index => Some(Expr::index().and(&Expr::constant(0xffffi64))),
        _ => None,
    });
    "random counters wrap at 65,536" Formula(Map, |e| match e.kind() {
        Kind::Random { word, index, seed } => Some(Expr::random_bits(seed, &index.and(&Expr::constant(0xffffi64)), *word)),
        _ => None,
    });
    "the index of a reduction starts at 1" Formula(Reduce, |e| match e.kind() {
        Kind::Index => Some(Expr::index().maximum(&Expr::constant(1i64))),
        _ => None,
    });
    "inputs beyond the fourth read as 0" Formula(Map, |e| match e.kind() {
        Kind::Input(k) if *k > 3 && e.dtype() != DType::Bool => Some(e.like(0)),
        _ => None,
    });
    "scalars beyond the first read as it" Formula(Map, |e| match e.kind() {
        Kind::Scalar(k) if *k == 1 => Some(e.like(1)),
        _ => None,
    });
    "only the first output is written" Plant::FirstOutputOnly;
    "every old value is the first output's" Formula(Map, |e| match e.kind() {
        Kind::Old(1) if e.dtype() != DType::Bool => Some(Expr::old(0, e.dtype())),
        _ => None,
    });
    "zeros lose their sign" Output(Map, no_negative_zero);
    "gather loses the sign of zeros" Output(Gather, no_negative_zero);
    "map flushes subnormals of f16" Output(Map, |_, n, _| flushed_below(DType::F16, 6.103515625e-5, n));
    "map flushes subnormals of bf16" Output(Map, |_, n, _| flushed_below(DType::BF16, 1.1754944e-38, n));
    "map flushes subnormals of f64" Output(Map, |_, n, _| flushed_below(DType::F64, f64::MIN_POSITIVE, n));
    "gather flushes subnormals" Output(Gather, flushed);
    "map computes i32 in f32" Output(Map, |_, n, _| through(DType::I32, DType::F32, n));
    "map saturates i8 at -127" Output(Map, |_, n, _| n.iter().enumerate().filter(|(_, v)| **v == Value::I8(-128)).map(|(i, _)| (i, Value::I8(-127))).collect());
    "reduce computes i64 in f64" Output(Reduce, i64_through_f64);
    "reduce computes i64 in i32" Output(Reduce, i64_through_i32);
    "gather moves i64 as f64" Output(Gather, i64_through_f64);
    "gather moves f64 as f32" Output(Gather, f64_through_f32);
    "scatter_add computes i64 in i32" Output(ScatterAdd, i64_through_i32);
    "scatter_add computes f64 in f32" Output(ScatterAdd, f64_through_f32);
    "matmul computes i64 in f64" Output(Matmul, i64_through_f64);
    "matmul computes f64 in f32" Output(Matmul, f64_through_f32);
    "conv computes f64 in f32" Output(Conv, f64_through_f32);
    "conv's gradient in its input computes f64 in f32" Output(ConvInputGradient, f64_through_f32);
    "conv's gradient in its weight computes f64 in f32" Output(ConvWeightGradient, f64_through_f32);
    "pool computes f64 in f32" Output(Pool, f64_through_f32);
    "pool's gradient computes f64 in f32" Output(PoolGradient, f64_through_f32);
    "softmax computes f64 in f32" Output(Softmax, f64_through_f32);
    "normalize computes f64 in f32" Output(Normalize, f64_through_f32);
    "scan computes f64 in f32" Output(Scan, f64_through_f32);
    "scan computes i64 in f64" Output(Scan, i64_through_f64);
    "reductions leave NaN out" Plant::NanIgnored;
    "reduce stops after 4,096 terms" Terms(|n| n.min(4096));
    "gather takes negative positions" Plant::NoNegativeCheck;
    "gather cuts positions to 32 bits" Plant::NarrowPositions;
    "matmul loses rows of 8 where there are more" Output(Matmul, |o, n, s| { let c = s[s.rank() - 1]; if c > 8 { short_rows(o, n, s, c / 8 * 8) } else { vec![] } });
    "matmul loses columns beyond 128" Output(Matmul, |o, n, s| short_rows(o, n, s, 128));
    "matmul is zero where a number is infinite" Output(Matmul, |_, n, _| n.iter().enumerate().filter(|(_, v)| v.to_f64().is_nan()).map(|(i, v)| (i, Value::zero(v.dtype()))).collect());
    "conv is wrong where there are groups" Plant::When(Conv, |w| w.groups > 1, scaled);
    "conv is wrong where dilation and stride meet" Plant::When(Conv, |w| w.dilation[0] > 1 && w.stride[0] > 1, last_zero);
    "conv is wrong for kernels of 3 with stride 1" Plant::When(Conv, |w| w.kernel.iter().all(|k| *k == 3) && w.stride.iter().all(|s| *s == 1), last_zero);
    "conv is wrong for kernels of 1" Plant::When(Conv, |w| w.kernel.iter().all(|k| *k == 1), last_zero);
    "conv is wrong where strides differ" Plant::When(Conv, |w| w.stride.iter().any(|s| *s != w.stride[0]), last_zero);
    "conv is wrong where paddings differ" Plant::When(Conv, |w| w.padding.iter().any(|p| *p != w.padding[0]), last_zero);
    "conv is wrong along one axis" Plant::When(Conv, |w| w.axes() == 1, last_zero);
    "conv is wrong along three axes" Plant::When(Conv, |w| w.axes() == 3, last_zero);
    "conv loses channels beyond 16" Output(Conv, |_, n, s| if s[1] > 16 { vec![(n.len() - 1, Value::zero(n[0].dtype()))] } else { vec![] });
    "conv's gradient in its input is wrong where there are groups" Plant::When(ConvInputGradient, |w| w.groups > 1, last_zero);
    "conv's gradient in its input is wrong where strides are not 1" Plant::When(ConvInputGradient, |w| w.stride.iter().any(|s| *s > 1), last_zero);
    "conv's gradient in its input is wrong where dilations differ" Plant::When(ConvInputGradient, |w| w.dilation.iter().any(|d| *d != w.dilation[0]), last_zero);
    "conv's gradient in its weight is wrong where there are groups" Plant::When(ConvWeightGradient, |w| w.groups > 1, last_zero);
    "conv's gradient in its weight is wrong where padding is not 0" Plant::When(ConvWeightGradient, |w| w.padding.iter().any(|p| *p > 0), last_zero);
    "conv's gradient in its weight is of the first sample" Output(ConvWeightGradient, last_zero);
    "padding wins in max pooling" Plant::When(Pool, |w| w.padding.iter().any(|p| *p > 0), positive);
    "pool is wrong along three axes" Plant::When(Pool, |w| w.axes() == 3, last_zero);
    "pool's gradient is wrong where windows overlap" Plant::When(PoolGradient, |w| w.kernel.iter().zip(&w.stride).any(|(k, s)| k > s), last_zero);
    "pool's gradient is dropped" Output(PoolGradient, zeroed);
    "softmax does not take off the largest" Formula(Map, exp_of_differences);
    "softmax's sum does not take off the largest" Formula(Reduce, exp_of_differences);
    "variance is the mean of squares less the square of the mean" Formula(Reduce, |e| match e.kind() {
        Kind::Binary(Binary::Mul, a, b) if a == b => match a.kind() {
            Kind::Binary(Binary::Sub, x, m) => Some(x * x - m * m),
            _ => None,
        },
        _ => None,
    });
    "softmax loses elements beyond 1,024" Output(Softmax, |o, n, s| short_rows(o, n, s, 1024));
    "normalize loses elements beyond 1,024" Output(Normalize, |o, n, s| short_rows(o, n, s, 1024));
    "scan starts again after 1,024 elements" Output(Scan, |o, n, s| short_rows(o, n, s, 1024));
    "argsort sorts 1,024 elements" Output(Argsort, |o, n, s| short_rows(o, n, s, 1024));
    "argsort loses the last element" Output(Argsort, last_lost);
    "softmax loses the last element" Output(Softmax, last_lost);
    "normalize loses the last element" Output(Normalize, last_lost);
    "casts to integers wrap" Formula(Map, |e| match e.kind() {
        Kind::Cast(x) if e.dtype().is_int() && e.dtype() != DType::I64 && x.dtype().is_float() =>
            Some(x.cast(DType::I64).cast(e.dtype())),
        _ => None,
    });
    "casts to integers round" Formula(Map, |e| match e.kind() {
        Kind::Cast(x) if e.dtype().is_int() && x.dtype().is_float() => Some(x.round().cast(e.dtype())),
        _ => None,
    });
    "NaN as an integer is the least" Formula(Map, |e| match e.kind() {
        Kind::Cast(x) if e.dtype() == DType::I32 && x.dtype().is_float() =>
            Some(x.is_nan().select(&Expr::constant(i32::MIN), &x.cast(DType::I32))),
        _ => None,
    });
    "a half is false" Formula(Map, |e| match e.kind() {
        Kind::Cast(x) if e.dtype() == DType::Bool && x.dtype().is_float() => Some(x.cast(DType::I64).cast(DType::Bool)),
        _ => None,
    });
    "casts of integers saturate" Formula(Map, |e| match e.kind() {
        Kind::Cast(x) if e.dtype() == DType::U8 && x.dtype() == DType::I32 =>
            Some(x.maximum(&x.like(0)).minimum(&x.like(255)).cast(DType::U8)),
        _ => None,
    });
    "casts to f16 overflow to the largest" Output(Map, |_, n, _| n.iter().enumerate()
        .filter(|(_, v)| v.dtype() == DType::F16 && v.to_f64().is_infinite())
        .map(|(i, v)| (i, Value::F64(65504f64.copysign(v.to_f64())).cast(DType::F16))).collect());
    "less or equal is less" Formula(Map, binary_becomes!(Le, a, b => a.less(b)));
    "greater is greater or equal" Formula(Map, binary_becomes!(Gt, a, b => a.greater_equal(b)));
    "equal of infinities is false" Formula(Map, binary_becomes!(Eq, a, b =>
        if a.dtype().is_float() { (a - b).equal(&a.like(0)) } else { a.equal(b) }));
    "xor is or" Formula(Map, |e| match e.kind() {
        Kind::Binary(Binary::Xor, a, b) => Some(a.or(b)),
        _ => None,
    });
    "sqrt by rsqrt" Formula(Map, unary_becomes!(Sqrt, x => x * &x.rsqrt()));
    "reciprocal is fast and inexact" Formula(Map, unary_becomes!(Recip, x => x.reciprocal() * 1.0000005));
    "asin of 1 is off" Formula(Map, unary_becomes!(Asin, x => x.asin() * 1.000001));
    "acos cancels near 1" Formula(Map, unary_becomes!(Acos, x => x.like(std::f64::consts::FRAC_PI_2) - x.asin()));
    "atan is off" Formula(Map, unary_becomes!(Atan, x => x.atan() * 1.000001));
    "asinh cancels" Formula(Map, unary_becomes!(Asinh, x => (x + &(x * x + 1.0).sqrt()).log()));
    "atanh cancels" Formula(Map, unary_becomes!(Atanh, x => ((x + 1.0) / (x.like(1) - x)).log() * 0.5));
    "exp2 is exp" Formula(Map, unary_becomes!(Exp2, x => x.exp()));
    "log10 is off" Formula(Map, unary_becomes!(Log10, x => x.log() * 0.434));
    "log of subnormals is that of 0" Formula(Map, unary_becomes!(Log, x =>
        if x.dtype() == DType::F32 { x.less(&x.like(1.17549435e-38)).and(&x.greater_equal(&x.like(0))).select(&x.like(f64::NEG_INFINITY), &x.log()) } else { x.log() }));
    "erfinv is a series" Formula(Map, unary_becomes!(Erfinv, x => x * 0.8862269 + x * x * x * 0.2320137));
    "trunc is floor" Formula(Map, unary_becomes!(Trunc, x => x.floor()));
    "neg of 0 is 0" Formula(Map, unary_becomes!(Neg, x => if x.dtype().is_float() { x.like(0) - x } else { -x }));
    "uploads move 1 MiB at most" Plant::UploadLimit(1 << 20);
    "downloads move 64 KiB at most" Plant::DownloadLimit(1 << 16);
}

fn exp_of_differences(e: &Expr) -> Option<Expr> {
    match e.kind() {
        Kind::Unary(Unary::Exp, x) => match x.kind() {
            Kind::Binary(Binary::Sub, a, b) => Some(a.exp() / b.exp()),
            _ => None,
        },
        _ => None,
    }
}
fn last_zero(_: &[Value], new: &[Value], _: &Shape) -> Spoiled {
    vec![(new.len() - 1, Value::zero(new[0].dtype()))]
}

/// Every fault.
pub fn faults() -> &'static [Fault] {
    FAULTS
}
