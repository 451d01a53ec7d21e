use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::train::average::AverageConfig;
use crate::train::early_stopping::EarlyStoppingConfig;
use crate::train::optimizer::OptimizerConfig;
use crate::train::schedule::{Goal, ScheduleConfig};

/// What schedule and early stopping look at after every epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The mean loss of the epoch, as soon as it ends.
    #[default]
    TrainingLoss,
    /// What the caller gives to [`Trainer::judge`](crate::Trainer::judge) after every epoch, such as a loss or an F1 score
    /// on other samples; no further step is made before.
    Validation,
}

/// Everything about a training but the network, its data and its loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// How weights follow their gradients.
    pub optimizer: OptimizerConfig,
    /// The rate that the schedule starts from.
    pub learning_rate: f64,
    /// How it changes.
    pub schedule: ScheduleConfig,
    /// Largest norm of all gradients together; larger ones are shrunk.
    pub clip_norm: Option<f64>,
    /// Largest value of a gradient's element; larger ones are cut, before the norm is looked at.
    pub clip_value: Option<f64>,
    /// Parts of a batch whose gradients make one step; they count by their samples.
    pub accumulate: usize,
    /// Averages of the weights, if wanted.
    pub average: Option<AverageConfig>,
    /// When to stop, if before the last epoch.
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// What schedule and early stopping look at; only what the caller gives can be meant to rise.
    #[serde(default)]
    pub monitor: Monitor,
    /// Seed for what the caller draws: the order of the samples, augmentation. Here it is only kept with the state.
    pub seed: u64,
}

impl Default for TrainerConfig {
    /// Adam at a constant rate of 0.001 and nothing else.
    fn default() -> Self {
        Self {
            optimizer: OptimizerConfig::ADAM,
            learning_rate: 1e-3,
            schedule: ScheduleConfig::Constant,
            clip_norm: None,
            clip_value: None,
            accumulate: 1,
            average: None,
            early_stopping: None,
            monitor: Monitor::TrainingLoss,
            seed: 0,
        }
    }
}

impl TrainerConfig {
    /// Schedule and early stopping look at the same number, and the loss that a training lowers cannot be meant to rise.
    pub(super) fn expect_attainable_goal(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::parameter("goal", reason));
        if self.monitor == Monitor::TrainingLoss && self.goals().contains(&Some(Goal::Maximize)) {
            return refuse("the training loss is to fall; expected `monitor` to be `validation`");
        }
        match self.goals() {
            [Some(plateau), Some(stopping)] if plateau != stopping => {
                refuse("`schedule` and `early_stopping` look at the same number; expected one goal for both")
            }
            _ => Ok(()),
        }
    }

    /// Whether the schedule and early stopping take what they look at for a number that is to fall or to rise; none of what
    /// looks at nothing.
    pub(crate) fn goals(&self) -> [Option<Goal>; 2] {
        let plateau = match self.schedule {
            ScheduleConfig::Plateau(plateau) => Some(plateau.goal),
            _ => None,
        };
        [plateau, self.early_stopping.map(|stopping| stopping.goal)]
    }
}
