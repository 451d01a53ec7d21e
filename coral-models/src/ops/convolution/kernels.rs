use rayon::prelude::*;

use super::window::{Geometry, Window};
use super::{Real, product};
use crate::ops::product::{Matrix, Output};

/// Values of one tile of gathered patches: 4 MB of f32, so that packing the weights for it is a small part of the
/// product.
const TILE: usize = 1 << 20;
/// Most positions of a tile, so that their outputs are still cached when what follows comes.
const POSITIONS: usize = 1024;

/// Positions of a tile, each of which is a sum of its own.
fn tile(positions: usize, inner: usize) -> usize {
    let share = positions.div_ceil(rayon::current_num_threads());
    largest_tile(inner).min(share.max(1))
}

fn largest_tile(inner: usize) -> usize {
    (TILE / inner.max(1)).clamp(1, POSITIONS)
}

/// How many parts a sum of `values` values over positions is cut into: as many for any number of threads, so that
/// rounding does not depend on it, few where each part's sum takes much memory, and none too small to be worth it.
fn parts(positions: usize, values: usize) -> usize {
    const POSITIONS: usize = 256;
    const VALUES: usize = 1 << 22;
    (positions / POSITIONS).min((VALUES / values.max(1)).max(8)).clamp(2, 64)
}

/// out×in×h×w weights as out×(h·w·in), as a gathered patch lies.
pub(super) fn pack<T: Real>(weight: &[T], [out, inner, taps]: [usize; 3]) -> Vec<T> {
    let mut packed = vec![T::zero(); weight.len()];
    packed.par_chunks_exact_mut(inner * taps).zip(weight.par_chunks_exact(inner * taps)).for_each(|(to, from)| {
        for (i, taps_of) in from.chunks_exact(taps).enumerate() {
            taps_of.iter().enumerate().for_each(|(tap, &value)| to[tap * inner + i] = value);
        }
    });
    debug_assert_eq!(packed.len(), out * inner * taps);
    packed
}

/// The inverse of [`pack`].
fn unpack<T: Real>(packed: &[T], [inner, taps]: [usize; 2]) -> Vec<T> {
    let mut weight = vec![T::zero(); packed.len()];
    weight.par_chunks_exact_mut(inner * taps).zip(packed.par_chunks_exact(inner * taps)).for_each(|(to, from)| {
        for (i, taps_of) in to.chunks_exact_mut(taps).enumerate() {
            taps_of.iter_mut().enumerate().for_each(|(tap, value)| *value = from[tap * inner + i]);
        }
    });
    weight
}

/// The convolution of N×H×W×in values with [`pack`]ed weights: N×rows×columns×out. `finish` gets finished rows of out.
pub(super) fn convolve<T: Real>(
    geometry: &Geometry,
    values: &[T],
    weight: &[T],
    start: &[T],
    finish: impl Fn(&mut [T]) + Sync,
) -> Vec<T> {
    let (inner, channels) = (geometry.patch(), start.len());
    let tile = tile(geometry.positions(), inner);
    let mut out = vec![T::zero(); geometry.positions() * channels];
    // A 1x1 kernel that visits every position needs no copies.
    let direct = geometry.window == Window::square(1, 1, 0);
    out.par_chunks_mut(tile * channels).enumerate().for_each_init(Vec::new, |patches, (index, out)| {
        let count = out.len() / channels;
        let patches = if direct {
            &values[index * tile * inner..][..count * inner]
        } else {
            patches.resize(count * inner, T::zero());
            for (position, patch) in (index * tile..).zip(patches.chunks_exact_mut(inner)) {
                geometry.gather(values, position, patch);
            }
            patches
        };
        out.chunks_exact_mut(channels).for_each(|row| row.copy_from_slice(start));
        let weight = Matrix::new(weight, channels, inner, inner).transposed();
        let output = Output { data: &mut *out, row_stride: channels, accumulate: true };
        product(Matrix::new(patches, count, inner, inner), weight, T::one(), output, 1);
        finish(out);
    });
    out
}

