//! Classical features by image size, and nearest neighbours by image size and number of points, each
//! beside a straightforward version.

use std::hint::black_box;

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, Array3, ArrayView2};
use coral_core::{FeatureExtractor, FeatureMap, LabelMap, PointLabel, PointPropagator, SeededRng, Size};
use coral_weak::{ClassicalFeatures, ClassicalFeaturesConfig, KnnConfig, KnnPropagator, Similarity, knn, lab_image};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const DIM: usize = 32;

fn picture(side: u32) -> RgbImage {
    let mut rng = SeededRng::new(1);
    RgbImage::from_fn(side, side, |x, y| {
        let base = [[40, 90, 120], [190, 170, 120], [90, 130, 60]][((8 * x / side + 8 * y / side) % 3) as usize];
        Rgb(base.map(|level: u8| level.saturating_add(rng.below(40) as u8)))
    })
}

fn features(side: u32) -> FeatureMap {
    let mut rng = SeededRng::new(2);
    let data = Array3::from_shape_simple_fn((DIM, side as usize, side as usize), || rng.range(-1.0, 1.0) as f32);
    FeatureMap { data, image_size: Size { width: side, height: side } }
}

fn points(side: u32, count: usize) -> Vec<PointLabel> {
    let mut rng = SeededRng::new(3);
    let pixels = rng.sample_indices((side * side) as usize, count);
    let at = |pixel: usize| (pixel as u32 % side, pixel as u32 / side);
    pixels.into_iter().map(at).map(|(x, y)| PointLabel { x, y, class: rng.below(20) as u8 }).collect()
}

/// Rows and columns convolved with a sampled Gaussian.
fn naive_smooth(plane: ArrayView2<'_, f32>, sigma: f32) -> Array2<f32> {
    let reach = (3.0 * sigma).ceil() as isize;
    let kernel: Vec<f32> = (-reach..=reach).map(|d| (-((d * d) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let total: f32 = kernel.iter().sum();
    let clamp =
        |at: usize, d: usize, len: usize| (at as isize + d as isize - reach).clamp(0, len as isize - 1) as usize;
    let (rows, columns) = plane.dim();
    let across = Array2::from_shape_fn((rows, columns), |(y, x)| {
        kernel.iter().enumerate().map(|(d, weight)| weight * plane[[y, clamp(x, d, columns)]]).sum::<f32>() / total
    });
    Array2::from_shape_fn((rows, columns), |(y, x)| {
        kernel.iter().enumerate().map(|(d, weight)| weight * across[[clamp(y, d, rows), x]]).sum::<f32>() / total
    })
}

/// One pixel after the other against one point after the other.
fn naive_knn(features: &FeatureMap, points: &[PointLabel]) -> LabelMap {
    let unit = |x: usize, y: usize| {
        let feature: Vec<f32> = (0..features.dim()).map(|d| features.data[[d, y, x]]).collect();
        let norm = feature.iter().map(|v| v * v).sum::<f32>().sqrt();
        feature.into_iter().map(|v| v / norm).collect::<Vec<_>>()
    };
    let known: Vec<_> = points.iter().map(|p| (unit(p.x as usize, p.y as usize), p.class)).collect();
    LabelMap::from_shape_fn(features.image_size.shape(), |(y, x)| {
        let query = unit(x, y);
        let similarity = |known: &[f32]| known.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let best = known.iter().max_by(|a, b| similarity(&a.0).total_cmp(&similarity(&b.0)));
        best.map_or(0, |(_, class)| *class)
    })
}

fn classical(c: &mut Criterion) {
    let mut group = c.benchmark_group("classical_features");
    group.sample_size(10);
    let all = ClassicalFeatures::default();
    for side in [256, 512, 1024] {
        let image = picture(side);
        group.throughput(Throughput::Elements(u64::from(side * side)));
        group.bench_function(BenchmarkId::new("all", side), |b| b.iter(|| all.extract(black_box(&image))));
    }
    let config = ClassicalFeaturesConfig::default();
    let scales = config.color_scales.clone();
    let color =
        ClassicalFeaturesConfig { deviation_scales: vec![], band_scales: vec![], gradient_scales: vec![], ..config };
    let image = picture(512);
    if let Ok(color) = ClassicalFeatures::new(color) {
        group.bench_function(BenchmarkId::new("color", 512), |b| b.iter(|| color.extract(black_box(&image))));
    }
    group.bench_function(BenchmarkId::new("color_naive", 512), |b| {
        b.iter(|| {
            let lab = lab_image(black_box(&image));
            let smooth = |scale: &f32| lab.outer_iter().map(|plane| naive_smooth(plane, *scale)).collect::<Vec<_>>();
            scales.iter().map(smooth).collect::<Vec<_>>()
        });
    });
    group.finish();
}

fn neighbours(c: &mut Criterion) {
    let mut group = c.benchmark_group("knn");
    group.sample_size(10);
    for (side, count) in [(256, 300), (512, 25), (512, 100), (512, 300), (512, 1000)] {
        let (features, points) = (features(side), points(side, count));
        group.throughput(Throughput::Elements(u64::from(side * side)));
        let variants = [
            ("cosine_1", 1, Similarity::Cosine),
            ("cosine_5", 5, Similarity::Cosine),
            ("euclidean_1", 1, Similarity::Euclidean),
        ];
        for (name, k, similarity) in variants {
            let config = KnnConfig { k, similarity, ..Default::default() };
            let id = BenchmarkId::new(name, format!("{side}px_{count}pt"));
            group.bench_function(id, |b| b.iter(|| knn(black_box(&features), &points, &config)));
        }
        if count == 300 {
            let id = BenchmarkId::new("naive_1", format!("{side}px_{count}pt"));
            group.bench_function(id, |b| b.iter(|| naive_knn(black_box(&features), &points)));
        }
    }
    let (image, points, propagator) = (picture(512), points(512, 300), KnnPropagator::default());
    group.bench_function("propagator/512px_300pt", |b| b.iter(|| propagator.propagate(black_box(&image), &points)));
    group.finish();
}

criterion_group!(benches, classical, neighbours);
criterion_main!(benches);
