use std::borrow::Cow;

use coral_core::{ClassId, ClassSet, Error, LabelMap, Metric, Result, UNLABELED};
use ndarray::Array2;

use crate::Report;
use crate::tally::{Coding, count_pairs};

/// How many pixels of each class were predicted as which: rows are targets, columns predictions.
///
/// Counts are exact (`u64`). A target pixel is *scored* unless it is [`UNLABELED`] or carries the ignore id.
/// A scored pixel whose prediction is [`UNLABELED`] is an omission: it stands in no column but is a missed
/// pixel of its target class ([`unpredicted`](Self::unpredicted)) and counts in every total. Predictions are never
/// left out because of their id: predicting the ignore id on a scored pixel is simply wrong.
///
/// Per-class measures are `None` where a class gives no value; every mean takes a
/// [`ClassMean`](crate::ClassMean) that says what then happens.
///
/// # Examples
/// ```
/// use coral_core::{Metric, ndarray::array};
/// use coral_metrics::{ClassMean, ConfusionMatrix};
/// let mut matrix = ConfusionMatrix::new(3)?;
/// //               prediction              target
/// matrix.update(&array![[0, 0], [1, 255]], &array![[0, 1], [1, 1]])?;
/// assert_eq!(matrix.counts(), &array![[1, 0, 0], [1, 1, 0], [0, 0, 0]]);
/// assert_eq!(matrix.unpredicted(), [0, 1, 0]);
/// assert_eq!(matrix.iou(), [Some(0.5), Some(1.0 / 3.0), None]);
/// assert_eq!(matrix.pixel_accuracy(), Some(0.5));
/// assert_eq!(matrix.mean_iou(ClassMean::AbsentAsZero), Some((0.5 + 1.0 / 3.0) / 3.0));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    ignore: ClassId,
    counts: Array2<u64>,
    unpredicted: Vec<u64>,
    /// The sum of `counts` and `unpredicted`; that it fits is an invariant.
    total: u64,
}

impl ConfusionMatrix {
    /// An empty matrix for the classes `0..num_classes`; target pixels of [`UNLABELED`] are left out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `num_classes` is in 1–255.
    pub fn new(num_classes: usize) -> Result<Self> {
        Self::with_ignore(num_classes, UNLABELED)
    }

    /// As [`new`](Self::new), with target pixels of class `ignore` left out beside those of [`UNLABELED`].
    /// `ignore` may be one of the classes or not.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `num_classes` is in 1–255.
    pub fn with_ignore(num_classes: usize, ignore: ClassId) -> Result<Self> {
        if !(1..=usize::from(UNLABELED)).contains(&num_classes) {
            return Err(Error::parameter("num_classes", format!("expected 1–255, got {num_classes}")));
        }
        let counts = Array2::zeros((num_classes, num_classes));
        Ok(Self { ignore, counts, unpredicted: vec![0; num_classes], total: 0 })
    }

