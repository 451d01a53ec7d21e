use std::collections::BTreeMap;

use coral_core::{ClassId, Error, LabelMap, LabelRaster, RasterGrid, Rect, Result, Size, UNLABELED};
use geo::{BoundingRect, Coord, Intersects, Line, LineString, MapCoords, MultiPolygon, Polygon};
use ndarray::Array2;
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use serde::{Deserialize, Serialize};

use super::polygons::{ClassPolygons, rings};

/// What polygons become pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RasterizeConfig {
    /// Besides the pixels whose centre lies inside, those whose inside the outline passes through.
    pub all_touched: bool,
    /// Polygons that lie outside of the raster altogether are left out; by default they are an error, for they mostly
    /// belong to another place.
    pub allow_outside: bool,
}

/// Polygons seen as a label map of any size, which is drawn window by window.
///
/// A pixel has the class of the last polygon that holds its centre, and [`UNLABELED`] where there is none; all windows
/// agree with the whole. This is GDAL's rule, of which the ties are part: a centre on an outline belongs to the polygon
/// on its left; on an edge along a row of centres, to the polygons on both sides.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, LabelRaster, RasterGrid, Rect, Size, ndarray::array};
/// use coral_io::geo::{ClassPolygon, ClassPolygons, LineString, MultiPolygon, Polygon, PolygonRaster};
/// let ring = LineString::from(vec![(1.0, 3.0), (3.0, 3.0), (3.0, 1.0), (1.0, 1.0), (1.0, 3.0)]);
/// let geometry = MultiPolygon(vec![Polygon::new(ring, vec![])]);
/// let polygon = ClassPolygon { class: Some(7), attributes: Default::default(), geometry };
/// let crs = Crs::utm(40, true)?;
/// let polygons = ClassPolygons::new(crs, vec![polygon])?;
/// // A million pixels on each side, of which nothing is drawn before it is asked for.
/// let size = Size { width: 1_000_000, height: 1_000_000 };
/// let grid = RasterGrid { size, transform: GeoTransform::north_up(0.0, 4.0, 1.0, 1.0), crs };
/// let raster = PolygonRaster::new(&polygons, grid, &Default::default())?;
/// let window = raster.read_labels(Rect { x: 0, y: 0, width: 3, height: 2 })?;
/// assert_eq!(window, array![[255, 255, 255], [255, 7, 7]]);
/// assert_eq!(raster.polygons_in(Rect { x: 2, y: 2, width: 8, height: 8 }), [0]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// GDAL's `GDALRasterizeGeometries`, version 3.10: equal pixel for pixel on random outlines, and on outlines through
/// centres as long as positions in pixels are exact; else a centre within rounding of an outline may differ.
/// `all_touched` differs where an outline passes exactly through corners of pixels.
#[derive(Debug, Clone)]
pub struct PolygonRaster {
    grid: RasterGrid,
    config: RasterizeConfig,
    /// Classes and outlines in pixels of the raster.
    shapes: Vec<(ClassId, MultiPolygon<f64>)>,
    /// The boxes around the shapes.
    boxes: RTree<GeomWithData<Rectangle<[f64; 2]>, usize>>,
}

