//! C-like source for programs: C99, OpenCL C and CUDA C++ from one renderer.
//!
//! A [`Renderer`] gives the straight line of statements that computes one element ([`Renderer::body`]); a backend puts it
//! into a kernel template of its own, with its loops and strides, after [`Renderer::preamble`], which holds the types and
//! the functions that were used. [`Renderer::map`] is the simplest such template, for contiguous elements.
//!
//! The same bits everywhere: integers wrap, divisions by zero and casts follow `scalar`, f16 and bf16 are converted by one
//! integer routine, floating constants are exact, nothing is contracted or reordered (see [`Dialect::build_options`]), and
//! functions are printed from their definitions in [`super::mathematics`]. Of the language's library only what IEEE 754
//! defines is called (`fma`, `sqrt`, `fmod`, `rint`, `floor`, `ceil`, `trunc`, `fabs`, `copysign`), unless a renderer is asked
//! for the device's own functions ([`Renderer::native`]), which differ in the last places.
//!
//! The text depends on the program's instructions and name alone, and they on the structure of the expressions, not on the
//! process: it serves as the key of a cache on disk.
//!
//! Where things are: `dialect` what differs between the languages, `functions` the functions that a source brings along,
//! `primitives` the C expression of each primitive, this file the statements.

mod dialect;
mod functions;
mod primitives;

pub use dialect::{Dialect, identifier, type_name};

use super::{Instruction, Operation, Program, Register};
use crate::DType;
use functions::Function;
use std::collections::HashMap;

/// C expressions for what a program reads. Each is evaluated once, and has the stored type of its dtype ([`type_name`]):
/// f16 and bf16 as their bits, also where they are scalar arguments.
///
/// ```
/// use isograd::expr::render::Names;
/// let names = Names { inputs: vec!["x[at]".into()], ..Names::default() };
/// assert_eq!(names.index, "i");
/// ```
#[derive(Clone, Debug)]
pub struct Names {
    /// The element of each input.
    pub inputs: Vec<String>,
    /// The element that each output holds before.
    pub old: Vec<String>,
    /// Each argument of the launch.
    pub scalars: Vec<String>,
    /// The row-major number of the element, an integer.
    pub index: String,
    /// What the names of the statements' variables begin with.
    pub prefix: String,
}

impl Default for Names {
    fn default() -> Names {
        Names { inputs: vec![], old: vec![], scalars: vec![], index: "i".into(), prefix: "r".into() }
    }
}

impl Names {
    /// The names in [`Renderer::map`]: `in0[i]`, `out0[i]`, `arg0`, `i`.
    pub fn contiguous(program: &Program) -> Names {
        let list = |n: usize, name: &dyn Fn(usize) -> String| (0..n).map(name).collect();
        Names {
            inputs: list(program.inputs().len(), &|k| format!("in{k}[i]")),
            old: list(program.outputs().len(), &|k| format!("out{k}[i]")),
            scalars: list(program.scalars().len(), &|k| format!("arg{k}")),
            ..Names::default()
        }
    }
}

/// The statements that compute one element, and the C expressions of its outputs.
#[derive(Clone, Debug)]
pub struct Body {
    /// Declarations of constants, one a line, not indented.
    pub statements: String,
    /// Each output in the dtype that it is computed in: what a reduction accumulates.
    pub computed: Vec<String>,
    /// Each output rounded to the dtype that it is stored in.
    pub stored: Vec<String>,
}

/// Renders programs to one source, and remembers which functions they need.
///
/// ```
/// use isograd::{DType, expr::{Expr, Program, render::{Dialect, Names, Renderer}}};
/// let x = Expr::input(0, DType::F32);
/// let swish = Program::new("swish", &[&x * &x.sigmoid()], &[DType::F32], &[]).unwrap();
/// let mut renderer = Renderer::new(Dialect::OpenCl);
/// let body = renderer.body(&swish, &Names::contiguous(&swish));
/// assert_eq!(body.statements, "\
/// const ig_f32 r0 = in0[i];
/// const ig_f32 r1 = ig_sigmoid_f32(r0);
/// const ig_f32 r2 = r0 * r1;
/// ");
/// assert_eq!(body.stored, ["r2"]);
/// assert!(renderer.preamble().contains("ig_sigmoid_f32(ig_f32 x)"));
/// ```
#[derive(Clone, Debug)]
pub struct Renderer {
    dialect: Dialect,
    functions: Vec<Function>,
    /// Names and sources of mathematical functions, each after those that it calls.
    mathematics: Vec<(String, String)>,
    f64: bool,
    native: bool,
}

