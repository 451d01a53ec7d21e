use super::*;
use coral_core::testing::check_point_propagator;
use coral_core::{PointPropagator, Prompt, ScoredMask, SeededRng, UNLABELED};
use ndarray::{Array2, array};

use crate::fake_segmenter::{self, FakeSegmenter, scored};
use crate::{ClassicalFeatures, LargestClassPropagator, NearestPropagator, Similarity};

fn fake<F: Fn(Size, &Prompt) -> Vec<ScoredMask> + Send + Sync>(answer: F) -> FakeSegmenter<F> {
    FakeSegmenter::new(answer)
}

/// The columns of a one-row image.
fn columns(size: Size, columns: std::ops::Range<usize>, predicted_iou: f32) -> ScoredMask {
    scored(fake_segmenter::columns(size, columns), predicted_iou)
}

fn at(x: u32, class: u8) -> PointLabel {
    PointLabel { x, y: 0, class }
}

fn lenient() -> PromptPropagatorConfig {
    PromptPropagatorConfig { min_area: 0.0, max_area: 1.0, min_predicted_iou: 0.0, ..Default::default() }
}

fn labels_of(
    segmenter: impl PromptableSegmenter,
    image: &RgbImage,
    points: &[PointLabel],
    config: PromptPropagatorConfig,
) -> Vec<u8> {
    let propagator = PromptPropagator::new(segmenter, config).unwrap().with_fill(NearestPropagator);
    propagator.propagate(image, points).unwrap().into_raw_vec_and_offset().0
}

/// Rectangles, discs of noise and nothing, several of them, by the place of the prompt.
fn random_answer(size: Size, prompt: &Prompt) -> Vec<ScoredMask> {
    let click = prompt.points[0];
    let mut rng = SeededRng::new((click.x * 977.0 + click.y) as u64);
    let masks = (0..rng.below(4)).map(|kind| {
        let reach = rng.range(0.0, f64::from(size.width)) as f32;
        let near = |x: usize, y: usize| (x as f32 - click.x).abs() <= reach && (y as f32 - click.y).abs() <= 9.0;
        let mask = match kind {
            0 => Array2::from_shape_fn(size.shape(), |(y, x)| near(x, y)),
            1 => Array2::from_shape_simple_fn(size.shape(), || rng.chance(0.7)),
            _ => Array2::from_elem(size.shape(), rng.chance(0.5)),
        };
        scored(mask, rng.range(-0.2, 1.2) as f32)
    });
    masks.collect()
}

#[test]
fn any_segmenter_keeps_the_contract() {
    let generous = PromptPropagatorConfig {
        min_purity: 0.2,
        sufficient_reliability: 0.0,
        foreground_points: 3,
        fill_points: 50,
        skip_covered: Some(0.2),
        ..lenient()
    };
    for config in [PromptPropagatorConfig::default(), lenient(), generous] {
        let new = |config| PromptPropagator::new(fake(random_answer), config).unwrap();
        check_point_propagator(&new(config.clone())).unwrap();
        let curation = MaskCurationConfig { similarity: Similarity::Euclidean, ..Default::default() };
        let curated = new(config).with_curation(Box::new(ClassicalFeatures::default()), curation).unwrap();
        check_point_propagator(&curated.with_fill(LargestClassPropagator)).unwrap();
    }
}

