use coral_core::{BoxPrompt, Error, PointPrompt, Prompt, Rect, Result, RleMask, SeededRng, Size};
use serde::{Deserialize, Serialize};

/// How a training draws the prompts of a mask. The default is the published one of Segment Anything.
///
/// Every mask gets a first prompt, then corrections one after the other, each with what the network made of the former
/// prompts. A quick training on a CPU does with few of them, or none.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023, appendix A.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// How often the first prompt is a box and not a point.
    pub box_probability: f64,
    /// Standard deviation of the noise of a box's edges, as a share of its side.
    pub box_noise: f64,
    /// The most that the noise moves an edge, in pixels of the network's input.
    pub largest_box_noise: f64,
    /// Points that are added one after the other, each where the last mask was wrong.
    pub corrections: usize,
    /// Further rounds in which nothing is added but the last mask: one after all corrections, the others after any.
    pub repeats: usize,
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self { box_probability: 0.5, box_noise: 0.1, largest_box_noise: 20.0, corrections: 8, repeats: 2 }
    }
}

/// What is new in a round of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptRound {
    /// The point or the box that a mask begins with.
    First,
    /// The last mask, and a point where it was wrong.
    Correction,
    /// The last mask alone; points and boxes stay as they are.
    Repeat,
}

/// Most rounds of a mask: each keeps a mask of its own in memory.
const MOST_ROUNDS: usize = 1 << 10;

impl PromptConfig {
    /// A point or a box and nothing else.
    pub fn single() -> Self {
        Self { corrections: 0, repeats: 0, ..Self::default() }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let chance = self.box_probability;
        if !(0.0..=1.0).contains(&chance) {
            return Err(Error::parameter("prompts.box_probability", format!("expected 0 to 1, got {chance}")));
        }
        for (name, value) in [("box_noise", self.box_noise), ("largest_box_noise", self.largest_box_noise)] {
            if !value.is_finite() || value < 0.0 {
                let reason = format!("expected a number of at least 0, got {value}");
                return Err(Error::parameter(format!("prompts.{name}"), reason));
            }
        }
        for (name, count) in [("corrections", self.corrections), ("repeats", self.repeats)] {
            if count > MOST_ROUNDS {
                let reason = format!("expected at most {MOST_ROUNDS}, got {count}");
                return Err(Error::parameter(format!("prompts.{name}"), reason));
            }
        }
        Ok(())
    }

    /// The rounds of a mask in their order; the seed says where the repeats are.
    ///
    /// # Examples
    /// ```
    /// use coral_models::{PromptConfig, PromptRound};
    /// let rounds = PromptConfig::default().rounds(7);
    /// assert_eq!(rounds.len(), 11);
    /// assert_eq!((rounds[0], rounds[10]), (PromptRound::First, PromptRound::Repeat));
    /// assert_eq!(PromptConfig::single().rounds(7), [PromptRound::First]);
    /// ```
    pub fn rounds(&self, seed: u64) -> Vec<PromptRound> {
        let mut random = SeededRng::new(seed);
        let mut repeats = vec![0; self.corrections + 1];
        for repeat in 0..self.repeats {
            // The first of them is the one at the end. The others follow a correction, where there is one.
            let anywhere = if self.corrections == 0 { 0 } else { 1 + random.below(self.corrections) };
            repeats[if repeat == 0 { self.corrections } else { anywhere }] += 1;
        }
        let round = |(at, repeats): (usize, usize)| {
            let new = if at == 0 { PromptRound::First } else { PromptRound::Correction };
            std::iter::once(new).chain(std::iter::repeat_n(PromptRound::Repeat, repeats))
        };
        repeats.into_iter().enumerate().flat_map(round).collect()
    }

    /// The prompt that a mask begins with, in pixels of the photograph: a point anywhere in the mask or a box around it, whose
    /// edges are a little off. `image_size` is the side of the square that the network sees.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a mask without a pixel.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// use coral_models::PromptConfig;
    /// let mask = RleMask::from_fn(Size { width: 40, height: 20 }, |x, y| x == 7 && y == 3);
    /// let config = PromptConfig { box_probability: 0.0, ..PromptConfig::default() };
    /// let prompt = config.first_prompt(&mask, 1024, 1)?;
    /// assert_eq!((prompt.points[0].x, prompt.points[0].y), (7.5, 3.5)); // the middle of its only pixel
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn first_prompt(&self, mask: &RleMask, image_size: u32, seed: u64) -> Result<Prompt> {
        let mut random = SeededRng::new(seed);
        let Some(bounds) = mask.bounding_box() else {
            return Err(Error::input("mask", "has no pixel; expected at least one to prompt for"));
        };
        if random.chance(self.box_probability) {
            let rect = Some(self.noisy_box(bounds, (mask.size(), image_size), &mut random));
            return Ok(Prompt { rect, ..Prompt::default() });
        }
        let points = pixel_of(mask, &mut random).map(|(x, y)| middle(x, y, true)).into_iter().collect();
        Ok(Prompt { points, ..Prompt::default() })
    }

