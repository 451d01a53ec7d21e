//! GeoTIFFs that are written and read again, and damaged ones.
#![cfg(feature = "geo")]

use std::path::Path;

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array2, Array3, Axis, array, s};
use coral_core::{
    ClassSet, Crs, Error, GeoTransform, ImageRaster, ImageWindow, LabelMap, LabelRaster, LabelSink, RasterGrid, Rect,
    Size, UNLABELED,
};
use coral_io::geo::{
    BandWriter, ColorModel, GeoTiff, GeoTiffOptions, LabelGeoTiff, LabelGeoTiffWriter, Orthophoto, OrthophotoWriter,
    Projection, Resampled, Resampling, TiffBlocks, TiffCompression, TiffLayout, expect_overlap, suggested_grid,
};
use proptest::prelude::*;

fn grid(width: u32, height: u32, epsg: u32) -> RasterGrid {
    let transform = GeoTransform::north_up(322_022.094_9, 7_657_878.008_7, 0.014, 0.0141);
    RasterGrid { size: Size { width, height }, transform, crs: Crs { epsg } }
}

fn layouts() -> Vec<TiffLayout> {
    let blocks = [TiffBlocks::Tiles(16), TiffBlocks::Tiles(64), TiffBlocks::Strips(1), TiffBlocks::Strips(7)];
    let compressions = [TiffCompression::None, TiffCompression::Lzw, TiffCompression::Deflate];
    blocks.into_iter().flat_map(|blocks| compressions.map(|compression| TiffLayout { compression, blocks })).collect()
}

fn write_labels(path: &Path, grid: RasterGrid, labels: &LabelMap, layout: TiffLayout) {
    let mut writer = LabelGeoTiffWriter::create(path, grid, None, layout).unwrap();
    labels.axis_chunks_iter(Axis(0), 5).for_each(|rows| writer.write_rows(&rows.to_owned()).unwrap());
    writer.finish().unwrap();
}

#[test]
fn labels_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.tif");
    let classes = ClassSet::from_names(["sand", "coral & <co>", "rubble"]).unwrap();
    for layout in layouts() {
        for (width, height) in [(1, 1), (37, 53), (64, 16)] {
            let labels = LabelMap::from_shape_fn((height as usize, width as usize), |(y, x)| match (x * y) % 4 {
                3 => UNLABELED,
                class => class as u8,
            });
            let mut writer =
                LabelGeoTiffWriter::create(&path, grid(width, height, 32740), Some(&classes), layout).unwrap();
            labels.axis_chunks_iter(Axis(0), 9).for_each(|rows| writer.write_rows(&rows.to_owned()).unwrap());
            writer.finish().unwrap();
            let map = LabelGeoTiff::open(&path, &[]).unwrap();
            assert_eq!(map.grid(), grid(width, height, 32740));
            assert_eq!(map.read_labels(Rect::whole(map.size())).unwrap(), labels, "{layout:?}");
            let beyond = Rect { x: 0, y: 0, width: u32::MAX, height: u32::MAX };
            assert!(matches!(map.read_labels(beyond), Err(Error::InvalidInput { .. })));
            assert_eq!(map.metadata().class_names[&1], "coral & <co>");
            let palette = map.metadata().color.clone();
            assert!(matches!(palette, ColorModel::Palette(colors) if colors[2] == classes.color(2)));
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bands_and_pictures_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let (bands, picture) = (folder.path().join("bands.tif"), folder.path().join("picture.tif"));
    let turned = GeoTransform { x: 5.0, y: 7.0, column: (0.3, 0.4), row: (0.4, -0.3) };
    let place = RasterGrid { transform: turned, ..grid(37, 29, 4326) };
    let values =
        Array3::from_shape_fn(
            (3, 29, 37),
            |(b, y, x)| if x == y { f32::NAN } else { (b * 9 + y) as f32 / (x + 1) as f32 },
        );
    let image = RgbImage::from_fn(37, 29, |x, y| Rgb([x as u8 * 5, y as u8 * 7, (x * y) as u8]));
    let valid = Array2::from_shape_fn((29, 37), |(y, x)| (x + y) % 3 > 0);
    for layout in layouts() {
        let mut writer = BandWriter::create(&bands, place, &["a", "b", "c"], layout).unwrap();
        values.axis_chunks_iter(Axis(1), 11).for_each(|rows| writer.write_rows(rows).unwrap());
        writer.finish().unwrap();
        let tiff = GeoTiff::open(&bands).unwrap();
        assert_eq!((tiff.grid(), tiff.metadata().bands), (place, 3));
        let window = Rect { x: 3, y: 10, width: 30, height: 17 };
        let (read, expected) = (tiff.read_f32(window).unwrap(), values.slice(s![.., 10..27, 3..33]));
        assert!(read.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())));

        let mut writer = OrthophotoWriter::create_with_alpha(&picture, place, layout).unwrap();
        writer.write_window(&ImageWindow { image: image.clone(), valid: valid.clone() }).unwrap();
        writer.finish().unwrap();
        let window = Orthophoto::open(&picture).unwrap().read_image(Rect::whole(place.size)).unwrap();
        assert_eq!(window.valid, valid);
        for (x, y, color) in window.image.enumerate_pixels() {
            assert_eq!(color, if valid[[y as usize, x as usize]] { image.get_pixel(x, y) } else { &Rgb([0; 3]) });
        }
    }
}

