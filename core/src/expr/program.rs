//! The compiled form of one or more expressions: a straight line of instructions, what backends run or render.

use super::{
    Binary, Expr, Kind, Unary,
    mathematics::{Part, binary_program, unary_program},
    scalar,
};
use crate::{DType, Error, Result, Value};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// The number of an instruction, whose result it names.
pub type Register = u32;

/// What an instruction does. Arguments are earlier instructions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Operation {
    /// Loads the element of input `k`, widened to this instruction's dtype where it is f16 or bf16.
    Input(u8),
    /// Loads the old element of output `k`, widened likewise.
    Old(u8),
    /// Loads argument `k` of the launch.
    Scalar(u8),
    /// A constant of this instruction's dtype.
    Const(Value),
    /// The row-major number of the element (i64).
    Index,
    /// A word of Philox 4x32-10, as an i64 in `0..2^32`.
    Random {
        /// Which of the four words.
        word: u8,
        /// The key.
        seed: Register,
        /// The counter.
        index: Register,
    },
    /// A primitive of one argument.
    Unary(Unary, Register),
    /// A primitive of two arguments of one dtype; this instruction's dtype is bool for comparisons.
    Binary(Binary, Register, Register),
    /// The product of the first two plus the third, rounded once.
    MulAdd(Register, Register, Register),
    /// The second where the first (bool) is true, else the third.
    Select(Register, Register, Register),
    /// Converts to this instruction's dtype by the rules of [`Value::cast`].
    Convert(Register),
    /// Rounds an f32 to what f16 or bf16 can hold, staying f32.
    Round(DType, Register),
    /// The same bits in this instruction's dtype.
    Bitcast(Register),
}

/// One step of a [`Program`]. Its dtype is one that is computed in: never f16 or bf16.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Instruction {
    /// What to do.
    pub operation: Operation,
    /// The dtype of the result.
    pub dtype: DType,
}

/// Expressions compiled to a straight line of instructions, in which each value is computed once.
///
/// f16 and bf16 are widened to f32 where they are loaded, computed in f32, and rounded where they are stored or where the
/// expression casts to them. Equal programs of one name are one (`id` tells), so a backend caches what it compiles by [`Program::id`].
pub struct Program {
    id: u64,
    name: String,
    roots: Vec<Expr>,
    instructions: Vec<Instruction>,
    outputs: SmallVec<[(Register, DType); 2]>,
    inputs: SmallVec<[DType; 4]>,
    scalars: SmallVec<[DType; 4]>,
    old: SmallVec<[bool; 2]>,
    last_use: Vec<Register>,
    /// What `host` keeps for this program.
    pub(crate) plan: OnceLock<crate::host::Plan>,
    lowered: OnceLock<Arc<Program>>,
}

