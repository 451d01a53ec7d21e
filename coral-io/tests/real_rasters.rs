//! Real georeferenced class maps from the folder in `CORAL_DATA_DIR`.
#![cfg(feature = "geo")]

mod real_data;

use std::path::Path;

use coral_core::{Crs, LabelMap, LabelRaster, LabelSink, RasterGrid, Rect, Size, UNLABELED};
use coral_io::geo::{GeoTiff, LabelGeoTiff, LabelGeoTiffWriter, Resampled, Resampling, TiffLayout, suggested_grid};
use coral_io::read_label_map;

use real_data::data;

fn counts(map: &LabelMap) -> [u64; 256] {
    let mut counts = [0; 256];
    map.iter().for_each(|&id| counts[usize::from(id)] += 1);
    counts
}

/// Windows of at most 512×512 that cover a raster, from the top.
fn tiles(size: Size) -> impl Iterator<Item = Rect> {
    let whole = Rect::whole(size);
    (0..size.height).step_by(512).flat_map(move |y| {
        (0..size.width).step_by(512).filter_map(move |x| Rect { x, y, width: 512, height: 512 }.intersection(whole))
    })
}

#[test]
fn a_large_class_map() {
    let Some(root) = data("benthic_map") else { return };
    let map = LabelGeoTiff::open(root.join("map.tif"), &[0]).unwrap();
    let grid = map.grid();
    assert_eq!((grid.size, grid.crs), (Size { width: 9606, height: 8656 }, Crs { epsg: 32632 }));
    assert!((grid.transform.column.0 - 0.01).abs() < 1e-9 && (grid.transform.x - 725_868.154_9).abs() < 1e-6);
    assert_eq!((map.metadata().no_data, map.metadata().compression), (Some(15.0), "LZW"));

    let mut found = [0; 256];
    for tile in tiles(grid.size) {
        let part = counts(&map.read_labels(tile).unwrap());
        found.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
    }
    let classes =
        [3_756_641, 337_336, 2_719_416, 1_118_389, 1_006_451, 638_565, 4_555_733, 10_301_709, 4_791_908, 1_055_243];
    assert_eq!((found[0], &found[1..11], found[255]), (0, &classes[..], 52_868_145));

    let folder = tempfile::tempdir().unwrap();
    let again = written(&map, grid, &folder.path().join("copy.tif"));
    for tile in tiles(grid.size) {
        assert!(again.read_labels(tile).unwrap() == map.read_labels(tile).unwrap(), "{tile:?}");
    }

    // Onto another zone and onto degrees, cut into tiles, and back: no pixel moves by more than one.
    for (crs, resolution, square_metres) in [(Crs { epsg: 32633 }, Some(0.05), 25e-4), (Crs::WGS84, None, f64::NAN)] {
        let there = suggested_grid(&grid, crs, resolution).unwrap();
        let warped = Resampled::reprojected(&map, grid, there, Resampling::Nearest).unwrap();
        let copy = written(&warped, there, &folder.path().join("warped.tif"));
        let mut seen = [0_u64; 256];
        for tile in tiles(there.size) {
            let part = copy.read_labels(tile).unwrap();
            assert!(part == warped.read_labels(tile).unwrap(), "{crs} {tile:?}");
            seen.iter_mut().zip(counts(&part)).for_each(|(sum, count)| *sum += count);
        }
        // Areas are kept to the scales of the two systems: within 0.3 % between the zones; in degrees, shares are.
        let sum = |counts: &[u64; 256]| counts[1..11].iter().sum::<u64>() as f64;
        for class in 1..11 {
            let (mut before, mut after) = (found[class] as f64 * 1e-4, seen[class] as f64 * square_metres);
            if crs == Crs::WGS84 {
                (before, after) = (found[class] as f64 / sum(&found), seen[class] as f64 / sum(&seen));
            }
            assert!((after / before - 1.0).abs() < 0.01, "{crs}, class {class}: {before} became {after}");
        }
        if crs == Crs::WGS84 {
            let back = Resampled::reprojected(&copy, there, grid, Resampling::Nearest).unwrap();
            let (mut equal, mut all) = (0, 0);
            for tile in tiles(grid.size).step_by(5) {
                let (back, map) = (back.read_labels(tile).unwrap(), map.read_labels(tile).unwrap());
                equal += back.iter().zip(&map).filter(|(a, b)| a == b).count();
                all += map.len();
            }
            let share = equal as f64 / all as f64;
            eprintln!("there and back: {:.3} % of the pixels are the same", 100.0 * share);
            assert!(share > 0.98, "{share}");
        }
    }
}

/// A map written tile row by tile row and opened again.
fn written(map: &dyn LabelRaster, grid: RasterGrid, path: &Path) -> LabelGeoTiff {
    let mut writer = LabelGeoTiffWriter::create(path, grid, None, TiffLayout::default()).unwrap();
    for y in (0..grid.size.height).step_by(700) {
        let band = Rect { x: 0, y, width: grid.size.width, height: 700.min(grid.size.height - y) };
        writer.write_rows(&map.read_labels(band).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let copy = LabelGeoTiff::open(path, &[]).unwrap();
    assert_eq!(copy.grid(), grid);
    copy
}

#[test]
fn drone_masks() {
    let Some(root) = data("drone_masks") else { return };
    let tiff = GeoTiff::open(root.join("annotation_mask_saintleu.tif")).unwrap();
    assert_eq!((tiff.grid().crs, tiff.metadata().no_data), (Crs { epsg: 32740 }, Some(0.0)));
    let map = LabelGeoTiff::new(tiff, &[]).unwrap();
    let saint_leu = map.read_labels(Rect::whole(map.size())).unwrap();
    // The picture of the same zone holds the same classes.
    let picture = read_label_map(root.join("annotation_mask_stleu.png")).unwrap();
    assert_eq!(saint_leu, picture);
    let trou_deau = read_label_map(root.join("annotation_mask_troudeau.png")).unwrap();
    // The baseline that every result stands beside: everything is sand.
    let sand = [&saint_leu, &trou_deau].map(|truth| (truth, LabelMap::from_elem(truth.dim(), 5)));
    let constant = accuracy(sand.iter().map(|(truth, sand)| (*truth, sand)));
    assert_eq!(format!("{constant:.2}"), "73.58");
    assert_eq!(accuracy([&saint_leu, &trou_deau].into_iter().map(|truth| (truth, truth))), 100.0);
}

/// Percent of the labelled pixels of (truth, prediction) that agree, over all pairs.
fn accuracy<'a>(pairs: impl Iterator<Item = (&'a LabelMap, &'a LabelMap)>) -> f64 {
    let (mut right, mut all) = (0_u64, 0_u64);
    for (truth, prediction) in pairs {
        for (&truth, &prediction) in truth.iter().zip(prediction).filter(|(truth, _)| **truth != UNLABELED) {
            (right, all) = (right + u64::from(truth == prediction), all + 1);
        }
    }
    100.0 * right as f64 / all as f64
}
