//! Kernels may be asynchronous; nobody must be able to tell, but by the time that errors are told.

use super::Region;
use crate::{
    case::{Checked, Environment, Failure, Measured},
    numbers::Numbers,
};
use isograd_core::backend::DynBuffer;
use isograd_core::{
    Backend, DType, Dyn, Error, Expr, Layout, Operand, OperandMut, ReduceOp, Result, Value,
    expr::{Kernel, Program},
};
use std::sync::Arc;

const N: usize = 3001;

fn must(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new("", format!("it does not hold that {what}"))) }
}

fn upload(ctx: &Dyn, values: &[f32], to: &mut DynBuffer) -> Result<()> {
    ctx.upload(bytemuck::cast_slice(values), to, 0)
}

fn fresh(ctx: &Dyn, value: f32) -> Result<DynBuffer> {
    let mut buffer = ctx.alloc(N * 4)?;
    upload(ctx, &[value; N], &mut buffer)?;
    Ok(buffer)
}

/// The one number that the whole buffer holds; NaN if there are several.
fn all(ctx: &Dyn, from: &DynBuffer) -> Result<f32> {
    let mut values = vec![f32::NAN; N];
    ctx.download(from, 0, bytemuck::cast_slice_mut(&mut values))?;
    Ok(if values.iter().all(|v| *v == values[0]) { values[0] } else { f32::NAN })
}

/// `to = from * a + b`, and `to = to * a + b`.
struct Line {
    written: Arc<Program>,
    updated: Arc<Program>,
    flat: Layout,
}

impl Line {
    fn new() -> Result<Line> {
        let d = DType::F32;
        let line = |x: Expr| x * Expr::scalar(0, d) + Expr::scalar(1, d);
        Ok(Line {
            written: Program::new("line", &[line(Expr::input(0, d))], &[d], &[d, d])?,
            updated: Program::new("line in place", &[line(Expr::old(0, d))], &[], &[d, d])?,
            flat: Layout::contiguous([N]),
        })
    }

    fn write(&self, ctx: &Dyn, from: &DynBuffer, a: f32, b: f32, to: &mut DynBuffer) -> Result<()> {
        let scalars = [Value::F32(a), Value::F32(b)];
        let x = Operand::new(from, DType::F32, &self.flat);
        ctx.map(&Kernel::new(&self.written, &scalars), &[x], &mut [OperandMut::new(to, DType::F32, &self.flat)])
    }

    fn update(&self, ctx: &Dyn, a: f32, b: f32, to: &mut DynBuffer) -> Result<()> {
        let scalars = [Value::F32(a), Value::F32(b)];
        ctx.map(&Kernel::new(&self.updated, &scalars), &[], &mut [OperandMut::new(to, DType::F32, &self.flat)])
    }
}

