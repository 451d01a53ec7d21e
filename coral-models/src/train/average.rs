use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{Tensor, Var};
use candle_nn::VarBuilder;
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::in_parts::in_parts;
use super::parameters::Parameters;
use crate::ops::Values;
use crate::ops::{change, is_plain};
use crate::weights::write_safetensors;

/// How weights are averaged over the steps of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AverageConfig {
    /// Share of the average that is kept in every step, in 0..1.
    pub decay: f64,
    /// Whether to keep less at first: at most (1 + n) / (10 + n) in step n, counted from 0.
    pub warmup: bool,
    /// Whether the statistics of batch normalisation are averaged too. If not, the current ones go with the averaged
    /// weights.
    pub average_buffers: bool,
}

impl Default for AverageConfig {
    fn default() -> Self {
        Self { decay: 0.999, warmup: true, average_buffers: false }
    }
}

/// Averages of the weights over the last steps, which often predict better than the weights themselves.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use coral_models::{AverageConfig, ExponentialAverage, Parameters};
/// let build = |vb: candle_nn::VarBuilder<'_>| vb.get(1, "w");
/// let (parameters, weight) = Parameters::create(0, &Device::Cpu, build)?;
/// let config = AverageConfig { decay: 0.75, warmup: false, ..AverageConfig::default() };
/// let mut average = ExponentialAverage::new(config, &parameters)?;
/// parameters.get("w").unwrap().set(&Tensor::new(&[4f32], &Device::Cpu).unwrap()).unwrap();
/// average.update(&parameters)?;
/// assert_eq!(average.build(&parameters, build)?.to_vec1::<f32>().unwrap(), [1.0]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub struct ExponentialAverage {
    config: AverageConfig,
    averages: BTreeMap<String, Tensor>,
    steps: u64,
    swapped: bool,
}

impl ExponentialAverage {
    /// Averages that start as the weights are now. Frozen weights get one as soon as they are trained.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the decay is not in 0..1; [`Error::Model`] when there is no memory for the copies.
    pub fn new(config: AverageConfig, parameters: &Parameters) -> Result<Self> {
        if !(0.0..1.0).contains(&config.decay) {
            return Err(Error::parameter("decay", format!("{} is not in 0..1", config.decay)));
        }
        let mut average = Self { config, averages: BTreeMap::new(), steps: 0, swapped: false };
        for (name, variable) in average.averaged(parameters) {
            average.averages.insert(name.to_owned(), copied(variable)?);
        }
        Ok(average)
    }

    /// Starts again from the weights as they are now, also for what is frozen by now but had an average.
    pub(super) fn restart(&mut self, parameters: &Parameters) -> Result<()> {
        self.expect_unswapped()?;
        let mut fresh = Self::new(self.config, parameters)?;
        for name in self.averages.keys() {
            if let (false, Some(variable)) = (fresh.averages.contains_key(name), parameters.get(name)) {
                fresh.averages.insert(name.clone(), copied(variable)?);
            }
        }
        *self = fresh;
        Ok(())
    }

