use std::path::Path;

use coral_core::ndarray::ArrayView3;
use coral_core::{Error, RasterGrid, Result};
use tiff_reader::constants::{PlanarConfiguration, Predictor};

use super::gdal_metadata::GdalMetadata;
use super::writer::{FileBlockWriter, RasterTags, TiffLayout, image_of};

/// Writes a GeoTIFF of numbers in several bands, such as a probability for each class, from the top row to the bottom
/// row.
///
/// The no-data value is NaN; the bands have names. Memory: one row of blocks of all bands. BigTIFF is chosen when the
/// file needs it. The file appears when [`finish`](BandWriter::finish) succeeds; until then, and when the writer is
/// dropped, there is none.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, RasterGrid, Rect, Size, ndarray::array};
/// use coral_io::geo::{BandWriter, GeoTiff, TiffLayout};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("probabilities.tif");
/// let transform = GeoTransform::north_up(322_000.0, 7_658_000.0, 0.5, 0.5);
/// let grid = RasterGrid { size: Size { width: 2, height: 1 }, transform, crs: Crs::utm(40, true)? };
/// let mut writer = BandWriter::create(&path, grid, &["sand", "coral"], TiffLayout::default())?;
/// writer.write_rows(array![[[0.25, f32::NAN]], [[0.75, f32::NAN]]].view())?;
/// writer.finish()?;
/// let tiff = GeoTiff::open(&path)?;
/// assert_eq!(tiff.metadata().band_names[1].as_deref(), Some("coral"));
/// let values = tiff.read_f32(Rect::whole(grid.size))?;
/// assert!(values[[1, 0, 0]] == 0.75 && values[[0, 0, 1]].is_nan());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BandWriter {
    blocks: FileBlockWriter<f32>,
}

impl BandWriter {
    /// Starts a raster on `grid` with a band for each name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a grid without pixels or place, or a system that a GeoTIFF cannot name;
    /// [`Error::InvalidParameter`] for no band, more than 65535, or a bad layout; [`Error::Io`] when the folder
    /// cannot be written.
    pub fn create(path: impl AsRef<Path>, grid: RasterGrid, bands: &[&str], layout: TiffLayout) -> Result<Self> {
        let count = u16::try_from(bands.len()).ok().filter(|&count| count > 0);
        let count = count
            .ok_or_else(|| Error::parameter("bands", format!("expected 1 to 65535 bands, got {}", bands.len())))?;
        let image = image_of::<f32>(grid.size, count, PlanarConfiguration::Planar);
        let band_names = bands.iter().map(|&name| name.to_owned()).enumerate().collect();
        let metadata = GdalMetadata { band_names, ..GdalMetadata::default() };
        let tags = RasterTags { image, predictor: Predictor::FloatingPoint, no_data: Some("nan"), metadata };
        Ok(Self { blocks: FileBlockWriter::create(path.as_ref(), &grid, layout, tags)? })
    }

    /// Takes the next n rows, B×n×W.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other bands, another width or too many rows; [`Error::Io`] when they cannot be
    /// stored.
    pub fn write_rows(&mut self, rows: ArrayView3<'_, f32>) -> Result<()> {
        self.blocks.write(rows)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when rows are missing; [`Error::Io`] when the file cannot be stored.
    pub fn finish(self) -> Result<()> {
        self.blocks.finish()
    }
}
