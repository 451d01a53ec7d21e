//! Files, traits and bad input, on a network of random weights.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, array};
use coral_core::{Error, FeatureExtractor, ImageEncoder, SeededRng, Size, TextEncoder};

use super::*;
use crate::{Checkpoint, Parameters};

const CPU: Device = Device::Cpu;

/// With 522 tokens, as [`tokenizer`] has them, and heads by convention.
fn tiny() -> ClipConfig {
    let image = ClipImageConfig { image_size: 8, patch: 4, width: 12, layers: 2, heads: 1, mlp_width: 10 };
    let text = ClipTextConfig { context_length: 6, vocab_size: 522, width: 8, layers: 1, heads: 1, mlp_width: 11 };
    ClipConfig { image: Some(image), text: Some(text), embed_dim: 5, activation: ClipActivation::QuickGelu }
}

/// A file of random weights under OpenAI's names.
fn saved(folder: &Path) -> Checkpoint {
    let map = VarMap::new();
    Clip::new(tiny(), VarBuilder::from_varmap(&map, DType::F32, &CPU)).unwrap();
    let mut random = SeededRng::new(1);
    let mut variables: Vec<_> = map.data().lock().unwrap().clone().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, variable) in &variables {
        let values = (0..variable.elem_count()).map(|_| random.range(-0.5, 0.5) as f32).collect::<Vec<_>>();
        variable.set(&Tensor::from_vec(values, variable.shape(), &CPU).unwrap()).unwrap();
    }
    let path = folder.join("model.safetensors");
    map.save(&path).unwrap();
    Checkpoint::open(path).unwrap()
}

fn tokenizer(folder: &Path) -> ClipTokenizer {
    let path = folder.join("merges.txt");
    std::fs::write(&path, "c o\nco r\na l</w>\ncor al</w>\nr e\nre e\nree f</w>\n' s</w>\n").unwrap();
    ClipTokenizer::open(path).unwrap()
}

fn encoder(folder: &Path) -> ClipEncoder {
    let clip = Clip::load(&saved(folder), tiny(), &CPU).unwrap();
    ClipEncoder::new(clip, tokenizer(folder), ClipPreprocess::new(8)).unwrap()
}

fn photographs() -> Vec<RgbImage> {
    let sizes = [(8, 8), (1, 1), (30, 11), (9, 40), (16, 17)];
    let image = |(width, height): (u32, u32)| {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 37) as u8, (y * 59) as u8, (x * y + width) as u8]))
    };
    sizes.into_iter().map(image).collect()
}

#[test]
fn the_shape_is_read_off_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = saved(folder.path());
    assert_eq!(ClipConfig::from_checkpoint(&checkpoint).unwrap(), tiny());
    assert_eq!(Clip::open(checkpoint.path()).unwrap().config(), &tiny());
    let of_texts = checkpoint.clone().rename(|name| (!name.starts_with("visual.")).then(|| name.to_owned())).unwrap();
    let config = ClipConfig::from_checkpoint(&of_texts).unwrap();
    assert_eq!(config, ClipConfig { image: None, ..tiny() });
    Clip::load(&of_texts, config, &CPU).unwrap();
    let of_images = checkpoint.rename(|name| name.starts_with("visual.").then(|| name.to_owned())).unwrap();
    let config = ClipConfig::from_checkpoint(&of_images).unwrap();
    assert_eq!(config, ClipConfig { text: None, ..tiny() });
    Clip::load(&of_images, config, &CPU).unwrap();
}

