use std::sync::LazyLock;

use coral_core::image::RgbImage;
use ndarray::Array3;

use crate::parallel;

/// Linear RGB (ITU-R BT.709 primaries) to CIE XYZ, rows X, Y, Z.
const XYZ_FROM_RGB: [[f64; 3]; 3] =
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]];
/// The D65 white for the 2° observer, XYZ.
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];
/// Below this share of the white, Lab replaces the cube root by a line.
const LINEAR_BELOW: f64 = 0.008856;
/// Slope and offset of that line.
const LINE: (f64, f64) = (7.787, 16.0 / 116.0);

/// The linear intensity of each sRGB level, both in 0..=1.
static LINEAR: LazyLock<[f64; 256]> = LazyLock::new(|| {
    std::array::from_fn(|level| {
        let level = level as f64 / 255.0;
        if level > 0.04045 { ((level + 0.055) / 1.055).powf(2.4) } else { level / 12.92 }
    })
});

/// The CIE Lab colour (D65, 2° observer) of one sRGB colour: L in 0..=100, a and b about −128..=128.
///
/// # Examples
/// ```
/// use coral_weak::lab_color;
/// let [l, a, b] = lab_color([255, 255, 255]);
/// assert!((l - 100.0).abs() < 1e-3 && a.abs() < 0.01 && b.abs() < 0.01);
/// assert!(lab_color([0, 120, 0])[1] < -40.0); // green: a is negative
/// ```
///
/// # References
/// CIE 15; IEC 61966-2-1. Equal to scikit-image's `rgb2lab` within 1e-9.
pub fn lab_color(rgb: [u8; 3]) -> [f64; 3] {
    let linear = rgb.map(|level| LINEAR[usize::from(level)]);
    let f: [f64; 3] = std::array::from_fn(|axis| {
        let row = XYZ_FROM_RGB[axis];
        let share = (row[0] * linear[0] + row[1] * linear[1] + row[2] * linear[2]) / WHITE[axis];
        if share > LINEAR_BELOW { share.cbrt() } else { LINE.0 * share + LINE.1 }
    });
    [116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])]
}

/// The CIE Lab colours of an image as three planes, 3×H×W: [`lab_color`] in single precision, fast.
///
/// # Examples
/// ```
/// use coral_weak::lab_image;
/// use coral_core::image::{Rgb, RgbImage};
/// let lab = lab_image(&RgbImage::from_pixel(5, 2, Rgb([128, 128, 128])));
/// assert_eq!(lab.dim(), (3, 2, 5));
/// assert!((lab[[0, 1, 4]] - 53.585).abs() < 1e-3);
/// ```
///
/// # References
/// Within 1e-3 of scikit-image's `rgb2lab`.
pub fn lab_image(image: &RgbImage) -> Array3<f32> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut lab = Array3::<f32>::zeros((3, height, width));
    let pixels = width * height;
    if let (Some(planes), true) = (lab.as_slice_mut(), pixels > 0) {
        let (l, ab) = planes.split_at_mut(pixels);
        let (a, b) = ab.split_at_mut(pixels);
        let chunks = image.as_raw().chunks(3 * CHUNK).zip(l.chunks_mut(CHUNK));
        let chunks = chunks.zip(a.chunks_mut(CHUNK).zip(b.chunks_mut(CHUNK)));
        let table = linear_shares();
        parallel::map(chunks.collect(), |((rgb, l), (a, b))| convert_chunk(&table, rgb, [l, a, b]));
    }
    lab
}

/// Pixels per parallel task: some 100 µs of work.
const CHUNK: usize = 1 << 14;
/// Pixels whose linear shares are kept between the two steps of a conversion.
const BLOCK: usize = 256;

/// What each level of R, G, B adds to the X, Y, Z shares of the white.
fn linear_shares() -> Vec<[[f32; 3]; 256]> {
    let share = |channel: usize, level: usize, axis: usize| LINEAR[level] * XYZ_FROM_RGB[axis][channel] / WHITE[axis];
    (0..3)
        .map(|channel| std::array::from_fn(|level| std::array::from_fn(|axis| share(channel, level, axis) as f32)))
        .collect()
}

fn convert_chunk(table: &[[[f32; 3]; 256]], rgb: &[u8], [l, a, b]: [&mut [f32]; 3]) {
    let [red, green, blue] = table else { return };
    let mut shares = [[0.0f32; BLOCK]; 3];
    let outputs = l.chunks_mut(BLOCK).zip(a.chunks_mut(BLOCK).zip(b.chunks_mut(BLOCK)));
    for (rgb, (l, (a, b))) in rgb.chunks(3 * BLOCK).zip(outputs) {
        // First the table look-ups, then arithmetic alone, which the compiler turns into SIMD.
        for (i, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
            let [r, g, b] = pixel.map(usize::from);
            for axis in 0..3 {
                shares[axis][i] = red[r][axis] + green[g][axis] + blue[b][axis];
            }
        }
        for plane in &mut shares {
            plane.iter_mut().for_each(|share| *share = lab_curve(*share));
        }
        let [fx, fy, fz] = &shares;
        for i in 0..l.len() {
            l[i] = 116.0 * fy[i] - 16.0;
            a[i] = 500.0 * (fx[i] - fy[i]);
            b[i] = 200.0 * (fy[i] - fz[i]);
        }
    }
}

/// Lab's cube root with a line near 0, without branches or calls.
#[inline(always)]
fn lab_curve(share: f32) -> f32 {
    // A third of the exponent and mantissa bits is a cube root within 4 %; the argument is at
    // most about 1, so that the sum stays far from overflow. Each Halley step then cubes the error.
    let third = share.to_bits() as i32 as f32 * (1.0 / 3.0) + 709_921_077.0;
    let mut root = f32::from_bits(third as i32 as u32);
    for _ in 0..2 {
        let cube = root * root * root;
        root *= (cube + 2.0 * share) / (2.0 * cube + share);
    }
    let line = LINE.0 as f32 * share + LINE.1 as f32;
    if share > LINEAR_BELOW as f32 { root } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn the_fast_conversion_equals_the_reference() {
        // Every 5th level of each channel, and all greys, in one odd-sized image.
        let mut colors: Vec<[u8; 3]> = (0..=255).map(|v| [v; 3]).collect();
        let steps = || (0..=255u8).step_by(5);
        colors.extend(steps().flat_map(|r| steps().flat_map(move |g| steps().map(move |b| [r, g, b]))));
        let width = 331;
        let image = RgbImage::from_fn(width, (colors.len() as u32).div_ceil(width), |x, y| {
            Rgb(colors.get((y * width + x) as usize).copied().unwrap_or([9, 200, 31]))
        });
        let lab = lab_image(&image);
        for (x, y, pixel) in image.enumerate_pixels() {
            for (axis, expected) in lab_color(pixel.0).into_iter().enumerate() {
                let actual = f64::from(lab[[axis, y as usize, x as usize]]);
                assert!((actual - expected).abs() < 5e-4, "{pixel:?} axis {axis}: {actual} for {expected}");
            }
        }
    }

    #[test]
    fn images_of_any_size_convert() {
        for (width, height) in [(0, 0), (1, 1), (7, 1), (1, 9), (300, 2)] {
            assert_eq!(lab_image(&RgbImage::new(width, height)).dim(), (3, height as usize, width as usize));
        }
    }
}
