use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coral_core::ndarray::{Array2, Array3, s};
use coral_core::{Crs, Error, RasterGrid, Rect, Result, Size};
use tiff_reader::{Ifd, OpenOptions, PhotometricInterpretation, TiffError, TiffFile};

use super::metadata::{GeoTiffMetadata, block_of};
use super::missing_blocks::MissingBlocks;
use super::samples::{SampleType, Samples, Value};
use super::tags;

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
/// Strips and tiles, band- and pixel-interleaved, classic and BigTIFF; without compression or LZW, Deflate, PackBits,
/// ZSTD, JPEG or LERC. Only the strips or tiles that a window touches are read. Any number of threads may read.
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
    /// Where the mask of pixels with data is in the list.
    mask: Option<usize>,
    missing: Option<Arc<MissingBlocks>>,
}

impl GeoTiff {
    /// Opens a file and reads what it says about its first image.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is damaged, or does not say where its
    /// pixels lie or in which coordinate reference system, or names one without EPSG number.
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
        Self::of_image(path, Arc::new(file), 0, metadata)
    }

    fn of_image(path: &Path, file: Arc<TiffFile>, image: usize, metadata: GeoTiffMetadata) -> Result<Self> {
        let ifd = file.ifd(image).map_err(|error| damaged(path, error))?;
        expect_block_in_file(path, &file, &metadata)?;
        let size = metadata.grid.size;
        let of_image = |other: &Ifd| subfile(other) == subfile(ifd) | MASK && size_of(other) == size;
        let mask = file.ifds().iter().position(of_image);
        // Missing blocks are read as zeros.
        let filled = metadata.no_data.is_some_and(|value| value != 0.0);
        let missing = MissingBlocks::of(ifd, size, metadata.block).filter(|_| filled).map(Arc::new);
        Ok(Self { path: path.to_owned(), file, image, metadata, mask, missing })
    }

    /// Sizes of the smaller versions that the file holds, usually from large to small.
    pub fn overviews(&self) -> Vec<Size> {
        self.overview_images().map(|(_, ifd)| size_of(ifd)).collect()
    }

    fn overview_images(&self) -> impl Iterator<Item = (usize, &Ifd)> {
        let images = self.file.ifds().iter().enumerate().skip(1);
        images.filter(|(_, ifd)| subfile(ifd) == REDUCED && usize::from(ifd.samples_per_pixel()) == self.metadata.bands)
    }

    /// The smaller version at place `index` of [`overviews`](GeoTiff::overviews), with pixels as much larger.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the last; [`Error::Format`] when it is damaged or of another sample type.
    pub fn overview(&self, index: usize) -> Result<Self> {
        let found = self.overview_images().nth(index);
        let (image, ifd) = found.ok_or_else(|| {
            let what = format!("the overviews of {}", self.path.display());
            Error::IndexOutOfRange { what, index, len: self.overviews().len() }
        })?;
        let layout = ifd.raster_layout().map_err(|error| damaged(&self.path, error))?;
        if SampleType::of(&layout) != Some(self.metadata.sample_type) {
            return Err(self.fail(format!("overview {index} has another sample type")));
        }
        let (size, whole) = (size_of(ifd), self.metadata.grid.size);
        let mut metadata = self.metadata.clone();
        (metadata.block, metadata.grid.size) = (block_of(ifd), size);
        let along = |step: (f64, f64), whole: u32, part: u32| {
            let scale = f64::from(whole) / f64::from(part);
            (step.0 * scale, step.1 * scale)
        };
        let transform = &mut metadata.grid.transform;
        transform.column = along(transform.column, whole.width, size.width);
        transform.row = along(transform.row, whole.height, size.height);
        metadata.grid.validate().map_err(|error| self.fail(format!("overview {index}: {error}")))?;
        Self::of_image(&self.path, Arc::clone(&self.file), image, metadata)
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

    /// The values of `window`, B×H×W, as they are stored: no-data values and alpha included, palette places not
    /// looked up.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a window without pixels or beyond the raster; [`Error::Io`] or [`Error::Format`]
    /// when the file cannot be read or is damaged there.
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

    fn bands<T: Value>(&self, window: Rect) -> Result<Array3<T>> {
        let pixels = self.pixels::<T>(window)?;
        Ok(pixels.permuted_axes([2, 0, 1]).as_standard_layout().into_owned())
    }

    /// The window's values with the bands of a pixel together, H×W×B.
    pub(super) fn pixels<T: Value>(&self, window: Rect) -> Result<Array3<T>> {
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
        let mut values = values.into_shape_with_order(shape).map_err(|error| self.fail(error.to_string()))?;
        if let (Some(missing), Some(no_data)) = (&self.missing, self.metadata.no_data.and_then(T::exact)) {
            for (band, part) in missing.parts(window) {
                let bands = band.map_or(0..self.metadata.bands, |band| band..band + 1);
                let (left, top) = ((part.x - window.x) as usize, (part.y - window.y) as usize);
                let (right, bottom) = (left + part.width as usize, top + part.height as usize);
                values.slice_mut(s![top..bottom, left..right, bands]).fill(no_data);
            }
        }
        Ok(values)
    }

    /// Which pixels of `window` hold data by the file's mask, H×W; `None` when it has none.
    pub(super) fn mask(&self, window: Rect) -> Result<Option<Array2<bool>>> {
        let Some(mask) = self.mask else { return Ok(None) };
        window.expect_inside("window", self.metadata.grid.size)?;
        let [x, y, width, height] = [window.x, window.y, window.width, window.height].map(|value| value as usize);
        let values = self.file.read_window::<u8>(mask, y, x, height, width);
        let values = values.map_err(|error| damaged(&self.path, error))?.mapv(|value| value != 0);
        let values = values.into_shape_with_order((height, width)).map_err(|error| self.fail(error.to_string()))?;
        Ok(Some(values))
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

const REDUCED: u32 = 1;
const MASK: u32 = 4;

/// What an image is to others of the file, as bits.
fn subfile(ifd: &Ifd) -> u32 {
    ifd.tag(tags::NEW_SUBFILE_TYPE).and_then(|tag| tag.value.as_u32()).unwrap_or_default()
}

fn size_of(ifd: &Ifd) -> Size {
    Size { width: ifd.width(), height: ifd.height() }
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
    let Size { width, height } = metadata.block;
    let bytes = u128::from(width) * u128::from(height) * metadata.sample_type.bytes();
    let stored = file.source().len();
    if bytes == 0 || bytes > u128::from(stored) * u128::from(LARGEST_RATIO) {
        let reason = format!("blocks of {width}x{height} pixels cannot be in a file of {stored} bytes");
        return Err(Error::format(path, None, reason));
    }
    Ok(())
}
