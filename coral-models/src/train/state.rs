use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::Tensor;
use coral_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::early_stopping::EarlyStoppingState;
use super::optimizer::SlotState;
use super::schedule::ScheduleState;
use super::trainer::Trainer;
use crate::weights::{Checkpoint, shape_text, write_safetensors};

/// The key of a training state in a file's metadata.
const KEY: &str = "coral_training_state";
const VERSION: u64 = 1;
/// How the names of optimiser's tensors start; a number and the weight's name follow.
const OPTIMIZER: &str = "optimizer/";
/// How the names of averages start; the weight's name follows.
const AVERAGE: &str = "average/";

/// What a training state holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u64,
    config: Value,
    epoch: u64,
    schedule: ScheduleState,
    early_stopping: Option<EarlyStoppingState>,
    average_steps: Option<u64>,
    weights: BTreeMap<String, WeightHeader>,
    extra: Value,
}

/// What it holds of a weight beside tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WeightHeader {
    frozen: bool,
    steps: u64,
    rate_scale: f64,
    decays: bool,
}

impl Trainer {
    /// Writes everything that the rest of the training depends on to a `safetensors` file, which appears whole or not at
    /// all, together with what the caller wants to find again.
    ///
    /// The weights have their own names in it, so that [`Parameters::load`](crate::Parameters::load) reads them if it
    /// ignores `optimizer/` and `average/`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] in the midst of an epoch, while averages are swapped in, or when `extra` cannot be JSON;
    /// those of [`Parameters::save`](crate::Parameters::save).
    pub fn save(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        if self.totals.samples > 0 {
            return Err(Error::input("trainer", "is in the midst of an epoch; save after `finish_epoch`"));
        }
        let json = |error: serde_json::Error| Error::input("extra", format!("cannot be written as JSON: {error}"));
        let mut tensors = self.parameters.tensors();
        let mut weights = BTreeMap::new();
        for (name, rate_scale, decays, state) in self.optimizer.states() {
            let (frozen, steps) = (self.parameters.is_frozen(name), state.steps);
            weights.insert(name.to_owned(), WeightHeader { frozen, steps, rate_scale, decays });
            let moments = state.moments.iter().enumerate();
            tensors.extend(moments.map(|(index, moment)| (moment_name(index, name), moment.clone())));
        }
        if let Some(average) = &self.average {
            average.expect_unswapped()?;
            let averages = average.state().0.iter();
            tensors.extend(averages.map(|(name, average)| (format!("{AVERAGE}{name}"), average.clone())));
        }
        let header = Header {
            version: VERSION,
            config: serde_json::to_value(self.config).map_err(Error::model)?,
            epoch: self.epoch,
            schedule: self.schedule.state(),
            early_stopping: self.early_stopping.as_ref().map(|stopping| stopping.state()),
            average_steps: self.average.as_ref().map(|average| average.state().1),
            weights,
            extra: serde_json::to_value(extra).map_err(json)?,
        };
        let header = serde_json::to_string(&header).map_err(Error::model)?;
        write_safetensors(path.as_ref(), &tensors, &BTreeMap::from([(KEY.to_owned(), header)]))
    }

