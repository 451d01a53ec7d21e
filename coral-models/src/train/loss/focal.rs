use candle_core::{DType, Tensor};
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::softmax::{log_softmax, softplus};
use super::targets::{
    check_floating, checked_weights, class_count, class_indices, one_hot, probabilities, where_labeled,
};

/// Options of [`focal_loss`]; the default is the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FocalConfig {
    /// The weight of positive targets, 0..=1; negative ones get the rest. 1 for both when absent.
    pub alpha: Option<f64>,
    /// How strongly targets that are predicted well are left out; 0 gives binary cross-entropy.
    pub gamma: f64,
}

impl Default for FocalConfig {
    fn default() -> Self {
        Self { alpha: Some(0.25), gamma: 2.0 }
    }
}

fn check_gamma(gamma: f64) -> Result<()> {
    if gamma.is_finite() && gamma >= 0.0 {
        return Ok(());
    }
    Err(Error::parameter("gamma", format!("expected a number of at least 0, got {gamma}")))
}

/// Mean focal loss between the sigmoid of `logits` and `targets` of 0 and 1 in the same shape, as a scalar tensor; right,
/// with its gradient, for logits of any size.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the shapes differ, [`Error::InvalidInput`] when a target is neither 0 nor 1,
/// [`Error::InvalidParameter`] when an option is out of its range.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::{FocalConfig, focal_loss};
/// let logits = Tensor::new(&[0f32], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32], &Device::Cpu)?;
/// let loss = focal_loss(&logits, &targets, &FocalConfig::default())?.to_scalar::<f32>()?;
/// assert!((loss - 0.25 * 0.5f32.powi(2) * 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017; torchvision 0.29 `sigmoid_focal_loss`, 1e-6.
pub fn focal_loss(logits: &Tensor, targets: &Tensor, config: &FocalConfig) -> Result<Tensor> {
    focal_values(logits, targets, config)?.mean_all().map_err(Error::model)
}

/// The mean focal loss of each of the N masks of N×P logits.
pub(crate) fn focal_per_mask(logits: &Tensor, targets: &Tensor, config: &FocalConfig) -> Result<Tensor> {
    focal_values(logits, targets, config)?.mean(1).map_err(Error::model)
}

/// The focal loss of every value.
fn focal_values(logits: &Tensor, targets: &Tensor, config: &FocalConfig) -> Result<Tensor> {
    check_floating("logits", logits)?;
    check_gamma(config.gamma)?;
    if let Some(alpha) = config.alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
        return Err(Error::parameter("alpha", format!("expected 0 to 1, got {alpha}")));
    }
    let targets = probabilities(logits, targets)?;
    let between = (&targets * targets.affine(-1.0, 1.0).map_err(Error::model)?)
        .and_then(|t| t.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>())
        .map_err(Error::model)?;
    if between > 0.0 {
        return Err(Error::input("targets", "expected only 0 and 1"));
    }
    let loss = || {
        // Towards the target: its probability is σ(z), and (1 − σ(z))^γ = exp(−γ softplus(z)) has a slope everywhere.
        let z = (targets.affine(2.0, -1.0)? * logits)?;
        let focus = (softplus(&z)? * -config.gamma)?.exp()?;
        let loss = (focus * softplus(&z.neg()?)?)?;
        match config.alpha {
            Some(alpha) => loss * targets.affine(2.0 * alpha - 1.0, 1.0 - alpha)?,
            None => Ok(loss),
        }
    };
    loss().map_err(Error::model)
}

