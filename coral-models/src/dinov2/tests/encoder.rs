use coral_core::{Error, FeatureExtractor, ImageEncoder};

use super::*;

/// The tensors under the names of the original program; with `chunks`, every block is in one of its own.
fn original_names(tensors: &BTreeMap<String, Tensor>, chunks: bool) -> BTreeMap<String, Tensor> {
    const NAMES: [(&str, &str); 8] = [
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.", ""),
        ("layernorm.", "norm."),
        ("attention.output.dense", "attn.proj"),
        ("attention.attention.query", "attn.qkv"),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
    ];
    let parts = |name: &str| ["query", "key", "value"].map(|part| tensors[&name.replace("query", part)].clone());
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        if name.contains("attention.key") || name.contains("attention.value") {
            continue;
        }
        let fused = name.contains("attention.query").then(|| Tensor::cat(&parts(name), 0).unwrap());
        let mut new = NAMES.iter().fold(name.clone(), |name, (theirs, original)| name.replace(theirs, original));
        if let Some((block, rest)) = new.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.')) {
            let chunk = if chunks { format!("{block}.") } else { String::new() };
            new = format!("blocks.{chunk}{block}.{rest}");
        }
        renamed.insert(new, fused.unwrap_or_else(|| tensor.clone()));
    }
    renamed
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let largest = values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= tolerance, "{largest}");
}

#[test]
fn fused_and_composed_networks_agree_and_gradients_pass() {
    let swiglu = DinoV2Config { mlp: DinoV2Mlp::SwiGlu(10), heads: 2, ..config() };
    for config in [config(), config().with_registers(3), swiglu] {
        let (parameters, fixed) = network(&config, 1);
        let trained = parameters.build(build(&config)).unwrap();
        let pixels = crate::gradient_check::random(&[2, 3, 42, 28], 5).to_dtype(candle_core::DType::F32).unwrap();
        let (ours, expected) = (fixed.forward(&pixels).unwrap(), trained.forward(&pixels).unwrap());
        assert_eq!(ours.patches.dims(), [2, 3, 2, 8]);
        assert_close(&ours.class, &expected.class, 1e-5);
        assert_close(&ours.patches, &expected.patches, 1e-5);
        assert_eq!(ours.registers.is_some(), config.registers > 0);
        let loss = (expected.class.sqr().unwrap().mean_all().unwrap()
            + expected.patches.powf(3.0).unwrap().mean_all().unwrap())
        .unwrap();
        crate::Gradients::of(&loss, &parameters).unwrap();
    }
}

#[test]
fn names_of_all_programs_give_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let registers = config().with_registers(2);
    for config in [config(), registers] {
        let (parameters, expected) = network(&config, 3);
        let mut tensors = parameters.tensors();
        tensors.insert(
            "embeddings.mask_token".into(),
            Tensor::zeros((1, 8), candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        let prefixed = |prefix: &str| -> BTreeMap<String, Tensor> {
            let others = [("classifier.weight".to_owned(), tensors["layernorm.weight"].clone())];
            tensors.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone())).chain(others).collect()
        };
        let schemes = [
            tensors.clone(),
            prefixed("dinov2."),
            prefixed("dinov2_with_registers."),
            original_names(&tensors, false),
            original_names(&tensors, true),
        ];
        let fingerprint = DinoV2Encoder::new(expected.clone()).fingerprint().unwrap();
        for (index, tensors) in schemes.iter().enumerate() {
            let path = folder.path().join(format!("{index}.safetensors"));
            write(&path, tensors);
            let checkpoint = Checkpoint::open(&path).unwrap();
            assert_eq!(DinoV2Config::from_checkpoint(&checkpoint).unwrap(), config, "scheme {index}");
            let encoder = DinoV2Encoder::open(&path).unwrap();
            assert_eq!(encoder.fingerprint().unwrap(), fingerprint, "scheme {index}");
        }
    }
}

#[test]
fn other_checkpoints_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (parameters, _) = network(&config(), 3);
    let tensors = parameters.tensors();
    let error = |tensors: &BTreeMap<String, Tensor>| {
        write(&path, tensors);
        DinoV2::open(&path).unwrap_err()
    };
    let with = |name: &str, shape: &[usize], value: f32| {
        let mut changed = tensors.clone();
        changed.insert(name.into(), Tensor::full(value, shape, &Device::Cpu).unwrap());
        changed
    };
    let clip: BTreeMap<_, _> =
        with("visual.class_embedding", &[8], 0.0).into_iter().filter(|(n, _)| n.starts_with("visual")).collect();
    match error(&clip) {
        Error::Weights { cause, .. } => assert!(cause.unwrap().contains("CLIP"), "another kind is named"),
        other => panic!("{other}"),
    }
    assert!(matches!(error(&with("embeddings.position_embeddings", &[1, 4, 8], 0.0)), Error::Format { .. }));
    assert!(matches!(error(&with("layernorm.weight", &[7], 0.0)), Error::Weights { .. }));
    assert!(matches!(error(&with("extra", &[7], 0.0)), Error::Weights { .. }));
    assert!(error(&with("layernorm.weight", &[8], f32::NAN)).to_string().contains("`layernorm.weight` holds NaN"));
    write(&path, &tensors);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(DinoV2::open(&path), Err(Error::Format { .. })), "{length} bytes");
    }
    assert!(matches!(DinoV2::open(folder.path().join("none.safetensors")), Err(Error::Io { .. })));
}

