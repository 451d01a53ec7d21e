use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coral_core::{
    CellLabeler, ClassId, Dataset, EpochReport, Error, FeatureExtractor, FeatureMap, GridClassifier, LabelMap,
    LabeledPhotograph, Progress, Result, SeededRng, TrainGridClassifier, UNLABELED,
};
use serde::{Deserialize, Serialize};

use crate::{Centered, SimilarityConfig, SimilarityLabeler, TemplateBundler, Templates, refine_templates};

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

/// The labels that patches got while a classifier was trained on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellCounts {
    /// Patches per class.
    pub labeled: Vec<u64>,
    /// Patches without label.
    pub abstained: u64,
    /// Patches of photographs of other classes that were labelled background.
    pub relabeled: u64,
    /// Patches of photographs of other classes than background.
    pub foreground: u64,
}

impl CellCounts {
    /// The share of the patches in photographs of other classes that became background, 0..=1.
    ///
    /// A training that works settles at the true share; 0 or 1 throughout says that the features do not tell classes
    /// apart.
    pub fn relabeled_share(&self) -> f64 {
        self.relabeled as f64 / self.foreground.max(1) as f64
    }
}

/// What one epoch of [`SeaFeats`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeaFeatsEpoch {
    /// Which epoch, from 0.
    pub epoch: usize,
    /// What the classifier reports.
    pub report: EpochReport,
    /// The templates that this epoch's labels were taken with (of centred features, if they are).
    pub templates: Templates,
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

    /// Runs one epoch: features and templates of all photographs, then one pass of training.
    ///
    /// # Errors
    /// Those of [`bundle_templates`], before any training; those of the classifier.
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
        let Labeling { photographs: counts, templates, labeler } = self.labeling(&*model, photographs, progress)?;
        let counting = CountingLabeler::new(&*labeler, num_classes, background);
        let observed = Observed::new(photographs, progress);
        progress.start(photographs.len() as u64, "training photographs");
        let report = model.fit_epoch(&observed, &counting, epoch_seed(self.config.seed, epoch));
        progress.finish();
        let (report, labels) = (report?, counting.counts());
        tracing::debug!(loss = report.loss, relabeled = labels.relabeled_share(), "trained");
        Ok(SeaFeatsEpoch { epoch, report, templates, labels, photographs: counts })
    }

    /// What labels cells in the next epoch, by templates of the features that `model` sees now.
    ///
    /// # Errors
    /// As [`SeaFeats::epoch`].
    pub fn cell_labeler<M: GridClassifier + ?Sized>(
        &self,
        model: &M,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
    ) -> Result<Box<dyn CellLabeler>> {
        Ok(self.labeling(model, photographs, progress)?.labeler)
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
        let labeler = SimilarityLabeler::new(templates.clone(), similarity)?;
        let labeler: Box<dyn CellLabeler> = match center {
            Some(center) => Box::new(Centered { center, labeler }),
            None => Box::new(labeler),
        };
        Ok(Labeling { photographs: bundler.photographs().to_vec(), templates, labeler })
    }
}

/// What labels the cells in an epoch.
struct Labeling {
    /// Photographs per class.
    photographs: Vec<u64>,
    templates: Templates,
    labeler: Box<dyn CellLabeler>,
}

/// Checks the passes of a training loop.
pub(crate) fn check_epochs(start: usize, epochs: usize) -> Result<()> {
    if epochs == 0 {
        return Err(Error::parameter("epochs", "expected at least 1, got 0"));
    }
    if start > epochs {
        return Err(Error::parameter("start_epoch", format!("expected at most `epochs` = {epochs}, got {start}")));
    }
    Ok(())
}

/// The seed of one epoch: does not depend on the epochs before, so that a training can be resumed.
pub(crate) fn epoch_seed(seed: u64, epoch: usize) -> u64 {
    SeededRng::stream(seed, epoch as u64).bits()
}

