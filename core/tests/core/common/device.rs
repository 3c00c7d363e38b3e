//! A device for tests: the reference backend with a number, so that there can be several, limited dtypes, and a switch
//! that makes it fail. It counts what it allocates.

use isograd_core::{Backend, Capabilities, DType, DTypes, Error, Operand, OperandMut, ReduceOp, Result, expr::Kernel};
use isograd_reference::{Buffer, Reference};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicIsize, Ordering},
};

/// The device.
#[derive(Clone, Debug)]
pub struct Numbered {
    number: usize,
    broken: Arc<AtomicBool>,
    live: Arc<AtomicIsize>,
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Numbered) -> bool {
        self.number == other.number
    }
}

/// Memory that is counted while it lives.
pub struct Counted {
    buffer: Buffer,
    bytes: isize,
    live: Arc<AtomicIsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Numbered {
    pub fn new(number: usize) -> Numbered {
        Numbered { number, broken: Arc::default(), live: Arc::default() }
    }

    /// From now on every kernel fails, or none.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// Bytes that are allocated now.
    pub fn live(&self) -> isize {
        self.live.load(Ordering::Relaxed)
    }

    fn check(&self, op: &str) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::backend(self.name(), op, "the device is switched off"));
        }
        Ok(())
    }
}

fn lower<'a>(o: &Operand<'a, Numbered>) -> Operand<'a, Reference> {
    Operand::new(&o.buffer.buffer, o.dtype, o.layout)
}

fn lower_mut<'a>(o: &'a mut OperandMut<'_, Numbered>) -> OperandMut<'a, Reference> {
    OperandMut::new(&mut o.buffer.buffer, o.dtype, o.layout)
}

impl Backend for Numbered {
    type Buffer = Counted;

    fn name(&self) -> String {
        format!("numbered:{}", self.number)
    }

    fn capabilities(&self) -> Capabilities {
        // It stores bf16 but does not compute with it, and does not even store i8.
        let all = Capabilities::default();
        Capabilities {
            stores: DTypes::of(&DType::ALL).without(DType::I8),
            computes: DTypes::of(&DType::ALL).without(DType::I8).without(DType::BF16),
            ..all
        }
    }

    fn alloc(&self, bytes: usize) -> Result<Counted> {
        self.live.fetch_add(bytes as isize, Ordering::Relaxed);
        Ok(Counted { buffer: Reference.alloc(bytes)?, bytes: bytes as isize, live: self.live.clone() })
    }

    fn upload(&self, bytes: &[u8], to: &mut Counted, offset: usize) -> Result<()> {
        Reference.upload(bytes, &mut to.buffer, offset)
    }

    fn download(&self, from: &Counted, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check("download")?;
        Reference.download(&from.buffer, offset, bytes)
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        self.check("map")?;
        let inputs: Vec<_> = inputs.iter().map(lower).collect();
        let mut outputs: Vec<_> = outputs.iter_mut().map(lower_mut).collect();
        Reference.map(kernel, &inputs, &mut outputs)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        self.check("reduce")?;
        let inputs: Vec<_> = inputs.iter().map(lower).collect();
        Reference.reduce(op, kernel, &inputs, &mut lower_mut(output))
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        self.check("gather")?;
        Reference.gather(axis, &lower(source), &lower(index), &mut lower_mut(output))
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        self.check("scatter_add")?;
        Reference.scatter_add(axis, &lower(source), &lower(index), &mut lower_mut(output))
    }
}
