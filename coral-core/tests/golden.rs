//! Parity with pycocotools; what each case holds is in its `case.json`.

use coral_core::ndarray::{Array2, Ix2};
use coral_core::testing::GoldenCase;
use coral_core::{Rect, RleMask, Size};
use serde_json::Value;

/// Tolerance of ratios in double precision.
const IOU: f64 = 1e-12;

fn open(name: &str) -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap()
}

#[test]
fn rle() {
    let golden = open("rle");
    let masks = list(golden.value("/masks").unwrap());
    for expected in masks {
        check_mask(expected, &pixels(&golden, &format!("mask{}", expected["id"])));
    }
    let detections = numbered(&golden, "/iou/dt");
    let targets = numbered(&golden, "/iou/gt");
    let strings: Vec<_> = targets.iter().map(RleMask::to_coco_string).collect();
    assert_eq!(strings, texts(golden.value("/iou/rles").unwrap()));
    check_ratios(&golden, "iou_not_crowd", (&detections, &targets), |a, b| a.iou(b).unwrap());
    check_ratios(&golden, "iou_crowd", (&detections, &targets), |a, b| a.crowd_iou(b).unwrap());
    let boxed = |mask: &RleMask| mask.bounding_box().unwrap_or(Rect { x: 0, y: 0, width: 0, height: 0 });
    check_ratios(&golden, "box_iou_not_crowd", (&detections, &targets), |a, b| boxed(a).iou(boxed(b)));
}

#[test]
fn rle_polygons() {
    let golden = open("rle");
    let polygons: Vec<_> = list(golden.value("/polygons").unwrap()).iter().map(points).collect();
    let strings = texts(golden.value("/polygon_rles").unwrap());
    assert_eq!(polygons.len(), strings.len());
    let union = pixels(&golden, "poly_union");
    let size = Size::of_map(&union);
    for (at, (polygon, expected)) in polygons.iter().zip(strings).enumerate() {
        let mask = RleMask::from_polygons(std::slice::from_ref(polygon), size).unwrap();
        assert_eq!(mask.to_coco_string(), expected, "polygon {at}");
        assert_eq!(mask.decode(), pixels(&golden, &format!("poly_mask{at}")), "polygon {at}");
    }
    assert_eq!(RleMask::from_polygons(&polygons, size).unwrap().decode(), union);
}

/// Of the first two masks, by the reference's program.
#[test]
fn rle_union_and_intersection() {
    let golden = open("rle");
    let masks = numbered(&golden, "/iou/gt");
    let expected = |pointer: &str| golden.value(pointer).unwrap().as_str().unwrap().to_owned();
    assert_eq!(masks[0].union(&masks[1]).unwrap().to_coco_string(), expected("/union_rle"));
    assert_eq!(masks[0].intersection(&masks[1]).unwrap().to_coco_string(), expected("/intersection_rle"));
}

fn check_mask(expected: &Value, pixels: &Array2<bool>) {
    let what = format!("mask {}", expected["id"]);
    let mask = RleMask::encode(pixels);
    let [height, width] = [0, 1].map(|axis| expected["size"][axis].as_u64().unwrap() as u32);
    assert_eq!(mask.size(), Size { width, height }, "{what}");
    let text = expected["counts"].as_str().unwrap();
    assert_eq!(mask.to_coco_string(), text, "{what}");
    let counts: Vec<_> = list(&expected["uncompressed"]).iter().map(|count| count.as_u64().unwrap() as u32).collect();
    assert_eq!(mask.counts(), counts, "{what}");
    assert_eq!(RleMask::from_coco_string(mask.size(), text).unwrap().decode(), pixels, "{what}");
    assert_eq!(Some(mask.area()), expected["area"].as_u64(), "{what}");
    let Rect { x, y, width, height } = mask.bounding_box().unwrap_or(Rect { x: 0, y: 0, width: 0, height: 0 });
    let bbox: Vec<_> = list(&expected["bbox_xywh"]).iter().map(|side| side.as_f64().unwrap()).collect();
    assert_eq!([x, y, width, height].map(f64::from).to_vec(), bbox, "{what}");
}

fn check_ratios(
    golden: &GoldenCase,
    name: &str,
    (detections, targets): (&[RleMask], &[RleMask]),
    ratio: impl Fn(&RleMask, &RleMask) -> f64,
) {
    let expected: Array2<f64> = golden.f64(name).unwrap().into_dimensionality::<Ix2>().unwrap();
    assert_eq!(expected.dim(), (detections.len(), targets.len()), "{name}");
    for ((row, column), &expected) in expected.indexed_iter() {
        let ours = ratio(&detections[row], &targets[column]);
        assert!((ours - expected).abs() <= IOU, "{name}[{row}, {column}]: {ours}, expected {expected}");
    }
}

/// The masks of a name like `iou_mask0..2`, both ends included.
fn numbered(golden: &GoldenCase, pointer: &str) -> Vec<RleMask> {
    let (first, last) = golden.value(pointer).unwrap().as_str().unwrap().split_once("..").unwrap();
    let name = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbers = first[name.len()..].parse::<usize>().unwrap()..=last.parse().unwrap();
    numbers.map(|number| RleMask::encode(&pixels(golden, &format!("{name}{number}")))).collect()
}

fn pixels(golden: &GoldenCase, name: &str) -> Array2<bool> {
    golden.u8(name).unwrap().into_dimensionality::<Ix2>().unwrap().mapv(|pixel| pixel != 0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(|text| text.as_str().unwrap()).collect()
}

fn points(polygon: &Value) -> Vec<(f64, f64)> {
    list(polygon).as_chunks::<2>().0.iter().map(|[x, y]| (x.as_f64().unwrap(), y.as_f64().unwrap())).collect()
}
