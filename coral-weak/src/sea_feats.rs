use std::ops::ControlFlow;

use coral_core::{Dataset, EpochReport, FeatureExtractor, LabeledPhotograph, Progress, Result, TrainGridClassifier};
use serde::{Deserialize, Serialize};

use crate::epochs::{check_epochs, epoch_seed};
use crate::photographs::Observed;
use crate::{CellCounts, FeatureCenter, SeaFeatsLabels, SimilarityConfig, Templates};

/// Settings of [`SeaFeats`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeaFeatsConfig {
    /// How patches are told from background.
    pub similarity: SimilarityConfig,
    /// Whether templates and cells are compared less the mean of all features ([`FeatureCenter`]), with a threshold to
    /// match, e.g. -1; not so as published.
    pub centered: bool,
    /// How often the templates are taken again from those cells alone that they label ([`refine_templates`](crate::refine_templates)); 0 as
    /// published.
    pub refinements: usize,
    /// Passes over the photographs, at least 1.
    pub epochs: usize,
    /// The first pass; above 0 to go on where an interrupted training stopped.
    pub start_epoch: usize,
    /// Fixes the order of the photographs, and whatever else the classifier draws.
    pub seed: u64,
}

impl Default for SeaFeatsConfig {
    /// The paper's 150 epochs, threshold 0.6.
    fn default() -> Self {
        Self {
            similarity: SimilarityConfig::default(),
            centered: false,
            refinements: 0,
            epochs: 150,
            start_epoch: 0,
            seed: 0,
        }
    }
}

/// What one epoch of [`SeaFeats`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeaFeatsEpoch {
    /// Which epoch, from 0.
    pub epoch: usize,
    /// What the classifier reports.
    pub report: EpochReport,
    /// The templates that this epoch's labels were taken with: [`SeaFeatsLabels::templates`].
    pub templates: Templates,
    /// What was taken off the features before they were compared: [`SeaFeatsLabels::center`].
    pub center: Option<FeatureCenter>,
    /// The labels of this epoch.
    pub labels: CellCounts,
    /// Photographs per class.
    pub photographs: Vec<u64>,
}

/// Trains a classifier of patches from one label per photograph.
///
/// Every epoch takes the classifier's own features of all photographs, averages them to one template per class, and
/// then trains the classifier on labels that each patch gets by comparing its features with two templates: that of
/// its photograph's class and that of the background ([`similarity_labels`](crate::similarity_labels)). Photographs
/// labelled as background are needed.
///
/// That is [`SeaFeats::fit`], as published, for learning rates as small as the published 1e-5. A classifier that
/// learns faster soon sees its own mistakes in its features, and labels that follow them grow worse from epoch to
/// epoch; [`SeaFeats::fit_on`] keeps the labels that [`SeaFeats::label`] takes from features that nobody has told of
/// the labels yet, e.g. those of SimCLR. It is not in the paper, as are [`SeaFeatsConfig::centered`] and
/// [`SeaFeatsConfig::refinements`].
///
/// # Examples
/// ```
/// use coral_weak::{SeaFeats, SeaFeatsConfig};
/// assert!(SeaFeats::new(SeaFeatsConfig::default()).is_ok());
/// let error = SeaFeats::new(SeaFeatsConfig { epochs: 0, ..Default::default() }).unwrap_err();
/// assert_eq!(error.to_string(), "invalid parameter `epochs`: expected at least 1, got 0");
/// ```
///
/// # References
/// Raine et al., *Image labels are all you need for coarse seagrass segmentation*, WACV 2024.
#[derive(Debug, Clone, PartialEq)]
pub struct SeaFeats {
    config: SeaFeatsConfig,
}

impl SeaFeats {
    /// A training with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field.
    pub fn new(config: SeaFeatsConfig) -> Result<Self> {
        config.similarity.validate()?;
        check_epochs(config.start_epoch, config.epochs)?;
        Ok(Self { config })
    }

