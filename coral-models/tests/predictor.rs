//! The predictor as a user has it, on the small reference networks.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::Array2;
use coral_core::{BoxPrompt, Error, FeatureExtractor, PointPrompt, Prompt, PromptableSegmenter, Size};
use coral_models::{Checkpoint, Embedding, EncoderConfig, Predictor, PredictorConfig, Sam, SamConfig};

fn weights(case: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(case).join("weights.safetensors")
}

fn predictor(case: &str) -> Predictor {
    Predictor::new(Sam::open(weights(case)).unwrap())
}

fn reef(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5 % 256) as u8, (y * 7 % 256) as u8, ((x + y) * 3 % 256) as u8]))
}

fn point(x: f32, y: f32) -> Prompt {
    Prompt { points: vec![PointPrompt { x, y, foreground: true }], ..Default::default() }
}

fn rect(x_min: f32, y_min: f32, x_max: f32, y_max: f32) -> Prompt {
    Prompt { rect: Some(BoxPrompt { x_min, y_min, x_max, y_max }), ..Default::default() }
}

#[test]
fn a_checkpoint_tells_its_network() {
    let config = |case| SamConfig::from_checkpoint(&Checkpoint::open(weights(case)).unwrap()).unwrap();
    assert!(config("sam_tiny").semantic.is_none());
    assert_eq!(config("coralscop_tiny").semantic.unwrap().tokens, 64);
    assert_eq!((config("sam_tiny").image_size, config("coralscop_tiny").image_size), (160, 128));
}

#[test]
fn any_image_size_gives_masks_of_its_size() {
    let predictor = predictor("coralscop_tiny");
    for (width, height) in [(1, 1), (1, 300), (300, 2), (37, 64), (128, 128)] {
        let image = reef(width, height);
        let embedding = predictor.embed(&image).unwrap();
        let masks = predictor.predict(&embedding, &point(width as f32 / 2.0, height as f32 / 2.0)).unwrap();
        assert_eq!(masks.len(), 3);
        for mask in &masks {
            assert_eq!(Size::of_map(&mask.mask), Size { width, height });
            assert!(mask.class.is_some_and(|class| class < 2));
            assert_eq!(mask.features.len(), 32);
        }
        let map = predictor.extract(&image).unwrap();
        assert_eq!((map.dim(), map.image_size), (predictor.dim(), Size { width, height }));
    }
}

#[test]
fn a_batch_answers_like_its_prompts_alone() {
    let predictor = predictor("sam_tiny");
    let embedding = predictor.embed(&reef(50, 31)).unwrap();
    let mask_logits = Some(Array2::from_shape_fn((40, 40), |(y, x)| if x > y { 4.0 } else { -4.0 }));
    let prompts = [
        point(3.0, 4.0),
        rect(1.0, 2.0, 30.0, 20.0),
        Prompt { mask_logits: mask_logits.clone(), ..point(7.0, 7.5) },
        point(49.0, 30.0),
        Prompt { mask_logits: mask_logits.clone(), ..Default::default() },
        Prompt { mask_logits: mask_logits.clone(), ..rect(0.0, 0.0, 50.0, 31.0) },
        Prompt { points: point(5.0, 5.0).points, ..rect(1.0, 2.0, 30.0, 20.0) },
        Prompt { points: point(5.0, 5.0).points, mask_logits, ..rect(1.0, 2.0, 30.0, 20.0) },
        Prompt { points: vec![point(5.0, 5.0).points[0], point(9.0, 3.0).points[0]], ..Default::default() },
    ];
    let together = predictor.predict_batch(&embedding, &prompts).unwrap();
    assert_eq!(together.len(), prompts.len());
    for (masks, prompt) in together.iter().zip(&prompts) {
        let alone = PromptableSegmenter::predict(&predictor, &embedding, prompt).unwrap();
        assert_eq!(masks.len(), alone.len());
        for (a, b) in masks.iter().zip(&alone) {
            assert!((a.predicted_iou - b.predicted_iou).abs() < 1e-5);
            let difference = (&a.mask_logits - &b.mask_logits).iter().fold(0.0f32, |m, d| m.max(d.abs()));
            assert!(difference < 1e-5, "{difference}");
        }
    }
}

