use std::ops::Range;

use coral_core::{Error, LabelMap, PointLabel, PointPropagator, Result, Size, image::RgbImage};
use ndarray::{Array3, ArrayView2};

use crate::{
    delaunay::triangulate,
    nearest::nearest_labels,
    parallel::{BAND_ROWS, for_each_chunk},
    points::CanonicalPoints,
    samples::Samples,
};

/// Linear interpolation of N×C `values` at N×2 `points` (x, y) on the Delaunay triangulation,
/// at the nodes of a regular grid: ny×nx×C, [y, x, channel].
///
/// The grid is given by its node coordinates along each axis, strictly ascending or strictly
/// descending, evenly spaced or not. Nodes outside the convex hull get NaN, and so does
/// every node when there are fewer than three points or all lie on one line. Points at the same position
/// count as one with their mean.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] for arrays that do not fit together,
/// no point, coordinates that are not finite, or an axis that is not monotone.
///
/// # Examples
/// ```
/// use coral_core::ndarray::{array, s};
/// use coral_weak::linear_on_grid;
/// let points = array![[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]];
/// let values = array![[0.0], [1.0], [4.0]];
/// let grid = linear_on_grid(points.view(), values.view(), &[0.0, 1.0, 2.0], &[0.0, 1.0])?;
/// assert_eq!(grid.slice(s![0, .., 0]), array![0.0, 0.5, 1.0]);
/// assert_eq!(grid.slice(s![1, ..2, 0]), array![2.0, 2.5]);
/// assert!(grid[[1, 2, 0]].is_nan());
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Agrees with `scipy.interpolate.griddata` on centred points within 1e-6 (golden case `griddata`).
pub fn linear_on_grid(
    points: ArrayView2<'_, f64>,
    values: ArrayView2<'_, f64>,
    grid_x: &[f64],
    grid_y: &[f64],
) -> Result<Array3<f64>> {
    linear_in_triangles(points, values, (grid_x, grid_y), None)
}

/// [`linear_on_grid`] in the triangles without an edge longer than `max_edge`.
pub(crate) fn linear_in_triangles(
    points: ArrayView2<'_, f64>,
    values: ArrayView2<'_, f64>,
    (grid_x, grid_y): (&[f64], &[f64]),
    max_edge: Option<f64>,
) -> Result<Array3<f64>> {
    let samples = Samples::new(points, values)?;
    check_axis("grid_x", grid_x)?;
    check_axis("grid_y", grid_y)?;
    let channels = values.ncols();
    let mut grid = Array3::from_elem((grid_y.len(), grid_x.len(), channels), f64::NAN);
    let triangles: Vec<Triangle> =
        triangulate(&samples.positions).into_iter().filter_map(|t| Triangle::new(&samples.positions, t)).collect();
    let short = |triangle: &Triangle| max_edge.is_none_or(|limit| triangle.longest_edge(&samples.positions) <= limit);
    let triangles: Vec<Triangle> = triangles.into_iter().filter(short).collect();
    let row_len = grid_x.len() * channels;
    if let (Some(flat), 1..) = (grid.as_slice_mut(), row_len) {
        for_each_chunk(flat, BAND_ROWS * row_len, |band, rows| {
            let ys = &grid_y[band * BAND_ROWS..(band * BAND_ROWS + rows.len() / row_len)];
            let mut known = vec![false; ys.len() * grid_x.len()];
            for triangle in &triangles {
                for row in between(ys, triangle.low[1], triangle.high[1]) {
                    for column in between(grid_x, triangle.low[0], triangle.high[0]) {
                        let node = row * grid_x.len() + column;
                        if known[node] {
                            continue;
                        }
                        let Some(weights) = triangle.weights([grid_x[column], ys[row]]) else { continue };
                        known[node] = true;
                        for (channel, out) in rows[node * channels..][..channels].iter_mut().enumerate() {
                            *out = (0..3).map(|i| weights[i] * samples.values[[triangle.corners[i], channel]]).sum();
                        }
                    }
                }
            }
        });
    }
    Ok(grid)
}

fn check_axis(name: &str, axis: &[f64]) -> Result<()> {
    let ascending = axis.windows(2).all(|w| w[0] < w[1]);
    let descending = axis.windows(2).all(|w| w[0] > w[1]);
    if axis.iter().all(|v| v.is_finite()) && (ascending || descending) {
        return Ok(());
    }
    Err(Error::input(name, "expected finite coordinates, strictly ascending or strictly descending"))
}

