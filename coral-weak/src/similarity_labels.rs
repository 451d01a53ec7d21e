use coral_core::{CellLabeler, ClassId, Error, FeatureMap, LabelMap, Result, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::Templates;
use crate::feature_rows::check_features;

/// Settings of [`similarity_labels`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimilarityConfig {
    /// The class of sand, water and whatever else photographs of every class show.
    pub background: ClassId,
    /// A cell is background only if its cosine with that template is above this, −1..=1.
    pub threshold: f32,
    /// Cells whose two cosines are closer than this stay without label, 0..=2; 0 labels every cell.
    pub margin: f32,
}

impl Default for SimilarityConfig {
    /// SeaFeats: class 0 is background, above a cosine of 0.6; every cell gets a label.
    fn default() -> Self {
        Self { background: 0, threshold: 0.6, margin: 0.0 }
    }
}

impl SimilarityConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.background == UNLABELED {
            return Err(Error::parameter("background", format!("{UNLABELED} means unlabelled; expected a class")));
        }
        if !(-1.0..=1.0).contains(&self.threshold) {
            return Err(Error::parameter("threshold", format!("expected a cosine in -1..=1, got {}", self.threshold)));
        }
        if !(0.0..=2.0).contains(&self.margin) {
            return Err(Error::parameter("margin", format!("expected a number in 0..=2, got {}", self.margin)));
        }
        Ok(())
    }
}

/// Decides for every cell of a photograph of `class` whether it shows that class or background: h×w classes, or
/// [`UNLABELED`], for D×h×w features.
///
/// A cell with features f is background if cos(f, t_background) is above both cos(f, t_class) and the threshold.
/// Photographs labelled background are background throughout, whatever their features.
///
/// # Errors
/// [`Error::InvalidInput`] when `class` or the background has no template, or the features have no cell or hold NaN;
/// [`Error::ShapeMismatch`] when features and templates differ in length; those of [`SimilarityConfig::validate`].
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::{SimilarityConfig, Templates, similarity_labels};
/// let templates = Templates::new(vec![Some(vec![1.0, 0.0]), Some(vec![0.0, 1.0])])?;
/// let data = array![[[3.0, 0.5]], [[1.0, 0.5]]];
/// let features = FeatureMap { data, image_size: Size { width: 64, height: 32 } };
/// let labels = similarity_labels(&features, 1, &templates, &SimilarityConfig::default())?;
/// assert_eq!(labels, array![[0, 1]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024. Equal labels,
/// similarities to 1e-5.
pub fn similarity_labels(
    features: &FeatureMap,
    class: ClassId,
    templates: &Templates,
    config: &SimilarityConfig,
) -> Result<LabelMap> {
    config.validate()?;
    let (_, height, width) = features.data.dim();
    if class == config.background {
        check_features(features)?;
        if features.dim() != templates.dim() {
            let expected = format!("{} values, as the templates", templates.dim());
            return Err(Error::shape("features", expected, format!("{} values per cell", features.dim())));
        }
        return Ok(LabelMap::from_elem((height, width), class));
    }
    for needed in [class, config.background] {
        if templates.get(needed).is_none() {
            return Err(Error::input("templates", format!("class {needed} has none")));
        }
    }
    let similarities = templates.map_similarities(features)?;
    Ok(LabelMap::from_shape_fn((height, width), |(y, x)| {
        let to = |class: ClassId| similarities[[usize::from(class), y, x]];
        let (background, label) = (to(config.background), to(class));
        if (background - label).abs() < config.margin {
            UNLABELED
        } else if background > label && background > config.threshold {
            config.background
        } else {
            class
        }
    }))
}

/// Labels cells by the more similar of two [`Templates`] ([`similarity_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{CellLabeler, FeatureMap, Size, ndarray::array};
/// use coral_weak::{SimilarityConfig, SimilarityLabeler, Templates};
/// let templates = Templates::new(vec![Some(vec![1.0, 0.0]), Some(vec![0.0, 1.0])])?;
/// let labeler = SimilarityLabeler::new(templates, SimilarityConfig { margin: 0.1, ..Default::default() })?;
/// let features = FeatureMap { data: array![[[1.0, 2.0]], [[1.0, 1.0]]], image_size: Size { width: 8, height: 4 } };
/// assert_eq!(labeler.label_cells(&features, 1)?, array![[255, 0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SimilarityLabeler {
    templates: Templates,
    config: SimilarityConfig,
}

