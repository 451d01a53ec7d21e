//! Coarse masks made exact by a promptable segmenter.

mod config;
mod context;
mod depth;
mod mask_logits;
mod prompts;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use coral_core::image::RgbImage;
use coral_core::{Error, FeatureMap, PointPrompt, Prompt, PromptableSegmenter, Result, ScoredMask, Size};
use ndarray::{Array2, ArrayView2};

use depth::{check_size, size_of};

pub use config::{MaskDistance, MaskFrame, NegativeSearch, SamRefinerConfig};
pub use context::expand_box;
pub use depth::mask_depth;
pub use mask_logits::refiner_mask_logits;
pub use prompts::{RefinerPrompts, refiner_prompts};

/// Logits of a mask whose box has grown: unsure, as the mask is not the whole object.
const UNSURE: f32 = 1.0;

/// A mask after its refinement.
#[derive(Debug, Clone, PartialEq)]
pub struct RefinedMask {
    /// H×W of the image, true inside.
    pub mask: Array2<bool>,
    /// The segmenter's estimate of the mask's IoU with the truth; `None` where the mask is still the coarse one.
    pub predicted_iou: Option<f32>,
    /// How often the segmenter was asked.
    pub iterations: usize,
}

type Context<E> = Box<dyn Fn(&E) -> Result<FeatureMap> + Send + Sync>;

/// Turns coarse masks into exact ones: the mask is described to a segmenter by clicks, a box and logits that allow for
/// noise at its edges; the answer is described again, and so on.
///
/// Of the masks that answer a prompt the one of highest predicted IoU counts. An empty mask stays empty; a mask
/// whose refinement would be empty stays as it was before. With a network it is, in short (`Predictor` is that of
/// coral-models):
///
/// ```text
/// let refiner = SamRefiner::new(Predictor::…, SamRefinerConfig::default())?;
/// let refined = refiner.refine(&image, mask.view())?;       // one embedding, up to 5 prompts
/// ```
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_core::ndarray::Array2;
/// use coral_core::{Prompt, PromptableSegmenter, Result, ScoredMask, Size};
/// use coral_weak::{SamRefiner, SamRefinerConfig};
///
/// /// Takes all pixels of the clicked colour for the object.
/// struct SameColor;
///
/// impl PromptableSegmenter for SameColor {
///     type Embedding = RgbImage;
///
///     fn embed(&self, image: &RgbImage) -> Result<RgbImage> {
///         Ok(image.clone())
///     }
///
///     fn predict(&self, image: &RgbImage, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
///         let wanted = image.get_pixel(prompt.points[0].x as u32, prompt.points[0].y as u32);
///         let same = |(y, x)| image.get_pixel(x as u32, y as u32) == wanted;
///         let mask = Array2::from_shape_fn(Size::of(image).shape(), same);
///         let mask_logits = Array2::zeros((0, 0));
///         Ok(vec![ScoredMask { mask, predicted_iou: 0.9, class: None, mask_logits, features: Vec::new() }])
///     }
/// }
///
/// // Sand up to column 27; a coarse map says up to 31.
/// let image = RgbImage::from_fn(40, 20, |x, _| if x < 28 { Rgb([200, 190, 160]) } else { Rgb([120, 60, 90]) });
/// let coarse = Array2::from_shape_fn((20, 40), |(_, x)| x < 32);
/// let refined = SamRefiner::new(SameColor, SamRefinerConfig::default())?.refine(&image, coarse.view())?;
/// assert_eq!((refined.mask[[10, 27]], refined.mask[[10, 28]]), (true, false));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Lin et al., *SAMRefiner: Taming Segment Anything Model for Universal Mask Refinement*, ICLR 2025. With
/// [`SamRefinerConfig::published`] and the network of the golden case `samrefiner_e2e`, masks of one iteration equal
/// the published program's but for 0.2 % of the pixels, those of two but for 1 %.
pub struct SamRefiner<S: PromptableSegmenter> {
    segmenter: S,
    config: SamRefinerConfig,
    context: Option<Context<S::Embedding>>,
    /// What the segmenter's mask prompts look like for images of the sizes it was asked for; `None` when it takes none.
    frames: Mutex<HashMap<Size, Option<MaskFrame>>>,
}

