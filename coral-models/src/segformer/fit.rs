use std::borrow::Cow;

use candle_core::{DType, Tensor};
use coral_core::image::RgbImage;
use coral_core::{
    Dataset, EpochReport, Error, LabelMap, LabeledImage, Result, SeededRng, Size, TrainSegmenter, UNLABELED,
};
use serde::{Deserialize, Serialize};

use super::segmenter::{SegFormerSegmenter, SegFormerSegmenterConfig};
use crate::layers::Mode;
use crate::train::{
    Augmentation, BatchPlan, ColorJitter, EarlyStoppingConfig, LoaderConfig, Monitor, OptimizerConfig, PlateauConfig,
    ScheduleConfig, SegmentationLoss, TrainerConfig, batch_indices, for_each_batch,
};
use crate::{Interpolation, resize_bilinear, resize_plane};

/// Keeps the random numbers of dropout apart from those of the order and of the samples.
const DROPOUT: u64 = u64::MAX;

/// How a [`SegFormerSegmenter`] is trained. The default is what *The Point is the Mask* published: Adam with a rate of 1e-5
/// and a weight decay of 0.01, 16 images a step, the rate divided by 10 after 5 epochs without progress on other images and
/// the end after 10, random colours, soft Dice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegFormerFitConfig {
    /// Optimiser, learning rate, schedule, clipping and the like. Where it asks for averages of the weights, these are
    /// what segments and what [`SegFormerSegmenter::save`] writes.
    pub trainer: TrainerConfig,
    /// Images per step.
    pub batch: usize,
    /// What is made small.
    pub loss: SegmentationLoss,
    /// Changes to images and labels before they are seen.
    pub augmentation: Option<Augmentation>,
    /// Threads that load.
    pub loader: LoaderConfig,
}

impl Default for SegFormerFitConfig {
    fn default() -> Self {
        let trainer = TrainerConfig {
            optimizer: OptimizerConfig::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 },
            learning_rate: 1e-5,
            schedule: ScheduleConfig::Plateau(PlateauConfig { factor: 0.1, patience: 5, ..PlateauConfig::default() }),
            early_stopping: Some(EarlyStoppingConfig { patience: 10, ..EarlyStoppingConfig::default() }),
            monitor: Monitor::Validation,
            ..TrainerConfig::default()
        };
        let jitter = ColorJitter::symmetric(0.25, 0.25, 0.25, 0.1);
        Self {
            trainer,
            batch: 16,
            loss: SegmentationLoss::default(),
            augmentation: Some(Augmentation { color_jitter: Some(jitter), ..Augmentation::default() }),
            loader: LoaderConfig::default(),
        }
    }
}

impl SegFormerFitConfig {
    /// Checks the fields; those of the trainer are checked with the weights.
    pub(super) fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::parameter("training.batch", "expected at least 1"));
        }
        self.loss.validate()?;
        self.augmentation.as_ref().map_or(Ok(()), Augmentation::validate)?;
        self.loader.validate()
    }
}

/// What a look at images that are not trained on says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    /// Mean loss over the images that have labels, each by itself, at the resolution of the training.
    pub loss: f64,
    /// Share of the labelled pixels, in the images' own resolution, whose most probable class is the right one.
    pub pixel_accuracy: f64,
    /// Images that have labels.
    pub images: usize,
}

/// An image as the network sees it, with its labels.
struct Sample {
    index: usize,
    image: RgbImage,
    labels: LabelMap,
}

impl SegFormerSegmenter {
    /// Loss and pixel accuracy on images that are not trained on, such as [`Trainer::judge`](crate::Trainer::judge) takes
    /// after every epoch where [`TrainerConfig::monitor`] says so.
    ///
    /// # Errors
    /// When an image cannot be loaded, its labels do not fit, or no image has labels.
    pub fn validate(&self, images: &dyn Dataset<Item = LabeledImage>) -> Result<ValidationReport> {
        let network = self.trained.inference()?;
        let plan = BatchPlan { batches: (0..images.len()).map(|index| vec![index]).collect(), seed: 0 };
        let (mut loss, mut count, mut right, mut labeled) = (0.0, 0, 0, 0);
        let load = |index: usize, _| self.config().checked(images, index);
        for_each_batch(&plan, self.config().training.loader, &load, |batch| {
            for LabeledImage { image, labels } in batch {
                let logits = self.quarter_logits(&network, &image)?;
                if let Some(targets) = targets(&[&labels], &logits)? {
                    loss += number(&self.config().training.loss.of(&logits, &targets)?)?;
                    count += 1;
                }
                let best = resize_bilinear(&logits, Size::of(&image))?.argmax(1);
                let best = best.and_then(|best| best.flatten_all()?.to_vec1::<u32>()).map_err(Error::model)?;
                for (&label, best) in labels.iter().zip(best).filter(|(label, _)| **label != UNLABELED) {
                    labeled += 1;
                    right += usize::from(u32::from(label) == best);
                }
            }
            Ok(())
        })?;
        if count == 0 {
            return Err(Error::input("images", "none of them has a label, so that there is no loss"));
        }
        let (loss, pixel_accuracy) = (loss / count as f64, right as f64 / labeled as f64);
        Ok(ValidationReport { loss, pixel_accuracy, images: count })
    }

