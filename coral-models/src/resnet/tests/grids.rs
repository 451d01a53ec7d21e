use super::*;
use coral_core::ndarray::Axis;
use coral_core::{ClassId, Dataset, GridClassifier, LabelMap, TrainGridClassifier, UNLABELED};

/// Labels of every photograph's cells of 16 pixels: its class, and then what `change` makes of them.
fn labels(samples: &Samples<LabeledPhotograph>, change: impl Fn(&mut LabelMap, ClassId)) -> Vec<LabelMap> {
    labels_of_cells(samples, 16, change)
}

fn labels_of_cells(
    samples: &Samples<LabeledPhotograph>,
    side: u32,
    change: impl Fn(&mut LabelMap, ClassId),
) -> Vec<LabelMap> {
    let label = |LabeledPhotograph { image, class }: &LabeledPhotograph| {
        let cells = |length: u32| ((length + side / 2) / side) as usize;
        let mut labels = LabelMap::from_elem((cells(image.height()), cells(image.width())), *class);
        change(&mut labels, *class);
        labels
    };
    samples.items.iter().map(label).collect()
}

/// Leaves the labels as they are.
fn as_they_are(_: &mut LabelMap, _: ClassId) {}

fn photographs_48x32(count: usize) -> Samples<LabeledPhotograph> {
    photographs(2, count, Size { width: 48, height: 32 })
}

#[test]
fn cells_learn_flat_colours() {
    // A step takes cut cells, but photographs of four pooled ones.
    for (cells, side, batch, size) in
        [(Cells::Cut(16), 16, 12, Size { width: 48, height: 32 }), (Cells::Pooled(1), 32, 3, square(64))]
    {
        let mut config = config(2);
        (config.network.cells, config.training.batch) = (cells, batch);
        let mut network = classifier(config);
        let samples = photographs(2, 8, size);
        let labels = labels_of_cells(&samples, side, as_they_are);
        let reports: Vec<_> = (0..10).map(|seed| network.fit_epoch(&samples, &labels, seed).unwrap()).collect();
        assert!(reports[9].loss < 0.5 * reports[0].loss, "{reports:?}");
        let answer = network.classify_grid(&flat(1, size, 99)).unwrap();
        assert!(answer.index_axis(Axis(0), 1).iter().all(|&p| p > 0.5), "{answer}");
    }
}

#[test]
fn cells_without_label_do_not_count() {
    let samples = photographs_48x32(6);
    let samples_of = |change: &dyn Fn(&mut LabelMap, ClassId)| {
        classifier(config(2)).fit_epoch(&samples, &labels(&samples, change), 1).unwrap().samples
    };
    assert_eq!(samples_of(&as_they_are), 6 * 6);
    assert_eq!(samples_of(&|labels, _| labels.row_mut(0).fill(UNLABELED)), 6 * 3);
    let without_1 = |labels: &mut LabelMap, class| {
        if class == 1 {
            labels.fill(UNLABELED);
        }
    };
    assert_eq!(samples_of(&without_1), 3 * 6);
    let all_left_out = photographs(1, 4, square(32));
    let nothing = labels(&all_left_out, |labels, _| labels.fill(UNLABELED));
    for cells in [Cells::Cut(16), Cells::Pooled(1)] {
        let mut config = config(2);
        config.network.cells = cells;
        let mut network = classifier(config);
        let image = flat(0, square(32), 50);
        let before = network.classify_grid(&image).unwrap();
        let nothing =
            if cells == Cells::Cut(16) { nothing.clone() } else { vec![LabelMap::from_elem((1, 1), UNLABELED); 4] };
        assert!(text(network.fit_epoch(&all_left_out, &nothing, 1)).contains("without steps"));
        // No cell went through the network in training mode.
        assert_eq!(network.classify_grid(&image).unwrap(), before);
    }
}

