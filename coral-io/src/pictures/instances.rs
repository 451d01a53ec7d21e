use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::Array2;
use coral_core::{ClassSet, Error, InstanceMask, Rect, Result, RleMask, Size, UNLABELED};

use super::blend::{blend, hidden_share};

/// The widest line that [`draw_contours`] draws, in pixels.
const WIDEST: u32 = 64;

/// A mask and the colour to draw it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColoredMask<'a> {
    /// The pixels, in the frame of the picture.
    pub mask: &'a RleMask,
    /// Red, green, blue.
    pub color: [u8; 3],
}

impl<'a> ColoredMask<'a> {
    /// Every object in a colour of its own: [`instance_color`] of its position.
    pub fn by_instance(masks: &'a [InstanceMask]) -> Vec<Self> {
        (0..).zip(masks).map(|(at, one)| Self { mask: &one.mask, color: instance_color(at) }).collect()
    }

    /// Every object in the colour of its class; black without class.
    pub fn by_class(masks: &'a [InstanceMask], classes: &ClassSet) -> Vec<Self> {
        let color = |one: &InstanceMask| classes.color(one.class.unwrap_or(UNLABELED));
        masks.iter().map(|one| Self { mask: &one.mask, color: color(one) }).collect()
    }
}

/// The colour of object `index`: bright, and far in hue from the colours of the objects before it.
///
/// # Examples
/// ```
/// use coral_io::instance_color;
/// assert_eq!([0, 1, 2].map(instance_color), [[255, 64, 64], [64, 116, 242], [191, 255, 102]]);
/// ```
pub fn instance_color(index: usize) -> [u8; 3] {
    // Steps of the golden ratio never come close to an earlier hue.
    let hue = (index as f64 * 0.618_033_988_749_895).fract() * 6.0;
    // Three brightnesses and saturations tell the neighbours in hue apart that many objects must have.
    let (bright, pale) = [(255.0, 0.25), (242.0, 0.263), (255.0, 0.4)][index % 3];
    let channel = |shift: f64| {
        let from_peak = ((hue + shift).rem_euclid(6.0) - 3.0).abs() - 1.0;
        (bright * (pale + (1.0 - pale) * from_peak.clamp(0.0, 1.0))).round() as u8
    };
    [channel(0.0), channel(4.0), channel(2.0)]
}

/// A photograph with the masks in colour over it, later ones over earlier ones.
///
/// `opacity` 0 leaves the photograph as it is, 1 hides it under the masks.
///
/// # Errors
/// [`Error::ShapeMismatch`] naming the first mask of another size than the image, [`Error::InvalidParameter`] when
/// `opacity` is not in 0..=1.
///
/// # Examples
/// ```
/// use coral_core::{RleMask, Size, image::{Rgb, RgbImage}};
/// use coral_io::{ColoredMask, overlay_masks};
/// let image = RgbImage::from_pixel(3, 1, Rgb([100, 100, 100]));
/// let mask = RleMask::from_fn(Size::of(&image), |x, _| x == 1);
/// let picture = overlay_masks(&image, &[ColoredMask { mask: &mask, color: [200, 100, 0] }], 0.5)?;
/// assert_eq!(picture.get_pixel(1, 0).0, [150, 100, 50]);
/// assert_eq!(picture.get_pixel(2, 0).0, [100, 100, 100]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn overlay_masks(image: &RgbImage, masks: &[ColoredMask<'_>], opacity: f32) -> Result<RgbImage> {
    check_sizes(image, masks)?;
    let hidden = hidden_share(opacity)?;
    let mut picture = image.clone();
    for one in masks {
        for run in one.mask.column_runs() {
            for y in run.y..run.y + run.length {
                blend(&mut picture.get_pixel_mut(run.x, y).0, one.color, hidden);
            }
        }
    }
    Ok(picture)
}

