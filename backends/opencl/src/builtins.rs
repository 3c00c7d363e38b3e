//! What makes PoCL compile fast. It reads 18,000 lines of declarations before each program, five sixths of a build of
//! kernels as small as these. The macro that guards those lines is defined instead, and the functions that kernels here
//! call are declared (types and constants it declares elsewhere). A program that does not build so is built in the ordinary
//! way: another version of PoCL may arrange its headers otherwise.
//!
//! A kernel that calls another built-in function needs it here too, or builds slowly; `every_kernel_builds_fast` notices.

use crate::platform::Description;
use std::fmt::Write;

/// The guard of PoCL's declarations.
pub(crate) const OPTION: &str = "-D_OPENCL_H_";

/// Whether `facts` is about a device of PoCL.
pub(crate) fn is_pocl(facts: &Description) -> bool {
    facts.platform == "Portable Computing Language"
}

/// Functions of one floating argument.
const UNARY: &str = "fabs sqrt cbrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh \
                     atanh erf floor ceil trunc rint";

/// Functions of two.
const BINARY: &str = "pow fmod hypot atan2 copysign fmax fmin";

/// The declarations that take the place of PoCL's.
pub(crate) fn declarations(facts: &Description) -> String {
    const PURE: &str = "__attribute__((overloadable, const))";
    let mut text = String::from(
        "#define as_int(x) __builtin_astype((x), int)
#define as_uint(x) __builtin_astype((x), uint)
#define as_float(x) __builtin_astype((x), float)
#define as_long(x) __builtin_astype((x), long)
#define as_ulong(x) __builtin_astype((x), ulong)
#define as_double(x) __builtin_astype((x), double)
void __attribute__((overloadable, convergent)) barrier(uint);
int __attribute__((overloadable)) atomic_cmpxchg(volatile __global int *, int, int);\n",
    );
    for name in ["global_id", "local_id", "group_id", "global_size", "local_size", "num_groups"] {
        writeln!(text, "size_t {PURE} get_{name}(uint);").unwrap();
    }
    for ty in ["int", "uint", "long", "ulong"] {
        for name in ["min", "max", "mul_hi"] {
            writeln!(text, "{ty} {PURE} {name}({ty}, {ty});").unwrap();
        }
    }
    if facts.double {
        text += "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n";
    }
    for ty in if facts.double { &["float", "double"][..] } else { &["float"] } {
        UNARY.split_whitespace().for_each(|name| writeln!(text, "{ty} {PURE} {name}({ty});").unwrap());
        BINARY.split_whitespace().for_each(|name| writeln!(text, "{ty} {PURE} {name}({ty}, {ty});").unwrap());
        writeln!(text, "{ty} {PURE} fma({ty}, {ty}, {ty});").unwrap();
        for n in [2, 4, 8, 16] {
            writeln!(text, "{ty}{n} {PURE} fma({ty}{n}, {ty}{n}, {ty}{n});").unwrap();
            for space in ["__global", "__private"] {
                writeln!(
                    text,
                    "{ty}{n} __attribute__((overloadable, pure)) vload{n}(size_t, const {space} {ty} *);
void __attribute__((overloadable)) vstore{n}({ty}{n}, size_t, {space} {ty} *);"
                )
                .unwrap();
            }
        }
    }
    text
}
