use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::testing::GoldenCase;

use super::{Block, TinyVit, TinyVitConfig};
use crate::sam::preprocess::resize_and_pad;

const CPU: Device = Device::Cpu;

fn open() -> (GoldenCase, TinyVit) {
    let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "mobilesam_tiny").unwrap();
    let weights = candle_core::safetensors::load(case.dir().join("weights.safetensors"), &CPU).unwrap();
    let shape = |name: &str| weights.get(&format!("image_encoder.{name}")).map(|t| t.dims().to_vec());
    let config = TinyVitConfig::from_shapes(&shape).unwrap();
    let list = |name: &str| -> Vec<usize> {
        let list = case.value(&format!("/config/{name}")).unwrap().as_array().unwrap();
        list.iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    assert_eq!(list("embed_dims"), config.dims);
    assert_eq!(list("depths"), config.depths);
    assert_eq!(list("num_heads")[1..], config.heads);
    assert_eq!(list("window_sizes")[1..], config.windows);
    let neck = case.number("/config/neck_chans").unwrap() as usize;
    let vb = VarBuilder::from_tensors(weights, DType::F32, &CPU).pp("image_encoder");
    (case, TinyVit::new(&config, neck, &vb).unwrap())
}

fn expected(case: &GoldenCase, name: &str) -> Tensor {
    let array = case.f32(name).unwrap();
    Tensor::from_vec(array.iter().copied().collect::<Vec<_>>(), array.shape(), &CPU).unwrap()
}

fn assert_close(what: &str, ours: &Tensor, expected: &Tensor) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (i, (a, e)) in list(ours).into_iter().zip(list(expected)).enumerate() {
        assert!((a - e).abs() <= 2e-4 + 1e-4 * e.abs(), "{what}: value {i} is {a}, expected {e}");
    }
}

/// Every second row and column, N×C×H×W.
fn halved(tokens: &Tensor) -> Tensor {
    let (_, height, width, _) = tokens.dims4().unwrap();
    let even = |size: usize| Tensor::from_vec((0..size as u32).step_by(2).collect(), size.div_ceil(2), &CPU).unwrap();
    let rows = tokens.index_select(&even(height), 1).unwrap();
    rows.index_select(&even(width), 2).unwrap().permute((0, 3, 1, 2)).unwrap()
}

/// Compares with the reference values of that layer, in whichever form the case has them; false if it has none.
fn check(case: &GoldenCase, layer: &str, tokens: &Tensor) -> bool {
    let names = case.tensor_names().unwrap();
    let thinned = format!("{layer}_stride2");
    if names.contains(&thinned) {
        assert_close(&thinned, &halved(tokens), &expected(case, &thinned));
        return true;
    }
    if !names.contains(&layer.to_owned()) {
        return false;
    }
    let reference = expected(case, layer);
    let ours = match reference.rank() {
        3 => tokens.flatten(1, 2).unwrap(),
        _ => tokens.permute((0, 3, 1, 2)).unwrap(),
    };
    assert_close(layer, &ours, &reference);
    true
}

/// The first windows of the attention's output; queries that are padding are not computed here.
fn check_windows(case: &GoldenCase, layer: &str, window: usize, tokens: &Tensor) -> bool {
    let name = format!("{layer}_first3windows");
    if !case.tensor_names().unwrap().contains(&name) {
        return false;
    }
    let (_, height, width, _) = tokens.dims4().unwrap();
    let reference = expected(case, &name);
    for index in 0..reference.dim(0).unwrap() {
        let (top, left) = (index / width.div_ceil(window) * window, index % width.div_ceil(window) * window);
        let (rows, columns) = (window.min(height - top), window.min(width - left));
        let ours = tokens.i((0, top..top + rows, left..left + columns)).unwrap();
        let theirs = reference.get(index).unwrap().reshape((window, window, ())).unwrap();
        assert_close(&name, &ours, &theirs.i((..rows, ..columns)).unwrap());
    }
    true
}

