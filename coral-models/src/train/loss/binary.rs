use candle_core::{Device, Tensor};
use coral_core::{Error, Result};

use super::softmax::softplus;
use super::targets::{check_floating, check_like, probabilities};

/// Mean binary cross-entropy between the sigmoid of `logits` and `targets` of 0..=1, as a scalar tensor; right, with its
/// gradient, for logits of any size.
///
/// Both tensors have the same shape. `positive_weights` multiply the positive part of the loss (rare classes get more
/// than 1): one for everything, or one per class along dimension 1. No gradient flows to the targets.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the shapes or the number of weights differ, [`Error::InvalidInput`] when targets lie
/// outside 0..=1, [`Error::InvalidParameter`] when a weight is negative or not finite.
///
/// # Examples
/// ```
/// use coral_models::bce_with_logits;
/// use coral_models::candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[0f32, 120.0, -120.0, -120.0], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 1.0, 0.0, 1.0], &Device::Cpu)?;
/// let loss = bce_with_logits(&logits, &targets, None)?.to_scalar::<f32>()?;
/// assert!((loss - (2f32.ln() + 120.0) / 4.0).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// PyTorch 2.15 `torch.nn.functional.binary_cross_entropy_with_logits`, 1e-6.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor, positive_weights: Option<&[f32]>) -> Result<Tensor> {
    check_floating("logits", logits)?;
    let targets = probabilities(logits, targets)?;
    let weights = positive_weights.map(|weights| broadcast_weights(logits, weights)).transpose()?;
    let loss = || {
        // A positive target costs softplus(−x), a negative one x more than that.
        let positive = match weights {
            Some(weights) => (targets.broadcast_mul(&(weights - 1.0)?)? + 1.0)?,
            None => targets.ones_like()?,
        };
        let negative = (targets.affine(-1.0, 1.0)? * logits)?;
        (negative + (positive * softplus(&logits.neg()?)?)?)?.mean_all()
    };
    loss().map_err(Error::model)
}

/// Weights in a shape that broadcasts over the logits.
fn broadcast_weights(logits: &Tensor, weights: &[f32]) -> Result<Tensor> {
    let mut shape = vec![1; logits.rank()];
    let classes = logits.dims().get(1).copied();
    match shape.get_mut(1) {
        Some(length) if classes == Some(weights.len()) => *length = weights.len(),
        _ if weights.len() == 1 => {}
        _ => {
            let expected = format!("1 or as many as dimension 1 of {:?}", logits.dims());
            return Err(Error::shape("positive_weights", expected, format!("{}", weights.len())));
        }
    }
    if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        let reason = format!("expected finite weights of at least 0, got {bad}");
        return Err(Error::parameter("positive_weights", reason));
    }
    let tensor = Tensor::new(weights, &Device::Cpu).and_then(|w| w.reshape(shape)?.to_dtype(logits.dtype()));
    tensor.and_then(|w| w.to_device(logits.device())).map_err(Error::model)
}

/// The mean square of the differences, as a scalar tensor. No gradient flows to the targets.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the shapes differ or hold no value, [`Error::InvalidInput`] when a type is not floating.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::mse;
/// let predictions = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 4.0], &Device::Cpu)?;
/// assert_eq!(mse(&predictions, &targets)?.to_scalar::<f32>()?, 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn mse(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_floating("predictions", predictions)?;
    check_like("targets", targets, predictions)?;
    let targets = targets.detach().to_dtype(predictions.dtype()).map_err(Error::model)?;
    (predictions - targets).and_then(|d| d.sqr()?.mean_all()).map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use candle_core::DType;

    fn wrapped(loss: Result<Tensor>) -> candle_core::Result<Tensor> {
        loss.map_err(candle_core::Error::wrap)
    }

    fn pair(dtype: DType) -> (Tensor, Tensor) {
        let logits = Tensor::new(&[[0.0, 1.5, -2.0], [0.7, -0.3, 4.0]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[1.0, 0.0, 0.25], [0.0, 1.0, 0.9]], &Device::Cpu).unwrap();
        (logits.to_dtype(dtype).unwrap(), targets)
    }

    #[test]
    fn values_are_those_of_pytorch() {
        // torch.nn.functional.binary_cross_entropy_with_logits in double precision, with pos_weight.
        let (logits, targets) = pair(DType::F64);
        for (weights, expected) in
            [(None, 0.899529948), (Some(&[2.0, 0.5, 3.0][..]), 1.126547187), (Some(&[2.0]), 1.248791509)]
        {
            let loss = list(&bce_with_logits(&logits, &targets, weights).unwrap())[0];
            assert!((loss - expected).abs() < 1e-8, "{loss}, expected {expected}");
        }
        let loss = list(&mse(&logits, &targets).unwrap())[0];
        assert!((loss - 3.350416667).abs() < 1e-8, "{loss}");
    }

    #[test]
    fn gradients_are_right() {
        let targets = pair(DType::F64).1;
        for weights in [None, Some(&[2.0, 0.5, 3.0][..])] {
            assert_gradient(&random(&[2, 3], 1), |x| wrapped(bce_with_logits(x, &targets, weights)));
        }
        assert_gradient(&random(&[2, 3], 1), |x| wrapped(mse(x, &targets)));
    }

    #[test]
    fn huge_logits_have_finite_losses_and_gradients() {
        let scale = list(&random(&[], 99))[0];
        for x in [-120f32, -90.0, 0.0, 90.0, 120.0, 1e30] {
            for target in [0f32, 1.0] {
                let logits = Tensor::new(&[x], &Device::Cpu).unwrap();
                let targets = Tensor::new(&[target], &Device::Cpu).unwrap();
                let expected = (1.0 - target) * x.max(0.0) + target * (-x).max(0.0) + (-x.abs()).exp().ln_1p();
                let loss = bce_with_logits(&logits, &targets, None).unwrap().to_scalar::<f32>().unwrap();
                assert!((loss - expected).abs() <= 1e-6 * expected.max(1.0), "{x} {target}: {loss}");
                let slope = list(&gradient(&logits, |x| wrapped(bce_with_logits(x, &targets, None))))[0] / scale;
                let expected = 1.0 / (1.0 + (-f64::from(x)).exp()) - f64::from(target);
                assert!((slope - expected).abs() < 1e-6, "{x} {target}: {slope}");
            }
        }
    }

    #[test]
    fn misfits_are_errors() {
        let (logits, targets) = pair(DType::F32);
        assert!(bce_with_logits(&logits, &targets.t().unwrap(), None).is_err());
        assert!(bce_with_logits(&logits, &(&targets * 2.0).unwrap(), None).is_err());
        assert!(bce_with_logits(&logits, &targets, Some(&[1.0; 2])).is_err());
        assert!(bce_with_logits(&logits, &targets, Some(&[-1.0])).is_err());
        assert!(mse(&logits, &targets.narrow(0, 0, 1).unwrap()).is_err());
        assert!(
            mse(&Tensor::new(&[1u32], &Device::Cpu).unwrap(), &Tensor::new(&[1u32], &Device::Cpu).unwrap()).is_err()
        );
    }
}
