//! Parity with published programs; what each case holds is in its `case.json`.

use coral_core::testing::GoldenCase;
use coral_core::{InstanceMask, PointPrompt, Rect, RleMask};
use coral_io::{CocoDataset, SamAnnotations, read_sam_annotations, write_coco, write_sam_annotations};
use serde_json::Value;

/// The annotations of CoralSCOP's mask generator come out of our writer as they came out of it.
#[test]
fn coralscop_amg_annotations() {
    let golden = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "coralscop_amg").unwrap();
    let expected = golden.value("/annotations").unwrap().as_array().unwrap();
    let masks: Vec<_> = expected.iter().map(instance).collect();
    let size = masks[0].mask.size();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reef.json");
    let ours = SamAnnotations { image_id: 0, file_name: "reef.jpg".into(), size, masks: masks.clone() };
    write_sam_annotations(&path, &ours).unwrap();
    assert_eq!(read_sam_annotations(&path).unwrap(), ours);

    let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let written = written["annotations"].as_array().unwrap();
    assert_eq!(written.len(), expected.len());
    let keys = ["area", "bbox", "predicted_iou", "cate_preds", "point_coords", "stability_score", "crop_box"];
    for (id, (written, expected)) in written.iter().zip(expected).enumerate() {
        assert_eq!(written["segmentation"], expected["coco_rle"], "annotation {id}");
        assert_eq!(written["id"], id);
        for key in keys {
            assert_eq!(written[key], expected[key], "annotation {id}: {key}");
        }
    }

    let mut dataset = CocoDataset::default();
    dataset.add_image("reef.jpg", size, &masks).unwrap();
    write_coco(&path, &dataset).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (id, expected) in expected.iter().enumerate() {
        let side = |at: usize, quirk: f64| expected["bbox"][at].as_f64().unwrap() + quirk;
        let written = &written["annotations"][id];
        assert_eq!(written["segmentation"], expected["coco_rle"]);
        assert_eq!(written["area"].as_f64(), expected["area"].as_f64());
        for (at, quirk) in [0.0, 0.0, 1.0, 1.0].into_iter().enumerate() {
            assert_eq!(written["bbox"][at], side(at, quirk), "annotation {id}: the box counts pixels");
        }
    }
}

fn instance(expected: &Value) -> InstanceMask {
    let mask: RleMask = serde_json::from_value(expected["coco_rle"].clone()).unwrap();
    let runs: RleMask = serde_json::from_value(expected["uncompressed_rle"].clone()).unwrap();
    assert_eq!(mask, runs);
    let number = |key: &str| expected[key].as_f64().unwrap() as f32;
    let [x, y] = [0, 1].map(|at| expected["point_coords"][0][at].as_f64().unwrap() as f32);
    let crop = [0, 1, 2, 3].map(|at| expected["crop_box"][at].as_f64().unwrap() as u32);
    InstanceMask {
        class: Some(expected["cate_preds"].as_u64().unwrap() as u8),
        predicted_iou: number("predicted_iou"),
        stability_score: number("stability_score"),
        point: Some(PointPrompt { x, y, foreground: true }),
        crop_box: Rect { x: crop[0], y: crop[1], width: crop[2], height: crop[3] },
        ..InstanceMask::new(mask)
    }
}
