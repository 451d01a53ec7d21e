use std::path::Path;

use coral_core::ndarray::Axis;
use coral_core::{ClassId, ClassSet, Error, LabelMap, LabelSink, RasterGrid, Result};
use tiff_reader::constants::{ColorMap, PhotometricInterpretation, PlanarConfiguration, Predictor};

use super::gdal_metadata::GdalMetadata;
use super::writer::{FileBlockWriter, RasterTags, TiffLayout, image_of};

/// Writes a GeoTIFF of class ids from the top row to the bottom row, in the memory of one row of blocks.
///
/// 255 is the no-data value. With a class set, the ids are places in its palette, and the classes' names are band
/// metadata `CLASS_0`, `CLASS_1`, … in GDAL's tag 42112. GDAL gives them as metadata of the band; its *category
/// names* have no place in a TIFF file, GDAL itself keeps them in a second file. BigTIFF is chosen when the file
/// needs it.
///
/// The file appears when [`finish`](LabelGeoTiffWriter::finish) succeeds; until then, and when the writer is dropped,
/// there is none.
///
/// # Examples
/// See [`geo`](crate::geo).
#[derive(Debug)]
pub struct LabelGeoTiffWriter {
    blocks: FileBlockWriter<ClassId>,
}

impl LabelGeoTiffWriter {
    /// Starts a map on `grid`, with the colours and names of `classes`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a grid without pixels or place, or a system that a GeoTIFF cannot name;
    /// [`Error::InvalidParameter`] for a bad layout; [`Error::Io`] when the folder cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        grid: RasterGrid,
        classes: Option<&ClassSet>,
        layout: TiffLayout,
    ) -> Result<Self> {
        let mut image = image_of::<ClassId>(grid.size, 1, PlanarConfiguration::Chunky);
        let mut metadata = GdalMetadata::default();
        if let Some(classes) = classes {
            // Levels reach to 65535 in TIFF.
            let channel = |channel: usize| {
                (0..=ClassId::MAX).map(|id| u16::from(classes.color(id)[channel]) * 257).collect::<Vec<_>>()
            };
            let palette = ColorMap::new(channel(0), channel(1), channel(2));
            let palette = palette.map_err(|reason| Error::input("classes", reason))?;
            image = image.photometric(PhotometricInterpretation::Palette).color_map(palette);
            metadata.class_names = classes.iter().map(|class| (class.id, class.name.clone())).collect();
        }
        let tags = RasterTags { image, predictor: Predictor::None, no_data: Some("255"), metadata };
        Ok(Self { blocks: FileBlockWriter::create(path.as_ref(), &grid, layout, tags)? })
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when rows are missing; [`Error::Io`] when the file cannot be stored.
    pub fn finish(self) -> Result<()> {
        self.blocks.finish()
    }
}

impl LabelSink for LabelGeoTiffWriter {
    fn rows_written(&self) -> u32 {
        self.blocks.rows_taken() as u32
    }

    fn write_rows(&mut self, rows: &LabelMap) -> Result<()> {
        self.blocks.write(rows.view().insert_axis(Axis(0)))
    }
}
