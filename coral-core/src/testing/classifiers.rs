//! The suites of what works on patches and on the cells of photographs.

use image::RgbImage;
use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};

use super::Violations;
use super::conformance::{Findings, scene};
use crate::{
    CellLabeler, ClassId, FeatureMap, GridClassifier, MultiLabelClassifier, PatchClassifier, PseudoLabel,
    PseudoLabeler, SeededRng, Size, UNLABELED,
};

/// How far results may differ that are equal but for the order of sums.
const ROUNDING: f32 = 1e-4;

/// Different patches, not all of one size.
fn patches(size: Size) -> Vec<RgbImage> {
    let larger = Size { width: size.width + 3, height: size.height + 1 };
    let flat = RgbImage::from_pixel(size.width, size.height, image::Rgb([70, 90, 80]));
    vec![scene(size, 1), scene(larger, 2), flat, scene(size, 3)]
}

/// What is wrong with the probabilities of classes that do not exclude each other.
fn fault_of_each(row: ArrayView1<'_, f32>) -> Option<String> {
    row.iter().find(|p| !(-1e-6..=1.0 + 1e-5).contains(*p)).map(|p| format!("a probability is {p}"))
}

/// What is wrong with the class probabilities of one patch or cell.
fn fault(row: ArrayView1<'_, f32>) -> Option<String> {
    if let Some(fault) = fault_of_each(row) {
        return Some(fault);
    }
    let sum = row.sum();
    ((sum - 1.0).abs() > 1e-3).then(|| format!("the probabilities sum to {sum}"))
}

/// Runs a [`PatchClassifier`] through its contract: one row per patch, also for no patch, one column per class,
/// probabilities that sum to 1, two runs agree, and neither the other patches nor their order or sizes matter. The
/// patches are of `size` or a little larger.
///
/// # Errors
/// Every violation found.
///
/// # Examples
/// ```
/// use coral_core::{PatchClassifier, Result, Size, image::RgbImage, ndarray::Array2, testing::check_patch_classifier};
/// struct Undecided;
/// impl PatchClassifier for Undecided {
///     fn num_classes(&self) -> usize { 4 }
///     fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> { Ok(Array2::from_elem((patches.len(), 4), 0.25)) }
/// }
/// assert!(check_patch_classifier(&Undecided, Size { width: 16, height: 16 }).is_ok());
/// ```
pub fn check_patch_classifier(classifier: &dyn PatchClassifier, size: Size) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let classes = classifier.num_classes();
    findings.expect((1..=usize::from(UNLABELED)).contains(&classes), || format!("{classes} classes"));
    check_rows((size, classes), |patches| classifier.classify(patches), fault, &mut findings);
    findings.finish()
}

/// Runs a [`MultiLabelClassifier`] through its contract: one row per image, also for no image, one column per class,
/// probabilities, two runs agree, neither the other images nor their order or sizes matter, and an image without pixels
/// is an error. The images are of `size` or a little larger.
///
/// # Errors
/// Every violation found.
pub fn check_multi_label_classifier(classifier: &dyn MultiLabelClassifier, size: Size) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let classes = classifier.num_classes();
    findings.expect(classes > 0, || "no class".into());
    check_rows((size, classes), |images| classifier.probabilities(images), fault_of_each, &mut findings);
    let refused = classifier.probabilities(&[RgbImage::new(0, 0)]).is_err();
    findings.expect(refused, || "an image without pixels: accepted, expected an error".into());
    findings.finish()
}

/// Checks the rows of probabilities that `classify` gives for patches, one by one with `fault`.
fn check_rows(
    (size, classes): (Size, usize),
    classify: impl Fn(&[RgbImage]) -> crate::Result<Array2<f32>>,
    fault: impl Fn(ArrayView1<'_, f32>) -> Option<String>,
    findings: &mut Findings,
) {
    let classify = |patches: &[RgbImage]| match classify(patches) {
        Ok(rows) if rows.dim() == (patches.len(), classes) => Ok(rows.outer_iter().map(|row| row.to_owned()).collect()),
        Ok(rows) => Err(format!("the answer has shape {:?}", rows.dim())),
        Err(error) => Err(format!("refused: {error}")),
    };
    let near = |a: &Array1<f32>, b: &Array1<f32>| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ROUNDING);
    let rows = check_answers(&patches(size), classify, near, findings);
    for (index, row) in rows.iter().enumerate() {
        let fault = fault(row.view());
        findings.expect(fault.is_none(), || format!("patch {index}: {}", fault.unwrap_or_default()));
    }
}

