use std::borrow::{Borrow, Cow};

use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array1;
use coral_core::{
    ClassId, Dataset, EpochReport, Error, LabelMap, LabeledPatch, LabeledPhotograph, Result, SeededRng, Size,
    TrainGridClassifier, TrainPatchClassifier, UNLABELED,
};

use super::classifier::{FitConfig, ResNetClassifier};
use super::classify::resized;
use super::labeled_cells::{LabeledCells, check_grid};
use super::patch_network::Cells;
use crate::layers::Mode;
use crate::train::{
    Augmentation, BatchPlan, CrossEntropyConfig, LoaderConfig, OptimizerConfig, PlateauConfig, ScheduleConfig,
    SeafeatsLoss, TrainerConfig, batch_indices, for_each_batch, seafeats_loss, soft_cross_entropy,
};

/// Keeps the random numbers of dropout apart from those of the order and of the samples.
const DROPOUT: u64 = u64::MAX;

impl FitConfig {
    /// SeaFeats: Adam 1e-5, 3 photographs a step, the rate halved after 2 epochs without progress down to 1e-6. The
    /// published class weights, 1 for the background, 1.5, 1.2 and 1.2, are for its own classes and left to the caller.
    pub fn seafeats() -> Self {
        Self::adam(1e-5, 3, PlateauConfig { factor: 0.5, patience: 2, min_rate: 1e-6, ..PlateauConfig::default() })
    }

    /// SeaCLIP: Adam 1e-4, 24 patches a step, the rate halved after 20 epochs without progress down to 3e-5; random
    /// crops, flips and colours.
    pub fn seaclip() -> Self {
        let plateau = PlateauConfig { factor: 0.5, patience: 20, min_rate: 3e-5, ..PlateauConfig::default() };
        Self { augmentation: Some(Augmentation::seaclip(None)), ..Self::adam(1e-4, 24, plateau) }
    }

    /// Checks the weights of classes.
    pub(super) fn expect_class_weights(&self, classes: usize) -> Result<()> {
        let Some(weights) = &self.class_weights else { return Ok(()) };
        let wrong = |reason| Err(Error::parameter("training.class_weights", reason));
        if weights.len() != classes {
            return wrong(format!("{} weights for {classes} classes", weights.len()));
        }
        match weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => wrong(format!("expected finite weights of at least 0, got {weight}")),
            None if weights.iter().all(|&weight| weight == 0.0) => wrong("all are 0".to_owned()),
            None => Ok(()),
        }
    }

    /// What samples of a class weigh.
    fn weight(&self, class: usize) -> f32 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class])
    }

    fn mode(&self) -> Mode {
        if self.running_statistics { Mode::Eval } else { Mode::Train }
    }

    fn adam(learning_rate: f64, batch: usize, plateau: PlateauConfig) -> Self {
        let optimizer = OptimizerConfig::default();
        let schedule = ScheduleConfig::Plateau(plateau);
        Self {
            trainer: TrainerConfig { optimizer, learning_rate, schedule, ..TrainerConfig::default() },
            batch,
            class_weights: None,
            loss: SeafeatsLoss::Sound,
            running_statistics: false,
            augmentation: None,
            loader: LoaderConfig::default(),
        }
    }
}

impl ResNetClassifier {
    /// Checks that there are labels for every photograph, all of them classes.
    fn check_labels(&self, photographs: &dyn Dataset<Item = LabeledPhotograph>, labels: &[LabelMap]) -> Result<()> {
        let (expected, actual) = (photographs.len(), labels.len());
        if expected != actual {
            let text = |count: usize| format!("{count} maps, one a photograph");
            return Err(Error::shape("labels of cells", text(expected), actual.to_string()));
        }
        let count = self.config().network.classes;
        for (index, labels) in labels.iter().enumerate() {
            if let Some(class) = labels.iter().find(|&&class| class != UNLABELED && usize::from(class) >= count) {
                let (last, name) = (count - 1, photographs.name(index)?);
                let reason = format!("expected classes 0 to {last} or {UNLABELED} (unlabelled), got {class}");
                return Err(Error::input(format!("labels of cells of {name}"), reason));
            }
        }
        Ok(())
    }

    /// One step on the N×3×H×W pixels of photographs whose cells have `labels`.
    fn step_on_photographs(&mut self, pixels: &Tensor, labels: &[&LabelMap], dropout: &mut SeededRng) -> Result<()> {
        let classes: Vec<ClassId> = labels.iter().copied().flatten().copied().collect();
        let labeled: Vec<_> = classes.iter().copied().filter(|&class| class != UNLABELED).collect();
        // A mean over what weighs nothing does not exist.
        if labeled.iter().all(|&class| self.config().training.weight(usize::from(class)) == 0.0) {
            return Ok(());
        }
        let features = self.trained.network.grid_features(pixels, self.config().training.mode());
        let cells = features.and_then(|features| features.flatten(0, 2));
        let logits =
            cells.and_then(|cells| self.trained.network.logits(&cells, Some(dropout))).map_err(Error::model)?;
        let targets = Tensor::new(classes, pixels.device()).map_err(Error::model)?;
        let FitConfig { class_weights, loss, .. } = &self.config().training;
        let even = vec![1.0; self.config().network.classes];
        let loss = seafeats_loss(&logits, &targets, class_weights.as_ref().unwrap_or(&even), *loss)?;
        self.trained.trainer.step(&loss, labeled.len())
    }

