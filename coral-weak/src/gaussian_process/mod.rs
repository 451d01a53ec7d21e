//! Gaussian-process regression over superpixels, smoothed on their graph.

mod conjugate_gradient;
mod features;
mod regression;
mod render;
mod smoothing;

use coral_core::image::{RgbImage, imageops};
use coral_core::{Error, LabelMap, PointLabel, PointPropagator, Result, Size};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::blur::gaussian_blur;
use crate::points::CanonicalPoints;
use crate::{SlicConfig, Superpixels, lab_image, slic_lab};
use regression::{Observation, Places, merged};
use smoothing::Smoothing;

/// Settings of [`gaussian_process_labels`]. Lengths are relative to the image or to the
/// points, so that they need no change from survey to survey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianProcessConfig {
    /// About how many superpixels carry the regression, at least 1. There are at least eight per point, while
    /// they are eight pixels large.
    pub segments: u32,
    /// [`SlicConfig::compactness`] of the superpixels, 0.001..=1000.
    pub compactness: f32,
    /// How far a point's class reaches: the kernel's standard deviation in position, in mean distances between points, 0.001..=1000.
    pub reach: f32,
    /// How alike places of one class look: the kernel's standard deviation in features, in standard
    /// deviations of the image, 0.001..=1000.
    pub similarity: f32,
    /// Variance of the noise in the labels, against 1 for the classes themselves, 0.001..=1000.
    pub noise: f64,
    /// Weight of agreement between neighbouring superpixels, per superpixel and point, 0..=1000; 0 turns it off.
    pub smoothing: f64,
    /// How fast the influence of a neighbouring superpixel falls with its difference in colour, 0..=1e6.
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
        // Beyond these bounds numbers overflow or the linear systems cannot be solved in double precision.
        for (name, value, (least, most)) in [
            ("compactness", f64::from(self.compactness), (1e-3, 1e3)),
            ("reach", f64::from(self.reach), (1e-3, 1e3)),
            ("similarity", f64::from(self.similarity), (1e-3, 1e3)),
            ("noise", self.noise, (1e-3, 1e3)),
            ("smoothing", self.smoothing, (0.0, 1e3)),
            ("edge_falloff", self.edge_falloff, (0.0, 1e6)),
            ("balance", self.balance, (0.0, 1.0)),
        ] {
            // Settings in single precision may lie a rounding below a bound.
            if !(least * (1.0 - 1e-6)..=most).contains(&value) {
                return Err(Error::parameter(name, format!("expected a number from {least} to {most}, got {value}")));
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
/// [`Error::InvalidInput`], too, if a linear system should not converge, which no setting in range has been seen to cause.
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
/// Pixels of the working copy per superpixel, at least, where points alone ask for more superpixels.
const PIXELS_PER_SEGMENT: usize = 8;
/// With more points than this, those of one class in one superpixel count as one. It bounds time and memory for points
/// that are crowded in a part of the image.
const MOST_SINGLE_POINTS: usize = 4096;

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
    let most = (size.pixels() / PIXELS_PER_SEGMENT) as u32;
    let wanted = config.segments.max(SEGMENTS_PER_POINT.saturating_mul(points.len() as u32).min(most));
    let slic = SlicConfig { segments: wanted, compactness: config.compactness, ..SlicConfig::default() };
    let segments = slic_lab(&smooth, &slic)?;

    let mut features = features::appearance(&lab, &segments, unit)?;
    features /= config.similarity * std::f32::consts::SQRT_2;
    let scale = 1.0 / (config.reach * mean_spacing(size, points.len()));
    let centroids = segments.centroids();
    let positions = centroids.into_iter().map(|place| place.map(|v| f64::from(v * scale))).collect();
    let mut observed = observations(canonical, original, &segments, scale);
    if observed.len() > MOST_SINGLE_POINTS {
        observed = merged(observed);
    }
    let places = Places { positions, features };
    let mut scores = regression::posterior_mean(&observed, &places, canonical.classes.len(), config.noise)?;
    if config.smoothing > 0.0 {
        let strength = config.smoothing * f64::from(segments.count()) / points.len() as f64;
        let smoothing = Smoothing { strength, falloff: config.edge_falloff };
        let colors = features::segment_colors(&lab, &segments)?;
        scores = smoothing::smooth_scores(scores.view(), colors.view(), &segments.adjacency(), smoothing)?;
    }
    let mut sizes = vec![0.0_f64; canonical.classes.len()];
    canonical.class_index.iter().for_each(|&class| sizes[usize::from(class)] += 1.0);
    for (mut column, size) in scores.columns_mut().into_iter().zip(sizes) {
        column *= size.powf(-config.balance);
    }
    Ok((segments, scores))
}

/// The points at their own positions, with the features of the superpixels they lie in.
fn observations(canonical: &CanonicalPoints, original: Size, segments: &Superpixels, scale: f32) -> Vec<Observation> {
    let size = segments.size();
    let along = |pixel: u32, from: u32, to: u32| (pixel as f32 + 0.5) * to as f32 / from as f32;
    let observe = |(p, &class): (&PointLabel, &u8)| {
        let x = along(p.x, original.width, size.width);
        let y = along(p.y, original.height, size.height);
        let row = (y as usize).min(size.height as usize - 1);
        let column = (x as usize).min(size.width as usize - 1);
        let position = [x, y].map(|v| f64::from((v - 0.5) * scale));
        Observation { position, place: segments.labels()[[row, column]] as usize, class, points: 1 }
    };
    canonical.points.iter().zip(&canonical.class_index).map(observe).collect()
}

/// The propagator to use when nothing speaks for another: see [`gaussian_process_labels`].
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::{GaussianProcessConfig, GaussianProcessPropagator};
/// let propagator = GaussianProcessPropagator::new(GaussianProcessConfig { reach: 0.8, ..Default::default() })?;
/// let labels = propagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!((labels.dim(), labels[[3, 7]]), ((4, 8), 9));
/// assert!(GaussianProcessPropagator::new(GaussianProcessConfig { noise: 0.0, ..Default::default() }).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
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
