//! What the superpixel propagators do with points before and after.

use coral_core::{LabelMap, PointLabel, Result, Size, UNLABELED, validate_points};

use crate::parallel;

/// Checked points, by row and column, each pixel once: neither order nor repetition can matter after it.
pub(crate) fn canonical_points(points: &[PointLabel], size: Size) -> Result<Vec<PointLabel>> {
    validate_points(points, size)?;
    let mut points = points.to_vec();
    points.sort_unstable_by_key(|p| (p.y, p.x, p.class));
    points.dedup();
    Ok(points)
}

/// Gives labelled pixels their own class and pixels without any that of the nearest
/// point (of several the first); `points` are canonical.
pub(crate) fn finish(labels: &mut LabelMap, points: &[PointLabel]) {
    for p in points {
        labels[[p.y as usize, p.x as usize]] = p.class;
    }
    let rows: Vec<_> = labels.rows_mut().into_iter().zip(0i64..).collect();
    parallel::map(rows, |(row, y)| {
        for (pixel, x) in row.into_iter().zip(0i64..).filter(|(pixel, _)| **pixel == UNLABELED) {
            let nearest = points.iter().min_by_key(|p| (i64::from(p.x) - x).pow(2) + (i64::from(p.y) - y).pow(2));
            *pixel = nearest.map_or(UNLABELED, |p| p.class);
        }
    });
}
