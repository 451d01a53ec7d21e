use super::*;
use crate::rectify;
use coral_core::SeededRng;
use ndarray::{Array3, array};
use proptest::prelude::*;

fn scene(channels: usize, grid: (usize, usize), image: (u32, u32), seed: u64) -> FeatureMap {
    let mut rng = SeededRng::new(seed);
    let data = Array3::from_shape_simple_fn((channels, grid.0, grid.1), || (rng.normal() + 0.5) as f32);
    FeatureMap { data, image_size: Size { width: image.0, height: image.1 } }
}

fn scatter(size: Size, count: usize, seed: u64) -> Vec<PointLabel> {
    let mut rng = SeededRng::new(seed);
    let pixels = rng.sample_indices(size.pixels(), count);
    let at = |pixel: usize, class| PointLabel {
        x: (pixel % size.width as usize) as u32,
        y: (pixel / size.width as usize) as u32,
        class,
    };
    pixels.into_iter().map(|pixel| at(pixel, rng.below(4) as u8 + 3)).collect()
}

/// One pixel's bilinear feature by its definition.
fn feature_at(features: &FeatureMap, x: u32, y: u32) -> Vec<f64> {
    let grid = features.grid_size();
    let around = |pixel: u32, cells: u32, pixels: u32| {
        let place = (f64::from(pixel) + 0.5) * f64::from(cells) / f64::from(pixels) - 0.5;
        let place = place.clamp(0.0, f64::from(cells - 1));
        (place.floor() as usize, place.ceil() as usize, place.fract())
    };
    let (left, right, u) = around(x, grid.width, features.image_size.width);
    let (top, bottom, v) = around(y, grid.height, features.image_size.height);
    (0..features.dim())
        .map(|d| {
            let at = |y, x| f64::from(features.data[[d, y, x]]);
            (at(top, left) * (1.0 - u) + at(top, right) * u) * (1.0 - v)
                + (at(bottom, left) * (1.0 - u) + at(bottom, right) * u) * v
        })
        .collect()
}

fn similarity(a: &[f64], b: &[f64], how: Similarity) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    match how {
        Similarity::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Similarity::Euclidean => -a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
    }
}

