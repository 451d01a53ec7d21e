use std::ops::ControlFlow;

use coral_core::image::{Rgb, RgbImage};
use coral_core::{
    CountingProgress, Error, FeatureExtractor, FeatureMap, GridClassifier, NoProgress, Result, TrainGridClassifier,
};
use coral_weak::{EveryPatchLabeler, SeaFeats, SeaFeatsConfig, SeaFeatsEpoch, SimilarityConfig, bundle_templates};

use crate::seagrass::{CLASSES, ColorModel, Seabed};

fn config(epochs: usize) -> SeaFeatsConfig {
    SeaFeatsConfig { epochs, seed: 9, ..Default::default() }
}

fn go_on(_: &SeaFeatsEpoch, _: &ColorModel) -> Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

#[test]
fn learns_what_the_photographs_labels_do_not_say() {
    let (seabed, test) = (Seabed::typical(1), Seabed::typical(2));
    let mut baseline = ColorModel::new(CLASSES);
    for seed in 0..10 {
        TrainGridClassifier::fit_epoch(&mut baseline, &seabed, &EveryPatchLabeler, seed).unwrap();
    }
    let mut model = ColorModel::new(CLASSES);
    let progress = CountingProgress::default();
    let epochs = SeaFeats::new(config(10)).unwrap().fit(&mut model, &seabed, &progress, go_on).unwrap();
    let (ours, baseline) = (model.accuracy(&test), baseline.accuracy(&test));
    assert!(ours > 0.95 && baseline < 0.8, "{ours} against {baseline} of the baseline");

    assert_eq!(progress.done(), 10 * 2 * seabed.photographs.len() as u64);
    assert!(epochs[9].report.loss < epochs[0].report.loss);
    let labels = &epochs[9].labels;
    assert_eq!(epochs[9].photographs, [1, 6, 6]);
    assert_eq!((labels.foreground, labels.abstained), (12 * 12, 0));
    let sand: usize = seabed.truth[1..].iter().flatten().filter(|&&class| class == 0).count();
    assert!((labels.relabeled_share() - sand as f64 / 144.0).abs() < 0.05, "{}", labels.relabeled_share());
    assert_eq!(labels.labeled.iter().sum::<u64>(), 13 * 12);
    assert_eq!(labels.labeled[0], labels.relabeled + 12);
}

#[test]
fn centred_features_and_refined_templates_label_from_the_start() {
    let seabed = Seabed::typical(4);
    let sand: usize = seabed.truth[1..].iter().flatten().filter(|&&class| class == 0).count();
    let share = sand as f64 / seabed.truth[1..].iter().flatten().count() as f64;
    let first_error = |centered, refinements| {
        let similarity = SimilarityConfig { threshold: -1.0, ..Default::default() };
        let training = SeaFeats::new(SeaFeatsConfig { similarity, centered, refinements, ..config(6) }).unwrap();
        let mut model = ColorModel::new(CLASSES);
        let epochs = training.fit(&mut model, &seabed, &NoProgress, go_on).unwrap();
        assert!(model.accuracy(&seabed) > 0.95, "{centered} {refinements}: {}", model.accuracy(&seabed));
        (epochs[0].labels.relabeled_share() - share).abs()
    };
    let plain = first_error(false, 0);
    for (centered, refinements) in [(true, 0), (false, 2), (true, 2)] {
        assert!(first_error(centered, refinements) <= plain, "{centered} {refinements}");
    }
}

