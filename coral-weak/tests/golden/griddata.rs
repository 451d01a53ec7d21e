//! Interpolation of scattered values on a grid.

use coral_core::Crs;
use coral_core::ndarray::{Array1, Array2, Axis, Ix1, Ix2, Ix3, stack};
use coral_core::testing::GoldenCase;
use coral_weak::{
    FrameProbabilities, FrameRasterConfig, InverseDistanceConfig, Neighbours, delaunay_triangles, haversine,
    interpolate_frames, inverse_distance, linear_on_grid, nearest_values, track_cell, track_grid,
};

use super::{TestResult, assert_close, open};

const METRES_PER_DEGREE: f64 = 111_319.0;

struct Survey {
    case: GoldenCase,
    /// N×2 (longitude, latitude).
    points: Array2<f64>,
    values: Array2<f64>,
    grid_x: Vec<f64>,
    grid_y: Vec<f64>,
}

impl Survey {
    fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let case = open("griddata");
        let axis = |name: &str| -> Result<Array1<f64>, Box<dyn std::error::Error>> {
            Ok(case.f64(name)?.into_dimensionality::<Ix1>()?)
        };
        let points = stack![Axis(1), axis("lon")?, axis("lat")?];
        let values = case.f64("values")?.into_dimensionality()?;
        let (grid_x, grid_y) = (axis("grid_x")?.to_vec(), axis("grid_y")?.to_vec());
        Ok(Self { case, points, values, grid_x, grid_y })
    }

    /// The nodes by rows, M×2.
    fn nodes(&self) -> Array2<f64> {
        let nx = self.grid_x.len();
        Array2::from_shape_fn((nx * self.grid_y.len(), 2), |(node, axis)| {
            if axis == 0 { self.grid_x[node % nx] } else { self.grid_y[node / nx] }
        })
    }

    /// Degrees to metres on the local equirectangular plane, from the mean of the points.
    fn metric(&self, degrees: &Array2<f64>) -> Array2<f64> {
        let mean = self.points.mean_axis(Axis(0)).expect("there are points");
        let scale = [METRES_PER_DEGREE * mean[1].to_radians().cos(), METRES_PER_DEGREE];
        Array2::from_shape_fn(degrees.dim(), |(i, axis)| (degrees[[i, axis]] - mean[axis]) * scale[axis])
    }
}

#[test]
fn griddata_linear() -> TestResult {
    let survey = Survey::open()?;
    let ours = linear_on_grid(survey.points.view(), survey.values.view(), &survey.grid_x, &survey.grid_y)?;
    let centred = survey.case.f64("linear_centred")?.into_dimensionality::<Ix3>()?;
    let raw = survey.case.f64("linear")?.into_dimensionality::<Ix3>()?;
    let binary_values: Array2<f64> = survey.case.f64("values_binary")?.into_dimensionality()?;
    let binary = linear_on_grid(survey.points.view(), binary_values.view(), &survey.grid_x, &survey.grid_y)?;
    let raw_binary = survey.case.f64("linear_binary")?.into_dimensionality::<Ix3>()?;
    let differs = survey.case.u8("differs_raw_vs_centred")?.into_dimensionality::<Ix2>()?;
    let border = survey.case.f64("hull_signed_distance_deg")?.into_dimensionality::<Ix2>()?;
    assert_eq!(ours.dim(), centred.dim());
    let mut compared = 0;
    for ((y, x, channel), &value) in ours.indexed_iter() {
        let mut references = vec![("linear_centred", value, centred[[y, x, channel]])];
        if differs[[y, x]] == 0 {
            references.push(("linear", value, raw[[y, x, channel]]));
            references.push(("linear_binary", binary[[y, x, channel]], raw_binary[[y, x, channel]]));
        }
        for (name, ours, expected) in references {
            if ours.is_nan() != expected.is_nan() {
                let distance = border[[y, x]].abs();
                assert!(
                    distance < 1e-10,
                    "{name} at ({x}, {y}): {ours}, expected {expected}, {distance} from the hull"
                );
            } else if !ours.is_nan() {
                assert!((ours - expected).abs() <= 1e-6, "{name} at ({x}, {y}): {ours}, expected {expected}");
                compared += 1;
            }
        }
    }
    assert!(compared > ours.len(), "only {compared} values compared");
    Ok(())
}

#[test]
fn griddata_raster() -> TestResult {
    let survey = Survey::open()?;
    let cell = track_cell(survey.points.view(), Crs::WGS84)?;
    let expected = survey.case.number("/grid/cell_m")?;
    assert!((cell - expected).abs() <= 1e-12 * expected, "{cell}, expected {expected}");
    let grid = track_grid(survey.points.view(), Crs::WGS84, cell)?;
    assert_eq!(grid.size.shape(), (survey.grid_y.len(), survey.grid_x.len()));
    let south = survey.grid_y.len() as f64 - 0.5;
    for (column, &x) in survey.grid_x.iter().enumerate() {
        assert!((grid.transform.world(column as f64 + 0.5, south).0 - x).abs() <= 1e-12 * x.abs());
    }
    for (row, &y) in survey.grid_y.iter().enumerate() {
        assert!((grid.transform.world(0.5, south - row as f64).1 - y).abs() <= 1e-12 * y.abs());
    }

    let probabilities = survey.values.clone();
    let frames = FrameProbabilities { crs: Crs::WGS84, positions: survey.points.clone(), probabilities };
    let raster = interpolate_frames(&frames, &FrameRasterConfig { metric: false, ..Default::default() })?;
    let centred = survey.case.f64("linear_centred")?.into_dimensionality::<Ix3>()?;
    let border = survey.case.f64("hull_signed_distance_deg")?.into_dimensionality::<Ix2>()?;
    let rows = survey.grid_y.len();
    for ((class, y, x), &value) in raster.values.indexed_iter() {
        let south = rows - 1 - y;
        let expected = centred[[south, x, class]];
        let edge = border[[south, x]].abs() < 1e-10;
        let equal = (value - expected).abs() <= 1e-6 || value.is_nan() && expected.is_nan();
        assert!(equal || edge, "({x}, {y}): {value}, expected {expected}");
    }
    Ok(())
}

