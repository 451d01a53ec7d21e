use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use coral_core::ndarray::{Array2, ArrayView2, Axis, concatenate};
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::head::{CLASSIFIER, MultiLabelHead, MultiLabelHeadConfig};
use crate::weights::{description, write_described};
use crate::{Checkpoint, Mode, load, tensor_to_rows};

/// What belongs to a [`FrameHead`] beside its weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrameHeadInfo {
    /// What the classes are called, in their order; as many as there are classes, or none where that is unknown.
    pub class_names: Vec<String>,
    /// Above which probability a class counts as present, in 0..1, `None` where no threshold is known; as many as there
    /// are classes, or none at all.
    pub thresholds: Vec<Option<f64>>,
    /// What the encoder of its features is called, for people.
    pub encoder_name: String,
    /// [`DinoV2Encoder::fingerprint`](crate::DinoV2Encoder::fingerprint) of the encoder of its features, where that is
    /// known.
    pub encoder: Option<String>,
}

impl FrameHeadInfo {
    /// The threshold of classes without one.
    pub const THRESHOLD: f64 = 0.5;

    fn validate(&self, classes: usize) -> Result<()> {
        for (name, count) in [("class_names", self.class_names.len()), ("thresholds", self.thresholds.len())] {
            if count != 0 && count != classes {
                return Err(Error::parameter(name, format!("expected one for each of {classes} classes, got {count}")));
            }
        }
        match self.thresholds.iter().flatten().find(|threshold| !(0.0..1.0).contains(*threshold)) {
            Some(threshold) => Err(Error::parameter("thresholds", format!("expected 0 to below 1, got {threshold}"))),
            None => Ok(()),
        }
    }
}

/// A trained head: features of photographs to the probabilities of any number of classes that each may show.
///
/// # Examples
/// ```
/// use coral_core::NoProgress;
/// use coral_core::ndarray::{Array2, array, s};
/// use coral_models::{FrameHead, FrameHeadFit, FrameSamples};
/// // Even features tell the first class, odd ones the second.
/// let features = Array2::from_shape_fn((64, 32), |(i, j)| f32::from((i >> (j % 2)) % 2 == 0));
/// let targets = features.slice(s![.., ..2]);
/// let samples = FrameSamples { features: features.view(), targets };
/// let config = FrameHeadFit { epochs: 60, dropout: 0.1, ..FrameHeadFit::default() };
/// let (head, report) = FrameHead::fit(samples, samples, &config, &NoProgress)?;
/// assert_eq!(report.epochs.len(), 60);
/// let probabilities = head.probabilities(features.slice(s![1..3, ..]))?;
/// assert_eq!(head.decide(probabilities.view())?, array![[false, true], [true, false]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameHead {
    info: FrameHeadInfo,
    network: MultiLabelHead,
    tensors: BTreeMap<String, Tensor>,
}

/// The key of a head's description in a file's metadata.
const KEY: &str = "coral_frame_head";

#[derive(Serialize, Deserialize)]
struct Header {
    network: MultiLabelHeadConfig,
    info: FrameHeadInfo,
}

impl FrameHead {
    /// A head of these weights, which must not be variables.
    pub(super) fn of(network: MultiLabelHead, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { info: FrameHeadInfo::default(), network, tensors }
    }

