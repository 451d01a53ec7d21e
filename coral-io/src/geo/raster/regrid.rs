//! Whether rasters share the world, and grids of one raster in the system of another.

use coral_core::{Crs, Error, GeoTransform, RasterGrid, Result, Size};

use super::projection::Projection;

/// Checks that columns run east and rows south; `what` names the raster.
///
/// # Errors
/// [`Error::InvalidInput`] naming `what` and its transform.
pub fn expect_north_up(what: &str, grid: &RasterGrid) -> Result<()> {
    if grid.transform.is_north_up() {
        return Ok(());
    }
    let reason = format!("expected a raster with north up, got {:?}: resample it onto such a grid", grid.transform);
    Err(Error::input(what, reason))
}

/// Points along each edge of a raster by which its reach in another system is found, as GDAL does it.
const EDGE_STEPS: u32 = 20;

/// The reach of `grid` in the system that `projection` leads to: least x and y, largest x and y.
pub(super) fn reach(grid: &RasterGrid, projection: &Projection) -> Result<[f64; 4]> {
    let (width, height) = (f64::from(grid.size.width), f64::from(grid.size.height));
    let steps = (0..=EDGE_STEPS).map(|step| f64::from(step) / f64::from(EDGE_STEPS));
    let edges =
        steps.flat_map(|at| [(at * width, 0.0), (at * width, height), (0.0, at * height), (width, at * height)]);
    let mut reach = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for (column, row) in edges {
        let (x, y) = grid.transform.world(column, row);
        let (x, y) = projection.transform(x, y)?;
        reach = [reach[0].min(x), reach[1].min(y), reach[2].max(x), reach[3].max(y)];
    }
    Ok(reach)
}

/// Checks that two rasters share a part of the world; `what` names the second. Systems may differ.
///
/// # Errors
/// [`Error::InvalidInput`] naming `what` when they do not meet; [`Error::InvalidParameter`] for an unknown system.
pub fn expect_overlap(what: &str, grid: &RasterGrid, other: &RasterGrid) -> Result<()> {
    let there = reach(grid, &Projection::new(grid.crs, grid.crs)?)?;
    let here = reach(other, &Projection::new(other.crs, grid.crs)?)?;
    let meet = |low: usize, high: usize| there[low] < here[high] && here[low] < there[high];
    if meet(0, 2) && meet(1, 3) {
        return Ok(());
    }
    let span = |[left, bottom, right, top]: [f64; 4]| format!("x {left} to {right}, y {bottom} to {top}");
    let reason = format!("expected a raster that meets {} in {}, got {}", span(there), grid.crs, span(here));
    Err(Error::input(what, reason))
}

/// A north-up grid in `to` over `grid`, with square pixels of `resolution`, or, without one, of about the size of
/// `grid`'s pixels; `grid` itself when nothing has to change. With a resolution it holds all of `grid`, without one
/// all but a part of a pixel.
///
/// # Errors
/// [`Error::InvalidParameter`] for an unknown system or a resolution that is not positive; [`Error::InvalidInput`] when
/// `grid` does not fit the system, or more pixels than 2³² along a side result.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, RasterGrid, Size};
/// let transform = GeoTransform::north_up(500_000.0, 7_650_000.0, 0.5, 0.5);
/// let grid = RasterGrid { size: Size { width: 80, height: 60 }, transform, crs: Crs::utm(40, true)? };
/// let degrees = coral_io::geo::suggested_grid(&grid, Crs::WGS84, None)?;
/// assert_eq!((degrees.crs, degrees.size), (Crs::WGS84, Size { width: 82, height: 58 }));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Without a resolution the same grids as GDAL's `GDALSuggestedWarpOutput2` and rasterio's
/// `calculate_default_transform`.
pub fn suggested_grid(grid: &RasterGrid, to: Crs, resolution: Option<f64>) -> Result<RasterGrid> {
    grid.validate()?;
    if to == grid.crs && resolution.is_none() && grid.transform.is_north_up() {
        return Ok(*grid);
    }
    let projection = Projection::new(grid.crs, to)?;
    let [left, bottom, right, top] = reach(grid, &projection)?;
    let pixel = match resolution {
        Some(resolution) if resolution > 0.0 && resolution.is_finite() => resolution,
        Some(other) => return Err(Error::parameter("resolution", format!("expected more than 0, got {other}"))),
        None => {
            // The diagonal keeps its number of pixels.
            let corner = |column, row| {
                let (x, y) = grid.transform.world(column, row);
                projection.transform(x, y)
            };
            let (width, height) = (f64::from(grid.size.width), f64::from(grid.size.height));
            let ((x, y), (u, v)) = (corner(0.0, 0.0)?, corner(width, height)?);
            (u - x).hypot(v - y) / width.hypot(height)
        }
    };
    let count = |length: f64| {
        let pixels = length / pixel;
        // A pixel of the caller's size more, rather than a part of the raster less; rounding errors are no part.
        let pixels = if resolution.is_some() { (pixels - 1e-6).ceil() } else { pixels.round() }.max(1.0);
        let fits = pixels <= f64::from(u32::MAX);
        fits.then_some(pixels as u32).ok_or_else(|| {
            let reason = format!("expected a raster of at most {} pixels along a side, it has {pixels}", u32::MAX);
            Error::input("grid", reason)
        })
    };
    let size = Size { width: count(right - left)?, height: count(top - bottom)? };
    let grid = RasterGrid { size, transform: GeoTransform::north_up(left, top, pixel, pixel), crs: to };
    grid.validate()?;
    Ok(grid)
}
