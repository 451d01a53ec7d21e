use std::fmt;

use coral_core::{AnnotatedImage, InstanceMask, NoProgress, Progress, Result, RleMask, SeededRng, SentencePair};
use coral_io::InMemory;
use coral_models::{Embedding, InstructedImage, SamLoss, SentenceEmbeddings, TextFitConfig, TextPrompter};
use coral_weak::SentencePairs;

use super::Images;
use super::pretraining::warm_cosine;
use crate::Bar;

/// Photographs after the image encoder, which sentences do not change.
#[derive(Debug)]
pub struct DescribedReefs {
    embeddings: Vec<Embedding>,
    masks: Vec<Vec<InstanceMask>>,
    pairs: SentencePairs,
}

impl DescribedReefs {
    /// Runs the image encoder over photographs, about which these pairs are drawn.
    ///
    /// # Errors
    /// When a photograph cannot be read.
    pub fn new(prompter: &TextPrompter, images: Images<'_>, pairs: &SentencePairs) -> Result<Self> {
        let predictor = prompter.predictor()?;
        let bar = Bar::new();
        bar.start(images.len() as u64, "images to embed");
        let mut reefs = Self { embeddings: Vec::new(), masks: Vec::new(), pairs: pairs.clone() };
        for index in 0..images.len() {
            let AnnotatedImage { image, masks } = images.get(index)?;
            reefs.embeddings.push(predictor.embed(&image)?);
            reefs.masks.push(masks);
            bar.advance(1);
        }
        bar.finish();
        Ok(reefs)
    }

    /// How many photographs there are.
    pub fn len(&self) -> usize {
        self.embeddings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.embeddings.is_empty()
    }

    /// Draws sentences about each photograph.
    fn instruct(&self, seed: u64) -> Result<Vec<InstructedImage>> {
        let one = |(index, (embedding, masks)): (usize, (&Embedding, &Vec<InstanceMask>))| {
            let seed = SeededRng::stream(seed, index as u64).bits();
            let pairs = self.pairs.draw(embedding.original_size(), masks, seed)?;
            Ok(InstructedImage { embedding: embedding.clone(), pairs })
        };
        self.embeddings.iter().zip(&self.masks).enumerate().map(one).collect()
    }
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
/// When a sentence has no embedding, or the training diverges.
pub fn follow_sentences(
    prompter: &mut TextPrompter,
    reefs: &DescribedReefs,
    sentences: &SentenceEmbeddings,
    (epochs, seed): (u64, u64),
) -> Result<()> {
    let bar = Bar::new();
    bar.start(epochs, "epochs on sentences");
    for epoch in 0..epochs {
        let mut random = SeededRng::stream(seed, epoch);
        let instructed = InMemory::new(reefs.instruct(random.bits())?);
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
    /// Those whose mask shows for the most part what they name.
    pub right: u64,
    /// Those whose mask is that of what they name, with an IoU of at least 0.5.
    pub outlined: u64,
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
    /// When a sentence has no embedding, or the network fails.
    pub fn of(
        prompter: &TextPrompter,
        reefs: &DescribedReefs,
        sentences: &SentenceEmbeddings,
        seed: u64,
    ) -> Result<Self> {
        let mut scores = Self::default();
        for InstructedImage { embedding, pairs } in reefs.instruct(seed)? {
            for SentencePair { sentence, mask: truth, .. } in &pairs {
                let answer = prompter.predict(&embedding, sentences.get(sentence)?, &[])?;
                scores.add(&RleMask::encode(&answer.mask), truth)?;
            }
        }
        Ok(scores)
    }

    /// The same sentences, each answered with all objects that the photograph shows, whatever it says.
    ///
    /// # Errors
    /// When the masks of a photograph are not of one size.
    pub fn of_all_objects(reefs: &DescribedReefs, seed: u64) -> Result<Self> {
        let mut scores = Self::default();
        let described = |class| !reefs.pairs.sentences().of(class).is_empty();
        for (InstructedImage { embedding, pairs }, masks) in reefs.instruct(seed)?.iter().zip(&reefs.masks) {
            let objects = masks.iter().filter(|one| one.class.is_some_and(described)).map(|one| &one.mask);
            let objects = RleMask::union_of(embedding.original_size(), objects)?;
            pairs.iter().try_for_each(|pair| scores.add(&objects, &pair.mask))?;
        }
        Ok(scores)
    }

    fn add(&mut self, mask: &RleMask, truth: &RleMask) -> Result<()> {
        if truth.is_empty() {
            self.negative += 1;
            self.empty += u64::from(mask.is_empty());
        } else {
            let iou = mask.iou(truth)?;
            self.positive += 1;
            self.right += u64::from(2 * mask.intersection_area(truth)? > mask.area());
            self.outlined += u64::from(iou >= 0.5);
            self.iou += iou;
        }
        Ok(())
    }
}

impl fmt::Display for TextScores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        let Self { positive, right, outlined, iou, negative, empty } = *self;
        let (right, outlined) = (percent(right, positive), percent(outlined, positive));
        let (iou, empty) = (iou / positive.max(1) as f64, percent(empty, negative));
        write!(
            out,
            "{right:5.1} % of {positive} show the right corals, {outlined:5.1} % with an IoU of .5 or more (mean {iou:.2}); "
        )?;
        write!(out, "{empty:5.1} % of {negative} left empty")
    }
}

#[cfg(test)]
mod tests {
    use coral_core::Size;

    use super::*;

    #[test]
    fn answers_are_counted_by_what_they_show() {
        let columns =
            |from: u32, to: u32| RleMask::from_fn(Size { width: 10, height: 2 }, |x, _| (from..to).contains(&x));
        let mut scores = TextScores::default();
        let truth = columns(0, 4);
        for mask in [columns(0, 4), columns(0, 1), columns(0, 8), columns(6, 9), columns(0, 0)] {
            scores.add(&mask, &truth).unwrap();
            scores.add(&mask, &columns(0, 0)).unwrap();
        }
        let expected = TextScores { positive: 5, right: 2, outlined: 2, iou: 1.0 + 0.25 + 0.5, negative: 5, empty: 1 };
        assert_eq!(scores, expected);
        let text = " 40.0 % of 5 show the right corals,  40.0 % with an IoU of .5 or more (mean 0.35);  20.0 % of 5 left empty";
        assert_eq!(scores.to_string(), text);
        assert!(!TextScores::default().to_string().contains("NaN"));
    }
}
