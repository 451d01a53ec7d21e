//! Pillow's, PyTorch's and OpenCV's ways to resize.

use coral_core::Size;
use coral_core::image::RgbImage;
use coral_core::ndarray::{ArrayD, Axis, Ix2};
use coral_models::{
    Interpolation, OpenCvInterpolation, PillowFilter, PlaneResampler, resize_image, resize_image_opencv, resize_plane,
};

use super::open;

fn pillow_filter(name: &str) -> PillowFilter {
    match name {
        "nearest" => PillowFilter::Nearest,
        "box" => PillowFilter::Box,
        "bilinear" => PillowFilter::Bilinear,
        "hamming" => PillowFilter::Hamming,
        "bicubic" => PillowFilter::Bicubic,
        "lanczos" => PillowFilter::Lanczos,
        _ => panic!("no Pillow filter is called {name}"),
    }
}

fn torch_interpolation(name: &str) -> Interpolation {
    match name {
        "nearest" => Interpolation::Nearest,
        "nearest_exact" => Interpolation::NearestExact,
        "bilinear" => Interpolation::Bilinear,
        "bilinear_align_corners" => Interpolation::BilinearAlignCorners,
        "bilinear_antialias" => Interpolation::BilinearAntialias,
        "bicubic" => Interpolation::Bicubic,
        "bicubic_antialias" => Interpolation::BicubicAntialias,
        "area" => Interpolation::Area,
        _ => panic!("no PyTorch mode is called {name}"),
    }
}

fn opencv_interpolation(name: &str) -> OpenCvInterpolation {
    match name {
        "linear" => OpenCvInterpolation::Linear,
        "area" => OpenCvInterpolation::Area,
        _ => panic!("no OpenCV mode is called {name}"),
    }
}

fn to_image(pixels: &ArrayD<u8>) -> RgbImage {
    let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
    RgbImage::from_raw(width, height, pixels.iter().copied().collect()).unwrap()
}

/// Planes of the image, one after the other.
fn to_planes(pixels: &ArrayD<u8>) -> Vec<f32> {
    pixels.axis_iter(Axis(2)).flat_map(|plane| plane.iter().map(|&v| f32::from(v)).collect::<Vec<_>>()).collect()
}

fn assert_levels(name: &str, ours: &RgbImage, expected: &ArrayD<u8>, apart: u8) {
    assert_eq!(ours.as_raw().len(), expected.len(), "{name}");
    for (at, (&a, &b)) in ours.as_raw().iter().zip(expected).enumerate() {
        assert!(a.abs_diff(b) <= apart, "{name}: value {at} is {a}, expected {b}");
    }
}

fn assert_values<'a>(name: &str, ours: impl IntoIterator<Item = &'a f32>, expected: &ArrayD<f32>) {
    let ours: Vec<f32> = ours.into_iter().copied().collect();
    assert_eq!(ours.len(), expected.len(), "{name}");
    for (at, (&a, &b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-3, "{name}: value {at} is {a}, expected {b}");
    }
}

#[test]
fn resize() {
    let case = open("resize");
    let mut compared = 0;
    for name in case.tensor_names().unwrap() {
        let (id, what) = name.split_once('/').unwrap();
        if what == "in_u8" {
            continue;
        }
        let index =
            case.value("/cases").unwrap().as_array().unwrap().iter().position(|c| c["id"].as_u64() == id.parse().ok());
        let side = |axis: usize| case.number(&format!("/cases/{}/out_hw/{axis}", index.unwrap())).unwrap() as u32;
        let size = Size { width: side(1), height: side(0) };
        let pixels = case.u8(&format!("{id}/in_u8")).unwrap();
        let image = to_image(&pixels);
        let (program, how) = what.split_once('_').unwrap();
        match (program, how.strip_suffix("_u8"), how.strip_suffix("_F")) {
            ("pil", Some(filter), _) => {
                let ours = resize_image(&image, size, pillow_filter(filter)).unwrap();
                assert_levels(&name, &ours, &case.u8(&name).unwrap(), 0);
            }
            ("cv2", Some(how), _) => {
                let ours = resize_image_opencv(&image, size, opencv_interpolation(how)).unwrap();
                assert_levels(&name, &ours, &case.u8(&name).unwrap(), 1);
            }
            ("pil", _, Some(filter)) => {
                let how = Interpolation::Pillow(pillow_filter(filter));
                let red = pixels.index_axis(Axis(2), 0).into_dimensionality::<Ix2>().unwrap();
                let ours = resize_plane(red.mapv(f32::from).view(), size, how).unwrap();
                assert_values(&name, &ours, &case.f32(&name).unwrap());
            }
            ("torch", ..) => {
                let resampler = PlaneResampler::new(Size::of(&image), size, torch_interpolation(how)).unwrap();
                let ours = resampler.resize(&to_planes(&pixels)).unwrap();
                assert_values(&name, &ours, &case.f32(&name).unwrap());
            }
            _ => panic!("`{name}` is of no known program"),
        }
        compared += 1;
    }
    assert!(compared > 0, "the case lists no results");
}
