use super::*;
use crate::train::{Augmentation, ScheduleConfig, SegmentationLoss};
use coral_core::{Segmenter, TrainSegmenter, UNLABELED};

/// Share of the pixels whose most probable class is right.
fn accuracy(segmenter: &SegFormerSegmenter, sample: &LabeledImage) -> f64 {
    let map = segmenter.segment(&sample.image).unwrap();
    let right = sample.labels.indexed_iter().filter(|&((y, x), &label)| (map[[1, y, x]] > 0.5) == (label == 1));
    right.count() as f64 / sample.labels.len() as f64
}

#[test]
fn two_colours_are_learnt() {
    for loss in [
        SegmentationLoss::default(),
        SegmentationLoss { dice_weight: 0.5, cross_entropy_weight: 1.0, ..SegmentationLoss::default() },
    ] {
        let mut settings = config(2);
        settings.training.loss = loss;
        settings.training.trainer.schedule = ScheduleConfig::Constant;
        let mut network = segmenter(settings);
        let (training, other) = (scenes(12, size(48, 36)), scene(size(50, 33), 99));
        let before = network.validate(&training).unwrap();
        let reports: Vec<_> = (0..12).map(|seed| network.fit_epoch(&training, seed).unwrap()).collect();
        assert!(reports[11].loss < 0.6 * reports[0].loss, "{reports:?}");
        assert_eq!((reports[11].samples, reports[11].learning_rate), (12, 1e-2));
        let after = network.validate(&training).unwrap();
        assert!(after.loss < 0.6 * before.loss && after.pixel_accuracy > 0.9, "{before:?} {after:?}");
        let unseen = accuracy(&network, &other);
        assert!(unseen > 0.9, "{unseen}");
    }
}

#[test]
fn a_resumed_training_goes_on_as_if_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let samples = scenes(7, size(40, 32));
    let settings = |workers| {
        let mut settings = config(2);
        settings.training.loader.workers = workers;
        settings.network.hidden_dropout = 0.1;
        settings.network.drop_path_rate = 0.3;
        let flips = Augmentation { horizontal_flip: 0.5, vertical_flip: 0.5, ..Augmentation::default() };
        settings.training.augmentation = Some(flips);
        settings
    };
    // On one thread, since the tensor library's own matrix products may round by the number of threads.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| {
        let mut straight = segmenter(settings(0));
        let reports: Vec<_> = (0..4).map(|epoch| straight.fit_epoch(&samples, epoch).unwrap()).collect();
        let mut interrupted = segmenter(settings(2));
        (0..2).for_each(|epoch| assert_eq!(interrupted.fit_epoch(&samples, epoch).unwrap(), reports[epoch as usize]));
        interrupted.save_training(&path, &("note".to_owned(), 2u64)).unwrap();
        let mut resumed = segmenter(settings(0));
        let cached = resumed.segment(&samples.items[0].image).unwrap();
        let (note, next): (String, u64) = resumed.resume(&path).unwrap();
        assert_eq!((note.as_str(), next), ("note", 2));
        assert_ne!(resumed.segment(&samples.items[0].image).unwrap(), cached);
        (next..4).for_each(|epoch| assert_eq!(resumed.fit_epoch(&samples, epoch).unwrap(), reports[epoch as usize]));
        assert_eq!(values(resumed.trainer().parameters()), values(straight.trainer().parameters()));
    });
    // Its weights alone can be read as well.
    SegFormerSegmenter::load(config(2), &crate::Checkpoint::open(&path).unwrap(), &Device::Cpu).unwrap();
}

#[test]
fn a_state_of_other_settings_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut source = segmenter(config(2));
    source.fit_epoch(&scenes(4, size(32, 32)), 0).unwrap();
    source.save_training(&path, &0).unwrap();
    let mut other = config(2);
    other.training.loss.cross_entropy_weight = 0.5;
    let mut other = segmenter(other);
    let before = values(other.trainer().parameters());
    assert!(
        text(other.resume::<u64>(&path))
            .ends_with("`config.training.loss.cross_entropy_weight`: 0.0, but this training has 0.5")
    );
    assert_eq!(values(other.trainer().parameters()), before);
    assert_eq!(segmenter(config(2)).resume::<u64>(&path).unwrap(), 0);
}

