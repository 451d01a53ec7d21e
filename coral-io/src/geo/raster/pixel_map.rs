//! Where the pixels of one grid lie in another.

use coral_core::ndarray::Array2;
use coral_core::{RasterGrid, Rect, Result, Size};

use super::projection::Projection;

/// Column and row in the other grid, continuous; NaN for a pixel that has no place there.
pub(super) type Position = (f64, f64);

/// Largest error of an interpolated position in source pixels; GDAL allows itself 0.125.
const TOLERANCE: f64 = 0.001;
/// Columns between those whose positions are always computed. Such columns are multiples of it, whatever the window, so
/// that all windows agree with the whole. A power of two.
const SPAN: u64 = 64;
/// Fewer columns are not worth interpolating.
const SHORT: u64 = 8;
/// Pixels whose positions are held at once.
const LARGEST_WINDOW: u64 = 1 << 20;
/// Source pixels that are read at once; a window that needs more is cut.
const LARGEST_SOURCE: u64 = 1 << 24;

/// From the pixels of `to` to those of `from`.
#[derive(Debug)]
pub(super) struct PixelMap {
    pub(super) from: RasterGrid,
    pub(super) to: RasterGrid,
    projection: Projection,
}

/// A piece of a window and the part of the source that it needs.
#[derive(Debug)]
pub(super) struct Part {
    /// Pixels of the target.
    pub(super) window: Rect,
    /// Where they lie in the source, H×W.
    pub(super) positions: Array2<Position>,
    /// The source pixels around them.
    pub(super) source: Rect,
}

impl PixelMap {
    pub(super) fn new(from: RasterGrid, to: RasterGrid) -> Result<Self> {
        Ok(Self { from, to, projection: Projection::new(to.crs, from.crs)? })
    }

    /// The source position of the centre of a pixel, which may lie beyond the end of the row.
    fn exact(&self, column: u64, row: u32) -> Position {
        let (x, y) = self.to.transform.world(column as f64 + 0.5, f64::from(row) + 0.5);
        let position = self.projection.transform(x, y).map(|(x, y)| self.from.transform.pixel(x, y));
        position.unwrap_or((f64::NAN, f64::NAN))
    }

    /// The source positions of the pixels of a row from `column` on.
    fn fill_row(&self, column: u32, row: u32, positions: &mut [Position]) {
        let column = u64::from(column);
        if self.projection.from() == self.projection.to() {
            (column..).zip(positions).for_each(|(column, position)| *position = self.exact(column, row));
            return;
        }
        let end = column + positions.len() as u64;
        let (mut first, mut start) = (column - column % SPAN, None);
        while first < end {
            let ends = [start.unwrap_or_else(|| self.exact(first, row)), self.exact(first + SPAN, row)];
            self.fill_span(&Span { row, first, length: SPAN, ends }, column, positions);
            (first, start) = (first + SPAN, Some(ends[1]));
        }
    }

    /// The source positions of the pixels of a span, as far as `positions`, those from `column` on, hold them.
    fn fill_span(&self, span: &Span, column: u64, positions: &mut [Position]) {
        let &Span { row, first, length, ends: [start, end] } = span;
        let inside = first.max(column)..(first + length).min(column + positions.len() as u64);
        if inside.is_empty() {
            return;
        }
        if length <= SHORT {
            inside.for_each(|at| positions[(at - column) as usize] = self.exact(at, row));
            return;
        }
        let along = |at: u64| {
            let part = (at - first) as f64 / length as f64;
            (start.0 + part * (end.0 - start.0), start.1 + part * (end.1 - start.1))
        };
        let half = length / 2;
        let (middle, straight) = (self.exact(first + half, row), along(first + half));
        // NaN is not within the tolerance: such spans are cut until they are short.
        if (straight.0 - middle.0).abs().max((straight.1 - middle.1).abs()) <= TOLERANCE {
            inside.for_each(|at| positions[(at - column) as usize] = along(at));
        } else {
            self.fill_span(&Span { row, first, length: half, ends: [start, middle] }, column, positions);
            self.fill_span(&Span { row, first: first + half, length: half, ends: [middle, end] }, column, positions);
        }
    }

    /// The source positions of the pixels of a window, H×W.
    fn positions(&self, window: Rect) -> Array2<Position> {
        let mut positions = Array2::from_elem((window.height as usize, window.width as usize), (f64::NAN, f64::NAN));
        for (row, mut positions) in (window.y..).zip(positions.rows_mut()) {
            if let Some(positions) = positions.as_slice_mut() {
                self.fill_row(window.x, row, positions);
            }
        }
        positions
    }

