use std::path::{Path, PathBuf};

use coral_core::{Progress, Result};
use coral_io::geo::Orthophoto;
use coral_models::candle_core::Device;
use coral_models::{LoaderConfig, SegFormerFitConfig, SegFormerSegmenter};
use coral_weak::TileRules;
use serde_json::{Value, json};

use super::classify::classify_frames;
use super::frames::{coarse_map, session_raster};
use super::training::Training;
use super::{EvaluationConfig, Mapping, SessionConfig, Stage, Survey, SurveyConfig, TrainingConfig};

/// Told the key of a run, it tells what came out.
type Work<'a> = Box<dyn FnOnce(&str) -> Result<String> + 'a>;

/// A stage with what it does.
pub(super) struct Step<'a> {
    /// Which of [`STAGES`](super::STAGES) it is.
    pub(super) kind: &'static str,
    pub(super) stage: Stage,
    pub(super) work: Work<'a>,
}

/// One of the two trainings and its map.
struct Round {
    stages: [&'static str; 3],
    annotation: &'static str,
    tiles: &'static str,
    model: &'static str,
    map: &'static str,
    rules: TileRules,
}

impl Survey {
    /// All stages in their order.
    pub(super) fn plan<'a>(&'a self, progress: &'a dyn Progress) -> Vec<Step<'a>> {
        let first = Round {
            stages: ["first_tiles", "first_model", "first_map"],
            annotation: "coarse.tif",
            tiles: "first_tiles.json",
            model: "first.safetensors",
            map: "first.tif",
            rules: self.config.tiles,
        };
        let second = Round {
            stages: ["second_tiles", "second_model", "second_map"],
            annotation: "refined.tif",
            tiles: "second_tiles.json",
            model: "second.safetensors",
            map: "second.tif",
            rules: self.config.second_tiles(),
        };
        let sessions = self.config.sessions.iter().flat_map(|session| self.plan_session(session, progress));
        let mut plan: Vec<_> = sessions.collect();
        plan.push(self.plan_coarse());
        plan.extend(self.plan_round(&first, progress));
        plan.push(self.plan_refinement(progress));
        plan.extend(self.plan_round(&second, progress));
        plan.extend(self.config.evaluation.as_ref().map(|evaluation| self.plan_evaluation(evaluation)));
        plan
    }

