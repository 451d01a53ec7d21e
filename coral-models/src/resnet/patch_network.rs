use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use coral_core::{Error, SeededRng};
use serde::{Deserialize, Serialize};

use super::config::ResNetConfig;
use super::model::ResNet;
use crate::layers::Linear;
use crate::layers::Mode;
use crate::layers::drop_values;
use crate::{Checkpoint, ops};

/// Pixels that go through the network at a time in inference: enough for every core, little memory.
pub(super) const INFERENCE_PIXELS: usize = 1 << 20;

/// Widest layer of a head, far beyond any network.
pub(super) const LARGEST_WIDTH: usize = 1 << 16;

/// A residual network with a head that classifies patches, or the cells of a grid over a photograph.
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchNetworkConfig {
    /// The encoder.
    pub resnet: ResNetConfig,
    /// How many classes there are, C.
    pub classes: usize,
    /// What lies between features and logits; `None` for one linear layer (torchvision's `fc`).
    pub hidden: Option<HiddenLayer>,
    /// What a cell of a photograph's grid is.
    pub cells: Cells,
}

/// How the cells of a photograph get their features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Cells {
    /// The network sees the whole photograph, and the last stage is averaged over blocks of so many positions a side, of
    /// 32 pixels each (16, as published). A position sees some 400 pixels around itself, so that cells should
    /// not be much smaller than that: else every cell knows what its neighbours show.
    Pooled(usize),
    /// Every cell is a patch of so many pixels a side that the network sees by itself, as small ones need it.
    Cut(usize),
}

impl Cells {
    /// Pixels along one cell.
    pub fn side(self) -> usize {
        match self {
            Self::Pooled(positions) => positions.saturating_mul(ResNetConfig::STRIDE),
            Self::Cut(side) => side,
        }
    }
}

/// The layer between features and logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenLayer {
    /// Its width (512).
    pub width: usize,
    /// Whether ReLU follows.
    pub rectified: bool,
    /// Share of its values that training drops, below 1 (0.15).
    pub dropout: f64,
}

impl PatchNetworkConfig {
    /// SeaFeats: ResNet-18, a linear layer of 512, dropout, no ReLU; cells of 512 pixels.
    pub const fn seafeats(classes: usize) -> Self {
        let hidden = HiddenLayer { width: 512, rectified: false, dropout: 0.15 };
        Self { resnet: ResNetConfig::resnet18(), classes, hidden: Some(hidden), cells: Cells::Pooled(16) }
    }

    /// SeaCLIP: the same with ReLU.
    pub const fn seaclip(classes: usize) -> Self {
        let hidden = HiddenLayer { width: 512, rectified: true, dropout: 0.15 };
        Self { resnet: ResNetConfig::resnet18(), classes, hidden: Some(hidden), cells: Cells::Pooled(16) }
    }

    /// Reads what shapes tell off a checkpoint with torchvision's names
    /// ([`Checkpoint::with_torchvision_resnet_names`]). Whether ReLU follows the hidden layer, dropout and the size of
    /// cells are in no shape: they are SeaFeats' own.
    ///
    /// # Errors
    /// [`Error::Weights`] when it holds no residual network with a head; [`Error::Format`] naming an impossible shape.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> coral_core::Result<Self> {
        let resnet = ResNetConfig::from_checkpoint(checkpoint)?;
        let rows = |name: &str| checkpoint.shape(name).and_then(|shape| shape.first().copied());
        let config = match (rows("head.hidden.weight"), rows("head.classes.weight"), rows("fc.weight")) {
            (Some(width), Some(classes), _) => {
                let hidden = HiddenLayer { width, rectified: false, dropout: 0.15 };
                Self { resnet, classes, hidden: Some(hidden), cells: Cells::Pooled(16) }
            }
            (_, _, Some(classes)) => Self { resnet, classes, hidden: None, cells: Cells::Pooled(16) },
            _ => return Err(crate::weights::lacking(checkpoint, &["head.hidden.weight", "head.classes.weight"])),
        };
        config.validate().map_err(|error| Error::format(checkpoint.path(), None, error.to_string()))?;
        Ok(config)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> coral_core::Result<()> {
        self.resnet.validate()?;
        if !(2..=255).contains(&self.classes) {
            return Err(Error::parameter("classes", format!("{}; expected 2 to 255", self.classes)));
        }
        if let Some(HiddenLayer { width, dropout, .. }) = self.hidden {
            if !(1..=LARGEST_WIDTH).contains(&width) {
                return Err(Error::parameter("hidden.width", format!("{width}; expected 1 to {LARGEST_WIDTH}")));
            }
            if !(0.0..1.0).contains(&dropout) {
                return Err(Error::parameter("hidden.dropout", format!("{dropout}; expected 0 to below 1")));
            }
        }
        match self.cells.side() {
            1..=65_536 => Ok(()),
            side => Err(Error::parameter("cells", format!("{side} pixels along a cell; expected 1 to 65536"))),
        }
    }
}

