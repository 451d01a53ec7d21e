use std::collections::HashMap;

use candle_transformers::models::segment_anything::sam::Sam as RivalSam;
use coral_core::image::RgbImage;
use coral_core::{PointPrompt, Prompt, SeededRng, Size};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_models::candle_core::{DType, Device, Result, Tensor, Var};
use coral_models::candle_nn::{VarBuilder, VarMap};
use coral_models::{EncoderConfig, Sam, SamConfig};

/// Weights by their names.
pub type Weights = HashMap<String, Tensor>;

/// Repeatable weights of the right size for every tensor that a network asks for.
///
/// # Errors
/// When the network cannot be built.
pub fn random_weights<M>(build: impl FnOnce(VarBuilder<'_>) -> Result<M>) -> Result<Weights> {
    let variables = VarMap::new();
    build(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let mut rng = SeededRng::new(1);
    let variables =
        variables.data().lock().map_err(|error| coral_models::candle_core::Error::msg(error.to_string()))?;
    let mut names: Vec<_> = variables.iter().collect();
    names.sort_by_key(|(name, _)| name.as_str());
    let fill = |(name, variable): (&String, &Var)| {
        let shape = variable.dims();
        let spread = 1.0 / (shape.iter().skip(1).product::<usize>().max(1) as f64).sqrt();
        let norm = shape.len() == 1 && name.ends_with("weight") || name.ends_with("running_var");
        let value = |rng: &mut SeededRng| if norm { 1.0 } else { (spread * rng.normal()) as f32 };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value(&mut rng)).collect();
        Ok((name.clone(), Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    names.into_iter().map(fill).collect()
}

/// What hands these weights to a network.
pub fn builder(weights: &Weights) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

/// Weights of a network of the Segment Anything family.
///
/// # Errors
/// When the configuration is impossible.
pub fn sam_weights(config: &SamConfig) -> Result<Weights> {
    random_weights(|vb| Sam::new(config.clone(), vb).map_err(coral_models::candle_core::Error::wrap))
}

/// candle-transformers' network on the same weights.
///
/// # Errors
/// When it asks for other weights.
pub fn rival_sam(config: &SamConfig, weights: &Weights) -> Result<RivalSam> {
    match &config.encoder {
        EncoderConfig::Vit(vit) => RivalSam::new(vit.dim, vit.depth, vit.heads, &vit.global_layers, builder(weights)),
        _ => {
            let mut weights = weights.clone();
            // It asks for the classifier of the pre-training, too, which plays no part.
            let blank = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
            weights.insert("image_encoder.norm_head.weight".into(), blank(&[320])?);
            weights.insert("image_encoder.norm_head.bias".into(), blank(&[320])?);
            weights.insert("image_encoder.head.weight".into(), blank(&[1000, 320])?);
            weights.insert("image_encoder.head.bias".into(), blank(&[1000])?);
            RivalSam::new_tiny(builder(&weights))
        }
    }
}

/// A synthetic reef.
///
/// # Errors
/// When the size is none.
pub fn photograph(width: u32, height: u32) -> coral_core::Result<RgbImage> {
    let config = SyntheticReefConfig { size: Size { width, height }, ..Default::default() };
    Ok(SyntheticReef::new(config)?.generate(1).image)
}

/// 3×H×W bytes of a photograph, as candle-transformers takes it.
///
/// # Errors
/// None for what memory holds.
pub fn planes(image: &RgbImage) -> Result<Tensor> {
    let shape = (image.height() as usize, image.width() as usize, 3);
    Tensor::from_vec(image.as_raw().clone(), shape, &Device::Cpu)?.permute((2, 0, 1))?.contiguous()
}

/// Single clicks, eight to a row, so many pixels from row to row.
pub fn clicks(count: usize, row_height: usize) -> Vec<Prompt> {
    let place = |i: usize| ((i % 8 * 128 + 60) as f32, (i / 8 * row_height + 40) as f32);
    let prompt = |(x, y)| Prompt { points: vec![PointPrompt { x, y, foreground: true }], ..Default::default() };
    (0..count).map(place).map(prompt).collect()
}