#[test]
fn heads_come_from_the_file_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &network(&config(), 3).0.tensors());
    let beside = |json: &str| {
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        DinoV2::open(folder.path()).map(|network| network.config().heads)
    };
    let json = |heads: usize, kind: &str| {
        format!(r#"{{"model_type": "{kind}", "hidden_size": 8, "num_attention_heads": {heads}}}"#)
    };
    assert_eq!(beside(&json(4, "dinov2")).unwrap(), 4);
    assert_eq!(beside(&json(2, "dinov2_with_registers")).unwrap(), 2);
    assert_eq!(beside(&json(4, "vit")).unwrap(), 1);
    assert!(beside(&json(3, "dinov2")).unwrap_err().to_string().contains("config.json: invalid parameter `heads`"));
    assert!(matches!(beside("{"), Err(Error::Format { .. })));
}

#[test]
fn images_of_all_sizes_are_encoded_alone_and_together() {
    let encoder = encoder(1);
    let own = DinoV2EncoderConfig { batch: 2, size: InputSize::Own, filter: InputFilter::BilinearAliased };
    for encoder in [encoder.clone(), encoder.with_config(own).unwrap()] {
        let images =
            [picture(30, 50, 1), picture(28, 28, 2), picture(90, 15, 3), picture(30, 50, 4), picture(30, 50, 5)];
        let together = encoder.linear_input(&images).unwrap();
        assert_eq!(together.dim(), (5, 16));
        let rows = encoder.encode_images(&images).unwrap();
        assert_eq!(rows.dim(), (5, 8));
        for (index, image) in images.iter().enumerate() {
            let alone = encoder.linear_input(std::slice::from_ref(image)).unwrap();
            assert!(alone.iter().zip(together.row(index)).all(|(a, b)| (a - b).abs() < 1e-5));
            assert!((rows.row(index).dot(&rows.row(index)) - 1.0).abs() < 1e-5);
            let map = encoder.extract(image).unwrap();
            assert_eq!((map.dim(), map.image_size), (encoder.dim(), coral_core::Size::of(image)));
            // The other half of the linear input is the mean of the dense features.
            for (channel, plane) in map.data.outer_iter().enumerate() {
                assert!((plane.mean().unwrap() - together[[index, 8 + channel]]).abs() < 1e-5);
            }
        }
        assert_eq!(encoder.linear_input(&[]).unwrap().dim(), (0, 16));
        assert_eq!(encoder.encode_images(&[]).unwrap().dim(), (0, 8));
        let error = encoder.linear_input(&[picture(30, 30, 1), picture(30, 13, 1)]).unwrap_err().to_string();
        assert!(error.contains("`images[1]`: an image of 30x13 is smaller than a patch"), "{error}");
        assert!(matches!(encoder.extract(&RgbImage::new(0, 0)), Err(Error::InvalidInput { .. })));
    }
}

#[test]
fn fingerprints_follow_weights_and_settings() {
    let (first, other) = (encoder(1), encoder(2));
    let print = |encoder: &DinoV2Encoder| encoder.fingerprint().unwrap();
    assert_eq!(print(&first), print(&encoder(1)));
    assert_ne!(print(&first), print(&other));
    let base = *first.config();
    let with = |config: DinoV2EncoderConfig| print(&encoder(1).with_config(config).unwrap());
    assert_eq!(with(DinoV2EncoderConfig { batch: 3, ..base }), print(&first));
    assert_ne!(with(DinoV2EncoderConfig { size: InputSize::Own, ..base }), print(&first));
    assert_ne!(with(DinoV2EncoderConfig { filter: InputFilter::BilinearAliased, ..base }), print(&first));
    assert!(encoder(1).with_config(DinoV2EncoderConfig { batch: 0, ..base }).is_err());
}

#[test]
fn impossible_requests_are_errors() {
    let network = network(&config(), 1).1;
    let pixels = |height: usize, width: usize| {
        Tensor::zeros((1, 3, height, width), candle_core::DType::F32, &Device::Cpu).unwrap()
    };
    for (height, width) in [(27, 28), (0, 28), (28, 15)] {
        assert!(matches!(network.forward(&pixels(height, width)), Err(Error::Model { .. })));
    }
    let none = pixels(28, 28).narrow(0, 0, 0).unwrap();
    assert!(network.forward(&none).unwrap_err().to_string().contains("expected Nx3xHxW pixels"));
    assert!(matches!(network.hidden_tokens(&pixels(28, 28), 3), Err(Error::InvalidParameter { .. })));
    assert!(matches!(network.position_table((0, 2)), Err(Error::InvalidParameter { .. })));
}
