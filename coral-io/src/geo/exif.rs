use std::path::Path;

use coral_core::{Error, Result};
use exif::{Exif, In, Tag, Value};

use super::tracks::{FrameReadings, FrameRecord, parse_time};
use crate::parallel;
use crate::text::open;

/// Reads position and time of a photograph from its EXIF data: JPEG, TIFF, PNG, HEIF or WebP.
///
/// The time is that of `DateTimeOriginal` with its fraction and offset, else of the receiver; without an offset it is
/// taken for UTC. A photograph without EXIF data, or whose data are damaged, gives a record that says so.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
///
/// # Examples
/// ```
/// use coral_core::image::RgbImage;
/// use coral_io::geo::{FrameTrack, read_exif};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("plain.png");
/// coral_io::write_image(&path, &RgbImage::new(4, 3))?;
/// let record = read_exif(&path)?;
/// assert_eq!((record.file.as_str(), record.position), ("plain.png", None));
/// let text = FrameTrack::new(vec![record]).unwrap_err().to_string();
/// assert!(text.contains("none of 1 photographs has a position: plain.png has no EXIF data"), "{text}");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_exif(path: impl AsRef<Path>) -> Result<FrameRecord> {
    let path = path.as_ref();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut source = open(path)?;
    let exif = match exif::Reader::new().read_from_container(&mut source) {
        Ok(exif) => exif,
        Err(exif::Error::Io(source)) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::io(path, source));
        }
        Err(exif::Error::NotFound(_)) => {
            return Ok(FrameRecord { file, problem: Some("has no EXIF data".into()), ..Default::default() });
        }
        Err(error) => {
            let problem = Some(format!("has damaged EXIF data: {error}"));
            return Ok(FrameRecord { file, problem, ..Default::default() });
        }
    };
    let readings =
        FrameReadings { altitude: altitude(&exif), time: time(&exif), yaw: yaw(&exif), ..Default::default() };
    let position = position(&exif);
    let problem = position.is_none().then(|| "has EXIF data without a position".to_owned());
    Ok(FrameRecord { file, position, readings, problem })
}

/// [`read_exif`] of many photographs, several at a time; the records are in the order of the files.
///
/// # Errors
/// That of the first file that cannot be read.
pub fn read_exif_all<P: AsRef<Path> + Sync>(paths: &[P]) -> Result<Vec<FrameRecord>> {
    parallel::map(paths, |path| read_exif(path)).into_iter().collect()
}

/// Longitude and latitude in degrees.
fn position(exif: &Exif) -> Option<(f64, f64)> {
    let longitude = degrees(exif, Tag::GPSLongitude)?;
    let latitude = degrees(exif, Tag::GPSLatitude)?;
    let west = reference(exif, Tag::GPSLongitudeRef)?.eq_ignore_ascii_case("W");
    let south = reference(exif, Tag::GPSLatitudeRef)?.eq_ignore_ascii_case("S");
    Some((if west { -longitude } else { longitude }, if south { -latitude } else { latitude }))
}

/// Degrees, minutes and seconds as degrees.
fn degrees(exif: &Exif, tag: Tag) -> Option<f64> {
    let parts = numbers(exif, tag)?;
    let [degrees, rest @ ..] = parts.as_slice() else { return None };
    let minutes = rest.first().copied().unwrap_or(0.0);
    let seconds = rest.get(1).copied().unwrap_or(0.0);
    Some(degrees + minutes / 60.0 + seconds / 3600.0)
}

fn altitude(exif: &Exif) -> Option<f64> {
    let metres = *numbers(exif, Tag::GPSAltitude)?.first()?;
    let below = exif.get_field(Tag::GPSAltitudeRef, In::PRIMARY).and_then(|field| field.value.get_uint(0)) == Some(1);
    Some(if below { -metres } else { metres })
}

/// The direction of the picture, else of travel, if it is one from true north.
fn yaw(exif: &Exif) -> Option<f64> {
    let direction = [(Tag::GPSImgDirection, Tag::GPSImgDirectionRef), (Tag::GPSTrack, Tag::GPSTrackRef)];
    direction.into_iter().find_map(|(tag, reference_tag)| {
        let is_magnetic = reference(exif, reference_tag).is_some_and(|text| text == "M");
        numbers(exif, tag).filter(|_| !is_magnetic)?.first().copied()
    })
}

fn time(exif: &Exif) -> Option<f64> {
    let camera = text(exif, Tag::DateTimeOriginal).or_else(|| text(exif, Tag::DateTime)).and_then(|time| {
        let fraction = text(exif, Tag::SubSecTimeOriginal).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let fraction = fraction.filter(|digits| !digits.is_empty()).map(|digits| format!(".{digits}"));
        let offset = text(exif, Tag::OffsetTimeOriginal).or_else(|| text(exif, Tag::OffsetTime));
        parse_time(&format!("{time}{}{}", fraction.unwrap_or_default(), offset.unwrap_or_default()))
    });
    camera.or_else(|| {
        let clock = numbers(exif, Tag::GPSTimeStamp)?;
        let [hours, minutes, seconds] = clock[..] else { return None };
        let midnight = parse_time(&format!("{} 00:00:00", text(exif, Tag::GPSDateStamp)?))?;
        Some(midnight + hours * 3600.0 + minutes * 60.0 + seconds)
    })
}

/// Fractions as numbers; none if one of them is no number.
fn numbers(exif: &Exif, tag: Tag) -> Option<Vec<f64>> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Rational(parts) => {
            let numbers: Vec<f64> = parts.iter().map(exif::Rational::to_f64).collect();
            numbers.iter().all(|number| number.is_finite()).then_some(numbers)
        }
        _ => None,
    }
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(texts) => {
            let text = std::str::from_utf8(texts.first()?).ok()?;
            Some(text.trim_matches(['\0', ' ']).to_owned())
        }
        _ => None,
    }
}

/// A letter such as `N`, `S`, `E` or `W`.
fn reference(exif: &Exif, tag: Tag) -> Option<String> {
    text(exif, tag).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
