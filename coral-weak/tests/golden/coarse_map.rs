//! The stretch of class probabilities and the coarse class raster.

use coral_core::LabelMap;
use coral_core::ndarray::{Array3, ArrayView3, Axis, Ix2, Ix3, stack};
use coral_core::testing::GoldenCase;
use coral_weak::{MissingClasses, QuantileStretch, coarse_classes};

use super::{TestResult, open};

fn sessions(case: &GoldenCase) -> Result<Vec<Array3<f64>>, Box<dyn std::error::Error>> {
    let classes = case.number("/config/K")? as usize;
    let session = |s: usize| {
        let band = |class: usize| case.f32(&format!("sess{s}/prob/{class}")).map(|band| band.mapv(f64::from));
        let bands = (0..classes).map(band).collect::<Result<Vec<_>, _>>()?;
        let views: Vec<_> = bands.iter().map(|band| band.view()).collect();
        Ok(stack(Axis(0), &views)?.into_dimensionality::<Ix3>()?)
    };
    (0..case.number("/config/sess")? as usize).map(session).collect()
}

fn fitted(sessions: &[Array3<f64>]) -> coral_core::Result<QuantileStretch> {
    QuantileStretch::fit(&sessions.iter().map(|session| session.view()).collect::<Vec<_>>())
}

#[test]
fn coarse_map_stretch() -> TestResult {
    let case = open("coarse_map");
    let sessions = sessions(&case)?;
    let stretch = fitted(&sessions)?;
    let expected = case.f64("quantiles_q1_q99_f64")?.into_dimensionality::<Ix2>()?;
    assert_eq!(stretch.quantiles.len(), expected.nrows());
    for (class, (quantiles, expected)) in stretch.quantiles.iter().zip(expected.outer_iter()).enumerate() {
        let (low, high) = quantiles.ok_or("a class without data")?;
        assert!((low - expected[0]).abs() < 1e-6 && (high - expected[1]).abs() < 1e-6, "class {class}: {low}, {high}");
    }
    let ours = stretch.apply(sessions[0].view())?;
    let expected = case.f32("sess0/stretched")?.into_dimensionality::<Ix3>()?;
    assert_eq!(ours.dim(), expected.dim());
    for (place, &value) in ours.indexed_iter() {
        let expected = f64::from(expected[place]);
        assert!(
            (value - expected).abs() < 1e-6 || value.is_nan() && expected.is_nan(),
            "{place:?}: {value}, {expected}"
        );
    }
    Ok(())
}

#[test]
fn coarse_map_classes() -> TestResult {
    let case = open("coarse_map");
    let sessions = sessions(&case)?;
    let stretch = fitted(&sessions)?;
    for (s, session) in sessions.iter().enumerate() {
        let values = stretch.apply(session.view())?;
        for (name, missing) in [("_nan_aware_FIXED", MissingClasses::Ignore), ("", MissingClasses::Win)] {
            let ours = coarse_classes(values.view(), missing)?;
            // Ids of the published raster start at 1.
            let published = case.u8(&format!("sess{s}/classification{name}"))?.into_dimensionality::<Ix2>()?;
            let expected: LabelMap = published.mapv(|id| if id == 255 { 255 } else { id - 1 });
            let wrong: Vec<_> = ours
                .indexed_iter()
                .filter(|&(at, &class)| class != expected[at] && !tied(&values.view(), at))
                .collect();
            assert!(ours.dim() == expected.dim() && wrong.is_empty(), "session {s}{name}: {wrong:?}");
        }
    }
    Ok(())
}

/// Whether the two largest values of a cell are equal up to the rounding of the reference.
fn tied(values: &ArrayView3<'_, f64>, (y, x): (usize, usize)) -> bool {
    let mut cell: Vec<f64> = values.slice(coral_core::ndarray::s![.., y, x]).iter().copied().collect();
    cell.retain(|value| !value.is_nan());
    cell.sort_unstable_by(f64::total_cmp);
    matches!(cell[..], [.., second, first] if first - second < 1e-6)
}
