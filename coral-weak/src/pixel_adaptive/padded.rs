use ndarray::{Array3, ArrayView3};

/// Planes row by row, the rows of one y side by side, each with its ends repeated to both sides: neighbours to the left
/// and right need no special case.
#[derive(Debug, Clone)]
pub(super) struct PaddedRows {
    values: Vec<f32>,
    planes: usize,
    height: usize,
    width: usize,
    padding: usize,
}

impl PaddedRows {
    pub(super) fn new(planes: ArrayView3<'_, f32>, padding: usize) -> Self {
        let (count, height, width) = planes.dim();
        let mut values = vec![0.0; count * height * (width + 2 * padding)];
        for (row, line) in values.chunks_exact_mut(width + 2 * padding).enumerate() {
            let (y, plane) = (row / count, row % count);
            for (x, value) in line[padding..padding + width].iter_mut().enumerate() {
                *value = planes[[plane, y, x]];
            }
            repeat_ends(line, padding);
        }
        Self { values, planes: count, height, width, padding }
    }

    pub(super) fn planes(&self) -> usize {
        self.planes
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Values of all planes for one y, with padding.
    pub(super) fn row_len(&self) -> usize {
        self.planes * (self.width + 2 * self.padding)
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The row of a plane `(dy, dx)` away, rows beyond the first and last repeated; `dx` is at most the padding.
    pub(super) fn row(&self, plane: usize, y: usize, (dy, dx): (isize, isize)) -> &[f32] {
        let y = y.saturating_add_signed(dy).min(self.height - 1);
        let start = (y * self.planes + plane) * (self.width + 2 * self.padding) + self.padding;
        &self.values[start.saturating_add_signed(dx)..][..self.width]
    }

    /// The planes without padding.
    pub(super) fn into_planes(self) -> Array3<f32> {
        Array3::from_shape_fn((self.planes, self.height, self.width), |(plane, y, x)| self.row(plane, y, (0, 0))[x])
    }
}

/// Repeats the first and last of the values between the paddings.
pub(super) fn repeat_ends(line: &mut [f32], padding: usize) {
    let end = line.len() - padding;
    let (first, last) = (line[padding], line[end - 1]);
    line[..padding].fill(first);
    line[end..].fill(last);
}
