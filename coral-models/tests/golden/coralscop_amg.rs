//! CoralSCOP's automatic mask generator.

use coral_core::image::{RgbImage, imageops};
use coral_core::ndarray::{Array2, Array3, ArrayD, Ix1, Ix2, Ix3};
use coral_core::testing::GoldenCase;
use coral_core::{InstanceMask, PointPrompt, Prompt, Rect, RleMask, Size};
use coral_models::candle_core::Device;
use coral_models::{
    Checkpoint, Crop, DecodedMask, GeneratorConfig, MaskGenerator, Predictor, Sam, SamConfig, box_nms, crop_boxes,
    feature_similarity, group_by_similarity, point_grid, remove_small_regions,
};

use super::open;

/// The published settings, under their published names.
fn config(case: &GoldenCase) -> GeneratorConfig {
    serde_json::from_value(case.value("/amg").unwrap().clone()).unwrap()
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

fn predictor(case: &GoldenCase) -> Predictor {
    let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors")).unwrap();
    let config = SamConfig {
        decoder_heads: case.number("/config/dec_heads").unwrap() as usize,
        ..SamConfig::from_checkpoint(&checkpoint).unwrap()
    };
    Predictor::new(Sam::load(&checkpoint, config, &Device::Cpu).unwrap())
}

fn image(case: &GoldenCase) -> RgbImage {
    let Size { width, height } = image_size(case);
    RgbImage::from_raw(width, height, case.u8("image_u8").unwrap().into_iter().collect()).unwrap()
}

fn generate(case: &GoldenCase, config: GeneratorConfig, image: &RgbImage) -> Vec<InstanceMask> {
    MaskGenerator::new(predictor(case), config).unwrap().generate(image).unwrap()
}

fn assert_close(what: &str, ours: f32, expected: f32, tolerance: f32) {
    assert!((ours - expected).abs() <= tolerance, "{what}: {ours}, expected {expected}");
}

/// The published scores; features and class logits have magnitudes of some units.
const SCORE: f32 = 1e-3;

#[test]
fn coralscop_amg_scores_of_all_points() {
    let case = open("coralscop_amg");
    let (config, predictor, image) = (config(&case), predictor(&case), image(&case));
    for (i, Crop { rect, layer }) in crops(&case).into_iter().enumerate() {
        let crop = imageops::crop_imm(&image, rect.x, rect.y, rect.width, rect.height).to_image();
        let tensor = |name: &str| case.f32(&format!("batch{i}/{name}")).unwrap();
        let (iou, stability) = (tensor("iou"), tensor("stability"));
        let (logits, features) = (tensor("cate_logits"), tensor("fc_features"));

        let points = config.layer_points(layer).unwrap();
        let at = |length: u32, share: f64| (share * f64::from(length)) as f32;
        let points: Vec<_> = points.iter().map(|p| [at(rect.width, p.x), at(rect.height, p.y)]).collect();
        let click = |&[x, y]: &[f32; 2]| PointPrompt { x, y, foreground: true };
        let prompts: Vec<_> = points.iter().map(|p| Prompt { points: vec![click(p)], ..Prompt::default() }).collect();
        let embedding = predictor.embed(&crop).unwrap();
        let mut decoded: Vec<DecodedMask> = Vec::new();
        let take = |batch: Vec<DecodedMask>| {
            decoded.extend(batch);
            Ok(())
        };
        predictor.decode(&embedding, &prompts, false, take).unwrap();
        assert_eq!(decoded.len(), points.len());
        for (p, mask) in decoded.iter().enumerate() {
            assert_close(&format!("crop {i}, point {p}: IoU"), mask.predicted_iou, iou[[p, 0]], SCORE);
            for (k, &logit) in mask.class_logits.iter().enumerate() {
                assert_close(&format!("crop {i}, point {p}: class {k}"), logit, logits[[p, 0, k]], SCORE);
            }
            for (k, &feature) in mask.features.iter().enumerate() {
                assert_close(&format!("crop {i}, point {p}: feature {k}"), feature, features[[p, 0, k]], SCORE);
            }
        }

        // Without filters, the generator gives every mask of the crop that is not empty.
        let all = GeneratorConfig {
            points_per_side: (points.len() as f64).sqrt() as u32,
            crop_n_layers: 0,
            pred_iou_thresh: 0.0,
            stability_score_thresh: 0.0,
            background_class: None,
            box_nms_thresh: 1.0,
            ..config.clone()
        };
        let masks = generate(&case, all.with_min_mask_region_area(0), &crop);
        for (p, [x, y]) in points.iter().enumerate() {
            let mut found = masks.iter().filter(|mask| mask.point.is_some_and(|at| (at.x, at.y) == (*x, *y)));
            match found.next() {
                Some(mask) => {
                    assert_close(&format!("crop {i}, point {p}: stability"), mask.stability_score, stability[p], SCORE);
                    let what = format!("crop {i}, point {p}");
                    assert_close(&format!("{what}: IoU"), mask.predicted_iou, iou[[p, 0]], SCORE);
                    assert_eq!(mask.class, decoded[p].class(), "{what}");
                }
                None => assert!(stability[p].is_nan() || stability[p] == 0.0, "crop {i}, point {p}: no mask"),
            }
            assert!(found.next().is_none());
        }
    }
}

#[test]
fn coralscop_amg_counts() {
    let case = open("coralscop_amg");
    let config = config(&case).with_min_mask_region_area(0);
    let counts = |config: GeneratorConfig| -> Vec<usize> {
        let masks = generate(&case, config, &image(&case));
        crops(&case).iter().map(|crop| masks.iter().filter(|mask| mask.crop_box == crop.rect).count()).collect()
    };
    let expected = |name: &str| -> Vec<usize> {
        let list = case.value(&format!("/counts/{name}")).unwrap().as_array().unwrap();
        list.iter().map(|count| count.as_u64().unwrap() as usize).collect()
    };
    let in_crops = GeneratorConfig { crop_nms_thresh: 1.0, ..config };
    assert_eq!(counts(in_crops.clone()), expected("per_crop_after_nms"));
    let unsuppressed = GeneratorConfig { box_nms_thresh: 1.0, ..in_crops };
    assert_eq!(counts(unsuppressed), expected("per_batch_after_filters"));
}

/// One to one, in the published order; `name` is the step's prefix of tensor names.
fn check_masks(case: &GoldenCase, ours: &[InstanceMask], masks: &[RleMask], name: &str) {
    assert_eq!(ours.len(), masks.len(), "{name}");
    let tensor = |part: &str| case.f32(&format!("{name}/{part}")).unwrap();
    let allowed = case.number("/robustness/f64_rerun_max_pixels_differing_in_a_mask").unwrap() as u64;
    let allowed = (2 * allowed).max(8);
    let iou = case.f32(&format!("{name}/predicted_iou")).unwrap_or_else(|_| tensor("iou"));
    let stability = case.f32(&format!("{name}/stability_score")).unwrap_or_else(|_| tensor("stability"));
    let points = case.f64(&format!("{name}/point_coords")).or_else(|_| case.f64(&format!("{name}/points")));
    let (points, features) = (matrix(points.unwrap()), matrix(tensor("fc_features")));
    for (i, (mask, expected)) in ours.iter().zip(masks).enumerate() {
        let what = format!("{name}, mask {i}");
        let differing = mask.area() + expected.area() - 2 * mask.mask.intersection_area(expected).unwrap();
        assert!(differing <= allowed, "{what}: {differing} pixels differ");
        let edges = |rect: Rect| [rect.x, rect.y, rect.x + rect.width, rect.y + rect.height];
        let boxes = [mask.bounding_box(), expected.bounding_box()].map(|rect| edges(rect.unwrap()));
        assert!(boxes[0].iter().zip(boxes[1]).all(|(&a, b)| a.abs_diff(b) <= 1), "{what}: {boxes:?}");
        assert_close(&format!("{what}: IoU"), mask.predicted_iou, iou[i], SCORE);
        assert_close(&format!("{what}: stability"), mask.stability_score, stability[i], SCORE);
        let point = mask.point.unwrap();
        assert_eq!([f64::from(point.x), f64::from(point.y)].to_vec(), points.row(i).to_vec(), "{what}");
        for (&feature, &expected) in mask.features.iter().zip(features.row(i)) {
            assert_close(&format!("{what}: feature"), feature, expected, SCORE);
        }
        assert_eq!(mask.features.len(), features.ncols());
    }
}

#[test]
fn coralscop_amg_before_small_regions() {
    let case = open("coralscop_amg");
    let ours = generate(&case, config(&case).with_min_mask_region_area(0), &image(&case));
    check_masks(&case, &ours, &masks_before(&case), "before_small_regions");
    let crop_boxes = case.f32("before_small_regions/crop_boxes_xyxy").unwrap();
    for (mask, expected) in ours.iter().zip(crop_boxes.outer_iter()) {
        let Rect { x, y, width, height } = mask.crop_box;
        let corners = [x, y, x + width, y + height].map(|v| v as f32);
        assert_eq!(corners.to_vec(), expected.iter().copied().collect::<Vec<_>>());
    }
}

#[test]
fn coralscop_amg_annotations() {
    let case = open("coralscop_amg");
    let ours = generate(&case, config(&case), &image(&case));
    check_masks(&case, &ours, &final_masks(&case), "final");
    let classes = case.i64("final/cate_preds").unwrap();
    let crop_boxes = matrix(case.i64("final/crop_boxes_xywh").unwrap());
    for ((mask, &class), crop_box) in ours.iter().zip(&classes).zip(crop_boxes.rows()) {
        assert_eq!(mask.class.map(i64::from), Some(class));
        let Rect { x, y, width, height } = mask.crop_box;
        assert_eq!([x, y, width, height].map(i64::from).to_vec(), crop_box.to_vec());
    }
    let features = Array2::from_shape_fn((ours.len(), ours[0].features.len()), |(i, k)| ours[i].features[k]);
    let published = matrix(case.f32("final/similarity").unwrap());
    let columns = matrix(case.f32("before_small_regions/fc_features").unwrap());
    let rows = matrix(case.f32("final/fc_features").unwrap());
    for ((a, b), &value) in feature_similarity(features.view()).indexed_iter().filter(|((a, b), _)| a != b) {
        let column = columns.outer_iter().position(|f| f == rows.row(b)).unwrap();
        assert_close(&format!("similarity of {a} and {b}"), value, published[[a, column]], SCORE);
    }
}
