use coral_core::image::RgbImage;
use coral_core::{Error, InstanceMask, Progress, Rect, Result, Size};
use serde::{Deserialize, Serialize};

use super::join::{TileMasks, join_tiles};

/// How an image that is far larger than the network's input is cut into tiles, and when the masks of two tiles
/// belong to one object.
///
/// # Examples
/// ```
/// use coral_models::TileConfig;
/// let config = TileConfig { tile: 2048, ..TileConfig::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TileConfig {
    /// Side of a tile, in pixels, at least 2.
    pub tile: u32,
    /// Least overlap of neighbouring tiles, in pixels, from 1 to below `tile`. It should be wider than twice the
    /// distance of the generator's clicks, so that one of two tiles sees what the other's clicks miss.
    pub overlap: u32,
    /// Masks of two tiles are one object when their IoU inside the tiles' overlap is at least this and one of them is
    /// cut by its tile's edge; 0–1.
    pub match_iou: f64,
    /// Of two masks whose IoU is above this, the one nearer to its tile's edge is dropped; 0–1.
    pub duplicate_iou: f64,
    /// A mask that ends within this many pixels of its tile's edge is cut by it, unless the image ends there too. The
    /// default is two samples of the network's masks, which have one for every 4 pixels of its input.
    pub edge_tolerance: u32,
}

impl Default for TileConfig {
    /// Tiles of the size of Segment Anything's input that overlap by a quarter.
    fn default() -> Self {
        Self { tile: 1024, overlap: 256, match_iou: 0.5, duplicate_iou: 0.7, edge_tolerance: 8 }
    }
}

impl TileConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let share = |value: f64, name: &str| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::parameter(name, format!("expected 0 to 1, got {value}"))),
        };
        if self.tile < 2 {
            return Err(Error::parameter("tile", format!("expected at least 2, got {}", self.tile)));
        }
        if self.overlap == 0 || self.overlap >= self.tile {
            let reason = format!("expected 1 to below `tile` = {}, got {}", self.tile, self.overlap);
            return Err(Error::parameter("overlap", reason));
        }
        share(self.match_iou, "match_iou")?;
        share(self.duplicate_iou, "duplicate_iou")
    }
}

/// Tiles of at most `tile` × `tile` pixels that cover an image, row by row, spread evenly so that neighbours overlap
/// by at least `overlap` pixels.
///
/// # Errors
/// [`Error::InvalidParameter`] unless 0 < `overlap` < `tile`.
///
/// # Examples
/// ```
/// use coral_core::{Rect, Size};
/// use coral_models::tile_boxes;
/// let tiles = tile_boxes(Size { width: 250, height: 80 }, 100, 20)?;
/// let at = |x| Rect { x, y: 0, width: 100, height: 80 };
/// assert_eq!(tiles, [at(0), at(75), at(150)]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn tile_boxes(image: Size, tile: u32, overlap: u32) -> Result<Vec<Rect>> {
    TileConfig { tile, overlap, ..TileConfig::default() }.validate()?;
    let (width, height) = (tile.min(image.width), tile.min(image.height));
    let starts = |length: u32| -> Vec<u32> {
        let (length, tile, overlap) = (u64::from(length), u64::from(tile), u64::from(overlap));
        if length <= tile {
            return vec![0];
        }
        let gaps = (length - tile).div_ceil(tile - overlap);
        (0..=gaps).map(|i| ((length - tile) * i / gaps) as u32).collect()
    };
    let columns = starts(image.width);
    let rows = starts(image.height);
    Ok(rows.iter().flat_map(|&y| columns.iter().map(move |&x| Rect { x, y, width, height })).collect())
}

/// Runs `generate` on every tile of `image` and joins the masks.
pub(super) fn generate_on_tiles(
    image: &RgbImage,
    config: &TileConfig,
    progress: &dyn Progress,
    generate: impl Fn(&RgbImage) -> Result<Vec<InstanceMask>>,
) -> Result<Vec<InstanceMask>> {
    config.validate()?;
    let boxes = tile_boxes(Size::of(image), config.tile, config.overlap)?;
    progress.start(boxes.len() as u64, "tiles");
    let tiles = boxes.into_iter().map(|tile| {
        let masks = generate(&tile.crop(image))?;
        progress.advance(1);
        Ok(TileMasks { tile, masks })
    });
    let tiles = tiles.collect::<Result<Vec<_>>>()?;
    let masks = join_tiles(Size::of(image), tiles, config)?;
    progress.finish();
    Ok(masks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_settings_are_refused() {
        let refuse = |config: TileConfig| config.validate().unwrap_err().to_string();
        let base = TileConfig::default;
        assert!(refuse(TileConfig { tile: 1, ..base() }).contains("`tile`: expected at least 2, got 1"));
        assert!(refuse(TileConfig { overlap: 0, ..base() }).contains("`overlap`: expected 1 to below `tile` = 1024"));
        assert!(refuse(TileConfig { overlap: 1024, ..base() }).contains("got 1024"));
        assert!(refuse(TileConfig { match_iou: f64::NAN, ..base() }).contains("`match_iou`"));
        assert!(refuse(TileConfig { duplicate_iou: -0.1, ..base() }).contains("`duplicate_iou`"));
        assert!(tile_boxes(Size { width: 9, height: 9 }, 4, 4).is_err());
    }

    proptest! {
        #[test]
        fn tiles_cover_the_image_and_overlap(
            (width, height) in (1u32..400, 1u32..400), tile in 2u32..120, share in 0f64..1.0,
        ) {
            let overlap = ((f64::from(tile) * share) as u32).clamp(1, tile - 1);
            let tiles = tile_boxes(Size { width, height }, tile, overlap).unwrap();
            let mut columns: Vec<u32> = tiles.iter().filter(|t| t.y == 0).map(|t| t.x).collect();
            let mut rows: Vec<u32> = tiles.iter().filter(|t| t.x == 0).map(|t| t.y).collect();
            prop_assert_eq!(columns.len() * rows.len(), tiles.len());
            for (starts, length) in [(&mut columns, width), (&mut rows, height)] {
                prop_assert_eq!((starts[0], starts[starts.len() - 1] + tile.min(length)), (0, length));
                prop_assert!(starts.windows(2).all(|pair| pair[0] < pair[1] && pair[1] + overlap <= pair[0] + tile));
            }
        }
    }
}