impl Renderer {
    /// A renderer that has used nothing yet.
    pub fn new(dialect: Dialect) -> Renderer {
        Renderer { dialect, functions: vec![], mathematics: vec![], f64: false, native: false }
    }

    /// Whether to call the language's own functions instead of printing their definitions: faster on some devices, and the
    /// only way on those without f64, but not the same bits as elsewhere.
    ///
    /// ```
    /// use isograd::{DType, expr::{Unary, render::{Dialect, Renderer}}};
    /// let exp = |native| Renderer::new(Dialect::C).native(native).unary(Unary::Exp, DType::F32, "x");
    /// assert_eq!((exp(false), exp(true)), ("ig_exp_f32(x)".into(), "expf(x)".into()));
    /// ```
    #[must_use]
    pub fn native(mut self, native: bool) -> Renderer {
        self.native = native;
        self
    }

    /// The language.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What must stand before everything rendered so far: [`Dialect::prologue`] and the functions used.
    pub fn preamble(&self) -> String {
        let mut text = self.dialect.prologue(self.f64);
        for &f in &self.functions {
            text += &functions::definition(self.dialect, f);
            text.push('\n');
        }
        for (_, source) in &self.mathematics {
            text += source;
        }
        text
    }

    /// The statements of `program`, reading what `names` gives.
    ///
    /// # Panics
    /// Panics when `names` lacks something that the program reads.
    pub fn body(&mut self, program: &Program, names: &Names) -> Body {
        let dtypes = program.inputs().iter().chain(program.scalars()).chain(program.outputs().iter().map(|(_, d)| d));
        self.f64 |= dtypes.chain(program.instructions().iter().map(|i| &i.dtype)).any(|d| *d == DType::F64);
        let mut statements = String::new();
        let mut words: HashMap<(Register, Register), String> = HashMap::new();
        let at = |r: Register| format!("{}{r}", names.prefix);
        let dtype_of = |r: Register| program.instructions()[r as usize].dtype;
        for (r, &Instruction { operation, dtype }) in program.instructions().iter().enumerate() {
            let r = r as Register;
            let value = match operation {
                Operation::Input(k) => self.load(program.inputs()[k as usize], &names.inputs[k as usize]),
                Operation::Old(k) => self.load(program.outputs()[k as usize].1, &names.old[k as usize]),
                Operation::Scalar(k) => self.load(program.scalars()[k as usize], &names.scalars[k as usize]),
                Operation::Const(v) => self.constant(v),
                Operation::Index => format!("(ig_i64)({})", names.index),
                Operation::Random { word, seed, index } => {
                    // The four words of one counter come from one call.
                    let words = words.entry((seed, index)).or_insert_with(|| {
                        let call = self.call(("philox", DType::I64), &[&at(seed), &at(index)]);
                        statements += &format!("const ig_philox_words {}w = {call};\n", at(r));
                        at(r) + "w"
                    });
                    format!("(ig_i64){words}.word{word}")
                }
                Operation::Unary(op, x) => self.unary(op, dtype, &at(x)),
                Operation::Binary(op, a, b) => self.binary(op, dtype_of(a), &at(a), &at(b)),
                Operation::MulAdd(a, b, c) => self.mul_add(dtype, &at(a), &at(b), &at(c)),
                Operation::Select(c, a, b) => format!("{} ? {} : {}", at(c), at(a), at(b)),
                Operation::Convert(x) => self.convert(dtype_of(x), dtype, &at(x)),
                Operation::Round(to, x) => {
                    let rounded = self.store(to, &at(x));
                    self.load(to, &rounded)
                }
                Operation::Bitcast(x) => self.bitcast(dtype_of(x), dtype, &at(x)),
            };
            statements += &format!("const {} {} = {value};\n", type_name(dtype), at(r));
        }
        let computed: Vec<String> = program.outputs().iter().map(|(r, _)| at(*r)).collect();
        let stored = program.outputs().iter().zip(&computed).map(|((_, d), c)| self.store(*d, c)).collect();
        Body { statements, computed, stored }
    }

