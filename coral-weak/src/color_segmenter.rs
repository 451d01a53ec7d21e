use coral_core::image::RgbImage;
use coral_core::{Error, Prompt, PromptableSegmenter, Result, ScoredMask, Size};
use ndarray::{Array2, Axis, Zip};
use serde::{Deserialize, Serialize};

use crate::blur::gaussian_blur;
use crate::lab::lab_image;

/// Logits of a prompt beyond this say no more.
const SURE: f32 = 30.0;
/// The longest side of the logits in an answer: a square of a long strip's length would not fit into memory.
const MOST_LOGITS: usize = 1024;

/// Settings of [`ColorSegmenter`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorSegmenterConfig {
    /// Levels per colour axis that are told apart, 2..=32.
    pub levels: usize,
    /// Standard deviation in pixels of the blur of colours, at least 0.
    pub grain: f32,
    /// Standard deviation in pixels of the blur of the answer, at least 0: larger makes smoother outlines.
    pub smoothness: f32,
    /// Radius in pixels around a click that belongs to it, at least 0.
    pub click_radius: f32,
}

impl Default for ColorSegmenterConfig {
    fn default() -> Self {
        Self { levels: 10, grain: 1.0, smoothness: 1.5, click_radius: 3.0 }
    }
}

impl ColorSegmenterConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(2..=32).contains(&self.levels) {
            return Err(Error::parameter("levels", format!("expected 2 to 32, got {}", self.levels)));
        }
        let sizes = [("grain", self.grain), ("smoothness", self.smoothness), ("click_radius", self.click_radius)];
        match sizes.into_iter().find(|(_, value)| !(0.0..=1000.0).contains(value)) {
            Some((name, value)) => Err(Error::parameter(name, format!("expected 0 to 1000 pixels, got {value}"))),
            None => Ok(()),
        }
    }
}

/// A promptable segmenter that knows colours and no shapes: it compares how often a pixel's colour and grain occur inside
/// and outside the prompt. A stand-in where no trained network is at hand.
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::{PointPrompt, Prompt, PromptableSegmenter};
/// use coral_weak::{ColorSegmenter, ColorSegmenterConfig};
/// let image = RgbImage::from_fn(40, 30, |x, _| if x < 25 { Rgb([220, 210, 170]) } else { Rgb([90, 70, 40]) });
/// let segmenter = ColorSegmenter::new(ColorSegmenterConfig::default())?;
/// let click = |x, foreground| PointPrompt { x, y: 15.0, foreground };
/// let prompt = Prompt { points: vec![click(8.0, true), click(35.0, false)], ..Prompt::default() };
/// let masks = segmenter.predict(&segmenter.embed(&image)?, &prompt)?;
/// assert_eq!((masks[0].mask[[5, 20]], masks[0].mask[[5, 30]]), (true, false));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ColorSegmenter {
    config: ColorSegmenterConfig,
}

/// The colours of an image, as [`ColorSegmenter`] tells them apart.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorEmbedding {
    /// H×W, the bin of each pixel's colour.
    bins: Array2<usize>,
    /// Bins in all.
    count: usize,
}

impl ColorSegmenter {
    /// A segmenter with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(config: ColorSegmenterConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// How far each pixel speaks for (above 0) or against the prompt, -1..=1.
    fn evidence(&self, size: Size, prompt: &Prompt) -> Array2<f32> {
        let mut evidence = match &prompt.mask_logits {
            Some(logits) => {
                // The longer side fills the prompt's square.
                let scale = logits.nrows().max(logits.ncols()) as f64 / f64::from(size.width.max(size.height));
                let at = |pixel: usize, cells: usize| (((pixel as f64 + 0.5) * scale) as usize).min(cells - 1);
                Array2::from_shape_fn(size.shape(), |(y, x)| {
                    (logits[[at(y, logits.nrows()), at(x, logits.ncols())]] / SURE).clamp(-1.0, 1.0)
                })
            }
            None => Array2::zeros(size.shape()),
        };
        if let Some(rect) = prompt.rect {
            // Segment Anything's boxes end at the number of the last pixel, which belongs to them.
            let inside = |x: usize, y: usize| {
                (rect.x_min..=rect.x_max).contains(&(x as f32)) && (rect.y_min..=rect.y_max).contains(&(y as f32))
            };
            for ((y, x), value) in evidence.indexed_iter_mut() {
                *value = match (inside(x, y), &prompt.mask_logits) {
                    (false, _) => -1.0,
                    (true, Some(_)) => *value,
                    (true, None) => 0.5,
                };
            }
        }
        // A click on a pixel's corner, too, belongs to the pixel.
        let radius = self.config.click_radius.max(0.75);
        let near = |place: f32, pixels: usize| {
            (place - radius - 1.0).max(0.0) as usize..((place + radius + 1.0).max(0.0) as usize).min(pixels)
        };
        for point in &prompt.points {
            for y in near(point.y, size.height as usize) {
                for x in near(point.x, size.width as usize) {
                    if (x as f32 + 0.5 - point.x).hypot(y as f32 + 0.5 - point.y) <= radius {
                        evidence[[y, x]] = if point.foreground { 1.0 } else { -1.0 };
                    }
                }
            }
        }
        evidence
    }
}

