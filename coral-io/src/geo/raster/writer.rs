use std::fmt;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use coral_core::ndarray::{Array3, ArrayView3, Axis, s};
use coral_core::{Error, RasterGrid, Result, Size, UnfinishedFile};
use tiff_reader::constants::{Compression, PlanarConfiguration, Predictor};
use tiff_reader::{ByteOrder, Tag, TagValue};
use tiff_writer::compress::{BlockEncodingOptions, compress_block};
use tiff_writer::{ImageBuilder, ImageHandle, TiffWriteSample, TiffWriter, WriteOptions};

use super::gdal_metadata::GdalMetadata;
use super::georeference::place;
use super::tags;
use crate::parallel;

/// How the pixels of a written TIFF are compressed; nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TiffCompression {
    /// Not at all.
    None,
    /// LZW, which every reader knows.
    Lzw,
    /// Deflate, smaller.
    #[default]
    Deflate,
}

/// The pieces that a written TIFF is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TiffBlocks {
    /// Squares of so many pixels, a multiple of 16: good for windows.
    Tiles(u32),
    /// So many whole rows.
    Strips(u32),
}

/// How a written TIFF stores its pixels. A writer holds one row of blocks in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TiffLayout {
    /// The compression of each block.
    pub compression: TiffCompression,
    /// The blocks.
    pub blocks: TiffBlocks,
}

impl Default for TiffLayout {
    /// Tiles of 256 pixels and Deflate.
    fn default() -> Self {
        Self { compression: TiffCompression::default(), blocks: TiffBlocks::Tiles(256) }
    }
}

impl TiffLayout {
    fn block(&self, size: Size) -> Result<Size> {
        match self.blocks {
            TiffBlocks::Tiles(side) if side > 0 && side % 16 == 0 && side <= 1 << 14 => {
                Ok(Size { width: side, height: side })
            }
            TiffBlocks::Strips(rows) if rows > 0 => Ok(Size { width: size.width, height: rows.min(size.height) }),
            other => {
                let reason = format!("expected tiles of a multiple of 16 up to 16384 pixels or rows, got {other:?}");
                Err(Error::parameter("blocks", reason))
            }
        }
    }
}

/// What a raster is besides its pixels.
pub(super) struct RasterTags {
    /// Kind and number of samples, their meaning and their arrangement.
    pub(super) image: ImageBuilder,
    pub(super) predictor: Predictor,
    pub(super) no_data: Option<&'static str>,
    pub(super) metadata: GdalMetadata,
}

/// Writes the blocks of a raster from the top row to the bottom row.
///
/// Rows come as planes × n × values: one plane whose rows hold the values of all bands of a pixel together, or a
/// plane for each band.
pub(super) struct BlockWriter<T, W: Write + Seek> {
    path: PathBuf,
    tiff: TiffWriter<W>,
    image: ImageHandle,
    encoding: BlockEncodingOptions<'static>,
    size: Size,
    block: Size,
    tiled: bool,
    /// The rows of the block row that is being filled, planes × block height × values of a row.
    rows: Array3<T>,
    filled: usize,
    /// Rows of the raster that are stored.
    stored: usize,
    failed: bool,
}

/// A block writer to a file that appears when it is finished.
pub(super) type FileBlockWriter<T> = BlockWriter<T, UnfinishedFile>;

/// The builder of an image of `bands` bands, with a plane for each or all together.
pub(super) fn image_of<T: TiffWriteSample>(size: Size, bands: u16, planar: PlanarConfiguration) -> ImageBuilder {
    ImageBuilder::new(size.width, size.height).sample_type::<T>().samples_per_pixel(bands).planar_configuration(planar)
}

impl<T: TiffWriteSample + Default> FileBlockWriter<T> {
    /// Starts the file of a raster.
    pub(super) fn create(path: &Path, grid: &RasterGrid, layout: TiffLayout, raster: RasterTags) -> Result<Self> {
        grid.validate()?;
        layout.block(grid.size)?;
        Self::new(UnfinishedFile::create(path)?, path, (grid, layout), raster)
    }

    /// Stores what is left and gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        self.finish_tiff()?.finish()
    }
}

