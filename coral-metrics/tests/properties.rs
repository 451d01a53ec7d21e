//! Counting against a naive double loop, and the contract of `Metric`.

use coral_core::testing::{MetricSuite, check_metric};
use coral_core::{ClassId, LabelMap, Metric, UNLABELED};
use coral_metrics::{ConfusionMatrix, CoverError, CoverErrorSummary, MultiLabelCounts, MultiLabelScores, Report};
use ndarray::{Array2, Axis, ShapeBuilder, array, s};
use proptest::prelude::*;

/// The rules, pixel by pixel: counts and unpredicted, `None` when an id is outside.
fn naive(prediction: &LabelMap, target: &LabelMap, k: usize, ignore: ClassId) -> Option<(Array2<u64>, Vec<u64>)> {
    let (mut counts, mut unpredicted) = (Array2::zeros((k, k)), vec![0; k]);
    for y in 0..target.nrows() {
        for x in 0..target.ncols() {
            let (p, t) = (prediction[[y, x]], target[[y, x]]);
            if t == ignore || t == UNLABELED {
                continue;
            }
            if usize::from(t) >= k || (usize::from(p) >= k && p != UNLABELED) {
                return None;
            }
            if p == UNLABELED {
                unpredicted[usize::from(t)] += 1;
            } else {
                counts[[usize::from(t), usize::from(p)]] += 1;
            }
        }
    }
    Some((counts, unpredicted))
}

/// Runs of up to `longest` equal ids, among them 255, as real label maps have.
fn ids(pixels: usize, k: usize, longest: usize) -> impl Strategy<Value = Vec<ClassId>> {
    let id = prop_oneof![9 => (0..k).prop_map(|id| id as ClassId), 1 => Just(UNLABELED)];
    prop::collection::vec((id, 1..=longest), pixels.div_ceil(longest).max(1)..=pixels.max(1)).prop_map(move |runs| {
        let all = runs.into_iter().flat_map(|(id, length)| std::iter::repeat_n(id, length));
        let mut all: Vec<_> = all.take(pixels).collect();
        all.resize(pixels, 0);
        all
    })
}

/// The same map in another memory layout: by rows, by columns, part of a larger array, bottom row first.
fn lay_out(map: &LabelMap, layout: u8) -> LabelMap {
    let (rows, columns) = map.dim();
    match layout {
        0 => map.clone(),
        1 => {
            let mut by_columns = Array2::zeros((rows, columns).f());
            by_columns.assign(map);
            by_columns
        }
        2 => {
            let mut larger = Array2::from_elem((2 * rows, columns + 3), 77);
            larger.slice_mut(s![..;2, 1..columns + 1]).assign(map);
            larger.slice_move(s![..;2, 1..columns + 1])
        }
        _ => {
            let mut upside_down = map.slice(s![..;-1, ..]).to_owned();
            upside_down.invert_axis(Axis(0));
            upside_down
        }
    }
}

#[derive(Debug, Clone)]
struct Pair {
    prediction: LabelMap,
    target: LabelMap,
    k: usize,
    ignore: ClassId,
}

fn pairs() -> impl Strategy<Value = Pair> {
    (1..=255usize, 0..70usize, 0..90usize, prop_oneof![Just(1usize), Just(7), Just(300)], any::<ClassId>())
        .prop_flat_map(|(k, rows, columns, longest, ignore)| {
            let pixels = rows * columns;
            let map = move || {
                ids(pixels, k, longest).prop_map(move |ids| Array2::from_shape_vec((rows, columns), ids).unwrap())
            };
            // Half of the maps may hold one id outside the range, anywhere.
            let fault = prop::option::of((any::<prop::sample::Index>(), any::<ClassId>(), any::<bool>()));
            (map(), map(), fault).prop_map(move |(mut prediction, mut target, fault)| {
                if let (Some((at, id, in_target)), true) = (fault, pixels > 0) {
                    let map = if in_target { &mut target } else { &mut prediction };
                    map.as_slice_mut().unwrap()[at.index(pixels)] = id;
                }
                Pair { prediction, target, k, ignore }
            })
        })
}

