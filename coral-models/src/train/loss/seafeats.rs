use candle_core::Tensor;
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::cross_entropy::{CrossEntropyConfig, Reduction, cross_entropy};
use super::softmax::softmax;
use super::targets::class_count;

/// Which form of the SeaFeats loss is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum SeafeatsLoss {
    /// Cross-entropy of the logits, divided by the sum of the patches' weights.
    #[default]
    Sound,
    /// What the published program computes: the softmax enters a cross-entropy that applies a softmax again, which caps
    /// the loss and flattens its gradients, and the sum is divided by the number of patches, so that class weights
    /// scale the loss as well.
    Published,
}

/// The loss of patches of photographs against their pseudo-labels, as a scalar tensor.
///
/// `logits` are N×C (patches of all photographs one after the other) or N×C×H×W, `targets` N or N×H×W as in
/// [`cross_entropy`]; unlabelled patches do not count.
///
/// # Errors
/// As [`cross_entropy`].
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::{SeafeatsLoss, seafeats_loss};
/// let logits = Tensor::new(&[[9f32, -9.0], [9.0, -9.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[0u8, 0], &Device::Cpu)?;
/// let sound = seafeats_loss(&logits, &targets, &[1.0, 1.5], SeafeatsLoss::Sound)?;
/// assert!(sound.to_scalar::<f32>()? < 1e-6);
/// let published = seafeats_loss(&logits, &targets, &[1.0, 1.5], SeafeatsLoss::Published)?;
/// assert!((published.to_scalar::<f32>()? - 0.3133).abs() < 1e-4); // its least value for two classes
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Raine et al., *Image Labels Are All You Need for Coarse Seagrass Segmentation*, WACV 2024; the values of the
/// published program within 1e-5, gradients within 1e-6.
pub fn seafeats_loss(logits: &Tensor, targets: &Tensor, class_weights: &[f32], form: SeafeatsLoss) -> Result<Tensor> {
    let weights = Some(class_weights.to_vec());
    let config = CrossEntropyConfig { class_weights: weights, ..CrossEntropyConfig::default() };
    match form {
        SeafeatsLoss::Sound => cross_entropy(logits, targets, &config),
        SeafeatsLoss::Published => {
            class_count(logits)?;
            let probabilities = softmax(logits, 1).map_err(Error::model)?;
            let config = CrossEntropyConfig { reduction: Reduction::SampleMean, ..config };
            cross_entropy(&probabilities, targets, &config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, random};
    use candle_core::Device;

    #[test]
    fn gradients_are_right() {
        let targets = Tensor::new(&[0u8, 3, 255, 1, 2], &Device::Cpu).unwrap();
        for form in [SeafeatsLoss::Sound, SeafeatsLoss::Published] {
            assert_gradient(&random(&[5, 4], 1), |x| {
                seafeats_loss(x, &targets, &[1.0, 1.5, 1.2, 1.2], form).map_err(candle_core::Error::wrap)
            });
        }
    }

    #[test]
    fn misfits_are_errors() {
        let logits = random(&[2, 2], 1);
        let targets = Tensor::new(&[0u8, 1], &Device::Cpu).unwrap();
        for form in [SeafeatsLoss::Sound, SeafeatsLoss::Published] {
            assert!(seafeats_loss(&logits, &targets, &[1.0], form).is_err());
            assert!(seafeats_loss(&logits.get(0).unwrap(), &targets, &[1.0, 1.0], form).is_err());
        }
    }
}
