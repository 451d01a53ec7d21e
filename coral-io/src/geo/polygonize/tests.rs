use coral_core::ndarray::{Array2, array};
use coral_core::{ClassId, Crs, GeoTransform, LabelMap, Size, UNLABELED};
use proptest::prelude::*;

use super::*;
use crate::geo::rasterize;

fn grid(size: Size) -> RasterGrid {
    let transform = GeoTransform::north_up(317_356.75, 7_665_597.5, 0.014, 0.014);
    RasterGrid { size, transform, crs: Crs { epsg: 32740 } }
}

fn outlines(map: &LabelMap, diagonals: bool, min_pixels: u64) -> ClassPolygons {
    let config = PolygonizeConfig { diagonals, min_pixels };
    polygonize(map, &grid(Size::of_map(map)), &ClassSet::default(), &config).unwrap()
}

/// The pixels of each region by flooding, in the order of their first pixels.
fn flooded(map: &LabelMap, diagonals: bool) -> Vec<(ClassId, u64)> {
    let (height, width) = map.dim();
    let mut seen = Array2::from_elem(map.dim(), false);
    let mut found = Vec::new();
    for start in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        if seen[start] || map[start] == UNLABELED {
            continue;
        }
        let (mut pixels, mut stack) = (0, vec![start]);
        seen[start] = true;
        while let Some((y, x)) = stack.pop() {
            pixels += 1;
            for (v, u) in (0..height).flat_map(|v| (0..width).map(move |u| (v, u))) {
                let (dy, dx) = (v.abs_diff(y), u.abs_diff(x));
                let next = if diagonals { dy.max(dx) == 1 } else { dy + dx == 1 };
                if next && !seen[(v, u)] && map[(v, u)] == map[start] {
                    seen[(v, u)] = true;
                    stack.push((v, u));
                }
            }
        }
        found.push((map[start], pixels));
    }
    found
}

fn maps() -> impl Strategy<Value = LabelMap> {
    (1usize..9, 1usize..9).prop_flat_map(|(height, width)| {
        let pixel = prop_oneof![4 => 0u8..3, 1 => Just(UNLABELED)];
        proptest::collection::vec(pixel, height * width)
            .prop_map(move |pixels| Array2::from_shape_vec((height, width), pixels).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn outlines_hold_the_regions_and_give_the_map_again(map in maps(), diagonals in any::<bool>()) {
        let polygons = outlines(&map, diagonals, 0);
        let pixels = polygons.polygons.iter().map(|one| (one.class.unwrap(), one.attributes["pixels"].as_u64().unwrap()));
        prop_assert_eq!(pixels.collect::<Vec<_>>(), flooded(&map, diagonals));
        for (polygon, area) in polygons.polygons.iter().zip(polygons.areas().unwrap()) {
            prop_assert!((area - polygon.attributes["area_m2"].as_f64().unwrap()).abs() < 1e-6);
        }
        if !polygons.is_empty() {
            polygons.validate().unwrap();
            let again = rasterize(&polygons, &grid(Size::of_map(&map)), &Default::default()).unwrap();
            prop_assert_eq!(again, map);
        }
    }

    #[test]
    fn small_regions_are_left_out(map in maps(), diagonals in any::<bool>(), min_pixels in 0u64..6) {
        let mut expected = flooded(&map, diagonals);
        expected.retain(|(_, pixels)| *pixels >= min_pixels);
        let found = outlines(&map, diagonals, min_pixels);
        let pixels = found.polygons.iter().map(|one| (one.class.unwrap(), one.attributes["pixels"].as_u64().unwrap()));
        prop_assert_eq!(pixels.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_hole_may_touch_the_outline_and_an_island_the_hole() {
    let map = array![[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]];
    let parts = |diagonals| outlines(&map, diagonals, 0).polygons;
    let shape = |polygon: &ClassPolygon| {
        polygon.geometry.iter().map(|part| (part.exterior().0.len(), part.interiors().len())).collect::<Vec<_>>()
    };
    // The border of 1 turns eight times; its hole is open to the lower right, where one pixel of 1 stands alone.
    assert_eq!(parts(false).iter().map(|one| shape(one).len()).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(parts(true).iter().map(|one| shape(one).len()).collect::<Vec<_>>(), [2, 2]);
    let ring = array![[1, 1, 1], [1, 0, 1], [1, 1, 0]];
    let polygons = outlines(&ring, false, 0).polygons;
    assert_eq!(shape(&polygons[0]), [(7, 1)]);
}

#[test]
fn the_grid_must_fit() {
    let map = LabelMap::zeros((2, 3));
    let wrong = grid(Size { width: 2, height: 3 });
    let error = polygonize(&map, &wrong, &ClassSet::default(), &Default::default()).unwrap_err();
    assert_eq!(error.to_string(), "grid: expected shape 2x3, got 3x2");
}
