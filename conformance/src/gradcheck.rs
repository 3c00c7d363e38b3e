//! Checks of a user's own function or block.

use crate::watch::Watch;
use crate::{
    case::{Failure, compare},
    numbers::Numbers,
    oracle::Oracle,
};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor, autograd};

/// A function of tensors, behind a pointer.
type Function<'a, B> = dyn Fn(&[Tensor<B>]) -> Result<Tensor<B>> + 'a;

/// Checks first and second derivatives of `f` at `inputs` (f64) against central differences along random directions, the
/// first also along every axis of small inputs.
///
/// ```
/// use isograd_conformance::gradcheck;
/// use isograd_core::Tensor;
/// use isograd_reference::Reference;
/// let x = Tensor::from_slice(&Reference, &[0.3f64, -1.2, 0.7], [3])?;
/// gradcheck(|x| x[0].tanh()?.mul(&x[0]), &[x.clone()])?;
/// // Half of the gradient is missing.
/// assert!(gradcheck(|x| x[0].mul(&x[0].detach()), &[x]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::UnsupportedDType`] unless all inputs are f64; [`Error::InvalidArgument`] that names input, direction and both
/// numbers where they differ; what `f` gives.
pub fn gradcheck<B: Backend>(f: impl Fn(&[Tensor<B>]) -> Result<Tensor<B>>, inputs: &[Tensor<B>]) -> Result<()> {
    for x in inputs {
        if x.dtype() != DType::F64 {
            return Err(Error::UnsupportedDType {
                op: "gradcheck",
                dtype: x.dtype(),
                device: x.ctx().name(),
                why: "differences need float64".into(),
            });
        }
    }
    let weighted = |x: &[Tensor<B>]| -> Result<Tensor<B>> {
        let y = f(x)?;
        let mut numbers = Numbers::new(99, "weights");
        let weights: Vec<f64> = (0..y.size()).map(|_| 0.3 + 0.7 * numbers.unit()).collect();
        y.mul(&Tensor::from_slice(y.ctx(), &weights, y.shape())?)?.sum((), false)
    };
    let mut numbers = Numbers::new(7, "directions");
    let mut direction = || -> Result<Vec<Tensor<B>>> {
        let one = |x: &Tensor<B>| {
            let values: Vec<f64> = (0..x.size()).map(|_| numbers.unit() * 2.0 - 1.0).collect();
            Tensor::from_slice(x.ctx(), &values, x.shape())
        };
        inputs.iter().map(one).collect()
    };
    for round in 0..3 {
        let (u, v) = (direction()?, direction()?);
        first_order(&weighted, inputs, &u, &format!("first order, direction {round}"))?;
        let slope = |x: &[Tensor<B>]| {
            let s = weighted(x)?;
            along(&s, x, &v, true)
        };
        let second = |x: &[Tensor<B>]| {
            x.iter().filter(|x| !x.requires_grad()).try_for_each(Tensor::attach_grad)?;
            autograd::record(|| slope(x))
        };
        first_order(&second, inputs, &u, &format!("second order, direction {round}"))?;
    }
    Ok(())
}