    /// Runs all epochs, from the first one set, and labels anew for each by what the classifier sees by then.
    ///
    /// `observe` gets every epoch and the classifier after it, to validate it, to save a checkpoint or to end the training
    /// with [`ControlFlow::Break`]. Whoever stores the classifier and its optimiser there, loads them later and sets
    /// `start_epoch` to the next epoch gets what an uninterrupted training gives. `progress` counts photographs, twice
    /// an epoch.
    ///
    /// # Errors
    /// Those of [`SeaFeats::label`], [`SeaFeats::epoch`] and `observe`.
    pub fn fit<M: TrainGridClassifier + ?Sized>(
        &self,
        model: &mut M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
        mut observe: impl FnMut(&SeaFeatsEpoch, &mut M) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<SeaFeatsEpoch>> {
        let classes = model.num_classes();
        self.run(|epoch| {
            let labels = self.label(&*model, classes, photographs, progress)?;
            let done = self.epoch(model, photographs, &labels, (epoch, progress))?;
            Ok((observe(&done, model)?, done))
        })
    }

    /// Runs all epochs, from the first one set, on the same labels. `progress` counts photographs, once an epoch;
    /// everything else is as in [`SeaFeats::fit`]. To go on where an interrupted training stopped takes the same labels
    /// again: those of the same features.
    ///
    /// # Errors
    /// Those of [`SeaFeats::epoch`] and of `observe`.
    pub fn fit_on<M: TrainGridClassifier + ?Sized>(
        &self,
        model: &mut M,
        (photographs, labels): (&dyn Dataset<Item = LabeledPhotograph>, &SeaFeatsLabels),
        progress: &dyn Progress,
        mut observe: impl FnMut(&SeaFeatsEpoch, &mut M) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<SeaFeatsEpoch>> {
        self.run(|epoch| {
            let done = self.epoch(model, photographs, labels, (epoch, progress))?;
            Ok((observe(&done, model)?, done))
        })
    }

    fn run(
        &self,
        mut epoch: impl FnMut(usize) -> Result<(ControlFlow<()>, SeaFeatsEpoch)>,
    ) -> Result<Vec<SeaFeatsEpoch>> {
        let mut epochs = Vec::new();
        for number in self.config.start_epoch..self.config.epochs {
            let span = tracing::info_span!("sea_feats", epoch = number);
            let (flow, done) = span.in_scope(|| epoch(number))?;
            epochs.push(done);
            if flow.is_break() {
                break;
            }
        }
        Ok(epochs)
    }

    /// Labels the cells of all photographs by templates of what `extractor` sees in them. `progress` counts photographs.
    ///
    /// The extractor may be the classifier that is going to learn them, or anything else with the same grid. The
    /// features of all photographs are held in memory: 4·D bytes a cell.
    ///
    /// # Errors
    /// Those of [`bundle_templates`](crate::bundle_templates);
    /// [`Error::InvalidInput`](coral_core::Error::InvalidInput) when one of the `num_classes` classes, the background
    /// among them, has no photograph; [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) when the
    /// background is past the classes or there is one alone.
    pub fn label<E: FeatureExtractor + ?Sized>(
        &self,
        extractor: &E,
        num_classes: usize,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
    ) -> Result<SeaFeatsLabels> {
        SeaFeatsLabels::of(&self.config, (extractor, num_classes), photographs, progress)
    }

    /// Runs one epoch on `labels`. `progress` counts photographs.
    ///
    /// # Errors
    /// Those of [`TrainGridClassifier::fit_epoch`].
    pub fn epoch<M: TrainGridClassifier + ?Sized>(
        &self,
        model: &mut M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labels: &SeaFeatsLabels,
        (epoch, progress): (usize, &dyn Progress),
    ) -> Result<SeaFeatsEpoch> {
        let observed = Observed::new(photographs, progress);
        progress.start(photographs.len() as u64, "training photographs");
        let report = model.fit_epoch(&observed, &labels.cells, epoch_seed(self.config.seed, epoch));
        progress.finish();
        let report = report?;
        tracing::debug!(loss = report.loss, relabeled = labels.counts.relabeled_share(), "trained");
        Ok(SeaFeatsEpoch {
            epoch,
            report,
            templates: labels.templates.clone(),
            center: labels.center.clone(),
            labels: labels.counts.clone(),
            photographs: labels.photographs.clone(),
        })
    }
}
