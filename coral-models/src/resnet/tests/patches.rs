use super::*;
use crate::{AverageConfig, Checkpoint, Mode, Parameters};
use coral_core::{PatchClassifier, TrainPatchClassifier};

#[test]
fn flat_colours_are_learnt() {
    let mut network = classifier(config(3));
    let training = patches(3, 30);
    let seen: Vec<_> = (30..60).map(|index| flat(index % 3, square(16), index as u64)).collect();
    let before = network.classify(&seen).unwrap();
    let reports: Vec<_> = (0..32).map(|seed| network.fit_epoch(&training, seed).unwrap()).collect();
    let (first, last) = (reports[0], reports[31]);
    assert!(last.loss < 0.3 * first.loss && last.samples == 30, "{first:?} {last:?}");
    assert_eq!(last.learning_rate, 1e-2);
    let after = network.classify(&seen).unwrap();
    assert_ne!(after, before);
    let right = after.outer_iter().enumerate().filter(|(index, row)| {
        let best = (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        best == index % 3
    });
    assert!(right.count() > 27, "{after}");
}

#[test]
fn patches_of_several_sizes_train_together() {
    let mut samples = patches(2, 6);
    samples.items[1].image = flat(1, Size { width: 31, height: 9 }, 5);
    samples.items[4].image = flat(0, square(40), 5);
    let mut network = classifier(config(2));
    assert_eq!(TrainPatchClassifier::fit_epoch(&mut network, &samples, 1).unwrap().samples, 6);
    // The one left over is no batch of its own; with a batch of one each is.
    samples.items.push(samples.items[0].clone());
    assert_eq!(network.fit_epoch(&samples, 1).unwrap().samples, 6);
    let mut single = config(2);
    (single.training.batch, single.patch_size) = (1, Some(square(40)));
    assert_eq!(classifier(single).fit_epoch(&samples, 1).unwrap().samples, 7);
}

#[test]
fn targets_that_do_not_fit_are_named() {
    let mut samples = patches(2, 6);
    samples.items[3].target = Array1::ones(3);
    let mut network = classifier(config(2));
    assert_eq!(text(network.fit_epoch(&samples, 1)), "target of sample_3: expected shape 2, got 3");
    samples.items[3].target = Array1::from_elem(2, f32::NAN);
    assert!(text(network.fit_epoch(&samples, 1)).contains("targets"));
    assert!(network.fit_epoch(&patches(2, 0), 1).is_err());
}

#[test]
fn a_failed_epoch_is_forgotten() {
    let mut network = classifier(with_workers(config(2), 0));
    let mut samples = patches(2, 18);
    let order = crate::batch_indices(18, 6, 4, false).unwrap();
    samples.broken = Some(order[2][0]);
    let patch = [flat(0, square(16), 9)];
    let before = network.classify(&patch).unwrap();
    assert!(text(network.fit_epoch(&samples, 4)).contains("photo.png: cannot be decoded"));
    assert_ne!(network.classify(&patch).unwrap(), before, "the first steps were made");
    samples.broken = None;
    assert_eq!(network.fit_epoch(&samples, 5).unwrap().samples, 18);
}

#[test]
fn a_resumed_training_goes_on_as_if_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let samples = patches(2, 20);
    let settings = |workers| {
        let mut config = with_workers(config(2), workers);
        config.training.augmentation = Some(crate::Augmentation::seaclip(Some(square(12))));
        config
    };
    let mut straight = classifier(settings(0));
    let reports: Vec<_> = (0..4).map(|epoch| straight.fit_epoch(&samples, epoch).unwrap()).collect();
    let mut interrupted = classifier(settings(2));
    (0..2).for_each(|epoch| assert_eq!(interrupted.fit_epoch(&samples, epoch).unwrap(), reports[epoch as usize]));
    interrupted.save_training(&path, &("note".to_owned(), 2u64)).unwrap();
    for workers in [0, 2] {
        let mut resumed = classifier(settings(workers));
        let cached = resumed.classify(&[flat(0, square(16), 1)]).unwrap();
        let (note, next): (String, u64) = resumed.resume(&path).unwrap();
        assert_eq!((note.as_str(), next), ("note", 2));
        assert_ne!(resumed.classify(&[flat(0, square(16), 1)]).unwrap(), cached);
        (next..4).for_each(|epoch| assert_eq!(resumed.fit_epoch(&samples, epoch).unwrap(), reports[epoch as usize]));
        assert_eq!(
            values(resumed.trainer().parameters()),
            values(straight.trainer().parameters()),
            "{workers} workers"
        );
    }
    // Its weights alone can be read as well.
    let checkpoint = crate::Checkpoint::open(&path).unwrap();
    ResNetClassifier::load(config(2), &checkpoint, &Device::Cpu).unwrap();
}