/// A picture with the outlines of the masks, later ones over earlier ones.
///
/// A line lies inside its mask: it holds the pixels no more than `thickness` pixels from one outside. Where the image
/// cuts a mask there is no line. Good values grow with the image: 1 at 512², 5 at 20 megapixels.
///
/// # Errors
/// [`Error::ShapeMismatch`] naming the first mask of another size than the image, [`Error::InvalidParameter`] when
/// `thickness` is not in 1–64.
///
/// # Examples
/// ```
/// use coral_core::{RleMask, Size, image::{Rgb, RgbImage}};
/// use coral_io::{ColoredMask, draw_contours};
/// let image = RgbImage::new(7, 7);
/// let mask = RleMask::from_fn(Size::of(&image), |x, y| (1..6).contains(&x) && (1..6).contains(&y));
/// let picture = draw_contours(&image, &[ColoredMask { mask: &mask, color: [255, 0, 0] }], 1)?;
/// let row = |y| -> String { (0..7).map(|x| if picture.get_pixel(x, y).0[0] > 0 { '#' } else { '.' }).collect() };
/// assert_eq!([0, 1, 2, 3].map(row), [".......", ".#####.", ".#...#.", ".#...#."]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn draw_contours(image: &RgbImage, masks: &[ColoredMask<'_>], thickness: u32) -> Result<RgbImage> {
    check_sizes(image, masks)?;
    if !(1..=WIDEST).contains(&thickness) {
        return Err(Error::parameter("thickness", format!("expected 1–{WIDEST}, got {thickness}")));
    }
    let disc = disc(thickness as i64);
    let mut picture = image.clone();
    for one in masks {
        draw_contour(&mut picture, one, &disc)?;
    }
    Ok(picture)
}

