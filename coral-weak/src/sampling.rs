use coral_core::{ClassId, LabelMap, PointLabel, SeededRng, Size, UNLABELED};

/// The points of a k×k grid: column ⌊(i+½)·width/k⌋, row ⌊(j+½)·height/k⌋, by rows.
///
/// A grid point on an [`UNLABELED`] pixel is left out, not moved, so fewer than k² points
/// may come back. Grid points that fall on the same pixel (k larger than a side) count once.
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, PointLabel, UNLABELED};
/// use coral_weak::grid_points;
/// let mut labels = LabelMap::from_elem((4, 8), 3);
/// labels[[3, 6]] = UNLABELED;
/// let at = |x, y| PointLabel { x, y, class: 3 };
/// assert_eq!(grid_points(&labels, 2), [at(2, 1), at(6, 1), at(2, 3)]);
/// ```
pub fn grid_points(labels: &LabelMap, k: usize) -> Vec<PointLabel> {
    let size = Size::of_map(labels);
    let along = |pixels: u32| -> Vec<u32> {
        // As many as there are pixels take every one of them, and more cannot.
        let k = (k as u64).min(u64::from(pixels));
        (0..k).map(|i| ((2 * i + 1) * u64::from(pixels) / (2 * k)) as u32).collect()
    };
    let columns = along(size.width);
    let places = along(size.height).into_iter().flat_map(|y| columns.iter().map(move |&x| (x, y)));
    let points = places.map(|(x, y)| PointLabel { x, y, class: labels[[y as usize, x as usize]] });
    points.filter(|p| p.class != UNLABELED).collect()
}

/// `n` different labelled pixels, each as likely as any other; all of them when there are fewer.
///
/// [`UNLABELED`] pixels are never drawn. Points come sorted by (y, x).
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::random_points;
/// let labels = array![[0, 255, 1], [255, 2, 255]];
/// let points = random_points(&labels, 2, 7);
/// assert_eq!(points.len(), 2);
/// assert_eq!(points, random_points(&labels, 2, 7));
/// assert_eq!(random_points(&labels, 99, 7).len(), 3);
/// ```
pub fn random_points(labels: &LabelMap, n: usize, seed: u64) -> Vec<PointLabel> {
    let labelled = counts(labels).iter().sum();
    let mut ranks = SeededRng::new(seed).sample_indices(labelled, n);
    ranks.sort_unstable();
    let mut ranks = ranks.into_iter().peekable();
    let pixels = points_of(labels).filter(|p| p.class != UNLABELED).enumerate();
    pixels.filter(|(rank, _)| ranks.next_if_eq(rank).is_some()).map(|(_, point)| point).collect()
}

/// `n` labelled pixels spread over the classes: in proportion to their areas, but at
/// least one of every class.
///
/// Every class that occurs starts with one point; each further point goes to the class with the
/// largest area / (2·points + 1) (Sainte-Laguë), ties to the smallest id. When `n` is less than the number
/// of classes, the `n` largest classes get one point each. Within a class every pixel is
/// equally likely. All labelled pixels when there are fewer than `n`; [`UNLABELED`] pixels are never
/// drawn. Points come sorted by (y, x).
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, ndarray::s};
/// use coral_weak::stratified_points;
/// let mut labels = LabelMap::zeros((100, 100));
/// labels[[50, 50]] = 4;
/// labels.slice_mut(s![..20, ..]).fill(1);
/// let points = stratified_points(&labels, 10, 0);
/// let of = |class| points.iter().filter(|p| p.class == class).count();
/// assert_eq!((of(0), of(1), of(4)), (7, 2, 1));
/// ```
pub fn stratified_points(labels: &LabelMap, n: usize, seed: u64) -> Vec<PointLabel> {
    let areas = counts(labels);
    let mut chosen: Vec<Vec<usize>> = Vec::with_capacity(areas.len());
    for ((class, &area), share) in areas.iter().enumerate().zip(allocate(&areas, n)) {
        // A stream per class: a class's points do not depend on which others occur.
        let mut ranks = SeededRng::stream(seed, class as u64).sample_indices(area, share);
        ranks.sort_unstable_by(|a, b| b.cmp(a)); // the next is the last
        chosen.push(ranks);
    }
    let mut seen = [0; UNLABELED as usize];
    let drawn = |point: &PointLabel| {
        let class = usize::from(point.class);
        let rank = seen[class];
        seen[class] += 1;
        chosen[class].pop_if(|next| *next == rank).is_some()
    };
    points_of(labels).filter(|p| p.class != UNLABELED).filter(drawn).collect()
}

