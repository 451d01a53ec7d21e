use coral_core::testing::check_multi_label_classifier;
use coral_core::{Error, MultiLabelClassifier, Size};

use super::*;

fn head(inputs: usize, seed: u64) -> BTreeMap<String, Tensor> {
    let config = MultiLabelHeadConfig { hidden: [6, 5], ..MultiLabelHeadConfig::new(inputs, 3) };
    Parameters::create(seed, &Device::Cpu, |vb| MultiLabelHead::new(config, &vb)).unwrap().0.tensors()
}

/// A folder as DinoVdeau publishes it.
fn dinovdeau(folder: &Path) {
    let encoder = network(&config(), 1).0.tensors();
    let mut tensors: BTreeMap<_, _> = encoder.into_iter().map(|(name, t)| (format!("dinov2.{name}"), t)).collect();
    tensors.extend(head(16, 2));
    write(&folder.join("model.safetensors"), &tensors);
    let json = r#"{"model_type": "dinov2", "hidden_size": 8, "num_attention_heads": 2,
        "id2label": {"0": "sand", "1": "coral", "2": "fish"}}"#;
    std::fs::write(folder.join("config.json"), json).unwrap();
    std::fs::write(folder.join("threshold.json"), r#"{"coral": 0.25, "fish": 0.0, "sand": 0.5}"#).unwrap();
}

#[test]
fn published_folders_are_read_and_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    dinovdeau(folder.path());
    let classifier = FrameClassifier::open_dinovdeau(folder.path()).unwrap();
    let info = classifier.head().info();
    assert_eq!(info.class_names, ["sand", "coral", "fish"]);
    assert_eq!(info.thresholds, [Some(0.5), Some(0.25), Some(0.0)]);
    assert_eq!(classifier.encoder().network().config().heads, 2);
    assert_eq!(classifier.encoder().config().size, InputSize::Square(28));
    check_multi_label_classifier(&classifier, Size { width: 31, height: 20 }).unwrap();
    let images = [picture(30, 40, 1), picture(20, 20, 2)];
    let features = classifier.encoder().linear_input(&images).unwrap();
    let expected = classifier.head().probabilities(features.view()).unwrap();
    assert_eq!(classifier.probabilities(&images).unwrap(), expected);
    // Without thresholds and names it is the same network.
    std::fs::remove_file(folder.path().join("threshold.json")).unwrap();
    std::fs::write(folder.path().join("preprocessor_config.json"), r#"{"size": {"height": 56, "width": 56}}"#).unwrap();
    let classifier = FrameClassifier::open_dinovdeau(folder.path()).unwrap();
    assert!(classifier.head().info().thresholds.is_empty());
    assert_eq!(classifier.encoder().config().size, InputSize::Square(56));
}

#[test]
fn files_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, text: &str| {
        dinovdeau(folder.path());
        let _ = std::fs::remove_file(folder.path().join("preprocessor_config.json"));
        std::fs::write(folder.path().join(name), text).unwrap();
        let error = FrameClassifier::open_dinovdeau(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        error.to_string()
    };
    assert!(error("threshold.json", r#"{"sand": 0.5}"#).contains("threshold.json: no threshold of `coral`"));
    assert!(error("threshold.json", r#"{"sand": 0.5, "rock": 0.1}"#).contains("`rock` is no class"));
    assert!(error("threshold.json", "[0.5]").contains("threshold.json"));
    assert!(error("threshold.json", r#"{"coral": 0.25, "fish": 2.0, "sand": 0.5}"#).contains("`thresholds`"));
    assert!(error("config.json", r#"{"id2label": {"0": "sand", "2": "fish"}}"#).contains("field `id2label`"));
    let crop = r#"{"size": {"shortest_edge": 256}, "do_center_crop": true}"#;
    assert!(error("preprocessor_config.json", crop).contains("do_center_crop"));
    dinovdeau(folder.path());
    write(&folder.path().join("model.safetensors"), &network(&config(), 1).0.tensors());
    assert!(matches!(FrameClassifier::open_dinovdeau(folder.path()), Err(Error::Weights { .. })));
}

#[test]
fn heads_of_other_encoders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let load = |inputs: usize| {
        let path = folder.path().join(format!("{inputs}.safetensors"));
        write(&path, &head(inputs, 1));
        let checkpoint = Checkpoint::open(&path).unwrap();
        let config = MultiLabelHeadConfig::from_checkpoint(&checkpoint).unwrap();
        FrameHead::load(&checkpoint, config).unwrap()
    };
    let wide = FrameClassifier::new(encoder(1), load(18)).unwrap_err().to_string();
    assert!(wide.contains("takes 18 features, but the encoder gives 16"), "{wide}");
    let of_first = FrameHeadInfo { encoder: Some(encoder(1).fingerprint().unwrap()), ..FrameHeadInfo::default() };
    let head = load(16).with_info(of_first).unwrap();
    FrameClassifier::new(encoder(1), head.clone()).unwrap();
    let other = FrameClassifier::new(encoder(2), head).unwrap_err();
    assert!(matches!(other, Error::InvalidParameter { .. }), "{other}");
}
