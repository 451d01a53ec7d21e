use std::ops::ControlFlow;

use coral_core::image::RgbImage;
use coral_core::image::imageops::crop_imm;
use coral_core::ndarray::Array2;
use coral_core::{
    CountingProgress, EpochReport, ImageEncoder, NoProgress, PatchGrid, PseudoLabel, PseudoLabeler, Result, Size,
    TrainPatchClassifier,
};
use coral_weak::{
    RecordedPatches, RecordedPatchesConfig, SeaClip, SeaClipConfig, SeaClipLabels, Targets, TemplateBundler,
    patch_templates, seaclip_labels,
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

fn go_on(_: usize, _: &EpochReport, _: &mut ColorModel) -> Result<ControlFlow<()>> {
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

/// Colours of patches, few at a time.
struct Frugal;

impl ImageEncoder for Frugal {
    fn encode_images(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        assert!(patches.len() <= 40, "{} patches at a time", patches.len());
        Ok(Array2::from_shape_fn((patches.len(), 3), |(index, channel)| mean_color(&patches[index])[channel]))
    }
}

impl PseudoLabeler for Frugal {
    fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
        assert!(patches.len() <= 40, "{} patches at a time", patches.len());
        SURE.label(patches)
    }
}

#[test]
fn photographs_of_many_patches_are_cut_in_parts() {
    let seabed = Seabed::typical(7);
    let fine = PatchGrid::Split { rows: 12, columns: 16 };
    let config = SeaClipConfig { grid: fine, ..config() };
    let ours = seaclip_labels(&seabed, &Frugal, &config, &NoProgress).unwrap();
    assert_eq!(ours.records.len(), 13 * 12 * 16);
    let mut bundler = TemplateBundler::new(CLASSES, 3).unwrap();
    for (photograph, records) in seabed.photographs.iter().zip(ours.records.chunks(12 * 16)) {
        let rects = fine.patches(Size::of(&photograph.image)).unwrap();
        assert!(records.iter().map(|record| record.rect).eq(rects.iter().copied()));
        let patches: Vec<_> =
            rects.iter().map(|r| crop_imm(&photograph.image, r.x, r.y, r.width, r.height).to_image()).collect();
        for (record, answer) in records.iter().zip(SURE.label(&patches).unwrap()) {
            let background = photograph.class == 0 || answer.unwrap().class == 1;
            assert_eq!(record.class, if background { 0 } else { photograph.class });
        }
        let colors = Array2::from_shape_fn((patches.len(), 3), |(index, d)| mean_color(&patches[index])[d]);
        bundler.add_vectors(colors.view(), photograph.class).unwrap();
    }
    let (templates, expected) = (patch_templates(&Frugal, &seabed, CLASSES, &fine, &NoProgress), bundler.finish());
    let (templates, expected) = (templates.unwrap(), expected.unwrap());
    for class in 0..CLASSES as u8 {
        let pairs = templates.get(class).unwrap().iter().zip(expected.get(class).unwrap());
        assert!(pairs.into_iter().all(|(ours, expected)| (ours - expected).abs() < 1e-6));
    }
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
    let unlabeled = Some(PseudoLabel { class: 255, confidence: 0.5 });
    assert!(text(&seabed, &Fixed(vec![unlabeled; 12])).contains("photograph 1: class 255 means unlabelled"));
    let fine = SeaClipConfig { grid: PatchGrid::Split { rows: 25, columns: 1 }, ..config() };
    let error = seaclip_labels(&seabed, &SURE, &fine, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("photograph 0: a 32x24 photograph is too small"), "{error}");
    assert!(SeaClip::new(SeaClipConfig { epochs: 0, ..config() }).is_err());
    assert!(SeaClip::new(SeaClipConfig { background_group: 255, ..config() }).is_err());
    let none = RecordedPatches::new(&seabed, vec![], CLASSES, Default::default()).unwrap();
    assert!(SeaClip::new(config()).unwrap().epoch(&mut ColorModel::new(CLASSES), &none, 0).is_err());
}
