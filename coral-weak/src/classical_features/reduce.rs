//! Making images and planes smaller by averaging blocks of pixels.

use coral_core::Size;
use coral_core::image::RgbImage;
use ndarray::{Array2, ArrayViewMut2, s};

/// The first pixel of block `index` when `pixels` are split into `blocks`; never more blocks than pixels.
fn start(index: usize, blocks: usize, pixels: usize) -> usize {
    index * pixels / blocks
}

/// `image` at `size`, which must not be larger: every pixel the mean of its block.
pub(super) fn reduce_image(image: &RgbImage, size: Size) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (columns, rows) = (size.width as usize, size.height as usize);
    let mut reduced = RgbImage::new(size.width, size.height);
    let mut sums = vec![[0u64; 3]; columns];
    for (row, out) in reduced.chunks_exact_mut(3 * columns).enumerate() {
        sums.fill([0; 3]);
        let (top, bottom) = (start(row, rows, height), start(row + 1, rows, height));
        for line in image.as_raw()[3 * width * top..3 * width * bottom].chunks_exact(3 * width) {
            let pixels = line.as_chunks::<3>().0;
            for (column, sum) in sums.iter_mut().enumerate() {
                for pixel in &pixels[start(column, columns, width)..start(column + 1, columns, width)] {
                    (0..3).for_each(|channel| sum[channel] += u64::from(pixel[channel]));
                }
            }
        }
        for (column, (out, sum)) in out.as_chunks_mut::<3>().0.iter_mut().zip(&sums).enumerate() {
            let across = start(column + 1, columns, width) - start(column, columns, width);
            let area = (across * (bottom - top)) as u64;
            *out = sum.map(|sum| ((sum + area / 2) / area) as u8);
        }
    }
    reduced
}

/// `plane` at the size of `out`, which must not be larger: every value the mean of its block.
pub(super) fn reduce_plane(plane: &Array2<f32>, mut out: ArrayViewMut2<'_, f32>) {
    if plane.dim() == out.dim() {
        return out.assign(plane);
    }
    let ((height, width), (rows, columns)) = (plane.dim(), out.dim());
    for ((row, column), out) in out.indexed_iter_mut() {
        let across = start(column, columns, width)..start(column + 1, columns, width);
        let block = plane.slice(s![start(row, rows, height)..start(row + 1, rows, height), across]);
        *out = block.sum() / block.len() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;
    use ndarray::array;

    #[test]
    fn blocks_are_averaged() {
        let image = RgbImage::from_fn(5, 2, |x, y| Rgb([x as u8 * 10, y as u8 * 100, 7]));
        let reduced = reduce_image(&image, Size { width: 2, height: 1 });
        // Columns 0–1 and 2–4.
        assert_eq!(reduced.as_raw(), &[5, 50, 7, 30, 50, 7]);
        assert_eq!(reduce_image(&image, Size { width: 5, height: 2 }), image);
        let mut out = Array2::zeros((1, 2));
        reduce_plane(&array![[1.0, 3.0, 5.0], [1.0, 3.0, 9.0]], out.view_mut());
        assert_eq!(out, array![[1.0, 5.0]]);
    }

    #[test]
    fn a_block_of_many_white_pixels_is_white() {
        // The sum of a channel is above 2^32.
        let image = RgbImage::from_pixel(4200, 4100, Rgb([255; 3]));
        assert_eq!(reduce_image(&image, Size { width: 1, height: 1 }).as_raw(), &[255; 3]);
    }
}