type ProgramKey = (String, Vec<u64>, Vec<DType>, Vec<DType>);
static PROGRAMS: Mutex<Option<HashMap<ProgramKey, Weak<Program>>>> = Mutex::new(None);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Program {
    /// Compiles `roots`, one per output. `inputs` and `scalars` are the dtypes of the inputs and of the launch arguments;
    /// the expressions need not use all of them. `name` appears in errors, profiles and rendered source.
    ///
    /// # Errors
    /// [`Error::InvalidExpr`] when an expression is ill-typed, or reads an input, argument or output that is not there or
    /// has another dtype.
    pub fn new(name: &str, roots: &[Expr], inputs: &[DType], scalars: &[DType]) -> Result<Arc<Program>> {
        let key: ProgramKey =
            (name.to_string(), roots.iter().map(Expr::id).collect(), inputs.to_vec(), scalars.to_vec());
        let mut guard = PROGRAMS.lock().unwrap_or_else(|e| e.into_inner());
        let programs = guard.get_or_insert_default();
        if let Some(p) = programs.get(&key).and_then(Weak::upgrade) {
            return Ok(p);
        }
        let program = Arc::new(Program::compile(name, roots, inputs, scalars)?);
        if programs.len() > 4096 {
            programs.retain(|_, p| p.strong_count() > 0);
        }
        programs.insert(key, Arc::downgrade(&program));
        Ok(program)
    }

    fn compile(name: &str, roots: &[Expr], inputs: &[DType], scalars: &[DType]) -> Result<Program> {
        let fail = |why: String| Error::InvalidExpr { op: name.to_string(), why };
        let mut instructions: Vec<Instruction> = Vec::new();
        let mut register: HashMap<u64, Register> = HashMap::new();
        let mut old: SmallVec<[bool; 2]> = smallvec::smallvec![false; roots.len()];
        for e in Expr::topological(roots) {
            let at = |x: &Expr| register[&x.id()];
            let given = |what: &str, k: u8, given: Option<DType>| match given {
                Some(d) if d == e.dtype() => Ok(()),
                Some(d) => Err(fail(format!("{what} {k} is {d}, but the expression reads it as {}", e.dtype()))),
                None => Err(fail(format!("the expression reads {what} {k}, which is not there"))),
            };
            let operation = match e.kind() {
                Kind::Input(k) => {
                    given("input", *k, inputs.get(*k as usize).copied())?;
                    Operation::Input(*k)
                }
                Kind::Old(k) => {
                    given("output", *k, roots.get(*k as usize).map(Expr::dtype))?;
                    old[*k as usize] = true;
                    Operation::Old(*k)
                }
                Kind::Scalar(k) => {
                    given("argument", *k, scalars.get(*k as usize).copied())?;
                    Operation::Scalar(*k)
                }
                Kind::Const(v) => Operation::Const(v.cast(v.dtype().compute())),
                Kind::Index => Operation::Index,
                Kind::Random { word, seed, index } => {
                    Operation::Random { word: *word, seed: at(seed), index: at(index) }
                }
                Kind::Unary(op, x) => Operation::Unary(*op, at(x)),
                Kind::Binary(op, a, b) => Operation::Binary(*op, at(a), at(b)),
                Kind::MulAdd(a, b, c) => Operation::MulAdd(at(a), at(b), at(c)),
                Kind::Select(c, a, b) => Operation::Select(at(c), at(a), at(b)),
                Kind::Cast(x) => {
                    let (from, to) = (x.dtype().compute(), e.dtype().compute());
                    let mut source = at(x);
                    if from != to {
                        instructions.push(Instruction { operation: Operation::Convert(source), dtype: to });
                        source = instructions.len() as Register - 1;
                    }
                    if e.dtype() == to {
                        register.insert(e.id(), source);
                        continue;
                    }
                    Operation::Round(e.dtype(), source)
                }
                Kind::Bitcast(x) => Operation::Bitcast(at(x)),
                Kind::Invalid(why) => return Err(fail(why.to_string())),
            };
            register.insert(e.id(), instructions.len() as Register);
            instructions.push(Instruction { operation, dtype: e.dtype().compute() });
        }
        let outputs: SmallVec<[(Register, DType); 2]> = roots.iter().map(|e| (register[&e.id()], e.dtype())).collect();
        let last_use = last_uses(&instructions, &outputs);
        Ok(Program {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.to_string(),
            roots: roots.to_vec(),
            instructions,
            outputs,
            inputs: inputs.into(),
            scalars: scalars.into(),
            old,
            last_use,
            plan: OnceLock::new(),
            lowered: OnceLock::new(),
        })
    }

    /// This program with every function (`exp`, `tanh`, `pow`, ...) spelled out in basic operations, for backends that have
    /// no mathematics of their own. It gives the same bits; sines of large angles make it long.
    ///
    /// ```
    /// use isograd::{DType, expr::{Expr, Operation, Program}};
    /// let program = Program::new("e", &[Expr::input(0, DType::F32).exp()], &[DType::F32], &[]).unwrap();
    /// let lowered = program.lowered().unwrap();
    /// assert!(!lowered.instructions().iter().any(|i| matches!(i.operation, Operation::Unary(op, _) if op.is_function())));
    /// ```
    ///
    /// # Errors
    /// None for a program that was compiled.
    pub fn lowered(&self) -> Result<Arc<Program>> {
        if let Some(lowered) = self.lowered.get() {
            return Ok(lowered.clone());
        }
        let mut instructions: Vec<Instruction> = Vec::new();
        let mut moved: Vec<Register> = Vec::new();
        for instruction in &self.instructions {
            let dtype = instruction.dtype;
            let result = match instruction.operation {
                Operation::Unary(op, x) if op.is_function() => {
                    let x = moved[x as usize];
                    let near = splice(&mut instructions, &*unary_program(op, Part::Near, dtype)?, &[x]);
                    match op.near(dtype) {
                        Some(limit) => {
                            let far = splice(&mut instructions, &*unary_program(op, Part::Far, dtype)?, &[x]);
                            let mut push = |operation, dtype| {
                                instructions.push(Instruction { operation, dtype });
                                instructions.len() as Register - 1
                            };
                            let size = push(Operation::Unary(Unary::Abs, x), dtype);
                            let limit = push(Operation::Const(Value::F64(limit).cast(dtype)), dtype);
                            let beyond = push(Operation::Binary(Binary::Gt, size, limit), DType::Bool);
                            push(Operation::Select(beyond, far, near), dtype)
                        }
                        None => near,
                    }
                }
                Operation::Binary(op, a, b) if op.is_function(dtype) => {
                    let arguments = [moved[a as usize], moved[b as usize]];
                    splice(&mut instructions, &*binary_program(op, dtype)?, &arguments)
                }
                operation => {
                    instructions.push(Instruction { operation: operation.map(|r| moved[r as usize]), dtype });
                    instructions.len() as Register - 1
                }
            };
            moved.push(result);
        }
        let outputs: SmallVec<[(Register, DType); 2]> =
            self.outputs.iter().map(|&(r, dtype)| (moved[r as usize], dtype)).collect();
        let lowered = Arc::new(Program {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: self.name.clone(),
            roots: self.roots.clone(),
            last_use: last_uses(&instructions, &outputs),
            instructions,
            outputs,
            inputs: self.inputs.clone(),
            scalars: self.scalars.clone(),
            old: self.old.clone(),
            plan: OnceLock::new(),
            lowered: OnceLock::new(),
        });
        Ok(self.lowered.get_or_init(|| lowered).clone())
    }

    /// Unique to this program within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The operator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The expressions it was compiled from, one per output.
    pub fn roots(&self) -> &[Expr] {
        &self.roots
    }

    /// The instructions, arguments before results.
    #[inline]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// For each output the instruction that gives it, and the dtype that it is stored in.
    #[inline]
    pub fn outputs(&self) -> &[(Register, DType)] {
        &self.outputs
    }

    /// Dtypes of the inputs.
    #[inline]
    pub fn inputs(&self) -> &[DType] {
        &self.inputs
    }

    /// Dtypes of the launch arguments.
    #[inline]
    pub fn scalars(&self) -> &[DType] {
        &self.scalars
    }

    /// Whether a result depends on the number of its element, as random numbers do.
    pub fn reads_index(&self) -> bool {
        self.instructions.iter().any(|i| matches!(i.operation, Operation::Index))
    }

    /// For each output whether its old value is read.
    pub fn reads_old(&self) -> &[bool] {
        &self.old
    }

    /// For each instruction the last one that reads its result (itself where none does, one past the end for outputs).
    pub fn last_use(&self) -> &[Register] {
        &self.last_use
    }
}