impl PolygonRaster {
    /// Lays polygons over a grid.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the grid has no pixel or another system than the polygons, a polygon has no class or
    /// the class [`UNLABELED`], or lies outside of the raster without [`RasterizeConfig::allow_outside`].
    pub fn new(polygons: &ClassPolygons, grid: RasterGrid, config: &RasterizeConfig) -> Result<Self> {
        grid.validate()?;
        grid.crs.expect("polygons", polygons.crs)?;
        let (mut shapes, mut boxes) = (Vec::with_capacity(polygons.len()), Vec::with_capacity(polygons.len()));
        let (width, height) = (f64::from(grid.size.width), f64::from(grid.size.height));
        for (index, polygon) in polygons.polygons.iter().enumerate() {
            let fail = |reason: String| Err(Error::input(format!("polygons[{index}]"), reason));
            let Some(class) = polygon.class.filter(|&class| class != UNLABELED) else {
                return fail("has no class: expected 0 to 254 (see ClassPolygons::with_classes)".into());
            };
            let shape = polygon.geometry.map_coords(|at| grid.transform.pixel(at.x, at.y).into());
            let around = shape.bounding_rect();
            let Some(around) = around.filter(|around| around.width().is_finite() && around.height().is_finite()) else {
                return fail("its positions are no finite numbers of pixels".into());
            };
            let (low, high) = (around.min(), around.max());
            if (high.x <= 0.0 || high.y <= 0.0 || low.x >= width || low.y >= height) && !config.allow_outside {
                let Size { width, height } = grid.size;
                let place = format!("from ({:.0}, {:.0}) to ({:.0}, {:.0})", low.x, low.y, high.x, high.y);
                return fail(format!("lies outside of the raster of {width}x{height} pixels: {place}"));
            }
            boxes.push(GeomWithData::new(Rectangle::from_corners([low.x, low.y], [high.x, high.y]), index));
            shapes.push((class, shape));
        }
        Ok(Self { grid, config: *config, shapes, boxes: RTree::bulk_load(boxes) })
    }

    /// Where the pixels lie.
    pub fn grid(&self) -> &RasterGrid {
        &self.grid
    }

    /// The polygons, by ascending index, that a window of the raster overlaps or touches.
    pub fn polygons_in(&self, window: Rect) -> Vec<usize> {
        let area = pixel_box(window);
        let mut found = self.near(area);
        found.retain(|&index| self.shapes[index].1.intersects(&area));
        found
    }

    /// Those whose boxes meet an area, by ascending index.
    fn near(&self, area: geo::Rect<f64>) -> Vec<usize> {
        let envelope = AABB::from_corners(area.min().into(), area.max().into());
        let mut found: Vec<_> = self.boxes.locate_in_envelope_intersecting(&envelope).map(|one| one.data).collect();
        found.sort_unstable();
        found
    }
}

fn pixel_box(window: Rect) -> geo::Rect<f64> {
    let (x, y) = (f64::from(window.x), f64::from(window.y));
    geo::Rect::new((x, y), (x + f64::from(window.width), y + f64::from(window.height)))
}

impl LabelRaster for PolygonRaster {
    fn size(&self) -> Size {
        self.grid.size
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        window.expect_inside("window", self.grid.size)?;
        let size = Size { width: window.width, height: window.height };
        let mut labels = LabelMap::from_elem(size.shape(), UNLABELED);
        for index in self.near(pixel_box(window)) {
            let (class, shape) = &self.shapes[index];
            let mut paint = |row: i64, start: i64, end: i64| paint(&mut labels, window, (row, start, end), *class);
            for part in shape {
                fill(part, window, &mut paint);
                if self.config.all_touched {
                    rings(part).flat_map(|ring| ring.lines()).for_each(|line| touch(line, window, &mut paint));
                }
            }
        }
        Ok(labels)
    }
}

/// Gives the pixels `start..end` of a row of the raster to a class, as far as the window shows them.
fn paint(labels: &mut LabelMap, window: Rect, (row, start, end): (i64, i64, i64), class: ClassId) {
    let (left, top) = (i64::from(window.x), i64::from(window.y));
    let column = |at: i64| at.clamp(left, left + i64::from(window.width)) - left;
    let (start, end) = (column(start), column(end));
    if row >= top && row < top + i64::from(window.height) && start < end {
        let mut row = labels.row_mut((row - top) as usize);
        row.slice_mut(ndarray::s![start as usize..end as usize]).fill(class);
    }
}

/// The rows of the window whose centres lie in `low..high`.
fn rows_between(low: f64, high: f64, window: Rect) -> std::ops::Range<i64> {
    let first = |edge: f64| (edge - 0.5).ceil() as i64;
    let top = i64::from(window.y);
    first(low).max(top)..first(high).min(top + i64::from(window.height))
}

