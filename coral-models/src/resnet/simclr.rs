use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::{Dataset, EpochReport, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::config::ResNetConfig;
use super::files;
use super::model::ResNet;
use super::patch_network::LARGEST_WIDTH;
use crate::layers::Linear;
use crate::layers::Mode;
use crate::train::{
    Augmentation, BatchPlan, LoaderConfig, OptimizerConfig, Trainer, TrainerConfig, batch_indices, for_each_batch,
    nt_xent, resume_alike,
};
use crate::weights::write_safetensors;
use crate::{Checkpoint, Normalization, Parameters, images_to_tensor, ops};

/// Settings of [`SimClr`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimClrConfig {
    /// The encoder that is trained.
    pub resnet: ResNetConfig,
    /// Width of the projections that are compared (128).
    pub projection: usize,
    /// Below 1 sharpens the comparison (0.07).
    pub temperature: f64,
    /// Images per step, of two views each (132).
    pub batch: usize,
    /// How a view is made; must give views of one size.
    pub augmentation: Augmentation,
    /// Optimiser, learning rate, schedule and the like.
    pub trainer: TrainerConfig,
    /// Threads that make views.
    pub loader: LoaderConfig,
}

impl Default for SimClrConfig {
    /// What SeaFeats starts from: ResNet-18, views of 132×132 pixels, 132 images a step, temperature 0.07. The rate and
    /// decay are those of the program it names: Adam 3e-4, decay 1e-4.
    fn default() -> Self {
        let optimizer = OptimizerConfig::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-4 };
        Self {
            resnet: ResNetConfig::resnet18(),
            projection: 128,
            temperature: 0.07,
            batch: 132,
            augmentation: Augmentation::simclr(Size { width: 132, height: 132 }),
            trainer: TrainerConfig { optimizer, learning_rate: 3e-4, ..TrainerConfig::default() },
            loader: LoaderConfig::default(),
        }
    }
}

/// Trains an encoder without labels: two views of one image are to look alike, and unlike those of other images.
///
/// # References
/// Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020. Parity with
/// PyTorch over ten steps: losses 1e-8 in double precision. In single precision two trainings drift apart: a value that
/// rounding moves across the bend of a ReLU changes gradients by 1e-3, and Adam makes full steps of slight gradients.
/// PyTorch's own losses differ by 1e-2 after ten steps of a full ResNet-18 on one thread and on two.
pub struct SimClr {
    config: SimClrConfig,
    trainer: Trainer,
    network: Network,
}

/// The encoder and its two-layer projection head (`projector.0`, `projector.2`).
struct Network {
    resnet: ResNet,
    hidden: Linear,
    projection: Linear,
}

impl Network {
    fn new(config: &SimClrConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let dim = config.resnet.dim();
        let head = vb.pp("projector");
        Ok(Self {
            resnet: ResNet::new(&config.resnet, vb)?,
            hidden: Linear::new(dim, dim, &head.pp("0"))?,
            projection: Linear::new(dim, config.projection, &head.pp("2"))?,
        })
    }

    fn project(&self, pixels: &Tensor) -> candle_core::Result<Tensor> {
        let features = self.resnet.features(pixels, Mode::Train)?.mean((1, 2))?;
        self.projection.forward(&ops::relu(&self.hidden.forward(&features)?)?)
    }
}

