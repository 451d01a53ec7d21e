//! Where the pixels of an augmented image come from.

use coral_core::image::{RgbImage, imageops};
use coral_core::ndarray::{Array2, Axis, s};
use coral_core::{Error, LabelMap, Rect, Result, SeededRng, Size};
use serde::{Deserialize, Serialize};

use crate::{PillowFilter, resize_image};

/// Which part of an image is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum RandomCrop {
    /// A part of this size, anywhere.
    Fixed(Size),
    /// A part of random area and aspect, resized to one size.
    Resized {
        /// The size of the result.
        size: Size,
        /// Least and largest area, as a share of the image's.
        area: [f64; 2],
        /// Least and largest width over height.
        aspect: [f64; 2],
    },
}

impl RandomCrop {
    pub(super) fn validate(&self) -> Result<()> {
        match *self {
            Self::Fixed(size) => check_size("crop", size),
            Self::Resized { size, area, aspect } => {
                check_size("crop.size", size)?;
                super::check_range("crop.area", area, [f64::MIN_POSITIVE, 1.0])?;
                super::check_range("crop.aspect", aspect, [f64::MIN_POSITIVE, f64::MAX])
            }
        }
    }

    /// The part of an image of size `whole` that is kept.
    fn draw(&self, whole: Size, random: &mut SeededRng) -> Result<Rect> {
        match *self {
            Self::Fixed(size) if size.width > whole.width || size.height > whole.height => {
                Err(Error::input("image", format!("expected at least the crop's {size}, got {whole}")))
            }
            Self::Fixed(size) => Ok(place(size, whole, random)),
            Self::Resized { area, aspect, .. } => {
                let pixels = whole.pixels() as f64;
                for _ in 0..10 {
                    let area = pixels * random.range(area[0], area[1]);
                    let aspect = random.range(aspect[0].ln(), aspect[1].ln()).exp();
                    let side = |squared: f64| squared.sqrt().round_ties_even();
                    let (width, height) = (side(area * aspect), side(area / aspect));
                    let fits = |side: f64, whole: u32| (1.0..=f64::from(whole)).contains(&side);
                    if fits(width, whole.width) && fits(height, whole.height) {
                        return Ok(place(Size { width: width as u32, height: height as u32 }, whole, random));
                    }
                }
                Ok(central(whole, aspect))
            }
        }
    }
}

/// A rectangle of `size` anywhere in `whole`.
fn place(size: Size, whole: Size, random: &mut SeededRng) -> Rect {
    let mut start = |size: u32, whole: u32| random.below((whole - size) as usize + 1) as u32;
    let (y, x) = (start(size.height, whole.height), start(size.width, whole.width));
    Rect { x, y, width: size.width, height: size.height }
}

/// The largest central rectangle whose aspect lies within bounds.
fn central(whole: Size, aspect: [f64; 2]) -> Rect {
    let Size { mut width, mut height } = whole;
    let side = |side: f64, whole: u32| side.round_ties_even().clamp(1.0, f64::from(whole)) as u32;
    let actual = f64::from(width) / f64::from(height);
    if actual < aspect[0] {
        height = side(f64::from(width) / aspect[0], height);
    } else if actual > aspect[1] {
        width = side(f64::from(height) * aspect[1], width);
    }
    Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height }
}

pub(crate) fn check_size(name: &str, size: Size) -> Result<()> {
    const MOST: u32 = 1 << 14;
    if size.pixels() > 0 && size.width <= MOST && size.height <= MOST {
        return Ok(());
    }
    Err(Error::parameter(name, format!("expected a size with pixels, at most {MOST} a side, got {size}")))
}

/// A crop, a resize, flips and quarter turns, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) crop: Rect,
    pub(super) size: Size,
    pub(super) flip_x: bool,
    pub(super) flip_y: bool,
    /// Clockwise, 0 to 3.
    pub(super) quarter_turns: usize,
}

impl Geometry {
    /// Only the crop and the resize.
    pub(super) fn draw(
        whole: Size,
        crop: Option<RandomCrop>,
        resize: Option<Size>,
        random: &mut SeededRng,
    ) -> Result<Self> {
        let rect = match crop {
            Some(crop) => crop.draw(whole, random)?,
            None => Rect::whole(whole),
        };
        let cropped = Size { width: rect.width, height: rect.height };
        let size = match crop {
            Some(RandomCrop::Resized { size, .. }) => resize.unwrap_or(size),
            _ => resize.unwrap_or(cropped),
        };
        Ok(Self { crop: rect, size, flip_x: false, flip_y: false, quarter_turns: 0 })
    }

    /// Applies itself to an image, with Pillow's bilinear resampling.
    pub(super) fn apply(&self, image: &RgbImage) -> Result<RgbImage> {
        let mut part = resize_image(&copy_part(image, self.crop), self.size, PillowFilter::Bilinear)?;
        if self.flip_x {
            imageops::flip_horizontal_in_place(&mut part);
        }
        if self.flip_y {
            imageops::flip_vertical_in_place(&mut part);
        }
        Ok(match self.quarter_turns {
            1 => imageops::rotate90(&part),
            2 => imageops::rotate180(&part),
            3 => imageops::rotate270(&part),
            _ => part,
        })
    }

