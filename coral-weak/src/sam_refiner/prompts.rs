//! What a mask tells a promptable segmenter.

use std::ops::Range;

use coral_core::{BoxPrompt, PointPrompt, Rect, Result};
use ndarray::{Array2, ArrayView2, s};

use super::config::{NegativeSearch, SamRefinerConfig};
use super::depth::{check_size, mask_depth};
use crate::tight_box::tight_box;

/// Clicks, box and weights that describe a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct RefinerPrompts {
    /// The pixel `[y, x]` deepest inside the mask.
    pub positive: [usize; 2],
    /// The background pixel `[y, x]` of the box that is farthest from the mask, if there is one.
    pub negative: Option<[usize; 2]>,
    /// The tight box.
    pub rect: Rect,
    /// H×W: 1 where the mask is deepest, less towards its edges, 0 outside.
    pub weight: Array2<f32>,
}

/// The prompts for a mask, `None` for one without any pixel.
///
/// Of several pixels equally deep the first counts, row by row. Uses the fields `gamma`, `distance`, `negative_point`
/// and `negative_search` of `config`.
///
/// # Errors
/// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) for a setting out of range,
/// [`Error::InvalidInput`](coral_core::Error::InvalidInput) for an image without pixels.
///
/// # Examples
/// ```
/// use coral_core::{Rect, ndarray::arr2};
/// use coral_weak::{SamRefinerConfig, refiner_prompts};
/// let mask = arr2(&[[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).mapv(|v| v == 1);
/// let prompts = refiner_prompts(mask.view(), &SamRefinerConfig::default())?.unwrap();
/// assert_eq!((prompts.positive, prompts.negative), ([0, 2], Some([0, 0])));
/// assert_eq!(prompts.rect, Rect { x: 0, y: 0, width: 4, height: 3 });
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Lin et al., *SAMRefiner: Taming Segment Anything Model for Universal Mask Refinement*, ICLR 2025. With
/// [`SamRefinerConfig::published`], points and boxes equal those of the published program, weights agree within 1e-4
/// (golden case `samrefiner`).
pub fn refiner_prompts(mask: ArrayView2<'_, bool>, config: &SamRefinerConfig) -> Result<Option<RefinerPrompts>> {
    config.validate()?;
    check_size(mask)?;
    let Some(rect) = tight_box(mask) else { return Ok(None) };
    // Seen from inside the mask, no pixel outside is nearer than those around its box.
    let [rows, columns] = spans(rect);
    let around = |span: &Range<usize>, end: usize| span.start.saturating_sub(1)..(span.end + 1).min(end);
    let window = s![around(&rows, mask.nrows()), around(&columns, mask.ncols())];
    let depth = mask_depth(mask.slice(window), config.distance)?;
    let (place, deepest) = deepest(depth.view());
    let positive = [place[0] + rows.start.saturating_sub(1), place[1] + columns.start.saturating_sub(1)];
    let negative = if config.negative_point { negative(mask, rect, config)? } else { None };
    let area = mask.slice(window).iter().filter(|&&inside| inside).count() as f32;
    let span = (area / config.gamma).max(1.0);
    let mut weight = Array2::zeros(mask.dim());
    weight.slice_mut(window).zip_mut_with(&depth, |weight: &mut f32, &d| {
        *weight = if d == 0.0 { 0.0 } else { (-(d - deepest) * (d - deepest) / span).exp() };
    });
    Ok(Some(RefinerPrompts { positive, negative, rect, weight }))
}

fn negative(mask: ArrayView2<'_, bool>, rect: Rect, config: &SamRefinerConfig) -> Result<Option<[usize; 2]>> {
    let [rows, columns] = spans(rect);
    // All of the mask lies in its box.
    let outside = mask.slice(s![rows, columns]).mapv(|inside| !inside);
    let depth = mask_depth(outside.view(), config.distance)?;
    let (searched, fallback) = match config.negative_search {
        NegativeSearch::Box => (depth.view(), None),
        NegativeSearch::HalfOpenBox => (depth.slice(s![..depth.nrows() - 1, ..depth.ncols() - 1]), Some([0, 0])),
    };
    let ([y, x], distance) = deepest(searched);
    Ok(if distance > 0.0 { Some([y + rect.y as usize, x + rect.x as usize]) } else { fallback })
}

/// The rows and columns of a box.
fn spans(rect: Rect) -> [Range<usize>; 2] {
    [(rect.y, rect.height), (rect.x, rect.width)].map(|(start, length)| start as usize..(start + length) as usize)
}

/// The first of the largest values, row by row, and that value; 0 at the first pixel when all are 0.
fn deepest(depth: ArrayView2<'_, f32>) -> ([usize; 2], f32) {
    let mut best = ([0, 0], 0.0);
    for (y, row) in depth.outer_iter().enumerate() {
        for (x, &d) in row.iter().enumerate() {
            if d > best.1 {
                best = ([y, x], d);
            }
        }
    }
    best
}