/// The positions of a monotone axis with coordinates in `low..=high`.
fn between(axis: &[f64], low: f64, high: f64) -> Range<usize> {
    match axis {
        [first, .., last] if first > last => axis.partition_point(|&v| v > high)..axis.partition_point(|&v| v >= low),
        _ => axis.partition_point(|&v| v < low)..axis.partition_point(|&v| v <= high),
    }
}

struct Triangle {
    corners: [usize; 3],
    origin: [f64; 2],
    /// Rows give the second and third weight from the offset to `origin`.
    inverse: [[f64; 2]; 2],
    low: [f64; 2],
    high: [f64; 2],
}

impl Triangle {
    /// `None` when the corners lie on a line up to rounding.
    fn new(positions: &[[f64; 2]], corners: [usize; 3]) -> Option<Self> {
        let [a, b, c] = corners.map(|i| positions[i]);
        let (u, v) = ([b[0] - a[0], b[1] - a[1]], [c[0] - a[0], c[1] - a[1]]);
        let area = u[0] * v[1] - u[1] * v[0];
        let inverse = [[v[1] / area, -v[0] / area], [-u[1] / area, u[0] / area]];
        let fold = |pick: fn(f64, f64) -> f64| [0, 1].map(|axis| pick(pick(a[axis], b[axis]), c[axis]));
        let usable = inverse.iter().flatten().all(|v| v.is_finite());
        usable.then_some(Self { corners, origin: a, inverse, low: fold(f64::min), high: fold(f64::max) })
    }

    fn longest_edge(&self, positions: &[[f64; 2]]) -> f64 {
        let [a, b, c] = self.corners.map(|i| positions[i]);
        let length = |p: [f64; 2], q: [f64; 2]| (p[0] - q[0]).hypot(p[1] - q[1]);
        length(a, b).max(length(b, c)).max(length(c, a))
    }

    /// The barycentric weights of `place`, unless it lies outside.
    fn weights(&self, place: [f64; 2]) -> Option<[f64; 3]> {
        // Nodes on an edge must not fall between two triangles by rounding.
        const SLACK: f64 = 1e-12;
        let offset = [place[0] - self.origin[0], place[1] - self.origin[1]];
        let [second, third] = self.inverse.map(|row| row[0] * offset[0] + row[1] * offset[1]);
        let weights = [1.0 - second - third, second, third];
        weights.iter().all(|&w| w >= -SLACK).then_some(weights)
    }
}

/// Every pixel gets the class of largest linearly interpolated weight on the Delaunay
/// triangulation of the points.
///
/// Each point has weight 1 for its class and 0 for the others; inside a triangle that
/// makes a class win where the summed barycentric weight of its corners is largest, ties to
/// the smallest class id. Outside the convex hull, and for fewer than three points or points on one
/// line, the nearest point decides. Computed in integers, exact.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size, ndarray::s};
/// use coral_weak::linear_labels;
/// let at = |x, y, class| PointLabel { x, y, class };
/// let points = [at(0, 0, 1), at(6, 0, 2), at(0, 6, 2)];
/// let labels = linear_labels(Size { width: 7, height: 7 }, &points)?;
/// // Halfway to the two corners of class 2 the weights are equal.
/// assert_eq!(labels.slice(s![0, ..]).to_vec(), [1, 1, 1, 1, 2, 2, 2]);
/// assert_eq!(labels.slice(s![2, ..5]).to_vec(), [1, 1, 2, 2, 2]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn linear_labels(size: Size, points: &[PointLabel]) -> Result<LabelMap> {
    let canonical = CanonicalPoints::new(points, size)?;
    let mut labels = nearest_labels(size, &canonical.points)?;
    if canonical.classes.len() == 1 {
        return Ok(labels);
    }
    let positions: Vec<_> = canonical.points.iter().map(|p| [f64::from(p.x), f64::from(p.y)]).collect();
    let triangles: Vec<PixelTriangle> =
        triangulate(&positions).into_iter().map(|t| PixelTriangle::new(t.map(|i| canonical.points[i]))).collect();
    let width = size.width as usize;
    if let Some(pixels) = labels.as_slice_mut() {
        for_each_chunk(pixels, BAND_ROWS * width, |band, rows| {
            let top = (band * BAND_ROWS) as i64;
            let bottom = top + (rows.len() / width) as i64;
            for triangle in &triangles {
                for y in triangle.top.max(top)..(triangle.bottom + 1).min(bottom) {
                    triangle.fill_row(y, &mut rows[(y - top) as usize * width..][..width]);
                }
            }
        });
    }
    Ok(labels)
}

