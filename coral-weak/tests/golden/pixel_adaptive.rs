//! Pixel-adaptive refinement as ToCo and ExCEL have it.

use coral_core::ndarray::{Array3, ArrayD, Axis, Ix3};
use coral_core::testing::GoldenCase;
use coral_weak::{PixelAdaptiveConfig, pixel_adaptive};

use super::{TestResult, assert_close, open};

type Planes = Result<Array3<f32>, Box<dyn std::error::Error>>;

/// A tensor without its leading axis of 1.
fn planes(case: &GoldenCase, name: &str) -> Planes {
    Ok(case.f32(name)?.index_axis_move(Axis(0), 0).into_dimensionality::<Ix3>()?)
}

/// The image's levels, 3×H×W.
fn levels(case: &GoldenCase) -> Planes {
    let image = case.u8("image_u8")?.into_dimensionality::<Ix3>()?;
    Ok(image.permuted_axes([2, 0, 1]).mapv(f32::from).as_standard_layout().into_owned())
}

/// Bilinear, the corners on the corners.
fn resized(image: &Array3<f32>, (height, width): (usize, usize)) -> Array3<f32> {
    let place = |at: usize, to: usize, from: usize| at as f32 * (from - 1) as f32 / (to - 1) as f32;
    Array3::from_shape_fn((image.dim().0, height, width), |(c, y, x)| {
        let (y, x) = (place(y, height, image.dim().1), place(x, width, image.dim().2));
        let share = |v: usize, at: f32| (1.0 - (v as f32 - at).abs()).max(0.0);
        let (rows, columns) =
            (y as usize..image.dim().1.min(y as usize + 2), x as usize..image.dim().2.min(x as usize + 2));
        rows.flat_map(|v| columns.clone().map(move |u| (v, u)))
            .map(|(v, u)| image[[c, v, u]] * share(v, y) * share(u, x))
            .sum()
    })
}

fn check(case: &GoldenCase, name: &str, ours: Array3<f32>) -> TestResult {
    let tolerance = if name.starts_with("flat") { 1e-5 } else { 1e-4 };
    let reference: ArrayD<f64> = planes(case, name)?.mapv(f64::from).into_dyn();
    assert_close(name, &ours.mapv(f64::from).into_dyn(), &reference, |a, b| (a - b).abs() <= tolerance);
    Ok(())
}

#[test]
fn par() -> TestResult {
    let case = open("par");
    let dilations = case.value("/config/dil")?.as_array().ok_or("dilations")?;
    let published = PixelAdaptiveConfig {
        iterations: case.number("/config/it")? as usize,
        dilations: dilations.iter().filter_map(|d| d.as_u64().map(|d| d as usize)).collect(),
        sigma: case.number("/config/w1")? as f32,
        position_weight: case.number("/config/w2")? as f32,
        normalize: false,
    };
    let once = PixelAdaptiveConfig { iterations: 1, ..published.clone() };
    let nearest = PixelAdaptiveConfig { dilations: vec![1], ..once.clone() };
    let longer = PixelAdaptiveConfig { iterations: case.number("/config/it2")? as usize, ..published.clone() };
    let (image, coarse) = (levels(&case)?, planes(&case, "masks")?);
    let masks = planes(&case, "toco/upsampled_masks")?;
    check(&case, "toco/raw255/out", pixel_adaptive(image.view(), &masks, &published)?)?;
    check(&case, "toco/raw255/out_iter1", pixel_adaptive(image.view(), &masks, &once)?)?;
    check(&case, "toco/dil1_iter1/out", pixel_adaptive(image.view(), &masks, &nearest)?)?;
    // Contrast and exposure of the channels do not matter.
    let [mean, deviation] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    let normalized = Array3::from_shape_fn(image.dim(), |at| (image[at] / 255.0 - mean[at.0]) / deviation[at.0]);
    check(&case, "toco/norm/out", pixel_adaptive(normalized.view(), &masks, &published)?)?;
    let small = resized(&image, (coarse.dim().1, coarse.dim().2));
    check(&case, "excel/raw255/out", pixel_adaptive(small.view(), &coarse, &longer)?)?;
    let flat = planes(&case, "flat/masks")?;
    let gray = Array3::from_elem((3, flat.dim().1, flat.dim().2), 100.0);
    check(&case, "flat/out", pixel_adaptive(gray.view(), &flat, &published)?)
}
