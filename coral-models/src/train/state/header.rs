use std::collections::BTreeMap;
use std::fmt;

use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::train::early_stopping::EarlyStoppingState;
use crate::train::schedule::ScheduleState;
use crate::train::settings::expect_same_settings;
use crate::train::trainer::Trainer;
use crate::weights::Checkpoint;

/// The key of a training state in a file's metadata.
pub(super) const KEY: &str = "coral_training_state";
pub(super) const VERSION: u64 = 2;

/// What a training state holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u64,
    pub(super) config: Value,
    pub(super) epoch: u64,
    pub(super) schedule: ScheduleState,
    /// Whether the last epoch waits for the caller's judgement.
    pub(super) unjudged: bool,
    pub(super) early_stopping: Option<EarlyStoppingState>,
    pub(super) average_steps: Option<u64>,
    pub(super) weights: BTreeMap<String, WeightHeader>,
    pub(super) extra: Value,
}

/// What it holds of a weight beside tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WeightHeader {
    pub(super) frozen: bool,
    pub(super) steps: u64,
    pub(super) rate_scale: f64,
    pub(super) decays: bool,
}

impl Header {
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(text) = checkpoint.metadata().get(KEY) else {
            return Err(Error::format(
                checkpoint.path(),
                None,
                format!("no training state: the metadata lack `{KEY}`"),
            ));
        };
        let value: Value = serde_json::from_str(text).map_err(|error| format(checkpoint, format_args!("{error}")))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            version => {
                let found = version.map_or("none".to_owned(), |version| version.to_string());
                return Err(format(checkpoint, format_args!("field `version`: expected {VERSION}, found {found}")));
            }
        }
        serde_json::from_value(value).map_err(|error| format(checkpoint, format_args!("{error}")))
    }

    /// Checks that the state belongs to a training that is configured alike, and is complete.
    pub(super) fn check(&self, checkpoint: &Checkpoint, trainer: &Trainer) -> Result<()> {
        let ours = serde_json::to_value(trainer.config).map_err(Error::model)?;
        expect_same_settings(checkpoint.path(), &self.config, &ours)?;
        if self.early_stopping.is_some() != trainer.early_stopping.is_some() {
            return Err(format(checkpoint, format_args!("field `early_stopping`: does not fit the config")));
        }
        if self.average_steps.is_some() != trainer.average.is_some() {
            return Err(format(checkpoint, format_args!("field `average_steps`: does not fit the config")));
        }
        match trainer
            .optimizer
            .states()
            .find(|(name, ..)| checkpoint.contains(name) && !self.weights.contains_key(*name))
        {
            Some((name, ..)) => Err(format(checkpoint, format_args!("field `weights`: lacks `{name}`"))),
            None => Ok(()),
        }
    }
}

pub(super) fn format(checkpoint: &Checkpoint, reason: fmt::Arguments<'_>) -> Error {
    Error::format(checkpoint.path(), None, format!("training state: {reason}"))
}
