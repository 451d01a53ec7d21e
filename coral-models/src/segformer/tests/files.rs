use super::*;
use crate::{Checkpoint, Parameters, SegFormer, SegFormerPart};
use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use coral_core::Segmenter;
use std::collections::HashMap;
use std::path::Path;

#[test]
fn a_file_holds_weights_settings_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut config = config(3);
    config.image_size = Some(size(40, 36));
    config.class_names = vec!["sand".into(), "branched".into(), "tabular".into()];
    config.training.loss.cross_entropy_weight = 0.25;
    let saved = segmenter(config.clone());
    saved.save(&path).unwrap();
    let opened = SegFormerSegmenter::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.config(), &config);
    assert_eq!(opened.config().class_set().unwrap().id("tabular"), Some(2));
    assert_eq!(values(opened.trainer().parameters()), values(saved.trainer().parameters()));
    let image = scene(size(50, 31), 1).image;
    assert_eq!(opened.segment(&image).unwrap(), saved.segment(&image).unwrap());
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let open = || text(SegFormerSegmenter::open(&path, &Device::Cpu));
    assert!(open().contains("model.safetensors"));
    let saved = segmenter(config(2));
    saved.trainer().parameters().save(&path).unwrap();
    assert!(open().contains("no field `coral_segformer_segmenter`"));
    let weight = saved.trainer().parameters().get("decode_head.classifier.bias").unwrap();
    weight.set(&Tensor::new(&[0f32, f32::NAN], &Device::Cpu).unwrap()).unwrap();
    saved.save(&path).unwrap();
    assert!(open().contains("`decode_head.classifier.bias` holds NaN"));
    let bytes = std::fs::read(&path).unwrap();
    for kept in [bytes.len() - 40, 300, 5, 0] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        assert!(open().contains("model.safetensors: "), "{kept}");
    }
    assert!(text(saved.save(folder.path().join("model.pth"))).contains(".safetensors"));
}

/// Writes the weights of a network under other names; `None` leaves one out.
fn rewrite(path: &Path, parameters: &Parameters, name: impl Fn(&str) -> Option<String>) -> Checkpoint {
    let renamed = parameters.tensors().into_iter().filter_map(|(old, tensor)| Some((name(&old)?, tensor)));
    let mut tensors: HashMap<String, Tensor> = renamed.collect();
    tensors.insert("classifier.weight".into(), Tensor::zeros((1000, 16), DType::F32, &Device::Cpu).unwrap());
    tensors.insert("classifier.bias".into(), Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, path).unwrap();
    Checkpoint::open(path).unwrap()
}

fn of_encoder(parameters: &Parameters) -> Vec<(String, Vec<f32>)> {
    values(parameters).into_iter().filter(|(name, _)| name.starts_with("segformer.")).collect()
}

#[test]
fn encoders_of_imagenet_are_taken_and_heads_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mit.safetensors");
    let source = segmenter(config(2));
    let without_head = |name: &str| name.starts_with("segformer.").then(|| name.to_owned());
    let bare = |name: &str| name.strip_prefix("segformer.").map(str::to_owned);
    for checkpoint in [
        rewrite(&path, source.trainer().parameters(), without_head),
        rewrite(&path, source.trainer().parameters(), bare),
    ] {
        assert_eq!(SegFormerPart::of(&checkpoint, 3).unwrap(), SegFormerPart::Encoder);
        let taken =
            SegFormerSegmenter::fine_tune(config(3), &checkpoint, (SegFormerPart::Encoder, 9), &Device::Cpu).unwrap();
        let (ours, theirs) = (taken.trainer().parameters(), source.trainer().parameters());
        assert_eq!(of_encoder(ours), of_encoder(theirs));
        assert_eq!(ours.get("decode_head.classifier.weight").unwrap().dims(), [3, 8, 1, 1]);
        for part in [SegFormerPart::Whole, SegFormerPart::WithoutClassifier] {
            let error = text(SegFormerSegmenter::fine_tune(config(2), &checkpoint, (part, 9), &Device::Cpu));
            assert!(error.contains("the file holds an encoder alone"), "{error}");
        }
        let read = SegFormerConfig::from_encoder(&checkpoint, 3).unwrap();
        assert_eq!(SegFormerConfig { decoder_hidden_size: 8, ..read }, network(3));
        assert_eq!(read.decoder_hidden_size, 256);
        assert!(text(SegFormerConfig::from_encoder(&checkpoint, 300)).contains("num_labels"));
        assert!(text(SegFormerConfig::from_checkpoint(&checkpoint)).contains("decode_head.classifier.weight"));
    }
}