#[test]
fn an_embedding_survives_saving() {
    let predictor = predictor("sam_tiny");
    let embedding = predictor.embed(&reef(50, 31)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reef.embedding");
    embedding.save(&path).unwrap();
    let loaded = Embedding::load(&path, &Device::Cpu).unwrap();
    let prompt = point(20.0, 11.0);
    assert_eq!(predictor.predict(&embedding, &prompt).unwrap(), predictor.predict(&loaded, &prompt).unwrap());

    let bytes = std::fs::read(&path).unwrap();
    for keep in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let text = Embedding::load(&path, &Device::Cpu).unwrap_err().to_string();
        assert!(text.contains("reef.embedding: not a saved embedding"), "{text}");
    }
    let text = Embedding::load(weights("sam_tiny"), &Device::Cpu).unwrap_err().to_string();
    assert!(text.ends_with("not a saved embedding: expected the field `format`"), "{text}");
    // Sizes that do not belong together, and an image that no computer holds.
    for (old, new) in [("50x31", "50x32"), ("50x31", "9x9"), ("160x99", "99x99")] {
        let at = bytes.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes.splice(at..at + old.len(), format!("{new:>width$}", width = old.len()).into_bytes());
        std::fs::write(&path, bytes).unwrap();
        let text = Embedding::load(&path, &Device::Cpu).unwrap_err().to_string();
        assert!(text.contains("_size`"), "{text}");
    }
}

#[test]
fn bad_prompts_are_named() {
    let predictor = predictor("sam_tiny");
    let embedding = predictor.embed(&reef(50, 31)).unwrap();
    let text = |prompt: Prompt| predictor.predict(&embedding, &prompt).unwrap_err().to_string();
    let input = "invalid input `prompts[0]`: ";
    assert_eq!(text(Prompt::default()), format!("{input}expected a point, a box or mask logits, got none"));
    assert_eq!(text(point(50.5, 3.0)), format!("{input}point (50.5, 3) lies outside the 50x31 image"));
    assert_eq!(text(point(f32::NAN, 3.0)), format!("{input}point (NaN, 3) lies outside the 50x31 image"));
    assert_eq!(text(rect(0.0, 0.0, 5.0, 32.0)), format!("{input}box (0, 0) to (5, 32) lies outside the 50x31 image"));
    assert_eq!(text(rect(5.0, 1.0, 5.0, 2.0)), format!("{input}box (5, 1) to (5, 2) is empty"));
    let mask = |logits: Array2<f32>| Prompt { mask_logits: Some(logits), ..Default::default() };
    assert_eq!(text(mask(Array2::zeros((9, 40)))), "prompts[0].mask_logits: expected shape 40x40, got 40x9");
    let mut logits = Array2::zeros((40, 40));
    logits[[3, 4]] = f32::NAN;
    assert_eq!(text(mask(logits)), format!("{input}mask logits must be finite, got NaN"));
}

#[test]
fn bad_images_embeddings_and_settings_are_named() {
    let (small, large) = (predictor("coralscop_tiny"), predictor("sam_tiny"));
    let text = small.embed(&RgbImage::new(0, 5)).unwrap_err().to_string();
    assert_eq!(text, "invalid input `image`: an image of 0x5 has no pixels");
    let foreign = large.embed(&reef(9, 9)).unwrap();
    let text = small.predict(&foreign, &point(1.0, 1.0)).unwrap_err().to_string();
    assert_eq!(text, "embedding: expected shape [1, 8, 8, 32], got [1, 10, 10, 32]");
    let config = PredictorConfig { prompts_per_batch: 0, ..Default::default() };
    let text = small.with_config(config).unwrap_err().to_string();
    assert_eq!(text, "invalid parameter `prompts_per_batch`: expected at least 1, got 0");
}

