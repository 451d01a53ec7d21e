use candle_core::Device;
use candle_nn::VarBuilder;
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::names::{CLASSIFIER, FIRST, HEAD, IMAGENET_CLASSIFIER};
use crate::train::STATE_PREFIXES;
use crate::weights::lacking;
use crate::{Checkpoint, Fresh, Parameters};

/// How much of a network comes from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegFormerPart {
    /// All weights.
    Whole,
    /// All but the last layer, which is drawn: for other classes.
    WithoutClassifier,
    /// The encoder; the head is drawn.
    Encoder,
}

impl SegFormerPart {
    /// The most that a checkpoint has for a network of `num_labels` classes: the encoder alone where it has no head, as
    /// `nvidia/mit-b0`, and not the classifier where that is for another number of classes. Where the numbers agree, the
    /// classes may be others all the same.
    ///
    /// # Errors
    /// [`Error::Weights`] when it holds no SegFormer.
    pub fn of(checkpoint: &Checkpoint, num_labels: usize) -> Result<Self> {
        let checkpoint = checkpoint.clone().with_segformer_names()?;
        if !checkpoint.contains(FIRST) {
            return Err(lacking(&checkpoint, &[FIRST]));
        }
        Ok(match checkpoint.shape(&classifier()).and_then(|shape| shape.first()) {
            None => Self::Encoder,
            Some(&labels) if labels != num_labels => Self::WithoutClassifier,
            Some(_) => Self::Whole,
        })
    }

    /// How the names begin of what is drawn.
    fn drawn(self) -> &'static [&'static str] {
        match self {
            Self::Whole => &[],
            Self::WithoutClassifier => &[CLASSIFIER],
            Self::Encoder => &[HEAD],
        }
    }
}

fn classifier() -> String {
    format!("{CLASSIFIER}weight")
}

/// A network with a part of a checkpoint, which may be the state of a training; the rest is drawn from `seed`.
pub(super) fn load<M>(
    checkpoint: &Checkpoint,
    device: &Device,
    (part, seed): (SegFormerPart, u64),
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<(Parameters, M)> {
    let checkpoint = checkpoint.clone().with_segformer_names()?;
    if part != SegFormerPart::Encoder && checkpoint.contains(FIRST) && !checkpoint.contains(&classifier()) {
        let mut error = lacking(&checkpoint, &[&classifier()]);
        if let Error::Weights { cause, .. } = &mut error {
            *cause = Some("the file holds an encoder alone; take it with `SegFormerPart::Encoder`".to_owned());
        }
        return Err(error);
    }
    let mut ignore = STATE_PREFIXES.to_vec();
    if part == SegFormerPart::Encoder {
        ignore.push(IMAGENET_CLASSIFIER);
    }
    let fresh = Fresh { prefixes: part.drawn(), seed, ignore: &ignore };
    Parameters::load_partly(&checkpoint, device, fresh, build)
}
