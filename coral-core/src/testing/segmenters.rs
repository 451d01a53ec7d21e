//! The suite of what segments images.

use image::RgbImage;
use ndarray::Axis;

use super::Violations;
use super::conformance::{Findings, scene};
use crate::{ProbMap, Segmenter, Size, UNLABELED};

/// Runs a [`Segmenter`] through its contract: one plane per class in the size of the image, square or not, probabilities
/// that sum to 1 at every pixel, two runs agree, a single pixel is an error or segmented like any other image, and an image
/// without pixels is an error. The images are of `size`, the least that the segmenter takes, or larger.
///
/// # Errors
/// Every violation found.
///
/// # Examples
/// ```
/// use coral_core::{ProbMap, Result, Segmenter, Size, image::RgbImage, testing::check_segmenter};
/// struct Transposed;
/// impl Segmenter for Transposed {
///     fn num_classes(&self) -> usize { 2 }
///     fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
///         Ok(ProbMap::from_elem((2, image.width() as usize, image.height() as usize), 0.5))
///     }
/// }
/// let violations = check_segmenter(&Transposed, Size { width: 8, height: 8 }).unwrap_err().to_string();
/// assert!(violations.contains("13x8 image: the map has shape [2, 13, 8], expected [2, 8, 13]"));
/// ```
pub fn check_segmenter(segmenter: &dyn Segmenter, size: Size) -> Result<(), Violations> {
    let mut findings = Findings::default();
    let classes = segmenter.num_classes();
    findings.expect((1..=usize::from(UNLABELED)).contains(&classes), || format!("{classes} classes"));
    let Size { width, height } = size;
    let sizes = [(width, height), (width + 5, height), (width, height + 11), (2 * width + 1, height + 2)];
    let mut images: Vec<_> =
        (1..).zip(sizes).map(|(seed, (width, height))| scene(Size { width, height }, seed)).collect();
    images.push(RgbImage::from_pixel(width, height, image::Rgb([70, 90, 80])));
    for image in &images {
        let case = format!("{} image", Size::of(image));
        match segmenter.segment(image) {
            Ok(map) => {
                let fault = fault(&map, classes, image);
                findings.expect(fault.is_none(), || format!("{case}: {}", fault.unwrap_or_default()));
                let same = segmenter.segment(image).is_ok_and(|again| again == map);
                findings.expect(same, || format!("{case}: two runs differ"));
            }
            Err(error) => findings.expect(false, || format!("{case}: valid input is refused: {error}")),
        }
    }
    let pixel = RgbImage::new(1, 1);
    let fault = segmenter.segment(&pixel).ok().and_then(|map| fault(&map, classes, &pixel));
    findings.expect(fault.is_none(), || format!("1x1 image: {}", fault.unwrap_or_default()));
    for (width, height) in [(0, 0), (0, height), (width, 0)] {
        let refused = segmenter.segment(&RgbImage::new(width, height)).is_err();
        findings.expect(refused, || format!("{width}x{height} image: accepted, expected an error"));
    }
    findings.finish()
}

/// What is wrong with the class probabilities of an image.
fn fault(map: &ProbMap, classes: usize, image: &RgbImage) -> Option<String> {
    let (height, width) = Size::of(image).shape();
    if map.shape() != [classes, height, width] {
        return Some(format!("the map has shape {:?}, expected {:?}", map.shape(), [classes, height, width]));
    }
    if let Some(p) = map.iter().find(|p| !(-1e-6..=1.0 + 1e-5).contains(*p)) {
        return Some(format!("a probability is {p}"));
    }
    let sums = map.sum_axis(Axis(0));
    let wrong = sums.indexed_iter().find(|(_, sum)| (**sum - 1.0).abs() > 1e-3);
    wrong.map(|((y, x), sum)| format!("the probabilities at ({x}, {y}) sum to {sum}"))
}
