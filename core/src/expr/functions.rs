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

    /// x within `low..=high`; NaN goes through.
    #[must_use]
    pub fn clamp(&self, low: &Expr, high: &Expr) -> Expr {
        self.less(low).select(low, &self.greater(high).select(high, self))
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

    /// x for x > 0, else alpha (e^x - 1).
    #[must_use]
    pub fn elu(&self, alpha: &Expr) -> Expr {
        self.greater(&self.like(0)).select(self, &(self.minimum(&self.like(0)).expm1() * alpha))
    }

    /// λx for x > 0, else λα(e^x - 1), with the constants of Klambauer et al., arXiv:1706.02515.
    #[must_use]
    pub fn selu(&self) -> Expr {
        self.elu(&self.like(SELU_ALPHA)) * SELU_SCALE
    }

    /// x for x > 0, else slope · x.
    #[must_use]
    pub fn leaky_relu(&self, slope: &Expr) -> Expr {
        self.greater(&self.like(0)).select(self, &(self * slope))
    }

    /// αx + β within 0 and 1.
    #[must_use]
    pub fn hard_sigmoid(&self, alpha: &Expr, beta: &Expr) -> Expr {
        (self * alpha + beta).maximum(&self.like(0)).minimum(&self.like(1))
    }

    /// x · (x/6 + 1/2), the factor within 0 and 1 (Howard et al., arXiv:1905.02244).
    #[must_use]
    pub fn hard_swish(&self) -> Expr {
        self * self.hard_sigmoid(&self.like(1.0 / 6.0), &self.like(0.5))
    }
}
