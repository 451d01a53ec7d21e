use coral_core::image::RgbImage;
use coral_core::{ClassId, Error, LabelMap, PromptableSegmenter, Result, Size, UNLABELED};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::nearest_fill::nearest_other_class;
use crate::{RefinedMask, SamRefiner};

/// Which classes [`refine_classes`] refines, and when it believes the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassRefinementConfig {
    /// The classes, in this order; a later one works on the map that the earlier ones have left.
    pub classes: Vec<ClassId>,
    /// The coarse mask is kept when the refined one's predicted IoU is below this.
    pub min_predicted_iou: Option<f32>,
    /// The coarse mask is kept when its IoU with the refined one is below this, 0..=1.
    pub min_agreement: Option<f32>,
    /// Unlabelled pixels in a refined mask get its class; otherwise they stay unlabelled.
    pub label_unlabeled: bool,
}

impl ClassRefinementConfig {
    /// Refines these classes, without conditions, as in the paper.
    pub fn of(classes: impl Into<Vec<ClassId>>) -> Self {
        Self { classes: classes.into(), ..Self::default() }
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        for (at, class) in self.classes.iter().enumerate() {
            if *class == UNLABELED || self.classes[..at].contains(class) {
                let reason = format!("expected distinct classes other than {UNLABELED}, got {:?}", self.classes);
                return Err(Error::parameter("classes", reason));
            }
        }
        if let Some(least) = self.min_predicted_iou.filter(|least| !least.is_finite()) {
            return Err(Error::parameter("min_predicted_iou", format!("expected a number, got {least}")));
        }
        match self.min_agreement.filter(|least| !(0.0..=1.0).contains(least)) {
            Some(least) => Err(Error::parameter("min_agreement", format!("expected a number in 0..=1, got {least}"))),
            None => Ok(()),
        }
    }
}

impl Default for ClassRefinementConfig {
    /// No class, no condition.
    fn default() -> Self {
        Self { classes: Vec::new(), min_predicted_iou: None, min_agreement: None, label_unlabeled: false }
    }
}

/// The map with the masks of some classes refined, H×W as `image`.
///
/// Pixels that become part of a class get it. Those that stop being of it take the class of the nearest pixel of
/// another class ([`fill_class`](crate::fill_class)); where no other class is left, they keep theirs. A class without
/// pixels stays without; the result has no class that `labels` has not. The image is embedded at most once.
///
/// # Errors
/// [`Error::ShapeMismatch`] when image and labels differ in size, [`Error::InvalidInput`] when they have no pixels,
/// [`Error::InvalidParameter`] for a setting out of range, and those of [`SamRefiner::refine_embedded`].
///
/// # References
/// The self-distillation of *The point is the mask* (ICCV Workshops 2025) refines its class "Sand" so.
pub fn refine_classes<S: PromptableSegmenter>(
    refiner: &SamRefiner<S>,
    image: &RgbImage,
    labels: &LabelMap,
    config: &ClassRefinementConfig,
) -> Result<LabelMap> {
    config.validate()?;
    let size = Size::of(image);
    size.expect("labels", Size::of_map(labels))?;
    if !(1..=u32::MAX as usize).contains(&size.pixels()) {
        return Err(Error::input("image", format!("expected 1 to 2^32 - 1 pixels, got {size}")));
    }
    let mut refined = labels.clone();
    let mut embedding = None;
    for &class in &config.classes {
        let mask = refined.mapv(|label| label == class);
        if !mask.iter().any(|&inside| inside) {
            continue;
        }
        let embedding = match &embedding {
            Some(embedding) => embedding,
            None => embedding.insert(refiner.segmenter().embed(image)?),
        };
        let answer = refiner.refine_embedded(embedding, mask.view())?;
        if config.believes(mask.view(), &answer) {
            replace_class(&mut refined, class, &answer.mask, config.label_unlabeled);
        }
    }
    Ok(refined)
}

impl ClassRefinementConfig {
    fn believes(&self, coarse: ArrayView2<'_, bool>, refined: &RefinedMask) -> bool {
        let sure = refined.predicted_iou.is_none_or(|iou| self.min_predicted_iou.is_none_or(|least| iou >= least));
        sure && self.min_agreement.is_none_or(|least| iou(coarse, refined.mask.view()) >= f64::from(least))
    }
}

/// Intersection over union of two masks of which one has a pixel.
fn iou(a: ArrayView2<'_, bool>, b: ArrayView2<'_, bool>) -> f64 {
    let count = |f: fn(bool, bool) -> bool| a.iter().zip(b).filter(|(a, b)| f(**a, **b)).count() as f64;
    count(|a, b| a && b) / count(|a, b| a || b)
}

