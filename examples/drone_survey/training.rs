use std::fs;
use std::path::{Path, PathBuf};

use coral_core::{Dataset, Error, LabeledImage, Progress, Result, SeededRng, TrainSegmenter};
use coral_io::{Subset, split_by_seed};
use coral_models::candle_core::Device;
use coral_models::{Checkpoint, Monitor, SegFormerPart, SegFormerSegmenter, SegFormerSegmenterConfig};

use super::{SurveyConfig, TrainingConfig};

/// A training as a stage of a job.
pub(super) struct Training<'a> {
    pub(super) survey: &'a SurveyConfig,
    /// Where the trained segmenter goes.
    pub(super) out: PathBuf,
    /// Tells the stage's run from others.
    pub(super) key: String,
    pub(super) progress: &'a dyn Progress,
}

/// The state after the last finished epoch, with the least validation loss so far.
const STATE: &str = "training.safetensors";
/// The segmenter of the epoch with that loss.
const BEST: &str = "best.safetensors";

impl Training<'_> {
    /// Trains on some of the tiles until the loss on the others no longer falls, and writes the weights of the epoch where
    /// it was least. After a kill it goes on with the epoch that was not finished. Tells epochs, loss and accuracy.
    pub(super) fn run(&self, tiles: &dyn Dataset<Item = LabeledImage>) -> Result<String> {
        let TrainingConfig { epochs, validation, .. } = self.survey.training;
        let seed = self.survey.seed;
        let [train, rest] = split_by_seed(tiles.len(), [1.0 - validation, validation], seed)?;
        if train.is_empty() || rest.is_empty() {
            let reason = format!("{} are too few to train on some and validate on others", tiles.len());
            return Err(Error::input("tiles", reason));
        }
        let (train, rest) = (Subset::new(tiles, train)?, Subset::new(tiles, rest)?);
        self.forget_others()?;
        let (mut segmenter, mut best): (_, Option<f64>) = self.begin()?;
        let (state, draft) = (self.beside(STATE), self.beside(BEST));
        self.progress.start(epochs as u64, "epochs");
        self.progress.advance(segmenter.trainer().epoch());
        while segmenter.trainer().epoch() < epochs as u64 && !segmenter.trainer().should_stop() {
            let epoch = segmenter.trainer().epoch();
            segmenter.fit_epoch(&train, SeededRng::stream(seed, epoch).bits())?;
            let report = segmenter.validate(&rest)?;
            if !report.loss.is_finite() {
                let reason =
                    format!("the loss is {} after epoch {}; expected a lower rate to help", report.loss, epoch + 1);
                return Err(Error::parameter("training.fit.trainer.learning_rate", reason));
            }
            if self.survey.training.fit.trainer.monitor == Monitor::Validation {
                segmenter.trainer_mut().judge(report.loss)?;
            }
            if best.is_none_or(|best| report.loss < best) {
                best = Some(report.loss);
                segmenter.save(&draft)?;
            }
            segmenter.save_training(&state, &best)?;
            self.progress.advance(1);
        }
        self.progress.finish();
        let report = SegFormerSegmenter::open(&draft, &Device::Cpu)?.validate(&rest)?;
        fs::rename(&draft, &self.out).map_err(|error| Error::io(&self.out, error))?;
        remove(&state)?;
        Ok(format!(
            "{} tiles, {} epochs; on {} other tiles loss {:.3}, {:.1} % of the pixels as labelled",
            train.len(),
            segmenter.trainer().epoch(),
            rest.len(),
            report.loss,
            100.0 * report.pixel_accuracy
        ))
    }

    /// The network at the start, or where this training was interrupted.
    fn begin(&self) -> Result<(SegFormerSegmenter, Option<f64>)> {
        let TrainingConfig { network, weights, fit, .. } = &self.survey.training;
        let classes = self.survey.classes.len();
        let config = SegFormerSegmenterConfig {
            training: fit.clone(),
            class_names: self.survey.classes.clone(),
            ..SegFormerSegmenterConfig::new(network.config(classes)?)
        };
        let seed = self.survey.seed;
        let mut segmenter = match weights {
            None => SegFormerSegmenter::new(config, seed, &Device::Cpu)?,
            Some(path) => {
                let checkpoint = Checkpoint::open(path)?;
                // Classes of another training mean nothing here, even where they are as many.
                let part = match SegFormerPart::of(&checkpoint, classes)? {
                    SegFormerPart::Whole => SegFormerPart::WithoutClassifier,
                    part => part,
                };
                SegFormerSegmenter::fine_tune(config, &checkpoint, (part, seed), &Device::Cpu)?
            }
        };
        let best = if self.beside(STATE).exists() && self.beside(BEST).exists() {
            segmenter.resume(self.beside(STATE))?
        } else {
            None
        };
        Ok((segmenter, best))
    }

    /// A file of this training, which no other training takes for its own.
    fn beside(&self, ending: &str) -> PathBuf {
        self.out.with_extension(format!("{}.{ending}", self.key.get(..16).unwrap_or(&self.key)))
    }

    /// Removes what earlier trainings with other settings or tiles left.
    fn forget_others(&self) -> Result<()> {
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stem = self.out.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.starts_with(&format!("{stem}.")) && (name.ends_with(STATE) || name.ends_with(BEST));
            if ours && path != self.beside(STATE) && path != self.beside(BEST) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| Error::io(path, error))
}