impl<S: PromptableSegmenter + std::fmt::Debug> std::fmt::Debug for SamRefiner<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SamRefiner")
            .field("segmenter", &self.segmenter)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<S: PromptableSegmenter> SamRefiner<S> {
    /// A refiner that asks `segmenter`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field out of range.
    pub fn new(segmenter: S, config: SamRefinerConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { segmenter, config, context: None, frames: Mutex::default() })
    }

    /// The same with features of the embedding, by which boxes grow when `margin` is above 0; for a predictor of
    /// coral-models `|embedding| embedding.feature_map()`.
    pub fn with_context(self, features: impl Fn(&S::Embedding) -> Result<FeatureMap> + Send + Sync + 'static) -> Self {
        Self { context: Some(Box::new(features)), ..self }
    }

    /// The segmenter, for example to embed an image for [`refine_embedded`](Self::refine_embedded).
    pub fn segmenter(&self) -> &S {
        &self.segmenter
    }

    /// The configuration.
    pub fn config(&self) -> &SamRefinerConfig {
        &self.config
    }

    /// Refines a mask of `image`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the mask is not as large as the image; those of
    /// [`refine_embedded`](Self::refine_embedded).
    pub fn refine(&self, image: &RgbImage, mask: ArrayView2<'_, bool>) -> Result<RefinedMask> {
        let refined = self.refine_all(image, &[mask])?.into_iter().next();
        refined.ok_or_else(|| Error::input("mask", "expected one, got none"))
    }

    /// Refines several masks of one image, each on its own, with one embedding; none if no mask has a pixel.
    ///
    /// # Errors
    /// As [`refine`](Self::refine).
    pub fn refine_all(&self, image: &RgbImage, masks: &[ArrayView2<'_, bool>]) -> Result<Vec<RefinedMask>> {
        for mask in masks {
            Size::of(image).expect("mask", size_of(*mask))?;
            check_size(*mask)?;
        }
        if !masks.iter().any(|mask| mask.iter().any(|&inside| inside)) {
            return Ok(masks.iter().map(|mask| coarse(*mask)).collect());
        }
        let embedding = self.segmenter.embed(image)?;
        masks.iter().map(|mask| self.refine_embedded(&embedding, *mask)).collect()
    }

    /// Refines a mask of an image that is already embedded.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a mask without pixels or a predicted IoU that is not finite, or for mask logits that
    /// are not square without a `frame`; [`Error::ShapeMismatch`] when the segmenter's masks are of another size;
    /// [`Error::InvalidParameter`] when `margin` is above 0 without [`with_context`](Self::with_context); and the
    /// segmenter's errors.
    pub fn refine_embedded(&self, embedding: &S::Embedding, mask: ArrayView2<'_, bool>) -> Result<RefinedMask> {
        let _span = tracing::debug_span!("refine_mask", size = %size_of(mask)).entered();
        let mut refined = coarse(mask);
        let features = self.features(embedding)?;
        for _ in 0..self.config.iterations {
            let current = refined.mask.view();
            let Some(prompts) = refiner_prompts(current, &self.config)? else { break };
            let prompt = self.prompt(embedding, current, (&prompts, features.as_ref()))?;
            let best = best_of(self.segmenter.predict(embedding, &prompt)?, size_of(current))?;
            refined.iterations += 1;
            let Some(best) = best.filter(|best| best.mask.iter().any(|&inside| inside)) else { break };
            let settled = best.mask == refined.mask;
            (refined.mask, refined.predicted_iou) = (best.mask, Some(best.predicted_iou));
            if settled {
                break; // The same prompts would bring the same answer.
            }
        }
        Ok(refined)
    }

    fn features(&self, embedding: &S::Embedding) -> Result<Option<FeatureMap>> {
        if self.config.margin == 0.0 || !self.config.use_box {
            return Ok(None);
        }
        let missing = || Error::parameter("margin", "above 0 it needs features of the embedding, see `with_context`");
        self.context.as_ref().ok_or_else(missing)?(embedding).map(Some)
    }

    /// The prompt for a mask.
    fn prompt(
        &self,
        embedding: &S::Embedding,
        mask: ArrayView2<'_, bool>,
        (prompts, features): (&RefinerPrompts, Option<&FeatureMap>),
    ) -> Result<Prompt> {
        let SamRefinerConfig { use_points, use_box, use_mask, margin, strength, .. } = self.config;
        let rect = match features {
            Some(features) => expand_box(mask, prompts.rect, features, margin)?,
            None => prompts.rect,
        };
        let strength = if rect == prompts.rect { strength } else { UNSURE };
        let frame = if use_mask { self.mask_frame(embedding, prompts)? } else { None };
        let mask_logits = frame.map(|frame| refiner_mask_logits(mask, prompts, strength, frame)).transpose()?;
        Ok(Prompt {
            points: if use_points { prompts.points() } else { Vec::new() },
            rect: use_box.then(|| prompts::box_prompt(rect)),
            mask_logits,
        })
    }

    /// The frame of mask prompts; when the configuration does not say, asks the segmenter once for each size of image.
    fn mask_frame(&self, embedding: &S::Embedding, prompts: &RefinerPrompts) -> Result<Option<MaskFrame>> {
        if let Some(frame) = self.config.frame {
            return Ok(Some(frame));
        }
        let size = Size::of_map(&prompts.weight);
        let frames = || self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&frame) = frames().get(&size) {
            return Ok(frame);
        }
        let [y, x] = prompts.positive;
        let points = vec![PointPrompt { x: x as f32, y: y as f32, foreground: true }];
        let answers = self.segmenter.predict(embedding, &Prompt { points, ..Prompt::default() })?;
        // Without an answer nothing is known; it may be different for the next image.
        let Some(answer) = answers.first() else { return Ok(None) };
        let frame = match answer.mask_logits.dim() {
            (0, _) | (_, 0) => None,
            (height, width) if height == width => {
                let frame = MaskFrame { image_side: 4 * width as u32, mask_side: width as u32 };
                frame.validate()?;
                Some(frame)
            }
            (height, width) => {
                let reason = format!("expected square mask logits, got {width}x{height}; name the `frame`");
                return Err(Error::input("mask of the segmenter", reason));
            }
        };
        frames().insert(size, frame);
        Ok(frame)
    }
}

fn coarse(mask: ArrayView2<'_, bool>) -> RefinedMask {
    RefinedMask { mask: mask.to_owned(), predicted_iou: None, iterations: 0 }
}

/// The mask of the highest predicted IoU, the first of equals.
fn best_of(masks: Vec<ScoredMask>, size: Size) -> Result<Option<ScoredMask>> {
    let mut best: Option<ScoredMask> = None;
    for mask in masks {
        size.expect("mask of the segmenter", Size::of_map(&mask.mask))?;
        if !mask.predicted_iou.is_finite() {
            let reason = format!("expected a finite predicted IoU, got {}", mask.predicted_iou);
            return Err(Error::input("mask of the segmenter", reason));
        }
        if best.as_ref().is_none_or(|best| mask.predicted_iou > best.predicted_iou) {
            best = Some(mask);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests;
