use candle_core::Result;

/// How a kernel moves over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Rows and columns.
    pub(crate) kernel: [usize; 2],
    /// Positions from one place of the kernel to the next, in both directions.
    pub(crate) stride: usize,
    /// Rows and columns of zeros (or nothing, for a maximum) on each side.
    pub(crate) padding: usize,
}

impl Window {
    pub(crate) fn square(side: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [side, side], stride, padding }
    }

    /// Rows and columns that come out of an image of `sides`.
    pub(crate) fn output(&self, sides: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for ((out, side), kernel) in out.iter_mut().zip(sides).zip(self.kernel) {
            match (side + 2 * self.padding).checked_sub(kernel) {
                Some(room) if kernel > 0 && self.stride > 0 && self.padding < kernel => *out = room / self.stride + 1,
                _ => candle_core::bail!("a window {self:?} does not fit an image of {sides:?} rows and columns"),
            }
        }
        Ok(out)
    }
}

/// An N×H×W×C image and a window on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) window: Window,
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// Of the output.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Geometry {
    pub(crate) fn new(window: Window, shape: (usize, usize, usize, usize)) -> Result<Self> {
        let (batch, height, width, channels) = shape;
        let [rows, columns] = window.output([height, width])?;
        if batch * channels * height * width == 0 {
            candle_core::bail!("an image of {shape:?} values is empty");
        }
        Ok(Self { window, batch, height, width, channels, rows, columns })
    }

    /// Positions of the output in all images.
    pub(crate) fn positions(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// Values under the window.
    pub(crate) fn patch(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.channels
    }

    /// Output position `index` as image, row and column.
    pub(crate) fn position(&self, index: usize) -> (usize, usize, usize) {
        let (line, column) = (index / self.columns, index % self.columns);
        (line / self.rows, line % self.rows, column)
    }

    /// Copies what lies under the window at an output position; zeros where it leaves the image.
    pub(super) fn gather<T: super::Real>(&self, values: &[T], index: usize, patch: &mut [T]) {
        let (image, y, x) = self.position(index);
        let Window { kernel: [_, across], stride, padding } = self.window;
        let left = x * stride;
        // Columns of the padded image that exist in the image itself.
        let first = left.max(padding);
        let end = (left + across).min(self.width + padding);
        let (skipped, count) = ((first - left) * self.channels, end.saturating_sub(first) * self.channels);
        for (tap, line) in patch.chunks_exact_mut(across * self.channels).enumerate() {
            let row = (y * stride + tap).checked_sub(padding).filter(|&row| row < self.height);
            let Some(row) = row.filter(|_| count > 0) else {
                line.fill(T::zero());
                continue;
            };
            let from = ((image * self.height + row) * self.width + first - padding) * self.channels;
            line[..skipped].fill(T::zero());
            line[skipped..][..count].copy_from_slice(&values[from..from + count]);
            line[skipped + count..].fill(T::zero());
        }
    }
}
