#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use coral_core::{Error, Result};

use super::sources::{Existing, Recorder};
use crate::weights::{Checkpoint, load, write_safetensors};

/// The named weights of one network as variables that can be trained.
///
/// A weight is trained unless it was frozen or is a buffer: a tensor whose name ends in `running_mean`,
/// `running_var` or `num_batches_tracked`, which batch normalisation sets by itself.
///
/// # Examples
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use coral_models::Parameters;
/// let build = |vb: candle_nn::VarBuilder<'_>| candle_nn::linear(3, 2, vb.pp("head"));
/// let (mut parameters, head) = Parameters::create(7, &Device::Cpu, build)?;
/// assert_eq!(parameters.names().collect::<Vec<_>>(), ["head.bias", "head.weight"]);
/// assert_eq!(parameters.freeze(|name| name.ends_with("bias")), 1);
/// assert_eq!(parameters.trainable().map(|(name, _)| name).collect::<Vec<_>>(), ["head.weight"]);
///
/// // The same weights for inference, without a record of what was computed.
/// let fixed = parameters.detached(build)?;
/// let x = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap();
/// let (trained, fixed) = (head.forward(&x).unwrap(), fixed.forward(&x).unwrap());
/// assert_eq!(trained.to_vec2::<f32>().unwrap(), fixed.to_vec2::<f32>().unwrap());
/// assert!(trained.track_op() && !fixed.track_op());
/// # Ok::<(), coral_core::Error>(())
/// ```
pub struct Parameters {
    variables: BTreeMap<String, Parameter>,
}

struct Parameter {
    variable: Var,
    frozen: bool,
}

/// What [`Parameters::load_partly`] does not read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fresh<'a> {
    /// How the names of weights begin that get initial values, e.g. `fc.`; those of the checkpoint are ignored.
    pub prefixes: &'a [&'a str],
    /// Seed of the initial values.
    pub seed: u64,
    /// How the names of tensors begin that the checkpoint may hold without need.
    pub ignore: &'a [&'a str],
}