    /// Applies itself to labels of the same size as the image; each result is the label at its centre.
    pub(super) fn apply_to_labels(&self, labels: &LabelMap) -> LabelMap {
        let Rect { x, y, width, height } = self.crop;
        let (x, y) = (x as usize, y as usize);
        let part = labels.slice(s![y..y + height as usize, x..x + width as usize]);
        let source = |i: usize, from: u32, to: u32| (2 * i + 1) * from as usize / (2 * to as usize);
        let mut part = Array2::from_shape_fn(self.size.shape(), |(row, column)| {
            part[[source(row, height, self.size.height), source(column, width, self.size.width)]]
        });
        if self.flip_x {
            part.invert_axis(Axis(1));
        }
        if self.flip_y {
            part.invert_axis(Axis(0));
        }
        for _ in 0..self.quarter_turns {
            part.swap_axes(0, 1);
            part.invert_axis(Axis(1));
        }
        part.as_standard_layout().into_owned()
    }
}

/// Row by row, which is much faster than pixel by pixel.
fn copy_part(image: &RgbImage, rect: Rect) -> RgbImage {
    let mut part = RgbImage::new(rect.width, rect.height);
    let (stride, width) = (3 * image.width() as usize, 3 * rect.width as usize);
    let rows = image.as_raw()[rect.y as usize * stride..].chunks_exact(stride);
    for (row, part) in rows.zip(part.chunks_exact_mut(width)) {
        part.copy_from_slice(&row[3 * rect.x as usize..][..width]);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    const WHOLE: Size = Size { width: 40, height: 24 };

    fn resized(area: [f64; 2], aspect: [f64; 2]) -> RandomCrop {
        RandomCrop::Resized { size: Size { width: 8, height: 8 }, area, aspect }
    }

    #[test]
    fn crops_have_the_area_and_aspect_asked_for() {
        let mut random = SeededRng::new(4);
        let (mut least, mut most) = (f64::MAX, 0f64);
        for _ in 0..2000 {
            let rect = resized([0.2, 0.6], [0.5, 2.0]).draw(WHOLE, &mut random).unwrap();
            assert!(rect.x + rect.width <= 40 && rect.y + rect.height <= 24);
            let area = rect.area() as f64 / 960.0;
            let aspect = f64::from(rect.width) / f64::from(rect.height);
            // Sides are rounded to whole pixels.
            assert!((0.17..0.66).contains(&area) && (0.45..2.2).contains(&aspect), "{rect:?}");
            (least, most) = (least.min(area), most.max(area));
        }
        assert!(least < 0.22 && most > 0.57, "{least} to {most}");
    }

    #[test]
    fn crops_that_do_not_fit_become_central() {
        let mut random = SeededRng::new(4);
        let mut draw = |aspect, whole| resized([1.0, 1.0], aspect).draw(whole, &mut random).unwrap();
        let rect = |x, y, width, height| Rect { x, y, width, height };
        // torchvision's RandomResizedCrop.get_params gives the same rectangles.
        assert_eq!(draw([1.0, 1.0], WHOLE), rect(8, 0, 24, 24));
        assert_eq!(draw([4.0, 5.0], WHOLE), rect(0, 7, 40, 10));
        assert_eq!(draw([0.9, 1.1], Size { width: 24, height: 41 }), rect(0, 7, 24, 27));
        // It gives a width of 0 here.
        assert_eq!(draw([0.01, 0.02], Size { width: 30, height: 1 }), rect(14, 0, 1, 1));
    }

    #[test]
    fn fixed_crops_reach_every_place() {
        let mut random = SeededRng::new(4);
        let crop = RandomCrop::Fixed(Size { width: 38, height: 24 });
        let mut seen = [0; 3];
        (0..60).for_each(|_| seen[crop.draw(WHOLE, &mut random).unwrap().x as usize] += 1);
        assert!(seen.iter().all(|&count| count > 5), "{seen:?}");
        let error = RandomCrop::Fixed(Size { width: 41, height: 2 }).draw(WHOLE, &mut random).unwrap_err();
        assert_eq!(error.to_string(), "invalid input `image`: expected at least the crop's 41x2, got 40x24");
    }

    #[test]
    fn labels_move_with_their_pixels() {
        let labels = Array2::from_shape_fn((24, 40), |(y, x)| (y * 40 + x) as u8);
        let image = RgbImage::from_fn(40, 24, |x, y| Rgb([labels[[y as usize, x as usize]]; 3]));
        for quarter_turns in 0..4 {
            for (flip_x, flip_y) in [(false, false), (true, false), (false, true), (true, true)] {
                let crop = Rect { x: 3, y: 5, width: 17, height: 9 };
                let size = Size { width: 17, height: 9 };
                let geometry = Geometry { crop, size, flip_x, flip_y, quarter_turns };
                let (image, labels) = (geometry.apply(&image).unwrap(), geometry.apply_to_labels(&labels));
                assert_eq!(Size::of(&image), Size::of_map(&labels));
                assert!(labels.is_standard_layout());
                assert!(image.pixels().map(|pixel| pixel.0[0]).eq(labels.iter().copied()));
            }
        }
    }

    #[test]
    fn resized_labels_are_those_at_the_centres() {
        let labels = Array2::from_shape_fn((2, 6), |(y, x)| (10 * y + x) as u8);
        let crop = Rect { x: 0, y: 0, width: 6, height: 2 };
        let size = Size { width: 2, height: 4 };
        let geometry = Geometry { crop, size, flip_x: false, flip_y: false, quarter_turns: 0 };
        let expected = coral_core::ndarray::array![[1u8, 4], [1, 4], [11, 14], [11, 14]];
        assert_eq!(geometry.apply_to_labels(&labels), expected);
    }
}
