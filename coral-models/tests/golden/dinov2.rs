use candle_core::{Device, Tensor};
use coral_core::ndarray::ArrayD;
use coral_core::testing::GoldenCase;
use coral_models::{Checkpoint, DinoV2, DinoV2Config, DinoV2Mlp, PositionInterpolation};

use crate::{TestResult, open};

const TOKENS: f32 = 2e-5;
const POSITIONS: f32 = 1e-5;

pub(crate) fn assert_close(what: &str, ours: &Tensor, expected: &ArrayD<f32>, tolerance: f32) {
    assert_eq!(ours.elem_count(), expected.len(), "{what}: {:?} against {:?}", ours.dims(), expected.shape());
    let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, (a, e)) in ours.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance, "{what} {i}: {a} against {e}");
    }
}

/// A tensor of the case.
pub(crate) fn tensor(case: &GoldenCase, name: &str) -> Result<Tensor, Box<dyn std::error::Error>> {
    let values = case.f32(name)?;
    Ok(Tensor::from_vec(values.iter().copied().collect(), values.shape(), &Device::Cpu)?)
}

/// The configuration that the case tells, after comparing it with what the checkpoint's shapes tell.
pub(crate) fn config(case: &GoldenCase, checkpoint: &Checkpoint) -> Result<DinoV2Config, Box<dyn std::error::Error>> {
    let number = |name: &str| case.number(&format!("/config/{name}")).map(|n| n as usize);
    let mut config = DinoV2Config::from_checkpoint(checkpoint)?;
    // No shape tells the heads, and the cases' are not those of the published networks.
    config.heads = number("heads")?;
    let ours = [config.width, config.layers, config.image_size];
    assert_eq!(ours, [number("hidden")?, number("depth")?, number("image_size")?]);
    Ok(config)
}

/// The network without (`noreg`) or with registers (`reg`), from the file and with the prefix of one naming scheme.
fn network(
    case: &GoldenCase,
    (file, prefix): (&str, &str),
    positions: Option<PositionInterpolation>,
) -> Result<DinoV2, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::open(case.dir().join(file))?;
    let checkpoint = checkpoint.rename(|name| name.strip_prefix(prefix).map(str::to_owned))?;
    let mut config = config(case, &checkpoint)?;
    let registers = if prefix.starts_with("reg:") { case.number("/config/num_register_tokens")? as usize } else { 0 };
    let swiglu = case.value("/config/swiglu")?.as_bool().unwrap_or(false);
    assert_eq!((config.registers, config.patch), (registers, case.number("/config/patch")? as usize));
    assert_eq!(matches!(config.mlp, DinoV2Mlp::SwiGlu(_)), swiglu);
    config.positions = positions.unwrap_or(config.positions);
    Ok(DinoV2::load(&checkpoint, config, &Device::Cpu)?)
}

/// Compares everything that the case holds under `input/rule/`.
fn check(case: &GoldenCase, network: &DinoV2, input: &str, rule: &str) -> TestResult {
    let pixels = tensor(case, &format!("{input}/pixel_values"))?;
    let patch = network.config().patch;
    let (_, _, height, width) = pixels.dims4()?;
    let tokens = network.forward(&pixels)?;
    let names = case.tensor_names()?;
    let mut compared = 0;
    let mut compare = |part: &str, ours: &Tensor, tolerance: f32| -> TestResult {
        let name = format!("{input}/{rule}/{part}");
        if names.contains(&name) {
            assert_close(&name, ours, &case.f32(&name)?, tolerance);
            compared += 1;
        }
        Ok(())
    };
    compare("pos_embed", &network.position_table((height / patch, width / patch))?, POSITIONS)?;
    compare("embeddings", &network.hidden_tokens(&pixels, 0)?, TOKENS)?;
    compare("block0", &network.hidden_tokens(&pixels, 1)?, TOKENS)?;
    compare("cls", &tokens.class, TOKENS)?;
    compare("patch_tokens", &tokens.patches, TOKENS)?;
    if let Some(registers) = &tokens.registers {
        compare("register_tokens_out", registers, TOKENS)?;
    }
    let expected = names.iter().filter(|name| name.starts_with(&format!("{input}/{rule}/"))).count();
    assert!(compared >= 3 && compared == expected, "{input}/{rule}: {compared} of {expected} were compared");
    Ok(())
}

#[test]
fn dinov2_tiny() -> TestResult {
    let case = open("dinov2_tiny");
    let names = case.tensor_names()?;
    let inputs = |tag: &str| {
        let inputs = names.iter().filter_map(|name| name.strip_suffix("/pixel_values"));
        inputs.filter(|input| input.starts_with(&format!("{tag}/"))).map(str::to_owned).collect::<Vec<_>>()
    };
    let (own, original) = ("weights.safetensors", "fb_weights.safetensors");
    let offset = Some(PositionInterpolation::BicubicOffset);
    for source in [(own, "noreg:hf:"), (original, "noreg:fb:")] {
        let (plain, moved) = (network(&case, source, None)?, network(&case, source, offset)?);
        for input in inputs("noreg") {
            check(&case, &plain, &input, "hf")?;
            check(&case, &moved, &input, "fb")?;
        }
    }
    let with_registers = network(&case, (own, "reg:hf:"), None)?;
    assert!(!inputs("reg").is_empty() && !inputs("noreg").is_empty());
    for input in inputs("reg") {
        check(&case, &with_registers, &input, "hf")?;
    }
    Ok(())
}
