use coral_core::{Error, Result};
use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// When a target between 0 and 1 counts as present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftTargets {
    /// Above one half, whatever the threshold.
    #[default]
    AboveHalf,
    /// Above the very threshold that the probabilities are compared with, for every class with a target that is neither
    /// 0 nor 1, as the published program does. That favours low thresholds: where all targets are above 0, the threshold
    /// 0 has an F1 score of 1.
    WithThreshold,
}

/// Which thresholds [`best_thresholds`] tries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// How many: 0, 1 / steps, 2 / steps, … to below 1.
    pub steps: usize,
    /// When a target counts as present.
    pub soft_targets: SoftTargets,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self { steps: 1000, soft_targets: SoftTargets::default() }
    }
}

impl ThresholdConfig {
    /// The thresholds, which are the nearest numbers to their decimals.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is none, or more than a million.
    fn thresholds(&self) -> Result<impl Iterator<Item = f64> + Clone + use<>> {
        const MOST: usize = 1_000_000;
        if !(1..=MOST).contains(&self.steps) {
            return Err(Error::parameter("steps", format!("expected 1 to {MOST}, got {}", self.steps)));
        }
        let steps = self.steps;
        Ok((0..steps).map(move |index| index as f64 / steps as f64))
    }
}

/// The threshold of a class, and how good it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassThreshold {
    /// The class counts as present where its probability is above.
    pub threshold: f64,
    /// The F1 score of these decisions.
    pub f1: f64,
}

/// The threshold of each class with the highest F1 score, the lowest of several: N×C `probabilities` of 0..=1 above it
/// are compared with N×C `targets` of 0..=1. `None` for classes that no target shows, for which the published
/// program gives the threshold 0, and so predicts them everywhere.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the shapes differ; [`Error::InvalidInput`] when there is no row or a value is not in
/// 0..=1; [`Error::InvalidParameter`] for impossible `steps`.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_metrics::{ClassThreshold, ThresholdConfig, best_thresholds};
/// let probabilities = array![[0.9, 0.2], [0.6, 0.4], [0.3, 0.1]];
/// let targets = array![[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]];
/// let thresholds = best_thresholds(probabilities.view(), targets.view(), &ThresholdConfig::default())?;
/// assert_eq!(thresholds, [Some(ClassThreshold { threshold: 0.3, f1: 1.0 }), None]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// SeatizenDOI/DinoVdeau, `compute_best_threshold`; equal thresholds, F1 scores within 1e-12.
pub fn best_thresholds<T: Into<f64> + Copy>(
    probabilities: ArrayView2<'_, T>,
    targets: ArrayView2<'_, T>,
    config: &ThresholdConfig,
) -> Result<Vec<Option<ClassThreshold>>> {
    if probabilities.dim() != targets.dim() {
        let text = |(rows, columns): (usize, usize)| format!("{rows}x{columns}");
        return Err(Error::shape("targets", text(probabilities.dim()), text(targets.dim())));
    }
    let classes = probabilities.columns().into_iter().zip(targets.columns()).enumerate();
    let best = |(class, (probabilities, targets)): (usize, (ArrayView1<'_, T>, ArrayView1<'_, T>))| {
        let counts = Counts::of(probabilities, targets, config.soft_targets).map_err(|error| match error {
            Error::InvalidInput { what, reason } => Error::input(what, format!("class {class}: {reason}")),
            other => other,
        })?;
        Ok(counts.best(config.thresholds()?))
    };
    classes.map(best).collect()
}

/// The F1 score of one class at every threshold that `config` tries; 0 where the class is neither present nor predicted.
///
/// # Errors
/// As [`best_thresholds`].
pub fn f1_curve<T: Into<f64> + Copy>(
    probabilities: ArrayView1<'_, T>,
    targets: ArrayView1<'_, T>,
    config: &ThresholdConfig,
) -> Result<Vec<f64>> {
    if probabilities.len() != targets.len() {
        return Err(Error::shape("targets", probabilities.len().to_string(), targets.len().to_string()));
    }
    let counts = Counts::of(probabilities, targets, config.soft_targets)?;
    Ok(config.thresholds()?.map(|threshold| counts.f1(threshold)).collect())
}

/// The thresholds, in ascending order, below which samples of one class count.
struct Counts {
    /// As predicted: the probabilities.
    predicted: Vec<f64>,
    /// As present.
    present: Vec<f64>,
    /// As both.
    correct: Vec<f64>,
}

