//! Units in the last place, and how many of them each primitive may err.
//!
//! Sources: OpenCL C 3.0 specification, section 7.4, *Relative error as ULPs*, full profile, the columns for single and
//! double precision. Where OpenCL has no such function, the bound is derived from those it has, and the row says how.
//! To change a bound: its row here. Nothing else in the crate has a tolerance of its own.

use isograd_core::{
    DType,
    expr::{Binary, Unary},
};

/// Significant bits (the hidden one included) and least exponent of a floating dtype.
pub(crate) fn format(dtype: DType) -> (i32, i32) {
    match dtype {
        DType::F16 => (11, -14),
        DType::BF16 => (8, -126),
        DType::F64 => (53, -1022),
        _ => (24, -126),
    }
}

/// 2^n for every n that gives a number.
pub(crate) fn power_of_two(n: i32) -> f64 {
    if n >= -1022 { f64::from_bits(((n + 1023) as u64) << 52) } else { f64::from_bits(1u64 << (n + 1074).max(0)) }
}

/// One unit in the last place of `dtype` at `value`: the distance of its neighbours there.
///
/// ```
/// use isograd_core::DType;
/// use isograd_conformance::bounds::ulp;
/// assert_eq!(ulp(DType::F32, 1.0), f32::EPSILON as f64);
/// assert_eq!(ulp(DType::F16, 0.0), 2f64.powi(-24));
/// assert_eq!(ulp(DType::BF16, -300.0), 2.0);
/// assert_eq!(ulp(DType::F64, 1.0), f64::EPSILON);
/// ```
pub fn ulp(dtype: DType, value: f64) -> f64 {
    let (bits, least) = format(dtype);
    let exponent = match (value.abs().to_bits() >> 52) as i32 {
        0 => -1074,
        2047 => return f64::INFINITY,
        e => e - 1023,
    };
    power_of_two(exponent.max(least) - (bits - 1))
}

/// The distance of `got` from the exact result in units in the last place of `dtype`. NaN is at no distance from NaN, an
/// infinity at none from itself, and both infinitely far from all else.
///
/// ```
/// use isograd_core::DType;
/// use isograd_conformance::bounds::distance;
/// assert_eq!(distance(DType::F32, 1.0 + 2f64.powi(-22), 1.0), 2.0);
/// assert_eq!(distance(DType::F32, f64::NAN, f64::NAN), 0.0);
/// assert_eq!(distance(DType::F32, 1.0, f64::NAN), f64::INFINITY);
/// ```
pub fn distance(dtype: DType, got: f64, exact: f64) -> f64 {
    if got == exact || (got.is_nan() && exact.is_nan()) {
        0.0
    } else if got.is_finite() && exact.is_finite() {
        (got - exact).abs() / ulp(dtype, exact)
    } else {
        f64::INFINITY
    }
}

/// The least magnitude that rounds to infinity in `dtype`.
pub fn overflow(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65520.0,
        DType::BF16 => 255.5 * power_of_two(120),
        DType::F32 => (power_of_two(24) - 0.5) * power_of_two(104),
        _ => f64::INFINITY,
    }
}

/// How far a primitive may be off, in units in the last place of the dtype that it is computed in. 0: exact; 0.5:
/// correctly rounded.
pub fn unary(op: Unary, dtype: DType) -> f64 {
    let double = dtype == DType::F64;
    match op {
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Not | Unary::Relu => 0.0,
        Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Round => 0.0,
        // The table's x / y and sqrt: correctly rounded in double.
        Unary::Recip => {
            if double {
                0.5
            } else {
                2.5
            }
        }
        Unary::Sqrt => {
            if double {
                0.5
            } else {
                3.0
            }
        }
        Unary::Rsqrt | Unary::Cbrt | Unary::Log1p => 2.0,
        Unary::Exp | Unary::Exp2 | Unary::Expm1 | Unary::Log | Unary::Log2 | Unary::Log10 => 3.0,
        Unary::Sin | Unary::Cos | Unary::Asin | Unary::Acos | Unary::Sinh | Unary::Cosh => 4.0,
        Unary::Asinh | Unary::Acosh => 4.0,
        Unary::Tan | Unary::Atan | Unary::Tanh | Unary::Atanh => 5.0,
        Unary::Erf => 16.0,
        // Not in the table: as erf, whose inverse it is.
        Unary::Erfinv => 16.0,
        // 1 / (1 + exp): exp 3, sum 0.5, quotient 2.5.
        Unary::Sigmoid => 6.0,
        // log1p(exp): exp 3, log1p 2, sum 0.5.
        Unary::Softplus => 6.0,
    }
}

