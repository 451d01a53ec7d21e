use coral_core::image::RgbImage;

use crate::parallel::{BAND_ROWS, for_each_chunk};

/// The image smoothed by a Gaussian of standard deviation `sigma` (pixels), edge pixels repeated.
pub(super) fn smooth_rgb(image: &RgbImage, sigma: f32) -> Vec<[f32; 3]> {
    let width = image.width() as usize;
    let source = image.as_raw().as_chunks::<3>().0;
    let kernel = half_kernel(sigma);
    let mut across = vec![[0.0; 3]; source.len()];
    for_each_chunk(&mut across, BAND_ROWS * width, |band, rows| {
        let mut padded = Vec::new();
        for (row, out) in rows.chunks_mut(width).enumerate() {
            let pixels = &source[(band * BAND_ROWS + row) * width..][..width];
            blur_row(pixels, &kernel, &mut padded, out);
        }
    });
    if kernel.len() == 1 {
        return across;
    }
    let mut smoothed = vec![[0.0; 3]; source.len()];
    let last = source.len() / width.max(1) - 1;
    for_each_chunk(&mut smoothed, BAND_ROWS * width, |band, rows| {
        for (row, out) in rows.chunks_mut(width).enumerate() {
            let y = band * BAND_ROWS + row;
            for (offset, &weight) in kernel.iter().enumerate() {
                let above = &across[y.saturating_sub(offset) * width..][..width];
                let below = &across[(y + offset).min(last) * width..][..width];
                let share = if offset == 0 { weight / 2.0 } else { weight };
                for ((to, a), b) in
                    out.as_flattened_mut().iter_mut().zip(above.as_flattened()).zip(below.as_flattened())
                {
                    *to += share * (a + b);
                }
            }
        }
    });
    smoothed
}

/// The weights at offsets 0, 1, … up to three deviations; the full kernel sums to 1.
fn half_kernel(sigma: f32) -> Vec<f32> {
    if sigma < 0.2 {
        return vec![1.0];
    }
    let reach = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=reach).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let total = 2.0 * kernel.iter().sum::<f32>() - kernel[0];
    kernel.iter_mut().for_each(|weight| *weight /= total);
    kernel
}

fn blur_row(pixels: &[[u8; 3]], kernel: &[f32], padded: &mut Vec<[f32; 3]>, out: &mut [[f32; 3]]) {
    let reach = kernel.len() - 1;
    let (first, last) = (pixels[0], pixels[pixels.len() - 1]);
    let edge = |color: [u8; 3]| std::iter::repeat_n(color, reach);
    padded.clear();
    padded.extend(edge(first).chain(pixels.iter().copied()).chain(edge(last)).map(|color| color.map(f32::from)));
    let flat = out.as_flattened_mut();
    flat.fill(0.0);
    for (offset, &weight) in kernel.iter().enumerate() {
        let left = padded[reach - offset..][..pixels.len()].as_flattened();
        let right = padded[reach + offset..][..pixels.len()].as_flattened();
        let share = if offset == 0 { weight / 2.0 } else { weight };
        for ((to, a), b) in flat.iter_mut().zip(left).zip(right) {
            *to += share * (a + b);
        }
    }
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
