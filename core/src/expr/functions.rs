//! Functions composed of primitives that operators and the ends of layers share.

use super::Expr;
use std::f64::consts::{FRAC_1_PI, FRAC_1_SQRT_2};

const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

impl Expr {
    /// `x * x`.
    #[must_use]
    pub fn square(&self) -> Expr {
        self * self
    }

    /// x within `low..=high`, and `high` where that is below `low`; NaN goes through. The derivative is 1 at both bounds.
    #[must_use]
    pub fn clamp(&self, low: &Expr, high: &Expr) -> Expr {
        let x = self.less(low).select(low, self);
        x.greater(high).select(high, &x)
    }

    /// As [`Expr::clamp`], but with derivative 0 at both bounds.
    fn saturate(&self, low: f64, high: f64) -> Expr {
        let (low, high) = (self.like(low), self.like(high));
        self.less_equal(&low).select(&low, &self.greater_equal(&high).select(&high, self))
    }

    /// x/(1 + |x|).
    #[must_use]
    pub fn softsign(&self) -> Expr {
        self / (self.abs() + 1.0)
    }

    /// x Φ(x), with the normal distribution function Φ (Hendrycks and Gimpel, arXiv:1606.08415).
    #[must_use]
    pub fn gelu(&self) -> Expr {
        self * 0.5 * ((self * FRAC_1_SQRT_2).erf() + 1.0)
    }

    /// The tanh approximation of gelu (same source).
    #[must_use]
    pub fn gelu_tanh(&self) -> Expr {
        self * 0.5 * (((self + self * self * self * 0.044715) * (2.0 * FRAC_1_PI).sqrt()).tanh() + 1.0)
    }

    /// x sigmoid(x), also called swish.
    #[must_use]
    pub fn silu(&self) -> Expr {
        self * self.sigmoid()
    }

    /// x tanh(softplus(x)) (Misra, arXiv:1908.08681).
    #[must_use]
    pub fn mish(&self) -> Expr {
        self * self.softplus().tanh()
    }

    /// ln sigmoid(x).
    #[must_use]
    pub fn log_sigmoid(&self) -> Expr {
        -(-self).softplus()
    }

    /// x for x > 0, else alpha (e^x - 1). The derivative at 0 is alpha.
    #[must_use]
    pub fn elu(&self, alpha: &Expr) -> Expr {
        let positive = self.greater(&self.like(0));
        // The exponential of a large x, which nobody asks for, would overflow, and its derivative with it.
        let rest = positive.select(&self.like(0), self);
        positive.select(self, &(rest.expm1() * alpha))
    }

    /// λx for x > 0, else λα(e^x - 1), with the constants of Klambauer et al., arXiv:1706.02515.
    #[must_use]
    pub fn selu(&self) -> Expr {
        self.elu(&self.like(SELU_ALPHA)) * SELU_SCALE
    }

    /// x for x > 0, else slope · x. The derivative at 0 is the slope.
    #[must_use]
    pub fn leaky_relu(&self, slope: &Expr) -> Expr {
        self.greater(&self.like(0)).select(self, &(self * slope))
    }

    /// αx + β within 0 and 1. The derivative is 0 where it reaches either.
    #[must_use]
    pub fn hard_sigmoid(&self, alpha: &Expr, beta: &Expr) -> Expr {
        (self * alpha + beta).saturate(0.0, 1.0)
    }

    /// x · (x + 3)/6, the factor within 0 and 1 (Howard et al., arXiv:1905.02244). The derivative is 0 at -3 and 1 at 3.
    #[must_use]
    pub fn hard_swish(&self) -> Expr {
        self * ((self + 3.0).saturate(0.0, 6.0) / 6.0)
    }
}
