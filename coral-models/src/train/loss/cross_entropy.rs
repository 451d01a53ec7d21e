use candle_core::{DType, Tensor};
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::softmax::log_softmax;
use super::targets::{checked_weights, class_count, class_indices, expect_sums_of_one, probabilities};
use crate::ops::{IndexTargets, cross_entropy_sum};

/// What the sum over all samples (or pixels) of a batch is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Reduction {
    /// The sum of the samples' class weights, so that the loss does not depend on the weights' size. PyTorch's mean for
    /// class indices. A sample with probabilities weighs the mean, under them, of the classes' weights.
    #[default]
    WeightedMean,
    /// The number of labelled samples, whatever they weigh. PyTorch's mean for probabilities.
    SampleMean,
    /// 1.
    Sum,
}

/// Options of [`cross_entropy`] and [`soft_cross_entropy`]; the default is PyTorch's for class indices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropyConfig {
    /// One weight per class, at least 0; all 1 when absent.
    pub class_weights: Option<Vec<f32>>,
    /// The share of each target that is spread evenly over all classes, 0..=1.
    pub label_smoothing: f64,
    /// What the sum is divided by.
    pub reduction: Reduction,
}

impl CrossEntropyConfig {
    /// The weights of `classes` classes, once everything has been checked.
    fn checked(&self, classes: usize) -> Result<Vec<f64>> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let reason = format!("expected 0 to 1, got {}", self.label_smoothing);
            return Err(Error::parameter("label_smoothing", reason));
        }
        checked_weights(self.class_weights.as_deref(), classes)
    }

    /// One over the divisor, from the samples' summed weight and their number.
    fn scale(&self, weight: f64, samples: usize) -> Result<f64> {
        let divisor = match self.reduction {
            Reduction::WeightedMean => weight,
            Reduction::SampleMean => samples as f64,
            Reduction::Sum => return Ok(1.0),
        };
        if divisor > 0.0 {
            return Ok(1.0 / divisor);
        }
        let what = if samples == 0 { "every sample is unlabelled" } else { "every labelled sample has weight 0" };
        Err(Error::input("targets", format!("{what}, so that a mean loss does not exist")))
    }
}

/// Cross-entropy between the softmax of `logits` over classes and class indices, as a scalar tensor.
///
/// `logits` are N×C or N×C×H×W, `targets` N or N×H×W of u8, u32 or i64; targets of
/// [`UNLABELED`](coral_core::UNLABELED) do not count. A logit that is not a number gives a loss that is none, unless its
/// sample is unlabelled.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when logits and targets do not fit, a target is no class, or a
/// mean is asked of samples that are all unlabelled (PyTorch returns NaN): leave such a batch out.
/// [`Error::InvalidParameter`] when the options do not fit the classes.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::{CrossEntropyConfig, cross_entropy};
/// let logits = Tensor::new(&[[0f32, 0.0], [3.0, 1.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[1u8, 255], &Device::Cpu)?;
/// let loss = cross_entropy(&logits, &targets, &CrossEntropyConfig::default())?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6); // undecided between two classes; the second sample is unlabelled
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// PyTorch 2.15 `torch.nn.functional.cross_entropy`, 1e-6.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, config: &CrossEntropyConfig) -> Result<Tensor> {
    let class_weights = config.checked(class_count(logits)?)?;
    let indices = class_indices(logits, targets)?;
    let weights = indices.iter().filter_map(|&index| class_weights.get(index as usize));
    let scale = config.scale(weights.clone().sum(), weights.count())?;
    let smoothing = config.label_smoothing;
    let targets = IndexTargets { indices, class_weights, smoothing, scale };
    let (batch, classes) = (logits.dims()[0], logits.dims()[1]);
    let entries = logits.elem_count() / (batch * classes);
    let planes = logits.reshape((batch, classes, entries));
    planes.and_then(|planes| cross_entropy_sum(&planes, targets)).map_err(Error::model)
}

/// Cross-entropy between the softmax of `logits` over classes and class probabilities, as a scalar tensor.
///
/// `logits` and `targets` are N×C or N×C×H×W. With [`Reduction::SampleMean`] it equals PyTorch's. No gradient flows to
/// the targets. With targets of 0 and 1 it equals [`cross_entropy`].
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when logits and targets do not fit, the targets of a sample are
/// no probabilities with the sum 1, or the mean has no weight. [`Error::InvalidParameter`] when the options do not fit the
/// classes.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::{CrossEntropyConfig, soft_cross_entropy};
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[0.3f32, 0.7]], &Device::Cpu)?;
/// let loss = soft_cross_entropy(&logits, &targets, &CrossEntropyConfig::default())?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// PyTorch 2.15 `torch.nn.functional.cross_entropy` with class probabilities, 1e-6.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor, config: &CrossEntropyConfig) -> Result<Tensor> {
    let classes = class_count(logits)?;
    let weights = config.checked(classes)?;
    let targets = probabilities(logits, targets)?;
    expect_sums_of_one(&targets)?;
    let samples = logits.elem_count() / classes;
    soft_loss(logits, &targets, (&weights, samples), config)
}