/// The network of a [`PatchNetworkConfig`].
#[derive(Debug, Clone)]
pub struct PatchNetwork {
    config: PatchNetworkConfig,
    resnet: ResNet,
    hidden: Option<Linear>,
    classes: Linear,
}

impl PatchNetwork {
    /// Builds the network on the weights that `vb` gives: the encoder's, and `head.hidden` and `head.classes` or `fc`.
    ///
    /// # Errors
    /// When the configuration is impossible or a weight is missing.
    pub fn new(config: &PatchNetworkConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let dim = config.resnet.dim();
        let (hidden, classes) = match config.hidden {
            Some(HiddenLayer { width, .. }) => (
                Some(Linear::new(dim, width, &vb.pp("head.hidden"))?),
                Linear::new(width, config.classes, &vb.pp("head.classes"))?,
            ),
            None => (None, Linear::new(dim, config.classes, &vb.pp("fc"))?),
        };
        Ok(Self { config: *config, resnet: ResNet::new(&config.resnet, vb)?, hidden, classes })
    }

    /// The network's shape.
    pub fn config(&self) -> &PatchNetworkConfig {
        &self.config
    }

    /// The encoder.
    pub fn resnet(&self) -> &ResNet {
        &self.resnet
    }

    /// Features of the cells of N photographs of N×3×H×W normalised pixels: N×h×w×D. Margins that do not fill a cell
    /// are left out, as published.
    ///
    /// # Errors
    /// When a photograph is smaller than a cell.
    pub fn grid_features(&self, pixels: &Tensor, mode: Mode) -> Result<Tensor> {
        match self.config.cells {
            Cells::Pooled(1) => self.resnet.features(pixels, mode),
            Cells::Pooled(positions) => ops::average_pool(&self.resnet.features(pixels, mode)?, positions),
            Cells::Cut(side) => {
                let (batch, channels, height, width) = pixels.dims4()?;
                let (rows, columns) = (height / side, width / side);
                if rows == 0 || columns == 0 {
                    candle_core::bail!("a photograph of {:?} is smaller than a cell of {side}", pixels.dims());
                }
                let whole = pixels.narrow(2, 0, rows * side)?.narrow(3, 0, columns * side)?.contiguous()?;
                let cells = whole.reshape((batch * channels, rows, side, columns, side))?.transpose(2, 3)?;
                let cells = cells.contiguous()?.reshape((batch, channels, rows * columns, side, side))?;
                let patches = cells.transpose(1, 2)?.contiguous()?.flatten(0, 1)?;
                self.cell_features(&patches, mode)?.reshape((batch, rows, columns, ()))
            }
        }
    }

    /// Those of cells, which do not see each other but for the statistics of training.
    fn cell_features(&self, cells: &Tensor, mode: Mode) -> Result<Tensor> {
        let (count, _, height, width) = cells.dims4()?;
        let at_once = (INFERENCE_PIXELS / (height * width)).max(1);
        if mode == Mode::Train || count <= at_once {
            return self.patch_features(cells, mode);
        }
        let part = |first| self.patch_features(&cells.narrow(0, first, at_once.min(count - first))?, mode);
        Tensor::cat(&(0..count).step_by(at_once).map(part).collect::<Result<Vec<_>>>()?, 0)
    }

    /// One feature per patch of N×3×H×W normalised pixels, the mean over the patch: N×D.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn patch_features(&self, pixels: &Tensor, mode: Mode) -> Result<Tensor> {
        self.resnet.features(pixels, mode)?.mean((1, 2))
    }

    /// Logits of M×D features: M×C. With `dropout`, which training asks for, values of the hidden layer are dropped at
    /// random.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn logits(&self, features: &Tensor, dropout: Option<&mut SeededRng>) -> Result<Tensor> {
        let (Some(layer), Some(HiddenLayer { rectified, dropout: share, .. })) = (&self.hidden, self.config.hidden)
        else {
            return self.classes.forward(features);
        };
        let mut hidden = layer.forward(features)?;
        if rectified {
            hidden = ops::relu(&hidden)?;
        }
        self.classes.forward(&drop_values(hidden, share, dropout)?)
    }
}
