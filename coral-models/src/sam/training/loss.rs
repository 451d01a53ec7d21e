use candle_core::{Device, Tensor};
use coral_core::{ClassId, Error, Result, RleMask, Size, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::train::{dice_per_mask, focal_per_mask};
use crate::{CrossEntropyConfig, FocalConfig, Reduction, cross_entropy};

/// What a training of a network of the Segment Anything family lowers.
///
/// The weights of the masks' losses are Segment Anything's. CoralSCOP's authors publish neither theirs nor that of the
/// classes; the default is 1.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023, appendix A; Zheng et al., *CoralSCOP*, CVPR 2024.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamLoss {
    /// Weight of the focal loss of the masks' pixels.
    pub focal_weight: f64,
    /// Weight of the Dice loss of the masks.
    pub dice_weight: f64,
    /// Weight of the square error of the predicted IoUs.
    pub iou_weight: f64,
    /// Weight of the cross-entropy of the masks' classes.
    pub semantic_weight: f64,
    /// The focal loss.
    pub focal: FocalConfig,
    /// What Dice adds to numerator and denominator.
    pub dice_smooth: f64,
    /// Whether all masks that a prompt gets learn to predict their IoU, or only the one whose pixels are trained. The
    /// published text leaves it open; all of them are compared when a mask is chosen.
    pub iou_of_all: bool,
    /// Whether all masks that a prompt gets learn the class, or only the one whose pixels are trained.
    pub semantic_of_all: bool,
    /// Whether pixels and IoU count of masks of the background, CoralSCOP's negatives, and of the empty masks of sentences that
    /// name nothing in the image; their class always does.
    pub background_masks: bool,
    /// Weights of the classes; all 1 when absent. The mean over masks is over their number, not over the sum of their weights,
    /// so that the share of the cross-entropy in the loss does not depend on which classes were drawn.
    pub class_weights: Option<Vec<f32>>,
    /// The share of each class that is spread over all.
    pub label_smoothing: f64,
}

impl Default for SamLoss {
    fn default() -> Self {
        Self {
            focal_weight: 20.0,
            dice_weight: 1.0,
            iou_weight: 1.0,
            semantic_weight: 1.0,
            focal: FocalConfig::default(),
            dice_smooth: 1.0,
            iou_of_all: true,
            semantic_of_all: false,
            background_masks: true,
            class_weights: None,
            label_smoothing: 0.0,
        }
    }
}

impl SamLoss {
    /// Checks all fields for a network that tells so many classes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] or [`Error::ShapeMismatch`] naming the field.
    pub fn validate(&self, classes: usize) -> Result<()> {
        let weights = [
            ("focal_weight", self.focal_weight),
            ("dice_weight", self.dice_weight),
            ("iou_weight", self.iou_weight),
            ("semantic_weight", self.semantic_weight),
            ("focal.gamma", self.focal.gamma),
            ("dice_smooth", self.dice_smooth),
        ];
        let fault = |name: &str, expected: &str, value: f64| {
            Err(Error::parameter(format!("loss.{name}"), format!("expected {expected}, got {value}")))
        };
        if let Some((name, value)) = weights.into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            return fault(name, "a number of at least 0", value);
        }
        let shares = [("focal.alpha", self.focal.alpha.unwrap_or(1.0)), ("label_smoothing", self.label_smoothing)];
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return fault(name, "0 to 1", value);
        }
        let Some(weights) = self.class_weights.as_ref().filter(|_| classes > 0) else { return Ok(()) };
        if weights.len() != classes {
            return Err(Error::shape("loss.class_weights", format!("{classes} classes"), format!("{}", weights.len())));
        }
        match weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
            Some(&weight) => fault("class_weights", "numbers of at least 0", f64::from(weight)),
            None => Ok(()),
        }
    }

    /// Cross-entropy of N×K logits, times its weight and `share`, and the same without both; `None` when no class is known.
    pub(super) fn of_classes(&self, logits: &Tensor, classes: &[ClassId], share: f64) -> Result<Option<(Tensor, f64)>> {
        if self.semantic_weight == 0.0 || classes.iter().all(|&class| class == UNLABELED) {
            return Ok(None);
        }
        let config = CrossEntropyConfig {
            class_weights: self.class_weights.clone(),
            label_smoothing: self.label_smoothing,
            reduction: Reduction::Sum,
        };
        let classes = Tensor::new(classes, &Device::Cpu).map_err(Error::model)?;
        let sum = cross_entropy(logits, &classes, &config)?;
        let value = number(&sum)?;
        Ok(Some(((sum * (self.semantic_weight * share)).map_err(Error::model)?, value)))
    }
}

