//! Promptable segmenters that look up the truth, for want of a network: better or worse at will.

use std::collections::VecDeque;

use coral_core::image::RgbImage;
use coral_core::{Prompt, PromptableSegmenter, Result, ScoredMask, SeededRng};
use ndarray::Array2;

/// How an [`Oracle`] spoils the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Noise {
    /// Not at all.
    None,
    /// Masks grow or shrink by up to 4 pixels, sometimes swallow a neighbour, and are sometimes a disc anywhere
    /// near, of a lower score.
    Some,
    /// Nothing of the truth is left: discs and squares around the point, halves of the image, speckles, with any score.
    All,
}

/// Answers the region of the truth that the first click hits; knows nothing of the image.
#[derive(Debug)]
pub(crate) struct Oracle {
    regions: Array2<u32>,
    noise: Noise,
}

impl Oracle {
    /// The connected parts (4 neighbours) of equal values are the regions.
    pub(crate) fn new<T: PartialEq>(truth: &Array2<T>, noise: Noise) -> Self {
        let mut regions = Array2::zeros(truth.dim());
        let mut count = 0;
        let places: Vec<_> = truth.indexed_iter().map(|(place, _)| place).collect();
        for start in places {
            if regions[start] > 0 {
                continue;
            }
            count += 1;
            regions[start] = count;
            let mut open = VecDeque::from([start]);
            while let Some((y, x)) = open.pop_front() {
                for next in [(y, x + 1), (y + 1, x), (y, x.wrapping_sub(1)), (y.wrapping_sub(1), x)] {
                    if truth.get(next).is_some_and(|value| *value == truth[start]) && regions[next] == 0 {
                        regions[next] = count;
                        open.push_back(next);
                    }
                }
            }
        }
        Self { regions, noise }
    }

    fn noisy(&self, place: (usize, usize), rng: &mut SeededRng) -> (Array2<bool>, f64) {
        let region = self.regions[place];
        if rng.chance(0.1) {
            let centre = [place.0, place.1].map(|v| v as f64 + rng.range(-20.0, 20.0));
            return (disc(self.regions.dim(), centre, rng.range(5.0, 60.0)), rng.range(0.3, 0.8));
        }
        let mut mask = self.regions.mapv(|r| r == region);
        if rng.chance(0.15) {
            let touching = grown(&mask, 1);
            let beside = touching.indexed_iter().find(|(p, inside)| **inside && !mask[*p]);
            if let Some((place, _)) = beside {
                let other = self.regions[place];
                mask.zip_mut_with(&self.regions, |inside, r| *inside |= *r == other);
            }
        }
        let radius = rng.below(9) as i64 - 4;
        let mask = if radius < 0 {
            grown(&mask.mapv(|v| !v), radius.unsigned_abs() as usize).mapv(|v| !v)
        } else {
            grown(&mask, radius as usize)
        };
        (mask, rng.range(0.65, 1.0))
    }

    fn useless(&self, place: (usize, usize), rng: &mut SeededRng) -> (Array2<bool>, f64) {
        let (height, width) = self.regions.dim();
        let centre = [place.0 as f64, place.1 as f64];
        let size = rng.range(3.0, 0.4 * width as f64);
        let mask = match rng.below(4) {
            0 => disc((height, width), centre, size),
            1 => {
                let offset = centre.map(|v| v + rng.range(-0.7, 0.7) * size);
                Array2::from_shape_fn((height, width), |(y, x)| {
                    (y as f64 - offset[0]).abs() < size && (x as f64 - offset[1]).abs() < size
                })
            }
            2 => Array2::from_shape_fn((height, width), |(y, _)| (y > height / 2) == (place.0 > height / 2)),
            _ => Array2::from_shape_simple_fn((height, width), || rng.chance(0.5)),
        };
        (mask, rng.range(0.4, 1.0))
    }
}

impl PromptableSegmenter for Oracle {
    type Embedding = ();

    fn embed(&self, _: &RgbImage) -> Result<()> {
        Ok(())
    }

    fn predict(&self, (): &(), prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        let place = (prompt.points[0].y as usize, prompt.points[0].x as usize);
        let mut rng = SeededRng::stream(3, (place.0 * 100_000 + place.1) as u64);
        let (mask, score) = match self.noise {
            Noise::None => (self.regions.mapv(|r| r == self.regions[place]), 0.95),
            Noise::Some => self.noisy(place, &mut rng),
            Noise::All => self.useless(place, &mut rng),
        };
        Ok(vec![ScoredMask {
            mask,
            predicted_iou: score as f32,
            class: None,
            mask_logits: Array2::zeros((0, 0)),
            features: Vec::new(),
        }])
    }
}

fn disc(shape: (usize, usize), centre: [f64; 2], radius: f64) -> Array2<bool> {
    Array2::from_shape_fn(shape, |(y, x)| (y as f64 - centre[0]).hypot(x as f64 - centre[1]) <= radius)
}

/// Dilated by a square of side `2·radius + 1`.
fn grown(mask: &Array2<bool>, radius: usize) -> Array2<bool> {
    let along_rows = |mask: &Array2<bool>| {
        let mut out = Array2::from_elem(mask.dim(), false);
        for (row, mut out) in mask.rows().into_iter().zip(out.rows_mut()) {
            for x in (0..row.len()).filter(|&x| row[x]) {
                let end = (x + radius + 1).min(row.len());
                (x.saturating_sub(radius)..end).for_each(|i| out[i] = true);
            }
        }
        out
    };
    along_rows(&along_rows(mask).reversed_axes().as_standard_layout().into_owned()).reversed_axes()
}
