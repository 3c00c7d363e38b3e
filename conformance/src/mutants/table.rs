//! The faults.

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
}

/// Every fault.
pub fn faults() -> &'static [Fault] {
    FAULTS
}
