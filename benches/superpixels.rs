//! Superpixels by image size, beside a straightforward SLIC, and superpixel propagators.

use std::hint::black_box;

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, Array3};
use coral_core::{PointLabel, PointPropagator, SeededRng, Size};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_weak::{
    MultiLevelConfig, MultiLevelPropagator, SlicConfig, SuperpixelConfig, SuperpixelPropagator, lab_image, slic,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Blobs of colour with noise: edges at every scale, so that no iteration is spared.
fn picture(side: u32) -> RgbImage {
    let mut rng = SeededRng::new(1);
    let blobs: Vec<(f64, f64, [f64; 3])> =
        (0..60).map(|_| (rng.uniform(), rng.uniform(), std::array::from_fn(|_| rng.range(20.0, 210.0)))).collect();
    RgbImage::from_fn(side, side, |x, y| {
        let (x, y) = (f64::from(x) / f64::from(side), f64::from(y) / f64::from(side));
        let distance = |blob: &&(f64, f64, [f64; 3])| (blob.0 - x).powi(2) + (blob.1 - y).powi(2);
        let nearest = blobs.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let color = nearest.map_or([0.0; 3], |blob| blob.2);
        Rgb(color.map(|level| (level + 12.0 * rng.normal()) as u8))
    })
}

/// SLIC as its paper writes it, centre by centre, without connectivity.
fn naive_slic(lab: &Array3<f32>, segments: usize) -> Array2<u32> {
    let (_, height, width) = lab.dim();
    let step = ((height * width) as f32 / segments as f32).sqrt();
    let color = |y: usize, x: usize| [lab[[0, y, x]], lab[[1, y, x]], lab[[2, y, x]]];
    let along = |pixels: usize| (0..).map(|i| ((i as f32 + 0.5) * step) as usize).take_while(move |&at| at < pixels);
    let mut centers: Vec<[f32; 5]> = along(height)
        .flat_map(|y| along(width).map(move |x| (y, x)))
        .map(|(y, x)| [color(y, x)[0], color(y, x)[1], color(y, x)[2], x as f32, y as f32])
        .collect();
    let mut labels = Array2::zeros((height, width));
    for _ in 0..10 {
        let mut best = Array2::from_elem((height, width), f32::INFINITY);
        for (id, c) in centers.iter().enumerate() {
            let range = |at: f32, pixels: usize| (at - step).max(0.0) as usize..((at + step) as usize + 1).min(pixels);
            for y in range(c[4], height) {
                for x in range(c[3], width) {
                    let p = color(y, x);
                    let d_color: f32 = (0..3).map(|i| (p[i] - c[i]).powi(2)).sum();
                    let d_place = (x as f32 - c[3]).powi(2) + (y as f32 - c[4]).powi(2);
                    let distance = d_color + d_place * (10.0 / step).powi(2);
                    if distance < best[[y, x]] {
                        (best[[y, x]], labels[[y, x]]) = (distance, id as u32);
                    }
                }
            }
        }
        let mut sums = vec![([0.0f32; 5], 0.0f32); centers.len()];
        for ((y, x), &id) in labels.indexed_iter() {
            let (sum, count) = &mut sums[id as usize];
            let p = color(y, x);
            [p[0], p[1], p[2], x as f32, y as f32].iter().zip(sum).for_each(|(value, sum)| *sum += value);
            *count += 1.0;
        }
        for (center, (sum, count)) in centers.iter_mut().zip(sums).filter(|(_, (_, count))| *count > 0.0) {
            *center = sum.map(|value| value / count);
        }
    }
    labels
}

fn superpixels(c: &mut Criterion) {
    let mut group = c.benchmark_group("slic");
    group.sample_size(10);
    for side in [256, 512, 1024] {
        let image = picture(side);
        group.throughput(Throughput::Elements(u64::from(side) * u64::from(side)));
        group
            .bench_with_input(BenchmarkId::new("lab", side), &image, |b, image| b.iter(|| lab_image(black_box(image))));
        let config = SlicConfig { tolerance: 0.0, ..Default::default() };
        group.bench_with_input(BenchmarkId::new("slic", side), &image, |b, image| {
            b.iter(|| slic(black_box(image), &config));
        });
        // As a user has it: a reef, and no more iterations than it takes.
        let size = Size { width: side, height: side };
        let reef = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() }).unwrap().generate(1).image;
        group.bench_with_input(BenchmarkId::new("default_on_reef", side), &reef, |b, image| {
            b.iter(|| slic(black_box(image), &SlicConfig::default()).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("naive", side), &image, |b, image| {
            b.iter(|| naive_slic(&lab_image(black_box(image)), config.segments as usize));
        });
    }
    group.finish();
}

fn propagators(c: &mut Criterion) {
    let mut group = c.benchmark_group("superpixel_propagators_512_300_points");
    group.sample_size(10);
    let image = picture(512);
    let mut rng = SeededRng::new(4);
    let points: Vec<_> = rng
        .sample_indices(512 * 512, 300)
        .into_iter()
        .enumerate()
        .map(|(i, at)| PointLabel { x: (at % 512) as u32, y: (at / 512) as u32, class: (i % 9) as u8 })
        .collect();
    let methods: [(&str, Box<dyn PointPropagator>); 3] = [
        ("single", Box::new(SuperpixelPropagator::new(SuperpixelConfig::default()).expect("valid settings"))),
        ("multi_level_15", Box::new(MultiLevelPropagator::new(MultiLevelConfig::default()).expect("valid settings"))),
        ("fast_mss_15", Box::new(MultiLevelPropagator::new(MultiLevelConfig::fast_mss()).expect("valid settings"))),
    ];
    for (name, method) in &methods {
        group.bench_function(*name, |b| b.iter(|| method.propagate(black_box(&image), black_box(&points))));
    }
    group.finish();
}

criterion_group!(benches, superpixels, propagators);
criterion_main!(benches);
