mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{Tensor, Var};
use coral_core::{Error, Result};

pub use self::config::OptimizerConfig;
use super::gradients::Gradients;
use super::parameters::Parameters;
use super::update::{Adam, Sgd, Step};

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
