//! A decorator that keeps what every kernel gave, so that two runs can be compared call by call: core asks every backend for
//! the same kernels in the same order, whatever each overrides.

use crate::oracle::{Cell, tapped};
use isograd_core::{
    Backend, Capabilities, DType, Operand, OperandMut, Pool, ReduceOp, Result, Value, Window, expr::Kernel,
};
use std::sync::{Arc, Mutex};

/// One output of one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kernel: String,
    pub dtype: DType,
    pub layout: String,
    pub values: Vec<Value>,
    /// What the oracle allows, where it ran.
    pub cells: Vec<Cell>,
}

/// The device, watched.
#[derive(Clone, Debug)]
pub(crate) struct Watch<B> {
    inner: B,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl<B: PartialEq> PartialEq for Watch<B> {
    fn eq(&self, other: &Watch<B>) -> bool {
        self.inner == other.inner
    }
}

type In<'a, B> = Operand<'a, Watch<B>>;
type Out<'a, B> = OperandMut<'a, Watch<B>>;

fn lower<'a, B: Backend>(o: &In<'a, B>) -> Operand<'a, B> {
    Operand::new(o.buffer, o.dtype, o.layout)
}

fn lower_mut<'a, B: Backend>(o: &'a mut Out<'_, B>) -> OperandMut<'a, B> {
    OperandMut::new(o.buffer, o.dtype, o.layout)
}

impl<B: Backend> Watch<B> {
    pub fn new(inner: B) -> Watch<B> {
        Watch { inner, entries: Arc::default() }
    }

    /// How many outputs there were so far.
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(|e| e.into_inner()).len()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn keep(&self, kernel: &str, output: &Out<'_, B>) -> Result<()> {
        let n = output.layout.span().1;
        let mut bytes = vec![0; n * output.dtype.size()];
        let mut cells = tapped(|| self.inner.download(output.buffer, 0, &mut bytes))?;
        cells = if cells.is_empty() { cells } else { output.layout.positions().map(|at| cells[at]).collect() };
        let values = output.layout.positions().map(|at| Value::read(output.dtype, &bytes, at)).collect();
        let layout = format!("{} {:?}", output.dtype, output.layout);
        let entry = Entry { kernel: kernel.into(), dtype: output.dtype, layout, values, cells };
        self.entries.lock().unwrap_or_else(|e| e.into_inner()).push(entry);
        Ok(())
    }
}

macro_rules! watched {
    ($($method:ident($($arg:ident: $type:ty),*; $($input:ident),*; $($output:ident),*);)*) => { $(
        fn $method(&self, $($arg: $type,)* $($input: &In<'_, B>,)* $($output: &mut Out<'_, B>),*) -> Result<()> {
            self.inner.$method($($arg,)* $(&lower($input),)* $(&mut lower_mut($output)),*)?;
            $(self.keep(stringify!($method), $output)?;)*
            Ok(())
        }
    )* };
}

impl<B: Backend> Backend for Watch<B> {
    type Buffer = B::Buffer;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn alloc(&self, bytes: usize) -> Result<B::Buffer> {
        self.inner.alloc(bytes)
    }

    fn upload(&self, bytes: &[u8], to: &mut B::Buffer, offset: usize) -> Result<()> {
        self.inner.upload(bytes, to, offset)
    }

    fn download(&self, from: &B::Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.inner.download(from, offset, bytes)
    }

    fn synchronize(&self) -> Result<()> {
        self.inner.synchronize()
    }

    fn copy_from(&self, source: &Self, from: &B::Buffer, to: &mut B::Buffer, bytes: usize) -> Result<()> {
        self.inner.copy_from(&source.inner, from, to, bytes)
    }

    fn map(&self, kernel: &Kernel<'_>, inputs: &[In<'_, B>], outputs: &mut [Out<'_, B>]) -> Result<()> {
        let lowered: Vec<_> = inputs.iter().map(lower).collect();
        let mut targets: Vec<_> = outputs.iter_mut().map(lower_mut).collect();
        self.inner.map(kernel, &lowered, &mut targets)?;
        outputs.iter().try_for_each(|o| self.keep(kernel.program.name(), o))
    }

    fn reduce(&self, op: ReduceOp, kernel: &Kernel<'_>, inputs: &[In<'_, B>], output: &mut Out<'_, B>) -> Result<()> {
        let lowered: Vec<_> = inputs.iter().map(lower).collect();
        self.inner.reduce(op, kernel, &lowered, &mut lower_mut(output))?;
        self.keep(&format!("{} of {}", op.name(), kernel.program.name()), output)
    }

    fn matmul_fused(
        &self,
        kernel: &Kernel<'_>,
        a: &In<'_, B>,
        b: &In<'_, B>,
        inputs: &[In<'_, B>],
        output: &mut Out<'_, B>,
    ) -> Result<()> {
        let inputs: Vec<_> = inputs.iter().map(lower).collect();
        self.inner.matmul_fused(kernel, &lower(a), &lower(b), &inputs, &mut lower_mut(output))?;
        self.keep(&format!("matmul and {}", kernel.program.name()), output)
    }

    watched! {
        gather(axis: usize; source, index; output);
        scatter_add(axis: usize; source, index; output);
        matmul(; a, b; output);
        conv(window: &Window; input, weight; output);
        conv_input_gradient(window: &Window; head, weight; output);
        conv_weight_gradient(window: &Window; input, head; output);
        pool(kind: Pool, window: &Window; input; output);
        pool_gradient(kind: Pool, window: &Window; input, head; output);
        softmax(logarithm: bool; input; output);
        normalize(epsilon: f64; input; output, mean, rstd);
        scan(op: ReduceOp; input; output);
        argsort(descending: bool; input; output);
    }
}