impl PromptableSegmenter for ColorSegmenter {
    type Embedding = ColorEmbedding;

    /// # Errors
    /// [`Error::InvalidInput`] for an image without pixels.
    fn embed(&self, image: &RgbImage) -> Result<ColorEmbedding> {
        if Size::of(image).pixels() == 0 {
            return Err(Error::input("image", format!("an image of {} has no pixel", Size::of(image))));
        }
        let lab = lab_image(image);
        let planes: Vec<_> = lab.outer_iter().map(|plane| gaussian_blur(plane, self.config.grain)).collect();
        let levels = self.config.levels;
        let mut bins = Array2::zeros(Size::of(image).shape());
        for plane in &planes {
            let mut values: Vec<f32> = plane.iter().copied().collect();
            // Levels of equal width between the extremes but for one in two hundred.
            let beyond = values.len() / 200;
            let mut ranked = |rank: usize| *values.select_nth_unstable_by(rank, f32::total_cmp).1;
            let (low, high) = (ranked(beyond), ranked(plane.len() - 1 - beyond));
            let width = ((high - low) / levels as f32).max(1e-3);
            Zip::from(&mut bins).and(plane).for_each(|bin, value| {
                *bin = *bin * levels + (((value - low) / width).max(0.0) as usize).min(levels - 1);
            });
        }
        Ok(ColorEmbedding { bins, count: levels.pow(planes.len() as u32) })
    }

    /// # Errors
    /// [`Error::InvalidInput`] for a prompt without points, box and mask, one that lies outside the image, or numbers that
    /// are not finite.
    fn predict(&self, embedding: &ColorEmbedding, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        let size = Size::of_map(&embedding.bins);
        check(prompt, size)?;
        let evidence = self.evidence(size, prompt);
        let mut weights = Array2::<f32>::zeros((2, embedding.count));
        Zip::from(&embedding.bins).and(&evidence).for_each(|&bin, &value| {
            weights[[usize::from(value < 0.0), bin]] += value.abs();
        });
        let weights = spread(&weights, self.config.levels);
        let totals = weights.sum_axis(Axis(1));
        // A colour that occurs nowhere speaks for neither; one pixel's worth keeps rare colours from being sure.
        let share =
            |side: usize, bin: usize| (weights[[side, bin]] + 0.5) / (totals[side] + 0.5 * embedding.count as f32);
        let logits: Vec<f32> = (0..embedding.count).map(|bin| (share(0, bin) / share(1, bin)).ln()).collect();
        let plain = Zip::from(&embedding.bins).and(&evidence).map_collect(|&bin, &value| logits[bin] + value);
        let smooth = gaussian_blur(plain.view(), self.config.smoothness);
        let logits = match prompt.rect {
            Some(_) => Zip::from(&smooth)
                .and(&evidence)
                .map_collect(|&logit, &value| if value <= -1.0 { logit.min(-1.0) } else { logit }),
            None => smooth,
        };
        let mask = logits.mapv(|logit| logit > 0.0);
        let (predicted_iou, mask_logits) = (expected_iou(&logits), in_square(&logits));
        Ok(vec![ScoredMask { predicted_iou, mask, class: None, mask_logits, features: Vec::new() }])
    }
}

