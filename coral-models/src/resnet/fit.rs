use candle_core::Tensor;
use coral_core::image::{RgbImage, imageops};
use coral_core::ndarray::Array1;
use coral_core::{
    CellLabeler, ClassId, Dataset, EpochReport, Error, LabelMap, LabeledPatch, LabeledPhotograph, Result, SeededRng,
    Size, TrainGridClassifier, TrainPatchClassifier, UNLABELED,
};

use super::classifier::{FitConfig, ResNetClassifier, whole_cells};
use super::classify::resized;
use super::conv_norm::Mode;
use super::patch_network::{Cells, PatchNetwork};
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
    /// To be called before the first step: also steps that fail, or learn nothing, move running statistics.
    fn start_epoch(&mut self) -> Result<()> {
        self.changed();
        self.trainer.start_epoch()
    }

    /// The class of every cell of a photograph, given as `pixels`, too, by the features that `network` sees in it.
    fn label(
        &self,
        network: &PatchNetwork,
        (photograph, pixels): (&LabeledPhotograph, &Tensor),
        labeler: &dyn CellLabeler,
    ) -> Result<LabelMap> {
        let features = self.features_of(network, pixels, Size::of(&photograph.image))?;
        let labels = labeler.label_cells(&features, photograph.class)?;
        features.grid_size().expect("labels of cells", Size::of_map(&labels))?;
        let count = self.config.network.classes;
        match labels.iter().find(|&&class| class != UNLABELED && usize::from(class) >= count) {
            Some(class) => {
                let last = count - 1;
                let reason = format!("expected classes 0 to {last} or {UNLABELED} (unlabelled), got {class}");
                Err(Error::input("labels of cells", reason))
            }
            None => Ok(labels),
        }
    }

    /// One step on the N×3×H×W pixels of photographs whose cells have `labels`.
    fn step_on_photographs(&mut self, pixels: &Tensor, labels: &[LabelMap], dropout: &mut SeededRng) -> Result<()> {
        let classes: Vec<ClassId> = labels.iter().flatten().copied().collect();
        let labeled = classes.iter().filter(|&&class| class != UNLABELED).count();
        if labeled == 0 {
            return Ok(());
        }
        let features = self.network.grid_features(pixels, self.config.training.mode());
        let cells = features.and_then(|features| features.flatten(0, 2));
        let logits = cells.and_then(|cells| self.network.logits(&cells, Some(dropout))).map_err(Error::model)?;
        let targets = Tensor::new(classes, pixels.device()).map_err(Error::model)?;
        let FitConfig { class_weights, loss, .. } = &self.config.training;
        let even = vec![1.0; self.config.network.classes];
        let loss = seafeats_loss(&logits, &targets, class_weights.as_ref().unwrap_or(&even), *loss)?;
        self.trainer.step(&loss, labeled)
    }

    /// One step on patches of one size and their class probabilities.
    fn step_on_patches(&mut self, images: &[RgbImage], targets: Vec<f32>, dropout: &mut SeededRng) -> Result<()> {
        let pixels = self.pixels(images)?;
        let targets = Tensor::from_vec(targets, ((), self.config.network.classes), pixels.device());
        let targets = targets.and_then(|targets| targets.to_dtype(pixels.dtype())).map_err(Error::model)?;
        let features = self.network.patch_features(&pixels, self.config.training.mode());
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

/// Cells of photographs with a label each, cut out when they are asked for.
struct LabeledCells<'a> {
    photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
    cells: Vec<LabeledCell>,
    /// Pixels along a cell.
    side: u32,
    classes: usize,
}

struct LabeledCell {
    photograph: usize,
    row: usize,
    column: usize,
    class: ClassId,
}

impl LabeledCells<'_> {
    fn cell(&self, index: usize) -> Result<&LabeledCell> {
        let len = self.cells.len();
        self.cells.get(index).ok_or_else(|| Error::IndexOutOfRange { what: "the cells".into(), index, len })
    }
}

impl Dataset for LabeledCells<'_> {
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        self.cells.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPatch> {
        let &LabeledCell { photograph, row, column, class } = self.cell(index)?;
        let photograph = self.photographs.get(photograph)?;
        let whole = whole_cells(&photograph.image, self.side)?;
        let (x, y) = (column as u32 * self.side, row as u32 * self.side);
        let image = imageops::crop_imm(&*whole, x, y, self.side, self.side).to_image();
        let mut target = Array1::zeros(self.classes);
        target[usize::from(class)] = 1.0;
        Ok(LabeledPatch { image, target })
    }

    fn name(&self, index: usize) -> Result<String> {
        let LabeledCell { photograph, row, column, .. } = self.cell(index)?;
        Ok(format!("{}_{row}_{column}", self.photographs.name(*photograph)?))
    }
}

impl TrainGridClassifier for ResNetClassifier {
    /// Labels come from the features that the network of the pass's beginning sees, as the templates of such a pass do:
    /// labels that follow every step lead the network astray. [`Cells::Pooled`] makes steps of photographs (those of a
    /// batch that differ in size make steps of their own), [`Cells::Cut`] of cells of any photographs, which are decoded
    /// anew for every cell and augmented.
    fn fit_epoch(
        &mut self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labeler: &dyn CellLabeler,
        seed: u64,
    ) -> Result<EpochReport> {
        let beginning = self.inference()?;
        let loader = self.config.training.loader;
        let get = |index: usize, _| photographs.get(index);
        if let Cells::Cut(side) = self.config.network.cells {
            let plan = BatchPlan { batches: (0..photographs.len()).map(|index| vec![index]).collect(), seed };
            let mut cells = Vec::new();
            let mut photograph = 0;
            for_each_batch(&plan, loader, &get, |batch| {
                for one in &batch {
                    let labels = self.label(&beginning, (one, &self.photograph(&one.image)?), labeler)?;
                    let cell = |((row, column), &class)| LabeledCell { photograph, row, column, class };
                    cells.extend(labels.indexed_iter().map(cell).filter(|cell| cell.class != UNLABELED));
                    photograph += 1;
                }
                Ok(())
            })?;
            let classes = self.config.network.classes;
            let cells = LabeledCells { photographs, cells, side: side as u32, classes };
            return TrainPatchClassifier::fit_epoch(self, &cells, seed);
        }
        let plan = self.plan(photographs.len(), seed)?;
        self.start_epoch()?;
        let mut dropout = SeededRng::stream(seed, DROPOUT);
        for_each_batch(&plan, loader, &get, |mut batch| {
            batch.sort_by_key(|photograph| (photograph.image.width(), photograph.image.height()));
            for same in batch.chunk_by(|a, b| Size::of(&a.image) == Size::of(&b.image)) {
                let pixels = same.iter().map(|one| self.photograph(&one.image)).collect::<Result<Vec<_>>>()?;
                let labels = same.iter().zip(&pixels).map(|pair| self.label(&beginning, pair, labeler));
                let labels = labels.collect::<Result<Vec<_>>>()?;
                let pixels = Tensor::cat(&pixels, 0).map_err(Error::model)?;
                self.step_on_photographs(&pixels, &labels, &mut dropout)?;
            }
            Ok(())
        })?;
        self.trainer.finish_epoch()
    }
}

impl TrainPatchClassifier for ResNetClassifier {
    fn fit_epoch(&mut self, patches: &dyn Dataset<Item = LabeledPatch>, seed: u64) -> Result<EpochReport> {
        let plan = self.plan(patches.len(), seed)?;
        self.start_epoch()?;
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
