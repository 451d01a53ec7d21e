use coral_core::image::RgbImage;
use coral_core::{ClassId, ClassSet, CoarseMap, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::blend::{Borders, blend, border_width, hidden_share};

/// How [`overlay_coarse_map`] shows patches whose confidence is below the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsureCells {
    /// Hatched in the colour of their class, but for [`CoarseStyle::background`].
    #[default]
    Hatched,
    /// Outlined only.
    Untinted,
}

/// The look of [`overlay_coarse_map`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoarseStyle {
    /// How much of the photograph a patch of full confidence hides, 0..=1; less sure ones are paler. Default 0.45.
    pub opacity: f32,
    /// Patches of lower confidence are unsure, 0..=1. Default 0: none.
    pub threshold: f32,
    /// The look of unsure patches.
    pub unsure: UnsureCells,
    /// The class whose patches are outlined only, grey where they are unsure, so that what the photograph shows there can
    /// be seen. Default class 0, the background of SeaFeats and SeaCLIP; with `None` no class is special.
    pub background: Option<ClassId>,
}

impl Default for CoarseStyle {
    fn default() -> Self {
        Self { opacity: 0.45, threshold: 0.0, unsure: UnsureCells::default(), background: Some(0) }
    }
}

/// The strength of the tint of a patch that is as unsure as can be, compared with that of a sure one.
const PALEST: f32 = 0.35;
/// Outlines of unsure patches.
const GREY: [u8; 3] = [225; 3];

/// A photograph with its coarse map over it: each patch tinted with the colour of its class, paler the less sure it
/// is, and outlined. Sure patches of background are outlined alone ([`CoarseStyle::background`]), in the colour that the
/// legend has for it.
///
/// Where patches overlap, each keeps its middle. A legend comes from [`with_legend`](crate::with_legend) and the map's
/// labels, where unsure patches are unlabelled.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the map is of a photograph of another size, [`Error::InvalidParameter`] when the opacity
/// or threshold is not in 0..=1.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, CoarseMap, PatchGrid, image::{Rgb, RgbImage}, ndarray::arr3, Size};
/// use coral_io::{CoarseStyle, overlay_coarse_map, with_legend};
/// let photograph = RgbImage::from_pixel(60, 20, Rgb([100; 3]));
/// let patches = PatchGrid::Split { rows: 1, columns: 2 }.patches(Size::of(&photograph))?;
/// let map = CoarseMap::new(arr3(&[[[1.0, 0.0]], [[0.0, 1.0]]]), patches, Size::of(&photograph))?;
/// let mut classes = ClassSet::from_names(["sand", "seagrass"])?;
/// classes.set_color(0, [0, 0, 250])?;
/// classes.set_color(1, [200, 100, 0])?;
///
/// let style = CoarseStyle { opacity: 0.5, threshold: 0.7, ..Default::default() };
/// let picture = overlay_coarse_map(&photograph, &map, &classes, &style)?;
/// assert_eq!(picture.get_pixel(45, 10).0, [150, 100, 50]);
/// assert_eq!(picture.get_pixel(10, 10).0, [100, 100, 100]); // sand, the background
/// assert_eq!(picture.get_pixel(29, 10).0, [0, 0, 250]); // its outline
/// let labels = map.label_map(&map.confident_classes(style.threshold))?;
/// assert!(with_legend(&picture, &labels, &classes)?.width() > 60);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn overlay_coarse_map(
    image: &RgbImage,
    map: &CoarseMap,
    classes: &ClassSet,
    style: &CoarseStyle,
) -> Result<RgbImage> {
    let size = Size::of(image);
    size.expect("coarse map", map.image_size)?;
    hidden_share(style.opacity)?;
    if !(0.0..=1.0).contains(&style.threshold) {
        return Err(Error::parameter("threshold", format!("expected 0..=1, got {}", style.threshold)));
    }
    let looks = looks(map, classes, style)?;
    let cells = map.pixel_cells();
    let cells = cells.as_slice().unwrap_or_default();
    let width = size.width as usize;
    let borders = Borders { ids: cells, width, reach: border_width(size) };
    // Wide enough to be seen at the size of a patch, and the same in all of them.
    let period = (map.patches.iter().map(|p| p.width.min(p.height)).max().unwrap_or(1) as usize / 6).max(4);
    let mut picture = image.clone();
    for (at, (pixel, &cell)) in picture.chunks_exact_mut(3).zip(cells).enumerate() {
        let look = &looks[cell as usize];
        let on_line = (at % width + at / width) % period < period.div_ceil(4);
        match (borders.holds(at), look.unsure) {
            (true, Some(_)) => blend(pixel, GREY, 160),
            (true, None) => blend(pixel, look.color, 256),
            (false, _) if look.bare => {}
            (false, None) => blend(pixel, look.color, look.hidden),
            (false, Some(UnsureCells::Hatched)) if on_line => blend(pixel, look.color, look.hidden),
            (false, Some(_)) => {}
        }
    }
    Ok(picture)
}

/// How a patch is drawn.
struct Look {
    color: [u8; 3],
    /// How much of the photograph its tint or hatching hides, in 256ths.
    hidden: u32,
    unsure: Option<UnsureCells>,
    /// Outlined only.
    bare: bool,
}

