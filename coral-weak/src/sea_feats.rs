use std::ops::ControlFlow;

use coral_core::{
    CellLabeler, ClassId, Dataset, EpochReport, Error, FeatureExtractor, FeatureMap, GridClassifier, LabeledPhotograph,
    Progress, Result, TrainGridClassifier,
};
use serde::{Deserialize, Serialize};

use crate::cell_counts::{CellCounts, CountingLabeler};
use crate::epochs::{check_epochs, epoch_seed};
use crate::photographs::{Observed, check_class, check_classes, named};
use crate::{
    Centered, FeatureCenter, SimilarityConfig, SimilarityLabeler, TemplateBundler, Templates, refine_templates,
};

/// Settings of [`SeaFeats`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeaFeatsConfig {
    /// How patches are told from background.
    pub similarity: SimilarityConfig,
    /// Whether templates and cells are compared less the mean of all features ([`FeatureCenter`]), with a threshold to
    /// match, e.g. -1; not so as published.
    pub centered: bool,
    /// How often the templates are taken again from those cells alone that they label ([`refine_templates`]); 0 as
    /// published. Both this and `centered` hold the features of all photographs in memory.
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
    /// The templates that this epoch's labels were taken with: C vectors of the D values of the classifier's features,
    /// less the centre if there is one, and after all refinements.
    pub templates: Templates,
    /// What was taken off the L2-normalised features before they were compared: D values; none unless
    /// [`SeaFeatsConfig::centered`].
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
/// labelled as background are needed. Two options are not in the paper: [`SeaFeatsConfig::centered`] and
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
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(config: SeaFeatsConfig) -> Result<Self> {
        config.similarity.validate()?;
        check_epochs(config.start_epoch, config.epochs)?;
        Ok(Self { config })
    }

    /// Runs all epochs, from the first one set.
    ///
    /// `observe` gets every epoch and the classifier after it, to save a checkpoint or to end the training with
    /// [`ControlFlow::Break`]. Whoever stores the classifier and its optimiser there, loads them later and sets
    /// `start_epoch` to the next epoch gets what an uninterrupted training gives.
    ///
    /// # Errors
    /// Those of [`SeaFeats::epoch`] and of `observe`.
    pub fn fit<M: TrainGridClassifier + ?Sized>(
        &self,
        model: &mut M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
        mut observe: impl FnMut(&SeaFeatsEpoch, &M) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<SeaFeatsEpoch>> {
        let mut epochs = Vec::new();
        for epoch in self.config.start_epoch..self.config.epochs {
            let done = self.epoch(model, photographs, epoch, progress)?;
            let flow = observe(&done, model)?;
            epochs.push(done);
            if flow.is_break() {
                break;
            }
        }
        Ok(epochs)
    }

    /// Runs one epoch: features and templates of all photographs, then one pass of training. `progress` counts
    /// photographs, of each of the two.
    ///
    /// # Errors
    /// Before any training, those of [`bundle_templates`]; [`Error::InvalidInput`] when a class, the background among
    /// them, has no photograph; [`Error::InvalidParameter`] when the background is past the classifier's classes or it
    /// has one alone. Then those of [`TrainGridClassifier::fit_epoch`].
    pub fn epoch<M: TrainGridClassifier + ?Sized>(
        &self,
        model: &mut M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        epoch: usize,
        progress: &dyn Progress,
    ) -> Result<SeaFeatsEpoch> {
        let span = tracing::info_span!("sea_feats", epoch);
        let _guard = span.enter();
        let num_classes = model.num_classes();
        let background = self.config.similarity.background;
        let labeling = self.labeling(&*model, photographs, progress)?;
        let labeler = labeling.labeler(self.config.similarity)?;
        let counting = CountingLabeler::new(&*labeler, num_classes, background);
        let observed = Observed::new(photographs, progress);
        progress.start(photographs.len() as u64, "training photographs");
        let report = model.fit_epoch(&observed, &counting, epoch_seed(self.config.seed, epoch));
        progress.finish();
        let (report, labels) = (report?, counting.counts());
        tracing::debug!(loss = report.loss, relabeled = labels.relabeled_share(), "trained");
        let Labeling { photographs, templates, center } = labeling;
        Ok(SeaFeatsEpoch { epoch, report, templates, center, labels, photographs })
    }

    /// What labels cells in the next epoch, by templates of the D×h×w features that `model` sees now. `progress` counts
    /// photographs.
    ///
    /// # Errors
    /// Those of [`SeaFeats::epoch`] before any training.
    pub fn cell_labeler<M: GridClassifier + ?Sized>(
        &self,
        model: &M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
    ) -> Result<Box<dyn CellLabeler>> {
        self.labeling(model, photographs, progress)?.labeler(self.config.similarity)
    }

    fn labeling<M: GridClassifier + ?Sized>(
        &self,
        model: &M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
    ) -> Result<Labeling> {
        let mut kept = Vec::new();
        let bundler = bundle(model, model.num_classes(), photographs, progress, |features, class| {
            if self.config.centered || self.config.refinements > 0 {
                kept.push((features, class));
            }
        })?;
        check_classes(bundler.photographs(), self.config.similarity.background)?;
        self.labeling_by(&bundler, kept)
    }

    fn labeling_by(&self, bundler: &TemplateBundler, mut kept: Vec<(FeatureMap, ClassId)>) -> Result<Labeling> {
        let SeaFeatsConfig { similarity, centered, refinements, .. } = self.config;
        let mut templates = bundler.finish()?;
        let mut center = None;
        if centered {
            let found = bundler.center()?;
            let mut bundler = TemplateBundler::new(templates.num_classes(), templates.dim())?;
            for (features, class) in &mut kept {
                *features = found.apply(features)?;
                bundler.add(features, *class)?;
            }
            templates = bundler.finish()?;
            center = Some(found);
        }
        for _ in 0..refinements {
            templates = refine_templates(&templates, &kept, &similarity)?;
        }
        Ok(Labeling { photographs: bundler.photographs().to_vec(), templates, center })
    }
}

