use coral_core::Size;
use coral_core::image::RgbImage;
use ndarray::Array2;

use crate::blur::gaussian_blur;
use crate::parallel;

/// The image smoothed by a Gaussian of standard deviation `sigma` (pixels), row by row.
pub(super) fn smooth_rgb(image: &RgbImage, sigma: f32) -> Vec<[f32; 3]> {
    let (shape, pixels) = (Size::of(image).shape(), image.as_raw().as_chunks::<3>().0);
    let planes = parallel::map(vec![0, 1, 2], |channel| {
        let plane = Array2::from_shape_fn(shape, |(y, x)| f32::from(pixels[y * shape.1 + x][channel]));
        gaussian_blur(plane.view(), sigma)
    });
    planes[0].iter().zip(&planes[1]).zip(&planes[2]).map(|((&r, &g), &b)| [r, g, b]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn a_dot_becomes_a_bell_and_a_flat_image_stays_flat() {
        let dot = RgbImage::from_fn(41, 33, |x, y| Rgb([if (x, y) == (20, 16) { 255 } else { 0 }, 9, 0]));
        let smoothed = smooth_rgb(&dot, 2.0);
        let at = |x: usize, y: usize| smoothed[y * 41 + x];
        let expected = |r2: f32| 255.0 * (-r2 / 8.0).exp() / (8.0 * std::f32::consts::PI);
        for (x, y, r2) in [(20, 16, 0.0), (23, 16, 9.0), (20, 14, 4.0), (18, 17, 5.0)] {
            assert!((at(x, y)[0] / expected(r2) - 1.0).abs() < 0.02, "{:?} {}", at(x, y), expected(r2));
        }
        assert!(smoothed.iter().all(|color| (color[1] - 9.0).abs() < 1e-4 && color[2] == 0.0));
        assert!((smoothed.iter().map(|color| color[0]).sum::<f32>() - 255.0).abs() < 0.1);
    }

    #[test]
    fn no_smoothing_keeps_the_image() {
        let image = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 200]));
        assert_eq!(smooth_rgb(&image, 0.0)[7], [2.0, 1.0, 200.0]);
        assert_eq!(smooth_rgb(&RgbImage::from_pixel(1, 1, Rgb([7, 8, 9])), 6.0).len(), 1);
    }
}
