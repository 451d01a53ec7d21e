use std::path::Path;

use coral_benches::{Weights, builder, clicks, photograph, planes, rival_sam, sam_weights};
use coral_core::image::RgbImage;
use coral_core::{Error, Result};
use coral_models::candle_core::{Device, Tensor};
use coral_models::{Checkpoint, GeneratorConfig, MaskGenerator, Predictor, Sam, SamConfig};
use serde_json::{Value, json};

use crate::measure::{Repeat, Timing, write, write_output};
use crate::{Side, Work};

/// Side of the photograph in pixels.
const SIDE: u32 = 1024;
/// Prompts that are decoded.
const PROMPTS: usize = 64;

fn network(work: Work) -> SamConfig {
    if work == Work::MobileSamEncode { SamConfig::mobile_sam() } else { SamConfig::vit_b() }
}

/// Writes random weights, the photograph and the generator's thresholds.
pub(crate) fn prepare(work: Work, folder: &Path) -> Result<()> {
    let config = network(work);
    let weights = sam_weights(&config).map_err(Error::model)?;
    write(&folder.join("weights.safetensors"), &weights)?;
    let image = photograph(SIDE, SIDE)?;
    let path = folder.join("image.rgb");
    std::fs::write(&path, image.as_raw()).map_err(|error| Error::io(&path, error))?;
    if work == Work::Generate32 {
        let settings = generator_settings(&weights, &image)?;
        let path = folder.join("generator.json");
        std::fs::write(&path, settings.to_string()).map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
}

/// Thresholds that half of the masks of a random network pass; those published would leave none. Masks without any pixel have no
/// stability, and are none.
fn generator_settings(weights: &Weights, image: &RgbImage) -> Result<Value> {
    let predictor = predictor(weights, &SamConfig::vit_b())?;
    let embedding = predictor.embed(image)?;
    let mut ious = Vec::new();
    predictor.decode(&embedding, &clicks(PROMPTS, 128), true, |masks| {
        ious.extend(masks.iter().map(|mask| mask.predicted_iou));
        Ok(())
    })?;
    ious.sort_by(f32::total_cmp);
    let half = ious[ious.len() / 2];
    Ok(json!({
        "pred_iou_thresh": half, "stability_score_thresh": 1e-6, "box_nms_thresh": 0.7, "crop_nms_thresh": 0.7,
        "points_per_side": 32, "crop_n_layers": 1,
    }))
}

fn predictor(weights: &Weights, config: &SamConfig) -> Result<Predictor> {
    Ok(Predictor::new(Sam::new(config.clone(), builder(weights)).map_err(Error::model)?))
}

fn read_image(folder: &Path) -> Result<RgbImage> {
    let path = folder.join("image.rgb");
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let wrong = || Error::format(&path, None, format!("expected {SIDE}x{SIDE} RGB pixels"));
    RgbImage::from_raw(SIDE, SIDE, bytes).ok_or_else(wrong)
}

/// Times a row of Segment Anything's family.
pub(crate) fn time(work: Work, side: Side, folder: &Path) -> Result<Timing> {
    match side {
        Side::Ours => ours(work, folder),
        Side::Candle => rival(work, folder),
    }
}

fn ours(work: Work, folder: &Path) -> Result<Timing> {
    let checkpoint = Checkpoint::open(folder.join("weights.safetensors"))?;
    let predictor = Predictor::new(Sam::load(&checkpoint, network(work), &Device::Cpu)?);
    let image = read_image(folder)?;
    let done = |ms, output: Option<Tensor>, masks| {
        let outputs = output.map_or(Ok(None), |output| write_output(folder, &output))?;
        Ok(Timing::Run { ms, outputs, masks })
    };
    match work {
        Work::Decode64 => {
            let (embedding, prompts) = (predictor.embed(&image)?, clicks(PROMPTS, 128));
            let (ms, _) = Timing::of(Repeat::Often, || predictor.predict_batch(&embedding, &prompts))?;
            let (mut logits, mut shape) = (vec![Vec::new(); PROMPTS], (0, 0));
            predictor.decode(&embedding, &prompts, true, |masks| {
                for mask in masks {
                    shape = mask.low_res_logits.dim();
                    logits[mask.prompt].extend(mask.low_res_logits);
                }
                Ok(())
            })?;
            let output = Tensor::from_vec(logits.concat(), (PROMPTS, 3, shape.0, shape.1), &Device::Cpu);
            done(ms, Some(output.map_err(Error::model)?), None)
        }
        Work::Generate32 => {
            let generator = MaskGenerator::new(predictor, generator_config(folder)?)?;
            let (ms, masks) = Timing::of(Repeat::Once, || generator.generate(&image))?;
            done(ms, None, Some(masks.len()))
        }
        _ => {
            let (ms, embedding) = Timing::of(Repeat::Often, || predictor.embed(&image))?;
            done(ms, Some(embedding.features().permute((0, 3, 1, 2)).map_err(Error::model)?), None)
        }
    }
}

fn generator_config(folder: &Path) -> Result<GeneratorConfig> {
    let path = folder.join("generator.json");
    let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let settings: Value =
        serde_json::from_slice(&text).map_err(|error| Error::format(&path, None, error.to_string()))?;
    let number = |name: &str| {
        settings[name].as_f64().ok_or_else(|| Error::format(&path, None, format!("expected a number `{name}`")))
    };
    Ok(GeneratorConfig {
        points_per_side: number("points_per_side")? as u32,
        crop_n_layers: number("crop_n_layers")? as u32,
        pred_iou_thresh: number("pred_iou_thresh")?,
        stability_score_thresh: number("stability_score_thresh")?,
        box_nms_thresh: number("box_nms_thresh")?,
        crop_nms_thresh: number("crop_nms_thresh")?,
        ..GeneratorConfig::sam()
    })
}

fn rival(work: Work, folder: &Path) -> Result<Timing> {
    let weights = coral_models::candle_core::safetensors::load(folder.join("weights.safetensors"), &Device::Cpu);
    let network = rival_sam(&network(work), &weights.map_err(Error::model)?).map_err(Error::model)?;
    let pixels = planes(&read_image(folder)?).map_err(Error::model)?;
    let embed = || network.embeddings(&pixels).map_err(Error::model);
    let ms = match work {
        Work::Decode64 => {
            let embedding = embed()?;
            let (prompts, side) = (clicks(PROMPTS, 128), SIDE as usize);
            // It takes one prompt at a time, and leaves the masks at a quarter of the size.
            let decode = || {
                for prompt in &prompts {
                    let point = prompt.points[0];
                    let place = [(f64::from(point.x) / f64::from(SIDE), f64::from(point.y) / f64::from(SIDE), true)];
                    network.forward_for_embeddings(&embedding, side, side, &place, true).map_err(Error::model)?;
                }
                Ok(())
            };
            Timing::of(Repeat::Often, decode)?.0
        }
        Work::Generate32 => {
            let generate = || network.generate_masks(&pixels, 32, 1, 512.0 / 1500.0, 1).map_err(Error::model);
            Timing::of(Repeat::Once, generate)?.0
        }
        _ => Timing::of(Repeat::Often, embed)?.0,
    };
    Ok(Timing::Run { ms, outputs: None, masks: None })
}
