use crate::ConfusionMatrix;
use crate::class_mean::ratio;

/// Measures of the whole matrix.
impl ConfusionMatrix {
    /// Share of the scored pixels that are right; `None` when nothing was scored.
    ///
    /// Pixels without prediction count as wrong.
    pub fn pixel_accuracy(&self) -> Option<f64> {
        ratio(self.correct(), self.total().into())
    }

    /// Cohen's kappa: agreement beyond chance, (p_o − p_e) / (1 − p_e).
    ///
    /// "No prediction" counts as a category of its own. `None` when nothing was scored or when target and
    /// prediction are one single class, so that chance alone explains everything.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_metrics::ConfusionMatrix;
    /// let matrix = ConfusionMatrix::from_counts(array![[20, 5], [10, 15]])?;
    /// assert_eq!(matrix.kappa(), Some(0.4));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    ///
    /// # References
    /// Cohen 1960, "A coefficient of agreement for nominal scales". Parity with scikit-learn to 1e-9.
    pub fn kappa(&self) -> Option<f64> {
        let Marginals { squared_total, chance, .. } = self.marginals();
        let observed = u128::from(self.total()) * self.correct();
        let beyond = squared_total - chance;
        (beyond > 0).then(|| difference(observed, chance) / beyond as f64)
    }

    /// Matthews correlation coefficient for many classes (Gorodkin's R_K), −1..=1.
    ///
    /// "No prediction" counts as a category of its own. `None` when nothing was scored or when all
    /// targets or all predictions are one class (scikit-learn gives 0 there).
    ///
    /// # References
    /// Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient". Parity with
    /// scikit-learn to 1e-9.
    pub fn mcc(&self) -> Option<f64> {
        let Marginals { squared_total, chance, target, predicted } = self.marginals();
        let covariance = difference(u128::from(self.total()) * self.correct(), chance);
        let (of_target, of_predicted) = (squared_total - target, squared_total - predicted);
        // Two roots: the product of two such numbers may have 256 bits.
        (of_target > 0 && of_predicted > 0)
            .then(|| covariance / ((of_target as f64).sqrt() * (of_predicted as f64).sqrt()))
    }

    fn correct(&self) -> u128 {
        self.counts().diag().iter().map(|&count| u128::from(count)).sum()
    }

    /// All sums are at most the squared total, which fits because the total is a `u64`.
    fn marginals(&self) -> Marginals {
        let (support, predicted) = (self.support(), self.predicted());
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let unpredicted: u64 = self.unpredicted().iter().sum();
        Marginals {
            squared_total: product(self.total(), self.total()),
            chance: support.iter().zip(&predicted).map(|(&target, &predicted)| product(target, predicted)).sum(),
            target: support.iter().map(|&pixels| product(pixels, pixels)).sum(),
            predicted: predicted.iter().chain([&unpredicted]).map(|&pixels| product(pixels, pixels)).sum(),
        }
    }
}

/// Sums of products of class totals, exact: differences of them lose all digits in floats.
struct Marginals {
    squared_total: u128,
    /// Σ target · predicted.
    chance: u128,
    /// Σ target².
    target: u128,
    /// Σ predicted², with "no prediction" as a class.
    predicted: u128,
}

fn difference(a: u128, b: u128) -> f64 {
    if a >= b { (a - b) as f64 } else { -((b - a) as f64) }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() <= 1e-12 * b.abs().max(1e-3))
    }

    /// The textbook form for two classes, which subtracts only products of cells.
    fn two_class_mcc([[a, b], [c, d]]: [[f64; 2]; 2]) -> f64 {
        (a * d - b * c) / ((a + b).sqrt() * (c + d).sqrt() * (a + c).sqrt() * (b + d).sqrt())
    }

    fn two_class_kappa([[a, b], [c, d]]: [[f64; 2]; 2]) -> f64 {
        2.0 * (a * d - b * c) / ((a + b) * (b + d) + (a + c) * (c + d))
    }

    #[test]
    fn huge_and_lopsided_counts_keep_their_digits() {
        for cells in [
            [[3_000_000_000_001, 7], [11, 2]],
            [[1_000_000_000_000, 400_000_000_000], [300_000_000_000, 2_000_000_000_000]],
            [[2, 1_000_000_000_000], [1_000_000_000_000, 3]],
            [[9_000_000_000_000_000_000, 5], [3, 8_000_000_000_000_000_000]],
            [[4_000_000_000_000_000_000, 1], [1, 1]],
        ] {
            let matrix = ConfusionMatrix::from_counts(Array2::from(cells.to_vec())).unwrap();
            let floats = cells.map(|row: [u64; 2]| row.map(|count| count as f64));
            let (mcc, kappa) = (two_class_mcc(floats), two_class_kappa(floats));
            assert!(close(matrix.mcc(), mcc), "{cells:?}: {:?} against {mcc}", matrix.mcc());
            assert!(close(matrix.kappa(), kappa), "{cells:?}: {:?} against {kappa}", matrix.kappa());
        }
    }

    #[test]
    fn scaling_all_counts_changes_nothing() {
        let small = array![[13u64, 2, 0], [4, 30, 6], [1, 1, 5]];
        let plain = ConfusionMatrix::from_counts(small.clone()).unwrap();
        let scaled = ConfusionMatrix::from_counts(small * 1_000_000_000_000).unwrap();
        assert!(close(scaled.mcc(), plain.mcc().unwrap()));
        assert!(close(scaled.kappa(), plain.kappa().unwrap()));
    }

    #[test]
    fn one_class_alone_has_no_agreement_beyond_chance() {
        let single = ConfusionMatrix::from_counts(array![[9, 0], [0, 0]]).unwrap();
        assert_eq!((single.kappa(), single.mcc(), single.pixel_accuracy()), (None, None, Some(1.0)));
        let one_prediction = ConfusionMatrix::from_counts(array![[9, 0], [3, 0]]).unwrap();
        assert_eq!((one_prediction.kappa(), one_prediction.mcc()), (Some(0.0), None));
    }

    #[test]
    fn no_prediction_is_a_category() {
        let as_class = ConfusionMatrix::from_counts(array![[5, 1, 2], [3, 8, 1], [0, 0, 0]]).unwrap();
        let as_omission = as_class.without_predictions_of(2).unwrap();
        assert_eq!(as_omission.kappa(), as_class.kappa());
        assert_eq!(as_omission.mcc(), as_class.mcc());
        assert_eq!(as_omission.pixel_accuracy(), as_class.pixel_accuracy());
    }
}
