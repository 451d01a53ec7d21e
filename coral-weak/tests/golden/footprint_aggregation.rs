//! Footprints of cameras and the probabilities of the tiles they cover.

use coral_core::ndarray::{Array2, Array3, ArrayView2, Ix1, Ix2, Ix3};
use coral_core::testing::GoldenCase;
use coral_core::{Crs, GeoTransform, RasterGrid, Size};
use coral_weak::{Camera, Footprint, FootprintConfig, aggregate_footprints, destination};

use super::{TestResult, open};

struct Survey {
    case: GoldenCase,
    frames: Vec<(Footprint, (f64, f64))>,
    grid: RasterGrid,
}

impl Survey {
    fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let case = open("footprint_aggregation");
        let corners: Array3<f64> = case.f64("corners")?.into_dimensionality()?;
        let tiles: Array2<f64> = case.f64("tiles")?.into_dimensionality()?;
        // Of the positions the case tells only in which tile they lie.
        let inside = case.u8("centre_in_tile")?.into_dimensionality::<Ix2>()?;
        let frame = |(i, quad): (usize, ArrayView2<'_, f64>)| -> coral_core::Result<_> {
            let at = |i: usize| (quad[[i, 0]], quad[[i, 1]]);
            let tile = inside.column(i).iter().position(|&inside| inside == 1).map(|tile| tiles.row(tile));
            let middle = tile.map(|tile| ((tile[0] + tile[2]) / 2.0, (tile[1] + tile[3]) / 2.0));
            Ok((Footprint::new([at(0), at(1), at(2), at(3)])?, middle.unwrap_or((f64::INFINITY, f64::INFINITY))))
        };
        let frames = corners.outer_iter().enumerate().map(frame).collect::<Result<Vec<_>, _>>()?;
        let (columns, rows) = (case.number("/config/nx")? as u32, case.number("/config/ny")? as u32);
        let side = case.number("/config/tile")?;
        let top = tiles[[0, 1]] + f64::from(rows) * side;
        let transform = GeoTransform::north_up(tiles[[0, 0]], top, side, side);
        let grid = RasterGrid { size: Size { width: columns, height: rows }, transform, crs: Crs { epsg: 32740 } };
        Ok(Self { case, frames, grid })
    }

    /// The tile of row-major index from the south-west as (row, column) of the raster, whose first row is the northern.
    fn cell(&self, tile: usize) -> (usize, usize) {
        let (height, width) = self.grid.size.shape();
        (height - 1 - tile / width, tile % width)
    }

    fn check(&self, name: &str, probabilities: &Array2<f64>, config: &FootprintConfig) -> TestResult {
        let expected = self.case.f64(name)?.into_dimensionality::<Ix2>()?;
        let ours = aggregate_footprints(&self.frames, probabilities.view(), &self.grid, config)?.values;
        assert_eq!(ours.len(), expected.len());
        for ((tile, class), &expected) in expected.indexed_iter() {
            let (row, column) = self.cell(tile);
            // Where no footprint counts ours holds no data and the reference 0.
            let value = Some(ours[[class, row, column]]).filter(|value| !value.is_nan()).unwrap_or(0.0);
            assert!(
                (value - expected).abs() < 1e-10,
                "{name}, tile {tile}, class {class}: {value}, expected {expected}"
            );
        }
        Ok(())
    }
}

#[test]
fn footprint_aggregation_probabilities() -> TestResult {
    let survey = Survey::open()?;
    let areas = survey.case.f64("area")?;
    for ((footprint, _), &expected) in survey.frames.iter().zip(&areas) {
        assert!((footprint.area() - expected).abs() < 1e-10 * expected);
    }
    let probabilities: Array2<f64> = survey.case.f64("probs")?.into_dimensionality()?;
    let any = FootprintConfig { min_coverage: 0.0, centre_in_cell: false };
    survey.check("tile_prob", &probabilities, &any)?;
    let centred = FootprintConfig { centre_in_cell: true, ..any };
    survey.check("tile_prob_centre_in_tile", &probabilities, &centred)?;
    let binary = survey.case.u8("binary")?.into_dimensionality::<Ix2>()?.mapv(f64::from);
    survey.check("tile_prob_binary", &binary, &any)
}

