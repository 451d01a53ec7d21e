use super::*;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;

fn weights(dtype: DType) -> Parameters {
    let build = |vb: VarBuilder<'_>| Ok((vb.get(3, "p")?, vb.get((1, 2), "q")?));
    let (parameters, _) = Parameters::create(0, &Device::Cpu, build).unwrap();
    let set = |name, values: &[f32]| {
        let variable = parameters.get(name).unwrap();
        variable.set(&Tensor::from_slice(values, variable.shape(), &Device::Cpu).unwrap()).unwrap();
    };
    set("p", &[0.5, -1.25, 2.0]);
    set("q", &[1.0, -0.75]);
    parameters.converted(dtype, build).unwrap().0
}

/// The gradients of step `k`, as the gradients of a weighted sum.
fn gradients(parameters: &Parameters, k: f64) -> Gradients {
    let p = [0.1 * k, -0.4 / k, if k % 2.0 == 0.0 { 1.5 } else { -1.5 }];
    let q = [0.02 * k * k, -3.0];
    let term = |name, slope: &[f64]| {
        let variable = parameters.get(name).unwrap();
        let slope = Tensor::from_slice(slope, variable.shape(), &Device::Cpu).unwrap();
        (variable.as_tensor() * slope.to_dtype(variable.dtype()).unwrap()).unwrap().sum_all().unwrap()
    };
    Gradients::of(&(term("p", &p) + term("q", &q)).unwrap(), parameters).unwrap()
}

fn values(parameters: &Parameters) -> Vec<f64> {
    let list = |name| parameters.get(name).unwrap().flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    [list("p"), list("q")].iter().flat_map(|t| t.to_vec1::<f64>().unwrap()).collect()
}

fn after_four_steps(config: OptimizerConfig, rate: f64, dtype: DType) -> Vec<f64> {
    let parameters = weights(dtype);
    let mut optimizer = Optimizer::new(config, &parameters).unwrap();
    (1..=4).for_each(|k| optimizer.step(&gradients(&parameters, f64::from(k)), rate).unwrap());
    values(&parameters)
}

fn assert_close(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    let close = actual.iter().zip(expected).all(|(a, e)| (a - e).abs() <= 1e-6);
    assert!(close, "{actual:?} instead of {expected:?}");
}

#[test]
fn steps_are_those_of_pytorch() {
    use OptimizerConfig::{Adam, AdamW, Sgd};
    let sgd = |momentum, dampening, nesterov, weight_decay| Sgd { momentum, dampening, nesterov, weight_decay };
    let tuned = Adam { betas: [0.8, 0.95], eps: 1e-3, weight_decay: 0.1 };
    let decoupled = AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 };
    // Computed by PyTorch 2.15: p and q after the four steps, at 9 digits.
    let cases = [
        (OptimizerConfig::SGD, 0.1, [0.400000006, -1.166666746, 2.0, 0.939999998, 0.450000048]),
        (sgd(0.9, 0.0, false, 0.05), 0.1, [0.292939544, -0.969028056, 2.149895191, 0.860673726, 1.977680326]),
        (sgd(0.9, 0.3, false, 0.05), 0.1, [0.342038095, -1.005479813, 2.248870373, 0.895173967, 1.474274158]),
        (sgd(0.8, 0.0, true, 0.0), 0.1, [0.262143970, -1.005962610, 2.157439947, 0.868140757, 2.416080236]),
        (OptimizerConfig::ADAM, 0.03, [0.383492202, -1.141202569, 2.036915779, 0.891493022, -0.629999995]),
        (tuned, 0.03, [0.380780727, -1.137860537, 2.021953344, 0.881232679, -0.630049765]),
        (decoupled, 0.03, [0.378048003, -1.126785040, 2.012733459, 0.880052865, -0.621579289]),
    ];
    for (config, rate, expected) in cases {
        for dtype in [DType::F32, DType::F64] {
            assert_close(&after_four_steps(config, rate, dtype), &expected);
        }
    }
}

