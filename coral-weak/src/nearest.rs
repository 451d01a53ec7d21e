use std::ops::Range;

use coral_core::{LabelMap, PointLabel, PointPropagator, Result, Size, image::RgbImage};
use ndarray::Array2;

use crate::{
    parallel::{BAND_ROWS, for_each_chunk},
    points::CanonicalPoints,
};

/// Every pixel gets the class of the nearest labelled pixel (Euclidean, exact).
///
/// Where several points are equally near, the topmost of them counts, and among those of
/// one row the leftmost. Time grows with the number of pixels, hardly with the number of
/// points; no memory is needed beyond the label map.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size, ndarray::array};
/// use coral_weak::nearest_labels;
/// let at = |x, y, class| PointLabel { x, y, class };
/// let labels = nearest_labels(Size { width: 5, height: 2 }, &[at(0, 0, 7), at(4, 1, 3)])?;
/// assert_eq!(labels, array![[7, 7, 7, 3, 3], [7, 7, 3, 3, 3]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The exact two-pass scheme of Meijster, Roerdink and Hesselink, *A general algorithm for
/// computing distance transforms in linear time* (2000), with the tie rule built into the crossings.
pub fn nearest_labels(size: Size, points: &[PointLabel]) -> Result<LabelMap> {
    let canonical = CanonicalPoints::new(points, size)?;
    Ok(canonical.uniform(size).unwrap_or_else(|| nearest_of(&canonical.points, size, |i| canonical.points[i].class)))
}

/// How far every pixel is from the nearest labelled pixel, and which that is.
#[derive(Debug, Clone, PartialEq)]
pub struct DistanceTransform {
    /// H×W Euclidean distances in pixels, between pixel centres.
    pub distance: Array2<f32>,
    /// H×W indices into the points that were passed.
    pub nearest: Array2<u32>,
}

/// The exact Euclidean distance transform of `points`, with the index of the nearest.
///
/// Ties as in [`nearest_labels`]; of a repeated point the first index is given.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size, ndarray::array};
/// use coral_weak::distance_transform;
/// let points = [PointLabel { x: 3, y: 0, class: 0 }, PointLabel { x: 0, y: 0, class: 0 }];
/// let transform = distance_transform(Size { width: 5, height: 1 }, &points)?;
/// assert_eq!(transform.distance, array![[0.0, 1.0, 1.0, 0.0, 1.0]]);
/// assert_eq!(transform.nearest, array![[1, 1, 0, 0, 0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn distance_transform(size: Size, points: &[PointLabel]) -> Result<DistanceTransform> {
    let canonical = CanonicalPoints::new(points, size)?.points;
    let mut first_index = vec![u32::MAX; canonical.len()];
    for (index, point) in points.iter().enumerate() {
        let at = canonical.partition_point(|p| (p.y, p.x) < (point.y, point.x));
        first_index[at] = first_index[at].min(index as u32);
    }
    let nearest = nearest_of(&canonical, size, |i| first_index[i]);
    let distance = Array2::from_shape_fn(size.shape(), |(y, x)| {
        let p = points[nearest[[y, x]] as usize];
        let (dx, dy) = (x as f64 - f64::from(p.x), y as f64 - f64::from(p.y));
        (dx * dx + dy * dy).sqrt() as f32
    });
    Ok(DistanceTransform { distance, nearest })
}

/// Nearest-point labelling: what every other propagator has to beat ([`nearest_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::NearestPropagator;
/// let labels = NearestPropagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!((labels.dim(), labels[[3, 7]]), ((4, 8), 9));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NearestPropagator;

impl PointPropagator for NearestPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        nearest_labels(Size::of(image), points)
    }
}

/// `value(index of the nearest point)` for every pixel; `points` are in canonical form.
pub(crate) fn nearest_of<T>(points: &[PointLabel], size: Size, value: impl Fn(usize) -> T + Sync) -> Array2<T>
where
    T: Copy + Default + Send,
{
    let columns = Columns::new(points);
    let width = size.width as usize;
    let mut map = Array2::default(size.shape());
    if let Some(pixels) = map.as_slice_mut() {
        for_each_chunk(pixels, BAND_ROWS * width, |band, rows| {
            let mut sweep = Sweep::new(&columns);
            for (row, out) in rows.chunks_mut(width).enumerate() {
                let y = (band * BAND_ROWS + row) as i64;
                sweep.row(y, width, |span, index| out[span].fill(value(index)));
            }
        });
    }
    map
}

