//! The decorator that plants a fault.

use super::table::{Fault, Method, Plant};
use isograd_core::{
    Backend, Capabilities, DType, Error, Layout, Operand, OperandMut, Pool, ReduceOp, Result, Value, Window,
    backend::composed,
    expr::{Kernel, Program},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A backend with a fault.
#[derive(Clone, Debug)]
pub struct Mutant<B> {
    inner: B,
    fault: Option<&'static Fault>,
    calls: Arc<AtomicUsize>,
}

impl<B: PartialEq> PartialEq for Mutant<B> {
    fn eq(&self, other: &Mutant<B>) -> bool {
        self.inner == other.inner && !matches!(self.plant(), Some(Plant::NeverEqual))
    }
}

impl<B> Mutant<B> {
    /// `inner` with `fault`, or as it is.
    pub fn new(inner: B, fault: Option<&'static Fault>) -> Mutant<B> {
        Mutant { inner, fault, calls: Arc::default() }
    }

    fn plant(&self) -> Option<&'static Plant> {
        self.fault.map(|f| &f.plant)
    }
}

type In<'a, B> = Operand<'a, Mutant<B>>;
type Out<'a, B> = OperandMut<'a, Mutant<B>>;

fn lower<'a, B: Backend>(o: &In<'a, B>) -> Operand<'a, B> {
    Operand::new(o.buffer, o.dtype, o.layout)
}

fn lower_mut<'a, B: Backend>(o: &'a mut Out<'_, B>) -> OperandMut<'a, B> {
    OperandMut::new(o.buffer, o.dtype, o.layout)
}

/// What a mutated layout still must do: lie within what the right one reaches.
fn safe(wrong: Option<Layout>, right: &Layout) -> Layout {
    match wrong {
        Some(l) if l.shape() == right.shape() && l.span().1 <= right.span().1 => l,
        _ => right.clone(),
    }
}

