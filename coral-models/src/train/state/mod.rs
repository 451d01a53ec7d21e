mod header;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use coral_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::header::{Header, KEY, VERSION, WeightHeader, format};
use super::optimizer::SlotState;
use super::trainer::Trainer;
use crate::weights::{Checkpoint, shape_text, write_safetensors};

/// How the names of optimiser's tensors start; a number and the weight's name follow.
const OPTIMIZER: &str = "optimizer/";
/// How the names of averages start; the weight's name follows.
const AVERAGE: &str = "average/";
/// How the names begin of what a training state holds beside weights, for readers of the weights alone.
pub(crate) const STATE_PREFIXES: [&str; 2] = [OPTIMIZER, AVERAGE];

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
            unjudged: self.unjudged,
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
    /// What follows is what would have followed then, to the last bit if the operations in between are. That takes over
    /// which weights are frozen, their multiples of the learning rate and which of them decay: set such things anew after
    /// it, if they are to be others.
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
        let extra = T::deserialize(&header.extra);
        let extra = extra.map_err(|error| format(&checkpoint, format_args!("field `extra`: {error}")))?;
        accept(&extra)?;
        header.check(&checkpoint, self)?;
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
        // Weights that were frozen from the beginning have none.
        let stepped = header.weights.iter().filter(|(_, state)| !state.frozen && state.steps > 0);
        let found = checkpoint.names().filter_map(|name| name.strip_prefix(AVERAGE));
        let averaged = stepped.map(|(weight, _)| weight.as_str()).chain(found).filter(|_| self.average.is_some());
        let averages = averaged.filter_map(|weight| named(format!("{AVERAGE}{weight}"), weight));
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
        (self.epoch, self.unjudged) = (header.epoch, header.unjudged);
        Ok(())
    }
}

fn moment_name(index: usize, weight: &str) -> String {
    format!("{OPTIMIZER}{index}/{weight}")
}
