use coral_core::{Error, RasterGrid, Result};
use ndarray::{Array3, ArrayView2};
use serde::{Deserialize, Serialize};

use super::ProbabilityRaster;
use super::footprint::{Footprint, area};
use crate::parallel::for_each_chunk;

/// Settings of [`aggregate_footprints`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FootprintConfig {
    /// The least share of a cell that footprints have to cover, 0 to 1; cells below, and those that no footprint meets,
    /// hold no data.
    pub min_coverage: f64,
    /// Whether only frames whose position lies inside the cell count, as in the published program: a frame that covers
    /// half of the neighbouring cell says nothing about it.
    pub centre_in_cell: bool,
}

impl Default for FootprintConfig {
    fn default() -> Self {
        Self { min_coverage: 1.0, centre_in_cell: false }
    }
}

/// Sums of areas round; a cell counts as covered that lacks no more than this share.
const SLACK: f64 = 1e-9;

/// Class probabilities of the cells of `grid` from the footprints of N frames and their N×C probabilities.
///
/// The probability that a cell shows a class is 1 − Π (1 − p · A∩ / A) over the footprints, A∩ the part of a footprint's
/// area A inside the cell. Footprints and grid are in the same metric coordinates; with each footprint comes
/// the frame's own position.
///
/// # Errors
/// [`Error::ShapeMismatch`] for arrays that do not fit together; [`Error::InvalidInput`] for a grid that is not north up,
/// a probability outside 0..=1, or a footprint that is no convex quadrilateral; [`Error::InvalidParameter`] naming the
/// field.
///
/// # References
/// Contini et al., arXiv 2502.17883; golden case `footprint_aggregation` within 1e-10.
pub fn aggregate_footprints(
    frames: &[(Footprint, (f64, f64))],
    probabilities: ArrayView2<'_, f64>,
    grid: &RasterGrid,
    config: &FootprintConfig,
) -> Result<ProbabilityRaster> {
    check(frames, probabilities, grid, config)?;
    let (height, width) = grid.size.shape();
    let classes = probabilities.ncols();
    let near = frames_by_cell(frames, grid);
    let mut values = Array3::from_elem((height, width, classes), f64::NAN);
    if let (Some(flat), 1..) = (values.as_slice_mut(), classes) {
        for_each_chunk(flat, width * classes, |row, cells| {
            for (cell, index) in cells.chunks_exact_mut(classes).zip(row * width..) {
                let shares = shares_in(cell_box(grid, index), &near[index], frames, config);
                for (class, value) in cell.iter_mut().enumerate().filter(|_| !shares.is_empty()) {
                    let absent = shares.iter().map(|&(frame, share)| 1.0 - probabilities[[frame, class]] * share);
                    *value = 1.0 - absent.product::<f64>();
                }
            }
        });
    }
    Ok(ProbabilityRaster { grid: *grid, values: values.permuted_axes([2, 0, 1]).as_standard_layout().into_owned() })
}

fn check(
    frames: &[(Footprint, (f64, f64))],
    probabilities: ArrayView2<'_, f64>,
    grid: &RasterGrid,
    config: &FootprintConfig,
) -> Result<()> {
    if !(0.0..=1.0).contains(&config.min_coverage) {
        return Err(Error::parameter("min_coverage", format!("expected 0 to 1, got {}", config.min_coverage)));
    }
    if probabilities.nrows() != frames.len() {
        let actual = format!("{}x{}", probabilities.nrows(), probabilities.ncols());
        return Err(Error::shape("probabilities", format!("{}xC", frames.len()), actual));
    }
    if let Some(value) = probabilities.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(Error::input("probabilities", format!("expected 0 to 1, got {value}")));
    }
    for (frame, (footprint, _)) in frames.iter().enumerate() {
        // The corners may have been set or read without a look at them.
        Footprint::new(footprint.corners)
            .map_err(|error| Error::input(format!("frames[{frame}]"), error.to_string()))?;
    }
    grid.validate()?;
    if !grid.transform.is_north_up() {
        return Err(Error::input("grid", "expected a raster with north up, got a rotated one"));
    }
    Ok(())
}

