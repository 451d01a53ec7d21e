//! From geotagged underwater frames and an orthophoto to a class map of the whole orthophoto: *The point is the mask*.
//!
//! ```text
//! cargo run --release --example drone_map
//! cargo run --release --example drone_map -- --config survey.toml --out out/reef
//! cargo run --release --example drone_map -- --config survey.toml --out out/reef --stage second_model
//! ```
//!
//! Without arguments it draws a synthetic lagoon, the orthophoto of a drone, the frames of a boat, a few annotated zones and
//! the `survey.toml` that describes them (all in `out/drone_map/survey/`), and maps it with a tiny SegFormer. `--config`
//! names the file of a survey of your own; what it leaves out has the published values. Every stage is skipped when its
//! settings and inputs have not changed; a killed run goes on where it was.
//!
//! Writes to `out/drone_map/`: a raster per session, `coarse.tif`, the models (`first.safetensors`, `second.safetensors`),
//! their maps (`first.tif`, `refined.tif`, `second.tif`), `scores.csv` and `scores.txt`, `confusion.png`, `map.png` and
//! `map.geojson`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use coral_core::{Error, Result};
use coral_examples::drone_survey::{LagoonPlan, Survey, SurveyConfig, write_lagoon};
use coral_examples::{Bar, finish, make_folder};

/// Maps an orthophoto by what a boat's frames show.
#[derive(Debug, Parser)]
struct Arguments {
    /// The file that describes the survey; a synthetic one without it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Runs this stage alone: predict, rasters, coarse, first_tiles, first_model, first_map, refined_map, second_tiles,
    /// second_model, second_map or evaluate.
    #[arg(long)]
    stage: Option<String>,
    /// Seed of the synthetic survey.
    #[arg(long, default_value_t = 1, conflicts_with = "config")]
    seed: u64,
    /// The folder for results.
    #[arg(long, default_value = "out/drone_map")]
    out: PathBuf,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    make_folder(&arguments.out)?;
    let path = match &arguments.config {
        Some(path) => path.clone(),
        None => {
            let folder = arguments.out.join("survey");
            make_folder(&folder)?;
            write_lagoon(&LagoonPlan::small(arguments.seed), &folder)?
        }
    };
    let config = SurveyConfig::read(&path)?;
    let scored = config.evaluation.is_some();
    let survey = Survey::new(config, &arguments.out)?;
    survey.run(arguments.stage.as_deref(), &Bar::new(), &|line| eprintln!("{line}"))?;
    let place = arguments.out.display();
    if !scored || arguments.stage.as_deref().is_some_and(|stage| stage != "evaluate") {
        return Ok(format!("results are in {place}"));
    }
    let path = survey.file("scores.txt");
    let table = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
    Ok(format!("{table}\nmaps and pictures are in {place}"))
}

#[cfg(test)]
#[path = "tests/drone_map.rs"]
mod tests;