#[test]
fn footprint_aggregation_intersections() -> TestResult {
    let survey = Survey::open()?;
    let expected = survey.case.f64("intersection_area")?.into_dimensionality::<Ix2>()?;
    let any = FootprintConfig { min_coverage: 0.0, centre_in_cell: false };
    for (index, frame) in survey.frames.iter().enumerate() {
        // What is certain in a footprint is as probable in a tile as the tile's share of it.
        let shares = aggregate_footprints(&[*frame], Array2::ones((1, 1)).view(), &survey.grid, &any)?.values;
        for (tile, &expected) in expected.column(index).iter().enumerate() {
            let (row, column) = survey.cell(tile);
            let share = Some(shares[[0, row, column]]).filter(|share| !share.is_nan()).unwrap_or(0.0);
            let area = share * frame.0.area();
            assert!((area - expected).abs() < 1e-10, "footprint {index}, tile {tile}: {area}, expected {expected}");
        }
    }
    Ok(())
}

#[test]
fn footprint_aggregation_coverage() -> TestResult {
    let survey = Survey::open()?;
    for (name, centre_in_cell) in [("coverage", false), ("coverage_centre_in_tile", true)] {
        let expected = survey.case.f64(name)?.into_dimensionality::<Ix1>()?;
        let ones = Array2::ones((survey.frames.len(), 1));
        // The least coverage that leaves a cell its data brackets what the cell is covered by.
        let covered = |min_coverage: f64, tile: usize| -> coral_core::Result<bool> {
            let config = FootprintConfig { min_coverage, centre_in_cell };
            let raster = aggregate_footprints(&survey.frames, ones.view(), &survey.grid, &config)?;
            let (row, column) = survey.cell(tile);
            Ok(!raster.values[[0, row, column]].is_nan())
        };
        for (tile, &share) in expected.iter().enumerate() {
            if share > 0.0 {
                assert!(covered((share - 1e-8).clamp(0.0, 1.0), tile)?, "{name}, tile {tile}");
            }
            if share + 1e-8 < 1.0 {
                assert!(!covered(share + 1e-8, tile)?, "{name}, tile {tile}");
            }
        }
    }
    Ok(())
}

#[test]
fn footprint_aggregation_cameras() -> TestResult {
    let case = open("footprint_aggregation");
    let values = |name: &str| case.f64(&format!("camera/{name}"))?.into_dimensionality::<Ix1>().map_err(|e| e.into());
    let read = |name: &str| -> Result<_, Box<dyn std::error::Error>> { values(name) };
    let (altitude, roll, pitch) = (read("altitude")?, read("roll_deg")?, read("pitch_deg")?);
    let (track, lat, lon) = (read("track_deg")?, read("lat")?, read("lon")?);
    let ground: Array3<f64> = case.f64("camera/ground_xy")?.into_dimensionality::<Ix3>()?;
    let places: Array3<f64> = case.f64("camera/corners_lonlat")?.into_dimensionality::<Ix3>()?;
    for i in 0..altitude.len() {
        let corners = Camera::default().ground(altitude[i], [roll[i], pitch[i], track[i]])?;
        for (corner, (north, east)) in corners.into_iter().enumerate() {
            let expected = (ground[[i, corner, 0]], ground[[i, corner, 1]]);
            assert!((north - expected.0).abs() < 1e-9 && (east - expected.1).abs() < 1e-9, "camera {i}: {corners:?}");
            let bearing = east.atan2(north).to_degrees();
            let (longitude, latitude) = destination((lon[i], lat[i]), north.hypot(east), bearing);
            let expected = (places[[i, corner, 0]], places[[i, corner, 1]]);
            let close = (longitude - expected.0).abs() < 1e-12 && (latitude - expected.1).abs() < 1e-12;
            assert!(close, "camera {i}: ({longitude}, {latitude}), expected {expected:?}");
        }
    }
    Ok(())
}
