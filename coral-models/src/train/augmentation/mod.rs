//! Random changes of training images.

mod color;
mod geometry;

use coral_core::image::RgbImage;
use coral_core::{AnnotatedImage, Error, InstanceMask, LabeledImage, Rect, Result, RleMask, SeededRng, Size};
use serde::{Deserialize, Serialize};

pub use geometry::RandomCrop;

use crate::resize::convolve_image;
use geometry::Geometry;
pub(crate) use geometry::check_size;

/// Random changes of a training image, each of them optional; the default changes nothing.
///
/// They are applied in the order of the fields. Each draws from random numbers of its own, so that switching one off
/// does not change what the others do.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_core::image::RgbImage;
/// use coral_models::Augmentation;
/// let size = Size { width: 32, height: 32 };
/// let augmentation = Augmentation::simclr(size);
/// let image = RgbImage::from_fn(80, 60, |x, y| coral_core::image::Rgb([3 * x as u8, 4 * y as u8, 90]));
/// let (first, second) = (augmentation.apply(&image, 1)?, augmentation.apply(&image, 2)?);
/// assert_eq!(Size::of(&first), size);
/// assert_ne!(first, second);
/// assert_eq!(first, augmentation.apply(&image, 1)?);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Ranges, orders and roundings are torchvision's on Pillow images: colours are equal in every bit, blurred levels within
/// one; random numbers are our own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Keeps a part of the image.
    pub crop: Option<RandomCrop>,
    /// Resizes to one size.
    pub resize: Option<Size>,
    /// Probability to swap left and right.
    pub horizontal_flip: f64,
    /// Probability to swap top and bottom.
    pub vertical_flip: f64,
    /// Turns by 0, 90, 180 or 270 degrees, each equally often. Images that are not square change their shape.
    pub quarter_turns: bool,
    /// Adds levels to whole channels.
    pub channel_shift: Option<ChannelShift>,
    /// Changes brightness, contrast, saturation and hue.
    pub color_jitter: Option<ColorJitter>,
    /// Probability to make the image grey.
    pub grayscale: f64,
    /// Blurs.
    pub blur: Option<GaussianBlur>,
}

/// Adds a random number of levels to each channel, as water and depth do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChannelShift {
    /// The most levels that are added to, or taken from, R, G and B.
    pub levels: [f32; 3],
    /// How often it is done.
    pub probability: f64,
}

/// Random changes of colour, done one after the other in random order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColorJitter {
    /// Least and largest factor of the levels; 1 changes nothing, also below.
    pub brightness: [f64; 2],
    /// Least and largest factor of the distance from the image's mean grey.
    pub contrast: [f64; 2],
    /// Least and largest factor of the distance from the pixel's grey.
    pub saturation: [f64; 2],
    /// Least and largest turn of the hue, as a share of a full turn, within −0.5..=0.5.
    pub hue: [f64; 2],
    /// How often any of it is done.
    pub probability: f64,
}

impl ColorJitter {
    /// Factors of 1 ± `brightness`, `contrast` and `saturation`, not below 0, and turns of ± `hue`, every time.
    pub fn symmetric(brightness: f64, contrast: f64, saturation: f64, hue: f64) -> Self {
        let around = |spread: f64| [(1.0 - spread).max(0.0), 1.0 + spread];
        Self {
            brightness: around(brightness),
            contrast: around(contrast),
            saturation: around(saturation),
            hue: [-hue, hue],
            probability: 1.0,
        }
    }
}

/// A Gaussian blur with reflected edges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GaussianBlur {
    /// Pixels that are mixed along each axis; odd.
    pub kernel: usize,
    /// Least and largest standard deviation, in pixels.
    pub sigma: [f64; 2],
    /// How often it is done.
    pub probability: f64,
}

/// Which random numbers a part draws from; the numbers stay, so that seeds keep their meaning.
#[derive(Debug, Clone, Copy)]
enum Part {
    Crop = 0,
    Flips = 1,
    ChannelShift = 2,
    ColorJitter = 3,
    Grayscale = 4,
    Blur = 5,
}

impl Augmentation {
    /// The views of SimCLR, at full strength: a random part of 8 % to 100 % of the area resized to `size`, horizontal
    /// flips, strong colour jitter in 80 %, grey in 20 % and blur over a tenth of the size in half of the views.
    pub fn simclr(size: Size) -> Self {
        let kernel = (size.width.min(size.height) / 10) as usize | 1;
        Self {
            crop: Some(RandomCrop::Resized { size, area: [0.08, 1.0], aspect: [3.0 / 4.0, 4.0 / 3.0] }),
            horizontal_flip: 0.5,
            color_jitter: Some(ColorJitter { probability: 0.8, ..ColorJitter::symmetric(0.8, 0.8, 0.8, 0.2) }),
            grayscale: 0.2,
            blur: Some(GaussianBlur { kernel, sigma: [0.1, 2.0], probability: 0.5 }),
            ..Self::default()
        }
    }

