use coral_core::{GeoTransform, LabelMap};
use geo::{LineString, MultiPolygon, Polygon};

use super::*;
use crate::geo::ClassPolygon;

const UTM: Crs = Crs { epsg: 32740 };

fn grid(size: (u32, u32), crs: Crs, pixel: f64) -> RasterGrid {
    let transform = GeoTransform::north_up(55.25, -21.0, pixel, pixel);
    RasterGrid { size: Size { width: size.0, height: size.1 }, transform, crs }
}

fn classes() -> ClassSet {
    ClassSet::from_names(["sand", "coral", "rubble"]).unwrap()
}

#[test]
fn maps_of_all_shapes_are_drawn() {
    let classes = classes();
    for (width, height) in [(1, 1), (3, 200), (301, 2), (64, 64)] {
        let map = LabelMap::from_shape_fn((height as usize, width as usize), |(y, x)| ((x + y) % 3) as u8);
        for (crs, pixel) in [(UTM, 0.014), (UTM, 3e4), (Crs::WGS84, 1e-6)] {
            for size in [1, 50, 400] {
                let config = MapPictureConfig { size, coordinates: true, amounts: Amounts::Area, ..Default::default() };
                let picture =
                    MapPicture::new(grid((width, height), crs, pixel), &classes, config).unwrap().draw(&map).unwrap();
                assert!(picture.width() > 0 && picture.height() > 0);
            }
        }
    }
}

#[test]
fn pixels_without_class_stay_blank_and_outlines_show() {
    let mut map = LabelMap::from_elem((40, 40), UNLABELED);
    map[[39, 39]] = 2;
    let classes = classes();
    let config = MapPictureConfig { size: 40, ..Default::default() };
    let grid = grid((40, 40), UTM, 0.5);
    let picture = MapPicture::new(grid, &classes, config).unwrap();
    let plain = picture.draw(&map).unwrap();
    assert_eq!((plain.get_pixel(0, 0), plain.get_pixel(39, 39).0), (&PAPER, classes.color(2)));
    let at = |x: f64, y: f64| grid.transform.world(x, y);
    let ring = LineString::from(vec![at(5.0, 5.0), at(30.0, 5.0), at(30.0, 30.0), at(5.0, 5.0)]);
    let geometry = MultiPolygon(vec![Polygon::new(ring, vec![])]);
    let polygon = ClassPolygon { class: None, attributes: Default::default(), geometry };
    let outlines = ClassPolygons::new(UTM, vec![polygon]).unwrap();
    let outlined = picture.clone().with_outlines(&outlines).unwrap().draw(&map).unwrap();
    let differ = plain.pixels().zip(outlined.pixels()).filter(|(a, b)| a != b).count();
    assert!((150..400).contains(&differ), "{differ}");
    let elsewhere = ClassPolygons { crs: Crs::WGS84, ..outlines.clone() };
    assert!(
        picture
            .with_outlines(&elsewhere)
            .unwrap_err()
            .to_string()
            .contains("`outlines`: expected coordinates in EPSG:32740, got EPSG:4326")
    );
}

#[test]
fn areas_are_told() {
    assert_eq!([0.5, 250.4, 12_345.0, 2.5e6].map(area_text), ["0.50 m2", "250 m2", "1.23 ha", "2.50 km2"]);
    let classes = classes();
    let degrees = MapPicture::new(grid((100, 100), Crs::WGS84, 1e-3), &classes, Default::default()).unwrap();
    let (x, y) = degrees.metres();
    assert!((x / y - 21.05f64.to_radians().cos()).abs() < 1e-12);
}

#[test]
fn wrong_input_is_refused() {
    let classes = classes();
    let refused = |grid, config| MapPicture::new(grid, &classes, config).unwrap_err().to_string();
    let good = grid((4, 3), UTM, 1.0);
    for size in [0, 20_001] {
        assert!(refused(good, MapPictureConfig { size, ..Default::default() }).contains("`size`: expected 1 to 20000"));
    }
    assert!(refused(RasterGrid { crs: Crs { epsg: 3857 }, ..good }, Default::default()).contains("got EPSG:3857"));
    assert!(refused(grid((0, 3), UTM, 1.0), Default::default()).contains("raster size"));
    let map = LabelMap::zeros((4, 3));
    let error = MapPicture::new(good, &classes, Default::default()).unwrap().draw(&map).unwrap_err().to_string();
    assert_eq!(error, "labels: expected shape 4x3, got 3x4");
}
