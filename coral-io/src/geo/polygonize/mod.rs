//! Outlines of the regions of a class map.

mod arcs;
mod outlines;
mod regions;

use std::collections::BTreeMap;

use coral_core::{ClassSet, LabelRaster, RasterGrid, Result};
use geo::{LineString, MultiPolygon, Polygon};
use serde::{Deserialize, Serialize};

use self::arcs::Arcs;
use self::outlines::{Ring, Row, Tracer};
use self::regions::Regions;
use super::bands::bands;
use super::polygons::{Attributes, ClassPolygon, ClassPolygons};

/// What makes a region of a class map a polygon.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolygonizeConfig {
    /// Whether pixels that meet at a corner alone belong to one polygon, as its parts.
    pub diagonals: bool,
    /// Regions of fewer pixels are left out; the map then has gaps there.
    pub min_pixels: u64,
}

/// The regions of equal class as polygons whose outlines run along the borders of pixels, with holes; pixels that are
/// [`UNLABELED`](coral_core::UNLABELED) belong to none.
///
/// Each polygon has its class and the attributes `class`, `name`, `pixels` and, where the grid is in metres, `area_m2`. They
/// are sorted by the first of their pixels, row by row, so that equal maps give equal polygons. Rasterised again on the
/// grid, they give the map again (without [`PolygonizeConfig::min_pixels`]). No ring touches itself; parts and holes may
/// touch at corners, as valid polygons may.
///
/// The map is read once, in bands of rows. In memory are a band, two rows, and all outlines.
///
/// # Errors
/// [`Error::InvalidInput`](coral_core::Error::InvalidInput) for a grid of another size than the map, and errors of the
/// reader.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, Crs, GeoTransform, RasterGrid, Size, ndarray::array};
/// use coral_io::geo::{polygonize, rasterize};
/// let map = array![[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]];
/// let size = Size { width: 4, height: 3 };
/// let grid = RasterGrid { size, transform: GeoTransform::north_up(0.0, 6.0, 2.0, 2.0), crs: Crs::utm(40, true)? };
/// let polygons = polygonize(&map, &grid, &ClassSet::from_names(["sand", "coral"])?, &Default::default())?;
/// let coral = &polygons.polygons[0];
/// assert_eq!((coral.class, &coral.attributes["name"], &coral.attributes["area_m2"]), (Some(1), &"coral".into(), &32.0.into()));
/// assert_eq!((polygons.len(), coral.geometry.0[0].interiors().len()), (3, 1));
/// assert_eq!(rasterize(&polygons, &grid, &Default::default())?, map);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// GDAL's `GDALPolygonize`, version 3.10: the same polygons in another order; with [`PolygonizeConfig::diagonals`], whose
/// outlines touch themselves there, the same areas.
pub fn polygonize(
    labels: &dyn LabelRaster,
    grid: &RasterGrid,
    classes: &ClassSet,
    config: &PolygonizeConfig,
) -> Result<ClassPolygons> {
    grid.validate()?;
    grid.size.expect("grid", labels.size())?;
    let (rings, mut regions) = trace(labels, config)?;
    let mut shapes: BTreeMap<u32, BTreeMap<u32, Shape>> = BTreeMap::new();
    for ring in rings {
        let region = regions.root(ring.region);
        let shape = shapes.entry(regions.group(region)).or_default().entry(region).or_default();
        shape.pixels += ring.area;
        if ring.area > 0 { shape.outer = ring.corners } else { shape.holes.push(ring.corners) }
    }
    let mut polygons = Vec::with_capacity(shapes.len());
    for (group, parts) in shapes {
        // The outline of a region that is too small was dropped, its holes were not.
        let parts: Vec<_> = parts.into_values().filter(|part| !part.outer.is_empty()).collect();
        let pixels: i64 = parts.iter().map(|part| part.pixels).sum();
        if parts.is_empty() || (pixels as u64) < config.min_pixels {
            continue;
        }
        let class = regions.class(group);
        let mut attributes = Attributes::new();
        attributes.insert("class".into(), class.into());
        attributes.insert("name".into(), classes.name(class).into());
        attributes.insert("pixels".into(), pixels.into());
        if grid.crs.is_metric() {
            attributes.insert("area_m2".into(), (pixels as f64 * grid.transform.pixel_area()).into());
        }
        let geometry = MultiPolygon(parts.into_iter().map(|part| part.polygon(grid)).collect());
        polygons.push(ClassPolygon { class: Some(class), attributes, geometry });
    }
    ClassPolygons::new(grid.crs, polygons)
}

/// A region with its holes.
#[derive(Debug, Default)]
struct Shape {
    pixels: i64,
    outer: Vec<(u32, u32)>,
    holes: Vec<Vec<(u32, u32)>>,
}

impl Shape {
    fn polygon(self, grid: &RasterGrid) -> Polygon<f64> {
        let ring = |corners: Vec<(u32, u32)>| {
            let mut ring: LineString<f64> =
                corners.into_iter().map(|(x, y)| grid.transform.world(x.into(), y.into())).collect();
            ring.close();
            ring
        };
        Polygon::new(ring(self.outer), self.holes.into_iter().map(ring).collect())
    }
}

/// All borders of a map and the regions that they belong to.
fn trace(labels: &dyn LabelRaster, config: &PolygonizeConfig) -> Result<(Vec<Ring>, Regions)> {
    let size = labels.size();
    let width = size.width as usize;
    let (mut tracer, mut regions) = (Tracer::new(width), Regions::new(width, config.diagonals));
    let (mut rings, mut arcs) = (Vec::new(), Arcs::default());
    // Regions that are joined at corners may be large although each is small.
    let smallest = if config.diagonals { 0 } else { config.min_pixels };
    let large_enough = |ring: &Ring| ring.area < 0 || ring.area as u64 >= smallest;
    let mut close = |corners| {
        let simple = arcs.take(corners).map(|corners| Ring::new(&corners));
        rings.extend(simple.filter(large_enough));
    };
    let nothing = vec![coral_core::UNLABELED; width];
    let mut above = (nothing.clone(), vec![u32::MAX; width]);
    for band in bands(size, 1) {
        let band_labels = labels.read_labels(band)?;
        for (row, classes) in (band.y..).zip(band_labels.rows()) {
            let below = (classes.to_vec(), regions.row(&above.0, &above.1, classes)?);
            let rows = [&above, &below].map(|(classes, regions)| Row { classes, regions });
            tracer.line(row, rows[0], rows[1], &mut close);
            above = below;
        }
    }
    let end = Row { classes: &nothing, regions: &vec![u32::MAX; width] };
    tracer.line(size.height, Row { classes: &above.0, regions: &above.1 }, end, &mut close);
    rings.extend(arcs.rings(&mut regions).into_iter().filter(large_enough));
    Ok((rings, regions))
}

#[cfg(test)]
mod tests;