/// For each instruction the last that reads it; see [`Program::last_use`].
fn last_uses(instructions: &[Instruction], outputs: &[(Register, DType)]) -> Vec<Register> {
    let mut last_use: Vec<Register> = (0..instructions.len() as Register).collect();
    for (i, instruction) in instructions.iter().enumerate() {
        for r in instruction.operation.arguments() {
            last_use[r as usize] = i as Register;
        }
    }
    for (r, _) in outputs {
        last_use[*r as usize] = instructions.len() as Register;
    }
    last_use
}

/// Appends the instructions of `function`, whose inputs are the registers `arguments`; gives its result.
fn splice(instructions: &mut Vec<Instruction>, function: &Program, arguments: &[Register]) -> Register {
    let mut moved: Vec<Register> = Vec::with_capacity(function.instructions.len());
    for instruction in &function.instructions {
        if let Operation::Input(k) = instruction.operation {
            moved.push(arguments[k as usize]);
            continue;
        }
        let operation = instruction.operation.map(|r| moved[r as usize]);
        moved.push(instructions.len() as Register);
        instructions.push(Instruction { operation, dtype: instruction.dtype });
    }
    moved[function.outputs[0].0 as usize]
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.id)?;
        f.debug_list().entries(&self.roots).finish()
    }
}

