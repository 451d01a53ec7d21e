//! Networks from the files of others, and trainings from their own.

use std::path::Path;

use candle_core::Device;
use candle_nn::VarBuilder;
use coral_core::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::BESIDE_ENCODER;
use crate::train::{STATE_PREFIXES, Trainer, expect_same_settings};
use crate::{Checkpoint, Fresh, Parameters};

/// A network with the encoder of a checkpoint; weights whose names begin with `head` are drawn from `seed`.
pub(super) fn with_encoder<M>(
    checkpoint: &Checkpoint,
    (head, seed): (&str, u64),
    device: &Device,
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<(Parameters, M)> {
    let checkpoint = checkpoint.clone().with_torchvision_resnet_names()?;
    let fresh = Fresh { prefixes: &[head], seed, ignore: &BESIDE_ENCODER };
    Parameters::load_partly(&checkpoint, device, fresh, build)
}

/// A network with all weights of a checkpoint, which may be the state of a training.
pub(super) fn load<M>(
    checkpoint: &Checkpoint,
    device: &Device,
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<(Parameters, M)> {
    let checkpoint = checkpoint.clone().with_torchvision_resnet_names()?;
    Parameters::load(&checkpoint, device, &STATE_PREFIXES, build)
}

/// Goes back to a state that was saved with the settings `ours`, but for those that `take_over` sets to ours.
pub(super) fn resume<C: Serialize + DeserializeOwned, T: DeserializeOwned>(
    trainer: &mut Trainer,
    path: &Path,
    ours: &C,
    take_over: impl FnOnce(C) -> C,
) -> Result<T> {
    let (_, extra) = trainer.resume_if(path, |saved: &(serde_json::Value, T)| {
        let theirs = C::deserialize(&saved.0).map_err(|error| {
            coral_core::Error::format(path, None, format!("training state: field `extra`: {error}"))
        })?;
        expect_same_settings(path, &take_over(theirs), ours)
    })?;
    Ok(extra)
}
