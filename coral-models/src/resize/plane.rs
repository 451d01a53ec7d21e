use coral_core::ndarray::{Array2, ArrayView2};
use coral_core::{Error, Rect, Result, Size};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::arithmetic::{Floats, PillowFloats};
use super::axis::Axis;
use super::coordinates::{torch_area, torch_bicubic, torch_bilinear, torch_bilinear_align_corners, torch_nearest};
use super::filter::{Kernel, PillowFilter, vertical_first};
use super::image::check_sizes;
use super::passes::Passes;

/// How planes of f32 are resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interpolation {
    /// PyTorch's `nearest`: the sample at the output sample's left upper corner.
    Nearest,
    /// PyTorch's `nearest-exact`: the sample at the output sample's centre.
    NearestExact,
    /// PyTorch's `bilinear`, `align_corners=False`, without antialiasing: what logits are enlarged with.
    Bilinear,
    /// PyTorch's `bilinear`, `align_corners=True`.
    BilinearAlignCorners,
    /// PyTorch's `bilinear`, `antialias=True`.
    BilinearAntialias,
    /// PyTorch's `bicubic` (a = −0.75), `align_corners=False`, without antialiasing.
    Bicubic,
    /// PyTorch's `bicubic`, `antialias=True` (then a = −0.5).
    BicubicAntialias,
    /// PyTorch's `area`, which is adaptive average pooling.
    Area,
    /// Pillow's filters as on images of mode F: sums in f64, no rounding between the passes.
    Pillow(PillowFilter),
}

impl Interpolation {
    /// The axis from `input` to `output` samples; `scale`, in inputs per output, is their ratio unless told.
    pub(super) fn axis(self, input: usize, output: usize, scale: Option<f32>) -> Axis<f64> {
        if input == output && scale.is_none() {
            return Axis::identity(input);
        }
        let scale = scale.unwrap_or(input as f32 / output as f32);
        match self {
            Self::Nearest => torch_nearest(input, output, scale, 0.0),
            Self::NearestExact => torch_nearest(input, output, scale, 0.5),
            Self::Bilinear => torch_bilinear(input, output, scale),
            Self::BilinearAlignCorners => torch_bilinear_align_corners(input, output),
            Self::BilinearAntialias => Kernel::BILINEAR.antialiased_f32(input, output, scale),
            Self::Bicubic => torch_bicubic(input, output, scale),
            Self::BicubicAntialias => Kernel::BICUBIC.antialiased_f32(input, output, scale),
            Self::Area => torch_area(input, output),
            Self::Pillow(filter) => filter.axis(input, output),
        }
    }
}

/// A resize of planes from one size to another, prepared once and applied to any number of them.
///
/// NaN and infinities spread to the outputs that they contribute to, also with weight zero.
///
/// # Examples
/// ```
/// use coral_core::{Rect, Size};
/// use coral_models::{Interpolation, PlaneResampler};
/// let (small, large) = (Size { width: 2, height: 1 }, Size { width: 4, height: 1 });
/// let whole = PlaneResampler::new(small, large, Interpolation::Bilinear)?;
/// assert_eq!(whole.resize(&[0.0, 4.0, 1.0, 1.0])?, [0.0, 1.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
/// let left = whole.crop(Rect { x: 0, y: 0, width: 2, height: 1 })?;
/// assert_eq!(left.resize(&[0.0, 4.0])?, [0.0, 1.0]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// PyTorch 2.15 `torch.nn.functional.interpolate` of f32, values of 0..=255 within 1e-3; Pillow 13 mode F, 1e-3.
#[derive(Debug, Clone)]
pub struct PlaneResampler {
    from: Size,
    to: Size,
    axes: Axes,
}

/// Weights for x and y.
#[derive(Debug, Clone)]
enum Axes {
    Single([Axis<f32>; 2]),
    /// Pillow adds in f64 and chooses the order of the passes.
    Double {
        axes: [Axis<f64>; 2],
        vertical_first: bool,
    },
}

