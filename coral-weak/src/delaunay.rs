use coral_core::Result;
use ndarray::ArrayView2;

use crate::samples::positions_of;

/// The Delaunay triangles of N×2 `points` (x, y), as rows of `points`.
///
/// Each triangle's indices ascend, and so do the triangles. There is none for fewer than
/// three points or points on one line; of coincident points only the first takes part.
/// Points are centred first, so that coordinates with a large offset (degrees, UTM) lose
/// no digits. Of four points on one circle either diagonal may be chosen, always
/// the same one for the same set of points.
///
/// # Errors
/// [`Error::ShapeMismatch`](coral_core::Error::ShapeMismatch) or
/// [`Error::InvalidInput`](coral_core::Error::InvalidInput) when `points` is not N×2 or not finite.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::delaunay_triangles;
/// let points = array![[0.0, 0.0], [4.0, 0.0], [2.0, 1.0], [2.0, -1.0]];
/// assert_eq!(delaunay_triangles(points.view())?, [[0, 2, 3], [1, 2, 3]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Delaunay, *Sur la sphère vide* (1934); the sweep is that of the crate `delaunator`. The set of
/// triangles equals Qhull's on the golden case `griddata`.
pub fn delaunay_triangles(points: ArrayView2<'_, f64>) -> Result<Vec<[usize; 3]>> {
    let unsorted = positions_of("points", points)?;
    let mut order: Vec<usize> = (0..unsorted.len()).collect();
    let place = |i: usize| (unsorted[i][1], unsorted[i][0]);
    order.sort_by(|&a, &b| place(a).0.total_cmp(&place(b).0).then(place(a).1.total_cmp(&place(b).1)));
    order.dedup_by(|later, first| unsorted[*later] == unsorted[*first]);
    let positions: Vec<_> = order.iter().map(|&i| unsorted[i]).collect();
    Ok(sorted(triangulate(&positions).into_iter().map(|triangle| triangle.map(|i| order[i]))))
}

/// The triangles of distinct positions in canonical order.
pub(crate) fn triangulate(positions: &[[f64; 2]]) -> Vec<[usize; 3]> {
    if positions.len() < 3 {
        return Vec::new();
    }
    // The middle of the extremes, unlike the mean, leaves whole numbers exact: points on a line stay on it.
    let bounds = |axis: usize| {
        positions
            .iter()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], p| [low.min(p[axis]), high.max(p[axis])])
    };
    let middle = [0, 1].map(bounds).map(|[low, high]| low + (high - low) / 2.0);
    let centred = || positions.iter().map(|p| [p[0] - middle[0], p[1] - middle[1]]);
    let extent = centred().flatten().fold(0.0, |extent: f64, v| extent.max(v.abs()));
    if extent == 0.0 {
        return Vec::new();
    }
    // The crate merges points closer than an absolute 4e-16; a power of two changes no digit.
    let scale = (-extent.log2().floor()).exp2();
    let points: Vec<_> = centred().map(|[x, y]| delaunator::Point { x: x * scale, y: y * scale }).collect();
    sorted(delaunator::triangulate(&points).triangles.as_chunks::<3>().0.iter().copied())
}

fn sorted(triangles: impl Iterator<Item = [usize; 3]>) -> Vec<[usize; 3]> {
    let ascending = |mut triangle: [usize; 3]| {
        triangle.sort_unstable();
        triangle
    };
    let mut triangles: Vec<_> = triangles.map(ascending).collect();
    triangles.sort_unstable();
    triangles
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;
    use ndarray::Array2;

    #[test]
    fn degenerate_points_give_no_triangle() -> Result<()> {
        let line = |n: usize| Array2::from_shape_fn((n, 2), |(i, axis)| (i * (axis + 1)) as f64);
        for n in [0, 1, 2, 3, 50] {
            assert!(delaunay_triangles(line(n).view())?.is_empty(), "{n} points on a line");
        }
        assert!(delaunay_triangles(Array2::ones((9, 2)).view())?.is_empty(), "one place");
        Ok(())
    }

    /// On lattices (many points on common lines and circles) and clouds: the triangles
    /// cover the hull exactly once, use every point, and no point lies inside a circumcircle.
    #[test]
    fn triangles_are_a_delaunay_triangulation() {
        let mut rng = SeededRng::new(4);
        for trial in 0..60 {
            let side = 2 + rng.below(12);
            let count = (3 + rng.below(60)).min(side * side);
            let cells = rng.sample_indices(side * side, count);
            let offset = if trial % 2 == 0 { 0.0 } else { 5e5 };
            let places: Vec<[f64; 2]> =
                cells.iter().map(|cell| [offset + (cell % side) as f64, offset + (cell / side) as f64]).collect();
            check(&places);
        }
    }

    /// The mean of these is no fraction of a power of two.
    #[test]
    fn points_on_a_side_of_the_hull_take_part() {
        let places = [[12, 0], [24, 0], [36, 0], [0, 0], [0, 6], [6, 6], [12, 6], [24, 6], [30, 6], [0, 12], [6, 12]];
        let rest = [[18, 12], [24, 12], [12, 18]];
        check(&places.into_iter().chain(rest).map(|place| place.map(f64::from)).collect::<Vec<_>>());
    }

    fn check(places: &[[f64; 2]]) {
        let twice_area =
            |a: [f64; 2], b: [f64; 2], c: [f64; 2]| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        let triangles = triangulate(places);
        for t in &triangles {
            assert!(twice_area(places[t[0]], places[t[1]], places[t[2]]) != 0.0, "{t:?} are on a line");
        }
        let area: f64 = triangles.iter().map(|t| twice_area(places[t[0]], places[t[1]], places[t[2]]).abs()).sum();
        assert_eq!(area, twice_hull_area(places, twice_area));
        if area > 0.0 {
            assert!((0..places.len()).all(|i| triangles.iter().any(|t| t.contains(&i))), "a point is left out");
        }
        for t in &triangles {
            let [mut a, mut b, c] = t.map(|i| places[i]);
            if twice_area(a, b, c) < 0.0 {
                (a, b) = (b, a);
            }
            for p in places {
                let row = |q: [f64; 2]| [q[0] - p[0], q[1] - p[1], (q[0] - p[0]).powi(2) + (q[1] - p[1]).powi(2)];
                let [u, v, w] = [a, b, c].map(row);
                let inside = u[0] * (v[1] * w[2] - v[2] * w[1]) - u[1] * (v[0] * w[2] - v[2] * w[0])
                    + u[2] * (v[0] * w[1] - v[1] * w[0]);
                assert!(inside <= 0.0, "{p:?} lies inside the circle of {t:?}");
            }
        }
    }

    /// By the monotone chain.
    fn twice_hull_area(places: &[[f64; 2]], turn: impl Fn([f64; 2], [f64; 2], [f64; 2]) -> f64) -> f64 {
        let mut sorted = places.to_vec();
        sorted.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        let chain = |order: &mut dyn Iterator<Item = [f64; 2]>| {
            let mut chain: Vec<[f64; 2]> = Vec::new();
            for p in order {
                while chain.len() > 1 && turn(chain[chain.len() - 2], chain[chain.len() - 1], p) <= 0.0 {
                    chain.pop();
                }
                chain.push(p);
            }
            chain
        };
        let mut hull = chain(&mut sorted.iter().copied());
        hull.extend(chain(&mut sorted.iter().rev().copied()));
        hull.windows(2).map(|w| turn(hull[0], w[0], w[1])).sum()
    }
}
