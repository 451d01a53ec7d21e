//! Geodesic distances, exact and by raster scans.

use coral_core::ndarray::{Array2, Array3, Axis, Ix2};
use coral_core::testing::GoldenCase;
use coral_weak::{geodesic_distance, geodesic_raster_scan};

use super::{TestResult, assert_close, open};

/// The image, start costs and lambda.
type Setting = (Array3<f32>, Array2<f64>, f64);

/// The image, start costs and lambda of a setting such as `gray_soft_v10_lamb0.5`.
fn geodesic_setting(case: &GoldenCase, name: &str) -> Result<Setting, Box<dyn std::error::Error>> {
    let (kind, lambda) = name.split_once("_lamb").ok_or("expected KIND_lambVALUE")?;
    let gray = || -> Result<Array3<f32>, Box<dyn std::error::Error>> {
        Ok(case.f32("gray")?.into_dimensionality::<Ix2>()?.insert_axis(Axis(0)))
    };
    let mask = |tensor: &str| -> Result<Array2<f64>, Box<dyn std::error::Error>> {
        Ok(case.f32(tensor)?.into_dimensionality::<Ix2>()?.mapv(f64::from))
    };
    let (image, start) = match kind.strip_prefix("gray_soft_v") {
        Some(v) => (gray()? / 16.0, mask("soft_mask")? * v.parse::<f64>()?),
        None if kind == "gray" => (gray()?, mask("seed_mask")? * 1e10),
        None => (case.f32(&format!("{name}/image"))?.into_dimensionality()?, mask("seed_mask")? * 1e10),
    };
    Ok((image, start, lambda.parse()?))
}

#[test]
fn geodesic() -> TestResult {
    let case = open("geodesic");
    let (mut exact, mut scanned) = (0, 0);
    for tensor in case.tensor_names()? {
        let Some((setting, what)) = tensor.split_once('/') else { continue };
        if what == "image" {
            continue;
        }
        let (image, start, lambda) = geodesic_setting(&case, setting)?;
        if what == "dijkstra_f64" {
            let ours = geodesic_distance(image.view(), start.view(), lambda)?.into_dyn();
            assert_close(&tensor, &ours, &case.f64(&tensor)?, |a, b| (a - b).abs() <= 1e-6 * b.abs());
            exact += 1;
        } else {
            let iterations = what.strip_prefix("fastgeodis_iter").ok_or("expected fastgeodis_iterN")?.parse()?;
            let ours = geodesic_raster_scan(image.view(), start.view(), lambda, iterations)?;
            let reference = case.f32(&tensor)?.mapv(f64::from);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-3 + 1e-5 * b.abs();
            assert_close(&tensor, &ours.mapv(f64::from).into_dyn(), &reference, close);
            scanned += 1;
        }
    }
    assert!(exact > 0 && scanned > 0, "the case holds no reference distances");
    Ok(())
}
