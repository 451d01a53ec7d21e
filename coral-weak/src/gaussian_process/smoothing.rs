use coral_core::Result;
use ndarray::{Array2, ArrayView2};

use super::conjugate_gradient::solve;
use crate::Adjacency;

/// Pulls the S×C `scores` of S superpixels towards those of similar neighbours: the solution of `(I + strength·L/d̄) x = scores`,
/// where L is the Laplacian of the graph whose edge weights are `length · exp(-falloff · δ/δ̄)`, d̄ its mean degree, δ the squared
/// distance between the neighbours' `colors` (S×D) and δ̄ its mean over all edges.
pub(super) fn smooth_scores(
    scores: ArrayView2<'_, f64>,
    colors: ArrayView2<'_, f32>,
    adjacency: &[Adjacency],
    smoothing: Smoothing,
) -> Result<Array2<f64>> {
    let distances: Vec<f64> = adjacency
        .iter()
        .map(|pair| {
            let (a, b) = (colors.row(pair.first as usize), colors.row(pair.second as usize));
            a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        })
        .collect();
    let mean = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
    let nodes = scores.nrows();
    let mut rows = vec![Vec::new(); nodes];
    let mut degrees = vec![0.0; nodes];
    for (pair, distance) in adjacency.iter().zip(&distances) {
        // In a flat image every distance is 0, and so is their mean.
        let relative = if mean > 0.0 { distance / mean } else { 0.0 };
        let weight = f64::from(pair.length) * (-smoothing.falloff * relative).exp();
        let (i, j) = (pair.first as usize, pair.second as usize);
        rows[i].push((j, weight));
        rows[j].push((i, weight));
        degrees[i] += weight;
        degrees[j] += weight;
    }
    let mean_degree = degrees.iter().sum::<f64>() / nodes.max(1) as f64;
    if mean_degree <= 0.0 {
        return Ok(scores.to_owned());
    }
    let scale = smoothing.strength / mean_degree;
    rows.iter_mut().flatten().for_each(|(_, weight)| *weight *= -scale);
    let diagonal: Vec<f64> = degrees.iter().map(|degree| 1.0 + scale * degree).collect();
    solve(&diagonal, &rows, scores)
}

/// How far scores spread between superpixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Smoothing {
    /// The weight of agreement with the neighbours against the weight of the own score.
    pub(super) strength: f64,
    /// How fast the influence of a neighbour falls with its difference in colour.
    pub(super) falloff: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn chain() -> Vec<Adjacency> {
        (0..3).map(|i| Adjacency { first: i, second: i + 1, length: 5 }).collect()
    }

    #[test]
    fn scores_spread_within_a_color_but_not_across_an_edge() {
        let scores = array![[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]];
        let colors = array![[0.0], [0.0], [1.0], [1.0]];
        let smooth = smooth_scores(scores.view(), colors.view(), &chain(), Smoothing { strength: 2.0, falloff: 8.0 });
        let smooth = smooth.unwrap();
        assert!(smooth[[1, 0]] > 0.2 && smooth[[2, 1]] > 0.2, "{smooth}");
        assert!(smooth[[1, 1]] < 1e-6 && smooth[[2, 0]] < 1e-6, "{smooth}");
    }

    #[test]
    fn the_sum_of_each_class_is_kept() {
        let scores = array![[1.0, 0.0], [0.2, 0.0], [0.0, -0.4], [0.0, 1.0]];
        let colors = array![[0.0], [0.3], [0.5], [1.0]];
        let smooth = smooth_scores(scores.view(), colors.view(), &chain(), Smoothing { strength: 9.0, falloff: 1.0 });
        for (before, after) in scores.columns().into_iter().zip(smooth.unwrap().columns()) {
            assert!((before.sum() - after.sum()).abs() < 1e-6);
        }
    }

    #[test]
    fn without_neighbours_nothing_changes() {
        let scores = array![[0.3, 0.7]];
        let smoothing = Smoothing { strength: 1.0, falloff: 1.0 };
        assert_eq!(smooth_scores(scores.view(), array![[0.5]].view(), &[], smoothing).unwrap(), scores);
    }
}
