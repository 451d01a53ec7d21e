use coral_core::image::RgbImage;
use coral_core::{
    Error, LabelMap, PatchClassifier, PatchGrid, ProbMap, Rect, Result, Segmenter, Size, UNLABELED, most_probable,
};
use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};

use crate::coarse_inference::in_batches;
use crate::parallel::{self, BAND_ROWS};

/// How much a patch says about each of its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// The same about all.
    Uniform,
    /// Most about its middle, falling linearly to its edges: no jumps where patches end.
    #[default]
    Tent,
}

/// Settings of [`SlidingWindow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlidingWindowConfig {
    /// Size of the patches.
    pub patch: Size,
    /// From one patch to the next, 1 to the patch's size.
    pub stride: Size,
    /// How many patches are classified at a time, at least 1.
    pub batch: usize,
    /// How overlapping patches are averaged.
    pub weighting: Weighting,
}

impl Default for SlidingWindowConfig {
    /// The patches of SeaCLIP, overlapping by half.
    fn default() -> Self {
        Self {
            patch: Size { width: 578, height: 520 },
            stride: Size { width: 289, height: 260 },
            batch: 24,
            weighting: Weighting::Tent,
        }
    }
}

impl SlidingWindowConfig {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let Self { patch, stride, .. } = *self;
        if !(1..=patch.width).contains(&stride.width) || !(1..=patch.height).contains(&stride.height) {
            return Err(Error::parameter("stride", format!("expected 1x1 to `patch` = {patch}, got {stride}")));
        }
        if self.batch == 0 {
            return Err(Error::parameter("batch", "expected at least 1, got 0"));
        }
        Ok(())
    }
}

/// A classifier of patches as a segmenter: overlapping patches all over the photograph, their probabilities averaged
/// in every pixel. Sees nothing smaller than about a stride.
///
/// Needs memory for the result, one weight per pixel and one batch of patches.
///
/// # Examples
/// ```
/// use coral_core::{Segmenter, Size, image::RgbImage};
/// use coral_weak::{ConstantClassifier, SlidingWindow, SlidingWindowConfig};
/// let (patch, stride) = (Size { width: 8, height: 8 }, Size { width: 4, height: 4 });
/// let config = SlidingWindowConfig { patch, stride, ..Default::default() };
/// let segmenter = SlidingWindow::new(ConstantClassifier::new(1, 2)?, config)?;
/// let probabilities = segmenter.segment(&RgbImage::new(30, 9))?;
/// assert_eq!((probabilities.dim(), probabilities[[1, 8, 29]]), ((2, 9, 30), 1.0));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SlidingWindow<C> {
    classifier: C,
    config: SlidingWindowConfig,
}

impl<C: PatchClassifier> SlidingWindow<C> {
    /// A segmenter of `classifier`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(classifier: C, config: SlidingWindowConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { classifier, config })
    }
}

impl<C: PatchClassifier> Segmenter for SlidingWindow<C> {
    fn num_classes(&self) -> usize {
        self.classifier.num_classes()
    }

    /// # Errors
    /// [`Error::InvalidInput`] for an image smaller than a patch; those of
    /// [`classify_patches`](crate::classify_patches).
    fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
        let SlidingWindowConfig { patch, stride, batch, weighting } = self.config;
        let patches = PatchGrid::Stride { patch, stride }.patches(Size::of(image))?;
        let weights = weights(patch, weighting);
        let (height, width) = Size::of(image).shape();
        let mut sums = ProbMap::zeros((self.num_classes(), height, width));
        in_batches(&self.classifier, image, &patches, batch, |first, rows| {
            let planes: Vec<_> = sums.outer_iter_mut().enumerate().collect();
            parallel::map(planes, |(class, mut plane)| {
                for (probability, &patch) in rows.column(class).iter().zip(&patches[first..]) {
                    plane.slice_mut(pixels(patch)).scaled_add(*probability, &weights);
                }
            });
        })?;
        let mut total = Array2::<f32>::zeros((height, width));
        patches.iter().for_each(|&patch| {
            let mut part = total.slice_mut(pixels(patch));
            part += &weights;
        });
        parallel::map(sums.axis_iter_mut(Axis(0)).collect(), |mut plane| plane /= &total);
        Ok(sums)
    }
}

