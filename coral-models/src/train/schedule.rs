use std::f64::consts::PI;

use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::optimizer::not_negative;

/// Whether a monitored value is to fall, as a loss, or to rise, as an F1 score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Lower is better.
    #[default]
    Minimize,
    /// Higher is better.
    Maximize,
}

/// What a schedule counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Steps of the optimiser.
    Step,
    /// Passes over the training set.
    #[default]
    Epoch,
}

/// How much better a value has to be than the best before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// By this share of the best.
    Relative(f64),
    /// By this difference.
    Absolute(f64),
}

impl Threshold {
    /// Whether `value` is better than `best` by more than the threshold.
    pub fn is_better(self, goal: Goal, value: f64, best: f64) -> bool {
        match (goal, self) {
            (Goal::Minimize, Self::Relative(share)) => value < best * (1.0 - share),
            (Goal::Minimize, Self::Absolute(difference)) => value < best - difference,
            (Goal::Maximize, Self::Relative(share)) => value > best * (1.0 + share),
            (Goal::Maximize, Self::Absolute(difference)) => value > best + difference,
        }
    }

    fn validate(self) -> Result<()> {
        let (Self::Relative(value) | Self::Absolute(value)) = self;
        not_negative("threshold", value)
    }
}

/// A learning rate that shrinks when a monitored value no longer improves.
///
/// # References
/// PyTorch's `ReduceLROnPlateau`; rates agree within 1e-15.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlateauConfig {
    /// What the rate is multiplied with, in 0..1.
    pub factor: f64,
    /// Epochs without improvement that are borne; one more, and the rate shrinks.
    pub patience: u64,
    /// What counts as an improvement.
    pub threshold: Threshold,
    /// Epochs after a reduction that are not counted.
    pub cooldown: u64,
    /// The rate does not fall below.
    pub min_rate: f64,
    /// Whether the value is to fall or to rise.
    pub goal: Goal,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        let threshold = Threshold::Relative(1e-4);
        Self { factor: 0.1, patience: 10, threshold, cooldown: 0, min_rate: 0.0, goal: Goal::Minimize }
    }
}

/// A learning rate that rises linearly and then falls along half a cosine.
///
/// # References
/// PyTorch's `LinearLR` followed by `CosineAnnealingLR`; rates agree within 1e-15. After the end the rate stays low.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CosineConfig {
    /// What is counted.
    pub interval: Interval,
    /// Steps or epochs until the full rate is reached.
    pub warmup: u64,
    /// The share of the rate that the warm-up starts with, in 0..=1.
    pub start_factor: f64,
    /// Steps or epochs until the end, the warm-up included.
    pub total: u64,
    /// The rate at the end.
    pub min_rate: f64,
}

impl CosineConfig {
    /// A fall to 0 within `total`, without warm-up.
    pub fn new(interval: Interval, total: u64) -> Self {
        Self { interval, warmup: 0, start_factor: 0.0, total, min_rate: 0.0 }
    }
}

/// How the learning rate changes in the course of a training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// Not at all.
    #[default]
    Constant,
    /// It shrinks when a monitored value no longer improves.
    Plateau(PlateauConfig),
    /// It rises, and then falls along half a cosine.
    Cosine(CosineConfig),
    /// It shrinks at regular times.
    Decay {
        /// What is counted.
        interval: Interval,
        /// Steps or epochs between reductions.
        every: u64,
        /// What the rate is multiplied with, in 0..=1.
        factor: f64,
    },
}

impl ScheduleConfig {
    fn validate(&self, learning_rate: f64) -> Result<()> {
        not_negative("learning_rate", learning_rate)?;
        let share = |name, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::parameter(name, format!("{value} is not in 0..=1"))),
        };
        match *self {
            Self::Constant => Ok(()),
            Self::Plateau(plateau) => {
                plateau.threshold.validate()?;
                not_negative("min_rate", plateau.min_rate)?;
                match plateau.factor < 1.0 {
                    true => share("factor", plateau.factor),
                    false => Err(Error::parameter("factor", format!("{} is not in 0..1", plateau.factor))),
                }
            }
            Self::Cosine(cosine) => {
                not_negative("min_rate", cosine.min_rate)?;
                share("start_factor", cosine.start_factor)?;
                match cosine.warmup < cosine.total {
                    true => Ok(()),
                    false => Err(Error::parameter("warmup", format!("{} of {}", cosine.warmup, cosine.total))),
                }
            }
            Self::Decay { every: 0, .. } => Err(Error::parameter("every", "0; expected at least 1")),
            Self::Decay { factor, .. } => share("factor", factor),
        }
    }
}

