use candle_core::{Device, Tensor};
use coral_core::Size;
use coral_core::ndarray::ArrayD;
use coral_core::testing::GoldenCase;
use coral_models::{
    Checkpoint, DiceConfig, Gradients, Mode, Parameters, SegFormer, SegFormerConfig, dice_loss, resize_bilinear,
    resize_nearest,
};

use crate::{TestResult, open};

type Boxed = Box<dyn std::error::Error>;

fn tensor(values: &ArrayD<f32>) -> Result<Tensor, Boxed> {
    Ok(Tensor::from_iter(values.iter().copied(), &Device::Cpu)?.reshape(values.shape())?)
}

/// Holds values against those of the case, to an absolute and a relative tolerance.
fn compare(case: &GoldenCase, name: &str, ours: &Tensor, [absolute, relative]: [f32; 2]) -> TestResult {
    let expected = case.f32(name)?;
    assert_eq!(ours.elem_count(), expected.len(), "{name}");
    for (i, (ours, &expected)) in ours.flatten_all()?.to_vec1::<f32>()?.into_iter().zip(expected.iter()).enumerate() {
        let difference = (ours - expected).abs();
        assert!(difference <= absolute + relative * expected.abs(), "{name}, value {i}: {ours} against {expected}");
    }
    Ok(())
}

/// The case's network, the shape of which its weights and `case.json` tell.
fn config(case: &GoldenCase, checkpoint: &Checkpoint) -> Result<SegFormerConfig, Boxed> {
    let number = |name: &str| case.number(&format!("/config/{name}")).map(|value| value as usize);
    let list = |name: &str| -> Result<[usize; 4], Boxed> {
        let mut sides = [0; 4];
        for (stage, side) in sides.iter_mut().enumerate() {
            *side = number(&format!("{name}/{stage}"))?;
        }
        Ok(sides)
    };
    let told = SegFormerConfig {
        num_labels: number("num_labels")?,
        hidden_sizes: list("hidden_sizes")?,
        depths: list("depths")?,
        num_attention_heads: list("num_attention_heads")?,
        sr_ratios: list("sr_ratios")?,
        mlp_ratios: list("mlp_ratios")?,
        patch_sizes: list("patch_sizes")?,
        strides: list("strides")?,
        decoder_hidden_size: number("decoder_hidden_size")?,
        layer_norm_eps: case.number("/config/layer_norm_eps_effective")?,
        ..SegFormerConfig::default()
    };
    // No shape tells these.
    let SegFormerConfig { num_attention_heads, strides, .. } = told;
    let read = SegFormerConfig::from_checkpoint(checkpoint)?;
    assert_eq!(SegFormerConfig { num_attention_heads, strides, ..read }, told);
    Ok(told)
}

#[test]
fn inference_gives_the_published_values() -> TestResult {
    let case = open("segformer_tiny");
    let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors"))?;
    let config = config(&case, &checkpoint)?;
    let pixels = tensor(&case.f32("pixel_values")?)?;
    let fixed = SegFormer::load(&checkpoint, &config, &Device::Cpu)?;
    let (_, trainable) = Parameters::load(&checkpoint, &Device::Cpu, &[], |vb| SegFormer::new(&config, &vb))?;
    let argmax = case.u8("argmax")?;
    let size = Size { width: argmax.shape()[2] as u32, height: argmax.shape()[1] as u32 };
    for network in [&fixed, &trainable] {
        for (stage, map) in network.stages(&pixels)?.iter().enumerate() {
            compare(&case, &format!("encoder_hidden{stage}"), map, [1e-4, 0.0])?;
        }
        let logits = network.logits(&pixels, Mode::Eval, None)?;
        compare(&case, "logits", &logits, [1e-4, 0.0])?;
        let full = resize_bilinear(&logits, size)?;
        assert_eq!(full.dims4()?.0, argmax.shape()[0]);
        let largest = full.max(1)?.flatten_all()?.to_vec1::<f32>()?;
        let expected = Tensor::from_iter(argmax.iter().map(|&class| u32::from(class)), &Device::Cpu)?;
        let expected = full.gather(&expected.reshape(argmax.shape())?.unsqueeze(1)?, 1)?;
        // Where two classes are as good as equal, either may be the largest.
        for (pixel, (largest, expected)) in largest.iter().zip(expected.flatten_all()?.to_vec1::<f32>()?).enumerate() {
            assert!(largest - expected <= 2e-4, "argmax, pixel {pixel}: {expected} against {largest}");
        }
    }
    Ok(())
}

#[test]
fn training_gives_the_published_gradients() -> TestResult {
    let case = open("segformer_tiny");
    let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors"))?;
    let config = config(&case, &checkpoint)?;
    let (parameters, network) = Parameters::load(&checkpoint, &Device::Cpu, &[], |vb| SegFormer::new(&config, &vb))?;
    let logits = network.logits(&tensor(&case.f32("pixel_values")?)?, Mode::Train, None)?;
    compare(&case, "train/logits", &logits, [1e-4, 0.0])?;
    let labels = case.u8("labels")?;
    let labels = tensor(&labels.mapv(f32::from))?.unsqueeze(1)?;
    let (_, _, rows, columns) = logits.dims4()?;
    let labels = resize_nearest(&labels, Size { width: columns as u32, height: rows as u32 })?.squeeze(1)?;
    let labels = labels.to_dtype(candle_core::DType::I64)?;
    let expected: Vec<i64> = case.i64("labels_downsampled")?.iter().copied().collect();
    assert_eq!(labels.flatten_all()?.to_vec1::<i64>()?, expected);
    let loss = dice_loss(&logits, &labels, &DiceConfig::default())?;
    compare(&case, "train/dice_loss", &loss, [1e-5, 0.0])?;
    let gradients = Gradients::of(&loss, &parameters)?;
    let names = case.tensor_names()?;
    let mut checked = 0;
    for (name, parameter) in names.iter().filter_map(|name| Some((name, name.strip_prefix("grad/")?))) {
        compare(&case, name, &gradients.get(parameter)?, [1e-6, 1e-3])?;
        checked += 1;
    }
    assert!(checked > 3);
    Ok(())
}