#[test]
fn a_resumed_training_equals_an_uninterrupted_one() {
    let seabed = Seabed::typical(3);
    let mut whole = ColorModel::new(CLASSES);
    let expected = SeaFeats::new(config(4)).unwrap().fit(&mut whole, &seabed, &NoProgress, go_on).unwrap();

    let mut saved = None;
    let interrupted = SeaFeats::new(config(4)).unwrap();
    let stop = |epoch: &SeaFeatsEpoch, model: &ColorModel| {
        saved = Some(model.clone());
        Ok(if epoch.epoch == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let mut epochs = interrupted.fit(&mut ColorModel::new(CLASSES), &seabed, &NoProgress, stop).unwrap();
    assert_eq!(epochs.len(), 2);
    let mut model = saved.unwrap();
    assert_ne!(model, whole);
    let rest = SeaFeats::new(SeaFeatsConfig { start_epoch: 2, ..config(4) }).unwrap();
    epochs.extend(rest.fit(&mut model, &seabed, &NoProgress, go_on).unwrap());
    assert_eq!((model, epochs), (whole, expected));
}

#[test]
fn a_margin_leaves_patches_out() {
    let seabed = Seabed::typical(5);
    let similarity = SimilarityConfig { margin: 2.0, ..Default::default() };
    let training = SeaFeats::new(SeaFeatsConfig { similarity, ..config(1) }).unwrap();
    let epoch = training.epoch(&mut ColorModel::new(CLASSES), &seabed, 0, &NoProgress).unwrap();
    assert_eq!(epoch.labels.abstained, epoch.labels.foreground);
    assert_eq!((epoch.labels.labeled, epoch.report.samples), (vec![12, 0, 0], 12));
}

#[test]
fn unusable_sets_are_refused_before_training() {
    let text = |labels: &[u8], classes, config| {
        let mut model = ColorModel::new(classes);
        let fresh = model.clone();
        let result = SeaFeats::new(config).unwrap().fit(&mut model, &Seabed::new(labels, 1), &NoProgress, go_on);
        assert_eq!(model, fresh);
        result.unwrap_err().to_string()
    };
    assert!(text(&[], 3, config(1)).contains("at least one is needed"));
    assert!(text(&[1, 2], 3, config(1)).contains("none is labelled background (class 0)"));
    assert!(text(&[0, 0], 3, config(1)).contains("all have the same class"));
    assert!(text(&[0, 2], 3, config(1)).contains("none has class 1"));
    assert!(text(&[0, 1, 2], 2, config(1)).contains("photograph 2 has class 2; expected a class below 2"));
    assert!(text(&[0], 1, config(1)).contains("one class"));
    let past = SimilarityConfig { background: 7, ..Default::default() };
    assert!(text(&[0, 1, 2], 3, SeaFeatsConfig { similarity: past, ..config(1) }).contains("`background`: 7 is past"));

    let parameter = |config| SeaFeats::new(config).unwrap_err().to_string();
    assert!(parameter(SeaFeatsConfig { start_epoch: 3, ..config(2) }).contains("`start_epoch`"));
    let nan = SimilarityConfig { threshold: f32::NAN, ..Default::default() };
    assert!(parameter(SeaFeatsConfig { similarity: nan, ..config(1) }).contains("`threshold`"));
}

#[test]
fn the_photograph_with_broken_features_is_named() {
    struct Broken(ColorModel);
    impl FeatureExtractor for Broken {
        fn dim(&self) -> usize {
            self.0.dim()
        }
        fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
            let mut features = self.0.extract(image)?;
            if image.get_pixel(0, 0)[0] == 1 {
                features.data[[1, 0, 0]] = f32::NAN;
            }
            Ok(features)
        }
    }
    let mut seabed = Seabed::new(&[0, 1, 2], 1);
    for (index, photograph) in seabed.photographs.iter_mut().enumerate() {
        photograph.image.put_pixel(0, 0, Rgb([index as u8 % 2, 0, 0]));
    }
    let result = bundle_templates(&Broken(ColorModel::new(CLASSES)), CLASSES, &seabed, &NoProgress);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("photograph 1: expected finite values") && error.contains("got NaN"), "{error}");
}

#[test]
fn the_observers_error_ends_the_training() {
    let full = |_: &SeaFeatsEpoch, _: &dyn GridClassifier| Err(Error::input("disk", "full"));
    let training = SeaFeats::new(config(3)).unwrap();
    let mut model = ColorModel::new(CLASSES);
    let result = training.fit(&mut model, &Seabed::typical(1), &NoProgress, |epoch, model| full(epoch, model));
    assert_eq!(result.unwrap_err().to_string(), "invalid input `disk`: full");
}
