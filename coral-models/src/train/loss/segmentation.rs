use candle_core::Tensor;
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::cross_entropy::{CrossEntropyConfig, cross_entropy};
use super::dice::{DiceConfig, dice_loss};

/// What a segmenter is trained to make small: a weighted sum of soft Dice loss and cross-entropy. The default is Dice alone,
/// as published in *The Point is the Mask*.
///
/// # Examples
/// ```
/// use coral_models::SegmentationLoss;
/// use coral_models::candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[[[30f32, 0.0]], [[-30.0, 0.0]]]], &Device::Cpu)?; // 1×2×1×2
/// let targets = Tensor::new(&[[[0u8, 255]]], &Device::Cpu)?; // the second pixel is unlabelled
/// let both = SegmentationLoss { cross_entropy_weight: 1.0, ..SegmentationLoss::default() };
/// assert!(both.of(&logits, &targets)?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationLoss {
    /// What the Dice loss counts, at least 0.
    pub dice_weight: f64,
    /// Options of the Dice loss.
    pub dice: DiceConfig,
    /// What the mean cross-entropy of the labelled pixels counts, at least 0.
    pub cross_entropy_weight: f64,
}

impl Default for SegmentationLoss {
    fn default() -> Self {
        Self { dice_weight: 1.0, dice: DiceConfig::default(), cross_entropy_weight: 0.0 }
    }
}

impl SegmentationLoss {
    /// Checks that there is something to make small.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when a weight is negative or no number, or both are 0.
    pub fn validate(&self) -> Result<()> {
        let weights = [("dice_weight", self.dice_weight), ("cross_entropy_weight", self.cross_entropy_weight)];
        match weights.into_iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) {
            Some((name, weight)) => Err(Error::parameter(name, format!("expected at least 0, got {weight}"))),
            None if weights.iter().all(|(_, weight)| *weight == 0.0) => {
                Err(Error::parameter("dice_weight", "expected a weight of Dice or cross-entropy above 0, both are 0"))
            }
            None => Ok(()),
        }
    }

    /// The loss of N×C×H×W logits with N×H×W class indices, as a scalar tensor. Pixels of
    /// [`UNLABELED`](coral_core::UNLABELED) do not count.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate), [`dice_loss`](crate::dice_loss) and
    /// [`cross_entropy`](crate::cross_entropy).
    pub fn of(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.validate()?;
        let scaled = |loss: Tensor, weight: f64| if weight == 1.0 { Ok(loss) } else { loss * weight };
        let dice = || scaled(dice_loss(logits, targets, &self.dice)?, self.dice_weight).map_err(Error::model);
        let entropy = || {
            let loss = cross_entropy(logits, targets, &CrossEntropyConfig::default())?;
            scaled(loss, self.cross_entropy_weight).map_err(Error::model)
        };
        match (self.dice_weight > 0.0, self.cross_entropy_weight > 0.0) {
            (true, false) => dice(),
            (false, _) => entropy(),
            (true, true) => (dice()? + entropy()?).map_err(Error::model),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, list, random};
    use candle_core::Device;

    fn targets() -> Tensor {
        Tensor::new(&[[[0u8, 2, 255], [1, 1, 0]]], &Device::Cpu).unwrap()
    }

    #[test]
    fn the_parts_add_up() {
        let logits = random(&[1, 3, 2, 3], 1);
        let of = |dice_weight, cross_entropy_weight| {
            let loss = SegmentationLoss { dice_weight, cross_entropy_weight, ..SegmentationLoss::default() };
            list(&loss.of(&logits, &targets()).unwrap())[0]
        };
        let dice = list(&dice_loss(&logits, &targets(), &DiceConfig::default()).unwrap())[0];
        let entropy = list(&cross_entropy(&logits, &targets(), &CrossEntropyConfig::default()).unwrap())[0];
        assert_eq!((of(1.0, 0.0), of(0.0, 1.0)), (dice, entropy));
        assert!((of(0.5, 2.0) - 0.5 * dice - 2.0 * entropy).abs() < 1e-12);
        let both = SegmentationLoss { cross_entropy_weight: 0.5, ..SegmentationLoss::default() };
        assert_gradient(&logits, |x| both.of(x, &targets()).map_err(candle_core::Error::wrap));
    }

    #[test]
    fn weights_that_make_no_loss_are_errors() {
        let logits = random(&[1, 3, 2, 3], 1);
        for weights in [[0.0, 0.0], [-1.0, 1.0], [1.0, f64::NAN], [f64::INFINITY, 0.0]] {
            let [dice_weight, cross_entropy_weight] = weights;
            let loss = SegmentationLoss { dice_weight, cross_entropy_weight, ..SegmentationLoss::default() };
            assert!(matches!(loss.of(&logits, &targets()), Err(Error::InvalidParameter { .. })), "{weights:?}");
        }
    }
}
