use std::fs;
use std::path::{Path, PathBuf};

use coral_core::{ClassSet, Error, Progress, RasterGrid, Result, write_atomically};
use coral_io::geo::{
    LabelGeoTiff, MapPicture, MapPictureConfig, Orthophoto, PolygonRaster, RasterizeConfig, confusion_picture,
};
use coral_models::SegFormerSegmenter;
use coral_models::candle_core::Device;
use coral_weak::{ColorSegmenter, RasterTiles, SamRefiner, TileRules, TrainingTiles, training_tiles};

use super::evaluation::{Truth, polygons_in};
use super::plan::Step;
use super::{
    EvaluationConfig, MapScore, Mapping, RefinementConfig, Stages, SurveyConfig, score_table, write_regions,
    write_scores,
};
use crate::{NetworkArguments, about_photograph};

/// The stages in their order; `predict` and `rasters` are run for each session.
pub const STAGES: [&str; 11] = [
    "predict",
    "rasters",
    "coarse",
    "first_tiles",
    "first_model",
    "first_map",
    "refined_map",
    "second_tiles",
    "second_model",
    "second_map",
    "evaluate",
];

/// A survey and the folder its results go to.
#[derive(Debug)]
pub struct Survey {
    pub(super) config: SurveyConfig,
    out: PathBuf,
    pub(super) classes: ClassSet,
    stages: Stages,
}

impl Survey {
    /// A survey whose results go to `out`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field that is out of range, [`Error::Io`].
    pub fn new(config: SurveyConfig, out: &Path) -> Result<Self> {
        config.validate()?;
        fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
        let classes = config.class_set()?;
        Ok(Self { config, stages: Stages::new(out), out: out.to_owned(), classes })
    }

    /// The file of a result.
    pub fn file(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Runs the stages that are not done, or `only` one of them. `tell` hears what is done and why.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a stage that is none; [`Error::InvalidInput`] naming a stage and what it lacks;
    /// whatever a stage reports.
    pub fn run(&self, only: Option<&str>, progress: &dyn Progress, tell: &dyn Fn(&str)) -> Result<()> {
        if let Some(name) = only.filter(|name| !STAGES.contains(name)) {
            return Err(Error::parameter("stage", format!("expected one of {}, got `{name}`", STAGES.join(", "))));
        }
        let mut plan = self.plan(progress);
        plan.retain(|step| only.is_none_or(|only| only == step.kind));
        if plan.is_empty() {
            let lacks = if only == Some("evaluate") { "`evaluation`" } else { "session without `predictions`" };
            let reason = format!("`{}` has nothing to do: the survey has no {lacks}", only.unwrap_or_default());
            return Err(Error::parameter("stage", reason));
        }
        for Step { stage, work, .. } in plan {
            let mut check = self.stages.check(&stage)?;
            let Some(reason) = check.reason.take() else {
                tell(&format!("{}: done before", stage.name));
                continue;
            };
            let started = std::time::Instant::now();
            let mut about = String::new();
            self.stages.run(&stage, check, |key| {
                about = work(key)?;
                Ok(())
            })?;
            let seconds = started.elapsed().as_secs_f64();
            tell(&format!("{}: {about} ({seconds:.1} s; {reason})", stage.name));
        }
        Ok(())
    }

    /// Lists the tiles of an annotation that are fit for training.
    pub(super) fn choose_tiles(&self, annotation: &Path, rules: &TileRules, out: &Path) -> Result<String> {
        let orthophoto = Orthophoto::open(&self.config.orthophoto)?;
        let grid = orthophoto.grid();
        let labels = LabelGeoTiff::open(annotation, &[])?;
        let zones = match &self.config.evaluation {
            Some(evaluation) => Some(excluded_zones(evaluation, grid)?),
            None => None,
        };
        let excluded = |tile| zones.as_ref().is_some_and(|zones| !zones.polygons_in(tile).is_empty());
        let tiles = training_tiles(&orthophoto, &labels, &excluded, rules)?;
        let TrainingTiles { kept, excluded, outside_hull, unlabeled, black, white } = &tiles;
        let about = format!(
            "{} tiles; left out: {excluded} at the zones, {outside_hull} outside the survey, {unlabeled} without \
             annotation, {black} black, {white} white",
            kept.len()
        );
        if kept.is_empty() {
            return Err(Error::input("tiles", format!("none is fit for training: {about}")));
        }
        let text = serde_json::to_string(&tiles).map_err(Error::model)?;
        write_atomically(out, |file| writeln!(file, "{text}"))?;
        Ok(about)
    }

    /// The chosen tiles with their labels.
    pub(super) fn tiles(&self, annotation: &Path, list: &Path) -> Result<RasterTiles<Orthophoto, LabelGeoTiff>> {
        let bytes = fs::read(list).map_err(|error| Error::io(list, error))?;
        let tiles: TrainingTiles = serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(list, Some(error.line() as u64), error.to_string()))?;
        RasterTiles::new(Orthophoto::open(&self.config.orthophoto)?, LabelGeoTiff::open(annotation, &[])?, tiles.kept)
    }

