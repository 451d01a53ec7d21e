use candle_core::Tensor;
use coral_core::{EpochReport, Error, Result};
use serde::{Deserialize, Serialize};

use super::average::{AverageConfig, ExponentialAverage};
use super::early_stopping::{EarlyStopping, EarlyStoppingConfig};
use super::gradients::{Gradients, loss_value, positive};
use super::optimizer::{Optimizer, OptimizerConfig};
use super::parameters::Parameters;
use super::schedule::{Schedule, ScheduleConfig, finite};

/// Everything about a training but the network, its data and its loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
            seed: 0,
        }
    }
}

/// Trains the weights of a network, one loss at a time.
///
/// # Examples
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use coral_models::{OptimizerConfig, Parameters, Trainer, TrainerConfig};
/// let (parameters, line) = Parameters::create(1, &Device::Cpu, |vb| candle_nn::linear(1, 1, vb))?;
/// let config = TrainerConfig { optimizer: OptimizerConfig::SGD, learning_rate: 0.05, ..TrainerConfig::default() };
/// let mut trainer = Trainer::new(parameters, config)?;
/// let x = Tensor::new(&[[0f32], [1.0], [2.0], [3.0]], &Device::Cpu).unwrap();
/// let y = x.affine(2.0, 1.0).unwrap();
/// for _ in 0..200 {
///     let error = (line.forward(&x).unwrap() - &y).unwrap();
///     trainer.step(&error.sqr().unwrap().mean_all().unwrap(), 4)?;
/// }
/// let report = trainer.finish_epoch()?;
/// assert_eq!((report.samples, report.learning_rate), (800, 0.05));
/// let slope = trainer.parameters().get("weight").unwrap().to_vec2::<f32>().unwrap()[0][0];
/// assert!((slope - 2.0).abs() < 0.01);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(super) config: TrainerConfig,
    pub(super) parameters: Parameters,
    pub(super) optimizer: Optimizer,
    pub(super) schedule: Schedule,
    pub(super) average: Option<ExponentialAverage>,
    pub(super) early_stopping: Option<EarlyStopping>,
    /// Finished epochs.
    pub(super) epoch: u64,
    pub(super) totals: Totals,
    waiting: Option<Waiting>,
    monitored: Option<f64>,
}

/// What an epoch has seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) samples: usize,
    /// The losses times their samples.
    loss: f64,
    steps: usize,
    norms: f64,
    learning_rate: f64,
}

/// Gradients of a part of a batch.
#[derive(Debug)]
struct Waiting {
    /// Times the samples.
    gradients: Gradients,
    samples: usize,
    parts: usize,
}

impl Trainer {
    /// A trainer of these weights.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming a field outside of its range; [`Error::Model`] when there is no memory for averages.
    pub fn new(parameters: Parameters, config: TrainerConfig) -> Result<Self> {
        [("clip_norm", config.clip_norm), ("clip_value", config.clip_value)]
            .into_iter()
            .try_for_each(|(name, limit)| limit.map_or(Ok(()), |limit| positive(name, limit)))?;
        if config.accumulate == 0 {
            return Err(Error::parameter("accumulate", "0; expected at least 1"));
        }
        Ok(Self {
            optimizer: Optimizer::new(config.optimizer, &parameters)?,
            schedule: Schedule::new(config.schedule, config.learning_rate)?,
            average: config.average.map(|average| ExponentialAverage::new(average, &parameters)).transpose()?,
            early_stopping: config.early_stopping.map(EarlyStopping::new).transpose()?,
            config,
            parameters,
            epoch: 0,
            totals: Totals::default(),
            waiting: None,
            monitored: None,
        })
    }

