use coral_core::{ClassId, Error, FeatureMap, PointLabel, Result};
use ndarray::{Array1, Array2, Array3, Axis};
use serde::{Deserialize, Serialize};

use super::PointMask;
use super::config::check_share;
use crate::feature_rows::{FeatureRows, check_features};
use crate::points::CanonicalPoints;
use crate::{Similarity, parallel};

/// Settings of [`curate_masks`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskCurationConfig {
    /// Which prototype is near.
    pub similarity: Similarity,
    /// A mask is dropped when a larger share of it than this lies in cells of the feature grid whose nearest
    /// prototype is that of another class, 0..=1.
    pub max_foreign_share: f32,
    /// Whether the masks that are kept lose the pixels that are more similar to the prototype of another class.
    pub trim: bool,
}

impl Default for MaskCurationConfig {
    /// For features of networks. The published share is not known: half, so that the majority decides.
    fn default() -> Self {
        Self { similarity: Similarity::Cosine, max_foreign_share: 0.5, trim: true }
    }
}

impl MaskCurationConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        check_share("max_foreign_share", self.max_foreign_share)
    }
}

/// Drops the masks that look like another class than that of their point, and trims the others.
///
/// Each class has a prototype, the mean feature of its points. The cells of the feature grid decide which masks
/// are dropped; features interpolated at the pixels decide which pixels are trimmed. With one class nothing changes.
///
/// It takes features that know the classes, such as a network's. Those of
/// [`ClassicalFeatures`](crate::ClassicalFeatures) trim far too much off good masks.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points); [`Error::InvalidParameter`] for a setting out of
/// range; [`Error::InvalidInput`] for an empty feature map, one with values that are not finite, a mask outside the
/// image or of a class without points; [`Error::ShapeMismatch`] for a mask that is not as large as its box.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, PointLabel, Rect, Size, ndarray::{Array2, array}};
/// use coral_weak::{MaskCurationConfig, PointMask, curate_masks};
/// let data = array![[[1.0, 0.9, 0.1, 0.0]], [[0.0, 0.1, 0.9, 1.0]]]; // two features of four pixels
/// let features = FeatureMap { data, image_size: Size { width: 4, height: 1 } };
/// let points = [PointLabel { x: 0, y: 0, class: 5 }, PointLabel { x: 3, y: 0, class: 7 }];
/// let mask = |point, width| PointMask {
///     point,
///     rect: Rect { x: 0, y: 0, width, height: 1 },
///     mask: Array2::from_elem((1, width as usize), true),
///     predicted_iou: 0.9,
///     reliability: 1.0,
/// };
/// // Of the three pixels of either mask, two look like class 5 and one like class 7.
/// let masks = vec![mask(points[0], 3), mask(points[1], 3)];
/// let curated = curate_masks(masks, &features, &points, &MaskCurationConfig::default())?;
/// assert_eq!(curated.len(), 1);
/// assert_eq!((curated[0].point.class, curated[0].rect.width), (5, 2));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The curation of masks in the sparse-to-dense methods of 2026, from a description; no published program to compare
/// with.
pub fn curate_masks(
    masks: Vec<PointMask>,
    features: &FeatureMap,
    points: &[PointLabel],
    config: &MaskCurationConfig,
) -> Result<Vec<PointMask>> {
    config.validate()?;
    let canonical = CanonicalPoints::new(points, features.image_size)?;
    check_features(features)?;
    for mask in &masks {
        mask.check(features.image_size)?;
        if canonical.classes.binary_search(&mask.point.class).is_err() {
            let (PointLabel { x, y, class }, classes) = (mask.point, &canonical.classes);
            let reason = format!("the mask at ({x}, {y}) has class {class}, expected one of the points', {classes:?}");
            return Err(Error::input("masks", reason));
        }
    }
    let scores = Scores::new(features, &canonical, config.similarity);
    let kept = parallel::map(masks, |mask| scores.curated(mask, config));
    Ok(kept.into_iter().flatten().collect())
}

/// How similar every cell and pixel is to the prototypes, up to a term that all classes share.
#[derive(Debug)]
struct Scores<'a> {
    features: &'a FeatureMap,
    classes: &'a [ClassId],
    /// C×h×w.
    cells: Array3<f32>,
    /// h×w, the largest over the classes.
    best_cells: Array2<f32>,
}