#[test]
fn heads_and_activation_come_from_the_files_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path()).path().to_owned();
    let beside = |name: &str, json: serde_json::Value| {
        std::fs::write(folder.path().join(name), json.to_string()).unwrap();
        Clip::open(&path).unwrap().config().clone()
    };
    let open_clip = |quick| beside("open_clip_config.json", serde_json::json!({"model_cfg": {"quick_gelu": quick}}));
    assert_eq!(open_clip(true), tiny());
    assert_eq!(open_clip(false), ClipConfig { activation: ClipActivation::Gelu, ..tiny() });
    let towers = |width: usize| {
        serde_json::json!({"model_cfg": {"vision_cfg": {"width": width, "head_width": 4},
            "text_cfg": {"width": 8, "heads": 2}}})
    };
    let mut expected = ClipConfig { activation: ClipActivation::Gelu, ..tiny() };
    (expected.image.as_mut().unwrap().heads, expected.text.as_mut().unwrap().heads) = (3, 2);
    assert_eq!(beside("open_clip_config.json", towers(12)), expected);
    assert_eq!(beside("open_clip_config.json", towers(16)), tiny(), "of another network");
    std::fs::remove_file(folder.path().join("open_clip_config.json")).unwrap();

    let tower = |heads, width, layers, mlp| {
        serde_json::json!({"hidden_act": "gelu", "hidden_size": width, "num_attention_heads": heads,
            "num_hidden_layers": layers, "intermediate_size": mlp, "image_size": 8, "patch_size": 4,
            "max_position_embeddings": 6, "vocab_size": 522})
    };
    let json = |layers| {
        serde_json::json!({"model_type": "clip", "projection_dim": 5, "vision_config": tower(3, 12, layers, 10),
            "text_config": tower(4, 8, 1, 11)})
    };
    let mut expected = ClipConfig { activation: ClipActivation::Gelu, ..tiny() };
    expected.image.as_mut().unwrap().heads = 3;
    expected.text.as_mut().unwrap().heads = 4;
    assert_eq!(beside("config.json", json(2)), expected);
    assert_eq!(Clip::open(folder.path()).unwrap().config(), &expected, "the folder");
    assert_eq!(beside("config.json", json(7)), tiny(), "of another network");
    assert_eq!(beside("config.json", serde_json::json!({"model_type": "sam"})), tiny());
}

