//! Counting a confusion matrix, in pixels per second, beside a naive double loop.

use std::hint::black_box;

use coral_core::ndarray::Array2;
use coral_core::{ClassId, LabelMap, Metric, SeededRng};
use coral_metrics::ConfusionMatrix;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const CLASSES: usize = 40;

/// Random blobs: cells of about 1/12 of the side with ragged borders, like a survey's label map.
fn regions(side: usize, seed: u64) -> LabelMap {
    let mut rng = SeededRng::new(seed);
    let centres: Vec<_> =
        (0..150).map(|_| (rng.range(0.0, side as f64), rng.range(0.0, side as f64), rng.below(CLASSES))).collect();
    // The nearest centre on a grid of 64 × 64 cells, each border shifted by noise from row to row.
    let cell = side as f64 / 64.0;
    let coarse = Array2::from_shape_fn((64, 64), |(row, column)| {
        let (y, x) = ((row as f64 + 0.5) * cell, (column as f64 + 0.5) * cell);
        let distance = |centre: &&(f64, f64, usize)| (centre.0 - y).powi(2) + (centre.1 - x).powi(2);
        centres.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).map_or(0, |centre| centre.2) as ClassId
    });
    let mut labels = LabelMap::zeros((side, side));
    for (y, mut row) in labels.rows_mut().into_iter().enumerate() {
        let shift = rng.below(side / 64);
        for (x, label) in row.iter_mut().enumerate() {
            *label = coarse[[64 * y / side, 64 * (x + shift).min(side - 1) / side]];
        }
    }
    labels
}

fn noise(side: usize, seed: u64) -> LabelMap {
    let mut rng = SeededRng::new(seed);
    LabelMap::from_shape_simple_fn((side, side), || rng.below(CLASSES) as ClassId)
}

fn naive(prediction: &LabelMap, target: &LabelMap) -> Array2<u64> {
    let mut counts = Array2::zeros((CLASSES, CLASSES));
    for y in 0..target.nrows() {
        for x in 0..target.ncols() {
            if target[[y, x]] != 255 {
                counts[[target[[y, x]] as usize, prediction[[y, x]] as usize]] += 1;
            }
        }
    }
    counts
}

fn confusion(c: &mut Criterion) {
    let mut group = c.benchmark_group("confusion");
    group.sample_size(20);
    for side in [512, 2048, 4096] {
        group.throughput(Throughput::Elements((side * side) as u64));
        for (kind, prediction, target) in
            [("regions", regions(side, 1), regions(side, 2)), ("noise", noise(side, 1), noise(side, 2))]
        {
            let mut matrix = ConfusionMatrix::new(CLASSES).expect("40 classes are allowed");
            matrix.update(&prediction, &target).expect("the maps fit together");
            assert_eq!(matrix.counts(), &naive(&prediction, &target));
            group.bench_function(BenchmarkId::new(format!("update/{kind}"), side), |b| {
                b.iter(|| matrix.update(black_box(&prediction), black_box(&target)))
            });
            group.bench_function(BenchmarkId::new(format!("naive/{kind}"), side), |b| {
                b.iter(|| naive(black_box(&prediction), black_box(&target)))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, confusion);
criterion_main!(benches);