impl PlaneResampler {
    /// Prepares the resize of planes of size `from` to size `to`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `from`, [`Error::InvalidParameter`] when `to` has no pixels.
    pub fn new(from: Size, to: Size, interpolation: Interpolation) -> Result<Self> {
        check_sizes(from, to)?;
        let axis = |input: u32, output: u32| interpolation.axis(input as usize, output as usize, None);
        Ok(Self::from_axes(from, [axis(from.width, to.width), axis(from.height, to.height)], interpolation))
    }

    /// Prepares the enlargement by `factor` in x and y, as PyTorch does when given a `scale_factor`: the output has
    /// `floor(factor × size)` samples, and coordinates follow the factor, not the ratio of the sizes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `from`, [`Error::InvalidParameter`] when the result has no pixels or more than
    /// [`u32::MAX`], or the factor is not positive and finite; also for [`Interpolation::BilinearAlignCorners`], [`Interpolation::Area`] and
    /// [`Interpolation::Pillow`], which know no factor.
    pub fn with_scale_factor(from: Size, factor: [f64; 2], interpolation: Interpolation) -> Result<Self> {
        use Interpolation::{Area, BilinearAlignCorners, Pillow};
        if matches!(interpolation, BilinearAlignCorners | Area | Pillow(_)) {
            return Err(Error::parameter("interpolation", format!("{interpolation:?} has no scale factor")));
        }
        if factor.iter().any(|factor| !factor.is_finite() || *factor <= 0.0) {
            return Err(Error::parameter("factor", format!("expected positive numbers, got {factor:?}")));
        }
        let [width, height] = [f64::from(from.width) * factor[0], f64::from(from.height) * factor[1]];
        if width * height > f64::from(u32::MAX) {
            return Err(Error::parameter("factor", format!("{factor:?} make too many samples of {from}")));
        }
        let to = Size { width: width as u32, height: height as u32 };
        check_sizes(from, to)?;
        let axis = |input: u32, output: u32, factor: f64| {
            interpolation.axis(input as usize, output as usize, Some((1.0 / factor) as f32))
        };
        let axes = [axis(from.width, to.width, factor[0]), axis(from.height, to.height, factor[1])];
        Ok(Self::from_axes(from, axes, interpolation))
    }

    fn from_axes(from: Size, [columns, rows]: [Axis<f64>; 2], interpolation: Interpolation) -> Self {
        let to = Size { width: columns.len() as u32, height: rows.len() as u32 };
        let single = |axis: Axis<f64>| axis.map(|weight| weight as f32);
        let axes = match interpolation {
            Interpolation::Pillow(_) => {
                Axes::Double { axes: [columns, rows], vertical_first: vertical_first(from, to) }
            }
            _ => Axes::Single([single(columns), single(rows)]),
        };
        Self { from, to, axes }
    }

    /// Keeps only the part `rect` of the output; the rest is not computed.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `rect` is empty or leaves the output.
    pub fn crop(mut self, rect: Rect) -> Result<Self> {
        let range = |start: u32, len: u32, whole: u32| {
            let end = start.checked_add(len).filter(|&end| len > 0 && end <= whole);
            end.map(|end| start as usize..end as usize)
        };
        let (x, y) = (range(rect.x, rect.width, self.to.width), range(rect.y, rect.height, self.to.height));
        let (Some(x), Some(y)) = (x, y) else {
            return Err(Error::parameter("rect", format!("expected a part of {}, got {rect:?}", self.to)));
        };
        match &mut self.axes {
            Axes::Single([columns, rows]) => (columns.crop(x), rows.crop(y)),
            Axes::Double { axes: [columns, rows], .. } => (columns.crop(x), rows.crop(y)),
        };
        self.to = Size { width: rect.width, height: rect.height };
        Ok(self)
    }

    /// The size of the planes that go in.
    pub fn input_size(&self) -> Size {
        self.from
    }

    /// The size of the planes that come out.
    pub fn output_size(&self) -> Size {
        self.to
    }

