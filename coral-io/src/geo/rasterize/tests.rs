use coral_core::ndarray::array;
use coral_core::{Crs, GeoTransform};
use proptest::prelude::*;

use super::*;
use crate::geo::ClassPolygon;

const UTM: Crs = Crs { epsg: 32740 };
/// Nothing, in short.
const __: ClassId = UNLABELED;

fn grid(width: u32, height: u32) -> RasterGrid {
    let transform = GeoTransform::north_up(0.0, f64::from(height), 1.0, 1.0);
    RasterGrid { size: Size { width, height }, transform, crs: UTM }
}

fn polygons(rings: &[(ClassId, Vec<(f64, f64)>)]) -> ClassPolygons {
    let polygon = |(class, ring): &(ClassId, Vec<(f64, f64)>)| ClassPolygon {
        class: Some(*class),
        attributes: Default::default(),
        geometry: MultiPolygon(vec![Polygon::new(ring.clone().into(), vec![])]),
    };
    ClassPolygons::new(UTM, rings.iter().map(polygon).collect()).unwrap()
}

fn inside(all_touched: bool) -> RasterizeConfig {
    RasterizeConfig { all_touched, allow_outside: false }
}

/// Drawn with rasterio 1.4 (GDAL 3.10): two triangles that overlap, the later one on top, on general positions.
#[test]
fn gdal_draws_the_same() {
    let shapes = polygons(&[
        (1, vec![(0.3, 0.2), (6.7, 1.1), (2.2, 5.8), (0.3, 0.2)]),
        (2, vec![(3.1, 2.3), (7.6, 4.9), (3.4, 5.4), (3.1, 2.3)]),
    ]);
    assert_eq!(
        rasterize(&shapes, &grid(8, 6), &inside(false)).unwrap(),
        array![
            [__, __, __, __, __, __, __, __],
            [__, __, 1, 2, 2, 2, 2, __],
            [__, 1, 1, 2, 2, __, __, __],
            [__, 1, 1, 1, 1, __, __, __],
            [__, 1, 1, 1, 1, 1, __, __],
            [1, 1, __, __, __, __, __, __],
        ]
    );
    assert_eq!(
        rasterize(&shapes, &grid(8, 6), &inside(true)).unwrap(),
        array![
            [__, 1, 1, 2, 2, 2, 2, __],
            [__, 1, 1, 2, 2, 2, 2, 2],
            [__, 1, 1, 2, 2, 2, 2, __],
            [1, 1, 1, 2, 2, 1, __, __],
            [1, 1, 1, 1, 1, 1, 1, __],
            [1, 1, 1, 1, 1, 1, __, __],
        ]
    );
}

/// Boxes whose edges run along centres, in both directions, drawn with the same program.
#[test]
fn gdal_breaks_ties_so() {
    let mut ring = vec![(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5), (1.5, 1.5)];
    let expected = array![
        [__, __, __, __, __, __],
        [__, __, 1, 1, 1, __],
        [__, __, 1, 1, 1, __],
        [__, __, 1, 1, 1, __],
        [__, __, __, __, __, __],
    ];
    for _ in 0..2 {
        assert_eq!(rasterize(&polygons(&[(1, ring.clone())]), &grid(6, 5), &inside(false)).unwrap(), expected);
        ring.reverse();
    }
}

#[test]
fn touched_pixels_have_the_outline_inside() {
    let aligned = polygons(&[(0, vec![(1.0, 1.0), (3.0, 1.0), (3.0, 2.0), (1.0, 2.0), (1.0, 1.0)])]);
    let expected = array![[255, 255, 255, 255], [255, 0, 0, 255], [255, 255, 255, 255]];
    assert_eq!(rasterize(&aligned, &grid(4, 3), &inside(true)).unwrap(), expected);
    let thin = polygons(&[(0, vec![(0.2, 0.2), (3.8, 0.3), (3.8, 0.2), (0.2, 0.2)])]);
    assert!(rasterize(&thin, &grid(4, 3), &inside(false)).unwrap().iter().all(|&id| id == UNLABELED));
    assert_eq!(rasterize(&thin, &grid(4, 3), &inside(true)).unwrap().row(2).to_vec(), [0; 4]);
}

