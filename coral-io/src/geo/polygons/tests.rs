use std::path::PathBuf;

use coral_core::{ClassSet, Crs};
use geo::{LineString, Polygon};
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<ClassPolygons> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.geojson");
    std::fs::write(&path, text).unwrap();
    read_polygons(path)
}

fn error_of(text: &str) -> String {
    let error = read(text).unwrap_err().to_string();
    assert!(error.contains("p.geojson: "), "{error}");
    error
}

fn square(x: f64, y: f64, side: f64) -> LineString<f64> {
    LineString::from(vec![(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)])
}

fn polygons(crs: Crs, parts: Vec<Polygon<f64>>) -> ClassPolygons {
    let polygon = ClassPolygon { class: Some(1), attributes: Attributes::new(), geometry: MultiPolygon(parts) };
    ClassPolygons::new(crs, vec![polygon]).unwrap()
}

const UTM: Crs = Crs { epsg: 32740 };
const RING: &str = "[[[0,0],[2,0],[2,2],[0,2],[0,0]]]";

#[test]
fn geometries_features_and_collections_are_read() {
    let geometry = format!(r#"{{"type":"Polygon","coordinates":{RING}}}"#);
    let feature = format!(r#"{{"type":"Feature","properties":null,"geometry":{geometry}}}"#);
    let collection = format!(r#"{{"type":"FeatureCollection","features":[{feature}]}}"#);
    let old = collection.replace(
        "\"features\"",
        r#""crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::32740"}},"features""#,
    );
    let all = [&geometry, &feature, &collection, &old].map(|text| read(text).unwrap());
    assert!(all[..3].iter().all(|one| one.crs == Crs::WGS84 && one.polygons == all[3].polygons));
    assert_eq!(all[3].crs, UTM);
    let several = r#"{"type":"MultiPolygon","coordinates":[
        [[[0,0,7.5],[9,0,7.5],[9,9,7.5],[0,0,7.5]],[[5,1],[6,1],[6,2],[5,1]]], [[[20,0],[21,0],[21,1],[20,0]]]]}"#;
    let several = &read(several).unwrap().polygons[0].geometry;
    assert_eq!(several.iter().map(|part| part.interiors().len()).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn bad_geojson_says_what_is_wrong() {
    let geometry = |kind: &str, coordinates: &str| format!(r#"{{"type":"{kind}","coordinates":{coordinates}}}"#);
    for (coordinates, text) in [
        ("[[[0,0],[2,0],[2,2],[0,2]]]", "a ring is not closed"),
        ("[[[0,0],[2,0],[0,0]]]", "at least 4 positions"),
        ("[[[0,0],[2],[2,2],[0,0]]]", "feature 1: "),
        ("[[]]", "at least 4 positions"),
        ("[]", "a polygon has no ring"),
        ("[[[317356,7665590],[317368,7665590],[317368,7665597],[317356,7665590]]]", "no longitude and latitude"),
        ("[[[1e999,0],[2,0],[2,2],[1e999,0]]]", "not a GeoJSON text"),
        ("[[[0,0],[2,0],[2,1e-320],[0,0]]]", "expected coordinates of 1e-100 to 1e100"),
        ("[[[NaN,0],[2,0],[2,2],[NaN,0]]]", "not a GeoJSON text"),
    ] {
        let error = error_of(&geometry("Polygon", coordinates));
        assert!(error.contains(text), "{coordinates}: {error}");
    }
    assert!(
        error_of(&geometry("LineString", "[[0,0],[1,1]]"))
            .contains("expected a Polygon or MultiPolygon, found a LineString")
    );
    assert!(error_of(r#"{"type":"FeatureCollection","features":[]}"#).contains("expected polygons, found 0 features"));
    let unlocated = r#"{"type":"Feature","properties":{},"geometry":null}"#;
    assert!(error_of(unlocated).contains("found 1 features, of which 1 have no geometry"));
    let located = format!(r#"{{"type":"Feature","properties":{{}},"geometry":{}}}"#, geometry("Polygon", RING));
    let both = read(&format!(r#"{{"type":"FeatureCollection","features":[{unlocated},{located}]}}"#)).unwrap();
    assert_eq!((both.len(), both.unlocated), (1, 1));
    assert!(error_of("{").contains("not a GeoJSON text"));
    let with_crs = |crs: &str| format!(r#"{{"type":"FeatureCollection","crs":{crs},"features":[]}}"#);
    assert!(error_of(&with_crs("null")).contains("found null"));
    let unknown = r#"{"type":"name","properties":{"name":"urn:x:y"}}"#;
    assert!(error_of(&with_crs(unknown)).contains("unknown `crs` `urn:x:y`"));
    let named = |epsg: u32| format!(r#"{{"type":"name","properties":{{"name":"EPSG:{epsg}"}}}}"#);
    let feature = format!(
        r#"{{"type":"Feature","properties":{{}},"crs":{},"geometry":{}}}"#,
        named(32739),
        geometry("Polygon", RING)
    );
    let mixed = format!(r#"{{"type":"FeatureCollection","crs":{},"features":[{feature}]}}"#, named(32740));
    assert!(error_of(&mixed).contains("feature 1: is in EPSG:32739, others are in EPSG:32740"));
}

#[test]
fn classes_come_from_attributes() {
    let feature = |value: &str| {
        format!(
            r#"{{"type":"Feature","properties":{{"c":{value}}},"geometry":{{"type":"Polygon","coordinates":{RING}}}}}"#
        )
    };
    let classes = ClassSet::from_names(["coral", "sand"]).unwrap();
    let class =
        |value: &str| read(&feature(value)).unwrap().with_classes("c", &classes).map(|all| all.polygons[0].class);
    for (value, id) in [("\"Sand \"", 1), ("\"0\"", 0), ("1", 1), ("1.0", 1)] {
        assert_eq!(class(value).unwrap(), Some(id), "{value}");
    }
    let text = |value: &str| class(value).unwrap_err().to_string();
    assert!(text("\"kelp\"").contains("polygons[0]") && text("\"kelp\"").contains("one of coral, sand"));
    assert!(text("1.5").contains("unknown class `1.5`") && text("null").contains("found null"));
    let error = read(&feature("1")).unwrap().with_classes("d", &classes).unwrap_err().to_string();
    assert!(error.contains("no attribute `d`: found c"), "{error}");
}

#[test]
fn crossing_rings_have_no_area() {
    let bow = LineString::from(vec![(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0), (0.0, 0.0)]);
    let crossed = polygons(UTM, vec![Polygon::new(bow, vec![])]);
    assert!(crossed.areas().unwrap_err().to_string().contains("polygons[0]"));
    let outside = polygons(UTM, vec![Polygon::new(square(0.0, 0.0, 2.0), vec![square(1.0, 1.0, 5.0)])]);
    assert!(outside.validate().is_err());
    let sound = polygons(UTM, vec![Polygon::new(square(0.0, 0.0, 9.0), vec![square(1.0, 1.0, 2.0)])]);
    assert_eq!(sound.areas().unwrap(), [77.0]);
}

#[test]
fn areas_on_the_ellipsoid() {
    let degree = Polygon::new(square(55.0, -21.5, 1.0), vec![square(55.25, -21.25, 0.5)]);
    let area = polygons(Crs::WGS84, vec![degree]).areas().unwrap()[0];
    // pyproj 3.7, Geod(ellps="WGS84").geometry_area_perimeter.
    assert!((area / 8_633_504_941.909_744 - 1.0).abs() < 1e-9, "{area}");
    let error = polygons(Crs { epsg: 3857 }, vec![Polygon::new(square(0.0, 0.0, 1.0), vec![])]).areas();
    assert!(error.unwrap_err().to_string().contains("expected coordinates in metres (e.g. UTM), got EPSG:3857"));
}

#[test]
fn buffers_are_round() {
    let unit = polygons(UTM, vec![Polygon::new(square(322_022.0, 7_657_878.0, 10.0), vec![])]);
    let grown = unit.buffered(2.0).unwrap();
    let exact = 100.0 + 4.0 * 10.0 * 2.0 + std::f64::consts::PI * 4.0;
    assert!((grown.areas().unwrap()[0] / exact - 1.0).abs() < 2e-3, "{:?} {exact}", grown.areas());
    assert!((unit.buffered(-2.0).unwrap().areas().unwrap()[0] - 36.0).abs() < 1e-3);
    assert!(unit.buffered(-6.0).unwrap().is_empty());
    assert!(unit.buffered(f64::NAN).is_err());
    assert!(polygons(Crs::WGS84, vec![Polygon::new(square(0.0, 0.0, 1.0), vec![])]).buffered(2.0).is_err());
}

#[test]
fn positions_are_mapped_and_checked() {
    let some = polygons(UTM, vec![Polygon::new(square(0.0, 0.0, 1.0), vec![])]);
    let moved = some.map_positions(Crs::WGS84, |x, y| Ok((x + 55.0, y - 21.0))).unwrap();
    let bounds = moved.bounds().unwrap();
    assert_eq!((moved.crs, bounds.min().x, bounds.max().y), (Crs::WGS84, 55.0, -20.0));
    assert!(some.map_positions(Crs::WGS84, |x, y| Ok((x + 500.0, y))).is_err());
    assert!(some.map_positions(UTM, |_, y| Ok((f64::NAN, y))).unwrap_err().to_string().contains("finite"));
    // There and back again; pyproj 3.7 for the corner.
    let place = polygons(UTM, vec![Polygon::new(square(322_022.0, 7_657_878.0, 10.0), vec![])]);
    let degrees = place.reprojected(Crs::WGS84).unwrap();
    let corner = degrees.polygons[0].geometry.0[0].exterior().0[0];
    assert!((corner.x - 55.285721862301).abs() < 1e-9 && (corner.y - (-21.171788964244)).abs() < 1e-9, "{corner:?}");
    let back = degrees.reprojected(UTM).unwrap();
    assert!((back.areas().unwrap()[0] - 100.0).abs() < 1e-3 && back.polygons[0].class == Some(1));
    assert!(place.reprojected(Crs { epsg: 31370 }).is_err());
    let fails = some.map_positions(UTM, |_, _| Err(Error::input("zone", "far")));
    assert!(fails.unwrap_err().to_string().contains("zone"));
}

/// Writes a shapefile as another program would.
fn shapefile(rings: Vec<Vec<(f64, f64)>>, prj: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    use ::shapefile::dbase::{FieldName, FieldValue, Record, TableWriterBuilder};
    use ::shapefile::{Point, PolygonRing, Writer};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reef.shp");
    let table = TableWriterBuilder::new()
        .add_character_field(FieldName::try_from("habitat").unwrap(), 20)
        .add_numeric_field(FieldName::try_from("id").unwrap(), 10, 0);
    let mut writer = Writer::from_path(&path, table).unwrap();
    let ring =
        |ring: Vec<(f64, f64)>| PolygonRing::from(ring.into_iter().map(|(x, y)| Point::new(x, y)).collect::<Vec<_>>());
    let polygon = ::shapefile::Polygon::with_rings(rings.into_iter().map(ring).collect());
    let mut record = Record::default();
    record.insert("habitat".into(), FieldValue::Character(Some("sand".into())));
    record.insert("id".into(), FieldValue::Numeric(Some(1.0)));
    writer.write_shape_and_record(&polygon, &record).unwrap();
    drop(writer);
    prj.into_iter().for_each(|text| std::fs::write(path.with_extension("prj"), text).unwrap());
    (folder, path)
}

const PRJ: &str = r#"PROJCS["x",GEOGCS["y"],AUTHORITY["EPSG","32740"]]"#;

/// Clockwise, then with a hole, then beside both.
fn rings() -> Vec<Vec<(f64, f64)>> {
    let ring = |x: f64, side: f64| vec![(x, 0.0), (x, side), (x + side, side), (x + side, 0.0), (x, 0.0)];
    let mut hole = vec![(2.0, 2.0), (2.0, 3.0), (3.0, 3.0), (3.0, 2.0), (2.0, 2.0)];
    hole.reverse();
    vec![ring(20.0, 5.0), hole, ring(0.0, 10.0)]
}

#[test]
fn shapefiles_have_parts_holes_and_attributes() {
    let (_folder, path) = shapefile(rings(), Some(PRJ));
    let read = read_polygons(&path).unwrap().with_classes("habitat", &ClassSet::from_names(["sand"]).unwrap()).unwrap();
    assert_eq!((read.crs, read.polygons[0].class, read.areas().unwrap()), (UTM, Some(0), vec![124.0]));
    let holes: Vec<_> = read.polygons[0].geometry.iter().map(|part| part.interiors().len()).collect();
    assert_eq!(holes, [0, 1]);
    assert_eq!(read.polygons[0].attributes["id"], 1.0);
    std::fs::remove_file(path.with_extension("dbf")).unwrap();
    assert!(read_polygons(&path).unwrap().polygons[0].attributes.is_empty());
}

#[test]
fn holes_outside_are_parts() {
    let mut turned = rings();
    turned.iter_mut().for_each(|ring| ring.reverse());
    let (_folder, path) = shapefile(turned, Some(PRJ));
    // The hole is now an outline of its own inside of another, and both others are outside of it.
    assert_eq!(read_shapefile(path).unwrap().polygons[0].geometry.0.len(), 3);
}

#[test]
fn a_shapefile_needs_its_system() {
    let (_folder, path) = shapefile(rings(), None);
    assert!(read_shapefile(&path).unwrap_err().to_string().contains("reef.prj"));
    std::fs::write(path.with_extension("prj"), "PROJCS[\"Gauss\"]").unwrap();
    let error = read_shapefile(&path).unwrap_err().to_string();
    assert!(error.contains("reef.prj: expected WGS 84") && error.contains("Gauss"), "{error}");
    std::fs::write(path.with_extension("prj"), PRJ).unwrap();
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..150]).unwrap();
    assert!(read_shapefile(&path).unwrap_err().to_string().contains("reef.shp: the shapefile is damaged"));
}

proptest! {
    #[test]
    fn written_polygons_are_read_again(
        places in proptest::collection::vec((-1e6f64..1e6, -1e7f64..1e7, 0.001f64..1e4, any::<bool>()), 1..5),
    ) {
        let polygon = |&(x, y, side, hole): &(f64, f64, f64, bool)| {
            let holes = hole.then(|| {
                let mut ring = square(x + side / 4.0, y + side / 4.0, side / 2.0);
                ring.0.reverse();
                ring
            });
            let geometry = MultiPolygon(vec![Polygon::new(square(x, y, side), holes.into_iter().collect())]);
            ClassPolygon { class: None, attributes: Attributes::from_iter([("side".to_owned(), side.into())]), geometry }
        };
        let all = ClassPolygons::new(UTM, places.iter().map(polygon).collect()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        write_geojson(&path, &all, GeoJsonCrs::Named).unwrap();
        prop_assert_eq!(read_polygons(&path).unwrap(), all);
    }
}
