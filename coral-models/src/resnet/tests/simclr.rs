use super::*;
use crate::{Augmentation, Checkpoint, SimClr, SimClrConfig};

fn settings(workers: usize) -> SimClrConfig {
    SimClrConfig {
        resnet: RESNET,
        projection: 6,
        temperature: 0.2,
        batch: 6,
        augmentation: Augmentation {
            blur: None,
            color_jitter: None,
            grayscale: 0.0,
            ..Augmentation::simclr(square(16))
        },
        trainer: TrainerConfig { learning_rate: 3e-3, ..TrainerConfig::default() },
        loader: LoaderConfig { workers, prefetch: 1 },
    }
}

fn network(config: SimClrConfig) -> SimClr {
    SimClr::new(config, 5, &Device::Cpu).unwrap()
}

/// Noise, each of a shade of its own.
fn images(count: usize) -> Samples<RgbImage> {
    let image = |index: usize| {
        let mut random = SeededRng::new(index as u64);
        let shade: [f64; 3] = std::array::from_fn(|_| random.range(100.0, 150.0));
        RgbImage::from_fn(20, 20, |_, _| Rgb(shade.map(|level| (level + random.range(-90.0, 90.0)) as u8)))
    };
    Samples::new((0..count).map(image))
}

#[test]
fn views_of_one_image_become_alike() {
    let mut network = network(settings(0));
    let images = images(13);
    let losses: Vec<f32> = (0..100).map(|seed| network.fit_epoch(&images, seed).unwrap().loss).collect();
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean(&losses[97..]) < 0.7 * mean(&losses[..3]), "{losses:?}");
    // The last of 13 fills no batch of 6.
    assert_eq!(network.fit_epoch(&images, 99).unwrap().samples, 12);
}

#[test]
fn too_few_images_are_refused() {
    let mut network = network(settings(0));
    assert_eq!(text(network.fit_epoch(&images(1), 0)), "invalid input `images`: expected at least 2, got 1");
    assert_eq!(network.fit_epoch(&images(2), 0).unwrap().samples, 2);
    let one = images(2).items;
    assert!(text(network.step(&one[..1], &one[1..])).contains("`images`: expected at least 2, to compare them, got 1"));
    assert!(text(network.step(&[], &[])).contains("got 0"));
    assert_eq!(text(network.step(&one, &one[1..])), "second views: expected shape 2, got 1");
    let refuse = |change: &dyn Fn(&mut SimClrConfig)| {
        let mut config = settings(0);
        change(&mut config);
        text(SimClr::new(config, 1, &Device::Cpu))
    };
    assert!(refuse(&|c| c.batch = 1).contains("`batch`"));
    assert!(refuse(&|c| c.temperature = f64::NAN).contains("`temperature`"));
    assert!(refuse(&|c| c.augmentation.grayscale = 2.0).contains("grayscale"));
}

#[test]
fn a_resumed_training_goes_on_as_if_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let images = images(12);
    let mut straight = network(settings(2));
    let reports: Vec<_> = (0..3).map(|seed| straight.fit_epoch(&images, seed).unwrap()).collect();
    let mut interrupted = network(settings(0));
    interrupted.fit_epoch(&images, 0).unwrap();
    interrupted.save_training(&path, &1u64).unwrap();
    for workers in [0, 2] {
        let mut resumed = network(settings(workers));
        let next: u64 = resumed.resume(&path).unwrap();
        (next..3).for_each(|seed| assert_eq!(resumed.fit_epoch(&images, seed).unwrap(), reports[seed as usize]));
        assert_eq!(values(resumed.parameters()), values(straight.parameters()));
    }
    let mut other = network(SimClrConfig { temperature: 0.3, ..settings(0) });
    let before = values(other.parameters());
    assert!(text(other.resume::<u64>(&path)).ends_with("`config.temperature`: 0.2, but this training has 0.3"));
    assert_eq!(values(other.parameters()), before);
}

#[test]
fn classifiers_start_from_its_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("simclr.safetensors");
    let mut source = network(settings(0));
    source.fit_epoch(&images(6), 0).unwrap();
    source.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let read = ResNetClassifier::with_encoder(config(2), &checkpoint, 3, &Device::Cpu).unwrap();
    let mut copied = classifier(config(2));
    copied.copy_encoder(source.parameters()).unwrap();
    assert_eq!(values(read.trainer().parameters()), values(copied.trainer().parameters()));
    let again = SimClr::load(settings(0), &checkpoint, &Device::Cpu).unwrap();
    assert_eq!(values(again.parameters()), values(source.parameters()));
}

#[test]
fn single_steps_make_an_epoch_that_can_be_ended_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mut network = network(settings(0));
    let images = images(4).items;
    let loss = network.step(&images[..2], &images[2..]).unwrap();
    assert!(text(network.save_training(&path, &())).contains("midst of an epoch"));
    let report = network.trainer_mut().finish_epoch().unwrap();
    assert_eq!((report.loss, report.samples, network.trainer().epoch()), (loss, 2, 1));
    network.save_training(&path, &()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    SimClr::with_encoder(settings(0), &checkpoint, 1, &Device::Cpu).unwrap();
    // What was frozen in an epoch and is not any more learns in a single step.
    network.trainer_mut().parameters_mut().freeze(|name| !name.starts_with("projector."));
    network.fit_epoch(&self::images(4), 1).unwrap();
    let stem = |network: &SimClr| {
        let (_, values) = values(network.parameters()).into_iter().find(|(name, _)| name == "conv1.weight").unwrap();
        values
    };
    let before = stem(&network);
    network.trainer_mut().parameters_mut().unfreeze(|_| true);
    network.step(&images[..2], &images[2..]).unwrap();
    assert_ne!(stem(&network), before);
}