proptest! {
    #[test]
    fn counting_equals_the_naive_loop(pair in pairs(), layouts in (0..4u8, 0..4u8)) {
        let Pair { prediction, target, k, ignore } = pair;
        let mut matrix = ConfusionMatrix::with_ignore(k, ignore).unwrap();
        let laid_out = (lay_out(&prediction, layouts.0), lay_out(&target, layouts.1));
        prop_assert_eq!((&laid_out.0, &laid_out.1), (&prediction, &target));
        let counted = matrix.update(&laid_out.0, &laid_out.1);
        match naive(&prediction, &target, k, ignore) {
            Some((counts, unpredicted)) => {
                prop_assert!(counted.is_ok());
                prop_assert_eq!(matrix.counts(), &counts);
                prop_assert_eq!(matrix.unpredicted(), &unpredicted[..]);
                prop_assert_eq!(matrix.total(), counts.sum() + unpredicted.iter().sum::<u64>());
            }
            None => {
                prop_assert!(counted.is_err());
                prop_assert_eq!(matrix, ConfusionMatrix::with_ignore(k, ignore).unwrap());
            }
        }
    }

    #[test]
    fn merging_equals_concatenation(a in ids(300, 5, 9), b in ids(240, 5, 9), c in ids(540, 5, 40)) {
        let map = |ids: &[ClassId]| Array2::from_shape_vec((ids.len() / 20, 20), ids.to_vec()).unwrap();
        let of = |prediction: &[ClassId], target: &[ClassId]| {
            let mut matrix = ConfusionMatrix::new(5).unwrap();
            matrix.update(&map(prediction), &map(target)).unwrap();
            matrix
        };
        let mut merged = of(&a, &c[..300]);
        merged.merge(&of(&b, &c[300..])).unwrap();
        prop_assert_eq!(merged, of(&[a, b].concat(), &c));
    }

    #[test]
    fn per_class_values_and_report_agree(pair in pairs()) {
        let Pair { prediction, target, k, ignore } = pair;
        let mut matrix = ConfusionMatrix::with_ignore(k, ignore).unwrap();
        prop_assume!(matrix.update(&prediction, &target).is_ok());
        let report = matrix.compute();
        for (&id, class) in &report.per_class {
            let of_class = |map: &LabelMap, other: Option<&LabelMap>| {
                let scored = |index| target[index] != UNLABELED && target[index] != ignore;
                let both = |index| other.is_none_or(|other| other[index] == id);
                map.indexed_iter().filter(|&(index, &found)| found == id && scored(index) && both(index)).count()
            };
            let hits = of_class(&prediction, Some(&target)) as f64;
            let (predicted, present) = (of_class(&prediction, None) as f64, of_class(&target, None) as f64);
            prop_assert_eq!(class.iou, Some(hits / (predicted + present - hits)));
            prop_assert_eq!(class.dice, Some(2.0 * hits / (predicted + present)));
            prop_assert_eq!(class.recall, (present > 0.0).then(|| hits / present));
            prop_assert_eq!(class.precision, (predicted > 0.0).then(|| hits / predicted));
        }
        let in_target: Vec<_> = report.per_class.values().filter(|class| class.target_pixels > 0).collect();
        let mean = in_target.iter().map(|class| class.iou.unwrap()).sum::<f64>() / in_target.len() as f64;
        prop_assert!(report.mean_iou.map_or(in_target.is_empty(), |ours| (ours - mean).abs() < 1e-12));
    }
}

#[test]
fn a_map_of_many_tasks_is_counted_once() {
    let (rows, columns) = (700, 513);
    let target = LabelMap::from_shape_fn((rows, columns), |(y, x)| ((x / 50 + y / 31) % 40) as ClassId);
    let noisy = LabelMap::from_shape_fn((rows, columns), |(y, x)| ((x * 31 + y * 17 + x * y) % 40) as ClassId);
    let mut matrix = ConfusionMatrix::with_ignore(40, 3).unwrap();
    matrix.update(&noisy, &target).unwrap();
    matrix.update(&target, &target).unwrap();
    let (mut counts, _) = naive(&noisy, &target, 40, 3).unwrap();
    counts += &naive(&target, &target, 40, 3).unwrap().0;
    assert_eq!(matrix.counts(), &counts);
}