#[test]
fn chance_depends_on_the_seed_alone() {
    let samples = scenes(4, size(40, 32));
    let run = |seed, change: &dyn Fn(&mut SegFormerConfig)| {
        let mut settings = config(2);
        settings.training.augmentation = None;
        change(&mut settings.network);
        let mut network = segmenter(settings);
        // At first the blocks add next to nothing to what passes by them.
        let parameters = network.trainer().parameters();
        for name in parameters.names().filter(|name| name.ends_with("dense.weight") || name.ends_with("dense2.weight"))
        {
            let weight = parameters.get(name).unwrap();
            weight.set(&(weight.as_detached_tensor() * 50.0).unwrap()).unwrap();
        }
        network.fit_epoch(&samples, seed).unwrap().loss
    };
    // All images are one batch, whose order changes the rounding alone.
    let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
    let none = |c: &mut SegFormerConfig| (c.drop_path_rate, c.classifier_dropout) = (0.0, 0.0);
    assert!(near(run(1, &none), run(2, &none)));
    for shares in [[0.6, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]] {
        let change = &|c: &mut SegFormerConfig| {
            [c.drop_path_rate, c.classifier_dropout, c.hidden_dropout] = shares;
        };
        assert!(near(run(1, change), run(1, change)));
        assert!(!near(run(1, change), run(2, change)) && !near(run(1, change), run(1, &none)));
    }
}

#[test]
fn pixels_without_a_label_do_not_count() {
    let mut samples = scenes(3, size(40, 32));
    samples.items[1].labels.fill(UNLABELED);
    let mut network = segmenter(config(2));
    let all = network.validate(&samples).unwrap();
    assert_eq!(all.images, 2);
    // What is drawn on them does not matter for the score.
    let mut half = scenes(1, size(40, 32));
    half.items[0].labels.slice_mut(ndarray::s![.., 20..]).fill(UNLABELED);
    let right = |labels: &LabelMap, map: &coral_core::ProbMap| {
        let known = labels.indexed_iter().filter(|(_, label)| **label != UNLABELED);
        let right = known.clone().filter(|&((y, x), &label)| (map[[1, y, x]] > map[[0, y, x]]) == (label == 1));
        right.count() as f64 / known.count() as f64
    };
    let map = network.segment(&half.items[0].image).unwrap();
    assert_eq!(network.validate(&half).unwrap().pixel_accuracy, right(&half.items[0].labels, &map));
    // A batch without labels makes no step, and an epoch of nothing else is an error.
    let mut single = config(2);
    single.training.batch = 1;
    assert_eq!(segmenter(single).fit_epoch(&samples, 1).unwrap().samples, 2);
    samples.items.iter_mut().for_each(|item| item.labels.fill(UNLABELED));
    assert!(text(network.fit_epoch(&samples, 1)).contains("an epoch without steps"));
    assert!(text(network.validate(&samples)).contains("none of them has a label"));
}

#[test]
fn samples_that_do_not_fit_are_named() {
    let mut network = segmenter(config(2));
    let error = |network: &mut SegFormerSegmenter, change: &dyn Fn(&mut Scenes)| {
        let mut samples = scenes(4, size(40, 32));
        change(&mut samples);
        text(network.fit_epoch(&samples, 1))
    };
    let mixed = error(&mut network, &|samples| samples.items[2] = scene(size(32, 40), 1));
    assert!(mixed.contains("scene_2") && mixed.contains("in a batch with") && mixed.contains("32x40"), "{mixed}");
    let class = error(&mut network, &|samples| samples.items[3].labels[[5, 6]] = 2);
    assert!(class.contains("labels of scene_3`: expected classes 0 to 1 or 255 (unlabelled), got 2"), "{class}");
    let labels = error(&mut network, &|samples| samples.items[1].labels = LabelMap::zeros((40, 32)));
    assert_eq!(labels, "labels of scene_1: expected shape 40x32, got 32x40");
    assert!(error(&mut network, &|samples| samples.broken = Some(0)).contains("tile.png: cannot be decoded"));
    let small = error(&mut network, &|samples| samples.items = vec![scene(size(40, 12), 1)]);
    assert!(small.contains("40x12 pixels are too few"), "{small}");
    assert!(network.fit_epoch(&scenes(0, size(40, 32)), 1).is_err());
    // None of that harms what follows.
    assert_eq!(network.fit_epoch(&scenes(4, size(40, 32)), 1).unwrap().samples, 4);
    // With one size for all they train together.
    let mut sized = config(2);
    sized.image_size = Some(size(36, 32));
    let mut samples = scenes(3, size(40, 32));
    samples.items[1] = scene(size(70, 90), 1);
    assert_eq!(segmenter(sized).fit_epoch(&samples, 1).unwrap().samples, 3);
}

#[test]
fn the_default_waits_for_the_score_on_other_images() {
    let published = SegFormerSegmenterConfig::new(network(2)).training;
    let mut settings = config(2);
    settings.training.trainer = published.trainer;
    let mut network = segmenter(settings);
    let samples = scenes(4, size(32, 32));
    let report = network.fit_epoch(&samples, 0).unwrap();
    assert_eq!(report.learning_rate, 1e-5);
    assert!(text(network.fit_epoch(&samples, 1)).contains("waits for `judge`"));
    let score = network.validate(&samples).unwrap();
    network.trainer_mut().judge(score.loss).unwrap();
    assert!(!network.trainer().should_stop());
    network.fit_epoch(&samples, 1).unwrap();
}
