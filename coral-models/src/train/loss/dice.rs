use candle_core::{Device, Tensor};
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::softmax::{sigmoid, softmax};
use super::targets::{check_floating, class_count, class_indices, one_hot, probabilities, where_labeled};

/// What a Dice coefficient is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum DiceScope {
    /// Each image by itself; coefficients are averaged.
    #[default]
    Image,
    /// All pixels of the batch, which is steadier where classes are rare.
    Batch,
}

/// Which classes a Dice loss averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum DiceClasses {
    /// All; one that is absent from the targets costs nearly 1 unless its predicted probability vanishes.
    #[default]
    All,
    /// Those in the targets of the image (or batch).
    Present,
}

/// Options of [`dice_loss`]; the default is the published one of *The Point is the Mask*.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiceConfig {
    /// Added to numerator and denominator, at least 0; more than 0 for [`DiceClasses::All`].
    pub smooth: f64,
    /// What a coefficient is taken over.
    pub scope: DiceScope,
    /// What is averaged.
    pub classes: DiceClasses,
}

impl Default for DiceConfig {
    fn default() -> Self {
        Self { smooth: 1e-5, scope: DiceScope::Image, classes: DiceClasses::All }
    }
}

/// One less the mean soft Dice coefficient between the softmax of `logits` over classes and class indices, as a scalar
/// tensor.
///
/// `logits` are N×C×H×W (or N×C), `targets` N×H×W (or N) of u8, u32 or i64. Pixels of
/// [`UNLABELED`](coral_core::UNLABELED) do not count, nor do images without any other.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when logits and targets do not fit, a target is no class, or all
/// are unlabelled; [`Error::InvalidParameter`] when `smooth` is out of its range.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::{DiceConfig, dice_loss};
/// let logits = Tensor::new(&[[[[30f32, -30.0]], [[-30.0, 30.0]]]], &Device::Cpu)?; // 1×2×1×2: class 0, class 1
/// let loss = |targets: [u8; 2]| -> Result<f32, Box<dyn std::error::Error>> {
///     let targets = Tensor::new(&[[targets]], &Device::Cpu)?;
///     Ok(dice_loss(&logits, &targets, &DiceConfig::default())?.to_scalar::<f32>()?)
/// };
/// assert!(loss([0, 1])? < 1e-5);
/// assert!(loss([1, 0])? > 0.999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Milletari et al., *V-Net*, 3DV 2016; the published program of *The Point is the Mask* (ICCV-W 2025), loss within 1e-5,
/// gradients within 1e-6.
pub fn dice_loss(logits: &Tensor, targets: &Tensor, config: &DiceConfig) -> Result<Tensor> {
    let classes = class_count(logits)?;
    let least = if config.classes == DiceClasses::All { f64::MIN_POSITIVE } else { 0.0 };
    if !config.smooth.is_finite() || config.smooth < least {
        let reason = format!("expected a number of at least 0, and more for all classes, got {}", config.smooth);
        return Err(Error::parameter("smooth", reason));
    }
    let indices = class_indices(logits, targets)?;
    let batch = logits.dims()[0];
    let groups = if config.scope == DiceScope::Image { batch } else { 1 };
    let (counts, shares) = occurrences(&indices, (groups, classes), config.classes)?;
    let loss = || {
        let rows = |values: &[f64]| {
            let table = Tensor::from_slice(values, (groups, classes), &Device::Cpu)?;
            table.to_dtype(logits.dtype())?.to_device(logits.device())
        };
        let hot = one_hot(&indices, logits)?;
        let dims = [batch, classes, logits.elem_count() / (batch * classes)];
        let probabilities = softmax(&where_labeled(&logits.reshape(&dims)?, &hot)?, 1)?;
        let group = |per_image: Tensor| match config.scope {
            DiceScope::Image => Ok(per_image),
            DiceScope::Batch => per_image.sum_keepdim(0),
        };
        let overlap = group((&probabilities * &hot)?.sum(2)?)?;
        let predicted = group(probabilities.broadcast_mul(&hot.sum_keepdim(1)?)?.sum(2)?)?;
        let sums = ((predicted + rows(&counts)?)? + config.smooth)?;
        let missed = ((overlap * -2.0)? - config.smooth)?.div(&sums)?.affine(1.0, 1.0)?;
        (missed * rows(&shares)?)?.sum_all()
    };
    loss().map_err(Error::model)
}

