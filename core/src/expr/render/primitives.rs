//! The C expression of each primitive, constant and conversion: what kernels that combine elements themselves, such as
//! reductions, use as well.

use super::{
    super::{
        Binary, Program, Unary,
        mathematics::{Part, binary_program, unary_program},
    },
    Renderer,
    dialect::{literal, type_name, wrapping_type},
    functions,
};
use crate::{DType, Result, Value};
use std::sync::Arc;

fn well_formed(program: Result<Arc<Program>>) -> Arc<Program> {
    program.unwrap_or_else(|e| unreachable!("definitions of functions are well formed: {e}"))
}

impl Renderer {
    /// A stored element of `dtype`, in the dtype that it is computed in.
    pub fn load(&mut self, dtype: DType, stored: &str) -> String {
        if dtype.compute() == dtype { stored.to_string() } else { self.call(("load", dtype), &[stored]) }
    }

    /// A computed element, as it is stored in `dtype`.
    pub fn store(&mut self, dtype: DType, computed: &str) -> String {
        if dtype.compute() == dtype { computed.to_string() } else { self.call(("store", dtype), &[computed]) }
    }

    /// A constant, in the dtype that its dtype is computed in; exactly, NaN with its bits.
    pub fn constant(&mut self, value: Value) -> String {
        let value = value.cast(value.dtype().compute());
        literal(value).unwrap_or_else(|| self.call(("from_bits", value.dtype()), &[&format!("{:#x}", value.bits())]))
    }

    /// A primitive on `x`, an identifier of a value of `dtype` (one that is computed in).
    pub fn unary(&mut self, op: Unary, dtype: DType, x: &str) -> String {
        let (float, ty) = (dtype.is_float(), type_name(dtype));
        match op {
            Unary::Neg if float => format!("-{x}"),
            Unary::Neg => format!("({ty})(0 - ({}){x})", wrapping_type(dtype)),
            Unary::Abs if float => self.math("fabs", dtype, &[x]),
            Unary::Abs if dtype == DType::U8 => x.to_string(),
            Unary::Abs => self.call(("abs", dtype), &[x]),
            Unary::Sign => self.call(("sign", dtype), &[x]),
            Unary::Not if dtype == DType::Bool => format!("!{x}"),
            Unary::Not => format!("({ty})~{x}"),
            Unary::Relu if dtype == DType::U8 => x.to_string(),
            Unary::Relu => self.call(("relu", dtype), &[x]),
            Unary::Recip => format!("{} / {x}", self.one(dtype)),
            // Not the language's rsqrt, which is less accurate where there is one.
            Unary::Rsqrt => format!("{} / {}", self.one(dtype), self.math("sqrt", dtype, &[x])),
            Unary::Round => self.math("rint", dtype, &[x]),
            // C's names are the field's.
            Unary::Sqrt | Unary::Floor | Unary::Ceil | Unary::Trunc => self.math(op.name(), dtype, &[x]),
            op => self.function(op, dtype, x),
        }
    }

