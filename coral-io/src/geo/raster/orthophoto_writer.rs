use std::path::Path;

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, ArrayView3};
use coral_core::{Error, ImageWindow, RasterGrid, Result, Size};
use tiff_reader::ExtraSample;
use tiff_reader::constants::{PhotometricInterpretation, PlanarConfiguration, Predictor};

use super::gdal_metadata::GdalMetadata;
use super::writer::{FileBlockWriter, RasterTags, TiffLayout, image_of};

/// Writes an RGB GeoTIFF from the top row to the bottom row, in the memory of one row of blocks.
///
/// BigTIFF is chosen when the file needs it. The file appears when [`finish`](OrthophotoWriter::finish) succeeds; until
/// then, and when the writer is dropped, there is none.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, ImageRaster, RasterGrid, Rect, Size, image::{Rgb, RgbImage}};
/// use coral_io::geo::{Orthophoto, OrthophotoWriter, TiffLayout};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.tif");
/// let transform = GeoTransform::north_up(322_000.0, 7_658_000.0, 0.01, 0.01);
/// let grid = RasterGrid { size: Size { width: 40, height: 30 }, transform, crs: Crs::utm(40, true)? };
/// let mut writer = OrthophotoWriter::create(&path, grid, TiffLayout::default())?;
/// writer.write_rows(&RgbImage::from_pixel(40, 10, Rgb([20, 90, 110])))?;
/// writer.write_rows(&RgbImage::from_pixel(40, 20, Rgb([200, 190, 150])))?;
/// writer.finish()?;
/// let window = Orthophoto::open(&path)?.read_image(Rect { x: 5, y: 9, width: 1, height: 2 })?;
/// assert_eq!(window.image.into_raw(), [20, 90, 110, 200, 190, 150]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct OrthophotoWriter {
    blocks: FileBlockWriter<u8>,
    alpha: bool,
}

impl OrthophotoWriter {
    /// Starts a picture on `grid` in which every pixel holds data.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a grid without pixels or place, or a system that a GeoTIFF cannot name;
    /// [`Error::InvalidParameter`] for a bad layout; [`Error::Io`] when the folder cannot be written.
    pub fn create(path: impl AsRef<Path>, grid: RasterGrid, layout: TiffLayout) -> Result<Self> {
        Self::start(path.as_ref(), grid, layout, false)
    }

    /// Starts a picture on `grid` with an alpha band: 0 where there is no data, 255 elsewhere.
    ///
    /// # Errors
    /// As [`OrthophotoWriter::create`].
    pub fn create_with_alpha(path: impl AsRef<Path>, grid: RasterGrid, layout: TiffLayout) -> Result<Self> {
        Self::start(path.as_ref(), grid, layout, true)
    }

    fn start(path: &Path, grid: RasterGrid, layout: TiffLayout, alpha: bool) -> Result<Self> {
        let bands = if alpha { 4 } else { 3 };
        let mut image =
            image_of::<u8>(grid.size, bands, PlanarConfiguration::Chunky).photometric(PhotometricInterpretation::Rgb);
        if alpha {
            image = image.extra_samples(vec![ExtraSample::UnassociatedAlpha]);
        }
        let metadata = GdalMetadata::default();
        let tags = RasterTags { image, predictor: Predictor::Horizontal, no_data: None, metadata };
        Ok(Self { blocks: FileBlockWriter::create(path, &grid, layout, tags)?, alpha })
    }

    /// Takes the next rows, all of which hold data.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width or too many rows; [`Error::Io`] when they cannot be stored.
    pub fn write_rows(&mut self, rows: &RgbImage) -> Result<()> {
        if self.alpha {
            let valid = Array2::from_elem(Size::of(rows).shape(), true);
            return self.write_window(&ImageWindow { image: rows.clone(), valid });
        }
        self.write_values(Size::of(rows), rows.as_raw())
    }

    /// Takes the next rows, of which some pixels hold no data.
    ///
    /// # Errors
    /// As [`OrthophotoWriter::write_rows`], and [`Error::InvalidInput`] when a pixel without data has no alpha band to
    /// say so.
    pub fn write_window(&mut self, rows: &ImageWindow) -> Result<()> {
        let size = Size::of(&rows.image);
        size.expect("rows.valid", Size::of_map(&rows.valid))?;
        if self.alpha {
            let pixels = rows.image.pixels().zip(&rows.valid);
            let values: Vec<u8> = pixels
                .flat_map(|(color, &valid)| {
                    let [red, green, blue] = color.0;
                    [red, green, blue, if valid { 255 } else { 0 }]
                })
                .collect();
            return self.write_values(size, &values);
        }
        if rows.valid.iter().any(|&valid| !valid) {
            let reason = "pixels without data need an alpha band (OrthophotoWriter::create_with_alpha)";
            return Err(Error::input("rows.valid", reason));
        }
        self.write_values(size, rows.image.as_raw())
    }

    fn write_values(&mut self, size: Size, values: &[u8]) -> Result<()> {
        let bands = if self.alpha { 4 } else { 3 };
        let shape = (1, size.height as usize, size.width as usize * bands);
        let values = ArrayView3::from_shape(shape, values);
        self.blocks.write(values.map_err(|error| Error::input("rows", error.to_string()))?)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when rows are missing; [`Error::Io`] when the file cannot be stored.
    pub fn finish(self) -> Result<()> {
        self.blocks.finish()
    }
}