/// Checks that there is an answer to every patch, also to no patch, that two runs agree, and that neither the order of
/// the patches nor the other patches change an answer. Gives the answers.
fn check_answers<T: PartialEq>(
    patches: &[RgbImage],
    answer: impl Fn(&[RgbImage]) -> std::result::Result<Vec<T>, String>,
    same: impl Fn(&T, &T) -> bool,
    findings: &mut Findings,
) -> Vec<T> {
    let mut answers = |patches: &[RgbImage]| {
        let answers = answer(patches);
        answers.map_err(|fault| findings.expect(false, || format!("{} patches: {fault}", patches.len()))).ok()
    };
    let (whole, again, _) = (answers(patches), answers(patches), answers(&[]));
    let reversed: Vec<_> = patches.iter().rev().cloned().collect();
    let reversed = answers(&reversed);
    let alone: Vec<_> = patches.iter().map(|patch| answers(std::slice::from_ref(patch))).collect();
    let Some(whole) = whole else { return Vec::new() };
    findings.expect(again.is_none_or(|again| again == whole), || "two runs differ".into());
    for (index, answer) in whole.iter().enumerate() {
        let agrees = |other: &Option<Vec<T>>, at: usize| other.as_ref().is_none_or(|other| same(&other[at], answer));
        let (ordered, single) = (agrees(&reversed, whole.len() - 1 - index), agrees(&alone[index], 0));
        findings.expect(ordered, || format!("patch {index}: the order of patches changes the answer"));
        findings.expect(single, || format!("patch {index}: other patches change the answer"));
    }
    whole
}

/// Runs a [`PseudoLabeler`] through its contract: one answer per patch, also for no patch, real classes, a confidence
/// in 0..=1, two runs agree, and neither the other patches nor their order or sizes matter. The patches are of `size`
/// or a little larger.
///
/// # Errors
/// Every violation found.
pub fn check_pseudo_labeler(labeler: &dyn PseudoLabeler, size: Size) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let label = |patches: &[RgbImage]| match labeler.label(patches) {
        Ok(labels) if labels.len() == patches.len() => Ok(labels),
        Ok(labels) => Err(format!("{} answers", labels.len())),
        Err(error) => Err(format!("refused: {error}")),
    };
    let class = |label: &Option<PseudoLabel>| label.map(|label| label.class);
    let labels = check_answers(&patches(size), label, |a, b| class(a) == class(b), &mut findings);
    for (index, label) in labels.iter().enumerate() {
        let Some(PseudoLabel { class, confidence }) = *label else { continue };
        findings.expect(class != UNLABELED, || format!("patch {index}: class {UNLABELED}; expected no label"));
        findings.expect((0.0..=1.0).contains(&confidence), || format!("patch {index}: confidence {confidence}"));
    }
    findings.finish()
}

