//! A complete backend in a crate of its own, on memory of its own: pages that a `Vec` holds, given back when dropped.
//!
//! The host can read its memory, so the four primitives are those of `isograd_core::host`. All else is a default.

use isograd_core::{
    Backend, Capabilities, Error, Operand, OperandMut, ReduceOp, Result, Shape,
    expr::Kernel,
    host::{self, Input, Output, Plain},
};

/// The device.
#[derive(Clone, Debug, PartialEq)]
pub struct Abacus;

/// Words, so that every dtype is aligned to 8 bytes.
pub struct Beads(Vec<u64>);

impl Beads {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

fn input<'a>(x: &Operand<'a, Abacus>) -> Input<'a> {
    Input::new(x, x.buffer.bytes())
}

impl Backend for Abacus {
    type Buffer = Beads;

    fn name(&self) -> String {
        "abacus".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn alloc(&self, bytes: usize) -> Result<Beads> {
        let mut words = Vec::new();
        let refused = |_| Error::OutOfMemory { device: self.name(), bytes, hint: "use a smaller batch".into() };
        words.try_reserve_exact(bytes.div_ceil(8)).map_err(refused)?;
        words.resize(bytes.div_ceil(8), 0);
        Ok(Beads(words))
    }

    fn upload(&self, bytes: &[u8], to: &mut Beads, offset: usize) -> Result<()> {
        to.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Beads, offset: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&from.bytes()[offset..offset + bytes.len()]);
        Ok(())
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        let inputs: Vec<Input<'_>> = inputs.iter().map(input).collect();
        let mut outputs: Vec<Output<'_>> = outputs.iter_mut().map(|o| Output::new(o, Beads::bytes_mut)).collect();
        host::map(Plain, kernel, &inputs, &mut outputs)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let shape: Shape = inputs[0].shape().clone();
        let inputs: Vec<Input<'_>> = inputs.iter().map(input).collect();
        host::reduce(Plain, op, kernel, &inputs, &shape, &mut Output::new(output, Beads::bytes_mut))
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        host::gather(axis, &input(source), &input(index), &mut Output::new(output, Beads::bytes_mut))
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        host::scatter_add(axis, &input(source), &input(index), &mut Output::new(output, Beads::bytes_mut))
    }
}
