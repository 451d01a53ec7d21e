use coral_core::{
    CellLabeler, ClassId, Dataset, Error, FeatureExtractor, FeatureMap, LabelMap, LabeledPhotograph, Progress, Result,
};

use crate::photographs::{check_class, check_classes, named};
use crate::{
    CellCounts, Centered, FeatureCenter, SeaFeatsConfig, SimilarityConfig, SimilarityLabeler, TemplateBundler,
    Templates, refine_templates,
};

/// The labels of the cells of all photographs, and where they come from: [`SeaFeats::label`](crate::SeaFeats::label).
#[derive(Debug, Clone, PartialEq)]
pub struct SeaFeatsLabels {
    /// For each photograph the classes of its h×w cells.
    pub cells: Vec<LabelMap>,
    /// What the cells were compared with: C vectors of the D values of the features, less the centre if there is one, and
    /// after all refinements.
    pub templates: Templates,
    /// What was taken off the L2-normalised features before they were compared: D values; none unless
    /// [`SeaFeatsConfig::centered`].
    pub center: Option<FeatureCenter>,
    /// How many cells got which label.
    pub counts: CellCounts,
    /// Photographs per class.
    pub photographs: Vec<u64>,
    similarity: SimilarityConfig,
}

impl SeaFeatsLabels {
    /// What gave these labels, to label the cells of other photographs.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the templates were replaced by others without the background.
    pub fn labeler(&self) -> Result<Box<dyn CellLabeler>> {
        let labeler = SimilarityLabeler::new(self.templates.clone(), self.similarity)?;
        Ok(match self.center.clone() {
            Some(center) => Box::new(Centered { center, labeler }),
            None => Box::new(labeler),
        })
    }

    pub(crate) fn of<E: FeatureExtractor + ?Sized>(
        config: &SeaFeatsConfig,
        (extractor, num_classes): (&E, usize),
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let SeaFeatsConfig { similarity, centered, refinements, .. } = *config;
        let mut kept = Vec::with_capacity(photographs.len());
        let keep = |features, class| kept.push((features, class));
        let mut bundler = bundle((extractor, num_classes), photographs, progress, keep)?;
        let counted = bundler.photographs().to_vec();
        check_classes(&counted, similarity.background)?;
        let center = if centered { Some(bundler.center()?) } else { None };
        if let Some(center) = &center {
            bundler = TemplateBundler::new(num_classes, extractor.dim())?;
            for (features, class) in &mut kept {
                *features = center.apply(features)?;
                bundler.add(features, *class)?;
            }
        }
        let mut templates = bundler.finish()?;
        for _ in 0..refinements {
            templates = refine_templates(&templates, &kept, &similarity)?;
        }
        let labeler = SimilarityLabeler::new(templates.clone(), similarity)?;
        let mut counts = CellCounts::new(num_classes);
        let label = |(features, class): &(FeatureMap, ClassId)| {
            let labels = labeler.label_cells(features, *class)?;
            counts.add(&labels, *class, similarity.background);
            Ok(labels)
        };
        let cells = kept.iter().map(label).collect::<Result<_>>()?;
        Ok(Self { cells, templates, center, counts, photographs: counted, similarity })
    }
}

/// The labels that `labeler` gives to the cells of all photographs, by what `extractor` sees in them: what
/// [`TrainGridClassifier::fit_epoch`](coral_core::TrainGridClassifier::fit_epoch) learns from. `progress` counts
/// photographs.
///
/// # Errors
/// Those of loading a photograph, of the extractor and of the labeller, naming the photograph.
pub fn label_photographs<E: FeatureExtractor + ?Sized>(
    extractor: &E,
    labeler: &dyn CellLabeler,
    photographs: &dyn Dataset<Item = LabeledPhotograph>,
    progress: &dyn Progress,
) -> Result<Vec<LabelMap>> {
    progress.start(photographs.len() as u64, "photographs");
    let label = |index: usize| {
        let LabeledPhotograph { image, class } = photographs.get(index)?;
        let labels = extractor.extract(&image).and_then(|features| labeler.label_cells(&features, class));
        progress.advance(1);
        labels.map_err(|error| named(photographs, index, error))
    };
    let labels = (0..photographs.len()).map(label).collect();
    progress.finish();
    labels
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
    bundle((extractor, num_classes), photographs, progress, |_, _| ())
}

/// The same; `keep` gets the features of every photograph.
fn bundle<E: FeatureExtractor + ?Sized>(
    (extractor, num_classes): (&E, usize),
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
        let features = extractor.extract(&photograph.image).map_err(|error| named(photographs, index, error))?;
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