    /// One step on patches of one size and their class probabilities.
    fn step_on_patches<I: Borrow<RgbImage>>(
        &mut self,
        images: &[I],
        targets: Vec<f32>,
        dropout: &mut SeededRng,
    ) -> Result<()> {
        let share = |(index, target)| target * self.config().training.weight(index % self.config().network.classes);
        if targets.iter().enumerate().map(share).all(|share: f32| share == 0.0) {
            return Ok(());
        }
        let pixels = self.trained.pixels(images)?;
        let targets = Tensor::from_vec(targets, ((), self.config().network.classes), pixels.device());
        let targets = targets.and_then(|targets| targets.to_dtype(pixels.dtype())).map_err(Error::model)?;
        let features = self.trained.network.patch_features(&pixels, self.config().training.mode());
        let logits = features.and_then(|features| self.trained.network.logits(&features, Some(dropout)));
        let class_weights = self.config().training.class_weights.clone();
        let config = CrossEntropyConfig { class_weights, ..CrossEntropyConfig::default() };
        let loss = soft_cross_entropy(&logits.map_err(Error::model)?, &targets, &config)?;
        self.trained.trainer.step(&loss, images.len())
    }

    /// The order of an epoch.
    fn plan(&self, len: usize, seed: u64) -> Result<BatchPlan> {
        Ok(BatchPlan::of_epoch(batch_indices(len, self.config().training.batch, seed, false)?, seed))
    }
}

impl TrainGridClassifier for ResNetClassifier {
    /// [`Cells::Pooled`] makes steps of photographs (those of a batch that differ in size make steps of their own),
    /// [`Cells::Cut`] of cells of any photographs, which are augmented; photographs of up to 512 MiB stay in memory
    /// meanwhile, others are decoded anew for every cell.
    fn fit_epoch(
        &mut self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labels: &[LabelMap],
        seed: u64,
    ) -> Result<EpochReport> {
        self.check_labels(photographs, labels)?;
        if let Cells::Cut(side) = self.config().network.cells {
            let cells = LabeledCells::new(photographs, labels, (side as u32, self.config().network.classes));
            return TrainPatchClassifier::fit_epoch(self, &cells, seed);
        }
        let loader = self.config().training.loader;
        let plan = self.plan(photographs.len(), seed)?;
        self.trained.start_epoch()?;
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        let side = self.config().network.cells.side() as u32;
        let load = |index: usize, _| {
            let image = photographs.get(index)?.image;
            check_grid(&image, side, &labels[index], || photographs.name(index))?;
            Ok((index, image))
        };
        for_each_batch(&plan, loader, &load, |mut batch| {
            batch.sort_by_key(|(_, image)| (image.width(), image.height()));
            for same in batch.chunk_by(|(_, a), (_, b)| Size::of(a) == Size::of(b)) {
                let pixels = same.iter().map(|(_, image)| self.photograph(image)).collect::<Result<Vec<_>>>()?;
                let pixels = Tensor::cat(&pixels, 0).map_err(Error::model)?;
                let labels: Vec<&LabelMap> = same.iter().map(|(index, _)| &labels[*index]).collect();
                self.step_on_photographs(&pixels, &labels, &mut dropout)?;
            }
            Ok(())
        })?;
        self.trained.trainer.finish_epoch()
    }
}

impl TrainPatchClassifier for ResNetClassifier {
    /// A last batch of one patch, where others have more, is left out: it has hardly any statistics to normalise by.
    fn fit_epoch(&mut self, patches: &dyn Dataset<Item = LabeledPatch>, seed: u64) -> Result<EpochReport> {
        let mut plan = self.plan(patches.len(), seed)?;
        let alone = |batches: &[Vec<usize>]| batches.last().is_some_and(|batch| batch.len() == 1);
        if self.config().training.batch > 1 && plan.batches.len() > 1 && alone(&plan.batches) {
            plan.batches.pop();
        }
        self.trained.start_epoch()?;
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        let FitConfig { augmentation, loader, .. } = self.config().training.clone();
        let (classes, patch_size) = (self.config().network.classes, self.config().patch_size);
        let load = |index: usize, seed: u64| -> Result<(RgbImage, Array1<f32>)> {
            let LabeledPatch { mut image, target } = patches.get(index)?;
            if target.len() != classes {
                let actual = target.len().to_string();
                return Err(Error::shape(format!("target of {}", patches.name(index)?), classes.to_string(), actual));
            }
            if let Some(augmentation) = &augmentation {
                image = augmentation.apply(&image, seed)?;
            }
            let sized = patch_size.map_or(Ok(Cow::Borrowed(&image)), |size| resized(&image, size))?;
            if let Cow::Owned(sized) = sized {
                image = sized;
            }
            Ok((image, target))
        };
        for_each_batch(&plan, loader, &load, |batch| {
            let size = Size::of(&batch[0].0);
            let images = batch.iter().map(|(image, _)| resized(image, size)).collect::<Result<Vec<_>>>()?;
            let targets = batch.iter().flat_map(|(_, target)| target.iter().copied()).collect();
            self.step_on_patches(&images, targets, &mut dropout)
        })?;
        self.trained.trainer.finish_epoch()
    }
}
