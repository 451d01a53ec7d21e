use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The ground that a camera sees, a convex quadrilateral in metres.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// The corners in order, (x, y).
    pub corners: [(f64, f64); 4],
}

impl Footprint {
    /// A footprint with the corners in the order around it, either way.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a corner is not finite, or the corners make no convex quadrilateral with an area.
    pub fn new(corners: [(f64, f64); 4]) -> Result<Self> {
        let turn = |i: usize| {
            let [a, b, c] = [0, 1, 2].map(|step| corners[(i + step) % 4]);
            (b.0 - a.0) * (c.1 - b.1) - (b.1 - a.1) * (c.0 - b.0)
        };
        let turns = [0, 1, 2, 3].map(turn);
        let convex = turns.iter().all(|&turn| turn >= 0.0) || turns.iter().all(|&turn| turn <= 0.0);
        let footprint = Self { corners };
        if convex && footprint.area().is_finite() && footprint.area() > 0.0 {
            return Ok(footprint);
        }
        Err(Error::input("footprint", format!("expected a convex quadrilateral, got {corners:?}")))
    }

    /// Square metres.
    pub fn area(&self) -> f64 {
        area(&self.corners)
    }

    /// The corners of the part inside the box from `low` to `high`; none where they do not meet.
    pub(super) fn clip(&self, low: (f64, f64), high: (f64, f64)) -> Vec<(f64, f64)> {
        type Along = fn((f64, f64)) -> f64;
        let mut polygon = self.corners.to_vec();
        let sides: [(Along, f64, f64); 4] =
            [(|p| p.0, low.0, 1.0), (|p| p.0, high.0, -1.0), (|p| p.1, low.1, 1.0), (|p| p.1, high.1, -1.0)];
        for (along, limit, sign) in sides {
            let depth = |p: (f64, f64)| sign * (along(p) - limit);
            let mut kept = Vec::with_capacity(polygon.len() + 1);
            for (i, &to) in polygon.iter().enumerate() {
                let from = polygon[(i + polygon.len() - 1) % polygon.len()];
                let (before, after) = (depth(from), depth(to));
                if (before < 0.0) != (after < 0.0) {
                    let share = before / (before - after);
                    kept.push((from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1)));
                }
                if after >= 0.0 {
                    kept.push(to);
                }
            }
            polygon = kept;
        }
        polygon
    }
}

/// The area of a polygon given by its corners in order.
pub(super) fn area(corners: &[(f64, f64)]) -> f64 {
    let Some(&origin) = corners.first() else { return 0.0 };
    let cross =
        |(a, b): (&(f64, f64), &(f64, f64))| (a.0 - origin.0) * (b.1 - origin.1) - (a.1 - origin.1) * (b.0 - origin.0);
    corners.iter().zip(&corners[1..]).map(cross).sum::<f64>().abs() / 2.0
}

/// A camera that looks down, with its field of view in degrees.
///
/// # Examples
/// ```
/// use coral_weak::Camera;
/// let corners = Camera { across: 90.0, along: 90.0 }.ground(2.0, [0.0, 0.0, 0.0])?;
/// assert!((corners[0].0 - 2.0).abs() < 1e-12 && (corners[0].1 - 2.0).abs() < 1e-12);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Camera {
    /// Field of view across the direction of travel, degrees.
    pub across: f64,
    /// Field of view in the direction of travel, degrees.
    pub along: f64,
}

impl Default for Camera {
    /// The camera of the published surveys.
    fn default() -> Self {
        Self { across: 94.4, along: 122.6 }
    }
}

impl Camera {
    /// The corners of the ground that the camera sees, in metres north and east of the point below it.
    ///
    /// `attitude` is roll, pitch and heading in degrees; the heading is clockwise from north.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a field of view outside 0 to 180 degrees, an altitude that is not over 0, angles
    /// that are not finite, and a camera that sees the horizon.
    ///
    /// # References
    /// Contini et al., arXiv 2502.17883; golden case `footprint_aggregation` within 1e-9.
    pub fn ground(&self, altitude: f64, attitude: [f64; 3]) -> Result<[(f64, f64); 4]> {
        for (name, value) in [("across", self.across), ("along", self.along)] {
            if !(value > 0.0 && value < 180.0) {
                return Err(Error::parameter(name, format!("expected degrees between 0 and 180, got {value}")));
            }
        }
        if !(altitude.is_finite() && altitude > 0.0) || attitude.iter().any(|angle| !angle.is_finite()) {
            let reason = format!("expected metres over 0 and degrees, got {altitude} and {attitude:?}");
            return Err(Error::parameter("altitude and attitude", reason));
        }
        let [roll, pitch, heading] = attitude.map(|degrees| degrees.to_radians().sin_cos());
        let half = |degrees: f64| (degrees.to_radians() / 2.0).tan();
        let (forward, side) = (half(self.along), half(self.across));
        let mut corners = [(0.0, 0.0); 4];
        for (corner, (x, y)) in corners.iter_mut().zip([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)]) {
            let [x, y, z] = rotate([x * forward, y * side, -1.0], roll, pitch, heading);
            if z >= 0.0 {
                let reason = format!("with attitude {attitude:?} the camera sees the horizon");
                return Err(Error::parameter("attitude", reason));
            }
            *corner = (x * altitude / -z, y * altitude / -z);
        }
        Ok(corners)
    }
}

type SinCos = (f64, f64);

/// Turns a ray about x by the roll, then about y by the pitch, then about z by the heading.
fn rotate([x, y, z]: [f64; 3], roll: SinCos, pitch: SinCos, heading: SinCos) -> [f64; 3] {
    let (y, z) = (y * roll.1 - z * roll.0, y * roll.0 + z * roll.1);
    let (x, z) = (x * pitch.1 + z * pitch.0, z * pitch.1 - x * pitch.0);
    [x * heading.1 - y * heading.0, x * heading.0 + y * heading.1, z]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_the_part_inside() {
        let diamond = Footprint::new([(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]).unwrap();
        assert_eq!(diamond.area(), 2.0);
        let inside = |low, high| area(&diamond.clip(low, high));
        assert_eq!(inside((0.0, 0.0), (5.0, 5.0)), 0.5);
        assert_eq!(inside((-0.5, -0.5), (0.5, 0.5)), 1.0);
        assert_eq!(inside((2.0, 2.0), (3.0, 3.0)), 0.0);
        assert_eq!(inside((-9.0, -9.0), (9.0, 9.0)), 2.0);
        // Meets only in a point.
        assert_eq!(inside((1.0, -1.0), (2.0, 1.0)), 0.0);
    }

    #[test]
    fn impossible_footprints_are_named() {
        let bad = |corners| Footprint::new(corners).unwrap_err().to_string();
        assert!(bad([(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]).contains("convex"));
        assert!(bad([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]).contains("convex"));
        assert!(bad([(0.0, 0.0), (1.0, f64::NAN), (1.0, 1.0), (0.0, 1.0)]).contains("convex"));
        let text = |camera: Camera, altitude, attitude| camera.ground(altitude, attitude).unwrap_err().to_string();
        assert!(text(Camera { across: 180.0, along: 90.0 }, 1.0, [0.0; 3]).contains("across"));
        assert!(text(Camera::default(), 0.0, [0.0; 3]).contains("altitude"));
        assert!(text(Camera::default(), 1.0, [0.0, 80.0, 0.0]).contains("horizon"));
    }
}