    /// What the patches of SeaCLIP are trained with, or near it: horizontal flips, red shifted by up to 30 levels, as
    /// depth does, contrast by factors of 0.5 to 2, brightness by about 30 levels, a slight blur; and, if asked for, a
    /// random part of one size. The published program draws contrast and brightness independently of each other and adds
    /// the brightness.
    pub fn seaclip(crop: Option<Size>) -> Self {
        let neutral = ColorJitter::symmetric(0.0, 0.0, 0.0, 0.0);
        let jitter = ColorJitter { brightness: [0.75, 1.25], contrast: [0.5, 2.0], probability: 0.5, ..neutral };
        Self {
            crop: crop.map(RandomCrop::Fixed),
            horizontal_flip: 0.5,
            channel_shift: Some(ChannelShift { levels: [30.0, 0.0, 0.0], probability: 0.7 }),
            color_jitter: Some(jitter),
            blur: Some(GaussianBlur { kernel: 3, sigma: [0.01, 0.5], probability: 0.5 }),
            ..Self::default()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field that is out of its range.
    pub fn validate(&self) -> Result<()> {
        const PROBABILITY: [f64; 2] = [0.0, 1.0];
        const FACTOR: [f64; 2] = [0.0, f64::MAX];
        const LARGEST_KERNEL: usize = (1 << 12) - 1;
        let probability = |name, value| check_range(name, [value, value], PROBABILITY);
        self.crop.map_or(Ok(()), |crop| crop.validate())?;
        self.resize.map_or(Ok(()), |size| check_size("resize", size))?;
        probability("horizontal_flip", self.horizontal_flip)?;
        probability("vertical_flip", self.vertical_flip)?;
        probability("grayscale", self.grayscale)?;
        if let Some(shift) = &self.channel_shift {
            probability("channel_shift.probability", shift.probability)?;
            for level in shift.levels.map(f64::from) {
                check_range("channel_shift.levels", [level, level], [0.0, 255.0])?;
            }
        }
        if let Some(jitter) = &self.color_jitter {
            check_range("color_jitter.brightness", jitter.brightness, FACTOR)?;
            check_range("color_jitter.contrast", jitter.contrast, FACTOR)?;
            check_range("color_jitter.saturation", jitter.saturation, FACTOR)?;
            check_range("color_jitter.hue", jitter.hue, [-0.5, 0.5])?;
            probability("color_jitter.probability", jitter.probability)?;
        }
        if let Some(blur) = &self.blur {
            check_range("blur.sigma", blur.sigma, [f64::MIN_POSITIVE, f64::MAX])?;
            probability("blur.probability", blur.probability)?;
            if blur.kernel % 2 == 0 || blur.kernel > LARGEST_KERNEL {
                let reason = format!("expected an odd number of at most {LARGEST_KERNEL}, got {}", blur.kernel);
                return Err(Error::parameter("blur.kernel", reason));
            }
        }
        Ok(())
    }

    /// Changes an image; the same seed does the same.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate); [`Error::InvalidInput`] when the image has no pixels or is smaller than
    /// a crop of fixed size.
    pub fn apply(&self, image: &RgbImage, seed: u64) -> Result<RgbImage> {
        let mut image = self.geometry(Size::of(image), seed)?.apply(image)?;
        self.change_colors(&mut image, seed);
        match self.blur {
            Some(blur) => Ok(blur.apply(image, &mut random(seed, Part::Blur))),
            None => Ok(image),
        }
    }

    /// Changes an image as [`apply`](Self::apply) does, and moves its labels with the pixels.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply); [`Error::ShapeMismatch`] when the labels have another size than the image.
    pub fn apply_labeled(&self, sample: &LabeledImage, seed: u64) -> Result<LabeledImage> {
        let size = Size::of(&sample.image);
        size.expect("labels", Size::of_map(&sample.labels))?;
        let labels = self.geometry(size, seed)?.apply_to_labels(&sample.labels);
        Ok(LabeledImage { image: self.apply(&sample.image, seed)?, labels })
    }

    /// Changes a photograph as [`apply`](Self::apply) does, and moves its masks with the pixels; masks of which nothing is
    /// left are left out. What came with a mask from elsewhere, its click and crop, does not stay.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply); [`Error::ShapeMismatch`] when a mask has another size than the photograph.
    pub fn apply_annotated(&self, sample: &AnnotatedImage, seed: u64) -> Result<AnnotatedImage> {
        let size = Size::of(&sample.image);
        let moved = |(index, instance): (usize, &InstanceMask)| {
            size.expect(&format!("masks[{index}]"), instance.mask.size())?;
            let mask = self.apply_to_mask(&instance.mask, seed)?;
            Ok(InstanceMask { point: None, crop_box: Rect::whole(mask.size()), mask, ..instance.clone() })
        };
        let masks = sample.masks.iter().enumerate().map(moved).collect::<Result<Vec<_>>>()?;
        let masks = masks.into_iter().filter(|instance| !instance.mask.is_empty()).collect();
        Ok(AnnotatedImage { image: self.apply(&sample.image, seed)?, masks })
    }

    /// Moves a mask as [`apply`](Self::apply) moves the pixels of a photograph of the same size.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    pub fn apply_to_mask(&self, mask: &RleMask, seed: u64) -> Result<RleMask> {
        let pixels = self.geometry(mask.size(), seed)?.apply_to_labels(&mask.decode().mapv(u8::from));
        Ok(RleMask::encode(&pixels.mapv(|inside| inside == 1)))
    }

    fn geometry(&self, whole: Size, seed: u64) -> Result<Geometry> {
        self.validate()?;
        if whole.pixels() == 0 {
            return Err(Error::input("image", format!("an image of {whole} has no pixels")));
        }
        let crop = Geometry::draw(whole, self.crop, self.resize, &mut random(seed, Part::Crop))?;
        let mut random = random(seed, Part::Flips);
        let (flip_x, flip_y) = (random.chance(self.horizontal_flip), random.chance(self.vertical_flip));
        let turns = random.below(4);
        Ok(Geometry { flip_x, flip_y, quarter_turns: if self.quarter_turns { turns } else { 0 }, ..crop })
    }

    fn change_colors(&self, image: &mut RgbImage, seed: u64) {
        if let Some(shift) = self.channel_shift {
            let mut random = random(seed, Part::ChannelShift);
            if random.chance(shift.probability) {
                let levels = shift.levels.map(|most| random.range(-f64::from(most), f64::from(most)) as f32);
                color::shift_channels(image, levels);
            }
        }
        if let Some(jitter) = self.color_jitter {
            jitter.apply(image, &mut random(seed, Part::ColorJitter));
        }
        if random(seed, Part::Grayscale).chance(self.grayscale) {
            color::to_grayscale(image);
        }
    }
}

impl ColorJitter {
    fn apply(&self, image: &mut RgbImage, random: &mut SeededRng) {
        if !random.chance(self.probability) {
            return;
        }
        let mut order = [0, 1, 2, 3];
        random.shuffle(&mut order);
        let ranges = [self.brightness, self.contrast, self.saturation, self.hue];
        let values = ranges.map(|[low, high]| random.range(low, high) as f32);
        let operations =
            [color::adjust_brightness, color::adjust_contrast, color::adjust_saturation, color::adjust_hue];
        for which in order {
            // A hue that is turned by nothing would still be rounded.
            let nothing = if which == 3 { 0.0 } else { 1.0 };
            if ranges[which] != [nothing; 2] {
                operations[which](image, values[which]);
            }
        }
    }
}

impl GaussianBlur {
    fn apply(&self, image: RgbImage, random: &mut SeededRng) -> RgbImage {
        if !random.chance(self.probability) {
            return image;
        }
        convolve_image(&image, &self.weights(random.range(self.sigma[0], self.sigma[1])))
    }

    fn weights(&self, sigma: f64) -> Vec<f64> {
        let half = (self.kernel / 2) as f64;
        let mut weights: Vec<f64> =
            (0..self.kernel).map(|i| (-0.5 * ((i as f64 - half) / sigma).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        weights
    }
}

fn random(seed: u64, part: Part) -> SeededRng {
    SeededRng::stream(seed, part as u64)
}

/// A range in ascending order within bounds.
fn check_range(name: &str, [low, high]: [f64; 2], [least, most]: [f64; 2]) -> Result<()> {
    if low <= high && (least..=most).contains(&low) && (least..=most).contains(&high) {
        return Ok(());
    }
    Err(Error::parameter(name, format!("expected ascending values within {least:e} and {most:e}, got {low} to {high}")))
}

#[cfg(test)]
mod tests;
