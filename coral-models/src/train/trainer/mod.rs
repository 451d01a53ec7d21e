mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::Tensor;
use coral_core::{EpochReport, Error, Result};

pub use self::config::{Monitor, TrainerConfig};
use super::average::ExponentialAverage;
use super::early_stopping::EarlyStopping;
use super::gradients::{Gradients, loss_value, positive};
use super::optimizer::Optimizer;
use super::parameters::Parameters;
use super::schedule::{Schedule, finite};

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
    /// Whether the last epoch waits for [`Trainer::judge`].
    pub(super) unjudged: bool,
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
    /// [`Error::InvalidParameter`] naming a field outside of its range, or when the training loss is meant to rise;
    /// [`Error::Model`] when there is no memory for averages.
    pub fn new(parameters: Parameters, config: TrainerConfig) -> Result<Self> {
        [("clip_norm", config.clip_norm), ("clip_value", config.clip_value)]
            .into_iter()
            .try_for_each(|(name, limit)| limit.map_or(Ok(()), |limit| positive(name, limit)))?;
        if config.accumulate == 0 {
            return Err(Error::parameter("accumulate", "0; expected at least 1"));
        }
        config.expect_attainable_goal()?;
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
            unjudged: false,
        })
    }

    /// Takes the mean loss of `samples` samples, and makes a step when enough parts of the batch are there.
    ///
    /// # Errors
    /// Those of [`Gradients::of`]; [`Error::InvalidInput`] when there is no sample, averages are swapped in or the epoch
    /// before waits for [`Trainer::judge`]. Nothing is changed then, but for the statistics of batch normalisation that
    /// computing the loss has moved.
    pub fn step(&mut self, loss: &Tensor, samples: usize) -> Result<()> {
        if samples == 0 {
            return Err(Error::input("samples", "0; expected at least 1"));
        }
        self.expect_ready()?;
        let value = loss_value(loss)?;
        let gradients = Gradients::of(loss, &self.parameters)?;
        self.take(value, gradients, samples)
    }

    /// [`step`](Self::step) with the gradients of a loss whose parts were gone back from one by one.
    pub(crate) fn step_collected(&mut self, value: f64, gradients: Gradients, samples: usize) -> Result<()> {
        self.expect_ready()?;
        finite("loss", value)?;
        self.take(value, gradients, samples)
    }

    fn take(&mut self, value: f64, mut gradients: Gradients, samples: usize) -> Result<()> {
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
    /// [`Error::InvalidInput`] when averages are swapped in; then nothing is changed.
    pub fn flush(&mut self) -> Result<()> {
        self.expect_unswapped()?;
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

    /// Ends a pass over the training set, and reports on it; the learning rate is that of its last step. Schedule and
    /// early stopping take its loss, or wait for [`Trainer::judge`] where [`TrainerConfig::monitor`] says so.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there was no step; those of [`Trainer::flush`].
    pub fn finish_epoch(&mut self) -> Result<EpochReport> {
        self.flush()?;
        if self.totals.steps == 0 {
            return Err(Error::input("samples", "an epoch without steps; expected at least one"));
        }
        let Totals { samples, loss, steps, norms, learning_rate } = self.totals;
        let loss = loss / samples as f64;
        match self.config.monitor {
            Monitor::TrainingLoss => self.follow(loss)?,
            Monitor::Validation => self.unjudged = true,
        }
        self.forget_epoch();
        self.epoch += 1;
        Ok(EpochReport { loss: loss as f32, samples, learning_rate, gradient_norm: norms / steps as f64 })
    }

    /// Tells schedule and early stopping how good the network is after the last epoch, where [`TrainerConfig::monitor`]
    /// leaves it to the caller.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is no finite number, or when no epoch waits for it; then nothing is changed.
    ///
    /// # Examples
    /// ```
    /// use candle_core::Device;
    /// use coral_models::{EarlyStoppingConfig, Goal, Monitor, Parameters, Trainer, TrainerConfig};
    /// let stopping = EarlyStoppingConfig { patience: 1, goal: Goal::Maximize, ..EarlyStoppingConfig::default() };
    /// let config =
    ///     TrainerConfig { early_stopping: Some(stopping), monitor: Monitor::Validation, ..TrainerConfig::default() };
    /// let (parameters, weight) = Parameters::create(0, &Device::Cpu, |vb| vb.get(1, "w"))?;
    /// let mut trainer = Trainer::new(parameters, config)?;
    /// for (f1, stop) in [(0.5, false), (0.75, false), (0.625, true)] {
    ///     trainer.step(&weight.sum_all().unwrap(), 1)?;
    ///     trainer.finish_epoch()?;
    ///     trainer.judge(f1)?;
    ///     assert_eq!(trainer.should_stop(), stop);
    /// }
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn judge(&mut self, value: f64) -> Result<()> {
        if !self.unjudged {
            let reason = "has no epoch to judge; expected `monitor` to be `validation`, and `finish_epoch` before";
            return Err(Error::input("trainer", reason));
        }
        self.follow(value)?;
        self.unjudged = false;
        Ok(())
    }

    fn follow(&mut self, value: f64) -> Result<()> {
        finite("monitored value", value)?;
        self.schedule.finish_epoch(value)?;
        self.early_stopping.as_mut().map_or(Ok(()), |stopping| stopping.update(value).map(drop))
    }

    /// Forgets what an epoch that failed has seen, before another.
    pub(crate) fn start_epoch(&mut self) -> Result<()> {
        self.expect_ready()?;
        self.forget_epoch();
        Ok(())
    }

    pub(super) fn forget_epoch(&mut self) {
        (self.totals, self.waiting) = (Totals::default(), None);
    }

    fn expect_judged(&self) -> Result<()> {
        match self.unjudged {
            true => Err(Error::input("trainer", "waits for `judge` after its last epoch, as `monitor` says")),
            false => Ok(()),
        }
    }

    /// Checks that a step may be made now.
    pub(crate) fn expect_ready(&self) -> Result<()> {
        self.expect_judged()?;
        self.expect_unswapped()
    }

    pub(crate) fn expect_unswapped(&self) -> Result<()> {
        self.average.as_ref().map_or(Ok(()), ExponentialAverage::expect_unswapped)
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

    /// What to predict with: the averages where there are, and the weights else.
    pub(crate) fn best_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        match self.average.as_ref().filter(|average| !average.is_swapped()) {
            Some(average) => average.tensors(&self.parameters),
            // Swapped averages lie in the place of the weights.
            None => Ok(self.parameters.tensors()),
        }
    }

    /// Lets the averages start from the weights as they are now, after these were set from elsewhere.
    pub(crate) fn restart_average(&mut self) -> Result<()> {
        self.average.as_mut().map_or(Ok(()), |average| average.restart(&self.parameters))
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
