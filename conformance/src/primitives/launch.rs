//! One call of a method of [`Backend`], as a value, so that it runs on any backend.

use isograd_core::{
    Backend, Dyn, Operand, OperandMut, Pool, ReduceOp, Result, Shape, Value, Window,
    backend::{composed, launch},
    expr::{Kernel, Program},
};
use std::sync::Arc;

/// A method and its arguments, but for the operands.
#[derive(Clone, Debug)]
pub(crate) enum Launch {
    Map(Arc<Program>, Vec<Value>),
    Reduce(ReduceOp, Arc<Program>, Vec<Value>, Shape),
    Gather(usize),
    ScatterAdd(usize),
    Matmul,
    /// What it ends in.
    MatmulFused(Arc<Program>, Vec<Value>),
    Conv(Window),
    ConvInputGradient(Window),
    ConvWeightGradient(Window),
    Pool(Pool, Window),
    PoolGradient(Pool, Window),
    Softmax(bool),
    Normalize(f64),
    Scan(ReduceOp),
    Argsort(bool),
}

impl Launch {
    pub fn name(&self) -> String {
        match self {
            Launch::Map(p, _) => format!("map {}", p.name()),
            Launch::Reduce(op, p, ..) => format!("reduce {} {}", op.name(), p.name()),
            Launch::MatmulFused(p, _) => format!("matmul_fused {}", p.name()),
            other => format!("{other:?}"),
        }
    }

    /// Whether core has a default for it.
    pub fn is_provided(&self) -> bool {
        !matches!(self, Launch::Map(..) | Launch::Reduce(..) | Launch::Gather(_) | Launch::ScatterAdd(_))
    }

    /// Calls the method on `ctx`, or what it is composed of.
    pub fn call(&self, ctx: &Dyn, compose: bool, x: &[Operand<'_, Dyn>], y: &mut [OperandMut<'_, Dyn>]) -> Result<()> {
        match self {
            Launch::Map(program, scalars) => launch::map(ctx, &Kernel::new(program, scalars), x, y),
            Launch::Reduce(op, program, scalars, shape) => {
                launch::reduce(ctx, *op, &Kernel::new(program, scalars), shape, x, &mut y[0])
            }
            Launch::Gather(axis) => ctx.gather(*axis, &x[0], &x[1], &mut y[0]),
            Launch::ScatterAdd(axis) => {
                // The output starts from known numbers: the third input.
                launch::copy(ctx, &x[2], &mut y[0])?;
                ctx.scatter_add(*axis, &x[0], &x[1], &mut y[0])
            }
            Launch::Matmul if compose => composed::matmul(ctx, &x[0], &x[1], &mut y[0]),
            Launch::Matmul => ctx.matmul(&x[0], &x[1], &mut y[0]),
            Launch::MatmulFused(program, scalars) => {
                let kernel = Kernel::new(program, scalars);
                match compose {
                    true => composed::matmul_fused(ctx, &kernel, &x[0], &x[1], &x[2..], &mut y[0]),
                    false => ctx.matmul_fused(&kernel, &x[0], &x[1], &x[2..], &mut y[0]),
                }
            }
            Launch::Conv(w) if compose => composed::conv(ctx, w, &x[0], &x[1], &mut y[0]),
            Launch::Conv(w) => ctx.conv(w, &x[0], &x[1], &mut y[0]),
            Launch::ConvInputGradient(w) if compose => composed::conv_input_gradient(ctx, w, &x[0], &x[1], &mut y[0]),
            Launch::ConvInputGradient(w) => ctx.conv_input_gradient(w, &x[0], &x[1], &mut y[0]),
            Launch::ConvWeightGradient(w) if compose => composed::conv_weight_gradient(ctx, w, &x[0], &x[1], &mut y[0]),
            Launch::ConvWeightGradient(w) => ctx.conv_weight_gradient(w, &x[0], &x[1], &mut y[0]),
            Launch::Pool(kind, w) if compose => composed::pool(ctx, *kind, w, &x[0], &mut y[0]),
            Launch::Pool(kind, w) => ctx.pool(*kind, w, &x[0], &mut y[0]),
            Launch::PoolGradient(kind, w) if compose => composed::pool_gradient(ctx, *kind, w, &x[0], &x[1], &mut y[0]),
            Launch::PoolGradient(kind, w) => ctx.pool_gradient(*kind, w, &x[0], &x[1], &mut y[0]),
            Launch::Softmax(log) if compose => composed::softmax(ctx, *log, &x[0], &mut y[0]),
            Launch::Softmax(log) => ctx.softmax(*log, &x[0], &mut y[0]),
            Launch::Normalize(epsilon) => {
                let [output, mean, rstd] = y else { unreachable!("normalize has three outputs") };
                if compose {
                    composed::normalize(ctx, *epsilon, &x[0], output, mean, rstd)
                } else {
                    ctx.normalize(*epsilon, &x[0], output, mean, rstd)
                }
            }
            Launch::Scan(op) if compose => composed::scan(ctx, *op, &x[0], &mut y[0]),
            Launch::Scan(op) => ctx.scan(*op, &x[0], &mut y[0]),
            Launch::Argsort(descending) if compose => composed::argsort(ctx, *descending, &x[0], &mut y[0]),
            Launch::Argsort(descending) => ctx.argsort(*descending, &x[0], &mut y[0]),
        }
    }
}
