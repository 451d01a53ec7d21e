use coral_core::{ClassId, UNLABELED};

/// Pixels that are compared at once: a block of one single pair is counted in one step.
const BLOCK: usize = 32;
/// Counters per pair, used in turn, so that equal neighbours do not wait for each other's store.
const LANES: usize = 4;
/// Pixels per task: long enough to hide the cost of starting one, short enough to share a 512×512 image.
const TASK: usize = 1 << 16;

/// Which ids count, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coding {
    /// Ids below this are classes; at most 255.
    pub(crate) num_classes: u8,
    /// Target id that is left out, beside [`UNLABELED`].
    pub(crate) ignore: ClassId,
}

impl Coding {
    /// Row and column of a pair, and whether one of its ids is outside the range: row
    /// `num_classes` is for pixels left out, column `num_classes` for those without prediction.
    pub(crate) fn place(self, prediction: ClassId, target: ClassId) -> (u8, u8, bool) {
        let k = self.num_classes;
        let row = if target == self.ignore { k } else { target.min(k) };
        let bad_target = (target >= k) & (target != UNLABELED) & (target != self.ignore);
        let bad_prediction = (prediction >= k) & (prediction != UNLABELED) & (row != k);
        (row, prediction.min(k), bad_target | bad_prediction)
    }

    fn index(self, row: u8, column: u8) -> u16 {
        // At most 255·256 + 255, which fits.
        u16::from(row) * (u16::from(self.num_classes) + 1) + u16::from(column)
    }

    fn cells(self) -> usize {
        (usize::from(self.num_classes) + 1).pow(2)
    }
}

/// Counts of (row, column) pairs in the order of [`Coding::index`].
struct Tally {
    coding: Coding,
    lanes: Vec<[u32; LANES]>,
    /// Pixels counted in `lanes` since the last flush; below 2³², so no lane overflows.
    pending: u64,
    totals: Vec<u64>,
    out_of_range: bool,
}

impl Tally {
    fn new(coding: Coding) -> Self {
        let (lanes, totals) = (vec![[0; LANES]; coding.cells()], vec![0; coding.cells()]);
        Self { coding, lanes, pending: 0, totals, out_of_range: false }
    }

    /// Counts up to [`TASK`] pixels.
    fn count(mut self, prediction: &[ClassId], target: &[ClassId]) -> Self {
        let added = prediction.len().min(target.len()) as u64;
        if self.pending + added > u64::from(u32::MAX) {
            self.flush();
        }
        self.pending += added;
        let ((predictions, rest_of_prediction), (targets, rest_of_target)) =
            (prediction.as_chunks::<BLOCK>(), target.as_chunks::<BLOCK>());
        for (prediction, target) in predictions.iter().zip(targets) {
            if is_uniform(prediction, target) {
                self.add(prediction[0], target[0], BLOCK as u32);
            } else {
                self.add_mixed(prediction, target);
            }
        }
        for (&prediction, &target) in rest_of_prediction.iter().zip(rest_of_target) {
            self.add(prediction, target, 1);
        }
        self
    }

    fn add(&mut self, prediction: ClassId, target: ClassId, pixels: u32) {
        let (row, column, bad) = self.coding.place(prediction, target);
        self.out_of_range |= bad;
        self.lanes[usize::from(self.coding.index(row, column))][0] += pixels;
    }

    fn add_mixed(&mut self, prediction: &[ClassId; BLOCK], target: &[ClassId; BLOCK]) {
        // Two loops: the first is free of branches and memory hazards, so it becomes vector code.
        let coding = self.coding;
        let mut indices = [0u16; BLOCK];
        let mut bad = false;
        for ((index, &prediction), &target) in indices.iter_mut().zip(prediction).zip(target) {
            let (row, column, outside) = coding.place(prediction, target);
            *index = coding.index(row, column);
            bad |= outside;
        }
        self.out_of_range |= bad;
        for group in indices.as_chunks::<LANES>().0 {
            for (lane, &index) in group.iter().enumerate() {
                self.lanes[usize::from(index)][lane] += 1;
            }
        }
    }

