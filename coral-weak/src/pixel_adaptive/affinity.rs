//! What the neighbours of every pixel weigh.

use ndarray::ArrayView3;

use super::PixelAdaptiveConfig;
use super::padded::{PaddedRows, repeat_ends};
use crate::parallel::for_each_chunk;

/// The neighbours at distance 1, row by row.
const RING: [(isize, isize); 8] = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)];
/// Keeps standard deviations from 0.
const TINY: f32 = 1e-8;
/// Bounds exponents, so that none is infinite.
const LARGEST: f32 = 1e30;

/// The weights of all neighbours of all pixels.
pub(super) struct Affinity {
    /// (dy, dx) of the N neighbours.
    offsets: Vec<(isize, isize)>,
    /// N weights of a row's pixels after the other, row after row: H×N×W.
    weights: Vec<f32>,
    padding: usize,
}

impl Affinity {
    pub(super) fn new(image: ArrayView3<'_, f32>, config: &PixelAdaptiveConfig) -> Self {
        let step = |&dilation: &usize| RING.map(|(dy, dx)| (dy * dilation as isize, dx * dilation as isize));
        let offsets: Vec<_> = config.dilations.iter().flat_map(step).collect();
        let padding = config.dilations.iter().copied().max().unwrap_or(0);
        let (_, height, width) = image.dim();
        let nearness = nearness(&offsets, config.sigma);
        let scale = if config.normalize { 1.0 / (1.0 + config.position_weight) } else { 1.0 };
        let image = PaddedRows::new(image, padding);
        let mut weights = vec![0.0; height * offsets.len() * width];
        for_each_chunk(&mut weights, offsets.len() * width, |y, weights| {
            likeness(&image, y, (&offsets, config.sigma), weights);
            for (weights, near) in weights.chunks_exact_mut(width).zip(&nearness) {
                weights.iter_mut().for_each(|weight| *weight = scale * (*weight + config.position_weight * near));
            }
        });
        Self { offsets, weights, padding }
    }

    /// The distance of the farthest neighbours.
    pub(super) fn reach(&self) -> usize {
        self.padding
    }

    /// The weighted sums of the neighbours of row `y`, in all planes of `values`, padded.
    pub(super) fn average_row(&self, values: &PaddedRows, y: usize, out: &mut [f32]) {
        let (width, padding) = (values.width(), self.padding);
        let weights = &self.weights[y * self.offsets.len() * width..][..self.offsets.len() * width];
        for (plane, line) in out.chunks_exact_mut(width + 2 * padding).enumerate() {
            let sums = &mut line[padding..padding + width];
            sums.fill(0.0);
            for (weights, &offset) in weights.chunks_exact(width).zip(&self.offsets) {
                let neighbours = values.row(plane, y, offset);
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(neighbours) {
                    *sum += weight * value;
                }
            }
            repeat_ends(line, padding);
        }
    }
}

/// The weights of the neighbours by their distance alone; they sum to 1.
fn nearness(offsets: &[(isize, isize)], sigma: f32) -> Vec<f32> {
    let distances: Vec<f32> = offsets.iter().map(|&(dy, dx)| ((dy * dy + dx * dx) as f32).sqrt()).collect();
    let count = distances.len() as f32;
    let mean = distances.iter().sum::<f32>() / count;
    let variance = distances.iter().map(|d| (d - mean) * (d - mean)).sum::<f32>() / (count - 1.0);
    let mut weights: Vec<f32> = distances.iter().map(|d| -square(d / (variance.sqrt() + TINY) / sigma)).collect();
    softmax_columns(&mut weights, 1);
    weights
}

/// The weights of the neighbours of row `y` by their likeness; those of a pixel sum to 1.
fn likeness(image: &PaddedRows, y: usize, (offsets, sigma): (&[(isize, isize)], f32), weights: &mut [f32]) {
    let width = image.width();
    let (count, channels) = (offsets.len() as f32, image.planes() as f32);
    for channel in 0..image.planes() {
        let neighbours = || offsets.iter().map(|&offset| image.row(channel, y, offset));
        let (mut mean, mut deviation) = (vec![0.0f32; width], vec![0.0f32; width]);
        for row in neighbours() {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count);
        }
        for row in neighbours() {
            for ((square, value), mean) in deviation.iter_mut().zip(row).zip(&mean) {
                *square += (value - mean) * (value - mean);
            }
        }
        deviation.iter_mut().for_each(|square| *square = (*square / (count - 1.0)).sqrt() + TINY);
        let centre = image.row(channel, y, (0, 0));
        for (weights, row) in weights.chunks_exact_mut(width).zip(neighbours()) {
            for (((weight, value), centre), deviation) in weights.iter_mut().zip(row).zip(centre).zip(&deviation) {
                *weight -= square((value - centre) / deviation / sigma) / channels;
            }
        }
    }
    softmax_columns(weights, width);
}

fn square(value: f32) -> f32 {
    (value * value).min(LARGEST)
}

/// Softmax over the rows of `width` values, column by column.
fn softmax_columns(values: &mut [f32], width: usize) {
    let (mut highest, mut sums) = (vec![f32::NEG_INFINITY; width], vec![0.0f32; width]);
    for row in values.chunks_exact(width) {
        highest.iter_mut().zip(row).for_each(|(highest, value)| *highest = highest.max(*value));
    }
    for row in values.chunks_exact_mut(width) {
        for ((value, highest), sum) in row.iter_mut().zip(&highest).zip(&mut sums) {
            *value = (*value - highest).exp();
            *sum += *value;
        }
    }
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().zip(&sums).for_each(|(value, sum)| *value /= sum);
    }
}
