use serde::{Deserialize, Serialize};

use crate::ConfusionMatrix;

/// What an average over classes averages, and what happens to classes without a value.
///
/// A class can lack a value because it is *absent* (neither in the target nor predicted) or because
/// the measure has nothing to divide by (the precision of a class that is never predicted). A class that is averaged
/// without having a value counts as 0, except where the variant says otherwise.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_metrics::{ClassMean, ConfusionMatrix};
/// // Class 2 is predicted where there is none, class 3 is absent.
/// let matrix = ConfusionMatrix::from_counts(array![[4, 0, 1, 0], [0, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])?;
/// let mean = |rule| (100.0 * matrix.mean_iou(rule).unwrap()).round();
/// assert_eq!(mean(ClassMean::PresentInTarget), 90.0); // (0.8 + 1) / 2
/// assert_eq!(mean(ClassMean::PresentInEither), 60.0); // (0.8 + 1 + 0) / 3
/// assert_eq!(mean(ClassMean::AbsentAsZero), 45.0); //    (0.8 + 1 + 0 + 0) / 4
/// assert_eq!(mean(ClassMean::AbsentAsOne), 70.0); //     (0.8 + 1 + 0 + 1) / 4
/// assert_eq!(mean(ClassMean::PointIsTheMask), 90.0); //  (0.8 + 1) / 2
/// assert_eq!(mean(ClassMean::Micro), 82.0); //           9 / (5 + 5 + 1)
/// assert_eq!(mean(ClassMean::Weighted), 90.0); //        (5 · 0.8 + 5 · 1) / 10
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClassMean {
    /// Over the classes with at least one scored target pixel (scikit-learn's balanced accuracy).
    #[default]
    PresentInTarget,
    /// Over the classes that occur in the target or among the predictions (torchmetrics' macro averages).
    PresentInEither,
    /// Over all K classes, absent ones as 0 (scikit-learn's macro averages with all labels and `zero_division=0`).
    AbsentAsZero,
    /// Over all K classes, absent ones as 1.
    AbsentAsOne,
    /// Over the classes whose value is not exactly 0, as the evaluation of *The point is the mask* does: a class
    /// that is missed altogether does not lower it.
    PointIsTheMask,
    /// No mean of values but the measure of the pooled counts of all classes.
    Micro,
    /// Over the classes in the target, each weighted by its target pixels.
    Weighted,
}

/// The pixels, or samples, of one class.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClassCounts {
    pub(crate) correct: u128,
    pub(crate) target: u128,
    pub(crate) predicted: u128,
}

/// Numerator and denominator of a measure.
pub(crate) type Measure = fn(ClassCounts) -> (u128, u128);

pub(crate) const IOU: Measure = |c| (c.correct, c.target + c.predicted - c.correct);
pub(crate) const F1: Measure = |c| (2 * c.correct, c.target + c.predicted);
pub(crate) const PRECISION: Measure = |c| (c.correct, c.predicted);
pub(crate) const RECALL: Measure = |c| (c.correct, c.target);

/// `None` instead of a division by zero.
pub(crate) fn ratio(numerator: u128, denominator: u128) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

/// `None` for the mean of nothing.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Measures per class (`None` where there is nothing to divide by) and their means.
impl ConfusionMatrix {
    /// Intersection over union (Jaccard index) of each class; `None` for absent classes.
    pub fn iou(&self) -> Vec<Option<f64>> {
        self.per_class(IOU)
    }

    /// F1 score of each class, the harmonic mean of precision and recall; `None` for absent classes.
    pub fn f1(&self) -> Vec<Option<f64>> {
        self.per_class(F1)
    }

    /// Dice coefficient of each class; for label maps the same number as [`f1`](Self::f1).
    pub fn dice(&self) -> Vec<Option<f64>> {
        self.f1()
    }

    /// Share of the pixels predicted as each class that are right (user's accuracy); `None` for classes never
    /// predicted.
    #[doc(alias = "users_accuracy")]
    pub fn precision(&self) -> Vec<Option<f64>> {
        self.per_class(PRECISION)
    }

    /// Share of each class's target pixels that are found (class accuracy, producer's accuracy); `None` for
    /// classes without target pixels.
    #[doc(alias = "accuracy")]
    #[doc(alias = "producers_accuracy")]
    pub fn recall(&self) -> Vec<Option<f64>> {
        self.per_class(RECALL)
    }

    /// Mean intersection over union; `None` when nothing is averaged.
    pub fn mean_iou(&self, rule: ClassMean) -> Option<f64> {
        self.average(IOU, rule)
    }

    /// Mean F1 score; `None` when nothing is averaged.
    pub fn mean_f1(&self, rule: ClassMean) -> Option<f64> {
        self.average(F1, rule)
    }

    /// Mean Dice coefficient; for label maps the same number as [`mean_f1`](Self::mean_f1).
    pub fn mean_dice(&self, rule: ClassMean) -> Option<f64> {
        self.mean_f1(rule)
    }

    /// Mean precision; `None` when nothing is averaged.
    pub fn mean_precision(&self, rule: ClassMean) -> Option<f64> {
        self.average(PRECISION, rule)
    }

    /// Mean recall; `None` when nothing is averaged.
    pub fn mean_recall(&self, rule: ClassMean) -> Option<f64> {
        self.average(RECALL, rule)
    }

    /// Mean recall over the classes in the target ([`ClassMean::PresentInTarget`]); `None` when nothing was scored.
    #[doc(alias = "balanced_accuracy")]
    pub fn mean_class_accuracy(&self) -> Option<f64> {
        self.mean_recall(ClassMean::PresentInTarget)
    }

