use image::{RgbImage, imageops};
use ndarray::{Array1, Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::{Error, InstanceMask, Result};

/// A class id. Ids 0–254 name classes; 255 is [`UNLABELED`].
pub type ClassId = u8;

/// The only ignore value inside the coral crates. Readers convert a dataset's own
/// ignore value (0, 34, …) to it.
pub const UNLABELED: ClassId = 255;

/// A class id per pixel, H×W, indexed `[[y, x]]`; [`UNLABELED`] where unknown.
pub type LabelMap = Array2<ClassId>;

/// A probability per class and pixel, C×H×W, in 0..=1.
pub type ProbMap = Array3<f32>;

/// Width and height in pixels.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// let size = Size { width: 640, height: 480 };
/// assert_eq!(size.pixels(), 307_200);
/// assert_eq!(size.to_string(), "640x480");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Pixels in x.
    pub width: u32,
    /// Pixels in y.
    pub height: u32,
}

impl Size {
    /// The size of an image.
    pub fn of(image: &RgbImage) -> Self {
        Self { width: image.width(), height: image.height() }
    }

    /// The size of a label map or any other H×W array.
    pub fn of_map<T>(map: &Array2<T>) -> Self {
        Self { width: map.ncols() as u32, height: map.nrows() as u32 }
    }

    /// Width × height.
    pub fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    /// The `(rows, columns)` of an array with one entry per pixel.
    pub fn shape(self) -> (usize, usize) {
        (self.height as usize, self.width as usize)
    }

    /// Whether the pixel (x, y) lies inside.
    pub fn contains(self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height
    }

    /// Checks that `what` has this size.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] naming `what` and both sizes.
    pub fn expect(self, what: &str, actual: Size) -> Result<()> {
        if self == actual { Ok(()) } else { Err(Error::shape(what, self.to_string(), actual.to_string())) }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// An axis-aligned box of pixels; `x + width` and `y + height` are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge, in pixels from the image's left.
    pub x: u32,
    /// Top edge, in pixels from the image's top.
    pub y: u32,
    /// Pixels in x.
    pub width: u32,
    /// Pixels in y.
    pub height: u32,
}

impl Rect {
    /// All pixels of an image.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{Rect, Size};
    /// assert_eq!(Rect::whole(Size { width: 4, height: 3 }), Rect { x: 0, y: 0, width: 4, height: 3 });
    /// ```
    pub fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width, height: size.height }
    }

    /// Checks that the box holds pixels and that all lie inside `size`; `what` names it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) naming `what`, the box and the size.
    pub fn expect_inside(self, what: &str, size: Size) -> Result<()> {
        let end = |start: u32, length: u32| u64::from(start) + u64::from(length);
        let inside = end(self.x, self.width) <= size.width.into() && end(self.y, self.height) <= size.height.into();
        if inside && self.width > 0 && self.height > 0 {
            return Ok(());
        }
        let Self { x, y, width, height } = self;
        Err(Error::input(what, format!("expected a box of pixels inside {size}, got {width}x{height} at ({x}, {y})")))
    }

    /// Width × height.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The pixels in both boxes; `None` when there is none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let along = |a: u32, a_length: u32, b: u32, b_length: u32| {
            let start = a.max(b);
            let end = (u64::from(a) + u64::from(a_length)).min(u64::from(b) + u64::from(b_length));
            let length = end.checked_sub(start.into()).filter(|&length| length > 0)?;
            Some((start, length as u32))
        };
        let (x, width) = along(self.x, self.width, other.x, other.width)?;
        let (y, height) = along(self.y, self.height, other.y, other.height)?;
        Some(Self { x, y, width, height })
    }

    /// The box's pixels of an image; those beyond its edges are left out.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{Rect, image::{Rgb, RgbImage}};
    /// let image = RgbImage::from_fn(4, 3, |x, y| Rgb([x as u8, y as u8, 0]));
    /// let patch = Rect { x: 2, y: 1, width: 2, height: 2 }.crop(&image);
    /// assert_eq!((patch.dimensions(), patch.get_pixel(1, 0).0), ((2, 2), [3, 1, 0]));
    /// assert_eq!(Rect { x: 3, y: 2, width: 9, height: 9 }.crop(&image).dimensions(), (1, 1));
    /// ```
    pub fn crop(self, image: &RgbImage) -> RgbImage {
        imageops::crop_imm(image, self.x, self.y, self.width, self.height).to_image()
    }

    /// Intersection over union of the boxes' pixels, 0..=1; 0 when both are empty.
    ///
    /// # Examples
    /// ```
    /// use coral_core::Rect;
    /// let (a, b) = (Rect { x: 0, y: 0, width: 4, height: 2 }, Rect { x: 2, y: 0, width: 4, height: 2 });
    /// assert_eq!(a.intersection(b), Some(Rect { x: 2, y: 0, width: 2, height: 2 }));
    /// assert_eq!(a.iou(b), 4.0 / 12.0);
    /// ```
    pub fn iou(self, other: Self) -> f64 {
        let both = self.intersection(other).map_or(0, Self::area);
        if both == 0 { 0.0 } else { both as f64 / (self.area() as f64 + other.area() as f64 - both as f64) }
    }
}

