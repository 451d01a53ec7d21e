use std::sync::atomic::Ordering;

use coral_core::image::RgbImage;
use coral_core::{CountingProgress, InstanceMask, NoProgress, Rect, RleMask, Size};

use super::fake::{TruthDecoder, discs};
use super::generate::generate;
use super::{AreaLimit, GeneratorConfig, GridPoint};

fn config() -> GeneratorConfig {
    GeneratorConfig { points_per_side: 12, crop_n_layers: 0, ..GeneratorConfig::coralscop() }
        .with_min_mask_region_area(0)
}

fn run(decoder: &TruthDecoder, config: &GeneratorConfig, image: &RgbImage) -> Vec<InstanceMask> {
    generate(decoder, config, image, &NoProgress).unwrap()
}

fn truth(image: &RgbImage, object: u8) -> RleMask {
    RleMask::from_fn(Size::of(image), |x, y| image.get_pixel(x, y)[0] == object)
}

#[test]
fn every_object_is_found_once() {
    let image = discs(120, 90, &[(20, 20, 12), (70, 30, 20), (90, 70, 15)]);
    let masks = run(&TruthDecoder::default(), &config(), &image);
    assert_eq!(masks.len(), 3);
    // The predicted IoU falls with the object's number.
    for (mask, object) in masks.iter().zip(1..) {
        assert_eq!(mask.mask, truth(&image, object));
        let point = mask.point.unwrap();
        assert!(point.foreground && mask.mask.contains(point.x as u32, point.y as u32));
        assert_eq!((mask.class, mask.stability_score), (Some(1), 1.0));
        assert_eq!((mask.predicted_iou, mask.features[0]), (0.9 - f32::from(object) / 100.0, f32::from(object)));
        assert_eq!(mask.crop_box, Rect { x: 0, y: 0, width: 120, height: 90 });
    }
}

#[test]
fn the_size_of_batches_does_not_matter() {
    let image = discs(120, 90, &[(20, 20, 12), (70, 30, 20), (90, 70, 15)]);
    let all = run(&TruthDecoder::default(), &config(), &image);
    for points_per_batch in [1, 5, 143, 1000] {
        let progress = CountingProgress::default();
        let config = GeneratorConfig { points_per_batch, ..config() };
        assert_eq!(generate(&TruthDecoder::default(), &config, &image, &progress).unwrap(), all);
        assert_eq!(progress.done(), 144usize.div_ceil(points_per_batch) as u64);
    }
}

#[test]
fn thresholds_are_as_strict_as_published() {
    let image = discs(100, 60, &[(20, 20, 12), (70, 30, 20)]);
    let decoder = TruthDecoder { predicted_iou: vec![0.0, 0.5, 0.75], ..Default::default() };
    let found = |change: fn(&mut GeneratorConfig)| {
        let mut config = GeneratorConfig { pred_iou_thresh: 0.0, stability_score_thresh: 0.0, ..config() };
        change(&mut config);
        run(&decoder, &config, &image).len()
    };
    assert_eq!(found(|_| ()), 2);
    assert_eq!(found(|c| c.pred_iou_thresh = 0.499), 2);
    assert_eq!(found(|c| c.pred_iou_thresh = 0.5), 1);
    assert_eq!(found(|c| c.pred_iou_thresh = 0.75), 0);
    // The score is 1 up to an offset of 8, the height of the logits, and 0 from there on.
    assert_eq!(found(|c| c.stability_score_thresh = 1.0), 2);
    assert_eq!(found(|c| (c.stability_score_thresh, c.stability_score_offset) = (0.01, 8.0)), 0);
    assert_eq!(found(|c| (c.stability_score_thresh, c.stability_score_offset) = (0.0, 8.0)), 2);
    assert_eq!(found(|c| c.mask_threshold = 8.0), 0);
}

#[test]
fn background_costs_no_pixels() {
    let image = discs(100, 60, &[(20, 20, 12), (70, 30, 20)]);
    let decoder = TruthDecoder { background_masks: true, ..Default::default() };
    let masks = run(&decoder, &config(), &image);
    assert!(masks.iter().all(|mask| mask.class == Some(1)));
    let clicks_on_objects =
        super::point_grid(12).into_iter().filter(|p| image.get_pixel((p.x * 100.0) as u32, (p.y * 60.0) as u32)[0] > 0);
    assert_eq!(decoder.upsampled.load(Ordering::Relaxed), clicks_on_objects.count());
    let with_background = run(&decoder, &GeneratorConfig { background_class: None, ..config() }, &image);
    assert_eq!(with_background.len(), 3);
    assert_eq!((with_background[0].class, &with_background[0].mask), (Some(0), &truth(&image, 0)));
}