    /// Resizes C planes, given row by row one after the other (C×H×W). Large inputs are spread over threads.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the number of values is not a multiple of a plane's.
    pub fn resize(&self, planes: &[f32]) -> Result<Vec<f32>> {
        let mut output = vec![0.0; planes.len() / self.from.pixels() * self.to.pixels()];
        self.resize_into(planes, &mut output)?;
        Ok(output)
    }

    /// Like [`resize`](Self::resize), into `output`, which is overwritten.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the number of values is not a multiple of a plane's, or `output` does not
    /// hold as many planes.
    pub fn resize_into(&self, planes: &[f32], output: &mut [f32]) -> Result<()> {
        let (input, count) = (self.from.pixels(), planes.len() / self.from.pixels());
        if count * input != planes.len() {
            return Err(Error::shape(
                "planes",
                format!("a multiple of {} values", self.from),
                format!("{} values", planes.len()),
            ));
        }
        if output.len() != count * self.to.pixels() {
            let expected = format!("{count} planes of {}", self.to);
            return Err(Error::shape("output", expected, format!("{} values", output.len())));
        }
        each_plane((planes, input), (output, self.to.pixels()), |input, output| self.resize_one(input, output));
        Ok(())
    }

    fn resize_one(&self, input: &[f32], output: &mut [f32]) {
        match &self.axes {
            Axes::Single([columns, rows]) if columns.is_identity() && rows.is_identity() => {
                output.copy_from_slice(input);
            }
            Axes::Single([columns, rows]) => Passes::<_, 1> { columns, rows }.run::<Floats<f32>>(input, output),
            Axes::Double { axes: [columns, rows], vertical_first: true } => {
                let mut low = vec![0.0; columns.input() * rows.len()];
                Passes::<_, 1> { columns: &Axis::identity(columns.input()), rows }.run::<PillowFloats>(input, &mut low);
                Passes::<_, 1> { columns, rows: &Axis::identity(rows.len()) }.run::<PillowFloats>(&low, output);
            }
            Axes::Double { axes: [columns, rows], .. } => {
                Passes::<_, 1> { columns, rows }.run::<PillowFloats>(input, output);
            }
        }
    }
}

/// Calls `resize` with every plane of the input and of the output, each given with the values of a plane.
pub(super) fn each_plane<T: Copy + Send + Sync>(
    (planes, from): (&[T], usize),
    (output, to): (&mut [T], usize),
    resize: impl Fn(&[T], &mut [T]) + Sync,
) {
    // A thread should have enough to do with its share of small planes.
    let at_least = (1 << 16) / (from + to) + 1;
    let pairs = planes.par_chunks_exact(from).zip(output.par_chunks_exact_mut(to));
    pairs.with_min_len(at_least).for_each(|(input, output)| resize(input, output));
}

