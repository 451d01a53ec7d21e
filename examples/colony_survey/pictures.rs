use coral_core::image::{GenericImage, Rgb, RgbImage, imageops};
use coral_core::{ClassSet, Error, InstanceMask, LabelMap, OverlapConfig, Result, Size, UNLABELED, resolve_overlaps};
use coral_io::{ColoredMask, overlay_masks, with_legend};

/// Shorter pictures are enlarged to about this many pixels across.
const WIDTH: u32 = 320;
const GAP: u32 = 8;

/// A photograph, its true masks and those that were found, side by side in the colours of their classes, with a legend.
///
/// # Errors
/// When a mask is not of the photograph's size.
pub fn class_picture(photo: &RgbImage, [truth, found]: [&[InstanceMask]; 2], classes: &ClassSet) -> Result<RgbImage> {
    let colored = |masks: &[InstanceMask]| {
        let color = |one: &InstanceMask| one.class.map_or([128; 3], |class| classes.color(class));
        let colored: Vec<_> = masks.iter().map(|one| ColoredMask { mask: &one.mask, color: color(one) }).collect();
        overlay_masks(photo, &colored, 0.6)
    };
    let pictures = [photo.clone(), colored(truth)?, colored(found)?];
    let size = Size::of(photo);
    let scale = WIDTH.div_ceil(size.width.max(1)).max(1);
    let Size { width, height } = Size { width: size.width * scale, height: size.height * scale };
    let mut sheet = RgbImage::from_pixel(3 * width + 2 * GAP, height, Rgb([255; 3]));
    for (column, picture) in (0..).zip(&pictures) {
        let enlarged = imageops::resize(picture, width, height, imageops::FilterType::Nearest);
        let placed = sheet.copy_from(&enlarged, column * (width + GAP), 0);
        placed.map_err(|error| Error::input("pictures", error.to_string()))?;
    }
    // The legend names the classes of a map as large as the picture; that of what is found, in its place.
    let config = OverlapConfig { default_class: Some(UNLABELED), ..OverlapConfig::default() };
    let map = resolve_overlaps(found, size, &config)?.labels;
    let (left, scale) = (2 * (width + GAP) as usize, scale as usize);
    let named = LabelMap::from_shape_fn(Size::of(&sheet).shape(), |(y, x)| match x.checked_sub(left) {
        Some(x) => map[[y / scale, x / scale]],
        None => UNLABELED,
    });
    with_legend(&sheet, &named, classes)
}
