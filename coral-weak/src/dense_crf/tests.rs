use super::*;
use coral_core::image::Rgb;
use coral_core::{SeededRng, most_probable};
use ndarray::{Array3, Axis};

/// Two materials that meet along a curve, with noise, and a blocky map of them with doubts.
fn scene(size: Size, seed: u64) -> (RgbImage, ProbMap) {
    let mut rng = SeededRng::new(seed);
    let (width, height) = (size.width as f32, size.height as f32);
    let first = |x: f32, y: f32| x < 0.5 * width + 0.2 * width * (5.0 * y / height).sin();
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        let base = if first(x as f32, y as f32) { [60.0, 90.0, 80.0] } else { [150.0, 140.0, 110.0] };
        Rgb(base.map(|level: f64| (level + rng.range(-8.0, 8.0)) as u8))
    });
    let block = |v: usize| (v / 6 * 6 + 3) as f32;
    let p = Array3::from_shape_fn((3, size.height as usize, size.width as usize), |(class, y, x)| {
        let first = first(block(x), block(y));
        match class {
            0 => {
                if first {
                    0.7
                } else {
                    0.25
                }
            }
            1 => {
                if first {
                    0.2
                } else {
                    0.65
                }
            }
            _ => 0.1,
        }
    });
    (image, p)
}

/// The mean field with exact sums over all pairs.
fn naive(image: &RgbImage, probabilities: &ProbMap, config: &DenseCrfConfig) -> ProbMap {
    let (classes, _, width) = probabilities.dim();
    let pixels: Vec<_> =
        image.enumerate_pixels().map(|(x, y, c)| (f64::from(x), f64::from(y), c.0.map(f64::from))).collect();
    let kernel = |a: usize, b: usize| {
        let ((x, y, c), (u, v, d)) = (pixels[a], pixels[b]);
        let square = (x - u).powi(2) + (y - v).powi(2);
        let color: f64 = c.iter().zip(&d).map(|(c, d)| (c - d).powi(2)).sum();
        let over = |sigma: f32| 2.0 * f64::from(sigma).powi(2);
        let near = (-square / over(config.smoothness_sigma)).exp();
        [near, (-square / over(config.position_sigma) - color / over(config.color_sigma)).exp()]
    };
    let n = pixels.len();
    let mut sums = vec![[0.0; 2]; n];
    for (a, sums) in sums.iter_mut().enumerate() {
        for k in (0..n).map(|b| kernel(a, b)) {
            (sums[0], sums[1]) = (sums[0] + k[0], sums[1] + k[1]);
        }
    }
    let weights = [f64::from(config.smoothness_weight), f64::from(config.appearance_weight)];
    let unary = |i: usize, class: usize| f64::from(probabilities[[class, i / width, i % width]]).ln();
    let softmax = |logits: Vec<f64>| {
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let all: Vec<f64> = logits.iter().map(|l| (l - highest).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|e| e / sum).collect::<Vec<_>>()
    };
    let mut beliefs: Vec<_> = (0..n).map(|i| softmax((0..classes).map(|c| unary(i, c)).collect())).collect();
    for _ in 0..config.iterations {
        let update = |a: usize| {
            let mut logits: Vec<f64> = (0..classes).map(|c| unary(a, c)).collect();
            for b in 0..n {
                let k = kernel(a, b);
                let pull: f64 = (0..2).map(|m| weights[m] * k[m] / (sums[a][m] * sums[b][m]).sqrt()).sum();
                logits.iter_mut().zip(&beliefs[b]).for_each(|(logit, belief)| *logit += pull * belief);
            }
            softmax(logits)
        };
        beliefs = (0..n).map(update).collect();
    }
    Array3::from_shape_fn(probabilities.dim(), |(class, y, x)| beliefs[y * width + x][class] as f32)
}

