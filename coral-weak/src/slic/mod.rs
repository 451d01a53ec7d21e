//! Superpixels by k-means in colour and position.

mod assign;
mod connect;

use coral_core::image::RgbImage;
use coral_core::{Error, Result};
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::{Superpixels, lab_image};
use assign::{Clustering, Planes};

/// Settings of [`slic`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlicConfig {
    /// About how many superpixels to make, at least 1. The result has fewer where small regions are
    /// merged, or more where one cluster falls into several large parts.
    pub segments: u32,
    /// How much a step of one grid cell weighs against one unit of Lab: larger is more square. Above 0.
    pub compactness: f32,
    /// Rounds of assigning pixels and moving centres, at least 1.
    pub max_iterations: u32,
    /// Stop earlier once the centres move less than this share of a grid cell on average; 0 never does.
    pub tolerance: f32,
    /// Connected regions smaller than this share of the mean superpixel join a neighbour; 0..=1.
    pub min_size_factor: f32,
}

impl Default for SlicConfig {
    fn default() -> Self {
        Self { segments: 400, compactness: 10.0, max_iterations: 10, tolerance: 0.005, min_size_factor: 0.25 }
    }
}

impl SlicConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    ///
    /// # Examples
    /// ```
    /// use coral_weak::SlicConfig;
    /// let error = SlicConfig { compactness: 0.0, ..Default::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid parameter `compactness`: expected a number above 0, got 0");
    /// ```
    pub fn validate(&self) -> Result<()> {
        let fail = |name: &str, expected: &str, got: String| {
            Err(Error::parameter(name, format!("expected {expected}, got {got}")))
        };
        if self.segments == 0 {
            return fail("segments", "at least 1", self.segments.to_string());
        }
        if !(self.compactness > 0.0 && self.compactness.is_finite()) {
            return fail("compactness", "a number above 0", self.compactness.to_string());
        }
        if self.max_iterations == 0 {
            return fail("max_iterations", "at least 1", self.max_iterations.to_string());
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return fail("tolerance", "a number from 0", self.tolerance.to_string());
        }
        if !(0.0..=1.0).contains(&self.min_size_factor) {
            return fail("min_size_factor", "a number of 0..=1", self.min_size_factor.to_string());
        }
        Ok(())
    }
}

/// Splits an image into superpixels: connected regions of about equal size and even colour (SLIC).
///
/// Starts from a grid of cells, then moves each centre to the mean of the pixels nearest to it in Lab
/// and position. The result does not depend on the number of threads.
///
/// # Errors
/// [`Error::InvalidParameter`] for a setting out of range, [`Error::InvalidInput`] for an image without pixels.
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_weak::{SlicConfig, slic};
/// // Dark on the left, bright from column 10 on:
/// let image = RgbImage::from_fn(24, 16, |x, _| Rgb(if x < 10 { [40; 3] } else { [200; 3] }));
/// let regions = slic(&image, &SlicConfig { segments: 6, ..Default::default() })?;
/// assert!((2..=8).contains(&regions.count()));
/// for row in regions.labels().rows() {
///     assert_ne!(row[9], row[10]);
/// }
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Achanta et al., *SLIC Superpixels Compared to State-of-the-Art Superpixel Methods*, PAMI 2012. Of the
/// quality of scikit-image's `slic` (boundary recall, undersegmentation, achievable accuracy), not of equal labels.
pub fn slic(image: &RgbImage, config: &SlicConfig) -> Result<Superpixels> {
    config.validate()?;
    slic_lab(&lab_image(image), config)
}

/// [`slic`] of three planes in Lab units, 3×H×W, as [`lab_image`] makes them: convert once, split at several scales.
///
/// # Errors
/// As [`slic`], [`Error::ShapeMismatch`] unless there are three planes, and [`Error::InvalidInput`] for values that are
/// not finite.
pub fn slic_lab(lab: &Array3<f32>, config: &SlicConfig) -> Result<Superpixels> {
    config.validate()?;
    let (channels, height, width) = lab.dim();
    if channels != 3 {
        return Err(Error::shape("lab", format!("3x{height}x{width}"), format!("{channels}x{height}x{width}")));
    }
    if lab.is_empty() || u32::try_from(height * width).is_err() {
        return Err(Error::input("image", format!("expected 1 to {} pixels, got {}", u32::MAX, height * width)));
    }
    if !lab.iter().all(|value| value.is_finite()) {
        return Err(Error::input("lab", "expected finite values only"));
    }
    let _span = tracing::debug_span!("slic", width, height, segments = config.segments).entered();
    let standard = lab.as_standard_layout();
    let Some(planes) = standard.as_slice().and_then(|values| Planes::new(values, width, height)) else {
        return Err(Error::input("lab", "expected a contiguous array"));
    };
    let grid = Grid::new(width, height, config.segments);
    let mut clustering = Clustering::new(planes, &grid, config.compactness);
    let mut labels = grid.labels();
    for round in 0..config.max_iterations {
        let sums = clustering.assign(&mut labels);
        if round + 1 < config.max_iterations && clustering.update(&sums) < config.tolerance * grid.step() {
            break;
        }
    }
    let labels = Array2::from_shape_vec((height, width), labels).map_err(|e| Error::input("lab", e.to_string()))?;
    let min_size = f64::from(config.min_size_factor) * (width * height) as f64 / grid.count() as f64;
    Ok(connect::connect(labels, &planes, min_size as u32))
}

/// The cells from which the clusters start.
#[derive(Debug, Clone, Copy)]
struct Grid {
    width: usize,
    height: usize,
    columns: usize,
    rows: usize,
}

impl Grid {
    /// As nearly square cells, and as nearly `segments` of them, as the image allows.
    fn new(width: usize, height: usize, segments: u32) -> Self {
        let segments = f64::from(segments).min((width * height) as f64);
        let step = ((width * height) as f64 / segments).sqrt();
        let fit = |cells: f64, pixels: usize| (cells.round() as usize).clamp(1, pixels);
        let rows = fit(height as f64 / step, height);
        let columns = fit(segments / rows as f64, width);
        Self { width, height, columns, rows: fit(segments / columns as f64, height) }
    }

    fn count(&self) -> usize {
        self.columns * self.rows
    }

    /// The side of a square of a cell's area, in pixels.
    fn step(&self) -> f32 {
        ((self.width * self.height) as f64 / self.count() as f64).sqrt() as f32
    }

    /// The longer side of a cell, in pixels.
    fn reach(&self) -> f32 {
        (self.width as f32 / self.columns as f32).max(self.height as f32 / self.rows as f32)
    }

    /// The cell of every pixel, row by row.
    fn labels(&self) -> Vec<u32> {
        let columns: Vec<_> = (0..self.width).map(|x| (x * self.columns / self.width) as u32).collect();
        let mut labels = Vec::with_capacity(self.width * self.height);
        for y in 0..self.height {
            let first = (y * self.rows / self.height * self.columns) as u32;
            labels.extend(columns.iter().map(|column| first + column));
        }
        labels
    }
}
