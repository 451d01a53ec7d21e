//! Gaussian-process regression over superpixels, smoothed on their graph.

mod conjugate_gradient;
mod features;
mod regression;
mod render;
mod smoothing;

use coral_core::image::{RgbImage, imageops};
use coral_core::{Error, LabelMap, PointLabel, PointPropagator, Result, Size};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use crate::blur::gaussian_blur;
use crate::points::CanonicalPoints;
use crate::{SlicConfig, Superpixels, lab_image, slic_lab};
use regression::Places;
use smoothing::Smoothing;

/// Settings of [`gaussian_process_labels`]. Lengths are relative to the image or to the
/// points, so that they need no change from survey to survey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianProcessConfig {
    /// About how many superpixels carry the regression, at least 1; never fewer than eight per point.
    pub segments: u32,
    /// [`SlicConfig::compactness`] of the superpixels, above 0.
    pub compactness: f32,
    /// How far a point's class reaches: the kernel's standard deviation in position, in mean distances between points. Above 0.
    pub reach: f32,
    /// How alike places of one class look: the kernel's standard deviation in features, in standard
    /// deviations of the image. Above 0.
    pub similarity: f32,
    /// Variance of the noise in the labels, against 1 for the classes themselves. Above 0.
    pub noise: f64,
    /// Weight of agreement between neighbouring superpixels, per superpixel and point; 0 turns it off.
    pub smoothing: f64,
    /// How fast the influence of a neighbouring superpixel falls with its difference in colour, at least 0.
    pub edge_falloff: f64,
    /// How much rare classes gain: the score of a class of n points is divided by n to this power. 0..=1.
    pub balance: f64,
    /// Images with a longer side than this, in pixels, are analysed at this side and the result is
    /// interpolated. At least 16.
    pub working_side: u32,
}

impl Default for GaussianProcessConfig {
    fn default() -> Self {
        Self {
            segments: 2400,
            compactness: 10.0,
            reach: 1.0,
            similarity: 0.5,
            noise: 0.1,
            smoothing: 1.0,
            edge_falloff: 8.0,
            balance: 0.15,
            working_side: 1024,
        }
    }
}

impl GaussianProcessConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = |name: &str, value: u32, least: u32| {
            let reason = || format!("expected at least {least}, got {value}");
            if value >= least { Ok(()) } else { Err(Error::parameter(name, reason())) }
        };
        at_least_one("segments", self.segments, 1)?;
        at_least_one("working_side", self.working_side, 16)?;
        let positive = [
            ("compactness", f64::from(self.compactness)),
            ("reach", f64::from(self.reach)),
            ("similarity", f64::from(self.similarity)),
            ("noise", self.noise),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::parameter(name, format!("expected a number above 0, got {value}")));
            }
        }
        for (name, value, most) in [
            ("smoothing", self.smoothing, f64::MAX),
            ("edge_falloff", self.edge_falloff, f64::MAX),
            ("balance", self.balance, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(Error::parameter(name, format!("expected a number from 0 to {most}, got {value}")));
            }
        }
        Ok(())
    }
}

/// Spreads labelled points over an image by Gaussian-process regression.
///
/// The image is split into superpixels; each is described by its colour and texture at several scales. A regression whose kernel is the
/// product of one in position and one in these features predicts every class at every superpixel; the predictions are smoothed
/// between neighbours of like colour, and each pixel takes the class of the largest. In contrast to a vote of
/// the points, a regression does not count crowded points twice, and a few points of a class hold their ground
/// among many of another. Labelled pixels keep their class; ties go to the smallest id.
///
/// # Errors
/// [`Error::InvalidParameter`] for a bad configuration; the errors of
/// [`validate_points`](coral_core::validate_points).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, image::{Rgb, RgbImage}};
/// use coral_weak::{GaussianProcessConfig, gaussian_process_labels};
/// // Dark on the left, bright on the right; one point on each side.
/// let image = RgbImage::from_fn(40, 20, |x, _| if x < 13 { Rgb([20, 40, 60]) } else { Rgb([200, 190, 160]) });
/// let points = [PointLabel { x: 3, y: 10, class: 4 }, PointLabel { x: 36, y: 10, class: 9 }];
/// let labels = gaussian_process_labels(&image, &points, &GaussianProcessConfig::default())?;
/// assert_eq!((labels[[10, 11]], labels[[10, 14]]), (4, 9));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Rasmussen & Williams, *Gaussian Processes for Machine Learning*, 2006, ch. 2; Zhou et al., *Learning with
/// Local and Global Consistency*, NIPS 2003, for the smoothing. The combination is ours.
pub fn gaussian_process_labels(
    image: &RgbImage,
    points: &[PointLabel],
    config: &GaussianProcessConfig,
) -> Result<LabelMap> {
    config.validate()?;
    let size = Size::of(image);
    let canonical = CanonicalPoints::new(points, size)?;
    let _span = tracing::debug_span!("gaussian_process", %size, points = points.len()).entered();
    if let Some(labels) = canonical.uniform(size) {
        return Ok(labels);
    }
    let work = working_copy(image, config.working_side);
    let image = work.as_ref().unwrap_or(image);
    let (segments, scores) = segment_scores(image, size, &canonical, config)?;
    let spacing = mean_spacing(Size::of(image), canonical.points.len());
    let mut labels = render::largest_score(&segments, scores.view(), SCORE_BLUR * spacing, size)
        .mapv_into(|index| canonical.classes[usize::from(index)]);
    canonical.stamp(&mut labels);
    Ok(labels)
}

