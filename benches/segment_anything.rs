//! Segment Anything on photographs of 1024×683 pixels, beside candle-transformers with the same random weights.

use std::collections::HashMap;
use std::hint::black_box;

use candle_transformers::models::segment_anything::sam::Sam as RivalSam;
use coral_core::image::RgbImage;
use coral_core::{PointPrompt, Prompt, SeededRng, Size};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_models::candle_core::{DType, Device, Tensor};
use coral_models::candle_nn::{VarBuilder, VarMap};
use coral_models::{EncoderConfig, GeneratorConfig, MaskGenerator, Predictor, Sam, SamConfig};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};

/// Repeatable weights of the right size for every tensor that the network asks for.
fn random_weights(config: &SamConfig) -> HashMap<String, Tensor> {
    let variables = VarMap::new();
    Sam::new(config.clone(), VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).unwrap();
    let mut rng = SeededRng::new(1);
    let variables = variables.data().lock().unwrap();
    let mut names: Vec<_> = variables.iter().collect();
    names.sort_by_key(|(name, _)| name.as_str());
    let fill = |(name, variable): (&String, &coral_models::candle_core::Var)| {
        let shape = variable.dims();
        let spread = 1.0 / (shape.iter().skip(1).product::<usize>().max(1) as f64).sqrt();
        let norm = shape.len() == 1 && name.ends_with("weight") || name.ends_with("running_var");
        let value = |rng: &mut SeededRng| if norm { 1.0 } else { (spread * rng.normal()) as f32 };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value(&mut rng)).collect();
        (name.clone(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    names.into_iter().map(fill).collect()
}

fn builder(weights: &HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

fn photograph() -> RgbImage {
    let config = SyntheticReefConfig { size: Size { width: 1024, height: 683 }, ..Default::default() };
    SyntheticReef::new(config).unwrap().generate(1).image
}

fn planes(image: &RgbImage) -> Tensor {
    let shape = (image.height() as usize, image.width() as usize, 3);
    let pixels = Tensor::from_vec(image.as_raw().clone(), shape, &Device::Cpu).unwrap();
    pixels.permute((2, 0, 1)).unwrap().contiguous().unwrap()
}

/// Our network and candle-transformers' on the same weights.
fn pair(config: &SamConfig) -> (Predictor, RivalSam) {
    let weights = random_weights(config);
    let ours = Predictor::new(Sam::new(config.clone(), builder(&weights)).unwrap());
    let rival = match &config.encoder {
        EncoderConfig::Vit(vit) => {
            RivalSam::new(vit.dim, vit.depth, vit.heads, &vit.global_layers, builder(&weights)).unwrap()
        }
        _ => {
            let mut weights = weights;
            // It asks for the classifier of the pre-training, too, which plays no part.
            let blank = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            weights.insert("image_encoder.norm_head.weight".into(), blank(&[320]));
            weights.insert("image_encoder.norm_head.bias".into(), blank(&[320]));
            weights.insert("image_encoder.head.weight".into(), blank(&[1000, 320]));
            weights.insert("image_encoder.head.bias".into(), blank(&[1000]));
            RivalSam::new_tiny(builder(&weights)).unwrap()
        }
    };
    (ours, rival)
}

fn encoders(c: &mut Criterion) {
    let image = photograph();
    let tensor = planes(&image);
    for (name, config) in [("vit_b", SamConfig::vit_b()), ("tiny_vit", SamConfig::mobile_sam())] {
        let (ours, rival) = pair(&config);
        let mut group = c.benchmark_group(format!("encode/{name}/1024x683"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.bench_function("coral", |b| b.iter(|| ours.embed(black_box(&image)).unwrap()));
        group.bench_function("candle-transformers", |b| b.iter(|| rival.embeddings(black_box(&tensor)).unwrap()));
        group.finish();
    }
}

fn prompts(count: usize) -> Vec<Prompt> {
    let place = |i: usize| ((i % 8 * 128 + 60) as f32, (i / 8 * 80 + 40) as f32);
    let prompt = |(x, y)| Prompt { points: vec![PointPrompt { x, y, foreground: true }], ..Default::default() };
    (0..count).map(place).map(prompt).collect()
}

/// Three masks a prompt at the photograph's size; candle-transformers takes one prompt at a time and leaves the masks at
/// a quarter of the size.
fn decoder(c: &mut Criterion) {
    let (ours, rival) = pair(&SamConfig::mobile_sam());
    let image = photograph();
    let embedding = ours.embed(&image).unwrap();
    let features = embedding.features().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    for count in [1, 64] {
        let prompts = prompts(count);
        let mut group = c.benchmark_group(format!("decode/{count}/1024x683"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.bench_function("coral", |b| b.iter(|| ours.predict_batch(&embedding, black_box(&prompts)).unwrap()));
        group.bench_function("candle-transformers", |b| {
            b.iter(|| {
                for prompt in &prompts {
                    let point = prompt.points[0];
                    let places = [(f64::from(point.x) / 1024.0, f64::from(point.y) / 683.0, true)];
                    black_box(rival.forward_for_embeddings(&features, 683, 1024, &places, true).unwrap());
                }
            })
        });
        group.finish();
    }
}

fn generator(c: &mut Criterion) {
    let (ours, rival) = pair(&SamConfig::mobile_sam());
    let image = photograph();
    let tensor = planes(&image);
    let config = GeneratorConfig { points_per_side: 16, ..GeneratorConfig::sam() };
    let ours = MaskGenerator::new(ours, config).unwrap();
    let mut group = c.benchmark_group("generate/16x16/1024x683");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("coral", |b| b.iter(|| ours.generate(black_box(&image)).unwrap()));
    group.bench_function("candle-transformers", |b| {
        b.iter(|| rival.generate_masks(black_box(&tensor), 16, 0, 512.0 / 1500.0, 1).unwrap())
    });
    group.finish();
}

criterion_group!(benches, encoders, decoder, generator);
criterion_main!(benches);