    /// A matrix of counts made elsewhere: K×K, rows are targets, columns predictions.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless it is square; [`Error::InvalidParameter`] unless K is in 1–255;
    /// [`Error::InvalidInput`] when the sum of all counts exceeds 2⁶⁴−1.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_metrics::ConfusionMatrix;
    /// let matrix = ConfusionMatrix::from_counts(array![[8, 2], [0, 10]])?;
    /// assert_eq!(matrix.pixel_accuracy(), Some(0.9));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_counts(counts: Array2<u64>) -> Result<Self> {
        let (rows, columns) = counts.dim();
        if rows != columns {
            return Err(Error::shape("counts", format!("{rows}x{rows}"), format!("{rows}x{columns}")));
        }
        let mut matrix = Self::new(rows)?;
        let unpredicted = vec![0; rows];
        matrix.add(&counts, &unpredicted)?;
        Ok(matrix)
    }

    /// How many classes there are, K.
    pub fn num_classes(&self) -> usize {
        self.unpredicted.len()
    }

    /// The target id that is left out; [`UNLABELED`] always is.
    pub fn ignore(&self) -> ClassId {
        self.ignore
    }

    /// The K×K counts in pixels; rows are targets, columns predictions.
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// Scored pixels of each target class whose prediction was [`UNLABELED`].
    pub fn unpredicted(&self) -> &[u64] {
        &self.unpredicted
    }

    /// All scored pixels.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Target pixels of each class (also called support), predicted or not.
    pub fn support(&self) -> Vec<u64> {
        self.counts.rows().into_iter().zip(&self.unpredicted).map(|(row, missed)| row.sum() + missed).collect()
    }

    /// Scored pixels that were predicted as each class.
    pub fn predicted(&self) -> Vec<u64> {
        self.counts.columns().into_iter().map(|column| column.sum()).collect()
    }

    /// The classes that occur, in the target or among the predictions of scored pixels.
    pub fn classes(&self) -> Vec<ClassId> {
        let both = self.support().into_iter().zip(self.predicted()).enumerate();
        both.filter(|&(_, (target, predicted))| target > 0 || predicted > 0).map(|(id, _)| id as ClassId).collect()
    }

    /// The matrix of the pixels whose target and prediction are both among `classes`, which become 0, 1, 2, … in
    /// the order given. All other pixels drop out, also those without prediction.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `classes` is empty, repeats a class, or holds one outside the matrix.
    ///
    /// # Examples
    /// ```
    /// use coral_core::ndarray::array;
    /// use coral_metrics::ConfusionMatrix;
    /// let matrix = ConfusionMatrix::from_counts(array![[5, 1, 0], [2, 6, 3], [0, 4, 7]])?;
    /// assert_eq!(matrix.restricted_to(&[2, 1])?.counts(), &array![[7, 4], [3, 6]]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn restricted_to(&self, classes: &[ClassId]) -> Result<Self> {
        let mut seen = vec![false; self.num_classes()];
        for &class in classes {
            match seen.get_mut(usize::from(class)) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(Error::input("classes", format!("class {class} occurs twice"))),
                None => return Err(self.outside(class)),
            }
        }
        if classes.is_empty() {
            return Err(Error::input("classes", "expected at least one class, got none"));
        }
        let at = |(row, column): (usize, usize)| self.counts[[classes[row].into(), classes[column].into()]];
        Self::from_counts(Array2::from_shape_fn((classes.len(), classes.len()), at))
    }

    /// The same pixels with every prediction of `class` taken as no prediction: they remain
    /// missed pixels of their targets but are nobody's false positives. (torchmetrics does this to the ignored
    /// class in its IoU.)
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `class` is outside the matrix.
    pub fn without_predictions_of(&self, class: ClassId) -> Result<Self> {
        let column = usize::from(class);
        if column >= self.num_classes() {
            return Err(self.outside(class));
        }
        let mut changed = self.clone();
        for (count, missed) in changed.counts.column_mut(column).iter_mut().zip(&mut changed.unpredicted) {
            *missed += std::mem::take(count);
        }
        Ok(changed)
    }

    fn outside(&self, class: ClassId) -> Error {
        Error::input("classes", format!("class {class} is outside 0–{}", self.num_classes() - 1))
    }

    fn add(&mut self, counts: &Array2<u64>, unpredicted: &[u64]) -> Result<()> {
        let added: u128 = counts.iter().chain(unpredicted).map(|&count| u128::from(count)).sum();
        let total = u64::try_from(u128::from(self.total) + added)
            .map_err(|_| Error::input("counts", "the number of pixels exceeds 2^64 - 1"))?;
        self.total = total;
        self.counts += counts;
        self.unpredicted.iter_mut().zip(unpredicted).for_each(|(sum, more)| *sum += more);
        Ok(())
    }

    fn coding(&self) -> Coding {
        Coding { num_classes: self.num_classes() as u8, ignore: self.ignore }
    }

    /// Names the first pixel (row by row) with an id outside the range.
    fn fault(&self, prediction: &LabelMap, target: &LabelMap) -> Error {
        let last = self.num_classes() - 1;
        for ((y, x), &id) in target.indexed_iter() {
            let predicted = prediction[[y, x]];
            let (row, _, bad) = self.coding().place(predicted, id);
            if bad && usize::from(row) == self.num_classes() {
                let or_ignored = if self.ignore == UNLABELED { String::new() } else { format!(", {}", self.ignore) };
                return Error::input(
                    "target",
                    format!("pixel ({x}, {y}) has class {id}, expected 0–{last}{or_ignored} or {UNLABELED}"),
                );
            }
            if bad {
                return Error::input(
                    "prediction",
                    format!("pixel ({x}, {y}) has class {predicted}, expected 0–{last} or {UNLABELED}"),
                );
            }
        }
        Error::input("prediction", format!("a class is outside 0–{last}"))
    }
}

/// The pixels of two maps of one shape in one order, whatever their memory layouts.
fn pixels<'a>(a: &'a LabelMap, b: &'a LabelMap) -> (Cow<'a, [ClassId]>, Cow<'a, [ClassId]>) {
    if a.strides() == b.strides()
        && let (Some(a), Some(b)) = (a.as_slice_memory_order(), b.as_slice_memory_order())
    {
        return (a.into(), b.into());
    }
    let by_rows = |map: &'a LabelMap| match map.as_slice() {
        Some(pixels) => Cow::Borrowed(pixels),
        None => Cow::Owned(map.iter().copied().collect()),
    };
    (by_rows(a), by_rows(b))
}

impl Metric for ConfusionMatrix {
    type Prediction = LabelMap;
    type Target = LabelMap;
    type Output = Report;

