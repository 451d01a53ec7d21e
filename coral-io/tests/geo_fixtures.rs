//! Small TIFF files written by GDAL 3.10 (through rasterio 1.4) from the formula of [`stored`], read bit for bit.
#![cfg(feature = "geo")]

use std::path::PathBuf;

use coral_core::ndarray::{Array3, s};
use coral_core::{Crs, Error, GeoTransform, ImageRaster, LabelRaster, Rect, Size, UNLABELED};
use coral_io::geo::{
    ColorModel, GeoTiff, GeoTiffOptions, LabelGeoTiff, Orthophoto, OrthophotoConfig, Resampled, Resampling, SampleType,
    expect_north_up,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/geo/{name}.tif"))
}

/// The value in band b, row y, column x of a file of this type.
fn stored(sample_type: SampleType, (b, y, x): (usize, usize, usize)) -> f64 {
    let base = x * 3 + y * 5 + b * 17;
    match sample_type {
        SampleType::U8 => (base % 250) as f64,
        SampleType::U16 => (base * 90) as f64,
        SampleType::I16 => (base * 90) as f64 - 2000.0,
        _ => base as f64 * 0.25 - 40.0,
    }
}

const WINDOWS: [Rect; 5] = [
    Rect { x: 0, y: 0, width: 23, height: 19 },
    Rect { x: 0, y: 0, width: 1, height: 1 },
    Rect { x: 22, y: 18, width: 1, height: 1 },
    Rect { x: 14, y: 3, width: 5, height: 16 },
    Rect { x: 3, y: 15, width: 20, height: 2 },
];

#[test]
fn all_layouts_and_compressions() {
    let transform = GeoTransform::north_up(322_000.25, 7_658_000.5, 0.5, 0.25);
    for (name, sample_type, bands) in [
        ("strip_u8_none", SampleType::U8, 1),
        ("strip_u8_lzw_predictor", SampleType::U8, 3),
        ("strip_u8_packbits_planar", SampleType::U8, 3),
        ("tile_u16_deflate_planar", SampleType::U16, 2),
        ("tile_i16_zstd_big_tiff", SampleType::I16, 2),
        ("tile_f32_deflate_predictor", SampleType::F32, 2),
        ("strip_f32_zstd_planar", SampleType::F32, 2),
        ("strip_f64_lzw_big_endian", SampleType::F64, 1),
    ] {
        let tiff = GeoTiff::open(fixture(name)).unwrap();
        let (grid, metadata) = (tiff.grid(), tiff.metadata());
        assert_eq!((grid.crs, grid.transform), (Crs { epsg: 32740 }, transform), "{name}");
        assert_eq!((metadata.sample_type, metadata.bands, metadata.alpha), (sample_type, bands, None), "{name}");
        for window in WINDOWS {
            let (rows, columns) = (window.height as usize, window.width as usize);
            let expected = Array3::from_shape_fn((bands, rows, columns), |(b, y, x)| {
                stored(sample_type, (b, y + window.y as usize, x + window.x as usize))
            });
            let samples = tiff.read(window).unwrap();
            assert_eq!((samples.sample_type(), samples.to_f64()), (sample_type, expected), "{name} {window:?}");
        }
        for outside in [Rect { x: 20, y: 0, width: 4, height: 1 }, Rect { x: 0, y: 0, width: 0, height: 1 }] {
            assert!(matches!(tiff.read(outside), Err(Error::InvalidInput { .. })), "{name}");
        }
    }
}

#[test]
fn places() {
    for (name, epsg, transform) in [
        ("pixel_is_point", 32740, GeoTransform::north_up(322_000.25, 7_658_000.5, 0.5, 0.25)),
        ("rotated", 32740, GeoTransform { x: 500.0, y: 700.0, column: (0.3, 0.4), row: (0.4, -0.3) }),
        ("wgs84", 4326, GeoTransform::north_up(55.2, -21.1, 1e-6, 1e-6)),
        ("utm_north_no_data", 32632, GeoTransform::north_up(322_000.25, 7_658_000.5, 0.5, 0.25)),
        ("utm_by_parameters", 32740, GeoTransform::north_up(322_000.25, 7_658_000.5, 0.5, 0.25)),
    ] {
        let tiff = GeoTiff::open(fixture(name)).unwrap();
        assert_eq!((tiff.grid().crs.epsg, tiff.grid().transform), (epsg, transform), "{name}");
        assert_eq!(expect_north_up(name, &tiff.grid()).is_err(), name == "rotated");
        let metadata = tiff.metadata();
        assert_eq!(
            (metadata.pixel_is_point, metadata.no_data.is_some()),
            (name.contains("point"), name.contains("no_data"))
        );
        let labels = LabelGeoTiff::open(fixture(name), &[5]).unwrap().read_labels(WINDOWS[0]).unwrap();
        for ((y, x), &label) in labels.indexed_iter() {
            let class = stored(SampleType::U8, (0, y, x)) as u8 % 6;
            let gone = class == 5 || (class == 3 && metadata.no_data == Some(3.0));
            assert_eq!(label, if gone { UNLABELED } else { class }, "{name}");
        }
    }
}

