use candle_core::{Device, Tensor};
use coral_core::ndarray::ArrayD;
use coral_core::testing::GoldenCase;
use coral_models::{
    Cells, Checkpoint, Gradients, Mode, Optimizer, OptimizerConfig, Parameters, PatchNetwork, PatchNetworkConfig,
    ResNet, ResNetConfig,
};

use crate::{TestResult, open};

type Boxed = Box<dyn std::error::Error>;

fn tensor(values: &ArrayD<f32>) -> Result<Tensor, Boxed> {
    Ok(Tensor::from_iter(values.iter().copied(), &Device::Cpu)?.reshape(values.shape())?)
}

fn list(tensor: &Tensor) -> Result<Vec<f32>, Boxed> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Holds values against those of the case, to an absolute and a relative tolerance.
fn compare(case: &GoldenCase, name: &str, ours: &Tensor, [absolute, relative]: [f32; 2]) -> TestResult {
    let expected = case.f32(name)?;
    assert_eq!(ours.elem_count(), expected.len(), "{name}");
    for (i, (ours, &expected)) in list(ours)?.into_iter().zip(expected.iter()).enumerate() {
        let difference = (ours - expected).abs();
        assert!(difference <= absolute + relative * expected.abs(), "{name}, value {i}: {ours} against {expected}");
    }
    Ok(())
}

fn checkpoint(case: &GoldenCase, file: &str) -> Result<Checkpoint, Boxed> {
    Ok(Checkpoint::open(case.dir().join(file))?.with_torchvision_resnet_names()?)
}

/// The published classifier: one linear layer behind the mean of the last stage.
fn config(case: &GoldenCase, checkpoint: &Checkpoint) -> Result<PatchNetworkConfig, Boxed> {
    let config = PatchNetworkConfig::from_checkpoint(checkpoint)?;
    assert_eq!(config.resnet.width as f64, case.number("/config/width")?);
    assert_eq!(config.classes as f64, case.number("/config/classes")?);
    assert!(config.hidden.is_none());
    Ok(config)
}

#[test]
fn inference_gives_the_published_values() -> TestResult {
    let case = open("resnet18");
    let checkpoint = checkpoint(&case, "weights.safetensors")?;
    let pixels = tensor(&case.f32("input")?)?;
    let config = config(&case, &checkpoint)?;
    let folded = ResNet::load(&checkpoint, &Device::Cpu)?;
    assert_eq!(folded.config(), &ResNetConfig::from_checkpoint(&checkpoint)?);
    let (parameters, trainable) =
        Parameters::load(&checkpoint, &Device::Cpu, &[], |vb| PatchNetwork::new(&config, &vb))?;
    for resnet in [&folded, trainable.resnet()] {
        for (stage, map) in resnet.stages(&pixels, Mode::Eval)?.iter().enumerate() {
            compare(&case, &format!("eval/layer{}", stage + 1), map, [1e-4, 0.0])?;
        }
    }
    for network in [&trainable, &parameters.detached(|vb| PatchNetwork::new(&config, &vb))?] {
        let features = network.patch_features(&pixels, Mode::Eval)?;
        compare(&case, "eval/avgpool", &features, [1e-4, 0.0])?;
        compare(&case, "eval/logits", &network.logits(&features, None)?, [1e-4, 0.0])?;
    }
    Ok(())
}

/// The mean cross-entropy of the case's batch in training mode, and its logits.
fn loss(case: &GoldenCase, network: &PatchNetwork) -> Result<(Tensor, Tensor), Boxed> {
    let pixels = tensor(&case.f32("input")?)?;
    let labels = Tensor::from_iter(case.i64("labels")?.iter().map(|&label| label as u32), &Device::Cpu)?;
    let logits = network.logits(&network.patch_features(&pixels, Mode::Train)?, None)?;
    Ok((candle_nn::loss::cross_entropy(&logits, &labels)?, logits))
}