type Point = (f64, f64);

/// The cell's corners of least and greatest coordinates.
fn cell_box(grid: &RasterGrid, index: usize) -> (Point, Point) {
    let width = grid.size.width as usize;
    let (column, row) = ((index % width) as f64, (index / width) as f64);
    let ((west, north), (east, south)) =
        (grid.transform.world(column, row), grid.transform.world(column + 1.0, row + 1.0));
    ((west, south), (east, north))
}

fn strictly_inside(place: Point, low: Point, high: Point) -> bool {
    low.0 < place.0 && place.0 < high.0 && low.1 < place.1 && place.1 < high.1
}

/// The frames that say something about a cell, of those `near`, and the share of their footprints in it; none when too
/// little of the cell is covered.
fn shares_in(
    (low, high): (Point, Point),
    near: &[usize],
    frames: &[(Footprint, Point)],
    config: &FootprintConfig,
) -> Vec<(usize, f64)> {
    // From the cell's corner, where coordinates are small and keep their digits.
    let side = (high.0 - low.0, high.1 - low.1);
    let (mut parts, mut shares) = (Vec::new(), Vec::new());
    for &frame in near {
        let (footprint, place) = frames[frame];
        if config.centre_in_cell && !strictly_inside(place, low, high) {
            continue;
        }
        let corners = footprint.corners.map(|(x, y)| (x - low.0, y - low.1));
        let part = Footprint { corners }.clip((0.0, 0.0), side);
        let covered = area(&part);
        if covered > 0.0 {
            shares.push((frame, covered / footprint.area()));
            parts.push(part);
        }
    }
    if cover(&parts, (config.min_coverage - SLACK) * side.0 * side.1) { shares } else { Vec::new() }
}

/// Whether convex polygons cover at least an area together.
fn cover(polygons: &[Vec<Point>], least: f64) -> bool {
    let (mut largest, mut sum) = (0.0_f64, 0.0);
    for area in polygons.iter().map(|polygon| area(polygon)) {
        (largest, sum) = (largest.max(area), sum + area);
    }
    // Their union lies in between, and takes far longer.
    largest >= least || (sum >= least && union_area(polygons) >= least)
}

/// For each cell the frames whose footprint's box meets it, ascending.
fn frames_by_cell(frames: &[(Footprint, Point)], grid: &RasterGrid) -> Vec<Vec<usize>> {
    let (height, width) = grid.size.shape();
    let mut near = vec![Vec::new(); height * width];
    for (frame, (footprint, _)) in frames.iter().enumerate() {
        let pixels = footprint.corners.map(|(x, y)| grid.transform.pixel(x, y));
        let span = |along: fn(&Point) -> f64, cells: usize| {
            let low = pixels.iter().map(along).fold(f64::INFINITY, f64::min).floor().clamp(0.0, cells as f64);
            let high = pixels.iter().map(along).fold(f64::NEG_INFINITY, f64::max).ceil().clamp(0.0, cells as f64);
            low as usize..high as usize
        };
        for row in span(|pixel| pixel.1, height) {
            for column in span(|pixel| pixel.0, width) {
                near[row * width + column].push(frame);
            }
        }
    }
    near
}

/// The area that convex polygons cover together.
///
/// Between neighbouring x of all corners and crossings the covered length is linear in x, so that the length in the middle
/// of each strip is exact.
fn union_area(polygons: &[Vec<Point>]) -> f64 {
    let edges: Vec<(Point, Point)> = polygons
        .iter()
        .flat_map(|polygon| (0..polygon.len()).map(|i| (polygon[i], polygon[(i + 1) % polygon.len()])))
        .collect();
    let mut stops: Vec<f64> = edges.iter().map(|edge| edge.0.0).collect();
    for (i, a) in edges.iter().enumerate() {
        stops.extend(edges[..i].iter().filter_map(|b| crossing(a, b)));
    }
    stops.sort_unstable_by(f64::total_cmp);
    let strip = |pair: &[f64]| {
        let x = (pair[0] + pair[1]) / 2.0;
        let mut spans: Vec<_> = polygons.iter().filter_map(|polygon| cross_section(polygon, x)).collect();
        spans.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut length, mut reached) = (0.0, f64::NEG_INFINITY);
        for (low, high) in spans {
            length += (high - low.max(reached)).max(0.0);
            reached = reached.max(high);
        }
        length * (pair[1] - pair[0])
    };
    stops.windows(2).map(strip).sum()
}