/// As [`unary`], for primitives of two arguments.
pub fn binary(op: Binary, dtype: DType) -> f64 {
    match op {
        Binary::Add | Binary::Sub | Binary::Mul => 0.5,
        Binary::Div => {
            if dtype == DType::F64 {
                0.5
            } else {
                2.5
            }
        }
        // fmod is exact; bringing it to the divisor's sign is one addition.
        Binary::Rem => 0.5,
        Binary::Pow => 16.0,
        Binary::Hypot => 4.0,
        Binary::Atan2 => 6.0,
        _ => 0.0,
    }
}

/// Where the bound of a primitive comes from.
fn source(name: &str) -> &'static str {
    match name {
        "recip" | "reciprocal" => "OpenCL: 1 / x",
        "div" => "OpenCL: x / y",
        "rem" => "fmod is exact (OpenCL: 0); one addition brings it to the divisor's sign",
        "add" | "sub" | "mul" => "IEEE 754: correctly rounded",
        "erfinv" => "not in the table: as erf, whose inverse it is",
        "sigmoid" => "derived: 1 / (1 + exp): exp 3, sum 0.5, quotient 2.5",
        "softplus" => "derived: log1p(exp): exp 3, log1p 2, sum 0.5, and the sum with x 0.5",
        _ => "OpenCL",
    }
}

/// The bounds of all primitives as a table in Markdown, the one in the book.
///
/// ```
/// let table = isograd_conformance::bounds::table();
/// assert!(table.contains("| `exp` | 3 | 3 | OpenCL |"));
/// ```
pub fn table() -> String {
    let mut rows = vec!["| primitive | f32, f16, bf16 | f64 | source |".to_string(), "|---|---|---|---|".into()];
    let mut row = |name: &str, single: f64, double: f64| {
        if single > 0.0 {
            rows.push(format!("| `{name}` | {single} | {double} | {} |", source(name)));
        }
    };
    for &op in Unary::ALL {
        row(op.name(), unary(op, DType::F32), unary(op, DType::F64));
    }
    for &op in Binary::ALL {
        row(op.name(), binary(op, DType::F32), binary(op, DType::F64));
    }
    let names = Unary::ALL.iter().filter(|op| unary(**op, DType::F32) == 0.0).map(|op| op.name());
    let names = names.chain(Binary::ALL.iter().filter(|op| binary(**op, DType::F32) == 0.0).map(|op| op.name()));
    let exact: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    rows.push(format!("| {} | 0 | 0 | exact by definition |", exact.join(", ")));
    rows.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_core::Value;

    #[test]
    fn a_unit_is_the_distance_of_neighbours() {
        for bits in (0..f32::INFINITY.to_bits() - 1).step_by(1 << 16) {
            let v = f32::from_bits(bits);
            assert_eq!(ulp(DType::F32, v as f64), f32::from_bits(bits + 1) as f64 - v as f64, "{v:e}");
        }
        for bits in 0..0x7bffu16 {
            let v = |b| isograd_core::f16::from_bits(b).to_f64();
            assert_eq!(ulp(DType::F16, v(bits)), v(bits + 1) - v(bits));
        }
    }

    #[test]
    fn the_book_has_the_table() {
        let book = include_str!("../../docs/book/numbers.md");
        assert!(book.contains(&table()), "docs/book/numbers.md must have this table:\n{}", table());
    }

    #[test]
    fn what_overflows_rounds_to_infinity() {
        for d in [DType::F16, DType::BF16, DType::F32] {
            let limit = overflow(d);
            assert!(Value::F64(limit).cast(d).to_f64().is_infinite(), "{d}");
            assert!(Value::F64(limit * (1.0 - 1e-6)).cast(d).to_f64().is_finite(), "{d}");
        }
    }
}
