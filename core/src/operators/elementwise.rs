//! The table of elementwise operators. A row is an operator: its name, its arguments, its formula over [`Expr`]. Forward,
//! backward of every order, broadcasting and all backends follow from the row.

use super::{PerDTypeFormula, apply};
use crate::{Backend, DType, Expr, Result, Scalar, Tensor, expr::Unary, operators::Formula};
use smallvec::{SmallVec, smallvec};
use std::sync::{Arc, OnceLock};

/// Declares operators of one tensor. `(parameters)` are host numbers, converted to the tensor's dtype.
macro_rules! unary_operators {
    ($($(#[$meta:meta])* $name:ident $domain:ident ($($parameter:ident),*) |$x:ident $(, $p:ident)*| $body:expr;)*) => {
        $(
            #[allow(non_upper_case_globals)]
            mod $name {
                use super::*;
                #[allow(unused_mut, unused_assignments, unused_variables)]
                pub static FORMULA: PerDTypeFormula = PerDTypeFormula::new(stringify!($name), |d| {
                    let $x = &Expr::input(0, d);
                    let mut k = 0u8;
                    let mut scalars: SmallVec<[DType; 3]> = SmallVec::new();
                    $(let $p = &Expr::scalar(k, d); k += 1; scalars.push(d);)*
                    ($body, smallvec![d], scalars)
                });
            }
        )*
        impl<B: Backend> Tensor<B> {
            $(
                $(#[$meta])*
                ///
                /// # Errors
                /// [`crate::Error::UnsupportedDType`] for a dtype that the operator is not defined on;
                /// [`crate::Error::ScalarOutOfRange`] for a number that the dtype cannot hold; what the device reports.
                pub fn $name(&self $(, $parameter: impl Into<Scalar>)*) -> Result<Tensor<B>> {
                    domain::$domain(self, stringify!($name))?;
                    apply($name::FORMULA.on(self.dtype())?, &[self], &[$($parameter.into().to_value(self.dtype())?),*])
                }
            )*
        }
    };
}

/// Which dtypes an operator accepts.
mod domain {
    use super::*;
    use crate::Error;

    pub fn float<B: Backend>(x: &Tensor<B>, op: &'static str) -> Result<()> {
        x.need_float(op)
    }

    fn refuse<B: Backend>(x: &Tensor<B>, op: &'static str, why: &str) -> Result<()> {
        Err(Error::UnsupportedDType { op, dtype: x.dtype(), device: x.ctx().name(), why: why.into() })
    }

    pub fn number<B: Backend>(x: &Tensor<B>, op: &'static str) -> Result<()> {
        if x.dtype() == DType::Bool {
            refuse(x, op, "bool has no arithmetic; cast it to a number first")
        } else {
            Ok(())
        }
    }

    pub fn logical<B: Backend>(x: &Tensor<B>, op: &'static str) -> Result<()> {
        if x.dtype() == DType::Bool {
            Ok(())
        } else {
            refuse(x, op, "it takes bool; compare first, as in x.not_equal_scalar(0)")
        }
    }

    pub fn any<B: Backend>(_: &Tensor<B>, _: &'static str) -> Result<()> {
        Ok(())
    }
}

unary_operators! {
    /// -x. Wraps on integers.
    neg number () |x| -x;
    /// |x|. The derivative at 0 is 0.
    abs number () |x| x.abs();
    /// -1, 0 or 1; NaN for NaN.
    sign number () |x| x.sign();
    /// x².
    square number () |x| x.square();
    /// √x.
    sqrt float () |x| x.sqrt();
    /// 1/√x.
    rsqrt float () |x| x.rsqrt();
    /// ∛x, for negative x too.
    cbrt float () |x| x.cbrt();
    /// 1/x.
    reciprocal float () |x| x.reciprocal();
    /// e^x.
    exp float () |x| x.exp();
    /// 2^x.
    exp2 float () |x| x.exp2();
    /// e^x - 1, accurate near 0.
    expm1 float () |x| x.expm1();
    /// ln x.
    log float () |x| x.log();
    /// log₂ x.
    log2 float () |x| x.log2();
    /// log₁₀ x.
    log10 float () |x| x.log10();
    /// ln(1 + x), accurate near 0.
    log1p float () |x| x.log1p();
    /// sin x, x in radians.
    sin float () |x| x.sin();
    /// cos x, x in radians.
    cos float () |x| x.cos();
    /// tan x, x in radians.
    tan float () |x| x.tan();
    /// arcsin x, in radians.
    asin float () |x| x.asin();
    /// arccos x, in radians.
    acos float () |x| x.acos();
    /// arctan x, in radians.
    atan float () |x| x.atan();
    /// sinh x.
    sinh float () |x| x.sinh();
    /// cosh x.
    cosh float () |x| x.cosh();
    /// tanh x.
    tanh float () |x| x.tanh();
    /// arsinh x.
    asinh float () |x| x.asinh();
    /// arcosh x.
    acosh float () |x| x.acosh();
    /// artanh x.
    atanh float () |x| x.atanh();
    /// The error function, 2/√π ∫₀ˣ e^(-t²) dt.
    erf float () |x| x.erf();
    /// The inverse of the error function.
    erfinv float () |x| x.erfinv();
    /// The largest integer not above x. Its derivative is 0.
    floor float () |x| x.floor();
    /// The smallest integer not below x. Its derivative is 0.
    ceil float () |x| x.ceil();
    /// The integer part. Its derivative is 0.
    trunc float () |x| x.trunc();
    /// The nearest integer, ties to even. Its derivative is 0.
    round float () |x| x.round();
    /// max(x, 0), with NaN going through; the derivative at 0 is 0.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[-1.0f32, 0.0, 2.0], [3])?;
    /// assert_eq!(x.relu()?.to_vec::<f32>()?, [0.0, 0.0, 2.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    relu number () |x| x.relu();
    /// 1/(1 + e^-x).
    sigmoid float () |x| x.sigmoid();
    /// ln(1 + e^x), without overflow.
    softplus float () |x| x.softplus();
    /// x/(1 + |x|).
    softsign float () |x| x.softsign();
    /// x Φ(x), with the exact normal distribution function Φ (Hendrycks and Gimpel, arXiv:1606.08415).
    gelu float () |x| x.gelu();
    /// The tanh approximation of gelu (same source).
    gelu_tanh float () |x| x.gelu_tanh();
    /// x sigmoid(x), also called swish.
    silu float () |x| x.silu();
    /// x for x > 0, else α(e^x - 1). The derivative at 0 is α, as in PyTorch; 1 for α = 1.
    elu float (alpha) |x, a| x.elu(a);
    /// λx for x > 0, else λα(e^x - 1), with the constants of Klambauer et al., arXiv:1706.02515. The derivative at 0 is
    /// λα, as in PyTorch.
    selu float () |x| x.selu();
    /// x for x > 0, else slope · x. The derivative at 0 is the slope.
    leaky_relu float (slope) |x, s| x.leaky_relu(s);
    /// x/5 + 1/2 within 0 and 1, MXNet's constants (PyTorch divides by 6; see [`Tensor::hard_sigmoid_with`]). The derivative
    /// is 0 where it reaches either, as in both.
    hard_sigmoid float () |x| x.hard_sigmoid(&x.like(0.2), &x.like(0.5));
    /// αx + β within 0 and 1. The derivative is 0 where it reaches either.
    hard_sigmoid_with float (alpha, beta) |x, a, b| x.hard_sigmoid(a, b);
    /// x · (x + 3)/6, the factor within 0 and 1 (Howard et al., arXiv:1905.02244). The derivative is 0 at -3 and 1 at 3, as in
    /// PyTorch.
    hard_swish float () |x| x.hard_swish();
    /// Whether x is NaN; false on integers and bool.
    is_nan any () |x| if x.dtype().is_float() { x.is_nan() } else { x.not_equal(x) };
    /// Whether x is +∞ or -∞; false on integers and bool.
    is_inf any () |x| if x.dtype().is_float() { x.abs().equal(&x.like(f64::INFINITY)) } else { x.not_equal(x) };
    /// Whether x is false.
    logical_not logical () |x| !x;
    /// x + number.
    add_scalar number (number) |x, s| x + s;
    /// x - number.
    sub_scalar number (number) |x, s| x - s;
    /// number - x.
    rsub_scalar number (number) |x, s| s - x;
    /// x · number.
    mul_scalar number (number) |x, s| x * s;
    /// x / number; on integers truncated toward zero.
    div_scalar number (number) |x, s| x / s;
    /// number / x; on integers truncated toward zero.
    rdiv_scalar number (number) |x, s| s / x;
    /// The remainder of x / number, with the sign of `number`.
    rem_scalar number (number) |x, s| x % s;
    /// The remainder of number / x, with the sign of x.
    rrem_scalar number (number) |x, s| s % x;
    /// number^x.
    rpow_scalar number (number) |x, s| s.pow(x);
    /// The larger of x and number; NaN if x is NaN; a tie shares the gradient.
    maximum_scalar any (number) |x, s| x.maximum(s);
    /// The smaller of x and number; NaN if x is NaN; a tie shares the gradient.
    minimum_scalar any (number) |x, s| x.minimum(s);
    /// √(x² + number²) without overflow.
    hypot_scalar float (number) |x, s| x.hypot(s);
    /// x == number, as bool.
    equal_scalar any (number) |x, s| x.equal(s);
    /// x != number, as bool.
    not_equal_scalar any (number) |x, s| x.not_equal(s);
    /// x < number, as bool.
    less_scalar any (number) |x, s| x.less(s);
    /// x <= number, as bool.
    less_equal_scalar any (number) |x, s| x.less_equal(s);
    /// x > number, as bool.
    greater_scalar any (number) |x, s| x.greater(s);
    /// x >= number, as bool.
    greater_equal_scalar any (number) |x, s| x.greater_equal(s);
}

/// Declares operators of two tensors of one dtype.
macro_rules! binary_operators {
    ($($(#[$meta:meta])* $name:ident $domain:ident |$a:ident, $b:ident| $body:expr;)*) => {
        $(
            mod $name {
                use super::*;
                pub static FORMULA: PerDTypeFormula = PerDTypeFormula::new(stringify!($name), |d| {
                    let ($a, $b) = (&Expr::input(0, d), &Expr::input(1, d));
                    ($body, smallvec![d, d], smallvec![])
                });
            }
        )*
        impl<B: Backend> Tensor<B> {
            $(
                $(#[$meta])*
                /// Shapes broadcast with each other.
                ///
                /// # Errors
                /// [`crate::Error::ShapeMismatch`], [`crate::Error::DTypeMismatch`], [`crate::Error::DeviceMismatch`],
                /// [`crate::Error::UnsupportedDType`]; what the device reports.
                pub fn $name(&self, other: &Tensor<B>) -> Result<Tensor<B>> {
                    self.same_dtype(stringify!($name), other)?;
                    domain::$domain(self, stringify!($name))?;
                    apply($name::FORMULA.on(self.dtype())?, &[self, other], &[])
                }
            )*
        }
    };
}

binary_operators! {
    /// a + b. Wraps on integers.
    add number |a, b| a + b;
    /// a - b. Wraps on integers.
    sub number |a, b| a - b;
    /// a · b. Wraps on integers.
    mul number |a, b| a * b;
    /// a / b. On integers truncated toward zero, and 0 where b is 0.
    div number |a, b| a / b;
    /// a^b.
    pow number |a, b| a.pow(b);
    /// The remainder of a / b, with the sign of b, as in Python. On integers 0 where b is 0.
    rem number |a, b| a % b;
    /// The larger; NaN if either is NaN; a tie shares the gradient.
    maximum any |a, b| a.maximum(b);
    /// The smaller; NaN if either is NaN; a tie shares the gradient.
    minimum any |a, b| a.minimum(b);
    /// √(a² + b²) without overflow. Its derivative at the origin is 0.
    hypot float |a, b| a.hypot(b);
    /// The angle of the point (b, a), in radians. Its derivative at the origin is 0.
    atan2 float |a, b| a.atan2(b);
    /// a == b, as bool.
    equal any |a, b| a.equal(b);
    /// a != b, as bool.
    not_equal any |a, b| a.not_equal(b);
    /// a < b, as bool.
    less any |a, b| a.less(b);
    /// a <= b, as bool.
    less_equal any |a, b| a.less_equal(b);
    /// a > b, as bool.
    greater any |a, b| a.greater(b);
    /// a >= b, as bool.
    greater_equal any |a, b| a.greater_equal(b);
    /// a and b, of bool.
    logical_and logical |a, b| a.and(b);
    /// a or b, of bool.
    logical_or logical |a, b| a.or(b);
    /// Either a or b, of bool.
    logical_xor logical |a, b| a.xor(b);
}

static WHERE: PerDTypeFormula = PerDTypeFormula::new("where", |d| {
    (
        Expr::input(0, DType::Bool).select(&Expr::input(1, d), &Expr::input(2, d)),
        smallvec![DType::Bool, d, d],
        smallvec![],
    )
});
static MASKED_FILL: PerDTypeFormula = PerDTypeFormula::new("masked_fill", |d| {
    let root = Expr::input(1, DType::Bool).select(&Expr::scalar(0, d), &Expr::input(0, d));
    (root, smallvec![d, DType::Bool], smallvec![d])
});
static IDENTITY: PerDTypeFormula = PerDTypeFormula::new("copy", |d| (Expr::input(0, d), smallvec![d], smallvec![]));
static CLAMP: PerDTypeFormula = PerDTypeFormula::new("clamp", |d| {
    let [low, high] = [0, 1].map(|k| Expr::scalar(k, d));
    (Expr::input(0, d).clamp(&low, &high), smallvec![d], smallvec![d, d])
});
static POW_SCALAR: PerDTypeFormula = PerDTypeFormula::new("pow", |d| {
    // The guard of the general power is not needed where the exponent is known not to be 0.
    (Expr::input(0, d).pow(&Expr::scalar(0, d)), smallvec![d], smallvec![d])
});

impl<B: Backend> Tensor<B> {
    /// x^exponent. Exponents 0, 1, 2, -1 and ½ cost no `pow`.
    ///
    /// # Errors
    /// [`crate::Error::UnsupportedDType`] on bool; [`crate::Error::ScalarOutOfRange`]; what the device reports.
    pub fn pow_scalar(&self, exponent: impl Into<Scalar>) -> Result<Tensor<B>> {
        let scalar = exponent.into();
        domain::number(self, "pow")?;
        let value = scalar.to_value(self.dtype())?;
        match value.to_f64() {
            1.0 => self.copy(),
            2.0 => self.square(),
            3.0 => self.square()?.mul(self),
            -1.0 if self.dtype().is_float() => self.reciprocal(),
            _ => apply(POW_SCALAR.on(self.dtype())?, &[self], &[value]),
        }
    }

    /// x limited to `low..=high`; NaN goes through. The gradient is the head's inside and 0 outside; at a bound it is the
    /// head's, as of `torch.clamp` and MXNet's `clip`. An infinite bound is none.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[-1.0f32, 0.5, 2.0], [3])?;
    /// assert_eq!(x.clamp(0, 1)?.to_vec::<f32>()?, [0.0, 0.5, 1.0]);
    /// assert!(x.clamp(1, 0).is_err());
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] where `low` is above `high` or either is NaN; [`crate::Error::UnsupportedDType`] on
    /// bool; [`crate::Error::ScalarOutOfRange`] for a bound that the dtype cannot hold; what the device reports.
    pub fn clamp(&self, low: impl Into<Scalar>, high: impl Into<Scalar>) -> Result<Tensor<B>> {
        domain::number(self, "clamp")?;
        let (low, high) = (low.into().to_value(self.dtype())?, high.into().to_value(self.dtype())?);
        if low.to_f64().is_nan() || high.to_f64().is_nan() {
            let why = format!(
                "the bounds are {low} and {high}, and nothing lies beyond NaN; without a bound, give an infinity"
            );
            return Err(crate::Error::invalid("clamp", why));
        }
        let above = if self.dtype().is_float() { low.to_f64() > high.to_f64() } else { low.to_i64() > high.to_i64() };
        if above {
            let why = format!("the lower bound {low} is above the upper bound {high}; give the lower one first");
            return Err(crate::Error::invalid("clamp", why));
        }
        apply(CLAMP.on(self.dtype())?, &[self], &[low, high])
    }

    /// The same numbers in another dtype: floats to integers truncate toward zero and saturate, NaN becomes 0; to bool, asks
    /// whether it is not 0. Gradients flow between floating dtypes. Shares memory when the dtype is the same.
    ///
    /// # Errors
    /// [`crate::Error::UnsupportedDType`] when the device does not store or compute with either dtype.
    pub fn cast(&self, dtype: DType) -> Result<Tensor<B>> {
        static CASTS: [[OnceLock<Arc<Formula>>; 9]; 9] = [const { [const { OnceLock::new() }; 9] }; 9];
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        self.need_computable("cast", dtype)?;
        let cell = &CASTS[self.dtype() as usize][dtype as usize];
        let formula = match cell.get() {
            Some(f) => f,
            None => {
                let f = Formula::new("cast", &Expr::input(0, self.dtype()).cast(dtype), &[self.dtype()], &[])?;
                cell.get_or_init(|| f)
            }
        };
        apply(formula, &[self], &[])
    }

    /// Elements of `then` where this tensor (bool) is true, of `otherwise` elsewhere. Shapes broadcast with each other.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[-1.0f32, 2.0], [2])?;
    /// let y = x.greater_scalar(0)?.where_(&x, &x.mul_scalar(0.1)?)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-0.1, 2.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::UnsupportedDType`] unless this is bool; [`crate::Error::ShapeMismatch`],
    /// [`crate::Error::DTypeMismatch`], [`crate::Error::DeviceMismatch`].
    pub fn where_(&self, then: &Tensor<B>, otherwise: &Tensor<B>) -> Result<Tensor<B>> {
        domain::logical(self, "where")?;
        then.same_dtype("where", otherwise)?;
        apply(WHERE.on(then.dtype())?, &[self, then, otherwise], &[])
    }

    /// This tensor with `value` where `mask` (bool) is true.
    ///
    /// # Errors
    /// As [`Tensor::where_`]; [`crate::Error::ScalarOutOfRange`]; [`crate::Error::ShapeMismatch`] when the mask does not
    /// broadcast to this tensor.
    pub fn masked_fill(&self, mask: &Tensor<B>, value: impl Into<Scalar>) -> Result<Tensor<B>> {
        domain::logical(mask, "masked_fill")?;
        if mask.shape().broadcast(self.shape()).as_ref() != Some(self.shape()) {
            return Err(self.shape_mismatch("masked_fill", mask.shape(), "the mask must broadcast to the tensor"));
        }
        apply(MASKED_FILL.on(self.dtype())?, &[self, mask], &[value.into().to_value(self.dtype())?])
    }

    /// A contiguous copy in new memory, recorded.
    pub(crate) fn identity(&self, _op: &'static str) -> Result<Tensor<B>> {
        let formula = IDENTITY.on(self.dtype())?;
        let output = super::formula::run_map(self.ctx(), &formula.program, &[self], &[], self.shape())?;
        if let Some(recorder) = crate::autograd::Recorder::new(&[self]) {
            recorder.finish("copy", &output, |head, _| Ok(smallvec![Some(head.clone())]));
        }
        Ok(output)
    }

    /// Applies a primitive by name: for programs that choose the function at run time.
    ///
    /// # Errors
    /// [`crate::Error::InvalidExpr`] when the primitive is not defined on this dtype.
    pub fn unary(&self, op: Unary) -> Result<Tensor<B>> {
        apply(
            &Formula::new(op.name(), &Expr::unary(op, &Expr::input(0, self.dtype())), &[self.dtype()], &[])?,
            &[self],
            &[],
        )
    }
}

/// The operators panic where the method of the same name gives an error.
macro_rules! operator {
    ($($trait:ident $method:ident $scalar:ident $reverse:ident $flip:expr;)*) => { $(
        impl<B: Backend> std::ops::$trait<&Tensor<B>> for &Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: &Tensor<B>) -> Tensor<B> { or_panic(Tensor::$method(self, other)) }
        }
        impl<B: Backend> std::ops::$trait<Tensor<B>> for &Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: Tensor<B>) -> Tensor<B> { or_panic(Tensor::$method(self, &other)) }
        }
        impl<B: Backend> std::ops::$trait<&Tensor<B>> for Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: &Tensor<B>) -> Tensor<B> { or_panic(Tensor::$method(&self, other)) }
        }
        impl<B: Backend> std::ops::$trait<Tensor<B>> for Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: Tensor<B>) -> Tensor<B> { or_panic(Tensor::$method(&self, &other)) }
        }
        // One floating type and one integer type, so that the compiler knows which a literal is in `(&x + 1.0).exp()`.
        operator!(@scalar $trait $method $scalar $reverse f64 i64);
    )* };
    (@scalar $trait:ident $method:ident $scalar:ident $reverse:ident $($number:ty)*) => { $(
        // By reference as well, as numbers are among themselves: `rates.iter().map(|rate| &x * rate)`.
        impl<B: Backend> std::ops::$trait<&$number> for &Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: &$number) -> Tensor<B> { or_panic(self.$scalar(*other)) }
        }
        impl<B: Backend> std::ops::$trait<&$number> for Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: &$number) -> Tensor<B> { or_panic(self.$scalar(*other)) }
        }
        impl<B: Backend> std::ops::$trait<&Tensor<B>> for &$number {
            type Output = Tensor<B>;
            fn $method(self, other: &Tensor<B>) -> Tensor<B> { or_panic(other.$reverse(*self)) }
        }
        impl<B: Backend> std::ops::$trait<Tensor<B>> for &$number {
            type Output = Tensor<B>;
            fn $method(self, other: Tensor<B>) -> Tensor<B> { or_panic(other.$reverse(*self)) }
        }
        impl<B: Backend> std::ops::$trait<$number> for &Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: $number) -> Tensor<B> { or_panic(self.$scalar(other)) }
        }
        impl<B: Backend> std::ops::$trait<$number> for Tensor<B> {
            type Output = Tensor<B>;
            fn $method(self, other: $number) -> Tensor<B> { or_panic(self.$scalar(other)) }
        }
        impl<B: Backend> std::ops::$trait<&Tensor<B>> for $number {
            type Output = Tensor<B>;
            fn $method(self, other: &Tensor<B>) -> Tensor<B> { or_panic(other.$reverse(self)) }
        }
        impl<B: Backend> std::ops::$trait<Tensor<B>> for $number {
            type Output = Tensor<B>;
            fn $method(self, other: Tensor<B>) -> Tensor<B> { or_panic(other.$reverse(self)) }
        }
    )* };
}

fn or_panic<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

operator! {
    Add add add_scalar add_scalar ();
    Sub sub sub_scalar rsub_scalar ();
    Mul mul mul_scalar mul_scalar ();
    Div div div_scalar rdiv_scalar ();
    Rem rem rem_scalar rrem_scalar ();
}

impl<B: Backend> std::ops::Neg for &Tensor<B> {
    type Output = Tensor<B>;
    fn neg(self) -> Tensor<B> {
        or_panic(Tensor::neg(self))
    }
}
impl<B: Backend> std::ops::Neg for Tensor<B> {
    type Output = Tensor<B>;
    fn neg(self) -> Tensor<B> {
        or_panic(Tensor::neg(&self))
    }
}
