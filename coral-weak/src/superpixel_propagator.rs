use coral_core::image::RgbImage;
use coral_core::{ClassId, Error, LabelMap, PointLabel, PointPropagator, Result, Size, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::points::CanonicalPoints;
use crate::{SlicConfig, Superpixels, lab_image, slic_lab};

/// The class of every superpixel by majority of the points in it (a tie to the smallest id);
/// [`UNLABELED`] for those without a point.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, UNLABELED, ndarray::array};
/// use coral_weak::{Superpixels, majority_classes};
/// let regions = Superpixels::from_labels(array![[0, 0, 0, 1, 2]])?;
/// let at = |x, class| PointLabel { x, y: 0, class };
/// let classes = majority_classes(&regions, &[at(0, 7), at(1, 4), at(2, 7), at(3, 5)])?;
/// assert_eq!(classes, [7, 5, UNLABELED]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn majority_classes(superpixels: &Superpixels, points: &[PointLabel]) -> Result<Vec<ClassId>> {
    let canonical = CanonicalPoints::new(points, superpixels.size())?;
    Ok(majority_of(superpixels, &canonical.points))
}

/// [`majority_classes`] of canonical points.
pub(crate) fn majority_of(superpixels: &Superpixels, points: &[PointLabel]) -> Vec<ClassId> {
    let labels = superpixels.labels();
    let mut votes: Vec<(u32, ClassId)> =
        points.iter().map(|p| (labels[[p.y as usize, p.x as usize]], p.class)).collect();
    votes.sort_unstable();
    let mut classes = vec![UNLABELED; superpixels.count() as usize];
    for region in votes.chunk_by(|a, b| a.0 == b.0) {
        let mut most = 0;
        // Ascending classes and a strict comparison: the smallest id wins a tie.
        for same in region.chunk_by(|a, b| a == b) {
            if same.len() > most {
                most = same.len();
                classes[same[0].0 as usize] = same[0].1;
            }
        }
    }
    classes
}

/// Settings of [`SuperpixelPropagator`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuperpixelConfig {
    /// How to make the superpixels.
    pub slic: SlicConfig,
    /// The difference in Lab that counts as much as the mean distance between points, when a superpixel
    /// without a point looks for the most similar one with a point. Above 0; infinite for position alone.
    pub color_scale: f32,
}

impl Default for SuperpixelConfig {
    fn default() -> Self {
        Self { slic: SlicConfig::default(), color_scale: 20.0 }
    }
}

impl SuperpixelConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.slic.validate()?;
        if self.color_scale > 0.0 {
            return Ok(());
        }
        Err(Error::parameter("color_scale", format!("expected a number above 0, got {}", self.color_scale)))
    }
}

/// Spreads points over superpixels: each takes the majority of its points, and those without a
/// point the class of the labelled superpixel that is nearest in mean colour and position.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points), and [`Error::InvalidParameter`].
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::PointLabel;
/// use coral_weak::{SuperpixelConfig, superpixel_labels};
/// let image = RgbImage::from_fn(30, 20, |x, _| Rgb(if x < 13 { [30, 60, 90] } else { [200, 180, 90] }));
/// let points = [PointLabel { x: 3, y: 9, class: 1 }, PointLabel { x: 27, y: 2, class: 6 }];
/// let labels = superpixel_labels(&image, &points, &SuperpixelConfig::default())?;
/// assert_eq!((labels[[15, 12]], labels[[15, 13]]), (1, 6));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn superpixel_labels(image: &RgbImage, points: &[PointLabel], config: &SuperpixelConfig) -> Result<LabelMap> {
    config.validate()?;
    let canonical = CanonicalPoints::new(points, Size::of(image))?;
    let points = &canonical.points;
    let lab = lab_image(image);
    let superpixels = slic_lab(&lab, &config.slic)?;
    let mut classes = majority_of(&superpixels, points);
    let spacing = (Size::of(image).pixels() as f32 / points.len() as f32).sqrt();
    let colors = superpixels.means(lab.view())?;
    // Lab and position, in units of the colour scale and of the points' spacing.
    let places = superpixels.centroids().into_iter().zip(colors.rows()).map(|([x, y], color)| {
        let color = |axis: usize| color[axis] / config.color_scale;
        [color(0), color(1), color(2), x / spacing, y / spacing]
    });
    fill_from_nearest(&mut classes, &places.collect::<Vec<_>>());
    let mut labels = superpixels.labels().mapv(|label| classes[label as usize]);
    canonical.complete(&mut labels);
    Ok(labels)
}