impl SimClr {
    /// A network with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: SimClrConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let built = Parameters::create(seed, device, |vb| Network::new(&config, &vb))?;
        Self::of(config, built)
    }

    /// A network that starts from the encoder of a checkpoint, e.g. of ImageNet, with a new projection head.
    ///
    /// # Errors
    /// [`Error::Weights`] when the encoder is another; [`Error::InvalidParameter`] as for [`new`](Self::new).
    pub fn with_encoder(config: SimClrConfig, checkpoint: &Checkpoint, seed: u64, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let built = files::with_encoder(checkpoint, ("projector.", seed), device, |vb| Network::new(&config, &vb))?;
        Self::of(config, built)
    }

    /// Reads encoder and projection head, e.g. of a training that is to go on elsewhere.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network.
    pub fn load(config: SimClrConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let built = files::load(checkpoint, device, |vb| Network::new(&config, &vb))?;
        Self::of(config, built)
    }

    fn validate(config: &SimClrConfig) -> Result<()> {
        config.resnet.validate()?;
        config.augmentation.validate()?;
        config.loader.validate()?;
        if !(1..=LARGEST_WIDTH).contains(&config.projection) {
            let reason = format!("{}; expected 1 to {LARGEST_WIDTH}", config.projection);
            return Err(Error::parameter("projection", reason));
        }
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::parameter("temperature", format!("{}; expected above 0", config.temperature)));
        }
        if config.batch < 2 {
            let reason = format!("{} images; expected at least 2, to compare them", config.batch);
            return Err(Error::parameter("batch", reason));
        }
        Ok(())
    }

    fn of(config: SimClrConfig, (parameters, network): (Parameters, Network)) -> Result<Self> {
        let trainer = Trainer::new(parameters, config.trainer)?;
        Ok(Self { config, trainer, network })
    }

    /// One pass over `images`, in an order and with views drawn from `seed`. Images that do not fill a last batch are left
    /// out.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there are fewer than two images; when an image cannot be loaded, or a weight gets no
    /// gradient.
    pub fn fit_epoch(&mut self, images: &dyn Dataset<Item = RgbImage>, seed: u64) -> Result<EpochReport> {
        if images.len() < 2 {
            return Err(Error::input("images", format!("expected at least 2, got {}", images.len())));
        }
        let batch = self.config.batch.min(images.len());
        let plan = BatchPlan::of_epoch(batch_indices(images.len(), batch, seed, true)?, seed);
        let SimClrConfig { augmentation, loader, .. } = self.config.clone();
        let load = |index: usize, seed: u64| -> Result<[RgbImage; 2]> {
            let image = images.get(index)?;
            let view = |which: u64| augmentation.apply(&image, coral_core::SeededRng::stream(seed, which).bits());
            Ok([view(0)?, view(1)?])
        };
        self.trainer.start_epoch()?;
        self.rebuild()?;
        for_each_batch(&plan, loader, &load, |views| {
            let (first, second): (Vec<_>, Vec<_>) = views.into_iter().map(|[first, second]| (first, second)).unzip();
            self.step_on(&first, &second).map(drop)
        })?;
        self.trainer.finish_epoch()
    }

    /// One step on two views of each of N images, N at least 2; gives the loss before it. Such steps make an epoch of
    /// their own, which [`Trainer::finish_epoch`] of [`trainer_mut`](Self::trainer_mut) ends.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there are fewer than two images; [`Error::ShapeMismatch`] when views differ in number
    /// or size; those of [`Trainer::step`].
    pub fn step(&mut self, first: &[RgbImage], second: &[RgbImage]) -> Result<f32> {
        // Before running statistics move.
        self.trainer.expect_ready()?;
        self.rebuild()?;
        self.step_on(first, second)
    }

    /// Builds the network for training anew, so that what is frozen by now is computed without a record.
    fn rebuild(&mut self) -> Result<()> {
        self.network = self.trainer.parameters().build(|vb| Network::new(&self.config, &vb))?;
        Ok(())
    }

    fn step_on(&mut self, first: &[RgbImage], second: &[RgbImage]) -> Result<f32> {
        if first.len() != second.len() {
            return Err(Error::shape("second views", first.len().to_string(), second.len().to_string()));
        }
        if first.len() < 2 {
            return Err(Error::input("images", format!("expected at least 2, to compare them, got {}", first.len())));
        }
        let device = self.trainer.parameters().device();
        let tensor = |images: &[RgbImage]| images_to_tensor(images, &Normalization::IMAGENET, &device);
        let pixels = Tensor::cat(&[tensor(first)?, tensor(second)?], 0).map_err(Error::model)?;
        self.learn(&pixels, first.len()).map(|loss| loss as f32)
    }

    /// One step on the pixels of all first views, then of all second ones.
    fn learn(&mut self, pixels: &Tensor, images: usize) -> Result<f64> {
        let projections = self.network.project(pixels).map_err(Error::model)?;
        let loss = nt_xent(&projections, self.config.temperature)?;
        self.trainer.step(&loss, images)?;
        loss.to_dtype(DType::F64).and_then(|loss| loss.to_scalar()).map_err(Error::model)
    }

    /// The settings.
    pub fn config(&self) -> &SimClrConfig {
        &self.config
    }

    /// What trains the network: its weights, optimiser and schedule.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The same, to freeze weights, judge an epoch ([`Trainer::judge`]), end one made of single steps or the like.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// The weights of encoder and projection head.
    pub fn parameters(&self) -> &Parameters {
        self.trainer.parameters()
    }

    /// Writes the weights (the averages, where the training keeps such) to a `safetensors` file, which
    /// [`ResNetClassifier::with_encoder`](crate::ResNetClassifier) starts from.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let about = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(path.as_ref(), &self.trainer.best_tensors()?, &about)
    }

    /// Writes the state of the training, so that [`resume`](Self::resume) goes on as if nothing had happened.
    ///
    /// # Errors
    /// Those of [`Trainer::save`].
    pub fn save_training(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        self.trainer.save(path, &(&self.config, extra))
    }

    /// Goes back to a state that [`save_training`](Self::save_training) wrote, and gives the caller's part of it.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], and [`Error::Format`] naming the setting that was another (but for the loader's,
    /// which change nothing in the result); nothing is changed then.
    pub fn resume<T: serde::de::DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        let ours = &self.config;
        let take_over = |theirs| SimClrConfig { loader: ours.loader, ..theirs };
        resume_alike(&mut self.trainer, path.as_ref(), ours, take_over)
    }
}

