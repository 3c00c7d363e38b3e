//! f16 and bf16 in several passes: sums are kept in the dtype that is computed in, and rounded once.

use crate::OpenCl;
use isograd_core::{
    Operand, OperandMut, Result,
    backend::launch::{self, Temporary},
    expr::{Expr, PerDType},
};

static WIDEN: PerDType = PerDType::new("widen", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
static ROUND: PerDType =
    PerDType::new("round", |d| (vec![Expr::input(0, d.compute()).cast(d)], vec![d.compute()], vec![]));

/// A copy of `from` in the dtype that it is computed in.
pub(crate) fn widened(ctx: &OpenCl, from: &Operand<'_, OpenCl>) -> Result<Temporary<OpenCl>> {
    let mut wide = Temporary::new(ctx, from.dtype.compute(), from.shape().clone())?;
    launch::map(ctx, &WIDEN.kernel(from.dtype, &[]), &[*from], &mut [wide.operand_mut()])?;
    Ok(wide)
}

/// Writes `wide`, of the dtype that `output` is computed in, to `output`.
pub(crate) fn round(ctx: &OpenCl, wide: &Temporary<OpenCl>, output: &mut OperandMut<'_, OpenCl>) -> Result<()> {
    let kernel = ROUND.kernel(output.dtype, &[]);
    launch::map(ctx, &kernel, &[wide.operand()], &mut [output.with_layout(output.layout)])
}

/// What `write` writes, rounded to the dtype of `output` where that is another than it is computed in.
pub(crate) fn rounded(
    ctx: &OpenCl,
    output: &mut OperandMut<'_, OpenCl>,
    write: impl FnOnce(&mut OperandMut<'_, OpenCl>) -> Result<()>,
) -> Result<()> {
    let compute = output.dtype.compute();
    if compute == output.dtype {
        return write(output);
    }
    let mut wide = Temporary::new(ctx, compute, output.shape().clone())?;
    write(&mut wide.operand_mut())?;
    round(ctx, &wide, output)
}
