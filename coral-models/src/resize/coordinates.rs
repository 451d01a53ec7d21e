//! Axes of PyTorch's `interpolate` and OpenCV's `resize`: where an output sample lies among the inputs, and
//! what it takes from its neighbours there.

use super::axis::Axis;
use super::filter::cubic;

/// PyTorch computes coordinates in f32; which neighbour is nearest depends on it.
pub(super) fn torch_nearest(input: usize, output: usize, scale: f32, offset: f32) -> Axis<f64> {
    Axis::from_indices(input, output, |i| ((i as f32 + offset) * scale) as usize)
}

/// Two neighbours weighted by distance, without antialiasing.
pub(super) fn torch_bilinear(input: usize, output: usize, scale: f32) -> Axis<f64> {
    linear(input, output, |i| (scale * (i as f32 + 0.5) - 0.5).max(0.0))
}

/// Two neighbours, the first and last samples of input and output on top of each other.
pub(super) fn torch_bilinear_align_corners(input: usize, output: usize) -> Axis<f64> {
    let scale = if output > 1 { (input - 1) as f32 / (output - 1) as f32 } else { 0.0 };
    linear(input, output, |i| scale * i as f32)
}

/// Four neighbours with Keys' cubic of a = −0.75; beyond the edge the last sample repeats.
pub(super) fn torch_bicubic(input: usize, output: usize, scale: f32) -> Axis<f64> {
    let last = input - 1;
    let span = |i: usize| {
        // Rounded once: PyTorch's compiled bicubic kernel, unlike its bilinear one, fuses the product and the sum.
        let at = (f64::from(scale) * (i as f64 + 0.5) - 0.5) as f32;
        let (base, fraction) = (at.floor(), f64::from(at - at.floor()));
        let clamped = |offset: i64| (base as i64 + offset).clamp(0, last as i64) as usize;
        let first = clamped(-1);
        let mut weights = vec![0.0; clamped(2) - first + 1];
        for offset in -1..=2 {
            weights[clamped(offset) - first] += cubic(offset as f64 - fraction, -0.75);
        }
        (first, weights)
    };
    Axis::from_spans(input, (0..output).map(span).collect())
}

/// The mean of all inputs that the output sample touches, however little.
pub(super) fn torch_area(input: usize, output: usize) -> Axis<f64> {
    let span = |i: usize| {
        let (first, end) = (i * input / output, ((i + 1) * input).div_ceil(output));
        (first, vec![1.0 / (end - first) as f64; end - first])
    };
    Axis::from_spans(input, (0..output).map(span).collect())
}

/// OpenCV's area mean of a shrinking axis: inputs count as much as they lie under the output sample.
pub(super) fn opencv_area(input: usize, output: usize) -> Axis<f64> {
    let scale = input as f64 / output as f64;
    let span = |i: usize| {
        let (from, to) = (i as f64 * scale, ((i + 1) as f64 * scale).min(input as f64));
        let first = (from as usize).min(input - 1);
        let end = (to.ceil() as usize).clamp(first + 1, input);
        let covered = |x: usize| (to.min((x + 1) as f64) - from.max(x as f64)).max(0.0) / (to - from);
        (first, (first..end).map(covered).collect())
    };
    Axis::from_spans(input, (0..output).map(span).collect())
}

/// What OpenCV's area mode does once an axis grows: two neighbours, mixed only where an output sample
/// lies across their border.
pub(super) fn opencv_area_enlarged(input: usize, output: usize) -> Axis<f64> {
    // Where output and input borders meet, the last bit decides between two pixels: follow OpenCV's roundings.
    let inverse = output as f64 / input as f64;
    let scale = 1.0 / inverse;
    linear(input, output, |i| {
        let base = (i as f64 * scale).floor();
        let fraction = ((i as f64 + 1.0) - (base + 1.0) * inverse) as f32;
        base as f32 + if fraction <= 0.0 { 0.0 } else { fraction - fraction.floor() }
    })
}

/// The axis that mixes the two neighbours of the coordinate `at(i)`, which must not be negative.
fn linear(input: usize, output: usize, at: impl Fn(usize) -> f32) -> Axis<f64> {
    let last = input - 1;
    let span = |i: usize| {
        let at = at(i);
        let base = at as usize;
        if base >= last {
            return (last, vec![1.0]);
        }
        let fraction = at - base as f32;
        (base, vec![f64::from(1.0 - fraction), f64::from(fraction)])
    };
    Axis::from_spans(input, (0..output).map(span).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_keeps_constants_and_stays_inside() {
        for (input, output) in [(1, 7), (7, 1), (5, 5), (40, 13), (13, 40), (2, 3), (1, 1)] {
            let scale = input as f32 / output as f32;
            let axes = [
                torch_nearest(input, output, scale, 0.0),
                torch_nearest(input, output, scale, 0.5),
                torch_bilinear(input, output, scale),
                torch_bilinear_align_corners(input, output),
                torch_bicubic(input, output, scale),
                torch_area(input, output),
                opencv_area(input, output),
                opencv_area_enlarged(input, output),
            ];
            for (which, axis) in axes.iter().enumerate() {
                assert_eq!((axis.input(), axis.len()), (input, output));
                let mut previous = 0;
                for i in 0..output {
                    let (start, weights) = axis.span(i);
                    let sum: f64 = weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-6, "axis {which} {input}->{output} at {i}: {sum}");
                    assert!(start >= previous && start + weights.len() <= input, "axis {which} {input}->{output}");
                    previous = start;
                }
            }
        }
    }

    #[test]
    fn corners_align() {
        let axis = torch_bilinear_align_corners(3, 5);
        let at = |i: usize| {
            let (start, weights) = axis.span(i);
            weights.iter().zip(start..).map(|(w, x)| w * x as f64).sum::<f64>()
        };
        assert_eq!([at(0), at(1), at(2), at(4)], [0.0, 0.5, 1.0, 2.0]);
    }
}
