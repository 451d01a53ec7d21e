//! Pixel-adaptive refinement: class probabilities drawn to the edges of the image.

mod affinity;
mod padded;

use coral_core::image::RgbImage;
use coral_core::{Error, ProbMap, Result, Segmenter, Size};
use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

use self::affinity::Affinity;
use self::padded::PaddedRows;
use crate::parallel::for_each_chunk;

/// Settings of [`pixel_adaptive`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelAdaptiveConfig {
    /// How often every pixel takes the mean of its neighbours, at least 1.
    pub iterations: usize,
    /// A pixel's neighbours are the 8 around it at each of these distances, 1 to 1024 pixels.
    pub dilations: Vec<usize>,
    /// How different neighbours may be, in standard deviations of the neighbourhood; above 0.
    pub sigma: f32,
    /// Weight of a neighbour's nearness against its likeness, at least 0.
    pub position_weight: f32,
    /// Divides by the sum of the weights, so that probabilities stay probabilities. The published program does not:
    /// there they grow by 1 + `position_weight` in every iteration.
    pub normalize: bool,
}

impl Default for PixelAdaptiveConfig {
    /// The published values, with normalised weights.
    fn default() -> Self {
        let dilations = vec![1, 2, 4, 8, 12, 24];
        Self { iterations: 20, dilations, sigma: 0.3, position_weight: 0.01, normalize: true }
    }
}

impl PixelAdaptiveConfig {
    /// Values for maps of small objects: less often, from nearer, which keeps more of the classes that are rare.
    pub fn local() -> Self {
        Self { iterations: 10, dilations: vec![1, 2, 4, 8], ..Self::default() }
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::parameter("iterations", "expected at least 1, got 0"));
        }
        if self.dilations.is_empty() || self.dilations.iter().any(|dilation| !(1..=1024).contains(dilation)) {
            let reason = format!("expected distances of 1 to 1024 pixels, got {:?}", self.dilations);
            return Err(Error::parameter("dilations", reason));
        }
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(Error::parameter("sigma", format!("expected a number above 0, got {}", self.sigma)));
        }
        if !(self.position_weight.is_finite() && self.position_weight >= 0.0) {
            let reason = format!("expected a number of at least 0, got {}", self.position_weight);
            return Err(Error::parameter("position_weight", reason));
        }
        Ok(())
    }
}

/// Refines C×H×W probabilities on a D×H×W image in any unit: in every iteration each pixel takes the weighted mean of
/// its neighbours, whose weights come from the image alone.
///
/// A neighbour counts by exp(−(|difference| / `sigma`·s)²), averaged over the channels in the exponent, where s is the
/// standard deviation of the neighbours; so neither contrast nor exposure matters. A class that is nowhere probable
/// stays so. Beyond the edges of the image its outermost pixels are repeated. Needs 32 bytes per pixel and dilation:
/// 50 MB for 512×512 pixels; tile what is larger than memory.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the sizes differ; [`Error::InvalidInput`] for no pixels or channels, or values that
/// are not finite; [`Error::InvalidParameter`] naming the field out of range.
///
/// # Examples
/// ```
/// use coral_core::ndarray::{Array3, array};
/// use coral_weak::{PixelAdaptiveConfig, pixel_adaptive};
/// // An edge after the third column; the map has it one column later.
/// let image = array![[[9.0, 9.0, 9.0, 200.0, 200.0, 200.0, 200.0, 200.0]]];
/// let coarse = array![[[0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1]]];
/// let config = PixelAdaptiveConfig { dilations: vec![1, 2], iterations: 5, ..Default::default() };
/// let refined = pixel_adaptive(image.view(), &coarse, &config)?;
/// assert!(refined[[0, 0, 2]] > 0.8 && refined[[0, 0, 3]] < 0.5);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Ru et al., *Learning Affinity from Attention* (CVPR 2022) and *Token Contrast* (CVPR 2023). Without `normalize` it
/// agrees with the programs of ToCo and ExCEL within 1e-4 (golden case `par`).
pub fn pixel_adaptive(
    image: ArrayView3<'_, f32>,
    probabilities: &ProbMap,
    config: &PixelAdaptiveConfig,
) -> Result<ProbMap> {
    config.validate()?;
    check(image, probabilities)?;
    let affinity = Affinity::new(image, config);
    let mut current = PaddedRows::new(probabilities.view(), affinity.reach());
    let mut next = current.clone();
    for _ in 0..config.iterations {
        let row_len = next.row_len();
        for_each_chunk(next.values_mut(), row_len, |y, out| affinity.average_row(&current, y, out));
        std::mem::swap(&mut current, &mut next);
    }
    Ok(current.into_planes())
}

fn check(image: ArrayView3<'_, f32>, probabilities: &ProbMap) -> Result<()> {
    let size = |(_, height, width): (usize, usize, usize)| Size { width: width as u32, height: height as u32 };
    size(image.dim()).expect("probabilities", size(probabilities.dim()))?;
    if image.is_empty() || image.iter().any(|value| !value.is_finite()) {
        return Err(Error::input("image", format!("expected pixels and finite values, got {}", size(image.dim()))));
    }
    if probabilities.iter().any(|value| !value.is_finite()) {
        return Err(Error::input("probabilities", "expected finite values, got NaN or infinity"));
    }
    Ok(())
}

/// A segmenter whose probabilities are refined on the image ([`pixel_adaptive`]).
///
/// # Examples
/// ```
/// use coral_core::{Segmenter, Size, image::RgbImage};
/// use coral_weak::{ConstantClassifier, PixelAdaptiveConfig, PixelAdaptiveSegmenter};
/// use coral_weak::{SlidingWindow, SlidingWindowConfig};
/// let size = Size { width: 8, height: 8 };
/// let windows = SlidingWindowConfig { patch: size, stride: size, ..Default::default() };
/// let coarse = SlidingWindow::new(ConstantClassifier::new(1, 2)?, windows)?;
/// let segmenter = PixelAdaptiveSegmenter::new(coarse, PixelAdaptiveConfig::default())?;
/// assert!((segmenter.segment(&RgbImage::new(20, 9))?[[1, 8, 19]] - 1.0).abs() < 1e-5);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PixelAdaptiveSegmenter<S> {
    segmenter: S,
    config: PixelAdaptiveConfig,
}

impl<S: Segmenter> PixelAdaptiveSegmenter<S> {
    /// Refines what `segmenter` says.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field out of range.
    pub fn new(segmenter: S, config: PixelAdaptiveConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { segmenter, config })
    }
}

impl<S: Segmenter> Segmenter for PixelAdaptiveSegmenter<S> {
    fn num_classes(&self) -> usize {
        self.segmenter.num_classes()
    }

    fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
        pixel_adaptive(rgb_planes(image).view(), &self.segmenter.segment(image)?, &self.config)
    }
}

/// The 3×H×W levels of an image, 0 to 255.
fn rgb_planes(image: &RgbImage) -> Array3<f32> {
    let (height, width) = Size::of(image).shape();
    let pixels = image.as_raw();
    Array3::from_shape_fn((3, height, width), |(c, y, x)| f32::from(pixels[3 * (y * width + x) + c]))
}

#[cfg(test)]
mod tests;
