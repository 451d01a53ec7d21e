use candle_core::{Device, Tensor};
use coral_core::{ClassId, Dataset, Error, Progress, Result, SeededRng, UNLABELED};

use super::config::SamPart;
use super::embedded::EmbeddedImage;
use super::loss::PartSums;
use super::sample::{Sample, Source};
use super::trainer::{EpochSums, SamEpoch, SamTrainer};
use crate::batch_indices;
use crate::sam::mask_decoder::MaskChoice;
use crate::sam::model::PromptBatch;
use crate::sam::prompt_tokens::tokens;

/// What the class head sees of masks that were prompted for once, and their classes: as long as nothing but the head is
/// trained, that stays the same, and epochs take little.
///
/// All of it is in memory: 64 KiB for each prompt of a mask at the published sizes, some 500 MB for 100 images of 20 masks and
/// 4 prompts.
#[derive(Debug, Clone)]
pub struct ClassMaps {
    rows: Vec<Vec<f32>>,
    classes: Vec<ClassId>,
    /// Masks that were too small to be prompted for.
    vanished: usize,
    images: usize,
}

impl ClassMaps {
    /// How many there are: one for each mask token of each prompt.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether no mask has a class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// What the class head sees of a mask, and the mask's class, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = (&[f32], ClassId)> {
        self.rows.iter().map(Vec::as_slice).zip(self.classes.iter().copied())
    }

    fn extend(&mut self, maps: &Tensor, classes: &[ClassId]) -> Result<()> {
        let (_, per_prompt, _) = maps.dims3().map_err(Error::model)?;
        let rows = maps.flatten_to(1).and_then(|rows| rows.to_vec2::<f32>()).map_err(Error::model)?;
        for (row, values) in rows.into_iter().enumerate().filter(|(row, _)| classes[row / per_prompt] != UNLABELED) {
            self.rows.push(values);
            self.classes.push(classes[row / per_prompt]);
        }
        Ok(())
    }

    /// Some of the rows, 1×N×width.
    fn rows(&self, which: &[usize], device: &Device) -> Result<Tensor> {
        let width = which.first().map_or(0, |&row| self.rows[row].len());
        let values = which.iter().flat_map(|&row| &self.rows[row]);
        Tensor::from_vec(values.copied().collect(), (1, which.len(), width), device).map_err(Error::model)
    }
}

impl SamTrainer {
    /// Prompts for masks of images, `prompts` times with a point or a box for each, and keeps what the class head sees: the slow
    /// part of tuning, once. Prompts are drawn from `seed`; where an image has more than `masks_per_image` masks, so are they, anew
    /// for each time. Masks without class are left out, as are those that vanish at the resolution
    /// of the decoder; epochs report how many these are.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when more than the class head is to be trained, or there are corrections, which depend on
    /// what came before; those of [`fit_epoch_embedded`](Self::fit_epoch_embedded).
    pub fn class_maps(
        &self,
        images: &dyn Dataset<Item = EmbeddedImage>,
        (prompts, seed): (usize, u64),
        progress: &dyn Progress,
    ) -> Result<ClassMaps> {
        self.expect_head_alone()?;
        let (config, device, network) = (self.config(), self.device(), self.trained.inference()?);
        let mut maps = ClassMaps { rows: Vec::new(), classes: Vec::new(), vanished: 0, images: 0 };
        progress.start((images.len() * prompts) as u64, "images to prompt");
        for index in 0..images.len() {
            let mut random = SeededRng::stream(seed, index as u64);
            let before = maps.len();
            for prompt in 0..prompts {
                let sample = Sample::load_embedded(config, images, (index, random.bits()), &device)?;
                maps.vanished += if prompt == 0 { sample.vanished } else { 0 };
                let Source::Features(features) = &sample.source else { continue };
                let [original, input] = sample.sizes;
                for (group, truths) in sample.truths(config.training.prompts_per_batch).iter().enumerate() {
                    let tried = sample.tried(config, truths, group)?;
                    let tokens: Vec<_> = tried.prompts.iter().map(|prompt| tokens(prompt, original, input)).collect();
                    let found = network.class_maps(features, &PromptBatch::of(&tokens), MaskChoice::All);
                    found.map_err(Error::model)?.map_or(Ok(()), |found| maps.extend(&found, &truths.classes))?;
                }
                progress.advance(1);
            }
            maps.images += usize::from(maps.len() > before);
        }
        progress.finish();
        Ok(maps)
    }

