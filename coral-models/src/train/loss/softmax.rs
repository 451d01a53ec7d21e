use candle_core::{Result, Tensor};

/// Logarithms of the softmax over `dim`. candle's own fused softmax passes no gradient.
pub(crate) fn log_softmax(logits: &Tensor, dim: usize) -> Result<Tensor> {
    // The maximum only shifts; its gradient cancels.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(dim)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(dim)?.log()?)
}

/// The softmax over `dim`.
pub(crate) fn softmax(logits: &Tensor, dim: usize) -> Result<Tensor> {
    let powers = logits.broadcast_sub(&logits.detach().max_keepdim(dim)?)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(dim)?)
}

/// ln(1 + eˣ), stable for any x; its gradient is the sigmoid, also at 0.
pub(crate) fn softplus(x: &Tensor) -> Result<Tensor> {
    // candle's slope of max(x, 0) at 0 is 1; half of x + |x| gives the right sum with any slope of |x| there.
    let magnitude = x.abs()?;
    ((x + &magnitude)? * 0.5)? + (magnitude.neg()?.exp()? + 1.0)?.log()?
}

/// 1 / (1 + e⁻ˣ), stable for any x.
pub(crate) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use candle_core::Device;

    #[test]
    fn gradients_are_right() {
        let x = random(&[3, 5, 2], 1);
        for dim in 0..3 {
            assert_gradient(&x, |x| softmax(x, dim));
            assert_gradient(&x, |x| log_softmax(x, dim));
        }
        assert_gradient(&(&x * 4.0).unwrap(), softplus);
        assert_gradient(&(x * 4.0).unwrap(), sigmoid);
    }

    #[test]
    fn large_values_stay_finite() {
        let x = Tensor::new(&[[-3e4f32, 3e4], [0.0, 0.0]], &Device::Cpu).unwrap();
        assert_eq!(list(&softmax(&x, 1).unwrap()), [0.0, 1.0, 0.5, 0.5]);
        assert_eq!(list(&log_softmax(&x, 1).unwrap())[..2], [-6e4, 0.0]);
        assert_eq!(list(&softplus(&x).unwrap())[..2], [0.0, 3e4]);
        assert_eq!(list(&sigmoid(&x).unwrap()), [0.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn the_slope_of_softplus_at_zero_is_one_half() {
        let zero = Tensor::new(&[0f64], &Device::Cpu).unwrap();
        let weight = list(&random(&[1], 99))[0];
        assert_eq!(list(&gradient(&zero, softplus))[0], 0.5 * weight);
    }
}