#[test]
fn networks_that_do_not_fit_are_named() {
    let checkpoint = Checkpoint::open(weights("sam_tiny")).unwrap();
    let config = SamConfig::from_checkpoint(&checkpoint).unwrap();
    let odd = Sam::load(&checkpoint, SamConfig { decoder_heads: 5, ..config.clone() }, &Device::Cpu).unwrap_err();
    assert_eq!(odd.to_string(), "invalid parameter `decoder_heads`: 5 heads do not divide the width 32 / 2");
    let branch = SamConfig::coralscop(2).semantic;
    let error = Sam::load(&checkpoint, SamConfig { semantic: branch, ..config }, &Device::Cpu).unwrap_err();
    let Error::Weights { missing, unexpected, .. } = &error else { panic!("{error}") };
    assert!(missing.iter().all(|name| name.starts_with("mask_decoder.cate_")) && !missing.is_empty());
    assert!(unexpected.is_empty());
}

#[test]
fn another_image_size_is_possible() {
    let checkpoint = Checkpoint::open(weights("coralscop_tiny")).unwrap();
    let config = SamConfig { image_size: 192, ..SamConfig::from_checkpoint(&checkpoint).unwrap() };
    let predictor = Predictor::new(Sam::load(&checkpoint, config, &Device::Cpu).unwrap());
    let embedding = predictor.embed(&reef(60, 90)).unwrap();
    assert_eq!(embedding.features().dims(), [1, 12, 12, 32]);
    let masks = predictor.predict(&embedding, &point(20.0, 11.0)).unwrap();
    assert_eq!(masks[0].mask_logits.dim(), (48, 48));
    assert!(masks[0].class.is_some());
}

#[test]
fn threads_share_a_predictor() {
    fn shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let predictor = predictor("sam_tiny");
    let embedding = predictor.embed(&reef(50, 31)).unwrap();
    shareable(&predictor);
    shareable(&embedding);
    let (point, area) = (point(20.0, 11.0), rect(1.0, 2.0, 30.0, 20.0));
    let expected = [&point, &area].map(|prompt| predictor.predict(&embedding, prompt).unwrap());
    std::thread::scope(|scope| {
        let ask = |index: usize| {
            let (predictor, embedding) = (&predictor, embedding.clone());
            let prompt = [&point, &area][index];
            scope.spawn(move || (index, predictor.predict(&embedding, prompt).unwrap()))
        };
        let handles: Vec<_> = (0..8).map(|i| ask(i % 2)).collect();
        for handle in handles {
            let (index, masks) = handle.join().unwrap();
            assert_eq!(masks, expected[index]);
        }
    });
}

#[test]
fn the_number_of_threads_does_not_change_the_masks() {
    let predictor = predictor("coralscop_tiny");
    let image = reef(60, 90);
    let prompts = [point(20.0, 11.0), point(40.5, 80.0)];
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| predictor.predict_batch(&predictor.embed(&image).unwrap(), &prompts).unwrap())
    };
    for (one, two) in with(1).iter().flatten().zip(with(2).iter().flatten()) {
        assert!((one.predicted_iou - two.predicted_iou).abs() < 1e-5);
        let difference = (&one.mask_logits - &two.mask_logits).iter().fold(0.0f32, |m, d| m.max(d.abs()));
        assert!(difference < 1e-5, "{difference}");
    }
}

