use std::path::Path;

use coral_core::{ClassId, ClassSet, Dataset, Error, NoProgress, Progress, Result, SeededRng};
use coral_models::candle_core::Device;
use coral_models::{
    Checkpoint, EmbeddedImages, Predictor, SamConfig, SamFitConfig, SamPart, SamTrainer, SamTrainerConfig, TunedHead,
};

use super::{Answers, ClassScores, Images};
use crate::Bar;

/// How a tuning goes.
#[derive(Debug, Clone)]
pub struct TuningPlan {
    /// The network of the base.
    pub network: SamConfig,
    /// The user's classes; 0 is the background.
    pub classes: ClassSet,
    /// What of the network is tuned.
    pub part: SamPart,
    /// Passes over the masks.
    pub epochs: u64,
    /// The learning rate of Adam.
    pub learning_rate: f64,
    /// Of everything random.
    pub seed: u64,
}

/// A tuned network and what is known of it.
#[derive(Debug)]
pub struct Tuned {
    /// What was changed.
    pub head: TunedHead,
    /// Classes of masks that were held out, before and after.
    pub scores: Vec<ClassScores>,
    /// Mean cross-entropy of the first and of the last epoch.
    pub loss: [Option<f64>; 2],
}

/// Prompts of every mask of which the class head learns the classes, when nothing else is tuned.
const PROMPTS: usize = 4;
/// Samples of a step of the class head.
const BATCH: usize = 32;

/// Tunes a network on a user's classes; embeddings of the images are kept in the folder, or in memory without one.
///
/// # Errors
/// When an image cannot be read, the checkpoint is of another network or lacks the part that is tuned, or the training
/// diverges.
pub fn tune(
    base: &Checkpoint,
    [train, held_out]: [Images<'_>; 2],
    plan: &TuningPlan,
    embeddings: Option<&Path>,
) -> Result<Tuned> {
    let mut training = SamFitConfig { part: plan.part, ..SamFitConfig::tuning() };
    training.trainer.learning_rate = plan.learning_rate;
    let knows_classes = SamConfig::from_checkpoint(&base.clone().with_original_sam_names()?)?.semantic.is_some();
    let config = SamTrainerConfig::new(plan.network.clone(), plan.classes.clone(), training);
    let mut trainer = SamTrainer::fine_tune(config, base, plan.seed, &Device::Cpu)?;
    let bar = Bar::new();
    let train = EmbeddedImages::new(&trainer, train, embeddings, &bar)?;
    let held_out = EmbeddedImages::new(&trainer, held_out, embeddings, &bar)?;

    let before = trainer.predictor()?;
    let asked = Answers::of(&before, &held_out, (1, seed(plan, 1)))?;
    let counts = masks_of_classes(&train, &plan.classes)?;
    let commonest = commonest(&counts, &plan.classes)?;
    let mut scores = vec![ClassScores::new(
        "commonest class",
        asked.truth.iter().map(|_| Some(commonest)),
        &asked.truth,
        &plan.classes,
    )];
    if knows_classes && !asked.truth.is_empty() {
        // As many prompts of every mask as the class head learns from.
        let known = Answers::of(&before, &train, (PROMPTS, seed(plan, 0)))?;
        let templates = known.templates(&plan.classes)?;
        scores.extend(templates.map(|all| ClassScores::of_templates(&all, &asked, &plan.classes)).transpose()?);
    }
    let loss = fit(&mut trainer, (&train, counts.iter().sum()), plan)?;
    let head = TunedHead::of(&trainer)?;
    // As users get it: from the base and the head.
    let after = Answers::of(&Predictor::new(head.load_onto(base, &Device::Cpu)?), &held_out, (1, seed(plan, 1)))?;
    scores.push(ClassScores::new("tuned", after.classes, &after.truth, &plan.classes));
    Ok(Tuned { head, scores, loss })
}

fn fit(
    trainer: &mut SamTrainer,
    (images, masks): (&EmbeddedImages, usize),
    plan: &TuningPlan,
) -> Result<[Option<f64>; 2]> {
    let bar = Bar::new();
    let maps = match plan.part {
        SamPart::ClassHead => match prompts_in_memory(masks, plan) {
            0 => None,
            prompts => Some(trainer.class_maps(images, (prompts, seed(plan, 2)), &bar)?),
        },
        _ => None,
    };
    bar.start(plan.epochs, "epochs of tuning");
    let mut losses = [None; 2];
    for epoch in 0..plan.epochs {
        let seed = seed(plan, 3 + epoch);
        let report = match &maps {
            Some(maps) => trainer.fit_epoch_on_maps(maps, BATCH, seed)?,
            None => trainer.fit_epoch_embedded(images, seed, &NoProgress)?,
        };
        losses = [losses[0].or(report.semantic), report.semantic];
        bar.advance(1);
    }
    bar.finish();
    Ok(losses)
}

/// How many prompts of every mask memory can keep, at most [`PROMPTS`].
fn prompts_in_memory(masks: usize, plan: &TuningPlan) -> usize {
    const MEMORY: usize = 4 << 30;
    let grid = plan.network.image_size / plan.network.token_pixels();
    let bytes = masks * plan.network.mask_tokens * grid * grid * size_of::<f32>();
    (MEMORY / bytes.max(1)).min(PROMPTS)
}

fn seed(plan: &TuningPlan, stream: u64) -> u64 {
    SeededRng::stream(plan.seed, stream).bits()
}

/// How many masks there are of every class.
fn masks_of_classes(images: &EmbeddedImages, classes: &ClassSet) -> Result<Vec<usize>> {
    let mut counts = vec![0; classes.num_ids()];
    for index in 0..images.len() {
        for class in images.get(index)?.masks.iter().filter_map(|one| one.class) {
            if let Some(count) = counts.get_mut(usize::from(class)) {
                *count += 1;
            }
        }
    }
    Ok(counts)
}

/// The class of most objects; the first of several.
///
/// # Errors
/// When no mask to learn from is an object.
fn commonest(counts: &[usize], classes: &ClassSet) -> Result<ClassId> {
    let objects = classes.iter().map(|class| class.id).filter(|&class| class != 0);
    let commonest = objects.max_by_key(|&class| (counts[usize::from(class)], ClassId::MAX - class));
    commonest.filter(|&class| counts[usize::from(class)] > 0).ok_or_else(|| {
        let names: Vec<&str> = classes.iter().filter(|class| class.id != 0).map(|class| &class.name[..]).collect();
        let reason = format!("no mask of the photographs to learn from is of a class of {}", names.join(", "));
        Error::input("masks", reason)
    })
}
