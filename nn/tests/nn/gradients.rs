//! Gradients of blocks against central differences, in f64.

use isograd_core::{Backend, DType, Result, Tensor, autograd};
use isograd_nn::Parameters;

/// Makes parameters f64; before `initialize`.
pub fn double<B: Backend>(block: &dyn Parameters<B>) {
    block.collect_params().cast(DType::F64).unwrap();
}

/// Compares the gradients of a weighted sum of what `f` gives, in every element of the inputs and parameters.
pub fn check<B: Backend>(
    what: &str,
    f: impl Fn(&[Tensor<B>]) -> Result<Tensor<B>>,
    inputs: &[Tensor<B>],
    block: Option<&dyn Parameters<B>>,
) {
    const STEP: f64 = 1e-5;
    let sum = || {
        let y = f(inputs)?;
        let weights: Vec<f64> = (0..y.size()).map(|i| (1.3 * i as f64 + 0.4).cos()).collect();
        y.mul(&Tensor::from_slice(y.ctx(), &weights, y.shape())?)?.sum((), false)
    };
    inputs.iter().for_each(|x| x.attach_grad().unwrap());
    sum().unwrap();
    let parameters = block.map(|b| b.collect_params().unique());
    autograd::record(sum).unwrap().backward().unwrap();
    let mut variables: Vec<(String, Tensor<B>, Tensor<B>)> = vec![];
    for (i, x) in inputs.iter().enumerate() {
        variables.push((format!("input {i}"), x.detach(), x.grad().unwrap()));
    }
    for (path, p) in parameters.iter().flat_map(|p| p.iter()) {
        variables.push((path.to_string(), p.data().unwrap().detach(), p.grad().unwrap()));
    }
    for (name, values, gradient) in variables {
        let (old, gradient) = (values.to_vec::<f64>().unwrap(), gradient.to_vec::<f64>().unwrap());
        for i in 0..old.len() {
            let at = |step: f64| {
                let mut new = old.clone();
                new[i] += step;
                values.assign_slice(&new).unwrap();
                autograd::train_mode(sum).unwrap().asscalar::<f64>().unwrap()
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let bound = 1e-6 * (1.0 + expected.abs());
            assert!(
                (gradient[i] - expected).abs() < bound,
                "{what}, {name}[{i}]: {} instead of {expected}",
                gradient[i]
            );
        }
        values.assign_slice(&old).unwrap();
    }
}
