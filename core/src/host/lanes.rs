//! The loops that programs are made of, over slices of equal length.
//!
//! [`loops`] has them as always-inlined functions, so that a backend can compile them again inside a function with more
//! target features; [`Lanes`] is what the machine calls. Functions are their definitions in [`crate::expr::mathematics`].

use crate::{
    DType, ReduceOp, Value,
    backend::Reducer,
    expr::{Binary, Unary, scalar},
};

/// A slice of one of the dtypes that are computed in. Bool is bytes that are 0 or 1.
#[derive(Clone, Copy, Debug)]
pub enum Lane<'a> {
    /// f32 (and f16 and bf16, widened).
    F32(&'a [f32]),
    /// f64.
    F64(&'a [f64]),
    /// i32.
    I32(&'a [i32]),
    /// i64.
    I64(&'a [i64]),
    /// u8.
    U8(&'a [u8]),
    /// i8.
    I8(&'a [i8]),
    /// bool.
    Bool(&'a [u8]),
}

/// A slice to be written.
#[derive(Debug)]
pub enum LaneMut<'a> {
    /// f32 (and f16 and bf16, before rounding).
    F32(&'a mut [f32]),
    /// f64.
    F64(&'a mut [f64]),
    /// i32.
    I32(&'a mut [i32]),
    /// i64.
    I64(&'a mut [i64]),
    /// u8.
    U8(&'a mut [u8]),
    /// i8.
    I8(&'a mut [i8]),
    /// bool.
    Bool(&'a mut [u8]),
}

/// Portable loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// The loops as the machine calls them. Every method has a portable default; a backend overrides them to run the functions
/// of [`loops`] with more target features. All slices of a call have one length.
pub trait Lanes: Copy + Send + Sync {
    /// `out[i] = op(x[i])`.
    fn unary(self, op: Unary, x: Lane<'_>, out: LaneMut<'_>) {
        loops::unary(op, x, out);
    }
    /// `out[i] = op(a[i], b[i])`; `out` is bool for comparisons.
    fn binary(self, op: Binary, a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
        loops::binary(op, a, b, out);
    }
    /// `out[i] = a[i] * b[i] + c[i]`, rounded once; the lanes are of one floating dtype.
    fn mul_add(self, a: Lane<'_>, b: Lane<'_>, c: Lane<'_>, out: LaneMut<'_>) {
        loops::mul_add(a, b, c, out);
    }
    /// `out[i] = if condition[i] { a[i] } else { b[i] }`.
    fn select(self, condition: &[u8], a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
        loops::select(condition, a, b, out);
    }
    /// `out[i] = x[i]` in the dtype of `out`.
    fn convert(self, x: Lane<'_>, out: LaneMut<'_>) {
        loops::convert(x, out);
    }
    /// `out[i]` = word `word` of Philox 4x32-10 with key `seed[i]` and counter `index[i]`.
    fn random(self, word: u8, seed: &[i64], index: &[i64], out: &mut [i64]) {
        loops::random(word, seed, index, out);
    }
    /// The result of each block of 256 elements of `x`, in the order of [`Reducer`]; the last block may have fewer. `out` has
    /// one element per block.
    fn fold(self, op: ReduceOp, x: Lane<'_>, out: LaneMut<'_>) {
        loops::fold(op, x, out);
    }
    /// `accumulator[i] = op(accumulator[i], x[i])`.
    fn combine(self, op: ReduceOp, x: Lane<'_>, accumulator: LaneMut<'_>) {
        loops::combine(op, x, accumulator);
    }
}

impl Lanes for Plain {}

/// The loops themselves. Each is always inlined, so that it takes on the target features of the function it is called in.
pub mod loops {
    use super::*;

    fn mismatch() -> ! {
        unreachable!("programs are typed: the lanes of an instruction agree")
    }

    #[inline(always)]
    fn each<T: Copy, U>(x: &[T], out: &mut [U], f: impl Fn(T) -> U) {
        for (o, &v) in out.iter_mut().zip(x) {
            *o = f(v);
        }
    }

    #[inline(always)]
    fn each2<T: Copy, U>(a: &[T], b: &[T], out: &mut [U], f: impl Fn(T, T) -> U) {
        for ((o, &v), &w) in out.iter_mut().zip(a).zip(b) {
            *o = f(v, w);
        }
    }

    /// See [`Lanes::unary`].
    #[inline(always)]
    pub fn unary(op: Unary, x: Lane<'_>, out: LaneMut<'_>) {
        macro_rules! float {
            ($x:expr, $out:expr, $near:ident, $far:ident, $dtype:expr, $($variant:ident)*) => {{
                match op {
                    $(Unary::$variant => each($x, $out, |v| scalar::$near(Unary::$variant, v)),)*
                    Unary::Not => mismatch(),
                }
                // What the loop is not made for, one by one: the sine of large angles.
                if let Some(limit) = op.near($dtype)
                    && $x.iter().fold(false, |any, v| any | (v.abs() as f64 > limit))
                {
                    for (o, &v) in $out.iter_mut().zip($x).filter(|(_, v)| v.abs() as f64 > limit) {
                        *o = scalar::$far(op, v);
                    }
                }
            }};
        }
        macro_rules! floats {
            ($x:expr, $out:expr, $near:ident, $far:ident, $dtype:expr) => {
                float!($x, $out, $near, $far, $dtype, Neg Abs Sign Relu Recip Sqrt Rsqrt Cbrt Exp Exp2 Expm1 Log Log2 Log10
                    Log1p Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Erfinv Sigmoid Softplus
                    Floor Ceil Trunc Round)
            };
        }
        macro_rules! int {
            ($x:expr, $out:expr, $abs:expr, $sign:expr) => {
                match op {
                    Unary::Neg => each($x, $out, |v| v.wrapping_neg()),
                    Unary::Abs => each($x, $out, $abs),
                    Unary::Sign => each($x, $out, $sign),
                    Unary::Relu => each($x, $out, |v| v.max(0)),
                    Unary::Not => each($x, $out, |v| !v),
                    _ => mismatch(),
                }
            };
        }
        match (x, out) {
            (Lane::F32(x), LaneMut::F32(out)) => floats!(x, out, of_one_f32, unary_f32, DType::F32),
            (Lane::F64(x), LaneMut::F64(out)) => floats!(x, out, of_one_f64, unary_f64, DType::F64),
            (Lane::I32(x), LaneMut::I32(out)) => int!(x, out, |v: i32| v.wrapping_abs(), |v: i32| v.signum()),
            (Lane::I64(x), LaneMut::I64(out)) => int!(x, out, |v: i64| v.wrapping_abs(), |v: i64| v.signum()),
            (Lane::I8(x), LaneMut::I8(out)) => int!(x, out, |v: i8| v.wrapping_abs(), |v: i8| v.signum()),
            (Lane::U8(x), LaneMut::U8(out)) => int!(x, out, |v: u8| v, |v: u8| v.min(1)),
            (Lane::Bool(x), LaneMut::Bool(out)) if op == Unary::Not => each(x, out, |v| v ^ 1),
            _ => mismatch(),
        }
    }

    /// See [`Lanes::binary`].
    #[inline(always)]
    pub fn binary(op: Binary, a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
        macro_rules! compare {
            ($a:expr, $b:expr, $out:expr) => {
                match op {
                    Binary::Eq => each2($a, $b, $out, |v, w| (v == w) as u8),
                    Binary::Ne => each2($a, $b, $out, |v, w| (v != w) as u8),
                    Binary::Lt => each2($a, $b, $out, |v, w| (v < w) as u8),
                    Binary::Le => each2($a, $b, $out, |v, w| (v <= w) as u8),
                    Binary::Gt => each2($a, $b, $out, |v, w| (v > w) as u8),
                    Binary::Ge => each2($a, $b, $out, |v, w| (v >= w) as u8),
                    _ => mismatch(),
                }
            };
        }
        macro_rules! float {
            ($a:expr, $b:expr, $out:expr, $f:ident, $($variant:ident)*) => {
                match op {
                    $(Binary::$variant => each2($a, $b, $out, |v, w| scalar::$f(Binary::$variant, v, w)),)*
                    _ => mismatch(),
                }
            };
        }
        macro_rules! floats {
            ($a:expr, $b:expr, $out:expr, $f:ident) => {
                float!($a, $b, $out, $f, Add Sub Mul Div Max Min Pow Rem Hypot Atan2)
            };
        }
        macro_rules! int {
            ($a:expr, $b:expr, $out:expr, $variant:ident, $type:ty) => {
                match op {
                    Binary::Add => each2($a, $b, $out, |v, w| v.wrapping_add(w)),
                    Binary::Sub => each2($a, $b, $out, |v, w| v.wrapping_sub(w)),
                    Binary::Mul => each2($a, $b, $out, |v, w| v.wrapping_mul(w)),
                    Binary::Max => each2($a, $b, $out, |v, w| v.max(w)),
                    Binary::Min => each2($a, $b, $out, |v, w| v.min(w)),
                    Binary::And => each2($a, $b, $out, |v, w| v & w),
                    Binary::Or => each2($a, $b, $out, |v, w| v | w),
                    Binary::Xor => each2($a, $b, $out, |v, w| v ^ w),
                    Binary::Shl => each2($a, $b, $out, |v, w| v.wrapping_shl(w as u32)),
                    Binary::Shr => each2($a, $b, $out, |v, w| v.wrapping_shr(w as u32)),
                    op => {
                        each2($a, $b, $out, |v, w| match scalar::binary(op, Value::$variant(v), Value::$variant(w)) {
                            Value::$variant(r) => r,
                            _ => mismatch(),
                        })
                    }
                }
            };
        }
        match (a, b, out) {
            (Lane::F32(a), Lane::F32(b), LaneMut::F32(out)) => floats!(a, b, out, of_two_f32),
            (Lane::F64(a), Lane::F64(b), LaneMut::F64(out)) => floats!(a, b, out, of_two_f64),
            (Lane::I32(a), Lane::I32(b), LaneMut::I32(out)) => int!(a, b, out, I32, i32),
            (Lane::I64(a), Lane::I64(b), LaneMut::I64(out)) => int!(a, b, out, I64, i64),
            (Lane::U8(a), Lane::U8(b), LaneMut::U8(out)) => int!(a, b, out, U8, u8),
            (Lane::I8(a), Lane::I8(b), LaneMut::I8(out)) => int!(a, b, out, I8, i8),
            (Lane::F32(a), Lane::F32(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::F64(a), Lane::F64(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::I32(a), Lane::I32(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::I64(a), Lane::I64(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::U8(a), Lane::U8(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::I8(a), Lane::I8(b), LaneMut::Bool(out)) => compare!(a, b, out),
            (Lane::Bool(a), Lane::Bool(b), LaneMut::Bool(out)) => match op {
                Binary::And | Binary::Min => each2(a, b, out, |v, w| v & w),
                Binary::Or | Binary::Max => each2(a, b, out, |v, w| v | w),
                Binary::Xor => each2(a, b, out, |v, w| v ^ w),
                _ => compare!(a, b, out),
            },
            _ => mismatch(),
        }
    }

    /// See [`Lanes::mul_add`].
    #[inline(always)]
    pub fn mul_add(a: Lane<'_>, b: Lane<'_>, c: Lane<'_>, out: LaneMut<'_>) {
        macro_rules! go {
            ($a:expr, $b:expr, $c:expr, $out:expr) => {
                for (((o, &u), &v), &w) in $out.iter_mut().zip($a).zip($b).zip($c) {
                    *o = u.mul_add(v, w);
                }
            };
        }
        match (a, b, c, out) {
            (Lane::F32(a), Lane::F32(b), Lane::F32(c), LaneMut::F32(out)) => go!(a, b, c, out),
            (Lane::F64(a), Lane::F64(b), Lane::F64(c), LaneMut::F64(out)) => go!(a, b, c, out),
            _ => mismatch(),
        }
    }

    #[inline(always)]
    fn pick<T: Copy>(condition: &[u8], a: &[T], b: &[T], out: &mut [T]) {
        for (((o, &c), &v), &w) in out.iter_mut().zip(condition).zip(a).zip(b) {
            *o = if c != 0 { v } else { w };
        }
    }

    /// See [`Lanes::select`].
    #[inline(always)]
    pub fn select(condition: &[u8], a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
        match (a, b, out) {
            (Lane::F32(a), Lane::F32(b), LaneMut::F32(out)) => pick(condition, a, b, out),
            (Lane::F64(a), Lane::F64(b), LaneMut::F64(out)) => pick(condition, a, b, out),
            (Lane::I32(a), Lane::I32(b), LaneMut::I32(out)) => pick(condition, a, b, out),
            (Lane::I64(a), Lane::I64(b), LaneMut::I64(out)) => pick(condition, a, b, out),
            (Lane::U8(a), Lane::U8(b), LaneMut::U8(out)) => pick(condition, a, b, out),
            (Lane::I8(a), Lane::I8(b), LaneMut::I8(out)) => pick(condition, a, b, out),
            (Lane::Bool(a), Lane::Bool(b), LaneMut::Bool(out)) => pick(condition, a, b, out),
            _ => mismatch(),
        }
    }

    /// See [`Lanes::convert`]. Rust's `as` has the rules of [`Value::cast`], but for bool.
    #[inline(always)]
    pub fn convert(x: Lane<'_>, out: LaneMut<'_>) {
        macro_rules! to {
            ($x:expr, $out:expr, $zero:expr) => {
                match $out {
                    LaneMut::F32(out) => each($x, out, |v| v as f32),
                    LaneMut::F64(out) => each($x, out, |v| v as f64),
                    LaneMut::I32(out) => each($x, out, |v| v as i32),
                    LaneMut::I64(out) => each($x, out, |v| v as i64),
                    LaneMut::U8(out) => each($x, out, |v| v as u8),
                    LaneMut::I8(out) => each($x, out, |v| v as i8),
                    LaneMut::Bool(out) => each($x, out, |v| (v != $zero) as u8),
                }
            };
        }
        match x {
            Lane::F32(x) => to!(x, out, 0.0),
            Lane::F64(x) => to!(x, out, 0.0),
            Lane::I32(x) => to!(x, out, 0),
            Lane::I64(x) => to!(x, out, 0),
            Lane::U8(x) => to!(x, out, 0),
            Lane::I8(x) => to!(x, out, 0),
            Lane::Bool(x) => to!(x, out, 0),
        }
    }

    /// See [`Lanes::random`].
    #[inline(always)]
    pub fn random(word: u8, seed: &[i64], index: &[i64], out: &mut [i64]) {
        macro_rules! word {
            ($n:literal) => {
                for ((o, &s), &i) in out.iter_mut().zip(seed).zip(index) {
                    *o = scalar::philox(s as u64, i as u64)[$n] as i64;
                }
            };
        }
        match word {
            0 => word!(0),
            1 => word!(1),
            2 => word!(2),
            _ => word!(3),
        }
    }

    const PARTIALS: usize = Reducer::PARTIALS;

    /// `N` blocks of equal length at once: so many chains of sums that do not wait for each other.
    #[inline(always)]
    fn blocks<T: Copy, const N: usize>(x: &[T], identity: T, f: impl Fn(T, T) -> T) -> [T; N] {
        let length = x.len() / N;
        let mut partial = [[identity; PARTIALS]; N];
        let whole = length / PARTIALS * PARTIALS;
        for at in (0..whole).step_by(PARTIALS) {
            for (n, partial) in partial.iter_mut().enumerate() {
                for (p, &v) in partial.iter_mut().zip(&x[n * length + at..][..PARTIALS]) {
                    *p = f(*p, v);
                }
            }
        }
        partial.map(|mut partial| {
            if N == 1 {
                for (p, &v) in partial.iter_mut().zip(&x[whole..]) {
                    *p = f(*p, v);
                }
            }
            let mut width = PARTIALS / 2;
            while width > 0 {
                for i in 0..width {
                    partial[i] = f(partial[i], partial[i + width]);
                }
                width /= 2;
            }
            partial[0]
        })
    }

    #[inline(always)]
    fn fold_blocks<T: Copy>(x: &[T], out: &mut [T], identity: T, f: impl Fn(T, T) -> T + Copy) {
        let mut x = x;
        let mut out = out;
        while x.len() >= 4 * Reducer::BLOCK {
            let (four, rest) = x.split_at(4 * Reducer::BLOCK);
            out[..4].copy_from_slice(&blocks::<T, 4>(four, identity, f));
            (x, out) = (rest, &mut out[4..]);
        }
        for (block, o) in x.chunks(Reducer::BLOCK).zip(out) {
            [*o] = blocks::<T, 1>(block, identity, f);
        }
    }

    macro_rules! fold_float {
        ($op:expr, $type:ty, $go:ident) => {
            match $op {
                ReduceOp::Sum => $go!(0.0, |a: $type, b: $type| a + b),
                ReduceOp::Prod => $go!(1.0, |a: $type, b: $type| a * b),
                ReduceOp::Max => $go!(<$type>::NEG_INFINITY, |a: $type, b: $type| if a > b {
                    a
                } else if a <= b {
                    b
                } else {
                    a + b
                }),
                ReduceOp::Min => $go!(<$type>::INFINITY, |a: $type, b: $type| if a < b {
                    a
                } else if a >= b {
                    b
                } else {
                    a + b
                }),
            }
        };
    }
    macro_rules! fold_int {
        ($op:expr, $type:ty, $go:ident) => {
            match $op {
                ReduceOp::Sum => $go!(0, |a: $type, b: $type| a.wrapping_add(b)),
                ReduceOp::Prod => $go!(1, |a: $type, b: $type| a.wrapping_mul(b)),
                ReduceOp::Max => $go!(<$type>::MIN, |a: $type, b: $type| a.max(b)),
                ReduceOp::Min => $go!(<$type>::MAX, |a: $type, b: $type| a.min(b)),
            }
        };
    }

    /// See [`Lanes::fold`].
    #[inline(always)]
    pub fn fold(op: ReduceOp, x: Lane<'_>, out: LaneMut<'_>) {
        macro_rules! lane {
            ($x:expr, $out:expr, $type:ty, $fold:ident) => {{
                macro_rules! go {
                    ($identity:expr, $f:expr) => {
                        fold_blocks($x, $out, $identity, $f)
                    };
                }
                $fold!(op, $type, go)
            }};
        }
        match (x, out) {
            (Lane::F32(x), LaneMut::F32(out)) => lane!(x, out, f32, fold_float),
            (Lane::F64(x), LaneMut::F64(out)) => lane!(x, out, f64, fold_float),
            (Lane::I32(x), LaneMut::I32(out)) => lane!(x, out, i32, fold_int),
            (Lane::I64(x), LaneMut::I64(out)) => lane!(x, out, i64, fold_int),
            (Lane::U8(x), LaneMut::U8(out)) => lane!(x, out, u8, fold_int),
            (Lane::I8(x), LaneMut::I8(out)) => lane!(x, out, i8, fold_int),
            (Lane::Bool(x), LaneMut::Bool(out)) => match op {
                ReduceOp::Max | ReduceOp::Sum => fold_blocks(x, out, 0, |a, b| a | b),
                ReduceOp::Min | ReduceOp::Prod => fold_blocks(x, out, 1, |a, b| a & b),
            },
            _ => mismatch(),
        }
    }

    /// See [`Lanes::combine`].
    #[inline(always)]
    pub fn combine(op: ReduceOp, x: Lane<'_>, accumulator: LaneMut<'_>) {
        macro_rules! lane {
            ($x:expr, $acc:expr, $type:ty, $fold:ident) => {{
                macro_rules! go {
                    ($identity:expr, $f:expr) => {
                        for (a, &v) in $acc.iter_mut().zip($x) {
                            *a = $f(*a, v);
                        }
                    };
                }
                $fold!(op, $type, go)
            }};
        }
        match (x, accumulator) {
            (Lane::F32(x), LaneMut::F32(acc)) => lane!(x, acc, f32, fold_float),
            (Lane::F64(x), LaneMut::F64(acc)) => lane!(x, acc, f64, fold_float),
            (Lane::I32(x), LaneMut::I32(acc)) => lane!(x, acc, i32, fold_int),
            (Lane::I64(x), LaneMut::I64(acc)) => lane!(x, acc, i64, fold_int),
            (Lane::U8(x), LaneMut::U8(acc)) => lane!(x, acc, u8, fold_int),
            (Lane::I8(x), LaneMut::I8(acc)) => lane!(x, acc, i8, fold_int),
            (Lane::Bool(x), LaneMut::Bool(acc)) => match op {
                ReduceOp::Max | ReduceOp::Sum => acc.iter_mut().zip(x).for_each(|(a, &v)| *a |= v),
                ReduceOp::Min | ReduceOp::Prod => acc.iter_mut().zip(x).for_each(|(a, &v)| *a &= v),
            },
            _ => mismatch(),
        }
    }
}

macro_rules! lane_from_bytes {
    ($($variant:ident $type:ty),*) => {
        impl<'a> Lane<'a> {
            /// `bytes`, aligned for `dtype`, as a lane. f16 and bf16 have none.
            #[inline]
            pub(crate) fn of(dtype: crate::DType, bytes: &'a [u8]) -> Lane<'a> {
                match dtype {
                    $(crate::DType::$variant => Lane::$variant(bytemuck::cast_slice::<u8, $type>(bytes)),)*
                    crate::DType::F16 | crate::DType::BF16 => unreachable!("{dtype} is not computed in"),
                }
            }
        }
        impl<'a> LaneMut<'a> {
            /// `bytes`, aligned for `dtype`, as a lane to be written.
            #[inline]
            pub(crate) fn of(dtype: crate::DType, bytes: &'a mut [u8]) -> LaneMut<'a> {
                match dtype {
                    $(crate::DType::$variant => LaneMut::$variant(bytemuck::cast_slice_mut::<u8, $type>(bytes)),)*
                    crate::DType::F16 | crate::DType::BF16 => unreachable!("{dtype} is not computed in"),
                }
            }
        }
    };
}
lane_from_bytes!(F32 f32, F64 f64, I32 i32, I64 i64, U8 u8, I8 i8, Bool u8);
