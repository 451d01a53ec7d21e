use coral_core::{Error, Result, RleMask, Size};

use crate::sam::preprocess::longest_side_size;

/// Where a photograph lies in the square that the network sees, and in the decoder's low-resolution masks of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LowResFrame {
    original: Size,
    /// Pixels of a low-resolution mask per pixel of the photograph, across and down.
    scale: [f64; 2],
    /// The pixels of the low-resolution mask whose middle lies in the photograph; the others are padding.
    valid: Size,
}

impl LowResFrame {
    /// `image_size` is the side of the network's input, `low_res` that of its masks.
    pub(crate) fn new(original: Size, image_size: u32, low_res: u32) -> Result<Self> {
        if original.pixels() == 0 || image_size == 0 || low_res == 0 {
            let reason = format!("expected pixels, got {original} at {image_size} and {low_res}");
            return Err(Error::input("image", reason));
        }
        let input = longest_side_size(original, image_size);
        let step = f64::from(image_size) / f64::from(low_res);
        let along = |input: u32| ((f64::from(input) / step - 0.5).ceil().max(1.0) as u32).min(low_res);
        let scale = |input: u32, original: u32| f64::from(input) / step / f64::from(original);
        Ok(Self {
            original,
            scale: [scale(input.width, original.width), scale(input.height, original.height)],
            valid: Size { width: along(input.width), height: along(input.height) },
        })
    }

    /// The part of a low-resolution mask that shows the photograph.
    pub(crate) fn valid(&self) -> Size {
        self.valid
    }

    /// Pixels of a low-resolution mask in pixels of the photograph.
    pub(crate) fn to_original(self, x: f32, y: f32) -> (f32, f32) {
        let back = |at: f32, scale: f64, limit: u32| (f64::from(at) / scale).min(f64::from(limit)) as f32;
        (back(x, self.scale[0], self.original.width), back(y, self.scale[1], self.original.height))
    }

    /// A mask of the photograph at low resolution, without padding: the pixels of which at least half is inside.
    pub(crate) fn reduce(&self, mask: &RleMask) -> Result<RleMask> {
        self.original.expect("mask", mask.size())?;
        let (rows, columns) = self.valid.shape();
        let [across, down] = self.scale;
        let mut covered = vec![0f64; rows * columns];
        for run in mask.column_runs() {
            let (top, bottom) = (f64::from(run.y) * down, f64::from(run.y + run.length) * down);
            let (left, right) = (f64::from(run.x) * across, f64::from(run.x + 1) * across);
            for x in left as usize..(right.ceil() as usize).min(columns) {
                let width = overlap((left, right), x);
                for y in top as usize..(bottom.ceil() as usize).min(rows) {
                    covered[y * columns + x] += width * overlap((top, bottom), y);
                }
            }
        }
        let end = [f64::from(self.original.width) * across, f64::from(self.original.height) * down];
        // Sums of shares may miss a half by their rounding.
        const HALF: f64 = 0.5 - 1e-9;
        Ok(RleMask::from_fn(self.valid, |x, y| {
            let (x, y) = (x as usize, y as usize);
            let pixel = overlap((0.0, end[0]), x) * overlap((0.0, end[1]), y);
            covered[y * columns + x] >= HALF * pixel
        }))
    }
}

/// The length of `start..end` within pixel number `at`.
fn overlap((start, end): (f64, f64), at: usize) -> f64 {
    (end.min(at as f64 + 1.0) - start.max(at as f64)).max(0.0)
}

