use std::ops::Range;

/// How the samples of one axis are made: output `i` is the weighted sum of `taps` neighbouring inputs from
/// `starts[i]` on. Every output has the same number of taps (zero weights fill up), so that loops over them
/// can be unrolled; `starts` never decreases, so that rows can be streamed.
#[derive(Debug, Clone)]
pub(super) struct Axis<W> {
    input: usize,
    taps: usize,
    starts: Vec<usize>,
    weights: Vec<W>,
}

impl Axis<f64> {
    /// An axis from each output's first input and weights. A span must lie inside `0..input`.
    pub(super) fn from_spans(input: usize, spans: Vec<(usize, Vec<f64>)>) -> Self {
        let taps = spans.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut axis =
            Self { input, taps, starts: Vec::with_capacity(spans.len()), weights: vec![0.0; taps * spans.len()] };
        for ((first, weights), row) in spans.into_iter().zip(axis.weights.chunks_exact_mut(taps)) {
            let start = first.min(input - taps);
            let shift = first - start;
            axis.starts.push(start);
            row[shift..shift + weights.len()].copy_from_slice(&weights);
        }
        axis
    }

    /// An axis whose output `i` is the input `index(i)`; indices past the end mean the last input.
    pub(super) fn from_indices(input: usize, output: usize, index: impl Fn(usize) -> usize) -> Self {
        let starts = (0..output).map(|i| index(i).min(input - 1)).collect();
        Self { input, taps: 1, starts, weights: vec![1.0; output] }
    }

    /// The axis that changes nothing.
    pub(super) fn identity(len: usize) -> Self {
        Self::from_indices(len, len, |i| i)
    }

    /// The axis that brings gradients back: input and output change places, every weight stays with its pair.
    pub(super) fn transposed(&self) -> Self {
        let mut spans: Vec<(usize, Vec<f64>)> = vec![(0, Vec::new()); self.input];
        for i in 0..self.len() {
            let (start, weights) = self.span(i);
            for ((first, column), &weight) in spans[start..].iter_mut().zip(weights) {
                if weight != 0.0 {
                    if column.is_empty() {
                        *first = i;
                    }
                    column.resize(i - *first, 0.0);
                    column.push(weight);
                }
            }
        }
        // Inputs that nothing is made of get nothing, from the place where their neighbour starts.
        let mut previous = 0;
        for (first, column) in &mut spans {
            if column.is_empty() {
                (*first, *column) = (previous, vec![0.0]);
            }
            previous = *first;
        }
        Self::from_spans(self.len(), spans)
    }

    /// The same axis with weights of another type.
    pub(super) fn map<W>(&self, convert: impl Fn(f64) -> W) -> Axis<W> {
        let weights = self.weights.iter().map(|&weight| convert(weight)).collect();
        Axis { input: self.input, taps: self.taps, starts: self.starts.clone(), weights }
    }
}

impl<W> Axis<W> {
    /// How many samples go in.
    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// How many samples come out.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many inputs an output is made of.
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// The first input and the weights of output `index`.
    #[inline(always)]
    pub(super) fn span(&self, index: usize) -> (usize, &[W]) {
        (self.starts[index], &self.weights[index * self.taps..][..self.taps])
    }

    /// All first inputs, and all weights, `taps` per output.
    #[inline(always)]
    pub(super) fn parts(&self) -> (&[usize], &[W]) {
        (&self.starts, &self.weights)
    }

    /// Whether each output is the input at its place.
    pub(super) fn is_identity(&self) -> bool {
        self.taps == 1 && self.len() == self.input && self.starts.iter().enumerate().all(|(i, &start)| i == start)
    }

    /// Keeps only the outputs of `range`, which must lie inside `0..len`.
    pub(super) fn crop(&mut self, range: Range<usize>) {
        self.weights.truncate(range.end * self.taps);
        self.weights.drain(..range.start * self.taps);
        self.starts.truncate(range.end);
        self.starts.drain(..range.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_spans_are_filled_up_inside_the_input() {
        let axis = Axis::from_spans(4, vec![(0, vec![1.0]), (0, vec![0.5, 0.5]), (3, vec![1.0])]);
        assert_eq!(axis.taps(), 2);
        assert_eq!(axis.span(0), (0, &[1.0, 0.0][..]));
        assert_eq!(axis.span(1), (0, &[0.5, 0.5][..]));
        assert_eq!(axis.span(2), (2, &[0.0, 1.0][..]));
        assert!(!axis.is_identity() && Axis::identity(3).is_identity());
    }

    /// All weights, a row per output.
    fn dense(axis: &Axis<f64>) -> Vec<Vec<f64>> {
        let row = |i| {
            let (start, weights) = axis.span(i);
            let mut row = vec![0.0; axis.input()];
            row[start..start + weights.len()].copy_from_slice(weights);
            row
        };
        (0..axis.len()).map(row).collect()
    }

    #[test]
    fn transposing_turns_the_weights_around() {
        let axes = [
            Axis::from_spans(4, vec![(0, vec![0.5, 0.5]), (1, vec![0.2, 0.8]), (1, vec![0.7, 0.3]), (3, vec![1.0])]),
            Axis::from_indices(5, 3, |i| 2 * i),
            Axis::from_indices(3, 7, |i| i / 3),
        ];
        for axis in axes {
            let (rows, back) = (dense(&axis), axis.transposed());
            assert!(back.parts().0.is_sorted());
            for (j, row) in dense(&back).iter().enumerate() {
                assert!(row.iter().copied().eq(rows.iter().map(|r| r[j])), "{j}: {row:?} of {rows:?}");
            }
        }
    }

    #[test]
    fn a_crop_keeps_the_middle() {
        let mut axis = Axis::identity(5).map(|w| w as f32);
        axis.crop(1..3);
        assert_eq!((axis.len(), axis.span(0), axis.span(1)), (2, (1, &[1.0][..]), (2, &[1.0][..])));
        assert!(!axis.is_identity());
    }
}