    /// Hands over `window` in pieces that fit into memory with their sources; pieces without a source are left out.
    pub(super) fn visit_parts(&self, window: Rect, visit: &mut impl FnMut(Part) -> Result<()>) -> Result<()> {
        if window.area() <= LARGEST_WINDOW {
            let positions = self.positions(window);
            let Some(source) = source_of(&positions, self.from.size) else { return Ok(()) };
            if source.area() <= LARGEST_SOURCE || window.area() == 1 {
                return visit(Part { window, positions, source });
            }
        }
        let Rect { x, y, width, height } = window;
        let [one, two] = if width >= height {
            let left = width / 2;
            [Rect { width: left, ..window }, Rect { x: x + left, width: width - left, ..window }]
        } else {
            let upper = height / 2;
            [Rect { height: upper, ..window }, Rect { y: y + upper, height: height - upper, ..window }]
        };
        self.visit_parts(one, visit)?;
        self.visit_parts(two, visit)
    }
}

/// Columns of a row whose positions are found together.
struct Span {
    row: u32,
    first: u64,
    length: u64,
    /// The positions of the first column and of the one after the last.
    ends: [Position; 2],
}

/// The pixel of a raster that holds a position.
pub(super) fn nearest((column, row): Position, size: Size) -> Option<(u32, u32)> {
    let inside = column >= 0.0 && row >= 0.0 && column < f64::from(size.width) && row < f64::from(size.height);
    inside.then_some((column as u32, row as u32))
}

/// The source pixels around the positions inside the source, with one more on each side for interpolation.
fn source_of(positions: &Array2<Position>, size: Size) -> Option<Rect> {
    let inside = positions.iter().filter_map(|&position| nearest(position, size));
    let reach = inside.fold(None, |reach: Option<[u32; 4]>, (x, y)| {
        let [left, top, right, bottom] = reach.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x), bottom.max(y)])
    });
    let [left, top, right, bottom] = reach?;
    let (x, y) = (left.saturating_sub(1), top.saturating_sub(1));
    let (right, bottom) = (right.saturating_add(2).min(size.width), bottom.saturating_add(2).min(size.height));
    Some(Rect { x, y, width: right - x, height: bottom - y })
}

#[cfg(test)]
mod tests {
    use coral_core::{Crs, GeoTransform};

    use super::*;

    fn grid(x: f64, y: f64, pixel: f64, epsg: u32) -> RasterGrid {
        let size = Size { width: 4000, height: 300 };
        RasterGrid { size, transform: GeoTransform::north_up(x, y, pixel, pixel), crs: Crs { epsg } }
    }

    #[test]
    fn interpolated_positions_are_within_the_tolerance() {
        // Large pixels far from the zone's meridian: a line of one system is bent in the other.
        let from = grid(1.2e6, 7_700_000.0, 30.0, 32739);
        let to = grid(560_000.0, 7_690_000.0, 30.0, 32740);
        let map = PixelMap::new(from, to).unwrap();
        let mut row = vec![(0.0, 0.0); 4000];
        map.fill_row(0, 17, &mut row);
        let straight = |index: usize| row[0].0 + (row[3999].0 - row[0].0) * index as f64 / 3999.0;
        assert!((straight(1999) - row[1999].0).abs() > TOLERANCE, "the test shows nothing");
        for (column, &(x, y)) in (0..).zip(&row) {
            let (u, v) = map.exact(column, 17);
            assert!((u - x).abs() <= TOLERANCE && (v - y).abs() <= TOLERANCE, "{column}: ({x}, {y}) for ({u}, {v})");
        }
        for (start, end) in [(0, 1), (3, 9), (63, 65), (700, 2900), (3999, 4000)] {
            let mut part = vec![(0.0, 0.0); end - start];
            map.fill_row(start as u32, 17, &mut part);
            assert_eq!(part, row[start..end], "{start} to {end}");
        }
    }

    #[test]
    fn coarse_targets_are_cut() {
        let size = |width, height| Size { width, height };
        let from = RasterGrid { size: size(40_000, 40_000), ..grid(0.0, 0.0, 1.0, 32740) };
        let to = RasterGrid { size: size(40, 40), ..grid(0.0, 0.0, 1000.0, 32740) };
        let map = PixelMap::new(from, to).unwrap();
        let parts_of = |map: &PixelMap, window: Rect| {
            let mut parts = Vec::new();
            map.visit_parts(window, &mut |part| {
                parts.push(part);
                Ok(())
            })
            .unwrap();
            parts
        };
        let parts = parts_of(&map, Rect::whole(to.size));
        assert!(parts.len() >= 64 && parts.iter().all(|part| part.source.area() <= LARGEST_SOURCE));
        assert_eq!(parts.iter().map(|part| part.window.area()).sum::<u64>(), 1600);
        let away = grid(5e5, 5e5, 1.0, 32740);
        assert!(parts_of(&PixelMap::new(from, away).unwrap(), Rect::whole(away.size)).is_empty());
        // Large windows are cut, too, before positions are held for them.
        let fine = RasterGrid { size: size(4000, 1000), ..grid(0.0, 0.0, 1.0, 32740) };
        let parts = parts_of(&PixelMap::new(from, fine).unwrap(), Rect::whole(fine.size));
        assert!(parts.iter().all(|part| part.window.area() <= LARGEST_WINDOW));
        assert_eq!(parts.iter().map(|part| part.window.area()).sum::<u64>(), 4_000_000);
    }
}
