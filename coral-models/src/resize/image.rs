use coral_core::image::RgbImage;
use coral_core::{Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::arithmetic::{Arithmetic, FloatBytes, PillowBytes, fixed_point};
use super::axis::Axis;
use super::coordinates::{opencv_area, opencv_area_enlarged, torch_bilinear};
use super::filter::{PillowFilter, vertical_first};
use super::passes::Passes;

/// OpenCV's ways to resize an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenCvInterpolation {
    /// Two neighbours per axis, no antialiasing (`INTER_LINEAR`).
    Linear,
    /// The mean of the covered pixels where the image shrinks in x and y, else nearly nearest (`INTER_AREA`).
    Area,
}

/// Resizes an image as Pillow does: first along x, then along y, with fixed-point weights and rounding to
/// whole levels in between. As in Pillow 13, y comes first when the height loses more than twice as many
/// pixels as the width; older versions always take x first, which differs by a few levels there.
///
/// # Errors
/// [`Error::InvalidInput`] when the image has no pixels, [`Error::InvalidParameter`] when `size` has none.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_models::{PillowFilter, resize_image};
/// let image = RgbImage::from_fn(4, 1, |x, _| Rgb([x as u8 * 10; 3]));
/// let half = resize_image(&image, Size { width: 2, height: 1 }, PillowFilter::Box)?;
/// assert_eq!(half.as_raw(), &[5, 5, 5, 25, 25, 25]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Pillow 13, `Image.resize` of mode RGB; equal in every bit.
pub fn resize_image(image: &RgbImage, size: Size, filter: PillowFilter) -> Result<RgbImage> {
    let from = Size::of(image);
    check_sizes(from, size)?;
    if vertical_first(from, size) {
        let low = resize_image(image, Size { width: from.width, ..size }, filter)?;
        return resize_image(&low, size, filter);
    }
    let axis = |input: u32, output: u32| filter.axis(input as usize, output as usize).map(fixed_point);
    resize::<PillowBytes>(image, size, [axis(from.width, size.width), axis(from.height, size.height)])
}

/// Resizes an image as OpenCV does.
///
/// # Errors
/// [`Error::InvalidInput`] when the image has no pixels, [`Error::InvalidParameter`] when `size` has none.
///
/// # References
/// OpenCV 5, `cv2.resize` of 8-bit images; within one level.
pub fn resize_image_opencv(image: &RgbImage, size: Size, interpolation: OpenCvInterpolation) -> Result<RgbImage> {
    let from = Size::of(image);
    check_sizes(from, size)?;
    let shrinks = size.width <= from.width && size.height <= from.height;
    let axis = |input: u32, output: u32| {
        let (input, output) = (input as usize, output as usize);
        let axis = match interpolation {
            OpenCvInterpolation::Linear => torch_bilinear(input, output, input as f32 / output as f32),
            OpenCvInterpolation::Area if shrinks => opencv_area(input, output),
            OpenCvInterpolation::Area => opencv_area_enlarged(input, output),
        };
        axis.map(|weight| weight as f32)
    };
    resize::<FloatBytes>(image, size, [axis(from.width, size.width), axis(from.height, size.height)])
}

/// Both sizes must have pixels.
pub(super) fn check_sizes(from: Size, to: Size) -> Result<()> {
    if from.pixels() == 0 {
        return Err(Error::input("image", format!("expected pixels to resize, got {from}")));
    }
    if to.pixels() == 0 {
        return Err(Error::parameter("size", format!("expected a size with pixels, got {to}")));
    }
    Ok(())
}

