//! CoralSCOP on a user's own classes: the image encoder stays, what names masks is tuned within minutes.
//!
//! ```text
//! cargo run --release --example tune_coralscop
//! cargo run --release --example tune_coralscop -- --data reef --base vit_b_coralscop.pth --out reef_head.safetensors \
//!   --classes classes.csv --root coral --level 1
//! ```
//!
//! Without arguments it pre-trains a small network on synthetic reefs, to tell corals from what is none, and tunes that on
//! their growth forms. `--data` names a folder of photographs with masks: `images/` and `labels/` with a label map for each;
//! or a JSON file of masks beside each photograph, as CoralMask has them; or those of the COCO file `--annotations`. Classes
//! are those of a level of the hierarchy in `--classes` (`--root`, `--level`), or all of them.
//!
//! In synthetic runs it prints what the small network calls coral, from clicks and from none, on reefs and on pictures without
//! corals: `--without-negatives` shows what masks of the ground are good for. It prints how many masks of photographs that were
//! held out get their class, before (the commonest class, the nearest template of the network's semantic features) and after.
//! The encoder of the small network has seen too little to tell growth forms well: most masks still get a wrong one. Writes the head, which `segment_reef --head` loads onto the base, and in
//! synthetic runs the base (`base.safetensors`) and pictures (`reef_N.png`: the photograph, its colonies, those found).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use coral_core::{AnnotatedImage, Dataset, Error, InstanceMask, Remapping, Result};
use coral_examples::colony_survey::{
    ClassScores, Clicks, FolderArguments, Images, Objects, Proposals, SyntheticSurvey, Tuned, TuningPlan, all_corals,
    class_picture, colonies, pretrain, small_network, tune,
};
use coral_examples::{at_least_one, finish, make_folder};
use coral_io::{InMemory, RemappedMasks, write_image};
use coral_models::candle_core::Device;
use coral_models::{Checkpoint, GeneratorConfig, MaskGenerator, Predictor, SamPart, SamTrainer};
use coral_weak::{NegativeConfig, WithNegatives};

/// Tunes CoralSCOP on a user's own classes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// The file for the tuned head. Default: `out/tune_coralscop/head.safetensors`.
    #[arg(long, value_name = "HEAD", default_value = "out/tune_coralscop/head.safetensors")]
    out: PathBuf,
    /// The class that objects belong to; everything else is background.
    #[arg(long, value_name = "CLASS", requires = "data")]
    root: Option<String>,
    /// How many levels below `--root` objects are told apart.
    #[arg(long, requires = "root", default_value_t = 1)]
    level: usize,
    /// Classes that are no objects, where there is no `--root`.
    #[arg(long, value_name = "CLASS", requires = "data", value_delimiter = ',', conflicts_with = "root")]
    background: Vec<String>,
    /// Regions without any object that are learnt as background, for each object; none at 0. Whatever nobody has outlined there
    /// is background then.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.5)]
    negatives: f64,
    /// What is tuned; the less, the faster. Default: the class head of published weights, the semantic branch of the small
    /// network.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Passes over the photographs.
    #[arg(long, default_value_t = 16)]
    epochs: u64,
    /// The learning rate. Default: 0.001, on synthetic reefs 0.002.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// A folder that keeps what the image encoder gives, which takes long, for later runs.
    #[arg(long, value_name = "DIR", requires = "data")]
    embeddings: Option<PathBuf>,
    /// Synthetic reefs to train on; a twentieth as many are held out.
    #[arg(long, value_name = "NUMBER", conflicts_with = "data", default_value_t = 800, value_parser = at_least_one)]
    pictures: usize,
    /// Passes of pre-training over the synthetic reefs.
    #[arg(long, value_name = "EPOCHS", conflicts_with = "data", default_value_t = 8)]
    pretraining_epochs: u64,
    /// Pre-trains the small network on corals alone, to see what negatives are good for.
    #[arg(long, conflicts_with = "data")]
    without_negatives: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The last perceptron, as CoralSCOP's authors do.
    ClassHead,
    /// All that names masks.
    SemanticBranch,
    /// All but the image encoder.
    Decoder,
}

