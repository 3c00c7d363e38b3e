//! [`Activation`]: the elementwise functions that layers end with.

use crate::{Block, Parameters, Visitor, hooks};
use isograd_core::{Backend, Error, Expr, Result, Tensor};
use std::{fmt, str::FromStr};

/// An elementwise function, as a block of its own or as the end of a layer. Gluon's names are read by `parse`.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::{Activation, Block};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[-1.0f32, 3.0], [2])?;
/// assert_eq!(Activation::Relu.forward(&x)?.to_vec::<f32>()?, [0.0, 3.0]);
/// assert_eq!("softsign".parse::<Activation>()?, Activation::Softsign);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// ln(1 + e^x), elsewhere called softplus.
    Softrelu,
    /// x / (1 + |x|).
    Softsign,
    /// max(x, 0), at most 6.
    Relu6,
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// x Φ(x), with the normal distribution function Φ (Hendrycks and Gimpel, arXiv:1606.08415).
    Gelu,
    /// [`Activation::Gelu`] approximated by tanh (same source), as GPT-2 has it.
    GeluTanh,
    /// x tanh(ln(1 + e^x)) (Misra, arXiv:1908.08681).
    Mish,
    /// x/5 + 1/2, within 0 and 1: MXNet's. PyTorch's divides by 6.
    HardSigmoid,
    /// x · (x/6 + 1/2), the factor within 0 and 1 (Howard et al., arXiv:1905.02244).
    HardSwish,
    /// ln σ(x).
    LogSigmoid,
}

impl Activation {
    pub(super) const ALL: [Activation; 13] = [
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softrelu,
        Activation::Softsign,
        Activation::Relu6,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Mish,
        Activation::HardSigmoid,
        Activation::HardSwish,
        Activation::LogSigmoid,
    ];

    /// Gluon's name, where Gluon has the function.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Softrelu => "softrelu",
            Activation::Softsign => "softsign",
            Activation::Relu6 => "relu6",
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Mish => "mish",
            Activation::HardSigmoid => "hard_sigmoid",
            Activation::HardSwish => "hard_swish",
            Activation::LogSigmoid => "log_sigmoid",
        }
    }
}

impl FromStr for Activation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Activation> {
        Activation::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
            let names = Activation::ALL.map(Activation::name).join(", ");
            Error::invalid("Activation", format!("there is no activation {name:?}; there are {names}"))
        })
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activation({})", self.name())
    }
}

impl<B: Backend> Parameters<B> for Activation {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<B: Backend> Block<B> for Activation {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl Activation {
    fn compute<B: Backend>(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        match self {
            Activation::Relu => x.relu(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
            Activation::Softrelu => x.softplus(),
            Activation::Softsign => x.softsign(),
            Activation::Relu6 => x.clamp(0, 6),
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Mish => x.mul(&x.softplus()?.tanh()?),
            Activation::HardSigmoid => x.hard_sigmoid(),
            Activation::HardSwish => x.hard_swish(),
            Activation::LogSigmoid => x.neg()?.softplus()?.neg(),
        }
    }
}

impl Activation {
    /// The function as an expression, to be fused with others.
    ///
    /// ```
    /// use isograd::{DType, Expr};
    /// use isograd::nn::Activation;
    /// let x = Expr::input(0, DType::F32);
    /// assert_eq!(Activation::Tanh.expr(&(&x * 2.0)), (&x * 2.0).tanh());
    /// ```
    #[must_use]
    pub fn expr(self, x: &Expr) -> Expr {
        match self {
            Activation::Relu => x.relu(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
            Activation::Softrelu => x.softplus(),
            Activation::Softsign => x.softsign(),
            Activation::Relu6 => x.clamp(&x.like(0), &x.like(6)),
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Mish => x.mish(),
            Activation::HardSigmoid => x.hard_sigmoid(&x.like(0.2), &x.like(0.5)),
            Activation::HardSwish => x.hard_swish(),
            Activation::LogSigmoid => x.log_sigmoid(),
        }
    }
}

/// Applies what a layer ends with.
pub(super) fn apply<B: Backend>(activation: Option<Activation>, x: Tensor<B>) -> Result<Tensor<B>> {
    activation.map_or(Ok(x.clone()), |a| a.forward(&x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_core::{DType, operators::Fused};

    #[test]
    fn expressions_are_what_the_blocks_compute() {
        let ctx = isograd_reference::Reference;
        let x = Tensor::from_slice(&ctx, &[-7.0f64, -2.5, -0.5, 0.0, 0.3, 2.0, 6.5, f64::NAN], [8]).unwrap();
        for a in Activation::ALL {
            let fused = Fused::new("activation", &[DType::F64], 0, |x, _| a.expr(&x[0])).unwrap();
            let values = [fused.call(&[&x], &[]).unwrap(), a.forward(&x).unwrap()].map(|y| y.to_vec::<f64>().unwrap());
            for (got, expected) in values[0].iter().zip(&values[1]) {
                assert!((got - expected).abs() < 1e-15 || got.is_nan() && expected.is_nan(), "{a}: {values:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = "nosuch".parse::<Activation>().unwrap_err().to_string();
        assert!(error.contains("nosuch") && error.contains("softrelu"), "{error}");
        assert!(Activation::ALL.iter().all(|a| a.name().parse::<Activation>().unwrap() == *a));
    }
}