#[test]
fn beliefs_are_nearly_those_of_exact_sums() {
    for (seed, size) in [Size { width: 37, height: 22 }, Size { width: 16, height: 41 }].into_iter().enumerate() {
        let (image, coarse) = scene(size, seed as u64);
        let wide = DenseCrfConfig { iterations: 3, color_sigma: 30.0, position_sigma: 20.0, ..Default::default() };
        let weak = DenseCrfConfig { appearance_weight: 2.0, smoothness_weight: 1.0, ..wide };
        for config in [wide, weak] {
            let (ours, exact) = (dense_crf(&image, &coarse, &config).unwrap(), naive(&image, &coarse, &config));
            let mean = (&ours - &exact).mapv(f32::abs).mean().unwrap();
            let (ours, exact) = (most_probable(ours.view(), 0.0).0, most_probable(exact.view(), 0.0).0);
            let same = ours.iter().zip(&exact).filter(|(a, b)| a == b).count() as f64 / ours.len() as f64;
            assert!(mean < 0.02 && same >= 0.98, "{size}: mean error {mean}, {same} of the classes agree");
        }
    }
}

#[test]
fn edges_are_found() {
    let size = Size { width: 90, height: 60 };
    let (image, coarse) = scene(size, 9);
    let truth = |x: u32, y: u32| u8::from(image.get_pixel(x, y).0[0] > 105);
    let right = |p: &ProbMap| {
        let (labels, _) = most_probable(p.view(), 0.0);
        labels.indexed_iter().filter(|((y, x), label)| **label == truth(*x as u32, *y as u32)).count()
    };
    let refined = dense_crf(&image, &coarse, &DenseCrfConfig::default()).unwrap();
    assert!(right(&coarse) < 5300 && right(&refined) > 5350, "{} {}", right(&coarse), right(&refined));
    assert!(refined.lanes(Axis(0)).into_iter().all(|pixel| (pixel.sum() - 1.0).abs() < 1e-4));
}

#[test]
fn without_terms_probabilities_stay() {
    let (image, coarse) = scene(Size { width: 9, height: 5 }, 2);
    let off = DenseCrfConfig { smoothness_weight: 0.0, appearance_weight: 0.0, ..Default::default() };
    let kept = dense_crf(&image, &coarse, &off).unwrap();
    assert!(kept.iter().zip(&coarse).all(|(a, b)| (a - b).abs() < 1e-6));
    let one = dense_crf(&RgbImage::new(1, 1), &Array3::from_elem((1, 1, 1), 0.3), &DenseCrfConfig::default()).unwrap();
    assert_eq!(one[[0, 0, 0]], 1.0);
}

#[cfg(feature = "rayon")]
#[test]
fn threads_do_not_matter() {
    let (image, coarse) = scene(Size { width: 120, height: 75 }, 4);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| dense_crf(&image, &coarse, &DenseCrfConfig::default()).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn faults_are_named() {
    let text = |width, values: ProbMap, config: DenseCrfConfig| {
        dense_crf(&RgbImage::new(width, 3), &values, &config).unwrap_err().to_string()
    };
    let (fine, values) = (DenseCrfConfig::default(), ProbMap::zeros((2, 3, 4)));
    assert_eq!(text(5, values.clone(), fine), "probabilities: expected shape 5x3, got 4x3");
    assert!(
        text(0, ProbMap::zeros((2, 3, 0)), fine)
            .contains("`image`: expected 1 to 2^32 / 6 pixels and sides of at most 2^20, got 0x3")
    );
    assert!(text(4, ProbMap::zeros((0, 3, 4)), fine).contains("expected at least one class"));
    for bad in [f32::NAN, -0.1, f32::INFINITY] {
        assert!(text(4, ProbMap::from_elem((2, 3, 4), bad), fine).contains("`probabilities`: expected finite values"));
    }
    let with = |config| text(4, values.clone(), config);
    assert!(with(DenseCrfConfig { iterations: 0, ..fine }).contains("`iterations`"));
    assert!(with(DenseCrfConfig { smoothness_weight: -1.0, ..fine }).contains("`smoothness_weight`"));
    assert!(with(DenseCrfConfig { appearance_weight: f32::NAN, ..fine }).contains("`appearance_weight`"));
    assert!(
        with(DenseCrfConfig { color_sigma: 0.0, ..fine }).contains("`color_sigma`: expected a number of at least 0.1")
    );
    assert!(with(DenseCrfConfig { min_probability: 0.0, ..fine }).contains("`min_probability`"));
}
