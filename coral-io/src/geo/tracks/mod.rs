//! Where and when photographs were taken.

mod gpx;
mod predictions;
mod table;
mod time;

use std::collections::HashMap;

use coral_core::{Crs, Error, Result};
use ndarray::Array2;

pub use self::gpx::{GpsFix, GpsTrack, PlaceConfig, read_gpx};
pub use self::predictions::{FramePredictions, write_probabilities};
pub use self::table::{read_frame_table, write_frame_table};
pub(super) use self::time::parse_time;
use super::raster::Projection;

/// What else is known of a photograph besides its position.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FrameReadings {
    /// Metres above the sea, negative below.
    pub altitude: Option<f64>,
    /// Metres of water, as a table has it.
    pub depth: Option<f64>,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub time: Option<f64>,
    /// Rotation about the direction of travel, in degrees.
    pub roll: Option<f64>,
    /// Rotation about the axis across it, in degrees.
    pub pitch: Option<f64>,
    /// Direction, in degrees clockwise from north.
    pub yaw: Option<f64>,
}

/// What a file says about a photograph; nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameRecord {
    /// The photograph's file, as named by the source.
    pub file: String,
    /// Longitude and latitude in degrees.
    pub position: Option<(f64, f64)>,
    /// What else is known.
    pub readings: FrameReadings,
    /// Why there is no position, where the source tells.
    pub problem: Option<String>,
}

/// A photograph with a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its file, as named by the source.
    pub file: String,
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
    /// What else is known.
    pub readings: FrameReadings,
}

/// A photograph that has no place on the map, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplacedFrame {
    /// Its file, as named by the source.
    pub file: String,
    /// What is wrong.
    pub reason: String,
}

/// Photographs along a track, in the order of their source.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_io::geo::{FrameTrack, read_frame_table};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("metadata.csv");
/// std::fs::write(&path, "FileName,GPSLatitude,GPSLongitude\na.jpg,-21.1,55.25\nb.jpg,0,0\n").unwrap();
/// let track = FrameTrack::new(read_frame_table(&path)?)?;
/// assert_eq!(track.positions(), array![[55.25, -21.1]]);
/// assert_eq!(track.without_position[0].file, "b.jpg");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FrameTrack {
    /// The photographs that have a position, one at least.
    pub frames: Vec<Frame>,
    /// Those left out: without position, with one that is none, or named twice with two positions.
    pub without_position: Vec<UnplacedFrame>,
}

impl FrameTrack {
    /// The photographs of some records. A position is left out when it is not finite, out of range or exactly (0, 0),
    /// which receivers give that have no fix.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when no photograph has a position, with the reason of the first.
    pub fn new(records: Vec<FrameRecord>) -> Result<Self> {
        let mut seen: HashMap<String, (f64, f64)> = HashMap::with_capacity(records.len());
        let (mut frames, mut without_position) = (Vec::with_capacity(records.len()), Vec::new());
        for FrameRecord { file, position, readings, problem } in records {
            let checked = match position {
                Some(position) => check_position(position),
                None => Err(problem.unwrap_or_else(|| "has no position".into())),
            };
            match checked.map(|position| (position, seen.get(&file))) {
                Err(reason) => without_position.push(UnplacedFrame { file, reason }),
                Ok((position, Some(before))) if *before == position => {}
                Ok((position, Some(before))) => {
                    let reason = format!("is named twice, at {before:?} and at {position:?}");
                    without_position.push(UnplacedFrame { file, reason });
                }
                Ok((position, None)) => {
                    seen.insert(file.clone(), position);
                    frames.push(Frame { file, longitude: position.0, latitude: position.1, readings });
                }
            }
        }
        if frames.is_empty() {
            let first = without_position.first();
            let first = first.map(|one| format!(": {} {}", one.file, one.reason)).unwrap_or_default();
            let reason = format!("none of {} photographs has a position{first}", without_position.len());
            return Err(Error::input("frames", reason));
        }
        Ok(Self { frames, without_position })
    }

    /// How many photographs have a position.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no photograph has a position.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// N×2 longitudes and latitudes in degrees.
    pub fn positions(&self) -> Array2<f64> {
        let mut positions = Array2::zeros((self.len(), 2));
        for (frame, mut row) in self.frames.iter().zip(positions.rows_mut()) {
            (row[0], row[1]) = (frame.longitude, frame.latitude);
        }
        positions
    }

    /// N×2 positions in another system.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a system that [`Projection`] does not know; [`Error::InvalidInput`] for a position
    /// that has no place there.
    ///
    /// # Examples
    /// ```
    /// use coral_core::Crs;
    /// use coral_io::geo::{Frame, FrameTrack};
    /// let frame = Frame { file: "a.jpg".into(), longitude: 57.0, latitude: 0.0, readings: Default::default() };
    /// let track = FrameTrack { frames: vec![frame], without_position: vec![] };
    /// let metres = track.positions_in(Crs::utm(40, true)?)?; // on the zone's meridian and the equator
    /// assert!((metres[[0, 0]] - 500_000.0).abs() < 1e-3 && (metres[[0, 1]] - 10_000_000.0).abs() < 1e-3);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn positions_in(&self, crs: Crs) -> Result<Array2<f64>> {
        Projection::new(Crs::WGS84, crs)?.transform_all(self.positions().view())
    }
}

/// Longitude and latitude, if they can be such.
fn check_position((longitude, latitude): (f64, f64)) -> std::result::Result<(f64, f64), String> {
    if !(longitude.abs() <= 180.0 && latitude.abs() <= 90.0) {
        return Err(format!("({longitude}, {latitude}) is no longitude and latitude in degrees"));
    }
    if (longitude, latitude) == (0.0, 0.0) {
        return Err("has the position (0, 0): the receiver had no fix".into());
    }
    Ok((longitude, latitude))
}

#[cfg(test)]
mod tests;