impl<B: Backend> Mutant<B> {
    fn layouts(&self, inputs: &[In<'_, B>], method: Method) -> Vec<Layout> {
        (inputs.iter().enumerate())
            .map(|(k, o)| match self.plant() {
                Some(Plant::Input(of, f)) if *of == method => safe(f(k, o.layout), o.layout),
                _ => o.layout.clone(),
            })
            .collect()
    }

    fn program(&self, program: &Program, method: Method) -> Result<Option<Arc<Program>>> {
        let Some(Plant::Expr(of, rule)) = self.plant() else { return Ok(None) };
        if *of != method {
            return Ok(None);
        }
        let roots: Vec<_> = program.roots().iter().map(|r| r.substitute(&|e| rule(e))).collect();
        if roots.as_slice() == program.roots() || roots.iter().zip(program.roots()).any(|(a, b)| a.dtype() != b.dtype())
        {
            return Ok(None);
        }
        Program::new(program.name(), &roots, program.inputs(), program.scalars()).map(Some)
    }

    /// After a kernel: elements of the output as (position, new value), given those before and after.
    fn spoil(&self, method: Method, output: &mut Out<'_, B>, before: Option<&[Value]>) -> Result<()> {
        let Some(Plant::Output(of, f)) = self.plant() else { return Ok(()) };
        if *of != method {
            return Ok(());
        }
        let after = self.read(output)?;
        let old = before.unwrap_or(&after);
        for (i, v) in f(old, &after, output.shape()) {
            self.write(output, i, v)?;
        }
        Ok(())
    }

    /// After a kernel of windows: its output is wrong for some windows.
    fn when(&self, method: Method, window: Option<&Window>, output: &mut Out<'_, B>) -> Result<()> {
        if let (Some(Plant::When(of, is, f)), Some(window)) = (self.plant(), window)
            && *of == method
            && is(window)
        {
            let after = self.read(output)?;
            for (i, v) in f(&after, &after, output.shape()) {
                self.write(output, i, v)?;
            }
        }
        Ok(())
    }

    fn before(&self, method: Method, output: &Out<'_, B>) -> Result<Option<Vec<Value>>> {
        match self.plant() {
            Some(Plant::Output(of, _)) if *of == method => self.read(output).map(Some),
            _ => Ok(None),
        }
    }

    fn read(&self, output: &Out<'_, B>) -> Result<Vec<Value>> {
        let size = output.dtype.size();
        let mut bytes = vec![0; output.layout.span().1 * size];
        self.inner.download(output.buffer, 0, &mut bytes)?;
        if output.dtype == DType::Bool {
            bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
        }
        Ok(output.layout.positions().map(|at| Value::read(output.dtype, &bytes, at)).collect())
    }

    /// Element `i`; one past the last is the position after the last.
    fn write(&self, output: &mut Out<'_, B>, i: usize, value: Value) -> Result<()> {
        let size = output.dtype.size();
        let n = output.layout.size();
        let at = if i < n { output.layout.position_of_linear(i) } else { output.layout.span().1 };
        let mut bytes = [0; 8];
        value.write(&mut bytes, 0);
        // Past the end of a tight buffer there is nothing to spoil.
        let _ = self.guarded(at, size, output.buffer, &bytes[..size]);
        Ok(())
    }

    fn guarded(&self, at: usize, size: usize, buffer: &mut B::Buffer, bytes: &[u8]) -> Result<()> {
        let run = std::panic::AssertUnwindSafe(|| self.inner.upload(bytes, buffer, at * size));
        std::panic::catch_unwind(run).unwrap_or_else(|_| Err(Error::invalid("upload", "outside")))
    }

    fn window(&self, method: Method, w: &Window) -> Window {
        match self.plant() {
            Some(Plant::Window(of, f)) if *of == method => f(w),
            _ => w.clone(),
        }
    }

    fn axis(&self, method: Method, axis: usize, rank: usize, fits: impl Fn(usize) -> bool) -> usize {
        match self.plant() {
            Some(Plant::Axis(of)) if *of == method && rank > 1 => {
                let wrong = (axis + 1) % rank;
                if fits(wrong) { wrong } else { axis }
            }
            _ => axis,
        }
    }

    /// Whether a position outside gives no error in `gather`.
    fn forgives(&self, index: i64) -> bool {
        match self.plant() {
            Some(Plant::NoRangeCheck) => true,
            Some(Plant::NoNegativeCheck) => index < 0,
            Some(Plant::NarrowPositions) => index as i32 == 0,
            _ => false,
        }
    }

    fn skips(&self, method: Method) -> bool {
        matches!(self.plant(), Some(Plant::Skip(of)) if *of == method)
    }
}

/// Methods that go to the composed default of the mutant itself, so that faults of primitives show there, unless the fault
/// is in that method.
macro_rules! provided {
    ($($method:ident $name:ident($($arg:ident: $type:ty),*; $($input:ident),*; $first:ident $(, $more:ident)*) $prepare:expr;)*) => { $(
        fn $method(&self, $($arg: $type,)* $($input: &In<'_, B>,)* $first: &mut Out<'_, B> $(, $more: &mut Out<'_, B>)*) -> Result<()> {
            let method = Method::$name;
            if self.skips(method) {
                return Ok(());
            }
            let before = self.before(method, $first)?;
            let given = [$(*$input),*];
            let layouts = self.layouts(&given, method);
            let mut which = 0;
            $(let $input = { which += 1; given[which - 1].with_layout(&layouts[which - 1]) };)*
            let _ = which;
            #[allow(clippy::redundant_closure_call)]
            let ($($arg,)*) = ($prepare)(self, $($arg),*);
            composed::$method(self, $((&$arg).into_argument(),)* $(&$input,)* $first $(, $more)*)?;
            $(self.when(method, (&$arg).window(), $first)?;)*
            self.spoil(method, $first, before.as_deref())
        }
    )* };
}

/// Arguments as the composed defaults take them: windows by reference, others by value.
trait IntoArgument<'a> {
    type Argument;
    fn into_argument(self) -> Self::Argument;
    fn window(self) -> Option<&'a Window>;
}
impl<'a> IntoArgument<'a> for &'a Window {
    type Argument = &'a Window;
    fn into_argument(self) -> &'a Window {
        self
    }
    fn window(self) -> Option<&'a Window> {
        Some(self)
    }
}
macro_rules! by_value {
    ($($type:ty),*) => { $(impl<'a> IntoArgument<'a> for &'a $type {
        type Argument = $type;
        fn into_argument(self) -> $type { *self }
        fn window(self) -> Option<&'a Window> { None }
    })* };
}
by_value!(bool, f64, ReduceOp, Pool);

impl<B: Backend> Backend for Mutant<B> {
    type Buffer = B::Buffer;