    /// Goes back to a state that [`Trainer::save`] wrote; returns what the caller gave it.
    ///
    /// What follows is what would have followed then, to the last bit if the operations in between are.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, is damaged or no training state, or is of a
    /// training with another config (the field is named); [`Error::Weights`] when it is of another network. Nothing is
    /// changed then.
    pub fn resume<T: DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.resume_if(path.as_ref(), |_| Ok(()))
    }

    /// Goes back only if `accept` has nothing against what the caller gave.
    pub(crate) fn resume_if<T: DeserializeOwned>(
        &mut self,
        path: &Path,
        accept: impl FnOnce(&T) -> Result<()>,
    ) -> Result<T> {
        let checkpoint = Checkpoint::open_as_named(path)?;
        let header = Header::of(&checkpoint)?;
        header.check(&checkpoint, self)?;
        let extra = T::deserialize(&header.extra);
        let extra = extra.map_err(|error| format(&checkpoint, format_args!("field `extra`: {error}")))?;
        accept(&extra)?;
        let tensors = self.tensors(&checkpoint, &header)?;
        self.restore(header, tensors)?;
        Ok(extra)
    }

    /// All tensors of a state, which have to be those of this training.
    fn tensors(&self, checkpoint: &Checkpoint, header: &Header) -> Result<BTreeMap<String, Tensor>> {
        let expected = self.expected(checkpoint, header);
        let missing: Vec<_> = expected.keys().filter(|name| !checkpoint.contains(name)).cloned().collect();
        let unexpected = checkpoint.names().filter(|&name| !expected.contains_key(name)).map(str::to_owned);
        let unexpected: Vec<_> = unexpected.collect();
        let mismatched = expected.iter().filter_map(|(name, expected)| {
            let actual = checkpoint.shape(name).filter(|actual| actual != expected)?;
            Some(format!("{name}: expected {}, got {}", shape_text(expected), shape_text(actual)))
        });
        let mismatched: Vec<_> = mismatched.collect();
        if !(missing.is_empty() && unexpected.is_empty() && mismatched.is_empty()) {
            let path = checkpoint.path().to_owned();
            return Err(Error::Weights { path, missing, unexpected, mismatched, cause: None });
        }
        let (dtype, device) = (self.parameters.dtype(), self.parameters.device());
        let read = |name: &String| {
            let tensor = checkpoint.tensor_as_stored(name, &device)?;
            match tensor.dtype() == dtype {
                true => Ok((name.clone(), tensor)),
                false => Err(format(checkpoint, format_args!("`{name}`: {:?}, expected {dtype:?}", tensor.dtype()))),
            }
        };
        expected.keys().map(read).collect()
    }

    /// The shapes of all tensors by name.
    fn expected(&self, checkpoint: &Checkpoint, header: &Header) -> BTreeMap<String, &[usize]> {
        let shape = |name: &str| self.parameters.get(name).map(|variable| variable.dims());
        let named = |name: String, weight: &str| Some((name, shape(weight)?));
        let weights = self.parameters.names().filter_map(|name| named(name.to_owned(), name));
        let moments = header.weights.iter().flat_map(|(weight, state)| {
            let count = self.optimizer.moments(state.steps);
            (0..count).filter_map(move |index| named(moment_name(index, weight), weight))
        });
        // Frozen weights may have none.
        let averages = checkpoint.names().filter(|_| self.average.is_some()).filter_map(|name| {
            let weight = name.strip_prefix(AVERAGE)?;
            named(name.to_owned(), weight)
        });
        weights.chain(moments).chain(averages).collect()
    }

    /// Takes over what has been checked.
    fn restore(&mut self, header: Header, mut tensors: BTreeMap<String, Tensor>) -> Result<()> {
        for name in self.parameters.names() {
            if let (Some(variable), Some(value)) = (self.parameters.get(name), tensors.remove(name)) {
                variable.set(&value).map_err(Error::model)?;
            }
        }
        let mut states = BTreeMap::new();
        for (name, weight) in header.weights {
            let moments =
                (0..self.optimizer.moments(weight.steps)).filter_map(|i| tensors.remove(&moment_name(i, &name)));
            let state = SlotState { steps: weight.steps, moments: moments.collect() };
            self.parameters.set_frozen(|other| other == name, weight.frozen);
            states.insert(name, (weight.rate_scale, weight.decays, state));
        }
        self.optimizer.restore(states);
        self.schedule.restore(header.schedule);
        if let (Some(stopping), Some(state)) = (&mut self.early_stopping, header.early_stopping) {
            stopping.restore(state);
        }
        if let (Some(average), Some(steps)) = (&mut self.average, header.average_steps) {
            let averages =
                tensors.into_iter().filter_map(|(name, t)| Some((name.strip_prefix(AVERAGE)?.to_owned(), t)));
            average.restore(averages.collect(), steps);
        }
        self.forget_epoch();
        self.epoch = header.epoch;
        Ok(())
    }
}