impl Operation {
    /// The same with other registers.
    fn map(self, at: impl Fn(Register) -> Register) -> Operation {
        match self {
            Operation::Random { word, seed, index } => Operation::Random { word, seed: at(seed), index: at(index) },
            Operation::Unary(op, x) => Operation::Unary(op, at(x)),
            Operation::Binary(op, a, b) => Operation::Binary(op, at(a), at(b)),
            Operation::MulAdd(a, b, c) => Operation::MulAdd(at(a), at(b), at(c)),
            Operation::Select(c, a, b) => Operation::Select(at(c), at(a), at(b)),
            Operation::Convert(x) => Operation::Convert(at(x)),
            Operation::Round(to, x) => Operation::Round(to, at(x)),
            Operation::Bitcast(x) => Operation::Bitcast(at(x)),
            Operation::Input(_) | Operation::Old(_) | Operation::Scalar(_) | Operation::Const(_) | Operation::Index => {
                self
            }
        }
    }

    /// The instructions that this one reads.
    pub fn arguments(&self) -> SmallVec<[Register; 3]> {
        match *self {
            Operation::Random { seed, index, .. } => SmallVec::from_slice(&[seed, index]),
            Operation::Unary(_, x) | Operation::Convert(x) | Operation::Round(_, x) | Operation::Bitcast(x) => {
                SmallVec::from_slice(&[x])
            }
            Operation::Binary(_, a, b) => SmallVec::from_slice(&[a, b]),
            Operation::Select(a, b, c) | Operation::MulAdd(a, b, c) => SmallVec::from_slice(&[a, b, c]),
            _ => SmallVec::new(),
        }
    }
}

/// A program together with the arguments of one launch.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// The program.
    pub program: &'a Program,
    /// One value per entry of [`Program::scalars`], of that dtype.
    pub scalars: &'a [Value],
}

impl<'a> Kernel<'a> {
    /// A launch of `program` with `scalars`.
    ///
    /// # Panics
    /// Panics when number or dtypes of `scalars` are not those of the program.
    #[inline]
    pub fn new(program: &'a Program, scalars: &'a [Value]) -> Kernel<'a> {
        assert!(
            scalars.iter().map(|v| v.dtype()).eq(program.scalars.iter().copied()),
            "kernel {} takes arguments {:?}, got {scalars:?}",
            program.name,
            program.scalars
        );
        Kernel { program, scalars }
    }

    /// Evaluates one element, the slow way; see [`Evaluator`] for many.
    pub fn evaluate(&self, index: usize, inputs: &[Value], old: &[Value]) -> SmallVec<[Value; 2]> {
        let mut e = self.evaluator();
        e.run(index, inputs, old);
        (0..self.program.outputs.len()).map(|k| e.output(k)).collect()
    }

    /// An evaluator of single elements.
    pub fn evaluator(&self) -> Evaluator<'a> {
        Evaluator { kernel: *self, values: Vec::with_capacity(self.program.instructions.len()) }
    }
}

/// Evaluates a kernel element by element: the plainest implementation there is, used by the reference backend.
///
/// ```
/// use isograd::{DType, Value, expr::{Expr, Kernel, Program}};
/// let x = Expr::input(0, DType::F32);
/// let program = Program::new("twice", &[&x + &x], &[DType::F32], &[]).unwrap();
/// let mut evaluator = Kernel::new(&program, &[]).evaluator();
/// evaluator.run(0, &[Value::F32(1.5)], &[]);
/// assert_eq!(evaluator.output(0), Value::F32(3.0));
/// ```
#[derive(Debug)]
pub struct Evaluator<'a> {
    kernel: Kernel<'a>,
    values: Vec<Value>,
}

