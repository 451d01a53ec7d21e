//! Networks from the files of others.

use candle_core::Device;
use candle_nn::VarBuilder;
use coral_core::Result;

use super::model::BESIDE_ENCODER;
use crate::train::STATE_PREFIXES;
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