/// The most probable class of every pixel, H×W from C×H×W probabilities, the first of equals; [`UNLABELED`] where its
/// probability is below `threshold`.
///
/// # Errors
/// [`Error::InvalidInput`] for no class or more than 255, or NaN; [`Error::InvalidParameter`] when `threshold` is NaN.
///
/// # Examples
/// ```
/// use coral_core::{UNLABELED, ndarray::{arr2, arr3}};
/// let probabilities = arr3(&[[[0.9, 0.4]], [[0.1, 0.6]]]);
/// assert_eq!(coral_weak::probable_labels(&probabilities, 0.7)?, arr2(&[[0, UNLABELED]]));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn probable_labels(probabilities: &ProbMap, threshold: f32) -> Result<LabelMap> {
    let (classes, height, width) = probabilities.dim();
    if !(1..=usize::from(UNLABELED)).contains(&classes) {
        return Err(Error::input("probabilities", format!("{classes} classes; expected 1 to {UNLABELED}")));
    }
    if threshold.is_nan() {
        return Err(Error::parameter("threshold", "expected a probability, got NaN"));
    }
    let bands = parallel::map((0..height).step_by(BAND_ROWS).collect(), |y| {
        let (labels, highest) = most_probable(probabilities.slice(s![.., y..height.min(y + BAND_ROWS), ..]), threshold);
        highest.iter().all(|p| !p.is_nan()).then_some(labels)
    });
    let bands = bands.into_iter().collect::<Option<Vec<_>>>();
    let labels = bands.ok_or_else(|| Error::input("probabilities", "hold NaN"))?.into_iter().flatten().collect();
    LabelMap::from_shape_vec((height, width), labels).map_err(Error::model)
}

/// The rows and columns of a patch.
fn pixels(patch: Rect) -> ndarray::SliceInfo<[ndarray::SliceInfoElem; 2], ndarray::Ix2, ndarray::Ix2> {
    let (x, y, width, height) = (patch.x as usize, patch.y as usize, patch.width as usize, patch.height as usize);
    s![y..y + height, x..x + width]
}

