use coral_core::Result;
use ndarray::{Array2, ArrayView1, ArrayView2};

use super::conjugate_gradient::solve;
use crate::parallel;

/// Kernel values below this are dropped from the system of the labelled points.
const NEGLIGIBLE: f64 = 1e-7;

/// Positions and features of some places, one per row.
#[derive(Debug)]
pub(super) struct Places {
    /// N×2, in mean distances between labelled points.
    pub(super) positions: Array2<f32>,
    /// N×D, scaled so that squared distances are the kernel's exponent.
    pub(super) features: Array2<f32>,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.positions.nrows()
    }

    /// The exponent of the kernel between a place of `self` and one of `other`.
    fn exponent(&self, row: usize, other: &Places, other_row: usize) -> f64 {
        let position = squared_distance(self.positions.row(row), other.positions.row(other_row));
        let feature = squared_distance(self.features.row(row), other.features.row(other_row));
        f64::from(0.5 * position + feature)
    }
}

fn squared_distance(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Gaussian-process regression: the posterior mean, M×C, at M `queries` of the N×C `targets` observed at `points`
/// with noise variance `noise`; the kernel is `exp(-|Δposition|²/2 - |Δfeature|²)`.
///
/// A class that no point speaks for has mean 0 far from all points.
pub(super) fn posterior_mean(
    points: &Places,
    targets: ArrayView2<'_, f64>,
    queries: &Places,
    noise: f64,
) -> Result<Array2<f64>> {
    let weights = fit(points, targets, noise)?;
    let rows = parallel::map((0..queries.len()).collect(), |query| {
        let mut mean = vec![0.0; targets.ncols()];
        for (point, weight) in weights.outer_iter().enumerate() {
            let kernel = (-queries.exponent(query, points, point)).exp();
            mean.iter_mut().zip(weight).for_each(|(mean, weight)| *mean += kernel * weight);
        }
        mean
    });
    let mut means = Array2::zeros((queries.len(), targets.ncols()));
    for (mut row, mean) in means.outer_iter_mut().zip(rows) {
        row.assign(&ArrayView1::from(&mean));
    }
    Ok(means)
}

/// The N×C solution of `(K + noise·I) weights = targets`.
fn fit(points: &Places, targets: ArrayView2<'_, f64>, noise: f64) -> Result<Array2<f64>> {
    let rows: Vec<Vec<(usize, f64)>> = parallel::map((0..points.len()).collect(), |row| {
        (0..points.len())
            .map(|other| (other, (-points.exponent(row, points, other)).exp()))
            .filter(|&(other, kernel)| kernel > NEGLIGIBLE && other != row)
            .collect()
    });
    // Every diagonal entry of the kernel is 1.
    let diagonal = vec![1.0 + noise; points.len()];
    solve(&diagonal, &rows, targets)
}
