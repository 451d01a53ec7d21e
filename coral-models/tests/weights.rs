//! Checkpoints as other programs write them, whole and damaged.

use std::path::{Path, PathBuf};

use coral_core::Error;
use coral_models::candle_core::{Device, Tensor};
use coral_models::{Checkpoint, convert_to_safetensors, load};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints").join(name)
}

/// The committed copy: the fixtures were made from it.
fn sam_tiny() -> Checkpoint {
    Checkpoint::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sam_tiny/weights.safetensors")).unwrap()
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name, &Device::Cpu).unwrap();
    assert_eq!(Some(tensor.dims()), checkpoint.shape(name));
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Same names, same shapes, values within the rounding to half precision.
fn assert_same_halved(halved: &Checkpoint, original: &Checkpoint) {
    assert_eq!(halved.names().collect::<Vec<_>>(), original.names().collect::<Vec<_>>());
    for name in original.names() {
        assert_eq!(halved.shape(name), original.shape(name), "{name}");
        for (a, b) in values(halved, name).iter().zip(values(original, name)) {
            // 11 bits of mantissa; the smallest steps are 2^-24.
            assert!((a - b).abs() <= b.abs() / 2048.0 + 6e-8, "{name}: {a} {b}");
        }
    }
}

fn text_of<T>(result: coral_core::Result<T>) -> String {
    result.err().expect("expected an error").to_string()
}

