use coral_core::{ClassId, FeatureMap, Result};
use ndarray::Axis;

use crate::templates::cell_features;
use crate::{SimilarityConfig, TemplateBundler, Templates, similarity_labels};

/// Templates of those cells alone that [`similarity_labels`] gives to a class: a step of k-means whose clusters are
/// tied to the photographs' labels.
///
/// The mean of all cells of photographs of a class holds much background, which draws cells of background to that
/// class. `photographs` are D×h×w features with the photograph's class. A class that no cell is labelled as keeps its
/// template. Not in the paper of [`SeaFeats`](crate::SeaFeats).
///
/// # Errors
/// Those of [`similarity_labels`]; [`Error::UnknownClass`](coral_core::Error::UnknownClass) when the background, and
/// with it the class of a photograph, is past the last template.
///
/// # Examples
/// ```
/// use coral_core::{FeatureMap, Size, ndarray::array};
/// use coral_weak::{SimilarityConfig, Templates, refine_templates};
/// let image_size = Size { width: 20, height: 10 };
/// // A photograph of class 1 that shows class 1 on its right half only.
/// let half = FeatureMap { data: array![[[1.0, 0.0]], [[0.0, 1.0]]], image_size };
/// let mixed = Templates::new(vec![Some(vec![1.0, 0.0]), Some(vec![0.5, 0.5])])?;
/// let refined = refine_templates(&mixed, &[(half, 1)], &SimilarityConfig::default())?;
/// assert_eq!(refined.get(1), Some(&[0.0, 1.0][..]));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn refine_templates(
    templates: &Templates,
    photographs: &[(FeatureMap, ClassId)],
    config: &SimilarityConfig,
) -> Result<Templates> {
    let mut bundler = TemplateBundler::new(templates.num_classes(), templates.dim())?;
    for (features, class) in photographs {
        let labels = similarity_labels(features, *class, templates, config)?;
        let cells = cell_features(features)?;
        let wanted = if *class == config.background { vec![*class] } else { vec![*class, config.background] };
        for class in wanted {
            let rows: Vec<usize> =
                labels.iter().enumerate().filter(|(_, label)| **label == class).map(|(i, _)| i).collect();
            if !rows.is_empty() {
                bundler.add_vectors(cells.select(Axis(0), &rows).view(), class)?;
            }
        }
    }
    let means = bundler.means();
    let kept = means.into_iter().zip(0..).map(|(mean, class)| mean.or_else(|| Some(templates.get(class)?.to_vec())));
    Templates::new(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Size;
    use ndarray::array;

    const IMAGE: Size = Size { width: 30, height: 10 };

    fn templates() -> Templates {
        Templates::new(vec![Some(vec![1.0, 0.0]), Some(vec![0.5, 0.5]), None, Some(vec![0.0, -1.0])]).unwrap()
    }

    #[test]
    fn classes_without_cells_keep_their_template() {
        let config = SimilarityConfig::default();
        let features = FeatureMap { data: array![[[9.0, 0.0, 0.0]], [[0.0, 2.0, 2.0]]], image_size: IMAGE };
        let refined = refine_templates(&templates(), &[(features.clone(), 1)], &config).unwrap();
        let expected = vec![Some(vec![1.0, 0.0]), Some(vec![0.0, 1.0]), None, Some(vec![0.0, -1.0])];
        assert_eq!(refined, Templates::new(expected).unwrap());

        let nothing_is_sure = SimilarityConfig { margin: 2.0, ..config };
        assert_eq!(refine_templates(&templates(), &[(features, 1)], &nothing_is_sure).unwrap(), templates());
        assert_eq!(refine_templates(&templates(), &[], &config).unwrap(), templates());
    }

    #[test]
    fn misfits_are_named() {
        let features = |values| FeatureMap { data: ndarray::Array3::ones((values, 1, 3)), image_size: IMAGE };
        let text = |values, class, background| {
            let config = SimilarityConfig { background, ..Default::default() };
            refine_templates(&templates(), &[(features(values), class)], &config).unwrap_err().to_string()
        };
        assert_eq!(text(2, 2, 0), "invalid input `templates`: class 2 has none");
        assert_eq!(text(2, 4, 4), "unknown class `4`: expected 0 to 3");
        assert!(text(3, 0, 0).contains("expected shape 2 values") && text(3, 1, 0).contains("expected shape 2 values"));
    }
}
