use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use coral_core::{GeoTransform, ImageRaster, LabelMap, NoProgress, Progress, RasterGrid, Rect, Size};
use coral_examples::drone_survey::{NetworkChoice, STAGES};
use coral_io::geo::{LabelGeoTiff, LabelGeoTiffWriter, Orthophoto, OrthophotoWriter, TiffLayout};
use coral_io::{LagoonSurvey, SyntheticLagoonConfig};
use coral_models::{LoaderConfig, SegFormerConfig, SegFormerFitConfig, TrainerConfig};
use tempfile::TempDir;

use super::*;

#[path = "drone_map_config.rs"]
mod config;
#[path = "drone_map_input.rs"]
mod input;
#[path = "drone_map_scores.rs"]
mod scores;

/// A lagoon of 19 m by 16 m, drawn once.
fn drawn() -> &'static Path {
    static DRAWN: OnceLock<TempDir> = OnceLock::new();
    let draw = || {
        let folder = tempfile::tempdir().unwrap();
        draw_into(folder.path());
        folder
    };
    DRAWN.get_or_init(draw).path()
}

fn draw_into(folder: &Path) {
    let size = Size { width: 192, height: 160 };
    let plan = LagoonPlan {
        lagoon: SyntheticLagoonConfig { size, zone_m: 6.0, ..Default::default() },
        survey: LagoonSurvey { margin_m: 1.0, ..Default::default() },
        labeled_frames: 40,
        zones: (vec![(70, 70)], 20),
        epochs: 2,
        ..LagoonPlan::small(1)
    };
    write_lagoon(&plan, folder).unwrap();
}

/// A run to the end, made once.
fn finished() -> &'static Path {
    static FINISHED: OnceLock<Job> = OnceLock::new();
    let finish = || {
        let job = Job::new();
        assert_eq!(job.run(), names());
        job
    };
    FINISHED.get_or_init(finish).folder.path()
}

/// The stages of the lagoon, whose predictions are given.
fn names() -> Vec<String> {
    STAGES[1..].iter().map(|name| name.replace("rasters", "rasters_boat")).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A folder with a survey, its settings and, in `out`, its results.
struct Job {
    folder: TempDir,
    config: SurveyConfig,
}

impl Job {
    fn of(from: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(from, folder.path());
        let mut config = SurveyConfig::read(folder.path().join("survey.toml")).unwrap();
        let side = |side| Size { width: side, height: side };
        config.tiles.tile = side(32);
        (config.map.tile, config.map.stride) = (side(32), side(16));
        config.training.network = NetworkChoice::Custom(SegFormerConfig {
            hidden_sizes: [4, 8, 8, 8],
            num_attention_heads: [1; 4],
            depths: [1; 4],
            decoder_hidden_size: 8,
            ..SegFormerConfig::default()
        });
        (config.training.epochs, config.training.validation) = (2, 0.3);
        let fit = SegFormerFitConfig::default();
        let trainer = TrainerConfig { learning_rate: 1e-3, ..fit.trainer };
        let loader = LoaderConfig { workers: 0, prefetch: 0 };
        config.training.fit = SegFormerFitConfig { trainer, batch: 4, loader, ..fit };
        Self { folder, config }
    }

    /// One that was not run yet.
    fn new() -> Self {
        Self::of(drawn())
    }

    /// One that was run to the end.
    fn done() -> Self {
        Self::of(finished())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn survey(&self) -> Survey {
        Survey::new(self.config.clone(), &self.at("out")).unwrap()
    }

    fn try_run(&self, only: Option<&str>, progress: &dyn Progress) -> Result<Vec<String>> {
        let told = RefCell::new(Vec::new());
        self.survey().run(only, progress, &|line| told.borrow_mut().push(line.to_owned()))?;
        let ran = told.into_inner().into_iter().filter(|line| !line.ends_with(": done before"));
        Ok(ran.map(|line| line.split(':').next().unwrap().to_owned()).collect())
    }

    /// The stages that a run does not find done.
    fn run(&self) -> Vec<String> {
        self.try_run(None, &NoProgress).unwrap()
    }

    fn stage(&self, name: &str) {
        assert_eq!(self.try_run(Some(name), &NoProgress).unwrap().len(), 1, "{name}");
    }

    /// What the first of these stages that fails says.
    fn refuse(&self, stages: &[&str]) -> String {
        let run = |name: &&str| self.try_run(Some(name), &NoProgress).err().map(|error| error.to_string());
        stages.iter().find_map(run).expect("a stage that fails")
    }

    /// A run that is killed after so many steps of a stage.
    fn kill(&self, stage: &str, steps: usize) {
        let progress = Killer(Cell::new(steps).into());
        let run = || self.try_run(Some(stage), &progress);
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{stage} was not killed");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.at("out").join(name)).unwrap()
    }

    /// Names of the results that end so.
    fn found(&self, ending: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at("out")).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(ending)).collect()
    }

    fn grid(&self) -> RasterGrid {
        Orthophoto::open(self.at("orthophoto.tif")).unwrap().grid()
    }

    /// Moves the orthophoto, or turns it.
    fn lay(&self, transform: GeoTransform) {
        let raster = Orthophoto::open(self.at("orthophoto.tif")).unwrap();
        let window = raster.read_image(Rect::whole(raster.size())).unwrap();
        let grid = RasterGrid { transform, ..raster.grid() };
        drop(raster);
        let mut writer = OrthophotoWriter::create(self.at("orthophoto.tif"), grid, TiffLayout::default()).unwrap();
        writer.write_rows(&window.image).unwrap();
        writer.finish().unwrap();
    }

    fn write_map(&self, name: &str, labels: &LabelMap) {
        let path = self.at("out").join(name);
        let classes = SyntheticLagoonConfig::class_set();
        let mut writer = LabelGeoTiffWriter::create(path, self.grid(), Some(&classes), TiffLayout::default()).unwrap();
        coral_core::LabelSink::write_rows(&mut writer, labels).unwrap();
        writer.finish().unwrap();
    }
}

