use candle_core::Tensor;
use candle_nn::VarBuilder;
use coral_core::{Error, Result, SeededRng};
use serde::{Deserialize, Serialize};

use crate::layers::{BatchNorm, Linear, drop_values};
use crate::weights::lacking;
use crate::{Checkpoint, Mode, ops};

/// The shape of a [`MultiLabelHead`].
///
/// # Examples
/// ```
/// use coral_models::MultiLabelHeadConfig;
/// // On the class token and the mean patch token of ViT-L: DinoVdeau's own.
/// assert_eq!(MultiLabelHeadConfig::new(2048, 31).hidden, [1024, 512]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelHeadConfig {
    /// Values per sample.
    pub inputs: usize,
    /// Widths of the hidden layers.
    pub hidden: [usize; 2],
    /// Classes, C.
    pub classes: usize,
    /// Share of the hidden values that are dropped in training, 0 to below 1 (0.5).
    pub dropout: f64,
}

/// Largest width, and most classes.
const LARGEST: usize = 1 << 16;

impl MultiLabelHeadConfig {
    /// Half and a quarter of the inputs, and half of the values dropped, as published.
    pub fn new(inputs: usize, classes: usize) -> Self {
        Self { inputs, hidden: [(inputs / 2).max(1), (inputs / 4).max(1)], classes, dropout: 0.5 }
    }

    /// Reads the widths off a checkpoint that holds a head under DinoVdeau's names (`classifier.0.weight`, …).
    ///
    /// # Errors
    /// [`Error::Weights`] when it holds none, [`Error::Format`] when the widths are impossible.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let names = LINEAR.map(|index| format!("{CLASSIFIER}.{index}.weight"));
        let [first, second, last] = names.each_ref().map(|name| checkpoint.shape(name));
        let (Some(&[hidden, inputs]), Some(&[second, _]), Some(&[classes, _])) = (first, second, last) else {
            return Err(lacking(checkpoint, &names.each_ref().map(String::as_str)));
        };
        let config = Self { inputs, hidden: [hidden, second], classes, dropout: 0.5 };
        config.validate().map_err(|error| Error::format(checkpoint.path(), None, error.to_string()))?;
        Ok(config)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let [first, second] = self.hidden;
        let widths = [("inputs", self.inputs), ("hidden", first), ("hidden", second), ("classes", self.classes)];
        if let Some((name, width)) = widths.into_iter().find(|(_, width)| !(1..=LARGEST).contains(width)) {
            return Err(Error::parameter(name, format!("expected 1 to {LARGEST}, got {width}")));
        }
        match (0.0..1.0).contains(&self.dropout) {
            true => Ok(()),
            false => Err(Error::parameter("dropout", format!("expected 0 to below 1, got {}", self.dropout))),
        }
    }
}

/// What stands before the numbers of the layers.
pub(super) const CLASSIFIER: &str = "classifier";
/// Numbers of the linear layers.
const LINEAR: [usize; 3] = [0, 4, 8];
/// Numbers of the normalisations; those between belong to ReLU and dropout, which have no weights.
const NORMS: [usize; 2] = [2, 6];

/// A head for several labels per sample: twice a linear layer, ReLU, batch normalisation and dropout, then a linear
/// layer to a logit per class.
///
/// It works on tensors; [`FrameHead`](crate::FrameHead) wraps it for features of photographs.
///
/// # References
/// SeatizenDOI/DinoVdeau, `create_head`; logits agree within 2e-5, gradients of training within 1e-6.
#[derive(Debug, Clone)]
pub struct MultiLabelHead {
    config: MultiLabelHeadConfig,
    hidden: [(Linear, BatchNorm); 2],
    classes: Linear,
}

impl MultiLabelHead {
    /// Builds the head on the weights `classifier.0` to `classifier.8` that `vb` gives.
    ///
    /// # Errors
    /// When the configuration is impossible or a weight is missing.
    pub fn new(config: MultiLabelHeadConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let vb = vb.pp(CLASSIFIER);
        let MultiLabelHeadConfig { inputs, hidden: [first, second], classes, .. } = config;
        let layer = |index: usize, inner: usize, out: usize| -> candle_core::Result<(Linear, BatchNorm)> {
            Ok((Linear::new(inner, out, &vb.pp(LINEAR[index]))?, BatchNorm::new(out, &vb.pp(NORMS[index]))?))
        };
        let hidden = [layer(0, inputs, first)?, layer(1, first, second)?];
        Ok(Self { config, hidden, classes: Linear::new(second, classes, &vb.pp(LINEAR[2]))? })
    }

    /// The head's shape.
    pub fn config(&self) -> &MultiLabelHeadConfig {
        &self.config
    }

    /// Logits of N×inputs features, N×C. With `dropout`, which training asks for, hidden values are dropped at random.
    ///
    /// # Errors
    /// [`Error::Model`] for another shape, or for fewer than two samples in [`Mode::Train`], which normalises by the
    /// batch.
    pub fn logits(&self, features: &Tensor, mode: Mode, dropout: Option<&mut SeededRng>) -> Result<Tensor> {
        let last = |hidden: Vec<Tensor>| self.classes.forward(hidden.last().unwrap_or(features));
        self.hidden(features, mode, dropout).and_then(last).map_err(Error::model)
    }

