//! Coarse seagrass maps from one word per photograph: SimCLR, SeaFeats, SeaCLIP and their ensemble.
//!
//! ```text
//! cargo run --release --example seagrass
//! cargo run --release --example seagrass -- --data PHOTOGRAPHS --clip CLIP --encoder resnet18.pth
//! ```
//!
//! Without arguments it draws synthetic meadows and trains a small network. `--data` names a folder with one folder of
//! photographs per class, one of them the background; it trains the networks of the paper (hours to days on a CPU;
//! `--small` takes the small ones) and goes on where an interrupted run stopped. The states of its trainings stand beside
//! the results with what they depend on (`STAGE.training.safetensors`, `STAGE.training.json`); a run on other
//! photographs or with other settings is refused as long as they are there. Synthetic runs neither write nor read any.
//!
//! Writes to `out/seagrass/`: both classifiers (`seafeats.safetensors`, `seaclip.safetensors`), the held-out
//! photographs (`test/`), a map of each (`map_N.png`, `map_N.csv`), and `scores.csv`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use coral_core::{Dataset, Error, LabeledPhotograph, PatchClassifier, PseudoLabeler, Result, TextEncoder};
use coral_examples::meadow_survey::{
    ColorWords, Experiment, Method, Plan, Scores, Sources, States, Survey, TrainingSettings, folder_survey,
    score_table, synthetic_survey, write_maps, write_scores,
};
use coral_examples::{finish, make_folder, open_clip};
use coral_weak::{ConstantClassifier, PatchEnsemble, PromptGroups, Standardization, ZeroShotConfig, ZeroShotLabeler};

/// Trains seagrass classifiers from one label per photograph.
#[derive(Debug, Parser)]
struct Arguments {
    /// A folder with one folder of photographs per class; synthetic meadows without it.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The class that is no seagrass.
    #[arg(long, default_value = "Background", requires = "data")]
    background: String,
    /// A folder with one folder of patches per class, to score on.
    #[arg(long, requires = "data")]
    test_patches: Option<PathBuf>,
    /// Shrinks photographs whose longer side is above this many pixels.
    #[arg(long, requires = "data")]
    max_side: Option<u32>,
    /// Mebibytes of photographs (SimCLR) and of patches (SeaCLIP) that may be kept in memory. Training on more decodes a
    /// photograph anew for each of its patches. SeaFeats keeps 512 at most, and those of small networks only.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    cache: usize,
    /// Skips photographs and test patches that cannot be read instead of stopping.
    #[arg(long, requires = "data")]
    skip_corrupt: bool,
    /// A CLIP checkpoint (a file or folder) that labels patches; a stand-in that knows colours without it.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// CLIP's vocabulary, where it is not beside the checkpoint.
    #[arg(long, requires = "clip")]
    vocabulary: Option<PathBuf>,
    /// A file of prompts in groups, one named `background`; the eleven of the paper without it.
    #[arg(long)]
    prompts: Option<PathBuf>,
    /// A checkpoint that the encoder starts from, e.g. torchvision's ResNet-18.
    #[arg(long, requires = "data")]
    encoder: Option<PathBuf>,
    /// Small networks and few epochs for `--data`, too.
    #[arg(long, requires = "data")]
    small: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder for results.
    #[arg(long, default_value = "out/seagrass")]
    out: PathBuf,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    make_folder(&arguments.out)?;
    let plan = if arguments.data.is_none() || arguments.small { Plan::small() } else { Plan::published() };
    let groups = match &arguments.prompts {
        Some(path) => PromptGroups::read(path)?,
        None => PromptGroups::seaclip(),
    };
    match &arguments.data {
        None => train(arguments, &plan, &synthetic_survey(arguments.seed, &plan)?, (groups, None)),
        Some(root) => {
            let survey = folder_survey(
                root,
                &arguments.background,
                (arguments.max_side, arguments.skip_corrupt),
                arguments.test_patches.as_deref(),
            )?;
            let sources = Sources {
                data: root,
                max_side: arguments.max_side,
                encoder: arguments.encoder.as_deref(),
                clip: arguments.clip.as_deref(),
                prompts: &groups,
                seed: arguments.seed,
            };
            let states = States::open(&arguments.out, &TrainingSettings::new(&sources, &plan, &survey)?)?;
            train(arguments, &plan, &survey, (groups, Some(&states)))
        }
    }
}