/// The gradient of the weights, out×in×h×w, from the gradient of the output.
pub(super) fn weight_gradient<T: Real>(geometry: &Geometry, values: &[T], gradient: &[T]) -> Vec<T> {
    let (inner, positions) = (geometry.patch(), geometry.positions());
    let channels = gradient.len() / positions;
    let share = positions.div_ceil(parts(positions, channels * inner));
    let tile = largest_tile(inner);
    let direct = geometry.window == Window::square(1, 1, 0);
    // One sum per part, added in order afterwards.
    let sums: Vec<Vec<T>> = (0..positions.div_ceil(share))
        .into_par_iter()
        .map(|part| {
            let mut sum = vec![T::zero(); channels * inner];
            let mut patches = Vec::new();
            let end = ((part + 1) * share).min(positions);
            for first in (part * share..end).step_by(tile) {
                let count = tile.min(end - first);
                let patches = if direct {
                    &values[first * inner..][..count * inner]
                } else {
                    patches.resize(count * inner, T::zero());
                    for (position, patch) in (first..).zip(patches.chunks_exact_mut(inner)) {
                        geometry.gather(values, position, patch);
                    }
                    &patches
                };
                let gradient = Matrix::new(&gradient[first * channels..], count, channels, channels).transposed();
                let output = Output { data: &mut sum, row_stride: inner, accumulate: first > part * share };
                product(gradient, Matrix::new(patches, count, inner, inner), T::one(), output, 1);
            }
            sum
        })
        .collect();
    let mut sums = sums.into_iter();
    let mut total = sums.next().unwrap_or_default();
    for sum in sums {
        total.par_iter_mut().zip(&sum).for_each(|(total, &value)| *total += value);
    }
    let [down, across] = geometry.window.kernel;
    unpack(&total, [geometry.channels, down * across])
}

/// The taps of a kernel's side that reach input coordinates ≡ `phase` (modulo the stride), and how the output
/// coordinate follows: input / stride + shift.
fn taps(side: usize, phase: usize, window: &Window) -> Vec<(usize, isize)> {
    let Window { stride, padding, .. } = *window;
    let reaches = |&tap: &usize| (phase + padding + stride * side - tap).is_multiple_of(stride);
    let shift = |tap: usize| (phase as isize + padding as isize - tap as isize).div_euclid(stride as isize);
    (0..side).filter(reaches).map(|tap| (tap, shift(tap))).collect()
}

/// Input positions whose row and column have one remainder modulo the stride: one convolution of the output's
/// gradient with those taps that reach them.
struct Phase<T> {
    remainders: [usize; 2],
    /// Shifts from the input position divided by the stride to the output position, row and column.
    shifts: Vec<[isize; 2]>,
    /// (taps·out)×in.
    weight: Vec<T>,
}

fn phases<T: Real>(geometry: &Geometry, weight: &[T]) -> Vec<Phase<T>> {
    let Window { kernel: [down, across], stride, .. } = geometry.window;
    let inner = geometry.channels;
    let all = (0..stride).flat_map(|row| (0..stride).map(move |column| [row, column]));
    all.map(|remainders| {
        let (rows, columns) =
            (taps(down, remainders[0], &geometry.window), taps(across, remainders[1], &geometry.window));
        let pairs: Vec<_> = rows.iter().flat_map(|&r| columns.iter().map(move |&c| (r, c))).collect();
        let out = weight.len() / (inner * down * across);
        let mut packed = vec![T::zero(); pairs.len() * out * inner];
        packed.par_chunks_exact_mut(inner).enumerate().for_each(|(row, to)| {
            let ((tap_row, _), (tap_column, _)) = pairs[row / out];
            let from = &weight[row % out * inner * down * across + tap_row * across + tap_column..];
            to.iter_mut().zip(from.iter().step_by(down * across)).for_each(|(to, &from)| *to = from);
        });
        Phase { remainders, shifts: pairs.iter().map(|&((_, y), (_, x))| [y, x]).collect(), weight: packed }
    })
    .collect()
}

/// The gradient of the N×H×W×in input from out×in×h×w weights and the gradient of the output.
pub(super) fn input_gradient<T: Real>(geometry: &Geometry, weight: &[T], gradient: &[T]) -> Vec<T> {
    let out = gradient.len() / geometry.positions();
    let line = geometry.width * geometry.channels;
    let lines = geometry.batch * geometry.height;
    let phases = phases(geometry, weight);
    let widest = phases.iter().map(|phase| phase.shifts.len() * out).max().unwrap_or(1);
    // Whole lines, and for every phase about a tile of positions.
    let stride = geometry.window.stride;
    let positions = tile(lines * geometry.width, widest) * stride * stride;
    let band = (positions / geometry.width).clamp(1, lines.div_ceil(rayon::current_num_threads()));
    let mut result = vec![T::zero(); lines * line];
    result.par_chunks_mut(band * line).enumerate().for_each_init(Scratch::default, |scratch, (index, band_of)| {
        let first = index * band;
        for phase in phases.iter().filter(|phase| !phase.shifts.is_empty()) {
            phase.add(geometry, gradient, scratch, (first, band_of));
        }
    });
    result
}