impl Evaluator<'_> {
    /// Computes every instruction for the element with row-major number `index`, given the elements of the inputs and, for
    /// programs that read them, the old elements of the outputs.
    pub fn run(&mut self, index: usize, inputs: &[Value], old: &[Value]) {
        let Kernel { program, scalars } = self.kernel;
        self.values.clear();
        for instruction in &program.instructions {
            let at = |r: Register| self.values[r as usize];
            let dtype = instruction.dtype;
            let value = match instruction.operation {
                Operation::Input(k) => inputs[k as usize].cast(dtype),
                Operation::Old(k) => old[k as usize].cast(dtype),
                Operation::Scalar(k) => scalars[k as usize].cast(dtype),
                Operation::Const(v) => v,
                Operation::Index => Value::I64(index as i64),
                Operation::Random { word, seed, index } => {
                    let words = scalar::philox(at(seed).to_i64() as u64, at(index).to_i64() as u64);
                    Value::I64(words[word as usize] as i64)
                }
                Operation::Unary(op, x) => scalar::unary(op, at(x)),
                Operation::Binary(op, a, b) => scalar::binary(op, at(a), at(b)),
                Operation::MulAdd(a, b, c) => scalar::mul_add(at(a), at(b), at(c)),
                Operation::Select(c, a, b) => {
                    if at(c).to_bool() {
                        at(a)
                    } else {
                        at(b)
                    }
                }
                Operation::Convert(x) => at(x).cast(dtype),
                Operation::Round(to, x) => at(x).cast(to).cast(dtype),
                Operation::Bitcast(x) => scalar::bitcast(at(x), dtype),
            };
            self.values.push(value);
        }
    }

    /// The dtype that output `k` is computed in.
    pub fn dtype(&self, k: usize) -> DType {
        let program = self.kernel.program;
        program.instructions[program.outputs[k].0 as usize].dtype
    }

    /// Output `k` in the dtype that it is computed in: what a reduction accumulates.
    pub fn computed(&self, k: usize) -> Value {
        self.values[self.kernel.program.outputs[k].0 as usize]
    }

    /// Output `k` rounded to the dtype that it is stored in.
    pub fn output(&self, k: usize) -> Value {
        self.computed(k).cast(self.kernel.program.outputs[k].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_programs_are_one() {
        let x = Expr::input(0, DType::F32);
        let p = Program::new("a", &[x.exp()], &[DType::F32], &[]).unwrap();
        let q = Program::new("a", &[x.exp()], &[DType::F32], &[]).unwrap();
        assert_eq!(p.id(), q.id());
        let r = Program::new("a", &[x.exp()], &[DType::F32, DType::F32], &[]).unwrap();
        assert_ne!(p.id(), r.id());
    }

    #[test]
    fn half_precision_rounds_where_it_is_stored_or_cast() {
        let x = Expr::input(0, DType::F16);
        // 1 + 2^-11 needs more bits than f16 has: kept in between, lost by the cast.
        let tiny = x.like(2f64.powi(-11));
        let kept = (&x + &tiny) - &x;
        let lost = (&x + &tiny).cast(DType::F32).cast(DType::F16) - &x;
        let one = [Value::F16(half::f16::ONE)];
        let run = |e: &Expr| {
            let p = Program::new("t", std::slice::from_ref(e), &[DType::F16], &[]).unwrap();
            Kernel::new(&p, &[]).evaluate(0, &one, &[])[0].to_f64()
        };
        assert_eq!(run(&kept), 2f64.powi(-11));
        assert_eq!(run(&lost), 0.0);
    }

    #[test]
    fn what_is_missing_or_ill_typed_is_named() {
        let x = Expr::input(1, DType::F32);
        for (roots, inputs, word) in [
            (x.clone(), vec![DType::F32], "input 1, which is not there"),
            (x.clone(), vec![DType::F32, DType::F64], "input 1 is float64"),
            (Expr::scalar(0, DType::F32), vec![], "argument 0"),
            (Expr::old(0, DType::F32).cast(DType::F64), vec![], "output 0 is float64"),
            (x.cast(DType::I32).exp(), vec![], "exp is not defined on int32"),
        ] {
            let error = Program::new("mine", &[roots], &inputs, &[]).unwrap_err();
            assert!(error.to_string().contains(word) && error.to_string().contains("mine"), "{error}");
        }
    }
}
