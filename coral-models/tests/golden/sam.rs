use candle_core::Device;
use coral_core::image::RgbImage;
use coral_core::ndarray::{ArrayD, ArrayViewD, Axis};
use coral_core::testing::GoldenCase;
use coral_core::{BoxPrompt, PointPrompt, Prompt, Size};
use coral_models::{
    Checkpoint, DecodedMask, Embedding, PillowFilter, Predictor, PredictorConfig, Sam, SamConfig, resize_image,
};

use crate::{TestResult, open};

/// The whole published program: photograph and prompts in, masks out.
fn check(name: &str) -> TestResult {
    let case = open(name);
    let predictor = predictor(&case)?;
    let image = image(&case.u8("image_u8")?);
    let embedding = predictor.embed(&image)?;
    let expected = case.f32("image_embedding")?.permuted_axes(vec![0, 2, 3, 1]);
    let ours = embedding.features().flatten_all()?.to_vec1::<f32>()?;
    assert_close("embedding", &ours, expected.iter(), 2e-4);
    assert_eq!(embedding.original_size(), Size::of(&image));
    let mut checked = 0;
    for prompt in case.value("/prompts")?.as_array().ok_or("prompts")? {
        checked += usize::from(check_prompt(&case, &predictor, &embedding, prompt.as_str().ok_or("prompt")?)?);
    }
    assert!(checked > 0);
    Ok(())
}

fn predictor(case: &GoldenCase) -> Result<Predictor, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors"))?;
    let config = SamConfig {
        decoder_heads: case.number("/config/dec_heads")? as usize,
        ..SamConfig::from_checkpoint(&checkpoint)?
    };
    assert_eq!(config.image_size as f64, case.number("/config/img_size")?);
    assert_eq!(config.semantic.map(|s| s.classes as f64), case.number("/config/cate_num").ok());
    Ok(Predictor::new(Sam::load(&checkpoint, config, &Device::Cpu)?))
}

/// False when the prompt cannot be said in a [`Prompt`]: explicit padding points.
fn check_prompt(
    case: &GoldenCase,
    predictor: &Predictor,
    embedding: &Embedding,
    name: &str,
) -> Result<bool, Box<dyn std::error::Error>> {
    let Some(prompts) = prompts(case, name)? else {
        return Ok(false);
    };
    let names = case.tensor_names()?;
    for multi in [0, 1] {
        let part = |part: &str| format!("{name}/multi{multi}/{part}");
        let mut decoded: Vec<DecodedMask> = vec![];
        predictor.decode(embedding, &prompts, multi == 1, |batch| {
            decoded.extend(batch);
            Ok(())
        })?;
        let all = |f: fn(&DecodedMask) -> Vec<f32>| decoded.iter().flat_map(f).collect::<Vec<f32>>();
        let logits = all(|mask| mask.low_res_logits.iter().copied().collect());
        assert_close(&part("low_res_masks"), &logits, case.f32(&part("low_res_masks"))?.iter(), 1e-4);
        assert_close(&part("iou"), &all(|mask| vec![mask.predicted_iou]), case.f32(&part("iou"))?.iter(), 1e-4);
        if names.contains(&part("cate_pred")) {
            assert_close(
                &part("cate_pred"),
                &all(|mask| mask.class_logits.clone()),
                case.f32(&part("cate_pred"))?.iter(),
                1e-4,
            );
            assert_close(
                &part("fc_features"),
                &all(|mask| mask.features.clone()),
                case.f32(&part("fc_features"))?.iter(),
                1e-4,
            );
        }
        let masks = if names.contains(&part("masks")) {
            Some(case.u8(&part("masks"))?.mapv(|v| v > 0))
        } else if names.contains(&part("masks_logits")) {
            Some(case.f32(&part("masks_logits"))?.mapv(|v| v > 0.0))
        } else {
            None
        };
        if let Some(masks) = masks {
            check_masks(&part("masks"), predictor, embedding, (&prompts, multi == 1), &masks)?;
        }
    }
    Ok(true)
}

