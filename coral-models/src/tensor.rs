use std::borrow::Borrow;

use candle_core::{Device, Tensor};
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Array3};
use coral_core::{Error, FeatureMap, ProbMap, Result, Size};

/// What a network expects of its input: channel values of 0..=1 become `(value - mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Mean of R, G, B in 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of R, G, B in 0..=1.
    pub std: [f32; 3],
}

impl Normalization {
    /// The statistics of ImageNet, which ResNet, SAM, DINOv2 and SegFormer use.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// The statistics of CLIP's training images.
    pub const CLIP: Self =
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] };

    /// Checks that normalised values are numbers.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::parameter("mean", format!("expected finite numbers, got {mean}")));
        }
        match self.std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            Some(std) => Err(Error::parameter("std", format!("expected finite numbers above 0, got {std}"))),
            None => Ok(()),
        }
    }

    /// The normalised value of every level, for R, G and B.
    pub(crate) fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|level| (level as f32 / 255.0 - self.mean[channel]) / self.std[channel])
        })
    }
}

/// Normalised planar pixels of N images of one size: an N×3×H×W tensor of f32.
///
/// # Errors
/// [`Error::InvalidInput`] without images or pixels, [`Error::ShapeMismatch`] when sizes differ,
/// [`Error::InvalidParameter`] when the statistics are no finite numbers or a deviation is not positive.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_models::{Normalization, images_to_tensor};
/// let white = RgbImage::from_pixel(3, 2, Rgb([255, 255, 255]));
/// let unit = Normalization { mean: [0.0; 3], std: [0.5; 3] };
/// let tensor = images_to_tensor(&[white], &unit, &Device::Cpu)?;
/// assert_eq!(tensor.dims(), [1, 3, 2, 3]);
/// assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0; 18]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn images_to_tensor(images: &[RgbImage], normalization: &Normalization, device: &Device) -> Result<Tensor> {
    pixels_to_tensor(images, normalization, device)
}

/// The same for images that are owned or borrowed.
pub(crate) fn pixels_to_tensor<I: Borrow<RgbImage>>(
    images: &[I],
    normalization: &Normalization,
    device: &Device,
) -> Result<Tensor> {
    let Some(first) = images.first() else {
        return Err(Error::input("images", "expected at least one image, got none"));
    };
    normalization.validate()?;
    let size = Size::of(first.borrow());
    if size.pixels() == 0 {
        return Err(Error::input("images", format!("an image of {size} has no pixels")));
    }
    let tables = normalization.tables();
    let mut values = Vec::with_capacity(images.len() * 3 * size.pixels());
    for (index, image) in images.iter().map(Borrow::borrow).enumerate() {
        size.expect(&format!("images[{index}]"), Size::of(image))?;
        for (channel, table) in tables.iter().enumerate() {
            values.extend(image.pixels().map(|pixel| table[usize::from(pixel.0[channel])]));
        }
    }
    let (height, width) = size.shape();
    Tensor::from_vec(values, (images.len(), 3, height, width), device).map_err(Error::model)
}

/// A C×H×W tensor as class probabilities.
///
/// # Errors
/// [`Error::Model`] when the tensor is not C×H×W or not convertible to f32.
pub fn tensor_to_prob_map(tensor: &Tensor) -> Result<ProbMap> {
    let (classes, height, width) = tensor.dims3().map_err(Error::model)?;
    let values = to_values(tensor)?;
    Array3::from_shape_vec((classes, height, width), values).map_err(Error::model)
}

/// A D×h×w tensor as features of an image of `image_size`.
///
/// # Errors
/// [`Error::Model`] when the tensor is not D×h×w or not convertible to f32.
pub fn tensor_to_feature_map(tensor: &Tensor, image_size: Size) -> Result<FeatureMap> {
    Ok(FeatureMap { data: tensor_to_prob_map(tensor)?, image_size })
}

/// An N×D tensor as one vector per row.
///
/// # Errors
/// [`Error::Model`] when the tensor is not N×D or not convertible to f32.
pub fn tensor_to_rows(tensor: &Tensor) -> Result<Array2<f32>> {
    let shape = tensor.dims2().map_err(Error::model)?;
    Array2::from_shape_vec(shape, to_values(tensor)?).map_err(Error::model)
}

fn to_values(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.flatten_all().and_then(|t| t.to_dtype(candle_core::DType::F32));
    flat.and_then(|t| t.to_vec1()).map_err(Error::model)
}

/// Rows of length 1; a row of zeros stays one, and gets no gradient.
pub(crate) fn unit_rows(rows: &Tensor) -> candle_core::Result<Tensor> {
    // Below this a row counts as zeros: its direction would be noise, and the slope of the root infinite.
    const LEAST_SQUARE: f64 = 1e-24;
    let squares = rows.sqr()?.sum_keepdim(candle_core::D::Minus1)?;
    let present = squares.detach().ge(LEAST_SQUARE)?.to_dtype(rows.dtype())?;
    let lengths = ((&squares * &present)? + present.affine(-1.0, 1.0)?)?.sqrt()?;
    rows.broadcast_mul(&present)?.broadcast_div(&lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn pixels_land_in_their_planes() {
        let image = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 255]));
        let plain = Normalization { mean: [0.0; 3], std: [1.0 / 255.0, 1.0 / 255.0, 1.0] };
        let tensor = images_to_tensor(&[image.clone(), image], &plain, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 2, 3]);
        let second = tensor_to_prob_map(&tensor.get(1).unwrap()).unwrap();
        for ((channel, y, x), value) in second.indexed_iter() {
            let expected = [x as f32, y as f32, 1.0][channel];
            assert!((value - expected).abs() < 1e-5, "{channel} {y} {x}: {value}");
        }
    }

    #[test]
    fn imagenet_statistics_are_applied() {
        let grey = RgbImage::from_pixel(1, 1, Rgb([124, 116, 104]));
        let tensor = images_to_tensor(&[grey], &Normalization::IMAGENET, &Device::Cpu).unwrap();
        assert!(to_values(&tensor).unwrap().iter().all(|value| value.abs() < 0.01));
    }

    #[test]
    fn misfits_are_named() {
        let images = [RgbImage::new(3, 2), RgbImage::new(2, 3)];
        let text = |images: &[RgbImage]| {
            images_to_tensor(images, &Normalization::IMAGENET, &Device::Cpu).unwrap_err().to_string()
        };
        assert_eq!(text(&images), "images[1]: expected shape 3x2, got 2x3");
        assert!(text(&[]).contains("at least one image"));
        assert!(text(&[RgbImage::new(0, 4)]).contains("no pixels"));
        let flat = Normalization { mean: [0.0; 3], std: [1.0, 0.0, 1.0] };
        let error = images_to_tensor(&images[..1], &flat, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "invalid parameter `std`: expected finite numbers above 0, got 0");
        let flat = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(tensor_to_prob_map(&flat), Err(Error::Model { .. })));
        assert_eq!(tensor_to_rows(&flat).unwrap().dim(), (2, 3));
    }
}