    /// One step on images of one size; none when nothing is labelled.
    fn step(&mut self, batch: &[Sample], dropout: &mut SeededRng) -> Result<()> {
        if batch.iter().all(|sample| sample.labels.iter().all(|&class| class == UNLABELED)) {
            return Ok(());
        }
        let pixels: Vec<_> = batch.iter().map(|sample| Cow::Borrowed(&sample.image)).collect();
        let logits =
            self.trained.network.logits(&self.pixels(&pixels)?, Mode::Train, Some(dropout)).map_err(Error::model)?;
        let labels: Vec<&LabelMap> = batch.iter().map(|sample| &sample.labels).collect();
        // What is labelled may lie between the positions of the logits.
        let Some(targets) = targets(&labels, &logits)? else { return Ok(()) };
        let loss = self.config().training.loss.of(&logits, &targets)?;
        self.trained.trainer.step(&loss, batch.len())
    }
}

impl SegFormerSegmenterConfig {
    /// An image whose labels fit it.
    fn checked(&self, images: &dyn Dataset<Item = LabeledImage>, index: usize) -> Result<LabeledImage> {
        let sample = images.get(index)?;
        let (size, labels) = (Size::of(&sample.image), Size::of_map(&sample.labels));
        if size != labels {
            size.expect(&format!("labels of {}", images.name(index)?), labels)?;
        }
        let classes = self.network.num_labels;
        match sample.labels.iter().find(|&&class| class != UNLABELED && usize::from(class) >= classes) {
            Some(class) => {
                let (last, name) = (classes - 1, images.name(index)?);
                let reason = format!("expected classes 0 to {last} or {UNLABELED} (unlabelled), got {class}");
                Err(Error::input(format!("labels of {name}"), reason))
            }
            None => Ok(sample),
        }
    }

    /// An image for training, changed at random by `seed`.
    fn sample(&self, images: &dyn Dataset<Item = LabeledImage>, index: usize, seed: u64) -> Result<Sample> {
        let mut sample = self.checked(images, index)?;
        if let Some(augmentation) = &self.training.augmentation {
            sample = augmentation.apply_labeled(&sample, seed)?;
        }
        let LabeledImage { mut image, labels } = sample;
        if let Cow::Owned(resized) = self.resized(&image)? {
            image = resized;
        }
        Ok(Sample { index, image, labels })
    }
}

fn number(loss: &Tensor) -> Result<f64> {
    loss.to_dtype(DType::F64).and_then(|loss| loss.to_scalar()).map_err(Error::model)
}

/// Labels in the resolution of N×C×h×w logits, as PyTorch's `nearest` gives them; none when all are unlabelled.
fn targets(labels: &[&LabelMap], logits: &Tensor) -> Result<Option<Tensor>> {
    let (batch, _, rows, columns) = logits.dims4().map_err(Error::model)?;
    let size = Size { width: columns as u32, height: rows as u32 };
    let mut classes = Vec::with_capacity(batch * size.pixels());
    for labels in labels {
        let nearest = resize_plane(labels.mapv(f32::from).view(), size, Interpolation::Nearest)?;
        classes.extend(nearest.iter().map(|&class| class as u8));
    }
    if classes.iter().all(|&class| class == UNLABELED) {
        return Ok(None);
    }
    Tensor::from_vec(classes, (batch, rows, columns), logits.device()).map(Some).map_err(Error::model)
}

impl TrainSegmenter for SegFormerSegmenter {
    /// The images of a batch must have one size after augmentation and resizing. Batches without any label are left out.
    fn fit_epoch(&mut self, images: &dyn Dataset<Item = LabeledImage>, seed: u64) -> Result<EpochReport> {
        let config = self.config().clone();
        let SegFormerFitConfig { batch, loader, .. } = config.training;
        let plan = BatchPlan::of_epoch(batch_indices(images.len(), batch, seed, false)?, seed);
        self.trained.start_epoch()?;
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        let load = |index: usize, seed: u64| config.sample(images, index, seed);
        for_each_batch(&plan, loader, &load, |batch: Vec<Sample>| {
            let size = Size::of(&batch[0].image);
            if let Some(other) = batch.iter().find(|sample| Size::of(&sample.image) != size) {
                let what = format!("{}, in a batch with {}", images.name(other.index)?, images.name(batch[0].index)?);
                size.expect(&what, Size::of(&other.image))?;
            }
            self.step(&batch, &mut dropout)
        })?;
        self.trained.trainer.finish_epoch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use coral_core::testing::GoldenCase;

    #[test]
    fn labels_are_resized_as_in_the_published_training() {
        let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "segformer_tiny").unwrap();
        let (labels, expected) = (case.u8("labels").unwrap(), case.i64("labels_downsampled").unwrap());
        let maps = labels.outer_iter().map(|map| map.to_owned().into_dimensionality().unwrap());
        let maps: Vec<LabelMap> = maps.collect();
        let logits = |images: usize, rows: usize, columns: usize| {
            Tensor::zeros((images, 2, rows, columns), DType::F32, &Device::Cpu).unwrap()
        };
        let &[images, rows, columns] = expected.shape() else { panic!("expected NxHxW labels") };
        let ours = targets(&maps.iter().collect::<Vec<_>>(), &logits(images, rows, columns)).unwrap().unwrap();
        assert_eq!(ours.dims(), expected.shape());
        let ours = ours.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert!(ours.into_iter().map(i64::from).eq(expected.iter().copied()));
        let none = LabelMap::from_elem((8, 8), UNLABELED);
        assert!(targets(&[&none], &logits(1, 2, 2)).unwrap().is_none());
    }
}
