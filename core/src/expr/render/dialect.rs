//! What differs between the C-like languages: type names, names of functions, qualifiers. To add a language: a variant of
//! [`Dialect`], and what the compiler then misses here and in `functions`.

use crate::{DType, Value};

/// A C-like language that programs are rendered to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// C99.
    C,
    /// OpenCL C 1.2 or later.
    OpenCl,
    /// CUDA C++, as NVRTC and nvcc take it.
    Cuda,
}

/// The name that a rendered source gives to the stored form of `dtype`: the same in every dialect. f16 and bf16 are stored
/// as unsigned 16-bit integers that hold their bits, and computed as `ig_f32`.
///
/// ```
/// use isograd::{DType, expr::render};
/// assert_eq!(render::type_name(DType::F64), "ig_f64");
/// assert_eq!(render::type_name(DType::F16.compute()), "ig_f32");
/// ```
pub const fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "ig_f16",
        DType::BF16 => "ig_bf16",
        DType::F32 => "ig_f32",
        DType::F64 => "ig_f64",
        DType::I32 => "ig_i32",
        DType::I64 => "ig_i64",
        DType::U8 => "ig_u8",
        DType::I8 => "ig_i8",
        DType::Bool => "ig_bool",
    }
}

/// The unsigned type through which arithmetic on the integer `dtype` wraps; not narrower than `int`, so that C's promotions
/// never turn it into a signed one.
pub(super) const fn wrapping_type(dtype: DType) -> &'static str {
    match dtype {
        DType::I64 => "ig_u64",
        _ => "ig_u32",
    }
}

/// The C identifier `isograd_` followed by `name` with every other character than an ASCII letter or digit made `_`.
///
/// ```
/// assert_eq!(isograd::expr::render::identifier("a+b, fused"), "isograd_a_b__fused");
/// ```
pub fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    "isograd_".chars().chain(name.chars().map(plain)).collect()
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 3] = [Dialect::C, Dialect::OpenCl, Dialect::Cuda];

    /// The compiler options that rendered source relies on: no contraction of `a * b + c` (random normal numbers are
    /// bit-identical on every backend), correctly rounded division and square root, no flushing of subnormals. Never add
    /// a fast-math option.
    ///
    /// An OpenCL device without `CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT` rejects the option of that name: leave it out there.
    pub const fn build_options(self) -> &'static [&'static str] {
        match self {
            Dialect::C => &["-std=c99", "-ffp-contract=off"],
            Dialect::OpenCl => &["-cl-std=CL1.2", "-cl-fp32-correctly-rounded-divide-sqrt"],
            Dialect::Cuda => &["--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false"],
        }
    }

    /// What stands first in every source: includes, pragmas, and the types; `ig_f64` only where `f64` says so, because
    /// OpenCL devices may lack it.
    ///
    /// ```
    /// use isograd::expr::render::Dialect;
    /// assert!(Dialect::OpenCl.prologue(false).contains("FP_CONTRACT OFF"));
    /// assert!(!Dialect::OpenCl.prologue(false).contains("double"));
    /// ```
    pub fn prologue(self, f64: bool) -> String {
        let (head, qualifier, types) = match self {
            Dialect::C => (
                "#include <math.h>\n#include <stdint.h>\n",
                "static inline",
                ["uint8_t", "int8_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t"],
            ),
            Dialect::OpenCl => (
                "#pragma OPENCL FP_CONTRACT OFF\n",
                "static inline",
                ["uchar", "char", "ushort", "int", "uint", "long", "ulong"],
            ),
            Dialect::Cuda => (
                "// Compile with --fmad=false.\n",
                "static __device__ inline",
                [
                    "unsigned char",
                    "signed char",
                    "unsigned short",
                    "int",
                    "unsigned int",
                    "long long",
                    "unsigned long long",
                ],
            ),
        };
        let mut text = head.to_string();
        if f64 && self == Dialect::OpenCl {
            text += "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n";
        }
        text += &format!("#define IG_FN {qualifier}\n");
        for (name, of) in ["ig_u8", "ig_i8", "ig_u16", "ig_i32", "ig_u32", "ig_i64", "ig_u64"].iter().zip(types) {
            text += &format!("typedef {of} {name};\n");
        }
        text += "typedef ig_u8 ig_bool;\ntypedef ig_u16 ig_f16;\ntypedef ig_u16 ig_bf16;\ntypedef float ig_f32;\n";
        if f64 {
            text += "typedef double ig_f64;\n";
        }
        text
    }

    /// The function of C's `math.h` that is called `name` on doubles, for `dtype` (f32 or f64).
    pub(super) fn math(self, name: &str, dtype: DType) -> String {
        match (self, dtype) {
            (Dialect::OpenCl, _) | (_, DType::F64) => name.to_string(),
            _ => format!("{name}f"),
        }
    }
}

/// The literal of a constant that is computed in (not f16 or bf16), or `None` for those that have none: infinities and
/// NaN. Integers have no suffix: C gives each the first type that it fits, and their use casts them.
pub(super) fn literal(value: Value) -> Option<String> {
    Some(match value {
        Value::F32(v) if v.is_finite() => format!("{}f", float(v as f64)),
        Value::F64(v) if v.is_finite() => float(v),
        Value::I32(i32::MIN) => "(-2147483647 - 1)".to_string(),
        Value::I64(i64::MIN) => "(-9223372036854775807 - 1)".to_string(),
        Value::I32(_) | Value::I64(_) | Value::U8(_) | Value::I8(_) => value.to_i64().to_string(),
        Value::Bool(v) => (v as u8).to_string(),
        _ => return None,
    })
}

/// A finite number, exactly: in decimal where it is a small integer, else in hexadecimal.
fn float(v: f64) -> String {
    if v.fract() == 0.0 && v.abs() < 1e6 {
        return format!("{v:?}");
    }
    let bits = v.to_bits();
    let sign = if v.is_sign_negative() { "-" } else { "" };
    let fraction = bits & ((1 << 52) - 1);
    let (lead, exponent) = match (bits >> 52) & 0x7ff {
        0 => (0, -1022),
        biased => (1, biased as i64 - 1023),
    };
    let digits = format!("{fraction:013x}");
    match digits.trim_end_matches('0') {
        "" => format!("{sign}0x{lead}p{exponent:+}"),
        digits => format!("{sign}0x{lead}.{digits}p{exponent:+}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_exact() {
        for (value, expected) in [
            (Value::F32(0.1), "0x1.99999ap-4f"),
            (Value::F32(-0.0), "-0.0f"),
            (Value::F32(f32::from_bits(1)), "0x1p-149f"),
            (Value::F64(f64::from_bits(1)), "0x0.0000000000001p-1022"),
            (Value::F64(f64::MAX), "0x1.fffffffffffffp+1023"),
            (Value::F64(-2.0), "-2.0"),
            (Value::I64(i64::MIN), "(-9223372036854775807 - 1)"),
            (Value::I32(-7), "-7"),
            (Value::Bool(true), "1"),
        ] {
            assert_eq!(literal(value).as_deref(), Some(expected));
        }
        assert_eq!(literal(Value::F64(f64::NAN)), None);
    }
}