#[test]
fn unfinished_and_failed_files_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.tif");
    let create = || LabelGeoTiffWriter::create(&path, grid(20, 20, 32740), None, TiffLayout::default()).unwrap();
    let mut writer = create();
    writer.write_rows(&LabelMap::zeros((20, 20))).unwrap();
    drop(writer);
    let mut writer = create();
    let narrow = writer.write_rows(&LabelMap::zeros((2, 19))).unwrap_err();
    assert!(matches!(narrow, Error::ShapeMismatch { .. }), "{narrow}");
    assert!(matches!(writer.write_rows(&LabelMap::zeros((21, 20))), Err(Error::ShapeMismatch { .. })));
    writer.write_rows(&LabelMap::zeros((19, 20))).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("expected shape 20 rows, got 19 rows"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let missing = folder.path().join("missing/map.tif");
    let error = LabelGeoTiffWriter::create(missing, grid(2, 2, 32740), None, TiffLayout::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let opaque = OrthophotoWriter::create(&path, grid(1, 1, 32740), TiffLayout::default()).unwrap();
    let mut opaque = opaque;
    let gone = ImageWindow { image: RgbImage::new(1, 1), valid: array![[false]] };
    assert!(opaque.write_window(&gone).unwrap_err().to_string().contains("alpha"));
    for blocks in [TiffBlocks::Tiles(20), TiffBlocks::Tiles(0), TiffBlocks::Strips(0), TiffBlocks::Tiles(1 << 20)] {
        let layout = TiffLayout { blocks, ..TiffLayout::default() };
        let error = LabelGeoTiffWriter::create(&path, grid(2, 2, 32740), None, layout).unwrap_err();
        assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
    }
    assert!(BandWriter::create(&path, grid(2, 2, 32740), &[], TiffLayout::default()).is_err());
    assert!(LabelGeoTiffWriter::create(&path, grid(0, 2, 32740), None, TiffLayout::default()).is_err());
    // Sizes that would not fit into memory.
    for (width, height, blocks) in [
        (u32::MAX, u32::MAX, TiffBlocks::Tiles(256)),
        (u32::MAX, u32::MAX, TiffBlocks::Strips(u32::MAX)),
        (u32::MAX, 1, TiffBlocks::Tiles(256)),
        (1, u32::MAX, TiffBlocks::Strips(1)),
    ] {
        let layout = TiffLayout { blocks, ..TiffLayout::default() };
        let error = LabelGeoTiffWriter::create(&path, grid(width, height, 32740), None, layout).unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }) && error.to_string().contains("raster size"), "{error}");
    }
}

/// PROJ 9 through pyproj.
#[test]
fn positions_agree_with_proj() {
    for (from, to, (x, y), (u, v)) in [
        (4326, 32740, (55.28, -21.17), (321_425.670_224_8, 7_658_069.626_569_537)),
        (32740, 4326, (322_022.094_9, 7_657_878.008_7), (55.285_722_776_970_14, -21.171_788_894_935_105)),
        (32740, 32739, (322_022.094_9, 7_657_878.008_7), (945_207.402_468_244_8, 7_652_818.351_837_7)),
        (4326, 32632, (11.7, 42.15), (723_090.005_747_537_2, 4_669_959.607_368_58)),
        (4326, 2975, (55.28, -21.17), (321_425.670_224_417_5, 7_658_069.626_641_642)),
        (4326, 4471, (45.2, -12.8), (521_705.548_031, 8_584_972.962_468)),
        (4326, 28355, (147.7, -18.3), (573_979.003_882, 7_976_481.205_385)),
    ] {
        let projection = Projection::new(Crs { epsg: from }, Crs { epsg: to }).unwrap();
        let ours = projection.transform(x, y).unwrap();
        let unit = if to == 4326 { 111_000.0 } else { 1.0 };
        assert!((ours.0 - u).hypot(ours.1 - v) * unit < 1e-3, "{from} to {to}: {ours:?}");
        let back = projection.inverse().unwrap().transform(u, v).unwrap();
        let unit = if from == 4326 { 111_000.0 } else { 1.0 };
        assert!((back.0 - x).hypot(back.1 - y) * unit < 1e-3, "{to} to {from}: {back:?}");
        assert!(projection.transform(f64::NAN, y).is_err());
    }
    // A datum that PROJ shifts by 0.7 m.
    assert!(Projection::new(Crs::WGS84, Crs { epsg: 3297 }).is_err());
}

