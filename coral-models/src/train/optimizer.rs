use std::collections::BTreeMap;
use std::fmt;

use candle_core::{Tensor, Var};
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::gradients::{Gradients, positive};
use super::parameters::Parameters;
use super::update::{Adam, Sgd, Step};

/// How weights follow their gradients.
///
/// # References
/// Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Loshchilov and Hutter, "Decoupled Weight Decay
/// Regularization", ICLR 2019. The steps are those of PyTorch's `SGD`, `Adam` and `AdamW`; weights after four steps agree
/// within 1e-6.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the former steps' direction that is kept, in 0..1.
        momentum: f64,
        /// Share of a gradient that is left out of that direction, in 0..=1.
        dampening: f64,
        /// Whether to look ahead along it.
        nesterov: bool,
        /// Times the weight, added to the gradient.
        weight_decay: f64,
    },
    /// Adam; the weight decay is part of the gradient.
    Adam {
        /// Decay of the running means of the gradient and of its square, each in 0..1.
        betas: [f64; 2],
        /// Added to the root of the mean square; above 0, for gradients that vanish.
        eps: f64,
        /// Times the weight, added to the gradient.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay of the running means of the gradient and of its square, each in 0..1.
        betas: [f64; 2],
        /// Added to the root of the mean square; above 0, for gradients that vanish.
        eps: f64,
        /// Times the learning rate, the share of the weight that is taken off in every step.
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// Plain gradient descent.
    pub const SGD: Self = Self::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
    /// Adam with the paper's values, without weight decay.
    pub const ADAM: Self = Self::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
    /// AdamW with PyTorch's values.
    pub const ADAMW: Self = Self::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 };

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let share = |name, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::parameter(name, format!("{value} is not in 0..1"))),
        };
        match *self {
            Self::Sgd { momentum, dampening, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                if !(0.0..=1.0).contains(&dampening) {
                    return Err(Error::parameter("dampening", format!("{dampening} is not in 0..=1")));
                }
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    return Err(Error::parameter("nesterov", "needs momentum and no dampening"));
                }
                not_negative("weight_decay", weight_decay)
            }
            Self::Adam { betas, eps, weight_decay } | Self::AdamW { betas, eps, weight_decay } => {
                betas.into_iter().try_for_each(|beta| share("betas", beta))?;
                positive("eps", eps)?;
                not_negative("weight_decay", weight_decay)
            }
        }
    }

    /// Tensors that are kept for every weight.
    fn moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Self::Adam { .. } | Self::AdamW { .. } => 2,
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::ADAM
    }
}

/// Changes the weights of a network along their gradients.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use candle_nn::Init;
/// use coral_models::{Gradients, Optimizer, OptimizerConfig, Parameters};
/// let (parameters, weight) = Parameters::create(0, &Device::Cpu, |vb| vb.get_with_hints(1, "w", Init::Const(3.0)))?;
/// let mut optimizer = Optimizer::new(OptimizerConfig::SGD, &parameters)?;
/// let loss = weight.sqr().and_then(|squares| squares.sum_all()).unwrap();
/// optimizer.step(&Gradients::of(&loss, &parameters)?, 0.25)?; // 3 - 0.25 · 6
/// assert_eq!(weight.to_vec1::<f32>().unwrap(), [1.5]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub struct Optimizer {
    config: OptimizerConfig,
    slots: BTreeMap<String, Slot>,
}

/// What belongs to one weight.
struct Slot {
    variable: Var,
    rate_scale: f64,
    decays: bool,
    state: SlotState,
}

/// What the steps of one weight leave behind.
#[derive(Default, Clone)]
pub(super) struct SlotState {
    pub(super) steps: u64,
    /// None before the first step.
    pub(super) moments: Vec<Tensor>,
}

impl Optimizer {
    /// An optimiser of the weights of `parameters`, frozen ones included: it changes those that a step has gradients for.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming a field outside of its range.
    pub fn new(config: OptimizerConfig, parameters: &Parameters) -> Result<Self> {
        config.validate()?;
        let slot = |variable: &Var| {
            let (variable, state) = (variable.clone(), SlotState::default());
            Slot { variable, rate_scale: 1.0, decays: true, state }
        };
        let weights = parameters.trainable().chain(parameters.frozen());
        Ok(Self { config, slots: weights.map(|(name, variable)| (name.to_owned(), slot(variable))).collect() })
    }

    /// The config.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// Gives each weight its own multiple of the learning rate, for example less to the layers near the image.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the weight when a scale is negative or no number; then nothing is changed.
    pub fn scale_learning_rate(&mut self, scale: impl Fn(&str) -> f64) -> Result<()> {
        let scales = self.slots.keys().map(|name| match scale(name) {
            scale if scale.is_finite() && scale >= 0.0 => Ok(scale),
            scale => Err(Error::parameter("scale", format!("{scale} for `{name}`; expected 0 or more"))),
        });
        let scales = scales.collect::<Result<Vec<_>>>()?;
        self.slots.values_mut().zip(scales).for_each(|(slot, scale)| slot.rate_scale = scale);
        Ok(())
    }