    /// What is being trained, and statistics if they are averaged.
    fn averaged<'a>(&self, parameters: &'a Parameters) -> impl Iterator<Item = (&'a str, &'a Var)> + use<'a> {
        let with_buffers = self.config.average_buffers;
        let counts = |name: &str| name.ends_with("num_batches_tracked");
        let buffers = parameters.buffers().filter(move |(name, _)| with_buffers && !counts(name));
        parameters.trainable().chain(buffers)
    }

    /// Takes the weights into the averages, after a step of the optimiser.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] while the averages are swapped in; [`Error::Model`] when the weights are of another network.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        self.expect_unswapped()?;
        let steps = self.steps as f64;
        let warm = if self.config.warmup { (1.0 + steps) / (10.0 + steps) } else { 1.0 };
        let share = 1.0 - self.config.decay.min(warm);
        // Weights that were frozen since go on drawing their averages near.
        let rested = parameters.frozen().filter(|(name, _)| self.averages.contains_key(*name)).collect::<Vec<_>>();
        for (name, variable) in self.averaged(parameters).chain(rested) {
            match self.averages.get_mut(name) {
                Some(average) => approach(average, variable, share).map_err(Error::model)?,
                None => _ = self.averages.insert(name.to_owned(), copied(variable)?),
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// Exchanges weights and averages, so that networks on the variables predict with the averages; a second call puts
    /// both back.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] or [`Error::ShapeMismatch`] when the weights are of another network; then nothing is changed.
    pub fn swap(&mut self, parameters: &Parameters) -> Result<()> {
        let partner = |(name, average): (&String, &Tensor)| {
            let reason = || format!("lack `{name}`, which has an average");
            let variable = parameters.get(name).ok_or_else(|| Error::input("parameters", reason()))?;
            let (expected, actual) = (average.dims(), variable.dims());
            match expected == actual {
                true => Ok(variable),
                false => Err(Error::shape(name, format!("{expected:?}"), format!("{actual:?}"))),
            }
        };
        let variables = self.averages.iter().map(partner).collect::<Result<Vec<_>>>()?;
        for (average, variable) in self.averages.values_mut().zip(variables) {
            exchange(average, variable).map_err(Error::model)?;
        }
        self.swapped = !self.swapped;
        Ok(())
    }

    /// Whether the averages are in the weights' place.
    pub fn is_swapped(&self) -> bool {
        self.swapped
    }

    /// Builds a network for inference from the averages, and from the current values of what has none.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] while the averages are swapped in; [`Error::Model`] when `build` fails.
    pub fn build<M>(
        &self,
        parameters: &Parameters,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<M> {
        parameters.build_with(self.tensors(parameters)?, build)
    }

    /// Writes the averages, with the current values of what has none, to a `safetensors` file, which appears whole or not
    /// at all.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] while the averages are swapped in; those of [`Parameters::save`].
    pub fn save(&self, parameters: &Parameters, path: impl AsRef<Path>) -> Result<()> {
        let about = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(path.as_ref(), &self.tensors(parameters)?, &about)
    }

    pub(super) fn tensors(&self, parameters: &Parameters) -> Result<BTreeMap<String, Tensor>> {
        self.expect_unswapped()?;
        let mut tensors = parameters.tensors();
        tensors.extend(self.averages.iter().map(|(name, average)| (name.clone(), average.clone())));
        Ok(tensors)
    }

    pub(super) fn expect_unswapped(&self) -> Result<()> {
        match self.swapped {
            true => Err(Error::input("average", "is in the place of the weights; swap back first")),
            false => Ok(()),
        }
    }

    /// Averages and the number of steps.
    pub(super) fn state(&self) -> (&BTreeMap<String, Tensor>, u64) {
        (&self.averages, self.steps)
    }

    pub(super) fn restore(&mut self, averages: BTreeMap<String, Tensor>, steps: u64) {
        (self.averages, self.steps, self.swapped) = (averages, steps, false);
    }
}

impl fmt::Debug for ExponentialAverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = self.averages.len();
        out.debug_struct("ExponentialAverage").field("config", &self.config).field("weights", &weights).finish()
    }
}

fn copied(variable: &Var) -> Result<Tensor> {
    variable.as_detached_tensor().copy().map_err(Error::model)
}

/// Goes a share of the way from the average to the weight.
fn approach(average: &mut Tensor, weight: &Var, share: f64) -> candle_core::Result<()> {
    if average.dims() != weight.dims() {
        candle_core::bail!("the average is {:?} where the weight is {:?}", average.dims(), weight.dims());
    }
    if !(is_plain(average) && is_plain(weight)) {
        let weight = weight.as_detached_tensor();
        *average = (&*average + ((weight - &*average)? * share)?)?;
        return Ok(());
    }
    let (weight, share) = (&Values::of(weight)?, share as f32);
    change(average, |average| {
        in_parts(average, [], weight, |average, [], weight| {
            average.iter_mut().zip(weight).for_each(|(a, w)| *a += (w - *a) * share);
        });
        Ok(())
    })
}

