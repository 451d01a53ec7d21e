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

/// The recorded answers are those of the reference, every `stride`th row and column of masks×H×W, which come in another
/// order: within `tolerance`, and of the same sign but for a `share` of the pixels.
fn check_logits(
    what: &str,
    (ours, embedding): (&[ScoredMask], &Embedding),
    (reference, stride): (&ArrayD<f32>, usize),
    (tolerance, share): (f32, f64),
) -> TestResult {
    assert_eq!(ours.len(), reference.shape()[0], "{what}");
    for (index, answer) in ours.iter().enumerate() {
        let logits = full_size(&answer.mask_logits, embedding)?;
        let logits = logits.slice(s![..;stride, ..;stride]);
        let difference = |reference: ArrayViewD<'_, f32>| {
            let pairs = || logits.iter().zip(&reference);
            let flipped = pairs().filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
            (pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max), flipped as f64 / logits.len() as f64)
        };
        let (nearest, flipped) =
            reference.outer_iter().map(difference).min_by(|a, b| a.0.total_cmp(&b.0)).ok_or("no reference")?;
        assert!(nearest <= tolerance, "{what}: logits of answer {index} are off by {nearest}");
        assert!(flipped <= share, "{what}: {flipped} of the pixels of answer {index} are on the other side");
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
        let (most_pixels, most_iou, most_logit) =
            if iterations == 1 { (0.002, 1e-4, 1e-3) } else { (0.01, 1e-2, 1e-1) };
        for (index, mask) in coarse.outer_iter().enumerate() {
            let mask = mask.into_dimensionality::<Ix2>()?;
            let ours = refiner.refine_embedded(&embedding, mask)?;
            let reference = refined.index_axis(Axis(0), index);
            let differing = ours.mask.iter().zip(reference).filter(|(ours, theirs)| **ours != (**theirs > 0)).count();
            let share = differing as f64 / ours.mask.len() as f64;
            assert!(share <= most_pixels, "{iterations} iterations, mask {index}: {share} of the pixels differ");
            let what = format!("{iterations} iterations, mask {index}");
            let latest = refiner.segmenter().latest.lock().unwrap();
            // Ours come best first.
            let mut expected: Vec<f32> = iou.index_axis(Axis(0), index).iter().copied().collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            let predicted: Vec<f32> = latest.iter().map(|answer| answer.predicted_iou).collect();
            let close = predicted.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= most_iou);
            assert!(
                close && predicted.len() == expected.len(),
                "{what}: predicted IoU {predicted:?}, expected {expected:?}"
            );
            assert_eq!(ours.predicted_iou, predicted.first().copied(), "{what}");
            for (name, stride) in [("mask_logits_all", 1), ("mask_logits_all_stride2", 2)] {
                if names.contains(&part(name)) {
                    let all = case.f32(&part(name))?.index_axis_move(Axis(0), index);
                    check_logits(&what, (&latest, &embedding), (&all, stride), (most_logit, most_pixels))?;
                }
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
