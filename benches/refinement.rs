//! What sharpens coarse maps, by image size: the prompts of SAMRefiner, pixel-adaptive refinement and the dense conditional
//! random field for 5 classes, each beside a plain version.
//!
//! `cargo bench --bench refinement -- --quick` gives a first impression in a minute.

use std::hint::black_box;

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Array3};
use coral_core::{ProbMap, Size};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_weak::{
    ClassRefinementConfig, ColorSegmenter, ColorSegmenterConfig, DenseCrfConfig, MaskFrame, PixelAdaptiveConfig,
    SamRefiner, SamRefinerConfig, dense_crf, pixel_adaptive, refine_classes, refiner_mask_logits, refiner_prompts,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const CLASSES: usize = 5;

/// A reef, and a map of it in blocks of 16 pixels.
fn scene(side: u32) -> (RgbImage, Array2<u8>) {
    let size = Size { width: side, height: side };
    let scene = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() }).unwrap().generate(1);
    let middle = |v: usize| (v / 16 * 16 + 8).min(side as usize - 1);
    let coarse = Array2::from_shape_fn(size.shape(), |(y, x)| scene.labels[[middle(y), middle(x)]] % CLASSES as u8);
    (scene.image, coarse)
}

fn probabilities(labels: &Array2<u8>) -> ProbMap {
    let (height, width) = labels.dim();
    Array3::from_shape_fn(
        (CLASSES, height, width),
        |(class, y, x)| {
            if usize::from(labels[[y, x]]) == class { 0.6 } else { 0.1 }
        },
    )
}

fn planes(image: &RgbImage) -> Array3<f32> {
    let (height, width) = Size::of(image).shape();
    Array3::from_shape_fn((3, height, width), |(c, y, x)| f32::from(image.get_pixel(x as u32, y as u32).0[c]))
}

/// The pixel with the greatest distance to all pixels outside.
fn naive_deepest(mask: &Array2<bool>) -> Option<(usize, usize)> {
    let outside: Vec<_> = mask.indexed_iter().filter(|(_, inside)| !**inside).map(|(at, _)| at).collect();
    let depth = |(y, x): (usize, usize)| outside.iter().map(|p| p.0.abs_diff(y).pow(2) + p.1.abs_diff(x).pow(2)).min();
    mask.indexed_iter().filter(|(_, inside)| **inside).map(|(at, _)| at).max_by_key(|&at| depth(at))
}

fn prompts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sam_refiner");
    group.sample_size(10);
    let config = SamRefinerConfig::default();
    for side in [128, 256, 512, 1024] {
        let (image, labels) = scene(side);
        let mask = labels.mapv(|label| label == labels[[side as usize / 2, side as usize / 2]]);
        group.bench_function(BenchmarkId::new("prompts", side), |b| {
            b.iter(|| refiner_prompts(black_box(mask.view()), &config).unwrap());
        });
        let prompts = refiner_prompts(mask.view(), &config).unwrap().unwrap();
        group.bench_function(BenchmarkId::new("mask_logits", side), |b| {
            b.iter(|| refiner_mask_logits(black_box(mask.view()), &prompts, 30.0, MaskFrame::SAM).unwrap());
        });
        if side <= 128 {
            group.bench_function(BenchmarkId::new("naive_point", side), |b| b.iter(|| naive_deepest(black_box(&mask))));
        }
        let segmenter = ColorSegmenter::new(ColorSegmenterConfig::default()).unwrap();
        let refiner = SamRefiner::new(segmenter, config).unwrap();
        let classes = ClassRefinementConfig::of([labels[[0, 0]]]);
        group.bench_function(BenchmarkId::new("class_by_colors", side), |b| {
            b.iter(|| refine_classes(&refiner, black_box(&image), &labels, &classes).unwrap());
        });
    }
    group.finish();
}