#[test]
fn golden_weights_fill_a_network_of_their_shapes() {
    for case in ["sam_tiny", "coralscop_tiny", "mobilesam_tiny"] {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let case = coral_core::testing::GoldenCase::open(fixtures, case).unwrap();
        let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors")).unwrap();
        let listed = case.value("/weights").unwrap().as_object().unwrap();
        assert_eq!(checkpoint.names().len(), listed.len());
        let shapes = listed.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).map(|(name, about)| {
            let shape = about[1].as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as usize);
            (name, shape.collect::<Vec<_>>())
        });
        let shapes = shapes.collect::<Vec<_>>();
        let tensors = load(&checkpoint, &Device::Cpu, &[], |vb| {
            shapes.iter().map(|(name, shape)| vb.get(shape.as_slice(), name)).collect::<Result<Vec<_>, _>>()
        });
        assert_eq!(tensors.unwrap().len(), shapes.len());
        let without_first = load(&checkpoint, &Device::Cpu, &[], |vb| {
            shapes[1..].iter().map(|(name, shape)| vb.get(shape.as_slice(), name)).collect::<Result<Vec<_>, _>>()
        });
        match without_first.unwrap_err() {
            Error::Weights { unexpected, .. } => assert_eq!(unexpected, [shapes[0].0.as_str()]),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn sam_of_transformers_gets_the_original_names() {
    let theirs = Checkpoint::open(fixture("sam_tiny_transformers.safetensors")).unwrap();
    assert!(theirs.has_transformers_sam_names());
    let original = sam_tiny();
    assert!(!original.has_transformers_sam_names());
    assert_same_halved(&theirs.clone().with_original_sam_names().unwrap(), &original);

    // Older files have the shared matrix twice, or under the other of its names.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.safetensors");
    let shared =
        ["shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"];
    let mut tensors = theirs
        .names()
        .map(|name| (name.to_owned(), theirs.tensor(name, &Device::Cpu).unwrap()))
        .collect::<std::collections::HashMap<_, _>>();
    let matrix = tensors[shared[0]].clone();
    tensors.insert(shared[1].to_owned(), matrix);
    coral_models::candle_core::safetensors::save(&tensors, &path).unwrap();
    assert_same_halved(&Checkpoint::open(&path).unwrap().with_original_sam_names().unwrap(), &original);
    tensors.remove(shared[0]);
    coral_models::candle_core::safetensors::save(&tensors, &path).unwrap();
    assert_same_halved(&Checkpoint::open(&path).unwrap().with_original_sam_names().unwrap(), &original);

    let untouched = sam_tiny().with_original_sam_names().unwrap();
    assert_eq!(untouched.names().collect::<Vec<_>>(), original.names().collect::<Vec<_>>());
}

#[test]
fn a_training_checkpoint_gives_its_state_dict() {
    assert_same_halved(&Checkpoint::open(fixture("training.pth")).unwrap(), &sam_tiny());
}

#[test]
fn every_number_type_and_layout_is_read() {
    let expected = Checkpoint::open(fixture("types.safetensors")).unwrap();
    for file in ["types.pth", "types_protocol4.pth"] {
        let stored = Checkpoint::open(fixture(file)).unwrap();
        assert_eq!(stored.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
        for name in expected.names() {
            assert_eq!(values(&stored, name), values(&expected, name), "{file}: {name}");
        }
    }
}

#[test]
fn conversion_keeps_names_types_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types.safetensors");
    convert_to_safetensors(fixture("types.pth"), &path).unwrap();
    let (expected, converted) = (Checkpoint::open(fixture("types.pth")).unwrap(), Checkpoint::open(&path).unwrap());
    assert_eq!(converted.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    for name in expected.names() {
        assert_eq!(values(&converted, name), values(&expected, name), "{name}");
    }
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.tensors()["i8"].dtype, safetensors::Dtype::I8);
    assert_eq!(header.tensors()["f16"].dtype, safetensors::Dtype::F16);

    // Onto itself, with its metadata.
    convert_to_safetensors(fixture("sam_tiny_transformers.safetensors"), &path).unwrap();
    let first = Checkpoint::open(&path).unwrap();
    assert_eq!(first.metadata()["format"], "pt");
    first.save_safetensors(&path).unwrap();
    let second = Checkpoint::open(&path).unwrap();
    assert_eq!(second.metadata(), first.metadata());
    assert!(first.names().all(|name| values(&first, name) == values(&second, name)));

    let nowhere = folder.path().join("missing/out.safetensors");
    assert!(text_of(first.save_safetensors(&nowhere)).starts_with(&nowhere.display().to_string()));
    assert!(text_of(first.save_safetensors(folder.path().join("out.pth"))).contains("expected a name that ends in"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_weights_of_torchscript_programs_are_read() {
    let checkpoint = Checkpoint::open(fixture("script.pt")).unwrap();
    let names = checkpoint.names().collect::<Vec<_>>();
    let norm = ["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"];
    assert_eq!(names, [&norm[..], &["conv.bias", "conv.weight"]].concat());
    assert_eq!(checkpoint.shape("conv.weight"), Some([2, 1, 3, 3].as_slice()));
    assert_eq!(values(&checkpoint, "conv.weight")[..3], [-0.057_720_9, -0.043_028_276, 0.157_908_29]);
    assert_eq!(values(&checkpoint, "conv.bias"), [-0.113_013_11, 0.013_051_192]);
    assert_eq!(values(&checkpoint, "bn.weight"), [1.0, 1.0]);
}

#[test]
fn what_cannot_be_read_says_why() {
    for (file, reason) in [
        ("before_1_6.pth", "PyTorch before 1.6, which is not supported; convert it"),
        ("whole_module.pth", "holds a Python object of __main__.Net; expected a state dict"),
        ("two_models.pth", "holds several state dicts, under `generator`, `critic`"),
        ("complex.pth", "tensor `c`: has the type torch ComplexFloatStorage"),
        ("expanded.pth", "tensor `x`: "),
        ("no_tensors.pth", "holds no tensors; expected a state dict"),
    ] {
        let path = fixture(file);
        let text = text_of(Checkpoint::open(&path));
        assert!(text.starts_with(&format!("{}: ", path.display())) && text.contains(reason), "{text}");
    }
}

#[test]
fn other_files_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (content, reason) in [
        (&b""[..], "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"{\"error\": \"not found\"}", "JSON text; expected"),
        (b"\x80\x04\x95\x05\x00", "a Python pickle that PyTorch did not write"),
        (b"GGUF\x03\x00", "a GGUF file"),
        (b"\x89HDF\r\n", "an HDF5 (Keras) file"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"x", "neither format"),
        (b"PK\x03\x04 and so on", "truncated or damaged zip archive"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x00{}", "safetensors"),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = text_of(Checkpoint::open(&path));
        assert!(text.contains(reason), "{text}");
    }
    let missing = folder.path().join("missing.pth");
    assert!(matches!(Checkpoint::open(&missing), Err(Error::Io { path, .. }) if path == missing));
    let text = text_of(sam_tiny().tensor("nothing", &Device::Cpu));
    assert!(text.ends_with("holds no tensor `nothing`"), "{text}");
}

#[test]
fn folders_and_shards_are_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        text_of(Checkpoint::open(folder.path()))
            .contains("the folder holds no checkpoint; expected model.safetensors or")
    );

    std::fs::copy(fixture("types.pth"), folder.path().join("pytorch_model.bin")).unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap().contains("scalar"));

    let save = |name: &str, file: &str| {
        let tensor = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        tensor.save_safetensors(name, folder.path().join(file)).unwrap();
    };
    save("a", "model-1.safetensors");
    save("b", "model-2.safetensors");
    let index = folder.path().join("model.safetensors.index.json");
    let write = |json: &str| std::fs::write(&index, json).unwrap();
    write(r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#);
    let sharded = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(sharded.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(values(&sharded, "b"), [1.0, 2.0]);

    write(r#"{"weight_map": {"c": "model-1.safetensors"}}"#);
    assert!(text_of(Checkpoint::open(&index)).contains("names the tensor `c`"));
    write(r#"{"weight_map": {"a": "../model-1.safetensors"}}"#);
    assert!(text_of(Checkpoint::open(&index)).contains("expected a file beside the index"));
    write(r#"{"weights": {}}"#);
    assert!(text_of(Checkpoint::open(&index)).contains("has no object `weight_map`"));
    write("{");
    assert!(matches!(Checkpoint::open(&index), Err(Error::Format { .. })));
}

#[test]
fn tensors_can_be_renamed_and_left_out() {
    let renamed = sam_tiny().rename(|name| Some(format!("encoder.{}", name.strip_prefix("image_encoder.")?))).unwrap();
    assert!(renamed.contains("encoder.pos_embed") && renamed.names().all(|name| name.starts_with("encoder.")));
    assert_eq!(values(&renamed, "encoder.pos_embed"), values(&sam_tiny(), "image_encoder.pos_embed"));
    assert!(text_of(sam_tiny().rename(|_| Some("same".to_owned()))).contains("two tensors would be named `same`"));
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for file in ["types.safetensors", "types.pth"] {
        let length = std::fs::copy(fixture(file), &path).unwrap();
        let cut = std::fs::File::options().write(true).open(&path).unwrap();
        for length in (0..length).rev() {
            cut.set_len(length).unwrap();
            let error = Checkpoint::open(&path).expect_err(&format!("{file} cut to {length} bytes was accepted"));
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        file in prop::sample::select(vec!["types.safetensors", "types.pth", "types_protocol4.pth", "whole_module.pth", "script.pt"]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(fixture(file)).unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            for name in checkpoint.names() {
                let tensor = checkpoint.tensor(name, &Device::Cpu);
                prop_assert!(tensor.is_err() || tensor.unwrap().dims() == checkpoint.shape(name).unwrap());
            }
            let copy = folder.path().join("copy.safetensors");
            if checkpoint.save_safetensors(&copy).is_ok() {
                prop_assert!(Checkpoint::open(&copy).is_ok());
            }
        }
    }
}
