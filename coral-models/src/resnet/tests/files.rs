use super::*;
use crate::{Checkpoint, Parameters, ResNet};
use coral_core::PatchClassifier;
use coral_core::testing::{check_grid_classifier, check_patch_classifier};

fn named(mut config: ResNetClassifierConfig) -> ResNetClassifierConfig {
    config.class_names = vec!["sand".into(), "strap-like".into(), "ferny".into()];
    config
}

#[test]
fn a_file_holds_weights_settings_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut config = named(config(3));
    config.patch_size = Some(Size { width: 20, height: 24 });
    config.training.class_weights = Some(vec![1.0, 1.5, 0.3]);
    let saved = classifier(config.clone());
    saved.save(&path).unwrap();
    let opened = ResNetClassifier::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.config(), &config);
    assert_eq!(opened.config().class_set().unwrap().id("ferny"), Some(2));
    assert_eq!(values(opened.trainer().parameters()), values(saved.trainer().parameters()));
    let patches = [flat(0, square(16), 1), flat(2, square(33), 2)];
    assert_eq!(opened.classify(&patches).unwrap(), saved.classify(&patches).unwrap());
}

#[test]
fn settings_of_before_class_names_are_read() {
    let mut value = serde_json::to_value(config(2)).unwrap();
    assert!(value.as_object_mut().unwrap().remove("class_names").is_some());
    assert_eq!(serde_json::from_value::<ResNetClassifierConfig>(value).unwrap(), config(2));
}

#[test]
fn names_fit_the_classes() {
    let text = |names: &[&str]| {
        let class_names = names.iter().map(|name| (*name).to_owned()).collect();
        text(ResNetClassifier::new(ResNetClassifierConfig { class_names, ..config(2) }, 1, &Device::Cpu))
    };
    assert_eq!(text(&["sand"]), "invalid parameter `class_names`: 1 names for 2 classes");
    assert!(text(&["sand", " Sand"]).contains("`class_names`: invalid input `classes`: the name ` Sand` occurs twice"));
    let mut unfit = config(2);
    unfit.training.augmentation =
        Some(crate::Augmentation { horizontal_flip: 1.5, ..crate::Augmentation::seaclip(None) });
    assert!(super::text(ResNetClassifier::new(unfit, 1, &Device::Cpu)).contains("horizontal_flip"));
}

#[test]
fn files_that_are_no_classifier_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let saved = classifier(config(2));
    saved.trainer().parameters().save(&path).unwrap();
    let error = text(ResNetClassifier::open(&path, &Device::Cpu));
    assert!(error.contains("weights.safetensors: no field `coral_resnet_classifier`"), "{error}");
    assert!(text(ResNetClassifier::open(folder.path().join("gone.safetensors"), &Device::Cpu)).contains("gone"));
    let checkpoint = Checkpoint::open(&path).unwrap();
    ResNetClassifier::load(config(2), &checkpoint, &Device::Cpu).unwrap();
    let Err(Error::Weights { mismatched, .. }) = ResNetClassifier::load(config(3), &checkpoint, &Device::Cpu) else {
        panic!("expected an error");
    };
    assert_eq!(mismatched, ["head.classes.bias: expected 3, got 2", "head.classes.weight: expected 3x8, got 2x8"]);
    saved.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    assert!(text(ResNetClassifier::open(&path, &Device::Cpu)).contains("weights.safetensors: "));
}

/// An encoder with the head of another program.
fn torchvision(path: &std::path::Path, resnet: ResNetConfig) -> Parameters {
    let build = |vb: candle_nn::VarBuilder<'_>| {
        Ok((ResNet::new(&resnet, &vb)?, crate::layers::Linear::new(resnet.dim(), 10, &vb.pp("fc"))?))
    };
    let (parameters, _) = Parameters::create(9, &Device::Cpu, build).unwrap();
    parameters.save(path).unwrap();
    parameters
}

#[test]
fn the_encoder_of_a_checkpoint_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet.safetensors");
    let source = torchvision(&path, RESNET);
    let checkpoint = Checkpoint::open(&path).unwrap();
    for hidden in [config(3).network.hidden, None] {
        let mut config = config(3);
        config.network.hidden = hidden;
        let taken = ResNetClassifier::with_encoder(config.clone(), &checkpoint, 1, &Device::Cpu).unwrap();
        let fresh = classifier(config);
        let encoder = |parameters: &Parameters| {
            let mut values = values(parameters);
            values.retain(|(name, _)| !name.starts_with("head.") && !name.starts_with("fc."));
            values
        };
        assert_eq!(encoder(taken.trainer().parameters()), encoder(&source));
        assert_ne!(encoder(taken.trainer().parameters()), encoder(fresh.trainer().parameters()));
        assert_eq!(taken.classify(&[flat(0, square(16), 0)]).unwrap().dim(), (1, 3));
    }
    let wider = ResNetConfig { width: 5, ..RESNET };
    torchvision(&path, wider);
    let error = ResNetClassifier::with_encoder(config(3), &Checkpoint::open(&path).unwrap(), 1, &Device::Cpu);
    assert!(text(error).contains("bn1.bias: expected 4, got 5"));
}

#[test]
fn an_encoder_is_copied_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet.safetensors");
    let mut taking = classifier(config(2));
    let patch = [flat(1, square(16), 0)];
    let before = (values(taking.trainer().parameters()), taking.classify(&patch).unwrap());
    // The last stage of this one is larger by a block, and its first layers fit.
    let other = torchvision(&path, ResNetConfig { width: 4, blocks: [1, 1, 1, 1], bottleneck: true });
    assert!(text(taking.copy_encoder(&other)).contains("has no weight `layer1.0.conv1.weight` of the same shape"));
    assert_eq!((values(taking.trainer().parameters()), taking.classify(&patch).unwrap()), before);
    let source = torchvision(&path, RESNET);
    taking.copy_encoder(&source).unwrap();
    let conv =
        |parameters: &Parameters| parameters.get("conv1.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>();
    assert_eq!(conv(taking.trainer().parameters()).unwrap(), conv(&source).unwrap());
    assert_ne!(taking.classify(&patch).unwrap(), before.1);
}

#[test]
fn contracts_of_classifiers_are_kept() {
    let mut sized = config(3);
    sized.patch_size = Some(Size { width: 18, height: 12 });
    for config in [config(3), sized] {
        check_patch_classifier(&classifier(config), Size { width: 16, height: 11 }).unwrap();
    }
    for (cells, side) in [(Cells::Cut(16), 16), (Cells::Cut(7), 7), (Cells::Pooled(1), 32), (Cells::Pooled(2), 64)] {
        let mut config = config(3);
        config.network.cells = cells;
        check_grid_classifier(&classifier(config), square(side)).unwrap();
    }
}

#[test]
fn no_image_gives_no_row() {
    use coral_core::ImageEncoder;
    let classifier = classifier(config(3));
    assert_eq!(classifier.classify(&[]).unwrap().dim(), (0, 3));
    assert_eq!(classifier.encode_images(&[]).unwrap().dim(), (0, 32));
    let rows = classifier.encode_images(&[flat(0, square(16), 1), flat(1, square(40), 1)]).unwrap();
    assert!(rows.outer_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-5));
    assert!(classifier.classify(&[RgbImage::new(0, 4)]).is_err());
}