#[test]
fn damaged_files_beside_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path()).path().to_owned();
    tokenizer(folder.path());
    for (name, text, expected) in [
        ("config.json", "{\"model_type\"", "config.json: EOF"),
        ("config.json", "{\"model_type\": \"clip\", \"projection_dim\": \"wide\"}", "config.json: invalid type"),
        ("open_clip_config.json", "[]", "open_clip_config.json: "),
        ("open_clip_config.json", "{\"model_cfg\"", "open_clip_config.json: EOF"),
        (
            "open_clip_config.json",
            "{\"model_cfg\": {\"vision_cfg\": {\"head_width\": 0}}}",
            "`vision_cfg.head_width`: 0",
        ),
        (
            "open_clip_config.json",
            "{\"model_cfg\": {\"text_cfg\": {\"heads\": 3}}}",
            "`text_cfg.heads`: 3 does not divide",
        ),
        ("preprocessor_config.json", "{\"image_std\": [1, 2]}", "field `image_std`"),
        ("preprocessor_config.json", "{\"image_std\": [1, 0, 1]}", "preprocessor_config.json: invalid parameter `std`"),
        ("preprocessor_config.json", "{\"resample\": 2}", "field `resample`: 2; expected 3"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let error = ClipEncoder::open(&path, folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn statistics_come_from_the_files_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path()).path().to_owned();
    tokenizer(folder.path());
    let opened = || *ClipEncoder::open(&path, folder.path()).unwrap().preprocess();
    assert_eq!(opened(), ClipPreprocess::new(8));
    let json =
        serde_json::json!({"model_cfg": {}, "preprocess_cfg": {"mean": [0.5, 0.25, 0.0], "interpolation": "bicubic"}});
    std::fs::write(folder.path().join("open_clip_config.json"), json.to_string()).unwrap();
    assert_eq!(opened(), ClipPreprocess { mean: [0.5, 0.25, 0.0], ..ClipPreprocess::new(8) });
    let json = serde_json::json!({"image_std": [0.5, 0.25, 1.0], "resample": 3});
    std::fs::write(folder.path().join("preprocessor_config.json"), json.to_string()).unwrap();
    assert_eq!(opened(), ClipPreprocess { std: [0.5, 0.25, 1.0], ..ClipPreprocess::new(8) });
}

#[test]
fn configurations_of_transformers_have_its_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let read = |json: &str| {
        std::fs::write(&path, json).unwrap();
        ClipConfig::from_transformers_json(&path)
    };
    assert_eq!(read(r#"{"model_type": "clip"}"#).unwrap(), ClipConfig::vit_b32());
    let error = |json: &str| read(json).unwrap_err().to_string();
    assert!(error(r#"{"model_type": "siglip"}"#).contains("`model_type`: expected clip, got `siglip`"));
    assert!(error(r#"{"model_type": "clip", "text_config": {"hidden_act": "relu"}}"#).contains("`hidden_act`"));
    assert!(error(r#"{"model_type": "clip", "text_config": {"hidden_act": "gelu"}}"#).contains("different ones"));
    assert!(error(r#"{"model_type": "clip", "vision_config": {"patch_size": 0}}"#).contains("`image.patch`"));
    assert!(error("{").contains("config.json"));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(ClipConfig::from_transformers_json(&path), Err(Error::Io { .. })));
}

#[test]
fn other_checkpoints_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cause = |name: &str| {
        let path = folder.path().join("other.safetensors");
        Tensor::zeros((2, 3), DType::F32, &CPU).unwrap().save_safetensors(name, &path).unwrap();
        Clip::open(path).unwrap_err().to_string()
    };
    for (name, expected) in [
        ("visual.attnpool.c_proj.weight", "a CLIP with a residual network; expected a vision transformer"),
        ("vision_model.head.probe", "a SigLIP checkpoint"),
        ("visual.trunk.cls_token", "an image tower of timm"),
        ("text.transformer.embeddings.word_embeddings.weight", "a text tower of its own kind"),
        ("layer1.0.conv1.weight", "a torchvision ResNet checkpoint"),
        ("image_encoder.blocks.0.norm1.weight", "a SAM checkpoint"),
        ("visual.class_embedding", "1 missing (visual.conv1.weight)"),
    ] {
        assert!(cause(name).contains(expected), "{}", cause(name));
    }
    let checkpoint = saved(folder.path());
    let lacking = checkpoint.clone().rename(|name| (name != "ln_final.bias").then(|| name.to_owned())).unwrap();
    let text = Clip::load(&lacking, tiny(), &CPU).unwrap_err().to_string();
    assert!(text.contains("1 missing (ln_final.bias)"), "{text}");
    let lacking = checkpoint.rename(|name| (name != "logit_scale").then(|| name.to_owned())).unwrap();
    assert!(ClipConfig::from_checkpoint(&lacking).unwrap_err().to_string().contains("1 missing (logit_scale)"));
}

#[test]
fn a_tower_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = saved(folder.path());
    let whole = Clip::load(&checkpoint, tiny(), &CPU).unwrap();
    let texts = Clip::load(&checkpoint, ClipConfig { image: None, ..tiny() }, &CPU).unwrap();
    let images = Clip::load(&checkpoint, ClipConfig { text: None, ..tiny() }, &CPU).unwrap();
    let ids = array![[520, 3, 521], [520, 521, 0]];
    let pixels = Tensor::ones((1, 3, 8, 8), DType::F32, &CPU).unwrap();
    let rows = |t: Tensor| t.to_vec2::<f32>().unwrap();
    assert_eq!(rows(texts.encode_token_ids(&ids).unwrap()), rows(whole.encode_token_ids(&ids).unwrap()));
    assert_eq!(rows(images.encode_image_tensor(&pixels).unwrap()), rows(whole.encode_image_tensor(&pixels).unwrap()));
    assert!(texts.encode_image_tensor(&pixels).unwrap_err().to_string().contains("without its image tower"));
    assert!(images.encode_token_ids(&ids).unwrap_err().to_string().contains("without its text tower"));
    assert!(images.logit_scale().unwrap_err().to_string().contains("`logit_scale`"));
    assert!(whole.logit_scale().unwrap() > 0.0);
    let encoder = ClipEncoder::new(texts, tokenizer(folder.path()), ClipPreprocess::new(8)).unwrap();
    assert_eq!(encoder.encode_texts(&["coral"]).unwrap().dim(), (1, 5));
    assert!(encoder.extract(&RgbImage::new(8, 8)).unwrap_err().to_string().contains("without its image tower"));
}

#[test]
fn impossible_ids_and_pixels_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let clip = Clip::load(&saved(folder.path()), tiny(), &CPU).unwrap();
    let text = |ids: &Array2<u32>| clip.encode_token_ids(ids).unwrap_err().to_string();
    assert!(text(&array![[520, 522]]).contains("id 522 is beyond the network's vocabulary of 522"));
    assert_eq!(text(&Array2::zeros((2, 7))), "token ids: expected shape Nx1 to Nx6, N > 0, got 2x7");
    assert!(text(&Array2::zeros((0, 3))).contains("got 0x3"));
    assert!(text(&Array2::zeros((1, 0))).contains("got 1x0"));
    for shape in [[1, 3, 8, 6], [1, 1, 8, 8], [1, 3, 0, 8]] {
        let pixels = Tensor::zeros(&shape[..], DType::F32, &CPU).unwrap();
        assert!(matches!(clip.encode_image_tensor(&pixels), Err(Error::Model { .. })), "{shape:?}");
    }
}

#[test]
fn batches_do_not_change_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = encoder(folder.path());
    let (images, texts) = (photographs(), ["coral", "reef's coral", "", "coral reef coral reef coral", "x"]);
    let expected = [encoder.encode_images(&images).unwrap(), encoder.encode_texts(&texts).unwrap()];
    for rows in &expected {
        assert_eq!(rows.dim(), (5, 5));
        assert!(rows.outer_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-5));
    }
    for batch in [1, 2, 5] {
        encoder = encoder.with_config(ClipEncoderConfig { batch, ..Default::default() }).unwrap();
        let ours = [encoder.encode_images(&images).unwrap(), encoder.encode_texts(&texts).unwrap()];
        for (ours, expected) in ours.iter().zip(&expected) {
            assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{batch}");
        }
    }
    assert_eq!(encoder.encode_images(&[]).unwrap().dim(), (0, 5));
    assert_eq!(encoder.encode_texts(&[]).unwrap().dim(), (0, 5));
    let with_empty = [RgbImage::new(4, 4), RgbImage::new(0, 4)];
    let error = encoder.encode_images(&with_empty).unwrap_err().to_string();
    assert_eq!(error, "invalid input `images[1]`: an image of 0x4 has no pixels");
}

#[test]
fn dense_features_cover_the_whole_photograph() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = encoder(folder.path());
    for (image, grid) in photographs().iter().zip([(2, 2), (2, 2), (2, 5), (9, 2), (2, 2)]) {
        let map = encoder.extract(image).unwrap();
        let (dim, rows, columns) = map.data.dim();
        assert_eq!((dim, (rows, columns), map.image_size), (encoder.dim(), grid, Size::of(image)));
        assert!(map.data.iter().all(|v| v.is_finite()));
    }
    let config = ClipEncoderConfig { dense_side: Some(16), dense: ClipDense::Tokens, ..Default::default() };
    let encoder = encoder.with_config(config).unwrap();
    assert_eq!(encoder.extract(&RgbImage::new(8, 8)).unwrap().data.dim(), (5, 4, 4));
    let error = |image: RgbImage| encoder.extract(&image).unwrap_err().to_string();
    assert!(error(RgbImage::new(300, 2)).contains("cut it into tiles"));
    assert!(error(RgbImage::new(3, 0)).contains("no pixels"));
}

#[test]
fn parts_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let small = ClipConfig { text: tiny().text.map(|text| ClipTextConfig { vocab_size: 9, ..text }), ..tiny() };
    let clip = |config: ClipConfig| Parameters::create(1, &CPU, |vb| Ok(Clip::new(config, vb).unwrap())).unwrap().1;
    let new = |config, size| {
        ClipEncoder::new(clip(config), tokenizer(folder.path()), ClipPreprocess::new(size)).map(|_| ()).unwrap_err()
    };
    assert!(new(small, 8).to_string().contains("522 ids, but the network knows 9"));
    assert!(new(tiny(), 10).to_string().contains("`preprocess.size`"));
    let with = |config| encoder(folder.path()).with_config(config).map(|_| ()).unwrap_err().to_string();
    assert!(with(ClipEncoderConfig { batch: 0, ..Default::default() }).contains("`batch`"));
    assert!(with(ClipEncoderConfig { dense_side: Some(0), ..Default::default() }).contains("`dense_side`"));
    // Opened from one folder, as from a model hub.
    let opened = ClipEncoder::open(folder.path(), folder.path()).unwrap();
    assert_eq!(opened.preprocess().size, 8);
    assert_eq!(opened.tokenizer().vocab_size(), 522);
}
