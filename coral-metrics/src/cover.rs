use coral_core::{ClassId, Error, LabelMap, Metric, Result, UNLABELED};

use crate::ConfusionMatrix;
use crate::class_mean::mean;

/// Percent cover of each class `0..num_classes` in a label map, over its labelled pixels; `None` when all
/// are [`UNLABELED`]. A class that does not occur covers 0 %.
///
/// # Errors
/// As [`CoverCounts::add`].
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_metrics::cover;
/// assert_eq!(cover(&array![[0, 2], [2, 2], [255, 255]], 3)?, Some(vec![25.0, 0.0, 75.0]));
/// assert_eq!(cover(&array![[255]], 3)?, None);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn cover(labels: &LabelMap, num_classes: usize) -> Result<Option<Vec<f64>>> {
    let mut counts = CoverCounts::new(num_classes)?;
    counts.add(labels)?;
    Ok(counts.percent())
}

/// Pixels of each class over any number of label maps, for percent cover of a survey.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_metrics::CoverCounts;
/// let mut survey = CoverCounts::new(2)?;
/// survey.add(&array![[0, 1]])?;
/// survey.add(&array![[1, 1, 255]])?;
/// assert_eq!(survey.pixels(), [1, 3]);
/// assert_eq!(survey.unlabelled(), 1);
/// assert_eq!(survey.percent(), Some(vec![25.0, 75.0]));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverCounts {
    pixels: Vec<u64>,
    unlabelled: u64,
}

impl CoverCounts {
    /// No pixels yet of classes `0..num_classes`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `num_classes` is in 1–255.
    pub fn new(num_classes: usize) -> Result<Self> {
        if !(1..=usize::from(UNLABELED)).contains(&num_classes) {
            return Err(Error::parameter("num_classes", format!("expected 1–255, got {num_classes}")));
        }
        Ok(Self { pixels: vec![0; num_classes], unlabelled: 0 })
    }

    /// Adds the pixels of one label map.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first pixel whose class is neither in `0..num_classes` nor [`UNLABELED`];
    /// nothing is added then.
    pub fn add(&mut self, labels: &LabelMap) -> Result<()> {
        let mut found = [0u64; 256];
        labels.iter().for_each(|&id| found[usize::from(id)] += 1);
        let num_classes = self.pixels.len();
        if found[num_classes..usize::from(UNLABELED)].iter().any(|&count| count > 0) {
            let outside = |id: ClassId| usize::from(id) >= num_classes && id != UNLABELED;
            let at = labels.indexed_iter().find(|&(_, &id)| outside(id));
            let text = at.map(|((y, x), id)| format!("pixel ({x}, {y}) has class {id}")).unwrap_or_default();
            return Err(Error::input("labels", format!("{text}, expected 0–{} or {UNLABELED}", num_classes - 1)));
        }
        self.pixels.iter_mut().zip(found).for_each(|(sum, count)| *sum += count);
        self.unlabelled += found[usize::from(UNLABELED)];
        Ok(())
    }

    /// Adds all that `other` has counted.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `other` is for another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let (expected, found) = (self.pixels.len(), other.pixels.len());
        if expected != found {
            return Err(Error::parameter("other", format!("expected {expected} classes, got {found}")));
        }
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(sum, count)| *sum += count);
        self.unlabelled += other.unlabelled;
        Ok(())
    }

    /// Labelled pixels of each class.
    pub fn pixels(&self) -> &[u64] {
        &self.pixels
    }

    /// Pixels of [`UNLABELED`]; they are in no cover.
    pub fn unlabelled(&self) -> u64 {
        self.unlabelled
    }

    /// Percent of the labelled pixels in each class; `None` when there is none.
    pub fn percent(&self) -> Option<Vec<f64>> {
        percent(&self.pixels, self.pixels.iter().map(|&count| u128::from(count)).sum())
    }
}

fn percent(pixels: &[u64], of: u128) -> Option<Vec<f64>> {
    (of > 0).then(|| pixels.iter().map(|&count| 100.0 * count as f64 / of as f64).collect())
}

/// Percent cover over the scored pixels.
impl ConfusionMatrix {
    /// Percent of the scored pixels whose target is each class; `None` when nothing was scored.
    pub fn target_cover(&self) -> Option<Vec<f64>> {
        percent(&self.support(), self.total().into())
    }

    /// Percent of the scored pixels predicted as each class; `None` when nothing was scored. Pixels
    /// without prediction are part of the 100 % but in no class.
    pub fn predicted_cover(&self) -> Option<Vec<f64>> {
        percent(&self.predicted(), self.total().into())
    }

    /// Predicted minus target cover of each class, in percentage points; `None` when nothing was scored.
    pub fn cover_bias(&self) -> Option<Vec<f64>> {
        let (predicted, target) = (self.predicted_cover()?, self.target_cover()?);
        Some(predicted.iter().zip(&target).map(|(predicted, target)| predicted - target).collect())
    }

    /// Mean absolute error of percent cover over all K classes (absent ones have error 0), in percentage points;
    /// `None` when nothing was scored.
    pub fn mean_cover_error(&self) -> Option<f64> {
        mean(self.cover_bias()?.into_iter().map(f64::abs))
    }
}

