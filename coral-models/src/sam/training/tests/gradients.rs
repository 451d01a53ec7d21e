//! Gradients of the whole loss, over rounds of prompts, against small steps and against PyTorch.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use coral_core::{RleMask, SeededRng};

use super::*;
use crate::gradient_check::{assert_variable_gradients, list};
use crate::sam::config::{EncoderConfig, VitConfig};
use crate::sam::mask_decoder::MaskChoice;
use crate::sam::model::Sam;
use crate::sam::preprocess::resize_and_pad;
use crate::sam::prompt_encoder::{PointKind, Token};
use crate::sam::training::backward::{Backward, may_rest};
use crate::sam::training::config::SamPart;
use crate::sam::training::loss::{SamLoss, Shares, Truths};
use crate::sam::training::prompts::PromptRound;
use crate::sam::training::rollout::{RoundInput, Scene, Tried, Wanted};
use crate::sam::training::targets::LowResFrame;
use crate::train::Settings;
use crate::{Checkpoint, Gradients, Parameters};

const BOTH: Wanted = Wanted { masks: true, classes: true };

/// A tiny network of random weights in double precision.
fn network() -> (Parameters, Sam) {
    let config = config(SamPart::Whole);
    let (parameters, _) = Parameters::create(1, &CPU, |vb| config.build(&vb)).unwrap();
    for (seed, name) in parameters.names().enumerate() {
        let variable = parameters.get(name).unwrap();
        let mut random = SeededRng::new(seed as u64);
        let values: Vec<f32> = (0..variable.elem_count()).map(|_| random.range(-0.7, 0.8) as f32).collect();
        variable.set(&Tensor::from_vec(values, variable.shape(), &CPU).unwrap()).unwrap();
    }
    let (mut parameters, _) = parameters.converted(DType::F64, |vb| config.build(&vb)).unwrap();
    parameters.freeze(|name| !SamPart::Whole.contains(name));
    let sam = parameters.build(|vb| config.build(&vb)).unwrap();
    (parameters, sam)
}

#[test]
fn the_whole_loss_has_the_gradient_of_finite_differences() {
    let (parameters, sam) = network();
    let AnnotatedImage { image, masks } = Reef(1).get(0).unwrap();
    let size = Size::of(&image);
    let frame = LowResFrame::new(size, 20, 20).unwrap();
    let (pixels, input) = resize_and_pad(&image, 20, &CPU).unwrap();
    let pixels = pixels.to_dtype(DType::F64).unwrap();
    let truths = Truths {
        masks: masks.iter().map(|mask| frame.reduce(&mask.mask).unwrap()).collect(),
        classes: vec![1, 255, 0],
        counted: vec![true, true, false],
    };
    let prompts = PromptConfig::default();
    let prompts = masks.iter().zip(0..).map(|(mask, seed)| prompts.first_prompt(&mask.mask, 20, seed).unwrap());
    let prompts: Vec<_> = prompts.collect();
    assert!(prompts.iter().any(|prompt| prompt.rect.is_some()) && prompts.iter().any(|prompt| prompt.rect.is_none()));
    let loss = SamLoss { focal_weight: 3.0, label_smoothing: 0.1, ..SamLoss::default() };
    // What is fed back, masks and points, is taken as it is.
    let mut backward = Backward::new(&parameters, sam.encode(&pixels).unwrap()).unwrap();
    let (seen, mut inputs, mut sum) = (backward.seen.clone(), Vec::<RoundInput>::new(), 0.0);
    let scene = Scene {
        sam: &sam,
        features: &seen,
        frame: &frame,
        sizes: [size, input],
        loss: &loss,
        wanted: BOTH,
        shares: Shares { mask: 0.25, class: 0.5 },
    };
    let tried = Tried { truths: &truths, prompts, extra: None, seeds: vec![5, 6, 7] };
    let rounds = [PromptRound::First, PromptRound::Correction, PromptRound::Repeat, PromptRound::Correction];
    scene
        .roll_out(tried, &rounds, |input, part| {
            inputs.push(input.clone());
            assert_eq!((part.sums.masks, part.sums.labeled), (2, 2));
            sum += list(part.loss.as_ref().unwrap())[0];
            backward.add(part.loss.as_ref().unwrap(), "reef")
        })
        .unwrap();
    assert_eq!(inputs.iter().map(|input| input.tokens[0].len()).collect::<Vec<_>>(), [2, 3, 3, 4]);
    assert!(inputs[0].masks.is_none() && inputs[1..].iter().all(|input| input.masks.is_some()));
    let total = || {
        let features = sam.encode(&pixels).unwrap();
        let scene = Scene { features: &features, ..scene };
        let rounds = inputs.iter().map(|input| scene.round(input, &truths).unwrap().loss.loss.unwrap());
        rounds.reduce(|sum, part| (sum + part).unwrap()).unwrap()
    };
    let (value, parts) = backward.finish().unwrap();
    assert!((value - sum).abs() < 1e-12 && (value - list(&total())[0]).abs() < 1e-12);
    // Going back part by part gives what going back at once does.
    let whole = total().backward().unwrap();
    let mut variables: Vec<(String, Var)> = Vec::new();
    for (name, variable) in parameters.trainable() {
        let ours = list(&parts.get(name).unwrap());
        let expected = whole.get(variable).map_or_else(|| vec![0.0; ours.len()], list);
        let size = expected.iter().fold(1e-3, |size: f64, value| size.max(value.abs()));
        assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9 * size), "{name}");
        if !may_rest(name) || expected.iter().any(|&value| value != 0.0) {
            variables.push((name.to_owned(), variable.clone()));
        }
    }
    assert!(variables.iter().any(|(name, _)| name.starts_with("prompt_encoder.mask_downscaling.")));
    // The tensor library's derivative of GELU is good to six digits.
    assert_variable_gradients(&variables, 5e-5, total);
}