    /// Reads a head that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read or does not describe a head; [`Error::Weights`]
    /// when it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let wrong = |reason: String| Error::format(checkpoint.path(), None, reason);
        let hint = "expected a head that `FrameHead::save` wrote";
        let header: Header = description(&checkpoint, (KEY, hint))?;
        header.network.validate().map_err(|error| wrong(error.to_string()))?;
        let head = Self::load(&checkpoint, header.network)?;
        head.with_info(header.info).map_err(|error| wrong(error.to_string()))
    }

    /// Reads the weights `classifier.*` of a checkpoint, e.g. one of DinoVdeau with its encoder.
    ///
    /// # Errors
    /// [`Error::Weights`] when they are of another head; [`Error::InvalidParameter`] for an impossible configuration.
    pub fn load(checkpoint: &Checkpoint, config: MultiLabelHeadConfig) -> Result<Self> {
        config.validate()?;
        let start = format!("{CLASSIFIER}.");
        let checkpoint = checkpoint.clone().rename(|name| name.starts_with(&start).then(|| name.to_owned()))?;
        let network = load(&checkpoint, &Device::Cpu, &[], |vb| MultiLabelHead::new(config, &vb))?;
        let tensors = checkpoint.names().map(|name| Ok((name.to_owned(), checkpoint.tensor(name, &Device::Cpu)?)));
        Ok(Self::of(network, tensors.collect::<Result<_>>()?))
    }

    /// The same head with another description.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is not one name or threshold per class, or a threshold lies outside 0..1.
    pub fn with_info(self, info: FrameHeadInfo) -> Result<Self> {
        info.validate(self.network.config().classes)?;
        Ok(Self { info, ..self })
    }

    /// Writes weights and description to a `safetensors` file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the name does not end in `.safetensors`; [`Error::Io`] when the file cannot be
    /// written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let header = Header { network: *self.network.config(), info: self.info.clone() };
        write_described(path.as_ref(), &self.tensors, (KEY, &header))
    }

    /// Names, thresholds and encoder.
    pub fn info(&self) -> &FrameHeadInfo {
        &self.info
    }

    /// The network.
    pub fn network(&self) -> &MultiLabelHead {
        &self.network
    }

    /// The probability of every class for N×inputs features, N×C.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for features of another width; [`Error::InvalidInput`] naming the first row with a value
    /// that is no finite number; [`Error::Model`] when the tensor library fails.
    pub fn probabilities(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        // Rows that go through the network at a time.
        const ROWS: usize = 1 << 12;
        let MultiLabelHeadConfig { inputs, classes, .. } = *self.network.config();
        expect_features("features", features, inputs)?;
        let part = |rows: ArrayView2<'_, f32>| -> Result<Array2<f32>> {
            let logits = self.network.logits(&matrix(rows)?, Mode::Eval, None)?;
            tensor_to_rows(&candle_nn::ops::sigmoid(&logits).map_err(Error::model)?)
        };
        let parts = features.axis_chunks_iter(Axis(0), ROWS).map(part).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Ok(Array2::zeros((0, classes)));
        }
        let views = parts.iter().map(|rows| rows.view()).collect::<Vec<_>>();
        concatenate(Axis(0), &views).map_err(Error::model)
    }

    /// Whether each class counts as present at N×C probabilities: above its threshold, or above
    /// [`FrameHeadInfo::THRESHOLD`] where it has none.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of columns.
    pub fn decide(&self, probabilities: ArrayView2<'_, f32>) -> Result<Array2<bool>> {
        let (rows, columns) = probabilities.dim();
        let classes = self.network.config().classes;
        if columns != classes {
            return Err(Error::shape("probabilities", format!("{rows}x{classes}"), format!("{rows}x{columns}")));
        }
        let threshold =
            |class: usize| self.info.thresholds.get(class).copied().flatten().unwrap_or(FrameHeadInfo::THRESHOLD);
        let present = |(row, class): (usize, usize)| f64::from(probabilities[[row, class]]) > threshold(class);
        Ok(Array2::from_shape_fn(probabilities.dim(), present))
    }
}

/// Checks that features have `width` columns and are finite.
pub(super) fn expect_features(what: &str, features: ArrayView2<'_, f32>, width: usize) -> Result<()> {
    let (rows, columns) = features.dim();
    if columns != width {
        return Err(Error::shape(what, format!("{rows}x{width}"), format!("{rows}x{columns}")));
    }
    match features.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), value)) => {
            let reason = format!("value {column} of row {row} is {value}; expected finite numbers");
            Err(Error::input(what, reason))
        }
        None => Ok(()),
    }
}

/// Rows as a tensor. Heads are small enough for the CPU.
pub(super) fn matrix(rows: ArrayView2<'_, f32>) -> Result<Tensor> {
    let values: Vec<f32> = rows.iter().copied().collect();
    Tensor::from_vec(values, rows.dim(), &Device::Cpu).map_err(Error::model)
}