impl<'a> Scores<'a> {
    fn new(features: &'a FeatureMap, canonical: &'a CanonicalPoints, similarity: Similarity) -> Self {
        let (dim, height, width) = features.data.dim();
        let prototypes = prototypes(features, canonical, similarity);
        let mut cells = Array3::zeros((canonical.classes.len(), height, width));
        let planes: Vec<_> = cells.outer_iter_mut().zip(prototypes.rows()).collect();
        parallel::map(planes, |(mut plane, prototype)| {
            for channel in 0..dim {
                plane.scaled_add(prototype[channel], &features.data.index_axis(Axis(0), channel));
            }
            if similarity == Similarity::Euclidean {
                // −‖f − p‖² / 2 without ‖f‖², which is the same for all classes.
                plane -= prototype.dot(&prototype) / 2.0;
            }
        });
        let best_cells = cells.fold_axis(Axis(0), f32::NEG_INFINITY, |best: &f32, &score| best.max(score));
        Self { features, classes: &canonical.classes, cells, best_cells }
    }

    /// The mask after curation; `None` when it is dropped or nothing is left.
    fn curated(&self, mut mask: PointMask, config: &MaskCurationConfig) -> Option<PointMask> {
        let own = self.classes.binary_search(&mask.point.class).ok()?;
        let (left, top) = (mask.rect.x, mask.rect.y);
        let foreign_cell = |(y, x): (usize, usize)| {
            let (column, row) = self.features.cell(left + x as u32, top + y as u32);
            self.best_cells[[row, column]] > self.cells[[own, row, column]]
        };
        let inside = || mask.mask.indexed_iter().filter(|(_, inside)| **inside);
        let foreign = inside().filter(|(place, _)| foreign_cell(*place)).count();
        if foreign as f64 > f64::from(config.max_foreign_share) * inside().count() as f64 {
            return None;
        }
        if config.trim {
            self.trim(&mut mask, own);
        }
        mask.cropped()
    }

    /// Removes the pixels that are more similar to another class than to class number `own`.
    fn trim(&self, mask: &mut PointMask, own: usize) {
        let rows = FeatureRows::new(self.cells.view(), self.features.image_size);
        let (left, width) = (mask.rect.x as usize, mask.rect.width as usize);
        let mut scores = Array2::zeros((self.classes.len(), width));
        for (y, mut row) in mask.mask.rows_mut().into_iter().enumerate() {
            rows.read(mask.rect.y as usize + y, left, scores.view_mut());
            for (inside, scores) in row.iter_mut().zip(scores.columns()) {
                *inside &= scores.iter().all(|&score| score <= scores[own]);
            }
        }
    }
}

