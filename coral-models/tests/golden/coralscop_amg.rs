//! CoralSCOP's automatic mask generator.

use coral_core::ndarray::{Array2, Array3, ArrayD, Ix1, Ix2, Ix3};
use coral_core::testing::GoldenCase;
use coral_core::{Rect, RleMask, Size};
use coral_models::{
    Crop, GeneratorConfig, box_nms, crop_boxes, feature_similarity, group_by_similarity, point_grid,
    remove_small_regions,
};

use super::open;

/// The published settings, under their published names.
fn config(case: &GoldenCase) -> GeneratorConfig {
    let mut settings = case.value("/amg").unwrap().clone();
    let settings = settings.as_object_mut().unwrap();
    let region_area = settings.remove("min_mask_region_area").unwrap().as_u64().unwrap();
    let config: GeneratorConfig = serde_json::from_value(settings.clone().into()).unwrap();
    config.with_min_mask_region_area(region_area as u32)
}

fn image_size(case: &GoldenCase) -> Size {
    let [height, width, _] = case.u8("image_u8").unwrap().shape().try_into().unwrap();
    Size { width: width as u32, height: height as u32 }
}

fn crops(case: &GoldenCase) -> Vec<Crop> {
    let config = config(case);
    crop_boxes(image_size(case), config.crop_n_layers, config.crop_overlap_ratio)
}

fn matrix<T>(values: ArrayD<T>) -> Array2<T> {
    values.into_dimensionality::<Ix2>().unwrap()
}

fn masks_before(case: &GoldenCase) -> Vec<RleMask> {
    let strings = case.value("/before_small_regions_coco_rle").unwrap().as_array().unwrap();
    let mask = |text: &str| RleMask::from_coco_string(image_size(case), text).unwrap();
    strings.iter().map(|text| mask(text.as_str().unwrap())).collect()
}

fn final_masks(case: &GoldenCase) -> Vec<RleMask> {
    let masks: Array3<u8> = case.u8("final/masks").unwrap().into_dimensionality::<Ix3>().unwrap();
    masks.outer_iter().map(|mask| RleMask::encode(&mask.mapv(|v| v != 0))).collect()
}

#[test]
fn coralscop_amg_crops_and_points() {
    let case = open("coralscop_amg");
    let (config, crops) = (config(&case), crops(&case));
    config.validate().unwrap();
    let boxes = matrix(case.i64("crop_boxes_xyxy").unwrap());
    let layers = case.i64("crop_layer").unwrap().into_dimensionality::<Ix1>().unwrap();
    assert_eq!(crops.len(), boxes.nrows());
    let side = case.number("/config/img_size").unwrap();
    for (i, Crop { rect, layer }) in crops.into_iter().enumerate() {
        let Rect { x, y, width, height } = rect;
        let corners = [x, y, x + width, y + height].map(i64::from);
        assert_eq!((corners.to_vec(), i64::from(layer)), (boxes.row(i).to_vec(), layers[i]));

        let grid = matrix(case.f64(&format!("point_grid_layer{layer}")).unwrap());
        let points = config.layer_points(layer).unwrap();
        assert_eq!(points, point_grid((points.len() as f64).sqrt() as u32));
        assert_eq!(points.len(), grid.nrows());
        for (point, expected) in points.iter().zip(grid.rows()) {
            assert!((point.x - expected[0]).abs() < 1e-12 && (point.y - expected[1]).abs() < 1e-12);
        }

        // In the model's frame, the crop's longer side is `side`, and both sides are whole pixels.
        let in_model = case.f64(&format!("batch{i}/points_model_frame")).unwrap();
        let in_model = matrix(in_model.to_shape((points.len(), 2)).unwrap().into_owned().into_dyn());
        let scale = side / f64::from(width.max(height));
        let [across, down] = [width, height].map(|length| (f64::from(length) * scale + 0.5).floor());
        for (point, expected) in points.iter().zip(in_model.rows()) {
            assert!((point.x * across - expected[0]).abs() < 1e-9 && (point.y * down - expected[1]).abs() < 1e-9);
        }
    }
}

#[test]
fn coralscop_amg_small_regions() {
    let case = open("coralscop_amg");
    let config = config(&case);
    let before = masks_before(&case);
    let corners = matrix(case.i64("before_small_regions/boxes_xyxy").unwrap());
    for (mask, corners) in before.iter().zip(corners.rows()) {
        let Rect { x, y, width, height } = mask.bounding_box().unwrap();
        assert_eq!([x, y, x + width - 1, y + height - 1].map(i64::from).to_vec(), corners.to_vec());
    }
    let clean = |mask: &RleMask| remove_small_regions(mask, config.min_hole_area, config.min_island_area).unwrap();
    let cleaned: Vec<_> = before.iter().map(clean).collect();
    let boxes: Vec<_> = cleaned.iter().map(|cleaned| cleaned.mask.bounding_box().unwrap()).collect();
    let scores: Vec<_> = cleaned.iter().map(|cleaned| if cleaned.had_small_region { 0.0 } else { 1.0 }).collect();
    let kept = box_nms(&boxes, &scores, config.box_nms_thresh.max(config.crop_nms_thresh)).unwrap();

    let expected = final_masks(&case);
    assert_eq!(kept.len(), expected.len());
    let features = matrix(case.f32("before_small_regions/fc_features").unwrap());
    let final_features = matrix(case.f32("final/fc_features").unwrap());
    for (row, &at) in kept.iter().enumerate() {
        assert_eq!(cleaned[at].mask, expected[row]);
        assert_eq!(features.row(at), final_features.row(row));
        let text = case.value(&format!("/annotations/{row}/coco_rle/counts")).unwrap();
        assert_eq!(cleaned[at].mask.to_coco_string(), text.as_str().unwrap());
    }
}

#[test]
fn coralscop_amg_similarity() {
    let case = open("coralscop_amg");
    let close = |ours: f32, expected: f32| ours == expected || (ours - expected).abs() <= 1e-5;
    let features = matrix(case.f32("before_small_regions/fc_features").unwrap());
    let before = feature_similarity(features.view());
    let published = matrix(case.f32("before_small_regions/similarity").unwrap());
    assert_eq!(before.dim(), published.dim());
    assert!(before.iter().zip(&published).all(|(&ours, &expected)| close(ours, expected)));

    // The published matrix has a column for every mask before the last step; ours only for the final masks.
    let final_features = matrix(case.f32("final/fc_features").unwrap());
    let ours = feature_similarity(final_features.view());
    let published = matrix(case.f32("final/similarity").unwrap());
    assert_eq!(published.dim(), (final_features.nrows(), features.nrows()));
    let column = |row: usize| features.outer_iter().position(|f| f == final_features.row(row)).unwrap();
    for ((a, b), &value) in ours.indexed_iter() {
        assert!(close(value, published[[a, column(b)]]), "masks {a} and {b}: {value}");
    }
    let groups = group_by_similarity(ours.view(), -1.0).unwrap();
    assert_eq!(groups, [(0..ours.nrows()).collect::<Vec<_>>()]);
}