/// Runs a [`CellLabeler`] through its contract on features of `dim` values in photographs of each of `classes`: one
/// label per cell, each one of `classes` or [`UNLABELED`], two runs agree, and features without cells or with NaN are
/// an error, as is a photograph of class [`UNLABELED`].
///
/// # Errors
/// Every violation found.
pub fn check_cell_labeler(labeler: &dyn CellLabeler, dim: usize, classes: &[ClassId]) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let mut rng = SeededRng::new(17);
    let mut features = |height: usize, width: usize| {
        let data = Array3::from_shape_simple_fn((dim, height, width), || rng.normal() as f32);
        FeatureMap { data, image_size: Size { width: 16 * width as u32, height: 16 * height as u32 } }
    };
    for (height, width) in [(1, 1), (5, 9), (1, 7), (8, 2)] {
        let features = features(height, width);
        for &class in classes {
            let case = format!("{width}x{height} cells, class {class}");
            let labels = match labeler.label_cells(&features, class) {
                Ok(labels) if labels.dim() == (height, width) => labels,
                Ok(labels) => {
                    findings.expect(false, || format!("{case}: the labels are {}", Size::of_map(&labels)));
                    continue;
                }
                Err(error) => {
                    findings.expect(false, || format!("{case}: valid input is refused: {error}"));
                    continue;
                }
            };
            let invented = labels.iter().find(|&label| *label != UNLABELED && !classes.contains(label));
            findings.expect(invented.is_none(), || format!("{case}: class {invented:?} is not among the classes"));
            let same = labeler.label_cells(&features, class).is_ok_and(|again| again == labels);
            findings.expect(same, || format!("{case}: two runs differ"));
        }
    }
    let mut broken = features(3, 4);
    broken.data[[dim - 1, 2, 1]] = f32::NAN;
    for &class in classes {
        let refused = labeler.label_cells(&broken, class).is_err();
        findings.expect(refused, || format!("features with NaN, class {class}: accepted, expected an error"));
        let refused = labeler.label_cells(&features(0, 4), class).is_err();
        findings.expect(refused, || format!("features without cells, class {class}: accepted, expected an error"));
    }
    let refused = labeler.label_cells(&features(3, 4), UNLABELED).is_err();
    findings.expect(refused, || format!("a photograph of class {UNLABELED}: accepted, expected an error"));
    findings.finish()
}

