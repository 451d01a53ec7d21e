use super::*;
use coral_core::image::Rgb;

use crate::fake_segmenter::{self, FakeSegmenter, columns};

fn refiner<F: Fn(Size, &Prompt) -> Vec<ScoredMask> + Send + Sync>(
    config: SamRefinerConfig,
    answer: F,
) -> SamRefiner<FakeSegmenter<F>> {
    SamRefiner::new(FakeSegmenter::new(answer), config).unwrap()
}

/// A mask with logits of side×side.
fn scored(mask: Array2<bool>, predicted_iou: f32, side: usize) -> ScoredMask {
    ScoredMask { mask_logits: Array2::zeros((side, side)), ..fake_segmenter::scored(mask, predicted_iou) }
}

/// The columns of the box, one more at its right; by low predicted IoU also everything.
fn growing(size: Size, prompt: &Prompt) -> Vec<ScoredMask> {
    let end = prompt.rect.map_or(0, |rect| rect.x_max as usize + 2);
    vec![scored(columns(size, 0..99), 0.2, 8), scored(columns(size, 2..end.min(7)), 0.8, 8)]
}

const SIZE: Size = Size { width: 10, height: 4 };

#[test]
fn masks_are_refined_until_they_settle() {
    let image = RgbImage::from_pixel(SIZE.width, SIZE.height, Rgb([9, 9, 9]));
    let ours = refiner(SamRefinerConfig::default(), growing);
    let refined = ours.refine(&image, columns(SIZE, 2..4).view()).unwrap();
    assert_eq!((&refined.mask, refined.predicted_iou), (&columns(SIZE, 2..7), Some(0.8)));
    // 2..5, 2..6, 2..7, and once more the same.
    assert_eq!(refined.iterations, 4);
    let asked = ours.segmenter().asked();
    // One more for the size of the logits, which the second mask needs no more.
    assert_eq!(asked.len(), 5);
    assert!(asked[0].mask_logits.is_none() && asked[0].rect.is_none());
    assert!(asked[1..].iter().all(|prompt| prompt.mask_logits.as_ref().is_some_and(|m| m.dim() == (8, 8))));
    let (points, rect) = (&asked[1].points, asked[1].rect.unwrap());
    assert_eq!((points.len(), points[0].x, points[0].foreground), (1, 2.0, true));
    assert_eq!((rect.x_min, rect.x_max, rect.y_max), (2.0, 3.0, 3.0));
    let once = refiner(SamRefinerConfig { iterations: 1, ..Default::default() }, growing);
    let masks = [columns(SIZE, 2..4), columns(SIZE, 0..0), columns(SIZE, 3..9)];
    let all = once.refine_all(&image, &masks.each_ref().map(|mask| mask.view())).unwrap();
    assert_eq!((&all[0].mask, &all[2].mask), (&columns(SIZE, 2..5), &columns(SIZE, 2..7)));
    assert_eq!((&all[1].mask, all[1].predicted_iou, all[1].iterations), (&masks[1], None, 0));
    assert_eq!(once.segmenter().asked().len(), 3);
}

#[test]
fn prompts_do_not_depend_on_earlier_images() {
    // Logits as large as the image.
    let answer = |size: Size, _: &Prompt| vec![scored(columns(size, 2..5), 0.8, size.width as usize)];
    let ours = refiner(SamRefinerConfig { iterations: 1, ..Default::default() }, answer);
    for side in [12, 40, 12] {
        let size = Size { width: side, height: side };
        ours.refine(&RgbImage::new(side, side), columns(size, 2..4).view()).unwrap();
        let asked = ours.segmenter().asked();
        assert_eq!(asked.last().unwrap().mask_logits.as_ref().unwrap().dim(), size.shape());
    }
    // Each size is asked for once.
    assert_eq!(ours.segmenter().asked().len(), 2 + 3);
}

