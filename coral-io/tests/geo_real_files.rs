//! Real polygons, maps and predictions from the folder in `CORAL_DATA_DIR`.
#![cfg(feature = "geo")]

mod real_data;

use coral_core::{ClassSet, Crs, GeoTransform, RasterGrid, Size, UNLABELED};
use coral_io::geo::{
    FrameReadings, FrameRecord, FrameTrack, GeoJsonCrs, PolygonizeConfig, polygon_mask, polygonize, rasterize,
    read_polygons, write_geojson,
};
use coral_io::{MultiLabelConfig, read_label_map, read_multi_labels};

use real_data::data;

const UTM: Crs = Crs { epsg: 32740 };

/// Systems and areas as fiona, shapely and pyproj have them.
#[test]
fn polygons_of_the_point_is_the_mask() {
    let Some(root) = data("drone_masks") else { return };
    for (file, crs, unlocated, square_metres) in [
        ("drone_test_polygon_troudeau.geojson", UTM, 0, 84.69669500428293),
        ("drone_test_polygon_stleu.geojson", UTM, 0, 194.6658825926574),
        ("boundary_ign_troudeau/boundary_ign_troudeau.shp", UTM, 0, 72584.92977783235),
        ("boundary_ign_troudeau/boundary_ign_troudeau.geojson", Crs::WGS84, 0, 72583.15508557111),
        ("boundary_ign_stleu/boundary_ign_stleu.shp", UTM, 0, 93529.38518113701),
        ("boundary_ign_stleu/boundary_ign_stleu.geojson", Crs::WGS84, 0, 93530.9756493551),
        ("emprise_lagoon.geojson", Crs::WGS84, 16, 2307268.1421253313),
    ] {
        let polygons = read_polygons(root.join(file)).unwrap();
        assert_eq!((polygons.crs, polygons.unlocated), (crs, unlocated), "{file}");
        let area = polygons.areas().unwrap()[0];
        assert!((area / square_metres - 1.0).abs() < 1e-9, "{file}: {area}");
    }
    // shapely 2.1, 64 segments a quarter.
    let test = read_polygons(root.join("drone_test_polygon_troudeau.geojson")).unwrap();
    let grown = test.buffered(2.0).unwrap().areas().unwrap()[0];
    assert!((grown / 173.46100400602367 - 1.0).abs() < 1e-3, "{grown}");
}

#[test]
fn the_test_mask_becomes_polygons_and_a_mask_again() {
    let Some(root) = data("drone_masks") else { return };
    let map = read_label_map(root.join("annotation_mask_saintleu.tif"))
        .unwrap()
        .mapv(|id| if id == 0 { UNLABELED } else { id });
    let transform = GeoTransform::north_up(322022.0949, 7657878.0087, 0.014018562091499251, 0.0140186872584997);
    let grid = RasterGrid { size: Size::of_map(&map), transform, crs: UTM };
    for diagonals in [false, true] {
        let config = PolygonizeConfig { diagonals, min_pixels: 0 };
        let polygons = polygonize(&map, &grid, &ClassSet::from_ids(1..6), &config).unwrap();
        polygons.validate().unwrap();
        assert_eq!(rasterize(&polygons, &grid, &Default::default()).unwrap(), map);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.geojson");
        write_geojson(&path, &polygons, GeoJsonCrs::Named).unwrap();
        let again = read_polygons(&path).unwrap().with_classes("name", &ClassSet::from_ids(1..6)).unwrap();
        assert_eq!(rasterize(&again, &grid, &Default::default()).unwrap(), map);
        eprintln!("{} polygons, {:.2} m²", polygons.len(), polygons.areas().unwrap().iter().sum::<f64>());
    }
    // The mask was cut from the orthophoto with the test polygon.
    let test = read_polygons(root.join("drone_test_polygon_stleu.geojson")).unwrap();
    let inside = polygon_mask(&test, &grid, &Default::default()).unwrap();
    let agree = inside.iter().zip(&map).filter(|&(&inside, &id)| inside == (id != UNLABELED)).count();
    assert!(agree * 1000 > map.len() * 995, "{agree} of {}", map.len());
}

#[test]
fn predictions_join_positions_from_their_names() {
    let Some(root) = data("dinovdeau/annotations/ms_ml_prob") else { return };
    let table = read_multi_labels(root.join("drone-test_df_prob.csv"), &MultiLabelConfig::default()).unwrap();
    assert_eq!(table.classes.len(), 13);
    // The tiles carry their UTM positions; any place will do here.
    let record = |(nth, file): (usize, &String)| FrameRecord {
        file: format!("frames/{}", file.to_uppercase()),
        position: Some((55.0 + nth as f64 * 1e-4, -21.0)),
        readings: FrameReadings::default(),
        problem: None,
    };
    let mut records: Vec<_> = table.files.iter().enumerate().map(record).collect();
    records[3].position = None;
    let joined = FrameTrack::new(records).unwrap().join(&table).unwrap();
    assert_eq!(joined.files.len() + 1, table.files.len());
    assert_eq!(joined.without_position, [table.files[3].clone()]);
    assert_eq!(joined.probabilities.row(3), table.targets.row(4));
}