/// The mean feature vectors of all photographs, by class. `progress` counts photographs.
///
/// # Errors
/// [`Error::InvalidInput`] naming the photograph whose class is past the last or whose features hold NaN, or when
/// there is no photograph; the errors of `extractor` and of loading a photograph.
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
        bundler.add(&features, photograph.class).map_err(|error| match (error, photographs.name(index)) {
            (Error::InvalidInput { what, reason }, Ok(name)) => Error::input(what, format!("{name}: {reason}")),
            (error, _) => error,
        })?;
        keep(features, photograph.class);
        progress.advance(1);
        Ok(())
    };
    // One after the other: the extractor is parallel itself, and photographs are large.
    let added = (0..photographs.len()).try_for_each(&mut add);
    progress.finish();
    added.map(|()| bundler)
}

/// Checks that a photograph's class is one of the classifier's.
pub(crate) fn check_class(
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    index: usize,
    class: ClassId,
    num_classes: usize,
) -> Result<()> {
    if usize::from(class) < num_classes {
        return Ok(());
    }
    let name = photographs.name(index)?;
    let reason = format!("{name} has class {class}; expected a class below {num_classes}");
    Err(Error::input("photographs", reason))
}

/// Checks that every class, the background among them, has photographs.
fn check_classes(photographs: &[u64], background: ClassId) -> Result<()> {
    let fail = |reason: String| Err(Error::input("photographs", reason));
    if usize::from(background) >= photographs.len() {
        let reason = format!("{background} is past the classifier's {} classes", photographs.len());
        return Err(Error::parameter("background", reason));
    }
    if photographs.len() == 1 {
        return Err(Error::parameter("num_classes", "the classifier has one class; expected background and another"));
    }
    if photographs[usize::from(background)] == 0 {
        return fail(format!("none is labelled background (class {background}); its template needs at least one"));
    }
    let present = photographs.iter().filter(|&&count| count > 0).count();
    if present == 1 {
        return fail("all have the same class; expected background and at least one other".into());
    }
    match photographs.iter().position(|&count| count == 0) {
        Some(class) => fail(format!("none has class {class}; every class of the classifier needs at least one")),
        None => Ok(()),
    }
}

/// Passes labels on and counts them.
struct CountingLabeler<'a> {
    labeler: &'a dyn CellLabeler,
    background: ClassId,
    labeled: Vec<AtomicU64>,
    abstained: AtomicU64,
    relabeled: AtomicU64,
    foreground: AtomicU64,
}

impl<'a> CountingLabeler<'a> {
    fn new(labeler: &'a dyn CellLabeler, num_classes: usize, background: ClassId) -> Self {
        let zero = AtomicU64::default;
        let labeled = (0..num_classes).map(|_| zero()).collect();
        Self { labeler, background, labeled, abstained: zero(), relabeled: zero(), foreground: zero() }
    }

    fn counts(&self) -> CellCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CellCounts {
            labeled: self.labeled.iter().map(read).collect(),
            abstained: read(&self.abstained),
            relabeled: read(&self.relabeled),
            foreground: read(&self.foreground),
        }
    }
}

impl CellLabeler for CountingLabeler<'_> {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        let labels = self.labeler.label_cells(features, class)?;
        let add = |count: &AtomicU64| _ = count.fetch_add(1, Ordering::Relaxed);
        for &label in &labels {
            match self.labeled.get(usize::from(label)) {
                Some(count) => add(count),
                None if label == UNLABELED => add(&self.abstained),
                None => {}
            }
            if class != self.background {
                add(&self.foreground);
                if label == self.background {
                    add(&self.relabeled);
                }
            }
        }
        Ok(labels)
    }
}

/// Reports the photographs that are loaded, the first time: a classifier may ask for one several times.
struct Observed<'a> {
    photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
    progress: &'a dyn Progress,
    seen: Vec<AtomicBool>,
}

impl<'a> Observed<'a> {
    fn new(photographs: &'a dyn Dataset<Item = LabeledPhotograph>, progress: &'a dyn Progress) -> Self {
        Self { photographs, progress, seen: (0..photographs.len()).map(|_| AtomicBool::new(false)).collect() }
    }
}

impl Dataset for Observed<'_> {
    type Item = LabeledPhotograph;

    fn len(&self) -> usize {
        self.photographs.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        let photograph = self.photographs.get(index)?;
        if self.seen.get(index).is_some_and(|seen| !seen.swap(true, Ordering::Relaxed)) {
            self.progress.advance(1);
        }
        Ok(photograph)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.photographs.name(index)
    }
}
