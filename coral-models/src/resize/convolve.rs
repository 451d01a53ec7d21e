use coral_core::Size;
use coral_core::image::RgbImage;

use super::arithmetic::FloatBytes;
use super::axis::Axis;
use super::passes::Passes;

/// Convolves an image with `kernel` (an odd number of weights) along x and then along y. Beyond the edges the image is
/// reflected, its outermost pixels not repeated.
pub(crate) fn convolve_image(image: &RgbImage, kernel: &[f64]) -> RgbImage {
    let size = Size::of(image);
    let mut output = RgbImage::new(size.width, size.height);
    if size.pixels() > 0 {
        let axis = |len: u32| reflected(len as usize, kernel).map(|weight| weight as f32);
        let (columns, rows) = (axis(size.width), axis(size.height));
        Passes::<_, 3> { columns: &columns, rows: &rows }.run::<FloatBytes>(image.as_raw(), &mut output);
    }
    output
}

fn reflected(len: usize, kernel: &[f64]) -> Axis<f64> {
    let half = (kernel.len() / 2) as i64;
    let period = 2 * (len as i64 - 1).max(1);
    let inside = |at: i64| {
        let at = at.rem_euclid(period);
        at.min(period - at).min(len as i64 - 1) as usize
    };
    let span = |i: usize| {
        let sources: Vec<usize> = (-half..=half).map(|offset| inside(i as i64 + offset)).collect();
        let (first, last) = sources.iter().fold((len, 0), |(first, last), &at| (first.min(at), last.max(at)));
        let mut weights = vec![0.0; last - first + 1];
        sources.iter().zip(kernel).for_each(|(&at, weight)| weights[at - first] += weight);
        (first, weights)
    };
    Axis::from_spans(len, (0..len).map(span).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;

    #[test]
    fn edges_are_reflected() {
        let image = RgbImage::from_fn(4, 1, |x, _| Rgb([10 * x as u8, 100, 8 * x as u8]));
        let moved = convolve_image(&image, &[1.0, 0.0, 0.0, 0.0, 0.0]);
        let along = |channel: usize| moved.pixels().map(|p| p.0[channel]).collect::<Vec<_>>();
        assert_eq!((along(0), along(1), along(2)), (vec![20, 10, 0, 10], vec![100; 4], vec![16, 8, 0, 8]));
    }

    #[test]
    fn any_size_keeps_a_flat_image() {
        let kernel = vec![1.0 / 9.0; 9];
        for (width, height) in [(1, 1), (1, 7), (2, 3), (5, 4), (9, 8), (30, 2)] {
            let flat = RgbImage::from_pixel(width, height, Rgb([7, 200, 255]));
            assert_eq!(convolve_image(&flat, &kernel), flat);
        }
        assert_eq!(convolve_image(&RgbImage::new(0, 3), &kernel), RgbImage::new(0, 3));
    }
}
