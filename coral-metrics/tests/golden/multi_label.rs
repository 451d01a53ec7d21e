use coral_core::Metric;
use coral_core::ndarray::{Array1, Array2};
use coral_core::testing::GoldenCase;
use coral_metrics::{MultiLabelCounts, SoftTargets, ThresholdConfig, best_thresholds, f1_curve};

const F1: f64 = 1e-12;

fn open() -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "dinov2_multilabel_head").unwrap()
}

fn matrix(case: &GoldenCase, name: &str) -> Array2<f64> {
    case.f64(name).unwrap().into_dimensionality().unwrap()
}

fn list(case: &GoldenCase, name: &str) -> Array1<f64> {
    case.f64(name).unwrap().into_dimensionality().unwrap()
}

/// Compares thresholds and F1 scores under `part/`; classes that are never shown have the threshold 0 there.
fn check_thresholds(case: &GoldenCase, part: &str, targets: &Array2<f64>, config: &ThresholdConfig) {
    let probabilities = matrix(case, "val/probs_f64");
    let ours = best_thresholds(probabilities.view(), targets.view(), config).unwrap();
    let (thresholds, scores) = (list(case, &format!("{part}/best_threshold")), list(case, &format!("{part}/best_f1")));
    assert_eq!(ours.len(), thresholds.len());
    for (class, ours) in ours.iter().enumerate() {
        match ours {
            Some(ours) => {
                assert_eq!(ours.threshold, thresholds[class], "{part}: class {class}");
                assert!((ours.f1 - scores[class]).abs() <= F1, "{part}: class {class}");
            }
            None => {
                assert_eq!((thresholds[class], scores[class]), (0.0, 0.0), "{part}: class {class}");
                assert!(targets.column(class).iter().all(|&target| target <= 0.0), "{part}: class {class}");
            }
        }
    }
}

#[test]
fn thresholds() {
    let case = open();
    let config = ThresholdConfig { soft_targets: SoftTargets::WithThreshold, ..ThresholdConfig::default() };
    let targets: Array2<f64> =
        case.i64("val/y_true").unwrap().mapv(|target| target as f64).into_dimensionality().unwrap();
    check_thresholds(&case, "val", &targets, &config);
    // Hard targets are the same under both rules.
    check_thresholds(&case, "val", &targets, &ThresholdConfig::default());
    check_thresholds(&case, "val_prob", &matrix(&case, "val_prob/y_true"), &config);
}

#[test]
fn f1_curves() {
    let case = open();
    let probabilities = matrix(&case, "val/probs_f64");
    let targets: Array2<f64> =
        case.i64("val/y_true").unwrap().mapv(|target| target as f64).into_dimensionality().unwrap();
    let curves = matrix(&case, "val/f1_curve");
    for (class, expected) in curves.rows().into_iter().enumerate() {
        let ours = f1_curve(probabilities.column(class), targets.column(class), &ThresholdConfig::default()).unwrap();
        assert_eq!(ours.len(), expected.len());
        for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            assert!((ours - expected).abs() <= F1, "class {class}, threshold {index}: {ours} against {expected}");
        }
        // A curve is what counting the decisions gives.
        let index = expected.len() / 2;
        let threshold = index as f64 / expected.len() as f64;
        let decide = |of: &Array2<f64>, limit: f64| of.mapv(|value| value > limit);
        let mut counts = MultiLabelCounts::new(curves.nrows()).unwrap();
        counts.update(&decide(&probabilities, threshold), &decide(&targets, 0.5)).unwrap();
        assert!((counts.f1()[class].unwrap_or(0.0) - expected[index]).abs() <= F1, "class {class}");
    }
}