#[test]
fn the_best_of_three_masks_stays() {
    let image = discs(60, 60, &[(30, 30, 20)]);
    let sam = GeneratorConfig { points_per_side: 4, pred_iou_thresh: 0.1, ..GeneratorConfig::sam() };
    let masks = run(&TruthDecoder::default(), &sam, &image);
    assert_eq!(masks.len(), 1);
    // The middle one of the first click on the disc.
    let point = masks[0].point.unwrap();
    assert_eq!((masks[0].features.as_slice(), point.x, point.y), (&[1.0, 1.0][..], 22.5, 7.5 * 3.0));
    assert_eq!(masks[0].mask, truth(&image, 1));
}

#[test]
fn smaller_crops_are_preferred_and_cut_masks_dropped() {
    // The small disc lies inside the first crop, the large one crosses all crops.
    let image = discs(300, 240, &[(60, 60, 30), (170, 130, 70)]);
    let config = GeneratorConfig { crop_n_layers: 1, ..config() };
    let masks = run(&TruthDecoder::default(), &config, &image);
    let found: Vec<_> = masks.iter().map(|mask| (&mask.mask, mask.crop_box.width)).collect();
    let first_crop = super::crop_boxes(Size::of(&image), 1, config.crop_overlap_ratio)[1].rect;
    assert!(first_crop.width < 300);
    assert_eq!(found, [(&truth(&image, 1), first_crop.width), (&truth(&image, 2), 300)]);
    // Clicks are in the frame of the image, whichever crop they were made in.
    assert!(masks.iter().all(|mask| mask.mask.contains(mask.point.unwrap().x as u32, mask.point.unwrap().y as u32)));
}

#[test]
fn a_click_of_ones_own_is_used() {
    let image = discs(100, 60, &[(20, 20, 12), (70, 30, 20)]);
    let config = GeneratorConfig { point_grids: Some(vec![vec![GridPoint { x: 0.7, y: 0.5 }]]), ..config() };
    let masks = run(&TruthDecoder::default(), &config, &image);
    assert_eq!(masks.iter().map(|mask| &mask.mask).collect::<Vec<_>>(), [&truth(&image, 2)]);
}

#[test]
fn cleaned_masks_come_last() {
    // Object 1 has a hole of 5 pixels (object 3), object 2 none.
    let image = discs(100, 60, &[(25, 25, 15), (70, 30, 20), (25, 25, 1)]);
    let config = GeneratorConfig { pred_iou_thresh: 0.5, points_per_side: 8, ..config() };
    let raw = run(&TruthDecoder::default(), &config, &image);
    assert_eq!(raw.iter().map(|mask| mask.features[0]).collect::<Vec<_>>(), [1.0, 2.0]);
    let masks = run(&TruthDecoder::default(), &config.clone().with_min_mask_region_area(6), &image);
    assert_eq!(masks.iter().map(|mask| mask.features[0]).collect::<Vec<_>>(), [2.0, 1.0]);
    assert_eq!(masks[1].mask, truth(&image, 1).union(&truth(&image, 3)).unwrap());
    assert_eq!((masks[1].predicted_iou, masks[1].stability_score), (raw[0].predicted_iou, raw[0].stability_score));
    let holes_stay = GeneratorConfig { min_hole_area: 0, min_island_area: 6, ..config };
    assert_eq!(run(&TruthDecoder::default(), &holes_stay, &image), raw);
}

#[test]
fn masks_have_the_allowed_area() {
    let image = discs(100, 60, &[(20, 20, 12), (70, 30, 20)]);
    let areas = |min_mask_area, max_mask_area| -> Vec<u64> {
        let config = GeneratorConfig { min_mask_area, max_mask_area, ..config() };
        run(&TruthDecoder::default(), &config, &image).iter().map(InstanceMask::area).collect()
    };
    let all = areas(None, None);
    assert_eq!(areas(Some(AreaLimit::Pixels(all[0])), None), all);
    assert_eq!(areas(Some(AreaLimit::Pixels(all[0] + 1)), None), all[1..]);
    assert_eq!(areas(None, Some(AreaLimit::ImageFraction(all[0] as f64 / 6000.0))), all[..1]);
}

#[test]
fn images_without_pixels_or_objects() {
    let error = generate(&TruthDecoder::default(), &config(), &RgbImage::new(0, 9), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("at least one pixel, got 0x9"), "{error}");
    assert_eq!(run(&TruthDecoder::default(), &config(), &discs(50, 40, &[])), []);
    let dot = discs(2, 2, &[(0, 0, 2)]);
    assert_eq!(run(&TruthDecoder::default(), &config(), &dot).len(), 1);
}
