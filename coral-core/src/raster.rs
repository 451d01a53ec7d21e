use serde::{Deserialize, Serialize};

use crate::{Crs, Error, Rect, Result, Size};

/// Where the pixels of a raster lie in the world: an affine map from pixel to world coordinates.
///
/// Pixel coordinates are continuous: the first pixel reaches from (0, 0) to (1, 1) and has its centre at (0.5, 0.5).
///
/// # Examples
/// ```
/// use coral_core::GeoTransform;
/// let transform = GeoTransform::north_up(500_000.0, 7_650_000.0, 0.5, 0.25);
/// assert_eq!(transform.world(2.0, 4.0), (500_001.0, 7_649_999.0));
/// assert_eq!(transform.pixel(500_001.0, 7_649_999.0), (2.0, 4.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GeoTransform {
    /// World x of the first pixel's outer corner.
    pub x: f64,
    /// World y of the first pixel's outer corner.
    pub y: f64,
    /// World step from one column to the next.
    pub column: (f64, f64),
    /// World step from one row to the next.
    pub row: (f64, f64),
}

impl GeoTransform {
    /// North up: x grows with the columns, y falls with the rows. `width` and `height` are those of one pixel.
    pub fn north_up(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self { x, y, column: (width, 0.0), row: (0.0, -height) }
    }

    /// Whether columns run east and rows run south, without rotation.
    pub fn is_north_up(&self) -> bool {
        self.column.0 > 0.0 && self.column.1 == 0.0 && self.row.0 == 0.0 && self.row.1 < 0.0
    }

    /// World coordinates of continuous pixel coordinates.
    pub fn world(&self, column: f64, row: f64) -> (f64, f64) {
        let along = |origin: f64, per_column: f64, per_row: f64| origin + column * per_column + row * per_row;
        (along(self.x, self.column.0, self.row.0), along(self.y, self.column.1, self.row.1))
    }

    /// Continuous pixel coordinates (column, row) of world coordinates; not finite where pixels have no area.
    pub fn pixel(&self, x: f64, y: f64) -> (f64, f64) {
        let (dx, dy, area) = (x - self.x, y - self.y, self.signed_area());
        ((dx * self.row.1 - dy * self.row.0) / area, (dy * self.column.0 - dx * self.column.1) / area)
    }

    /// Area of a pixel in squared world units.
    pub fn pixel_area(&self) -> f64 {
        self.signed_area().abs()
    }

    fn signed_area(&self) -> f64 {
        self.column.0 * self.row.1 - self.column.1 * self.row.0
    }

    /// That of a window of the raster.
    pub fn window(&self, window: Rect) -> Self {
        let (x, y) = self.world(window.x.into(), window.y.into());
        Self { x, y, ..*self }
    }
}

/// A raster's pixels in the world: how many, where, and in which coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RasterGrid {
    /// Pixels of the raster.
    pub size: Size,
    /// Pixel to world coordinates.
    pub transform: GeoTransform,
    /// What the world coordinates are.
    pub crs: Crs,
}

impl RasterGrid {
    /// Checks that the raster has pixels and that they have a place.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let GeoTransform { x, y, column, row } = self.transform;
        let finite = [x, y, column.0, column.1, row.0, row.1].iter().all(|value| value.is_finite());
        let area = self.transform.pixel_area();
        if self.size.pixels() == 0 {
            return Err(Error::input("raster size", format!("a raster of {} has no pixel", self.size)));
        }
        if !finite || area == 0.0 || !area.is_finite() {
            let reason = format!("expected finite numbers and pixels with an area, got {:?}", self.transform);
            return Err(Error::input("raster transform", reason));
        }
        Ok(())
    }

    /// The grid of a window of the raster.
    pub fn window(&self, window: Rect) -> Self {
        let size = Size { width: window.width, height: window.height };
        Self { size, transform: self.transform.window(window), crs: self.crs }
    }

    /// The raster's outer corners in world coordinates, clockwise from the first pixel's.
    pub fn corners(&self) -> [(f64, f64); 4] {
        let (width, height) = (f64::from(self.size.width), f64::from(self.size.height));
        [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)].map(|(c, r)| self.transform.world(c, r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_inverts_world_under_rotation() {
        let turned = GeoTransform { x: 1e6, y: -7e6, column: (0.3, 0.4), row: (0.8, -0.6) };
        for (column, row) in [(0.0, 0.0), (12.5, 3.25), (-4.0, 1e4)] {
            let (x, y) = turned.world(column, row);
            let (c, r) = turned.pixel(x, y);
            assert!((c - column).abs() < 1e-6 && (r - row).abs() < 1e-6, "({c}, {r}) against ({column}, {row})");
        }
        assert!((turned.pixel_area() - 0.5).abs() < 1e-12);
        assert!(!turned.is_north_up() && GeoTransform::north_up(0.0, 0.0, 1.0, 2.0).is_north_up());
    }

    #[test]
    fn windows_keep_their_place() {
        let size = Size { width: 40, height: 30 };
        let grid = RasterGrid { size, transform: GeoTransform::north_up(10.0, 20.0, 0.5, 0.25), crs: Crs::WGS84 };
        let window = grid.window(Rect { x: 4, y: 8, width: 10, height: 5 });
        assert_eq!(window.corners()[0], grid.transform.world(4.0, 8.0));
        assert_eq!(window.corners()[2], grid.transform.world(14.0, 13.0));
        assert!(grid.validate().is_ok());
        let flat = RasterGrid { transform: GeoTransform::north_up(0.0, 0.0, 0.5, 0.0), ..grid };
        assert!(flat.validate().unwrap_err().to_string().contains("raster transform"));
        let empty = RasterGrid { size: Size { width: 0, height: 3 }, ..grid };
        assert!(empty.validate().unwrap_err().to_string().contains("raster size"));
    }
}
