use coral_core::ndarray::Axis;
use coral_core::{ClassId, FeatureMap, Result};

use crate::templates::cell_features;
use crate::{SimilarityConfig, TemplateBundler, Templates, similarity_labels};

/// Templates of those cells alone that [`similarity_labels`] gives to a class: a step of k-means whose clusters are
/// tied to the photographs' labels.
///
/// The mean of all cells of photographs of a class holds much background, which draws cells of background to that
/// class. A class that no cell is labelled as keeps its template.
///
/// # Errors
/// Those of [`similarity_labels`].
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
    let mut found = vec![false; templates.num_classes()];
    for (features, class) in photographs {
        let labels = similarity_labels(features, *class, templates, config)?;
        let cells = cell_features(features)?;
        let wanted = if *class == config.background { vec![*class] } else { vec![*class, config.background] };
        for class in wanted {
            let rows: Vec<usize> =
                labels.iter().enumerate().filter(|(_, label)| **label == class).map(|(i, _)| i).collect();
            if !rows.is_empty() {
                bundler.add_vectors(cells.select(Axis(0), &rows).view(), class)?;
                found[usize::from(class)] = true;
            }
        }
    }
    let refined = bundler.finish()?;
    let kept = found.iter().enumerate().map(|(class, &found)| {
        let source = if found { &refined } else { templates };
        source.get(class as ClassId).map(<[f32]>::to_vec)
    });
    Templates::new(kept.collect())
}
