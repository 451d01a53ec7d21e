use super::*;
use coral_core::ndarray::Axis;
use coral_core::{CellLabeler, ClassId, FeatureMap, GridClassifier, LabelMap, TrainGridClassifier, UNLABELED};

/// Gives every cell the photograph's class, or does otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Labeler {
    Photograph,
    AbstainsFrom(ClassId),
    AbstainsFromFirstRow,
    WrongShape,
    Unknown,
    Fails,
}

impl CellLabeler for Labeler {
    fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
        let (dim, height, width) = features.data.dim();
        assert_eq!(dim, 32);
        let mut labels = LabelMap::from_elem((height, width), class);
        match self {
            Self::Photograph => {}
            Self::AbstainsFrom(left_out) if *left_out == class => labels.fill(UNLABELED),
            Self::AbstainsFrom(_) => {}
            Self::AbstainsFromFirstRow => labels.row_mut(0).fill(UNLABELED),
            Self::WrongShape => return Ok(LabelMap::from_elem((width, height), class)),
            Self::Unknown => labels.fill(7),
            Self::Fails => return Err(Error::input("templates", "none of this class")),
        }
        Ok(labels)
    }
}

fn photographs_48x32(count: usize) -> Samples<LabeledPhotograph> {
    photographs(2, count, Size { width: 48, height: 32 })
}

#[test]
fn cells_learn_flat_colours() {
    // A step takes cut cells, but photographs of four pooled ones.
    for (cells, batch, size) in
        [(Cells::Cut(16), 12, Size { width: 48, height: 32 }), (Cells::Pooled(1), 3, square(64))]
    {
        let mut config = config(2);
        (config.network.cells, config.training.batch) = (cells, batch);
        let mut network = classifier(config);
        let samples = photographs(2, 8, size);
        let reports: Vec<_> =
            (0..10).map(|seed| network.fit_epoch(&samples, &Labeler::Photograph, seed).unwrap()).collect();
        assert!(reports[9].loss < 0.5 * reports[0].loss, "{reports:?}");
        let answer = network.classify_grid(&flat(1, size, 99)).unwrap();
        assert!(answer.index_axis(Axis(0), 1).iter().all(|&p| p > 0.5), "{answer}");
    }
}

#[test]
fn what_the_labeler_leaves_out_does_not_count() {
    let samples = photographs_48x32(6);
    let samples_of = |labeler| classifier(config(2)).fit_epoch(&samples, &labeler, 1).unwrap().samples;
    assert_eq!(samples_of(Labeler::Photograph), 6 * 6);
    assert_eq!(samples_of(Labeler::AbstainsFromFirstRow), 6 * 3);
    assert_eq!(samples_of(Labeler::AbstainsFrom(1)), 3 * 6);
    let all_left_out = photographs(1, 4, square(32));
    let mut network = classifier(config(2));
    let image = flat(0, square(32), 50);
    let before = network.classify_grid(&image).unwrap();
    assert!(text(network.fit_epoch(&all_left_out, &Labeler::AbstainsFrom(0), 1)).contains("without steps"));
    // No cell went through the network in training mode.
    assert_eq!(network.classify_grid(&image).unwrap(), before);
}

#[test]
fn wrong_labels_are_named() {
    let samples = photographs_48x32(4);
    let text = |labeler| text(classifier(config(2)).fit_epoch(&samples, &labeler, 1));
    assert_eq!(text(Labeler::WrongShape), "labels of cells: expected shape 3x2, got 2x3");
    assert!(text(Labeler::Unknown).contains("expected classes 0 to 1 or 255 (unlabelled), got 7"));
    assert!(text(Labeler::Fails).contains("`templates`: none of this class"));
}

#[test]
fn photographs_smaller_than_a_cell_are_named() {
    let mut samples = photographs_48x32(4);
    samples.items[2].image = flat(0, Size { width: 40, height: 15 }, 1);
    let mut network = classifier(config(2));
    let expected = "invalid input `photograph`: a 40x15 photograph is smaller than a cell of 16x16 pixels";
    assert_eq!(text(network.fit_epoch(&samples, &Labeler::Photograph, 1)), expected);
    assert_eq!(text(network.classify_grid(&samples.items[2].image)), expected);
}

