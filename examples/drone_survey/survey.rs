use std::fs;
use std::path::{Path, PathBuf};

use coral_core::{ClassSet, Error, LabelRaster, Progress, PromptableSegmenter, Result, write_atomically};
use coral_io::geo::{
    ClassPolygons, GeoJsonCrs, LabelGeoTiff, MapPicture, MapPictureConfig, Orthophoto, PolygonRaster, PolygonizeConfig,
    Projection, RasterizeConfig, confusion_picture, polygonize, write_geojson,
};
use coral_models::SegFormerSegmenter;
use coral_models::candle_core::Device;
use coral_weak::{ColorSegmenter, RasterTiles, SamRefiner, TileRules, TrainingTiles, training_tiles};
use serde_json::{Value, json};

use super::evaluation::{Truth, polygons_in};
use super::frames::{coarse_map, session_raster};
use super::mapping::{MapFile, map_refined};
use super::training::Training;
use super::{MapScore, Stage, Stages, SurveyConfig, map_orthophoto, write_scores};
use crate::NetworkArguments;

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

/// Small regions are no polygons of a map that people look at.
const MIN_POLYGON_M2: f64 = 0.25;

/// A survey and the folder its results go to.
#[derive(Debug)]
pub struct Survey {
    config: SurveyConfig,
    out: PathBuf,
    classes: ClassSet,
    stages: Stages,
}