/// Gives every unlabelled item the class of the nearest labelled one (of several the first).
fn fill_from_nearest(classes: &mut [ClassId], places: &[[f32; 5]]) {
    let labeled: Vec<_> = classes.iter().zip(places).filter(|(class, _)| **class != UNLABELED).collect();
    let labeled: Vec<_> = labeled.into_iter().map(|(&class, &place)| (class, place)).collect();
    for (class, place) in classes.iter_mut().zip(places).filter(|(class, _)| **class == UNLABELED) {
        let distance = |other: &[f32; 5]| (0..5).map(|i| (place[i] - other[i]).powi(2)).sum::<f32>();
        let nearest = labeled.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)));
        *class = nearest.map_or(UNLABELED, |(class, _)| *class);
    }
}

/// Point labels to dense labels over one set of superpixels ([`superpixel_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::{SuperpixelConfig, SuperpixelPropagator};
/// let propagator = SuperpixelPropagator::new(SuperpixelConfig::default())?;
/// let labels = propagator.propagate(&RgbImage::new(8, 6), &[PointLabel { x: 2, y: 2, class: 3 }])?;
/// assert_eq!((labels.dim(), labels[[5, 7]]), ((6, 8), 3));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SuperpixelPropagator {
    config: SuperpixelConfig,
}

impl SuperpixelPropagator {
    /// A propagator with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(config: SuperpixelConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl PointPropagator for SuperpixelPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        superpixel_labels(image, points, &self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;
    use coral_core::testing::check_point_propagator;

    #[test]
    fn the_contract_holds() {
        for segments in [1, 30, 400, 100_000] {
            let slic = SlicConfig { segments, ..Default::default() };
            let propagator = SuperpixelPropagator::new(SuperpixelConfig { slic, ..Default::default() }).unwrap();
            check_point_propagator(&propagator).unwrap();
        }
    }

    #[test]
    fn ties_go_to_the_smallest_id() {
        let regions = Superpixels::from_labels(array![[0, 0, 0, 0]]).unwrap();
        let at = |x, class| PointLabel { x, y: 0, class };
        assert_eq!(majority_classes(&regions, &[at(0, 9), at(1, 2), at(2, 9), at(3, 2)]).unwrap(), [2]);
        assert!(majority_classes(&regions, &[at(4, 0)]).is_err());
    }

    #[test]
    fn colour_outweighs_position_as_scaled() {
        let mut classes = [4, 8, UNLABELED];
        // The third is like the first but beside the second.
        let places = |scale: f32| [[0.0, 0.0], [50.0, 0.9], [0.0, 1.0]].map(|[l, x]| [l / scale, 0.0, 0.0, x, 0.0]);
        fill_from_nearest(&mut classes, &places(20.0));
        assert_eq!(classes, [4, 8, 4]);
        let mut classes = [4, 8, UNLABELED];
        fill_from_nearest(&mut classes, &places(f32::INFINITY));
        assert_eq!(classes, [4, 8, 8]);
    }

    #[test]
    fn bad_settings_are_refused() {
        let config = SuperpixelConfig { color_scale: f32::NAN, ..Default::default() };
        let error = SuperpixelPropagator::new(config).unwrap_err().to_string();
        assert_eq!(error, "invalid parameter `color_scale`: expected a number above 0, got NaN");
    }
}