fn check_sizes(image: &RgbImage, masks: &[ColoredMask<'_>]) -> Result<()> {
    let mut sizes = masks.iter().map(|one| one.mask.size()).enumerate();
    sizes.try_for_each(|(at, size)| Size::of(image).expect(&format!("masks[{at}]"), size))
}

/// The steps `(x, y)` of at most `radius` pixels.
fn disc(radius: i64) -> Vec<(i64, i64)> {
    let square = (-radius..=radius).flat_map(|y| (-radius..=radius).map(move |x| (x, y)));
    square.filter(|&(x, y)| x * x + y * y <= radius * radius).collect()
}

/// Draws a disc around every pixel just outside the mask, and of the disc what is inside.
fn draw_contour(picture: &mut RgbImage, one: &ColoredMask<'_>, disc: &[(i64, i64)]) -> Result<()> {
    let Some(around) = one.mask.bounding_box().map(|tight| grown(tight, Size::of(picture))) else { return Ok(()) };
    let inside = one.mask.crop(around)?.decode();
    let (height, width) = inside.dim();
    let mut line = Array2::from_elem((height, width), false);
    for ((y, x), &here) in inside.indexed_iter() {
        if here || !touches(&inside, x, y) {
            continue;
        }
        for &(dx, dy) in disc {
            let at = [y.checked_add_signed(dy as isize), x.checked_add_signed(dx as isize)];
            if let [Some(y), Some(x)] = at
                && y < height
                && x < width
            {
                line[[y, x]] |= inside[[y, x]];
            }
        }
    }
    for ((y, x), _) in line.indexed_iter().filter(|&(_, &drawn)| drawn) {
        picture.put_pixel(around.x + x as u32, around.y + y as u32, Rgb(one.color));
    }
    Ok(())
}

/// The box and a pixel on each side, as far as the picture goes.
fn grown(tight: Rect, size: Size) -> Rect {
    let (x, y) = (tight.x.saturating_sub(1), tight.y.saturating_sub(1));
    let right = (tight.x + tight.width + 1).min(size.width);
    let bottom = (tight.y + tight.height + 1).min(size.height);
    Rect { x, y, width: right - x, height: bottom - y }
}

/// Whether the pixel left, right, above or below is inside.
fn touches(inside: &Array2<bool>, x: usize, y: usize) -> bool {
    let at = |y: usize, x: usize| inside.get([y, x]).copied().unwrap_or(false);
    // At 0 the neighbour wraps to a position that no array has.
    at(y, x.wrapping_sub(1)) || at(y, x + 1) || at(y.wrapping_sub(1), x) || at(y + 1, x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_hold_the_pixels_near_the_outside(
            (width, height, bits) in (1usize..9, 1usize..9, prop::collection::vec(any::<u8>(), 64)),
            thickness in 1u32..4,
        ) {
            let pixels = Array2::from_shape_fn((height, width), |(y, x)| bits[y * 8 + x] > 50);
            let mask = RleMask::encode(&pixels);
            let image = RgbImage::new(width as u32, height as u32);
            let picture = draw_contours(&image, &[ColoredMask { mask: &mask, color: [9, 8, 7] }], thickness).unwrap();
            for ((y, x), &inside) in pixels.indexed_iter() {
                let reach = thickness.pow(2) as usize;
                let near = |(v, u): (usize, usize)| u.abs_diff(x).pow(2) + v.abs_diff(y).pow(2) <= reach;
                let line = inside && pixels.indexed_iter().any(|(at, &inside)| !inside && near(at));
                let expected = if line { [9, 8, 7] } else { [0; 3] };
                prop_assert_eq!(picture.get_pixel(x as u32, y as u32).0, expected);
            }
        }
    }

    #[test]
    fn colours_of_many_objects_differ() {
        let colors: Vec<_> = (0..60).map(instance_color).collect();
        for (at, a) in colors.iter().enumerate() {
            assert!(a.iter().any(|&channel| channel >= 150), "{at}: {a:?} is dark");
            for b in &colors[..at] {
                let distance: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
                assert!(distance >= 12, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn later_masks_lie_above_and_colours_follow() {
        let size = Size { width: 2, height: 1 };
        let of = |class, x0| {
            let mask = InstanceMask::new(RleMask::from_fn(size, |x, _| x >= x0));
            InstanceMask { class, ..mask }
        };
        let masks = [of(Some(0), 0), of(None, 1)];
        let classes = ClassSet::from_names(["coral"]).unwrap();
        let by_class = ColoredMask::by_class(&masks, &classes);
        assert_eq!([by_class[0].color, by_class[1].color], [classes.color(0), [0; 3]]);
        let by_instance = ColoredMask::by_instance(&masks);
        let picture = overlay_masks(&RgbImage::new(2, 1), &by_instance, 1.0).unwrap();
        assert_eq!([picture.get_pixel(0, 0).0, picture.get_pixel(1, 0).0], [instance_color(0), instance_color(1)]);
    }

    #[test]
    fn wrong_input_is_refused() {
        let image = RgbImage::new(4, 3);
        let good = RleMask::empty(Size::of(&image));
        let other = RleMask::empty(Size { width: 3, height: 4 });
        let colored = |mask| ColoredMask { mask, color: [0; 3] };
        let masks = [colored(&good), colored(&other)];
        let expected = "masks[1]: expected shape 4x3, got 3x4";
        assert_eq!(draw_contours(&image, &masks, 1).unwrap_err().to_string(), expected);
        assert_eq!(overlay_masks(&image, &masks, 0.5).unwrap_err().to_string(), expected);
        for thickness in [0, WIDEST + 1] {
            assert!(draw_contours(&image, &masks[..1], thickness).unwrap_err().to_string().contains("expected 1–64"));
        }
        for opacity in [-0.1, f32::NAN] {
            assert!(overlay_masks(&image, &masks[..1], opacity).unwrap_err().to_string().contains("expected 0..=1"));
        }
        assert_eq!(draw_contours(&image, &masks[..1], 3).unwrap(), image);
    }
}
