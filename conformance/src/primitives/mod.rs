//! The methods of [`Backend`] themselves, with layouts of any kind: windows that overlap, reversed, broadcast and unaligned
//! inputs, outputs with gaps. Outputs are poisoned before; what lies around and between their elements must stay, inputs
//! too, and a second run must give the same bits.
//!
//! To add a case: a `Launch`, and operands for it, in `cases` (`windows` and `rows` have what works on windows and rows,
//! `programs` expressions drawn at random). `order` and `sizes` call a device without the oracle.

mod cases;
mod launch;
mod order;
mod programs;
mod rows;
mod sizes;
mod windows;

pub(crate) use cases::cases;
pub(crate) use launch::Launch;

use crate::{
    case::{Checked, Environment, Failure, compare},
    numbers::{Domain, Numbers},
    oracle::{Oracle, downloaded},
};
use isograd_core::backend::DynBuffer;
use isograd_core::{Backend, DType, Dyn, Layout, Operand, OperandMut, Result, Value};
use isograd_reference::Reference;

/// Memory and a layout into it.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub dtype: DType,
    pub layout: Layout,
    pub bytes: Vec<u8>,
}

/// Elements before and after everything that a layout reaches.
const GUARD: usize = 9;

impl Region {
    /// An input: every element of the memory is drawn, so broadcast and overlapping layouts need no care.
    pub fn input(numbers: &mut Numbers, dtype: DType, layout: Layout, domain: Domain) -> Region {
        let n = layout.span().1 + 3;
        let mut bytes = vec![0; n * dtype.size()];
        domain.draw(numbers, dtype, n).iter().enumerate().for_each(|(i, v)| v.write(&mut bytes, i));
        Region { dtype, layout, bytes }
    }

    /// The same with given elements.
    pub fn of(dtype: DType, layout: Layout, values: &[Value]) -> Region {
        let mut bytes = vec![0; (layout.span().1 + 3) * dtype.size()];
        layout.positions().zip(values).for_each(|(at, v)| v.write(&mut bytes, at));
        Region { dtype, layout, bytes }
    }

    /// An output full of poison: NaN on floating dtypes.
    pub fn output(dtype: DType, layout: Layout) -> Region {
        let n = layout.span().1 + GUARD;
        let mut bytes = vec![0; n * dtype.size()];
        let poison = if dtype.is_float() { Value::F64(f64::NAN).cast(dtype) } else { Value::I64(85).cast(dtype) };
        (0..n).for_each(|i| poison.write(&mut bytes, i));
        Region { dtype, layout, bytes }
    }

    fn upload(&self, ctx: &Dyn) -> Result<DynBuffer> {
        let mut buffer = ctx.alloc(self.bytes.len())?;
        ctx.upload(&self.bytes, &mut buffer, 0)?;
        Ok(buffer)
    }
}

struct Ran {
    inputs: Vec<DynBuffer>,
    outputs: Vec<DynBuffer>,
}

fn run(ctx: &Dyn, launch: &Launch, composed: bool, inputs: &[Region], outputs: &[Region]) -> Result<Ran> {
    let inputs_on: Vec<DynBuffer> = inputs.iter().map(|r| r.upload(ctx)).collect::<Result<_>>()?;
    let mut outputs_on: Vec<DynBuffer> = outputs.iter().map(|r| r.upload(ctx)).collect::<Result<_>>()?;
    {
        let operands: Vec<Operand<'_, Dyn>> =
            inputs_on.iter().zip(inputs).map(|(b, r)| Operand::new(b, r.dtype, &r.layout)).collect();
        let mut targets: Vec<OperandMut<'_, Dyn>> =
            outputs_on.iter_mut().zip(outputs).map(|(b, r)| OperandMut::new(b, r.dtype, &r.layout)).collect();
        launch.call(ctx, composed, &operands, &mut targets)?;
    }
    ctx.synchronize()?;
    Ok(Ran { inputs: inputs_on, outputs: outputs_on })
}

fn bytes(ctx: &Dyn, buffer: &DynBuffer, like: &Region) -> Result<Vec<u8>> {
    let mut bytes = vec![0; like.bytes.len()];
    ctx.download(buffer, 0, &mut bytes)?;
    Ok(bytes)
}

