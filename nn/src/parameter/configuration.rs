//! What a parameter is to be: settled while it has one handle and is not initialized; after that, what agrees with it.

use super::{Parameter, State, Values, show};
use crate::Initializer;
use isograd_core::{Backend, DType, GradReq};
use std::sync::Arc;

impl<B: Backend> Parameter<B> {
    /// Whether this is the only handle.
    fn is_sole(&self) -> bool {
        Arc::strong_count(&self.state) == 1
    }

    /// Whether anything about it may still be changed.
    pub(crate) fn is_free(&self) -> bool {
        self.is_sole() && matches!(self.lock().values, Values::None)
    }

    /// This handle, which cannot be used.
    pub(crate) fn refuse(mut self, why: impl Into<Arc<str>>) -> Self {
        self.refused.get_or_insert(why.into());
        self
    }

    /// Changes what it is, or refuses with the reason that `change` gives.
    fn configured(self, change: impl FnOnce(&mut State<B>) -> Result<(), String>) -> Self {
        let changed = change(&mut self.lock());
        match changed {
            Ok(()) => self,
            Err(why) => self.refuse(why),
        }
    }

    /// Sets the dtype. Another one than it has is refused once it is shared or initialized; see [`Parameter::cast`].
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        let free = self.is_free();
        self.configured(|state| {
            if !free && state.dtype != dtype {
                return Err(format!(
                    "it is shared or initialized as {}, so that it cannot be made {dtype}; say the dtype where it is made first, or \
                     cast it",
                    state.dtype
                ));
            }
            state.dtype = dtype;
            Ok(())
        })
    }

    /// Sets an initializer of its own, which wins over the one that the network is initialized with. It is refused once the
    /// parameter is shared or initialized; see [`Parameter::initialize`].
    #[must_use]
    pub fn with_initializer(self, initializer: impl Initializer<B> + 'static) -> Self {
        self.initialized_by(Arc::new(initializer))
    }

    pub(crate) fn initialized_by(self, initializer: Arc<dyn Initializer<B>>) -> Self {
        let free = self.is_free();
        self.configured(|state| {
            if !free {
                return Err("it was shared or initialized before its initializer was set; set that where it is made first, or call \
                            initialize with force_reinit"
                    .into());
            }
            state.own = Some(initializer);
            Ok(())
        })
    }

    /// Sets what `backward` does with its gradient; [`GradReq::Null`] for one that is not trained. As
    /// [`Parameter::set_grad_req`], also of one that is initialized or shared.
    #[must_use]
    pub fn with_grad_req(self, request: GradReq) -> Self {
        self.configured(|state| {
            if state.grad_req == request { Ok(()) } else { state.require(request).map_err(|e| e.to_string()) }
        })
    }

    /// Whether it stays f32 when it is cast to f16 or bf16: for what is gathered over many batches, such as a running variance,
    /// which those could not hold, and whose small steps they would lose.
    #[must_use]
    pub fn with_wide(self, wide: bool) -> Self {
        self.configured(|state| {
            state.wide = wide;
            Ok(())
        })
    }

    /// Whether it is trained at all. One that is not, such as a running mean, never wants a gradient, whatever is asked of the
    /// whole network. A change is refused once it is shared.
    #[must_use]
    pub fn with_differentiable(self, differentiable: bool) -> Self {
        let sole = self.is_sole();
        self.configured(|state| {
            if state.differentiable == differentiable {
                return Ok(());
            }
            if !sole {
                let is = if state.differentiable { "trained" } else { "not trained" };
                return Err(format!("it is {is} where it is shared from, which cannot be changed here"));
            }
            state.differentiable = differentiable;
            state.attach().map_err(|e| e.to_string())
        })
    }

    /// Of this shape, as far as it is known; once it is shared or initialized, what is known must agree.
    pub(crate) fn shaped(self, shape: &[Option<usize>]) -> Self {
        let free = self.is_free();
        self.configured(|state| {
            if free {
                state.shape = shape.to_vec();
                return Ok(());
            }
            let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
            if state.shape.len() != shape.len() || !state.shape.iter().zip(shape).all(fits) {
                return Err(format!(
                    "it is shared or initialized with shape {}, so that it cannot have shape {}",
                    show(&state.shape),
                    show(shape)
                ));
            }
            for (known, size) in state.shape.iter_mut().zip(shape) {
                *known = known.or(*size);
            }
            if state.shape.iter().all(Option::is_some) { state.finish().map_err(|e| e.to_string()) } else { Ok(()) }
        })
    }

    /// A handle of `given`, to stand in the place of this one: its shape must be as far as this one's is known, and what is not
    /// trained cannot be one that is.
    pub(crate) fn replaced(self, given: &Parameter<B>) -> Self {
        let trained = self.lock().differentiable;
        let given = given.clone().shaped(&self.partial_shape());
        if trained { given } else { given.with_differentiable(false) }
    }

    /// A new parameter of the same layer: named `name` where this one is named `own`.
    pub(crate) fn sibling(&self, own: &str, name: &str, shape: &[Option<usize>]) -> Parameter<B> {
        let this = self.name();
        let prefix = this.strip_suffix(own).unwrap_or_default();
        Parameter::new(format!("{prefix}{name}"), shape).with_dtype(self.dtype())
    }
}
