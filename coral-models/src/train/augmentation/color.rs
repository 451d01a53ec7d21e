//! Colour operations on RGB images, with the roundings of Pillow.

use coral_core::image::{Rgb, RgbImage};

/// Pillow's brightness of a pixel (ITU-R 601), 0..=255.
#[inline(always)]
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + (1 << 15)) >> 16) as u8
}

/// `from` + `factor` × (`to` − `from`), cut to 0..=255 and rounded down.
#[inline(always)]
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    // The conversion saturates.
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// Replaces every level.
fn map_levels(image: &mut RgbImage, table: &[u8; 256]) {
    image.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
}

/// Mixes with black.
pub(super) fn adjust_brightness(image: &mut RgbImage, factor: f32) {
    map_levels(image, &std::array::from_fn(|level| blend(0, level as u8, factor)));
}

/// Mixes with the mean grey of the image.
pub(super) fn adjust_contrast(image: &mut RgbImage, factor: f32) {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let pixels = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / pixels.max(1) as f64 + 0.5) as u8;
    map_levels(image, &std::array::from_fn(|level| blend(mean, level as u8, factor)));
}

/// Mixes with the image's grey version.
pub(super) fn adjust_saturation(image: &mut RgbImage, factor: f32) {
    for pixel in image.pixels_mut() {
        let grey = luma(pixel.0);
        pixel.0 = pixel.0.map(|level| blend(grey, level, factor));
    }
}

/// Turns the hue by `turn` of a full turn, −0.5..=0.5. Hue and saturation are rounded to 8 bits on the way.
pub(super) fn adjust_hue(image: &mut RgbImage, turn: f32) {
    let steps = (f64::from(turn) * 255.0) as i32 as u8;
    for pixel in image.pixels_mut() {
        let [hue, saturation, value] = rgb_to_hsv(pixel.0);
        pixel.0 = hsv_to_rgb([hue.wrapping_add(steps), saturation, value]);
    }
}

/// Makes the image grey.
pub(super) fn to_grayscale(image: &mut RgbImage) {
    image.pixels_mut().for_each(|pixel| *pixel = Rgb([luma(pixel.0); 3]));
}

/// Adds a number of levels to each channel.
pub(super) fn shift_channels(image: &mut RgbImage, levels: [f32; 3]) {
    let tables = levels.map(|shift| std::array::from_fn::<u8, 256, _>(|level| (level as f32 + shift).round() as u8));
    for pixel in image.pixels_mut() {
        for (level, table) in pixel.0.iter_mut().zip(&tables) {
            *level = table[usize::from(*level)];
        }
    }
}

fn rgb_to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = rgb;
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0, 0, high];
    }
    let span = f32::from(high - low);
    let below = |level: u8| f64::from(f32::from(high - level) / span);
    let sixths = if r == high {
        below(b) - below(g)
    } else if g == high {
        2.0 + below(r) - below(b)
    } else {
        4.0 + below(g) - below(r)
    };
    let turn = (f64::from(sixths as f32) / 6.0 + 1.0).fract() as f32;
    [(f64::from(turn) * 255.0) as u8, (f64::from(span / f32::from(high)) * 255.0) as u8, high]
}

fn hsv_to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f32::from(hue) * 6.0 / 255.0;
    let sector = sixths as u8;
    let (rest, saturation) = (sixths - f32::from(sector), f32::from(saturation) / 255.0);
    let level = |share: f32| (f32::from(value) * (1.0 - share)).round() as u8;
    let (none, falling, rising) = (level(saturation), level(saturation * rest), level(saturation * (1.0 - rest)));
    match sector % 6 {
        0 => [value, rising, none],
        1 => [falling, value, none],
        2 => [none, value, rising],
        3 => [none, falling, value],
        4 => [rising, none, value],
        _ => [value, none, falling],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: [[u8; 3]; 8] = [
        [250, 40, 10],
        [12, 200, 90],
        [30, 60, 220],
        [128, 128, 128],
        [255, 255, 0],
        [0, 0, 0],
        [77, 10, 140],
        [9, 140, 150],
    ];

    fn assert_changed(change: impl Fn(&mut RgbImage), expected: [[u8; 3]; 8]) {
        let mut image = RgbImage::from_raw(4, 2, PIXELS.concat()).unwrap();
        change(&mut image);
        assert_eq!(image.as_raw(), &expected.concat());
    }

    // The expected levels are those of torchvision 0.29 with Pillow 13 for the same pixels.

    #[test]
    #[rustfmt::skip]
    fn brightness_is_that_of_torchvision() {
        assert_changed(|image| adjust_brightness(image, 1.4), [
            [255, 56, 14], [16, 255, 126], [42, 84, 255], [179, 179, 179],
            [255, 255, 0], [0, 0, 0], [107, 14, 196], [12, 196, 210],
        ]);
        assert_changed(|image| adjust_brightness(image, 0.3), [
            [75, 12, 3], [3, 60, 27], [9, 18, 66], [38, 38, 38],
            [76, 76, 0], [0, 0, 0], [23, 3, 42], [2, 42, 45],
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn contrast_is_that_of_torchvision() {
        assert_changed(|image| adjust_contrast(image, 1.7), [
            [255, 0, 0], [0, 255, 83], [0, 32, 255], [147, 147, 147],
            [255, 255, 0], [0, 0, 0], [60, 0, 168], [0, 168, 185],
        ]);
        assert_changed(|image| adjust_contrast(image, 0.4), [
            [160, 76, 64], [64, 140, 96], [72, 84, 148], [111, 111, 111],
            [162, 162, 60], [60, 60, 60], [90, 64, 116], [63, 116, 120],
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn saturation_is_that_of_torchvision() {
        assert_changed(|image| adjust_saturation(image, 1.8), [
            [255, 0, 0], [0, 255, 57], [0, 52, 255], [128, 128, 128],
            [255, 255, 0], [0, 0, 0], [102, 0, 216], [0, 170, 188],
        ]);
        assert_changed(|image| adjust_saturation(image, 0.25), [
            [136, 84, 76], [101, 148, 120], [59, 66, 106], [128, 128, 128],
            [233, 233, 169], [0, 0, 0], [53, 36, 68], [78, 111, 114],
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn hue_is_that_of_torchvision() {
        assert_changed(|image| adjust_hue(image, -0.17), [
            [250, 11, 219], [127, 200, 13], [30, 220, 187], [128, 128, 128],
            [255, 0, 0], [0, 0, 0], [10, 78, 140], [9, 150, 16],
        ]);
        assert_changed(|image| adjust_hue(image, 0.31), [
            [16, 250, 11], [61, 13, 200], [220, 30, 88], [128, 128, 128],
            [0, 255, 216], [0, 0, 0], [140, 53, 10], [138, 9, 150],
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn grey_is_that_of_torchvision() {
        assert_changed(to_grayscale, [[99; 3], [131; 3], [69; 3], [128; 3], [226; 3], [0; 3], [45; 3], [102; 3]]);
    }

    #[test]
    fn shifts_stop_at_black_and_white() {
        let mut image = RgbImage::from_pixel(1, 1, Rgb([250, 3, 100]));
        shift_channels(&mut image, [9.6, -20.0, 0.4]);
        assert_eq!(image.as_raw(), &[255, 0, 100]);
    }

    #[test]
    fn images_without_pixels_are_no_problem() {
        adjust_contrast(&mut RgbImage::new(0, 3), 2.0);
    }
}