    fn step<'a>(
        &self,
        kind: &'static str,
        (settings, inputs): (Value, Vec<PathBuf>),
        outputs: &[&str],
        work: impl FnOnce(&str) -> Result<String> + 'a,
    ) -> Step<'a> {
        let outputs = outputs.iter().map(|name| self.file(name)).collect();
        Step { kind, stage: Stage { name: kind.into(), settings, inputs, outputs }, work: Box::new(work) }
    }

    /// Classification, where predictions are not given, and raster of a session.
    fn plan_session<'a>(&'a self, session: &'a SessionConfig, progress: &'a dyn Progress) -> Vec<Step<'a>> {
        let SurveyConfig { coarse, classes, classifier, .. } = &self.config;
        let mut steps = Vec::new();
        let own = self.file(&format!("session_{}.csv", session.name));
        let predictions = session.predictions.clone().unwrap_or_else(|| own.clone());
        if let (None, Some(frames), Some(model)) = (&session.predictions, &session.frames, classifier) {
            let stage = Stage {
                name: format!("predict_{}", session.name),
                settings: json!(null),
                inputs: vec![frames.clone(), model.clone()],
                outputs: vec![own.clone()],
            };
            let work = move |key: &str| classify_frames(frames, model, (&own, key), progress);
            steps.push(Step { kind: "predict", stage, work: Box::new(work) });
        }
        let out = self.raster(&session.name);
        let stage = Stage {
            name: format!("rasters_{}", session.name),
            settings: json!({"raster": coarse.raster, "classes": classes}),
            inputs: vec![session.positions.clone(), predictions.clone()],
            outputs: vec![out.clone()],
        };
        let work = move |_: &str| session_raster(session, &predictions, &self.classes, coarse, &out);
        steps.push(Step { kind: "rasters", stage, work: Box::new(work) });
        steps
    }

    fn plan_coarse(&self) -> Step<'_> {
        let SurveyConfig { orthophoto, coarse, classes, sessions, .. } = &self.config;
        let rasters: Vec<PathBuf> = sessions.iter().map(|session| self.raster(&session.name)).collect();
        let settings = json!({"quantiles": coarse.quantiles, "missing": coarse.missing, "classes": classes});
        let inputs = [&rasters[..], std::slice::from_ref(orthophoto)].concat();
        self.step("coarse", (settings, inputs), &["coarse.tif"], move |_| {
            let rasters: Vec<&Path> = rasters.iter().map(PathBuf::as_path).collect();
            coarse_map(&rasters, orthophoto, &self.classes, coarse, &self.file("coarse.tif"))?;
            Ok(format!("{} sessions", rasters.len()))
        })
    }

    /// Tiles of an annotation, a model trained on them, and its map.
    fn plan_round<'a>(&'a self, round: &Round, progress: &'a dyn Progress) -> [Step<'a>; 3] {
        let SurveyConfig { orthophoto, training, map, evaluation, seed, classes, .. } = &self.config;
        let [annotation, list, model, result] =
            [round.annotation, round.tiles, round.model, round.map].map(|name| self.file(name));
        let zones = evaluation.iter().map(|evaluation| evaluation.zones.clone());
        let inputs: Vec<PathBuf> = [orthophoto.clone(), annotation.clone()].into_iter().chain(zones).collect();
        let buffer = evaluation.as_ref().map(|evaluation| evaluation.buffer_m);
        let (from, to, rules) = (annotation.clone(), list.clone(), round.rules);
        let settings = json!({"rules": rules, "buffer": buffer});
        let tiles = self
            .step(round.stages[0], (settings, inputs), &[round.tiles], move |_| self.choose_tiles(&from, &rules, &to));

        let inputs = [orthophoto.clone(), annotation.clone(), list.clone()];
        let inputs = inputs.into_iter().chain(training.weights.clone()).collect();
        let settings = json!({"training": decisive(training), "classes": classes, "seed": seed});
        let out = model.clone();
        let train = self.step(round.stages[1], (settings, inputs), &[round.model], move |key| {
            let training = Training { survey: &self.config, out, key: key.into(), progress };
            training.run(&self.tiles(&annotation, &list)?)
        });

        let settings = json!({"tile": map.tile, "stride": map.stride, "fusion": map.fusion});
        let inputs = vec![orthophoto.clone(), model.clone()];
        let map = self.step(round.stages[2], (settings, inputs), &[round.map], move |key| {
            let segmenter = SegFormerSegmenter::open(&model, &Device::Cpu)?;
            let orthophoto = &Orthophoto::open(orthophoto)?;
            let mapping = Mapping { orthophoto, config: map, classes: &self.classes, progress };
            mapping.write(&segmenter, (&result, key))?;
            Ok("mapped".into())
        });
        [tiles, train, map]
    }

    fn plan_refinement<'a>(&'a self, progress: &'a dyn Progress) -> Step<'a> {
        let SurveyConfig { orthophoto, map, refinement, classes, .. } = &self.config;
        let model = self.file("first.safetensors");
        let inputs = [orthophoto.clone(), model.clone()].into_iter().chain(refinement.sam.clone()).collect();
        let refinement = super::RefinementConfig { sam: None, ..refinement.clone() };
        // Refined tiles always vote.
        let settings = json!({"tile": map.tile, "stride": map.stride, "refinement": refinement, "classes": classes});
        self.step("refined_map", (settings, inputs), &["refined.tif"], move |key| {
            let orthophoto = &Orthophoto::open(orthophoto)?;
            let mapping = Mapping { orthophoto, config: map, classes: &self.classes, progress };
            self.refine(&mapping, &model, key)
        })
    }

    fn plan_evaluation<'a>(&'a self, evaluation: &'a EvaluationConfig) -> Step<'a> {
        let EvaluationConfig { zones, truth, attribute, first_id, published_means, .. } = evaluation;
        let maps = ["coarse.tif", "first.tif", "refined.tif", "second.tif"].map(|name| self.file(name));
        let inputs = [&maps[..], &[zones.clone(), truth.clone(), self.config.orthophoto.clone()]].concat();
        let settings = json!({
            "attribute": attribute, "first_id": first_id, "published_means": published_means,
            "classes": self.config.classes,
        });
        let outputs = ["scores.csv", "scores.txt", "confusion.png", "map.png", "map.geojson"];
        self.step("evaluate", (settings, inputs), &outputs, move |_| self.evaluate(*published_means))
    }

    fn raster(&self, session: &str) -> PathBuf {
        self.file(&format!("session_{session}.tif"))
    }
}

/// The settings of a training that its result depends on; files are inputs, and threads change nothing.
fn decisive(training: &TrainingConfig) -> TrainingConfig {
    let fit = SegFormerFitConfig { loader: LoaderConfig::default(), ..training.fit.clone() };
    TrainingConfig { weights: None, fit, ..training.clone() }
}