/// Focal loss between the softmax of `logits` over classes and class indices, as a scalar tensor: cross-entropy times
/// (1 − p)^`gamma` of the target's probability p, divided by the sum of the samples' class weights.
///
/// Shapes, weights and unlabelled targets are as in [`cross_entropy`](crate::cross_entropy), which `gamma` = 0 gives.
///
/// # Errors
/// As [`cross_entropy`](crate::cross_entropy); [`Error::InvalidParameter`] when `gamma` is negative or not finite.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::focal_cross_entropy;
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[1u8], &Device::Cpu)?;
/// let loss = focal_cross_entropy(&logits, &targets, None, 2.0)?.to_scalar::<f32>()?;
/// assert!((loss - 0.25 * 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, for several classes.
pub fn focal_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    class_weights: Option<&[f32]>,
    gamma: f64,
) -> Result<Tensor> {
    let classes = class_count(logits)?;
    check_gamma(gamma)?;
    let weights = checked_weights(class_weights, classes)?;
    let indices = class_indices(logits, targets)?;
    let total: f64 = indices.iter().filter_map(|&index| weights.get(index as usize)).sum();
    if total <= 0.0 {
        return Err(Error::input("targets", "no labelled sample has a weight, so that a mean loss does not exist"));
    }
    let loss = || {
        let hot = one_hot(&indices, logits)?;
        let logits = where_labeled(&logits.reshape(hot.dims())?, &hot)?;
        let log_probabilities = log_softmax(&logits, 1)?;
        // ln(1 − p) from the other classes' logits, since 1 − p itself vanishes where the target is predicted well.
        let nothing = if logits.dtype() == DType::F16 { -6e4 } else { -1e30 };
        let nothing = logits.ones_like()?.affine(nothing, 0.0)?.detach();
        let others = hot.ne(0.0)?.where_cond(&nothing, &logits)?;
        let largest = others.detach().max_keepdim(1)?;
        let log_others = (others.broadcast_sub(&largest)?.exp()?.sum_keepdim(1)?.log()? + largest)?;
        let log_all = (&logits - &log_probabilities)?.narrow(1, 0, 1)?;
        let focus = ((log_others - log_all)? * gamma)?.exp()?;
        let weights = Tensor::new(weights.as_slice(), logits.device())?.to_dtype(logits.dtype())?;
        let own = (log_probabilities * hot)?.broadcast_mul(&weights.reshape((1, classes, 1))?)?.sum_keepdim(1)?;
        (own * focus)?.sum_all()? * (-1.0 / total)
    };
    loss().map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use crate::{CrossEntropyConfig, cross_entropy};
    use candle_core::Device;

    fn wrapped(loss: Result<Tensor>) -> candle_core::Result<Tensor> {
        loss.map_err(candle_core::Error::wrap)
    }

    fn config(alpha: Option<f64>, gamma: f64) -> FocalConfig {
        FocalConfig { alpha, gamma }
    }

    #[test]
    fn values_are_those_of_torchvision() {
        // torchvision.ops.sigmoid_focal_loss in double precision, reduction="mean".
        let logits = Tensor::new(&[0.0, 1.5, -2.0, 0.7, -0.3, 4.0], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], &Device::Cpu).unwrap();
        for (alpha, gamma, expected) in
            [(Some(0.25), 2.0, 0.2325315893), (None, 2.0, 0.5175711602), (Some(0.6), 0.5, 0.3987647965)]
        {
            let loss = list(&focal_loss(&logits, &targets, &config(alpha, gamma)).unwrap())[0];
            assert!((loss - expected).abs() < 1e-8, "{loss}, expected {expected}");
        }
        // From PyTorch's cross-entropy in double precision: sum(w (1 − p)^γ ce) / sum(w).
        let logits = Tensor::new(&[[1.0, -0.5, 0.25], [0.0, 2.0, -1.0], [-1.5, 0.5, 3.0]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[0u8, 2, 2], &Device::Cpu).unwrap();
        for (gamma, expected) in [(2.0, 1.3030964747), (0.7, 1.4056307448)] {
            let loss = focal_cross_entropy(&logits, &targets, Some(&[0.5, 1.5, 2.0]), gamma);
            assert!((list(&loss.unwrap())[0] - expected).abs() < 1e-8);
        }
    }

    #[test]
    fn gradients_are_right() {
        let targets = Tensor::new(&[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], &Device::Cpu).unwrap();
        for gamma in [0.0, 0.5, 1.0, 2.0] {
            assert_gradient(&random(&[2, 3], 1), |x| wrapped(focal_loss(x, &targets, &config(Some(0.25), gamma))));
            let indices = Tensor::new(&[[[1u8, 0, 255]], [[2, 2, 1]]], &Device::Cpu).unwrap();
            assert_gradient(&random(&[2, 3, 1, 3], 1), |x| {
                wrapped(focal_cross_entropy(x, &indices, Some(&[0.5, 1.5, 2.0]), gamma))
            });
        }
    }

    #[test]
    fn huge_logits_have_finite_losses_and_gradients() {
        for gamma in [0.0, 0.5, 2.0] {
            for x in [-120f32, 0.0, 120.0] {
                let logits = Tensor::new(&[[x, -x]], &Device::Cpu).unwrap();
                let targets = Tensor::new(&[[1f32, 0.0]], &Device::Cpu).unwrap();
                let index = Tensor::new(&[0u8], &Device::Cpu).unwrap();
                let binary = |t: &Tensor| wrapped(focal_loss(t, &targets, &config(None, gamma)));
                let several = |t: &Tensor| wrapped(focal_cross_entropy(t, &index, None, gamma));
                let cost = if x < 0.0 { -x } else { 2f32.ln() * 0.5f32.powf(gamma as f32) * f32::from(x == 0.0) };
                let near = |t: Tensor, expected: f32| (list(&t)[0] as f32 - expected).abs() < 1e-4;
                assert!(near(binary(&logits).unwrap(), cost), "{x} {gamma}");
                assert!(near(several(&logits).unwrap(), if x < 0.0 { 2.0 * cost } else { cost }), "{x} {gamma}");
                assert!(list(&gradient(&logits, binary)).iter().all(|v| v.is_finite()));
                assert!(list(&gradient(&logits, several)).iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn without_focus_it_is_cross_entropy() {
        let logits = random(&[4, 3], 2);
        let targets = Tensor::new(&[2u8, 255, 0, 1], &Device::Cpu).unwrap();
        let weights = vec![0.5, 1.5, 2.0];
        let focal = focal_cross_entropy(&logits, &targets, Some(&weights), 0.0).unwrap();
        let config = CrossEntropyConfig { class_weights: Some(weights), ..CrossEntropyConfig::default() };
        assert!((list(&focal)[0] - list(&cross_entropy(&logits, &targets, &config).unwrap())[0]).abs() < 1e-12);
    }

    #[test]
    fn misfits_are_errors() {
        let logits = random(&[2, 2], 1);
        let ones = logits.ones_like().unwrap();
        assert!(focal_loss(&logits, &(&ones * 0.5).unwrap(), &FocalConfig::default()).is_err());
        assert!(focal_loss(&logits, &ones, &config(Some(1.5), 2.0)).is_err());
        assert!(focal_loss(&logits, &ones, &config(None, -1.0)).is_err());
        let unlabelled = Tensor::new(&[255u8, 255], &Device::Cpu).unwrap();
        assert!(focal_cross_entropy(&logits, &unlabelled, None, 2.0).is_err());
        assert!(focal_cross_entropy(&logits, &unlabelled, None, f64::NAN).is_err());
    }

    #[test]
    fn unlabelled_entries_do_not_count_whatever_they_hold() {
        let logits = |odd: f32| Tensor::new(&[[0.5f32, -0.25], [odd, 1.0]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[1u8, 255], &Device::Cpu).unwrap();
        let run = |logits: &Tensor| {
            let loss = |x: &Tensor| wrapped(focal_cross_entropy(x, &targets, None, 2.0));
            (list(&loss(logits).unwrap()), list(&gradient(logits, loss)))
        };
        let (loss, slopes) = run(&logits(f32::NAN));
        assert_eq!((&loss, &slopes), (&run(&logits(0.0)).0, &run(&logits(0.0)).1));
        assert!(loss[0].is_finite() && slopes[2..] == [0.0, 0.0]);
    }
}