impl Counts {
    fn of<T: Into<f64> + Copy>(
        probabilities: ArrayView1<'_, T>,
        targets: ArrayView1<'_, T>,
        soft_targets: SoftTargets,
    ) -> Result<Self> {
        let values = |what: &str, column: ArrayView1<'_, T>| -> Result<Vec<f64>> {
            let values: Vec<f64> = column.iter().map(|&value| value.into()).collect();
            match values.iter().position(|value| !(0.0..=1.0).contains(value)) {
                Some(row) => Err(Error::input(what, format!("row {row} is {}; expected 0 to 1", values[row]))),
                None if values.is_empty() => Err(Error::input(what, "expected at least one row, got none")),
                None => Ok(values),
            }
        };
        let (predicted, targets) = (values("probabilities", probabilities)?, values("targets", targets)?);
        let soft = targets.iter().any(|target| ![0.0, 1.0].contains(target));
        let present: Vec<f64> = match soft_targets {
            SoftTargets::WithThreshold if soft => targets,
            // Present or absent at any threshold.
            _ => targets.iter().map(|&target| if target > 0.5 { f64::INFINITY } else { f64::NEG_INFINITY }).collect(),
        };
        let correct = predicted.iter().zip(&present).map(|(a, b)| a.min(*b)).collect();
        let sorted = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        Ok(Self { predicted: sorted(predicted), present: sorted(present), correct: sorted(correct) })
    }

    fn f1(&self, threshold: f64) -> f64 {
        let above = |sorted: &[f64]| sorted.len() - sorted.partition_point(|&value| value <= threshold);
        let both = above(&self.predicted) + above(&self.present);
        if both == 0 { 0.0 } else { (2 * above(&self.correct)) as f64 / both as f64 }
    }

    fn best(&self, thresholds: impl Iterator<Item = f64>) -> Option<ClassThreshold> {
        let shown = self.present.last().is_some_and(|&last| last > 0.0);
        let scored = thresholds.map(|threshold| ClassThreshold { threshold, f1: self.f1(threshold) });
        scored.reduce(|best, next| if next.f1 > best.f1 { next } else { best }).filter(|_| shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    /// Counts anew at every threshold.
    fn plain_curve(probabilities: &[f64], targets: &[f64], soft_targets: SoftTargets) -> Vec<f64> {
        let soft = targets.iter().any(|&target| target != 0.0 && target != 1.0);
        let at = |index: usize| {
            let threshold = index as f64 / 1000.0;
            let limit = if soft && soft_targets == SoftTargets::WithThreshold { threshold } else { 0.5 };
            let (mut correct, mut wrong) = (0.0, 0.0);
            for (probability, target) in probabilities.iter().zip(targets) {
                match (*probability > threshold, *target > limit) {
                    (true, true) => correct += 1.0,
                    (false, false) => (),
                    _ => wrong += 1.0,
                }
            }
            if correct == 0.0 { 0.0 } else { 2.0 * correct / (2.0 * correct + wrong) }
        };
        (0..1000).map(at).collect()
    }

    proptest! {
        #[test]
        fn sorting_counts_like_the_plain_way(
            samples in proptest::collection::vec((0u32..=1000, 0u32..=4), 1..40),
            hard in any::<bool>(),
        ) {
            let probabilities: Vec<f64> = samples.iter().map(|&(p, _)| f64::from(p) / 1000.0).collect();
            let target = |t: u32| if hard { f64::from(t > 2) } else { f64::from(t) / 4.0 };
            let targets: Vec<f64> = samples.iter().map(|&(_, t)| target(t)).collect();
            for soft_targets in [SoftTargets::AboveHalf, SoftTargets::WithThreshold] {
                let config = ThresholdConfig { soft_targets, ..ThresholdConfig::default() };
                let (p, t) = (ArrayView1::from(&probabilities), ArrayView1::from(&targets));
                let curve = f1_curve(p, t, &config).unwrap();
                let expected = plain_curve(&probabilities, &targets, soft_targets);
                prop_assert!(curve.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
                let columns = |v: &[f64]| Array2::from_shape_vec((v.len(), 1), v.to_vec()).unwrap();
                let (p, t) = (columns(&probabilities), columns(&targets));
                let best = best_thresholds(p.view(), t.view(), &config).unwrap()[0];
                let highest = curve.iter().copied().fold(0.0, f64::max);
                let first = curve.iter().position(|&f1| f1 == highest).unwrap() as f64 / 1000.0;
                let expected = ClassThreshold { threshold: first, f1: highest };
                prop_assert_eq!(best.unwrap_or(expected), expected);
                let shown = targets.iter().any(|&t| if soft_targets == SoftTargets::WithThreshold { t > 0.0 } else { t > 0.5 });
                prop_assert_eq!(best.is_some(), shown);
            }
        }
    }

    #[test]
    fn soft_targets_are_told_apart() {
        let (probabilities, targets) = (array![[0.2f32], [0.7], [0.9]], array![[0.4f32], [0.3], [0.9]]);
        let best = |soft_targets| {
            let config = ThresholdConfig { soft_targets, ..ThresholdConfig::default() };
            best_thresholds(probabilities.view(), targets.view(), &config).unwrap()[0].unwrap()
        };
        // 0.7 in f32 is a little less than 0.7.
        assert_eq!(best(SoftTargets::AboveHalf), ClassThreshold { threshold: 0.7, f1: 1.0 });
        assert_eq!(best(SoftTargets::WithThreshold), ClassThreshold { threshold: 0.0, f1: 1.0 });
    }

    #[test]
    fn bad_input_is_named() {
        let config = ThresholdConfig::default();
        let text =
            |p: Array2<f64>, t: Array2<f64>| best_thresholds(p.view(), t.view(), &config).unwrap_err().to_string();
        assert_eq!(text(array![[0.1]], array![[0.1, 0.2]]), "targets: expected shape 1x1, got 1x2");
        assert!(text(array![[0.1, f64::NAN]], array![[0.0, 0.0]]).contains("`probabilities`: class 1: row 0 is NaN"));
        assert!(text(array![[0.1]], array![[1.5]]).contains("`targets`: class 0: row 0 is 1.5"));
        assert!(text(Array2::zeros((0, 1)), Array2::zeros((0, 1))).contains("at least one row"));
        for steps in [0, usize::MAX] {
            let config = ThresholdConfig { steps, ..config };
            assert!(best_thresholds(array![[0.5]].view(), array![[1.0]].view(), &config).is_err());
        }
    }
}