/// The learning rate at this point of a training.
///
/// # Examples
/// ```
/// use coral_models::{PlateauConfig, Schedule, ScheduleConfig};
/// let plateau = PlateauConfig { factor: 0.5, patience: 1, ..PlateauConfig::default() };
/// let mut schedule = Schedule::new(ScheduleConfig::Plateau(plateau), 0.1)?;
/// for (loss, rate) in [(0.8, 0.1), (0.9, 0.1), (0.8, 0.05), (0.7, 0.05)] {
///     schedule.finish_epoch(loss)?;
///     assert_eq!(schedule.rate(), rate);
/// }
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    learning_rate: f64,
    state: ScheduleState,
}

/// How far a schedule has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ScheduleState {
    steps: u64,
    epochs: u64,
    /// The rate of a plateau schedule.
    plateau_rate: f64,
    best: Option<f64>,
    without_improvement: u64,
    cooldown: u64,
}

/// Smaller changes are not made, as in PyTorch.
const LEAST_CHANGE: f64 = 1e-8;

impl Schedule {
    /// A schedule that starts from `learning_rate`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming a field outside of its range.
    pub fn new(config: ScheduleConfig, learning_rate: f64) -> Result<Self> {
        config.validate(learning_rate)?;
        let (plateau_rate, best) = (learning_rate, None);
        let state = ScheduleState { steps: 0, epochs: 0, plateau_rate, best, without_improvement: 0, cooldown: 0 };
        Ok(Self { config, learning_rate, state })
    }

    /// The rate for the next step.
    pub fn rate(&self) -> f64 {
        match self.config {
            ScheduleConfig::Constant => self.learning_rate,
            ScheduleConfig::Plateau(_) => self.state.plateau_rate,
            ScheduleConfig::Cosine(cosine) => self.on_cosine(&cosine),
            ScheduleConfig::Decay { interval, every, factor } => {
                self.learning_rate * factor.powf((self.count(interval) / every) as f64)
            }
        }
    }

    fn on_cosine(&self, cosine: &CosineConfig) -> f64 {
        let at = self.count(cosine.interval);
        if at < cosine.warmup {
            let share = at as f64 / cosine.warmup as f64;
            return self.learning_rate * (cosine.start_factor + (1.0 - cosine.start_factor) * share);
        }
        let share = (at.min(cosine.total) - cosine.warmup) as f64 / (cosine.total - cosine.warmup) as f64;
        cosine.min_rate + (self.learning_rate - cosine.min_rate) * (1.0 + (PI * share).cos()) / 2.0
    }

    fn count(&self, interval: Interval) -> u64 {
        match interval {
            Interval::Step => self.state.steps,
            Interval::Epoch => self.state.epochs,
        }
    }

    /// Tells that a step of the optimiser is done.
    pub fn finish_step(&mut self) {
        self.state.steps += 1;
    }

    /// Tells that a pass over the training set is done, and the value that a plateau is looked for in.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the value is no number and the schedule needs it; then nothing is changed.
    pub fn finish_epoch(&mut self, monitored: f64) -> Result<()> {
        if let ScheduleConfig::Plateau(plateau) = self.config {
            finite("monitored value", monitored)?;
            self.watch(&plateau, monitored);
        }
        self.state.epochs += 1;
        Ok(())
    }

    fn watch(&mut self, plateau: &PlateauConfig, value: f64) {
        let state = &mut self.state;
        if state.best.is_none_or(|best| plateau.threshold.is_better(plateau.goal, value, best)) {
            state.best = Some(value);
            state.without_improvement = 0;
        } else {
            state.without_improvement += 1;
        }
        if state.cooldown > 0 {
            state.cooldown -= 1;
            state.without_improvement = 0;
        }
        if state.without_improvement > plateau.patience {
            let reduced = (state.plateau_rate * plateau.factor).max(plateau.min_rate);
            if state.plateau_rate - reduced > LEAST_CHANGE {
                state.plateau_rate = reduced;
            }
            (state.cooldown, state.without_improvement) = (plateau.cooldown, 0);
        }
    }

    pub(super) fn state(&self) -> ScheduleState {
        self.state
    }

    pub(super) fn restore(&mut self, state: ScheduleState) {
        self.state = state;
    }
}