    fn noisy_box(&self, bounds: Rect, (size, image_size): (Size, u32), random: &mut SeededRng) -> BoxPrompt {
        let per_input_pixel = f64::from(size.width.max(size.height)) / f64::from(image_size.max(1));
        let most = self.largest_box_noise * per_input_pixel;
        let mut edges = |start: u32, length: u32, limit: u32| {
            let (low, high) = (f64::from(start), f64::from(start + length));
            let mut moved = |edge: f64| {
                let noise = (random.normal() * self.box_noise * f64::from(length)).clamp(-most, most);
                (edge + noise).clamp(0.0, f64::from(limit))
            };
            let (moved_low, moved_high) = (moved(low), moved(high));
            // Strong noise turns a box inside out; the network has seen none such.
            if moved_high - moved_low >= 1.0 { [moved_low, moved_high] } else { [low, high] }
        };
        let [x_min, x_max] = edges(bounds.x, bounds.width, size.width).map(|edge| edge as f32);
        let [y_min, y_max] = edges(bounds.y, bounds.height, size.height).map(|edge| edge as f32);
        BoxPrompt { x_min, y_min, x_max, y_max }
    }
}

/// The middle of a pixel where `predicted` differs from `truth`, each such pixel equally likely, in pixels of the masks:
/// foreground where the truth was missed, background where it was exceeded; `None` where both agree.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the masks differ in size.
///
/// # Examples
/// ```
/// use coral_core::{RleMask, Size};
/// use coral_models::correction_point;
/// let size = Size { width: 9, height: 4 };
/// let truth = RleMask::from_fn(size, |x, _| x < 5);
/// let missed = correction_point(&truth, &RleMask::from_fn(size, |x, _| x < 4), 1)?.unwrap();
/// assert_eq!((missed.x, missed.foreground), (4.5, true));
/// let too_much = correction_point(&truth, &RleMask::from_fn(size, |x, _| x < 6), 1)?.unwrap();
/// assert_eq!((too_much.x, too_much.foreground), (5.5, false));
/// assert_eq!(correction_point(&truth, &truth, 1)?, None);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn correction_point(truth: &RleMask, predicted: &RleMask, seed: u64) -> Result<Option<PointPrompt>> {
    let wrong = truth.difference(predicted)?.union(&predicted.difference(truth)?)?;
    Ok(pixel_of(&wrong, &mut SeededRng::new(seed)).map(|(x, y)| middle(x, y, truth.contains(x, y))))
}

/// A pixel of a mask, each equally likely; `None` when it has none.
pub(in crate::sam) fn pixel_of(mask: &RleMask, random: &mut SeededRng) -> Option<(u32, u32)> {
    let mut at = random.below(usize::try_from(mask.area()).unwrap_or(usize::MAX));
    mask.column_runs().find_map(|run| match at.checked_sub(run.length as usize) {
        Some(rest) => {
            at = rest;
            None
        }
        None => Some((run.x, run.y + at as u32)),
    })
}