/// The last blur of the scores, in mean distances between points: it rounds the corners of superpixels.
const SCORE_BLUR: f32 = 0.05;
/// Superpixels per point, at least.
const SEGMENTS_PER_POINT: u32 = 8;

/// The image with its long side brought down to `side`, unless it is short enough.
fn working_copy(image: &RgbImage, side: u32) -> Option<RgbImage> {
    let (width, height) = image.dimensions();
    let long = width.max(height);
    if long <= side {
        return None;
    }
    let shrunk = |length: u32| (f64::from(length) * f64::from(side) / f64::from(long)).round().max(1.0) as u32;
    Some(imageops::resize(image, shrunk(width), shrunk(height), imageops::FilterType::Triangle))
}

/// The distance between `count` points spread evenly, in pixels.
fn mean_spacing(size: Size, count: usize) -> f32 {
    (size.pixels() as f64 / count as f64).sqrt() as f32
}

/// The superpixels of a working copy and the S×C scores of the classes; points are in pixels of the
/// original of size `original`.
fn segment_scores(
    image: &RgbImage,
    original: Size,
    canonical: &CanonicalPoints,
    config: &GaussianProcessConfig,
) -> Result<(Superpixels, Array2<f64>)> {
    let size = Size::of(image);
    let points = &canonical.points;
    // Scales of features follow the image, so that they mean the same at every resolution.
    let unit = size.width.max(size.height) as f32 / 512.0;
    let lab = lab_image(image);
    let mut smooth = lab.clone();
    for mut plane in smooth.outer_iter_mut() {
        let blurred = gaussian_blur(plane.view(), unit);
        plane.assign(&blurred);
    }
    let wanted = config.segments.max(SEGMENTS_PER_POINT.saturating_mul(points.len() as u32));
    let slic = SlicConfig { segments: wanted, compactness: config.compactness, ..SlicConfig::default() };
    let segments = slic_lab(&smooth, &slic)?;

    let mut features = features::appearance(&lab, &segments, unit)?;
    features /= config.similarity * std::f32::consts::SQRT_2;
    let scale = 1.0 / (config.reach * mean_spacing(size, points.len()));
    let centroids = segments.centroids();
    let positions = Array2::from_shape_fn((centroids.len(), 2), |(row, axis)| centroids[row][axis] * scale);
    let queries = Places { positions, features };
    let observed = observations(points, original, &segments, &queries, scale);

    let targets = features::one_hot(&canonical.class_index, canonical.classes.len());
    let mut scores = regression::posterior_mean(&observed, targets.view(), &queries, config.noise)?;
    if config.smoothing > 0.0 {
        let strength = config.smoothing * f64::from(segments.count()) / points.len() as f64;
        let smoothing = Smoothing { strength, falloff: config.edge_falloff };
        let colors = features::segment_colors(&lab, &segments)?;
        scores = smoothing::smooth_scores(scores.view(), colors.view(), &segments.adjacency(), smoothing)?;
    }
    for (mut column, target) in scores.columns_mut().into_iter().zip(targets.columns()) {
        column *= target.sum().powf(-config.balance);
    }
    Ok((segments, scores))
}

/// The points as places: their own position, the features of the superpixel they lie in.
fn observations(points: &[PointLabel], original: Size, segments: &Superpixels, queries: &Places, scale: f32) -> Places {
    let size = segments.size();
    let along = |pixel: u32, from: u32, to: u32| (pixel as f32 + 0.5) * to as f32 / from as f32;
    let mut positions = Array2::zeros((points.len(), 2));
    let mut rows = Vec::with_capacity(points.len());
    for (mut position, p) in positions.outer_iter_mut().zip(points) {
        let x = along(p.x, original.width, size.width);
        let y = along(p.y, original.height, size.height);
        position[0] = (x - 0.5) * scale;
        position[1] = (y - 0.5) * scale;
        let row = (y as usize).min(size.height as usize - 1);
        let column = (x as usize).min(size.width as usize - 1);
        rows.push(segments.labels()[[row, column]] as usize);
    }
    Places { positions, features: queries.features.select(Axis(0), &rows) }
}

/// The propagator to use when nothing speaks for another: see [`gaussian_process_labels`].
#[derive(Debug, Clone, Default)]
pub struct GaussianProcessPropagator {
    config: GaussianProcessConfig,
}

impl GaussianProcessPropagator {
    /// A propagator with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field at fault.
    pub fn new(config: GaussianProcessConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl PointPropagator for GaussianProcessPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        gaussian_process_labels(image, points, &self.config)
    }
}

#[cfg(test)]
mod tests;