    /// Counts the pixels of one pair of H×W maps.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the maps differ in size. [`Error::InvalidInput`] naming the first
    /// pixel at fault when a target is outside `0..num_classes` and neither the ignore id nor [`UNLABELED`], or when
    /// the prediction of a scored pixel is outside and not [`UNLABELED`]. Nothing is counted then.
    fn update(&mut self, prediction: &LabelMap, target: &LabelMap) -> Result<()> {
        if prediction.dim() != target.dim() {
            let text = |map: &LabelMap| format!("{}x{}", map.ncols(), map.nrows());
            return Err(Error::shape("prediction", text(target), text(prediction)));
        }
        let counted = {
            let (prediction, target) = pixels(prediction, target);
            count_pairs(&prediction, &target, self.coding())
        };
        let Some(pairs) = counted else { return Err(self.fault(prediction, target)) };
        let k = self.num_classes();
        let counts = Array2::from_shape_fn((k, k), |(row, column)| pairs[row * (k + 1) + column]);
        let unpredicted: Vec<_> = (0..k).map(|row| pairs[row * (k + 1) + k]).collect();
        self.add(&counts, &unpredicted)
    }

    /// # Errors
    /// [`Error::InvalidParameter`] when the other matrix has another number of classes or ignore id.
    fn merge(&mut self, other: &Self) -> Result<()> {
        let settings = |matrix: &Self| (matrix.num_classes(), matrix.ignore);
        let ((k, ignore), (other_k, other_ignore)) = (settings(self), settings(other));
        if (k, ignore) != (other_k, other_ignore) {
            let reason = format!("expected {k} classes and ignore {ignore}, got {other_k} and {other_ignore}");
            return Err(Error::parameter("other", reason));
        }
        self.add(&other.counts, &other.unpredicted)
    }

    /// All measures, with classes named by their ids; [`Report::new`] takes names.
    fn compute(&self) -> Report {
        Report::new(self, &ClassSet::default())
    }

    fn reset(&mut self) {
        self.counts.fill(0);
        self.unpredicted.fill(0);
        self.total = 0;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn bad_input_is_named_and_changes_nothing() {
        let mut matrix = ConfusionMatrix::with_ignore(3, 7).unwrap();
        matrix.update(&array![[0, 1]], &array![[0, 7]]).unwrap();
        let before = matrix.clone();
        let mut text = |prediction, target| matrix.update(&prediction, &target).unwrap_err().to_string();
        assert_eq!(
            text(array![[0, 1], [2, 3]], array![[0, 0], [0, 0]]),
            "invalid input `prediction`: pixel (1, 1) has class 3, expected 0–2 or 255"
        );
        assert_eq!(
            text(array![[0, 9]], array![[0, 4]]),
            "invalid input `target`: pixel (1, 0) has class 4, expected 0–2, 7 or 255"
        );
        assert_eq!(text(array![[0, 0, 0]], array![[0], [0]]), "prediction: expected shape 1x2, got 3x1");
        assert_eq!(matrix, before);
    }

    #[test]
    fn sizes_and_merges_are_checked() {
        for bad in [0, 256] {
            assert!(matches!(ConfusionMatrix::new(bad), Err(Error::InvalidParameter { .. })));
        }
        assert!(ConfusionMatrix::from_counts(array![[1, 2]]).is_err());
        let mut full = ConfusionMatrix::from_counts(array![[u64::MAX - 1, 0], [0, 1]]).unwrap();
        let before = full.clone();
        assert!(full.update(&array![[0]], &array![[1]]).is_err(), "the total would overflow");
        assert!(full.merge(&ConfusionMatrix::new(3).unwrap()).is_err());
        assert!(full.merge(&ConfusionMatrix::with_ignore(2, 0).unwrap()).is_err());
        assert_eq!(full, before);
        assert!(ConfusionMatrix::from_counts(array![[u64::MAX, 0], [0, 1]]).is_err());
        for bad in [&[][..], &[1, 1], &[2]] {
            assert!(before.restricted_to(bad).is_err());
        }
        assert!(before.without_predictions_of(2).is_err());
    }

    #[test]
    fn an_ignored_class_may_be_predicted_but_never_asked_for() {
        let mut matrix = ConfusionMatrix::with_ignore(2, 0).unwrap();
        matrix.update(&array![[0, 0, 1, 200, 255]], &array![[0, 1, 1, 0, 1]]).unwrap();
        assert_eq!(matrix.counts(), &array![[0, 0], [1, 1]]);
        assert_eq!((matrix.total(), matrix.unpredicted()), (3, &[0, 1][..]));
        assert_eq!((matrix.support(), matrix.predicted(), matrix.classes()), (vec![0, 3], vec![1, 1], vec![0, 1]));
        let abstained = matrix.without_predictions_of(0).unwrap();
        assert_eq!((abstained.unpredicted(), abstained.total(), abstained.classes()), (&[0, 2][..], 3, vec![1]));
    }

    #[test]
    fn maps_without_pixels_and_of_one_row_count() {
        let mut matrix = ConfusionMatrix::new(255).unwrap();
        matrix.update(&LabelMap::zeros((0, 9)), &LabelMap::zeros((0, 9))).unwrap();
        assert_eq!(matrix.total(), 0);
        matrix.update(&LabelMap::from_elem((1, 77), 254), &LabelMap::from_elem((1, 77), 254)).unwrap();
        matrix.update(&array![[254]], &array![[0]]).unwrap();
        assert_eq!((matrix.counts()[[254, 254]], matrix.counts()[[0, 254]], matrix.total()), (77, 1, 78));
    }
}