/// A file of the committed golden values: other cases of that layout have other gradients.
fn golden(file: &str) -> Checkpoint {
    Checkpoint::open(format!("{}/tests/golden/{file}.safetensors", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Everything of one tensor, as a list.
fn stored(file: &Checkpoint, name: &str) -> Vec<f32> {
    file.tensor(name, &CPU).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The prompts of a case in the frame of the network.
fn published_prompts(io: &Checkpoint, prompt: &str) -> Vec<Vec<Token>> {
    let rows = |name: String| {
        let tensor = io.contains(&name).then(|| io.tensor(&name, &CPU).unwrap());
        tensor.map(|tensor| tensor.flatten_from(1).unwrap().to_vec2::<f32>().unwrap())
    };
    let [points, labels, boxes] =
        ["point_coords", "point_labels", "boxes"].map(|part| rows(format!("{prompt}/{part}")));
    let kinds = [PointKind::Padding, PointKind::Background, PointKind::Foreground];
    let point = |(at, label): (&[f32], &f32)| Token { x: at[0], y: at[1], kind: kinds[(label + 1.0) as usize] };
    let count = points.as_ref().or(boxes.as_ref()).unwrap().len();
    let tokens = |row: usize| {
        let mut tokens: Vec<Token> = match (&points, &labels) {
            (Some(points), Some(labels)) => points[row].chunks(2).zip(&labels[row]).map(point).collect(),
            _ => vec![],
        };
        match &boxes {
            Some(boxes) => tokens.extend([
                Token { x: boxes[row][0], y: boxes[row][1], kind: PointKind::TopLeft },
                Token { x: boxes[row][2], y: boxes[row][3], kind: PointKind::BottomRight },
            ]),
            None => tokens.push(Token { x: 0.0, y: 0.0, kind: PointKind::Padding }),
        }
        tokens
    };
    (0..count).map(tokens).collect()
}

/// What a case says of its network and its prompts.
fn about(case: &str) -> serde_json::Value {
    let path = format!("{}/tests/golden/{case}/case.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap()["config"].clone()
}

fn number(value: &serde_json::Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// The network of the case in double precision.
fn published_network() -> (Parameters, Sam) {
    let (checkpoint, about) = (golden("coralscop_tiny/weights"), about("coralscop_tiny"));
    let config = SamConfig::from_checkpoint(&checkpoint).unwrap();
    let EncoderConfig::Vit(vit) = config.encoder.clone() else { panic!("{:?}", config.encoder) };
    let global_layers = about["glob"].as_array().unwrap().iter().map(number).collect();
    let vit = VitConfig { window: number(&about["window"]), global_layers, ..vit };
    let decoder_heads = number(&about["dec_heads"]);
    let config = SamConfig { encoder: EncoderConfig::Vit(vit), decoder_heads, ..config };
    let build = |vb: candle_nn::VarBuilder<'_>| Sam::build(config.clone(), &vb);
    let (parameters, _) = Parameters::load(&checkpoint, &CPU, &[], build).unwrap();
    let (mut parameters, _) = parameters.converted(DType::F64, build).unwrap();
    parameters.freeze(|name| !SamPart::Whole.contains(name));
    let sam = parameters.build(build).unwrap();
    (parameters, sam)
}

/// The photograph of the case, before it is resized.
fn published_image(io: &Checkpoint) -> RgbImage {
    let (rows, columns, _) = io.tensor("image_u8", &CPU).unwrap().dims3().unwrap();
    let levels = stored(io, "image_u8").into_iter().map(|level| level as u8).collect();
    RgbImage::from_raw(columns as u32, rows as u32, levels).unwrap()
}

#[test]
fn gradients_are_those_of_pytorch() {
    let (io, expected) = (golden("coralscop_tiny/io"), golden("coralscop_tiny_gradients/io"));
    let (parameters, sam) = published_network();
    let (image, side) = (published_image(&io), sam.config().image_size);
    let (pixels, input) = resize_and_pad(&image, side as u32, &CPU).unwrap();
    let features = sam.encode(&pixels.to_dtype(DType::F64).unwrap()).unwrap();
    let low_res = 4 * side / sam.config().token_pixels();
    let frame = LowResFrame::new(Size::of(&image), side as u32, low_res as u32).unwrap();

    let mut backward = Backward::new(&parameters, features).unwrap();
    let seen = backward.seen.clone();
    let case = about("coralscop_tiny_gradients");
    let mut losses = Vec::new();
    for (round, about) in case["rounds"].as_object().unwrap() {
        let prompt = about["prompts"].as_str().unwrap();
        let tokens = published_prompts(&io, prompt);
        let truths = expected.tensor(&format!("truths_{round}"), &CPU).unwrap().to_vec3::<f32>().unwrap();
        let mask = |rows: &Vec<Vec<f32>>| RleMask::from_fn(frame.valid(), |x, y| rows[y as usize][x as usize] > 0.5);
        let classes: Vec<u8> =
            stored(&expected, &format!("classes_{round}")).iter().map(|&class| class as u8).collect();
        let labeled = classes.iter().filter(|&&class| class != 255).count();
        let shares = Shares { mask: 0.5 / tokens.len() as f64, class: 0.5 / labeled as f64 };
        let truths = Truths { masks: truths.iter().map(mask).collect(), classes, counted: vec![true; tokens.len()] };
        let name = format!("{prompt}/mask_input");
        let masks = io.contains(&name).then(|| io.tensor(&name, &CPU).unwrap().squeeze(1).unwrap());
        let masks = masks.map(|masks| masks.to_dtype(DType::F64).unwrap());
        let choice = if about["multimask"] == true { MaskChoice::Multiple } else { MaskChoice::Single };
        let input_of_round = RoundInput { tokens, masks, extra: None, choice, draw: true };
        let loss = SamLoss::default();
        let sizes = [Size::of(&image), input];
        let scene = Scene { sam: &sam, features: &seen, frame: &frame, sizes, loss: &loss, wanted: BOTH, shares };
        let loss = scene.round(&input_of_round, &truths).unwrap().loss.loss.unwrap();
        losses.push(list(&loss)[0]);
        backward.add(&loss, "reef").unwrap();
    }
    for (ours, published) in losses.iter().zip(stored(&expected, "loss")) {
        assert!((ours / f64::from(published) - 1.0).abs() < 1e-5, "{ours}, published {published}");
    }
    let (_, gradients) = backward.finish().unwrap();
    compare(&gradients, &expected, number(&case["samples"]));
}

/// Compares every gradient at `samples` places, and its norm.
fn compare(gradients: &Gradients, expected: &Checkpoint, samples: usize) {
    let mut worst = BTreeMap::new();
    for name in gradients.names() {
        let ours = list(&gradients.get(name).unwrap());
        let published = stored(expected, &format!("grad/{name}"));
        let step = ours.len().div_ceil(samples);
        assert_eq!(ours.iter().step_by(step).count(), published.len(), "{name}");
        let size = ours.iter().fold(5e-3, |size: f64, value| size.max(value.abs()));
        let errors = ours.iter().step_by(step).zip(&published).map(|(a, &b)| (a - f64::from(b)).abs() / size);
        let norm = ours.iter().map(|value| value * value).sum::<f64>().sqrt();
        let norm = (norm - f64::from(stored(expected, &format!("norm/{name}"))[0])).abs() / (size + norm);
        worst.insert(name, errors.fold(norm, f64::max));
    }
    let published = expected.names().filter(|name| name.starts_with("grad/")).count();
    assert_eq!(worst.len(), published);
    let (name, error) = worst.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    assert!(*error < 1e-4, "{name}: {error}");
}