fn check(prompt: &Prompt, size: Size) -> Result<()> {
    if prompt.points.is_empty() && prompt.rect.is_none() && prompt.mask_logits.is_none() {
        return Err(Error::input("prompt", "expected points, a box or a mask, got none"));
    }
    let corners = prompt.rect.iter().flat_map(|rect| [(rect.x_min, rect.y_min), (rect.x_max, rect.y_max)]);
    let inside = |x: f32, y: f32| (0.0..=size.width as f32).contains(&x) && (0.0..=size.height as f32).contains(&y);
    let mut places = prompt.points.iter().map(|point| (point.x, point.y)).chain(corners);
    if let Some((x, y)) = places.find(|&(x, y)| !inside(x, y)) {
        return Err(Error::input("prompt", format!("({x}, {y}) lies outside the {size} image")));
    }
    let logits = prompt.mask_logits.as_ref();
    if logits.is_some_and(|logits| logits.iter().any(|value| value.is_nan())) {
        return Err(Error::input("prompt", "expected numbers for the mask, got NaN"));
    }
    if logits.is_some_and(|logits| logits.is_empty()) {
        return Err(Error::input("prompt", "the mask has no values"));
    }
    Ok(())
}

/// Gives half of each bin's weight to its neighbours along the axes, in equal parts.
fn spread(weights: &Array2<f32>, levels: usize) -> Array2<f32> {
    let mut spread = weights.mapv(|weight| weight / 2.0);
    for (from, to) in weights.outer_iter().zip(spread.outer_iter_mut()) {
        let shape = (levels, levels, levels);
        let (Ok(from), Ok(mut to)) = (from.into_shape_with_order(shape), to.into_shape_with_order(shape)) else {
            continue;
        };
        for ((l, a, b), &weight) in from.indexed_iter().filter(|(_, weight)| **weight > 0.0) {
            let around = |level: usize| [level.saturating_sub(1), (level + 1).min(levels - 1)];
            let along = around(l).map(|l| (l, a, b)).into_iter();
            for place in along.chain(around(a).map(|a| (l, a, b))).chain(around(b).map(|b| (l, a, b))) {
                to[place] += weight / 12.0;
            }
        }
    }
    spread
}

/// The logits in the square that their longer side fills, as networks answer.
fn in_square(logits: &Array2<f32>) -> Array2<f32> {
    let longest = logits.nrows().max(logits.ncols());
    let side = longest.min(MOST_LOGITS);
    let pixel = |cell: usize| (2 * cell + 1) * longest / (2 * side);
    Array2::from_shape_fn((side, side), |(y, x)| logits.get([pixel(y), pixel(x)]).copied().unwrap_or(-SURE))
}

