use std::fmt;
use std::path::Path;

use coral_core::{ClassSet, Crs, ImageWindow, LabelSink, Progress, PromptableSegmenter, RasterGrid, Result, Segmenter};
use coral_io::geo::{
    GeoJsonCrs, LabelGeoTiff, LabelGeoTiffWriter, Orthophoto, PolygonizeConfig, TiffLayout, polygonize, write_geojson,
};
use coral_weak::{
    ClassRefinementConfig, RasterMapConfig, RasterMapper, SamRefiner, haversine, probable_labels, refine_classes,
};

use super::RowsFile;

/// Smaller regions are no polygons of a map that people look at.
const MIN_REGION_M2: f64 = 0.25;

/// What the maps of an orthophoto have in common.
pub struct Mapping<'a> {
    /// What is mapped.
    pub orthophoto: &'a Orthophoto,
    /// Tiles, and how they agree.
    pub config: &'a RasterMapConfig,
    /// Their names and colours go with the map.
    pub classes: &'a ClassSet,
    /// Hears of the tiles.
    pub progress: &'a dyn Progress,
}

impl Mapping<'_> {
    /// Writes the class map by a segmenter as a GeoTIFF to the file `out`. A killed run goes on with the rows that are
    /// missing, where `key` is the same.
    ///
    /// # Errors
    /// Those of the orthophoto, the segmenter and [`RasterMapper::segment`]; [`coral_core::Error::Io`].
    pub fn write(&self, segmenter: &dyn Segmenter, (out, key): (&Path, &str)) -> Result<()> {
        self.fill(out, key, |rows| self.mapper().segment(segmenter, rows))
    }

    /// The same with classes refined in every tile before the tiles vote.
    ///
    /// # Errors
    /// As [`write`](Self::write), and those of [`refine_classes`].
    pub fn write_refined<S: PromptableSegmenter>(
        &self,
        segmenter: &dyn Segmenter,
        (refiner, refinement): (&SamRefiner<S>, &ClassRefinementConfig),
        (out, key): (&Path, &str),
    ) -> Result<()> {
        let label = |window: &ImageWindow| {
            let labels = probable_labels(&segmenter.segment(&window.image)?, 0.0)?;
            refine_classes(refiner, &window.image, &labels, refinement)
        };
        let classes = segmenter.num_classes();
        self.fill(out, key, |rows| self.mapper().vote(classes, &label, rows))
    }

    fn mapper(&self) -> RasterMapper<'_> {
        RasterMapper { raster: self.orthophoto, config: self.config, progress: self.progress }
    }

    /// Fills the rows, after a kill those that are missing, and writes them as a GeoTIFF.
    fn fill(&self, out: &Path, key: &str, fill: impl FnOnce(&mut dyn LabelSink) -> Result<()>) -> Result<()> {
        let grid = self.orthophoto.grid();
        let mut rows = RowsFile::open(out, key, grid.size)?;
        fill(&mut rows)?;
        let mut writer = LabelGeoTiffWriter::create(out, grid, Some(self.classes), TiffLayout::default())?;
        rows.copy_to(&mut writer)?;
        writer.finish()?;
        // Where the disk was full, the rows are still there for the next run.
        rows.remove()
    }
}

impl fmt::Debug for Mapping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orthophoto, config, .. } = self;
        f.debug_struct("Mapping").field("orthophoto", orthophoto).field("config", config).finish_non_exhaustive()
    }
}

/// Writes the regions of a map, without those below a quarter of a square metre, as GeoJSON in degrees.
///
/// # Errors
/// Those of the map; [`coral_core::Error::InvalidParameter`] for a system that is not known; [`coral_core::Error::Io`].
pub fn write_regions(path: &Path, map: &LabelGeoTiff, classes: &ClassSet) -> Result<()> {
    let grid = map.grid();
    let min_pixels = (MIN_REGION_M2 / pixel_square_metres(&grid)).ceil() as u64;
    let regions = polygonize(map, &grid, classes, &PolygonizeConfig { min_pixels, ..Default::default() })?;
    let regions = regions.reprojected(Crs::WGS84)?;
    write_geojson(path, &regions, GeoJsonCrs::default())
}

/// Square metres of a pixel; in degrees, of one in the middle of the raster.
pub fn pixel_square_metres(grid: &RasterGrid) -> f64 {
    if !grid.crs.is_geographic() {
        return grid.transform.pixel_area();
    }
    let (x, y) = (f64::from(grid.size.width) / 2.0, f64::from(grid.size.height) / 2.0);
    let from = grid.transform.world(x, y);
    haversine(from, grid.transform.world(x + 1.0, y)) * haversine(from, grid.transform.world(x, y + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::{GeoTransform, Size};

    #[test]
    fn pixels_in_degrees_have_square_metres() {
        let size = Size { width: 100, height: 100 };
        let degree = 1.0 / 111_194.9;
        let transform = GeoTransform::north_up(55.0, 60.0 + 50.0 * degree, degree, degree);
        let area = |crs| pixel_square_metres(&RasterGrid { size, transform, crs });
        // Meridians are half as far apart at 60 degrees.
        assert!((area(Crs::WGS84) - 0.5).abs() < 1e-3);
        assert_eq!(area(Crs { epsg: 32740 }), transform.pixel_area());
    }
}
