//! What the masks leave open.

use coral_core::{LabelMap, PointLabel, Result, Size, UNLABELED};

use crate::points::CanonicalPoints;

/// Gives the pixels without a label those of `propagate`, which gets the points and, of a grid of about `grid_points`
/// pixels, those that have a label.
pub(super) fn fill_rest(
    labels: &mut LabelMap,
    canonical: &CanonicalPoints,
    grid_points: usize,
    propagate: impl FnOnce(&[PointLabel]) -> Result<LabelMap>,
) -> Result<()> {
    canonical.stamp(labels);
    if labels.iter().any(|&class| class == UNLABELED) {
        let mut points = canonical.points.clone();
        points.extend(labelled_grid(labels, grid_points));
        let filled = propagate(&points)?;
        Size::of_map(labels).expect("label map of the fill", Size::of_map(&filled))?;
        labels.zip_mut_with(&filled, |class, &filled| {
            if *class == UNLABELED {
                *class = filled;
            }
        });
        canonical.complete(labels);
    }
    Ok(())
}

/// The labelled ones of about `count` pixels that lie on a square grid.
fn labelled_grid(labels: &LabelMap, count: usize) -> Vec<PointLabel> {
    if count == 0 {
        return Vec::new();
    }
    let step = (labels.len() as f64 / count as f64).sqrt().max(1.0);
    let along = |pixels: usize| -> Vec<usize> {
        let places = (0..pixels).map(|i| ((i as f64 + 0.5) * step) as usize);
        places.take_while(|&place| place < pixels).collect()
    };
    let columns = along(labels.ncols());
    let places = along(labels.nrows()).into_iter().flat_map(|y| columns.iter().map(move |&x| (x, y)));
    let points = places.map(|(x, y)| PointLabel { x: x as u32, y: y as u32, class: labels[[y, x]] });
    points.filter(|p| p.class != UNLABELED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// The class of the last point everywhere, but for one pixel.
    fn last(points: &[PointLabel]) -> Result<LabelMap> {
        let mut labels = LabelMap::from_elem((1, 6), points[points.len() - 1].class);
        labels[[0, 0]] = UNLABELED;
        Ok(labels)
    }

    #[test]
    fn only_the_rest_is_filled() {
        let size = Size { width: 6, height: 1 };
        let at = |x, class| PointLabel { x, y: 0, class };
        let canonical = CanonicalPoints::new(&[at(1, 3), at(3, 8)], size).unwrap();
        let masked = || array![[UNLABELED, 8, 3, UNLABELED, 3, UNLABELED]];
        let (mut plain, mut with_grid) = (masked(), masked());
        fill_rest(&mut plain, &canonical, 0, last).unwrap();
        // What the fill left open takes the nearest point, and points keep their class.
        assert_eq!(plain, array![[3, 3, 3, 8, 3, 8]]);
        fill_rest(&mut with_grid, &canonical, 6, last).unwrap();
        assert_eq!(with_grid, array![[3, 3, 3, 8, 3, 3]]);
        let error = fill_rest(&mut masked(), &canonical, 0, |_| Ok(array![[1, 2]])).unwrap_err().to_string();
        assert_eq!(error, "label map of the fill: expected shape 6x1, got 2x1");
    }

    #[test]
    fn grids_are_even_and_keep_to_the_labels() {
        let mut labels = LabelMap::from_elem((10, 20), 4);
        assert_eq!(labelled_grid(&labels, 2).iter().map(|p| (p.x, p.y)).collect::<Vec<_>>(), [(5, 5), (15, 5)]);
        assert_eq!(labelled_grid(&labels, 9999).len(), 200);
        labels[[5, 15]] = UNLABELED;
        assert_eq!(labelled_grid(&labels, 2).len(), 1);
        assert!(labelled_grid(&labels, 0).is_empty());
    }
}
