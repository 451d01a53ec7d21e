//! The stretch of class probabilities and the coarse class raster.

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array3, ArrayView3, Axis, Ix2, Ix3, stack};
use coral_core::testing::GoldenCase;
use coral_core::{ImageWindow, LabelMap, NoProgress, Size, UNLABELED};
use coral_weak::{Fusion, MissingClasses, QuantileStretch, RasterMapConfig, RasterMapper, coarse_classes};

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
        let unlabeled = |missing| -> coral_core::Result<usize> {
            Ok(coarse_classes(values.view(), missing)?.iter().filter(|&&class| class == UNLABELED).count())
        };
        let some_missing = unlabeled(MissingClasses::NoData)? - unlabeled(MissingClasses::Ignore)?;
        assert_eq!(some_missing as f64, case.number(&format!("/nan_quirk_pixels/{s}"))?, "session {s}");
    }
    Ok(())
}

#[test]
fn coarse_map_votes() -> TestResult {
    let case = open("coarse_map");
    let tiles: Vec<(u32, u32)> = case
        .i64("vote/tile_xy")?
        .into_dimensionality::<Ix2>()?
        .outer_iter()
        .map(|xy| (xy[0] as u32, xy[1] as u32))
        .collect();
    let labels = case.u8("vote/tile_preds")?.into_dimensionality::<Ix3>()?;
    let expected = case.u8("vote/result_FIXED_class_ids")?.into_dimensionality::<Ix2>()?;
    // Ids of the published map start at 1; 0 is where no tile lies.
    let expected = expected.mapv(|id| id.checked_sub(1).unwrap_or(UNLABELED));
    let side = |pointer: &str| case.number(pointer).map(|side| Size { width: side as u32, height: side as u32 });
    let (tile, stride) = (side("/vote/tile")?, side("/vote/step")?);
    let size = Size::of_map(&expected);
    // A pixel's colour tells its place, so that the tile is known.
    let place = |x: u32, y: u32| {
        Rgb([
            (x / stride.width) as u8,
            (y / stride.height) as u8,
            u8::from((x % stride.width, y % stride.height) == (0, 0)),
        ])
    };
    let raster = RgbImage::from_fn(size.width, size.height, place);
    let label = |window: &ImageWindow| {
        let [column, row, aligned] = window.image.get_pixel(0, 0).0;
        let corner = (u32::from(column) * stride.width, u32::from(row) * stride.height);
        let index = tiles.iter().position(|&tile| tile == corner).filter(|_| aligned == 1);
        // The published program has no tiles at the right and bottom edge.
        let nothing = || LabelMap::from_elem(tile.shape(), UNLABELED);
        Ok(index.map_or_else(nothing, |index| labels.index_axis(Axis(0), index).mapv(|id| id - 1)))
    };
    let classes = usize::from(labels.iter().max().copied().unwrap_or(0));
    let config = RasterMapConfig { tile, stride, fusion: Fusion::Votes, ..Default::default() };
    let mut map = LabelMap::default((0, 0));
    RasterMapper { raster: &raster, config: &config, progress: &NoProgress }.vote(classes, &label, &mut map)?;
    assert!(map == expected, "{} pixels differ", map.iter().zip(&expected).filter(|(a, b)| a != b).count());
    // The published vote numbers only the classes that are predicted.
    let mut predicted: Vec<u8> = labels.iter().copied().collect();
    predicted.sort_unstable();
    predicted.dedup();
    let number =
        |class: u8| predicted.iter().position(|&id| Some(id) == class.checked_add(1)).map_or(0, |at| at as u8 + 1);
    let published = case.u8("vote/result_reference")?.into_dimensionality::<Ix2>()?;
    assert!(map.mapv(number) == published, "the published vote differs");
    mosaics(&case, &map)
}

/// The published mosaics begin at the second column, and leave their last one open.
fn mosaics(case: &GoldenCase, map: &LabelMap) -> TestResult {
    for name in ["mosaic/one_slice", "mosaic/multi_slice"] {
        let mosaic = case.u8(name)?.into_dimensionality::<Ix2>()?;
        for ((y, x), &id) in mosaic.indexed_iter().filter(|((_, x), _)| x + 1 < mosaic.ncols()) {
            let expected = id.checked_sub(1).unwrap_or(UNLABELED);
            assert_eq!(map[[y, x + 1]], expected, "{name} at ({x}, {y})");
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