#[test]
fn masks_are_never_lost() {
    let image = RgbImage::new(SIZE.width, SIZE.height);
    let coarse = columns(SIZE, 2..4);
    let answers: [fn(Size, &Prompt) -> Vec<ScoredMask>; 2] =
        [|_, _| Vec::new(), |size, _| vec![scored(columns(size, 0..0), 0.9, 0)]];
    for answer in answers {
        let refined = refiner(SamRefinerConfig::default(), answer).refine(&image, coarse.view()).unwrap();
        assert_eq!(refined, RefinedMask { mask: coarse.clone(), predicted_iou: None, iterations: 1 });
    }
    let none = refiner(SamRefinerConfig::default(), |_, _| panic!("asked for nothing"));
    assert!(none.refine_all(&image, &[columns(SIZE, 0..0).view()]).unwrap()[0].predicted_iou.is_none());
}

#[test]
fn every_mask_and_option_gives_a_valid_prompt() {
    let image = RgbImage::new(SIZE.width, SIZE.height);
    let answer = |size: Size, prompt: &Prompt| {
        let inside = |x: f32, y: f32| (0.0..=10.0).contains(&x) && (0.0..=4.0).contains(&y);
        assert!(prompt.points.iter().all(|p| inside(p.x, p.y)));
        assert!(prompt.rect.is_none_or(|r| inside(r.x_min, r.y_min) && inside(r.x_max, r.y_max)));
        assert!(prompt.rect.is_none_or(|r| r.x_min < r.x_max && r.y_min < r.y_max));
        assert!(prompt.mask_logits.as_ref().is_none_or(|m| m.iter().all(|v| v.is_finite() && v.abs() <= 30.0)));
        assert!(!prompt.points.is_empty() || prompt.rect.is_some() || prompt.mask_logits.is_some());
        vec![scored(columns(size, 3..4), 0.5, 6)]
    };
    let corner = Array2::from_shape_fn(SIZE.shape(), |at| at == (3, 9));
    for bits in 0..32 {
        let on = |bit: usize| bits >> bit & 1 == 1;
        let config = SamRefinerConfig {
            use_points: on(0),
            use_box: on(1),
            use_mask: on(2),
            negative_point: on(3),
            margin: if on(1) { 0.2 } else { 0.0 },
            ..if on(4) { SamRefinerConfig::published() } else { SamRefinerConfig::default() }
        };
        if bits & 7 == 0 {
            assert!(config.validate().is_err());
            continue;
        }
        let ours = refiner(config, answer)
            .with_context(|size| Ok(FeatureMap { data: ndarray::Array3::ones((3, 2, 5)), image_size: *size }));
        for mask in [columns(SIZE, 0..10), columns(SIZE, 0..1), corner.clone(), columns(SIZE, 1..7)] {
            assert_eq!(ours.refine(&image, mask.view()).unwrap().mask, columns(SIZE, 3..4));
        }
    }
}

#[test]
fn faults_are_named() {
    let image = RgbImage::new(SIZE.width, SIZE.height);
    let mask = columns(SIZE, 2..4);
    let text = |config, answer: fn(Size, &Prompt) -> Vec<ScoredMask>| {
        refiner(config, answer).refine(&image, mask.view()).unwrap_err().to_string()
    };
    let default = SamRefinerConfig::default();
    let error = text(default, |_, _| vec![scored(Array2::default((4, 9)), 0.5, 8)]);
    assert_eq!(error, "mask of the segmenter: expected shape 10x4, got 9x4");
    assert!(text(default, |size, _| vec![scored(columns(size, 0..9), f32::NAN, 8)]).contains("finite predicted IoU"));
    let wide = |size, _: &Prompt| {
        vec![ScoredMask { mask_logits: Array2::zeros((3, 8)), ..scored(columns(size, 0..9), 0.5, 1) }]
    };
    assert!(text(default, wide).contains("expected square mask logits, got 8x3"));
    assert!(text(SamRefinerConfig { margin: 0.5, ..default }, growing).contains("`margin`: above 0 it needs features"));
    let ours = refiner(default, growing);
    let error = ours.refine(&RgbImage::new(9, 4), mask.view()).unwrap_err().to_string();
    assert_eq!(error, "mask: expected shape 9x4, got 10x4");
    assert!(ours.refine(&RgbImage::new(0, 4), Array2::default((4, 0)).view()).is_err());
    assert!(ours.refine_embedded(&SIZE, Array2::default((0, 0)).view()).is_err());
    let config = SamRefinerConfig { gamma: -1.0, ..default };
    assert!(SamRefiner::new(FakeSegmenter::new(growing), config).is_err());
}