/// Gives `class` to the pixels of `mask` and to no others.
fn replace_class(labels: &mut LabelMap, class: ClassId, mask: &Array2<bool>, label_unlabeled: bool) {
    labels.zip_mut_with(mask, |label, &inside| {
        if inside && (*label != UNLABELED || label_unlabeled) {
            *label = class;
        }
    });
    if let Some(nearest) = nearest_other_class(labels, class) {
        ndarray::Zip::from(labels).and(mask).and(&nearest).for_each(|label, &inside, &nearest| {
            if *label == class && !inside {
                *label = nearest;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SamRefinerConfig;
    use crate::fake_segmenter::{FakeSegmenter, scored};
    use coral_core::{Prompt, ScoredMask};
    use ndarray::array;

    /// A refiner whose segmenter answers with one row of pixels that depends on the click.
    fn refiner(
        config: SamRefinerConfig,
        row: impl Fn(usize) -> Vec<u8> + Send + Sync,
    ) -> SamRefiner<FakeSegmenter<impl Fn(Size, &Prompt) -> Vec<ScoredMask> + Send + Sync>> {
        let answer = move |_, prompt: &Prompt| {
            let row = row(prompt.points[0].x as usize);
            vec![scored(Array2::from_shape_fn((1, row.len()), |(_, x)| row[x] == 1), 0.6)]
        };
        SamRefiner::new(FakeSegmenter::new(answer), config).unwrap()
    }

    fn refined(
        labels: &LabelMap,
        config: &ClassRefinementConfig,
        row: impl Fn(usize) -> Vec<u8> + Send + Sync,
    ) -> Vec<u8> {
        let once = SamRefinerConfig { iterations: 1, ..Default::default() };
        let refiner = refiner(once, row);
        let image = RgbImage::new(labels.ncols() as u32, 1);
        let result = refine_classes(&refiner, &image, labels, config).unwrap();
        assert!(refiner.segmenter().embedded() <= 1);
        assert!(result.iter().all(|class| labels.iter().any(|l| l == class)), "a class is invented");
        result.into_raw_vec_and_offset().0
    }

    #[test]
    fn freed_pixels_take_the_nearest_other_class() {
        let labels = array![[1, 5, 5, 5, 5, 2, 3, 255]];
        let sand = ClassRefinementConfig::of([5]);
        // Sand moves by two pixels to the right.
        let moved = |_| vec![0, 0, 0, 1, 1, 1, 1, 1];
        assert_eq!(refined(&labels, &sand, moved), [1, 1, 1, 5, 5, 5, 5, 255]);
        let all = ClassRefinementConfig { label_unlabeled: true, ..sand.clone() };
        assert_eq!(refined(&labels, &all, moved), [1, 1, 1, 5, 5, 5, 5, 5]);
        // Nothing else is left that freed pixels could take.
        let others = |_| vec![1, 0, 0, 1, 1, 1, 1, 1];
        assert_eq!(refined(&labels, &sand, others), [5, 5, 5, 5, 5, 5, 5, 255]);
        assert_eq!(refined(&array![[5, 5, 255]], &sand, |_| vec![1, 0, 0]), [5, 5, 255]);
        // Classes that are not there, and empty answers, change nothing.
        assert_eq!(refined(&labels, &ClassRefinementConfig::of([9]), moved), labels.row(0).to_vec());
        assert_eq!(refined(&labels, &sand, |_| vec![0; 8]), labels.row(0).to_vec());
    }

    #[test]
    fn classes_are_refined_in_their_order() {
        let labels = array![[1, 1, 2, 2, 3]];
        let both = |x: usize| if x < 2 { vec![1, 1, 1, 0, 0] } else { vec![0, 1, 1, 1, 0] };
        assert_eq!(refined(&labels, &ClassRefinementConfig::of([1, 2]), both), [1, 2, 2, 2, 3]);
        assert_eq!(refined(&labels, &ClassRefinementConfig::of([2, 1]), both), [1, 1, 1, 2, 3]);
    }

    #[test]
    fn doubtful_masks_are_not_believed() {
        let labels = array![[1, 1, 2, 2]];
        let shrunk = |_| vec![1, 0, 0, 0];
        for (iou, agreement, believed) in [(0.6, 0.5, true), (0.7, 0.5, false), (0.6, 0.51, false)] {
            let (min_predicted_iou, min_agreement) = (Some(iou), Some(agreement));
            let config = ClassRefinementConfig { min_predicted_iou, min_agreement, ..ClassRefinementConfig::of([1]) };
            let expected = if believed { [1, 2, 2, 2] } else { [1, 1, 2, 2] };
            assert_eq!(refined(&labels, &config, shrunk), expected, "{iou} {agreement}");
        }
    }

    #[test]
    fn faults_are_named() {
        let refiner = refiner(SamRefinerConfig::default(), |_| vec![1]);
        let text = |width, labels: &LabelMap, config: &ClassRefinementConfig| {
            refine_classes(&refiner, &RgbImage::new(width, 1), labels, config).unwrap_err().to_string()
        };
        let of = |classes: Vec<ClassId>| ClassRefinementConfig::of(classes);
        assert_eq!(text(2, &array![[1]], &of(vec![1])), "labels: expected shape 2x1, got 1x1");
        assert!(text(0, &Array2::zeros((1, 0)), &of(vec![1])).contains("expected 1 to 2^32 - 1 pixels, got 0x1"));
        for classes in [vec![1, 255], vec![4, 1, 4]] {
            assert!(text(1, &array![[1]], &of(classes)).contains("`classes`: expected distinct classes"));
        }
        let config = ClassRefinementConfig { min_agreement: Some(1.5), ..of(vec![1]) };
        assert!(text(1, &array![[1]], &config).contains("`min_agreement`"));
        let config = ClassRefinementConfig { min_predicted_iou: Some(f32::NAN), ..of(vec![1]) };
        assert!(text(1, &array![[1]], &config).contains("`min_predicted_iou`"));
    }
}