#[test]
fn confusion_matrix_keeps_the_contract_of_metrics() {
    let maps = [
        (array![[0, 1, 2], [2, 255, 1]], array![[0, 1, 1], [255, 2, 1]]),
        (array![[1]], array![[3]]),
        (array![[3, 3, 0, 0, 3]], array![[3, 0, 0, 1, 3]]),
    ];
    // The fault comes last, so that a half-counted update would show.
    let invalid = (array![[0, 1, 4]], array![[0, 1, 2]]);
    check_metric(MetricSuite {
        new: || ConfusionMatrix::new(4).unwrap(),
        samples: maps.iter().map(|(prediction, target)| (prediction, target)).collect(),
        invalid: (&invalid.0, &invalid.1),
        same: |a: &Report, b: &Report| a == b,
    })
    .unwrap();
}

#[test]
fn cover_error_keeps_the_contract_of_metrics() {
    let maps = [
        (array![[0, 1, 2], [2, 255, 1]], array![[0, 1, 1], [255, 2, 1]]),
        (array![[1]], array![[0]]),
        (array![[2, 2, 0, 0, 2]], array![[255, 255, 255, 255, 255]]),
        (array![[2, 2, 0, 0, 2, 1, 1]], array![[2, 0, 0, 1, 2, 2, 2]]),
    ];
    let invalid = (array![[0, 1]], array![[0], [1]]);
    let close = |a: &CoverErrorSummary, b: &CoverErrorSummary| {
        let flat = |summary: &CoverErrorSummary| -> Vec<f64> {
            summary.mean_absolute.into_iter().chain(summary.bias.clone().into_iter().flatten()).collect()
        };
        let (x, y) = (flat(a), flat(b));
        a.images == b.images && x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-9)
    };
    check_metric(MetricSuite {
        new: || CoverError::new(3).unwrap(),
        samples: maps.iter().map(|(prediction, target)| (prediction, target)).collect(),
        invalid: (&invalid.0, &invalid.1),
        same: close,
    })
    .unwrap();
}

#[test]
fn multi_label_counts_keep_the_contract_of_metrics() {
    let samples = [
        (array![[true, false, true], [false, false, true]], array![[true, true, false], [false, false, true]]),
        (Array2::from_elem((0, 3), true), Array2::from_elem((0, 3), true)),
        (array![[false, true, false]], array![[false, true, false]]),
    ];
    let invalid = (array![[true, true, true]], array![[true, false]]);
    check_metric(MetricSuite {
        new: || MultiLabelCounts::new(3).unwrap(),
        samples: samples.iter().map(|(prediction, target)| (prediction, target)).collect(),
        invalid: (&invalid.0, &invalid.1),
        same: |a: &MultiLabelScores, b: &MultiLabelScores| a == b,
    })
    .unwrap();
}

#[test]
fn reports_serialise_with_null_for_none() {
    let mut matrix = ConfusionMatrix::new(3).unwrap();
    matrix.update(&array![[0, 1]], &array![[0, 0]]).unwrap();
    let json = serde_json::to_value(matrix.compute()).unwrap();
    assert_eq!(json["pixel_accuracy"], 0.5);
    assert_eq!(json["mean_iou"], 0.5);
    assert_eq!(json["kappa"], 0.0);
    assert!(json["mcc"].is_null() && json["per_class"]["1"]["recall"].is_null());
    assert_eq!(json["per_class"]["0"]["target_pixels"], 2);
    assert_eq!(json["per_class"]["1"]["predicted_cover"], 50.0);
    assert!(json["per_class"].get("2").is_none(), "absent classes are not listed");
}