/// The parts of a loss before they are weighted, summed over masks, and how many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PartSums {
    pub(crate) focal: f64,
    pub(crate) dice: f64,
    pub(crate) iou: f64,
    pub(crate) masks: usize,
    pub(crate) semantic: f64,
    pub(crate) labeled: usize,
}

impl PartSums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.focal += other.focal;
        self.dice += other.dice;
        self.iou += other.iou;
        self.masks += other.masks;
        self.semantic += other.semantic;
        self.labeled += other.labeled;
    }
}

/// What B prompts ask for.
#[derive(Debug, Clone)]
pub(crate) struct Truths {
    /// At low resolution, without padding.
    pub(crate) masks: Vec<RleMask>,
    /// [`UNLABELED`] where the class is not known.
    pub(crate) classes: Vec<ClassId>,
    /// Whether pixels and IoU count.
    pub(crate) counted: Vec<bool>,
}

/// How much a mask of an image weighs in the image's loss.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) mask: f64,
    pub(crate) class: f64,
}

/// The loss of B prompts' masks, in parts.
#[derive(Debug, Clone)]
pub(crate) struct RoundLoss {
    /// Weighted; `None` when nothing counts.
    pub(crate) loss: Option<Tensor>,
    pub(crate) sums: PartSums,
}

impl RoundLoss {
    pub(crate) fn add(&mut self, part: Tensor) -> Result<()> {
        let sum = match self.loss.take() {
            Some(former) => (former + part).map_err(Error::model)?,
            None => part,
        };
        self.loss = Some(sum);
        Ok(())
    }
}

/// B×M masks against the truth of each of the B prompts.
pub(crate) struct MaskJudge<'a> {
    pub(crate) config: &'a SamLoss,
    pub(crate) truths: &'a Truths,
    /// (B·M)×P logits, without padding.
    logits: Tensor,
    /// B×P, 0 or 1.
    targets: Tensor,
    /// M.
    per_prompt: usize,
    /// Of each prompt's masks the one that is trained.
    pub(crate) best: Vec<usize>,
}

impl<'a> MaskJudge<'a> {
    /// Takes B×M×4h×4w logits and finds each prompt's mask of the least loss.
    pub(crate) fn new(config: &'a SamLoss, truths: &'a Truths, low_res: &Tensor) -> Result<Self> {
        let valid = truths.masks.first().map_or(Size { width: 0, height: 0 }, RleMask::size);
        let (batch, per_prompt, ..) = low_res.dims4().map_err(Error::model)?;
        let logits = without_padding(low_res, valid).map_err(Error::model)?;
        let inside: Vec<u8> = truths.masks.iter().flat_map(|mask| mask.decode().mapv(u8::from)).collect();
        let targets = Tensor::from_vec(inside, (batch, valid.pixels()), logits.device());
        let targets = targets.and_then(|targets| targets.to_dtype(logits.dtype())).map_err(Error::model)?;
        let mut judge = Self { config, truths, logits, targets, per_prompt, best: vec![0; batch] };
        if per_prompt > 1 {
            judge.best = judge.least_costly()?;
        }
        Ok(judge)
    }

    fn least_costly(&self) -> Result<Vec<usize>> {
        let (masks, pixels) = self.logits.dims2().map_err(Error::model)?;
        let (batch, count) = (masks / self.per_prompt, self.per_prompt);
        let targets = self.targets.unsqueeze(1).and_then(|t| t.broadcast_as((batch, count, pixels)));
        let targets = targets.and_then(|t| t.reshape((masks, pixels))).map_err(Error::model)?;
        let [focal, dice] = self.losses(&self.logits.detach(), &targets)?.map(|loss| values(&loss));
        let (focal, dice) = (focal?, dice?);
        let cost = |at: usize| self.config.focal_weight * focal[at] + self.config.dice_weight * dice[at];
        let best = |prompt: usize| {
            let places = prompt * count..(prompt + 1) * count;
            places.min_by(|&a, &b| cost(a).total_cmp(&cost(b))).map_or(0, |at| at - prompt * count)
        };
        Ok((0..batch).map(best).collect())
    }