#[test]
fn files_without_a_place_are_refused() {
    for (name, reason) in [
        ("no_crs", "names no coordinate reference system"),
        ("no_place", "does not say where its pixels lie"),
        ("no_number", "ProjectedCRSGeoKey (3072) is user-defined"),
        ("control_points", "4 ground control points"),
    ] {
        let error = GeoTiff::open(fixture(name)).unwrap_err();
        assert!(matches!(error, Error::Format { .. }) && error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains(&format!("{name}.tif")), "{error}");
    }
    let assumed = |epsg| GeoTiffOptions { crs: Some(Crs { epsg }), ..GeoTiffOptions::default() };
    assert_eq!(GeoTiff::open_with(fixture("no_crs"), assumed(32740)).unwrap().grid().crs.epsg, 32740);
    let error = GeoTiff::open_with(fixture("wgs84"), assumed(32740)).unwrap_err().to_string();
    assert!(error.contains("EPSG:4326") && error.contains("EPSG:32740"), "{error}");
    // A world file gives the place.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("no_place"), folder.path().join("a.tif")).unwrap();
    std::fs::write(folder.path().join("a.tfw"), "2 0 0 -2 11 29").unwrap();
    let grid = GeoTiff::open(folder.path().join("a.tif")).unwrap().grid();
    assert_eq!(grid.transform, GeoTransform::north_up(10.0, 30.0, 2.0, 2.0));
}

#[test]
fn palettes_names_and_values() {
    let tiff = GeoTiff::open(fixture("palette")).unwrap();
    let metadata = tiff.metadata().clone();
    assert!(matches!(&metadata.color, ColorModel::Palette(colors) if colors[2] == [80, 175, 2]));
    assert_eq!(metadata.class_names, [(2, "rubble & <co>".to_owned())].into());
    assert_eq!(metadata.items["SURVEY"], "a \"b\" & c");
    assert_eq!(metadata.band_names, [Some("classes".to_owned())]);
    let labels = LabelGeoTiff::new(tiff.clone(), &[]).unwrap().read_labels(WINDOWS[3]).unwrap();
    let picture = Orthophoto::new(tiff, OrthophotoConfig::default()).unwrap().read_image(WINDOWS[3]).unwrap();
    for ((y, x), &label) in labels.indexed_iter() {
        let id = stored(SampleType::U8, (0, y + 3, x + 14)) as u8 % 6;
        assert_eq!((label, picture.valid[[y, x]]), if id == 0 { (UNLABELED, false) } else { (id, true) });
        let color = if id == 0 { [0; 3] } else { [id * 40, 255 - id * 40, id] };
        assert_eq!(picture.image.get_pixel(x as u32, y as u32).0, color);
    }
}

#[test]
fn pixels_without_data() {
    for name in ["rgba", "masked"] {
        let window = Orthophoto::open(fixture(name)).unwrap().read_image(WINDOWS[4]).unwrap();
        for ((y, x), &valid) in window.valid.indexed_iter() {
            let place = (y + 15, x + 3);
            assert_eq!(valid, (place.0 + place.1) % 4 != 0, "{name}");
            let color = [0, 1, 2].map(|b| stored(SampleType::U8, (b, place.0, place.1)) as u8);
            assert_eq!(window.image.get_pixel(x as u32, y as u32).0, if valid { color } else { [0; 3] }, "{name}");
        }
    }
    // Two of 18 tiles hold bytes at most; the others hold the no-data value by being absent.
    let tiff = GeoTiff::open(fixture("sparse")).unwrap();
    let values = tiff.read(Rect { x: 5, y: 0, width: 35, height: 33 }).unwrap().to_f64();
    for ((b, y, x), &value) in values.indexed_iter() {
        let written = b == 0 && (3..8).contains(&y) && (18..24).contains(&(x + 5));
        assert_eq!(value, if written { 9.0 } else { -7.0 }, "{b} {y} {x}");
    }
    let values = tiff.read_f32(Rect { x: 18, y: 2, width: 1, height: 2 }).unwrap();
    assert!(values[[0, 0, 0]].is_nan() && values[[0, 1, 0]] == 9.0 && values[[1, 1, 0]].is_nan());
}

