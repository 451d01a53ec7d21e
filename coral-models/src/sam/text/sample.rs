use coral_core::{Dataset, PointPrompt, Result, RleMask, SeededRng, SentencePair, Size};

use super::config::TextPrompterConfig;
use super::sentences::SentenceEmbeddings;
use crate::Embedding;
use crate::sam::preprocess::longest_side_size;
use crate::sam::prompt_encoder::Token;
use crate::sam::prompt_tokens::tokens;
use crate::sam::training::{LowResFrame, Truths, middle, pixel_of};

/// A photograph after the image encoder, with sentences and what they name in it.
#[derive(Debug, Clone)]
pub struct InstructedImage {
    /// What the image encoder gave.
    pub embedding: Embedding,
    /// Sentences with the masks of the photograph's size that they name; empty for those that name nothing in it.
    pub pairs: Vec<SentencePair>,
}

/// Pairs of an image that are decoded together.
#[derive(Debug, Clone)]
pub(super) struct PairBatch {
    /// As many for each pair.
    pub(super) tokens: Vec<Vec<Token>>,
    /// N×D, row by row.
    pub(super) sentences: Vec<f32>,
    pub(super) truths: Truths,
}

/// An image of an epoch.
#[derive(Debug, Clone)]
pub(super) struct TextSample {
    pub(super) name: String,
    pub(super) embedding: Embedding,
    pub(super) frame: LowResFrame,
    pub(super) sizes: [Size; 2],
    pub(super) batches: Vec<PairBatch>,
    /// Positive pairs whose masks are too small for the low resolution.
    pub(super) vanished: usize,
}

/// A pair that is going to be learnt.
struct Learnt<'a> {
    sentence: &'a [f32],
    truth: RleMask,
    point: Option<PointPrompt>,
}

impl TextSample {
    pub(super) fn load(
        config: &TextPrompterConfig,
        images: &dyn Dataset<Item = InstructedImage>,
        sentences: &SentenceEmbeddings,
        (index, seed): (usize, u64),
    ) -> Result<Self> {
        let InstructedImage { embedding, pairs } = images.get(index)?;
        let name = images.name(index)?;
        let low_res = embedding.expect_of(&config.network, &format!("embedding of {name}"))?;
        let size = embedding.original_size();
        let frame = LowResFrame::new(size, config.network.image_size as u32, low_res.width)?;
        let (mut random, mut vanished) = (SeededRng::new(seed), 0);
        let (mut bare, mut pointed) = (Vec::new(), Vec::new());
        for (number, pair) in pairs.iter().enumerate() {
            size.expect(&format!("pairs[{number}] of {name}"), pair.mask.size())?;
            let sentence = sentences.get(&pair.sentence)?;
            let truth = frame.reduce(&pair.mask)?;
            let pointed_at = random.chance(config.training.point_share);
            if truth.is_empty() && !pair.mask.is_empty() {
                vanished += 1;
                continue;
            }
            let point = pointed_at.then(|| point(&pair.mask, &mut random));
            let learnt = Learnt { sentence, truth, point };
            if pointed_at { pointed.push(learnt) } else { bare.push(learnt) }
        }
        let sizes = [size, longest_side_size(size, config.network.image_size as u32)];
        let most = config.training.pairs_per_batch;
        let empty_too = config.training.loss.background_masks;
        let groups = bare.chunks(most).chain(pointed.chunks(most));
        let batches = groups.map(|pairs| batch(pairs, sizes, empty_too)).collect();
        Ok(Self { name, embedding, frame, sizes, batches, vanished })
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.tokens.len()).sum()
    }
}

/// A point inside of the mask, or anywhere where it is empty.
fn point(mask: &RleMask, random: &mut SeededRng) -> PointPrompt {
    let Size { width, height } = mask.size();
    let anywhere = |random: &mut SeededRng| (random.below(width as usize) as u32, random.below(height as usize) as u32);
    let (x, y) = pixel_of(mask, random).unwrap_or_else(|| anywhere(random));
    middle(x, y, true)
}

/// `empty_too` says whether the pixels of masks count that are empty.
fn batch(pairs: &[Learnt<'_>], [original, input]: [Size; 2], empty_too: bool) -> PairBatch {
    let prompt =
        |pair: &Learnt<'_>| coral_core::Prompt { points: pair.point.into_iter().collect(), ..Default::default() };
    PairBatch {
        tokens: pairs.iter().map(|pair| tokens(&prompt(pair), original, input)).collect(),
        sentences: pairs.iter().flat_map(|pair| pair.sentence).copied().collect(),
        truths: Truths {
            masks: pairs.iter().map(|pair| pair.truth.clone()).collect(),
            classes: pairs.iter().map(|pair| u8::from(!pair.truth.is_empty())).collect(),
            counted: pairs.iter().map(|pair| empty_too || !pair.truth.is_empty()).collect(),
        },
    }
}