    fn losses(&self, logits: &Tensor, targets: &Tensor) -> Result<[Tensor; 2]> {
        let focal = focal_per_mask(logits, targets, &self.config.focal)?;
        Ok([focal, dice_per_mask(logits, targets, self.config.dice_smooth)?])
    }

    /// Focal and Dice loss of the masks that are trained, and the error of their IoU, B×M as predicted.
    pub(crate) fn loss(&self, iou: &Tensor, share: f64, into: &mut RoundLoss) -> Result<()> {
        let counted = &self.truths.counted;
        if !counted.contains(&true) {
            return Ok(());
        }
        let compute = || -> candle_core::Result<_> {
            let logits = self.logits.index_select(&self.rows()?, 0)?;
            let [focal, dice] = self.losses(&logits, &self.targets).map_err(candle_core::Error::wrap)?;
            let weights: Vec<f64> = counted.iter().map(|&counted| f64::from(u8::from(counted))).collect();
            let weights = Tensor::new(weights, logits.device())?.to_dtype(logits.dtype())?;
            let sum = |values: &Tensor| (values * &weights)?.sum_all();
            let error = (iou - self.true_iou()?.to_dtype(iou.dtype())?)?.sqr()?;
            let error = match self.config.iou_of_all {
                true => error.mean(1)?,
                false => error.flatten_all()?.index_select(&self.rows()?, 0)?,
            };
            Ok([sum(&focal)?, sum(&dice)?, sum(&error)?])
        };
        let [focal, dice, error] = compute().map_err(Error::model)?;
        into.sums.focal += number(&focal)?;
        into.sums.dice += number(&dice)?;
        into.sums.iou += number(&error)?;
        into.sums.masks += counted.iter().filter(|&&counted| counted).count();
        let config = self.config;
        let weighted = || {
            let masks = ((focal * config.focal_weight)? + (dice * config.dice_weight)?)?;
            (masks + (error * config.iou_weight)?)? * share
        };
        into.add(weighted().map_err(Error::model)?)
    }

    /// The rows of the masks that are trained.
    fn rows(&self) -> candle_core::Result<Tensor> {
        let rows = self.best.iter().enumerate().map(|(prompt, best)| (prompt * self.per_prompt + best) as u32);
        Tensor::from_vec(rows.collect::<Vec<_>>(), self.best.len(), self.logits.device())
    }

    /// B×M IoUs of the masks' positive pixels with the truth.
    fn true_iou(&self) -> candle_core::Result<Tensor> {
        let inside = self.logits.detach().gt(0.0)?.to_vec2::<u8>()?;
        let truths = self.targets.gt(0.5)?.to_vec2::<u8>()?;
        let iou = |(row, inside): (usize, &Vec<u8>)| {
            let truth = &truths[row / self.per_prompt];
            let both: u32 = inside.iter().zip(truth).map(|(&a, &b)| u32::from(a & b)).sum();
            let either: u32 = inside.iter().zip(truth).map(|(&a, &b)| u32::from(a | b)).sum();
            f64::from(both) / f64::from(either.max(1))
        };
        let ious: Vec<f64> = inside.iter().enumerate().map(iou).collect();
        Tensor::from_vec(ious, (truths.len(), self.per_prompt), self.logits.device())
    }
}

/// The pixels of B×M×4h×4w masks that show the photograph, (B·M)×P.
fn without_padding(masks: &Tensor, valid: Size) -> candle_core::Result<Tensor> {
    let (batch, count, ..) = masks.dims4()?;
    let (rows, columns) = valid.shape();
    masks.narrow(2, 0, rows)?.narrow(3, 0, columns)?.contiguous()?.reshape((batch * count, rows * columns))
}

/// The values of a tensor of any floating type.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.detach().flatten_all().and_then(|flat| flat.to_dtype(candle_core::DType::F64)?.to_vec1());
    flat.map_err(Error::model)
}

fn number(tensor: &Tensor) -> Result<f64> {
    Ok(values(tensor)?.first().copied().unwrap_or_default())
}
