use coral_core::Result;
use ndarray::{Array2, ArrayView2};

use super::conjugate_gradient::solve;
use crate::parallel::{self, for_each_chunk};
use crate::samples::{Buckets, Found, square_distance};

/// Terms of a sum that are below e^-16 (1e-7) of its largest are dropped.
const NEGLIGIBLE: f64 = 16.0;
/// Where every kernel is below e^-10, all are scaled up alike until the largest is e^-10: the scores keep their
/// order, and stay well above what the solver of the smoothing takes for 0.
const FAINTEST: f64 = 10.0;

/// Positions and features of some places, one per row.
#[derive(Debug)]
pub(super) struct Places {
    /// N positions (x, y), in mean distances between labelled points.
    pub(super) positions: Vec<[f64; 2]>,
    /// N×D, scaled so that squared distances are the kernel's exponent.
    pub(super) features: Array2<f32>,
}

/// Some labelled points of one class that count as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Observation {
    /// As [`Places::positions`].
    pub(super) position: [f64; 2],
    /// The place that has the same features.
    pub(super) place: usize,
    /// The position of the class in the table of classes.
    pub(super) class: u8,
    /// How many points it stands for.
    pub(super) points: u32,
}

/// Makes one observation, at the mean position, of all those of one class at one place.
pub(super) fn merged(mut observed: Vec<Observation>) -> Vec<Observation> {
    let key = |o: &Observation| (o.place, o.class);
    observed.sort_by_key(key);
    let merge = |same: &[Observation]| {
        let points = same.iter().map(|o| o.points).sum();
        let mean =
            |axis: usize| same.iter().map(|o| o.position[axis] * f64::from(o.points)).sum::<f64>() / f64::from(points);
        Observation { position: [mean(0), mean(1)], points, ..same[0] }
    };
    observed.chunk_by(|a, b| key(a) == key(b)).map(merge).collect()
}

/// Gaussian-process regression: the posterior mean, M×C, at M `places` of the indicators of C `classes`, observed with
/// variance `noise` for each labelled point; the kernel is `exp(-|Δposition|²/2 - |Δfeature|²)`.
///
/// Where every kernel is tiny, the means of a place are scaled by a common factor; see [`FAINTEST`].
pub(super) fn posterior_mean(
    observed: &[Observation],
    places: &Places,
    classes: usize,
    noise: f64,
) -> Result<Array2<f64>> {
    const PLACES_PER_TASK: usize = 64;
    let positions: Vec<_> = observed.iter().map(|o| o.position).collect();
    let kernel = Kernel { observed, features: places.features.view(), buckets: Buckets::new(&positions) };
    let weights = kernel.fit(classes, noise)?;
    let mut means = Array2::zeros((places.positions.len(), classes));
    if let (Some(flat), 1..) = (means.as_slice_mut(), classes) {
        for_each_chunk(flat, PLACES_PER_TASK * classes, |task, rows| {
            let mut search = Search::default();
            for (row, mean) in rows.chunks_mut(classes).enumerate() {
                let place = task * PLACES_PER_TASK + row;
                let least = kernel.search((places.positions[place], place), &mut search);
                let lift = (least - FAINTEST).max(0.0);
                for &(exponent, index) in search.exponents.iter().filter(|(exponent, _)| *exponent < least + NEGLIGIBLE)
                {
                    let kernel = (lift - exponent).exp();
                    mean.iter_mut().zip(weights.row(index)).for_each(|(mean, weight)| *mean += kernel * weight);
                }
            }
        });
    }
    Ok(means)
}

/// The working memory of the searches at places that follow each other.
#[derive(Default)]
struct Search {
    found: Vec<Found>,
    /// Exponents and observations.
    exponents: Vec<(f64, usize)>,
    /// The observation of the least exponent.
    best: Option<usize>,
}

/// The kernel between observations and places.
struct Kernel<'a> {
    observed: &'a [Observation],
    /// Of the places.
    features: ArrayView2<'a, f32>,
    buckets: Buckets<'a>,
}