impl<T: TiffWriteSample + Default, W: Write + Seek + Sync> BlockWriter<T, W> {
    fn new(out: W, path: &Path, (grid, layout): (&RasterGrid, TiffLayout), raster: RasterTags) -> Result<Self> {
        let block = layout.block(grid.size)?;
        let (compression, predictor) = match layout.compression {
            TiffCompression::None => (Compression::None, Predictor::None),
            TiffCompression::Lzw => (Compression::Lzw, raster.predictor),
            TiffCompression::Deflate => (Compression::Deflate, raster.predictor),
        };
        let mut image = place(raster.image, grid)?.compression(compression).predictor(predictor);
        let tiled = matches!(layout.blocks, TiffBlocks::Tiles(_));
        image = if tiled { image.tiles(block.width, block.height) } else { image.strips(block.height) };
        let texts =
            [(tags::GDAL_METADATA, raster.metadata.to_xml()), (tags::GDAL_NO_DATA, raster.no_data.map(Into::into))];
        for (code, text) in texts {
            if let Some(text) = text {
                image = image.tag(Tag::new(code, TagValue::Ascii(text)));
            }
        }
        let together = usize::from(image.block_samples_per_pixel());
        let blocks = image.checked_block_count().map_err(|error| failed(path, error))?;
        let (across, down) = counts(grid.size, block);
        expect_room(grid.size, blocks, [blocks / (down * across), block.height as usize, size_of::<T>() * together])?;
        let encoding = BlockEncodingOptions {
            byte_order: ByteOrder::LittleEndian,
            compression,
            predictor,
            samples_per_pixel: image.block_samples_per_pixel(),
            row_width_pixels: image.block_row_width(),
            jpeg_options: None,
            jpeg_sampling: None,
            deflate_level: None,
        };
        let options = WriteOptions { byte_order: encoding.byte_order, ..WriteOptions::auto() };
        let mut tiff = TiffWriter::new(out, options).map_err(|error| failed(path, error))?;
        let image = tiff.add_image(image).map_err(|error| failed(path, error))?;
        let rows =
            Array3::default((blocks / (down * across), block.height as usize, grid.size.width as usize * together));
        let (path, size) = (path.to_owned(), grid.size);
        Ok(Self { path, tiff, image, encoding, size, block, tiled, rows, filled: 0, stored: 0, failed: false })
    }

    /// Rows taken so far.
    pub(super) fn rows_taken(&self) -> usize {
        self.stored + self.filled
    }

    /// Takes the next rows, planes × n × values of a row.
    pub(super) fn write(&mut self, rows: ArrayView3<'_, T>) -> Result<()> {
        let (planes, _, values) = self.rows.dim();
        let left = self.size.height as usize - self.stored - self.filled;
        let (given_planes, count, given_values) = rows.dim();
        if (given_planes, given_values) != (planes, values) || count > left {
            let expected = format!("{planes}xNx{values} of at most {left} rows");
            return Err(Error::shape("rows", expected, format!("{given_planes}x{count}x{given_values}")));
        }
        if self.failed {
            return Err(Error::input("writer", format!("{}: writing failed before", self.path.display())));
        }
        let mut taken = 0;
        while taken < count {
            let step = (count - taken).min(self.expected_rows() - self.filled);
            let (from, to) = (taken..taken + step, self.filled..self.filled + step);
            self.rows.slice_mut(s![.., to, ..]).assign(&rows.slice(s![.., from, ..]));
            (taken, self.filled) = (taken + step, self.filled + step);
            if self.filled == self.expected_rows() {
                // A block row that failed half-way cannot be taken back.
                self.failed = true;
                self.store_block_row()?;
                self.failed = false;
            }
        }
        Ok(())
    }

    /// Rows of the current row of blocks that lie in the raster.
    fn expected_rows(&self) -> usize {
        (self.size.height as usize - self.stored).min(self.block.height as usize)
    }

    fn store_block_row(&mut self) -> Result<()> {
        let (across, down) = counts(self.size, self.block);
        let row = self.stored / self.block.height as usize;
        let planes = self.rows.dim().0;
        let places: Vec<_> = (0..planes).flat_map(|plane| (0..across).map(move |column| (plane, column))).collect();
        let blocks = parallel::map(&places, |&(plane, column)| {
            let index = (plane * down + row) * across + column;
            Ok((index, compress_block(&self.block_values(plane, column), self.encoding, index)?))
        });
        for block in blocks {
            let stored = block.and_then(|(index, bytes)| self.tiff.write_block_raw(&self.image, index, &bytes));
            stored.map_err(|error| failed(&self.path, error))?;
        }
        self.stored += self.filled;
        self.filled = 0;
        Ok(())
    }

