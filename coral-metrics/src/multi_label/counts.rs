use coral_core::{Error, Metric, Result};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::ClassMean;
use crate::class_mean::{ClassCounts, F1, PRECISION, RECALL, average, per_class};

/// How often each of several classes was predicted, was present, and both, over samples that may show any number of
/// classes.
///
/// # Examples
/// ```
/// use coral_core::{Metric, ndarray::array};
/// use coral_metrics::{ClassMean, MultiLabelCounts};
/// let mut counts = MultiLabelCounts::new(3)?;
/// //              prediction                                   target
/// counts.update(&array![[true, true, false], [true, false, false]], &array![[true, false, false], [true, true, false]])?;
/// assert_eq!(counts.f1(), [Some(1.0), Some(0.0), None]);
/// assert_eq!(counts.mean_f1(ClassMean::PresentInTarget), Some(0.5));
/// assert_eq!(counts.mean_f1(ClassMean::Micro), Some(2.0 * 2.0 / (3.0 + 3.0)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiLabelCounts {
    /// Samples of each class: rightly predicted, predicted, present.
    classes: Vec<[u64; 3]>,
    samples: u64,
}

/// The measures of a [`MultiLabelCounts`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelScores {
    /// Samples scored.
    pub samples: u64,
    /// Samples that show each class.
    pub support: Vec<u64>,
    /// F1 score of each class; `None` for classes that are neither present nor predicted.
    pub f1: Vec<Option<f64>>,
    /// Share of the predictions of each class that are right; `None` for classes never predicted.
    pub precision: Vec<Option<f64>>,
    /// Share of the samples that show each class that are found; `None` for classes never present.
    pub recall: Vec<Option<f64>>,
    /// F1 score of all decisions together; `None` when no class is present or predicted.
    pub micro_f1: Option<f64>,
    /// Mean F1 score of the classes that are present; `None` when none is.
    pub macro_f1: Option<f64>,
}

impl MultiLabelCounts {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is no class.
    pub fn new(num_classes: usize) -> Result<Self> {
        if num_classes == 0 {
            return Err(Error::parameter("num_classes", "expected at least 1, got 0"));
        }
        Ok(Self { classes: vec![[0; 3]; num_classes], samples: 0 })
    }

    /// How many classes there are.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// Samples counted.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples that show each class.
    pub fn support(&self) -> Vec<u64> {
        self.classes.iter().map(|[_, _, present]| *present).collect()
    }

    /// F1 score of each class; `None` for classes that are neither present nor predicted.
    pub fn f1(&self) -> Vec<Option<f64>> {
        per_class(&self.class_counts(), F1)
    }

    /// Share of the predictions of each class that are right; `None` for classes never predicted.
    pub fn precision(&self) -> Vec<Option<f64>> {
        per_class(&self.class_counts(), PRECISION)
    }

    /// Share of the samples that show each class that are found; `None` for classes never present.
    pub fn recall(&self) -> Vec<Option<f64>> {
        per_class(&self.class_counts(), RECALL)
    }

    /// Mean F1 score: [`ClassMean::Micro`] pools all decisions, the other rules average classes
    /// ([`ClassMean::AbsentAsZero`] as scikit-learn's `macro`). `None` when nothing is averaged.
    pub fn mean_f1(&self, rule: ClassMean) -> Option<f64> {
        average(&self.class_counts(), F1, rule)
    }

    fn class_counts(&self) -> Vec<ClassCounts> {
        let counts = self.classes.iter().map(|&[correct, predicted, present]| ClassCounts {
            correct: correct.into(),
            target: present.into(),
            predicted: predicted.into(),
        });
        counts.collect()
    }
}

impl Metric for MultiLabelCounts {
    type Prediction = Array2<bool>;
    type Target = Array2<bool>;
    type Output = MultiLabelScores;

    /// Counts N×C decisions against what is present.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the shapes differ or there is another number of classes. Nothing is counted then.
    fn update(&mut self, prediction: &Array2<bool>, target: &Array2<bool>) -> Result<()> {
        let text = |(rows, columns): (usize, usize)| format!("{rows}x{columns}");
        for (what, array) in [("target", target), ("prediction", prediction)] {
            let expected = (target.nrows(), self.num_classes());
            if array.dim() != expected {
                return Err(Error::shape(what, text(expected), text(array.dim())));
            }
        }
        let columns = prediction.columns().into_iter().zip(target.columns());
        for (counts, (predicted, present)) in self.classes.iter_mut().zip(columns) {
            for (&predicted, &present) in predicted.iter().zip(present) {
                counts[0] += u64::from(predicted && present);
                counts[1] += u64::from(predicted);
                counts[2] += u64::from(present);
            }
        }
        self.samples += target.nrows() as u64;
        Ok(())
    }

    /// # Errors
    /// [`Error::InvalidParameter`] when the other has another number of classes.
    fn merge(&mut self, other: &Self) -> Result<()> {
        let (ours, theirs) = (self.num_classes(), other.num_classes());
        if ours != theirs {
            return Err(Error::parameter("other", format!("expected {ours} classes, got {theirs}")));
        }
        let counts = self.classes.iter_mut().flatten().zip(other.classes.iter().flatten());
        counts.for_each(|(sum, more)| *sum += more);
        self.samples += other.samples;
        Ok(())
    }

    fn compute(&self) -> MultiLabelScores {
        MultiLabelScores {
            samples: self.samples,
            support: self.support(),
            f1: self.f1(),
            precision: self.precision(),
            recall: self.recall(),
            micro_f1: self.mean_f1(ClassMean::Micro),
            macro_f1: self.mean_f1(ClassMean::PresentInTarget),
        }
    }

    fn reset(&mut self) {
        self.classes.fill([0; 3]);
        self.samples = 0;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn values_are_those_of_scikit_learn() {
        // sklearn.metrics.f1_score(target, prediction, average=…, zero_division=0)
        let target = array![[true, false, true, false], [true, true, false, false], [false, true, false, false]];
        let prediction = array![[true, true, false, false], [false, true, false, false], [true, true, false, true]];
        let mut counts = MultiLabelCounts::new(4).unwrap();
        counts.update(&prediction, &target).unwrap();
        assert_eq!(counts.f1(), [Some(0.5), Some(0.8), Some(0.0), Some(0.0)]);
        assert_eq!(counts.mean_f1(ClassMean::AbsentAsZero), Some(0.325));
        assert_eq!(counts.mean_f1(ClassMean::Micro), Some(6.0 / 11.0));
        let scores = counts.compute();
        assert_eq!((scores.support, scores.samples), (vec![2, 2, 1, 0], 3));
        assert_eq!((scores.precision[2], scores.recall[3]), (None, None));
        assert!((scores.macro_f1.unwrap() - 1.3 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_counted_has_no_score() {
        let scores = MultiLabelCounts::new(2).unwrap().compute();
        assert_eq!((scores.micro_f1, scores.macro_f1, scores.f1), (None, None, vec![None, None]));
        assert!(MultiLabelCounts::new(0).is_err());
    }

    #[test]
    fn misfits_change_nothing() {
        let mut counts = MultiLabelCounts::new(2).unwrap();
        let before = counts.clone();
        assert!(counts.update(&array![[true, false]], &array![[true, false], [true, true]]).is_err());
        assert!(counts.update(&array![[true, false, true]], &array![[true, false, true]]).is_err());
        assert!(counts.merge(&MultiLabelCounts::new(3).unwrap()).is_err());
        assert_eq!(counts, before);
    }
}