/// How many points each class gets.
fn allocate(areas: &[usize], n: usize) -> Vec<usize> {
    let mut shares = vec![0; areas.len()];
    let target = n.min(areas.iter().sum());
    let mut by_area: Vec<usize> = (0..areas.len()).filter(|&class| areas[class] > 0).collect();
    by_area.sort_by_key(|&class| std::cmp::Reverse(areas[class])); // stable: ties by id
    let first = by_area.len().min(target);
    by_area[..first].iter().for_each(|&class| shares[class] = 1);
    for _ in first..target {
        let open = (0..areas.len()).filter(|&class| shares[class] < areas[class]);
        // a / (2s + 1) compared without division; `>` keeps the smallest id on ties.
        let claim = |held: usize, class: usize| {
            let weight = |class: usize, other: usize| areas[class] as u128 * (2 * shares[other] as u128 + 1);
            if weight(class, held) > weight(held, class) { class } else { held }
        };
        if let Some(winner) = open.reduce(claim) {
            shares[winner] += 1;
        }
    }
    shares
}

/// Pixels per class id 0–254.
fn counts(labels: &LabelMap) -> [usize; UNLABELED as usize] {
    let mut counts = [0; UNLABELED as usize + 1];
    labels.iter().for_each(|&class: &ClassId| counts[usize::from(class)] += 1);
    std::array::from_fn(|class| counts[class])
}

/// Every pixel as a point, by rows.
fn points_of(labels: &LabelMap) -> impl Iterator<Item = PointLabel> {
    labels.indexed_iter().map(|((y, x), &class)| PointLabel { x: x as u32, y: y as u32, class })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use std::collections::HashSet;

    fn stripes() -> LabelMap {
        LabelMap::from_shape_fn((20, 31), |(y, x)| match x {
            0..4 => UNLABELED,
            4..8 => 9,
            _ if y == 0 => 254,
            _ => 0,
        })
    }

    #[test]
    fn every_sample_is_a_true_distinct_labelled_pixel_in_order() {
        let labels = stripes();
        for seed in 0..20 {
            for points in [random_points(&labels, 77, seed), stratified_points(&labels, 77, seed)] {
                assert_eq!(points.len(), 77);
                assert!(points.windows(2).all(|w| (w[0].y, w[0].x) < (w[1].y, w[1].x)));
                assert!(points.iter().all(|p| p.class != 255 && labels[[p.y as usize, p.x as usize]] == p.class));
            }
        }
        assert_ne!(random_points(&labels, 9, 1), random_points(&labels, 9, 2));
        assert_ne!(stratified_points(&labels, 9, 1), stratified_points(&labels, 9, 2));
    }

    #[test]
    fn random_points_reach_every_pixel() {
        let labels = array![[0, 1, 255], [2, 255, 3]];
        let reached: HashSet<_> = (0..200).flat_map(|seed| random_points(&labels, 1, seed)).collect();
        assert_eq!(reached.len(), 4);
    }

    #[test]
    fn strata_are_proportional_with_one_each() {
        assert_eq!(allocate(&[700, 0, 200, 100], 10), [7, 0, 2, 1]);
        assert_eq!(allocate(&[9_998, 1, 1], 5), [3, 1, 1]);
        assert_eq!(allocate(&[5, 9, 5], 2), [1, 1, 0]);
        assert_eq!(allocate(&[2, 3], 99), [2, 3]);
        assert_eq!(allocate(&[4, 4], 0), [0, 0]);
        assert_eq!(stratified_points(&stripes(), 4, 0).iter().map(|p| p.class).collect::<HashSet<_>>().len(), 3);
    }

    #[test]
    fn grids_beyond_the_pixels_and_empty_ones() {
        let labels = array![[0, 1], [2, 255]];
        assert_eq!(grid_points(&labels, 50).len(), 3);
        assert!(grid_points(&labels, 0).is_empty());
        assert!(grid_points(&LabelMap::zeros((0, 0)), 3).is_empty());
        assert!(random_points(&LabelMap::from_elem((3, 3), 255), 3, 0).is_empty());
        let row: Vec<_> = grid_points(&LabelMap::zeros((1, 10)), 4).iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(row, [(1, 0), (3, 0), (6, 0), (8, 0)]);
    }
}
