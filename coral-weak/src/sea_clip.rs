use std::ops::ControlFlow;

use coral_core::image::RgbImage;
use coral_core::{
    ClassId, Dataset, EpochReport, Error, LabeledPatch, LabeledPhotograph, PatchGrid, Progress, PseudoLabel,
    PseudoLabeler, Rect, Result, Size, TrainPatchClassifier, UNLABELED,
};
use serde::{Deserialize, Serialize};

use crate::PatchRecord;
use crate::coarse_inference::{BATCH, cut_in_batches};
use crate::epochs::{check_epochs, epoch_seed};
use crate::photographs::named;

/// Settings of [`seaclip_labels`] and [`SeaClip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeaClipConfig {
    /// How photographs are cut.
    pub grid: PatchGrid,
    /// The labeller's class that means background.
    pub background_group: ClassId,
    /// The photographs' class that means background.
    pub background: ClassId,
    /// Passes over the patches, at least 1.
    pub epochs: usize,
    /// The first pass; above 0 to go on where an interrupted training stopped.
    pub start_epoch: usize,
    /// Fixes the order of the patches, and whatever else the classifier draws.
    pub seed: u64,
}

impl Default for SeaClipConfig {
    /// 5 rows of 8 patches; class 0 is background for labeller and photographs. The number of passes, 100, is a
    /// choice of this crate.
    fn default() -> Self {
        Self { grid: PatchGrid::SEACLIP, background_group: 0, background: 0, epochs: 100, start_epoch: 0, seed: 0 }
    }
}

impl SeaClipConfig {
    /// Checks the fields that do not depend on photographs.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        for (name, class) in [("background_group", self.background_group), ("background", self.background)] {
            if class == UNLABELED {
                return Err(Error::parameter(name, format!("{UNLABELED} means unlabelled; expected a class")));
            }
        }
        check_epochs(self.start_epoch, self.epochs)
    }
}

/// The labels of the patches of a set of photographs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeaClipLabels {
    /// The patches with a label, photograph by photograph.
    pub records: Vec<PatchRecord>,
    /// Patches that the labeller gave no label.
    pub abstained: usize,
    /// Patches labelled background, of photographs of another class.
    pub relabeled: usize,
    /// Photographs without a patch of their class: it may be wrong, or the labeller misses it.
    pub without_class: Vec<usize>,
}

impl SeaClipLabels {
    /// Patches per class: as many numbers as there are classes up to the highest.
    pub fn per_class(&self) -> Vec<usize> {
        let classes = self.records.iter().map(|record| usize::from(record.class) + 1).max().unwrap_or(0);
        let mut counts = vec![0; classes];
        self.records.iter().for_each(|record| counts[usize::from(record.class)] += 1);
        counts
    }
}

/// Labels the patches of photographs with one label each: background where `labeler` sees background, the
/// photograph's class where it sees anything else. Patches that it abstains from are left out; in photographs of
/// background every patch is background and it is not asked. `progress` counts photographs.
///
/// # Errors
/// [`Error::InvalidInput`] when there is no photograph, one carries [`UNLABELED`] or is too small for the grid, the
/// labeller gives a confidence outside 0..=1 or [`UNLABELED`], or all labels are of one class;
/// [`Error::ShapeMismatch`] when the labeller does not answer for every patch; those of the grid, of the labeller
/// and of loading a photograph.
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
pub fn seaclip_labels(
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    labeler: &dyn PseudoLabeler,
    config: &SeaClipConfig,
    progress: &dyn Progress,
) -> Result<SeaClipLabels> {
    config.validate()?;
    if photographs.is_empty() {
        return Err(Error::input("photographs", "at least one is needed, got none"));
    }
    let mut labels = SeaClipLabels { records: Vec::new(), abstained: 0, relabeled: 0, without_class: Vec::new() };
    progress.start(photographs.len() as u64, "labelling photographs");
    let labeling = Labeling { photographs, labeler, config };
    let labeled = (0..photographs.len()).try_for_each(|index| {
        labeling.add_photograph(index, &mut labels)?;
        progress.advance(1);
        Ok(())
    });
    progress.finish();
    labeled?;
    let classes = labels.per_class();
    if classes.iter().filter(|&&count| count > 0).count() < 2 {
        let SeaClipLabels { records, abstained, .. } = &labels;
        let of = records.first().map(|record| format!(", all of class {}", record.class)).unwrap_or_default();
        let reason = format!("{} labelled{of}, {abstained} left out; expected two classes or more", records.len());
        return Err(Error::input("patches", reason));
    }
    Ok(labels)
}

struct Labeling<'a> {
    photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
    labeler: &'a dyn PseudoLabeler,
    config: &'a SeaClipConfig,
}

