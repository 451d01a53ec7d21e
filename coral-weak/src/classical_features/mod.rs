//! Colour and texture at several scales, without a network.

mod planes;
mod reduce;

use coral_core::image::RgbImage;
use coral_core::{Error, FeatureExtractor, FeatureMap, Result, Size};
use ndarray::{Array3, ArrayViewMut3, Axis};
use serde::{Deserialize, Serialize};

use crate::{lab_image, parallel};
use planes::{Group, Planes};

/// The side of an image, in pixels, on which scales are meant as they are.
const REFERENCE_SIDE: f32 = 512.0;

/// Settings of [`ClassicalFeatures`].
///
/// Scales are standard deviations in pixels of an image whose sides' geometric mean is 512, and grow with the image:
/// what counts is the share of the picture, not the camera's resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassicalFeaturesConfig {
    /// Scales at which colour is averaged: three channels each.
    pub color_scales: Vec<f32>,
    /// Scales of the windows in which colour's deviation is measured: two channels each.
    pub deviation_scales: Vec<f32>,
    /// Ascending scales between which the bands of lightness lie: one channel per neighbouring pair.
    pub band_scales: Vec<f32>,
    /// Scales of the windows in which gradients are gathered: two channels each.
    pub gradient_scales: Vec<f32>,
    /// The weight of two channels for the place in the image; 0 leaves them out.
    pub position: f32,
    /// Larger images are first reduced to about as many pixels, at least 1; it bounds time and memory.
    pub max_pixels: usize,
    /// Pixels of the (reduced) image per cell of the feature grid, along each axis, at least 1.
    pub stride: u32,
}

impl Default for ClassicalFeaturesConfig {
    /// 19 channels: colour from single organisms' size up to the surroundings', texture from the finest
    /// that survives a photograph's compression up to 1/50 of its side.
    fn default() -> Self {
        Self {
            color_scales: vec![1.5, 5.0, 12.0],
            deviation_scales: vec![5.0, 12.0],
            band_scales: vec![0.7, 1.4, 2.8, 5.6, 11.2],
            gradient_scales: vec![8.0],
            position: 0.0,
            max_pixels: 1 << 20,
            stride: 1,
        }
    }
}

impl ClassicalFeaturesConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let lists = [
            ("color_scales", &self.color_scales),
            ("deviation_scales", &self.deviation_scales),
            ("band_scales", &self.band_scales),
            ("gradient_scales", &self.gradient_scales),
        ];
        for (name, scales) in lists {
            if let Some(scale) = scales.iter().find(|&&scale| !(scale > 0.0 && scale <= REFERENCE_SIDE)) {
                return Err(Error::parameter(name, format!("expected scales over 0, at most 512, got {scale}")));
            }
        }
        if self.band_scales.len() == 1 || !self.band_scales.is_sorted_by(|a, b| a < b) {
            return Err(Error::parameter("band_scales", "expected none, or two or more that ascend"));
        }
        if !(0.0..=1e6).contains(&self.position) {
            return Err(Error::parameter("position", format!("expected 0 to 1e6, got {}", self.position)));
        }
        if self.max_pixels == 0 || self.stride == 0 {
            let name = if self.stride == 0 { "stride" } else { "max_pixels" };
            return Err(Error::parameter(name, "expected at least 1, got 0"));
        }
        if self.groups().is_empty() {
            return Err(Error::parameter("color_scales", "expected some feature, got none of any kind"));
        }
        Ok(())
    }

    /// The groups of channels, in their order.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<_> = self.color_scales.iter().map(|&scale| Group::Color { scale }).collect();
        groups.extend(self.deviation_scales.iter().map(|&scale| Group::Deviation { scale }));
        groups.extend(self.band_scales.windows(2).map(|pair| Group::Band { fine: pair[0], coarse: pair[1] }));
        groups.extend(self.gradient_scales.iter().map(|&scale| Group::Gradient { scale }));
        if self.position > 0.0 {
            groups.push(Group::Position { weight: self.position });
        }
        groups
    }
}

