use coral_core::image::RgbImage;
use coral_core::{Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::config::LARGEST_GRID;
use crate::{OpenCvInterpolation, PillowFilter, resize_image, resize_image_opencv};

/// The size in which DINOv2 sees an image. Sides become the nearest multiples of the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSize {
    /// A square of this side in pixels, whatever the image's proportions.
    Square(u32),
    /// The shorter side becomes so long, the longer one in proportion.
    ShorterSide(u32),
    /// The image's own.
    Own,
}

impl Default for InputSize {
    /// The square of 518 pixels that the published networks ended their training with, and that DinoVdeau sees.
    fn default() -> Self {
        Self::Square(518)
    }
}

impl InputSize {
    /// Checks the number of pixels.
    pub(super) fn validate(self, patch: usize) -> Result<()> {
        let (Self::Square(side) | Self::ShorterSide(side)) = self else { return Ok(()) };
        if side as usize >= patch && side as usize <= patch * LARGEST_GRID {
            return Ok(());
        }
        let reason = format!("expected {patch} to {} pixels, got {side}", patch * LARGEST_GRID);
        Err(Error::parameter("size", reason))
    }

    /// The size of the input for an image of `original`.
    pub(super) fn of(self, original: Size, patch: usize) -> Result<Size> {
        let shorter = original.width.min(original.height);
        if (shorter as usize) < patch {
            let reason = format!("an image of {original} is smaller than a patch of {patch}x{patch} pixels");
            return Err(Error::input("image", reason));
        }
        let patches = |side: u32, scale: f64| ((f64::from(side) * scale / patch as f64).round() as usize).max(1);
        let (columns, rows) = match self {
            Self::Square(side) => (patches(side, 1.0), patches(side, 1.0)),
            Self::ShorterSide(side) => {
                let scale = f64::from(side) / f64::from(shorter);
                (patches(original.width, scale), patches(original.height, scale))
            }
            Self::Own => (patches(original.width, 1.0), patches(original.height, 1.0)),
        };
        if columns.max(rows) > LARGEST_GRID {
            let reason = format!(
                "an image of {original} would have {columns}x{rows} patches; expected {LARGEST_GRID} a side at most: \
                 cut it into tiles"
            );
            return Err(Error::input("image", reason));
        }
        Ok(Size { width: (columns * patch) as u32, height: (rows * patch) as u32 })
    }
}

/// How an image is brought to the size in which DINOv2 sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFilter {
    /// Pillow's bicubic filter, which averages where it shrinks: what the published processors of DINOv2 do.
    #[default]
    Bicubic,
    /// The four nearest pixels and nothing between: what DinoVdeau's training did. Of a large photograph it sees one
    /// pixel in many.
    BilinearAliased,
}

impl InputFilter {
    pub(super) fn resize(self, image: &RgbImage, size: Size) -> Result<RgbImage> {
        if Size::of(image) == size {
            return Ok(image.clone());
        }
        match self {
            Self::Bicubic => resize_image(image, size, PillowFilter::Bicubic),
            Self::BilinearAliased => resize_image_opencv(image, size, OpenCvInterpolation::Linear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn sides_are_whole_patches() {
        for (how, original, expected) in [
            (InputSize::default(), size(4000, 3000), size(518, 518)),
            (InputSize::Square(224), size(14, 900), size(224, 224)),
            (InputSize::ShorterSide(518), size(4000, 3000), size(686, 518)),
            (InputSize::ShorterSide(28), size(30, 61), size(28, 56)),
            (InputSize::Own, size(164, 150), size(168, 154)),
            (InputSize::Own, size(20, 21), size(14, 28)),
        ] {
            assert_eq!(how.of(original, 14).unwrap(), expected, "{how:?} of {original}");
        }
    }

    #[test]
    fn impossible_sizes_are_named() {
        assert!(
            InputSize::Own.of(size(13, 100), 14).unwrap_err().to_string().contains("13x100 is smaller than a patch")
        );
        assert!(InputSize::Square(28).of(size(0, 0), 14).is_err());
        assert!(InputSize::Own.of(size(14, 14_000), 14).unwrap_err().to_string().contains("cut it into tiles"));
        for (how, valid) in
            [(InputSize::Square(13), false), (InputSize::ShorterSide(1 << 20), false), (InputSize::Own, true)]
        {
            assert_eq!(how.validate(14).is_ok(), valid);
        }
    }
}
