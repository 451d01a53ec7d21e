use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array1;
use coral_core::{
    CellLabeler, ClassId, Dataset, EpochReport, Error, LabeledPatch, LabeledPhotograph, Result, SeededRng, Size,
    TrainGridClassifier, TrainPatchClassifier, UNLABELED,
};

use super::classifier::{FitConfig, ResNetClassifier};
use super::classify::resized;
use super::conv_norm::Mode;
use crate::tensor::tensor_to_feature_map;
use crate::train::{
    Augmentation, BatchPlan, CrossEntropyConfig, LoaderConfig, OptimizerConfig, PlateauConfig, ScheduleConfig,
    SeafeatsLoss, TrainerConfig, batch_indices, for_each_batch, seafeats_loss, soft_cross_entropy,
};

/// Keeps the random numbers of dropout apart from those of the order.
const DROPOUT: u64 = 1;

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

    fn adam(learning_rate: f64, batch: usize, plateau: PlateauConfig) -> Self {
        let optimizer = OptimizerConfig::default();
        let schedule = ScheduleConfig::Plateau(plateau);
        Self {
            trainer: TrainerConfig { optimizer, learning_rate, schedule, ..TrainerConfig::default() },
            batch,
            class_weights: None,
            loss: SeafeatsLoss::Sound,
            augmentation: None,
            loader: LoaderConfig::default(),
        }
    }
}

impl ResNetClassifier {
    /// To be called before the first step: also steps that fail, or learn nothing, move running statistics.
    fn start_epoch(&mut self) {
        self.changed();
        self.trainer.start_epoch();
    }

    /// One step on photographs of one size.
    fn step_on_photographs(
        &mut self,
        photographs: &[LabeledPhotograph],
        labeler: &dyn CellLabeler,
        dropout: &mut SeededRng,
    ) -> Result<()> {
        let images = photographs.iter().map(|photograph| Ok(self.whole_cells(&photograph.image)?.into_owned()));
        let images = images.collect::<Result<Vec<_>>>()?;
        let features = self.network.grid_features(&self.pixels(&images)?, Mode::Train).map_err(Error::model)?;
        let (_, rows, columns, dim) = features.dims4().map_err(Error::model)?;
        let maps = features.detach().permute((0, 3, 1, 2)).map_err(Error::model)?;
        let mut classes: Vec<ClassId> = Vec::new();
        for (index, photograph) in photographs.iter().enumerate() {
            let map = tensor_to_feature_map(&maps.get(index).map_err(Error::model)?, Size::of(&photograph.image))?;
            let labels = labeler.label_cells(&map, photograph.class)?;
            if labels.dim() != (rows, columns) {
                let (actual_rows, actual_columns) = labels.dim();
                let expected = format!("{columns}x{rows}");
                return Err(Error::shape("labels of cells", expected, format!("{actual_columns}x{actual_rows}")));
            }
            classes.extend(labels);
        }
        let labeled = classes.iter().filter(|&&class| class != UNLABELED).count();
        if labeled == 0 {
            return Ok(());
        }
        let logits = features.reshape(((), dim)).and_then(|cells| self.network.logits(&cells, Some(dropout)));
        let targets = Tensor::new(classes, features.device()).map_err(Error::model)?;
        let FitConfig { class_weights, loss, .. } = &self.config.training;
        let even = vec![1.0; self.config.network.classes];
        let weights = class_weights.as_ref().unwrap_or(&even);
        let loss = seafeats_loss(&logits.map_err(Error::model)?, &targets, weights, *loss)?;
        self.trainer.step(&loss, labeled)
    }

    /// One step on patches of one size and their class probabilities.
    fn step_on_patches(&mut self, images: &[RgbImage], targets: Vec<f32>, dropout: &mut SeededRng) -> Result<()> {
        let pixels = self.pixels(images)?;
        let targets = Tensor::from_vec(targets, ((), self.config.network.classes), pixels.device());
        let targets = targets.and_then(|targets| targets.to_dtype(pixels.dtype())).map_err(Error::model)?;
        let features = self.network.patch_features(&pixels, Mode::Train);
        let logits = features.and_then(|features| self.network.logits(&features, Some(dropout)));
        let class_weights = self.config.training.class_weights.clone();
        let config = CrossEntropyConfig { class_weights, ..CrossEntropyConfig::default() };
        let loss = soft_cross_entropy(&logits.map_err(Error::model)?, &targets, &config)?;
        self.trainer.step(&loss, images.len())
    }

    /// The order of an epoch. A last batch of one sample, where others have more, is left out: it has hardly any
    /// statistics to normalise by.
    fn plan(&self, len: usize, seed: u64) -> Result<BatchPlan> {
        let batch = self.config.training.batch;
        let mut batches = batch_indices(len, batch, seed, false)?;
        if batch > 1 && batches.len() > 1 && batches.last().is_some_and(|batch| batch.len() == 1) {
            batches.pop();
        }
        Ok(BatchPlan { batches, seed })
    }
}

impl TrainGridClassifier for ResNetClassifier {
    /// Photographs of a batch that differ in size make steps of their own.
    fn fit_epoch(
        &mut self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labeler: &dyn CellLabeler,
        seed: u64,
    ) -> Result<EpochReport> {
        let plan = self.plan(photographs.len(), seed)?;
        self.start_epoch();
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        let loader = self.config.training.loader;
        for_each_batch(&plan, loader, &|index, _| photographs.get(index), |mut batch| {
            batch.sort_by_key(|photograph| (photograph.image.width(), photograph.image.height()));
            for same in batch.chunk_by(|a, b| Size::of(&a.image) == Size::of(&b.image)) {
                self.step_on_photographs(same, labeler, &mut dropout)?;
            }
            Ok(())
        })?;
        self.trainer.finish_epoch()
    }
}

impl TrainPatchClassifier for ResNetClassifier {
    fn fit_epoch(&mut self, patches: &dyn Dataset<Item = LabeledPatch>, seed: u64) -> Result<EpochReport> {
        let plan = self.plan(patches.len(), seed)?;
        self.start_epoch();
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        let FitConfig { augmentation, loader, .. } = self.config.training.clone();
        let (classes, patch_size) = (self.config.network.classes, self.config.patch_size);
        let load = |index: usize, seed: u64| -> Result<(RgbImage, Array1<f32>)> {
            let LabeledPatch { mut image, target } = patches.get(index)?;
            if target.len() != classes {
                let actual = target.len().to_string();
                return Err(Error::shape(format!("target of {}", patches.name(index)?), classes.to_string(), actual));
            }
            if let Some(augmentation) = &augmentation {
                image = augmentation.apply(&image, seed)?;
            }
            Ok((patch_size.map_or(Ok(image.clone()), |size| resized(&image, size))?, target))
        };
        for_each_batch(&plan, loader, &load, |batch| {
            let size = Size::of(&batch[0].0);
            let images = batch.iter().map(|(image, _)| resized(image, size)).collect::<Result<Vec<_>>>()?;
            let targets = batch.iter().flat_map(|(_, target)| target.iter().copied()).collect();
            self.step_on_patches(&images, targets, &mut dropout)
        })?;
        self.trainer.finish_epoch()
    }
}