/// Paints the pixels whose centres lie inside of a polygon: between the first and the second crossing of their row with
/// its rings, between the third and the fourth, and so on.
fn fill(polygon: &Polygon<f64>, window: Rect, paint: &mut impl FnMut(i64, i64, i64)) {
    // The first pixel whose centre is right of a position.
    let column = |x: f64| (x + 0.5).floor() as i64;
    let mut crossings: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for ring in rings(polygon) {
        // On a picture, with y downwards, a positive area is clockwise; the edges below an area then run to the left.
        let left = ring_area(ring) > 0.0;
        for Line { start, end } in ring.lines() {
            let (low, high) = if start.y < end.y { (start, end) } else { (end, start) };
            for row in rows_between(low.y, high.y, window) {
                let center = row as f64 + 0.5;
                let x = (center - low.y) * (high.x - low.x) / (high.y - low.y) + low.x;
                crossings.entry(row).or_default().push(x);
            }
            // An edge below an area that runs along the centres of a row has them.
            if start.y == end.y && start.y.fract().abs() == 0.5 && (end.x < start.x) == left {
                paint(start.y.floor() as i64, column(start.x.min(end.x)), column(start.x.max(end.x)));
            }
        }
    }
    for (row, mut at) in crossings {
        at.sort_unstable_by(f64::total_cmp);
        for pair in at.chunks_exact(2) {
            paint(row, column(pair[0]), column(pair[1]));
        }
    }
}

/// Twice the area of a ring, measured from its first corner so that far coordinates do not cancel.
fn ring_area(ring: &LineString<f64>) -> f64 {
    let Some(&Coord { x, y }) = ring.0.first() else { return 0.0 };
    let product = |a: Coord<f64>, b: Coord<f64>| (a.x - x) * (b.y - y) - (b.x - x) * (a.y - y);
    ring.lines().map(|line| product(line.start, line.end)).sum()
}

/// Paints the pixels whose inside a line passes through.
fn touch(line: Line<f64>, window: Rect, paint: &mut impl FnMut(i64, i64, i64)) {
    let (low, high) = if line.start.y <= line.end.y { (line.start, line.end) } else { (line.end, line.start) };
    let (top, highest) = (i64::from(window.y), low.y.floor() as i64);
    // A level line between two borders has a row, too.
    let last = (high.y.ceil() as i64).max(highest.saturating_add(1)).min(top + i64::from(window.height));
    let first = highest.max(top);
    for row in first..last {
        let (above, below) = (row as f64, row as f64 + 1.0);
        // A line along the border between two rows passes through neither.
        if low.y == high.y && low.y == above {
            continue;
        }
        let at = |y: f64| match y {
            y if y <= low.y => low.x,
            y if y >= high.y => high.x,
            y => (y - low.y) * (high.x - low.x) / (high.y - low.y) + low.x,
        };
        let (a, b) = if low.y == high.y { (low.x, high.x) } else { (at(above), at(below)) };
        let (left, right) = (a.min(b), a.max(b));
        paint(row, left.floor() as i64, right.ceil() as i64);
    }
}

/// Draws polygons as a label map.
///
/// # Errors
/// Those of [`PolygonRaster::new`].
///
/// # Examples
/// See [`PolygonRaster`], which draws a part at a time.
pub fn rasterize(polygons: &ClassPolygons, grid: &RasterGrid, config: &RasterizeConfig) -> Result<LabelMap> {
    PolygonRaster::new(polygons, *grid, config)?.read_labels(Rect::whole(grid.size))
}

/// The pixels that any of the polygons holds; classes are not looked at.
///
/// # Errors
/// Those of [`PolygonRaster::new`], but for missing classes.
pub fn polygon_mask(polygons: &ClassPolygons, grid: &RasterGrid, config: &RasterizeConfig) -> Result<Array2<bool>> {
    let labels = rasterize(&polygons.clone().with_class(0), grid, config)?;
    Ok(labels.mapv(|id| id != UNLABELED))
}

#[cfg(test)]
mod tests;
