//! The table of operators, and the cases made of it.
//!
//! To add an operator: a row in the file of its family. A row computes one tensor from its inputs; `forward_NAME`,
//! `gradient_NAME` (against the oracle), `difference_NAME` (against differences) and `kinks_NAME` (where it is not smooth)
//! follow. A row says which numbers its inputs may be (its domain), on which dtypes it is defined, whether
//! any shape will do, and whether gradients go through it. How far results may be off is not said here: it follows from
//! the [`oracle`](crate::oracle). An operator of core without a row fails `every_operator_has_a_row`.

mod constant;
mod difference;
mod elementwise;
mod forward;
mod gradient;
mod kinks;
mod reductions;
mod shapes;
mod windows;

use crate::{
    case::{Case, Checked, Environment},
    numbers::{
        Array,
        Domain::{self, Range},
    },
};
use isograd_core::{DType, Dyn, Error, Result, Tensor, operators};
use std::sync::Arc;

const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
const NUMBERS: &[DType] =
    &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64, DType::U8, DType::I8];
const INTEGERS: &[DType] = &[DType::I32, DType::I64, DType::U8, DType::I8];
const ALL: &[DType] = &DType::ALL;

const REAL: Domain = Range(-2.0, 2.0, &[0.0]);
const POSITIVE: Domain = Range(0.3, 2.5, &[]);
const INSIDE: Domain = Range(-0.8, 0.8, &[0.0]);
const ABOVE_ONE: Domain = Range(1.3, 3.0, &[]);
const STEPS: Domain = Range(-2.4, 2.4, &[-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]);

type Body = Box<dyn Fn(&Dyn, DType, &[Tensor]) -> Result<Tensor> + Send + Sync>;

/// A row of the table.
pub struct Row {
    /// The operator, as in `operators::NAMES`.
    pub operator: &'static str,
    /// Which variant of it.
    pub variant: String,
    /// Shapes and domains of the inputs.
    pub inputs: Vec<(Vec<usize>, Domain)>,
    /// The dtypes that it is defined on.
    pub dtypes: &'static [DType],
    /// Whether inputs of any shapes that broadcast will do, and any numbers.
    pub elementwise: bool,
    /// Whether gradients go through it.
    pub differentiable: bool,
    /// Whether results must be the reference backend's, bit for bit.
    pub exact: bool,
    body: Body,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}) {:?}", self.operator, self.variant, self.inputs)
    }
}

struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        operator: &'static str,
        variant: impl Into<String>,
        inputs: &[(&[usize], Domain)],
        body: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
    ) {
        self.0.push(Row {
            operator,
            variant: variant.into(),
            inputs: inputs.iter().map(|(s, d)| (s.to_vec(), *d)).collect(),
            dtypes: FLOATS,
            elementwise: false,
            differentiable: true,
            exact: false,
            body: Box::new(move |_, _, x| body(x)),
        });
    }

    /// A row that takes inputs of any shape.
    fn elementwise(
        &mut self,
        operator: &'static str,
        variant: impl Into<String>,
        inputs: &[(&[usize], Domain)],
        body: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
    ) {
        self.add(operator, variant, inputs, body);
        self.last().elementwise = true;
    }

    /// A row that gradients do not go through.
    fn constant(
        &mut self,
        operator: &'static str,
        dtypes: &'static [DType],
        shapes: &[&[usize]],
        body: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
    ) {
        let variant = format!("constant row {}", self.0.len());
        self.add(operator, variant, &[], body);
        let row = self.last();
        row.inputs = shapes.iter().map(|s| (s.to_vec(), Domain::Any)).collect();
        (row.dtypes, row.differentiable) = (dtypes, false);
    }

    /// A row that creates a tensor.
    fn create(
        &mut self,
        operator: &'static str,
        dtypes: &'static [DType],
        body: impl Fn(&Dyn, DType) -> Result<Tensor> + Send + Sync + 'static,
    ) {
        self.constant(operator, dtypes, &[], |x| Ok(x[0].clone()));
        let row = self.last();
        row.exact = true;
        row.body = Box::new(move |ctx, dtype, _| body(ctx, dtype));
    }

    fn last(&mut self) -> &mut Row {
        self.0.last_mut().expect("a row was just added")
    }
}