impl Labeling<'_> {
    fn add_photograph(&self, photograph: usize, labels: &mut SeaClipLabels) -> Result<()> {
        let LabeledPhotograph { image, class: of_photograph } = self.photographs.get(photograph)?;
        if of_photograph == UNLABELED {
            let name = self.photographs.name(photograph)?;
            return Err(Error::input("photographs", format!("{name} has class {UNLABELED}, which means unlabelled")));
        }
        let rects = self.config.grid.patches(Size::of(&image));
        let rects = rects.map_err(|error| named(self.photographs, photograph, error))?;
        let background = self.config.background;
        let record =
            |rect, class, alternative, confidence| PatchRecord { photograph, rect, class, alternative, confidence };
        if of_photograph == background {
            labels.records.extend(rects.into_iter().map(|rect| record(rect, background, background, 1.0)));
            return Ok(());
        }
        let mut shows_class = false;
        let answers = self.answers(&image, &rects).map_err(|error| named(self.photographs, photograph, error))?;
        for (answer, &rect) in answers.into_iter().zip(&rects) {
            let Some(PseudoLabel { class: group, confidence }) = answer else {
                labels.abstained += 1;
                continue;
            };
            if group == self.config.background_group {
                labels.relabeled += 1;
                labels.records.push(record(rect, background, of_photograph, confidence));
            } else {
                shows_class = true;
                labels.records.push(record(rect, of_photograph, background, confidence));
            }
        }
        if !shows_class {
            labels.without_class.push(photograph);
        }
        Ok(())
    }

    /// One answer per patch.
    fn answers(&self, image: &RgbImage, rects: &[Rect]) -> Result<Vec<Option<PseudoLabel>>> {
        let mut answers = Vec::with_capacity(rects.len());
        cut_in_batches(image, rects, BATCH, |_, patches| {
            let batch = self.labeler.label(patches)?;
            if batch.len() != patches.len() {
                let expected = format!("{} patches", patches.len());
                return Err(Error::shape("pseudo-labels", expected, batch.len().to_string()));
            }
            answers.extend(batch);
            Ok(())
        })?;
        for PseudoLabel { class, confidence } in answers.iter().flatten() {
            if !(0.0..=1.0).contains(confidence) {
                let reason = format!("expected a confidence in 0..=1, got {confidence}");
                return Err(Error::input("pseudo-labels", reason));
            }
            if *class == UNLABELED {
                let reason = format!("class {UNLABELED} means unlabelled; expected no label");
                return Err(Error::input("pseudo-labels", reason));
            }
        }
        Ok(answers)
    }
}

/// Trains a classifier of patches on labels that a [`PseudoLabeler`] and the photographs' classes give together.
///
/// [`seaclip_labels`] makes the labels, once; [`RecordedPatches`](crate::RecordedPatches) turns them into a data set.
///
/// # Examples
/// ```
/// use coral_weak::{SeaClip, SeaClipConfig};
/// assert!(SeaClip::new(SeaClipConfig::default()).is_ok());
/// let error = SeaClip::new(SeaClipConfig { background: 255, ..Default::default() }).unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `background`: 255 means unlabelled; expected a class");
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
#[derive(Debug, Clone, PartialEq)]
pub struct SeaClip {
    config: SeaClipConfig,
}

impl SeaClip {
    /// A training with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(config: SeaClipConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// [`seaclip_labels`] with these settings.
    ///
    /// # Errors
    /// Those of [`seaclip_labels`].
    pub fn label(
        &self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labeler: &dyn PseudoLabeler,
        progress: &dyn Progress,
    ) -> Result<SeaClipLabels> {
        seaclip_labels(photographs, labeler, &self.config, progress)
    }

    /// Runs all epochs, from the first one set. `progress` counts epochs.
    ///
    /// `observe` gets every epoch's number and report and the classifier after it, to validate it, to save a checkpoint or
    /// to end the training with [`ControlFlow::Break`]. Whoever stores the classifier and its optimiser there, loads them
    /// later and sets `start_epoch` to the next epoch gets what an uninterrupted training gives.
    ///
    /// # Errors
    /// Those of [`SeaClip::epoch`] and of `observe`.
    pub fn fit<M: TrainPatchClassifier + ?Sized>(
        &self,
        model: &mut M,
        patches: &dyn Dataset<Item = LabeledPatch>,
        progress: &dyn Progress,
        mut observe: impl FnMut(usize, &EpochReport, &mut M) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<EpochReport>> {
        let epochs = self.config.start_epoch..self.config.epochs;
        let mut reports = Vec::new();
        progress.start(epochs.len() as u64, "epochs");
        let trained = epochs.into_iter().try_for_each(|epoch| {
            let report = self.epoch(model, patches, epoch).map_err(Some)?;
            reports.push(report);
            progress.advance(1);
            match observe(epoch, &report, model) {
                Ok(ControlFlow::Continue(())) => Ok(()),
                Ok(ControlFlow::Break(())) => Err(None),
                Err(error) => Err(Some(error)),
            }
        });
        progress.finish();
        match trained {
            Err(Some(error)) => Err(error),
            _ => Ok(reports),
        }
    }

    /// Runs one epoch.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without patches; those of the classifier.
    pub fn epoch<M: TrainPatchClassifier + ?Sized>(
        &self,
        model: &mut M,
        patches: &dyn Dataset<Item = LabeledPatch>,
        epoch: usize,
    ) -> Result<EpochReport> {
        let span = tracing::info_span!("sea_clip", epoch);
        let _guard = span.enter();
        if patches.is_empty() {
            return Err(Error::input("patches", "at least one is needed, got none"));
        }
        let report = model.fit_epoch(patches, epoch_seed(self.config.seed, epoch))?;
        tracing::debug!(loss = report.loss, "trained");
        Ok(report)
    }
}