#[test]
fn without_acceptable_masks_the_fill_remains() {
    let image = RgbImage::new(10, 1);
    let points = [at(0, 1), at(9, 2)];
    let nearest = vec![1, 1, 1, 1, 1, 2, 2, 2, 2, 2];
    let strict = PromptPropagatorConfig { min_area: 0.15, ..Default::default() };
    let answers: [fn(Size, &Prompt) -> Vec<ScoredMask>; 5] = [
        |_, _| Vec::new(),
        |size, _| vec![columns(size, 0..7, 0.9)], // too large
        |size, p| vec![columns(size, p.points[0].x as usize..p.points[0].x as usize + 1, 0.9)], // too small
        |size, _| vec![columns(size, 3..8, 0.9)], // not at the points
        |size, p| vec![columns(size, if p.points[0].x > 0.0 { 4..10 } else { 0..4 }, 0.6)], // too unsure
    ];
    for answer in answers {
        assert_eq!(labels_of(fake(answer), &image, &points, strict.clone()), nearest);
    }
    let good = fake(|size, p: &Prompt| vec![columns(size, if p.points[0].x > 0.0 { 4..10 } else { 0..3 }, 0.8)]);
    assert_eq!(labels_of(good, &image, &points, strict), [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn the_best_of_several_masks_counts() {
    let image = RgbImage::new(10, 1);
    let segmenter = fake(|size, p: &Prompt| match p.points[0].x as usize {
        // The second is purer than the first, and surer than the third.
        0 => vec![columns(size, 0..10, 0.95), columns(size, 0..8, 0.9), columns(size, 0..2, 0.8)],
        _ => Vec::new(),
    });
    assert_eq!(labels_of(segmenter, &image, &[at(0, 1), at(9, 2)], lenient()), [1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn contradicted_masks_are_dropped_or_cut() {
    let segmenter = || fake(|size, _: &Prompt| vec![columns(size, 0..8, 0.9)]);
    let image = RgbImage::new(12, 1);
    let points = [at(0, 1), at(1, 1), at(2, 1), at(6, 2)];
    let trusting = PromptPropagatorConfig { sufficient_reliability: 0.0, ..lenient() };
    assert!(point_masks(&segmenter(), &image, &points, &trusting).unwrap().is_empty());
    let cutting = PromptPropagatorConfig { min_purity: 0.7, ..trusting };
    let masks = point_masks(&segmenter(), &image, &points, &cutting).unwrap();
    // The mask of the fourth point is right about one of four points, and goes.
    assert_eq!(masks.iter().map(|mask| (mask.point.x, mask.area())).collect::<Vec<_>>(), [(0, 5), (1, 5), (2, 5)]);
    // Over all four masks 6 of 12 points of others are right, with one for good will 7 of 13; of this mask's own 2 of 3.
    assert!((masks[0].reliability - (2.0 + 7.0 / 13.0) / 4.0).abs() < 1e-6);
}

#[test]
fn masks_no_better_than_neighbours_are_not_believed() {
    let image = RgbImage::new(40, 1);
    let points: Vec<_> = (0..20).map(|i| at(2 * i, u8::from(i >= 10))).collect();
    // Three quarters of the masks hold a wrong point far away; those of the first points hold only themselves.
    let segmenter = || {
        fake(|size, p: &Prompt| {
            let x = p.points[0].x as usize;
            let wrong = if x < 10 { x } else { 38 - x };
            vec![scored(Array2::from_shape_fn(size.shape(), |(_, i)| i == x || i + 1 == x || i == wrong), 0.9)]
        })
    };
    let few = |sufficient_reliability| {
        let config = PromptPropagatorConfig { sufficient_reliability, ..lenient() };
        point_masks(&segmenter(), &image, &points, &config).unwrap().len()
    };
    assert!(few(0.0) >= 5);
    assert_eq!(few(0.9), 0);
}

#[test]
fn covered_points_are_skipped_in_any_order() {
    let image = RgbImage::new(20, 1);
    let mut points = vec![at(1, 1), at(4, 1), at(8, 1), at(12, 2), at(18, 2)];
    let config = PromptPropagatorConfig { skip_covered: Some(0.8), ..lenient() };
    for _ in 0..2 {
        let segmenter = fake(|size, p: &Prompt| match p.points[0].x as usize {
            0..10 => vec![columns(size, 0..6, 0.9)],
            _ => vec![columns(size, 10..20, 0.7)],
        });
        let masks = point_masks(&segmenter, &image, &points, &config).unwrap();
        // Point 4 lies in the mask of point 1; point 8 does not, and its own mask misses it; 0.7 is too little for skipping.
        let asked: Vec<_> = segmenter.asked().iter().map(|p| p.points[0].x).collect();
        assert_eq!(asked, [1.0, 8.0, 12.0, 18.0]);
        assert_eq!(masks.len(), 3);
        points.reverse();
    }
}

#[test]
fn covered_points_make_a_second_prompt() {
    let image = RgbImage::new(20, 1);
    let points = [at(1, 1), at(3, 1), at(5, 1), at(9, 1), at(15, 2)];
    let config = PromptPropagatorConfig { foreground_points: 2, background_points: 1, ..lenient() };
    let second = |score: f32| {
        let segmenter = fake(move |size, p: &Prompt| match (p.points[0].x as usize, p.points.len()) {
            (1, 2) => vec![columns(size, 0..10, 0.8)],
            (1, _) => vec![columns(size, 0..12, score)],
            _ => Vec::new(),
        });
        let masks = point_masks(&segmenter, &image, &points, &config).unwrap();
        let asked = segmenter.asked()[1].points.clone();
        (masks[0].area(), asked.iter().map(|p| (p.x, p.foreground)).collect::<Vec<_>>())
    };
    let clicks = vec![(1.0, true), (15.0, false), (3.0, true), (5.0, true)];
    assert_eq!(second(0.85), (12, clicks.clone()));
    assert_eq!(second(0.75), (10, clicks));
}

#[test]
fn bad_masks_of_the_segmenter_are_errors() {
    let image = RgbImage::new(6, 2);
    let points = [at(1, 1), at(4, 2)];
    let error = |answer: fn(Size, &Prompt) -> Vec<ScoredMask>| {
        PromptPropagator::new(fake(answer), lenient()).unwrap().propagate(&image, &points).unwrap_err().to_string()
    };
    let transposed = error(|size, _| vec![scored(Array2::from_elem((6, 2), true), size.width as f32)]);
    assert_eq!(transposed, "mask of the segmenter: expected shape 6x2, got 2x6");
    for score in [f32::NAN, f32::INFINITY] {
        let segmenter = fake(move |size, _: &Prompt| vec![columns(size, 0..3, 0.9), columns(size, 0..3, score)]);
        let error = point_masks(&segmenter, &image, &points, &lenient()).unwrap_err().to_string();
        assert!(error.contains("expected a finite predicted IoU for the prompt at (1, 0)"), "{error}");
    }
}

#[test]
fn the_image_is_embedded_only_when_it_must() {
    let image = RgbImage::new(6, 2);
    let propagator = PromptPropagator::new(fake(|_, _| Vec::new()), lenient()).unwrap();
    let embedded = |points: &[PointLabel]| {
        let labels = propagator.propagate(&image, points);
        (labels.is_ok_and(|labels| labels.iter().all(|&class| class != UNLABELED)), propagator.segmenter().embedded())
    };
    assert_eq!(embedded(&[at(0, 1), at(3, 1)]), (true, 0));
    assert_eq!(embedded(&[at(9, 1)]), (false, 0));
    assert_eq!(embedded(&[at(0, 1), at(3, 2), at(4, 2)]), (true, 1));
    let labels = propagator.propagate_embedded(&Size::of(&image), &image, &[at(0, 1), at(3, 2)]).unwrap();
    assert_eq!((labels[[0, 0]], propagator.segmenter().embedded()), (1, 1));
    assert_eq!(merge_masks(Size { width: 2, height: 1 }, &[]).unwrap(), array![[UNLABELED, UNLABELED]]);
}
