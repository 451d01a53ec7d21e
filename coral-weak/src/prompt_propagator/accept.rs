//! Which of a segmenter's masks are worth having.

use coral_core::{Error, PointLabel, Result, ScoredMask, Size};
use ndarray::Array2;

use super::PromptPropagatorConfig;
use super::mask::{PointMask, area, crop};
use super::prompts::nearest;
use crate::points::CanonicalPoints;
use crate::tight_box::tight_box;

/// The labelled points that a mask covers, by index.
#[derive(Debug, Clone)]
pub(super) struct Covered {
    /// Those of the mask's class, its own among them.
    pub(super) right: Vec<usize>,
    /// Those of other classes.
    pub(super) wrong: Vec<usize>,
}

impl Covered {
    /// The share of the points that have the mask's class.
    fn purity(&self) -> f32 {
        self.right.len() as f32 / (self.right.len() + self.wrong.len()) as f32
    }
}

/// A mask that is neither accepted nor cut yet; for want of the other masks its reliability is the share of the
/// points in it that have its class.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) mask: PointMask,
    pub(super) covered: Covered,
}

/// Judges masks of one image.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) canonical: &'a CanonicalPoints,
    pub(super) config: &'a PromptPropagatorConfig,
    pub(super) size: Size,
}

impl Judge<'_> {
    /// The mask of highest quality for point `index` among those that predicted IoU, area and the point itself admit; of
    /// equally good ones the first.
    pub(super) fn best(&self, index: usize, masks: Vec<ScoredMask>) -> Result<Option<Candidate>> {
        let mut best: Option<Candidate> = None;
        for mask in masks {
            let Some(candidate) = self.candidate(index, mask)? else { continue };
            if best.as_ref().is_none_or(|best| candidate.mask.quality() > best.mask.quality()) {
                best = Some(candidate);
            }
        }
        Ok(best)
    }

    fn candidate(&self, index: usize, scored: ScoredMask) -> Result<Option<Candidate>> {
        self.size.expect("mask of the segmenter", Size::of_map(&scored.mask))?;
        let point = self.canonical.points[index];
        if !scored.predicted_iou.is_finite() {
            let (x, y, got) = (point.x, point.y, scored.predicted_iou);
            let reason = format!("expected a finite predicted IoU for the prompt at ({x}, {y}), got {got}");
            return Err(Error::input("mask of the segmenter", reason));
        }
        let inside = |p: &PointLabel| scored.mask[[p.y as usize, p.x as usize]];
        if scored.predicted_iou < self.config.min_predicted_iou || !inside(&point) {
            return Ok(None);
        }
        if area(scored.mask.view()) as f64 > f64::from(self.config.max_area) * self.size.pixels() as f64 {
            return Ok(None);
        }
        let Some(rect) = tight_box(scored.mask.view()) else { return Ok(None) };
        let points = &self.canonical.points;
        let (right, wrong): (Vec<_>, Vec<_>) =
            (0..points.len()).filter(|&i| inside(&points[i])).partition(|&i| points[i].class == point.class);
        let mask = crop(scored.mask.view(), rect);
        let covered = Covered { right, wrong };
        let mask = PointMask { point, rect, mask, predicted_iou: scored.predicted_iou, reliability: covered.purity() };
        Ok(Some(Candidate { mask, covered }))
    }

    /// Whether the points that the mask covers need not ask for masks of their own.
    pub(super) fn may_stand_for_others(&self, candidate: &Candidate) -> bool {
        let pure = candidate.covered.purity() >= self.config.min_purity;
        pure && self.config.skip_covered.is_some_and(|least| candidate.mask.quality() >= least)
    }

    /// Lets the pixels of a mask go that too many points speak against: such masks, often large, only count.
    pub(super) fn without_lost_pixels(&self, mut candidate: Candidate) -> Candidate {
        if candidate.covered.purity() < self.config.min_purity {
            candidate.mask.mask = Array2::default((0, 0));
        }
        candidate
    }

    /// The masks that agree with the points, cut where they do not.
    ///
    /// A segmenter that is often wrong about points is not to be believed where there is none, so what all masks have
    /// in common counts for each as one more point.
    pub(super) fn accept(&self, candidates: Vec<Candidate>) -> Vec<PointMask> {
        let count =
            |of: fn(&Covered) -> usize| candidates.iter().map(|candidate| of(&candidate.covered)).sum::<usize>();
        let (right, wrong) = (count(|covered| covered.right.len() - 1), count(|covered| covered.wrong.len()));
        let common = (right + 1) as f32 / (right + wrong + 1) as f32;
        let least = self.neighbour_agreement().min(self.config.sufficient_reliability);
        tracing::debug!(masks = candidates.len(), right, wrong, least, "points in the masks of others");
        candidates.into_iter().filter_map(|candidate| self.finished(candidate, common, least)).collect()
    }

    /// The share of points whose nearest neighbour has their class.
    fn neighbour_agreement(&self) -> f32 {
        let points = &self.canonical.points;
        let agrees =
            |&i: &usize| nearest(self.canonical, i, 1, |_, _| true).iter().all(|&j| points[j].class == points[i].class);
        (0..points.len()).filter(agrees).count() as f32 / points.len() as f32
    }

    fn finished(&self, candidate: Candidate, common: f32, least: f32) -> Option<PointMask> {
        let Candidate { mut mask, covered } = candidate;
        let (right, wrong) = (covered.right.len() as f32, covered.wrong.len() as f32);
        mask.reliability = (right - 1.0 + common) / (right + wrong);
        if covered.purity() < self.config.min_purity || mask.reliability < least {
            return None;
        }
        let points = |indices: &[usize]| -> Vec<_> { indices.iter().map(|&i| self.canonical.points[i]).collect() };
        mask.cut(&points(&covered.right), &points(&covered.wrong));
        let smallest = f64::from(self.config.min_area) * self.size.pixels() as f64;
        mask.cropped().filter(|mask| mask.area() as f64 >= smallest)
    }
}