#[test]
fn a_state_of_other_settings_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut source = classifier(config(2));
    source.fit_epoch(&patches(2, 6), 0).unwrap();
    source.save_training(&path, &0).unwrap();
    let change = |change: &dyn Fn(&mut ResNetClassifierConfig)| {
        let mut other = config(2);
        change(&mut other);
        let mut other = classifier(other);
        let before = values(other.trainer().parameters());
        let error = text(other.resume::<u64>(&path));
        assert_eq!(values(other.trainer().parameters()), before);
        error
    };
    assert!(change(&|c| c.training.batch = 7).ends_with("`config.training.batch`: 6, but this training has 7"));
    assert!(change(&|c| c.patch_size = Some(square(8))).contains("`config.patch_size`: null, but"));
    assert!(change(&|c| c.class_names = vec!["a".into(), "b".into()]).contains("`config.class_names`: [], but"));
    assert!(
        change(&|c| c.training.trainer.learning_rate = 1.0)
            .contains("`config.training.trainer.learning_rate`: 0.01, but")
    );
    let mut same = classifier(config(2));
    assert!(text(same.resume::<String>(&path)).contains("field `extra`"));
    assert_eq!(same.resume::<u64>(&path).unwrap(), 0);
}

#[test]
fn averages_are_what_classifies_and_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut settings = config(2);
    settings.training.trainer.average = Some(AverageConfig { decay: 0.9, ..AverageConfig::default() });
    let mut network = classifier(settings);
    let samples = patches(2, 18);
    network.fit_epoch(&samples, 1).unwrap();
    let patch = [flat(1, square(16), 77)];
    let averaged = network.classify(&patch).unwrap();
    network.save(&path).unwrap();
    let opened = ResNetClassifier::open(&path, &Device::Cpu).unwrap();
    assert_eq!(opened.classify(&patch).unwrap(), averaged);
    network.trainer().parameters().save(&path).unwrap();
    let live = ResNetClassifier::load(config(2), &Checkpoint::open(&path).unwrap(), &Device::Cpu).unwrap();
    assert_ne!(live.classify(&patch).unwrap(), averaged);
    // While they are swapped in, they still are.
    network.trainer_mut().swap_average().unwrap();
    let other = classifier(network.config().clone());
    assert!(text(network.copy_encoder(other.trainer().parameters())).contains("swap back first"));
    assert_eq!(network.classify(&patch).unwrap(), averaged);
    assert!(text(network.fit_epoch(&samples, 2)).contains("swap back first"));
    network.trainer_mut().swap_average().unwrap();
    // An encoder from elsewhere is not averaged with the one before.
    network.copy_encoder(live.trainer().parameters()).unwrap();
    let tensors = network.trainer().best_tensors().unwrap();
    let same = |name: &str| {
        let values = |tensor: &crate::candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values(&tensors[name]) == values(live.trainer().parameters().get(name).unwrap())
    };
    assert!(tensors.keys().filter(|name| !name.starts_with("head.")).all(|name| same(name)));
}