#[test]
fn griddata_triangles() -> TestResult {
    let survey = Survey::open()?;
    let simplices = survey.case.i64("delaunay_simplices_centred")?.into_dimensionality::<Ix2>()?;
    let mut expected: Vec<[usize; 3]> = Vec::new();
    for row in simplices.outer_iter() {
        let mut triangle = [row[0] as usize, row[1] as usize, row[2] as usize];
        triangle.sort_unstable();
        expected.push(triangle);
    }
    let ours = delaunay_triangles(survey.points.view())?;
    // Four points on a circle, or three on the hull's edge, may be split either way; their share is tiny.
    let missing: Vec<_> = expected.iter().filter(|triangle| !ours.contains(triangle)).collect();
    let extra: Vec<_> = ours.iter().filter(|triangle| !expected.contains(triangle)).collect();
    let allowed = expected.len() / 50;
    assert!(missing.len() <= allowed && extra.len() <= allowed, "missing {missing:?}, not expected {extra:?}");
    Ok(())
}

#[test]
fn griddata_distances() -> TestResult {
    let survey = Survey::open()?;
    let place = |i: usize| (survey.points[[i, 0]], survey.points[[i, 1]]);
    let ours = Array1::from_shape_fn(survey.points.nrows() - 1, |i| haversine(place(i), place(i + 1)));
    // The sine of a small angle keeps fewer digits than the distance has.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    assert_close("haversine", &ours.into_dyn(), &survey.case.f64("haversine_consecutive")?, close);
    Ok(())
}

#[test]
fn griddata_hull() -> TestResult {
    let survey = Survey::open()?;
    let ours = linear_on_grid(survey.points.view(), survey.values.view(), &survey.grid_x, &survey.grid_y)?;
    let inside = survey.case.u8("inside_hull")?.into_dimensionality::<Ix2>()?;
    let border = survey.case.f64("hull_signed_distance_deg")?.into_dimensionality::<Ix2>()?;
    for ((at, &inside), &border) in inside.indexed_iter().zip(&border) {
        let known = !ours[[at.0, at.1, 0]].is_nan();
        assert!(known == (inside == 1) || border.abs() < 1e-10, "{at:?}: {known}, {border} from the hull");
    }
    // The hull's edges belong to one triangle each.
    let mut edges: Vec<[usize; 2]> = Vec::new();
    for [a, b, c] in delaunay_triangles(survey.points.view())? {
        edges.extend([[a, b], [b, c], [a, c]]);
    }
    let outer = |edge: &[usize; 2]| edges.iter().filter(|other| *other == edge).count() == 1;
    let corners: Vec<usize> = edges.iter().filter(|edge| outer(edge)).flatten().copied().collect();
    let expected = survey.case.i64("hull_vertices")?;
    assert!(expected.iter().all(|&corner| corners.contains(&(corner as usize))), "{corners:?}, expected {expected}");
    // A point on the hull's edge up to rounding may be a corner.
    assert!(corners.len() <= 2 * expected.len() + expected.len() / 5, "{corners:?}, expected {expected}");
    Ok(())
}

#[test]
fn griddata_nearest() -> TestResult {
    let survey = Survey::open()?;
    let ours = nearest_values(survey.points.view(), survey.values.view(), survey.nodes().view())?;
    assert_close("nearest", &ours.into_dyn(), &survey.case.f64("nearest_degrees")?, |a, b| a == b);
    Ok(())
}

#[test]
fn griddata_inverse_distance() -> TestResult {
    let survey = Survey::open()?;
    let (points, nodes) = (survey.metric(&survey.points), survey.metric(&survey.nodes()));
    let radius = survey.case.number("/config/idw_radius_m")?;
    let names: Vec<_> = survey.case.tensor_names()?.into_iter().filter(|name| name.starts_with("idw_p")).collect();
    assert!(!names.is_empty());
    for name in names {
        let (power, selection) = name["idw_p".len()..].split_once('_').ok_or("expected idw_pP_SELECTION")?;
        let neighbours = match selection.strip_prefix('k') {
            Some(k) => Neighbours::Nearest(k.parse()?),
            None if selection == "all" => Neighbours::All,
            None => Neighbours::Within(radius),
        };
        let config = InverseDistanceConfig { power: power.parse()?, neighbours };
        let ours = inverse_distance(points.view(), survey.values.view(), nodes.view(), &config)?;
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
        assert_close(&name, &ours.into_dyn(), &survey.case.f64(&name)?, close);
    }
    Ok(())
}