/// The IoU with the truth to expect when each pixel belongs to it with its own probability.
fn expected_iou(logits: &Array2<f32>) -> f32 {
    let (mut right, mut union) = (0.0_f64, 0.0_f64);
    for &logit in logits {
        let probability = 1.0 / (1.0 + f64::from(-logit).exp());
        if logit > 0.0 {
            right += probability;
            union += 1.0;
        } else {
            union += probability;
        }
    }
    (right / union.max(f64::MIN_POSITIVE)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SamRefiner, SamRefinerConfig};
    use coral_core::image::Rgb;
    use coral_core::{BoxPrompt, PointPrompt, SeededRng};

    /// A bright disc on dark ground, with noise.
    fn disc() -> (RgbImage, Array2<bool>) {
        let mut random = SeededRng::new(2);
        let truth = Array2::from_shape_fn((48, 64), |(y, x)| (x as f32 - 30.0).hypot(y as f32 - 22.0) < 15.0);
        let image = RgbImage::from_fn(64, 48, |x, y| {
            let level = if truth[[y as usize, x as usize]] { 170.0 } else { 110.0 };
            Rgb([0.9, 1.0, 0.7].map(|tint| (tint * level + random.range(-18.0, 18.0)) as u8))
        });
        (image, truth)
    }

    fn iou(a: &Array2<bool>, b: &Array2<bool>) -> f64 {
        let count = |f: fn(bool, bool) -> bool| a.iter().zip(b).filter(|(a, b)| f(**a, **b)).count() as f64;
        count(|a, b| a && b) / count(|a, b| a || b)
    }

    #[test]
    fn every_kind_of_prompt_finds_the_disc() {
        let (image, truth) = disc();
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig::default()).unwrap();
        let embedding = segmenter.embed(&image).unwrap();
        let click = |x, y, foreground| PointPrompt { x, y, foreground };
        let points =
            vec![click(30.0, 22.0, true), click(36.0, 18.0, true), click(5.0, 5.0, false), click(60.0, 40.0, false)];
        // The mask is off by 5 pixels.
        let mut logits = Array2::from_elem((64, 64), -SURE);
        for ((y, x), _) in truth.indexed_iter().filter(|(_, inside)| **inside) {
            logits[[y, x + 5]] = SURE;
        }
        let rect = Some(BoxPrompt { x_min: 14.0, y_min: 6.0, x_max: 46.0, y_max: 38.0 });
        let prompts = [
            Prompt { points, ..Prompt::default() },
            Prompt { rect, ..Prompt::default() },
            Prompt { mask_logits: Some(logits), ..Prompt::default() },
        ];
        for prompt in prompts {
            let masks = segmenter.predict(&embedding, &prompt).unwrap();
            let found = iou(&masks[0].mask, &truth);
            assert!(found > 0.8, "IoU {found}");
            assert!((0.2..=1.0).contains(&masks[0].predicted_iou));
            assert_eq!(masks[0].mask_logits.dim(), (64, 64));
        }
    }

    #[test]
    fn masks_keep_their_last_row_and_column() {
        let image = RgbImage::from_fn(40, 30, |x, _| if x >= 20 { Rgb([220, 210, 170]) } else { Rgb([90, 70, 40]) });
        let coarse = Array2::from_shape_fn((30, 40), |(_, x)| x >= 20);
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig { smoothness: 0.0, ..Default::default() }).unwrap();
        let refiner = SamRefiner::new(segmenter, SamRefinerConfig::default()).unwrap();
        assert_eq!(refiner.refine(&image, coarse.view()).unwrap().mask, coarse);
        // A click without extent on a pixel's corner.
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig { click_radius: 0.0, ..Default::default() }).unwrap();
        let points = vec![PointPrompt { x: 30.0, y: 5.0, foreground: true }];
        let prompt = Prompt { points, ..Prompt::default() };
        assert!(segmenter.predict(&segmenter.embed(&image).unwrap(), &prompt).unwrap()[0].mask[[5, 30]]);
    }

    #[test]
    fn long_strips_have_small_logits() {
        let bright = |x: u32| if x < 4_000 { Rgb([220, 210, 170]) } else { Rgb([90, 70, 40]) };
        let strip = RgbImage::from_fn(10_000, 60, |x, _| bright(x));
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig::default()).unwrap();
        let rect = Some(BoxPrompt { x_min: 0.0, y_min: 0.0, x_max: 4_100.0, y_max: 60.0 });
        let answer =
            segmenter.predict(&segmenter.embed(&strip).unwrap(), &Prompt { rect, ..Prompt::default() }).unwrap();
        // A cell is about 10 pixels: 410 of them across, 6 down.
        assert_eq!(answer[0].mask_logits.dim(), (1024, 1024));
        assert_eq!(answer[0].mask_logits.iter().filter(|logit| **logit > 0.0).count(), 410 * 6);
        let coarse = Array2::from_shape_fn((60, 10_000), |(_, x)| x < 4_100);
        let refined = SamRefiner::new(segmenter, SamRefinerConfig::default()).unwrap().refine(&strip, coarse.view());
        assert!(refined.unwrap().mask.row(30).iter().filter(|inside| **inside).count().abs_diff(4_000) < 3);
    }

    #[test]
    fn bad_prompts_are_named() {
        let (image, _) = disc();
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig::default()).unwrap();
        let embedding = segmenter.embed(&image).unwrap();
        let text = |prompt: Prompt| segmenter.predict(&embedding, &prompt).unwrap_err().to_string();
        assert!(text(Prompt::default()).contains("got none"));
        let nowhere = PointPrompt { x: f32::NAN, y: 0.0, foreground: true };
        assert!(
            text(Prompt { points: vec![nowhere], ..Prompt::default() }).contains("(NaN, 0) lies outside the 64x48")
        );
        let rect = Some(BoxPrompt { x_min: 3.0, y_min: 2.0, x_max: 64.5, y_max: 9.0 });
        assert!(text(Prompt { rect, ..Prompt::default() }).contains("(64.5, 9) lies outside the 64x48 image"));
        let unknown = Some(Array2::from_elem((4, 4), f32::NAN));
        assert!(text(Prompt { mask_logits: unknown, ..Prompt::default() }).contains("NaN"));
        assert!(text(Prompt { mask_logits: Some(Array2::zeros((0, 4))), ..Prompt::default() }).contains("no values"));
        assert!(segmenter.embed(&RgbImage::new(0, 3)).is_err());
        let one = segmenter.embed(&RgbImage::new(1, 1)).unwrap();
        let prompt = Prompt { points: vec![PointPrompt { x: 0.5, y: 0.5, foreground: true }], ..Prompt::default() };
        assert_eq!(segmenter.predict(&one, &prompt).unwrap()[0].mask.dim(), (1, 1));
        assert!(ColorSegmenter::new(ColorSegmenterConfig { levels: 1, ..Default::default() }).is_err());
    }
}
