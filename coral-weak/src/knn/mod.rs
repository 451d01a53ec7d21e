//! Classes of the nearest labelled features.

mod propagator;
mod search;

use coral_core::{ClassId, Error, FeatureMap, LabelMap, PointLabel, Result, Size};
use ndarray::{Array2, ArrayViewMut2, s};
use serde::{Deserialize, Serialize};

use crate::feature_rows::{FeatureRows, check_features};
use crate::points::CanonicalPoints;
use crate::{Superpixels, segment_features};
use search::{Queries, References};

pub use propagator::{KnnPropagator, KnnPropagatorConfig};

/// How alike two features are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// The cosine of the angle between them, −1..=1; 0 with a feature of length 0. For features of networks.
    #[default]
    Cosine,
    /// Minus their Euclidean distance. For standardised features, whose zero means nothing special.
    Euclidean,
}

/// How a coarse feature map reaches the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsample {
    /// Features are interpolated, and every pixel is searched for.
    #[default]
    Bilinear,
    /// Grid cells are searched for, and every pixel takes its cell's class: blocky, and fast.
    Nearest,
}

/// Settings of [`knn`]. The default is one neighbour by cosine, as published for DINOv2 features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// How many neighbours vote, at least 1; all points where there are fewer.
    pub k: usize,
    /// Which features are near.
    pub similarity: Similarity,
    /// How coarse features reach the pixels.
    pub upsample: Upsample,
    /// How much distance in the image counts beside distance in features, from 0 (not at all); needs
    /// [`Similarity::Euclidean`]. A point d pixels away is farther by `position · √D · d / spacing`
    /// in two further dimensions, spacing = √(pixels / points): at 1 a point one
    /// spacing away is as far as one whose D features each differ by 1.
    pub position: f32,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 1, similarity: Similarity::Cosine, upsample: Upsample::Bilinear, position: 0.0 }
    }
}

impl KnnConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    ///
    /// # Examples
    /// ```
    /// use coral_weak::KnnConfig;
    /// let error = KnnConfig { k: 0, ..Default::default() }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid parameter `k`: expected at least 1, got 0");
    /// ```
    pub fn validate(&self) -> Result<()> {
        if self.k == 0 {
            return Err(Error::parameter("k", "expected at least 1, got 0"));
        }
        if !(0.0..=1e6).contains(&self.position) {
            return Err(Error::parameter("position", format!("expected 0 to 1e6, got {}", self.position)));
        }
        if self.position > 0.0 && self.similarity == Similarity::Cosine {
            let reason = format!("expected 0 with cosine similarity, got {}", self.position);
            return Err(Error::parameter("position", reason));
        }
        Ok(())
    }

    /// The distance in features that one pixel stands for.
    fn pixel_length(&self, dim: usize, points: usize, size: Size) -> f32 {
        let spacing = (size.pixels() as f64 / points as f64).sqrt();
        (f64::from(self.position) * (dim as f64).sqrt() / spacing) as f32
    }
}

/// What [`knn`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct KnnResult {
    /// H×W classes; labelled pixels have their own.
    pub labels: LabelMap,
    /// H×W similarities to the nearest labelled feature; low where no point is alike, which is
    /// where a further label helps most.
    pub similarity: Array2<f32>,
}

/// Gives every pixel the majority class of the `k` labelled pixels whose features are most
/// similar by cosine: [`knn`] with other settings at their defaults.
///
/// # Errors
/// As [`knn`].
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, PointLabel, Size, ndarray::array};
/// use coral_weak::knn_labels;
/// let data = array![[[1.0, 0.9, 0.0, 0.2]], [[0.0, 0.1, 1.0, 0.8]]]; // two features of four pixels
/// let features = FeatureMap { data, image_size: Size { width: 4, height: 1 } };
/// let points = [PointLabel { x: 0, y: 0, class: 7 }, PointLabel { x: 2, y: 0, class: 3 }];
/// assert_eq!(knn_labels(&features, &points, 1)?, array![[7, 7, 3, 3]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn knn_labels(features: &FeatureMap, points: &[PointLabel], k: usize) -> Result<LabelMap> {
    Ok(knn(features, points, &KnnConfig { k, ..Default::default() })?.labels)
}

