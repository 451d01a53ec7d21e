use std::fmt;
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::{Dataset, EpochReport, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::config::ResNetConfig;
use super::conv_norm::Mode;
use super::model::ResNet;
use crate::layers::Linear;
use crate::train::{
    Augmentation, BatchPlan, LoaderConfig, OptimizerConfig, Trainer, TrainerConfig, batch_indices,
    expect_same_settings, for_each_batch, nt_xent,
};
use crate::{Checkpoint, Fresh, Normalization, Parameters, images_to_tensor, ops};

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
/// PyTorch over ten steps: losses 1e-3.
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
        let checkpoint = checkpoint.clone().with_torchvision_resnet_names()?;
        let fresh = Fresh { prefixes: &["projector."], seed, ignore: &super::model::HEADS };
        let built = Parameters::load_partly(&checkpoint, device, fresh, |vb| Network::new(&config, &vb))?;
        Self::of(config, built)
    }

    /// Reads encoder and projection head, e.g. of a training that is to go on elsewhere.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network.
    pub fn load(config: SimClrConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let checkpoint = checkpoint.clone().with_torchvision_resnet_names()?;
        let built =
            Parameters::load(&checkpoint, device, &["optimizer/", "average/"], |vb| Network::new(&config, &vb))?;
        Self::of(config, built)
    }

    fn validate(config: &SimClrConfig) -> Result<()> {
        config.resnet.validate()?;
        config.augmentation.validate()?;
        if config.projection == 0 {
            return Err(Error::parameter("projection", "expected at least 1"));
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
        let plan = BatchPlan { batches: batch_indices(images.len(), batch, seed, true)?, seed };
        let SimClrConfig { augmentation, loader, .. } = self.config.clone();
        let load = |index: usize, seed: u64| -> Result<[RgbImage; 2]> {
            let image = images.get(index)?;
            let view = |which: u64| augmentation.apply(&image, coral_core::SeededRng::stream(seed, which).bits());
            Ok([view(0)?, view(1)?])
        };
        self.trainer.start_epoch();
        for_each_batch(&plan, loader, &load, |views| {
            let (first, second): (Vec<_>, Vec<_>) = views.into_iter().map(|[first, second]| (first, second)).unzip();
            self.step(&first, &second).map(drop)
        })?;
        self.trainer.finish_epoch()
    }

    /// One step on two views of each of N images, N at least 2; gives the loss before it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there are fewer than two images; [`Error::ShapeMismatch`] when views differ in number
    /// or size; when a weight gets no gradient.
    pub fn step(&mut self, first: &[RgbImage], second: &[RgbImage]) -> Result<f32> {
        if first.len() != second.len() {
            return Err(Error::shape("second views", first.len().to_string(), second.len().to_string()));
        }
        if first.len() < 2 {
            return Err(Error::input("images", format!("expected at least 2, to compare them, got {}", first.len())));
        }
        let device = self.trainer.parameters().device();
        let tensor = |images: &[RgbImage]| images_to_tensor(images, &Normalization::IMAGENET, &device);
        let pixels = Tensor::cat(&[tensor(first)?, tensor(second)?], 0).map_err(Error::model)?;
        let projections = self.network.project(&pixels).map_err(Error::model)?;
        let loss = nt_xent(&projections, self.config.temperature)?;
        self.trainer.step(&loss, first.len())?;
        loss.to_scalar().map_err(Error::model)
    }

    /// The settings.
    pub fn config(&self) -> &SimClrConfig {
        &self.config
    }

    /// The weights of encoder and projection head.
    pub fn parameters(&self) -> &Parameters {
        self.trainer.parameters()
    }

    /// Writes the weights to a `safetensors` file, which [`ResNetClassifier::with_encoder`](crate::ResNetClassifier)
    /// starts from.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.trainer.parameters().save(path)
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
        let (path, ours) = (path.as_ref(), &self.config);
        let (_, extra) = self.trainer.resume_if(path, |(theirs, _): &(SimClrConfig, T)| {
            expect_same_settings(path, &SimClrConfig { loader: ours.loader, ..theirs.clone() }, ours)
        })?;
        Ok(extra)
    }
}

impl fmt::Debug for SimClr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SimClr").field("config", &self.config).finish_non_exhaustive()
    }
}
