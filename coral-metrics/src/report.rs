use std::collections::BTreeMap;
use std::fmt;

use coral_core::{ClassId, ClassSet};
use serde::Serialize;

use crate::class_mean::mean;
use crate::{ClassMean, ConfusionMatrix};

/// All measures of a [`ConfusionMatrix`], to be written as JSON or shown as a table
/// ([`Display`](fmt::Display)).
///
/// Listed are the classes of the class set and all others that occur in the target or among the predictions.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// use coral_metrics::{ConfusionMatrix, Report};
/// let matrix = ConfusionMatrix::from_counts(array![[3, 1], [0, 4]])?;
/// let report = Report::new(&matrix, &ClassSet::from_names(["sand", "coral"])?);
/// assert_eq!(report.pixel_accuracy, Some(0.875));
/// assert_eq!(report.per_class[&1].name, "coral");
/// assert_eq!(report.per_class[&1].iou, Some(0.8));
/// assert!(report.to_string().starts_with("class"));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Share of the scored pixels that are right.
    pub pixel_accuracy: Option<f64>,
    /// Mean IoU over the classes present in the target.
    pub mean_iou: Option<f64>,
    /// Mean F1 (= Dice) over the classes present in the target.
    pub mean_f1: Option<f64>,
    /// Mean recall over the classes present in the target.
    pub mean_class_accuracy: Option<f64>,
    /// Mean IoU weighted by target pixels.
    pub frequency_weighted_iou: Option<f64>,
    /// Cohen's kappa.
    pub kappa: Option<f64>,
    /// Matthews correlation coefficient.
    pub mcc: Option<f64>,
    /// Mean absolute error of percent cover over the listed classes, in percentage points.
    pub cover_error: Option<f64>,
    /// Pixels with a target.
    pub scored_pixels: u64,
    /// Scored pixels without prediction.
    pub unpredicted_pixels: u64,
    /// The listed classes by id.
    pub per_class: BTreeMap<ClassId, ClassReport>,
}

/// One class of a [`Report`]; measures are `None` where there is nothing to divide by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// The id in label maps.
    pub id: ClassId,
    /// The name, or the id when the class set does not hold it.
    pub name: String,
    /// Intersection over union.
    pub iou: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Share of the pixels predicted as this class that are right.
    pub precision: Option<f64>,
    /// Share of the target pixels that are found.
    pub recall: Option<f64>,
    /// Dice coefficient, for label maps the same as F1.
    pub dice: Option<f64>,
    /// Scored pixels of this class in the target.
    pub target_pixels: u64,
    /// Scored pixels predicted as this class.
    pub predicted_pixels: u64,
    /// Percent of the scored pixels that are this class.
    pub target_cover: Option<f64>,
    /// Percent of the scored pixels that are predicted as this class.
    pub predicted_cover: Option<f64>,
}

impl Report {
    /// The measures of `matrix`, with the names of `classes`.
    pub fn new(matrix: &ConfusionMatrix, classes: &ClassSet) -> Self {
        let per_class = class_reports(matrix, classes);
        let bias = per_class.values().map(|class| Some((class.predicted_cover? - class.target_cover?).abs()));
        Self {
            pixel_accuracy: matrix.pixel_accuracy(),
            mean_iou: matrix.mean_iou(ClassMean::PresentInTarget),
            mean_f1: matrix.mean_f1(ClassMean::PresentInTarget),
            mean_class_accuracy: matrix.mean_class_accuracy(),
            frequency_weighted_iou: matrix.frequency_weighted_iou(),
            kappa: matrix.kappa(),
            mcc: matrix.mcc(),
            cover_error: mean(bias.flatten()),
            scored_pixels: matrix.total(),
            unpredicted_pixels: matrix.unpredicted().iter().sum(),
            per_class,
        }
    }
}