    /// A whole kernel on `n` contiguous elements, called [`identifier`] of the program's name: a C function, or a kernel
    /// with one work item or thread per element. It takes `n` (i64), the inputs, the outputs, and the arguments.
    ///
    /// ```
    /// use isograd::{DType, expr::{Expr, Program, render::{Dialect, Renderer}}};
    /// let x = Expr::input(0, DType::I32);
    /// let p = Program::new("double", &[&x + &x], &[DType::I32], &[]).unwrap();
    /// let kernel = Renderer::new(Dialect::Cuda).map(&p);
    /// assert!(kernel.starts_with("extern \"C\" __global__ void isograd_double(ig_i64 n, const ig_i32 *in0, ig_i32 *out0) {"));
    /// ```
    pub fn map(&mut self, program: &Program) -> String {
        let body = self.body(program, &Names::contiguous(program));
        let (kind, space, each) = match self.dialect {
            Dialect::C => ("void", "", "for (ig_i64 i = 0; i < n; i++) {"),
            Dialect::OpenCl => {
                ("__kernel void", "__global ", "const ig_i64 i = (ig_i64)get_global_id(0);\n    if (i < n) {")
            }
            Dialect::Cuda => (
                "extern \"C\" __global__ void",
                "",
                "const ig_i64 i = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;\n    if (i < n) {",
            ),
        };
        let mut parameters = vec!["ig_i64 n".to_string()];
        let mut unused = String::new();
        for (k, d) in program.inputs().iter().enumerate() {
            parameters.push(format!("{space}const {} *in{k}", type_name(*d)));
            if !program.instructions().iter().any(|i| i.operation == Operation::Input(k as u8)) {
                unused += &format!("    (void)in{k};\n");
            }
        }
        parameters.extend(
            program.outputs().iter().enumerate().map(|(k, (_, d))| format!("{space}{} *out{k}", type_name(*d))),
        );
        for (k, d) in program.scalars().iter().enumerate() {
            parameters.push(format!("const {} arg{k}", type_name(*d)));
            if !program.instructions().iter().any(|i| i.operation == Operation::Scalar(k as u8)) {
                unused += &format!("    (void)arg{k};\n");
            }
        }
        let mut text =
            format!("{kind} {}({}) {{\n{unused}    {each}\n", identifier(program.name()), parameters.join(", "));
        for line in body.statements.lines() {
            text += &format!("        {line}\n");
        }
        for (k, value) in body.stored.iter().enumerate() {
            text += &format!("        out{k}[i] = {value};\n");
        }
        text + "    }\n}\n"
    }

    fn call(&mut self, function: Function, arguments: &[&str]) -> String {
        self.need(function);
        format!("{}({})", functions::name(function), arguments.join(", "))
    }

    /// Prints `program` as a function of its inputs, after `first`, and remembers it as `name`.
    fn define(&mut self, name: &str, first: &str, program: &Program) {
        let inputs = ["x", "y"][..program.inputs().len()].iter().map(|x| x.to_string()).collect();
        let body = self.body(program, &Names { inputs, ..Names::default() });
        let (_, result) = program.outputs()[0];
        let parameters: Vec<String> =
            program.inputs().iter().zip(["x", "y"]).map(|(d, x)| format!("{} {x}", type_name(*d))).collect();
        let mut text = format!("IG_FN {} {name}({}) {{\n{first}", type_name(result), parameters.join(", "));
        for line in body.statements.lines() {
            text += &format!("    {line}\n");
        }
        text += &format!("    return {};\n}}\n", body.computed[0]);
        self.mathematics.push((name.to_string(), text));
    }

    fn need(&mut self, function: Function) {
        if !self.functions.contains(&function) {
            functions::dependencies(function).into_iter().for_each(|f| self.need(f));
            self.functions.push(function);
        }
    }
}

