#![doc = include_str!("../README.md")]
//!
//! This package holds what the examples share.

mod coarse_cover;
pub mod colony_survey;
mod cover_table;
pub mod drone_survey;
mod generator_arguments;
pub mod meadow_survey;
mod model_file;
mod network;
mod photographs;
mod prompts;
mod settings;

pub use coarse_cover::CoarseCover;
pub use cover_table::CoverTable;
pub use generator_arguments::{GeneratorArguments, Preset};
pub use model_file::ModelFile;
pub use network::{NetworkArguments, network_classes, open_clip, weights_help};
pub use photographs::{about_photograph, photographs};
pub use prompts::{NamedPrompt, at_least_one, numbers, read_prompts};
pub use settings::{EarlierSettings, write_settings};

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use coral_core::{Error, Progress, Result, Size};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Shows a job's progress as a bar on stderr once it has taken a second.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    started: std::time::Instant,
}

impl Bar {
    /// A bar that stays hidden for the first second.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), started: std::time::Instant::now() }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn start(&self, total: u64, stage: &str) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(stage.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg:24} [{bar:32}] {pos}/{len} {eta}") {
            self.bar.set_style(style);
        }
    }

    fn advance(&self, steps: u64) {
        if self.bar.is_hidden() && self.started.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        self.bar.inc(steps);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows on stderr that a job of unknown length is running, and for how long. It disappears with
/// [`finish_and_clear`](ProgressBar::finish_and_clear) or when it is dropped.
pub fn spinner(stage: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(stage.to_owned()).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(250));
    spinner
}

/// Ends a program: prints its result, or its error on stderr.
pub fn finish(result: Result<String>) -> ExitCode {
    match result {
        Ok(text) => print_text(&text),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a program's result. A reader that closes the pipe early (`| head`) is no failure.
fn print_text(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Makes the folder for a program's results, with those above it.
///
/// # Errors
/// [`Error::InvalidParameter`] naming `out` when it is a file or cannot be made.
pub fn make_folder(out: &Path) -> Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(Error::parameter("out", format!("{} is a file, expected a folder", out.display())));
    }
    let failed = |error| Error::parameter("out", format!("cannot make the folder {}: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(failed)
}

/// How wide outlines in a picture are, in pixels: 1 at 512², 2 at 1024², 5 at 20 megapixels.
pub fn outline_width(picture: Size) -> u32 {
    picture.width.min(picture.height).div_ceil(730).clamp(1, 64)
}