#[test]
fn wrong_labels_are_named() {
    let samples = photographs_48x32(4);
    let good = labels(&samples, as_they_are);
    for cells in [Cells::Cut(16), Cells::Pooled(1)] {
        let (good, side) =
            if cells == Cells::Cut(16) { (good.clone(), 16) } else { (labels_of_cells(&samples, 32, as_they_are), 32) };
        let text = |labels: &[LabelMap]| {
            let mut config = config(2);
            config.network.cells = cells;
            text(classifier(config).fit_epoch(&samples, labels, 1))
        };
        let name = samples.name(2).unwrap();
        let mut wrong = good.clone();
        wrong[2] = LabelMap::from_elem((5, 4), 0);
        let grid = if side == 16 { "3x2" } else { "2x1" };
        assert_eq!(text(&wrong), format!("labels of cells of {name}: expected shape {grid}, got 4x5"));
        wrong[2] = good[2].mapv(|_| 7);
        let unknown = text(&wrong);
        assert!(
            unknown.contains(&format!("of cells of {name}`: expected classes 0 to 1 or 255 (unlabelled), got 7")),
            "{unknown}"
        );
        assert_eq!(text(&good[1..]), "labels of cells: expected shape 4 maps, one a photograph, got 3");
    }
}

#[test]
fn photographs_smaller_than_a_cell_are_named() {
    let mut samples = photographs_48x32(4);
    samples.items[2].image = flat(0, Size { width: 40, height: 15 }, 1);
    let mut network = classifier(config(2));
    let expected = "a 40x15 photograph is smaller than a cell of 16x16 pixels";
    let error = text(network.fit_epoch(&samples, &labels(&samples, as_they_are), 1));
    assert_eq!(error, format!("invalid input `{}`: {expected}", samples.name(2).unwrap()));
    assert_eq!(text(network.classify_grid(&samples.items[2].image)), format!("invalid input `photograph`: {expected}"));
}

#[test]
fn photographs_of_several_sizes_train_together() {
    let mut samples = photographs_48x32(5);
    samples.items[1].image = flat(1, Size { width: 70, height: 33 }, 1);
    samples.items[3].image = flat(1, Size { width: 71, height: 31 }, 1);
    // Both become 4×2 cells, but are steps of their own.
    let report = classifier(config(2)).fit_epoch(&samples, &labels(&samples, as_they_are), 1).unwrap();
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
    let labels = labels(&samples, |labels, _| labels.row_mut(0).fill(UNLABELED));
    let run = |network: &mut ResNetClassifier, epochs: std::ops::Range<u64>| {
        epochs.map(|epoch| network.fit_epoch(&samples, &labels, epoch).unwrap()).collect::<Vec<_>>()
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
    let labels = labels(&samples.0, as_they_are);
    // Two loaders may ask for the same photograph at once.
    let mut network = classifier(with_workers(config(2), 0));
    assert_eq!(network.fit_epoch(&samples, &labels, 1).unwrap().samples, 4 * 6);
    assert_eq!(samples.1.into_inner(), 4);
}

#[test]
fn the_last_photograph_is_seen_too() {
    let samples = photographs(2, 5, square(64));
    let mut config = config(2);
    (config.network.cells, config.training.batch) = (Cells::Pooled(1), 2);
    let report = classifier(config).fit_epoch(&samples, &labels_of_cells(&samples, 32, as_they_are), 1).unwrap();
    assert_eq!(report.samples, 5 * 4);
}

#[test]
fn photographs_that_weigh_nothing_are_left_out() {
    let samples = photographs(2, 5, square(64));
    let mut config = config(2);
    (config.network.cells, config.training.batch) = (Cells::Pooled(1), 1);
    config.training.class_weights = Some(vec![1.0, 0.0]);
    let report = classifier(config).fit_epoch(&samples, &labels_of_cells(&samples, 32, as_they_are), 1).unwrap();
    assert_eq!(report.samples, 3 * 4);
}
