mod labels;

use coral_core::{Error, Result};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::{
    parallel::for_each_chunk,
    samples::{Buckets, Found, Samples, positions_of, square_distance},
};

pub use labels::{InverseDistancePropagator, inverse_distance_labels};

/// Which points take part at a place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Neighbours {
    /// Every point.
    All,
    /// The k nearest points, and all that are exactly as near as the k-th.
    Nearest(usize),
    /// The points no farther away than this, in the unit of the coordinates.
    Within(f64),
}

/// How inverse-distance weighting weighs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InverseDistanceConfig {
    /// A point at distance d weighs d^-power; over 0.
    pub power: f64,
    /// The points that take part.
    pub neighbours: Neighbours,
}

impl Default for InverseDistanceConfig {
    /// Power 4 over the 4 nearest points. In the plane the number of points grows with distance, so that
    /// up to power 2 the far points together outweigh the near ones and the most frequent class
    /// spreads everywhere; 4 nearest are, on a regular grid, the corners of the cell around a pixel.
    fn default() -> Self {
        Self { power: 4.0, neighbours: Neighbours::Nearest(4) }
    }
}

impl InverseDistanceConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the power or radius is not finite and over 0, or k is 0.
    pub fn validate(&self) -> Result<()> {
        if !(self.power.is_finite() && self.power > 0.0) {
            return Err(Error::parameter("power", format!("expected a number over 0, got {}", self.power)));
        }
        match self.neighbours {
            Neighbours::Nearest(0) => Err(Error::parameter("neighbours", "at least the nearest 1 is needed, got 0")),
            Neighbours::Within(radius) if !(radius.is_finite() && radius > 0.0) => {
                Err(Error::parameter("neighbours", format!("expected a radius over 0, got {radius}")))
            }
            _ => Ok(()),
        }
    }
}

/// Inverse-distance interpolation of N×C `values` at N×2 `points` (x, y) to M×2 `queries`: M×C.
///
/// A query at a point gets that point's values; one that no point takes part in gets NaN.
/// Points at the same position count as one with their mean.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] for arrays that do not fit together,
/// no point, or coordinates that are not finite; [`Error::InvalidParameter`] as [`InverseDistanceConfig::validate`].
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::{InverseDistanceConfig, Neighbours, inverse_distance};
/// let (points, values) = (array![[0.0, 0.0], [4.0, 0.0]], array![[0.0], [10.0]]);
/// let queries = array![[2.0, 0.0], [1.0, 0.0], [4.0, 0.0]];
/// let config = InverseDistanceConfig { power: 2.0, neighbours: Neighbours::All };
/// let answer = inverse_distance(points.view(), values.view(), queries.view(), &config)?;
/// assert_eq!(answer, array![[5.0], [1.0], [10.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Shepard, *A two-dimensional interpolation function for irregularly-spaced data* (1968).
/// Agrees with the golden case `griddata` within 1e-9 (relative).
pub fn inverse_distance(
    points: ArrayView2<'_, f64>,
    values: ArrayView2<'_, f64>,
    queries: ArrayView2<'_, f64>,
    config: &InverseDistanceConfig,
) -> Result<Array2<f64>> {
    config.validate()?;
    let weigh = |found: &[Found], samples: &Samples, out: &mut [f64]| {
        let Some(&(nearest, index)) = found.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else {
            return out.fill(f64::NAN);
        };
        if nearest == 0.0 {
            return out.iter_mut().zip(samples.values.row(index)).for_each(|(to, from)| *to = *from);
        }
        out.fill(0.0);
        let mut total = 0.0;
        for &(distance, index) in found {
            // Relative to the nearest, so that no power can overflow.
            let weight = (nearest / distance).powf(config.power / 2.0);
            total += weight;
            out.iter_mut().zip(samples.values.row(index)).for_each(|(to, from)| *to += weight * from);
        }
        out.iter_mut().for_each(|value| *value /= total);
    };
    at_queries(points, values, queries, |buckets, samples, place, found, out| {
        match config.neighbours {
            Neighbours::Nearest(k) => buckets.nearest(place, k, found),
            Neighbours::Within(radius) => buckets.within(place, radius, found),
            Neighbours::All => {
                found.clear();
                found.extend(samples.positions.iter().map(|&p| square_distance(place, p)).zip(0..));
            }
        }
        weigh(found, samples, out);
    })
}

/// Nearest-point interpolation of N×C `values` at N×2 `points` (x, y) to M×2 `queries`: M×C.
///
/// Of several points equally near the one with the smallest y, then x, counts; points at the
/// same position count as one with their mean.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] for arrays that do not fit together,
/// no point, or coordinates that are not finite.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::nearest_values;
/// let (points, values) = (array![[0.0, 0.0], [4.0, 0.0]], array![[1.0, 0.0], [0.0, 1.0]]);
/// let answer = nearest_values(points.view(), values.view(), array![[3.0, 9.0]].view())?;
/// assert_eq!(answer, array![[0.0, 1.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn nearest_values(
    points: ArrayView2<'_, f64>,
    values: ArrayView2<'_, f64>,
    queries: ArrayView2<'_, f64>,
) -> Result<Array2<f64>> {
    at_queries(points, values, queries, |buckets, samples, place, found, out| {
        buckets.nearest(place, 1, found);
        if let Some(&(_, index)) = found.first() {
            out.iter_mut().zip(samples.values.row(index)).for_each(|(to, from)| *to = *from);
        }
    })
}

/// Fills row by row, over all cores, an M×C answer.
fn at_queries(
    points: ArrayView2<'_, f64>,
    values: ArrayView2<'_, f64>,
    queries: ArrayView2<'_, f64>,
    answer: impl Fn(&Buckets<'_>, &Samples, [f64; 2], &mut Vec<Found>, &mut [f64]) + Send + Sync,
) -> Result<Array2<f64>> {
    const QUERIES_PER_TASK: usize = 256;
    let samples = Samples::new(points, values)?;
    let places = positions_of("queries", queries)?;
    let buckets = Buckets::new(&samples.positions);
    let channels = values.ncols();
    let mut out = Array2::zeros((places.len(), channels));
    if let (Some(flat), 1..) = (out.as_slice_mut(), channels) {
        for_each_chunk(flat, QUERIES_PER_TASK * channels, |task, rows| {
            let mut found = Vec::new();
            for (place, row) in places[task * QUERIES_PER_TASK..].iter().zip(rows.chunks_mut(channels)) {
                answer(&buckets, &samples, *place, &mut found, row);
            }
        });
    }
    Ok(out)
}