#[test]
fn systems_are_never_mixed_silently() {
    let labels = LabelMap::from_shape_fn((30, 40), |(y, x)| ((x / 5 + y / 4) % 6) as u8);
    let here = grid(40, 30, 32740);
    let there = suggested_grid(&here, Crs { epsg: 32739 }, None).unwrap();
    let mixed = Resampled::new(labels.clone(), here, there, Resampling::Nearest).unwrap_err().to_string();
    assert!(mixed.contains("expected coordinates in EPSG:32740, got EPSG:32739"), "{mixed}");
    let reprojected = Resampled::reprojected(labels.clone(), here, there, Resampling::Nearest).unwrap();
    let warped = reprojected.read_labels(Rect::whole(there.size)).unwrap();
    let share = |map: &LabelMap, class| map.iter().filter(|&&id| id == class).count() as f64;
    let (before, after) =
        (share(&labels, 2) / 1200.0, share(&warped, 2) / (warped.len() as f64 - share(&warped, UNLABELED)));
    assert!((before - after).abs() < 0.02, "{before} {after}");
    let far = RasterGrid { transform: GeoTransform::north_up(400_000.0, 7e6, 1.0, 1.0), ..here };
    for error in [
        expect_overlap("drone map", &here, &far).unwrap_err(),
        Resampled::new(labels.clone(), here, far, Resampling::Nearest).unwrap_err(),
    ] {
        assert!(
            matches!(&error, Error::InvalidInput { .. }) && error.to_string().contains("expected a raster that meets")
        );
    }
    let unknown = suggested_grid(&here, Crs { epsg: 31370 }, None).unwrap_err();
    assert!(matches!(unknown, Error::InvalidParameter { .. }));
    let other_size = Resampled::new(labels, grid(41, 30, 32740), here, Resampling::Nearest).unwrap();
    assert!(matches!(other_size.read_labels(Rect::whole(here.size)), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn suggested_grids_are_those_of_gdal() {
    let transform = GeoTransform::north_up(322_000.25, 7_658_000.5, 0.5, 0.25);
    let here = RasterGrid { size: Size { width: 101, height: 70 }, transform, crs: Crs { epsg: 32740 } };
    assert_eq!(suggested_grid(&here, here.crs, None).unwrap(), here);
    // rasterio.warp.calculate_default_transform of the same raster.
    for (epsg, (width, height), (x, y), pixel) in [
        (32739, (118, 45), (945_189.511_318_440_4, 7_652_941.836_039_413), 0.435_820_379_249_727_7),
        (4326, (117, 39), (55.285_523_367_383_12, -21.170_680_494_201_93), 4.159_186_663_855_002e-6),
    ] {
        let there = suggested_grid(&here, Crs { epsg }, None).unwrap();
        assert_eq!(there.size, Size { width, height });
        let GeoTransform { x: left, y: top, column, .. } = there.transform;
        assert!((left - x).abs() < pixel * 1e-3 && (top - y).abs() < pixel * 1e-3);
        assert!((column.0 / pixel - 1.0).abs() < 1e-6);
    }
    let reach = |pixel: f64| {
        let Size { width, height } = suggested_grid(&here, Crs { epsg: 32739 }, Some(pixel)).unwrap().size;
        (f64::from(width) * pixel, f64::from(height) * pixel)
    };
    let (coarse, fine) = (reach(0.7), reach(0.01));
    assert!(coarse.0 >= fine.0 - 0.01 && coarse.1 >= fine.1 - 0.01 && coarse.1 < fine.1 + 0.7);
    assert!(
        suggested_grid(&here, here.crs, Some(0.0)).is_err() && suggested_grid(&here, here.crs, Some(1e-300)).is_err()
    );
}

#[test]
fn missing_pixels_do_not_bleed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.tif");
    let here = RasterGrid { transform: GeoTransform::north_up(0.0, 2.0, 1.0, 1.0), ..grid(3, 2, 32740) };
    let mut writer = BandWriter::create(&path, here, &["p"], TiffLayout::default()).unwrap();
    writer.write_rows(array![[[1.0, 3.0, f32::NAN], [1.0, 3.0, 9.0]]].view()).unwrap();
    writer.finish().unwrap();
    let there = RasterGrid {
        size: Size { width: 6, height: 1 },
        transform: GeoTransform::north_up(0.0, 1.75, 0.5, 0.5),
        ..here
    };
    let tiff = GeoTiff::open(&path).unwrap();
    let values =
        Resampled::new(tiff, here, there, Resampling::Bilinear).unwrap().read_f32(Rect::whole(there.size)).unwrap();
    // Columns 0.25, 0.75, …; left of the first centre there is no second pixel.
    assert_eq!(values.as_slice().unwrap()[..4], [1.0, 1.5, 2.5, 3.0]);
    assert!(values[[0, 0, 4]].is_nan() && values[[0, 0, 5]].is_nan());
    let picture = RgbImage::from_fn(3, 2, |x, _| Rgb([x as u8 * 100; 3]));
    let seen = Resampled::new(picture, here, there, Resampling::Bilinear)
        .unwrap()
        .read_image(Rect::whole(there.size))
        .unwrap();
    assert_eq!(seen.image.pixels().map(|color| color.0[0]).collect::<Vec<_>>(), [0, 25, 75, 125, 175, 200]);
}

/// Bytes of files of several kinds.
fn small_files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    let labels = LabelMap::from_shape_fn((21, 18), |(y, x)| ((x * y) % 7) as u8);
    let bytes = |layout| {
        write_labels(&path, grid(18, 21, 32740), &labels, layout);
        std::fs::read(&path).unwrap()
    };
    let mut files: Vec<_> = layouts().into_iter().map(bytes).collect();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geo");
    let fixtures = std::fs::read_dir(fixtures).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.extend(fixtures);
    files
}

#[test]
fn sizes_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    let layout = TiffLayout { compression: TiffCompression::Deflate, blocks: TiffBlocks::Strips(30) };
    write_labels(&path, grid(20, 30, 32740), &LabelMap::zeros((30, 20)), layout);
    let honest = std::fs::read(&path).unwrap();
    let number = |at: usize| u32::from_le_bytes(honest[at..at + 4].try_into().unwrap());
    let directory = number(4) as usize;
    let entries = usize::from(u16::from_le_bytes([honest[directory], honest[directory + 1]]));
    // Width, height, rows of a strip, and all three.
    for tags in [&[256][..], &[257], &[278], &[256, 257, 278]] {
        let mut lie = honest.clone();
        for entry in (0..entries).map(|entry| directory + 2 + entry * 12) {
            if tags.contains(&u16::from_le_bytes([lie[entry], lie[entry + 1]])) {
                // A LONG, one of it, of 2³¹ - 1.
                lie[entry + 2..entry + 12].copy_from_slice(&[4, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]);
            }
        }
        std::fs::write(&path, lie).unwrap();
        let whole =
            |tiff: &GeoTiff| tiff.read(Rect { x: 0, y: 0, width: 20, height: 30 }).map(|samples| samples.to_f64());
        match GeoTiff::open(&path).and_then(|tiff| whole(&tiff)) {
            // More rows in a strip than in the raster are no lie.
            Ok(values) => assert!(tags == [278] && values.iter().all(|&value| value == 0.0), "{tags:?}"),
            Err(error) => assert!(matches!(error, Error::Format { .. }), "{tags:?}: {error}"),
        }
    }
    std::fs::write(&path, &honest[..honest.len() - 40]).unwrap();
    assert!(GeoTiff::open(&path).is_err());
}

