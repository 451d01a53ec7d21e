use std::path::Path;

use coral_core::{
    ClassSet, Error, LabelMap, LabelRaster, Metric, RasterGrid, Rect, Result, UNLABELED, write_atomically,
};
use coral_io::geo::{
    ClassPolygons, GeoTiff, LabelGeoTiff, PolygonRaster, RasterizeConfig, Resampled, Resampling, read_polygons,
};
use coral_metrics::{ClassMean, ConfusionMatrix};

use super::EvaluationConfig;
use crate::about_photograph;

/// Rows that are scored at a time.
const ROWS: u32 = 512;

/// How well a map agrees with the annotation.
#[derive(Debug, Clone)]
pub struct MapScore {
    /// What made the map.
    pub name: String,
    /// Annotated pixels by annotated and predicted class.
    pub matrix: ConfusionMatrix,
}

/// The annotation of a survey's zones.
pub(super) struct Truth {
    grid: RasterGrid,
    labels: Box<dyn LabelRaster>,
    zones: PolygonRaster,
    classes: ClassSet,
}

/// Polygons brought to another system, which is what a caller asked for who names it.
pub(super) fn polygons_in(path: &Path, grid: &RasterGrid) -> Result<ClassPolygons> {
    let polygons = read_polygons(path)?;
    let projected = polygons.reprojected(grid.crs);
    projected.map_err(|error| about_photograph(path, error))
}

impl Truth {
    /// Opens the annotation; polygons are drawn on the orthophoto's pixels.
    pub(super) fn open(config: &EvaluationConfig, orthophoto: &RasterGrid, classes: &ClassSet) -> Result<Self> {
        let is_tiff = config
            .truth
            .extension()
            .is_some_and(|end| ["tif", "tiff"].iter().any(|tiff| end.eq_ignore_ascii_case(tiff)));
        let inside = RasterizeConfig { allow_outside: true, ..Default::default() };
        let (grid, labels): (RasterGrid, Box<dyn LabelRaster>) = if is_tiff {
            let raster = Shifted::open(&config.truth, config.first_id)?;
            (raster.grid, Box::new(raster))
        } else {
            let polygons = polygons_in(&config.truth, orthophoto)?.with_classes(&config.attribute, classes);
            let raster = polygons.and_then(|polygons| PolygonRaster::new(&polygons, *orthophoto, &inside));
            (*orthophoto, Box::new(raster.map_err(|error| about_photograph(&config.truth, error))?))
        };
        let zones = polygons_in(&config.zones, &grid)?.with_class(0);
        let zones = PolygonRaster::new(&zones, grid, &RasterizeConfig::default())
            .map_err(|error| about_photograph(&config.zones, error))?;
        Ok(Self { grid, labels, zones, classes: classes.clone() })
    }

    /// Scores a map whose pixels lie on `grid`, brought to the annotation's pixels by the nearest one.
    pub(super) fn score(&self, name: &str, map: &dyn LabelRaster, grid: RasterGrid) -> Result<MapScore> {
        let map = Resampled::reprojected(map, grid, self.grid, Resampling::Nearest)
            .map_err(|error| Error::input(name, format!("the map cannot be compared with the annotation: {error}")))?;
        self.score_with(name, &|window| map.read_labels(window))
    }

    /// The score of calling everything the class that covers most of the annotation.
    pub(super) fn constant(&self) -> Result<MapScore> {
        let any =
            self.score_with("", &|window| Ok(LabelMap::zeros((window.height as usize, window.width as usize))))?;
        let support = any.matrix.support();
        let class = (0..support.len()).rev().max_by_key(|&class| support[class]).unwrap_or(0) as u8;
        let name = format!("constant {}", self.classes.name(class));
        self.score_with(&name, &|window| {
            Ok(LabelMap::from_elem((window.height as usize, window.width as usize), class))
        })
    }