/// Every pixel against every point, in f64: the label, the best similarity, and whether rounding could decide.
fn naive(features: &FeatureMap, points: &[PointLabel], config: &KnnConfig) -> Vec<(u8, f64, bool)> {
    let mut points = points.to_vec();
    points.sort_by_key(|p| (p.y, p.x));
    let size = features.image_size;
    let length = f64::from(config.position) * (features.dim() as f64).sqrt()
        / (size.pixels() as f64 / points.len() as f64).sqrt();
    let full = |x: u32, y: u32| {
        let mut feature = feature_at(features, x, y);
        feature.extend([f64::from(x) * length, f64::from(y) * length]);
        feature
    };
    let known: Vec<_> = points.iter().map(|p| full(p.x, p.y)).collect();
    let mut out = Vec::new();
    for (y, x) in (0..size.height).flat_map(|y| (0..size.width).map(move |x| (y, x))) {
        let query = full(x, y);
        let mut ranked: Vec<_> =
            known.iter().zip(&points).map(|(f, p)| (similarity(&query, f, config.similarity), p.class)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let k = config.k.min(ranked.len());
        let close = ranked.get(k).is_some_and(|next| (ranked[k - 1].0 - next.0).abs() < 1e-5);
        let votes = |class: u8| ranked[..k].iter().filter(|(_, c)| *c == class).count();
        let most = (0..=254).map(votes).max().unwrap();
        let winner = (0..=254).find(|&class| votes(class) == most).unwrap();
        let label = points.iter().find(|p| (p.x, p.y) == (x, y)).map_or(winner, |p| p.class);
        out.push((label, ranked[0].0, close));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn blocks_equal_the_definition(
        grid in (1usize..9, 1usize..9),
        more in (0u32..12, 0u32..12),
        (channels, count, k) in (1usize..20, 1usize..300, 1usize..8),
        euclidean: bool,
        position in prop::sample::select(vec![0.0f32, 0.7]),
        seed: u64,
    ) {
        let features = scene(channels, grid, (grid.1 as u32 + more.0, grid.0 as u32 + more.1), seed);
        let points = scatter(features.image_size, count, seed ^ 1);
        let similarity = if euclidean { Similarity::Euclidean } else { Similarity::Cosine };
        let position = if euclidean { position } else { 0.0 };
        let config = KnnConfig { k, similarity, position, ..Default::default() };
        let found = knn(&features, &points, &config).unwrap();
        let mut compared = 0;
        for ((label, best), (expected, best_expected, close)) in
            found.labels.iter().zip(&found.similarity).zip(naive(&features, &points, &config))
        {
            // A distance is the root of a difference of squares, which is what rounding leaves its mark on.
            let size = |value: f64| if euclidean { value * value.abs() } else { value };
            let difference = size(f64::from(*best)) - size(best_expected);
            prop_assert!(difference.abs() < 2e-5, "{best} {best_expected}");
            prop_assert!(close || *label == expected, "{label} {expected}");
            compared += usize::from(!close);
        }
        // One channel has but two directions, and few cells repeat: there nearly all similarities tie.
        prop_assert!(channels == 1 || grid.0 * grid.1 < 12 || compared > 0);
    }
}

#[test]
fn equal_features_prefer_raster_order_and_small_classes() {
    let features = FeatureMap { data: Array3::ones((3, 4, 4)), image_size: Size { width: 4, height: 4 } };
    let at = |x, y, class| PointLabel { x, y, class };
    let points = [at(3, 3, 1), at(0, 2, 2), at(2, 1, 9)];
    for similarity in [Similarity::Cosine, Similarity::Euclidean] {
        let label = |k| {
            let config = KnnConfig { k, similarity, ..Default::default() };
            knn(&features, &points, &config).unwrap().labels[[0, 0]]
        };
        assert_eq!((label(1), label(2), label(3), label(50)), (9, 2, 1, 1));
    }
}

#[test]
fn cells_give_their_class_to_their_pixels() {
    let features = scene(6, (3, 5), (23, 16), 4);
    let points = scatter(features.image_size, 9, 2);
    let config = KnnConfig { upsample: Upsample::Nearest, ..Default::default() };
    let found = knn(&features, &points, &config).unwrap();
    // On a grid of one cell per pixel the two ways are one.
    let cells = Array3::from_shape_fn((6, 16, 23), |(d, y, x)| {
        let (column, row) = features.cell(x as u32, y as u32);
        features.data[[d, row, column]]
    });
    let expanded = FeatureMap { data: cells, image_size: features.image_size };
    let expected = knn(&expanded, &points, &KnnConfig::default()).unwrap();
    assert_eq!(found.labels, expected.labels);
    assert!(found.similarity.iter().zip(&expected.similarity).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn segments_equal_rectified_pixels() {
    let features = scene(7, (20, 30), (30, 20), 8);
    let points = scatter(features.image_size, 25, 3);
    let mut rng = SeededRng::new(6);
    let segments = Superpixels::from_labels(Array2::from_shape_simple_fn((20, 30), || rng.below(40) as u32)).unwrap();
    for similarity in [Similarity::Cosine, Similarity::Euclidean] {
        for k in [1, 4] {
            let config = KnnConfig { k, similarity, ..Default::default() };
            let fast = knn_segments(&features, &segments, &points, &config).unwrap();
            let slow = knn(&rectify(&features, &segments).unwrap(), &points, &config).unwrap();
            assert_eq!(fast.labels, slow.labels);
            assert!(fast.similarity.iter().zip(&slow.similarity).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}

#[test]
fn features_of_no_length_are_like_nothing() {
    let image_size = Size { width: 3, height: 1 };
    let features = FeatureMap { data: array![[[0.0, 2.0, 0.0]], [[0.0, 1.0, 0.0]]], image_size };
    let at = |x, class| PointLabel { x, y: 0, class };
    let found = knn(&features, &[at(0, 5), at(1, 4)], &KnnConfig::default()).unwrap();
    assert_eq!(found.labels, array![[5, 4, 5]]);
    assert_eq!(found.similarity.mapv(|s| (s * 1e5).round() / 1e5), array![[0.0, 1.0, 0.0]]);
}

#[test]
fn unusable_features_and_settings_are_refused() {
    let points = [PointLabel { x: 0, y: 0, class: 1 }];
    let mut features = scene(2, (2, 2), (4, 4), 1);
    let position = KnnConfig { position: 1.0, ..Default::default() };
    assert!(knn(&features, &points, &position).unwrap_err().to_string().contains("`position`"));
    let segments = Superpixels::from_labels(Array2::zeros((2, 2))).unwrap();
    let error = knn_segments(&features, &segments, &points, &KnnConfig::default()).unwrap_err().to_string();
    assert_eq!(error, "segments: expected shape 4x4, got 2x2");
    features.data[[0, 1, 1]] = f32::NAN;
    assert!(knn_labels(&features, &points, 1).unwrap_err().to_string().contains("got NaN in channel 0 at cell (1, 1)"));
    assert!(knn_labels(&features, &[], 1).is_err());
}

#[cfg(feature = "rayon")]
#[test]
fn threads_change_nothing() {
    use coral_core::image::{Rgb, RgbImage};
    let mut rng = SeededRng::new(4);
    let image = RgbImage::from_fn(203, 141, |x, y| Rgb([x as u8, y as u8, rng.below(256) as u8]));
    let points = scatter(Size::of(&image), 40, 9);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let plain = KnnPropagator::default().search(&image, &points).unwrap();
            let config = KnnPropagatorConfig { rectify: Some(Default::default()), ..Default::default() };
            let rectified = KnnPropagator::new(crate::ClassicalFeatures::default(), config).unwrap();
            (plain, rectified.search(&image, &points).unwrap())
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