    /// Takes the mean loss of `samples` samples, and makes a step when enough parts of the batch are there.
    ///
    /// # Errors
    /// Those of [`Gradients::of`]; [`Error::InvalidInput`] when there is no sample or averages are swapped in. Nothing is
    /// changed then.
    pub fn step(&mut self, loss: &Tensor, samples: usize) -> Result<()> {
        if samples == 0 {
            return Err(Error::input("samples", "0; expected at least 1"));
        }
        self.average.as_ref().map_or(Ok(()), ExponentialAverage::expect_unswapped)?;
        let value = loss_value(loss)?;
        let mut gradients = Gradients::of(loss, &self.parameters)?;
        if self.config.accumulate == 1 {
            self.apply(gradients)?;
        } else {
            gradients.scale(samples as f64)?;
            let mut waiting = Waiting { gradients, samples, parts: 1 };
            if let Some(former) = &self.waiting {
                waiting.gradients.add(&former.gradients)?;
                waiting.samples += former.samples;
                waiting.parts += former.parts;
            }
            self.waiting = Some(waiting);
        }
        self.totals.samples += samples;
        self.totals.loss += value * samples as f64;
        match self.waiting.as_ref().is_some_and(|waiting| waiting.parts >= self.config.accumulate) {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Makes the step that waits for further parts of a batch, if one does.
    ///
    /// Not needed but to look at the weights before [`Trainer::finish_epoch`], which does it too.
    ///
    /// # Errors
    /// Those of [`Trainer::step`].
    pub fn flush(&mut self) -> Result<()> {
        let Some(mut waiting) = self.waiting.take() else { return Ok(()) };
        waiting.gradients.scale(1.0 / waiting.samples as f64)?;
        self.apply(waiting.gradients)
    }

    fn apply(&mut self, mut gradients: Gradients) -> Result<()> {
        let (norm, rate) = (gradients.norm(), self.schedule.rate());
        if let Some(max) = self.config.clip_value {
            gradients.clip_value(max)?;
        }
        if let Some(max) = self.config.clip_norm {
            gradients.clip_norm(max)?;
        }
        self.optimizer.step(&gradients, rate)?;
        if let Some(average) = &mut self.average {
            average.update(&self.parameters)?;
        }
        self.schedule.finish_step();
        self.totals.steps += 1;
        self.totals.norms += norm;
        self.totals.learning_rate = rate;
        Ok(())
    }

    /// Gives the value, such as a loss on other samples, that schedule and early stopping look at after this epoch in
    /// place of the training loss.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is no finite number.
    pub fn monitor(&mut self, value: f64) -> Result<()> {
        finite("monitored value", value)?;
        self.monitored = Some(value);
        Ok(())
    }

    /// Ends a pass over the training set, and reports on it; the learning rate is that of its last step.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there was no step; those of [`Trainer::flush`].
    pub fn finish_epoch(&mut self) -> Result<EpochReport> {
        if self.totals.samples == 0 {
            return Err(Error::input("samples", "an epoch without steps; expected at least one"));
        }
        self.flush()?;
        let Totals { samples, loss, steps, norms, learning_rate } = self.totals;
        let loss = loss / samples as f64;
        let monitored = self.monitored.unwrap_or(loss);
        self.schedule.finish_epoch(monitored)?;
        if let Some(early_stopping) = &mut self.early_stopping {
            early_stopping.update(monitored)?;
        }
        self.forget_epoch();
        self.epoch += 1;
        Ok(EpochReport { loss: loss as f32, samples, learning_rate, gradient_norm: norms / steps as f64 })
    }

    /// Forgets what an epoch that failed has seen, but not the monitored value, which may be given before an epoch.
    pub(crate) fn start_epoch(&mut self) {
        (self.totals, self.waiting) = (Totals::default(), None);
    }

    pub(super) fn forget_epoch(&mut self) {
        (self.totals, self.waiting, self.monitored) = (Totals::default(), None, None);
    }

    /// Exchanges weights and averages; a second call puts both back. Without averages nothing happens.
    ///
    /// # Errors
    /// Those of [`ExponentialAverage::swap`].
    pub fn swap_average(&mut self) -> Result<()> {
        self.average.as_mut().map_or(Ok(()), |average| average.swap(&self.parameters))
    }

    /// The config.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The weights, to freeze or unfreeze some between epochs.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The optimiser, to give weights their own rates.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// The averages, if there are.
    pub fn average(&self) -> Option<&ExponentialAverage> {
        self.average.as_ref()
    }

    /// What has been seen of the monitored value, if early stopping is wanted.
    pub fn early_stopping(&self) -> Option<&EarlyStopping> {
        self.early_stopping.as_ref()
    }

    /// Whether early stopping says so.
    pub fn should_stop(&self) -> bool {
        self.early_stopping.as_ref().is_some_and(EarlyStopping::should_stop)
    }

    /// Finished epochs.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.rate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing::{Data, network, trainer};
    use candle_core::Device;

    #[test]
    fn parts_of_a_batch_make_the_step_of_the_whole() {
        let config = TrainerConfig { optimizer: OptimizerConfig::SGD, learning_rate: 0.1, ..TrainerConfig::default() };
        let (mut whole, net) = trainer(config);
        let data = Data::new(5);
        whole.step(&net.error(&data), 5).unwrap();
        let report = whole.finish_epoch().unwrap();
        let (mut parts, net) = trainer(TrainerConfig { accumulate: 3, ..config });
        for (start, len) in [(0, 2), (2, 2), (4, 1)] {
            parts.step(&net.error(&data.part(start, len)), len).unwrap();
        }
        let in_parts = parts.finish_epoch().unwrap();
        assert!((report.loss - in_parts.loss).abs() < 1e-6 && report.samples == in_parts.samples);
        assert!((report.gradient_norm - in_parts.gradient_norm).abs() < 1e-6);
        for (name, value) in whole.parameters().trainable() {
            let other = parts.parameters().get(name).unwrap();
            let difference = (value.as_tensor() - other.as_tensor()).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "{name}");
        }
    }

    #[test]
    fn a_rest_of_a_batch_makes_a_step_too() {
        let (mut trainer, net) = trainer(TrainerConfig { accumulate: 4, ..TrainerConfig::default() });
        let before = trainer.parameters().get("head.weight").unwrap().copy().unwrap();
        trainer.step(&net.error(&Data::new(2)), 2).unwrap();
        let changed = |trainer: &Trainer| {
            let now = trainer.parameters().get("head.weight").unwrap();
            now.to_vec2::<f32>().unwrap() != before.to_vec2::<f32>().unwrap()
        };
        assert!(!changed(&trainer));
        trainer.finish_epoch().unwrap();
        assert!(changed(&trainer));
    }

    #[test]
    fn clipping_and_reports() {
        let config = TrainerConfig { optimizer: OptimizerConfig::SGD, learning_rate: 1.0, ..TrainerConfig::default() };
        let (mut trainer, net) = trainer(TrainerConfig { clip_norm: Some(1e-3), ..config });
        let before = trainer.parameters().converted(candle_core::DType::F64, network).unwrap().0;
        let data = Data::new(4);
        let error = net.error(&data).to_scalar::<f32>().unwrap();
        let norm = Gradients::of(&net.error(&data), trainer.parameters()).unwrap().norm();
        trainer.step(&net.error(&data), 4).unwrap();
        let report = trainer.finish_epoch().unwrap();
        // The norm is the one before clipping, the step the one after.
        assert_eq!(report, EpochReport { loss: error, samples: 4, learning_rate: 1.0, gradient_norm: norm });
        let moved: f64 = trainer
            .parameters()
            .trainable()
            .map(|(name, now)| {
                let now = now.as_detached_tensor().to_dtype(candle_core::DType::F64).unwrap();
                let moved = (now - before.get(name).unwrap().as_detached_tensor()).unwrap();
                moved.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
            })
            .sum();
        assert!((moved.sqrt() / 1e-3 - 1.0).abs() < 0.01, "{}", moved.sqrt());
    }

    #[test]
    fn the_monitored_value_rules_schedule_and_stop() {
        let plateau = crate::PlateauConfig { factor: 0.5, patience: 0, ..Default::default() };
        let stopping = EarlyStoppingConfig { patience: 2, ..Default::default() };
        let (mut trainer, net) = trainer(TrainerConfig {
            schedule: ScheduleConfig::Plateau(plateau),
            early_stopping: Some(stopping),
            ..TrainerConfig::default()
        });
        let mut rates = vec![];
        for value in [1.0, 2.0, 3.0] {
            assert!(!trainer.should_stop());
            trainer.step(&net.error(&Data::new(3)), 3).unwrap();
            trainer.monitor(value).unwrap();
            rates.push(trainer.finish_epoch().unwrap().learning_rate);
        }
        assert_eq!((rates, trainer.learning_rate()), (vec![1e-3, 1e-3, 5e-4], 2.5e-4));
        assert!(trainer.should_stop() && trainer.epoch() == 3);
        assert!(trainer.monitor(f64::NAN).is_err());
        // Without it, it is the loss, which is below 1 and better than any before.
        trainer.step(&(net.error(&Data::new(3)) * 1e-3).unwrap(), 3).unwrap();
        trainer.finish_epoch().unwrap();
        assert!(!trainer.should_stop() && trainer.early_stopping().unwrap().is_best());
    }

    #[test]
    fn what_cannot_be_used_changes_nothing() {
        let (mut trainer, net) =
            trainer(TrainerConfig { average: Some(AverageConfig::default()), ..Default::default() });
        assert!(trainer.finish_epoch().unwrap_err().to_string().contains("without steps"));
        let loss = net.error(&Data::new(2));
        assert!(trainer.step(&loss, 0).unwrap_err().to_string().contains("samples"));
        assert!(trainer.step(&(&loss * f64::NAN).unwrap(), 2).is_err());
        trainer.swap_average().unwrap();
        assert!(trainer.step(&loss, 2).unwrap_err().to_string().contains("swap back first"));
        trainer.swap_average().unwrap();
        assert!(trainer.finish_epoch().is_err(), "nothing was counted");
        let text = |config| Trainer::new(Parameters::create(0, &Device::Cpu, network).unwrap().0, config);
        let text = |config| text(config).unwrap_err().to_string();
        assert!(text(TrainerConfig { accumulate: 0, ..Default::default() }).contains("`accumulate`"));
        assert!(text(TrainerConfig { clip_norm: Some(0.0), ..Default::default() }).contains("`clip_norm`"));
        assert!(text(TrainerConfig { learning_rate: -1.0, ..Default::default() }).contains("`learning_rate`"));
    }
}