/// Resizes one plane. For many planes of one size, or parts of the result, see [`PlaneResampler`].
///
/// # Errors
/// [`Error::InvalidInput`] when the plane, [`Error::InvalidParameter`] when `size` has no pixels.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_core::ndarray::array;
/// use coral_models::{Interpolation, resize_plane};
/// let plane = array![[0.0, 2.0], [4.0, 6.0]];
/// let one = resize_plane(plane.view(), Size { width: 1, height: 1 }, Interpolation::Area)?;
/// assert_eq!(one, array![[3.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn resize_plane(plane: ArrayView2<'_, f32>, size: Size, interpolation: Interpolation) -> Result<Array2<f32>> {
    let from = Size { width: plane.ncols() as u32, height: plane.nrows() as u32 };
    let resampler = PlaneResampler::new(from, size, interpolation)?;
    let plane = plane.as_standard_layout();
    let values = resampler.resize(plane.as_slice().unwrap_or_default())?;
    Array2::from_shape_vec(size.shape(), values).map_err(Error::model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::Array3;

    const ALL: [Interpolation; 9] = [
        Interpolation::Nearest,
        Interpolation::NearestExact,
        Interpolation::Bilinear,
        Interpolation::BilinearAlignCorners,
        Interpolation::BilinearAntialias,
        Interpolation::Bicubic,
        Interpolation::BicubicAntialias,
        Interpolation::Area,
        Interpolation::Pillow(PillowFilter::Lanczos),
    ];

    fn planes(count: usize, size: Size) -> Vec<f32> {
        let value = |i: usize| ((i * 7919) % 1013) as f32 / 4.0;
        (0..count * size.pixels()).map(value).collect()
    }

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn a_crop_is_a_part_of_the_whole() {
        let (from, rect) = (size(23, 61), Rect { x: 3, y: 5, width: 11, height: 8 });
        let input = planes(2, from);
        for to in [size(40, 70), size(17, 19), size(30, 20)] {
            for how in ALL {
                let whole = PlaneResampler::new(from, to, how).unwrap();
                let all =
                    Array3::from_shape_vec((2, to.height as usize, to.width as usize), whole.resize(&input).unwrap());
                let part = whole.crop(rect).unwrap();
                assert_eq!((part.input_size(), part.output_size()), (from, size(11, 8)));
                let part = part.resize(&input).unwrap();
                assert!(all.unwrap().slice(ndarray::s![.., 5..13, 3..14]).iter().eq(&part), "{how:?} to {to}");
            }
        }
    }

    #[test]
    fn bands_and_threads_change_nothing() {
        let (from, to) = (size(301, 517), size(640, 411));
        let input = planes(1, from);
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for how in ALL {
            let run = || PlaneResampler::new(from, to, how).unwrap().resize(&input).unwrap();
            assert_eq!(pool(1).install(run), pool(5).install(run), "{how:?}");
        }
    }

    #[test]
    fn equal_sizes_change_nothing() {
        let input = planes(3, size(9, 4));
        for how in ALL {
            let same = PlaneResampler::new(size(9, 4), size(9, 4), how).unwrap();
            assert_eq!(same.resize(&input).unwrap(), input, "{how:?}");
        }
    }

    #[test]
    fn misfits_are_named() {
        let new = |from, to| PlaneResampler::new(from, to, Interpolation::Bilinear);
        assert!(matches!(new(size(0, 3), size(2, 2)), Err(Error::InvalidInput { .. })));
        assert!(matches!(new(size(3, 3), size(2, 0)), Err(Error::InvalidParameter { .. })));
        let good = new(size(3, 3), size(2, 2)).unwrap();
        let text = good.resize(&[0.0; 10]).unwrap_err().to_string();
        assert_eq!(text, "planes: expected shape a multiple of 3x3 values, got 10 values");
        assert!(matches!(good.resize_into(&[0.0; 9], &mut [0.0; 5]), Err(Error::ShapeMismatch { .. })));
        for (x, width) in [(1, 2), (0, 0), (2, 1), (u32::MAX, 2)] {
            assert!(good.clone().crop(Rect { x, y: 0, width, height: 1 }).is_err(), "{x} {width}");
        }
        let scaled = |factor, how| PlaneResampler::with_scale_factor(size(3, 3), factor, how);
        assert!(scaled([0.1, 1.0], Interpolation::Bicubic).is_err());
        assert!(scaled([f64::NAN, 1.0], Interpolation::Bicubic).is_err());
        assert!(scaled([1e12, 1.0], Interpolation::Nearest).unwrap_err().to_string().contains("too many samples"));
        assert!(scaled([2.0, 2.0], Interpolation::Area).is_err());
    }

    #[test]
    fn a_factor_moves_the_coordinates() {
        // Factor 2.5 makes 7 of 3 samples: 0.4 inputs per output, where the ratio of the sizes is 0.4286.
        let resampler = PlaneResampler::with_scale_factor(size(3, 1), [2.5, 1.0], Interpolation::Bilinear).unwrap();
        let row = resampler.resize(&[0.0, 10.0, 20.0]).unwrap();
        for (value, expected) in row.iter().zip([0.0, 1.0, 5.0, 9.0, 13.0, 17.0, 20.0]) {
            assert!((value - expected).abs() < 1e-4, "{row:?}");
        }
        assert_eq!(row.len(), 7);
    }
}
