//! Analytic gradients against central differences, in double precision.

use candle_core::{DType, Device, Result, Tensor, Var};
use coral_core::SeededRng;

/// Repeatable values in -1.5..1.5.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = SeededRng::new(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.range(-1.5, 1.5)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The values of a tensor of any floating type.
pub(crate) fn list(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The sum of `function`'s values weighted with fixed random numbers, so that every value counts differently.
fn weighted(output: &Tensor) -> Tensor {
    let weights = random(output.dims(), 99).to_dtype(output.dtype()).unwrap();
    (output * weights).unwrap().sum_all().unwrap()
}

/// The gradient of (weighted) `function` at `at`.
pub(crate) fn gradient(at: &Tensor, function: impl Fn(&Tensor) -> Result<Tensor>) -> Tensor {
    let variable = Var::from_tensor(at).unwrap();
    let grads = weighted(&function(variable.as_tensor()).unwrap()).backward().unwrap();
    grads.get(variable.as_tensor()).expect("the function passes no gradient").clone()
}

/// Panics unless the gradient of `function` at `at` is what small steps say, to 1e-7 of the largest of its values.
pub(crate) fn assert_gradient(at: &Tensor, function: impl Fn(&Tensor) -> Result<Tensor>) {
    const STEP: f64 = 1e-5;
    let analytic = list(&gradient(at, &function));
    let values = list(at);
    let size = analytic.iter().fold(1e-3, |size: f64, v| size.max(v.abs()));
    let value = |index: usize, step: f64| {
        let mut moved = values.clone();
        moved[index] += step;
        let moved = Tensor::from_vec(moved, at.dims(), &Device::Cpu).unwrap();
        weighted(&function(&moved).unwrap()).to_scalar::<f64>().unwrap()
    };
    for (index, &analytic) in analytic.iter().enumerate() {
        let numeric = (value(index, STEP) - value(index, -STEP)) / (2.0 * STEP);
        let error = (numeric - analytic).abs();
        assert!(error <= 1e-7 * size.max(1.0), "value {index} of {:?}: {analytic}, {numeric} by steps", at.dims());
    }
}
