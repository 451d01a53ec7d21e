//! Every reader of maps and positions answers damaged files with a result, never with a panic.
#![cfg(feature = "geo")]

mod damage;

use std::path::Path;

use coral_core::{ClassSet, Crs, GeoTransform, RasterGrid, Size};
use coral_io::geo::{
    FrameTrack, PlaceConfig, RasterizeConfig, rasterize, read_exif, read_frame_table, read_geojson, read_gpx,
    read_shapefile,
};
use damage::{damage, damaged};
use proptest::prelude::*;

const GEOJSON: &str = r#"{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32740"}},
 "features": [{"type": "Feature", "properties": {"class": "sand", "n": 3}, "geometry": {"type": "Polygon", "coordinates":
 [[[1, 1], [9, 1], [9, 8], [1, 8], [1, 1]], [[3, 3], [3, 5.5], [5, 5], [3, 3]]]}}, {"type": "Feature", "properties": null,
 "geometry": {"type": "MultiPolygon", "coordinates": [[[[2, 2], [4, 2], [4, 4], [2, 2]]], [[[6, 6], [8, 6], [8, 8], [6, 6]]]]}}]}"#;
const FRAMES: &str = "FileName,GPSLatitude,GPSLongitude,GPSAltitude,SubSecDateTimeOriginal\n\
                      a.jpg,-21.1,55.25,1.5,2023:09:06 10:11:12.25\nb.jpg,-21.2,55.26,,2023:09:06 10:11:14\n";
const GPX: &str = "<?xml version=\"1.0\"?><gpx version=\"1.1\" creator=\"t\"><trk><name>n</name><trkseg>\
    <trkpt lat=\"-21.0\" lon=\"55.0\"><ele>-1</ele><time>2023-09-06T10:11:10Z</time></trkpt>\
    <trkpt lat=\"-21.2\" lon=\"55.4\"><time>2023-09-06T10:11:15+00:00</time></trkpt></trkseg></trk></gpx>";
const PRJ: &str = "PROJCS[\"WGS_1984_UTM_Zone_40S\",GEOGCS[\"GCS_WGS_1984\",DATUM[\"D_WGS_1984\",\
    SPHEROID[\"WGS_1984\",6378137.0,298.257223563]],PRIMEM[\"Greenwich\",0.0],UNIT[\"Degree\",0.0174532925199433]],\
    PROJECTION[\"Transverse_Mercator\"],PARAMETER[\"False_Easting\",500000.0],PARAMETER[\"False_Northing\",10000000.0],\
    PARAMETER[\"Central_Meridian\",57.0],PARAMETER[\"Scale_Factor\",0.9996],PARAMETER[\"Latitude_Of_Origin\",0.0],UNIT[\"Meter\",1.0]]";