impl From<Part> for SamPart {
    fn from(part: Part) -> Self {
        match part {
            Part::ClassHead => Self::ClassHead,
            Part::SemanticBranch => Self::SemanticBranch,
            Part::Decoder => Self::Decoder,
        }
    }
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    if arguments.out.extension().is_none_or(|extension| extension != "safetensors") {
        let reason = format!("expected a file that ends in .safetensors, got {}", arguments.out.display());
        return Err(Error::parameter("out", reason));
    }
    make_folder(folder_of(&arguments.out))?;
    if arguments.folder.data.is_some() { tune_on_folder(arguments) } else { tune_on_synthetic_reefs(arguments) }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn tune_on_folder(arguments: &Arguments) -> Result<String> {
    let objects = match &arguments.root {
        Some(root) => Objects::Below(root, arguments.level),
        None => Objects::AllBut(&arguments.background),
    };
    let (classes, images) = arguments.folder.open_objects(objects)?;
    let [train, held_out] = arguments.folder.split(&images, arguments.seed)?;
    let seed = arguments.seed;
    let (train, held_out) = (beside(train, arguments.negatives, seed)?, beside(held_out, HELD_OUT_NEGATIVES, seed)?);
    let (base, network) = arguments.folder.checkpoint()?;
    let plan = TuningPlan {
        network,
        classes,
        part: arguments.part.unwrap_or(Part::ClassHead).into(),
        epochs: arguments.epochs,
        learning_rate: arguments.learning_rate.unwrap_or(1e-3),
        seed: arguments.seed,
    };
    let tuned = tune(&base, [&train, &held_out], &plan, arguments.embeddings.as_deref())?;
    tuned.head.save(&arguments.out)?;
    Ok(report(&tuned, &plan, &arguments.out))
}

/// Regions beside the objects on which the background is tested, for each object: as many, whatever is trained.
const HELD_OUT_NEGATIVES: f64 = 0.5;

/// Adds so many regions beside the objects for each of them, and leaves out places of which nobody knows what they show: they have
/// kept the regions away.
fn beside<D: Dataset<Item = AnnotatedImage>>(
    images: D,
    negatives: f64,
    seed: u64,
) -> Result<impl Dataset<Item = AnnotatedImage>> {
    if !(0.0..=1000.0).contains(&negatives) {
        return Err(Error::parameter("negatives", format!("expected a number in 0..=1000, got {negatives}")));
    }
    let whole = NegativeConfig::default();
    let without_positives = if negatives > 0.0 { whole.without_positives } else { 0 };
    let config = NegativeConfig { per_positive: negatives, without_positives, ..whole };
    Ok(RemappedMasks::new(WithNegatives::new(images, config, seed)?, Remapping::identity()).without_unclassed())
}

fn tune_on_synthetic_reefs(arguments: &Arguments) -> Result<String> {
    let folder = folder_of(&arguments.out);
    let seed = arguments.seed;
    let survey = SyntheticSurvey::new(seed, arguments.pictures)?;
    let (coral, to_coral) = survey.level(0)?;
    let negatives = if arguments.without_negatives { 0.0 } else { 1.0 };
    let images = colonies(&survey.train, &to_coral, (negatives, seed))?;
    let base_path = folder.join("base.safetensors");
    pretrain(&images, &coral, (arguments.pretraining_epochs, seed))?.save(&base_path)?;
    let base = Checkpoint::open(&base_path)?;

    let (forms, to_forms) = survey.level(1)?;
    let masks = |images: &InMemory<AnnotatedImage>, negatives: f64| colonies(images, &to_forms, (negatives, seed));
    let (train, held_out) = (masks(&survey.train, arguments.negatives)?, masks(&survey.held_out, HELD_OUT_NEGATIVES)?);
    let plan = TuningPlan {
        network: small_network(),
        classes: forms,
        part: arguments.part.unwrap_or(Part::SemanticBranch).into(),
        epochs: arguments.epochs,
        learning_rate: arguments.learning_rate.unwrap_or(2e-3),
        seed,
    };
    let tuned = tune(&base, [&train, &held_out], &plan, None)?;
    tuned.head.save(&arguments.out)?;

    let sam = tuned.head.load_onto(&base, &Device::Cpu)?;
    let config = GeneratorConfig { background_class: Some(tuned.head.background()), ..Proposals::settings() };
    write_pictures(folder, &MaskGenerator::new(Predictor::new(sam), config)?, (&held_out, &plan))?;
    let before = SamTrainer::open(&base_path, &Device::Cpu)?.predictor()?;
    Ok(format!(
        "Before tuning:\n{}\n{}Pictures are in {}/reef_N.png.\n",
        false_masks(&before, &survey, &to_coral)?,
        report(&tuned, &plan, &arguments.out),
        folder.display(),
    ))
}

/// What a network calls coral on reefs that were held out and on pictures without corals.
fn false_masks(predictor: &Predictor, survey: &SyntheticSurvey, to_coral: &Remapping) -> Result<String> {
    let mut lines = String::new();
    for (pictures, what) in
        [(&survey.held_out, "reefs that were held out"), (&survey.barren, "pictures without corals")]
    {
        let pictures = all_corals(pictures, to_coral)?;
        let (proposed, clicked) = (Proposals::of(predictor, &pictures)?, Clicks::of(predictor, &pictures)?);
        lines += &format!("- {} {what}: {proposed};\n  {clicked}\n", pictures.len());
    }
    Ok(lines)
}

/// Photographs that were held out: what is there and what the tuned network finds.
fn write_pictures(folder: &Path, generator: &MaskGenerator, (images, plan): (Images<'_>, &TuningPlan)) -> Result<()> {
    const PICTURES: usize = 4;
    for index in 0..images.len().min(PICTURES) {
        let AnnotatedImage { image, mut masks } = images.get(index)?;
        masks.retain(|one| one.class != Some(0));
        let found: Vec<InstanceMask> = generator.generate(&image)?;
        let picture = class_picture(&image, [&masks, &found], &plan.classes)?;
        write_image(folder.join(format!("reef_{}.png", index + 1)), &picture)?;
    }
    Ok(())
}

fn report(tuned: &Tuned, plan: &TuningPlan, out: &Path) -> String {
    let loss = match tuned.loss {
        [Some(first), Some(last)] => format!("Cross-entropy {first:.3} in the first epoch, {last:.3} in the last."),
        _ => "No epoch was trained.".to_owned(),
    };
    let table = ClassScores::table(&tuned.scores, &plan.classes);
    format!(
        "Masks of held-out photographs that get their class, in percent:\n\n{table}\n\
         {loss} The head is in {}.\n",
        out.display()
    )
}

#[cfg(test)]
#[path = "tests/tune_coralscop.rs"]
mod tests;