fn check_masks(
    what: &str,
    predictor: &Predictor,
    embedding: &Embedding,
    (prompts, multimask_output): (&[Prompt], bool),
    expected: &ArrayD<bool>,
) -> TestResult {
    let config = PredictorConfig { multimask_output, prompts_per_batch: 3, ..Default::default() };
    let answers = predictor.clone().with_config(config)?.predict_batch(embedding, prompts)?;
    for (index, (masks, expected)) in answers.iter().zip(expected.outer_iter()).enumerate() {
        assert_eq!(masks.len(), expected.shape()[0], "{what} {index}");
        assert!(masks.windows(2).all(|pair| pair[0].predicted_iou >= pair[1].predicted_iou), "{what}: best first");
        for reference in expected.outer_iter() {
            let differing = |mask: &coral_core::ScoredMask| {
                mask.mask.iter().zip(reference.iter()).filter(|(a, b)| a != b).count() as f64 / reference.len() as f64
            };
            let closest = masks.iter().map(differing).fold(1.0, f64::min);
            assert!(closest <= 1e-3, "{what} {index}: the closest mask differs in {closest} of the pixels");
        }
    }
    Ok(())
}

fn prompts(case: &GoldenCase, name: &str) -> Result<Option<Vec<Prompt>>, Box<dyn std::error::Error>> {
    let names = case.tensor_names()?;
    let key = |part: &str| format!("{name}/{part}");
    let mut prompts: Vec<Prompt> = vec![];
    if names.contains(&key("point_coords_orig")) {
        let (places, labels) = (case.f32(&key("point_coords_orig"))?, case.i64(&key("point_labels"))?);
        if labels.iter().any(|&label| label < 0) {
            return Ok(None);
        }
        for (places, labels) in places.outer_iter().zip(labels.outer_iter()) {
            let point = |(p, &l): (ArrayViewD<f32>, &i64)| PointPrompt { x: p[0], y: p[1], foreground: l == 1 };
            let points = places.outer_iter().zip(labels.iter()).map(point).collect();
            prompts.push(Prompt { points, ..Default::default() });
        }
    }
    if names.contains(&key("boxes_orig")) {
        let boxes = case.f32(&key("boxes_orig"))?;
        prompts.resize(boxes.shape()[0], Prompt::default());
        for (prompt, b) in prompts.iter_mut().zip(boxes.outer_iter()) {
            prompt.rect = Some(BoxPrompt { x_min: b[0], y_min: b[1], x_max: b[2], y_max: b[3] });
        }
    }
    if names.contains(&key("mask_input")) {
        let masks = case.f32(&key("mask_input"))?;
        prompts.resize(masks.shape()[0], Prompt::default());
        for (prompt, mask) in prompts.iter_mut().zip(masks.outer_iter()) {
            prompt.mask_logits = Some(mask.index_axis(Axis(0), 0).into_dimensionality()?.to_owned());
        }
    }
    Ok(Some(prompts))
}

fn image(pixels: &ArrayD<u8>) -> RgbImage {
    let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
    RgbImage::from_raw(width, height, pixels.iter().copied().collect()).unwrap()
}

fn assert_close<'a>(what: &str, ours: &[f32], expected: impl ExactSizeIterator<Item = &'a f32>, tolerance: f32) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (at, (a, e)) in ours.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance, "{what}: element {at} is {a}, expected {e}");
    }
}

#[test]
fn sam_tiny() -> TestResult {
    check("sam_tiny")
}

#[test]
fn coralscop_tiny() -> TestResult {
    check("coralscop_tiny")
}

#[test]
fn images_are_resized_exactly() -> TestResult {
    for name in ["sam_tiny", "coralscop_tiny"] {
        let case = open(name);
        let names = case.tensor_names()?;
        for stem in ["image", "image2"] {
            let (from, to) = (format!("{stem}_u8"), format!("{stem}_resized_u8"));
            if names.contains(&from) {
                let expected = image(&case.u8(&to)?);
                let ours = resize_image(&image(&case.u8(&from)?), Size::of(&expected), PillowFilter::Bilinear)?;
                assert!(ours == expected, "{name}/{stem}");
            }
        }
    }
    Ok(())
}