#[test]
fn weights_can_have_their_own_rate_and_no_decay() {
    let parameters = weights(DType::F32);
    let config = OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 };
    let mut optimizer = Optimizer::new(config, &parameters).unwrap();
    optimizer.scale_learning_rate(|name| if name == "q" { 0.5 } else { 1.0 }).unwrap();
    assert_eq!(optimizer.exclude_from_weight_decay(|name| name == "q"), 1);
    assert!(optimizer.scale_learning_rate(|_| -1.0).unwrap_err().to_string().contains("for `p`"));
    (1..=4).for_each(|k| optimizer.step(&gradients(&parameters, f64::from(k)), 0.03).unwrap());
    // Computed by PyTorch 2.15 with two groups of parameters.
    assert_close(&values(&parameters), &[0.378048003, -1.126785040, 2.012733459, 0.945746481, -0.690000057]);
}

#[test]
fn frozen_weights_keep_value_and_state() {
    let mut parameters = weights(DType::F32);
    let mut optimizer = Optimizer::new(OptimizerConfig::ADAMW, &parameters).unwrap();
    let state = |optimizer: &Optimizer| {
        let state = &optimizer.slots["p"].state;
        let moments = state.moments.iter().map(|m| m.to_vec1::<f32>().unwrap()).collect::<Vec<_>>();
        (state.steps, moments)
    };
    assert_eq!(state(&optimizer), (0, vec![]));
    optimizer.step(&gradients(&parameters, 1.0), 0.1).unwrap();
    let before = (values(&parameters), state(&optimizer));
    parameters.freeze(|name| name == "p");
    optimizer.step(&gradients(&parameters, 2.0), 0.1).unwrap();
    let after = (values(&parameters), state(&optimizer));
    assert!(after.0[..3] == before.0[..3] && after.0[3..] != before.0[3..] && after.1 == before.1);
    assert_eq!(optimizer.slots["q"].state.steps, 2);
}

#[test]
fn scaled_gradients_are_taken_scaled() {
    for (config, dtype) in [(OptimizerConfig::SGD, DType::F32), (OptimizerConfig::SGD, DType::F64)] {
        let parameters = weights(dtype);
        let mut optimizer = Optimizer::new(config, &parameters).unwrap();
        let mut gradients = gradients(&parameters, 1.0);
        gradients.scale(0.5).unwrap();
        optimizer.step(&gradients, 0.2).unwrap();
        assert_close(&values(&parameters), &[0.49, -1.21, 2.15, 0.998, -0.45]);
    }
}

#[test]
fn unusable_values_are_named() {
    let parameters = weights(DType::F32);
    let text = |config| Optimizer::new(config, &parameters).unwrap_err().to_string();
    let adam = |betas, eps, weight_decay| OptimizerConfig::Adam { betas, eps, weight_decay };
    assert!(text(adam([0.9, 1.0], 1e-8, 0.0)).contains("`betas`: 1"));
    assert!(text(adam([0.9, 0.99], f64::NAN, 0.0)).contains("`eps`"));
    // A gradient of 0 would make the step 0 / 0.
    assert!(text(adam([0.9, 0.99], 0.0, 0.0)).contains("`eps`"));
    assert!(text(adam([0.9, 0.99], 1e-8, -0.1)).contains("`weight_decay`"));
    let sgd = |momentum, dampening, nesterov| OptimizerConfig::Sgd { momentum, dampening, nesterov, weight_decay: 0.0 };
    assert!(text(sgd(1.0, 0.0, false)).contains("`momentum`"));
    assert!(text(sgd(0.9, 2.0, false)).contains("`dampening`"));
    assert!(text(sgd(0.0, 0.0, true)).contains("`nesterov`"));
    let mut optimizer = Optimizer::new(OptimizerConfig::SGD, &parameters).unwrap();
    assert!(optimizer.step(&gradients(&parameters, 1.0), f64::NAN).is_err());
    let (other, w) = Parameters::create(0, &Device::Cpu, |vb| vb.get(2, "p")).unwrap();
    let error = optimizer.step(&Gradients::of(&w.sum_all().unwrap(), &other).unwrap(), 0.1).unwrap_err();
    assert_eq!(error.to_string(), "gradient of p: expected shape [3], got [2]");
    let json = serde_json::to_string(&OptimizerConfig::SGD).unwrap();
    assert_eq!(json, r#"{"sgd":{"momentum":0.0,"dampening":0.0,"nesterov":false,"weight_decay":0.0}}"#);
}
