use std::fmt;

use coral_core::ndarray::{Array2, ArrayView2};
use coral_core::{Crs, Error, Result};
use proj4rs::proj::Proj;
use proj4rs::transform::transform;

/// Positions from one coordinate reference system to another.
///
/// Known are longitude and latitude (4326) and UTM (32601–32660, 32701–32760) on WGS 84, Web Mercator (3857), Lambert-93
/// (2154), and the zones of UTM and the degrees of surveys whose datum is taken for equal to WGS 84, as PROJ takes it
/// ([`Crs::utm_zone`], [`Crs::is_geographic`]): RGR92, ETRS89 and others are within a metre of it, NAD83 and GDA94 within
/// two. French Polynesia's RGPF, which PROJ shifts, is not among them. x is the easting or the longitude in
/// degrees, y the northing or the latitude.
///
/// # Examples
/// ```
/// use coral_core::Crs;
/// use coral_io::geo::Projection;
/// let to_utm = Projection::new(Crs::WGS84, Crs::utm(40, true)?)?;
/// let (x, y) = to_utm.transform(57.0, 0.0)?; // on the zone's meridian and the equator
/// assert!((x - 500_000.0).abs() < 1e-3 && (y - 10_000_000.0).abs() < 1e-3);
/// assert!(Projection::new(Crs::WGS84, Crs { epsg: 31370 }).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// PROJ (<https://proj.org>); positions agree with PROJ 9 to less than a millimetre.
pub struct Projection {
    from: Crs,
    to: Crs,
    /// The systems' own descriptions, `None` when they are one.
    systems: Option<(Proj, Proj)>,
}

impl Projection {
    /// From one system to another.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a system that is not among the known ones, unless both are the same.
    pub fn new(from: Crs, to: Crs) -> Result<Self> {
        let systems = if from == to { None } else { Some((described(from)?, described(to)?)) };
        Ok(Self { from, to, systems })
    }

    /// The way back.
    ///
    /// # Errors
    /// None that [`Projection::new`] did not have.
    pub fn inverse(&self) -> Result<Self> {
        Self::new(self.to, self.from)
    }

    /// The system of the positions that go in.
    pub fn from(&self) -> Crs {
        self.from
    }

    /// The system of the positions that come out.
    pub fn to(&self) -> Crs {
        self.to
    }

    /// The position in the other system.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a position that has none there.
    pub fn transform(&self, x: f64, y: f64) -> Result<(f64, f64)> {
        let fail = |reason: String| {
            let way = format!("({x}, {y}) in {} has no place in {}", self.from, self.to);
            Error::input("position", format!("{way}: {reason}"))
        };
        if !x.is_finite() || !y.is_finite() {
            return Err(fail("expected finite numbers".into()));
        }
        let Some((from, to)) = &self.systems else { return Ok((x, y)) };
        let mut position = if from.is_latlong() { (x.to_radians(), y.to_radians(), 0.0) } else { (x, y, 0.0) };
        transform(from, to, &mut position).map_err(|error| fail(error.to_string()))?;
        let (x, y) = (position.0, position.1);
        if !x.is_finite() || !y.is_finite() {
            return Err(fail("it is too far away".into()));
        }
        Ok(if to.is_latlong() { (x.to_degrees(), y.to_degrees()) } else { (x, y) })
    }
}

impl Projection {
    /// N×2 positions in the other system.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for positions of other than two numbers; that of [`transform`](Projection::transform) for
    /// the first that has no place there.
    pub fn transform_all(&self, positions: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
        let (rows, columns) = positions.dim();
        if columns != 2 {
            return Err(Error::shape("positions", format!("{rows}x2"), format!("{rows}x{columns}")));
        }
        let mut there = positions.to_owned();
        for mut position in there.rows_mut() {
            (position[0], position[1]) = self.transform(position[0], position[1])?;
        }
        Ok(there)
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// PROJ's description of a system.
fn described(crs: Crs) -> Result<Proj> {
    const WGS84: &str = "+datum=WGS84 +no_defs";
    const SURVEYS: &str = "+ellps=GRS80 +towgs84=0,0,0 +no_defs";
    let datum = if crs == Crs::WGS84 || (32601..=32760).contains(&crs.epsg) { WGS84 } else { SURVEYS };
    let text = match (crs.epsg, crs.utm_zone()) {
        (3296..=3299 | 4687, _) => return Err(unknown(crs)),
        (_, Some((zone, true))) => format!("+proj=utm +zone={zone} +south +units=m {datum}"),
        (_, Some((zone, false))) => format!("+proj=utm +zone={zone} +units=m {datum}"),
        _ if crs.is_geographic() => format!("+proj=longlat {datum}"),
        (2154, _) => "+proj=lcc +lat_1=49 +lat_2=44 +lat_0=46.5 +lon_0=3 +x_0=700000 +y_0=6600000 +ellps=GRS80 \
            +towgs84=0,0,0 +units=m +no_defs"
            .to_owned(),
        (3857, _) => "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +k=1 +units=m +nadgrids=@null \
            +wktext +no_defs"
            .to_owned(),
        _ => return Err(unknown(crs)),
    };
    Proj::from_proj_string(&text).map_err(|error| Error::parameter("crs", format!("{crs}: {error}")))
}

fn unknown(crs: Crs) -> Error {
    let reason = format!("no projection is known for {crs}: expected UTM on WGS 84, EPSG:4326 or one like these");
    Error::parameter("crs", reason)
}