/// Σ gradient · direction; 0 where there is no gradient.
fn along<B: Backend>(s: &Tensor<B>, xs: &[Tensor<B>], u: &[Tensor<B>], create: bool) -> Result<Tensor<B>> {
    let mut total = Tensor::zeros(xs[0].ctx(), [], DType::F64)?;
    for (x, u) in xs.iter().zip(u) {
        if !s.requires_grad() {
            break;
        }
        match autograd::grad(&[s], &[x], &[], true, create) {
            Ok(g) => total = total.add(&g[0].mul(u)?.sum((), false)?)?,
            Err(Error::Unreachable { .. }) => (),
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

fn first_order<B: Backend>(f: &Function<'_, B>, inputs: &[Tensor<B>], u: &[Tensor<B>], what: &str) -> Result<()> {
    let fresh = |step: f64| -> Result<Vec<Tensor<B>>> {
        let moved = |(x, u): (&Tensor<B>, &Tensor<B>)| x.detach().add(&u.mul_scalar(step)?);
        inputs.iter().zip(u).map(moved).collect()
    };
    let at = |step: f64| -> Result<f64> { f(&fresh(step)?)?.asscalar() };
    let xs = fresh(0.0)?;
    xs.iter().try_for_each(Tensor::attach_grad)?;
    let got: f64 = autograd::record(|| along(&f(&xs)?, &xs, u, false))?.asscalar()?;
    // The fourth-order formula errs by about h^4/30 of the fifth derivative, and by 1e-16/h of the value.
    let h = 1e-3;
    let expected = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / (12.0 * h);
    if (got - expected).abs() > 1e-6 * expected.abs().max(1.0) || !got.is_finite() {
        return Err(Error::invalid("gradcheck", format!("{what}: the gradient is {got}, by differences {expected}")));
    }
    Ok(())
}

/// Computes `f` and its gradients on each of `contexts` and compares them, element by element, with the oracle, whose
/// bounds follow from the operators that `f` is made of. `inputs` are copied to each context. Where something departs, the
/// failure names the context, what departed, and the first kernel, of the result or of its gradients, whose output is off.
/// `f` may be a block's `forward`, as long as it computes on the context of its inputs.
///
/// ```
/// use isograd_conformance::cross_check;
/// use isograd_core::{Dyn, Tensor};
/// use isograd_cpu::Cpu;
/// use isograd_reference::Reference;
/// let reference = Dyn::new(Reference);
/// let x = Tensor::from_slice(&reference, &[0.3f32, -1.2, 0.7], [3])?;
/// cross_check(|x| x[0].gelu()?.softmax(0), &[x], &[reference, Dyn::new(Cpu::default())])?;
/// # Ok::<(), isograd_conformance::Failure>(())
/// ```
///
/// # Errors
/// The first departure, or what a context reports.
pub fn cross_check(
    f: impl Fn(&[Tensor<Dyn>]) -> Result<Tensor<Dyn>>,
    inputs: &[Tensor<Dyn>],
    contexts: &[Dyn],
) -> Result<(), Failure> {
    let oracle = Dyn::new(Oracle);
    let expected = values(&f, inputs, &oracle)?;
    for ctx in contexts {
        for (k, (g, e)) in values(&f, inputs, ctx)?.iter().zip(&expected).enumerate() {
            let what = if k == 0 { "the result".into() } else { format!("the gradient of input {}", k - 1) };
            if g.shape() != e.shape() || g.dtype() != e.dtype() {
                return Err(Failure::new(ctx.name(), format!("{what} is {} {:?}", g.dtype(), g.shape())));
            }
            let checked = compare(g.dtype(), &g.to_values()?, &crate::oracle::cells(e)?);
            if let Err(whole) = checked {
                let variant = ctx.name();
                return Err(match first_departure(&f, inputs, ctx)? {
                    Some(first) => Failure { variant, why: format!("{what} is off; {}", first.why), ..first },
                    None => Failure { variant, why: format!("{what} is off"), ..whole },
                });
            }
        }
    }
    Ok(())
}

/// The first kernel whose output departs from the oracle's, if one does alone.
fn first_departure(f: &Function<'_, Dyn>, inputs: &[Tensor<Dyn>], ctx: &Dyn) -> Result<Option<Failure>> {
    let (right, watched) = (Watch::new(Oracle), Watch::new(ctx.clone()));
    let forward = values_until(f, inputs, &Dyn::new(right.clone()), || right.len())?;
    values_until(f, inputs, &Dyn::new(watched.clone()), || 0)?;
    for (i, (got, expected)) in watched.entries().iter().zip(&right.entries()).enumerate() {
        if got.kernel != expected.kernel || got.values.len() != expected.values.len() {
            return Ok(None);
        }
        let exact = || expected.values.iter().map(|v| crate::oracle::Cell::exact(*v)).collect();
        let cells = if expected.cells.is_empty() { exact() } else { expected.cells.clone() };
        if let Err(failure) = compare(got.dtype, &got.values, &cells) {
            let part = if i < forward { "the result" } else { "the gradients" };
            let why = format!("the first kernel to depart is `{}`, output {} of {part}", got.kernel, i + 1);
            return Ok(Some(Failure { why, layouts: vec![got.layout.clone()], ..failure }));
        }
    }
    Ok(None)
}

/// The result, then the gradient of each floating input.
fn values(f: &Function<'_, Dyn>, inputs: &[Tensor<Dyn>], ctx: &Dyn) -> Result<Vec<Tensor<Dyn>>> {
    let mut all = Vec::new();
    computed(f, inputs, ctx, &mut all, &mut || ())?;
    Ok(all)
}

/// Computes result and gradients; gives what `count` says between them.
fn values_until(f: &Function<'_, Dyn>, inputs: &[Tensor<Dyn>], ctx: &Dyn, count: impl Fn() -> usize) -> Result<usize> {
    let mut forward = 0;
    computed(f, inputs, ctx, &mut Vec::new(), &mut || forward = count())?;
    Ok(forward)
}

fn computed(
    f: &Function<'_, Dyn>,
    inputs: &[Tensor<Dyn>],
    ctx: &Dyn,
    all: &mut Vec<Tensor<Dyn>>,
    between: &mut dyn FnMut(),
) -> Result<()> {
    let xs: Vec<Tensor<Dyn>> = inputs.iter().map(|x| x.detach().copyto(ctx)).collect::<Result<_>>()?;
    let smooth: Vec<&Tensor<Dyn>> = xs.iter().filter(|x| x.dtype().is_float()).collect();
    smooth.iter().try_for_each(|x| x.attach_grad())?;
    let y = autograd::record(|| f(&xs))?;
    all.push(y.detach());
    between();
    if y.requires_grad() {
        y.backward()?;
        all.extend(smooth.iter().map(|x| x.grad()).collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::{Mutant, faults};
    use isograd_nn::{Block, Dense, Parameters, Sequential, initializers::Xavier};
    use isograd_reference::Reference;

    fn broken(name: &str) -> Dyn {
        Dyn::new(Mutant::new(Reference, faults().iter().find(|f| f.name == name)))
    }

    #[test]
    fn the_first_kernel_that_departs_is_named() {
        let x = Tensor::from_slice(&Dyn::new(Reference), &[0.3f32, -1.2, 0.7, 1.1, -0.2, 0.9], [2, 3]).unwrap();
        let f = |x: &[Tensor<Dyn>]| x[0].tanh()?.exp()?.cosh()?.matmul(&x[0].t()?)?.log1p();
        cross_check(f, std::slice::from_ref(&x), &[broken("unbroken")]).unwrap();
        for (fault, kernel, part) in [
            ("cosh is without its half", "`cosh`", "of the result"),
            ("matmul loses the last element", "`matmul`", "of the result"),
            // A mutant has no product of its own: it is composed of broken maps, which lengthen chains from what was there.
            ("old values read as 0", "`matmul`", "of the"),
        ] {
            let told = cross_check(f, std::slice::from_ref(&x), &[broken(fault)]).unwrap_err().to_string();
            assert!(told.contains(kernel) && told.contains(part), "{fault}: {told}");
        }
    }

    #[test]
    fn a_block_is_checked_with_its_parameters() {
        let ctx = Dyn::new(Reference);
        let mut net = Sequential::new();
        net.add(Dense::new(4)).add(Dense::new(2));
        net.initialize(Xavier::default(), &ctx).unwrap();
        let x = Tensor::from_slice(&ctx, &[0.3f64, -1.2, 0.7], [1, 3]).unwrap();
        net.forward(&x.cast(DType::F32).unwrap()).unwrap();
        let weights: Vec<Tensor<Dyn>> =
            net.collect_params().iter().map(|(_, p)| p.data().unwrap().detach().cast(DType::F64).unwrap()).collect();
        let [w, b, v, c] = &weights[..] else { panic!("two layers have four parameters") };
        let f = |x: &[Tensor<Dyn>]| {
            let y = x[0].matmul(&x[1].t()?)?.add(&x[2])?.tanh()?;
            y.matmul(&x[3].t()?)?.add(&x[4])
        };
        let all = [&x, w, b, v, c].map(|t| t.detach());
        gradcheck(f, &all).unwrap();
        cross_check(f, &all, &[ctx]).unwrap();
    }
}