type Work<'a> = Box<dyn FnOnce(&str) -> Result<String> + 'a>;

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
        for (kind, stage, work) in self.plan(progress) {
            if only.is_some_and(|only| only != kind) {
                continue;
            }
            let Some(reason) = self.stages.reason(&stage)? else {
                tell(&format!("{}: done before", stage.name));
                continue;
            };
            let started = std::time::Instant::now();
            let mut about = String::new();
            let key = if stage.inputs.iter().all(|input| input.exists()) { stage.key()? } else { String::new() };
            self.stages.run(&stage, || {
                about = work(&key)?;
                Ok(())
            })?;
            let seconds = started.elapsed().as_secs_f64();
            tell(&format!("{}: {about} ({seconds:.1} s; {reason})", stage.name));
        }
        Ok(())
    }

    /// All stages with what they do.
    fn plan<'a>(&'a self, progress: &'a dyn Progress) -> Vec<(&'static str, Stage, Work<'a>)> {
        let mut plan: Vec<(&'static str, Stage, Work<'a>)> = Vec::new();
        self.plan_sessions(progress, &mut plan);
        let mut add = |kind: &'static str, settings: Value, inputs: Vec<PathBuf>, outputs: &[&str], work: Work<'a>| {
            let outputs = outputs.iter().map(|name| self.file(name)).collect();
            plan.push((kind, Stage { name: kind.into(), settings, inputs, outputs }, work));
        };
        let SurveyConfig { orthophoto, coarse, tiles, training, map, refinement, evaluation, seed, .. } = &self.config;
        let classes = &self.config.classes;
        let zones: Vec<PathBuf> = evaluation.iter().map(|evaluation| evaluation.zones.clone()).collect();
        let buffer = evaluation.as_ref().map(|evaluation| evaluation.buffer_m);
        let with_zones = |first: &[PathBuf]| [first, &zones].concat();

        let rasters: Vec<PathBuf> = self.config.sessions.iter().map(|session| self.raster(&session.name)).collect();
        let inputs = [rasters.clone(), vec![orthophoto.clone()]].concat();
        add(
            "coarse",
            json!({"coarse": coarse, "classes": classes}),
            inputs,
            &["coarse.tif"],
            Box::new(move |_| {
                let rasters: Vec<&Path> = rasters.iter().map(PathBuf::as_path).collect();
                coarse_map(&rasters, orthophoto, &self.classes, coarse, &self.file("coarse.tif"))?;
                Ok(format!("{} sessions", rasters.len()))
            }),
        );
        let rounds = [("first", "coarse.tif", *tiles), ("second", "refined.tif", self.config.second_tiles())];
        for (round, annotation, rules) in rounds {
            let [kinds_tiles, kinds_model, kinds_map] = match round {
                "first" => ["first_tiles", "first_model", "first_map"],
                _ => ["second_tiles", "second_model", "second_map"],
            };
            let [list, model, result] =
                [format!("{round}_tiles.json"), format!("{round}.safetensors"), format!("{round}.tif")];
            let annotation = self.file(annotation);
            let inputs = with_zones(&[orthophoto.clone(), annotation.clone()]);
            let settings = json!({"rules": rules, "buffer": buffer});
            let (from, to) = (annotation.clone(), self.file(&list));
            add(kinds_tiles, settings, inputs, &[&list], Box::new(move |_| self.choose_tiles(&from, &rules, &to)));

            let inputs = [orthophoto.clone(), annotation.clone(), self.file(&list)];
            let inputs = inputs.into_iter().chain(training.weights.clone()).collect();
            let settings = json!({"training": training, "classes": classes, "seed": seed});
            let (tiles, out) = (self.file(&list), self.file(&model));
            add(
                kinds_model,
                settings,
                inputs,
                &[&model],
                Box::new(move |key| {
                    let training = Training { survey: &self.config, out, key: key.into(), progress };
                    training.run(&self.tiles(&annotation, &tiles)?)
                }),
            );

            let (from, to) = (self.file(&model), self.file(&result));
            add(
                kinds_map,
                json!({"map": map}),
                vec![orthophoto.clone(), from.clone()],
                &[&result],
                Box::new(move |key| {
                    let segmenter = SegFormerSegmenter::open(&from, &Device::Cpu)?;
                    map_orthophoto(
                        &Orthophoto::open(orthophoto)?,
                        &segmenter,
                        map,
                        (&to, &self.classes, key),
                        progress,
                    )?;
                    Ok("mapped".into())
                }),
            );
            if round == "first" {
                let model = self.file(&model);
                let inputs = [orthophoto.clone(), model.clone()].into_iter().chain(refinement.sam.clone()).collect();
                let settings = json!({"map": map, "refinement": refinement, "classes": classes});
                add(
                    "refined_map",
                    settings,
                    inputs,
                    &["refined.tif"],
                    Box::new(move |key| self.refine(&model, key, progress)),
                );
            }
        }
        if let Some(evaluation) = evaluation {
            let maps = ["coarse.tif", "first.tif", "refined.tif", "second.tif"].map(|name| self.file(name));
            let inputs =
                [&maps[..], &[evaluation.zones.clone(), evaluation.truth.clone(), orthophoto.clone()]].concat();
            let outputs = ["scores.csv", "confusion.png", "map.png", "map.geojson"];
            add(
                "evaluate",
                json!({"evaluation": evaluation, "classes": classes}),
                inputs,
                &outputs,
                Box::new(move |_| {
                    let scores = self.scores()?;
                    write_scores(&self.file("scores.csv"), &scores, &self.classes, evaluation.published_means)?;
                    self.draw(&scores)?;
                    Ok(format!("{} pixels annotated", scores[0].matrix.total()))
                }),
            );
        }
        plan
    }

    fn raster(&self, session: &str) -> PathBuf {
        self.file(&format!("session_{session}.tif"))
    }

    fn plan_sessions<'a>(&'a self, progress: &'a dyn Progress, plan: &mut Vec<(&'static str, Stage, Work<'a>)>) {
        let SurveyConfig { coarse, classes, classifier, .. } = &self.config;
        for session in &self.config.sessions {
            let own = self.file(&format!("session_{}.csv", session.name));
            let predictions = session.predictions.clone().unwrap_or_else(|| own.clone());
            if let (None, Some(frames), Some(model)) = (&session.predictions, &session.frames, classifier) {
                let name = format!("predict_{}", session.name);
                let inputs = vec![frames.clone(), model.clone()];
                let stage = Stage { name, settings: json!(null), inputs, outputs: vec![own.clone()] };
                plan.push(("predict", stage, Box::new(move |_| classify_frames(frames, model, &own, progress))));
            }
            let name = format!("rasters_{}", session.name);
            let out = self.raster(&session.name);
            let settings = json!({"raster": coarse.raster, "classes": classes});
            let inputs = vec![session.positions.clone(), predictions.clone()];
            let stage = Stage { name, settings, inputs, outputs: vec![out.clone()] };
            plan.push((
                "rasters",
                stage,
                Box::new(move |_| session_raster(session, &predictions, &self.classes, coarse, &out)),
            ));
        }
    }

    /// Lists the tiles of an annotation that are fit for training.
    fn choose_tiles(&self, annotation: &Path, rules: &TileRules, out: &Path) -> Result<String> {
        let orthophoto = Orthophoto::open(&self.config.orthophoto)?;
        let grid = orthophoto.grid();
        let labels = LabelGeoTiff::open(annotation, &[])?;
        let zones = match &self.config.evaluation {
            Some(evaluation) => {
                let zones = self.zones(&grid)?.buffered(evaluation.buffer_m)?.with_class(0);
                Some(PolygonRaster::new(&zones, grid, &RasterizeConfig { all_touched: true, allow_outside: true })?)
            }
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

    fn zones(&self, grid: &coral_core::RasterGrid) -> Result<ClassPolygons> {
        match &self.config.evaluation {
            Some(evaluation) => polygons_in(&evaluation.zones, grid),
            None => Err(Error::parameter("evaluation", "expected zones, got none")),
        }
    }

    /// The chosen tiles with their labels.
    fn tiles(&self, annotation: &Path, list: &Path) -> Result<RasterTiles<Orthophoto, LabelGeoTiff>> {
        let bytes = fs::read(list).map_err(|error| Error::io(list, error))?;
        let tiles: TrainingTiles = serde_json::from_slice(&bytes)
            .map_err(|error| Error::format(list, Some(error.line() as u64), error.to_string()))?;
        RasterTiles::new(Orthophoto::open(&self.config.orthophoto)?, LabelGeoTiff::open(annotation, &[])?, tiles.kept)
    }

    /// The first model's map with the chosen classes refined tile by tile.
    fn refine(&self, model: &Path, key: &str, progress: &dyn Progress) -> Result<String> {
        let refinement = &self.config.refinement;
        let segmenter = SegFormerSegmenter::open(model, &Device::Cpu)?;
        match &refinement.sam {
            None => {
                let colors = ColorSegmenter::new(refinement.colors)?;
                self.refine_with(colors, &segmenter, key, progress)?;
                Ok(format!("{} refined by colours (no network given)", refinement.classes.join(", ")))
            }
            Some(weights) => {
                let network = NetworkArguments { weights: Some(weights.clone()), ..Default::default() };
                self.refine_with(network.open()?, &segmenter, key, progress)?;
                Ok(format!("{} refined with {}", refinement.classes.join(", "), weights.display()))
            }
        }
    }

    fn refine_with<S: PromptableSegmenter>(
        &self,
        prompted: S,
        segmenter: &SegFormerSegmenter,
        key: &str,
        progress: &dyn Progress,
    ) -> Result<()> {
        let refiner = SamRefiner::new(prompted, self.config.refinement.refiner)?;
        let orthophoto = Orthophoto::open(&self.config.orthophoto)?;
        let out = self.file("refined.tif");
        let map = MapFile { out: &out, classes: &self.classes, key };
        let refinement = self.config.class_refinement()?;
        map_refined(&orthophoto, segmenter, (&refiner, &refinement), &self.config.map, &map, progress)
    }

    /// The scores of all maps that are there, after that of the best constant class.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] without an evaluation; those of the files.
    pub fn scores(&self) -> Result<Vec<MapScore>> {
        let Some(evaluation) = &self.config.evaluation else {
            return Err(Error::parameter("evaluation", "expected zones and truth, got none"));
        };
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

    /// The second map as a picture and as polygons, and its confusion matrix.
    fn draw(&self, scores: &[MapScore]) -> Result<()> {
        let map = LabelGeoTiff::open(self.file("second.tif"), &[])?;
        let grid = map.grid();
        let zones = self.zones(&grid)?;
        let picture = MapPicture::new(grid, &self.classes, MapPictureConfig::default())?.with_outlines(&zones)?;
        coral_io::write_image(self.file("map.png"), &picture.draw(&map)?)?;
        if let Some(score) = scores.last() {
            coral_io::write_image(
                self.file("confusion.png"),
                &confusion_picture(score.matrix.counts(), &self.classes)?,
            )?;
        }
        let min_pixels = (MIN_POLYGON_M2 / grid.transform.pixel_area()).ceil() as u64;
        let config = PolygonizeConfig { min_pixels, ..Default::default() };
        let polygons = polygonize(&map as &dyn LabelRaster, &grid, &self.classes, &config)?;
        let projection = Projection::new(grid.crs, coral_core::Crs::WGS84)?;
        let polygons = polygons.map_positions(coral_core::Crs::WGS84, |x, y| projection.transform(x, y))?;
        write_geojson(self.file("map.geojson"), &polygons, GeoJsonCrs::default())
    }
}

/// Class probabilities of all frames of a folder by DinoVdeau's classifier.
fn classify_frames(frames: &Path, model: &Path, out: &Path, progress: &dyn Progress) -> Result<String> {
    const BATCH: usize = 8;
    let classifier = coral_models::FrameClassifier::open_dinovdeau(model)?;
    let files: Vec<_> = coral_io::image_files(frames)?.into_values().collect();
    progress.start(files.len() as u64, "frames");
    let mut rows = Vec::new();
    for batch in files.chunks(BATCH) {
        let images = batch.iter().map(coral_io::read_image).collect::<Result<Vec<_>>>()?;
        rows.push(coral_core::MultiLabelClassifier::probabilities(&classifier, &images)?);
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    let views: Vec<_> = rows.iter().map(|rows| rows.view()).collect();
    let rows = coral_core::ndarray::concatenate(coral_core::ndarray::Axis(0), &views)
        .map_err(|error| Error::input("frames", error.to_string()))?;
    let names: Vec<String> = files
        .iter()
        .map(|file| file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        .collect();
    let classes = ClassSet::from_names(classifier.head().info().class_names.iter().cloned())?;
    coral_io::geo::write_probabilities(out, &names, &classes, &rows)?;
    Ok(format!("{} frames classified", names.len()))
}
