use ndarray::{Array2, ArrayView2};

use super::runs::RunWriter;
use crate::{RleMask, Size};

/// Pixels compared at once; a comparison of that many bytes is one vector instruction.
const LANES: usize = 32;

impl RleMask {
    /// Encodes an H×W mask, true inside.
    pub fn encode(mask: &Array2<bool>) -> Self {
        let mut changes = Changes::new(Size::of_map(mask));
        for row in mask.rows() {
            match row.as_slice() {
                Some(row) => changes.push_row(row),
                None => changes.push_row(&row.to_vec()),
            }
        }
        changes.finish()
    }

    /// The mask of the pixels (x, y) for which `inside` is true; it is asked row by row.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let diamond = RleMask::from_fn(Size { width: 5, height: 5 }, |x, y| x.abs_diff(2) + y.abs_diff(2) <= 2);
    /// assert_eq!(diamond.counts(), [2, 1, 3, 3, 1, 5, 1, 3, 3, 1, 2]);
    /// ```
    pub fn from_fn(size: Size, mut inside: impl FnMut(u32, u32) -> bool) -> Self {
        Self::from_rows(size, |y, row| {
            (0u32..).zip(row).for_each(|(x, pixel)| *pixel = inside(x, y));
        })
    }

    /// The mask of the values above `threshold` in an H×W plane, e.g. of logits; NaN is outside.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, ndarray::array};
    /// let logits = array![[-1.0, 0.5], [0.0, f32::NAN]];
    /// assert_eq!(RleMask::from_threshold(logits.view(), 0.0).counts(), [2, 1, 1]);
    /// ```
    pub fn from_threshold(plane: ArrayView2<'_, f32>, threshold: f32) -> Self {
        let size = Size { width: plane.ncols() as u32, height: plane.nrows() as u32 };
        Self::from_rows(size, |y, row| {
            let values = plane.row(y as usize);
            match values.as_slice() {
                // Slices of equal length let the compiler compare many values at once.
                Some(values) => row.iter_mut().zip(values).for_each(|(pixel, &value)| *pixel = value > threshold),
                None => row.iter_mut().zip(values).for_each(|(pixel, &value)| *pixel = value > threshold),
            }
        })
    }

    fn from_rows(size: Size, mut fill: impl FnMut(u32, &mut [bool])) -> Self {
        let mut changes = Changes::new(size);
        let mut row = vec![false; size.width as usize];
        for y in 0..size.height {
            fill(y, &mut row);
            changes.push_row(&row);
        }
        changes.finish()
    }
}

/// Finds the runs of the columns while the rows come in: a run of a column begins and ends where a row differs from the
/// one above. Rows are compared many pixels at a time, and only differences are kept, so that nothing is transposed.
struct Changes {
    size: Size,
    above: Vec<bool>,
    y: u32,
    /// Column and row of every pixel that differs from the one above it, row by row.
    changes: Vec<(u32, u32)>,
}

impl Changes {
    fn new(size: Size) -> Self {
        Self { size, above: vec![false; size.width as usize], y: 0, changes: Vec::new() }
    }

    fn push_row(&mut self, row: &[bool]) {
        let (blocks, rest) = row.as_chunks::<LANES>();
        let (blocks_above, rest_above) = self.above.as_chunks::<LANES>();
        for ((block, above), x) in blocks.iter().zip(blocks_above).zip((0..).step_by(LANES)) {
            if block != above {
                compare(block, above, (x, self.y), &mut self.changes);
            }
        }
        let x = (blocks.len() * LANES) as u32;
        compare(rest, rest_above, (x, self.y), &mut self.changes);
        self.above.copy_from_slice(row);
        self.y += 1;
    }

    fn finish(mut self) -> RleMask {
        // What is inside in the last row ends below it, so that every column has an even number of changes.
        let below = vec![false; self.size.width as usize];
        self.push_row(&below);
        // Sorts by column; the rows are in order already.
        let mut ends = vec![0usize; self.size.width as usize + 1];
        self.changes.iter().for_each(|&(x, _)| ends[x as usize + 1] += 1);
        let mut sum = 0;
        ends.iter_mut().for_each(|end| {
            sum += *end;
            *end = sum;
        });
        let mut sorted = vec![0u64; self.changes.len()];
        for &(x, y) in &self.changes {
            let at = &mut ends[x as usize];
            sorted[*at] = u64::from(x) * u64::from(self.size.height) + u64::from(y);
            *at += 1;
        }
        let mut out = RunWriter::new(self.size);
        let (pairs, _) = sorted.as_chunks::<2>();
        pairs.iter().for_each(|&[start, end]| out.push_foreground(start, end - start));
        out.finish()
    }
}

/// Appends the columns where two stretches of rows differ; `(x, y)` is the first pixel of `row`.
fn compare(row: &[bool], above: &[bool], (x, y): (u32, u32), changes: &mut Vec<(u32, u32)>) {
    for ((a, b), x) in row.iter().zip(above).zip(x..) {
        if a != b {
            changes.push((x, y));
        }
    }
}