/// C×D: the mean feature of each class's points; by cosine of unit features, and itself of unit length.
fn prototypes(features: &FeatureMap, canonical: &CanonicalPoints, similarity: Similarity) -> Array2<f32> {
    let rows = FeatureRows::new(features.data.view(), features.image_size);
    let mut means = Array2::zeros((canonical.classes.len(), rows.dim()));
    let mut counts = Array1::<f32>::zeros(canonical.classes.len());
    let mut feature = Array2::zeros((rows.dim(), 1));
    let unit = |vector: &Array1<f32>| {
        let length = vector.dot(vector).sqrt();
        if length > 0.0 { vector / length } else { vector.clone() }
    };
    for (p, &class) in canonical.points.iter().zip(&canonical.class_index) {
        rows.read(p.y as usize, p.x as usize, feature.view_mut());
        let vector = feature.column(0).to_owned();
        let vector = if similarity == Similarity::Cosine { unit(&vector) } else { vector };
        means.row_mut(usize::from(class)).scaled_add(1.0, &vector);
        counts[usize::from(class)] += 1.0;
    }
    for (mut mean, count) in means.rows_mut().into_iter().zip(counts) {
        mean /= count;
        if similarity == Similarity::Cosine {
            let direction = unit(&mean.to_owned());
            mean.assign(&direction);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{Rect, SeededRng, Size};

    fn at(x: u32, y: u32, class: u8) -> PointLabel {
        PointLabel { x, y, class }
    }

    /// All pixels of an image of this size.
    fn whole(point: PointLabel, size: Size) -> PointMask {
        PointMask {
            point,
            rect: Rect::whole(size),
            mask: Array2::from_elem(size.shape(), true),
            predicted_iou: 0.9,
            reliability: 1.0,
        }
    }

    fn config(similarity: Similarity, max_foreign_share: f32) -> MaskCurationConfig {
        MaskCurationConfig { similarity, max_foreign_share, trim: true }
    }

    #[test]
    fn the_nearest_prototype_decides_as_by_its_definition() {
        let mut rng = SeededRng::new(4);
        let image_size = Size { width: 14, height: 9 };
        let data = Array3::from_shape_simple_fn((3, 9, 14), || rng.normal() as f32);
        let points = [at(1, 1, 9), at(5, 2, 4), at(12, 8, 9), at(7, 7, 2), at(0, 6, 4)];
        let feature = |x: usize, y: usize| [0, 1, 2].map(|c| f64::from(data[[c, y, x]]));
        let unit = |f: [f64; 3]| f.map(|v| v / f.iter().map(|v| v * v).sum::<f64>().sqrt());
        for similarity in [Similarity::Cosine, Similarity::Euclidean] {
            let cosine = similarity == Similarity::Cosine;
            let prototype = |class: u8| {
                let own: Vec<_> = points.iter().filter(|p| p.class == class).collect();
                let mut sum = [0.0; 3];
                for p in &own {
                    let f = feature(p.x as usize, p.y as usize);
                    let f = if cosine { unit(f) } else { f };
                    (0..3).for_each(|c| sum[c] += f[c] / own.len() as f64);
                }
                sum
            };
            let similar = |f: [f64; 3], p: [f64; 3]| match cosine {
                true => unit(f).iter().zip(unit(p)).map(|(a, b)| a * b).sum::<f64>(),
                false => -f.iter().zip(p).map(|(a, b)| (a - b).powi(2)).sum::<f64>(),
            };
            let features = FeatureMap { data: data.clone(), image_size };
            let masks = points.map(|p| whole(p, image_size)).to_vec();
            let curated = curate_masks(masks, &features, &points, &config(similarity, 1.0)).unwrap();
            assert_eq!(curated.len(), 5);
            for mask in curated {
                for (y, x) in (0..9).flat_map(|y| (0..14).map(move |x| (y, x))) {
                    let score = |class| similar(feature(x, y), prototype(class));
                    let expected = [2, 4, 9].iter().all(|&other| score(other) <= score(mask.point.class));
                    assert_eq!(mask.contains(x as u32, y as u32), expected, "{similarity:?} ({x}, {y})");
                }
            }
        }
    }

    #[test]
    fn cells_drop_masks_and_pixels_trim_them() {
        let features =
            FeatureMap { data: ndarray::array![[[0.0, 0.0, 9.0]]], image_size: Size { width: 12, height: 1 } };
        let points = [at(0, 0, 1), at(11, 0, 2)];
        let curate = |share, trim| {
            let masks = points.map(|p| whole(p, features.image_size)).to_vec();
            let config = MaskCurationConfig { trim, ..config(Similarity::Euclidean, share) };
            let curated = curate_masks(masks, &features, &points, &config).unwrap();
            curated.iter().map(|mask| (mask.point.class, mask.rect.x, mask.area())).collect::<Vec<_>>()
        };
        // A third of the cells is foreign to class 1, two thirds to class 2. Between the centres of cells the feature rises
        // to 4.5 at pixel 7.5, where cells meet.
        assert_eq!(curate(0.3, true), []);
        assert_eq!(curate(0.5, true), [(1, 0, 8)]);
        assert_eq!(curate(0.7, true), [(1, 0, 8), (2, 8, 4)]);
        assert_eq!(curate(0.7, false), [(1, 0, 12), (2, 0, 12)]);
    }

    #[test]
    fn bad_input_is_named() {
        let size = Size { width: 4, height: 4 };
        let features = FeatureMap { data: Array3::ones((2, 2, 2)), image_size: size };
        let text = |mask: PointMask, config| {
            curate_masks(vec![mask], &features, &[at(0, 0, 1), at(1, 1, 2)], &config).unwrap_err().to_string()
        };
        let default = MaskCurationConfig::default();
        assert!(text(whole(at(0, 0, 3), size), default).contains("has class 3, expected one of the points', [1, 2]"));
        assert!(text(whole(at(0, 0, 1), Size { width: 5, height: 4 }), default).contains("leaves the 4x4 image"));
        assert!(text(whole(at(0, 0, 1), size), config(Similarity::Cosine, f32::NAN)).contains("max_foreign_share"));
        // Nothing to choose between: equal features keep all masks whole.
        let masks = vec![whole(at(0, 0, 1), size), whole(at(1, 1, 2), size)];
        assert_eq!(curate_masks(masks.clone(), &features, &[at(0, 0, 1), at(1, 1, 2)], &default).unwrap(), masks);
    }
}
