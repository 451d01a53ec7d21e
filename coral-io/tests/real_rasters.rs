//! Real georeferenced class maps from the folder in `CORAL_DATA_DIR`.
#![cfg(feature = "geo")]

mod real_data;

use coral_core::{Crs, LabelMap, LabelRaster, LabelSink, Rect, Size, UNLABELED};
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
    let copy = folder.path().join("copy.tif");
    let mut writer = LabelGeoTiffWriter::create(&copy, grid, None, TiffLayout::default()).unwrap();
    let band = |y: u32| Rect { x: 0, y, width: grid.size.width, height: 700.min(grid.size.height - y) };
    for y in (0..grid.size.height).step_by(700) {
        writer.write_rows(&map.read_labels(band(y)).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let copy = LabelGeoTiff::open(&copy, &[]).unwrap();
    assert_eq!(copy.grid(), grid);
    for tile in tiles(grid.size) {
        assert!(copy.read_labels(tile).unwrap() == map.read_labels(tile).unwrap(), "{tile:?}");
    }

    let there = suggested_grid(&grid, Crs { epsg: 32633 }, Some(0.05)).unwrap();
    let warped = Resampled::reprojected(&map, grid, there, Resampling::Nearest).unwrap();
    let mut seen = [0_u64; 256];
    for tile in tiles(there.size) {
        let part = counts(&warped.read_labels(tile).unwrap());
        seen.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
    }
    // Areas are kept to the scales of the two zones, which differ by less than 0.3 % here.
    for class in 1..11 {
        let (before, after) = (found[class] as f64 * 1e-4, seen[class] as f64 * 25e-4);
        assert!((after / before - 1.0).abs() < 0.01, "class {class}: {before} m² became {after} m²");
    }
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
    let (a, b) = (counts(&saint_leu), counts(&trou_deau));
    let labelled: u64 = (0..UNLABELED).map(|id| a[usize::from(id)] + b[usize::from(id)]).sum();
    let sand = 100.0 * (a[5] + b[5]) as f64 / labelled as f64;
    assert_eq!(format!("{sand:.2}"), "73.58");
}