fn positions(like: &Tensor, values: &[i64], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(like.ctx(), values, shape)
}

/// All rows.
pub fn table() -> Vec<Row> {
    let mut t = Rows(Vec::new());
    elementwise::unary(&mut t);
    elementwise::binary(&mut t);
    reductions::reductions(&mut t);
    reductions::products(&mut t);
    reductions::normalization(&mut t);
    shapes::shapes(&mut t);
    shapes::indices(&mut t);
    windows::windows(&mut t);
    constant::created(&mut t);
    constant::numbers(&mut t);
    constant::any(&mut t);
    t.0
}

/// The cases of all operators.
pub(crate) fn cases() -> Vec<Case> {
    let mut rows: Vec<Arc<Row>> = table().into_iter().map(Arc::new).collect();
    let mut statements = kinks::stated();
    let mut cases = Vec::new();
    for name in operators::NAMES {
        let (mine, others) = rows.into_iter().partition::<Vec<_>, _>(|r| r.operator == *name);
        rows = others;
        if mine.is_empty() {
            continue;
        }
        let smooth: Vec<Arc<Row>> = mine.iter().filter(|r| r.differentiable).cloned().collect();
        cases.push(case(format!("forward_{name}"), mine, forward::check));
        if !smooth.is_empty() {
            let mut gradient = case(format!("gradient_{name}"), smooth.clone(), gradient::check);
            gradient.dtypes.retain(|d| d.is_float());
            cases.push(gradient);
            let mut difference = case(format!("difference_{name}"), smooth.clone(), difference::check);
            difference.dtypes.retain(|d| *d == DType::F64);
            cases.push(difference);
            let (mine, others) = statements.into_iter().partition::<Vec<_>, _>(|s| s.operator == *name);
            statements = others;
            let mut kinks = case(format!("kinks_{name}"), smooth, kinks::check);
            kinks.dtypes.retain(|d| d.is_float());
            let run = kinks.run;
            kinks.run = Box::new(move |environment| {
                let mut measured = run(environment)?;
                measured.merge(&crate::suite::total(mine.iter().map(|s| s.check(environment)))?);
                Ok(measured)
            });
            cases.push(kinks);
        }
    }
    cases
}

fn case(name: String, rows: Vec<Arc<Row>>, check: fn(&Environment<'_>, &Row) -> Checked) -> Case {
    let dtypes = DType::ALL.into_iter().filter(|d| rows.iter().any(|r| r.dtypes.contains(d))).collect();
    Case {
        name,
        dtypes,
        computes: true,
        repeatable: false,
        run: Box::new(move |environment| {
            let rows = rows.iter().filter(|r| r.dtypes.contains(&environment.dtype));
            crate::suite::total(rows.map(|r| {
                check(environment, r).map_err(|mut f| {
                    f.variant = format!("{} ({}) {}", r.operator, r.variant, f.variant);
                    f
                })
            }))
        }),
    }
}

/// Shapes and strides, for reports.
fn described(arrays: &[Array]) -> Vec<String> {
    arrays.iter().map(|a| format!("{} {:?}", a.dtype, a.layout)).collect()
}

/// The name of an error's variant.
fn kind(e: &Error) -> String {
    format!("{e:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_has_a_row() {
        let table = table();
        for name in operators::NAMES {
            assert!(table.iter().any(|r| r.operator == *name), "{name} has no row");
        }
        for row in &table {
            assert!(operators::NAMES.contains(&row.operator), "{} is no operator of core", row.operator);
        }
        for statement in kinks::stated() {
            let of = |r: &Row| r.operator == statement.operator && r.differentiable;
            assert!(table.iter().any(of), "{} has no row that gradients go through", statement.operator);
        }
    }
}