/// The middle of a pixel.
pub(in crate::sam) fn middle(x: u32, y: u32, foreground: bool) -> PointPrompt {
    PointPrompt { x: x as f32 + 0.5, y: y as f32 + 0.5, foreground }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Size = Size { width: 60, height: 23 };

    fn config(box_probability: f64) -> PromptConfig {
        PromptConfig { box_probability, ..PromptConfig::default() }
    }

    /// Two parts, so that its box has pixels outside of it.
    fn mask() -> RleMask {
        RleMask::from_fn(WIDE, |x, y| (x < 4 && y > 17) || (50..58).contains(&x) && y == 2)
    }

    #[test]
    fn points_are_uniform_in_the_mask() {
        let (mask, mut counts) = (mask(), std::collections::BTreeMap::new());
        let draws = 200 * mask.area();
        for seed in 0..draws {
            let prompt = config(0.0).first_prompt(&mask, 64, seed).unwrap();
            assert!(prompt.rect.is_none() && prompt.points.len() == 1);
            let (x, y) = (prompt.points[0].x.floor() as u32, prompt.points[0].y.floor() as u32);
            assert!(mask.contains(x, y) && prompt.points[0].foreground);
            *counts.entry((x, y)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len() as u64, mask.area());
        assert!(counts.values().all(|&count| (140..=260).contains(&count)), "{counts:?}");
    }

    #[test]
    fn boxes_are_a_little_off() {
        let bounds = mask().bounding_box().unwrap();
        assert_eq!(bounds, Rect { x: 0, y: 2, width: 58, height: 21 });
        let boxes: Vec<_> =
            (0..2000).map(|seed| config(1.0).first_prompt(&mask(), 60, seed).unwrap().rect.unwrap()).collect();
        assert!(boxes.iter().all(|b| b.x_min >= 0.0 && b.x_max <= 60.0 && b.y_min >= 0.0 && b.y_max <= 23.0));
        let off: Vec<f64> = boxes.iter().map(|b| f64::from(b.y_min) - 2.0).filter(|&off| off > -2.0).collect();
        let std = (off.iter().filter(|&&off| off > 0.0).map(|off| off * off).sum::<f64>()
            / off.iter().filter(|&&off| off > 0.0).count() as f64)
            .sqrt();
        assert!((std - 2.1).abs() < 0.2, "{std}");
        // 20 pixels of an input of 600 are 2 of the photograph.
        let limited = |seed| config(1.0).first_prompt(&mask(), 600, seed).unwrap().rect.unwrap();
        assert!((0..2000).all(|seed| (56.0..=60.0).contains(&limited(seed).x_max)));
    }

    #[test]
    fn both_kinds_come_equally_often_and_seeds_repeat() {
        let first = |seed| PromptConfig::default().first_prompt(&mask(), 64, seed).unwrap();
        let boxes = (0..1000).filter(|&seed| first(seed).rect.is_some()).count();
        assert!((450..550).contains(&boxes), "{boxes}");
        assert!(first(3) == first(3) && (0..20).any(|seed| first(seed) != first(seed + 1)));
    }

    #[test]
    fn one_pixel_is_enough_and_none_is_an_error() {
        for at in [(0, 0), (59, 22), (30, 9)] {
            let one = RleMask::from_fn(WIDE, |x, y| (x, y) == at);
            for seed in 0..50 {
                let strong = PromptConfig { box_noise: 9.0, ..config(1.0) };
                let b = strong.first_prompt(&one, 60, seed).unwrap().rect.unwrap();
                assert!(b.x_max > b.x_min && b.y_max > b.y_min && b.x_min >= 0.0 && b.y_max <= 23.0, "{b:?}");
                let point = config(0.0).first_prompt(&one, 60, seed).unwrap().points[0];
                assert_eq!((point.x, point.y), (at.0 as f32 + 0.5, at.1 as f32 + 0.5));
            }
        }
        let error = config(0.5).first_prompt(&RleMask::empty(WIDE), 60, 1).unwrap_err().to_string();
        assert_eq!(error, "invalid input `mask`: has no pixel; expected at least one to prompt for");
    }

    #[test]
    fn corrections_come_from_the_whole_error() {
        let (truth, predicted) = (mask(), RleMask::from_fn(WIDE, |x, y| x < 4 && y > 15));
        let points: Vec<_> =
            (0..2000).map(|seed| correction_point(&truth, &predicted, seed).unwrap().unwrap()).collect();
        let missed = points.iter().filter(|point| point.foreground).count();
        // Eight pixels were missed and eight are too many.
        assert!((900..1100).contains(&missed), "{missed}");
        for point in points {
            let (x, y) = (point.x as u32, point.y as u32);
            assert_eq!((truth.contains(x, y), predicted.contains(x, y)), (point.foreground, !point.foreground));
        }
        assert!(correction_point(&truth, &RleMask::empty(Size { width: 23, height: 60 }), 1).is_err());
    }

    #[test]
    fn rounds_are_as_many_as_configured() {
        use PromptRound::*;
        let with = |corrections, repeats| PromptConfig { corrections, repeats, ..PromptConfig::default() };
        assert_eq!(with(0, 2).rounds(1), [First, Repeat, Repeat]);
        assert_eq!(with(2, 0).rounds(1), [First, Correction, Correction]);
        assert_eq!(with(2, 1).rounds(1), [First, Correction, Correction, Repeat]);
        let places: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| PromptConfig::default().rounds(seed).iter().position(|&round| round == Repeat).unwrap())
            .collect();
        // After each of the eight corrections.
        assert_eq!(places, (2..=9).collect());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let text = |config: PromptConfig| config.validate().unwrap_err().to_string();
        assert!(text(config(1.5)).contains("`prompts.box_probability`"));
        assert!(text(PromptConfig { box_noise: f64::NAN, ..config(0.5) }).contains("`prompts.box_noise`"));
        assert!(text(PromptConfig { corrections: 5000, ..config(0.5) }).contains("at most 1024"));
        assert!(PromptConfig::default().validate().is_ok());
    }
}
