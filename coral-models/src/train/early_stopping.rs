use coral_core::Result;
use serde::{Deserialize, Serialize};

use super::optimizer::not_negative;
use super::schedule::{Goal, Threshold, finite};

/// When to end a training that no longer improves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EarlyStoppingConfig {
    /// Epochs in a row without improvement after which to stop, at least 1.
    pub patience: u64,
    /// How much better than the best a value has to be.
    pub min_delta: f64,
    /// Whether the value is to fall or to rise.
    pub goal: Goal,
}

impl Default for EarlyStoppingConfig {
    fn default() -> Self {
        Self { patience: 10, min_delta: 0.0, goal: Goal::Minimize }
    }
}

/// Ends a training that no longer improves.
///
/// # Examples
/// ```
/// use coral_models::{EarlyStopping, EarlyStoppingConfig};
/// let mut stopping = EarlyStopping::new(EarlyStoppingConfig { patience: 2, ..EarlyStoppingConfig::default() })?;
/// let losses = [0.9, 0.7, 0.8, 0.6, 0.6, 0.7];
/// let stop = losses.iter().map(|&loss| stopping.update(loss)).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(stop, [false, false, false, false, false, true]);
/// assert_eq!(stopping.best(), Some(0.6));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    state: EarlyStoppingState,
}

/// What has been seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EarlyStoppingState {
    best: Option<f64>,
    without_improvement: u64,
}

impl EarlyStopping {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) when the patience is 0 or the difference negative or
    /// no number.
    pub fn new(config: EarlyStoppingConfig) -> Result<Self> {
        not_negative("min_delta", config.min_delta)?;
        if config.patience == 0 {
            return Err(coral_core::Error::parameter("patience", "0; expected at least 1"));
        }
        Ok(Self { config, state: EarlyStoppingState::default() })
    }

    /// Takes the value of an epoch; returns whether to stop.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](coral_core::Error::InvalidInput) when it is no finite number; then nothing is changed.
    pub fn update(&mut self, value: f64) -> Result<bool> {
        finite("monitored value", value)?;
        let threshold = Threshold::Absolute(self.config.min_delta);
        if self.state.best.is_none_or(|best| threshold.is_better(self.config.goal, value, best)) {
            self.state = EarlyStoppingState { best: Some(value), without_improvement: 0 };
        } else {
            self.state.without_improvement += 1;
        }
        Ok(self.should_stop())
    }

    /// Whether the patience is used up.
    pub fn should_stop(&self) -> bool {
        self.state.without_improvement >= self.config.patience
    }

    /// Whether the last value was the best, so that its weights are worth keeping.
    pub fn is_best(&self) -> bool {
        self.state.best.is_some() && self.state.without_improvement == 0
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.state.best
    }

    pub(super) fn state(&self) -> EarlyStoppingState {
        self.state
    }

    pub(super) fn restore(&mut self, state: EarlyStoppingState) {
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvements_have_to_exceed_the_difference() {
        let config = EarlyStoppingConfig { patience: 2, min_delta: 0.125, goal: Goal::Maximize };
        let mut stopping = EarlyStopping::new(config).unwrap();
        assert!(!stopping.is_best());
        // A rise by exactly the difference is none.
        for (value, stop, best) in
            [(0.5, false, true), (0.625, false, false), (0.75, false, true), (0.875, false, false)]
        {
            assert_eq!((stopping.update(value).unwrap(), stopping.is_best()), (stop, best), "{value}");
        }
        assert!(stopping.update(f64::NAN).is_err() && !stopping.should_stop());
        assert!(stopping.update(0.0).unwrap() && stopping.should_stop());
        assert_eq!(stopping.best(), Some(0.75));
    }

    #[test]
    fn unusable_values_are_named() {
        let text = |config| EarlyStopping::new(config).unwrap_err().to_string();
        assert!(text(EarlyStoppingConfig { patience: 0, ..Default::default() }).contains("`patience`"));
        assert!(text(EarlyStoppingConfig { min_delta: f64::NAN, ..Default::default() }).contains("`min_delta`"));
    }
}
