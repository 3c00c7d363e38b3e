//! The sources of kernels: what the renderer gives, the variant's definitions, and the text in `kernels/`.
//!
//! To add a kernel: its text in `kernels/`, behind an `#ifdef`; a function here or in the file that launches it,
//! which makes the [`Source`] of a variant; and the variant in `variants`, which the tests compile.

use isograd_core::{
    DType, ReduceOp, Value,
    expr::{
        Binary, Unary,
        render::{Dialect, Renderer, type_name},
    },
};
use std::fmt::Write;

/// Threads of a block, of every kernel.
pub(crate) const THREADS: u32 = 256;

/// The text that stands before every kernel.
const COMMON: &str = include_str!("kernels/common.cu");

/// A source under construction.
#[derive(Debug)]
pub(crate) struct Source {
    /// The kernel's name.
    pub name: &'static str,
    pub renderer: Renderer,
    text: String,
}

/// The sixteen partial results of a block of terms folded into the first: each of 16 / V threads that follow one another holds
/// V of them. All threads of the warp must call it.
const BLOCK_FOLD: &str = "template <int V>
IG_FN void ig_block_fold(Computed (&x)[V]) {
#pragma unroll
    for (int width = 8; width > 0; width /= 2) {
        if (width >= V) {
#pragma unroll
            for (int k = 0; k < V; k++) x[k] = ig_combine(x[k], ig_across(x[k], width / V));
        } else {
#pragma unroll
            for (int k = 0; k < width; k++) x[k] = ig_combine(x[k], x[k + width]);
        }
    }
}
";

impl Source {
    pub fn new(name: &'static str) -> Source {
        Source { name, renderer: Renderer::new(Dialect::Cuda), text: String::new() }
    }

    /// `#define name value`.
    pub fn define(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Source {
        let _ = writeln!(self.text, "#define {name} {value}");
        self
    }

    /// Adds text as it is.
    pub fn text(&mut self, text: &str) -> &mut Source {
        self.text += text;
        self
    }

    fn function(&mut self, result: &str, name: &str, parameters: &str, value: &str) {
        let _ = writeln!(self.text, "IG_FN {result} {name}({parameters}) {{ return {value}; }}");
    }

    /// The types `Stored` and `Computed` of `dtype`, and what the kernels do with them.
    pub fn element(&mut self, dtype: DType) -> &mut Source {
        let c = dtype.compute();
        // The types' names are in the prologue once something of the dtype is rendered; f64 must be asked for.
        if c == DType::F64 {
            let program = isograd_core::expr::Program::new("f64", &[isograd_core::Expr::constant(0.0f64)], &[], &[]);
            let names = isograd_core::expr::render::Names::default();
            self.renderer.body(&program.expect("a constant is a program"), &names);
        }
        let _ = writeln!(self.text, "typedef {} Stored;\ntypedef {} Computed;", type_name(dtype), type_name(c));
        let (load, store) = (self.renderer.load(dtype, "x"), self.renderer.store(dtype, "x"));
        self.function("Computed", "ig_load", "const Stored x", &load);
        self.function("Stored", "ig_store", "const Computed x", &store);
        let two = "const Computed x, const Computed y";
        // Of bools, "or".
        let add = if c == DType::Bool { Binary::Or } else { Binary::Add };
        let sum = self.renderer.binary(add, c, "x", "y");
        self.function("Computed", "ig_sum", two, &sum);
        let product = self.renderer.binary(Binary::Mul, c, "x", "y");
        self.function("Computed", "ig_product", two, &product);
        if c != DType::Bool {
            let quotient = self.renderer.binary(Binary::Div, c, "x", "y");
            self.function("Computed", "ig_quotient", two, &quotient);
        }
        let fused = match c {
            DType::F32 => "fmaf(x, y, z)",
            DType::F64 => "fma(x, y, z)",
            _ => "ig_sum(ig_product(x, y), z)",
        };
        self.function("Computed", "ig_fused", "const Computed x, const Computed y, const Computed z", fused);
        self
    }

    /// `ig_identity` and `ig_combine` of a reduction in the dtype that `dtype` is computed in.
    pub fn reduction(&mut self, op: ReduceOp, dtype: DType) -> &mut Source {
        let c = dtype.compute();
        let identity = self.renderer.constant(op.identity(c));
        self.function(type_name(c), "ig_identity", "", &identity);
        let combined = self.renderer.binary(op.primitive(), c, "x", "y");
        let t = type_name(c);
        self.function(t, "ig_combine", &format!("const {t} x, const {t} y"), &combined);
        self.text += BLOCK_FOLD;
        self
    }

    /// The functions of softmax and normalization.
    pub fn mathematics(&mut self, dtype: DType) -> &mut Source {
        let c = dtype.compute();
        for (name, op) in
            [("ig_exponential", Unary::Exp), ("ig_logarithm", Unary::Log), ("ig_reciprocal_root", Unary::Rsqrt)]
        {
            let value = self.renderer.unary(op, c, "x");
            self.function("Computed", name, "const Computed x", &value);
        }
        let least = self.renderer.constant(Value::F64(f64::NEG_INFINITY).cast(c));
        self.function("Computed", "ig_least", "", &least);
        self
    }

    /// The whole text.
    pub fn finish(&self) -> String {
        format!("{}#define IG_THREADS {THREADS}\n{COMMON}{}", self.renderer.preamble(), self.text)
    }
}
