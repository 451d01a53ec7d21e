use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coral_core::ndarray::Array3;
use coral_core::{Crs, Error, RasterGrid, Rect, Result, Size};
use tiff_reader::{Ifd, OpenOptions, PhotometricInterpretation, TiffError, TiffFile, TiffSample};

use super::metadata::GeoTiffMetadata;
use super::samples::{SampleType, Samples};

/// How a GeoTIFF is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeoTiffOptions {
    /// The coordinate reference system of a file that names none; one that names another is refused.
    pub crs: Option<Crs>,
    /// Bytes of decoded strips or tiles that are kept for the next window. A row of windows should fit, so that each
    /// block is decoded once: the raster's width × the windows' height × the bytes of a pixel.
    pub cache_bytes: usize,
    /// The largest window that is read at once, in bytes.
    pub window_bytes: usize,
}

impl Default for GeoTiffOptions {
    fn default() -> Self {
        Self { crs: None, cache_bytes: 256 << 20, window_bytes: 1 << 30 }
    }
}

/// A georeferenced TIFF on disk, read by windows.
///
/// Strips and tiles, band- and pixel-interleaved, classic and BigTIFF; without compression or LZW, Deflate, PackBits, ZSTD,
/// JPEG or LERC. Only the strips or tiles that a window touches are read. Any number of threads may read.
///
/// # Examples
/// ```
/// use coral_core::{Crs, GeoTransform, LabelSink, RasterGrid, Rect, Size, ndarray::array};
/// use coral_io::geo::{GeoTiff, LabelGeoTiffWriter, Samples, TiffLayout};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("map.tif");
/// let transform = GeoTransform::north_up(55.2, -21.0, 1e-6, 1e-6);
/// let grid = RasterGrid { size: Size { width: 2, height: 2 }, transform, crs: Crs::WGS84 };
/// let mut writer = LabelGeoTiffWriter::create(&path, grid, None, TiffLayout::default())?;
/// writer.write_rows(&array![[1, 2], [3, 255]])?;
/// writer.finish()?;
/// let tiff = GeoTiff::open(&path)?;
/// assert_eq!((tiff.grid(), tiff.metadata().no_data), (grid, Some(255.0)));
/// let samples = tiff.read(Rect { x: 1, y: 0, width: 1, height: 2 })?;
/// assert_eq!(samples, Samples::U8(array![[[2], [255]]]));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Clone)]
pub struct GeoTiff {
    path: PathBuf,
    file: Arc<TiffFile>,
    /// The image's place in the file's list.
    image: usize,
    metadata: GeoTiffMetadata,
}