/// How often each class occurs in each group of entries, and the share of each coefficient in the mean.
fn occurrences(indices: &[u32], (groups, classes): (usize, usize), which: DiceClasses) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut counts = vec![0f64; groups * classes];
    let mut shares = counts.clone();
    let rows = counts.chunks_mut(classes).zip(shares.chunks_mut(classes));
    for (entries, (counts, shares)) in indices.chunks(indices.len() / groups).zip(rows) {
        for &index in entries {
            if let Some(count) = counts.get_mut(index as usize) {
                *count += 1.0;
            }
        }
        let labelled = counts.iter().any(|&count| count > 0.0);
        for (share, &count) in shares.iter_mut().zip(counts.iter()) {
            let counted = if which == DiceClasses::All { labelled } else { count > 0.0 };
            *share = f64::from(u8::from(counted));
        }
    }
    let total: f64 = shares.iter().sum();
    if total == 0.0 {
        return Err(Error::input("targets", "every pixel is unlabelled, so that a mean loss does not exist"));
    }
    shares.iter_mut().for_each(|share| *share /= total);
    Ok((counts, shares))
}

/// One less the soft Dice coefficient between the sigmoid of `logits` and `targets` of 0..=1, averaged over the N masks
/// of N×… tensors, as a scalar tensor. Segment Anything and CoralSCOP take `smooth` = 1.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the shapes differ, [`Error::InvalidInput`] when targets lie outside 0..=1,
/// [`Error::InvalidParameter`] unless `smooth` is positive and finite.
///
/// # Examples
/// ```
/// use coral_models::binary_dice_loss;
/// use coral_models::candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[30f32, -30.0, 30.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 0.0, 0.0]], &Device::Cpu)?;
/// let loss = binary_dice_loss(&logits, &targets, 1.0)?.to_scalar::<f32>()?;
/// assert!((loss - 0.25).abs() < 1e-6); // 1 − (2 · 1 + 1) / (2 + 1 + 1)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn binary_dice_loss(logits: &Tensor, targets: &Tensor, smooth: f64) -> Result<Tensor> {
    dice_per_mask(logits, targets, smooth)?.mean_all().map_err(Error::model)
}

