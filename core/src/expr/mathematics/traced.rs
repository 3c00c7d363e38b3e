//! Numbers that write down what is done with them: the definition of a function, run on these, becomes an expression.

use super::number::{Double, Integer, Real, Single, Truth};
use crate::{
    Element, Value,
    expr::{Binary, Expr, Unary},
};
use std::{
    cell::RefCell,
    marker::PhantomData,
    ops::{Add, Div, Mul, Neg, Sub},
};

thread_local! {
    static NODES: RefCell<Vec<Expr>> = const { RefCell::new(Vec::new()) };
}

/// A handle to an expression of the dtype of `T`, valid within [`trace`].
#[derive(Debug)]
pub struct Traced<T>(u32, PhantomData<T>);

impl<T> Clone for Traced<T> {
    fn clone(&self) -> Traced<T> {
        *self
    }
}
impl<T> Copy for Traced<T> {}

fn push<T: Element>(e: Expr) -> Traced<T> {
    debug_assert_eq!(e.dtype(), T::DTYPE);
    NODES.with_borrow_mut(|nodes| {
        nodes.push(e);
        Traced(nodes.len() as u32 - 1, PhantomData)
    })
}

impl<T: Element> Traced<T> {
    fn expr(self) -> Expr {
        NODES.with_borrow(|nodes| nodes[self.0 as usize].clone())
    }
    fn unary(self, op: Unary) -> Traced<T> {
        push(Expr::unary(op, &self.expr()))
    }
    fn binary<U: Element>(self, op: Binary, b: Traced<T>) -> Traced<U> {
        push(Expr::binary(op, &self.expr(), &b.expr()))
    }
    fn pick(c: Traced<bool>, a: Traced<T>, b: Traced<T>) -> Traced<T> {
        push(c.expr().select(&a.expr(), &b.expr()))
    }
    fn bitcast<U: Element>(self) -> Traced<U> {
        push(self.expr().bitcast(U::DTYPE))
    }
    fn cast<U: Element>(self) -> Traced<U> {
        push(self.expr().cast(U::DTYPE))
    }
}

/// The expression that `f` computes from `inputs`, whose dtype must be that of `T`.
pub fn trace<T: Element, const N: usize>(inputs: [&Expr; N], f: impl FnOnce([Traced<T>; N]) -> Traced<T>) -> Expr {
    let start = NODES.with_borrow(Vec::len);
    let result = f(inputs.map(|e| push(e.clone()))).expr();
    NODES.with_borrow_mut(|nodes| nodes.truncate(start));
    result
}

impl Truth for Traced<bool> {
    fn and(self, other: Self) -> Self {
        self.binary(Binary::And, other)
    }
    fn or(self, other: Self) -> Self {
        self.binary(Binary::Or, other)
    }
    fn negated(self) -> Self {
        self.unary(Unary::Not)
    }
}

macro_rules! traced {
    ($float:ident $int:ident $int_value:ident $float_value:ident) => {
        impl Integer for Traced<$int> {
            type Truth = Traced<bool>;
            fn of(v: i64) -> Self {
                push(Expr::constant(Value::$int_value(v as $int)))
            }
            fn plus(self, b: Self) -> Self {
                self.binary(Binary::Add, b)
            }
            fn minus(self, b: Self) -> Self {
                self.binary(Binary::Sub, b)
            }
            fn times(self, b: Self) -> Self {
                self.binary(Binary::Mul, b)
            }
            fn and(self, b: Self) -> Self {
                self.binary(Binary::And, b)
            }
            fn or(self, b: Self) -> Self {
                self.binary(Binary::Or, b)
            }
            fn xor(self, b: Self) -> Self {
                self.binary(Binary::Xor, b)
            }
            fn shl(self, n: Self) -> Self {
                self.binary(Binary::Shl, n)
            }
            fn shr(self, n: Self) -> Self {
                self.binary(Binary::Shr, n)
            }
            fn equals(self, b: Self) -> Traced<bool> {
                self.binary(Binary::Eq, b)
            }
            fn less(self, b: Self) -> Traced<bool> {
                self.binary(Binary::Lt, b)
            }
            fn select(condition: Traced<bool>, a: Self, b: Self) -> Self {
                Self::pick(condition, a, b)
            }
        }

        impl Add for Traced<$float> {
            type Output = Self;
            fn add(self, b: Self) -> Self {
                self.binary(Binary::Add, b)
            }
        }
        impl Sub for Traced<$float> {
            type Output = Self;
            fn sub(self, b: Self) -> Self {
                self.binary(Binary::Sub, b)
            }
        }
        impl Mul for Traced<$float> {
            type Output = Self;
            fn mul(self, b: Self) -> Self {
                self.binary(Binary::Mul, b)
            }
        }
        impl Div for Traced<$float> {
            type Output = Self;
            fn div(self, b: Self) -> Self {
                self.binary(Binary::Div, b)
            }
        }
        impl Neg for Traced<$float> {
            type Output = Self;
            fn neg(self) -> Self {
                self.unary(Unary::Neg)
            }
        }

        impl Real for Traced<$float> {
            type Truth = Traced<bool>;
            type Bits = Traced<$int>;
            const SIGN: i64 = $int::MIN as i64;
            fn of(v: f64) -> Self {
                push(Expr::constant(Value::$float_value(v as $float)))
            }
            fn mul_add(self, b: Self, c: Self) -> Self {
                push(self.expr().mul_add(&b.expr(), &c.expr()))
            }
            fn sqrt(self) -> Self {
                self.unary(Unary::Sqrt)
            }
            fn abs(self) -> Self {
                self.unary(Unary::Abs)
            }
            fn trunc(self) -> Self {
                self.unary(Unary::Trunc)
            }
            fn less(self, b: Self) -> Traced<bool> {
                self.binary(Binary::Lt, b)
            }
            fn less_equal(self, b: Self) -> Traced<bool> {
                self.binary(Binary::Le, b)
            }
            fn equals(self, b: Self) -> Traced<bool> {
                self.binary(Binary::Eq, b)
            }
            fn select(condition: Traced<bool>, a: Self, b: Self) -> Self {
                Self::pick(condition, a, b)
            }
            fn bits(self) -> Traced<$int> {
                self.bitcast()
            }
            fn from_bits(bits: Traced<$int>) -> Self {
                bits.bitcast()
            }
            fn from_integer(v: Traced<$int>) -> Self {
                v.cast()
            }
        }
    };
}
traced!(f32 i32 I32 F32);
traced!(f64 i64 I64 F64);

impl Double for Traced<f64> {}

impl Single for Traced<f32> {
    type Double = Traced<f64>;
    fn widened(self) -> Traced<f64> {
        self.cast()
    }
    fn narrowed(x: Traced<f64>) -> Self {
        x.cast()
    }
}