pub(super) fn order(e: &Environment<'_>, _: &mut Numbers) -> Checked {
    let (ctx, line) = (e.ctx, Line::new()?);
    // Nothing here waits but downloads.
    let (mut x, mut y, mut z) = (fresh(ctx, 1.0)?, fresh(ctx, 0.0)?, fresh(ctx, 0.0)?);
    line.write(ctx, &x, 2.0, 1.0, &mut y)?;
    upload(ctx, &[5.0; N], &mut x)?;
    line.write(ctx, &x, 2.0, 1.0, &mut z)?;
    must(all(ctx, &z)? == 11.0, "a kernel sees what was uploaded before it")?;
    must(all(ctx, &y)? == 3.0, "an upload waits for the kernels that read what it overwrites")?;

    line.update(ctx, 2.0, 0.0, &mut y)?;
    upload(ctx, &[4.0; N], &mut y)?;
    must(all(ctx, &y)? == 4.0, "an upload waits for the kernels that write what it overwrites")?;

    upload(ctx, &[1.0; N], &mut y)?;
    let mut expected = 1.0;
    for k in 0..16 {
        let (a, b) = if k % 2 == 0 { (2.0, 0.0) } else { (1.0, 1.0) };
        line.update(ctx, a, b, &mut y)?;
        expected = expected * a + b;
    }
    must(all(ctx, &y)? == expected, "kernels run in the order of their calls")?;

    let mut outputs = Vec::new();
    for k in 0..24 {
        let (temporary, mut out) = (fresh(ctx, k as f32)?, fresh(ctx, -1.0)?);
        line.write(ctx, &temporary, 1.0, 0.5, &mut out)?;
        drop(temporary);
        // Memory of the same size, most likely the same memory.
        let other = fresh(ctx, 1000.0)?;
        outputs.push((out, other));
    }
    for (k, (out, other)) in outputs.iter().enumerate() {
        must(all(ctx, out)? == k as f32 + 0.5, "memory is not used again before the kernels that read it are done")?;
        must(all(ctx, other)? == 1000.0, "memory that lives is given to nobody else")?;
    }

    line.write(ctx, &x, 1.0, 2.0, &mut y)?;
    ctx.copy_from(ctx, &y, &mut z, N * 4)?;
    line.update(ctx, 0.0, 9.0, &mut y)?;
    must(all(ctx, &z)? == 7.0, "copy_from waits for the kernels before it")?;
    must(all(ctx, &y)? == 9.0, "kernels after copy_from wait for it")?;

    line.write(ctx, &x, 1.0, 2.0, &mut y)?;
    let (flat, one) = (&line.flat, Layout::contiguous([1]));
    let sum = Program::new("sum", &[Expr::input(0, DType::F32)], &[DType::F32], &[])?;
    let mut total = ctx.alloc(4)?;
    let terms = [Operand::new(&y, DType::F32, flat)];
    ctx.reduce(
        ReduceOp::Max,
        &Kernel::new(&sum, &[]),
        &terms,
        &mut OperandMut::new(&mut total, DType::F32, &one.select(0, 0)),
    )?;
    line.update(ctx, 0.0, 0.0, &mut y)?;
    ctx.synchronize()?;
    let mut bytes = [0; 4];
    ctx.download(&total, 0, &mut bytes)?;
    must(f32::from_le_bytes(bytes) == 7.0, "a reduction runs between the kernels around it")?;
    Ok(Measured::default())
}

/// A position out of range is told by the call or by the next wait, whichever wait that is and whatever ran since; once;
/// and the context goes on.
pub(super) fn errors(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (ctx, line) = (e.ctx, Line::new()?);
    let flat = Layout::contiguous([3]);
    let source = Region::input(n, DType::F32, flat.clone(), crate::numbers::Domain::Any).upload(ctx)?;
    let index = Region::of(DType::I64, flat.clone(), &[0, 3, 1].map(Value::I64)).upload(ctx)?;
    let (x, at) = (Operand::new(&source, DType::F32, &flat), Operand::new(&index, DType::I64, &flat));
    let mut bytes = [0; 12];
    for (way, scatters) in [("download", false), ("synchronize", false), ("download", true), ("synchronize", true)] {
        let mut y = Region::output(DType::F32, flat.clone()).upload(ctx)?;
        let mut out = OperandMut::new(&mut y, DType::F32, &flat);
        let called = if scatters { ctx.scatter_add(0, &x, &at, &mut out) } else { ctx.gather(0, &x, &at, &mut out) };
        // A kernel that is right does not hide the one that failed.
        let (from, mut to) = (fresh(ctx, 1.0)?, fresh(ctx, 0.0)?);
        let after = line.write(ctx, &from, 2.0, 1.0, &mut to);
        let told = called.and(after).and_then(|()| match way {
            "download" => ctx.download(&y, 0, &mut bytes),
            _ => ctx.synchronize(),
        });
        if !matches!(told, Err(Error::IndexOutOfRange { index: 3, size: 3, .. })) {
            return Err(Failure::new(way, format!("position 3 of 3 gave {told:?}")));
        }
        must(ctx.synchronize().is_ok(), "an error is told once")?;
        line.write(ctx, &from, 2.0, 2.0, &mut to)?;
        must(all(ctx, &to)? == 4.0, "the context works after a kernel failed")?;
    }
    Ok(Measured::default())
}