/// [`binary_dice_loss`] of each of the N masks.
pub(crate) fn dice_per_mask(logits: &Tensor, targets: &Tensor, smooth: f64) -> Result<Tensor> {
    check_floating("logits", logits)?;
    let targets = probabilities(logits, targets)?;
    if !smooth.is_finite() || smooth <= 0.0 {
        return Err(Error::parameter("smooth", format!("expected a positive number, got {smooth}")));
    }
    let masks = logits.dims().first().copied().unwrap_or(1);
    let loss = || {
        let flat = |t: &Tensor| t.reshape((masks, logits.elem_count() / masks));
        let (inside, targets) = (sigmoid(&flat(logits)?)?, flat(&targets)?);
        let overlap = (&inside * &targets)?.sum(1)?.affine(2.0, smooth)?;
        let sums = ((inside.sum(1)? + targets.sum(1)?)? + smooth)?;
        (overlap / sums)?.affine(-1.0, 1.0)
    };
    loss().map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use candle_core::DType;

    fn config(smooth: f64, scope: DiceScope, classes: DiceClasses) -> DiceConfig {
        DiceConfig { smooth, scope, classes }
    }

    /// 2×2×3 labels of three classes and unlabelled pixels; class 2 occurs in the first image only.
    fn targets() -> Tensor {
        Tensor::new(&[[[0u8, 1, 2], [2, 255, 1]], [[1, 1, 0], [0, 255, 255]]], &Device::Cpu).unwrap()
    }

    fn wrapped(loss: Result<Tensor>) -> candle_core::Result<Tensor> {
        loss.map_err(candle_core::Error::wrap)
    }

    const ALL_FOUR: [(DiceScope, DiceClasses); 4] = [
        (DiceScope::Image, DiceClasses::All),
        (DiceScope::Image, DiceClasses::Present),
        (DiceScope::Batch, DiceClasses::All),
        (DiceScope::Batch, DiceClasses::Present),
    ];

    #[test]
    fn values_are_those_of_the_definition() {
        let logits = random(&[2, 4, 2, 3], 5);
        let flat = |t: &Tensor| t.reshape((2, 4, 6)).unwrap().to_vec3::<f64>().unwrap();
        let probabilities = flat(&softmax(&logits, 1).unwrap());
        let at = |image: usize, class: usize, pixel: usize| probabilities[image][class][pixel];
        let labels = targets().reshape((2, 6)).unwrap().to_vec2::<u8>().unwrap();
        for (scope, classes) in ALL_FOUR {
            let groups: &[&[usize]] = if scope == DiceScope::Image { &[&[0], &[1]] } else { &[&[0, 1]] };
            let (mut sum, mut count) = (0.0, 0);
            for images in groups {
                for class in 0..4 {
                    let (mut overlap, mut predicted, mut truth) = (0.0, 0.0, 0.0);
                    for &image in *images {
                        for (pixel, &label) in labels[image].iter().enumerate().filter(|(_, label)| **label != 255) {
                            let p = at(image, class, pixel);
                            predicted += p;
                            if usize::from(label) == class {
                                (overlap, truth) = (overlap + p, truth + 1.0);
                            }
                        }
                    }
                    if classes == DiceClasses::All || truth > 0.0 {
                        sum += 1.0 - (2.0 * overlap + 0.1) / (predicted + truth + 0.1);
                        count += 1;
                    }
                }
            }
            let loss = list(&dice_loss(&logits, &targets(), &config(0.1, scope, classes)).unwrap())[0];
            assert!((loss - sum / f64::from(count)).abs() < 1e-12, "{scope:?} {classes:?}");
        }
    }

    #[test]
    fn gradients_are_right() {
        for (scope, classes) in ALL_FOUR {
            assert_gradient(&random(&[2, 4, 2, 3], 1), |x| {
                wrapped(dice_loss(x, &targets(), &config(1e-5, scope, classes)))
            });
        }
        let masks = softmax(&random(&[3, 2, 4], 3), 1).unwrap();
        assert_gradient(&random(&[3, 2, 4], 1), |x| wrapped(binary_dice_loss(x, &masks, 1.0)));
    }

    #[test]
    fn images_without_labels_do_not_count() {
        let logits = random(&[2, 3, 1, 2], 1);
        let half = Tensor::new(&[[[0u8, 1]], [[255, 255]]], &Device::Cpu).unwrap();
        for (scope, classes) in ALL_FOUR {
            let config = config(1e-5, scope, classes);
            let both = list(&dice_loss(&logits, &half, &config).unwrap())[0];
            let first = |t: &Tensor| t.narrow(0, 0, 1).unwrap();
            let alone = list(&dice_loss(&first(&logits), &first(&half), &config).unwrap())[0];
            assert!((both - alone).abs() < 1e-12);
            let none = half.ones_like().unwrap().affine(255.0, 0.0).unwrap();
            assert!(dice_loss(&logits, &none, &config).unwrap_err().to_string().contains("unlabelled"));
        }
    }

    #[test]
    fn misfits_are_errors() {
        let logits = random(&[2, 4, 2, 3], 1);
        let with = |smooth, classes| dice_loss(&logits, &targets(), &config(smooth, DiceScope::Image, classes));
        assert!(with(0.0, DiceClasses::Present).is_ok());
        assert!(with(0.0, DiceClasses::All).is_err() && with(f64::NAN, DiceClasses::Present).is_err());
        let ones = logits.ones_like().unwrap();
        assert!(binary_dice_loss(&logits, &ones, 0.0).is_err());
        assert!(binary_dice_loss(&logits, &ones.to_dtype(DType::U8).unwrap(), 1.0).is_ok());
        assert!(binary_dice_loss(&logits, &targets(), 1.0).is_err());
    }

    #[test]
    fn unlabelled_pixels_do_not_count_whatever_they_hold() {
        let logits = |odd: f64| Tensor::new(&[[[[0.5, odd, 1.0]], [[0.25, 1.0, -1.0]]]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[[1u8, 255, 0]]], &Device::Cpu).unwrap();
        let run = |logits: &Tensor| {
            let loss = |x: &Tensor| dice_loss(x, &targets, &DiceConfig::default()).map_err(candle_core::Error::wrap);
            (list(&loss(logits).unwrap()), list(&gradient(logits, loss)))
        };
        let (loss, slopes) = run(&logits(f64::NAN));
        assert_eq!((&loss, &slopes), (&run(&logits(0.0)).0, &run(&logits(0.0)).1));
        assert!(loss[0].is_finite() && slopes[1] == 0.0 && slopes[4] == 0.0);
    }
}