/// Opens and reads a file in every way; what comes does not matter, but that it comes.
fn read_everything(path: &Path) {
    let options = GeoTiffOptions { crs: None, cache_bytes: 1 << 20, window_bytes: 1 << 22 };
    let Ok(tiff) = GeoTiff::open_with(path, options) else { return };
    let Size { width, height } = tiff.grid().size;
    let window =
        Rect { x: width / 3, y: height / 3, width: (width / 2).clamp(1, 64), height: (height / 2).clamp(1, 64) };
    let _ = (tiff.read(window), tiff.read_f32(window), tiff.overview(0).map(|small| small.read(window)));
    let _ = LabelGeoTiff::new(tiff.clone(), &[0]).map(|map| map.read_labels(window));
    let config = coral_io::geo::OrthophotoConfig { range: Some((0.0, 9.0)), bands: None };
    let _ = Orthophoto::new(tiff.clone(), config).map(|picture| picture.read_image(window));
    if let Ok(there) = suggested_grid(&tiff.grid(), Crs::WGS84, None) {
        let grid = tiff.grid();
        let window = Rect { x: 0, y: 0, width: there.size.width.min(40), height: there.size.height.min(40) };
        let _ = Resampled::reprojected(tiff, grid, there, Resampling::Bilinear).map(|warped| warped.read_f32(window));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static FILES: Vec<Vec<u8>> = small_files());
        let mut bytes = FILES.with(|files| which.get(files).clone());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(tail) = tail {
            bytes.truncate(tail.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        std::fs::write(&path, bytes).unwrap();
        read_everything(&path);
    }
}