/// Gives every pixel the majority class of the labelled pixels with the most similar features.
///
/// Equally similar points are preferred in raster order (topmost, then leftmost), equally frequent classes by
/// the smaller id. Labelled pixels keep their class. The search is exact.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points); [`Error::InvalidParameter`] for a setting out of
/// range; [`Error::InvalidInput`] for an empty feature map or one with values that are not finite.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, PointLabel, Size, ndarray::array};
/// use coral_weak::{KnnConfig, Similarity, knn};
/// let features = FeatureMap { data: array![[[1.0, 2.0, 5.0, 6.5]]], image_size: Size { width: 4, height: 1 } };
/// let points = [PointLabel { x: 0, y: 0, class: 7 }, PointLabel { x: 2, y: 0, class: 3 }];
/// let config = KnnConfig { similarity: Similarity::Euclidean, ..Default::default() };
/// let found = knn(&features, &points, &config)?;
/// assert_eq!(found.labels, array![[7, 7, 3, 3]]);
/// assert_eq!(found.similarity, array![[0.0, -1.0, 0.0, -1.5]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The propagation step of Raine et al., *Human-in-the-Loop Segmentation of Multi-species Coral Imagery* (2024). Parity: similarity within
/// 1e-5, labels but for ties in rounding.
pub fn knn(features: &FeatureMap, points: &[PointLabel], config: &KnnConfig) -> Result<KnnResult> {
    config.validate()?;
    let image = features.image_size;
    let canonical = CanonicalPoints::new(points, image)?;
    check_features(features)?;
    let _span = tracing::debug_span!("knn", points = canonical.points.len(), dim = features.dim()).entered();
    let nearest = config.upsample == Upsample::Nearest;
    let grid = if nearest { features.grid_size() } else { image };
    let length = config.pixel_length(features.dim(), canonical.points.len(), image);
    let queries = GridQueries { rows: FeatureRows::new(features.data.view(), grid), image, length };
    let references = queries.references(&canonical.points, |p| {
        if nearest { features.cell(p.x, p.y) } else { (p.x as usize, p.y as usize) }
    });
    let references = References::new(references, classes_of(&canonical), config.similarity);
    let (mut labels, mut similarity) = references.classify(&queries, config.k);
    if grid != image {
        let at = |(y, x): (usize, usize)| {
            let (column, row) = features.cell(x as u32, y as u32);
            [row, column]
        };
        labels = LabelMap::from_shape_fn(image.shape(), |pixel| labels[at(pixel)]);
        similarity = Array2::from_shape_fn(image.shape(), |pixel| similarity[at(pixel)]);
    }
    canonical.stamp(&mut labels);
    Ok(KnnResult { labels, similarity })
}

