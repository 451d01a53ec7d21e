//! Segment Anything on photographs of 1024×683 pixels, beside candle-transformers with the same random weights.

use std::hint::black_box;

use candle_transformers::models::segment_anything::sam::Sam as RivalSam;
use coral_benches::{builder, clicks, photograph, planes, rival_sam, sam_weights};
use coral_models::{GeneratorConfig, MaskGenerator, Predictor, Sam, SamConfig};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};

const SIZE: (u32, u32) = (1024, 683);

/// Our network and candle-transformers' on the same weights.
fn pair(config: &SamConfig) -> (Predictor, RivalSam) {
    let weights = sam_weights(config).unwrap();
    let ours = Predictor::new(Sam::new(config.clone(), builder(&weights)).unwrap());
    (ours, rival_sam(config, &weights).unwrap())
}

fn encoders(c: &mut Criterion) {
    let image = photograph(SIZE.0, SIZE.1).unwrap();
    let tensor = planes(&image).unwrap();
    for (name, config) in [("vit_b", SamConfig::vit_b()), ("tiny_vit", SamConfig::mobile_sam())] {
        let (ours, rival) = pair(&config);
        let mut group = c.benchmark_group(format!("encode/{name}/1024x683"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.bench_function("coral", |b| b.iter(|| ours.embed(black_box(&image)).unwrap()));
        group.bench_function("candle-transformers", |b| b.iter(|| rival.embeddings(black_box(&tensor)).unwrap()));
        group.finish();
    }
}

/// Three masks a prompt at the photograph's size; candle-transformers takes one prompt at a time and leaves the masks at
/// a quarter of the size.
fn decoder(c: &mut Criterion) {
    let (ours, rival) = pair(&SamConfig::mobile_sam());
    let image = photograph(SIZE.0, SIZE.1).unwrap();
    let embedding = ours.embed(&image).unwrap();
    let features = embedding.features().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    for count in [1, 64] {
        let prompts = clicks(count, 80);
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
    let image = photograph(SIZE.0, SIZE.1).unwrap();
    let tensor = planes(&image).unwrap();
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