/// One labelled pixel: coordinates in pixels, origin at the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointLabel {
    /// Column.
    pub x: u32,
    /// Row.
    pub y: u32,
    /// The class of that pixel; never [`UNLABELED`].
    pub class: ClassId,
}

/// A click that asks a promptable segmenter for a mask, in pixels of the original image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PointPrompt {
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
    /// True for "this belongs to the mask", false for "this does not".
    pub foreground: bool,
}

/// A box around an object, in pixels of the original image. Coordinates are continuous, as a mouse gives them: the
/// pixel in column 3 reaches from 3 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BoxPrompt {
    /// Left edge.
    pub x_min: f32,
    /// Top edge.
    pub y_min: f32,
    /// Right edge.
    pub x_max: f32,
    /// Bottom edge.
    pub y_max: f32,
}

impl From<Rect> for BoxPrompt {
    fn from(rect: Rect) -> Self {
        Self {
            x_min: rect.x as f32,
            y_min: rect.y as f32,
            // In double precision, where the sum of two u32 is exact.
            x_max: (f64::from(rect.x) + f64::from(rect.width)) as f32,
            y_max: (f64::from(rect.y) + f64::from(rect.height)) as f32,
        }
    }
}

/// What to segment: any combination of clicks, a box and an earlier mask.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// Clicks, in pixels of the original image.
    pub points: Vec<PointPrompt>,
    /// A box around the object.
    pub rect: Option<BoxPrompt>,
    /// Logits of an earlier mask, at the model's low resolution.
    pub mask_logits: Option<Array2<f32>>,
}

/// A mask for one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredMask {
    /// H×W of the original image, true inside.
    pub mask: Array2<bool>,
    /// The model's own estimate of the mask's IoU with the truth.
    pub predicted_iou: f32,
    /// The mask's class, where the model knows classes.
    pub class: Option<ClassId>,
    /// Logits at the model's low resolution, to be fed back as a prompt.
    pub mask_logits: Array2<f32>,
    /// The mask's semantic feature, empty where the model has none.
    pub features: Vec<f32>,
}

/// Dense features of an image on a regular grid.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// D×h×w: D values for each of h×w cells that tile the image evenly.
    pub data: Array3<f32>,
    /// The image the features came from, in pixels.
    pub image_size: Size,
}

impl FeatureMap {
    /// Values per cell, D.
    pub fn dim(&self) -> usize {
        self.data.dim().0
    }

    /// The grid's size, w×h cells.
    pub fn grid_size(&self) -> Size {
        let (_, height, width) = self.data.dim();
        Size { width: width as u32, height: height as u32 }
    }

    /// The grid cell `(column, row)` that holds the centre of pixel (x, y).
    ///
    /// # Examples
    /// ```
    /// use coral_core::{FeatureMap, Size, ndarray::Array3};
    /// let map = FeatureMap { data: Array3::zeros((8, 2, 4)), image_size: Size { width: 40, height: 20 } };
    /// assert_eq!(map.cell(0, 0), (0, 0));
    /// assert_eq!(map.cell(39, 10), (3, 1));
    /// ```
    pub fn cell(&self, x: u32, y: u32) -> (usize, usize) {
        let grid = self.grid_size();
        let along = |pixel: u32, cells: u32, pixels: u32| {
            let cell = (2 * u64::from(pixel) + 1) * u64::from(cells) / (2 * u64::from(pixels.max(1)));
            cell.min(u64::from(cells.saturating_sub(1))) as usize
        };
        (along(x, grid.width, self.image_size.width), along(y, grid.height, self.image_size.height))
    }
}

/// A window of an [`ImageRaster`](crate::ImageRaster).
#[derive(Debug, Clone, PartialEq)]
pub struct ImageWindow {
    /// The pixels; black where there is no data.
    pub image: RgbImage,
    /// H×W, false where the raster has no data.
    pub valid: Array2<bool>,
}

/// A label that an algorithm, not a person, gave to a patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PseudoLabel {
    /// The class.
    pub class: ClassId,
    /// How sure the labeller is, 0..=1.
    pub confidence: f32,
}

/// A photograph with its dense labels, both W×H.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledImage {
    /// The photograph.
    pub image: RgbImage,
    /// A class per pixel.
    pub labels: LabelMap,
}

/// A photograph with the masks of its objects, for training a promptable segmenter.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedImage {
    /// The photograph.
    pub image: RgbImage,
    /// The objects, each of the photograph's size; they may overlap. A mask that shows what a model must not take for an
    /// object has the class of the background.
    pub masks: Vec<InstanceMask>,
}