pub(super) fn finite(what: &str, value: f64) -> Result<()> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(Error::input(what, format!("is {value}; expected a finite number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_rates(actual: impl IntoIterator<Item = f64>, expected: &[f64]) {
        let actual: Vec<f64> = actual.into_iter().collect();
        let close = |(a, e): (&f64, &f64)| (a - e).abs() < 1e-15;
        assert!(actual.len() == expected.len() && actual.iter().zip(expected).all(close), "{actual:?}");
    }

    /// The rates after each value, as PyTorch 2.15 has them.
    #[test]
    fn plateaus_are_those_of_pytorch() {
        let values = [1.0, 0.9, 0.95, 0.9, 0.8999, 0.89, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
        let rates = |plateau: PlateauConfig, values: &[f64]| {
            let mut schedule = Schedule::new(ScheduleConfig::Plateau(plateau), 0.1).unwrap();
            let rate = |&value: &f64| {
                schedule.finish_epoch(value).unwrap();
                schedule.rate()
            };
            values.iter().map(rate).collect::<Vec<_>>()
        };
        let half = |patience| PlateauConfig { factor: 0.5, patience, ..PlateauConfig::default() };
        let (a, b, c, d, e) = (0.1, 0.05, 0.025, 0.0125, 0.00625);
        let f = 0.003125;
        assert_rates(rates(half(1), &values), &[a, a, a, b, b, b, b, c, c, d, d, e, e, f, f]);
        let cooled = PlateauConfig { cooldown: 2, ..half(1) };
        assert_rates(rates(cooled, &values), &[a, a, a, b, b, b, b, c, c, c, c, d, d, d, d]);
        let bounded = PlateauConfig { patience: 0, min_rate: 0.005, ..PlateauConfig::default() };
        assert_rates(rates(bounded, &values[..5]), &[a, a, 0.01, 0.005, 0.005]);
        let threshold = Threshold::Absolute(0.01);
        let rising = PlateauConfig { goal: Goal::Maximize, threshold, ..half(2) };
        assert_rates(rates(rising, &values), &[a, a, a, b, b, b, c, c, c, d, d, d, e, e, e]);
        assert_rates(rates(half(0), &[-1.0, -1.00005, -1.0002, -1.0, -0.99]), &[a, a, a, b, c]);
        // PyTorch does not make changes of 1e-8 or less.
        let tiny = PlateauConfig { factor: 1.0 - 1e-8, ..half(0) };
        assert_rates(rates(tiny, &[1.0, 1.0, 1.0]), &[a, a, a]);
    }

    /// The rates before each step or epoch, as PyTorch 2.15 has them.
    #[test]
    fn other_schedules_are_those_of_pytorch() {
        let rates = |config: ScheduleConfig, by_step: bool, count: usize| {
            let mut schedule = Schedule::new(config, 0.1).unwrap();
            let rate = |_| {
                let rate = schedule.rate();
                if by_step {
                    schedule.finish_step()
                } else {
                    schedule.finish_epoch(f64::NAN).unwrap()
                }
                rate
            };
            (0..count).map(rate).collect::<Vec<_>>()
        };
        for (interval, by_step) in [(Interval::Step, true), (Interval::Epoch, false)] {
            let cosine = CosineConfig { min_rate: 0.01, ..CosineConfig::new(interval, 6) };
            let (a, b, c) = (0.09397114317029975, 0.0775, 0.055);
            let (d, e) = (0.0325, 0.01602885682970026);
            assert_rates(rates(ScheduleConfig::Cosine(cosine), by_step, 8), &[0.1, a, b, c, d, e, 0.01, 0.01]);
            assert_rates(rates(ScheduleConfig::Cosine(cosine), !by_step, 3), &[0.1; 3]);
            let warm = CosineConfig { warmup: 3, start_factor: 0.25, total: 8, ..cosine };
            let (a, b) = (0.09140576474687263, 0.06890576474687263);
            let (c, d) = (0.04109423525312736, 0.018594235253127367);
            let expected = [0.025, 0.05, 0.075, 0.1, a, b, c, d, 0.01];
            assert_rates(rates(ScheduleConfig::Cosine(warm), by_step, 9), &expected);
            let decay = ScheduleConfig::Decay { interval, every: 3, factor: 0.3 };
            assert_rates(rates(decay, by_step, 8), &[0.1, 0.1, 0.1, 0.03, 0.03, 0.03, 0.009, 0.009]);
            assert_rates(rates(ScheduleConfig::Constant, by_step, 2), &[0.1, 0.1]);
        }
    }

    #[test]
    fn unusable_values_are_named() {
        let text = |config| Schedule::new(config, 0.1).unwrap_err().to_string();
        let plateau = |factor| ScheduleConfig::Plateau(PlateauConfig { factor, ..PlateauConfig::default() });
        assert!(text(plateau(1.0)).contains("`factor`: 1 is not in 0..1"));
        assert!(text(plateau(f64::NAN)).contains("`factor`"));
        let cosine = CosineConfig::new(Interval::Step, 5);
        assert!(text(ScheduleConfig::Cosine(CosineConfig { warmup: 5, ..cosine })).contains("`warmup`: 5 of 5"));
        assert!(text(ScheduleConfig::Cosine(CosineConfig { min_rate: -1.0, ..cosine })).contains("`min_rate`"));
        let decay = |every, factor| ScheduleConfig::Decay { interval: Interval::Step, every, factor };
        assert!(text(decay(0, 0.5)).contains("`every`") && text(decay(1, 2.0)).contains("`factor`"));
        assert!(Schedule::new(ScheduleConfig::Constant, f64::INFINITY).is_err());
        let mut schedule = Schedule::new(plateau(0.5), 0.1).unwrap();
        assert!(schedule.finish_epoch(f64::NAN).unwrap_err().to_string().contains("monitored value"));
    }
}
