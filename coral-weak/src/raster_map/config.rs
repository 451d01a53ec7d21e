use coral_core::{Error, Result, Size};
use serde::{Deserialize, Serialize};

/// How the tiles that overlap at a pixel agree on its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Each tile votes for its most probable class.
    #[default]
    Votes,
    /// The class with the largest mean logit: probabilities are multiplied, so that a sure tile outweighs unsure ones.
    Logits,
    /// The class with the largest mean probability.
    Probabilities,
}

/// How a raster is cut into tiles; the default is the published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RasterMapConfig {
    /// Tiles in pixels; a raster that is smaller is one tile.
    pub tile: Size,
    /// From one tile to the next, 1 to the tile's size. The last tiles of rows and columns are moved back to the edge.
    pub stride: Size,
    /// How overlapping tiles agree.
    pub fusion: Fusion,
    /// How many tiles are worked on at once, at least 1; results do not depend on it, memory does.
    pub tiles_in_flight: usize,
}

impl Default for RasterMapConfig {
    fn default() -> Self {
        let square = |side| Size { width: side, height: side };
        Self { tile: square(512), stride: square(256), fusion: Fusion::default(), tiles_in_flight: 8 }
    }
}

impl RasterMapConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let Self { tile, stride, .. } = *self;
        if !(1..=tile.width).contains(&stride.width) || !(1..=tile.height).contains(&stride.height) {
            return Err(Error::parameter("stride", format!("expected 1x1 to `tile` = {tile}, got {stride}")));
        }
        // Votes are counted in 16 bits, and even that many tiles over one pixel are a mistake.
        let overlap = u64::from(tile.width.div_ceil(stride.width)) * u64::from(tile.height.div_ceil(stride.height));
        if overlap > 4096 {
            return Err(Error::parameter(
                "stride",
                format!("{overlap} tiles of {tile} overlap at a pixel, more than 4096"),
            ));
        }
        if self.tiles_in_flight == 0 {
            return Err(Error::parameter("tiles_in_flight", "expected at least 1, got 0"));
        }
        Ok(())
    }
}
