use coral_core::{CountingProgress, Error, NoProgress};

use super::*;

#[test]
fn every_photograph_is_encoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, frames) = (folder.path().join("features.safetensors"), files(folder.path(), 5));
    // The nearest whole patches to these sizes would be other ones if they were looked for twice.
    let size = InputSize::ShorterSide(35);
    let encoder = encoder(1).with_config(DinoV2EncoderConfig { size, ..*encoder(1).config() }).unwrap();
    let mut cache = FrameFeatures::open_for(&path, &encoder).unwrap();
    assert!(cache.is_empty() && !path.exists());
    let progress = CountingProgress::default();
    cache.extend(&encoder, &frames[..3], &read, &progress).unwrap();
    assert_eq!((progress.done(), cache.len()), (3, 3));
    let mut cache = FrameFeatures::open_for(&path, &encoder).unwrap();
    // A list may name a photograph twice.
    let twice = [&frames[..], &frames[..2]].concat();
    cache.extend(&encoder, &twice, &read, &progress).unwrap();
    assert_eq!((progress.done(), cache.len()), (5, 5));
    let cache = FrameFeatures::open(&path).unwrap();
    assert_eq!(cache.encoder(), encoder.fingerprint().unwrap());
    let reversed: Vec<_> = frames.iter().rev().cloned().collect();
    let images: Vec<_> = reversed.iter().map(|path| read(path).unwrap()).collect();
    let expected = encoder.linear_input(&images).unwrap();
    let ours = cache.matrix(&reversed).unwrap();
    assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    assert_eq!(cache.matrix(&[]).unwrap().dim(), (0, 16));
}

#[test]
fn changed_photographs_and_other_encoders_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, frames) = (folder.path().join("features.safetensors"), files(folder.path(), 2));
    let encoder = encoder(1);
    let mut cache = FrameFeatures::open_for(&path, &encoder).unwrap();
    cache.extend(&encoder, &frames, &read, &NoProgress).unwrap();
    std::fs::write(&frames[1], "120 33 8").unwrap();
    let error = cache.matrix(&frames).unwrap_err().to_string();
    assert!(error.contains("1.picture") && error.contains("another version"), "{error}");
    let progress = CountingProgress::default();
    cache.extend(&encoder, &frames, &read, &progress).unwrap();
    assert_eq!((progress.done(), cache.matrix(&frames).unwrap().nrows()), (1, 2));
    let other = super::encoder(2);
    for error in [FrameFeatures::open_for(&path, &other).map(drop), cache.extend(&other, &frames, &read, &NoProgress)] {
        assert!(error.unwrap_err().to_string().contains("of encoder"));
    }
    assert!(matches!(cache.matrix(&[folder.path().join("gone.picture")]), Err(Error::Io { .. })));
}

#[test]
fn what_was_encoded_before_an_error_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, frames) = (folder.path().join("features.safetensors"), files(folder.path(), 4));
    let encoder = encoder(1).with_config(DinoV2EncoderConfig { batch: 1, ..*encoder(1).config() }).unwrap();
    std::fs::write(&frames[2], "no picture").unwrap();
    let mut cache = FrameFeatures::open_for(&path, &encoder).unwrap();
    let error = cache.extend(&encoder, &frames, &read, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("2.picture"), "{error}");
    assert_eq!(FrameFeatures::open(&path).unwrap().len(), 2);
    std::fs::write(&frames[2], "9 9 1").unwrap();
    let error = cache.extend(&encoder, &frames, &read, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("2.picture") && error.contains("smaller than a patch"), "{error}");
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, frames) = (folder.path().join("features.safetensors"), files(folder.path(), 2));
    let encoder = encoder(1);
    let mut cache = FrameFeatures::open_for(&path, &encoder).unwrap();
    cache.extend(&encoder, &frames, &read, &NoProgress).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 9, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(FrameFeatures::open(&path), Err(Error::Format { .. })), "{length} bytes");
    }
    write(&path, &network(&config(), 1).0.tensors());
    assert!(FrameFeatures::open(&path).unwrap_err().to_string().contains("expected features of photographs"));
    assert!(matches!(FrameFeatures::open(folder.path().join("no.safetensors")), Err(Error::Io { .. })));
    let mut wrong = FrameFeatures::open_for(folder.path().join("features.bin"), &encoder).unwrap();
    assert!(matches!(wrong.extend(&encoder, &frames, &read, &NoProgress), Err(Error::InvalidParameter { .. })));
}