    /// Takes the weight decay off the weights whose name `matching` accepts, such as biases and normalisations, and
    /// puts it on all others; returns how many are without.
    pub fn exclude_from_weight_decay(&mut self, matching: impl Fn(&str) -> bool) -> usize {
        self.slots.iter_mut().for_each(|(name, slot)| slot.decays = !matching(name));
        self.slots.values().filter(|slot| !slot.decays).count()
    }

    /// Changes every weight that has a gradient; others keep their value and state.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the learning rate is negative or no number; [`Error::InvalidInput`] or
    /// [`Error::ShapeMismatch`] when gradients are of other weights, then nothing is changed.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<()> {
        not_negative("learning_rate", learning_rate)?;
        let (tensors, factor) = gradients.parts();
        for (name, gradient) in tensors {
            let Some(slot) = self.slots.get(name) else {
                return Err(Error::input(name, "has a gradient, but is no weight of the optimiser's network"));
            };
            if slot.variable.dims() != gradient.dims() {
                let (expected, actual) = (slot.variable.dims(), gradient.dims());
                return Err(Error::shape(
                    format!("gradient of {name}"),
                    format!("{expected:?}"),
                    format!("{actual:?}"),
                ));
            }
        }
        for (name, gradient) in tensors {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.step(&self.config, gradient, (factor, learning_rate)).map_err(Error::model)?;
            }
        }
        Ok(())
    }

    /// What belongs to each weight: the multiple of the learning rate, whether it decays, steps and moments.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, f64, bool, &SlotState)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot.rate_scale, slot.decays, &slot.state))
    }

    /// Puts such states back; those of names that are unknown are left out.
    pub(super) fn restore(&mut self, states: BTreeMap<String, (f64, bool, SlotState)>) {
        for (name, (rate_scale, decays, state)) in states {
            if let Some(slot) = self.slots.get_mut(&name) {
                (slot.rate_scale, slot.decays, slot.state) = (rate_scale, decays, state);
            }
        }
    }

    /// How many moments a weight has after `steps` steps.
    pub(super) fn moments(&self, steps: u64) -> usize {
        if steps == 0 { 0 } else { self.config.moments() }
    }
}

impl Slot {
    fn step(
        &mut self,
        config: &OptimizerConfig,
        gradient: &Tensor,
        (factor, learning_rate): (f64, f64),
    ) -> candle_core::Result<()> {
        let state = &mut self.state;
        while state.moments.len() < config.moments() {
            state.moments.push(self.variable.as_detached_tensor().zeros_like()?);
        }
        state.steps += 1;
        let step = Step { rate: learning_rate * self.rate_scale, factor, count: state.steps };
        let decay = |weight_decay: f64| if self.decays { weight_decay } else { 0.0 };
        let (coupled, decoupled, betas, eps) = match *config {
            OptimizerConfig::Sgd { momentum, dampening, nesterov, weight_decay } => {
                let sgd = Sgd { momentum, dampening, nesterov, decay: decay(weight_decay) };
                return sgd.apply(step, &self.variable, gradient, state.moments.first_mut());
            }
            OptimizerConfig::Adam { betas, eps, weight_decay } => (decay(weight_decay), 0.0, betas, eps),
            OptimizerConfig::AdamW { betas, eps, weight_decay } => (0.0, decay(weight_decay), betas, eps),
        };
        let adam = Adam { betas, eps, coupled_decay: coupled, decoupled_decay: decoupled };
        match state.moments.as_mut_slice() {
            [first, second] => {
                let mut moments = [first.clone(), second.clone()];
                adam.apply(step, &self.variable, gradient, &mut moments)?;
                state.moments = moments.into();
                Ok(())
            }
            other => candle_core::bail!("Adam has two moments, not {}", other.len()),
        }
    }
}

impl fmt::Debug for Optimizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Optimizer").field("config", &self.config).field("weights", &self.slots.len()).finish()
    }
}

pub(super) fn not_negative(name: &str, value: f64) -> Result<()> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(Error::parameter(name, format!("{value}; expected a number of at least 0"))),
    }
}

#[cfg(test)]
mod tests {
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
        assert!(text(adam([0.9, 0.99], 0.0, -0.1)).contains("`weight_decay`"));
        let sgd =
            |momentum, dampening, nesterov| OptimizerConfig::Sgd { momentum, dampening, nesterov, weight_decay: 0.0 };
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
}
