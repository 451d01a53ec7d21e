use std::ops::ControlFlow;

use coral_core::image::{Rgb, RgbImage};
use coral_core::{
    CountingProgress, Error, FeatureExtractor, FeatureMap, GridClassifier, LabelMap, NoProgress, Result, SeededRng,
    TrainGridClassifier,
};
use coral_weak::{
    EveryPatchLabeler, FeatureCenter, SeaFeats, SeaFeatsConfig, SeaFeatsEpoch, SimilarityConfig, TemplateBundler,
    bundle_templates, label_photographs, refine_templates,
};

use crate::seagrass::{CLASSES, ColorModel, Seabed};

fn config(epochs: usize) -> SeaFeatsConfig {
    SeaFeatsConfig { epochs, seed: 9, ..Default::default() }
}

fn go_on(_: &SeaFeatsEpoch, _: &mut ColorModel) -> Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

#[test]
fn learns_what_the_photographs_labels_do_not_say() {
    let (seabed, test) = (Seabed::typical(1), Seabed::typical(2));
    let mut baseline = ColorModel::new(CLASSES);
    let labels = label_photographs(&baseline, &EveryPatchLabeler, &seabed, &NoProgress).unwrap();
    for seed in 0..10 {
        TrainGridClassifier::fit_epoch(&mut baseline, &seabed, &labels, seed).unwrap();
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

/// Colours with noise, far from 0 in one corner: as features after ReLU, of which cosines tell little.
struct Corner(ColorModel);

impl FeatureExtractor for Corner {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let mut features = self.0.extract(image)?;
        let mut rng = SeededRng::new(image.pixels().map(|pixel| u64::from(pixel[0])).sum());
        features.data.mapv_inplace(|value| 2.0 + value + 0.2 * rng.normal() as f32);
        Ok(features)
    }
}

#[test]
fn refined_templates_label_better() {
    let (seabed, model) = (Seabed::typical(4), Corner(ColorModel::new(CLASSES)));
    let errors = |centered, refinements| {
        let similarity = SimilarityConfig { threshold: -1.0, ..Default::default() };
        let training = SeaFeats::new(SeaFeatsConfig { similarity, centered, refinements, ..config(1) }).unwrap();
        let labels = training.label(&model, CLASSES, &seabed, &NoProgress).unwrap().cells;
        let wrong = |(labels, truth): (&LabelMap, &LabelMap)| {
            labels.iter().zip(truth).filter(|(label, truth)| label != truth).count()
        };
        labels.iter().zip(&seabed.truth).map(wrong).sum::<usize>()
    };
    for centered in [false, true] {
        let (plain, once, often) = (errors(centered, 0), errors(centered, 1), errors(centered, 3));
        assert!(often <= once && once <= plain && often < plain, "{centered}: {plain}, {once}, {often}");
    }
}

#[test]
fn the_templates_of_an_epoch_are_those_of_its_options() {
    let seabed = Seabed::typical(4);
    let similarity = SimilarityConfig { threshold: -1.0, ..Default::default() };
    let epoch = |centered, refinements| {
        let training = SeaFeats::new(SeaFeatsConfig { similarity, centered, refinements, ..config(6) }).unwrap();
        let mut model = ColorModel::new(CLASSES);
        let mut epochs = training.fit(&mut model, &seabed, &NoProgress, go_on).unwrap();
        assert!(model.accuracy(&seabed) > 0.95, "{centered} {refinements}: {}", model.accuracy(&seabed));
        epochs.swap_remove(0)
    };
    let model = ColorModel::new(CLASSES);
    let features: Vec<_> = seabed.photographs.iter().map(|p| (model.extract(&p.image).unwrap(), p.class)).collect();
    let center = FeatureCenter::of(features.iter().map(|(features, _)| features)).unwrap();
    let centered = features.iter().map(|(features, class)| (center.apply(features).unwrap(), *class)).collect();
    let mut seen = Vec::new();
    for (features, center) in [(features, None), (centered, Some(center))] {
        let mut bundler = TemplateBundler::new(CLASSES, 3).unwrap();
        features.iter().for_each(|(features, class)| bundler.add(features, *class).unwrap());
        let plain = bundler.finish().unwrap();
        let once = refine_templates(&plain, &features, &similarity).unwrap();
        let twice = refine_templates(&once, &features, &similarity).unwrap();
        for (refinements, expected) in [plain, once, twice].into_iter().enumerate() {
            let ours = epoch(center.is_some(), refinements);
            let same = |a: f32, b: f32| (a - b).abs() < 1e-6;
            for class in 0..CLASSES as u8 {
                let (ours, expected) = (ours.templates.get(class).unwrap(), expected.get(class).unwrap());
                assert!(ours.iter().zip(expected).all(|(&a, &b)| same(a, b)), "{refinements} {ours:?} {expected:?}");
            }
            assert_eq!(ours.center.is_some(), center.is_some());
            let pairs = ours.center.iter().zip(&center).flat_map(|(a, b)| a.values().iter().zip(b.values()));
            assert!(pairs.into_iter().all(|(&a, &b)| same(a, b)));
            seen.push(ours.templates);
        }
    }
    // The options do something: none gives what another gives, but that the second refinement may change nothing.
    assert!(seen[0] != seen[1] && seen[0] != seen[3] && seen[3] != seen[4] && seen[1] != seen[4]);
}

#[test]
fn labels_tell_what_they_were_taken_with() {
    let seabed = Seabed::typical(6);
    for (centered, refinements) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
        let similarity = SimilarityConfig { threshold: -1.0, ..Default::default() };
        let training = SeaFeats::new(SeaFeatsConfig { similarity, centered, refinements, ..config(1) }).unwrap();
        let mut model = ColorModel::new(CLASSES);
        let progress = CountingProgress::default();
        let labels = training.label(&model, CLASSES, &seabed, &progress).unwrap();
        assert_eq!(progress.done(), seabed.photographs.len() as u64);
        let counts =
            (0..CLASSES).map(|class| labels.cells.iter().flatten().filter(move |&&label| usize::from(label) == class));
        assert!(counts.map(|cells| cells.count() as u64).eq(labels.counts.labeled.iter().copied()));
        assert!(labels.counts.labeled.iter().all(|&count| count > 0));

        let again = label_photographs(&model, &*labels.labeler().unwrap(), &seabed, &NoProgress).unwrap();
        assert_eq!(again, labels.cells, "{centered} {refinements}");

        let epoch = training.fit(&mut model, &seabed, &NoProgress, go_on).unwrap().swap_remove(0);
        let SeaFeatsEpoch { templates, center, labels: counts, photographs, .. } = epoch;
        assert_eq!((templates, center), (labels.templates, labels.center));
        assert_eq!((counts, photographs), (labels.counts, labels.photographs));
    }
    let training = SeaFeats::new(config(1)).unwrap();
    let refused = training.label(&ColorModel::new(CLASSES), CLASSES, &Seabed::new(&[1, 2], 1), &NoProgress);
    assert!(refused.unwrap_err().to_string().contains("none is labelled background (class 0)"));
}

