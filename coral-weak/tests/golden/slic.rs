//! Lab values and the quality marks of superpixels.

use std::collections::HashMap;

use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Ix2, s};
use coral_core::testing::GoldenCase;
use coral_weak::{SlicConfig, lab_color, lab_image, slic_lab};

use super::open;

fn slic_image(case: &GoldenCase) -> RgbImage {
    let pixels = case.u8("image_u8").unwrap();
    let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
    RgbImage::from_raw(width, height, pixels.iter().copied().collect()).unwrap()
}

#[test]
fn slic_lab_values() {
    let case = open("slic");
    let image = slic_image(&case);
    let expected = case.f64("lab_f64").unwrap();
    let fast = lab_image(&image);
    for (x, y, pixel) in image.enumerate_pixels() {
        let exact = lab_color(pixel.0);
        for axis in 0..3 {
            let expected = expected[[y as usize, x as usize, axis]];
            assert!((exact[axis] - expected).abs() <= 1e-9, "{pixel:?} axis {axis}");
            let fast = f64::from(fast[[axis, y as usize, x as usize]]);
            assert!((fast - expected).abs() <= 1e-3, "{pixel:?} axis {axis}: {fast} for {expected}");
        }
    }
    let (colors, expected) = (case.u8("lab_table/rgb_u8").unwrap(), case.f64("lab_table/lab_f64").unwrap());
    assert_eq!(colors.shape(), expected.shape());
    for i in 0..colors.shape()[0] {
        let exact = lab_color([colors[[i, 0]], colors[[i, 1]], colors[[i, 2]]]);
        for (axis, value) in exact.into_iter().enumerate() {
            assert!((value - expected[[i, axis]]).abs() <= 1e-9, "colour {i} axis {axis}");
        }
    }
}

/// Whether each pixel differs from its right or lower neighbour.
fn boundaries<T: PartialEq>(labels: &Array2<T>) -> Array2<bool> {
    let (height, width) = labels.dim();
    Array2::from_shape_fn((height, width), |(y, x)| {
        let here = &labels[[y, x]];
        x + 1 < width && labels[[y, x + 1]] != *here || y + 1 < height && labels[[y + 1, x]] != *here
    })
}

/// The share of the truth's boundary pixels with a boundary pixel within Chebyshev distance 2.
fn boundary_recall(labels: &Array2<u32>, truth: &Array2<i64>) -> f64 {
    let (found, wanted) = (boundaries(labels), boundaries(truth));
    let (height, width) = wanted.dim();
    let near = |y: usize, x: usize| {
        let (rows, columns) = (y.saturating_sub(2)..(y + 3).min(height), x.saturating_sub(2)..(x + 3).min(width));
        found.slice(s![rows, columns]).iter().any(|&b| b)
    };
    let pixels: Vec<_> = wanted.indexed_iter().filter(|(_, b)| **b).map(|(at, _)| at).collect();
    pixels.iter().filter(|&&(y, x)| near(y, x)).count() as f64 / pixels.len() as f64
}

/// Undersegmentation error and achievable segmentation accuracy.
fn overlap_measures(labels: &Array2<u32>, truth: &Array2<i64>) -> (f64, f64) {
    let mut overlaps = HashMap::<u32, HashMap<i64, usize>>::new();
    for (&label, &region) in labels.iter().zip(truth) {
        *overlaps.entry(label).or_default().entry(region).or_default() += 1;
    }
    let (mut leak, mut largest) = (0, 0);
    for parts in overlaps.values() {
        let size: usize = parts.values().sum();
        leak += parts.values().map(|&part| part.min(size - part)).sum::<usize>();
        largest += parts.values().max().unwrap();
    }
    (leak as f64 / labels.len() as f64, largest as f64 / labels.len() as f64)
}

#[test]
fn slic_quality() {
    let case = open("slic");
    let lab = lab_image(&slic_image(&case));
    let truth = case.i64("gt").unwrap().into_dimensionality::<Ix2>().unwrap();
    let settings = case.value("/config/settings").unwrap().as_array().unwrap();
    assert!(!settings.is_empty());
    for setting in settings {
        let (segments, compactness) = (setting[0].as_u64().unwrap(), setting[1].as_f64().unwrap());
        let config = SlicConfig {
            segments: segments as u32,
            compactness: compactness as f32,
            min_size_factor: 0.5,
            ..Default::default()
        };
        let found = slic_lab(&lab, &config).unwrap();
        let name = format!("n{segments}_c{}", setting[1]);
        let mark = |key: &str| case.number(&format!("/measures/{name}/suggested_mark/{key}")).unwrap();
        let recall = boundary_recall(found.labels(), &truth);
        let (error, asa) = overlap_measures(found.labels(), &truth);
        let count = f64::from(found.count());
        println!("{name}: {count} superpixels, recall {recall:.4}, error {error:.4}, asa {asa:.4}");
        assert!(recall >= mark("boundary_recall_r2_min"), "{name}: boundary recall {recall}");
        assert!(error <= mark("undersegmentation_error_max"), "{name}: undersegmentation error {error}");
        assert!(asa >= mark("asa_min"), "{name}: achievable accuracy {asa}");
        let range = mark("n_superpixels_range/0")..=mark("n_superpixels_range/1");
        assert!(range.contains(&count), "{name}: {count} superpixels, expected {range:?}");
        // The measures themselves agree with the reference's on the reference's labels.
        let reference = case.i64(&format!("{name}/labels")).unwrap().into_dimensionality::<Ix2>().unwrap();
        let reference = reference.mapv(|label| label as u32);
        let given = |key: &str| case.number(&format!("/measures/{name}/{key}")).unwrap();
        assert!((boundary_recall(&reference, &truth) - given("boundary_recall_r2")).abs() < 1e-9);
        let (error, asa) = overlap_measures(&reference, &truth);
        assert!((error - given("undersegmentation_error")).abs() < 1e-9 && (asa - given("asa")).abs() < 1e-9);
    }
}