/// The x where two edges cross.
fn crossing((a, b): &(Point, Point), (c, d): &(Point, Point)) -> Option<f64> {
    let (u, v) = ((b.0 - a.0, b.1 - a.1), (d.0 - c.0, d.1 - c.1));
    let cross = u.0 * v.1 - u.1 * v.0;
    let offset = (c.0 - a.0, c.1 - a.1);
    let along_first = (offset.0 * v.1 - offset.1 * v.0) / cross;
    let along_second = (offset.0 * u.1 - offset.1 * u.0) / cross;
    let inside = |share: f64| (0.0..=1.0).contains(&share);
    (inside(along_first) && inside(along_second)).then_some(a.0 + along_first * u.0)
}

/// The y from which to which a convex polygon reaches at x.
fn cross_section(polygon: &[Point], x: f64) -> Option<(f64, f64)> {
    let edges = (0..polygon.len()).map(|i| (polygon[i], polygon[(i + 1) % polygon.len()]));
    let crossings =
        edges.filter(|(a, b)| (a.0 < x) != (b.0 < x)).map(|(a, b)| a.1 + (x - a.0) / (b.0 - a.0) * (b.1 - a.1));
    let (low, high) = crossings.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    (low < high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{Crs, GeoTransform, SeededRng, Size};
    use ndarray::array;

    fn square(x: f64, y: f64, side: f64) -> (Footprint, Point) {
        let corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)];
        (Footprint::new(corners).unwrap(), (x + side / 2.0, y + side / 2.0))
    }

    fn grid() -> RasterGrid {
        let size = Size { width: 2, height: 1 };
        RasterGrid { size, transform: GeoTransform::north_up(0.0, 1.0, 1.0, 1.0), crs: Crs { epsg: 32740 } }
    }

    #[test]
    fn only_covered_cells_hold_data() {
        let frames = [square(-0.5, -0.5, 2.0), square(1.2, 0.0, 1.0)];
        let probabilities = array![[0.8], [1.0]];
        let values = |config: FootprintConfig| {
            aggregate_footprints(&frames, probabilities.view(), &grid(), &config)
                .unwrap()
                .values
                .into_raw_vec_and_offset()
                .0
        };
        let full = values(FootprintConfig::default());
        // A quarter of the first footprint covers the first cell.
        assert!((full[0] - 0.2).abs() < 1e-12);
        assert!((full[1] - (1.0 - (1.0 - 0.8 / 8.0) * (1.0 - 0.8))).abs() < 1e-12);
        let centred = values(FootprintConfig { centre_in_cell: true, min_coverage: 0.8 });
        assert!((centred[0] - 0.2).abs() < 1e-12 && (centred[1] - 0.8).abs() < 1e-12);
        assert!(values(FootprintConfig { centre_in_cell: true, ..Default::default() })[1].is_nan());
        let nothing =
            aggregate_footprints(&[], array![[]].slice(ndarray::s![..0, ..]), &grid(), &FootprintConfig::default());
        assert!(nothing.unwrap().values.is_empty());
    }

    #[test]
    fn cells_beside_a_footprint_hold_no_data() {
        // Its box meets the second cell, its area does not.
        let diamond = Footprint::new([(0.5, -1.2), (1.3, -0.4), (0.5, 0.4), (-0.3, -0.4)]).unwrap();
        let config = FootprintConfig { min_coverage: 0.0, centre_in_cell: false };
        let raster = aggregate_footprints(&[(diamond, (0.5, -0.4))], array![[1.0]].view(), &grid(), &config).unwrap();
        assert!(raster.values[[0, 0, 0]] > 0.0 && raster.values[[0, 0, 1]].is_nan());
    }

    #[test]
    fn cells_far_from_the_origin_lose_no_digits() {
        let share = |x: f64, y: f64, slant: f64| {
            let corners =
                [(x - 1.0, y - 1.0), (x + slant, y - 1.0), (x + 1.0 - slant / 2.0, y + 2.0), (x - 1.0, y + 2.0)];
            let size = Size { width: 1, height: 1 };
            let grid = RasterGrid { size, transform: GeoTransform::north_up(x, y + 1.0, 1.0, 1.0), ..grid() };
            let (frames, config) = (
                [(Footprint::new(corners).unwrap(), (x, y))],
                FootprintConfig { min_coverage: 0.0, ..Default::default() },
            );
            aggregate_footprints(&frames, array![[1.0]].view(), &grid, &config).unwrap().values[[0, 0, 0]]
        };
        // Numbers without rounding, so that both places have the same shape.
        for slant in (1..64).map(|i| f64::from(i) / 64.0) {
            let (near, far) = (share(0.0, 0.0, slant), share(312_000.25, 7_662_000.5, slant));
            assert!((near - far).abs() < 1e-13, "{near}, far away {far}");
        }
    }

    #[test]
    fn union_area_equals_counted_points() {
        let mut random = SeededRng::new(3);
        for _ in 0..20 {
            let mut place = || (random.range(0.0, 0.8), random.range(0.0, 0.8));
            let footprints: Vec<_> = (0..6)
                .map(|_| {
                    let ((x, y), (w, h), (skew, _)) = (place(), place(), place());
                    let corners = [(x, y), (x + w + 0.1, y + skew / 10.0), (x + w, y + h + 0.1), (x, y + h + 0.1)];
                    Footprint::new(corners).unwrap().clip((0.0, 0.0), (1.0, 1.0))
                })
                .collect();
            let steps = 400;
            let covered = |i: usize| {
                let (x, y) = (((i % steps) as f64 + 0.5) / steps as f64, ((i / steps) as f64 + 0.5) / steps as f64);
                let holds =
                    |polygon: &Vec<Point>| cross_section(polygon, x).is_some_and(|(low, high)| low <= y && y <= high);
                footprints.iter().any(holds)
            };
            let counted = (0..steps * steps).filter(|&i| covered(i)).count() as f64 / (steps * steps) as f64;
            let exact = union_area(&footprints);
            assert!((exact - counted).abs() < 4e-3, "{exact} against {counted}");
        }
    }

    #[test]
    fn bad_input_is_named() {
        let text = |probabilities: ArrayView2<'_, f64>, grid: &RasterGrid, config: &FootprintConfig| {
            aggregate_footprints(&[square(0.0, 0.0, 1.0)], probabilities, grid, config).unwrap_err().to_string()
        };
        let (one, config) = (array![[0.5]], FootprintConfig::default());
        assert!(text(array![[0.5], [0.5]].view(), &grid(), &config).contains("1xC"));
        assert!(text(array![[f64::NAN]].view(), &grid(), &config).contains("NaN"));
        assert!(text(one.view(), &grid(), &FootprintConfig { min_coverage: 1.5, ..config }).contains("min_coverage"));
        let flat = Footprint { corners: [(0.0, 0.0); 4] };
        let error = aggregate_footprints(&[(flat, (0.0, 0.0))], one.view(), &grid(), &config).unwrap_err().to_string();
        assert!(error.contains("frames[0]") && error.contains("convex"), "{error}");
        let turned = GeoTransform { column: (0.8, 0.6), ..grid().transform };
        assert!(text(one.view(), &RasterGrid { transform: turned, ..grid() }, &config).contains("rotated"));
    }
}
