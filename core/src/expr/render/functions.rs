//! The functions that rendered source calls and that its language does not have. A source holds those that it uses.
//!
//! To add one: a line in [`definition`], in terms of the marks below, and the calls in `mod.rs`.
//! `$T` is the type, `$S` its suffix, `$U` the unsigned type that wraps, `#1.0` a literal of that type, and `@exp` the
//! language's function on it.

use super::dialect::{Dialect, type_name, wrapping_type};
use crate::DType;

/// A function for one dtype; for conversions the one converted from.
pub(super) type Function = (&'static str, DType);

/// The name of a function in the source, such as `ig_sigmoid_f32`.
pub(super) fn name((name, dtype): Function) -> String {
    format!("ig_{name}_{}", suffix(dtype))
}

fn suffix(dtype: DType) -> &'static str {
    &type_name(dtype)[3..]
}

/// What has to stand before a function.
pub(super) fn dependencies((name, dtype): Function) -> Vec<Function> {
    let f32 = DType::F32;
    match name {
        "load" if dtype == DType::F16 => vec![("from_bits", f32), ("to_bits", f32)],
        "load" => vec![("from_bits", f32)],
        "store" => vec![("to_bits", f32)],
        "philox" => vec![("mul_hi", dtype)],
        _ => vec![],
    }
}