impl RefinerPrompts {
    /// The clicks, in pixels: first the positive one.
    pub fn points(&self) -> Vec<PointPrompt> {
        let click = |[y, x]: [usize; 2], foreground| PointPrompt { x: x as f32, y: y as f32, foreground };
        let positive = std::iter::once(click(self.positive, true));
        positive.chain(self.negative.map(|place| click(place, false))).collect()
    }
}

/// A box from the first to the last column and row, the convention of Segment Anything; where these are the same, it
/// reaches one pixel further, as segmenters refuse boxes without extent.
pub(super) fn box_prompt(rect: Rect) -> BoxPrompt {
    let last = |start: u32, length: u32| start as f32 + length.saturating_sub(1).max(1) as f32;
    BoxPrompt {
        x_min: rect.x as f32,
        y_min: rect.y as f32,
        x_max: last(rect.x, rect.width),
        y_max: last(rect.y, rect.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MaskDistance;
    use proptest::prelude::*;

    fn prompts(mask: &Array2<bool>, config: SamRefinerConfig) -> Option<RefinerPrompts> {
        refiner_prompts(mask.view(), &config).unwrap()
    }

    #[test]
    fn empty_full_and_tiny_masks_have_defined_prompts() {
        let (sound, published) = (SamRefinerConfig::default(), SamRefinerConfig::published());
        let mut mask = Array2::from_elem((5, 7), false);
        assert_eq!((prompts(&mask, sound), prompts(&mask, published)), (None, None));
        mask[[3, 4]] = true;
        let single = prompts(&mask, sound).unwrap();
        assert_eq!((single.positive, single.negative, single.weight[[3, 4]]), ([3, 4], None, 1.0));
        assert_eq!(single.points().len(), 1);
        assert_eq!(prompts(&mask, published).unwrap().negative, Some([0, 0]));
        let around = box_prompt(single.rect);
        assert_eq!((around.x_min, around.x_max, around.y_min, around.y_max), (4.0, 5.0, 3.0, 4.0));
        let full = Array2::from_elem((5, 7), true);
        let prompt = prompts(&full, sound).unwrap();
        assert_eq!(
            (prompt.positive, prompt.negative, prompt.rect),
            ([2, 2], None, Rect { x: 0, y: 0, width: 7, height: 5 })
        );
        let published = prompts(&full, published).unwrap();
        assert_eq!((published.positive, published.negative), ([0, 0], Some([0, 0])));
        assert!(published.weight.iter().all(|&w| w == 1.0));
    }

    proptest! {
        #[test]
        fn prompts_are_those_of_the_whole_image(
            (width, height) in (1usize..17, 1usize..17), corner in (0usize..16, 0usize..16),
            bits in prop::collection::vec(0u8..4, 40), chamfer: bool,
        ) {
            // A few pixels somewhere in an image.
            let inside = |(y, x): (usize, usize)| {
                let (v, u) = (y.wrapping_sub(corner.0), x.wrapping_sub(corner.1));
                v < 5 && u < 8 && bits[8 * v + u] > 0
            };
            let mask = Array2::from_shape_fn((height, width), inside);
            let distance = if chamfer { MaskDistance::Chamfer } else { MaskDistance::Euclidean };
            let config = SamRefinerConfig { distance, ..Default::default() };
            let Some(prompts) = prompts(&mask, config) else {
                prop_assert!(!mask.iter().any(|&inside| inside));
                return Ok(());
            };
            let depth = mask_depth(mask.view(), distance).unwrap();
            let (positive, most) = deepest(depth.view());
            prop_assert_eq!(prompts.positive, positive);
            let area = mask.iter().filter(|&&inside| inside).count() as f32;
            let weight = |d: f32| if d == 0.0 { 0.0 } else { (-(d - most) * (d - most) / (area / 4.0).max(1.0)).exp() };
            prop_assert_eq!(&prompts.weight, &depth.mapv(weight));
            let mut outside = mask_depth(mask.mapv(|inside| !inside).view(), distance).unwrap();
            let [rows, columns] = spans(prompts.rect);
            outside.indexed_iter_mut().filter(|((y, x), _)| !(rows.contains(y) && columns.contains(x))).for_each(|(_, d)| *d = 0.0);
            let (negative, most) = deepest(outside.view());
            prop_assert_eq!(prompts.negative, (most > 0.0).then_some(negative));
        }
    }

    #[test]
    fn weights_fall_from_the_deepest_pixel() {
        let mask = Array2::from_shape_fn((1, 9), |(_, x)| x < 8);
        let config = SamRefinerConfig { gamma: 2.0, distance: MaskDistance::Chamfer, ..Default::default() };
        let prompts = prompts(&mask, config).unwrap();
        assert_eq!(prompts.positive, [0, 0]);
        // Depth 8 at x = 0, 6 at x = 2; area 8 / gamma 2.
        assert!((prompts.weight[[0, 2]] - (-1.0f32).exp()).abs() < 1e-6);
        assert_eq!((prompts.weight[[0, 0]], prompts.weight[[0, 8]]), (1.0, 0.0));
    }
}
