//! Elementwise mathematics as data.
//!
//! An [`Expr`] describes how one output element is computed from the input elements at the same index. From one such
//! description come the vectorized loop of the CPU, the source text for OpenCL and CUDA ([`render`]), and the derivative
//! ([`Expr::derivative`]). Equal expressions are one node (hash-consing), and constructors simplify, with rewrites only
//! that hold for NaN, infinities and signed zeros.
//!
//! Where things are: this file has the nodes and their constructors; `functions` what is composed of them; `simplify` the
//! rewrites, `derivative` one rule per primitive, `scalar` the meaning of each primitive on one element, `mathematics` what
//! the functions among them are made of, `program` the compiled form that backends run, `render` C-like source.
//!
//! To add a primitive: a variant of [`Unary`] or [`Binary`], its rule in `derivative`, and its definition in `mathematics`
//! or, if it is not a function, its meaning in `scalar`, its loop in `host::lanes`, its C in `render`. The compiler asks for
//! each of them. Prefer composing over adding.

mod derivative;
mod functions;
pub mod mathematics;
mod per_dtype;
mod program;
pub mod render;
pub mod scalar;
mod simplify;

pub use per_dtype::{Definition, PerDType};
pub use program::{Evaluator, Instruction, Kernel, Operation, Program, Register};

use crate::{DType, Scalar, Value};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Weak},
};

macro_rules! primitives {
    ($(#[$meta:meta])* $enum:ident { $($variant:ident $name:literal $doc:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $enum { $(#[doc = $doc] $variant),* }
        impl $enum {
            /// Every primitive of this kind.
            pub const ALL: &'static [$enum] = &[$($enum::$variant),*];
            /// The field's name for it.
            pub const fn name(self) -> &'static str { match self { $($enum::$variant => $name),* } }
        }
    };
}

primitives! {
    /// Primitives of one argument. All but `Neg`, `Abs`, `Sign`, `Not`, `Relu` are defined on floating dtypes only.
    Unary {
        Neg "neg" "-x; wraps on integers.",
        Abs "abs" "|x|; wraps on the least integer.",
        Sign "sign" "-1, 0 or 1 (keeps -0 and NaN).",
        Not "not" "Logical not of bool, bitwise not of integers.",
        Relu "relu" "x where x > 0 or NaN, else 0.",
        Recip "reciprocal" "1/x.",
        Sqrt "sqrt" "Square root.",
        Rsqrt "rsqrt" "1/sqrt(x).",
        Cbrt "cbrt" "Cube root.",
        Exp "exp" "e^x.",
        Exp2 "exp2" "2^x.",
        Expm1 "expm1" "e^x - 1.",
        Log "log" "Natural logarithm.",
        Log2 "log2" "Logarithm to base 2.",
        Log10 "log10" "Logarithm to base 10.",
        Log1p "log1p" "log(1 + x).",
        Sin "sin" "Sine of radians.",
        Cos "cos" "Cosine of radians.",
        Tan "tan" "Tangent of radians.",
        Asin "asin" "Inverse sine.",
        Acos "acos" "Inverse cosine.",
        Atan "atan" "Inverse tangent.",
        Sinh "sinh" "Hyperbolic sine.",
        Cosh "cosh" "Hyperbolic cosine.",
        Tanh "tanh" "Hyperbolic tangent.",
        Asinh "asinh" "Inverse hyperbolic sine.",
        Acosh "acosh" "Inverse hyperbolic cosine.",
        Atanh "atanh" "Inverse hyperbolic tangent.",
        Erf "erf" "Error function.",
        Erfinv "erfinv" "Inverse error function.",
        Sigmoid "sigmoid" "1/(1 + e^-x).",
        Softplus "softplus" "log(1 + e^x).",
        Floor "floor" "Largest integer not above x.",
        Ceil "ceil" "Smallest integer not below x.",
        Trunc "trunc" "Integer part.",
        Round "round" "Nearest integer, ties to even.",
    }
}

primitives! {
    /// Primitives of two arguments of one dtype.
    Binary {
        Add "add" "a + b; wraps on integers.",
        Sub "sub" "a - b; wraps on integers.",
        Mul "mul" "a * b; wraps on integers.",
        Div "div" "a / b; on integers truncated toward zero, and 0 where b is 0.",
        Rem "rem" "a - floor(a / b) * b: the sign of b, as in Python; on integers 0 where b is 0.",
        Pow "pow" "a^b; on integers by repeated multiplication, wrapping, 0 for a negative b unless |a| is 1.",
        Max "maximum" "The larger; NaN if either is NaN.",
        Min "minimum" "The smaller; NaN if either is NaN.",
        Hypot "hypot" "sqrt(a² + b²) without overflow; floating dtypes only.",
        Atan2 "atan2" "Angle of the point (b, a); floating dtypes only.",
        Eq "equal" "a == b.",
        Ne "not_equal" "a != b.",
        Lt "less" "a < b.",
        Le "less_equal" "a <= b.",
        Gt "greater" "a > b.",
        Ge "greater_equal" "a >= b.",
        And "and" "Logical on bool, bitwise on integers.",
        Or "or" "Logical on bool, bitwise on integers.",
        Xor "xor" "Logical on bool, bitwise on integers.",
        Shl "shl" "a * 2^b on integers; b is taken modulo the bits of a.",
        Shr "shr" "a shifted right by b, with its sign; b is taken modulo the bits of a.",
    }
}

impl Unary {
    /// Whether the primitive is defined on `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu => dtype.is_float() || dtype.is_int(),
            Unary::Not => !dtype.is_float(),
            _ => dtype.is_float(),
        }
    }
}

