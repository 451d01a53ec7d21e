//! Parity with scikit-learn, torchmetrics, the evaluation of *The point is the mask* and the thresholds of DinoVdeau.

#[path = "golden/multi_label.rs"]
mod multi_label;

use coral_core::testing::GoldenCase;
use coral_core::{ClassId, LabelMap, Metric, UNLABELED};
use coral_metrics::{ClassMean, ConfusionMatrix, cover};
use serde_json::Value;

/// Tolerance for numbers computed in double precision.
const F64: f64 = 1e-9;
/// Tolerance for torchmetrics, which computes in single precision.
const F32: f64 = 1e-6;
/// What *The point is the mask* adds to every denominator.
const REFERENCE_EPSILON: f64 = 1e-7;

#[test]
fn metrics() {
    let golden = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "metrics").unwrap();
    let cases = golden.value("/label_cases").unwrap().as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = format!("case{}", case["id"]);
        let map = |part: &str| -> LabelMap {
            let map: LabelMap = golden.u8(&format!("{name}/{part}")).unwrap().into_dimensionality().unwrap();
            assert_eq!([map.nrows(), map.ncols()].to_vec(), integers(&case["hw"]), "{name}/{part}");
            map
        };
        check_label_case(&name, case, &map("pred"), &map("gt"));
    }
}

fn check_label_case(name: &str, case: &Value, prediction: &LabelMap, target: &LabelMap) {
    let k = case["K"].as_u64().unwrap() as usize;
    let ignore = case["ign"].as_u64().map_or(UNLABELED, |id| id as ClassId);
    let mut matrix = ConfusionMatrix::with_ignore(k, ignore).unwrap();
    matrix.update(prediction, target).unwrap();
    for (key, expected) in case.as_object().unwrap() {
        let what = format!("{name}/{key}");
        let number = |ours: Option<f64>| assert_number(&what, ours, expected, F64);
        let list = |ours: &[Option<f64>]| assert_list(&what, ours, expected, F64);
        match key.as_str() {
            "id" | "K" | "hw" | "absent" | "ign" => {}
            "n_valid" => assert_eq!(Some(matrix.total()), expected.as_u64(), "{what}"),
            "confusion_rows_true_cols_pred" => assert_counts(&what, &matrix, expected),
            "iou_per_class_nan_when_union_zero" => list(&matrix.iou()),
            "miou_skip_absent" => number(matrix.mean_iou(ClassMean::PresentInEither)),
            "miou_absent_as_0" => number(matrix.mean_iou(ClassMean::AbsentAsZero)),
            "miou_absent_as_1" => number(matrix.mean_iou(ClassMean::AbsentAsOne)),
            "mean_class_accuracy_present_gt_only" => number(matrix.mean_class_accuracy()),
            "frequency_weighted_iou" => number(matrix.frequency_weighted_iou()),
            "dice_per_class_nan_when_absent" => list(&matrix.dice()),
            "dice_mean_skip_absent" => number(matrix.mean_dice(ClassMean::PresentInEither)),
            "cover_percent_gt_valid" => {
                list(&some(matrix.target_cover().unwrap()));
                let valid = target.mapv(|id| if id == ignore { UNLABELED } else { id });
                list(&some(cover(&valid, k).unwrap().unwrap()));
            }
            "cover_percent_pred_valid" => list(&some(matrix.predicted_cover().unwrap())),
            "cover_mae_percentage_points" => number(matrix.mean_cover_error()),
            "sklearn" => each(&what, expected, |key, expected| check_sklearn(&matrix, key, expected)),
            "torchmetrics" => each(&what, expected, |key, expected| check_torchmetrics(&matrix, key, expected)),
            "tpitm" => check_point_is_the_mask(&what, &matrix, expected),
            other => panic!("{name}: nothing here is compared with `{other}`"),
        }
    }
}

fn each(what: &str, values: &Value, check: impl Fn(&str, &Value)) {
    for (key, expected) in values.as_object().unwrap() {
        check(&format!("{what}/{key}"), expected);
    }
}

fn check_sklearn(matrix: &ConfusionMatrix, what: &str, expected: &Value) {
    let zero = ClassMean::AbsentAsZero;
    let number = |ours: Option<f64>| assert_number(what, ours, expected, F64);
    let list = |ours: Vec<Option<f64>>| assert_list(what, &none_as_zero(ours), expected, F64);
    match what.rsplit('/').next().unwrap() {
        "jaccard_per_class_zero0" => list(matrix.iou()),
        "jaccard_macro_zero0" => number(matrix.mean_iou(zero)),
        "jaccard_micro" => number(matrix.mean_iou(ClassMean::Micro)),
        "jaccard_weighted" => number(matrix.mean_iou(ClassMean::Weighted)),
        "f1_per_class" => list(matrix.f1()),
        "f1_macro" => number(matrix.mean_f1(zero)),
        "f1_micro" => number(matrix.mean_f1(ClassMean::Micro)),
        "f1_weighted" => number(matrix.mean_f1(ClassMean::Weighted)),
        "f1_macro_present_labels_only" => number(matrix.mean_f1(ClassMean::PresentInEither)),
        "precision_per_class" => list(matrix.precision()),
        "precision_macro" => number(matrix.mean_precision(zero)),
        "precision_micro" => number(matrix.mean_precision(ClassMean::Micro)),
        "precision_weighted" => number(matrix.mean_precision(ClassMean::Weighted)),
        "recall_per_class" => list(matrix.recall()),
        "recall_macro" => number(matrix.mean_recall(zero)),
        "recall_micro" => number(matrix.mean_recall(ClassMean::Micro)),
        "recall_weighted" => number(matrix.mean_recall(ClassMean::Weighted)),
        "accuracy" => number(matrix.pixel_accuracy()),
        "balanced_accuracy" => number(matrix.mean_class_accuracy()),
        "kappa" => number(matrix.kappa()),
        // scikit-learn gives 0 where the coefficient is undefined.
        "mcc" => number(matrix.mcc().or(Some(0.0))),
        _ => panic!("nothing here is compared with `{what}`"),
    }
}

