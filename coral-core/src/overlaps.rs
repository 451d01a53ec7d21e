use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::rle::checked_pixels;
use crate::{ClassId, Error, InstanceMask, LabelMap, Result, Size, UNLABELED};

/// Which of two overlapping masks gets the pixels that both claim. Ties go to the earlier mask of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// The mask of fewer pixels: small colonies on large ones stay visible.
    #[default]
    SmallestFirst,
    /// The mask of more pixels: parts vanish in the whole.
    LargestFirst,
    /// The mask of higher predicted IoU.
    HighestIou,
    /// The mask of higher stability score.
    HighestStability,
    /// The mask whose product of predicted IoU and stability score is higher.
    HighestScore,
}

/// How masks become maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlapConfig {
    /// Who wins where masks overlap.
    pub policy: OverlapPolicy,
    /// The class of masks that have none; with `None` such a mask is an error, with [`UNLABELED`] its pixels are taken
    /// but stay without class.
    pub default_class: Option<ClassId>,
    /// The class of pixels in no mask; [`UNLABELED`] where nothing is known about them. Percent cover leaves unlabelled
    /// pixels out: to have the cover of the whole image, name the class of the rest here.
    pub background: ClassId,
}

impl Default for OverlapConfig {
    fn default() -> Self {
        Self { policy: OverlapPolicy::default(), default_class: None, background: UNLABELED }
    }
}

/// A class and an object for every pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceMap {
    /// H×W classes.
    pub labels: LabelMap,
    /// H×W objects: 0 where there is none, else one more than the position of the mask in the list.
    pub instances: Array2<u32>,
}

impl InstanceMap {
    /// The pixels that each of the first `masks` masks of the list kept.
    ///
    /// # Examples
    /// See [`resolve_overlaps`].
    pub fn visible_areas(&self, masks: usize) -> Vec<u64> {
        let mut areas = vec![0; masks];
        for &id in &self.instances {
            if let Some(area) = (id as usize).checked_sub(1).and_then(|at| areas.get_mut(at)) {
                *area += 1;
            }
        }
        areas
    }
}

/// One class and one object per pixel, from masks that may overlap.
///
/// No mask is decoded: the runs are painted into the maps, the winners last. Masks without foreground are allowed.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a mask that is not of `size`; [`Error::InvalidInput`] for a mask without class when the
/// configuration has no default, for a mask of class [`UNLABELED`], for a score that is not finite, and for a `size` of
/// more than [`u32::MAX`] pixels.
///
/// # Examples
/// ```
/// use coral_core::{InstanceMask, OverlapConfig, RleMask, Size, UNLABELED, ndarray::array, resolve_overlaps};
/// let size = Size { width: 5, height: 1 };
/// let colony = |class, from, to| {
///     let mask = RleMask::from_fn(size, |x, _| (from..to).contains(&x));
///     InstanceMask { class: Some(class), ..InstanceMask::new(mask) }
/// };
/// let masks = [colony(7, 2, 3), colony(4, 0, 4)];
/// let map = resolve_overlaps(&masks, size, &OverlapConfig::default())?;
/// assert_eq!(map.labels, array![[4, 4, 7, 4, UNLABELED]]);
/// assert_eq!(map.instances, array![[2, 2, 1, 2, 0]]);
/// assert_eq!(map.visible_areas(2), [1, 3]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn resolve_overlaps(masks: &[InstanceMask], size: Size, config: &OverlapConfig) -> Result<InstanceMap> {
    checked_pixels(size)?;
    let classes = masks.iter().enumerate().map(|(at, mask)| checked_class(at, mask, size, config));
    let classes = classes.collect::<Result<Vec<_>>>()?;
    let mut labels = Array2::from_elem(size.shape(), config.background);
    let mut instances = Array2::zeros(size.shape());
    for at in losers_first(masks, config.policy) {
        for run in masks[at].mask.column_runs() {
            let x = run.x as usize;
            for y in run.y as usize..run.y as usize + run.length as usize {
                labels[[y, x]] = classes[at];
                instances[[y, x]] = at as u32 + 1;
            }
        }
    }
    Ok(InstanceMap { labels, instances })
}

fn checked_class(at: usize, mask: &InstanceMask, size: Size, config: &OverlapConfig) -> Result<ClassId> {
    let what = format!("masks[{at}]");
    size.expect(&what, mask.mask.size())?;
    if !(mask.predicted_iou.is_finite() && mask.stability_score.is_finite()) {
        let (iou, stability) = (mask.predicted_iou, mask.stability_score);
        return Err(Error::input(what, format!("expected finite scores, got IoU {iou} and stability {stability}")));
    }
    match mask.class.or(config.default_class) {
        None => Err(Error::input(what, "the mask has no class and `default_class` gives none")),
        Some(_) if mask.class == Some(UNLABELED) => {
            Err(Error::input(what, format!("class {UNLABELED} means unlabelled, expected no class")))
        }
        Some(class) => Ok(class),
    }
}

