use candle_core::Tensor;
use coral_core::{ClassId, Error, PointPrompt, Prompt, Result, RleMask, SeededRng, Size};
use ndarray::ArrayView2;

use super::loss::{MaskJudge, PartSums, RoundLoss, SamLoss, Shares, Truths, values};
use super::prompts::{PromptRound, correction_point, middle, pixel_of};
use super::targets::LowResFrame;
use crate::sam::mask_decoder::MaskChoice;
use crate::sam::model::{PromptBatch, Sam};
use crate::sam::prompt_encoder::Token;
use crate::sam::prompt_tokens::tokens;

/// Which losses a training takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Pixels and IoU; else all tokens say a class, and pixels are drawn only for the rounds that follow.
    pub(crate) masks: bool,
    /// Classes.
    pub(crate) classes: bool,
}

/// An image on which prompts are tried one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) sam: &'a Sam,
    /// 1×h×w×C.
    pub(crate) features: &'a Tensor,
    pub(crate) frame: &'a LowResFrame,
    /// The photograph's size, and what it was resized to.
    pub(crate) sizes: [Size; 2],
    pub(crate) loss: &'a SamLoss,
    pub(crate) wanted: Wanted,
    pub(crate) shares: Shares,
}

/// What the decoder gets in one round.
#[derive(Debug, Clone)]
pub(crate) struct RoundInput {
    pub(crate) tokens: Vec<Vec<Token>>,
    /// B×4h×4w logits of the masks of the round before, without gradient.
    pub(crate) masks: Option<Tensor>,
    /// B×E×C tokens that come from elsewhere.
    pub(crate) extra: Option<Tensor>,
    pub(crate) choice: MaskChoice,
    /// Whether pixels are needed whatever is trained.
    pub(crate) draw: bool,
}

/// What a round gives.
#[derive(Debug, Clone)]
pub(crate) struct RoundOutcome {
    pub(crate) loss: RoundLoss,
    /// B×4h×4w logits of the masks with the highest predicted IoU, without gradient; none that were not drawn.
    pub(crate) masks: Option<Tensor>,
}

/// B prompts that are tried together.
#[derive(Debug, Clone)]
pub(crate) struct Tried<'a> {
    pub(crate) truths: &'a Truths,
    /// The first prompts.
    pub(crate) prompts: Vec<Prompt>,
    /// B×E×C tokens that come from elsewhere and stay in all rounds.
    pub(crate) extra: Option<Tensor>,
    /// Gives each mask the seed of its corrections.
    pub(crate) seeds: Vec<u64>,
}

