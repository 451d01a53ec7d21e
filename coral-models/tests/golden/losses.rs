//! Losses and their gradients.

use coral_core::ndarray::ArrayD;
use coral_models::candle_core::{Device, Tensor, Var};
use coral_models::{
    CrossEntropyConfig, DiceConfig, Reduction, SeafeatsLoss, dice_loss, nt_xent, seafeats_loss, soft_cross_entropy,
};

use super::{TestResult, open};

fn tensor(values: &ArrayD<f32>, shape: &[usize]) -> Tensor {
    Tensor::from_iter(values.iter().copied(), &Device::Cpu).unwrap().reshape(shape).unwrap()
}

/// Compares a loss (1e-5) and its gradient (1e-6).
fn assert_loss(name: &str, loss: &Tensor, input: &Var, [value, gradient]: [&ArrayD<f32>; 2]) {
    let ours = loss.to_scalar::<f32>().unwrap();
    let expected = value.iter().next().copied().unwrap();
    assert!((ours - expected).abs() <= 1e-5, "{name}: {ours}, expected {expected}");
    let grads = loss.backward().unwrap();
    let ours = grads.get(input.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(ours.len(), gradient.len(), "{name}");
    for (at, (a, b)) in ours.iter().zip(gradient).enumerate() {
        assert!((a - b).abs() <= 1e-6, "{name}: gradient {at} is {a}, expected {b}");
    }
}

#[test]
fn seafeats() -> TestResult {
    let case = open("seafeats");
    let outputs = case.f32("outputs")?;
    let classes = *outputs.shape().last().unwrap();
    let patches = outputs.len() / classes;
    let logits = Var::from_tensor(&tensor(&outputs, &[patches, classes]))?;
    let pseudo: Vec<i64> = case.i64("pseudo_class")?.iter().copied().collect();
    let targets = Tensor::from_vec(pseudo, patches, &Device::Cpu)?;
    let weights = case.value("/class_weights")?.as_array().unwrap();
    let weights: Vec<f32> = weights.iter().map(|w| w.as_f64().unwrap() as f32).collect();
    for (form, value, gradient) in [
        (SeafeatsLoss::Published, "loss", "grad_outputs"),
        (SeafeatsLoss::Sound, "fixed/loss_logits_index_targets", "fixed/grad_outputs"),
    ] {
        let loss = seafeats_loss(logits.as_tensor(), &targets, &weights, form)?;
        assert_loss(value, &loss, &logits, [&case.f32(value)?, &case.f32(gradient)?]);
    }
    Ok(())
}

#[test]
fn seafeats_probability_targets() -> TestResult {
    let case = open("seafeats");
    let outputs = case.f32("outputs")?;
    let classes = *outputs.shape().last().unwrap();
    let shape = [outputs.len() / classes, classes];
    let one_hot = case.i64("pseudo_class")?;
    let one_hot = one_hot.iter().flat_map(|&label| (0..classes as i64).map(move |c| f32::from(u8::from(c == label))));
    let targets = Tensor::from_iter(one_hot, &Device::Cpu)?.reshape(&shape)?;
    let weights = case.value("/class_weights")?.as_array().unwrap();
    let config = CrossEntropyConfig {
        class_weights: Some(weights.iter().map(|w| w.as_f64().unwrap() as f32).collect()),
        reduction: Reduction::SampleMean,
        ..CrossEntropyConfig::default()
    };
    let loss = soft_cross_entropy(&tensor(&outputs, &shape), &targets, &config)?.to_scalar::<f32>()?;
    let expected = case.f32("fixed/loss_logits_prob_targets")?;
    assert!((loss - expected.iter().next().unwrap()).abs() <= 1e-5, "{loss}, expected {expected}");
    Ok(())
}

#[test]
fn contrastive() -> TestResult {
    let case = open("seafeats");
    let features = case.f32("ntxent/features")?;
    let input = Var::from_tensor(&tensor(&features, features.shape()))?;
    let loss = nt_xent(input.as_tensor(), case.number("/config/temp")?)?;
    assert_loss("ntxent", &loss, &input, [&case.f32("ntxent/loss")?, &case.f32("ntxent/grad")?]);
    Ok(())
}

#[test]
fn dice() -> TestResult {
    let case = open("segformer_tiny");
    let labels = case.i64("labels_downsampled")?;
    let targets = Tensor::from_iter(labels.iter().copied(), &Device::Cpu)?.reshape(labels.shape())?;
    let logits = case.f32("logits")?;
    let input = Var::from_tensor(&tensor(&logits, logits.shape()))?;
    let loss = dice_loss(input.as_tensor(), &targets, &DiceConfig::default())?;
    assert_loss("dice", &loss, &input, [&case.f32("dice_loss")?, &case.f32("dice_grad_logits")?]);
    let logits = case.f32("train/logits")?;
    let loss = dice_loss(&tensor(&logits, logits.shape()), &targets, &DiceConfig::default())?.to_scalar::<f32>()?;
    let expected = case.f32("train/dice_loss")?;
    assert!((loss - expected.iter().next().unwrap()).abs() <= 1e-5, "{loss}, expected {expected}");
    Ok(())
}