/// The positions of the masks, so that of two overlapping masks the winner comes later.
fn losers_first(masks: &[InstanceMask], policy: OverlapPolicy) -> Vec<usize> {
    // Scores and areas are exact in f64 (areas below 2^32, products of two f32).
    let rank = |mask: &InstanceMask| -> f64 {
        let (iou, stability) = (f64::from(mask.predicted_iou), f64::from(mask.stability_score));
        match policy {
            OverlapPolicy::SmallestFirst => -(mask.area() as f64),
            OverlapPolicy::LargestFirst => mask.area() as f64,
            OverlapPolicy::HighestIou => iou,
            OverlapPolicy::HighestStability => stability,
            OverlapPolicy::HighestScore => iou * stability,
        }
    };
    let ranks: Vec<f64> = masks.iter().map(rank).collect();
    let mut order: Vec<usize> = (0..masks.len()).rev().collect();
    // Stable, and reversed before: equal masks stay with the earlier one last. Adding 0 makes −0 and 0 equal.
    order.sort_by(|&a, &b| (ranks[a] + 0.0).total_cmp(&(ranks[b] + 0.0)));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RleMask;

    const SIZE: Size = Size { width: 9, height: 7 };

    /// A box of pixels with coarse scores, so that ties happen.
    fn masks() -> impl Strategy<Value = Vec<InstanceMask>> {
        let one = (0u32..9, 0u32..7, 1u32..9, 1u32..7, prop::option::of(0u8..9), 0u8..4, 0u8..4);
        let mask = one.prop_map(|(left, top, width, height, class, iou, stability)| InstanceMask {
            class,
            predicted_iou: f32::from(iou) / 3.0,
            stability_score: f32::from(stability) / 3.0,
            ..InstanceMask::new(RleMask::from_fn(SIZE, |x, y| {
                (left..left + width).contains(&x) && (top..top + height).contains(&y)
            }))
        });
        prop::collection::vec(mask, 0..8)
    }

    fn better(policy: OverlapPolicy, a: &InstanceMask, b: &InstanceMask) -> bool {
        match policy {
            OverlapPolicy::SmallestFirst => a.area() < b.area(),
            OverlapPolicy::LargestFirst => a.area() > b.area(),
            OverlapPolicy::HighestIou => a.predicted_iou > b.predicted_iou,
            OverlapPolicy::HighestStability => a.stability_score > b.stability_score,
            OverlapPolicy::HighestScore => {
                let score = |m: &InstanceMask| f64::from(m.predicted_iou) * f64::from(m.stability_score);
                score(a) > score(b)
            }
        }
    }

    proptest! {
        #[test]
        fn every_pixel_goes_to_the_best_mask(masks in masks(), policy in 0usize..5) {
            use OverlapPolicy::{HighestIou, HighestScore, HighestStability, LargestFirst, SmallestFirst};
            let policy = [SmallestFirst, LargestFirst, HighestIou, HighestStability, HighestScore][policy];
            let config = OverlapConfig { policy, default_class: Some(20), background: 30 };
            let map = resolve_overlaps(&masks, SIZE, &config).unwrap();
            for ((y, x), &id) in map.instances.indexed_iter() {
                let mut best: Option<usize> = None;
                for (at, mask) in masks.iter().enumerate() {
                    let wins = best.is_none_or(|best| better(policy, mask, &masks[best]));
                    if mask.mask.contains(x as u32, y as u32) && wins {
                        best = Some(at);
                    }
                }
                prop_assert_eq!(id, best.map_or(0, |at| at as u32 + 1));
                prop_assert_eq!(map.labels[[y, x]], best.map_or(30, |at| masks[at].class.unwrap_or(20)));
            }
            let visible = map.visible_areas(masks.len());
            prop_assert_eq!(visible.iter().sum::<u64>(), map.instances.iter().filter(|&&id| id > 0).count() as u64);
        }
    }

    #[test]
    fn bad_masks_are_named() {
        let mask = InstanceMask::new(RleMask::empty(SIZE));
        let text = |mask: InstanceMask, default_class| {
            let config = OverlapConfig { default_class, ..OverlapConfig::default() };
            let good = InstanceMask { class: Some(1), ..mask.clone() };
            let good = InstanceMask { predicted_iou: 1.0, mask: RleMask::empty(SIZE), ..good };
            resolve_overlaps(&[good, mask], SIZE, &config).unwrap_err().to_string()
        };
        assert!(text(mask.clone(), None).starts_with("invalid input `masks[1]`: the mask has no class"));
        assert!(text(InstanceMask { class: Some(UNLABELED), ..mask.clone() }, Some(1)).contains("means unlabelled"));
        assert!(text(InstanceMask { predicted_iou: f32::NAN, ..mask.clone() }, Some(1)).contains("IoU NaN"));
        let other = RleMask::empty(Size { width: 7, height: 9 });
        assert!(text(InstanceMask { mask: other, ..mask.clone() }, Some(1)).contains("expected shape 9x7, got 7x9"));
        let unknown = OverlapConfig { default_class: Some(UNLABELED), ..OverlapConfig::default() };
        assert_eq!(resolve_overlaps(&[mask], SIZE, &unknown).unwrap().visible_areas(1), [0]);
        assert!(resolve_overlaps(&[], Size { width: u32::MAX, height: 2 }, &unknown).is_err());
        assert!(resolve_overlaps(&[], Size { width: 0, height: 2 }, &unknown).unwrap().labels.is_empty());
    }
}