/// A photograph with one class for the whole of it: the cheapest label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledPhotograph {
    /// The photograph.
    pub image: RgbImage,
    /// What it shows, besides background.
    pub class: ClassId,
}

/// A patch with a probability per class, for training a classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledPatch {
    /// The patch, of any size.
    pub image: RgbImage,
    /// C class probabilities (one-hot for a hard label).
    pub target: Array1<f32>,
}

/// What one pass over a training set reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Mean loss over the samples.
    pub loss: f32,
    /// Samples that the loss was taken over.
    pub samples: usize,
    /// The optimiser's step length in this pass.
    pub learning_rate: f64,
    /// Mean Euclidean norm of the gradient over the steps, before clipping.
    pub gradient_norm: f64,
}

/// Checks point labels against the image they belong to.
///
/// # Errors
/// [`Error::InvalidInput`] when there is no point, a point lies outside the
/// image or carries [`UNLABELED`], or one pixel carries two classes.
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size, validate_points};
/// let size = Size { width: 4, height: 3 };
/// assert!(validate_points(&[PointLabel { x: 3, y: 2, class: 0 }], size).is_ok());
/// let error = validate_points(&[PointLabel { x: 4, y: 2, class: 0 }], size).unwrap_err();
/// assert_eq!(error.to_string(), "invalid input `points`: point (4, 2) lies outside the 4x3 image");
/// ```
pub fn validate_points(points: &[PointLabel], size: Size) -> Result<()> {
    let fail = |reason: String| Err(Error::input("points", reason));
    if points.is_empty() {
        return fail("at least one labelled point is needed, got none".into());
    }
    for p in points {
        if !size.contains(p.x, p.y) {
            return fail(format!("point ({}, {}) lies outside the {size} image", p.x, p.y));
        }
        if p.class == UNLABELED {
            return fail(format!("point ({}, {}) has class {UNLABELED}, which means unlabelled", p.x, p.y));
        }
    }
    let mut sorted: Vec<_> = points.iter().map(|p| (p.y, p.x, p.class)).collect();
    sorted.sort_unstable();
    for pair in sorted.windows(2) {
        let ((y, x, a), (v, u, b)) = (pair[0], pair[1]);
        if (y, x) == (v, u) && a != b {
            return fail(format!("point ({x}, {y}) has two classes, {a} and {b}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_checked() {
        let size = Size { width: 5, height: 2 };
        let at = |x, y, class| PointLabel { x, y, class };
        let text = |points: &[PointLabel]| validate_points(points, size).unwrap_err().to_string();
        assert!(text(&[]).contains("at least one labelled point"));
        assert!(text(&[at(0, 2, 1)]).contains("outside the 5x2 image"));
        assert!(text(&[at(0, 1, 255)]).contains("means unlabelled"));
        assert!(text(&[at(1, 1, 3), at(0, 0, 3), at(1, 1, 2)]).contains("two classes, 2 and 3"));
        assert!(validate_points(&[at(1, 1, 3), at(1, 1, 3)], size).is_ok());
    }

    #[test]
    fn boxes_meet_only_inside() {
        let at = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(at(0, 0, 4, 4).intersection(at(4, 0, 4, 4)), None);
        assert_eq!(at(1, 1, 9, 2).intersection(at(3, 0, 2, 9)), Some(at(3, 1, 2, 2)));
        assert_eq!(at(5, 5, 0, 3).iou(at(5, 5, 0, 3)), 0.0);
        let far = at(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
        assert_eq!((far.intersection(far), far.iou(far)), (Some(far), 1.0));
        assert_eq!(BoxPrompt::from(far).x_max, 8_589_934_592.0);
    }

    #[test]
    fn crops_stay_inside_the_image() {
        let image = RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let crop = |x, y, width, height| Rect { x, y, width, height }.crop(&image);
        let part = crop(1, 2, 3, 2);
        assert_eq!(part, RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8 + 1, y as u8 + 2, 7])));
        assert_eq!(crop(0, 0, 5, 4), image);
        assert_eq!(crop(4, 1, u32::MAX, u32::MAX).dimensions(), (1, 3));
        for outside in [crop(5, 0, 1, 1), crop(u32::MAX, u32::MAX, u32::MAX, u32::MAX), crop(2, 2, 0, 3)] {
            assert_eq!(Size::of(&outside).pixels(), 0);
        }
    }

    #[test]
    fn cells_tile_the_image() {
        let map = FeatureMap { data: Array3::zeros((1, 3, 7)), image_size: Size { width: 50, height: 11 } };
        let columns: Vec<_> = (0..50).map(|x| map.cell(x, 0).0).collect();
        assert!(columns.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 1));
        assert_eq!((columns[0], columns[49]), (0, 6));
        assert_eq!(map.cell(0, 10).1, 2);
    }
}
