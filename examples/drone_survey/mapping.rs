use std::path::Path;

use coral_core::{ClassSet, ImageWindow, LabelSink, Progress, PromptableSegmenter, Result, Segmenter};
use coral_io::geo::{LabelGeoTiffWriter, Orthophoto, TiffLayout};
use coral_weak::{
    ClassRefinementConfig, RasterMapConfig, SamRefiner, probable_labels, refine_classes, segment_raster, vote_raster,
};

use super::RowsFile;

/// Where a map goes, and which job makes it.
pub(super) struct MapFile<'a> {
    pub(super) out: &'a Path,
    pub(super) classes: &'a ClassSet,
    /// Tells the job from others that write the same map.
    pub(super) key: &'a str,
}

impl MapFile<'_> {
    /// Fills the rows, after a kill those that are missing, and writes them as a GeoTIFF.
    fn write(&self, orthophoto: &Orthophoto, fill: impl FnOnce(&mut dyn LabelSink) -> Result<()>) -> Result<()> {
        let grid = orthophoto.grid();
        let mut rows = RowsFile::open(self.out, self.key, grid.size)?;
        fill(&mut rows)?;
        let mut writer = LabelGeoTiffWriter::create(self.out, grid, Some(self.classes), TiffLayout::default())?;
        rows.finish(&mut writer)?;
        writer.finish()
    }
}

/// The class map of an orthophoto, as a GeoTIFF with the classes' names and colours. A killed run goes on with the rows
/// that are missing, where `key` is the same.
///
/// # Errors
/// Those of the orthophoto, the segmenter and [`segment_raster`]; [`coral_core::Error::Io`].
pub fn map_orthophoto(
    orthophoto: &Orthophoto,
    segmenter: &dyn Segmenter,
    config: &RasterMapConfig,
    (out, classes, key): (&Path, &ClassSet, &str),
    progress: &dyn Progress,
) -> Result<()> {
    let map = MapFile { out, classes, key };
    map.write(orthophoto, |rows| segment_raster(orthophoto, segmenter, config, rows, progress))
}

/// The same with classes refined in every tile before the tiles vote.
pub(super) fn map_refined<S: PromptableSegmenter>(
    orthophoto: &Orthophoto,
    segmenter: &dyn Segmenter,
    (refiner, refinement): (&SamRefiner<S>, &ClassRefinementConfig),
    config: &RasterMapConfig,
    map: &MapFile<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let label = |window: &ImageWindow| {
        let labels = probable_labels(&segmenter.segment(&window.image)?, 0.0)?;
        refine_classes(refiner, &window.image, &labels, refinement)
    };
    let classes = segmenter.num_classes();
    map.write(orthophoto, |rows| vote_raster(orthophoto, classes, config, &label, rows, progress))
}
