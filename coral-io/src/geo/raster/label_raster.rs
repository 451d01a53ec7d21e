use std::path::Path;

use coral_core::ndarray::Axis;
use coral_core::{ClassId, LabelMap, LabelRaster, RasterGrid, Rect, Result, Size, UNLABELED};

use super::metadata::GeoTiffMetadata;
use super::reader::GeoTiff;
use super::samples::SampleType;

/// A GeoTIFF of class ids, read by windows.
///
/// Values are class ids as they are stored. The file's own no-data value and the ones that the caller names become
/// [`UNLABELED`], and so do pixels whose alpha or mask is 0; 255 means [`UNLABELED`] in any case. The places in a
/// palette are the ids.
#[derive(Debug, Clone)]
pub struct LabelGeoTiff {
    tiff: GeoTiff,
    /// The class that each byte stands for.
    classes: [ClassId; 256],
}

impl LabelGeoTiff {
    /// Opens a map; values among `no_data` are no classes either.
    ///
    /// # Errors
    /// As [`GeoTiff::open`] and [`LabelGeoTiff::new`].
    pub fn open(path: impl AsRef<Path>, no_data: &[ClassId]) -> Result<Self> {
        Self::new(GeoTiff::open(path)?, no_data)
    }

    /// Takes an open file for a map; values among `no_data` are no classes either.
    ///
    /// # Errors
    /// [`Error::Format`](coral_core::Error::Format) when there is more than one band besides alpha, or values are
    /// fractions.
    pub fn new(tiff: GeoTiff, no_data: &[ClassId]) -> Result<Self> {
        let metadata = tiff.metadata();
        let bands = metadata.bands - usize::from(metadata.alpha.is_some());
        if bands != 1 || metadata.alpha == Some(0) {
            return Err(tiff.fail(format!("expected one band of class ids, found {bands} bands")));
        }
        if !metadata.sample_type.is_integer() {
            return Err(tiff.fail(format!("expected class ids, found {} values", metadata.sample_type)));
        }
        let mut classes: [ClassId; 256] = std::array::from_fn(|value| value as ClassId);
        for value in 0..=ClassId::MAX {
            if no_data.contains(&value) || metadata.is_no_data(value.into()) {
                classes[usize::from(value)] = UNLABELED;
            }
        }
        Ok(Self { tiff, classes })
    }

    /// Pixels and their place.
    pub fn grid(&self) -> RasterGrid {
        self.tiff.grid()
    }

    /// What the file says about its raster.
    pub fn metadata(&self) -> &GeoTiffMetadata {
        self.tiff.metadata()
    }

    /// The class of a value that a byte may not hold.
    fn class_of(&self, value: f64, (row, column): (usize, usize)) -> Result<ClassId> {
        if self.tiff.metadata().is_no_data(value) {
            return Ok(UNLABELED);
        }
        if !(0.0..=255.0).contains(&value) {
            let place = format!("pixel ({column}, {row})");
            let reason = format!("{place} has the value {value}: class ids are 0–254, and 255 for unlabelled");
            return Err(self.tiff.fail(reason));
        }
        Ok(self.classes[value as usize])
    }
}

impl LabelRaster for LabelGeoTiff {
    fn size(&self) -> Size {
        self.grid().size
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        let metadata = self.tiff.metadata();
        window.expect_inside("window", metadata.grid.size)?;
        let mut labels = LabelMap::from_elem((window.height as usize, window.width as usize), UNLABELED);
        if metadata.sample_type == SampleType::U8 {
            let values = self.tiff.pixels::<u8>(window)?;
            for (label, pixel) in labels.iter_mut().zip(values.lanes(Axis(2))) {
                if metadata.alpha.is_none_or(|band| pixel[band] != 0) {
                    *label = self.classes[usize::from(pixel[0])];
                }
            }
        } else {
            let values = self.tiff.read(window)?.to_f64();
            for (((row, column), label), pixel) in labels.indexed_iter_mut().zip(values.lanes(Axis(0))) {
                if metadata.alpha.is_none_or(|band| pixel[band] != 0.0) {
                    *label = self.class_of(pixel[0], (row + window.y as usize, column + window.x as usize))?;
                }
            }
        }
        if let Some(valid) = self.tiff.mask(window)? {
            labels.zip_mut_with(&valid, |label, &valid| {
                if !valid {
                    *label = UNLABELED
                }
            });
        }
        Ok(labels)
    }
}