impl Kernel<'_> {
    /// The feature part of the exponent.
    fn difference(&self, place: usize, observation: usize) -> f64 {
        let (a, b) = (self.features.row(place), self.features.row(self.observed[observation].place));
        let squares = match (a.as_slice(), b.as_slice()) {
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>(),
            _ => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum(),
        };
        f64::from(squares)
    }

    /// Finds the exponents, without sign, of all observations at a place that are not negligible beside the least (and
    /// of some others), and returns the least.
    fn search(&self, (position, place): ([f64; 2], usize), search: &mut Search) -> f64 {
        let Search { found, exponents, best } = search;
        let exponent = |&(square, index): &Found| (0.5 * square + self.difference(place, index), index);
        // Any observation bounds the least exponent, and that the distance of those that matter. The best of the
        // place before is a good one.
        let known = best.unwrap_or_else(|| {
            self.buckets.nearest(position, 1, found);
            found.first().map_or(0, |&(_, index)| index)
        });
        let (bound, _) = exponent(&(square_distance(position, self.observed[known].position), known));
        self.buckets.within(position, (2.0 * (bound + NEGLIGIBLE)).sqrt(), found);
        exponents.clear();
        exponents.extend(found.iter().map(exponent));
        let least = exponents.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0));
        *best = least.map(|(_, index)| index);
        least.map_or(0.0, |(exponent, _)| exponent)
    }

    /// The N×C solution of `(K + noise) weights = indicators of the classes`.
    fn fit(&self, classes: usize, noise: f64) -> Result<Array2<f64>> {
        let rows: Vec<Vec<(usize, f64)>> = parallel::map((0..self.observed.len()).collect(), |row| {
            let Observation { position, place, .. } = self.observed[row];
            let mut found = Vec::new();
            self.buckets.within(position, (2.0 * NEGLIGIBLE).sqrt(), &mut found);
            let entries = found.iter().filter(|(_, other)| *other != row);
            let entries = entries.map(|&(square, other)| (other, 0.5 * square + self.difference(place, other)));
            entries.filter(|(_, e)| *e < NEGLIGIBLE).map(|(other, e)| (other, (-e).exp())).collect()
        });
        // Every diagonal entry of the kernel is 1.
        let diagonal: Vec<f64> = self.observed.iter().map(|o| 1.0 + noise / f64::from(o.points)).collect();
        let mut targets = Array2::zeros((self.observed.len(), classes));
        self.observed.iter().enumerate().for_each(|(row, o)| targets[[row, usize::from(o.class)]] = 1.0);
        solve(&diagonal, &rows, targets.view())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;
    use proptest::prelude::*;

    /// Solves `a x = b` by Gaussian elimination with pivoting.
    fn eliminate(mut a: Array2<f64>, mut b: Array2<f64>) -> Array2<f64> {
        let n = a.nrows();
        for step in 0..n {
            let pivot = (step..n).max_by(|&i, &j| a[[i, step]].abs().total_cmp(&a[[j, step]].abs())).unwrap();
            (0..n).for_each(|column| a.swap([step, column], [pivot, column]));
            (0..b.ncols()).for_each(|column| b.swap([step, column], [pivot, column]));
            for row in (0..n).filter(|&row| row != step) {
                let factor = a[[row, step]] / a[[step, step]];
                (step..n).for_each(|column| a[[row, column]] -= factor * a[[step, column]]);
                (0..b.ncols()).for_each(|column| b[[row, column]] -= factor * b[[step, column]]);
            }
        }
        Array2::from_shape_fn(b.dim(), |(row, column)| b[[row, column]] / a[[row, row]])
    }

    fn exponent(places: &Places, (a, place_a): ([f64; 2], usize), (b, place_b): ([f64; 2], usize)) -> f64 {
        let difference = &places.features.row(place_a) - &places.features.row(place_b);
        0.5 * square_distance(a, b) + difference.iter().map(|d| f64::from(d * d)).sum::<f64>()
    }

    /// The textbook: every observation against every other, nothing dropped.
    fn naive(observed: &[Observation], places: &Places, classes: usize, noise: f64) -> Array2<f64> {
        let of = |i: usize| (observed[i].position, observed[i].place);
        let n = observed.len();
        let kernel = Array2::from_shape_fn((n, n), |(i, j)| {
            (-exponent(places, of(i), of(j))).exp() + if i == j { noise / f64::from(observed[i].points) } else { 0.0 }
        });
        let targets = Array2::from_shape_fn((n, classes), |(i, c)| f64::from(usize::from(observed[i].class) == c));
        let weights = eliminate(kernel, targets);
        let mut means = Array2::zeros((places.positions.len(), classes));
        for (place, mut mean) in means.outer_iter_mut().enumerate() {
            let exponents: Vec<f64> =
                (0..n).map(|i| exponent(places, (places.positions[place], place), of(i))).collect();
            let lift = (exponents.iter().copied().fold(f64::INFINITY, f64::min) - FAINTEST).max(0.0);
            for (exponent, weight) in exponents.iter().zip(weights.outer_iter()) {
                mean.scaled_add((lift - exponent).exp(), &weight);
            }
        }
        means
    }

    /// `extent` is the side of the square of places, in units of the kernel.
    fn scene(count: usize, extent: f64, seed: u64) -> (Vec<Observation>, Places) {
        let mut rng = SeededRng::new(seed);
        let positions: Vec<_> = (0..50).map(|_| [rng.range(0.0, extent), rng.range(0.0, extent)]).collect();
        let features = Array2::from_shape_simple_fn((50, 3), || rng.normal() as f32);
        let observe = |_| {
            let place = rng.below(50);
            // Crowded into a corner in every third scene.
            let shrink = if seed.is_multiple_of(3) { 0.2 } else { 1.0 };
            let position = positions[place].map(|v| v * shrink + 0.1 * rng.normal());
            Observation { position, place, class: rng.below(3) as u8, points: 1 }
        };
        ((0..count).map(observe).collect(), Places { positions, features })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn means_are_those_of_the_textbook(
            count in 1usize..60, extent in 0.1f64..60.0, noise in 0.01f64..2.0, seed: u64,
        ) {
            let (observed, places) = scene(count, extent, seed);
            let fast = posterior_mean(&observed, &places, 3, noise).unwrap();
            for (fast, slow) in fast.iter().zip(&naive(&observed, &places, 3, noise)) {
                prop_assert!((fast - slow).abs() < 1e-5, "{fast} {slow}");
            }
        }

        /// Repeating an observation n times is the same as observing it once with an n-th of the noise.
        #[test]
        fn merging_observations_at_one_position_changes_nothing(count in 1usize..20, seed: u64) {
            let (mut observed, places) = scene(count, 6.0, seed);
            // One class and one position per place.
            observed.sort_by_key(|o| o.place);
            observed.dedup_by_key(|o| o.place);
            let repeated: Vec<_> = observed.iter().flat_map(|o| vec![*o; 1 + o.place % 4]).collect();
            let merged = merged(repeated.clone());
            prop_assert_eq!(merged.len(), observed.len());
            let (once, often) = (posterior_mean(&merged, &places, 3, 0.3), posterior_mean(&repeated, &places, 3, 0.3));
            for (a, b) in once.unwrap().iter().zip(&often.unwrap()) {
                prop_assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    /// Alike in features, on a line: a crowd of class 0 at 0, one point of class 1 at 2.
    #[test]
    fn a_crowd_counts_little_more_than_one_point() {
        let places = Places {
            positions: (0..=20).map(|i| [0.1 * f64::from(i), 0.0]).collect(),
            features: Array2::zeros((21, 1)),
        };
        let at = |x, class| Observation { position: [x, 0.0], place: 0, class, points: 1 };
        let boundary = |crowd: usize| {
            let mut observed = vec![at(0.0, 0); crowd];
            observed.push(at(2.0, 1));
            let means = posterior_mean(&observed, &places, 2, 0.1).unwrap();
            means.outer_iter().position(|mean| mean[1] > mean[0]).unwrap()
        };
        assert_eq!(boundary(1), 11);
        // A vote would give the crowd of 100 everything up to 3.3 = (2² / 2 + ln 100) / 2.
        assert!((11..=12).contains(&boundary(100)), "{}", boundary(100));
    }

    #[test]
    fn far_places_take_the_class_of_the_observation_most_like_them() {
        let positions = vec![[0.0, 0.0], [1.0, 0.0], [90.0, 0.0], [-200.0, 5.0]];
        let places = Places { positions, features: Array2::zeros((4, 2)) };
        let at = |x, class| Observation { position: [x, 0.0], place: 0, class, points: 1 };
        let means = posterior_mean(&[at(0.0, 0), at(1.0, 1)], &places, 2, 0.1).unwrap();
        assert!(means[[2, 1]] > means[[2, 0]] + 1e-5 && means[[3, 0]] > means[[3, 1]] + 1e-5, "{means}");
    }
}
