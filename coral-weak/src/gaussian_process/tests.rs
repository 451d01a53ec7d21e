use super::*;
use coral_core::SeededRng;
use coral_core::image::Rgb;
use coral_core::testing::check_point_propagator;

#[test]
fn keeps_the_contract() {
    check_point_propagator(&GaussianProcessPropagator::default()).unwrap();
    let coarse = GaussianProcessConfig { working_side: 16, segments: 40, ..Default::default() };
    check_point_propagator(&GaussianProcessPropagator::new(coarse).unwrap()).unwrap();
}

/// A disc on a ground of another colour, both noisy, and the truth.
fn disc(size: Size) -> (RgbImage, LabelMap) {
    let mut rng = SeededRng::new(3);
    let inside = |x: u32, y: u32| {
        let (dx, dy) = (f64::from(x) / f64::from(size.width) - 0.45, f64::from(y) / f64::from(size.height) - 0.5);
        dx * dx + dy * dy < 0.09
    };
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        let base = if inside(x, y) { [120, 100, 60] } else { [90, 130, 130] };
        Rgb(base.map(|level: u8| level.saturating_add(rng.below(30) as u8)))
    });
    let labels = LabelMap::from_shape_fn(size.shape(), |(y, x)| if inside(x as u32, y as u32) { 1 } else { 6 });
    (image, labels)
}

fn agreement(size: Size, config: &GaussianProcessConfig) -> f64 {
    let (image, truth) = disc(size);
    let points: Vec<_> = (0..25)
        .map(|i| ((2 * (i % 5) + 1) * size.width / 10, (2 * (i / 5) + 1) * size.height / 10))
        .map(|(x, y)| PointLabel { x, y, class: truth[[y as usize, x as usize]] })
        .collect();
    let labels = gaussian_process_labels(&image, &points, config).unwrap();
    let equal = labels.iter().zip(&truth).filter(|(a, b)| a == b).count();
    equal as f64 / truth.len() as f64
}

#[test]
fn boundaries_are_found_from_the_image() {
    let config = GaussianProcessConfig::default();
    let fine = agreement(Size { width: 150, height: 100 }, &config);
    assert!(fine > 0.98, "{fine}");
    let reduced = agreement(Size { width: 150, height: 100 }, &GaussianProcessConfig { working_side: 75, ..config });
    assert!(reduced > 0.97, "{reduced}");
}

#[test]
fn many_classes_and_points_work() {
    let (image, _) = disc(Size { width: 64, height: 48 });
    let points: Vec<_> =
        (0..255_u32).map(|i| PointLabel { x: i % 60, y: 4 + i / 60 * 9, class: (254 - i) as u8 }).collect();
    let labels = gaussian_process_labels(&image, &points, &GaussianProcessConfig::default()).unwrap();
    assert!(points.iter().all(|p| labels[[p.y as usize, p.x as usize]] == p.class));
}

/// Two colours in bands along the image; all points are crowded at its left end.
#[test]
fn places_far_from_all_points_take_the_class_that_looks_like_them() {
    let mut rng = SeededRng::new(5);
    let image = RgbImage::from_fn(600, 60, |_, y| {
        let base = if y < 30 { [120, 100, 60] } else { [60, 130, 130] };
        Rgb(base.map(|level: u8| level + rng.below(20) as u8))
    });
    let class = |y: u32| if y < 30 { 7 } else { 2 };
    let points: Vec<_> =
        (0..400_u32).map(|i| (i % 10, 3 * (i / 10 % 20))).map(|(x, y)| PointLabel { x, y, class: class(y) }).collect();
    let labels = gaussian_process_labels(&image, &points, &GaussianProcessConfig::default()).unwrap();
    for x in [100, 300, 599] {
        assert_eq!((labels[[10, x]], labels[[50, x]]), (7, 2), "{x}");
    }
}

#[test]
fn the_systems_can_be_solved_at_the_bounds_of_the_settings() {
    let (image, truth) = disc(Size { width: 90, height: 70 });
    let points: Vec<_> = (0..400_usize)
        .map(|i| (i * 7 % 90, i * 11 % 35))
        .map(|(x, y)| PointLabel { x: x as u32, y: y as u32, class: truth[[y, x]] })
        .collect();
    for extreme in [1e-3_f32, 1e3] {
        let exact = GaussianProcessConfig { noise: 1e-3, smoothing: 1e3, ..Default::default() };
        for config in [
            GaussianProcessConfig { reach: extreme, ..exact.clone() },
            GaussianProcessConfig { similarity: extreme, ..exact.clone() },
            GaussianProcessConfig { reach: extreme, similarity: extreme, edge_falloff: 0.0, ..exact.clone() },
            GaussianProcessConfig { compactness: extreme, edge_falloff: 1e6, ..exact.clone() },
        ] {
            let labels = gaussian_process_labels(&image, &points, &config);
            assert!(labels.is_ok(), "{config:?}: {labels:?}");
        }
    }
}

#[test]
fn bad_settings_name_their_field() {
    let text = |config: GaussianProcessConfig| GaussianProcessPropagator::new(config).unwrap_err().to_string();
    let default = GaussianProcessConfig::default;
    for (config, expected) in [
        (GaussianProcessConfig { segments: 0, ..default() }, "`segments`: expected at least 1, got 0"),
        (GaussianProcessConfig { working_side: 3, ..default() }, "`working_side`: expected at least 16, got 3"),
        (GaussianProcessConfig { noise: 0.0, ..default() }, "`noise`: expected a number from 0.001 to 1000, got 0"),
        (
            GaussianProcessConfig { reach: f32::NAN, ..default() },
            "`reach`: expected a number from 0.001 to 1000, got NaN",
        ),
        (GaussianProcessConfig { balance: 1.5, ..default() }, "`balance`: expected a number from 0 to 1, got 1.5"),
        (GaussianProcessConfig { smoothing: -1.0, ..default() }, "`smoothing`"),
    ] {
        let text = text(config);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn thousands_of_points_that_count_together_keep_their_classes() {
    let (image, truth) = disc(Size { width: 120, height: 90 });
    // More than are treated one by one, two of three pixels labelled.
    let labeled = (0..120 * 90_u32).filter(|i| i % 3 != 0).map(|i| (i % 120, i / 120));
    let points: Vec<_> = labeled.map(|(x, y)| PointLabel { x, y, class: truth[[y as usize, x as usize]] }).collect();
    assert!(points.len() > MOST_SINGLE_POINTS);
    let labels = gaussian_process_labels(&image, &points, &GaussianProcessConfig::default()).unwrap();
    assert!(points.iter().all(|p| labels[[p.y as usize, p.x as usize]] == p.class));
    let wrong = labels.iter().zip(&truth).filter(|(a, b)| a != b).count();
    assert!(wrong < labels.len() / 50, "{wrong}");
}