#[test]
fn every_layer_agrees_with_the_published_program() {
    let (case, model) = open();
    let pixels = case.u8("image_u8").unwrap();
    let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
    let image = RgbImage::from_raw(width, height, pixels.iter().copied().collect()).unwrap();
    let (input, _) = resize_and_pad(&image, case.number("/config/img_size").unwrap() as u32, &CPU).unwrap();
    let windows = case.value("/config/window_sizes").unwrap();

    let mut compared = 0;
    let mut x = model.embed_patches(&input).unwrap();
    compared += usize::from(check(&case, "patch_embed", &x));
    for (s, stage) in model.stages.iter().enumerate() {
        for (b, block) in stage.blocks.iter().enumerate() {
            let name = format!("layers.{s}.blocks.{b}");
            if let Block::Attention(block) = block {
                let window = windows[s].as_u64().unwrap() as usize;
                let attended = block.attention.forward(&x).unwrap();
                compared += usize::from(check_windows(&case, &format!("{name}.attn"), window, &attended));
            }
            x = block.forward(&x).unwrap();
            compared += usize::from(check(&case, &name, &x));
        }
        if let Some(merge) = &stage.merge {
            x = merge.forward(&x).unwrap();
        }
        compared += usize::from(check(&case, &format!("layers.{s}"), &x));
    }
    let reduced = model.neck.reduce.forward(&x).unwrap();
    compared += usize::from(check(&case, "neck.0", &reduced));
    compared += usize::from(check(&case, "neck.1", &model.neck.norm1.forward(&reduced).unwrap()));
    let features = model.forward_with(&input, |_, _| Ok(())).unwrap();
    compared += usize::from(check(&case, "image_embedding", &features));
    assert_eq!(compared, case.tensor_names().unwrap().len() - 1, "all but the image");
}

fn random_model() -> TinyVit {
    let config = TinyVitConfig {
        stem_dim: 4,
        dims: [8, 12, 16, 20],
        depths: [1, 2, 1, 1],
        heads: [2, 2, 4],
        windows: [3, 5, 4],
        ..TinyVitConfig::mobile_sam()
    };
    let variables = candle_nn::VarMap::new();
    TinyVit::new(&config, 6, &VarBuilder::from_varmap(&variables, DType::F32, &CPU)).unwrap();
    let variables = variables.data().lock().unwrap();
    let mut sorted: Vec<_> = variables.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    let tensors = sorted.into_iter().enumerate().map(|(seed, (name, variable))| {
        let mut random = coral_core::SeededRng::new(seed as u64);
        let low = if name.ends_with("running_var") { 0.5 } else { -0.7 };
        let values: Vec<f32> = (0..variable.elem_count()).map(|_| random.range(low, 0.9) as f32).collect();
        let tensor = Tensor::from_vec(values, variable.shape(), &CPU).unwrap();
        (name.clone(), tensor)
    });
    let tensors = tensors.collect();
    TinyVit::new(&config, 6, &VarBuilder::from_tensors(tensors, DType::F32, &CPU)).unwrap()
}

#[test]
fn images_need_not_be_square_nor_fill_the_windows() {
    let model = random_model();
    let image = |height: usize, width: usize| {
        let mut random = coral_core::SeededRng::new(9);
        let values: Vec<f32> = (0..2 * 3 * height * width).map(|_| random.range(-2.0, 2.0) as f32).collect();
        Tensor::from_vec(values, (2, 3, height, width), &CPU).unwrap()
    };
    for (height, width) in [(16, 16), (48, 80), (112, 32)] {
        let images = image(height, width);
        let mut visited = vec![];
        let features = model
            .forward_with(&images, |index, tokens| {
                visited.push((index, tokens.dims4()?.3));
                Ok(())
            })
            .unwrap();
        assert_eq!(features.dims(), [2, height / 16, width / 16, 6]);
        assert_eq!(visited, [(0, 8), (1, 8), (2, 12), (3, 12), (4, 16), (5, 20)]);
        // The images of a batch do not see each other.
        let second = model.forward_with(&images.narrow(0, 1, 1).unwrap(), |_, _| Ok(())).unwrap();
        assert_close("second image", &second, &features.narrow(0, 1, 1).unwrap());
        // The fused operations agree with their composition.
        let tracked = candle_core::Var::from_tensor(&images).unwrap();
        let composed = model.forward_with(tracked.as_tensor(), |_, _| Ok(())).unwrap();
        assert_close("composed", &features, &composed.detach());
    }
    assert!(model.forward_with(&image(16, 24), |_, _| Ok(())).is_err());
}
