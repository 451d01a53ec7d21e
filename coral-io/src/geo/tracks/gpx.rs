use std::path::Path;

use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{FrameRecord, FrameTrack, check_position, parse_time};
use crate::text::open;

/// Where a receiver was at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpsFix {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub time: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
    /// Metres above the sea, where the receiver gives it.
    pub altitude: Option<f64>,
}

/// The way of a receiver, by ascending time.
#[derive(Debug, Clone, PartialEq)]
pub struct GpsTrack {
    fixes: Vec<GpsFix>,
}

/// How photographs find their place on a track.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaceConfig {
    /// Seconds to add to the photographs' times: what the camera's clock is behind UTC. Four hours east of Greenwich, a
    /// camera that shows local time is -14400 behind.
    pub offset: f64,
    /// Longest time between two fixes, in seconds, over which a position is interpolated.
    pub max_gap: f64,
}

impl Default for PlaceConfig {
    fn default() -> Self {
        Self { offset: 0.0, max_gap: 10.0 }
    }
}

/// Reads the tracks of a GPX file as one; points without a time, routes and waypoints are left out.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is no GPX 1.0 or 1.1, or has no track point with
/// a time and a position.
pub fn read_gpx(path: impl AsRef<Path>) -> Result<GpsTrack> {
    let path = path.as_ref();
    let fail = |reason: String| Error::format(path, None, reason);
    let file = ::gpx::read(open(path)?).map_err(|error| fail(format!("not a GPX file: {error}")))?;
    let points = file.tracks.iter().flat_map(|track| &track.segments).flat_map(|segment| &segment.points);
    let fix = |point: &::gpx::Waypoint| {
        let time = parse_time(&point.time?.format().ok()?)?;
        let (longitude, latitude) = check_position(point.point().x_y()).ok()?;
        Some(GpsFix { time, longitude, latitude, altitude: point.elevation })
    };
    let fixes: Vec<_> = points.filter_map(fix).collect();
    GpsTrack::new(fixes).map_err(|_| fail("expected track points with time and position, found none".into()))
}

impl GpsTrack {
    /// A track of fixes in any order; of those at one time, the first counts.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without fixes, or for numbers that are not finite.
    pub fn new(mut fixes: Vec<GpsFix>) -> Result<Self> {
        let bad = |fix: &&GpsFix| !(fix.time.is_finite() && check_position((fix.longitude, fix.latitude)).is_ok());
        if let Some(fix) = fixes.iter().find(bad) {
            return Err(Error::input("fixes", format!("expected a time and a position, found {fix:?}")));
        }
        fixes.sort_by(|a, b| a.time.total_cmp(&b.time));
        fixes.dedup_by_key(|fix| fix.time);
        if fixes.is_empty() {
            return Err(Error::input("fixes", "a track needs at least one fix"));
        }
        Ok(Self { fixes })
    }

    /// The fixes by ascending time.
    pub fn fixes(&self) -> &[GpsFix] {
        &self.fixes
    }

    /// Where the receiver was at a time, between two fixes linearly; the reason where it is not known.
    fn at(&self, time: f64, max_gap: f64) -> std::result::Result<GpsFix, String> {
        let after = self.fixes.partition_point(|fix| fix.time < time);
        let exact = self.fixes.get(after).filter(|fix| fix.time == time);
        if let Some(fix) = exact {
            return Ok(*fix);
        }
        let (Some(before), Some(after)) = (after.checked_sub(1).map(|at| self.fixes[at]), self.fixes.get(after)) else {
            let ends = [self.fixes.first(), self.fixes.last()].map(|fix| fix.map_or(f64::NAN, |fix| fix.time));
            return Err(format!("its time {time} is not between the track's {} and {}", ends[0], ends[1]));
        };
        let gap = after.time - before.time;
        if gap > max_gap {
            return Err(format!("there is no fix within {gap} s around its time {time}, more than {max_gap} s"));
        }
        let share = (time - before.time) / gap;
        let between = |a: f64, b: f64| a + (b - a) * share;
        // The short way around, across the line of date too.
        let east = after.longitude - before.longitude;
        let east = if east.abs() > 180.0 { east - 360.0 * east.signum() } else { east };
        let longitude = before.longitude + east * share;
        Ok(GpsFix {
            time,
            longitude: if longitude.abs() > 180.0 { longitude - 360.0 * longitude.signum() } else { longitude },
            latitude: between(before.latitude, after.latitude),
            altitude: before.altitude.zip(after.altitude).map(|(a, b)| between(a, b)),
        })
    }

    /// Places photographs by their times; positions that they already have are replaced.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for settings that are not finite or a negative gap; [`Error::InvalidInput`] when no
    /// photograph finds a place, with the reason of the first.
    ///
    /// # Examples
    /// ```
    /// use coral_io::geo::{FrameReadings, FrameRecord, GpsFix, GpsTrack, PlaceConfig};
    /// let fix = |time, longitude| GpsFix { time, longitude, latitude: -21.0, altitude: None };
    /// let track = GpsTrack::new(vec![fix(100.0, 55.0), fix(104.0, 55.5)])?;
    /// let readings = FrameReadings { time: Some(98.0), ..Default::default() };
    /// let frame = FrameRecord { file: "a.jpg".into(), readings, ..Default::default() };
    /// let config = PlaceConfig { offset: 3.0, ..Default::default() };
    /// assert_eq!(track.place(vec![frame], &config)?.frames[0].longitude, 55.125);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn place(&self, mut records: Vec<FrameRecord>, config: &PlaceConfig) -> Result<FrameTrack> {
        if !config.offset.is_finite() {
            return Err(Error::parameter("offset", format!("expected seconds, got {}", config.offset)));
        }
        if config.max_gap.is_nan() || config.max_gap < 0.0 {
            return Err(Error::parameter("max_gap", format!("expected seconds from 0, got {}", config.max_gap)));
        }
        for record in &mut records {
            let time = record.readings.time.ok_or_else(|| "has no time".to_owned());
            match time.and_then(|time| self.at(time + config.offset, config.max_gap)) {
                Ok(fix) => {
                    record.position = Some((fix.longitude, fix.latitude));
                    record.readings.altitude = fix.altitude.or(record.readings.altitude);
                }
                Err(reason) => (record.position, record.problem) = (None, Some(reason)),
            }
        }
        FrameTrack::new(records)
    }
}