    /// A primitive on `a` and `b`, identifiers of values of `dtype` (one that is computed in).
    pub fn binary(&mut self, op: Binary, dtype: DType, a: &str, b: &str) -> String {
        let (float, ty, wide) = (dtype.is_float(), type_name(dtype), wrapping_type(dtype));
        let arithmetic = |sign: &str| match float {
            true => format!("{a} {sign} {b}"),
            false => format!("({ty})(({wide}){a} {sign} ({wide}){b})"),
        };
        let bits = dtype.size() * 8 - 1;
        match op {
            Binary::Add => arithmetic("+"),
            Binary::Sub => arithmetic("-"),
            Binary::Mul => arithmetic("*"),
            Binary::Div if float => arithmetic("/"),
            Binary::Div => self.call(("div", dtype), &[a, b]),
            Binary::Rem => self.call(("rem", dtype), &[a, b]),
            op if op.is_function(dtype) && self.native => self.math(op.name(), dtype, &[a, b]),
            op if op.is_function(dtype) => {
                let name = functions::name((op.name(), dtype));
                if !self.defined(&name) {
                    self.define(&name, "", &well_formed(binary_program(op, dtype)));
                }
                format!("{name}({a}, {b})")
            }
            Binary::Pow => self.call(("pow", dtype), &[a, b]),
            Binary::Max => self.call(("max", dtype), &[a, b]),
            Binary::Min => self.call(("min", dtype), &[a, b]),
            Binary::Hypot | Binary::Atan2 => unreachable!("{} is a function on floats and nothing else", op.name()),
            Binary::Eq => format!("{a} == {b}"),
            Binary::Ne => format!("{a} != {b}"),
            Binary::Lt => format!("{a} < {b}"),
            Binary::Le => format!("{a} <= {b}"),
            Binary::Gt => format!("{a} > {b}"),
            Binary::Ge => format!("{a} >= {b}"),
            Binary::And => format!("({ty})({a} & {b})"),
            Binary::Or => format!("({ty})({a} | {b})"),
            Binary::Xor => format!("({ty})({a} ^ {b})"),
            Binary::Shl => format!("({ty})(({wide}){a} << (({wide}){b} & {bits}))"),
            // On signed types all three languages' compilers shift in the sign.
            Binary::Shr => format!("({ty})({a} >> (({wide}){b} & {bits}))"),
        }
    }

    /// `x`, an identifier of a value of `from`, converted to `to` (both computed in) by the rules of [`Value::cast`].
    pub fn convert(&mut self, from: DType, to: DType, x: &str) -> String {
        match to {
            DType::Bool => format!("{x} != 0"),
            DType::I8 if from.is_float() => self.call(("to_i8", from), &[x]),
            DType::U8 if from.is_float() => self.call(("to_u8", from), &[x]),
            DType::I32 if from.is_float() => self.call(("to_i32", from), &[x]),
            DType::I64 if from.is_float() => self.call(("to_i64", from), &[x]),
            _ => format!("({}){x}", type_name(to)),
        }
    }

    pub(super) fn bitcast(&mut self, from: DType, to: DType, x: &str) -> String {
        match from.is_float() {
            true => format!("({}){}", type_name(to), self.call(("to_bits", from), &[x])),
            false => self.call(("from_bits", to), &[&format!("({}){x}", wrapping_type(from))]),
        }
    }

    /// A product of `a` and `b` plus `c`, identifiers of values of `dtype` (f32 or f64), rounded once.
    pub fn mul_add(&mut self, dtype: DType, a: &str, b: &str, c: &str) -> String {
        self.math("fma", dtype, &[a, b, c])
    }

    /// A mathematical function of `x`: the language's where native ones are asked for and there is one, else its definition.
    fn function(&mut self, op: Unary, dtype: DType, x: &str) -> String {
        if self.native && !matches!(op, Unary::Erfinv | Unary::Sigmoid | Unary::Softplus) {
            return self.math(op.name(), dtype, &[x]);
        }
        let name = functions::name((op.name(), dtype));
        if !self.defined(&name) {
            let mut first = String::new();
            if let Some(limit) = op.near(dtype) {
                let far = format!("{name}_far");
                self.define(&far, "", &well_formed(unary_program(op, Part::Far, dtype)));
                let limit = self.constant(Value::F64(limit).cast(dtype));
                let size = self.math("fabs", dtype, &["x"]);
                first = format!("    if ({size} > {limit}) return {far}(x);\n");
            }
            self.define(&name, &first, &well_formed(unary_program(op, Part::Near, dtype)));
        }
        format!("{name}({x})")
    }

    fn defined(&self, name: &str) -> bool {
        self.mathematics.iter().any(|(n, _)| n == name)
    }

    fn one(&mut self, dtype: DType) -> String {
        self.constant(Value::one(dtype))
    }

    fn math(&self, name: &str, dtype: DType, arguments: &[&str]) -> String {
        format!("{}({})", self.dialect.math(name, dtype), arguments.join(", "))
    }
}