    fn score_with(&self, name: &str, map: &dyn Fn(Rect) -> Result<LabelMap>) -> Result<MapScore> {
        let mut matrix = ConfusionMatrix::new(self.classes.len())?;
        for y in (0..self.grid.size.height).step_by(ROWS as usize) {
            let window = Rect { x: 0, y, width: self.grid.size.width, height: ROWS.min(self.grid.size.height - y) };
            if self.zones.polygons_in(window).is_empty() {
                continue;
            }
            let mut truth = self.labels.read_labels(window)?;
            truth.zip_mut_with(&self.zones.read_labels(window)?, |label, &zone| {
                if zone == UNLABELED {
                    *label = UNLABELED;
                }
            });
            matrix.update(&map(window)?, &truth)?;
        }
        if matrix.total() == 0 {
            return Err(Error::input("truth", "no pixel inside the zones has a class"));
        }
        Ok(MapScore { name: name.into(), matrix })
    }
}

/// Class ids of a GeoTIFF that are counted from another number than 0.
struct Shifted {
    raster: LabelGeoTiff,
    grid: RasterGrid,
    first: u8,
}

impl Shifted {
    fn open(path: &Path, first: u8) -> Result<Self> {
        let tiff = GeoTiff::open(path)?;
        let grid = tiff.grid();
        // Ids below the first are nothing.
        let nothing: Vec<u8> = (0..first).collect();
        Ok(Self { raster: LabelGeoTiff::new(tiff, &nothing)?, grid, first })
    }
}

impl LabelRaster for Shifted {
    fn size(&self) -> coral_core::Size {
        self.raster.size()
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        let shift = |id: u8| if id == UNLABELED { id } else { id.saturating_sub(self.first) };
        Ok(self.raster.read_labels(window)?.mapv_into(shift))
    }
}

impl MapScore {
    /// Pixel accuracy, mean accuracy and mean IoU, 0 to 1.
    pub fn summary(&self, published: bool) -> [Option<f64>; 3] {
        let mean = if published { ClassMean::PointIsTheMask } else { ClassMean::PresentInTarget };
        [self.matrix.pixel_accuracy(), self.matrix.mean_recall(mean), self.matrix.mean_iou(mean)]
    }
}

/// A table of the scores, in percent.
pub fn score_table(scores: &[MapScore], classes: &ClassSet, published: bool) -> String {
    let percent = |value: Option<f64>| value.map_or("-".into(), |value| format!("{:.1}", 100.0 * value));
    let wide = scores.iter().map(|score| score.name.len()).max().unwrap_or(0).max(4);
    let means = if published { "means leave out classes that score 0" } else { "means over the classes annotated" };
    let mut text = format!("{:wide$}  accuracy  mean acc.  mean IoU", "map");
    for class in classes.iter() {
        text += &format!("  IoU {}", class.name);
    }
    text += &format!("   (%, {means})\n");
    for score in scores {
        let [accuracy, mean_accuracy, mean_iou] = score.summary(published).map(percent);
        text += &format!("{:wide$}  {accuracy:>8}  {mean_accuracy:>9}  {mean_iou:>8}", score.name);
        for (class, iou) in classes.iter().zip(score.matrix.iou()) {
            text += &format!("  {:>1$}", percent(iou), class.name.len() + 4);
        }
        text += "\n";
    }
    text
}

/// Writes the scores as CSV: a line per map, shares from 0 to 1, nothing where there is nothing to divide by.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn write_scores(path: &Path, scores: &[MapScore], classes: &ClassSet, published: bool) -> Result<()> {
    let text = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let heads = ["map", "pixel_accuracy", "mean_accuracy", "mean_iou"].map(str::to_owned);
        csv.write_record(heads.into_iter().chain(classes.iter().map(|class| format!("iou_{}", class.name))))?;
        for score in scores {
            let numbers = score.summary(published).into_iter().chain(score.matrix.iou()).map(text);
            csv.write_record(std::iter::once(score.name.clone()).chain(numbers))?;
        }
        csv.flush()
    })
}