/// The weights of all neighbours pixel by pixel, then all iterations.
fn naive_pixel_adaptive(image: &Array3<f32>, map: &ProbMap, config: &PixelAdaptiveConfig) -> ProbMap {
    let (channels, height, width) = image.dim();
    let ring = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx))).filter(|&offset| offset != (0, 0));
    let ring: Vec<(isize, isize)> = ring.collect();
    let offsets: Vec<_> =
        config.dilations.iter().flat_map(|&d| ring.iter().map(move |o| (o.0 * d as isize, o.1 * d as isize))).collect();
    let clamp = |at: usize, by: isize, end: usize| at.saturating_add_signed(by).min(end - 1);
    let mut weights = Vec::with_capacity(height * width * offsets.len());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let start = weights.len();
        weights.resize(start + offsets.len(), 0.0_f32);
        for c in 0..channels {
            let around: Vec<f32> =
                offsets.iter().map(|o| image[[c, clamp(y, o.0, height), clamp(x, o.1, width)]]).collect();
            let mean = around.iter().sum::<f32>() / around.len() as f32;
            let variance = around.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / (around.len() - 1) as f32;
            for (weight, value) in weights[start..].iter_mut().zip(&around) {
                *weight -= ((value - image[[c, y, x]]) / (variance.sqrt() + 1e-8) / config.sigma).powi(2) / 3.0;
            }
        }
        let sum: f32 = weights[start..].iter().map(|weight| weight.exp()).sum();
        weights[start..].iter_mut().for_each(|weight| *weight = weight.exp() / sum);
    }
    let mut current = map.clone();
    for _ in 0..config.iterations {
        current = Array3::from_shape_fn(map.dim(), |(class, y, x)| {
            let weights = &weights[(y * width + x) * offsets.len()..][..offsets.len()];
            let near = offsets.iter().map(|o| current[[class, clamp(y, o.0, height), clamp(x, o.1, width)]]);
            weights.iter().zip(near).map(|(weight, value)| weight * value).sum()
        });
    }
    current
}

fn adaptive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pixel_adaptive");
    group.sample_size(10);
    let config = PixelAdaptiveConfig::default();
    for side in [256, 512, 1024] {
        let (image, labels) = scene(side);
        let (image, map) = (planes(&image), probabilities(&labels));
        group.bench_function(BenchmarkId::new("coral", side), |b| {
            b.iter(|| pixel_adaptive(black_box(image.view()), &map, &config).unwrap());
        });
        if side <= 256 {
            group.bench_function(BenchmarkId::new("naive", side), |b| {
                b.iter(|| naive_pixel_adaptive(black_box(&image), &map, &config));
            });
        }
    }
    group.finish();
}

/// The mean field with sums over all pairs of pixels, of the appearance alone.
fn naive_crf(image: &RgbImage, map: &ProbMap, config: &DenseCrfConfig) -> Vec<[f32; CLASSES]> {
    let pixels: Vec<[f32; 5]> = image
        .enumerate_pixels()
        .map(|(x, y, color)| {
            let [r, g, b] = color.0.map(|level| f32::from(level) / config.color_sigma);
            [x as f32 / config.position_sigma, y as f32 / config.position_sigma, r, g, b]
        })
        .collect();
    let kernel = |a: &[f32; 5], b: &[f32; 5]| (-a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 2.0).exp();
    let width = image.width() as usize;
    let unary: Vec<[f32; CLASSES]> =
        (0..pixels.len()).map(|i| std::array::from_fn(|class| map[[class, i / width, i % width]].ln())).collect();
    let softmax = |logits: [f32; CLASSES]| {
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        logits.map(|logit| logit.exp() / sum)
    };
    let mut beliefs: Vec<_> = unary.iter().map(|&logits| softmax(logits)).collect();
    for _ in 0..config.iterations {
        let update = |(pixel, logits): (&[f32; 5], &[f32; CLASSES])| {
            let (mut sums, mut total) = ([0.0; CLASSES], 0.0);
            for (other, belief) in pixels.iter().zip(&beliefs) {
                let weight = kernel(pixel, other);
                total += weight;
                sums.iter_mut().zip(belief).for_each(|(sum, belief)| *sum += weight * belief);
            }
            softmax(std::array::from_fn(|class| logits[class] + config.appearance_weight * sums[class] / total))
        };
        beliefs = pixels.iter().zip(&unary).map(update).collect();
    }
    beliefs
}

fn crf(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dense_crf");
    group.sample_size(10);
    let config = DenseCrfConfig::default();
    for side in [64, 256, 512, 1024] {
        let (image, labels) = scene(side);
        let map = probabilities(&labels);
        group.bench_function(BenchmarkId::new("coral", side), |b| {
            b.iter(|| dense_crf(black_box(&image), &map, &config).unwrap());
        });
        if side <= 64 {
            group.bench_function(BenchmarkId::new("naive", side), |b| {
                b.iter(|| naive_crf(black_box(&image), &map, &config));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, prompts, adaptive, crf);
criterion_main!(benches);
