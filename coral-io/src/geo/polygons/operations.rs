use coral_core::{Crs, Error, Result};
use geo::algorithm::Validation;
use geo::{Area, BoundingRect, Buffer, Coord, GeodesicArea, Intersects, MapCoords, Rect, SimplifyVwPreserve};

use super::{ClassPolygon, ClassPolygons, fail};
use crate::geo::raster::Projection;

impl ClassPolygons {
    /// The polygons in another system. Each corner is mapped by itself: edges stay straight, also those that a line between
    /// far corners would not.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a system that [`Projection`] does not know; [`Error::InvalidInput`] for a corner that
    /// has no place there.
    ///
    /// # Examples
    /// ```
    /// use coral_core::Crs;
    /// use coral_io::geo::{ClassPolygon, ClassPolygons, LineString, MultiPolygon, Polygon};
    /// let ring = LineString::from(vec![(55.0, -21.0), (55.001, -21.0), (55.001, -21.001), (55.0, -21.0)]);
    /// let geometry = MultiPolygon(vec![Polygon::new(ring, vec![])]);
    /// let polygon = ClassPolygon { class: None, attributes: Default::default(), geometry };
    /// let degrees = ClassPolygons::new(Crs::WGS84, vec![polygon])?;
    /// let metres = degrees.reprojected(Crs::utm(40, true)?)?;
    /// // The scale of the projection is 0.9997 here, that of areas its square.
    /// let (ellipsoid, plane) = (degrees.areas()?[0], metres.areas()?[0]);
    /// assert!((plane / ellipsoid - 1.0).abs() < 1e-3, "{ellipsoid} {plane}");
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn reprojected(&self, to: Crs) -> Result<Self> {
        let projection = Projection::new(self.crs, to)?;
        self.map_positions(to, |x, y| projection.transform(x, y))
    }

    /// The polygons with every position mapped into another system.
    ///
    /// # Errors
    /// That of `map`, or [`Error::InvalidInput`] when it gives positions that are none.
    pub fn map_positions(&self, crs: Crs, map: impl Fn(f64, f64) -> Result<(f64, f64)>) -> Result<Self> {
        let map = &|at: Coord<f64>| map(at.x, at.y).map(Coord::from);
        let mapped = |polygon: &ClassPolygon| -> Result<ClassPolygon> {
            Ok(ClassPolygon { geometry: polygon.geometry.try_map_coords(map)?, ..polygon.clone() })
        };
        self.replaced(crs, self.polygons.iter().map(mapped).collect::<Result<_>>()?)
    }

    /// Checks what no single ring shows: that rings do not cross themselves or each other, that holes lie inside and that
    /// parts do not overlap.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first polygon that is not valid, and why.
    pub fn validate(&self) -> Result<()> {
        self.polygons.iter().enumerate().try_for_each(|(index, polygon)| valid(index, polygon))
    }

    /// The polygons' areas in m²: in the plane of a system in metres, on the ellipsoid in [`Crs::WGS84`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] in any other system, and for rings that cross: their area has no meaning.
    pub fn areas(&self) -> Result<Vec<f64>> {
        if self.crs != Crs::WGS84 {
            self.crs.expect_metric("polygons")?;
        }
        let area = |(index, polygon): (usize, &ClassPolygon)| {
            valid(index, polygon)?;
            // Parts by themselves, so that the winding order of each does not matter.
            let parts = polygon.geometry.iter();
            Ok(match self.crs {
                Crs::WGS84 => parts.map(geodesic_area).sum(),
                _ => parts.map(Area::unsigned_area).sum(),
            })
        };
        self.polygons.iter().enumerate().map(area).collect()
    }

    /// The polygons grown by `metres` on all sides, with round corners; shrunk, where `metres` is negative. Polygons that
    /// vanish are left out.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a system not in metres, [`Error::InvalidParameter`] for a distance that is not finite.
    ///
    /// # References
    /// The evaluation polygons of *The point is the mask* (2025) are grown by 2 m. Areas agree with GEOS (16 segments a
    /// quarter) within 0.1 %.
    pub fn buffered(&self, metres: f64) -> Result<Self> {
        self.crs.expect_metric("polygons")?;
        if !metres.is_finite() {
            return Err(Error::parameter("metres", format!("expected a finite distance, got {metres}")));
        }
        let grown = self
            .polygons
            .iter()
            .map(|polygon| ClassPolygon { geometry: polygon.geometry.buffer(metres), ..polygon.clone() });
        self.replaced(self.crs, grown.filter(|polygon| !polygon.geometry.0.is_empty()).collect())
    }

    /// The polygons with fewer corners (Visvalingam–Whyatt): a corner goes when the triangle that it makes with its
    /// neighbours is smaller than `tolerance`² / 2, and no ring then crosses another of its polygon.
    ///
    /// Each polygon is simplified by itself: neighbours that shared a border may then overlap or leave a gap.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a tolerance that is negative or not finite.
    pub fn simplified(&self, tolerance: f64) -> Result<Self> {
        if !(tolerance >= 0.0 && tolerance.is_finite()) {
            return Err(Error::parameter("tolerance", format!("expected a distance from 0, got {tolerance}")));
        }
        let simple = self.polygons.iter().map(|polygon| ClassPolygon {
            geometry: polygon.geometry.simplify_vw_preserve(tolerance * tolerance / 2.0),
            ..polygon.clone()
        });
        self.replaced(self.crs, simple.collect())
    }

    /// Others instead of these.
    fn replaced(&self, crs: Crs, polygons: Vec<ClassPolygon>) -> Result<Self> {
        Ok(Self { unlocated: self.unlocated, ..Self::new(crs, polygons)? })
    }

    /// The box around all polygons; none without any.
    pub fn bounds(&self) -> Option<Rect<f64>> {
        let boxes = self.polygons.iter().filter_map(|polygon| polygon.geometry.bounding_rect());
        boxes.reduce(|a, b| {
            let (low, high) = ((a.min(), b.min()), (a.max(), b.max()));
            Rect::new((low.0.x.min(low.1.x), low.0.y.min(low.1.y)), (high.0.x.max(high.1.x), high.0.y.max(high.1.y)))
        })
    }

    /// The topmost polygon, by its index, that holds a position; borders belong to it.
    pub fn at(&self, x: f64, y: f64) -> Option<usize> {
        self.polygons.iter().rposition(|polygon| polygon.geometry.intersects(&Coord { x, y }))
    }
}

fn valid(index: usize, polygon: &ClassPolygon) -> Result<()> {
    polygon.geometry.check_validation().map_err(|error| fail(index, error))
}

fn geodesic_area(polygon: &geo::Polygon<f64>) -> f64 {
    let ring = |ring: &geo::LineString<f64>| {
        let area = geo::Polygon::new(ring.clone(), Vec::new()).geodesic_area_signed();
        area.abs()
    };
    ring(polygon.exterior()) - polygon.interiors().iter().map(ring).sum::<f64>()
}
