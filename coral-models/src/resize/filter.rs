use std::f64::consts::PI;
use std::ops::Range;

use coral_core::Size;
use serde::{Deserialize, Serialize};

use super::axis::Axis;

/// The filters of Pillow's `resize`. All but [`Nearest`](Self::Nearest) widen when an image is made smaller
/// (antialiasing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PillowFilter {
    /// The pixel at the output pixel's centre.
    Nearest,
    /// The mean of the pixels under the output pixel.
    Box,
    /// A triangle over 2 pixels: what SAM's preprocessing uses.
    Bilinear,
    /// Sharper than bilinear at the same width.
    Hamming,
    /// Cubic over 4 pixels with a = −0.5: what CLIP's preprocessing uses.
    Bicubic,
    /// A windowed sinc over 6 pixels.
    Lanczos,
}

impl PillowFilter {
    /// Half the filter's width and its shape; none for the nearest pixel.
    fn kernel(self) -> Option<Kernel> {
        let (support, shape): (f64, fn(f64) -> f64) = match self {
            Self::Nearest => return None,
            Self::Box => (0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }),
            Self::Bilinear => (1.0, triangle),
            Self::Hamming => (1.0, hamming),
            Self::Bicubic => (2.0, |x| cubic(x, -0.5)),
            Self::Lanczos => (3.0, lanczos),
        };
        Some(Kernel { support, shape })
    }

    /// The weights that bring `input` samples to `output`.
    pub(super) fn axis(self, input: usize, output: usize) -> Axis<f64> {
        if input == output {
            return Axis::identity(input);
        }
        let scale = input as f64 / output as f64;
        match self.kernel() {
            Some(kernel) => kernel.antialiased(input, output, scale),
            None => nearest(input, output, scale),
        }
    }
}

/// Whether Pillow resizes from `from` to `to` along y first: since version 13 it does when the height loses more than
/// twice as many pixels as the width. Rounding between the passes lets the order show.
pub(super) fn vertical_first(from: Size, to: Size) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    from.width != to.width && to.height < from.height && lost(from.height, to.height) > 2 * lost(from.width, to.width)
}

/// A filter: a symmetric function that is zero beyond its support.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    support: f64,
    shape: fn(f64) -> f64,
}

impl Kernel {
    /// The triangle.
    pub(super) const BILINEAR: Self = Self { support: 1.0, shape: triangle };
    /// The cubic with a = −0.5, which PyTorch has only with antialiasing.
    pub(super) const BICUBIC: Self = Self { support: 2.0, shape: |x| cubic(x, -0.5) };

    /// Pillow's axis of this filter, stretched to `scale` inputs per output where that is more than one.
    fn antialiased(self, input: usize, output: usize, scale: f64) -> Axis<f64> {
        let stretch = scale.max(1.0);
        let support = self.support * stretch;
        let span = |index: usize| {
            let center = (index as f64 + 0.5) * scale;
            // A cast truncates towards zero and takes negative numbers to zero.
            let (first, end) = ((center - support + 0.5) as usize, (center + support + 0.5) as usize);
            let weight = |x: usize| (self.shape)((x as f64 - center + 0.5) * (1.0 / stretch));
            normalized(input, first..end, weight)
        };
        Axis::from_spans(input, (0..output).map(span).collect())
    }

    /// PyTorch's axis of this filter: the same in f32, which shows on large images.
    pub(super) fn antialiased_f32(self, input: usize, output: usize, scale: f32) -> Axis<f64> {
        let stretch = scale.max(1.0);
        let support = self.support as f32 * stretch;
        let span = |index: usize| {
            let center = scale * (index as f32 + 0.5);
            let (first, end) = ((center - support + 0.5) as usize, (center + support + 0.5) as usize);
            let weight = |x: usize| (self.shape)(f64::from((x as f32 - center + 0.5) * (1.0 / stretch)));
            normalized(input, first..end, weight)
        };
        Axis::from_spans(input, (0..output).map(span).collect())
    }
}

/// The weights of the inputs `range`, as far as they exist, made to sum to one.
fn normalized(input: usize, range: Range<usize>, weight: impl Fn(usize) -> f64) -> (usize, Vec<f64>) {
    let first = range.start.min(input - 1);
    let mut weights: Vec<f64> = (first..range.end.clamp(first + 1, input)).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    (first, weights)
}

/// Pillow's nearest pixel. It adds the step up instead of multiplying, which shows in the rounding.
fn nearest(input: usize, output: usize, scale: f64) -> Axis<f64> {
    let mut at = scale * 0.5;
    let mut indices = Vec::with_capacity(output);
    for _ in 0..output {
        indices.push(at as usize);
        at += scale;
    }
    Axis::from_indices(input, output, |i| indices[i])
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn hamming(x: f64) -> f64 {
    let x = x.abs();
    if x == 0.0 {
        1.0
    } else if x < 1.0 {
        // Pillow writes these two numbers in f32.
        (x * PI).sin() / (x * PI) * (f64::from(0.54f32) + f64::from(0.46f32) * (x * PI).cos())
    } else {
        0.0
    }
}

/// Keys' cubic convolution kernel.
pub(super) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [PillowFilter; 6] = [
        PillowFilter::Nearest,
        PillowFilter::Box,
        PillowFilter::Bilinear,
        PillowFilter::Hamming,
        PillowFilter::Bicubic,
        PillowFilter::Lanczos,
    ];

    #[test]
    fn weights_sum_to_one_at_every_size() {
        for filter in FILTERS {
            for (input, output) in [(1, 7), (7, 1), (5, 5), (40, 13), (13, 40), (2, 3)] {
                let axis = filter.axis(input, output);
                assert_eq!((axis.input(), axis.len()), (input, output));
                for i in 0..output {
                    let (start, weights) = axis.span(i);
                    assert!(start + weights.len() <= input, "{filter:?} {input}->{output}");
                    let sum: f64 = weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{filter:?} {input}->{output} at {i}: {sum}");
                }
            }
        }
    }

    #[test]
    fn order_follows_the_lost_pixels() {
        let first = |from: (u32, u32), to: (u32, u32)| {
            let size = |(width, height)| Size { width, height };
            vertical_first(size(from), size(to))
        };
        assert!(first((50, 60), (48, 5)) && first((20, 100), (22, 99)));
        assert!(!first((50, 60), (5, 5)) && !first((50, 60), (50, 5)) && !first((20, 20), (60, 21)));
        assert!(!first((30, 50), (20, 30)) && first((30, 51), (20, 30)));
    }

    #[test]
    fn halving_with_a_triangle() {
        let axis = PillowFilter::Bilinear.axis(8, 4);
        let (start, weights) = axis.span(1);
        assert_eq!(start, 1);
        let expected = [0.125, 0.375, 0.375, 0.125];
        assert!(weights.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-12), "{weights:?}");
    }
}