/// The source of a function.
///
/// # Panics
/// Panics when there is no function of that name.
pub(super) fn definition(dialect: Dialect, (name, dtype): Function) -> String {
    use DType::*;
    let text: String = match (name, dtype) {
        ("sign", F32 | F64) => "IG_FN $T ig_sign_$S($T x) { return x > #0.0 ? #1.0 : x < #0.0 ? -#1.0 : x; }".into(),
        ("sign", U8) => "IG_FN $T ig_sign_$S($T x) { return x != 0; }".into(),
        ("sign", _) => "IG_FN $T ig_sign_$S($T x) { return ($T)((x > 0) - (x < 0)); }".into(),
        // NaN is not <= 0, so it stays.
        ("relu", F32 | F64) => "IG_FN $T ig_relu_$S($T x) { return x <= #0.0 ? #0.0 : x; }".into(),
        ("relu", _) => "IG_FN $T ig_relu_$S($T x) { return x > 0 ? x : 0; }".into(),
        ("abs", _) => "IG_FN $T ig_abs_$S($T x) { return x < 0 ? ($T)(0 - ($U)x) : x; }".into(),
        // The larger; NaN if either is: a comparison with a NaN is false, which leaves b.
        ("max", F32 | F64) => "IG_FN $T ig_max_$S($T a, $T b) { return a > b || a != a ? a : b; }".into(),
        ("min", F32 | F64) => "IG_FN $T ig_min_$S($T a, $T b) { return a < b || a != a ? a : b; }".into(),
        ("max", _) => "IG_FN $T ig_max_$S($T a, $T b) { return a > b ? a : b; }".into(),
        ("min", _) => "IG_FN $T ig_min_$S($T a, $T b) { return a < b ? a : b; }".into(),
        ("rem", F32 | F64) => "IG_FN $T ig_rem_$S($T a, $T b) {
    const $T r = @fmod(a, b);
    if (r == #0.0) return @copysign(#0.0, b);
    return (r < #0.0) != (b < #0.0) ? r + b : r;
}"
        .into(),
        ("rem", U8) => "IG_FN $T ig_rem_$S($T a, $T b) { return b == 0 ? 0 : ($T)(a % b); }".into(),
        // The least integer over -1 traps on some processors.
        ("rem", _) => "IG_FN $T ig_rem_$S($T a, $T b) {
    if (b == 0 || b == -1) return 0;
    const $T r = ($T)(a % b);
    return r != 0 && (r < 0) != (b < 0) ? ($T)(r + b) : r;
}"
        .into(),
        ("div", U8) => "IG_FN $T ig_div_$S($T a, $T b) { return b == 0 ? 0 : ($T)(a / b); }".into(),
        ("div", _) => "IG_FN $T ig_div_$S($T a, $T b) {
    if (b == 0) return 0;
    return b == -1 ? ($T)(0 - ($U)a) : ($T)(a / b);
}"
        .into(),
        ("pow", _) => {
            let negative = match dtype {
                U8 => "",
                _ => "    if (b < 0) return a == 1 ? 1 : a == -1 ? ($T)(1 - 2 * (b & 1)) : 0;\n",
            };
            format!(
                "IG_FN $T ig_pow_$S($T a, $T b) {{
{negative}    $U base = ($U)a, exponent = ($U)b, result = 1;
    for (; exponent > 0; exponent >>= 1) {{
        if (exponent & 1) result *= base;
        base *= base;
    }}
    return ($T)result;
}}"
            )
        }
        // NaN becomes 0, and what does not fit the nearest that does. The bounds are powers of two, hence exact.
        ("to_i8", _) => saturating("i8", "-#128.0", "-128", "#128.0", "127"),
        ("to_u8", _) => saturating("u8", "#0.0", "0", "#256.0", "255"),
        ("to_i32", _) => saturating("i32", "-#2147483648.0", "-2147483647 - 1", "#2147483648.0", "2147483647"),
        ("to_i64", _) => saturating(
            "i64",
            "-#9223372036854775808.0",
            "-9223372036854775807 - 1",
            "#9223372036854775808.0",
            "9223372036854775807",
        ),
        ("to_bits" | "from_bits", _) => bits(dialect, name, dtype),
        ("load", F16) => "IG_FN ig_f32 ig_load_f16(ig_f16 h) {
    const ig_u32 sign = (ig_u32)(h & 0x8000) << 16, m = h & 0x7fff;
    if (m > 0x7c00) return ig_from_bits_f32(sign | 0x7fc00000 | (m & 0x3ff) << 13);
    if (m == 0x7c00) return ig_from_bits_f32(sign | 0x7f800000);
    if (m >= 0x400) return ig_from_bits_f32(sign | ((m << 13) + 0x38000000));
    return ig_from_bits_f32(sign | ig_to_bits_f32((ig_f32)m * 0x1p-24f));
}"
        .into(),
        // Round to nearest, ties to even. 0x477ff000 is 65520, half way beyond the largest; 0x38800000 is 2^-14, the least
        // normal one; 0x33000000 is 2^-25, half the least subnormal.
        ("store", F16) => "IG_FN ig_f16 ig_store_f16(ig_f32 x) {
    const ig_u32 u = ig_to_bits_f32(x), sign = (u >> 16) & 0x8000, m = u & 0x7fffffff;
    if (m > 0x7f800000) return (ig_f16)(sign | 0x7e00);
    if (m >= 0x477ff000) return (ig_f16)(sign | 0x7c00);
    if (m >= 0x38800000) return (ig_f16)(sign | ((m - 0x38000000 + 0xfff + ((m >> 13) & 1)) >> 13));
    if (m <= 0x33000000) return (ig_f16)sign;
    const ig_u32 shift = 126 - (m >> 23), full = (m & 0x7fffff) | 0x800000;
    const ig_u32 kept = full >> shift, lost = full & (((ig_u32)1 << shift) - 1), half_way = (ig_u32)1 << (shift - 1);
    return (ig_f16)(sign | (kept + (lost > half_way || (lost == half_way && (kept & 1)))));
}"
        .into(),
        ("load", BF16) => "IG_FN ig_f32 ig_load_bf16(ig_bf16 h) { return ig_from_bits_f32((ig_u32)h << 16); }".into(),
        ("store", BF16) => "IG_FN ig_bf16 ig_store_bf16(ig_f32 x) {
    const ig_u32 u = ig_to_bits_f32(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (ig_bf16)((u >> 16) | 0x40);
    return (ig_bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}"
        .into(),
        ("mul_hi", _) => {
            let product = match dialect {
                Dialect::C => "(ig_u32)((ig_u64)a * b >> 32)",
                Dialect::OpenCl => "mul_hi(a, b)",
                Dialect::Cuda => "__umulhi(a, b)",
            };
            format!("IG_FN ig_u32 ig_mul_hi_$S(ig_u32 a, ig_u32 b) {{ return {product}; }}")
        }
        // Philox 4x32-10: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
        ("philox", _) => "typedef struct { ig_u32 word0, word1, word2, word3; } ig_philox_words;
IG_FN ig_philox_words ig_philox_$S($T key, $T counter) {
    ig_u32 c0 = (ig_u32)counter, c1 = (ig_u32)((ig_u64)counter >> 32), c2 = 0, c3 = 0;
    ig_u32 k0 = (ig_u32)key, k1 = (ig_u32)((ig_u64)key >> 32);
    for (int round = 0; round < 10; round++) {
        const ig_u32 a = 0xD2511F53 * c0, a_high = ig_mul_hi_$S(0xD2511F53, c0);
        const ig_u32 b = 0xCD9E8D57 * c2, b_high = ig_mul_hi_$S(0xCD9E8D57, c2);
        c0 = b_high ^ c1 ^ k0;
        c1 = b;
        c2 = a_high ^ c3 ^ k1;
        c3 = a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    const ig_philox_words words = {c0, c1, c2, c3};
    return words;
}"
        .into(),
        _ => unreachable!("no function {name} on {dtype}"),
    };
    expand(dialect, dtype, &text)
}