fn class_reports(matrix: &ConfusionMatrix, classes: &ClassSet) -> BTreeMap<ClassId, ClassReport> {
    let mut ids = matrix.classes();
    ids.extend(classes.iter().map(|class| class.id).filter(|&id| usize::from(id) < matrix.num_classes()));
    let (iou, f1, dice) = (matrix.iou(), matrix.f1(), matrix.dice());
    let (precision, recall) = (matrix.precision(), matrix.recall());
    let (support, predicted) = (matrix.support(), matrix.predicted());
    let (target_cover, predicted_cover) = (matrix.target_cover(), matrix.predicted_cover());
    let report = |id: ClassId| {
        let at = usize::from(id);
        let class = ClassReport {
            id,
            name: classes.name(id),
            iou: iou[at],
            f1: f1[at],
            precision: precision[at],
            recall: recall[at],
            dice: dice[at],
            target_pixels: support[at],
            predicted_pixels: predicted[at],
            target_cover: target_cover.as_ref().map(|cover| cover[at]),
            predicted_cover: predicted_cover.as_ref().map(|cover| cover[at]),
        };
        (id, class)
    };
    ids.into_iter().map(report).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>, digits| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let label = |class: &ClassReport| {
            let id = class.id.to_string();
            if class.name == id { id } else { format!("{id} {}", class.name) }
        };
        let width = self.per_class.values().map(|class| label(class).chars().count()).max().unwrap_or(0).max(5);
        let heads = ["target %", "predicted %", "IoU", "F1", "precision", "recall"];
        writeln!(f, "{:width$}  {}", "class", heads.map(|head| format!("{head:>11}")).join(" "))?;
        for class in self.per_class.values() {
            let covers = [class.target_cover, class.predicted_cover].map(|value| number(value, 2));
            let scores = [class.iou, class.f1, class.precision, class.recall].map(|value| number(value, 4));
            let cells: Vec<_> = covers.iter().chain(&scores).map(|cell| format!("{cell:>11}")).collect();
            writeln!(f, "{:width$}  {}", label(class), cells.join(" "))?;
        }
        writeln!(f)?;
        for (name, value) in [
            ("pixel accuracy", self.pixel_accuracy),
            ("mean IoU (classes in the target)", self.mean_iou),
            ("mean F1 (classes in the target)", self.mean_f1),
            ("mean class accuracy", self.mean_class_accuracy),
            ("frequency-weighted IoU", self.frequency_weighted_iou),
            ("Cohen's kappa", self.kappa),
            ("Matthews correlation", self.mcc),
        ] {
            writeln!(f, "{name:<36}{:>9}", number(value, 4))?;
        }
        writeln!(f, "{:<36}{:>9}", "cover error (percentage points)", number(self.cover_error, 2))?;
        write!(f, "{} pixels scored, {} of them without prediction", self.scored_pixels, self.unpredicted_pixels)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_table_lists_named_and_occurring_classes() {
        let matrix = ConfusionMatrix::from_counts(array![[3, 1, 0, 0], [0, 4, 0, 2], [0; 4], [0; 4]]).unwrap();
        let classes = ClassSet::from_names(["sand", "coral", "seagrass"]).unwrap();
        let report = Report::new(&matrix, &classes);
        assert_eq!(report.per_class.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(report.mean_iou, Some((3.0 / 4.0 + 4.0 / 7.0) / 2.0));
        assert_eq!(report.cover_error, Some(10.0 * (1.0 + 1.0 + 0.0 + 2.0) / 4.0));
        let text = report.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "class          target % predicted %         IoU          F1   precision      recall");
        assert_eq!(lines[3], "2 seagrass         0.00        0.00           -           -           -           -");
        assert_eq!(lines[4], "3                  0.00       20.00      0.0000      0.0000      0.0000           -");
        assert_eq!(lines[6], "pixel accuracy                         0.7000");
        assert_eq!(lines.last().unwrap(), &"10 pixels scored, 0 of them without prediction");
    }

    #[test]
    fn a_report_on_nothing_is_all_none() {
        let report = Report::new(&ConfusionMatrix::new(40).unwrap(), &ClassSet::default());
        assert!(report.per_class.is_empty());
        assert_eq!((report.pixel_accuracy, report.mean_iou, report.cover_error), (None, None, None));
    }

    #[test]
    fn classes_beyond_the_matrix_are_not_listed() {
        let classes = ClassSet::from_names(["a", "b", "c"]).unwrap();
        assert_eq!(Report::new(&ConfusionMatrix::new(2).unwrap(), &classes).per_class.len(), 2);
    }
}