struct Scratch<T> {
    positions: Vec<usize>,
    patches: Vec<T>,
    products: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { positions: Vec::new(), patches: Vec::new(), products: Vec::new() }
    }
}

impl<T: Real> Phase<T> {
    /// Writes this phase's positions of the lines from `first` on.
    fn add(&self, geometry: &Geometry, gradient: &[T], scratch: &mut Scratch<T>, (first, band): (usize, &mut [T])) {
        let Geometry { height, width, channels, rows, columns, .. } = *geometry;
        let stride = geometry.window.stride;
        let out = gradient.len() / geometry.positions();
        let inner = self.shifts.len() * out;
        let [row_phase, column_phase] = self.remainders;
        scratch.positions.clear();
        scratch.patches.clear();
        for (offset, line) in (first..first + band.len() / (width * channels)).enumerate() {
            let (image, y) = (line / height, line % height);
            if y % stride != row_phase {
                continue;
            }
            for x in (column_phase..width).step_by(stride) {
                scratch.positions.push(offset * width + x);
                for &[down, across] in &self.shifts {
                    let (row, column) = ((y / stride) as isize + down, (x / stride) as isize + across);
                    let inside = (0..rows as isize).contains(&row) && (0..columns as isize).contains(&column);
                    if inside {
                        let at = (image * rows + row as usize) * columns + column as usize;
                        scratch.patches.extend_from_slice(&gradient[at * out..][..out]);
                    } else {
                        scratch.patches.resize(scratch.patches.len() + out, T::zero());
                    }
                }
            }
        }
        let count = scratch.positions.len();
        let patches = Matrix::new(&scratch.patches, count, inner, inner);
        let weight = Matrix::new(&self.weight, inner, channels, channels);
        if stride == 1 {
            let output = Output { data: band, row_stride: channels, accumulate: false };
            return product(patches, weight, T::one(), output, 1);
        }
        scratch.products.resize(count * channels, T::zero());
        let output = Output { data: &mut scratch.products, row_stride: channels, accumulate: false };
        product(patches, weight, T::one(), output, 1);
        for (&position, values) in scratch.positions.iter().zip(scratch.products.chunks_exact(channels)) {
            band[position * channels..][..channels].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::random;

    fn values(shape: &[usize], seed: u64) -> Vec<f32> {
        random(shape, seed).flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_of_large_images() {
        for (window, shape, out) in [
            (Window::square(3, 1, 1), (3, 33, 21, 7), 10),
            (Window::square(3, 2, 1), (2, 65, 40, 16), 5),
            (Window::square(1, 1, 0), (2, 30, 40, 24), 33),
            (Window::square(7, 2, 3), (1, 50, 61, 3), 8),
        ] {
            let geometry = Geometry::new(window, shape).unwrap();
            let [down, across] = window.kernel;
            let x = values(&[shape.0, shape.1, shape.2, shape.3], 1);
            let weight = values(&[out, shape.3, down, across], 2);
            let gradient = values(&[geometry.positions(), out], 3);
            let run = |threads: usize| {
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                    let packed = pack(&weight, [out, shape.3, down * across]);
                    let forward = convolve(&geometry, &x, &packed, &vec![0.0; out], |_| ());
                    let of_weight = weight_gradient(&geometry, &x, &gradient);
                    [forward, of_weight, input_gradient(&geometry, &weight, &gradient)]
                })
            };
            let alone = run(1);
            for threads in [2, 3, 7] {
                for (which, (ours, expected)) in run(threads).iter().zip(&alone).enumerate() {
                    assert!(ours == expected, "{window:?}, {which}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn sums_take_little_memory() {
        assert_eq!([parts(1, 9), parts(600, 1 << 21), parts(100_000, 1 << 21), parts(100_000, 1 << 15)], [2, 2, 8, 64]);
    }

    #[test]
    fn empty_images_are_refused() {
        // The padding alone would have room for the window.
        let window = Window { kernel: [2, 2], stride: 1, padding: 1 };
        assert!(Geometry::new(window, (1, 4, 0, 3)).is_err() && Geometry::new(window, (1, 0, 4, 3)).is_err());
    }
}