impl Parameters {
    /// Builds a network of variables of f32 with the initial values that its layers hint at.
    ///
    /// The same seed gives the same value to a weight of the same name and shape. A tensor without a hint is 0.
    ///
    /// # Errors
    /// [`Error::Model`] when `build` fails.
    pub fn create<M>(
        seed: u64,
        device: &Device,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<(Self, M)> {
        let created = Mutex::default();
        let recorder = Recorder { stored: None, fresh: Fresh { seed, ..Fresh::default() }, created: &created };
        let built = build(VarBuilder::from_backend(Box::new(recorder), DType::F32, device.clone()));
        Ok((Self::of(created), built.map_err(Error::model)?))
    }

    /// Builds a network of variables with the values of a checkpoint, which must fit as [`load`](crate::load) asks for it.
    ///
    /// # Errors
    /// Those of [`load`](crate::load).
    pub fn load<M>(
        checkpoint: &Checkpoint,
        device: &Device,
        ignore: &[&str],
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<(Self, M)> {
        Self::load_partly(checkpoint, device, Fresh { ignore, ..Fresh::default() }, build)
    }

    /// Builds a network for fine-tuning: like [`Parameters::load`], but some weights, such as a head for other
    /// classes, get initial values as in [`Parameters::create`].
    ///
    /// # Errors
    /// Those of [`load`](crate::load); [`Error::InvalidParameter`] when the network has no weight for one of the
    /// prefixes, or an empty one.
    ///
    /// # Examples
    /// ```
    /// use candle_core::{Device, DType, Tensor};
    /// use coral_models::{Checkpoint, Fresh, Parameters};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("old.safetensors");
    /// let build = |classes: usize| move |vb: candle_nn::VarBuilder<'_>| {
    ///     Ok((candle_nn::linear(3, 4, vb.pp("stem"))?, candle_nn::linear(4, classes, vb.pp("fc"))?))
    /// };
    /// let (old, _) = Parameters::create(1, &Device::Cpu, build(1000))?;
    /// old.save(&path)?;
    /// let fresh = Fresh { prefixes: &["fc."], seed: 2, ..Fresh::default() };
    /// let (new, _) = Parameters::load_partly(&Checkpoint::open(&path)?, &Device::Cpu, fresh, build(5))?;
    /// let values = |p: &Parameters| p.get("stem.weight").unwrap().to_vec2::<f32>().unwrap();
    /// assert_eq!(values(&new), values(&old));
    /// assert_eq!(new.get("fc.weight").unwrap().dims(), [5, 4]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn load_partly<M>(
        checkpoint: &Checkpoint,
        device: &Device,
        fresh: Fresh<'_>,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<(Self, M)> {
        if fresh.prefixes.contains(&"") {
            return Err(Error::parameter("prefixes", "an empty one stands for every weight; use `create` instead"));
        }
        let created = Mutex::default();
        let ignore: Vec<&str> = fresh.ignore.iter().chain(fresh.prefixes).copied().collect();
        let built = load(checkpoint, device, &ignore, |stored| {
            let (dtype, device) = (stored.dtype(), stored.device().clone());
            let recorder = Recorder { stored: Some(stored), fresh, created: &created };
            build(VarBuilder::from_backend(Box::new(recorder), dtype, device))
        })?;
        let parameters = Self::of(created);
        match fresh.prefixes.iter().find(|&&prefix| !parameters.names().any(|name| name.starts_with(prefix))) {
            Some(prefix) => Err(Error::parameter("prefixes", format!("the network has no weight `{prefix}…`"))),
            None => Ok((parameters, built)),
        }
    }

    fn of(created: Mutex<BTreeMap<String, Var>>) -> Self {
        let created = created.into_inner().unwrap_or_else(PoisonError::into_inner);
        let parameter = |(name, variable)| (name, Parameter { variable, frozen: false });
        Self { variables: created.into_iter().map(parameter).collect() }
    }

    /// Builds the network on these very variables, but on frozen ones as fixed tensors, so that a step
    /// computes nothing for them.
    ///
    /// # Errors
    /// [`Error::Model`] when `build` fails or asks for other names or shapes.
    pub fn build<M>(&self, build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>) -> Result<M> {
        self.build_on(
            |name, parameter| match parameter.frozen && !is_buffer(name) {
                true => parameter.variable.as_detached_tensor(),
                false => parameter.variable.as_tensor().clone(),
            },
            build,
        )
    }

    /// Builds the network for inference on the same memory, without gradients, so that it takes the fused operations.
    ///
    /// Layers may keep rearranged copies of such weights: build anew after further training.
    ///
    /// # Errors
    /// [`Error::Model`] when `build` fails or asks for other names or shapes.
    pub fn detached<M>(&self, build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>) -> Result<M> {
        self.build_on(|_, parameter| parameter.variable.as_detached_tensor(), build)
    }

    /// Copies everything into new variables of another number type, e.g. f64 to check gradients.
    ///
    /// # Errors
    /// [`Error::Model`] when `build` fails, asks for other names or shapes, or the device lacks the type.
    pub fn converted<M>(
        &self,
        dtype: DType,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<(Self, M)> {
        let mut variables = BTreeMap::new();
        for (name, Parameter { variable, frozen }) in &self.variables {
            let copy = variable.as_detached_tensor().to_dtype(dtype).and_then(|copy| Var::from_tensor(&copy));
            let variable = copy.map_err(Error::model)?;
            variables.insert(name.clone(), Parameter { variable, frozen: *frozen });
        }
        let parameters = Self { variables };
        let built = parameters.build(build)?;
        Ok((parameters, built))
    }

    fn build_on<M>(
        &self,
        tensor: impl Fn(&str, &Parameter) -> Tensor,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<M> {
        self.build_with(self.variables.iter().map(|(name, p)| (name.clone(), tensor(name, p))).collect(), build)
    }

    /// Builds the network from other values.
    pub(crate) fn build_with<M>(
        &self,
        tensors: BTreeMap<String, Tensor>,
        build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
    ) -> Result<M> {
        build(VarBuilder::from_backend(Box::new(Existing(tensors)), self.dtype(), self.device())).map_err(Error::model)
    }

    /// The number type of the weights.
    pub fn dtype(&self) -> DType {
        self.variables.values().next().map_or(DType::F32, |parameter| parameter.variable.dtype())
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.variables.values().next().map_or(Device::Cpu, |parameter| parameter.variable.device().clone())
    }

    /// All names in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// A weight or buffer.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.variables.get(name).map(|parameter| &parameter.variable)
    }

    /// Stops training of the weights whose name `matching` accepts; returns how many there are.
    pub fn freeze(&mut self, matching: impl Fn(&str) -> bool) -> usize {
        self.set_frozen(matching, true)
    }

    /// Resumes training of the weights whose name `matching` accepts; returns how many there are.
    pub fn unfreeze(&mut self, matching: impl Fn(&str) -> bool) -> usize {
        self.set_frozen(matching, false)
    }

    pub(super) fn set_frozen(&mut self, matching: impl Fn(&str) -> bool, frozen: bool) -> usize {
        let matching = self.variables.iter_mut().filter(|(name, _)| !is_buffer(name) && matching(name));
        matching.map(|(_, parameter)| parameter.frozen = frozen).count()
    }

    /// Whether a weight is frozen.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|parameter| parameter.frozen)
    }

    /// The weights that training changes.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.weights().filter(|(_, parameter)| !parameter.frozen).map(|(name, p)| (name, &p.variable))
    }

    /// The weights that it does not.
    pub fn frozen(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.weights().filter(|(_, parameter)| parameter.frozen).map(|(name, p)| (name, &p.variable))
    }

    fn weights(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.variables.iter().filter(|(name, _)| !is_buffer(name)).map(|(name, p)| (name.as_str(), p))
    }

    /// The statistics of batch normalisation.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().filter(|(name, _)| is_buffer(name)).map(|(name, p)| (name.as_str(), &p.variable))
    }

    /// Weights and buffers by name, on the same memory, without gradients.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.variables.iter().map(|(name, p)| (name.clone(), p.variable.as_detached_tensor())).collect()
    }

    /// Writes weights and buffers to a `safetensors` file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the name does not end in `.safetensors`; [`Error::Io`] when the file cannot be
    /// written; [`Error::InvalidInput`] when the weights are neither f32 nor f64.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let about = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(path.as_ref(), &self.tensors(), &about)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and shapes; the values would fill the screen.
        let shape = |parameter: &Parameter| (parameter.variable.dims().to_vec(), parameter.frozen);
        out.debug_map().entries(self.variables.iter().map(|(name, p)| (name, shape(p)))).finish()
    }
}

/// Whether a tensor is a statistic of batch normalisation, which is set and not trained.
fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    ["running_mean", "running_var", "num_batches_tracked"].contains(&last)
}
