//! SAMRefiner with a whole network.

use std::sync::Mutex;

use candle_core::Device;
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, ArrayD, ArrayViewD, Axis, Ix2, s};
use coral_core::testing::GoldenCase;
use coral_core::{Prompt, PromptableSegmenter, Result, ScoredMask, Size};
use coral_models::{Checkpoint, Embedding, Interpolation, PlaneResampler, Predictor, Sam, SamConfig};
use coral_weak::{SamRefiner, SamRefinerConfig};

use crate::{TestResult, open};

/// A predictor that keeps its latest answer.
struct Recording {
    predictor: Predictor,
    latest: Mutex<Vec<ScoredMask>>,
}

impl PromptableSegmenter for Recording {
    type Embedding = Embedding;

    fn embed(&self, image: &RgbImage) -> Result<Embedding> {
        self.predictor.embed(image)
    }

    fn predict(&self, embedding: &Embedding, prompt: &Prompt) -> Result<Vec<ScoredMask>> {
        let answers = self.predictor.predict(embedding, prompt)?;
        self.latest.lock().unwrap().clone_from(&answers);
        Ok(answers)
    }
}

fn predictor(case: &GoldenCase) -> std::result::Result<Predictor, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors"))?;
    let decoder_heads = case.number("/config/dec_heads")? as usize;
    let config = SamConfig { decoder_heads, ..SamConfig::from_checkpoint(&checkpoint)? };
    Ok(Predictor::new(Sam::load(&checkpoint, config, &Device::Cpu)?))
}

/// Logits at the size of the image.
fn full_size(
    logits: &Array2<f32>,
    embedding: &Embedding,
) -> std::result::Result<Array2<f32>, Box<dyn std::error::Error>> {
    let side = embedding.image_size();
    let (square, input, original) =
        (Size { width: side, height: side }, embedding.input_size(), embedding.original_size());
    let low_res: Vec<f32> = logits.iter().copied().collect();
    let whole = PlaneResampler::new(Size::of_map(logits), square, Interpolation::Bilinear)?.resize(&low_res)?;
    let whole = Array2::from_shape_vec(square.shape(), whole)?;
    let (height, width) = input.shape();
    let part: Vec<f32> = whole.slice(s![..height, ..width]).iter().copied().collect();
    let resized = PlaneResampler::new(input, original, Interpolation::Bilinear)?.resize(&part)?;
    Ok(Array2::from_shape_vec(original.shape(), resized)?)
}

/// The recorded answers are those of the reference (masks×H×W), which come in another order.
fn check_logits(what: &str, ours: &[ScoredMask], embedding: &Embedding, reference: &ArrayD<f32>) -> TestResult {
    assert_eq!(ours.len(), reference.shape()[0], "{what}");
    for (index, answer) in ours.iter().enumerate() {
        let logits = full_size(&answer.mask_logits, embedding)?;
        let difference = |reference: ArrayViewD<'_, f32>| {
            logits.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let nearest = reference.outer_iter().map(difference).fold(f32::INFINITY, f32::min);
        assert!(nearest <= 1e-3, "{what}: logits of answer {index} are off by {nearest}");
    }
    Ok(())
}

#[test]
fn samrefiner_e2e() -> TestResult {
    let case = open("samrefiner_e2e");
    let image = case.u8("image_u8")?;
    let (height, width) = (image.shape()[0] as u32, image.shape()[1] as u32);
    let image = RgbImage::from_raw(width, height, image.iter().copied().collect()).ok_or("image")?;
    let coarse = case.u8("coarse_masks")?.mapv(|v| v > 0);
    let names = case.tensor_names()?;
    let mut runs = 0;
    for iterations in 1..9 {
        let part = |part: &str| format!("iters{iterations}/{part}");
        if !names.contains(&part("refined")) {
            continue;
        }
        let config = SamRefinerConfig { iterations, ..SamRefinerConfig::published() };
        let segmenter = Recording { predictor: predictor(&case)?, latest: Mutex::new(Vec::new()) };
        let refiner = SamRefiner::new(segmenter, config)?;
        let embedding = refiner.segmenter().embed(&image)?;
        let (refined, iou) = (case.u8(&part("refined"))?, case.f32(&part("iou"))?);
        // Errors grow from one iteration to the next.
        let (most_pixels, most_iou) = if iterations == 1 { (0.002, 1e-4) } else { (0.01, 1e-2) };
        for (index, mask) in coarse.outer_iter().enumerate() {
            let mask = mask.into_dimensionality::<Ix2>()?;
            let ours = refiner.refine_embedded(&embedding, mask)?;
            let reference = refined.index_axis(Axis(0), index);
            let differing = ours.mask.iter().zip(reference).filter(|(ours, theirs)| **ours != (**theirs > 0)).count();
            let share = differing as f64 / ours.mask.len() as f64;
            assert!(share <= most_pixels, "{iterations} iterations, mask {index}: {share} of the pixels differ");
            let best = iou.index_axis(Axis(0), index).iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let predicted = ours.predicted_iou.ok_or("no answer")?;
            assert!((predicted - best).abs() <= most_iou, "mask {index}: predicted IoU {predicted}, expected {best}");
            let what = format!("{iterations} iterations, mask {index}");
            if iterations == 1 {
                let all = case.f32(&part("mask_logits_all"))?.index_axis_move(Axis(0), index);
                check_logits(&what, &refiner.segmenter().latest.lock().unwrap(), &embedding, &all)?;
            }
        }
        runs += 1;
    }
    assert!(runs > 1, "the case holds no refined masks");
    Ok(())
}

#[test]
fn the_frame_is_that_of_the_network() -> TestResult {
    let case = open("samrefiner_e2e");
    let image = RgbImage::from_fn(40, 56, |x, y| coral_core::image::Rgb([x as u8 * 6, y as u8 * 4, 90]));
    let mask = Array2::from_shape_fn((56, 40), |(y, x)| (8..40).contains(&y) && (5..22).contains(&x));
    let by_answer = SamRefinerConfig { iterations: 1, ..SamRefinerConfig::default() };
    let named = SamRefinerConfig { frame: SamRefinerConfig::published().frame, ..by_answer };
    let refine = |config| -> std::result::Result<_, Box<dyn std::error::Error>> {
        let refiner = SamRefiner::new(predictor(&case)?, config)?.with_context(|e: &Embedding| e.feature_map());
        Ok(refiner.refine(&image, mask.view())?)
    };
    // A network for 1024 pixels, as the published frame has it.
    assert_eq!(refine(by_answer)?, refine(named)?);
    assert!(refine(SamRefinerConfig { margin: 0.3, ..by_answer })?.predicted_iou.is_some());
    Ok(())
}