#[test]
fn kept_labels_stay_where_new_ones_follow_the_classifier() {
    let (seabed, training) = (Seabed::typical(3), SeaFeats::new(config(4)).unwrap());
    let mut model = ColorModel::new(CLASSES);
    let labels = training.label(&Corner(model.clone()), CLASSES, &seabed, &NoProgress).unwrap();
    let epochs = training.fit_on(&mut model, (&seabed, &labels), &NoProgress, go_on).unwrap();
    assert!(epochs.iter().all(|epoch| epoch.labels == labels.counts && epoch.templates == labels.templates));

    // The same, interrupted after two epochs.
    let mut resumed = ColorModel::new(CLASSES);
    let stop = |epoch: &SeaFeatsEpoch, _: &mut ColorModel| {
        Ok(if epoch.epoch == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let mut parts = training.fit_on(&mut resumed, (&seabed, &labels), &NoProgress, stop).unwrap();
    let rest = SeaFeats::new(SeaFeatsConfig { start_epoch: 2, ..config(4) }).unwrap();
    parts.extend(rest.fit_on(&mut resumed, (&seabed, &labels), &NoProgress, go_on).unwrap());
    assert_eq!((resumed, parts), (model, epochs));
}

#[test]
fn a_resumed_training_equals_an_uninterrupted_one() {
    let seabed = Seabed::typical(3);
    let mut whole = ColorModel::new(CLASSES);
    let expected = SeaFeats::new(config(4)).unwrap().fit(&mut whole, &seabed, &NoProgress, go_on).unwrap();

    let mut saved = None;
    let interrupted = SeaFeats::new(config(4)).unwrap();
    let stop = |epoch: &SeaFeatsEpoch, model: &mut ColorModel| {
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
    let mut model = ColorModel::new(CLASSES);
    let labels = training.label(&model, CLASSES, &seabed, &NoProgress).unwrap();
    let epoch = training.epoch(&mut model, &seabed, &labels, (0, &NoProgress)).unwrap();
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
    let full = |_: &SeaFeatsEpoch, _: &mut dyn GridClassifier| Err(Error::input("disk", "full"));
    let training = SeaFeats::new(config(3)).unwrap();
    let mut model = ColorModel::new(CLASSES);
    let result = training.fit(&mut model, &Seabed::typical(1), &NoProgress, |epoch, model| full(epoch, model));
    assert_eq!(result.unwrap_err().to_string(), "invalid input `disk`: full");
}
