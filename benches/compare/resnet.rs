use std::path::Path;

use candle_transformers::models::resnet::resnet18;
use coral_benches::random_weights;
use coral_core::{Error, Result, SeededRng};
use coral_models::candle_core::{Device, Module, Tensor};
use coral_models::candle_nn::VarBuilder;
use coral_models::{
    Cells, Checkpoint, CrossEntropyConfig, Mode, OptimizerConfig, Parameters, PatchNetwork, PatchNetworkConfig,
    ResNetConfig, Trainer, TrainerConfig, cross_entropy, load,
};

use crate::measure::{Repeat, Timing, write, write_output};
use crate::{Side, Work};

/// Fewer than the 1000 of ImageNet, which have no place in class maps of bytes.
const CLASSES: usize = 100;

const NETWORK: PatchNetworkConfig =
    PatchNetworkConfig { resnet: ResNetConfig::resnet18(), classes: CLASSES, hidden: None, cells: Cells::Pooled(1) };

fn build(vb: VarBuilder<'_>) -> coral_models::candle_core::Result<PatchNetwork> {
    PatchNetwork::new(&NETWORK, &vb)
}

/// Writes random weights, and normalised pixels with labels.
pub(crate) fn prepare(work: Work, folder: &Path) -> Result<()> {
    let weights = random_weights(build).map_err(Error::model)?;
    write(&folder.join("weights.safetensors"), &weights)?;
    let (count, side) = if work == Work::Resnet18Batch8 { (8, 224) } else { (32, 132) };
    let mut rng = SeededRng::new(2);
    let pixels: Vec<f32> = (0..count * 3 * side * side).map(|_| rng.normal() as f32).collect();
    let labels: Vec<i64> = (0..count).map(|_| rng.below(CLASSES) as i64).collect();
    let tensors = || -> coral_models::candle_core::Result<_> {
        let pixels = Tensor::from_vec(pixels, (count, 3, side, side), &Device::Cpu)?;
        Ok([("pixels".to_owned(), pixels), ("labels".to_owned(), Tensor::from_vec(labels, count, &Device::Cpu)?)]
            .into())
    };
    write(&folder.join("batch.safetensors"), &tensors().map_err(Error::model)?)
}

/// Times a row of ResNet-18.
pub(crate) fn time(work: Work, side: Side, folder: &Path) -> Result<Timing> {
    let read = |name: &str| coral_models::candle_core::safetensors::load(folder.join(name), &Device::Cpu);
    let batch = read("batch.safetensors").map_err(Error::model)?;
    let (pixels, labels) = (&batch["pixels"], &batch["labels"]);
    let checkpoint = Checkpoint::open(folder.join("weights.safetensors"))?;
    let (ms, output) = match (work, side) {
        (Work::Resnet18Batch8, Side::Ours) => {
            let network = load(&checkpoint, &Device::Cpu, &[], build)?;
            let (ms, logits) = Timing::of(Repeat::Often, || infer(&network, pixels))?;
            (ms, Some(logits))
        }
        (Work::Resnet18Batch8, Side::Candle) => {
            let weights = read("weights.safetensors").map_err(Error::model)?;
            let vb = VarBuilder::from_tensors(weights, coral_models::candle_core::DType::F32, &Device::Cpu);
            let network = resnet18(CLASSES, vb).map_err(Error::model)?;
            (Timing::of(Repeat::Often, || network.forward(pixels).map_err(Error::model))?.0, None)
        }
        (_, Side::Candle) => return Ok(Timing::Skipped("no gradient goes back through its max-pooling")),
        (_, Side::Ours) => (train(&checkpoint, pixels, labels)?, None),
    };
    let outputs = output.map_or(Ok(None), |output| write_output(folder, &output))?;
    Ok(Timing::Run { ms, outputs, masks: None })
}

fn infer(network: &PatchNetwork, pixels: &Tensor) -> Result<Tensor> {
    let logits = network.patch_features(pixels, Mode::Eval).and_then(|features| network.logits(&features, None));
    logits.map_err(Error::model)
}

/// Steps of Adam on the cross-entropy, with the statistics of the batch.
fn train(checkpoint: &Checkpoint, pixels: &Tensor, labels: &Tensor) -> Result<Vec<f64>> {
    let (parameters, network) = Parameters::load(checkpoint, &Device::Cpu, &[], build)?;
    let optimizer = OptimizerConfig::default();
    let mut trainer = Trainer::new(parameters, TrainerConfig { optimizer, learning_rate: 1e-4, ..Default::default() })?;
    let step = || {
        let features = network.patch_features(pixels, Mode::Train);
        let logits = features.and_then(|features| network.logits(&features, None)).map_err(Error::model)?;
        trainer.step(&cross_entropy(&logits, labels, &CrossEntropyConfig::default())?, labels.elem_count())
    };
    Ok(Timing::of(Repeat::Often, step)?.0)
}