impl Binary {
    /// Whether the result is bool whatever the arguments are.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge)
    }

    /// Whether the primitive is defined on `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Binary::Hypot | Binary::Atan2 => dtype.is_float(),
            Binary::And | Binary::Or | Binary::Xor => !dtype.is_float(),
            Binary::Shl | Binary::Shr => dtype.is_int(),
            Binary::Max | Binary::Min => true,
            b if b.is_comparison() => true,
            _ => dtype.is_float() || dtype.is_int(),
        }
    }
}

/// What a node of an expression is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The element of input `k` at this index.
    Input(u8),
    /// What output `k` holds at this index before the kernel writes it.
    Old(u8),
    /// Argument `k` that the host gives with each launch; the same for every index.
    Scalar(u8),
    /// A constant.
    Const(Value),
    /// The row-major number of this index (i64). In a reduction: over the kept axes, then the reduced ones.
    Index,
    /// Word `word` of Philox 4x32-10 with the 64-bit key `seed` and the counter `index`, as an i64 in `0..2^32`.
    Random {
        /// Which of the four words.
        word: u8,
        /// The key, i64.
        seed: Expr,
        /// The counter, i64.
        index: Expr,
    },
    /// A primitive of one argument.
    Unary(Unary, Expr),
    /// A primitive of two.
    Binary(Binary, Expr, Expr),
    /// The product of the first two plus the third, rounded once; floating dtypes only.
    MulAdd(Expr, Expr, Expr),
    /// The second where the first (bool) is true, else the third.
    Select(Expr, Expr, Expr),
    /// The same number in this node's dtype, by the rules of [`Value::cast`].
    Cast(Expr),
    /// The same bits in this node's dtype (f32 and i32, f64 and i64).
    Bitcast(Expr),
    /// An ill-typed expression, carried along until it is compiled, where it becomes [`crate::Error::InvalidExpr`].
    Invalid(Arc<str>),
}

struct Node {
    kind: Kind,
    dtype: DType,
    id: u64,
    /// A hash of the structure, the same in every process: the order of commutative arguments must not depend on history.
    hash: u64,
}

/// A typed scalar expression: a cheap handle to a shared, immutable node.
///
/// Arithmetic operators and methods build larger expressions; a plain number takes the dtype of its neighbour.
///
/// ```
/// use isograd::{DType, expr::Expr};
/// let x = Expr::input(0, DType::F32);
/// let swish = &x * &x.sigmoid();
/// assert_eq!(swish, &x.sigmoid() * &x);                       // one node: hash-consed
/// assert_eq!((&x * 1.0), x);                                  // simplified
/// let (y, head) = (x.tanh(), Expr::input(1, DType::F32));
/// assert_eq!(y.derivative(0, &head), Some(&head * (1.0 - &y * &y)));
/// ```
#[derive(Clone)]
pub struct Expr(Arc<Node>);