/// Error of percent cover per image, averaged over images: every image counts the same, whatever its
/// size. (The cover error of all pixels pooled is [`ConfusionMatrix::mean_cover_error`].)
///
/// # Examples
/// ```
/// use coral_core::{Metric, ndarray::array};
/// use coral_metrics::CoverError;
/// let mut error = CoverError::new(2)?;
/// error.update(&array![[0, 0, 0, 0]], &array![[0, 0, 0, 1]])?; // 25 points too much of class 0
/// error.update(&array![[0, 1]], &array![[1, 0]])?; //             right cover, wrong places
/// let summary = error.compute();
/// assert_eq!(summary.mean_absolute, Some(12.5));
/// assert_eq!(summary.bias, Some(vec![12.5, -12.5]));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CoverError {
    empty: ConfusionMatrix,
    images: u64,
    absolute: f64,
    bias: Vec<f64>,
}

/// What [`CoverError`] found, in percentage points.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CoverErrorSummary {
    /// Images with at least one scored pixel; others are left out.
    pub images: u64,
    /// Mean absolute error over all K classes and all images; `None` without images.
    pub mean_absolute: Option<f64>,
    /// Mean of predicted minus target cover of each class; `None` without images.
    pub bias: Option<Vec<f64>>,
}

impl CoverError {
    /// No images yet, for classes `0..num_classes`; target pixels of [`UNLABELED`] are left out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `num_classes` is in 1–255.
    pub fn new(num_classes: usize) -> Result<Self> {
        Self::with_ignore(num_classes, UNLABELED)
    }

    /// As [`new`](Self::new), with target pixels of class `ignore` left out beside those of [`UNLABELED`].
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `num_classes` is in 1–255.
    pub fn with_ignore(num_classes: usize, ignore: ClassId) -> Result<Self> {
        let empty = ConfusionMatrix::with_ignore(num_classes, ignore)?;
        Ok(Self { empty, images: 0, absolute: 0.0, bias: vec![0.0; num_classes] })
    }
}

impl Metric for CoverError {
    type Prediction = LabelMap;
    type Target = LabelMap;
    type Output = CoverErrorSummary;

    /// # Errors
    /// As [`ConfusionMatrix::update`](Metric::update).
    fn update(&mut self, prediction: &LabelMap, target: &LabelMap) -> Result<()> {
        let mut image = self.empty.clone();
        image.update(prediction, target)?;
        if let (Some(bias), Some(error)) = (image.cover_bias(), image.mean_cover_error()) {
            self.images += 1;
            self.absolute += error;
            self.bias.iter_mut().zip(bias).for_each(|(sum, more)| *sum += more);
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::InvalidParameter`] when the other accumulator has another number of classes or ignore id.
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.empty.merge(&other.empty)?;
        self.images += other.images;
        self.absolute += other.absolute;
        self.bias.iter_mut().zip(&other.bias).for_each(|(sum, more)| *sum += more);
        Ok(())
    }

    fn compute(&self) -> CoverErrorSummary {
        let over_images = |sum: f64| sum / self.images as f64;
        let any = self.images > 0;
        CoverErrorSummary {
            images: self.images,
            mean_absolute: any.then(|| over_images(self.absolute)),
            bias: any.then(|| self.bias.iter().copied().map(over_images).collect()),
        }
    }

    fn reset(&mut self) {
        self.images = 0;
        self.absolute = 0.0;
        self.bias.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_class_outside_is_named_and_nothing_is_added() {
        let mut counts = CoverCounts::new(2).unwrap();
        let error = counts.add(&array![[0, 1], [255, 2]]).unwrap_err();
        assert_eq!(error.to_string(), "invalid input `labels`: pixel (1, 1) has class 2, expected 0–1 or 255");
        assert_eq!(counts, CoverCounts::new(2).unwrap());
        assert!(CoverCounts::new(0).is_err() && CoverCounts::new(256).is_err());
        assert!(counts.merge(&CoverCounts::new(3).unwrap()).is_err());
    }

    #[test]
    fn merging_counts_equals_adding() {
        let (a, b) = (array![[0, 254], [255, 254]], array![[3, 3, 0]]);
        let of = |maps: &[&LabelMap]| {
            let mut counts = CoverCounts::new(255).unwrap();
            maps.iter().for_each(|map| counts.add(map).unwrap());
            counts
        };
        let mut merged = of(&[&a]);
        merged.merge(&of(&[&b])).unwrap();
        assert_eq!(merged, of(&[&a, &b]));
        assert_eq!((merged.pixels()[254], merged.unlabelled()), (2, 1));
    }

    #[test]
    fn unpredicted_pixels_are_missing_from_the_cover() {
        let mut matrix = ConfusionMatrix::new(2).unwrap();
        matrix.update(&array![[0, 255, 1, 1]], &array![[0, 0, 1, 255]]).unwrap();
        let third = 100.0 / 3.0;
        assert_eq!(matrix.predicted_cover(), Some(vec![third, third]));
        assert_eq!(matrix.target_cover(), Some(vec![2.0 * third, third]));
        assert!((matrix.mean_cover_error().unwrap() - third / 2.0).abs() < 1e-12);
        assert_eq!(ConfusionMatrix::new(2).unwrap().mean_cover_error(), None);
    }

    #[test]
    fn images_without_scored_pixels_are_left_out() {
        let mut error = CoverError::with_ignore(2, 1).unwrap();
        assert_eq!(error.compute(), CoverErrorSummary { images: 0, mean_absolute: None, bias: None });
        error.update(&array![[0, 1]], &array![[1, 255]]).unwrap();
        assert_eq!(error.compute().images, 0);
        assert!(error.merge(&CoverError::new(2).unwrap()).is_err());
    }
}