/// What an exact device gives must be what the reference backend gives, to the last bit; NaN is NaN.
fn equal_bits(got: &[Value], defined: impl Iterator<Item = Value>) -> Result<(), Failure> {
    let nan = |v: Value| v.dtype().is_float() && v.to_f64().is_nan();
    match got.iter().zip(defined).enumerate().find(|(_, (a, b))| a.bits() != b.bits() && !(nan(**a) && nan(*b))) {
        Some((element, (got, defined))) => Err(Failure {
            why: "the device says that it is exact, but has other bits than the reference backend".into(),
            element: Some(element),
            expected: format!("{defined} ({:#x})", defined.bits()),
            got: format!("{got} ({:#x})", got.bits()),
            ..Failure::default()
        }),
        None => Ok(()),
    }
}

/// Runs one launch and checks all that must hold of it.
pub(crate) fn check(environment: &Environment<'_>, launch: &Launch, inputs: &[Region], outputs: &[Region]) -> Checked {
    let described = || -> Vec<String> {
        let all = inputs.iter().chain(outputs);
        all.map(|r| format!("{} {:?}", r.dtype, r.layout)).collect()
    };
    let told = |f: Failure| Failure { variant: launch.name(), ..f }.on(described());
    let mut measured = one(environment, launch, false, inputs, outputs).map_err(told)?;
    if launch.is_provided() {
        let composed = one(environment, launch, true, inputs, outputs);
        measured.merge(&composed.map_err(|f| told(Failure { why: format!("composed: {}", f.why), ..f }))?);
    }
    Ok(measured)
}

fn one(
    environment: &Environment<'_>,
    launch: &Launch,
    composed: bool,
    inputs: &[Region],
    outputs: &[Region],
) -> Checked {
    let oracle = Dyn::new(Oracle);
    let expected = run(&oracle, launch, false, inputs, outputs)?;
    let got = run(environment.ctx, launch, composed, inputs, outputs)?;
    let reference = Dyn::new(Reference);
    let exact = environment.ctx.capabilities().exact;
    let defined = exact.then(|| run(&reference, launch, false, inputs, outputs)).transpose()?;
    let mut measured = crate::case::Measured::default();
    let mut first = Vec::new();
    for (k, ((region, on), right)) in outputs.iter().zip(&got.outputs).zip(&expected.outputs).enumerate() {
        let after = bytes(environment.ctx, on, region)?;
        let count = region.bytes.len() / region.dtype.size();
        let mut mine = vec![false; count];
        region.layout.positions().for_each(|at| mine[at] = true);
        let size = region.dtype.size();
        if let Some(at) =
            (0..count).find(|&i| !mine[i] && after[i * size..][..size] != region.bytes[i * size..][..size])
        {
            return Err(Failure::new("", format!("position {at}, which is no element of the output, was written")));
        }
        if region.dtype == DType::Bool && after.iter().any(|&b| b > 1) {
            return Err(Failure::new("", "a bool is neither 0 nor 1"));
        }
        let cells = downloaded(&oracle, right, region.dtype, count)?;
        let values: Vec<Value> = region.layout.positions().map(|at| Value::read(region.dtype, &after, at)).collect();
        let cells: Vec<_> = region.layout.positions().map(|at| cells[at]).collect();
        measured.merge(&compare(region.dtype, &values, &cells)?);
        if let Some(defined) = &defined {
            let bits = bytes(&reference, &defined.outputs[k], region)?;
            let defined = region.layout.positions().map(|at| Value::read(region.dtype, &bits, at));
            equal_bits(&values, defined)?;
        }
        first.push(after);
    }
    for (k, (region, on)) in inputs.iter().zip(&got.inputs).enumerate() {
        if bytes(environment.ctx, on, region)? != region.bytes {
            return Err(Failure::new("", format!("input {k} was written")));
        }
    }
    if environment.ctx.capabilities().deterministic {
        let again = run(environment.ctx, launch, composed, inputs, outputs)?;
        for ((region, on), first) in outputs.iter().zip(&again.outputs).zip(&first) {
            if bytes(environment.ctx, on, region)? != *first {
                return Err(Failure::new("", "a second run gives other bits"));
            }
        }
    }
    Ok(measured)
}