/// Dense features of colour and texture for any image, without training.
///
/// The channels, each standardised over the image (mean 0, standard deviation 1; 0 where it does not vary):
/// 1. per `color_scales`: L, a and b of CIE Lab, smoothed;
/// 2. per `deviation_scales`: the standard deviation within a window, log(1 + σ), of lightness and of a and b together;
/// 3. per neighbouring pair of `band_scales`: the energy of lightness between the two scales, log(0.1 + the mean absolute
///    difference of Gaussians), in a window of twice the coarser scale;
/// 4. per `gradient_scales`, from the structure tensor of lightness in a window: its energy, log(1 + √trace), and its coherence,
///    0 for texture without a direction to 1 for parallel stripes (blades of seagrass, ripples of sand);
/// 5. with `position`, x and y, standardised and times that weight.
///
/// Time hardly depends on the scales, and results not on the number of threads.
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::FeatureExtractor;
/// use coral_weak::ClassicalFeatures;
/// let image = RgbImage::from_fn(30, 20, |x, _| Rgb(if x < 15 { [20; 3] } else { [220; 3] }));
/// let extractor = ClassicalFeatures::default();
/// let features = extractor.extract(&image)?;
/// assert_eq!(features.data.dim(), (19, 20, 30));
/// assert!(features.data[[0, 10, 2]] < -0.9 && features.data[[0, 10, 27]] > 0.9); // lightness
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClassicalFeatures {
    config: ClassicalFeaturesConfig,
    groups: Vec<Group>,
}

impl Default for ClassicalFeatures {
    fn default() -> Self {
        let config = ClassicalFeaturesConfig::default();
        Self { groups: config.groups(), config }
    }
}

impl ClassicalFeatures {
    /// An extractor with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field out of range.
    pub fn new(config: ClassicalFeaturesConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { groups: config.groups(), config })
    }

    /// The size of the image that features are computed on.
    fn working_size(&self, image: Size) -> Size {
        let shrink = (image.pixels() as f64 / self.config.max_pixels as f64).sqrt().max(1.0);
        let side = |pixels: u32| ((f64::from(pixels) / shrink).round() as u32).max(1);
        Size { width: side(image.width), height: side(image.height) }
    }
}

impl FeatureExtractor for ClassicalFeatures {
    fn dim(&self) -> usize {
        self.groups.iter().map(Group::channels).sum()
    }

    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let image_size = Size::of(image);
        if image_size.pixels() == 0 {
            return Err(Error::input("image", format!("expected at least one pixel, got {image_size}")));
        }
        let size = self.working_size(image_size);
        let _span = tracing::debug_span!("classical_features", %image_size, %size).entered();
        let lab = if size == image_size { lab_image(image) } else { lab_image(&reduce::reduce_image(image, size)) };
        let planes = Planes::new(lab, (size.pixels() as f32).sqrt() / REFERENCE_SIDE);
        let cells = |pixels: u32| pixels.div_ceil(self.config.stride) as usize;
        let grid = (cells(size.height), cells(size.width));
        let mut data = Array3::zeros((self.dim(), grid.0, grid.1));
        let mut tasks = Vec::new();
        let mut rest = data.view_mut();
        for &group in &self.groups {
            let (part, others) = rest.split_at(Axis(0), group.channels());
            rest = others;
            tasks.push((group, part));
        }
        parallel::map(tasks, |(group, out)| fill(&planes, group, out));
        Ok(FeatureMap { data, image_size })
    }
}