/// A mask of a photograph at the resolution at which a network of the Segment Anything family draws masks, and is trained:
/// resized as the photograph is, its longer side to `low_res`, averaged and cut at one half. The padding that follows to the
/// right or below is left out.
///
/// `image_size` is the side of the network's input (1024), `low_res` that of its masks (256). Small masks may vanish.
///
/// # Errors
/// [`Error::InvalidInput`] for a mask, or a side, of no pixels.
///
/// # Examples
/// ```
/// use coral_core::{RleMask, Size};
/// use coral_models::low_res_mask;
/// let mask = RleMask::from_fn(Size { width: 800, height: 400 }, |x, y| x < 401 && y > 99);
/// let small = low_res_mask(&mask, 1024, 8)?;
/// assert_eq!(small, RleMask::from_fn(Size { width: 8, height: 4 }, |x, y| x < 4 && y > 0));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn low_res_mask(mask: &RleMask, image_size: u32, low_res: u32) -> Result<RleMask> {
    LowResFrame::new(mask.size(), image_size, low_res)?.reduce(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;

    /// Averages over 16×16 samples of every pixel.
    fn sampled(mask: &RleMask, frame: &LowResFrame) -> RleMask {
        const SAMPLES: u32 = 16;
        let end = |scale: f64, side: u32| f64::from(side) * scale;
        let (right, bottom) = (end(frame.scale[0], mask.size().width), end(frame.scale[1], mask.size().height));
        RleMask::from_fn(frame.valid, |x, y| {
            let (mut inside, mut all) = (0, 0);
            for at in 0..SAMPLES * SAMPLES {
                let place = |pixel: u32, step: u32| f64::from(pixel) + (f64::from(step) + 0.5) / f64::from(SAMPLES);
                let (x, y) = (place(x, at % SAMPLES), place(y, at / SAMPLES));
                if x < right && y < bottom {
                    all += 1;
                    let pixel = ((x / frame.scale[0]) as u32, (y / frame.scale[1]) as u32);
                    inside += u32::from(mask.contains(pixel.0, pixel.1));
                }
            }
            2 * inside >= all
        })
    }

    #[test]
    fn averages_are_those_of_fine_samples() {
        let mut random = SeededRng::new(4);
        for (width, height) in [(160, 96), (47, 131), (9, 20), (64, 1)] {
            let size = Size { width, height };
            let [x0, y0] = [f64::from(width), f64::from(height)].map(|side| random.range(0.2, 0.8) * side);
            let radius = f64::from(width.max(height)) * 0.3;
            let mask = RleMask::from_fn(size, |x, y| (f64::from(x) - x0).hypot(f64::from(y) - y0) < radius);
            let frame = LowResFrame::new(size, 64, 32).unwrap();
            let (ours, expected) = (frame.reduce(&mask).unwrap(), sampled(&mask, &frame));
            let differing = ours.difference(&expected).unwrap().area() + expected.difference(&ours).unwrap().area();
            // Samples decide otherwise only where about half a pixel is inside.
            assert!(ours.area() > 0 && differing <= 2 + ours.area() / 50, "{size}: {differing} of {}", ours.area());
        }
    }

    #[test]
    fn pixels_of_equal_size_stay_as_they_are() {
        for size in [Size { width: 32, height: 20 }, Size { width: 11, height: 32 }] {
            let mask = RleMask::from_fn(size, |x, y| (x * 7 + y * 3) % 5 < 2);
            assert_eq!(low_res_mask(&mask, 128, 32).unwrap(), mask);
            let frame = LowResFrame::new(size, 128, 32).unwrap();
            assert_eq!((frame.valid(), frame.to_original(3.5, 4.5)), (size, (3.5, 4.5)));
        }
    }

    #[test]
    fn padding_is_left_out() {
        // The longer side becomes 128, the other 91.15: 91, of which 22.75 pixels of 4.
        let frame = LowResFrame::new(Size { width: 66, height: 47 }, 128, 32).unwrap();
        assert_eq!(frame.valid(), Size { width: 32, height: 23 });
        let full = RleMask::from_fn(frame.original, |_, _| true);
        assert_eq!(frame.reduce(&full).unwrap().area(), 32 * 23);
        let (x, y) = frame.to_original(32.0, 23.0);
        assert_eq!((x, y), (66.0, 47.0));
        let thin = LowResFrame::new(Size { width: 5000, height: 1 }, 1024, 256).unwrap();
        assert_eq!(thin.valid(), Size { width: 256, height: 1 });
    }

    #[test]
    fn misfits_are_errors() {
        let frame = LowResFrame::new(Size { width: 4, height: 3 }, 8, 4).unwrap();
        assert!(frame.reduce(&RleMask::empty(Size { width: 3, height: 4 })).is_err());
        assert!(low_res_mask(&RleMask::empty(Size { width: 0, height: 4 }), 8, 4).is_err());
        assert!(low_res_mask(&RleMask::empty(Size { width: 4, height: 4 }), 8, 0).is_err());
        assert!(
            low_res_mask(&RleMask::from_fn(Size { width: 90, height: 9 }, |x, y| x + y == 0), 8, 4).unwrap().is_empty()
        );
    }
}
