use super::*;
use coral_core::SeededRng;
use coral_core::image::Rgb;
use proptest::prelude::*;

fn random(planes: usize, size: (usize, usize), seed: u64) -> Array3<f32> {
    let mut rng = SeededRng::new(seed);
    Array3::from_shape_simple_fn((planes, size.0, size.1), || rng.range(0.0, 255.0) as f32)
}

/// One iteration by the definition, in double precision.
fn naive(image: &Array3<f32>, values: &ProbMap, config: &PixelAdaptiveConfig) -> ProbMap {
    let (channels, height, width) = image.dim();
    let at = |planes: &Array3<f32>, plane: usize, y: isize, x: isize| -> f64 {
        let (y, x) = (y.clamp(0, height as isize - 1) as usize, x.clamp(0, width as isize - 1) as usize);
        f64::from(planes[[plane, y, x]])
    };
    let softmax = |exponents: &[f64]| -> Vec<f64> {
        let highest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let all: Vec<f64> = exponents.iter().map(|e| (e - highest).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|e| e / sum).collect()
    };
    let deviation = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (squares / (values.len() - 1) as f64).sqrt() + 1e-8
    };
    let sigma = f64::from(config.sigma);
    let mut offsets = Vec::new();
    for d in config.dilations.iter().map(|&d| d as isize) {
        let square = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx)));
        offsets.extend(square.filter(|&offset| offset != (0, 0)).map(|(dy, dx)| (dy * d, dx * d)));
    }
    let distances: Vec<f64> = offsets.iter().map(|&(dy, dx)| ((dy * dy + dx * dx) as f64).sqrt()).collect();
    let near = softmax(&distances.iter().map(|d| -(d / deviation(&distances) / sigma).powi(2)).collect::<Vec<_>>());
    Array3::from_shape_fn(values.dim(), |(plane, y, x)| {
        let (y, x) = (y as isize, x as isize);
        let mut exponents = vec![0.0; offsets.len()];
        for c in 0..channels {
            let around: Vec<f64> = offsets.iter().map(|(dy, dx)| at(image, c, y + dy, x + dx)).collect();
            let deviation = deviation(&around);
            for (exponent, value) in exponents.iter_mut().zip(&around) {
                *exponent -= ((value - at(image, c, y, x)) / deviation / sigma).powi(2) / channels as f64;
            }
        }
        let weight = f64::from(config.position_weight);
        let total = if config.normalize { 1.0 + weight } else { 1.0 };
        let terms = softmax(&exponents).into_iter().zip(&near).zip(&offsets);
        terms
            .map(|((like, near), (dy, dx))| (like + weight * near) / total * at(values, plane, y + dy, x + dx))
            .sum::<f64>() as f32
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]
    #[test]
    fn iterations_are_those_of_the_definition(
        height in 1usize..9, width in 1usize..13, seed in 0u64..1000, normalize: bool,
    ) {
        let (image, values) = (random(3, (height, width), seed), random(2, (height, width), seed + 1) / 255.0);
        let dilations = if seed % 2 == 0 { vec![1, 3] } else { vec![2] };
        let config = PixelAdaptiveConfig { iterations: 2, dilations, normalize, sigma: 0.8, position_weight: 0.1 };
        let ours = pixel_adaptive(image.view(), &values, &config).unwrap();
        let expected = naive(&image, &naive(&image, &values, &config), &config);
        for (ours, expected) in ours.iter().zip(&expected) {
            prop_assert!((ours - expected).abs() < 1e-4, "{} for {}", ours, expected);
        }
    }
}

#[test]
fn probabilities_stay_probabilities() {
    let image = random(3, (20, 31), 5);
    let mut values = random(4, (20, 31), 6);
    values.index_axis_mut(ndarray::Axis(0), 2).fill(0.0);
    for mut pixel in values.lanes_mut(ndarray::Axis(0)) {
        let sum = pixel.sum();
        pixel /= sum;
    }
    let refined = pixel_adaptive(image.view(), &values, &PixelAdaptiveConfig::default()).unwrap();
    assert!(refined.lanes(ndarray::Axis(0)).into_iter().all(|pixel| (pixel.sum() - 1.0).abs() < 1e-4));
    assert!(refined.iter().all(|p| (0.0..=1.0).contains(p)));
    // A class that is nowhere stays nowhere.
    assert!(refined.index_axis(ndarray::Axis(0), 2).iter().all(|&p| p == 0.0));
    let constant = Array3::from_elem((1, 20, 31), 0.25);
    let kept = pixel_adaptive(Array3::from_elem((1, 20, 31), 7.0).view(), &constant, &PixelAdaptiveConfig::default());
    assert!(kept.unwrap().iter().all(|p| (p - 0.25).abs() < 1e-5));
}

#[test]
fn extreme_images_give_numbers() {
    let mut dot = Array3::from_elem((1, 9, 9), 0.0);
    dot[[0, 4, 4]] = f32::MAX;
    let values = random(1, (9, 9), 3);
    let config = PixelAdaptiveConfig { dilations: vec![1], ..Default::default() };
    assert!(pixel_adaptive(dot.view(), &values, &config).unwrap().iter().all(|p| p.is_finite()));
}

#[test]
fn faults_are_named() {
    let text = |image: (usize, usize, usize), values: ProbMap, config: PixelAdaptiveConfig| {
        pixel_adaptive(Array3::zeros(image).view(), &values, &config).unwrap_err().to_string()
    };
    let (fine, values) = (PixelAdaptiveConfig::default(), ProbMap::zeros((2, 3, 4)));
    assert_eq!(text((3, 4, 3), values.clone(), fine.clone()), "probabilities: expected shape 3x4, got 4x3");
    assert!(text((0, 3, 4), values.clone(), fine.clone()).contains("`image`: expected pixels"));
    assert!(text((3, 3, 4), ProbMap::from_elem((2, 3, 4), f32::NAN), fine.clone()).contains("`probabilities`"));
    let with = |change: fn(&mut PixelAdaptiveConfig)| {
        let mut config = PixelAdaptiveConfig::default();
        change(&mut config);
        text((3, 3, 4), ProbMap::zeros((2, 3, 4)), config)
    };
    assert!(with(|c| c.iterations = 0).contains("`iterations`"));
    assert!(with(|c| c.dilations = vec![]).contains("`dilations`"));
    assert!(with(|c| c.dilations = vec![4, 0]).contains("got [4, 0]"));
    assert!(with(|c| c.sigma = f32::NAN).contains("`sigma`"));
    assert!(with(|c| c.position_weight = -1.0).contains("`position_weight`"));
}

#[test]
fn planes_are_those_of_the_image() {
    let image = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 7]));
    let planes = rgb_planes(&image);
    assert_eq!((planes.dim(), planes[[0, 1, 2]], planes[[1, 1, 2]], planes[[2, 0, 0]]), ((3, 2, 3), 2.0, 1.0, 7.0));
}