    fn flush(&mut self) {
        for (total, lanes) in self.totals.iter_mut().zip(&mut self.lanes) {
            *total += lanes.iter().map(|&count| u64::from(count)).sum::<u64>();
            *lanes = [0; LANES];
        }
        self.pending = 0;
    }

    #[cfg(any(feature = "rayon", test))]
    fn merged(mut self, mut other: Self) -> Self {
        self.flush();
        other.flush();
        self.totals.iter_mut().zip(&other.totals).for_each(|(total, more)| *total += more);
        self.out_of_range |= other.out_of_range;
        self
    }

    fn finish(mut self) -> Option<Vec<u64>> {
        self.flush();
        (!self.out_of_range).then_some(self.totals)
    }
}

fn is_uniform(prediction: &[ClassId; BLOCK], target: &[ClassId; BLOCK]) -> bool {
    let (p, t) = (prediction[0], target[0]);
    prediction.iter().zip(target).fold(0, |differing, (&q, &u)| differing | (p ^ q) | (t ^ u)) == 0
}

/// How often each pair of ids occurs in two lists of equal length, (K+1)×(K+1) row by row (see
/// [`Coding::place`]); `None` when an id is outside the range.
pub(crate) fn count_pairs(prediction: &[ClassId], target: &[ClassId], coding: Coding) -> Option<Vec<u64>> {
    #[cfg(feature = "rayon")]
    {
        use rayon::prelude::*;
        prediction
            .par_chunks(TASK)
            .zip(target.par_chunks(TASK))
            .fold(|| Tally::new(coding), |tally, (prediction, target)| tally.count(prediction, target))
            .reduce_with(Tally::merged)
            .unwrap_or_else(|| Tally::new(coding))
            .finish()
    }
    #[cfg(not(feature = "rayon"))]
    {
        let chunks = prediction.chunks(TASK).zip(target.chunks(TASK));
        chunks.fold(Tally::new(coding), |tally, (prediction, target)| tally.count(prediction, target)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_rules() {
        let coding = Coding { num_classes: 3, ignore: 0 };
        assert_eq!(coding.place(0, 2), (2, 0, false));
        assert_eq!(coding.place(UNLABELED, 1), (1, 3, false));
        assert_eq!(coding.place(200, 0), (3, 3, false), "a pixel left out may carry any prediction");
        assert_eq!(coding.place(3, UNLABELED), (3, 3, false));
        assert!(coding.place(3, 1).2);
        assert!(coding.place(1, 3).2);
        assert!(!Coding { num_classes: 3, ignore: 7 }.place(1, 7).2);
    }

    #[test]
    fn counts_survive_a_flush_and_a_merge() {
        let coding = Coding { num_classes: 2, ignore: UNLABELED };
        let (prediction, target) = ([1u8; 100], [0u8; 100]);
        let mut nearly_full = Tally::new(coding).count(&prediction, &target);
        nearly_full.pending = u64::from(u32::MAX) - 50;
        let flushed = nearly_full.count(&prediction, &target);
        assert_eq!(flushed.pending, 100, "the second hundred starts a new round");
        let both = flushed.merged(Tally::new(coding).count(&prediction, &target));
        assert_eq!(both.finish().unwrap(), [0, 300, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn one_bad_id_anywhere_is_seen() {
        let coding = Coding { num_classes: 5, ignore: UNLABELED };
        let target = vec![4u8; 2 * TASK + 77];
        for at in [0, 31, 32, TASK, 2 * TASK + 5, 2 * TASK + 76] {
            let mut prediction = vec![4u8; target.len()];
            assert!(count_pairs(&prediction, &target, coding).is_some());
            prediction[at] = 5;
            assert!(count_pairs(&prediction, &target, coding).is_none(), "at {at}");
        }
        let block = vec![9u8; 64];
        assert!(count_pairs(&block, &target[..64], coding).is_none(), "a uniform block is checked too");
    }
}