/// Panics after so many steps, as if the program was killed.
struct Killer(std::sync::Mutex<Cell<usize>>);

impl Progress for Killer {
    fn start(&self, _: u64, _: &str) {}

    fn advance(&self, steps: u64) {
        if steps > 0 {
            let left = self.0.lock().unwrap();
            left.set(left.get().checked_sub(1).filter(|&left| left > 0).expect("killed, as this test wants"));
        }
    }

    fn finish(&self) {}
}

#[test]
fn a_run_writes_all_files_and_the_next_does_nothing() {
    let job = Job::done();
    let files = [
        "session_boat.tif",
        "coarse.tif",
        "first_tiles.json",
        "first.safetensors",
        "first.tif",
        "refined.tif",
        "second_tiles.json",
        "second.safetensors",
        "second.tif",
        "scores.csv",
        "scores.txt",
        "confusion.png",
        "map.png",
        "map.geojson",
    ];
    for file in files {
        assert!(!job.bytes(file).is_empty(), "{file}");
    }
    // The survey drawn again is the same.
    draw_into(job.folder.path());
    assert!(job.run().is_empty());
    // Nothing is left of what was on the way.
    assert_eq!(job.found("").len(), files.len() + 1, "{:?}", job.found(""));
    for map in ["coarse.tif", "first.tif", "refined.tif", "second.tif"] {
        assert_eq!(LabelGeoTiff::open(job.at("out").join(map), &[]).unwrap().grid(), job.grid(), "{map}");
    }
    let scores = String::from_utf8(job.bytes("scores.csv")).unwrap();
    assert_eq!(
        scores.lines().map(|line| line.split(',').next().unwrap()).skip(2).collect::<Vec<_>>().join(","),
        "coarse raster,first model,refined,second model"
    );
    assert!(scores.lines().nth(1).unwrap().starts_with("constant "));

    fs::write(job.at("changed.toml"), job.config.to_toml().unwrap()).unwrap();
    let flag = |name: &str| job.at(name).display().to_string();
    let arguments = Arguments::parse_from(["drone_map", "--config", &flag("changed.toml"), "--out", &flag("out")]);
    let text = run(&arguments).unwrap();
    assert!(text.starts_with(&String::from_utf8(job.bytes("scores.txt")).unwrap()), "{text}");
    assert!(text.contains("second model") && text.contains("IoU Sand"), "{text}");
}

#[test]
fn a_change_runs_the_stages_that_depend_on_it() {
    let changed = |change: &dyn Fn(&mut SurveyConfig)| {
        let mut job = Job::done();
        change(&mut job.config);
        job.run()
    };
    // What changes no result runs nothing.
    let nothing = changed(&|config| {
        config.map.tiles_in_flight = 3;
        config.training.fit.loader.workers = 1;
    });
    assert!(nothing.is_empty(), "{nothing:?}");
    let published = |config: &mut SurveyConfig| config.evaluation.as_mut().unwrap().published_means = true;
    assert_eq!(changed(&published), ["evaluate"]);
    // A tenth of a pixel more around the zones leaves the same tiles.
    let buffer = |config: &mut SurveyConfig| config.evaluation.as_mut().unwrap().buffer_m += 0.01;
    assert_eq!(changed(&buffer), ["first_tiles", "second_tiles"]);
    assert_eq!(changed(&|config| config.coarse.quantiles = [0.3, 0.7])[0], "coarse");
    assert_eq!(changed(&|config| config.coarse.raster.cell = Some(1.0))[..2], ["rasters_boat", "coarse"]);
    assert_eq!(changed(&|config| config.refinement.classes.clear())[0], "refined_map");
    let epochs = changed(&|config| config.training.epochs = 1);
    assert_eq!(epochs[..3], ["first_model", "first_map", "refined_map"]);
    assert!(epochs.contains(&"second_model".to_owned()) && !epochs.contains(&"first_tiles".to_owned()), "{epochs:?}");
}

