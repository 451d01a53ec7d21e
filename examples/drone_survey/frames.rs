use std::path::Path;

use coral_core::ndarray::{Array3, ArrayView3, Axis};
use coral_core::{ClassSet, Crs, Error, LabelMap, LabelRaster, LabelSink, Rect, Result, UNLABELED};
use coral_io::geo::{
    BandWriter, FrameTrack, GeoTiff, LabelGeoTiffWriter, Orthophoto, Resampled, Resampling, TiffLayout, read_exif_all,
    read_frame_table,
};
use coral_io::{MultiLabelConfig, read_multi_labels};
use coral_weak::{FrameProbabilities, ProbabilityRaster, QuantileStretch, coarse_classes, interpolate_frames};

use super::{CoarseConfig, SessionConfig};
use crate::about_photograph;

/// Rows of the orthophoto whose coarse classes are looked up at a time.
const ROWS: u32 = 512;

/// The raster of a session's class probabilities: positions joined with predictions, interpolated and written to `out`, a
/// band per class. Tells how many frames were used and how many had no position or prediction.
pub(super) fn session_raster(
    session: &SessionConfig,
    predictions: &Path,
    classes: &ClassSet,
    coarse: &CoarseConfig,
    out: &Path,
) -> Result<String> {
    let records = if session.positions.is_dir() {
        let frames: Vec<_> = coral_io::image_files(&session.positions)?.into_values().collect();
        read_exif_all(&frames)?
    } else {
        read_frame_table(&session.positions)?
    };
    let about = |error| about_photograph(&session.positions, error);
    let track = FrameTrack::new(records).map_err(about)?;
    let joined = track
        .join(&read_multi_labels(predictions, &MultiLabelConfig::default())?)
        .map_err(|error| about_photograph(predictions, error))?;
    let column = |name: &str| {
        let place = joined.classes.iter().position(|class| class.name == name);
        place.ok_or_else(|| {
            let found: Vec<_> = joined.classes.iter().map(|class| class.name.as_str()).collect();
            let reason = format!("no column for class `{name}`; found {}", found.join(", "));
            Error::format(predictions, Some(1), reason)
        })
    };
    let columns: Vec<usize> = classes.iter().map(|class| column(&class.name)).collect::<Result<_>>()?;
    let probabilities = joined.probabilities.select(Axis(1), &columns).mapv(f64::from);
    let frames = FrameProbabilities { crs: Crs::WGS84, positions: joined.positions, probabilities };
    let raster = interpolate_frames(&frames, &coarse.raster).map_err(about)?;
    write_raster(&raster, classes, out)?;
    Ok(format!(
        "{} frames; {} without position, {} without prediction",
        frames.positions.nrows(),
        track.without_position.len() + joined.without_position.len(),
        joined.without_prediction.len()
    ))
}

fn write_raster(raster: &ProbabilityRaster, classes: &ClassSet, out: &Path) -> Result<()> {
    let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    let mut writer = BandWriter::create(out, raster.grid, &names, TiffLayout::default())?;
    writer.write_rows(raster.values.mapv(|value| value as f32).view())?;
    writer.finish()
}

/// The coarse class map on the orthophoto's pixels: rasters of all sessions stretched together, the class of the largest
/// value in each cell, and for each pixel that of the first session that knows one.
pub(super) fn coarse_map(
    rasters: &[&Path],
    orthophoto: &Path,
    classes: &ClassSet,
    coarse: &CoarseConfig,
    out: &Path,
) -> Result<()> {
    let mut sessions: Vec<(GeoTiff, Array3<f64>)> = Vec::new();
    for &path in rasters {
        let tiff = GeoTiff::open(path)?;
        let values = tiff.read_f32(Rect::whole(tiff.grid().size))?.mapv(f64::from);
        sessions.push((tiff, values));
    }
    let views: Vec<ArrayView3<'_, f64>> = sessions.iter().map(|(_, values)| values.view()).collect();
    let stretch = QuantileStretch::fit_between(&views, coarse.quantiles[0], coarse.quantiles[1])?;
    let grid = Orthophoto::open(orthophoto)?.grid();
    let mut maps = Vec::new();
    for (tiff, values) in &sessions {
        let labels = coarse_classes(stretch.apply(values.view())?.view(), coarse.missing)?;
        let map = Resampled::reprojected(labels, tiff.grid(), grid, Resampling::Nearest);
        maps.push(map.map_err(|error| about_photograph(tiff.path(), error))?);
    }
    let mut writer = LabelGeoTiffWriter::create(out, grid, Some(classes), TiffLayout::default())?;
    for y in (0..grid.size.height).step_by(ROWS as usize) {
        let window = Rect { x: 0, y, width: grid.size.width, height: ROWS.min(grid.size.height - y) };
        let mut rows = LabelMap::from_elem((window.height as usize, window.width as usize), UNLABELED);
        for map in &maps {
            rows.zip_mut_with(&map.read_labels(window)?, |row, &label| {
                if *row == UNLABELED {
                    *row = label;
                }
            });
        }
        writer.write_rows(&rows)?;
    }
    writer.finish()
}