fn exchange(average: &mut Tensor, weight: &Var) -> candle_core::Result<()> {
    if !(is_plain(average) && is_plain(weight)) {
        let before = weight.as_detached_tensor().copy()?;
        weight.set(average)?;
        *average = before;
        return Ok(());
    }
    change(average, |average| {
        change(weight, |weight| {
            average.swap_with_slice(weight);
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn network(vb: VarBuilder<'_>) -> candle_core::Result<[Tensor; 3]> {
        Ok([vb.get(2, "a")?, vb.get((), "b")?, vb.get(2, "bn.running_mean")?])
    }

    fn set(parameters: &Parameters, value: f64) {
        for name in parameters.names() {
            let variable = parameters.get(name).unwrap();
            let ones = Tensor::ones(variable.shape(), variable.dtype(), &Device::Cpu).unwrap();
            variable.set(&(ones * value).unwrap()).unwrap();
        }
    }

    fn values(tensors: &[Tensor; 3]) -> [f64; 3] {
        tensors
            .each_ref()
            .map(|t| t.flatten_all().unwrap().get(0).unwrap().to_dtype(DType::F64).unwrap().to_scalar().unwrap())
    }

    #[test]
    fn averages_follow_slowly_and_swap() {
        for (dtype, average_buffers) in [(DType::F32, false), (DType::F64, true)] {
            let (parameters, _) = Parameters::create(0, &Device::Cpu, network).unwrap();
            let (parameters, live) = parameters.converted(dtype, network).unwrap();
            let config = AverageConfig { decay: 0.75, warmup: false, average_buffers };
            let mut average = ExponentialAverage::new(config, &parameters).unwrap();
            for value in [4.0, 8.0] {
                set(&parameters, value);
                average.update(&parameters).unwrap();
            }
            // 0 → 1 → 2.75
            let expected = [2.75, 2.75, if average_buffers { 2.75 } else { 8.0 }];
            assert_eq!(values(&average.build(&parameters, network).unwrap()), expected);
            average.swap(&parameters).unwrap();
            assert_eq!(values(&live), expected);
            for error in [average.update(&parameters), average.build(&parameters, network).map(|_| ())] {
                assert!(error.unwrap_err().to_string().contains("swap back first"));
            }
            average.swap(&parameters).unwrap();
            assert_eq!(values(&live), [8.0; 3]);
            assert_eq!(values(&average.build(&parameters, network).unwrap()), expected);
        }
    }

    #[test]
    fn warm_up_forgets_the_start() {
        let (parameters, _) = Parameters::create(0, &Device::Cpu, network).unwrap();
        let mut average =
            ExponentialAverage::new(AverageConfig { decay: 0.15, ..Default::default() }, &parameters).unwrap();
        set(&parameters, 1.0);
        let mut expected = 0.0f64;
        for decay in [0.1, 0.15, 0.15] {
            average.update(&parameters).unwrap();
            expected += (1.0 - expected) * (1.0 - decay);
            assert!((values(&average.build(&parameters, network).unwrap())[0] - expected).abs() < 1e-6);
        }
        assert!(ExponentialAverage::new(AverageConfig { decay: 1.0, ..Default::default() }, &parameters).is_err());
    }

    #[test]
    fn frozen_weights_have_no_average_until_they_are_trained() {
        let (mut parameters, _) = Parameters::create(0, &Device::Cpu, network).unwrap();
        parameters.freeze(|name| name == "a");
        let config = AverageConfig { decay: 0.5, warmup: false, average_buffers: false };
        let mut average = ExponentialAverage::new(config, &parameters).unwrap();
        set(&parameters, 1.0);
        average.update(&parameters).unwrap();
        assert_eq!(values(&average.build(&parameters, network).unwrap()), [1.0, 0.5, 1.0]);
        parameters.unfreeze(|_| true);
        average.update(&parameters).unwrap();
        set(&parameters, 2.0);
        average.update(&parameters).unwrap();
        assert_eq!(values(&average.build(&parameters, network).unwrap()), [1.5, 1.375, 2.0]);
        let (other, _) = Parameters::create(0, &Device::Cpu, |vb| vb.get(2, "c")).unwrap();
        assert!(average.swap(&other).unwrap_err().to_string().contains("lack `a`"));
        let (other, _) = Parameters::create(0, &Device::Cpu, |vb| vb.get(3, "a")).unwrap();
        assert!(average.update(&other).is_err());
        average.averages.remove("b");
        assert_eq!(average.swap(&other).unwrap_err().to_string(), "a: expected shape [2], got [3]");
    }

    #[test]
    fn averages_approach_weights_that_were_frozen_since() {
        let (mut parameters, _) = Parameters::create(0, &Device::Cpu, network).unwrap();
        let config = AverageConfig { decay: 0.5, warmup: false, average_buffers: false };
        let mut average = ExponentialAverage::new(config, &parameters).unwrap();
        set(&parameters, 1.0);
        average.update(&parameters).unwrap();
        parameters.freeze(|name| name == "a");
        average.update(&parameters).unwrap();
        assert_eq!(values(&average.build(&parameters, network).unwrap()), [0.75, 0.75, 1.0]);
    }

    #[test]
    fn averages_are_saved_with_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("average.safetensors");
        let (parameters, _) = Parameters::create(0, &Device::Cpu, network).unwrap();
        let average = ExponentialAverage::new(AverageConfig::default(), &parameters).unwrap();
        set(&parameters, 1.0);
        average.save(&parameters, &path).unwrap();
        let checkpoint = crate::Checkpoint::open(&path).unwrap();
        assert_eq!(values(&crate::load(&checkpoint, &Device::Cpu, &[], network).unwrap()), [0.0, 0.0, 1.0]);
    }
}
