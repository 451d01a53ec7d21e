//! The default propagator by image size and number of points, beside a plain vote of all points at all pixels.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use coral_core::image::RgbImage;
use coral_core::ndarray::Array3;
use coral_core::{LabelMap, PointLabel, PointPropagator, Size};
use coral_io::{SyntheticReef, SyntheticReefConfig};
use coral_weak::{DefaultPropagator, grid_points, lab_image};

/// Every point votes at every pixel with a Gaussian of the distance in position and in colour.
fn naive_vote(image: &RgbImage, points: &[PointLabel]) -> LabelMap {
    let lab: Array3<f32> = lab_image(image);
    let reach = (0.5 * (lab.len() / 3) as f32 / points.len() as f32).sqrt();
    LabelMap::from_shape_fn(Size::of(image).shape(), |(y, x)| {
        let mut votes = [0.0_f32; 256];
        for p in points {
            let (px, py) = (p.x as usize, p.y as usize);
            let position = (p.x as f32 - x as f32).powi(2) + (p.y as f32 - y as f32).powi(2);
            let color: f32 = (0..3).map(|c| (lab[[c, y, x]] - lab[[c, py, px]]).powi(2)).sum();
            votes[usize::from(p.class)] += (-position / (2.0 * reach * reach) - color / 200.0).exp();
        }
        (0..=254).max_by(|&a, &b| votes[usize::from(a)].total_cmp(&votes[usize::from(b)])).unwrap_or(0)
    })
}

fn gaussian_process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gaussian_process");
    group.sample_size(10);
    for side in [256, 512, 1024] {
        let size = Size { width: side, height: side };
        let reef = SyntheticReef::new(SyntheticReefConfig { size, ..Default::default() }).unwrap();
        let scene = reef.generate(1);
        for k in [5, 10, 17] {
            let points = grid_points(&scene.labels, k);
            let id = |name: &str| BenchmarkId::new(name, format!("{side}x{side}/{}", k * k));
            let propagator = DefaultPropagator::default();
            group.bench_function(id("default"), |b| b.iter(|| propagator.propagate(&scene.image, &points).unwrap()));
            // Left out at the largest size, to keep the run short.
            if side <= 512 {
                group.bench_function(id("naive_vote"), |b| b.iter(|| naive_vote(&scene.image, &points)));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, gaussian_process);
criterion_main!(benches);
