use candle_core::{Device, Tensor};
use coral_core::image::{RgbImage, imageops};
use coral_core::{Error, Result, Size};
use serde::{Deserialize, Serialize};

use crate::{Normalization, PillowFilter, images_to_tensor, resize_image};

/// How CLIP sees an image: the shorter side resized (Pillow's bicubic), the middle square cut out, normalised.
///
/// # Examples
/// ```
/// use coral_core::image::RgbImage;
/// use coral_models::ClipPreprocess;
/// let photograph = RgbImage::new(640, 480);
/// assert_eq!(ClipPreprocess::new(224).resize_and_crop(&photograph)?.dimensions(), (224, 224));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// `clip.load` of openai/CLIP; equal in every level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipPreprocess {
    /// Side of the square, in pixels.
    pub size: u32,
    /// Mean of R, G, B in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of R, G, B in 0..=1.
    pub std: [f32; 3],
}

/// Times that an image may be longer than wide before its ends, which the square does not hold, are cut off first.
const LONGEST: u32 = 32;

impl ClipPreprocess {
    /// The published statistics and a square of `size` pixels.
    pub fn new(size: u32) -> Self {
        let Normalization { mean, std } = Normalization::CLIP;
        Self { size, mean, std }
    }

    /// The size that an image of `original` is resized to before the middle is cut out; the longer side is rounded
    /// down.
    pub fn resized_size(&self, original: Size) -> Size {
        let short = u64::from(original.width.min(original.height)).max(1);
        let side = |side: u32| {
            let scaled = u64::from(self.size) * u64::from(side) / short;
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        Size { width: side(original.width), height: side(original.height) }
    }

    /// The square that the network sees, before normalisation.
    ///
    /// The ends of an image more than about 32 times as long as wide are cut off before resizing.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an image without pixels, [`Error::InvalidParameter`] when `size` is 0.
    pub fn resize_and_crop(&self, image: &RgbImage) -> Result<RgbImage> {
        let original = Size::of(image);
        if original.pixels() == 0 {
            return Err(Error::input("image", format!("an image of {original} has no pixels")));
        }
        self.expect_size()?;
        let most = original.width.min(original.height).saturating_mul(LONGEST);
        if original.width.max(original.height) > most {
            // An even number of pixels goes, so that the middle stays where it is.
            let side = |side: u32| if side > most { most - (side - most) % 2 } else { side };
            let part = Size { width: side(original.width), height: side(original.height) };
            return self.resize_and_crop(&middle(image, part));
        }
        let resized = resize_image(image, self.resized_size(original), PillowFilter::Bicubic)?;
        Ok(middle(&resized, Size { width: self.size, height: self.size }))
    }

    /// N images of any sizes as N×3×size×size normalised pixels.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without images or naming the one without pixels, [`Error::InvalidParameter`] when a
    /// field is impossible.
    pub fn to_tensor(&self, images: &[RgbImage], device: &Device) -> Result<Tensor> {
        self.validate()?;
        let squares = images.iter().enumerate().map(|(index, image)| match self.resize_and_crop(image) {
            Err(Error::InvalidInput { reason, .. }) => Err(Error::input(format!("images[{index}]"), reason)),
            other => other,
        });
        images_to_tensor(&squares.collect::<Result<Vec<_>>>()?, &self.normalization(), device)
    }

    /// The statistics alone.
    pub fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean, std: self.std }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.expect_size()?;
        self.normalization().validate()
    }

    fn expect_size(&self) -> Result<()> {
        const LARGEST: u32 = 1 << 14;
        if (1..=LARGEST).contains(&self.size) {
            return Ok(());
        }
        Err(Error::parameter("size", format!("expected 1 to {LARGEST} pixels, got {}", self.size)))
    }
}

/// The part of `size` in the middle; half a pixel goes to the even side.
fn middle(image: &RgbImage, size: Size) -> RgbImage {
    let offset = |whole: u32, part: u32| {
        let twice = whole.saturating_sub(part);
        // Halves to even: 1.5 and 2.5 are both 2.
        if twice % 4 == 3 { twice / 2 + 1 } else { twice / 2 }
    };
    let (x, y) = (offset(image.width(), size.width), offset(image.height(), size.height));
    imageops::crop_imm(image, x, y, size.width, size.height).to_image()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn the_longer_side_is_rounded_down_and_the_offset_to_even() {
        let resized = |width, height| ClipPreprocess::new(224).resized_size(Size { width, height });
        assert_eq!(resized(356, 239), Size { width: 333, height: 224 });
        assert_eq!(resized(70, 151), Size { width: 224, height: 483 });
        for (whole, x) in [(4, 0), (5, 0), (6, 1), (7, 2), (8, 2), (9, 2), (11, 4)] {
            let ramp = RgbImage::from_fn(whole, 1, |x, _| Rgb([x as u8; 3]));
            assert_eq!(middle(&ramp, Size { width: 4, height: 1 })[(0, 0)].0[0], x, "{whole}");
        }
    }

    #[test]
    fn any_shape_becomes_a_square() {
        let clip = ClipPreprocess::new(8);
        for (width, height) in [(1, 1), (3, 200), (5000, 1), (8, 8), (9, 8)] {
            let image = RgbImage::from_pixel(width, height, Rgb([9, 8, 7]));
            let square = clip.resize_and_crop(&image).unwrap();
            assert_eq!(square, RgbImage::from_pixel(8, 8, Rgb([9, 8, 7])), "{width}x{height}");
        }
        let marked = RgbImage::from_fn(4001, 1, |x, _| Rgb([if x == 2000 { 200 } else { 0 }; 3]));
        let square = clip.resize_and_crop(&marked).unwrap();
        assert!(square.pixels().all(|pixel| pixel.0[0] > 90), "{square:?}");
        assert_eq!(square[(3, 3)], square[(4, 4)]);
    }

    #[test]
    fn misfits_are_named() {
        let clip = ClipPreprocess::new(8);
        let text = clip.to_tensor(&[RgbImage::new(2, 2), RgbImage::new(0, 3)], &Device::Cpu).unwrap_err().to_string();
        assert_eq!(text, "invalid input `images[1]`: an image of 0x3 has no pixels");
        assert!(clip.to_tensor(&[], &Device::Cpu).is_err());
        assert!(ClipPreprocess::new(0).resize_and_crop(&RgbImage::new(2, 2)).is_err());
        let flat = ClipPreprocess { std: [0.0; 3], ..clip };
        assert!(flat.validate().unwrap_err().to_string().contains("`std`"));
        assert!(flat.to_tensor(&[RgbImage::new(2, 2)], &Device::Cpu).is_err());
        assert!(ClipPreprocess { mean: [f32::NAN; 3], ..clip }.validate().is_err());
    }
}
