//! A whole network of variables: gradients, and agreement of the fused operations with the composed ones.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use coral_core::SeededRng;

use super::config::{SamConfig, SemanticConfig};
use super::mask_decoder::MaskChoice;
use super::model::{PromptBatch, Sam};
use super::prompt_encoder::{PointKind, Token};
use super::testing;
use crate::gradient_check::assert_variable_gradients;

const CPU: Device = Device::Cpu;

/// A position table and class head of other sizes than the images'.
fn tiny() -> SamConfig {
    testing::tiny([3, 5], 3, Some(SemanticConfig { classes: 3, tokens: 9, feature_dim: 7 }))
}

fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let mut random = SeededRng::new(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.range(-0.7, 0.8)).collect();
    Tensor::from_vec(values, shape, &CPU).unwrap().to_dtype(dtype).unwrap()
}

/// The tiny network with random variables, by name.
fn trainable(dtype: DType) -> (Sam, Vec<(String, Var)>) {
    let map = VarMap::new();
    let sam = Sam::new(tiny(), VarBuilder::from_varmap(&map, dtype, &CPU)).unwrap();
    let mut variables: Vec<_> = map.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    for (seed, (_, variable)) in variables.iter().enumerate() {
        variable.set(&random(variable.dims(), seed as u64, dtype)).unwrap();
    }
    (sam, variables)
}

/// Everything the network says of two images, with points, and with boxes and masks.
fn outputs(sam: &Sam, images: &Tensor) -> Result<Vec<Tensor>> {
    use PointKind::*;
    let token = |x: f32, y: f32, kind| Token { x, y, kind };
    let points = [
        vec![token(3.0, 4.0, Foreground), token(9.0, 2.5, Background), token(0.0, 0.0, Padding)],
        vec![token(1.0, 14.0, Background), token(19.0, 15.0, Foreground), token(0.0, 0.0, Padding)],
    ];
    let boxes = [
        vec![token(1.0, 2.0, TopLeft), token(17.0, 11.0, BottomRight)],
        vec![token(0.0, 0.0, TopLeft), token(5.0, 9.0, BottomRight)],
    ];
    let features = sam.encode(images).map_err(candle_core::Error::wrap)?;
    let (batch, height, width, _) = features.dims4()?;
    let masks = random(&[2, 4 * height, 4 * width], 1000, images.dtype()).affine(4.0, 0.0)?;
    let mut outputs = vec![];
    for image in 0..batch {
        let features = features.narrow(0, image, 1)?;
        for (prompts, masks) in [(&points, None), (&boxes, Some(&masks))] {
            let decoded = sam.decode(&features, &PromptBatch { masks, ..PromptBatch::of(prompts) }, MaskChoice::All)?;
            outputs.extend([decoded.low_res_masks, decoded.iou]);
            outputs.extend(decoded.semantics.map(|s| s.logits));
        }
    }
    Ok(outputs)
}

fn loss(sam: &Sam, images: &Tensor) -> Tensor {
    let mut total = Tensor::zeros((), images.dtype(), &CPU).unwrap();
    for (seed, output) in outputs(sam, images).unwrap().iter().enumerate() {
        let weights = random(output.dims(), 2000 + seed as u64, output.dtype());
        total = (total + (output * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    total
}

#[test]
fn every_weight_has_the_gradient_of_finite_differences() {
    let (sam, mut variables) = trainable(DType::F64);
    let images = random(&[1, 3, 16, 20], 500, DType::F64);
    let gradients = loss(&sam, &images).backward().unwrap();
    variables.retain(|(name, variable)| {
        let trained = !name.ends_with("positional_encoding_gaussian_matrix");
        assert!(trained || gradients.get(variable).is_none(), "{name} is not trained");
        trained
    });
    // The tensor library's derivative of GELU is good to six digits.
    assert_variable_gradients(&variables, 2e-5, || loss(&sam, &images));
}

/// The same weights, not to be trained.
fn fixed(variables: &[(String, Var)]) -> Sam {
    let tensors = variables.iter().map(|(name, v)| (name.clone(), v.as_detached_tensor())).collect();
    Sam::new(tiny(), VarBuilder::from_tensors(tensors, DType::F32, &CPU)).unwrap()
}

fn assert_close(what: &str, ours: &[Tensor], expected: &[Tensor], tolerance: f32) {
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().zip(expected) {
        assert_eq!(ours.dims(), expected.dims(), "{what}");
        let difference = (ours.detach() - expected.detach()).unwrap().abs().unwrap().flatten_all().unwrap();
        let largest = difference.to_vec1::<f32>().unwrap().into_iter().fold(0.0, f32::max);
        assert!(largest <= tolerance, "{what}: {largest}");
    }
}

#[test]
fn inference_agrees_with_training() {
    let (trained, variables) = trainable(DType::F32);
    let images = random(&[2, 3, 20, 12], 501, DType::F32);
    let expected = outputs(&trained, &images).unwrap();
    let sam = fixed(&variables);
    assert_close("fused", &outputs(&sam, &images).unwrap(), &expected, 1e-4);
    // Pixels that come in another order in memory.
    let turned = images.permute((2, 3, 0, 1)).unwrap().contiguous().unwrap().permute((2, 3, 0, 1)).unwrap();
    assert!(!turned.is_contiguous());
    assert_close("strided", &outputs(&sam, &turned).unwrap(), &expected, 1e-4);
    // The images of a batch do not see each other.
    let alone = outputs(&sam, &images.narrow(0, 1, 1).unwrap()).unwrap();
    assert_close("second image", &alone, &expected[expected.len() / 2..], 1e-4);
}

#[test]
fn the_number_of_threads_does_not_change_the_result() {
    let (_, variables) = trainable(DType::F32);
    let (sam, images) = (fixed(&variables), random(&[2, 3, 48, 40], 502, DType::F32));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| outputs(&sam, &images).unwrap())
    };
    let one = with(1);
    for threads in [2, 5] {
        assert_close("threads", &with(threads), &one, 1e-5);
    }
}
