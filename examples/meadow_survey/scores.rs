use std::path::Path;

use coral_core::image::imageops;
use coral_core::{
    ClassId, ClassSet, Dataset, Error, LabelMap, LabeledPhotograph, Metric, PatchClassifier, Result, write_atomically,
};
use coral_io::{CoarseStyle, overlay_coarse_map, with_legend, write_coarse_map, write_image};
use coral_metrics::{ClassMean, ConfusionMatrix};
use coral_weak::classify_patches;

use super::{Plan, Survey};

/// A name and a classifier.
pub type Method<'a> = (&'static str, &'a dyn PatchClassifier);

/// How well a method classifies patches.
#[derive(Debug, Clone)]
pub struct Scores {
    /// The method.
    pub name: &'static str,
    /// F1 of every class; `None` of one that neither occurs nor is predicted.
    pub f1: Vec<Option<f64>>,
    /// Their mean, weighted by the patches of each class.
    pub weighted_f1: f64,
}

/// Patches that are classified at a time.
const BATCH: usize = 64;

impl Scores {
    /// Of a method on patches with their true class, which are read a few at a time.
    ///
    /// # Errors
    /// When a patch cannot be read, the classifier fails, or a class is none of `classes`.
    pub fn of(
        (name, classifier): Method<'_>,
        patches: &dyn Dataset<Item = LabeledPhotograph>,
        classes: &ClassSet,
    ) -> Result<Self> {
        let (mut predicted, mut truth) = (Vec::new(), Vec::new());
        for first in (0..patches.len()).step_by(BATCH) {
            let batch = (first..patches.len().min(first + BATCH)).map(|index| patches.get(index));
            let batch = batch.collect::<Result<Vec<_>>>()?;
            truth.extend(batch.iter().map(|patch| patch.class));
            let images: Vec<_> = batch.into_iter().map(|patch| patch.image).collect();
            let probabilities = classifier.classify(&images)?;
            predicted.extend(probabilities.rows().into_iter().map(|row| {
                (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best }) as ClassId
            }));
        }
        Self::of_labels(name, predicted, truth, classes)
    }

    /// Of labels against the true classes.
    ///
    /// # Errors
    /// When their numbers differ, or a class is none of `classes`.
    pub fn of_labels(
        name: &'static str,
        labels: Vec<ClassId>,
        truth: Vec<ClassId>,
        classes: &ClassSet,
    ) -> Result<Self> {
        let row = |list: Vec<ClassId>| LabelMap::from_shape_vec((1, list.len()), list).map_err(Error::model);
        let mut matrix = ConfusionMatrix::new(classes.num_ids())?;
        matrix.update(&row(labels)?, &row(truth)?)?;
        let weighted_f1 = matrix.mean_f1(ClassMean::Weighted).unwrap_or(0.0);
        Ok(Self { name, f1: matrix.f1(), weighted_f1 })
    }
}

/// F1 of every class and its weighted mean, in percent, a line per method.
pub fn score_table(scores: &[Scores], classes: &ClassSet) -> String {
    let names = classes.iter().map(|class| format!(" {:>10}", class.name)).collect::<String>();
    let mut text = format!("{:18}{names} {:>10}\n", "", "weighted");
    for Scores { name, f1, weighted_f1 } in scores {
        let cell = |value: &Option<f64>| value.map_or(format!(" {:>10}", "-"), |v| format!(" {:>10.1}", 100.0 * v));
        text += &format!("{name:18}{} {:>10.1}\n", f1.iter().map(cell).collect::<String>(), 100.0 * weighted_f1);
    }
    text
}

/// The same numbers, as fractions, in a CSV file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_scores(path: &Path, scores: &[Scores], classes: &ClassSet) -> Result<()> {
    let number = |value: Option<f64>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let names = classes.iter().map(|class| class.name.as_str());
        csv.write_record(std::iter::once("method").chain(names).chain(["weighted"]))?;
        for Scores { name, f1, weighted_f1 } in scores {
            let numbers = f1.iter().copied().chain([Some(*weighted_f1)]).map(number);
            csv.write_record(std::iter::once(name.to_string()).chain(numbers))?;
        }
        csv.flush()
    })
}

/// Writes the test photographs to `test/`, and beside it a map of each, as a picture and a table.
///
/// # Errors
/// When a photograph cannot be read or is too small for the grid, or a file cannot be written.
pub fn write_maps<D: Dataset<Item = LabeledPhotograph>>(
    out: &Path,
    survey: &Survey<D>,
    plan: &Plan,
    classifier: &dyn PatchClassifier,
) -> Result<()> {
    crate::make_folder(&out.join("test"))?;
    for index in 0..survey.test.len() {
        let number = index + 1;
        let photograph = survey.test.get(index)?.image;
        write_image(out.join(format!("test/photo_{number}.png")), &photograph)?;
        let map = classify_patches(classifier, &photograph, &plan.grid, BATCH)?;
        write_coarse_map(out.join(format!("map_{number}.csv")), &map, &survey.classes)?;
        let picture = overlay_coarse_map(&photograph, &map, &survey.classes, &CoarseStyle::default())?;
        let (width, height) = picture.dimensions();
        // Small photographs are doubled so that the legend can be read.
        let scale = if width < 640 { 2 } else { 1 };
        let picture = imageops::resize(&picture, scale * width, scale * height, imageops::FilterType::Nearest);
        let labels = map.label_map(&map.classes())?;
        let labels = LabelMap::from_shape_fn((picture.height() as usize, picture.width() as usize), |(y, x)| {
            labels[[y / scale as usize, x / scale as usize]]
        });
        write_image(out.join(format!("map_{number}.png")), &with_legend(&picture, &labels, &survey.classes)?)?;
    }
    Ok(())
}