    fn name(&self) -> String {
        self.fault.map_or_else(|| "unbroken".into(), |f| f.name.to_string())
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn alloc(&self, bytes: usize) -> Result<B::Buffer> {
        match self.plant() {
            Some(Plant::Leak) if bytes < 1 << 30 => {
                let lost = self.inner.alloc(bytes)?;
                // Touched, so that it counts.
                let mut lost = lost;
                self.inner.upload(&vec![1; bytes], &mut lost, 0)?;
                std::mem::forget(lost);
                self.inner.alloc(bytes)
            }
            Some(Plant::WrongMemoryError) => {
                self.inner.alloc(bytes).map_err(|_| Error::backend(self.name(), "alloc", "failed"))
            }
            Some(Plant::PanicsOutOfMemory) => Ok(self.inner.alloc(bytes).expect("there is memory")),
            _ => self.inner.alloc(bytes),
        }
    }

    fn upload(&self, bytes: &[u8], to: &mut B::Buffer, offset: usize) -> Result<()> {
        match self.plant() {
            Some(Plant::UploadOffset) if offset > 0 => self.inner.upload(bytes, to, 0),
            Some(Plant::UploadWords) => self.inner.upload(&bytes[..bytes.len() / 4 * 4], to, offset),
            Some(Plant::UploadLimit(limit)) => self.inner.upload(&bytes[..bytes.len().min(*limit)], to, offset),
            _ => self.inner.upload(bytes, to, offset),
        }
    }

    fn download(&self, from: &B::Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        match self.plant() {
            Some(Plant::DownloadLimit(limit)) => {
                let n = bytes.len().min(*limit);
                self.inner.download(from, offset, &mut bytes[..n])
            }
            Some(Plant::DownloadOffset) => self.inner.download(from, 0, bytes),
            Some(Plant::DownloadAligned) => self.inner.download(from, offset / 8 * 8, bytes),
            _ => self.inner.download(from, offset, bytes),
        }
    }

    fn copy_from(&self, source: &Self, from: &B::Buffer, to: &mut B::Buffer, bytes: usize) -> Result<()> {
        let bytes = match self.plant() {
            Some(Plant::CopyShort) => bytes / 2,
            Some(Plant::CopyLong) => bytes + 1,
            _ => bytes,
        };
        let mut host = vec![0; bytes];
        source.download(from, 0, &mut host)?;
        self.upload(&host, to, 0)
    }

    fn map(&self, kernel: &Kernel<'_>, inputs: &[In<'_, B>], outputs: &mut [Out<'_, B>]) -> Result<()> {
        let method = Method::Map;
        if self.skips(method) && outputs[0].layout.size() > 30 {
            return Ok(());
        }
        let layouts = self.layouts(inputs, method);
        let lowered: Vec<_> = inputs.iter().zip(&layouts).map(|(o, l)| Operand::new(o.buffer, o.dtype, l)).collect();
        let before = self.before(method, &outputs[0])?;
        let program = self.program(kernel.program, method)?;
        if let Some(Plant::FirstOutputOnly) = self.plant()
            && outputs.len() > 1
            && !kernel.program.reads_old().iter().any(|r| *r)
        {
            let (program, k) = (kernel.program, &mut outputs[..1]);
            let first = Program::new(program.name(), &program.roots()[..1], program.inputs(), program.scalars())?;
            return self.inner.map(&Kernel::new(&first, kernel.scalars), &lowered, &mut [lower_mut(&mut k[0])]);
        }
        let mut scalars = kernel.scalars.to_vec();
        if let Some(Plant::Scalars(f)) = self.plant() {
            f(&mut scalars);
        }
        let kernel = Kernel::new(program.as_deref().unwrap_or(kernel.program), &scalars);
        let mut targets: Vec<_> = outputs.iter_mut().map(lower_mut).collect();
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.map(&kernel, &lowered, &mut targets)?;
        if let Some(Plant::Unrepeatable) = self.plant()
            && call % 2 == 1
            && outputs[0].dtype == DType::F32
        {
            let values = self.read(&outputs[0])?;
            let next = Value::F32(f32::from_bits(values[0].to_f32().to_bits() ^ 1));
            self.write(&mut outputs[0], 0, next)?;
        }
        if let Some(Plant::InputWritten) = self.plant() {
            // As if an input were scratch memory: the output's first element lands before its memory's others.
            let first = self.read(&outputs[0])?[0];
            let n = outputs[0].layout.size();
            self.write(&mut outputs[0], n, first)?;
        }
        self.spoil(method, &mut outputs[0], before.as_deref())
    }

    fn reduce(&self, op: ReduceOp, kernel: &Kernel<'_>, inputs: &[In<'_, B>], output: &mut Out<'_, B>) -> Result<()> {
        let method = Method::Reduce;
        let layouts = self.layouts(inputs, method);
        let op = match self.plant() {
            Some(Plant::Reduction(f)) => f(op),
            _ => op,
        };
        let mut program = self.program(kernel.program, method)?;
        if let Some(Plant::NanIgnored) = self.plant()
            && matches!(op, ReduceOp::Max | ReduceOp::Min)
            && output.dtype.is_float()
        {
            let worst = if op == ReduceOp::Max { f64::NEG_INFINITY } else { f64::INFINITY };
            let roots: Vec<_> = kernel.program.roots().iter().map(|r| r.is_nan().select(&r.like(worst), r)).collect();
            let p = kernel.program;
            program = Some(Program::new(p.name(), &roots, p.inputs(), p.scalars())?);
        }
        let kernel = Kernel::new(program.as_deref().unwrap_or(kernel.program), kernel.scalars);
        let before = self.before(method, output)?;
        let kept = output.shape().rank();
        // Fewer terms than there are.
        let last = layouts[0].rank() - 1;
        let cut: Vec<Layout> = match self.plant() {
            Some(Plant::Terms(f)) if last >= kept => {
                let n = layouts[0].shape()[last];
                layouts.iter().map(|l| l.slice(last, 0, f(n).clamp(1, n), 1)).collect()
            }
            Some(Plant::Backward) if last >= kept => {
                layouts.iter().map(|l| l.slice(last, 0, l.shape()[last].saturating_sub(1).max(1), 1)).collect()
            }
            _ => layouts,
        };
        let lowered: Vec<_> = inputs.iter().zip(&cut).map(|(o, l)| Operand::new(o.buffer, o.dtype, l)).collect();
        if let Some(Plant::NarrowSums) = self.plant()
            && op == ReduceOp::Sum
            && output.dtype.compute() != output.dtype
        {
            return self.narrow_sum(&kernel, &lowered, output);
        }
        self.inner.reduce(op, &kernel, &lowered, &mut lower_mut(output))?;
        self.spoil(method, output, before.as_deref())
    }