/// Points grouped by column, top to bottom in each.
struct Columns {
    /// Column and the range of its points in `members`, left to right.
    columns: Vec<(i64, Range<usize>)>,
    /// Row and index of each point.
    members: Vec<(i64, usize)>,
}

impl Columns {
    fn new(points: &[PointLabel]) -> Self {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by_key(|&i| points[i].x); // stable: rows stay ascending
        let mut columns: Vec<(i64, Range<usize>)> = Vec::new();
        for (at, &i) in order.iter().enumerate() {
            let x = i64::from(points[i].x);
            match columns.last_mut() {
                Some((last, range)) if *last == x => range.end = at + 1,
                _ => columns.push((x, at..at + 1)),
            }
        }
        let members = order.into_iter().map(|i| (i64::from(points[i].y), i)).collect();
        Self { columns, members }
    }
}

/// The stretch of one row, from `start` on, in which a column's nearest point is the nearest.
struct Stretch {
    start: i64,
    x: i64,
    y: i64,
    /// Squared vertical distance.
    rise: i64,
    index: usize,
}

/// Walks down the rows, keeping for every column its nearest point.
struct Sweep<'a> {
    columns: &'a Columns,
    cursors: Vec<usize>,
    stretches: Vec<Stretch>,
}

impl<'a> Sweep<'a> {
    fn new(columns: &'a Columns) -> Self {
        let cursors = columns.columns.iter().map(|(_, range)| range.start).collect();
        Self { columns, cursors, stretches: Vec::new() }
    }

    /// Calls `fill(columns, index of the nearest point)` for the stretches of row `y`; rows
    /// must be asked for in ascending order.
    fn row(&mut self, y: i64, width: usize, mut fill: impl FnMut(Range<usize>, usize)) {
        let Columns { columns, members } = self.columns;
        self.stretches.clear();
        for ((x, range), cursor) in columns.iter().zip(&mut self.cursors) {
            // On a tie the upper point stays.
            while *cursor + 1 < range.end && (members[*cursor + 1].0 - y).abs() < (members[*cursor].0 - y).abs() {
                *cursor += 1;
            }
            let (point_y, index) = members[*cursor];
            let mut new = Stretch { start: 0, x: *x, y: point_y, rise: (point_y - y).pow(2), index };
            while let Some(last) = self.stretches.last() {
                new.start = first_win(last, &new);
                if new.start > last.start {
                    break;
                }
                self.stretches.pop();
                new.start = 0;
            }
            if new.start < width as i64 {
                self.stretches.push(new);
            }
        }
        for (at, stretch) in self.stretches.iter().enumerate() {
            let end = self.stretches.get(at + 1).map_or(width as i64, |next| next.start);
            fill(stretch.start as usize..end as usize, stretch.index);
        }
    }
}

/// The first column in which `right` is nearer than `left` (`left.x < right.x`), or as near
/// and preferred. The difference of two squared distances is linear in x, so from there
/// on `right` wins everywhere, ties included: the envelope is exact with its tie rule.
fn first_win(left: &Stretch, right: &Stretch) -> i64 {
    let slope = 2 * (right.x - left.x);
    let bound = right.x * right.x - left.x * left.x + right.rise - left.rise;
    let wins_ties = right.y < left.y;
    (bound - i64::from(wins_ties)).div_euclid(slope) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_topmost_then_leftmost_point() -> Result<()> {
        let at = |x, y, class| PointLabel { x, y, class };
        let size = Size { width: 5, height: 5 };
        // All four are 2 away from the centre.
        let labels = nearest_labels(size, &[at(2, 4, 4), at(4, 2, 3), at(0, 2, 2), at(2, 0, 1)])?;
        assert_eq!((labels[[2, 2]], labels[[1, 1]], labels[[3, 3]]), (1, 1, 3));
        let labels = nearest_labels(size, &[at(4, 2, 3), at(0, 2, 2)])?;
        assert!((0..5).all(|y| labels[[y, 2]] == 2));
        Ok(())
    }

    #[test]
    fn a_gigantic_size_is_refused() {
        let size = Size { width: u32::MAX, height: 3 };
        assert!(nearest_labels(size, &[PointLabel { x: 0, y: 0, class: 1 }]).is_err());
    }
}
