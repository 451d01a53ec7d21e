use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use coral_core::ndarray::{ArrayView2, Axis};
use coral_core::{EpochReport, Error, Progress, Result, SeededRng};
use serde::{Deserialize, Serialize};

use super::frame_head::{FrameHead, expect_features, matrix};
use super::head::{MultiLabelHead, MultiLabelHeadConfig};
use crate::{
    EarlyStopping, EarlyStoppingConfig, Goal, Mode, Monitor, OptimizerConfig, Parameters, PlateauConfig,
    ScheduleConfig, Trainer, TrainerConfig, batch_indices, bce_with_logits,
};

/// Keeps the random numbers of dropout apart from those of the order.
const DROPOUT: u64 = u64::MAX;

/// Features of photographs and what they show.
#[derive(Debug, Clone, Copy)]
pub struct FrameSamples<'a> {
    /// N×inputs features, e.g. [`DinoV2Encoder::linear_input`](crate::DinoV2Encoder::linear_input).
    pub features: ArrayView2<'a, f32>,
    /// N×C targets in 0..=1: 0 or 1, or the probability that a class is present.
    pub targets: ArrayView2<'a, f32>,
}

/// How a [`FrameHead`] is trained. The default is the published training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrameHeadFit {
    /// Optimiser, learning rate, schedule and early stopping, which look at the validation loss, and the seed of
    /// initial values, order and dropout.
    pub trainer: TrainerConfig,
    /// Samples per step, at least 2 for batch normalisation.
    pub batch: usize,
    /// Most passes over the training samples.
    pub epochs: usize,
    /// Share of the hidden values that are dropped.
    pub dropout: f64,
    /// What the positive part of each class's loss is multiplied by; 1 without.
    pub positive_weights: Option<Vec<f32>>,
}

impl Default for FrameHeadFit {
    /// DinoVdeau's: Adam 1e-3 with a weight decay of 1e-4, 32 samples a step, at most 150 epochs, the rate divided by 10
    /// after more than 5 epochs without progress, and an end after 10.
    fn default() -> Self {
        let plateau = PlateauConfig { factor: 0.1, patience: 5, ..PlateauConfig::default() };
        let trainer = TrainerConfig {
            optimizer: OptimizerConfig::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-4 },
            learning_rate: 1e-3,
            schedule: ScheduleConfig::Plateau(plateau),
            early_stopping: Some(EarlyStoppingConfig { patience: 10, ..EarlyStoppingConfig::default() }),
            monitor: Monitor::Validation,
            ..TrainerConfig::default()
        };
        Self { trainer, batch: 32, epochs: 150, dropout: 0.5, positive_weights: None }
    }
}

/// One pass of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrameHeadEpoch {
    /// The pass over the training samples, with dropout.
    pub training: EpochReport,
    /// The mean binary cross-entropy on the validation samples after it.
    pub validation_loss: f64,
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameHeadReport {
    /// Every pass, in order.
    pub epochs: Vec<FrameHeadEpoch>,
    /// The pass with the lowest validation loss, whose weights the head has.
    pub best_epoch: usize,
}

impl FrameHead {
    /// Trains a head on the binary cross-entropy of every class, and keeps the weights of the epoch that was best on the
    /// `validation` samples. A last batch of one sample is left out: it has no statistics to normalise by.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] or [`Error::ShapeMismatch`] when there are fewer than two training samples or no
    /// validation sample, numbers of rows or columns differ, a feature is not finite or a target outside 0..=1;
    /// [`Error::InvalidParameter`] naming a setting out of range; [`Error::InvalidInput`] or [`Error::Model`] when the
    /// training diverges.
    pub fn fit(
        train: FrameSamples<'_>,
        validation: FrameSamples<'_>,
        config: &FrameHeadFit,
        progress: &dyn Progress,
    ) -> Result<(Self, FrameHeadReport)> {
        let shape = (train.features.ncols(), train.targets.ncols());
        train.expect("train", shape, 2)?;
        validation.expect("validation", shape, 1)?;
        let network = MultiLabelHeadConfig { dropout: config.dropout, ..MultiLabelHeadConfig::new(shape.0, shape.1) };
        config.validate()?;
        let mut training = Training::new(network, config)?;
        progress.start(config.epochs as u64, "epochs of the head");
        let mut report = FrameHeadReport { epochs: Vec::new(), best_epoch: 0 };
        for epoch in 0..config.epochs {
            let reported = training.epoch(train, epoch as u64)?;
            let validation_loss = training.judge(validation)?;
            if training.improved() {
                report.best_epoch = epoch;
            }
            report.epochs.push(FrameHeadEpoch { training: reported, validation_loss });
            progress.advance(1);
            if training.trainer.should_stop() {
                break;
            }
        }
        progress.finish();
        Ok((training.finish()?, report))
    }
}

