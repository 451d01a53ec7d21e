use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Rect, Result, Size};

/// A coordinate reference system by its number in the EPSG registry.
///
/// # Examples
/// ```
/// use coral_core::Crs;
/// assert_eq!(Crs::utm(40, true)?.to_string(), "EPSG:32740");
/// assert_eq!("EPSG:4326".parse::<Crs>()?, Crs::WGS84);
/// assert_eq!(Crs { epsg: 32632 }.utm_zone(), Some((32, false)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Crs {
    /// The number, e.g. 32740 for UTM zone 40 south on WGS 84.
    pub epsg: u32,
}

impl Crs {
    /// Longitude and latitude in degrees on WGS 84, as a GPS gives them; x is the longitude.
    pub const WGS84: Self = Self { epsg: 4326 };

    /// A zone of UTM on WGS 84, in metres.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a zone outside 1 to 60.
    pub fn utm(zone: u32, south: bool) -> Result<Self> {
        if !(1..=60).contains(&zone) {
            return Err(Error::parameter("zone", format!("expected 1 to 60, got {zone}")));
        }
        Ok(Self { epsg: if south { 32700 } else { 32600 } + zone })
    }

    /// The zone of UTM on WGS 84 that holds a position in degrees; the zones' exceptions at Norway and Svalbard are
    /// left out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a position that is none.
    pub fn utm_at(longitude: f64, latitude: f64) -> Result<Self> {
        if !(longitude.abs() <= 180.0 && latitude.abs() <= 90.0) {
            let reason = format!("expected degrees within 180 and 90, got ({longitude}, {latitude})");
            return Err(Error::parameter("position", reason));
        }
        let zone = (((longitude + 180.0) / 6.0) as u32).min(59) + 1;
        Self::utm(zone, latitude < 0.0)
    }

    /// Zone and whether it is a southern one, where the system is UTM on WGS 84.
    pub fn utm_zone(self) -> Option<(u32, bool)> {
        match self.epsg {
            32601..=32660 => Some((self.epsg - 32600, false)),
            32701..=32760 => Some((self.epsg - 32700, true)),
            _ => None,
        }
    }
}

impl fmt::Display for Crs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EPSG:{}", self.epsg)
    }
}

impl FromStr for Crs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.trim().get(..5).filter(|prefix| prefix.eq_ignore_ascii_case("EPSG:"));
        let number = number.and_then(|_| text.trim().get(5..)).and_then(|digits| digits.parse().ok());
        let epsg = number.ok_or_else(|| Error::input("crs", format!("expected EPSG:NUMBER, got `{text}`")))?;
        Ok(Self { epsg })
    }
}

impl TryFrom<String> for Crs {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Crs> for String {
    fn from(crs: Crs) -> Self {
        crs.to_string()
    }
}

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

    #[test]
    fn systems_are_read_and_written_as_text() {
        assert_eq!(" epsg:32740 ".parse::<Crs>().unwrap().utm_zone(), Some((40, true)));
        for bad in ["", "EPSG:", "EPSG:x", "4326", "EPSGé:1", "ESRI:102100"] {
            assert!(bad.parse::<Crs>().is_err(), "{bad}");
        }
        assert_eq!(Crs::utm_at(55.28, -21.1).unwrap(), Crs { epsg: 32740 });
        assert_eq!(
            (Crs::utm_at(180.0, 0.0).unwrap(), Crs::utm_at(-180.0, 1.0).unwrap().epsg),
            (Crs { epsg: 32660 }, 32601)
        );
        assert!(Crs::utm_at(f64::NAN, 0.0).is_err() && Crs::utm(0, false).is_err());
    }
}