#[test]
fn only_bytes_and_stated_ranges_become_pictures() {
    let tiff = GeoTiff::open(fixture("tile_u16_deflate_planar")).unwrap();
    let picture = |config| Orthophoto::new(tiff.clone(), config);
    let text = |config| picture(config).unwrap_err().to_string();
    let default = OrthophotoConfig::default();
    assert!(text(default).contains("`range`"));
    let range = Some((1000.0, 5000.0));
    assert!(text(OrthophotoConfig { range, ..default }).contains("`bands`"));
    assert!(text(OrthophotoConfig { range, bands: Some([0, 1, 2]) }).contains("no band 2"));
    assert!(text(OrthophotoConfig { range: Some((5.0, 5.0)), ..default }).contains("ascending"));
    let window = picture(OrthophotoConfig { range, bands: Some([1, 0, 0]) }).unwrap().read_image(WINDOWS[0]).unwrap();
    let level = |b, y, x| ((stored(SampleType::U16, (b, y, x)) - 1000.0) / 4000.0 * 255.0).round() as u8;
    assert_eq!(window.image.get_pixel(7, 9).0, [level(1, 9, 7), level(0, 9, 7), level(0, 9, 7)]);
    assert_eq!(window.image.get_pixel(0, 0).0[1], 0);
    assert!(LabelGeoTiff::new(tiff, &[]).unwrap_err().to_string().contains("found 2 bands"));
    let fractions = LabelGeoTiff::open(fixture("strip_f64_lzw_big_endian"), &[]).unwrap_err().to_string();
    assert!(fractions.contains("found f64 values"), "{fractions}");
}

#[test]
fn overviews_on_request() {
    let tiff = GeoTiff::open(fixture("cog")).unwrap();
    assert_eq!(
        (tiff.grid().size, tiff.overviews()),
        (Size { width: 150, height: 160 }, vec![Size { width: 75, height: 80 }])
    );
    let small = tiff.overview(0).unwrap();
    assert_eq!(small.grid().transform, GeoTransform::north_up(322_000.25, 7_658_000.5, 1.0, 0.5));
    let all = |tiff: &GeoTiff| tiff.read(Rect::whole(tiff.grid().size)).unwrap().to_f64();
    let (large, small) = (all(&tiff), all(&small));
    assert_eq!(large.slice(s![.., ..;2, ..;2]), small);
    assert_eq!(small[[0, 40, 30]], stored(SampleType::U8, (0, 40, 30)));
    assert!(matches!(tiff.overview(1), Err(Error::IndexOutOfRange { index: 1, len: 1, .. })));
}

#[test]
fn reprojection_agrees_with_gdal() {
    let source = GeoTiff::open(fixture("warp_source")).unwrap();
    for (name, method) in [("nearest", Resampling::Nearest), ("bilinear", Resampling::Bilinear)] {
        let oracle = GeoTiff::open(fixture(&format!("warp_{name}"))).unwrap();
        let whole = Rect::whole(oracle.grid().size);
        let expected = oracle.read_f32(whole).unwrap();
        let warped = Resampled::reprojected(source.clone(), source.grid(), oracle.grid(), method).unwrap();
        let values = warped.read_f32(whole).unwrap();
        let (gone, there) = (expected.iter().filter(|value| value.is_nan()).count(), expected.len());
        assert!(gone > 100 && there - gone > 500);
        for (&ours, &theirs) in values.iter().zip(&expected) {
            assert!(
                ours.is_nan() == theirs.is_nan() && (ours.is_nan() || (ours - theirs).abs() < 1e-4),
                "{ours} {theirs}"
            );
        }
        // By windows as well as at once.
        let window = Rect { x: 11, y: 5, width: 13, height: 9 };
        let part = warped.read_f32(window).unwrap();
        let expected = values.slice(s![.., 5..14, 11..24]);
        assert_eq!(part.dim(), expected.dim());
        assert!(part.iter().zip(expected).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())));
    }
}
