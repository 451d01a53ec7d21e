use candle_core::{Device, Tensor};
use coral_core::image::RgbImage;
use coral_core::{Error, Rect, Result, Size};

use crate::{Interpolation, Normalization, PillowFilter, PlaneResampler, resize_image};

/// The size whose longer side is `side`, rounded as the published program does.
pub(crate) fn longest_side_size(original: Size, side: u32) -> Size {
    let scale = f64::from(side) / f64::from(original.width.max(original.height));
    let scaled = |pixels: u32| ((f64::from(pixels) * scale + 0.5) as u32).max(1);
    Size { width: scaled(original.width), height: scaled(original.height) }
}

/// Resizes the longer side to `side` (Pillow's bilinear), normalises, and only then pads with zeros to the right and
/// bottom: a 1×3×side×side tensor and the size before padding.
pub(crate) fn resize_and_pad(image: &RgbImage, side: u32, device: &Device) -> Result<(Tensor, Size)> {
    let original = Size::of(image);
    if original.pixels() == 0 {
        return Err(Error::input("image", format!("an image of {original} has no pixels")));
    }
    let size = longest_side_size(original, side);
    let resized = resize_image(image, size, PillowFilter::Bilinear)?;
    let tables = Normalization::IMAGENET.tables();
    let side = side as usize;
    let mut values = vec![0.0f32; 3 * side * side];
    for (plane, (channel, table)) in values.chunks_exact_mut(side * side).zip(tables.iter().enumerate()) {
        let rows = resized.as_raw().chunks_exact(3 * size.width as usize);
        for (line, row) in plane.chunks_exact_mut(side).zip(rows) {
            for (value, pixel) in line.iter_mut().zip(row.chunks_exact(3)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }
    let tensor = Tensor::from_vec(values, (1, 3, side, side), device).map_err(Error::model)?;
    Ok((tensor, size))
}

/// From the decoder's low resolution to the original image in the published two steps: bilinear to the padded square,
/// cut to the image's part, bilinear to the original size.
#[derive(Debug, Clone)]
pub(crate) struct MaskUpsampler {
    to_square: PlaneResampler,
    to_original: PlaneResampler,
}

impl MaskUpsampler {
    pub(crate) fn new(low_res: Size, square: u32, input: Size, original: Size) -> Result<Self> {
        let square = Size { width: square, height: square };
        let part = Rect::whole(input);
        Ok(Self {
            to_square: PlaneResampler::new(low_res, square, Interpolation::Bilinear)?.crop(part)?,
            to_original: PlaneResampler::new(input, original, Interpolation::Bilinear)?,
        })
    }

    /// One low-resolution plane to H×W logits of the original image, row by row.
    pub(crate) fn upsample(&self, low_res: &[f32]) -> Result<Vec<f32>> {
        self.to_original.resize(&self.to_square.resize(low_res)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_to_nearest() {
        let size = |width, height| Size { width, height };
        assert_eq!(longest_side_size(size(66, 47), 160), size(160, 114));
        assert_eq!(longest_side_size(size(51, 73), 160), size(112, 160));
        assert_eq!(longest_side_size(size(5000, 1), 1024), size(1024, 1));
    }

    #[test]
    fn padding_is_zero_after_normalising() {
        let image = RgbImage::from_pixel(4, 2, coral_core::image::Rgb([255, 0, 10]));
        let (tensor, size) = resize_and_pad(&image, 8, &Device::Cpu).unwrap();
        assert_eq!(size, Size { width: 8, height: 4 });
        let red = tensor.get(0).unwrap().get(0).unwrap().to_vec2::<f32>().unwrap();
        assert!((red[3][7] - (1.0 - 0.485) / 0.229).abs() < 1e-6);
        assert_eq!(red[4], [0.0; 8]);
        let text = resize_and_pad(&RgbImage::new(0, 3), 8, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(text, "invalid input `image`: an image of 0x3 has no pixels");
    }
}
