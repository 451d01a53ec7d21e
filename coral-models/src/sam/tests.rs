//! Parity of the networks' insides, which the public interface does not show.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::ndarray::ArrayD;
use coral_core::testing::GoldenCase;

use super::config::{EncoderConfig, SamConfig, SemanticConfig};
use super::mask_decoder::{MaskChoice, MaskDecoder};
use super::model::{PromptBatch, Sam};
use super::prompt_encoder::{PointKind, Token};
use super::tiny_vit::TinyVitConfig;
use crate::Normalization;

fn open(name: &str) -> (GoldenCase, Sam) {
    let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap();
    let path = case.dir().join("weights.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut config = SamConfig::from_shapes(|name| tensors.get(name).map(|t| t.dims().to_vec())).unwrap();
    config.decoder_heads = case.number("/config/dec_heads").unwrap() as usize;
    let weights = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
    (case, Sam::new(config, weights).unwrap())
}

fn tensor(case: &GoldenCase, name: &str) -> Tensor {
    let array = case.f32(name).unwrap();
    Tensor::from_vec(array.iter().copied().collect::<Vec<_>>(), array.shape(), &Device::Cpu).unwrap()
}

/// Within `atol` plus a ten-thousandth of the expected value.
fn assert_close(what: &str, ours: &Tensor, expected: &Tensor, atol: f64) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let allowed = expected.abs().unwrap().affine(1e-4, atol).unwrap();
    let excess = ((ours - expected).unwrap().abs().unwrap() - allowed).unwrap().flatten_all().unwrap().max(0).unwrap();
    let excess = excess.to_scalar::<f32>().unwrap();
    assert!(excess <= 0.0, "{what}: {excess} beyond the tolerance {atol}");
}

fn tokens(case: &GoldenCase, prompt: &str) -> Vec<Vec<Token>> {
    let names = case.tensor_names().unwrap();
    let mut prompts: Vec<Vec<Token>> = vec![];
    let key = |part: &str| format!("{prompt}/{part}");
    let boxes = names.contains(&key("boxes")).then(|| case.f32(&key("boxes")).unwrap());
    if names.contains(&key("point_coords")) {
        let labels = case.i64(&key("point_labels")).unwrap();
        for (places, labels) in case.f32(&key("point_coords")).unwrap().outer_iter().zip(labels.outer_iter()) {
            let kind = |label: i64| match label {
                -1 => PointKind::Padding,
                0 => PointKind::Background,
                _ => PointKind::Foreground,
            };
            let point =
                |(p, l): (coral_core::ndarray::ArrayViewD<f32>, &i64)| Token { x: p[0], y: p[1], kind: kind(*l) };
            prompts.push(places.outer_iter().zip(labels.iter()).map(point).collect());
        }
        if boxes.is_none() {
            prompts.iter_mut().for_each(|p| p.push(Token { x: 0.0, y: 0.0, kind: PointKind::Padding }));
        }
    }
    if let Some(boxes) = boxes {
        prompts.resize(boxes.shape()[0], vec![]);
        for (prompt, corners) in prompts.iter_mut().zip(boxes.outer_iter()) {
            prompt.push(Token { x: corners[0], y: corners[1], kind: PointKind::TopLeft });
            prompt.push(Token { x: corners[2], y: corners[3], kind: PointKind::BottomRight });
        }
    }
    prompts
}

fn pixels(case: &GoldenCase, sam: &Sam) -> Tensor {
    let resized: ArrayD<u8> = case.u8("image_resized_u8").unwrap();
    let size = sam.config().image_size;
    let normal = Normalization::IMAGENET;
    let mut values = vec![0.0f32; 3 * size * size];
    for (at, &v) in resized.indexed_iter() {
        let value = (f32::from(v) / 255.0 - normal.mean[at[2]]) / normal.std[at[2]];
        values[(at[2] * size + at[0]) * size + at[1]] = value;
    }
    Tensor::from_vec(values, (1, 3, size, size), &Device::Cpu).unwrap()
}

fn check(name: &str) {
    let (case, sam) = open(name);
    let features = sam
        .encode_with(&pixels(&case, &sam), |index, tokens| {
            let name = if index == 0 { "enc.patch_embed".into() } else { format!("enc.block{}", index - 1) };
            assert_close(&name, tokens, &tensor(&case, &name), 2e-4);
        })
        .unwrap();
    let expected = tensor(&case, "image_embedding").permute((0, 2, 3, 1)).unwrap();
    assert_close("image_embedding", &features, &expected, 2e-4);
    for prompt in case.value("/prompts").unwrap().as_array().unwrap() {
        check_prompt(&case, &sam, &expected.contiguous().unwrap(), prompt.as_str().unwrap());
    }
}

