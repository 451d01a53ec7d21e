use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Systems of UTM: their numbers by ascending zone, the first zone, whether it is a southern one.
const UTM_SYSTEMS: [(RangeInclusive<u32>, u32, bool); 17] = [
    // WGS 84.
    (32601..=32660, 1, false),
    (32701..=32760, 1, true),
    // ETRS89, NAD83, NAD83(2011).
    (25828..=25838, 28, false),
    (26901..=26923, 1, false),
    (6330..=6348, 1, false),
    // SIRGAS 2000.
    (31965..=31976, 11, false),
    (31977..=31985, 17, true),
    // GDA94, GDA2020.
    (28348..=28358, 48, true),
    (7846..=7859, 46, true),
    // JGD2000, JGD2011.
    (3097..=3101, 51, false),
    (6688..=6692, 51, false),
    // French Polynesia, New Caledonia, La Réunion, Mayotte, Antilles, Guiana.
    (3296..=3299, 5, true),
    (3169..=3171, 57, true),
    (2975..=2975, 40, true),
    (4471..=4471, 38, true),
    (5490..=5490, 20, false),
    (2972..=2972, 22, false),
];

/// Longitude and latitude on WGS 84 and the datums of [`UTM_SYSTEMS`], and on RGF93 and CGCS2000. The registry has no rule
/// that tells such systems from others by their numbers.
const GEOGRAPHIC_SYSTEMS: [u32; 17] =
    [4326, 4258, 4269, 6318, 4674, 4283, 7844, 4612, 6668, 4687, 4749, 4627, 4470, 5489, 4624, 4171, 4490];

/// A coordinate reference system by its number in the EPSG registry.
///
/// # Examples
/// ```
/// use coral_core::Crs;
/// assert_eq!(Crs::utm(40, true)?.to_string(), "EPSG:32740");
/// assert_eq!("EPSG:4326".parse::<Crs>()?, Crs::WGS84);
/// assert_eq!(Crs { epsg: 32632 }.utm_zone(), Some((32, false)));
/// assert!(Crs::utm(40, true)?.is_metric() && Crs::WGS84.is_geographic());
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

    /// Zone and whether it is a southern one, where the system is UTM: on WGS 84 or a survey's datum that differs from it
    /// by metres at most (ETRS89, NAD83, GDA, SIRGAS, those of France overseas, …), easting first.
    pub fn utm_zone(self) -> Option<(u32, bool)> {
        let (zones, first, south) = UTM_SYSTEMS.iter().find(|(zones, ..)| zones.contains(&self.epsg))?;
        Some((self.epsg - zones.start() + first, *south))
    }

    /// Whether coordinates are known to be metres on the ground, up to the scale of the projection (0.9996 in the middle
    /// of a zone of UTM). Web Mercator's are not: its metres grow with the latitude.
    pub fn is_metric(self) -> bool {
        // Lambert-93 and the British grid besides UTM.
        self.utm_zone().is_some() || matches!(self.epsg, 2154 | 27700)
    }

    /// Whether coordinates are known to be longitude and latitude in degrees.
    pub fn is_geographic(self) -> bool {
        GEOGRAPHIC_SYSTEMS.contains(&self.epsg)
    }

    /// Checks that `what` is in this system, too: things in two systems are never combined silently.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming `what` and both systems.
    ///
    /// # Examples
    /// ```
    /// use coral_core::Crs;
    /// let error = Crs::utm(40, true)?.expect("mask", Crs::WGS84).unwrap_err().to_string();
    /// assert!(error.contains("mask") && error.contains("EPSG:32740, got EPSG:4326"), "{error}");
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn expect(self, what: &str, actual: Self) -> Result<()> {
        if self == actual {
            return Ok(());
        }
        Err(Error::input(what, format!("expected coordinates in {self}, got {actual}: reproject one of them first")))
    }

    /// Checks that `what`, which is in this system, has coordinates in metres.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming `what` and the system.
    pub fn expect_metric(self, what: &str) -> Result<()> {
        if self.is_metric() {
            return Ok(());
        }
        let reason = format!("expected coordinates in metres (e.g. UTM), got {self}: reproject the positions first");
        Err(Error::input(what, reason))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_or_not() {
        for (epsg, zone) in [(32740, (40, true)), (25832, (32, false)), (6348, (19, false)), (7859, (59, true))] {
            assert_eq!(Crs { epsg }.utm_zone(), Some(zone), "{epsg}");
            assert!(Crs { epsg }.is_metric() && !Crs { epsg }.is_geographic());
        }
        for (epsg, metric) in [(2154, true), (4326, false), (4627, false), (3857, false), (4087, false), (32661, false)]
        {
            assert_eq!((Crs { epsg }.is_metric(), Crs { epsg }.utm_zone()), (metric, None), "{epsg}");
        }
        assert!(
            GEOGRAPHIC_SYSTEMS.iter().all(|&epsg| !Crs { epsg }.is_metric()) && !Crs { epsg: 3857 }.is_geographic()
        );
        // No number is in two ranges, and no zone beyond 60.
        for (nth, (zones, first, _)) in UTM_SYSTEMS.iter().enumerate() {
            assert!(first + zones.end() - zones.start() <= 60, "{zones:?}");
            let meets = |other: &RangeInclusive<u32>| zones.start() <= other.end() && other.start() <= zones.end();
            assert!(UTM_SYSTEMS[..nth].iter().all(|(other, ..)| !meets(other)), "{zones:?}");
        }
        let error = Crs { epsg: 3857 }.expect_metric("grid").unwrap_err().to_string();
        assert!(error.contains("grid") && error.contains("got EPSG:3857"), "{error}");
        assert!(Crs { epsg: 4471 }.expect_metric("grid").is_ok());
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
