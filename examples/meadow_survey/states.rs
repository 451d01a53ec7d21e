use std::path::{Path, PathBuf};

use coral_core::{Dataset, Error, PatchGrid, Result};
use coral_io::{PhotographFolder, Subset};
use coral_models::{FitConfig, LoaderConfig, ResNetClassifierConfig, SimClrConfig};
use coral_weak::{PromptGroups, SeaFeatsConfig};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Plan, Survey};
use crate::{EarlierSettings, ModelFile, write_settings};

/// A long training whose state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The encoder.
    SimClr,
    /// The classifier of that name.
    SeaFeats,
    /// The classifier of that name.
    SeaClip,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::SimClr => "simclr",
            Self::SeaFeats => "seafeats",
            Self::SeaClip => "seaclip",
        }
    }
}

/// The folder that keeps the states of trainings (`STAGE.training.safetensors`), so that a killed run goes on, and what
/// each of them depends on (`STAGE.training.json`), so that no other run takes it for its own.
#[derive(Debug)]
pub struct States {
    folder: PathBuf,
}

impl States {
    /// Refuses states of other trainings, and writes the settings of those that have no state yet.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming a state that was trained with other settings, and the first one that differs;
    /// nothing is written then. [`Error::Io`] when a file cannot be read or written.
    pub fn open(folder: &Path, settings: &TrainingSettings) -> Result<Self> {
        let states = Self { folder: folder.to_owned() };
        let all = settings.of_stages()?;
        for (stage, settings) in &all {
            if states.state(*stage).exists() {
                states.expect_same(*stage, settings)?;
            }
        }
        for (stage, settings) in &all {
            if !states.state(*stage).exists() {
                write_settings(&states.settings(*stage), settings)?;
            }
        }
        Ok(states)
    }

    /// The file of a state.
    pub fn state(&self, stage: Stage) -> PathBuf {
        self.folder.join(format!("{}.training.safetensors", stage.name()))
    }

    fn settings(&self, stage: Stage) -> PathBuf {
        self.folder.join(format!("{}.training.json", stage.name()))
    }

    fn expect_same(&self, stage: Stage, settings: &serde_json::Value) -> Result<()> {
        let path = self.settings(stage);
        let what = match EarlierSettings::compare(&path, settings) {
            Ok(EarlierSettings::Same) => return Ok(()),
            Ok(EarlierSettings::Other(what)) => what,
            Ok(EarlierSettings::Unknown) => format!("there is no {}", path.display()),
            Err(error) => error.to_string(),
        };
        let state = self.state(stage);
        let advice = "another folder keeps it; remove it to train anew";
        Err(Error::parameter("out", format!("{} was trained with other settings ({what}); {advice}", state.display())))
    }
}

/// What the trainings of a run depend on.
#[derive(Debug, Clone)]
pub struct TrainingSettings {
    encoder: EncoderSettings,
    seafeats: SeaFeatsSettings,
    seaclip: SeaClipSettings,
}

/// What is trained on, and what with.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The folder of photographs.
    pub data: &'a Path,
    /// Shrinks photographs.
    pub max_side: Option<u32>,
    /// What the encoder starts from.
    pub encoder: Option<&'a Path>,
    /// What labels patches for SeaCLIP. Its vocabulary is the same for all of them.
    pub clip: Option<&'a Path>,
    /// Its prompts.
    pub prompts: &'a PromptGroups,
    /// Of everything random.
    pub seed: u64,
}

/// What SimCLR depends on, and everything after it.
#[derive(Debug, Clone, Serialize)]
struct EncoderSettings {
    data: PathBuf,
    max_side: Option<u32>,
    classes: Vec<String>,
    photographs: Photographs,
    seed: u64,
    encoder: Option<ModelFile>,
    grid: PatchGrid,
    simclr: SimClrConfig,
    simclr_epochs: u64,
}

#[derive(Debug, Clone, Serialize)]
struct SeaFeatsSettings {
    epochs: usize,
    classifier: ResNetClassifierConfig,
    labels: SeaFeatsConfig,
    relabel: bool,
}