impl PartialEq for Expr {
    /// Same structure, which is same node.
    fn eq(&self, other: &Expr) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Expr {}

/// What makes two nodes the same: kind, dtype, primitive, arguments.
type Key = (u8, DType, u8, [u64; 3]);

#[derive(Default)]
struct Interner {
    nodes: HashMap<Key, Weak<Node>>,
    next: u64,
    purge_at: usize,
}

static INTERNER: Mutex<Option<Interner>> = Mutex::new(None);

/// FNV-1a over the kind and the hashes of the arguments.
fn structural_hash(kind: &Kind, dtype: DType) -> u64 {
    let (tag, detail) = match kind {
        Kind::Input(k) => (0, *k as u64),
        Kind::Old(k) => (1, *k as u64),
        Kind::Scalar(k) => (2, *k as u64),
        Kind::Const(v) => (3, v.bits()),
        Kind::Index => (4, 0),
        Kind::Random { word, .. } => (5, *word as u64),
        Kind::Unary(op, _) => (6, *op as u64),
        Kind::Binary(op, ..) => (7, *op as u64),
        Kind::Select(..) => (8, 0),
        Kind::Cast(_) => (9, 0),
        Kind::Bitcast(_) => (10, 0),
        Kind::Invalid(_) => (11, 0),
        Kind::MulAdd(..) => (12, 0),
    };
    let words = [tag, dtype as u64, detail].into_iter().chain(arguments(kind).map(|a| a.0.hash));
    words
        .flat_map(u64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
}

fn arguments(kind: &Kind) -> impl Iterator<Item = &Expr> {
    let (a, b, c) = match kind {
        Kind::Random { seed, index, .. } => (Some(seed), Some(index), None),
        Kind::Unary(_, x) | Kind::Cast(x) | Kind::Bitcast(x) => (Some(x), None, None),
        Kind::Binary(_, a, b) => (Some(a), Some(b), None),
        Kind::Select(a, b, c) | Kind::MulAdd(a, b, c) => (Some(a), Some(b), Some(c)),
        _ => (None, None, None),
    };
    [a, b, c].into_iter().flatten()
}

impl Expr {
    fn intern(kind: Kind, dtype: DType) -> Expr {
        let key: Key = match &kind {
            Kind::Input(k) => (0, dtype, *k, [0; 3]),
            Kind::Old(k) => (1, dtype, *k, [0; 3]),
            Kind::Scalar(k) => (2, dtype, *k, [0; 3]),
            Kind::Const(v) => (3, dtype, 0, [v.bits(), 0, 0]),
            Kind::Index => (4, dtype, 0, [0; 3]),
            Kind::Random { word, seed, index } => (5, dtype, *word, [seed.id(), index.id(), 0]),
            Kind::Unary(op, x) => (6, dtype, *op as u8, [x.id(), 0, 0]),
            Kind::Binary(op, a, b) => (7, dtype, *op as u8, [a.id(), b.id(), 0]),
            Kind::Select(c, a, b) => (8, dtype, 0, [c.id(), a.id(), b.id()]),
            Kind::Cast(x) => (9, dtype, 0, [x.id(), 0, 0]),
            Kind::Bitcast(x) => (10, dtype, 0, [x.id(), 0, 0]),
            Kind::Invalid(_) => (11, dtype, 0, [0; 3]),
            Kind::MulAdd(a, b, c) => (12, dtype, 0, [a.id(), b.id(), c.id()]),
        };
        let mut guard = INTERNER.lock().unwrap_or_else(|e| e.into_inner());
        let interner = guard.get_or_insert_with(Interner::default);
        if let (false, Some(node)) = (key.0 == 11, interner.nodes.get(&key).and_then(Weak::upgrade)) {
            return Expr(node);
        }
        interner.next += 1;
        let hash = structural_hash(&kind, dtype);
        let node = Arc::new(Node { kind, dtype, id: interner.next, hash });
        interner.nodes.insert(key, Arc::downgrade(&node));
        if interner.nodes.len() > interner.purge_at.max(1024) {
            interner.nodes.retain(|_, weak| weak.strong_count() > 0);
            interner.purge_at = interner.nodes.len() * 2;
        }
        Expr(node)
    }

    /// A number unique to this node within the process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The dtype of the value.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// What this node is.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Input `k`, an element of `dtype`.
    pub fn input(k: u8, dtype: DType) -> Expr {
        Expr::intern(Kind::Input(k), dtype)
    }

    /// The old value of output `k`.
    pub fn old(k: u8, dtype: DType) -> Expr {
        Expr::intern(Kind::Old(k), dtype)
    }

    /// Argument `k` of the launch.
    pub fn scalar(k: u8, dtype: DType) -> Expr {
        Expr::intern(Kind::Scalar(k), dtype)
    }

    /// A constant.
    pub fn constant(value: impl Into<Value>) -> Expr {
        let value = value.into();
        Expr::intern(Kind::Const(value), value.dtype())
    }

    /// The row-major number of the element, i64.
    pub fn index() -> Expr {
        Expr::intern(Kind::Index, DType::I64)
    }

    /// 32 random bits as an i64: word `word` (0 to 3) of Philox 4x32-10 with key `seed` and counter `index`, both i64.
    ///
    /// Source: Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
    pub fn random_bits(seed: &Expr, index: &Expr, word: u8) -> Expr {
        match (seed.dtype(), index.dtype(), word) {
            (DType::I64, DType::I64, 0..=3) => {
                Expr::intern(Kind::Random { word, seed: seed.clone(), index: index.clone() }, DType::I64)
            }
            _ => Expr::invalid(
                format!(
                    "random_bits takes i64 seed and index and a word below 4, got {}, {} and {word}",
                    seed.dtype(),
                    index.dtype()
                ),
                DType::I64,
            ),
        }
    }

    fn invalid(why: String, dtype: DType) -> Expr {
        Expr::intern(Kind::Invalid(why.into()), dtype)
    }

    /// A constant of this expression's dtype.
    pub fn like(&self, scalar: impl Into<Scalar>) -> Expr {
        let scalar = scalar.into();
        match scalar.to_value(self.dtype()) {
            Ok(v) => Expr::constant(v),
            Err(e) => Expr::invalid(e.to_string(), self.dtype()),
        }
    }

    /// Applies a primitive of one argument.
    pub fn unary(op: Unary, x: &Expr) -> Expr {
        if !op.accepts(x.dtype()) {
            return Expr::invalid(format!("{} is not defined on {}", op.name(), x.dtype()), x.dtype());
        }
        simplify::unary(op, x).unwrap_or_else(|| Expr::intern(Kind::Unary(op, x.clone()), x.dtype()))
    }

    /// Applies a primitive of two arguments, which must have one dtype.
    pub fn binary(op: Binary, a: &Expr, b: &Expr) -> Expr {
        let dtype = if op.is_comparison() { DType::Bool } else { a.dtype() };
        if a.dtype() != b.dtype() {
            return Expr::invalid(format!("{} of {} and {}; cast one of them", op.name(), a.dtype(), b.dtype()), dtype);
        }
        if !op.accepts(a.dtype()) {
            return Expr::invalid(format!("{} is not defined on {}", op.name(), a.dtype()), dtype);
        }
        simplify::binary(op, a, b).unwrap_or_else(|| {
            // One order for commutative primitives, so that a + b and b + a are one node.
            let swap = matches!(op, Binary::Add | Binary::Mul) && a.0.hash > b.0.hash;
            let (a, b) = if swap { (b, a) } else { (a, b) };
            Expr::intern(Kind::Binary(op, a.clone(), b.clone()), dtype)
        })
    }

    /// `self * b + c`, rounded once: the operation that IEEE 754 calls fusedMultiplyAdd.
    ///
    /// ```
    /// use isograd::{DType, Value, expr::{Expr, Kernel, Program}};
    /// let x = Expr::input(0, DType::F32);
    /// let residue = x.mul_add(&x, &-(&x * &x));                  // what rounding the square lost
    /// let program = Program::new("residue", &[residue], &[DType::F32], &[]).unwrap();
    /// let x = Value::F32(1.0 + f32::EPSILON);
    /// assert_eq!(Kernel::new(&program, &[]).evaluate(0, &[x], &[])[0].to_f64(), 2f64.powi(-46));
    /// ```
    #[must_use]
    pub fn mul_add(&self, b: &Expr, c: &Expr) -> Expr {
        let dtype = self.dtype();
        if !dtype.is_float() || b.dtype() != dtype || c.dtype() != dtype {
            return Expr::invalid(
                format!("mul_add of {dtype}, {} and {}; one floating dtype is needed", b.dtype(), c.dtype()),
                dtype,
            );
        }
        simplify::mul_add(self, b, c)
            .unwrap_or_else(|| Expr::intern(Kind::MulAdd(self.clone(), b.clone(), c.clone()), dtype))
    }

    /// `then` where this (bool) is true, else `otherwise`.
    pub fn select(&self, then: &Expr, otherwise: &Expr) -> Expr {
        if self.dtype() != DType::Bool || then.dtype() != otherwise.dtype() {
            return Expr::invalid(
                format!(
                    "select of {} on {} and {}; the condition must be bool, the branches of one dtype",
                    self.dtype(),
                    then.dtype(),
                    otherwise.dtype()
                ),
                then.dtype(),
            );
        }
        simplify::select(self, then, otherwise)
            .unwrap_or_else(|| Expr::intern(Kind::Select(self.clone(), then.clone(), otherwise.clone()), then.dtype()))
    }

    /// The same number in another dtype.
    pub fn cast(&self, dtype: DType) -> Expr {
        if dtype == self.dtype() {
            return self.clone();
        }
        if let Kind::Const(v) = self.kind() {
            return Expr::constant(v.cast(dtype));
        }
        Expr::intern(Kind::Cast(self.clone()), dtype)
    }

    /// The same bits in another dtype of equal size: f32 and i32, f64 and i64.
    pub fn bitcast(&self, dtype: DType) -> Expr {
        match (self.dtype(), dtype) {
            (a, b) if a == b => self.clone(),
            (DType::F32, DType::I32)
            | (DType::I32, DType::F32)
            | (DType::F64, DType::I64)
            | (DType::I64, DType::F64) => Expr::intern(Kind::Bitcast(self.clone()), dtype),
            (a, b) => Expr::invalid(format!("bitcast of {a} to {b}; only f32 and i32, f64 and i64"), b),
        }
    }

    /// The arguments of this node.
    pub fn arguments(&self) -> impl Iterator<Item = &Expr> {
        arguments(self.kind())
    }

    /// Every node below and including `roots`, each once, arguments before results, in an order that depends on nothing
    /// but the structure.
    pub fn topological(roots: &[Expr]) -> Vec<Expr> {
        let mut seen = std::collections::HashSet::new();
        let mut order = Vec::new();
        let mut stack: Vec<(Expr, bool)> = roots.iter().rev().map(|e| (e.clone(), false)).collect();
        while let Some((e, arguments_done)) = stack.pop() {
            if arguments_done {
                order.push(e);
            } else if seen.insert(e.id()) {
                stack.push((e.clone(), true));
                let below: SmallVec<[Expr; 3]> = e.arguments().cloned().collect();
                stack.extend(below.into_iter().rev().map(|a| (a, false)));
            }
        }
        order
    }

    /// This expression with every leaf replaced by what `leaf` gives for it (or kept where it gives `None`). Asked for
    /// every node; a node that is replaced is not looked into.
    pub fn substitute(&self, replace: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
        let mut done: HashMap<u64, Expr> = HashMap::new();
        // A replaced node hides its arguments, so walk from the root, not over `topological`.
        let mut stack = vec![(self.clone(), false)];
        while let Some((e, expanded)) = stack.pop() {
            if done.contains_key(&e.id()) {
                continue;
            }
            if !expanded {
                if let Some(new) = replace(&e) {
                    done.insert(e.id(), new);
                    continue;
                }
                stack.push((e.clone(), true));
                stack.extend(e.arguments().map(|a| (a.clone(), false)));
                continue;
            }
            let at = |x: &Expr| &done[&x.id()];
            let new = match e.kind() {
                Kind::Random { word, seed, index } => Expr::random_bits(at(seed), at(index), *word),
                Kind::Unary(op, x) => Expr::unary(*op, at(x)),
                Kind::Binary(op, a, b) => Expr::binary(*op, at(a), at(b)),
                Kind::MulAdd(a, b, c) => at(a).mul_add(at(b), at(c)),
                Kind::Select(c, a, b) => at(c).select(at(a), at(b)),
                Kind::Cast(x) => at(x).cast(e.dtype()),
                Kind::Bitcast(x) => at(x).bitcast(e.dtype()),
                _ => e.clone(),
            };
            done.insert(e.id(), new);
        }
        done[&self.id()].clone()
    }
}

macro_rules! unary_methods {
    ($($name:ident $variant:ident),*) => {
        impl Expr { $(#[doc = concat!("The primitive [`Unary::", stringify!($variant), "`].")]
            #[must_use] pub fn $name(&self) -> Expr { Expr::unary(Unary::$variant, self) })* }
    };
}
unary_methods!(
    abs Abs, sign Sign, relu Relu, reciprocal Recip, sqrt Sqrt, rsqrt Rsqrt, cbrt Cbrt, exp Exp, exp2 Exp2, expm1 Expm1,
    log Log, log2 Log2, log10 Log10, log1p Log1p, sin Sin, cos Cos, tan Tan, asin Asin, acos Acos, atan Atan,
    sinh Sinh, cosh Cosh, tanh Tanh, asinh Asinh, acosh Acosh, atanh Atanh, erf Erf, erfinv Erfinv,
    sigmoid Sigmoid, softplus Softplus, floor Floor, ceil Ceil, trunc Trunc, round Round
);

macro_rules! binary_methods {
    ($($name:ident $variant:ident),*) => {
        impl Expr { $(#[doc = concat!("The primitive [`Binary::", stringify!($variant), "`].")]
            #[must_use] pub fn $name(&self, other: &Expr) -> Expr { Expr::binary(Binary::$variant, self, other) })* }
    };
}
binary_methods!(
    pow Pow, maximum Max, minimum Min, hypot Hypot, atan2 Atan2, equal Eq, not_equal Ne, less Lt, less_equal Le,
    greater Gt, greater_equal Ge, and And, or Or, xor Xor, shl Shl, shr Shr
);

impl Expr {
    /// Whether the value is NaN.
    #[must_use]
    pub fn is_nan(&self) -> Expr {
        self.not_equal(self)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $variant:ident),*) => { $(
        impl std::ops::$trait<&Expr> for &Expr {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr { Expr::binary(Binary::$variant, self, other) }
        }
        impl std::ops::$trait<Expr> for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr { Expr::binary(Binary::$variant, &self, &other) }
        }
        impl std::ops::$trait<&Expr> for Expr {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr { Expr::binary(Binary::$variant, &self, other) }
        }
        impl std::ops::$trait<Expr> for &Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr { Expr::binary(Binary::$variant, self, &other) }
        }
        impl std::ops::$trait<f64> for &Expr {
            type Output = Expr;
            fn $method(self, other: f64) -> Expr { Expr::binary(Binary::$variant, self, &self.like(other)) }
        }
        impl std::ops::$trait<f64> for Expr {
            type Output = Expr;
            fn $method(self, other: f64) -> Expr { Expr::binary(Binary::$variant, &self, &self.like(other)) }
        }
        impl std::ops::$trait<&Expr> for f64 {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr { Expr::binary(Binary::$variant, &other.like(self), other) }
        }
        impl std::ops::$trait<Expr> for f64 {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr { Expr::binary(Binary::$variant, &other.like(self), &other) }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem);

impl std::ops::Neg for &Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        Expr::unary(Unary::Neg, self)
    }
}
impl std::ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        Expr::unary(Unary::Neg, &self)
    }
}
impl std::ops::Not for &Expr {
    type Output = Expr;
    fn not(self) -> Expr {
        Expr::unary(Unary::Not, self)
    }
}
impl std::ops::Not for Expr {
    type Output = Expr;
    fn not(self) -> Expr {
        Expr::unary(Unary::Not, &self)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Input(k) => write!(f, "in{k}"),
            Kind::Old(k) => write!(f, "old{k}"),
            Kind::Scalar(k) => write!(f, "arg{k}"),
            Kind::Const(v) => write!(f, "{v}"),
            Kind::Index => write!(f, "index"),
            Kind::Random { word, seed, index } => write!(f, "random{word}({seed}, {index})"),
            Kind::Unary(Unary::Neg, x) => write!(f, "-{x}"),
            Kind::Unary(op, x) => write!(f, "{}({x})", op.name()),
            Kind::Binary(op, a, b) => match op {
                Binary::Add => write!(f, "({a} + {b})"),
                Binary::Sub => write!(f, "({a} - {b})"),
                Binary::Mul => write!(f, "({a} * {b})"),
                Binary::Div => write!(f, "({a} / {b})"),
                Binary::Eq => write!(f, "({a} == {b})"),
                Binary::Ne => write!(f, "({a} != {b})"),
                Binary::Lt => write!(f, "({a} < {b})"),
                Binary::Le => write!(f, "({a} <= {b})"),
                Binary::Gt => write!(f, "({a} > {b})"),
                Binary::Ge => write!(f, "({a} >= {b})"),
                _ => write!(f, "{}({a}, {b})", op.name()),
            },
            Kind::MulAdd(a, b, c) => write!(f, "fma({a}, {b}, {c})"),
            Kind::Select(c, a, b) => write!(f, "({c} ? {a} : {b})"),
            Kind::Cast(x) => write!(f, "{}({x})", self.dtype()),
            Kind::Bitcast(x) => write!(f, "bits<{}>({x})", self.dtype()),
            Kind::Invalid(why) => write!(f, "<{why}>"),
        }
    }
}
impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}: {}", self.dtype())
    }
}

