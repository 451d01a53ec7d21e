//! A mask for every labelled point from a promptable segmenter, and a fill for the rest.

mod accept;
mod config;
mod curation;
mod fill;
mod mask;
mod merge;
mod prompts;
mod propagator;

use coral_core::image::RgbImage;
use coral_core::{PointLabel, PromptableSegmenter, Result, Size};

use crate::points::CanonicalPoints;
use accept::{Candidate, Judge};

pub use config::PromptPropagatorConfig;
pub use curation::{MaskCurationConfig, curate_masks};
pub use mask::PointMask;
pub use merge::merge_masks;
pub use propagator::PromptPropagator;

/// The masks of labelled points, as far as the rules of `config` accept them.
///
/// Every point asks `segmenter` for a mask, with the nearest points of other classes as background. Of the masks that
/// come back the one with the highest product of predicted IoU and purity (the share of the labelled points in it
/// that have the point's class) counts, among those that hold the point, are neither too large nor below the least
/// predicted IoU. When all points have asked, masks that too many points speak against are dropped, the others cut.
/// They come sorted by the (y, x) of their points; the order of `points` does not matter. The image is embedded once.
/// [`PromptPropagator`] shows a segmenter at work.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points) and of the segmenter;
/// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) for a setting out of range;
/// [`Error::ShapeMismatch`](coral_core::Error::ShapeMismatch) for a mask that is not as large as the image;
/// [`Error::InvalidInput`](coral_core::Error::InvalidInput) for a predicted IoU that is not finite.
pub fn point_masks<S: PromptableSegmenter>(
    segmenter: &S,
    image: &RgbImage,
    points: &[PointLabel],
    config: &PromptPropagatorConfig,
) -> Result<Vec<PointMask>> {
    config.validate()?;
    let size = Size::of(image);
    // Before the embedding, which takes longest.
    let canonical = CanonicalPoints::new(points, size)?;
    let embedding = segmenter.embed(image)?;
    Embedded { segmenter, embedding: &embedding }.masks(&Judge { canonical: &canonical, config, size })
}

/// An image that is ready for prompts.
#[derive(Debug)]
struct Embedded<'a, S: PromptableSegmenter> {
    segmenter: &'a S,
    embedding: &'a S::Embedding,
}

impl<S: PromptableSegmenter> Embedded<'_, S> {
    /// The acceptable masks of the points, in canonical order.
    fn masks(&self, judge: &Judge<'_>) -> Result<Vec<PointMask>> {
        let count = judge.canonical.points.len();
        let _span = tracing::debug_span!("point_masks", size = %judge.size, points = count).entered();
        let mut skipped = vec![false; count];
        let mut candidates = Vec::new();
        for index in 0..count {
            if skipped[index] {
                continue;
            }
            let Some(candidate) = self.ask(judge, index)? else { continue };
            if judge.may_stand_for_others(&candidate) {
                candidate.covered.right.iter().for_each(|&i| skipped[i] = true);
            }
            candidates.push(judge.without_lost_pixels(candidate));
        }
        Ok(judge.accept(candidates))
    }

    /// The best mask for one point.
    fn ask(&self, judge: &Judge<'_>, index: usize) -> Result<Option<Candidate>> {
        let Judge { canonical, config, .. } = judge;
        let mut prompt = prompts::prompt_at(canonical, index, config.background_points);
        let first = judge.best(index, self.segmenter.predict(self.embedding, &prompt)?)?;
        let Some(first) = first else { return Ok(None) };
        let covered = &first.covered.right;
        let more =
            prompts::nearest(canonical, index, config.foreground_points, |_, i| covered.binary_search(&i).is_ok());
        if more.is_empty() {
            return Ok(Some(first));
        }
        prompt.points.extend(more.into_iter().map(|i| prompts::click(canonical.points[i], true)));
        let second = judge.best(index, self.segmenter.predict(self.embedding, &prompt)?)?;
        Ok(Some(second.filter(|second| second.mask.quality() >= first.mask.quality()).unwrap_or(first)))
    }
}

#[cfg(test)]
mod tests;