#[derive(Debug, Clone, Serialize)]
struct SeaClipSettings {
    epochs: usize,
    classifier: ResNetClassifierConfig,
    /// The checkpoint and, of a file, what lies beside it and tells its settings; none for the stand-in.
    clip: Vec<ModelFile>,
    /// Groups and their prompts, one by one.
    prompts: Vec<(String, String)>,
}

impl TrainingSettings {
    /// Of a run on a folder.
    ///
    /// # Errors
    /// [`Error::Io`] when a file of `sources` or a photograph is not there.
    pub fn new(sources: &Sources<'_>, plan: &Plan, survey: &Survey<Subset<PhotographFolder>>) -> Result<Self> {
        let Sources { data, max_side, encoder, clip, prompts, seed } = *sources;
        let classes: Vec<String> = survey.classes.iter().map(|class| class.name.clone()).collect();
        let names: Vec<String> = prompts.names().map(str::to_owned).collect();
        let of_prompts = prompts.group_of_prompts().into_iter().map(|group| names[usize::from(group)].clone());
        Ok(Self {
            seafeats: SeaFeatsSettings {
                epochs: plan.epochs,
                classifier: with_any_loader(plan.seafeats(classes.clone())),
                labels: plan.seafeats_labels,
                relabel: plan.relabel,
            },
            seaclip: SeaClipSettings {
                epochs: plan.epochs,
                classifier: with_any_loader(plan.seaclip(classes.clone())),
                clip: clip.map_or(Ok(Vec::new()), clip_files)?,
                prompts: of_prompts.zip(prompts.prompts().into_iter().map(str::to_owned)).collect(),
            },
            encoder: EncoderSettings {
                data: data.canonicalize().map_err(|error| Error::io(data, error))?,
                max_side,
                classes,
                photographs: Photographs::new(&survey.train)?,
                seed,
                encoder: encoder.map(ModelFile::new).transpose()?,
                grid: plan.grid,
                simclr: SimClrConfig { loader: LoaderConfig::default(), ..plan.simclr.clone() },
                simclr_epochs: plan.simclr_epochs,
            },
        })
    }

    /// As JSON; those of the encoder stand in all of them.
    fn of_stages(&self) -> Result<[(Stage, serde_json::Value); 3]> {
        #[derive(Serialize)]
        struct Both<'a, T> {
            #[serde(flatten)]
            encoder: &'a EncoderSettings,
            #[serde(flatten)]
            own: &'a T,
        }
        let encoder = &self.encoder;
        let (seafeats, seaclip) = (Both { encoder, own: &self.seafeats }, Both { encoder, own: &self.seaclip });
        Ok([
            (Stage::SimClr, serde_json::to_value(encoder).map_err(Error::model)?),
            (Stage::SeaFeats, serde_json::to_value(seafeats).map_err(Error::model)?),
            (Stage::SeaClip, serde_json::to_value(seaclip).map_err(Error::model)?),
        ])
    }
}

/// What decides how CLIP labels.
fn clip_files(checkpoint: &Path) -> Result<Vec<ModelFile>> {
    let beside = ["config.json", "open_clip_config.json", "preprocessor_config.json"];
    let beside = beside.map(|name| checkpoint.with_file_name(name)).into_iter().filter(|file| file.exists());
    let beside = beside.filter(|_| checkpoint.is_file());
    std::iter::once(checkpoint.to_owned()).chain(beside).map(|file| ModelFile::new(&file)).collect()
}

/// Threads change nothing in the result.
fn with_any_loader(config: ResNetClassifierConfig) -> ResNetClassifierConfig {
    let training = FitConfig { loader: LoaderConfig::default(), ..config.training };
    ResNetClassifierConfig { training, ..config }
}

/// Photographs, told by their names, classes and bytes; their pixels are not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Photographs {
    count: usize,
    sha256: String,
}

impl Photographs {
    fn new(part: &Subset<PhotographFolder>) -> Result<Self> {
        let mut hash = Sha256::new();
        for &index in part.indices() {
            let folder = part.dataset();
            let path = folder.path(index)?;
            let bytes = path.metadata().map_err(|error| Error::io(path, error))?.len();
            hash.update(format!("{}\n{}\n{bytes}\n", folder.name(index)?, folder.class(index)?));
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { count: part.len(), sha256 })
    }
}