impl fmt::Debug for SimClr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SimClr").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in −1..1 that any program can make alike.
    fn uniform(count: usize, stream: u32) -> impl Iterator<Item = f64> {
        let offset = stream.wrapping_add(1).wrapping_mul(2_246_822_519);
        (1..=count as u32).map(move |i| {
            let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(offset);
            x ^= x >> 15;
            x = x.wrapping_mul(2_246_822_519);
            x ^= x >> 13;
            f64::from(x) / f64::from(1u32 << 31) - 1.0
        })
    }

    /// A narrow network whose weights are set by number, in alphabetical order.
    fn numbered(config: &SimClrConfig, dtype: DType) -> (Parameters, Network) {
        let build = |vb: VarBuilder<'_>| Network::new(config, &vb);
        let (parameters, _) = Parameters::create(0, &Device::Cpu, build).unwrap();
        let (parameters, network) = parameters.converted(dtype, build).unwrap();
        let learned = |name: &&str| !name.contains("running_") && !name.contains("num_batches");
        for (stream, name) in parameters.names().filter(learned).enumerate() {
            let variable = parameters.get(name).unwrap();
            let dims = variable.dims();
            let scale = (6.0 / dims[1..].iter().product::<usize>() as f64).sqrt();
            let value = |u: f64| match (dims.len(), name.ends_with("weight")) {
                (1, true) => 1.0 + 0.2 * u,
                (1, false) => 0.1 * u,
                _ => scale * u,
            };
            let values = Tensor::from_iter(uniform(variable.elem_count(), stream as u32).map(value), &Device::Cpu);
            variable.set(&values.unwrap().to_dtype(dtype).unwrap().reshape(dims).unwrap()).unwrap();
        }
        (parameters, network)
    }

    /// 2N×3×40×56 pixels: two noisy views of each of N = 4 images.
    fn views(step: u32, dtype: DType) -> Tensor {
        let shape = (4, 3, 40, 56);
        let tensor = |stream| Tensor::from_iter(uniform(4 * 3 * 40 * 56, stream), &Device::Cpu).unwrap();
        let images = tensor(1000 + step);
        let view = |which| (&images + (tensor(2000 + 2 * step + which) * 0.5).unwrap()).unwrap();
        let view = |which| view(which).reshape(shape).unwrap().to_dtype(dtype).unwrap();
        Tensor::cat(&[view(0), view(1)], 0).unwrap()
    }

    /// The losses of PyTorch 2.15 in double precision.
    #[test]
    fn ten_steps_are_those_of_pytorch() {
        let expected = [
            2.7127825201,
            2.5339677949,
            1.9479155269,
            2.9836325248,
            2.0254803237,
            1.7372792717,
            2.8306599264,
            1.8266489838,
            1.3766422371,
            2.5682687520,
        ];
        let resnet = ResNetConfig::resnet18().with_width(4);
        let config = SimClrConfig { resnet, projection: 16, ..SimClrConfig::default() };
        for (dtype, tolerance) in [(DType::F64, 1e-8), (DType::F32, 1e-3)] {
            let mut simclr = SimClr::of(config.clone(), numbered(&config, dtype)).unwrap();
            for (step, expected) in expected.into_iter().enumerate() {
                let loss = simclr.learn(&views(step as u32, dtype), 4).unwrap();
                assert!((loss - expected).abs() < tolerance, "{dtype:?}, step {step}: {loss}, not {expected}");
            }
        }
    }
}
