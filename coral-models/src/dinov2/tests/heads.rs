use coral_core::ndarray::{Array2, s};
use coral_core::{CountingProgress, Error, NoProgress};

use super::*;
use crate::{EarlyStoppingConfig, Goal, Monitor, ScheduleConfig, TrainerConfig};

const WIDTH: usize = 64;

/// Features of which the first three tell the classes, as bits of the row's number; soft targets for odd rows.
fn samples(rows: usize, seed: u64) -> (Array2<f32>, Array2<f32>) {
    let mut random = SeededRng::new(seed);
    let bit = |row: usize, class: usize| f64::from(row.wrapping_mul(7) >> class & 1 == 1);
    let features = Array2::from_shape_fn((rows, WIDTH), |(row, j)| {
        (if j < 3 { bit(row, j) } else { 0.0 } + 0.1 * random.normal()) as f32
    });
    let targets = Array2::from_shape_fn((rows, 3), |(row, class)| {
        let hard = bit(row, class) as f32;
        if row % 2 == 1 { 0.1 + 0.8 * hard } else { hard }
    });
    (features, targets)
}

fn fit(seed: u64, config: &FrameHeadFit) -> (FrameHead, FrameHeadReport) {
    let ((features, targets), (others, expected)) = (samples(97, seed), samples(31, seed + 1));
    let train = FrameSamples { features: features.view(), targets: targets.view() };
    let validation = FrameSamples { features: others.view(), targets: expected.view() };
    FrameHead::fit(train, validation, config, &NoProgress).unwrap()
}

#[test]
fn heads_learn_what_features_tell() {
    let trainer = TrainerConfig { learning_rate: 1e-2, ..FrameHeadFit::default().trainer };
    let config = FrameHeadFit { epochs: 60, dropout: 0.1, trainer, ..FrameHeadFit::default() };
    let (head, report) = fit(1, &config);
    let (features, targets) = samples(50, 9);
    let present = head.decide(head.probabilities(features.view()).unwrap().view()).unwrap();
    let wrong = present.iter().zip(&targets).filter(|(present, target)| **present != (**target > 0.5)).count();
    assert!(wrong <= 10, "{wrong} of 150 decisions are wrong");
    // Its weights are those of the best epoch.
    let losses: Vec<f64> = report.epochs.iter().map(|epoch| epoch.validation_loss).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[report.best_epoch], lowest);
    let (others, expected) = samples(31, 2);
    let probabilities = head.probabilities(others.view()).unwrap();
    let loss = |(p, t): (&f32, &f32)| -f64::from(t * p.ln() + (1.0 - t) * (1.0 - p).ln());
    let loss = probabilities.iter().zip(&expected).map(loss).sum::<f64>() / expected.len() as f64;
    assert!((loss - lowest).abs() < 1e-4, "{loss} against {lowest}");
    assert_eq!(report.epochs[0].training.samples, 96, "the last batch of one is left out");
}

#[test]
fn seeds_repeat_and_patience_ends() {
    let trainer = |seed: u64| TrainerConfig { seed, ..FrameHeadFit::default().trainer };
    let config = |seed: u64| FrameHeadFit { epochs: 6, trainer: trainer(seed), ..FrameHeadFit::default() };
    let losses = |seed: u64| fit(1, &config(seed)).1;
    assert_eq!(losses(5), losses(5));
    assert_ne!(losses(5), losses(6));
    let stopping = EarlyStoppingConfig { patience: 2, min_delta: 10.0, ..EarlyStoppingConfig::default() };
    let trainer = TrainerConfig { early_stopping: Some(stopping), ..trainer(1) };
    let (features, targets) = samples(64, 1);
    let samples = FrameSamples { features: features.view(), targets: targets.view() };
    let progress = CountingProgress::default();
    let config = FrameHeadFit { trainer, ..config(1) };
    let (_, report) = FrameHead::fit(samples, samples, &config, &progress).unwrap();
    assert_eq!((report.epochs.len(), progress.done()), (3, 3));
}