#[test]
fn far_corners_do_no_harm() {
    let far = polygons(&[(3, vec![(-1e99, -1e99), (1e99, -1e99), (1e99, 1e99), (-1e99, 1e99), (-1e99, -1e99)])]);
    for all_touched in [false, true] {
        assert!(rasterize(&far, &grid(8, 6), &inside(all_touched)).unwrap().iter().all(|&id| id == 3));
    }
}

#[test]
fn wrong_polygons_are_refused() {
    let one = polygons(&[(1, vec![(20.0, 1.0), (22.0, 1.0), (22.0, 2.0), (20.0, 1.0)])]);
    let error = rasterize(&one, &grid(8, 6), &inside(false)).unwrap_err().to_string();
    assert!(
        error.contains("polygons[0]") && error.contains("outside of the raster of 8x6 pixels: from (20, 4)"),
        "{error}"
    );
    let allowed = RasterizeConfig { allow_outside: true, ..Default::default() };
    assert!(rasterize(&one, &grid(8, 6), &allowed).unwrap().iter().all(|&id| id == UNLABELED));
    let elsewhere = ClassPolygons { crs: Crs::WGS84, ..one.clone() };
    let error = rasterize(&elsewhere, &grid(8, 6), &allowed).unwrap_err().to_string();
    assert!(error.contains("`polygons`: expected coordinates in EPSG:32740, got EPSG:4326"), "{error}");
    for class in [None, Some(UNLABELED)] {
        let mut unnamed = one.clone();
        unnamed.polygons[0].class = class;
        assert!(rasterize(&unnamed, &grid(8, 6), &allowed).unwrap_err().to_string().contains("has no class"));
        assert_eq!(polygon_mask(&unnamed, &grid(30, 6), &inside(false)).unwrap().iter().filter(|&&set| set).count(), 1);
    }
    assert!(rasterize(&one, &grid(0, 6), &allowed).is_err());
}

fn shapes() -> impl Strategy<Value = ClassPolygons> {
    let corner = (-4.0f64..24.0, -4.0f64..24.0);
    let ring = proptest::collection::vec(corner, 3..9).prop_map(|corners| [&corners[..], &corners[..1]].concat());
    proptest::collection::vec((0u8..5, ring), 1..6).prop_map(|rings| polygons(&rings))
}

proptest! {
    #[test]
    fn windows_agree_with_the_whole(shapes in shapes(), all_touched in any::<bool>(), x in 0u32..19, y in 0u32..19,
                                    width in 1u32..20, height in 1u32..20) {
        let window = Rect { x, y, width: width.min(20 - x), height: height.min(20 - y) };
        let config = RasterizeConfig { all_touched, allow_outside: true };
        let raster = PolygonRaster::new(&shapes, grid(20, 20), &config).unwrap();
        let whole = raster.read_labels(Rect::whole(raster.size())).unwrap();
        let part = raster.read_labels(window).unwrap();
        prop_assert_eq!(&part, &whole.read_labels(window).unwrap());
        if part.iter().any(|&id| id != UNLABELED) {
            prop_assert!(!raster.polygons_in(window).is_empty());
        }
    }

    #[test]
    fn centres_inside_are_drawn(shapes in shapes(), x in 0u32..20, y in 0u32..20) {
        let whole = rasterize(&shapes, &grid(20, 20), &RasterizeConfig { allow_outside: true, ..Default::default() }).unwrap();
        // Crossing rings: inside is where a ray to the right crosses the rings an odd number of times.
        let center = (f64::from(x) + 0.5, 20.0 - f64::from(y) - 0.5);
        let holds = |polygon: &ClassPolygon| {
            let crosses = |line: Line<f64>| {
                let (a, b) = (line.start, line.end);
                (a.y > center.1) != (b.y > center.1) && center.0 < (b.x - a.x) * (center.1 - a.y) / (b.y - a.y) + a.x
            };
            rings(&polygon.geometry.0[0]).flat_map(|ring| ring.lines()).filter(|line| crosses(*line)).count() % 2 == 1
        };
        let expected = shapes.polygons.iter().rfind(|polygon| holds(polygon)).and_then(|polygon| polygon.class);
        prop_assert_eq!(whole[[y as usize, x as usize]], expected.unwrap_or(UNLABELED));
    }
}