impl GeoTiff {
    /// Opens a file and reads what it says about its first image.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is damaged, or does not say where its pixels
    /// lie or in which coordinate reference system, or names one without EPSG number.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, GeoTiffOptions::default())
    }

    /// [`GeoTiff::open`] with options.
    ///
    /// # Errors
    /// As [`GeoTiff::open`].
    pub fn open_with(path: impl AsRef<Path>, options: GeoTiffOptions) -> Result<Self> {
        let path = path.as_ref();
        let open = OpenOptions {
            block_cache_bytes: options.cache_bytes,
            // Rows of strips are many and small: bytes are the limit.
            block_cache_slots: 1 << 20,
            decode_output_bytes: options.window_bytes,
            ..OpenOptions::default()
        };
        let file = TiffFile::open_with_options(path, open).map_err(|error| damaged(path, error))?;
        let ifd = file.ifd(0).map_err(|error| damaged(path, error))?;
        let metadata = GeoTiffMetadata::of(path, ifd, options.crs)?;
        expect_block_in_file(path, &file, &metadata)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), image: 0, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about its raster.
    pub fn metadata(&self) -> &GeoTiffMetadata {
        &self.metadata
    }

    /// Pixels and their place.
    pub fn grid(&self) -> RasterGrid {
        self.metadata.grid
    }

    /// The values of `window`, B×H×W, as they are stored: no-data values and alpha included, palette places not looked up.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a window without pixels or beyond the raster; [`Error::Io`] or [`Error::Format`] when
    /// the file cannot be read or is damaged there.
    pub fn read(&self, window: Rect) -> Result<Samples> {
        Ok(match self.metadata.sample_type {
            SampleType::U8 => Samples::U8(self.bands(window)?),
            SampleType::I8 => Samples::I8(self.bands(window)?),
            SampleType::U16 => Samples::U16(self.bands(window)?),
            SampleType::I16 => Samples::I16(self.bands(window)?),
            SampleType::U32 => Samples::U32(self.bands(window)?),
            SampleType::I32 => Samples::I32(self.bands(window)?),
            SampleType::F32 => Samples::F32(self.bands(window)?),
            SampleType::F64 => Samples::F64(self.bands(window)?),
        })
    }

    /// The values of `window` in single precision, B×H×W, NaN where there is no data by the file's no-data value.
    ///
    /// # Errors
    /// As [`GeoTiff::read`].
    pub fn read_f32(&self, window: Rect) -> Result<Array3<f32>> {
        let mut values = match self.read(window)? {
            Samples::F32(values) if self.metadata.no_data.is_none_or(f64::is_nan) => return Ok(values),
            samples => samples.to_f64(),
        };
        values.mapv_inplace(|value| if self.metadata.is_no_data(value) { f64::NAN } else { value });
        Ok(values.mapv(|value| value as f32))
    }

    fn bands<T: TiffSample>(&self, window: Rect) -> Result<Array3<T>> {
        let pixels = self.pixels::<T>(window)?;
        Ok(pixels.permuted_axes([2, 0, 1]).as_standard_layout().into_owned())
    }

    /// The window's values with the bands of a pixel together, H×W×B.
    pub(super) fn pixels<T: TiffSample>(&self, window: Rect) -> Result<Array3<T>> {
        window.expect_inside("window", self.metadata.grid.size)?;
        let [x, y, width, height] = [window.x, window.y, window.width, window.height].map(|value| value as usize);
        let ifd = self.file.ifd(self.image).map_err(|error| damaged(&self.path, error))?;
        let values = if stores_luminance(ifd) {
            self.file.read_decoded_window_from_ifd(ifd, y, x, height, width)
        } else {
            self.file.read_window_from_ifd(ifd, y, x, height, width)
        };
        let values = values.map_err(|error| damaged(&self.path, error))?;
        let shape = (height, width, self.metadata.bands);
        values.into_shape_with_order(shape).map_err(|error| Error::format(&self.path, None, error.to_string()))
    }

    /// An error about this file.
    pub(super) fn fail(&self, reason: impl Into<String>) -> Error {
        Error::format(&self.path, None, reason)
    }
}

impl fmt::Debug for GeoTiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoTiff").field("path", &self.path).field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// Whether colours are stored as luminance and chroma, as JPEG does it.
fn stores_luminance(ifd: &Ifd) -> bool {
    ifd.photometric_interpretation_enum() == Some(PhotometricInterpretation::YCbCr)
}

/// What the decoder says about a file, as the crates' error.
pub(super) fn damaged(path: &Path, error: TiffError) -> Error {
    match error {
        TiffError::Io(source, _) => Error::io(path, source),
        other => Error::format(path, None, format!("the TIFF file cannot be read: {other}")),
    }
}

/// No compression of TIFF packs more than this many bytes into one; ZSTD comes close on equal bytes.
const LARGEST_RATIO: u64 = 40_000;

/// Refuses blocks that the file cannot hold, before memory is asked for them.
fn expect_block_in_file(path: &Path, file: &TiffFile, metadata: &GeoTiffMetadata) -> Result<()> {
    let sample_bytes = match metadata.sample_type {
        SampleType::U8 | SampleType::I8 => 1,
        SampleType::U16 | SampleType::I16 => 2,
        SampleType::U32 | SampleType::I32 | SampleType::F32 => 4,
        SampleType::F64 => 8,
    };
    let Size { width, height } = metadata.block;
    let bytes = u128::from(width) * u128::from(height) * sample_bytes;
    let stored = file.source().len();
    if bytes > u128::from(stored) * u128::from(LARGEST_RATIO) {
        let reason = format!("blocks of {width}x{height} pixels cannot be in a file of {stored} bytes");
        return Err(Error::format(path, None, reason));
    }
    Ok(())
}