impl Scene<'_> {
    /// Tries prompts round by round; `take` gets the loss of each, and what it was taken of.
    pub(crate) fn roll_out(
        &self,
        tried: Tried<'_>,
        rounds: &[PromptRound],
        mut take: impl FnMut(&RoundInput, &RoundLoss) -> Result<()>,
    ) -> Result<()> {
        let Tried { truths, mut prompts, extra, seeds } = tried;
        let mut random: Vec<_> = seeds.iter().map(|&seed| SeededRng::new(seed)).collect();
        let mut masks: Option<Tensor> = None;
        for (number, round) in rounds.iter().enumerate() {
            if let (PromptRound::Correction, Some(masks)) = (round, &masks) {
                self.correct(&mut prompts, masks, (truths, &mut random))?;
            }
            let choice = match number {
                _ if !self.wanted.masks => MaskChoice::All,
                0 => MaskChoice::Multiple,
                // More than one prompt leaves no doubt about the object.
                _ => MaskChoice::Single,
            };
            let [original, input] = self.sizes;
            let input = RoundInput {
                tokens: prompts.iter().map(|prompt| tokens(prompt, original, input)).collect(),
                masks: masks.take(),
                extra: extra.clone(),
                choice,
                draw: number + 1 < rounds.len(),
            };
            let outcome = self.round(&input, truths)?;
            take(&input, &outcome.loss)?;
            masks = outcome.masks;
        }
        Ok(())
    }

    /// One round: the decoder, and the loss of its answer.
    pub(crate) fn round(&self, input: &RoundInput, truths: &Truths) -> Result<RoundOutcome> {
        let prompts = PromptBatch { tokens: &input.tokens, masks: input.masks.as_ref(), extra: input.extra.as_ref() };
        let mut loss = RoundLoss { loss: None, sums: PartSums::default() };
        let (semantics, best, masks);
        if self.wanted.masks || input.draw {
            let decoded = self.sam.decode(self.features, &prompts, input.choice).map_err(Error::model)?;
            masks = Some(most_promising(&decoded.low_res_masks, &decoded.iou)?);
            best = match self.wanted.masks {
                true => {
                    let judge = MaskJudge::new(self.loss, truths, &decoded.low_res_masks)?;
                    judge.loss(&decoded.iou, self.shares.mask, &mut loss)?;
                    Some(judge.best)
                }
                false => None,
            };
            semantics = decoded.semantics;
        } else {
            let scored = self.sam.score(self.features, &prompts, input.choice).map_err(Error::model)?;
            (semantics, best, masks) = (scored.semantics, None, None);
        }
        if let Some(semantics) = semantics.filter(|_| self.wanted.classes) {
            let best = best.filter(|_| !self.loss.semantic_of_all);
            self.class_loss(&semantics.logits, &truths.classes, best, &mut loss)?;
        }
        Ok(RoundOutcome { loss, masks })
    }

    /// The classes of B×M×K logits: of each prompt's `best` mask, or of all.
    fn class_loss(
        &self,
        logits: &Tensor,
        classes: &[ClassId],
        best: Option<Vec<usize>>,
        into: &mut RoundLoss,
    ) -> Result<()> {
        let (_, per_prompt, _) = logits.dims3().map_err(Error::model)?;
        let of_prompt = |prompt: usize| match &best {
            Some(best) => best[prompt]..best[prompt] + 1,
            None => 0..per_prompt,
        };
        let rows = |prompt: usize| of_prompt(prompt).map(move |mask| (prompt * per_prompt + mask) as u32);
        let rows: Vec<u32> = (0..classes.len()).flat_map(rows).collect();
        let count = rows.len() / classes.len().max(1);
        let classes: Vec<ClassId> = rows.iter().map(|&row| classes[row as usize / per_prompt]).collect();
        let chosen = Tensor::new(rows, logits.device()).and_then(|rows| logits.flatten_to(1)?.index_select(&rows, 0));
        let chosen = chosen.map_err(Error::model)?;
        let share = self.shares.class / count as f64;
        let Some((part, sum)) = self.loss.of_classes(&chosen, &classes, share)? else { return Ok(()) };
        into.sums.semantic += sum / count as f64;
        into.sums.labeled += classes.iter().filter(|&&class| class != coral_core::UNLABELED).count() / count;
        into.add(part)
    }

    /// Adds to each prompt a point where its mask is wrong.
    fn correct(
        &self,
        prompts: &mut [Prompt],
        masks: &Tensor,
        (truths, random): (&Truths, &mut [SeededRng]),
    ) -> Result<()> {
        let (_, height, width) = masks.dims3().map_err(Error::model)?;
        let logits = masks.to_dtype(candle_core::DType::F32).and_then(|masks| masks.flatten_from(1)?.to_vec2::<f32>());
        let logits = logits.map_err(Error::model)?;
        let (rows, columns) = self.frame.valid().shape();
        for (((prompt, logits), truth), random) in prompts.iter_mut().zip(&logits).zip(&truths.masks).zip(random) {
            let plane = ArrayView2::from_shape((height, width), logits).map_err(Error::model)?;
            let predicted = RleMask::from_threshold(plane.slice(ndarray::s![..rows, ..columns]), 0.0);
            let point = match correction_point(truth, &predicted, random.bits())? {
                Some(point) => Some(point),
                // Nothing is wrong: a further point inside keeps prompts equally long.
                None => pixel_of(truth, random).map(|(x, y)| middle(x, y, true)),
            };
            if let Some(PointPrompt { x, y, foreground }) = point {
                let (x, y) = self.frame.to_original(x, y);
                prompt.points.push(PointPrompt { x, y, foreground });
            }
        }
        Ok(())
    }
}

/// Of B×M×4h×4w masks those with each prompt's highest predicted IoU, B×4h×4w without gradient.
fn most_promising(masks: &Tensor, iou: &Tensor) -> Result<Tensor> {
    let count = iou.dims().get(1).copied().unwrap_or(1).max(1);
    let ious = values(iou)?;
    let rows = ious.chunks(count).enumerate().map(|(prompt, ious)| {
        let best = (0..count).max_by(|&a, &b| ious[a].total_cmp(&ious[b]).then(b.cmp(&a))).unwrap_or(0);
        (prompt * count + best) as u32
    });
    let rows = Tensor::new(rows.collect::<Vec<_>>(), masks.device()).map_err(Error::model)?;
    masks.detach().flatten_to(1).and_then(|masks| masks.index_select(&rows, 0)).map_err(Error::model)
}
