//! Which clicks go with a labelled point.

use coral_core::{ClassId, PointLabel, PointPrompt, Prompt};

use crate::points::CanonicalPoints;

/// Asks for the mask at point `index`: that point is foreground, the `background` nearest points of other classes are
/// not.
pub(super) fn prompt_at(canonical: &CanonicalPoints, index: usize, background: usize) -> Prompt {
    let centre = canonical.points[index];
    let mut points = vec![click(centre, true)];
    let others = nearest(canonical, index, background, |class, _| class != centre.class);
    points.extend(others.into_iter().map(|i| click(canonical.points[i], false)));
    Prompt { points, ..Prompt::default() }
}

/// The `count` points nearest to point `index` (without itself) among those that `wanted` names by class and
/// index; equally near ones in canonical order.
pub(super) fn nearest(
    canonical: &CanonicalPoints,
    index: usize,
    count: usize,
    wanted: impl Fn(ClassId, usize) -> bool,
) -> Vec<usize> {
    if count == 0 {
        return Vec::new();
    }
    let centre = canonical.points[index];
    let square = |a: u32, b: u32| u64::from(a.abs_diff(b)).pow(2);
    let mut found: Vec<(u64, usize)> = (canonical.points.iter().enumerate())
        .filter(|(i, p)| *i != index && wanted(p.class, *i))
        .map(|(i, p)| (square(p.x, centre.x) + square(p.y, centre.y), i))
        .collect();
    if found.len() > count {
        found.select_nth_unstable(count);
        found.truncate(count);
    }
    found.sort_unstable();
    found.into_iter().map(|(_, i)| i).collect()
}

/// A labelled pixel as a click.
pub(super) fn click(p: PointLabel, foreground: bool) -> PointPrompt {
    PointPrompt { x: p.x as f32, y: p.y as f32, foreground }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Size;

    #[test]
    fn the_nearest_of_other_classes_are_background() {
        let at = |x, class| PointLabel { x, y: 0, class };
        let points = [at(0, 1), at(3, 2), at(4, 1), at(7, 3), at(9, 2), at(5, 2)];
        let canonical = CanonicalPoints::new(&points, Size { width: 10, height: 1 }).unwrap();
        let clicks = |index, background| -> Vec<(f32, bool)> {
            prompt_at(&canonical, index, background).points.iter().map(|p| (p.x, p.foreground)).collect()
        };
        // Pixels 3 and 5 are equally near to pixel 4: the left one first.
        assert_eq!(clicks(2, 3), [(4.0, true), (3.0, false), (5.0, false), (7.0, false)]);
        assert_eq!(clicks(2, 1), [(4.0, true), (3.0, false)]);
        assert_eq!(clicks(0, 99).len(), 5);
        assert_eq!(clicks(0, 0), [(0.0, true)]);
        assert_eq!(nearest(&canonical, 2, 9, |class, _| class == 1), [0]);
    }
}
