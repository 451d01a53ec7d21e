use coral_core::Crs;
use geo::{LineString, MultiPolygon, Polygon};

/// What coordinates may be besides 0: tests of where positions lie are exact while products neither vanish nor overflow.
const MAGNITUDES: std::ops::RangeInclusive<f64> = 1e-100..=1e100;

/// What makes the coordinates of a polygon unusable, if anything does.
pub(super) fn problem(geometry: &MultiPolygon<f64>, crs: Crs) -> Option<String> {
    if geometry.0.is_empty() {
        return Some("has no ring".into());
    }
    geometry.iter().find_map(|polygon| rings(polygon).find_map(|ring| ring_problem(ring, crs)))
}

/// The outer ring, then the inner ones.
pub(crate) fn rings(polygon: &Polygon<f64>) -> impl Iterator<Item = &LineString<f64>> {
    std::iter::once(polygon.exterior()).chain(polygon.interiors())
}

fn ring_problem(ring: &LineString<f64>, crs: Crs) -> Option<String> {
    if ring.0.len() < 4 {
        return Some(format!("a ring needs at least 4 positions (the last is the first), got {}", ring.0.len()));
    }
    if let Some(at) = ring.0.iter().find(|at| !(at.x.is_finite() && at.y.is_finite())) {
        return Some(format!("expected finite coordinates, found ({}, {})", at.x, at.y));
    }
    if !ring.is_closed() {
        return Some("a ring is not closed: its last position must be its first".into());
    }
    let unusable = |value: f64| value != 0.0 && !MAGNITUDES.contains(&value.abs());
    if let Some(at) = ring.0.iter().find(|at| unusable(at.x) || unusable(at.y)) {
        return Some(format!("expected coordinates of 1e-100 to 1e100, found ({}, {})", at.x, at.y));
    }
    let beyond = |at: &&geo::Coord<f64>| at.x.abs() > 180.0 || at.y.abs() > 90.0;
    if crs.is_geographic()
        && let Some(at) = ring.0.iter().find(beyond)
    {
        let reason =
            format!("({}, {}) is no longitude and latitude in degrees: are the coordinates in {crs}?", at.x, at.y);
        return Some(reason);
    }
    None
}