impl Drop for Node {
    /// Takes long chains apart in a loop; the derived recursion would overflow the stack.
    fn drop(&mut self) {
        let mut stack = Vec::new();
        let take = |kind: &mut Kind, stack: &mut Vec<Expr>| match std::mem::replace(kind, Kind::Index) {
            Kind::Random { seed, index, .. } => stack.extend([seed, index]),
            Kind::Unary(_, x) | Kind::Cast(x) | Kind::Bitcast(x) => stack.push(x),
            Kind::Binary(_, a, b) => stack.extend([a, b]),
            Kind::Select(a, b, c) | Kind::MulAdd(a, b, c) => stack.extend([a, b, c]),
            _ => {}
        };
        take(&mut self.kind, &mut stack);
        while let Some(e) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(e.0) {
                take(&mut node.kind, &mut stack);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x() -> Expr {
        Expr::input(0, DType::F32)
    }

    #[test]
    fn equal_expressions_are_one_node() {
        let y = Expr::input(1, DType::F32);
        assert_eq!(&x() + &y, &y + &x());
        assert_ne!(&x() - &y, &y - &x());
        assert_ne!(Expr::input(0, DType::F64), x());
        assert_ne!(x().like(0.0), x().like(-0.0));
    }

    #[test]
    fn ill_typed_expressions_carry_their_reason() {
        let bad = x().exp() + Expr::input(1, DType::F64);
        assert!(matches!(bad.kind(), Kind::Invalid(why) if why.contains("float32 and float64")), "{bad}");
        assert!(matches!(Expr::input(0, DType::I32).exp().kind(), Kind::Invalid(_)));
        assert!(matches!(Expr::input(0, DType::U8).like(300).kind(), Kind::Invalid(_)));
    }

    #[test]
    fn long_chains_are_built_and_dropped_without_recursion() {
        let mut e = x();
        for _ in 0..100_000 {
            e = e.sin();
        }
        assert_eq!(Expr::topological(std::slice::from_ref(&e)).len(), 100_001);
        assert_eq!(e.substitute(&|n| (n == &x()).then(|| n.like(0.0))), x().like(0.0));
        drop(e);
    }
}
