//! What holds for the superpixels of every image.

use std::collections::HashMap;

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::Array2;
use coral_core::{PointLabel, SeededRng, UNLABELED};
use coral_weak::{SlicConfig, Superpixels, lab_image, majority_classes, slic, slic_lab};
use proptest::prelude::*;

/// Coloured blocks with noise.
fn picture(width: u32, height: u32, noise: usize, seed: u64) -> RgbImage {
    let mut rng = SeededRng::new(seed);
    let colors: Vec<[u8; 3]> = (0..7).map(|_| std::array::from_fn(|_| rng.below(200) as u8)).collect();
    RgbImage::from_fn(width, height, |x, y| {
        let block = colors[((x / 11 + 3 * (y / 8)) % 7) as usize];
        Rgb(block.map(|level| level + rng.below(noise + 1) as u8))
    })
}

/// Checks that labels are 0..count, numbered as they first occur, and each connected.
fn check_partition(superpixels: &Superpixels) {
    let labels = superpixels.labels();
    let (height, width) = labels.dim();
    let mut seen = Array2::from_elem((height, width), false);
    let mut next = 0;
    for start in 0..height * width {
        let start = (start / width, start % width);
        if seen[start] {
            continue;
        }
        // A part not reached from the first pixel of its superpixel would show up here.
        assert_eq!(labels[start], next, "at {start:?}");
        next += 1;
        let mut stack = vec![start];
        while let Some((y, x)) = stack.pop() {
            if !std::mem::replace(&mut seen[[y, x]], true) {
                let around = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
                stack.extend(around.into_iter().filter(|&at| labels.get(at) == Some(&labels[start])));
            }
        }
    }
    assert_eq!(superpixels.count(), next);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn superpixels_partition_the_image(
        (width, height, noise) in (1u32..70, 1u32..50, 0usize..50),
        (segments, compactness, min_size_factor) in (1u32..200, 0.5f32..60.0, 0.0f32..=1.0),
        seed in any::<u64>(),
    ) {
        let image = picture(width, height, noise, seed);
        let config = SlicConfig { segments, compactness, min_size_factor, ..Default::default() };
        let superpixels = slic(&image, &config).unwrap();
        prop_assert_eq!(superpixels.labels().dim(), (height as usize, width as usize));
        check_partition(&superpixels);
        prop_assert_eq!(&slic_lab(&lab_image(&image), &config).unwrap(), &superpixels);
        // No region is far below the asked size: rounding makes cells up to half again as large as asked.
        if superpixels.count() > 1 {
            let smallest = superpixels.sizes().into_iter().min().unwrap();
            let mean = f64::from(width * height) / f64::from(segments);
            prop_assert!(f64::from(smallest) + 1.0 >= (f64::from(min_size_factor) * mean / 1.5).floor());
        }
    }

    #[test]
    fn statistics_equal_the_naive_ones(labels in prop::collection::vec(0u32..6, 1..60), columns in 1usize..8) {
        let rows = labels.len().div_ceil(columns);
        let map = Array2::from_shape_fn((rows, columns), |(y, x)| labels[(y * columns + x) % labels.len()]);
        let superpixels = Superpixels::from_labels(map.clone()).unwrap();
        let mut pairs = HashMap::<(u32, u32), u32>::new();
        let ours = superpixels.labels();
        for y in 0..rows {
            for x in 0..columns {
                for (v, u) in [(y, x + 1), (y + 1, x)] {
                    if let Some(&other) = ours.get((v, u)) && other != ours[[y, x]] {
                        prop_assert_ne!(map[[y, x]], map[[v, u]]);
                        *pairs.entry((other.min(ours[[y, x]]), other.max(ours[[y, x]]))).or_default() += 1;
                    }
                }
            }
        }
        let mut pairs: Vec<_> = pairs.into_iter().map(|((a, b), n)| (a, b, n)).collect();
        pairs.sort_unstable();
        let found: Vec<_> = superpixels.adjacency().iter().map(|p| (p.first, p.second, p.length)).collect();
        prop_assert_eq!(found, pairs);
        prop_assert_eq!(superpixels.sizes().iter().sum::<u32>() as usize, map.len());
    }

    #[test]
    fn majorities_equal_the_naive_ones(
        points in prop::collection::btree_map((0u32..9, 0u32..6), 0u8..4, 1..40),
        seed in any::<u64>(),
    ) {
        let mut rng = SeededRng::new(seed);
        let map = Array2::from_shape_fn((6, 9), |_| rng.below(4) as u32);
        let superpixels = Superpixels::from_labels(map).unwrap();
        let points: Vec<_> = points.into_iter().map(|((x, y), class)| PointLabel { x, y, class }).collect();
        let classes = majority_classes(&superpixels, &points).unwrap();
        for (label, class) in (0u32..).zip(classes) {
            let count = |class: u8| {
                let inside = |p: &&PointLabel| superpixels.labels()[[p.y as usize, p.x as usize]] == label;
                points.iter().filter(inside).filter(|p| p.class == class).count()
            };
            let most = (0..4).map(count).max().unwrap();
            let expected = (0..4).find(|&class| count(class) == most).unwrap();
            prop_assert_eq!(class, if most == 0 { UNLABELED } else { expected });
        }
    }
}

#[test]
fn unusual_images_work() {
    let config = |segments| SlicConfig { segments, ..Default::default() };
    for (width, height) in [(1, 1), (40, 1), (1, 33), (3, 2)] {
        for segments in [1, 2, 5, u32::MAX] {
            check_partition(&slic(&picture(width, height, 30, 1), &config(segments)).unwrap());
        }
    }
    // A flat image stays close to the grid.
    let flat = slic(&RgbImage::from_pixel(60, 40, Rgb([90; 3])), &config(24)).unwrap();
    assert_eq!((flat.count(), flat.sizes().into_iter().min()), (24, Some(100)));
    let error = slic(&RgbImage::new(0, 5), &config(4)).unwrap_err().to_string();
    assert!(error.contains("invalid input `image`: expected 1 to 4294967295 pixels, got 0"), "{error}");
    let mut lab = lab_image(&RgbImage::new(5, 5));
    lab[[1, 2, 3]] = f32::NAN;
    assert!(slic_lab(&lab, &config(4)).unwrap_err().to_string().contains("`lab`: expected finite values only"));
    assert!(slic(&RgbImage::new(5, 5), &config(0)).unwrap_err().to_string().contains("`segments`"));
}

#[test]
fn noise_does_not_shatter_superpixels() {
    let image = picture(120, 90, 55, 3);
    for compactness in [1.0, 5.0, 10.0] {
        let superpixels = slic(&image, &SlicConfig { segments: 60, compactness, ..Default::default() }).unwrap();
        assert!((40..=150).contains(&superpixels.count()), "{} at compactness {compactness}", superpixels.count());
    }
}

#[cfg(feature = "rayon")]
#[test]
fn threads_change_nothing() {
    use coral_weak::{Fill, MultiLevelConfig, multi_level_labels};
    let image = picture(201, 143, 40, 9);
    let points: Vec<_> = (0..30).map(|i| PointLabel { x: i * 6, y: (i * 37) % 143, class: (i % 4) as u8 }).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mode = MultiLevelConfig { fill: Fill::Mode, ..Default::default() };
            let maps =
                [MultiLevelConfig::default(), mode].map(|config| multi_level_labels(&image, &points, &config).unwrap());
            (slic(&image, &SlicConfig::default()).unwrap(), maps)
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
