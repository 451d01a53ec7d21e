use coral_core::{Crs, Error, GeoTransform, RasterGrid, Result, Size};
use ndarray::ArrayView2;

use super::haversine;
use crate::samples::positions_of;

/// Metres of one degree of latitude, as the published programs have it.
const METRES_PER_DEGREE: f64 = 111_319.0;

/// More cells than this are a mistake in the cell size, not a survey.
const MAX_CELLS: f64 = 268_435_456.0;

/// The cell size in metres that fits a track: the median distance between frames that follow each other.
///
/// `positions` is N×2 in the order of the track; degrees (longitude, latitude) for [`Crs::WGS84`], else metres.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] for positions that are not N×2 or no places, fewer than two frames,
/// or when most of them were taken at one place.
///
/// # Examples
/// ```
/// use coral_core::{Crs, ndarray::array};
/// use coral_weak::track_cell;
/// let utm = Crs::utm(40, true)?;
/// assert_eq!(track_cell(array![[0.0, 0.0], [0.0, 2.0], [1.0, 2.0], [1.0, 5.0]].view(), utm)?, 2.0);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Contini et al., *The point is the mask* (2025), raster cell size; golden case `griddata` within 1e-12.
pub fn track_cell(positions: ArrayView2<'_, f64>, crs: Crs) -> Result<f64> {
    let places = positions_of("positions", positions)?;
    let step = |pair: &[[f64; 2]]| {
        let [from, to] = [pair[0], pair[1]].map(|[x, y]| (x, y));
        if crs == Crs::WGS84 { haversine(from, to) } else { (to.0 - from.0).hypot(to.1 - from.1) }
    };
    let mut steps: Vec<f64> = places.windows(2).map(step).collect();
    if steps.is_empty() {
        let reason = format!("a cell size needs two frames with a position, got {}", places.len());
        return Err(Error::input("positions", reason));
    }
    steps.sort_unstable_by(f64::total_cmp);
    let middle = steps.len() / 2;
    let median = if steps.len() % 2 == 1 { steps[middle] } else { (steps[middle - 1] + steps[middle]) / 2.0 };
    if median > 0.0 {
        return Ok(median);
    }
    Err(Error::input("positions", "most frames were taken at one place; a cell size has to be given"))
}

/// The raster of a track: square cells of `cell` metres over the box of the positions.
///
/// The centre of the south-western cell lies on the box's corner, the others every `cell` metres while they are inside;
/// row 0 is the northern one. In degrees, a metre is 1/111,319 degrees of latitude and that over the cosine of the mean
/// latitude in longitude.
///
/// # Errors
/// [`Error::InvalidParameter`] naming `cell` when it is not over 0 or makes too many cells; [`Error::ShapeMismatch`] or
/// [`Error::InvalidInput`] for positions that are not N×2 or not finite, none at all, or all on one parallel or meridian.
///
/// # References
/// As [`track_cell`].
pub fn track_grid(positions: ArrayView2<'_, f64>, crs: Crs, cell: f64) -> Result<RasterGrid> {
    if !(cell.is_finite() && cell > 0.0) {
        return Err(Error::parameter("cell", format!("expected metres over 0, got {cell}")));
    }
    positions_of("positions", positions)?;
    let bounds = |axis: usize| {
        let values = positions.column(axis);
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
    };
    let metres = metres_per_unit(positions, crs);
    let ((west, east), (south, north)) = (bounds(0), bounds(1));
    let (width, height) = (cell / metres[0], cell / metres[1]);
    let (columns, rows) = (((east - west) / width).ceil(), ((north - south) / height).ceil());
    if !(columns >= 1.0 && rows >= 1.0) {
        return Err(Error::input("positions", "expected frames in two dimensions; they are none, or lie on one line"));
    }
    if columns * rows > MAX_CELLS {
        let reason = format!("{cell} m make {columns} x {rows} cells of this track, more than {MAX_CELLS}");
        return Err(Error::parameter("cell", reason));
    }
    let top = south + (rows - 0.5) * height;
    let transform = GeoTransform::north_up(west - width / 2.0, top, width, height);
    Ok(RasterGrid { size: Size { width: columns as u32, height: rows as u32 }, transform, crs })
}

/// Metres of one unit of x and of y around the positions.
pub(super) fn metres_per_unit(positions: ArrayView2<'_, f64>, crs: Crs) -> [f64; 2] {
    if crs != Crs::WGS84 {
        return [1.0, 1.0];
    }
    let latitude = positions.column(1).mean().unwrap_or(0.0);
    [METRES_PER_DEGREE * latitude.to_radians().cos(), METRES_PER_DEGREE]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn bad_tracks_are_named() {
        let utm = Crs { epsg: 32740 };
        let text = |result: Result<f64>| result.unwrap_err().to_string();
        assert!(text(track_cell(Array2::zeros((1, 2)).view(), utm)).contains("two frames"));
        assert!(text(track_cell(Array2::zeros((5, 2)).view(), utm)).contains("one place"));
        let line = array![[0.0, 1.0], [5.0, 1.0]];
        let grid = |positions: &Array2<f64>, cell| track_grid(positions.view(), utm, cell).unwrap_err().to_string();
        assert!(grid(&line, 1.0).contains("two dimensions"));
        assert!(grid(&Array2::zeros((0, 2)), 1.0).contains("none"));
        assert!(grid(&array![[0.0, 0.0], [1e6, 1e6]], 0.01).contains("`cell`"));
        assert!(grid(&line, f64::NAN).contains("`cell`"));
        let single = Array2::zeros((3, 1));
        assert!(text(track_cell(single.view(), utm)).contains("positions: expected shape Nx2"));
        assert!(grid(&single, 1.0).contains("positions: expected shape Nx2"));
        let holed = array![[0.0, 0.0], [4.0, f64::NAN], [8.0, 9.0]];
        assert!(text(track_cell(holed.view(), utm)).contains("row 1 is not finite"));
        assert!(grid(&holed, 1.0).contains("row 1 is not finite"));
    }

    #[test]
    fn cells_have_their_centres_on_the_box() {
        let positions = array![[10.0, 100.0], [14.5, 103.0]];
        let grid = track_grid(positions.view(), Crs { epsg: 32740 }, 2.0).unwrap();
        assert_eq!(grid.size, Size { width: 3, height: 2 });
        assert_eq!(grid.transform.world(0.5, 1.5), (10.0, 100.0));
        assert_eq!(grid.transform.world(2.5, 0.5), (14.0, 102.0));
    }
}