#[test]
fn training_gives_the_published_gradients_and_statistics() -> TestResult {
    let case = open("resnet18");
    let checkpoint = checkpoint(&case, "weights.safetensors")?;
    let config = config(&case, &checkpoint)?;
    let build = |vb: candle_nn::VarBuilder<'_>| PatchNetwork::new(&config, &vb);
    let (parameters, network) = Parameters::load(&checkpoint, &Device::Cpu, &[], build)?;
    let (value, logits) = loss(&case, &network)?;
    compare(&case, "train/logits", &logits, [2e-4, 0.0])?;
    compare(&case, "train/loss", &value, [1e-4, 0.0])?;
    let gradients = value.backward()?;
    let mut norms = 0;
    for (name, variable) in parameters.trainable() {
        let gradient = gradients.get(variable).ok_or_else(|| format!("no gradient for {name}"))?;
        let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
        let expected = f64::from(case.f32(&format!("gradnorm/{name}"))?.iter().copied().sum::<f32>());
        assert!((norm - expected).abs() < 1e-4 + 1e-3 * expected, "{name}: norm {norm} against {expected}");
        norms += 1;
    }
    let names = case.tensor_names()?;
    assert_eq!(norms, names.iter().filter(|name| name.starts_with("gradnorm/")).count());
    let mut checked = 0;
    for name in &names {
        if let Some(parameter) = name.strip_prefix("grad/") {
            let variable = parameters.get(parameter).ok_or_else(|| format!("no parameter {parameter}"))?;
            let gradient = gradients.get(variable).ok_or_else(|| format!("no gradient for {name}"))?;
            compare(&case, name, gradient, [1e-4, 1e-3])?;
            checked += 1;
        }
    }
    assert!(checked > 5);
    compare_buffers(&case, &parameters, &checkpoint)
}

/// Running statistics after one pass in training mode. Cases whose statistics count no batch were written before the
/// pass (they equal the weights, which PyTorch's own do not): of those nothing but that can be checked, and the unit
/// tests of batch normalisation hold the rest.
fn compare_buffers(case: &GoldenCase, parameters: &Parameters, checkpoint: &Checkpoint) -> TestResult {
    let names = case.tensor_names()?;
    let buffers = || names.iter().filter_map(|name| Some((name, name.strip_prefix("after_train_forward/")?)));
    let (counts, statistics): (Vec<_>, Vec<_>) = buffers().partition(|(_, name)| name.ends_with("num_batches_tracked"));
    assert!(!counts.is_empty() && statistics.len() == 2 * counts.len());
    let counted = counts.iter().map(|(name, _)| Ok(case.i64(name)?.sum())).collect::<Result<Vec<_>, Boxed>>()?;
    let ours = |name: &str| parameters.get(name).ok_or_else(|| Boxed::from(format!("no buffer {name}")));
    for (_, name) in &counts {
        assert_eq!(ours(name)?.to_scalar::<f32>()?, 1.0, "{name}");
    }
    for (name, buffer) in statistics {
        let before = checkpoint.tensor(buffer, &Device::Cpu)?;
        assert_ne!(list(ours(buffer)?)?, list(&before)?, "{buffer} did not move");
        match counted.iter().all(|&count| count == 0) {
            true => compare(case, name, &before, [0.0, 0.0])?,
            false => compare(case, name, ours(buffer)?, [1e-5, 1e-4])?,
        }
    }
    Ok(())
}

#[test]
fn the_head_of_seafeats_reads_photographs_and_patches() -> TestResult {
    let case = open("resnet18");
    let checkpoint = checkpoint(&case, "seafeats_seq_weights.safetensors")?;
    let pixels = tensor(&case.f32("seafeats_head/input")?)?;
    let published = case.f32("seafeats_head/features")?;
    let detected = PatchNetworkConfig::from_checkpoint(&checkpoint)?;
    assert!(detected.hidden.is_some_and(|hidden| !hidden.rectified));
    // The number of cells tells the pool of this case.
    let places = |side: usize| side.div_ceil(ResNetConfig::STRIDE);
    let (height, width) = (places(pixels.dims()[2]), places(pixels.dims()[3]));
    let fits = |pool: &usize| (height / pool) * (width / pool) == published.shape()[1];
    let pool = (1..=height).rev().find(fits).ok_or("no pool gives as many cells")?;
    let config = PatchNetworkConfig { cells: Cells::Pooled(pool), ..detected };
    let network = coral_models::load(&checkpoint, &Device::Cpu, &[], |vb| PatchNetwork::new(&config, &vb))?;
    let features = network.grid_features(&pixels, Mode::Eval)?.flatten(0, 2)?;
    compare(&case, "seafeats_head/features", &features, [1e-4, 0.0])?;
    compare(&case, "seafeats_head/logits", &network.logits(&features, None)?, [1e-4, 0.0])?;
    let whole = network.patch_features(&pixels, Mode::Eval)?;
    compare(&case, "seafeats_head/whole_patch_logits", &network.logits(&whole, None)?, [1e-4, 0.0])
}