#[test]
fn frozen_parts_need_no_record_and_keep_their_values() {
    let mut network = classifier(config(2));
    let samples = patches(2, 12);
    let encoder = |network: &ResNetClassifier, statistics: bool| {
        let mut values = values(network.trainer().parameters());
        values.retain(|(name, _)| !name.starts_with("head.") && name.contains("running_") == statistics);
        values
    };
    network.fit_epoch(&samples, 0).unwrap();
    let before = [false, true].map(|statistics| encoder(&network, statistics));
    network.trainer_mut().parameters_mut().freeze(|name| !name.starts_with("head."));
    network.fit_epoch(&samples, 1).unwrap();
    assert_eq!(
        encoder(&network, false).iter().filter(|v| !v.0.contains("num_batches")).collect::<Vec<_>>(),
        before[0].iter().filter(|v| !v.0.contains("num_batches")).collect::<Vec<_>>()
    );
    assert_ne!(encoder(&network, true), before[1], "statistics follow the batches");
    let pixels =
        network.trained.pixels(&samples.items.iter().map(|item| item.image.clone()).collect::<Vec<_>>()).unwrap();
    let recorded =
        |network: &ResNetClassifier| network.trained.network.patch_features(&pixels, Mode::Train).unwrap().track_op();
    assert!(!recorded(&network));
    network.trainer_mut().parameters_mut().unfreeze(|_| true);
    network.fit_epoch(&samples, 2).unwrap();
    assert!(recorded(&network));
    assert_ne!(encoder(&network, false), before[0]);
}

#[test]
fn batches_that_weigh_nothing_are_left_out() {
    let settings = |weights: &[f32]| {
        let mut config = config(2);
        (config.training.batch, config.training.running_statistics) = (1, true);
        config.training.class_weights = Some(weights.to_vec());
        config
    };
    let report = classifier(settings(&[0.0, 2.0])).fit_epoch(&patches(2, 7), 1).unwrap();
    assert_eq!(report.samples, 3);
    for (weights, expected) in [
        (&[1.0][..], "`training.class_weights`: 1 weights for 2 classes"),
        (&[1.0, -0.5], "expected finite weights of at least 0, got -0.5"),
        (&[1.0, f32::NAN], "got NaN"),
        (&[0.0, 0.0], "all are 0"),
    ] {
        let error = text(ResNetClassifier::new(settings(weights), 1, &Device::Cpu));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_validation_score_rules_the_schedule_and_the_end() {
    use crate::{EarlyStoppingConfig, Goal, Monitor};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut settings = config(2);
    let stopping = EarlyStoppingConfig { patience: 1, goal: Goal::Maximize, ..EarlyStoppingConfig::default() };
    settings.training.trainer.early_stopping = Some(stopping);
    assert!(text(ResNetClassifier::new(settings.clone(), 1, &Device::Cpu)).contains("`goal`"));
    settings.training.trainer.monitor = Monitor::Validation;
    let mut network = classifier(settings.clone());
    let samples = patches(2, 6);
    // Scores far below the first losses are progress all the same.
    for (f1, stop) in [(0.25, false), (0.5, false), (0.375, true)] {
        network.fit_epoch(&samples, 0).unwrap();
        network.save_training(&path, &()).unwrap();
        network = classifier(settings.clone());
        network.resume::<()>(&path).unwrap();
        assert!(text(network.fit_epoch(&samples, 1)).contains("waits for `judge`"));
        network.trainer_mut().judge(f1).unwrap();
        assert_eq!(network.trainer().should_stop(), stop);
    }
}

#[test]
fn encoders_are_read_from_states_of_trainings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut settings = config(2);
    settings.training.trainer.average = Some(AverageConfig::default());
    let mut source = classifier(settings);
    source.fit_epoch(&patches(2, 6), 1).unwrap();
    source.save_training(&path, &()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let conv =
        |parameters: &Parameters| parameters.get("conv1.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>();
    let taken = ResNetClassifier::with_encoder(config(3), &checkpoint, 1, &Device::Cpu).unwrap();
    assert_eq!(conv(taken.trainer().parameters()).unwrap(), conv(source.trainer().parameters()).unwrap());
    crate::ResNet::load(&checkpoint, &Device::Cpu).unwrap();
}