fn soft_loss(
    logits: &Tensor,
    targets: &Tensor,
    (weights, samples): (&[f64], usize),
    config: &CrossEntropyConfig,
) -> Result<Tensor> {
    let loss = || -> candle_core::Result<_> {
        let mut shape = vec![1; logits.rank()];
        shape[1] = weights.len();
        let weights = Tensor::new(weights, logits.device())?.to_dtype(logits.dtype())?.reshape(shape)?;
        let weight = targets.broadcast_mul(&weights)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        let even = config.label_smoothing / weights.elem_count() as f64;
        let smoothed = targets.affine(1.0 - config.label_smoothing, even)?.broadcast_mul(&weights)?;
        Ok(((smoothed * log_softmax(logits, 1)?)?.sum_all()?, weight))
    };
    let (sum, weight) = loss().map_err(Error::model)?;
    (sum * -config.scale(weight, samples)?).map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, list, random};
    use candle_core::Device;

    fn config(weights: &[f32], label_smoothing: f64, reduction: Reduction) -> CrossEntropyConfig {
        CrossEntropyConfig { class_weights: Some(weights.to_vec()), label_smoothing, reduction }
    }

    fn indices(values: &[u8], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn near(loss: Result<Tensor>, expected: f64) {
        let loss = list(&loss.unwrap())[0];
        assert!((loss - expected).abs() < 1e-6, "{loss}, expected {expected}");
    }

    fn wrapped(loss: Result<Tensor>) -> candle_core::Result<Tensor> {
        loss.map_err(candle_core::Error::wrap)
    }

    const WEIGHTS: [f32; 3] = [0.5, 1.5, 2.0];

    /// Logits of the values below.
    fn logits() -> Tensor {
        Tensor::new(&[[1.0, -0.5, 0.25], [0.0, 2.0, -1.0], [-1.5, 0.5, 3.0], [0.75, 0.1, -0.2]], &Device::Cpu).unwrap()
    }

    #[test]
    fn indices_give_the_losses_of_pytorch() {
        // torch.nn.functional.cross_entropy in double precision, ignore_index=255.
        let targets = indices(&[0, 2, 255, 1], &[4]);
        use Reduction::*;
        for (weights, smoothing, reduction, expected) in [
            (&[1.0; 3], 0.0, WeightedMean, 1.664763206),
            (&WEIGHTS, 0.0, WeightedMean, 2.137095424),
            (&WEIGHTS, 0.2, WeightedMean, 2.026378980),
            (&WEIGHTS, 0.2, Sum, 8.105515921),
            (&WEIGHTS, 0.2, SampleMean, 8.105515921 / 3.0),
        ] {
            near(cross_entropy(&logits(), &targets, &config(weights, smoothing, reduction)), expected);
        }
    }

    #[test]
    fn probabilities_give_the_losses_of_pytorch() {
        // torch.nn.functional.cross_entropy in double precision with probabilities.
        let rows = [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8], [0.0, 0.6, 0.4]];
        let targets = Tensor::new(&rows, &Device::Cpu).unwrap();
        near(soft_cross_entropy(&logits(), &targets, &config(&WEIGHTS, 0.0, Reduction::SampleMean)), 1.657467483);
        near(soft_cross_entropy(&logits(), &targets, &config(&WEIGHTS, 0.2, Reduction::SampleMean)), 1.748616873);
    }

    #[test]
    fn probabilities_of_one_are_indices() {
        let labels = [0u8, 2, 1, 1];
        let one_hot = Tensor::from_vec(
            labels.iter().flat_map(|&l| (0..3).map(move |c| f64::from(u8::from(c == l)))).collect(),
            (4, 3),
            &Device::Cpu,
        );
        let one_hot = one_hot.unwrap();
        for reduction in [Reduction::WeightedMean, Reduction::SampleMean, Reduction::Sum] {
            let config = config(&WEIGHTS, 0.1, reduction);
            let hard = cross_entropy(&logits(), &indices(&labels, &[4]), &config).unwrap();
            near(soft_cross_entropy(&logits(), &one_hot, &config), list(&hard)[0]);
        }
    }

    #[test]
    fn gradients_are_right_for_rows_and_maps() {
        let config = config(&WEIGHTS, 0.1, Reduction::WeightedMean);
        let row_targets = indices(&[1, 255, 0], &[3]);
        assert_gradient(&random(&[3, 3], 1), |x| wrapped(cross_entropy(x, &row_targets, &config)));
        let map_targets = indices(&[1, 255, 0, 2, 2, 255, 1, 0, 1, 1, 0, 2], &[2, 3, 2]);
        assert_gradient(&random(&[2, 3, 3, 2], 2), |x| wrapped(cross_entropy(x, &map_targets, &config)));
        let soft = super::super::softmax::softmax(&random(&[2, 3, 3, 2], 3), 1).unwrap();
        assert_gradient(&random(&[2, 3, 3, 2], 2), |x| wrapped(soft_cross_entropy(x, &soft, &config)));
    }

    #[test]
    fn huge_logits_stay_finite() {
        let logits = Tensor::new(&[[3e4f32, -3e4], [3e4, -3e4]], &Device::Cpu).unwrap();
        near(cross_entropy(&logits, &indices(&[0, 1], &[2]), &CrossEntropyConfig::default()), 3e4);
    }

    #[test]
    fn a_mean_over_nothing_is_an_error() {
        let unlabelled = indices(&[255; 4], &[4]);
        let text = |config: &CrossEntropyConfig, targets: &Tensor| {
            cross_entropy(&logits(), targets, config).unwrap_err().to_string()
        };
        let plain = CrossEntropyConfig::default();
        assert!(text(&plain, &unlabelled).contains("every sample is unlabelled"));
        let weightless = config(&[0.0, 1.0, 1.0], 0.0, Reduction::WeightedMean);
        assert!(text(&weightless, &indices(&[0, 0, 255, 0], &[4])).contains("weight 0"));
        let sum = CrossEntropyConfig { reduction: Reduction::Sum, ..plain };
        near(cross_entropy(&logits(), &unlabelled, &sum), 0.0);
        let smooth = CrossEntropyConfig { label_smoothing: 1.5, ..sum };
        assert!(matches!(cross_entropy(&logits(), &unlabelled, &smooth), Err(Error::InvalidParameter { .. })));
    }
}