/// The weight of every pixel of a patch, above 0 and at most 1.
fn weights(patch: Size, weighting: Weighting) -> Array2<f32> {
    let along = |at: usize, length: usize| match weighting {
        Weighting::Uniform => 1.0,
        // The pixel's distance to the nearer edge, in halves of the side.
        Weighting::Tent => (2 * at + 1).min(2 * (length - at) - 1) as f32 / length as f32,
    };
    let (height, width) = patch.shape();
    Array2::from_shape_fn((height, width), |(y, x)| along(y, height) * along(x, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    /// The mean level of red as the probability of class 0.
    #[derive(Debug)]
    struct Red;

    impl PatchClassifier for Red {
        fn num_classes(&self) -> usize {
            2
        }
        fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
            let red = |patch: &RgbImage| {
                let sum: f32 = patch.pixels().map(|pixel| f32::from(pixel[0]) / 255.0).sum();
                sum / (patch.width() * patch.height()) as f32
            };
            Ok(Array2::from_shape_fn((patches.len(), 2), |(patch, class)| (class as f32 - red(&patches[patch])).abs()))
        }
    }

    fn config(weighting: Weighting, batch: usize) -> SlidingWindowConfig {
        let (patch, stride) = (Size { width: 5, height: 4 }, Size { width: 2, height: 3 });
        SlidingWindowConfig { patch, stride, batch, weighting }
    }

    #[test]
    fn averages_are_those_of_the_definition() {
        let image = RgbImage::from_fn(13, 9, |x, y| Rgb([(20 * x + 7 * y * y % 251) as u8, 0, 0]));
        for weighting in [Weighting::Uniform, Weighting::Tent] {
            let SlidingWindowConfig { patch, stride, .. } = config(weighting, 1);
            let rects = PatchGrid::Stride { patch, stride }.patches(Size::of(&image)).unwrap();
            let tent = |at: u32, length: u32| 1.0 - ((at as f32 + 0.5) * 2.0 / length as f32 - 1.0).abs();
            for batch in [1, 3, 100] {
                let ours = SlidingWindow::new(Red, config(weighting, batch)).unwrap().segment(&image).unwrap();
                for ((class, y, x), &ours) in ours.indexed_iter() {
                    let (x, y) = (x as u32, y as u32);
                    let (mut sum, mut total) = (0.0, 0.0);
                    for r in rects.iter().filter(|r| x.wrapping_sub(r.x) < 5 && y.wrapping_sub(r.y) < 4) {
                        let p = Red.classify(&[r.crop(&image)]).unwrap()[[0, class]];
                        let tent = tent(x - r.x, 5) * tent(y - r.y, 4);
                        let weight = if weighting == Weighting::Tent { tent } else { 1.0 };
                        sum += weight * p;
                        total += weight;
                    }
                    assert!((ours - sum / total).abs() < 1e-5, "{weighting:?}, ({x}, {y}): {ours} for {}", sum / total);
                }
            }
        }
    }

    #[test]
    fn labels_are_those_of_the_largest_probability() {
        let mut random = coral_core::SeededRng::new(3);
        let mut probabilities =
            ProbMap::from_shape_simple_fn((4, BAND_ROWS + 7, 5), || (random.uniform() * 8.0).floor() as f32 / 8.0);
        for threshold in [0.0, 0.8, 1.0] {
            let labels = probable_labels(&probabilities, threshold).unwrap();
            for ((y, x), &label) in labels.indexed_iter() {
                let column: Vec<f32> = probabilities.slice(s![.., y, x]).to_vec();
                let largest = column.iter().copied().fold(0.0, f32::max);
                let first = column.iter().position(|&p| p == largest).unwrap() as u8;
                assert_eq!(label, if largest < threshold { UNLABELED } else { first });
            }
        }
        probabilities[[3, 6, 4]] = f32::NAN;
        assert!(probable_labels(&probabilities, 0.5).unwrap_err().to_string().contains("hold NaN"));
        assert!(probable_labels(&ProbMap::zeros((1, 2, 2)), f32::NAN).unwrap_err().to_string().contains("`threshold`"));
        assert!(probable_labels(&ProbMap::zeros((0, 2, 2)), 0.5).is_err());
        assert!(probable_labels(&ProbMap::zeros((256, 1, 1)), 0.5).is_err());
        assert_eq!(probable_labels(&ProbMap::zeros((2, 0, 3)), 0.5).unwrap().dim(), (0, 3));
    }

    #[test]
    fn misfits_are_named() {
        let segmenter = SlidingWindow::new(Red, config(Weighting::Tent, 2)).unwrap();
        let error = segmenter.segment(&RgbImage::new(5, 3)).unwrap_err().to_string();
        assert_eq!(error, "invalid input `photograph`: a 5x3 photograph is smaller than a 5x4 patch");
        assert!(SlidingWindow::new(Red, config(Weighting::Tent, 0)).unwrap_err().to_string().contains("`batch`"));
        for stride in [Size { width: 6, height: 1 }, Size { width: 0, height: 1 }] {
            let config = SlidingWindowConfig { stride, ..config(Weighting::Tent, 1) };
            assert!(SlidingWindow::new(Red, config).unwrap_err().to_string().contains("`stride`"));
        }
        assert!(SlidingWindowConfig::default().validate().is_ok());
    }
}