impl Header {
    fn of(checkpoint: &Checkpoint) -> Result<Self> {
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
    fn check(&self, checkpoint: &Checkpoint, trainer: &Trainer) -> Result<()> {
        let ours = serde_json::to_value(trainer.config).map_err(Error::model)?;
        for (field, ours) in ours.as_object().into_iter().flatten() {
            let theirs = self.config.get(field).unwrap_or(&Value::Null);
            if theirs != ours {
                let reason = format_args!("field `config.{field}`: {theirs}, but this training has {ours}");
                return Err(format(checkpoint, reason));
            }
        }
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

fn moment_name(index: usize, weight: &str) -> String {
    format!("{OPTIMIZER}{index}/{weight}")
}

fn format(checkpoint: &Checkpoint, reason: fmt::Arguments<'_>) -> Error {
    Error::format(checkpoint.path(), None, format!("training state: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing::{Data, Network, network, network_of, trainer};
    use crate::{
        AverageConfig, CosineConfig, EarlyStoppingConfig, Interval, OptimizerConfig, Parameters, PlateauConfig,
        ScheduleConfig, TrainerConfig,
    };
    use candle_core::{DType, Device};
    use coral_core::EpochReport;

    /// One epoch of three batches.
    fn epoch(trainer: &mut Trainer, net: &Network) -> EpochReport {
        for samples in [4, 3, 2] {
            trainer.step(&net.loss(&Data::new(samples + trainer.epoch() as usize)), samples).unwrap();
        }
        trainer.finish_epoch().unwrap()
    }

    /// The stem rests in the second epoch, as in a fine-tuning by stages.
    fn stages(trainer: &mut Trainer, net: &Network, epochs: u64) -> Vec<EpochReport> {
        let mut reports = vec![];
        while trainer.epoch() < epochs {
            match trainer.epoch() {
                1 => _ = trainer.parameters_mut().freeze(|name| name.starts_with("stem.")),
                3 => _ = trainer.parameters_mut().unfreeze(|_| true),
                _ => {}
            }
            reports.push(epoch(trainer, net));
        }
        reports
    }

    /// Everything that is saved, to the last bit.
    fn contents(trainer: &Trainer) -> (BTreeMap<String, Vec<u8>>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        trainer.save(&path, &()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        (tensors, Checkpoint::open_as_named(&path).unwrap().metadata()[KEY].clone())
    }

    fn configs() -> Vec<TrainerConfig> {
        let plateau = PlateauConfig { factor: 0.7, patience: 0, ..Default::default() };
        let full = TrainerConfig {
            optimizer: OptimizerConfig::ADAMW,
            learning_rate: 0.03,
            schedule: ScheduleConfig::Plateau(plateau),
            clip_norm: Some(0.3),
            clip_value: Some(0.2),
            accumulate: 2,
            average: Some(AverageConfig::default()),
            early_stopping: Some(EarlyStoppingConfig::default()),
            seed: u64::MAX,
        };
        let cosine = CosineConfig { warmup: 4, ..CosineConfig::new(Interval::Step, 15) };
        let momentum = OptimizerConfig::Sgd { momentum: 0.9, dampening: 0.1, nesterov: false, weight_decay: 0.01 };
        let average = Some(AverageConfig { average_buffers: true, ..Default::default() });
        let schedule = ScheduleConfig::Cosine(cosine);
        vec![full, TrainerConfig { optimizer: momentum, schedule, average, ..TrainerConfig::default() }]
    }

    #[test]
    fn a_resumed_training_is_the_uninterrupted_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        for config in configs() {
            let (mut whole, net) = trainer(config);
            let reports = stages(&mut whole, &net, 5);
            for stop in 0..5 {
                let (mut first, net) = trainer(config);
                let mut resumed_reports = stages(&mut first, &net, stop);
                first.save(&path, &("best F1", 0.1 + 0.2)).unwrap();
                let saved = contents(&first);
                drop((first, net));
                // Another start, to be overwritten, in the midst of an epoch.
                let (parameters, net) = Parameters::create(99, &Device::Cpu, network).unwrap();
                let mut second = Trainer::new(parameters, config).unwrap();
                epoch(&mut second, &net);
                second.step(&net.loss(&Data::new(3)), 3).unwrap();
                let extra: (String, f64) = second.resume(&path).unwrap();
                assert_eq!((extra.0.as_str(), extra.1, second.epoch()), ("best F1", 0.1 + 0.2, stop));
                assert_eq!(contents(&second), saved);
                resumed_reports.extend(stages(&mut second, &net, 5));
                assert_eq!(resumed_reports, reports);
                assert_eq!(contents(&second), contents(&whole));
            }
        }
    }

    #[test]
    fn double_precision_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let double = |value: f64| {
            let (parameters, _) = Parameters::create(3, &Device::Cpu, |vb| vb.get(2, "model.w")).unwrap();
            let (parameters, w) = parameters.converted(DType::F64, |vb| vb.get(2, "model.w")).unwrap();
            let mut trainer = Trainer::new(parameters, TrainerConfig::default()).unwrap();
            trainer.step(&(w * value).unwrap().sum_all().unwrap(), 1).unwrap();
            trainer.finish_epoch().unwrap();
            trainer
        };
        let (first, mut second) = (double(1.0), double(-0.3));
        first.save(&path, &()).unwrap();
        second.resume::<()>(&path).unwrap();
        assert_eq!(contents(&first), contents(&second));
    }

    #[test]
    fn the_weights_can_be_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let (mut trainer, net) = trainer(configs()[0]);
        epoch(&mut trainer, &net);
        trainer.save(&path, &()).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let (read, _) = Parameters::load(&checkpoint, &Device::Cpu, &[OPTIMIZER, AVERAGE], network).unwrap();
        let values = |p: &Parameters| p.get("head.weight").unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(values(&read), values(trainer.parameters()));
    }

    /// The text of the error, after which nothing may have changed.
    fn refused(trainer: &mut Trainer, path: &Path) -> String {
        let before = contents(trainer);
        let error = trainer.resume::<String>(path).unwrap_err().to_string();
        assert_eq!(contents(trainer), before);
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        error
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let config = configs()[0];
        let (mut saved, net) = trainer(config);
        epoch(&mut saved, &net);
        saved.save(&path, &"extra").unwrap();
        for (other, field) in [
            (TrainerConfig { optimizer: OptimizerConfig::ADAM, ..config }, "field `config.optimizer`: {\"adam_w\""),
            (TrainerConfig { schedule: ScheduleConfig::Constant, ..config }, "field `config.schedule`"),
            (TrainerConfig { average: None, ..config }, "field `config.average`"),
            (TrainerConfig { seed: 3, ..config }, "field `config.seed`: 18446744073709551615, but this training has 3"),
        ] {
            let text = refused(&mut trainer(other).0, &path);
            assert!(text.contains(field), "{text}");
        }
        let (parameters, _) = Parameters::create(3, &Device::Cpu, network_of(4)).unwrap();
        let text = refused(&mut Trainer::new(parameters, config).unwrap(), &path);
        assert!(text.contains("mis-shaped") && text.contains("head.weight: expected 4x5, got 2x5"), "{text}");
        let deeper = |vb: candle_nn::VarBuilder<'_>| Ok((network(vb.clone())?, vb.get(2, "tail.bias")?));
        let (parameters, _) = Parameters::create(3, &Device::Cpu, deeper).unwrap();
        let text = refused(&mut Trainer::new(parameters, config).unwrap(), &path);
        assert!(text.contains("1 missing (tail.bias)"), "{text}");
        let (mut same, net) = trainer(config);
        let error = same.resume::<u32>(&path).unwrap_err().to_string();
        assert!(error.contains("field `extra`"), "{error}");
        epoch(&mut same, &net);
        same.resume::<String>(&path).unwrap();
        assert_eq!(contents(&same), contents(&saved).clone());
        same.step(&net.loss(&Data::new(2)), 2).unwrap();
        assert!(same.save(&path, &()).unwrap_err().to_string().contains("midst of an epoch"));
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, damaged) = (folder.path().join("state.safetensors"), folder.path().join("damaged.safetensors"));
        let (mut trainer, net) = trainer(configs()[0]);
        epoch(&mut trainer, &net);
        trainer.parameters().save(&path).unwrap();
        assert!(refused(&mut trainer, &path).contains("no training state"));
        trainer.save(&path, &"extra").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&damaged, &bytes[..length]).unwrap();
            refused(&mut trainer, &damaged);
        }
        let replaced = |old: &str, new: &str| {
            assert_eq!(old.len(), new.len());
            let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
            let mut bytes = bytes.clone();
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
            std::fs::write(&damaged, bytes).unwrap();
        };
        for (old, new, expected) in [
            (r#"\"version\":1"#, r#"\"version\":7"#, "field `version`: expected 1, found 7"),
            (r#"\"epoch\":"#, r#"\"epork\":"#, "missing field `epoch`"),
            (r#"\"head.bias\":{"#, r#"\"head.bios\":{"#, "field `weights`: lacks `head.bias`"),
            (r#""optimizer/1/head.bias""#, r#""optimizer/1/head.bios""#, "optimizer/1/head.bias"),
            (r#""average/head.bias""#, r#""average/head.bios""#, "average/head.bios"),
        ] {
            replaced(old, new);
            let text = refused(&mut trainer, &damaged);
            assert!(text.contains(expected), "{text}");
        }
        assert!(trainer.resume::<String>(folder.path().join("none.safetensors")).is_err());
    }
}