#[test]
fn heads_come_back_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.safetensors");
    let (head, _) = fit(1, &FrameHeadFit { epochs: 2, ..FrameHeadFit::default() });
    let info = FrameHeadInfo {
        class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        thresholds: vec![Some(0.25), None, Some(0.0)],
        encoder_name: "ViT-S/14".to_owned(),
        encoder: Some("0123".to_owned()),
    };
    let head = head.with_info(info.clone()).unwrap();
    head.save(&path).unwrap();
    let opened = FrameHead::open(&path).unwrap();
    assert_eq!((opened.info(), opened.network().config()), (&info, head.network().config()));
    let (features, _) = samples(5, 3);
    let probabilities = head.probabilities(features.view()).unwrap();
    assert_eq!(opened.probabilities(features.view()).unwrap(), probabilities);
    let some = Array2::from_shape_vec((1, 3), vec![0.25f32, 0.51, 0.01]).unwrap();
    assert_eq!(opened.decide(some.view()).unwrap().into_raw_vec_and_offset().0, [false, true, true]);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 20, bytes.len() - 4] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(FrameHead::open(&path), Err(Error::Format { .. })), "{length} bytes");
    }
    write(&path, &network(&config(), 1).0.tensors());
    assert!(FrameHead::open(&path).unwrap_err().to_string().contains("coral_frame_head"));
    let bad = |change: fn(&mut FrameHeadInfo)| {
        let mut info = info.clone();
        change(&mut info);
        head.clone().with_info(info).unwrap_err().to_string()
    };
    assert!(bad(|info| drop(info.class_names.pop())).contains("`class_names`"));
    assert!(bad(|info| info.thresholds[1] = Some(f64::NAN)).contains("`thresholds`"));
}

#[test]
fn bad_features_are_named() {
    let (head, _) = fit(1, &FrameHeadFit { epochs: 1, ..FrameHeadFit::default() });
    assert_eq!(head.probabilities(Array2::zeros((0, WIDTH)).view()).unwrap().dim(), (0, 3));
    let wide = head.probabilities(Array2::zeros((2, 9)).view()).unwrap_err().to_string();
    assert_eq!(wide, "features: expected shape 2x64, got 2x9");
    let mut features = Array2::zeros((2, WIDTH));
    features[[1, 4]] = f32::NAN;
    let text = head.probabilities(features.view()).unwrap_err().to_string();
    assert_eq!(text, "invalid input `features`: value 4 of row 1 is NaN; expected finite numbers");
    assert!(matches!(head.decide(Array2::zeros((2, 2)).view()), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn bad_samples_and_settings_are_named() {
    let (features, targets) = samples(8, 1);
    let text = |features: &Array2<f32>, targets: &Array2<f32>, config: &FrameHeadFit| {
        let samples = FrameSamples { features: features.view(), targets: targets.view() };
        FrameHead::fit(samples, samples, config, &NoProgress).unwrap_err().to_string()
    };
    let config = FrameHeadFit::default();
    let none = (features.slice(s![..1, ..]).to_owned(), targets.slice(s![..1, ..]).to_owned());
    assert!(text(&none.0, &none.1, &config).contains("`train.features`: expected at least 2 rows"));
    assert_eq!(text(&features, &none.1, &config), "train.targets: expected shape 8x3, got 1x3");
    assert!(text(&features, &targets.mapv(|t| t + 0.5), &config).contains("`train.targets`: class "));
    assert!(text(&features.mapv(|f| f / 0.0), &targets, &config).contains("expected finite numbers"));
    assert!(text(&features.slice(s![.., ..0]).to_owned(), &targets, &config).contains("`inputs`"));
    let with = |change: fn(&mut FrameHeadFit)| {
        let mut config = config.clone();
        change(&mut config);
        text(&features, &targets, &config)
    };
    assert!(with(|c| c.batch = 1).contains("`batch`"));
    assert!(with(|c| c.epochs = 0).contains("`epochs`"));
    assert!(with(|c| c.dropout = 1.0).contains("`dropout`"));
    assert!(with(|c| c.trainer.monitor = Monitor::TrainingLoss).contains("`trainer.monitor`"));
    let rising = EarlyStoppingConfig { goal: Goal::Maximize, ..EarlyStoppingConfig::default() };
    let trainer = TrainerConfig { early_stopping: Some(rising), schedule: ScheduleConfig::Constant, ..config.trainer };
    let error = text(&features, &targets, &FrameHeadFit { trainer, ..config.clone() });
    assert!(error.contains("`trainer.goal`: a loss is to fall"), "{error}");
    assert!(with(|c| c.positive_weights = Some(vec![1.0; 2])).contains("positive_weights"));
    let other = samples(4, 2).0.slice(s![.., ..5]).to_owned();
    let (train, validation) = (
        FrameSamples { features: features.view(), targets: targets.view() },
        FrameSamples { features: other.view(), targets: targets.slice(s![..4, ..]) },
    );
    let error = FrameHead::fit(train, validation, &config, &NoProgress).unwrap_err().to_string();
    assert_eq!(error, "validation.features: expected shape 4x64, got 4x5");
}
