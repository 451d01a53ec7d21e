use std::ops::ControlFlow;

use coral_core::image::RgbImage;
use coral_core::{
    CountingProgress, EpochReport, NoProgress, PatchGrid, PseudoLabel, PseudoLabeler, Result, TrainPatchClassifier,
};
use coral_weak::{
    RecordedPatches, RecordedPatchesConfig, SeaClip, SeaClipConfig, SeaClipLabels, Targets, seaclip_labels,
};

use crate::seagrass::{CLASSES, ColorModel, Seabed, mean_color};

const GRID: PatchGrid = PatchGrid::Split { rows: 3, columns: 4 };

/// Calls bright patches background (its class 1) and abstains in between.
struct Brightness {
    dark: f32,
    bright: f32,
}

impl PseudoLabeler for Brightness {
    fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
        let label = |patch: &RgbImage| match mean_color(patch).mean().unwrap_or(0.0) {
            brightness if brightness > self.bright => Some(PseudoLabel { class: 1, confidence: 0.9 }),
            brightness if brightness < self.dark => Some(PseudoLabel { class: 0, confidence: 0.8 }),
            _ => None,
        };
        Ok(patches.iter().map(label).collect())
    }
}

const SURE: Brightness = Brightness { dark: 0.1, bright: 0.1 };

fn config() -> SeaClipConfig {
    SeaClipConfig { grid: GRID, background_group: 1, epochs: 6, seed: 4, ..Default::default() }
}

fn labels(seabed: &Seabed, labeler: &dyn PseudoLabeler) -> Result<SeaClipLabels> {
    seaclip_labels(seabed, labeler, &config(), &NoProgress)
}

fn go_on(_: usize, _: &EpochReport, _: &ColorModel) -> Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

#[test]
fn two_weak_labels_make_a_strong_classifier() {
    let (seabed, test) = (Seabed::typical(1), Seabed::typical(2));
    let (training, progress) = (SeaClip::new(config()).unwrap(), CountingProgress::default());
    let labels = training.label(&seabed, &SURE, &progress).unwrap();
    assert_eq!((labels.records.len(), labels.abstained, progress.done()), (13 * 12, 0, 13));
    for record in &labels.records {
        let truth = &seabed.truth[record.photograph];
        let at = [(record.rect.y / 8) as usize, (record.rect.x / 8) as usize];
        assert_eq!(record.class, truth[at], "{record:?}");
        let other = seabed.photographs[record.photograph].class;
        assert_eq!(record.alternative, if record.class == 0 { other } else { 0 });
    }
    assert_eq!(labels.per_class()[0], labels.relabeled + 12);

    // What the labeller alone cannot know: which seagrass it is.
    let mut every_patch = labels.records.clone();
    every_patch.iter_mut().for_each(|record| record.class = seabed.photographs[record.photograph].class);
    let train = |records, targets| {
        let config = RecordedPatchesConfig { targets, ..Default::default() };
        let patches = RecordedPatches::new(&seabed, records, CLASSES, config).unwrap();
        let (mut model, progress) = (ColorModel::new(CLASSES), CountingProgress::default());
        let reports = training.fit(&mut model, &patches, &progress, go_on).unwrap();
        assert_eq!((reports.len(), progress.done()), (6, 6));
        assert!(reports[5].loss < reports[0].loss && reports[0].samples == patches.records().len());
        model.accuracy(&test)
    };
    let baseline = train(every_patch, Targets::Hard);
    for targets in [Targets::Hard, Targets::Soft] {
        let ours = train(labels.records.clone(), targets);
        assert!(ours > 0.95 && baseline < 0.8, "{ours} against {baseline} of the baseline");
    }
}

#[test]
fn a_resumed_training_equals_an_uninterrupted_one() {
    let seabed = Seabed::typical(3);
    let records = labels(&seabed, &SURE).unwrap().records;
    let patches = RecordedPatches::new(&seabed, records, CLASSES, Default::default()).unwrap();
    let mut whole = ColorModel::new(CLASSES);
    let expected = SeaClip::new(config()).unwrap().fit(&mut whole, &patches, &NoProgress, go_on).unwrap();
    let mut model = ColorModel::new(CLASSES);
    let stop = |epoch, _: &EpochReport, _: &dyn TrainPatchClassifier| {
        Ok(if epoch == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let training = SeaClip::new(config()).unwrap();
    let mut reports = training.fit(&mut model, &patches, &NoProgress, |e, r, m| stop(e, r, m)).unwrap();
    assert_eq!(reports.len(), 4);
    let rest = SeaClip::new(SeaClipConfig { start_epoch: 4, ..config() }).unwrap();
    reports.extend(rest.fit(&mut model, &patches, &NoProgress, go_on).unwrap());
    assert_eq!((model, reports), (whole, expected));
}

#[test]
fn patches_in_doubt_are_left_out() {
    let seabed = Seabed::typical(5);
    let doubtful = labels(&seabed, &Brightness { dark: 0.1, bright: 0.45 }).unwrap();
    assert!(doubtful.abstained > 0);
    assert_eq!(doubtful.records.len() + doubtful.abstained, 13 * 12);
    let photographs_of_sand = labels(&seabed, &Brightness { dark: -1.0, bright: 1.0 }).unwrap_err().to_string();
    assert!(photographs_of_sand.contains("12 labelled, all of class 0, 144 left out"), "{photographs_of_sand}");
    let mut mislabeled = Seabed::new(&[0, 1, 0], 1);
    mislabeled.photographs[2].class = 2;
    assert_eq!(labels(&mislabeled, &SURE).unwrap().without_class, [2]);
}

#[test]
fn unusable_input_is_refused() {
    let text = |seabed: &Seabed, labeler: &dyn PseudoLabeler| labels(seabed, labeler).unwrap_err().to_string();
    assert!(text(&Seabed::new(&[], 1), &SURE).contains("at least one is needed"));
    let mut unlabeled = Seabed::new(&[0, 1], 1);
    unlabeled.photographs[1].class = 255;
    assert!(text(&unlabeled, &SURE).contains("photograph 1 has class 255"));

    struct Fixed(Vec<Option<PseudoLabel>>);
    impl PseudoLabeler for Fixed {
        fn label(&self, _: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
            Ok(self.0.clone())
        }
    }
    let seabed = Seabed::new(&[0, 1], 1);
    assert!(text(&seabed, &Fixed(vec![None; 3])).contains("expected shape 12 patches, got 3"));
    let nan = Some(PseudoLabel { class: 0, confidence: f32::NAN });
    assert!(text(&seabed, &Fixed(vec![nan; 12])).contains("confidence in 0..=1, got NaN"));
    let fine = SeaClipConfig { grid: PatchGrid::Split { rows: 25, columns: 1 }, ..config() };
    assert!(seaclip_labels(&seabed, &SURE, &fine, &NoProgress).unwrap_err().to_string().contains("too small"));
    assert!(SeaClip::new(SeaClipConfig { epochs: 0, ..config() }).is_err());
    assert!(SeaClip::new(SeaClipConfig { background_group: 255, ..config() }).is_err());
    let none = RecordedPatches::new(&seabed, vec![], CLASSES, Default::default()).unwrap();
    assert!(SeaClip::new(config()).unwrap().epoch(&mut ColorModel::new(CLASSES), &none, 0).is_err());
}