/// The group's channels, reduced to the grid and standardised.
fn fill(planes: &Planes, group: Group, mut out: ArrayViewMut3<'_, f32>) {
    for (plane, mut out) in planes.compute(group).into_iter().zip(out.outer_iter_mut()) {
        reduce::reduce_plane(&plane, out.view_mut());
        planes::standardize(out, group.weight());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;
    use coral_core::image::Rgb;
    use ndarray::s;

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut rng = SeededRng::new(5);
        RgbImage::from_fn(width, height, |_, _| Rgb([(); 3].map(|()| rng.below(256) as u8)))
    }

    #[test]
    fn channels_are_standardised_and_flat_ones_are_zero() {
        let features = ClassicalFeatures::default().extract(&noise(512, 300)).unwrap();
        for plane in features.data.outer_iter() {
            let values: Vec<_> = plane.iter().map(|&value| f64::from(value)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        }
        for (width, height) in [(1, 1), (40, 30), (1, 25), (25, 1)] {
            let flat = ClassicalFeatures::default().extract(&RgbImage::from_pixel(width, height, Rgb([90, 140, 70])));
            assert!(flat.unwrap().data.iter().all(|&value| value == 0.0));
        }
    }

    #[test]
    fn strides_and_large_images_give_smaller_grids() {
        let of = |config: ClassicalFeaturesConfig, image: &RgbImage| {
            ClassicalFeatures::new(config).unwrap().extract(image).unwrap()
        };
        let strided = of(ClassicalFeaturesConfig { stride: 4, ..Default::default() }, &noise(61, 43));
        assert_eq!((strided.data.dim(), strided.image_size), ((19, 11, 16), Size { width: 61, height: 43 }));
        let reduced = of(ClassicalFeaturesConfig { max_pixels: 500, ..Default::default() }, &noise(100, 50));
        let (_, height, width) = reduced.data.dim();
        assert_eq!((height, width), (16, 32));
        let tiny = of(ClassicalFeaturesConfig { max_pixels: 1, ..Default::default() }, &noise(300, 1));
        assert!(tiny.data.dim().1 == 1 && tiny.data.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn stripes_and_speckles_differ_in_texture_alone() {
        // The same grey levels: blades on the left, speckles on the right.
        let image = RgbImage::from_fn(128, 64, |x, y| {
            let bright = if x < 64 { (x / 2) % 2 == 0 } else { ((x / 2) ^ (y / 2)) % 2 == 0 };
            Rgb(if bright { [140; 3] } else { [80; 3] })
        });
        let config = ClassicalFeaturesConfig { gradient_scales: vec![24.0], ..Default::default() };
        let extractor = ClassicalFeatures::new(config).unwrap();
        let features = extractor.extract(&image).unwrap().data;
        let mean = |channel, columns: std::ops::Range<i32>| features.slice(s![channel, 8..56, columns]).mean().unwrap();
        let coherence = extractor.dim() - 1;
        assert!(mean(coherence, 8..56) > 0.7 && mean(coherence, 72..120) < -0.7);
        assert!((mean(6, 8..56) - mean(6, 72..120)).abs() < 0.8, "lightness at the coarsest scale");
    }

    #[test]
    fn position_channels_are_weighted_and_last() {
        let config = ClassicalFeaturesConfig { position: 2.0, ..Default::default() };
        let features = ClassicalFeatures::new(config).unwrap().extract(&noise(20, 10)).unwrap().data;
        assert_eq!(features.dim().0, 21);
        let (x, y) = (features.index_axis(Axis(0), 19), features.index_axis(Axis(0), 20));
        assert!(x[[0, 0]] < -3.0 && x[[0, 19]] > 3.0 && x[[9, 4]] == x[[0, 4]]);
        assert!(y[[0, 0]] < -2.8 && y[[9, 0]] > 2.8 && y[[4, 17]] == y[[4, 0]]);
    }

    #[test]
    fn unusable_settings_are_refused() {
        let text = |config| ClassicalFeatures::new(config).unwrap_err().to_string();
        let default = ClassicalFeaturesConfig::default;
        assert!(text(ClassicalFeaturesConfig { color_scales: vec![2.0, f32::NAN], ..default() }).contains("got NaN"));
        assert!(text(ClassicalFeaturesConfig { band_scales: vec![2.0, 2.0], ..default() }).contains("`band_scales`"));
        assert!(text(ClassicalFeaturesConfig { position: -1.0, ..default() }).contains("`position`"));
        assert!(text(ClassicalFeaturesConfig { stride: 0, ..default() }).contains("`stride`"));
        let none = ClassicalFeaturesConfig {
            color_scales: vec![],
            deviation_scales: vec![],
            band_scales: vec![],
            gradient_scales: vec![],
            ..default()
        };
        assert!(text(none).contains("expected some feature"));
        assert!(ClassicalFeatures::default().extract(&RgbImage::new(0, 3)).is_err());
    }
}