fn train<D: Dataset<Item = LabeledPhotograph>>(
    arguments: &Arguments,
    plan: &Plan,
    survey: &Survey<D>,
    (groups, states): (PromptGroups, Option<&States>),
) -> Result<String> {
    let background = groups.background();
    let labeler = zero_shot(arguments, groups)?;
    let cache_bytes = arguments.cache.saturating_mul(1 << 20);
    let experiment = Experiment { survey, plan, seed: arguments.seed, states, cache_bytes };
    let encoder = experiment.encoder(arguments.encoder.as_deref())?;
    let templates = experiment.template_labels(&encoder)?;
    let seafeats = experiment.seafeats(&encoder, templates.as_ref())?;
    let patch_labels = experiment.patch_labels(&*labeler, background)?;
    let seaclip = experiment.seaclip(&encoder, &patch_labels)?;
    seafeats.save(arguments.out.join("seafeats.safetensors"))?;
    seaclip.save(arguments.out.join("seaclip.safetensors"))?;
    let supervised = experiment.supervised(&encoder)?;

    let majority = ConstantClassifier::majority_of(survey.train_labels.iter().copied(), survey.classes.num_ids())?;
    let members: Vec<&dyn PatchClassifier> = vec![&seafeats, &seaclip];
    let ensemble = PatchEnsemble::new(members, Standardization::PerPatch)?;
    let mut methods: Vec<Method<'_>> =
        vec![("majority class", &majority), ("SeaFeats", &seafeats), ("SeaCLIP", &seaclip), ("ensemble", &ensemble)];
    if let Some(supervised) = &supervised {
        methods.push(("true patch labels", supervised));
    }
    let scores = methods.iter().map(|method| survey.score(*method)).collect::<Result<Vec<Option<Scores>>>>()?;
    let scores: Vec<Scores> = scores.into_iter().flatten().collect();
    write_scores(&arguments.out.join("scores.csv"), &scores, &survey.classes)?;
    write_maps(&arguments.out, survey, plan, &ensemble)?;
    let labels = experiment.label_scores(templates.as_ref(), &patch_labels)?;
    // Of the patches in photographs of other classes that have a label.
    let foreground = patch_labels.records.iter().filter(|record| record.class != 0 || record.alternative != 0).count();
    let relabeled = patch_labels.relabeled as f64 / foreground.max(1) as f64;
    Ok(report(arguments, survey, (&labels, &scores), relabeled))
}

/// CLIP, or the stand-in.
fn zero_shot(arguments: &Arguments, groups: PromptGroups) -> Result<Box<dyn PseudoLabeler>> {
    let Some(checkpoint) = &arguments.clip else {
        let config = ZeroShotConfig::default();
        return Ok(Box::new(ZeroShotLabeler::new(ColorWords, &ColorWords, groups, config)?));
    };
    let clip = open_clip(checkpoint, arguments.vocabulary.as_deref())?;
    let scale = clip.clip().logit_scale().map_err(Error::model)?;
    let texts = clip.encode_texts(&groups.prompts())?;
    let config = ZeroShotConfig { scale, ..Default::default() };
    Ok(Box::new(ZeroShotLabeler::from_embeddings(clip, texts, groups, config)?))
}

fn report<D: Dataset<Item = LabeledPhotograph>>(
    arguments: &Arguments,
    survey: &Survey<D>,
    (labels, scores): (&[Scores], &[Scores]),
    relabeled: f64,
) -> String {
    let by = match &arguments.clip {
        Some(path) => format!("CLIP ({})", path.display()),
        None => "a stand-in for CLIP that knows colours and no language".to_owned(),
    };
    let mut text = format!(
        "{} photographs with one label each. Patches for SeaCLIP were labelled by {by}:\n{:.0} % of those in \
         photographs of seagrass became background.\n\n",
        survey.train.len(),
        100.0 * relabeled,
    );
    if !labels.is_empty() {
        text +=
            "F1 of the labels of the training patches, and its mean weighted by the patches of each class, in %:\n\n";
        text += &(score_table(labels, &survey.classes) + "\n");
    }
    if scores.is_empty() {
        text += "No patches with true labels to score on: see --test-patches.\n";
    } else {
        text += "F1 of the classifiers on test patches in %:\n\n";
        text += &score_table(scores, &survey.classes);
    }
    text + &format!("\nMaps, classifiers and scores are in {}.\n", arguments.out.display())
}