    /// Mean IoU weighted by target pixels ([`ClassMean::Weighted`]); `None` when nothing was scored.
    pub fn frequency_weighted_iou(&self) -> Option<f64> {
        self.mean_iou(ClassMean::Weighted)
    }

    fn class_counts(&self) -> Vec<ClassCounts> {
        let pixels = self.support().into_iter().zip(self.predicted()).enumerate();
        let counts = pixels.map(|(class, (target, predicted))| ClassCounts {
            correct: self.counts()[[class, class]].into(),
            target: target.into(),
            predicted: predicted.into(),
        });
        counts.collect()
    }

    fn per_class(&self, measure: Measure) -> Vec<Option<f64>> {
        per_class(&self.class_counts(), measure)
    }

    fn average(&self, measure: Measure, rule: ClassMean) -> Option<f64> {
        average(&self.class_counts(), measure, rule)
    }
}

/// The measure of each class; `None` where there is nothing to divide by.
pub(crate) fn per_class(classes: &[ClassCounts], measure: Measure) -> Vec<Option<f64>> {
    classes.iter().map(|&class| value(measure, class)).collect()
}

/// The mean of a measure; `None` when nothing is averaged.
pub(crate) fn average(classes: &[ClassCounts], measure: Measure, rule: ClassMean) -> Option<f64> {
    let of = |class: &ClassCounts| value(measure, *class).unwrap_or(0.0);
    let absent = |class: &ClassCounts| class.target + class.predicted == 0;
    match rule {
        ClassMean::PresentInTarget => mean(classes.iter().filter(|class| class.target > 0).map(of)),
        ClassMean::PresentInEither => mean(classes.iter().filter(|class| !absent(class)).map(of)),
        ClassMean::AbsentAsZero => mean(classes.iter().map(of)),
        ClassMean::AbsentAsOne => mean(classes.iter().map(|class| if absent(class) { 1.0 } else { of(class) })),
        ClassMean::PointIsTheMask => mean(classes.iter().map(of).filter(|&value| value != 0.0)),
        ClassMean::Micro => {
            let pooled = classes.iter().fold(ClassCounts::default(), |sum, class| ClassCounts {
                correct: sum.correct + class.correct,
                target: sum.target + class.target,
                predicted: sum.predicted + class.predicted,
            });
            value(measure, pooled)
        }
        ClassMean::Weighted => {
            let weighted: f64 = classes.iter().map(|class| class.target as f64 * of(class)).sum();
            let total: u128 = classes.iter().map(|class| class.target).sum();
            (total > 0).then(|| weighted / total as f64)
        }
    }
}

fn value(measure: Measure, class: ClassCounts) -> Option<f64> {
    let (numerator, denominator) = measure(class);
    ratio(numerator, denominator)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn classes_without_value_are_none() {
        // Class 0 is never predicted, class 1 never asked for, class 2 absent.
        let matrix = ConfusionMatrix::from_counts(array![[0, 3, 0], [0, 0, 0], [0, 0, 0]]).unwrap();
        assert_eq!(matrix.iou(), [Some(0.0), Some(0.0), None]);
        assert_eq!(matrix.f1(), [Some(0.0), Some(0.0), None]);
        assert_eq!(matrix.precision(), [None, Some(0.0), None]);
        assert_eq!(matrix.recall(), [Some(0.0), None, None]);
        assert_eq!(matrix.mean_precision(ClassMean::PresentInTarget), Some(0.0));
        assert_eq!(matrix.mean_recall(ClassMean::PresentInEither), Some(0.0));
        assert_eq!(matrix.mean_iou(ClassMean::AbsentAsOne), Some(1.0 / 3.0));
        assert_eq!(matrix.mean_iou(ClassMean::PointIsTheMask), None);
    }

    #[test]
    fn an_empty_matrix_has_no_means() {
        let matrix = ConfusionMatrix::new(2).unwrap();
        for rule in [ClassMean::PresentInTarget, ClassMean::PresentInEither, ClassMean::Micro, ClassMean::Weighted] {
            assert_eq!(matrix.mean_iou(rule), None, "{rule:?}");
        }
        assert_eq!(matrix.mean_iou(ClassMean::AbsentAsZero), Some(0.0));
        assert_eq!((matrix.pixel_accuracy(), matrix.kappa(), matrix.mcc()), (None, None, None));
    }

    #[test]
    fn omissions_lower_recall_but_not_precision() {
        let counts = array![[6, 2], [0, 4]];
        let plain = ConfusionMatrix::from_counts(counts.clone()).unwrap();
        let with_omissions = ConfusionMatrix::from_counts(array![[6, 2, 4], [0, 4, 0], [0, 0, 0]]).unwrap();
        let with_omissions = with_omissions.without_predictions_of(2).unwrap();
        assert_eq!(with_omissions.precision()[..2], plain.precision()[..]);
        assert_eq!((plain.recall()[0], with_omissions.recall()[0]), (Some(0.75), Some(0.5)));
        assert_eq!(with_omissions.iou()[0], Some(0.5));
        assert_eq!(with_omissions.pixel_accuracy(), Some(10.0 / 16.0));
        // Micro precision is over predicted pixels, micro recall over all scored ones.
        assert_eq!(with_omissions.mean_precision(ClassMean::Micro), Some(10.0 / 12.0));
        assert_eq!(with_omissions.mean_recall(ClassMean::Micro), Some(10.0 / 16.0));
    }
}
