use coral_core::image::{Rgb, RgbImage};
use coral_core::{ClassId, ClassSet, Error, LabelMap, Result, Size, UNLABELED};

/// A photograph with its classes in colour over it and their borders drawn in full colour.
///
/// `opacity` 0 leaves the photograph as it is between the borders, 1 hides it. Unlabelled pixels
/// stay as they are. Borders grow with the image: a pixel wide on each side up to about
/// 800 pixels, four at 20 megapixels.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the label map has another size than the image,
/// [`Error::InvalidParameter`] when `opacity` is not in 0..=1.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, image::{Rgb, RgbImage}, ndarray::array};
/// let image = RgbImage::from_pixel(2, 1, Rgb([100, 100, 100]));
/// let mut classes = ClassSet::from_names(["sand"])?;
/// classes.set_color(0, [200, 100, 0])?;
/// let picture = coral_io::overlay(&image, &array![[0, 0]], &classes, 0.5)?;
/// assert_eq!(picture.get_pixel(0, 0).0, [150, 100, 50]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn overlay(image: &RgbImage, labels: &LabelMap, classes: &ClassSet, opacity: f32) -> Result<RgbImage> {
    let size = Size::of(image);
    size.expect("labels", Size::of_map(labels))?;
    let hidden = hidden_share(opacity)?;
    let palette = palette(classes);
    let labels = labels.as_standard_layout();
    let ids = labels.as_slice().unwrap_or_default();
    let borders = Borders { ids, width: size.width as usize, reach: border_width(size) };
    let mut picture = image.clone();
    for (at, (pixel, &id)) in picture.chunks_exact_mut(3).zip(ids).enumerate() {
        if id == UNLABELED {
            continue;
        }
        let color = palette[usize::from(id)];
        let hidden = if borders.holds(at) { 256 } else { hidden };
        blend(pixel, color, hidden);
    }
    Ok(picture)
}

/// How much of the photograph is hidden, in 256ths.
pub(super) fn hidden_share(opacity: f32) -> Result<u32> {
    if !(0.0..=1.0).contains(&opacity) {
        return Err(Error::parameter("opacity", format!("expected 0..=1, got {opacity}")));
    }
    Ok((opacity * 256.0).round() as u32)
}

/// Lays a colour over a pixel, of which `hidden` 256ths disappear.
pub(super) fn blend(pixel: &mut [u8], color: [u8; 3], hidden: u32) {
    for (below, above) in pixel.iter_mut().zip(color) {
        *below = ((u32::from(*below) * (256 - hidden) + u32::from(above) * hidden + 128) >> 8) as u8;
    }
}

/// A label map in its classes' colours, without borders; unlabelled pixels are black.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// let picture = coral_io::class_picture(&array![[255, 0]], &ClassSet::from_names(["sand"])?);
/// assert_eq!(picture.get_pixel(0, 0).0, [0, 0, 0]);
/// assert_eq!(picture.get_pixel(1, 0).0, coral_core::default_color(0));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn class_picture(labels: &LabelMap, classes: &ClassSet) -> RgbImage {
    let palette = palette(classes);
    let Size { width, height } = Size::of_map(labels);
    RgbImage::from_fn(width, height, |x, y| Rgb(palette[usize::from(labels[[y as usize, x as usize]])]))
}

fn palette(classes: &ClassSet) -> [[u8; 3]; 256] {
    std::array::from_fn(|id| classes.color(id as ClassId))
}

/// Pixels on each side of a border between classes.
pub(super) fn border_width(size: Size) -> usize {
    let short = size.width.min(size.height);
    (short as usize).div_ceil(1000).max(1)
}

/// Tells the pixels at the borders between classes, or whatever else pixels belong to.
pub(super) struct Borders<'a, T> {
    /// H×W, row by row.
    pub(super) ids: &'a [T],
    pub(super) width: usize,
    pub(super) reach: usize,
}

impl<T: PartialEq + Copy> Borders<'_, T> {
    /// Whether another id lies within `reach` pixels left, right, above or below.
    pub(super) fn holds(&self, at: usize) -> bool {
        let id = self.ids[at];
        let column = at % self.width;
        let differs = |other: usize| self.ids.get(other).is_some_and(|&other| other != id);
        (1..=self.reach).any(|step| {
            (column + step < self.width && differs(at + step))
                || (column >= step && differs(at - step))
                || differs(at + step * self.width)
                || at.checked_sub(step * self.width).is_some_and(differs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;

    #[test]
    fn borders_are_solid_and_unlabelled_pixels_untouched() {
        let image = RgbImage::from_pixel(5, 1, Rgb([10, 10, 10]));
        let classes = ClassSet::from_names(["a", "b"]).unwrap();
        let picture = overlay(&image, &array![[0, 0, 1, 1, 255]], &classes, 0.0).unwrap();
        let pixels: Vec<_> = picture.pixels().map(|p| p.0).collect();
        assert_eq!(pixels, [[10; 3], classes.color(0), classes.color(1), classes.color(1), [10; 3]]);
        let solid = overlay(&image, &array![[0, 0, 1, 1, 255]], &classes, 1.0).unwrap();
        assert_eq!(solid.get_pixel(0, 0).0, classes.color(0));
    }

    #[test]
    fn wrong_input_is_refused() {
        let image = RgbImage::new(2, 3);
        let classes = ClassSet::default();
        let text = |labels: LabelMap, opacity| overlay(&image, &labels, &classes, opacity).unwrap_err().to_string();
        assert_eq!(text(LabelMap::zeros((2, 3)), 0.5), "labels: expected shape 2x3, got 3x2");
        for opacity in [-0.1, 1.1, f32::NAN] {
            assert!(text(LabelMap::zeros((3, 2)), opacity).contains("`opacity`: expected 0..=1"));
        }
        assert!(overlay(&RgbImage::new(0, 0), &LabelMap::zeros((0, 0)), &classes, 0.5).is_ok());
    }
}