#[test]
fn lost_results_are_made_again() {
    let job = Job::done();
    for (file, stage) in [("coarse.tif", "coarse"), ("first.tif", "first_map"), ("second_tiles.json", "second_tiles")] {
        fs::remove_file(job.at("out").join(file)).unwrap();
        assert_eq!(job.run(), [stage], "as their content is the same, later stages are done");
    }
    fs::write(job.at("out/stages/evaluate.json"), "{").unwrap();
    assert_eq!(job.run(), ["evaluate"]);
    // Another annotation changes the scores alone.
    let text = fs::read_to_string(job.at("annotation.geojson")).unwrap();
    fs::write(job.at("annotation.geojson"), text + "\n").unwrap();
    assert_eq!(job.run(), ["evaluate"]);
}

#[test]
fn stages_run_alone() {
    let mut job = Job::new();
    let text = job.refuse(&["coarse"]);
    assert!(text.contains("session_boat.tif") && text.contains("stage `coarse` needs it"), "{text}");
    let text = job.refuse(&["evaluate"]);
    assert!(text.contains("coarse.tif") && text.contains("stage `evaluate`"), "{text}");
    job.stage("rasters");
    job.stage("coarse");
    assert_eq!((job.found(".tif").len(), job.found(".json").len()), (2, 0));
    let text = job.refuse(&["third_map"]);
    assert!(text.contains("`stage`: expected one of predict, rasters,") && text.contains("`third_map`"), "{text}");
    assert!(job.refuse(&["predict"]).contains("no session without `predictions`"));
    job.config.evaluation = None;
    assert!(job.refuse(&["evaluate"]).contains("the survey has no `evaluation`"));
    assert!(job.survey().scores().unwrap_err().to_string().contains("`evaluation`"));
}

#[test]
fn a_killed_training_goes_on_to_the_same_weights() {
    let job = Job::done();
    let weights = job.bytes("first.safetensors");
    fs::remove_file(job.at("out/first.safetensors")).unwrap();
    job.kill("first_model", 1);
    let [state, best] = ["training.safetensors", "best.safetensors"].map(|ending| job.found(ending));
    assert_eq!((state.len(), best.len()), (1, 1));
    job.stage("first_model");
    assert!(job.bytes("first.safetensors") == weights, "the weights are others");
    assert!(job.found("training.safetensors").is_empty() && job.found("best.safetensors").is_empty());

    // Without the best weights so far it begins anew.
    fs::remove_file(job.at("out/first.safetensors")).unwrap();
    job.kill("first_model", 1);
    fs::remove_file(job.at("out").join(&best[0])).unwrap();
    job.stage("first_model");
    assert!(job.bytes("first.safetensors") == weights);

    // States of another training are not taken, and go.
    fs::remove_file(job.at("out/first.safetensors")).unwrap();
    job.kill("first_model", 1);
    let other = Job::of(job.folder.path());
    let other = Job { config: SurveyConfig { seed: 5, ..other.config }, ..other };
    other.stage("first_model");
    assert!(other.bytes("first.safetensors") != weights && other.found("training.safetensors").is_empty());
}

#[test]
fn a_training_that_runs_away_is_no_result() {
    let mut job = Job::done();
    job.config.training.fit.trainer.learning_rate = 1e30;
    let text = job.refuse(&["first_model"]);
    assert!(text.contains("NaN") || text.contains("inf"), "{text}");
    assert!(job.found("best.safetensors").is_empty());
}

#[test]
fn a_killed_mapping_goes_on_to_the_same_map() {
    let job = Job::done();
    for (stage, map) in [("first_map", "first.tif"), ("refined_map", "refined.tif")] {
        let whole = job.bytes(map);
        fs::remove_file(job.at("out").join(map)).unwrap();
        job.kill(stage, 9);
        let rows = job.found(".rows");
        assert!(rows.len() == 1 && rows[0].starts_with(&format!(".{map}.")), "{rows:?}");
        assert!(!job.bytes(&rows[0]).is_empty() && !job.at("out").join(map).exists());
        job.stage(stage);
        assert!(job.bytes(map) == whole, "{stage}: the map is another");
        assert!(job.found(".rows").is_empty());
    }
}

#[test]
fn what_cannot_be_stored_leaves_nothing_half_written() {
    let job = Job::done();
    let whole = job.bytes("first.tif");
    fs::remove_file(job.at("out/first.tif")).unwrap();
    fs::create_dir_all(job.at("out/first.tif/in the way")).unwrap();
    assert!(job.refuse(&["first_map"]).contains("first.tif"));
    // What was computed is kept for the next run.
    assert_eq!(job.found(".rows").len(), 1);
    assert!(job.refuse(&["evaluate"]).contains("first.tif"));
    fs::remove_dir_all(job.at("out/first.tif")).unwrap();
    job.stage("first_map");
    assert!(job.bytes("first.tif") == whole && job.found(".rows").is_empty());
    assert_eq!(job.run(), ["evaluate"], "which was tried in vain");
}