fn resize<A>(image: &RgbImage, size: Size, [columns, rows]: [Axis<A::Weight>; 2]) -> Result<RgbImage>
where
    A: Arithmetic<Input = u8, Output = u8>,
{
    if columns.is_identity() && rows.is_identity() {
        return Ok(image.clone());
    }
    let mut output = RgbImage::new(size.width, size.height);
    Passes::<_, 3> { columns: &columns, rows: &rows }.run::<A>(image.as_raw(), &mut output);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interpolation, resize_plane};
    use coral_core::image::Rgb;
    use coral_core::ndarray::Array2;
    use proptest::prelude::*;

    const SMALL: Size = Size { width: 2, height: 3 };

    #[test]
    fn sizes_without_pixels_are_errors() {
        let image = RgbImage::new(4, 4);
        let flat = Size { width: 4, height: 0 };
        let error = resize_image(&image, flat, PillowFilter::Bicubic).unwrap_err().to_string();
        assert_eq!(error, "invalid parameter `size`: expected a size with pixels, got 4x0");
        assert!(resize_image_opencv(&image, flat, OpenCvInterpolation::Area).is_err());
        let nothing = RgbImage::new(0, 4);
        assert!(matches!(resize_image(&nothing, SMALL, PillowFilter::Nearest), Err(Error::InvalidInput { .. })));
        assert!(resize_image_opencv(&nothing, SMALL, OpenCvInterpolation::Linear).is_err());
    }

    #[test]
    fn overshoot_is_clipped() {
        let edge = RgbImage::from_fn(8, 1, |x, _| Rgb(if x < 4 { [0; 3] } else { [255; 3] }));
        let wide = resize_image(&edge, Size { width: 32, height: 1 }, PillowFilter::Lanczos).unwrap();
        let plane = Array2::from_shape_fn((1, 8), |(_, x)| if x < 4 { 0.0 } else { 255.0 });
        let how = Interpolation::Pillow(PillowFilter::Lanczos);
        let unclipped = resize_plane(plane.view(), Size { width: 32, height: 1 }, how).unwrap();
        assert!(unclipped.iter().any(|&v| v < -5.0) && unclipped.iter().any(|&v| v > 260.0));
        for (pixel, value) in wide.pixels().zip(&unclipped) {
            assert!((f32::from(pixel.0[0]) - value.clamp(0.0, 255.0)).abs() < 0.51, "{pixel:?} for {value}");
        }
    }

    /// One channel of Pillow's result, pass by pass with plain loops.
    fn naive(image: &RgbImage, size: Size, filter: PillowFilter, channel: usize) -> Vec<u8> {
        let plane = Array2::from_shape_fn(Size::of(image).shape(), |(y, x)| image[(x as u32, y as u32)].0[channel]);
        let along_y = |plane: Array2<u8>| {
            let axis = filter.axis(plane.nrows(), size.height as usize);
            Array2::from_shape_fn((axis.len(), plane.ncols()), |(y, x)| {
                let (start, weights) = axis.span(y);
                let terms = weights.iter().zip(start..).map(|(&w, i)| fixed_point(w) * i32::from(plane[[i, x]]));
                PillowBytes::to_mid(PillowBytes::START + terms.sum::<i32>())
            })
        };
        let along_x = |plane: Array2<u8>| {
            let axis = filter.axis(plane.ncols(), size.width as usize);
            Array2::from_shape_fn((plane.nrows(), axis.len()), |(y, x)| {
                let (start, weights) = axis.span(x);
                let terms = weights.iter().zip(start..).map(|(&w, i)| fixed_point(w) * i32::from(plane[[y, i]]));
                PillowBytes::to_mid(PillowBytes::START + terms.sum::<i32>())
            })
        };
        let y_first = vertical_first(Size::of(image), size);
        let result = if y_first { along_x(along_y(plane)) } else { along_y(along_x(plane)) };
        result.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn streaming_equals_plain_loops(
            (width, height) in (1u32..200, 1u32..200), (to_width, to_height) in (1u32..200, 1u32..200), which in 0..4,
        ) {
            let image = RgbImage::from_fn(width, height, |x, y| {
                let hash = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
                Rgb([(hash >> 8) as u8, (hash >> 16) as u8, if (hash >> 24) & 1 == 0 { 0 } else { 255 }])
            });
            let filters = [PillowFilter::Nearest, PillowFilter::Bilinear, PillowFilter::Bicubic, PillowFilter::Lanczos];
            let (size, filter) = (Size { width: to_width, height: to_height }, filters[which as usize]);
            let ours = resize_image(&image, size, filter).unwrap();
            for channel in 0..3 {
                let plain = naive(&image, size, filter, channel);
                prop_assert!(ours.pixels().map(|p| p.0[channel]).eq(plain));
            }
        }
    }
}