/// Runs a [`GridClassifier`] through its contract: features of the promised length for an image of `size`, a larger
/// and a narrower one, probabilities on the same grid that sum to 1, two runs agree, and an image without pixels is
/// an error. `size` is the least that the classifier takes.
///
/// # Errors
/// Every violation found.
pub fn check_grid_classifier(classifier: &dyn GridClassifier, size: Size) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let classes = classifier.num_classes();
    findings.expect((1..=usize::from(UNLABELED)).contains(&classes), || format!("{classes} classes"));
    let sizes = [size, Size { width: 2 * size.width + 5, ..size }, Size { height: 3 * size.height + 1, ..size }];
    for (seed, size) in sizes.into_iter().enumerate() {
        let image = scene(size, seed as u64);
        let answers = classifier.extract(&image).and_then(|f| Ok((f, classifier.classify_grid(&image)?)));
        let (features, probabilities) = match answers {
            Ok(answers) => answers,
            Err(error) => {
                findings.expect(false, || format!("{size} image: refused: {error}"));
                continue;
            }
        };
        findings.expect(features.dim() == classifier.dim(), || format!("{size} image: {} values", features.dim()));
        let of = features.image_size;
        findings.expect(of == size, || format!("{size} image: the features are those of a {of} image"));
        let (height, width) = features.grid_size().shape();
        findings.expect(height * width > 0, || format!("{size} image: no cell"));
        let shape = probabilities.dim();
        if shape != (classes, height, width) {
            findings.expect(false, || format!("{size} image: {shape:?} probabilities on {width}x{height} cells"));
            continue;
        }
        let finite = features.data.iter().all(|value| value.is_finite());
        findings.expect(finite, || format!("{size} image: features are NaN or infinite"));
        let fault = probabilities.lanes(Axis(0)).into_iter().find_map(fault);
        findings.expect(fault.is_none(), || format!("{size} image: {}", fault.unwrap_or_default()));
        let again = classifier.classify_grid(&image).is_ok_and(|again| again == probabilities);
        findings.expect(again, || format!("{size} image: two runs differ"));
    }
    let empty = RgbImage::new(0, 0);
    let refused = classifier.extract(&empty).is_err() && classifier.classify_grid(&empty).is_err();
    findings.expect(refused, || "an image without pixels: accepted, expected an error".into());
    findings.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FeatureExtractor, LabelMap, Result};

    const SIZE: Size = Size { width: 12, height: 8 };

    fn text<T>(result: std::result::Result<T, Violations>) -> String {
        result.err().map(|violations| violations.to_string()).unwrap_or_default()
    }

    /// Breaks the contracts in a way that depends on the number.
    struct Broken(u8);

    impl PatchClassifier for Broken {
        fn num_classes(&self) -> usize {
            2
        }
        fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
            let count = patches.len();
            Ok(match self.0 {
                0 => Array2::from_elem((count, 2), 0.4),
                1 => Array2::from_shape_fn((count, 2), |(patch, class)| f32::from((patch == 0) == (class == 0))),
                2 => Array2::from_elem((count.max(1), 2), 0.5),
                3 => Array2::from_elem((count, 2), f32::NAN),
                _ => Array2::from_elem((count, 2), 0.5),
            })
        }
    }

    impl MultiLabelClassifier for Broken {
        fn num_classes(&self) -> usize {
            2
        }
        fn probabilities(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
            let empty = images.iter().any(|image| Size::of(image).pixels() == 0);
            if empty && self.0 != 4 {
                return Err(crate::Error::input("images", "an image has no pixels"));
            }
            self.classify(images)
        }
    }

    impl PseudoLabeler for Broken {
        fn label(&self, patches: &[RgbImage]) -> Result<Vec<Option<PseudoLabel>>> {
            let label = |index: usize| match self.0 {
                0 => Some(PseudoLabel { class: UNLABELED, confidence: 0.5 }),
                1 => Some(PseudoLabel { class: index as u8, confidence: 1.0 }),
                2 => Some(PseudoLabel { class: 0, confidence: 1.5 }),
                _ => None,
            };
            let extra = usize::from(self.0 == 3);
            Ok((0..patches.len() + extra).map(label).collect())
        }
    }

    impl CellLabeler for Broken {
        fn label_cells(&self, features: &FeatureMap, class: ClassId) -> Result<LabelMap> {
            let (_, height, width) = features.data.dim();
            Ok(LabelMap::from_elem((height, width + usize::from(self.0 == 0)), class.wrapping_add(self.0)))
        }
    }

    impl FeatureExtractor for Broken {
        fn dim(&self) -> usize {
            2
        }
        fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
            Ok(FeatureMap { data: Array3::zeros((2 + usize::from(self.0 == 0), 1, 2)), image_size: Size::of(image) })
        }
    }

    impl GridClassifier for Broken {
        fn num_classes(&self) -> usize {
            2
        }
        fn classify_grid(&self, _: &RgbImage) -> Result<Array3<f32>> {
            Ok(Array3::from_elem((2, 1, 2 + usize::from(self.0 == 1)), 0.6))
        }
    }

    #[test]
    fn every_violation_is_found() {
        let patch = |kind| text(check_patch_classifier(&Broken(kind), SIZE));
        assert!(patch(0).contains("patch 0: the probabilities sum to 0.8"));
        assert!(patch(1).contains("the order of patches") && patch(1).contains("patch 1: other patches"));
        assert!(patch(2).contains("0 patches: the answer has shape (1, 2)"));
        assert!(patch(3).contains("a probability is NaN"));
        assert_eq!(patch(4), "");
        let multi = |kind| text(check_multi_label_classifier(&Broken(kind), SIZE));
        assert!(
            multi(1).contains("patch 1: other patches") && multi(2).contains("0 patches: the answer has shape (1, 2)")
        );
        assert!(multi(3).contains("a probability is NaN"));
        assert!(multi(4).contains("an image without pixels: accepted"));
        // Their sum does not matter.
        assert_eq!(multi(0), "");
        let pseudo = |kind| text(check_pseudo_labeler(&Broken(kind), SIZE));
        assert!(pseudo(0).contains("class 255; expected no label") && pseudo(1).contains("other patches"));
        assert!(pseudo(2).contains("confidence 1.5") && pseudo(3).contains("0 patches: 1 answers"));
        assert_eq!(pseudo(4), "");
        let cells = |kind| text(check_cell_labeler(&Broken(kind), 3, &[0, 1]));
        assert!(cells(0).contains("1x1 cells, class 0: the labels are 2x1"));
        assert!(cells(1).contains("class Some(2) is not among the classes") && cells(1).contains("with NaN, class 1"));
        assert!(cells(1).contains("without cells") && cells(1).contains("a photograph of class 255"));
        let grid = |kind| text(check_grid_classifier(&Broken(kind), SIZE));
        assert!(grid(0).contains("12x8 image: 3 values") && grid(0).contains("without pixels"));
        assert!(grid(1).contains("(2, 1, 3) probabilities on 2x1 cells"));
        assert!(grid(2).contains("29x8 image: the probabilities sum to 1.2"));
    }
}