#[test]
fn other_classes_get_a_classifier_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let source = segmenter(config(2));
    source.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(SegFormerPart::of(&checkpoint, 2).unwrap(), SegFormerPart::Whole);
    assert_eq!(SegFormerPart::of(&checkpoint, 5).unwrap(), SegFormerPart::WithoutClassifier);
    let Err(Error::Weights { mismatched, .. }) = SegFormerSegmenter::load(config(5), &checkpoint, &Device::Cpu) else {
        panic!("expected an error");
    };
    assert_eq!(
        mismatched,
        [
            "decode_head.classifier.bias: expected 5, got 2",
            "decode_head.classifier.weight: expected 5x8x1x1, got 2x8x1x1"
        ]
    );
    let start = |seed| {
        let part = SegFormerPart::WithoutClassifier;
        let tuned = SegFormerSegmenter::fine_tune(config(5), &checkpoint, (part, seed), &Device::Cpu).unwrap();
        values(tuned.trainer().parameters())
    };
    let shared = |values: &[(String, Vec<f32>)]| -> Vec<_> {
        values.iter().filter(|(name, _)| !name.contains("classifier")).cloned().collect()
    };
    assert_eq!(shared(&start(1)), shared(&values(source.trainer().parameters())));
    assert_eq!(start(1), start(1));
    assert_ne!(start(1), start(2));
}

#[test]
fn shapes_tell_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let same = SegFormerConfig { hidden_sizes: [4, 8, 20, 32], num_attention_heads: [1, 2, 5, 8], ..network(4) };
    let single = SegFormerConfig { sr_ratios: [4, 1, 1, 1], patch_sizes: [5, 3, 3, 5], ..same };
    for config in [same, single] {
        let (parameters, _) =
            Parameters::create(1, &Device::Cpu, |vb: VarBuilder<'_>| SegFormer::new(&config, &vb)).unwrap();
        parameters.save(&path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(SegFormerConfig::from_checkpoint(&checkpoint).unwrap(), config);
        SegFormer::load(&checkpoint, &config, &Device::Cpu).unwrap();
    }
    let other = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    other.save_safetensors("layer1.0.conv1.weight", &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    for error in [text(SegFormerPart::of(&checkpoint, 2)), text(SegFormerConfig::from_encoder(&checkpoint, 2))] {
        assert!(error.contains("the file is a torchvision ResNet checkpoint"), "{error}");
    }
    other.save_safetensors("segformer.encoder.patch_embeddings.0.proj.weight", &path).unwrap();
    let error = text(SegFormerConfig::from_encoder(&Checkpoint::open(&path).unwrap(), 2));
    assert!(error.contains("expected 4 dimensions"), "{error}");
}

#[test]
fn configurations_of_transformers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let read = |json: &str| {
        std::fs::write(&path, json).unwrap();
        SegFormerConfig::from_transformers_json(&path)
    };
    let labels = r#""id2label": {"0": "a", "1": "b", "2": "c"}"#;
    let b2 = r#""hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768"#;
    let config = read(&format!(r#"{{"model_type": "segformer", "layer_norm_eps": 1e-6, {labels}, {b2}}}"#)).unwrap();
    assert_eq!(config, SegFormerConfig::mit_b2(3));
    assert_eq!(read(r#"{"model_type": "segformer"}"#).unwrap(), SegFormerConfig::mit_b0(2));
    for (json, expected) in [
        (r#"{"model_type": "clip"}"#, "expected segformer, got `clip`"),
        (r#"{"model_type": "segformer", "hidden_act": "relu"}"#, "hidden_act"),
        (r#"{"model_type": "segformer", "num_channels": 4}"#, "num_channels"),
        (r#"{"model_type": "segformer", "attention_probs_dropout_prob": 0.1}"#, "attention_probs"),
        (r#"{"model_type": "segformer", "depths": [1, 2]}"#, "config.json"),
        (r#"{"model_type": "segformer", "depths": [1, 2, 0, 1]}"#, "`depths`"),
        ("{", "config.json"),
    ] {
        let error = text(read(json));
        assert!(error.contains(expected), "{error}");
    }
    assert!(text(SegFormerConfig::from_transformers_json(folder.path().join("gone.json"))).contains("gone.json"));
}

#[test]
fn impossible_settings_of_a_file_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let saved = segmenter(config(2));
    let open = |change: &dyn Fn(&mut SegFormerSegmenterConfig)| {
        let mut config = config(2);
        change(&mut config);
        let description = ("coral_segformer_segmenter", &config);
        crate::weights::write_described(&path, &saved.trainer().parameters().tensors(), description).unwrap();
        let error = SegFormerSegmenter::open(&path, &Device::Cpu).err().unwrap();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        error.to_string()
    };
    for (error, field) in [
        (open(&|c| c.network.num_labels = 1), "`num_labels`"),
        (open(&|c| c.class_names = vec!["sand".into()]), "`class_names`"),
        (open(&|c| c.training.trainer.learning_rate = -1.0), "`learning_rate`"),
    ] {
        assert!(error.contains("model.safetensors: field `coral_segformer_segmenter`"), "{error}");
        assert!(error.contains(field), "{error}");
    }
}
