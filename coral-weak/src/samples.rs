//! Values measured at positions of the plane, and fast search among them.

use coral_core::{Error, Result};
use ndarray::{Array2, ArrayView2, Axis};

/// N positions with C values each: sorted by (y, x), coincident positions merged into
/// their mean, so that the order of the input cannot matter.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    /// (x, y) each.
    pub(crate) positions: Vec<[f64; 2]>,
    /// N×C.
    pub(crate) values: Array2<f64>,
}

impl Samples {
    /// Checks and sorts N×2 `points` (x, y) with N×C `values`.
    pub(crate) fn new(points: ArrayView2<'_, f64>, values: ArrayView2<'_, f64>) -> Result<Self> {
        let unsorted = positions_of("points", points)?;
        if unsorted.is_empty() {
            return Err(Error::input("points", "at least one point is needed, got none"));
        }
        if values.nrows() != unsorted.len() {
            let expected = format!("{}xC, one row per point", unsorted.len());
            return Err(Error::shape("values", expected, format!("{}x{}", values.nrows(), values.ncols())));
        }
        let mut order: Vec<usize> = (0..unsorted.len()).collect();
        let place = |i: usize| (unsorted[i][1], unsorted[i][0]);
        order.sort_by(|&a, &b| {
            let by_place = place(a).0.total_cmp(&place(b).0).then(place(a).1.total_cmp(&place(b).1));
            // Values last: a mean must not depend on the order of its terms either.
            let by_values = || {
                let differing = values.row(a).into_iter().zip(values.row(b)).map(|(u, v)| u.total_cmp(v));
                differing.fold(std::cmp::Ordering::Equal, |first, next| first.then(next))
            };
            by_place.then_with(by_values)
        });
        let mut positions = Vec::with_capacity(order.len());
        let mut merged = Vec::with_capacity(values.len());
        for group in order.chunk_by(|&a, &b| unsorted[a] == unsorted[b]) {
            positions.push(unsorted[group[0]]);
            let mean = values.select(Axis(0), group).sum_axis(Axis(0)) / group.len() as f64;
            merged.extend(mean);
        }
        let shape = (positions.len(), values.ncols());
        let values = Array2::from_shape_vec(shape, merged).map_err(|e| Error::input("values", e.to_string()))?;
        Ok(Self { positions, values })
    }
}

/// The rows of an N×2 array as (x, y), which must be finite.
pub(crate) fn positions_of(what: &str, array: ArrayView2<'_, f64>) -> Result<Vec<[f64; 2]>> {
    if array.ncols() != 2 {
        return Err(Error::shape(what, "Nx2 (x, y)", format!("{}x{}", array.nrows(), array.ncols())));
    }
    // Zero plus zero is zero also for -0, which would sort before 0 though it is the same place.
    let positions: Vec<_> = array.outer_iter().map(|row| [row[0] + 0.0, row[1] + 0.0]).collect();
    // The bound keeps squares and products of differences finite.
    match positions.iter().position(|p| !p.iter().all(|v| v.abs() < 1e100)) {
        Some(at) => Err(Error::input(what, format!("row {at} is not finite: {:?}", positions[at]))),
        None => Ok(positions),
    }
}

/// A position found by a [`Buckets`] search: squared distance and index.
pub(crate) type Found = (f64, usize);

/// Positions in square cells, about one per cell, for searches around any place.
#[derive(Debug)]
pub(crate) struct Buckets<'a> {
    positions: &'a [[f64; 2]],
    low: [f64; 2],
    high: [f64; 2],
    cell: f64,
    columns: usize,
    rows: usize,
    /// Where each cell's members begin in `members`.
    starts: Vec<usize>,
    members: Vec<usize>,
}

impl<'a> Buckets<'a> {
    pub(crate) fn new(positions: &'a [[f64; 2]]) -> Self {
        let extreme = |axis: usize, pick: fn(f64, f64) -> f64| positions.iter().map(|p| p[axis]).reduce(pick);
        let low = [0, 1].map(|axis| extreme(axis, f64::min).unwrap_or(0.0));
        let high = [0, 1].map(|axis| extreme(axis, f64::max).unwrap_or(0.0));
        let (width, height) = (high[0] - low[0], high[1] - low[1]);
        let count = positions.len().max(1) as f64;
        // The second bound keeps the number of cells near the number of positions for
        // positions along a line too.
        let cell = (width * height / count).sqrt().max(width.max(height) / count);
        let cell = if cell > 0.0 && cell.is_finite() { cell } else { 1.0 };
        let (columns, rows) = ((width / cell) as usize + 1, (height / cell) as usize + 1);
        let mut buckets = Self {
            positions,
            low,
            high,
            cell,
            columns,
            rows,
            starts: vec![0; columns * rows + 1],
            members: Vec::new(),
        };
        let cells: Vec<usize> = positions.iter().map(|&p| buckets.cell_of(p)).map(|(x, y)| y * columns + x).collect();
        for &cell in &cells {
            buckets.starts[cell + 1] += 1;
        }
        for cell in 0..columns * rows {
            buckets.starts[cell + 1] += buckets.starts[cell];
        }
        buckets.members = (0..positions.len()).collect();
        buckets.members.sort_by_key(|&i| cells[i]);
        buckets
    }

    /// The cell that holds `place`, or the nearest one.
    fn cell_of(&self, place: [f64; 2]) -> (usize, usize) {
        let along = |axis: usize, count: usize| (((place[axis] - self.low[axis]) / self.cell) as usize).min(count - 1);
        (along(0, self.columns), along(1, self.rows))
    }