fn looks(map: &CoarseMap, classes: &ClassSet, style: &CoarseStyle) -> Result<Vec<Look>> {
    let chance = 1.0 / map.probabilities.dim().0 as f32;
    let look = |(&class, &confidence): (&ClassId, &f32)| {
        let unsure = (confidence < style.threshold).then_some(style.unsure);
        let sure = ((confidence - chance) / (1.0 - chance).max(f32::EPSILON)).clamp(0.0, 1.0);
        let opacity = match unsure {
            // Few pixels are hatched: pale lines would not show.
            Some(_) => style.opacity.max(0.7),
            None => style.opacity * (PALEST + (1.0 - PALEST) * sure),
        };
        Ok(Look {
            color: classes.color(class),
            hidden: hidden_share(opacity)?,
            unsure,
            bare: style.background == Some(class),
        })
    };
    map.classes().iter().zip(&map.confidence()).map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::PatchGrid;
    use coral_core::image::Rgb;
    use coral_core::ndarray::{Array3, arr3};

    const SIZE: Size = Size { width: 48, height: 24 };

    fn sample(style: &CoarseStyle) -> RgbImage {
        let image = RgbImage::from_pixel(48, 24, Rgb([100; 3]));
        let patches = PatchGrid::Split { rows: 1, columns: 2 }.patches(SIZE).unwrap();
        let map = CoarseMap::new(arr3(&[[[0.95, 0.45]], [[0.05, 0.55]]]), patches, SIZE).unwrap();
        overlay_coarse_map(&image, &map, &ClassSet::from_names(["sand", "seagrass"]).unwrap(), style).unwrap()
    }

    /// How many pixels of the right patch have a colour.
    fn right(picture: &RgbImage, color: [u8; 3]) -> usize {
        picture.enumerate_pixels().filter(|(x, _, pixel)| *x >= 25 && pixel.0 == color).count()
    }

    #[test]
    fn unsure_patches_are_paler_hatched_or_bare() {
        let all = CoarseStyle { background: None, ..Default::default() };
        let pale = sample(&all);
        let moved = |x: u32| {
            let pixel = pale.get_pixel(x, 12).0;
            pixel.iter().map(|&level| u32::from(level.abs_diff(100))).sum::<u32>()
        };
        assert!(moved(12) > 2 * moved(36), "{} {}", moved(12), moved(36));
        assert_eq!(pale.get_pixel(23, 12).0, coral_core::default_color(0));
        assert_eq!(pale.get_pixel(24, 12).0, coral_core::default_color(1));

        let threshold = 0.6;
        let hatched = sample(&CoarseStyle { threshold, ..all });
        let bare = sample(&CoarseStyle { threshold, unsure: UnsureCells::Untinted, ..all });
        let inside = 23 * 24;
        assert_eq!(right(&bare, [100; 3]), inside);
        let left = right(&hatched, [100; 3]);
        assert!(left > inside / 2 && left < inside, "{left} of {inside}");
        // The sure patch looks the same in all.
        assert!([&hatched, &bare].iter().all(|picture| picture.get_pixel(12, 12) == pale.get_pixel(12, 12)));
    }

    #[test]
    fn background_shows_the_photograph() {
        let (sand, seagrass) = (coral_core::default_color(0), coral_core::default_color(1));
        let count = |picture: &RgbImage, left: bool, color| {
            picture.enumerate_pixels().filter(|(x, _, pixel)| (*x < 24) == left && pixel.0 == color).count()
        };
        let picture = sample(&CoarseStyle::default());
        // A column of each half is outline.
        assert_eq!((count(&picture, true, [100; 3]), count(&picture, true, sand)), (23 * 24, 24));
        assert_eq!((count(&picture, false, [100; 3]), count(&picture, false, seagrass)), (0, 24));
        // Unsure background is not hatched either, but told by its outline; class 1 is background only where asked for.
        let unsure = sample(&CoarseStyle { threshold: 1.0, ..Default::default() });
        assert_eq!((count(&unsure, true, [100; 3]), count(&unsure, true, sand)), (23 * 24, 0));
        let other = sample(&CoarseStyle { background: Some(1), ..Default::default() });
        assert_eq!((count(&other, true, [100; 3]), count(&other, false, [100; 3])), (0, 23 * 24));
        let read: CoarseStyle = serde_json::from_str(r#"{"background": null}"#).unwrap();
        assert_eq!(read, CoarseStyle { background: None, ..Default::default() });
    }

    #[test]
    fn wrong_input_is_refused() {
        let patches = PatchGrid::Split { rows: 1, columns: 1 }.patches(SIZE).unwrap();
        let map = CoarseMap::new(Array3::ones((1, 1, 1)), patches, SIZE).unwrap();
        let text = |image: &RgbImage, opacity, threshold| {
            let style = CoarseStyle { opacity, threshold, ..Default::default() };
            overlay_coarse_map(image, &map, &ClassSet::default(), &style).unwrap_err().to_string()
        };
        let image = RgbImage::new(48, 24);
        assert_eq!(text(&RgbImage::new(9, 24), 0.5, 0.5), "coarse map: expected shape 9x24, got 48x24");
        assert!(text(&image, f32::NAN, 0.5).contains("`opacity`: expected 0..=1"));
        assert!(text(&image, 0.5, 1.5).contains("`threshold`: expected 0..=1, got 1.5"));
        let all = CoarseStyle { background: None, ..Default::default() };
        let one_class = overlay_coarse_map(&image, &map, &ClassSet::default(), &all).unwrap();
        assert_ne!(one_class.get_pixel(5, 5), image.get_pixel(5, 5));
    }
}