    fn gather(&self, axis: usize, source: &In<'_, B>, index: &In<'_, B>, output: &mut Out<'_, B>) -> Result<()> {
        let method = Method::Gather;
        let given = [*source, *index];
        let layouts = self.layouts(&given, method);
        let (shape, picked) = (source.shape(), index.shape());
        let equal =
            |a: usize| shape[a] >= picked[a] && shape.without(axis) == picked.without(axis) && shape[a] == shape[axis];
        let axis = self.axis(method, axis, shape.rank(), |a| equal(a) && picked == shape);
        let before = self.before(method, output)?;
        let (source, index) = (source.with_layout(&layouts[0]), index.with_layout(&layouts[1]));
        match self.inner.gather(axis, &lower(&source), &lower(&index), &mut lower_mut(output)) {
            Err(Error::IndexOutOfRange { index, .. }) if self.forgives(index) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.spoil(method, output, before.as_deref()),
        }
    }

    fn scatter_add(&self, axis: usize, source: &In<'_, B>, index: &In<'_, B>, output: &mut Out<'_, B>) -> Result<()> {
        let method = Method::ScatterAdd;
        let given = [*source, *index];
        let layouts = self.layouts(&given, method);
        let before = self.before(method, output)?;
        let (source, index) = (source.with_layout(&layouts[0]), index.with_layout(&layouts[1]));
        let n = index.shape()[axis];
        if let Some(Plant::Duplicates) = self.plant()
            && n > 1
        {
            // Two threads read the same place: the first's term is lost.
            let (s, i) = (source.layout.slice(axis, 1, n - 1, 1), index.layout.slice(axis, 1, n - 1, 1));
            return self.inner.scatter_add(
                axis,
                &lower(&source.with_layout(&s)),
                &lower(&index.with_layout(&i)),
                &mut lower_mut(output),
            );
        }
        if let Some(Plant::NarrowSums | Plant::NarrowScatter) = self.plant()
            && output.dtype.compute() != output.dtype
        {
            // Rounded after every term.
            for k in 0..n {
                let (s, i) = (source.layout.slice(axis, k, 1, 1), index.layout.slice(axis, k, 1, 1));
                let (s, i) = (source.with_layout(&s), index.with_layout(&i));
                self.inner.scatter_add(axis, &lower(&s), &lower(&i), &mut lower_mut(output))?;
            }
            return Ok(());
        }
        match self.inner.scatter_add(axis, &lower(&source), &lower(&index), &mut lower_mut(output)) {
            Err(Error::IndexOutOfRange { .. }) if matches!(self.plant(), Some(Plant::NoRangeCheckScatter)) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.spoil(method, output, before.as_deref()),
        }
    }