/// Linear interpolation between labelled points ([`linear_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::LinearPropagator;
/// let labels = LinearPropagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!((labels.dim(), labels[[3, 7]]), ((4, 8), 9));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinearPropagator;

impl PointPropagator for LinearPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        linear_labels(Size::of(image), points)
    }
}

/// A triangle of pixels with a weight per corner, linear in x and y: proportional to the barycentric
/// one and not negative inside.
struct PixelTriangle {
    classes: [u8; 3],
    /// Per corner the coefficients of x, y and 1.
    weights: [[i64; 3]; 3],
    top: i64,
    bottom: i64,
}

impl PixelTriangle {
    fn new(mut corners: [PointLabel; 3]) -> Self {
        let place = |p: PointLabel| (i64::from(p.x), i64::from(p.y));
        // Twice the signed area of a triangle with the edge from a to b, as a function of its third corner.
        let edge = |a: PointLabel, b: PointLabel| {
            let ((ax, ay), (bx, by)) = (place(a), place(b));
            [ay - by, bx - ax, ax * by - ay * bx]
        };
        let [dx, dy, constant] = edge(corners[0], corners[1]);
        let (x, y) = place(corners[2]);
        if dx * x + dy * y + constant < 0 {
            corners.swap(0, 1);
        }
        let [a, b, c] = corners;
        let rows = corners.map(|p| i64::from(p.y));
        Self {
            classes: corners.map(|p| p.class),
            weights: [edge(b, c), edge(c, a), edge(a, b)],
            top: rows[0].min(rows[1]).min(rows[2]),
            bottom: rows[0].max(rows[1]).max(rows[2]),
        }
    }

    /// Labels the triangle's pixels in row `y`.
    fn fill_row(&self, y: i64, row: &mut [u8]) {
        let (mut first, mut last) = (0, row.len() as i64 - 1);
        let at_row = self.weights.map(|[dx, dy, constant]| (dx, dy * y + constant));
        for (dx, rest) in at_row {
            // dx * x + rest >= 0
            match dx {
                0 if rest < 0 => return,
                0 => {}
                1.. => first = first.max(-rest.div_euclid(dx)),
                _ => last = last.min(rest.div_euclid(-dx)),
            }
        }
        if first > last {
            return;
        }
        let [a, b, c] = self.classes;
        let span = &mut row[first as usize..=last as usize];
        if a == b && b == c {
            return span.fill(a);
        }
        for (pixel, x) in span.iter_mut().zip(first..) {
            let weights = at_row.map(|(dx, rest)| dx * x + rest);
            let support = |class: u8| -> i64 { (0..3).filter(|&i| self.classes[i] == class).map(|i| weights[i]).sum() };
            let better = |held: u8, class: u8| {
                let (now, new) = (support(held), support(class));
                if new > now || (new == now && class < held) { class } else { held }
            };
            *pixel = better(better(a, b), c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn axes_may_descend() -> Result<()> {
        let points = array![[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]];
        let values = points.clone();
        let (up, down) = ([0.0, 0.5, 3.0, 3.5], [3.5, 3.0, 0.5, 0.0]);
        let ascending = linear_on_grid(points.view(), values.view(), &up, &up)?;
        let descending = linear_on_grid(points.view(), values.view(), &down, &down)?;
        for ((y, x, channel), &value) in ascending.indexed_iter() {
            let other = descending[[3 - y, 3 - x, channel]];
            assert!(value == other || (value.is_nan() && other.is_nan()));
            let expected = if x == 3 || y == 3 { f64::NAN } else { [up[x], up[y]][channel] };
            assert!((value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan()), "{value} {expected}");
        }
        Ok(())
    }

    #[test]
    fn unusable_grids_are_refused_and_lines_have_no_inside() -> Result<()> {
        let line = array![[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]];
        let values = Array2::zeros((3, 1));
        let grid = |xs: &[f64]| linear_on_grid(line.view(), values.view(), xs, &[0.0, 1.0]);
        assert!(grid(&[0.0, 1.0])?.iter().all(|v| v.is_nan()));
        assert_eq!(grid(&[])?.dim(), (2, 0, 1));
        for bad in [[0.0, 0.0], [0.0, f64::NAN]] {
            assert!(grid(&bad).unwrap_err().to_string().contains("`grid_x`: expected finite coordinates"));
        }
        Ok(())
    }
}