    /// The values of one block, padded where a tile reaches beyond the raster.
    fn block_values(&self, plane: usize, column: usize) -> Vec<T> {
        let rows = self.rows.index_axis(Axis(0), plane);
        let width = self.encoding.row_width_pixels * usize::from(self.encoding.samples_per_pixel);
        let height = if self.tiled { self.block.height as usize } else { self.filled };
        let mut values = vec![T::default(); width * height];
        let (start, end) = (column * width, rows.ncols().min((column + 1) * width));
        for (out, row) in values.chunks_exact_mut(width).zip(rows.rows()).take(self.filled) {
            out.iter_mut().zip(row.slice(s![start..end])).for_each(|(out, &value)| *out = value);
        }
        values
    }

    fn finish_tiff(self) -> Result<W> {
        let height = self.size.height as usize;
        if self.stored != height {
            let got = format!("{} rows", self.stored + self.filled);
            return Err(Error::shape("rows of the raster", format!("{height} rows"), got));
        }
        self.tiff.finish().map_err(|error| failed(&self.path, error))
    }
}

impl<T, W: Write + Seek> fmt::Debug for BlockWriter<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, size, stored) = (&self.path, self.size, self.stored);
        f.debug_struct("BlockWriter")
            .field("path", path)
            .field("size", &size)
            .field("stored", &stored)
            .finish_non_exhaustive()
    }
}

/// Bytes of a row of blocks, and blocks of a file, that a writer takes on.
const LARGEST_ROW: u128 = 1 << 34;
const MOST_BLOCKS: usize = 1 << 26;

/// Refuses rasters whose row of blocks or list of blocks would not fit into memory, before memory is asked for.
fn expect_room(size: Size, blocks: usize, [planes, rows, pixel]: [usize; 3]) -> Result<()> {
    let bytes = [planes, rows, pixel].map(|number| number as u128).iter().product::<u128>() * u128::from(size.width);
    if bytes <= LARGEST_ROW && blocks <= MOST_BLOCKS {
        return Ok(());
    }
    let reason = format!(
        "a raster of {size} needs {blocks} blocks and {bytes} bytes for a row of them: expected at most {MOST_BLOCKS} and \
         {LARGEST_ROW}"
    );
    Err(Error::input("raster size", reason))
}

/// Blocks in a row of blocks, and rows of blocks.
fn counts(size: Size, block: Size) -> (usize, usize) {
    (size.width.div_ceil(block.width) as usize, size.height.div_ceil(block.height) as usize)
}

/// What the encoder says about a file, as the crates' error.
fn failed(path: &Path, error: tiff_writer::Error) -> Error {
    match error {
        tiff_writer::Error::Io(source) => Error::io(path, source),
        other => Error::format(path, None, format!("the TIFF file cannot be written: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, SeekFrom};

    use coral_core::{Crs, GeoTransform};

    use super::*;

    /// A disk with room for so many bytes.
    struct Disk {
        room: u64,
        bytes: Cursor<Vec<u8>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.bytes.position() + bytes.len() as u64 > self.room {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.bytes.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Disk {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.bytes.seek(to)
        }
    }

    fn written(room: u64) -> Result<Disk> {
        let size = Size { width: 50, height: 70 };
        let grid = RasterGrid { size, transform: GeoTransform::north_up(0.0, 9.0, 1.0, 1.0), crs: Crs::WGS84 };
        let image = image_of::<u8>(size, 1, PlanarConfiguration::Chunky);
        let raster = RasterTags { image, predictor: Predictor::None, no_data: None, metadata: GdalMetadata::default() };
        let layout = TiffLayout { compression: TiffCompression::None, blocks: TiffBlocks::Strips(10) };
        let disk = Disk { room, bytes: Cursor::default() };
        let mut writer = BlockWriter::new(disk, Path::new("a.tif"), (&grid, layout), raster)?;
        let rows = Array3::from_elem((1, 25, 50), 7_u8);
        for _ in 0..2 {
            if let Err(error) = writer.write(rows.view()) {
                let again = writer.write(rows.view()).unwrap_err().to_string();
                assert!(again.contains("writing failed before"), "{again}");
                return Err(error);
            }
        }
        writer.write(rows.slice(s![.., ..20, ..]))?;
        writer.finish_tiff()
    }

    #[test]
    fn a_full_disk_is_an_io_error() {
        let needed = written(u64::MAX).unwrap().bytes.into_inner().len() as u64;
        assert!(needed > 3500);
        for room in [0, 10, 600, 3000, needed - 1] {
            match written(room) {
                Err(Error::Io { path, source }) => {
                    assert_eq!((path.to_str(), source.kind()), (Some("a.tif"), std::io::ErrorKind::StorageFull));
                }
                other => panic!("{room} of {needed}: {:?}", other.map(|_| ())),
            }
        }
    }
}