    /// The first model's map with the chosen classes refined tile by tile.
    pub(super) fn refine(&self, mapping: &Mapping<'_>, model: &Path, key: &str) -> Result<String> {
        let RefinementConfig { sam, colors, refiner, classes, .. } = &self.config.refinement;
        let segmenter = SegFormerSegmenter::open(model, &Device::Cpu)?;
        let (refinement, out) = (self.config.class_refinement()?, self.file("refined.tif"));
        let classes = if classes.is_empty() { "nothing".to_owned() } else { classes.join(", ") };
        match sam {
            None => {
                let refiner = SamRefiner::new(ColorSegmenter::new(*colors)?, *refiner)?;
                mapping.write_refined(&segmenter, (&refiner, &refinement), (&out, key))?;
                Ok(format!("{classes} refined by colours (no network given)"))
            }
            Some(weights) => {
                let network = NetworkArguments { weights: Some(weights.clone()), ..Default::default() };
                let refiner = SamRefiner::new(network.open()?, *refiner)?;
                mapping.write_refined(&segmenter, (&refiner, &refinement), (&out, key))?;
                Ok(format!("{classes} refined with {}", weights.display()))
            }
        }
    }

    fn evaluation(&self) -> Result<&EvaluationConfig> {
        let missing = || Error::parameter("evaluation", "expected zones and truth, got none");
        self.config.evaluation.as_ref().ok_or_else(missing)
    }

    /// Scores, the second map as a picture and as polygons, and its confusion matrix.
    pub(super) fn evaluate(&self, published: bool) -> Result<String> {
        let scores = self.scores()?;
        write_scores(&self.file("scores.csv"), &scores, &self.classes, published)?;
        let table = score_table(&scores, &self.classes, published);
        write_atomically(self.file("scores.txt"), |file| write!(file, "{table}"))?;
        if let Some(second) = scores.last() {
            let picture = confusion_picture(second.matrix.counts(), &self.classes)?;
            coral_io::write_image(self.file("confusion.png"), &picture)?;
        }
        let map = LabelGeoTiff::open(self.file("second.tif"), &[])?;
        let zones = polygons_in(&self.evaluation()?.zones, &map.grid())?;
        let picture = MapPicture::new(map.grid(), &self.classes, MapPictureConfig::default())?.with_outlines(&zones)?;
        coral_io::write_image(self.file("map.png"), &picture.draw(&map)?)?;
        write_regions(&self.file("map.geojson"), &map, &self.classes)?;
        Ok(format!("{} pixels annotated", scores[0].matrix.total()))
    }

    /// The scores of all maps that are there, after that of the best constant class.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] without an evaluation; those of the files.
    pub fn scores(&self) -> Result<Vec<MapScore>> {
        let evaluation = self.evaluation()?;
        let grid = Orthophoto::open(&self.config.orthophoto)?.grid();
        let truth = Truth::open(evaluation, &grid, &self.classes)?;
        let mut scores = vec![truth.constant()?];
        let maps =
            [("coarse", "coarse raster"), ("first", "first model"), ("refined", "refined"), ("second", "second model")];
        for (file, name) in maps {
            let path = self.file(&format!("{file}.tif"));
            if path.exists() {
                let map = LabelGeoTiff::open(&path, &[])?;
                scores.push(truth.score(name, &map, map.grid())?);
            }
        }
        Ok(scores)
    }
}

/// What no training tile may touch: the zones, which have to lie on the orthophoto, and what is around them.
fn excluded_zones(evaluation: &EvaluationConfig, grid: RasterGrid) -> Result<PolygonRaster> {
    let zones = polygons_in(&evaluation.zones, &grid)?.with_class(0);
    let about = |error| about_photograph(&evaluation.zones, error);
    PolygonRaster::new(&zones, grid, &RasterizeConfig::default()).map_err(about)?;
    // Without a buffer, positions need not be in metres.
    let wide = if evaluation.buffer_m > 0.0 { zones.buffered(evaluation.buffer_m).map_err(about)? } else { zones };
    PolygonRaster::new(&wide, grid, &RasterizeConfig { all_touched: true, allow_outside: true }).map_err(about)
}
