use std::borrow::Borrow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batches::LoaderConfig;
use super::parameters::Parameters;
use super::settings::resume_alike;
use super::trainer::{Trainer, TrainerConfig};
use crate::Normalization;
use crate::tensor::pixels_to_tensor;
use crate::weights::{Checkpoint, description, write_described};

/// Settings that are kept with a network that they describe and that is trained as they say.
pub(crate) trait Settings: Serialize + DeserializeOwned {
    /// What they describe.
    type Network;

    /// Their key in a file's metadata.
    const KEY: &'static str;

    /// Checks all but those of the trainer.
    fn validate(&self) -> Result<()>;

    /// Builds the network.
    fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<Self::Network>;

    /// How the trainer works.
    fn trainer(&self) -> TrainerConfig;

    /// How samples are loaded, which changes nothing in the result.
    fn loader(&mut self) -> &mut LoaderConfig;
}

/// A network for images with its settings, what trains it, and what predicts with it.
pub(crate) struct Trained<S: Settings> {
    pub(crate) config: S,
    pub(crate) trainer: Trainer,
    /// Made for training, from variables.
    pub(crate) network: S::Network,
    /// Made for inference when it is needed, on the same memory; none after a change of the weights.
    inference: Mutex<Option<Arc<S::Network>>>,
}

impl<S: Settings> Trained<S> {
    /// The network that `make` gives for settings that are valid.
    pub(crate) fn new(config: S, make: impl FnOnce(&S) -> Result<(Parameters, S::Network)>) -> Result<Self> {
        config.validate()?;
        let (parameters, network) = make(&config)?;
        let trainer = Trainer::new(parameters, config.trainer())?;
        Ok(Self { config, trainer, network, inference: Mutex::new(None) })
    }

    /// What `load` makes of the settings that [`save`](Self::save) wrote into a file.
    pub(crate) fn open<T>(checkpoint: &Checkpoint, load: impl FnOnce(S) -> Result<T>) -> Result<T> {
        load(description(checkpoint, (S::KEY, "use `load` and tell the settings"))?).map_err(|error| match error {
            // It is the file that holds it.
            Error::InvalidParameter { .. } => {
                Error::format(checkpoint.path(), None, format!("field `{}` of its metadata: {error}", S::KEY))
            }
            other => other,
        })
    }

    /// Writes weights (the averages, where there are such) and settings.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        write_described(path, &self.trainer.best_tensors()?, (S::KEY, &self.config))
    }

    /// Writes the state of the training with its settings and what the caller wants to find again.
    pub(crate) fn save_training(&self, path: &Path, extra: &impl Serialize) -> Result<()> {
        self.trainer.save(path, &(&self.config, extra))
    }

    /// Goes back to a state of a training with the same settings.
    pub(crate) fn resume<T: DeserializeOwned>(&mut self, path: &Path) -> Result<T> {
        self.changed();
        let loader = *self.config.loader();
        resume_alike(&mut self.trainer, path, &self.config, |mut theirs: S| {
            *theirs.loader() = loader;
            theirs
        })
    }

    /// The trainer, for changes by hand.
    pub(crate) fn trainer_mut(&mut self) -> &mut Trainer {
        self.changed();
        &mut self.trainer
    }

    /// To be called when the weights change.
    pub(crate) fn changed(&mut self) {
        *self.inference.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// To be called before the first step of an epoch: also steps that fail, or learn nothing, move running statistics.
    pub(crate) fn start_epoch(&mut self) -> Result<()> {
        self.trainer_mut().start_epoch()?;
        self.rebuild()
    }

    /// Builds the network for training anew, so that what is frozen by now is computed without a record.
    pub(crate) fn rebuild(&mut self) -> Result<()> {
        self.network = self.trainer.parameters().build(|vb| self.config.build(&vb))?;
        Ok(())
    }

    /// The network for inference, with batch normalisation folded in.
    pub(crate) fn inference(&self) -> Result<Arc<S::Network>> {
        let place = || self.inference.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = &*place() {
            return Ok(network.clone());
        }
        // Not while the lock is held: building computes on the threads of a pool, and one that waits there takes up
        // other work, which may ask for this network too.
        let build = |vb: VarBuilder<'_>| self.config.build(&vb);
        let network = Arc::new(self.trainer.parameters().build_with(self.trainer.best_tensors()?, build)?);
        Ok(place().get_or_insert(network).clone())
    }

    /// Images of one size as input, N×3×H×W.
    pub(crate) fn pixels<I: Borrow<RgbImage>>(&self, images: &[I]) -> Result<Tensor> {
        let parameters = self.trainer.parameters();
        let pixels = pixels_to_tensor(images, &Normalization::IMAGENET, &parameters.device())?;
        let dtype = parameters.dtype();
        if dtype == DType::F32 { Ok(pixels) } else { pixels.to_dtype(dtype).map_err(Error::model) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use candle_core::Device;
    use rayon::prelude::*;
    use serde::Deserialize;

    /// One weight, and a network that lets the pool's thread take up other work while it is built, as products of large
    /// matrices do.
    #[derive(Serialize, Deserialize)]
    struct Yielding {
        loader: LoaderConfig,
    }

    impl Settings for Yielding {
        type Network = Tensor;

        const KEY: &'static str = "yielding";

        fn validate(&self) -> Result<()> {
            Ok(())
        }

        fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<Tensor> {
            rayon::yield_now();
            vb.get(1, "weight")
        }

        fn trainer(&self) -> TrainerConfig {
            TrainerConfig::default()
        }

        fn loader(&mut self) -> &mut LoaderConfig {
            &mut self.loader
        }
    }

    #[test]
    fn what_a_thread_takes_up_while_it_builds_the_network_may_ask_for_it() {
        let (done, finished) = mpsc::channel();
        std::thread::spawn(move || {
            let settings = Yielding { loader: LoaderConfig::default() };
            let create = |settings: &Yielding| Parameters::create(1, &Device::Cpu, |vb| settings.build(&vb));
            let trained = Trained::new(settings, create).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let ask = |_| assert!(!trained.inference().unwrap().track_op());
            pool.install(|| (0..8).into_par_iter().with_max_len(1).for_each(ask));
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(30)).expect("the thread does not wait for itself");
    }
}