fn check_prompt(case: &GoldenCase, sam: &Sam, features: &Tensor, prompt: &str) {
    let names = case.tensor_names().unwrap();
    let has = |part: &str| names.contains(&format!("{prompt}/{part}"));
    let expected = |part: &str| tensor(case, &format!("{prompt}/{part}"));
    let mut prompts = tokens(case, prompt);
    if prompts.is_empty() {
        prompts.push(vec![]);
    } else {
        let sparse = sam.prompt_encoder.points(&prompts).unwrap().unwrap();
        assert_close(&format!("{prompt}/sparse"), &sparse, &expected("sparse_embeddings"), 2e-4);
    }
    let masks = has("mask_input").then(|| expected("mask_input").squeeze(1).unwrap());
    if let Some(masks) = &masks {
        let dense = sam.prompt_encoder.masks(masks).unwrap().permute((0, 3, 1, 2)).unwrap();
        assert_close(&format!("{prompt}/dense"), &dense, &expected("dense_embeddings"), 2e-4);
    }
    for (multi, choice) in [(0, MaskChoice::Single), (1, MaskChoice::Multiple)] {
        let out =
            sam.decode(features, &PromptBatch { masks: masks.as_ref(), ..PromptBatch::of(&prompts) }, choice).unwrap();
        let part = |name: &str| format!("multi{multi}/{name}");
        assert_close(&part("masks"), &out.low_res_masks, &expected(&part("low_res_masks")), 1e-4);
        assert_close(&part("iou"), &out.iou, &expected(&part("iou")), 1e-4);
        if let Some(semantics) = &out.semantics {
            assert_close(&part("cate"), &semantics.logits, &expected(&part("cate_pred")), 1e-4);
            assert_close(&part("features"), &semantics.features, &expected(&part("fc_features")), 1e-4);
        }
    }
}

#[test]
fn sam_tiny_inside() {
    check("sam_tiny");
}

#[test]
fn coralscop_tiny_inside() {
    check("coralscop_tiny");
}

#[test]
fn coralscop_decoder_of_full_size() {
    let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "coralscop_decoder4096").unwrap();
    let tensors = candle_core::safetensors::load(case.dir().join("weights.safetensors"), &Device::Cpu).unwrap();
    let field = |name: &str| case.number(&format!("/config/{name}")).unwrap() as usize;
    let image = tensor(&case, "image_embedding").permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let (_, height, width, dim) = image.dims4().unwrap();
    let semantic = SemanticConfig { classes: field("cate_num"), tokens: height * width, feature_dim: field("hidden") };
    let config = SamConfig {
        dim,
        decoder_heads: field("heads"),
        decoder_mlp_dim: field("mlp"),
        iou_hidden: field("hidden"),
        semantic: Some(semantic),
        ..SamConfig::vit_b()
    };
    let weights = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
    let decoder = MaskDecoder::new(&config, &weights.pp("mask_decoder")).unwrap();
    let dense = tensor(&case, "dense_channel").reshape((1, 1, 1, dim)).unwrap();
    let places = tensor(&case, "image_pe").permute((0, 2, 3, 1)).unwrap().reshape((1, height * width, dim)).unwrap();
    let image = image.broadcast_add(&dense).unwrap();
    let out = decoder.forward(&image, &places, &tensor(&case, "sparse"), MaskChoice::All).unwrap();
    let semantics = out.semantics.unwrap();
    let close = |what: &str, ours: &Tensor| assert_close(what, ours, &tensor(&case, what), 5e-5);
    close("iou", &out.iou);
    close("cate_pred", &semantics.logits);
    close("fc_features", &semantics.features);
    let (batch, masks, full, _) = out.low_res_masks.dims4().unwrap();
    let strided = out.low_res_masks.reshape(&[batch, masks, full / 8, 8, full / 8, 8][..]).unwrap();
    let strided = strided.narrow(3, 0, 1).unwrap().narrow(5, 0, 1).unwrap().contiguous().unwrap();
    close("masks_stride8", &strided.reshape((batch, masks, full / 8, full / 8)).unwrap());
    let first = out.low_res_masks.get(0).unwrap().get(0).unwrap();
    let crop = first.narrow(0, 96, 64).unwrap().narrow(1, 96, 64).unwrap().contiguous().unwrap();
    close("mask0_prompt0_crop64", &crop);
    close("masks_mean", &out.low_res_masks.flatten_from(2).unwrap().mean(2).unwrap());
}

#[test]
fn mobile_sam_is_recognised_by_its_tensors() {
    let encoder = TinyVitConfig {
        stem_dim: 4,
        dims: [8, 8, 16, 24],
        depths: [1, 1, 2, 1],
        heads: [2, 2, 3],
        windows: [2, 3, 2],
        ..TinyVitConfig::mobile_sam()
    };
    let config = SamConfig {
        encoder: EncoderConfig::TinyVit(encoder),
        dim: 32,
        decoder_mlp_dim: 20,
        iou_hidden: 16,
        ..SamConfig::mobile_sam()
    };
    let variables = candle_nn::VarMap::new();
    Sam::new(config.clone(), VarBuilder::from_varmap(&variables, candle_core::DType::F32, &Device::Cpu)).unwrap();
    let variables = variables.data().lock().unwrap();
    let mut tensors: std::collections::HashMap<String, Tensor> =
        variables.iter().map(|(name, variable)| (name.clone(), variable.as_detached_tensor())).collect();
    // Published files also hold the classifier of the pre-training and the counters of batch normalisation.
    let blank = Tensor::zeros(5, candle_core::DType::F32, &Device::Cpu).unwrap();
    for name in ["norm_head.weight", "head.bias", "layers.0.downsample.conv1.bn.num_batches_tracked"] {
        tensors.insert(format!("image_encoder.{name}"), blank.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mobile_sam.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let sam = Sam::open(&path).unwrap();
    assert_eq!(sam.config(), &config);
    let image = Tensor::ones((1, 3, 48, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_eq!(sam.encode(&image).unwrap().dims(), [1, 3, 2, 32]);

    tensors.remove("image_encoder.layers.3.blocks.0.attn.attention_biases");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let text = Sam::open(&path).unwrap_err().to_string();
    assert!(text.contains("layers.3.blocks.0.attn.attention_biases"), "{text}");
}
