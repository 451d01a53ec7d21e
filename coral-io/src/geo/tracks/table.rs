use std::path::Path;

use coral_core::{Error, Result, write_atomically};

use super::{FrameReadings, FrameRecord, FrameTrack, parse_time};
use crate::multi_label::table::FILE_NAMES;
use crate::text::{Row, decode_utf8, find_column, parse_rows, read_bytes};

const LONGITUDE: [&str; 6] = ["gpslongitude", "longitude", "lon", "lng", "long", "xlongitude"];
const LATITUDE: [&str; 4] = ["gpslatitude", "latitude", "lat", "ylatitude"];
const ALTITUDE: [&str; 4] = ["gpsaltitude", "altitude", "elevation", "ele"];
const DEPTH: [&str; 3] = ["depth", "depthm", "waterdepth"];
const TIME: [&str; 8] = [
    "subsecdatetimeoriginal",
    "gpsdatetime",
    "datetimeoriginal",
    "datetime",
    "timestamp",
    "datetimeunix",
    "time",
    "createdate",
];
const ROLL: [&str; 2] = ["gpsroll", "roll"];
const PITCH: [&str; 2] = ["gpspitch", "pitch"];
const YAW: [&str; 5] = ["gpstrack", "yaw", "gpsyaw", "heading", "gpsimgdirection"];

/// Reads what a table says about photographs: CSV with a header, separated by `,`, `;` or tabs.
///
/// Columns are told by their names, whatever their case and punctuation: file names (`FileName`, `image`, …), `GPSLatitude`,
/// `latitude` or `lat`, `GPSLongitude`, `longitude`, `lon` or `lng`, and, if there are such, `GPSAltitude`, `depth`, a time
/// (`SubSecDateTimeOriginal`, `GPSDateTime`, `timestamp`, …), `GPSRoll`, `GPSPitch`, `GPSTrack` or `yaw`. Such are the tables
/// `metadata.csv` of the Seatizen sessions. Positions may be missing, in a column or altogether (times can then place the
/// photographs on a [`GpsTrack`](super::GpsTrack)); nothing is checked but that numbers are numbers.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`], naming the line, when it has no header with a column of
/// file names and one of positions or times, no line, or a field that is neither a number (or time) nor empty.
pub fn read_frame_table(path: impl AsRef<Path>) -> Result<Vec<FrameRecord>> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let rows = parse_rows(path, decode_utf8(path, &bytes)?)?;
    let [header, rows @ ..] = rows.as_slice() else {
        return Err(Error::format(path, None, "the file is empty: expected a header and a line per photograph"));
    };
    let columns = Columns::of(path, header)?;
    if rows.is_empty() {
        return Err(Error::format(path, Some(header.line), "no line after the header: expected one per photograph"));
    }
    rows.iter().map(|row| columns.record(path, row)).collect()
}

struct Columns<'a> {
    path: &'a Path,
    header: &'a Row,
    file: usize,
    longitude: Option<usize>,
    latitude: Option<usize>,
    altitude: Option<usize>,
    depth: Option<usize>,
    time: Option<usize>,
    roll: Option<usize>,
    pitch: Option<usize>,
    yaw: Option<usize>,
}

impl<'a> Columns<'a> {
    fn of(path: &'a Path, header: &'a Row) -> Result<Self> {
        let find = |names: &[&str]| find_column(&header.fields, names);
        let fail = |what: &str| {
            let found = header.fields.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::format(path, Some(header.line), format!("no column of {what}: found {found}"))
        };
        let columns = Self {
            path,
            header,
            file: find(&FILE_NAMES).ok_or_else(|| fail("file names, e.g. `FileName`"))?,
            longitude: find(&LONGITUDE),
            latitude: find(&LATITUDE),
            altitude: find(&ALTITUDE),
            depth: find(&DEPTH),
            time: find(&TIME),
            roll: find(&ROLL),
            pitch: find(&PITCH),
            yaw: find(&YAW),
        };
        match (columns.longitude, columns.latitude, columns.time) {
            (Some(_), None, _) => Err(fail("latitudes, e.g. `GPSLatitude`")),
            (None, Some(_), _) => Err(fail("longitudes, e.g. `GPSLongitude`")),
            (None, None, None) => Err(fail("positions, e.g. `GPSLongitude` and `GPSLatitude`, or of times")),
            _ => Ok(columns),
        }
    }

    fn record(&self, path: &Path, row: &Row) -> Result<FrameRecord> {
        let file = row.field(path, self.file)?.to_owned();
        if file.is_empty() {
            return Err(Error::format(path, Some(row.line), "expected the name of a file, found nothing"));
        }
        let number = |column| self.value(row, column, "a number", |text| text.parse().ok());
        let (longitude, latitude) = (number(self.longitude)?, number(self.latitude)?);
        let readings = FrameReadings {
            altitude: number(self.altitude)?,
            depth: number(self.depth)?,
            time: self.value(row, self.time, "a date and time", parse_time)?,
            roll: number(self.roll)?,
            pitch: number(self.pitch)?,
            yaw: number(self.yaw)?,
        };
        Ok(FrameRecord { file, position: longitude.zip(latitude), readings, problem: None })
    }

    /// The value of a field, none where it is empty or says so.
    fn value(
        &self,
        row: &Row,
        column: Option<usize>,
        expected: &str,
        parse: impl Fn(&str) -> Option<f64>,
    ) -> Result<Option<f64>> {
        let Some(column) = column else { return Ok(None) };
        let text = row.field(self.path, column)?;
        if text.is_empty() || ["nan", "na", "null", "none"].contains(&text.to_lowercase().as_str()) {
            return Ok(None);
        }
        parse(text).map(Some).ok_or_else(|| {
            let reason = format!("`{}`: expected {expected}, found `{text}`", self.header.fields[column]);
            Error::format(self.path, Some(row.line), reason)
        })
    }
}

/// Writes the photographs of a track as such a table; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
///
/// # Examples
/// ```
/// use coral_io::geo::{Frame, FrameTrack, read_frame_table, write_frame_table};
/// let frame = Frame { file: "a.jpg".into(), longitude: 55.25, latitude: -21.1, readings: Default::default() };
/// let track = FrameTrack { frames: vec![frame], without_position: vec![] };
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("frames.csv");
/// write_frame_table(&path, &track)?;
/// assert_eq!(FrameTrack::new(read_frame_table(&path)?)?, track);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_frame_table(path: impl AsRef<Path>, track: &FrameTrack) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let names = "FileName,GPSLatitude,GPSLongitude,GPSAltitude,Depth,Timestamp,GPSRoll,GPSPitch,GPSTrack";
        csv.write_record(names.split(','))?;
        for frame in &track.frames {
            let FrameReadings { altitude, depth, time, roll, pitch, yaw } = frame.readings;
            let numbers = [Some(frame.latitude), Some(frame.longitude), altitude, depth, time, roll, pitch, yaw];
            let texts = numbers.map(|number| number.map(|number| number.to_string()).unwrap_or_default());
            csv.write_record(std::iter::once(&frame.file).chain(&texts))?;
        }
        csv.flush()
    })
}