/// The whole source of [`Renderer::map`] for one program: preamble and kernel.
///
/// ```
/// use isograd::{DType, expr::{Expr, Program, render::{Dialect, source}}};
/// let p = Program::new("exp", &[Expr::input(0, DType::F32).exp()], &[DType::F32], &[]).unwrap();
/// assert!(source(&p, Dialect::C).contains("ig_exp_f32(r0)"));
/// ```
pub fn source(program: &Program, dialect: Dialect) -> String {
    let mut renderer = Renderer::new(dialect);
    let kernel = renderer.map(program);
    renderer.preamble() + &kernel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;

    fn program(name: &str, roots: &[Expr], inputs: &[DType], scalars: &[DType]) -> std::sync::Arc<Program> {
        Program::new(name, roots, inputs, scalars).unwrap()
    }

    #[test]
    fn each_dialect_has_its_own_kernel_and_function_names() {
        let (x, s) = (Expr::input(0, DType::F32), Expr::scalar(0, DType::F32));
        let p = program("a*exp(x)", &[&s * &x.exp()], &[DType::F32], &[DType::F32]);
        let kernel = |d| Renderer::new(d).map(&p);
        assert_eq!(
            kernel(Dialect::C),
            "void isograd_a_exp_x_(ig_i64 n, const ig_f32 *in0, ig_f32 *out0, const ig_f32 arg0) {
    for (ig_i64 i = 0; i < n; i++) {
        const ig_f32 r0 = arg0;
        const ig_f32 r1 = in0[i];
        const ig_f32 r2 = ig_exp_f32(r1);
        const ig_f32 r3 = r0 * r2;
        out0[i] = r3;
    }
}
"
        );
        assert_eq!(
            kernel(Dialect::OpenCl),
            "__kernel void isograd_a_exp_x_(ig_i64 n, __global const ig_f32 *in0, __global ig_f32 *out0, const ig_f32 arg0) {
    const ig_i64 i = (ig_i64)get_global_id(0);
    if (i < n) {
        const ig_f32 r0 = arg0;
        const ig_f32 r1 = in0[i];
        const ig_f32 r2 = ig_exp_f32(r1);
        const ig_f32 r3 = r0 * r2;
        out0[i] = r3;
    }
}
"
        );
        assert_eq!(
            kernel(Dialect::Cuda),
            "extern \"C\" __global__ void isograd_a_exp_x_(ig_i64 n, const ig_f32 *in0, ig_f32 *out0, const ig_f32 arg0) {
    const ig_i64 i = (ig_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        const ig_f32 r0 = arg0;
        const ig_f32 r1 = in0[i];
        const ig_f32 r2 = ig_exp_f32(r1);
        const ig_f32 r3 = r0 * r2;
        out0[i] = r3;
    }
}
"
        );
    }

    #[test]
    fn a_source_holds_what_it_uses_and_nothing_else() {
        let x = Expr::input(0, DType::F16);
        let p = program("relu", &[x.relu()], &[DType::F16], &[]);
        for dialect in Dialect::ALL {
            let text = source(&p, dialect);
            let defined = text.lines().filter(|l| l.starts_with("IG_FN")).map(|l| l.split(['(', ' ']).nth(2).unwrap());
            let expected = ["ig_from_bits_f32", "ig_to_bits_f32", "ig_load_f16", "ig_relu_f32", "ig_store_f16"];
            assert_eq!(defined.collect::<Vec<_>>(), expected, "{dialect:?}");
            assert!(!text.contains("double"), "{text}");
        }
        let wide = program("wide", &[Expr::input(0, DType::F64)], &[DType::F64], &[]);
        assert!(source(&wide, Dialect::OpenCl).contains("#pragma OPENCL EXTENSION cl_khr_fp64 : enable"));
    }

    #[test]
    fn the_words_of_one_counter_come_from_one_call() {
        let (seed, index) = (Expr::scalar(0, DType::I64), Expr::index());
        let bits = |w| Expr::random_bits(&seed, &index, w);
        let p = program("random", &[bits(0), bits(3)], &[], &[DType::I64]);
        let mut renderer = Renderer::new(Dialect::C);
        let names = Names { scalars: vec!["seed".into()], index: "at".into(), prefix: "v".into(), ..Names::default() };
        let body = renderer.body(&p, &names);
        assert_eq!(body.statements.matches("ig_philox_i64(v0, v1)").count(), 1, "{}", body.statements);
        assert!(body.statements.contains("const ig_i64 v1 = (ig_i64)(at);"), "{}", body.statements);
        assert_eq!(body.computed, body.stored);
        assert!(renderer.preamble().contains("ig_u64"));
    }

    #[test]
    fn outputs_are_given_computed_and_stored() {
        let x = Expr::input(0, DType::BF16);
        let p = program("twice", &[&x + &x], &[DType::BF16], &[]);
        let body = Renderer::new(Dialect::C).body(&p, &Names::contiguous(&p));
        assert_eq!((body.computed, body.stored), (vec!["r1".to_string()], vec!["ig_store_bf16(r1)".to_string()]));
    }

    #[test]
    fn the_text_depends_on_structure_alone() {
        let render = |build: &dyn Fn() -> Expr| {
            let p = program("f", &[build()], &[DType::F32; 2], &[]);
            (p.id(), source(&p, Dialect::Cuda))
        };
        let input = |k| Expr::input(k, DType::F32);
        let first = render(&|| input(0).cbrt() * input(1).asinh());
        let second = render(&|| {
            let y = input(1).asinh();
            y * input(0).cbrt()
        });
        assert_ne!(first.0, second.0);
        assert_eq!(first.1, second.1);
    }
}