impl FrameSamples<'_> {
    fn expect(&self, what: &str, (inputs, classes): (usize, usize), least: usize) -> Result<()> {
        let rows = self.features.nrows();
        if rows < least {
            return Err(Error::input(
                format!("{what}.features"),
                format!("expected at least {least} rows, got {rows}"),
            ));
        }
        expect_features(&format!("{what}.features"), self.features, inputs)?;
        if self.targets.dim() != (rows, classes) {
            let (actual, columns) = self.targets.dim();
            let name = format!("{what}.targets");
            return Err(Error::shape(name, format!("{rows}x{classes}"), format!("{actual}x{columns}")));
        }
        match self.targets.indexed_iter().find(|(_, target)| !(0.0..=1.0).contains(*target)) {
            Some(((row, class), target)) => {
                let reason = format!("class {class} of row {row} is {target}; expected 0 to 1");
                Err(Error::input(format!("{what}.targets"), reason))
            }
            None => Ok(()),
        }
    }
}

impl FrameHeadFit {
    fn validate(&self) -> Result<()> {
        if self.batch < 2 {
            let reason = format!("expected at least 2, for batch normalisation, got {}", self.batch);
            return Err(Error::parameter("batch", reason));
        }
        if self.epochs == 0 {
            return Err(Error::parameter("epochs", "expected at least 1, got 0"));
        }
        if self.trainer.goals().contains(&Some(Goal::Maximize)) {
            return Err(Error::parameter("trainer.goal", "a loss is to fall; expected `Minimize`"));
        }
        match self.trainer.monitor {
            Monitor::Validation => Ok(()),
            Monitor::TrainingLoss => Err(Error::parameter("trainer.monitor", "expected `validation`")),
        }
    }
}

/// A training in progress.
struct Training<'a> {
    config: &'a FrameHeadFit,
    network: MultiLabelHead,
    trainer: Trainer,
    /// Finds the best epoch, whether or not the training ends early.
    best: EarlyStopping,
    tensors: BTreeMap<String, Tensor>,
}

impl<'a> Training<'a> {
    fn new(network: MultiLabelHeadConfig, config: &'a FrameHeadFit) -> Result<Self> {
        network.validate()?;
        let build = |vb: candle_nn::VarBuilder<'_>| MultiLabelHead::new(network, &vb);
        let (parameters, network) = Parameters::create(config.trainer.seed, &Device::Cpu, build)?;
        let best = EarlyStopping::new(EarlyStoppingConfig { min_delta: 0.0, ..EarlyStoppingConfig::default() })?;
        let trainer = Trainer::new(parameters, config.trainer)?;
        Ok(Self { config, network, trainer, best, tensors: BTreeMap::new() })
    }

    fn epoch(&mut self, train: FrameSamples<'_>, epoch: u64) -> Result<EpochReport> {
        let seed = SeededRng::stream(self.config.trainer.seed, epoch).bits();
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        for batch in batch_indices(train.features.nrows(), self.config.batch, seed, false)? {
            if batch.len() < 2 {
                continue;
            }
            let features = matrix(train.features.select(Axis(0), &batch).view())?;
            let targets = matrix(train.targets.select(Axis(0), &batch).view())?;
            let logits = self.network.logits(&features, Mode::Train, Some(&mut dropout))?;
            let loss = bce_with_logits(&logits, &targets, self.config.positive_weights.as_deref())?;
            self.trainer.step(&loss, batch.len())?;
        }
        self.trainer.finish_epoch()
    }

    /// The loss on the validation samples, told to the trainer; keeps the weights if they are the best.
    fn judge(&mut self, validation: FrameSamples<'_>) -> Result<f64> {
        // Rows that go through the network at a time.
        const ROWS: usize = 1 << 12;
        let tensors = self.trainer.best_tensors()?;
        let network = self.fixed(tensors.clone())?;
        let parts = validation.features.axis_chunks_iter(Axis(0), ROWS);
        let mut sum = 0.0;
        for (features, targets) in parts.zip(validation.targets.axis_chunks_iter(Axis(0), ROWS)) {
            let logits = network.logits(&matrix(features)?, Mode::Eval, None)?;
            let targets = matrix(targets)?;
            let loss = bce_with_logits(&logits, &targets, self.config.positive_weights.as_deref())?;
            let loss = loss.to_scalar::<f32>().map_err(Error::model)?;
            sum += f64::from(loss) * features.nrows() as f64;
        }
        let loss = sum / validation.features.nrows() as f64;
        self.trainer.judge(loss)?;
        self.best.update(loss)?;
        if self.improved() {
            let copies = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.copy()?)));
            self.tensors = copies.collect::<candle_core::Result<_>>().map_err(Error::model)?;
        }
        Ok(loss)
    }

    fn improved(&self) -> bool {
        self.best.is_best()
    }

    /// The network for inference.
    fn fixed(&self, tensors: BTreeMap<String, Tensor>) -> Result<MultiLabelHead> {
        let config = *self.network.config();
        self.trainer.parameters().build_with(tensors, |vb| MultiLabelHead::new(config, &vb))
    }

    fn finish(self) -> Result<FrameHead> {
        let network = self.fixed(self.tensors.clone())?;
        Ok(FrameHead::of(network, self.tensors))
    }
}
