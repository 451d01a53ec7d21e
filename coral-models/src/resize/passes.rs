//! The two passes of every resize, streamed: input rows are resampled in x into a ring of as many rows as
//! an output row is made of, and output rows are mixed from that ring. No temporary is larger than the ring.

use pulp::Arch;
use rayon::prelude::*;

use super::arithmetic::Arithmetic;
use super::axis::Axis;

/// Columns mixed at a time; their sums stay in registers or the first cache.
const LANES: usize = 64;
/// Fewest values, input and output together, that are worth another thread.
const GRAIN: usize = 1 << 16;

/// A resize of rows with `C` interleaved channels.
#[derive(Debug)]
pub(super) struct Passes<'a, W, const C: usize> {
    pub(super) columns: &'a Axis<W>,
    pub(super) rows: &'a Axis<W>,
}

impl<W: Copy + Sync, const C: usize> Passes<'_, W, C> {
    /// Resizes one image. `input` and `output` must have the lengths that the axes say.
    pub(super) fn run<A: Arithmetic<Weight = W>>(&self, input: &[A::Input], output: &mut [A::Output]) {
        let stride = self.columns.len() * C;
        let pieces = ((input.len() + output.len()) / GRAIN).clamp(1, 4 * rayon::current_num_threads());
        if pieces == 1 || rayon::current_num_threads() == 1 {
            self.run_band::<A>(input, 0, output);
            return;
        }
        // Bands resample the rows at their border twice, so that they should not be thin.
        let band = self.rows.len().div_ceil(pieces).max(self.rows.taps());
        output.par_chunks_mut(band * stride).enumerate().for_each(|(i, output)| {
            self.run_band::<A>(input, i * band, output);
        });
    }

    /// Resizes the output rows from `first` on.
    fn run_band<A: Arithmetic<Weight = W>>(&self, input: &[A::Input], first: usize, output: &mut [A::Output]) {
        Arch::new().dispatch(
            #[inline(always)]
            || self.stream::<A>(input, first, output),
        );
    }

    #[inline(always)]
    fn stream<A: Arithmetic<Weight = W>>(&self, input: &[A::Input], first: usize, output: &mut [A::Output]) {
        let (stride, input_stride, taps) = (self.columns.len() * C, self.columns.input() * C, self.rows.taps());
        let mut ring = vec![A::Mid::default(); taps * stride];
        let mut ready = 0;
        for (y, output) in output.chunks_exact_mut(stride).enumerate() {
            let (start, weights) = self.rows.span(first + y);
            for row in ready.max(start)..start + taps {
                let slot = &mut ring[row % taps * stride..][..stride];
                let input = &input[row * input_stride..][..input_stride];
                // A constant count of taps lets the compiler unroll the loop over them.
                match self.columns.taps() {
                    1 => mix_columns::<A, C>(self.columns, 1, input, slot),
                    2 => mix_columns::<A, C>(self.columns, 2, input, slot),
                    4 => mix_columns::<A, C>(self.columns, 4, input, slot),
                    taps => mix_columns::<A, C>(self.columns, taps, input, slot),
                }
            }
            ready = start + taps;
            match taps {
                2 => mix_rows::<A>(&ring, (start, weights.as_chunks::<2>().0[0].as_slice()), output),
                _ => mix_rows::<A>(&ring, (start, weights), output),
            }
        }
    }
}

/// The pass along x for one row.
#[inline(always)]
fn mix_columns<A: Arithmetic, const C: usize>(
    axis: &Axis<A::Weight>,
    taps: usize,
    input: &[A::Input],
    output: &mut [A::Mid],
) {
    let (starts, weights) = axis.parts();
    let pixels = output.as_chunks_mut::<C>().0;
    for ((pixel, &start), weights) in pixels.iter_mut().zip(starts).zip(weights.chunks_exact(taps)) {
        let mut sums = [A::START; C];
        let span = input[start * C..(start + taps) * C].as_chunks::<C>().0;
        for (values, &weight) in span.iter().zip(weights) {
            for channel in 0..C {
                sums[channel] = A::add_input(sums[channel], values[channel], weight);
            }
        }
        *pixel = sums.map(A::to_mid);
    }
}

/// The pass along y for one output row: mixes the ring's rows from `start` on.
#[inline(always)]
fn mix_rows<A: Arithmetic>(ring: &[A::Mid], (start, weights): (usize, &[A::Weight]), output: &mut [A::Output]) {
    let (stride, taps) = (output.len(), weights.len());
    for (block, output) in output.chunks_mut(LANES).enumerate() {
        let mut sums = [A::START; LANES];
        let sums = &mut sums[..output.len()];
        for (tap, &weight) in weights.iter().enumerate() {
            let row = &ring[(start + tap) % taps * stride + block * LANES..][..sums.len()];
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = A::add_mid(*sum, value, weight);
            }
        }
        for (output, &sum) in output.iter_mut().zip(sums.iter()) {
            *output = A::to_output(sum);
        }
    }
}
