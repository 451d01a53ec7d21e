use coral_core::{Error, Result};
use ndarray::{Array3, ArrayView3, Axis, Zip};
use serde::{Deserialize, Serialize};

/// Keeps the divisor over 0 where a class has one value everywhere.
const EPSILON: f64 = 1e-6;

/// Stretches each class to the range between two quantiles of its values over all sessions: rare and shy classes come to
/// compete with those that a classifier gives high probabilities everywhere.
///
/// # Examples
/// ```
/// use coral_core::ndarray::Array3;
/// use coral_weak::QuantileStretch;
/// let session = Array3::from_shape_fn((1, 1, 101), |(_, _, x)| x as f64 / 1000.0);
/// let stretch = QuantileStretch::fit(&[session.view()])?;
/// let values = stretch.apply(session.view())?;
/// assert_eq!((values[[0, 0, 0]], values[[0, 0, 100]]), (0.0, 1.0));
/// assert!((values[[0, 0, 50]] - 0.5).abs() < 1e-4);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Contini et al., *The point is the mask* (2025), coarse class raster; golden case `coarse_map` within 1e-6.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantileStretch {
    /// For each class the 1st and the 99th percentile; `None` for a class without data.
    pub quantiles: Vec<Option<(f64, f64)>>,
}

impl QuantileStretch {
    /// The quantiles of the C×H×W values of all sessions together; NaN is left out.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without a session, [`Error::ShapeMismatch`] when they differ in their number of classes.
    pub fn fit(sessions: &[ArrayView3<'_, f64>]) -> Result<Self> {
        Self::fit_between(sessions, 0.01, 0.99)
    }

    /// Like [`QuantileStretch::fit`] with other quantiles.
    ///
    /// # Errors
    /// Those of [`QuantileStretch::fit`]; [`Error::InvalidParameter`] unless 0 ≤ `low` < `high` ≤ 1.
    pub fn fit_between(sessions: &[ArrayView3<'_, f64>], low: f64, high: f64) -> Result<Self> {
        if !(0.0 <= low && low < high && high <= 1.0) {
            return Err(Error::parameter("quantiles", format!("expected 0 <= low < high <= 1, got {low} and {high}")));
        }
        let Some(classes) = sessions.first().map(|session| session.dim().0) else {
            return Err(Error::input("sessions", "quantiles need at least one raster, got none"));
        };
        if let Some(other) = sessions.iter().find(|session| session.dim().0 != classes) {
            return Err(Error::shape("sessions", format!("{classes} classes"), format!("{} classes", other.dim().0)));
        }
        let of_class = |class: usize| {
            let values =
                sessions.iter().flat_map(|session| session.index_axis_move(Axis(0), class).into_iter().copied());
            let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
            values.sort_unstable_by(f64::total_cmp);
            (!values.is_empty()).then(|| (quantile(&values, low), quantile(&values, high)))
        };
        Ok(Self { quantiles: (0..classes).map(of_class).collect() })
    }

    /// The stretched values, clipped to 0..=1; NaN stays, and so does everything of a class without quantiles.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `values` (C×H×W) has another number of classes.
    pub fn apply(&self, values: ArrayView3<'_, f64>) -> Result<Array3<f64>> {
        if values.dim().0 != self.quantiles.len() {
            let actual = format!("{} classes", values.dim().0);
            return Err(Error::shape("values", format!("{} classes", self.quantiles.len()), actual));
        }
        let mut stretched = values.to_owned();
        for (mut plane, quantiles) in stretched.outer_iter_mut().zip(&self.quantiles) {
            if let Some((low, high)) = *quantiles {
                Zip::from(&mut plane)
                    .for_each(|value| *value = ((*value - low) / (high - low + EPSILON)).clamp(0.0, 1.0));
            }
        }
        Ok(stretched)
    }
}

/// The quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, s};

    #[test]
    fn classes_without_data_stay_without() {
        let session = array![[[0.2, 0.4, f64::NAN]], [[f64::NAN, f64::NAN, f64::NAN]]];
        let stretch = QuantileStretch::fit_between(&[session.view()], 0.0, 1.0).unwrap();
        assert_eq!(stretch.quantiles, [Some((0.2, 0.4)), None]);
        let values = stretch.apply(session.view()).unwrap();
        assert!((values[[0, 0, 1]] - 1.0).abs() < 1e-5 && values[[0, 0, 2]].is_nan());
        assert!(values.slice(s![1, .., ..]).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn bad_input_is_named() {
        let (one, two) = (Array3::zeros((1, 2, 2)), Array3::zeros((2, 2, 2)));
        let text = |result: Result<QuantileStretch>| result.unwrap_err().to_string();
        assert!(text(QuantileStretch::fit(&[])).contains("at least one"));
        assert!(text(QuantileStretch::fit(&[one.view(), two.view()])).contains("2 classes"));
        assert!(text(QuantileStretch::fit_between(&[one.view()], 0.9, 0.1)).contains("quantiles"));
        let stretch = QuantileStretch::fit(&[one.view()]).unwrap();
        assert!(stretch.apply(two.view()).unwrap_err().to_string().contains("1 classes"));
    }
}
