use candle_core::{Device, Tensor};
use coral_core::Size;
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, ArrayD, Axis};
use coral_core::testing::GoldenCase;
use coral_models::{Checkpoint, Clip, ClipConfig, ClipPreprocess};

use crate::{TestResult, open};

const FEATURES: f32 = 1e-4;
const LOGITS: f32 = 5e-4;

fn assert_close(what: &str, ours: &Tensor, expected: &ArrayD<f32>, tolerance: f32) {
    assert_eq!(ours.dims(), expected.shape(), "{what}");
    let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, (a, e)) in ours.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance, "{what} {i}: {a} against {e}");
    }
}

/// The tiny network under one naming scheme.
fn network(case: &GoldenCase, weights: &str) -> Result<Clip, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::open(case.dir().join(weights))?;
    let mut config = ClipConfig::from_checkpoint(&checkpoint)?;
    let number = |name: &str| case.number(&format!("/config/{name}")).map(|n| n as usize);
    let (image, text) = (config.image.as_mut().ok_or("image")?, config.text.as_mut().ok_or("text")?);
    // No shape tells the heads, and the case's are not by OpenAI's convention.
    (image.heads, text.heads) = (number("vision_heads")?, number("transformer_heads")?);
    assert_eq!([image.image_size, image.layers], [number("image_resolution")?, number("vision_layers")?]);
    assert_eq!([image.width, image.patch], [number("vision_width")?, number("patch")?]);
    assert_eq!([text.context_length, text.vocab_size], [number("context_length")?, number("vocab_size")?]);
    assert_eq!([text.width, text.layers], [number("transformer_width")?, number("transformer_layers")?]);
    assert_eq!(config.embed_dim, number("embed_dim")?);
    Ok(Clip::load(&checkpoint, config, &Device::Cpu)?)
}

fn unit_rows(rows: &Tensor) -> candle_core::Result<Tensor> {
    rows.broadcast_div(&rows.sqr()?.sum_keepdim(1)?.sqrt()?)
}

#[test]
fn clip_tiny() -> TestResult {
    let case = open("clip_tiny");
    let pixels = case.f32("pixel_values")?;
    let pixels = Tensor::from_vec(pixels.iter().copied().collect(), pixels.shape(), &Device::Cpu)?;
    let ids: Array2<u32> = case.i64("input_ids")?.mapv(|id| id as u32).into_dimensionality()?;
    let check = |what: &str, ours: &Tensor, name: &str, tolerance: f32| {
        case.f32(name).map(|expected| assert_close(&format!("{what}: {name}"), ours, &expected, tolerance))
    };
    for weights in ["openai_weights.safetensors", "hf_weights.safetensors"] {
        let clip = network(&case, weights)?;
        let (images, texts) = (clip.encode_image_tensor(&pixels)?, clip.encode_token_ids(&ids)?);
        check(weights, &images, "image_features", FEATURES)?;
        check(weights, &texts, "text_features", FEATURES)?;
        check(weights, &images, "hf/vision_pooled", FEATURES)?;
        check(weights, &clip.image_tokens(&pixels)?, "hf/vision_last_hidden_state", FEATURES)?;
        check(weights, &clip.text_tokens(&ids)?, "hf/text_last_hidden_state", FEATURES)?;
        check(weights, &unit_rows(&images)?, "hf/image_embeds_normalised", FEATURES)?;
        check(weights, &unit_rows(&texts)?, "hf/text_embeds_normalised", FEATURES)?;
        let logits = clip.logits(&images, &texts)?;
        check(weights, &logits, "logits_per_image", LOGITS)?;
        check(weights, &logits, "hf/logits_per_image", LOGITS)?;
        check(weights, &logits.t()?, "logits_per_text", LOGITS)?;
        check(weights, &candle_nn::ops::softmax(&logits, 1)?, "probs", FEATURES)?;
        // Each text is the same alone as among longer ones.
        for (i, text) in ids.outer_iter().enumerate() {
            let alone = clip.encode_token_ids(&text.insert_axis(Axis(0)).to_owned())?;
            assert_close(
                "alone",
                &alone,
                &case.f32("text_features")?.slice_axis(Axis(0), (i..=i).into()).to_owned(),
                FEATURES,
            );
        }
    }
    Ok(())
}

fn image(pixels: &ArrayD<u8>) -> RgbImage {
    let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
    RgbImage::from_raw(width, height, pixels.iter().copied().collect()).unwrap()
}

fn f16(case: &GoldenCase, name: &str) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::open(case.dir().join("io.safetensors"))?;
    Ok(checkpoint.tensor(name, &Device::Cpu)?.flatten_all()?.to_vec1()?)
}

#[test]
fn clip_preprocess() -> TestResult {
    let case = open("clip_preprocess");
    let names = case.tensor_names()?;
    let images = names.iter().filter_map(|name| name.strip_suffix("/image_u8")).collect::<Vec<_>>();
    assert!(!images.is_empty());
    for name in images {
        let photograph = image(&case.u8(&format!("{name}/image_u8"))?);
        let expected = image(&case.u8(&format!("{name}/resized_cropped_u8"))?);
        let clip = ClipPreprocess::new(expected.width());
        for (field, ours) in [("mean", clip.mean), ("std", clip.std)] {
            let published: [f32; 3] = serde_json::from_value(case.value(&format!("/{field}"))?.clone())?;
            assert_eq!(ours, published, "{field}");
        }
        let resized = case.i64(&format!("{name}/resized_hw"))?;
        let size = Size { width: resized[1] as u32, height: resized[0] as u32 };
        assert_eq!(clip.resized_size(Size::of(&photograph)), size, "{name}");
        assert!(clip.resize_and_crop(&photograph)? == expected, "{name}: pixels differ");
        let pixels = format!("{name}/pixels_f16");
        if names.contains(&pixels) {
            let ours = clip.to_tensor(&[photograph], &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let published = f16(&case, &pixels)?;
            assert_eq!(ours.len(), published.len());
            for (a, e) in ours.iter().zip(&published) {
                assert!((a - e).abs() <= 2e-3 * e.abs().max(1e-2), "{pixels}: {a} against {e}");
            }
        }
    }
    Ok(())
}
