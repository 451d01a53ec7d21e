//! The nearest fill of *The point is the mask*.

use coral_core::ndarray::{Array2, Ix2, Ix3};
use coral_core::testing::GoldenCase;
use coral_core::{LabelMap, PointLabel, Size};
use coral_weak::{distance_transform, fill_class};

use super::{TestResult, open};

#[test]
fn nearest_fill() -> TestResult {
    let case = open("coarse_map");
    // The id after the last class marks what is to be filled.
    let marker = case.value("/classes")?.as_array().ok_or("classes")?.len() as u8 + 1;
    let mut filled = 0;
    for tensor in case.tensor_names()? {
        let Some(fill) = tensor.strip_suffix("/in").filter(|name| name.starts_with("fill")) else { continue };
        let map = |part: &str| -> Result<LabelMap, Box<dyn std::error::Error>> {
            Ok(case.u8(&format!("{fill}/{part}"))?.into_dimensionality::<Ix2>()?)
        };
        let (open, expected) = (map("in")?, map("out")?);
        let ours = fill_class(&open, marker)?;
        for ((y, x), (&ours, &expected)) in ours.indexed_iter().map(|(at, v)| (at, (v, &expected[at]))) {
            if ours != expected {
                let near = |class: u8| nearest_square(&open, (y, x), class);
                assert_eq!(near(ours), near(expected), "{fill}: ({x}, {y}) is {ours}, expected {expected}");
            }
        }
        if case.tensor_names()?.contains(&format!("{fill}/nearest_rc")) {
            nearest_pixels(&case, fill, &open, marker)?;
        }
        filled += 1;
    }
    assert!(filled > 0, "the case holds no map to fill");
    Ok(())
}

/// The nearest pixel that keeps its class is as far away as that of the reference.
fn nearest_pixels(case: &GoldenCase, fill: &str, open: &LabelMap, marker: u8) -> TestResult {
    let nearest = case.i64(&format!("{fill}/nearest_rc"))?.into_dimensionality::<Ix3>()?;
    let members = open.indexed_iter().filter(|(_, label)| **label != marker);
    let points: Vec<_> = members.map(|((y, x), &class)| PointLabel { x: x as u32, y: y as u32, class }).collect();
    let distance = distance_transform(Size::of_map(open), &points)?.distance;
    for ((y, x), &ours) in distance.indexed_iter() {
        let (dy, dx) = (nearest[[0, y, x]] as f32 - y as f32, nearest[[1, y, x]] as f32 - x as f32);
        assert!((ours - dy.hypot(dx)).abs() <= 1e-4, "{fill}: ({x}, {y}) is {ours} away, expected {}", dy.hypot(dx));
    }
    Ok(())
}

/// The squared distance of a pixel to the nearest one of a class.
fn nearest_square(labels: &Array2<u8>, (y, x): (usize, usize), class: u8) -> Option<usize> {
    let members = labels.indexed_iter().filter(|(_, label)| **label == class);
    members.map(|((v, u), _)| v.abs_diff(y).pow(2) + u.abs_diff(x).pow(2)).min()
}
