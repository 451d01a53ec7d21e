//! Reading a network's shape off a checkpoint, and its heads off the configuration beside it.

use std::path::Path;

use coral_core::{Error, Result};
use serde::Deserialize;

use super::config::{DinoV2Config, DinoV2Mlp, PositionInterpolation, usual_heads};
use super::names::{NORMS, Names, Naming};
use crate::Checkpoint;
use crate::weights::{beside, lacking, read_json, read_off, sides, square_grid};

impl DinoV2Config {
    /// Reads the configuration off the tensor shapes of a checkpoint with the names of `transformers` or of the original
    /// program, also one of a larger network ([`Checkpoint::with_dinov2_names`]).
    ///
    /// Shapes do not tell the heads, which are taken as those of the published networks (width / 64), nor how position
    /// tables are resized, taken as in `transformers`.
    ///
    /// # Errors
    /// [`Error::Weights`] with the likely cause when it holds no DINOv2, [`Error::Format`] naming the tensor with an
    /// impossible shape.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let checkpoint = checkpoint.clone().with_dinov2_names()?;
        let Some(naming) = Naming::of(|name| checkpoint.contains(name)) else {
            let Names { class, blocks, block, .. } = Naming::Transformers.names();
            return Err(lacking(&checkpoint, &[class, &format!("{blocks}.0.{}", block.scales[0])]));
        };
        read_off(&checkpoint, || {
            let config = Shapes { checkpoint: &checkpoint, names: naming.names() }.config()?;
            config.validate()?;
            Ok(config)
        })
    }

    /// [`from_checkpoint`](Self::from_checkpoint), with the heads that the `config.json` beside it tells.
    pub(super) fn from_checkpoint_and_neighbour(checkpoint: &Checkpoint) -> Result<Self> {
        let mut config = Self::from_checkpoint(checkpoint)?;
        let path = beside(checkpoint.path(), "config.json");
        match Neighbour::read(&path)? {
            Some(told) if told.hidden_size == Some(config.width) => {
                config.heads = told.num_attention_heads.unwrap_or(config.heads);
                config.validate().map_err(|error| Error::format(&path, None, error.to_string()))?;
            }
            Some(_) => tracing::warn!(path = %path.display(), "is for a network of another width, and is not used"),
            None if config.width > 64 && !config.width.is_multiple_of(64) => {
                let reason = format!(
                    "tokens of width {}, and no shape tells the heads; expected a `config.json` beside the file, or a \
                     configuration given to `DinoV2::load`",
                    config.width
                );
                return Err(Error::format(checkpoint.path(), None, reason));
            }
            None => (),
        }
        Ok(config)
    }
}

/// The part of `config.json` of `transformers` that no shape tells.
#[derive(Deserialize)]
struct Neighbour {
    hidden_size: Option<usize>,
    num_attention_heads: Option<usize>,
}

impl Neighbour {
    /// That of a DINOv2 network, if there is one.
    fn read(path: &Path) -> Result<Option<Self>> {
        let Some(json) = read_json(path)? else { return Ok(None) };
        if !json["model_type"].as_str().is_some_and(|kind| kind.starts_with("dinov2")) {
            return Ok(None);
        }
        Self::deserialize(json).map(Some).map_err(|error| Error::format(path, None, error.to_string()))
    }
}

struct Shapes<'a> {
    checkpoint: &'a Checkpoint,
    names: &'static Names,
}

impl Shapes<'_> {
    fn config(&self) -> Result<DinoV2Config> {
        let names = self.names;
        let [width, _, patch, _] = sides(self.checkpoint, &format!("{}.weight", names.patches))?;
        let [_, positions, _] = sides(self.checkpoint, names.positions)?;
        let grid = square_grid(names.positions, positions)?;
        let registers = match self.checkpoint.contains(names.registers) {
            true => sides::<3>(self.checkpoint, names.registers)?[1],
            false => 0,
        };
        let present = |i: &usize| self.checkpoint.contains(&format!("{}.{i}.{}.weight", names.blocks, NORMS[0]));
        let layers = (0..).take_while(present).count();
        Ok(DinoV2Config {
            image_size: grid.saturating_mul(patch),
            patch,
            width,
            layers,
            heads: usual_heads(width),
            mlp: self.mlp()?,
            registers,
            positions: PositionInterpolation::usual(registers),
        })
    }

    fn mlp(&self) -> Result<DinoV2Mlp> {
        let first = |name: &str| format!("{}.0.{name}.weight", self.names.blocks);
        let swiglu = first(self.names.block.swiglu[0]);
        if !self.checkpoint.contains(&swiglu) {
            let [hidden, _] = sides(self.checkpoint, &first(self.names.block.gelu[0]))?;
            return Ok(DinoV2Mlp::Gelu(hidden));
        }
        match sides(self.checkpoint, &swiglu)? {
            [both, _] if both % 2 == 0 => Ok(DinoV2Mlp::SwiGlu(both / 2)),
            [both, _] => Err(Error::input(swiglu, format!("expected an even number of rows, got {both}"))),
        }
    }
}