    /// One pass over what [`class_maps`](Self::class_maps) kept, `batch` at a time, in an order drawn from `seed`. What was kept
    /// under other weights than those of this training, but for the head's, teaches nothing of use, and nothing tells.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] as for [`class_maps`](Self::class_maps) and for no sample a batch; [`Error::InvalidInput`]
    /// when there are none at all or the training diverges.
    pub fn fit_epoch_on_maps(&mut self, maps: &ClassMaps, batch: usize, seed: u64) -> Result<SamEpoch> {
        self.expect_head_alone()?;
        let batches = batch_indices(maps.len(), batch, seed, false)?;
        self.trained.start_epoch()?;
        let (device, mut parts) = (self.device(), PartSums::default());
        for batch in batches {
            let classes: Vec<ClassId> = batch.iter().map(|&row| maps.classes[row]).collect();
            let rows = maps.rows(&batch, &device)?;
            let logits = self.trained.network.classify_maps(&rows).map_err(Error::model)?;
            let Some(logits) = logits else { continue };
            let logits = logits.squeeze(0).map_err(Error::model)?;
            let loss = &self.config().training.loss;
            let Some((loss, sum)) = loss.of_classes(&logits, &classes, 1.0 / batch.len() as f64)? else { continue };
            parts.semantic += sum;
            parts.labeled += batch.len();
            self.trained.trainer.step(&loss, batch.len())?;
        }
        let report = self.trained.trainer.finish_epoch()?;
        Ok(EpochSums { parts, vanished: maps.vanished, images: maps.images }.report(report))
    }

    /// The classes that the network as it is now sees in what [`class_maps`](Self::class_maps) kept, in their order: to judge
    /// a tuning on masks that it was not trained on.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] as for [`class_maps`](Self::class_maps); [`Error::Model`] when the tensor library fails.
    pub fn classify_maps(&self, maps: &ClassMaps) -> Result<Vec<ClassId>> {
        self.expect_head_alone()?;
        let (network, device) = (self.trained.inference()?, self.device());
        let mut classes = Vec::with_capacity(maps.len());
        let rows: Vec<usize> = (0..maps.len()).collect();
        for rows in rows.chunks(64) {
            let logits = network.classify_maps(&maps.rows(rows, &device)?).map_err(Error::model)?;
            let Some(logits) = logits else { continue };
            let sum = logits.abs().and_then(|logits| logits.sum_all()?.to_scalar::<f32>()).map_err(Error::model)?;
            if !sum.is_finite() {
                return Err(Error::model("the class head gave values that are not finite"));
            }
            let best = logits.argmax(2).and_then(|best| best.flatten_all()?.to_vec1::<u32>()).map_err(Error::model)?;
            classes.extend(best.into_iter().map(|class| class as ClassId));
        }
        Ok(classes)
    }

    fn expect_head_alone(&self) -> Result<()> {
        self.expect_fixed_embeddings()?;
        let training = &self.config().training;
        if training.part != SamPart::ClassHead {
            let reason =
                "what the class head sees stays the same only while nothing else is trained; expected `class_head`";
            return Err(Error::parameter("training.part", reason));
        }
        if training.prompts.corrections + training.prompts.repeats > 0 {
            return Err(Error::parameter("training.prompts", "expected neither corrections nor repeats"));
        }
        Ok(())
    }
}
