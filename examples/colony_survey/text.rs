use std::fmt;

use coral_core::{NoProgress, Progress, Result, RleMask, SeededRng, SentencePair};
use coral_io::InMemory;
use coral_models::{Embedding, InstructedImage, Predictor, SamLoss, SentenceEmbeddings, TextFitConfig, TextPrompter};
use coral_weak::SentencePairs;

use super::Images;
use super::pretraining::warm_cosine;
use crate::Bar;

/// Photographs after the image encoder.
///
/// # Errors
/// When a photograph cannot be read.
fn embed(predictor: &Predictor, images: Images<'_>) -> Result<Vec<Embedding>> {
    let bar = Bar::new();
    bar.start(images.len() as u64, "images to embed");
    let one = |index: usize| {
        bar.advance(1);
        predictor.embed(&images.get(index)?.image)
    };
    let embeddings = (0..images.len()).map(one).collect();
    bar.finish();
    embeddings
}

/// Sentences drawn for each photograph.
///
/// # Errors
/// When a photograph cannot be read.
fn instruct(
    embeddings: &[Embedding],
    images: Images<'_>,
    (pairs, seed): (&SentencePairs, u64),
) -> Result<Vec<InstructedImage>> {
    let one = |(index, embedding): (usize, &Embedding)| {
        let pairs = pairs.draw(&images.get(index)?, SeededRng::stream(seed, index as u64).bits())?;
        Ok(InstructedImage { embedding: embedding.clone(), pairs })
    };
    embeddings.iter().enumerate().map(one).collect()
}

/// How the small network learns sentences. Masks of sentences that name nothing are not learnt as empty ones: with them, a network
/// without pre-trained weights answers nothing to all sentences for long. Its semantic branch tells what is not there.
pub fn text_training(steps: u64) -> TextFitConfig {
    let mut training = TextFitConfig { point_share: 0.1, pairs_per_batch: 64, ..TextFitConfig::default() };
    training.loss = SamLoss { dice_weight: 5.0, semantic_weight: 2.0, background_masks: false, ..SamLoss::default() };
    training.trainer.learning_rate = 2e-3;
    training.trainer.clip_norm = Some(1.0);
    training.trainer.schedule = warm_cosine(steps);
    training
}

/// Teaches a network to follow sentences; in every epoch other sentences are drawn for every photograph.
///
/// # Errors
/// When a photograph cannot be read, or the training diverges.
pub fn follow_sentences(
    prompter: &mut TextPrompter,
    images: Images<'_>,
    (pairs, sentences): (&SentencePairs, &SentenceEmbeddings),
    (epochs, seed): (u64, u64),
) -> Result<()> {
    let embeddings = embed(&prompter.predictor()?, images)?;
    let bar = Bar::new();
    bar.start(epochs, "epochs on sentences");
    for epoch in 0..epochs {
        let mut random = SeededRng::stream(seed, epoch);
        let instructed = InMemory::new(instruct(&embeddings, images, (pairs, random.bits()))?);
        prompter.fit_epoch(&instructed, sentences, (random.bits(), &NoProgress))?;
        bar.advance(1);
    }
    bar.finish();
    Ok(())
}

/// How sentences about photographs are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TextScores {
    /// Sentences about what the photograph shows.
    pub positive: u64,
    /// Those whose mask is for the most part of the right class.
    pub right: u64,
    /// The sum of their masks' IoUs with what they name.
    pub iou: f64,
    /// Sentences about what it does not show.
    pub negative: u64,
    /// Those whose mask is empty.
    pub empty: u64,
}

impl TextScores {
    /// Asks a network with sentences drawn from `seed`.
    ///
    /// # Errors
    /// When a photograph cannot be read.
    pub fn of(
        prompter: &TextPrompter,
        images: Images<'_>,
        (pairs, sentences): (&SentencePairs, &SentenceEmbeddings),
        seed: u64,
    ) -> Result<Self> {
        let mut scores = Self::default();
        let embeddings = embed(&prompter.predictor()?, images)?;
        for InstructedImage { embedding, pairs } in instruct(&embeddings, images, (pairs, seed))? {
            for SentencePair { sentence, mask: truth, .. } in &pairs {
                let answer = prompter.predict(&embedding, sentences.get(sentence)?, &[])?;
                let mask = RleMask::encode(&answer.mask);
                if truth.is_empty() {
                    scores.negative += 1;
                    scores.empty += u64::from(mask.is_empty());
                } else {
                    scores.positive += 1;
                    scores.right += u64::from(2 * mask.intersection_area(truth)? > mask.area());
                    scores.iou += mask.iou(truth)?;
                }
            }
        }
        Ok(scores)
    }
}

impl fmt::Display for TextScores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: f64, all: u64| 100.0 * part / all.max(1) as f64;
        write!(
            out,
            "{:5.1} % of {} answered with the right corals (mean IoU {:.2}); {:5.1} % of {} left empty",
            percent(self.right as f64, self.positive),
            self.positive,
            self.iou / self.positive.max(1) as f64,
            percent(self.empty as f64, self.negative),
            self.negative
        )
    }
}
