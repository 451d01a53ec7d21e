use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::not_negative;
use crate::train::gradients::positive;

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
    pub(super) fn moments(&self) -> usize {
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