impl SimilarityLabeler {
    /// A labeller with these templates and settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field; [`Error::InvalidInput`] when the background has no template.
    pub fn new(templates: Templates, config: SimilarityConfig) -> Result<Self> {
        config.validate()?;
        if templates.get(config.background).is_none() {
            let reason = format!("the background, class {}, has none", config.background);
            return Err(Error::input("templates", reason));
        }
        Ok(Self { templates, config })
    }

    /// The templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }
}

impl CellLabeler for SimilarityLabeler {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        similarity_labels(features, class, &self.templates, &self.config)
    }
}

/// Gives every cell the photograph's label: the baseline that any other [`CellLabeler`] has to beat.
///
/// # Examples
/// ```
/// use coral_core::{CellLabeler, FeatureMap, Size, ndarray::Array3};
/// use coral_weak::EveryPatchLabeler;
/// let features = FeatureMap { data: Array3::zeros((4, 1, 2)), image_size: Size { width: 64, height: 32 } };
/// assert_eq!(EveryPatchLabeler.label_cells(&features, 3)?.as_slice(), Some(&[3, 3][..]));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct EveryPatchLabeler;

impl CellLabeler for EveryPatchLabeler {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        check_features(features)?;
        if class == UNLABELED {
            return Err(Error::input(
                "class",
                format!("{UNLABELED} means unlabelled; expected the photograph's class"),
            ));
        }
        let (_, height, width) = features.data.dim();
        Ok(LabelMap::from_elem((height, width), class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Size;
    use ndarray::{Array3, array};

    fn cell(x: f32, y: f32) -> FeatureMap {
        FeatureMap { data: array![[[x]], [[y]]], image_size: Size { width: 9, height: 7 } }
    }

    fn labeler(config: SimilarityConfig) -> SimilarityLabeler {
        let templates = vec![Some(vec![1.0, 0.0]), None, Some(vec![0.0, 1.0])];
        SimilarityLabeler::new(Templates::new(templates).unwrap(), config).unwrap()
    }

    #[test]
    fn both_conditions_are_needed() {
        let label = |config, x, y| labeler(config).label_cells(&cell(x, y), 2).unwrap()[[0, 0]];
        let config = SimilarityConfig::default();
        assert_eq!(label(config, 1.0, 0.5), 0);
        assert_eq!(label(config, 1.0, 1.0), 2, "equal similarities keep the label");
        assert_eq!(label(config, 0.5, -1.0), 2, "nearer to the background, but below the threshold");
        assert_eq!(label(SimilarityConfig { threshold: 0.4, ..config }, 0.5, -1.0), 0);
        assert_eq!(label(SimilarityConfig { margin: 0.2, ..config }, 1.0, 0.9), UNLABELED);
        assert_eq!(label(SimilarityConfig { margin: 0.2, ..config }, 0.2, 0.9), 2);
    }

    #[test]
    fn background_photographs_are_background() {
        let labeler = labeler(SimilarityConfig { margin: 2.0, ..Default::default() });
        assert_eq!(labeler.label_cells(&cell(0.0, 1.0), 0).unwrap(), array![[0]]);
    }

    #[test]
    fn misfits_are_named() {
        let labeler = labeler(SimilarityConfig::default());
        let text = |features: &FeatureMap, class| labeler.label_cells(features, class).unwrap_err().to_string();
        assert_eq!(text(&cell(1.0, 1.0), 1), "invalid input `templates`: class 1 has none");
        assert!(text(&cell(1.0, 1.0), UNLABELED).contains("class 255 has none"));
        assert!(text(&cell(f32::NAN, 1.0), 2).contains("NaN"));
        assert!(text(&cell(f32::NAN, 1.0), 0).contains("NaN"));
        let wide = FeatureMap { data: Array3::ones((3, 1, 1)), image_size: Size { width: 9, height: 7 } };
        assert!(
            text(&wide, 2).contains("expected shape 2 values") && text(&wide, 0).contains("expected shape 2 values")
        );
        let templates = labeler.templates().clone();
        let refused = |config| SimilarityLabeler::new(templates.clone(), config).unwrap_err().to_string();
        let config = SimilarityConfig::default();
        assert!(refused(SimilarityConfig { background: 1, ..config }).contains("class 1, has none"));
        assert!(refused(SimilarityConfig { background: 255, ..config }).contains("`background`"));
        assert!(refused(SimilarityConfig { threshold: f32::NAN, ..config }).contains("`threshold`"));
        assert!(refused(SimilarityConfig { margin: -0.1, ..config }).contains("`margin`"));
        assert!(EveryPatchLabeler.label_cells(&cell(1.0, 1.0), UNLABELED).is_err());
        assert!(EveryPatchLabeler.label_cells(&cell(f32::NAN, 1.0), 0).is_err());
    }
}