/// [`knn`] on segment means: every segment gets one class, by its mean feature and, where position counts,
/// its mean position; the labelled features are the means of the points' segments.
///
/// Without position the result is that of [`knn`] on [`rectify`](crate::rectify)'s features, for a
/// small part of the time and memory. [`Upsample`] plays no part.
///
/// # Errors
/// As [`knn`], and [`Error::ShapeMismatch`] unless the segments are as large as the image.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, PointLabel, Size, ndarray::array};
/// use coral_weak::{KnnConfig, Similarity, Superpixels, knn_segments};
/// let features = FeatureMap { data: array![[[1.0, 4.0, 5.0, 6.0]]], image_size: Size { width: 4, height: 1 } };
/// let segments = Superpixels::from_labels(array![[0, 0, 1, 2]])?; // means 2.5, 5 and 6
/// let points = [PointLabel { x: 0, y: 0, class: 7 }, PointLabel { x: 2, y: 0, class: 3 }];
/// let config = KnnConfig { similarity: Similarity::Euclidean, ..Default::default() };
/// assert_eq!(knn_segments(&features, &segments, &points, &config)?.labels, array![[7, 7, 3, 3]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn knn_segments(
    features: &FeatureMap,
    segments: &Superpixels,
    points: &[PointLabel],
    config: &KnnConfig,
) -> Result<KnnResult> {
    config.validate()?;
    let image = features.image_size;
    image.expect("segments", segments.size())?;
    let canonical = CanonicalPoints::new(points, image)?;
    let means = segment_features(features, segments)?;
    let (count, dim) = means.dim();
    let length = config.pixel_length(dim, canonical.points.len(), image);
    let extra = if length > 0.0 { 2 } else { 0 };
    let mut queries = Array2::zeros((dim + extra, count));
    queries.slice_mut(s![..dim, ..]).assign(&means.t());
    let mut references = Array2::zeros((canonical.points.len(), dim + extra));
    for (p, mut reference) in canonical.points.iter().zip(references.rows_mut()) {
        let segment = segments.labels()[[p.y as usize, p.x as usize]] as usize;
        reference.slice_mut(s![..dim]).assign(&means.row(segment));
    }
    if extra > 0 {
        for (segment, place) in segments.centroids().into_iter().enumerate() {
            (0..2).for_each(|axis| queries[[dim + axis, segment]] = place[axis] * length);
        }
        for (p, mut reference) in canonical.points.iter().zip(references.rows_mut()) {
            (reference[dim], reference[dim + 1]) = (p.x as f32 * length, p.y as f32 * length);
        }
    }
    let references = References::new(references, classes_of(&canonical), config.similarity);
    let (labels, similarity) = references.classify(&queries.view(), config.k);
    let mut labels = segments.labels().mapv(|segment| labels[[0, segment as usize]]);
    let similarity = segments.labels().mapv(|segment| similarity[[0, segment as usize]]);
    canonical.stamp(&mut labels);
    Ok(KnnResult { labels, similarity })
}

fn classes_of(canonical: &CanonicalPoints) -> Vec<ClassId> {
    canonical.points.iter().map(|p| p.class).collect()
}

/// The pixels or cells of a feature map, with their places in the image where those count.
#[derive(Debug)]
struct GridQueries<'a> {
    rows: FeatureRows<'a>,
    image: Size,
    /// The distance in features that one pixel stands for.
    length: f32,
}

impl GridQueries<'_> {
    fn dim(&self) -> usize {
        self.rows.dim() + if self.length > 0.0 { 2 } else { 0 }
    }

    /// The N×D features of the points, at the columns and rows that `place` gives.
    fn references(&self, points: &[PointLabel], place: impl Fn(&PointLabel) -> (usize, usize)) -> Array2<f32> {
        let mut references = Array2::zeros((points.len(), self.dim()));
        let mut column = Array2::zeros((self.dim(), 1));
        for (p, mut reference) in points.iter().zip(references.rows_mut()) {
            let (x, y) = place(p);
            self.read(y, x, column.view_mut());
            reference.assign(&column.column(0));
        }
        references
    }
}

impl Queries for GridQueries<'_> {
    fn shape(&self) -> (usize, usize) {
        self.rows.size().shape()
    }

    fn read(&self, y: usize, start: usize, mut out: ArrayViewMut2<'_, f32>) {
        let dim = self.rows.dim();
        self.rows.read(y, start, out.slice_mut(s![..dim, ..]));
        if self.length > 0.0 {
            let grid = self.rows.size();
            let centre =
                |cell: usize, pixels: u32, cells: u32| (cell as f64 + 0.5) * f64::from(pixels) / f64::from(cells) - 0.5;
            let place = |cell, pixels, cells| self.length * centre(cell, pixels, cells) as f32;
            out.row_mut(dim).iter_mut().enumerate().for_each(|(column, out)| {
                *out = place(start + column, self.image.width, grid.width);
            });
            out.row_mut(dim + 1).fill(place(y, self.image.height, grid.height));
        }
    }
}

#[cfg(test)]
mod tests;