    /// The normalised values of both hidden layers, N×hidden each, as inference has them.
    ///
    /// # Errors
    /// [`Error::Model`] for another shape.
    pub fn hidden_features(&self, features: &Tensor) -> Result<Vec<Tensor>> {
        self.hidden(features, Mode::Eval, None).map_err(Error::model)
    }

    fn hidden(
        &self,
        features: &Tensor,
        mode: Mode,
        mut dropout: Option<&mut SeededRng>,
    ) -> candle_core::Result<Vec<Tensor>> {
        let mut values: Vec<Tensor> = Vec::with_capacity(self.hidden.len());
        for (linear, norm) in &self.hidden {
            let x = ops::relu(&linear.forward(values.last().unwrap_or(features))?)?;
            let (samples, width) = x.dims2()?;
            let x = x.reshape((samples, 1, 1, width))?;
            let x = norm.forward(&x, mode, false)?.reshape((samples, width))?;
            values.push(drop_values(x, self.config.dropout, dropout.as_deref_mut())?);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradients, random};
    use crate::ops::testing::assert_close;
    use crate::{Parameters, bce_with_logits};
    use candle_core::{DType, Device};
    use coral_core::testing::GoldenCase;

    fn config() -> MultiLabelHeadConfig {
        MultiLabelHeadConfig { inputs: 5, hidden: [4, 3], classes: 2, dropout: 0.5 }
    }

    #[test]
    fn gradients_pass_in_both_modes() {
        let (parameters, _) = Parameters::create(3, &Device::Cpu, |vb| MultiLabelHead::new(config(), &vb)).unwrap();
        let names: Vec<String> = parameters.trainable().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names.len(), 10);
        let start: Vec<Tensor> =
            names.iter().map(|name| parameters.get(name).unwrap().to_dtype(DType::F64).unwrap()).collect();
        let (x, targets) = (random(&[7, 5], 1), (random(&[7, 2], 2) / 3.0).unwrap().affine(1.0, 0.5).unwrap());
        let arguments: Vec<&Tensor> = start.iter().chain([&x]).collect();
        for mode in [Mode::Train, Mode::Eval] {
            assert_gradients(&arguments, |v| {
                let (copy, _) = parameters.converted(DType::F64, |vb| MultiLabelHead::new(config(), &vb)).unwrap();
                let mut tensors: std::collections::HashMap<_, _> = copy.tensors().into_iter().collect();
                for (name, buffer) in copy.buffers() {
                    tensors.insert(name.to_owned(), buffer.as_tensor().clone());
                }
                names.iter().zip(v).for_each(|(name, value)| drop(tensors.insert(name.clone(), value.clone())));
                let head = MultiLabelHead::new(config(), &VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu))?;
                // The same values are dropped at every step.
                let mut dropped = SeededRng::new(4);
                let logits = head.logits(&v[names.len()], mode, Some(&mut dropped)).unwrap();
                Ok(bce_with_logits(&logits, &targets, Some(&[2.0, 0.5])).unwrap())
            });
        }
    }

    /// The steps that no public function gives; the others are compared in `tests/golden`.
    #[test]
    fn linear_layers_give_the_published_values() {
        let case =
            GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "dinov2_multilabel_head").unwrap();
        let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors")).unwrap();
        let config = MultiLabelHeadConfig::from_checkpoint(&checkpoint).unwrap();
        let head = crate::load(&checkpoint, &Device::Cpu, &["dinov2."], |vb| MultiLabelHead::new(config, &vb)).unwrap();
        let expected = |name: &str| {
            let values = case.f32(name).unwrap();
            Tensor::from_iter(values.iter().copied(), &Device::Cpu).unwrap().reshape(values.shape()).unwrap()
        };
        let features = expected("head/features");
        let hidden = head.hidden_features(&features).unwrap();
        for ((layer, (linear, _)), inputs) in LINEAR.iter().zip(&head.hidden).zip([&features, &hidden[0]]) {
            let ours = linear.forward(inputs).unwrap();
            assert_close(&ours, &expected(&format!("head/classifier.{layer}.out")), 2e-5);
        }
    }

    #[test]
    fn impossible_shapes_are_named() {
        let text = |config: MultiLabelHeadConfig| config.validate().unwrap_err().to_string();
        assert!(text(MultiLabelHeadConfig { inputs: 0, ..config() }).contains("`inputs`"));
        assert!(text(MultiLabelHeadConfig { classes: 0, ..config() }).contains("`classes`"));
        assert!(text(MultiLabelHeadConfig { dropout: 1.0, ..config() }).contains("`dropout`"));
        assert_eq!(MultiLabelHeadConfig::new(1, 1).hidden, [1, 1]);
        let (_, head) = Parameters::create(3, &Device::Cpu, |vb| MultiLabelHead::new(config(), &vb)).unwrap();
        let features = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(head.logits(&features(3, 4), Mode::Eval, None), Err(Error::Model { .. })));
        assert!(matches!(head.logits(&features(1, 5), Mode::Train, None), Err(Error::Model { .. })));
    }
}
