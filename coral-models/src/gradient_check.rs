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
    assert_gradients(&[at], |arguments| function(&arguments[0]));
}

/// The same for every argument of a function of several; of large ones some hundred values are checked.
pub(crate) fn assert_gradients(at: &[&Tensor], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    const STEP: f64 = 1e-5;
    const CHECKED: usize = 200;
    let variables: Vec<Var> = at.iter().map(|&tensor| Var::from_tensor(tensor).unwrap()).collect();
    let arguments: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let gradients = weighted(&function(&arguments).unwrap()).backward().unwrap();
    for (which, &tensor) in at.iter().enumerate() {
        let analytic = list(gradients.get(&arguments[which]).expect("the function passes no gradient"));
        let values = list(tensor);
        let size = analytic.iter().fold(1.0, |size: f64, v| size.max(v.abs()));
        let value = |index: usize, step: f64| {
            let mut moved = values.clone();
            moved[index] += step;
            let mut arguments: Vec<Tensor> = at.iter().map(|&tensor| tensor.clone()).collect();
            arguments[which] = Tensor::from_vec(moved, tensor.dims(), &Device::Cpu).unwrap();
            weighted(&function(&arguments).unwrap()).to_scalar::<f64>().unwrap()
        };
        for index in (0..analytic.len()).step_by(analytic.len().div_ceil(CHECKED)) {
            let numeric = (value(index, STEP) - value(index, -STEP)) / (2.0 * STEP);
            let (analytic, dims) = (analytic[index], tensor.dims());
            let close = (numeric - analytic).abs() <= 1e-7 * size;
            assert!(close, "argument {which} of {dims:?}, value {index}: {analytic}, {numeric} by steps");
        }
    }
}

/// Panics unless every named variable has influence on the scalar `loss` and the gradient that small steps say, to
/// `tolerance` times one more than its size, where it is largest and at one other place.
pub(crate) fn assert_variable_gradients(variables: &[(String, Var)], tolerance: f64, loss: impl Fn() -> Tensor) {
    const STEP: f64 = 1e-5;
    let gradients = loss().backward().unwrap();
    for (name, variable) in variables {
        let gradient = list(gradients.get(variable).unwrap_or_else(|| panic!("{name} has no gradient")));
        // What is added to every key leaves the attention as it is.
        let invariant = ["k_proj.bias", "self.key.bias"].iter().any(|end| name.ends_with(end));
        assert!(invariant || gradient.iter().any(|g| g.abs() > 1e-7), "{name} has no influence");
        let before = variable.as_detached_tensor().copy().unwrap();
        let largest = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
        for at in [largest, gradient.len() * 2 / 3] {
            let shifted = |by: f64| {
                let mut values = list(&before);
                values[at] += by;
                variable.set(&Tensor::from_vec(values, before.shape(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let (slope, expected) = ((shifted(STEP) - shifted(-STEP)) / (2.0 * STEP), gradient[at]);
            let close = (slope - expected).abs() < tolerance * (1.0 + expected.abs());
            assert!(close, "{name}[{at}]: gradient {expected}, difference {slope}");
        }
        variable.set(&before).unwrap();
    }
}
