use candle_core::{Device, Tensor};
use coral_core::{AnnotatedImage, Dataset, Error, InstanceMask, Result, RleMask, SeededRng, Size, UNLABELED};

use super::config::SamTrainerConfig;
use super::embedded::EmbeddedImage;
use super::loss::{Shares, Truths};
use super::rollout::{Tried, Wanted};
use super::targets::LowResFrame;
use crate::Augmentation;
use crate::sam::preprocess::{longest_side_size, resize_and_pad};

/// Where the features of an image come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// 1×3×H×W pixels for the image encoder.
    Pixels(Tensor),
    /// 1×h×w×C features.
    Features(Tensor),
}

/// A mask that the network is prompted for.
#[derive(Debug, Clone)]
struct SampleMask {
    mask: RleMask,
    /// At low resolution.
    truth: RleMask,
    /// [`UNLABELED`] where it is not known.
    class: u8,
    counted: bool,
    seed: u64,
}

/// An image of an epoch with the masks that are prompted for.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) frame: LowResFrame,
    pub(super) sizes: [Size; 2],
    masks: Vec<SampleMask>,
    /// Masks that are too small for the low resolution, of those that were looked at until enough were drawn.
    pub(super) vanished: usize,
    /// Of the order of the rounds.
    pub(super) seed: u64,
}

impl Sample {
    /// An image for the encoder, augmented as the settings say.
    pub(super) fn load(
        config: &SamTrainerConfig,
        images: &dyn Dataset<Item = AnnotatedImage>,
        (index, seed): (usize, u64),
        device: &Device,
    ) -> Result<Self> {
        let AnnotatedImage { image, masks } = images.get(index)?;
        let name = images.name(index)?;
        check(config, &masks, (&name, Size::of(&image)))?;
        let augmentation = config.training.augmentation.as_ref();
        let image = match augmentation {
            Some(augmentation) => augmentation.apply(&image, seed)?,
            None => image,
        };
        let (pixels, _) = resize_and_pad(&image, config.network.image_size as u32, device)?;
        Self::new(config, (name, Source::Pixels(pixels)), (&masks, augmentation), (Size::of(&image), seed))
    }

    /// An image that was encoded.
    pub(super) fn load_embedded(
        config: &SamTrainerConfig,
        images: &dyn Dataset<Item = EmbeddedImage>,
        (index, seed): (usize, u64),
        device: &Device,
    ) -> Result<Self> {
        let EmbeddedImage { embedding, masks } = images.get(index)?;
        let name = images.name(index)?;
        embedding.expect_of(&config.network, &format!("embedding of {name}"))?;
        let features = embedding.features().to_device(device).map_err(Error::model)?;
        let size = embedding.original_size();
        check(config, &masks, (&name, size))?;
        Self::new(config, (name, Source::Features(features)), (&masks, None), (size, seed))
    }

    /// Draws masks and moves them with the pixels of the image, which has `size` now.
    fn new(
        config: &SamTrainerConfig,
        (name, source): (String, Source),
        (masks, augmentation): (&[InstanceMask], Option<&Augmentation>),
        (size, seed): (Size, u64),
    ) -> Result<Self> {
        let side = config.network.image_size;
        let low_res = 4 * side / config.network.token_pixels();
        let frame = LowResFrame::new(size, side as u32, low_res as u32)?;
        let mut random = SeededRng::new(seed);
        let mut order: Vec<usize> = (0..masks.len()).collect();
        random.shuffle(&mut order);
        let (mut chosen, mut vanished) = (Vec::new(), 0);
        for index in order {
            if chosen.len() == config.training.masks_per_image {
                break;
            }
            let InstanceMask { mask, class, .. } = &masks[index];
            let known = class.filter(|&class| config.classes.get(class).is_some()).unwrap_or(UNLABELED);
            // Of large photographs moving a mask takes long, and only some are drawn.
            let mask = match augmentation.map(|augmentation| augmentation.apply_to_mask(mask, seed)).transpose()? {
                Some(moved) if moved.is_empty() && !mask.is_empty() => continue,
                Some(moved) => moved,
                None => mask.clone(),
            };
            let truth = frame.reduce(&mask)?;
            if truth.is_empty() {
                vanished += 1;
                continue;
            }
            let counted = config.training.loss.background_masks || *class != Some(config.background);
            chosen.push(SampleMask { mask, truth, class: known, counted, seed: random.bits() });
        }
        let sizes = [size, longest_side_size(size, side as u32)];
        Ok(Self { name, source, frame, sizes, masks: chosen, vanished, seed: random.bits() })
    }

    /// How many masks there are.
    pub(super) fn len(&self) -> usize {
        self.masks.len()
    }

    /// How much each mask weighs, so that rounds and masks make means; `None` when there is nothing to learn.
    pub(super) fn shares(&self, rounds: usize, wanted: Wanted) -> Option<Shares> {
        let counted = self.masks.iter().filter(|mask| wanted.masks && mask.counted).count();
        let labeled = self.masks.iter().filter(|mask| wanted.classes && mask.class != UNLABELED).count();
        let share = |count: usize| if count == 0 { 0.0 } else { 1.0 / (count * rounds) as f64 };
        (counted + labeled > 0).then(|| Shares { mask: share(counted), class: share(labeled) })
    }

    /// The truth of the masks in groups of at most `most`.
    pub(super) fn truths(&self, most: usize) -> Vec<Truths> {
        let group = |masks: &[SampleMask]| Truths {
            masks: masks.iter().map(|mask| mask.truth.clone()).collect(),
            classes: masks.iter().map(|mask| mask.class).collect(),
            counted: masks.iter().map(|mask| mask.counted).collect(),
        };
        self.masks.chunks(most).map(group).collect()
    }

    /// The first prompts of a group of masks, number `group` of those of [`truths`](Self::truths).
    pub(super) fn tried<'a>(&self, config: &SamTrainerConfig, truths: &'a Truths, group: usize) -> Result<Tried<'a>> {
        let start = group * config.training.prompts_per_batch;
        let masks = &self.masks[start..start + truths.masks.len()];
        let side = config.network.image_size as u32;
        let prompt = |mask: &SampleMask| config.training.prompts.first_prompt(&mask.mask, side, mask.seed);
        Ok(Tried {
            truths,
            prompts: masks.iter().map(prompt).collect::<Result<_>>()?,
            extra: None,
            seeds: masks.iter().map(|mask| mask.seed.wrapping_add(1)).collect(),
        })
    }
}

/// Checks all masks of an image, not only those that are drawn: what does not fit is not to stop a long training late.
fn check(config: &SamTrainerConfig, masks: &[InstanceMask], (name, size): (&str, Size)) -> Result<()> {
    for (index, InstanceMask { mask, class, .. }) in masks.iter().enumerate() {
        let what = || format!("masks[{index}] of {name}");
        size.expect(&what(), mask.size())?;
        let foreign = class.filter(|&class| config.classes.get(class).is_none());
        if let Some(class) = foreign.filter(|_| config.network.semantic.is_some()) {
            return Err(Error::input(what(), format!("its class {class} is none of the classes")));
        }
    }
    Ok(())
}