    /// The `k` positions nearest to `place` and all that are as near as the k-th, by
    /// ascending (squared distance, index).
    pub(crate) fn nearest(&self, place: [f64; 2], k: usize, found: &mut Vec<Found>) {
        found.clear();
        let outside = square_distance(place, [0, 1].map(|axis| place[axis].clamp(self.low[axis], self.high[axis])));
        for ring in 0..self.columns.max(self.rows) {
            self.visit_ring(place, ring, found);
            if found.len() >= k {
                found.select_nth_unstable_by(k - 1, by_distance);
                // All further cells are at least `ring` cells away from the place, or from its
                // projection onto the box of all positions when it lies outside.
                let beyond = outside + (ring as f64 * self.cell).powi(2);
                if found[k - 1].0 < beyond * (1.0 - 1e-9) {
                    break;
                }
            }
        }
        found.sort_unstable_by(by_distance);
        if let Some(&(limit, _)) = found.get(k - 1) {
            found.truncate(found.partition_point(|&(distance, _)| distance <= limit));
        }
    }

    /// The positions no farther than `radius` from `place`, by ascending (squared distance, index).
    pub(crate) fn within(&self, place: [f64; 2], radius: f64, found: &mut Vec<Found>) {
        found.clear();
        let (left, top) = self.cell_of([place[0] - radius, place[1] - radius]);
        let (right, bottom) = self.cell_of([place[0] + radius, place[1] + radius]);
        for row in top..=bottom {
            self.visit((place, radius * radius), row, left..right + 1, found);
        }
        found.sort_unstable_by(by_distance);
    }

    /// The cells whose larger offset from the cell of `place` is `ring`.
    fn visit_ring(&self, place: [f64; 2], ring: usize, found: &mut Vec<Found>) {
        let (x, y) = self.cell_of(place);
        let place = (place, f64::INFINITY);
        let (left, right) = (x.saturating_sub(ring), (x + ring + 1).min(self.columns));
        for row in y.saturating_sub(ring)..(y + ring + 1).min(self.rows) {
            if row.abs_diff(y) == ring {
                self.visit(place, row, left..right, found);
                continue;
            }
            if x >= ring {
                self.visit(place, row, x - ring..x - ring + 1, found);
            }
            if x + ring < self.columns {
                self.visit(place, row, x + ring..x + ring + 1, found);
            }
        }
    }

    /// The members of some cells of a row whose squared distance from the place is at most the limit.
    fn visit(
        &self,
        (place, limit): ([f64; 2], f64),
        row: usize,
        columns: std::ops::Range<usize>,
        found: &mut Vec<Found>,
    ) {
        let base = row * self.columns;
        let members = &self.members[self.starts[base + columns.start]..self.starts[base + columns.end]];
        let near = members.iter().map(|&i| (square_distance(place, self.positions[i]), i));
        found.extend(near.filter(|near| near.0 <= limit));
    }
}

fn by_distance(a: &Found, b: &Found) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

pub(crate) fn square_distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;
    use ndarray::array;

    /// Clouds, lattices (many ties), a line and a single place.
    fn clouds() -> Vec<Vec<[f64; 2]>> {
        let mut rng = SeededRng::new(9);
        let mut cloud = |n: usize, w: f64, h: f64| -> Vec<[f64; 2]> {
            (0..n).map(|_| [rng.range(-w, w), rng.range(-h, h)]).collect()
        };
        let lattice = (0..36).map(|i| [f64::from(i % 6), f64::from(i / 6)]).collect();
        vec![cloud(1, 1.0, 1.0), cloud(40, 3.0, 5.0), cloud(200, 1e-4, 50.0), cloud(30, 0.0, 7.0), lattice]
    }

    #[test]
    fn searches_find_what_a_scan_finds() {
        let mut rng = SeededRng::new(1);
        for positions in clouds() {
            let buckets = Buckets::new(&positions);
            let mut found = Vec::new();
            for trial in 0..200 {
                let reach = if trial % 4 == 0 { 400.0 } else { 6.0 };
                let lattice_like = trial % 2 == 0;
                let place = [0, 1].map(|_| rng.range(-reach, reach));
                let place = if lattice_like { place.map(|v| (v * 2.0).round() / 2.0) } else { place };
                let mut all: Vec<Found> =
                    positions.iter().enumerate().map(|(i, &p)| (square_distance(place, p), i)).collect();
                all.sort_by(by_distance);
                for k in [1, 3, 8, 500] {
                    buckets.nearest(place, k, &mut found);
                    let limit = all[k.min(all.len()) - 1].0;
                    assert_eq!(found, all.iter().copied().filter(|f| f.0 <= limit).collect::<Vec<_>>());
                }
                let radius = rng.range(0.0, 2.0 * reach);
                buckets.within(place, radius, &mut found);
                assert_eq!(found, all.iter().copied().filter(|f| f.0 <= radius * radius).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn coincident_points_become_their_mean() -> Result<()> {
        let points = array![[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0]];
        let values = array![[1.0], [5.0], [2.0], [6.0]];
        let samples = Samples::new(points.view(), values.view())?;
        assert_eq!(samples.positions, [[0.0, 0.0], [1.0, 2.0]]);
        assert_eq!(samples.values, array![[5.5], [1.5]]);
        Ok(())
    }

    #[test]
    fn unusable_samples_are_refused() {
        let text = |points: Array2<f64>, values: Array2<f64>| {
            Samples::new(points.view(), values.view()).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(text(Array2::zeros((2, 3)), Array2::zeros((2, 1))), "points: expected shape Nx2 (x, y), got 2x3");
        assert!(text(Array2::zeros((0, 2)), Array2::zeros((0, 1))).contains("got none"));
        assert!(text(Array2::zeros((2, 2)), Array2::zeros((3, 1))).contains("one row per point"));
        assert!(text(array![[0.0, f64::NAN]], array![[0.0]]).contains("row 0 is not finite"));
    }
}
