mod distance;
mod scan;
mod smooth;

use coral_core::{Error, LabelMap, PointLabel, PointPropagator, Result, Size, image::RgbImage};
use serde::{Deserialize, Serialize};

use self::{
    distance::{Start, StepCosts, check_lambda, shortest_paths},
    smooth::smooth_rgb,
};
use crate::points::CanonicalPoints;

pub use distance::geodesic_distance;
pub use scan::geodesic_raster_scan;

/// How geodesic propagation weighs colour against distance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeodesicConfig {
    /// Share of the colour term, 0 up to but not including 1. Colour differences are measured in units of the
    /// image's mean difference between neighbours, so 0.5 lets an average pixel step cost as much for
    /// its colour as for its length, whatever the exposure or contrast.
    pub lambda: f64,
    /// Standard deviation of the Gaussian that smooths the image first, as a fraction of the mean spacing
    /// √(pixels / points) of the points; at most 8 pixels are used.
    pub smoothing: f64,
}

impl Default for GeodesicConfig {
    /// Colour decides and length only where colours agree: an average step costs nine times as much for its
    /// colour as for its length. Texture much finer than the spacing of the points is smoothed away.
    fn default() -> Self {
        Self { lambda: 0.9, smoothing: 0.1 }
    }
}

impl GeodesicConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a `lambda` outside 0..1 or a negative or infinite `smoothing`.
    pub fn validate(&self) -> Result<()> {
        check_lambda(self.lambda)?;
        if self.lambda == 1.0 {
            return Err(Error::parameter("lambda", "expected less than 1, or flat regions have no distances"));
        }
        if !(self.smoothing.is_finite() && self.smoothing >= 0.0) {
            let reason = format!("expected a number of at least 0, got {}", self.smoothing);
            return Err(Error::parameter("smoothing", reason));
        }
        Ok(())
    }
}

/// Every pixel gets the class of the point that is nearest along paths that avoid colour edges.
///
/// Distances are those of [`geodesic_distance`] on the smoothed image, exact. A pixel equally near to
/// several points goes to the topmost of them, and among those of one row to the leftmost.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points) and [`GeodesicConfig::validate`].
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, image::{Rgb, RgbImage}};
/// use coral_weak::{GeodesicConfig, geodesic_labels};
/// // Sand up to column 2, coral from there on.
/// let image = RgbImage::from_fn(8, 1, |x, _| if x < 2 { Rgb([190, 180, 140]) } else { Rgb([90, 60, 50]) });
/// let at = |x, class| PointLabel { x, y: 0, class };
/// let config = GeodesicConfig { smoothing: 0.0, ..Default::default() };
/// let labels = geodesic_labels(&image, &[at(0, 1), at(7, 2)], &config)?;
/// assert_eq!(labels.row(0).to_vec(), [1, 1, 2, 2, 2, 2, 2, 2]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn geodesic_labels(image: &RgbImage, points: &[PointLabel], config: &GeodesicConfig) -> Result<LabelMap> {
    const WIDEST: f64 = 8.0;
    config.validate()?;
    let size = Size::of(image);
    let canonical = CanonicalPoints::new(points, size)?;
    if let Some(labels) = canonical.uniform(size) {
        return Ok(labels);
    }
    let spacing = (size.pixels() as f64 / canonical.points.len() as f64).sqrt();
    let smoothed = smooth_rgb(image, (config.smoothing * spacing).min(WIDEST) as f32);
    let unit = mean_difference(&smoothed, size);
    let per_level = if unit > 0.0 { config.lambda / (1.0 - config.lambda) / unit } else { 0.0 };
    let starts = canonical.points.iter().zip(0u32..).map(|(p, origin)| {
        let pixel = p.y * size.width + p.x;
        Start { cost: 0.0, pixel, origin }
    });
    // Divided by 1 - lambda, which changes no comparison: the shortest step costs 1.
    let costs = StepCosts::weighted(1.0, per_level, 3.0 * 255.0);
    let paths = shortest_paths(size, starts.collect(), costs, |a, b| f64::from(difference(smoothed[a], smoothed[b])));
    let mut labels = LabelMap::default(size.shape());
    for (label, origin) in labels.iter_mut().zip(paths.origin) {
        *label = canonical.points[origin as usize].class;
    }
    Ok(labels)
}

/// Geodesic propagation of labelled points ([`geodesic_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::{GeodesicConfig, GeodesicPropagator};
/// let propagator = GeodesicPropagator::new(GeodesicConfig { lambda: 0.7, ..Default::default() })?;
/// let labels = propagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!(labels[[3, 7]], 9);
/// assert!(GeodesicPropagator::new(GeodesicConfig { lambda: 1.5, ..Default::default() }).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeodesicPropagator {
    config: GeodesicConfig,
}

impl GeodesicPropagator {
    /// A propagator with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] as [`GeodesicConfig::validate`].
    pub fn new(config: GeodesicConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl PointPropagator for GeodesicPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        geodesic_labels(image, points, &self.config)
    }
}

/// Σ|difference| of two colours.
fn difference(a: [f32; 3], b: [f32; 3]) -> f32 {
    (a[0] - b[0]).abs() + (a[1] - b[1]).abs() + (a[2] - b[2]).abs()
}

/// The mean difference between horizontal and vertical neighbours.
fn mean_difference(pixels: &[[f32; 3]], size: Size) -> f64 {
    let width = size.width as usize;
    let (mut sum, mut count) = (0.0, 0usize);
    for (y, row) in pixels.chunks(width).enumerate() {
        let across: f32 = row.windows(2).map(|pair| difference(pair[0], pair[1])).sum();
        let above = y.checked_sub(1).map_or(&[][..], |above| &pixels[above * width..][..width]);
        let down: f32 = row.iter().zip(above).map(|(a, b)| difference(*a, *b)).sum();
        sum += f64::from(across) + f64::from(down);
        count += row.len() - 1 + above.len();
    }
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn exposure_does_not_matter() -> Result<()> {
        let bright = RgbImage::from_fn(40, 30, |x, y| Rgb([(2 * (x * 7 + y * y) % 120) as u8, (4 * y) as u8, 30]));
        let dim = RgbImage::from_fn(40, 30, |x, y| Rgb(bright.get_pixel(x, y).0.map(|level| level / 2)));
        let at = |x, y, class| PointLabel { x, y, class };
        let points = [at(3, 3, 0), at(30, 5, 1), at(20, 25, 2)];
        let config = GeodesicConfig { smoothing: 0.0, ..Default::default() };
        assert_eq!(geodesic_labels(&bright, &points, &config)?, geodesic_labels(&dim, &points, &config)?);
        Ok(())
    }

    #[test]
    fn bad_settings_are_named() {
        let text = |config: GeodesicConfig| GeodesicPropagator::new(config).unwrap_err().to_string();
        let fine = GeodesicConfig::default();
        assert!(
            text(GeodesicConfig { lambda: -0.1, ..fine }).contains("`lambda`: expected a number in 0..=1, got -0.1")
        );
        assert!(text(GeodesicConfig { lambda: 1.0, ..fine }).contains("`lambda`: expected less than 1"));
        assert!(text(GeodesicConfig { smoothing: f64::NAN, ..fine }).contains("`smoothing`"));
    }
}
