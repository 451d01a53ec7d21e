//! A whole network of variables: gradients, and agreement of the fused operations with the composed ones.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use coral_core::ndarray::{Array2, array};

use super::config::{ClipActivation, ClipConfig, ClipImageConfig, ClipTextConfig};
use super::image_tower::ClipDense;
use super::model::Clip;
use crate::gradient_check::{self, assert_variable_gradients};

const CPU: Device = Device::Cpu;
const OPENAI: &str = "visual.class_embedding";
const TRANSFORMERS: &str = "vision_model.embeddings.class_embedding";

fn tiny(activation: ClipActivation) -> ClipConfig {
    let image = ClipImageConfig { image_size: 12, patch: 4, width: 12, layers: 2, heads: 2, mlp_width: 10 };
    let text = ClipTextConfig { context_length: 7, vocab_size: 9, width: 8, layers: 2, heads: 4, mlp_width: 11 };
    ClipConfig { image: Some(image), text: Some(text), embed_dim: 6, activation }
}

fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    (gradient_check::random(shape, seed) * 0.5).unwrap().to_dtype(dtype).unwrap()
}

/// The tiny network with random variables, by name: those of `transformers` where `first` is one of them.
fn trainable(activation: ClipActivation, dtype: DType, first: &str) -> (Clip, Vec<(String, Var)>) {
    let map = VarMap::new();
    let weights = VarBuilder::from_varmap(&map, dtype, &CPU);
    weights.get(12, first).unwrap();
    let clip = Clip::new(tiny(activation), weights).unwrap();
    let mut variables: Vec<_> = map.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    for (seed, (_, variable)) in variables.iter().enumerate() {
        variable.set(&random(variable.dims(), seed as u64, dtype)).unwrap();
    }
    (clip, variables)
}

fn texts() -> Array2<u32> {
    array![[7, 1, 8, 0, 0, 0], [7, 2, 3, 4, 5, 8], [7, 8, 8, 6, 0, 0]]
}

/// Everything the network says of images and texts.
fn outputs(clip: &Clip, images: &Tensor) -> Vec<Tensor> {
    let (image, text) = (clip.encode_image_tensor(images).unwrap(), clip.encode_token_ids(&texts()).unwrap());
    let dense = [ClipDense::Values, ClipDense::Tokens].map(|kind| clip.dense_features(images, kind).unwrap());
    let tokens = [clip.image_tokens(images).unwrap(), clip.text_tokens(&texts()).unwrap()];
    let logits = clip.logits(&image, &text).unwrap();
    [vec![image, text, logits], dense.to_vec(), tokens.to_vec()].concat()
}

fn loss(clip: &Clip, images: &Tensor) -> Tensor {
    let mut total = Tensor::zeros((), images.dtype(), &CPU).unwrap();
    for (seed, output) in outputs(clip, images).iter().enumerate() {
        let weights = random(output.dims(), 2000 + seed as u64, output.dtype());
        total = (total + (output * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    total
}

#[test]
fn every_weight_has_the_gradient_of_finite_differences() {
    // The tensor library's derivative of GELU is good to six digits.
    for (activation, first, size, tolerance) in
        [(ClipActivation::QuickGelu, OPENAI, [8, 16], 1e-6), (ClipActivation::Gelu, TRANSFORMERS, [12, 12], 2e-5)]
    {
        let (clip, variables) = trainable(activation, DType::F64, first);
        assert!(variables.iter().any(|(name, _)| name == first));
        let images = random(&[2, 3, size[0], size[1]], 500, DType::F64);
        assert_variable_gradients(&variables, tolerance, || loss(&clip, &images));
    }
}

/// The same weights, not to be trained.
fn fixed(activation: ClipActivation, variables: &[(String, Var)]) -> Clip {
    let tensors = variables.iter().map(|(name, v)| (name.clone(), v.as_detached_tensor())).collect();
    Clip::new(tiny(activation), VarBuilder::from_tensors(tensors, DType::F32, &CPU)).unwrap()
}

fn assert_close(what: &str, ours: &[Tensor], expected: &[Tensor], tolerance: f32) {
    assert_eq!(ours.len(), expected.len());
    for (index, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert_eq!(ours.dims(), expected.dims(), "{what}");
        let difference = (ours.detach() - expected.detach()).unwrap().abs().unwrap().flatten_all().unwrap();
        let largest = difference.to_vec1::<f32>().unwrap().into_iter().fold(0.0, f32::max);
        assert!(largest <= tolerance, "{what} {index}: {largest}");
    }
}

#[test]
fn inference_agrees_with_training() {
    for activation in [ClipActivation::QuickGelu, ClipActivation::Gelu] {
        let (trained, variables) = trainable(activation, DType::F32, OPENAI);
        let images = random(&[2, 3, 20, 12], 501, DType::F32);
        let expected = outputs(&trained, &images);
        assert_close("fused", &outputs(&fixed(activation, &variables), &images), &expected, 1e-4);
    }
}

#[test]
fn the_images_of_a_batch_do_not_see_each_other() {
    let (_, variables) = trainable(ClipActivation::QuickGelu, DType::F32, OPENAI);
    let (clip, images) = (fixed(ClipActivation::QuickGelu, &variables), random(&[3, 3, 12, 12], 502, DType::F32));
    let all = clip.encode_image_tensor(&images).unwrap();
    for i in 0..3 {
        let alone = clip.encode_image_tensor(&images.narrow(0, i, 1).unwrap()).unwrap();
        assert_close("alone", &[alone], &[all.narrow(0, i, 1).unwrap()], 1e-5);
    }
}

#[test]
fn values_depend_on_their_own_place_alone() {
    let config = ClipConfig {
        image: tiny(ClipActivation::Gelu).image.map(|image| ClipImageConfig { layers: 1, ..image }),
        ..tiny(ClipActivation::Gelu)
    };
    let (_, clip) = crate::Parameters::create(3, &CPU, |vb| Ok(Clip::new(config, vb).unwrap())).unwrap();
    let image = random(&[1, 3, 12, 12], 503, DType::F32);
    // Only the pixels of the patch in row 0, column 1 change.
    let other = Tensor::cat(
        &[
            &image.narrow(3, 0, 4).unwrap(),
            &image.narrow(3, 4, 4).unwrap().affine(-1.0, 0.3).unwrap(),
            &image.narrow(3, 8, 4).unwrap(),
        ],
        3,
    );
    let rows = |t: &Tensor, from: usize, len: usize| t.narrow(2, from, len).unwrap();
    let other = Tensor::cat(&[&rows(&other.unwrap(), 0, 4), &rows(&image, 4, 8)], 2).unwrap();
    let changed = |kind: ClipDense| {
        let [a, b] = [&image, &other].map(|image| clip.dense_features(image, kind).unwrap().detach());
        let distance = (a - b).unwrap().abs().unwrap().sum(3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        distance.iter().map(|d| *d > 1e-6).collect::<Vec<_>>()
    };
    let own = (0..9).map(|cell| cell == 1).collect::<Vec<_>>();
    assert_eq!(changed(ClipDense::Values), own);
    assert_eq!(changed(ClipDense::Tokens), [true; 9]);
}
