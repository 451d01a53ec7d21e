//! The keys by which a GeoTIFF names its coordinate reference system.
//!
//! # References
//! OGC GeoTIFF Standard 1.1 (OGC 19-008r4), sections 7.1 and 7.5 and annex B.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use coral_core::{Crs, Error, Result};
use tiff_reader::{Ifd, TagValue};

use super::tags;

const MODEL_TYPE: u16 = 1024;
const RASTER_TYPE: u16 = 1025;
const CITATION: u16 = 1026;
const GEODETIC_CRS: u16 = 2048;
const PROJECTED_CRS: u16 = 3072;
const PROJECTED_CITATION: u16 = 3073;
const PROJECTION: u16 = 3074;
const USER_DEFINED: u16 = 32767;
const PROJECTED: u16 = 1;
const GEOGRAPHIC: u16 = 2;

/// Numbers that the registry gives to projected systems alone.
const PROJECTED_ALONE: [RangeInclusive<u32>; 2] = [2000..=3799, 20050..=32766];

/// A result with a reason to which the file has still to be added.
pub(super) type OrReason<T> = std::result::Result<T, String>;

/// The key directory of an image, as far as it matters here.
#[derive(Debug, Default, PartialEq)]
pub(super) struct GeoKeys {
    numbers: BTreeMap<u16, u16>,
    texts: BTreeMap<u16, String>,
}

impl GeoKeys {
    /// The image's keys; none when it has no key directory. Keys that point outside their tags are left out.
    pub(super) fn of(ifd: &Ifd) -> Self {
        let words = ifd.tag(tags::GEO_KEYS).and_then(|tag| tag.value.as_u16_slice()).unwrap_or_default();
        let text = ifd.tag(tags::GEO_TEXTS).and_then(|tag| tag.value.as_str()).unwrap_or_default();
        let mut keys = Self::default();
        for entry in words.get(4..).unwrap_or_default().as_chunks::<4>().0 {
            let &[key, tag, count, value] = entry;
            let (start, end) = (usize::from(value), usize::from(value) + usize::from(count));
            if tag == 0 {
                keys.numbers.insert(key, value);
            } else if tag == tags::GEO_TEXTS
                && let Some(part) = text.get(start..end.min(text.len()))
            {
                keys.texts.insert(key, part.trim_end_matches(['|', '\0']).to_owned());
            }
        }
        keys
    }

    /// Whether positions are those of pixel centres.
    pub(super) fn pixel_is_point(&self) -> bool {
        self.numbers.get(&RASTER_TYPE) == Some(&2)
    }

    /// The system, or what is missing, as text.
    pub(super) fn crs(&self) -> OrReason<Crs> {
        let number = |key| self.numbers.get(&key).copied();
        let (key, name) = match number(MODEL_TYPE) {
            Some(PROJECTED) => (PROJECTED_CRS, "ProjectedCRSGeoKey (3072)"),
            Some(GEOGRAPHIC) => (GEODETIC_CRS, "GeodeticCRSGeoKey (2048)"),
            Some(3) => return Err("geocentric coordinates (GTModelTypeGeoKey 3) have no raster".into()),
            // Some writers leave the model type out.
            _ if number(PROJECTED_CRS).is_some() => (PROJECTED_CRS, "ProjectedCRSGeoKey (3072)"),
            _ if number(GEODETIC_CRS).is_some() => (GEODETIC_CRS, "GeodeticCRSGeoKey (2048)"),
            _ => return Err("the file names no coordinate reference system (no GeoKeys)".into()),
        };
        let described = self.utm().filter(|_| key == PROJECTED_CRS);
        match (number(key).filter(|&epsg| epsg != 0), described) {
            (Some(epsg), _) if epsg != USER_DEFINED => Ok(Crs { epsg: epsg.into() }),
            (_, Some(utm)) => Ok(utm),
            (Some(_), None) => {
                let name_of = [PROJECTED_CITATION, CITATION].iter().find_map(|key| self.texts.get(key));
                let called = name_of.map(|text| format!(" called `{text}`")).unwrap_or_default();
                Err(format!("{name} is user-defined: a system{called} without EPSG number is not supported"))
            }
            (None, None) => Err(format!("{name} is missing")),
        }
    }

    /// A zone of UTM on WGS 84 that is described, not numbered.
    fn utm(&self) -> Option<Crs> {
        let projection = self.numbers.get(&PROJECTION).copied().unwrap_or_default();
        let on_wgs84 = self.numbers.get(&GEODETIC_CRS) == Some(&4326);
        match projection {
            16001..=16060 if on_wgs84 => return Crs::utm(u32::from(projection) - 16000, false).ok(),
            16101..=16160 if on_wgs84 => return Crs::utm(u32::from(projection) - 16100, true).ok(),
            _ => {}
        }
        [PROJECTED_CITATION, CITATION].iter().find_map(|key| named_utm(self.texts.get(key)?))
    }
}

