//! [`Orthogonal`]: rows at right angles.

use super::{Initializer, Random};
use crate::options;
use isograd_core::{Backend, DType, Error, Result, Shape, Tensor};

/// A matrix `[out, the rest]` of orthonormal rows, or columns if there are fewer of them, times `scale` (Saxe et al.,
/// arXiv:1312.6120): it keeps the length of what passes through.
///
/// The random matrix that it begins with is made orthonormal on the host, in f64, by Gram and Schmidt's method done twice.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::Orthogonal};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(3).in_units(5);
/// layer.initialize(Orthogonal { scale: 2.0, ..Orthogonal::default() }, &ctx)?;
/// let w = layer.weight().data()?;
/// let products = w.matmul(&w.t()?)?.to_vec::<f32>()?;
/// let expected = [4.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 4.0];
/// assert!(products.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orthogonal {
    /// The length of the rows.
    pub scale: f64,
    /// What the matrix begins with.
    pub rand_type: Random,
}

impl Default for Orthogonal {
    /// Scale 1.414, from uniform numbers.
    fn default() -> Self {
        #[allow(clippy::approx_constant, reason = "Gluon's default has these digits")]
        Orthogonal { scale: 1.414, rand_type: Random::Uniform }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl<B: Backend> Initializer<B> for Orthogonal {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        options::finite("Orthogonal", "scale", self.scale)?;
        let [rows, rest @ ..] = &shape[..] else {
            let why = "Orthogonal needs a shape of at least one axis".to_string();
            return Err(Error::Parameter { name: name.to_string(), why });
        };
        let (rows, columns) = (*rows, rest.iter().product::<usize>());
        let (short, long) = (rows.min(columns), rows.max(columns));
        let start = match self.rand_type {
            Random::Uniform => Tensor::uniform(ctx, [short, long], -1.0, 1.0, DType::F32)?,
            Random::Gaussian => Tensor::normal(ctx, [short, long], 0.0, 1.0, DType::F32)?,
        };
        let mut basis: Vec<Vec<f64>> = Vec::with_capacity(short);
        let start = start.cast(DType::F32)?.to_vec::<f32>()?;
        for row in start.chunks_exact(long.max(1)) {
            let mut row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            for _ in 0..2 {
                for other in &basis {
                    let along = dot(&row, other);
                    row.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
                }
            }
            let length = dot(&row, &row).sqrt().max(f64::MIN_POSITIVE);
            row.iter_mut().for_each(|v| *v /= length);
            basis.push(row);
        }
        let at = |i: usize| {
            let (row, column) = (i / columns, i % columns);
            self.scale * if rows <= columns { basis[row][column] } else { basis[column][row] }
        };
        let values: Vec<f64> = (0..rows * columns).map(at).collect();
        Tensor::from_slice(ctx, &values, shape)?.cast(dtype)
    }
}