/// The optimisers of the case: name, configuration, learning rate's place in the case, steps.
fn optimizers() -> [(&'static str, OptimizerConfig, &'static str, usize); 5] {
    let sgd = |momentum, weight_decay| OptimizerConfig::Sgd { momentum, dampening: 0.0, nesterov: false, weight_decay };
    let (betas, eps) = ([0.9, 0.999], 1e-8);
    let adam = |weight_decay| OptimizerConfig::Adam { betas, eps, weight_decay };
    [
        ("sgd1", sgd(0.0, 0.0), "/optimizers/lr", 1),
        ("sgd3_mom", sgd(0.9, 1e-3), "/optimizers/lr", 3),
        ("adam1", adam(0.0), "/optimizers/adam_lr", 1),
        ("adam3_wd", adam(1e-2), "/optimizers/adam_lr", 3),
        ("adamw3", OptimizerConfig::AdamW { betas, eps, weight_decay: 1e-2 }, "/optimizers/adam_lr", 3),
    ]
}

#[test]
fn optimizers_take_the_published_steps() -> TestResult {
    let case = open("resnet18");
    let checkpoint = checkpoint(&case, "weights.safetensors")?;
    let config = config(&case, &checkpoint)?;
    let names = case.tensor_names()?;
    for (name, optimizer, rate, steps) in optimizers() {
        let build = |vb: candle_nn::VarBuilder<'_>| PatchNetwork::new(&config, &vb);
        let (parameters, network) = Parameters::load(&checkpoint, &Device::Cpu, &[], build)?;
        let rate = case.number(rate)?;
        let mut optimizer = Optimizer::new(optimizer, &parameters)?;
        let (mut losses, mut first) = (Vec::new(), None);
        for _ in 0..steps {
            let (value, _) = loss(&case, &network)?;
            let gradients = Gradients::of(&value, &parameters)?;
            optimizer.step(&gradients, rate)?;
            losses.push(value.to_scalar::<f32>()?);
            first.get_or_insert(gradients);
        }
        losses.push(loss(&case, &network)?.0.to_scalar::<f32>()?);
        let expected = case.f32(&format!("{name}/losses"))?;
        assert_eq!(losses.len(), expected.len(), "{name}");
        for (ours, &expected) in losses.iter().zip(&expected) {
            assert!((ours - expected).abs() < 1e-3 + 1e-3 * expected.abs(), "{name}: loss {ours} against {expected}");
        }
        let first = first.ok_or("no step")?;
        let mut checked = 0;
        let prefix = format!("{name}/");
        for tensor in names.iter().filter(|tensor| tensor.starts_with(&prefix) && !tensor.ends_with("losses")) {
            let parameter = &tensor[prefix.len()..];
            let ours = list(parameters.get(parameter).ok_or_else(|| format!("no parameter {parameter}"))?)?;
            let (expected, before) = (case.f32(tensor)?, list(&checkpoint.tensor(parameter, &Device::Cpu)?)?);
            assert_ne!(ours, before, "{tensor} did not move");
            checked += 1;
            // Like the statistics, written before the first step: the losses tell of the steps then, and the optimisers'
            // unit tests.
            if expected.iter().eq(&before) {
                continue;
            }
            let gradient = list(&first.get(parameter)?)?;
            for ((ours, &expected), gradient) in ours.iter().zip(&expected).zip(gradient) {
                // Where the gradient is about 0, Adam's steps go by its sign, which rounding decides.
                let sign = name.starts_with("adam") && gradient.abs() < 1e-5;
                let allowed = if sign { 2.0 * rate as f32 * steps as f32 } else { 2e-4 };
                assert!((ours - expected).abs() <= allowed, "{tensor}: {ours} against {expected}, gradient {gradient}");
            }
        }
        assert!(checked >= 5, "{name}");
    }
    Ok(())
}