/// What labels the cells in an epoch.
struct Labeling {
    /// Photographs per class.
    photographs: Vec<u64>,
    templates: Templates,
    center: Option<FeatureCenter>,
}

impl Labeling {
    fn labeler(&self, similarity: SimilarityConfig) -> Result<Box<dyn CellLabeler>> {
        let labeler = SimilarityLabeler::new(self.templates.clone(), similarity)?;
        Ok(match self.center.clone() {
            Some(center) => Box::new(Centered { center, labeler }),
            None => Box::new(labeler),
        })
    }
}

/// The mean feature vectors of all photographs, by class: C of D values. `progress` counts photographs.
///
/// # Errors
/// [`Error::InvalidInput`] naming the photograph whose class is past the last or whose features hold NaN, or when
/// there is no photograph; [`Error::ShapeMismatch`] when features do not have the length that `extractor` promises;
/// [`Error::InvalidParameter`] for no class, more than 255, or no feature; the errors of `extractor` and of loading a
/// photograph.
pub fn bundle_templates<E: FeatureExtractor + ?Sized>(
    extractor: &E,
    num_classes: usize,
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    progress: &dyn Progress,
) -> Result<TemplateBundler> {
    bundle(extractor, num_classes, photographs, progress, |_, _| ())
}

/// The same; `keep` gets the features of every photograph.
fn bundle<E: FeatureExtractor + ?Sized>(
    extractor: &E,
    num_classes: usize,
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    progress: &dyn Progress,
    mut keep: impl FnMut(FeatureMap, ClassId),
) -> Result<TemplateBundler> {
    if photographs.is_empty() {
        return Err(Error::input("photographs", "at least one is needed, got none"));
    }
    let mut bundler = TemplateBundler::new(num_classes, extractor.dim())?;
    progress.start(photographs.len() as u64, "photographs");
    let mut add = |index: usize| {
        let photograph = photographs.get(index)?;
        check_class(photographs, index, photograph.class, num_classes)?;
        let features = extractor.extract(&photograph.image)?;
        bundler.add(&features, photograph.class).map_err(|error| named(photographs, index, error))?;
        keep(features, photograph.class);
        progress.advance(1);
        Ok(())
    };
    // One after the other: the extractor is parallel itself, and photographs are large.
    let added = (0..photographs.len()).try_for_each(&mut add);
    progress.finish();
    added.map(|()| bundler)
}