    fn synchronize(&self) -> Result<()> {
        match self.plant() {
            Some(Plant::SynchronizeFails) => Err(Error::backend(self.name(), "synchronize", "lost")),
            _ => self.inner.synchronize(),
        }
    }

    fn matmul_fused(
        &self,
        kernel: &Kernel<'_>,
        a: &In<'_, B>,
        b: &In<'_, B>,
        inputs: &[In<'_, B>],
        output: &mut Out<'_, B>,
    ) -> Result<()> {
        let method = Method::MatmulFused;
        let given: Vec<In<'_, B>> = [a, b].into_iter().chain(inputs).copied().collect();
        let layouts = self.layouts(&given, method);
        let read: Vec<In<'_, B>> = given.iter().zip(&layouts).map(|(o, l)| o.with_layout(l)).collect();
        let before = self.before(method, output)?;
        let program = self.program(kernel.program, method)?;
        let kernel = Kernel::new(program.as_deref().unwrap_or(kernel.program), kernel.scalars);
        composed::matmul_fused(self, &kernel, &read[0], &read[1], &read[2..], output)?;
        self.spoil(method, output, before.as_deref())
    }

    provided! {
        matmul Matmul(; a, b; output) |_: &Self| ();
        conv Conv(window: &Window; input, weight; output) |m: &Self, w| (m.window(Method::Conv, w),);
        conv_input_gradient ConvInputGradient(window: &Window; head, weight; output)
            |m: &Self, w| (m.window(Method::ConvInputGradient, w),);
        conv_weight_gradient ConvWeightGradient(window: &Window; input, head; output)
            |m: &Self, w| (m.window(Method::ConvWeightGradient, w),);
        pool Pool(kind: Pool, window: &Window; input; output) |m: &Self, k, w| (m.kind(k), m.window(Method::Pool, w));
        pool_gradient PoolGradient(kind: Pool, window: &Window; input, head; output)
            |m: &Self, k, w| (m.kind(k), m.window(Method::PoolGradient, w));
        softmax Softmax(logarithm: bool; input; output)
            |m: &Self, l: bool| (l != matches!(m.plant(), Some(Plant::Flip(Method::Softmax))),);
        normalize Normalize(epsilon: f64; input; output, mean, rstd)
            |m: &Self, e: f64| (if matches!(m.plant(), Some(Plant::NoEpsilon)) { 0.0 } else { e },);
        scan Scan(op: ReduceOp; input; output)
            |m: &Self, op| (if matches!(m.plant(), Some(Plant::Flip(Method::Scan))) { ReduceOp::Sum } else { op },);
        argsort Argsort(descending: bool; input; output)
            |m: &Self, d: bool| (d && !matches!(m.plant(), Some(Plant::Flip(Method::Argsort))),);
    }
}

impl<B: Backend> Mutant<B> {
    fn kind(&self, kind: Pool) -> Pool {
        match (self.plant(), kind) {
            (Some(Plant::PaddingCounted), Pool::AvgWithoutPadding) => Pool::AvgWithPadding,
            (Some(Plant::PaddingNotCounted), Pool::AvgWithPadding) => Pool::AvgWithoutPadding,
            _ => kind,
        }
    }

    /// Sums of f16 and bf16 that round after every term.
    fn narrow_sum(&self, kernel: &Kernel<'_>, inputs: &[Operand<'_, B>], output: &mut Out<'_, B>) -> Result<()> {
        let kept = output.shape().rank();
        let terms: usize = inputs[0].shape()[kept..].iter().product();
        let mut evaluator = kernel.evaluator();
        let memories: Result<Vec<Vec<u8>>> = (inputs.iter())
            .map(|o| {
                let mut bytes = vec![0; o.layout.span().1 * o.dtype.size()];
                self.inner.download(o.buffer, 0, &mut bytes)?;
                Ok(bytes)
            })
            .collect();
        let memories = memories?;
        for o in 0..output.layout.size() {
            let mut sum = Value::zero(output.dtype);
            for i in o * terms..(o + 1) * terms {
                let values: Vec<Value> = (inputs.iter().zip(&memories))
                    .map(|(x, m)| Value::read(x.dtype, m, x.layout.position_of_linear(i)))
                    .collect();
                evaluator.run(i, &values, &[]);
                sum = Value::F32(sum.to_f32() + evaluator.computed(0).to_f32()).cast(output.dtype);
            }
            self.write(output, o, sum)?;
        }
        Ok(())
    }
}