fn saturating(to: &str, low: &str, least: &str, high: &str, greatest: &str) -> String {
    format!(
        "IG_FN ig_{to} ig_to_{to}_$S($T x) {{
    if (x != x) return 0;
    return x < {low} ? {least} : x >= {high} ? {greatest} : (ig_{to})x;
}}"
    )
}

/// Bits of a float as an unsigned integer, and back.
fn bits(dialect: Dialect, name: &str, dtype: DType) -> String {
    let wide = dtype == DType::F64;
    let unsigned = if wide { "ig_u64" } else { "ig_u32" };
    let (from, to) = if name == "to_bits" { ("$T", unsigned) } else { (unsigned, "$T") };
    let value = match (dialect, name, wide) {
        (Dialect::C, ..) => {
            return format!(
                "IG_FN {to} ig_{name}_$S({from} x) {{
    union {{ {from} from; {to} to; }} bits;
    bits.from = x;
    return bits.to;
}}"
            );
        }
        (Dialect::OpenCl, "to_bits", false) => "as_uint(x)",
        (Dialect::OpenCl, "to_bits", true) => "as_ulong(x)",
        (Dialect::OpenCl, _, false) => "as_float(x)",
        (Dialect::OpenCl, _, true) => "as_double(x)",
        (Dialect::Cuda, "to_bits", false) => "__float_as_uint(x)",
        (Dialect::Cuda, "to_bits", true) => "(ig_u64)__double_as_longlong(x)",
        (Dialect::Cuda, _, false) => "__uint_as_float(x)",
        (Dialect::Cuda, _, true) => "__longlong_as_double((ig_i64)x)",
    };
    format!("IG_FN {to} ig_{name}_$S({from} x) {{ return {value}; }}")
}

/// Replaces the marks that the head of this file lists.
pub(super) fn expand(dialect: Dialect, dtype: DType, template: &str) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find(['$', '#', '@']) {
        text += &rest[..at];
        let (mark, tail) = rest[at..].split_at(1);
        let mut length = tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(tail.len());
        match mark {
            "$" => {
                length = 1;
                text += match &tail[..1] {
                    "T" => type_name(dtype),
                    "U" => wrapping_type(dtype),
                    _ => suffix(dtype),
                };
            }
            "@" => text += &dialect.math(&tail[..length], dtype),
            _ => {
                // The sign of an exponent belongs to the number.
                if tail[..length].ends_with('e') {
                    length +=
                        1 + tail[length + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len() - length - 1);
                }
                text += &tail[..length];
                if dtype == DType::F32 {
                    text.push('f');
                }
            }
        }
        rest = &tail[length..];
    }
    text + rest
}