/// The tensors of a reference network, some of them replaced (or taken out), as a file.
fn damaged(case: &str, changes: &[(&str, Option<&[usize]>)]) -> coral_core::Result<Sam> {
    let mut tensors = candle_core::safetensors::load(weights(case), &Device::Cpu).unwrap();
    for (name, shape) in changes {
        tensors.remove(*name);
        if let Some(shape) = shape {
            tensors.insert((*name).to_owned(), Tensor::zeros(*shape, candle_core::DType::F32, &Device::Cpu).unwrap());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    Sam::open(path)
}

#[test]
fn checkpoints_with_impossible_shapes_are_refused() {
    damaged("coralscop_tiny", &[]).unwrap();
    let checkpoint = Checkpoint::open(weights("coralscop_tiny")).unwrap();
    for name in checkpoint.names() {
        for shape in
            [None, Some(&[][..]), Some(&[0]), Some(&[1]), Some(&[3, 7]), Some(&[1, 1 << 14]), Some(&[1 << 14, 16])]
        {
            let error = damaged("coralscop_tiny", &[(name, shape)]).unwrap_err();
            let typed = matches!(error, Error::Weights { .. } | Error::Format { .. } | Error::InvalidParameter { .. });
            assert!(typed, "{name} {shape:?}: {error}");
        }
    }
}

#[test]
fn what_is_impossible_about_a_checkpoint_is_named() {
    let text = |changes: &[(&str, Option<&[usize]>)]| damaged("sam_tiny", changes).unwrap_err().to_string();
    let (proj, table) = ("image_encoder.patch_embed.proj.weight", "image_encoder.pos_embed");
    assert!(text(&[(proj, None)]).contains(proj));
    assert!(text(&[(table, Some(&[1, 0, 10, 32]))]).contains(table));
    assert!(text(&[(table, Some(&[1, 1 << 14, 1, 32]))]).contains("image_size"));
    assert!(text(&[("image_encoder.blocks.0.norm1.weight", None)]).contains("encoder.depth"));
    assert!(text(&[("image_encoder.blocks.0.attn.rel_pos_h", Some(&[12, 8]))]).contains("blocks.0.attn.rel_pos_h"));
    assert!(text(&[("mask_decoder.mask_tokens.weight", Some(&[1, 32]))]).contains("mask_tokens"));
    assert!(text(&[("mask_decoder.mask_tokens.weight", Some(&[4, 1 << 16]))]).contains("image_encoder.neck.0.weight"));
}

#[test]
fn other_token_grids_are_interpolated() {
    let checkpoint = Checkpoint::open(weights("sam_tiny")).unwrap();
    let config = SamConfig::from_checkpoint(&checkpoint).unwrap();
    let EncoderConfig::Vit(vit) = &config.encoder else { panic!("expected a vision transformer") };
    let patch = vit.patch;
    let sam = Sam::load(&checkpoint, config, &Device::Cpu).unwrap();
    let images = Tensor::ones((2, 3, 3 * patch, 13 * patch), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_eq!(sam.encode(&images).unwrap().dims(), [2, 3, 13, 32]);
    assert!(sam.encode(&images.narrow(3, 0, patch + 1).unwrap()).is_err());
}

#[test]
fn answers_that_are_not_finite_are_errors() {
    let with_nan = |name: &str| {
        let mut tensors = candle_core::safetensors::load(weights("sam_tiny"), &Device::Cpu).unwrap();
        let damaged = tensors[name].affine(1.0, f64::NAN).unwrap();
        tensors.insert(name.to_owned(), damaged);
        let config = SamConfig::from_checkpoint(&Checkpoint::open(weights("sam_tiny")).unwrap()).unwrap();
        let weights = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
        Predictor::new(Sam::new(config, weights).unwrap())
    };
    let text = with_nan("image_encoder.blocks.0.mlp.lin1.bias").embed(&reef(50, 31)).unwrap_err().to_string();
    assert_eq!(text, "model: the image encoder gave features that are not finite");
    // The decoder's perceptrons have ReLU, which is no place for NaN to vanish.
    for layer in 0..3 {
        let predictor = with_nan(&format!("mask_decoder.iou_prediction_head.layers.{layer}.bias"));
        let embedding = predictor.embed(&reef(50, 31)).unwrap();
        let text = predictor.predict(&embedding, &point(3.0, 4.0)).unwrap_err().to_string();
        assert_eq!(text, "model: the mask decoder gave values that are not finite");
    }
}

#[test]
fn a_saved_normalisation_is_no_misfit() {
    let mut tensors = candle_core::safetensors::load(weights("sam_tiny"), &Device::Cpu).unwrap();
    tensors.insert("pixel_mean".into(), Tensor::ones((3, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    assert!(Sam::open(&path).is_ok());
}

#[test]
fn half_a_mobile_sam_is_not_taken_for_another_network() {
    let text = Sam::open(weights("mobilesam_tiny")).unwrap_err().to_string();
    assert!(text.contains("2 missing") && text.contains("mask_decoder.transformer.layers.0.norm1.weight"), "{text}");
    assert!(!text.contains("the model needs"), "{text}");
}
