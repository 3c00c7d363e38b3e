//! What is done to gradients between `backward` and an update: those of replicas are added up, and the scale of a loss is divided
//! out. A gradient remembers it until `backward` replaces it, so that nothing is done twice or forgotten, in whatever order.

use super::pause;
use crate::{Backend, Error, Result, Tensor};

impl<B: Backend> Tensor<B> {
    /// Adds up the gradients of `replicas`, variables of the same values on different devices, over those that `backward` has
    /// reached since the last update ([`Tensor::has_fresh_grad`]), in their order; the gradient of each becomes the sum. Where
    /// all are sums already nothing is done. What `backward` added to a sum under [`crate::GradReq::Add`] is added up too.
    ///
    /// ```
    /// use isograd::{DType, Dyn, Tensor, autograd};
    /// let contexts = [Dyn::new(isograd_reference::Reference), Dyn::new(isograd::Cpu::default())];
    /// let replicas = contexts.each_ref().map(|ctx| Tensor::ones(ctx, [1], DType::F32).unwrap());
    /// for (replica, slope) in replicas.iter().zip([2.0, 5.0]) {
    ///     replica.attach_grad()?;
    ///     autograd::record(|| replica.mul_scalar(slope))?.backward()?;
    /// }
    /// for _ in 0..2 {
    ///     Tensor::all_reduce_grads(&replicas)?;
    ///     assert!(replicas[1].has_reduced_grad());
    ///     assert_eq!(replicas[1].grad()?.to_vec::<f32>()?, [7.0]);
    /// }
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when some of the gradients are sums, and others are of a later `backward`;
    /// [`Error::NoGradient`]; [`Error::ShapeMismatch`], [`Error::DTypeMismatch`]; what the devices report.
    pub fn all_reduce_grads(replicas: &[Tensor<B>]) -> Result<()> {
        let fresh: Vec<&Tensor<B>> = replicas.iter().filter(|r| r.has_fresh_grad()).collect();
        if replicas.len() < 2 || fresh.iter().all(|r| r.has_reduced_grad()) {
            return Ok(());
        }
        let reduced: Vec<Option<Tensor<B>>> = fresh.iter().map(|r| r.reduced_grad()).collect();
        if let (Some(old), Some(new)) =
            (reduced.iter().position(Option::is_some), reduced.iter().position(Option::is_none))
        {
            let why = format!(
                "the gradient on {} is the sum over all devices, that on {} is of a later backward pass; go backward on every \
                 device before gradients are added up again, or set them to zero",
                fresh[old].ctx().name(),
                fresh[new].ctx().name()
            );
            return Err(Error::invalid("all_reduce_grads", why));
        }
        pause(|| {
            let gradients = |of: &[&Tensor<B>]| of.iter().map(|r| Ok(r.grad()?.detach())).collect::<Result<Vec<_>>>();
            let values = gradients(&fresh)?;
            let all = gradients(&replicas.iter().collect::<Vec<_>>())?;
            let whole = fresh.len() == replicas.len() && reduced.iter().all(Option::is_none);
            if !(whole && Tensor::all_reduce(&values)?) {
                let mut total = values[0].clone();
                for (value, reduced) in values.iter().zip(&reduced).skip(1) {
                    let own = reduced.as_ref().map_or(Ok(value.clone()), |sum| value.sub(&sum.detach()))?;
                    total = total.add(&own.as_in_context(total.ctx())?)?;
                }
                let copies = all.iter().map(|g| total.as_in_context(g.ctx())).collect::<Result<Vec<_>>>()?;
                for (gradient, copy) in all.iter().zip(&copies).filter(|(g, copy)| !g.shares_memory_with(copy)) {
                    gradient.assign(copy)?;
                }
            }
            for replica in replicas {
                if let Ok(variable) = replica.variable() {
                    let mut slot = variable.gradient();
                    slot.reduced = slot.value.clone();
                }
            }
            Ok(())
        })
    }

    /// Whether the gradient is the sum over all replicas, as [`Tensor::all_reduce_grads`] leaves it.
    pub fn has_reduced_grad(&self) -> bool {
        self.reduced_grad().is_some_and(|sum| self.grad().is_ok_and(|value| value.shares_memory_with(&sum)))
    }

    fn reduced_grad(&self) -> Option<Tensor<B>> {
        self.variable().ok()?.gradient().reduced.clone()
    }

    /// Whether [`Tensor::mark_grad_unscaled`] has been said of the gradient; `None`: of a part of it, to which `backward` has
    /// added more under [`crate::GradReq::Add`].
    pub fn has_unscaled_grad(&self) -> Option<bool> {
        self.variable().map_or(Some(false), |variable| variable.gradient().unscaled)
    }

    /// Says that the scale of a loss has been divided out of the gradient: what `backward` writes next has it again.
    ///
    /// ```
    /// use isograd::{DType, Tensor, autograd};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::ones(&ctx, [2], DType::F32)?;
    /// x.attach_grad()?;
    /// x.mark_grad_unscaled();
    /// assert_eq!(x.has_unscaled_grad(), Some(true));
    /// autograd::record(|| x.square())?.backward()?;
    /// assert_eq!(x.has_unscaled_grad(), Some(false));
    /// # Ok::<(), isograd::Error>(())
    /// ```
    pub fn mark_grad_unscaled(&self) {
        if let Ok(variable) = self.variable() {
            variable.gradient().unscaled = Some(true);
        }
    }
}