/// `WGS 84 / UTM zone 40S` and `WGS_1984_UTM_Zone_40S`, as the common writers call it.
fn named_utm(text: &str) -> Option<Crs> {
    let plain: String = text.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let (_, rest) = plain.split_once("wgs84utmzone").or_else(|| plain.split_once("wgs1984utmzone"))?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let zone = rest[..digits].parse().ok()?;
    match rest[digits..].chars().next()? {
        'n' => Crs::utm(zone, false).ok(),
        's' => Crs::utm(zone, true).ok(),
        _ => None,
    }
}

/// The key directory that names `crs`.
///
/// # Errors
/// [`Error::InvalidInput`] for a number that the two bytes of a key cannot hold, or of which it is not known whether it
/// is geographic.
pub(super) fn key_directory(crs: Crs) -> Result<TagValue> {
    let fail = |reason: &str| Error::input("crs", format!("{crs} cannot be written to a GeoTIFF: {reason}"));
    let epsg = u16::try_from(crs.epsg).map_err(|_| fail("its number does not fit"))?;
    if epsg == 0 || epsg == USER_DEFINED {
        return Err(fail("it is no number of the EPSG registry"));
    }
    let projected = crs.is_metric() || PROJECTED_ALONE.iter().any(|range| range.contains(&crs.epsg)) || epsg == 3857;
    let (model, key) = match (crs.is_geographic(), projected) {
        (true, _) => (GEOGRAPHIC, GEODETIC_CRS),
        (false, true) => (PROJECTED, PROJECTED_CRS),
        (false, false) => return Err(fail("it is not known whether it is geographic or projected")),
    };
    // Version 1.1.0, three keys: model type, pixels are areas, the system.
    let words = [1, 1, 0, 3, MODEL_TYPE, 0, 1, model, RASTER_TYPE, 0, 1, 1, key, 0, 1, epsg];
    Ok(TagValue::Short(words.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[(u16, u16)], texts: &[(u16, &str)]) -> GeoKeys {
        GeoKeys {
            numbers: numbers.iter().copied().collect(),
            texts: texts.iter().map(|&(key, text)| (key, text.to_owned())).collect(),
        }
    }

    #[test]
    fn systems_are_numbered_described_or_refused() {
        let utm = keys(&[(MODEL_TYPE, PROJECTED), (PROJECTED_CRS, 32740), (GEODETIC_CRS, 4326)], &[]);
        assert_eq!(utm.crs(), Ok(Crs { epsg: 32740 }));
        assert_eq!(keys(&[(GEODETIC_CRS, 4326)], &[]).crs(), Ok(Crs::WGS84));
        let by_parts = keys(&[(MODEL_TYPE, 1), (PROJECTED_CRS, 32767), (GEODETIC_CRS, 4326), (PROJECTION, 16140)], &[]);
        assert_eq!(by_parts.crs(), Ok(Crs { epsg: 32740 }));
        for (text, epsg) in [("WGS 84 / UTM zone 32N", 32632), ("WGS_1984_UTM_Zone_7S", 32707)] {
            let named = keys(&[(MODEL_TYPE, 1), (PROJECTED_CRS, 32767)], &[(PROJECTED_CITATION, text)]);
            assert_eq!(named.crs(), Ok(Crs { epsg }));
        }
        let own = keys(&[(MODEL_TYPE, 1), (PROJECTED_CRS, 32767)], &[(CITATION, "mine")]);
        assert!(
            own.crs().unwrap_err().starts_with("ProjectedCRSGeoKey (3072) is user-defined: a system called `mine`")
        );
        assert!(keys(&[], &[]).crs().unwrap_err().contains("names no coordinate reference system"));
        assert!(keys(&[(MODEL_TYPE, 2)], &[]).crs().unwrap_err().contains("2048) is missing"));
        assert!(keys(&[(MODEL_TYPE, 3)], &[]).crs().unwrap_err().contains("geocentric"));
    }

    #[test]
    fn unwritable_systems_are_refused() {
        for (epsg, text) in
            [(0, "no number"), (70_000, "does not fit"), (4087, "not known whether"), (6319, "not known whether")]
        {
            assert!(key_directory(Crs { epsg }).unwrap_err().to_string().contains(text), "{epsg}");
        }
        for (epsg, model) in
            [(4326, GEOGRAPHIC), (6318, GEOGRAPHIC), (32740, PROJECTED), (4471, PROJECTED), (3857, PROJECTED)]
        {
            assert_eq!(key_directory(Crs { epsg }).unwrap().as_u16_slice().unwrap()[7], model, "{epsg}");
        }
    }
}