/// One polygon with a hole, as the format has it.
fn shp() -> Vec<u8> {
    let rings =
        [vec![(0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (0.0, 0.0)], vec![(1.0, 3.0), (1.0, 2.0), (2.0, 3.0), (1.0, 3.0)]];
    let mut record = 5i32.to_le_bytes().to_vec();
    [0.0f64, 0.0, 9.0, 9.0].iter().for_each(|number| record.extend(number.to_le_bytes()));
    [2i32, 8, 0, 4].iter().for_each(|number| record.extend(number.to_le_bytes()));
    rings
        .iter()
        .flatten()
        .for_each(|(x, y)| record.extend([*x, *y].iter().flat_map(|number: &f64| number.to_le_bytes())));
    let words = |bytes: usize| (bytes as i32 / 2).to_be_bytes();
    let mut file = 9994i32.to_be_bytes().to_vec();
    file.extend([0; 20]);
    file.extend(words(100 + 8 + record.len()));
    [1000i32, 5].iter().for_each(|number| file.extend(number.to_le_bytes()));
    [0.0f64, 0.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(1i32.to_be_bytes());
    file.extend(words(record.len()));
    [file, record].concat()
}

/// A table of one line with a text, a number, a date and a truth value.
fn dbf() -> Vec<u8> {
    let fields = [
        (b"habitat\0\0\0\0", b'C', 6u8),
        (b"id\0\0\0\0\0\0\0\0\0", b'N', 4),
        (b"day\0\0\0\0\0\0\0\0", b'D', 8),
        (b"dead\0\0\0\0\0\0\0", b'L', 1),
    ];
    let mut file = vec![3, 123, 9, 6, 1, 0, 0, 0];
    file.extend((32 + 32 * fields.len() as u16 + 1).to_le_bytes());
    file.extend(20u16.to_le_bytes());
    file.extend([0; 20]);
    for (name, kind, length) in fields {
        file.extend(name);
        file.push(kind);
        file.extend([0; 4]);
        file.extend([length, 0]);
        file.extend([0; 14]);
    }
    file.push(13);
    file.extend(b" sand  12.520230906T\x1a");
    file
}

/// A JPEG file of EXIF data alone: position and time.
fn exif() -> Vec<u8> {
    // Big-endian TIFF: a directory with a pointer to the GPS directory, which has four entries.
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x88\x25\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0\0\x04".to_vec();
    tiff.extend(b"\0\x01\0\x02\0\0\0\x02S\0\0\0\0\x02\0\x05\0\0\0\x03\0\0\0\x50");
    tiff.extend(b"\0\x03\0\x02\0\0\0\x02E\0\0\0\0\x04\0\x05\0\0\0\x03\0\0\0\x68\0\0\0\0");
    for number in [21u32, 1, 6, 1, 45, 2, 55, 1, 15, 1, 0, 1] {
        tiff.extend(number.to_be_bytes());
    }
    let body = [b"Exif\0\0".as_slice(), &tiff].concat();
    let length = ((body.len() + 2) as u16).to_be_bytes();
    [&[0xff, 0xd8, 0xff, 0xe1], &length[..], &body, &[0xff, 0xd9]].concat()
}

fn use_polygons(path: &Path) {
    let read = if path.extension().is_some_and(|e| e == "shp") { read_shapefile(path) } else { read_geojson(path) };
    let Ok(polygons) = read else { return };
    let _ = (polygons.areas(), polygons.validate(), polygons.bounds(), polygons.at(3.0, 3.0));
    let _ = polygons.clone().with_classes("class", &ClassSet::from_names(["sand"]).unwrap());
    let _ = (polygons.buffered(1.5), polygons.simplified(0.5));
    let size = Size { width: 12, height: 10 };
    let grid = RasterGrid { size, transform: GeoTransform::north_up(0.0, 10.0, 1.0, 1.0), crs: polygons.crs };
    for all_touched in [false, true] {
        let config = RasterizeConfig { all_touched, allow_outside: true };
        if let Ok(map) = rasterize(&polygons.clone().with_class(1), &grid, &config) {
            assert_eq!(map.dim(), (10, 12));
        }
    }
}

fn use_frames(path: &Path) {
    let records = read_frame_table(path).unwrap_or_default();
    if let Ok(track) = FrameTrack::new(records.clone()) {
        assert!(track.frames.iter().all(|frame| frame.longitude.abs() <= 180.0 && frame.latitude.abs() <= 90.0));
    }
    if let Ok(track) = read_gpx(path) {
        assert!(!track.fixes().is_empty());
        let _ = track.place(records, &PlaceConfig::default());
    }
    let _ = read_exif(path).map(|record| FrameTrack::new(vec![record]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_geojson(damage in damage()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        std::fs::write(&path, damaged(GEOJSON.into(), &damage)).unwrap();
        use_polygons(&path);
    }

    #[test]
    fn damaged_shapefiles(damage in damage(), which in 0usize..3) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.shp");
        for (nth, (extension, bytes)) in [("shp", shp()), ("dbf", dbf()), ("prj", PRJ.into())].into_iter().enumerate() {
            let bytes = if nth == which { damaged(bytes, &damage) } else { bytes };
            std::fs::write(path.with_extension(extension), bytes).unwrap();
        }
        use_polygons(&path);
    }

    #[test]
    fn damaged_frames(damage in damage(), which in 0usize..3) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let bytes = [FRAMES.into(), GPX.into(), exif()][which].clone();
        std::fs::write(&path, damaged(bytes, &damage)).unwrap();
        use_frames(&path);
    }
}

#[test]
fn the_undamaged_files_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.shp");
    for (extension, bytes) in
        [("shp", shp()), ("dbf", dbf()), ("prj", PRJ.into()), ("json", GEOJSON.into()), ("csv", FRAMES.into())]
    {
        std::fs::write(path.with_extension(extension), bytes).unwrap();
    }
    let shapes = read_shapefile(&path).unwrap();
    assert_eq!((shapes.crs, shapes.areas().unwrap()), (Crs::utm(40, true).unwrap(), vec![40.0]));
    assert_eq!(
        (&shapes.polygons[0].attributes["habitat"], &shapes.polygons[0].attributes["id"]),
        (&"sand".into(), &12.5.into())
    );
    assert_eq!(read_geojson(path.with_extension("json")).unwrap().len(), 2);
    assert_eq!(FrameTrack::new(read_frame_table(path.with_extension("csv")).unwrap()).unwrap().len(), 2);
    std::fs::write(&path, GPX).unwrap();
    assert_eq!(read_gpx(&path).unwrap().fixes().len(), 2);
    std::fs::write(&path, exif()).unwrap();
    let (longitude, latitude) = read_exif(&path).unwrap().position.unwrap();
    assert!((longitude - 55.25).abs() < 1e-9 && (latitude + 21.106_25).abs() < 1e-9);
}
