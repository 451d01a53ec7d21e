//! Parity with published programs; the cases are described in their `case.json`.

use coral_core::image::RgbImage;
use coral_core::testing::GoldenCase;
use coral_weak::{lab_color, lab_image};

fn open(name: &str) -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), name).unwrap()
}

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