#[test]
fn photographs_of_several_sizes_train_together() {
    let mut samples = photographs_48x32(5);
    samples.items[1].image = flat(1, Size { width: 70, height: 33 }, 1);
    samples.items[3].image = flat(1, Size { width: 71, height: 31 }, 1);
    // Both become 4×2 cells, but are steps of their own.
    let report = classifier(config(2)).fit_epoch(&samples, &Labeler::Photograph, 1).unwrap();
    assert_eq!(report.samples, 3 * 6 + 2 * 8);
}

#[test]
fn cells_are_classified_as_patches_are() {
    use coral_core::PatchClassifier;
    let network = classifier(config(3));
    // More cells than go through the network at a time.
    let mut random = SeededRng::new(4);
    let photograph = RgbImage::from_fn(16 * 90, 16 * 50, |_, _| Rgb(std::array::from_fn(|_| random.below(256) as u8)));
    let grid = network.classify_grid(&photograph).unwrap();
    assert_eq!(grid.dim(), (3, 50, 90));
    for (row, column) in [(0, 0), (0, 89), (45, 45), (45, 46), (49, 89)] {
        let (x, y) = (16 * column as u32, 16 * row as u32);
        let cell = coral_core::image::imageops::crop_imm(&photograph, x, y, 16, 16).to_image();
        let alone = network.classify(&[cell]).unwrap();
        assert!((0..3).all(|class| (grid[[class, row, column]] - alone[[0, class]]).abs() < 1e-5), "{row} {column}");
    }
}

#[test]
fn a_resumed_training_goes_on_as_if_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let samples = photographs_48x32(6);
    let mut settings = config(2);
    settings.training.batch = 3;
    let run = |network: &mut ResNetClassifier, epochs: std::ops::Range<u64>| {
        epochs
            .map(|epoch| network.fit_epoch(&samples, &Labeler::AbstainsFromFirstRow, epoch).unwrap())
            .collect::<Vec<_>>()
    };
    let mut straight = classifier(with_workers(settings.clone(), 2));
    let reports = run(&mut straight, 0..3);
    let mut interrupted = classifier(with_workers(settings.clone(), 0));
    run(&mut interrupted, 0..1);
    interrupted.save_training(&path, &1u64).unwrap();
    for workers in [0, 2] {
        let mut resumed = classifier(with_workers(settings.clone(), workers));
        let next = resumed.resume(&path).unwrap();
        assert_eq!(run(&mut resumed, next..3), reports[1..]);
        assert_eq!(values(resumed.trainer().parameters()), values(straight.trainer().parameters()));
    }
}

/// Photographs, and how often one was asked for.
struct Counted(Samples<LabeledPhotograph>, std::sync::atomic::AtomicUsize);

impl Dataset for Counted {
    type Item = LabeledPhotograph;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.get(index)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.0.name(index)
    }
}

#[test]
fn photographs_are_decoded_once_for_all_their_cells() {
    // One whose sides are no whole numbers of cells is resized once, too.
    let samples = Counted(photographs(2, 4, Size { width: 50, height: 33 }), 0.into());
    assert_eq!(classifier(config(2)).fit_epoch(&samples, &Labeler::Photograph, 1).unwrap().samples, 4 * 6);
    assert_eq!(samples.1.into_inner(), 4);
}

#[test]
fn the_last_photograph_is_seen_too() {
    let mut config = config(2);
    (config.network.cells, config.training.batch) = (Cells::Pooled(1), 2);
    let report = classifier(config).fit_epoch(&photographs(2, 5, square(64)), &Labeler::Photograph, 1).unwrap();
    assert_eq!(report.samples, 5 * 4);
}

#[test]
fn photographs_that_weigh_nothing_are_left_out() {
    let mut config = config(2);
    (config.network.cells, config.training.batch) = (Cells::Pooled(1), 1);
    config.training.class_weights = Some(vec![1.0, 0.0]);
    let report = classifier(config).fit_epoch(&photographs(2, 5, square(64)), &Labeler::Photograph, 1).unwrap();
    assert_eq!(report.samples, 3 * 4);
}
