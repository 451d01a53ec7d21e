use super::ColumnRun;
use super::runs::RunWriter;
use crate::RleMask;

impl RleMask {
    /// The connected parts of the mask, through 4 neighbours, by their first pixels in the order of columns. Takes time
    /// proportional to the runs, not the pixels.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, ndarray::array};
    /// let parts = RleMask::encode(&array![
    ///     [true, true, false],
    ///     [false, false, true],
    /// ]).components();
    /// assert_eq!(parts.iter().map(RleMask::area).collect::<Vec<_>>(), [2, 1]);
    /// assert_eq!(parts[1].decode(), array![[false, false, false], [false, false, true]]);
    /// ```
    pub fn components(&self) -> Vec<RleMask> {
        let runs: Vec<ColumnRun> = self.column_runs().collect();
        let roots = roots(&runs);
        // A root is the first run of its part, so the parts come in the order of their first pixels.
        let mut numbers = vec![0; runs.len()];
        let mut parts: Vec<RunWriter> = Vec::new();
        for (at, run) in runs.iter().enumerate() {
            if roots[at] == at {
                numbers[at] = parts.len();
                parts.push(RunWriter::new(self.size));
            }
            let start = u64::from(run.x) * u64::from(self.size.height) + u64::from(run.y);
            parts[numbers[roots[at]]].push_foreground(start, run.length.into());
        }
        parts.into_iter().map(RunWriter::finish).collect()
    }
}

/// The first run of the part that each run belongs to; `runs` come column by column, from top to bottom.
fn roots(runs: &[ColumnRun]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..runs.len()).collect();
    // `near` walks over the column to the left while `at` walks over this one.
    let mut near = 0;
    for (at, run) in runs.iter().enumerate() {
        let is_left = |other: &ColumnRun| other.x + 1 == run.x;
        while runs[near].x + 1 < run.x || (is_left(&runs[near]) && runs[near].y + runs[near].length <= run.y) {
            near += 1;
        }
        let beside = runs[near..at].iter().take_while(|other| is_left(other) && other.y < run.y + run.length);
        for (other, _) in (near..).zip(beside) {
            let (a, b) = (root(&mut parents, at), root(&mut parents, other));
            parents[a.max(b)] = a.min(b);
        }
    }
    (0..runs.len()).map(|at| root(&mut parents, at)).collect()
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;

    /// Parts by flooding, in the order of columns.
    fn flooded(mask: &Array2<bool>) -> Vec<Array2<bool>> {
        let (height, width) = mask.dim();
        let (mut left, mut parts) = (mask.clone(), Vec::new());
        for first in (0..width).flat_map(|x| (0..height).map(move |y| (y, x))) {
            let (mut part, mut stack) = (Array2::from_elem(mask.dim(), false), vec![first]);
            while let Some((y, x)) = stack.pop() {
                if left.get((y, x)) == Some(&true) {
                    (left[[y, x]], part[[y, x]]) = (false, true);
                    stack.extend([(y + 1, x), (y, x + 1), (y.wrapping_sub(1), x), (y, x.wrapping_sub(1))]);
                }
            }
            if part.iter().any(|&inside| inside) {
                parts.push(part);
            }
        }
        parts
    }

    proptest! {
        #[test]
        fn parts_are_those_of_flooding(
            (height, width, pixels) in (1usize..9, 1usize..9)
                .prop_flat_map(|(h, w)| (Just(h), Just(w), proptest::collection::vec(any::<bool>(), h * w)))
        ) {
            let mask = Array2::from_shape_vec((height, width), pixels).unwrap();
            let parts: Vec<_> = RleMask::encode(&mask).components().iter().map(RleMask::decode).collect();
            prop_assert_eq!(parts, flooded(&mask));
        }
    }
}