fn check_torchmetrics(matrix: &ConfusionMatrix, what: &str, expected: &Value) {
    // An ignored class is nobody's prediction in torchmetrics' IoU, but is one in all its other measures.
    let is_class = usize::from(matrix.ignore()) < matrix.num_classes();
    let of_iou = if is_class { matrix.without_predictions_of(matrix.ignore()).unwrap() } else { matrix.clone() };
    let present = ClassMean::PresentInEither;
    let number = |ours: Option<f64>| assert_number(what, ours, expected, F32);
    let list = |ours: Vec<Option<f64>>| assert_list(what, &none_as_zero(ours), expected, F32);
    match what.rsplit('/').next().unwrap() {
        "jaccard_none" => list(of_iou.iou()),
        "jaccard_macro" => number(of_iou.mean_iou(present)),
        "jaccard_micro" => number(of_iou.mean_iou(ClassMean::Micro)),
        "jaccard_weighted" => number(of_iou.mean_iou(ClassMean::Weighted)),
        "accuracy_micro" => number(matrix.pixel_accuracy()),
        "accuracy_macro" | "recall_macro" => number(matrix.mean_recall(present)),
        "accuracy_none" | "recall_none" => list(matrix.recall()),
        "f1_none" => list(matrix.f1()),
        "f1_macro" => number(matrix.mean_f1(present)),
        "f1_micro" => number(matrix.mean_f1(ClassMean::Micro)),
        "f1_weighted" => number(matrix.mean_f1(ClassMean::Weighted)),
        "precision_none" => list(matrix.precision()),
        "precision_macro" => number(matrix.mean_precision(present)),
        "kappa" => number(matrix.kappa()),
        "mcc" => number(matrix.mcc().or(Some(0.0))),
        "confusion" => assert_counts(what, matrix, expected),
        _ => panic!("nothing here is compared with `{what}`"),
    }
}

/// The reference keeps 0 for "no label", so unless class 0 is the ignored one its labels are ours plus one.
fn check_point_is_the_mask(what: &str, matrix: &ConfusionMatrix, case: &Value) {
    let shift = usize::from(matrix.ignore() != 0);
    let labels: Vec<_> = integers(&case["labels"]).into_iter().map(|label| (label - shift) as ClassId).collect();
    let matrix = matrix.restricted_to(&labels).unwrap();
    assert_counts(&format!("{what}/confusion"), &matrix, &case["confusion"]);

    let diagonal = matrix.counts().diag().to_owned();
    let (support, predicted) = (matrix.support(), matrix.predicted());
    let ratios = |denominator: &dyn Fn(usize) -> u64| -> Vec<Option<f64>> {
        let ratio = |class: usize| diagonal[class] as f64 / (denominator(class) as f64 + REFERENCE_EPSILON);
        (0..labels.len()).map(ratio).map(Some).collect()
    };
    let iou = ratios(&|class| support[class] + predicted[class] - diagonal[class]);
    let accuracy = ratios(&|class| support[class]);
    // Our exact values equal the reference's up to its epsilon; with it, they equal it up to rounding.
    for (key, ours, with_epsilon) in
        [("iou_per_class", matrix.iou(), &iou), ("acc_per_class", matrix.recall(), &accuracy)]
    {
        let what = format!("{what}/{key}");
        assert_list(&what, &none_as_zero(ours), &case[key], REFERENCE_EPSILON);
        assert_list(&what, with_epsilon, &case[key], F64);
    }
    let rule = ClassMean::PointIsTheMask;
    for (key, ours, with_epsilon) in
        [("mean_iou", matrix.mean_iou(rule), &iou), ("mean_acc", matrix.mean_recall(rule), &accuracy)]
    {
        let what = format!("{what}/{key}");
        assert_number(&what, ours, &case[key], REFERENCE_EPSILON);
        let kept: Vec<_> = with_epsilon.iter().flatten().filter(|&&value| value != 0.0).collect();
        assert_number(&what, Some(kept.iter().copied().sum::<f64>() / kept.len() as f64), &case[key], F64);
    }
    assert_number(&format!("{what}/pixel_acc"), matrix.pixel_accuracy(), &case["pixel_acc"], F64);
}

fn integers(list: &Value) -> Vec<usize> {
    list.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as usize).collect()
}

fn some(values: Vec<f64>) -> Vec<Option<f64>> {
    values.into_iter().map(Some).collect()
}

fn none_as_zero(values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    values.into_iter().map(|value| value.or(Some(0.0))).collect()
}

fn assert_counts(what: &str, matrix: &ConfusionMatrix, expected: &Value) {
    let rows: Vec<Vec<u64>> = matrix.counts().rows().into_iter().map(|row| row.to_vec()).collect();
    assert_eq!(serde_json::json!(rows), *expected, "{what}");
}

/// `null` (not a number) in the reference is `None` here.
fn assert_number(what: &str, ours: Option<f64>, expected: &Value, tolerance: f64) {
    let equal = match (ours, expected.as_f64()) {
        (Some(ours), Some(expected)) => (ours - expected).abs() <= tolerance,
        (None, None) => expected.is_null(),
        _ => false,
    };
    assert!(equal, "{what}: expected {expected}, got {ours:?}");
}

fn assert_list(what: &str, ours: &[Option<f64>], expected: &Value, tolerance: f64) {
    let expected = expected.as_array().unwrap();
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert_number(&format!("{what}[{index}]"), *ours, expected, tolerance);
    }
}
