use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::Checkpoint;
use crate::weights::lacking;

/// The shape of a residual network.
///
/// # References
/// He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, Table 1; as in torchvision, the bottleneck
/// of ResNet-50 strides in its 3×3 convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of the stem and the first stage (64).
    pub width: usize,
    /// Residual blocks of the four stages.
    pub blocks: [usize; 4],
    /// Whether blocks have three convolutions and four times as many channels, as in ResNet-50.
    pub bottleneck: bool,
}

impl ResNetConfig {
    /// ResNet-18: 11.2 million weights.
    pub const fn resnet18() -> Self {
        Self { width: 64, blocks: [2, 2, 2, 2], bottleneck: false }
    }

    /// ResNet-34: 21.3 million weights.
    pub const fn resnet34() -> Self {
        Self { width: 64, blocks: [3, 4, 6, 3], bottleneck: false }
    }

    /// ResNet-50: 23.5 million weights.
    pub const fn resnet50() -> Self {
        Self { width: 64, blocks: [3, 4, 6, 3], bottleneck: true }
    }

    /// A ResNet-18 with other widths, e.g. 16 to train on a laptop.
    pub const fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Channels that come out of stage 0..4.
    pub fn channels(&self, stage: usize) -> usize {
        (self.width << stage) * if self.bottleneck { 4 } else { 1 }
    }

    /// Channels of the last stage, D: 512 for ResNet-18 and 34, 2048 for ResNet-50.
    pub fn dim(&self) -> usize {
        self.channels(3)
    }

    /// Pixels along one position of the last stage.
    pub const STRIDE: usize = 32;

    /// Reads the shape off a checkpoint with torchvision's names.
    ///
    /// # Errors
    /// [`Error::Weights`] when it holds no residual network; [`Error::Format`] naming an impossible shape.
    ///
    /// # Examples
    /// ```
    /// use coral_models::{Checkpoint, Parameters, ResNet, ResNetConfig, candle_core::Device};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("resnet.safetensors");
    /// let config = ResNetConfig { width: 4, blocks: [1, 2, 1, 1], bottleneck: true };
    /// let (weights, _) = Parameters::create(1, &Device::Cpu, |vb| ResNet::new(&config, &vb))?;
    /// weights.save(&path)?;
    /// assert_eq!(ResNetConfig::from_checkpoint(&Checkpoint::open(&path)?)?, config);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let telling = ["conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"];
        if telling.iter().any(|name| !checkpoint.contains(name)) {
            return Err(lacking(checkpoint, &telling));
        }
        let width = checkpoint.shape(telling[0]).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let exists =
            |stage: usize, block: usize| checkpoint.contains(&format!("layer{}.{block}.conv1.weight", stage + 1));
        let blocks = std::array::from_fn(|stage| (0..).take_while(|&block| exists(stage, block)).count());
        let config = Self { width, blocks, bottleneck: checkpoint.contains("layer1.0.conv3.weight") };
        config.validate().map_err(|error| Error::format(checkpoint.path(), None, error.to_string()))?;
        Ok(config)
    }

    /// Checks that there is something in every stage.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(1..=4096).contains(&self.width) {
            return Err(Error::parameter("width", format!("{} channels; expected 1 to 4096", self.width)));
        }
        match self.blocks.iter().find(|&&count| !(1..=256).contains(&count)) {
            Some(count) => Err(Error::parameter("blocks", format!("{count} blocks in a stage; expected 1 to 256"))),
            None => Ok(()),
        }
    }
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self::resnet18()
    }
}
