//! The interpolating propagators by image size and number of points, each beside a naive version.
//!
//! `cargo bench --bench interpolation -- --quick` gives a first impression in a minute.

use std::{cmp::Reverse, collections::BinaryHeap, hint::black_box};

use coral_core::{
    LabelMap, PointLabel, PointPropagator, SeededRng, Size,
    image::{Rgb, RgbImage},
};
use coral_weak::{GeodesicPropagator, InverseDistancePropagator, LinearPropagator, NearestPropagator};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Blobs of classes with a little noise, and points read from them: like a reef, neighbours often agree.
fn scene(size: Size, count: usize) -> (RgbImage, Vec<PointLabel>) {
    let mut rng = SeededRng::new(1);
    let blobs: Vec<(f64, f64)> =
        (0..40).map(|_| (rng.uniform() * f64::from(size.width), rng.uniform() * f64::from(size.height))).collect();
    let class = |x: u32, y: u32| -> u8 {
        let away = |i: &usize| (blobs[*i].0 - f64::from(x)).powi(2) + (blobs[*i].1 - f64::from(y)).powi(2);
        (0..blobs.len()).min_by(|a, b| away(a).total_cmp(&away(b))).unwrap_or(0) as u8 % 12
    };
    let points = rng
        .sample_indices(size.pixels(), count)
        .into_iter()
        .map(|pixel| (pixel as u32 % size.width, pixel as u32 / size.width))
        .map(|(x, y)| PointLabel { x, y, class: class(x, y) })
        .collect();
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        let base = 15 * class(x, y);
        Rgb([base, 200 - base, 60].map(|level| level + rng.below(30) as u8))
    });
    (image, points)
}

fn square(p: &PointLabel, x: usize, y: usize) -> f64 {
    (f64::from(p.x) - x as f64).powi(2) + (f64::from(p.y) - y as f64).powi(2)
}

fn naive_nearest(image: &RgbImage, points: &[PointLabel]) -> LabelMap {
    LabelMap::from_shape_fn(Size::of(image).shape(), |(y, x)| {
        points.iter().min_by(|a, b| square(a, x, y).total_cmp(&square(b, x, y))).map_or(255, |p| p.class)
    })
}

/// All distances sorted, the first 4 summed per class.
fn naive_inverse_distance(image: &RgbImage, points: &[PointLabel]) -> LabelMap {
    LabelMap::from_shape_fn(Size::of(image).shape(), |(y, x)| {
        let mut near: Vec<(f64, u8)> = points.iter().map(|p| (square(p, x, y), p.class)).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut sums = [0.0; 256];
        near.iter().take(4).for_each(|(square, class)| sums[usize::from(*class)] += 1.0 / square.max(0.5).powi(2));
        (0..=254).max_by(|&a, &b| sums[usize::from(a)].total_cmp(&sums[usize::from(b)])).unwrap_or(255)
    })
}

/// Looks for the triangle of every pixel among all of them.
fn naive_linear(image: &RgbImage, points: &[PointLabel]) -> LabelMap {
    let places = coral_core::ndarray::Array2::from_shape_fn((points.len(), 2), |(i, axis)| {
        f64::from([points[i].x, points[i].y][axis])
    });
    let triangles = coral_weak::delaunay_triangles(places.view()).unwrap_or_default();
    let mut labels = naive_nearest(image, points);
    for ((y, x), label) in labels.indexed_iter_mut() {
        for t in &triangles {
            let [a, b, c] = t.map(|i| points[i]);
            let side = |p: PointLabel, q: PointLabel| {
                let (px, py) = (f64::from(p.x), f64::from(p.y));
                (f64::from(q.x) - px) * (y as f64 - py) - (f64::from(q.y) - py) * (x as f64 - px)
            };
            let weights = [side(b, c), side(c, a), side(a, b)];
            if weights.iter().all(|&w| w >= 0.0) || weights.iter().all(|&w| w <= 0.0) {
                let mut sums = [0.0; 256];
                [a, b, c].iter().zip(weights).for_each(|(p, w)| sums[usize::from(p.class)] += w.abs());
                *label = [a, b, c].map(|p| p.class).into_iter().fold(a.class, |best, class| {
                    if sums[usize::from(class)] > sums[usize::from(best)] { class } else { best }
                });
                break;
            }
        }
    }
    labels
}

/// Dijkstra with a binary heap, on the unsmoothed image.
fn naive_geodesic(image: &RgbImage, points: &[PointLabel]) -> LabelMap {
    let (width, height) = (image.width(), image.height());
    let mut best = vec![f64::INFINITY; Size::of(image).pixels()];
    let mut labels = LabelMap::zeros(Size::of(image).shape());
    let mut heap: BinaryHeap<_> = points.iter().map(|p| Reverse((0, p.class, p.x, p.y))).collect();
    points.iter().for_each(|p| best[(p.y * width + p.x) as usize] = 0.0);
    while let Some(Reverse((bits, class, x, y))) = heap.pop() {
        let cost = f64::from_bits(bits);
        if cost > best[(y * width + x) as usize] {
            continue;
        }
        labels[[y as usize, x as usize]] = class;
        for v in y.saturating_sub(1)..(y + 2).min(height) {
            for u in x.saturating_sub(1)..(x + 2).min(width) {
                let length = if u != x && v != y { std::f64::consts::SQRT_2 } else { 1.0 };
                let (a, b) = (image.get_pixel(x, y).0, image.get_pixel(u, v).0);
                let difference: u32 = (0..3).map(|c| u32::from(a[c].abs_diff(b[c]))).sum();
                let reached = cost + 0.5 * length + 0.5 * f64::from(difference) / 30.0;
                let at = (v * width + u) as usize;
                if reached < best[at] {
                    best[at] = reached;
                    heap.push(Reverse((reached.to_bits(), class, u, v)));
                }
            }
        }
    }
    labels
}

type Naive = fn(&RgbImage, &[PointLabel]) -> LabelMap;

fn interpolation(criterion: &mut Criterion) {
    let inverse = InverseDistancePropagator::default();
    let geodesic = GeodesicPropagator::default();
    let methods: [(&str, &dyn PointPropagator, Naive); 4] = [
        ("nearest", &NearestPropagator, naive_nearest),
        ("inverse_distance", &inverse, naive_inverse_distance),
        ("linear", &LinearPropagator, naive_linear),
        ("geodesic", &geodesic, naive_geodesic),
    ];
    for (name, fast, naive) in methods {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        for side in [256, 512, 1024] {
            for count in [25, 100, 300] {
                let size = Size { width: side, height: side };
                let (image, points) = scene(size, count);
                let id = format!("{size}/{count}_points");
                group.throughput(Throughput::Elements(size.pixels() as u64));
                group.bench_function(BenchmarkId::new("coral", &id), |b| {
                    b.iter(|| fast.propagate(black_box(&image), black_box(&points)));
                });
                group.bench_function(BenchmarkId::new("naive", &id), |b| {
                    b.iter(|| naive(black_box(&image), black_box(&points)));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, interpolation);
criterion_main!(benches);
