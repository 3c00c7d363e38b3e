//! Sorting by counting: the place of an element is the number of elements that come before it.

use crate::{
    Backend, DType, Operand, OperandMut, ReduceOp, Result, Value,
    backend::launch::{self, Temporary},
    expr::{Definition, Expr, PerDType},
};

fn comes_before(d: DType, descending: bool) -> Definition {
    let (mine, other) = (Expr::input(0, d), Expr::input(1, d));
    let n = Expr::scalar(0, DType::I64);
    let index = Expr::index();
    let (j, i) = (&index % &n, (&index / &n) % &n);
    let mut before = if descending { other.greater(&mine) } else { other.less(&mine) };
    let mut tie = other.equal(&mine);
    if d.is_float() {
        before = before.or(&mine.is_nan().and(&!other.is_nan()));
        tie = tie.or(&mine.is_nan().and(&other.is_nan()));
    }
    (vec![before.or(&tie.and(&j.less(&i))).cast(DType::I64)], vec![d, d], vec![DType::I64])
}

static ASCENDING: PerDType = PerDType::new("rank_ascending", |d| comes_before(d, false));
static DESCENDING: PerDType = PerDType::new("rank_descending", |d| comes_before(d, true));
static POSITION: PerDType =
    PerDType::new("position", |_| (vec![Expr::index() % Expr::scalar(0, DType::I64)], vec![], vec![DType::I64]));

/// See [`Backend::argsort`]. n² comparisons.
///
/// # Errors
/// What the backend reports.
pub fn argsort<B: Backend>(
    ctx: &B,
    descending: bool,
    input: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let axis = input.layout.rank() - 1;
    let n = input.shape()[axis];
    let mine = input.layout.insert_axis(axis + 1, n);
    let others = input.layout.insert_axis(axis, n);
    let mut rank = Temporary::new(ctx, DType::I64, input.shape().clone())?;
    let count = [Value::I64(n as i64)];
    let kernel = if descending { &DESCENDING } else { &ASCENDING }.kernel(input.dtype, &count);
    let inputs = [input.with_layout(&mine), input.with_layout(&others)];
    launch::reduce(ctx, ReduceOp::Sum, &kernel, mine.shape(), &inputs, &mut rank.operand_mut())?;
    let mut position = Temporary::new(ctx, DType::I64, input.shape().clone())?;
    launch::map(ctx, &POSITION.kernel(DType::I64, &count), &[], &mut [position.operand_mut()])?;
    launch::fill(ctx, Value::I64(0), output)?;
    ctx.scatter_add(axis, &position.operand(), &rank.operand(), output)
}
